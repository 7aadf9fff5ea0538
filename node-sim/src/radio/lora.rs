//! LoRa: time on air, what a packet needs, and how many tries a report takes.

use serde::{Deserialize, Serialize};

use super::arrives;

/// The most bytes of a packet's payload.
pub const MOST_PAYLOAD: u32 = 222;
/// What is around a payload on air: LoRaWAN's header, port and integrity code, bytes.
pub const OVERHEAD: u32 = 13;

/// A LoRa modem's setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Spreading factor, 7 to 12.
    pub spreading: u32,
    /// Hz.
    pub bandwidth_hz: f64,
    /// Bits sent for four: 5 to 8.
    pub coding: u32,
    /// How often a packet is sent at most.
    pub tries: u32,
}

impl Lora {
    /// A station's: a spreading factor of 9 in 125 kHz, coding 4/5, three tries.
    #[must_use]
    pub const fn station() -> Self {
        Self { spreading: 9, bandwidth_hz: 125_000.0, coding: 5, tries: 3 }
    }

    /// Time on air of a packet of so many bytes, s, with eight symbols of preamble, explicit header and CRC. Semtech's SX1276 data
    /// sheet, section 4.1.1.7.
    #[must_use]
    pub fn air_s(&self, bytes: u32) -> f64 {
        let symbol_s = f64::from(1u32 << self.spreading) / self.bandwidth_hz;
        let slow = if symbol_s > 0.016 { 2 } else { 0 };
        let bits = 8.0 * f64::from(bytes) - 4.0 * f64::from(self.spreading) + 28.0 + 16.0;
        let blocks = (bits / f64::from(4 * (self.spreading - slow))).ceil().max(0.0);
        (8.0 + 4.25 + 8.0 + blocks * f64::from(self.coding)) * symbol_s
    }

    /// Signal over noise that its demodulator needs, dB: -7.5 at a spreading factor of 7 and 2.5 less for each more (the data sheet's table 13).
    #[must_use]
    pub fn needed_db(&self) -> f64 {
        -7.5 - 2.5 * (f64::from(self.spreading) - 7.0)
    }

    /// The packets of a report of so many bytes, each with its bytes on air.
    pub fn packets(&self, bytes: u32) -> impl Iterator<Item = u32> {
        let full = bytes / MOST_PAYLOAD;
        let rest = bytes % MOST_PAYLOAD;
        std::iter::repeat_n(MOST_PAYLOAD, full as usize)
            .chain((rest > 0).then_some(rest))
            .map(|payload| payload + OVERHEAD)
    }

    /// What sending a report of so many bytes is like at a mean signal over noise.
    #[must_use]
    pub fn report(&self, bytes: u32, snr_db: f64) -> Delivery {
        let once = arrives(snr_db, self.needed_db());
        let lost = (1.0 - once).powi(self.tries as i32);
        // Tries until one arrives, or all: a geometric distribution that is cut.
        let tries = if once > 0.0 { (1.0 - lost) / once } else { f64::from(self.tries) };
        let (mut air_s, mut arrives) = (0.0, 1.0);
        for packet in self.packets(bytes) {
            air_s += tries * self.air_s(packet);
            arrives *= 1.0 - lost;
        }
        Delivery { arrives, air_s, latency_s: air_s }
    }
}

/// What sending something is like on the mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivery {
    /// Probability that all of it arrives.
    pub arrives: f64,
    /// How long it is on air, s.
    pub air_s: f64,
    /// From the first try until it is there, s.
    pub latency_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lora(spreading: u32) -> Lora {
        Lora { spreading, bandwidth_hz: 125_000.0, coding: 5, tries: 3 }
    }

    /// Known of LoRaWAN: ten bytes of payload (23 on air) take 61.7 ms at SF7 and 1482.8 ms at SF12, in 125 kHz.
    #[test]
    fn time_on_air_is_the_published_one() {
        assert!((lora(7).air_s(23) - 0.061_696).abs() < 1e-9, "{}", lora(7).air_s(23));
        assert!((lora(12).air_s(23) - 1.482_752).abs() < 1e-9, "{}", lora(12).air_s(23));
        assert!((lora(10).air_s(23) - 0.370_688).abs() < 1e-9, "{}", lora(10).air_s(23));
    }

    #[test]
    fn a_bad_link_costs_tries_and_loses() {
        let (good, bad) = (lora(7).report(500, 20.0), lora(7).report(500, -8.0));
        assert!(good.arrives > 0.999 && good.air_s < 1.0, "{good:?}");
        assert!(bad.arrives < 0.5 && bad.air_s > 1.5 * good.air_s, "{bad:?}");
        assert_eq!(lora(7).packets(500).collect::<Vec<_>>(), [235, 235, 69]);
        let slow = lora(12).report(500, -8.0);
        assert!(slow.arrives > 0.99 && slow.air_s > 10.0, "{slow:?}");
    }
}
