//! Whether a station's clock can be believed: what its reports say of it, held against the gateway's clock when they came.
//!
//! A report's *offset* is its newest reading's time less the moment of its arrival. The way takes time, so an offset may be
//! below zero by any delay, and a backlog's is by days; but nothing makes it positive except a clock that is ahead. So:
//!
//! - ahead of the gateway, or older than anything can be: wrong beyond doubt, by one report;
//! - behind an earlier report of the same station: set back, by one report (the windows find it by the order of batches);
//! - behind the gateway by the same amount, report after report, at the pace at which they are made: slow. A backlog comes
//!   faster than it was made, and its offset shrinks;
//! - suddenly elsewhere: jumped. Ahead of all the last offsets, or behind them several times and each time alike;
//! - slowly elsewhere: drifting, by the median slope of the best offset of each hour (Theil, 1950; Sen, J. Am. Stat.
//!   Assoc. 63, 1968), which a third of them wrong does not move.
//!
//! Pure: a judgement depends on what came and when it came, both of which the raw store keeps, so that a restarted gateway
//! judges the same. It changes no aggregate: which readings are believed is decided by [`crate::window`].

use std::collections::{HashMap, VecDeque};

use proto::{StationId, Timestamp};

/// Ahead by more than this, in ms, is wrong: far more than clocks differ that were ever set by a network.
const AHEAD_MS: i64 = 30_000;
/// How far from the last offsets one must be to be a jump, in ms: more than the way takes.
const JUMP_MS: i64 = 60_000;
/// Offsets that a jump is held against, and those that must agree on one to behind.
const RECENT: usize = 8;
const AGREEING: usize = 4;
/// How closely they must agree, in ms.
const ALIKE_MS: i64 = 10_000;
/// Reports in a row, at the pace at which they are made, whose common offset is not a backlog's but a slow clock's.
const STEADY: u32 = 4;
/// The best offset of each of so many hours tells the drift, from so many on.
const HOURS: usize = 32;
const FEWEST_HOURS: usize = 8;
const HOUR_MS: i64 = 3_600_000;
/// Less than this is what a cheap crystal does, in millionths.
const DRIFT_PPM: f64 = 50.0;
/// Less than this over all of the hours is noise, in ms.
const DRIFT_MS: f64 = 5_000.0;
/// How long a station is left alone after it was told the time, and after several times in vain.
const PATIENCE_MS: i64 = 5 * 60_000;
const LONG_PATIENCE_MS: i64 = HOUR_MS;
const IN_VAIN: u32 = 3;

/// What is known of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Nothing fresh has come yet.
    #[default]
    Unknown,
    /// It goes with the gateway's.
    Fine,
    /// It is ahead.
    Ahead,
    /// It shows a time before any that can be, as after a restart at 1970.
    LongPast,
    /// It was set back behind what the station had sent already.
    SetBack,
    /// It is behind.
    Behind,
    /// It jumped within what is tolerated.
    Jumped,
    /// It goes too fast or too slow.
    Drifting,
}

impl Verdict {
    /// Its name in logs and on the page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Fine => "fine",
            Self::Ahead => "ahead",
            Self::LongPast => "long past",
            Self::SetBack => "set back",
            Self::Behind => "behind",
            Self::Jumped => "jumped",
            Self::Drifting => "drifting",
        }
    }

    /// Whether something is wrong.
    #[must_use]
    pub const fn is_wrong(self) -> bool {
        !matches!(self, Self::Unknown | Self::Fine)
    }
}

/// A station's clock as the page shows it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ClockState {
    /// What is known of it.
    pub verdict: Verdict,
    /// Since when, by the gateway's clock.
    pub since: Option<Timestamp>,
    /// How far it was ahead of the gateway's when its newest report came, in ms; negative when behind.
    pub offset_ms: Option<i64>,
    /// How much too fast it goes, in millionths; 11.6 are a second a day.
    pub drift_ppm: Option<f64>,
    /// When the station was last told the time.
    pub told: Option<Timestamp>,
}

/// A report, as far as clocks matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it came, by the gateway's clock.
    pub at: Timestamp,
    /// The time of its newest reading.
    pub newest: Timestamp,
    /// Whether it goes back behind an earlier one.
    pub goes_back: bool,
}

/// A clock that is judged otherwise than before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// What was said of it.
    pub before: Verdict,
    /// What is said now.
    pub now: ClockState,
}

/// What may be believed, as [`crate::validate::Tolerance`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// A report this fresh tells the clock, in ms.
    pub fresh_ms: i64,
    /// A time older than this cannot be, in ms.
    pub oldest_ms: i64,
}

