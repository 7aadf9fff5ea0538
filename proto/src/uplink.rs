//! What a gateway sends to the cloud.

use std::collections::BTreeMap;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::aggregate::Window;
use crate::alert::Alert;
use crate::decision::Decision;
use crate::decode::{self, DecodeError, at_most, message};
use crate::id::{FarmId, GatewayId, StationId};
use crate::native::Birth;
use crate::raw::RawReadings;
use crate::time::Timestamp;
use crate::update::UpdateStatus;
use crate::wire;

/// The most records in one batch.
pub const MAX_RECORDS: usize = 2_000;
/// The most stations of whose untimely readings one status report tells.
pub const MAX_UNTIMELY: usize = 20;
/// The largest batch on the wire, compressed, in bytes.
pub const MAX_COMPRESSED: usize = 1 << 20;
/// The largest batch once decompressed, in bytes.
pub const MAX_DECOMPRESSED: usize = 16 << 20;

/// A queue to the cloud with a sequence of its own. Its number is what goes over the wire, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Changes of alerts.
    Alerts = 0,
    /// Births of stations.
    Births = 1,
    /// Closed and amended windows.
    Aggregates = 2,
    /// What was decided.
    Decisions = 3,
    /// What can wait: windows that waited too long to be live, and raw readings.
    Backfill = 4,
}

impl Lane {
    /// Every lane, by priority: the earlier goes first.
    pub const ALL: [Self; 5] = [Self::Alerts, Self::Decisions, Self::Births, Self::Aggregates, Self::Backfill];

    /// Its name in tables, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Births => "births",
            Self::Aggregates => "aggregates",
            Self::Decisions => "decisions",
            Self::Backfill => "backfill",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn priority(self) -> usize {
        match self {
            Self::Alerts => 0,
            Self::Decisions => 1,
            Self::Births => 2,
            Self::Aggregates => 3,
            Self::Backfill => 4,
        }
    }

    /// Whether a record may go by it: each by its own lane, and windows by the back-fill too.
    #[must_use]
    pub fn takes(self, record: &Record) -> bool {
        record.lane() == self || (self == Self::Backfill && matches!(record, Record::Window(_)))
    }
}

impl PartialOrd for Lane {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// By priority.
impl Ord for Lane {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.priority().cmp(&other.priority())
    }
}

/// A station's birth and when the gateway heard it.
#[derive(Debug, Clone, PartialEq)]
pub struct StationBirth {
    /// Whose.
    pub station: StationId,
    /// When it was heard, in farm time.
    pub at: Timestamp,
    /// What it said.
    pub birth: Birth,
}

/// One thing that goes to the cloud.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An alert that changed.
    Alert(Alert),
    /// A window that closed or was amended.
    Window(Window),
    /// A station's birth.
    Birth(StationBirth),
    /// What was decided for a field.
    Decision(Decision),
    /// Raw readings.
    Raw(RawReadings),
}

impl Record {
    /// The lane that it goes by.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Alert(_) => Lane::Alerts,
            Self::Window(_) => Lane::Aggregates,
            Self::Birth(_) => Lane::Births,
            Self::Decision(_) => Lane::Decisions,
            Self::Raw(_) => Lane::Backfill,
        }
    }

    /// The record alone in bytes, as a spool keeps it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When the bytes are no record, or a field holds what it may not.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_wire(message("record", bytes)?)
    }

    fn to_wire(&self) -> wire::Record {
        let record = match self {
            Self::Alert(alert) => wire::record::Record::Alert(alert.to_wire()),
            Self::Window(window) => wire::record::Record::Window(window.to_wire()),
            Self::Birth(birth) => wire::record::Record::Birth(wire::StationBirth {
                station: birth.station.to_string(),
                at_ms: birth.at.as_millis(),
                birth: Some(birth.birth.to_wire()),
            }),
            Self::Decision(decision) => wire::record::Record::Decision(decision.to_wire()),
            Self::Raw(raw) => wire::record::Record::Raw(raw.to_wire()),
        };
        wire::Record { record: Some(record) }
    }

    fn from_wire(record: wire::Record) -> Result<Self, DecodeError> {
        Ok(match record.record.ok_or(DecodeError::Missing { field: "record" })? {
            wire::record::Record::Alert(alert) => Self::Alert(Alert::from_wire(alert)?),
            wire::record::Record::Window(window) => Self::Window(Window::from_wire(window)?),
            wire::record::Record::Birth(birth) => Self::Birth(StationBirth {
                station: birth.station.parse().map_err(|e| DecodeError::value("station", e))?,
                at: decode::time("at_ms", birth.at_ms)?,
                birth: Birth::from_wire(birth.birth.ok_or(DecodeError::Missing { field: "birth" })?)?,
            }),
            wire::record::Record::Decision(decision) => Self::Decision(Decision::from_wire(decision)?),
            wire::record::Record::Raw(raw) => Self::Raw(RawReadings::from_wire(raw)?),
        })
    }
}

/// Records of one lane, in order and without a gap.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinkBatch {
    /// The farm.
    pub farm: FarmId,
    /// The gateway.
    pub gateway: GatewayId,
    /// Which store counts the lane's records: a random number made with it, below 2^63; 0 when it has none. Another store
    /// counts anew, so what one has sent says nothing of the other.
    pub store: u64,
    /// The lane; it takes every record.
    pub lane: Lane,
    /// The sequence of the first record, from 1.
    pub first: u64,
    /// The records, at least one.
    pub records: Vec<Record>,
}

