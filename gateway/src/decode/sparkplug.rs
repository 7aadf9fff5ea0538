//! Sparkplug B 3.0: the gateway as a host application.
//!
//! A node says in its birth which metrics it and its devices have, and later only what changes, often by aliases alone. So
//! a message is read with the births before it, which are kept on disk. When they do not explain it (the node was never
//! born here, an alias is not known, numbers are missing) the node is asked for its births again, at most once in
//! `rebirth_s` seconds:
//! - After a gap in the numbers its messages are read with the births that are known: a node that reconnects is dead in
//!   between, so the aliases are still those.
//! - A message before any birth is kept aside as it came, and in memory, as far as there is room. The birth that follows in the
//!   same session explains it: what it names by alias or name, in a type that fits, is read then, with its own times. What
//!   does not fit stays aside. After a death, or a restart of the gateway, what waits stays aside, too: another session may
//!   use the same aliases for other metrics.
//! - Of a message with an unknown alias the rest is read at once.
//!
//! Each node and each device with a metric that is a channel is a station. The values in births are readings as well.
//! Values that are not numbers are told with the unmapped channels. What it does not read: data sets, templates, arrays.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::native::{MAX_CHANNELS, MAX_FIRMWARE};
use proto::{Birth, GatewayId, Reading, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use self::node::{Born, Held, Node, Order, Table};
use self::payload::{Metric, Payload, Said, decode_payload};
use super::source::{Announcement, Channels, Common, Decoded, Decoder, SourceError, Target, Unknown};

pub mod command;
pub mod node;
pub mod payload;
pub mod valve;

pub use command::{CommandValue, command};
pub use valve::{Valve, ValveConfig, valves};

/// The generated protobuf messages.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/sparkplug.rs"));
}

/// The most nodes that are remembered. A node beyond them is refused while all of those are alive.
const NODES_MOST: usize = 1_000;
/// The most metrics of all births that are remembered.
const METRICS_MOST: usize = 200_000;

/// The first level of every Sparkplug topic.
pub const NAMESPACE: &str = "spBv1.0";
/// What the gateway takes: messages of nodes (without a device) and of devices (with one).
/// Filters of all of Sparkplug's topics.
pub const OWN: [&str; 1] = ["spBv1.0/#"];
/// Filters of the commands to nodes and devices, and of whatever a node could take for one.
pub const COMMANDS: [&str; 2] = ["spBv1.0/+/NCMD/#", "spBv1.0/+/DCMD/#"];
const OF_NODES: [&str; 3] = ["NBIRTH", "NDEATH", "NDATA"];
const OF_DEVICES: [&str; 3] = ["DBIRTH", "DDEATH", "DDATA"];

/// A `[[source]]` of the kind `sparkplug`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparkplugConfig {
    /// The groups that are listened to; all when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The gateway's name as a host application; its own when it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Seconds between two rebirth requests to a node.
    pub rebirth_s: u32,
    /// The valves, by group, node and device: `Farm/edge1/valve`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub valves: BTreeMap<String, ValveConfig>,
}

impl Default for SparkplugConfig {
    fn default() -> Self {
        Self { groups: Vec::new(), host_id: None, rebirth_s: 10, valves: BTreeMap::new() }
    }
}

impl SparkplugConfig {
    /// The topics that it takes.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        let any = ["+".to_owned()];
        let groups = if self.groups.is_empty() { &any[..] } else { &self.groups };
        let of_group = |group: &String| {
            let nodes = OF_NODES.map(|kind| format!("{NAMESPACE}/{group}/{kind}/+"));
            let devices = OF_DEVICES.map(|kind| format!("{NAMESPACE}/{group}/{kind}/+/+"));
            nodes.into_iter().chain(devices)
        };
        groups.iter().flat_map(of_group).collect()
    }

    /// What is wrong with its values: key, value, and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut wrong = Vec::new();
        for group in self.groups.iter().filter(|group| !is_level(group) || *group == "STATE") {
            wrong.push(("groups", format!("{group:?}"), "a group: 1 to 128 bytes without +, # and /"));
        }
        if let Some(host) = self.host_id.as_ref().filter(|host| !is_level(host)) {
            wrong.push(("host_id", format!("{host:?}"), "a name of 1 to 128 bytes without +, # and /"));
        }
        if self.rebirth_s == 0 {
            wrong.push(("rebirth_s", "0".to_owned(), "above 0 s"));
        }
        for (value, expected) in self.valves.iter().filter_map(|(place, valve)| valve.check(place)) {
            wrong.push(("valves", value, expected));
        }
        wrong
    }
}

