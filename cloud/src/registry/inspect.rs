//! What a model must be to be registered: a manifest without a mistake, and an ONNX file that is the manifest's and can be
//! read. Whether it can be run, how fast and in how much memory, is for the gateway to find out.

use std::collections::VecDeque;

use prost::Message as _;
use proto::Manifest;
use proto::assignment::MAX_MODEL_BYTES;
use sha2::{Digest as _, Sha256};
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

/// The oldest version of the file format that is taken: the one with which operator sets came.
const LEAST_IR_VERSION: i64 = 3;

/// The most tensors with external data that are listed by name.
const MOST_LISTED: usize = 8;

/// Reads a manifest and looks through its ONNX file.
///
/// # Errors
/// Everything that is wrong, a sentence each.
pub fn inspect(manifest: &str, onnx: &[u8]) -> Result<Manifest, Vec<String>> {
    let (parsed, mut mistakes) = match Manifest::parse(manifest) {
        Ok(manifest) => (Some(manifest), Vec::new()),
        Err(proto::manifest::ManifestError::Values(mistakes)) => (None, mistakes),
        Err(error) => (None, vec![format!("the manifest is not one: {error}")]),
    };
    if let Some(manifest) = &parsed {
        let (length, most) = (onnx.len() as u64, manifest.limits.max_bytes.min(MAX_MODEL_BYTES));
        if length > most {
            mistakes.push(format!("limits.max_bytes: the file has {length} bytes, more than {most}"));
        }
        if manifest.trained_on.contains('\0') {
            mistakes.push("trained_on: holds a zero byte".to_owned());
        }
        let sha256 = hex::encode(Sha256::digest(onnx));
        if manifest.sha256 != sha256 {
            mistakes.push(format!("sha256: the manifest says {:?}, and the file is {sha256:?}", manifest.sha256));
        }
    }
    mistakes.extend(problems(onnx));
    match parsed {
        Some(manifest) if mistakes.is_empty() => Ok(manifest),
        _ => Err(mistakes),
    }
}

/// What is wrong with an ONNX file.
fn problems(onnx: &[u8]) -> Vec<String> {
    let model = match ModelProto::decode(onnx) {
        Ok(model) => model,
        Err(error) => return vec![format!("the model is not an ONNX file: {error}")],
    };
    let mut problems = Vec::new();
    if model.ir_version < LEAST_IR_VERSION {
        problems
            .push(format!("the model's ir_version is {}, and must be at least {LEAST_IR_VERSION}", model.ir_version));
    }
    let opset = model.opset_import.iter().find(|set| matches!(set.domain.as_str(), "" | "ai.onnx"));
    if opset.is_none_or(|set| set.version < 1) {
        problems.push("the model imports no version of ONNX' own operators (opset_import)".to_owned());
    }
    match &model.graph {
        None => problems.push("the model has no graph".to_owned()),
        Some(graph) => {
            if graph.node.is_empty() || graph.output.is_empty() {
                problems.push("the model's graph has no nodes or no outputs".to_owned());
            }
        }
    }
    let outside = external_tensors(&model);
    if !outside.is_empty() {
        let listed: Vec<String> = outside.iter().take(MOST_LISTED).cloned().collect();
        let more = outside.len().saturating_sub(MOST_LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let listed = listed.join(", ");
        problems.push(format!("tensors are kept outside the file, which is not allowed: {listed}{more}"));
    }
    problems
}

/// The tensors whose data are in other files, wherever in the model they are.
fn external_tensors(model: &ModelProto) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |tensor: &TensorProto| {
        if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
            let location = tensor.external_data.iter().find(|entry| entry.key == "location");
            let location = location.map_or("an unnamed place", |entry| entry.value.as_str());
            found.push(shown(&format!("{:?} in {location:?}", tensor.name)));
        }
    };
    let mut graphs: VecDeque<&GraphProto> = model.graph.iter().collect();
    let training = model.training_info.iter();
    graphs.extend(training.flat_map(|info| info.initialization.iter().chain(&info.algorithm)));
    let mut nodes: VecDeque<&NodeProto> = model.functions.iter().flat_map(|function| &function.node).collect();
    loop {
        if let Some(graph) = graphs.pop_front() {
            graph.initializer.iter().for_each(&mut look);
            graph.sparse_initializer.iter().flat_map(parts).for_each(&mut look);
            nodes.extend(&graph.node);
        } else if let Some(node) = nodes.pop_front() {
            for attribute in &node.attribute {
                attribute.t.iter().chain(&attribute.tensors).for_each(&mut look);
                let sparse = attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors);
                sparse.flat_map(parts).for_each(&mut look);
                graphs.extend(attribute.g.iter().chain(&attribute.graphs));
            }
        } else {
            return found;
        }
    }
}

fn parts(sparse: &SparseTensorProto) -> impl Iterator<Item = &TensorProto> {
    sparse.values.iter().chain(&sparse.indices)
}

/// The first 160 characters of something that came from outside.
fn shown(text: &str) -> String {
    text.chars().take(160).collect()
}
