//! Graphs that are meant to hang, flood or crash whoever reads or runs them.

use crate::hostile::bombs;
use crate::{assert_all_refused, assert_refused};

#[test]
fn a_tensor_of_gigabytes() {
    assert_all_refused(&bombs::gigabytes());
}

#[test]
fn a_tensor_of_terabytes_and_more() {
    assert_all_refused(&bombs::terabytes());
}

#[test]
fn a_constant_that_doubles_and_doubles() {
    assert_refused(&bombs::doubling());
}

#[test]
fn a_graph_over_which_the_loader_never_ends() {
    assert_refused(&bombs::endless_loading());
}

#[test]
fn graphs_over_which_the_loader_panics() {
    assert_all_refused(&bombs::panics());
}

#[test]
fn a_graph_over_which_the_loader_overflows_its_stack() {
    assert_refused(&bombs::stack_overflow());
}

#[test]
fn a_graph_of_very_many_nodes() {
    assert_refused(&bombs::many_nodes());
}

#[test]
fn a_model_that_wants_its_memory_only_when_it_runs() {
    assert_refused(&bombs::memory_when_run());
}

#[test]
fn a_model_that_is_too_slow() {
    assert_refused(&bombs::slow());
    // The gateway's own limit holds too.
    assert_refused(&bombs::slow_for_the_gateway());
}

#[test]
fn a_model_whose_batches_are_too_slow() {
    assert_refused(&bombs::slow_batches());
}

#[test]
fn a_model_that_never_ends_its_self_test() {
    assert_refused(&bombs::endless_self_test());
}
