//! Models on the gateway: read, verified, and run with tract.
//!
//! What a model file says is not trusted. Size, digest, structure and golden samples are checked before it judges anything,
//! and data outside the file is refused. The model that the gateway brings along runs inside it ([`LoadedModel`]). What
//! comes from elsewhere runs in a child process with limits ([`Runner`]): whether it hangs, wants all the memory or brings
//! the runtime down, the gateway gets a [`ModelError`] with the reason in words, and goes on.
//!
//! A model is asked, and that is all: this module knows nothing of windows, alerts, or where models come from.

mod check;
mod confine;
mod error;
mod frame;
mod graph;
mod limits;
mod loaded;
mod process;
mod report;
mod runner;
mod self_test;
pub(crate) mod structure;
mod sum;
mod widen;
mod wiring;
pub mod worker;

use proto::update::SelfTest;
use proto::{Manifest, RunningModel};

pub use check::check;
pub use error::ModelError;
pub use limits::RunnerLimits;
pub use loaded::{LoadedModel, Look, folders, look};
pub use process::RunnerProgram;
pub use report::{CheckReport, Problem, TensorInfo};
pub use runner::Runner;

/// A model, wherever it runs.
#[derive(Debug)]
pub enum Model {
    /// In this process.
    Inside(Box<LoadedModel>),
    /// In a process of its own.
    Child(Box<Runner>),
}

impl From<LoadedModel> for Model {
    fn from(model: LoadedModel) -> Self {
        Self::Inside(Box::new(model))
    }
}

impl From<Runner> for Model {
    fn from(model: Runner) -> Self {
        Self::Child(Box::new(model))
    }
}

impl Model {
    /// What the model needs and gives.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Inside(model) => model.manifest(),
            Self::Child(model) => model.manifest(),
        }
    }

    /// SHA-256 of the ONNX file, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        match self {
            Self::Inside(model) => model.digest(),
            Self::Child(model) => model.digest(),
        }
    }

    /// Name and version, as alerts show it: `soil-anomaly 1.0.0`.
    #[must_use]
    pub fn label(&self) -> String {
        loaded::label(self.manifest())
    }

    /// Why the model no longer runs; none while it does.
    #[must_use]
    pub fn failure(&self) -> Option<&ModelError> {
        match self {
            Self::Inside(model) => model.failure(),
            Self::Child(model) => model.failure(),
        }
    }

    /// The model as the gateway reports it.
    #[must_use]
    pub fn running(&self) -> RunningModel {
        match self {
            Self::Inside(model) => model.running(),
            Self::Child(model) => model.running(),
        }
    }

    /// How many values one sample has: steps times features.
    #[must_use]
    pub fn sample_len(&self) -> usize {
        self.manifest().input.len()
    }

    /// How many samples one run takes at most; more are several runs.
    #[must_use]
    pub fn max_batch(&self) -> usize {
        loaded::shape(self.manifest()).max_batch()
    }

    /// What its self-test measured; none for one that runs in this process.
    #[must_use]
    pub fn self_test(&self) -> Option<SelfTest> {
        match self {
            Self::Inside(_) => None,
            Self::Child(model) => Some(model.self_test()),
        }
    }

    /// Runs samples that lie row-major in `input`, `[n, steps, features]`, and gives `[n, scores]`. Any n.
    ///
    /// # Errors
    /// When the runtime fails, an output is not a number, or the process does not answer or ends. The model has then
    /// failed; [`Model::failure`] says why.
    pub fn run(&mut self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        match self {
            Self::Inside(model) => model.run(input),
            Self::Child(model) => model.run(input),
        }
    }
}
