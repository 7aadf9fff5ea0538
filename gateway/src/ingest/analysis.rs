//! From the disk to the spool: what is stored goes through windows and detection, commit by commit, message by message.
//!
//! What an [`Emission`] keeps it keeps together with how far the analysis has come. After a restart the commits up to there
//! are only taken in, and those after it are gone through as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use proto::{Alert, StationId, TimeScale, Timestamp};

use super::clocks::{Aside, Watch};
use super::decisions::Decisions;
use super::replay;
use super::snapshot::{self, Shown, Snapshot, Snapshots, StationState};
use super::{Content, DISK_WAIT, Item, Shared, Stored, count, rhythm_of};
use crate::config::Config;
use crate::decode::sparkplug::valves;
use crate::deduplicate::Recent;
use crate::detect::barrier::Barrier;
use crate::detect::slots::Line;
use crate::detect::{self, Detector, RulesConfig};
use crate::door::Outbox;
use crate::model::Model;
use crate::nodes::Heard;
use crate::store::{Analysed, Cursor, Emission, Store, StoreError};
use crate::window::{Closed, Passed, Placed, Rhythm, Windows};

/// How often it is looked whether there is something else to do than to go through commits.
const TICK: Duration = Duration::from_millis(250);
/// How often idle windows and silent stations are looked for at most seldom.
const LOOK_MOST: Duration = Duration::from_secs(10);
/// And how often within the time after which a station is idle, or silent.
const LOOKS: f64 = 30.0;
/// How often the page's state is made anew.
const SNAPSHOT: Duration = Duration::from_millis(500);
/// How much the gateway itself may lag before silence counts as a station's, on the wall clock. It matters only where
/// the farm's clock runs faster than the machine.
const LAG: Duration = Duration::from_secs(3);
/// The most windows that are kept in one transaction. More would hold up a group commit.
const EMIT_AT_ONCE: usize = 500;
/// How long windows of a station that is not judged are kept for detection.
const UNJUDGED_MS: i64 = 2 * 86_400_000;
/// Windows wait for others, so that their rows share pages of the disk: a minute of farm time, but no less and no more than
/// this on the wall clock. Alerts and decisions do not wait.
const EMIT_WAIT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// How long the way since the last emission may get that is gone again after a restart.
const NOTE: Duration = Duration::from_secs(10);
/// How often some of the raw store is looked at for damage.
const SCRUB: Duration = Duration::from_secs(1);
/// How many commits are looked at each time.
const SCRUB_AT_ONCE: u32 = 16;
/// The most windows and alerts that wait for the disk. With more nothing more is gone through.
const WAITING_MOST: usize = 20_000;
/// The most silent stations that are carried at once.
const CARRY_AT_ONCE: usize = 200;

/// The thread that thinks.
#[derive(Debug)]
pub struct Analysis {
    config: Config,
    time: TimeScale,
    started: Timestamp,
    store: Store,
    pub(super) windows: Windows,
    clocks: Watch,
    pub(super) detector: Detector,
    /// Models that did not start, each with the reason.
    not_started: Vec<(String, String)>,
    /// Windows that wait for the other stations before they are judged.
    pub(super) barrier: Barrier,
    decisions: Decisions,
    /// Where it is handed on how stations stand with their models.
    heard: Option<Heard>,
    /// How far the commits are gone through.
    pub(super) done: Cursor,
    /// What was emitted, or counted, and is not on disk yet.
    waiting: VecDeque<Emission>,
    /// Counted since the last emission.
    uncounted: BTreeMap<String, u64>,
    /// Windows that closed since the last emission.
    closed: Vec<Closed>,
    /// Alerts that changed since the last emission.
    alerts: Vec<Alert>,
    /// What was kept aside since the last emission.
    aside: Vec<Aside>,
    /// Silent stations that are carried since the last emission, with what their open windows need.
    carried: Vec<(StationId, Vec<u8>)>,
    /// Stations that got readings since the last emission.
    moved: HashSet<StationId>,
    /// The most windows and alerts that are kept in one transaction.
    pub(super) emit_at_once: usize,
    /// When the last emission was.
    noted: Instant,
    /// How long windows wait for others.
    emit_wait: Duration,
    /// How often idle windows and silent stations are looked for.
    look_every: Duration,
    /// When it was last looked for them.
    looked: Instant,
    handed_over: Receiver<Stored>,
    pub(super) shared: Arc<Shared>,
    shown: Shown,
}

