//! A model that runs inside the gateway's own process: the one that the gateway brings along. What its operator laid into a
//! folder, and what comes from the registry, runs in a [`Runner`](super::Runner).

use std::io;
use std::path::{Path, PathBuf};

use proto::assignment::{MAX_MANIFEST_BYTES, MAX_MODEL_BYTES};
use proto::manifest::Golden;
use proto::update::Reason;
use proto::{Manifest, RunningModel, Timestamp};
use sha2::{Digest as _, Sha256};

use super::error::{ModelError, grouped};
use super::graph::{Graph, MAX_INPUT_VALUES, Shape};
use super::structure;

const BASE_ONNX: &[u8] = include_bytes!("../../models/soil-anomaly-1.0.0/model.onnx");
const BASE_MANIFEST: &str = include_str!("../../models/soil-anomaly-1.0.0/manifest.toml");

/// Fewest samples in the batch of golden samples; with fewer of them they are repeated.
const GOLDEN_BATCH: usize = 4;

/// A verified model that can be run.
#[derive(Debug)]
pub struct LoadedModel {
    manifest: Manifest,
    since: Timestamp,
    digest: String,
    graph: Graph,
    failure: Option<ModelError>,
}

impl LoadedModel {
    /// The model that this binary brings along, running since `since`.
    ///
    /// # Errors
    /// When the embedded file does not stand its own verification.
    pub fn base(since: Timestamp) -> Result<Self, ModelError> {
        Self::verify(BASE_ONNX, BASE_MANIFEST, since)
    }

    /// The files of that model: ONNX, and the manifest's text.
    #[must_use]
    pub const fn base_files() -> (&'static [u8], &'static str) {
        (BASE_ONNX, BASE_MANIFEST)
    }

    /// The model in a directory with `manifest.toml` and `model.onnx`, running since `since`.
    ///
    /// # Errors
    /// Names the file, or the check that failed: size, digest, external data, graph, golden sample.
    pub fn load(dir: &Path, since: Timestamp) -> Result<Self, ModelError> {
        let (onnx, manifest) = read_dir(dir)?;
        Self::verify(&onnx, &manifest, since)
    }

    /// A model from its file's bytes and its manifest's text, verified.
    ///
    /// # Errors
    /// As [`LoadedModel::load`].
    pub fn verify(onnx: &[u8], manifest: &str, since: Timestamp) -> Result<Self, ModelError> {
        let manifest = Manifest::parse(manifest)?;
        let digest = digest(onnx);
        admit(onnx, &digest, &manifest).into_iter().next().map_or(Ok(()), Err)?;
        let proto = structure::read(onnx)?;
        let report = structure::inspect(&proto, Some(&manifest));
        report.as_error().map_or(Ok(()), Err)?;
        let output = structure::chosen_output(&report.outputs).unwrap_or_default();
        let mut graph = Graph::new(&proto, output, shape(&manifest), None)?;
        check_golden(&mut graph, &manifest)?;
        Ok(Self { manifest, since, digest, graph, failure: None })
    }

    /// What the model needs and gives.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the ONNX file, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Name and version, as alerts show it: `soil-anomaly 1.0.0`.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.manifest)
    }

    /// Why the model no longer runs; none while it does.
    #[must_use]
    pub const fn failure(&self) -> Option<&ModelError> {
        self.failure.as_ref()
    }

    /// The model as the gateway reports it.
    #[must_use]
    pub fn running(&self) -> RunningModel {
        running(&self.manifest, &self.digest, self.since)
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
        let result = self.graph.run(input);
        if let Err(error) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }
}

/// The folders of a directory, by name: each is for a model.
///
/// # Errors
/// When the directory cannot be read.
pub fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut folders: Vec<PathBuf> = paths.into_iter().filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// What a model's files say it is.
#[derive(Debug, Clone)]
pub struct Look {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of its ONNX file, in hexadecimal.
    pub digest: String,
}

/// Looks at the model in a directory without running it.
///
/// # Errors
/// All that speaks against it, as far as that is seen so.
pub fn look(dir: &Path) -> Result<Look, Vec<ModelError>> {
    let (onnx, manifest) = read_dir(dir).map_err(|error| vec![error])?;
    let manifest = Manifest::parse(&manifest).map_err(|error| vec![error.into()])?;
    let digest = digest(&onnx);
    let mut wrong = admit(&onnx, &digest, &manifest);
    if wrong.is_empty() {
        let inspected = structure::read(&onnx).map(|proto| structure::inspect(&proto, Some(&manifest)).as_error());
        wrong.extend(inspected.unwrap_or_else(Some));
    }
    if wrong.is_empty() { Ok(Look { manifest, digest }) } else { Err(wrong) }
}

