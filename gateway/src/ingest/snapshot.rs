//! The gateway's state as its page and the cloud are told.

use std::collections::BTreeMap;

use super::Unmapped;
use crate::decide::Standing;
use proto::{Alert, GatewayStatus, Reading, StationId, Timestamp, UpdateStatus};

use crate::clock::ClockState;

/// The gateway's state as its page and the cloud are told.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the cloud is told, but for the backlog.
    pub status: GatewayStatus,
    /// Every station.
    pub stations: Vec<StationState>,
    /// How the fields stand, and what was decided for them.
    pub fields: Vec<Standing>,
    /// The open alerts, the newest first.
    pub alerts: Vec<Alert>,
    /// Models that stopped, with the reason.
    pub failed_models: Vec<(String, String)>,
    /// All counters.
    pub counters: BTreeMap<String, u64>,
    /// The channels of other people's sensors that nobody mapped.
    pub unmapped: Vec<Unmapped>,
}

/// A station on the page.
#[derive(Debug, Clone)]
pub struct StationState {
    /// Its name.
    pub id: StationId,
    /// When it was last heard.
    pub heard: Timestamp,
    /// How often it reports, in seconds.
    pub report_s: u32,
    /// Its newest possible values.
    pub latest: Vec<Reading>,
    /// What is known of its clock.
    pub clock: ClockState,
}

impl Snapshot {
    /// Of a gateway that has just been started, and knows nothing but what it counted before.
    pub(super) fn at(now: Timestamp, counters: BTreeMap<String, u64>) -> Self {
        let status = GatewayStatus {
            at: now,
            started: now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            models: Vec::new(),
            stations: 0,
            connected: 0,
            backlog: BTreeMap::new(),
            backlog_oldest: None,
            uplink: proto::UplinkStatus::default(),
            disk_bytes: 0,
            readings: counters.get("readings").copied().unwrap_or(0),
            rejected: rejected(&counters),
            update: UpdateStatus::default(),
        };
        let (stations, alerts, failed_models) = (Vec::new(), Vec::new(), Vec::new());
        Self { status, stations, alerts, failed_models, counters, unmapped: Vec::new(), fields: Vec::new() }
    }
}

/// What was rejected and refused, by reason.
pub(super) fn rejected(counters: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let reason =
        |name: &str| name.strip_prefix("rejected.").or_else(|| name.strip_prefix("refused.")).map(str::to_owned);
    counters.iter().filter_map(|(name, value)| Some((reason(name)?, *value))).collect()
}
