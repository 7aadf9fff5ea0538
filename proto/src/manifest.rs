//! The manifest beside a model's ONNX file: what it needs, what it gives, and how to know that it works.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::aggregate::Stats;
use crate::channel::{Channel, InvalidChannel};

/// The most input features, steps and outputs of a model; they bound what a manifest can make a gateway allocate.
pub const MAX_FEATURES: usize = 256;
/// See [`MAX_FEATURES`].
pub const MAX_STEPS: u32 = 4_096;
/// The most golden samples.
pub const MAX_GOLDEN: usize = 64;
/// The most metrics.
pub const MAX_METRICS: usize = 64;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A score for each channel: above the threshold, it is not as it should be.
    Anomaly,
}

impl Task {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
        }
    }
}

/// Which number of an aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statistic {
    /// The least.
    Min,
    /// The mean.
    Mean,
    /// The greatest.
    Max,
    /// The population standard deviation.
    Stddev,
}

impl Statistic {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Min, "min"), (Self::Mean, "mean"), (Self::Max, "max"), (Self::Stddev, "stddev")];

    /// That number of `stats`.
    #[must_use]
    #[inline]
    pub fn of(self, stats: &Stats) -> f64 {
        match self {
            Self::Min => stats.min,
            Self::Mean => stats.mean,
            Self::Max => stats.max,
            Self::Stddev => stats.stddev,
        }
    }
}

/// One input of a model at each step: `soil_moisture_20cm.mean`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Feature {
    /// The channel.
    pub channel: Channel,
    /// The number of its aggregate.
    pub statistic: Statistic,
}

/// A text that is no feature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFeature {
    /// The channel is none.
    #[error(transparent)]
    Channel(#[from] InvalidChannel),
    /// The statistic is none.
    #[error("feature {value:?} must end with .min, .mean, .max or .stddev")]
    Statistic {
        /// The whole text.
        value: String,
    },
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Statistic::ALL.iter().find(|(s, _)| *s == self.statistic).map_or("", |(_, name)| name);
        write!(f, "{}.{name}", self.channel)
    }
}

impl FromStr for Feature {
    type Err = InvalidFeature;

    fn from_str(value: &str) -> Result<Self, InvalidFeature> {
        let refused = || InvalidFeature::Statistic { value: value.chars().take(64).collect() };
        let (channel, name) = value.rsplit_once('.').ok_or_else(refused)?;
        let (statistic, _) = *Statistic::ALL.iter().find(|(_, n)| *n == name).ok_or_else(refused)?;
        Ok(Self { channel: channel.parse()?, statistic })
    }
}

impl TryFrom<String> for Feature {
    type Error = InvalidFeature;

    fn try_from(value: String) -> Result<Self, InvalidFeature> {
        value.parse()
    }
}

impl From<Feature> for String {
    fn from(feature: Feature) -> Self {
        feature.to_string()
    }
}

/// What goes in: a tensor `[N, steps, features]` of `f32` named `input`, missing values as NaN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The last axis, in order.
    pub features: Vec<Feature>,
    /// How many windows.
    pub steps: u32,
    /// The length of each, in seconds.
    pub window_s: u32,
}

impl Input {
    /// The number of values of one sample: `steps * features`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps as usize * self.features.len()
    }

    /// Whether there is nothing to put in; never so in a checked manifest.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What comes out: a tensor `[N, scores]` of `f32` named `scores`, in units of the channel's usual error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The channel of each score, in order.
    pub scores: Vec<Channel>,
}

/// What a gateway lets the model take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The size of the ONNX file, in bytes.
    pub max_bytes: u64,
    /// The time for one sample, in milliseconds.
    pub max_latency_ms: u64,
    /// The memory while it runs, in bytes.
    pub max_memory_bytes: u64,
}

/// An input and what the model must answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Row-major `[steps, features]`; a missing value is written as `nan`.
    pub input: Vec<f64>,
    /// One for each score.
    pub output: Vec<f64>,
}

/// All that a gateway and a person need to know of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name: 1 to 64 characters of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Its version: three numbers.
    pub version: String,
    /// What it is for.
    pub task: Task,
    /// The score from which a window is an anomaly.
    pub threshold: f64,
    /// How far a golden output may be off.
    pub tolerance: f64,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub sha256: String,
    /// What it was trained on, in words that let somebody do it again.
    pub trained_on: String,
    /// The version that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// How good it is, as its trainer measured it, by the measure's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// What goes in.
    pub input: Input,
    /// What comes out.
    pub output: Output,
    /// What it may take.
    pub limits: Limits,
    /// Samples with their answers; at least one.
    pub golden: Vec<Golden>,
}

