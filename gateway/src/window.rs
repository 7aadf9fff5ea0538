//! Event-time windows: from readings in any order to aggregates that no order changes.
//!
//! Each channel keeps its readings of the last hours in order of time. An aggregate is a *pure function* of the readings in
//! its window and the few beside it that the filters look at; it is computed when its window closes, and again when a later
//! arrival could change it. So the last revision of a window depends on which readings came, never on when, how often,
//! or in which pieces they came, nor on whether the gateway was killed in between.
//!
//! A station's *watermark* is the time of its newest reading, but never ahead of the gateway's clock. A window closes when the watermark has passed its end by as
//! many readings as the outlier filter looks ahead, or when the station has been idle for long. A reading no more than the
//! allowed lateness behind the watermark amends its window, which is emitted again with a higher revision if its content
//! changed. What comes later than that is counted, and stays in the raw store.
//!
//! A wrong clock must not move the watermark, or all good readings after it would be late. So readings of a time that
//! cannot be are in no window (see [`Timing`]), and a leap of the watermark that the gateway's own clock does not confirm
//! waits until some batches have made it ([`LEAP_BATCHES`]). With [`Windows::heeding_order`] batches that go back behind
//! what their station had sent before, at the pace at which they are made, are taken for those of a clock that was set back.
//!
//! This module must not know of the store, the network or the wall clock: times are parameters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use proto::{Aggregate, Channel, Quantity, Reading, StationId, Timestamp, Window};

use crate::filter::HALF_WIDTH;
use crate::limits::Filters;
use crate::validate::{Limits, Timing, Tolerance, timing};

mod batches;
mod belief;
mod carry;
mod judge;

use batches::{Batches, Placing};
use belief::{Before, Belief};
pub use carry::CarriedError;
pub use judge::RejectCounts;
use judge::{aggregate, digest, judge};

/// Batches in a row that leap ahead, without being fresh by the gateway's clock, before the watermark follows.
pub const LEAP_BATCHES: u32 = 4;
/// Batches that come closer together than this, in ms, tell nothing about the pace at which they are made.
const PACE_MS: i64 = 10_000;
/// The sampling interval that is assumed of a station that has not said its own.
const DEFAULT_INTERVAL_S: u32 = 300;

/// How windows are cut and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The length of a window, in seconds.
    pub length_s: u32,
    /// How far readings may be apart and still be neighbours for the filters.
    pub context_ms: i64,
    /// How long nothing may come from a station before its windows close without more.
    pub idle_ms: i64,
    /// Which times are believed.
    pub tolerance: Tolerance,
}

impl Shape {
    const fn length_ms(&self) -> i64 {
        self.length_s as i64 * 1000
    }

    /// How far behind the watermark readings are kept: a reading that comes as late as is allowed changes the verdict on
    /// its neighbours within the context, and their windows need what the filters look back at.
    const fn keep_ms(&self, look_back_ms: i64) -> i64 {
        self.tolerance.lateness_ms + self.context_ms + look_back_ms + self.length_ms()
    }

    /// A gap in a station's readings that is no gap but a leap until it is confirmed.
    fn leap_ms(&self) -> i64 {
        self.tolerance.lateness_ms.max(self.context_ms)
    }

    /// Whether no reading that is still taken could change the window that starts at `start`.
    fn is_final(&self, start: Timestamp, watermark: Timestamp) -> bool {
        watermark.millis_since(start) >= self.length_ms() + self.context_ms + self.tolerance.lateness_ms
    }
}

/// Which batch a reading came in. Of two readings of one channel and time the first by origin counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The station's boot number.
    pub boot: u32,
    /// The batch's sequence in that boot.
    pub sequence: u64,
}

impl Origin {
    /// The origin of a reading that came without boot and sequence: its value. So the same reading has the same origin in
    /// whatever payload it comes, and of two that differ the same one counts, whichever came first. No native batch is
    /// taken for one: boots count from 1.
    #[must_use]
    pub fn plain(value: f64) -> Self {
        Self { boot: 0, sequence: value.to_bits() }
    }
}

/// Where the readings of one batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed {
    /// Into a window, to be accepted or rejected there.
    pub windowed: u32,
    /// Nowhere: later than the allowed lateness.
    pub late: u32,
    /// Nowhere: from the future.
    pub future: u32,
    /// Nowhere: from long ago, or from before what the station had sent already.
    pub clock: u32,
    /// The first of those that a wrong clock has timed (`future` and `clock`).
    pub wrong: Option<WrongTime>,
}

