//! Reading and writing one socket from one task.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// Bytes of one read. Every thread has one such buffer for all of its connections.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
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
