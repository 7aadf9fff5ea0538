//! Whom the door refused or sent away last, or whose message at the farm's own broker was, and why, for the page. The counters count them all.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use proto::Timestamp;

/// How many are remembered. Of one client that comes again and again for the same reason, only the last time.
const MOST: usize = 40;

/// A client that was refused, or whose connection the door ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnedAway {
    /// When, by the wall clock, the last time.
    pub at: Timestamp,
    /// Who: its name, or what it said it was.
    pub client: String,
    /// Why.
    pub why: String,
    /// How many times in a row.
    pub times: u64,
}

/// The last of them.
#[derive(Debug, Default)]
pub struct TurnedAwayLog(Mutex<VecDeque<TurnedAway>>);

impl TurnedAwayLog {
    /// Notes one more. When there is no room the oldest goes.
    pub(crate) fn note(&self, client: &str, why: String) {
        let at = crate::wall_clock();
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = log.iter().position(|entry| entry.client == client && entry.why == why);
        let times = same.and_then(|index| log.remove(index)).map_or(0, |entry| entry.times) + 1;
        if log.len() == MOST {
            log.pop_front();
        }
        log.push_back(TurnedAway { at, client: client.to_owned(), why, times });
    }

    /// All that are remembered, the newest first.
    #[must_use]
    pub fn newest(&self) -> Vec<TurnedAway> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_remembered_and_one_that_comes_again_stands_once() {
        let log = TurnedAwayLog::default();
        for number in 0..MOST + 5 {
            log.note(&format!("n{number}"), "wrong password".to_owned());
        }
        log.note("n20", "wrong password".to_owned());
        log.note("n20", "unknown".to_owned());
        let newest = log.newest();
        assert_eq!(newest.len(), MOST);
        let shown: Vec<_> = newest.iter().take(3).map(|e| (e.client.as_str(), e.why.as_str(), e.times)).collect();
        assert_eq!(shown, [("n20", "unknown", 1), ("n20", "wrong password", 2), ("n44", "wrong password", 1)]);
    }
}
