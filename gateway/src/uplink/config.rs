//! What the way to the cloud may carry.

use serde::{Deserialize, Serialize};

/// The smallest budget: a request each few seconds would use up less.
const LEAST_PER_HOUR: u64 = 64 << 10;
/// The smallest burst: a batch of one record must fit.
const LEAST_BURST: u64 = 16 << 10;
/// How long records are gathered under a budget unless the configuration says otherwise, in seconds.
const LINGER_S: u32 = 60;

/// The uplink's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UplinkConfig {
    /// The bytes that may go over the link in an hour, both directions together; none is as many as it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_hour: Option<u64>,
    /// The bytes that may go at once when little went before; a quarter of an hour's unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_bytes: Option<u64>,
    /// The share of the bytes that the back-fill has at least while it waits.
    pub backfill_share: f64,
    /// Whether raw readings go to the cloud too.
    pub raw: bool,
    /// How long windows are gathered before they are sent, in seconds; 60 under a budget and none without, unless given. An
    /// alert never waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linger_s: Option<u32>,
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self { bytes_per_hour: None, burst_bytes: None, backfill_share: 0.1, raw: false, linger_s: None }
    }
}

impl UplinkConfig {
    /// The budget: bytes of an hour, and of a burst.
    #[must_use]
    pub fn budget(&self) -> Option<(u64, u64)> {
        self.bytes_per_hour.map(|hour| (hour, self.burst_bytes.unwrap_or((hour / 4).max(LEAST_BURST))))
    }

    /// How long windows are gathered, in seconds of the wall clock.
    #[must_use]
    pub fn linger(&self) -> u32 {
        self.linger_s.unwrap_or(if self.bytes_per_hour.is_some() { LINGER_S } else { 0 })
    }

    /// Keys, values and what is expected, of what is wrong.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        if let Some(hour) = self.bytes_per_hour.filter(|hour| *hour < LEAST_PER_HOUR) {
            wrong.push(("uplink.bytes_per_hour", hour.to_string(), "at least 65536"));
        }
        if let Some(burst) = self.burst_bytes.filter(|burst| *burst < LEAST_BURST) {
            wrong.push(("uplink.burst_bytes", burst.to_string(), "at least 16384"));
        }
        if let (Some(burst), None) = (self.burst_bytes, self.bytes_per_hour) {
            wrong.push(("uplink.burst_bytes", burst.to_string(), "of use without uplink.bytes_per_hour"));
        }
        if !(0.0..=0.9).contains(&self.backfill_share) {
            wrong.push(("uplink.backfill_share", self.backfill_share.to_string(), "a share from 0 to 0.9"));
        }
        if let Some(linger) = self.linger_s.filter(|linger| *linger > 3_600) {
            wrong.push(("uplink.linger_s", linger.to_string(), "at most 3600 s"));
        }
        wrong
    }
}
