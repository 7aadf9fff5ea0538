//! What bringing models to nodes may take.

use serde::{Deserialize, Serialize};

/// What bringing models to nodes may take of the stations' radio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodesConfig {
    /// How many stations get a model at a time.
    pub at_once: u32,
    /// The least time between two chunks of 512 bytes to one station, in ms of the wall clock.
    pub pause_ms: u64,
    /// How long a station's answer is waited for before the same is sent again, in seconds of the wall clock; it doubles each
    /// time, up to sixty-four times.
    pub patience_s: u64,
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self { at_once: 4, pause_ms: 1_000, patience_s: 30 }
    }
}

impl NodesConfig {
    /// The keys that hold what they may not, as key, value and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, u64, &'static str)> {
        [
            ("nodes.at_once", u64::from(self.at_once), 1, 10_000, "1 to 10000 stations"),
            ("nodes.pause_ms", self.pause_ms, 0, 3_600_000, "at most 3600000 ms"),
            ("nodes.patience_s", self.patience_s, 1, 3_600, "1 to 3600 s"),
        ]
        .into_iter()
        .filter(|(_, value, least, most, _)| !(least..=most).contains(&value))
        .map(|(key, value, _, _, expected)| (key, value, expected))
        .collect()
    }
}
