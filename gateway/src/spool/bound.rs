//! How much may wait for the cloud, and what goes when it is more.
//!
//! Beyond the limit of the whole spool the oldest windows go: the raw readings outlive them. Alerts, decisions and births
//! have a limit each beneath it. Beyond that, what says nothing to the cloud any more goes first: changes that a later one
//! of the same alert, decision or station replaces. Then go alerts that opened and ended, and decisions that others of
//! their field followed, while they waited: the oldest first, as a whole, and counted. What the cloud knows as open or as
//! unconfirmed learns its end whatever happens, and the alerts that are open, the last decision on each field and the last
//! birth of each station stay: they are no more than there are stations and fields.
//!
//! Raw readings need no limit, for no more are gathered while some wait. Nothing that goes leaves a gap: a record has no
//! sequence before its batch is made, and a batch that is under way stays whole.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::{Lane, Record, Timestamp};
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{Spool, mark, under_way};
use crate::store::StoreError;

/// How many of the oldest records are dropped in one transaction when the spool is full.
pub(super) const DROP_AT_ONCE: u32 = 500;
/// The lanes that have a limit of their own.
const LANES: [Lane; 3] = [Lane::Alerts, Lane::Decisions, Lane::Births];
/// The most bytes of such a lane: some fifty thousand changes of alerts.
const LANE_BYTES: u64 = 16 << 20;
/// The most that such a lane may take of a small spool.
const LANE_SHARE: u64 = 8;
/// How much of a full lane goes at once: to find what can go means to read all of it.
const LANE_ROOM: i64 = 8;

/// What a row of a lane tells of.
struct Told {
    /// The alert, the decision or the station.
    subject: String,
    /// Whether the cloud knew nothing of it before.
    is_first: bool,
    /// What it says of the subject's end.
    state: State,
}

enum State {
    /// An alert that has ended, or has not.
    Alert { ended: bool },
    /// A decision on this field, for this time.
    Decision { field: String, at: Timestamp },
    /// A station's birth.
    Birth,
}

impl Told {
    fn of(record: Record) -> Option<Self> {
        Some(match record {
            Record::Alert(alert) => Self {
                is_first: alert.revision == 0,
                state: State::Alert { ended: alert.closed.is_some() },
                subject: alert.id,
            },
            Record::Decision(decision) => Self {
                is_first: decision.confirmed.is_empty(),
                state: State::Decision { field: decision.field.to_string(), at: decision.at },
                subject: decision.id,
            },
            Record::Birth(birth) => Self { subject: birth.station.to_string(), is_first: false, state: State::Birth },
            Record::Window(_) | Record::Raw(_) => return None,
        })
    }
}

/// A row and its bytes.
type Row = (i64, i64);

/// All that waits of a subject.
struct Waiting {
    /// The row that told of it first of all; none when the cloud knows of it, or soon will.
    first: Option<Row>,
    /// The row that counts.
    last: Row,
    state: State,
}

/// Rows that can go, all or none.
struct Cut {
    rows: Vec<Row>,
    /// Whether the cloud does not learn of something by it.
    is_loss: bool,
}

