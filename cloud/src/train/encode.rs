//! What the networks see of a day: the part of the graph before them, in Rust.
//!
//! A sample is `[steps, features]` with NaN for what is missing. Values are scaled, pooled to hours, the hours to [`BINS`], and
//! each bin is taken relative to the channel's own *reference* of twelve hours ago. So the networks see changes, which are
//! the same in clay and in sand, and the level only once. [`super::graph`] writes the same steps in ONNX.

use proto::manifest::{Feature, Input, Statistic};
use proto::{Channel, Quantity};

use super::corpus::Corpus;

/// Hours that a sample spans.
pub const HOURS: usize = 24;

/// A stretch of the past, in hours before the end: from the nearer to the farther.
#[derive(Debug, Clone, Copy)]
pub struct Bin(pub usize, pub usize);

/// The bin that all others are taken relative to.
pub const REFERENCE: Bin = Bin(12, 14);

/// The other bins. The first is what is judged; the first five come after the reference.
pub const BINS: [Bin; 8] =
    [Bin(0, 1), Bin(1, 3), Bin(3, 6), Bin(6, 9), Bin(9, 12), Bin(14, 18), Bin(18, 22), Bin(22, 24)];

/// How many of [`BINS`] come after the reference; a channel's own are hidden from its network.
pub const RECENT: usize = 5;

/// Hours in which sudden changes are looked for: all since the reference.
pub const SUDDEN_HOURS: usize = REFERENCE.0;

/// Rows of the encoding for each channel: the reference's level, the bins, sudden rises and falls, and whether the
/// reference and the present are known.
pub const ROWS: usize = 1 + BINS.len() + 4;

/// The row of the first bin.
pub const FIRST_BIN: usize = 1;

/// Bounds of what a network sees, in scales; beyond them a value says no more.
pub const BOUND: f32 = 10.0;

/// Bounds of scaled values before pooling.
pub const RAW_BOUND: f32 = 50.0;

/// One sample, encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// `[ROWS, features]`
    pub rows: Vec<f32>,
    /// How far each target moved since its reference, in scales, within [`BOUND`].
    pub moved: Vec<f32>,
    /// 1 where the present, the reference and the oldest bin are known, so that there is a day to judge by; 0 where not.
    pub known: Vec<f32>,
}

/// Many samples, one after the other, and where each station begins.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// `[n, ROWS * features]`
    pub rows: Vec<f32>,
    /// `[n, targets]`
    pub moved: Vec<f32>,
    /// `[n, targets]`
    pub known: Vec<f32>,
    /// The first sample of each station.
    pub starts: Vec<usize>,
    count: usize,
}

impl Samples {
    /// Samples of one station in which nothing is known, each `width` wide.
    #[cfg(test)]
    pub fn blank(count: usize, width: usize) -> Self {
        Self {
            rows: vec![0.0; count * width],
            moved: vec![0.0; count],
            known: vec![0.0; count],
            starts: vec![0],
            count,
        }
    }

    /// How many.
    pub const fn len(&self) -> usize {
        self.count
    }
}

/// The scales, and what the targets are.
#[derive(Debug, Clone)]
pub struct Encoder {
    input: Input,
    targets: Vec<usize>,
    /// Subtracted from each feature.
    pub centres: Vec<f32>,
    /// Divides each feature then.
    pub scales: Vec<f32>,
    /// Divides changes of a scaled feature.
    pub change_scales: Vec<f32>,
    /// A change within an hour that counts as sudden, of a scaled feature.
    pub sudden: Vec<f32>,
}

/// The input of a model for these channels: the mean of each, over a day.
pub fn input(channels: &[Channel], window_s: u32) -> Input {
    let features = channels.iter().map(|channel| Feature { channel: *channel, statistic: Statistic::Mean }).collect();
    let per_hour = 3600 / window_s.clamp(1, 3600);
    Input { features, steps: HOURS as u32 * per_hour, window_s }
}

/// A change within an hour that nature makes and a drifting sensor does not, in the quantity's unit.
fn sudden_change(quantity: Quantity) -> f64 {
    match quantity {
        Quantity::SoilMoisture => 0.012,
        Quantity::SoilEc => 0.05,
        Quantity::SoilTemperature => 1.0,
        Quantity::AirTemperature => 3.0,
        Quantity::RelativeHumidity => 10.0,
        Quantity::Pressure => 2.0,
        Quantity::Battery => 0.1,
        Quantity::Nitrate | Quantity::Phosphorus | Quantity::Potassium => 10.0,
        Quantity::WindSpeed => 2.0,
        Quantity::SolarRadiation => 200.0,
        Quantity::Rain => 0.2,
        Quantity::LeafWetness => 20.0,
        Quantity::Rssi => 6.0,
    }
}

