//! The places of node-sim's replicas: each has stations, passwords and state of its own, and is held by one replica at a
//! time. A replica that is started again finds its place free, and goes on there.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use node_sim::config::FarmConfig;
use proto::{StationId, Timestamp};

use crate::secret;

/// The most replicas: each place has a letter.
const MOST: u8 = 26;

/// A place, as long as it is open.
#[derive(Debug)]
pub struct Slot {
    /// From 1.
    pub number: u8,
    /// Its folder.
    pub dir: PathBuf,
    /// Held while the replica runs.
    pub lock: File,
}

/// Takes the first place below `dir` that nobody holds.
///
/// # Errors
/// When all are held, or a folder cannot be made.
pub fn take(dir: &Path) -> anyhow::Result<Slot> {
    for number in 1..=MOST {
        let dir = folder(dir, number);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join("lock");
        let lock = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => return Ok(Slot { number, dir, lock }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
    bail!("all {MOST} places below {} are taken: no more replicas than that", dir.display())
}

/// The farm time that the simulated stations have come to, over all places.
///
/// # Errors
/// When a place's state cannot be read.
pub fn reached(dir: &Path) -> anyhow::Result<Option<Timestamp>> {
    let mut newest = None;
    for number in 1..=MOST {
        newest = newest.max(node_sim::store::resume_time(&state(&folder(dir, number)))?);
    }
    Ok(newest)
}

fn folder(dir: &Path, number: u8) -> PathBuf {
    dir.join(format!("place-{number}"))
}

fn state(folder: &Path) -> PathBuf {
    folder.join("state")
}

impl Slot {
    /// Where its stations' state is kept.
    pub fn state(&self) -> PathBuf {
        state(&self.dir)
    }

    /// The farm with this place's stations: n1, e1, … in the first place, b-n1, b-e1, … in the second.
    pub fn farm(&self, farm: FarmConfig) -> FarmConfig {
        if self.number == 1 {
            return farm;
        }
        let letter = char::from(b'a' + self.number - 1);
        let mut fields = farm.fields();
        for field in &mut fields {
            field.prefix = format!("{letter}-{}", field.prefix);
        }
        FarmConfig { fields, ..farm }
    }

    /// The passwords of these stations; those that are missing are made.
    ///
    /// # Errors
    /// When they can be neither read nor written.
    pub fn passwords(&self, stations: impl Iterator<Item = StationId>) -> anyhow::Result<BTreeMap<StationId, String>> {
        let path = self.dir.join("passwords.toml");
        let known: BTreeMap<StationId, String> = match fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("{} holds no stations' passwords", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let password = |station: &StationId| known.get(station).cloned().unwrap_or_else(secret::password);
        let passwords: BTreeMap<StationId, String> =
            stations.map(|station| (station.clone(), password(&station))).collect();
        secret::write(&path, &toml::to_string(&passwords)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(passwords)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_takes_the_first_free_place_and_comes_back_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path()).unwrap();
        let second = take(dir.path()).unwrap();
        let third = take(dir.path()).unwrap();
        assert_eq!((first.number, second.number, third.number), (1, 2, 3));
        drop(second);
        let again = take(dir.path()).unwrap();
        assert_eq!(again.number, 2, "the one that was started again");

        let farm = FarmConfig { stations: 4, ..FarmConfig::default() };
        let names = |slot: &Slot| -> Vec<String> {
            let names = slot.farm(farm.clone()).station_names();
            names.into_iter().map(|(station, _)| station.to_string()).collect()
        };
        assert_eq!(names(&first), ["n1", "e1", "c1", "n2"]);
        assert_eq!(names(&again), ["b-n1", "b-e1", "b-c1", "b-n2"]);
        assert!(again.farm(farm.clone()).open().is_ok(), "the simulator takes it");

        let stations = || again.farm(farm.clone()).station_names().into_iter().map(|(station, _)| station);
        let passwords = again.passwords(stations()).unwrap();
        assert_eq!(passwords.len(), 4);
        assert_eq!(again.passwords(stations()).unwrap(), passwords, "they are kept");
        assert_eq!(reached(dir.path()).unwrap(), None, "nothing was simulated");
    }
}
