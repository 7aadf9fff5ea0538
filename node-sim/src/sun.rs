//! Where the sun stands and how strong it would be without clouds, after FAO-56 (Allen et al. 1998), chapter 3.

use std::f64::consts::{PI, TAU};

use proto::Timestamp;

/// The solar constant, W/m2 (FAO-56: 0.0820 MJ/(m2 min)).
const SOLAR_CONSTANT: f64 = 1367.0;

/// A place on the earth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Metres above the sea.
    pub elevation_m: f64,
}

impl Place {
    /// Hours since 1970 on the place's mean solar clock.
    #[must_use]
    pub fn solar_hours(&self, time: Timestamp) -> f64 {
        time.as_millis() as f64 / 3_600_000.0 + self.longitude / 15.0
    }

    /// Day number since 1970 and hour of the day, both on the place's mean solar clock.
    #[must_use]
    pub fn solar_day(&self, time: Timestamp) -> (i64, f64) {
        let hours = self.solar_hours(time);
        let day = (hours / 24.0).floor();
        (day as i64, hours - day * 24.0)
    }

    /// Hours from UTC to the whole-hour clock that is nearest to the place's mean solar one: its standard time, if it keeps to its
    /// meridian. A day of weather is a day by this clock.
    #[must_use]
    pub fn zone_h(&self) -> i64 {
        (self.longitude / 15.0).round() as i64
    }

    /// Extraterrestrial radiation on a horizontal plane at an instant, W/m2. FAO-56 eq. 23, 24, 31 and 32, in their
    /// instantaneous form (the solar constant times the sine of the sun's height).
    #[must_use]
    pub fn extraterrestrial_w_m2(&self, time: Timestamp) -> f64 {
        let (day, hour) = self.solar_day(time);
        let year = TAU * day_of_year(day) / 365.0;
        let distance = 1.0 + 0.033 * year.cos();
        let declination = 0.409 * (year - 1.39).sin();
        let b = TAU * (day_of_year(day) - 81.0) / 364.0;
        let correction_h = 0.1645 * (2.0 * b).sin() - 0.1255 * b.cos() - 0.025 * b.sin();
        let hour_angle = PI / 12.0 * (hour + correction_h - 12.0);
        let latitude = self.latitude.to_radians();
        let sine = latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour_angle.cos();
        (SOLAR_CONSTANT * distance * sine).max(0.0)
    }

    /// Radiation under a clear sky at an instant, W/m2. FAO-56 eq. 37.
    #[must_use]
    pub fn clear_sky_w_m2(&self, time: Timestamp) -> f64 {
        (0.75 + 2e-5 * self.elevation_m) * self.extraterrestrial_w_m2(time)
    }

    /// Mean of [`Place::clear_sky_w_m2`] over the hour that begins at `start`.
    #[must_use]
    pub fn clear_sky_hour_w_m2(&self, start: Timestamp) -> f64 {
        (0..4).map(|quarter| self.clear_sky_w_m2(start.plus_secs(450 + 900 * quarter))).sum::<f64>() / 4.0
    }
}

/// Extraterrestrial radiation on a horizontal plane over a day, MJ/(m2 d), on a day of the year from 1. FAO-56 eq. 21 and 23 to
/// 25, ASCE-EWRI (2005) eq. 21 with its solar constant of 4.92 MJ/(m2 h).
#[must_use]
pub fn extraterrestrial_mj_m2_d(latitude: f64, day_of_year: f64) -> f64 {
    let year = TAU * day_of_year / 365.0;
    let (phi, delta) = (latitude.to_radians(), 0.409 * (year - 1.39).sin());
    let sunset = sunset_angle(phi, delta);
    let shape = sunset * phi.sin() * delta.sin() + phi.cos() * delta.cos() * sunset.sin();
    24.0 / PI * 4.92 * (1.0 + 0.033 * year.cos()) * shape
}

/// From sunrise to sunset, h, on a day of the year from 1. FAO-56 eq. 34.
#[must_use]
pub fn daylight_h(latitude: f64, day_of_year: f64) -> f64 {
    let delta = 0.409 * (TAU * day_of_year / 365.0 - 1.39).sin();
    24.0 / PI * sunset_angle(latitude.to_radians(), delta)
}

/// FAO-56 eq. 25; no night, or no day, beyond the polar circles.
fn sunset_angle(latitude: f64, declination: f64) -> f64 {
    (-latitude.tan() * declination.tan()).clamp(-1.0, 1.0).acos()
}

/// Day of the (mean) year, 0 to 365.24, of a day since 1970. Within a day of the calendar's.
#[must_use]
pub fn day_of_year(day: i64) -> f64 {
    (day as f64).rem_euclid(365.2425)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FAO-56 example 8: 3 September at 20 degrees south, 32.2 MJ/(m2 d).
    #[test]
    fn a_days_extraterrestrial_radiation_is_that_of_fao_56() {
        let place = Place { latitude: -20.0, longitude: 0.0, elevation_m: 0.0 };
        let midnight: Timestamp = "2026-09-03T00:00:00Z".parse().unwrap();
        let mj: f64 = (0..288).map(|k| place.extraterrestrial_w_m2(midnight.plus_secs(300 * k)) * 300.0 / 1e6).sum();
        assert!((mj - 32.2).abs() < 0.3, "{mj}");
    }

    /// The same example, and FAO-56 example 9: 11.7 h of daylight.
    #[test]
    fn a_days_sum_and_length_are_those_of_fao_56() {
        let (sum, length) = (extraterrestrial_mj_m2_d(-20.0, 246.0), daylight_h(-20.0, 246.0));
        assert!((sum - 32.2).abs() < 0.05 && (length - 11.7).abs() < 0.05, "{sum} {length}");
        assert_eq!((daylight_h(70.0, 172.0), daylight_h(70.0, 355.0)), (24.0, 0.0));
    }

    #[test]
    fn the_sun_is_highest_at_noon_and_down_at_midnight() {
        let fallon = Place { latitude: 39.4575, longitude: -118.77388, elevation_m: 1208.5 };
        let noon: Timestamp = "2026-06-21T19:57:00Z".parse().unwrap();
        let strongest = fallon.clear_sky_w_m2(noon);
        assert!(strongest > fallon.clear_sky_w_m2(noon.plus_secs(7200)));
        assert!(strongest > fallon.clear_sky_w_m2(noon.plus_secs(-7200)));
        assert!((950.0..1080.0).contains(&strongest), "{strongest}");
        assert_eq!(fallon.clear_sky_w_m2(noon.plus_secs(43_200)), 0.0);
    }
}