/// Whether it can be a level of a topic.
fn is_level(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && !text.contains(['+', '#', '/', '\0'])
}

/// The host application.
#[derive(Debug)]
pub struct Host {
    common: Common,
    channels: Channels,
    host_id: String,
    rebirth_ms: i64,
    valves: BTreeMap<StationId, Valve>,
    nodes: BTreeMap<(String, String), Node>,
}

/// What a topic says.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    group: &'a str,
    node: &'a str,
    device: Option<&'a str>,
}

/// What is kept of a node that is born, or of a device.
#[derive(Debug, Serialize)]
struct Keep<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bd_seq: Option<u64>,
    table: &'a Table,
}

/// The same, read again.
#[derive(Debug, Deserialize)]
struct Kept {
    #[serde(default)]
    bd_seq: Option<u64>,
    table: Table,
}

impl<'a> Place<'a> {
    /// The kind of the message, and where it comes from.
    fn of(topic: &'a str) -> Option<(&'a str, Self)> {
        let mut levels = topic.strip_prefix(NAMESPACE)?.strip_prefix('/')?.split('/');
        let (group, kind, node, device) = (levels.next()?, levels.next()?, levels.next()?, levels.next());
        let fits = if device.is_some() { OF_DEVICES.contains(&kind) } else { OF_NODES.contains(&kind) };
        (fits && levels.next().is_none()).then_some((kind, Self { group, node, device }))
    }

    fn key(self) -> (String, String) {
        (self.group.to_owned(), self.node.to_owned())
    }

    /// The key under which its birth is kept.
    fn kept(self) -> String {
        match self.device {
            Some(device) => format!("{}/{}/{device}", self.group, self.node),
            None => format!("{}/{}", self.group, self.node),
        }
    }

    fn station(self, common: &Common) -> StationId {
        match self.device {
            Some(device) => common.station(&[self.group, self.node, device]),
            None => common.station(&[self.group, self.node]),
        }
    }
}

impl Host {
    /// A host that knows no node.
    #[must_use]
    pub fn new(common: &Common, config: &SparkplugConfig, gateway: &GatewayId) -> Self {
        Self {
            common: common.clone(),
            channels: Channels::new(&common.channels),
            host_id: config.host_id.clone().unwrap_or_else(|| gateway.to_string()),
            rebirth_ms: i64::from(config.rebirth_s) * 1000,
            valves: valve::of_source(common, config),
            nodes: BTreeMap::new(),
        }
    }

    /// The node's place among those that are remembered.
    fn node(&mut self, place: Place<'_>) -> Result<&mut Node, SourceError> {
        let key = place.key();
        if !self.nodes.contains_key(&key) && self.nodes.len() >= NODES_MOST {
            let dead = self.nodes.iter().find(|(_, node)| node.born.is_none()).map(|(key, _)| key.clone());
            let dead = dead.ok_or_else(|| {
                SourceError::new("too_many", format!("node {}: {NODES_MOST} nodes are alive already", place.kept()))
            })?;
            self.nodes.remove(&dead);
        }
        Ok(self.nodes.entry(key).or_default())
    }

    /// Asks a node for its births, unless it was asked a moment ago.
    fn ask(&mut self, place: Place<'_>, now: Timestamp, decoded: &mut Decoded) {
        let wait_ms = self.rebirth_ms;
        if self.node(place).is_ok_and(|node| node.ask(now, wait_ms)) {
            decoded.replies.push(command::rebirth(place.group, place.node, now));
            decoded.count("rebirths_requested", 1);
        }
    }

