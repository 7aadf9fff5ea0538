//! Where a node's reports lie until they are acknowledged: in the flash behind its controller, or in the controller's own
//! memory, which is the firmware's ring.

use std::collections::VecDeque;

use bytes::Bytes;
use firmware::delivery::Reports;
use firmware::ring::{Freed, Gone, Key, Reading as Small, Ring};
use proto::{Batch, Channel, Reading, Timestamp};

use super::{Entry, Lost};

/// What had to go for a report.
#[derive(Debug, Default)]
pub(super) struct Overflow {
    /// By runs of sequences.
    pub lost: Vec<Lost>,
    /// How many whole reports.
    pub reports: usize,
}

impl Overflow {
    fn add(&mut self, key: Key, readings: u64) {
        match self.lost.last_mut() {
            Some(last) if last.boot == key.boot => {
                last.last = key.sequence;
                last.readings += readings;
            }
            _ => self.lost.push(Lost { boot: key.boot, first: key.sequence, last: key.sequence, readings }),
        }
    }
}

/// A node's memory of reports, the oldest first.
#[derive(Debug)]
pub(super) enum Memory {
    Flash(Flash),
    Ram(Box<Ram>),
}

impl Memory {
    pub fn push(&mut self, entry: Entry) -> Overflow {
        match self {
            Self::Flash(flash) => flash.push(entry),
            Self::Ram(ram) => ram.push(&entry),
        }
    }

    pub fn entry(&self, index: usize) -> Option<Entry> {
        match self {
            Self::Flash(flash) => flash.ring.get(index).cloned(),
            Self::Ram(ram) => ram.entry(index),
        }
    }
}

impl Reports for Memory {
    fn waiting(&self) -> usize {
        match self {
            Self::Flash(flash) => flash.ring.len(),
            Self::Ram(ram) => ram.ring.waiting(),
        }
    }

    fn acknowledge(&mut self, up_to: Key, under_way: usize) -> Freed {
        match self {
            Self::Flash(flash) => flash.acknowledge(up_to, under_way),
            Self::Ram(ram) => ram.ring.acknowledge(up_to, under_way),
        }
    }
}

/// Encoded reports, up to a number of readings.
#[derive(Debug)]
pub(super) struct Flash {
    ring: VecDeque<Entry>,
    /// Sum of the readings in the ring.
    readings: u64,
    capacity: u64,
}

impl Flash {
    pub fn new(capacity: u32) -> Self {
        Self { ring: VecDeque::new(), readings: 0, capacity: u64::from(capacity) }
    }

    fn push(&mut self, entry: Entry) -> Overflow {
        self.readings += u64::from(entry.readings);
        self.ring.push_back(entry);
        let mut overflow = Overflow::default();
        while self.readings > self.capacity && self.ring.len() > 1 {
            let Some(oldest) = self.pop() else { break };
            overflow.add(oldest.key(), u64::from(oldest.readings));
            overflow.reports += 1;
        }
        overflow
    }

    fn acknowledge(&mut self, up_to: Key, under_way: usize) -> Freed {
        let covered = |entry: &Entry| entry.key().is_covered_by(up_to);
        let before = self.ring.len();
        let under_way = self.ring.iter().take(under_way).filter(|entry| covered(entry)).count();
        while self.ring.front().is_some_and(covered) {
            self.pop();
        }
        // Behind reports of an earlier boot that are still waiting.
        if self.ring.iter().any(covered) {
            self.ring.retain(|entry| !covered(entry));
            self.readings = self.ring.iter().map(|entry| u64::from(entry.readings)).sum();
        }
        Freed { reports: before - self.ring.len(), under_way }
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.ring.pop_front()?;
        self.readings -= u64::from(entry.readings);
        Some(entry)
    }
}

/// The firmware's ring, as large as that of [`firmware::FieldNode`]. A report is encoded anew each time that it is sent.
#[derive(Debug, Default)]
pub(super) struct Ram {
    /// By the index that a channel has in the ring.
    channels: Vec<Channel>,
    ring: Ring<2000, 192>,
}

impl Ram {
    fn push(&mut self, entry: &Entry) -> Overflow {
        let mut overflow = Overflow::default();
        let Ok(batch) = Batch::decode(&entry.payload) else {
            overflow.add(entry.key(), u64::from(entry.readings));
            return overflow;
        };
        for reading in &batch.readings {
            let small = self.small(reading);
            match self.ring.push(small) {
                Ok(gone) => overflow.note(gone, entry.key()),
                // A report never spans so long a time, but it would be counted.
                Err(_) => overflow.add(entry.key(), 1),
            }
        }
        if let Ok(gone) = self.ring.seal(entry.key()) {
            overflow.note(gone, entry.key());
        }
        overflow
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let (key, readings) = self.ring.report(index)?;
        let readings = readings.map(|small| self.large(small)).collect::<Option<Vec<_>>>()?;
        let count = readings.len() as u32;
        let payload = Batch { boot: key.boot, sequence: key.sequence, readings }.encode().ok()?;
        Some(Entry { boot: key.boot, sequence: key.sequence, readings: count, payload: Bytes::from(payload) })
    }

    /// The reading in nine bytes. A value that no sensor can have is held at the largest that there is room for.
    fn small(&mut self, reading: &Reading) -> Small {
        let known = self.channels.iter().position(|channel| *channel == reading.channel);
        let channel = known.unwrap_or_else(|| {
            self.channels.push(reading.channel);
            self.channels.len() - 1
        });
        let integer = (reading.value * per_unit(reading.channel)).round();
        Small { channel: channel as u8, time_ms: reading.time.as_millis(), value: integer as i32 }
    }

    fn large(&self, small: Small) -> Option<Reading> {
        let channel = *self.channels.get(usize::from(small.channel))?;
        let value = f64::from(small.value) / per_unit(channel);
        Some(Reading { channel, time: Timestamp::from_millis(small.time_ms), value })
    }
}

impl Overflow {
    /// Notes what the ring lost; a reading that was in no report yet is one of the report that is made.
    fn note(&mut self, gone: Option<Gone>, made: Key) {
        if let Some(gone) = gone {
            self.reports += usize::from(gone.key.is_some());
            self.add(gone.key.unwrap_or(made), u64::from(gone.readings));
        }
    }
}

fn per_unit(channel: Channel) -> f64 {
    10f64.powi(i32::from(channel.quantity.wire_decimals()))
}
