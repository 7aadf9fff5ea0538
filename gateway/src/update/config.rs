//! What a gateway lets an update of a model take.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{RunnerLimits, RunnerProgram};

/// How models are updated. Without a pinned root there are no updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdatesConfig {
    /// The registry's `root.json` that this gateway trusts from the start, brought along with its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// How often the registry is asked, in seconds of the wall clock.
    pub poll_s: u64,
    /// The most that is received from the registry in an hour, in bytes.
    pub bytes_per_hour: u64,
    /// The most memory that a model that is not built in may take, in bytes, whatever its manifest asks for.
    pub max_memory_bytes: u64,
    /// The most time that such a model may take for a sample, in milliseconds, whatever its manifest asks for.
    pub max_latency_ms: u64,
    /// The most time that the self-test may take, in seconds.
    pub self_test_s: u64,
    /// How long the gateway must stay up with a new version before it counts as kept, in seconds of the wall clock.
    pub probation_s: u64,
    /// The `gateway` or `tilth` program that runs such models; without it this very program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_program: Option<PathBuf>,
}

impl Default for UpdatesConfig {
    fn default() -> Self {
        Self {
            root: None,
            poll_s: 60,
            bytes_per_hour: 64 << 20,
            max_memory_bytes: 256 << 20,
            max_latency_ms: 1_000,
            self_test_s: 60,
            probation_s: 600,
            runner_program: None,
        }
    }
}

impl UpdatesConfig {
    /// The program that runs models that are not built in.
    #[must_use]
    pub fn program(&self) -> RunnerProgram {
        self.runner_program.as_ref().map_or_else(RunnerProgram::this, RunnerProgram::at)
    }

    /// What such a model may take.
    #[must_use]
    pub const fn limits(&self) -> RunnerLimits {
        RunnerLimits {
            max_memory_bytes: self.max_memory_bytes,
            max_latency_ms: self.max_latency_ms,
            self_test_s: self.self_test_s,
        }
    }

    /// The keys that hold what they may not, as key, value and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, u64, &'static str)> {
        let least = [
            ("updates.poll_s", self.poll_s, 1, "at least 1 s"),
            ("updates.bytes_per_hour", self.bytes_per_hour, super::budget::LEAST, "at least 1 MiB"),
            ("updates.max_memory_bytes", self.max_memory_bytes, 1 << 20, "at least 1 MiB"),
            ("updates.max_latency_ms", self.max_latency_ms, 1, "above 0 ms"),
            ("updates.self_test_s", self.self_test_s, 1, "at least 1 s"),
        ];
        let most = [
            ("updates.poll_s", self.poll_s, 86_400, "at most 86400 s"),
            ("updates.self_test_s", self.self_test_s, 3_600, "at most 3600 s"),
            ("updates.probation_s", self.probation_s, 604_800, "at most 604800 s"),
        ];
        let least = least.into_iter().filter(|(_, value, least, _)| value < least);
        least.chain(most.into_iter().filter(|(_, value, most, _)| value > most)).map(|(k, v, _, e)| (k, v, e)).collect()
    }
}
