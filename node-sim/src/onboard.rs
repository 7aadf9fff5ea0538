//! What a station's firmware does with a sample before it is in a report: spikes are taken out, a model judges it, and only
//! what has changed is reported. That is the [`firmware`] crate's [`take`]; nothing is done unless `[node]` in the configuration
//! says so. What goes on beside it is the simulator's: the truth behind each reading, which no node knows.
//!
//! Like all that is in a node's memory and not in its flash, this is forgotten when it starts anew: the first sample then is
//! reported whole.

use std::collections::BTreeMap;

use firmware::exception::Band;
use firmware::node::{Rule, take};
use proto::{Channel, Quantity, Reading};
use serde::{Deserialize, Serialize};

use crate::config::Problem;
use crate::faults::FaultKind;
use crate::models::Models;
use crate::station::Measured;

/// The longest time without a reading, s, when the configuration says nothing: four times the usual interval of a report.
const HEARTBEAT_S: u32 = 3600;

/// What the nodes do on board.
///
/// ```toml
/// [node]
/// heartbeat_s = 3600
/// dead_band = { soil_moisture = 0.005, soil_temperature = 0.2 }
/// filter = { soil_moisture = 0.02 }
/// memory = "ram"
/// model = true
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Report by exception: by quantity the largest difference from the last reading, in its unit, that is not reported. What
    /// is not named is always reported.
    pub dead_band: BTreeMap<Quantity, f64>,
    /// The longest time without a reading of a channel that has a dead band, s.
    pub heartbeat_s: u32,
    /// By quantity, the size from which on what sticks out of five values is a spike and is taken out, in its unit. What is
    /// not named is not filtered.
    pub filter: BTreeMap<Quantity, f64>,
    /// What holds the readings until they are acknowledged.
    pub memory: Memory,
    /// Whether the nodes take models over the air ([`crate::models`]), and say so. Of a sample that the model calls unusual
    /// every value is reported.
    pub model: bool,
}

/// What holds a node's readings until they are acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// A flash for `ring_readings`.
    #[default]
    Flash,
    /// The controller's own memory: 2,000 readings.
    Ram,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            dead_band: BTreeMap::new(),
            heartbeat_s: HEARTBEAT_S,
            filter: BTreeMap::new(),
            memory: Memory::Flash,
            model: false,
        }
    }
}

impl NodeConfig {
    /// Whether samples are reported as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.dead_band.is_empty() && self.filter.is_empty() && !self.model
    }

    /// What is wrong with it.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, widths) in [("dead_band", &self.dead_band), ("filter", &self.filter)] {
            for (quantity, width) in widths {
                let key = format!("node.{name}.{quantity}");
                let range = quantity.range();
                let most = range.end() - range.start();
                if *quantity == Quantity::Rain {
                    let why =
                        "cannot be given: each reading is what fell since the one before, and none may be left out";
                    problems.push(Problem::of(&key, why));
                } else if !(0.0..=most).contains(width) {
                    problems.push(Problem::of(&key, format!("{width} is not 0 to {most} {}", quantity.unit())));
                }
            }
        }
        if !(1..=86_400).contains(&self.heartbeat_s) {
            problems.push(Problem::of("node.heartbeat_s", format!("{} is not 1 to 86400 s", self.heartbeat_s)));
        }
        problems
    }

    fn rule(&self, quantity: Quantity) -> Rule {
        let integer = |width: f64| (width * per_unit(quantity)).round() as u32;
        let heartbeat_ms = self.heartbeat_s.saturating_mul(1000);
        Rule {
            filter: self.filter.get(&quantity).map(|size| integer(*size)),
            band: self.dead_band.get(&quantity).map(|width| Band { width: integer(*width), heartbeat_ms }),
        }
    }
}

/// One station's channels on board.
#[derive(Debug)]
pub struct Onboard {
    channels: Vec<Channel>,
    /// What the firmware knows of each of them.
    states: Vec<firmware::node::Channel>,
    /// The station's models, where it takes some.
    pub models: Option<Models>,
}

impl Onboard {
    /// A station that has just started; none where samples are reported as they are.
    #[must_use]
    pub fn new(config: &NodeConfig, channels: &[Channel]) -> Option<Self> {
        let state = |&Channel { quantity, .. }: &Channel| {
            firmware::node::Channel::new(config.rule(quantity), quantity.wire_decimals())
        };
        (!config.is_plain()).then(|| Self {
            channels: channels.to_vec(),
            states: channels.iter().map(state).collect(),
            models: config.model.then(|| Models::new(channels)),
        })
    }

