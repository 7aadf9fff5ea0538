//! The configuration: TOML in, a checked value out, every mistake named at once.
//!
//! ```toml
//! broker = "127.0.0.1:1883"
//! credentials = "stations.toml"         # n1 = "password", …
//! state_dir = "/var/lib/tilth/nodes"
//! truth_dir = "/var/lib/tilth/truth"
//!
//! [time]                                # a day in two minutes
//! wall = "2026-06-01T12:00:00Z"
//! farm = "2026-06-01T07:00:00Z"
//! speed = 720.0
//!
//! [farm]
//! id = "demo"
//! stations = 24
//! ```

mod typed;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use proto::{FarmId, FieldId, StationId, TimeScale, Timestamp};
use serde::{Deserialize, Serialize};

use crate::base_station::BaseStationConfig;
use crate::energy::EnergyConfig;
use crate::faults::random::{MOST_PER_YEAR, RandomConfig};
use crate::faults::{Known, Scenario, read_scenario};
use crate::field::FieldConfig;
use crate::irrigation::System;
use crate::node::{RING_CHANNELS, RING_READINGS};
use crate::onboard::{Memory, NodeConfig};
use crate::radio::RadioConfig;
use crate::replay::{AtEnd, Played, Replay, ReplayConfig};
use crate::sensing::SensorsConfig;
use crate::space::{FieldSpace, Site};
use crate::sun::Place;
use crate::weather::{Climate, Weather, WeatherConfig};

/// The most stations of one farm. Each is a connection and some 40 kB.
pub const MAX_STATIONS: u32 = 10_000;

/// Something wrong in a configuration or a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file that it is in, where one is known.
    pub file: Option<PathBuf>,
    /// The key, from the file's root: `farm.stations`. Empty for the file as a whole.
    pub key: String,
    /// What is wrong: the value, and what is allowed.
    pub problem: String,
}

impl Problem {
    pub(crate) fn new(file: &Path, key: &str, problem: impl Into<String>) -> Self {
        Self { file: Some(file.to_owned()), key: key.to_owned(), problem: problem.into() }
    }

    pub(crate) fn of(key: &str, problem: impl Into<String>) -> Self {
        Self { file: None, key: key.to_owned(), problem: problem.into() }
    }

    /// A text that is not the TOML that it should be: the line, and what the parser says, without the line's text, which
    /// may hold a password.
    pub(crate) fn toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        Self::new(file, "", format!("line {line}: {}", error.message().replace('\n', ", ")))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.key.as_str()) {
            (Some(file), "") => write!(f, "{file:?}: {}", self.problem),
            (Some(file), key) => write!(f, "{file:?}, {key}: {}", self.problem),
            (None, "") => f.write_str(&self.problem),
            (None, key) => write!(f, "{key}: {}", self.problem),
        }
    }
}

/// Everything that is wrong with a configuration; shown one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The farm itself: what is simulated, without where it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FarmConfig {
    /// The farm's name in topics.
    pub id: FarmId,
    /// The first moment of farm time.
    pub start: Timestamp,
    /// The seed of all chance: the same seed gives the same readings.
    pub seed: u64,
    /// How many stations, over all fields in turn: n1, e1, c1, n2, …. More stations leave those that there are as they are.
    pub stations: u32,
    /// Time between two samples, s of farm time.
    pub sample_s: u32,
    /// Time between two reports, s of farm time; a multiple of `sample_s`.
    pub report_s: u32,
    /// Degrees north of the gateway.
    pub latitude: f64,
    /// Degrees east of the gateway.
    pub longitude: f64,
    /// Metres above the sea.
    pub elevation_m: f64,
    /// Where the weather comes from: a file, monthly normals, or (nothing said) chance for the `climate`.
    #[serde(skip_serializing_if = "WeatherConfig::is_default")]
    pub weather: WeatherConfig,
    /// The height at which the file's wind was measured, m; unless its column's name says it.
    pub wind_height_m: f64,
    /// What the synthetic weather is like (the rain also beside a file without rain).
    pub climate: Climate,
    /// A file of faults; without one there are none. See [`crate::faults::scenario`].
    pub scenario: Option<PathBuf>,
    /// Faults out of chance; none unless asked for. See [`crate::faults::random`].
    pub faults: RandomConfig,
    /// The probes. See [`crate::sensing`].
    pub sensors: SensorsConfig,
    /// What the stations are powered by; without it a battery that never ends. See [`crate::energy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy: Option<EnergyConfig>,
    /// How the stations reach the gateway; without it each always does. See [`crate::radio`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub radio: Option<RadioConfig>,
    /// What stands between stations and gateway; without it nothing. See [`crate::base_station`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_station: Option<BaseStationConfig>,
    /// The fields. None given: north (alfalfa on loam), east (maize on sandy loam) and creek (pasture on clay loam).
    pub fields: Vec<FieldConfig>,
}