impl Analysis {
    pub(super) fn open(
        config: &Config,
        mut store: Store,
        models: Vec<(Model, Option<Model>)>,
        handed_over: Receiver<Stored>,
        shared: Arc<Shared>,
        now: Timestamp,
    ) -> Result<(Self, Recent, Snapshots), StoreError> {
        let mut windows = Windows::with(config.windows.shape(), config.filters()).heeding_order();
        let mut barrier = Barrier::new(config.windows.shape().idle_ms);
        barrier.resume(store.judged()?.unwrap_or(Timestamp::MIN));
        let mut emitted = store.emitted()?;
        for (station, analysed) in store.analysed()? {
            let emitted = emitted.remove(&station).unwrap_or_default();
            windows.restore(&station, analysed.rhythm, analysed.watermark, emitted);
            if let Some(reached) = analysed.reached {
                barrier.restore(station, reached);
            }
        }
        for (station, body) in store.beliefs()? {
            if let Err(error) = windows.restore_belief(&station, &body) {
                tracing::error!(%station, %error, "how far its clock is believed is found anew");
            }
        }
        for (station, blob) in store.carried()? {
            if let Err(error) = windows.restore_carried(&station, &blob) {
                tracing::error!(%station, %error, "what was carried of a silent station is lost");
            }
        }
        let mut clocks = Watch::new(&config.windows.shape().tolerance);
        let detector = detector(&mut store, models, config.rules.clone(), &mut barrier)?;
        let decisions = Decisions::new(&config.fields, store.field_states()?, valves(&config.sources));
        // Stores that were made before the analysis noted how far it was had gone through all they held.
        let done = store.cursor()?.unwrap_or(Cursor::after(shared.newest()));
        let mut recent = Recent::default();
        store.replay(|commit, index, message| {
            let Some((Item { station, content }, known)) = replay::item(&message) else { return };
            if let Some(sent) = known {
                recent.note(&station, sent);
            }
            if (commit, index) < (done.commit, done.messages) {
                let at = Timestamp::from_millis(message.at_ms);
                let placed = place(&mut windows, &station, &content, at, commit);
                // What is not needed any more is not placed.
                if placed != Placed::default() {
                    clocks.judge(&station, &content, &placed, at);
                }
            }
        })?;
        windows.resume(now);
        let (shown, snapshots) = Shown::new(Snapshot::at(now, shared.counters()));
        let (look_every, config, time) = (look_every(config), config.clone(), config.time);
        // The replay may have carried stations on from where the store has them: the first emission says so.
        let moved = windows.heard().map(|(station, ..)| station.clone()).collect();
        shared.counted(store.set_aside(now)?);
        let mut analysis = Self {
            config,
            time,
            started: now,
            store,
            windows,
            clocks,
            detector,
            not_started: Vec::new(),
            barrier,
            decisions,
            heard: None,
            done,
            waiting: VecDeque::new(),
            uncounted: BTreeMap::new(),
            closed: Vec::new(),
            alerts: Vec::new(),
            aside: Vec::new(),
            carried: Vec::new(),
            moved,
            emit_at_once: EMIT_AT_ONCE,
            noted: Instant::now(),
            emit_wait: on_the_wall(60_000.0, time, EMIT_WAIT),
            look_every,
            looked: Instant::now(),
            handed_over,
            shared,
            shown,
        };
        let closed = analysis.windows.close();
        analysis.closes(closed);
        analysis.judge(now);
        analysis.emit();
        analysis.show();
        Ok((analysis, recent, snapshots))
    }

    /// The same where some models did not start, each with the reason: the page names them.
    #[must_use]
    pub fn without(mut self, models: Vec<(String, String)>) -> Self {
        self.not_started = models;
        self.show();
        self
    }

