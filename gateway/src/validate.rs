//! What a reading can be by itself and beside its neighbours: possible in its quantity, of a believable time, and not
//! changing faster than soil and air do.
//!
//! Pure: times are parameters, and a verdict depends on the reading and the readings next to it, never on the order in
//! which they came.

use std::ops::RangeInclusive;

use proto::{Quantity, Timestamp};

use crate::filter::Hampel;

/// What is expected of a quantity's readings.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// What is physically possible, in the quantity's unit.
    pub range: RangeInclusive<f64>,
    /// The fastest change there and back again that is believed, in the quantity's unit per hour. None where jumps are normal.
    pub max_rate_per_hour: Option<f64>,
    /// The outlier filter; none where its assumption, that neighbours resemble each other, does not hold.
    pub hampel: Option<Hampel>,
    /// How long a value may stay the same to the last bit. None where nature stands still too, and by default everywhere:
    /// the detector's rule for stuck sensors learns from each channel how long is long, and models judge what is flat. Whoever
    /// knows that a channel always moves may also keep its dead values out of the means.
    pub stuck: Option<Stuck>,
}

/// When a value that does not move is not believed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// How long all readings must have been the same, to the last bit. Those before stay accepted.
    pub after_ms: i64,
}

impl Limits {
    /// The defaults of a quantity.
    ///
    /// They are wide on purpose: a wetting front raises soil moisture by 0.2 m3/m3 between two readings, a gust front drops
    /// the air temperature by 10 Cel in some minutes, and calling either an error hides what a farmer wants to see. Rain,
    /// wind, radiation, leaf wetness and signal strength jump by nature, and are only held against their range.
    #[must_use]
    pub fn of(quantity: Quantity) -> Self {
        let (max_rate_per_hour, floor) = match quantity {
            Quantity::SoilMoisture => (Some(2.0), Some(0.03)),
            Quantity::SoilTemperature => (Some(60.0), Some(1.5)),
            Quantity::SoilEc => (Some(30.0), Some(0.5)),
            Quantity::Nitrate | Quantity::Phosphorus => (Some(1000.0), Some(20.0)),
            Quantity::Potassium => (Some(2000.0), Some(40.0)),
            Quantity::AirTemperature => (Some(120.0), Some(3.0)),
            Quantity::RelativeHumidity => (Some(600.0), Some(15.0)),
            Quantity::Pressure => (Some(120.0), Some(3.0)),
            Quantity::Battery => (Some(30.0), Some(0.5)),
            Quantity::WindSpeed
            | Quantity::SolarRadiation
            | Quantity::Rain
            | Quantity::LeafWetness
            | Quantity::Rssi => (None, None),
        };
        Self {
            range: quantity.range(),
            max_rate_per_hour,
            hampel: floor.map(|floor| Hampel { sigmas: 6.0, floor }),
            stuck: None,
        }
    }

    /// How long before a reading the readings begin that its verdict depends on, when neighbours are at most `context_ms` apart.
    #[must_use]
    pub fn look_back_ms(&self, context_ms: i64) -> i64 {
        self.stuck.map_or(context_ms, |stuck| stuck.after_ms + context_ms)
    }

    /// Whether `value` is physically possible.
    #[must_use]
    pub fn possible(&self, value: f64) -> bool {
        self.range.contains(&value)
    }

    /// Whether `reading` leaps away from both neighbours and back, faster than is believed. Each is (time in ms, value).
    ///
    /// A single fast change is not a leap: rain makes a step, and the readings after it stay. So a reading without a
    /// neighbour on each side is never one. Changes smaller than the outlier filter's floor are noise and no leaps either.
    /// A good reading between two spikes leaps too: the caller asks the outlier filter first.
    #[must_use]
    pub fn leaps(&self, before: Option<(i64, f64)>, reading: (i64, f64), after: Option<(i64, f64)>) -> bool {
        let (Some(rate), Some(before), Some(after)) = (self.max_rate_per_hour, before, after) else { return false };
        let (up, down) = (reading.1 - before.1, reading.1 - after.1);
        let floor = self.hampel.as_ref().map_or(0.0, |h| h.floor);
        let believed = |ms: i64| (rate * ms as f64 / 3_600_000.0).max(floor);
        up * down > 0.0 && up.abs() > believed(reading.0 - before.0) && down.abs() > believed(after.0 - reading.0)
    }
}

