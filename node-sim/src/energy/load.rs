//! What a node takes: asleep, for a sample, for a report.

use serde::{Deserialize, Serialize};

/// Voltage of a lithium iron phosphate cell, V.
const CELL_V: f64 = 3.2;
/// What an SX1276 draws when it sends with so much at its pin: dBm and mA, the first two of its efficient amplifier, the others of the
/// strong one (data sheet, table of the power consumption).
const SENDING_MA: [(f64, f64); 4] = [(7.0, 20.0), (13.0, 29.0), (17.0, 87.0), (20.0, 120.0)];

/// What an SX1276 takes from such a cell to send with so many dBm at its pin, W: on straight lines between the data sheet's powers, and
/// outside of them the nearest's.
#[must_use]
pub fn transmit_w(pin_dbm: f64) -> f64 {
    let after = SENDING_MA.partition_point(|(dbm, _)| *dbm <= pin_dbm).clamp(1, SENDING_MA.len() - 1);
    let ((low, from), (high, to)) = (SENDING_MA[after - 1], SENDING_MA[after]);
    let share = ((pin_dbm - low) / (high - low)).clamp(0.0, 1.0);
    CELL_V * (from + share * (to - from)) / 1000.0
}

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
    /// SX1276 from a cell of 3.2 V, whose data sheet says 29 mA at the +13 dBm with which [`crate::radio::Link::station`] sends, and 11 mA receiving.
    #[must_use]
    pub const fn station() -> Self {
        Self { sleep_w: 150e-6, sample_j: 0.012, probes: 6, transmit_w: 0.0928, listen_w: 0.036, listen_s: 0.5 }
    }

    /// What a report takes, J.
    #[must_use]
    pub fn report_j(&self, air_s: f64) -> f64 {
        self.transmit_w * air_s + self.listen_w * self.listen_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::RadioConfig;

    #[test]
    fn a_station_sends_with_the_power_that_its_link_has() {
        let radio = |sent_dbm| RadioConfig { sent_dbm, ..RadioConfig::default() }.transmit_w();
        assert!((RadioConfig::default().transmit_w() - Load::station().transmit_w).abs() < 1e-12);
        // 20 mA, 29 mA, 87 mA and 120 mA, and half-way between the latter.
        for (sent_dbm, expected) in
            [(-3.0, 0.064), (8.0, 0.064), (14.0, 0.0928), (18.0, 0.2784), (21.0, 0.384), (19.5, 0.3312)]
        {
            assert!((radio(sent_dbm) - expected).abs() < 1e-9, "{sent_dbm}: {}", radio(sent_dbm));
        }
    }
}
