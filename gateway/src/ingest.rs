//! The pipeline: one thread that takes in what the door delivers, brings it to disk in groups, and only then acknowledges
//! it and lets it go on to windows, detection and spool.
//!
//! It works alone on its state, so that nothing of it needs a lock and everything happens in one order. When it cannot
//! keep up, the door's bounded queue fills, the door stops reading, and the stations keep what is not acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proto::{
    Alert, Birth, GatewayStatus, Reading, Record, RunningModel, StationBirth, StationId, TimeScale, Timestamp,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;

use crate::config::Config;
use crate::decode::{self, Message, Plain};
use crate::deduplicate::{Progress, Recent, Sent, Verdict};
use crate::detect::slots::Line;
use crate::detect::{Detector, Heard};
use crate::door::{Delivery, DeliveryKind, Outbox, Release, Ticket};
use crate::model::Model;
use crate::store::{DELETE_AT_ONCE, Emission, Group, RawMessage, Seen, Store, StoreError, kind_code};
use crate::window::{Closed, Origin, Placed, Rhythm, Windows};

/// How long a group waits for more: what a PUBACK is late at most, with the sync after it.
const GROUP_WAIT: Duration = Duration::from_millis(50);
/// The most deliveries in a group, which bounds its memory.
const GROUP_MOST: usize = 4_096;
/// Deliveries that lie between the door and the pipeline. When it is full the door stops reading its sockets.
pub const QUEUE: usize = 4_096;
/// How often idle windows and silent stations are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How often the page's state is made anew.
const SNAPSHOT: Duration = Duration::from_millis(500);
/// How often old raw readings are let go of.
const TRIM: Duration = Duration::from_secs(10);
/// How much the gateway itself may lag before silence counts as a station's, on the wall clock. It matters only where
/// the farm's clock runs faster than the machine.
const LAG: Duration = Duration::from_secs(3);
/// How long the pipeline waits after the disk refused a group.
const DISK_WAIT: Duration = Duration::from_millis(500);
/// How far back the detector's history is kept.
const HISTORY_MS: i64 = 2 * 86_400_000;

/// The gateway's state as its page and the cloud are told.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the cloud is told, but for the backlog.
    pub status: GatewayStatus,
    /// Every station.
    pub stations: Vec<StationState>,
    /// The open alerts, the newest first.
    pub alerts: Vec<Alert>,
    /// Models that stopped, with the reason.
    pub failed_models: Vec<(String, String)>,
    /// All counters.
    pub counters: BTreeMap<String, u64>,
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
}

/// The pipeline's state.
pub struct Pipeline {
    config: Config,
    time: TimeScale,
    started: Timestamp,
    store: Store,
    progress: Progress,
    /// The plain payloads that came last.
    recent: Recent,
    windows: Windows,
    detector: Detector,
    births: BTreeMap<StationId, Birth>,
    counters: BTreeMap<String, u64>,
    /// Counted since the last transaction.
    uncounted: BTreeMap<String, u64>,
    /// Stations that got readings since the last emission.
    moved: BTreeSet<StationId>,
    snapshot: watch::Sender<Snapshot>,
}

/// Readings of the group that is being made.
struct Arrived {
    station: StationId,
    readings: Vec<Reading>,
    content: Content,
}

/// How readings that arrived are known.
enum Content {
    /// As a batch.
    Batch(Origin),
    /// Each by itself, and the payload by its bytes.
    Plain(Sent),
}

