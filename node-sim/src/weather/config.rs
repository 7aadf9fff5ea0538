//! What a configuration says of the weather.
//!
//! ```toml
//! [farm]
//! weather = "weather.csv"               # or, with more to say:
//!
//! [farm.weather]
//! file = "weather.csv"
//! time_zone = "America/Los_Angeles"     # of times without one
//! stamp = "end"                         # of the hour that a row is the mean of
//! missing = ["NA", "-9999"]
//! reference = "daily"                   # step of the evapotranspiration
//!
//! [farm.weather.normals]                # generated, where there is no file; and the rain where the file has none
//! max_c = [7.5, 11.5, 15.5, 19.0, 24.0, 29.0, 33.5, 32.5, 27.5, 20.5, 12.5, 7.5]
//! # …
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::file::{Options, Stamp};
use super::{Climate, Normals, ReferenceStep, Weather, WeatherFile};
use crate::sun::Place;

/// Where the weather comes from. Nothing said: out of chance for the farm's climate.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct WeatherConfig {
    /// A file of measured weather. See [`crate::weather::file`] for its columns, and for what happens when farm time leaves the time that
    /// it covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The zone of the file's times that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Which end of its hour a row's time is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// Signs of a missing measurement, beside an empty field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<String>>,
    /// The step of the reference evapotranspiration that drives the crops. Unless given: daily with normals or a daily file,
    /// hourly otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceStep>,
    /// The monthly normals of the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normals: Option<Box<Normals>>,
}

/// The same as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: Option<PathBuf>,
    time_zone: Option<String>,
    stamp: Option<Stamp>,
    missing: Option<Vec<String>>,
    reference: Option<ReferenceStep>,
    normals: Option<Box<Normals>>,
}