    fn birth(
        &mut self,
        place: Place<'_>,
        payload: &Payload,
        now: Timestamp,
        decoded: &mut Decoded,
    ) -> Result<(), SourceError> {
        let (table, wrong) = Table::new(payload, &self.channels);
        let table = Arc::new(table);
        let key = place.key();
        let before = self.nodes.get(&key).and_then(|node| node.born.as_ref()).map_or(0, |born| match place.device {
            Some(device) => born.devices.get(device).map_or(0, |table| table.metrics.len()),
            None => born.metrics(),
        });
        let all: usize = self.nodes.values().filter_map(|node| node.born.as_ref()).map(Born::metrics).sum();
        if all - before + table.metrics.len() > METRICS_MOST {
            let problem = format!("{}: {METRICS_MOST} metrics are known already", place.kept());
            return Err(SourceError::new("too_many", problem));
        }
        match place.device {
            None => {
                let bd_seq = bd_seq(payload);
                if bd_seq.is_none() {
                    decoded
                        .refuse("bd_seq", || "metric bdSeq is missing in a birth of a node, or no integer".to_owned());
                }
                if payload.seq.is_none() {
                    decoded.refuse("seq", || "field seq is missing in a birth".to_owned());
                }
                let node = self.node(place)?;
                if let Some(before) = &node.born {
                    for device in before.devices.keys() {
                        decoded.state.push((format!("{}/{device}", place.kept()), None));
                    }
                }
                node.bear(Born { bd_seq, seq: payload.seq, table: Arc::clone(&table), devices: BTreeMap::new() });
                decoded.count("node_births", 1);
            }
            Some(device) => {
                let Some(born) = self.nodes.get_mut(&key).and_then(|node| node.born.as_mut()) else {
                    // Its node's rebirth brings its own.
                    decoded.aside = Some(format!("device {}: its node is not born", place.kept()));
                    self.ask(place, now, decoded);
                    return Ok(());
                };
                born.devices.insert(device.to_owned(), Arc::clone(&table));
                decoded.count("device_births", 1);
                self.number(place, payload, now, decoded);
            }
        }
        wrong.into_iter().for_each(|wrong| decoded.refuse(wrong.reason, || wrong.problem));
        let bd_seq = self.nodes.get(&key).and_then(|node| node.born.as_ref()).and_then(|born| born.bd_seq);
        let station = place.station(&self.common);
        self.describe(&station, &table, payload, bd_seq, decoded);
        let kept = serde_json::to_vec(&Keep { bd_seq, table: &table });
        decoded.state.push((place.kept(), kept.ok()));
        self.read(&station, &table, payload, now, decoded);
        // What came before is explained now, if it fits.
        let released = self.nodes.get_mut(&key).map(|node| node.release(place.device)).unwrap_or_default();
        for held in released {
            let fits = |metric: &Metric| {
                let known = table.name(metric).and_then(|name| table.metrics.get(name));
                known.is_some_and(|known| metric.datatype.is_none() || metric.datatype == known.datatype)
            };
            let (fitting, misfits): (Vec<Metric>, Vec<Metric>) = held.payload.metrics.into_iter().partition(fits);
            decoded.count("held_misfits", misfits.len() as u64);
            decoded.count("held_read", fitting.len() as u64);
            let payload = Payload { metrics: fitting, ..held.payload };
            self.read(&station, &table, &payload, held.at, decoded);
        }
        Ok(())
    }

    /// Says in our own words what a birth said.
    fn describe(
        &self,
        station: &StationId,
        table: &Table,
        birth: &Payload,
        bd_seq: Option<u64>,
        decoded: &mut Decoded,
    ) {
        let mut channels = table.channels();
        channels.truncate(MAX_CHANNELS);
        if channels.is_empty() {
            return;
        }
        let birth = Birth {
            boot: bd_seq.and_then(|number| u32::try_from(number).ok()).unwrap_or(0),
            firmware: firmware(birth).unwrap_or_else(|| "sparkplug".to_owned()),
            interval_s: self.common.report_s(),
            report_s: self.common.report_s(),
            channels,
            field: self.common.field.clone(),
            latitude: None,
            longitude: None,
        };
        decoded.births.push((station.clone(), birth));
    }

    /// Takes a message's number, and asks for a birth when some before it are missing.
    fn number(&mut self, place: Place<'_>, payload: &Payload, now: Timestamp, decoded: &mut Decoded) {
        let Some(born) = self.nodes.get_mut(&place.key()).and_then(|node| node.born.as_mut()) else { return };
        let Some(seq) = payload.seq else {
            return decoded.refuse("seq", || "field seq is missing".to_owned());
        };
        match born.count(seq) {
            Order::Next => {}
            Order::Again => decoded.count("repeated", 1),
            Order::Gap { expected } => {
                tracing::warn!(node = place.kept(), seq, expected, "messages of a Sparkplug node are missing");
                decoded.count("seq_gaps", 1);
                self.ask(place, now, decoded);
            }
        }
    }

