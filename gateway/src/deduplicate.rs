//! Which batches are new. A batch is known by (station, boot, sequence), and a station sends its batches in order; so the
//! highest sequence of each boot says all.
//!
//! Plain payloads have no sequence: one that comes again is known by its bytes (see [`Recent`]).

use std::collections::{HashMap, VecDeque};

use proto::{Batch, StationId, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::room::push;

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

/// How many boots of a station are remembered: batches of older ones would be stored again.
pub const BOOTS_KEPT: usize = 8;
/// How many commits the table may be behind before a row is written.
const WRITE_AFTER: u64 = 1_200;
/// The most rows that are written with one commit.
const WRITE_AT_ONCE: usize = 500;

/// How far one boot of a station is taken in.
#[derive(Debug, Clone, Copy)]
struct Boot {
    boot: u32,
    sequence: u64,
    /// It waits in [`Progress::unwritten`].
    waits: bool,
    /// The last group with a batch of it.
    group: u64,
}

/// A row of the table of progress that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The station.
    pub station: StationId,
    /// Its boot.
    pub boot: u32,
    /// The highest sequence.
    pub sequence: u64,
}

/// The rows that are due with a commit, and from which commit on the raw store knows more than the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// The rows.
    pub rows: Vec<Row>,
    /// All before this commit is in the table.
    pub from: u64,
}

/// How far each boot of each station is taken in.
///
/// What is taken in is in the raw store, which says so by itself. So the table need not follow at once: a row is written when
/// it has been behind for [`WRITE_AFTER`] commits, and after a restart the raw store's last commits tell the rest.
#[derive(Debug, Default)]
pub struct Progress {
    /// The boots of a station, the last one that was heard of at the end.
    stations: HashMap<StationId, Vec<Boot>>,
    /// What the table does not know yet, with the first commit of it.
    unwritten: VecDeque<(StationId, u32, u64)>,
}

impl Progress {
    /// Goes on from what is on disk: the rows of the table, those last that were heard of last, and the batches that the raw
    /// store has beside, each with its commit.
    #[must_use]
    pub fn new(table: impl IntoIterator<Item = Row>, beside: impl IntoIterator<Item = (Row, u64)>) -> Self {
        let mut progress = Self::default();
        for Row { station, boot, sequence } in table {
            known(&mut progress.stations, &station, boot).sequence = sequence;
        }
        for (Row { station, boot, sequence }, commit) in beside {
            let Self { stations, unwritten } = &mut progress;
            known(stations, &station, boot).take_in(&station, sequence, commit, unwritten);
        }
        progress
    }

    /// Takes in a batch of `group`, to be stored by `commit`, unless it is known. True beside it for the first of its boot in
    /// that group; groups count from 1. One that is not stored must not be followed by another: its batches would be taken
    /// for stored.
    pub fn take(
        &mut self,
        station: &StationId,
        Batch { boot, sequence, .. }: &Batch,
        group: u64,
        commit: u64,
    ) -> (Verdict, bool) {
        let Self { stations, unwritten } = self;
        let known = known(stations, station, *boot);
        let first = std::mem::replace(&mut known.group, group) != group;
        if *sequence <= known.sequence {
            return (Verdict::Known, first);
        }
        known.take_in(station, *sequence, commit, unwritten);
        (Verdict::New, first)
    }

    /// The highest sequence of a boot that is taken in.
    #[must_use]
    pub fn highest(&self, station: &StationId, boot: u32) -> Option<u64> {
        self.stations.get(station)?.iter().find(|known| known.boot == boot).map(|known| known.sequence)
    }

    /// The rows that are to be written with `commit`; none when none is due.
    pub fn due(&mut self, commit: u64) -> Option<Due> {
        let mut rows = Vec::new();
        while rows.len() < WRITE_AT_ONCE
            && let Some((station, boot, _)) = self.unwritten.pop_front_if(|(.., since)| *since + WRITE_AFTER <= commit)
        {
            let known = self.stations.get_mut(&station).and_then(|all| all.iter_mut().find(|known| known.boot == boot));
            // One that is forgotten meanwhile is none of the newest.
            if let Some(known) = known {
                known.waits = false;
                rows.push(Row { station, boot, sequence: known.sequence });
            }
        }
        (!rows.is_empty()).then(|| Due { rows, from: self.unwritten_from().unwrap_or(commit + 1) })
    }

