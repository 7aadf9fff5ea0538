//! Graphs that are meant to hang, flood or crash whoever reads or runs them.

use gateway::model::RunnerLimits;
use proto::update::Reason;
use tract_onnx::pb::tensor_proto::DataType;

use super::{Case, LIMITS};
use crate::onnx::{Onnx, int, integers, ints, tensor_info};

/// One of each kind.
pub fn all() -> Vec<Case> {
    let mut cases = gigabytes();
    // Each operator once, and each number of values once.
    cases.extend(terabytes().into_iter().step_by(OPERATORS.len() + 1));
    cases.extend([doubling(), endless_loading()]);
    cases.extend(panics());
    cases.extend([stack_overflow(), many_nodes(), memory_when_run(), slow(), slow_batches()]);
    cases
}

/// Those that need a gateway with limits of its own.
pub fn of_other_limits() -> Vec<Case> {
    vec![slow_for_the_gateway(), endless_self_test()]
}

/// The mean, and to it the greatest of the tensor `bomb`, which is of zeros.
fn and_bomb(onnx: Onnx) -> Onnx {
    onnx.mean_to("mean").node("ReduceMax", &["bomb"], "most", vec![int("keepdims", 0)]).node(
        "Add",
        &["mean", "most"],
        "scores",
        vec![],
    )
}

/// The operators that make much of little.
const OPERATORS: [&str; 4] = ["ConstantOfShape", "Expand", "Tile", "Range"];

/// A tensor of so many values, made by one of them.
fn tensor(operator: &str, values: i64) -> Onnx {
    let onnx = Onnx::new().floats("zero", &[1], &[0.0]).integers("values", &[values]);
    and_bomb(match operator {
        "ConstantOfShape" => onnx.node(operator, &["values"], "bomb", vec![]),
        "Range" => {
            let mut range = Onnx::new();
            for (name, value) in [("from", 0), ("to", values), ("step", 1)] {
                let mut scalar = integers(name, &[value]);
                scalar.dims.clear();
                range.graph().initializer.push(scalar);
            }
            range.node(operator, &["from", "to", "step"], "whole", vec![]).node(
                "Cast",
                &["whole"],
                "bomb",
                vec![int("to", 1)],
            )
        }
        _ => onnx.node(operator, &["zero", "values"], "bomb", vec![]),
    })
}

/// A tensor of gigabytes, by each operator.
pub fn gigabytes() -> Vec<Case> {
    let words = ["needs another ", " GiB of memory, more than is left of the 64 MiB that its manifest allows"];
    let case =
        |operator| Case::new(format!("{operator} of gigabytes"), &tensor(operator, 1 << 30), Reason::Memory, &words);
    OPERATORS.map(case).into()
}

/// A tensor of terabytes, of more than there are addresses for, and of less than nothing, by each operator. The runtime
/// stumbles over some before it asks for memory, and computes nonsense from others.
pub fn terabytes() -> Vec<Case> {
    let mut cases = Vec::new();
    for values in [1 << 40, 1 << 60, i64::MAX, -5] {
        for operator in OPERATORS {
            let name = format!("{operator} of {values} values");
            let case = Case::new(name, &tensor(operator, values), Reason::Memory, &["memory"]);
            let reasons = [Reason::Panic, Reason::Unsupported, Reason::Golden, Reason::NotANumber, Reason::Crash];
            cases.push(reasons.into_iter().fold(case, |case, reason| case.or(reason, &[])));
        }
    }
    cases
}

/// A constant that doubles and doubles.
pub fn doubling() -> Case {
    let mut onnx = Onnx::new().floats("bomb0", &[1], &[0.0]);
    for index in 0..40 {
        let from = format!("bomb{index}");
        onnx = onnx.node("Concat", &[&from, &from], &format!("bomb{}", index + 1), vec![int("axis", 0)]);
    }
    let onnx = and_bomb(onnx.node("Relu", &["bomb40"], "bomb", vec![]));
    Case::new("a constant that doubles 40 times", &onnx, Reason::Memory, &["needs another "])
}

/// An axis twice: the loader goes on asking for memory.
pub fn endless_loading() -> Case {
    let onnx = Onnx::new().mean_to("mean").node("Transpose", &["mean"], "scores", vec![ints("perm", &[0, 0])]);
    let words = ["needs another ", "that its manifest allows"];
    Case::new("a graph over which the loader never ends", &onnx, Reason::Memory, &words)
}

