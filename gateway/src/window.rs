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

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use proto::{Aggregate, Channel, Quantity, Reading, StationId, Timestamp, Window};

use crate::filter::HALF_WIDTH;
use crate::limits::Filters;
use crate::room::push;
use crate::validate::{Limits, Timing, Tolerance, timing};

mod batches;
mod belief;
mod carry;
mod judge;
mod neighbours;
mod rows;

use batches::{Batches, Placing};
use belief::{Before, Belief};
pub use carry::CarriedError;
pub use judge::RejectCounts;
use judge::{aggregate, digest, judge};
use rows::Rows;

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

/// Commits whose readings are kept, as far as these are of one window.
#[derive(Debug, Clone)]
struct Kept {
    /// The first.
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
    rows: Rows,
    /// Starts of windows whose aggregates may have changed since they were last computed.
    open: BTreeSet<Timestamp>,
    emitted: BTreeMap<Timestamp, Emitted>,
    /// In the order in which they came.
    commits: VecDeque<Kept>,
    /// Readings came since it was closed.
    touched: bool,
    /// What was last told of how far its windows are closed.
    told: Option<Timestamp>,
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
    /// Room for the readings of a message on their way to their rows.
    taken: Vec<(Channel, Placing)>,
}

/// What has become of a station's windows with a message.
#[derive(Debug, Default)]
pub struct Passed {
    /// Those that closed, by start.
    pub closed: Vec<Closed>,
    /// How far all are closed, where that is another time than before.
    pub until: Option<Timestamp>,
    /// How often the station reports, in seconds.
    pub report_s: u32,
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
        Self { shape, filters, keep_ms, in_order: false, stations: HashMap::new(), taken: Vec::new() }
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
        self.insert_all(id, [(origin, readings)].into_iter(), now, commit)
    }

    /// Takes in readings that came without boot and sequence, in order of time. One that is there already, of the same
    /// channel, time and value, changes nothing.
    pub fn insert_plain(&mut self, id: &StationId, readings: &[Reading], now: Timestamp, commit: u64) -> Placed {
        if readings.is_empty() {
            return Placed::default();
        }
        let each = readings.iter().map(|reading| (Origin::plain(reading.value), std::slice::from_ref(reading)));
        self.insert_all(id, each, now, commit)
    }

    fn insert_all<'a>(
        &mut self,
        id: &StationId,
        batches: impl Iterator<Item = (Origin, &'a [Reading])>,
        now: Timestamp,
        commit: u64,
    ) -> Placed {
        let Self { shape, keep_ms, in_order, filters, stations, taken } = self;
        // To make an entry would copy the name each time.
        let station = match stations.get_mut(id) {
            Some(station) => station,
            None => stations.entry(id.clone()).or_default(),
        };
        station.touched = true;
        station.heard = Some(now);
        let mut placed = Placed::default();
        if station.needed_from.is_none_or(|needed| commit >= needed) {
            let kept_from = station.reached.map(|reached| reached.plus_millis(-*keep_ms));
            for (origin, readings) in batches {
                station.believe(shape, *in_order, origin, readings, now, commit, &mut placed, |place, reading| {
                    if kept_from.is_none_or(|from| reading.time >= from) {
                        let Reading { channel, time, value } = *reading;
                        taken.push((channel, Placing { time, origin, index: place, value }));
                    }
                });
            }
        }
        station.place(shape, filters, id, taken);
        taken.clear();
        placed
    }

    /// Closes what can be closed after the last inserts, ordered by start, then station.
    pub fn close(&mut self) -> Vec<Closed> {
        let mut closed = Vec::new();
        for (id, station) in self.stations.iter_mut().filter(|(_, station)| station.touched) {
            station.close(&self.shape, self.keep_ms, id, false, &mut closed);
        }
        ordered(closed)
    }

    /// Closes what can be closed of `station` after the last inserts, and says how far that goes.
    pub fn pass(&mut self, id: &StationId) -> Passed {
        let Some(station) = self.stations.get_mut(id) else { return Passed::default() };
        let mut passed = Passed { report_s: station.rhythm.report_s, ..Passed::default() };
        if station.touched {
            station.close(&self.shape, self.keep_ms, id, false, &mut passed.closed);
        }
        let until = station.closed_until(&self.shape);
        if until != station.told {
            (station.told, passed.until) = (until, until);
        }
        passed
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
        self.stations.get(station).into_iter().flat_map(|Station { rows, .. }| {
            rows.channels().iter().filter_map(|(channel, limits)| {
                let mut newest_first = rows.readings(*channel, 0..rows.len()).rev();
                let (_, time, value) = newest_first.find(|(.., value)| limits.possible(*value))?;
                Some(Reading { channel: *channel, time, value })
            })
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
        for station in self.stations.values_mut() {
            station.heard = Some(now);
            station.needed_from = None;
            if let Some(reached) = station.reached.take() {
                station.open.retain(|start| !self.shape.is_final(*start, reached));
                // They differ only where commits are lost.
                station.belief.watermark = station.belief.watermark.max(Some(reached));
            }
            station.touched = true;
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

    /// Judges the times of a batch's readings by what is believed of the station's clock, which it moves on. `take` gets those
    /// that are in a window, each with its place in the batch.
    #[allow(clippy::too_many_arguments)]
    fn believe<'a>(
        &mut self,
        shape: &Shape,
        in_order: bool,
        origin: Origin,
        readings: &'a [Reading],
        now: Timestamp,
        commit: u64,
        placed: &mut Placed,
        mut take: impl FnMut(u16, &'a Reading),
    ) {
        let (_, believed) = *match &mut self.begun {
            Some(begun) if begun.0 == commit => begun,
            begun => begun.insert((commit, self.belief)),
        };
        let before = self.belief.watermark;
        let behind = if in_order { self.belief.set_back(shape, origin, readings, now) } else { None };
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
                    take(index, reading);
                }
            }
        }
        if let Some(newest) = newest {
            self.grown = Some(now);
            self.belief.follow(shape, origin, newest, now);
            let window = newest.floor_to(shape.length_s);
            match self.commits.back_mut() {
                Some(last) if last.commit == commit || last.newest >= window => last.newest = newest.max(last.newest),
                _ => push(&mut self.commits, Kept { commit, newest, before: believed.into() }),
            }
        }
    }

    /// Puts readings into their places, and marks the windows whose aggregates they may change.
    fn place(&mut self, shape: &Shape, filters: &Filters, id: &StationId, readings: &mut [(Channel, Placing)]) {
        // Those of a time are a row, mostly the last; a batch comes in this order.
        readings.sort_by_key(|(channel, placing)| (placing.time, *channel));
        let limits = |channel| filters.of(id, channel);
        let Self { rows, batches, open, .. } = self;
        let mut marked = None;
        let mut mark = |time: Timestamp| {
            let start = time.floor_to(shape.length_s);
            if marked.replace(start) != Some(start) {
                open.insert(start);
            }
        };
        for of_a_time in readings.chunk_by(|(_, one), (_, next)| one.time == next.time) {
            let (_, first) = &of_a_time[0];
            let row = rows.vacancy(first.time).filter(|_| Placing::are_one_row(of_a_time));
            if let Some(at) = row {
                let batch = batches.take(first);
                rows.insert(at, batch, of_a_time, limits);
                neighbours::of_row(rows, at, shape, &mut mark);
                continue;
            }
            for reading in of_a_time {
                if let Some((at, column)) = rows.insert_one(*reading, batches, limits) {
                    neighbours::of_one(rows, at, column, shape, &mut mark);
                }
            }
        }
    }

    /// All windows that end then or before are closed; none before the first reading.
    fn closed_until(&self, shape: &Shape) -> Option<Timestamp> {
        let ahead_ms = self.wait_ms(shape) - shape.length_ms();
        Some(self.belief.watermark?.plus_millis(-ahead_ms).floor_to(shape.length_s))
    }

    /// How far the watermark must be beyond a window's start for the window to close, ms.
    fn wait_ms(&self, shape: &Shape) -> i64 {
        // The third reading after the end is the last that the filter looks at.
        let ahead_ms = (HALF_WIDTH as i64 - 1) * 1000 * i64::from(self.rhythm.interval_s);
        shape.length_ms() + ahead_ms.min(shape.context_ms)
    }

    /// Computes the open windows that are due, or all of them when the station is idle, and lets go of what is final.
    fn close(&mut self, shape: &Shape, keep_ms: i64, id: &StationId, idle: bool, closed: &mut Vec<Closed>) {
        self.touched = false;
        let Some(watermark) = self.belief.watermark else { return };
        let wait_ms = self.wait_ms(shape);
        let due: Vec<Timestamp> =
            self.open.iter().copied().take_while(|start| idle || watermark.millis_since(*start) >= wait_ms).collect();
        if due.is_empty() {
            // What is kept grows with the windows, and goes with them.
            return;
        }
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
        self.rows.let_go(from);
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
        let rows = &self.rows;
        let (first, last) = (rows.first_from(start), rows.first_from(end));
        let context = shape.context_ms;
        let high = rows.first_from(end.plus_millis(context));
        let mut aggregates = Vec::with_capacity(rows.channels().len());
        for (channel, limits) in rows.channels() {
            if rows.readings(*channel, first..last).next().is_none() {
                continue;
            }
            let low = neighbours::first_before(rows, *channel, limits, first, start, context);
            let readings = rows.readings(*channel, low..high).map(|(_, time, value)| (time, value));
            let judged = judge(readings, limits, context, start, end);
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
