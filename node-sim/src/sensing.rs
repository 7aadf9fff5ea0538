//! Probes as their data sheets have them: calibration error, noise, temperature, response, warm-up, resolution and range.
//!
//! ```toml
//! [farm.sensors]
//! model = "data_sheet"             # "simple" unless said otherwise: an offset and white noise (see `sensor`)
//! soil = "reflectometer"           # or "capacitance", which it is unless said otherwise
//! powered_s = 1.0                  # how long a node has a probe under power before it reads it
//! also = ["nitrate_20cm"]          # further probes in the soil, at every station
//! ```
//!
//! A [`Probe`] is one unit of a [`Model`]. What it shows is a pure function of its seed, of the truth so far, and of time:
//!
//! reading = quantise(clip((1 + g) x + o + d t + c (T - T0) + w exp(-p / tw) + slow + white))
//!
//! with x the truth through the probe's response (first order, exact for a truth that goes straight between samples), gain g,
//! offset o, ageing d and temperature coefficient c drawn once for each unit, T the temperature where the probe is, and p
//! the time under power. A data sheet's "±" is taken for two standard deviations, and no unit is worse than it. Slow noise
//! is a sum of octaves of equal variance, 1 h to 64 h: close to 1/f (R. F. Voss and J. Clarke 1978, J. Acoust. Soc. Am.
//! 63, 258), and known at any time without those before. [`models`] says which number is whose.

pub mod models;

use proto::{Channel, Quantity, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::soil::THICKNESS_MM;
use crate::station::{CHANNELS, is_of_the_soil};
pub use models::Model;

/// The octaves of slow noise: the first one's period, and how many, each four times as long.
const OCTAVE_MS: i64 = 3_600_000;
const OCTAVES: usize = 4;
/// A unit is within its data sheet: this many standard deviations.
const WORST: f64 = 2.0;
const YEAR_MS: f64 = 365.25 * 86_400_000.0;

/// How probes measure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// An offset and white noise by quantity: [`crate::sensor`].
    #[default]
    Simple,
    /// All that data sheets say: [`models`].
    DataSheet,
}

/// What measures water, temperature and conductivity in the soil.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoilProbe {
    /// The capacitance of the soil at 70 MHz.
    #[default]
    Capacitance,
    /// The travel time of a pulse along rods.
    Reflectometer,
}

/// Which probes the stations have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SensorsConfig {
    /// How probes measure.
    pub model: Detail,
    /// The probes in the soil; of use with `data_sheet`.
    pub soil: SoilProbe,
    /// How long a probe is under power before it is read, s; of use with `data_sheet`.
    pub powered_s: f64,
    /// What every station measures beside [`CHANNELS`], in the soil: nitrate, phosphorus and potassium by ion-selective probes, and water,
    /// temperature and conductivity at further depths; down to two metres, and 20 cm where none is said. At most 32.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Channel>,
}

/// The most probes beside the usual ones.
const MOST_ALSO: usize = 32;

impl Default for SensorsConfig {
    fn default() -> Self {
        Self { model: Detail::default(), soil: SoilProbe::default(), powered_s: 1.0, also: Vec::new() }
    }
}

impl SensorsConfig {
    /// What a station measures, in the order of its readings.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        CHANNELS.iter().chain(&self.also).copied().collect()
    }

    /// What is wrong with the values: key, value and what is allowed.
    pub(crate) fn problems(&self) -> Vec<(String, String, &'static str)> {
        let mut problems = Vec::new();
        if !(0.05..=3600.0).contains(&self.powered_s) {
            problems.push(("powered_s".to_owned(), self.powered_s.to_string(), "0.05 to 3600 s"));
        }
        if self.also.len() > MOST_ALSO {
            problems.push(("also".to_owned(), format!("{} channels", self.also.len()), "at most 32"));
        }
        let deepest_cm = (THICKNESS_MM.iter().sum::<f64>() / 10.0) as u16;
        for (index, channel) in self.also.iter().enumerate().take(MOST_ALSO) {
            let in_soil = is_of_the_soil(channel.quantity) && channel.level_cm.is_none_or(|cm| cm <= deepest_cm);
            let new = !CHANNELS.contains(channel) && !self.also[..index].contains(channel);
            let allowed =
                if in_soil { "another channel than the others" } else { "measured in the soil, at 0 to 200 cm" };
            if !(in_soil && new) {
                problems.push((format!("also[{index}]"), format!("\"{channel}\""), allowed));
            }
        }
        problems
    }
}

