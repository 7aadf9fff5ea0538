//! What is remembered of nodes and devices: their births, and what came that no birth explains yet. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proto::{Channel, Timestamp};
use serde::{Deserialize, Serialize};

use super::payload::{Metric, NAME_MOST, Payload};
use crate::decode::source::{Channels, Target};

/// The most messages of a node that wait for its birth. Of more, the oldest go: they stay where they were kept aside.
pub const HELD_MOST: usize = 256;
/// The most bytes of them, as they came.
pub const HELD_BYTES_MOST: usize = 256 << 10;
/// How often the time between two requests for a birth doubles while a node does not obey.
const DOUBLINGS_MOST: u32 = 6;

/// The metrics of one birth.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// By name.
    pub metrics: BTreeMap<String, Known>,
    /// Their names by alias.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<u64, String>,
}

/// What a birth said of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its type's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datatype: Option<u32>,
    /// Its unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What it is to us. The configuration says it, so it is not kept.
    #[serde(skip, default = "unknown")]
    pub target: Target,
}

const fn unknown() -> Target {
    Target::Unknown(None)
}

/// What a birth's metric cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// A short word for counting.
    pub reason: &'static str,
    /// In words.
    pub problem: String,
}

impl Table {
    /// The table of a birth, and what is wrong with some of its metrics.
    #[must_use]
    pub fn new(birth: &Payload, channels: &Channels) -> (Self, Vec<Wrong>) {
        let mut table = Self::default();
        let mut wrong = Vec::new();
        let mut say = |reason, problem| wrong.push(Wrong { reason, problem });
        for metric in &birth.metrics {
            let Some(name) = &metric.name else {
                say("name", format!("a metric of a birth has no name (alias {:?})", metric.alias));
                continue;
            };
            let shown = || name.chars().take(64).collect::<String>();
            if name.len() > NAME_MOST {
                say("name", format!("metric {:?}…: a name of {} bytes, at most {NAME_MOST}", shown(), name.len()));
                continue;
            }
            if metric.datatype.is_none() {
                say("datatype", format!("metric {:?}: a birth without its datatype", shown()));
            }
            let target = target(channels, name, metric.unit.as_deref());
            let known = Known { datatype: metric.datatype, unit: metric.unit.clone(), target };
            table.metrics.insert(name.clone(), known);
            if let Some(alias) = metric.alias
                && let Some(other) = table.aliases.insert(alias, name.clone()).filter(|other| other != name)
            {
                say("alias", format!("alias {alias} stands for {:?} and {other:?}", shown()));
            }
        }
        (table, wrong)
    }

    /// Looks up again what its metrics are to us, after it was read from the store.
    pub fn resolve(&mut self, channels: &Channels) {
        for (name, known) in &mut self.metrics {
            known.target = target(channels, name, known.unit.as_deref());
        }
    }

    /// A metric's name, by itself or its alias.
    #[must_use]
    pub fn name<'a>(&'a self, metric: &'a Metric) -> Option<&'a str> {
        match (&metric.name, metric.alias) {
            (Some(name), _) => Some(name),
            (None, Some(alias)) => self.aliases.get(&alias).map(String::as_str),
            (None, None) => None,
        }
    }

    /// The channels that its metrics are to us.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        let mapped = self.metrics.values().filter_map(|known| match known.target {
            Target::Channel(channel, _) => Some(channel),
            Target::Ignored | Target::Unknown(_) => None,
        });
        let mut channels: Vec<Channel> = mapped.collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }
}

/// What a metric is to us. What controls and describes a node is no measurement.
pub fn target(channels: &Channels, name: &str, unit: Option<&str>) -> Target {
    let control =
        name == "bdSeq" || ["Node Control/", "Device Control/", "Properties/"].iter().any(|p| name.starts_with(p));
    if control { Target::Ignored } else { channels.target(name, unit) }
}

/// A message that no birth explains yet, or the part of it.
#[derive(Debug, Clone)]
pub struct Held {
    /// Of which device; none of the node itself.
    pub device: Option<String>,
    /// When it came.
    pub at: Timestamp,
    /// What is not explained.
    pub payload: Payload,
    /// How many bytes it came in.
    pub bytes: usize,
}

/// A node as far as it is known.
#[derive(Debug, Default)]
pub struct Node {
    /// Its birth; none while it is dead or was never heard.
    pub born: Option<Born>,
    /// Whether a birth of it is wanted.
    pub wanted: bool,
    /// When it was asked for one last, and how often since its last one.
    asked: Option<(Timestamp, u32)>,
    held: VecDeque<Held>,
    held_bytes: usize,
}

/// A node that is born.
#[derive(Debug, Default)]
pub struct Born {
    /// The number of its session.
    pub bd_seq: Option<u64>,
    /// The number of its last message; none after a restart.
    pub seq: Option<u64>,
    /// Its own metrics.
    pub table: Arc<Table>,
    /// Its devices that are born.
    pub devices: BTreeMap<String, Arc<Table>>,
}

