//! Weather out of chance: seasons, days that resemble the day before, wet and dry days, clouds, showers.
//!
//! Each day has four numbers (cloud and rain, temperature, wind, dryness) from first-order autoregressive processes. They
//! are computed as finite moving averages of the days' own independent numbers, so any day can be asked for without the
//! days before it, and is the same whenever it is asked for. A day is wet when its cloud number is beyond the threshold
//! that the climate's share of wet days sets (a clipped Gaussian process), so that clouds and rain come together.

use std::f64::consts::TAU;

use proto::Timestamp;

use super::{Climate, Hour};
use crate::chance::Chance;
use crate::sun::{Place, day_of_year};

const HOUR_MS: i64 = 3_600_000;

/// A day's likeness to the day before, for each of its numbers: autocorrelation at a lag of one day.
const PERSISTENCE: [f64; 4] = [0.45, 0.72, 0.4, 0.6];
/// How many days back a moving average reaches: `0.72^20` is a thousandth.
const DAYS_BACK: i64 = 20;
/// The same for the hours' numbers (clouds passing, wind).
const HOUR_PERSISTENCE: f64 = 0.6;
const HOURS_BACK: i64 = 10;

const CLOUD: usize = 0;
const WARMTH: usize = 1;
const WIND: usize = 2;
const DRYNESS: usize = 3;

/// Days that are kept once computed: yesterday's to tomorrow's, and room.
const DAYS_KEPT: usize = 8;

/// Synthetic weather of a place.
#[derive(Debug, Clone)]
pub struct Synthetic {
    climate: Climate,
    place: Place,
    days: Chance,
    hours: Chance,
    kept: [Option<(i64, Day)>; DAYS_KEPT],
}

/// A solar day.
#[derive(Debug, Clone, Copy)]
struct Day {
    mean_c: f64,
    /// Half of the difference between the day's warmest and coldest hour.
    swing_c: f64,
    dew_point_c: f64,
    wind_m_s: f64,
    /// Radiation over clear-sky radiation, before clouds that pass.
    clearness: f64,
    showers: [Shower; 3],
}

/// Rain between two hours of the solar day; hours beyond 24 are cut.
#[derive(Debug, Clone, Copy, Default)]
struct Shower {
    from_h: f64,
    to_h: f64,
    mm: f64,
}

impl Synthetic {
    /// The weather of a climate at a place.
    #[must_use]
    pub fn new(climate: Climate, place: Place, seed: u64) -> Self {
        let (days, hours) = (Chance::new(seed, "weather/day"), Chance::new(seed, "weather/hour"));
        Self { climate, place, days, hours, kept: [None; DAYS_KEPT] }
    }

    /// The hour counted from 1970.
    pub fn hour(&mut self, hour: i64) -> Hour {
        let start = Timestamp::from_millis(hour * HOUR_MS);
        let (number, h) = self.place.solar_day(start.plus_millis(HOUR_MS / 2));
        let day = self.day(number);
        // The day's numbers hold at noon; between two noons they pass from one to the other.
        let (other, share) = if h < 12.0 {
            (self.day(number - 1), (12.0 - h) / 24.0)
        } else {
            (self.day(number + 1), (h - 12.0) / 24.0)
        };
        let between = |of: fn(&Day) -> f64| of(&day) * (1.0 - share) + of(&other) * share;
        // Warmest at three in the afternoon; the second harmonic makes the morning steeper than the evening.
        let course = (TAU * (h - 15.0) / 24.0).cos() + 0.15 * (2.0 * TAU * (h - 14.0) / 24.0).cos();
        let (cloud, gust) = self.hour_numbers(hour);
        let rain_mm: f64 = day.showers.iter().map(|shower| shower.in_hour(h - 0.5)).sum();
        let raining = rain_mm > 0.0;
        let air_temperature_c =
            between(|d| d.mean_c) + between(|d| d.swing_c) * course - if raining { 1.0 } else { 0.0 };
        let dew_point_c =
            if raining { air_temperature_c - 0.6 } else { between(|d| d.dew_point_c).min(air_temperature_c - 0.4) };
        let clearness =
            (day.clearness + (1.0 - day.clearness) * 0.6 * cloud).clamp(0.12, 1.0) * if raining { 0.5 } else { 1.0 };
        let breeze = 0.65 + 0.7 * (TAU * (h - 15.5) / 24.0).cos().max(0.0);
        Hour {
            air_temperature_c,
            dew_point_c,
            wind_speed_m_s: between(|d| d.wind_m_s) * breeze * (0.3 * gust).exp(),
            solar_radiation_w_m2: self.place.clear_sky_hour_w_m2(start) * clearness,
            rain_mm,
        }
    }

