//! How a socket is set, and reading and writing it from one task; and, where it is plain TCP, [writing](Writer) past the task.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tracing::debug;

use super::frames::Frames;

/// Bytes of one read. Every thread has one such buffer for all of its connections.
const READ_BYTES: usize = 64 * 1024;

/// How long nothing comes from a client before the kernel asks its kernel whether it is there. A client with an MQTT
/// keep-alive says something before that, mostly; one without is asked for forty bytes each five minutes.
const IDLE: Duration = Duration::from_secs(300);
/// How long the kernel waits for the answer, and how often it asks before the connection has ended: a client that vanished
/// without a word gives its place up after eight minutes, and one whose mobile network is away for five keeps it.
const ASKED_EACH: Duration = Duration::from_secs(30);
const ASKED: u32 = 6;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Sets a socket that was accepted. What the system refuses to set is no reason to turn a client away.
pub(crate) fn prepare(stream: &TcpStream) {
    // PUBACKs are gathered here; the kernel need not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY cannot be set");
    }
    let keepalive = TcpKeepalive::new().with_time(IDLE).with_interval(ASKED_EACH).with_retries(ASKED);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
        debug!(%error, "TCP's keep-alive cannot be set");
    }
}

/// A plain TCP connection, which is also written past its task.
#[derive(Debug)]
pub(crate) struct Plain {
    reader: OwnedReadHalf,
    writer: Arc<OwnedWriteHalf>,
}

/// Writes a plain connection from anywhere.
#[derive(Debug)]
pub(crate) struct Writer(Arc<OwnedWriteHalf>);

impl Plain {
    /// Serves `stream`.
    pub fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader, writer: Arc::new(writer) }
    }

    /// The way past the task.
    pub fn writer(&self) -> Writer {
        Writer(Arc::clone(&self.writer))
    }

    fn stream(&self) -> &TcpStream {
        self.reader.as_ref()
    }
}

impl Writer {
    /// Writes as much as the socket takes at once, and says how much. That the connection is broken its task finds out.
    pub fn write(&self, bytes: &[u8]) -> usize {
        self.0.try_write(bytes).unwrap_or(0)
    }
}

impl AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream().poll_write_ready(context))?;
            match self.writer.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(self.stream()).shutdown(Shutdown::Write))
    }
}

/// What happened on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was read (it is in the frames) or written.
    Progress,
    /// The other side has closed.
    End,
}

/// Waits until something could be read into `frames` (when given) or written from `out`, whichever comes first.
///
/// One poll reads at most once: a reader that got less than its buffer holds need not ask again, which saves the second
/// system call. Nothing is lost when the future is dropped.
pub(crate) async fn step<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    out: &mut BytesMut,
    flushing: &mut bool,
    mut frames: Option<&mut Frames>,
) -> io::Result<Step> {
    poll_fn(|context| {
        let mut progress = false;
        while !out.is_empty() {
            match Pin::new(&mut *socket).poll_write(context, out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    out.advance(written);
                    *flushing = true;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if *flushing && Pin::new(&mut *socket).poll_flush(context)?.is_ready() {
            *flushing = false;
        }
        if let Some(frames) = frames.as_deref_mut() {
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                Pin::new(&mut *socket).poll_read(context, &mut buffer).map_ok(|()| {
                    frames.push(buffer.filled());
                    buffer.filled().len()
                })
            });
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Step::End)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Step::Progress)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if progress { Poll::Ready(Ok(Step::Progress)) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_asks_after_a_peer_that_is_silent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream);
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), ASKED_EACH);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), ASKED);
    }
}
