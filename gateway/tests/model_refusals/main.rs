//! Hostile and hapless model files: each is refused in words, with the right kind of reason, and harms nobody.
#![allow(clippy::unwrap_used)]

mod bombs;
mod checks;
mod files;
mod graphs;
#[path = "../support/onnx.rs"]
mod onnx;

use gateway::model::{ModelError, Runner, RunnerLimits, RunnerProgram};
use onnx::{MEAN, Onnx, manifest};
use proto::update::Reason;
use proto::{Manifest, Timestamp};

const LIMITS: RunnerLimits = RunnerLimits { max_memory_bytes: 256 << 20, max_latency_ms: 1_000, self_test_s: 60 };

fn program() -> RunnerProgram {
    RunnerProgram::at(env!("CARGO_BIN_EXE_gateway"))
}

fn verify(onnx: &[u8], manifest: &Manifest, limits: &RunnerLimits) -> Result<Runner, ModelError> {
    Runner::verify(&program(), onnx, &manifest.to_toml().unwrap(), limits, Timestamp::from_secs(0))
}

/// The refusal of a model whose manifest and golden sample are right.
fn refusal(onnx: &Onnx) -> ModelError {
    let bytes = onnx.bytes();
    let error = verify(&bytes, &manifest("1.0.0", &bytes, &MEAN), &LIMITS).unwrap_err();
    println!("{}: {error}", error.reason());
    assert!(!error.passes());
    error
}

#[track_caller]
fn assert_refused(onnx: &Onnx, reason: Reason, words: &[&str]) {
    let error = refusal(onnx);
    assert_eq!(error.reason(), reason, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is missing: {error}");
    }
}
