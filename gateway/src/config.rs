//! The gateway's configuration: one TOML file.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use proto::document::{Section, Unread};
use proto::{FarmId, GatewayId, TimeScale};
use serde::{Deserialize, Serialize};

use crate::credentials::Keyring;
use crate::decide::{self, FieldConfig};
use crate::decode::source::{self, SourceConfig, Written};
use crate::decode::sparkplug::valves;
use crate::detect::RulesConfig;
use crate::door::DoorConfig;
use crate::external::ExternalConfig;
use crate::limits::Filters;
use crate::model;
use crate::nodes::NodesConfig;
use crate::update::UpdatesConfig;
use crate::uplink::UplinkConfig;
use crate::validate::Tolerance;
use crate::window::Shape;

/// A gateway's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The farm.
    pub farm: FarmId,
    /// The gateway's name in the farm.
    pub gateway: GatewayId,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the status page, `/metrics` and `/healthz` are served; port 0 takes a free one.
    #[serde(default = "status_listen")]
    pub status_listen: SocketAddr,
    /// A file that is written when all servers listen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_file: Option<PathBuf>,
    /// How the farm's clock runs against the wall clock.
    #[serde(default)]
    pub time: TimeScale,
    /// The front door.
    #[serde(default)]
    pub door: DoorConfig,
    /// A broker that the farm already runs, of which the gateway is a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<ExternalConfig>,
    /// The cloud; a gateway without one works by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudConfig>,
    /// What the way to the cloud may carry.
    #[serde(default)]
    pub uplink: UplinkConfig,
    /// How readings become windows.
    #[serde(default)]
    pub windows: WindowsConfig,
    /// Filters that differ from their defaults, by quantity, channel and station: see [`crate::limits`].
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub filters: toml::Table,
    /// What is kept, and for how long.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// When the rules raise alerts.
    #[serde(default)]
    pub rules: RulesConfig,
    /// A folder with a folder for each model (`model.onnx` and `manifest.toml`); without it the built-in model runs. Each runs
    /// in a process of its own, within the limits of `[updates]`; the gateway goes on without one that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models_dir: Option<PathBuf>,
    /// Models that come over the air from the cloud's registry.
    #[serde(default)]
    pub updates: UpdatesConfig,
    /// What bringing models to the stations' nodes may take.
    #[serde(default)]
    pub nodes: NodesConfig,
    /// Other people's sensors.
    #[serde(default, rename = "source", skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceConfig>,
    /// The fields whose irrigation the gateway decides.
    #[serde(default, rename = "field", skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldConfig>,
}

/// Where the cloud is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudConfig {
    /// Its address, like `https://tilth.example.org`.
    pub url: String,
    /// The gateway's token.
    pub token: String,
}

/// How readings become windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowsConfig {
    /// The length of a window, in seconds.
    pub length_s: u32,
    /// How far behind its station's newest reading a reading may come and still amend its window, in seconds.
    pub lateness_s: u32,
    /// How far apart readings may be and still be neighbours for the filters, in seconds.
    pub context_s: u32,
    /// How long nothing may come from a station before its windows close without more, in seconds.
    pub idle_s: u32,
    /// How far a station's clock may be ahead, in seconds.
    pub future_s: u32,
    /// How old a reading may be at all, in days.
    pub oldest_days: u32,
}

impl Default for WindowsConfig {
    fn default() -> Self {
        Self { length_s: 900, lateness_s: 7_200, context_s: 3_600, idle_s: 3_600, future_s: 300, oldest_days: 400 }
    }
}

impl WindowsConfig {
    /// The same for the windows.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let ms = |seconds: u32| i64::from(seconds) * 1000;
        Shape {
            length_s: self.length_s,
            context_ms: ms(self.context_s),
            idle_ms: ms(self.idle_s),
            tolerance: Tolerance {
                future_ms: ms(self.future_s),
                lateness_ms: ms(self.lateness_s),
                oldest_ms: i64::from(self.oldest_days) * 86_400_000,
            },
        }
    }
}