impl Spool {
    /// Holds the spool within `most` bytes, and its lanes within theirs. Gives how many windows, alerts and decisions went
    /// of which the cloud learns nothing, and how long it took to drop them.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn trim(&mut self, most: u64) -> Result<(u64, Duration), StoreError> {
        let (mut dropped, mut took) = (0, Duration::ZERO);
        for lane in LANES {
            let (lost, length) = self.trim_lane(lane, LANE_BYTES.min(most / LANE_SHARE).cast_signed())?;
            (dropped, took) = (dropped + lost, took + length);
        }
        // To add the spool up means to read it; where the whole file is smaller it need not be.
        if self.store.used_bytes()? <= most {
            return Ok((dropped, took));
        }
        let bytes: i64 =
            self.connection().query_row("SELECT coalesce(sum(length(body)), 0) FROM spool", [], |row| row.get(0))?;
        let began = Instant::now();
        let mut excess = bytes - most.cast_signed();
        // In turns, so that a commit is not held up for long.
        while excess > 0 {
            let (windows, bytes) = self.drop_oldest(excess)?;
            if windows == 0 {
                break;
            }
            (dropped, excess) = (dropped + windows, excess - bytes);
        }
        Ok((dropped, took + began.elapsed()))
    }

    /// Drops the oldest windows, `excess` bytes of them but at most [`DROP_AT_ONCE`]; gives how many went, and their bytes.
    fn drop_oldest(&mut self, excess: i64) -> Result<(u64, i64), StoreError> {
        let transaction = self.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        // What is under way stays: of the live lane, and of the back-fill when it sends windows.
        let mut under_ways = [0..=0, 0..=0];
        for (lane, rows) in [Lane::Aggregates, Lane::Backfill].into_iter().zip(&mut under_ways) {
            if let Some(last) = sending(&transaction, lane)?
                && let Some((rows_lane, range, _)) = under_way(&transaction, lane, last)?
                && rows_lane == Lane::Aggregates as i64
            {
                *rows = range;
            }
        }
        let [live, late] = under_ways;
        let is_late = mark(&transaction, "backfill_to")?.unwrap_or(0);
        let (mut of_live, mut of_late, mut bytes) = (0_u64, 0_u64, 0);
        {
            let mut statement = transaction.prepare_cached(
                "DELETE FROM spool WHERE id IN (SELECT id FROM
                    (SELECT id, sum(length(body)) OVER (ORDER BY id) - length(body) AS before
                        FROM (SELECT id, body FROM spool WHERE lane = ?1
                            AND id NOT BETWEEN ?2 AND ?3 AND id NOT BETWEEN ?4 AND ?5 ORDER BY id LIMIT ?6))
                    WHERE before < ?7) RETURNING id, length(body)",
            )?;
            let (lane, at_once) = (Lane::Aggregates as i64, DROP_AT_ONCE);
            let which = params![lane, live.start(), live.end(), late.start(), late.end(), at_once, excess];
            let mut rows = statement.query(which)?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                *if id <= is_late { &mut of_late } else { &mut of_live } += 1;
                bytes += row.get::<_, i64>(1)?;
            }
        }
        count(&transaction, Lane::Aggregates, of_live)?;
        count(&transaction, Lane::Backfill, of_late)?;
        transaction.commit()?;
        Ok((of_live + of_late, bytes))
    }

    /// Holds a lane within `most` bytes. Gives how many alerts or decisions went of which the cloud learns nothing, and how
    /// long it took to drop them.
    fn trim_lane(&mut self, lane: Lane, most: i64) -> Result<(u64, Duration), StoreError> {
        let bytes: i64 = self.connection().query_row(
            "SELECT coalesce(sum(length(body)), 0) FROM spool WHERE lane = ?1",
            [lane as i64],
            |row| row.get(0),
        )?;
        if bytes <= most {
            return Ok((0, Duration::ZERO));
        }
        let mut excess = bytes - (most - most / LANE_ROOM);
        let cuts = self.cuts(lane)?;
        let began = Instant::now();
        let mut lost = 0;
        let mut cuts = cuts.iter().peekable();
        while excess > 0 && cuts.peek().is_some() {
            let transaction = self.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
            // The uplink may have taken some of it meanwhile.
            let under_way = sending(&transaction, lane)?.unwrap_or(0);
            let mut lost_now = 0;
            for Cut { rows, is_loss } in cuts.by_ref().take(DROP_AT_ONCE as usize) {
                let waits: bool = transaction
                    .prepare_cached("SELECT EXISTS (SELECT 1 FROM spool WHERE id = ?1)")?
                    .query_row([rows[0].0], |row| row.get(0))?;
                if !waits || rows[0].0 <= under_way {
                    continue;
                }
                for (id, bytes) in rows {
                    transaction.prepare_cached("DELETE FROM spool WHERE id = ?1")?.execute([id])?;
                    excess -= bytes;
                }
                lost_now += u64::from(*is_loss);
                if excess <= 0 {
                    break;
                }
            }
            count(&transaction, lane, lost_now)?;
            transaction.commit()?;
            lost += lost_now;
        }
        Ok((lost, began.elapsed()))
    }

    /// What can go of a lane, in this order.
    fn cuts(&mut self, lane: Lane) -> Result<Vec<Cut>, StoreError> {
        let transaction = self.connection().transaction()?;
        let under_way = sending(&transaction, lane)?.unwrap_or(0);
        let mut waiting: HashMap<String, Waiting> = HashMap::new();
        let mut newest: HashMap<String, Timestamp> = HashMap::new();
        let mut cuts = Vec::new();
        {
            let mut statement =
                transaction.prepare_cached("SELECT id, body FROM spool WHERE lane = ?1 AND id > ?2 ORDER BY id")?;
            let mut rows = statement.query([lane as i64, under_way])?;
            while let Some(row) = rows.next()? {
                let (id, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
                // What cannot be read is set aside when its turn comes.
                let Some(Told { subject, is_first, state }) = Record::decode(&body).ok().and_then(Told::of) else {
                    continue;
                };
                if let State::Decision { field, at } = &state {
                    let newest = newest.entry(field.clone()).or_insert(*at);
                    *newest = (*newest).max(*at);
                }
                let row = (id, body.len() as i64);
                match waiting.get_mut(&subject) {
                    None => {
                        waiting.insert(subject, Waiting { first: is_first.then_some(row), last: row, state });
                    }
                    Some(known) => {
                        if known.first != Some(known.last) {
                            cuts.push(Cut { rows: vec![known.last], is_loss: false });
                        }
                        (known.last, known.state) = (row, state);
                    }
                }
            }
        }
        let mut lost: Vec<Cut> = waiting
            .into_values()
            .filter(|of| match &of.state {
                State::Alert { ended } => *ended,
                State::Decision { field, at } => newest.get(field).is_some_and(|newest| at < newest),
                State::Birth => false,
            })
            .filter_map(|Waiting { first, last, .. }| {
                let mut rows = vec![first?];
                rows.extend((first != Some(last)).then_some(last));
                Some(Cut { rows, is_loss: true })
            })
            .collect();
        lost.sort_unstable_by_key(|cut| cut.rows[0].0);
        cuts.sort_unstable_by_key(|cut: &Cut| cut.rows[0].0);
        cuts.extend(lost);
        Ok(cuts)
    }
}

