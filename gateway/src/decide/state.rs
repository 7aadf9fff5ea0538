//! What is remembered of a field, over restarts too.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::decision::{self, Decision};
use proto::{Channel, Record, StationId, Timestamp};

/// Bytes that are no field's state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state of a field cannot be read: {0}")]
pub struct UnreadableState(String);

/// A probe's newest window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Probe {
    pub end: Timestamp,
    /// The mean of what was accepted, m3/m3; none when nothing was.
    pub content: Option<f64>,
}

/// A rain gauge.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Gauge {
    /// End of the newest window in which something was accepted.
    pub heard: Timestamp,
    /// By end of their window: amounts above nothing, mm.
    pub rain_mm: BTreeMap<Timestamp, f64>,
}

/// An irrigation that was decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    /// The decision, with the stations that have confirmed it.
    pub decision: Decision,
    /// How much, and for how long.
    pub water: decision::Run,
    /// When it was decided.
    pub at: Timestamp,
    /// Until when its commands are repeated.
    pub expires: Timestamp,
}

impl Run {
    /// The number of its commands.
    pub fn id(&self) -> u64 {
        self.decision.at.as_millis().max(1).cast_unsigned()
    }

    /// The stations that are commanded, and whether each has confirmed it.
    pub fn valves(&self) -> impl Iterator<Item = (&StationId, bool)> {
        self.decision.stations.iter().map(|station| (station, self.decision.confirmed.contains(station)))
    }
}

/// All that is remembered.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct State {
    /// The newest boundary that was looked at.
    pub judged: Option<Timestamp>,
    /// The last decision that was told.
    pub told: Option<Decision>,
    /// The last irrigation.
    pub run: Option<Run>,
    /// A local day, in days since 1970, and the minutes that were decided on in it.
    pub day: i64,
    pub day_minutes: u32,
    pub probes: BTreeMap<(StationId, Channel), Probe>,
    pub gauges: BTreeMap<StationId, Gauge>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StateWire {
    #[prost(sint64, optional, tag = "1")]
    judged_ms: Option<i64>,
    #[prost(bytes = "vec", tag = "2")]
    told: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    run: Option<RunWire>,
    #[prost(sint64, tag = "4")]
    day: i64,
    #[prost(uint32, tag = "5")]
    day_minutes: u32,
    #[prost(message, repeated, tag = "6")]
    probes: Vec<ProbeWire>,
    #[prost(message, repeated, tag = "7")]
    gauges: Vec<GaugeWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunWire {
    #[prost(sint64, tag = "2")]
    at_ms: i64,
    #[prost(sint64, tag = "3")]
    expires_ms: i64,
    #[prost(bytes = "vec", tag = "8")]
    decision: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProbeWire {
    #[prost(string, tag = "1")]
    station: String,
    #[prost(uint32, tag = "2")]
    channel: u32,
    #[prost(sint64, tag = "3")]
    end_ms: i64,
    #[prost(double, optional, tag = "4")]
    content: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GaugeWire {
    #[prost(string, tag = "1")]
    station: String,
    #[prost(sint64, tag = "2")]
    heard_ms: i64,
    #[prost(sint64, repeated, tag = "3")]
    ends_ms: Vec<i64>,
    #[prost(double, repeated, tag = "4")]
    rain_mm: Vec<f64>,
}

impl State {
    pub fn encode(&self) -> Vec<u8> {
        StateWire {
            judged_ms: self.judged.map(Timestamp::as_millis),
            told: self.told.clone().map_or_else(Vec::new, |told| Record::Decision(told).encode()),
            run: self.run.as_ref().map(|run| RunWire {
                at_ms: run.at.as_millis(),
                expires_ms: run.expires.as_millis(),
                decision: Record::Decision(run.decision.clone()).encode(),
            }),
            day: self.day,
            day_minutes: self.day_minutes,
            probes: self
                .probes
                .iter()
                .map(|((station, channel), probe)| ProbeWire {
                    station: station.to_string(),
                    channel: channel.code(),
                    end_ms: probe.end.as_millis(),
                    content: probe.content,
                })
                .collect(),
            gauges: self
                .gauges
                .iter()
                .map(|(station, gauge)| GaugeWire {
                    station: station.to_string(),
                    heard_ms: gauge.heard.as_millis(),
                    ends_ms: gauge.rain_mm.keys().map(|end| end.as_millis()).collect(),
                    rain_mm: gauge.rain_mm.values().copied().collect(),
                })
                .collect(),
        }
        .encode_to_vec()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, UnreadableState> {
        let wire = StateWire::decode(bytes).map_err(unreadable)?;
        let decision = |bytes: &[u8]| match Record::decode(bytes).map_err(unreadable)? {
            Record::Decision(decision) => Ok(decision),
            _ => Err(unreadable("another record than a decision")),
        };
        let told = (!wire.told.is_empty()).then(|| decision(&wire.told)).transpose()?;
        let run = wire.run.map(|run| {
            let decision = decision(&run.decision)?;
            Ok(Run {
                water: decision.run.ok_or_else(|| unreadable("an irrigation without water"))?,
                decision,
                at: Timestamp::from_millis(run.at_ms),
                expires: Timestamp::from_millis(run.expires_ms),
            })
        });
        let probe = |probe: ProbeWire| {
            let channel = Channel::from_code(probe.channel).map_err(unreadable)?;
            let content = probe.content.map(finite).transpose()?;
            let newest = Probe { end: Timestamp::from_millis(probe.end_ms), content };
            Ok(((station(&probe.station)?, channel), newest))
        };
        let gauge = |gauge: GaugeWire| {
            let ends = gauge.ends_ms.into_iter().map(Timestamp::from_millis);
            let rain_mm = ends.zip(gauge.rain_mm).map(|(end, mm)| Ok((end, finite(mm)?))).collect::<Result<_, _>>()?;
            Ok((station(&gauge.station)?, Gauge { heard: Timestamp::from_millis(gauge.heard_ms), rain_mm }))
        };
        Ok(Self {
            judged: wire.judged_ms.map(Timestamp::from_millis),
            told,
            run: run.transpose()?,
            day: wire.day,
            day_minutes: wire.day_minutes,
            probes: wire.probes.into_iter().map(probe).collect::<Result<_, _>>()?,
            gauges: wire.gauges.into_iter().map(gauge).collect::<Result<_, _>>()?,
        })
    }
}

fn finite(value: f64) -> Result<f64, UnreadableState> {
    if value.is_finite() { Ok(value) } else { Err(unreadable(format!("{value} is no number"))) }
}

fn station(name: &str) -> Result<StationId, UnreadableState> {
    name.parse().map_err(unreadable)
}

fn unreadable(error: impl ToString) -> UnreadableState {
    UnreadableState(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn water_that_is_no_number_is_none() {
        let probe = |content| ProbeWire { station: "n1".to_owned(), content, ..ProbeWire::default() };
        let state = |content, rain| StateWire {
            probes: vec![probe(content)],
            gauges: vec![GaugeWire { station: "n1".to_owned(), ends_ms: vec![7], rain_mm: vec![rain], heard_ms: 7 }],
            ..StateWire::default()
        };
        let read = |content, rain| State::decode(&state(content, rain).encode_to_vec()).map(|state| state.encode());
        assert_eq!(read(Some(0.2), 1.5), Ok(state(Some(0.2), 1.5).encode_to_vec()));
        assert!(read(None, 1.5).is_ok() && read(Some(f64::NAN), 1.5).is_err() && read(None, f64::INFINITY).is_err());
    }
}
