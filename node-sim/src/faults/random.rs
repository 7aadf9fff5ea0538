//! Faults out of chance: rates per station-year, exponential times between faults, log-normal durations.
//!
//! ```toml
//! [farm.faults]
//! random = true                    # every kind at its default rate
//!
//! [farm.faults.rates]              # per station and year; the kinds named here, with or without `random`
//! spike = 4.0
//! pulled_out = 0.0
//! ```
//!
//! For each station and kind the time from a fault's end to the next one's start is exponential, and the fault's duration
//! log-normal; its channel is drawn evenly from those that the kind befalls, its size around the kind's default. A fault
//! that would fall on a channel that has one already is not made. All of it follows from the seed, the station's name and
//! the farm's start: a farm that is asked for a day, or restarted in it, has the faults that it has when it runs through.
//!
//! **The default rates are an assumption.** Published deployments tell which kinds there are and what share of readings
//! they spoil (see [`crate::faults`]), not how often they begin at a station; no table of rates per station-year was found.
//! They are set so that a station of thirteen channels has about six faults a year, and that in half of a per cent to one per
//! cent of all readings something is wrong. Whoever knows his own stations puts his own rates here.

use std::collections::BTreeMap;

use proto::{Channel, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::parameters::numbers;
use super::{Effect, Fault, FaultKind, Parameters, Rail};
use crate::chance::Chance;
use crate::clock::{ClockFault, Jump};

/// The most faults of one kind per station and year.
pub const MOST_PER_YEAR: f64 = 1000.0;
const YEAR_MS: f64 = 365.25 * 86_400_000.0;
const HOUR_MS: f64 = 3_600_000.0;
/// Bounds of a duration, h.
const SHORTEST_H: f64 = 0.25;
const LONGEST_H: f64 = 60.0 * 24.0;

/// Which faults come out of chance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandomConfig {
    /// Whether kinds that have no rate of their own have their default one; else they do not happen.
    pub random: bool,
    /// Faults per station and year, by kind.
    pub rates: BTreeMap<FaultKind, f64>,
}

impl RandomConfig {
    /// Faults of a kind per station and year.
    #[must_use]
    pub fn rate(&self, kind: FaultKind) -> f64 {
        let default = if self.random { Course::of(kind).per_year } else { 0.0 };
        self.rates.get(&kind).copied().unwrap_or(default)
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_on(&self) -> bool {
        FaultKind::ALL.into_iter().any(|kind| self.rate(kind) > 0.0)
    }
}

/// How a kind happens.
#[derive(Debug, Clone, Copy)]
struct Course {
    /// Per station and year.
    per_year: f64,
    /// The duration's median, h.
    median_h: f64,
    /// Standard deviation of its logarithm.
    sigma: f64,
}

impl Course {
    /// The defaults; assumptions, see the module's text.
    const fn of(kind: FaultKind) -> Self {
        let (per_year, median_h, sigma) = match kind {
            // A loose contact, until somebody comes by.
            FaultKind::Spike => (1.5, 24.0, 1.0),
            FaultKind::Stuck => (0.5, 48.0, 1.0),
            FaultKind::Drift => (0.4, 240.0, 0.8),
            FaultKind::Bias => (0.3, 240.0, 1.0),
            FaultKind::Noise => (0.6, 36.0, 1.0),
            FaultKind::Dropout => (1.0, 12.0, 1.2),
            FaultKind::Rail => (0.3, 72.0, 1.0),
            // By a cultivator or an animal, until the next round of the field.
            FaultKind::PulledOut => (0.2, 48.0, 0.8),
            FaultKind::Waterlogged => (0.5, 120.0, 0.8),
            // From an installation or a repair to the next look at the plots.
            FaultKind::Swapped => (0.05, 168.0, 0.7),
            FaultKind::ClockDrift => (0.1, 336.0, 0.8),
            FaultKind::BrownOut => (0.4, 10.0, 0.8),
            // A bus that a probe holds down, until the probe or its cable is dry again.
            FaultKind::Hang => (0.1, 12.0, 0.8),
        };
        Self { per_year, median_h, sigma }
    }
}

/// The faults of one station out of chance, one after the other.
#[derive(Debug, Clone)]
pub struct RandomFaults {
    station: StationId,
    channels: Vec<Channel>,
    start: Timestamp,
    /// Kinds that happen, and their rates.
    rates: Vec<(FaultKind, f64)>,
    /// Those of the scenario, which go before.
    scenario: Vec<Fault>,
    chance: Chance,
    /// The next fault of each kind of `rates`.
    next: Vec<Coming>,
    /// Those that were made and are not over.
    made: Vec<Fault>,
}

/// A fault to come.
#[derive(Debug, Clone, Copy)]
struct Coming {
    number: i64,
    start: Timestamp,
    end: Timestamp,
}

impl RandomFaults {
    /// The faults of a station with these channels, from a farm's start on. `scenario` are its other faults. None when no
    /// kind has a rate.
    #[must_use]
    pub fn new(
        config: &RandomConfig,
        seed: u64,
        station: &StationId,
        channels: &[Channel],
        start: Timestamp,
        scenario: &[Fault],
    ) -> Option<Self> {
        let rates: Vec<(FaultKind, f64)> = FaultKind::ALL
            .into_iter()
            .map(|kind| (kind, config.rate(kind)))
            .filter(|(kind, rate)| *rate > 0.0 && (kind.is_of_station() || !befallen(*kind, channels).is_empty()))
            .collect();
        if rates.is_empty() {
            return None;
        }
        let mut faults = Self {
            station: station.clone(),
            channels: channels.to_vec(),
            start,
            rates,
            scenario: scenario.to_vec(),
            chance: Chance::new(seed, &format!("faults/{station}")),
            next: Vec::new(),
            made: Vec::new(),
        };
        faults.rewind();
        Some(faults)
    }

