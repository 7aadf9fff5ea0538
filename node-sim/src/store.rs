//! What is kept over a restart: the farm's state, and each node's flash.
//!
//! The folder holds `state.toml` (the farm at a moment, the boot number, which journal belongs to it), `journal-N` and
//! `lock`. The journal has every report since that moment, before it is published, and what was waiting then. So after
//! `kill -9` the farm begins again at the kept moment and, being a pure function, comes to where it was; the reports that
//! the journal has are not made again but sent as they are. The promises:
//! - A boot number is on disk before a report of that boot is published, and is never used twice: one (boot, sequence)
//!   means one report for ever.
//! - A report that was published is in the journal as long as the process alone is killed. A machine that loses power may
//!   lose the last seconds' reports (the journal is not brought to the disk for each); their readings are made again, in the
//!   next boot.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto::{FarmId, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::farm::FarmState;
use crate::node::Entry;
use crate::truth::{Report, put_station, take, take_station};

/// The version of the folder's format, and the oldest that is read as far as nothing in it was kept otherwise: stations' power was.
const VERSION: u32 = 3;
const OLDEST: u32 = 2;
/// What to do with one that cannot be read. Its boot numbers are lost, and a gateway that has heard them takes new reports for old ones.
const ANEW: &str = "begin the farm anew: with another state_dir, and a gateway that has stored nothing of it";
const STATE: &str = "state.toml";

/// Why the kept state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error("state {path:?}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("state directory {0:?} is in use by another process")]
    InUse(PathBuf),
    /// The state is not what this program writes.
    #[error("state {path:?}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is there.
        problem: String,
    },
    /// The state is of another farm.
    #[error("state directory {path:?} holds a farm with {key} = {kept}, the configuration says {wanted}")]
    OtherFarm {
        /// The folder.
        path: PathBuf,
        /// The key that differs.
        key: &'static str,
        /// The value that was kept.
        kept: String,
        /// The value that is configured.
        wanted: String,
    },
}

/// What makes a farm the same farm after a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub farm: FarmId,
    pub seed: u64,
    pub start: Timestamp,
}

/// `state.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    version: u32,
    boot: u32,
    journal: u64,
    truth_length: Option<u64>,
    identity: Identity,
    /// The time of each station's last sample that is in a report.
    sealed: BTreeMap<StationId, Timestamp>,
    farm: FarmState,
}

/// Only what tells whether the rest can be read.
#[derive(Debug, Deserialize)]
struct VersionOnly {
    version: u32,
}

/// A command that a farm was given: at a moment, water for a station's field for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Irrigation {
    pub at: Timestamp,
    pub station: StationId,
    pub minutes: u32,
    /// The command's number.
    pub id: u64,
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// A report made since the state was kept.
    Made(Report),
    /// A report made before that was waiting for its acknowledgement.
    Waiting(StationId, Entry),
    /// Readings that were not in a report yet when the state was kept.
    Open(Report),
    /// A command since the state was kept.
    Irrigation(Irrigation),
    /// The number of the last command of a station before the state was kept.
    Irrigated(StationId, u64),
    /// A station's models, as its flash holds them; the last one counts.
    Models(StationId, Vec<u8>),
}

