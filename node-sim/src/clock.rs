//! The clocks of the nodes: right, unless a scenario says otherwise, until a command sets them.
//!
//! ```toml
//! [[clock]]
//! station = "c3"
//! start = "2d 4h"                  # since the farm's start, or a time; from here on the clock is wrong
//! end = "4d"                       # and from here on right again, as if somebody had come with a watch
//! offset_s = 3600                  # ahead by so much; negative is behind
//! # drift_ppm = 200                # and so much too fast; negative is too slow
//! # restart_1970 = true            # instead of an offset: it begins again at 1970
//! ```
//!
//! A fault of the kind `clock_drift` says the same ([`crate::faults::scenario`]); out of chance clocks go wrong too.
//!
//! Only what a node sends has its clock's times; the farm and the truth log have true ones. A clock that was set stays set
//! until the program ends: a real node without a battery forgets as much.

use proto::{StationId, Timestamp};

/// A wrong clock by scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct ClockFault {
    /// The station.
    pub station: StationId,
    /// The first moment of it.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
    /// Where the clock jumps to.
    pub jump: Jump,
    /// How much too fast it goes, in millionths.
    pub drift_ppm: f64,
}

/// Where a clock jumps to when its fault begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// Ahead, in ms.
    Ahead(i64),
    /// To the beginning of 1970.
    Restart,
}

/// A node's clock.
#[derive(Debug, Clone, Default)]
pub struct NodeClock {
    faults: Vec<ClockFault>,
    /// When it was last set, and how far it was ahead of the truth then, in ms.
    set: Option<(Timestamp, i64)>,
}

impl NodeClock {
    /// A clock with its station's faults.
    #[must_use]
    pub fn new(faults: Vec<ClockFault>) -> Self {
        Self { faults, set: None }
    }

    /// How far it is ahead of the true `time`, in ms.
    #[must_use]
    pub fn ahead_ms(&self, time: Timestamp) -> i64 {
        let active = self.faults.iter().find(|fault| fault.start <= time && time < fault.end);
        // What was set counts until something else happens to the clock.
        let changed = active
            .map(|fault| fault.start)
            .or_else(|| self.faults.iter().map(|fault| fault.end).filter(|end| *end <= time).max());
        let set = self.set.filter(|(at, _)| changed.is_none_or(|changed| *at >= changed));
        let (since, ahead_ms) = match (set, active) {
            (Some(set), _) => set,
            (None, Some(fault)) => match fault.jump {
                Jump::Ahead(ms) => (fault.start, ms),
                Jump::Restart => (fault.start, -fault.start.as_millis()),
            },
            (None, None) => return 0,
        };
        let drift_ppm = active.map_or(0.0, |fault| fault.drift_ppm);
        ahead_ms + (time.millis_since(since) as f64 * drift_ppm / 1e6).round() as i64
    }

    /// Sets it to `shown` at the true time `at`.
    pub fn set(&mut self, at: Timestamp, shown: Timestamp) {
        self.set = Some((at, shown.millis_since(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_from_a_moment_to_another_and_right_once_it_is_set() {
        let hour = |hour: i64| Timestamp::from_secs(1_433_116_800 + hour * 3600);
        let station: StationId = "n1".parse().unwrap();
        let fault = |start, end, jump, drift_ppm| ClockFault {
            station: station.clone(),
            start: hour(start),
            end: hour(end),
            jump,
            drift_ppm,
        };
        let faults = [fault(1, 5, Jump::Ahead(60_000), 1000.0), fault(10, 12, Jump::Restart, 0.0)];
        let mut clock = NodeClock::new(faults.to_vec());
        assert_eq!([0, 1, 2, 5].map(|h| clock.ahead_ms(hour(h))), [0, 60_000, 63_600, 0]);
        assert_eq!(hour(11).plus_millis(clock.ahead_ms(hour(11))), Timestamp::from_secs(3600));
        clock.set(hour(3), hour(3).plus_millis(5));
        assert_eq!([3, 4, 5, 10].map(|h| clock.ahead_ms(hour(h))), [5, 3605, 0, -hour(10).as_millis()]);
        clock.set(hour(11), hour(11));
        assert_eq!([11, 13].map(|h| clock.ahead_ms(hour(h))), [0, 0]);
        assert_eq!(NodeClock::new(Vec::new()).ahead_ms(hour(2)), 0);
    }
}
