//! How many bytes may still go over the link: a bucket that holds a burst and fills evenly, an hour's budget an hour.
//!
//! Pure, and one number to keep: the moment at which the bucket is full again. What is sent before it is known how much it
//! costs may leave a debt, which is paid by waiting. Half of the bucket is for what is urgent.

use proto::{Lane, Timestamp};

const HOUR_US: i128 = 3_600_000_000;
/// The share of the bucket that only alerts and decisions may use.
const URGENT: u64 = 2;

/// A byte budget. Times are the wall clock's: a link knows no farm time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    per_hour: u64,
    burst: u64,
    full_at_us: i64,
}

impl Budget {
    /// A budget that is full at `full_at_us`, as [`Budget::full_at_us`] once gave it; 0 is full now.
    #[must_use]
    pub fn new((per_hour, burst): (u64, u64), full_at_us: i64) -> Self {
        Self { per_hour: per_hour.max(1), burst, full_at_us }
    }

    /// Bytes of an hour.
    #[must_use]
    pub const fn per_hour(&self) -> u64 {
        self.per_hour
    }

    /// Bytes that a full bucket holds.
    #[must_use]
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// When it will be full again, in microseconds since 1970: what there is to keep.
    #[must_use]
    pub const fn full_at_us(&self) -> i64 {
        self.full_at_us
    }

    /// The bytes that the bucket holds; below zero is a debt.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> i64 {
        let lacking = self.lacking_us(now) * i128::from(self.per_hour) / HOUR_US;
        i64::try_from(i128::from(self.burst) - lacking).unwrap_or(i64::MIN)
    }

    /// Whether something of about `cost` bytes may go now. What is larger than its part of the bucket goes when that is full,
    /// and leaves a debt.
    #[must_use]
    pub fn allows(&self, urgent: bool, cost: u64, now: Timestamp) -> bool {
        let part = if urgent { self.burst } else { self.burst - self.burst / URGENT };
        let kept = self.burst - part;
        self.holds(now) >= i64::try_from(kept + cost.min(part)).unwrap_or(i64::MAX)
    }

    /// Counts bytes that went.
    pub fn take(&mut self, bytes: u64, now: Timestamp) {
        let per_hour = i128::from(self.per_hour);
        // Rounded up, so that many small pieces are not free.
        let cost = (i128::from(bytes) * HOUR_US + per_hour - 1) / per_hour;
        let full_at = i128::from(micros(now)) + self.lacking_us(now) + cost;
        self.full_at_us = i64::try_from(full_at).unwrap_or(i64::MAX);
    }

    /// The largest batch that is to be made, before compression: whatever it packs to, it fits the part of every lane.
    #[must_use]
    pub fn most_batch(&self) -> usize {
        usize::try_from(self.burst / URGENT).unwrap_or(usize::MAX).max(1)
    }

    /// How long it takes to be full. Never above the time for four bursts: the clock may have been set back.
    fn lacking_us(&self, now: Timestamp) -> i128 {
        let most = 4 * i128::from(self.burst) * HOUR_US / i128::from(self.per_hour);
        (i128::from(self.full_at_us) - i128::from(micros(now))).clamp(0, most)
    }
}

/// Whether a lane may use the whole bucket.
#[must_use]
pub const fn is_urgent(lane: Lane) -> bool {
    matches!(lane, Lane::Alerts | Lane::Decisions)
}

fn micros(time: Timestamp) -> i64 {
    time.as_millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);
    const KIB: u64 = 1 << 10;

    #[test]
    fn half_of_the_bucket_is_for_alerts() {
        let mut budget = Budget::new((3_600 * KIB, 64 * KIB), 0);
        assert!(budget.allows(false, 32 * KIB, START));
        budget.take(32 * KIB, START);
        assert!(!budget.allows(false, 1, START));
        assert!(budget.allows(true, 32 * KIB, START));
        budget.take(32 * KIB, START);
        assert!(!budget.allows(true, KIB, START));
        assert!(budget.allows(true, KIB, START.plus_secs(1)), "a KiB a second");
        assert!(!budget.allows(false, KIB, START.plus_secs(32)));
        assert!(budget.allows(false, KIB, START.plus_secs(33)));
        assert_eq!(budget.holds(START.plus_secs(1_000)), 64 * 1024, "and no more than a burst");
    }

    #[test]
    fn what_is_larger_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt() {
        let mut budget = Budget::new((3_600 * KIB, 64 * KIB), 0);
        assert!(budget.allows(false, 999 * KIB, START));
        budget.take(100 * KIB, START);
        assert_eq!(budget.holds(START), -36 * 1024);
        assert!(!budget.allows(true, 1, START.plus_secs(36)));
        assert!(budget.allows(true, 1, START.plus_secs(37)));
    }

    #[test]
    fn it_lasts_through_a_restart_and_a_clock_that_is_set_back() {
        let mut budget = Budget::new((3_600 * KIB, 64 * KIB), 0);
        budget.take(60 * KIB, START);
        assert_eq!(Budget::new((3_600 * KIB, 64 * KIB), budget.full_at_us()).holds(START), 4 * 1024);
        let back = START.plus_secs(-1_000_000);
        budget.take(0, back);
        assert_eq!(budget.holds(back.plus_secs(256)), 64 * 1024);
    }

    proptest! {
        /// Whoever asks first never sends more than a burst and what has come since.
        #[test]
        fn never_more_than_the_budget(steps in prop::collection::vec((0u64..100, 1u64..32 * KIB, any::<bool>()), 1..80)) {
            let mut budget = Budget::new((360 * KIB, 64 * KIB), 0);
            let (mut now, mut sent) = (START, 0u64);
            for (wait_s, bytes, urgent) in steps {
                now = now.plus_secs(wait_s as i64);
                if budget.allows(urgent, bytes, now) {
                    budget.take(bytes, now);
                    sent += bytes;
                }
                let since = now.millis_since(START) as u64;
                prop_assert!(sent <= 64 * KIB + 360 * KIB * since / 3_600_000 + 90);
            }
        }
    }
}
