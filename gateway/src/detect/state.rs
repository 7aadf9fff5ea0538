//! A station's state as bytes, so that a restart goes on with exactly the same: every number to the last bit.
//!
//! Not in it is the history of windows, which the store has anyway.

use prost::Message as _;
use proto::{Channel, Record, Timestamp};

use super::history::History;
use super::rules::Evidence;
use super::station::{Spoiled, Station, Track};

/// Bytes that are no state of a station.
#[derive(Debug, thiserror::Error)]
#[error("a station's state: {0}")]
pub struct UnreadableState(String);

#[derive(Clone, PartialEq, prost::Message)]
struct State {
    #[prost(message, repeated, tag = "1")]
    tracks: Vec<TrackState>,
    #[prost(message, repeated, tag = "2")]
    above: Vec<At>,
    #[prost(message, repeated, tag = "3")]
    raised: Vec<At>,
    #[prost(uint32, repeated, tag = "4")]
    scored: Vec<u32>,
    #[prost(message, repeated, tag = "5")]
    spoiled: Vec<At>,
    /// In the order in which they came.
    #[prost(uint32, repeated, tag = "6")]
    channels: Vec<u32>,
    #[prost(string, optional, tag = "7")]
    field: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TrackState {
    /// As a record.
    #[prost(bytes = "vec", tag = "1")]
    alert: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    evidence: Option<EvidenceState>,
    #[prost(uint32, tag = "3")]
    quiet: u32,
    #[prost(double, tag = "4")]
    peak: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EvidenceState {
    /// The alert's kind.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(sint64, tag = "2")]
    since: i64,
    #[prost(double, optional, tag = "3")]
    value: Option<f64>,
    #[prost(double, tag = "4")]
    usual: f64,
}

/// A channel, with a time, and a count or another time.
#[derive(Clone, PartialEq, prost::Message)]
struct At {
    #[prost(uint32, tag = "1")]
    channel: u32,
    #[prost(sint64, tag = "2")]
    at: i64,
    #[prost(sint64, tag = "3")]
    more: i64,
}

impl At {
    fn new(channel: Channel, at: Timestamp, more: i64) -> Self {
        Self { channel: channel.code(), at: at.as_millis(), more }
    }

    fn read(&self) -> Result<(Channel, Timestamp, i64), UnreadableState> {
        Ok((channel(self.channel)?, Timestamp::from_millis(self.at), self.more))
    }
}

fn finite(value: f64) -> Result<f64, UnreadableState> {
    if value.is_finite() { Ok(value) } else { Err(UnreadableState(format!("{value} is no number"))) }
}

fn channel(code: u32) -> Result<Channel, UnreadableState> {
    Channel::from_code(code).map_err(|error| UnreadableState(error.to_string()))
}

impl EvidenceState {
    fn new(evidence: &Evidence) -> Self {
        let usual = if let Evidence::Spike { usual, .. } = evidence { *usual } else { 0.0 };
        Self { kind: evidence.kind() as u32, since: evidence.since().as_millis(), value: evidence.value(), usual }
    }

    fn read(&self) -> Result<Evidence, UnreadableState> {
        let since = Timestamp::from_millis(self.since);
        let known = self.value.map(finite).transpose()?;
        let value = || known.ok_or_else(|| UnreadableState("evidence without a value".to_owned()));
        let kind = usize::try_from(self.kind).ok().and_then(|kind| proto::AlertKind::ALL.get(kind));
        Ok(match kind {
            Some(proto::AlertKind::Stuck) => Evidence::Stuck { value: value()?, since },
            Some(proto::AlertKind::Spike) => Evidence::Spike { value: value()?, usual: finite(self.usual)?, since },
            Some(proto::AlertKind::Dropout) => Evidence::Dropout { last: known, since },
            Some(proto::AlertKind::Silent) => Evidence::Silent { since },
            Some(proto::AlertKind::Anomaly) => Evidence::Anomaly { value: known, since },
            None => return Err(UnreadableState(format!("evidence of kind {}", self.kind))),
        })
    }
}

impl Station {
    /// All that the next boundary depends on, but for the history of windows.
    pub fn state(&self) -> Vec<u8> {
        let track = |track: &Track| TrackState {
            alert: Record::Alert(track.alert.clone()).encode(),
            evidence: track.evidence.as_ref().map(EvidenceState::new),
            quiet: track.quiet,
            peak: track.peak,
        };
        let spoiled = |s: &Spoiled| At::new(s.channel, s.from, s.until.as_millis());
        let state = State {
            tracks: self.tracks.iter().map(track).collect(),
            above: self.above.iter().map(|(c, (count, since))| At::new(*c, *since, i64::from(*count))).collect(),
            raised: self.raised.iter().map(|(c, at)| At::new(*c, *at, 0)).collect(),
            scored: self.scored.iter().map(|c| c.code()).collect(),
            spoiled: self.spoiled.iter().map(spoiled).collect(),
            channels: self.history.channels().iter().map(|c| c.code()).collect(),
            field: self.field.as_ref().map(ToString::to_string),
        };
        state.encode_to_vec()
    }

    /// The station as it was, before its history is put in again.
    ///
    /// # Errors
    /// When the bytes are no state.
    pub fn of_state(bytes: &[u8], history: usize) -> Result<Self, UnreadableState> {
        let state = State::decode(bytes).map_err(|error| UnreadableState(error.to_string()))?;
        let mut station = Self::new(history);
        for track in &state.tracks {
            let Ok(Record::Alert(alert)) = Record::decode(&track.alert) else {
                return Err(UnreadableState("a track without an alert".to_owned()));
            };
            let evidence = track.evidence.as_ref().map(EvidenceState::read).transpose()?;
            station.tracks.push(Track { alert, evidence, quiet: track.quiet, peak: finite(track.peak)? });
        }
        for at in &state.above {
            let (channel, since, count) = at.read()?;
            station.above.insert(channel, (u32::try_from(count).unwrap_or(u32::MAX), since));
        }
        for at in &state.raised {
            let (channel, at, _) = at.read()?;
            station.raised.insert(channel, at);
        }
        for at in &state.spoiled {
            let (channel, from, until) = at.read()?;
            station.spoiled.push(Spoiled { channel, from, until: Timestamp::from_millis(until) });
        }
        station.scored = state.scored.iter().map(|code| channel(*code)).collect::<Result<_, _>>()?;
        let channels = state.channels.iter().map(|code| channel(*code)).collect::<Result<_, _>>()?;
        station.history = History::of_channels(history, channels);
        let field = |name: &String| name.parse().map_err(|_| UnreadableState(format!("{name:?} is no field")));
        station.field = state.field.as_ref().map(field).transpose()?;
        Ok(station)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_that_is_no_number_is_none() {
        let spike =
            |value, usual| EvidenceState { kind: proto::AlertKind::Spike as u32, since: 7, value, usual }.read();
        assert!(spike(Some(1.5), 1.0).is_ok());
        assert_eq!(spike(Some(1.5), f64::NAN).unwrap_err().to_string(), "a station's state: NaN is no number");
        assert!(spike(Some(f64::INFINITY), 1.0).is_err() && spike(None, 1.0).is_err());
    }
}
