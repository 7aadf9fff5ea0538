//! The models that run on the farm's nodes, on their way from the registry to the stations.
//!
//! The updater reads the rollout and its file from the registry like all else that comes over the air, and gives both as
//! [`Wanted`]. Stations say in their status how they stand; the analysis hands that on by [`Heard`]. The [`relay`] decides
//! who gets what next, and this task sends it. What was heard and wanted is on disk (`data_dir/models/nodes.sqlite`), so that
//! a gateway that starts anew goes on at once, also without a cloud: how much of a file a station has says the station.

pub mod config;
pub mod relay;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::update::NodesStatus;
use proto::{NodeModelStatus, NodeRollout, StationId, TimeScale, Timestamp};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::config::NodesConfig;
use self::relay::Relay;
use self::store::NodesStore;
use crate::door::Outbox;

/// How often it is looked whether somebody's patience is over.
const TICK: Duration = Duration::from_millis(250);
/// How often what was heard is brought to disk.
const KEEP: Duration = Duration::from_secs(1);
/// The most stations whose models are known. What others say is not heard.
const MOST_STATIONS: usize = 20_000;

/// What the registry wants the farm's nodes to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The rollout.
    pub rollout: NodeRollout,
    /// SHA-256 of the target that it was read from, in hexadecimal.
    pub target: String,
    /// Its file, whole and as it was signed, or why it is not here.
    pub file: Result<Arc<[u8]>, String>,
}

/// Where statuses of stations are handed on. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    news: Arc<Mutex<BTreeMap<StationId, (NodeModelStatus, Timestamp)>>>,
    woken: Arc<Notify>,
}

impl Heard {
    /// A station said at `at` how its models stand; only the newest of what it said counts.
    pub fn tell(&self, station: &StationId, status: NodeModelStatus, at: Timestamp) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if news.len() < MOST_STATIONS || news.contains_key(station) {
            news.insert(station.clone(), (status, at));
        }
        self.woken.notify_one();
    }

    fn take(&self) -> BTreeMap<StationId, (NodeModelStatus, Timestamp)> {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The task that brings models to nodes.
#[derive(Debug)]
pub struct Nodes {
    relay: Relay,
    store: NodesStore,
    heard: Heard,
    wanted: watch::Receiver<Option<Wanted>>,
    status: watch::Sender<Option<NodesStatus>>,
    outbox: Outbox,
    time: TimeScale,
}

impl Nodes {
    /// The task, and where it says how it is doing.
    ///
    /// # Errors
    /// When what it knew cannot be read.
    pub fn open(
        data_dir: &Path,
        config: NodesConfig,
        time: TimeScale,
        (heard, wanted): (Heard, watch::Receiver<Option<Wanted>>),
        outbox: Outbox,
    ) -> anyhow::Result<(Self, watch::Receiver<Option<NodesStatus>>)> {
        let store = NodesStore::open(data_dir).context("what is known of the nodes' models")?;
        let mut relay = Relay::new(config);
        for (station, (status, at)) in store.stations().context("what is known of the nodes' models")? {
            relay.hear(&station, status, at);
        }
        if let Some((wanted, stopped)) = store.wanted().context("what the nodes are to run")? {
            relay.stopped(stopped);
            relay.want(Some(wanted));
        }
        let (status, receiver) = watch::channel(relay.status());
        Ok((Self { relay, store, heard, wanted, status, outbox, time }, receiver))
    }

    /// Works until `shutdown`.
    ///
    /// # Errors
    /// None: a disk that cannot be written is said in the log, and costs no more than what a restart has to hear again.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (begun, mut kept) = (Instant::now(), Instant::now());
        let mut unkept: BTreeMap<StationId, (NodeModelStatus, Timestamp)> = BTreeMap::new();
        loop {
            for (station, (status, at)) in self.heard.take() {
                if self.relay.hear(&station, status.clone(), at) {
                    unkept.insert(station, (status, at));
                }
            }
            if self.wanted.has_changed().unwrap_or(false) {
                let wanted = self.wanted.borrow_and_update().clone();
                self.relay.want(wanted);
            }
            let (outbox, now) = (&self.outbox, self.time.at(crate::wall_clock()));
            self.relay.send(begun.elapsed(), |station, command| outbox.command(station, command, now));
            let ends = shutdown.is_cancelled();
            if ends || kept.elapsed() >= KEEP {
                kept = Instant::now();
                match self.store.keep(&unkept, self.relay.news()) {
                    Ok(()) => unkept.clear(),
                    Err(error) => {
                        tracing::warn!(%error, "how the nodes' models stand cannot be kept; trying again");
                        self.relay.not_kept();
                    }
                }
            }
            let status = self.relay.status();
            self.status.send_if_modified(|told| {
                let changed = *told != status;
                *told = status;
                changed
            });
            if ends {
                return Ok(());
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.heard.woken.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }
}
