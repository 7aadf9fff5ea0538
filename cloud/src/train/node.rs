//! Training for nodes: from fault-free samples to a network in eight-bit integers that a node can run.
//!
//! The network foretells each channel's newest value from the samples before it and from what the other channels say just
//! now. It begins as the statement that a channel stays as it was, which two hidden units a channel can hold, and learns what
//! is better. It is trained in floating point and quantised afterwards (Jacob et al. 2018, eq. 3 to 6: symmetric, one scale
//! for a layer's weights, sums in 32 bits, a multiplier between layers), and what that costs is measured: the same
//! predictions by both, on what was held out.

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use proto::node_model::{Layer, MAX_BIAS, MAX_CHANNELS, MAX_HIDDEN, MAX_STEPS};
use proto::{Channel, NodeModelFile, NodeModelVersion};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};

use super::{BATCH, LEAST_SAMPLES, TrainError};

/// The integers of a value at the ends of its range.
const MOST: f32 = 127.0;
/// Integers in one scale of a channel.
const UNIT: f32 = 16.0;
/// How far beyond what was trained on a value may go before it is held.
const ROOM: f64 = 1.25;
/// The threshold is so many times the largest error but for [`BEYOND`] of what was held out.
const MARGIN: f64 = 1.5;
/// The share of samples that may be beyond the threshold's beginning.
const BEYOND: f64 = 5e-4;
/// The lowest threshold, in integers: below it an error is the rounding's.
const LEAST_THRESHOLD: f64 = 3.5;

/// What to make, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeOptions {
    /// The file's version.
    pub version: NodeModelVersion,
    /// For the first weights and the order of the samples.
    pub seed: u64,
    /// Passes over the samples.
    pub epochs: u32,
    /// How many samples it looks at, the newest among them.
    pub steps: usize,
    /// Hidden units; twice the channels hold what a channel was.
    pub hidden: usize,
    /// Adam's first step size.
    pub learning_rate: f64,
}

/// Samples of stations: for each station its rows in order of time, a value for each channel. A gap begins another one.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSamples {
    /// What the values are of.
    pub channels: Vec<Channel>,
    /// By station, or stretch of one: rows of values.
    pub tracks: Vec<Vec<Vec<f64>>>,
}

/// How a channel is foretold on what was held out, in the channel's unit.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeChannelReport {
    /// Which channel.
    pub channel: Channel,
    /// The error of saying that it stays as it was, root mean square.
    pub as_before: f64,
    /// The error of the network in floating point.
    pub float: f64,
    /// The error of the network in eight-bit integers.
    pub integer: f64,
    /// How far apart the two predictions are, root mean square.
    pub quantisation: f64,
    /// The smallest step that the integers can tell.
    pub resolution: f64,
    /// The error from which on a value is unusual.
    pub threshold: f64,
}

/// How a training went.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeReport {
    /// Samples that were trained on.
    pub samples: usize,
    /// The file's length.
    pub bytes: usize,
    /// Mean loss of each epoch.
    pub losses: Vec<f64>,
    /// The channels.
    pub channels: Vec<NodeChannelReport>,
    /// Samples held out, and how many of them are called unusual; they are fault-free.
    pub held_out: usize,
    /// See `held_out`.
    pub false_alerts: usize,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeTrained {
    /// The model.
    pub file: NodeModelFile,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How it went.
    pub report: NodeReport,
}

