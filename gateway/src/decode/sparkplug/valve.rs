//! Valves of Sparkplug nodes and devices: how one is commanded, and how it says that it obeyed. Pure.
//!
//! ```toml
//! [[source]]
//! kind = "sparkplug"
//! stations = { "Farm/edge1/valve" = "valve-1" }
//! [source.valves]
//! "Farm/edge1/valve" = { minutes = "Irrigation/Minutes", number = "Irrigation/Number" }
//! ```
//!
//! A command sets both metrics in one message. Who has the valve runs it for so many minutes when the number is another one than
//! before, and then tells the number back, in its data or in a birth. So a valve runs once, whatever is sent again or killed.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{StationId, Timestamp};
use serde::{Deserialize, Serialize};

use super::command::{CommandValue, command};
use super::payload::{NAME_MOST, Said};
use super::{Place, SparkplugConfig};
use crate::decode::source::{Common, Kind, SourceConfig};

/// The metrics of a valve, by their names in the birth. Both are integers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValveConfig {
    /// For how many minutes it is to run: Int32.
    pub minutes: String,
    /// The number of the irrigation: Int64. It is told back once the valve runs.
    pub number: String,
}

impl ValveConfig {
    /// What its values cannot be: the value, and what is expected.
    pub(super) fn check(&self, place: &str) -> Option<(String, &'static str)> {
        let levels: Vec<&str> = place.split('/').collect();
        let is_name = |name: &str| (1..=NAME_MOST).contains(&name.len());
        if !(2..=3).contains(&levels.len()) || !levels.iter().all(|level| super::is_level(level)) {
            return Some((format!("{place:?}"), "a group, a node and perhaps a device, like \"Farm/edge1/valve\""));
        }
        let names = is_name(&self.minutes) && is_name(&self.number) && self.minutes != self.number;
        (!names).then(|| (format!("{:?} and {:?}", self.minutes, self.number), "the names of two metrics"))
    }
}

/// A valve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valve {
    place: String,
    metrics: ValveConfig,
}

impl Valve {
    fn place(&self) -> Option<Place<'_>> {
        let mut levels = self.place.splitn(3, '/');
        Some(Place { group: levels.next()?, node: levels.next()?, device: levels.next() })
    }

    /// The command that lets it run: topic and payload. None when the configuration names no node.
    #[must_use]
    pub fn command(&self, number: u64, minutes: u32, now: Timestamp) -> Option<(String, Bytes)> {
        let Place { group, node, device } = self.place()?;
        let metrics = [
            (self.metrics.minutes.as_str(), CommandValue::Int(i32::try_from(minutes).unwrap_or(i32::MAX))),
            (self.metrics.number.as_str(), CommandValue::Long(number.cast_signed())),
        ];
        Some(command(group, node, device, &metrics, now))
    }

    /// Whether a metric is one of the valve's.
    pub(super) fn has(&self, name: &str) -> bool {
        name == self.metrics.number || name == self.metrics.minutes
    }

    /// The irrigation that the valve says it carries out. Numbers are times of decisions, so none is above `now`: another value that
    /// the metric had before confirms nothing.
    pub(super) fn carried_out(&self, name: &str, said: &Said, now: Timestamp) -> Option<u64> {
        match *said {
            Said::Number(number) if name == self.metrics.number => {
                (number >= 1.0 && number <= now.as_millis() as f64).then_some(number as u64)
            }
            _ => None,
        }
    }
}

/// The valves of a source, by their stations.
pub(super) fn of_source(common: &Common, config: &SparkplugConfig) -> BTreeMap<StationId, Valve> {
    let valve = |(place, metrics): (&String, &ValveConfig)| {
        let levels: Vec<&str> = place.split('/').collect();
        (common.station(&levels), Valve { place: place.clone(), metrics: metrics.clone() })
    };
    config.valves.iter().map(valve).collect()
}

/// The valves of all sources, by their stations.
#[must_use]
pub fn valves(sources: &[SourceConfig]) -> BTreeMap<StationId, Valve> {
    let of = |source: &SourceConfig| match &source.kind {
        Kind::Sparkplug(config) => of_source(&source.common, config),
        _ => BTreeMap::new(),
    };
    sources.iter().flat_map(of).collect()
}
