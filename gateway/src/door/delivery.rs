//! What the door hands to the pipeline, and how the pipeline answers.

use std::sync::Arc;

use bytes::Bytes;
use proto::{StationId, TopicKind};

use super::mailbox::Mailbox;
use super::outbox::Outbox;

/// What a publish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryKind {
    /// What the station is and measures.
    Birth,
    /// Readings.
    Data,
    /// Online, or (as last will) offline.
    Status,
    /// A message of a source, by a bridge.
    Foreign,
}

/// One publish of a station or a bridge, as sent. Its topic and sender are checked; its payload is not looked at.
#[derive(Debug)]
pub struct Delivery {
    /// Who sent it: the station, or the bridge, whose name says nothing about the stations of its messages. Shared by all
    /// deliveries of the connection.
    pub station: Arc<StationId>,
    /// What it is.
    pub kind: DeliveryKind,
    /// The whole topic of a foreign message; none of the others, which the kind says.
    pub topic: Option<Arc<str>>,
    /// The payload as it came.
    pub payload: Bytes,
    /// The packet id that it came with; 0 with QoS 0, and for a will.
    pub packet: u16,
    /// Whether the client says that it may have sent this packet before.
    pub duplicate: bool,
    /// The PUBACK that is withheld until the payload is on disk.
    pub ticket: Ticket,
}

/// A withheld PUBACK.
///
/// [Committing](Self::commit) it says that the publish is dealt with for good: on disk, or refused for its content and
/// counted (sending the same bytes again would not help). Dropping it says "not stored": its PUBACK never goes, and the
/// connection is closed so that the client sends again. A QoS 0 publish has a ticket, too, which does nothing.
#[derive(Debug)]
#[must_use = "dropping a ticket closes its client's connection"]
pub struct Ticket {
    mailbox: Option<Arc<Mailbox>>,
    packet: u16,
}

impl Ticket {
    pub(crate) fn withheld(mailbox: Arc<Mailbox>, packet: u16) -> Self {
        Self { mailbox: Some(mailbox), packet }
    }

    /// A ticket that holds no PUBACK back: of a QoS 0 publish, a will, or a payload that comes from elsewhere.
    pub const fn detached() -> Self {
        Self { mailbox: None, packet: 0 }
    }

    /// Releases the PUBACK. To release many, collect them in a [`Release`].
    pub fn commit(mut self) {
        if let Some(mailbox) = self.mailbox.take()
            && mailbox.acknowledge(self.packet)
        {
            mailbox.send();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take()
            && mailbox.abandon()
        {
            mailbox.send();
        }
    }
}

/// Acknowledgements that leave together: the PUBACKs and messages of each connection are written in one go when the release
/// is [sent](Self::send) (or dropped).
///
/// ```no_run
/// # use gateway::door::{Delivery, Outbox, Release};
/// # use proto::TopicKind;
/// # fn on_disk(stored: Vec<Delivery>, outbox: &Outbox, ack: &[u8]) {
/// let mut release = Release::new();
/// for delivery in stored {
///     release.publish(outbox, &delivery.station, TopicKind::Ack, ack);
///     release.commit(delivery.ticket);
/// }
/// release.send();
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Release {
    waiting: Vec<Arc<Mailbox>>,
}

impl Release {
    /// An empty release.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the PUBACK of `ticket`.
    pub fn commit(&mut self, mut ticket: Ticket) {
        if let Some(mailbox) = ticket.mailbox.take()
            && mailbox.acknowledge(ticket.packet)
        {
            self.waiting.push(mailbox);
        }
    }

    /// Adds a message as [`Outbox::publish`] would send it; returns what that returns.
    pub fn publish(&mut self, outbox: &Outbox, station: &StationId, kind: TopicKind, payload: &[u8]) -> bool {
        outbox.put(station, kind, payload, |mailbox| self.waiting.push(mailbox))
    }

    /// Lets everything go.
    pub fn send(self) {}
}

impl Drop for Release {
    fn drop(&mut self) {
        for mailbox in self.waiting.drain(..) {
            mailbox.send();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_ticket_acknowledges_and_a_dropped_one_abandons() {
        let mailbox = Arc::new(Mailbox::default());
        Ticket::withheld(Arc::clone(&mailbox), 5).commit();
        let contents = mailbox.take(true);
        assert_eq!((contents.acknowledged, contents.abandoned), (1, false));

        drop(Ticket::withheld(Arc::clone(&mailbox), 6));
        let contents = mailbox.take(true);
        assert_eq!((contents.acknowledged, contents.abandoned), (0, true));
    }

    #[test]
    fn a_release_wakes_each_connection_once() {
        let boxes = [Arc::new(Mailbox::default()), Arc::new(Mailbox::default())];
        let mut release = Release::new();
        for packet in 1..=100 {
            for mailbox in &boxes {
                release.commit(Ticket::withheld(Arc::clone(mailbox), packet));
            }
        }
        release.commit(Ticket::detached());
        assert_eq!(release.waiting.len(), 2);
        release.send();
        assert_eq!(boxes[0].take(true).acknowledged, 100);
    }
}
