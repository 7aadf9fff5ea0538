//! Alerts: what somebody should look at, and why.

use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::decode::{self, DecodeError, at_most, finite};
use crate::id::StationId;
use crate::time::Timestamp;
use crate::wire;

/// The most channels that are named as drivers of an alert.
pub const MAX_DRIVERS: usize = 16;
/// The longest id, model name and message of an alert, in bytes.
pub const MAX_TEXT: usize = 512;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A model's score is above its threshold.
    Anomaly,
    /// A channel shows the same value although its sensor has noise.
    Stuck,
    /// A channel's readings are rejected as outliers.
    Spike,
    /// A channel makes no readings while its station reports.
    Dropout,
    /// A station is not heard from.
    Silent,
}

impl AlertKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Anomaly, Self::Stuck, Self::Spike, Self::Dropout, Self::Silent];

    /// Its name in tables, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::Stuck => "stuck",
            Self::Spike => "spike",
            Self::Dropout => "dropout",
            Self::Silent => "silent",
        }
    }
}

/// A channel's part in a score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// The channel.
    pub channel: Channel,
    /// Its part, 0 to 1.
    pub share: f64,
}

/// Something that was, or is, wrong with a station or one of its channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// `{station}/{channel or -}/{kind}/{opened in ms since 1970}`.
    pub id: String,
    /// Where.
    pub station: StationId,
    /// The channel that drove it; none when it is the whole station.
    pub channel: Option<Channel>,
    /// What kind of trouble.
    pub kind: AlertKind,
    /// Since when.
    pub opened: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it ended; none while it is open.
    pub closed: Option<Timestamp>,
    /// How far; compare with `threshold`.
    pub score: f64,
    /// The score from which it opens.
    pub threshold: f64,
    /// The channel's value when it last changed, in the quantity's unit.
    pub value: Option<f64>,
    /// What drove the score, the greatest part first.
    pub drivers: Vec<Driver>,
    /// Name and version of the model that raised it; none for a rule.
    pub model: Option<String>,
    /// 0 at first, one more with each change. The highest counts.
    pub revision: u32,
    /// One sentence, with value and unit.
    pub message: String,
}

impl Alert {
    /// The id of an alert that opens.
    #[must_use]
    pub fn id_of(station: &StationId, channel: Option<Channel>, kind: AlertKind, opened: Timestamp) -> String {
        let channel = channel.map_or_else(|| "-".to_owned(), |c| c.to_string());
        format!("{station}/{channel}/{}/{}", kind.name(), opened.as_millis())
    }

    pub(crate) fn to_wire(&self) -> wire::Alert {
        wire::Alert {
            id: self.id.clone(),
            station: self.station.to_string(),
            channel: self.channel.map(Channel::code),
            kind: self.kind as u32,
            opened_ms: self.opened.as_millis(),
            updated_ms: self.updated.as_millis(),
            closed_ms: self.closed.map(Timestamp::as_millis),
            score: self.score,
            threshold: self.threshold,
            value: self.value,
            drivers: self.drivers.iter().map(|d| wire::Driver { channel: d.channel.code(), share: d.share }).collect(),
            model: self.model.clone(),
            revision: self.revision,
            message: self.message.clone(),
        }
    }

    pub(crate) fn from_wire(alert: wire::Alert) -> Result<Self, DecodeError> {
        at_most("drivers", alert.drivers.len(), MAX_DRIVERS)?;
        at_most("bytes of id", alert.id.len(), MAX_TEXT)?;
        at_most("bytes of message", alert.message.len(), MAX_TEXT)?;
        at_most("bytes of model", alert.model.as_ref().map_or(0, String::len), MAX_TEXT)?;
        if alert.id.is_empty() {
            return Err(DecodeError::Missing { field: "id" });
        }
        let kind = usize::try_from(alert.kind).ok().and_then(|k| AlertKind::ALL.get(k)).copied();
        let drivers = alert.drivers.iter().map(|d| match d.share {
            share if (0.0..=1.0).contains(&share) => Ok(Driver { channel: Channel::from_code(d.channel)?, share }),
            share => Err(DecodeError::value("share", share)),
        });
        Ok(Self {
            station: alert.station.parse().map_err(|e| DecodeError::value("station", e))?,
            channel: alert.channel.map(Channel::from_code).transpose()?,
            kind: kind.ok_or_else(|| DecodeError::value("kind", alert.kind))?,
            opened: decode::time("opened_ms", alert.opened_ms)?,
            updated: decode::time("updated_ms", alert.updated_ms)?,
            closed: alert.closed_ms.map(|ms| decode::time("closed_ms", ms)).transpose()?,
            score: finite("score", alert.score)?,
            threshold: finite("threshold", alert.threshold)?,
            value: alert.value.map(|v| finite("value", v)).transpose()?,
            drivers: drivers.collect::<Result<Vec<_>, _>>()?,
            model: alert.model,
            revision: alert.revision,
            message: alert.message,
            id: alert.id,
        })
    }
}
