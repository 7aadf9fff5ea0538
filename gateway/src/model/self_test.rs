//! What a model takes, measured in its runner before the gateway relies on it.

use std::io;
use std::time::{Duration, Instant};

use proto::Manifest;
use proto::update::{Reason, SelfTest};

use super::confine;
use super::error::{ModelError, grouped, size};
use super::graph::{Graph, MAX_INPUT_VALUES, Shape};
use super::limits::RunnerLimits;
use super::loaded::check_batch;
use super::report::CheckReport;

/// Runs before the first measured one: the first plans the graph and touches its memory.
const WARM_UP: usize = 2;

/// Measured runs of one sample; their median counts.
const RUNS: usize = 9;

/// Measured runs end after this time, when there are three at least.
const ENOUGH: Duration = Duration::from_secs(2);

/// What the process had used before it saw the model.
#[derive(Debug)]
pub struct Baseline {
    memory: u64,
    cpu_ms: u64,
    began: Instant,
}

impl Baseline {
    /// What it has used up to now.
    pub fn now() -> io::Result<Self> {
        Ok(Self { memory: confine::own_memory()?, cpu_ms: confine::cpu_ms()?, began: Instant::now() })
    }
}

/// Measures one sample, a full batch and the memory of all since `baseline`, and holds them to their limits.
pub fn run(
    graph: &mut Graph,
    shape: Shape,
    manifest: Option<&Manifest>,
    limits: &RunnerLimits,
    baseline: &Baseline,
) -> Result<SelfTest, ModelError> {
    let measured =
        |error: io::Error| ModelError::of_machine(Reason::Crash, format_args!("cannot be measured: {error}"));
    let sample = match manifest.and_then(|manifest| manifest.golden.first()) {
        Some(golden) => golden.input.iter().map(|value| *value as f32).collect(),
        None => vec![0.0; shape.len()],
    };
    let latency = latency(graph, &sample)?;
    let limit = limits.latency(manifest);
    if latency > Duration::from_millis(limit.value) {
        let text = format!("takes {} for one sample, more than the {}", time(latency), limit.as_time());
        return Err(ModelError::new(Reason::Latency, text));
    }

    let count = shape.max_batch();
    let batch = |graph: &mut Graph| match manifest {
        Some(manifest) => check_batch(graph, manifest, count),
        None => graph.run(&sample.repeat(count)).map(drop),
    };
    // On a busy machine the clock says little; the first run also plans the graph for this size.
    let before = confine::cpu_ms().map_err(measured)?;
    batch(graph)?;
    let taken = Duration::from_millis(confine::cpu_ms().map_err(measured)?.saturating_sub(before));
    if taken > RunnerLimits::batch() {
        let text = format!(
            "takes {} of the processor for a batch of {count} samples, more than the {} that are allowed",
            time(taken),
            time(RunnerLimits::batch())
        );
        return Err(ModelError::new(Reason::Latency, text));
    }
    let began = Instant::now();
    batch(graph)?;
    let together = began.elapsed();

    let memory = confine::peak_memory().map_err(measured)?.saturating_sub(baseline.memory);
    let limit = limits.memory(manifest);
    if memory > limit.value {
        let text = format!("took {} of memory, more than the {}", size(memory), limit.as_size());
        return Err(ModelError::new(Reason::Memory, text));
    }
    Ok(SelfTest {
        latency_us: micros(latency),
        batch_latency_us: micros(together / u32::try_from(count).unwrap_or(u32::MAX)),
        memory_bytes: memory,
        cpu_ms: confine::cpu_ms().map_err(measured)?.saturating_sub(baseline.cpu_ms),
        wall_ms: u64::try_from(baseline.began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// The median time for one sample.
fn latency(graph: &mut Graph, sample: &[f32]) -> Result<Duration, ModelError> {
    for _ in 0..WARM_UP {
        graph.run(sample)?;
    }
    let began = Instant::now();
    let mut times = Vec::with_capacity(RUNS);
    while times.len() < RUNS && (times.len() < 3 || began.elapsed() < ENOUGH) {
        let began = Instant::now();
        graph.run(sample)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// The shape of a sample, where the file alone says it.
pub fn declared_shape(report: &CheckReport) -> Option<Shape> {
    let [input] = report.inputs.as_slice() else { return None };
    let axes: Vec<Option<usize>> = input.shape.as_ref()?.iter().map(|axis| axis.parse().ok()).collect();
    match axes.as_slice() {
        [_, Some(steps), Some(features)] => {
            let values = steps.checked_mul(*features).filter(|values| (1..=MAX_INPUT_VALUES).contains(values));
            values.map(|_| Shape { steps: *steps, features: *features, scores: None })
        }
        _ => None,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time in the unit that reads best.
fn time(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{} ms", grouped(time.as_millis()))
    }
}
