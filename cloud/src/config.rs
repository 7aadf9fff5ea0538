//! The cloud's configuration: one TOML file.

use std::fs;
use std::path::{Path, PathBuf};

use proto::TimeScale;
use serde::Deserialize;

use crate::registry::Publisher;
use crate::registry::keys::KeyDir;
use crate::registry::metadata::Lifetimes;

/// How a cloud process runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The database: `postgres://user:password@host:port/name`, or with `?host=/directory` for a socket.
    pub database_url: String,
    /// Where to listen, as `address:port`. Port 0 takes a free one; `ready_file` then says which.
    pub listen: String,
    /// Written once the server listens: `{"http":"127.0.0.1:41233"}`.
    #[serde(default)]
    pub ready_file: Option<PathBuf>,
    /// How the farms' clock runs against the wall clock; without it they are the same.
    #[serde(default)]
    pub time: Option<TimeScale>,
    /// The most connections to the database that this process opens.
    #[serde(default = "database_connections")]
    pub database_connections: u32,
    /// What the process may do with the model registry; without it, it only serves what is there.
    #[serde(default)]
    pub registry: Option<RegistryConfig>,
}

/// With what a cloud process changes the model registry, and keeps it from expiring.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// The directory of the keys of targets, snapshot and timestamp. The root's key must not be in it.
    pub online_keys: PathBuf,
    /// For how many days a timestamp is valid. It is renewed when half of that is over.
    #[serde(default = "timestamp_days")]
    pub timestamp_days: u32,
}

impl RegistryConfig {
    /// What signs the registry's changes.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        let lifetimes = Lifetimes { timestamp_days: self.timestamp_days };
        Publisher { keys: KeyDir::new(&self.online_keys), lifetimes }
    }
}

const fn timestamp_days() -> u32 {
    1
}

/// The most days that a timestamp may be valid: so long, too, could a registry be held back unnoticed.
const MOST_TIMESTAMP_DAYS: u32 = 30;

const fn database_connections() -> u32 {
    10
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML, or a key is unknown, missing or of the wrong kind.
    #[error("configuration {} line {line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong there, with the key's name.
        message: String,
    },
    /// A key has a value that cannot be.
    #[error("configuration {}: {key} = {value}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// Why it cannot be.
        reason: &'static str,
    },
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], which names the file and the line or key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            ConfigError::Parse { path: path.to_owned(), line, message: error.message().replace('\n', " ") }
        })?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let wrong = |key, value: String, reason| ConfigError::Value { path: path.to_owned(), key, value, reason };
        if self.database_connections < 2 {
            let value = self.database_connections.to_string();
            return Err(wrong("database_connections", value, "must be at least 2"));
        }
        if let Some(registry) = &self.registry
            && !(1..=MOST_TIMESTAMP_DAYS).contains(&registry.timestamp_days)
        {
            let value = registry.timestamp_days.to_string();
            return Err(wrong("registry.timestamp_days", value, "must be from 1 to 30"));
        }
        if let Some(time) = self.time
            && !(time.speed.is_finite() && time.speed > 0.0)
        {
            return Err(wrong("time.speed", time.speed.to_string(), "must be above 0"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let name = file.path().display().to_string();
        Config::load(file.path()).map_err(|error| error.to_string().replace(&name, "cloud.toml"))
    }

    #[test]
    fn a_short_file_is_enough() {
        let config = load("database_url = \"postgres:///tilth\"\nlisten = \"127.0.0.1:0\"\n").unwrap();
        assert_eq!(config.listen, "127.0.0.1:0");
        assert!(config.time.is_none());
        assert_eq!(config.database_connections, 10);
    }

    #[test]
    fn a_wrong_file_names_line_and_key() {
        let error = load("database_url = \"postgres:///tilth\"\nlisten = \"127.0.0.1:0\"\nlisen = 1\n").unwrap_err();
        assert!(error.starts_with("configuration cloud.toml line 3: unknown field `lisen`"), "{error}");
        let error = load("listen = \"127.0.0.1:0\"\n").unwrap_err();
        assert!(error.contains("missing field `database_url`"), "{error}");
        let error = load(
            "database_url = \"\"\nlisten = \"\"\n[time]\nwall = \"2026-01-01T00:00:00Z\"\nfarm = \"2015-01-01T00:00:00Z\"\nspeed = 0.0\n",
        )
        .unwrap_err();
        assert_eq!(error, "configuration cloud.toml: time.speed = 0: must be above 0");
        let error =
            load("database_url = \"\"\nlisten = \"\"\n[registry]\nonline_keys = \"keys\"\ntimestamp_days = 0\n")
                .unwrap_err();
        assert_eq!(error, "configuration cloud.toml: registry.timestamp_days = 0: must be from 1 to 30");
    }
}