impl Encoder {
    /// Scales for `input` and the `targets` among its channels, so that what the networks see is of the order of one.
    pub fn fit(input: Input, targets: &[Channel], corpus: &Corpus) -> Self {
        let mut encoder = Self::unscaled(input, targets);
        let features = encoder.input.features.len();

        // Levels, from single windows; every fifth is enough for a mean.
        let mut levels = vec![Moments::default(); features];
        for track in corpus.tracks() {
            for end in track.ends(corpus.window_s()).step_by(5) {
                let start = end.plus_secs(-i64::from(corpus.window_s()));
                for (feature, level) in encoder.input.features.iter().zip(&mut levels) {
                    if let Some(stats) = track.stats(corpus.window_s(), start, feature.channel) {
                        level.add(feature.statistic.of(&stats));
                    }
                }
            }
        }
        for (i, level) in levels.iter().enumerate() {
            encoder.centres[i] = level.mean as f32;
            encoder.scales[i] = level.deviation().max(1e-3) as f32;
            encoder.sudden[i] = sudden_change(encoder.input.features[i].channel.quantity) as f32 / encoder.scales[i];
        }

        // Changes, as encoded with these scales.
        let mut changes = vec![Moments::default(); features];
        encoder.each(corpus, 16, |sample| {
            let pooled = encoder.pool(sample);
            for (i, change) in changes.iter_mut().enumerate() {
                if pooled.known[0][i] > 0.0 && pooled.reference_known[i] > 0.0 {
                    change.add(f64::from(pooled.bins[0][i] - pooled.reference[i]));
                }
            }
        });
        for (i, change) in changes.iter().enumerate() {
            encoder.change_scales[i] = change.deviation().max(1e-3) as f32;
        }
        encoder
    }

    /// An encoder that leaves values as they are, and calls no change sudden.
    pub fn unscaled(input: Input, targets: &[Channel]) -> Self {
        let features = input.features.len();
        let targets = targets.iter().filter_map(|t| input.features.iter().position(|f| f.channel == *t)).collect();
        let ones = vec![1.0; features];
        Self {
            input,
            targets,
            centres: vec![0.0; features],
            scales: ones.clone(),
            change_scales: ones,
            sudden: vec![f32::MAX; features],
        }
    }

    /// What goes into the model.
    pub const fn input(&self) -> &Input {
        &self.input
    }

    /// The place of each target among the features.
    pub fn targets(&self) -> &[usize] {
        &self.targets
    }

    /// Width of an encoded sample.
    pub fn width(&self) -> usize {
        ROWS * self.input.features.len()
    }

    /// Whether the network of a target may see a column of the encoding: not its own channel's present, nor how it came there.
    pub fn sees(&self, target: usize, column: usize) -> bool {
        let (row, feature) = (column / self.input.features.len(), column % self.input.features.len());
        feature != self.targets[target] || !(FIRST_BIN..FIRST_BIN + RECENT).contains(&row)
    }

    /// Encodes one sample, `[steps, features]`.
    pub fn encode(&self, sample: &[f32]) -> Encoded {
        let features = self.input.features.len();
        let pooled = self.pool(sample);
        let mut rows = vec![0.0; self.width()];
        let mut moved = vec![0.0; features];
        let mut known = vec![0.0; features];
        for i in 0..features {
            let reference_known = pooled.reference_known[i];
            let mut set = |row: usize, value: f32| rows[row * features + i] = value;
            set(0, pooled.reference[i].clamp(-BOUND, BOUND));
            for (bin, (values, bin_known)) in pooled.bins.iter().zip(&pooled.known).enumerate() {
                let change = (values[i] - pooled.reference[i]) * bin_known[i] * reference_known / self.change_scales[i];
                let change = change.clamp(-BOUND, BOUND);
                set(FIRST_BIN + bin, change);
                if bin == 0 {
                    moved[i] = change;
                }
            }
            known[i] = reference_known * pooled.known[0][i] * pooled.known[BINS.len() - 1][i];
            let after = FIRST_BIN + BINS.len();
            set(after, (pooled.rises[i] / self.change_scales[i]).min(BOUND));
            set(after + 1, (pooled.falls[i] / self.change_scales[i]).min(BOUND));
            set(after + 2, reference_known);
            set(after + 3, pooled.known[0][i]);
        }
        let of_targets = |all: &[f32]| self.targets.iter().map(|t| all[*t]).collect();
        Encoded { rows, moved: of_targets(&moved), known: of_targets(&known) }
    }