/// The last row of the batch of a lane that is under way.
fn sending(transaction: &Transaction<'_>, lane: Lane) -> Result<Option<i64>, StoreError> {
    Ok(transaction.query_row("SELECT sending FROM lane WHERE lane = ?1", [lane as i64], |row| row.get(0))?)
}

/// The counter of what was dropped of a lane.
fn counter(lane: Lane) -> String {
    format!("dropped.{}", lane.name())
}

fn count(transaction: &Transaction<'_>, lane: Lane, lost: u64) -> Result<(), StoreError> {
    if lost > 0 {
        transaction.execute(
            "INSERT INTO counter VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            params![counter(lane), lost.cast_signed()],
        )?;
    }
    Ok(())
}

/// How many of a lane were dropped since the store was made.
pub(super) fn dropped(transaction: &Transaction<'_>, lane: Lane) -> Result<u64, StoreError> {
    let value = transaction
        .prepare_cached("SELECT value FROM counter WHERE name = ?1")?
        .query_row([counter(lane)], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(value.unwrap_or(0).cast_unsigned())
}

#[cfg(test)]
#[path = "../../tests/support/records.rs"]
mod records;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proto::{Alert, Decision};

    use super::*;
    use crate::spool::Limits;
    use crate::store::Group;

    fn now() -> Timestamp {
        Timestamp::from_secs(0)
    }

    /// The change of this number of an alert; the last one that is told of ended ones says so.
    fn alert(number: u32, revision: u32, ended: bool) -> Record {
        let opened = Timestamp::from_secs(i64::from(number));
        let updated = opened.plus_secs(i64::from(revision));
        let alert = records::alert(i64::from(number), opened);
        Record::Alert(Alert { updated, closed: ended.then_some(updated), revision, ..alert })
    }

    fn decision(field: &str, number: i64, confirmed: bool) -> Record {
        let valve = || vec!["v1".parse().unwrap()];
        let decision = records::decision(field, Timestamp::from_secs(900 * number));
        let confirmed = if confirmed { valve() } else { Vec::new() };
        Record::Decision(Decision { stations: valve(), confirmed, ..decision })
    }

    fn birth(station: &str, number: i64) -> Record {
        let mut birth = records::birth(station, Timestamp::from_secs(number));
        birth.birth.firmware = format!("1.0.{number}");
        Record::Birth(birth)
    }

    fn open(dir: &Path) -> Spool {
        Spool::open(dir).unwrap()
    }

    fn put(spool: &mut Spool, id: u64, records: Vec<Record>) {
        spool.store.commit(&Group { records, ..Group::default() }, id, now()).unwrap();
    }

    fn held(spool: &mut Spool, lane: Lane) -> Vec<Record> {
        let transaction = spool.connection().transaction().unwrap();
        let mut all = transaction.prepare("SELECT body FROM spool WHERE lane = ?1 ORDER BY id").unwrap();
        let rows = all.query_map([lane as i64], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        rows.map(|body| Record::decode(&body.unwrap()).unwrap()).collect()
    }

    fn bytes(records: &[Record]) -> u64 {
        records.iter().map(|record| record.encode().len() as u64).sum()
    }

    /// A limit of the spool under which a lane may hold as much as these records.
    fn limit(records: &[Record]) -> u64 {
        LANE_SHARE * bytes(records)
    }

    fn dropped(spool: &mut Spool, lane: Lane) -> u64 {
        spool.backlog().unwrap().into_iter().find(|(of, _)| *of == lane).unwrap().1.dropped
    }

    #[test]
    fn what_a_later_change_replaces_goes_first_and_nothing_is_lost_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        let told: Vec<Record> =
            (0..6).flat_map(|revision| (0..100).map(move |number| alert(number, revision, revision == 5))).collect();
        put(&mut spool, 1, told.clone());
        assert_eq!(spool.trim(limit(&told)).unwrap(), (0, Duration::ZERO), "it is within its limit");
        assert_eq!(held(&mut spool, Lane::Alerts), told);
        // First and last change of each.
        let (lost, took) = spool.trim(limit(&told[..240])).unwrap();
        assert!(lost == 0 && took > Duration::ZERO);
        let held = held(&mut spool, Lane::Alerts);
        assert_eq!((&held[..100], &held[held.len() - 100..]), (&told[..100], &told[500..]));
        assert!(bytes(&held) <= bytes(&told[..240]) && held.len() >= 200);
        assert_eq!(dropped(&mut spool, Lane::Alerts), 0);
    }

    #[test]
    fn alerts_that_came_and_went_unseen_go_oldest_first_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        // The cloud knows that 0 to 2 are open, and 3 to 5 are on their way to it.
        put(&mut spool, 1, (0..3).map(|number| alert(number, 0, false)).collect());
        let sent = spool.next(Lane::Alerts, Limits::default(), now()).unwrap().unwrap();
        spool.acknowledged(Lane::Alerts, &sent, 3).unwrap();
        put(&mut spool, 2, (3..6).map(|number| alert(number, 0, false)).collect());
        let under_way = spool.next(Lane::Alerts, Limits::default(), now()).unwrap().unwrap();
        let opened: Vec<Record> = (6..1_000).map(|number| alert(number, 0, false)).collect();
        put(&mut spool, 3, opened.clone());
        // All end but 6 to 8.
        put(&mut spool, 4, (0..1_000).filter(|n| !(6..9).contains(n)).map(|number| alert(number, 1, true)).collect());

        let (lost, _) = spool.trim(limit(&opened[..200])).unwrap();
        let number = |record: &Record| match record {
            Record::Alert(alert) => (alert.opened.as_millis() / 1000, alert.closed.is_some()),
            other => panic!("{other:?}"),
        };
        let left: Vec<(i64, bool)> = held(&mut spool, Lane::Alerts).iter().map(number).collect();
        let (first, last) = (9 + lost.cast_signed(), 1_000);
        let mut expected: Vec<(i64, bool)> = (3..9).chain(first..last).map(|number| (number, false)).collect();
        expected.extend((0..6).chain(first..last).map(|number| (number, true)));
        assert_eq!(left, expected);
        assert!((880..930).contains(&lost), "an eighth of the limit is free again: {lost}");
        assert_eq!(dropped(&mut spool, Lane::Alerts), lost);
        assert_eq!(dropped(&mut spool, Lane::Decisions), 0);

        // However little there may be, those stay.
        spool.trim(8).unwrap();
        assert_eq!(held(&mut spool, Lane::Alerts).len(), 3 + 3 + 6);
        assert_eq!(dropped(&mut spool, Lane::Alerts), 991);
        assert_eq!(spool.next(Lane::Alerts, Limits::default(), now()).unwrap().unwrap(), under_way);
        spool.acknowledged(Lane::Alerts, &under_way, 6).unwrap();
        let rest = spool.next(Lane::Alerts, Limits::default(), now()).unwrap().unwrap();
        assert_eq!((rest.first, rest.records.len()), (7, 9), "no gap");
        drop(spool);
        assert_eq!(dropped(&mut open(dir.path()), Lane::Alerts), 991, "after a restart, too");
    }

    #[test]
    fn the_last_decision_on_each_field_and_the_word_of_a_valve_that_the_cloud_waits_for_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        put(&mut spool, 1, vec![decision("north", 0, false)]);
        let sent = spool.next(Lane::Decisions, Limits::default(), now()).unwrap().unwrap();
        spool.acknowledged(Lane::Decisions, &sent, 1).unwrap();
        let confirms = decision("north", 0, true);
        let south = decision("south", 1, false);
        let mut told = vec![confirms.clone(), south.clone()];
        told.extend((1..500).flat_map(|number| [false, true].map(|confirmed| decision("north", number, confirmed))));
        put(&mut spool, 2, told.clone());
        let (lost, _) = spool.trim(8).unwrap();
        assert_eq!((lost, dropped(&mut spool, Lane::Decisions)), (498, 498));
        let last = [false, true].map(|confirmed| decision("north", 499, confirmed));
        assert_eq!(held(&mut spool, Lane::Decisions), [vec![confirms, south], last.to_vec()].concat());
    }

    #[test]
    fn of_births_the_last_of_each_station_stays_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        put(&mut spool, 1, (0..300).flat_map(|number| ["n1", "n2"].map(|station| birth(station, number))).collect());
        assert_eq!(spool.trim(8).unwrap().0, 0);
        assert_eq!(held(&mut spool, Lane::Births), ["n1", "n2"].map(|station| birth(station, 299)));
    }
}
