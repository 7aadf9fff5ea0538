//! The whole program: the farm at its pace, its stations' connections, the journal and the truth log.
//!
//! One thread has the farm (`Engine`): it takes the samples that are due, writes each report to the journal and the truth
//! log, and only then gives it to the station's node. A task for each station has the connection. They share the nodes
//! ([`Link`]). This is the edge where the wall clock is read.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use firmware::ring::Key;
use proto::{Batch, Birth, Reading, StationId, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::client::{self, Link, Tls};
use crate::clock::{ClockFault, NodeClock};
use crate::config::{Config, Pace};
use crate::farm::{Farm, Sample};
use crate::faults::{Fault, RandomFaults, Scenario};
use crate::feed::{About, Feed};
use crate::models::Models;
use crate::node::{Entry, Node};
use crate::onboard::{Memory, Onboard};
use crate::station::Measured;
use crate::store::{Identity, Irrigation, Keep, Record, Store};
use crate::truth::{Event, Report, TruthLog, write_seasons};

/// How often the farm's state is kept, ms of farm time: a restart simulates at most this long to be where it was.
const KEEP_MS: i64 = 86_400_000;
/// The state is kept sooner when the journal has grown by this, bytes.
const JOURNAL_BYTES: u64 = 64 << 20;
/// After a pause up to this long, ms of farm time, the readings of the pause are made late, as by a node whose radio was off.
/// After a longer one (or when the clock begins later than the farm) the nodes were off, and there are none.
const CATCH_UP_MS: i64 = 6 * 3_600_000;
/// How far the farm goes in one piece while it catches up, ms of farm time; commands and the end are looked at in between.
const PIECE_MS: i64 = 3_600_000;
/// Bounds of the sleep between two looks at the clock: a tenth of a second is unseen, and a command waits no longer.
const SHORTEST_SLEEP: Duration = Duration::from_millis(20);
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// How long the nodes may still wait for acknowledgements when the program is asked to end. What is not acknowledged then
/// is kept and sent after the next start.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs a simulated farm until `shutdown`, or until the configured end is reached and everything is acknowledged.
///
/// TLS needs the process to have installed its cryptography provider.
///
/// # Errors
/// When the configuration is wrong, the state directory is another farm's or in use, or a file cannot be written. A broker
/// that cannot be reached is no error: it is waited for.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let identities = tokio::task::spawn_blocking({
        let config = config.clone();
        move || -> anyhow::Result<_> {
            config.check()?;
            let engine = Engine::open(&config)?;
            let identities = engine.identities()?;
            Ok((engine, identities))
        }
    });
    let (engine, identities) = identities.await.context("the farm could not be set up")??;
    let links = engine.links.clone();

    if let Some(path) = &config.ready_file {
        write_ready(path, links.len()).with_context(|| format!("ready file {path:?}"))?;
    }

    // The engine ends before the connections, which are needed for its last acknowledgements.
    let stop = shutdown.child_token();
    let finish = CancellationToken::new();
    let mut clients = JoinSet::new();
    let (seed, speed) = (config.farm.seed, config.time.speed);
    for (identity, link) in identities.into_iter().zip(links) {
        clients.spawn(client::serve(identity, link, seed, speed, finish.clone()));
    }
    let mut farm = tokio::task::spawn_blocking({
        let (stop, handle) = (stop.clone(), Handle::current());
        move || {
            let mut engine = engine;
            let result = engine.go(&stop, &handle);
            (engine, result)
        }
    });
    let mut broken: Option<anyhow::Error> = None;
    let (engine, result) = loop {
        tokio::select! {
            done = &mut farm => break done.context("the farm's thread panicked")?,
            Some(ended) = clients.join_next() => {
                broken.get_or_insert(station_ended(ended));
                stop.cancel();
            }
        }
    };
    finish.cancel();
    while let Some(ended) = clients.join_next().await {
        if ended.is_err() {
            broken.get_or_insert(station_ended(ended));
        }
    }
    // What is acknowledged by now need not be kept.
    let closed = tokio::task::spawn_blocking(move || engine.close()).await.context("the farm could not be closed")?;
    result?;
    closed?;
    broken.map_or(Ok(()), Err)
}