impl Pipeline {
    /// Opens the store and builds the state again that the gateway had when it ended or was killed.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn open(
        config: &Config,
        models: Vec<(Model, Option<Model>)>,
        now: Timestamp,
    ) -> Result<(Self, watch::Receiver<Snapshot>), StoreError> {
        let store = Store::open(&config.data_dir)?;
        let mut windows = Windows::new(config.windows.shape(), |quantity| config.limits(quantity));
        let mut births = BTreeMap::new();
        let mut emitted = store.emitted()?;
        for (station, known) in store.stations()? {
            let birth = known.birth.as_deref().and_then(|bytes| Birth::decode(bytes).ok());
            let rhythm = birth.as_ref().map_or_else(Rhythm::default, rhythm_of);
            let emitted = emitted.remove(&station).unwrap_or_default();
            windows.restore(&station, rhythm, known.seen.watermark, emitted);
            births.extend(birth.map(|birth| (station, birth)));
        }
        let mut detector = Detector::new(models, config.rules.clone(), store.open_alerts()?);
        detector.warm(store.history()?.into_iter());
        let mut recent = Recent::default();
        store.replay(|commit, message| {
            let at = Timestamp::from_millis(message.at_ms);
            let Ok(station) = message.station.parse::<StationId>() else { return };
            if message.kind != kind_code(DeliveryKind::Data) {
                return;
            }
            match decode::read(DeliveryKind::Data, &message.payload, at) {
                Ok(Message::Data(batch)) => {
                    let origin = Origin { boot: batch.boot, sequence: batch.sequence };
                    windows.insert(&station, origin, &batch.readings, at, commit);
                }
                Ok(Message::Plain(plain)) => {
                    let packet = u16::try_from(message.packet).unwrap_or(0);
                    recent.note(&station, Sent::new(&message.payload, packet, plain.timed));
                    windows.insert_plain(&station, &plain.readings, at, commit);
                }
                _ => {}
            }
        })?;
        windows.resume(now);
        let progress = Progress::new(store.progress()?);
        let counters = store.counters()?;
        let (snapshot, receiver) = watch::channel(Snapshot {
            status: empty_status(now),
            stations: Vec::new(),
            alerts: Vec::new(),
            failed_models: Vec::new(),
            counters: counters.clone(),
        });
        let (config, time) = (config.clone(), config.time);
        // The replay may have carried stations on from where the store has them: the first emission says so.
        let moved = windows.heard().map(|(station, ..)| station.clone()).collect();
        let mut pipeline = Self {
            config,
            time,
            started: now,
            store,
            progress,
            recent,
            windows,
            detector,
            births,
            counters,
            uncounted: BTreeMap::new(),
            moved,
            snapshot,
        };
        pipeline.show();
        Ok((pipeline, receiver))
    }

    /// Works until the door has closed the queue and everything in it is on disk. Blocks: give it a thread of its own.
    ///
    /// # Errors
    /// When the store fails in a way that waiting does not heal.
    pub fn run(
        mut self,
        mut deliveries: mpsc::Receiver<Delivery>,
        outbox: &Outbox,
        mut line: Option<Line>,
        runtime: &Handle,
    ) -> anyhow::Result<()> {
        let (mut tick, mut snapshot, mut trim) = (Instant::now(), Instant::now(), Instant::now());
        let closed = self.windows.close();
        self.emit(closed)?;
        let mut group = Vec::with_capacity(GROUP_MOST);
        loop {
            let open = runtime.block_on(collect(&mut deliveries, &mut group, tick + TICK));
            if !group.is_empty() {
                self.take_in(&mut group, outbox)?;
            }
            if tick.elapsed() >= TICK {
                tick = Instant::now();
                self.tick()?;
            }
            if let Some(line) = &mut line {
                self.obey(line);
            }
            if snapshot.elapsed() >= SNAPSHOT {
                snapshot = Instant::now();
                self.show();
            }
            if trim.elapsed() >= TRIM {
                // With more to let go of, go on at the next chance.
                if !self.trim() {
                    trim = Instant::now();
                }
            }
            if !open {
                self.keep(&[], &[])?;
                self.show();
                return Ok(());
            }
        }
    }

    /// Brings a group to disk, acknowledges it, and lets its readings go on.
    fn take_in(&mut self, deliveries: &mut Vec<Delivery>, outbox: &Outbox) -> anyhow::Result<()> {
        let now = self.now();
        let mut group = Group { counters: self.uncounted.clone(), ..Group::default() };
        let mut arrived = Vec::new();
        let mut tickets: Vec<Ticket> = Vec::with_capacity(deliveries.len());
        let mut to_acknowledge: BTreeSet<(StationId, u32)> = BTreeSet::new();
        for Delivery { station, kind, payload, packet, duplicate, ticket } in deliveries.drain(..) {
            let station = (*station).clone();
            let message = match decode::read(kind, &payload, now) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(%station, %error, "a payload cannot be read: kept aside");
                    count(&mut group.counters, format!("refused.{}", decode::refusal(kind, &error)), 1);
                    group.quarantined.push((format!("station {station}"), error.to_string(), payload.to_vec()));
                    tickets.push(ticket);
                    continue;
                }
            };
            match message {
                Message::Data(batch) => {
                    match self.progress.judge(&group.progress, &station, batch.boot, batch.sequence) {
                        // Dropping the ticket closes the connection: the station sends again from what is acknowledged.
                        Verdict::AfterALoss => continue,
                        Verdict::Known => count(&mut group.counters, "duplicate_batches".to_owned(), 1),
                        Verdict::New => {
                            group.progress.insert((station.clone(), batch.boot), batch.sequence);
                            count(&mut group.counters, "readings".to_owned(), batch.readings.len() as u64);
                            see(&mut group, &station, &batch.readings, now, &self.windows);
                            group.messages.push(raw(&station, kind, now, payload, packet));
                            let content = Content::Batch(Origin { boot: batch.boot, sequence: batch.sequence });
                            arrived.push(Arrived { station: station.clone(), readings: batch.readings, content });
                        }
                    }
                    to_acknowledge.insert((station, batch.boot));
                }
                Message::Plain(plain) => {
                    let sent = Sent::new(&payload, packet, plain.timed);
                    if self.recent.holds(&station, &sent, duplicate) {
                        count(&mut group.counters, "duplicate_batches".to_owned(), 1);
                    } else {
                        self.recent.note(&station, sent);
                        count(&mut group.counters, "readings".to_owned(), plain.readings.len() as u64);
                        refuse_keys(&mut group, &station, &plain, &payload);
                        see(&mut group, &station, &plain.readings, now, &self.windows);
                        group.messages.push(raw(&station, kind, now, payload, packet));
                        arrived.push(Arrived { station, readings: plain.readings, content: Content::Plain(sent) });
                    }
                }
                Message::Birth(birth) => {
                    self.progress.connected(&station);
                    group
                        .stations
                        .entry(station.clone())
                        .or_insert(Seen { heard: now, watermark: self.windows.watermark(&station) });
                    group.births.insert(station.clone(), (now, payload.to_vec()));
                    if self.births.get(&station) != Some(&birth) {
                        let record = StationBirth { station: station.clone(), at: now, birth: birth.clone() };
                        group.records.push(Record::Birth(record));
                    }
                    self.windows.describe(&station, rhythm_of(&birth));
                    self.windows.hear(&station, now);
                    self.births.insert(station.clone(), birth);
                    group.messages.push(raw(&station, kind, now, payload, packet));
                }
                Message::Status(status) => {
                    if status.online {
                        self.windows.hear(&station, now);
                    }
                    group.messages.push(raw(&station, kind, now, payload, packet));
                }
            }
            tickets.push(ticket);
        }

        let commit = match self.store.commit(&group, now) {
            Ok(commit) => commit,
            Err(error) => {
                // A full or broken disk: nothing is acknowledged, the stations keep what they have.
                tracing::error!(%error, messages = group.messages.len(), "a group could not be stored");
                let mut lost: BTreeSet<StationId> = group.births.into_keys().collect();
                for Arrived { station, content, .. } in arrived {
                    match content {
                        Content::Batch(_) => drop(lost.insert(station)),
                        Content::Plain(sent) => self.recent.forget(&station, &sent),
                    }
                }
                for station in lost {
                    self.births.remove(&station);
                    self.progress.lost(station);
                }
                count(&mut self.uncounted, "failed_commits".to_owned(), 1);
                std::thread::sleep(DISK_WAIT);
                return Ok(());
            }
        };
        self.uncounted.clear();
        merge(&mut self.counters, group.counters);
        self.progress.stored(group.progress);

        let mut release = Release::new();
        for ticket in tickets {
            release.commit(ticket);
        }
        for (station, boot) in to_acknowledge {
            if let Some(sequence) = self.progress.highest(&station, boot) {
                let ack = proto::Ack { boot, sequence };
                release.publish(outbox, &station, proto::TopicKind::Ack, &ack.encode());
            }
        }
        release.send();

        for Arrived { station, readings, content } in arrived {
            let Placed { late, future, .. } = match content {
                Content::Batch(origin) => self.windows.insert(&station, origin, &readings, now, commit),
                Content::Plain(_) => self.windows.insert_plain(&station, &readings, now, commit),
            };
            for (reason, by) in [("late", late), ("future", future)] {
                if by > 0 {
                    tracing::warn!(%station, commit, readings = by, "readings are {reason}");
                    count(&mut self.uncounted, format!("rejected.{reason}"), u64::from(by));
                }
            }
            self.moved.insert(station);
        }
        let closed = self.windows.close();
        self.emit(closed)
    }

    /// Does what the updater wants, and tells it how the models stand.
    fn obey(&mut self, line: &mut Line) {
        while let Ok(order) = line.orders.try_recv() {
            self.detector.obey(order);
        }
        let report = self.detector.report();
        line.report.send_if_modified(|told| {
            let changed = *told != report;
            if changed {
                *told = report;
            }
            changed
        });
    }

    /// Closes the windows of stations that are idle, and looks for silent ones.
    fn tick(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let least_ms = (LAG.as_millis() as f64 * self.time.speed) as i64;
        let closed = self.windows.close_idle(now, least_ms);
        self.emit(closed)?;
        let heard: Vec<(StationId, Rhythm, Timestamp)> =
            self.windows.heard().map(|(station, rhythm, last)| (station.clone(), rhythm, last)).collect();
        let heard =
            heard.iter().map(|(station, rhythm, last)| Heard { station, last: *last, report_s: rhythm.report_s });
        let alerts = self.detector.tick(now, heard);
        if alerts.is_empty() && self.uncounted.is_empty() {
            return Ok(());
        }
        self.keep(&[], &alerts)
    }

    /// Lets closed windows go through detection, and keeps both.
    fn emit(&mut self, closed: Vec<Closed>) -> anyhow::Result<()> {
        if closed.is_empty() {
            return Ok(());
        }
        let windows: Vec<_> = closed.iter().map(|c| c.window.clone()).collect();
        let alerts = self.detector.observe(&windows);
        for closed in &closed {
            for (reason, by) in closed.newly_rejected.by_reason() {
                if by > 0 {
                    count(&mut self.uncounted, format!("rejected.{reason}"), u64::from(by));
                }
            }
        }
        self.keep(&closed, &alerts)
    }

    fn keep(&mut self, closed: &[Closed], alerts: &[Alert]) -> anyhow::Result<()> {
        let shape = self.config.windows.shape();
        let final_ms = shape.tolerance.lateness_ms + shape.context_ms + i64::from(shape.length_s) * 1000;
        let stations: BTreeSet<&StationId> = closed.iter().map(|c| &c.window.station).collect();
        let (mut final_before, mut history_before) = (BTreeMap::new(), BTreeMap::new());
        for station in stations {
            if let Some(watermark) = self.windows.watermark(station) {
                final_before.insert(station.clone(), watermark.plus_millis(-final_ms));
                history_before.insert(station.clone(), watermark.plus_millis(-HISTORY_MS));
            }
        }
        let watermarks = std::mem::take(&mut self.moved)
            .into_iter()
            .filter_map(|station| self.windows.watermark(&station).map(|watermark| (station, watermark)));
        let emission = Emission {
            windows: closed,
            alerts,
            counters: std::mem::take(&mut self.uncounted),
            replay_from: self.windows.oldest_commit(),
            watermarks: watermarks.collect(),
            final_before,
            history_before,
        };
        // The disk may be full for a while. What is not kept now is built again from the raw store after a restart, but
        // it must not be forgotten before: wait until there is room.
        while let Err(error) = self.store.emit(&emission, self.time.at(crate::wall_clock())) {
            if !error.passes() {
                return Err(error.into());
            }
            tracing::error!(%error, windows = closed.len(), alerts = alerts.len(), "windows could not be stored; trying again");
            std::thread::sleep(DISK_WAIT);
        }
        merge(&mut self.counters, emission.counters);
        for alert in alerts {
            tracing::info!(id = alert.id, closed = alert.closed.is_some(), score = alert.score, alert.message, "alert");
        }
        Ok(())
    }

    /// Lets old raw readings go; true when there may be more.
    fn trim(&mut self) -> bool {
        let retention = &self.config.retention;
        let before = self.now().plus_millis(-i64::from(retention.raw_days) * 86_400_000);
        match self.store.trim(before, retention.raw_bytes, self.windows.oldest_commit()) {
            Ok((gone, crowded)) => {
                let aged = gone - crowded;
                for (name, by) in [("raw_commits_expired", aged), ("raw_commits_crowded_out", crowded)] {
                    if by > 0 {
                        count(&mut self.uncounted, name.to_owned(), by);
                    }
                }
                aged.max(crowded) >= u64::from(DELETE_AT_ONCE)
            }
            Err(error) => {
                tracing::warn!(%error, "old readings could not be let go of");
                false
            }
        }
    }

    /// Makes the state for the page and the cloud anew.
    fn show(&mut self) {
        let now = self.now();
        let stations: Vec<StationState> = self
            .windows
            .heard()
            .map(|(id, rhythm, heard)| StationState {
                id: id.clone(),
                heard,
                report_s: rhythm.report_s,
                latest: self.windows.latest(id).collect(),
            })
            .collect();
        let mut alerts: Vec<Alert> = self.detector.open().cloned().collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.opened));
        let rejected = self.counters.iter().filter_map(|(name, value)| {
            let reason = name.strip_prefix("rejected.").or_else(|| name.strip_prefix("refused."))?;
            Some((reason.to_owned(), *value))
        });
        let models: Vec<RunningModel> = self.detector.running();
        let status = GatewayStatus {
            at: now,
            started: self.started,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            models,
            stations: u32::try_from(stations.len()).unwrap_or(u32::MAX),
            connected: 0,
            backlog: BTreeMap::new(),
            backlog_oldest: None,
            disk_bytes: self.store.disk_bytes(),
            readings: self.counters.get("readings").copied().unwrap_or(0),
            rejected: rejected.collect(),
            update: proto::UpdateStatus::default(),
        };
        let failed_models = self.detector.failed();
        self.snapshot.send_replace(Snapshot {
            status,
            stations,
            alerts,
            failed_models,
            counters: self.counters.clone(),
        });
    }

    fn now(&self) -> Timestamp {
        self.time.at(crate::wall_clock())
    }
}