    /// The oldest commit of which the table does not know.
    #[must_use]
    pub fn unwritten_from(&self) -> Option<u64> {
        self.unwritten.front().map(|(.., since)| *since)
    }
}

/// A boot of a station, which is now the last that was heard of.
fn known<'a>(stations: &'a mut HashMap<StationId, Vec<Boot>>, station: &StationId, boot: u32) -> &'a mut Boot {
    let boots = stations.entry(station.clone()).or_default();
    match boots.iter().position(|known| known.boot == boot) {
        Some(at) => boots[at..].rotate_left(1),
        None => {
            if boots.len() >= BOOTS_KEPT {
                boots.remove(0);
            }
            boots.push(Boot { boot, sequence: 0, waits: false, group: 0 });
        }
    }
    let last = boots.len() - 1;
    &mut boots[last]
}

impl Boot {
    fn take_in(
        &mut self,
        station: &StationId,
        sequence: u64,
        commit: u64,
        unwritten: &mut VecDeque<(StationId, u32, u64)>,
    ) {
        self.sequence = sequence.max(self.sequence);
        if !std::mem::replace(&mut self.waits, true) {
            unwritten.push_back((station.clone(), self.boot, commit));
        }
    }
}

/// A plain payload, as it is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The first half of its SHA-256.
    digest: [u8; 16],
    /// The packet id that it came with; 0 with none.
    packet: u16,
    /// The newest time in it, if all of its readings say their own.
    newest: Option<Timestamp>,
}

impl Sent {
    /// A payload that came as the packet `packet`. `newest` is the newest time in it, if all of its readings say their own.
    #[must_use]
    pub fn new(payload: &[u8], packet: u16, newest: Option<Timestamp>) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(payload)[..16]);
        Self { digest, packet, newest }
    }
}

/// The plain payloads that each station sent last.
///
/// When every reading says its own time, the same bytes are the same readings. Without a time, two equal payloads are two
/// readings, unless the client itself says that it sends one again: MQTT's DUP flag, with the packet id of the first time.
#[derive(Debug, Default)]
pub struct Recent {
    stations: HashMap<StationId, Payloads>,
}

/// Those of one station.
#[derive(Debug)]
struct Payloads {
    /// The newest time in any of them, also of those that are forgotten.
    newest: Timestamp,
    /// Digest and packet id of the last ones.
    last: VecDeque<([u8; 16], u16)>,
}

impl Recent {
    /// Whether `station` has sent this before. `again` is the DUP flag.
    #[must_use]
    pub fn holds(&self, station: &StationId, sent: &Sent, again: bool) -> bool {
        let Some(Payloads { newest, last }) = self.stations.get(station) else { return false };
        match sent.newest {
            // Mostly it is newer than all before it; then these need not be looked at.
            Some(own) => own <= *newest && last.iter().any(|(digest, _)| *digest == sent.digest),
            None => again && sent.packet > 0 && last.contains(&(sent.digest, sent.packet)),
        }
    }