#[derive(Debug, Default)]
struct Clock {
    state: ClockState,
    /// The last fresh offsets.
    recent: VecDeque<i64>,
    /// The best offset of each of the last hours: the hour's number, when, how much.
    hours: VecDeque<(i64, Timestamp, i64)>,
    /// The report before, and how many came steadily behind.
    before: Option<(Timestamp, i64)>,
    steady: u32,
    in_vain: u32,
}

/// The clocks of all stations.
#[derive(Debug)]
pub struct Clocks {
    bounds: Bounds,
    stations: HashMap<StationId, Clock>,
}

impl Clocks {
    /// No station is known yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, stations: HashMap::new() }
    }

    /// Judges a station's clock by a report. Gives what changed, if it did.
    pub fn observe(&mut self, station: &StationId, arrival: Arrival) -> Option<Change> {
        let clock = match self.stations.get_mut(station) {
            Some(clock) => clock,
            None => self.stations.entry(station.clone()).or_default(),
        };
        clock.observe(&self.bounds, arrival)
    }

    /// A station's clock.
    #[must_use]
    pub fn state(&self, station: &StationId) -> ClockState {
        self.stations.get(station).map_or_else(ClockState::default, |clock| clock.state)
    }

    /// Whether a station should be told the time at `now`: its clock is wrong, and it was not told just now. Once told in
    /// vain several times it is left alone for longer.
    #[must_use]
    pub fn wants_time(&self, station: &StationId, now: Timestamp) -> bool {
        self.stations.get(station).is_some_and(|clock| {
            let far = clock.state.offset_ms.is_some_and(|offset| offset.abs() > ALIKE_MS);
            let wrong = clock.state.verdict.is_wrong() && (clock.state.verdict != Verdict::Drifting || far);
            let patience_ms = if clock.in_vain < IN_VAIN { PATIENCE_MS } else { LONG_PATIENCE_MS };
            wrong && clock.state.told.is_none_or(|told| now.millis_since(told) >= patience_ms)
        })
    }

    /// A station was told the time.
    pub fn told(&mut self, station: &StationId, now: Timestamp) {
        if let Some(clock) = self.stations.get_mut(station) {
            clock.state.told = Some(now);
            clock.in_vain += 1;
            // What follows is another clock.
            clock.forget();
        }
    }
}

impl Clock {
    fn forget(&mut self) {
        self.recent.clear();
        self.hours.clear();
        (self.before, self.steady) = (None, 0);
        self.state.drift_ppm = None;
    }

    fn observe(&mut self, bounds: &Bounds, Arrival { at, newest, goes_back }: Arrival) -> Option<Change> {
        let offset = newest.millis_since(at);
        let before = self.before.replace((at, offset));
        let verdict = if offset > bounds.fresh_ms.max(AHEAD_MS) {
            Some(Verdict::Ahead)
        } else if -offset > bounds.oldest_ms {
            Some(Verdict::LongPast)
        } else if goes_back {
            Some(Verdict::SetBack)
        } else if -offset <= bounds.fresh_ms {
            Some(self.fresh(at, offset))
        } else {
            self.stale(before, at, offset)
        };
        // An old report that may be a backlog's says nothing about the clock.
        let verdict = verdict?;
        self.state.offset_ms = Some(offset);
        if matches!(verdict, Verdict::Ahead | Verdict::LongPast | Verdict::SetBack) {
            self.recent.clear();
            self.hours.clear();
            self.state.drift_ppm = None;
        }
        if !verdict.is_wrong() {
            self.in_vain = 0;
        }
        let before = self.state.verdict;
        if verdict == before {
            return None;
        }
        (self.state.verdict, self.state.since) = (verdict, Some(at));
        Some(Change { before, now: self.state })
    }

