//! The gateway's state as its page and the cloud are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::{Alert, GatewayStatus, Reading, StationId, Timestamp, Untimely, UpdateStatus};
use tokio::sync::watch;
use tokio::time::timeout;

use super::clocks::UNTIMELY;
use super::{Doubt, Unmapped};
use crate::clock::ClockState;
use crate::decide::Standing;

/// How long is waited for the stations' newest values; while a model hangs, the last known ones must do.
const FRESH: Duration = Duration::from_secs(1);

/// Where the gateway's state is seen. It is made anew twice a second, but the list of stations, which may be long, only when
/// somebody asks for it.
#[derive(Debug, Clone)]
pub struct Snapshots {
    snapshots: watch::Receiver<Snapshot>,
    asked: Arc<AtomicU64>,
}

/// Where it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    snapshots: watch::Sender<Snapshot>,
    asked: Arc<AtomicU64>,
    /// The last list of stations, and up to which question it answers.
    stations: Arc<[StationState]>,
    answered: u64,
}

impl Shown {
    pub fn new(first: Snapshot) -> (Self, Snapshots) {
        let asked = Arc::<AtomicU64>::default();
        let (snapshots, receiver) = watch::channel(first);
        let seen = Snapshots { snapshots: receiver, asked: Arc::clone(&asked) };
        (Self { snapshots, asked, stations: Arc::new([]), answered: 0 }, seen)
    }

    /// Whether somebody waits for the list of stations.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire) > self.answered
    }

    /// Shows a state, with the list of stations that `stations` makes if somebody asked for it.
    pub fn show(&mut self, snapshot: Snapshot, stations: impl FnOnce() -> Arc<[StationState]>) {
        let asked = self.asked.load(Ordering::Acquire);
        if asked > self.answered {
            (self.stations, self.answered) = (stations(), asked);
        }
        let (stations, answers) = (Arc::clone(&self.stations), self.answered);
        self.snapshots.send_replace(Snapshot { stations, answers, ..snapshot });
    }
}

impl Snapshots {
    /// The state but for the stations, which may be old.
    #[must_use]
    pub fn borrow(&self) -> watch::Ref<'_, Snapshot> {
        self.snapshots.borrow()
    }

    /// The state with the stations as they are now, or after a second as they were last known.
    pub async fn fresh(&self) -> Snapshot {
        let question = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut snapshots = self.snapshots.clone();
        let answered = timeout(FRESH, snapshots.wait_for(|snapshot| snapshot.answers >= question)).await;
        match answered {
            Ok(Ok(snapshot)) => snapshot.clone(),
            _ => self.snapshots.borrow().clone(),
        }
    }
}

/// The gateway's state as its page and the cloud are told.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the cloud is told, but for the backlog.
    pub status: GatewayStatus,
    /// Every station, as it was when somebody last asked.
    pub stations: Arc<[StationState]>,
    /// Up to which question that is.
    pub(super) answers: u64,
    /// How the fields stand, and what was decided for them.
    pub fields: Vec<Standing>,
    /// The open alerts, the newest first.
    pub alerts: Vec<Alert>,
    /// Models that did not start or stopped, with the reason.
    pub failed_models: Vec<(String, String)>,
    /// Bytes of the raw readings in the store, once they were added up.
    pub raw_bytes: Option<u64>,
    /// All counters.
    pub counters: BTreeMap<String, u64>,
    /// The channels of other people's sensors that nobody mapped.
    pub unmapped: Vec<Unmapped>,
    /// What is added to the gateway's own clock, in ms, and why it is not believed.
    pub own_clock: (i64, Option<Doubt>),
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
            untimely: untimely(&counters),
            update: UpdateStatus::default(),
        };
        Self {
            status,
            stations: Arc::new([]),
            answers: 0,
            alerts: Vec::new(),
            failed_models: Vec::new(),
            raw_bytes: None,
            counters,
            unmapped: Vec::new(),
            own_clock: (0, None),
            fields: Vec::new(),
        }
    }
}

/// What was rejected and refused, by reason.
pub(super) fn rejected(counters: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let reason =
        |name: &str| name.strip_prefix("rejected.").or_else(|| name.strip_prefix("refused.")).map(str::to_owned);
    counters.iter().filter_map(|(name, value)| Some((reason(name)?, *value))).collect()
}

/// What was rejected for its time, by station.
fn untimely(counters: &BTreeMap<String, u64>) -> BTreeMap<StationId, Untimely> {
    let mut all: BTreeMap<StationId, Untimely> = BTreeMap::new();
    let counted =
        counters.range(UNTIMELY.to_owned()..).map_while(|(name, by)| Some((name.strip_prefix(UNTIMELY)?, *by)));
    for (name, by) in counted {
        let Some((reason, station)) = name.split_once('.') else { continue };
        let Ok(station) = station.parse() else { continue };
        let of = all.entry(station).or_default();
        match reason {
            "late" => of.late = by,
            "future" => of.future = by,
            _ => of.clock = by,
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_for_its_time_is_told_by_station_and_by_reason() {
        let counted =
            [("rejected.late", 9), ("untimely.late.n1", 7), ("untimely.late.n2", 2), ("untimely.clock.n1", 3)];
        let counters = counted.map(|(name, by)| (name.to_owned(), by)).into();
        let status = Snapshot::at(Timestamp::from_secs(0), counters).status;
        let told = [
            ("n1".parse().unwrap(), Untimely { late: 7, future: 0, clock: 3 }),
            ("n2".parse().unwrap(), Untimely { late: 2, ..Untimely::default() }),
        ];
        assert_eq!((status.untimely, status.rejected), (told.into(), [("late".to_owned(), 9)].into()));
    }
}
