//! The model as an ONNX graph: [`super::encode`] and [`super::network`] in operators that every runtime has.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};

use super::encode::{BINS, BOUND, Bin, Encoder, HOURS, RAW_BOUND, REFERENCE, ROWS, SUDDEN_HOURS};
use super::network::{LEAST_WIDTH, LOG_WIDTH_BOUND, Network};
use super::{Options, TrainError};

/// ONNX operator set and file format: as new as tract and onnxruntime both know well.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// The file's bytes: input `input` `[N, steps, features]`, output `scores` `[N, targets]`, where 1 is the threshold.
pub fn write(encoder: &Encoder, network: &Network, scales: &[f32], options: &Options) -> Result<Vec<u8>, TrainError> {
    let (steps, features) = (encoder.input().steps as usize, encoder.input().features.len());
    let targets = encoder.targets().len();
    let mut g = Builder::default();

    // Scale, and take missing values out before anything is multiplied: NaN times zero is NaN.
    let zero = g.scalar("zero", 0.0);
    let one = g.scalar("one", 1.0);
    let missing = g.op("IsNaN", &["input"]);
    let centres = g.floats("centres", &[features], &encoder.centres);
    let deviations = g.floats("deviations", &[features], &encoder.scales);
    let centred = g.op("Sub", &["input", &centres]);
    let scaled = g.op("Div", &[&centred, &deviations]);
    let filled = g.op("Where", &[&missing, &zero, &scaled]);
    let filled = g.bound(&filled, "raw", RAW_BOUND);
    let there = g.op("Where", &[&missing, &zero, &one]);

    // Steps to hours.
    let by_hour = g.ints("by_hour", &[-1, HOURS as i64, (steps / HOURS) as i64, features as i64]);
    let step_axis = g.ints("step_axis", &[2]);
    let mean_over = |g: &mut Builder, sum: &str, count: &str| {
        let divisor = g.op("Max", &[count, &one]);
        (g.op("Div", &[sum, &divisor]), g.op("Min", &[count, &one]))
    };
    let pooled = |g: &mut Builder, values: &str| {
        let split = g.op("Reshape", &[values, &by_hour]);
        g.sum(&split, &step_axis)
    };
    let (sum, count) = (pooled(&mut g, &filled), pooled(&mut g, &there));
    let (hours, hours_known) = mean_over(&mut g, &sum, &count);

    // Hours to bins: the reference first.
    let bins: Vec<f32> = [REFERENCE]
        .iter()
        .chain(&BINS)
        .flat_map(|Bin(near, far)| (0..HOURS).map(move |h| f32::from(u8::from(h >= HOURS - far && h < HOURS - near))))
        .collect();
    let bins = g.floats("bins", &[1 + BINS.len(), HOURS], &bins);
    let (sum, count) = (g.op("MatMul", &[&bins, &hours]), g.op("MatMul", &[&bins, &hours_known]));
    let (levels, known) = mean_over(&mut g, &sum, &count);
    let reference = g.rows(&levels, 0, 1);
    let reference_known = g.rows(&known, 0, 1);
    let others = g.rows(&levels, 1, 1 + BINS.len());
    let others_known = g.rows(&known, 1, 1 + BINS.len());
    let present_known = g.rows(&known, 1, 2);

    // Changes against the reference.
    let change_scales = g.floats("change_scales", &[features], &encoder.change_scales);
    let changes = g.op("Sub", &[&others, &reference]);
    let changes = g.op("Mul", &[&changes, &others_known]);
    let changes = g.op("Mul", &[&changes, &reference_known]);
    let changes = g.op("Div", &[&changes, &change_scales]);
    let changes = g.bound(&changes, "change", BOUND);

    // Sudden changes since the reference.
    let sudden = g.floats("sudden", &[features], &encoder.sudden);
    let hour_axis = g.ints("hour_axis", &[1]);
    let (later, earlier) =
        (g.rows(&hours, HOURS - SUDDEN_HOURS, HOURS), g.rows(&hours, HOURS - SUDDEN_HOURS - 1, HOURS - 1));
    let (later_known, earlier_known) =
        (g.rows(&hours_known, HOURS - SUDDEN_HOURS, HOURS), g.rows(&hours_known, HOURS - SUDDEN_HOURS - 1, HOURS - 1));
    let both_known = g.op("Mul", &[&later_known, &earlier_known]);
    let moves = g.op("Sub", &[&later, &earlier]);
    let rising = g.op("Mul", &[&moves, &both_known]);
    let falling = g.op("Neg", &[&rising]);
    let most = g.scalar("most_sudden", BOUND);
    let exceeding = |g: &mut Builder, moves: &str| {
        let beyond = g.op("Sub", &[moves, &sudden]);
        let beyond = g.op("Relu", &[&beyond]);
        let total = g.sum_kept(&beyond, &hour_axis);
        let total = g.op("Div", &[&total, &change_scales]);
        g.op("Min", &[&total, &most])
    };
    let (rises, falls) = (exceeding(&mut g, &rising), exceeding(&mut g, &falling));

    // All that the networks see, `[N, ROWS * features]`.
    let reference = g.bound(&reference, "level", BOUND);
    let rows = g.concat(&[&reference, &changes, &rises, &falls, &reference_known, &present_known], 1);
    let flat = g.ints("flat", &[-1, (ROWS * features) as i64]);
    let rows = g.op("Reshape", &[&rows, &flat]);

    // The networks, side by side.
    let [w1, b1, w2, b2, w3, b3] = network.weights()?;
    let weight = |g: &mut Builder, name: &str, (shape, values): (Vec<usize>, Vec<f32>)| g.floats(name, &shape, &values);
    let (w1, b1, w2, b2, w3, b3) = (
        weight(&mut g, "w1", w1),
        weight(&mut g, "b1", b1),
        weight(&mut g, "w2", w2),
        weight(&mut g, "b2", b2),
        weight(&mut g, "w3", w3),
        weight(&mut g, "b3", b3),
    );
    let dense = |g: &mut Builder, input: &str, weights: &str, bias: &str| {
        let product = g.op("MatMul", &[input, weights]);
        g.op("Add", &[&product, bias])
    };
    let first = dense(&mut g, &rows, &w1, &b1);
    let first = g.op("Relu", &[&first]);
    let by_target = g.ints("by_target", &[-1, targets as i64, network.hidden()[0] as i64]);
    let first = g.op("Reshape", &[&first, &by_target]);
    let first = g.transpose(&first, &[1, 0, 2]);
    let second = dense(&mut g, &first, &w2, &b2);
    let second = g.op("Relu", &[&second]);
    let out = dense(&mut g, &second, &w3, &b3);
    let out = g.transpose(&out, &[2, 1, 0]);
    let flat_targets = g.ints("flat_targets", &[-1, targets as i64]);
    let part = |g: &mut Builder, place: usize| {
        let starts = g.ints(&format!("part{place}"), &[place as i64]);
        let ends = g.ints(&format!("part{place}_end"), &[place as i64 + 1]);
        let axis = g.ints(&format!("part{place}_axis"), &[0]);
        let part = g.op("Slice", &[&out, &starts, &ends, &axis]);
        g.op("Reshape", &[&part, &flat_targets])
    };
    let (mean, log_width) = (part(&mut g, 0), part(&mut g, 1));
    let bound = g.scalar("log_width_bound", LOG_WIDTH_BOUND as f32);
    let log_width = g.op("Div", &[&log_width, &bound]);
    let log_width = g.op("Tanh", &[&log_width]);
    let log_width = g.op("Mul", &[&log_width, &bound]);
    let width = g.op("Exp", &[&log_width]);
    let least = g.scalar("least_width", LEAST_WIDTH);
    let width = g.op("Add", &[&width, &least]);

    // The score: how far from what was expected, in widths, in thresholds.
    let places: Vec<i64> = encoder.targets().iter().map(|t| *t as i64).collect();
    let places = g.ints("targets", &places);
    let present = g.rows(&changes, 0, 1);
    let of_targets = |g: &mut Builder, all: &str| {
        let chosen = g.gather(all, &places, 2);
        g.op("Reshape", &[&chosen, &flat_targets])
    };
    let moved = of_targets(&mut g, &present);
    let oldest_known = g.rows(&known, BINS.len(), BINS.len() + 1);
    let valid = g.op("Mul", &[&present_known, &reference_known]);
    let valid = g.op("Mul", &[&valid, &oldest_known]);
    let valid = of_targets(&mut g, &valid);
    let error = g.op("Sub", &[&moved, &mean]);
    let error = g.op("Abs", &[&error]);
    let error = g.op("Div", &[&error, &width]);
    let error = g.op("Mul", &[&error, &valid]);
    let thresholds = g.floats("thresholds", &[targets], scales);
    g.named("Div", &[&error, &thresholds], "scores");

    let graph = GraphProto {
        name: options.name.clone(),
        node: g.nodes,
        initializer: g.tensors,
        input: vec![value("input", &[None, Some(steps), Some(features)])],
        output: vec![value("scores", &[None, Some(targets)])],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "tilth".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

fn value(name: &str, shape: &[Option<usize>]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|size| Dimension {
            value: Some(size.map_or_else(
                || dimension::Value::DimParam("N".to_owned()),
                |size| dimension::Value::DimValue(size as i64),
            )),
            ..Dimension::default()
        })
        .collect();
    let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// Collects nodes and constants; every method gives the name of its result.
#[derive(Default)]
struct Builder {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    /// Constants made for [`Builder::rows`].
    cuts: usize,
}

impl Builder {
    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        let output = format!("{}_{}", op.to_lowercase(), self.nodes.len());
        self.named(op, inputs, &output);
        output
    }

    fn named(&mut self, op: &str, inputs: &[&str], output: &str) {
        self.nodes.push(NodeProto {
            op_type: op.to_owned(),
            name: output.to_owned(),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        });
    }

    fn with(&mut self, op: &str, inputs: &[&str], attribute: AttributeProto) -> String {
        let output = self.op(op, inputs);
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(attribute);
        }
        output
    }

    fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, DataType::Float, shape.iter().map(|d| *d as i64).collect(), raw_data)
    }

    fn scalar(&mut self, name: &str, value: f32) -> String {
        self.floats(name, &[1], &[value])
    }

    fn ints(&mut self, name: &str, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, DataType::Int64, vec![values.len() as i64], raw_data)
    }

    fn constant(&mut self, name: &str, data_type: DataType, dims: Vec<i64>, raw_data: Vec<u8>) -> String {
        self.tensors.push(TensorProto {
            name: name.to_owned(),
            data_type: data_type as i32,
            dims,
            raw_data,
            ..TensorProto::default()
        });
        name.to_owned()
    }

    /// Within `-bound..=bound`.
    fn bound(&mut self, input: &str, name: &str, bound: f32) -> String {
        let (low, high) = (self.scalar(&format!("{name}_low"), -bound), self.scalar(&format!("{name}_high"), bound));
        let raised = self.op("Max", &[input, &low]);
        self.op("Min", &[&raised, &high])
    }

    /// Along axis 1, `from..to`.
    fn rows(&mut self, input: &str, from: usize, to: usize) -> String {
        self.cuts += 1;
        let name = format!("cut{}", self.cuts);
        let starts = self.ints(&format!("{name}_from"), &[from as i64]);
        let ends = self.ints(&format!("{name}_to"), &[to as i64]);
        let axes = self.ints(&format!("{name}_axis"), &[1]);
        self.op("Slice", &[input, &starts, &ends, &axes])
    }

    /// Sums along the axes, which vanish.
    fn sum(&mut self, input: &str, axes: &str) -> String {
        self.with("ReduceSum", &[input, axes], int("keepdims", 0))
    }

    /// Sums along the axes, which stay with length one.
    fn sum_kept(&mut self, input: &str, axes: &str) -> String {
        self.with("ReduceSum", &[input, axes], int("keepdims", 1))
    }

    fn concat(&mut self, inputs: &[&str], axis: i64) -> String {
        self.with("Concat", inputs, int("axis", axis))
    }

    fn gather(&mut self, input: &str, indices: &str, axis: i64) -> String {
        self.with("Gather", &[input, indices], int("axis", axis))
    }

    fn transpose(&mut self, input: &str, order: &[i64]) -> String {
        let perm = AttributeProto {
            name: "perm".to_owned(),
            r#type: AttributeType::Ints as i32,
            ints: order.to_vec(),
            ..AttributeProto::default()
        };
        self.with("Transpose", &[input], perm)
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: AttributeType::Int as i32, i: value, ..AttributeProto::default() }
}