    /// Works until the intake has ended and everything that is stored is gone through. Blocks: give it a thread of its own.
    ///
    /// # Errors
    /// When the store fails in a way that waiting does not heal.
    pub fn run(mut self, outbox: Outbox, heard: Option<Heard>, mut line: Option<Line>) -> Result<(), StoreError> {
        self.heard = heard;
        self.decisions.connect(outbox.clone());
        self.clocks.connect(outbox);
        let (mut tick, mut snapshot, mut scrub) = (Instant::now(), Instant::now(), Instant::now());
        let mut scrubbed = 0;
        self.catch_up()?;
        let now = self.now();
        let known: Vec<StationId> = self.windows.heard().map(|(station, ..)| station.clone()).collect();
        known.iter().for_each(|station| self.windows.hear(station, now));
        loop {
            let crowded = self.waiting.iter().map(Emission::len).sum::<usize>() >= WAITING_MOST;
            let open = if crowded {
                std::thread::sleep(DISK_WAIT);
                true
            } else {
                let patience = if self.is_behind() { Duration::ZERO } else { TICK.saturating_sub(tick.elapsed()) };
                match self.handed_over.recv_timeout(patience) {
                    Ok(stored) => {
                        self.take(stored)?;
                        true
                    }
                    Err(RecvTimeoutError::Timeout) => true,
                    Err(RecvTimeoutError::Disconnected) => false,
                }
            };
            if !crowded {
                // However far behind it is, the updater is heard and the page is made meanwhile.
                self.catch_up_until(Some(Instant::now() + TICK))?;
            }
            if scrub.elapsed() >= SCRUB {
                scrub = Instant::now();
                scrubbed = self.scrub(scrubbed)?;
            }
            if tick.elapsed() >= TICK {
                tick = Instant::now();
                if !crowded {
                    self.tick();
                }
                self.write()?;
                if self.waiting.is_empty() {
                    self.decisions.command(self.now());
                }
            }
            if let Some(line) = &mut line {
                self.obey(line);
            }
            if snapshot.elapsed() >= SNAPSHOT || self.shown.is_asked() {
                snapshot = Instant::now();
                self.show();
            }
            if !open {
                if !crowded {
                    self.catch_up()?;
                }
                self.emit();
                self.write()?;
                if !self.waiting.is_empty() {
                    tracing::error!("the last emissions could not be stored: they will be made again");
                }
                self.show();
                return Ok(());
            }
        }
    }

    /// Goes through a commit that was handed over, unless others come before it or it was found in the raw store.
    pub(super) fn take(&mut self, stored: Stored) -> Result<(), StoreError> {
        if self.done == Cursor::after(stored.commit - 1) {
            if stored.commit > self.shared.newest() {
                // The disk refuses it: what was found before must not wait with it, for it lets old readings go.
                self.emit();
                self.write()?;
            }
            for (index, item) in (0..).zip(stored.items) {
                self.go_through(stored.commit, index, Some(item), stored.at)?;
            }
            self.pass(stored.commit)?;
        }
        Ok(())
    }

    /// Whether something is stored that is not gone through: a commit, or the rest of one in whose middle an emission was the
    /// last before a restart.
    fn is_behind(&self) -> bool {
        self.done < Cursor::after(self.shared.newest())
    }

    /// Goes through the commits that were not handed over.
    pub(super) fn catch_up(&mut self) -> Result<(), StoreError> {
        self.catch_up_until(None)
    }

    fn catch_up_until(&mut self, until: Option<Instant>) -> Result<(), StoreError> {
        while self.is_behind()
            && until.is_none_or(|until| Instant::now() < until)
            && self.waiting.iter().map(Emission::len).sum::<usize>() < WAITING_MOST
        {
            let found = match self.store.commit_after(self.done) {
                // Even to read takes a little room on the disk at times.
                Err(error) if error.passes() => {
                    tracing::warn!(%error, "a commit cannot be read now; trying again");
                    break;
                }
                found => found?,
            };
            let Some((commit, messages)) = found else {
                // Nothing of those that are left can be read.
                self.pass(self.shared.newest())?;
                break;
            };
            let from = if commit == self.done.commit { self.done.messages } else { 0 };
            for (index, message) in (0..).zip(messages).skip(from as usize) {
                let item = replay::item(&message).map(|(item, _)| item);
                self.go_through(commit, index, item, Timestamp::from_millis(message.at_ms))?;
            }
            self.pass(commit)?;
        }
        Ok(())
    }

