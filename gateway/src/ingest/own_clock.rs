//! The gateway's own clock, which may be as wrong as a station's: a small computer without a battery for its clock starts
//! where it was switched off, or in 1970, and is set right minutes later, when there is a network, or never.
//!
//! A wrong clock of the gateway's would take good readings for those of the future, tell good stations a wrong time, and let
//! go of readings before they are old. So the clock is held against what cannot lie together: the newest commit on disk, the
//! computer's count of seconds since it was switched on, which no setting changes, and the stations.
//!
//! - At the start it is *in doubt* when it is behind the newest commit, far ahead of it, or shows a year before this
//!   program was made.
//! - When it is set while the gateway runs, the farm's time goes on by the count of seconds, and the clock is in doubt.
//! - When most stations, three at least, say alike that it is behind, the farm's time goes by them. When they say that it is
//!   ahead it is in doubt; for they may all be as late.
//!
//! While it is in doubt no station is told the time, and no reading goes for its age. Stations end the doubt: those that
//! agree with what it shows, or with another time alike. A station's word is the time of its newest reading in a report, which comes
//! up to some minutes after it was made; a backlog says nothing of the time.
//!
//! It knows no wall clock: times are parameters. All that comes later is judged by the time that a commit got, which is on
//! disk with it, so that a restarted gateway judges as it did.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use proto::{StationId, Timestamp};

/// Set by more than this, in ms, it was set: slewing is slower.
const STEP_MS: i64 = 10_000;
/// Behind the newest commit by more than this, in ms, it was set back.
const BACK_MS: i64 = 60_000;
/// Ahead of the newest commit by more than this, in ms, nobody knows: a gateway is seldom off for a month.
const FAR_MS: i64 = 30 * 86_400_000;
/// No gateway of this version ran before: 2026-01-01.
const MADE: Timestamp = Timestamp::from_secs(1_767_225_600);
/// A station's clock that is ahead by no more than this, in ms, agrees: far more than clocks differ that a network sets.
const AHEAD_MS: i64 = 30_000;
/// A report's newest reading that is no older than this, in ms, agrees.
const FRESH_MS: i64 = 300_000;
/// Two reports, further apart than this, ...
const APART: Duration = Duration::from_secs(30);
/// ... whose ages differ by less than this, in ms, are no backlog's.
const STEADY_MS: i64 = 10_000;
/// A correction below this, in ms, is none.
const SNAP_MS: i64 = 5_000;
/// How long a station's word counts.
const HEARD: Duration = Duration::from_secs(3600);
/// How long the clock is in doubt after it was set, when no station says anything of the time.
const UNCONTRADICTED: Duration = Duration::from_secs(900);
/// To go through all stations is for one in so many of their reports, where they are more: what it finds is of most of them.
const SHARE: usize = 16;
/// So many stations must agree against a clock that nothing else speaks against.
const MANY: usize = 3;

/// Why the clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Doubt {
    /// It is behind the newest commit on disk.
    SetBack = 1,
    /// It is more than a month ahead of the newest commit on disk.
    FarAhead,
    /// It shows a time before this program was made.
    LongPast,
    /// It was set while the gateway ran.
    Stepped,
    /// Most stations are behind it by as much.
    Disputed,
}

impl Doubt {
    const ALL: [Self; 5] = [Self::SetBack, Self::FarAhead, Self::LongPast, Self::Stepped, Self::Disputed];

    /// As the page and the log say it, after "The gateway's clock ".
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::SetBack => "is behind what was stored before it was started",
            Self::FarAhead => "is more than a month ahead of what was stored before it was started",
            Self::LongPast => "shows a time before this version was made",
            Self::Stepped => "was set while the gateway ran",
            Self::Disputed => "is ahead of most stations, and of all by as much",
        }
    }

    fn at_start(shown: Timestamp, kept: Option<Timestamp>) -> Option<Self> {
        let ahead_ms = kept.map(|kept| shown.millis_since(kept));
        match ahead_ms {
            _ if shown < MADE => Some(Self::LongPast),
            Some(ahead_ms) if ahead_ms < -BACK_MS => Some(Self::SetBack),
            Some(ahead_ms) if ahead_ms > FAR_MS => Some(Self::FarAhead),
            _ => None,
        }
    }
}

/// How it stands, for whoever asks the time.
#[derive(Debug, Default)]
pub(super) struct Standing {
    correction_ms: AtomicI64,
    doubt: AtomicU8,
}

