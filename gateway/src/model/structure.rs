//! What a model file says of itself, read without running anything: operators, types, shapes, and what is missing.
//!
//! All problems are found at once, and in the words of who exported the model, not in those of the runtime.

use std::collections::{BTreeMap, BTreeSet};

use proto::Manifest;
use proto::update::Reason;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Axis;
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use super::error::{ModelError, grouped};
use super::report::{CheckReport, TensorInfo};
use super::wiring;

/// Oldest version of the standard operators that the runtime was made for.
pub const OLDEST_OPSET: i64 = 9;
/// Newest version of the standard operators that the runtime is tested with.
pub const TESTED_OPSET: i64 = 18;
/// Newest version of the standard operators that is tried; golden samples say whether it went well.
pub const NEWEST_OPSET: i64 = 23;

/// Domains whose operators the runtime knows.
const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];

/// The name that decides among several outputs.
pub const OUTPUT: &str = "scores";

/// Most nodes, tensors or operators that one problem names.
const MAX_NAMED: usize = 8;

/// Reads the file.
///
/// # Errors
/// When it is no protobuf of a model, or has no graph.
pub fn read(onnx: &[u8]) -> Result<ModelProto, ModelError> {
    use prost::Message as _;
    let unreadable = |why: &dyn std::fmt::Display| {
        ModelError::new(Reason::Unsupported, format_args!("the file of {} bytes is no ONNX model: {why}", onnx.len()))
    };
    let model = ModelProto::decode(onnx).map_err(|error| {
        let text = error.to_string();
        // The decoder names the whole way to the bottom.
        if text.ends_with("recursion limit reached") { unreadable(&"it nests too deeply") } else { unreadable(&text) }
    })?;
    match &model.graph {
        Some(graph) if !graph.node.is_empty() => Ok(model),
        Some(_) => Err(unreadable(&"its graph has no nodes")),
        None => Err(unreadable(&"it has no graph")),
    }
}

/// Everything about a model that can be said without running it. What the manifest demands is compared, where there is one.
#[must_use]
pub fn inspect(model: &ModelProto, manifest: Option<&Manifest>) -> CheckReport {
    let mut report = CheckReport {
        ok: true,
        producer: [model.producer_name.as_str(), &model.producer_version].join(" ").trim().to_owned(),
        ir_version: model.ir_version,
        opsets: model.opset_import.iter().map(|set| (domain(&set.domain).to_owned(), set.version)).collect(),
        ..CheckReport::default()
    };
    let Some(graph) = &model.graph else { return report };
    let given: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    report.inputs = graph.input.iter().filter(|input| !given.contains(input.name.as_str())).map(describe).collect();
    report.outputs = graph.output.iter().map(describe).collect();
    for node in all_nodes(graph) {
        *report.operators.entry(node.op_type.clone()).or_default() += 1;
    }
    check_external(graph, &mut report);
    check_tensors(graph, &mut report);
    check_opset(&mut report);
    check_operators(model, graph, &mut report);
    for problem in wiring::problems(graph) {
        report.refuse(Reason::Unsupported, problem);
    }
    check_input(manifest, &mut report);
    check_output(manifest, &mut report);
    report
}

/// The graph's nodes, with those of branches and loops.
fn all_nodes(graph: &GraphProto) -> Vec<&NodeProto> {
    let mut nodes = Vec::new();
    let mut waiting = vec![graph];
    while let Some(graph) = waiting.pop() {
        nodes.extend(&graph.node);
        waiting.extend(subgraphs(graph.node.iter()));
    }
    nodes
}

/// The graphs in the attributes of nodes.
pub fn subgraphs<'a>(nodes: impl Iterator<Item = &'a NodeProto>) -> impl Iterator<Item = &'a GraphProto> {
    nodes.flat_map(|node| &node.attribute).flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Every tensor of the file: initializers and attributes, those in branches and loops too.
fn all_tensors(graph: &GraphProto) -> Vec<&TensorProto> {
    let mut tensors = Vec::new();
    let mut waiting = vec![graph];
    while let Some(graph) = waiting.pop() {
        tensors.extend(&graph.initializer);
        let sparse = graph.sparse_initializer.iter().flat_map(|sparse| sparse.values.iter().chain(&sparse.indices));
        tensors.extend(sparse);
        let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
        tensors.extend(attributes().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors)));
        waiting.extend(subgraphs(graph.node.iter()));
    }
    tensors
}

