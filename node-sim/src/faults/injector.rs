//! Bends readings: what a station with faults sends instead of what it should.
//!
//! [`StationFaults`] is one station's, and is a part of the simulated station; [`Injector`] has those of many, for readings
//! that come from elsewhere, a replayed file for example. Both are given a sample (all channels of a station at one time)
//! and say what comes out. The same seed, faults and samples give the same answers; what is between samples (the value at
//! which a probe is stuck, how wet a connector is) is state that can be kept and put back.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Channel, Quantity, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Effect, Fault, FaultKind, RandomFaults, Scenario};
use crate::chance::Chance;
use crate::sensor::{Sensor, rails};

/// Below this share a connector counts as dry.
const DRY: f64 = 0.02;
/// Rain between two samples that wets a connector, mm: a bucket's tip.
const WETTING_MM: f64 = 0.2;

/// A reading as it would be without a fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offered {
    /// What is measured, and where.
    pub channel: Channel,
    /// What is true, in the quantity's unit.
    pub truth: f64,
    /// What a healthy probe shows.
    pub value: f64,
}

/// A reading as it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// What is measured, and where.
    pub channel: Channel,
    /// What is true, in the quantity's unit.
    pub truth: f64,
    /// What the probe shows, perhaps outside of the quantity's range and between two steps of its resolution.
    pub value: f64,
    /// The fault that is in it. One that left this reading alone is none.
    pub fault: Option<FaultKind>,
}

/// What happened to a sample as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The station was off, and there is no sample.
    pub lost: bool,
    /// The station has restarted since the sample before.
    pub restarted: bool,
    /// How often its watchdog had to reset it since then; with a sample that is not lost.
    pub watchdog_resets: u32,
}

/// What faults depend on beside the readings; none where it is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Surroundings {
    /// Air temperature, Cel. Without it a soil thermometer that is pulled out goes on as it was.
    pub air_temperature_c: Option<f64>,
    /// Solar radiation, W/m2.
    pub solar_radiation_w_m2: Option<f64>,
    /// Rain since the sample before, mm, as the bucket's tips tell it: a drizzle wets too, in its time, however often samples are taken.
    /// Without it a connector is wet from its fault's start.
    pub rain_mm: Option<f64>,
    /// Voltage of the battery, V. Without it a station browns out at any voltage.
    pub battery_v: Option<f64>,
}

impl Surroundings {
    /// What the sample itself tells.
    #[must_use]
    pub fn of(sample: &[Offered]) -> Self {
        let find = |quantity| sample.iter().find(|one| one.channel.quantity == quantity).map(|one| one.truth);
        Self {
            air_temperature_c: find(Quantity::AirTemperature),
            solar_radiation_w_m2: find(Quantity::SolarRadiation),
            rain_mm: find(Quantity::Rain),
            battery_v: find(Quantity::Battery),
        }
    }
}

/// How wet a connector was when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wetness {
    share: f64,
    at: Timestamp,
}

/// What changes in a station's faults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultState {
    /// The values at which stuck probes hang.
    held: BTreeMap<Channel, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    wet: BTreeMap<Channel, Wetness>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    off: bool,
    /// Resets by the watchdog since the last sample that was not lost.
    #[serde(skip_serializing_if = "is_zero")]
    watchdog_resets: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The faults of one station.
#[derive(Debug, Clone)]
pub struct StationFaults {
    seed: u64,
    /// Of the scenario, and those out of chance that have begun.
    list: Vec<(Fault, Chance)>,
    random: Option<Box<RandomFaults>>,
    /// Those in `random` that begin before this are in the list.
    drawn: Timestamp,
    state: FaultState,
}