impl UplinkBatch {
    /// The body, before compression.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::UplinkBatch {
            farm: self.farm.to_string(),
            gateway: self.gateway.to_string(),
            store: self.store,
            lane: self.lane as u32,
            first: self.first,
            records: self.records.iter().map(Record::to_wire).collect(),
        }
        .encode_to_vec()
    }

    /// Reads a body that is no longer compressed.
    ///
    /// # Errors
    /// When it is no batch, a field holds what it may not, or a record is of another lane.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let batch: wire::UplinkBatch = message("uplink batch", bytes)?;
        let lane = Lane::ALL.into_iter().find(|lane| *lane as u32 == batch.lane);
        let lane = lane.ok_or_else(|| DecodeError::value("lane", batch.lane))?;
        at_most("records", batch.records.len(), MAX_RECORDS)?;
        if batch.records.is_empty() {
            return Err(DecodeError::Missing { field: "records" });
        }
        let last = batch.first.checked_add(batch.records.len() as u64 - 1);
        if batch.first == 0 || last.is_none_or(|last| i64::try_from(last).is_err()) {
            return Err(DecodeError::value("first", batch.first));
        }
        if i64::try_from(batch.store).is_err() {
            return Err(DecodeError::value("store", batch.store));
        }
        let records = batch.records.into_iter().map(Record::from_wire).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = records.iter().find(|r| !lane.takes(r)) {
            return Err(DecodeError::value(
                "records",
                format!("one of lane {} in a batch of {}", other.lane().name(), lane.name()),
            ));
        }
        Ok(Self {
            farm: batch.farm.parse().map_err(|e| DecodeError::value("farm", e))?,
            gateway: batch.gateway.parse().map_err(|e| DecodeError::value("gateway", e))?,
            store: batch.store,
            lane,
            first: batch.first,
            records,
        })
    }

    /// The sequence of the last record.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + (self.records.len() as u64).saturating_sub(1)
    }
}

/// A model that a gateway runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningModel {
    /// The model's name.
    pub name: String,
    /// The version that runs.
    pub version: String,
    /// What it is for.
    pub task: String,
    /// Since when, in farm time.
    pub since: Timestamp,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub digest: String,
}

/// How a gateway is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// When, in farm time.
    pub at: Timestamp,
    /// When it was started, in farm time.
    pub started: Timestamp,
    /// The gateway's version.
    pub version: String,
    /// What runs.
    pub models: Vec<RunningModel>,
    /// Stations that were heard at some time.
    pub stations: u32,
    /// Stations that are connected.
    pub connected: u32,
    /// Records that wait for the cloud, by lane.
    pub backlog: BTreeMap<String, u64>,
    /// How old the oldest of them is: when it was made, in farm time.
    pub backlog_oldest: Option<Timestamp>,
    /// Bytes that the store takes on disk.
    pub disk_bytes: u64,
    /// Readings stored since the gateway was set up.
    pub readings: u64,
    /// Readings and messages refused since the gateway was set up, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Stations with readings that are in no window for their time. A report that goes to the cloud tells of those of which it
    /// is news, at most [`MAX_UNTIMELY`], the others with the next.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub untimely: BTreeMap<StationId, Untimely>,
    /// What waits in each lane, how the link is and what it may carry; an older gateway says nothing.
    #[serde(default)]
    pub uplink: UplinkStatus,
    /// How its models come and go; a gateway that takes no updates says nothing.
    #[serde(default)]
    pub update: UpdateStatus,
}

/// Readings of a station that were stored and are in no window for their time, since the gateway was set up. Of these
/// reasons only: a window tells of all others by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Untimely {
    /// Of [`RejectReason::Late`](crate::RejectReason::Late).
    pub late: u64,
    /// Of [`RejectReason::Future`](crate::RejectReason::Future).
    pub future: u64,
    /// Of [`RejectReason::Clock`](crate::RejectReason::Clock).
    pub clock: u64,
}

/// What waits for the cloud, and how the way to it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// By lane.
    #[serde(default)]
    pub lanes: BTreeMap<String, LaneStatus>,
    /// The link; none without a cloud.
    #[serde(default)]
    pub link: Option<LinkStatus>,
    /// What the link may carry; none when it may carry anything.
    #[serde(default)]
    pub budget: Option<BudgetStatus>,
}

/// What waits in a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Records that wait.
    pub records: u64,
    /// When the oldest of them was made, in farm time.
    #[serde(default)]
    pub oldest: Option<Timestamp>,
    /// Records that the cloud refused for good, since the gateway was started.
    #[serde(default)]
    pub refused: u64,
    /// Windows, alerts or decisions that were dropped unsent since the gateway was set up, because too much waited. What the
    /// cloud has of the lane has no gap for it: a record gets its sequence when it is sent.
    #[serde(default)]
    pub dropped: u64,
}

/// The way to the cloud, as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whether the last request was answered as it should be.
    pub up: bool,
    /// Since when it is so, in farm time.
    pub since: Timestamp,
    /// When a request last went well, in farm time; none since the gateway was started.
    #[serde(default)]
    pub last_success: Option<Timestamp>,
    /// What last went wrong, in words.
    #[serde(default)]
    pub last_error: Option<String>,
    /// When that was, in farm time.
    #[serde(default)]
    pub last_error_at: Option<Timestamp>,
    /// Bytes that went over the link in both directions since the gateway was started, headers estimated.
    #[serde(default)]
    pub bytes: u64,
}

/// What the link may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Bytes of an hour.
    pub bytes_per_hour: u64,
    /// Bytes that may go at once when little went before.
    pub burst_bytes: u64,
    /// Bytes that may go now.
    pub available: u64,
}