/// Slow noise of standard deviation one.
#[derive(Debug, Clone)]
struct Slow {
    chance: Chance,
    /// For each octave the number of the knot before, and the values at it and behind it.
    knots: [Option<(i64, f64, f64)>; OCTAVES],
}

impl Slow {
    fn new(seed: u64, label: &str) -> Self {
        Self { chance: Chance::new(seed, label), knots: [None; OCTAVES] }
    }

    fn at(&mut self, time: Timestamp) -> f64 {
        let mut sum = 0.0;
        for octave in 0..OCTAVES {
            let period = OCTAVE_MS << (2 * octave);
            let (number, into) = (time.as_millis().div_euclid(period), time.as_millis().rem_euclid(period));
            let (before, after) = match self.knots[octave] {
                Some((known, before, after)) if known == number => (before, after),
                _ => {
                    let mut knot = |number: i64| self.chance.at((octave as i64) << 37 | number).normal();
                    let values = (knot(number), knot(number + 1));
                    self.knots[octave] = Some((number, values.0, values.1));
                    values
                }
            };
            let share = into as f64 / period as f64;
            // Between two knots the variance stays that of a knot.
            let norm = (share.powi(2) + (1.0 - share).powi(2)).sqrt();
            sum += ((1.0 - share) * before + share * after) / norm;
        }
        sum / (OCTAVES as f64).sqrt()
    }
}

/// The truth that a probe has seen, and how far it has followed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followed {
    at: Timestamp,
    truth: f64,
    shown: f64,
}

/// What a probe is read in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When.
    pub time: Timestamp,
    /// What is true, in the quantity's unit.
    pub truth: f64,
    /// The temperature where the probe is, Cel.
    pub probe_c: f64,
    /// How long it is under power, s.
    pub powered_s: f64,
    /// A standard normal number for its white noise.
    pub normal: f64,
}

/// One unit of a model.
#[derive(Debug, Clone)]
pub struct Probe {
    model: &'static Model,
    installed: Timestamp,
    gain: f64,
    offset: f64,
    per_year: f64,
    per_k: f64,
    slow: Slow,
    followed: Option<Followed>,
}

impl Probe {
    /// The unit of a station's channel, which is new at `installed`.
    #[must_use]
    pub fn new(model: &'static Model, seed: u64, station: &StationId, channel: &str, installed: Timestamp) -> Self {
        let mut draw = Chance::new(seed, &format!("probe/{station}/{channel}")).at(0);
        let mut unit = |limit: f64| limit / 2.0 * draw.normal().clamp(-WORST, WORST);
        let (gain, offset, per_year) = (unit(model.gain), unit(model.offset), unit(model.per_year));
        let per_k = model.per_k + unit(2.0 * model.per_k_sd);
        let slow = Slow::new(seed, &format!("probe/{station}/{channel}/slow"));
        Self { model, installed, gain, offset, per_year, per_k, slow, followed: None }
    }

