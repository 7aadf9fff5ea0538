//! Reference evapotranspiration of short grass by the Penman-Monteith equation: over an hour after FAO-56 (Allen et al. 1998), over a day
//! after the ASCE's standardisation of it (ASCE-EWRI 2005, short reference), which is FAO-56's daily equation but for the
//! last digits of its constants, and which the US weather networks publish (AgriMet: actual vapour pressure from the day's mean dew
//! point, wind brought to 2 m, soil heat flux zero).

use crate::sun::extraterrestrial_mj_m2_d;

/// Rs/Rso when the sun is down and no ratio can be measured: what FAO-56 takes in its hourly example 19.
const NIGHT_CLEARNESS: f64 = 0.8;

/// Saturation vapour pressure at a temperature in Cel, kPa. FAO-56 eq. 11.
#[must_use]
pub fn saturation_vapour_pressure_kpa(temperature_c: f64) -> f64 {
    0.6108 * (17.27 * temperature_c / (temperature_c + 237.3)).exp()
}

/// The dew point in Cel of air with this vapour pressure in kPa. FAO-56 eq. 11, solved for the temperature.
#[must_use]
pub fn dew_point_c(vapour_pressure_kpa: f64) -> f64 {
    let ratio = (vapour_pressure_kpa.max(1e-4) / 0.6108).ln();
    237.3 * ratio / (17.27 - ratio)
}

/// What the air does to a wet leaf, over an hour or a part of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Air {
    /// Cel.
    pub temperature_c: f64,
    /// Cel; at most the temperature.
    pub dew_point_c: f64,
    /// m/s at 2 m.
    pub wind_speed_m_s: f64,
    /// Global short-wave radiation, W/m2.
    pub solar_radiation_w_m2: f64,
    /// What the radiation would be under a clear sky, W/m2.
    pub clear_sky_w_m2: f64,
    /// Metres above the sea.
    pub elevation_m: f64,
}

/// Reference evapotranspiration of short grass, mm/h, never below zero (dew is left out).
///
/// FAO-56 eq. 53, with eq. 7 and 8 (psychrometric constant), 13 (slope), 38 (net short wave), 39 (net long wave, hourly
/// Stefan-Boltzmann constant 2.043e-10 MJ/(m2 h K4)), 45 and 46 (soil heat flux by day and by night).
#[must_use]
pub fn reference_mm_h(air: &Air) -> f64 {
    let t = air.temperature_c;
    let es = saturation_vapour_pressure_kpa(t);
    let ea = saturation_vapour_pressure_kpa(air.dew_point_c.min(t));
    let slope = 4098.0 * es / (t + 237.3).powi(2);
    let pressure_kpa = 101.3 * ((293.0 - 0.0065 * air.elevation_m) / 293.0).powf(5.26);
    let gamma = 0.665e-3 * pressure_kpa;
    let rs = air.solar_radiation_w_m2 * 0.0036; // MJ/(m2 h)
    let rso = air.clear_sky_w_m2 * 0.0036;
    // A low sun makes the ratio meaningless; FAO-56 wants 0.3 to 1.
    let clearness = if rso > 0.1 { (rs / rso).clamp(0.3, 1.0) } else { NIGHT_CLEARNESS };
    let long_wave = 2.043e-10 * (t + 273.16).powi(4) * (0.34 - 0.14 * ea.sqrt()) * (1.35 * clearness - 0.35);
    let net = 0.77 * rs - long_wave;
    let ground = if rs > 0.0 { 0.1 * net } else { 0.5 * net };
    let u2 = air.wind_speed_m_s;
    let numerator = 0.408 * slope * (net - ground) + gamma * 37.0 / (t + 273.0) * u2 * (es - ea);
    (numerator / (slope + gamma * (1.0 + 0.34 * u2))).max(0.0)
}

/// Wind at 2 m over wind at a height over short grass. FAO-56 eq. 47, ASCE-EWRI eq. 33.
#[must_use]
pub fn wind_factor(height_m: f64) -> f64 {
    4.87 / (67.8 * height_m - 5.42).ln()
}

/// What the air does to a wet leaf over a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AirOfDay {
    /// The warmest moment, Cel.
    pub max_c: f64,
    /// The coldest moment, Cel.
    pub min_c: f64,
    /// Mean dew point, Cel.
    pub dew_point_c: f64,
    /// Mean wind, m/s at 2 m.
    pub wind_speed_m_s: f64,
    /// Global short-wave radiation, MJ/(m2 d).
    pub solar_radiation_mj_m2_d: f64,
    /// Degrees north.
    pub latitude: f64,
    /// Metres above the sea.
    pub elevation_m: f64,
    /// Day of the year from 1, 1 January, to 366.
    pub day_of_year: u16,
}