impl<'de> Deserialize<'de> for WeatherConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = WeatherConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file's name, or a table with file or normals")
            }

            fn visit_str<E>(self, path: &str) -> Result<WeatherConfig, E> {
                Ok(WeatherConfig::from(Some(PathBuf::from(path))))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<WeatherConfig, M::Error> {
                let Table { file, time_zone, stamp, missing, reference, normals } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(WeatherConfig { file, time_zone, stamp, missing, reference, normals })
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl From<Option<PathBuf>> for WeatherConfig {
    fn from(file: Option<PathBuf>) -> Self {
        Self { file, ..Self::default() }
    }
}

impl From<&Path> for WeatherConfig {
    fn from(file: &Path) -> Self {
        Some(file.to_owned()).into()
    }
}

impl WeatherConfig {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How the file is read.
    #[must_use]
    pub fn options(&self) -> Options {
        let usual = Options::default();
        Options {
            time_zone: self.time_zone.clone(),
            stamp: self.stamp.unwrap_or(usual.stamp),
            missing: self.missing.clone().unwrap_or(usual.missing),
        }
    }

    /// The weather.
    ///
    /// # Errors
    /// All that is wrong with the values and the file, each with its key below `weather` (empty for the file itself).
    pub fn open(
        &self,
        climate: Climate,
        place: Place,
        wind_height_m: f64,
        seed: u64,
    ) -> Result<Weather, Vec<(String, String)>> {
        let mut problems: Vec<(String, String)> = Vec::new();
        if let Some(normals) = &self.normals {
            problems
                .extend(normals.problems(&place).into_iter().map(|(key, problem)| (format!("normals.{key}"), problem)));
        }
        if self.file.is_none() {
            let needless = [
                ("time_zone", self.time_zone.is_some()),
                ("stamp", self.stamp.is_some()),
                ("missing", self.missing.is_some()),
            ];
            let given = needless.into_iter().filter(|(_, given)| *given);
            problems.extend(given.map(|(key, _)| (key.to_owned(), "is set, but file is not".to_owned())));
        }
        let file = self.file.as_ref().map(|path| WeatherFile::read(path, &self.options(), &place)).transpose();
        let file = file.unwrap_or_else(|error| {
            problems.extend(error.each().map(|problem| (String::new(), problem)));
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let daily = self.normals.is_some() || file.as_ref().is_some_and(WeatherFile::is_daily);
        let weather = match (file, &self.normals) {
            (Some(file), normals) => {
                let weather = Weather::measured(file, wind_height_m, climate, place, seed);
                match normals {
                    Some(normals) => weather.with_rain_of(normals, seed),
                    None => weather,
                }
            }
            (None, Some(normals)) => Weather::generated(normals, place, seed),
            (None, None) => Weather::synthetic(climate, place, seed),
        };
        let usual = if daily { ReferenceStep::Daily } else { ReferenceStep::Hourly };
        Ok(weather.with_reference(self.reference.unwrap_or(usual)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::normals::tests::{FALLON, valley};
    use super::*;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    struct Farm {
        weather: WeatherConfig,
    }

    fn read(text: &str) -> Result<WeatherConfig, String> {
        toml::from_str::<Farm>(text).map(|farm| farm.weather).map_err(|error| error.to_string())
    }

    fn open(config: &WeatherConfig) -> Result<Weather, Vec<(String, String)>> {
        config.open(Climate::default(), FALLON, 2.0, 1)
    }

    #[test]
    fn a_file_is_a_name_or_a_table() {
        assert_eq!(read("weather = \"w.csv\"").unwrap(), WeatherConfig::from(Path::new("w.csv")));
        let config =
            read("[weather]\nfile = \"w.csv\"\ntime_zone = \"-08:00\"\nstamp = \"start\"\nreference = \"daily\"\n")
                .unwrap();
        assert_eq!((config.stamp, config.reference), (Some(Stamp::Start), Some(ReferenceStep::Daily)));
        assert!(read("[weather]\nfiel = \"w.csv\"\n").unwrap_err().contains("fiel"));
        assert!(read("weather = 3\n").unwrap_err().contains("a file's name, or a table"));
    }

    #[test]
    fn normals_are_read_as_they_are_written_and_make_weather() {
        let farm = Farm { weather: WeatherConfig { normals: Some(Box::new(valley())), ..WeatherConfig::default() } };
        let text = toml::to_string(&farm).unwrap();
        assert_eq!(toml::from_str::<Farm>(&text).unwrap(), farm);
        let weather = open(&farm.weather).unwrap();
        let annual = weather.annual();
        assert!((annual.mean_c - 10.8).abs() < 1.0 && (195.0..212.0).contains(&annual.warmest_day), "{annual:?}");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let mut normals = valley();
        normals.min_c[0] = 20.0;
        normals.wet_persistence = -1.0;
        let config =
            WeatherConfig { normals: Some(Box::new(normals)), stamp: Some(Stamp::End), ..WeatherConfig::default() };
        let keys: Vec<String> = open(&config).unwrap_err().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["normals.min_c[0]", "normals.wet_persistence", "stamp"]);
    }

    #[test]
    fn a_file_without_rain_has_that_of_the_normals() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.csv");
        let mut text = "date,tmax_c,tmin_c,dew_point_c,wind_speed_m_s,solar_radiation_mj_m2_d\n".to_owned();
        for day in 1..=30 {
            text.push_str(&format!("2015-04-{day:02},20,5,2,2,10\n"));
        }
        std::fs::write(&path, text).unwrap();
        let config = WeatherConfig { file: Some(path), normals: Some(Box::new(valley())), ..WeatherConfig::default() };
        let (mut weather, mut generated) = (open(&config).unwrap(), Weather::generated(&valley(), FALLON, 1));
        let start: proto::Timestamp = "2015-04-01T08:00:00Z".parse().unwrap();
        let rain = |weather: &mut Weather| weather.rain_mm(start, start.plus_secs(29 * 86_400));
        assert!(rain(&mut generated) > 1.0);
        assert!((rain(&mut weather) - rain(&mut generated)).abs() < 1e-9);
    }
}