    /// Goes through one message.
    fn go_through(&mut self, commit: u64, index: u32, item: Option<Item>, at: Timestamp) -> Result<(), StoreError> {
        if let Some(Item { station, content }) = item {
            if let Content::Status { irrigated, model, .. } = &content {
                if let Some(id) = irrigated {
                    self.decisions.confirm(&station, *id);
                }
                if let (Some(heard), Some(model)) = (&self.heard, model) {
                    heard.tell(&station, (**model).clone(), at);
                }
            }
            if let Content::Birth(birth) = &content {
                self.detector.describe(&station, birth.field.as_ref());
            }
            let placed = place(&mut self.windows, &station, &content, at, commit);
            let now = self.now();
            let tells = self.shared.clock.doubt().is_none();
            self.aside.extend(self.clocks.follow(&station, &content, &placed, (at, now), tells, &mut self.uncounted));
            // After each message, so that what closes does not depend on which others came in its group.
            let Passed { closed, until, report_s } = self.windows.pass(&station);
            self.closes(closed);
            if let Some(until) = until {
                self.barrier.reach(&station, until, at, report_s);
            }
            self.judge(at);
            self.moved.insert(station);
        }
        self.done = Cursor { commit, messages: index + 1 };
        if self.found() >= self.emit_at_once {
            self.emit();
            self.write()?;
        }
        Ok(())
    }

    /// A commit is gone through.
    fn pass(&mut self, commit: u64) -> Result<(), StoreError> {
        self.done = Cursor::after(commit);
        if self.is_urgent() || self.noted.elapsed() >= if self.found() > 0 { self.emit_wait } else { NOTE } {
            self.emit();
            self.write()?;
        }
        Ok(())
    }

    /// Whether something is found that nobody should wait for.
    fn is_urgent(&self) -> bool {
        !self.alerts.is_empty() || self.decisions.len() > 0
    }

    /// Windows have closed, or were amended.
    fn closes(&mut self, closed: Vec<Closed>) {
        for closed in closed {
            for (reason, by) in closed.newly_rejected.by_reason() {
                if by > 0 {
                    count(&mut self.uncounted, format!("rejected.{reason}"), u64::from(by));
                }
            }
            self.barrier.put(closed.window.clone());
            self.closed.push(closed);
        }
    }

    /// Lets the boundaries that are complete go through detection and decisions; what completed them came at `at`.
    fn judge(&mut self, at: Timestamp) {
        while let Some(windows) = self.barrier.complete() {
            self.alerts.extend(self.detector.observe(&windows));
            self.decisions.decide(&windows, at, &self.detector);
        }
    }

