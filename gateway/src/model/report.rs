//! What is found out about a model file before it is trusted.

use std::collections::BTreeMap;

use proto::update::{Reason, SelfTest};
use serde::{Deserialize, Serialize};

use super::error::ModelError;

/// What is known of a model file, and what speaks against running it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Whether the gateway would run it: there are no problems.
    pub ok: bool,
    /// What speaks against running it.
    pub problems: Vec<Problem>,
    /// What does not, but is worth knowing.
    pub warnings: Vec<String>,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// What wrote it, in its own words.
    pub producer: String,
    /// The version of the file format.
    pub ir_version: i64,
    /// The version of each operator set, by its domain.
    pub opsets: BTreeMap<String, i64>,
    /// How often each operator is used, those in branches and loops included.
    pub operators: BTreeMap<String, usize>,
    /// What goes in.
    pub inputs: Vec<TensorInfo>,
    /// What comes out.
    pub outputs: Vec<TensorInfo>,
    /// What it took when it was run; none when it was not, or not to the end.
    pub self_test: Option<SelfTest>,
}

/// One reason against running a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Its kind.
    pub reason: Reason,
    /// What was expected and what came.
    pub text: String,
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The type of its values, as `float32`.
    pub datum_type: String,
    /// Its axes, each a number, a name, or `?`; none when the file does not say.
    pub shape: Option<Vec<String>>,
}

impl CheckReport {
    /// Notes a problem.
    pub(super) fn refuse(&mut self, reason: Reason, text: impl Into<String>) {
        self.problems.push(Problem { reason, text: text.into() });
        self.ok = false;
    }

    /// All problems as one error, of the first one's kind.
    pub(super) fn as_error(&self) -> Option<ModelError> {
        let texts: Vec<&str> = self.problems.iter().map(|problem| problem.text.as_str()).collect();
        self.problems.first().map(|problem| ModelError::new(problem.reason, texts.join("; ")))
    }
}

impl TensorInfo {
    /// The shape in brackets: `[N, 24, 6]`.
    #[must_use]
    pub fn shape_text(&self) -> String {
        self.shape.as_ref().map_or_else(|| "an unknown shape".to_owned(), |axes| format!("[{}]", axes.join(", ")))
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Self {
        Self { reason: error.reason(), text: error.to_string() }
    }
}