    /// The node starts anew, after its watchdog had to reset it so often.
    pub fn restart(&mut self, watchdog_resets: u32) {
        self.states.iter_mut().for_each(firmware::node::Channel::restart);
        self.models.iter_mut().for_each(|models| models.restart(watchdog_resets));
    }

    /// Has the firmware take a sample, and adds what of it is reported.
    pub fn sample(&mut self, sample: &[Measured], reported: &mut Vec<Measured>) {
        let mut values = vec![None; self.channels.len()];
        let number = |measured: &Measured| self.channels.iter().position(|known| *known == measured.reading.channel);
        for measured in sample {
            if let Some(number) = number(measured) {
                values[number] = Some(integer(&measured.reading));
            }
        }
        // All of a sample are of one time, and of an empty one nothing is reported.
        let time_ms = sample.first().map_or(0, |measured| measured.reading.time.as_millis());
        match self.models.as_mut().map(Models::parts) {
            Some((updater, index)) => take(&mut self.states, Some(updater), time_ms, &mut values, index),
            None => take(&mut self.states, None, time_ms, &mut values, |_| None),
        };
        reported.extend(sample.iter().filter_map(|measured| match number(measured) {
            Some(number) => Some(as_taken(*measured, values[number]?)),
            None => Some(*measured),
        }));
    }
}

/// What was measured, with what the firmware made of its value. Where a spike was taken out nothing of the fault is in what is
/// sent.
fn as_taken(mut measured: Measured, taken: i32) -> Measured {
    let reading = &mut measured.reading;
    if taken != integer(reading) {
        reading.value = f64::from(taken) / per_unit(reading.channel.quantity);
        if measured.fault == Some(FaultKind::Spike) {
            (measured.fault, measured.truth) = (None, None);
        }
    }
    measured
}

/// A value as a node holds it. One that has no room in it, which no probe has, is held at the largest.
fn integer(reading: &Reading) -> i32 {
    (reading.value * per_unit(reading.channel.quantity)).round() as i32
}

