//! A node's memory and its patience: the ring of reports that nobody has acknowledged, and what to send when.
//!
//! The ring is the flash behind a node's controller, or the controller's own memory, the firmware's
//! [`Ring`](firmware::ring::Ring); what goes when, and what an acknowledgement frees, is the firmware's own [`Delivery`]. A pure
//! state machine; the connection ([`crate::client`]) and the clock are outside. Its promises:
//! - A report stays in the ring until an acknowledgement of its boot covers its sequence, or until the ring is full and it
//!   is the oldest; then it is counted as lost.
//! - Reports go out in the order in which they were made, at most [`WINDOW`] ahead of the acknowledgement; after a
//!   reconnect, and when the acknowledgement does not come in time, from the oldest again.

mod memory;

use std::time::Duration;

use bytes::Bytes;
use firmware::delivery::{Delivery, Reports as _};
pub use firmware::delivery::{Overdue, WINDOW};
use firmware::ring::Key;
use proto::Ack;

use self::memory::{Flash, Memory};
use crate::chance::Chance;

/// The readings that a node keeps when its configuration says nothing: at thirteen channels every five minutes thirty-two
/// days, which at some six bytes each fill two thirds of a one-megabyte flash. When the ring is full the oldest report goes.
pub const RING_READINGS: u32 = 120_000;
/// The most channels of a station without flash: a byte numbers them in its ring.
pub const RING_CHANNELS: usize = 256;
/// A report as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node's boot in which it was made.
    pub boot: u32,
    /// Its sequence in that boot.
    pub sequence: u64,
    /// How many readings are in it.
    pub readings: u32,
    /// The encoded batch.
    pub payload: Bytes,
}

impl Entry {
    /// What it is known by.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { boot: self.boot, sequence: self.sequence }
    }
}

/// Reports that found no room any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Their boot.
    pub boot: u32,
    /// The first one's sequence.
    pub first: u64,
    /// The last one's sequence.
    pub last: u64,
    /// How many readings were in them.
    pub readings: u64,
}

/// A node's ring. Times are wall time since any fixed moment.
#[derive(Debug)]
pub struct Node {
    memory: Memory,
    delivery: Delivery,
    chance: Chance,
    draws: i64,
}

impl Node {
    /// A node whose flash holds so many readings. The chance makes the waits of many nodes differ.
    #[must_use]
    pub fn new(capacity: u32, chance: Chance) -> Self {
        Self::with(Memory::Flash(Flash::new(capacity)), chance)
    }

    /// A node without flash: it holds the 2,000 readings, in up to 192 reports, that its controller has room for.
    #[must_use]
    pub fn without_flash(chance: Chance) -> Self {
        Self::with(Memory::Ram(Box::default()), chance)
    }

    fn with(memory: Memory, chance: Chance) -> Self {
        Self { memory, delivery: Delivery::new(), chance, draws: 0 }
    }

    /// Keeps a report. What is given back had to go for it; in a flash, a report larger than all of it stays alone.
    pub fn push(&mut self, entry: Entry) -> Vec<Lost> {
        let overflow = self.memory.push(entry);
        self.delivery.gone(overflow.reports);
        overflow.lost
    }

    /// A connection is there: everything goes again.
    pub fn connected(&mut self) {
        self.delivery.connected();
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.delivery.disconnected();
    }

    /// Everything of a boot up to a sequence is on the gateway's disk. Gives back whether that was news.
    pub fn acknowledged(&mut self, ack: &Ack, now: Duration) -> bool {
        let up_to = Key { boot: ack.boot, sequence: ack.sequence };
        let (chance, draws) = (&mut self.chance, &mut self.draws);
        self.delivery.acknowledge(&mut self.memory, up_to, now, || draw(chance, draws))
    }

    /// The next report to send, which from now on is under way; none when there is none, or enough are under way.
    pub fn next_to_send(&mut self, now: Duration) -> Option<Entry> {
        let (chance, draws) = (&mut self.chance, &mut self.draws);
        let index = self.delivery.send(&self.memory, now, || draw(chance, draws))?;
        self.memory.entry(index)
    }

    /// How many bytes the report has that [`Node::next_to_send`] would give.
    #[must_use]
    pub fn next_bytes(&self) -> Option<usize> {
        let entry = self.memory.entry(self.delivery.next(&self.memory)?)?;
        Some(entry.payload.len())
    }

    /// The report that [`Node::next_to_send`] gave last could not be handed to the connection.
    pub fn not_sent(&mut self) {
        self.delivery.not_sent();
    }

    /// When [`Node::overdue`] wants to be asked.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.delivery.deadline()
    }

    /// What to do about an acknowledgement that should be there by now; none when it is not yet time.
    pub fn overdue(&mut self, now: Duration) -> Option<Overdue> {
        self.delivery.overdue(now)
    }

    /// How many reports wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.waiting()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.memory.waiting() == 0
    }

    /// What waits, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        (0..self.memory.waiting()).filter_map(|index| self.memory.entry(index))
    }
}