    /// Its model.
    #[must_use]
    pub fn model(&self) -> &'static Model {
        self.model
    }

    /// How much too much it shows, as a share: what a rain gauge's bucket is too small by.
    #[must_use]
    pub fn gain(&self) -> f64 {
        self.gain
    }

    /// What changes, to keep; none before its first reading and for one that follows at once.
    #[must_use]
    pub fn followed(&self) -> Option<Followed> {
        self.followed
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, followed: Option<Followed>) {
        self.followed = followed;
    }

    /// What it would show with infinite resolution and range. Times never fall.
    pub fn measure(&mut self, reading: &Reading) -> f64 {
        let Model { noise, relative_noise, slow_noise, warm_up, warm_up_s, t0_c, .. } = *self.model;
        let seen = self.follow(reading.time, reading.truth);
        let years = reading.time.millis_since(self.installed) as f64 / YEAR_MS;
        let slow = if slow_noise > 0.0 { slow_noise * self.slow.at(reading.time) } else { 0.0 };
        let cold = if warm_up_s > 0.0 { warm_up * (-reading.powered_s / warm_up_s).exp() } else { 0.0 };
        (1.0 + self.gain) * seen
            + self.offset
            + self.per_year * years
            + self.per_k * (reading.probe_c - t0_c)
            + cold
            + slow
            + (noise + relative_noise * seen.abs()) * reading.normal
    }

    /// What it reads: within the model's range and a multiple of its resolution, as it comes out of the wire format.
    #[must_use]
    pub fn reads(&self, value: f64) -> f64 {
        reads(self.model, value)
    }

    /// The truth through the probe's response: the exact solution of y' = (x - y) / tau for an x that goes straight.
    fn follow(&mut self, time: Timestamp, truth: f64) -> f64 {
        let tau_s = self.model.response_s;
        if tau_s <= 0.0 {
            return truth;
        }
        let shown = match self.followed {
            Some(before) if time > before.at => {
                let dt_s = time.millis_since(before.at) as f64 / 1000.0;
                let lag = (truth - before.truth) / dt_s * tau_s;
                truth - lag + (before.shown - before.truth + lag) * (-dt_s / tau_s).exp()
            }
            Some(before) => before.shown,
            None => truth,
        };
        self.followed = Some(Followed { at: time, truth, shown });
        shown
    }
}

/// What a unit of a model reads for a value.
#[must_use]
pub fn reads(model: &Model, value: f64) -> f64 {
    let (low, high) = model.range;
    let range = model.quantity.range();
    let stepped = (value.clamp(low, high) / model.resolution).round() * model.resolution;
    model.quantity.quantise(stepped.clamp(*range.start(), *range.end()))
}

