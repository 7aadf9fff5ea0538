//! ONNX models made in place: a graph with one input `input`, `[N, STEPS, FEATURES]`, and one output `scores`,
//! `[N, FEATURES]`, and the manifest that belongs to it.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::Path;

use prost::Message;
use proto::Manifest;
use proto::manifest::{Golden, Input, Limits, Output, Task};
use sha2::{Digest, Sha256};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

/// Windows of a sample.
pub const STEPS: usize = 4;
/// Values of a window, and scores of a sample.
pub const FEATURES: usize = 2;

/// A golden sample of every model here: its mean over the steps is 0.25 and 0.5.
pub const SAMPLE: [f64; STEPS * FEATURES] = [0.1, 0.2, 0.2, 0.4, 0.3, 0.6, 0.4, 0.8];
/// The mean of [`SAMPLE`] over its steps.
pub const MEAN: [f64; FEATURES] = [0.25, 0.5];

/// The value from which on a model with a [`Trap`] goes wrong.
pub const TRAP: f32 = 1_000.0;

/// What a model does once its trap is sprung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// It gives NaN.
    NotANumber,
    /// It looks behind the end of a table; the runtime panics.
    Panic,
    /// It wants a gigabyte.
    Memory,
    /// It computes for many seconds.
    Slow,
}

/// A model that is being made.
#[derive(Debug, Clone)]
pub struct Onnx(pub ModelProto);

impl Onnx {
    /// A model without nodes.
    #[must_use]
    pub fn new() -> Self {
        let graph = GraphProto {
            name: "graph".to_owned(),
            input: vec![tensor_info("input", DataType::Float, &["N", "4", "2"])],
            output: vec![tensor_info("scores", DataType::Float, &["N", "2"])],
            ..GraphProto::default()
        };
        Self(ModelProto {
            ir_version: 8,
            producer_name: "test".to_owned(),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(graph),
            ..ModelProto::default()
        })
    }

    /// A good one: each score is `scale` times its feature's mean over the steps.
    #[must_use]
    pub fn mean(scale: f32) -> Self {
        Self::new().mean_to("mean").floats("scale", &[1], &[scale]).node("Mul", &["mean", "scale"], "scores", vec![])
    }

    /// One that is good until a value above [`TRAP`] comes; then it does something else.
    #[must_use]
    pub fn trap(trap: Trap) -> Self {
        let onnx = Self::new().mean_to("mean");
        match trap {
            Trap::NotANumber => onnx
                .floats("limit", &[1], &[TRAP])
                .node("Sub", &["limit", "mean"], "left", vec![])
                .node("Sqrt", &["left"], "root", vec![])
                .floats("tiny", &[1], &[1e-20])
                .node("Mul", &["root", "tiny"], "nothing", vec![])
                .node("Add", &["mean", "nothing"], "scores", vec![]),
            Trap::Panic => onnx
                .floats("zero", &[1], &[0.0])
                .floats("limit", &[1], &[TRAP])
                .node("ReduceMax", &["input"], "most", vec![ints("axes", &[0, 1, 2]), int("keepdims", 0)])
                .node("Div", &["most", "limit"], "share", vec![])
                .node("Cast", &["share"], "index", vec![int("to", DataType::Int64 as i64)])
                .node("Gather", &["zero", "index"], "nothing", vec![])
                .node("Add", &["mean", "nothing"], "scores", vec![]),
            Trap::Memory => {
                let sum = vec![ints("axes", &[1]), int("keepdims", 1)];
                onnx.integers("times", &[1, 100_000_000]).branch(vec![
                    node("Tile", &["mean", "times"], &["wide"], vec![]),
                    node("ReduceMax", &["wide"], &["worst"], sum),
                    node("Add", &["worst", "mean"], &["trapped"], vec![]),
                ])
            }
            Trap::Slow => {
                let (onnx, nodes) = onnx.squares(1024, 600, "trapped");
                onnx.branch(nodes)
            }
        }
    }

    /// One that squares a matrix of `side` by `side` so often before it gives the mean.
    #[must_use]
    pub fn slow(side: i64, times: usize) -> Self {
        let (mut onnx, nodes) = Self::new().mean_to("mean").squares(side, times, "scores");
        let most = node("ReduceMax", &["input"], &["most"], vec![ints("axes", &[0, 1, 2]), int("keepdims", 0)]);
        onnx.graph().node.push(most);
        onnx.graph().node.extend(nodes);
        onnx
    }

    /// Nodes that square a matrix `times` times, and then give the mean.
    fn squares(self, side: i64, times: usize, output: &str) -> (Self, Vec<NodeProto>) {
        let onnx = self.integers("sides", &[side, side]).floats("tiny", &[1], &[1e-20]);
        let mut nodes = vec![
            node("Mul", &["most", "tiny"], &["little"], vec![]),
            node("Expand", &["little", "sides"], &["square0"], vec![]),
        ];
        for index in 0..times {
            let (from, to) = (format!("square{index}"), format!("square{}", index + 1));
            nodes.push(node("MatMul", &[&from, &from], &[&to], vec![]));
        }
        nodes.push(node("ReduceMax", &[&format!("square{times}")], &["nearly_nothing"], vec![int("keepdims", 0)]));
        nodes.push(node("Add", &["mean", "nearly_nothing"], &[output], vec![]));
        (onnx, nodes)
    }

