//! Graphs that say something else than a gateway can use, or nothing sensible.

use proto::update::Reason;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{FunctionProto, GraphProto, OperatorSetIdProto};

use super::Case;
use crate::onnx::{Onnx, floats, graph, int, node, tensor_info};

/// One of each kind.
pub fn all() -> Vec<Case> {
    let mut cases = vec![unknown_operators(), function(), endless_loop(), circle(), recursion(), deep()];
    for kinds in [wrong_tensors(), operator_sets(), inputs(), outputs(), answers()] {
        cases.extend(kinds);
    }
    cases
}

/// A graph that the gateway cannot run.
fn unsupported(name: &'static str, onnx: &Onnx, words: &[&'static str]) -> Case {
    Case::new(name, onnx, Reason::Unsupported, words)
}

/// Operators that are not there.
pub fn unknown_operators() -> Case {
    let mut onnx = Onnx::mean(1.0);
    onnx.graph().node.push(node("Frobnicate", &["mean"], &["a"], vec![]));
    onnx.graph().node.push(node("Frobnicate", &["a"], &["b"], vec![]));
    let mut custom = node("Mul", &["a", "b"], &["c"], vec![]);
    custom.domain = "org.example".into();
    onnx.graph().node.push(custom);
    let words = [
        "operator Frobnicate of domain ai.onnx is not supported (node \"a_node\", \"b_node\")",
        "operator Mul of domain org.example is not supported (node \"c_node\")",
    ];
    unsupported("unknown operators", &onnx, &words)
}

/// A function that the model brings along.
pub fn function() -> Case {
    let mut onnx = Onnx::mean(1.0);
    onnx.0.functions.push(FunctionProto { name: Some("twice".into()), ..FunctionProto::default() });
    let mut call = node("twice", &["mean"], &["a"], vec![]);
    call.domain = "pkg".into();
    onnx.graph().node.push(call);
    unsupported("a function", &onnx, &["operator twice of domain pkg", "with its functions inlined"])
}

/// A loop without end.
pub fn endless_loop() -> Case {
    let output = vec![tensor_info("on", DataType::Bool, &[]), tensor_info("x2", DataType::Float, &["N", "2"])];
    let nodes = vec![node("Identity", &["go"], &["on"], vec![]), node("Identity", &["x1"], &["x2"], vec![])];
    let input = vec![
        tensor_info("i", DataType::Int64, &[]),
        tensor_info("go", DataType::Bool, &[]),
        tensor_info("x1", DataType::Float, &["N", "2"]),
    ];
    let body = GraphProto { name: "body".into(), node: nodes, input, output, ..GraphProto::default() };
    let mut onnx = Onnx::new().mean_to("mean");
    onnx.graph().node.push(node("Loop", &["", "", "mean"], &["scores"], vec![graph("body", body)]));
    unsupported("a loop without end", &onnx, &["operator Loop of domain ai.onnx is not supported"])
}

/// A graph that runs in a circle.
pub fn circle() -> Case {
    let onnx = Onnx::new()
        .mean_to("mean")
        .node("Add", &["mean", "b"], "a", vec![])
        .node("Relu", &["a"], "b", vec![])
        .node("Identity", &["b"], "scores", vec![]);
    let words = ["runs in a circle: node \"a_node\", \"b_node\" depends on its own output"];
    unsupported("a circle", &onnx, &words)
}

/// A branch that needs its own result.
pub fn recursion() -> Case {
    let branch = |from: &str| GraphProto {
        name: "branch".into(),
        node: vec![node("Identity", &[from], &["out"], vec![])],
        output: vec![tensor_info("out", DataType::Float, &["N", "2"])],
        ..GraphProto::default()
    };
    let mut onnx = Onnx::new().mean_to("mean");
    let mut yes = floats("yes", &[], &[]);
    (yes.data_type, yes.raw_data) = (DataType::Bool as i32, vec![1]);
    onnx.graph().initializer.push(yes);
    let branches = vec![graph("then_branch", branch("scores")), graph("else_branch", branch("mean"))];
    let onnx = onnx.node("If", &["yes"], "scores", branches);
    unsupported("a branch that needs its own result", &onnx, &["node \"scores_node\" depends on its own output"])
}

/// A graph that nests too deeply.
pub fn deep() -> Case {
    let mut body = vec![node("Identity", &["mean"], &["out"], vec![])];
    for _ in 0..60 {
        let branch = |node| GraphProto {
            name: "branch".into(),
            node,
            output: vec![tensor_info("out", DataType::Float, &["N", "2"])],
            ..GraphProto::default()
        };
        let branches = vec![graph("then_branch", branch(body.clone())), graph("else_branch", branch(body))];
        // The second branch doubles the file at each level; a name is enough there.
        let mut outer = node("If", &["yes"], &["out"], branches);
        outer.attribute[1].g.as_mut().unwrap().node = vec![node("Identity", &["mean"], &["out"], vec![])];
        body = vec![outer];
    }
    let mut onnx = Onnx::new().mean_to("mean");
    onnx.graph().node.extend(body);
    unsupported("branches 60 deep", &onnx, &["is no ONNX model: it nests too deeply"])
}