    /// Every sample of a corpus that judges something, at every `stride`th window; stations one after the other.
    pub fn samples(&self, corpus: &Corpus, stride: u32) -> Samples {
        let mut samples = Samples::default();
        let mut station = usize::MAX;
        self.each_of(corpus, stride, |track, sample| {
            let encoded = self.encode(sample);
            if encoded.known.iter().all(|k| *k == 0.0) {
                return;
            }
            if track != station {
                samples.starts.push(samples.count);
                station = track;
            }
            samples.rows.extend_from_slice(&encoded.rows);
            samples.moved.extend_from_slice(&encoded.moved);
            samples.known.extend_from_slice(&encoded.known);
            samples.count += 1;
        });
        samples
    }

    /// A sample with as little missing as there is.
    pub fn fullest(&self, corpus: &Corpus) -> Option<Vec<f32>> {
        let mut best: Option<(usize, Vec<f32>)> = None;
        self.each(corpus, 37, |sample| {
            let missing = sample.iter().filter(|v| v.is_nan()).count();
            if best.as_ref().is_none_or(|(least, _)| missing < *least) {
                best = Some((missing, sample.to_vec()));
            }
        });
        best.map(|(_, sample)| sample)
    }

    fn each(&self, corpus: &Corpus, stride: u32, mut see: impl FnMut(&[f32])) {
        self.each_of(corpus, stride, |_, sample| see(sample));
    }

    fn each_of(&self, corpus: &Corpus, stride: u32, mut see: impl FnMut(usize, &[f32])) {
        let window_s = corpus.window_s();
        let mut sample = vec![f32::NAN; self.input.len()];
        for (place, track) in corpus.tracks().enumerate() {
            // Stations are taken at different hours, or a stride that divides a day would see only some of them.
            for end in track.ends(window_s).skip(place % stride.max(1) as usize).step_by(stride.max(1) as usize) {
                proto::tensor::fill(
                    &self.input,
                    end,
                    |channel| move |start| track.stats(window_s, start, channel),
                    &mut sample,
                );
                see(place, &sample);
            }
        }
    }

    fn pool(&self, sample: &[f32]) -> Pooled {
        let features = self.input.features.len();
        let per_hour = self.input.steps as usize / HOURS;
        let mut hours = vec![vec![0.0f32; features]; HOURS];
        let mut hours_known = vec![vec![0.0f32; features]; HOURS];
        for hour in 0..HOURS {
            for i in 0..features {
                let (mut sum, mut count) = (0.0f32, 0.0f32);
                for step in 0..per_hour {
                    let value = sample[(hour * per_hour + step) * features + i];
                    if !value.is_nan() {
                        sum += ((value - self.centres[i]) / self.scales[i]).clamp(-RAW_BOUND, RAW_BOUND);
                        count += 1.0;
                    }
                }
                hours[hour][i] = sum / count.max(1.0);
                hours_known[hour][i] = count.min(1.0);
            }
        }
        let bin = |Bin(near, far): Bin, i: usize| {
            let range = HOURS - far..HOURS - near;
            let count: f32 = range.clone().map(|h| hours_known[h][i]).sum();
            let sum: f32 = range.map(|h| hours[h][i]).sum();
            (sum / count.max(1.0), count.min(1.0))
        };
        let (reference, reference_known) = (0..features).map(|i| bin(REFERENCE, i)).unzip();
        let (mut bins, mut known) = (Vec::with_capacity(BINS.len()), Vec::with_capacity(BINS.len()));
        for b in BINS {
            let (values, values_known): (Vec<f32>, Vec<f32>) = (0..features).map(|i| bin(b, i)).unzip();
            bins.push(values);
            known.push(values_known);
        }
        let (mut rises, mut falls) = (vec![0.0f32; features], vec![0.0f32; features]);
        for hour in HOURS - SUDDEN_HOURS..HOURS {
            for i in 0..features {
                let both = hours_known[hour][i] * hours_known[hour - 1][i];
                let step = (hours[hour][i] - hours[hour - 1][i]) * both;
                rises[i] += (step - self.sudden[i]).max(0.0);
                falls[i] += (-step - self.sudden[i]).max(0.0);
            }
        }
        Pooled { reference, reference_known, bins, known, rises, falls }
    }
}

/// A sample by bin, scaled.
struct Pooled {
    reference: Vec<f32>,
    reference_known: Vec<f32>,
    bins: Vec<Vec<f32>>,
    known: Vec<Vec<f32>>,
    /// Sum of what exceeded a sudden change, upwards.
    rises: Vec<f32>,
    /// And downwards.
    falls: Vec<f32>,
}

/// Mean and deviation, by Welford.
#[derive(Debug, Clone, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn deviation(&self) -> f64 {
        if self.count > 1.0 { (self.squares / self.count).sqrt() } else { 1.0 }
    }
}
