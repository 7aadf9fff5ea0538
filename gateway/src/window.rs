//! Event-time windows: from readings in any order to aggregates that no order changes.
//!
//! Each channel keeps its readings of the last hours in order of time. An aggregate is a *pure function* of the readings in
//! its window and the few beside it that the filters look at; it is computed when its window closes, and again when a later
//! arrival could change it. So the last revision of a window depends on which readings came, never on when, how often,
//! or in which pieces they came, nor on whether the gateway was killed in between.
//!
//! A station's *watermark* is the time of its newest reading. A window closes when the watermark has passed its end by as
//! many readings as the outlier filter looks ahead, or when the station has been idle for long. A reading no more than the
//! allowed lateness behind the watermark amends its window, which is emitted again with a higher revision if its content
//! changed. What comes later than that is counted, and stays in the raw store.
//!
//! This module must not know of the store, the network or the wall clock: times are parameters.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{Aggregate, Channel, Quantity, Reading, RejectReason, Rejected, StationId, Stats, Timestamp, Window};
use sha2::{Digest, Sha256};

use crate::filter::{HALF_WIDTH, Place};
use crate::validate::{Limits, Timing, Tolerance, timing};

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
    /// its neighbours within the context, and their windows need the context before them.
    const fn keep_ms(&self) -> i64 {
        self.tolerance.lateness_ms + 2 * self.context_ms + self.length_ms()
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
}

/// Rejected readings of a window by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RejectCounts {
    /// Physically impossible.
    pub range: u32,
    /// There and back faster than is believed.
    pub rate: u32,
    /// An outlier among its neighbours.
    pub hampel: u32,
    /// The channel had a reading of this time already.
    pub duplicate: u32,
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

/// A reading in its place. The order of the fields is the order of readings.
#[derive(Debug, Clone, Copy)]
struct Entry {
    time: Timestamp,
    origin: Origin,
    /// Place in its batch.
    index: u32,
    value: f64,
}

impl Entry {
    fn key(&self) -> (Timestamp, Origin, u32) {
        (self.time, self.origin, self.index)
    }
}

#[derive(Debug, Default)]
struct Station {
    rhythm: Rhythm,
    /// The time of the newest believed reading.
    watermark: Option<Timestamp>,
    /// During a replay: the watermark that the station had reached before.
    reached: Option<Timestamp>,
    /// When anything last came, by the gateway's clock.
    heard: Option<Timestamp>,
    channels: BTreeMap<Channel, VecDeque<Entry>>,
    /// Starts of windows whose aggregates may have changed since they were last computed.
    open: BTreeSet<Timestamp>,
    emitted: BTreeMap<Timestamp, Emitted>,
    /// The commits whose readings are kept, each with its newest reading.
    commits: VecDeque<(u64, Timestamp)>,
}

/// The windows of all stations.
#[derive(Debug)]
pub struct Windows {
    shape: Shape,
    limits: Vec<Limits>,
    stations: BTreeMap<StationId, Station>,
    /// Stations that got readings since [`Windows::close`].
    touched: BTreeSet<StationId>,
}

