//! Graphs that are meant to hang, flood or crash whoever reads or runs them.

use gateway::model::RunnerLimits;
use proto::update::Reason;
use tract_onnx::pb::tensor_proto::DataType;

use crate::onnx::{MEAN, Onnx, int, integers, ints, manifest, tensor_info};
use crate::{LIMITS, assert_refused, refusal, verify};

/// The mean, and to it the greatest of the tensor `bomb`, which is of zeros.
fn and_bomb(onnx: Onnx) -> Onnx {
    onnx.mean_to("mean").node("ReduceMax", &["bomb"], "most", vec![int("keepdims", 0)]).node(
        "Add",
        &["mean", "most"],
        "scores",
        vec![],
    )
}

/// Tensors of so many values, made by each of the operators that can.
fn tensors(values: i64) -> Vec<Onnx> {
    let zero = || Onnx::new().floats("zero", &[1], &[0.0]).integers("values", &[values]);
    let mut range = Onnx::new();
    for (name, value) in [("from", 0), ("to", values), ("step", 1)] {
        let mut scalar = integers(name, &[value]);
        scalar.dims.clear();
        range.graph().initializer.push(scalar);
    }
    let range = range.node("Range", &["from", "to", "step"], "whole", vec![]);
    vec![
        and_bomb(zero().node("ConstantOfShape", &["values"], "bomb", vec![])),
        and_bomb(zero().node("Expand", &["zero", "values"], "bomb", vec![])),
        and_bomb(zero().node("Tile", &["zero", "values"], "bomb", vec![])),
        and_bomb(range.node("Cast", &["whole"], "bomb", vec![int("to", 1)])),
    ]
}

#[test]
fn a_tensor_of_gigabytes() {
    for onnx in tensors(1 << 30) {
        assert_refused(
            &onnx,
            Reason::Memory,
            &["needs another ", " GiB of memory, more than is left of the 64 MiB that its manifest allows"],
        );
    }
}

#[test]
fn a_tensor_of_terabytes_and_more() {
    // The runtime stumbles over some of these before it asks for memory, and computes nonsense from others.
    for values in [1 << 40, 1 << 60, i64::MAX, -5] {
        for onnx in tensors(values) {
            refusal(&onnx);
        }
    }
}

#[test]
fn a_constant_that_doubles_and_doubles() {
    let mut onnx = Onnx::new().floats("bomb0", &[1], &[0.0]);
    for index in 0..40 {
        let from = format!("bomb{index}");
        onnx = onnx.node("Concat", &[&from, &from], &format!("bomb{}", index + 1), vec![int("axis", 0)]);
    }
    assert_refused(&and_bomb(onnx.node("Relu", &["bomb40"], "bomb", vec![])), Reason::Memory, &["needs another "]);
}

#[test]
fn a_graph_over_which_the_loader_never_ends() {
    // An axis twice: the loader goes on asking for memory.
    let onnx = Onnx::new().mean_to("mean").node("Transpose", &["mean"], "scores", vec![ints("perm", &[0, 0])]);
    assert_refused(&onnx, Reason::Memory, &["needs another ", "that its manifest allows"]);
}

#[test]
fn graphs_over_which_the_loader_panics() {
    let sliced = Onnx::new()
        .mean_to("mean")
        .integers("from", &[0])
        .integers("to", &[2])
        .integers("axis", &[1])
        .integers("step", &[0])
        .node("Slice", &["mean", "from", "to", "axis", "step"], "scores", vec![]);
    assert_refused(&sliced, Reason::Panic, &["the runtime panicked: attempt to divide by zero"]);
    let convolved = Onnx::new()
        .floats("kernel", &[2, 4, 1], &[0.1; 8])
        .node("Conv", &["input", "kernel"], "c", vec![ints("kernel_shape", &[1]), ints("strides", &[0])])
        .node("ReduceMean", &["c"], "scores", vec![ints("axes", &[2]), int("keepdims", 0)]);
    assert_refused(&convolved, Reason::Panic, &["the runtime panicked: attempt to divide by zero"]);
    let gathered = Onnx::new().mean_to("mean").integers("i", &[0, 9]).node(
        "Gather",
        &["mean", "i"],
        "scores",
        vec![int("axis", 1)],
    );
    assert_refused(&gathered, Reason::Panic, &["the len is 2 but the index is 9"]);
}