/// Waits for deliveries until `until`, and after the first one a moment for more. False when there will be none any more.
async fn collect(deliveries: &mut mpsc::Receiver<Delivery>, group: &mut Vec<Delivery>, until: Instant) -> bool {
    match timeout_at(until.into(), deliveries.recv()).await {
        Err(_) => return true,
        Ok(None) => return false,
        Ok(Some(first)) => group.push(first),
    }
    let until = tokio::time::Instant::now() + GROUP_WAIT;
    while group.len() < GROUP_MOST {
        match timeout_at(until, deliveries.recv_many(group, GROUP_MOST - group.len())).await {
            Err(_) => break,
            Ok(0) => return false,
            Ok(_) => {}
        }
    }
    true
}

/// Notes that `station` was heard, and the watermark up to which its windows are emitted: that of *before* this group. A
/// gateway that is killed between this commit and the next emission must not take for final what it never emitted.
fn see(group: &mut Group, station: &StationId, readings: &[Reading], now: Timestamp, windows: &Windows) {
    group.stations.insert(station.clone(), Seen { heard: now, watermark: windows.watermark(station) });
    let times = || readings.iter().map(|r| r.time);
    if let (Some(first), Some(last)) = (times().min(), times().max()) {
        group.span = Some(group.span.map_or((first, last), |(f, l)| (f.min(first), l.max(last))));
    }
}

