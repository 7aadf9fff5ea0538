//! What waits to be written to one client: released PUBACKs and messages of the gateway, already encoded.
//!
//! A commit in the store releases hundreds of PUBACKs at once, and mostly an `ack` message for the same station besides.
//! All of them are appended here, and leave in one write. Where the connection is plain TCP and has nothing else to write,
//! whoever released them [writes them itself](Mailbox::send): to wake the connection's task for it would cost more than the
//! rest. Else the task is woken once, and takes them.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;

use super::metrics::{DoorMetrics, add, subtract};
use super::socket::Writer;

/// Messages of the gateway that may wait for one station. Acks and commands are repeated by whoever sends them, so a
/// message that finds the box full is dropped and counted.
pub(crate) const MAX_WAITING_MESSAGES: u32 = 64;

/// The box of one connection, shared by its task, its [tickets](super::Ticket) and the [outbox](super::Outbox).
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    contents: Mutex<Contents>,
    /// Wakes the connection's task.
    wake: AtomicWaker,
}

/// The way to the client past the connection's task.
#[derive(Debug)]
struct Direct {
    writer: Writer,
    metrics: Arc<DoorMetrics>,
}

/// What the connection's task takes out of its box.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Encoded frames, in the order in which they were put in.
    pub frames: BytesMut,
    /// How many of the frames are PUBACKs.
    pub acknowledged: u32,
    /// PUBACKs that were written past the task, and counted.
    pub written: u32,
    /// How many of the frames are messages.
    pub messages: u32,
    /// A ticket was dropped: something that this client sent is not stored and never will be.
    pub abandoned: bool,
    /// Another connection of the same client has taken over.
    pub taken_over: bool,
    /// Whoever put something in has not sent it yet.
    unsent: bool,
    /// The task is to come, and has not come yet.
    woken: bool,
    /// The connection no longer takes messages.
    gone: bool,
    /// The task waits for PUBACKs.
    awaited: bool,
    /// The task has nothing to write that it took before.
    clear: bool,
    direct: Option<Direct>,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what is put in may be written past the task.
    pub fn write_directly(&self, writer: Writer, metrics: Arc<DoorMetrics>) {
        self.lock().direct = Some(Direct { writer, metrics });
    }

    /// Puts something in. Returns whether the caller must [send](Self::send) it: of all that put something in before it
    /// leaves, only the first must.
    fn put(&self, put: impl FnOnce(&mut Contents)) -> bool {
        let mut contents = self.lock();
        if contents.gone {
            return false;
        }
        put(&mut contents);
        !std::mem::replace(&mut contents.unsent, true)
    }

    /// Releases the PUBACK of `packet`.
    pub fn acknowledge(&self, packet: u16) -> bool {
        self.put(|contents| {
            let [high, low] = packet.to_be_bytes();
            contents.frames.extend_from_slice(&[0x40, 2, high, low]);
            contents.acknowledged += 1;
        })
    }

    /// Says that a publish of this client is lost; its connection is to be closed so that it sends again.
    pub fn abandon(&self) -> bool {
        self.put(|contents| contents.abandoned = true)
    }

    /// Asks the connection to end, because its client has another one.
    pub fn take_over(&self) -> bool {
        self.put(|contents| contents.taken_over = true)
    }

    /// Adds a message that `encode` writes. `None` when the box is full or the connection gone.
    pub fn message(&self, encode: impl FnOnce(&mut BytesMut)) -> Option<bool> {
        let mut contents = self.lock();
        if contents.gone || contents.messages >= MAX_WAITING_MESSAGES {
            return None;
        }
        encode(&mut contents.frames);
        contents.messages += 1;
        Some(!std::mem::replace(&mut contents.unsent, true))
    }

    /// Writes what was put in, or wakes the connection's task to do it.
    pub fn send(&self) {
        let mut contents = self.lock();
        contents.unsent = false;
        if !contents.write() {
            contents.woken = true;
            drop(contents);
            self.wake.wake();
        }
    }

    /// Waits until there is something for the task.
    pub async fn woken(&self) {
        poll_fn(|context| {
            self.wake.register(context.waker());
            if self.lock().woken { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Takes what has been put in. `clear` says that the task has written all that it took before.
    pub fn take(&self, clear: bool) -> Contents {
        let mut contents = self.lock();
        (contents.unsent, contents.woken) = (false, false);
        contents.clear = clear && contents.frames.is_empty();
        let Contents { acknowledged, written, messages, abandoned, taken_over, .. } = *contents;
        (contents.acknowledged, contents.written, contents.messages) = (0, 0, 0);
        (contents.abandoned, contents.taken_over) = (false, false);
        let frames = if contents.frames.is_empty() { BytesMut::new() } else { std::mem::take(&mut contents.frames) };
        Contents { frames, acknowledged, written, messages, abandoned, taken_over, ..Contents::default() }
    }

    /// The task has something to write itself: nothing may come between until it has been written.
    pub fn hold(&self) {
        self.lock().clear = false;
    }

    /// Whether the task is to come for each PUBACK, even if it is written past it.
    pub fn wait_for_acknowledgements(&self, awaited: bool) {
        let mut contents = self.lock();
        contents.awaited = awaited;
        contents.woken |= awaited && contents.written > 0;
    }

    /// The connection has ended: whatever is put in from now on is for nobody.
    pub fn leave(&self) {
        let mut contents = self.lock();
        contents.gone = true;
        contents.direct = None;
    }
}

impl Contents {
    /// Writes the frames past the task. False when the task must come.
    fn write(&mut self) -> bool {
        let Some(direct) = self.direct.as_ref().filter(|_| self.clear) else { return false };
        let written = direct.writer.write(&self.frames);
        if written < self.frames.len() {
            self.frames.advance(written);
            self.clear = false;
            return false;
        }
        self.frames.clear();
        add(&direct.metrics.pubacks, u64::from(self.acknowledged));
        subtract(&direct.metrics.deliveries_waiting_now, u64::from(self.acknowledged));
        self.written += std::mem::take(&mut self.acknowledged);
        self.messages = 0;
        !(self.awaited || self.abandoned || self.taken_over)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::super::socket::Plain;
    use super::*;

    #[test]
    fn a_group_of_acknowledgements_wakes_once_and_leaves_together() {
        let mailbox = Mailbox::default();
        let wakes = (1..=300).filter(|&packet| mailbox.acknowledge(packet)).count();
        assert_eq!(wakes, 1);
        let contents = mailbox.take(true);
        assert_eq!(contents.acknowledged, 300);
        assert_eq!(contents.frames.len(), 1200);
        assert_eq!(&contents.frames[..4], &[0x40, 2, 0, 1]);
        assert!(mailbox.acknowledge(1), "after a visit the next one wakes again");
    }

    #[test]
    fn a_full_box_refuses_messages_and_still_takes_acknowledgements() {
        let mailbox = Mailbox::default();
        for _ in 0..MAX_WAITING_MESSAGES {
            assert!(mailbox.message(|frames| frames.extend_from_slice(b"m")).is_some());
        }
        assert_eq!(mailbox.message(|frames| frames.extend_from_slice(b"m")), None);
        mailbox.acknowledge(7);
        assert_eq!(mailbox.take(true).acknowledged, 1);
        assert!(mailbox.message(|frames| frames.extend_from_slice(b"m")).is_some());
        mailbox.leave();
        assert_eq!(mailbox.message(|frames| frames.extend_from_slice(b"m")), None);
        assert!(!mailbox.acknowledge(8));
    }

    #[tokio::test]
    async fn what_is_released_goes_past_the_task_unless_something_is_in_the_way() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        let (plain, mailbox, metrics) = (Plain::new(stream), Mailbox::default(), Arc::<DoorMetrics>::default());
        mailbox.write_directly(plain.writer(), Arc::clone(&metrics));
        let release = |packet: u16| {
            metrics.deliveries_waiting_now.fetch_add(1, Ordering::Relaxed);
            assert!(mailbox.acknowledge(packet));
            mailbox.send();
        };

        // The task has not said yet that it has nothing to write; and what it then takes it has to write.
        release(1);
        assert_eq!(mailbox.take(true).frames.len(), 4);
        release(2);
        assert_eq!(mailbox.take(true).frames.len(), 4);
        mailbox.take(true);
        release(3);
        let mut read = [0; 4];
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [0x40, 2, 0, 3]);
        assert_eq!(
            (metrics.pubacks.load(Ordering::Relaxed), metrics.deliveries_waiting_now.load(Ordering::Relaxed)),
            (1, 2)
        );
        let contents = mailbox.take(true);
        assert_eq!((contents.frames.len(), contents.acknowledged, contents.written), (0, 0, 1));

        // A task that waits for PUBACKs comes for those that went past it, too.
        release(4);
        assert!(timeout(Duration::from_millis(20), mailbox.woken()).await.is_err());
        mailbox.wait_for_acknowledgements(true);
        mailbox.woken().await;
        assert_eq!(mailbox.take(true).written, 1);
        release(5);
        mailbox.woken().await;
        assert_eq!(mailbox.take(true).written, 1);

        // What the socket does not take the task has to write, and nothing comes between.
        client.read_exact(&mut [0; 8]).await.unwrap();
        let many: Vec<u8> = (0..8_000_000_u32).map(|n| (n / 7) as u8).collect();
        assert_eq!(mailbox.message(|frames| frames.extend_from_slice(&many)), Some(true));
        mailbox.send();
        mailbox.woken().await;
        mailbox.acknowledge(6);
        mailbox.send();
        let rest = mailbox.take(true).frames;
        assert!(!rest.is_empty() && rest.len() < many.len() && rest.ends_with(&[0x40, 2, 0, 6]), "{}", rest.len());
        let mut read = vec![0; many.len() + 4 - rest.len()];
        client.read_exact(&mut read).await.unwrap();
        assert!([read.as_slice(), &rest].concat() == [many.as_slice(), &[0x40, 2, 0, 6]].concat());

        // Another's message may be half written.
        mailbox.take(true);
        mailbox.hold();
        release(7);
        assert_eq!(mailbox.take(true).frames.len(), 4);
    }
}
