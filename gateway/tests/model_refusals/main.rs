//! Hostile and hapless model files: each is refused in words, with the right kind of reason, and harms nobody.
#![allow(clippy::unwrap_used)]

mod bombs;
mod checks;
mod files;
mod graphs;
#[path = "../support/hostile.rs"]
mod hostile;
#[path = "../support/onnx.rs"]
mod onnx;

use gateway::model::{ModelError, Runner, RunnerLimits, RunnerProgram};
use hostile::Case;
use proto::{Manifest, Timestamp};

fn program() -> RunnerProgram {
    RunnerProgram::at(env!("CARGO_BIN_EXE_gateway"))
}

fn verify(onnx: &[u8], manifest: &Manifest, limits: &RunnerLimits) -> Result<Runner, ModelError> {
    Runner::verify(&program(), onnx, &manifest.to_toml().unwrap(), limits, Timestamp::from_secs(0))
}

#[track_caller]
fn assert_refused(case: &Case) {
    let error = verify(&case.onnx, &case.manifest, &case.limits).unwrap_err();
    case.expect(error.reason(), &error.to_string());
    assert!(!error.passes(), "{}: {error}", case.name);
}

#[track_caller]
fn assert_all_refused(cases: &[Case]) {
    cases.iter().for_each(assert_refused);
}
