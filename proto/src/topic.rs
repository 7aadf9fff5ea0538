//! The MQTT topics of native stations: `tilth/v1/{farm}/{station}/{birth|data|ack|command|status}`.

use std::fmt;
use std::str::FromStr;

use crate::id::{FarmId, StationId};

/// The first levels of every native topic.
pub const PREFIX: &str = "tilth/v1";

/// What a topic carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicKind {
    /// Station to gateway: what the station is.
    Birth,
    /// Station to gateway: readings.
    Data,
    /// Gateway to station: the highest sequence on disk.
    Ack,
    /// Gateway to station: a command.
    Command,
    /// Station to gateway: online, or (as its last will) offline.
    Status,
}

impl TopicKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Birth, Self::Data, Self::Ack, Self::Command, Self::Status];

    /// The last level of the topic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Birth => "birth",
            Self::Data => "data",
            Self::Ack => "ack",
            Self::Command => "command",
            Self::Status => "status",
        }
    }

    /// Whether a station publishes it; the others it subscribes to.
    #[must_use]
    pub const fn from_station(self) -> bool {
        matches!(self, Self::Birth | Self::Data | Self::Status)
    }
}

/// A native topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// The farm.
    pub farm: FarmId,
    /// The station.
    pub station: StationId,
    /// What it carries.
    pub kind: TopicKind,
}

/// A text that is no native topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic {value:?} is not tilth/v1/{{farm}}/{{station}}/{{birth|data|ack|command|status}}")]
pub struct InvalidTopic {
    /// What came instead, cut to a printable length.
    pub value: String,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}/{}/{}/{}", self.farm, self.station, self.kind.name())
    }
}

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(value: &str) -> Result<Self, InvalidTopic> {
        parse(value).ok_or_else(|| InvalidTopic { value: value.chars().take(160).collect() })
    }
}

fn parse(value: &str) -> Option<Topic> {
    let rest = value.strip_prefix(PREFIX)?.strip_prefix('/')?;
    let mut levels = rest.split('/');
    let (farm, station, kind) = (levels.next()?, levels.next()?, levels.next()?);
    if levels.next().is_some() {
        return None;
    }
    let kind = TopicKind::ALL.into_iter().find(|k| k.name() == kind)?;
    Some(Topic { farm: farm.parse().ok()?, station: station.parse().ok()?, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_as_they_are_written() {
        for kind in TopicKind::ALL {
            let topic = Topic { farm: "fallon".parse().unwrap(), station: "n-1".parse().unwrap(), kind };
            assert_eq!(topic.to_string().parse::<Topic>().unwrap(), topic);
        }
    }

    #[test]
    fn other_topics_are_refused() {
        for other in [
            "",
            "tilth/v1/f/s",
            "tilth/v1/f/s/data/x",
            "tilth/v2/f/s/data",
            "tilth/v1/F/s/data",
            "tilth/v1/f/+/data",
            "tilth/v1/f/s/dat",
            "/tilth/v1/f/s/data",
        ] {
            assert!(other.parse::<Topic>().is_err(), "{other}");
        }
    }
}
