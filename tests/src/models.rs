//! Models to push: the one that comes with the gateway, with something changed.

use std::fs;
use std::path::{Path, PathBuf};

use node_sim::station::CHANNELS;
use proto::{Channel, Manifest, NodeModelFile, Quantity};
use sha2::{Digest as _, Sha256};

/// The base model's folder.
#[must_use]
pub fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/models/soil-anomaly-1.0.0")
}

/// Writes the base model as another version into `dir`: another file (what a producer calls itself changes nothing that is
/// computed), and whatever `change` does to its manifest.
pub fn variant(dir: &Path, version: &str, change: impl FnOnce(&mut Manifest)) {
    rebuilt(dir, version, |onnx| onnx, change);
}

/// The same with whatever `rebuild` makes of the file.
pub fn rebuilt(
    dir: &Path,
    version: &str,
    rebuild: impl FnOnce(Vec<u8>) -> Vec<u8>,
    change: impl FnOnce(&mut Manifest),
) {
    let mut onnx = rebuild(fs::read(base().join("model.onnx")).unwrap());
    // ModelProto's `producer_version`. A later field of the same number takes the place of an earlier.
    onnx.extend(field(3, version.as_bytes()));
    let mut manifest = Manifest::parse(&fs::read_to_string(base().join("manifest.toml")).unwrap()).unwrap();
    version.clone_into(&mut manifest.version);
    manifest.parent = Some("1.0.0".to_owned());
    manifest.sha256 = Sha256::digest(&onnx).iter().map(|byte| format!("{byte:02x}")).collect();
    change(&mut manifest);
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("model.onnx"), onnx).unwrap();
    fs::write(dir.join("manifest.toml"), manifest.to_toml().unwrap()).unwrap();
}

/// A file whose scores depend on the greatest of so many zeros more.
#[must_use]
pub fn bomb(onnx: Vec<u8>, values: i64) -> Vec<u8> {
    let parts = [
        integers("bomb_values", &[values]),
        node("ConstantOfShape", &["bomb_values"], "bomb_zeros"),
        node("ReduceMax", &["bomb_zeros"], "bomb_most"),
        node("Reshape", &["bomb_most", "bomb_one"], "bomb_row"),
        integers("bomb_one", &[1]),
    ];
    and_added(onnx, &parts.concat(), "bomb_row")
}

/// A file that squares a matrix of `side` by `side` so often before it gives its scores.
#[must_use]
pub fn slow(onnx: Vec<u8>, side: i64, times: usize) -> Vec<u8> {
    let mut parts = [
        integers("slow_sides", &[side, side]),
        integers("slow_one", &[1]),
        // Of what goes in, so that it is not computed once and for all; but nothing: no input is infinite.
        node("IsInf", &["input"], "slow_infinite"),
        cast("slow_infinite", "slow_nothings"),
        node("ReduceMax", &["slow_nothings"], "slow_most"),
        node("Expand", &["slow_most", "slow_sides"], "slow0"),
    ]
    .concat();
    for index in 0..times {
        let (from, to) = (format!("slow{index}"), format!("slow{}", index + 1));
        parts.extend(node("MatMul", &[&from, &from], &to));
    }
    parts.extend(node("ReduceMax", &[&format!("slow{times}")], "slow_end"));
    parts.extend(node("Reshape", &["slow_end", "slow_one"], "slow_row"));
    and_added(onnx, &parts, "slow_row")
}

/// A file with an operator that no runtime has.
#[must_use]
pub fn strange(onnx: Vec<u8>) -> Vec<u8> {
    and_added(onnx, &node("Frobnicate", &["input"], "strange"), "strange")
}

/// A file that keeps a tensor in another one.
#[must_use]
pub fn outside(onnx: Vec<u8>) -> Vec<u8> {
    let location = [field(1, b"location"), field(2, b"weights.bin")].concat();
    // TensorProto: a dimension of 1, floats, a name, an entry of `external_data`, and that this is where the data are.
    let tensor = [vec![0x08, 1, 0x10, 1], field(8, b"elsewhere"), field(13, &location), vec![0x70, 1]].concat();
    and_added(onnx, &field(5, &tensor), "elsewhere")
}

/// Adds parts to a file's graph, and `tensor` to its scores.
fn and_added(mut onnx: Vec<u8>, parts: &[u8], tensor: &str) -> Vec<u8> {
    // What was called the scores is another tensor of the same length from now on.
    let places: Vec<usize> = (0..onnx.len()).filter(|at| onnx[*at..].starts_with(b"\x06scores")).collect();
    for at in places {
        onnx[at + 1..at + 7].copy_from_slice(b"before");
    }
    // ValueInfoProto: a tensor of floats, of which nothing more is said.
    let scores = [field(1, b"scores"), field(2, &field(1, &[0x08, 1]))].concat();
    let graph = [parts.to_vec(), node("Add", &["before", tensor], "scores"), field(12, &scores)].concat();
    // A later graph is merged into an earlier one. Of its outputs, the gateway takes the one called scores.
    onnx.extend(field(7, &graph));
    onnx
}

/// GraphProto's `node`, named after its output.
fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    let name = output.as_bytes();
    field(1, &[inputs, field(2, name), field(3, name), field(4, operator.as_bytes())].concat())
}

/// A node that makes floats of a tensor.
fn cast(input: &str, output: &str) -> Vec<u8> {
    // AttributeProto: `to` is 1, an integer.
    let to = [field(1, b"to"), vec![0x18, 1, 0xa0, 1, 2]].concat();
    let parts = [field(1, input.as_bytes()), field(2, output.as_bytes()), field(4, b"Cast"), field(5, &to)];
    field(1, &parts.concat())
}

/// GraphProto's `initializer`: a vector of integers.
fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let head = vec![0x08, u8::try_from(values.len()).unwrap(), 0x10, 7];
    field(5, &[head, field(8, name.as_bytes()), field(9, &data)].concat())
}

/// A field of bytes in a protobuf message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.extend(bytes);
    field
}

/// A model for nodes that says of its channels that they stay as they were, or in `always` that they are far from it. So many units that
/// it takes several chunks.
#[must_use]
pub fn for_nodes(version: &str, always: bool) -> Vec<u8> {
    let channels: Vec<Channel> = CHANNELS.into_iter().filter(|c| c.quantity != Quantity::Rain).take(10).collect();
    let normal = channels.iter().map(|channel| {
        let range = channel.quantity.range();
        (((range.start() + range.end()) / 2.0) as f32, ((range.end() - range.start()) / 2.0 * 16.0 / 127.0) as f32)
    });
    let mut file = NodeModelFile::persistence(version.parse().unwrap(), &channels, normal.collect(), 4);
    file.thresholds.fill(2.0);
    if always {
        file.second.biases.fill(64 * 40);
    }
    let bytes = file.encode().unwrap();
    assert!(bytes.len() > 2 * 512, "{} bytes", bytes.len());
    bytes
}