    /// Rain of the hour, mm.
    pub fn rain_mm(&mut self, hour: i64) -> f64 {
        let (number, h) = self.place.solar_day(Timestamp::from_millis(hour * HOUR_MS + HOUR_MS / 2));
        self.day(number).showers.iter().map(|shower| shower.in_hour(h - 0.5)).sum()
    }

    fn day(&mut self, number: i64) -> Day {
        let slot = number.rem_euclid(DAYS_KEPT as i64) as usize;
        match self.kept[slot] {
            Some((kept, day)) if kept == number => day,
            _ => {
                let day = self.make_day(number);
                self.kept[slot] = Some((number, day));
                day
            }
        }
    }

    fn make_day(&mut self, number: i64) -> Day {
        let mut numbers = [0.0; 4];
        for back in (0..=DAYS_BACK).rev() {
            let mut draw = self.days.at(2 * (number - back));
            for (value, persistence) in numbers.iter_mut().zip(PERSISTENCE) {
                let innovation = (1.0 - persistence * persistence).sqrt() * draw.normal();
                *value = if back == DAYS_BACK { draw.normal() } else { persistence * *value + innovation };
            }
        }
        let mut draw = self.days.at(2 * number + 1);
        let climate = &self.climate;
        let season = (TAU * (day_of_year(number) - climate.warmest_day) / 365.2425).cos();
        let wet_share = (climate.wet_day_share * (1.0 - 0.5 * season)).clamp(1e-6, 0.9);
        // The normal quantile by the logistic approximation, within one per cent of probability.
        let threshold = ((1.0 - wet_share) / wet_share).ln() / 1.702;
        let cloud = numbers[CLOUD];
        let wet = cloud > threshold;
        let cloudiness = 1.0 / (1.0 + (-1.702 * cloud).exp());
        let clearness = if wet { 0.35 + 0.2 * draw.uniform() } else { 1.0 - 0.4 * cloudiness.powi(3) };
        let mean_c = climate.mean_c + climate.amplitude_c * season + climate.day_sd_c * numbers[WARMTH]
            - if wet { 2.0 } else { 0.0 };
        let swing_c = climate.swing_c * (0.35 + 0.65 * clearness);
        let depression_c = if wet { 0.5 } else { (climate.dryness_c * (1.0 + 0.4 * numbers[DRYNESS])).max(0.0) };
        Day {
            mean_c,
            swing_c,
            dew_point_c: mean_c - swing_c - depression_c,
            wind_m_s: climate.wind_m_s * (0.35 * numbers[WIND]).exp(),
            clearness,
            showers: if wet { showers(climate.rain_per_wet_day_mm, &mut draw) } else { Default::default() },
        }
    }

    /// Two numbers of the hour that resemble those of the hour before: clouds passing, wind.
    fn hour_numbers(&mut self, hour: i64) -> (f64, f64) {
        let mut numbers = (0.0, 0.0);
        let scale = (1.0 - HOUR_PERSISTENCE * HOUR_PERSISTENCE).sqrt();
        for back in (0..=HOURS_BACK).rev() {
            let mut draw = self.hours.at(hour - back);
            numbers.0 = HOUR_PERSISTENCE * numbers.0 + scale * draw.normal();
            numbers.1 = HOUR_PERSISTENCE * numbers.1 + scale * draw.normal();
        }
        numbers
    }
}

/// A wet day's rain: an exponential amount in one to three showers of half an hour to five hours.
fn showers(mean_mm: f64, draw: &mut crate::chance::Draw) -> [Shower; 3] {
    let total = -mean_mm * (1.0 - draw.uniform()).ln();
    let count = 1 + (3.0 * draw.uniform()) as usize;
    let mut showers = [Shower::default(); 3];
    let mut weights = 0.0;
    for shower in &mut showers[..count] {
        let duration_h = 0.5 + 4.5 * draw.uniform().powi(2);
        let from_h = draw.uniform() * (24.0 - duration_h);
        let weight = duration_h * (0.3 + draw.uniform());
        weights += weight;
        *shower = Shower { from_h, to_h: from_h + duration_h, mm: weight };
    }
    for shower in &mut showers[..count] {
        shower.mm *= total / weights;
    }
    showers
}

