//! Radio links: what arrives, how often, how fast and how late. Pure; the weather and the time come in.
//!
//! [`Link`] is the budget between two antennas: distance, frequency, plants, rain and fading. [`lora`] is the stations' modem.
//! [`backhaul`] is the base station's way to the farmhouse over TV white space. [`outage`] says when a link is out, and
//! [`path`] what becomes of one report.

pub mod backhaul;
pub mod lora;
pub mod node;
pub mod outage;
pub mod path;

use serde::{Deserialize, Serialize};

use crate::weather::Conditions;

pub use lora::{Lora, Plan};
pub use node::RadioConfig;
pub use path::Path;

/// Thermal noise at 290 K, dBm in 1 Hz.
const THERMAL_DBM_HZ: f64 = -174.0;
/// How much more wet leaves take than dry ones, as a share of the plants' loss, and what wet ground and antennas add, dB. An
/// assumption: measurements in crops and orchards say from none to a half, and a few decibels.
const WET_SHARE: f64 = 0.3;
const WET_DB: f64 = 1.5;
/// Gain of a station's antenna, dBi: a short whip.
pub const STATION_GAIN_DBI: f64 = 1.0;
/// A kilometre, m.
const KM: f64 = 1000.0;

/// A link between two antennas.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Between the antennas, m.
    pub distance_m: f64,
    /// MHz; 200 to 6000.
    pub frequency_mhz: f64,
    /// Power at the sender's antenna with its gain, dBm (e.i.r.p.).
    pub sent_dbm: f64,
    /// Gain of the receiver's antenna, dBi.
    pub gain_dbi: f64,
    /// How much with distance: 2 in free space, 2.3 to 3.5 near the ground and over crops (log-distance law).
    pub exponent: f64,
    /// How far of the way goes through plants, m.
    pub plants_m: f64,
    /// Standard deviation of the slow fading, dB.
    pub shadowing_db: f64,
    /// The receiver's noise over thermal noise, dB.
    pub noise_figure_db: f64,
    /// Hz.
    pub bandwidth_hz: f64,
}

impl Link {
    /// A station's in the field, a kilometre from its gateway: 915 MHz with 14 dBm (13 at its radio's pin), its antenna low over a crop,
    /// some metres of which are in the way. The exponent and the fading are those that measurements over crops give.
    #[must_use]
    pub const fn station() -> Self {
        Self {
            distance_m: 1000.0,
            frequency_mhz: 915.0,
            sent_dbm: 14.0,
            gain_dbi: 2.0,
            exponent: 2.7,
            plants_m: 8.0,
            shadowing_db: 5.0,
            noise_figure_db: 6.0,
            bandwidth_hz: 125_000.0,
        }
    }

    /// Loss between the antennas without fading, dB.
    ///
    /// Free space up to a metre (Friis 1946), from there with the exponent (Rappaport, *Wireless Communications*, eq. 4.68); the plants'
    /// after Weissberger (1982), as ITU-R and textbooks have it; the rain's after ITU-R P.838, which below 1 GHz takes a hundredth
    /// of a decibel: what rain does to such links it does by wet leaves.
    #[must_use]
    pub fn loss_db(&self, conditions: &Conditions) -> f64 {
        let metres = self.distance_m.max(1.0);
        let first_metre_db = 20.0 * self.frequency_mhz.log10() - 27.55;
        let plants_db = weissberger_db(self.frequency_mhz / KM, self.plants_m);
        let wet = conditions.rain_mm_h > 0.0 || conditions.relative_humidity_pct > 97.0;
        let wet_db = if wet { WET_SHARE * plants_db + WET_DB } else { 0.0 };
        first_metre_db
            + 10.0 * self.exponent * metres.log10()
            + plants_db
            + wet_db
            + rain_db_km(self.frequency_mhz / KM, conditions.rain_mm_h) * metres / KM
    }

    /// Power at the receiver, dBm, with so many decibels of slow fading (standard normal `fading` times its deviation).
    #[must_use]
    pub fn received_dbm(&self, conditions: &Conditions, fading: f64) -> f64 {
        self.sent_dbm + self.gain_dbi - self.loss_db(conditions) + self.shadowing_db * fading
    }

    /// Signal over noise, dB.
    #[must_use]
    pub fn snr_db(&self, conditions: &Conditions, fading: f64) -> f64 {
        let noise_dbm = THERMAL_DBM_HZ + 10.0 * self.bandwidth_hz.log10() + self.noise_figure_db;
        self.received_dbm(conditions, fading) - noise_dbm
    }
}

