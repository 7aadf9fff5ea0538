//! Which batches are new. A batch is known by (station, boot, sequence), and a station sends its batches in order; so the
//! highest sequence of each boot says all.
//!
//! Plain payloads have no sequence: one that comes again is known by its bytes (see [`Recent`]).

use std::collections::{BTreeMap, VecDeque};

use proto::StationId;
use sha2::{Digest as _, Sha256};

/// How many plain payloads of a station are remembered: more than any client has in flight. One that comes again later
/// than that is stored and counted again; its readings still are in their windows once.
const RECENT: usize = 128;

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: store it.
    New,
    /// It is stored: acknowledge it again.
    Known,
}

/// How far each boot of each station is stored.
#[derive(Debug, Default)]
pub struct Progress {
    stored: BTreeMap<(StationId, u32), u64>,
}

impl Progress {
    /// Goes on from what is on disk.
    #[must_use]
    pub const fn new(stored: BTreeMap<(StationId, u32), u64>) -> Self {
        Self { stored }
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
}

/// A plain payload, as it is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    digest: [u8; 32],
    /// The packet id that it came with; 0 with none.
    packet: u16,
    /// Whether all of its readings say their own time.
    timed: bool,
}

impl Sent {
    /// A payload that came as the packet `packet`.
    #[must_use]
    pub fn new(payload: &[u8], packet: u16, timed: bool) -> Self {
        Self { digest: Sha256::digest(payload).into(), packet, timed }
    }
}

/// The plain payloads that each station sent last.
///
/// When every reading says its own time, the same bytes are the same readings. Without a time, two equal payloads are two
/// readings, unless the client itself says that it sends one again: MQTT's DUP flag, with the packet id of the first time.
#[derive(Debug, Default)]
pub struct Recent {
    sent: BTreeMap<StationId, VecDeque<Sent>>,
}

impl Recent {
    /// Whether `station` has sent this before. `again` is the DUP flag.
    #[must_use]
    pub fn holds(&self, station: &StationId, sent: &Sent, again: bool) -> bool {
        let same = |known: &Sent| {
            known.digest == sent.digest && (sent.timed || (again && sent.packet > 0 && known.packet == sent.packet))
        };
        self.sent.get(station).is_some_and(|all| all.iter().any(same))
    }

    /// `station` has sent this.
    pub fn note(&mut self, station: &StationId, sent: Sent) {
        let all = self.sent.entry(station.clone()).or_default();
        if all.len() == RECENT {
            all.pop_front();
        }
        all.push_back(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_payload_is_known_by_its_times_or_by_what_its_client_says() {
        let n1: StationId = "n1".parse().unwrap();
        let mut recent = Recent::default();
        let timed = Sent::new(b"timed", 1, true);
        recent.note(&n1, timed);
        assert!(recent.holds(&n1, &Sent::new(b"timed", 9, true), false), "whatever packet it comes in");
        assert!(!recent.holds(&n1, &Sent::new(b"other", 1, true), true));
        assert!(!recent.holds(&"n2".parse().unwrap(), &timed, true));
        let untimed = Sent::new(b"untimed", 2, false);
        recent.note(&n1, untimed);
        assert!(recent.holds(&n1, &untimed, true));
        assert!(!recent.holds(&n1, &untimed, false), "the same value a moment later is another reading");
        assert!(!recent.holds(&n1, &Sent::new(b"untimed", 3, false), true), "this packet never came");
        for packet in 0..RECENT as u16 {
            recent.note(&n1, Sent::new(b"more", packet, false));
        }
        assert!(!recent.holds(&n1, &timed, true), "the oldest go");
    }

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
}