/// How a message's number follows the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It is the next one.
    Next,
    /// It is the one before again.
    Again,
    /// Some are missing.
    Gap {
        /// The number that would have been next.
        expected: u64,
    },
}

impl Born {
    /// Takes a message's number.
    pub fn count(&mut self, seq: u64) -> Order {
        let order = match self.seq {
            None => Order::Next,
            Some(last) if seq == (last + 1) % 256 => Order::Next,
            Some(last) if seq == last => Order::Again,
            Some(last) => Order::Gap { expected: (last + 1) % 256 },
        };
        self.seq = Some(seq);
        order
    }

    /// How many metrics it remembers.
    #[must_use]
    pub fn metrics(&self) -> usize {
        self.table.metrics.len() + self.devices.values().map(|table| table.metrics.len()).sum::<usize>()
    }
}

impl Node {
    /// Whether it is to be asked for a birth now, which is noted: at most once in `wait_ms`, and when it does not obey less and
    /// less often.
    pub fn ask(&mut self, now: Timestamp, wait_ms: i64) -> bool {
        self.wanted = true;
        let times = match self.asked {
            Some((at, times)) => {
                let wait_ms = wait_ms.saturating_mul(1 << times.saturating_sub(1).min(DOUBLINGS_MOST));
                // A clock that was set back must not keep it from being asked.
                if (0..wait_ms).contains(&now.millis_since(at)) {
                    return false;
                }
                times
            }
            None => 0,
        };
        self.asked = Some((now, times.saturating_add(1)));
        true
    }

    /// It has published a birth.
    pub fn bear(&mut self, born: Born) {
        self.born = Some(born);
        self.wanted = false;
        self.asked = self.asked.map(|(at, _)| (at, 0));
    }

    /// Keeps what no birth explains yet. Gives how many older ones had to go.
    pub fn hold(&mut self, held: Held) -> usize {
        self.held_bytes += held.bytes;
        self.held.push_back(held);
        let mut gone = 0;
        while self.held.len() > HELD_MOST || self.held_bytes > HELD_BYTES_MOST {
            let Some(oldest) = self.held.pop_front() else { break };
            self.held_bytes -= oldest.bytes;
            gone += 1;
        }
        gone
    }

    /// Gives what was kept of a device, or of the node itself.
    pub fn release(&mut self, device: Option<&str>) -> Vec<Held> {
        let (released, kept): (Vec<Held>, Vec<Held>) =
            self.held.drain(..).partition(|held| held.device.as_deref() == device);
        self.held_bytes = kept.iter().map(|held| held.bytes).sum();
        self.held = kept.into();
        released
    }

    /// Forgets what was kept: another session gives its aliases anew. Gives how many it was.
    pub fn forget_held(&mut self) -> usize {
        self.held_bytes = 0;
        std::mem::take(&mut self.held).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other_around_256() {
        let mut born = Born::default();
        assert_eq!(born.count(254), Order::Next, "after a restart any number is");
        assert_eq!([born.count(255), born.count(0), born.count(0)], [Order::Next, Order::Next, Order::Again]);
        assert_eq!(born.count(3), Order::Gap { expected: 1 });
        assert_eq!(born.count(4), Order::Next);
    }

    #[test]
    fn a_node_that_does_not_obey_is_asked_less_and_less_often() {
        let mut node = Node::default();
        let asked: Vec<i64> = (0..2_000).filter(|secs| node.ask(Timestamp::from_secs(*secs), 10_000)).collect();
        assert_eq!(asked, [0, 10, 30, 70, 150, 310, 630, 1_270, 1_910]);
        node.bear(Born::default());
        assert!(!node.wanted && !node.ask(Timestamp::from_secs(1_919), 10_000), "it was asked nine seconds ago");
        assert!(node.ask(Timestamp::from_secs(1_920), 10_000) && node.wanted);
        assert!(node.ask(Timestamp::from_secs(0), 10_000), "a clock that was set back");
    }

    #[test]
    fn what_waits_for_a_birth_is_bounded() {
        let mut node = Node::default();
        let held = |device: Option<&str>, bytes| Held {
            device: device.map(str::to_owned),
            at: Timestamp::from_secs(0),
            payload: Payload::default(),
            bytes,
        };
        let gone: usize = (0..HELD_MOST + 5).map(|_| node.hold(held(None, 1))).sum();
        assert_eq!((gone, node.held.len()), (5, HELD_MOST));
        assert_eq!(node.hold(held(Some("d"), HELD_BYTES_MOST)), HELD_MOST);
        assert_eq!((node.release(None).len(), node.release(Some("d")).len(), node.held_bytes), (0, 1, 0));
        assert_eq!(node.hold(held(None, HELD_BYTES_MOST + 1)), 1, "one alone may be too much");
    }
}
