//! Models to push: the one that comes with the gateway, with something changed.

use std::fs;
use std::path::{Path, PathBuf};

use proto::Manifest;
use sha2::{Digest as _, Sha256};

/// The base model's folder.
#[must_use]
pub fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/models/soil-anomaly-1.0.0")
}

/// Writes the base model as another version into `dir`: another file (what a producer calls itself changes nothing that is
/// computed), and whatever `change` does to its manifest.
pub fn variant(dir: &Path, version: &str, change: impl FnOnce(&mut Manifest)) {
    let mut onnx = fs::read(base().join("model.onnx")).unwrap();
    // `producer_version` of ONNX' ModelProto: field 3, a string. A later field of the same number takes the place of an earlier.
    onnx.extend([0x1a, u8::try_from(version.len()).unwrap()]);
    onnx.extend(version.as_bytes());
    let mut manifest = Manifest::parse(&fs::read_to_string(base().join("manifest.toml")).unwrap()).unwrap();
    version.clone_into(&mut manifest.version);
    manifest.parent = Some("1.0.0".to_owned());
    manifest.sha256 = Sha256::digest(&onnx).iter().map(|byte| format!("{byte:02x}")).collect();
    change(&mut manifest);
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("model.onnx"), onnx).unwrap();
    fs::write(dir.join("manifest.toml"), manifest.to_toml().unwrap()).unwrap();
}
