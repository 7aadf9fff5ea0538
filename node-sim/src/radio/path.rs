//! A report on its way: what it costs in time, and whether it arrives.

use super::{Lora, arrives};

/// How a station's reports go to the gateway at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// The station's modem.
    pub lora: Lora,
    /// Mean signal over noise at the other end, dB.
    pub snr_db: f64,
    /// What the base station's link has for this station, bit/s; none where the gateway itself is at the other end.
    pub onward_bit_s: Option<f64>,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sent {
    /// How long the station was on air for it, s.
    pub air_s: f64,
    /// From its first bit until it is there, or is given up, s.
    pub latency_s: f64,
    /// Whether all of it arrived.
    pub arrived: bool,
}

impl Path {
    /// Sends a report of so many bytes: each of its packets as often as it takes, but no more often than the modem tries. `uniform`
    /// gives numbers in `[0, 1)`.
    pub fn send(&self, bytes: u32, mut uniform: impl FnMut() -> f64) -> Sent {
        let once = arrives(self.snr_db, self.lora.needed_db());
        let (mut air_s, mut arrived) = (0.0, true);
        for packet in self.lora.packets(bytes) {
            let through = (1..=self.lora.tries).find(|_| uniform() < once);
            air_s += f64::from(through.unwrap_or(self.lora.tries)) * self.lora.air_s(packet);
            arrived &= through.is_some();
        }
        let onward_s = match self.onward_bit_s {
            Some(rate_bit_s) if arrived => 8.0 * f64::from(bytes) / rate_bit_s.max(1.0),
            _ => 0.0,
        };
        Sent { air_s, latency_s: air_s + onward_s, arrived }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chance::Chance;
    use crate::radio::Plan;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Against the modem's own means: time on air and share of the reports that arrive.
        #[test]
        fn many_reports_are_on_the_mean_what_the_modem_says(
            (plan, spreading) in prop_oneof![(Just(Plan::Eu868), 7u32..=12), (Just(Plan::Us915), 7u32..=10)],
            margin_db in -6.0f64..15.0, bytes in 1u32..800, seed in any::<u64>(),
        ) {
            let lora = Lora { plan, spreading, ..Lora::station() };
            let snr_db = lora.needed_db() + margin_db;
            let path = Path { lora, snr_db, onward_bit_s: None };
            let (expected, n) = (lora.report(bytes, snr_db), 4000);
            let mut chance = Chance::new(seed, "path");
            let (mut arrived, mut air_s) = (0.0, 0.0);
            let mut draws = 0;
            for _ in 0..n {
                let sent = path.send(bytes, || {
                    draws += 1;
                    chance.at(draws).uniform()
                });
                arrived += f64::from(u8::from(sent.arrived)) / n as f64;
                air_s += sent.air_s / n as f64;
                prop_assert_eq!(sent.latency_s, sent.air_s);
            }
            prop_assert!((arrived - expected.arrives).abs() < 0.04, "{} {:?}", arrived, expected);
            prop_assert!((air_s / expected.air_s - 1.0).abs() < 0.03, "{} {:?}", air_s, expected);
        }
    }

    #[test]
    fn a_base_station_hands_on_at_its_rate() {
        let path = Path { lora: Lora::station(), snr_db: 60.0, onward_bit_s: Some(8000.0) };
        let sent = path.send(500, || 0.5);
        assert!(sent.arrived && (sent.latency_s - sent.air_s - 0.5).abs() < 1e-9, "{sent:?}");
        assert!((sent.air_s - Lora::station().report(500, 60.0).air_s).abs() < 1e-4);
    }
}
