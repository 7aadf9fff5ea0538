//! Training: from fault-free windows to an ONNX model that a gateway can run.
//!
//! The model asks of each channel: *is this what the station's other channels suggest?* A small network for each target
//! channel predicts how far it moved in the last half day, from what every other channel did in a whole day, from what it
//! did itself before, and from its own sudden changes, which are nature's and not a sensor's. The network also says how
//! sure it is. The score is the error in units of that, divided by what was the most on stations that it had not seen, so
//! that 1.0 means the same for every channel. Trouble that lasts a moment is not its business: rules see that better.
//!
//! Everything before and after the networks (missing values, scales, pooling) lies in the graph, so that a gateway only
//! fills the tensor, with the same code in `proto` that fills it here.
//!
//! Pure: windows, a seed and options in, bytes and a report out. It must not know of the database or of a clock.

mod calibrate;
mod corpus;
mod encode;
mod fit;
mod graph;
mod network;
mod node;

use std::collections::BTreeMap;

use proto::manifest::{Golden, Limits, Output, Task};
use proto::{Channel, Manifest, Quantity};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

pub use calibrate::ChannelReport;
pub use corpus::{Corpus, CorpusError};
pub use node::{NodeChannelReport, NodeOptions, NodeReport, NodeSamples, NodeTrained, train_node};

use encode::Encoder;
use network::Network;

/// What to make, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is trained on, in words that let somebody do it again.
    pub trained_on: String,
    /// The version that it replaces.
    pub parent: Option<String>,
    /// For the first weights, the order of the samples, and what is hidden from the network.
    pub seed: u64,
    /// Passes over the training samples.
    pub epochs: u32,
    /// Every how many windows a training sample is taken; neighbouring windows are nearly the same.
    pub stride: u32,
    /// Neurons of each channel's first and second layer.
    pub hidden: [usize; 2],
    /// Adam's first step size; it falls to a hundredth along half a cosine.
    pub learning_rate: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "soil-anomaly".to_owned(),
            version: "1.0.0".to_owned(),
            trained_on: String::new(),
            parent: None,
            seed: 1,
            epochs: 12,
            stride: 5,
            hidden: [24, 12],
            learning_rate: 3e-3,
        }
    }
}

/// Samples in one step of the optimiser.
const BATCH: usize = 256;

/// How much an output of the same graph may differ between runtimes, in shares of the threshold. Single precision over
/// some thousand terms, divided by a small expected error.
const TOLERANCE: f64 = 1e-3;

/// What came out.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// Its manifest, complete.
    pub manifest: Manifest,
    /// How it went.
    pub report: Report,
}

/// How a training went.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// Training samples.
    pub samples: usize,
    /// Weights of the networks.
    pub parameters: usize,
    /// Mean loss on the training samples, for each epoch.
    pub training_losses: Vec<f64>,
    /// Mean loss on the held-out samples, at the end.
    pub held_out_loss: f64,
    /// How long the held-out windows are together, in station-days.
    pub held_out_station_days: f64,
    /// How each channel did on held-out windows.
    pub channels: Vec<ChannelReport>,
    /// Alerts for a hundred held-out station-days, which are fault-free: false ones.
    pub false_alerts_per_100_station_days: f64,
}

/// Why nothing came out.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// There is nothing to learn from, or nothing to learn.
    #[error(
        "the windows give {training} samples to train on and {held_out} held out for {targets} channels; each must be at least {least}"
    )]
    TooLittle {
        /// Training samples.
        training: usize,
        /// Held-out samples.
        held_out: usize,
        /// Channels that could be predicted.
        targets: usize,
        /// Fewest samples.
        least: usize,
    },
    /// The loss is no longer a number.
    #[error("the loss became {loss} in epoch {epoch}; a smaller learning rate may help")]
    Diverged {
        /// Which epoch, from 0.
        epoch: u32,
        /// What it became.
        loss: f64,
    },
    /// The tensor library refuses an operation.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A node takes no such model.
    #[error(
        "{channels} channels, {steps} steps and {hidden} hidden units: a node takes 1 to 16 channels, the same to train on and held out, 2 to 16 steps and 1 to 32 units"
    )]
    NodeSize {
        /// Channels of the samples.
        channels: usize,
        /// Samples looked at.
        steps: usize,
        /// Hidden units.
        hidden: usize,
    },
    /// The finished manifest does not pass its own check.
    #[error("the manifest would not be valid: {}", .0.join("; "))]
    Manifest(Vec<String>),
}

/// Fewest samples to train on, and held out.
const LEAST_SAMPLES: usize = 64;