    /// The same faults from the farm's start.
    #[must_use]
    pub fn fresh(&self) -> Self {
        let mut fresh = self.clone();
        fresh.rewind();
        fresh
    }

    fn rewind(&mut self) {
        self.made.clear();
        let start = self.start;
        self.next = (0..self.rates.len()).map(|index| self.coming(index, 0, start)).collect();
    }

    /// The faults of channels and power that begin up to a time and were not given before, in the order of their start.
    pub fn until(&mut self, time: Timestamp) -> Vec<Fault> {
        let mut faults = Vec::new();
        while let Some((index, coming)) = self.earliest(|kind| kind != FaultKind::ClockDrift) {
            if coming.start > time {
                break;
            }
            self.next[index] = self.coming(index, coming.number + 1, coming.end);
            let Some(fault) = self.fault(self.rates[index].0, &coming) else { continue };
            self.made.retain(|other| other.end > coming.start);
            if !self.made.iter().chain(&self.scenario).any(|other| other.collides(&fault)) {
                self.made.push(fault.clone());
                faults.push(fault);
            }
        }
        faults
    }

    /// The wrong clocks that begin up to a time and were not given before.
    pub fn clocks_until(&mut self, time: Timestamp) -> Vec<ClockFault> {
        let mut clocks = Vec::new();
        while let Some((index, coming)) = self.earliest(|kind| kind == FaultKind::ClockDrift) {
            if coming.start > time {
                break;
            }
            self.next[index] = self.coming(index, coming.number + 1, coming.end);
            let mut draw = self.sizes(FaultKind::ClockDrift, coming.number);
            // One in four has lost its battery's power; the others run too fast or too slow.
            let (jump, drift_ppm) = if draw.uniform() < 0.25 {
                (Jump::Restart, 0.0)
            } else {
                let sign = if draw.uniform() < 0.5 { -1.0 } else { 1.0 };
                (Jump::Ahead(0), sign * 200.0 * (0.4 * draw.normal()).exp())
            };
            let station = self.station.clone();
            clocks.push(ClockFault { station, start: coming.start, end: coming.end, jump, drift_ppm });
        }
        clocks
    }

    fn earliest(&self, of: impl Fn(FaultKind) -> bool) -> Option<(usize, Coming)> {
        let chosen = self.next.iter().copied().enumerate().filter(|(index, _)| of(self.rates[*index].0));
        chosen.min_by_key(|(_, coming)| coming.start)
    }

    /// Two positions of chance for each fault: when it is, and what it is.
    fn position(kind: FaultKind, number: i64) -> i64 {
        (kind as i64) << 32 | number << 1
    }

    fn sizes(&mut self, kind: FaultKind, number: i64) -> crate::chance::Draw {
        self.chance.at(Self::position(kind, number) | 1)
    }

