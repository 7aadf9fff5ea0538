//! Days of a daily file, and the hours that are made of them.

use super::super::Hour;
use super::super::diurnal::{self, Extremes, SHOWER_LIGHT};
use super::gaps::Row;
use super::header::Quantity;
use crate::chance::Chance;
use crate::evapotranspiration::{dew_point_c, saturation_vapour_pressure_kpa};
use crate::sun::Place;

/// A day as it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Day {
    /// Highest air temperature, Cel.
    pub max_c: f64,
    /// Lowest air temperature, Cel.
    pub min_c: f64,
    /// Mean dew point, Cel.
    pub dew_point_c: f64,
    /// Mean wind at the file's height, m/s.
    pub wind_speed_m_s: f64,
    /// Mean radiation, W/m2.
    pub solar_radiation_w_m2: f64,
    /// mm.
    pub rain_mm: f64,
    /// The reference evapotranspiration that the file gives, mm.
    pub published_mm: Option<f64>,
    /// Whether something of what the evapotranspiration needs was missing and filled.
    pub filled: bool,
}

/// A day of a filled row. Its vapour pressure is that of the dew point, or the column's, or (FAO-56 eq. 17 and 19) of the humidities and
/// the extreme temperatures.
pub(super) fn day(row: &Row, present: &dyn Fn(Quantity) -> bool, filled: bool) -> Day {
    let value = |quantity: Quantity| row[quantity as usize].unwrap_or(0.0);
    let (max_c, min_c) = (value(Quantity::AirMax).max(value(Quantity::AirMin)), value(Quantity::AirMin));
    let (es_max, es_min) = (saturation_vapour_pressure_kpa(max_c), saturation_vapour_pressure_kpa(min_c));
    let dew_point = if present(Quantity::DewPoint) {
        value(Quantity::DewPoint)
    } else if present(Quantity::VapourPressure) {
        dew_point_c(value(Quantity::VapourPressure))
    } else if present(Quantity::HumidityMax) {
        dew_point_c((es_min * value(Quantity::HumidityMax) + es_max * value(Quantity::HumidityMin)) / 200.0)
    } else {
        dew_point_c(value(Quantity::Humidity) / 100.0 * (es_min + es_max) / 2.0)
    };
    Day {
        max_c,
        min_c,
        dew_point_c: dew_point.min(max_c),
        wind_speed_m_s: value(Quantity::Wind),
        solar_radiation_w_m2: value(Quantity::Radiation).max(0.0),
        rain_mm: value(Quantity::Rain),
        published_mm: row[Quantity::Reference as usize],
        filled,
    }
}

/// The hours of days in a row, the first of which has this number since 1970 by the place's whole-hour clock.
///
/// Temperature by [`diurnal::temperature_c`]; radiation in proportion to the clear sky's, so that the day's sum is kept; the dew point on
/// a line from one day's middle to the next's; wind by [`diurnal::wind_share`]; rain in showers that chance places in the day, the
/// same ones whenever the file is read.
pub(super) fn hours(days: &[Day], first: i64, place: &Place) -> Vec<Hour> {
    let mut chance = Chance::new(0, "weather/file/showers");
    let mut hours = Vec::with_capacity(days.len() * 24);
    for (index, day) in days.iter().enumerate() {
        let number = first + index as i64;
        let before = &days[index.saturating_sub(1)];
        let next = days.get(index + 1).unwrap_or(day);
        let clear = diurnal::clear_sky_w_m2(place, number);
        let rain = diurnal::showers(day.rain_mm, None, &mut chance.at(number));
        let light: [f64; 24] = std::array::from_fn(|h| clear[h] * if rain[h] > 0.0 { SHOWER_LIGHT } else { 1.0 });
        let lights = light.iter().sum::<f64>() / 24.0;
        let extremes = |day: &Day| Extremes { min_c: day.min_c, max_c: day.max_c };
        let daylight_h = diurnal::day_length_h(place, number);
        for hour in 0..24 {
            let solar = diurnal::solar_hour(place, hour);
            let air_temperature_c =
                diurnal::temperature_c(solar, daylight_h, extremes(before), extremes(day), extremes(next));
            let (other, share) = if hour < 12 { (before, 11.5 - hour as f64) } else { (next, hour as f64 - 11.5) };
            let dew_point = day.dew_point_c + (other.dew_point_c - day.dew_point_c) * share / 24.0;
            hours.push(Hour {
                air_temperature_c,
                dew_point_c: dew_point.min(air_temperature_c),
                wind_speed_m_s: day.wind_speed_m_s * diurnal::wind_share(solar),
                solar_radiation_w_m2: if lights > 0.0 { day.solar_radiation_w_m2 * light[hour] / lights } else { 0.0 },
                rain_mm: rain[hour],
            });
        }
    }
    hours
}
