//! A node's memory of readings: a ring of fixed arrays, cut into reports.
//!
//! A reading takes nine bytes (channel, milliseconds after its report's first reading, fixed-point value), whatever its
//! value: so the room is a number and no hope. A report leaves when its acknowledgement covers it, or when room is needed and
//! it is the oldest; then it is counted.

use crate::delivery::Reports;

/// One channel's value at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The index of the channel among the node's.
    pub channel: u8,
    /// Unix time by the node's clock, ms.
    pub time_ms: i64,
    /// The value as an integer of the channel's last decimal.
    pub value: i32,
}

/// What a report is known by, here and at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The node's start in which it was made.
    pub boot: u32,
    /// Its number in that start, from 1.
    pub sequence: u64,
}

impl Key {
    /// That of the first report of a start.
    #[must_use]
    pub const fn first_of(boot: u32) -> Self {
        Self { boot, sequence: 1 }
    }

    /// That of the report after it, in the same start.
    #[must_use]
    pub const fn following(self) -> Self {
        Self { boot: self.boot, sequence: self.sequence + 1 }
    }

    /// Whether an acknowledgement of everything of a boot up to a sequence is one of this report.
    #[must_use]
    pub fn is_covered_by(self, up_to: Self) -> bool {
        self.boot == up_to.boot && self.sequence <= up_to.sequence
    }
}

/// What had to go for something newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The report; none for a reading that was in none yet.
    pub key: Option<Key>,
    /// How many readings were in it.
    pub readings: u16,
}

/// The reading's time is more than 24 days from the first one of its report: the report must be sealed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFar;

/// There is nothing that could become a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nothing;

/// What an acknowledgement has freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// Reports.
    pub reports: usize,
    /// Those of them that were under way.
    pub under_way: usize,
}

/// Up to `READINGS` readings in up to `REPORTS` sealed reports and an open one.
#[derive(Debug, Clone)]
pub struct Ring<const READINGS: usize, const REPORTS: usize> {
    channels: [u8; READINGS],
    after_ms: [i32; READINGS],
    values: [i32; READINGS],
    /// Where the oldest reading is.
    first: usize,
    /// All readings, the open report's too.
    used: usize,
    boots: [u32; REPORTS],
    sequences: [u64; REPORTS],
    bases_ms: [i64; REPORTS],
    counts: [u16; REPORTS],
    first_report: usize,
    reports: usize,
    /// Readings of the open report, the newest.
    open: usize,
    open_base_ms: i64,
    lost_readings: u64,
}

impl<const READINGS: usize, const REPORTS: usize> Default for Ring<READINGS, REPORTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const READINGS: usize, const REPORTS: usize> Reports for Ring<READINGS, REPORTS> {
    fn waiting(&self) -> usize {
        self.reports
    }

    fn acknowledge(&mut self, up_to: Key, under_way: usize) -> Freed {
        let covered = |ring: &Self, index: usize| ring.key(index).is_some_and(|key| key.is_covered_by(up_to));
        let count = |upper: usize| (0..upper).filter(|index| covered(self, *index)).count();
        let freed = Freed { reports: count(self.reports), under_way: count(under_way.min(self.reports)) };
        let mut left = freed.reports;
        while left > 0 && covered(self, 0) {
            self.pop();
            left -= 1;
        }
        if left > 0 {
            // Behind reports of an earlier boot that still wait.
            self.retain(|key| !key.is_covered_by(up_to));
        }
        freed
    }
}