/// A time that cannot be, and what could have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongTime {
    /// The reading's time.
    pub time: Timestamp,
    /// The earliest that would have been taken.
    pub from: Timestamp,
    /// The latest.
    pub until: Timestamp,
}

/// What was last emitted of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emitted {
    /// Its revision.
    pub revision: u32,
    /// A digest of its aggregates.
    pub digest: i64,
    /// Its rejected readings.
    pub rejected: RejectCounts,
}

/// A window that closed, or was amended.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// What is emitted.
    pub window: Window,
    /// What to remember of it.
    pub emitted: Emitted,
    /// By how much each reason's rejections grew since the revision before.
    pub newly_rejected: RejectCounts,
}

/// What a station tells about itself that its windows depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// Seconds between two readings of a channel.
    pub interval_s: u32,
    /// Seconds between two reports.
    pub report_s: u32,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { interval_s: DEFAULT_INTERVAL_S, report_s: DEFAULT_INTERVAL_S }
    }
}

/// A reading in its place. There are many: what they have in common is kept with their batch.
#[derive(Debug, Clone, Copy)]
struct Entry {
    time: Timestamp,
    value: f64,
    /// Which of the station's [`Batches`] it came in; [`PLAIN`] when its value says its origin.
    batch: u32,
    /// Place in its batch.
    index: u16,
}

/// A channel's readings of the last hours.
#[derive(Debug)]
struct Series {
    limits: Arc<Limits>,
    entries: VecDeque<Entry>,
}

/// A commit whose readings are kept.
#[derive(Debug, Clone)]
struct Kept {
    commit: u64,
    newest: Timestamp,
    /// What was believed before it came.
    before: Before,
}

#[derive(Debug, Default)]
struct Station {
    rhythm: Rhythm,
    belief: Belief,
    /// The last commit, and what was believed before it came.
    begun: Option<(u64, Belief)>,
    /// When readings last came that were believed, by the gateway's clock.
    grown: Option<Timestamp>,
    /// During a replay: the watermark that the station had reached before.
    reached: Option<Timestamp>,
    /// During a replay: the oldest commit that is needed of the station.
    needed_from: Option<u64>,
    /// When anything last came, by the gateway's clock.
    heard: Option<Timestamp>,
    batches: Batches,
    channels: BTreeMap<Channel, Series>,
    /// Starts of windows whose aggregates may have changed since they were last computed.
    open: BTreeSet<Timestamp>,
    emitted: BTreeMap<Timestamp, Emitted>,
    /// In the order in which they came.
    commits: VecDeque<Kept>,
}

/// The windows of all stations.
#[derive(Debug)]
pub struct Windows {
    shape: Shape,
    filters: Filters,
    keep_ms: i64,
    /// Whether a station's batches must be in order of time.
    in_order: bool,
    stations: HashMap<StationId, Station>,
    /// Stations that got readings since they were closed.
    touched: HashSet<StationId>,
}

impl Windows {
    /// No windows yet. `limits` gives what is expected of each quantity.
    #[must_use]
    pub fn new(shape: Shape, limits: impl Fn(Quantity) -> Limits) -> Self {
        Self::with(shape, Filters::new(limits))
    }

    /// No windows yet, with filters that may differ by channel and station.
    #[must_use]
    pub fn with(shape: Shape, filters: Filters) -> Self {
        let keep_ms = shape.keep_ms(filters.look_back_ms(shape.context_ms));
        Self { shape, filters, keep_ms, in_order: false, stations: HashMap::new(), touched: HashSet::new() }
    }

    /// Takes a native station for one whose clock was set back when a batch lies behind an earlier one of it by more than a
    /// clock may be ahead, and the batch before it did too, by as much: then it is in no window. The order of batches is told
    /// by their origins. Readings that a station sends late, one after the other, come faster than they were made, and
    /// are none of a wrong clock; the first report of one that was set back is not yet known for it.
    #[must_use]
    pub fn heeding_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Sets what `station` has said about its rhythm.
    pub fn describe(&mut self, station: &StationId, rhythm: Rhythm) {
        self.station(station).rhythm = rhythm;
    }

    /// Something came from `station`.
    pub fn hear(&mut self, station: &StationId, now: Timestamp) {
        self.station(station).heard = Some(now);
    }