impl Record {
    /// The report, when it was made since the state was kept.
    pub fn made(&self) -> Option<&Report> {
        match self {
            Self::Made(report) => Some(report),
            _ => None,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        let kind = match self {
            Self::Made(_) => 1,
            Self::Waiting(..) => 2,
            Self::Open(_) => 3,
            Self::Irrigation(_) => 4,
            Self::Irrigated(..) => 5,
            Self::Models(..) => 6,
        };
        out.extend([kind, 0, 0, 0, 0]);
        match self {
            Self::Made(report) | Self::Open(report) => report.encode(out),
            Self::Waiting(station, entry) => {
                put_station(out, station);
                out.extend(entry.boot.to_le_bytes());
                out.extend(entry.sequence.to_le_bytes());
                out.extend(entry.readings.to_le_bytes());
                out.extend(&entry.payload);
            }
            Self::Irrigation(irrigation) => {
                put_station(out, &irrigation.station);
                out.extend(irrigation.at.as_millis().to_le_bytes());
                out.extend(irrigation.minutes.to_le_bytes());
                out.extend(irrigation.id.to_le_bytes());
            }
            Self::Irrigated(station, id) => {
                put_station(out, station);
                out.extend(id.to_le_bytes());
            }
            Self::Models(station, bytes) => {
                put_station(out, station);
                out.extend(bytes);
            }
        }
        let length = (out.len() - at - 5) as u32;
        out[at + 1..at + 5].copy_from_slice(&length.to_le_bytes());
    }

    /// The next record; none at the end, and where the journal was torn.
    fn decode(input: &mut &[u8]) -> Option<Self> {
        let [kind] = take(input)?;
        let length = u32::from_le_bytes(take(input)?) as usize;
        let (body, rest) = input.split_at_checked(length)?;
        let record = Self::decode_body(kind, body)?;
        *input = rest;
        Some(record)
    }

    fn decode_body(kind: u8, mut body: &[u8]) -> Option<Self> {
        let input = &mut body;
        Some(match kind {
            1 => Self::Made(Report::decode(input)?),
            2 => {
                let station = take_station(input)?;
                let boot = u32::from_le_bytes(take(input)?);
                let sequence = u64::from_le_bytes(take(input)?);
                let readings = u32::from_le_bytes(take(input)?);
                Self::Waiting(station, Entry { boot, sequence, readings, payload: Bytes::copy_from_slice(input) })
            }
            3 => Self::Open(Report::decode(input)?),
            4 => {
                let station = take_station(input)?;
                let at = Timestamp::from_millis(i64::from_le_bytes(take(input)?));
                let minutes = u32::from_le_bytes(take(input)?);
                // Older journals have no number.
                let id = take(input).map_or(0, u64::from_le_bytes);
                Self::Irrigation(Irrigation { at, station, minutes, id })
            }
            5 => Self::Irrigated(take_station(input)?, u64::from_le_bytes(take(input)?)),
            6 => Self::Models(take_station(input)?, input.to_vec()),
            _ => return None,
        })
    }
}

/// What was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The boot that ended.
    pub boot: u32,
    pub truth_length: Option<u64>,
    pub sealed: BTreeMap<StationId, Timestamp>,
    pub farm: FarmState,
    /// The journal's records in order.
    pub records: Vec<Record>,
}

/// What is to be kept.
#[derive(Debug)]
pub(crate) struct Keep {
    pub boot: u32,
    pub truth_length: Option<u64>,
    pub sealed: BTreeMap<StationId, Timestamp>,
    pub farm: FarmState,
    /// What the new journal begins with.
    pub records: Vec<Record>,
}

/// The folder, locked for this process.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    identity: Identity,
    /// The number of the journal in use; none before the first [`Store::keep`].
    journal: Option<(u64, File)>,
    last_journal: u64,
    journal_bytes: u64,
    buffer: Vec<u8>,
    _lock: File,
}