    /// Gives the mean as scores, or what `nodes` give as `trapped` once a value above [`TRAP`] comes.
    fn branch(self, nodes: Vec<NodeProto>) -> Self {
        let body = |node: Vec<NodeProto>, name: &str| GraphProto {
            name: name.to_owned(),
            node,
            output: vec![tensor_info(name, DataType::Float, &["N", "2"])],
            ..GraphProto::default()
        };
        let calm = body(vec![node("Identity", &["mean"], &["calm"], vec![])], "calm");
        let branches = vec![graph("then_branch", body(nodes, "trapped")), graph("else_branch", calm)];
        self.floats("limit", &[], &[TRAP])
            .node("ReduceMax", &["input"], "most", vec![ints("axes", &[0, 1, 2]), int("keepdims", 0)])
            .node("Greater", &["most", "limit"], "sprung", vec![])
            .node("If", &["sprung"], "scores", branches)
    }

    /// Adds a node that gives each feature's mean over the steps, `[N, FEATURES]`.
    #[must_use]
    pub fn mean_to(self, output: &str) -> Self {
        self.node("ReduceMean", &["input"], output, vec![ints("axes", &[1]), int("keepdims", 0)])
    }

    /// Adds a node that is named after its output.
    #[must_use]
    pub fn node(mut self, operator: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> Self {
        self.graph().node.push(node(operator, inputs, &[output], attributes));
        self
    }

    /// Adds a constant of floats.
    #[must_use]
    pub fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.graph().initializer.push(floats(name, dims, values));
        self
    }

    /// Adds a constant of integers.
    #[must_use]
    pub fn integers(mut self, name: &str, values: &[i64]) -> Self {
        self.graph().initializer.push(integers(name, values));
        self
    }

    /// The graph, to change it.
    pub fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.as_mut().unwrap()
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }
}

/// A node that is named after its first output.
#[must_use]
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        name: format!("{}_node", outputs[0]),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        attribute,
        ..NodeProto::default()
    }
}

/// A tensor of floats.
#[must_use]
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: DataType::Float as i32,
        dims: dims.to_vec(),
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A vector of integers.
#[must_use]
pub fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: DataType::Int64 as i32,
        dims: vec![values.len() as i64],
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// An input or output with axes that are numbers or names.
#[must_use]
pub fn tensor_info(name: &str, data_type: DataType, axes: &[&str]) -> ValueInfoProto {
    let dim = axes.iter().map(|axis| {
        let value =
            axis.parse().map_or_else(|_| dimension::Value::DimParam((*axis).to_owned()), dimension::Value::DimValue);
        Dimension { value: Some(value), ..Dimension::default() }
    });
    let tensor =
        type_proto::Tensor { elem_type: data_type as i32, shape: Some(TensorShapeProto { dim: dim.collect() }) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), ..ValueInfoProto::default() }
}

/// An attribute that is an integer.
#[must_use]
pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int as i32, i, ..AttributeProto::default() }
}

/// An attribute that is a list of integers.
#[must_use]
pub fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let ints = ints.to_vec();
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Ints as i32, ints, ..AttributeProto::default() }
}

/// An attribute that is a graph.
#[must_use]
pub fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    let (name, g) = (name.to_owned(), Some(graph));
    AttributeProto { name, r#type: AttributeType::Graph as i32, g, ..AttributeProto::default() }
}

/// The manifest for such a model: [`SAMPLE`] gives `output`.
#[must_use]
pub fn manifest(version: &str, onnx: &[u8], output: &[f64]) -> Manifest {
    let channels = ["soil_moisture_10cm", "soil_moisture_20cm"];
    Manifest {
        name: "test-model".to_owned(),
        version: version.to_owned(),
        task: Task::Anomaly,
        threshold: 1.0,
        tolerance: 1e-4,
        sha256: Sha256::digest(onnx).iter().map(|byte| format!("{byte:02x}")).collect(),
        trained_on: "nothing".to_owned(),
        parent: None,
        metrics: [].into(),
        input: Input {
            features: channels.iter().map(|channel| format!("{channel}.mean").parse().unwrap()).collect(),
            steps: STEPS as u32,
            window_s: 900,
        },
        output: Output { scores: channels.iter().map(|channel| channel.parse().unwrap()).collect() },
        limits: Limits { max_bytes: 16 << 20, max_latency_ms: 500, max_memory_bytes: 64 << 20 },
        golden: vec![Golden { input: SAMPLE.to_vec(), output: output.to_vec() }],
    }
}

/// Writes both files of a model into a directory.
pub fn write(dir: &Path, onnx: &[u8], manifest: &Manifest) {
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("model.onnx"), onnx).unwrap();
    std::fs::write(dir.join("manifest.toml"), manifest.to_toml().unwrap()).unwrap();
}