/// Whether a reading's time can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    /// It belongs to a window.
    Believed,
    /// Its window is final: the reading came later than is waited for.
    Late,
    /// It is said to come from the future: the station's clock is wrong.
    Future,
    /// It is said to come from long ago, like 1970: the station's clock is wrong.
    Past,
}

/// How far a clock may be wrong, and how long a window can be amended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// How far a station's clock may be ahead of the gateway's.
    pub future_ms: i64,
    /// How far behind its station's newest reading a reading may come and still amend its window.
    pub lateness_ms: i64,
    /// How old a reading may be at all. A clock that restarted in 1970 makes readings older than this.
    pub oldest_ms: i64,
}

/// Judges a reading's `time` when its station's newest reading so far is of `watermark` and the gateway's clock shows `now`.
#[must_use]
pub fn timing(time: Timestamp, watermark: Option<Timestamp>, now: Timestamp, tolerance: &Tolerance) -> Timing {
    if time.millis_since(now) > tolerance.future_ms {
        Timing::Future
    } else if now.millis_since(time) > tolerance.oldest_ms {
        Timing::Past
    } else if watermark.is_some_and(|w| w.millis_since(time) > tolerance.lateness_ms) {
        Timing::Late
    } else {
        Timing::Believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_spike_leaps_and_a_step_does_not() {
        let limits = Limits::of(Quantity::SoilMoisture);
        let at = |minute: i64, value: f64| (minute * MINUTE, value);
        assert!(limits.leaps(Some(at(0, 0.2)), at(5, 0.6), Some(at(10, 0.2))));
        assert!(!limits.leaps(Some(at(0, 0.2)), at(5, 0.4), Some(at(10, 0.4))), "rain");
        assert!(!limits.leaps(Some(at(0, 0.2)), at(5, 0.4), Some(at(10, 0.6))), "more rain");
        assert!(!limits.leaps(Some(at(0, 0.2)), at(5, 0.6), None), "nobody knows yet");
        assert!(!limits.leaps(Some(at(0, 0.2)), at(5, 0.3), Some(at(10, 0.2))), "possible within five minutes");
        assert!(!limits.leaps(Some((0, 0.2)), (1000, 0.22), Some((2000, 0.2))), "noise between two seconds");
    }

    #[test]
    fn a_quantity_that_jumps_by_nature_never_leaps() {
        let limits = Limits::of(Quantity::Rain);
        assert!(!limits.leaps(Some((0, 0.0)), (1000, 60.0), Some((2000, 0.0))));
        assert!(limits.possible(60.0) && !limits.possible(-0.1) && !limits.possible(f64::NAN));
    }

    #[test]
    fn times_are_held_against_the_station_and_the_clock() {
        let tolerance =
            Tolerance { future_ms: 5 * MINUTE, lateness_ms: 120 * MINUTE, oldest_ms: 90 * 24 * 60 * MINUTE };
        let now = Timestamp::from_secs(1_500_000_000);
        let judge = |ago_min: i64, watermark: Option<i64>| {
            timing(now.plus_millis(-ago_min * MINUTE), watermark.map(|w| now.plus_millis(-w * MINUTE)), now, &tolerance)
        };
        assert_eq!(judge(0, None), Timing::Believed);
        assert_eq!(judge(-5, None), Timing::Believed);
        assert_eq!(judge(-6, None), Timing::Future);
        assert_eq!(judge(120, Some(0)), Timing::Believed);
        assert_eq!(judge(121, Some(0)), Timing::Late);
        assert_eq!(judge(7 * 24 * 60, Some(7 * 24 * 60 + 15)), Timing::Believed, "replayed in order after a week");
        assert_eq!(
            timing(Timestamp::from_secs(0), None, now, &tolerance),
            Timing::Past,
            "a clock that restarted in 1970"
        );
    }
}
