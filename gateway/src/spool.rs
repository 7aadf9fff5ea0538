//! What waits for the cloud, as the uplink sees it: lanes of records, each sent in order and kept until the cloud has it.
//!
//! A record gets its sequence when a batch is put together, not when it is made; so what is dropped or set aside while it
//! waits leaves no gap, and a lane may send its records in any order. A batch that is under way is remembered and sent again
//! as it was, whatever happens meanwhile: the cloud knows it by its sequence.
//!
//! A window that has waited for an hour is live no more: from then on it belongs to the back-fill, which sends the newest
//! first. The rows stay where they are; a mark says up to which row they are the back-fill's.
//!
//! How much may wait, and what goes when it is more, says `spool/bound.rs`.

use std::ops::RangeInclusive;
use std::path::Path;

use proto::{Lane, Record, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::store::{Backlog, Store, StoreError, quarantine, spool_sum};

mod bound;
mod raw;

/// The most records that are put into one batch.
pub const MAX_RECORDS: usize = 1_000;
/// The most bytes of records in one batch, before compression.
pub const MAX_BYTES: usize = 2 << 20;
/// How long a window may wait and still be live, in milliseconds of farm time.
const LIVE_MS: i64 = 3_600_000;
/// Windows that have waited for longer than this go too when one has waited for too long, so that not each goes alone.
const STILL_LIVE_MS: i64 = LIVE_MS / 2;

/// A batch that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Sending {
    /// The store's number, which counts the sequences.
    pub store: u64,
    /// The sequence of the first record.
    pub first: u64,
    /// The rows that it spans, of those that are of `rows_lane`.
    pub rows: RangeInclusive<i64>,
    /// The lane that the rows were made for: the back-fill sends windows that were made for another.
    rows_lane: i64,
    /// The records with their rows.
    pub records: Vec<(i64, Record)>,
}

/// How large a batch may be, and how long its records are gathered.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records.
    pub records: usize,
    /// Bytes before compression; one record goes whatever it takes.
    pub bytes: usize,
    /// How long the oldest record has waited before fewer are sent, in milliseconds of farm time.
    pub linger_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { records: MAX_RECORDS, bytes: MAX_BYTES, linger_ms: 0 }
    }
}

/// The uplink's connection to the store.
#[derive(Debug)]
pub struct Spool {
    store: Store,
    /// The store's number.
    id: u64,
}

