//! The directory in which a farm lives: which version made it, who uses it now, and what its clock showed last.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use proto::{TimeScale, Timestamp};
use serde::{Deserialize, Serialize};

/// The layout that this program makes and reads.
pub const LAYOUT: u32 = 1;
/// How far ahead of the farm's clock its saved value is, in wall milliseconds, so that after a power cut no time comes twice.
const AHEAD_MS: i64 = 2_000;

/// A farm's directory, locked for this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    farm: Farm,
    _lock: File,
}

/// What is written about the farm as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Farm {
    /// The layout of the directory.
    layout: u32,
    /// Where the simulated farm's clock began.
    began: Timestamp,
    /// What it goes on from.
    clock: Timestamp,
    /// The chance that the simulated farm was begun with.
    seed: u64,
    /// How many stations it was begun with.
    stations: u32,
    /// The measured weather that it was begun with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weather: Option<PathBuf>,
    /// Where it was begun.
    #[serde(default, skip_serializing_if = "Site::is_usual")]
    site: Site,
}

/// Where a simulated farm is, and how its measured weather is to be understood.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Site {
    /// Degrees north, degrees east, metres above the sea; none is the simulator's own place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<[f64; 3]>,
    /// The zone of the weather's times that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The height of the weather's wind, m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wind_height_m: Option<f64>,
}

impl Site {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What a simulated farm is begun with; kept for its life.
#[derive(Debug, Clone, PartialEq)]
pub struct Beginning {
    /// Where its clock begins.
    pub began: Timestamp,
    /// Its chance.
    pub seed: u64,
    /// How many stations it has.
    pub stations: u32,
    /// Its measured weather.
    pub weather: Option<PathBuf>,
    /// Where it is.
    pub site: Site,
}

impl DataDir {
    /// Opens `path`, making it where there is nothing, and locks it.
    ///
    /// # Errors
    /// When it cannot be made or written, another process uses it, or its layout is another one.
    pub fn open(path: &Path, beginning: &Beginning) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .with_context(|| format!("cannot make the data directory {}", path.display()))?;
        let path = fs::canonicalize(path)?;
        let lock = File::create(path.join("lock"))
            .with_context(|| format!("cannot write to the data directory {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("the data directory {} is in use by another tilth", path.display()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock the data directory {}", path.display()));
            }
        }
        let file = path.join("farm.toml");
        let farm = match fs::read_to_string(&file) {
            Ok(text) => read(&file, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Farm {
                layout: LAYOUT,
                began: beginning.began,
                clock: beginning.began,
                seed: beginning.seed,
                stations: beginning.stations,
                weather: beginning.weather.clone(),
                site: beginning.site.clone(),
            },
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let dir = Self { path, farm, _lock: lock };
        dir.write()?;
        Ok(dir)
    }

    /// The directory's absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the farm was begun with, now or at an earlier start.
    #[must_use]
    pub fn beginning(&self) -> Beginning {
        let Farm { began, seed, stations, weather, site, .. } = self.farm.clone();
        Beginning { began, seed, stations, weather, site }
    }

    /// The farm's clock from the wall time `now` on, where it stopped last, or where the stations came to (`reached`).
    #[must_use]
    pub fn time_scale(&self, now: Timestamp, speed: f64, reached: Option<Timestamp>) -> TimeScale {
        TimeScale { wall: now, farm: reached.map_or(self.farm.clock, |reached| reached.max(self.farm.clock)), speed }
    }

    /// Notes what the farm's clock shows while it runs on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_clock(&mut self, scale: &TimeScale, now: Timestamp) -> anyhow::Result<()> {
        self.farm.clock = scale.at(now.plus_millis(AHEAD_MS));
        self.write()
    }

    /// Notes what the farm's clock showed when it stopped.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn stop_clock(&mut self, scale: &TimeScale, now: Timestamp) -> anyhow::Result<()> {
        self.farm.clock = scale.at(now);
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let (file, making) = (self.path.join("farm.toml"), self.path.join("farm.toml.making"));
        fs::write(&making, toml::to_string(&self.farm)?)
            .and_then(|()| fs::rename(&making, &file))
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

fn read(file: &Path, text: &str) -> anyhow::Result<Farm> {
    #[derive(Deserialize)]
    struct Layout {
        layout: u32,
    }
    let Layout { layout } =
        toml::from_str(text).with_context(|| format!("{} is not a farm's description", file.display()))?;
    if layout != LAYOUT {
        bail!(
            "{} has layout {layout}, but this tilth reads layout {LAYOUT}: use the version that made it, or another --data-dir",
            file.display()
        );
    }
    toml::from_str(text).with_context(|| format!("{} is not a farm's description", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning() -> Beginning {
        Beginning {
            began: Timestamp::from_secs(1_000_000),
            seed: 7,
            stations: 24,
            weather: None,
            site: Site::default(),
        }
    }

    #[test]
    fn the_clock_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut data = DataDir::open(dir.path(), &beginning()).unwrap();
        let scale = data.time_scale(Timestamp::from_secs(50), 720.0, None);
        assert_eq!(scale.at(Timestamp::from_secs(50)), beginning().began);
        data.stop_clock(&scale, Timestamp::from_secs(51)).unwrap();
        drop(data);

        let other = Beginning { seed: 8, stations: 3, ..beginning() };
        let data = DataDir::open(dir.path(), &other).unwrap();
        assert_eq!(data.beginning(), beginning(), "a farm keeps what it was begun with");
        let at_start = |reached| data.time_scale(Timestamp::from_secs(9_000), 720.0, reached).farm;
        assert_eq!(at_start(None), Timestamp::from_secs(1_000_720));
        assert_eq!(at_start(Some(Timestamp::from_secs(1_000_500))), Timestamp::from_secs(1_000_720));
        assert_eq!(at_start(Some(Timestamp::from_secs(1_000_800))), Timestamp::from_secs(1_000_800));
    }

    #[test]
    fn a_directory_in_use_or_of_another_layout_is_refused_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), &beginning()).unwrap();
        let error = DataDir::open(dir.path(), &beginning()).unwrap_err().to_string();
        assert!(error.contains("is in use by another tilth"), "{error}");
        drop(data);
        fs::write(dir.path().join("farm.toml"), "layout = 9\n").unwrap();
        let error = DataDir::open(dir.path(), &beginning()).unwrap_err().to_string();
        assert!(error.contains("has layout 9, but this tilth reads layout 1"), "{error}");
    }
}