    /// How many windows, alerts and decisions wait for an emission.
    fn found(&self) -> usize {
        self.closed.len() + self.alerts.len() + self.decisions.len()
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

    fn tick(&mut self) {
        if self.looked.elapsed() >= self.look_every {
            self.looked = Instant::now();
            self.look();
        }
        let waited = self.found() > 0 && self.noted.elapsed() >= self.emit_wait;
        if self.is_urgent() || waited || !self.carried.is_empty() || !self.uncounted.is_empty() {
            self.emit();
        }
    }

    /// Closes the windows of stations that are idle, and looks for silent ones.
    fn look(&mut self) {
        let now = self.now();
        let least_ms = (LAG.as_millis() as f64 * self.time.speed) as i64;
        let closed = self.windows.close_idle(now, least_ms);
        if !closed.is_empty() {
            let rested: Vec<_> = closed.iter().map(|c| (c.window.station.clone(), c.window.end())).collect();
            self.closes(closed);
            for (station, until) in rested {
                self.barrier.rest(&station, until);
                self.moved.insert(station);
            }
            self.judge(now);
            self.emit();
        }
        // Only what is not just behind here: carrying costs a write.
        if !self.is_behind() {
            self.carried = self.windows.carry(now, least_ms, CARRY_AT_ONCE);
            self.moved.extend(self.carried.iter().map(|(station, _)| station.clone()));
        }
        let mut heard: Vec<_> = self.windows.heard().collect();
        heard.sort_unstable_by_key(|(station, ..)| *station);
        let heard =
            heard.into_iter().map(|(station, rhythm, last)| detect::Heard { station, last, report_s: rhythm.report_s });
        self.alerts.extend(self.detector.tick(now, heard));
    }

    /// Puts what closed, and what was found in it, where it waits for the disk.
    pub(super) fn emit(&mut self) {
        self.noted = Instant::now();
        let (windows, alerts) = (std::mem::take(&mut self.closed), std::mem::take(&mut self.alerts));
        let shape = self.config.windows.shape();
        let final_ms = shape.tolerance.lateness_ms + shape.context_ms + i64::from(shape.length_s) * 1000;
        let stations: BTreeSet<&StationId> = windows.iter().map(|c| &c.window.station).collect();
        let (mut final_before, mut history_before) = (BTreeMap::new(), BTreeMap::new());
        for station in stations {
            if let Some(watermark) = self.windows.watermark(station) {
                final_before.insert(station.clone(), watermark.plus_millis(-final_ms));
            }
            let seldom = || Some(self.windows.watermark(station)?.plus_millis(-UNJUDGED_MS));
            if let Some(from) = self.detector.history_from(station).or_else(seldom) {
                history_before.insert(station.clone(), from);
            }
        }
        let analysed = |station: StationId| {
            let analysed = Analysed {
                watermark: self.windows.watermark(&station),
                rhythm: self.windows.rhythm(&station),
                reached: self.barrier.reached(&station),
            };
            (station, analysed)
        };
        let moved = std::mem::take(&mut self.moved);
        let beliefs = moved.iter().filter_map(|id| Some((id.clone(), self.windows.belief(id)?))).collect();
        let moved = moved.into_iter().map(analysed).collect();
        for alert in &alerts {
            tracing::info!(id = alert.id, closed = alert.closed.is_some(), score = alert.score, alert.message, "alert");
        }
        let (decisions, fields) = self.decisions.take();
        let mut counters = std::mem::take(&mut self.uncounted);
        for (name, by) in [("windows", windows.len() as u64), ("windows_judged", self.detector.take_judged())] {
            if by > 0 {
                count(&mut counters, name, by);
            }
        }
        self.waiting.push_back(Emission {
            windows,
            alerts,
            decisions,
            fields,
            cursor: self.done,
            counters,
            replay_from: self.windows.oldest_commit(),
            judged: self.barrier.judged(),
            analysed: moved,
            beliefs,
            states: self.detector.news(),
            carried: std::mem::take(&mut self.carried),
            quarantined: std::mem::take(&mut self.aside),
            final_before,
            history_before,
        });
    }

    /// Brings to disk what waits for it, as far as the disk takes it. What concerns a commit that is not on disk itself
    /// waits for that: a number that was remembered as gone through must not be given to other messages.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        while let Some(emission) = self.waiting.front().filter(|e| e.cursor.commit <= self.shared.newest()) {
            match self.store.emit(emission, self.now()) {
                Ok(()) => {}
                Err(error) if error.passes() => {
                    tracing::error!(%error, waiting = self.waiting.len(), "an emission could not be stored; trying again");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            let needed = emission.replay_from.unwrap_or(u64::MAX).min(emission.cursor.commit);
            self.shared.needed.store(needed, Ordering::Release);
            if let Some(emission) = self.waiting.pop_front() {
                self.shared.counted(emission.counters);
            }
        }
        Ok(())
    }

    /// Looks at some more of the raw store for damage, from `from` on, and sets aside what was found. Gives where to go on.
    pub(super) fn scrub(&mut self, from: u64) -> Result<u64, StoreError> {
        let now = self.now();
        let looked = self.store.scrub(from, SCRUB_AT_ONCE).and_then(|next| Ok((next, self.store.set_aside(now)?)));
        let (next, counters) = match looked {
            Err(error) if error.passes() => {
                tracing::warn!(%error, "the raw store cannot be looked at now; trying again");
                return Ok(from);
            }
            looked => looked?,
        };
        self.shared.counted(counters);
        Ok(next.unwrap_or(0))
    }

    /// Makes the state for the page and the cloud anew.
    fn show(&mut self) {
        let now = self.now();
        let counters = self.shared.counters();
        let mut alerts: Vec<Alert> = self.detector.open().cloned().collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.opened));
        let running = self.detector.running();
        // One that did not start may have been started since.
        let runs = |label: &str| running.iter().any(|model| label == format!("{} {}", model.name, model.version));
        let not_started = self.not_started.iter().filter(|(label, _)| !runs(label)).cloned();
        let failed_models = not_started.chain(self.detector.failed()).collect();
        let mut status = Snapshot::at(now, counters.clone()).status;
        status.started = self.started;
        status.models = running;
        status.stations = u32::try_from(self.windows.heard().count()).unwrap_or(u32::MAX);
        status.disk_bytes = self.store.disk_bytes();
        status.rejected = snapshot::rejected(&counters);
        let unmapped = self.shared.unmapped.all();
        let fields = self.decisions.standing();
        let raw_bytes = self.shared.raw_bytes();
        let first = Snapshot::at(now, counters);
        let own_clock = (self.shared.clock.correction_ms(), self.shared.clock.doubt());
        let snapshot = Snapshot { status, fields, alerts, failed_models, raw_bytes, unmapped, own_clock, ..first };
        let (windows, clocks) = (&self.windows, &self.clocks);
        let station = |(id, rhythm, heard): (&StationId, Rhythm, Timestamp)| StationState {
            id: id.clone(),
            heard,
            report_s: rhythm.report_s,
            latest: windows.latest(id).collect(),
            clock: clocks.state(id),
        };
        self.shown.show(snapshot, || {
            let mut stations: Vec<StationState> = windows.heard().map(station).collect();
            stations.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            stations.into()
        });
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.correct(self.time.at(crate::wall_clock()))
    }
}