/// Trains a model on `training`, and sets its thresholds by `held_out`, which should be of other stations or another season.
/// Both must be free of faults and of the same channels. The same arguments give the same bytes.
///
/// # Errors
/// When there is too little to learn from, a size is not one that a node takes, or the training diverges.
pub fn train_node(
    options: &NodeOptions,
    training: &NodeSamples,
    held_out: &NodeSamples,
    mut progress: impl FnMut(u32, f64),
) -> Result<NodeTrained, TrainError> {
    let channels = training.channels.len();
    let fits = (1..=MAX_CHANNELS).contains(&channels)
        && (2..=MAX_STEPS).contains(&options.steps)
        && (1..=MAX_HIDDEN).contains(&options.hidden)
        && held_out.channels == training.channels;
    if !fits {
        return Err(TrainError::NodeSize { channels, steps: options.steps, hidden: options.hidden });
    }
    let normal = normal(training);
    let (samples, checks) = (inputs(training, &normal, options.steps), inputs(held_out, &normal, options.steps));
    if samples.len().min(checks.len()) < LEAST_SAMPLES {
        let targets = channels;
        return Err(TrainError::TooLittle {
            training: samples.len(),
            held_out: checks.len(),
            targets,
            least: LEAST_SAMPLES,
        });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let network = Network::new(channels, options, &mut rng)?;
    let losses = network.fit(&samples, options, &mut rng, &mut progress)?;
    let float = network.weights()?;
    let mut file = NodeModelFile {
        version: options.version,
        channels: training.channels.clone(),
        steps: options.steps,
        normal: normal.clone(),
        first: Layer { weights: Vec::new(), biases: Vec::new(), multiplier: 1.0 },
        second: Layer { weights: Vec::new(), biases: Vec::new(), multiplier: 1.0 },
        thresholds: vec![1.0; channels],
        golden: checks[checks.len() / 2].clone(),
    };
    (file.first, file.second) = float.quantised(&samples);
    let (reports, thresholds) = measured(&file, &float, &checks);
    file.thresholds = thresholds;
    let unusual = |input: &Vec<i8>| {
        file.errors(input).iter().zip(&file.thresholds).any(|(error, threshold)| *error > f64::from(*threshold))
    };
    let false_alerts = checks.iter().filter(|input| unusual(input)).count();
    let bytes = file.encode().map_err(|error| TrainError::Manifest(vec![error.to_string()]))?;
    let report = NodeReport {
        samples: samples.len(),
        bytes: bytes.len(),
        losses,
        channels: reports,
        held_out: checks.len(),
        false_alerts,
    };
    Ok(NodeTrained { file, bytes, report })
}

/// Centre and scale of each channel, so that what was trained on fills the integers' range but for some room.
fn normal(samples: &NodeSamples) -> Vec<(f32, f32)> {
    (0..samples.channels.len())
        .map(|channel| {
            let values = || samples.tracks.iter().flatten().map(|row| row[channel]);
            let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            let (low, high) = if low.is_finite() && high.is_finite() { (low, high) } else { (0.0, 0.0) };
            let resolution = 10f64.powi(-i32::from(samples.channels[channel].quantity.wire_decimals()));
            let half = ((high - low) / 2.0 * ROOM).max(f64::from(MOST) * resolution);
            (((low + high) / 2.0) as f32, (half * f64::from(UNIT / MOST)) as f32)
        })
        .collect()
}

/// The integers of every sample that has enough before it, channel by channel, the newest last.
fn inputs(samples: &NodeSamples, normal: &[(f32, f32)], steps: usize) -> Vec<Vec<i8>> {
    let integer = |value: f64, (centre, scale): (f32, f32)| {
        let value = (value - f64::from(centre)) / f64::from(scale) * f64::from(UNIT);
        value.round().clamp(-f64::from(MOST), f64::from(MOST)) as i8
    };
    let of_track = |track: &Vec<Vec<f64>>| -> Vec<Vec<i8>> {
        let rows: Vec<Vec<i8>> = track
            .iter()
            .map(|row| row.iter().zip(normal).map(|(value, normal)| integer(*value, *normal)).collect())
            .collect();
        let window = |rows: &[Vec<i8>]| (0..normal.len()).flat_map(|c| rows.iter().map(move |row| row[c])).collect();
        rows.windows(steps).map(window).collect()
    };
    samples.tracks.iter().flat_map(of_track).collect()
}

/// The input with one channel's newest value replaced by the one before, in shares of the range.
fn masked(input: &[i8], channel: usize, steps: usize) -> Vec<f32> {
    let mut values: Vec<f32> = input.iter().map(|value| f32::from(*value) / MOST).collect();
    let newest = channel * steps + steps - 1;
    values[newest] = values[newest - 1];
    values
}

/// The network in floating point.
struct Network {
    /// `[inputs, hidden]`
    w1: Var,
    /// `[1, hidden]`
    b1: Var,
    /// `[hidden, channels]`
    w2: Var,
    /// `[1, channels]`
    b2: Var,
    channels: usize,
    steps: usize,
}

impl Network {
    /// A network that says that each channel stays as it was, as far as there are units for it, and a little chance.
    fn new(channels: usize, options: &NodeOptions, rng: &mut ChaCha8Rng) -> candle_core::Result<Self> {
        let (steps, hidden) = (options.steps, options.hidden);
        let inputs = channels * steps;
        let mut small = |count: usize, inputs: usize| -> Vec<f32> {
            let deviation = 0.1 / (inputs as f64).sqrt();
            (0..count)
                .map(|_| {
                    let value: f64 = StandardNormal.sample(rng);
                    (deviation * value) as f32
                })
                .collect()
        };
        let (mut w1, mut w2) = (small(inputs * hidden, inputs), small(hidden * channels, hidden));
        for channel in 0..channels.min(hidden / 2) {
            let newest = channel * steps + steps - 1;
            for (unit, sign) in [(2 * channel, 1.0), (2 * channel + 1, -1.0)] {
                w1[newest * hidden + unit] += sign;
                w2[unit * channels + channel] += sign;
            }
        }
        let zeros = |count| Var::from_vec(vec![0.0f32; count], (1, count), &Device::Cpu);
        Ok(Self {
            w1: Var::from_vec(w1, (inputs, hidden), &Device::Cpu)?,
            b1: zeros(hidden)?,
            w2: Var::from_vec(w2, (hidden, channels), &Device::Cpu)?,
            b2: zeros(channels)?,
            channels,
            steps,
        })
    }

    fn fit(
        &self,
        samples: &[Vec<i8>],
        options: &NodeOptions,
        rng: &mut ChaCha8Rng,
        progress: &mut impl FnMut(u32, f64),
    ) -> Result<Vec<f64>, TrainError> {
        let variables = [&self.w1, &self.b1, &self.w2, &self.b2].map(Clone::clone).to_vec();
        let parameters = ParamsAdamW { lr: options.learning_rate, weight_decay: 0.0, ..ParamsAdamW::default() };
        let mut adam = AdamW::new(variables, parameters)?;
        let mut order: Vec<usize> = (0..samples.len()).collect();
        let steps = f64::from(options.epochs) * samples.len().div_ceil(BATCH) as f64;
        let (mut done, mut losses) = (0.0, Vec::new());
        for epoch in 0..options.epochs {
            order.shuffle(rng);
            let mut sum = 0.0;
            for places in order.chunks(BATCH) {
                let rate = 0.01 + 0.99 * (1.0 + (std::f64::consts::PI * done / steps).cos()) / 2.0;
                adam.set_learning_rate(options.learning_rate * rate);
                let (mut rows, mut wanted, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
                for place in places {
                    // One channel of each sample at a time; over the epochs all of them.
                    let channel = rng.random_range(0..self.channels);
                    let input = &samples[*place];
                    rows.extend(masked(input, channel, self.steps));
                    let newest = f32::from(input[channel * self.steps + self.steps - 1]) / MOST;
                    wanted.extend((0..self.channels).map(|c| if c == channel { newest } else { 0.0 }));
                    chosen.extend((0..self.channels).map(|c| f32::from(u8::from(c == channel))));
                }
                let tensor =
                    |values: Vec<f32>, width: usize| Tensor::from_vec(values, (places.len(), width), &Device::Cpu);
                let foretold = self.foretell(&tensor(rows, self.channels * self.steps)?)?;
                let off = ((foretold * tensor(chosen, self.channels)?)? - tensor(wanted, self.channels)?)?;
                let loss = (off.sqr()?.sum_all()? / places.len() as f64)?;
                adam.backward_step(&loss)?;
                sum += f64::from(loss.to_scalar::<f32>()?) * places.len() as f64;
                done += 1.0;
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

    fn foretell(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = rows.matmul(&self.w1)?.broadcast_add(&self.b1)?.relu()?;
        hidden.matmul(&self.w2)?.broadcast_add(&self.b2)
    }

    fn weights(&self) -> candle_core::Result<Weights> {
        Ok(Weights {
            w1: self.w1.t()?.to_vec2()?,
            b1: self.b1.flatten_all()?.to_vec1()?,
            w2: self.w2.t()?.to_vec2()?,
            b2: self.b2.flatten_all()?.to_vec1()?,
            steps: self.steps,
        })
    }
}

/// The trained numbers, a row for each unit.
struct Weights {
    w1: Vec<Vec<f32>>,
    b1: Vec<f32>,
    w2: Vec<Vec<f32>>,
    b2: Vec<f32>,
    steps: usize,
}

impl Weights {
    fn hidden(&self, row: &[f32]) -> Vec<f32> {
        let unit = |(weights, bias): (&Vec<f32>, &f32)| (bias + dot(weights, row)).max(0.0);
        self.w1.iter().zip(&self.b1).map(unit).collect()
    }

    /// Each channel's newest value in shares of its range.
    fn foretell(&self, input: &[i8]) -> Vec<f32> {
        (0..self.w2.len())
            .map(|channel| {
                let hidden = self.hidden(&masked(input, channel, self.steps));
                (self.b2[channel] + dot(&self.w2[channel], &hidden)).clamp(-1.0, 1.0)
            })
            .collect()
    }

    /// The two layers in integers. Hidden values get the range that they have on `samples`.
    fn quantised(&self, samples: &[Vec<i8>]) -> (Layer, Layer) {
        let stride = samples.len().div_ceil(2000).max(1);
        let most_hidden = samples
            .iter()
            .step_by(stride)
            .flat_map(|input| (0..self.w2.len()).flat_map(|c| self.hidden(&masked(input, c, self.steps))))
            .fold(1e-6f32, f32::max);
        (quantised(&self.w1, &self.b1, 1.0, most_hidden), quantised(&self.w2, &self.b2, most_hidden, 1.0))
    }
}

/// A layer whose inputs have the range `from` and whose outputs have the range `to`, each for 127.
fn quantised(weights: &[Vec<f32>], biases: &[f32], from: f32, to: f32) -> Layer {
    let most = weights.iter().flatten().fold(1e-6f32, |most, weight| most.max(weight.abs()));
    let (weight, input, output) = (most / MOST, from / MOST, to / MOST);
    let integer = |value: &f32| (value / weight).round().clamp(-MOST, MOST) as i8;
    let bias = |bias: &f32| {
        let most = f64::from(MAX_BIAS);
        (f64::from(*bias) / f64::from(weight * input)).round().clamp(-most, most) as i32
    };
    Layer {
        weights: weights.iter().map(|row| row.iter().map(integer).collect()).collect(),
        biases: biases.iter().map(bias).collect(),
        multiplier: weight * input / output,
    }
}

/// How each channel is foretold on `checks`, and the threshold that follows.
fn measured(file: &NodeModelFile, float: &Weights, checks: &[Vec<i8>]) -> (Vec<NodeChannelReport>, Vec<f32>) {
    let channels = file.channels.len();
    let (mut as_before, mut by_float, mut apart) = (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
    let mut errors: Vec<Vec<f64>> = vec![Vec::with_capacity(checks.len()); channels];
    for input in checks {
        let (integers, floats) = (file.predict(input), float.foretell(input));
        for channel in 0..channels {
            let newest = channel * file.steps + file.steps - 1;
            let (now, before) = (f64::from(input[newest]), f64::from(input[newest - 1]));
            let (integer, float) = (f64::from(integers[channel]), f64::from(floats[channel] * MOST));
            as_before[channel] += (now - before).powi(2);
            by_float[channel] += (now - float).powi(2);
            apart[channel] += (integer - float).powi(2);
            errors[channel].push((now - integer).abs());
        }
    }
    let mut thresholds = Vec::new();
    let mut reports = Vec::new();
    for (channel, errors) in errors.iter_mut().enumerate() {
        let unit = f64::from(file.normal[channel].1 / UNIT);
        let root = |sum: f64| (sum / checks.len() as f64).sqrt() * unit;
        let by_integer: f64 = errors.iter().map(|error| error * error).sum();
        errors.sort_unstable_by(f64::total_cmp);
        let high = errors[((checks.len() - 1) as f64 * (1.0 - BEYOND)).floor() as usize];
        let threshold = (MARGIN * high).max(LEAST_THRESHOLD);
        thresholds.push(threshold as f32 / UNIT);
        reports.push(NodeChannelReport {
            channel: file.channels[channel],
            as_before: root(as_before[channel]),
            float: root(by_float[channel]),
            integer: root(by_integer),
            quantisation: root(apart[channel]),
            resolution: unit,
            threshold: threshold * unit,
        });
    }
    (reports, thresholds)
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::Quantity;

    /// Two channels of which the second is the first one turned round, with a daily course and a little noise.
    fn samples(seed: u64) -> NodeSamples {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut noise = || rng.random_range(-0.05..0.05);
        let mut track = |shift: f64| -> Vec<Vec<f64>> {
            let course = |n: u32| 8.0 * (f64::from(n) / 72.0 * std::f64::consts::TAU + shift).sin();
            (0..600).map(|n| vec![20.0 + course(n) + noise(), 60.0 - 4.0 * course(n) + noise()]).collect()
        };
        let channels = vec![Channel::of(Quantity::AirTemperature), Channel::of(Quantity::RelativeHumidity)];
        NodeSamples { channels, tracks: vec![track(0.0), track(1.0), track(2.5)] }
    }

    fn options() -> NodeOptions {
        let version = "1.0.0".parse().unwrap();
        NodeOptions { version, seed: 3, epochs: 60, steps: 4, hidden: 8, learning_rate: 3e-3 }
    }

    #[test]
    fn a_trained_model_foretells_better_than_that_nothing_changes_and_loses_little_in_integers() {
        let trained = train_node(&options(), &samples(1), &samples(2), |_, _| {}).unwrap();
        let report = &trained.report;
        assert_eq!(NodeModelFile::decode(&trained.bytes), Ok(trained.file.clone()));
        for channel in &report.channels {
            assert!(channel.float < 0.6 * channel.as_before, "{channel:?}");
            assert!(channel.integer < 0.9 * channel.as_before, "{channel:?}");
            // Rounding alone puts the two a third of a step apart; weights of eight bits another step.
            assert!(channel.quantisation < 2.0 * channel.resolution, "{channel:?}");
        }
        assert!(report.false_alerts * 500 <= report.held_out, "{report:?}");
        // A leap by a fifth of the course is unusual.
        let file = &trained.file;
        let mut input = inputs(&samples(2), &file.normal, 4)[200].clone();
        input[3] = input[3].saturating_add((3.2 / f64::from(file.normal[0].1) * 16.0) as i8);
        assert!(file.errors(&input)[0] > f64::from(file.thresholds[0]));
        assert_eq!(train_node(&options(), &samples(1), &samples(2), |_, _| {}).unwrap().bytes, trained.bytes);
    }

    #[test]
    fn what_is_too_large_or_too_little_is_refused() {
        let large = NodeOptions { hidden: 33, ..options() };
        let error = train_node(&large, &samples(1), &samples(2), |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("33"), "{error}");
        let few = NodeSamples { tracks: vec![samples(1).tracks[0][..20].to_vec()], ..samples(1) };
        let error = train_node(&options(), &few, &samples(2), |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("17 samples"), "{error}");
    }
}
