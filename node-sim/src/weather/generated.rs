//! Weather generated for a place from its monthly normals, after Richardson (1981) and WGEN (Richardson and Wright 1984).
//!
//! **Wet and dry** days are a first-order Markov chain; a wet day's rain is gamma distributed, shape and scale from the mean by Geng, Penning
//! de Vries and Supit (1986). **Maximum, minimum and clearness** of the sky are the season's course and residuals from a first-order
//! autoregressive process of three numbers, `χ(n) = A χ(n-1) + B ε(n)`, with Richardson's correlations between them on a day and
//! from day to day. The course is another on wet days than on dry ones, so that both together have the month's mean. The
//! dew point follows the minimum. **Hours** are made as those of measured days are ([`super::diurnal`]), with clouds that pass. Where a spell of
//! rain begins a **front** passes: the wind rises, it is warmer before and colder after, and the first shower comes with it.
//!
//! Any day can be asked for in any order, and is the same. The chain looks back only to the last day whose number alone says wet or dry,
//! whatever the day before was (coupling from the past, Propp and Wilson 1996): a day or two. The residuals are moving averages over
//! [`DAYS_BACK`] days that begin in the stationary distribution.

mod day;
mod month;

use std::f64::consts::TAU;

use jiff::tz::Offset;

use super::normals::{DAYS, Normals};
use super::{AnnualTemperature, Hour};
use crate::chance::Chance;
use crate::sun::Place;
use month::{Courses, Month};

/// How many days back a moving average reaches: `A^25` is below a thousandth.
const DAYS_BACK: i64 = 25;
/// The most days the chain looks back; a wet spell is not 400 days long.
const CHAIN_BACK: i64 = 400;
/// Days and their numbers that are kept once computed.
const KEPT: usize = 8;

/// Richardson and Wright (1984): lag-one and lag-zero dependence of maximum, minimum and radiation, means over the United States.
const A: [[f64; 3]; 3] = [[0.567, 0.086, -0.002], [0.253, 0.504, -0.050], [-0.006, -0.039, 0.244]];
const B: [[f64; 3]; 3] = [[0.781, 0.0, 0.0], [0.328, 0.637, 0.0], [0.238, -0.341, 0.873]];
/// Likeness of a day's wind, and of its dryness beside the minimum's, to the day before. An assumption, as in [`super::synthetic`].
const WIND_PERSISTENCE: f64 = 0.4;
const DEW_PERSISTENCE: f64 = 0.6;

/// Generated weather of a place.
#[derive(Debug, Clone)]
pub struct Generated {
    place: Place,
    courses: Courses,
    months: [Month; 12],
    /// The square root of the stationary covariance of the residuals.
    start: [[f64; 3]; 3],
    wet: Chance,
    numbers: Chance,
    rain: Chance,
    clouds: Chance,
    kept_numbers: [Option<(i64, Numbers)>; KEPT],
    kept_days: [Option<(i64, [Hour; 24])>; KEPT],
}

/// What a day is like, before its hours.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Numbers {
    wet: bool,
    max_c: f64,
    min_c: f64,
    dew_point_c: f64,
    wind_m_s: f64,
    /// Radiation over clear-sky radiation.
    clearness: f64,
}

impl Generated {
    /// The weather with these normals, which must have no [`Normals::problems`].
    #[must_use]
    pub fn new(normals: &Normals, place: Place, seed: u64) -> Self {
        Self {
            place,
            courses: Courses::new(normals),
            months: Month::all(normals, &place),
            start: cholesky(&stationary()),
            wet: Chance::new(seed, "weather/normals/wet"),
            numbers: Chance::new(seed, "weather/normals/day"),
            rain: Chance::new(seed, "weather/normals/rain"),
            clouds: Chance::new(seed, "weather/normals/hours"),
            kept_numbers: [None; KEPT],
            kept_days: [None; KEPT],
        }
    }

    /// The hour counted from 1970.
    pub fn hour(&mut self, hour: i64) -> Hour {
        let local = hour + self.place.zone_h();
        let number = local.div_euclid(24);
        let slot = number.rem_euclid(KEPT as i64) as usize;
        let hours = match self.kept_days[slot] {
            Some((kept, hours)) if kept == number => hours,
            _ => {
                let hours = self.make_day(number);
                self.kept_days[slot] = Some((number, hours));
                hours
            }
        };
        hours[local.rem_euclid(24) as usize]
    }

    /// Whether it rains on a day since 1970.
    fn is_wet(&mut self, day: i64) -> bool {
        for back in 0..CHAIN_BACK {
            let month = &self.months[month_of(day - back).0];
            let chance = self.wet.at(day - back).uniform();
            if chance < month.wet_after_dry {
                return true;
            }
            if chance >= month.wet_after_wet {
                return false;
            }
            // Between the two the day is as the day before.
        }
        false
    }

    fn numbers(&mut self, day: i64) -> Numbers {
        let slot = day.rem_euclid(KEPT as i64) as usize;
        match self.kept_numbers[slot] {
            Some((kept, numbers)) if kept == day => numbers,
            _ => {
                let numbers = self.make_numbers(day);
                self.kept_numbers[slot] = Some((day, numbers));
                numbers
            }
        }
    }