fn station_ended(ended: Result<(), JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow!("a station's task ended before the farm did"),
        Err(error) => anyhow!("a station's task failed: {error}"),
    }
}

/// Writes the ready file whole or not at all.
fn write_ready(path: &Path, stations: usize) -> std::io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{{\"stations\":{stations}}}\n"))?;
    std::fs::rename(new, path)
}

/// The wall clock.
fn wall() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

/// What one station has measured and not yet reported.
#[derive(Debug)]
struct Recorder {
    station: StationId,
    /// None where samples are reported as they are.
    onboard: Option<Onboard>,
    /// What the next report is known by. The boot is one more than any before it at the program's start, and again each time the
    /// node's power was away or its watchdog bit.
    next: Key,
    open: Vec<Measured>,
    /// Samples up to here are in reports.
    sealed: Timestamp,
}

impl Recorder {
    /// The station's models, where it takes some.
    fn models(&mut self) -> Option<&mut Models> {
        self.onboard.as_mut().and_then(|onboard| onboard.models.as_mut())
    }

    /// Puts what is open in a report; none when nothing is.
    fn seal(&mut self) -> Option<Report> {
        let last = self.open.last()?;
        self.sealed = last.reading.time;
        let Key { boot, sequence } = self.next;
        self.next = self.next.following();
        Some(Report { station: self.station.clone(), boot, sequence, readings: std::mem::take(&mut self.open) })
    }
}

/// The farm's thread.
struct Engine {
    config: Config,
    farm: Feed,
    boot: u32,
    recorders: Vec<Recorder>,
    clocks: Vec<NodeClock>,
    indexes: BTreeMap<StationId, usize>,
    links: Vec<Arc<Link>>,
    progress: Arc<Notify>,
    store: Store,
    truth: Option<TruthLog>,
    /// Commands that the farm has been given before the restart, at moments that it has not come to again.
    replay: VecDeque<Irrigation>,
    /// The nodes were off until here.
    off_until: Timestamp,
    /// The farm's moment that was last kept.
    kept: Timestamp,
    /// The scenario's faults and all wrong clocks that have not begun, in order of their start: start, end, and what the
    /// truth log gets.
    faults: VecDeque<(Timestamp, Timestamp, Event)>,
    /// The stations' faults out of chance that have not begun.
    random: Vec<RandomFaults>,
    base_was_on: bool,
    /// Made in this run.
    readings: u64,
    lost: u64,
}

impl Engine {
    /// Sets the farm up, or takes it up where the state directory has it, and begins a new boot.
    fn open(config: &Config) -> anyhow::Result<Self> {
        let mut farm = Feed::open(config)?;
        let identity = Identity { farm: config.farm.id.clone(), seed: config.farm.seed, start: config.farm.start };
        let (store, kept) = Store::open(&config.state_dir, identity)?;
        let (kept_boot, truth_length, sealed, records) = match kept {
            None => (0, None, BTreeMap::new(), Vec::new()),
            Some(kept) => {
                farm.restore(kept.farm);
                (kept.boot, kept.truth_length, kept.sealed, kept.records)
            }
        };
        // A node whose power was away has begun boots of its own since then.
        let ended_boot = records.iter().filter_map(Record::made).map(|report| report.boot).fold(kept_boot, u32::max);
        let boot = ended_boot.checked_add(1).context("the boot numbers are used up")?;
        let made = records.iter().filter_map(Record::made);
        let truth = match &config.truth_dir {
            Some(dir) => Some(
                TruthLog::open(dir, config.truth_readings, truth_length, made)
                    .with_context(|| format!("truth log {dir:?}"))?,
            ),
            None => None,
        };

        let stations = farm.stations(config);
        let ids: Vec<StationId> = stations.iter().map(|station| station.id.clone()).collect();
        let clocks: Vec<Vec<ClockFault>> = (0..ids.len()).map(|station| farm.clock_faults(station)).collect();
        let progress = Arc::new(Notify::new());
        let node = |id: &StationId| {
            let chance = Chance::new(config.farm.seed, &format!("node/{id}"));
            match config.node.memory {
                Memory::Flash => Node::new(config.ring_readings, chance),
                Memory::Ram => Node::without_flash(chance),
            }
        };
        let recorder = |about: About| {
            let station = about.id;
            let sealed = sealed.get(&station).copied().unwrap_or(Timestamp::MIN);
            let onboard = Onboard::new(&config.node, &about.channels);
            Recorder { station, onboard, next: Key::first_of(boot), open: Vec::new(), sealed }
        };
        let mut engine = Self {
            boot,
            links: ids.iter().map(|id| Arc::new(Link::new(node(id), boot, progress.clone()))).collect(),
            indexes: ids.iter().cloned().enumerate().map(|(index, id)| (id, index)).collect(),
            clocks: clocks.iter().map(|faults| NodeClock::new(faults.clone())).collect(),
            recorders: stations.into_iter().map(recorder).collect(),
            faults: events(&farm.scenario(), clocks.iter().flatten()),
            random: farm.random_faults(),
            off_until: Timestamp::MIN,
            kept: farm.now(),
            replay: VecDeque::new(),
            config: config.clone(),
            base_was_on: farm.base_is_on(),
            readings: 0,
            lost: 0,
            farm,
            progress,
            store,
            truth,
        };
        engine.recall(records)?;
        engine.find_pause();
        engine.tell_reach();
        // The boot number is on disk before anything of it goes out.
        engine.keep()?;
        tracing::info!(
            stations = engine.links.len(),
            boot = engine.boot,
            farm_time = %engine.farm.now(),
            waiting = engine.waiting(),
            "the farm begins"
        );
        Ok(engine)
    }