    /// Takes in a batch, and says where its readings went. `commit` is the raw store's row that holds it. A reading that
    /// is there already, of the same origin, changes nothing. During a replay nothing is placed of a commit that is not
    /// needed of the station.
    pub fn insert(
        &mut self,
        id: &StationId,
        origin: Origin,
        readings: &[Reading],
        now: Timestamp,
        commit: u64,
    ) -> Placed {
        let (shape, keep_ms) = (self.shape, self.keep_ms);
        if !self.touched.contains(id) {
            self.touched.insert(id.clone());
        }
        let station = self.stations.entry(id.clone()).or_default();
        station.heard = Some(now);
        if station.needed_from.is_some_and(|needed| commit < needed) {
            return Placed::default();
        }
        let (_, believed) = *match &mut station.begun {
            Some(begun) if begun.0 == commit => begun,
            begun => begun.insert((commit, station.belief)),
        };
        let before = station.belief.watermark;
        let kept_from = station.reached.map(|r| r.plus_millis(-keep_ms));
        let behind = if self.in_order { station.belief.set_back(&shape, origin, readings, now) } else { None };
        let mut placed = Placed::default();
        let mut newest: Option<Timestamp> = None;
        for (index, reading) in (0u16..).zip(readings) {
            let mut wrong = |from: Timestamp| {
                let until = now.plus_millis(shape.tolerance.future_ms);
                placed.wrong.get_or_insert(WrongTime { time: reading.time, from, until });
            };
            let oldest = || now.plus_millis(shape.tolerance.oldest_ms.saturating_neg());
            match timing(reading.time, before, now, &shape.tolerance) {
                Timing::Future => {
                    wrong(oldest());
                    placed.future += 1;
                }
                Timing::Past => {
                    wrong(oldest());
                    placed.clock += 1;
                }
                Timing::Believed | Timing::Late if let Some(from) = behind => {
                    wrong(from);
                    placed.clock += 1;
                }
                Timing::Late => placed.late += 1,
                Timing::Believed => {
                    placed.windowed += 1;
                    newest = newest.max(Some(reading.time));
                    if kept_from.is_some_and(|from| reading.time < from) {
                        continue;
                    }
                    let placing = Placing { time: reading.time, origin, index, value: reading.value };
                    station.place(&shape, &self.filters, id, reading.channel, placing);
                }
            }
        }
        if let Some(newest) = newest {
            station.grown = Some(now);
            station.belief.follow(&shape, origin, newest, now);
            match station.commits.back_mut() {
                Some(last) if last.commit == commit => last.newest = newest.max(last.newest),
                _ => station.commits.push_back(Kept { commit, newest, before: believed.into() }),
            }
        }
        placed
    }

    /// Takes in readings that came without boot and sequence, in order of time. One that is there already, of the same
    /// channel, time and value, changes nothing.
    pub fn insert_plain(&mut self, id: &StationId, readings: &[Reading], now: Timestamp, commit: u64) -> Placed {
        let mut all = Placed::default();
        for reading in readings {
            let one = self.insert(id, Origin::plain(reading.value), std::slice::from_ref(reading), now, commit);
            all.windowed += one.windowed;
            all.late += one.late;
            all.future += one.future;
            all.clock += one.clock;
            all.wrong = all.wrong.or(one.wrong);
        }
        all
    }

