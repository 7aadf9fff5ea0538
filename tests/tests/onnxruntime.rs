//! onnxruntime gives the same scores as tract, for the model that the gateway brings along and for a fresh one.
//!
//! The Python that TILTH_PYTHON names is used, or the environment in `tests/.venv`, which is made when it is missing.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use cloud::train::{Corpus, Options, train};
use gateway::model::LoadedModel;
use node_sim::FarmConfig;
use node_sim::farm::Farm;
use proto::{Aggregate, Stats, Timestamp, Window};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const TOLERANCE: f64 = 1e-4;

fn tests_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python to use; `tests/.venv` is made where it is missing.
fn python() -> PathBuf {
    static MADE: Once = Once::new();
    if let Some(python) = std::env::var_os("TILTH_PYTHON") {
        return PathBuf::from(python);
    }
    MADE.call_once(|| {
        let made = Command::new(tests_dir().join("python/venv")).status();
        assert!(made.expect("bash is needed").success(), "tests/python/venv could not make the Python environment");
    });
    tests_dir().join(".venv/bin/python")
}

/// Batches of several sizes: the golden samples, and ones drawn around them, with values missing one by one, channel by
/// channel and stretch by stretch.
fn batches(model: &LoadedModel, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    let input = &model.manifest().input;
    let (steps, features) = (input.steps as usize, input.features.len());
    let golden: Vec<Vec<f32>> =
        model.manifest().golden.iter().map(|g| g.input.iter().map(|v| *v as f32).collect()).collect();
    let mut batches = vec![golden.concat()];
    for size in [1, 7, 40] {
        let mut batch = Vec::with_capacity(size * steps * features);
        for _ in 0..size {
            let mut sample = golden[0].clone();
            let noise = rng.random_range(0.0..0.2f32);
            let (gap, hidden, holes) =
                (rng.random_range(0..steps), rng.random_range(0..2 * features), rng.random_range(0.0..0.5));
            for (at, value) in sample.iter_mut().enumerate() {
                *value *= 1.0 + noise * rng.random_range(-1.0..1.0f32);
                let (step, feature) = (at / features, at % features);
                if (gap..gap + 9).contains(&step) || feature == hidden || rng.random_bool(holes) {
                    *value = f32::NAN;
                }
            }
            batch.extend(sample);
        }
        batches.push(batch);
    }
    batches.push(vec![f32::NAN; steps * features]);
    batches
}

fn compare(dir: &Path) {
    let mut model = LoadedModel::load(dir, Timestamp::from_secs(0)).unwrap();
    let input = model.manifest().input.clone();
    let batches = batches(&model, &mut ChaCha8Rng::seed_from_u64(1));
    let outputs: Vec<Vec<f32>> = batches.iter().map(|batch| model.run(batch).unwrap()).collect();
    let shapes: Vec<[usize; 3]> =
        batches.iter().map(|b| [b.len() / input.len(), input.steps as usize, input.features.len()]).collect();
    let inputs: Vec<Vec<Option<f32>>> =
        batches.iter().map(|b| b.iter().map(|v| (!v.is_nan()).then_some(*v)).collect()).collect();
    let exchange = tempfile::NamedTempFile::new().unwrap();
    let object = serde_json::json!({ "shapes": shapes, "inputs": inputs, "outputs": outputs, "tolerance": TOLERANCE });
    serde_json::to_writer(&exchange, &object).unwrap();
    let script = tests_dir().join("python/same_outputs.py");
    let output = Command::new(python()).arg(script).arg(dir.join("model.onnx")).arg(exchange.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{}: {}", model.label(), said.trim());
}

#[test]
fn onnxruntime_gives_the_same_for_the_model_of_the_gateway() {
    compare(&tests_dir().join("../gateway/models/soil-anomaly-1.0.0"));
}

#[test]
fn onnxruntime_gives_the_same_for_a_fresh_model() {
    let corpus = |seed| {
        let mut farm = Farm::new(&FarmConfig { seed, stations: 3, ..FarmConfig::default() }).unwrap();
        let mut windows = Vec::new();
        let to = farm.now().plus_secs(5 * 86_400);
        // A sample every five minutes; each stands for a window here.
        farm.advance(to, |sample| {
            let aggregates = sample.readings.iter().map(|measured| {
                let value = measured.reading.value;
                Aggregate {
                    channel: measured.reading.channel,
                    accepted: Some(Stats { count: 1, min: value, mean: value, max: value, stddev: 0.0 }),
                    rejected: None,
                }
            });
            let (station, start) = (sample.id.clone(), sample.time.floor_to(900));
            windows.push(Window {
                station,
                start,
                length_s: 900,
                revision: windows.len() as u32,
                aggregates: aggregates.collect(),
            });
        });
        Corpus::new(windows).unwrap()
    };
    let options = Options {
        name: "fresh".into(),
        trained_on: "five days".into(),
        epochs: 2,
        hidden: [6, 5],
        ..Options::default()
    };
    let trained = train(&options, &corpus(1), &corpus(2), |_, _| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("model.onnx"), &trained.onnx).unwrap();
    std::fs::write(dir.path().join("manifest.toml"), trained.manifest.to_toml().unwrap()).unwrap();
    compare(dir.path());
}