impl Standing {
    /// The time when the clock shows `shown`.
    pub fn correct(&self, shown: Timestamp) -> Timestamp {
        shown.plus_millis(self.correction_ms())
    }

    /// What is added to what the clock shows, in ms.
    pub fn correction_ms(&self) -> i64 {
        self.correction_ms.load(Ordering::Relaxed)
    }

    /// Why it is not believed, if it is not.
    pub fn doubt(&self) -> Option<Doubt> {
        let doubt = self.doubt.load(Ordering::Relaxed);
        Doubt::ALL.into_iter().find(|one| *one as u8 == doubt)
    }
}

/// What a station last said of the time.
#[derive(Debug, Clone, Copy)]
struct Witness {
    /// Its newest reading's time less what the clock showed when it came, in ms.
    offset_ms: i64,
    /// Whether the report before was as old.
    steady: bool,
    /// By the count of seconds.
    at: Duration,
}

/// The clock and what speaks for and against it.
#[derive(Debug)]
pub(super) struct OwnClock {
    correction_ms: i64,
    doubt: Option<Doubt>,
    /// When the doubt began, by the count of seconds.
    since: Duration,
    /// What the clock and the count showed last.
    last: (Timestamp, Duration),
    /// When the newest commit came that was on disk at the start.
    kept: Option<Timestamp>,
    /// Stations that were known at the start.
    known: usize,
    witnesses: HashMap<StationId, Witness>,
    /// Reports that spoke against it since all stations were gone through.
    unheeded: usize,
}

impl OwnClock {
    /// At the start, when it shows `shown` and the count of seconds is `count`. The newest commit on disk came at `kept`; so many
    /// stations are known.
    pub fn new(shown: Timestamp, count: Duration, kept: Option<Timestamp>, known: usize) -> Self {
        let doubt = Doubt::at_start(shown, kept);
        let clock = Self {
            correction_ms: 0,
            doubt,
            since: count,
            last: (shown, count),
            kept,
            known,
            witnesses: HashMap::new(),
            unheeded: 0,
        };
        if let Some(doubt) = doubt {
            tracing::error!(%shown, stored = kept.map(tracing::field::display), "the gateway's clock {}", doubt.says());
        }
        clock
    }

    /// Whether it is not believed.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// Says how it stands.
    pub fn tell(&self, standing: &Standing) {
        standing.correction_ms.store(self.correction_ms, Ordering::Relaxed);
        standing.doubt.store(self.doubt.map_or(0, |doubt| doubt as u8), Ordering::Relaxed);
    }

    /// Holds what the clock shows against the count of seconds. To be called every some seconds.
    pub fn look(&mut self, shown: Timestamp, count: Duration) {
        let (before, counted) = std::mem::replace(&mut self.last, (shown, count));
        let step_ms = shown.millis_since(before) - millis(count.saturating_sub(counted));
        if step_ms.abs() > STEP_MS {
            self.witnesses.clear();
            self.since = count;
            if matches!(self.doubt, None | Some(Doubt::Stepped | Doubt::Disputed)) {
                self.correction_ms -= step_ms;
                self.doubt = (self.correction_ms.abs() > SNAP_MS).then_some(Doubt::Stepped);
            } else {
                // What it showed was not believed anyway: this is as good.
                self.correction_ms = 0;
                self.doubt = Doubt::at_start(shown, self.kept);
            }
            if self.doubt.is_none() {
                self.correction_ms = 0;
            }
            let doubt = self.doubt.map(Doubt::says);
            tracing::warn!(%shown, step_s = step_ms as f64 / 1000.0, doubt, "the gateway's clock was set");
        } else if self.doubt == Some(Doubt::Stepped)
            && self.witnesses.is_empty()
            && count.saturating_sub(self.since) > UNCONTRADICTED
        {
            self.settle(0, shown, "no station says anything of the time");
        }
    }

    /// A report of `station` came whose newest reading is of `newest`, by the station's own clock.
    pub fn hear(&mut self, station: &StationId, newest: Timestamp, shown: Timestamp, count: Duration) {
        if newest < MADE {
            // It lost its clock, perhaps together with the gateway.
            return;
        }
        let offset_ms = newest.millis_since(shown);
        let now = Witness { offset_ms, steady: false, at: count };
        match self.witnesses.get_mut(station) {
            Some(witness) if count.saturating_sub(witness.at) >= APART => {
                *witness = Witness { steady: (offset_ms - witness.offset_ms).abs() <= STEADY_MS, ..now };
            }
            // Of reports that come together the freshest counts.
            Some(witness) => witness.offset_ms = witness.offset_ms.max(offset_ms),
            None => drop(self.witnesses.insert(station.clone(), now)),
        }
        if !self.is_disputed_by(station, offset_ms) {
            return;
        }
        self.unheeded += 1;
        if self.unheeded < self.witnesses.len() / SHARE {
            return;
        }
        self.unheeded = 0;
        self.witnesses.retain(|_, witness| count.saturating_sub(witness.at) < HEARD);
        self.judge(station, newest, shown, count);
    }

