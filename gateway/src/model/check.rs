//! Everything that speaks for and against a model file, without anything of it being run in this process.

use proto::Manifest;
use proto::assignment::MAX_MODEL_BYTES;
use proto::manifest::ManifestError;

use super::error::ModelError;
use super::graph::MAX_INPUT_VALUES;
use super::limits::RunnerLimits;
use super::loaded::{admit, digest};
use super::process::{Process, RunnerProgram};
use super::report::CheckReport;
use super::runner::load;
use super::worker::Ready;

/// Checks a model file as a gateway with these limits would, in a runner of its own. Without a manifest the golden
/// samples are missing, and what the file itself does not say of its input.
#[must_use]
pub fn check(program: &RunnerProgram, limits: &RunnerLimits, onnx: &[u8], manifest: Option<&str>) -> CheckReport {
    let digest = digest(onnx);
    let mut own: Vec<ModelError> = Vec::new();
    let mut parsed = None;
    if let Some(text) = manifest {
        match Manifest::parse(text) {
            Ok(manifest) => {
                own.extend(admit(onnx, &digest, &manifest));
                parsed = Some((text, manifest));
            }
            Err(ManifestError::Values(wrong)) => {
                own.extend(wrong.iter().map(|wrong| ModelError::from(ManifestError::Toml(wrong.clone()))));
            }
            Err(error) => own.push(error.into()),
        }
    }
    let mut report = CheckReport { ok: true, ..CheckReport::default() };
    let too_large = parsed.as_ref().is_some_and(|(_, manifest)| manifest.input.len() > MAX_INPUT_VALUES);
    if onnx.len() as u64 <= MAX_MODEL_BYTES && !too_large {
        let given = parsed.as_ref().map(|(text, manifest)| (*text, manifest));
        let tested = Process::start(program, limits.memory(given.map(|(_, manifest)| manifest)), limits.cpu_s())
            .and_then(|mut process| load(&mut process, limits, onnx, given, &mut report));
        match tested {
            Ok(Ready { self_test, notes }) => {
                report.self_test = self_test;
                report.warnings.extend(notes);
                if parsed.as_ref().is_some_and(|(_, manifest)| !manifest.takes_missing()) {
                    let words = "no golden sample has a missing value (nan): it will be asked about whole samples only";
                    report.warnings.push(words.to_owned());
                }
            }
            // The problems in the report come back as the reason why it was not run.
            Err(error) if report.as_error().as_ref() == Some(&error) => {}
            Err(error) => report.refuse(error.reason(), error.to_string()),
        }
    }
    report.bytes = onnx.len() as u64;
    report.sha256 = digest;
    report.problems.splice(0..0, own.into_iter().map(Into::into));
    report.ok = report.problems.is_empty();
    report
}