impl<const READINGS: usize, const REPORTS: usize> Ring<READINGS, REPORTS> {
    const FITS: () = assert!(READINGS >= 1 && READINGS <= u16::MAX as usize && REPORTS >= 1);

    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::FITS;
        Self {
            channels: [0; READINGS],
            after_ms: [0; READINGS],
            values: [0; READINGS],
            first: 0,
            used: 0,
            boots: [0; REPORTS],
            sequences: [0; REPORTS],
            bases_ms: [0; REPORTS],
            counts: [0; REPORTS],
            first_report: 0,
            reports: 0,
            open: 0,
            open_base_ms: 0,
            lost_readings: 0,
        }
    }

    /// Keeps a reading in the open report. What is given back had to go for it.
    ///
    /// # Errors
    /// When the open report cannot hold its time; nothing is changed then.
    pub fn push(&mut self, reading: Reading) -> Result<Option<Gone>, TooFar> {
        let mut after_ms = 0;
        if self.open > 0 {
            let after = reading.time_ms.checked_sub(self.open_base_ms).ok_or(TooFar)?;
            after_ms = i32::try_from(after).map_err(|_| TooFar)?;
        }
        let gone = (self.used == READINGS).then(|| self.drop_oldest());
        if self.open == 0 {
            self.open_base_ms = reading.time_ms;
            after_ms = 0;
        }
        let at = self.at(self.used);
        self.channels[at] = reading.channel;
        self.after_ms[at] = after_ms;
        self.values[at] = reading.value;
        self.used += 1;
        self.open += 1;
        Ok(gone)
    }

    /// Makes the open report one that can be sent. What is given back had to go for it.
    ///
    /// # Errors
    /// When there is no reading in it.
    pub fn seal(&mut self, key: Key) -> Result<Option<Gone>, Nothing> {
        if self.open == 0 {
            return Err(Nothing);
        }
        let gone = (self.reports == REPORTS).then(|| self.drop_oldest());
        let at = self.report_at(self.reports);
        self.boots[at] = key.boot;
        self.sequences[at] = key.sequence;
        self.bases_ms[at] = self.open_base_ms;
        self.counts[at] = self.open as u16;
        self.reports += 1;
        self.open = 0;
        Ok(gone)
    }

    /// The sealed report at an index, the oldest first, and its readings in the order in which they came.
    #[must_use]
    pub fn report(&self, index: usize) -> Option<(Key, impl Iterator<Item = Reading> + '_)> {
        let key = self.key(index)?;
        let begin: usize = (0..index).map(|before| usize::from(self.counts[self.report_at(before)])).sum();
        let at = self.report_at(index);
        let base_ms = self.bases_ms[at];
        let end = begin + usize::from(self.counts[at]);
        Some((key, (begin..end).map(move |offset| self.reading(offset, base_ms))))
    }

    /// The readings that are in no report yet.
    pub fn open(&self) -> impl Iterator<Item = Reading> + '_ {
        (self.used - self.open..self.used).map(|offset| self.reading(offset, self.open_base_ms))
    }

    /// What the sealed report at an index is known by.
    #[must_use]
    pub fn key(&self, index: usize) -> Option<Key> {
        let at = self.report_at(index);
        (index < self.reports).then(|| Key { boot: self.boots[at], sequence: self.sequences[at] })
    }

    /// How many sealed reports there are.
    #[must_use]
    pub fn reports(&self) -> usize {
        self.reports
    }

    /// How many readings there are, with the open report's.
    #[must_use]
    pub fn readings(&self) -> usize {
        self.used
    }

    /// How many readings have gone for newer ones since the start.
    #[must_use]
    pub fn lost_readings(&self) -> u64 {
        self.lost_readings
    }

    fn at(&self, offset: usize) -> usize {
        (self.first + offset) % READINGS
    }

    fn report_at(&self, index: usize) -> usize {
        (self.first_report + index) % REPORTS
    }

    fn reading(&self, offset: usize, base_ms: i64) -> Reading {
        let at = self.at(offset);
        Reading { channel: self.channels[at], time_ms: base_ms + i64::from(self.after_ms[at]), value: self.values[at] }
    }

    /// Takes the oldest sealed report away, or, where there is none, the oldest reading.
    fn drop_oldest(&mut self) -> Gone {
        let gone = match self.key(0) {
            Some(key) => Gone { key: Some(key), readings: self.pop() },
            None => {
                self.first = self.at(1);
                self.used -= 1;
                self.open -= 1;
                Gone { key: None, readings: 1 }
            }
        };
        self.lost_readings += u64::from(gone.readings);
        gone
    }

    /// Takes the oldest sealed report, which there is, away, and says how many readings were in it.
    fn pop(&mut self) -> u16 {
        let readings = self.counts[self.first_report];
        self.first = self.at(usize::from(readings));
        self.used -= usize::from(readings);
        self.first_report = self.report_at(1);
        self.reports -= 1;
        readings
    }

    /// Keeps only some of the sealed reports, and moves what is behind the others up.
    fn retain(&mut self, keep: impl Fn(Key) -> bool) {
        let (mut from, mut to, mut kept) = (0, 0, 0);
        for index in 0..self.reports {
            let at = self.report_at(index);
            let count = usize::from(self.counts[at]);
            if self.key(index).is_some_and(&keep) {
                self.shift(from, to, count);
                let target = self.report_at(kept);
                self.boots[target] = self.boots[at];
                self.sequences[target] = self.sequences[at];
                self.bases_ms[target] = self.bases_ms[at];
                self.counts[target] = self.counts[at];
                kept += 1;
                to += count;
            }
            from += count;
        }
        self.shift(from, to, self.open);
        self.reports = kept;
        self.used = to + self.open;
    }

    fn shift(&mut self, from: usize, to: usize, count: usize) {
        if from == to {
            return;
        }
        for n in 0..count {
            let (source, target) = (self.at(from + n), self.at(to + n));
            self.channels[target] = self.channels[source];
            self.after_ms[target] = self.after_ms[source];
            self.values[target] = self.values[source];
        }
    }
}
