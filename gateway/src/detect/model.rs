//! A model on the gateway: loaded, verified, and run with tract.
//!
//! What a model file says is not trusted: its size, digest and golden samples are checked before it judges anything, data
//! outside the file is refused, and neither a panic in the runtime nor a NaN in its output reaches the pipeline.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::manifest::ManifestError;
use proto::{Manifest, RunningModel, Timestamp};
use sha2::{Digest, Sha256};
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};
use tract_onnx::prelude::{
    Datum, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, IntoTValue, Tensor,
    TypedRunnableModel, tvec,
};

/// Largest model file that is read, whatever its manifest allows: a gateway is a small computer.
pub const MAX_MODEL_BYTES: u64 = 16 << 20;

/// Largest manifest that is read; golden samples of a day of quarter hours fit many times.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// Most samples in one run. A larger batch gains nothing and costs memory; more stations are run in several.
pub const MAX_BATCH: usize = 256;

/// Largest input of one sample, in values, so that a full batch stays under 64 MiB.
const MAX_INPUT_VALUES: usize = 1 << 16;

const BASE_ONNX: &[u8] = include_bytes!("../../models/soil-anomaly-1.0.0/model.onnx");
const BASE_MANIFEST: &str = include_str!("../../models/soil-anomaly-1.0.0/manifest.toml");

/// Why a model is not run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than is allowed.
    #[error("{what} has {bytes} bytes, more than the {limit} that are allowed")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The manifest is not one.
    #[error("manifest.toml: {0}")]
    Manifest(#[from] ManifestError),
    /// The manifest is not text.
    #[error("manifest.toml: {0}")]
    Text(#[from] std::string::FromUtf8Error),
    /// The file is not the one that the manifest describes.
    #[error("model {model}: the file's sha256 is {found}, the manifest's {expected}")]
    Digest {
        /// Name and version.
        model: String,
        /// What the manifest says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The model wants data from another file.
    #[error("model {model}: tensor {tensor:?} refers to external data, which is refused")]
    ExternalData {
        /// Name and version.
        model: String,
        /// The tensor.
        tensor: String,
    },
    /// The runtime does not accept the graph, or panics over it.
    #[error("model {model}: {reason}")]
    Runtime {
        /// Name and version.
        model: String,
        /// What the runtime said.
        reason: String,
    },
    /// A golden sample comes out differently.
    #[error(
        "model {model}: golden sample {sample}, output {output} is {found}, expected {expected} within {tolerance}"
    )]
    Golden {
        /// Name and version.
        model: String,
        /// Which sample, from 0.
        sample: usize,
        /// Which output, from 0.
        output: usize,
        /// What the model gives.
        found: f64,
        /// What the manifest says.
        expected: f64,
        /// The manifest's tolerance.
        tolerance: f64,
    },
}

/// A verified model that can be run.
pub struct LoadedModel {
    manifest: Manifest,
    since: Timestamp,
    digest: String,
    graph: InferenceModel,
    /// By batch size, a power of two up to [`MAX_BATCH`]: tract optimises for a known size, and not every graph runs with
    /// an unknown one.
    plans: BTreeMap<usize, Arc<TypedRunnableModel>>,
    failure: Option<String>,
}

