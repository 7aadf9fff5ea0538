//! The edge of a farm: it takes in what the stations send, keeps it on disk, filters it, makes windows of it, finds what
//! is wrong, and sends the result to the cloud when there is one.
//!
//! The modules stand in the order in which a reading meets them:
//! [`door`] ▶ [`ingest`] ▶ [`decode`] ▶ [`deduplicate`] ▶ [`store`] ▶ [`validate`] ▶ [`filter`] ▶ [`window`] ▶ [`detect`] ▶
//! [`decide`] ▶ [`spool`] ▶ [`uplink`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::update::NodesStatus;
use proto::{GatewayStatus, Timestamp, UpdateStatus, UplinkStatus};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, BrokerConfig};
use crate::credentials::Keyring;
use crate::decode::source::{Announcement, Routes};
use crate::door::{Door, Outbox};
use crate::external::External;
use crate::ingest::Snapshots;
use crate::metrics::Sources;
use crate::nodes::{Heard, Nodes};
use crate::spool::Spool;
use crate::store::{Backlog, Reserve, Store, StoreError};
use crate::update::Updater;
use crate::uplink::Uplink;

pub mod bench;
pub mod broker;
pub mod clock;
pub mod config;
mod contain;
pub mod credentials;
pub mod decide;
pub mod decode;
pub mod deduplicate;
pub mod detect;
pub mod door;
pub mod external;
pub mod filter;
#[doc(hidden)]
pub mod fuzzing;
pub mod ingest;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod nodes;
mod room;
pub mod spool;
pub mod status;
pub mod store;
pub mod update;
pub mod uplink;
pub mod validate;
pub mod window;

pub use config::Config;

/// How often it is counted what waits for the cloud.
const BACKLOG: Duration = Duration::from_secs(1);
/// After weeks without a cloud it is much: for each moment of counting as many pass without it. What dropping takes is not
/// counted: the longer the rest, the more there is to drop.
const BACKLOG_REST: u32 = 200;

/// How long the gateway rests before it starts again after damage.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs a gateway until `shutdown`: then the door closes, what came in is stored and acknowledged, and the rest ends.
///
/// # Errors
/// When something cannot be opened, listened on or read at the start, or a part fails while it runs.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let result = run_once(&config, shutdown.child_token()).await;
        match &result {
            Err(error)
                if !shutdown.is_cancelled()
                    && error.downcast_ref::<StoreError>().is_some_and(StoreError::is_damage) =>
            {
                // The next start makes the store anew from what is good of it.
                tracing::error!(%error, "the store is damaged: the gateway starts again");
                Store::suspect(&config.data_dir);
                tokio::time::sleep(AGAIN).await;
            }
            _ => return result,
        }
    }
}