#[test]
fn a_graph_over_which_the_loader_overflows_its_stack() {
    let mut onnx = Onnx::mean(1.0);
    let axis = format!("{}N{}", "(".repeat(100_000), ")".repeat(100_000));
    onnx.graph().input[0] = tensor_info("input", DataType::Float, &[&axis, "4", "2"]);
    assert_refused(&onnx, Reason::Crash, &["crashed: its computation overflowed the stack"]);
}

#[test]
fn a_graph_of_very_many_nodes() {
    let mut onnx = Onnx::new().mean_to("relu0");
    for index in 0..100_000 {
        onnx = onnx.node("Relu", &[&format!("relu{index}")], &format!("relu{}", index + 1), vec![]);
    }
    let reason = refusal(&onnx.node("Identity", &["relu100000"], "scores", vec![])).reason();
    assert!(matches!(reason, Reason::Memory | Reason::Timeout), "{reason}");
}

#[test]
fn a_model_that_wants_its_memory_only_when_it_runs() {
    let onnx = Onnx::new().integers("times", &[1, 1, 100_000_000]).node("Tile", &["input", "times"], "bomb", vec![]);
    assert_refused(
        &and_bomb(onnx),
        Reason::Memory,
        &["of memory, more than is left of the 64 MiB that its manifest allows"],
    );
}

#[test]
fn a_model_that_is_too_slow() {
    let bytes = Onnx::slow(256, 40).bytes();
    let mut manifest = manifest("1.0.0", &bytes, &MEAN);
    manifest.limits.max_latency_ms = 1;
    let error = verify(&bytes, &manifest, &LIMITS).unwrap_err();
    println!("{}: {error}", error.reason());
    assert_eq!(error.reason(), Reason::Latency);
    assert!(error.to_string().ends_with("ms for one sample, more than the 1 ms that its manifest allows"), "{error}");
    // The gateway's own limit holds too.
    manifest.limits.max_latency_ms = 60_000;
    let error = verify(&bytes, &manifest, &RunnerLimits { max_latency_ms: 1, ..LIMITS }).unwrap_err();
    assert!(error.to_string().ends_with("more than the 1 ms that this gateway allows"), "{error}");
}

#[test]
fn a_model_whose_batches_are_too_slow() {
    // Fast enough for one sample, but it has to be run 256 times.
    let mut onnx = Onnx::slow(128, 100);
    let last = onnx.graph().node.last_mut().unwrap();
    (last.name, last.output) = ("row_node".into(), vec!["row".into()]);
    let onnx = onnx.integers("one", &[1, 2]).node("Reshape", &["row", "one"], "scores", vec![]);
    let words = ["ms of the processor for a batch of 256 samples, more than the 2,000 ms that are allowed"];
    assert_refused(&onnx, Reason::Latency, &words);
}

#[test]
fn a_model_that_never_ends_its_self_test() {
    let bytes = Onnx::slow(1024, 400).bytes();
    let limits = RunnerLimits { self_test_s: 4, ..LIMITS };
    let error = verify(&bytes, &manifest("1.0.0", &bytes, &MEAN), &limits).unwrap_err();
    println!("{}: {error}", error.reason());
    // By the processor's time, or on a busy machine by the clock.
    let texts =
        ["was ended by the kernel: its self-test took more than 2 s of processor", "did not answer within 4,000 ms"];
    assert!(error.reason() == Reason::Timeout && texts.contains(&error.to_string().as_str()), "{error}");
}