impl Windows {
    /// No windows yet. `limits` gives what is expected of each quantity.
    #[must_use]
    pub fn new(shape: Shape, limits: impl Fn(Quantity) -> Limits) -> Self {
        Self {
            shape,
            limits: Quantity::ALL.into_iter().map(limits).collect(),
            stations: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
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
    /// is there already, of the same origin, changes nothing.
    pub fn insert(
        &mut self,
        id: &StationId,
        origin: Origin,
        readings: &[Reading],
        now: Timestamp,
        commit: u64,
    ) -> Placed {
        let shape = self.shape;
        if !self.touched.contains(id) {
            self.touched.insert(id.clone());
        }
        let station = self.stations.entry(id.clone()).or_default();
        station.heard = Some(now);
        let before = station.watermark;
        let needed_from = station.reached.map(|r| r.plus_millis(-shape.keep_ms()));
        let mut placed = Placed::default();
        let mut newest: Option<Timestamp> = None;
        for (index, reading) in (0u32..).zip(readings) {
            match timing(reading.time, before, now, &shape.tolerance) {
                Timing::Future => placed.future += 1,
                Timing::Late => placed.late += 1,
                Timing::Believed => {
                    placed.windowed += 1;
                    if needed_from.is_some_and(|from| reading.time < from) {
                        continue;
                    }
                    newest = newest.max(Some(reading.time));
                    let possible = &self.limits[usize::from(reading.channel.quantity.code())];
                    let entry = Entry { time: reading.time, origin, index, value: reading.value };
                    station.place(&shape, possible, reading.channel, entry);
                }
            }
        }
        if let Some(newest) = newest {
            station.watermark = station.watermark.max(Some(newest));
            match station.commits.back_mut() {
                Some((last, reached)) if *last == commit => *reached = newest.max(*reached),
                _ => station.commits.push_back((commit, newest)),
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
        }
        all
    }

    /// Closes what can be closed after the last inserts, ordered by start, then station.
    pub fn close(&mut self) -> Vec<Closed> {
        let mut closed = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            if let Some(station) = self.stations.get_mut(&id) {
                station.close(&self.shape, &self.limits, &id, false, &mut closed);
            }
        }
        ordered(closed)
    }

    /// Closes the windows of stations that have been idle, ordered by start, then station. `least_ms` is how long a
    /// silence must be in any case; it keeps a simulation that runs faster than the machine from taking its own lag for silence.
    pub fn close_idle(&mut self, now: Timestamp, least_ms: i64) -> Vec<Closed> {
        let mut closed = Vec::new();
        for (id, station) in &mut self.stations {
            let patience_ms = self.shape.idle_ms.max(least_ms).max(2000 * i64::from(station.rhythm.report_s));
            if !station.open.is_empty() && station.heard.is_none_or(|heard| now.millis_since(heard) >= patience_ms) {
                station.close(&self.shape, &self.limits, id, true, &mut closed);
            }
        }
        ordered(closed)
    }

    /// The oldest commit of the raw store that is needed to build this state again; none when nothing is needed.
    #[must_use]
    pub fn oldest_commit(&self) -> Option<u64> {
        self.stations.values().filter_map(|s| s.commits.iter().map(|(commit, _)| *commit).min()).min()
    }

    /// How far `station`'s readings have come.
    #[must_use]
    pub fn watermark(&self, station: &StationId) -> Option<Timestamp> {
        self.stations.get(station).and_then(|s| s.watermark)
    }

    /// Every station that is known, with its rhythm and when it was last heard.
    pub fn heard(&self) -> impl Iterator<Item = (&StationId, Rhythm, Timestamp)> {
        self.stations.iter().filter_map(|(id, s)| s.heard.map(|heard| (id, s.rhythm, heard)))
    }

    /// The newest physically possible value of each of `station`'s channels.
    pub fn latest(&self, station: &StationId) -> impl Iterator<Item = Reading> {
        self.stations.get(station).into_iter().flat_map(|s| &s.channels).filter_map(|(channel, entries)| {
            let limits = &self.limits[usize::from(channel.quantity.code())];
            let entry = entries.iter().rev().find(|e| limits.possible(e.value))?;
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
            if let Some(reached) = station.reached.take() {
                station.open.retain(|start| !self.shape.is_final(*start, reached));
                station.watermark = station.watermark.max(Some(reached));
            }
            self.touched.insert(id.clone());
        }
    }

    fn station(&mut self, id: &StationId) -> &mut Station {
        self.stations.entry(id.clone()).or_default()
    }
}

impl Station {
    /// Puts a reading into its place, and marks the windows whose aggregates it may change.
    fn place(&mut self, shape: &Shape, limits: &Limits, channel: Channel, entry: Entry) {
        let entries = self.channels.entry(channel).or_default();
        let at = match entries.back() {
            Some(last) if last.key() >= entry.key() => match entries.binary_search_by(|e| e.key().cmp(&entry.key())) {
                Ok(_) => return,
                Err(at) => at,
            },
            _ => entries.len(),
        };
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
    }

    /// Computes the open windows that are due, or all of them when the station is idle, and lets go of what is final.
    fn close(&mut self, shape: &Shape, limits: &[Limits], id: &StationId, idle: bool, closed: &mut Vec<Closed>) {
        let Some(watermark) = self.watermark else { return };
        // The third reading after the end is the last that the filter looks at.
        let ahead_ms = (HALF_WIDTH as i64 - 1) * 1000 * i64::from(self.rhythm.interval_s);
        let wait_ms = shape.length_ms() + ahead_ms.min(shape.context_ms);
        let due: Vec<Timestamp> =
            self.open.iter().copied().take_while(|start| idle || watermark.millis_since(*start) >= wait_ms).collect();
        for start in due {
            self.open.remove(&start);
            let aggregates = self.evaluate(shape, limits, start);
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
        self.let_go(shape, watermark);
    }

    fn let_go(&mut self, shape: &Shape, watermark: Timestamp) {
        let from = watermark.plus_millis(-shape.keep_ms());
        self.channels.retain(|_, entries| {
            while entries.front().is_some_and(|e| e.time < from) {
                entries.pop_front();
            }
            !entries.is_empty()
        });
        self.commits.retain(|(_, newest)| *newest >= from);
        while let Some(oldest) = self.emitted.first_entry().filter(|e| shape.is_final(*e.key(), watermark)) {
            oldest.remove();
        }
    }

    /// The aggregates of the window that starts at `start`: of each channel that has a reading in it.
    fn evaluate(&self, shape: &Shape, limits: &[Limits], start: Timestamp) -> Vec<Aggregate> {
        let end = start.plus_millis(shape.length_ms());
        let mut aggregates = Vec::with_capacity(self.channels.len());
        for (channel, entries) in &self.channels {
            let first = entries.partition_point(|e| e.time < start);
            if entries.get(first).is_none_or(|e| e.time >= end) {
                continue;
            }
            let context = shape.context_ms;
            let low = entries.partition_point(|e| e.time < start.plus_millis(-context));
            let high = entries.partition_point(|e| e.time < end.plus_millis(context));
            let judged =
                judge(entries.range(low..high), &limits[usize::from(channel.quantity.code())], context, start, end);
            aggregates.push(aggregate(*channel, &judged));
        }
        aggregates
    }
}

/// The verdict on each reading with `start <= time < end`; none means accepted. `entries` are in order, and reach a context
/// beyond the window on both sides.
fn judge<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    limits: &Limits,
    context_ms: i64,
    start: Timestamp,
    end: Timestamp,
) -> Vec<(f64, Option<RejectReason>)> {
    let mut judged = Vec::new();
    // Of one time the first counts, and only possible values are neighbours. With each, its place in `judged` if it is
    // inside the window.
    let mut candidates: Vec<(i64, f64, Option<usize>)> = Vec::new();
    let mut last_time = None;
    for entry in entries {
        let inside = start <= entry.time && entry.time < end;
        let verdict = if last_time.replace(entry.time) == Some(entry.time) {
            Some(RejectReason::Duplicate)
        } else if !limits.possible(entry.value) {
            Some(RejectReason::Range)
        } else {
            None
        };
        if verdict.is_none() {
            candidates.push((entry.time.as_millis(), entry.value, inside.then_some(judged.len())));
        }
        if inside {
            judged.push((entry.value, verdict));
        }
    }
    let mut neighbourhood = [0.0; 2 * HALF_WIDTH + 1];
    for (at, &(time, value, place)) in candidates.iter().enumerate() {
        let Some(place) = place else { continue };
        let before = candidates[..at].iter().rev().take(HALF_WIDTH).take_while(|c| time - c.0 <= context_ms).count();
        let after = candidates[at + 1..].iter().take(HALF_WIDTH).take_while(|c| c.0 - time <= context_ms).count();
        let reach = before.min(after);
        for (slot, candidate) in neighbourhood.iter_mut().zip(&candidates[at - reach..=at + reach]) {
            *slot = candidate.1;
        }
        let stands = limits.hampel.as_ref().map_or(Place::Unknown, |h| h.place(&neighbourhood[..=2 * reach]));
        let beside = |there: bool, index: usize| there.then(|| (candidates[index].0, candidates[index].1));
        // A good reading between two spikes leaps from both of them. It stands where the others stand, and they do not.
        let leaps = || limits.leaps(beside(before > 0, at.saturating_sub(1)), (time, value), beside(after > 0, at + 1));
        judged[place].1 = match stands {
            Place::Near => None,
            _ if leaps() => Some(RejectReason::Rate),
            Place::Outlier => Some(RejectReason::Hampel),
            Place::Unknown | Place::Apart => None,
        };
    }
    judged
}

/// What the accepted and the rejected readings of a channel come to. Sums go in order of time, so that they are the same
/// to the last bit whenever they are computed again.
fn aggregate(channel: Channel, judged: &[(f64, Option<RejectReason>)]) -> Aggregate {
    let accepted = || judged.iter().filter(|(_, verdict)| verdict.is_none()).map(|(value, _)| *value);
    let count = accepted().count();
    let accepted = (count > 0).then(|| {
        let (min, max) = extremes(accepted());
        // Rounding may carry the mean of equal values past them.
        let mean = (accepted().sum::<f64>() / count as f64).clamp(min, max);
        let variance = accepted().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count as f64;
        Stats { count: u32::try_from(count).unwrap_or(u32::MAX), min, mean, max, stddev: variance.sqrt() }
    });
    let mut counts: BTreeMap<RejectReason, u32> = BTreeMap::new();
    for reason in judged.iter().filter_map(|(_, verdict)| *verdict) {
        *counts.entry(reason).or_default() += 1;
    }
    let rejected = (!counts.is_empty()).then(|| {
        let (min, max) = extremes(judged.iter().filter(|(_, verdict)| verdict.is_some()).map(|(value, _)| *value));
        Rejected { counts: counts.into_iter().collect(), min, max }
    });
    Aggregate { channel, accepted, rejected }
}

fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(value), max.max(value)))
}

