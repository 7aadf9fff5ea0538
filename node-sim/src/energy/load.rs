//! What a node takes: asleep, for a sample, for a report.

use serde::{Deserialize, Serialize};

/// A node's load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Asleep, W: the controller with its clock, the regulator, and instruments that are never off.
    pub sleep_w: f64,
    /// For each probe that is read, J.
    pub sample_j: f64,
    /// How many probes a sample reads.
    pub probes: u32,
    /// While it transmits, W.
    pub transmit_w: f64,
    /// While it listens, W.
    pub listen_w: f64,
    /// How long it listens after each report, s.
    pub listen_s: f64,
}

impl Load {
    /// A soil station: a microcontroller of the STM32L0's class (some 10 µW with its clock) and a regulator, and a rain gauge and
    /// anemometer that count; six digital probes that take 10 mA at 5 V for a fifth of a second each, with the start of their bus; an
    /// SX1276, whose data sheet says 87 mA at +17 dBm and 11 mA receiving, from a cell of 3.2 V.
    #[must_use]
    pub const fn station() -> Self {
        Self { sleep_w: 150e-6, sample_j: 0.012, probes: 6, transmit_w: 0.28, listen_w: 0.036, listen_s: 0.5 }
    }

    /// What a report takes, J.
    #[must_use]
    pub fn report_j(&self, air_s: f64) -> f64 {
        self.transmit_w * air_s + self.listen_w * self.listen_s
    }
}
