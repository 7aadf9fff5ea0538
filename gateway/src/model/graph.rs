//! A graph that tract runs: planned for the sizes of batch that come, and one by one where it cannot do otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use proto::update::Reason;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{
    Datum, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, IntoTValue, Tensor, TractResult,
    TypedRunnableModel, tvec,
};

use super::error::{ModelError, failed_allocation};
use super::limits::Limit;
use super::sum::sum_densely;
use super::widen::widen;
use crate::contain::contained as contain;

/// Most samples in one run; more are run in several. A larger batch gains nothing, and its tensors (a hundred steps of a dozen
/// features each) no longer fit a core's cache: 256 took 20 % more time and 13 MiB more memory.
const MAX_BATCH: usize = 32;

/// Largest input of one sample, in values.
pub const MAX_INPUT_VALUES: usize = 1 << 16;

/// Largest input of one run, in values: 4 MiB.
pub const MAX_BATCH_VALUES: usize = 1 << 20;

/// One sample's shape, and how many scores it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many windows.
    pub steps: usize,
    /// How many values each.
    pub features: usize,
    /// How many scores; none when any number will do.
    pub scores: Option<usize>,
}

impl Shape {
    /// The number of values of one sample.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.steps * self.features
    }

    /// Most samples of this shape in one run, a power of two.
    #[must_use]
    pub fn max_batch(&self) -> usize {
        let fitting = (MAX_BATCH_VALUES / self.len()).clamp(1, MAX_BATCH);
        1 << fitting.ilog2()
    }
}

/// A graph that can be run.
pub struct Graph {
    model: InferenceModel,
    shape: Shape,
    /// What the process may take; none where nothing limits it.
    memory: Option<Limit>,
    /// By batch size, a power of two: tract optimises for a known size, and not every graph runs with an unknown one.
    plans: BTreeMap<usize, Arc<TypedRunnableModel>>,
    one_by_one: bool,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("shape", &self.shape)
            .field("one_by_one", &self.one_by_one)
            .finish_non_exhaustive()
    }
}

impl Graph {
    /// A graph from a file that was read, with the output at that place. `memory` is what the process may take.
    ///
    /// # Errors
    /// When tract does not take it.
    pub fn new(proto: &ModelProto, output: usize, shape: Shape, memory: Option<Limit>) -> Result<Self, ModelError> {
        let model = contained(memory.as_ref(), || {
            let mut model = tract_onnx::onnx().model_for_proto_model(proto)?;
            let chosen = model.output_outlets()?.get(output).copied();
            model.select_output_outlets(chosen.as_slice())?;
            Ok(model)
        })?;
        Ok(Self { model, shape, memory, plans: BTreeMap::new(), one_by_one: false })
    }

    /// From now on every sample is run by itself.
    pub fn run_one_by_one(&mut self) {
        self.one_by_one = true;
        self.plans.retain(|size, _| *size == 1);
    }

    /// Runs any number of samples that lie row-major in `input`, `[n, steps, features]`, and gives `[n, scores]`.
    ///
    /// # Errors
    /// When the runtime fails or panics, gives another shape, or something that is not a number.
    pub fn run(&mut self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let sample = self.shape.len();
        let most = if self.one_by_one { 1 } else { self.shape.max_batch() };
        let mut scores = Vec::new();
        for chunk in input.chunks(most * sample) {
            let samples = chunk.len() / sample;
            let size = if self.one_by_one { 1 } else { samples.next_power_of_two() };
            let output = if samples == size {
                self.run_batch(size, chunk)?
            } else {
                // The padding's scores are thrown away; missing values are what a model must bear anyway.
                let padding = vec![f32::NAN; (size - samples) * sample];
                self.run_batch(size, &[chunk, &padding].concat())?
            };
            scores.extend_from_slice(&output[..samples * (output.len() / size)]);
        }
        let width = scores.len() / (input.len() / sample).max(1);
        match scores.iter().position(|score| !score.is_finite()) {
            None => Ok(scores),
            Some(at) => {
                let text =
                    format!("output {} of sample {} is {}, expected a number", at % width, at / width, scores[at]);
                Err(ModelError::new(Reason::NotANumber, text))
            }
        }
    }

    /// Runs a batch of exactly `size`.
    fn run_batch(&mut self, size: usize, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let shape = [size, self.shape.steps, self.shape.features];
        let plan = match self.plans.get(&size) {
            Some(plan) => Arc::clone(plan),
            None => {
                let plan = contained(self.memory.as_ref(), || plan(self.model.clone(), shape))?;
                self.plans.insert(size, Arc::clone(&plan));
                plan
            }
        };
        let (datum_type, found, scores) = contained(self.memory.as_ref(), || {
            let outputs = plan.run(tvec!(Tensor::from_shape(&shape, input)?.into_tvalue()))?;
            // A graph has the one output that was chosen.
            let output = &outputs[0];
            let (datum_type, shape) = (output.datum_type(), output.shape().to_vec());
            let scores = if datum_type == f32::datum_type() {
                output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()
            } else {
                Vec::new()
            };
            Ok((datum_type, shape, scores))
        })?;
        if datum_type != f32::datum_type() {
            let text = format!("gives values of type {datum_type:?}, expected float32");
            return Err(ModelError::new(Reason::Unsupported, text));
        }
        let right = match (found.as_slice(), self.shape.scores) {
            ([samples, width], Some(scores)) => *samples == size && *width == scores,
            ([samples, width], None) => *samples == size && *width > 0,
            _ => false,
        };
        if right {
            return Ok(scores);
        }
        let expected = self.shape.scores.map_or("scores".to_owned(), |scores| scores.to_string());
        let text = format!("gives a tensor of shape {found:?} for {size} samples, expected [{size}, {expected}]");
        Err(ModelError::new(Reason::Unsupported, text))
    }
}

fn plan(model: InferenceModel, shape: [usize; 3]) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = model.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?.into_optimized()?;
    sum_densely(&mut model)?;
    widen(&mut model)?;
    model.optimize()?;
    model.into_runnable()
}

/// Runs `work` so that both an error and a panic of the runtime are an error of the model, which may take `memory`.
fn contained<T>(memory: Option<&Limit>, work: impl FnOnce() -> TractResult<T>) -> Result<T, ModelError> {
    match contain(work) {
        Ok(Ok(value)) => Ok(value),
        // The alternate form shows all causes of an error.
        Ok(Err(error)) => Err(ModelError::new(Reason::Unsupported, format_args!("the runtime refuses it: {error:#}"))),
        Err(said) => Err(match failed_allocation(&said) {
            Some(wanted) => {
                let limit = memory.map_or_else(|| "memory that there is".to_owned(), Limit::as_size);
                ModelError::new(Reason::Memory, format_args!("needs {wanted}, more than is left of the {limit}"))
            }
            None => ModelError::new(Reason::Panic, format_args!("the runtime panicked: {said}")),
        }),
    }
}
