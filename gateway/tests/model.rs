//! Models inside the gateway's own process.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use gateway::model::LoadedModel;
use proto::Timestamp;
use proto::update::Reason;

fn now() -> Timestamp {
    Timestamp::from_secs(1_780_300_800)
}

fn base_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/soil-anomaly-1.0.0")
}

fn base_files() -> (Vec<u8>, String) {
    (
        std::fs::read(base_dir().join("model.onnx")).unwrap(),
        std::fs::read_to_string(base_dir().join("manifest.toml")).unwrap(),
    )
}

#[test]
fn batches_of_every_size_give_what_single_samples_give() {
    let mut model = LoadedModel::base(now()).unwrap();
    let width = model.manifest().output.scores.len();
    let one: Vec<f32> = model.manifest().golden[0].input.iter().map(|v| *v as f32).collect();
    let expected = model.run(&one).unwrap();
    for samples in [1, 2, 3, 24, 300] {
        let scores = model.run(&one.repeat(samples)).unwrap();
        assert_eq!(scores.len(), samples * width);
        for row in scores.chunks(width) {
            assert!(row.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{samples}: {row:?}");
        }
    }
}

#[test]
fn a_sample_without_anything_scores_nothing() {
    let mut model = LoadedModel::base(now()).unwrap();
    let nothing = vec![f32::NAN; model.sample_len()];
    assert!(model.run(&nothing).unwrap().iter().all(|s| *s == 0.0));
}

#[test]
fn hostile_values_give_numbers() {
    let mut model = LoadedModel::base(now()).unwrap();
    for value in [0.0, f32::MAX, f32::MIN, 1e30, f32::INFINITY] {
        let sample = vec![value; model.sample_len()];
        assert!(model.run(&sample).unwrap().iter().all(|s| s.is_finite()), "{value}");
    }
}

#[test]
fn a_directory_is_loaded_and_a_missing_file_named() {
    assert_eq!(LoadedModel::load(&base_dir(), now()).unwrap().label(), "soil-anomaly 1.0.0");
    let empty = tempfile::tempdir().unwrap();
    let error = LoadedModel::load(empty.path(), now()).unwrap_err();
    assert!(error.passes() && error.to_string().contains("manifest.toml: No such file"), "{error}");
}

#[test]
fn another_file_than_the_manifest_describes_is_refused() {
    let (mut onnx, manifest) = base_files();
    let last = onnx.len() - 1;
    onnx[last] ^= 1;
    assert_eq!(LoadedModel::verify(&onnx, &manifest, now()).unwrap_err().reason(), Reason::Digest);
}

#[test]
fn a_wrong_golden_answer_is_named() {
    let (onnx, manifest) = base_files();
    let mut manifest = proto::Manifest::parse(&manifest).unwrap();
    manifest.golden[1].output[0] += 0.5;
    let error = LoadedModel::verify(&onnx, &manifest.to_toml().unwrap(), now()).unwrap_err();
    assert_eq!(error.reason(), Reason::Golden);
    assert!(error.to_string().contains("soil_moisture_10cm of golden sample 1, expected 0.5"), "{error}");
}