impl fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel")
            .field("model", &self.label())
            .field("digest", &self.digest)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl LoadedModel {
    /// The model that this binary brings along, running since `since`.
    ///
    /// # Errors
    /// When the embedded file does not stand its own verification.
    pub fn base(since: Timestamp) -> Result<Self, ModelError> {
        Self::verify(BASE_ONNX, BASE_MANIFEST, since)
    }

    /// The model in a directory with `manifest.toml` and `model.onnx`, running since `since`.
    ///
    /// # Errors
    /// Names the file, or the check that failed: size, digest, external data, graph, golden sample.
    pub fn load(dir: &Path, since: Timestamp) -> Result<Self, ModelError> {
        let manifest = read(&dir.join("manifest.toml"), "manifest.toml", MAX_MANIFEST_BYTES)?;
        let manifest = String::from_utf8(manifest)?;
        let onnx = read(&dir.join("model.onnx"), "model.onnx", MAX_MODEL_BYTES)?;
        Self::verify(&onnx, &manifest, since)
    }

    /// A model from its file's bytes and its manifest's text, verified.
    ///
    /// # Errors
    /// As [`LoadedModel::load`].
    pub fn verify(onnx: &[u8], manifest: &str, since: Timestamp) -> Result<Self, ModelError> {
        let manifest = Manifest::parse(manifest)?;
        let model = format!("{} {}", manifest.name, manifest.version);
        let limit = manifest.limits.max_bytes.min(MAX_MODEL_BYTES);
        if onnx.len() as u64 > limit {
            return Err(ModelError::TooLarge { what: "model.onnx", bytes: onnx.len() as u64, limit });
        }
        let digest = hex(&Sha256::digest(onnx));
        if digest != manifest.sha256 {
            return Err(ModelError::Digest { model, expected: manifest.sha256, found: digest });
        }
        if manifest.input.len() > MAX_INPUT_VALUES {
            let reason = format!(
                "an input of {} values is more than the {MAX_INPUT_VALUES} that are allowed",
                manifest.input.len()
            );
            return Err(ModelError::Runtime { model, reason });
        }
        let graph = contained(&model, || parse(&model, onnx))?;
        let mut loaded = Self { manifest, since, digest, graph, plans: BTreeMap::new(), failure: None };
        loaded.check_golden()?;
        Ok(loaded)
    }

    /// What the model needs and gives.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Name and version, as alerts show it: `soil-anomaly 1.0.0`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.manifest.name, self.manifest.version)
    }

    /// Why the model no longer runs; none while it does.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The model as the gateway reports it.
    #[must_use]
    pub fn running(&self) -> RunningModel {
        RunningModel {
            name: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            task: self.manifest.task.name().to_owned(),
            since: self.since,
            digest: self.digest.clone(),
        }
    }

    /// How many values one sample has: steps times features.
    #[must_use]
    pub fn sample_len(&self) -> usize {
        self.manifest.input.len()
    }

    /// Runs samples that lie row-major in `input`, `[n, steps, features]`, and gives `[n, scores]`. Any n.
    ///
    /// # Errors
    /// When the runtime fails or panics, or an output is not a number. The model is then failed and not run again by the
    /// detector.
    pub fn run(&mut self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let result = self.run_chunks(input);
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.to_string());
        }
        result
    }

    fn run_chunks(&mut self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let sample = self.sample_len();
        let width = self.manifest.output.scores.len();
        let mut scores = Vec::with_capacity(input.len() / sample * width);
        for chunk in input.chunks(MAX_BATCH * sample) {
            let samples = chunk.len() / sample;
            let size = samples.next_power_of_two();
            let mut padded = chunk.to_vec();
            padded.resize(size * sample, f32::NAN);
            let output = self.run_batch(size, &padded)?;
            if output.len() != size * width {
                return Err(self.error(format!(
                    "gives {} values for a batch of {size}, expected {}",
                    output.len(),
                    size * width
                )));
            }
            scores.extend_from_slice(&output[..samples * width]);
        }
        match scores.iter().position(|s| !s.is_finite()) {
            Some(index) => {
                Err(self.error(format!("output {} of sample {} is {}", index % width, index / width, scores[index])))
            }
            None => Ok(scores),
        }
    }

    fn run_batch(&mut self, size: usize, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let label = self.label();
        let shape = [size, self.manifest.input.steps as usize, self.manifest.input.features.len()];
        let plan = match self.plans.get(&size) {
            Some(plan) => Arc::clone(plan),
            None => {
                let plan = contained(&label, || plan(self.graph.clone(), shape).map_err(|e| runtime(&label, &e)))?;
                self.plans.insert(size, Arc::clone(&plan));
                plan
            }
        };
        contained(&label, || {
            let input = Tensor::from_shape(&shape, input).map_err(|e| runtime(&label, &e))?;
            let outputs = plan.run(tvec!(input.into_tvalue())).map_err(|e| runtime(&label, &e))?;
            let output = outputs.first().ok_or_else(|| runtime(&label, &"gives no output"))?;
            let output = output.try_as_plain_ram().and_then(|o| o.as_slice::<f32>().map(<[f32]>::to_vec));
            output.map_err(|e| runtime(&label, &e))
        })
    }

    /// Every golden sample, alone and all together in one batch: both must give what the trainer saw.
    fn check_golden(&mut self) -> Result<(), ModelError> {
        let golden = self.manifest.golden.clone();
        let sample = self.sample_len();
        let width = self.manifest.output.scores.len();
        let mut all = Vec::with_capacity(golden.len() * sample);
        for (index, golden) in golden.iter().enumerate() {
            let start = all.len();
            all.extend(golden.input.iter().map(|v| *v as f32));
            let scores = self.run_chunks(&all[start..])?;
            self.compare(index, &golden.output, &scores)?;
        }
        let scores = self.run_chunks(&all)?;
        golden
            .iter()
            .zip(scores.chunks(width))
            .enumerate()
            .try_for_each(|(index, (golden, scores))| self.compare(index, &golden.output, scores))
    }

    fn compare(&self, sample: usize, expected: &[f64], found: &[f32]) -> Result<(), ModelError> {
        let tolerance = self.manifest.tolerance;
        for (output, (expected, found)) in expected.iter().zip(found).enumerate() {
            let found = f64::from(*found);
            // A NaN on either side is outside of every range.
            if !(-tolerance..=tolerance).contains(&(found - expected)) {
                return Err(ModelError::Golden {
                    model: self.label(),
                    sample,
                    output,
                    found,
                    expected: *expected,
                    tolerance,
                });
            }
        }
        Ok(())
    }

    fn error(&self, reason: String) -> ModelError {
        ModelError::Runtime { model: self.label(), reason }
    }
}

