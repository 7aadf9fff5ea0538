//! Graphs that say something else than a gateway can use, or nothing sensible.

use tract_onnx::pb::tensor_proto::DataType;

use crate::hostile::{LIMITS, graphs};
use crate::onnx::{MEAN, manifest, tensor_info};
use crate::{assert_all_refused, assert_refused, verify};

#[test]
fn operators_that_are_not_there_are_named_all_at_once() {
    assert_refused(&graphs::unknown_operators());
}

#[test]
fn a_function_of_the_model_is_named_as_such() {
    assert_refused(&graphs::function());
}

#[test]
fn a_loop_without_end() {
    assert_refused(&graphs::endless_loop());
}

#[test]
fn a_graph_that_runs_in_a_circle() {
    assert_refused(&graphs::circle());
}

#[test]
fn a_branch_that_needs_its_own_result() {
    assert_refused(&graphs::recursion());
}

#[test]
fn tensors_that_nobody_gives_or_two() {
    assert_all_refused(&graphs::wrong_tensors());
}

#[test]
fn a_graph_that_nests_too_deeply() {
    assert_refused(&graphs::deep());
}

#[test]
fn operator_sets_that_are_too_old_too_new_or_not_said() {
    assert_all_refused(&graphs::operator_sets());
}

#[test]
fn inputs_of_another_type_shape_or_number() {
    assert_all_refused(&graphs::inputs());
}

#[test]
fn outputs_of_another_shape_or_number() {
    assert_all_refused(&graphs::outputs());
    // Among several, the one with that name is taken.
    let mut onnx = graphs::two_outputs();
    onnx.graph().output.push(tensor_info("scores", DataType::Float, &["N", "2"]));
    let bytes = onnx.bytes();
    verify(&bytes, &manifest("1.0.0", &bytes, &MEAN), &LIMITS).unwrap();
}

#[test]
fn answers_that_are_wrong_or_no_numbers() {
    assert_all_refused(&graphs::answers());
}
