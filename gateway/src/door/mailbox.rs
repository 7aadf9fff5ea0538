//! What waits to be written to one client: released PUBACKs and messages of the gateway, already encoded.
//!
//! A commit in the store releases hundreds of PUBACKs at once, and mostly an `ack` message for the same station besides.
//! All of them are appended here and the connection's task is woken once, so that they leave in one write.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::Notify;

/// Messages of the gateway that may wait for one station. Acks and commands are repeated by whoever sends them, so a
/// message that finds the box full is dropped and counted.
pub(crate) const MAX_WAITING_MESSAGES: u32 = 64;

/// The box of one connection, shared by its task, its [tickets](super::Ticket) and the [outbox](super::Outbox).
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    contents: Mutex<Contents>,
    /// Wakes the connection's task.
    wake: Notify,
}

/// What the connection's task takes out of its box.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Encoded frames, in the order in which they were put in.
    pub frames: BytesMut,
    /// How many of the frames are PUBACKs.
    pub acknowledged: u32,
    /// How many of the frames are messages.
    pub messages: u32,
    /// A ticket was dropped: something that this client sent is not stored and never will be.
    pub abandoned: bool,
    /// Another connection of the same client has taken over.
    pub taken_over: bool,
    /// The task has been woken and has not come yet.
    woken: bool,
    /// The connection no longer takes messages.
    gone: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in. Returns whether the caller must [wake](Self::wake) the connection: of all that put something
    /// in before it comes, only the first must.
    fn put(&self, put: impl FnOnce(&mut Contents)) -> bool {
        let mut contents = self.lock();
        if contents.gone {
            return false;
        }
        put(&mut contents);
        !std::mem::replace(&mut contents.woken, true)
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
        Some(!std::mem::replace(&mut contents.woken, true))
    }

    /// Wakes the connection's task.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a wake.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes what has been put in.
    pub fn take(&self) -> Contents {
        let mut contents = self.lock();
        let gone = contents.gone;
        std::mem::replace(&mut *contents, Contents { gone, ..Contents::default() })
    }

    /// The connection has ended: whatever is put in from now on is for nobody.
    pub fn leave(&self) {
        self.lock().gone = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_of_acknowledgements_wakes_once_and_leaves_together() {
        let mailbox = Mailbox::default();
        let wakes = (1..=300).filter(|&packet| mailbox.acknowledge(packet)).count();
        assert_eq!(wakes, 1);
        let contents = mailbox.take();
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
        assert_eq!(mailbox.take().acknowledged, 1);
        assert!(mailbox.message(|frames| frames.extend_from_slice(b"m")).is_some());
        mailbox.leave();
        assert_eq!(mailbox.message(|frames| frames.extend_from_slice(b"m")), None);
        assert!(!mailbox.acknowledge(8));
    }
}
