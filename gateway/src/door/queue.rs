//! The queue between the door and the pipeline, bounded in messages and in bytes.
//!
//! When it is full the door stops reading its sockets, and TCP holds up who sends; it holds no more than its bounds,
//! whatever the pipeline waits for, and whatever the QoS of what comes.

use std::sync::Arc;

use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError, mpsc};

use super::delivery::Delivery;

/// The end that takes deliveries in. Cheap to clone; the queue closes with the last.
#[derive(Debug, Clone)]
pub struct ToPipeline {
    queue: mpsc::Sender<Delivery>,
    room: Arc<Room>,
}

/// The end that gives them out, in the order in which they came.
#[derive(Debug)]
pub struct Deliveries {
    queue: mpsc::Receiver<Delivery>,
    room: Arc<Room>,
}

/// Bytes that may still come.
#[derive(Debug)]
struct Room {
    bytes: Semaphore,
    whole: u32,
}

/// Room for one delivery.
#[derive(Debug)]
#[must_use = "dropping it gives the room back"]
pub(crate) struct Place<'a> {
    slot: mpsc::Permit<'a, Delivery>,
    bytes: SemaphorePermit<'a>,
}

/// A queue for so many messages of so many bytes in all. A larger one passes when it is alone.
///
/// # Panics
/// When there is room for no message at all.
#[must_use]
pub fn queue(messages: usize, bytes: u32) -> (ToPipeline, Deliveries) {
    let (sender, receiver) = mpsc::channel(messages);
    let room = Arc::new(Room { bytes: Semaphore::new(bytes as usize), whole: bytes });
    (ToPipeline { queue: sender, room: Arc::clone(&room) }, Deliveries { queue: receiver, room })
}

impl Room {
    /// What a delivery takes of it.
    fn of(&self, delivery: &Delivery) -> u32 {
        let bytes = delivery.payload.len() + delivery.topic.as_ref().map_or(0, |topic| topic.len());
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.whole)
    }
}

impl ToPipeline {
    /// Puts a delivery into the queue, if there is room.
    pub(crate) fn try_send(&self, delivery: Delivery) -> Result<(), TrySendError<Delivery>> {
        match self.room.bytes.try_acquire_many(self.room.of(&delivery)) {
            Ok(bytes) => {
                self.queue.try_send(delivery)?;
                bytes.forget();
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(delivery)),
            Err(TryAcquireError::Closed) => Err(TrySendError::Closed(delivery)),
        }
    }

    /// What a delivery takes of the queue's bytes, for [`Self::reserve`].
    pub(crate) fn bytes_of(&self, delivery: &Delivery) -> u32 {
        self.room.of(delivery)
    }

    /// Waits for room and puts a delivery there; false when nobody takes any more.
    pub(crate) async fn send(&self, delivery: Delivery) -> bool {
        let place = self.reserve(self.bytes_of(&delivery)).await;
        place.map(|place| place.fill(delivery)).is_some()
    }

    /// Waits for room for a delivery of so many bytes; none when nobody takes any more. May be given up at any moment.
    pub(crate) async fn reserve(&self, bytes: u32) -> Option<Place<'_>> {
        let bytes = self.room.bytes.acquire_many(bytes).await.ok()?;
        let slot = self.queue.reserve().await.ok()?;
        Some(Place { slot, bytes })
    }
}

impl Place<'_> {
    /// Puts the delivery there for which the room was reserved.
    pub(crate) fn fill(self, delivery: Delivery) {
        self.bytes.forget();
        self.slot.send(delivery);
    }
}

impl Deliveries {
    /// The next delivery; none when the queue is empty and closed.
    pub async fn recv(&mut self) -> Option<Delivery> {
        let delivery = self.queue.recv().await?;
        self.give_back(&delivery);
        Some(delivery)
    }

    /// The next delivery, if it is there.
    ///
    /// # Errors
    /// When there is none now, or never will be.
    pub fn try_recv(&mut self) -> Result<Delivery, TryRecvError> {
        let delivery = self.queue.try_recv()?;
        self.give_back(&delivery);
        Ok(delivery)
    }

    /// Whether nobody is left who could put something in.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    fn give_back(&self, delivery: &Delivery) {
        self.room.bytes.add_permits(self.room.of(delivery) as usize);
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.room.bytes.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::door::{DeliveryKind, Ticket};

    fn delivery(bytes: usize) -> Delivery {
        Delivery {
            station: Arc::new("n1".parse().unwrap()),
            kind: DeliveryKind::Data,
            topic: None,
            payload: vec![7; bytes].into(),
            packet: 0,
            duplicate: false,
            ticket: Ticket::detached(),
        }
    }

    #[tokio::test]
    async fn it_is_full_by_messages_or_by_bytes_and_what_is_taken_out_makes_room() {
        let (sender, mut receiver) = queue(3, 1_000);
        sender.try_send(delivery(600)).unwrap();
        let Err(TrySendError::Full(second)) = sender.try_send(delivery(401)) else { panic!("too many bytes") };
        // Who waits for room and gives up takes none.
        let bytes = sender.bytes_of(&second);
        assert!(timeout(Duration::from_millis(1), sender.reserve(bytes)).await.is_err());
        sender.try_send(delivery(200)).unwrap();
        sender.try_send(delivery(200)).unwrap();
        assert!(matches!(sender.try_send(delivery(0)), Err(TrySendError::Full(_))), "too many messages");
        assert_eq!(receiver.recv().await.unwrap().payload.len(), 600);
        sender.reserve(bytes).await.unwrap().fill(second);
        assert_eq!([200, 200, 401], [(); 3].map(|()| receiver.try_recv().unwrap().payload.len()));
        // One that is larger than all of it waits until it is alone.
        sender.try_send(delivery(1)).unwrap();
        assert!(matches!(sender.try_send(delivery(5_000)), Err(TrySendError::Full(_))));
        receiver.try_recv().unwrap();
        sender.try_send(delivery(5_000)).unwrap();
        assert!(matches!(sender.try_send(delivery(1)), Err(TrySendError::Full(_))));
        assert_eq!(receiver.try_recv().unwrap().payload.len(), 5_000);
        sender.try_send(delivery(1_000)).unwrap();
        drop(receiver);
        assert!(sender.reserve(1).await.is_none());
        assert!(matches!(sender.try_send(delivery(1)), Err(TrySendError::Closed(_))));
    }
}