    /// When the fault with a number is, after the end of the one before.
    fn coming(&mut self, index: usize, number: i64, after: Timestamp) -> Coming {
        let (kind, rate) = self.rates[index];
        let course = Course::of(kind);
        let mut draw = self.chance.at(Self::position(kind, number));
        let gap_ms = -(1.0 - draw.uniform()).ln() / rate * YEAR_MS;
        let hours = (course.median_h * (course.sigma * draw.normal()).exp()).clamp(SHORTEST_H, LONGEST_H);
        let start = after.plus_millis(gap_ms as i64);
        Coming { number, start, end: start.plus_millis((hours * HOUR_MS) as i64) }
    }

    /// What the fault is: its channel and its size.
    fn fault(&mut self, kind: FaultKind, coming: &Coming) -> Option<Fault> {
        let mut draw = self.sizes(kind, coming.number);
        let mut one_of = |channels: &[Channel]| {
            let index = (draw.uniform() * channels.len() as f64) as usize;
            channels.get(index).copied()
        };
        let channel = if kind.is_of_station() { None } else { Some(one_of(&befallen(kind, &self.channels))?) };
        let mut given = Parameters { wet: Some(false), ..Parameters::default() };
        if let (FaultKind::Swapped, Some(channel)) = (kind, channel) {
            given.with = Some(one_of(&partners(channel, &self.channels))?);
        }
        let (scale, chosen) = ((0.4 * draw.normal()).exp(), draw.uniform());
        match kind {
            FaultKind::Rail if chosen < 0.5 => given.rail = Some(Rail::Low),
            // One in three has a loose contact, not a torn one.
            FaultKind::Dropout if chosen < 1.0 / 3.0 => given.rate = Some(0.2 + 2.0 * chosen),
            FaultKind::BrownOut => given.rate = Some(0.2 + 0.6 * chosen),
            _ => {}
        }
        let effect = given.effect(kind, channel)?;
        let bound = |key: &str, value: f64| {
            let numbers = numbers(kind, channel.map(|channel| channel.quantity));
            let bounds = numbers.iter().find(|number| number.key == key);
            bounds.map_or(value, |bounds| value.clamp(bounds.low, bounds.high))
        };
        let sign = if chosen < 0.5 { -1.0 } else { 1.0 };
        let effect = match effect {
            Effect::Spike { magnitude, probability } => {
                Effect::Spike { magnitude: bound("magnitude", magnitude * scale), probability }
            }
            Effect::Drift { per_hour } => Effect::Drift { per_hour: bound("rate", sign * per_hour * scale) },
            Effect::Bias { magnitude } => Effect::Bias { magnitude: bound("magnitude", sign * magnitude * scale) },
            Effect::Noise { sd } => Effect::Noise { sd: bound("magnitude", sd * scale) },
            other => other,
        };
        Some(Fault { station: self.station.clone(), channel, effect, start: coming.start, end: coming.end })
    }
}

/// The channels that a kind can befall: those that can be swapped only where another one has their unit.
fn befallen(kind: FaultKind, channels: &[Channel]) -> Vec<Channel> {
    let can = |channel: &Channel| {
        kind.befalls(channel.quantity) && (kind != FaultKind::Swapped || !partners(*channel, channels).is_empty())
    };
    channels.iter().copied().filter(can).collect()
}

/// The other channels of a channel's unit.
fn partners(channel: Channel, channels: &[Channel]) -> Vec<Channel> {
    let same = |other: &Channel| *other != channel && other.quantity.unit() == channel.quantity.unit();
    channels.iter().copied().filter(same).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::CHANNELS;

    const START: &str = "2026-06-01T00:00:00Z";

    fn faults(config: &RandomConfig, name: &str) -> Option<RandomFaults> {
        RandomFaults::new(config, 5, &name.parse().unwrap(), &CHANNELS, START.parse().unwrap(), &[])
    }

    fn on() -> RandomConfig {
        RandomConfig { random: true, ..RandomConfig::default() }
    }

    fn year(year: i64) -> Timestamp {
        START.parse::<Timestamp>().unwrap().plus_millis((year as f64 * YEAR_MS) as i64)
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_time_is_asked_for() {
        let whole = faults(&on(), "n1").unwrap().until(year(5));
        assert!(whole.len() > 15, "{}", whole.len());
        let mut pieces = faults(&on(), "n1").unwrap();
        let in_pieces: Vec<Fault> =
            (1..=60).flat_map(|k| pieces.until(year(0).plus_millis((k as f64 / 12.0 * YEAR_MS) as i64))).collect();
        assert_eq!(whole, in_pieces);
        assert_eq!(pieces.fresh().until(year(5)), whole);
        assert!(whole.windows(2).all(|pair| pair[0].start <= pair[1].start));
        assert_ne!(whole, faults(&on(), "n2").unwrap().until(year(5)));
    }

    #[test]
    fn rates_gaps_and_durations_are_those_that_were_asked_for() {
        let config = RandomConfig { rates: BTreeMap::from([(FaultKind::Stuck, 20.0)]), ..RandomConfig::default() };
        let (mut gaps, mut durations) = (Vec::new(), Vec::new());
        for station in 0..20 {
            let made = faults(&config, &format!("n{station}")).unwrap().until(year(5));
            assert!(made.iter().all(|fault| fault.kind() == FaultKind::Stuck));
            gaps.extend(made.windows(2).map(|pair| pair[1].start.millis_since(pair[0].end) as f64 / YEAR_MS));
            durations.extend(made.iter().map(|fault| fault.end.millis_since(fault.start) as f64 / HOUR_MS));
        }
        // Exponential: mean 1/20 year, and as large a standard deviation; some 1,700 of them.
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let sd = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean * 20.0 - 1.0).abs() < 0.08 && (sd / mean - 1.0).abs() < 0.08, "{mean} {sd}");
        // Log-normal: median 48 h, the logarithm's standard deviation 1.
        let logs: Vec<f64> = durations.iter().map(|hours| (hours / 48.0).ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let sd = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / logs.len() as f64).sqrt();
        assert!(mean.abs() < 0.08 && (sd - 1.0).abs() < 0.08, "{mean} {sd}");
    }