    /// A report that came soon after it was made.
    fn fresh(&mut self, at: Timestamp, offset: i64) -> Verdict {
        self.steady = 0;
        let jumped = self.jumps(offset);
        if jumped {
            self.hours.clear();
            self.recent.clear();
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(offset);
        let hour = at.as_millis().div_euclid(HOUR_MS);
        match self.hours.back_mut() {
            Some((last, when, best)) if *last == hour => {
                if offset > *best {
                    (*when, *best) = (at, offset);
                }
            }
            _ => {
                if self.hours.len() == HOURS {
                    self.hours.pop_front();
                }
                self.hours.push_back((hour, at, offset));
                self.state.drift_ppm = self.drift();
            }
        }
        let away = offset.abs() > JUMP_MS / 2;
        match self.state.verdict {
            _ if offset > AHEAD_MS && !jumped => Verdict::Ahead,
            _ if jumped && away => Verdict::Jumped,
            Verdict::Jumped if away => Verdict::Jumped,
            _ if self.state.drift_ppm.is_some_and(|ppm| ppm.abs() >= DRIFT_PPM) => Verdict::Drifting,
            _ => Verdict::Fine,
        }
    }

    /// Whether a fresh offset lies ahead of all the last ones, or the last ones lie alike behind those before them.
    fn jumps(&self, offset: i64) -> bool {
        if self.recent.len() < AGREEING {
            return false;
        }
        let best = |offsets: &mut dyn Iterator<Item = i64>| offsets.max().unwrap_or(i64::MIN);
        if offset > best(&mut self.recent.iter().copied()) + JUMP_MS {
            return true;
        }
        let earlier = self.recent.len() - (AGREEING - 1);
        let last = || self.recent.iter().skip(earlier).copied().chain([offset]);
        let (low, high) = (last().min().unwrap_or(offset), last().max().unwrap_or(offset));
        high - low <= ALIKE_MS && high + JUMP_MS < best(&mut self.recent.iter().take(earlier).copied())
    }

    /// A report that is older than fresh ones are: a backlog's, or a slow clock's.
    fn stale(&mut self, before: Option<(Timestamp, i64)>, at: Timestamp, offset: i64) -> Option<Verdict> {
        let steady = before.is_some_and(|(when, was)| {
            let passed = at.millis_since(when);
            // A backlog's reports come one after another; what is made now comes when it is made.
            passed >= ALIKE_MS && (offset - was).abs() <= (passed / 50).max(ALIKE_MS / 2)
        });
        self.steady = if steady { self.steady + 1 } else { 0 };
        (self.steady + 1 >= STEADY).then_some(Verdict::Behind)
    }

    /// The drift, if it is clear.
    fn drift(&self) -> Option<f64> {
        if self.hours.len() < FEWEST_HOURS {
            return None;
        }
        let points: Vec<(f64, f64)> = {
            let (_, first, _) = self.hours.front()?;
            self.hours.iter().map(|(_, at, offset)| (at.millis_since(*first) as f64, *offset as f64)).collect()
        };
        let slopes = points.iter().enumerate().flat_map(|(i, (x, y))| {
            points[i + 1..].iter().filter(move |(x2, _)| x2 > x).map(move |(x2, y2)| (y2 - y) / (x2 - x))
        });
        let slope = median(slopes.collect())?;
        let level = median(points.iter().map(|(x, y)| y - slope * x).collect())?;
        let noise = median(points.iter().map(|(x, y)| (y - slope * x - level).abs()).collect())?;
        let moved = (slope * points.last()?.0).abs();
        (moved >= DRIFT_MS && noise * 4.0 <= moved).then_some(slope * 1e6)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const NOW: Timestamp = Timestamp::from_secs(1_433_116_800);

    /// A station that reports each quarter of an hour; each report takes a second or two to come.
    struct Simulated {
        clocks: Clocks,
        now: Timestamp,
        reports: i64,
    }

    impl Simulated {
        fn new() -> Self {
            let bounds = Bounds { fresh_ms: 5 * MINUTE, oldest_ms: 400 * 1440 * MINUTE };
            Self { clocks: Clocks::new(bounds), now: NOW, reports: 0 }
        }

        fn id() -> StationId {
            "n1".parse().unwrap()
        }

        /// The next report of a clock that is ahead by so much.
        fn report(&mut self, ahead_ms: i64) -> Option<Change> {
            self.reports += 1;
            let made = self.now.plus_millis(15 * MINUTE);
            self.now = made.plus_millis(800 + self.reports * 7919 % 1400);
            self.arrive(made.plus_millis(ahead_ms), false)
        }

        fn reports(&mut self, count: usize, ahead_ms: i64) {
            for _ in 0..count {
                self.report(ahead_ms);
            }
        }

        fn arrive(&mut self, newest: Timestamp, goes_back: bool) -> Option<Change> {
            self.clocks.observe(&Self::id(), Arrival { at: self.now, newest, goes_back })
        }

        fn verdict(&self) -> Verdict {
            self.clocks.state(&Self::id()).verdict
        }
    }

    #[test]
    fn a_good_clock_stays_fine_through_delays_and_backlogs() {
        let mut station = Simulated::new();
        assert_eq!(station.verdict(), Verdict::Unknown);
        let first = station.report(0).unwrap();
        assert_eq!((first.before, first.now.verdict), (Verdict::Unknown, Verdict::Fine));
        for i in 0..400 {
            // Every seventh comes late by up to two minutes, and once a day the radio is off for three hours.
            let late = if i % 7 == 0 { -(i % 120) * 1000 } else { 0 };
            if i % 96 == 95 {
                let since = station.now;
                station.now = since.plus_millis(180 * MINUTE);
                for n in 1..=12 {
                    station.now = station.now.plus_millis(200);
                    assert_eq!(station.arrive(since.plus_millis(n * 15 * MINUTE - 1000), false), None);
                }
            }
            assert_eq!(station.report(late), None, "report {i}");
        }
        assert_eq!(station.clocks.state(&Simulated::id()).drift_ppm, None);
        assert!(!station.clocks.wants_time(&Simulated::id(), station.now));
    }

    #[test]
    fn a_clock_that_is_ahead_long_past_or_set_back_is_found_by_one_report() {
        let cases = [
            (6 * MINUTE, false, Verdict::Ahead),
            (400 * 1440 * MINUTE, false, Verdict::Ahead),
            (-NOW.as_millis(), false, Verdict::LongPast),
            (-60 * MINUTE, true, Verdict::SetBack),
        ];
        for (ahead_ms, goes_back, expected) in cases {
            let mut station = Simulated::new();
            station.reports(10, 0);
            let newest = station.now.plus_millis(ahead_ms);
            let change = station.arrive(newest, goes_back).unwrap();
            assert_eq!((change.before, change.now.verdict), (Verdict::Fine, expected));
            assert_eq!(change.now.since, Some(station.now));
            assert!(station.clocks.wants_time(&Simulated::id(), station.now));
            // Set right, it is fine by the next report.
            station.clocks.told(&Simulated::id(), station.now);
            assert_eq!(station.report(0).unwrap().now.verdict, Verdict::Fine);
        }
    }

    #[test]
    fn a_slow_clock_is_told_from_a_backlog() {
        let mut station = Simulated::new();
        let verdicts: Vec<Verdict> = (0..6)
            .map(|_| {
                station.report(-3 * 60 * MINUTE);
                station.verdict()
            })
            .collect();
        use Verdict::{Behind, Unknown};
        assert_eq!(verdicts, [Unknown, Unknown, Unknown, Behind, Behind, Behind]);
        // A backlog of two days, delivered a report a second, and then a report a minute.
        for pace_ms in [1000, MINUTE] {
            let mut station = Simulated::new();
            let since = station.now;
            station.now = since.plus_millis(2880 * MINUTE);
            for n in 0..180 {
                station.now = station.now.plus_millis(pace_ms);
                assert_eq!(station.arrive(since.plus_millis(n * 15 * MINUTE), false), None);
            }
        }
    }

    #[test]
    fn a_jump_within_the_tolerance_is_noticed_ahead_at_once_and_behind_when_it_stays() {
        let mut station = Simulated::new();
        station.reports(20, 0);
        assert_eq!(station.report(120_000).unwrap().now.verdict, Verdict::Jumped);
        station.reports(4, 120_000);
        assert!(station.verdict().is_wrong());
        // One late report is no jump; four that are late by the same are.
        let mut station = Simulated::new();
        station.reports(20, 0);
        for _ in 0..3 {
            assert_eq!(station.report(-120_000), None);
        }
        assert_eq!(station.report(-120_000).unwrap().now.verdict, Verdict::Jumped);
        station.clocks.told(&Simulated::id(), station.now);
        assert_eq!(station.report(0).unwrap().now.verdict, Verdict::Fine);
    }

    #[test]
    fn a_drift_is_measured_through_noise_and_delays() {
        for (ppm, found) in [(0.0, false), (20.0, false), (200.0, true), (-300.0, true)] {
            let mut station = Simulated::new();
            let begin = station.now;
            for i in 0..96 {
                let ahead = station.now.millis_since(begin) as f64 * ppm / 1e6;
                station.report(ahead as i64 - if i % 5 == 0 { 40_000 } else { 0 });
            }
            let state = station.clocks.state(&Simulated::id());
            assert_eq!(state.verdict == Verdict::Drifting, found, "{ppm} ppm: {state:?}");
            if found {
                let measured = state.drift_ppm.unwrap();
                assert!((measured - ppm).abs() < 20.0, "{measured} of {ppm}");
                assert!(station.clocks.wants_time(&Simulated::id(), station.now));
            }
        }
    }

    #[test]
    fn a_station_that_does_not_listen_is_left_alone_for_longer() {
        let mut station = Simulated::new();
        let mut told = Vec::new();
        for _ in 0..6 * 60 {
            station.now = station.now.plus_millis(MINUTE);
            station.arrive(station.now.plus_millis(60 * MINUTE), false);
            if station.clocks.wants_time(&Simulated::id(), station.now) {
                station.clocks.told(&Simulated::id(), station.now);
                told.push(station.now.millis_since(NOW) / MINUTE);
            }
        }
        assert_eq!(told, [1, 6, 11, 71, 131, 191, 251, 311]);
    }
}