impl Store {
    /// Opens or makes the folder and reads what it holds. Nothing can be appended before the first [`Store::keep`].
    pub fn open(dir: &Path, identity: Identity) -> Result<(Self, Option<Kept>), StoreError> {
        std::fs::create_dir_all(dir).map_err(at(dir))?;
        let lock_path = dir.join("lock");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(StoreError::InUse(dir.to_owned()));
            }
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(StoreError::Io { path: lock_path, source });
            }
        }
        let state = read_state(dir)?;
        let mut store = Self {
            dir: dir.to_owned(),
            identity,
            journal: None,
            last_journal: 0,
            journal_bytes: 0,
            buffer: Vec::new(),
            _lock: lock,
        };
        let Some(state) = state else {
            return Ok((store, None));
        };
        store.check_identity(&state.identity)?;
        store.last_journal = state.journal;
        let path = store.journal_path(state.journal);
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        let mut input = bytes.as_slice();
        let records = std::iter::from_fn(|| Record::decode(&mut input)).collect();
        if !input.is_empty() {
            tracing::warn!(bytes = input.len(), "the journal's end was torn; what was not yet published is made again");
        }
        let StateFile { boot, truth_length, sealed, farm, .. } = state;
        Ok((store, Some(Kept { boot, truth_length, sealed, farm, records })))
    }

    /// Keeps the farm's state, with a new journal. On disk when it returns; a kill at any moment leaves the old or the new.
    pub fn keep(&mut self, keep: Keep) -> Result<(), StoreError> {
        let number = self.last_journal + 1;
        let path = self.journal_path(number);
        self.buffer.clear();
        for record in &keep.records {
            record.encode(&mut self.buffer);
        }
        let mut journal = File::create(&path).map_err(at(&path))?;
        journal.write_all(&self.buffer).and_then(|()| journal.sync_all()).map_err(at(&path))?;
        let state = StateFile {
            version: VERSION,
            boot: keep.boot,
            journal: number,
            truth_length: keep.truth_length,
            identity: self.identity.clone(),
            sealed: keep.sealed,
            farm: keep.farm,
        };
        let path = self.dir.join(STATE);
        let text = toml::to_string(&state)
            .map_err(|error| StoreError::Format { path: path.clone(), problem: error.to_string() })?;
        let new = self.dir.join("state.toml.new");
        let mut file = File::create(&new).map_err(at(&new))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&new))?;
        std::fs::rename(&new, &path).map_err(at(&path))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(at(&self.dir))?;
        let old = self.journal_path(self.last_journal);
        self.journal = Some((number, journal));
        self.last_journal = number;
        self.journal_bytes = 0;
        match std::fs::remove_file(&old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&old)(error)),
            _ => Ok(()),
        }
    }

    /// Appends records to the journal. They are with the system when this returns.
    pub fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let path = self.journal_path(self.last_journal);
        let Some((_, journal)) = &mut self.journal else {
            return Err(StoreError::Format { path, problem: "nothing was kept before".to_owned() });
        };
        self.buffer.clear();
        for record in records {
            record.encode(&mut self.buffer);
        }
        journal.write_all(&self.buffer).map_err(at(&path))?;
        self.journal_bytes += self.buffer.len() as u64;
        Ok(())
    }

    /// How much was appended since the state was kept.
    pub fn journal_bytes(&self) -> u64 {
        self.journal_bytes
    }

    fn journal_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("journal-{number}"))
    }

    fn check_identity(&self, kept: &Identity) -> Result<(), StoreError> {
        let other = |key, kept: &dyn ToString, wanted: &dyn ToString| StoreError::OtherFarm {
            path: self.dir.clone(),
            key,
            kept: kept.to_string(),
            wanted: wanted.to_string(),
        };
        let wanted = &self.identity;
        if kept.farm != wanted.farm {
            Err(other("id", &kept.farm, &wanted.farm))
        } else if kept.seed != wanted.seed {
            Err(other("seed", &kept.seed, &wanted.seed))
        } else if kept.start != wanted.start {
            Err(other("start", &kept.start, &wanted.start))
        } else {
            Ok(())
        }
    }
}

/// The farm time to which a folder's farm had come; none when there is no farm in it. A clock that is set to this lets the
/// farm go on where it was.
///
/// # Errors
/// When the state cannot be read, or is not what this program writes.
pub fn resume_time(dir: &Path) -> Result<Option<Timestamp>, StoreError> {
    let Some(state) = read_state(dir)? else {
        return Ok(None);
    };
    let path = dir.join(format!("journal-{}", state.journal));
    let bytes = std::fs::read(&path).map_err(at(&path))?;
    let mut input = bytes.as_slice();
    let made = std::iter::from_fn(|| Record::decode(&mut input)).filter_map(|record| match record {
        Record::Made(report) => report.readings.last().map(|measured| measured.reading.time),
        _ => None,
    });
    Ok(Some(made.fold(state.farm.now, Timestamp::max)))
}

