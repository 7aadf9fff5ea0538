//! A simulated station's radio, when the configuration asks for it.

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::outage::{Fading, is_up};
use super::{Link, Lora, Path, Plan, STATION_GAIN_DBI};
use crate::energy::load;
use crate::weather::Conditions;

/// `[farm.radio]`: how every station reaches its gateway. Without it each always does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RadioConfig {
    /// LoRa's spreading factor, 7 to 12; to 10 from 902 to 915 MHz.
    pub spreading: u32,
    /// MHz; 200 to 1000. It says how large a packet may be, too ([`Plan`]).
    pub frequency_mhz: f64,
    /// e.i.r.p., dBm; -3 to 21, which an SX1276 and a whip give.
    pub sent_dbm: f64,
    /// Path loss exponent, 2 to 5.
    pub exponent: f64,
    /// How far of the way goes through plants, m; 0 to 400.
    pub plants_m: f64,
    /// Slow fading, dB; 0 to 15.
    pub shadowing_db: f64,
    /// Bytes of a report, 1 to 5000.
    pub report_bytes: u32,
}

impl Default for RadioConfig {
    fn default() -> Self {
        let Link { frequency_mhz, sent_dbm, exponent, plants_m, shadowing_db, .. } = Link::station();
        let spreading = Lora::station().spreading;
        Self { spreading, frequency_mhz, sent_dbm, exponent, plants_m, shadowing_db, report_bytes: 200 }
    }
}

impl RadioConfig {
    /// What is wrong with it: key, value and what is allowed.
    pub(crate) fn problems(&self) -> Vec<(&'static str, f64, &'static str)> {
        let plan = Plan::of(self.frequency_mhz);
        let (slowest, allowed) = match plan {
            Plan::Eu868 => (f64::from(plan.slowest()), "7 to 12"),
            Plan::Us915 => (f64::from(plan.slowest()), "7 to 10, as from 902 to 915 MHz"),
        };
        let within = [
            ("spreading", f64::from(self.spreading), 7.0, slowest, allowed),
            ("frequency_mhz", self.frequency_mhz, 200.0, 1000.0, "200 to 1000 MHz"),
            ("sent_dbm", self.sent_dbm, -3.0, 21.0, "-3 to 21 dBm"),
            ("exponent", self.exponent, 2.0, 5.0, "2 to 5"),
            ("plants_m", self.plants_m, 0.0, 400.0, "0 to 400 m"),
            ("shadowing_db", self.shadowing_db, 0.0, 15.0, "0 to 15 dB"),
            ("report_bytes", f64::from(self.report_bytes), 1.0, 5000.0, "1 to 5000"),
        ];
        let wrong = within.into_iter().filter(|(_, value, low, high, _)| !(*low..=*high).contains(value));
        wrong.map(|(key, value, _, _, allowed)| (key, value, allowed)).collect()
    }

    /// The modem.
    #[must_use]
    pub fn lora(&self) -> Lora {
        Lora { spreading: self.spreading, plan: Plan::of(self.frequency_mhz), ..Lora::station() }
    }

    /// How long a report is on air when nothing is lost, s.
    #[must_use]
    pub fn air_s(&self) -> f64 {
        self.lora().report_air_s(self.report_bytes)
    }

    /// What a station takes while it sends, W.
    #[must_use]
    pub fn transmit_w(&self) -> f64 {
        load::transmit_w(self.sent_dbm - STATION_GAIN_DBI)
    }
}

/// A station's radio. It is a function of time and weather, so that there is nothing to keep.
#[derive(Debug, Clone)]
pub struct Radio {
    link: Link,
    lora: Lora,
    report_bytes: u32,
    fading: Fading,
}

impl Radio {
    /// The radio of a station that is so far from its gateway.
    #[must_use]
    pub fn new(config: &RadioConfig, distance_m: f64, seed: u64, station: &str) -> Self {
        let RadioConfig { frequency_mhz, sent_dbm, exponent, plants_m, shadowing_db, report_bytes, .. } = *config;
        let link = Link { distance_m, frequency_mhz, sent_dbm, exponent, plants_m, shadowing_db, ..Link::station() };
        Self { link, lora: config.lora(), report_bytes, fading: Fading::new(seed, station) }
    }

    /// Power at the gateway, dBm.
    pub fn received_dbm(&mut self, time: Timestamp, conditions: &Conditions) -> f64 {
        let fading = self.fading.at(time);
        self.link.received_dbm(conditions, fading)
    }

    /// How a report goes, with what a base station has for it in bit/s where it goes by one.
    pub fn path(&mut self, time: Timestamp, conditions: &Conditions, onward_bit_s: Option<f64>) -> Path {
        let fading = self.fading.at(time);
        Path { lora: self.lora, snr_db: self.link.snr_db(conditions, fading), onward_bit_s }
    }

    /// Whether reports get through.
    pub fn is_up(&mut self, time: Timestamp, conditions: &Conditions) -> bool {
        let fading = self.fading.at(time);
        is_up(&self.link, &self.lora, self.report_bytes, conditions, fading)
    }
}