    /// `station` has sent this.
    pub fn note(&mut self, station: &StationId, sent: Sent) {
        let none = || Payloads { newest: Timestamp::MIN, last: VecDeque::new() };
        let Payloads { newest, last } = self.stations.entry(station.clone()).or_insert_with(none);
        *newest = sent.newest.map_or(*newest, |own| own.max(*newest));
        if last.len() == RECENT {
            last.pop_front();
        }
        push(last, (sent.digest, sent.packet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_payload_is_known_by_its_times_or_by_what_its_client_says() {
        let n1: StationId = "n1".parse().unwrap();
        let at = |second| Some(Timestamp::from_secs(second));
        let mut recent = Recent::default();
        let timed = Sent::new(b"timed", 1, at(60));
        recent.note(&n1, timed);
        assert!(recent.holds(&n1, &Sent::new(b"timed", 9, at(60)), false), "whatever packet it comes in");
        assert!(!recent.holds(&n1, &Sent::new(b"other", 1, at(60)), true));
        assert!(!recent.holds(&"n2".parse().unwrap(), &timed, true));
        recent.note(&n1, Sent::new(b"newer", 3, at(120)));
        recent.note(&n1, Sent::new(b"older", 4, at(0)));
        assert!(recent.holds(&n1, &timed, false), "whatever came since");
        assert!(recent.holds(&n1, &Sent::new(b"newer", 5, at(120)), false));
        assert!(!recent.holds(&n1, &Sent::new(b"newest", 6, at(180)), false));
        let nothing = Sent::new(b"{}", 7, Some(Timestamp::MIN));
        recent.note(&n1, nothing);
        assert!(recent.holds(&n1, &nothing, false), "without a reading, too");
        let untimed = Sent::new(b"untimed", 2, None);
        recent.note(&n1, untimed);
        assert!(recent.holds(&n1, &untimed, true));
        assert!(!recent.holds(&n1, &untimed, false), "the same value a moment later is another reading");
        assert!(!recent.holds(&n1, &Sent::new(b"untimed", 3, None), true), "this packet never came");
        for packet in 0..RECENT as u16 {
            recent.note(&n1, Sent::new(b"more", packet, None));
        }
        assert!(!recent.holds(&n1, &timed, true), "the oldest go");
    }

    fn batch(boot: u32, sequence: u64) -> Batch {
        Batch { boot, sequence, readings: Vec::new() }
    }

    #[test]
    fn a_batch_is_new_once() {
        let n1: StationId = "n1".parse().unwrap();
        let mut progress = Progress::new([Row { station: n1.clone(), boot: 3, sequence: 7 }], []);
        assert_eq!(progress.take(&n1, &batch(3, 7), 1, 10), (Verdict::Known, true));
        assert_eq!(progress.take(&n1, &batch(3, 8), 1, 10), (Verdict::New, false));
        assert_eq!(progress.take(&n1, &batch(3, 8), 1, 10), (Verdict::Known, false), "in this very group");
        assert_eq!(progress.take(&n1, &batch(4, 1), 2, 11), (Verdict::New, true), "another boot counts anew");
        assert_eq!((progress.highest(&n1, 3), progress.highest(&n1, 4)), (Some(8), Some(1)));
        for boot in 5..=11 {
            progress.take(&n1, &batch(boot, 1), 3, 12);
        }
        assert_eq!(progress.highest(&n1, 3), None, "the boot that was heard of least lately is forgotten");
        assert_eq!(progress.highest(&n1, 4), Some(1));
    }

    #[test]
    fn the_table_follows_and_says_from_where_the_raw_store_knows_more() {
        let (n1, n2): (StationId, StationId) = ("n1".parse().unwrap(), "n2".parse().unwrap());
        let mut progress = Progress::default();
        progress.take(&n1, &batch(1, 1), 1, 1);
        progress.take(&n2, &batch(1, 1), 2, 5);
        progress.take(&n1, &batch(1, 2), 3, 6);
        assert_eq!(progress.unwritten_from(), Some(1));
        assert_eq!(progress.due(WRITE_AFTER), None);
        let row = |station: &StationId, sequence| Row { station: station.clone(), boot: 1, sequence };
        assert_eq!(progress.due(WRITE_AFTER + 4), Some(Due { rows: vec![row(&n1, 2)], from: 5 }));
        assert_eq!(progress.due(WRITE_AFTER + 5), Some(Due { rows: vec![row(&n2, 1)], from: WRITE_AFTER + 6 }));
        progress.take(&n1, &batch(1, 3), 4, 7_000);
        assert_eq!(progress.unwritten_from(), Some(7_000), "it is behind again");

        let mut again = Progress::new([row(&n1, 2)], [(row(&n2, 1), 5), (row(&n2, 2), 9), (row(&n1, 3), 7)]);
        assert_eq!((again.unwritten_from(), again.highest(&n1, 1)), (Some(5), Some(3)));
        let due = Due { rows: vec![row(&n2, 2), row(&n1, 3)], from: WRITE_AFTER + 11 };
        assert_eq!(again.due(WRITE_AFTER + 10), Some(due), "after a restart, too");
    }
}