    /// Closes what can be closed after the last inserts, ordered by start, then station.
    pub fn close(&mut self) -> Vec<Closed> {
        let mut closed = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            if let Some(station) = self.stations.get_mut(&id) {
                station.close(&self.shape, self.keep_ms, &id, false, &mut closed);
            }
        }
        ordered(closed)
    }

    /// Closes what can be closed of `station` after the last inserts, ordered by start.
    pub fn close_of(&mut self, id: &StationId) -> Vec<Closed> {
        let mut closed = Vec::new();
        if self.touched.remove(id)
            && let Some(station) = self.stations.get_mut(id)
        {
            station.close(&self.shape, self.keep_ms, id, false, &mut closed);
        }
        closed
    }

    /// Closes the windows of stations that have been idle, ordered by start, then station. `least_ms` is how long a
    /// silence must be in any case; it keeps a simulation that runs faster than the machine from taking its own lag for silence.
    pub fn close_idle(&mut self, now: Timestamp, least_ms: i64) -> Vec<Closed> {
        let mut closed = Vec::new();
        for (id, station) in &mut self.stations {
            let patience_ms = station.patience_ms(&self.shape, least_ms);
            if !station.open.is_empty() && station.heard.is_none_or(|heard| now.millis_since(heard) >= patience_ms) {
                station.close(&self.shape, self.keep_ms, id, true, &mut closed);
            }
        }
        ordered(closed)
    }

    /// The oldest commit of the raw store that is needed to build this state again; none when nothing is needed.
    #[must_use]
    pub fn oldest_commit(&self) -> Option<u64> {
        self.stations.values().filter_map(|s| s.commits.front().map(|kept| kept.commit)).min()
    }

    /// How far `station`'s readings have come.
    #[must_use]
    pub fn watermark(&self, station: &StationId) -> Option<Timestamp> {
        self.stations.get(station).and_then(|s| s.belief.watermark)
    }

    /// All windows of `station` that end then or before are closed; none before its first reading.
    #[must_use]
    pub fn closed_until(&self, station: &StationId) -> Option<Timestamp> {
        let station = self.stations.get(station)?;
        let ahead_ms = station.wait_ms(&self.shape) - self.shape.length_ms();
        Some(station.belief.watermark?.plus_millis(-ahead_ms).floor_to(self.shape.length_s))
    }

    /// What `station` has said about its rhythm.
    #[must_use]
    pub fn rhythm(&self, station: &StationId) -> Rhythm {
        self.stations.get(station).map(|s| s.rhythm).unwrap_or_default()
    }

    /// Every station that is known, in no order, with its rhythm and when it was last heard.
    pub fn heard(&self) -> impl Iterator<Item = (&StationId, Rhythm, Timestamp)> {
        self.stations.iter().filter_map(|(id, s)| s.heard.map(|heard| (id, s.rhythm, heard)))
    }

    /// The newest physically possible value of each of `station`'s channels.
    pub fn latest(&self, station: &StationId) -> impl Iterator<Item = Reading> {
        self.stations.get(station).into_iter().flat_map(|s| &s.channels).filter_map(|(channel, series)| {
            let entry = series.entries.iter().rev().find(|e| series.limits.possible(e.value))?;
            Some(Reading { channel: *channel, time: entry.time, value: entry.value })
        })
    }

    /// Begins the replay of a station's raw readings after a restart: it had come as far as `reached`, and had `emitted`.
    pub fn restore(
        &mut self,
        id: &StationId,
        rhythm: Rhythm,
        reached: Option<Timestamp>,
        emitted: BTreeMap<Timestamp, Emitted>,
    ) {
        let station = self.station(id);
        (station.rhythm, station.reached, station.emitted) = (rhythm, reached, emitted);
    }

    /// Ends the replay: what was final before the restart stays as it was, and every station is given the time until it
    /// is idle to come back from `now` on.
    pub fn resume(&mut self, now: Timestamp) {
        for (id, station) in &mut self.stations {
            station.heard = Some(now);
            station.needed_from = None;
            if let Some(reached) = station.reached.take() {
                station.open.retain(|start| !self.shape.is_final(*start, reached));
                // They differ only where commits are lost.
                station.belief.watermark = station.belief.watermark.max(Some(reached));
            }
            self.touched.insert(id.clone());
        }
    }

    fn station(&mut self, id: &StationId) -> &mut Station {
        self.stations.entry(id.clone()).or_default()
    }
}

impl Station {
    /// How long a silence is an idle one.
    fn patience_ms(&self, shape: &Shape, least_ms: i64) -> i64 {
        shape.idle_ms.max(least_ms).max(2000 * i64::from(self.rhythm.report_s))
    }

    /// Puts a reading into its place, and marks the windows whose aggregates it may change.
    fn place(&mut self, shape: &Shape, filters: &Filters, id: &StationId, channel: Channel, placing: Placing) {
        let series = self
            .channels
            .entry(channel)
            .or_insert_with(|| Series { limits: filters.of(id, channel), entries: VecDeque::new() });
        let (limits, entries) = (&*series.limits, &mut series.entries);
        let batches = &mut self.batches;
        let at = match entries.back() {
            Some(last) if batches.compare(last, &placing).is_ge() => {
                match entries.binary_search_by(|e| batches.compare(e, &placing)) {
                    Ok(_) => return,
                    Err(at) => at,
                }
            }
            _ => entries.len(),
        };
        let entry = batches.take(&placing);
        entries.insert(at, entry);

        let start = entry.time.floor_to(shape.length_s);
        let mut marked = start;
        self.open.insert(start);
        let mut mark = |time: Timestamp, open: &mut BTreeSet<Timestamp>| {
            let start = time.floor_to(shape.length_s);
            if start != marked {
                open.insert(start);
                marked = start;
            }
        };
        // A neighbour is the first reading of a time, and possible; `judge` passes over the others too.
        let near = |i: &usize| entries[*i].time.millis_since(entry.time).abs() <= shape.context_ms;
        let counts = |i: &usize| {
            let candidate = &entries[*i];
            let first = *i == 0 || entries[*i - 1].time != candidate.time;
            first && candidate.time != entry.time && limits.possible(candidate.value)
        };
        for i in (0..at).rev().take_while(near).filter(counts).take(HALF_WIDTH) {
            mark(entries[i].time, &mut self.open);
        }
        for i in (at + 1..entries.len()).take_while(near).filter(counts).take(HALF_WIDTH) {
            mark(entries[i].time, &mut self.open);
        }
        // A run of equal values may begin with this reading, or end.
        if limits.stuck.is_some() {
            let within_ms = limits.look_back_ms(shape.context_ms);
            for later in entries.range(at + 1..).take_while(|e| e.time.millis_since(entry.time) <= within_ms) {
                mark(later.time, &mut self.open);
            }
        }
    }