    /// Takes the journal's records up.
    fn recall(&mut self, records: Vec<Record>) -> anyhow::Result<()> {
        for record in records {
            let station = match &record {
                Record::Made(report) | Record::Open(report) => &report.station,
                Record::Waiting(station, _) | Record::Irrigated(station, _) | Record::Models(station, _) => station,
                Record::Irrigation(irrigation) => &irrigation.station,
            };
            let Some(&index) = self.indexes.get(station) else {
                tracing::warn!(%station, "the station is not configured any more; what it kept is dropped");
                continue;
            };
            match record {
                Record::Made(report) => {
                    let recorder = &mut self.recorders[index];
                    if let Some(last) = report.readings.last() {
                        recorder.sealed = recorder.sealed.max(last.reading.time);
                    }
                    let entry = entry(&report, &self.clocks[index])?;
                    self.give(index, entry)?;
                }
                Record::Waiting(_, entry) => self.give(index, entry)?,
                Record::Open(report) => self.recorders[index].open = report.readings,
                Record::Irrigation(irrigation) => {
                    self.links[index].irrigated(irrigation.id);
                    self.replay.push_back(irrigation);
                }
                Record::Irrigated(_, id) => self.links[index].irrigated(id),
                Record::Models(_, bytes) => {
                    if let Some(models) = self.recorders[index].models() {
                        models.restore(&bytes);
                    }
                }
            }
        }
        for (recorder, link) in self.recorders.iter_mut().zip(&self.links) {
            if let Some(models) = recorder.models() {
                link.set_models(models.status());
            }
        }
        for recorder in &mut self.recorders {
            recorder.open.retain(|measured| measured.reading.time > recorder.sealed);
        }
        Ok(())
    }

    /// Looks how long the farm was not simulated, and switches the nodes off for it when that was long.
    fn find_pause(&mut self) {
        if self.config.pace != Pace::Scale {
            return;
        }
        let now = self.config.time.at(wall());
        let been = self.recorders.iter().map(|recorder| recorder.sealed).fold(self.farm.now(), Timestamp::max);
        if now.millis_since(been) > CATCH_UP_MS {
            tracing::info!(from = %been, until = %now, "the nodes were off");
            self.off_until = now;
            self.recorders.iter_mut().for_each(|recorder| recorder.open.clear());
        } else if now < been {
            tracing::warn!(clock = %now, farm = %been, "the clock is behind the farm, which waits for it");
        }
    }