/// Why a text is no manifest.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// It is not TOML, or a key is missing, unknown or of another type.
    #[error("{0}")]
    Toml(String),
    /// Keys hold what they may not; all of them.
    #[error("{}", .0.join("; "))]
    Values(Vec<String>),
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// When it is not TOML of this shape, or keys hold what they may not: all of those at once.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self =
            toml::from_str(text).map_err(|e| ManifestError::Toml(e.to_string().trim_end().to_owned()))?;
        let wrong = manifest.check();
        if wrong.is_empty() { Ok(manifest) } else { Err(ManifestError::Values(wrong)) }
    }

    /// The manifest as TOML.
    ///
    /// # Errors
    /// Never for a checked manifest.
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        toml::to_string(self).map_err(|e| ManifestError::Toml(e.to_string()))
    }

    /// Whether the model answers samples with missing values: one of its golden samples has some. Else it is asked about
    /// whole samples only.
    #[must_use]
    pub fn takes_missing(&self) -> bool {
        self.golden.iter().any(|golden| golden.input.iter().any(|value| value.is_nan()))
    }

    /// What is wrong, a sentence each; nothing when all is well.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |holds: bool, key: &str, value: &dyn fmt::Debug, expected: &str| {
            if !holds {
                wrong.push(format!("{key}: {value:?} is not {expected}"));
            }
        };
        expect(is_name(&self.name), "name", &self.name, "1 to 64 characters of a-z, 0-9 and -");
        expect(is_version(&self.version), "version", &self.version, "three numbers like 1.0.0");
        if let Some(parent) = &self.parent {
            expect(is_version(parent), "parent", parent, "three numbers like 1.0.0");
        }
        expect(self.threshold.is_finite() && self.threshold > 0.0, "threshold", &self.threshold, "a number above 0");
        expect(self.tolerance.is_finite() && self.tolerance > 0.0, "tolerance", &self.tolerance, "a number above 0");
        expect(is_digest(&self.sha256), "sha256", &self.sha256, "64 characters of 0-9 and a-f");
        expect(self.metrics.len() <= MAX_METRICS, "metrics", &self.metrics.len(), "at most 64 metrics");
        for (name, value) in self.metrics.iter().take(MAX_METRICS) {
            expect(is_metric(name), "metrics", name, "1 to 64 characters of a-z, 0-9 and _");
            expect(value.is_finite(), &format!("metrics.{name}"), value, "a finite number");
        }

        let (features, scores) = (&self.input.features, &self.output.scores);
        expect((1..=MAX_FEATURES).contains(&features.len()), "input.features", &features.len(), "1 to 256 features");
        expect(distinct(features), "input.features", features, "a list without the same twice");
        expect((1..=MAX_STEPS).contains(&self.input.steps), "input.steps", &self.input.steps, "1 to 4096");
        expect(
            (1..=86_400).contains(&self.input.window_s),
            "input.window_s",
            &self.input.window_s,
            "1 to 86400 seconds",
        );
        expect((1..=MAX_FEATURES).contains(&scores.len()), "output.scores", &scores.len(), "1 to 256 channels");
        expect(distinct(scores), "output.scores", scores, "a list without the same twice");
        expect(self.limits.max_bytes > 0, "limits.max_bytes", &self.limits.max_bytes, "above 0");
        expect(self.limits.max_latency_ms > 0, "limits.max_latency_ms", &self.limits.max_latency_ms, "above 0");
        expect(self.limits.max_memory_bytes > 0, "limits.max_memory_bytes", &self.limits.max_memory_bytes, "above 0");

        expect((1..=MAX_GOLDEN).contains(&self.golden.len()), "golden", &self.golden.len(), "1 to 64 samples");
        for (n, golden) in self.golden.iter().enumerate() {
            let (input, output) = (golden.input.len(), golden.output.len());
            expect(
                input == self.input.len(),
                &format!("golden[{n}].input"),
                &input,
                &format!("{} values", self.input.len()),
            );
            expect(
                output == scores.len(),
                &format!("golden[{n}].output"),
                &output,
                &format!("{} values", scores.len()),
            );
            let finite = golden.output.iter().all(|v| v.is_finite()) && golden.input.iter().all(|v| !v.is_infinite());
            expect(
                finite,
                &format!("golden[{n}]"),
                &"an infinite or missing value",
                "finite (nan is for missing inputs)",
            );
        }
        wrong
    }
}

/// Whether the text can name a model.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether the text can be a SHA-256.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_metric(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Whether the text can be a model's version.
pub(crate) fn is_version(text: &str) -> bool {
    let numbers: Vec<&str> = text.split('.').collect();
    let number = |n: &str| {
        (1..=9).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || !n.starts_with('0'))
    };
    numbers.len() == 3 && numbers.into_iter().all(number)
}

fn distinct<T: Ord + Copy>(items: &[T]) -> bool {
    let mut sorted = items.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}