/// How often idle windows and silent stations are to be looked for, on the wall clock.
fn look_every(config: &Config) -> Duration {
    let patience_ms = config.windows.shape().idle_ms.min(i64::from(config.rules.silent_min_s) * 1000);
    on_the_wall(patience_ms as f64 / LOOKS, config.time, [TICK, LOOK_MOST])
}

/// So many ms of farm time on the wall clock, within bounds.
fn on_the_wall(ms: f64, time: TimeScale, [least, most]: [Duration; 2]) -> Duration {
    let seconds = ms / (1000.0 * time.speed.max(f64::MIN_POSITIVE));
    Duration::from_secs_f64(seconds.clamp(least.as_secs_f64(), most.as_secs_f64()))
}

/// The detector with the state that it had. Of stations whose state is lost it makes it again from their history, as well as
/// that goes.
fn detector(
    store: &mut Store,
    models: Vec<(Model, Option<Model>)>,
    rules: RulesConfig,
    barrier: &mut Barrier,
) -> Result<Detector, StoreError> {
    let (states, mut alerts) = (store.states()?, store.open_alerts()?);
    alerts.retain(|alert| !states.contains_key(&alert.station));
    let mut detector = Detector::new(models, rules, alerts);
    let mut known = BTreeSet::new();
    for (station, state) in states {
        match detector.remember(&station, &state) {
            Ok(()) => drop(known.insert(station)),
            Err(error) => tracing::error!(%station, %error, "its state is made again from its history"),
        }
    }
    let mut unknown = Vec::new();
    for window in store.history()? {
        if window.end() > barrier.judged() {
            barrier.put(window);
        } else if known.contains(&window.station) {
            detector.recall(&window);
        } else {
            unknown.push(window);
        }
    }
    detector.warm(unknown.into_iter());
    Ok(detector)
}

/// Takes what a message says into the windows.
fn place(windows: &mut Windows, station: &StationId, content: &Content, at: Timestamp, commit: u64) -> Placed {
    match content {
        Content::Batch(origin, readings) => return windows.insert(station, *origin, readings, at, commit),
        Content::Plain(readings) => return windows.insert_plain(station, readings, at, commit),
        Content::Birth(birth) => {
            windows.describe(station, rhythm_of(birth));
            windows.hear(station, at);
        }
        Content::Status { online: true, .. } => windows.hear(station, at),
        Content::Status { online: false, .. } | Content::Foreign => {}
    }
    Placed::default()
}