    /// How far the watermark must be beyond a window's start for the window to close, ms.
    fn wait_ms(&self, shape: &Shape) -> i64 {
        // The third reading after the end is the last that the filter looks at.
        let ahead_ms = (HALF_WIDTH as i64 - 1) * 1000 * i64::from(self.rhythm.interval_s);
        shape.length_ms() + ahead_ms.min(shape.context_ms)
    }

    /// Computes the open windows that are due, or all of them when the station is idle, and lets go of what is final.
    fn close(&mut self, shape: &Shape, keep_ms: i64, id: &StationId, idle: bool, closed: &mut Vec<Closed>) {
        let Some(watermark) = self.belief.watermark else { return };
        let wait_ms = self.wait_ms(shape);
        let due: Vec<Timestamp> =
            self.open.iter().copied().take_while(|start| idle || watermark.millis_since(*start) >= wait_ms).collect();
        for start in due {
            self.open.remove(&start);
            let aggregates = self.evaluate(shape, start);
            if aggregates.is_empty() {
                continue;
            }
            let digest = digest(&aggregates);
            let last = self.emitted.get(&start).copied();
            if last.is_some_and(|last| last.digest == digest) {
                continue;
            }
            let rejected = RejectCounts::of(&aggregates);
            let emitted = Emitted { revision: last.map_or(0, |l| l.revision.saturating_add(1)), digest, rejected };
            self.emitted.insert(start, emitted);
            let newly_rejected = rejected.beyond(&last.map_or_else(RejectCounts::default, |l| l.rejected));
            let window =
                Window { station: id.clone(), start, length_s: shape.length_s, revision: emitted.revision, aggregates };
            closed.push(Closed { window, emitted, newly_rejected });
        }
        self.let_go(shape, keep_ms, watermark);
    }

    fn let_go(&mut self, shape: &Shape, keep_ms: i64, watermark: Timestamp) {
        let from = watermark.plus_millis(-keep_ms);
        self.channels.retain(|_, Series { entries, .. }| {
            while entries.front().is_some_and(|e| e.time < from) {
                entries.pop_front();
            }
            !entries.is_empty()
        });
        self.batches.let_go(from);
        // They are in order. One that came late may keep the next ones a little longer than they are needed.
        while self.commits.front().is_some_and(|kept| kept.newest < from) {
            self.commits.pop_front();
        }
        while let Some(oldest) = self.emitted.first_entry().filter(|e| shape.is_final(*e.key(), watermark)) {
            oldest.remove();
        }
    }

    /// The aggregates of the window that starts at `start`: of each channel that has a reading in it.
    fn evaluate(&self, shape: &Shape, start: Timestamp) -> Vec<Aggregate> {
        let end = start.plus_millis(shape.length_ms());
        let mut aggregates = Vec::with_capacity(self.channels.len());
        for (channel, Series { limits, entries }) in &self.channels {
            let first = entries.partition_point(|e| e.time < start);
            if entries.get(first).is_none_or(|e| e.time >= end) {
                continue;
            }
            let context = shape.context_ms;
            let low = entries.partition_point(|e| e.time < start.plus_millis(-limits.look_back_ms(context)));
            let high = entries.partition_point(|e| e.time < end.plus_millis(context));
            let judged = judge(entries.range(low..high), limits, context, start, end);
            aggregates.push(aggregate(*channel, &judged));
        }
        aggregates
    }
}

fn ordered(mut closed: Vec<Closed>) -> Vec<Closed> {
    closed.sort_by(|a, b| (a.window.start, &a.window.station).cmp(&(b.window.start, &b.window.station)));
    closed
}

#[cfg(test)]
mod tests;
