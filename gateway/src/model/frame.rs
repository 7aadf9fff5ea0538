//! What gateway and runner say to each other: frames over a socket pair, each a length, a kind and so many bytes.
//!
//! The gateway waits for no frame longer than a deadline, and neither side takes a frame longer than its bound.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use proto::assignment::{MAX_MANIFEST_BYTES, MAX_MODEL_BYTES};

use super::graph::MAX_BATCH_VALUES;

/// Longest frame to a runner, in bytes: a model, a manifest or a batch.
pub const MAX_TO_RUNNER: usize = {
    let batch = MAX_BATCH_VALUES * size_of::<f32>();
    let file = if MAX_MODEL_BYTES > MAX_MANIFEST_BYTES { MAX_MODEL_BYTES } else { MAX_MANIFEST_BYTES } as usize;
    if batch > file { batch } else { file }
};

/// Longest frame from a runner, in bytes: a report with many operators, or the scores of a batch.
pub const MAX_FROM_RUNNER: usize = 1 << 20;

/// Shortest wait that a socket can be told.
const MIN_WAIT: Duration = Duration::from_micros(1);

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To the runner, first: [`Order`](super::worker::Order) as JSON.
    Order = 1,
    /// To the runner: the manifest's text.
    Manifest,
    /// To the runner: the ONNX file.
    Onnx,
    /// To the runner: samples, `f32` in little endian.
    Run,
    /// From the runner: [`CheckReport`](super::CheckReport) as JSON, what is known before the model is run.
    Report,
    /// From the runner: [`Ready`](super::worker::Ready) as JSON.
    Ready,
    /// From the runner: scores, `f32` in little endian.
    Scores,
    /// From the runner: [`ModelError`](super::ModelError) as JSON.
    Refused,
}

impl Kind {
    const ALL: [Self; 8] =
        [Self::Order, Self::Manifest, Self::Onnx, Self::Run, Self::Report, Self::Ready, Self::Scores, Self::Refused];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    /// What it holds.
    pub kind: Kind,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Reads a frame of at most `limit` bytes; none when the other side has closed.
pub fn read(from: &mut impl Read, limit: usize) -> io::Result<Option<Frame>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let [a, b, c, d, kind] = head;
    let (length, kind) = (u32::from_le_bytes([a, b, c, d]) as usize, Kind::from_byte(kind));
    let (true, Some(kind)) = (length <= limit, kind) else {
        return Err(io::Error::other(format!("a frame of {length} bytes and kind {} is none", head[4])));
    };
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(Frame { kind, bytes }))
}

/// Writes a frame.
pub fn write(to: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut head = length.to_le_bytes().to_vec();
    head.push(kind as u8);
    to.write_all(&head)?;
    to.write_all(bytes)
}

/// Values as bytes.
pub fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(values)];
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
    bytes
}

/// Bytes as values; a rest that is no whole value is left out.
pub fn to_values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// A socket that neither reads nor writes beyond a deadline, however little at a time the other side takes or gives.
#[derive(Debug)]
pub struct Timed<'a> {
    /// The socket.
    pub socket: &'a UnixStream,
    /// When the time is over.
    pub deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(Some(left.max(MIN_WAIT))),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A socket says "would block" when its time is over.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_through_and_the_end_is_seen() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Run, &to_bytes(&[1.5, f32::NAN])).unwrap();
        let mut from = bytes.as_slice();
        let frame = read(&mut from, 8).unwrap().unwrap();
        assert_eq!(frame.kind, Kind::Run);
        let values = to_values(&frame.bytes);
        assert!(values.len() == 2 && values[0] == 1.5 && values[1].is_nan());
        assert!(read(&mut from, 8).unwrap().is_none());
    }

    #[test]
    fn a_frame_that_is_too_long_or_unknown_is_refused_unread() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::Run, &[0; 9]).unwrap();
        assert!(read(&mut bytes.as_slice(), 8).unwrap_err().to_string().contains("a frame of 9 bytes"));
        bytes[4] = 99;
        assert!(read(&mut bytes.as_slice(), 9).unwrap_err().to_string().contains("kind 99"));
    }

    #[test]
    fn a_deadline_holds_also_against_a_side_that_trickles() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let trickle = std::thread::spawn(move || {
            while here.write_all(&[0]).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let deadline = Instant::now() + Duration::from_millis(100);
        let error = Timed { socket: &there, deadline }.read_exact(&mut [0; 1000]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(there);
        trickle.join().unwrap();
    }
}
