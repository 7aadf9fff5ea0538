//! The optimiser's loop.

use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::encode::{BINS, BOUND, Bin, Encoder, FIRST_BIN, RECENT, REFERENCE, ROWS, Samples};
use super::network::Network;
use super::{BATCH, Options, TrainError};

/// How often a sample loses a channel, and then perhaps a second one: what gateways do with a channel that is already known
/// to be broken, and how the networks learn not to lean on one neighbour alone.
const HIDE: f64 = 0.4;

/// How often a bin of the past is missing from a sample, as after a station's outage.
const GAP: f64 = 0.1;

/// How often a sample's channel drifts, as one that nobody has noticed yet: a target that is told by a drifting neighbour
/// and an honest one should learn to believe the honest one.
const DRIFT: f64 = 0.25;

/// Standard deviation of such a drift over half a day, in scales of change.
const DRIFT_SIZE: f32 = 1.5;

/// Shrinks unused weights, so that the expected move is smooth.
const WEIGHT_DECAY: f64 = 1e-3;

/// Trains; gives the mean loss of each epoch.
pub fn fit(
    network: &Network,
    encoder: &Encoder,
    samples: &Samples,
    options: &Options,
    rng: &mut ChaCha8Rng,
    progress: &mut impl FnMut(u32, f64),
) -> Result<Vec<f64>, TrainError> {
    let mut adam = AdamW::new(
        network.variables(),
        ParamsAdamW { lr: options.learning_rate, weight_decay: WEIGHT_DECAY, ..ParamsAdamW::default() },
    )?;
    let mut order: Vec<usize> = (0..samples.len()).collect();
    let batches = samples.len().div_ceil(BATCH);
    let steps = f64::from(options.epochs) * batches as f64;
    let mut losses = Vec::new();
    for epoch in 0..options.epochs {
        order.shuffle(rng);
        let mut sum = 0.0;
        for (batch, places) in order.chunks(BATCH).enumerate() {
            let done = (f64::from(epoch) * batches as f64 + batch as f64) / steps;
            adam.set_learning_rate(
                options.learning_rate * (0.01 + 0.99 * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0),
            );
            let [mut rows, moved, known] = gather(samples, encoder.width(), encoder.targets().len(), places);
            for row in rows.chunks_mut(encoder.width()) {
                drift(row, encoder.input().features.len(), rng);
                hide(row, encoder.input().features.len(), rng);
            }
            let loss = network.loss(
                &tensor(rows, places.len())?,
                &tensor(moved, places.len())?,
                &tensor(known, places.len())?,
            )?;
            adam.backward_step(&loss)?;
            sum += f64::from(loss.to_scalar::<f32>()?) * places.len() as f64;
        }
        let loss = sum / samples.len() as f64;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { epoch, loss });
        }
        progress(epoch, loss);
        losses.push(loss);
    }
    Ok(losses)
}

/// The errors of all samples in widths, `[n, targets]`, and the mean loss.
pub fn errors(network: &Network, samples: &Samples) -> Result<(Vec<f32>, f64), TrainError> {
    let (width, targets) = (samples.rows.len() / samples.len(), samples.moved.len() / samples.len());
    let mut errors = Vec::with_capacity(samples.moved.len());
    let mut sum = 0.0;
    let places: Vec<usize> = (0..samples.len()).collect();
    for places in places.chunks(4 * BATCH) {
        let [rows, moved, known] = gather(samples, width, targets, places);
        let [rows, moved, known] =
            [tensor(rows, places.len())?, tensor(moved, places.len())?, tensor(known, places.len())?];
        errors.extend(network.errors(&rows, &moved, &known)?);
        sum += f64::from(network.loss(&rows, &moved, &known)?.to_scalar::<f32>()?) * places.len() as f64;
    }
    Ok((errors, sum / samples.len() as f64))
}

fn gather(samples: &Samples, width: usize, targets: usize, places: &[usize]) -> [Vec<f32>; 3] {
    let take =
        |all: &[f32], width: usize| places.iter().flat_map(|p| &all[p * width..(p + 1) * width]).copied().collect();
    [take(&samples.rows, width), take(&samples.moved, targets), take(&samples.known, targets)]
}

fn tensor(values: Vec<f32>, rows: usize) -> candle_core::Result<Tensor> {
    let width = values.len() / rows;
    Tensor::from_vec(values, (rows, width), &Device::Cpu)
}

/// Lets a channel drift since some hour of the last half day, at random. What the channel itself should be is not touched:
/// its own network does not see this part.
fn drift(row: &mut [f32], features: usize, rng: &mut impl Rng) {
    if !rng.random_bool(DRIFT) {
        return;
    }
    let feature = rng.random_range(0..features);
    let size: f32 = StandardNormal.sample(rng);
    let since_h = rng.random_range(2.0..REFERENCE.0 as f32);
    for (bin, Bin(near, far)) in BINS.iter().enumerate().take(RECENT) {
        let age_h = (near + far) as f32 / 2.0;
        let value = &mut row[(FIRST_BIN + bin) * features + feature];
        *value = (*value + DRIFT_SIZE * size * (1.0 - age_h / since_h).max(0.0)).clamp(-BOUND, BOUND);
    }
}

/// Hides a channel or two of an encoded sample, and perhaps a bin of all, at random: the rows are what they are when it is
/// missing.
fn hide(row: &mut [f32], features: usize, rng: &mut impl Rng) {
    while rng.random_bool(HIDE) {
        let feature = rng.random_range(0..features);
        for at in 0..ROWS {
            row[at * features + feature] = 0.0;
        }
    }
    if rng.random_bool(GAP) {
        let bin = FIRST_BIN + rng.random_range(1..BINS.len());
        row[bin * features..(bin + 1) * features].fill(0.0);
    }
}