impl Spool {
    /// Opens the spool of the store in `dir`.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let mut store = Store::open(dir)?;
        let id: i64 =
            store.connection().query_row("SELECT value FROM uplink WHERE key = 'store'", [], |row| row.get(0))?;
        Ok(Self { store, id: id.cast_unsigned() })
    }

    fn connection(&mut self) -> &mut Connection {
        self.store.connection()
    }

    /// The next batch of a lane: the one under way, or a new one within `limits`; none when nothing waits, or not for long
    /// enough. Records that cannot be read are set aside.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn next(&mut self, lane: Lane, limits: Limits, now: Timestamp) -> Result<Option<Sending>, StoreError> {
        let store = self.id;
        let transaction = self.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (acknowledged, sending): (i64, Option<i64>) =
            transaction.query_row("SELECT acknowledged, sending FROM lane WHERE lane = ?1", [lane as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if lane == Lane::Aggregates && sending.is_none() {
            settle_live(&transaction, now)?;
        }
        let mut found = None;
        if let Some(last) = sending {
            found = under_way(&transaction, lane, last)?;
        }
        let is_under_way = found.is_some();
        let (rows_lane, rows, newest_first) = match found {
            Some(found) => found,
            None => waiting(&transaction, lane)?,
        };
        let order = if newest_first { "DESC" } else { "ASC" };
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        let (mut full, mut oldest) = (false, i64::MAX);
        {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT id, body, at_ms, sum FROM spool WHERE lane = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id {order}"
            ))?;
            let mut rows = statement.query(params![rows_lane, rows.start(), rows.end()])?;
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                let (id, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
                bytes += body.len();
                if !is_under_way && !records.is_empty() && (records.len() >= limits.records || bytes > limits.bytes) {
                    full = true;
                    break;
                }
                let (at, sum): (i64, Option<i64>) = (row.get(2)?, row.get(3)?);
                oldest = oldest.min(at);
                let good = sum.is_none_or(|sum| sum == spool_sum(rows_lane, at, &body));
                match Record::decode(&body) {
                    Ok(record) if good => records.push((id, record)),
                    Ok(_) => unreadable.push((id, "its check sum does not fit".to_owned())),
                    Err(error) => unreadable.push((id, error.to_string())),
                }
            }
        }
        for (id, reason) in unreadable {
            set_aside(&transaction, id, lane, &reason, now)?;
        }
        let waited = now.as_millis().saturating_sub(oldest);
        if !is_under_way && !full && (0..limits.linger_ms).contains(&waited) {
            transaction.commit()?;
            return Ok(None);
        }
        let ids = || records.iter().map(|(id, _)| *id);
        let batch = ids().min().zip(ids().max()).map(|(least, most)| Sending {
            store,
            first: acknowledged.cast_unsigned() + 1,
            rows: least..=most,
            rows_lane,
            records,
        });
        let last = batch.as_ref().map(|batch| *batch.rows.end());
        if last != sending {
            transaction.execute("UPDATE lane SET sending = ?2 WHERE lane = ?1", params![lane as i64, last])?;
        }
        if let Some(batch) = batch.as_ref().filter(|_| lane == Lane::Backfill && !is_under_way) {
            set_mark(&transaction, "backfill_from", *batch.rows.start())?;
        }
        transaction.commit()?;
        Ok(batch)
    }

    /// The cloud has the batch, and the lane up to `sequence`.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn acknowledged(&mut self, lane: Lane, batch: &Sending, sequence: u64) -> Result<(), StoreError> {
        let transaction = self.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(
            "DELETE FROM spool WHERE lane = ?1 AND id BETWEEN ?2 AND ?3",
            params![batch.rows_lane, batch.rows.start(), batch.rows.end()],
        )?;
        transaction.execute(
            "UPDATE lane SET acknowledged = ?2, sending = NULL WHERE lane = ?1",
            params![lane as i64, sequence.cast_signed()],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// The cloud has the lane up to another sequence than was thought: the batch under way gets new numbers.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn resume_at(&mut self, lane: Lane, acknowledged: u64) -> Result<(), StoreError> {
        self.connection().execute(
            "UPDATE lane SET acknowledged = ?2 WHERE lane = ?1",
            params![lane as i64, acknowledged.cast_signed()],
        )?;
        Ok(())
    }

    /// Breaks the batch under way up, so that the next is made anew: one that the cloud refused and stored nothing of.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn break_up(&mut self, lane: Lane) -> Result<(), StoreError> {
        self.connection().execute("UPDATE lane SET sending = NULL WHERE lane = ?1", [lane as i64])?;
        Ok(())
    }

    /// Takes a record that the cloud refuses for good out of its lane, and keeps it aside with the reason.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn quarantine(&mut self, lane: Lane, row: i64, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        let transaction = self.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        set_aside(&transaction, row, lane, reason, now)?;
        transaction.execute("UPDATE lane SET sending = NULL WHERE lane = ?1", [lane as i64])?;
        transaction.commit()?;
        Ok(())
    }

    /// What waits in each lane, and what was dropped of it.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn backlog(&mut self) -> Result<[(Lane, Backlog); Lane::ALL.len()], StoreError> {
        let mut all = Lane::ALL.map(|lane| (lane, Backlog::default()));
        let transaction = self.connection().transaction()?;
        let late = mark(&transaction, "backfill_to")?.unwrap_or(0);
        for (lane, backlog) in &mut all {
            // The rows of a lane of the table that are beyond a mark, and those up to it.
            let parts: &[(Lane, i64, i64)] = match lane {
                Lane::Aggregates => &[(Lane::Aggregates, late + 1, i64::MAX)],
                Lane::Backfill => &[(Lane::Aggregates, 0, late), (Lane::Backfill, 0, i64::MAX)],
                _ => &[(*lane, 0, i64::MAX)],
            };
            for (of, from, to) in parts {
                // Rows are in the order in which they were made; the index answers both.
                let (records, oldest): (i64, Option<i64>) = transaction.query_row(
                    "SELECT (SELECT count(*) FROM spool WHERE lane = ?1 AND id BETWEEN ?2 AND ?3),
                            (SELECT at_ms FROM spool WHERE lane = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT 1)",
                    params![*of as i64, from, to],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                backlog.records += records.cast_unsigned();
                let oldest = oldest.map(Timestamp::from_millis);
                backlog.oldest = backlog.oldest.into_iter().chain(oldest).min();
            }
            backlog.dropped = bound::dropped(&transaction, *lane)?;
        }
        Ok(all)
    }

    /// Whether anything waits for the back-fill.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn backfill_waits(&mut self) -> Result<bool, StoreError> {
        Ok(self.connection().query_row(
            "SELECT EXISTS (SELECT 1 FROM spool WHERE lane = ?1 AND id <= (SELECT value FROM uplink WHERE key = 'backfill_to'))
                OR EXISTS (SELECT 1 FROM spool WHERE lane = ?2)",
            [Lane::Aggregates as i64, Lane::Backfill as i64],
            |row| row.get(0),
        )?)
    }

    /// A number that the uplink keeps.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn kept(&mut self, key: &str) -> Result<Option<i64>, StoreError> {
        let value = self.connection().query_row("SELECT value FROM uplink WHERE key = ?1", [key], |row| row.get(0));
        Ok(value.optional()?)
    }

    /// Keeps a number of the uplink.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn keep(&mut self, key: &str, value: i64) -> Result<(), StoreError> {
        self.connection().execute("INSERT OR REPLACE INTO uplink VALUES (?1, ?2)", params![key, value])?;
        Ok(())
    }
}

