//! What waits for the cloud, as the uplink sees it: lanes of records, each sent in order and kept until the cloud has it.
//!
//! A record gets its sequence when a batch is put together, not when it is made; so what is dropped or set aside while it
//! waits leaves no gap. A batch that is under way is remembered and sent again as it was, whatever happens meanwhile:
//! the cloud knows it by its sequence.

use std::path::Path;

use proto::{Lane, Record, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::{Backlog, Store, StoreError, quarantine, spool_sum};

/// The most records that are put into one batch.
const MAX_RECORDS: usize = 1_000;
/// The most bytes of records in one batch, before compression.
const MAX_BYTES: usize = 2 << 20;
/// How many of the oldest records are dropped at once when the spool is full.
const DROP_AT_ONCE: u32 = 500;

/// A batch that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Sending {
    /// The store's number, which counts the sequences.
    pub store: u64,
    /// The sequence of the first record.
    pub first: u64,
    /// The last record's row.
    pub last_row: i64,
    /// The records with their rows.
    pub records: Vec<(i64, Record)>,
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

    /// The next batch of a lane: the one under way, or a new one of at most `most` records; none when nothing waits.
    /// Records that cannot be read are set aside.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn next(&mut self, lane: Lane, most: usize, now: Timestamp) -> Result<Option<Sending>, StoreError> {
        let store = self.id;
        let transaction = self.connection().transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let (acknowledged, sending): (i64, Option<i64>) =
            transaction.query_row("SELECT acknowledged, sending FROM lane WHERE lane = ?1", [lane as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let mut records = Vec::new();
        let mut unreadable = Vec::new();
        {
            let mut statement = transaction
                .prepare_cached("SELECT id, body, at_ms, sum FROM spool WHERE lane = ?1 AND id <= ?2 ORDER BY id")?;
            let mut rows = statement.query(params![lane as i64, sending.unwrap_or(i64::MAX)])?;
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                let (id, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
                bytes += body.len();
                if sending.is_none()
                    && !records.is_empty()
                    && (records.len() >= most.min(MAX_RECORDS) || bytes > MAX_BYTES)
                {
                    break;
                }
                let (at, sum): (i64, Option<i64>) = (row.get(2)?, row.get(3)?);
                let good = sum.is_none_or(|sum| sum == spool_sum(lane as i64, at, &body));
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
        let batch = records.last().map(|(last_row, _)| *last_row).map(|last_row| Sending {
            store,
            first: acknowledged.cast_unsigned() + 1,
            last_row,
            records,
        });
        let last_row = batch.as_ref().map(|b| b.last_row);
        if last_row != sending {
            transaction.execute("UPDATE lane SET sending = ?2 WHERE lane = ?1", params![lane as i64, last_row])?;
        }
        transaction.commit()?;
        Ok(batch)
    }

    /// The cloud has the batch, and the lane up to `sequence`.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn acknowledged(&mut self, lane: Lane, last_row: i64, sequence: u64) -> Result<(), StoreError> {
        let transaction = self.connection().transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM spool WHERE lane = ?1 AND id <= ?2", params![lane as i64, last_row])?;
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
        let transaction = self.connection().transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        set_aside(&transaction, row, lane, reason, now)?;
        transaction.execute("UPDATE lane SET sending = NULL WHERE lane = ?1", [lane as i64])?;
        transaction.commit()?;
        Ok(())
    }

    /// What waits in each lane.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn backlog(&mut self) -> Result<[(Lane, Backlog); Lane::ALL.len()], StoreError> {
        let mut all = Lane::ALL.map(|lane| (lane, Backlog::default()));
        for (lane, backlog) in &mut all {
            // Rows are in the order in which they were made; the index answers both.
            let (records, oldest): (i64, Option<i64>) = self.connection().query_row(
                "SELECT (SELECT count(*) FROM spool WHERE lane = ?1),
                        (SELECT at_ms FROM spool WHERE lane = ?1 ORDER BY id LIMIT 1)",
                [*lane as i64],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            *backlog = Backlog { records: records.cast_unsigned(), oldest: oldest.map(Timestamp::from_millis) };
        }
        Ok(all)
    }

    /// Holds the spool within `most` bytes: beyond it the oldest windows go, which the raw readings outlive. Gives how
    /// many went.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn trim(&mut self, most: u64) -> Result<u64, StoreError> {
        let lane = Lane::Aggregates as i64;
        // To add the spool up means to read it; where the whole file is smaller it need not be.
        if self.store.used_bytes()? <= most {
            return Ok(0);
        }
        let bytes: i64 =
            self.connection().query_row("SELECT coalesce(sum(length(body)), 0) FROM spool", [], |row| row.get(0))?;
        if bytes.cast_unsigned() <= most {
            return Ok(0);
        }
        let sending: Option<i64> = self
            .connection()
            .query_row("SELECT sending FROM lane WHERE lane = ?1", [lane], |row| row.get(0))
            .optional()?
            .flatten();
        let transaction = self.connection().transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let dropped = transaction.execute(
            "DELETE FROM spool WHERE id IN (SELECT id FROM spool WHERE lane = ?1 AND id > ?2 ORDER BY id LIMIT ?3)",
            params![lane, sending.unwrap_or(0), DROP_AT_ONCE],
        )?;
        transaction.execute(
            "INSERT INTO counter VALUES ('spool_dropped', ?1) ON CONFLICT DO UPDATE SET value = value + excluded.value",
            [dropped as i64],
        )?;
        transaction.commit()?;
        Ok(dropped as u64)
    }
}

fn set_aside(
    transaction: &rusqlite::Transaction<'_>,
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
    use proto::Window;

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

    fn now() -> Timestamp {
        Timestamp::from_secs(0)
    }

    #[test]
    fn a_batch_under_way_stays_as_it_is_until_the_cloud_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 10);
        let first = all.next(Lane::Aggregates, 4, now()).unwrap().unwrap();
        assert_eq!((first.first, first.records.len()), (1, 4));
        drop(all);
        let mut all = Spool::open(dir.path()).unwrap();
        assert_eq!(all.next(Lane::Aggregates, 1_000, now()).unwrap().unwrap(), first, "after a restart, too");
        all.acknowledged(Lane::Aggregates, first.last_row, 4).unwrap();
        let second = all.next(Lane::Aggregates, 1_000, now()).unwrap().unwrap();
        assert_eq!((second.first, second.records.len()), (5, 6));
        all.break_up(Lane::Aggregates).unwrap();
        let halved = all.next(Lane::Aggregates, 3, now()).unwrap().unwrap();
        assert_eq!((halved.first, halved.records.len()), (5, 3));
    }

    #[test]
    fn a_full_spool_drops_its_oldest_windows_and_counts_them_but_not_what_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 1_200);
        let sending = all.next(Lane::Aggregates, 3, now()).unwrap().unwrap();
        assert_eq!(all.trim(1 << 30).unwrap(), 0);
        assert_eq!(all.trim(1).unwrap(), u64::from(DROP_AT_ONCE));
        assert_eq!(all.store.counters().unwrap()["spool_dropped"], u64::from(DROP_AT_ONCE));
        assert_eq!(all.next(Lane::Aggregates, 3, now()).unwrap().unwrap(), sending);
        all.acknowledged(Lane::Aggregates, sending.last_row, 3).unwrap();
        let next = all.next(Lane::Aggregates, 1, now()).unwrap().unwrap();
        assert_eq!((next.first, &next.records[0].1), (4, &window(3 + i64::from(DROP_AT_ONCE))), "no gap");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_set_aside_and_leaves_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let mut all = spool(dir.path(), 3);
        all.connection().execute("UPDATE spool SET body = x'ffff' WHERE id = 2", []).unwrap();
        let batch = all.next(Lane::Aggregates, 10, now()).unwrap().unwrap();
        assert_eq!(batch.records.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(all.store.counters().unwrap()["refused_by_cloud"], 1);
        assert_eq!(all.backlog().unwrap().map(|(_, b)| b.records), [0, 0, 0, 2, 0]);
    }
}
