//! The one place where the cloud reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::{TimeScale, Timestamp};

/// The farms' clock.
#[derive(Debug, Clone, Copy)]
pub struct FarmClock {
    scale: TimeScale,
}

impl FarmClock {
    /// A clock that runs as `scale` says.
    #[must_use]
    pub const fn new(scale: TimeScale) -> Self {
        Self { scale }
    }

    /// What the farms' clock shows now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.scale.at(wall())
    }

    /// Farm seconds per second of the wall clock.
    #[must_use]
    pub const fn speed(&self) -> f64 {
        self.scale.speed
    }
}

/// What the clock on the wall shows now; for what is of no farm, as the registry's expiries.
#[must_use]
pub fn wall() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}