async fn run_once(config: &Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make data_dir {}", config.data_dir.display()))?;
    let lock = fs::File::create(config.data_dir.join("lock"))
        .with_context(|| format!("cannot write to data_dir {}", config.data_dir.display()))?;
    lock.try_lock().with_context(|| format!("data_dir {} is in use by another gateway", config.data_dir.display()))?;
    Reserve::clear_the_way(&config.data_dir);
    let now = config.time.at(wall_clock());
    let keyring = Keyring::open(config.door.credentials.clone(), config.door.credentials_dir.clone())?;
    let opening = config.clone();
    let (started, updates) = tokio::task::spawn_blocking(move || update::begin(&opening, now)).await??;
    let opening = config.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let (intake, analysis, snapshot) = ingest::open(&opening, started.models, now)?;
        Ok::<_, StoreError>((intake, analysis.without(started.failed), snapshot))
    });
    let (intake, analysis, snapshot) = opened.await??;

    let broker = Broker::start(BrokerConfig::default()).await?;
    let (deliveries, queue) = door::queue(ingest::QUEUE, ingest::QUEUE_BYTES);
    let door = Door::bind(
        &config.door,
        config.farm.clone(),
        keyring,
        Routes::new(&config.sources),
        broker.clone(),
        deliveries.clone(),
    )
    .await?;
    let announcements = intake.announcements();
    let external = match &config.broker {
        Some(broker) => {
            let (names, routes) = ((config.farm.clone(), &config.gateway), Routes::new(&config.sources));
            let limit = (config.door.max_payload_bytes, door.turned_away());
            let external =
                External::new(broker, names, routes, deliveries.clone(), limit).map_err(anyhow::Error::msg)?;
            Some(external.saying(&announcements))
        }
        None => None,
    };
    drop(deliveries);
    let to_external = external.as_ref().map(External::handle);
    let (outbox, door_metrics, addresses) =
        (door.outbox().with_external(to_external.clone()), door.metrics(), door.addresses());
    let turned_away = door.turned_away();
    let listener = TcpListener::bind(config.status_listen)
        .await
        .with_context(|| format!("cannot listen on status_listen {}", config.status_listen))?;
    let status_address = listener.local_addr()?;
    let (status, status_receiver) = watch::channel(snapshot.borrow().status.clone());
    let (line, updater, update_status) = match updates.attach(config)? {
        Some((line, updater, status)) => (Some(line), Some(updater), Some(status)),
        None => (None, None, None),
    };
    let uplink = match &config.cloud {
        Some(cloud) => {
            let names = (config.farm.clone(), config.gateway.clone());
            Some(Uplink::new(
                names,
                cloud.clone(),
                config.uplink,
                config.time,
                config.data_dir.clone(),
                status_receiver.clone(),
            )?)
        }
        None => None,
    };
    let (heard, nodes, nodes_status) = match updater.as_ref().map(Updater::wanted) {
        None => (None, None, None),
        Some(wanted) => {
            let heard = Heard::default();
            let ways = (heard.clone(), wanted);
            let (nodes, status) = Nodes::open(&config.data_dir, config.nodes, config.time, ways, outbox.clone())?;
            (Some(heard), Some(nodes), Some(status))
        }
    };
    let told = Told { update: update_status, nodes: nodes_status, uplink: uplink.as_ref().map(Uplink::told) };
    let sources = Sources {
        door: door_metrics,
        broker: broker.clone(),
        external: to_external.map(|external| Arc::clone(external.metrics())),
        uplink: uplink.as_ref().map(Uplink::metrics),
        outbox: outbox.clone(),
    };
    let page = status::Page {
        title: format!("{} · {}", config.farm, config.gateway),
        data_dir: config.data_dir.clone(),
        retention: config.retention,
        turned_away,
        snapshot: snapshot.clone(),
        status: status_receiver,
        pace: uplink.as_ref().map(Uplink::pace),
        sources,
    };

    // The door first, then what it feeds: each part ends when the one before it has.
    let after_door = CancellationToken::new();
    let mut tasks: JoinSet<anyhow::Result<&'static str>> = JoinSet::new();
    let closing = shutdown.clone();
    tasks.spawn_blocking(move || Ok(door.run(closing).map(|()| "door")?));
    if let Some(external) = external {
        let closing = shutdown.clone();
        tasks.spawn(async move {
            external.run(closing).await;
            Ok("way to the farm's broker")
        });
    }
    for Announcement { topic, online, .. } in &announcements {
        outbox.announce(topic, online);
    }
    let (to_clients, closing) = (outbox.clone(), shutdown.clone());
    tasks.spawn(async move {
        closing.cancelled().await;
        announcements.iter().for_each(|Announcement { topic, offline, .. }| to_clients.announce(topic, offline));
        Ok("announcements")
    });
    let (to_stations, commands, runtime) = (outbox.clone(), outbox.clone(), tokio::runtime::Handle::current());
    tasks.spawn_blocking(move || Ok(intake.run(queue, &to_stations, &runtime).map(|()| "intake")?));
    tasks.spawn_blocking(move || Ok(analysis.run(commands, heard, line).map(|()| "analysis")?));
    let stop = after_door.clone();
    tasks.spawn(async move {
        broker.run(stop).await;
        Ok("broker")
    });
    let stop = after_door.clone();
    tasks.spawn(async move { Ok(status::serve(listener, page, stop).await.map(|()| "status page")?) });
    let (spool, limit, stop) = (Spool::open(&config.data_dir)?, config.retention.spool_bytes, after_door.clone());
    tasks.spawn(
        async move { watch_backlog(spool, limit, snapshot, outbox, told, status, stop).await.map(|()| "backlog") },
    );
    if let Some(updater) = updater {
        let stop = after_door.clone();
        tasks.spawn(async move { updater.run(stop).await.map(|()| "updater") });
    }
    if let Some(nodes) = nodes {
        let stop = after_door.clone();
        tasks.spawn(async move { nodes.run(stop).await.map(|()| "nodes' models") });
    }
    if let Some(uplink) = uplink {
        let stop = after_door.clone();
        tasks.spawn(async move { uplink.run(stop).await.map(|()| "uplink") });
    }

    if let Some(path) = &config.ready_file {
        let mut ready = serde_json::json!({ "status": status_address.to_string() });
        for (key, address) in [("mqtt", addresses.mqtt), ("mqtts", addresses.mqtts)] {
            if let Some(address) = address {
                ready[key] = address.to_string().into();
            }
        }
        write_whole(path, ready.to_string().as_bytes())?;
    }
    tracing::info!(farm = %config.farm, gateway = %config.gateway, %status_address, "the gateway is ready");

    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let part = match ended {
            Ok(Ok(part)) => part,
            Ok(Err(error)) => {
                result = result.and(Err(error));
                "a part that failed"
            }
            Err(error) => {
                result = result.and(Err(anyhow::Error::from(error)));
                "a part that panicked"
            }
        };
        if !shutdown.is_cancelled() {
            tracing::error!(part, "a part of the gateway ended by itself");
            if result.is_ok() {
                result = Err(anyhow::anyhow!("the {part} ended by itself"));
            }
            shutdown.cancel();
        }
        if part == "analysis" || result.is_err() {
            after_door.cancel();
        }
    }
    if result.is_ok() {
        update::ended_well(config)?;
    }
    result
}

