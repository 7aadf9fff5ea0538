//! How many bytes may still come over the link: a token bucket that holds an hour's worth and fills evenly.
//!
//! Pure, and one number to keep: the moment at which the bucket is full again. So it lasts through restarts, and a clock
//! that is set back costs two hours at most.

use std::time::Duration;

use proto::Timestamp;

/// The smallest budget of an hour, in bytes: below it the registry's metadata alone could use it up.
pub const LEAST: u64 = 1 << 20;

/// What a fetch leaves over, in bytes, for the registry's metadata: whoever fetches all day still hears that it need not.
pub const RESERVE: u64 = 64 << 10;

const HOUR_US: i128 = 3_600_000_000;

/// A byte budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    per_hour: u64,
    /// In microseconds since 1970, so that few bytes are not rounded away.
    full_at_us: i64,
}

impl Budget {
    /// A budget of `per_hour` bytes that is full at `full_at_us`, as [`Budget::full_at_us`] once gave it; 0 is full now.
    #[must_use]
    pub fn new(per_hour: u64, full_at_us: i64) -> Self {
        Self { per_hour: per_hour.max(LEAST), full_at_us }
    }

    /// When it will be full again, in microseconds since 1970: what there is to keep.
    #[must_use]
    pub const fn full_at_us(&self) -> i64 {
        self.full_at_us
    }

    /// The bytes that may come now.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> u64 {
        let lacking = self.lacking_us(now) * i128::from(self.per_hour) / HOUR_US;
        u64::try_from(i128::from(self.per_hour) - lacking).unwrap_or(0)
    }

    /// Counts bytes that came; more than were available are paid for by a longer wait.
    pub fn take(&mut self, bytes: u64, now: Timestamp) {
        let per_hour = i128::from(self.per_hour);
        // Rounded up, so that many small pieces are not free.
        let cost = (i128::from(bytes) * HOUR_US + per_hour - 1) / per_hour;
        let full_at = i128::from(micros(now)) + self.lacking_us(now) + cost;
        self.full_at_us = i64::try_from(full_at).unwrap_or(i64::MAX);
    }

    /// How long to wait until `bytes` are available; for more than an hour's worth, until it is full.
    #[must_use]
    pub fn wait(&self, bytes: u64, now: Timestamp) -> Duration {
        let may_lack = HOUR_US - i128::from(bytes.min(self.per_hour)) * HOUR_US / i128::from(self.per_hour);
        let over = (self.lacking_us(now) - may_lack).max(0);
        Duration::from_micros(u64::try_from(over).unwrap_or(u64::MAX))
    }

    /// How long it takes to be full. Never above two hours: the clock may have been set back.
    fn lacking_us(&self, now: Timestamp) -> i128 {
        (i128::from(self.full_at_us) - i128::from(micros(now))).clamp(0, 2 * HOUR_US)
    }
}

fn micros(time: Timestamp) -> i64 {
    time.as_millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn an_hours_worth_comes_at_once_and_then_evenly() {
        let mut budget = Budget::new(4 * MIB, 0);
        assert_eq!(budget.available(START), 4 * MIB);
        budget.take(4 * MIB, START);
        assert_eq!(budget.available(START), 0);
        assert_eq!(budget.wait(MIB, START), Duration::from_secs(900));
        let later = START.plus_secs(900);
        assert_eq!(budget.available(later), MIB);
        assert_eq!(budget.wait(MIB, later), Duration::ZERO);
        assert_eq!(budget.available(START.plus_secs(100_000)), 4 * MIB);
    }

    #[test]
    fn what_is_kept_goes_on_after_a_restart() {
        let mut budget = Budget::new(4 * MIB, 0);
        budget.take(3 * MIB, START);
        assert_eq!(Budget::new(4 * MIB, budget.full_at_us()).available(START), MIB);
    }

    #[test]
    fn a_clock_that_is_set_back_costs_two_hours_at_most() {
        let mut budget = Budget::new(4 * MIB, 0);
        budget.take(4 * MIB, START);
        let back = START.plus_secs(-1_000_000);
        assert_eq!(budget.available(back), 0);
        budget.take(0, back);
        assert_eq!(budget.available(back.plus_secs(7_200)), 4 * MIB);
    }

    proptest! {
        /// Whoever takes only what is available never takes more than one full bucket and what has come since.
        #[test]
        fn never_more_than_the_budget(steps in prop::collection::vec((0u64..3_000, 0u64..8 * MIB), 1..60)) {
            let mut budget = Budget::new(4 * MIB, 0);
            let (mut now, mut taken) = (START, 0u64);
            for (wait_s, wanted) in steps {
                now = now.plus_secs(wait_s as i64);
                let bytes = wanted.min(budget.available(now));
                budget.take(bytes, now);
                taken += bytes;
                let since = now.millis_since(START) as u64;
                prop_assert!(taken <= 4 * MIB + 4 * MIB * since / 3_600_000 + 60);
            }
        }
    }
}