impl StationFaults {
    /// A station's own faults of a scenario, and those out of chance.
    #[must_use]
    pub fn new(faults: Vec<Fault>, random: Option<RandomFaults>, seed: u64) -> Self {
        let list = faults.into_iter().map(|fault| (fault.clone(), fault.chance(seed))).collect();
        Self { seed, list, random: random.map(Box::new), drawn: Timestamp::MIN, state: FaultState::default() }
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> &FaultState {
        &self.state
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: FaultState) {
        self.state = state;
    }

    /// Those out of chance, from the farm's start.
    #[must_use]
    pub fn random(&self) -> Option<RandomFaults> {
        self.random.as_ref().map(|random| random.fresh())
    }

    /// Whether nothing is ever wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.random.is_none()
    }

    /// Bends the sample with this number, taken at a time. Times of a station's samples never fall. `around` is what the
    /// faults depend on; the readings that come out are appended to `out`, in their order.
    pub fn sample(
        &mut self,
        number: i64,
        time: Timestamp,
        sample: &[Offered],
        around: &Surroundings,
        out: &mut Vec<Shown>,
    ) -> Outcome {
        if self.is_empty() {
            out.extend(sample.iter().map(healthy));
            return Outcome::default();
        }
        self.draw(time);
        let mut outcome = Outcome::default();
        let mut sag_v = 0.0;
        let whole = self.list.iter_mut().find(|(fault, _)| fault.channel.is_none() && fault.is_active(time));
        if let Some((fault, chance)) = whole {
            let mut hits = |probability| chance.at(number).uniform() < probability;
            match fault.effect {
                Effect::BrownOut { probability, sag_v: sag, below_v } => {
                    let low = below_v.is_none_or(|below_v| around.battery_v.is_none_or(|volts| volts < below_v));
                    outcome.lost = low && hits(probability);
                    sag_v = if low { sag } else { 0.0 };
                }
                Effect::Hang { probability } => {
                    outcome.lost = hits(probability);
                    self.state.watchdog_resets += u32::from(outcome.lost);
                }
                _ => {}
            }
        }
        outcome.restarted = self.state.off && !outcome.lost;
        self.state.off = outcome.lost;
        if outcome.lost {
            return outcome;
        }
        outcome.watchdog_resets = std::mem::take(&mut self.state.watchdog_resets);
        for offered in sample {
            let shown = self.channel(number, time, offered, sample, around);
            out.extend(shown.map(|shown| match offered.channel.quantity {
                Quantity::Battery if sag_v > 0.0 && shown.fault.is_none() => {
                    Shown { value: shown.value - sag_v, fault: Some(FaultKind::BrownOut), ..shown }
                }
                _ => shown,
            }));
        }
        outcome
    }

    /// Takes the faults out of chance that have begun by a time.
    fn draw(&mut self, time: Timestamp) {
        let Some(random) = &mut self.random else { return };
        if time < self.drawn {
            return;
        }
        // Those of a scenario stay: they are few, and may begin later.
        let drawn: Vec<Fault> = random.until(time);
        self.drawn = time;
        if !drawn.is_empty() {
            self.list.retain(|(fault, _)| fault.end > time);
            let seed = self.seed;
            self.list.extend(drawn.into_iter().filter(|fault| fault.end > time).map(|fault| {
                let chance = fault.chance(seed);
                (fault, chance)
            }));
        }
    }