/// Whether a channel can be predicted from the others at all. Wind, radiation and rain are causes, not effects; signal
/// strength is chance. They are inputs only.
#[must_use]
pub const fn is_predictable(quantity: Quantity) -> bool {
    !matches!(
        quantity,
        Quantity::WindSpeed | Quantity::SolarRadiation | Quantity::Rain | Quantity::Rssi | Quantity::LeafWetness
    )
}

/// Trains a model on the windows in `training`, and sets its thresholds by those in `held_out`, which should be of other
/// stations, or another season. Both must be free of faults. The same arguments give the same bytes.
///
/// `progress` is told the loss of each epoch as it ends.
///
/// # Errors
/// When there is too little to learn from, or when the training diverges.
pub fn train(
    options: &Options,
    training: &Corpus,
    held_out: &Corpus,
    mut progress: impl FnMut(u32, f64),
) -> Result<Trained, TrainError> {
    let channels = training.common_channels();
    let targets: Vec<Channel> = channels.iter().copied().filter(|c| is_predictable(c.quantity)).collect();
    let input = encode::input(&channels, training.window_s());
    let encoder = Encoder::fit(input, &targets, training);
    let samples = encoder.samples(training, options.stride);
    let checks = encoder.samples(held_out, 1);
    if samples.len().min(checks.len()) < LEAST_SAMPLES || targets.is_empty() {
        return Err(TrainError::TooLittle {
            training: samples.len(),
            held_out: checks.len(),
            targets: targets.len(),
            least: LEAST_SAMPLES,
        });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let network = Network::new(&encoder, options.hidden, &mut rng)?;
    let training_losses = fit::fit(&network, &encoder, &samples, options, &mut rng, &mut progress)?;
    let (errors, held_out_loss) = fit::errors(&network, &checks)?;
    let calibration = calibrate::calibrate(&targets, &checks, &errors, training.window_s());

    let onnx = graph::write(&encoder, &network, &calibration.scales, options)?;
    let manifest = Manifest {
        name: options.name.clone(),
        version: options.version.clone(),
        task: Task::Anomaly,
        threshold: 1.0,
        tolerance: TOLERANCE,
        sha256: hex(&Sha256::digest(&onnx)),
        trained_on: options.trained_on.clone(),
        parent: options.parent.clone(),
        metrics: BTreeMap::from([
            ("training_samples".to_owned(), samples.len() as f64),
            ("held_out_samples".to_owned(), checks.len() as f64),
            ("held_out_station_days".to_owned(), calibration.station_days),
            ("held_out_loss".to_owned(), held_out_loss),
            ("false_alerts_per_100_station_days".to_owned(), calibration.false_alerts_per_100_station_days()),
            ("parameters".to_owned(), network.parameters() as f64),
        ]),
        input: encoder.input().clone(),
        output: Output { scores: targets },
        limits: Limits { max_bytes: 1 << 20, max_latency_ms: 50, max_memory_bytes: 64 << 20 },
        golden: golden(&encoder, &network, &calibration.scales, held_out)?,
    };
    let wrong = manifest.check();
    if !wrong.is_empty() {
        return Err(TrainError::Manifest(wrong));
    }
    let report = Report {
        samples: samples.len(),
        parameters: network.parameters(),
        training_losses,
        held_out_loss,
        held_out_station_days: calibration.station_days,
        false_alerts_per_100_station_days: calibration.false_alerts_per_100_station_days(),
        channels: calibration.channels,
    };
    Ok(Trained { onnx, manifest, report })
}

/// Three samples with the trainer's own answers: a whole one, one with a channel missing, one with windows missing.
fn golden(encoder: &Encoder, network: &Network, scales: &[f32], corpus: &Corpus) -> Result<Vec<Golden>, TrainError> {
    let input = encoder.input();
    let (features, steps) = (input.features.len(), input.steps as usize);
    let Some(whole) = encoder.fullest(corpus) else {
        return Ok(Vec::new());
    };
    let whole: Vec<f32> = whole.iter().map(|v| (f64::from(*v) * 1e4).round() as f32 / 1e4).collect();
    let keep = |kept: &dyn Fn(usize, usize) -> bool| -> Vec<f32> {
        whole.iter().enumerate().map(|(i, v)| if kept(i / features, i % features) { *v } else { f32::NAN }).collect()
    };
    let samples = [
        keep(&|_, _| true),
        keep(&|_, feature| feature != 0),
        keep(&|step, feature| !(step * 7 + feature * 3).is_multiple_of(5) && (step < steps / 4 || step > steps / 3)),
    ];
    let mut golden = Vec::with_capacity(samples.len());
    for sample in samples {
        let encoded = encoder.encode(&sample);
        let scores = network.score(&encoded, scales)?;
        golden.push(Golden {
            input: sample.iter().map(|v| shortest(*v)).collect(),
            output: scores.into_iter().map(shortest).collect(),
        });
    }
    Ok(golden)
}

/// The double with the fewest digits that is this single again.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
