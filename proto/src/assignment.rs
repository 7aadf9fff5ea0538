//! What a gateway is to run, and what the registry's targets are called.
//!
//! An assignment is itself a signed target of the registry: whoever owns the network can neither choose what a gateway
//! runs, nor bring an older choice back. Names of targets are flat, because TUF clients disagree about a slash in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checked::{self, Wrong};
use crate::id::{FarmId, GatewayId};
use crate::manifest::{is_digest, is_name, is_version};

/// The largest ONNX file that is registered and fetched, in bytes: a gateway is a small computer.
pub const MAX_MODEL_BYTES: u64 = 16 << 20;
/// The largest manifest, in bytes; golden samples of a day of quarter hours fit many times.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// The largest assignment, in bytes.
pub const MAX_ASSIGNMENT_BYTES: u64 = 64 << 10;
/// The most models that a gateway runs at a time; each takes a process and its memory.
pub const MAX_MODELS: usize = 16;
/// The longest time in shadow, in seconds of farm time: a season.
pub const MAX_SHADOW_S: u32 = 180 * 86_400;

/// The target that holds a model's ONNX file.
#[must_use]
pub fn model_target(name: &str, version: &str) -> String {
    format!("{name}-{version}.onnx")
}

/// The target that holds a model's manifest.
#[must_use]
pub fn manifest_target(name: &str, version: &str) -> String {
    format!("{name}-{version}.toml")
}

/// The target that says what a gateway is to run.
#[must_use]
pub fn assignment_target(farm: &FarmId, gateway: &GatewayId) -> String {
    format!("assignment.{farm}.{gateway}.json")
}

/// What a gateway is to run, by the models' names. What is not named stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignments {
    /// By the model's name.
    pub models: BTreeMap<String, Assignment>,
}

/// The version of one model that a gateway is to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The version.
    pub version: String,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub sha256: String,
    /// Grows with every assignment of this model to this gateway. What was refused is tried again with a higher one only.
    pub serial: u64,
    /// How long it runs in shadow first, in seconds of farm time; 0 for not at all.
    pub shadow_s: u32,
    /// The share of scores that must agree with the active version at the end of the shadow, 0 to 1.
    pub min_agreement: f64,
}

impl Assignments {
    /// Reads and checks assignments.
    ///
    /// # Errors
    /// Everything that is wrong, a sentence each.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<String>> {
        checked::read(bytes, MAX_ASSIGNMENT_BYTES, Self::check)
    }

    /// The assignments as JSON. The same assignments give the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        checked::written(self)
    }

    /// What is wrong, a sentence each; nothing when all is well.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Wrong::default();
        wrong.expect(self.models.len() <= MAX_MODELS, "models", &self.models.len(), "at most 16 models");
        for (name, assignment) in self.models.iter().take(MAX_MODELS) {
            let shown: String = name.chars().take(64).collect();
            let key = |key: &str| format!("models.{shown}{key}");
            wrong.expect(is_name(name), &key(""), &shown, "a name of 1 to 64 characters of a-z, 0-9 and -");
            let Assignment { version, sha256, serial, shadow_s, min_agreement } = assignment;
            wrong.expect(is_version(version), &key(".version"), version, "three numbers like 1.0.0");
            wrong.expect(is_digest(sha256), &key(".sha256"), sha256, "64 characters of 0-9 and a-f");
            wrong.expect(*serial > 0, &key(".serial"), serial, "above 0");
            wrong.expect(*shadow_s <= MAX_SHADOW_S, &key(".shadow_s"), shadow_s, "at most 15552000 seconds");
            wrong.expect((0.0..=1.0).contains(min_agreement), &key(".min_agreement"), min_agreement, "0 to 1");
        }
        wrong.0
    }
}
