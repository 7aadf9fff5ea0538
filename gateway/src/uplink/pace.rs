//! How the link does just now, for the gateway's own page: how fast it answers, how long is waited, and what it carried lately.

use std::time::Duration;

use proto::Timestamp;

/// Minutes that are looked back at.
const MINUTES: usize = 60;
const MINUTE_MS: i64 = 60_000;

/// The link's pace. Times are the wall clock's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// How long the last request that was answered took.
    pub round_trip: Option<Duration>,
    /// How long is waited since the last failure before anything is tried again; none when the last try went well.
    pub waits: Option<Duration>,
    /// Bytes by minute: minute `m` since 1970 stands at `m % MINUTES`.
    minutes: [u64; MINUTES],
    /// The newest minute.
    newest: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { round_trip: None, waits: None, minutes: [0; MINUTES], newest: i64::MIN }
    }
}

impl Pace {
    /// Counts bytes that went over the link.
    pub fn sent(&mut self, bytes: u64, now: Timestamp) {
        let minute = now.as_millis().div_euclid(MINUTE_MS);
        if minute < self.newest.saturating_sub(1) || minute >= self.newest.saturating_add(MINUTES as i64) {
            // The first time, or the clock was set back, or nothing went for an hour.
            self.minutes = [0; MINUTES];
            self.newest = minute;
        }
        while self.newest < minute {
            self.newest += 1;
            self.minutes[slot(self.newest)] = 0;
        }
        self.minutes[slot(minute)] += bytes;
    }

    /// Bytes of the last hour, to the minute.
    #[must_use]
    pub fn last_hour(&self, now: Timestamp) -> u64 {
        let passed = now.as_millis().div_euclid(MINUTE_MS).saturating_sub(self.newest).max(0);
        let kept = (MINUTES as i64).saturating_sub(passed).max(0);
        (0..kept).map(|back| self.minutes[slot(self.newest.saturating_sub(back))]).sum()
    }
}

fn slot(minute: i64) -> usize {
    minute.rem_euclid(MINUTES as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn an_hour_is_the_last_sixty_minutes() {
        let mut pace = Pace::default();
        assert_eq!(pace.last_hour(START), 0);
        for minute in 0..90 {
            pace.sent(10, START.plus_secs(minute * 60));
        }
        let end = START.plus_secs(89 * 60);
        assert_eq!(pace.last_hour(end), 600);
        assert_eq!(pace.last_hour(end.plus_secs(20 * 60)), 400, "what is older goes, though nothing new came");
        assert_eq!(pace.last_hour(end.plus_secs(3_600)), 0);
        pace.sent(7, end.plus_secs(86_400));
        assert_eq!(pace.last_hour(end.plus_secs(86_400)), 7);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let mut pace = Pace::default();
        pace.sent(10, START);
        pace.sent(5, START.plus_secs(-7_200));
        assert_eq!(pace.last_hour(START.plus_secs(-7_200)), 5);
    }
}