/// What is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Raw readings at most this old, in days of farm time.
    pub raw_days: u32,
    /// Raw readings at most this many, in bytes; the oldest go first.
    pub raw_bytes: u64,
    /// What waits for the cloud, in bytes; beyond it the oldest windows go and are counted. Alerts, decisions and births may
    /// each take an eighth of it, and 16 MiB at most.
    pub spool_bytes: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { raw_days: 90, raw_bytes: 4 << 30, spool_bytes: 2 << 30 }
    }
}

fn status_listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8090))
}

/// A configuration that cannot be used: everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// Names the file, the key and the value of everything that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display();
        fs::read_to_string(path)
            .map_err(|error| vec![error.to_string()])
            .and_then(|text| Self::parse(&text))
            .map_err(|wrong| ConfigError(wrong.iter().map(|wrong| format!("configuration {shown}: {wrong}")).collect()))
    }

    /// Checks a configuration file and the files that it names, without starting anything.
    ///
    /// # Errors
    /// Names the file, the key and the value of everything that is wrong.
    pub fn check_all(path: &Path) -> Result<(), ConfigError> {
        let wrong = match fs::read_to_string(path) {
            Ok(text) => Self::read(&text, |config| [config.check(), config.check_files()].concat()).1,
            Err(error) => vec![error.to_string()],
        };
        let wrong: Vec<String> =
            wrong.iter().map(|wrong| format!("configuration {}: {wrong}", path.display())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError(wrong)) }
    }

    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong, a line each with the key and the value.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (config, wrong) = Self::read(text, Self::check);
        config.filter(|_| wrong.is_empty()).ok_or(wrong)
    }

    /// What can be read of a configuration, and everything that is wrong with it, by `check` too.
    fn read(text: &str, check: impl FnOnce(&Self) -> Vec<String>) -> (Option<Self>, Vec<String>) {
        let mut document = match Section::parse(text) {
            Ok(document) => document,
            Err(mistakes) => return (None, mistakes.iter().map(ToString::to_string).collect()),
        };
        let Written { sources, mut mistakes, made_up } = Written::take(&mut document);
        let mut config = document.read::<Self>().map_or_else(
            |Unread { mistakes: more, rest }| {
                mistakes.extend(more);
                rest
            },
            Some,
        );
        if let Some(config) = &mut config
            && !sources.is_empty()
        {
            config.sources = sources;
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        let mut wrong: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let keys: Vec<String> = mistakes.into_iter().map(|mistake| mistake.key).chain(made_up).collect();
        let checked = config.as_ref().map(check).unwrap_or_default();
        wrong.extend(checked.into_iter().filter(|line| !is_told(line, &keys)));
        (config, wrong)
    }

    /// What is wrong with the values, a line each.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |holds: bool, key: &str, value: &dyn std::fmt::Display, expected: &str| {
            if !holds {
                wrong.push(format!("{key} = {value} is not {expected}"));
            }
        };
        let windows = &self.windows;
        let divides = windows.length_s > 0 && 86_400 % windows.length_s.max(1) == 0;
        expect(divides, "windows.length_s", &windows.length_s, "a part of a day: 60, 300, 900, 3600 s, …");
        expect(windows.context_s > 0, "windows.context_s", &windows.context_s, "above 0 s");
        expect(windows.idle_s >= windows.length_s, "windows.idle_s", &windows.idle_s, "at least windows.length_s");
        expect(windows.oldest_days > 0, "windows.oldest_days", &windows.oldest_days, "above 0 days");
        expect(self.time.speed > 0.0 && self.time.speed.is_finite(), "time.speed", &self.time.speed, "above 0");
        expect(self.retention.raw_days > 0, "retention.raw_days", &self.retention.raw_days, "above 0 days");
        expect(self.retention.raw_bytes >= 1 << 20, "retention.raw_bytes", &self.retention.raw_bytes, "at least 1 MiB");
        expect(
            self.retention.spool_bytes >= 1 << 20,
            "retention.spool_bytes",
            &self.retention.spool_bytes,
            "at least 1 MiB",
        );
        let door = &self.door;
        let reached = door.listen.is_some() || door.tls.is_some() || self.broker.is_some();
        expect(reached, "door", &"{}", "with a listen or a tls.listen, or beside a broker");
        for (key, value, expected) in self.broker.iter().flat_map(ExternalConfig::check) {
            expect(false, &format!("broker.{key}"), &value, expected);
        }
        for (key, value, expected) in door.check() {
            expect(false, &format!("door.{key}"), &value, expected);
        }
        let rules = &self.rules;
        let shares =
            [("rules.common_share", rules.common_share), ("rules.anomaly_close_below", rules.anomaly_close_below)];
        for (key, share) in shares {
            expect((0.0..=1.0).contains(&share), key, &share, "a share from 0 to 1");
        }
        for (key, value, expected) in self.uplink.check() {
            expect(false, key, &value, expected);
        }
        for (key, value, expected) in self.updates.check() {
            expect(false, key, &value, expected);
        }
        for (key, value, expected) in self.nodes.check() {
            expect(false, key, &value, expected);
        }
        for (key, value, expected) in source::check(&self.sources) {
            expect(false, &key, &value, &expected);
        }
        for (key, value, expected) in decide::config::check(&self.fields) {
            expect(false, &key, &value, &expected);
        }
        let foreign = valves(&self.sources);
        for (index, field) in self.fields.iter().enumerate() {
            for valve in field.valves.iter().filter(|valve| !foreign.contains_key(*valve)) {
                let native = !self.sources.iter().any(|source| source.common.owns(valve));
                expect(
                    native,
                    &format!("field[{index}].valves"),
                    valve,
                    "a native station, or one of a source's valves",
                );
            }
        }
        expect(
            self.updates.root.is_none() || self.cloud.is_some(),
            "updates.root",
            &self.updates.root.as_deref().unwrap_or(Path::new("")).display(),
            "of use without a cloud",
        );
        if let Some(cloud) = &self.cloud {
            let http = cloud.url.starts_with("http://") || cloud.url.starts_with("https://");
            expect(http, "cloud.url", &format!("{:?}", cloud.url), "an address with http:// or https://");
            expect(!cloud.token.is_empty(), "cloud.token", &"\"\"", "a token");
        }
        wrong.extend(Filters::read(&self.filters).err().unwrap_or_default());
        wrong
    }

    /// What is wrong with the files that it names, a line each. Models are not run.
    #[must_use]
    pub fn check_files(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let door = &self.door;
        wrong.extend(Keyring::check(door.credentials.as_deref(), door.credentials_dir.as_deref()));
        wrong.extend(door.tls.iter().flat_map(crate::door::tls::check));
        wrong.extend(self.broker.iter().flat_map(ExternalConfig::check_files));
        if let Some(root) = &self.updates.root
            && let Err(error) = fs::read(root)
        {
            wrong.push(format!("updates.root = {:?}: {error}", root.display().to_string()));
        }
        if let Some(dir) = &self.models_dir {
            wrong.extend(check_models(dir).into_iter().map(|wrong| format!("models_dir = {wrong}")));
        }
        wrong
    }

    /// What is expected of each channel. What is wrong in `[filters]` is none of it: [`Config::check`] names it.
    #[must_use]
    pub fn filters(&self) -> Filters {
        Filters::read(&self.filters).unwrap_or_default()
    }
}

/// Whether nothing more is to be said of what a line is about, because one of `keys` is told already: it was left out, or
/// something was made up in its place; or something within it was.
pub(crate) fn is_told(line: &str, keys: &[String]) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let about = line.split([' ', ':']).next().unwrap_or_default();
    keys.iter().any(|key| !key.is_empty() && (within(about, key) || within(key, about)))
}

/// What is wrong with a folder of models: of each folder the path and the reason.
fn check_models(dir: &Path) -> Vec<String> {
    let said = |path: &Path, reason: String| format!("{:?}: {reason}", path.display().to_string());
    let folders = match model::folders(dir) {
        Ok(folders) => folders,
        Err(error) => return vec![said(dir, error.to_string())],
    };
    if folders.is_empty() {
        return vec![said(dir, "no folder with a model is in it".to_owned())];
    }
    let wrong = |folder: &PathBuf| {
        let wrong = model::look(folder).err().unwrap_or_default().into_iter();
        wrong.map(|error| said(folder, error.to_string().replace('\n', " "))).collect::<Vec<_>>()
    };
    folders.iter().flat_map(wrong).collect()
}