/// Graphs over which the runtime panics.
pub fn panics() -> Vec<Case> {
    let sliced = Onnx::new()
        .mean_to("mean")
        .integers("from", &[0])
        .integers("to", &[2])
        .integers("axis", &[1])
        .integers("step", &[0])
        .node("Slice", &["mean", "from", "to", "axis", "step"], "scores", vec![]);
    let convolved = Onnx::new()
        .floats("kernel", &[2, 4, 1], &[0.1; 8])
        .node("Conv", &["input", "kernel"], "c", vec![ints("kernel_shape", &[1]), ints("strides", &[0])])
        .node("ReduceMean", &["c"], "scores", vec![ints("axes", &[2]), int("keepdims", 0)]);
    let gathered = Onnx::new().mean_to("mean").integers("i", &[0, 9]).node(
        "Gather",
        &["mean", "i"],
        "scores",
        vec![int("axis", 1)],
    );
    let by_zero = "the runtime panicked: attempt to divide by zero";
    vec![
        Case::new("a slice in steps of 0", &sliced, Reason::Panic, &[by_zero]),
        Case::new("a convolution in strides of 0", &convolved, Reason::Panic, &[by_zero]),
        Case::new("a look behind a table's end", &gathered, Reason::Panic, &["the len is 2 but the index is 9"]),
    ]
}

/// A graph over which the loader overflows its stack.
pub fn stack_overflow() -> Case {
    let mut onnx = Onnx::mean(1.0);
    let axis = format!("{}N{}", "(".repeat(100_000), ")".repeat(100_000));
    onnx.graph().input[0] = tensor_info("input", DataType::Float, &[&axis, "4", "2"]);
    let words = ["crashed: its computation overflowed the stack"];
    Case::new("an axis in 100,000 brackets", &onnx, Reason::Crash, &words)
}

/// A graph of very many nodes.
pub fn many_nodes() -> Case {
    let mut onnx = Onnx::new().mean_to("relu0");
    for index in 0..100_000 {
        onnx = onnx.node("Relu", &[&format!("relu{index}")], &format!("relu{}", index + 1), vec![]);
    }
    let onnx = onnx.node("Identity", &["relu100000"], "scores", vec![]);
    Case::new("100,000 nodes", &onnx, Reason::Memory, &["memory"]).or(Reason::Timeout, &[])
}

/// A model that wants its memory only when it runs.
pub fn memory_when_run() -> Case {
    let onnx = Onnx::new().integers("times", &[1, 1, 100_000_000]).node("Tile", &["input", "times"], "bomb", vec![]);
    let words = ["of memory, more than is left of the 64 MiB that its manifest allows"];
    Case::new("memory that is wanted only when it runs", &and_bomb(onnx), Reason::Memory, &words)
}

/// A model that is slower than its manifest says.
pub fn slow() -> Case {
    let words = ["takes ", "ms for one sample, more than the 1 ms that its manifest allows"];
    Case::new("too slow", &Onnx::slow(256, 40), Reason::Latency, &words)
        .manifest(|manifest| manifest.limits.max_latency_ms = 1)
}

/// A model that is slower than the gateway wants it, whatever its manifest says.
pub fn slow_for_the_gateway() -> Case {
    let words = ["takes ", "ms for one sample, more than the 1 ms that this gateway allows"];
    Case::new("too slow for this gateway", &Onnx::slow(256, 40), Reason::Latency, &words)
        .manifest(|manifest| manifest.limits.max_latency_ms = 60_000)
        .limits(RunnerLimits { max_latency_ms: 1, ..LIMITS })
}

/// A model that is fast enough for one sample, but has to be run 32 times.
pub fn slow_batches() -> Case {
    let mut onnx = Onnx::slow(128, 800);
    let last = onnx.graph().node.last_mut().unwrap();
    (last.name, last.output) = ("row_node".into(), vec!["row".into()]);
    let onnx = onnx.integers("one", &[1, 2]).node("Reshape", &["row", "one"], "scores", vec![]);
    let words = ["ms of the processor for a batch of 32 samples, more than the 500 ms that are allowed"];
    Case::new("batches that are too slow", &onnx, Reason::Latency, &words)
}

/// A model that never ends its self-test: by the processor's time, or on a busy machine by the clock.
pub fn endless_self_test() -> Case {
    let words = ["was ended by the kernel: its self-test took more than 2 s of processor"];
    Case::new("a self-test that never ends", &Onnx::slow(1024, 400), Reason::Timeout, &words)
        .or(Reason::Timeout, &["did not answer within 4,000 ms"])
        .limits(RunnerLimits { self_test_s: 4, ..LIMITS })
}
