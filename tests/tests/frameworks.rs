//! What PyTorch, Keras and scikit-learn export runs on the gateway with the answers that the framework gave, or is refused
//! in words from which somebody who exports models knows what to do.
//!
//! The frameworks are the real ones. Their environments are made where they are missing: `tests/.venv-frameworks`, and for
//! PyTorch Debian's package.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use gateway::model::{CheckReport, Runner, RunnerLimits, RunnerProgram, check};
use proto::Timestamp;

/// What is to become of an exported model.
enum Fate {
    /// It runs, whole batches at a time.
    Runs,
    /// It runs, one sample at a time.
    RunsOneByOne,
    /// It is refused, with these words in what is said.
    Refused(&'static [&'static str]),
}
use Fate::{Refused, Runs, RunsOneByOne};

fn python_dir() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/python"))
}

/// A Python with Keras and scikit-learn.
fn frameworks() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Command::new(python_dir().join("venv")).arg("frameworks").status().unwrap();
        assert!(made.success(), "tests/python/venv could not make the environment of the frameworks");
    });
    python_dir().join("../.venv-frameworks/bin/python")
}

/// Debian's Python with PyTorch.
fn pytorch() -> PathBuf {
    let made = Command::new(tests::project().join("deploy/prerequisites")).arg("pytorch").status().unwrap();
    assert!(made.success(), "deploy/prerequisites could not install PyTorch");
    PathBuf::from("/usr/bin/python3")
}

/// Lets a framework export its models, and looks what the gateway makes of each.
fn exported(python: &Path, script: &str, expected: &[(&str, Fate)]) {
    let folder = tempfile::tempdir().unwrap();
    let exporter = Command::new(python).arg(python_dir().join(script)).arg(folder.path()).output().unwrap();
    assert!(exporter.status.success(), "{script}: {}", String::from_utf8_lossy(&exporter.stderr));
    let mut made: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    made.sort();
    let mut names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(made, names);
    for (name, fate) in expected {
        let dir = folder.path().join(name);
        let report = report(&dir);
        println!("{script} {name}: {}", told(&report));
        match fate {
            Runs => {
                assert!(report.ok && report.self_test.is_some(), "{name}: {:?}", report.problems);
                runs_with_the_frameworks_answers(&dir);
            }
            RunsOneByOne => {
                assert!(report.ok, "{name}: {:?}", report.problems);
                let one_by_one = |warning: &String| warning.starts_with("its samples are run one by one");
                assert!(report.warnings.iter().any(one_by_one), "{name}: {:?}", report.warnings);
                runs_with_the_frameworks_answers(&dir);
            }
            Refused(words) => {
                assert!(!report.ok, "{name} runs");
                let said: Vec<&str> = report.problems.iter().map(|problem| problem.text.as_str()).collect();
                for word in *words {
                    assert!(said.iter().any(|text| text.contains(word)), "{name}: {word:?} is not in {said:?}");
                }
            }
        }
    }
}

fn program() -> RunnerProgram {
    RunnerProgram::at(tests::tilth())
}

fn report(dir: &Path) -> CheckReport {
    let onnx = std::fs::read(dir.join("model.onnx")).unwrap();
    let manifest = std::fs::read_to_string(dir.join("manifest.toml")).unwrap();
    check(&program(), &RunnerLimits::default(), &onnx, Some(&manifest))
}

fn told(report: &CheckReport) -> String {
    let problems: Vec<&str> = report.problems.iter().map(|problem| problem.text.as_str()).collect();
    match report.self_test {
        Some(measured) => format!("{measured:?} {:?}", report.warnings),
        None => problems.join("; "),
    }
}

/// Every golden sample in one batch, and a batch larger than one run takes.
fn runs_with_the_frameworks_answers(dir: &Path) {
    let mut runner = Runner::start(&program(), dir, &RunnerLimits::default(), Timestamp::from_secs(0)).unwrap();
    let (golden, tolerance) = (runner.manifest().golden.clone(), runner.manifest().tolerance);
    assert!(golden.len() > 1);
    let batch: Vec<_> = golden.iter().cycle().take(300).collect();
    let input: Vec<f32> = batch.iter().flat_map(|golden| &golden.input).map(|value| *value as f32).collect();
    let scores = runner.run(&input).unwrap();
    let answers: Vec<f64> = batch.iter().flat_map(|golden| golden.output.clone()).collect();
    assert_eq!(scores.len(), answers.len());
    let worst =
        scores.iter().zip(&answers).map(|(found, answer)| (f64::from(*found) - answer).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{}: {worst}", dir.display());
}

#[test]
fn pytorch_exports_run() {
    let expected = [
        ("dense", Runs),
        ("conv", Runs),
        ("gru", Runs),
        ("lstm", Runs),
        ("lstm-fixed", Runs),
        ("dense-fixed", RunsOneByOne),
    ];
    exported(&pytorch(), "export_pytorch.py", &expected);
}

#[test]
fn keras_exports_run_and_a_gru_wants_its_steps_unrolled() {
    let expected = [
        ("dense", Runs),
        ("conv", Runs),
        ("gru", Refused(&["operator Loop of domain ai.onnx is not supported"])),
        ("gru-unrolled", Runs),
        ("lstm", Runs),
    ];
    exported(&frameworks(), "export_keras.py", &expected);
}

#[test]
fn scikit_learn_exports_run_where_their_operators_are_there() {
    let expected = [
        ("dense", Runs),
        ("column", Refused(&["gives a tensor of shape [6, 1] for 1 samples, expected [1, 6]"])),
        (
            "flat",
            Refused(&["has shape [?, 144], expected [N, 24, 6] (N samples, steps, features) as the manifest says"]),
        ),
        ("double", Refused(&["is of type float64, expected float32; export the model with float32 inputs"])),
        ("scaled", Refused(&["operator Scaler of domain ai.onnx.ml is not supported"])),
        ("forest", Refused(&["operator TreeEnsembleRegressor of domain ai.onnx.ml is not supported"])),
    ];
    exported(&frameworks(), "export_sklearn.py", &expected);
}
