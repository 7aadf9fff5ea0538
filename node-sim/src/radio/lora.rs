//! LoRa: time on air, what a packet needs, and how many tries a report takes.

use serde::{Deserialize, Serialize};

use super::arrives;

/// What is around a payload on air: LoRaWAN's header, port and integrity code, bytes.
pub const OVERHEAD: u32 = 13;

/// A channel plan: how slow a modem may be in 125 kHz, and how many bytes a packet may have then. LoRaWAN's regional parameters
/// (RP002-1.0.3), each with its table of the largest payloads (N, repeater compatible).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// EU863-870; EU433, and AU915 without a dwell time, have the same numbers.
    Eu868,
    /// The uplinks of US902-928, 902 to 915 MHz: no packet is on air for longer than 400 ms.
    Us915,
}

impl Plan {
    /// The plan of a frequency in MHz.
    #[must_use]
    pub fn of(frequency_mhz: f64) -> Self {
        if (902.0..=915.0).contains(&frequency_mhz) { Self::Us915 } else { Self::Eu868 }
    }

    /// The largest spreading factor.
    #[must_use]
    pub const fn slowest(self) -> u32 {
        match self {
            Self::Eu868 => 12,
            Self::Us915 => 10,
        }
    }

    /// The most bytes of a packet's payload at a spreading factor, 7 to [`Plan::slowest`].
    #[must_use]
    pub const fn most_payload(self, spreading: u32) -> u32 {
        match (self, spreading) {
            (_, ..=7) | (Self::Eu868, 8) => 222,
            (Self::Us915, 8) => 125,
            (Self::Eu868, 9) => 115,
            (Self::Us915, 9) => 53,
            (Self::Eu868, 10..) => 51,
            (Self::Us915, 10..) => 11,
        }
    }
}

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
    /// How large a packet may be.
    pub plan: Plan,
}

impl Lora {
    /// A station's in the US: a spreading factor of 9 in 125 kHz, coding 4/5, three tries.
    #[must_use]
    pub const fn station() -> Self {
        Self { spreading: 9, bandwidth_hz: 125_000.0, coding: 5, tries: 3, plan: Plan::Us915 }
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

    /// The packets of a report of so many bytes, each with its bytes on air: as many as the plan's largest payload makes it.
    pub fn packets(&self, bytes: u32) -> impl Iterator<Item = u32> {
        let most = self.plan.most_payload(self.spreading);
        let (full, rest) = (bytes / most, bytes % most);
        std::iter::repeat_n(most, full as usize).chain((rest > 0).then_some(rest)).map(|payload| payload + OVERHEAD)
    }

    /// Time on air of a report of so many bytes, each of its packets once, s.
    #[must_use]
    pub fn report_air_s(&self, bytes: u32) -> f64 {
        self.packets(bytes).map(|packet| self.air_s(packet)).sum()
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
        Lora { spreading, bandwidth_hz: 125_000.0, coding: 5, tries: 3, plan: Plan::Eu868 }
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
        let slow = lora(12).report(500, -8.0);
        assert!(slow.arrives > 0.99 && slow.air_s > 25.0, "{slow:?}");
    }

    #[test]
    fn what_does_not_fit_a_packet_goes_in_several() {
        let packets = |plan, spreading, bytes| {
            let lora = Lora { plan, ..lora(spreading) };
            lora.packets(bytes).map(|packet| packet - OVERHEAD).collect::<Vec<_>>()
        };
        assert_eq!(packets(Plan::Eu868, 7, 500), [222, 222, 56]);
        assert_eq!(packets(Plan::Eu868, 8, 222), [222]);
        assert_eq!(packets(Plan::Eu868, 9, 200), [115, 85]);
        for slow in 10..=12 {
            assert_eq!(packets(Plan::Eu868, slow, 200), [51, 51, 51, 47]);
        }
        assert_eq!(packets(Plan::Us915, 7, 223), [222, 1]);
        assert_eq!(packets(Plan::Us915, 8, 200), [125, 75]);
        assert_eq!(packets(Plan::Us915, 9, 200), [53, 53, 53, 41]);
        assert_eq!(packets(Plan::Us915, 10, 24), [11, 11, 2]);
        // Each costs a preamble and a header: four short packets are on air for longer than a long one that is not allowed.
        let slow = lora(12);
        assert!(slow.report_air_s(200) > 1.4 * slow.air_s(200 + OVERHEAD), "{}", slow.report_air_s(200));
    }

    /// That is what the US plan's payloads are for (47 CFR 15.247: 400 ms on a channel), and one step slower there is nothing that keeps to it.
    #[test]
    fn the_largest_packets_of_the_us_are_on_air_for_less_than_400_ms() {
        for spreading in 7..=Plan::Us915.slowest() {
            let air_s = lora(spreading).air_s(Plan::Us915.most_payload(spreading) + OVERHEAD);
            assert!(air_s < 0.4, "{spreading}: {air_s}");
        }
        assert!(lora(11).air_s(OVERHEAD) > 0.4);
        assert_eq!([868.1, 902.3, 915.0, 915.2].map(Plan::of), [Plan::Eu868, Plan::Us915, Plan::Us915, Plan::Eu868]);
    }
}
