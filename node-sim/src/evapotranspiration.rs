//! Reference evapotranspiration by the hourly FAO-56 Penman-Monteith equation (Allen et al. 1998).

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

#[cfg(test)]
mod tests {
    use super::*;

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