/// Loss in plants in leaf, dB. Weissberger (1982): 0.45 f^0.284 d up to 14 m and 1.33 f^0.284 d^0.588 up to 400 m, f in GHz.
#[must_use]
pub fn weissberger_db(frequency_ghz: f64, plants_m: f64) -> f64 {
    let f = frequency_ghz.powf(0.284);
    match plants_m {
        d if d <= 0.0 => 0.0,
        d if d < 14.0 => 0.45 * f * d,
        d => 1.33 * f * d.min(400.0).powf(0.588),
    }
}

/// What rain takes, dB/km: k R^α with k and α of ITU-R P.838-2 (2003, the last with a table), table 1, for horizontal polarisation, between its frequencies on straight
/// lines over logarithms as P.838 says. Below 1 GHz, where the table begins, its first row.
#[must_use]
pub fn rain_db_km(frequency_ghz: f64, rain_mm_h: f64) -> f64 {
    const TABLE: [(f64, f64, f64); 8] = [
        (1.0, 0.000_038_7, 0.9122),
        (1.5, 0.000_086_8, 0.9341),
        (2.0, 0.000_154_3, 0.9629),
        (2.5, 0.000_241_6, 0.9873),
        (3.0, 0.000_350_4, 1.0185),
        (4.0, 0.000_647_9, 1.1212),
        (5.0, 0.001_103, 1.2338),
        (6.0, 0.001_813, 1.3068),
    ];
    if rain_mm_h <= 0.0 {
        return 0.0;
    }
    let f = frequency_ghz.clamp(1.0, 6.0);
    let after = TABLE.partition_point(|(at, ..)| *at <= f).clamp(1, TABLE.len() - 1);
    let ((f0, k0, a0), (f1, k1, a1)) = (TABLE[after - 1], TABLE[after]);
    let share = (f / f0).ln() / (f1 / f0).ln();
    let k = (k0.ln() + (k1 / k0).ln() * share).exp();
    k * rain_mm_h.powf(a0 + (a1 - a0) * share)
}

/// Probability that a packet arrives which needs `needed_db` of signal over noise, where the mean is `mean_db` and many paths add up
/// without a strongest one (Rayleigh fading: the power is exponentially distributed).
#[must_use]
pub fn arrives(mean_db: f64, needed_db: f64) -> f64 {
    (-10f64.powf((needed_db - mean_db) / 10.0)).exp()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn conditions(rain_mm_h: f64) -> Conditions {
        Conditions {
            air_temperature_c: 15.0,
            dew_point_c: 10.0,
            relative_humidity_pct: 70.0,
            wind_speed_m_s: 2.0,
            solar_radiation_w_m2: 0.0,
            clear_sky_w_m2: 0.0,
            rain_mm_h,
            et0_mm_h: 0.0,
        }
    }

    #[test]
    fn free_space_is_friis() {
        let link = Link {
            distance_m: 1000.0,
            frequency_mhz: 915.0,
            sent_dbm: 14.0,
            gain_dbi: 2.0,
            exponent: 2.0,
            plants_m: 0.0,
            shadowing_db: 4.0,
            noise_figure_db: 6.0,
            bandwidth_hz: 125_000.0,
        };
        // 32.45 + 20 log f(MHz) + 20 log d(km) = 91.68 dB.
        assert!((link.loss_db(&conditions(0.0)) - 91.68).abs() < 0.02, "{}", link.loss_db(&conditions(0.0)));
        // -174 + 51 + 6 = -117 dBm of noise.
        assert!((link.snr_db(&conditions(0.0), -1.0) - (16.0 - 91.68 - 4.0 + 117.03)).abs() < 0.03);
    }

    #[test]
    fn rain_and_plants_take_what_the_recommendations_say() {
        assert!((rain_db_km(1.0, 1.0) - 0.000_038_7).abs() < 1e-9);
        assert!((rain_db_km(6.0, 50.0) - 0.001_813 * 50f64.powf(1.3068)).abs() < 1e-9);
        assert!(rain_db_km(0.9, 50.0) < 0.01);
        assert!((weissberger_db(1.0, 10.0) - 4.5).abs() < 1e-9);
        // The two pieces meet at 14 m within the formula's own jump.
        assert!((weissberger_db(1.0, 13.999) - weissberger_db(1.0, 14.0)).abs() < 0.2);
    }

    #[test]
    fn with_as_much_signal_as_needed_one_in_e_arrives() {
        assert!((arrives(-7.5, -7.5) - (-1f64).exp()).abs() < 1e-12);
        assert!(arrives(10.0, -10.0) > 0.98 && arrives(-20.0, -10.0) < 1e-4);
    }
}
