//! Where updates meet the rest of the gateway: which models it starts with, the updater's place beside the pipeline, and
//! the mark that an ordered end leaves.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proto::{Timestamp, UpdateStatus};
use tokio::sync::watch;

use super::{Base, Journal, Run, Setting, Starter, Updater};
use crate::config::{CloudConfig, Config};
use crate::detect::slots::Line;
use crate::model::{LoadedModel, Model, ModelError, folders};

/// A model and the version that stands by, as the detector takes them.
pub type WithStandby = (Model, Option<Model>);

/// What the updater is made of; nothing when the gateway takes no updates.
#[derive(Debug)]
pub struct Updates(Option<(Journal, Starter)>);

/// Starts the models that are to run: those that the gateway brings along (the built-in one, or those of
/// `config.models_dir`), in the versions that updates brought. Blocks: a version that came over the air is tested as it
/// starts. `now` is farm time.
///
/// # Errors
/// When a model that the gateway brings along does not work, or the journal of updates cannot be read or written.
pub fn begin(config: &Config, now: Timestamp) -> anyhow::Result<(Vec<WithStandby>, Updates)> {
    let folders = |dir: &Path| folders(dir).with_context(|| format!("cannot read models_dir {}", dir.display()));
    let folders = config.models_dir.as_deref().map(folders).transpose()?;
    let own = match &folders {
        None => vec![LoadedModel::base(now)?],
        Some(folders) => folders
            .iter()
            .map(|dir| LoadedModel::load(dir, now).with_context(|| format!("model {}", dir.display())))
            .collect::<anyhow::Result<_>>()?,
    };
    if config.updates.root.is_none() {
        return Ok((own.into_iter().map(|model| (model.into(), None)).collect(), Updates(None)));
    }
    let base = |model: &LoadedModel| Base {
        name: model.manifest().name.clone(),
        version: model.manifest().version.clone(),
        digest: model.digest().to_owned(),
    };
    let bases: Vec<Base> = own.iter().map(base).collect();
    drop(own);
    let starter = Starter::new(&config.updates, move |name, since| from_own(folders.as_deref(), name, since));
    let mut journal = Journal::open(&config.data_dir)?;
    let mut models = Vec::new();
    for run in journal.startup(&config.data_dir, &bases, now)? {
        models.extend(start(&mut journal, &starter, &config.data_dir, run, now)?);
    }
    Ok((models, Updates(Some((journal, starter)))))
}

/// Starts what is to run for one model, or what is to run instead when that does not start.
fn start(
    journal: &mut Journal,
    starter: &Starter,
    data_dir: &Path,
    mut run: Run,
    now: Timestamp,
) -> anyhow::Result<Option<WithStandby>> {
    loop {
        match starter.start(&run.name, &run.place, run.since) {
            Ok(model) => {
                let standby = run.previous.as_ref().and_then(|(version, place)| {
                    starter
                        .start(&run.name, place, now)
                        .inspect_err(|error| {
                            tracing::warn!(model = run.name, version.version, %error, "the version before does not start");
                        })
                        .ok()
                });
                return Ok(Some((model, standby)));
            }
            // The machine is at fault, and may be well again soon. What stands by judges until the updater has brought the
            // active version back.
            Err(error) if error.passes() => {
                tracing::error!(model = run.name, version = run.version.version, %error, "a model cannot be started now");
                let standby = run.previous.as_ref().map(|(_, place)| starter.start(&run.name, place, now)).transpose();
                return Ok(standby.ok().flatten().map(|model| (model, None)));
            }
            Err(error) => {
                tracing::error!(model = run.name, version = run.version.version, %error, "a model does not start");
                match journal.could_not_start(data_dir, &run, error.reason(), error.to_string(), now)? {
                    Some(instead) => run = instead,
                    None => return Ok(None),
                }
            }
        }
    }
}

/// A model that the gateway brings along, by its name.
fn from_own(folders: Option<&[PathBuf]>, name: &str, since: Timestamp) -> Result<Model, ModelError> {
    let Some(folders) = folders else { return LoadedModel::base(since).map(Model::from) };
    for folder in folders {
        let model = LoadedModel::load(folder, since)?;
        if model.manifest().name == name {
            return Ok(model.into());
        }
    }
    Err(ModelError::of_machine(proto::update::Reason::Unavailable, format!("no folder holds a model {name}")))
}

impl Updates {
    /// The updater's task, its line to the pipeline, and where it tells how it stands; nothing when the gateway takes no
    /// updates.
    ///
    /// # Errors
    /// When the pinned root cannot be read.
    pub fn attach(self, config: &Config) -> anyhow::Result<Option<(Line, Updater, watch::Receiver<UpdateStatus>)>> {
        let (Some((journal, starter)), Some(cloud)) = (self.0, &config.cloud) else { return Ok(None) };
        let (line, orders, reports) = Line::new();
        let cloud = CloudConfig { url: cloud.url.clone(), token: cloud.token.clone() };
        let setting = Setting::new(
            (config.farm.clone(), config.gateway.clone()),
            config.time,
            cloud,
            config.updates.clone(),
            config.windows.length_s,
            config.data_dir.clone(),
        );
        let (updater, status) = Updater::new(setting, journal, starter, orders, reports)?;
        Ok(Some((line, updater, status)))
    }
}

/// Notes that the gateway ended in order: the next start is not one after a crash.
///
/// # Errors
/// When the journal of updates cannot be written, and not because the disk is full.
pub fn ended_well(config: &Config) -> anyhow::Result<()> {
    if config.updates.root.is_some() {
        match Journal::open(&config.data_dir).and_then(|mut journal| journal.clean_shutdown()) {
            Err(error) if error.passes() => tracing::warn!(%error, "the end in order cannot be noted"),
            noted => noted?,
        }
    }
    Ok(())
}