fn read_state(dir: &Path) -> Result<Option<StateFile>, StoreError> {
    let path = dir.join(STATE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&path)(error)),
    };
    let format = |problem: String| StoreError::Format { path: path.clone(), problem };
    let version: VersionOnly = toml::from_str(&text).map_err(|error| format(error.message().to_owned()))?;
    if !(OLDEST..=VERSION).contains(&version.version) {
        let read = format!("this program reads versions {OLDEST} to {VERSION}");
        return Err(format(format!("is of version {}, {read}; {ANEW}", version.version)));
    }
    toml::from_str(&text).map(Some).map_err(|error| {
        format(format!("{} (version {}); {ANEW}", error.message().replace('\n', ", "), version.version))
    })
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base_station::BaseStationConfig;
    use crate::config::FarmConfig;
    use crate::energy::EnergyConfig;
    use crate::farm::Farm;
    use crate::sensing::Detail;

    fn identity(seed: u64) -> Identity {
        Identity { farm: "demo".parse().unwrap(), seed, start: Timestamp::from_secs(0) }
    }

    fn farm_state() -> FarmState {
        let mut farm = Farm::new(&FarmConfig { stations: 3, ..FarmConfig::default() }).unwrap();
        farm.advance(farm.now().plus_secs(7777), |_| {});
        farm.state()
    }

    fn keep(farm: &FarmState, boot: u32, records: Vec<Record>) -> Keep {
        Keep { boot, truth_length: Some(8), sealed: BTreeMap::new(), farm: farm.clone(), records }
    }

    fn irrigation(minutes: u32) -> Record {
        Record::Irrigation(Irrigation { at: Timestamp::from_secs(5), station: "n1".parse().unwrap(), minutes, id: 7 })
    }

    #[test]
    fn what_is_kept_comes_back_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let farm = farm_state();
        let waiting = Record::Waiting(
            "e1".parse().unwrap(),
            Entry { boot: 1, sequence: 9, readings: 39, payload: Bytes::from_static(b"batch") },
        );
        let (mut store, kept) = Store::open(dir.path(), identity(1)).unwrap();
        assert!(kept.is_none());
        let models = Record::Models("e1".parse().unwrap(), vec![2, 0, 7]);
        store.keep(keep(&farm, 1, vec![waiting.clone(), models.clone()])).unwrap();
        store.append(&[irrigation(10)]).unwrap();
        drop(store);
        let (mut store, kept) = Store::open(dir.path(), identity(1)).unwrap();
        let kept = kept.unwrap();
        assert_eq!((kept.boot, kept.truth_length), (1, Some(8)));
        assert_eq!(kept.farm, farm);
        assert_eq!(kept.records, [waiting, models, irrigation(10)]);
        store.keep(keep(&farm, 2, Vec::new())).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        assert_eq!(resume_time(dir.path()).unwrap(), Some(farm.now));
    }

    #[test]
    fn a_torn_journal_gives_what_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let farm = farm_state();
        let (mut store, _) = Store::open(dir.path(), identity(1)).unwrap();
        store.keep(keep(&farm, 1, Vec::new())).unwrap();
        store.append(&[irrigation(1), irrigation(2)]).unwrap();
        let path = store.journal_path(1);
        drop(store);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let (_store, kept) = Store::open(dir.path(), identity(1)).unwrap();
        assert_eq!(kept.unwrap().records, [irrigation(1)]);
    }

    #[test]
    fn another_farm_another_version_and_a_second_process_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path(), identity(1)).unwrap();
        store.keep(keep(&farm_state(), 1, Vec::new())).unwrap();
        assert!(matches!(Store::open(dir.path(), identity(1)), Err(StoreError::InUse(_))));
        drop(store);
        let error = Store::open(dir.path(), identity(2)).unwrap_err().to_string();
        assert!(error.ends_with("holds a farm with seed = 1, the configuration says 2"), "{error}");
        let path = dir.path().join(STATE);
        let text = std::fs::read_to_string(&path).unwrap();
        for other in [1, 4] {
            std::fs::write(&path, text.replacen("version = 3", &format!("version = {other}"), 1)).unwrap();
            let error = Store::open(dir.path(), identity(1)).unwrap_err().to_string();
            let expected = format!("is of version {other}, this program reads versions 2 to 3; {ANEW}");
            assert!(error.contains(&expected), "{error}");
        }
    }

    /// A farm with all that can be kept.
    fn whole_farm() -> FarmConfig {
        let mut config = FarmConfig {
            stations: 3,
            energy: Some(EnergyConfig { planned: true, ..EnergyConfig::default() }),
            base_station: Some(BaseStationConfig::default()),
            ..FarmConfig::default()
        };
        config.sensors.model = Detail::DataSheet;
        config.faults.random = true;
        config
    }

    #[test]
    fn a_farm_of_the_version_before_goes_on_unless_its_stations_power_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STATE);
        // As version 2 was: it kept a supply where this keeps turns.
        let as_before = |config: &FarmConfig| {
            let _ = std::fs::remove_dir_all(dir.path());
            let mut farm = Farm::new(config).unwrap();
            farm.advance(farm.now().plus_secs(7777), |_| {});
            let (mut store, _) = Store::open(dir.path(), identity(1)).unwrap();
            store.keep(keep(&farm.state(), 5, Vec::new())).unwrap();
            let mut state: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
            state["version"] = 2.into();
            for (_, station) in state["farm"]["stations"].as_table_mut().unwrap() {
                if let Some(power) = station.get_mut("power").and_then(toml::Value::as_table_mut) {
                    let supply = power["turns"]["supply"].clone();
                    *power = [("supply".to_owned(), supply), ("missed".to_owned(), false.into())].into_iter().collect();
                }
            }
            std::fs::write(&path, state.to_string()).unwrap();
            farm.state()
        };
        let plain = as_before(&FarmConfig { stations: 3, ..FarmConfig::default() });
        let (_, kept) = Store::open(dir.path(), identity(1)).unwrap();
        let kept = kept.unwrap();
        assert_eq!((kept.boot, kept.farm), (5, plain));
        as_before(&FarmConfig { base_station: None, ..whole_farm() });
        let error = Store::open(dir.path(), identity(1)).unwrap_err().to_string();
        assert!(
            error.contains("unknown field `supply`") && error.ends_with(&format!("(version 2); {ANEW}")),
            "{error}"
        );
        assert!(resume_time(dir.path()).unwrap_err().to_string().ends_with(ANEW));
    }

    /// Whoever changes what is kept raises the version, or sees to it that the older one is read, and writes the new mark here.
    #[test]
    fn what_is_kept_changes_with_the_version_alone() {
        fn keys(value: &toml::Value, path: &str, found: &mut std::collections::BTreeSet<String>) {
            match value {
                toml::Value::Table(table) => table.iter().for_each(|(key, value)| {
                    // Names of stations, fields and channels are no keys of the format.
                    let named = ["stations", "fields", "followed", "held", "wet", "sealed"]
                        .iter()
                        .any(|map| path.ends_with(map));
                    keys(value, &format!("{path}.{}", if named { "*" } else { key }), found);
                }),
                toml::Value::Array(items) => items.iter().for_each(|item| keys(item, &format!("{path}[]"), found)),
                value => {
                    found.insert(format!("{path}: {}", value.type_str()));
                }
            }
        }
        let mut farm = Farm::new(&whole_farm()).unwrap();
        farm.advance(farm.now().plus_secs(30 * 86_400), |_| {});
        let mut found = std::collections::BTreeSet::new();
        keys(&toml::Value::try_from(farm.state()).unwrap(), "farm", &mut found);
        let found: Vec<String> = found.into_iter().collect();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(found.join("\n"));
        let mark = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        assert_eq!((VERSION, format!("{mark:08x}").as_str()), (3, "8b16b67f"), "{}", found.join("\n"));
    }
}
