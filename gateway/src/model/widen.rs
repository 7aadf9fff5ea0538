//! Constants that a graph spreads over a tensor, laid out as wide as that tensor.
//!
//! tract goes through elements with vector instructions where both operands lie alike in memory. A constant of one value for
//! each feature is spread while it runs, a row of a dozen features at a time; then that, and no arithmetic, is most of a
//! model's time. The values are the same, and so is the result, to the last bit.

use tract_onnx::prelude::{SpecialOps as _, Tensor, TractResult, TypedModel};
use tract_onnx::tract_core::model::InletId;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::logic::Iff;

/// Most values that the constants of one graph get together: 2 MiB of `f32`. What is beyond stays narrow.
const MOST_VALUES: usize = 1 << 19;

/// Widens the constants of an optimised graph whose shapes are known. It is to be optimised again afterwards.
///
/// # Errors
/// When tract does not take it.
pub fn widen(model: &mut TypedModel) -> TractResult<()> {
    let mut left = MOST_VALUES;
    for id in 0..model.nodes.len() {
        for (slot, shape) in narrow(model, id) {
            let values = shape.iter().product();
            let (Some(rest), Some(constant)) = (left.checked_sub(values), constant(model, id, slot)) else { continue };
            left = rest;
            let wide = constant.broadcast_to_shape(&shape)?;
            let name = format!("{}.wide.{slot}", model.nodes[id].name);
            let wide = model.add_const(name, wide)?;
            model.add_edge(wide, InletId::new(id, slot))?;
        }
    }
    Ok(())
}

/// The inputs of a node that are narrower constants than its output, each with the shape that they are spread to.
fn narrow(model: &TypedModel, id: usize) -> Vec<(usize, Vec<usize>)> {
    let node = &model.nodes[id];
    if !node.op_is::<TypedBinOp>() && !node.op_is::<Iff>() {
        return Vec::new();
    }
    let Some(shape) = node.outputs[0].fact.shape.as_concrete() else { return Vec::new() };
    let is_narrow = |slot: &usize| constant(model, id, *slot).is_some_and(|constant| constant.shape() != shape);
    (0..node.inputs.len()).filter(is_narrow).map(|slot| (slot, shape.to_vec())).collect()
}

fn constant(model: &TypedModel, id: usize, slot: usize) -> Option<&Tensor> {
    model.outlet_fact(model.nodes[id].inputs[slot]).ok()?.konst.as_deref()
}

#[cfg(test)]
mod tests {
    use tract_onnx::prelude::{Datum, Framework, InferenceFact, InferenceModelExt, IntoRunnable, IntoTValue, tvec};

    use super::*;
    use crate::model::LoadedModel;

    const STEPS: usize = 96;
    const FEATURES: usize = 13;

    fn bits(model: &TypedModel, samples: usize, input: &[f32]) -> Vec<u32> {
        let input = Tensor::from_shape(&[samples, STEPS, FEATURES], input).unwrap();
        let outputs = model.clone().into_runnable().unwrap().run(tvec!(input.into_tvalue())).unwrap();
        let values = outputs[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
        values.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn the_base_model_gives_the_same_bits_and_spreads_nothing_any_more() {
        for samples in [1, 2, 16, 64] {
            let base = tract_onnx::onnx().model_for_read(&mut LoadedModel::base_files().0).unwrap();
            let shape = [samples, STEPS, FEATURES];
            let model = base.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape)).unwrap();
            let optimised = model.into_optimized().unwrap();
            let mut wide = optimised.clone();
            widen(&mut wide).unwrap();
            wide.optimize().unwrap();
            let spread = |model: &TypedModel| (0..model.nodes.len()).flat_map(|id| narrow(model, id)).count();
            assert!(spread(&optimised) >= 4, "it is the graph that it was");
            assert_eq!(spread(&wide), 0);

            // Soil, air and gaps in it: some channels are never there, and all miss something at times.
            let value = |at: usize| match at {
                _ if at % FEATURES >= 9 || at.is_multiple_of(97) => f32::NAN,
                _ => ((at * 7919) % 1009) as f32 / 31.0 - 4.0,
            };
            let input: Vec<f32> = (0..samples * STEPS * FEATURES).map(value).collect();
            assert_eq!(bits(&wide, samples, &input), bits(&optimised, samples, &input), "{samples} samples");
        }
    }
}