fn check_external(graph: &GraphProto, report: &mut CheckReport) {
    let outside: Vec<String> = all_tensors(graph)
        .into_iter()
        .filter(|tensor| !tensor.external_data.is_empty() || tensor.data_location.is_some_and(|place| place != 0))
        .map(|tensor| {
            let location = tensor.external_data.iter().find(|entry| entry.key == "location");
            format!("{:?} in {:?}", tensor.name, location.map_or("another file", |entry| &entry.value))
        })
        .collect();
    if !outside.is_empty() {
        let text = format!(
            "keeps data outside its file, which is refused: tensor {}. Export the model as one file, without external data",
            some_of(&outside)
        );
        report.refuse(Reason::ExternalData, text);
    }
}

fn check_tensors(graph: &GraphProto, report: &mut CheckReport) {
    let wrong: Vec<String> = all_tensors(graph).into_iter().filter_map(mismatch).collect();
    if !wrong.is_empty() {
        report.refuse(Reason::Unsupported, format!("tensor {}", some_of(&wrong)));
    }
}

/// How a tensor's data does not fill its shape.
fn mismatch(tensor: &TensorProto) -> Option<String> {
    let outside = tensor.data_location.is_some_and(|place| place != 0);
    let width = width(tensor.data_type)?;
    if outside {
        return None;
    }
    let declared = tensor.dims.iter().try_fold(1_u64, |product, axis| {
        u64::try_from(*axis).ok().and_then(|axis| product.checked_mul(axis)).filter(|product| *product < 1 << 60)
    });
    let held = if tensor.raw_data.is_empty() {
        let typed = [
            tensor.float_data.len(),
            tensor.int32_data.len(),
            tensor.int64_data.len(),
            tensor.double_data.len(),
            tensor.uint64_data.len(),
        ];
        typed.into_iter().max().unwrap_or(0) as u64
    } else {
        tensor.raw_data.len() as u64 / width
    };
    (declared != Some(held))
        .then(|| format!("{:?} has shape {:?}, but holds {} values", tensor.name, tensor.dims, grouped(held)))
}

/// Bytes of one value in a tensor's raw data; none where a value is not of whole bytes, or of any length.
fn width(data_type: i32) -> Option<u64> {
    match DataType::try_from(data_type).ok()? {
        DataType::Uint8 | DataType::Int8 | DataType::Bool => Some(1),
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        _ => None,
    }
}

fn check_opset(report: &mut CheckReport) {
    let Some(version) = report.opsets.get("ai.onnx").copied() else {
        let text = format!(
            "does not say which operator set (opset) it was made for; export it with opset {TESTED_OPSET}, which is tested"
        );
        report.refuse(Reason::Unsupported, text);
        return;
    };
    if version < OLDEST_OPSET {
        let text = format!(
            "operator set (opset) {version} is too old: the gateway runs {OLDEST_OPSET} to {NEWEST_OPSET}; \
             export the model with opset {TESTED_OPSET}"
        );
        report.refuse(Reason::Unsupported, text);
    } else if version > NEWEST_OPSET {
        let text = format!(
            "operator set (opset) {version} is too new: the gateway runs {OLDEST_OPSET} to {NEWEST_OPSET}; \
             export the model with opset {TESTED_OPSET}"
        );
        report.refuse(Reason::Unsupported, text);
    } else if version > TESTED_OPSET {
        report.warnings.push(format!(
            "operator set (opset) {version} is newer than {TESTED_OPSET}, the newest that is tested; the golden samples decide"
        ));
    }
}

/// Operators that the runtime does not have: all of them, each with the nodes that use it.
fn check_operators(model: &ModelProto, graph: &GraphProto, report: &mut CheckReport) {
    let known = tract_onnx::onnx().op_register;
    let mut unknown: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for node in all_nodes(graph) {
        if !known.0.contains_key(&node.op_type) || !DOMAINS.contains(&node.domain.as_str()) {
            unknown.entry((&node.op_type, domain(&node.domain))).or_default().push(label(node));
        }
    }
    for ((operator, domain), nodes) in unknown {
        let functions = || model.functions.iter().filter_map(|function| function.name.as_deref());
        let advice = if functions().any(|name| name == operator) {
            "; it is a function of the model: export it with its functions inlined"
        } else {
            ""
        };
        let text =
            format!("operator {operator} of domain {domain} is not supported (node {}){advice}", some_of(&nodes));
        report.refuse(Reason::Unsupported, text);
    }
}

