//! Sums over an axis that is not the last, of tensors that lie densely in memory.
//!
//! tract goes through such a sum by views with any strides, and what it gives has strides by which the operators that follow
//! take their slow ways, too. A model that looks at several of its windows together spends a third of its time so. Here a
//! sum goes row by row, and lies densely. The order of the additions is the same, and so is the result, to the last bit.

use tract_onnx::prelude::{
    Datum as _, IntoTValue as _, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel, tvec,
};
use tract_onnx::tract_core::internal::{DatumExt as _, EvalContext, EvalOp, Op, StaticName, TypedOp};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_core::{args_1, as_op, op_as_typed_op, op_out_of_plan};

/// Has an optimised graph whose shapes are known sum so wherever it can.
///
/// # Errors
/// When tract does not know what a sum is of.
pub fn sum_densely(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes.len() {
        let node = &model.nodes[id];
        let Some(reduce) = node.op_as::<Reduce>() else { continue };
        if let Some(sum) = SumAxis::instead(reduce, model.outlet_fact(node.inputs[0])?) {
            model.nodes[id].op = Box::new(sum);
        }
    }
    Ok(())
}

/// The sum over one axis, which stays as one of length 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SumAxis {
    axis: usize,
}

impl SumAxis {
    /// What does the same as `reduce` with such an input. Of rows of a single value tract sums several at once, in another
    /// order; of the first axis it sums blocks.
    fn instead(reduce: &Reduce, input: &TypedFact) -> Option<Self> {
        let [axis] = *reduce.axes else { return None };
        let shape = input.shape.as_concrete().filter(|_| input.datum_type == f32::datum_type())?;
        let row: usize = shape[axis + 1..].iter().product();
        (reduce.reducer == Reducer::Sum && axis > 0 && row > 1).then_some(Self { axis })
    }
}

impl Op for SumAxis {
    fn name(&self) -> StaticName {
        "SumAxis".into()
    }

    op_as_typed_op!();
}

impl EvalOp for SumAxis {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let mut shape = input.shape().to_vec();
        let rows = std::mem::replace(&mut shape[self.axis], 1);
        let row: usize = shape[self.axis + 1..].iter().product();
        let mut output = Tensor::zero::<f32>(&shape)?;
        if rows > 0 {
            let (input, mut view) = (input.try_as_plain_ram()?, output.try_as_plain_ram_mut()?);
            let summed = input.as_slice::<f32>()?.chunks_exact(rows * row);
            for (sums, rows) in view.as_slice_mut::<f32>()?.chunks_exact_mut(row).zip(summed) {
                for values in rows.chunks_exact(row) {
                    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
            }
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for SumAxis {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        shape[self.axis] = 1.into();
        Ok(tvec!(f32::fact(shape)))
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::prelude::{IntoRunnable as _, SpecialOps as _};

    use super::*;

    /// A graph that sums over `axis`, once as tract does it, and once with what stands in its place.
    fn both(shape: &[usize], axis: usize, reducer: Reducer) -> [TypedModel; 2] {
        let mut model = TypedModel::default();
        let input = model.add_source("input", f32::fact(shape)).unwrap();
        let sum = model.wire_node("sum", Reduce { axes: tvec!(axis), reducer }, &[input]).unwrap();
        model.select_output_outlets(&sum).unwrap();
        let mut dense = model.clone();
        sum_densely(&mut dense).unwrap();
        [model, dense]
    }

    fn run(model: TypedModel, input: &Tensor) -> (Vec<usize>, Vec<u32>) {
        let output = model.into_runnable().unwrap().run(tvec!(input.clone().into_tvalue())).unwrap().remove(0);
        let values =
            output.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
        (output.shape().to_vec(), values)
    }

    fn is_dense(model: &TypedModel) -> bool {
        model.nodes[1].op_is::<SumAxis>()
    }

    #[test]
    fn a_sum_has_the_bits_that_tract_gives_it() {
        let value = |at: usize| match at % 11 {
            0 => -0.0,
            7 if at.is_multiple_of(3) => f32::NAN,
            _ => ((at * 7919) % 1009) as f32 / 31.0 - 16.0,
        };
        for (shape, axis) in [
            (vec![64, 24, 4, 13], 2),
            (vec![1, 96, 13], 1),
            (vec![3, 12, 1, 13], 1),
            (vec![2, 1, 5], 1),
            (vec![2, 0, 5], 1),
            (vec![0, 4, 5], 1),
            (vec![2, 300, 2], 1),
        ] {
            let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
            let input = Tensor::from_shape(&shape, &values).unwrap();
            let [model, dense] = both(&shape, axis, Reducer::Sum);
            assert!(is_dense(&dense));
            assert_eq!(run(dense, &input), run(model, &input), "{shape:?} over {axis}");
        }
    }

    #[test]
    fn what_is_summed_in_another_order_or_not_at_all_stays_as_it_is() {
        for (shape, axis, reducer) in [
            (vec![4, 13], 0, Reducer::Sum),
            (vec![4, 13], 1, Reducer::Sum),
            (vec![4, 13, 1], 1, Reducer::Sum),
            (vec![4, 5, 13], 1, Reducer::Max),
        ] {
            assert!(!is_dense(&both(&shape, axis, reducer)[1]), "{shape:?} over {axis}");
        }
    }
}
