//! Windows of aggregates: what leaves the gateway instead of readings.

use serde::{Deserialize, Serialize};

use crate::channel::Channel;
use crate::decode::{self, DecodeError, at_most, finite};
use crate::id::StationId;
use crate::native::MAX_CHANNELS;
use crate::time::Timestamp;
use crate::wire;

/// The longest window, in seconds: a day.
pub const MAX_LENGTH_S: u32 = 86_400;

/// What the accepted readings of a channel in a window come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// How many; at least one.
    pub count: u32,
    /// The least, in the quantity's unit.
    pub min: f64,
    /// The arithmetic mean, in the quantity's unit.
    pub mean: f64,
    /// The greatest, in the quantity's unit.
    pub max: f64,
    /// The population standard deviation, in the quantity's unit.
    pub stddev: f64,
}

/// Why a reading was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Outside what is physically possible.
    Range,
    /// Changed faster than the quantity can.
    Rate,
    /// An outlier among its neighbours in time, by the Hampel identifier.
    Hampel,
    /// Older than the allowed lateness.
    Late,
    /// Later than the gateway's clock.
    Future,
    /// The channel has another reading of the same time.
    Duplicate,
    /// The same value, to the last bit, for longer than the channel may stand still.
    Stuck,
    /// Of a time that cannot be: long past, or before what its station had sent already.
    Clock,
}

impl RejectReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [Self; 8] =
        [Self::Range, Self::Rate, Self::Hampel, Self::Late, Self::Future, Self::Duplicate, Self::Stuck, Self::Clock];

    /// Its name in tables, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Rate => "rate",
            Self::Hampel => "hampel",
            Self::Late => "late",
            Self::Future => "future",
            Self::Duplicate => "duplicate",
            Self::Stuck => "stuck",
            Self::Clock => "clock",
        }
    }
}

/// The readings of a channel in a window that were not accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// How many, by reason; sorted by reason, none is zero, not empty.
    pub counts: Vec<(RejectReason, u32)>,
    /// The least of their values, in the quantity's unit.
    pub min: f64,
    /// The greatest of their values, in the quantity's unit.
    pub max: f64,
}

impl Rejected {
    /// How many, for whatever reason.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.counts.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// All the readings of one channel in one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    /// Whose readings.
    pub channel: Channel,
    /// The accepted ones, if any.
    pub accepted: Option<Stats>,
    /// The others, if any.
    pub rejected: Option<Rejected>,
}

/// The aggregates of one station over one window of event time, `start` included and the end not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Whose readings.
    pub station: StationId,
    /// When the window starts.
    pub start: Timestamp,
    /// How long it is, in seconds.
    pub length_s: u32,
    /// 0 at first; higher each time that late readings amended it. The highest counts.
    pub revision: u32,
    /// By channel, in the channels' order.
    pub aggregates: Vec<Aggregate>,
}

impl Window {
    /// When the window ends.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.start.plus_secs(i64::from(self.length_s))
    }

    pub(crate) fn to_wire(&self) -> wire::Window {
        wire::Window {
            station: self.station.to_string(),
            start_ms: self.start.as_millis(),
            length_s: self.length_s,
            revision: self.revision,
            aggregates: self.aggregates.iter().map(Aggregate::to_wire).collect(),
        }
    }

    pub(crate) fn from_wire(window: wire::Window) -> Result<Self, DecodeError> {
        at_most("aggregates", window.aggregates.len(), MAX_CHANNELS)?;
        if !(1..=MAX_LENGTH_S).contains(&window.length_s) {
            return Err(DecodeError::value("length_s", window.length_s));
        }
        let aggregates = window.aggregates.into_iter().map(Aggregate::from_wire).collect::<Result<Vec<_>, _>>()?;
        if let Some(pair) = aggregates.windows(2).find(|pair| pair[0].channel >= pair[1].channel) {
            return Err(DecodeError::value("aggregates", format!("{} after {}", pair[1].channel, pair[0].channel)));
        }
        Ok(Self {
            station: window.station.parse().map_err(|e| DecodeError::value("station", e))?,
            start: decode::time("start_ms", window.start_ms)?,
            length_s: window.length_s,
            revision: window.revision,
            aggregates,
        })
    }
}

impl Aggregate {
    fn to_wire(&self) -> wire::Aggregate {
        wire::Aggregate {
            channel: self.channel.code(),
            accepted: self.accepted.map(|s| wire::Stats {
                count: s.count,
                min: s.min,
                mean: s.mean,
                max: s.max,
                stddev: s.stddev,
            }),
            rejected: self.rejected.as_ref().map(|r| wire::Rejected {
                counts: r.counts.iter().flat_map(|(reason, count)| [*reason as u32, *count]).collect(),
                min: r.min,
                max: r.max,
            }),
        }
    }

    fn from_wire(aggregate: wire::Aggregate) -> Result<Self, DecodeError> {
        let accepted = aggregate.accepted.map(stats_from_wire).transpose()?;
        let rejected = aggregate.rejected.map(rejected_from_wire).transpose()?;
        Ok(Self { channel: Channel::from_code(aggregate.channel)?, accepted, rejected })
    }
}

fn stats_from_wire(stats: wire::Stats) -> Result<Stats, DecodeError> {
    let wire::Stats { count, min, mean, max, stddev } = stats;
    if count == 0 {
        return Err(DecodeError::value("count", count));
    }
    let (min, mean, max) = (finite("min", min)?, finite("mean", mean)?, finite("max", max)?);
    if !(min <= mean && mean <= max) {
        return Err(DecodeError::value("mean", format!("{mean} outside {min} to {max}")));
    }
    if finite("stddev", stddev)? < 0.0 {
        return Err(DecodeError::value("stddev", stddev));
    }
    Ok(Stats { count, min, mean, max, stddev })
}

fn rejected_from_wire(rejected: wire::Rejected) -> Result<Rejected, DecodeError> {
    at_most("reasons", rejected.counts.len(), 2 * RejectReason::ALL.len())?;
    let (pairs, odd) = rejected.counts.as_chunks::<2>();
    if pairs.is_empty() || !odd.is_empty() {
        return Err(DecodeError::value("counts", format!("{:?}", rejected.counts)));
    }
    let mut counts: Vec<(RejectReason, u32)> = Vec::with_capacity(pairs.len());
    for &[code, count] in pairs {
        let reason = usize::try_from(code).ok().and_then(|c| RejectReason::ALL.get(c)).copied();
        let reason = reason.ok_or_else(|| DecodeError::value("reason", code))?;
        if count == 0 || counts.last().is_some_and(|(last, _)| *last >= reason) {
            return Err(DecodeError::value("counts", format!("{:?}", rejected.counts)));
        }
        counts.push((reason, count));
    }
    let (min, max) = (finite("min", rejected.min)?, finite("max", rejected.max)?);
    if min > max {
        return Err(DecodeError::value("min", format!("{min} above {max}")));
    }
    Ok(Rejected { counts, min, max })
}
