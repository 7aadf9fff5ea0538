//! When a boundary is complete: detection looks at all stations together, so it waits until all have come as far.
//!
//! A station has *reached* a boundary when all its windows that end there or before are closed. A boundary is judged when
//! every station that is waited for has reached it, in order of the boundaries. Which stations are waited for depends on
//! event time alone: one that has fallen behind the farthest by more than the patience is *away*, and is waited for
//! again when it has caught up. So is one whose windows were closed because it was idle, which is the only thing here that
//! comes from a clock. A station that reports more seldom than the patience allows is never waited for.
//!
//! What lies further back than the patience when it comes is a backlog. Nobody waits for its alerts by the hour, and its
//! stations come in bursts; so they are waited for [`BACKLOG`] times as long, and are judged together, which costs far less.
//!
//! What that costs: an alert comes when the slowest station that is waited for has reported, so a reporting interval later
//! than it might; and once, when a station ceases, the patience later. Windows of a boundary that was judged without
//! their station are judged when they come, by themselves.
//!
//! The same windows at the same times of arrival give the same boundaries in the same order. Pure: no store, no clock.

use std::collections::{BTreeMap, HashMap, HashSet};

use proto::{StationId, Timestamp, Window};

/// How many times as long stations are waited for in a backlog.
const BACKLOG: i64 = 3;

/// How far a station has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// All its windows that end then or before are closed.
    pub until: Timestamp,
    /// It is not waited for.
    pub away: bool,
}

/// Windows that wait for the other stations.
#[derive(Debug)]
pub struct Barrier {
    patience_ms: i64,
    stations: HashMap<StationId, Reached>,
    /// The stations that are waited for, by how far they have come.
    awaited: BTreeMap<Timestamp, HashSet<StationId>>,
    farthest: Timestamp,
    /// Boundaries up to here are judged.
    judged: Timestamp,
    waiting: BTreeMap<Timestamp, BTreeMap<StationId, Window>>,
}

impl Barrier {
    /// A barrier that waits at most `patience_ms` of event time for a station.
    #[must_use]
    pub fn new(patience_ms: i64) -> Self {
        Self {
            patience_ms,
            stations: HashMap::new(),
            awaited: BTreeMap::new(),
            farthest: Timestamp::MIN,
            judged: Timestamp::MIN,
            waiting: BTreeMap::new(),
        }
    }

    /// Goes on where `judged` says, before anything else is told.
    pub const fn resume(&mut self, judged: Timestamp) {
        self.judged = judged;
    }

    /// Goes on with a station as it was.
    pub fn restore(&mut self, station: StationId, reached: Reached) {
        self.farthest = self.farthest.max(reached.until);
        if !reached.away {
            self.awaited.entry(reached.until).or_default().insert(station.clone());
        }
        self.stations.insert(station, reached);
    }

    /// Boundaries up to here are judged.
    #[must_use]
    pub const fn judged(&self) -> Timestamp {
        self.judged
    }

    /// How far a station has come.
    #[must_use]
    pub fn reached(&self, station: &StationId) -> Option<Reached> {
        self.stations.get(station).copied()
    }

    /// A window has closed, or was amended.
    pub fn put(&mut self, window: Window) {
        self.waiting.entry(window.end()).or_default().insert(window.station.clone(), window);
    }

    /// `station` has come as far as `until` by what arrived at `at`, and reports each `report_s` seconds.
    pub fn reach(&mut self, station: &StationId, until: Timestamp, at: Timestamp, report_s: u32) {
        let known = self.reached(station);
        if known.is_some_and(|known| until <= known.until) {
            return;
        }
        self.farthest = self.farthest.max(until);
        let backlog = at.millis_since(self.farthest) > self.patience_ms;
        let patience_ms = if backlog { BACKLOG * self.patience_ms } else { self.patience_ms };
        let behind = until < self.farthest.plus_millis(-patience_ms) || until < self.judged;
        let seldom = 2_000 * i64::from(report_s) > self.patience_ms;
        self.set(station, Reached { until, away: seldom || behind });
        while let Some((until, stations)) =
            self.awaited.first_key_value().filter(|(until, _)| **until < self.farthest.plus_millis(-patience_ms))
        {
            let until = *until;
            for station in stations.clone() {
                self.set(&station, Reached { until, away: true });
            }
        }
    }

    /// `station` was idle, and all its windows up to `until` were closed for that.
    pub fn rest(&mut self, station: &StationId, until: Timestamp) {
        let until = self.reached(station).map_or(until, |known| known.until.max(until));
        self.farthest = self.farthest.max(until);
        self.set(station, Reached { until, away: true });
    }

    fn set(&mut self, station: &StationId, reached: Reached) {
        let before = self.stations.insert(station.clone(), reached);
        if let Some(before) = before.filter(|b| !b.away)
            && let Some(stations) = self.awaited.get_mut(&before.until)
        {
            stations.remove(station);
            if stations.is_empty() {
                self.awaited.remove(&before.until);
            }
        }
        if !reached.away {
            self.awaited.entry(reached.until).or_default().insert(station.clone());
        }
    }