fn check_input(manifest: Option<&Manifest>, report: &mut CheckReport) {
    let [input] = report.inputs.as_slice() else {
        let names: Vec<String> = report.inputs.iter().map(|input| format!("{:?}", input.name)).collect();
        let text = format!(
            "has {} inputs ({}), expected one of shape [N, steps, features]",
            names.len(),
            if names.is_empty() { "none".to_owned() } else { some_of(&names) }
        );
        report.refuse(Reason::Unsupported, text);
        return;
    };
    let expected: [Option<usize>; 2] = match manifest {
        Some(manifest) => [Some(manifest.input.steps as usize), Some(manifest.input.features.len())],
        None => [None, None],
    };
    let expected_text = format!(
        "[N, {}, {}] (N samples, steps, features){}",
        expected[0].map_or("steps".to_owned(), |n| n.to_string()),
        expected[1].map_or("features".to_owned(), |n| n.to_string()),
        if manifest.is_some() { " as the manifest says" } else { "" }
    );
    let mut wrong = Vec::new();
    if input.datum_type != "float32" {
        wrong.push(format!(
            "input {:?} is of type {}, expected float32; export the model with float32 inputs",
            input.name, input.datum_type
        ));
    }
    if let Some(axes) = &input.shape {
        let fits = |axis: &String, size: Option<usize>| {
            size.is_none_or(|size| axis.parse::<usize>().map_or(true, |found| found == size))
        };
        let right = axes.len() == 3 && fits(&axes[1], expected[0]) && fits(&axes[2], expected[1]);
        if !right {
            wrong.push(format!("input {:?} has shape {}, expected {expected_text}", input.name, input.shape_text()));
        }
    }
    wrong.into_iter().for_each(|text| report.refuse(Reason::Unsupported, text));
}

fn check_output(manifest: Option<&Manifest>, report: &mut CheckReport) {
    let Some(output) = chosen_output(&report.outputs) else {
        let names: Vec<String> = report.outputs.iter().map(|output| format!("{:?}", output.name)).collect();
        let text = format!(
            "has {} outputs ({}), expected one, or one that is named {OUTPUT:?}",
            names.len(),
            if names.is_empty() { "none".to_owned() } else { some_of(&names) }
        );
        report.refuse(Reason::Unsupported, text);
        return;
    };
    let output = report.outputs[output].clone();
    if !["float32", "undefined"].contains(&output.datum_type.as_str()) {
        let text = format!("output {:?} is of type {}, expected float32", output.name, output.datum_type);
        report.refuse(Reason::Unsupported, text);
    }
    // Exporters are often wrong about their outputs, and the runtime does not rely on it. A run shows what is true.
    if let (Some(manifest), Some(axes)) = (manifest, &output.shape) {
        let width = manifest.output.scores.len();
        let last = axes.last().and_then(|axis| axis.parse::<usize>().ok());
        if axes.len() != 2 || last.is_some_and(|last| last != width) {
            report.warnings.push(format!(
                "output {:?} is declared as {}, expected [N, {width}], a score for each channel of the manifest",
                output.name,
                output.shape_text()
            ));
        }
    }
}

/// Which output holds the scores: the only one, or the one with that name.
#[must_use]
pub fn chosen_output(outputs: &[TensorInfo]) -> Option<usize> {
    match outputs {
        [_] => Some(0),
        several => several.iter().position(|output| output.name == OUTPUT),
    }
}

fn describe(value: &ValueInfoProto) -> TensorInfo {
    let tensor = value.r#type.as_ref().and_then(|t| t.value.as_ref()).map(|Type::TensorType(tensor)| tensor);
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref()).map(|shape| {
        let axis = |axis: Option<&Axis>| match axis {
            Some(Axis::DimValue(size)) => size.to_string(),
            Some(Axis::DimParam(name)) if !name.is_empty() => name.clone(),
            _ => "?".to_owned(),
        };
        shape.dim.iter().map(|dimension| axis(dimension.value.as_ref())).collect()
    });
    TensorInfo {
        name: value.name.clone(),
        datum_type: tensor.map_or("undefined".to_owned(), |t| type_name(t.elem_type)),
        shape,
    }
}

/// A type's usual name: `float32`, `float64`, `int64`.
fn type_name(data_type: i32) -> String {
    match DataType::try_from(data_type) {
        Ok(DataType::Float) => "float32".to_owned(),
        Ok(DataType::Double) => "float64".to_owned(),
        Ok(other) => format!("{other:?}").to_lowercase(),
        Err(_) => format!("number {data_type}, which is none"),
    }
}

/// What a node is called: by its name, or by what it gives.
pub fn label(node: &NodeProto) -> String {
    let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
    format!("{:?}", name.map_or("", String::as_str))
}

/// The standard domain has two spellings.
fn domain(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

/// Names separated by commas, and how many more there are.
pub fn some_of(names: &[String]) -> String {
    let mut text = names[..names.len().min(MAX_NAMED)].join(", ");
    if names.len() > MAX_NAMED {
        text.push_str(&format!(" and {} more", names.len() - MAX_NAMED));
    }
    text
}
