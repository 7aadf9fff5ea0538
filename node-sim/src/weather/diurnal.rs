//! From a day's weather to its hours: how temperature, radiation, wind and rain run over a day.

use std::f64::consts::{PI, TAU};

use proto::Timestamp;

use crate::chance::Draw;
use crate::sun::{Place, day_of_year, daylight_h};

/// How long after noon it is warmest, h; how fast the night cools; how long after sunrise it is coldest, h. Parton and Logan (1981) at
/// 1.5 m: a, b and c.
const WARMEST_AFTER_NOON_H: f64 = 1.86;
const COOLING: f64 = 2.20;
const COLDEST_AFTER_SUNRISE_H: f64 = -0.17;

/// The most showers of a day.
const SHOWERS: usize = 3;
/// A shower's light, of what there would be without it. An assumption.
pub const SHOWER_LIGHT: f64 = 0.5;

/// A day's lowest and highest temperature, Cel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extremes {
    /// At the end of the night that the day begins with.
    pub min_c: f64,
    /// In the afternoon.
    pub max_c: f64,
}

/// The temperature at an hour of the mean solar day, Cel, between yesterday's evening and tomorrow's morning.
///
/// Parton and Logan (1981): a sine from the minimum at sunrise over the maximum to sunset, an exponential decay from there to the next
/// minimum; with the maximum at its time after noon whatever the minimum's (Wann, Yen and Gold 1985), and with the term that makes the
/// decay reach the minimum (Goudriaan and van Laar 1994), so that nothing leaps.
#[must_use]
pub fn temperature_c(hour: f64, daylight_h: f64, before: Extremes, day: Extremes, next: Extremes) -> f64 {
    let daylight = daylight_h.clamp(2.0, 22.0);
    let coldest = 12.0 - daylight / 2.0 + COLDEST_AFTER_SUNRISE_H;
    let sunset = 12.0 + daylight / 2.0;
    // Half a wave takes twice the time from the coldest to the warmest moment.
    let half_wave = 2.0 * (12.0 + WARMEST_AFTER_NOON_H - coldest);
    let by_day = |of: Extremes, hour: f64| of.min_c + (of.max_c - of.min_c) * (PI * (hour - coldest) / half_wave).sin();
    let night_h = 24.0 - (sunset - coldest);
    let by_night = |evening: Extremes, morning_c: f64, since_sunset: f64| {
        let dusk_c = by_day(evening, sunset);
        let left = (-COOLING * since_sunset / night_h).exp();
        let end = (-COOLING).exp();
        morning_c + (dusk_c - morning_c) * (left - end) / (1.0 - end)
    };
    if hour < coldest {
        by_night(before, day.min_c, hour + 24.0 - sunset)
    } else if hour <= sunset {
        by_day(day, hour)
    } else {
        by_night(day, next.min_c, hour - sunset)
    }
}

/// A day's mean wind by the hour, as a share of the mean of all: afternoons are about twice as windy as nights. The form is an
/// assumption, as in [`super::synthetic`].
#[must_use]
pub fn wind_share(hour: f64) -> f64 {
    // The half wave's mean over the day is 1/π.
    (0.65 + 0.7 * (TAU * (hour - 15.5) / 24.0).cos().max(0.0)) / (0.65 + 0.7 / PI)
}

/// The means under a clear sky of the 24 hours of a day since 1970 by the place's whole-hour clock, W/m2.
#[must_use]
pub fn clear_sky_w_m2(place: &Place, day: i64) -> [f64; 24] {
    std::array::from_fn(|hour| place.clear_sky_hour_w_m2(hour_start(place, day, hour)))
}

/// When an hour of a day since 1970 by the place's whole-hour clock begins.
#[must_use]
pub fn hour_start(place: &Place, day: i64, hour: usize) -> Timestamp {
    Timestamp::from_secs(3600 * (24 * day + hour as i64 - place.zone_h()))
}

/// The hour of the mean solar day in the middle of an hour by the whole-hour clock.
#[must_use]
pub fn solar_hour(place: &Place, hour: usize) -> f64 {
    hour as f64 + 0.5 + place.longitude / 15.0 - place.zone_h() as f64
}

/// From sunrise to sunset on a day since 1970, h.
#[must_use]
pub fn day_length_h(place: &Place, day: i64) -> f64 {
    daylight_h(place.latitude, day_of_year(day) + 1.0)
}

/// A day's rain in one to three showers of half an hour to five hours, mm in each of its 24 hours. The first shower begins at `first_h`
/// where that is given. How many and how long is an assumption, as in [`super::synthetic`].
#[must_use]
pub fn showers(total_mm: f64, first_h: Option<f64>, draw: &mut Draw) -> [f64; 24] {
    let count = 1 + (SHOWERS as f64 * draw.uniform()) as usize;
    let mut parts = [(0.0, 0.0, 0.0); SHOWERS];
    let mut weights = 0.0;
    for (index, part) in parts[..count].iter_mut().enumerate() {
        let duration_h = 0.5 + 4.5 * draw.uniform().powi(2);
        let anywhere = draw.uniform() * (24.0 - duration_h);
        let from_h = first_h.filter(|_| index == 0).map_or(anywhere, |hour| hour.clamp(0.0, 24.0 - duration_h));
        let weight = duration_h * (0.3 + draw.uniform());
        weights += weight;
        *part = (from_h, duration_h, weight);
    }
    std::array::from_fn(|hour| {
        let (begin, end) = (hour as f64, hour as f64 + 1.0);
        let fallen = |&(from, duration, weight): &(f64, f64, f64)| {
            let common = ((from + duration).min(end) - from.max(begin)).max(0.0);
            weight / weights * common / duration
        };
        total_mm * parts[..count].iter().map(fallen).sum::<f64>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    #[test]
    fn a_day_begins_at_its_minimum_reaches_its_maximum_and_leaps_nowhere() {
        let extremes = |min_c, max_c| Extremes { min_c, max_c };
        let (before, day, next) = (extremes(5.0, 18.0), extremes(8.0, 24.0), extremes(3.0, 15.0));
        let at = |hour| temperature_c(hour, 14.0, before, day, next);
        let all: Vec<f64> = (0..=2400).map(|h| at(f64::from(h) / 100.0)).collect();
        let highest = all.iter().copied().fold(f64::MIN, f64::max);
        let morning = all[..1200].iter().copied().fold(f64::MAX, f64::min);
        assert!((highest - 24.0).abs() < 1e-3 && (morning - 8.0).abs() < 1e-2, "{highest} {morning}");
        assert!((at(13.86) - 24.0).abs() < 1e-9);
        assert!(all.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.06));
        // Midnight is the same from both sides.
        let midnight = temperature_c(0.0, 14.0, day, next, next);
        assert!((at(24.0) - midnight).abs() < 1e-9, "{} {midnight}", at(24.0));
    }

    #[test]
    fn showers_and_wind_add_up_to_the_day() {
        let mut chance = Chance::new(1, "test");
        for position in 0..50 {
            let hours = showers(12.5, (position % 2 == 0).then_some(7.3), &mut chance.at(position));
            assert!((hours.iter().sum::<f64>() - 12.5).abs() < 1e-9);
            assert!(position % 2 == 1 || hours[7] > 0.0);
        }
        let mean = (0..240).map(|h| wind_share(f64::from(h) / 10.0)).sum::<f64>() / 240.0;
        assert!((mean - 1.0).abs() < 1e-3, "{mean}");
    }
}