/// Reference evapotranspiration of short grass over a day, mm, never below zero.
///
/// ASCE-EWRI (2005) eq. 1 with table 1's Cn 900 and Cd 0.34, eq. 2 to 8 (pressure, psychrometric constant, slope, vapour pressures), 16 to 19
/// (net radiation, cloudiness with Rs/Rso within 0.3 to 1) and 19's clear sky (0.75 + 2e-5 z) Ra.
#[must_use]
pub fn reference_mm_d(air: &AirOfDay) -> f64 {
    let mean_c = 0.5 * (air.max_c + air.min_c);
    let es = 0.5 * (saturation_vapour_pressure_kpa(air.max_c) + saturation_vapour_pressure_kpa(air.min_c));
    let ea = saturation_vapour_pressure_kpa(air.dew_point_c).min(es);
    let slope = 4098.0 * saturation_vapour_pressure_kpa(mean_c) / (mean_c + 237.3).powi(2);
    let gamma = 0.665e-3 * 101.3 * ((293.0 - 0.0065 * air.elevation_m) / 293.0).powf(5.26);
    let rs = air.solar_radiation_mj_m2_d;
    let rso = (0.75 + 2e-5 * air.elevation_m) * extraterrestrial_mj_m2_d(air.latitude, f64::from(air.day_of_year));
    let clearness = if rso > 0.0 { (rs / rso).clamp(0.3, 1.0) } else { 1.0 };
    let fourth = 0.5 * ((air.max_c + 273.16).powi(4) + (air.min_c + 273.16).powi(4));
    let long_wave = 4.901e-9 * (1.35 * clearness - 0.35) * (0.34 - 0.14 * ea.sqrt()) * fourth;
    let net = 0.77 * rs - long_wave;
    let u2 = air.wind_speed_m_s;
    let numerator = 0.408 * slope * net + gamma * 900.0 / (mean_c + 273.0) * u2 * (es - ea);
    (numerator / (slope + gamma * (1.0 + 0.34 * u2))).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FAO-56 example 18: Uccle, 6 July; its 3.88 mm is rounded step by step.
    #[test]
    fn a_day_at_uccle_is_that_of_fao_56() {
        let day = AirOfDay {
            max_c: 21.5,
            min_c: 12.3,
            dew_point_c: dew_point_c(1.409),
            wind_speed_m_s: 2.78 * wind_factor(10.0),
            solar_radiation_mj_m2_d: 22.07,
            latitude: 50.8,
            elevation_m: 100.0,
            day_of_year: 187,
        };
        assert!((reference_mm_d(&day) - 3.88).abs() < 0.02, "{}", reference_mm_d(&day));
    }

    /// 1 July 2015 at Fallon by the University of Idaho's Ref-ET: 7.942 mm with a clear sky that depends on the air's water, which
    /// makes 0.055 mm less there (its tall reference has 10.571 mm with it, and 10.626 mm with the clear sky that is used here).
    #[test]
    fn a_day_at_fallon_is_that_of_ref_et() {
        let celsius = |fahrenheit: f64| (fahrenheit - 32.0) / 1.8;
        let day = AirOfDay {
            max_c: celsius(102.80),
            min_c: celsius(66.65),
            dew_point_c: celsius(49.84),
            wind_speed_m_s: 4.80 * 0.447_04 * wind_factor(3.0),
            solar_radiation_mj_m2_d: 674.07 * 0.041_868,
            latitude: 39.4575,
            elevation_m: 1208.5,
            day_of_year: 182,
        };
        assert!((reference_mm_d(&day) - 7.942 - 0.055).abs() < 0.005, "{}", reference_mm_d(&day));
    }

    /// FAO-56 example 19: N'Diaye, Senegal, 1 October, 8 m above the sea.
    #[test]
    fn an_hour_at_n_diaye_is_that_of_fao_56() {
        let day = Air {
            temperature_c: 38.0,
            dew_point_c: dew_point_c(3.445),
            wind_speed_m_s: 3.3,
            solar_radiation_w_m2: 2.450 / 0.0036,
            clear_sky_w_m2: 2.658 / 0.0036,
            elevation_m: 8.0,
        };
        assert!((reference_mm_h(&day) - 0.63).abs() < 0.005, "{}", reference_mm_h(&day));
        let night = Air {
            temperature_c: 28.0,
            dew_point_c: dew_point_c(3.402),
            wind_speed_m_s: 1.9,
            solar_radiation_w_m2: 0.0,
            clear_sky_w_m2: 0.0,
            elevation_m: 8.0,
        };
        assert!(reference_mm_h(&night) < 0.005, "{}", reference_mm_h(&night));
    }

    #[test]
    fn the_dew_point_is_the_inverse_of_the_vapour_pressure() {
        for t in [-20.0, 0.0, 12.5, 35.0] {
            assert!((dew_point_c(saturation_vapour_pressure_kpa(t)) - t).abs() < 1e-9);
        }
    }
}