impl Default for FarmConfig {
    /// Twenty-four stations in the Lahontan Valley, Nevada, where farming is irrigation, from 1 June 2026.
    fn default() -> Self {
        Self {
            id: FarmId::try_from("demo".to_owned()).expect("a valid farm name"),
            start: Timestamp::from_secs(1_780_297_200), // 2026-06-01T07:00:00Z, midnight there
            seed: 1,
            stations: 24,
            sample_s: 300,
            report_s: 900,
            latitude: 39.4575,
            longitude: -118.7739,
            elevation_m: 1208.5,
            weather: WeatherConfig::default(),
            wind_height_m: 2.0,
            climate: Climate::default(),
            scenario: None,
            faults: RandomConfig::default(),
            sensors: SensorsConfig::default(),
            energy: None,
            radio: None,
            base_station: None,
            fields: Vec::new(),
        }
    }
}

/// What a farm's files hold.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The weather.
    pub weather: Weather,
    /// What goes wrong.
    pub scenario: Scenario,
    /// The ground of each field.
    pub grounds: Vec<Covered>,
}

/// The ground of a field, and where its stations stand on it.
#[derive(Debug, Clone)]
pub struct Covered {
    /// The ground.
    pub space: FieldSpace,
    /// The stations' places, in their order.
    pub sites: Vec<Site>,
}