    /// What a channel shows; none when nothing.
    fn channel(
        &mut self,
        number: i64,
        time: Timestamp,
        offered: &Offered,
        sample: &[Offered],
        around: &Surroundings,
    ) -> Option<Shown> {
        let channel = offered.channel;
        let Self { list, state, .. } = self;
        let Some((fault, chance)) = list.iter_mut().find(|(fault, _)| fault.bends(channel) && fault.is_active(time))
        else {
            state.held.remove(&channel);
            state.wet.remove(&channel);
            return Some(healthy(offered));
        };
        let quantity = channel.quantity;
        let value = offered.value;
        let shown = match fault.effect {
            Effect::Dropout { probability } => {
                let kept = probability < 1.0 && chance.at(number).uniform() >= probability;
                return kept.then(|| healthy(offered));
            }
            Effect::Stuck => *state.held.entry(channel).or_insert(value),
            Effect::Drift { per_hour } => value + per_hour * (time.millis_since(fault.start) as f64 / 3_600_000.0),
            Effect::Bias { magnitude } => value + magnitude,
            Effect::Noise { sd } => value + sd * chance.at(number).normal(),
            Effect::Rail { value } => value,
            Effect::Spike { magnitude, probability } => {
                let off = spike(chance, number, magnitude, probability);
                // An outlier that the range would cut goes the other way.
                let off = if quantity.range().contains(&(value + off)) { off } else { -off };
                if off == 0.0 {
                    return Some(healthy(offered));
                }
                value + off
            }
            Effect::PulledOut { sun_c } => match (quantity, around.air_temperature_c) {
                (Quantity::SoilTemperature, Some(air_c)) => {
                    // The probe's own error stays with it.
                    let sun = around.solar_radiation_w_m2.unwrap_or(0.0) / 1000.0;
                    air_c + sun_c * sun + (value - offered.truth)
                }
                (Quantity::SoilTemperature, None) => return Some(healthy(offered)),
                _ => Sensor::of(quantity).noise * chance.at(number).normal().abs(),
            },
            Effect::Waterlogged { leak, sd, drying_h, wet } => {
                let since = |from: Timestamp| (-time.millis_since(from) as f64 / 3_600_000.0 / drying_h).exp();
                let mut share = match state.wet.get(&channel) {
                    Some(before) => before.share * since(before.at),
                    None if wet || around.rain_mm.is_none() => since(fault.start),
                    None => 0.0,
                };
                if around.rain_mm.is_some_and(|rain_mm| rain_mm >= WETTING_MM) {
                    share = 1.0;
                }
                state.wet.insert(channel, Wetness { share, at: time });
                if share < DRY {
                    return Some(healthy(offered));
                }
                let high = rails(quantity).1;
                value + leak * share * (high - value) + sd * share * chance.at(number).normal()
            }
            Effect::Swapped { with } => {
                let other = if with == channel { fault.channel? } else { with };
                sample.iter().find(|one| one.channel == other)?.value
            }
            // It is found by its missing channel above, and is in no channel.
            Effect::BrownOut { .. } | Effect::Hang { .. } => return Some(healthy(offered)),
        };
        Some(Shown { channel, truth: offered.truth, value: shown, fault: Some(fault.kind()) })
    }
}

fn healthy(offered: &Offered) -> Shown {
    Shown { channel: offered.channel, truth: offered.truth, value: offered.value, fault: None }
}

/// By how much a spike fault puts the sample with this number off: zero for most.
fn spike(chance: &mut Chance, sample: i64, magnitude: f64, probability: f64) -> f64 {
    let hits = |chance: &mut Chance, sample| chance.at(sample).uniform() < probability;
    if !hits(chance, sample) || hits(chance, sample - 1) {
        return 0.0;
    }
    let mut draw = chance.at(sample);
    draw.uniform();
    let sign = if draw.uniform() < 0.5 { -1.0 } else { 1.0 };
    sign * magnitude * (0.8 + 0.4 * draw.uniform())
}

/// The faults of many stations, for readings that are not a simulated farm's.
#[derive(Debug, Clone, Default)]
pub struct Injector {
    stations: BTreeMap<StationId, StationFaults>,
}