fn read(path: &Path, what: &'static str, limit: u64) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > limit {
        return Err(ModelError::TooLarge { what, bytes, limit });
    }
    std::fs::read(path).map_err(failed)
}

fn parse(model: &str, onnx: &[u8]) -> Result<InferenceModel, ModelError> {
    let framework = tract_onnx::onnx();
    let proto = framework.proto_model_for_read(&mut &*onnx).map_err(|e| runtime(model, &e))?;
    if let Some(tensor) = external(&proto) {
        return Err(ModelError::ExternalData { model: model.to_owned(), tensor });
    }
    framework.model_for_proto_model(&proto).map_err(|e| runtime(model, &e))
}

fn plan(graph: InferenceModel, shape: [usize; 3]) -> tract_onnx::prelude::TractResult<Arc<TypedRunnableModel>> {
    graph.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?.into_optimized()?.into_runnable()
}

/// The first tensor that lies outside the file.
fn external(model: &ModelProto) -> Option<String> {
    fn in_tensor(tensor: &TensorProto) -> Option<String> {
        let outside = !tensor.external_data.is_empty() || tensor.data_location.is_some_and(|l| l != 0);
        outside.then(|| tensor.name.clone())
    }
    fn in_graph(graph: &GraphProto) -> Option<String> {
        let attributes = || graph.node.iter().flat_map(|n| &n.attribute);
        let tensors = graph.initializer.iter().chain(attributes().flat_map(|a| a.t.iter().chain(&a.tensors)));
        tensors
            .into_iter()
            .find_map(in_tensor)
            .or_else(|| attributes().flat_map(|a| a.g.iter().chain(&a.graphs)).find_map(in_graph))
    }
    model.graph.as_ref().and_then(in_graph)
}

/// Runs `work` so that a panic in the runtime becomes an error.
fn contained<T>(model: &str, work: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = format!("the runtime panicked: {}", panic_text(panic.as_ref()));
        Err(ModelError::Runtime { model: model.to_owned(), reason })
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

fn runtime(model: &str, reason: &dyn fmt::Display) -> ModelError {
    // The alternate form of an error in a chain shows all its causes.
    ModelError::Runtime { model: model.to_owned(), reason: format!("{reason:#}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}