impl FarmConfig {
    /// Where the gateway stands.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { latitude: self.latitude, longitude: self.longitude, elevation_m: self.elevation_m }
    }

    /// The configured fields, or the three that there are without.
    #[must_use]
    pub fn fields(&self) -> Vec<FieldConfig> {
        if self.fields.is_empty() { FieldConfig::defaults(&self.place()) } else { self.fields.clone() }
    }

    /// The stations' names and the index of each one's field, in the order in which they were added.
    #[must_use]
    pub fn station_names(&self) -> Vec<(StationId, usize)> {
        let fields = self.fields();
        (0..self.stations.min(MAX_STATIONS) as usize)
            .filter_map(|index| {
                let field = index % fields.len();
                let name = format!("{}{}", fields[field].prefix, index / fields.len() + 1);
                Some((name.parse().ok()?, field))
            })
            .collect()
    }

    /// Reads the weather and the scenario.
    ///
    /// # Errors
    /// Everything that is wrong with the values and with the files.
    pub fn open(&self) -> Result<Inputs, ConfigError> {
        let mut problems = self.value_problems();
        // What stands on a wrong value is not looked at, all else is.
        let wrong = |keys: &[&str]| {
            let of =
                |key: &str| keys.iter().any(|wrong| key.strip_prefix("farm.").is_some_and(|k| k.starts_with(wrong)));
            problems.iter().any(|problem| of(&problem.key))
        };
        let place_is_right = !wrong(&["latitude", "longitude", "elevation_m"]);
        let weather_fits = place_is_right && !wrong(&["wind_height_m", "climate"]);
        let stations_fit = !wrong(&["stations", "fields"]);
        let lies_right = |index: usize| {
            let keys = ["latitude", "longitude", "area_ha", "variability"].map(|key| format!("fields[{index}].{key}"));
            place_is_right && !wrong(&keys.each_ref().map(String::as_str))
        };
        let lie_right: Vec<bool> = (0..self.fields().len()).map(lies_right).collect();
        let weather = if !weather_fits {
            None
        } else {
            match self.weather.open(self.climate, self.place(), self.wind_height_m, self.seed) {
                Ok(weather) => {
                    if let Some(file) = weather.file().filter(|file| !file.ignored.is_empty() || file.filled > 0) {
                        tracing::info!(filled = file.filled, gaps = file.gaps.len(), ignored = ?file.ignored, "weather has gaps or columns without a use");
                    }
                    Some(weather)
                }
                Err(wrong) => {
                    let key = |key: String| {
                        if key.is_empty() { "farm.weather".to_owned() } else { format!("farm.weather.{key}") }
                    };
                    problems.extend(wrong.into_iter().map(|(below, problem)| Problem::of(&key(below), problem)));
                    None
                }
            }
        };
        let names = self.station_names();
        let stations: Vec<StationId> = names.iter().map(|(id, _)| id.clone()).collect();
        let scenario = match &self.scenario {
            None => Scenario::default(),
            Some(_) if !stations_fit => Scenario::default(),
            Some(path) => {
                let fields: Vec<FieldId> = self.fields().into_iter().map(|field| field.id).collect();
                let channels = self.sensors.channels();
                let known = Known { stations: &stations, channels: &channels, fields: &fields };
                read_scenario(path, self.start, &known).unwrap_or_else(|wrong| {
                    problems.extend(wrong);
                    Scenario::default()
                })
            }
        };
        let mut grounds = Vec::new();
        for (index, field) in self.fields().iter().enumerate().filter(|(index, _)| lie_right[*index]) {
            let ground = || {
                let space = field.space(&self.place(), self.seed)?;
                let count = names.iter().filter(|(_, of)| *of == index).count();
                let sites = field.sites(&space, count).map_err(|wrong| vec![wrong])?;
                Ok(Covered { space, sites })
            };
            match ground() {
                Ok(ground) => grounds.push(ground),
                Err(wrong) => {
                    let wrong: Vec<(&str, String)> = wrong;
                    let problem = |(key, what)| Problem::of(&format!("farm.fields[{index}].{key}"), what);
                    problems.extend(wrong.into_iter().map(problem));
                }
            }
        }
        match weather {
            Some(weather) if problems.is_empty() => Ok(Inputs { weather, scenario, grounds }),
            _ => Err(ConfigError { problems }),
        }
    }

    fn value_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |key: &str, holds: bool, value: &dyn fmt::Display, allowed: &str| {
            if !holds {
                problems.push(Problem::of(&format!("farm.{key}"), format!("{value} is not {allowed}")));
            }
        };
        check("stations", (1..=MAX_STATIONS).contains(&self.stations), &self.stations, "1 to 10000");
        check("sample_s", (1..=86_400).contains(&self.sample_s), &self.sample_s, "1 to 86400 s");
        let multiple = self.sample_s > 0 && self.report_s > 0 && self.report_s.is_multiple_of(self.sample_s);
        check("report_s", multiple && self.report_s <= 86_400, &self.report_s, "a multiple of sample_s up to 86400 s");
        check(
            "latitude",
            (-66.0..=66.0).contains(&self.latitude),
            &self.latitude,
            "-66 to 66 degrees, where each day has a night",
        );
        check("longitude", (-180.0..=180.0).contains(&self.longitude), &self.longitude, "-180 to 180 degrees");
        check("elevation_m", (-430.0..=6000.0).contains(&self.elevation_m), &self.elevation_m, "-430 to 6000 m");
        check("wind_height_m", (0.5..=100.0).contains(&self.wind_height_m), &self.wind_height_m, "0.5 to 100 m");
        let climate = &self.climate;
        for (key, value, low, high) in [
            ("mean_c", climate.mean_c, -20.0, 35.0),
            ("amplitude_c", climate.amplitude_c, 0.0, 30.0),
            ("warmest_day", climate.warmest_day, 0.0, 366.0),
            ("day_sd_c", climate.day_sd_c, 0.0, 10.0),
            ("swing_c", climate.swing_c, 0.0, 15.0),
            ("dryness_c", climate.dryness_c, 0.0, 20.0),
            ("wind_m_s", climate.wind_m_s, 0.0, 15.0),
            ("wet_day_share", climate.wet_day_share, 0.0, 0.9),
            ("rain_per_wet_day_mm", climate.rain_per_wet_day_mm, 0.0, 50.0),
        ] {
            check(&format!("climate.{key}"), (low..=high).contains(&value), &value, &format!("{low} to {high}"));
        }
        for (key, value, allowed) in self.sensors.problems() {
            check(&format!("sensors.{key}"), false, &value, allowed);
        }
        for (key, value, allowed) in self.energy.iter().flat_map(|energy| energy.problems(self.report_s)) {
            check(&format!("energy.{key}"), false, &value, allowed);
        }
        for (key, value, allowed) in self.radio.iter().flat_map(RadioConfig::problems) {
            check(&format!("radio.{key}"), false, &value, allowed);
        }
        for (key, value, allowed) in self.base_station.iter().flat_map(|base| base.problems(&self.place())) {
            check(&format!("base_station.{key}"), false, &value, &allowed);
        }
        for (index, id) in self.base_station.iter().flat_map(|base| base.fields.iter().enumerate()) {
            let fields = self.fields();
            let names: Vec<&str> = fields.iter().map(|field| field.id.as_str()).collect();
            let key = format!("base_station.fields[{index}]");
            let allowed = format!("one of the farm's fields: {}", names.join(", "));
            check(&key, names.contains(&id.as_str()), &format!("{:?}", id.as_str()), &allowed);
        }
        for (kind, rate) in &self.faults.rates {
            let key = format!("faults.rates.{}", kind.name());
            let allowed = format!("0 to {MOST_PER_YEAR} per station and year");
            check(&key, (0.0..=MOST_PER_YEAR).contains(rate), rate, &allowed);
        }
        for (index, field) in self.fields.iter().enumerate() {
            let key = |name: &str| format!("fields[{index}].{name}");
            let earlier = &self.fields[..index];
            check(&key("id"), earlier.iter().all(|other| other.id != field.id), &field.id, "another field's name");
            let prefix_fits = (1..=32).contains(&field.prefix.len())
                && field.prefix.bytes().all(|b| b.is_ascii_lowercase() || b == b'-' || b == b'_')
                && earlier.iter().all(|other| other.prefix != field.prefix);
            check(
                &key("prefix"),
                prefix_fits,
                &format!("{:?}", field.prefix),
                "1 to 32 of a-z, - and _, other than the other fields'",
            );
            check(
                &key("latitude"),
                (field.latitude - self.latitude).abs() <= 1.0,
                &field.latitude,
                "within a degree of the gateway",
            );
            check(
                &key("longitude"),
                (field.longitude - self.longitude).abs() <= 1.0,
                &field.longitude,
                "within a degree of the gateway",
            );
            let irrigation = &field.irrigation;
            check(
                &key("irrigation.rate_mm_h"),
                (0.5..=50.0).contains(&irrigation.rate_mm_h),
                &irrigation.rate_mm_h,
                "0.5 to 50 mm/h",
            );
            check(
                &key("irrigation.start_hour"),
                (0.0..24.0).contains(&irrigation.start_hour),
                &irrigation.start_hour,
                "0 to 24 h",
            );
            check(
                &key("water_ec_ds_m"),
                (0.1..=20.0).contains(&field.water_ec_ds_m),
                &field.water_ec_ds_m,
                "0.1 to 20 dS/m",
            );
            for (name, value, allowed) in field.variability.problems() {
                check(&key(&format!("variability.{name}")), false, &value, &allowed);
            }
            for (name, value, low, high) in [
                ("irrigation.price_per_m3", irrigation.price_per_m3, 0.0, 100.0),
                ("irrigation.water_ec_ds_m", irrigation.water_ec_ds_m, 0.0, 20.0),
                ("irrigation.nitrate_mg_l", irrigation.nitrate_mg_l, 0.0, 100.0),
                ("area_ha", field.area_ha.unwrap_or(1.0), 0.001, 10_000.0),
            ] {
                check(&key(name), (low..=high).contains(&value), &value, &format!("{low} to {high}"));
            }
            for (name, value, allowed) in irrigation.system.iter().flat_map(System::problems) {
                check(&key(&format!("irrigation.system.{name}")), false, &value, allowed);
            }
            for (number, event) in field.fertiliser.iter().enumerate() {
                for (name, value) in [("n", event.n_kg_ha), ("p", event.p_kg_ha), ("k", event.k_kg_ha)] {
                    let name = format!("fertiliser[{number}].{name}_kg_ha");
                    check(&key(&name), (0.0..=2000.0).contains(&value), &value, "0 to 2000 kg/ha");
                }
            }
            let dry = field.dry.unwrap_or_default();
            check(&key("dry"), (0.0..=1.0).contains(&dry), &dry, "0 to 1");
        }
        problems
    }
}