    /// What each station's connection needs.
    fn identities(&self) -> anyhow::Result<Vec<client::Identity>> {
        let config = &self.config;
        let broker = config.broker_address().context("the broker is not host:port")?;
        let passwords = config.all_passwords().map_err(|problem| anyhow!("{problem}"))?;
        let read = |path: PathBuf| std::fs::read(&path).with_context(|| format!("{path:?}"));
        let ca = config.tls.as_ref().map(|tls| read(tls.ca.clone())).transpose()?;
        self.farm
            .stations(config)
            .into_iter()
            .map(|station| {
                let id = &station.id;
                let certificates = config.tls.as_ref().and_then(|tls| tls.certificates.as_ref());
                let pair =
                    |dir: &PathBuf| Ok((read(dir.join(format!("{id}.crt")))?, read(dir.join(format!("{id}.key")))?));
                let own = certificates.map(pair).transpose().map_err(|error: anyhow::Error| error)?;
                Ok(client::Identity {
                    farm: config.farm.id.clone(),
                    station: id.clone(),
                    birth: Birth {
                        boot: self.boot,
                        firmware: format!("node-sim {}", env!("CARGO_PKG_VERSION")),
                        interval_s: station.interval_s,
                        report_s: station.report_s,
                        channels: station.channels,
                        field: station.field,
                        latitude: station.position.map(|(latitude, _)| latitude),
                        longitude: station.position.map(|(_, longitude)| longitude),
                    },
                    broker: broker.clone(),
                    password: passwords.get(id).cloned(),
                    tls: ca.clone().map(|ca| Tls { ca, client: own }),
                })
            })
            .collect()
    }

    /// Runs the farm until it is stopped or at its end, and then waits for acknowledgements: without limit at its end, for
    /// [`FAREWELL`] when it is stopped.
    fn go(&mut self, stop: &CancellationToken, handle: &Handle) -> anyhow::Result<()> {
        while let Some(target) = self.next_target(stop, handle) {
            self.obey()?;
            self.go_on(target)?;
        }
        if self.at_end() {
            let now = self.farm.now();
            let off = self.farm.farm().and_then(|farm| farm.base().and_then(|base| base.off_until(now)));
            if let Some(off) = off {
                self.note(&Event::BaseStationOff(off))?;
            }
            let rest = self.recorders.iter_mut().filter_map(Recorder::seal).collect();
            self.hand_over(rest)?;
            // Time stands still now: who is out of reach would stay so.
            self.links.iter().for_each(|link| link.reaches(true));
            while self.waiting() > 0 && !stop.is_cancelled() {
                self.wait(LONGEST_SLEEP, stop, handle);
            }
        }
        let begun = Instant::now();
        while self.waiting() > 0 && begun.elapsed() < FAREWELL {
            handle.block_on(async {
                let _ = tokio::time::timeout(SHORTEST_SLEEP, self.progress.notified()).await;
            });
        }
        tracing::info!(
            farm_time = %self.farm.now(),
            readings = self.readings,
            lost = self.lost,
            waiting = self.waiting(),
            "the farm ends"
        );
        Ok(())
    }

    fn at_end(&self) -> bool {
        self.config.until.is_some_and(|until| self.farm.now() >= until) || self.farm.is_over()
    }

