//! The weather over the farm: measured ([`mod@file`]), generated from a place's monthly normals ([`generated`]), or out of chance for a simple
//! climate ([`synthetic`]); hour by hour and in between.
//!
//! A weather can be asked for any time in any order and gives the same answer. It knows nothing of fields and stations.

pub mod config;
pub mod diurnal;
pub mod file;
pub mod generated;
pub mod normals;
pub mod report;
pub mod synthetic;

use std::f64::consts::TAU;

use proto::Timestamp;
use serde::{Deserialize, Serialize};

pub use config::WeatherConfig;
pub use file::{WeatherFile, WeatherFileError};
pub use generated::Generated;
pub use normals::Normals;
pub use synthetic::Synthetic;

use crate::evapotranspiration::{
    Air, AirOfDay, reference_mm_d, reference_mm_h, saturation_vapour_pressure_kpa, wind_factor,
};
use crate::sun::{Place, day_of_year};

const HOUR_MS: i64 = 3_600_000;

/// Hours that are kept once computed: a day and a half around now.
const HOURS_KEPT: usize = 64;
/// Days whose evapotranspiration is kept.
const DAYS_KEPT: usize = 4;

/// Below this share of the clear sky's radiation a measured day is dark enough for rain, when rain was not measured.
const RAIN_CLEARNESS: f64 = 0.75;

/// Mean weather of an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour {
    /// Cel, at 2 m.
    pub air_temperature_c: f64,
    /// Cel; at most the air temperature.
    pub dew_point_c: f64,
    /// m/s, at 2 m.
    pub wind_speed_m_s: f64,
    /// W/m2, global, on the horizontal.
    pub solar_radiation_w_m2: f64,
    /// mm in the hour.
    pub rain_mm: f64,
}

/// The weather at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Cel, at 2 m.
    pub air_temperature_c: f64,
    /// Cel; at most the air temperature.
    pub dew_point_c: f64,
    /// %, 0 to 100.
    pub relative_humidity_pct: f64,
    /// m/s, at 2 m.
    pub wind_speed_m_s: f64,
    /// W/m2.
    pub solar_radiation_w_m2: f64,
    /// W/m2 under a clear sky.
    pub clear_sky_w_m2: f64,
    /// Rain intensity, mm/h.
    pub rain_mm_h: f64,
    /// FAO-56 reference evapotranspiration, mm/h.
    pub et0_mm_h: f64,
}

/// The step of the reference evapotranspiration that drives the crops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceStep {
    /// FAO-56's hourly equation, at every instant. Its days sum to some 5 % more than the daily equation's, because a night's
    /// cannot be below zero.
    #[default]
    Hourly,
    /// The daily equation, as weather networks publish it; a day's sum is spread over its hours in proportion to the hourly equation.
    /// A daily file agrees best with what was published. A file of hours has neither the day's highest and lowest temperature nor, where
    /// its radiation is sampled, its sum: Fallon's year comes out 1.2 % low by its hours, and a day 0.10 mm off instead of 0.07.
    Daily,
}

/// A day's reference evapotranspiration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReferenceDay {
    /// By the daily equation, mm.
    pub daily_mm: f64,
    /// By the hourly equation, the sum of the day's hours, mm.
    pub hourly_mm: f64,
    /// The daily sum spread over the hours, mm/h.
    spread_mm_h: [f64; 24],
}