    /// Whether it is in doubt, or a report of this offset may bring it into doubt: those of a backlog do not, and come in
    /// thousands.
    fn is_disputed_by(&self, station: &StationId, offset_ms: i64) -> bool {
        let (behind, ahead) = self.bounds();
        let steady = || self.witnesses.get(station).is_some_and(|witness| witness.steady);
        self.doubt.is_some() || offset_ms > ahead || (offset_ms < behind && steady())
    }

    /// What a report's offset lies between, ms, whether the correction is right or none is needed.
    fn bounds(&self) -> (i64, i64) {
        (-FRESH_MS + self.correction_ms.min(0), AHEAD_MS + self.correction_ms.max(0))
    }

    fn judge(&mut self, station: &StationId, newest: Timestamp, shown: Timestamp, count: Duration) {
        let Some(Witness { offset_ms, steady, .. }) = self.witnesses.get(station).copied() else { return };
        let (behind, ahead) = self.bounds();
        match self.doubt {
            None if offset_ms > ahead => {
                if let Some(theirs) = self.alike(offset_ms, |_| true, MANY.max(self.most())) {
                    self.settle(theirs, shown, "most stations say alike that it is behind");
                }
            }
            None if offset_ms < behind
                && steady
                && self.alike(offset_ms, |witness| witness.steady, MANY.max(self.most())).is_some() =>
            {
                (self.doubt, self.since) = (Some(Doubt::Disputed), count);
                tracing::error!(%shown, "the gateway's clock {}", Doubt::Disputed.says());
            }
            None => {}
            Some(doubt) => {
                // One that was set back together with the gateway must not be believed for that.
                let plausible = self.kept.is_none_or(|kept| newest >= kept.plus_millis(-FRESH_MS));
                let few = (self.known.max(self.witnesses.len()) / 2).clamp(1, MANY);
                let enough = match doubt {
                    Doubt::Disputed => self.most(),
                    _ if plausible => few,
                    _ => MANY,
                };
                for candidate in [0, self.correction_ms] {
                    let agree = self.witnesses.values().filter(|one| self.agrees(one.offset_ms, candidate)).count();
                    if self.agrees(offset_ms, candidate) && agree >= enough {
                        let snapped = if candidate.abs() <= SNAP_MS { 0 } else { candidate };
                        return self.settle(snapped, shown, "stations agree with it");
                    }
                }
                let theirs = if offset_ms > ahead {
                    self.alike(offset_ms, |_| true, enough)
                } else if doubt == Doubt::FarAhead && offset_ms < behind && steady && plausible {
                    self.alike(offset_ms, |witness| witness.steady, enough)
                } else {
                    None
                };
                if let Some(theirs) = theirs {
                    self.settle(theirs, shown, "stations say alike what time it is");
                }
            }
        }
    }

    /// Whether a report of this offset is one of now, if so much is added to the clock.
    fn agrees(&self, offset_ms: i64, correction_ms: i64) -> bool {
        (-FRESH_MS..=AHEAD_MS).contains(&(offset_ms - correction_ms))
    }

    /// More than half of the stations that were heard.
    fn most(&self) -> usize {
        self.witnesses.len() / 2 + 1
    }

    /// The offset of the least delayed of those that agree with one; none when they are fewer than `enough`.
    fn alike(&self, offset_ms: i64, is: impl Fn(&Witness) -> bool, enough: usize) -> Option<i64> {
        let near = |one: &&Witness| is(one) && (one.offset_ms - offset_ms).abs() <= FRESH_MS;
        let alike: Vec<i64> = self.witnesses.values().filter(near).map(|one| one.offset_ms).collect();
        alike.iter().copied().max().filter(|_| alike.len() >= enough)
    }

