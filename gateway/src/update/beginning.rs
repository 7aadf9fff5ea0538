//! Where updates meet the rest of the gateway: which models it starts with, the updater's place beside the pipeline, and
//! the mark that an ordered end leaves.

use std::path::{Path, PathBuf};

use proto::update::Reason;
use proto::{Manifest, Timestamp, UpdateStatus};
use tokio::sync::watch;

use super::{Base, Journal, Run, Setting, Starter, Updater};
use crate::config::{CloudConfig, Config};
use crate::detect::slots::Line;
use crate::model::{LoadedModel, Look, Model, ModelError, Runner, folders, look};

/// A model and the version that stands by, as the detector takes them.
pub type WithStandby = (Model, Option<Model>);

/// The models that a gateway starts with.
#[derive(Debug, Default)]
pub struct Started {
    /// Those that run.
    pub models: Vec<WithStandby>,
    /// Those that do not, each with the reason: the gateway goes on without them.
    pub failed: Vec<(String, String)>,
}

impl Started {
    fn lacks(&mut self, model: String, reason: &dyn std::fmt::Display) {
        tracing::error!(model, %reason, "the gateway goes on without a model");
        self.failed.push((model, reason.to_string()));
    }
}

/// A model that the operator laid into a folder. It runs in a process of its own, like one that came over the air.
#[derive(Debug, Clone)]
struct Local {
    dir: PathBuf,
    base: Base,
}

/// What the updater is made of; nothing when the gateway takes no updates.
#[derive(Debug)]
pub struct Updates(Option<(Journal, Starter)>);

/// Starts the models that are to run: those that the gateway brings along (the built-in one, or those of
/// `config.models_dir`), in the versions that updates brought. Blocks: what is not built in is tested as it starts. `now` is
/// farm time.
///
/// # Errors
/// When the built-in model does not work, or the journal of updates cannot be read or written.
pub fn begin(config: &Config, now: Timestamp) -> anyhow::Result<(Started, Updates)> {
    let mut started = Started::default();
    let local = config.models_dir.as_deref().map(|dir| local(dir, &mut started));
    let bases = match &local {
        None => vec![base_of(&LoadedModel::base(now)?)],
        Some(local) => local.iter().map(|local| local.base.clone()).collect(),
    };
    let (program, limits) = (config.updates.program(), config.updates.limits());
    let own = move |name: &str, since| match &local {
        None => LoadedModel::base(since).map(Model::from),
        Some(local) => match local.iter().find(|local| local.base.name == name) {
            Some(local) => Runner::start(&program, &local.dir, &limits, since).map(Model::from),
            None => Err(ModelError::of_machine(Reason::Unavailable, format!("no folder holds a model {name}"))),
        },
    };
    if config.updates.root.is_none() {
        for Base { name, version, .. } in bases {
            match own(&name, now) {
                Ok(model) => started.models.push((model, None)),
                Err(error) => started.lacks(format!("{name} {version}"), &error),
            }
        }
        return Ok((started, Updates(None)));
    }
    let starter = Starter::new(&config.updates, own);
    let mut journal = Journal::open(&config.data_dir)?;
    for run in journal.startup(&config.data_dir, &bases, now)? {
        start(&mut journal, &starter, &config.data_dir, run, now, &mut started)?;
    }
    Ok((started, Updates(Some((journal, starter)))))
}

/// The models of a directory, as their files say. One that cannot be is passed over, and told.
fn local(dir: &Path, started: &mut Started) -> Vec<Local> {
    let mut local: Vec<Local> = Vec::new();
    let folders = folders(dir).unwrap_or_else(|error| {
        started.lacks(format!("models_dir {}", dir.display()), &error);
        Vec::new()
    });
    for dir in folders {
        let shown = dir.display().to_string();
        match look(&dir) {
            Ok(Look { manifest, digest }) if local.iter().all(|other| other.base.name != manifest.name) => {
                local.push(Local { dir, base: Base { name: manifest.name, version: manifest.version, digest } });
            }
            Ok(Look { manifest, .. }) => {
                started.lacks(shown, &format_args!("another folder has a model {}", manifest.name));
            }
            Err(wrong) => {
                let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
                started.lacks(shown, &wrong.join("; "));
            }
        }
    }
    local
}

fn base_of(model: &LoadedModel) -> Base {
    let Manifest { name, version, .. } = model.manifest();
    Base { name: name.clone(), version: version.clone(), digest: model.digest().to_owned() }
}

/// Starts what is to run for one model, or what is to run instead when that does not start.
fn start(
    journal: &mut Journal,
    starter: &Starter,
    data_dir: &Path,
    mut run: Run,
    now: Timestamp,
    started: &mut Started,
) -> anyhow::Result<()> {
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
                started.models.push((model, standby));
                return Ok(());
            }
            // The machine is at fault, and may be well again soon. What stands by judges until the updater has brought the
            // active version back.
            Err(error) if error.passes() => {
                tracing::error!(model = run.name, version = run.version.version, %error, "a model cannot be started now");
                let standby = run.previous.as_ref().map(|(_, place)| starter.start(&run.name, place, now)).transpose();
                match standby.ok().flatten() {
                    Some(model) => started.models.push((model, None)),
                    None => started.lacks(format!("{} {}", run.name, run.version.version), &error),
                }
                return Ok(());
            }
            Err(error) => {
                tracing::error!(model = run.name, version = run.version.version, %error, "a model does not start");
                match journal.could_not_start(data_dir, &run, error.reason(), error.to_string(), now)? {
                    Some(instead) => run = instead,
                    None => {
                        started.lacks(format!("{} {}", run.name, run.version.version), &error);
                        return Ok(());
                    }
                }
            }
        }
    }
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
