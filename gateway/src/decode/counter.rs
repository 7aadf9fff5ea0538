//! Counters that only go up, such as a rain gauge's total, as readings of what came since. Pure.

use std::collections::{BTreeMap, VecDeque};

use proto::Timestamp;

/// How many counters are remembered; of more, the one that was heard longest ago goes.
pub const MAX_COUNTERS: usize = 1_024;
/// How many counts of one counter are remembered, so that a message that comes again is read as the first time.
pub const REMEMBERED: usize = 256;

/// What a count says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Counted {
    /// So much came since the count before.
    Since(f64),
    /// It is the first, and says nothing by itself.
    First,
    /// It is smaller than the one before: the sensor began again, and what it shows may have come at any time.
    Restarted,
    /// It is older than one that was counted already, which holds what it would say.
    Late,
}

/// The counters of a source, by station and name.
#[derive(Debug, Default)]
pub struct Counters {
    known: BTreeMap<(String, String), Series>,
    turn: u64,
}

#[derive(Debug, Default)]
struct Series {
    /// By time, the newest last, each with what it said.
    counts: VecDeque<(Timestamp, f64, Counted)>,
    heard: u64,
}

impl Counters {
    /// Takes a count. The same count of the same time again says what it said before.
    pub fn take(&mut self, station: &str, name: &str, time: Timestamp, count: f64) -> Counted {
        self.turn += 1;
        let key = (station.to_owned(), name.to_owned());
        if !self.known.contains_key(&key) && self.known.len() >= MAX_COUNTERS {
            let oldest = self.known.iter().min_by_key(|(_, series)| series.heard).map(|(key, _)| key.clone());
            oldest.map(|key| self.known.remove(&key));
        }
        let series = self.known.entry(key).or_default();
        series.heard = self.turn;
        series.take(time, count)
    }
}

impl Series {
    fn take(&mut self, time: Timestamp, count: f64) -> Counted {
        let again = self.counts.iter().find(|(at, value, _)| *at == time && *value == count);
        if let Some((_, _, said)) = again {
            return *said;
        }
        let said = match self.counts.back() {
            None => Counted::First,
            Some((newest, _, _)) if *newest >= time => return Counted::Late,
            Some((_, before, _)) if *before > count => Counted::Restarted,
            Some((_, before, _)) => Counted::Since(count - before),
        };
        if self.counts.len() == REMEMBERED {
            self.counts.pop_front();
        }
        self.counts.push_back((time, count, said));
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_says_what_came_since_also_when_it_is_told_again() {
        let mut counters = Counters::default();
        let mut take = |secs, count| counters.take("n1", "rain", Timestamp::from_secs(secs), count);
        assert_eq!(take(0, 10.0), Counted::First);
        assert_eq!(take(60, 10.0), Counted::Since(0.0));
        assert_eq!(take(120, 12.5), Counted::Since(2.5));
        assert_eq!(take(60, 10.0), Counted::Since(0.0), "the same message again");
        assert_eq!(take(120, 12.5), Counted::Since(2.5));
        assert_eq!(take(90, 11.0), Counted::Late, "the one after it has counted it");
        assert_eq!(take(180, 0.5), Counted::Restarted);
        assert_eq!(take(240, 0.75), Counted::Since(0.25));
        assert_eq!(counters.take("n2", "rain", Timestamp::from_secs(300), 99.0), Counted::First);
    }

    #[test]
    fn the_one_heard_longest_ago_is_forgotten_first() {
        let mut counters = Counters::default();
        for i in 0..MAX_COUNTERS as i64 + 1 {
            counters.take(&format!("n{i}"), "rain", Timestamp::from_secs(0), 1.0);
        }
        assert_eq!(counters.known.len(), MAX_COUNTERS);
        assert_eq!(counters.take("n1", "rain", Timestamp::from_secs(60), 2.0), Counted::Since(1.0));
        assert_eq!(counters.take("n0", "rain", Timestamp::from_secs(60), 2.0), Counted::First);
        for i in 0..10 * REMEMBERED as i64 {
            counters.take("n1", "rain", Timestamp::from_secs(100 + i), i as f64);
        }
        let series = &counters.known[&("n1".to_owned(), "rain".to_owned())];
        assert_eq!(series.counts.len(), REMEMBERED);
    }
}