/// What sets the pace of farm time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// The clock, at the speed of `time`.
    #[default]
    Scale,
    /// The gateway: as fast as it acknowledges, all stations together, each at most `ahead` reports ahead.
    Acknowledged,
}

/// TLS to the broker, with a client certificate for each station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The authority that signed the broker's certificate, PEM.
    pub ca: PathBuf,
    /// A folder with `{station}.crt` and `{station}.key` for each station, PEM.
    pub certificates: Option<PathBuf>,
}

/// The whole configuration of a simulated farm that reports to a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is simulated.
    #[serde(default)]
    pub farm: FarmConfig,
    /// Host and port of the MQTT broker, or of the gateway's front door.
    pub broker: String,
    /// TLS; without it the connection is plain TCP.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// A TOML file of the stations' passwords: `n1 = "…"`.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// The stations' passwords; they come before those of the file. Without any, stations connect without a name.
    #[serde(default)]
    pub passwords: BTreeMap<StationId, String>,
    /// How farm time runs against the wall clock.
    #[serde(default)]
    pub time: TimeScale,
    /// What sets the pace.
    #[serde(default)]
    pub pace: Pace,
    /// How many reports a station may be ahead of the gateway's acknowledgement when that sets the pace.
    #[serde(default = "default_ahead")]
    pub ahead: u32,
    /// Farm time at which to stop: everything is reported and acknowledged, and [`crate::run()`] is done.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// How many readings a station keeps that are not acknowledged; then the oldest are lost.
    #[serde(default = "default_ring_readings")]
    pub ring_readings: u32,
    /// What the nodes do with their samples before they report them: nothing, without a table.
    #[serde(default)]
    pub node: NodeConfig,
    /// Where the farm's state is kept over a restart. One process at a time.
    pub state_dir: PathBuf,
    /// Where the truth is written: faults and losses, and perhaps all readings.
    #[serde(default)]
    pub truth_dir: Option<PathBuf>,
    /// Whether every reading goes to the truth log: 20 bytes each.
    #[serde(default)]
    pub truth_readings: bool,
    /// A file that is written when the stations run: `{"stations":24}`.
    #[serde(default)]
    pub ready_file: Option<PathBuf>,
    /// Measured data that the stations send instead of simulated; then `farm` says only its name, `seed` and `report_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayConfig>,
}