/// Counts the keys of a plain payload that cannot be taken, and keeps it aside with what is wrong.
fn refuse_keys(group: &mut Group, station: &StationId, plain: &Plain, payload: &[u8]) {
    if plain.refused.is_empty() {
        return;
    }
    let problems = plain.problems.join("; ");
    tracing::warn!(%station, %problems, "parts of a plain payload cannot be taken");
    for (reason, by) in &plain.refused {
        count(&mut group.counters, format!("refused.{reason}_json"), *by);
    }
    group.quarantined.push((format!("station {station}"), problems, payload.to_vec()));
}

fn raw(station: &StationId, kind: DeliveryKind, now: Timestamp, payload: bytes::Bytes, packet: u16) -> RawMessage {
    let packet = u32::from(packet);
    RawMessage { station: station.to_string(), kind: kind_code(kind), at_ms: now.as_millis(), payload, packet }
}

fn rhythm_of(birth: &Birth) -> Rhythm {
    Rhythm { interval_s: birth.interval_s, report_s: birth.report_s }
}

fn count(counters: &mut BTreeMap<String, u64>, name: String, by: u64) {
    *counters.entry(name).or_default() += by;
}

fn merge(counters: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, by) in more {
        count(counters, name, by);
    }
}

fn empty_status(now: Timestamp) -> GatewayStatus {
    GatewayStatus {
        at: now,
        started: now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        models: Vec::new(),
        stations: 0,
        connected: 0,
        backlog: BTreeMap::new(),
        backlog_oldest: None,
        disk_bytes: 0,
        readings: 0,
        rejected: BTreeMap::new(),
        update: proto::UpdateStatus::default(),
    }
}