/// Rows of a lane of the table: the lane, from where to where, and whether the newest goes first.
type Rows = (i64, RangeInclusive<i64>, bool);

/// The rows of the batch under way that ends with the row `last`; none when they are gone.
fn under_way(transaction: &Transaction<'_>, lane: Lane, last: i64) -> Result<Option<Rows>, StoreError> {
    if lane != Lane::Backfill {
        let from = if lane == Lane::Aggregates { mark(transaction, "backfill_to")?.unwrap_or(0) + 1 } else { 0 };
        return Ok(Some((lane as i64, from..=last, false)));
    }
    let of: Option<i64> =
        transaction.query_row("SELECT lane FROM spool WHERE id = ?1", [last], |row| row.get(0)).optional()?;
    let from = mark(transaction, "backfill_from")?.unwrap_or(last);
    Ok(of.map(|of| (of, from..=last, of == Lane::Aggregates as i64)))
}

/// The rows that a new batch of a lane is made of.
fn waiting(transaction: &Transaction<'_>, lane: Lane) -> Result<Rows, StoreError> {
    let late = mark(transaction, "backfill_to")?.unwrap_or(0);
    Ok(match lane {
        Lane::Aggregates => (lane as i64, late + 1..=i64::MAX, false),
        Lane::Backfill => {
            let windows = Lane::Aggregates as i64;
            let any: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM spool WHERE lane = ?1 AND id <= ?2)",
                params![windows, late],
                |row| row.get(0),
            )?;
            if any { (windows, 0..=late, true) } else { (lane as i64, 0..=i64::MAX, false) }
        }
        _ => (lane as i64, 0..=i64::MAX, false),
    })
}

/// Gives the windows that have waited for too long to the back-fill. No batch of the live lane is under way.
fn settle_live(transaction: &Transaction<'_>, now: Timestamp) -> Result<(), StoreError> {
    let late = mark(transaction, "backfill_to")?.unwrap_or(0);
    let lane = Lane::Aggregates as i64;
    let oldest: Option<i64> = transaction
        .prepare_cached("SELECT at_ms FROM spool WHERE lane = ?1 AND id > ?2 ORDER BY id LIMIT 1")?
        .query_row([lane, late], |row| row.get(0))
        .optional()?;
    if oldest.is_none_or(|oldest| oldest >= now.as_millis() - LIVE_MS) {
        return Ok(());
    }
    let last: Option<i64> = transaction
        .prepare_cached("SELECT id FROM spool WHERE lane = ?1 AND id > ?2 AND at_ms < ?3 ORDER BY id DESC LIMIT 1")?
        .query_row([lane, late, now.as_millis() - STILL_LIVE_MS], |row| row.get(0))
        .optional()?;
    if let Some(last) = last {
        set_mark(transaction, "backfill_to", last)?;
    }
    Ok(())
}

