//! Counters that only go up, such as a rain gauge's total, as readings of what came since. Pure.
//!
//! The last count of each is kept with the commit that brought it, so that a restart loses nothing between two counts.

use std::collections::BTreeMap;

use proto::Timestamp;

/// How many counters are remembered; of more, the one that was heard longest ago goes, and begins again when it is heard.
pub const MAX_COUNTERS: usize = 4_096;
/// How a counter's key begins.
const KEY: &str = "counter/";

/// What a count says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Counted {
    /// So much came since the count before.
    Since(f64),
    /// It is the first, and says nothing by itself.
    First,
    /// It is smaller than the one before: the sensor began again, and what it shows may have come at any time.
    Restarted,
    /// It is older than the last one, which holds what it would say.
    Late,
}

/// What is to be kept of a counter, by key; none to forget it.
pub type Kept = (String, Option<Vec<u8>>);

/// The counters of a source, by station and name.
#[derive(Debug, Default)]
pub struct Counters {
    known: BTreeMap<String, Last>,
    turn: u64,
}

/// The last count.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Last {
    time: Timestamp,
    count: f64,
    said: Counted,
    heard: u64,
}

impl Counters {
    /// Takes a count, and says what is to be kept. The last count of the same time again says what it said before, and
    /// changes nothing.
    pub fn take(&mut self, station: &str, name: &str, time: Timestamp, count: f64) -> (Counted, Vec<Kept>) {
        self.turn += 1;
        let key = format!("{KEY}{station}/{name}");
        let said = match self.known.get_mut(&key) {
            None => Counted::First,
            Some(last) => {
                last.heard = self.turn;
                if last.time == time && last.count == count {
                    return (last.said, Vec::new());
                }
                if last.time >= time {
                    return (Counted::Late, Vec::new());
                }
                if last.count > count { Counted::Restarted } else { Counted::Since(count - last.count) }
            }
        };
        let mut kept = Vec::new();
        if said == Counted::First && self.known.len() >= MAX_COUNTERS {
            let oldest = self.known.iter().min_by_key(|(_, last)| last.heard).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.known.remove(&oldest);
                kept.push((oldest, None));
            }
        }
        let last = Last { time, count, said, heard: self.turn };
        kept.push((key.clone(), Some(last.encode())));
        self.known.insert(key, last);
        (said, kept)
    }

    /// Takes up a counter that was kept. What is none is passed over.
    pub fn restore(&mut self, key: &str, body: &[u8]) {
        if let (true, Some(last)) = (key.starts_with(KEY) && self.known.len() < MAX_COUNTERS, Last::decode(body)) {
            self.known.insert(key.to_owned(), last);
        }
    }
}

impl Last {
    /// Time, count, and what it said, in 8 bytes each.
    fn encode(&self) -> Vec<u8> {
        let said = match self.said {
            Counted::Since(count) => count,
            Counted::Restarted => -1.0,
            Counted::First | Counted::Late => -2.0,
        };
        [self.time.as_millis().to_le_bytes(), self.count.to_le_bytes(), said.to_le_bytes()].concat()
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let word = |at: usize| -> Option<[u8; 8]> { body.get(at..at + 8)?.try_into().ok() };
        let time = Timestamp::from_millis(i64::from_le_bytes(word(0)?));
        let count = f64::from_le_bytes(word(8)?);
        let said = match f64::from_le_bytes(word(16)?) {
            -1.0 => Counted::Restarted,
            since if since >= 0.0 => Counted::Since(since),
            _ => Counted::First,
        };
        (body.len() == 24 && count.is_finite()).then_some(Self { time, count, said, heard: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_counter_says_what_came_since_also_when_it_is_told_again() {
        let mut counters = Counters::default();
        let mut take = |secs, count| counters.take("n1", "rain", at(secs), count).0;
        assert_eq!(take(0, 10.0), Counted::First);
        assert_eq!(take(60, 10.0), Counted::Since(0.0));
        assert_eq!(take(120, 12.5), Counted::Since(2.5));
        assert_eq!(take(120, 12.5), Counted::Since(2.5), "the same message again");
        assert_eq!(take(90, 11.0), Counted::Late, "the one after it has counted it");
        assert_eq!(take(180, 0.5), Counted::Restarted);
        assert_eq!(take(240, 0.75), Counted::Since(0.25));
        assert_eq!(counters.take("n2", "rain", at(300), 99.0).0, Counted::First);
    }

    #[test]
    fn what_is_kept_goes_on_after_a_restart() {
        let mut before = Counters::default();
        before.take("n1", "rain", at(0), 10.0);
        let (said, kept) = before.take("n1", "rain", at(60), 12.5);
        let mut after = Counters::default();
        for (key, body) in kept {
            after.restore(&key, &body.unwrap());
        }
        after.restore("counter/n2/rain", b"nonsense");
        assert_eq!(after.take("n1", "rain", at(60), 12.5), (said, Vec::new()), "told again");
        assert_eq!(after.take("n1", "rain", at(120), 13.0).0, Counted::Since(0.5));
        assert_eq!(after.take("n2", "rain", at(120), 13.0).0, Counted::First);
    }

    #[test]
    fn the_one_heard_longest_ago_is_forgotten_first() {
        let mut counters = Counters::default();
        for i in 0..MAX_COUNTERS {
            counters.take(&format!("n{i}"), "rain", at(0), 1.0);
        }
        counters.take("n0", "rain", at(0), 1.0);
        let (_, kept) = counters.take("another", "rain", at(0), 1.0);
        assert_eq!(kept[0], ("counter/n1/rain".to_owned(), None));
        assert_eq!(counters.known.len(), MAX_COUNTERS);
        assert_eq!(counters.take("n0", "rain", at(60), 2.0).0, Counted::Since(1.0));
    }
}