/// Both files of a model's directory.
pub(super) fn read_dir(dir: &Path) -> Result<(Vec<u8>, String), ModelError> {
    let manifest = read(&dir.join("manifest.toml"), MAX_MANIFEST_BYTES)?;
    let manifest = String::from_utf8(manifest)
        .map_err(|error| ModelError::new(Reason::Manifest, format_args!("manifest.toml is no text: {error}")))?;
    Ok((read(&dir.join("model.onnx"), MAX_MODEL_BYTES)?, manifest))
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let failed =
        |error| ModelError::of_machine(Reason::Unavailable, format_args!("cannot read {}: {error}", path.display()));
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > limit {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(too_large(&name, bytes, limit, "any model may have"));
    }
    std::fs::read(path).map_err(failed)
}

fn too_large(name: &str, bytes: u64, limit: u64, of: &str) -> ModelError {
    let (bytes, limit) = (grouped(bytes), grouped(limit));
    ModelError::new(Reason::TooLarge, format_args!("{name} has {bytes} bytes, more than the {limit} that {of}"))
}

/// What speaks against a file by its bytes alone: size and digest.
pub(super) fn admit(onnx: &[u8], digest: &str, manifest: &Manifest) -> Vec<ModelError> {
    let mut wrong = Vec::new();
    let bytes = onnx.len() as u64;
    if bytes > MAX_MODEL_BYTES {
        wrong.push(too_large("model.onnx", bytes, MAX_MODEL_BYTES, "any model may have"));
    } else if bytes > manifest.limits.max_bytes {
        wrong.push(too_large("model.onnx", bytes, manifest.limits.max_bytes, "its manifest allows"));
    }
    if digest != manifest.sha256 {
        let text = format!("the sha256 of model.onnx is {digest}, its manifest says {}", manifest.sha256);
        wrong.push(ModelError::new(Reason::Digest, text));
    }
    let values = manifest.input.len();
    if values > MAX_INPUT_VALUES {
        let text = format!(
            "a sample of {} values (steps times features) is more than the {} that are allowed",
            grouped(values),
            grouped(MAX_INPUT_VALUES)
        );
        wrong.push(ModelError::new(Reason::Manifest, text));
    }
    wrong
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) fn label(manifest: &Manifest) -> String {
    format!("{} {}", manifest.name, manifest.version)
}

pub(super) fn running(manifest: &Manifest, digest: &str, since: Timestamp) -> RunningModel {
    RunningModel {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        task: manifest.task.name().to_owned(),
        since,
        digest: digest.to_owned(),
    }
}

/// The shape that a manifest tells.
pub(super) fn shape(manifest: &Manifest) -> Shape {
    Shape {
        steps: manifest.input.steps as usize,
        features: manifest.input.features.len(),
        scores: Some(manifest.output.scores.len()),
    }
}

/// Every golden sample alone must give what the trainer saw. All together in one batch must too, or the graph is from now
/// on run sample by sample: then the reason is given.
pub(super) fn check_golden(graph: &mut Graph, manifest: &Manifest) -> Result<Option<String>, ModelError> {
    for (index, golden) in manifest.golden.iter().enumerate() {
        let input: Vec<f32> = golden.input.iter().map(|value| *value as f32).collect();
        compare(manifest, index, golden, &graph.run(&input)?)?;
    }
    let count = manifest.golden.len().max(GOLDEN_BATCH).min(shape(manifest).max_batch());
    match check_batch(graph, manifest, count) {
        Ok(()) => Ok(None),
        Err(error) => {
            graph.run_one_by_one();
            Ok(Some(format!("its samples are run one by one, because a batch of {count} does not work: {error}")))
        }
    }
}

/// Golden samples, repeated to a batch of `count`, must give what the trainer saw.
pub(super) fn check_batch(graph: &mut Graph, manifest: &Manifest, count: usize) -> Result<(), ModelError> {
    let golden = || manifest.golden.iter().enumerate().cycle().take(count);
    let input: Vec<f32> = golden().flat_map(|(_, golden)| &golden.input).map(|value| *value as f32).collect();
    let scores = graph.run(&input)?;
    golden()
        .zip(scores.chunks(manifest.output.scores.len()))
        .try_for_each(|((index, golden), scores)| compare(manifest, index, golden, scores))
}

fn compare(manifest: &Manifest, sample: usize, golden: &Golden, found: &[f32]) -> Result<(), ModelError> {
    let tolerance = manifest.tolerance;
    for (output, (expected, found)) in golden.output.iter().zip(found).enumerate() {
        let found = f64::from(*found);
        // A NaN on either side is outside of every range.
        if !(-tolerance..=tolerance).contains(&(found - expected)) {
            let channel = manifest.output.scores.get(output).map_or_else(String::new, ToString::to_string);
            let text = format!(
                "gives {found:.6} for {channel} of golden sample {sample}, expected {expected:.6} within {tolerance}"
            );
            return Err(ModelError::new(Reason::Golden, text));
        }
    }
    Ok(())
}
