//! Points in time, and the relation between the wall clock and the farm's clock.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 in UTC.
///
/// Every value lies in the years 0 to 9998, so that it can always be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time {value:?} is not RFC 3339, like 2026-07-14T06:00:00Z")]
pub struct InvalidTime {
    /// What came instead.
    pub value: String,
}

impl Timestamp {
    /// The earliest time that can be written.
    pub const MIN: Self = Self(-62_167_219_200_000);
    /// The latest time that can be written.
    pub const MAX: Self = Self(253_370_764_799_999);

    /// From milliseconds since 1970-01-01T00:00:00Z, held between [`Timestamp::MIN`] and [`Timestamp::MAX`].
    #[must_use]
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// From seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    #[inline]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    #[inline]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time and `millis` more (or fewer, when negative), held inside the range.
    #[must_use]
    #[inline]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This time and `secs` more (or fewer, when negative), held inside the range.
    #[must_use]
    pub const fn plus_secs(self, secs: i64) -> Self {
        self.plus_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to this time; negative when `earlier` is later.
    #[must_use]
    #[inline]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The start of the tumbling window of `length_s` seconds that this time lies in. Windows are counted from 1970.
    /// A length of zero gives the time itself.
    #[must_use]
    #[inline]
    pub const fn floor_to(self, length_s: u32) -> Self {
        let length = length_s as i64 * 1000;
        if length == 0 { self } else { Self::from_millis(self.0.div_euclid(length) * length) }
    }

    /// The same instant for `jiff`.
    #[must_use]
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// The same instant from `jiff`, cut to whole milliseconds.
    #[must_use]
    pub fn from_jiff(time: jiff::Timestamp) -> Self {
        Self::from_millis(time.as_millisecond())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_jiff(), f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    fn from_str(value: &str) -> Result<Self, InvalidTime> {
        let time: jiff::Timestamp =
            value.parse().map_err(|_| InvalidTime { value: value.chars().take(64).collect() })?;
        Ok(Self::from_jiff(time))
    }
}

impl TryFrom<String> for Timestamp {
    type Error = InvalidTime;

    fn try_from(value: String) -> Result<Self, InvalidTime> {
        value.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

/// How the farm's clock runs against the wall clock: at `wall` it was `farm`, and it runs `speed` times as fast.
///
/// A real farm has [`TimeScale::real`]; a simulated one may see a day pass in two minutes. Each tier asks its own wall
/// clock once, at its edge, and works in farm time from there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeScale {
    /// A moment on the wall clock.
    pub wall: Timestamp,
    /// What the farm's clock showed at that moment.
    pub farm: Timestamp,
    /// Farm seconds per wall second; above zero.
    pub speed: f64,
}

impl TimeScale {
    /// The farm's clock is the wall clock.
    #[must_use]
    pub const fn real() -> Self {
        Self { wall: Timestamp(0), farm: Timestamp(0), speed: 1.0 }
    }

    /// What the farm's clock shows when the wall clock shows `wall`.
    #[must_use]
    pub fn at(&self, wall: Timestamp) -> Timestamp {
        self.farm.plus_millis(scale(wall.millis_since(self.wall), self.speed))
    }

    /// What the wall clock shows when the farm's clock shows `farm`.
    #[must_use]
    pub fn wall_for(&self, farm: Timestamp) -> Timestamp {
        self.wall.plus_millis(scale(farm.millis_since(self.farm), 1.0 / self.speed))
    }

    /// How long `farm_ms` milliseconds of farm time last on the wall clock; zero for none and for negative ones.
    #[must_use]
    pub fn wall_duration(&self, farm_ms: i64) -> Duration {
        Duration::from_secs_f64((farm_ms.max(0) as f64 / 1000.0 / self.speed).clamp(0.0, 1e9))
    }
}

impl Default for TimeScale {
    fn default() -> Self {
        Self::real()
    }
}

fn scale(millis: i64, factor: f64) -> i64 {
    if factor == 1.0 { millis } else { (millis as f64 * factor).round() as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_and_read_as_rfc_3339() {
        let time: Timestamp = "2015-01-01T08:00:00Z".parse().unwrap();
        assert_eq!(time.as_millis(), 1_420_099_200_000);
        assert_eq!(time.to_string(), "2015-01-01T08:00:00Z");
        assert_eq!("2015-01-01T00:00:00-08:00".parse::<Timestamp>().unwrap(), time);
        assert_eq!(
            "yesterday".parse::<Timestamp>().unwrap_err().to_string(),
            "time \"yesterday\" is not RFC 3339, like 2026-07-14T06:00:00Z"
        );
        for bound in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(bound.to_string().parse::<Timestamp>().unwrap(), bound);
        }
    }

    #[test]
    fn windows_are_counted_from_1970_also_before_it() {
        assert_eq!(Timestamp::from_secs(1799).floor_to(900), Timestamp::from_secs(900));
        assert_eq!(Timestamp::from_secs(1800).floor_to(900), Timestamp::from_secs(1800));
        assert_eq!(Timestamp::from_secs(-1).floor_to(900), Timestamp::from_secs(-900));
    }

    #[test]
    fn the_farm_clock_runs_at_its_speed_and_back() {
        let scale = TimeScale { wall: Timestamp::from_secs(1000), farm: Timestamp::from_secs(50_000), speed: 720.0 };
        assert_eq!(scale.at(Timestamp::from_secs(1120)), Timestamp::from_secs(50_000 + 86_400));
        assert_eq!(scale.wall_for(Timestamp::from_secs(50_000 + 86_400)), Timestamp::from_secs(1120));
        assert_eq!(scale.wall_duration(720_000), Duration::from_secs(1));
        assert_eq!(TimeScale::real().at(Timestamp::from_secs(5)), Timestamp::from_secs(5));
    }
}
