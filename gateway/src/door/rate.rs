//! How much of something is let through in a time. Pure: the time is a parameter.
//!
//! A token bucket, kept as one number (the "virtual scheduling" form of ITU-T I.371, the generic cell rate algorithm): the
//! time at which the bucket would be full again.

use std::time::Duration;

/// A rate and how much of it may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// What one unit costs, in nanoseconds.
    cost_ns: u64,
    /// How far ahead of the time a bucket may be, in nanoseconds.
    burst_ns: u64,
}

impl Rate {
    /// `per_s` units a second, and as many at once as come in `burst`. A rate of 0 is no limit.
    pub fn per_second(per_s: u64, burst: Duration) -> Self {
        let cost_ns = 1_000_000_000_u64.checked_div(per_s).map_or(0, |cost| cost.max(1));
        Self { cost_ns, burst_ns: saturating_ns(burst) }
    }

    /// One unit in each `every`, and `at_once` units at once.
    pub fn one_in(every: Duration, at_once: u64) -> Self {
        let cost_ns = saturating_ns(every);
        Self { cost_ns, burst_ns: cost_ns.saturating_mul(at_once) }
    }
}

/// Something that is let through at a [`Rate`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// When it is full again, in nanoseconds of the door's own clock.
    full_at_ns: u64,
}

impl Bucket {
    /// Takes `units` out, also more than there are: the bucket then owes them.
    pub fn charge(&mut self, rate: Rate, now: Duration, units: u64) {
        self.full_at_ns = self.full_at_ns.max(saturating_ns(now)).saturating_add(rate.cost_ns.saturating_mul(units));
    }

    /// Takes one out if there is one.
    pub fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let may = self.wait(rate, now).is_none();
        if may {
            self.charge(rate, now, 1);
        }
        may
    }

    /// How long it takes until a whole unit is in it again; `None` when there is one.
    pub fn wait(&self, rate: Rate, now: Duration) -> Option<Duration> {
        let ahead = self.full_at_ns.saturating_sub(saturating_ns(now)).saturating_add(rate.cost_ns);
        (ahead > rate.burst_ns).then(|| Duration::from_nanos(ahead - rate.burst_ns))
    }

    /// Whether it is as if nothing had ever been taken out.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at_ns <= saturating_ns(now)
    }
}

fn saturating_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What one client may send: messages and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientRate {
    /// Messages.
    pub messages: Rate,
    /// Bytes.
    pub bytes: Rate,
}

/// What one client has sent, against its [`ClientRate`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    messages: Bucket,
    bytes: Bucket,
}

impl Spent {
    /// Notes a packet of `bytes` bytes. Returns for how long the client is not to be read from, if it has gone beyond its
    /// rate.
    pub fn charge(&mut self, rate: &ClientRate, now: Duration, bytes: usize) -> Option<Duration> {
        self.messages.charge(rate.messages, now, 1);
        self.bytes.charge(rate.bytes, now, bytes as u64);
        self.wait(rate, now)
    }

    /// For how long the client is not to be read from.
    pub fn wait(&self, rate: &ClientRate, now: Duration) -> Option<Duration> {
        self.messages.wait(rate.messages, now).max(self.bytes.wait(rate.bytes, now))
    }

    /// Whether it is as if nothing had ever been sent.
    pub fn is_forgotten(&self, now: Duration) -> bool {
        self.messages.is_full(now) && self.bytes.is_full(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate::per_second(10, Duration::from_secs(2));
        let mut bucket = Bucket::default();
        assert_eq!((0..100).filter(|_| bucket.take(rate, ms(5_000))).count(), 20);
        assert_eq!((0..100).filter(|_| bucket.take(rate, ms(6_001))).count(), 10);
        assert_eq!((0..100).filter(|_| bucket.take(rate, ms(60_000))).count(), 20, "no more than the burst is saved");
    }

    #[test]
    fn a_debt_is_waited_for() {
        let rate = ClientRate {
            messages: Rate::per_second(1_000, Duration::from_secs(1)),
            bytes: Rate::per_second(1_000, Duration::from_secs(1)),
        };
        let mut spent = Spent::default();
        let wait = spent.charge(&rate, ms(0), 5_000).unwrap();
        assert!((ms(4_000)..ms(4_010)).contains(&wait), "{wait:?}");
        assert!(!spent.is_forgotten(ms(4_500)));
        assert_eq!(spent.charge(&rate, ms(5_100), 100), None);
        assert!(spent.is_forgotten(ms(5_300)));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let rate = Rate::per_second(0, Duration::ZERO);
        let mut bucket = Bucket::default();
        assert!((0..100_000).all(|_| bucket.take(rate, ms(7))));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            per_s in 1_u64..10_000, burst_ms in 1_u64..5_000, gaps in prop::collection::vec(0_u64..50, 1..300),
        ) {
            let rate = Rate::per_second(per_s, ms(burst_ms));
            let (mut bucket, mut now, mut taken) = (Bucket::default(), 0, 0_u64);
            for gap in gaps {
                now += gap;
                taken += u64::from(bucket.take(rate, ms(now)));
            }
            // A unit's cost is cut to whole nanoseconds, which makes it at most a thousandth cheaper here.
            let most = (now + burst_ms) as f64 * per_s as f64 * 1.001 / 1_000.0;
            prop_assert!(taken as f64 <= most, "{taken} of {most}");
        }
    }
}
