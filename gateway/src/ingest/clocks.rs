//! The stations' clocks on the way through the analysis: each report judges one, a wrong one is set right where the station
//! can take that, and what it has timed is kept aside with the reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proto::{Command, Reading, StationId, Timestamp};

use super::{Content, count};
use crate::clock::{Arrival, Bounds, Change, ClockState, Clocks};
use crate::door::Outbox;
use crate::validate::Tolerance;
use crate::window::Placed;

/// How often something of one station is kept aside. What comes in between is counted and in the raw store like all else.
const ASIDE_EVERY_MS: i64 = 3_600_000;
/// The most readings of one report that are kept aside.
const ASIDE_MOST: usize = 500;
/// A report that came longer ago says nothing about whether the station needs the time now.
const RECENT_MS: i64 = 5 * 60_000;

/// Counters of what was rejected for its time, by reason and station, begin so.
pub(super) const UNTIMELY: &str = "untimely.";

/// What is kept aside: source, reason, and the readings as lines of channel, time and value.
pub(super) type Aside = (String, String, Vec<u8>);

/// All clocks, and the way to set them.
#[derive(Debug)]
pub(super) struct Watch {
    clocks: Clocks,
    outbox: Option<Outbox>,
    aside: BTreeMap<StationId, Timestamp>,
}

impl Watch {
    pub fn new(tolerance: &Tolerance) -> Self {
        let bounds = Bounds { fresh_ms: tolerance.future_ms, oldest_ms: tolerance.oldest_ms };
        Self { clocks: Clocks::new(bounds), outbox: None, aside: BTreeMap::new() }
    }

    /// From now on stations can be told the time.
    pub fn connect(&mut self, outbox: Outbox) {
        self.outbox = Some(outbox);
    }

    pub fn state(&self, station: &StationId) -> ClockState {
        self.clocks.state(station)
    }

    /// Judges the clock of the station that said `content`, which came at `at` and was placed as `placed` says. After a
    /// restart this alone is done with what was gone through before.
    pub fn judge(&mut self, station: &StationId, content: &Content, placed: &Placed, at: Timestamp) -> Option<Change> {
        let newest = readings(content).iter().map(|r| r.time).max()?;
        let goes_back = placed.clock > 0 && placed.windowed + placed.late + placed.future == 0;
        self.clocks.observe(station, Arrival { at, newest, goes_back })
    }

    /// [`Watch::judge`], and what follows from it: says what changed, counts what was rejected for its time, keeps it aside,
    /// and tells the station the time if it needs it and `tells` says that the gateway knows it. The message came `at`; it is `now`.
    pub fn follow(
        &mut self,
        station: &StationId,
        content: &Content,
        placed: &Placed,
        (at, now): (Timestamp, Timestamp),
        tells: bool,
        counters: &mut BTreeMap<String, u64>,
    ) -> Option<Aside> {
        if let Some(change) = self.judge(station, content, placed, at) {
            say(station, &change);
        }
        for (reason, by) in [("late", placed.late), ("future", placed.future), ("clock", placed.clock)] {
            if by > 0 {
                tracing::debug!(%station, readings = by, reason, "readings are of a time that is not taken");
                count(counters, format!("rejected.{reason}"), u64::from(by));
                count(counters, format!("{UNTIMELY}{reason}.{station}"), u64::from(by));
            }
        }
        if tells && matches!(content, Content::Batch(..)) && now.millis_since(at) <= RECENT_MS {
            self.tell(station, now, counters);
        }
        let wrong = placed.wrong?;
        if self.aside.get(station).is_some_and(|last| at.millis_since(*last) < ASIDE_EVERY_MS) {
            return None;
        }
        self.aside.insert(station.clone(), at);
        let readings = readings(content).iter().filter(|r| r.time < wrong.from || wrong.until < r.time);
        let mut body = String::new();
        for Reading { channel, time, value } in readings.clone().take(ASIDE_MOST) {
            let _ = writeln!(body, "{channel} {time} {value}");
        }
        let count = match readings.count() {
            1 => "a reading is".to_owned(),
            more => format!("{more} readings are"),
        };
        let reason = format!(
            "clock: {count} of {} or the like, which station {station} sent at {at}; only {} to {} could be",
            wrong.time, wrong.from, wrong.until
        );
        Some((format!("station {station}"), reason, body.into_bytes()))
    }

    fn tell(&mut self, station: &StationId, now: Timestamp, counters: &mut BTreeMap<String, u64>) {
        let Some(outbox) = &self.outbox else { return };
        if self.clocks.wants_time(station, now) && outbox.command(station, Command::SetTime(now), now) {
            let state = self.clocks.state(station);
            tracing::info!(%station, verdict = state.verdict.name(), offset_ms = state.offset_ms, %now, "a station is told the time");
            self.clocks.told(station, now);
            count(counters, "clocks_told".to_owned(), 1);
        }
    }
}

fn say(station: &StationId, change: &Change) {
    let (verdict, offset_s) = (change.now.verdict, change.now.offset_ms.unwrap_or(0) as f64 / 1000.0);
    let drift = change.now.drift_ppm.map(|ppm| format!("{:+.1} s a day", ppm * 0.0864));
    if verdict.is_wrong() {
        tracing::warn!(%station, verdict = verdict.name(), offset_s, drift, "a station's clock is wrong");
    } else if change.before.is_wrong() {
        tracing::info!(%station, offset_s, "a station's clock is right again");
    }
}

fn readings(content: &Content) -> &[Reading] {
    match content {
        Content::Batch(_, readings) | Content::Plain(readings) => readings,
        Content::Birth(_) | Content::Status { .. } | Content::Foreign => &[],
    }
}