/// A tensor that nobody gives, and one that two give.
pub fn wrong_tensors() -> Vec<Case> {
    let nobody = Onnx::new().mean_to("mean").node("Add", &["mean", "ghost"], "sum", vec![]);
    let words = ["gives tensor \"ghost\" for node \"sum_node\", \"scores\" as an output"];
    let two = Onnx::mean(1.0).node("Relu", &["mean"], "scores", vec![]);
    vec![
        unsupported("a tensor that nobody gives", &nobody, &words),
        unsupported("a tensor that two nodes give", &two, &["tensor \"scores\" is given more than once"]),
    ]
}

/// Operator sets that are too old, too new, or not said.
pub fn operator_sets() -> Vec<Case> {
    let case = |name, sets: &[i64], words| {
        let mut onnx = Onnx::mean(1.0);
        let set = |version: &i64| OperatorSetIdProto { domain: String::new(), version: *version };
        onnx.0.opset_import = sets.iter().map(set).collect();
        unsupported(name, &onnx, &[words])
    };
    let old = "operator set (opset) 7 is too old: the gateway runs 9 to 23; export the model with opset 18";
    let new = "operator set (opset) 99 is too new: the gateway runs 9 to 23; export the model with opset 18";
    vec![
        case("an old operator set", &[7], old),
        case("a new operator set", &[99], new),
        case("no operator set", &[], "does not say which operator set"),
    ]
}

/// Inputs of another type, shape or number.
pub fn inputs() -> Vec<Case> {
    let with = |data_type, axes: &[&str]| {
        let mut onnx = Onnx::mean(1.0);
        onnx.graph().input[0] = tensor_info("input", data_type, axes);
        onnx
    };
    let mut two = Onnx::mean(1.0);
    two.graph().input.push(tensor_info("state", DataType::Float, &["N", "3"]));
    let doubles = ["input \"input\" is of type float64, expected float32; export the model with float32 inputs"];
    let steps = ["shape [N, 9, 2], expected [N, 4, 2] (N samples, steps, features) as the manifest says"];
    let flat = ["shape [N, 8], expected [N, 4, 2]"];
    vec![
        unsupported("an input of doubles", &with(DataType::Double, &["N", "4", "2"]), &doubles),
        unsupported("an input of other steps", &with(DataType::Float, &["N", "9", "2"]), &steps),
        unsupported("a flat input", &with(DataType::Float, &["N", "8"]), &flat),
        unsupported("two inputs", &two, &["has 2 inputs (\"input\", \"state\"), expected one"]),
    ]
}

/// Outputs of another shape or number.
pub fn outputs() -> Vec<Case> {
    let whole = Onnx::new().node("Identity", &["input"], "scores", vec![]);
    let twice = Onnx::new().mean_to("mean").node("Concat", &["mean", "mean"], "scores", vec![int("axis", 1)]);
    let words = ["has 2 outputs (\"mean\", \"scale\"), expected one, or one that is named \"scores\""];
    vec![
        unsupported(
            "an output for each step",
            &whole,
            &["gives a tensor of shape [1, 4, 2] for 1 samples, expected [1, 2]"],
        ),
        unsupported("twice the scores", &twice, &["shape [1, 4] for 1 samples, expected [1, 2]"]),
        unsupported("two outputs", &two_outputs(), &words),
    ]
}

/// Two outputs of which none is named after the scores.
pub fn two_outputs() -> Onnx {
    let mut onnx = Onnx::mean(1.0);
    onnx.graph().output = ["mean", "scale"].map(|name| tensor_info(name, DataType::Float, &["N", "2"])).into();
    onnx
}

/// Answers that are wrong, or no numbers.
pub fn answers() -> Vec<Case> {
    let wrong = ["gives 0.500000 for soil_moisture_10cm of golden sample 0, expected 0.250000 within 0.0001"];
    let none = Onnx::new().mean_to("mean").node("Neg", &["mean"], "n", vec![]).node("Log", &["n"], "scores", vec![]);
    let words = ["output 0 of sample 0 is NaN, expected a number"];
    vec![
        Case::new("other answers than its manifest's", &Onnx::mean(2.0), Reason::Golden, &wrong),
        Case::new("answers that are no numbers", &none, Reason::NotANumber, &words),
    ]
}
