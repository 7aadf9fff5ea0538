//! What `check` reports of good and bad files.

use gateway::model::{CheckReport, check};
use proto::Manifest;
use proto::update::Reason;
use tract_onnx::pb::tensor_proto::DataType;

use crate::hostile::LIMITS;
use crate::onnx::{FEATURES, MEAN, Onnx, manifest, tensor_info};
use crate::program;

fn report(onnx: &[u8], manifest: Option<&Manifest>) -> CheckReport {
    let text = manifest.map(|manifest| toml::to_string(manifest).unwrap());
    let report = check(&program(), &LIMITS, onnx, text.as_deref());
    let again: CheckReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(again, report);
    report
}

#[test]
fn a_good_model_is_described_and_measured() {
    let bytes = Onnx::mean(1.0).bytes();
    let report = report(&bytes, Some(&manifest("1.0.0", &bytes, &MEAN)));
    assert!(report.ok && report.problems.is_empty(), "{report:?}");
    // Its one golden sample is whole.
    let words = "no golden sample has a missing value (nan): it will be asked about whole samples only";
    assert_eq!(report.warnings, [words]);
    assert_eq!((report.ir_version, report.producer.as_str(), report.bytes), (8, "test", bytes.len() as u64));
    assert_eq!(report.opsets, [("ai.onnx".to_owned(), 17)].into());
    assert_eq!(report.operators, [("Mul".to_owned(), 1), ("ReduceMean".to_owned(), 1)].into());
    assert_eq!((report.inputs[0].name.as_str(), report.inputs[0].shape_text()), ("input", "[N, 4, 2]".to_owned()));
    assert_eq!(report.outputs[0].shape_text(), "[N, 2]");
    assert!(report.self_test.unwrap().memory_bytes > 0);
}

#[test]
fn every_problem_is_named_at_once() {
    let mut onnx = Onnx::mean(1.0).node("Frobnicate", &["mean"], "x", vec![]);
    onnx.graph().input[0] = tensor_info("input", DataType::Double, &["N", "5", "2"]);
    onnx.0.opset_import[0].version = 19;
    let bytes = onnx.bytes();
    let mut manifest = manifest("1.0.0", b"another", &[0.0; FEATURES]);
    manifest.limits.max_bytes = 100;
    let report = report(&bytes, Some(&manifest));
    let found: Vec<Reason> = report.problems.iter().map(|problem| problem.reason).collect();
    assert!(!report.ok && found.starts_with(&[Reason::TooLarge, Reason::Digest]), "{report:?}");
    let texts: Vec<&str> = report.problems.iter().map(|problem| problem.text.as_str()).collect();
    for word in ["Frobnicate", "float64", "[N, 5, 2]"] {
        assert!(texts.iter().any(|text| text.contains(word)), "{word}: {texts:?}");
    }
    assert!(report.warnings[0].starts_with("operator set (opset) 19 is newer than 18"), "{:?}", report.warnings);
}

#[test]
fn without_a_manifest_the_file_itself_says_what_goes_in() {
    let report = self::report(&Onnx::mean(1.0).bytes(), None);
    assert!(report.ok && report.self_test.is_some(), "{report:?}");
    let mut onnx = Onnx::mean(1.0);
    onnx.graph().input[0] = tensor_info("input", DataType::Float, &["N", "T", "2"]);
    let report = self::report(&onnx.bytes(), None);
    assert!(report.ok && report.self_test.is_none());
    let words =
        "was not run: the file declares its input as [N, T, 2]; how many steps and features go in, a manifest must say";
    assert_eq!(report.warnings, [words]);
}

#[test]
fn what_is_known_before_a_crash_is_told() {
    let mut onnx = Onnx::mean(1.0);
    let axis = format!("{}N{}", "(".repeat(100_000), ")".repeat(100_000));
    onnx.graph().output[0] = tensor_info("scores", DataType::Float, &["N", "2"]);
    onnx.graph().input[0] = tensor_info("input", DataType::Float, &[&axis, "4", "2"]);
    let bytes = onnx.bytes();
    let report = report(&bytes, Some(&manifest("1.0.0", &bytes, &MEAN)));
    assert_eq!(report.problems[0].reason, Reason::Crash);
    assert_eq!(report.operators.len(), 2);
}

#[test]
fn a_manifest_with_mistakes_does_not_hide_the_model() {
    let bytes = Onnx::mean(1.0).bytes();
    let report = report(&bytes, Some(&manifest("one", &bytes, &[0.25])));
    let found: Vec<Reason> = report.problems.iter().map(|problem| problem.reason).collect();
    assert_eq!(found, [Reason::Manifest, Reason::Manifest]);
    assert_eq!(report.operators.len(), 2);
}
