//! What a model may take on this gateway.

use std::time::Duration;

use proto::Manifest;
use serde::{Deserialize, Serialize};

use super::error::{grouped, size};

/// Longest that the gateway waits for any answer once a model runs; the pipeline stands still meanwhile.
const MAX_ANSWER: Duration = Duration::from_secs(10);

/// What an answer may take beyond the model's own time: the system may be busy with something else.
const SCHEDULING: Duration = Duration::from_secs(2);

/// Most time of the processor that a full batch may take in the self-test: well within [`MAX_ANSWER`].
const MAX_BATCH_TIME: Duration = Duration::from_millis(500);

/// What this gateway lets a model take, whatever its manifest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerLimits {
    /// Memory beyond an idle runner, in bytes.
    pub max_memory_bytes: u64,
    /// Time for one sample, in milliseconds.
    pub max_latency_ms: u64,
    /// Time from start to the end of the self-test by the clock, in seconds. Half of it may be time of the processor, so
    /// that a model is not refused because something else is busy.
    pub self_test_s: u64,
}

impl Default for RunnerLimits {
    fn default() -> Self {
        Self { max_memory_bytes: 256 << 20, max_latency_ms: 1_000, self_test_s: 60 }
    }
}

/// A limit and who set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// How much.
    pub value: u64,
    by: &'static str,
}

impl RunnerLimits {
    /// The memory that a model with this manifest may take, in bytes.
    pub(super) fn memory(&self, manifest: Option<&Manifest>) -> Limit {
        Limit::lower(self.max_memory_bytes, manifest.map(|manifest| manifest.limits.max_memory_bytes))
    }

    /// The time for one sample, in milliseconds.
    pub(super) fn latency(&self, manifest: Option<&Manifest>) -> Limit {
        Limit::lower(self.max_latency_ms, manifest.map(|manifest| manifest.limits.max_latency_ms))
    }

    /// Time of the processor that the self-test may take, in seconds.
    pub(super) fn cpu_s(&self) -> u64 {
        self.self_test_s.div_ceil(2)
    }

    /// How long the gateway waits for the scores of so many samples.
    pub(super) fn answer(&self, manifest: &Manifest, samples: usize) -> Duration {
        let own = self.latency(Some(manifest)).value.saturating_mul(samples as u64);
        SCHEDULING.saturating_add(Duration::from_millis(own)).min(MAX_ANSWER)
    }

    /// Time of the processor that a full batch may take in the self-test.
    pub(super) const fn batch() -> Duration {
        MAX_BATCH_TIME
    }
}

impl Limit {
    fn lower(gateway: u64, manifest: Option<u64>) -> Self {
        match manifest {
            Some(value) if value <= gateway => Self { value, by: "its manifest" },
            _ => Self { value: gateway, by: "this gateway" },
        }
    }

    /// The limit as a size: `64 MiB that its manifest allows`.
    pub(super) fn as_size(&self) -> String {
        format!("{} that {} allows", size(self.value), self.by)
    }

    /// The limit as a time: `50 ms that its manifest allows`.
    pub(super) fn as_time(&self) -> String {
        format!("{} ms that {} allows", grouped(self.value), self.by)
    }
}
