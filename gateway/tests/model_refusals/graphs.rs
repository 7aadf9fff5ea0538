//! Graphs that say something else than a gateway can use, or nothing sensible.

use proto::update::Reason;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{FunctionProto, GraphProto, OperatorSetIdProto};

use crate::onnx::{MEAN, Onnx, floats, graph, int, manifest, node, tensor_info};
use crate::{LIMITS, assert_refused, verify};

#[test]
fn operators_that_are_not_there_are_named_all_at_once() {
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
    assert_refused(&onnx, Reason::Unsupported, &words);
}

#[test]
fn a_function_of_the_model_is_named_as_such() {
    let mut onnx = Onnx::mean(1.0);
    onnx.0.functions.push(FunctionProto { name: Some("twice".into()), ..FunctionProto::default() });
    let mut call = node("twice", &["mean"], &["a"], vec![]);
    call.domain = "pkg".into();
    onnx.graph().node.push(call);
    assert_refused(&onnx, Reason::Unsupported, &["operator twice of domain pkg", "with its functions inlined"]);
}

#[test]
fn a_loop_without_end() {
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
    assert_refused(&onnx, Reason::Unsupported, &["operator Loop of domain ai.onnx is not supported"]);
}

#[test]
fn a_graph_that_runs_in_a_circle() {
    let onnx = Onnx::new()
        .mean_to("mean")
        .node("Add", &["mean", "b"], "a", vec![])
        .node("Relu", &["a"], "b", vec![])
        .node("Identity", &["b"], "scores", vec![]);
    let words = ["runs in a circle: node \"a_node\", \"b_node\" depends on its own output"];
    assert_refused(&onnx, Reason::Unsupported, &words);
}

#[test]
fn a_branch_that_needs_its_own_result() {
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
    assert_refused(&onnx, Reason::Unsupported, &["node \"scores_node\" depends on its own output"]);
}

#[test]
fn tensors_that_nobody_gives_or_two() {
    let onnx = Onnx::new().mean_to("mean").node("Add", &["mean", "ghost"], "sum", vec![]);
    let words = ["gives tensor \"ghost\" for node \"sum_node\", \"scores\" as an output"];
    assert_refused(&onnx, Reason::Unsupported, &words);
    let onnx = Onnx::mean(1.0).node("Relu", &["mean"], "scores", vec![]);
    assert_refused(&onnx, Reason::Unsupported, &["tensor \"scores\" is given more than once"]);
}

#[test]
fn a_graph_that_nests_too_deeply() {
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
    assert_refused(&onnx, Reason::Unsupported, &["is no ONNX model: it nests too deeply"]);
}

#[test]
fn operator_sets_that_are_too_old_too_new_or_not_said() {
    for (sets, words) in [
        (vec![7], "operator set (opset) 7 is too old: the gateway runs 9 to 23; export the model with opset 18"),
        (vec![99], "operator set (opset) 99 is too new: the gateway runs 9 to 23; export the model with opset 18"),
        (vec![], "does not say which operator set"),
    ] {
        let mut onnx = Onnx::mean(1.0);
        onnx.0.opset_import =
            sets.into_iter().map(|version| OperatorSetIdProto { domain: String::new(), version }).collect();
        assert_refused(&onnx, Reason::Unsupported, &[words]);
    }
}

#[test]
fn inputs_of_another_type_shape_or_number() {
    let with = |data_type, axes: &[&str]| {
        let mut onnx = Onnx::mean(1.0);
        onnx.graph().input[0] = tensor_info("input", data_type, axes);
        onnx
    };
    let words = ["input \"input\" is of type float64, expected float32; export the model with float32 inputs"];
    assert_refused(&with(DataType::Double, &["N", "4", "2"]), Reason::Unsupported, &words);
    let words = ["shape [N, 9, 2], expected [N, 4, 2] (N samples, steps, features) as the manifest says"];
    assert_refused(&with(DataType::Float, &["N", "9", "2"]), Reason::Unsupported, &words);
    assert_refused(&with(DataType::Float, &["N", "8"]), Reason::Unsupported, &["shape [N, 8], expected [N, 4, 2]"]);
    let mut onnx = Onnx::mean(1.0);
    onnx.graph().input.push(tensor_info("state", DataType::Float, &["N", "3"]));
    assert_refused(&onnx, Reason::Unsupported, &["has 2 inputs (\"input\", \"state\"), expected one"]);
}

#[test]
fn outputs_of_another_shape_or_number() {
    let onnx = Onnx::new().node("Identity", &["input"], "scores", vec![]);
    assert_refused(&onnx, Reason::Unsupported, &["gives a tensor of shape [1, 4, 2] for 1 samples, expected [1, 2]"]);
    let onnx = Onnx::new().mean_to("mean").node("Concat", &["mean", "mean"], "scores", vec![int("axis", 1)]);
    assert_refused(&onnx, Reason::Unsupported, &["shape [1, 4] for 1 samples, expected [1, 2]"]);
    let mut onnx = Onnx::mean(1.0);
    onnx.graph().output = ["mean", "scale"].map(|name| tensor_info(name, DataType::Float, &["N", "2"])).into();
    let words = ["has 2 outputs (\"mean\", \"scale\"), expected one, or one that is named \"scores\""];
    assert_refused(&onnx, Reason::Unsupported, &words);
    // Among several, the one with that name is taken.
    onnx.graph().output.push(tensor_info("scores", DataType::Float, &["N", "2"]));
    let bytes = onnx.bytes();
    verify(&bytes, &manifest("1.0.0", &bytes, &MEAN), &LIMITS).unwrap();
}

#[test]
fn answers_that_are_wrong_or_no_numbers() {
    let words = ["gives 0.500000 for soil_moisture_10cm of golden sample 0, expected 0.250000 within 0.0001"];
    assert_refused(&Onnx::mean(2.0), Reason::Golden, &words);
    let onnx = Onnx::new().mean_to("mean").node("Neg", &["mean"], "n", vec![]).node("Log", &["n"], "scores", vec![]);
    assert_refused(&onnx, Reason::NotANumber, &["output 0 of sample 0 is NaN, expected a number"]);
}