impl Shower {
    /// What falls in the hour that begins at `from_h`, mm.
    fn in_hour(&self, from_h: f64) -> f64 {
        let length = self.to_h - self.from_h;
        let common = (self.to_h.min(from_h + 1.0) - self.from_h.max(from_h)).max(0.0);
        if length > 0.0 { self.mm * common / length } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FALLON: Place = Place { latitude: 39.4575, longitude: -118.77388, elevation_m: 1208.5 };

    fn year(seed: u64) -> Vec<Hour> {
        let mut weather = Synthetic::new(Climate::default(), FALLON, seed);
        let first = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_millis() / HOUR_MS;
        (first..first + 8760).map(|hour| weather.hour(hour)).collect()
    }

    fn mean(hours: &[Hour], of: fn(&Hour) -> f64) -> f64 {
        hours.iter().map(of).sum::<f64>() / hours.len() as f64
    }

    #[test]
    fn an_hour_is_the_same_whenever_it_is_asked_for() {
        let hours = year(3);
        let mut weather = Synthetic::new(Climate::default(), FALLON, 3);
        let first = "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_millis() / HOUR_MS;
        for at in [8759, 12, 4000, 13] {
            assert_eq!(weather.hour(first + at), hours[at as usize]);
        }
        assert_ne!(year(4)[100], hours[100]);
    }

    #[test]
    fn summers_are_warm_days_are_warmer_than_nights_and_the_year_keeps_to_its_climate() {
        let climate = Climate::default();
        let hours: Vec<Hour> = (0..4).flat_map(year).collect();
        let all = mean(&hours, |h| h.air_temperature_c);
        assert!((all - climate.mean_c).abs() < 1.5, "{all}");
        let (january, july) = (&hours[..744], &hours[4344..5088]);
        assert!(mean(july, |h| h.air_temperature_c) > mean(january, |h| h.air_temperature_c) + climate.amplitude_c);
        assert!(mean(july, |h| h.solar_radiation_w_m2) > 1.8 * mean(january, |h| h.solar_radiation_w_m2));
        // 22 to 23 UTC is the afternoon at 119 degrees west, 12 to 13 UTC the end of the night.
        let hour_of_day =
            |at: usize| mean(&july.iter().skip(at).step_by(24).copied().collect::<Vec<_>>(), |h| h.air_temperature_c);
        assert!(hour_of_day(22) > hour_of_day(12) + climate.swing_c);
        assert!(
            hours.iter().all(|h| h.dew_point_c <= h.air_temperature_c
                && h.wind_speed_m_s >= 0.0
                && h.solar_radiation_w_m2 >= 0.0)
        );
    }

    #[test]
    fn it_rains_on_a_share_of_the_days_and_wet_days_are_dark() {
        let climate = Climate::default();
        let hours: Vec<Hour> = (0..6).flat_map(year).collect();
        // Solar days begin 8 hours after those of UTC.
        let days: Vec<(f64, f64)> = hours[8..hours.len() - 16]
            .chunks_exact(24)
            .map(|day| (day.iter().map(|h| h.rain_mm).sum(), mean(day, |h| h.solar_radiation_w_m2)))
            .collect();
        let wet: Vec<_> = days.iter().filter(|day| day.0 > 0.1).collect();
        let share = wet.len() as f64 / days.len() as f64;
        assert!((share - climate.wet_day_share).abs() < 0.05, "{share}");
        let per_wet_day = wet.iter().map(|day| day.0).sum::<f64>() / wet.len() as f64;
        assert!((per_wet_day - climate.rain_per_wet_day_mm).abs() < 1.0, "{per_wet_day}");
        let light = |wet: bool| {
            let of: Vec<f64> = days.iter().filter(|day| (day.0 > 0.1) == wet).map(|day| day.1).collect();
            of.iter().sum::<f64>() / of.len() as f64
        };
        assert!(light(true) < 0.7 * light(false), "{} {}", light(true), light(false));
    }

    #[test]
    fn a_day_resembles_the_day_before() {
        let hours: Vec<Hour> = (0..3).flat_map(year).collect();
        let days: Vec<f64> = hours.chunks_exact(24).map(|day| mean(day, |h| h.air_temperature_c)).collect();
        // Without the season: differences to the mean of the days around.
        let rest: Vec<f64> =
            (30..days.len() - 30).map(|d| days[d] - days[d - 30..d + 30].iter().sum::<f64>() / 60.0).collect();
        let variance: f64 = rest.iter().map(|r| r * r).sum();
        let lagged: f64 = rest.windows(2).map(|pair| pair[0] * pair[1]).sum();
        assert!((0.5..0.9).contains(&(lagged / variance)), "{}", lagged / variance);
    }
}
