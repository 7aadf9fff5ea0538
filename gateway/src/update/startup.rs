//! What runs when the gateway starts: decided before any model is loaded, so that one that brings the gateway down again
//! and again is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::Timestamp;
use proto::update::Reason;

use crate::model::{Model, ModelError, Runner};

use super::config::UpdatesConfig;
use super::disk::RealDisk;
use super::files::Files;
use super::journal::{Counter, Journal, JournalError};
use super::machine::{Event, State, Version};

/// A version that the gateway brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its ONNX file, in hexadecimal.
    pub digest: String,
}

/// Where a version's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The gateway brought it along.
    Base,
    /// In this directory, `model.onnx` and `manifest.toml`: it came from the registry, and runs in a child.
    Dir(PathBuf),
}

type StartBase = dyn Fn(&str, Timestamp) -> Result<Model, ModelError> + Send + Sync;
type StartPushed = dyn Fn(&Path, Timestamp) -> Result<Model, ModelError> + Send + Sync;

/// Starts models: the built-in one inside the gateway, all others in a child.
#[derive(Clone)]
pub struct Starter {
    base: Arc<StartBase>,
    pushed: Arc<StartPushed>,
}

impl std::fmt::Debug for Starter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Starter").finish_non_exhaustive()
    }
}

impl Starter {
    /// Pushed models run in a child within the limits of `config`; `base` gives one that the gateway brought along, by its
    /// name and since when it runs.
    pub fn new(
        config: &UpdatesConfig,
        base: impl Fn(&str, Timestamp) -> Result<Model, ModelError> + Send + Sync + 'static,
    ) -> Self {
        let (program, limits) = (config.program(), config.limits());
        Self::with(base, move |dir, since| Runner::start(&program, dir, &limits, since).map(Model::from))
    }

    /// The same where `pushed` starts what lies in a directory.
    pub fn with(
        base: impl Fn(&str, Timestamp) -> Result<Model, ModelError> + Send + Sync + 'static,
        pushed: impl Fn(&Path, Timestamp) -> Result<Model, ModelError> + Send + Sync + 'static,
    ) -> Self {
        Self { base: Arc::new(base), pushed: Arc::new(pushed) }
    }

    /// Starts a model and lets it answer its golden samples, which may take a minute: not for an async task.
    ///
    /// # Errors
    /// When it cannot be read, or does not answer as it should within its limits.
    pub fn start(&self, name: &str, place: &Place, since: Timestamp) -> Result<Model, ModelError> {
        match place {
            Place::Base => (self.base)(name, since),
            Place::Dir(dir) => (self.pushed)(dir, since),
        }
    }
}

/// What is to run for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The model's name.
    pub name: String,
    /// The version.
    pub version: Version,
    /// Where it is.
    pub place: Place,
    /// Since when it is active, in farm time.
    pub since: Timestamp,
    /// How it came to be active.
    pub why: String,
    /// The version to fall back to, and where it is.
    pub previous: Option<(Version, Place)>,
}

impl Journal {
    /// Counts this start, goes back from what did not stay up or is no longer whole on disk, and says what to run for each
    /// model. `now` is farm time.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn startup(&mut self, data_dir: &Path, bases: &[Base], now: Timestamp) -> Result<Vec<Run>, JournalError> {
        let files = Files::new(data_dir, Arc::new(RealDisk));
        let crashes = match self.counter(Counter::Running)? {
            0 => 0,
            _ => self.counter(Counter::Crashes)? + 1,
        };
        match self.keep(&[(Counter::Running, 1), (Counter::Crashes, crashes)]) {
            // A full disk must not keep the gateway from starting; this start is not counted then.
            Err(error) if error.passes() => tracing::warn!(%error, "this start cannot be counted"),
            kept => kept?,
        }
        let base = |name: &str| {
            let base = bases.iter().find(|base| base.name == name)?;
            Some(Version { version: base.version.clone(), digest: base.digest.clone() })
        };
        let mut names: Vec<String> = self.states().keys().cloned().collect();
        names.extend(bases.iter().map(|base| base.name.clone()));
        names.sort();
        names.dedup();
        let crashes = u32::try_from(crashes).unwrap_or(u32::MAX);
        let mut blamed = false;
        for name in &names {
            self.apply(name, Event::Base(base(name)), now)?;
            let before = self.states().get(name).cloned();
            self.apply(name, Event::CrashLoop(crashes), now)?;
            if self.states().get(name) != before.as_ref() {
                tracing::error!(model = name, crashes, "the gateway did not stay up: going back");
                blamed = true;
            }
            self.drop_damaged(&files, name, now)?;
        }
        if blamed {
            self.keep(&[(Counter::Crashes, 0)])?;
        }
        Ok(names.iter().filter_map(|name| self.run(&files, name)).collect())
    }

    /// The version that is active for a model could not be started: notes why, and gives what to run instead; none when
    /// there is nothing else. `now` is farm time.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn could_not_start(
        &mut self,
        data_dir: &Path,
        run: &Run,
        reason: Reason,
        text: String,
        now: Timestamp,
    ) -> Result<Option<Run>, JournalError> {
        let digest = run.version.digest.clone();
        self.apply(&run.name, Event::Failed { digest, reason, text }, now)?;
        let instead = self.run(&Files::new(data_dir, Arc::new(RealDisk)), &run.name);
        Ok(instead.filter(|instead| instead.version != run.version))
    }

    /// Forgets versions whose files are gone or damaged; an active one goes back.
    fn drop_damaged(&mut self, files: &Files, name: &str, now: Timestamp) -> Result<(), JournalError> {
        let whole = |state: &State| {
            let fetching = state.candidate.as_ref().filter(|c| c.phase == proto::update::Phase::Fetching);
            let fetching = fetching.map(super::machine::Candidate::version);
            state
                .needed()
                .filter(|version| fetching.as_ref() != Some(version))
                .find_map(|version| files.damage(name, &version).map(|text| (version, text)))
        };
        while let Some((version, text)) = self.states().get(name).and_then(whole) {
            tracing::error!(model = name, version = version.version, text, "a version is no longer whole on disk");
            self.apply(name, Event::Lost { version, text }, now)?;
        }
        Ok(())
    }

    fn run(&self, files: &Files, name: &str) -> Option<Run> {
        let state = self.states().get(name)?;
        let active = state.active.clone()?;
        Some(Run {
            name: name.to_owned(),
            place: place(files, state, name, &active.version),
            version: active.version,
            since: active.since,
            why: active.why,
            previous: state.previous.clone().map(|previous| {
                let place = place(files, state, name, &previous);
                (previous, place)
            }),
        })
    }
}

/// Where a version of a model is.
pub(super) fn place(files: &Files, state: &State, name: &str, version: &Version) -> Place {
    if state.is_base(version) { Place::Base } else { Place::Dir(files.version(name, version)) }
}