/// What the synthetic weather of a place is like. The defaults are a dry, continental valley that is farmed with
/// irrigation: cool nights, warm summers, rain on every sixth day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Climate {
    /// Mean air temperature of the year, Cel.
    pub mean_c: f64,
    /// Half of the difference between the warmest and the coldest time of the year, Cel.
    pub amplitude_c: f64,
    /// Day of the year that is warmest on the mean: about 200 north of the equator, 17 south of it.
    pub warmest_day: f64,
    /// Standard deviation of a day's mean temperature around the season's, Cel.
    pub day_sd_c: f64,
    /// Half of the difference between a clear day's warmest and coldest hour, Cel.
    pub swing_c: f64,
    /// How far the dew point is below the night's lowest temperature on a mean dry day, Cel.
    pub dryness_c: f64,
    /// Mean wind speed by night at 2 m, m/s; afternoons are about twice as windy.
    pub wind_m_s: f64,
    /// Share of the days with rain, 0 to 0.9. Half as many again in the coldest season, half as many in the warmest.
    pub wet_day_share: f64,
    /// Mean rain of a wet day, mm.
    pub rain_per_wet_day_mm: f64,
}

impl Default for Climate {
    fn default() -> Self {
        Self {
            mean_c: 12.5,
            amplitude_c: 12.0,
            warmest_day: 202.0,
            day_sd_c: 3.0,
            swing_c: 8.0,
            dryness_c: 3.0,
            wind_m_s: 2.0,
            wet_day_share: 0.16,
            rain_per_wet_day_mm: 4.5,
        }
    }
}

/// The year's course of the air temperature, which sets the temperature deep in the soil.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnnualTemperature {
    /// Mean of the year, Cel.
    pub mean_c: f64,
    /// Amplitude of the year's first harmonic, Cel.
    pub amplitude_c: f64,
    /// The day of the year at which that harmonic is highest.
    pub warmest_day: f64,
}

/// The weather of a place.
#[derive(Debug, Clone)]
pub struct Weather {
    place: Place,
    source: Source,
    annual: AnnualTemperature,
    step: ReferenceStep,
    kept: [Option<(i64, Hour)>; HOURS_KEPT],
    kept_days: [Option<(i64, ReferenceDay)>; DAYS_KEPT],
}

#[derive(Debug, Clone)]
enum Source {
    Synthetic(Box<Synthetic>),
    Generated(Box<Generated>),
    /// Measured; what is made up gives the rain when the file has none.
    Measured {
        file: WeatherFile,
        wind_factor: f64,
        rain: Option<Rain>,
    },
}

#[derive(Debug, Clone)]
enum Rain {
    Synthetic(Box<Synthetic>),
    Generated(Box<Generated>),
}

impl Weather {
    /// Weather out of chance.
    #[must_use]
    pub fn synthetic(climate: Climate, place: Place, seed: u64) -> Self {
        let annual = AnnualTemperature {
            mean_c: climate.mean_c,
            amplitude_c: climate.amplitude_c,
            warmest_day: climate.warmest_day,
        };
        Self::of(Source::Synthetic(Box::new(Synthetic::new(climate, place, seed))), place, annual)
    }

    /// Weather generated from monthly normals, which must have no [`Normals::problems`].
    #[must_use]
    pub fn generated(normals: &Normals, place: Place, seed: u64) -> Self {
        let source = Source::Generated(Box::new(Generated::new(normals, place, seed)));
        Self::of(source, place, generated::annual_temperature(normals))
    }

    fn of(source: Source, place: Place, annual: AnnualTemperature) -> Self {
        Self {
            place,
            source,
            annual,
            step: ReferenceStep::default(),
            kept: [None; HOURS_KEPT],
            kept_days: [None; DAYS_KEPT],
        }
    }

    /// The same weather whose evapotranspiration has this step.
    #[must_use]
    pub fn with_reference(self, step: ReferenceStep) -> Self {
        Self { step, ..self }
    }

    /// Measured weather, whose wind was measured at `wind_height_m` (unless its file says otherwise) and is brought to 2 m by FAO-56 eq. 47.
    ///
    /// When the file has no rain column, the climate's synthetic rain falls in it, on those days only whose measured
    /// radiation says that there were clouds.
    #[must_use]
    pub fn measured(file: WeatherFile, wind_height_m: f64, climate: Climate, place: Place, seed: u64) -> Self {
        let annual = annual_temperature(&file);
        let wind_factor = wind_factor(file.wind_height_m.unwrap_or(wind_height_m));
        let rain = (!file.has_rain).then(|| Rain::Synthetic(Box::new(Synthetic::new(climate, place, seed))));
        Self::of(Source::Measured { file, wind_factor, rain }, place, annual)
    }

