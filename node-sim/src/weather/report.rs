//! Generated weather against its normals, and computed evapotranspiration against published: the numbers of the report and of the tests.

use super::generated::{Generated, month_of};
use super::normals::{DAYS, Monthly, Normals};
use super::{Hour, Weather};
use crate::sun::Place;

/// The first generated day of a comparison, since 1970: 1 January 2001.
const FIRST_DAY: i64 = 11_323;
/// A day has rain from here on, mm: below the least that is generated.
const WET_MM: f64 = 0.05;

/// One month's value of many generated years beside its normal.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What is compared, with its unit.
    pub what: &'static str,
    /// The month, January 0.
    pub month: usize,
    /// The normal.
    pub normal: f64,
    /// The mean over the generated years.
    pub generated: f64,
    /// The standard error of that mean, by the spread between the years.
    pub standard_error: f64,
    /// How far the method itself may be off: hours have other extremes than the days that they are made of, air cannot be
    /// more than saturated.
    pub bias: f64,
}

impl Comparison {
    /// Whether the difference is within four standard errors and the method's bias.
    #[must_use]
    pub fn holds(&self) -> bool {
        (self.generated - self.normal).abs() <= 4.0 * self.standard_error + self.bias
    }
}

/// A generated day, by its hours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Day {
    pub year: usize,
    pub month: usize,
    pub max_c: f64,
    pub min_c: f64,
    pub rain_mm: f64,
    pub radiation_mj_m2: f64,
    pub wind_m_s: f64,
    pub dew_point_c: f64,
}

impl Day {
    pub(super) fn is_wet(&self) -> bool {
        self.rain_mm > WET_MM
    }
}

/// The days of so many generated years.
pub(super) fn days(normals: &Normals, place: &Place, seed: u64, years: usize) -> Vec<Day> {
    let mut weather = Generated::new(normals, *place, seed);
    (0..(365.2425 * years as f64) as i64)
        .map(|index| {
            let number = FIRST_DAY + index;
            let hours: [Hour; 24] =
                std::array::from_fn(|hour| weather.hour(24 * number + hour as i64 - place.zone_h()));
            let mean = |of: fn(&Hour) -> f64| hours.iter().map(of).sum::<f64>() / 24.0;
            Day {
                year: (index as f64 / 365.2425) as usize,
                month: month_of(number).0,
                max_c: hours.iter().map(|h| h.air_temperature_c).fold(f64::MIN, f64::max),
                min_c: hours.iter().map(|h| h.air_temperature_c).fold(f64::MAX, f64::min),
                rain_mm: hours.iter().map(|h| h.rain_mm).sum(),
                radiation_mj_m2: mean(|h| h.solar_radiation_w_m2) * 0.0864,
                wind_m_s: mean(|h| h.wind_speed_m_s),
                dew_point_c: mean(|h| h.dew_point_c),
            }
        })
        .collect()
}

/// What it is, its normals, the method's bias, whether a month's value is a sum, and a day's value.
type Quantity<'a> = (&'static str, &'a Monthly, f64, bool, fn(&Day) -> f64);

/// So many generated years beside the normals that they were generated from, at least two: month by month of each quantity in turn.
#[must_use]
pub fn against_normals(normals: &Normals, place: &Place, seed: u64, years: usize) -> Vec<Comparison> {
    let days = days(normals, place, seed, years);
    let (radiation, dew_point) = (normals.radiation(place), normals.dew_point());
    let quantities: [Quantity<'_>; 7] = [
        ("mean maximum, °C", &normals.max_c, 0.25, false, |day| day.max_c),
        ("mean minimum, °C", &normals.min_c, 0.25, false, |day| day.min_c),
        ("rain, mm", &normals.rain_mm, 0.1, true, |day| day.rain_mm),
        ("wet days", &normals.wet_days, 0.02, true, |day| f64::from(u8::from(day.is_wet()))),
        ("radiation, MJ/(m² d)", &radiation, 0.15, false, |day| day.radiation_mj_m2),
        ("wind, m/s", &normals.wind_m_s, 0.03, false, |day| day.wind_m_s),
        ("dew point, °C", &dew_point, 0.4, false, |day| day.dew_point_c),
    ];
    let mut comparisons = Vec::with_capacity(12 * quantities.len());
    for (what, normal, bias, sum, of) in quantities {
        for (month, &normal) in normal.iter().enumerate() {
            let (generated, standard_error) = of_years(&days, years, month, sum, of);
            comparisons.push(Comparison { what, month, normal, generated, standard_error, bias });
        }
    }
    comparisons
}

/// The mean over the years of a month's mean (or sum), and its standard error.
fn of_years(days: &[Day], years: usize, month: usize, sum: bool, of: fn(&Day) -> f64) -> (f64, f64) {
    let (mut sums, mut counts) = (vec![0.0; years], vec![0.0; years]);
    for day in days.iter().filter(|day| day.month == month && day.year < years) {
        sums[day.year] += of(day);
        counts[day.year] += 1.0;
    }
    // A month that a year's end cuts is not one.
    let values: Vec<f64> = sums
        .iter()
        .zip(&counts)
        .filter(|(_, count)| **count >= 28.0)
        .map(|(all, count)| all / count * if sum { DAYS[month] } else { 1.0 })
        .collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}

/// A file's days whose evapotranspiration it gives, computed and published.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgainstPublished {
    /// Day since 1970; mm by the daily equation; the sum of the hourly one, mm; mm as published.
    pub days: Vec<(i64, f64, f64, f64)>,
}

impl AgainstPublished {
    /// Of the weather's file; days with filled measurements are left out. None when the file gives none.
    #[must_use]
    pub fn of(weather: &Weather) -> Option<Self> {
        let zone_h = weather.place().zone_h();
        let published: Vec<(i64, f64)> = weather
            .file()?
            .days()
            .filter(|(_, day)| !day.filled)
            .filter_map(|(hour, day)| Some(((hour + zone_h).div_euclid(24), day.published_mm?)))
            .collect();
        let mut weather = weather.clone();
        let days = published.into_iter().map(|(day, mm)| {
            let ours = weather.reference_day(day);
            (day, ours.daily_mm, ours.hourly_mm, mm)
        });
        let days: Vec<_> = days.collect();
        (!days.is_empty()).then_some(Self { days })
    }

    /// Sums over all days, mm: by the daily equation, by the hourly one, as published.
    #[must_use]
    pub fn sums_mm(&self) -> (f64, f64, f64) {
        self.days.iter().fold((0.0, 0.0, 0.0), |sums, day| (sums.0 + day.1, sums.1 + day.2, sums.2 + day.3))
    }

    /// Mean absolute difference of the daily equation's days from the published ones, mm.
    #[must_use]
    pub fn mean_absolute_difference_mm(&self) -> f64 {
        self.days.iter().map(|day| (day.1 - day.3).abs()).sum::<f64>() / self.days.len() as f64
    }
}