    /// The windows of the next boundary that is complete, by station; none when the next is not. Those that came too late for
    /// their boundary are given first.
    pub fn complete(&mut self) -> Option<Vec<Window>> {
        let complete = self.awaited.keys().next().copied().unwrap_or(self.farthest).max(self.judged);
        let boundary = self.waiting.first_entry().filter(|boundary| *boundary.key() <= complete);
        let Some(boundary) = boundary else {
            self.judged = complete;
            return None;
        };
        self.judged = self.judged.max(*boundary.key());
        Some(boundary.remove().into_values().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH_S: i64 = 900;

    fn id(name: &str) -> StationId {
        name.parse().unwrap()
    }

    fn end(number: i64) -> Timestamp {
        Timestamp::from_secs(number * LENGTH_S)
    }

    fn window(station: &str, number: i64) -> Window {
        Window { station: id(station), start: end(number - 1), length_s: 900, revision: 0, aggregates: Vec::new() }
    }

    /// A window closes, and its station has come as far.
    fn close(barrier: &mut Barrier, station: &str, number: i64) -> Vec<Vec<String>> {
        barrier.put(window(station, number));
        barrier.reach(&id(station), end(number), end(number), 900);
        judged(barrier)
    }

    /// The same, of a backlog.
    fn close_late(barrier: &mut Barrier, station: &str, number: i64) -> Vec<Vec<String>> {
        barrier.put(window(station, number));
        barrier.reach(&id(station), end(number), end(1_000), 900);
        judged(barrier)
    }

    /// Each boundary that is judged now: the stations, and the number of the window.
    fn judged(barrier: &mut Barrier) -> Vec<Vec<String>> {
        let name = |w: &Window| format!("{}:{}", w.station, w.end().as_millis() / 1000 / LENGTH_S);
        std::iter::from_fn(|| barrier.complete().map(|windows| windows.iter().map(name).collect())).collect()
    }

    fn barrier() -> Barrier {
        let mut barrier = Barrier::new(4 * LENGTH_S * 1000);
        for station in ["a", "b"] {
            barrier.reach(&id(station), end(9), end(9), 900);
        }
        barrier
    }

    #[test]
    fn a_boundary_is_judged_when_all_have_reached_it() {
        let mut all = barrier();
        assert!(close(&mut all, "a", 10).is_empty());
        assert!(close(&mut all, "a", 11).is_empty());
        assert_eq!(close(&mut all, "b", 10), [["a:10", "b:10"]]);
        assert_eq!(close(&mut all, "b", 11), [["a:11", "b:11"]]);
        // One that reports seldom is judged when it comes, and nobody waits for it.
        all.put(window("c", 10));
        all.reach(&id("c"), end(10), end(10), 7_200);
        assert_eq!(judged(&mut all), [["c:10"]]);
        assert!(close(&mut all, "a", 12).is_empty());
        assert_eq!(close(&mut all, "b", 12), [["a:12", "b:12"]]);
    }

    #[test]
    fn a_station_that_ceases_is_waited_for_once_and_awaited_again_when_it_is_back() {
        let mut all = barrier();
        for number in 10..=13 {
            assert!(close(&mut all, "a", number).is_empty());
        }
        assert_eq!(close(&mut all, "a", 14), [["a:10"], ["a:11"], ["a:12"], ["a:13"], ["a:14"]]);
        assert_eq!(close(&mut all, "a", 15), [["a:15"]], "not waited for again");
        // It sends what it has kept: each window is judged as it comes.
        assert_eq!(close(&mut all, "b", 10), [["b:10"]]);
        assert_eq!(close(&mut all, "b", 15), [["b:15"]]);
        assert!(close(&mut all, "a", 16).is_empty(), "it is waited for again");
        assert_eq!(close(&mut all, "b", 16), [["a:16", "b:16"]]);
    }

    #[test]
    fn in_a_backlog_stations_are_waited_for_longer() {
        let mut all = barrier();
        for number in 10..=21 {
            assert!(close_late(&mut all, "a", number).is_empty(), "{number}");
        }
        assert_eq!(close_late(&mut all, "b", 10), [["a:10", "b:10"]]);
        assert_eq!(close_late(&mut all, "b", 11), [["a:11", "b:11"]]);
        assert!(close_late(&mut all, "a", 23).is_empty());
        assert_eq!(close_late(&mut all, "a", 24).len(), 12, "but not for ever");
        // What is fresh is not waited for as long.
        let mut all = barrier();
        for number in 10..=21 {
            close_late(&mut all, "a", number);
        }
        assert_eq!(close(&mut all, "a", 22).len(), 13);
    }

    #[test]
    fn when_all_rest_nothing_waits() {
        let mut all = barrier();
        assert!(close(&mut all, "a", 10).is_empty());
        all.put(window("a", 11));
        all.rest(&id("a"), end(11));
        assert!(judged(&mut all).is_empty(), "the other may still come");
        all.put(window("b", 10));
        all.rest(&id("b"), end(10));
        assert_eq!(judged(&mut all), [vec!["a:10", "b:10"], vec!["a:11"]]);
    }
}