/// What other parts tell of themselves.
struct Told {
    update: Option<watch::Receiver<UpdateStatus>>,
    nodes: Option<watch::Receiver<Option<NodesStatus>>>,
    uplink: Option<watch::Receiver<UplinkStatus>>,
}

/// Completes the pipeline's state with what waits for the cloud, and holds the spool within its limit.
async fn watch_backlog(
    mut spool: Spool,
    limit: u64,
    snapshot: Snapshots,
    outbox: Outbox,
    told: Told,
    status: watch::Sender<GatewayStatus>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut backlog = proto::Lane::ALL.map(|lane| (lane, Backlog::default()));
    loop {
        let began = Instant::now();
        let looking = move || (spool.trim(limit).and_then(|(_, dropping)| Ok((spool.backlog()?, dropping))), spool);
        let (looked, returned) = tokio::task::spawn_blocking(looking).await?;
        spool = returned;
        let mut counting = began.elapsed();
        match looked {
            Ok((now, dropping)) => {
                backlog = now;
                counting = counting.saturating_sub(dropping);
            }
            Err(error) if error.passes() => tracing::warn!(%error, "the spool could not be looked at"),
            Err(error) => return Err(error.into()),
        }
        let mut now = snapshot.borrow().status.clone();
        now.backlog = backlog.iter().map(|(lane, backlog)| (lane.name().to_owned(), backlog.records)).collect();
        now.backlog_oldest = backlog.iter().filter_map(|(_, backlog)| backlog.oldest).min();
        if let Some(uplink) = &told.uplink {
            now.uplink = uplink.borrow().clone();
        }
        for (lane, backlog) in &backlog {
            let lane = now.uplink.lanes.entry(lane.name().to_owned()).or_default();
            (lane.records, lane.oldest, lane.dropped) = (backlog.records, backlog.oldest, backlog.dropped);
        }
        if let Some(update) = &told.update {
            now.update = update.borrow().clone();
        }
        if let Some(nodes) = &told.nodes {
            now.update.nodes = nodes.borrow().clone();
        }
        now.connected = u32::try_from(outbox.connected()).unwrap_or(u32::MAX);
        status.send_replace(now);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(BACKLOG.max(counting * BACKLOG_REST)) => {}
        }
    }
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let making = path.with_extension("making");
    fs::write(&making, bytes)
        .and_then(|()| fs::rename(&making, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What the wall clock shows. The only place where the gateway looks.
pub(crate) fn wall_clock() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}
