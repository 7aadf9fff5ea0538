//! What a gateway sends to the cloud.

use std::collections::BTreeMap;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::aggregate::Window;
use crate::alert::Alert;
use crate::decode::{self, DecodeError, at_most, message};
use crate::id::{FarmId, GatewayId, StationId};
use crate::native::Birth;
use crate::time::Timestamp;
use crate::update::UpdateStatus;
use crate::wire;

/// The most records in one batch.
pub const MAX_RECORDS: usize = 2_000;
/// The largest batch on the wire, compressed, in bytes.
pub const MAX_COMPRESSED: usize = 1 << 20;
/// The largest batch once decompressed, in bytes.
pub const MAX_DECOMPRESSED: usize = 16 << 20;

/// A queue to the cloud with a sequence of its own. The earlier goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Changes of alerts.
    Alerts,
    /// Births of stations.
    Births,
    /// Closed and amended windows.
    Aggregates,
}

impl Lane {
    /// Every lane, by priority.
    pub const ALL: [Self; 3] = [Self::Alerts, Self::Births, Self::Aggregates];

    /// Its name in tables, metrics and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Births => "births",
            Self::Aggregates => "aggregates",
        }
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
}

impl Record {
    /// The lane that it goes by.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Alert(_) => Lane::Alerts,
            Self::Window(_) => Lane::Aggregates,
            Self::Birth(_) => Lane::Births,
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
    /// The lane; every record is of it.
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
        let lane = usize::try_from(batch.lane).ok().and_then(|l| Lane::ALL.get(l)).copied();
        let lane = lane.ok_or_else(|| DecodeError::value("lane", batch.lane))?;
        at_most("records", batch.records.len(), MAX_RECORDS)?;
        if batch.records.is_empty() {
            return Err(DecodeError::Missing { field: "records" });
        }
        let last = batch.first.checked_add(batch.records.len() as u64 - 1);
        if batch.first == 0 || last.is_none_or(|last| i64::try_from(last).is_err()) {
            return Err(DecodeError::value("first", batch.first));
        }
        let records = batch.records.into_iter().map(Record::from_wire).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = records.iter().find(|r| r.lane() != lane) {
            return Err(DecodeError::value(
                "records",
                format!("one of lane {} in a batch of {}", other.lane().name(), lane.name()),
            ));
        }
        Ok(Self {
            farm: batch.farm.parse().map_err(|e| DecodeError::value("farm", e))?,
            gateway: batch.gateway.parse().map_err(|e| DecodeError::value("gateway", e))?,
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
    /// How its models come and go; a gateway that takes no updates says nothing.
    #[serde(default)]
    pub update: UpdateStatus,
}