/// The model for a quantity.
#[must_use]
pub fn model(quantity: Quantity, soil: SoilProbe) -> &'static Model {
    let of = |model: &&Model| model.quantity == quantity && model.soil.is_none_or(|probe| probe == soil);
    // Each quantity has one: a test goes through all.
    models::ALL.iter().find(of).unwrap_or(&models::ALL[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(model: &'static Model) -> impl Iterator<Item = Probe> {
        (0..300).map(move |k| Probe::new(model, 3, &format!("n{k}").parse().unwrap(), "test", Timestamp::from_secs(0)))
    }

    fn still(hours: i64, truth: f64) -> Reading {
        let time = Timestamp::from_secs(3600 * hours);
        Reading { time, truth, probe_c: 25.0, powered_s: 1e6, normal: 0.0 }
    }

    fn sd(values: &[f64]) -> f64 {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt()
    }

    #[test]
    fn each_quantity_has_its_model_and_its_figures_make_sense() {
        for quantity in Quantity::ALL {
            for soil in [SoilProbe::Capacitance, SoilProbe::Reflectometer] {
                let model = model(quantity, soil);
                assert_eq!(model.quantity, quantity);
                let range = quantity.range();
                assert!(
                    model.range.0 < model.range.1 && range.contains(&model.range.0) && range.contains(&model.range.1)
                );
                assert!(model.resolution > 0.0 && !model.source.is_empty(), "{}", model.name);
                for value in [-1e6, -3.217_3, 0.123_456, 55.555, 1e6] {
                    let read = reads(model, value);
                    let multiples = read / model.resolution;
                    assert!((multiples - multiples.round()).abs() < 1e-6, "{} {value} {read}", model.name);
                    assert_eq!(quantity.quantise(read).to_bits(), read.to_bits());
                }
            }
        }
    }

    #[test]
    fn units_scatter_as_the_data_sheet_says_and_none_is_worse() {
        for model in models::ALL {
            let truth = (model.range.0 + model.range.1) / 2.0;
            let allowed = model.offset + model.gain * truth.abs();
            let errors: Vec<f64> = units(model)
                .map(|mut probe| {
                    probe.slow = Slow::new(0, "none");
                    let slow = model.slow_noise * probe.slow.clone().at(Timestamp::from_secs(0));
                    let reading = Reading { probe_c: model.t0_c, ..still(0, truth) };
                    probe.measure(&reading) - truth - slow
                })
                .collect();
            assert!(errors.iter().all(|error| error.abs() <= allowed * (1.0 + 1e-9) + 1e-9), "{}", model.name);
            // Two independent normal parts, each cut at two standard deviations, which takes it to 0.88.
            let expected = 0.88 / 2.0 * model.offset.hypot(model.gain * truth);
            assert!((sd(&errors) / expected.max(1e-12) - 1.0).abs() < 0.15 || expected == 0.0, "{}", model.name);
        }
    }

    #[test]
    fn a_step_is_followed_to_63_percent_in_the_response_time_in_whatever_steps_it_is_read() {
        let model = model(Quantity::AirTemperature, SoilProbe::Capacitance);
        let tau_ms = (model.response_s * 1000.0) as i64;
        let run = |steps: i64| {
            let mut probe = units(model).next().unwrap();
            let mut seen = probe.follow(Timestamp::from_millis(0), 0.0);
            // The step, within a millisecond.
            probe.follow(Timestamp::from_millis(1), 1.0);
            for k in 1..=steps {
                seen = probe.follow(Timestamp::from_millis(1 + k * tau_ms / steps), 1.0);
            }
            seen
        };
        for steps in [1, 10, 100] {
            assert!((run(steps) - (1.0 - (-1.0f64).exp())).abs() < 1e-4, "{steps} {}", run(steps));
        }
        // A ramp is followed at a distance of its rise in the response time.
        let mut probe = units(model).next().unwrap();
        let last = (0..200).map(|k| (k, probe.follow(Timestamp::from_millis(k * tau_ms), k as f64))).last().unwrap();
        assert!((199.0 - last.1 - 1.0).abs() < 1e-9, "{last:?}");
    }

    #[test]
    fn slow_noise_has_variance_one_is_slow_and_can_be_asked_for_in_any_order() {
        let mut values = Vec::new();
        let mut steps = Vec::new();
        for k in 0..60 {
            let mut slow = Slow::new(9, &format!("{k}"));
            let series: Vec<f64> = (0..200).map(|h| slow.at(Timestamp::from_secs(h * 7200 + 300))).collect();
            let again = Slow::new(9, &format!("{k}")).at(Timestamp::from_secs(50 * 7200 + 300));
            assert_eq!(again.to_bits(), series[50].to_bits());
            let mut fine = Slow::new(9, &format!("{k}"));
            let fine: Vec<f64> = (0..50).map(|m| fine.at(Timestamp::from_secs(300 * m))).collect();
            steps.extend(fine.windows(2).map(|pair| pair[1] - pair[0]));
            values.extend(series);
        }
        assert!((sd(&values) - 1.0).abs() < 0.06, "{}", sd(&values));
        assert!(sd(&steps) < 0.15, "{}", sd(&steps));
    }

    #[test]
    fn temperature_age_and_time_under_power_shift_readings() {
        let model = model(Quantity::SoilMoisture, SoilProbe::Capacitance);
        let probes: Vec<Probe> = units(model).collect();
        let shift = |change: &dyn Fn(&mut Reading)| -> Vec<f64> {
            probes
                .iter()
                .map(|probe| {
                    let (plain, mut other) = (still(0, 0.25), still(0, 0.25));
                    change(&mut other);
                    probe.clone().measure(&other) - probe.clone().measure(&plain)
                })
                .collect()
        };
        let by_heat = shift(&|reading| reading.probe_c += 10.0);
        let expected = 10.0 * model.per_k_sd * 0.88;
        assert!((sd(&by_heat) / expected - 1.0).abs() < 0.15, "{} {expected}", sd(&by_heat));
        let cold = shift(&|reading| reading.powered_s = model.warm_up_s);
        assert!(cold.iter().all(|error| (error - model.warm_up / std::f64::consts::E).abs() < 1e-12));
        let ageing = models::ALL.iter().find(|model| model.per_year > 0.0).unwrap();
        let old: Vec<f64> = units(ageing)
            .map(|probe| {
                let mut at = still(0, 20.0);
                let new = probe.clone().measure(&at);
                at.time = Timestamp::from_millis(4 * YEAR_MS as i64);
                let slow = |time| ageing.slow_noise * probe.slow.clone().at(time);
                probe.clone().measure(&at) - slow(at.time) - (new - slow(Timestamp::from_secs(0)))
            })
            .collect();
        assert!(old.iter().all(|error| error.abs() <= 4.0 * ageing.per_year * (1.0 + 1e-9)));
        assert!((sd(&old) / (4.0 * 0.88 / 2.0 * ageing.per_year) - 1.0).abs() < 0.15);
    }
}