    /// Waits until the farm may go on, and says how far; none when it is stopped or at its end.
    fn next_target(&self, stop: &CancellationToken, handle: &Handle) -> Option<Timestamp> {
        if stop.is_cancelled() || self.at_end() {
            return None;
        }
        let now = self.farm.now();
        let target = match self.config.pace {
            Pace::Scale => {
                let scale = &self.config.time;
                let next = self
                    .farm
                    .next_switch()
                    .map_or(self.farm.next_sample(), |switch| switch.min(self.farm.next_sample()));
                let due = next.millis_since(scale.at(wall()));
                if due > 0 {
                    let sleep = scale.wall_duration(due).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
                    handle.block_on(async {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = tokio::time::sleep(sleep) => {}
                        }
                    });
                }
                scale.at(wall()).min(now.plus_millis(PIECE_MS))
            }
            Pace::Acknowledged => {
                // A base station is on until it has handed on everything.
                let most = if self.farm.base_is_on() { 1 } else { self.config.ahead as usize };
                while !stop.is_cancelled() && self.links.iter().any(|link| link.is_reaching() && link.waiting() >= most)
                {
                    self.wait(LONGEST_SLEEP, stop, handle);
                }
                now.plus_secs(i64::from(self.config.farm.sample_s))
            }
        };
        let target = self.farm.next_switch().map_or(target, |switch| target.min(switch));
        Some(self.config.until.map_or(target, |until| target.min(until)))
    }

    /// Waits for an acknowledgement or a command.
    fn wait(&self, most: Duration, stop: &CancellationToken, handle: &Handle) {
        handle.block_on(async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.progress.notified() => {}
                () = tokio::time::sleep(most) => {}
            }
        });
    }

    /// Carries out what the gateway has commanded. A command is in the journal before it has an effect.
    fn obey(&mut self) -> anyhow::Result<()> {
        for index in 0..self.links.len() {
            self.set_clock(index);
            self.take_models(index)?;
            for (id, minutes) in self.links[index].take_commands() {
                if matches!(self.farm, Feed::Replayed(_)) {
                    let station = &self.recorders[index].station;
                    tracing::warn!(%station, minutes, "what was measured cannot be irrigated");
                    continue;
                }
                let station = self.recorders[index].station.clone();
                let irrigation = Irrigation { at: self.farm.now(), station, minutes, id };
                self.store.append(&[Record::Irrigation(irrigation)])?;
                self.farm.irrigate(index, minutes);
                self.links[index].irrigated(id);
            }
        }
        Ok(())
    }

    /// Carries out commands about a station's models, and answers each: the gateway may not know how they stand.
    fn take_models(&mut self, index: usize) -> anyhow::Result<()> {
        let commands = self.links[index].take_model_commands();
        let recorder = &mut self.recorders[index];
        let Some(models) = recorder.models().filter(|_| !commands.is_empty()) else { return Ok(()) };
        commands.iter().for_each(|command| models.obey(command));
        let (news, status, bytes) = (models.is_news(), models.status(), models.save());
        if news {
            self.store.append(&[Record::Models(recorder.station.clone(), bytes)])?;
        }
        self.links[index].set_models(status);
        Ok(())
    }

    /// Keeps and tells what became of models by what they judged.
    fn note_models(&mut self) -> anyhow::Result<()> {
        for (recorder, link) in self.recorders.iter_mut().zip(&self.links) {
            let Some(models) = recorder.models() else { continue };
            if !models.is_news() {
                continue;
            }
            let (status, bytes) = (models.status(), models.save());
            let station = &recorder.station;
            tracing::info!(%station, state = status.state.name(), status.reason, status.judged, status.alerts, "models");
            self.store.append(&[Record::Models(station.clone(), bytes)])?;
            link.set_models(status);
        }
        Ok(())
    }

    /// Sets a node's clock as the gateway has told. Where the farm does not go by the clock, neither do its nodes.
    fn set_clock(&mut self, index: usize) {
        let Some((told, came)) = self.links[index].take_time() else { return };
        let station = &self.recorders[index].station;
        if self.config.pace != Pace::Scale {
            tracing::debug!(%station, %told, "the farm does not go by the clock");
            return;
        }
        let now = self.config.time.at(wall());
        let shown = told.plus_millis((came.elapsed().as_secs_f64() * 1000.0 * self.config.time.speed) as i64);
        let off_ms = self.clocks[index].ahead_ms(now);
        self.clocks[index].set(now, shown);
        tracing::info!(%station, off_ms, ahead_ms = self.clocks[index].ahead_ms(now), "the clock is set");
    }

    /// Brings the farm to a moment, and hands over the reports that are due on the way.
    fn go_on(&mut self, target: Timestamp) -> anyhow::Result<()> {
        let mut reports = Vec::new();
        loop {
            let command = self.replay.front().filter(|command| command.at <= target).cloned();
            let to = command.as_ref().map_or(target, |command| command.at);
            let (recorders, links, off_until, readings) =
                (&mut self.recorders, &self.links, self.off_until, &mut self.readings);
            let by_clock = self.config.pace == Pace::Scale;
            self.farm.advance(to, |sample| {
                if sample.time > off_until {
                    let recorder = &mut recorders[sample.station];
                    record(recorder, sample, readings, &mut reports);
                    links[sample.station].restarted(recorder.next.boot);
                    links[sample.station].reaches(sample.reaches);
                    links[sample.station].goes_by(sample.path.filter(|_| by_clock));
                }
            });
            self.switch_base();
            let Some(command) = command else { break };
            if let Some(&index) = self.indexes.get(&command.station) {
                self.farm.irrigate(index, command.minutes);
            }
            self.replay.pop_front();
        }
        self.note_faults()?;
        self.hand_over(reports)?;
        self.note_models()?;
        if self.farm.now().millis_since(self.kept) >= KEEP_MS || self.store.journal_bytes() > JOURNAL_BYTES {
            self.keep()?;
            tracing::info!(
                farm_time = %self.farm.now(),
                readings = self.readings,
                lost = self.lost,
                waiting = self.waiting(),
                "the farm goes on"
            );
        }
        Ok(())
    }

    /// Tells the nodes whether and how they reach the gateway now.
    fn tell_reach(&mut self) {
        // Only a farm that goes by the clock has a time that a connection could take.
        let by_clock = self.config.pace == Pace::Scale;
        let reach = self.farm.farm().map(Farm::reach).unwrap_or_default();
        for (link, (reaches, path)) in self.links.iter().zip(reach) {
            link.reaches(reaches);
            link.goes_by(path.filter(|_| by_clock));
        }
    }

    /// Tells the nodes that the base station has been switched on or off.
    fn switch_base(&mut self) {
        let on = self.farm.base_is_on();
        if on == std::mem::replace(&mut self.base_was_on, on) || self.farm.now() <= self.off_until {
            return;
        }
        self.tell_reach();
    }

    /// Writes the faults and the base station's off-times that have begun to the truth log, but for those that were over before the nodes were on.
    fn note_faults(&mut self) -> anyhow::Result<()> {
        while let Some((_, end, event)) = self.faults.pop_front_if(|(start, ..)| *start <= self.farm.now()) {
            if end > self.off_until {
                self.note(&event)?;
            }
        }
        let (now, off_until) = (self.farm.now(), self.off_until);
        let begun: Vec<Fault> = self.random.iter_mut().flat_map(|random| random.until(now)).collect();
        for fault in begun.iter().filter(|fault| fault.end > off_until) {
            self.note(&Event::fault(fault))?;
        }
        for off in self.farm.farm().map(Farm::take_off_times).unwrap_or_default() {
            self.note(&Event::BaseStationOff(off))?;
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) -> anyhow::Result<()> {
        match &mut self.truth {
            Some(truth) => truth.write_event(event).context("truth log"),
            None => Ok(()),
        }
    }

    /// Journal, truth log, node: in this order, so that what is published is known to both.
    fn hand_over(&mut self, reports: Vec<Report>) -> anyhow::Result<()> {
        if reports.is_empty() {
            return Ok(());
        }
        let records: Vec<Record> = reports.into_iter().map(Record::Made).collect();
        self.store.append(&records)?;
        if let Some(truth) = &mut self.truth {
            truth.write_reports(records.iter().filter_map(Record::made)).context("truth log")?;
        }
        for report in records.iter().filter_map(Record::made) {
            if let Some(&index) = self.indexes.get(&report.station) {
                self.give(index, entry(report, &self.clocks[index])?)?;
            }
        }
        Ok(())
    }

    /// Gives a node a report, and notes what it lost for it.
    fn give(&mut self, index: usize, entry: Entry) -> anyhow::Result<()> {
        for lost in self.links[index].push(entry) {
            let station = &self.recorders[index].station;
            if self.lost == 0 {
                tracing::warn!(%station, "a full ring loses its oldest readings");
            }
            self.lost += lost.readings;
            self.note(&Event::lost(&self.recorders[index].station.clone(), &lost))?;
        }
        Ok(())
    }

    /// How many reports wait for an acknowledgement.
    fn waiting(&self) -> usize {
        self.links.iter().map(|link| link.waiting()).sum()
    }

    /// Keeps the farm as it is.
    fn keep(&mut self) -> anyhow::Result<()> {
        let mut records = Vec::new();
        for (recorder, link) in self.recorders.iter_mut().zip(&self.links) {
            let models = recorder.models().map(|models| models.save());
            let station = &recorder.station;
            records.extend(models.map(|bytes| Record::Models(station.clone(), bytes)));
            records.extend(link.entries().into_iter().map(|entry| Record::Waiting(station.clone(), entry)));
            records.extend(link.last_irrigated().map(|id| Record::Irrigated(station.clone(), id)));
            if !recorder.open.is_empty() {
                let readings = recorder.open.clone();
                records.push(Record::Open(Report {
                    station: station.clone(),
                    boot: recorder.next.boot,
                    sequence: 0,
                    readings,
                }));
            }
        }
        records.extend(self.replay.iter().cloned().map(Record::Irrigation));
        self.store.keep(Keep {
            boot: self.recorders.iter().map(|recorder| recorder.next.boot).fold(self.boot, u32::max),
            truth_length: self.truth.as_ref().and_then(TruthLog::length),
            sealed: self.recorders.iter().map(|recorder| (recorder.station.clone(), recorder.sealed)).collect(),
            farm: self.farm.state(),
            records,
        })?;
        self.kept = self.farm.now();
        match (&self.config.truth_dir, self.farm.seasons()) {
            (Some(dir), Some(seasons)) => write_seasons(dir, &seasons).context("season report"),
            _ => Ok(()),
        }
    }

    /// Keeps the farm for the last time.
    fn close(mut self) -> anyhow::Result<()> {
        self.keep()?;
        match &self.truth {
            Some(truth) => truth.sync().context("truth log"),
            None => Ok(()),
        }
    }
}

