//! Files that are not what they should be.

use proto::update::Reason;
use tract_onnx::pb::StringStringEntryProto;

use super::Case;
use crate::onnx::Onnx;

/// One of each kind.
pub fn all() -> Vec<Case> {
    let mut cases = no_models();
    cases.extend([another_file(), larger_than_promised(), larger_than_any(), mistakes(), external_data()]);
    cases.extend(larger_than_their_data());
    cases.push(no_memory());
    cases
}

/// Bytes that are no model.
pub fn no_models() -> Vec<Case> {
    let whole = Onnx::mean(1.0).bytes();
    let case = |name, bytes, words: &[&'static str]| Case::of_bytes(name, bytes, Reason::Unsupported, words);
    vec![
        case("nothing at all", vec![], &["0 bytes is no ONNX model"]),
        case("100 bytes of 0xff", vec![0xff; 100], &["100 bytes is no ONNX model"]),
        case("two bytes", b"\x08\x08".to_vec(), &["2 bytes is no ONNX model"]),
        case("half a model", whole[..whole.len() / 2].to_vec(), &["bytes is no ONNX model"]),
        case("5,000 zeros", vec![0; 5_000], &["5000 bytes is no ONNX model"]),
    ]
}

/// Another file than the manifest describes.
pub fn another_file() -> Case {
    let words = ["the sha256 of model.onnx is "];
    Case::new("another file than the manifest's", &Onnx::mean(2.0), Reason::Digest, &words)
        .manifest(|manifest| manifest.sha256 = "0".repeat(64))
        .unfetched(Reason::Manifest, &["sha256: \"", "\", expected \""])
}

/// A file that is larger than its manifest says.
pub fn larger_than_promised() -> Case {
    Case::new("larger than its manifest allows", &Onnx::mean(1.0), Reason::TooLarge, &["more than the 100 "])
        .manifest(|manifest| manifest.limits.max_bytes = 100)
        .unfetched(Reason::Manifest, &["limits.max_bytes: 100, but the model has "])
}

/// A file that is larger than any may be.
pub fn larger_than_any() -> Case {
    let words = ["model.onnx has 16,777,217 bytes, more than the 16,777,216 that any model may have"];
    Case::of_bytes("larger than 16 MiB", vec![0; (16 << 20) + 1], Reason::TooLarge, &words)
        .unfetched(Reason::TooLarge, &["16777217 bytes, expected at most 16777216"])
}

/// A manifest with mistakes.
pub fn mistakes() -> Case {
    let words = ["threshold: ", "golden[0].output: 1 is not 2 values"];
    Case::new("a manifest with mistakes", &Onnx::mean(1.0), Reason::Manifest, &words).manifest(|manifest| {
        manifest.threshold = 0.0;
        manifest.golden[0].output.pop();
    })
}

/// Data outside the file.
pub fn external_data() -> Case {
    let mut onnx = Onnx::mean(1.0);
    let tensor = &mut onnx.graph().initializer[0];
    tensor.raw_data.clear();
    tensor.data_location = Some(1);
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    tensor.external_data = vec![entry("location", "../../etc/passwd"), entry("length", "100")];
    let words = ["tensor \"scale\" in \"../../etc/passwd\""];
    Case::new("data outside the file", &onnx, Reason::ExternalData, &words)
}

/// Tensors that are larger than their data.
pub fn larger_than_their_data() -> Vec<Case> {
    let case = |name, dims: &[i64], words: &[&'static str]| {
        let mut onnx = Onnx::mean(1.0);
        onnx.graph().initializer[0].dims = dims.to_vec();
        Case::new(name, &onnx, Reason::Unsupported, words)
    };
    let words = ["\"scale\" has shape [1000000,", "but holds 1 values"];
    vec![
        case("a tensor larger than its data", &[1_000_000; 4], &words),
        case("a tensor smaller than nothing", &[-1], &["\"scale\" has shape [-1], but holds 1 values"]),
    ]
}

/// A good model that is allowed no memory.
pub fn no_memory() -> Case {
    let words = ["the 1 bytes that its manifest allows"];
    Case::new("a good model that may take one byte", &Onnx::mean(1.0), Reason::Memory, &words)
        .manifest(|manifest| manifest.limits.max_memory_bytes = 1)
}