    fn make_numbers(&mut self, day: i64) -> Numbers {
        let ([warmth, cold, clear], wind, dew) = self.residuals(day);
        let wet = self.is_wet(day);
        let (index, share) = month_of(day);
        let month = &self.months[index];
        let max_c = self.courses.max.at(index, share) + month.max_shift_c(wet) + month.max_sd_c * warmth;
        let min_residual_c = month.min_sd_c * cold;
        let min_c = self.courses.min.at(index, share) + min_residual_c;
        let (middle, half) = ((max_c + min_c) / 2.0, ((max_c - min_c) / 2.0).max(0.5));
        Numbers {
            wet,
            max_c: middle + half,
            min_c: middle - half,
            dew_point_c: self.courses.dew_point.at(index, share)
                + month.dew_shift_c(wet)
                + month::DEW_FOLLOWS_MIN * min_residual_c
                + month::DEW_SD_C * dew,
            wind_m_s: month.wind_m_s * (month::WIND_SD * wind - 0.5 * month::WIND_SD * month::WIND_SD).exp(),
            clearness: month.clearness(wet, clear),
        }
    }

    /// A day's residuals of maximum, minimum and clearness, of wind, and of dryness: standard normal each.
    fn residuals(&mut self, day: i64) -> ([f64; 3], f64, f64) {
        let (mut three, mut wind, mut dew) = ([0.0; 3], 0.0, 0.0);
        for back in (0..=DAYS_BACK).rev() {
            let mut draw = self.numbers.at(day - back);
            let epsilon = [draw.normal(), draw.normal(), draw.normal()];
            let (e_wind, e_dew) = (draw.normal(), draw.normal());
            if back == DAYS_BACK {
                (three, wind, dew) = (times(&self.start, &epsilon), e_wind, e_dew);
            } else {
                let (kept, new) = (times(&A, &three), times(&B, &epsilon));
                three = std::array::from_fn(|i| kept[i] + new[i]);
                let next = |value: f64, persistence: f64, e: f64| {
                    persistence * value + (1.0 - persistence * persistence).sqrt() * e
                };
                wind = next(wind, WIND_PERSISTENCE, e_wind);
                dew = next(dew, DEW_PERSISTENCE, e_dew);
            }
        }
        (three, wind, dew)
    }
}

/// The year's course of the air temperature that the normals have.
#[must_use]
pub fn annual_temperature(normals: &Normals) -> AnnualTemperature {
    let days: f64 = DAYS.iter().sum();
    let (mut begin, mut mean_c, mut cos, mut sin) = (0.0, 0.0, 0.0, 0.0);
    let means: [f64; 12] = std::array::from_fn(|month| 0.5 * (normals.max_c[month] + normals.min_c[month]));
    for (mean, length) in means.iter().zip(DAYS) {
        let angle = TAU * (begin + length / 2.0) / days;
        begin += length;
        mean_c += mean * length / days;
        cos += 2.0 * mean * angle.cos() * length / days;
        sin += 2.0 * mean * angle.sin() * length / days;
    }
    AnnualTemperature {
        mean_c,
        amplitude_c: cos.hypot(sin),
        warmest_day: (sin.atan2(cos) / TAU * days).rem_euclid(days),
    }
}

/// The month of a day since 1970, January 0, and how much of the month has passed at its noon.
pub(super) fn month_of(day: i64) -> (usize, f64) {
    let date = Offset::UTC.to_datetime(jiff::Timestamp::from_second(day * 86_400).unwrap_or_default()).date();
    let share = (f64::from(date.day()) - 0.5) / f64::from(date.days_in_month());
    (date.month().unsigned_abs() as usize - 1, share)
}

fn times(matrix: &[[f64; 3]; 3], vector: &[f64; 3]) -> [f64; 3] {
    std::array::from_fn(|i| (0..3).map(|k| matrix[i][k] * vector[k]).sum())
}

/// The covariance M that the residuals keep: M = A M Aᵀ + B Bᵀ.
fn stationary() -> [[f64; 3]; 3] {
    let mut m = [[0.0; 3]; 3];
    for _ in 0..100 {
        m = std::array::from_fn(|i| {
            std::array::from_fn(|j| {
                let kept: f64 =
                    (0..3).flat_map(|k| (0..3).map(move |l| (k, l))).map(|(k, l)| A[i][k] * m[k][l] * A[j][l]).sum();
                kept + (0..3).map(|k| B[i][k] * B[j][k]).sum::<f64>()
            })
        });
    }
    m
}

/// The lower triangular L with L Lᵀ = M.
fn cholesky(m: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    let mut l = [[0.0f64; 3]; 3];
    for i in 0..3 {
        for j in 0..=i {
            let rest = m[i][j] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            l[i][j] = if i == j { rest.max(0.0).sqrt() } else { rest / l[j][j] };
        }
    }
    l
}

#[cfg(test)]
mod tests;
