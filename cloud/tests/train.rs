//! A training, from windows to a file that tract runs.
#![allow(clippy::unwrap_used)]

use cloud::train::{Corpus, Options, TrainError, Trained, train};
use proto::{Aggregate, Channel, Manifest, Quantity, Stats, Timestamp, Window};
use tract_onnx::prelude::*;

const WINDOW_S: u32 = 900;
const SHALLOW: Channel = Channel::at(Quantity::SoilMoisture, 10);
const DEEP: Channel = Channel::at(Quantity::SoilMoisture, 20);
const SUN: Channel = Channel::of(Quantity::SolarRadiation);

/// A small world: the sun dries the soil, the deeper probe follows the shallow one, and there is a little noise.
fn world(stations: u32, days: u32, seed: u32) -> Corpus {
    let mut noise = Noise(seed);
    let mut windows = Vec::new();
    for station in 0..stations {
        let level = 0.2 + 0.05 * noise.next();
        let (mut shallow, mut deep) = (level, level + 0.03);
        for number in 0..days * 96 {
            let sun = (900.0 * (f64::from(number % 96) / 96.0 * std::f64::consts::TAU).sin()).max(0.0)
                * (0.6 + 0.4 * noise.next());
            shallow -= sun * 2e-7;
            deep += (shallow + 0.03 - deep) * 0.02;
            if number % (96 * 4) == 40 {
                shallow += 0.08;
            }
            let aggregate = |channel, value: f64, noise: f64| {
                let mean = value + noise;
                Aggregate {
                    channel,
                    accepted: Some(Stats { count: 3, min: mean, mean, max: mean, stddev: 0.0 }),
                    rejected: None,
                }
            };
            let aggregates = vec![
                aggregate(SHALLOW, shallow, 0.0004 * (noise.next() - 0.5)),
                aggregate(DEEP, deep, 0.0004 * (noise.next() - 0.5)),
                aggregate(SUN, sun, 0.0),
            ];
            windows.push(Window {
                station: format!("s{seed}-{station}").parse().unwrap(),
                start: Timestamp::from_secs(1_780_272_000 + i64::from(number * WINDOW_S)),
                length_s: WINDOW_S,
                revision: 0,
                aggregates,
            });
        }
    }
    Corpus::new(windows).unwrap()
}

/// Uniform numbers in 0..1, by Lehmer's generator (Park and Miller 1988).
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = (u64::from(self.0) * 48_271 % 2_147_483_647) as u32;
        f64::from(self.0) / 2_147_483_647.0
    }
}

fn small() -> Options {
    Options {
        name: "tiny".into(),
        trained_on: "a small world".into(),
        epochs: 6,
        stride: 7,
        hidden: [8, 4],
        ..Options::default()
    }
}

fn trained() -> Trained {
    train(&small(), &world(4, 12, 11), &world(2, 12, 12), |_, _| {}).unwrap()
}

fn run(onnx: &[u8], manifest: &Manifest, samples: &[f32]) -> Vec<f32> {
    let shape = [samples.len() / manifest.input.len(), manifest.input.steps as usize, manifest.input.features.len()];
    let model = tract_onnx::onnx().model_for_read(&mut &*onnx).unwrap();
    let model = model
        .with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))
        .unwrap()
        .into_optimized()
        .unwrap()
        .into_runnable()
        .unwrap();
    let output = model.run(tvec!(Tensor::from_shape(&shape, samples).unwrap().into_tvalue())).unwrap();
    output[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

#[test]
fn training_lowers_the_loss_and_the_graph_gives_what_the_trainer_computed() {
    let Trained { onnx, manifest, report } = trained();
    let (first, last) = (report.training_losses[0], *report.training_losses.last().unwrap());
    assert!(last < 0.85 * first, "{:?}", report.training_losses);
    assert!(report.held_out_loss < first, "{report:?}");
    assert_eq!(report.false_alerts_per_100_station_days, 0.0);
    assert_eq!(manifest.output.scores, [SHALLOW, DEEP], "the sun is a cause, and not judged");
    assert_eq!(manifest.check(), Vec::<String>::new());
    assert_eq!(Manifest::parse(&manifest.to_toml().unwrap()).unwrap().golden[0], manifest.golden[0]);
    let expected = [
        ("false_alerts_per_100_station_days", 0.0),
        ("held_out_loss", report.held_out_loss),
        ("training_samples", report.samples as f64),
    ];
    for (name, value) in expected {
        assert_eq!(manifest.metrics[name], value, "{name}");
    }

    // Golden outputs come from the trainer's own arithmetic, the graph's from tract.
    for (n, golden) in manifest.golden.iter().enumerate() {
        let input: Vec<f32> = golden.input.iter().map(|v| *v as f32).collect();
        let scores = run(&onnx, &manifest, &input);
        for (score, expected) in scores.iter().zip(&golden.output) {
            assert!(
                (f64::from(*score) - expected).abs() < 1e-4,
                "golden sample {n}: {scores:?}, expected {:?}",
                golden.output
            );
        }
    }
    assert!(manifest.golden.iter().any(|g| g.input.iter().any(|v| v.is_nan())));
}

#[test]
fn a_drifting_channel_scores_higher_than_a_healthy_one() {
    let Trained { onnx, manifest, .. } = trained();
    let healthy: Vec<f32> = manifest.golden[0].input.iter().map(|v| *v as f32).collect();
    let features = manifest.input.features.len();
    let place = manifest.input.features.iter().position(|f| f.channel == DEEP).unwrap();
    let mut drifting = healthy.clone();
    for (step, row) in drifting.chunks_mut(features).enumerate() {
        // 0.004 m3/m3 an hour for the last eight hours.
        row[place] += 0.001 * step.saturating_sub(64) as f32;
    }
    let deep = manifest.output.scores.iter().position(|c| *c == DEEP).unwrap();
    let (before, after) = (run(&onnx, &manifest, &healthy)[deep], run(&onnx, &manifest, &drifting)[deep]);
    assert!(before < 0.8 && after > 1.2, "{before} became {after}");
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let (one, two) = (trained(), trained());
    assert_eq!(one.onnx, two.onnx);
    assert_eq!(one.manifest.sha256, two.manifest.sha256);
    let other = train(&Options { seed: 2, ..small() }, &world(4, 12, 11), &world(2, 12, 12), |_, _| {}).unwrap();
    assert_ne!(one.onnx, other.onnx);
}

#[test]
fn too_little_is_an_error_that_says_so() {
    let error = train(&small(), &world(1, 1, 3), &world(1, 1, 4), |_, _| {}).unwrap_err();
    assert!(matches!(error, TrainError::TooLittle { .. }), "{error}");
    assert!(error.to_string().starts_with("the windows give "), "{error}");
    assert_eq!(Corpus::new([]).unwrap_err().to_string(), "there are no windows to learn from");
}