    /// From now on it is believed, with this correction.
    fn settle(&mut self, correction_ms: i64, shown: Timestamp, why: &str) {
        (self.correction_ms, self.doubt) = (correction_ms, None);
        let correction_s = correction_ms as f64 / 1000.0;
        tracing::warn!(%shown, correction_s, "the farm's time is known: {why}");
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;
    const DAY: i64 = 86_400_000;
    /// What time it truly is when a test begins.
    const TRUE: Timestamp = Timestamp::from_secs(1_790_000_000);

    /// A farm whose gateway's clock is wrong by `off_ms`.
    struct Farm {
        clock: OwnClock,
        off_ms: i64,
        count: Duration,
    }

    impl Farm {
        /// One that was started when the newest commit was `kept_ago_ms` old.
        fn new(off_ms: i64, kept_ago_ms: Option<i64>, known: usize) -> Self {
            let kept = kept_ago_ms.map(|ago| TRUE.plus_millis(-ago));
            let clock = OwnClock::new(TRUE.plus_millis(off_ms), Duration::ZERO, kept, known);
            Self { clock, off_ms, count: Duration::ZERO }
        }

        fn truth(&self) -> Timestamp {
            TRUE.plus_millis(millis(self.count))
        }

        fn shown(&self) -> Timestamp {
            self.truth().plus_millis(self.off_ms)
        }

        fn wait(&mut self, ms: i64) -> &mut Self {
            self.count += Duration::from_millis(ms.unsigned_abs());
            self.clock.look(self.shown(), self.count);
            self
        }

        fn set(&mut self, off_ms: i64) -> &mut Self {
            self.off_ms = off_ms;
            self.clock.look(self.shown(), self.count);
            self
        }

        /// A report of a station whose newest reading is of `off_ms` after the true time.
        fn report(&mut self, station: usize, off_ms: i64) -> &mut Self {
            let newest = self.truth().plus_millis(off_ms);
            self.clock.hear(&format!("s{station}").parse().unwrap(), newest, self.shown(), self.count);
            self
        }

        /// How far the farm's time is from the true one, and whether it is believed.
        fn stands(&self) -> (i64, Option<Doubt>) {
            let standing = Standing::default();
            self.clock.tell(&standing);
            (standing.correct(self.shown()).millis_since(self.truth()), standing.doubt())
        }
    }

    #[test]
    fn a_right_clock_is_believed_whatever_single_stations_say() {
        let mut farm = Farm::new(0, Some(MINUTE), 6);
        for _ in 0..5 {
            farm.wait(MINUTE);
            // One ahead by a day, one of 1970, one an hour late each time, one with a backlog of a day; two are right.
            farm.report(0, DAY).report(1, -TRUE.as_millis()).report(2, -60 * MINUTE).report(3, -DAY);
            farm.report(3, -DAY / 2).report(4, -2_000).report(5, 1_000);
            assert_eq!(farm.stands(), (0, None));
        }
    }

    #[test]
    fn a_clock_that_is_behind_the_disk_goes_by_the_first_good_station() {
        // Switched off for two hours; the clock has stopped ten minutes before the last commit.
        let mut farm = Farm::new(-130 * MINUTE, Some(120 * MINUTE), 2);
        assert_eq!(farm.stands().1, Some(Doubt::SetBack));
        // A station that lost its clock, too, is not believed.
        farm.report(1, -140 * MINUTE);
        assert_eq!(farm.stands().1, Some(Doubt::SetBack));
        farm.report(0, -3_000);
        assert_eq!(farm.stands(), (-3_000, None));
        // A network sets it right: the farm's time does not leap, and a station confirms it.
        farm.wait(MINUTE).set(0);
        assert_eq!(farm.stands(), (0, None));
    }

    #[test]
    fn a_clock_of_1970_is_believed_when_it_is_set() {
        let mut farm = Farm::new(-TRUE.as_millis(), None, 0);
        assert_eq!(farm.stands().1, Some(Doubt::LongPast));
        // Stations of 1970 agree with it: in vain.
        (0..5).for_each(|station| {
            farm.report(station, -TRUE.as_millis());
        });
        assert_eq!(farm.stands().1, Some(Doubt::LongPast));
        farm.wait(MINUTE).set(0);
        assert_eq!(farm.stands(), (0, None));
    }

    #[test]
    fn a_clock_that_leaps_is_in_doubt_until_a_station_speaks() {
        for (leap_ms, known) in [(365 * DAY, 1), (-365 * DAY, 1), (40 * MINUTE, 1)] {
            let mut farm = Farm::new(0, Some(MINUTE), known);
            farm.wait(MINUTE).report(0, -1_000).set(leap_ms);
            assert_eq!(farm.stands(), (0, Some(Doubt::Stepped)), "time goes on by the count of seconds");
            farm.wait(MINUTE).report(0, -1_000);
            assert_eq!(farm.stands(), (0, None), "the station says that the leap was wrong");
            farm.wait(DAY).set(0);
            assert_eq!(farm.stands(), (0, None), "it is set right");
        }
        // It was wrong before, by less than is noticed, and is set right by more than it was wrong.
        let mut farm = Farm::new(-20 * MINUTE, None, 0);
        farm.wait(MINUTE).set(0);
        assert_eq!(farm.stands(), (-20 * MINUTE, Some(Doubt::Stepped)));
        farm.wait(MINUTE).report(0, -1_000);
        assert_eq!(farm.stands(), (0, None));
        // Nobody can say: after a while it is believed.
        let mut farm = Farm::new(-20 * MINUTE, None, 0);
        farm.wait(MINUTE).set(0).wait(16 * MINUTE);
        assert_eq!(farm.stands(), (0, None));
    }

    #[test]
    fn a_clock_that_is_behind_most_stations_goes_by_them() {
        let mut farm = Farm::new(-50 * MINUTE, None, 0);
        farm.report(0, -2 * MINUTE).report(1, -10_000);
        assert_eq!(farm.stands(), (-50 * MINUTE, None), "two are not many");
        farm.report(2, -60_000);
        assert_eq!(farm.stands(), (-10_000, None));
        // Most must say so.
        let mut farm = Farm::new(0, None, 0);
        (0..4).for_each(|station| {
            farm.report(station, -1_000);
        });
        (4..7).for_each(|station| {
            farm.report(station, 50 * MINUTE);
        });
        assert_eq!(farm.stands(), (0, None));
    }

    #[test]
    fn many_stations_are_gone_through_seldom_and_soon_enough() {
        let minute = |farm: &mut Farm, right: usize| {
            farm.wait(MINUTE);
            let mut gone_through = 0;
            for station in 0..320 {
                let before = farm.clock.unheeded;
                farm.report(station, if station < right { 0 } else { -60 * MINUTE });
                gone_through += usize::from(farm.clock.unheeded < before);
            }
            gone_through
        };
        // That they are late is known of two reports each.
        let mut farm = Farm::new(0, None, 0);
        assert_eq!((minute(&mut farm, 200), minute(&mut farm, 200), minute(&mut farm, 200)), (0, 6, 6));
        assert_eq!(farm.stands(), (0, None), "most are right");
        minute(&mut farm, 80);
        assert_eq!(farm.stands(), (0, None), "most have been late once");
        minute(&mut farm, 80);
        assert_eq!(farm.stands(), (0, Some(Doubt::Disputed)));
    }

    #[test]
    fn a_clock_that_is_ahead_of_most_stations_is_in_doubt() {
        let mut farm = Farm::new(50 * MINUTE, None, 0);
        for _ in 0..2 {
            farm.wait(MINUTE);
            (0..3).for_each(|station| {
                farm.report(station, -1_000);
            });
        }
        assert_eq!(farm.stands().1, Some(Doubt::Disputed));
        farm.set(0);
        assert_eq!(farm.stands().1, Some(Doubt::Stepped));
        (0..3).for_each(|station| {
            farm.report(station, -1_000);
        });
        assert_eq!(farm.stands(), (0, None));
        // A farm that comes back from a day without its gateway has a backlog, and no wrong clock.
        let mut farm = Farm::new(0, Some(DAY), 3);
        for late in (0..24).rev() {
            farm.wait(MINUTE);
            (0..3).for_each(|station| {
                farm.report(station, -late * 60 * MINUTE);
            });
            assert_eq!(farm.stands(), (0, None));
        }
    }

    #[test]
    fn a_clock_far_ahead_of_the_disk_goes_by_stations_that_report_steadily() {
        let mut farm = Farm::new(10 * 365 * DAY, Some(60 * MINUTE), 2);
        assert_eq!(farm.stands().1, Some(Doubt::FarAhead));
        farm.report(0, -50 * MINUTE).wait(MINUTE).report(0, -30 * MINUTE);
        assert_eq!(farm.stands().1, Some(Doubt::FarAhead), "a backlog says nothing");
        farm.wait(MINUTE).report(0, -2_000).wait(MINUTE).report(0, -2_000);
        assert_eq!(farm.stands(), (-2_000, None));
        // A gateway that was off for a year is right.
        let mut farm = Farm::new(0, Some(365 * DAY), 2);
        farm.report(0, -2_000);
        assert_eq!(farm.stands(), (0, None));
    }
}