    /// The same measured weather; where its file has no rain, with that of the normals, whatever the radiation says.
    #[must_use]
    pub fn with_rain_of(mut self, normals: &Normals, seed: u64) -> Self {
        if let Source::Measured { rain: Some(rain), .. } = &mut self.source {
            *rain = Rain::Generated(Box::new(Generated::new(normals, self.place, seed)));
        }
        self
    }

    /// The file of measured weather, if it is measured.
    #[must_use]
    pub fn file(&self) -> Option<&WeatherFile> {
        match &self.source {
            Source::Measured { file, .. } => Some(file),
            Source::Synthetic(_) | Source::Generated(_) => None,
        }
    }

    /// The year's course of the air temperature.
    #[must_use]
    pub fn annual(&self) -> AnnualTemperature {
        self.annual
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The weather at an instant: on a straight line between the middles of two hours; rain as it is in its hour.
    pub fn at(&mut self, time: Timestamp) -> Conditions {
        let ms = time.as_millis();
        let before = (ms - HOUR_MS / 2).div_euclid(HOUR_MS);
        let share = (ms - HOUR_MS / 2 - before * HOUR_MS) as f64 / HOUR_MS as f64;
        let (a, b) = (self.hour(before), self.hour(before + 1));
        let between = |a: f64, b: f64| a + (b - a) * share;
        let air_temperature_c = between(a.air_temperature_c, b.air_temperature_c);
        let dew_point_c = between(a.dew_point_c, b.dew_point_c).min(air_temperature_c);
        let clear_sky_w_m2 = self.place.clear_sky_w_m2(time);
        let wind_speed_m_s = between(a.wind_speed_m_s, b.wind_speed_m_s);
        let solar_radiation_w_m2 = between(a.solar_radiation_w_m2, b.solar_radiation_w_m2);
        let air = Air {
            temperature_c: air_temperature_c,
            dew_point_c,
            wind_speed_m_s,
            solar_radiation_w_m2,
            clear_sky_w_m2,
            elevation_m: self.place.elevation_m,
        };
        let et0_mm_h = match self.step {
            ReferenceStep::Hourly => reference_mm_h(&air),
            ReferenceStep::Daily => {
                let local = ms.div_euclid(HOUR_MS) + self.place.zone_h();
                self.reference_day(local.div_euclid(24)).spread_mm_h[local.rem_euclid(24) as usize]
            }
        };
        Conditions {
            air_temperature_c,
            dew_point_c,
            relative_humidity_pct: 100.0 * saturation_vapour_pressure_kpa(dew_point_c)
                / saturation_vapour_pressure_kpa(air_temperature_c),
            wind_speed_m_s,
            solar_radiation_w_m2,
            clear_sky_w_m2,
            rain_mm_h: self.hour(ms.div_euclid(HOUR_MS)).rain_mm,
            et0_mm_h,
        }
    }

    /// Rain between two instants, mm.
    pub fn rain_mm(&mut self, from: Timestamp, to: Timestamp) -> f64 {
        let (from, to) = (from.as_millis(), to.as_millis());
        let hours = from.div_euclid(HOUR_MS)..=(to - 1).div_euclid(HOUR_MS);
        hours
            .map(|hour| {
                let common = to.min((hour + 1) * HOUR_MS) - from.max(hour * HOUR_MS);
                self.hour(hour).rain_mm * common.max(0) as f64 / HOUR_MS as f64
            })
            .sum()
    }

    /// The reference evapotranspiration of a day since 1970 by the place's whole-hour clock.
    pub fn reference_day(&mut self, day: i64) -> ReferenceDay {
        let slot = day.rem_euclid(DAYS_KEPT as i64) as usize;
        match self.kept_days[slot] {
            Some((kept, reference)) if kept == day => reference,
            _ => {
                let reference = self.make_reference_day(day);
                self.kept_days[slot] = Some((day, reference));
                reference
            }
        }
    }

    fn make_reference_day(&mut self, day: i64) -> ReferenceDay {
        let place = self.place;
        let first = 24 * day - place.zone_h();
        let hours: [Hour; 24] = std::array::from_fn(|hour| self.hour(first + hour as i64));
        let hourly: [f64; 24] = std::array::from_fn(|at| {
            let hour = &hours[at];
            let middle = Timestamp::from_millis((first + at as i64) * HOUR_MS + HOUR_MS / 2);
            reference_mm_h(&Air {
                temperature_c: hour.air_temperature_c,
                dew_point_c: hour.dew_point_c,
                wind_speed_m_s: hour.wind_speed_m_s,
                solar_radiation_w_m2: hour.solar_radiation_w_m2,
                clear_sky_w_m2: place.clear_sky_w_m2(middle),
                elevation_m: place.elevation_m,
            })
        });
        let daily_mm = reference_mm_d(&self.air_of_day(day, &hours));
        let hourly_mm: f64 = hourly.iter().sum();
        let spread_mm_h = hourly.map(|mm| if hourly_mm > 0.0 { mm * daily_mm / hourly_mm } else { daily_mm / 24.0 });
        ReferenceDay { daily_mm, hourly_mm, spread_mm_h }
    }

    /// What the daily equation needs: as it was measured by the day, or of the day's hours.
    fn air_of_day(&self, day: i64, hours: &[Hour; 24]) -> AirOfDay {
        let mean = |of: fn(&Hour) -> f64| hours.iter().map(of).sum::<f64>() / 24.0;
        let mut air = AirOfDay {
            max_c: hours.iter().map(|hour| hour.air_temperature_c).fold(f64::MIN, f64::max),
            min_c: hours.iter().map(|hour| hour.air_temperature_c).fold(f64::MAX, f64::min),
            dew_point_c: mean(|hour| hour.dew_point_c),
            wind_speed_m_s: mean(|hour| hour.wind_speed_m_s),
            solar_radiation_mj_m2_d: mean(|hour| hour.solar_radiation_w_m2) * 0.0864,
            latitude: self.place.latitude,
            elevation_m: self.place.elevation_m,
            day_of_year: calendar_day(day),
        };
        if let Source::Measured { file, wind_factor, .. } = &self.source
            && let Some(measured) = file.day(24 * day - self.place.zone_h() + 12)
        {
            air.max_c = measured.max_c;
            air.min_c = measured.min_c;
            air.dew_point_c = measured.dew_point_c;
            air.wind_speed_m_s = measured.wind_speed_m_s * wind_factor;
            air.solar_radiation_mj_m2_d = measured.solar_radiation_w_m2 * 0.0864;
        }
        air
    }

    fn hour(&mut self, number: i64) -> Hour {
        let slot = number.rem_euclid(HOURS_KEPT as i64) as usize;
        match self.kept[slot] {
            Some((kept, hour)) if kept == number => hour,
            _ => {
                let hour = self.make_hour(number);
                self.kept[slot] = Some((number, hour));
                hour
            }
        }
    }

    fn make_hour(&mut self, number: i64) -> Hour {
        match &mut self.source {
            Source::Synthetic(synthetic) => synthetic.hour(number),
            Source::Generated(generated) => generated.hour(number),
            Source::Measured { file, wind_factor, rain } => {
                let mut hour = file.hour(number);
                hour.wind_speed_m_s *= *wind_factor;
                match rain {
                    None => {}
                    Some(Rain::Generated(rain)) => hour.rain_mm = rain.hour(number).rain_mm,
                    Some(Rain::Synthetic(rain)) => {
                        let mm = rain.rain_mm(number);
                        if mm > 0.0 && clearness(file, &self.place, number) < RAIN_CLEARNESS {
                            hour.rain_mm = mm;
                        }
                    }
                }
                hour
            }
        }
    }
}

/// The calendar's day of the year, from 1, of a day since 1970.
fn calendar_day(day: i64) -> u16 {
    let date = Timestamp::from_secs(day * 86_400).to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    date.day_of_year().unsigned_abs()
}

/// Measured over clear-sky radiation of the 24 hours around an hour.
fn clearness(file: &WeatherFile, place: &Place, hour: i64) -> f64 {
    let around = hour - 12..hour + 12;
    let clear: f64 = around.clone().map(|h| place.clear_sky_hour_w_m2(Timestamp::from_millis(h * HOUR_MS))).sum();
    let measured: f64 = around.map(|h| file.hour(h).solar_radiation_w_m2).sum();
    if clear > 0.0 { measured / clear } else { 1.0 }
}

/// Mean and first harmonic of a file of at least ten months; of a shorter one only the mean is known.
fn annual_temperature(file: &WeatherFile) -> AnnualTemperature {
    let n = file.hour_count() as f64;
    let mean_c = file.hours().map(|(_, hour)| hour.air_temperature_c).sum::<f64>() / n;
    if file.hour_count() < 300 * 24 {
        return AnnualTemperature { mean_c, amplitude_c: 0.0, warmest_day: 200.0 };
    }
    let (mut cos, mut sin) = (0.0, 0.0);
    for (number, hour) in file.hours() {
        let angle = TAU * day_of_year(number.div_euclid(24)) / 365.2425;
        cos += 2.0 / n * (hour.air_temperature_c - mean_c) * angle.cos();
        sin += 2.0 / n * (hour.air_temperature_c - mean_c) * angle.sin();
    }
    let warmest_day = (sin.atan2(cos) / TAU * 365.2425).rem_euclid(365.2425);
    AnnualTemperature { mean_c, amplitude_c: cos.hypot(sin), warmest_day }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FALLON: Place = Place { latitude: 39.4575, longitude: -118.77388, elevation_m: 1208.5 };

    fn fallon_by(name: &str) -> Weather {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/fallon-2015").join(name);
        let file = WeatherFile::read(&path, &file::Options::default(), &FALLON)
            .unwrap_or_else(|error| panic!("this test needs the weather measured at Fallon: {error}"));
        Weather::measured(file, 3.0, Climate::default(), FALLON, 1)
    }

    fn fallon() -> Weather {
        fallon_by("hourly.csv")
    }

    /// The days of Fallon's year that were wholly measured.
    fn published() -> (Weather, report::AgainstPublished) {
        let weather = fallon_by("daily.csv");
        let published = report::AgainstPublished::of(&weather).unwrap();
        assert_eq!(published.days.len(), 364);
        (weather, published)
    }

    #[test]
    fn each_day_of_a_year_has_the_evapotranspiration_that_was_published() {
        let (_, all) = published();
        let (daily, hourly, published) = all.sums_mm();
        // Rounding to 0.01 inch alone is 0.064 mm.
        assert!((daily / published - 1.0).abs() < 0.005, "{daily} {published}");
        assert!(all.mean_absolute_difference_mm() <= 0.08, "{}", all.mean_absolute_difference_mm());
        // The hourly equation is another one.
        assert!((0.97..1.08).contains(&(hourly / published)), "{hourly} {published}");
    }

    #[test]
    fn what_drives_the_crop_over_a_day_is_what_was_published() {
        let (weather, all) = published();
        let mut weather = weather.with_reference(ReferenceStep::Daily);
        let (mut sum, mut absolute) = (0.0, 0.0);
        for &(day, _, _, mm) in &all.days {
            let start = diurnal::hour_start(&FALLON, day, 0);
            let ours: f64 = (0..288).map(|step| weather.at(start.plus_secs(300 * step + 150)).et0_mm_h / 12.0).sum();
            sum += ours;
            absolute += (ours - mm).abs() / all.days.len() as f64;
        }
        let published = all.sums_mm().2;
        assert!((sum / published - 1.0).abs() < 0.005 && absolute <= 0.08, "{sum} {published} {absolute}");
    }

    #[test]
    fn hours_alone_give_the_daily_equation_as_well_as_their_samples_allow() {
        let (_, all) = published();
        let mut hours = fallon();
        let days = all.days.len() as f64;
        let (mut sum, mut absolute) = (0.0, 0.0);
        for &(day, _, _, mm) in &all.days {
            let ours = hours.reference_day(day).daily_mm;
            sum += ours;
            absolute += (ours - mm).abs() / days;
        }
        let published = all.sums_mm().2;
        assert!((0.985..0.995).contains(&(sum / published)) && absolute < 0.105, "{sum} {published} {absolute}");
    }

    #[test]
    fn a_year_at_maricopa_has_the_evapotranspiration_that_was_published_there_too() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/maricopa-cotton-2013/weather.csv");
        let place = Place { latitude: 33.069, longitude: -111.97, elevation_m: 361.0 };
        let file = WeatherFile::read(std::path::Path::new(path), &file::Options::default(), &place)
            .unwrap_or_else(|error| panic!("this test needs the weather measured at Maricopa: {error}"));
        assert_eq!((file.wind_height_m, file.has_rain), (Some(3.0), true));
        let all = report::AgainstPublished::of(&Weather::measured(file, 2.0, Climate::default(), place, 1)).unwrap();
        let (daily, _, published) = all.sums_mm();
        assert!((daily / published - 1.0).abs() < 0.005, "{daily} {published}");
        assert!(all.mean_absolute_difference_mm() <= 0.08, "{}", all.mean_absolute_difference_mm());
    }