    fn data(
        &mut self,
        place: Place<'_>,
        payload: Payload,
        bytes: usize,
        now: Timestamp,
        decoded: &mut Decoded,
    ) -> Result<(), SourceError> {
        let held = |payload: Payload| Held { device: place.device.map(str::to_owned), at: now, payload, bytes };
        let born = self.nodes.get(&place.key()).and_then(|node| node.born.as_ref());
        let table = born.and_then(|born| match place.device {
            Some(device) => born.devices.get(device),
            None => Some(&born.table),
        });
        let Some(table) = table.cloned() else {
            self.number(place, &payload, now, decoded);
            decoded.aside = Some(format!("{}: no birth explains it yet; one is asked for", place.kept()));
            let gone = self.node(place)?.hold(held(payload));
            decoded.count("held", 1);
            decoded.count("held_forgotten", gone as u64);
            self.ask(place, now, decoded);
            return Ok(());
        };
        self.number(place, &payload, now, decoded);
        let (known, unexplained): (Vec<Metric>, Vec<Metric>) =
            payload.metrics.into_iter().partition(|metric| table.name(metric).is_some());
        let station = place.station(&self.common);
        let unborn =
            known.iter().any(|metric| table.name(metric).is_some_and(|name| !table.metrics.contains_key(name)));
        let known = Payload { timestamp: payload.timestamp, seq: payload.seq, metrics: known };
        self.read(&station, &table, &known, now, decoded);
        if !unexplained.is_empty() {
            let aliases: Vec<String> =
                unexplained.iter().take(8).filter_map(|m| m.alias).map(|a| a.to_string()).collect();
            let what = if aliases.is_empty() {
                "metrics without name and alias".to_owned()
            } else {
                format!("aliases {}", aliases.join(", "))
            };
            decoded.aside = Some(format!("{}: {what} are in no birth; one is asked for", place.kept()));
            decoded.count("unknown_aliases", unexplained.len() as u64);
            let unexplained = Payload { timestamp: payload.timestamp, seq: payload.seq, metrics: unexplained };
            let gone = self.node(place)?.hold(held(unexplained));
            decoded.count("held_forgotten", gone as u64);
        }
        // A request that was lost, or came before the node listened, is made again.
        let wanted = self.nodes.get(&place.key()).is_some_and(|node| node.wanted);
        if unborn || wanted || decoded.aside.is_some() {
            self.ask(place, now, decoded);
        }
        Ok(())
    }

    /// Reads values that a birth explains.
    fn read(&self, station: &StationId, table: &Table, payload: &Payload, now: Timestamp, decoded: &mut Decoded) {
        let mut readings: Vec<Reading> = Vec::new();
        let mut mapped = false;
        let valve = self.valves.get(station);
        for metric in &payload.metrics {
            let Some(name) = table.name(metric) else { continue };
            let known = table.metrics.get(name);
            if let Some(valve) = valve.filter(|valve| valve.has(name)) {
                let said = metric.said(known.and_then(|known| known.datatype)).ok();
                let number = said.and_then(|said| valve.carried_out(name, &said, now));
                decoded.irrigated.extend(number.map(|number| (station.clone(), number)));
                continue;
            }
            // Properties may change after the birth.
            let unit = metric.unit.as_deref().or(known.and_then(|known| known.unit.as_deref()));
            let target = match known {
                Some(known) if known.unit.as_deref() == unit => known.target,
                _ => node::target(&self.channels, name, unit),
            };
            if target == Target::Ignored {
                continue;
            }
            mapped |= matches!(target, Target::Channel(..));
            if metric.null {
                decoded.count("nulls", 1);
                continue;
            }
            let shown = || name.chars().take(64).collect::<String>();
            let said = match metric.said(known.and_then(|known| known.datatype)) {
                Ok(said) => said,
                Err(problem) => {
                    decoded.refuse("value", || format!("metric {:?}: {problem}", shown()));
                    continue;
                }
            };
            match (target, said) {
                (Target::Channel(channel, conversion), Said::Number(number)) => {
                    let time = match metric.timestamp.or(payload.timestamp).map(payload::time) {
                        None => now,
                        Some(Ok(time)) => time,
                        Some(Err(problem)) => {
                            decoded.refuse("time", || format!("metric {:?}: {problem}", shown()));
                            continue;
                        }
                    };
                    // Of the two zeros one is enough: a reading is known by its value's bits.
                    let value = conversion.apply(number) + 0.0;
                    if !value.is_finite() {
                        decoded.refuse("value", || format!("metric {:?}: {number} is too large", shown()));
                        continue;
                    }
                    decoded.count("historical", u64::from(metric.historical));
                    readings.push(Reading { channel, time, value });
                }
                (target, said) => {
                    let proposal = match target {
                        Target::Unknown(proposal) if matches!(said, Said::Number(_)) => proposal,
                        _ => None,
                    };
                    decoded.unknown.push(Unknown {
                        source: self.common.name.clone(),
                        station: station.clone(),
                        name: name.to_owned(),
                        unit: unit.map(str::to_owned),
                        value: said.to_string(),
                        proposal,
                    });
                }
            }
        }
        readings.sort_by(|a, b| (a.time, a.channel).cmp(&(b.time, b.channel)).then(a.value.total_cmp(&b.value)));
        readings.dedup();
        if !readings.is_empty() {
            match decoded.stations.iter_mut().find(|(known, _)| known == station) {
                Some((_, before)) => before.extend(readings),
                None => decoded.stations.push((station.clone(), readings)),
            }
        } else if mapped {
            decoded.heard.push(station.clone());
        }
    }