fn mark(transaction: &Transaction<'_>, key: &str) -> Result<Option<i64>, StoreError> {
    let value =
        transaction.prepare_cached("SELECT value FROM uplink WHERE key = ?1")?.query_row([key], |row| row.get(0));
    Ok(value.optional()?)
}

fn set_mark(transaction: &Transaction<'_>, key: &str, value: i64) -> Result<(), StoreError> {
    transaction.prepare_cached("INSERT OR REPLACE INTO uplink VALUES (?1, ?2)")?.execute(params![key, value])?;
    Ok(())
}

fn set_aside(
    transaction: &Transaction<'_>,
    row: i64,
    lane: Lane,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let body: Option<Vec<u8>> =
        transaction.query_row("SELECT body FROM spool WHERE id = ?1", [row], |row| row.get(0)).optional()?;
    let Some(body) = body else { return Ok(()) };
    quarantine(transaction, now, &format!("uplink {}", lane.name()), reason, &body)?;
    transaction.execute("DELETE FROM spool WHERE id = ?1", [row])?;
    transaction.execute(
        "INSERT INTO counter VALUES ('refused_by_cloud', 1) ON CONFLICT DO UPDATE SET value = value + 1",
        [],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proto::Window;

    use super::bound::DROP_AT_ONCE;
    use super::*;
    use crate::store::Group;

    fn window(number: i64) -> Record {
        let start = Timestamp::from_secs(900 * number);
        Record::Window(Window {
            station: "n1".parse().unwrap(),
            start,
            length_s: 900,
            revision: 0,
            aggregates: Vec::new(),
        })
    }

    fn spool(dir: &Path, records: i64) -> Spool {
        let mut spool = Spool::open(dir).unwrap();
        let records = (0..records).map(window).collect();
        spool.store.commit(&Group { records, ..Group::default() }, 1, Timestamp::from_secs(0)).unwrap();
        spool
    }

    fn most(records: usize) -> Limits {
        Limits { records, ..Limits::default() }
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(0)
    }

    #[test]
    fn a_batch_under_way_stays_as_it_is_until_the_cloud_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 10);
        let first = all.next(Lane::Aggregates, most(4), now()).unwrap().unwrap();
        assert_eq!((first.first, first.records.len()), (1, 4));
        drop(all);
        let mut all = Spool::open(dir.path()).unwrap();
        assert_eq!(all.next(Lane::Aggregates, most(1_000), now()).unwrap().unwrap(), first, "after a restart, too");
        all.acknowledged(Lane::Aggregates, &first, 4).unwrap();
        let second = all.next(Lane::Aggregates, most(1_000), now()).unwrap().unwrap();
        assert_eq!((second.first, second.records.len()), (5, 6));
        all.break_up(Lane::Aggregates).unwrap();
        let halved = all.next(Lane::Aggregates, most(3), now()).unwrap().unwrap();
        assert_eq!((halved.first, halved.records.len()), (5, 3));
    }

    #[test]
    fn a_full_spool_drops_its_oldest_windows_and_counts_them_but_not_what_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 1_200);
        let sending = all.next(Lane::Aggregates, most(3), now()).unwrap().unwrap();
        let bytes = |all: &mut Spool| -> i64 {
            all.connection().query_row("SELECT sum(length(body)) FROM spool", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(all.trim(1 << 30).unwrap(), (0, Duration::ZERO));
        // It is within its limit at once, however far it was beyond it, and no further than it must.
        let limit = bytes(&mut all) / 10;
        let (dropped, took) = all.trim(limit.cast_unsigned()).unwrap();
        assert!(took > Duration::ZERO);
        assert!(dropped > 2 * u64::from(DROP_AT_ONCE) && (limit - 100..=limit).contains(&bytes(&mut all)));
        assert_eq!(all.backlog().unwrap().map(|(_, b)| b.dropped), [0, 0, 0, dropped, 0]);
        assert_eq!(all.next(Lane::Aggregates, most(3), now()).unwrap().unwrap(), sending);
        all.acknowledged(Lane::Aggregates, &sending, 3).unwrap();
        let next = all.next(Lane::Aggregates, most(1), now()).unwrap().unwrap();
        assert_eq!((next.first, &next.records[0].1), (4, &window(3 + dropped.cast_signed())), "no gap");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_set_aside_and_leaves_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 3);
        all.connection().execute("UPDATE spool SET body = x'ffff' WHERE id = 2", []).unwrap();
        let batch = all.next(Lane::Aggregates, most(10), now()).unwrap().unwrap();
        assert_eq!(batch.records.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(all.store.counters().unwrap()["refused_by_cloud"], 1);
        assert_eq!(all.backlog().unwrap().map(|(_, b)| b.records), [0, 0, 0, 2, 0]);
    }

    fn numbers(batch: &Sending) -> Vec<i64> {
        let number = |(_, record): &(i64, Record)| match record {
            Record::Window(window) => window.start.as_millis() / 900_000,
            other => panic!("{other:?}"),
        };
        batch.records.iter().map(number).collect()
    }

    #[test]
    fn what_waited_for_an_hour_is_the_back_fills_newest_first_and_what_is_under_way_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 10);
        let first = all.next(Lane::Aggregates, most(3), now()).unwrap().unwrap();
        let weeks = Timestamp::from_secs(21 * 86_400);
        let group = Group { records: (10..14).map(window).collect(), ..Group::default() };
        all.store.commit(&group, 2, weeks).unwrap();
        assert_eq!(all.next(Lane::Aggregates, most(3), weeks).unwrap().unwrap(), first, "it was under way");
        assert_eq!(all.next(Lane::Backfill, most(3), weeks).unwrap(), None, "and nothing is late before it is through");
        all.acknowledged(Lane::Aggregates, &first, 3).unwrap();

        let live = all.next(Lane::Aggregates, most(100), weeks).unwrap().unwrap();
        assert_eq!((live.first, numbers(&live)), (4, vec![10, 11, 12, 13]));
        let late = all.next(Lane::Backfill, most(4), weeks).unwrap().unwrap();
        assert_eq!((late.first, numbers(&late)), (1, vec![9, 8, 7, 6]));
        assert_eq!(all.backlog().unwrap().map(|(_, b)| b.records), [0, 0, 0, 4, 7]);
        assert!(all.backfill_waits().unwrap());
        // More becomes late while that batch is under way: it stays as it was, after a restart, too.
        all.acknowledged(Lane::Aggregates, &live, 7).unwrap();
        let group = Group { records: (14..17).map(window).collect(), ..Group::default() };
        all.store.commit(&group, 3, weeks).unwrap();
        let later = weeks.plus_secs(7_200);
        assert_eq!(all.next(Lane::Aggregates, most(9), later).unwrap(), None);
        drop(all);
        let mut all = Spool::open(dir.path()).unwrap();
        assert_eq!(all.next(Lane::Backfill, most(1), later).unwrap().unwrap(), late);
        assert_eq!(all.trim(1).unwrap().0, 6, "all but what is under way");
        assert_eq!(all.backlog().unwrap().map(|(_, b)| b.dropped), [0, 0, 0, 0, 6]);
        assert_eq!(all.next(Lane::Backfill, most(1), later).unwrap().unwrap(), late);
        all.acknowledged(Lane::Backfill, &late, 4).unwrap();
        assert_eq!(all.next(Lane::Backfill, most(9), later).unwrap(), None);
        assert!(!all.backfill_waits().unwrap());
    }

    #[test]
    fn records_are_gathered_for_a_while_or_until_a_batch_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 3);
        let limits = Limits { linger_ms: 60_000, ..most(3) };
        assert_eq!(all.next(Lane::Aggregates, limits, Timestamp::from_secs(59)).unwrap(), None);
        let full = Limits { records: 2, ..limits };
        let batch = all.next(Lane::Aggregates, full, Timestamp::from_secs(1)).unwrap().unwrap();
        assert_eq!(batch.records.len(), 2);
        all.acknowledged(Lane::Aggregates, &batch, 2).unwrap();
        assert_eq!(all.next(Lane::Aggregates, full, Timestamp::from_secs(59)).unwrap(), None);
        assert!(all.next(Lane::Aggregates, full, Timestamp::from_secs(60)).unwrap().is_some());
    }

    #[test]
    fn a_store_keeps_its_number_and_no_two_have_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let number = |dir: &Path| Spool::open(dir).unwrap().id;
        assert_eq!(number(one.path()), number(one.path()));
        assert_ne!(number(one.path()), number(other.path()));
    }
}