/// The next of a node's chances.
fn draw(chance: &mut Chance, draws: &mut i64) -> f64 {
    *draws += 1;
    chance.at(*draws).uniform()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firmware::delivery::PATIENCE;
    use proptest::prelude::*;

    use super::*;

    fn node(capacity: u32) -> Node {
        Node::new(capacity, Chance::new(1, "test"))
    }

    fn entry(boot: u32, sequence: u64) -> Entry {
        Entry { boot, sequence, readings: 10, payload: Bytes::new() }
    }

    fn send_all(node: &mut Node, now: Duration) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| node.next_to_send(now)).map(|entry| (entry.boot, entry.sequence)).collect()
    }

    #[test]
    fn a_reconnect_sends_everything_again_in_order() {
        let mut node = node(1000);
        for sequence in 1..=3 {
            node.push(entry(1, sequence));
        }
        assert!(send_all(&mut node, Duration::ZERO).is_empty());
        node.connected();
        assert_eq!(send_all(&mut node, Duration::ZERO), [(1, 1), (1, 2), (1, 3)]);
        assert!(node.acknowledged(&Ack { boot: 1, sequence: 1 }, Duration::ZERO));
        assert!(!node.acknowledged(&Ack { boot: 1, sequence: 1 }, Duration::ZERO));
        node.disconnected();
        node.connected();
        assert_eq!(send_all(&mut node, Duration::ZERO), [(1, 2), (1, 3)]);
    }

    #[test]
    fn an_acknowledgement_that_does_not_come_is_waited_for_longer_each_time_and_then_the_connection_is_doubted() {
        let mut node = node(1000);
        node.connected();
        node.push(entry(1, 1));
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for expected in [Overdue::Resend, Overdue::Reconnect, Overdue::Resend] {
            assert_eq!(send_all(&mut node, now), [(1, 1)]);
            let deadline = node.deadline().unwrap();
            assert_eq!(node.overdue(deadline - Duration::from_millis(1)), None);
            assert_eq!(node.overdue(deadline), Some(expected));
            waits.push(deadline - now);
            now = deadline;
        }
        assert!(waits[0] >= PATIENCE && waits[1] >= 2 * PATIENCE && waits[2] >= 4 * PATIENCE, "{waits:?}");
        assert_eq!(send_all(&mut node, now), [(1, 1)]);
        node.acknowledged(&Ack { boot: 1, sequence: 1 }, now);
        assert!(node.is_empty() && node.deadline().is_none());
    }

    #[test]
    fn reports_of_an_earlier_boot_wait_for_their_own_acknowledgement() {
        let mut node = node(1000);
        node.push(entry(1, 7));
        node.push(entry(2, 1));
        node.push(entry(2, 2));
        node.connected();
        assert_eq!(send_all(&mut node, Duration::ZERO).len(), 3);
        node.acknowledged(&Ack { boot: 2, sequence: 1 }, Duration::ZERO);
        assert_eq!(node.entries().map(|e| (e.boot, e.sequence)).collect::<Vec<_>>(), [(1, 7), (2, 2)]);
        node.push(entry(2, 3));
        assert_eq!(send_all(&mut node, Duration::ZERO), [(2, 3)]);
    }

    #[test]
    fn a_full_ring_loses_the_oldest_and_says_so() {
        let mut node = node(30);
        assert!((1..=3).all(|sequence| node.push(entry(1, sequence)).is_empty()));
        assert_eq!(node.push(entry(1, 4)), [Lost { boot: 1, first: 1, last: 1, readings: 10 }]);
        let large = Entry { readings: 100, ..entry(2, 1) };
        assert_eq!(node.push(large), [Lost { boot: 1, first: 2, last: 4, readings: 30 }]);
        assert_eq!(node.len(), 1);
    }

    /// Two days' reports of a station, each of thirteen channels three times.
    fn reports() -> Vec<Entry> {
        let mut farm =
            crate::farm::Farm::new(&crate::FarmConfig { stations: 1, ..crate::FarmConfig::default() }).unwrap();
        let (mut entries, mut open) = (Vec::new(), Vec::new());
        farm.advance(farm.now().plus_secs(2 * 86_400), |sample| {
            open.extend(sample.readings.iter().map(|measured| measured.reading));
            if sample.reports {
                let sequence = entries.len() as u64 + 1;
                let batch = proto::Batch { boot: 3, sequence, readings: std::mem::take(&mut open) };
                let payload = Bytes::from(batch.encode().unwrap());
                entries.push(Entry { boot: 3, sequence, readings: batch.readings.len() as u32, payload });
            }
        });
        entries
    }

    #[test]
    fn without_flash_the_same_bytes_are_sent_and_two_thousand_readings_stay() {
        let reports = reports();
        let chance = || Chance::new(1, "test");
        let (mut flash, mut ram) = (Node::new(100_000, chance()), Node::without_flash(chance()));
        let mut lost = 0;
        for report in &reports {
            assert!(flash.push(report.clone()).is_empty());
            for gone in ram.push(report.clone()) {
                lost += gone.readings;
                assert!(gone.last < report.sequence, "the oldest go first");
            }
        }
        let kept: u32 = ram.entries().map(|entry| entry.readings).sum();
        assert!((1961..=2000).contains(&kept), "{kept}");
        let made: u32 = reports.iter().map(|entry| entry.readings).sum();
        assert_eq!(u64::from(made), u64::from(kept) + lost);
        let both: Vec<Entry> = flash.entries().skip(flash.len() - ram.len()).collect();
        assert!(both == ram.entries().collect::<Vec<_>>());
        ram.connected();
        let ack = Ack { boot: 3, sequence: both[4].sequence };
        assert_eq!(send_all(&mut ram, Duration::ZERO)[0], (3, both[0].sequence));
        assert!(ram.acknowledged(&ack, Duration::ZERO));
        assert_eq!(send_all(&mut ram, Duration::ZERO)[0], (3, both[16].sequence));
        let large = Entry { boot: 4, sequence: 1, ..reports[0].clone() };
        assert_eq!(ram.push(large.clone()), []);
        assert_eq!(ram.entries().last().map(|entry| entry.key()), Some(large.key()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u32),
        Reboot,
        Connect,
        Disconnect,
        Send(usize),
        Refused,
        Ack(u32, u64),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1u32..40).prop_map(Step::Push),
            1 => Just(Step::Reboot),
            2 => Just(Step::Connect),
            1 => Just(Step::Disconnect),
            4 => (1usize..30).prop_map(Step::Send),
            1 => Just(Step::Refused),
            3 => (0u32..4, 0u64..30).prop_map(|(boots_ago, sequence)| Step::Ack(boots_ago, sequence)),
            2 => (0u64..20_000).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        /// Against a model: a report is waiting, acknowledged or lost, and always exactly one of them.
        #[test]
        fn no_report_is_forgotten(steps in steps()) {
            let mut node = node(200);
            let (mut boot, mut sequence, mut now) = (1, 0, Duration::ZERO);
            let mut waiting: Vec<(u32, u64, u32)> = Vec::new();
            let mut lost: BTreeSet<(u32, u64)> = BTreeSet::new();
            let mut under_way: Vec<(u32, u64)> = Vec::new();
            let mut connected = false;
            for step in steps {
                match step {
                    Step::Push(readings) => {
                        sequence += 1;
                        waiting.push((boot, sequence, readings));
                        let gone = node.push(Entry { boot, sequence, readings, payload: Bytes::new() });
                        let before: u64 = waiting.iter().map(|w| u64::from(w.2)).sum();
                        let gone_readings: u64 = gone.iter().map(|lost| lost.readings).sum();
                        for range in gone {
                            for (b, s, _) in waiting.iter().filter(|(b, s, _)| *b == range.boot && (range.first..=range.last).contains(s)) {
                                lost.insert((*b, *s));
                            }
                        }
                        waiting.retain(|(b, s, _)| !lost.contains(&(*b, *s)));
                        prop_assert_eq!(before - gone_readings, waiting.iter().map(|w| u64::from(w.2)).sum::<u64>());
                        under_way.retain(|key| !lost.contains(key));
                    }
                    Step::Reboot => (boot, sequence) = (boot + 1, 0),
                    Step::Connect => {
                        node.connected();
                        connected = true;
                        under_way.clear();
                    }
                    Step::Disconnect => {
                        node.disconnected();
                        connected = false;
                        under_way.clear();
                    }
                    Step::Send(most) => {
                        for _ in 0..most {
                            match node.next_to_send(now) {
                                Some(entry) => under_way.push((entry.boot, entry.sequence)),
                                None => break,
                            }
                        }
                        prop_assert!(connected || under_way.is_empty());
                        prop_assert!(under_way.len() <= WINDOW);
                    }
                    Step::Refused => if under_way.pop().is_some() { node.not_sent() },
                    Step::Ack(boots_ago, up_to) => {
                        let ack = Ack { boot: boot.saturating_sub(boots_ago), sequence: up_to };
                        let covered = |b: u32, s: u64| b == ack.boot && s <= ack.sequence;
                        let news = waiting.iter().any(|(b, s, _)| covered(*b, *s));
                        prop_assert_eq!(node.acknowledged(&ack, now), news);
                        waiting.retain(|(b, s, _)| !covered(*b, *s));
                        under_way.retain(|(b, s)| !covered(*b, *s));
                    }
                    Step::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        let due = node.deadline().is_some_and(|deadline| deadline <= now);
                        prop_assert_eq!(node.overdue(now).is_some(), due);
                        if due {
                            under_way.clear();
                        }
                    }
                }
                let kept: Vec<_> = node.entries().map(|e| (e.boot, e.sequence, e.readings)).collect();
                prop_assert_eq!(&kept, &waiting);
                prop_assert!(waiting.len() <= 1 || waiting.iter().map(|w| w.2).sum::<u32>() <= 200);
                // What is under way is the oldest of what waits, in order.
                let oldest: Vec<_> = waiting.iter().take(under_way.len()).map(|w| (w.0, w.1)).collect();
                prop_assert_eq!(&under_way, &oldest);
                prop_assert_eq!(node.deadline().is_some(), !under_way.is_empty());
            }
        }
    }
}