/// Tells two contents of a window apart; the same on every machine and in every version.
fn digest(aggregates: &[Aggregate]) -> i64 {
    let mut hash = Sha256::new();
    for aggregate in aggregates {
        hash.update(aggregate.channel.code().to_le_bytes());
        if let Some(s) = &aggregate.accepted {
            hash.update(s.count.to_le_bytes());
            for value in [s.min, s.mean, s.max, s.stddev] {
                hash.update(value.to_bits().to_le_bytes());
            }
        }
        hash.update([0xff]);
        if let Some(r) = &aggregate.rejected {
            for (reason, count) in &r.counts {
                hash.update([reason_code(*reason)]);
                hash.update(count.to_le_bytes());
            }
            for value in [r.min, r.max] {
                hash.update(value.to_bits().to_le_bytes());
            }
        }
        hash.update([0xfe]);
    }
    let hash = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_le_bytes(first)
}

const fn reason_code(reason: RejectReason) -> u8 {
    match reason {
        RejectReason::Range => 0,
        RejectReason::Rate => 1,
        RejectReason::Hampel => 2,
        RejectReason::Late => 3,
        RejectReason::Future => 4,
        RejectReason::Duplicate => 5,
    }
}

impl RejectCounts {
    fn of(aggregates: &[Aggregate]) -> Self {
        let mut all = Self::default();
        for (reason, count) in aggregates.iter().filter_map(|a| a.rejected.as_ref()).flat_map(|r| &r.counts) {
            match reason {
                RejectReason::Range => all.range += count,
                RejectReason::Rate => all.rate += count,
                RejectReason::Hampel => all.hampel += count,
                RejectReason::Duplicate => all.duplicate += count,
                // These have no window.
                RejectReason::Late | RejectReason::Future => {}
            }
        }
        all
    }

    fn beyond(&self, before: &Self) -> Self {
        Self {
            range: self.range.saturating_sub(before.range),
            rate: self.rate.saturating_sub(before.rate),
            hampel: self.hampel.saturating_sub(before.hampel),
            duplicate: self.duplicate.saturating_sub(before.duplicate),
        }
    }

    /// Each reason's name and count.
    #[must_use]
    pub const fn by_reason(&self) -> [(&'static str, u32); 4] {
        [("range", self.range), ("rate", self.rate), ("hampel", self.hampel), ("duplicate", self.duplicate)]
    }
}

fn ordered(mut closed: Vec<Closed>) -> Vec<Closed> {
    closed.sort_by(|a, b| (a.window.start, &a.window.station).cmp(&(b.window.start, &b.window.station)));
    closed
}

#[cfg(test)]
mod tests;