fn default_ahead() -> u32 {
    16
}

fn default_ring_readings() -> u32 {
    RING_READINGS
}

impl Config {
    /// A configuration with defaults for all that has one.
    #[must_use]
    pub fn new(farm: FarmConfig, broker: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            farm,
            broker: broker.into(),
            tls: None,
            credentials: None,
            passwords: BTreeMap::new(),
            time: TimeScale::default(),
            pace: Pace::default(),
            ahead: default_ahead(),
            until: None,
            ring_readings: default_ring_readings(),
            node: NodeConfig::default(),
            state_dir: state_dir.into(),
            truth_dir: None,
            truth_readings: false,
            ready_file: None,
            replay: None,
        }
    }

    /// Reads a TOML file and checks it, with the files that it names.
    ///
    /// # Errors
    /// Everything that is wrong, each with file, key and value.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::read(path, &[], |config| config.check().map(|()| config.clone()))
    }

    /// Reads a TOML file in which the texts `needless` may be missing, and makes of it what is wanted.
    ///
    /// # Errors
    /// Everything that is wrong with the file, and with what is made of it.
    pub(crate) fn read<T>(
        path: &Path,
        needless: &[&str],
        make: impl FnOnce(&Self) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let whole = |problem: String| ConfigError { problems: vec![Problem::new(path, "", problem)] };
        let text = std::fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
        let typed::Read { value, mut problems, shorter } = typed::read::<Self>(path, &text, "passwords", needless);
        let Some(config) = value else { return Err(ConfigError { problems }) };
        match make(&config) {
            Ok(made) if problems.is_empty() => return Ok(made),
            Ok(_) => {}
            Err(wrong) => {
                let told: Vec<String> = problems.iter().map(|problem| problem.key.clone()).chain(shorter).collect();
                let wrong = wrong.problems.into_iter().filter(|problem| !stands_on(problem, &told));
                problems.extend(wrong.map(|problem| {
                    let file = problem.file.or_else(|| Some(path.to_owned()));
                    Problem { file, ..problem }
                }));
            }
        }
        Err(ConfigError { problems })
    }

    /// Checks all values, and reads the weather, the scenario and the credentials.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        // With a replay the scenario is of its stations.
        let simulated =
            FarmConfig { scenario: self.farm.scenario.clone().filter(|_| self.replay.is_none()), ..self.farm.clone() };
        let mut problems = simulated.open().map_or_else(|error| error.problems, |_| Vec::new());
        let replayed = self.replay.as_ref().map(|replay| Replay::open(replay, &self.farm));
        let replayed = match replayed.transpose() {
            Ok(replayed) => replayed,
            Err(wrong) => {
                problems.extend(wrong);
                None
            }
        };
        let begin = replayed.as_ref().map_or(self.farm.start, Replay::now);
        let stations: Vec<StationId> = match &replayed {
            Some(replay) => replay.stations().iter().map(|station| station.id.clone()).collect(),
            None if self.replay.is_some() => Vec::new(),
            None => self.farm.station_names().into_iter().map(|(id, _)| id).collect(),
        };
        problems.extend(self.node.problems());
        let mut refuse = |key: &str, problem: String| problems.push(Problem::of(key, problem));
        if self.broker_address().is_none() {
            refuse("broker", format!("{:?} is not host:port", self.broker));
        }
        if !(self.time.speed.is_finite() && self.time.speed > 0.0 && self.time.speed <= 1e6) {
            refuse("time.speed", format!("{} is not above 0 and up to 1000000", self.time.speed));
        }
        if let Some(until) = self.until.filter(|until| *until <= begin) {
            let what = if self.replay.is_some() { "the replay's beginning" } else { "farm.start" };
            refuse("until", format!("{until} is not after {what}, {begin}"));
        }
        let ends = self.replay.as_ref().is_some_and(|replay| replay.at_end == AtEnd::Stop);
        if self.pace == Pace::Acknowledged && self.until.is_none() && !ends {
            refuse("until", "is missing; pace = \"acknowledged\" needs an end".to_owned());
        }
        if !(1..=1000).contains(&self.ahead) {
            refuse("ahead", format!("{} is not 1 to 1000", self.ahead));
        }
        if !(1000..=10_000_000).contains(&self.ring_readings) {
            refuse("ring_readings", format!("{} is not 1000 to 10000000", self.ring_readings));
        }
        let many = |station: &&Played| station.channels.len() > RING_CHANNELS;
        let played = replayed.iter().flat_map(Replay::stations);
        if let Some(station) = played.filter(|_| self.node.memory == Memory::Ram).find(many) {
            let (id, channels) = (&station.id, station.channels.len());
            refuse("node.memory", format!("\"ram\" has room for {RING_CHANNELS} channels, and {id} has {channels}"));
        }
        if self.truth_readings && self.truth_dir.is_none() {
            refuse("truth_readings", "is set, but truth_dir is not".to_owned());
        }
        if let Some(tls) = &self.tls {
            if let Err(error) = std::fs::metadata(&tls.ca) {
                refuse("tls.ca", format!("{:?}: {error}", tls.ca));
            }
            let missing: Vec<String> =
                tls.certificates.iter().flat_map(|dir| missing_certificates(dir, &stations)).collect();
            if !missing.is_empty() {
                refuse("tls.certificates", format!("these are missing: {}", shorten(&missing)));
            }
        }
        match self.all_passwords() {
            Err(problem) => problems.push(problem),
            Ok(passwords) if passwords.is_empty() => {}
            Ok(passwords) => {
                let without = stations.iter().filter(|id| !passwords.contains_key(*id));
                let without: Vec<String> = without.map(ToString::to_string).collect();
                if !without.is_empty() {
                    problems.push(Problem::of(
                        "credentials",
                        format!("these stations have no password: {}", shorten(&without)),
                    ));
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    /// The broker's host and port.
    #[must_use]
    pub fn broker_address(&self) -> Option<(String, u16)> {
        let (host, port) = self.broker.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| (host.to_owned(), port))
    }

    /// The stations' passwords from the file and from the configuration itself.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn all_passwords(&self) -> Result<BTreeMap<StationId, String>, Problem> {
        let mut passwords = BTreeMap::new();
        if let Some(path) = &self.credentials {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Problem::new(path, "", format!("cannot be read: {error}")))?;
            passwords = toml::from_str(&text).map_err(|error| Problem::toml(path, &text, &error))?;
        }
        passwords.extend(self.passwords.clone());
        Ok(passwords)
    }
}

