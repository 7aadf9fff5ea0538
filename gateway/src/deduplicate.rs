//! Which batches are new. A batch is known by (station, boot, sequence), and a station sends its batches in order; so the
//! highest sequence of each boot says all.
//!
//! When a group could not be stored, its stations' later batches may already be on their way. To store one of those would
//! acknowledge what was lost. So such a station is not listened to until it has connected again (which its birth
//! tells) and sends everything from the start.

use std::collections::{BTreeMap, BTreeSet};

use proto::StationId;

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: store it.
    New,
    /// It is stored: acknowledge it again.
    Known,
    /// Something before it was lost on the way to the disk: do not store it, the station will send again.
    AfterALoss,
}

/// How far each boot of each station is stored.
#[derive(Debug, Default)]
pub struct Progress {
    stored: BTreeMap<(StationId, u32), u64>,
    lost: BTreeSet<StationId>,
}

impl Progress {
    /// Goes on from what is on disk.
    #[must_use]
    pub fn new(stored: BTreeMap<(StationId, u32), u64>) -> Self {
        Self { stored, lost: BTreeSet::new() }
    }

    /// Judges a batch against what is on disk and what `group` is about to bring there.
    #[must_use]
    pub fn judge(
        &self,
        group: &BTreeMap<(StationId, u32), u64>,
        station: &StationId,
        boot: u32,
        sequence: u64,
    ) -> Verdict {
        if self.lost.contains(station) {
            return Verdict::AfterALoss;
        }
        let key = (station.clone(), boot);
        let highest = group.get(&key).or_else(|| self.stored.get(&key)).copied().unwrap_or(0);
        if sequence <= highest { Verdict::Known } else { Verdict::New }
    }

    /// The highest sequence of a boot on disk.
    #[must_use]
    pub fn highest(&self, station: &StationId, boot: u32) -> Option<u64> {
        self.stored.get(&(station.clone(), boot)).copied()
    }

    /// A group is on disk.
    pub fn stored(&mut self, group: BTreeMap<(StationId, u32), u64>) {
        self.stored.extend(group);
    }

    /// A group with something of `station` could not be stored.
    pub fn lost(&mut self, station: StationId) {
        self.lost.insert(station);
    }

    /// `station` has connected again.
    pub fn connected(&mut self, station: &StationId) {
        self.lost.remove(station);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_new_once() {
        let n1: StationId = "n1".parse().unwrap();
        let mut progress = Progress::new([((n1.clone(), 3), 7)].into());
        let none = BTreeMap::new();
        assert_eq!(progress.judge(&none, &n1, 3, 7), Verdict::Known);
        assert_eq!(progress.judge(&none, &n1, 3, 8), Verdict::New);
        assert_eq!(progress.judge(&none, &n1, 4, 1), Verdict::New, "another boot counts anew");
        let group: BTreeMap<_, _> = [((n1.clone(), 3), 8)].into();
        assert_eq!(progress.judge(&group, &n1, 3, 8), Verdict::Known, "in this very group");
        progress.stored(group);
        assert_eq!(progress.highest(&n1, 3), Some(8));
    }

    #[test]
    fn after_a_loss_nothing_is_taken_until_the_station_is_back() {
        let n1: StationId = "n1".parse().unwrap();
        let mut progress = Progress::default();
        progress.lost(n1.clone());
        assert_eq!(progress.judge(&BTreeMap::new(), &n1, 1, 2), Verdict::AfterALoss);
        progress.connected(&n1);
        assert_eq!(progress.judge(&BTreeMap::new(), &n1, 1, 1), Verdict::New);
    }
}