impl Injector {
    /// An injector of a scenario's faults. Its wrong clocks are [`crate::clock::NodeClock`]'s.
    #[must_use]
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let names: BTreeSet<&StationId> = scenario.faults.iter().map(|fault| &fault.station).collect();
        let of = |name: &StationId| {
            let own = scenario.faults.iter().filter(|fault| fault.station == *name).cloned().collect();
            StationFaults::new(own, None, seed)
        };
        Self { stations: names.into_iter().map(|name| (name.clone(), of(name))).collect() }
    }

    /// Puts a station's faults in, for example with some out of chance.
    pub fn insert(&mut self, station: StationId, faults: StationFaults) {
        self.stations.insert(station, faults);
    }

    /// Whether nothing is ever wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stations.is_empty()
    }

    /// A station's faults out of chance, from the beginning.
    #[must_use]
    pub fn random(&self, station: &StationId) -> Option<RandomFaults> {
        self.stations.get(station)?.random()
    }

    /// Bends a station's sample: values of several channels at one time, which are taken for the truth; a file's row, for
    /// example. `number` is the sample's, one more than of the sample before (a spike is never in two in a row). Values
    /// come out within their quantity's range.
    pub fn sample(
        &mut self,
        station: &StationId,
        number: i64,
        time: Timestamp,
        values: &[(Channel, f64)],
        out: &mut Vec<Shown>,
    ) -> Outcome {
        let sample: Vec<Offered> =
            values.iter().map(|&(channel, value)| Offered { channel, truth: value, value }).collect();
        let begin = out.len();
        let outcome = match self.stations.get_mut(station) {
            Some(faults) => faults.sample(number, time, &sample, &Surroundings::of(&sample), out),
            None => {
                out.extend(sample.iter().map(healthy));
                Outcome::default()
            }
        };
        for shown in out[begin..].iter_mut().filter(|shown| shown.fault.is_some()) {
            let range = shown.channel.quantity.range();
            shown.value = shown.value.clamp(*range.start(), *range.end());
        }
        outcome
    }

    /// Bends a single value; none when there is no reading. Faults that look at other channels know nothing of them here:
    /// use [`Injector::sample`] where a station has several.
    pub fn inject(&mut self, station: &StationId, channel: Channel, time: Timestamp, value: f64) -> Option<f64> {
        let mut out = Vec::with_capacity(1);
        self.sample(station, time.as_millis().div_euclid(1000), time, &[(channel, value)], &mut out);
        out.first().map(|shown| shown.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Parameters;

    const T0: i64 = 1_780_272_000;

    fn at(hours: f64) -> Timestamp {
        Timestamp::from_millis(T0 * 1000 + (hours * 3_600_000.0) as i64)
    }

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    fn fault(name: &str, kind: FaultKind, given: Parameters, start_h: f64, end_h: f64) -> Fault {
        let channel = (!kind.is_of_station()).then(|| channel(name));
        let effect = given.effect(kind, channel).unwrap();
        Fault { station: "n1".parse().unwrap(), channel, effect, start: at(start_h), end: at(end_h) }
    }

    fn injector(faults: Vec<Fault>) -> Injector {
        Injector::new(&Scenario { faults, ..Scenario::default() }, 7)
    }

    /// What comes of a channel in samples every six minutes for some hours; `with` are other channels' values.
    fn course(
        injector: &mut Injector,
        name: &str,
        hours: i64,
        of: impl Fn(f64) -> Vec<(Channel, f64)>,
    ) -> Vec<Option<Shown>> {
        let station: StationId = "n1".parse().unwrap();
        (0..hours * 10)
            .map(|k| {
                let mut out = Vec::new();
                let hour = k as f64 / 10.0;
                injector.sample(&station, k, at(hour), &of(hour), &mut out);
                out.into_iter().find(|shown| shown.channel == channel(name))
            })
            .collect()
    }

    fn steady(name: &str, value: f64) -> impl Fn(f64) -> Vec<(Channel, f64)> {
        let channel = channel(name);
        move |_| vec![(channel, value)]
    }

    fn values(shown: &[Option<Shown>]) -> Vec<f64> {
        shown.iter().flatten().map(|shown| shown.value).collect()
    }

    #[test]
    fn a_channel_without_a_fault_and_a_time_without_one_are_left_alone() {
        let mut injector =
            injector(vec![fault("soil_moisture_55cm", FaultKind::Bias, Parameters::default(), 1.0, 2.0)]);
        let other: StationId = "n2".parse().unwrap();
        assert_eq!(injector.inject(&other, channel("soil_moisture_55cm"), at(1.5), 0.2), Some(0.2));
        let n1: StationId = "n1".parse().unwrap();
        let seen = [0.9, 1.0, 1.9, 2.0].map(|hour| injector.inject(&n1, channel("soil_moisture_55cm"), at(hour), 0.2));
        assert_eq!(seen, [Some(0.2), Some(0.25), Some(0.25), Some(0.2)]);
        assert_eq!(injector.inject(&n1, channel("rain"), at(1.5), 0.2), Some(0.2));
    }

    #[test]
    fn a_bias_is_a_step_and_a_drift_a_ramp() {
        let given = Parameters { rate: Some(0.5), ..Parameters::default() };
        let mut injector = injector(vec![fault("air_temperature_200cm", FaultKind::Drift, given, 2.0, 6.0)]);
        let shown = course(&mut injector, "air_temperature_200cm", 8, steady("air_temperature_200cm", 20.0));
        for (k, value) in values(&shown).into_iter().enumerate() {
            let hours = k as f64 / 10.0 - 2.0;
            let off = if (0.0..4.0).contains(&hours) { 0.5 * hours } else { 0.0 };
            assert!((value - 20.0 - off).abs() < 1e-6, "{k} {value}");
        }
        assert!(shown.iter().flatten().all(|shown| shown.truth == 20.0));
        assert_eq!(shown.iter().flatten().filter(|shown| shown.fault == Some(FaultKind::Drift)).count(), 40);
    }

    #[test]
    fn noise_has_its_standard_deviation_and_no_mean() {
        let given = Parameters { magnitude: Some(0.03), ..Parameters::default() };
        let mut injector = injector(vec![fault("soil_moisture_20cm", FaultKind::Noise, given, 0.0, 400.0)]);
        let values = values(&course(&mut injector, "soil_moisture_20cm", 400, steady("soil_moisture_20cm", 0.3)));
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let sd = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Standard errors: 0.0005 and 0.00034.
        assert!((mean - 0.3).abs() < 0.002 && (sd - 0.03).abs() < 0.0015, "{mean} {sd}");
    }

    #[test]
    fn spikes_are_single_and_about_as_many_as_asked_for() {
        let mut chance = Chance::new(1, "test");
        let offs: Vec<f64> = (0..4000).map(|sample| spike(&mut chance, sample, 10.0, 0.05)).collect();
        let hits = offs.iter().filter(|off| **off != 0.0).count();
        assert!((130..260).contains(&hits), "{hits}");
        assert!(offs.windows(2).all(|pair| pair[0] == 0.0 || pair[1] == 0.0));
        assert!(offs.iter().any(|off| *off > 0.0) && offs.iter().any(|off| *off < 0.0));
    }

    #[test]
    fn a_dropout_takes_all_or_its_share() {
        let missing = |rate| {
            let given = Parameters { rate, ..Parameters::default() };
            let mut injector = injector(vec![fault("rain", FaultKind::Dropout, given, 0.0, 100.0)]);
            course(&mut injector, "rain", 100, steady("rain", 0.0)).iter().filter(|shown| shown.is_none()).count()
        };
        assert_eq!(missing(None), 1000);
        assert!((250..350).contains(&missing(Some(0.3))), "{}", missing(Some(0.3)));
    }

    #[test]
    fn a_stuck_probe_and_one_at_its_rail_do_not_move() {
        let moving = |name: &str| {
            let channel = channel(name);
            move |hour: f64| vec![(channel, 20.0 + hour)]
        };
        let name = "soil_temperature_10cm";
        let mut stuck = injector(vec![fault(name, FaultKind::Stuck, Parameters::default(), 1.0, 2.0)]);
        let seen = values(&course(&mut stuck, name, 3, moving(name)));
        assert!(seen[10..20].iter().all(|value| *value == 21.0) && seen[20] == 22.0, "{seen:?}");
        let low = Parameters { rail: Some(super::super::Rail::Low), ..Parameters::default() };
        let mut rail = injector(vec![fault(name, FaultKind::Rail, low, 1.0, 2.0)]);
        assert!(values(&course(&mut rail, name, 3, moving(name)))[10..20].iter().all(|value| *value == -40.0));
    }

    #[test]
    fn a_probe_that_is_pulled_out_reads_the_air() {
        let names = ["soil_moisture_20cm", "soil_temperature_20cm"];
        let mut both =
            injector(names.map(|name| fault(name, FaultKind::PulledOut, Parameters::default(), 6.0, 24.0)).to_vec());
        let day = |hour: f64| {
            let sun = (-(std::f64::consts::TAU * hour / 24.0).cos()).max(0.0);
            vec![
                (channel("soil_moisture_20cm"), 0.28),
                (channel("soil_temperature_20cm"), 16.0),
                (channel("air_temperature_200cm"), 18.0 + 8.0 * sun),
                (channel("solar_radiation"), 900.0 * sun),
            ]
        };
        let moisture = course(&mut both.clone(), names[0], 24, day);
        assert_eq!(moisture[59].unwrap().value, 0.28);
        assert!(moisture[60..].iter().flatten().all(|shown| shown.value.abs() < 0.01 && shown.truth == 0.28));
        let warmth = course(&mut both, names[1], 24, day);
        let noon = warmth[120].unwrap();
        assert!((noon.value - (26.0 + 5.0 * 0.9)).abs() < 1e-9 && noon.fault == Some(FaultKind::PulledOut), "{noon:?}");
        assert!((warmth[235].unwrap().value - 18.0).abs() < 1e-9);
    }

    #[test]
    fn water_in_a_connector_comes_with_rain_and_dries() {
        let dry_first = Parameters { wet: Some(false), noise: Some(0.0), ..Parameters::default() };
        let name = "soil_moisture_20cm";
        let mut injector = injector(vec![fault(name, FaultKind::Waterlogged, dry_first, 0.0, 200.0)]);
        let rain = |hour: f64| {
            let mm = if (9.95..10.25).contains(&hour) { 1.0 } else { 0.0 };
            vec![(channel(name), 0.2), (channel("rain"), mm)]
        };
        let shown = course(&mut injector, name, 120, rain);
        assert!(shown[..100].iter().flatten().all(|shown| shown.fault.is_none() && shown.value == 0.2));
        // Half of the way to the rail at 0.7, then drying to 1/e in a day.
        let wet = shown[102].unwrap();
        assert!((wet.value - 0.45).abs() < 1e-9 && wet.fault == Some(FaultKind::Waterlogged), "{wet:?}");
        let a_day_later = shown[342].unwrap().value;
        assert!((a_day_later - (0.2 + 0.25 / std::f64::consts::E)).abs() < 1e-9, "{a_day_later}");
        assert!(shown[1150].unwrap().fault.is_none());
    }

    #[test]
    fn swapped_channels_show_each_others_values() {
        let (shallow, deep) = ("soil_moisture_10cm", "soil_moisture_40cm");
        let given = Parameters { with: Some(channel(deep)), ..Parameters::default() };
        let mut injector = injector(vec![fault(shallow, FaultKind::Swapped, given, 0.0, 1.0)]);
        let both = |_| vec![(channel(shallow), 0.15), (channel(deep), 0.3)];
        assert!(values(&course(&mut injector.clone(), shallow, 1, both)).iter().all(|value| *value == 0.3));
        let shown = course(&mut injector, deep, 2, both);
        assert_eq!((shown[0].unwrap().value, shown[0].unwrap().fault), (0.15, Some(FaultKind::Swapped)));
        assert_eq!((shown[10].unwrap().value, shown[10].unwrap().fault), (0.3, None));
    }

    #[test]
    fn a_station_that_browns_out_loses_samples_and_restarts_after_each_gap() {
        let station: StationId = "n1".parse().unwrap();
        let low = Parameters { below_v: Some(3.4), ..Parameters::default() };
        let mut injector = injector(vec![fault("", FaultKind::BrownOut, low, 0.0, 1000.0)]);
        let (mut lost, mut restarts, mut before) = (0, 0, false);
        for k in 0..2000 {
            let mut out = Vec::new();
            let volts = if k < 1000 { 3.3 } else { 3.6 };
            let sample = [(channel("battery"), volts), (channel("rain"), 0.0)];
            let outcome = injector.sample(&station, k, at(k as f64 / 10.0), &sample, &mut out);
            assert_eq!(outcome.lost, out.is_empty());
            assert_eq!(outcome.restarted, before && !outcome.lost, "{k}");
            if k >= 1000 {
                assert_eq!((outcome.lost, out[0].value), (false, 3.6));
            } else if !outcome.lost {
                assert_eq!((out[0].value, out[0].fault, out[1].fault), (3.3 - 0.4, Some(FaultKind::BrownOut), None));
            }
            before = outcome.lost;
            lost += u32::from(outcome.lost);
            restarts += u32::from(outcome.restarted);
        }
        // Half of the thousand are lost, in half as many gaps.
        assert!((430..570).contains(&lost) && (200..300).contains(&restarts), "{lost} {restarts}");
    }

    #[test]
    fn a_station_that_hangs_is_reset_by_its_watchdog_for_each_sample_that_it_loses() {
        let station: StationId = "n1".parse().unwrap();
        let mut injector = injector(vec![fault("", FaultKind::Hang, Parameters::default(), 0.0, 100.0)]);
        let (mut lost, mut resets, mut before) = (0, 0, false);
        for k in 0..1500 {
            let mut out = Vec::new();
            let sample = [(channel("battery"), 3.3), (channel("rain"), 0.0)];
            let outcome = injector.sample(&station, k, at(k as f64 / 10.0), &sample, &mut out);
            assert_eq!(outcome.lost, out.is_empty());
            assert_eq!((outcome.restarted, outcome.watchdog_resets > 0), (before && !outcome.lost, outcome.restarted));
            assert!(out.iter().all(|shown| shown.fault.is_none() && shown.value == shown.truth));
            before = outcome.lost;
            lost += u32::from(outcome.lost);
            resets += outcome.watchdog_resets;
            assert!(k < 1000 || !outcome.lost);
        }
        assert!(lost == resets && (150..250).contains(&lost), "{lost} {resets}");
    }

    #[test]
    fn a_state_that_is_put_back_goes_on() {
        let name = "soil_moisture_20cm";
        let faults = vec![
            fault(name, FaultKind::Waterlogged, Parameters::default(), 0.0, 20.0),
            fault("soil_temperature_10cm", FaultKind::Stuck, Parameters::default(), 0.0, 20.0),
            fault("", FaultKind::BrownOut, Parameters::default(), 0.0, 20.0),
        ];
        let sample = |hour: f64| {
            [(name, 0.2 + hour / 100.0), ("soil_temperature_10cm", 15.0 + hour)].map(|(name, value)| Offered {
                channel: channel(name),
                truth: value,
                value,
            })
        };
        let run = |faults: &mut StationFaults, samples: std::ops::Range<i64>| {
            let mut out = Vec::new();
            for k in samples {
                let hour = k as f64 / 10.0;
                faults.sample(k, at(hour), &sample(hour), &Surroundings::default(), &mut out);
            }
            out
        };
        let mut whole = StationFaults::new(faults.clone(), None, 3);
        run(&mut whole, 0..70);
        let kept = toml::to_string(whole.state()).unwrap();
        let mut other = StationFaults::new(faults, None, 3);
        other.restore(toml::from_str(&kept).unwrap());
        assert_eq!(run(&mut whole, 70..200), run(&mut other, 70..200));
    }
}