/// What a scenario and wrong clocks tell the truth log, in order of their start.
fn events<'a>(
    scenario: &Scenario,
    clocks: impl Iterator<Item = &'a ClockFault>,
) -> VecDeque<(Timestamp, Timestamp, Event)> {
    let faults = scenario.faults.iter().map(|fault| (fault.start, fault.end, Event::fault(fault)));
    let clocks = clocks.map(|fault| (fault.start, fault.end, Event::clock(fault)));
    let irrigations = scenario.irrigations.iter().map(|fault| (fault.start, fault.end, Event::irrigation(fault)));
    let mut events: Vec<_> = faults.chain(clocks).chain(irrigations).collect();
    events.sort_by_key(|(start, ..)| *start);
    events.into()
}

/// Takes a sample, unless it is in a report already (the farm has gone back to where it was kept), and makes the report
/// that is due after it.
fn record(recorder: &mut Recorder, sample: &Sample<'_>, readings: &mut u64, reports: &mut Vec<Report>) {
    if sample.time <= recorder.sealed {
        return;
    }
    if sample.restarted {
        // What it had in its memory before is of the boot before.
        reports.extend(recorder.seal());
        recorder.next = Key::first_of(recorder.next.boot.saturating_add(1));
        recorder.onboard.iter_mut().for_each(|onboard| onboard.restart(sample.watchdog_resets));
    }
    let before = recorder.open.len();
    match &mut recorder.onboard {
        Some(onboard) => onboard.sample(sample.readings, &mut recorder.open),
        None => recorder.open.extend_from_slice(sample.readings),
    }
    *readings += (recorder.open.len() - before) as u64;
    // A node without power reports nothing.
    if sample.reports && !sample.readings.is_empty() {
        reports.extend(recorder.seal());
    }
}

/// The report as the node sends it, with the times that its clock shows.
fn entry(report: &Report, clock: &NodeClock) -> anyhow::Result<Entry> {
    // One difference for the whole report: were it another for each reading, a clock that is set back would mix them up.
    let ahead_ms = report.readings.last().map_or(0, |last| clock.ahead_ms(last.reading.time));
    let shown = |reading: Reading| Reading { time: reading.time.plus_millis(ahead_ms), ..reading };
    let readings: Vec<Reading> = report.readings.iter().map(|measured| shown(measured.reading)).collect();
    let batch = Batch { boot: report.boot, sequence: report.sequence, readings };
    let payload =
        batch.encode().with_context(|| format!("report {} of station {}", report.sequence, report.station))?;
    Ok(Entry {
        boot: report.boot,
        sequence: report.sequence,
        readings: batch.readings.len() as u32,
        payload: Bytes::from(payload),
    })
}
