//! Hostile and hapless model files, each with what is to be said of it: for the runner alone, and for a gateway to
//! which somebody pushes them.
#![allow(dead_code, clippy::unwrap_used)]

use gateway::model::RunnerLimits;
use proto::Manifest;
use proto::update::Reason;

use crate::onnx::{MEAN, Onnx, manifest};

#[path = "hostile/bombs.rs"]
pub mod bombs;
#[path = "hostile/files.rs"]
pub mod files;
#[path = "hostile/graphs.rs"]
pub mod graphs;

/// What a gateway lets these models take, unless a case says otherwise.
pub const LIMITS: RunnerLimits = RunnerLimits { max_memory_bytes: 256 << 20, max_latency_ms: 1_000, self_test_s: 60 };

/// A refusal: its reason, and words that are in its text.
type Refusal = (Reason, Vec<&'static str>);

/// A model that is to be refused.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// Its file.
    pub onnx: Vec<u8>,
    /// Its manifest.
    pub manifest: Manifest,
    /// What the gateway lets it take.
    pub limits: RunnerLimits,
    /// The runner refuses it in one of these ways.
    pub refusals: Vec<Refusal>,
    /// What the updater says of it before any runner sees it; none where it is left to the runner.
    pub unfetched: Option<Refusal>,
}

impl Case {
    /// A graph whose manifest and golden sample are right.
    pub fn new(name: impl Into<String>, onnx: &Onnx, reason: Reason, words: &[&'static str]) -> Self {
        Self::of_bytes(name, onnx.bytes(), reason, words)
    }

    /// The same of a file.
    pub fn of_bytes(name: impl Into<String>, onnx: Vec<u8>, reason: Reason, words: &[&'static str]) -> Self {
        let manifest = manifest("1.0.0", &onnx, &MEAN);
        let refusals = vec![(reason, words.to_vec())];
        Self { name: name.into(), onnx, manifest, limits: LIMITS, refusals, unfetched: None }
    }

    /// It may be refused in this way too: which limit it meets first is for the machine to say.
    #[must_use]
    pub fn or(mut self, reason: Reason, words: &[&'static str]) -> Self {
        self.refusals.push((reason, words.to_vec()));
        self
    }

    /// Its manifest says something else.
    #[must_use]
    pub fn manifest(mut self, change: impl FnOnce(&mut Manifest)) -> Self {
        change(&mut self.manifest);
        self
    }

    /// The gateway lets it take something else.
    #[must_use]
    pub fn limits(mut self, limits: RunnerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The updater refuses it while it is fetched, and says so in other words than the runner would.
    #[must_use]
    pub fn unfetched(mut self, reason: Reason, words: &[&'static str]) -> Self {
        self.unfetched = Some((reason, words.to_vec()));
        self
    }

    /// Prints what the runner said of it as a line of a table, and holds it against what is to be said.
    #[track_caller]
    pub fn expect(&self, reason: Reason, text: &str) {
        expect(&self.name, &self.refusals, reason, text);
    }

    /// The same for what a whole gateway said of it.
    #[track_caller]
    pub fn expect_of_gateway(&self, reason: Reason, text: &str) {
        let unfetched = self.unfetched.as_ref().map(std::slice::from_ref);
        expect(&self.name, unfetched.unwrap_or(&self.refusals), reason, text);
    }
}

#[track_caller]
fn expect(name: &str, refusals: &[Refusal], reason: Reason, text: &str) {
    println!("| {name} | {reason} | {text} |");
    let said = |(r, words): &Refusal| *r == reason && !text.is_empty() && words.iter().all(|word| text.contains(word));
    assert!(refusals.iter().any(said), "{name}: {reason}: {text}\nexpected one of {refusals:?}");
}