/// Whether a problem may come from one of these keys, which are wrong and were read as if they were not there.
fn stands_on(problem: &Problem, wrong: &[String]) -> bool {
    let within = |one: &str, other: &str| {
        one.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    // Which stations there are, and since when.
    let of_stations =
        problem.file.is_some() || ["credentials", "tls.certificates", "until"].contains(&problem.key.as_str());
    wrong.iter().any(|wrong| {
        within(&problem.key, wrong)
            || within(wrong, &problem.key)
            || (of_stations && (within(wrong, "farm") || within(wrong, "replay")))
    })
}

fn missing_certificates(dir: &Path, stations: &[StationId]) -> Vec<String> {
    let files = stations.iter().flat_map(|id| ["crt", "key"].map(|ext| dir.join(format!("{id}.{ext}"))));
    files.filter(|file| !file.exists()).map(|file| file.display().to_string()).collect()
}

/// A list for one line of a message.
fn shorten(items: &[String]) -> String {
    const MOST: usize = 12;
    let more = items.len().saturating_sub(MOST);
    let shown = items[..items.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_keep_their_names_when_there_are_more() {
        let names = |stations| {
            FarmConfig { stations, ..FarmConfig::default() }
                .station_names()
                .into_iter()
                .map(|(id, field)| (id.to_string(), field))
                .collect::<Vec<_>>()
        };
        let (few, many) = (names(24), names(300));
        assert_eq!(few[..4], [("n1".to_owned(), 0), ("e1".to_owned(), 1), ("c1".to_owned(), 2), ("n2".to_owned(), 0)]);
        assert_eq!(few[..], many[..24]);
        assert_eq!(many.len(), 300);
    }

    #[test]
    fn the_default_start_is_midnight_in_nevada() {
        assert_eq!(FarmConfig::default().start.to_string(), "2026-06-01T07:00:00Z");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-sim.toml");
        let text = "broker = \"nowhere\"\nstate_dir = \"s\"\npace = \"acknowledged\"\nahead = 0\ntruth_readings = true\n\
            [time]\nwall = \"2026-01-01T00:00:00Z\"\nfarm = \"2026-01-01T00:00:00Z\"\nspeed = -1.0\n\
            [farm]\nsample_s = 7\nweather = \"/no/such/weather.csv\"\nscenario = \"/no/such/scenario.toml\"\n\
            [passwords]\nn1 = \"secret\"\n";
        std::fs::write(&path, text).unwrap();
        let lines = Config::load(&path).unwrap_err().to_string();
        let at = format!("{path:?}, ");
        for expected in [
            format!("{at}farm.weather: weather file \"/no/such/weather.csv\": cannot be opened: No such file"),
            "\"/no/such/scenario.toml\": cannot be read: No such file".to_owned(),
            format!("{at}farm.report_s: 900 is not a multiple of sample_s up to 86400 s"),
            format!("{at}broker: \"nowhere\" is not host:port"),
            format!("{at}time.speed: -1 is not above 0"),
            format!("{at}until: is missing; pace = \"acknowledged\" needs an end"),
            format!("{at}ahead: 0 is not 1 to 1000"),
            format!("{at}truth_readings: is set, but truth_dir is not"),
            format!("{at}credentials: these stations have no password: e1, c1, n2, "),
        ] {
            assert!(lines.lines().any(|line| line.starts_with(&expected)), "{expected}\nin\n{lines}");
        }
        assert_eq!(lines.lines().count(), 9, "{lines}");
        assert!(!lines.contains("secret"));
    }

    #[test]
    fn wrong_farm_values_and_unknown_keys_are_named() {
        let mut farm = FarmConfig { stations: 0, report_s: 1000, latitude: 80.0, ..FarmConfig::default() };
        farm.sensors.powered_s = 0.0;
        farm.energy = Some(EnergyConfig {
            panel_w: 101.0,
            planned: true,
            most_gap_s: 600,
            reserve: 2.0,
            ..EnergyConfig::default()
        });
        farm.radio = Some(RadioConfig { spreading: 12, sent_dbm: 30.0, ..RadioConfig::default() });
        farm.base_station = Some(BaseStationConfig {
            cells: 25,
            fields: vec!["creek".parse().unwrap(), "west".parse().unwrap()],
            on_s: 400,
            gap_s: Some(300),
            off_w: 30.0,
            ..BaseStationConfig::default()
        });
        farm.faults.rates.insert(crate::faults::FaultKind::Spike, -1.0);
        let lines = farm.open().unwrap_err().to_string();
        assert_eq!(
            lines,
            "farm.stations: 0 is not 1 to 10000\n\
             farm.report_s: 1000 is not a multiple of sample_s up to 86400 s\n\
             farm.latitude: 80 is not -66 to 66 degrees, where each day has a night\n\
             farm.sensors.powered_s: 0 is not 0.05 to 3600 s\n\
             farm.energy.panel_w: 101 is not 0 to 100 W\n\
             farm.energy.reserve: 2 is not 0 to 1\n\
             farm.energy.most_gap_s: 600 is not report_s to 86400 s\n\
             farm.radio.spreading: 12 is not 7 to 10, as from 902 to 915 MHz\n\
             farm.radio.sent_dbm: 30 is not -3 to 21 dBm\n\
             farm.base_station.cells: 25 is not 1 to 24\n\
             farm.base_station.on_w: 25 is not above off_w and up to 1000 W\n\
             farm.base_station.on_s: 400 is not a multiple of 300 up to 3600 s\n\
             farm.base_station.gap_s: 300 is not on_s to 86400 s\n\
             farm.base_station.fields[1]: \"west\" is not one of the farm's fields: north, east, creek\n\
             farm.faults.rates.spike: -1 is not 0 to 1000 per station and year"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "broker = \"b:1\"\nstate_dir = \"s\"\nspeeed = 1\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{path:?}, speeed: is not known; known are farm, broker, tls, ")),
            "{error}"
        );
        std::fs::write(&path, "broker = \"b:1\nstate_dir = \"s\"\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{path:?}: line 1: ")), "{error}");
    }

    #[test]
    fn wrong_types_and_keys_that_are_unknown_or_missing_are_said_at_once_with_wrong_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let text = "state_dirr = \"s\"\nahead = \"many\"\npace = \"quick\"\nring_readings = 5\n\
            [passwords]\nn1 = 12345\nN2 = \"secret\"\n\
            [farm]\nstations = -3\nlatitude = 80.0\nweather = 7\n\
            [[farm.fields]]\nid = \"a\"\nprefix = \"a\"\nlatitude = \"north\"\n\
            [[farm.fields]]\nid = \"No Name\"\n\
            [[farm.fields]]\nirrigation = { system = { kind = \"drip\", emitter_l_h = \"much\", drops = 3 } }\n\
            [[farm.fields]]\nirrigation = { system = { kind = \"pivot\", sector_degrees = true, wetted = 0.3 } }\n\
            [[farm.fields]]\nirrigation = { system = { kind = \"hose\", efficiency = \"all\" } }\n\
            [[farm.fields]]\nirrigation = { system = \"drip\" }\n\
            [[replay.file]]\npath = \"a.csv\"\ntime = \"t\"\ncolumns = [{ name = \"air\", chanel = \"rain\" }, { name = 3 }]\n";
        std::fs::write(&path, text).unwrap();
        let error = Config::load(&path).unwrap_err();
        let lines: Vec<String> =
            error.problems.iter().map(|problem| format!("{}: {}", problem.key, problem.problem)).collect();
        for expected in [
            "state_dirr: is not known; known are farm, broker, tls, credentials, passwords, time, pace, ",
            "ahead: \"many\" is not a whole number from 0 to 4294967295",
            "pace: \"quick\" is not one of scale, acknowledged",
            "passwords.n1: what is there is not a text",
            "passwords.N2: what is there is not allowed",
            "farm.stations: -3 is not a whole number from 0 to 4294967295",
            "farm.weather: 7 is not a file's name, or a table with file or normals",
            "farm.fields[0].latitude: \"north\" is not a number",
            "farm.fields[1].id: ",
            "farm.fields[2].irrigation.system.drops: is not known; known are kind, emitter_l_h, emitters_per_m2, efficiency, wetted",
            "farm.fields[2].irrigation.system.emitter_l_h: \"much\" is not a number",
            "farm.fields[2].irrigation.system.emitters_per_m2: is missing",
            "farm.fields[3].irrigation.system.sector_degrees: true is not a number",
            "farm.fields[3].irrigation.system.wetted: is not known; known are kind, rotation_h, sector_degrees, efficiency",
            "farm.fields[3].irrigation.system.rotation_h: is missing",
            "farm.fields[3].irrigation.rate_mm_h: is missing",
            "farm.fields[3].irrigation.start_hour: is missing",
            "farm.fields[4].irrigation.system.kind: \"hose\" is not one of sprinkler, drip, pivot",
            "farm.fields[4].irrigation.system.efficiency: \"all\" is not a number",
            "farm.fields[5].irrigation.system: \"drip\" is not a table",
            "replay.file[0].columns[0].chanel: is not known; known are name, channel, unit, scale, offset",
            "replay.file[0].columns[0].channel: is missing",
            "replay.file[0].columns[1].name: 3 is not a text",
            "broker: is missing",
            "state_dir: is missing",
            "farm.latitude: 80 is not -66 to 66 degrees, where each day has a night",
            "ring_readings: 5 is not 1000 to 10000000",
        ] {
            assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}\nin\n{}", lines.join("\n"));
        }
        let shown = error.to_string();
        assert!(!shown.contains("12345") && !shown.contains("secret"), "{shown}");
        assert!(error.problems.iter().all(|problem| problem.file.as_deref() == Some(path.as_path())), "{shown}");
    }

    #[test]
    fn a_replayed_station_without_flash_has_no_more_channels_than_it_can_number() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a.csv");
        let names: Vec<String> = (1..=257).map(|depth| format!("c{depth}")).collect();
        let values = vec!["0.3"; names.len()].join(",");
        std::fs::write(&data, format!("t,{}\n2026-01-01T00:00:00Z,{values}\n", names.join(","))).unwrap();
        let path = dir.path().join("c.toml");
        let error = |channels: usize, memory: &str| {
            let columns = names[..channels].iter().enumerate();
            let columns =
                columns.map(|(at, name)| format!("{{ name = {name:?}, channel = \"soil_moisture_{}cm\" }}", at + 1));
            let columns = columns.collect::<Vec<_>>().join(", ");
            let text = format!(
                "broker = \"b:1\"\nstate_dir = \"s\"\n[node]\nmemory = {memory:?}\n[[replay.file]]\npath = {data:?}\nstation = \"a1\"\n\
                 time = \"t\"\ncolumns = [{columns}]\n"
            );
            std::fs::write(&path, text).unwrap();
            Config::load(&path).err().map(|error| error.to_string())
        };
        assert_eq!(
            error(257, "ram"),
            Some(format!("{path:?}, node.memory: \"ram\" has room for 256 channels, and a1 has 257"))
        );
        assert_eq!((error(256, "ram"), error(257, "flash")), (None, None));
    }

    #[test]
    fn a_configuration_is_read_as_it_is_written() {
        let mut config = Config::new(FarmConfig::default(), "127.0.0.1:1883", "/var/lib/tilth/nodes");
        config.farm.fields = config.farm.fields();
        config.passwords.insert("n1".parse().unwrap(), "x".to_owned());
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }
}