    fn death(&mut self, place: Place<'_>, payload: &Payload, now: Timestamp, decoded: &mut Decoded) {
        let Some(node) = self.nodes.get_mut(&place.key()) else {
            return decoded.count("stale_deaths", 1);
        };
        let Some(born) = &mut node.born else {
            decoded.count("stale_deaths", 1);
            if place.device.is_none() {
                decoded.count("held_forgotten", node.forget_held() as u64);
            }
            return;
        };
        if let Some(device) = place.device {
            if born.devices.remove(device).is_some() {
                decoded.state.push((place.kept(), None));
            }
            decoded.count("device_deaths", 1);
            return self.number(place, payload, now, decoded);
        }
        // A will that was left behind by a session before this one (Sparkplug 3.0.0, 6.4.22) kills nobody.
        let told = bd_seq(payload);
        if told.is_some() && born.bd_seq.is_some() && told != born.bd_seq {
            return decoded.count("stale_deaths", 1);
        }
        decoded.state.extend(born.devices.keys().map(|device| (format!("{}/{device}", place.kept()), None)));
        decoded.state.push((place.kept(), None));
        decoded.count("node_deaths", 1);
        node.born = None;
        decoded.count("held_forgotten", node.forget_held() as u64);
    }
}

impl Decoder for Host {
    fn decode(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Result<Decoded, SourceError> {
        let (kind, place) = Place::of(topic)
            .ok_or_else(|| SourceError::new("topic", format!("it is no topic of {NAMESPACE} that is taken")))?;
        let bytes = payload.len();
        let payload = decode_payload(payload)?;
        let mut decoded = Decoded::default();
        match kind {
            "NBIRTH" | "DBIRTH" => self.birth(place, &payload, now, &mut decoded)?,
            "NDATA" | "DDATA" => self.data(place, payload, bytes, now, &mut decoded)?,
            _ => self.death(place, &payload, now, &mut decoded),
        }
        Ok(decoded)
    }

    fn restore(&mut self, key: &str, body: &[u8]) {
        let mut levels = key.splitn(3, '/');
        let (Some(group), Some(node)) = (levels.next(), levels.next()) else { return };
        let place = Place { group, node, device: levels.next() };
        let Ok(Kept { bd_seq, mut table }) = serde_json::from_slice::<Kept>(body) else {
            tracing::warn!(key, "the birth of a Sparkplug node cannot be read again: it will be asked for");
            return;
        };
        table.resolve(&self.channels);
        let table = Arc::new(table);
        let Ok(remembered) = self.node(place) else { return };
        match place.device {
            None => {
                let born = remembered.born.get_or_insert_default();
                (born.bd_seq, born.table) = (bd_seq, table);
            }
            // A device without its node would be explained by nothing.
            Some(device) => {
                if let Some(born) = &mut remembered.born {
                    born.devices.insert(device.to_owned(), table);
                }
            }
        }
    }

    fn announcements(&self, now: Timestamp) -> Vec<Announcement> {
        vec![command::state(&self.host_id, now)]
    }
}

/// The number of a node's session, which its birth and its death tell.
fn bd_seq(payload: &Payload) -> Option<u64> {
    let metric = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq"))?;
    match metric.said(None) {
        Ok(Said::Number(number)) if number >= 0.0 => Some(number as u64),
        _ => None,
    }
}

/// The firmware that a birth tells, short enough for ours.
fn firmware(birth: &Payload) -> Option<String> {
    let is_firmware = |name: &str| {
        let name = name.strip_prefix("Properties/").unwrap_or_default().to_ascii_lowercase();
        ["firmware", "firmware version", "software version", "fw", "sw version", "version"].contains(&name.as_str())
    };
    let metric = birth.metrics.iter().find(|metric| metric.name.as_deref().is_some_and(is_firmware))?;
    let Ok(Said::Text(text)) = metric.said(None) else { return None };
    let mut firmware = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if firmware.len() + c.len_utf8() > MAX_FIRMWARE {
            break;
        }
        firmware.push(c);
    }
    Some(firmware).filter(|firmware| !firmware.is_empty())
}

#[cfg(test)]
mod tests;