    #[test]
    fn rain_between_two_times_adds_up() {
        let mut weather = Weather::synthetic(Climate { wet_day_share: 0.8, ..Climate::default() }, FALLON, 5);
        let start: Timestamp = "2026-04-01T00:13:00Z".parse().unwrap();
        let whole = weather.rain_mm(start, start.plus_secs(10 * 86_400));
        let parts: f64 =
            (0..10 * 288).map(|k| weather.rain_mm(start.plus_secs(300 * k), start.plus_secs(300 * (k + 1)))).sum();
        assert!(whole > 5.0 && (whole - parts).abs() < 1e-9, "{whole} {parts}");
    }

    #[test]
    fn a_years_reference_evapotranspiration_at_fallon_is_near_the_published_one() {
        let published =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/fallon-2015/daily.csv"))
                .unwrap_or_else(|error| panic!("this test needs ../shared/data/fallon-2015/daily.csv: {error}"));
        let total: f64 = published.lines().skip(1).filter_map(|line| line.split(',').nth(6)?.parse::<f64>().ok()).sum();
        let mut weather = fallon();
        let start: Timestamp = "2015-01-01T08:00:00Z".parse().unwrap();
        let computed: f64 = (0..365 * 24).map(|h| weather.at(start.plus_secs(3600 * h + 1800)).et0_mm_h).sum();
        // Theirs is the daily equation; the hourly one, whose nights cannot fall below zero, gives a little more.
        assert!((computed / total - 1.0).abs() < 0.08, "computed {computed:.0} mm, published {total:.0} mm");
    }

    #[test]
    fn the_year_at_fallon_has_its_course_and_a_little_rain() {
        let mut weather = fallon();
        let annual = weather.annual();
        assert!((9.0..15.0).contains(&annual.amplitude_c), "{annual:?}");
        assert!((185.0..215.0).contains(&annual.warmest_day), "{annual:?}");
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let rain = weather.rain_mm(start, start.plus_secs(365 * 86_400));
        assert!((20.0..350.0).contains(&rain), "{rain}");
    }
}
