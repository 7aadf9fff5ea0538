//! A model that runs in a child process, so that whatever it does ends there: it may take too long, too much memory, or
//! crash, and the gateway sees a deadline pass or a socket close, says so, and goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use proto::update::{Reason, SelfTest};
use proto::{Manifest, RunningModel, Timestamp};

use super::error::ModelError;
use super::frame::{self, Kind};
use super::limits::RunnerLimits;
use super::loaded::{admit, digest, label, read_dir, running, shape};
use super::process::{Process, RunnerProgram};
use super::report::CheckReport;
use super::worker::{Order, Ready};

/// A verified model in a process of its own.
#[derive(Debug)]
pub struct Runner {
    manifest: Manifest,
    digest: String,
    since: Timestamp,
    limits: RunnerLimits,
    self_test: SelfTest,
    notes: Vec<String>,
    process: Process,
    failure: Option<ModelError>,
}

impl Runner {
    /// Starts a runner for the model in a directory with `manifest.toml` and `model.onnx`, and waits until it has
    /// passed its self-test: golden samples, time for one sample and for a full batch, memory. Takes as long as
    /// [`RunnerLimits::self_test_s`] at most.
    ///
    /// # Errors
    /// What was expected and what came: of the files, the graph, the golden samples, a limit, or of how the process ended.
    pub fn start(
        program: &RunnerProgram,
        dir: &Path,
        limits: &RunnerLimits,
        since: Timestamp,
    ) -> Result<Self, ModelError> {
        let (onnx, manifest) = read_dir(dir)?;
        Self::verify(program, &onnx, &manifest, limits, since)
    }

    /// The same from a file's bytes and its manifest's text.
    ///
    /// # Errors
    /// As [`Runner::start`].
    pub fn verify(
        program: &RunnerProgram,
        onnx: &[u8],
        manifest: &str,
        limits: &RunnerLimits,
        since: Timestamp,
    ) -> Result<Self, ModelError> {
        let text = manifest;
        let manifest = Manifest::parse(text)?;
        let digest = digest(onnx);
        admit(onnx, &digest, &manifest).into_iter().next().map_or(Ok(()), Err)?;
        let mut process = Process::start(program, limits.memory(Some(&manifest)), limits.cpu_s())?;
        let Ready { self_test, notes } =
            load(&mut process, limits, onnx, Some((text, &manifest)), &mut CheckReport::default())?;
        let missing = || ModelError::new(Reason::Crash, "its runner measured nothing");
        let self_test = self_test.ok_or_else(missing)?;
        Ok(Self { manifest, digest, since, limits: *limits, self_test, notes, process, failure: None })
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

    /// Name and version, as alerts show it: `soil-anomaly 1.1.0`.
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

    /// What the self-test measured.
    #[must_use]
    pub const fn self_test(&self) -> SelfTest {
        self.self_test
    }

    /// What is worth knowing of how it runs, as that its samples are run one by one.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The process that it runs in.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Runs samples that lie row-major in `input`, `[n, steps, features]`, and gives `[n, scores]`. Any n.
    ///
    /// # Errors
    /// When an answer does not come in time, is not a number, or the process ends. The model has then failed for good:
    /// the process is gone, and every later call gives the same error at once.
    pub fn run(&mut self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        let shape = shape(&self.manifest);
        let mut scores = Vec::new();
        for chunk in input.chunks(shape.max_batch() * shape.len()) {
            let samples = chunk.len() / shape.len();
            let patience = self.limits.answer(&self.manifest, samples);
            let answer = self.process.ask(Kind::Run, &frame::to_bytes(chunk), patience).and_then(|frame| {
                let scores = frame::to_values(&frame.bytes);
                let right = frame.kind == Kind::Scores && scores.len() == samples * self.manifest.output.scores.len();
                if right { Ok(scores) } else { Err(unexpected(frame.kind, frame.bytes.len())) }
            });
            match answer {
                Ok(answer) => scores.extend(answer),
                Err(error) => {
                    self.failure = Some(error.clone());
                    self.process.kill();
                    return Err(error);
                }
            }
        }
        Ok(scores)
    }
}

/// Gives a model to a runner and waits until its self-test has passed. What the runner finds out before is put into
/// `report`, also when it then fails.
pub(super) fn load(
    process: &mut Process,
    limits: &RunnerLimits,
    onnx: &[u8],
    manifest: Option<(&str, &Manifest)>,
    report: &mut CheckReport,
) -> Result<Ready, ModelError> {
    let patience = Duration::from_secs(limits.self_test_s);
    let deadline = Instant::now() + patience;
    let memory_bytes = limits.memory(manifest.map(|(_, manifest)| manifest)).value;
    let order = Order { limits: *limits, memory_bytes, with_manifest: manifest.is_some() };
    let order = serde_json::to_vec(&order).map_err(|error| ModelError::of_machine(Reason::Crash, error))?;
    process.send(Kind::Order, &order, deadline, patience)?;
    if let Some((text, _)) = manifest {
        process.send(Kind::Manifest, text.as_bytes(), deadline, patience)?;
    }
    process.send(Kind::Onnx, onnx, deadline, patience)?;
    loop {
        let frame = process.receive(deadline, patience)?;
        let unreadable = |error| ModelError::new(Reason::Crash, format_args!("its runner's answer is none: {error}"));
        match frame.kind {
            Kind::Report => *report = serde_json::from_slice(&frame.bytes).map_err(unreadable)?,
            Kind::Ready => return serde_json::from_slice(&frame.bytes).map_err(unreadable),
            other => return Err(unexpected(other, frame.bytes.len())),
        }
    }
}

fn unexpected(kind: Kind, bytes: usize) -> ModelError {
    ModelError::new(Reason::Crash, format_args!("its runner answered with {kind:?} of {bytes} bytes"))
}
