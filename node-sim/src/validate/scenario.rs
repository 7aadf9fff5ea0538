//! What a report is about: a configured farm, its weather and its faults.

use std::path::Path;

use proto::Timestamp;

use crate::config::{Config, ConfigError, FarmConfig, Inputs};
use crate::replay::{AtEnd, Replay, ReplayConfig};

/// A configured farm and the time for which it is looked at.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The farm.
    pub farm: FarmConfig,
    /// What its files hold: to be cloned, because a weather keeps the hours that it was asked for.
    pub inputs: Inputs,
    /// How long it is looked at, days.
    pub days: u32,
    /// Measured data that is replayed, once.
    pub replay: Option<Replay>,
}

impl Scenario {
    /// A farm that is looked at for so many days.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration and the files that it names.
    pub fn of(farm: FarmConfig, days: u32) -> Result<Self, ConfigError> {
        let inputs = farm.open()?;
        Ok(Self { farm, inputs, days, replay: None })
    }

    /// The farm of a configuration file (without one the default farm), with other faults where some are given. What the
    /// file says of a broker, folders and passwords is read but not needed.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn read(config: Option<&Path>, faults: Option<&Path>, days: u32) -> Result<Self, ConfigError> {
        let open = |mut farm: FarmConfig, replay: Option<ReplayConfig>| {
            if let Some(faults) = faults {
                farm.scenario = Some(faults.to_owned());
            }
            let Some(replay) = replay else { return Self::of(farm, days) };
            // The faults are those of the replayed stations then.
            let once = ReplayConfig { at_end: AtEnd::Stop, ..replay };
            let replay = Replay::open(&once, &farm).map_err(|problems| ConfigError { problems })?;
            Ok(Self { replay: Some(replay), ..Self::of(FarmConfig { scenario: None, ..farm }, days)? })
        };
        match config {
            None => open(FarmConfig::default(), None),
            Some(path) => {
                Config::read(path, &["broker", "state_dir"], |config| open(config.farm.clone(), config.replay.clone()))
            }
        }
    }

    /// The first moment.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.farm.start
    }

    /// The first moment after it.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.farm.start.plus_secs(86_400 * i64::from(self.days))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_without_a_broker_is_enough_and_mistakes_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("farm.toml");
        std::fs::write(&path, "[farm]\nstations = 3\n").unwrap();
        assert_eq!(Scenario::read(Some(&path), None, 1).unwrap().farm.stations, 3);
        std::fs::write(&path, "[farm]\nstations = 0\nlatitude = 70.0\n").unwrap();
        let error = Scenario::read(Some(&path), None, 1).unwrap_err().to_string();
        assert!(error.contains("farm.toml\", farm.stations: 0 is not") && error.contains("farm.latitude"), "{error}");
        std::fs::write(&path, "[farm]\nstation = 1\nlatitude = 70.0\nseed = true\n").unwrap();
        let error = Scenario::read(Some(&path), None, 1).unwrap_err().to_string();
        let told = ["farm.station: is not known", "farm.seed: true is not a whole", "farm.latitude: 70 is not"];
        assert!(told.iter().all(|told| error.contains(told)) && error.lines().count() == 3, "{error}");
    }
}