/// A node's values are integers of the wire's last decimal.
fn per_unit(quantity: Quantity) -> f64 {
    10f64.powi(i32::from(quantity.wire_decimals()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use firmware::FieldNode;
    use firmware::ring::Key;
    use firmware::update::Offer;
    use proptest::prelude::*;
    use proto::{Ack, Batch, Command, NodeModelChunk, NodeModelFile, NodeModelOffer, NodeModelVersion, Timestamp};
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::config::FarmConfig;
    use crate::farm::Farm;
    use crate::node::Entry;
    use crate::station::CHANNELS;

    fn day(config: &NodeConfig) -> (Vec<Measured>, Vec<Measured>) {
        let mut farm = Farm::new(&FarmConfig { stations: 1, ..FarmConfig::default() }).unwrap();
        let mut onboard = Onboard::new(config, &crate::station::CHANNELS);
        let (mut all, mut sent) = (Vec::new(), Vec::new());
        farm.advance(farm.now().plus_secs(86_400), |sample| {
            all.extend_from_slice(sample.readings);
            match &mut onboard {
                Some(onboard) => onboard.sample(sample.readings, &mut sent),
                None => sent.extend_from_slice(sample.readings),
            }
        });
        (all, sent)
    }

    #[test]
    fn without_a_configuration_nothing_is_changed() {
        let (all, sent) = day(&NodeConfig::default());
        assert_eq!(all, sent);
        let all_but_nothing = NodeConfig { dead_band: [(Quantity::Nitrate, 1.0)].into(), ..NodeConfig::default() };
        assert!(!all_but_nothing.is_plain());
        let (all, sent) = day(&all_but_nothing);
        assert_eq!(all, sent);
    }

    #[test]
    fn what_rests_is_left_out_and_what_is_held_is_within_the_band() {
        let width = 0.3;
        let config = NodeConfig { dead_band: [(Quantity::SoilTemperature, width)].into(), ..NodeConfig::default() };
        let (all, sent) = day(&config);
        let channel = Channel::at(Quantity::SoilTemperature, 30);
        let of = |list: &[Measured]| -> Vec<Reading> {
            list.iter().map(|measured| measured.reading).filter(|reading| reading.channel == channel).collect()
        };
        let other = |list: &[Measured]| {
            list.iter().filter(|measured| measured.reading.channel.quantity != Quantity::SoilTemperature).count()
        };
        assert_eq!(other(&all), other(&sent));
        let (all, sent) = (of(&all), of(&sent));
        assert!(sent.len() * 4 < all.len() && sent.len() >= 24, "{} of {}", sent.len(), all.len());
        for reading in all {
            let held = sent.iter().rev().find(|held| held.time <= reading.time).unwrap();
            assert!((held.value - reading.value).abs() <= width + 1e-9);
        }
    }

    #[test]
    fn a_spike_is_taken_out_and_what_no_probe_can_say_is_left_where_nothing_is_filtered() {
        let channels = [Channel::at(Quantity::SoilMoisture, 10), Channel::at(Quantity::SoilTemperature, 10)];
        let config = NodeConfig { filter: [(Quantity::SoilMoisture, 0.01)].into(), ..NodeConfig::default() };
        let mut onboard = Onboard::new(&config, &channels).unwrap();
        let values = [0.2, 0.201, 0.199, 0.2, 0.45, 0.2, 0.205, 1e9];
        let mut reported = Vec::new();
        for (at, value) in (0..).zip(values) {
            // The last but one is too small a spike to be taken out; the last one has no room in a node.
            let spike = [0.45, 0.205, 1e9].contains(&value).then_some(0.2);
            let fault = spike.map(|_| FaultKind::Spike);
            let reading = |channel| Reading { channel, time: Timestamp::from_secs(300 * at), value };
            let sample = channels.map(|channel| Measured { reading: reading(channel), fault, truth: spike });
            onboard.sample(&sample, &mut reported);
        }
        let of = |channel: Channel| -> Vec<Measured> {
            reported.iter().copied().filter(|measured| measured.reading.channel == channel).collect()
        };
        let [taken, left] = channels.map(|channel| of(channel).iter().map(|m| m.reading.value).collect::<Vec<_>>());
        assert_eq!(taken, [0.2, 0.201, 0.199, 0.2, 0.2, 0.2, 0.205, 0.205]);
        assert_eq!(left, values);
        // What was taken out is in no reading, and so in no truth log.
        let [taken, left] =
            channels.map(|channel| of(channel).iter().map(|m| m.fault.and(m.truth)).collect::<Vec<_>>());
        assert_eq!(taken, [None, None, None, None, None, None, Some(0.2), None]);
        assert_eq!(left, [None, None, None, None, Some(0.2), None, Some(0.2), Some(0.2)]);
    }

    /// A model of one channel that foretells what was, and calls a step of 0.05 unusual.
    fn model() -> Vec<u8> {
        let file = NodeModelFile::persistence("1.0.0".parse().unwrap(), &CHANNELS[..1], vec![(0.3, 0.1)], 2);
        file.encode().unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Sample(Vec<Option<i32>>),
        Report,
        Acknowledge(u64),
        Connect,
        Disconnect,
        Send,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Around a mean, with a few far off; a battery's voltage or a share of water are some hundreds of the last decimal.
        let value = prop_oneof![8 => 200i32..215, 1 => 0i32..600];
        let values = prop::collection::vec(prop::option::weighted(0.95, value), CHANNELS.len());
        let step = prop_oneof![
            12 => values.prop_map(Step::Sample),
            5 => Just(Step::Report),
            1 => (0u64..40).prop_map(Step::Acknowledge),
            1 => Just(Step::Connect),
            1 => Just(Step::Disconnect),
            4 => Just(Step::Send),
        ];
        prop::collection::vec(step, 1..400)
    }

    /// A report of the firmware's ring as it is sent.
    fn encoded(key: Key, readings: impl Iterator<Item = firmware::ring::Reading>) -> (Key, Vec<u8>) {
        let readings = readings.map(|small| {
            let channel = CHANNELS[usize::from(small.channel)];
            let value = f64::from(small.value) / per_unit(channel.quantity);
            Reading { channel, time: Timestamp::from_millis(small.time_ms), value }
        });
        let batch = Batch { boot: key.boot, sequence: key.sequence, readings: readings.collect() };
        (key, batch.encode().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// With the journal between samples and memory the very bytes are sent that the whole node would send.
        #[test]
        fn a_simulated_node_is_the_field_s_node(steps in steps(), with_model in any::<bool>()) {
            let config = NodeConfig {
                dead_band: [(Quantity::SoilMoisture, 0.003), (Quantity::SoilTemperature, 0.1)].into(),
                filter: [(Quantity::SoilMoisture, 0.01), (Quantity::AirTemperature, 0.5)].into(),
                memory: Memory::Ram,
                model: true,
                ..NodeConfig::default()
            };
            let mut onboard = Onboard::new(&config, &CHANNELS).unwrap();
            let mut memory = crate::node::Node::without_flash(crate::chance::Chance::new(1, "test"));
            let rules = CHANNELS.map(|channel| config.rule(channel.quantity));
            let mut node = FieldNode::new(rules, CHANNELS.map(|channel| channel.quantity.wire_decimals()), 3);
            let index = |name: &str| CHANNELS.iter().position(|channel| channel.to_string() == name).map(|at| at as u8);
            if with_model {
                let bytes = model();
                let (version, sha256) = ("1.0.0".parse::<NodeModelVersion>().unwrap(), Sha256::digest(&bytes).into());
                let size = bytes.len() as u32;
                node.updater.offer(Offer { version: version.code(), sha256, size });
                prop_assert!(node.updater.chunk(version.code(), 0, &bytes, index));
                let models = onboard.models.as_mut().unwrap();
                models.obey(&Command::OfferModel(NodeModelOffer { version, sha256, size }));
                models.obey(&Command::ModelChunk(NodeModelChunk { version, offset: 0, bytes }));
                prop_assert!(models.status().active.is_some());
            }
            let (mut time_ms, mut sequence, mut open) = (1_780_297_200_000, 0, Vec::new());
            for step in steps {
                match step {
                    Step::Sample(values) => {
                        time_ms += 300_000;
                        let time = Timestamp::from_millis(time_ms);
                        let sample: Vec<Measured> = CHANNELS.iter().zip(&values).filter_map(|(channel, value)| {
                            let value = f64::from((*value)?) / per_unit(channel.quantity);
                            Some(Measured { reading: Reading { channel: *channel, time, value }, fault: None, truth: None })
                        }).collect();
                        onboard.sample(&sample, &mut open);
                        node.sample(time_ms, std::array::from_fn(|at| values[at]), index);
                    }
                    Step::Report => {
                        node.report();
                        let readings: Vec<Reading> = open.drain(..).map(|measured| measured.reading).collect();
                        if !readings.is_empty() {
                            sequence += 1;
                            let count = readings.len() as u32;
                            let payload = Batch { boot: 3, sequence, readings }.encode().unwrap().into();
                            memory.push(Entry { boot: 3, sequence, readings: count, payload });
                        }
                    }
                    Step::Connect => {
                        memory.connected();
                        node.connected();
                    }
                    Step::Disconnect => {
                        memory.disconnected();
                        node.disconnected();
                    }
                    // A reading that is in no report yet takes room in the one memory before it does in the other.
                    Step::Acknowledge(_) | Step::Send if !open.is_empty() => {}
                    Step::Send => {
                        let simulated = memory.next_to_send(Duration::ZERO).map(|sent| (sent.key(), sent.payload.to_vec()));
                        let sent = node.next_to_send(Duration::ZERO, || 0.5).map(|(key, readings)| encoded(key, readings));
                        prop_assert!(simulated == sent, "{:?}", sent.map(|sent| sent.0));
                    }
                    Step::Acknowledge(up_to) => {
                        let news = memory.acknowledged(&Ack { boot: 3, sequence: up_to }, Duration::ZERO);
                        prop_assert_eq!(node.acknowledged(Key { boot: 3, sequence: up_to }, Duration::ZERO, || 0.5), news);
                    }
                }
                let in_ram: Vec<(Key, Vec<u8>)> = (0..node.ring().reports()).map(|at| {
                    let (key, readings) = node.ring().report(at).unwrap();
                    encoded(key, readings)
                }).collect();
                let simulated: Vec<(Key, Vec<u8>)> =
                    memory.entries().map(|entry| (entry.key(), entry.payload.to_vec())).collect();
                if open.is_empty() {
                    prop_assert!(simulated == in_ram, "{} and {} reports", simulated.len(), in_ram.len());
                }
            }
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let config = NodeConfig {
            dead_band: [(Quantity::Rain, 0.2), (Quantity::SoilMoisture, -1.0)].into(),
            heartbeat_s: 0,
            filter: [(Quantity::AirTemperature, f64::NAN)].into(),
            memory: Memory::Ram,
            model: true,
        };
        let problems: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems.iter().any(|p| p.starts_with("node.dead_band.rain: cannot be given")), "{problems:?}");
        assert!(
            problems.contains(&"node.dead_band.soil_moisture: -1 is not 0 to 0.7 m3/m3".to_owned()),
            "{problems:?}"
        );
        assert!(problems.contains(&"node.heartbeat_s: 0 is not 1 to 86400 s".to_owned()), "{problems:?}");
    }
}
