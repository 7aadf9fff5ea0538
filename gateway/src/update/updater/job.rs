//! What takes time, each as a future of its own that holds nothing of the updater.

use proto::Assignments;
use proto::assignment::{MAX_ASSIGNMENT_BYTES, assignment_target};
use proto::rollout::rollout_target;
use proto::update::Reason;

use crate::detect::slots::fits;
use crate::model::{Model, ModelError};
use crate::nodes;
use crate::update::fetch::{FetchError, Step, Wanted};
use crate::update::machine::{State, Version};
use crate::update::refused::Refused;
use crate::update::source::{Metadata, Source, Trusted};
use crate::update::startup::place;

use super::{Job, Updater, rollout};

/// What the registry wants here.
pub struct Polled {
    pub metadata: Metadata,
    /// Of the assignments' file.
    pub digest: String,
    pub assignments: Assignments,
    /// What the farm's nodes are to run.
    pub nodes: Option<nodes::Wanted>,
}

/// A job that is done.
pub enum Done {
    /// The registry was read.
    Polled(Trusted, Result<Polled, Refused>),
    /// A slice of a version came.
    Fetched(String, Version, Result<Step, FetchError>),
    /// A version was started: a candidate for its self-test, or the active one for the pipeline.
    Started { name: String, version: Version, candidate: bool, result: Result<Model, ModelError> },
}

impl Updater {
    pub(super) fn poll(&self) -> Job {
        let (source, trusted, known) = (self.source.clone(), self.trusted.clone(), self.assignments.clone());
        let target = assignment_target(&self.setting.farm, &self.setting.gateway);
        let (rollout, known_nodes) = (rollout_target(&self.setting.farm), self.nodes.borrow().clone());
        Box::pin(async move {
            let (trusted, metadata) = source.read(&trusted).await;
            let polled = match metadata {
                Ok(metadata) => {
                    let nodes = rollout::wanted(&source, &metadata, &rollout, known_nodes).await;
                    assigned(&source, metadata, &target, known).await.map(|polled| Polled { nodes, ..polled })
                }
                Err(refused) => Err(refused),
            };
            Done::Polled(trusted, polled)
        })
    }

    pub(super) fn fetch(&self, name: &str, state: &State, version: Version, metadata: &Metadata) -> Job {
        let name = name.to_owned();
        if state.is_base(&version) {
            return Box::pin(async { Done::Fetched(name, version, Ok(Step::Whole(0))) });
        }
        let (fetcher, wanted) = (self.fetcher.clone(), Wanted::find(metadata, &name, &version));
        Box::pin(async move {
            let result = match wanted {
                Ok(wanted) => fetcher.step(&wanted).await,
                Err(refused) => Err(FetchError::Never(refused)),
            };
            Done::Fetched(name, version, result)
        })
    }

    pub(super) fn start(&self, name: &str, state: &State, version: Version, candidate: bool) -> Job {
        let (starter, since, window_s) = (self.starter.clone(), self.now(), self.setting.window_s);
        let (name, place) = (name.to_owned(), place(&self.files, state, name, &version));
        Box::pin(async move {
            let called = name.clone();
            let started = tokio::task::spawn_blocking(move || {
                let model = starter.start(&called, &place, since)?;
                fits(model.manifest(), window_s).map_err(|why| ModelError::new(Reason::Manifest, why))?;
                Ok(model)
            });
            let result = started
                .await
                .unwrap_or_else(|panicked| Err(ModelError::of_machine(Reason::Panic, panicked.to_string())));
            Done::Started { name, version, candidate, result }
        })
    }
}

/// Reads what is assigned; a registry that says nothing of this gateway assigns nothing.
async fn assigned(
    source: &Source,
    metadata: Metadata,
    target: &str,
    known: Option<(String, Assignments)>,
) -> Result<Polled, Refused> {
    let Some(found) = metadata.find(target) else {
        return Ok(Polled { metadata, digest: String::new(), assignments: Assignments::default(), nodes: None });
    };
    let digest = found.sha256.clone();
    if let Some((_, assignments)) = known.filter(|(known, _)| *known == digest) {
        return Ok(Polled { metadata, digest, assignments, nodes: None });
    }
    let body = source.target(&found, MAX_ASSIGNMENT_BYTES).await?;
    let assignments = Assignments::parse(&body)
        .map_err(|wrong| Refused::new(Reason::Assignment, format!("{target}: {}", wrong.join("; "))))?;
    Ok(Polled { metadata, digest, assignments, nodes: None })
}