    #[test]
    fn every_kind_happens_on_its_channels_within_its_bounds_and_one_at_a_time() {
        let config = RandomConfig { random: true, rates: FaultKind::ALL.map(|kind| (kind, 3.0)).into() };
        let mut seen = std::collections::BTreeSet::new();
        for station in 0..10 {
            let mut random = faults(&config, &format!("e{station}")).unwrap();
            seen.extend(random.clocks_until(year(3)).iter().map(|_| FaultKind::ClockDrift));
            let made = random.until(year(3));
            for (index, fault) in made.iter().enumerate() {
                seen.insert(fault.kind());
                assert!(!made[..index].iter().any(|other| other.collides(fault)), "{fault:?}");
                assert!(fault.channel.is_none_or(|channel| fault.kind().befalls(channel.quantity)), "{fault:?}");
                let text = toml::to_string(&Parameters::of(fault)).unwrap();
                let table: toml::Table = text.parse().unwrap();
                for number in numbers(fault.kind(), fault.channel.map(|channel| channel.quantity)) {
                    if let Some(value) = table.get(number.key).and_then(toml::Value::as_float) {
                        assert!((number.low..=number.high).contains(&value), "{fault:?}");
                    }
                }
            }
        }
        assert_eq!(seen.len(), FaultKind::ALL.len(), "{seen:?}");
    }

    #[test]
    fn the_default_rates_spoil_about_as_many_readings_as_the_text_says() {
        let per_year: f64 = FaultKind::ALL.into_iter().map(|kind| on().rate(kind)).sum();
        assert!((5.0..7.0).contains(&per_year), "{per_year}");
        let hours: f64 = FaultKind::ALL
            .into_iter()
            .filter(|kind| !kind.is_of_station())
            .map(|kind| {
                let course = Course::of(kind);
                // The mean of a log-normal duration.
                course.per_year * course.median_h * (course.sigma.powi(2) / 2.0).exp()
            })
            .sum();
        let share = hours / (365.25 * 24.0) / CHANNELS.len() as f64;
        assert!((0.004..0.01).contains(&share), "{share}");
    }

    #[test]
    fn nothing_happens_unless_it_is_asked_for() {
        assert!(!RandomConfig::default().is_on() && faults(&RandomConfig::default(), "n1").is_none());
        let only = RandomConfig { rates: BTreeMap::from([(FaultKind::Bias, 2.0)]), ..RandomConfig::default() };
        assert!(faults(&only, "n1").unwrap().until(year(9)).iter().all(|fault| fault.kind() == FaultKind::Bias));
    }
}
