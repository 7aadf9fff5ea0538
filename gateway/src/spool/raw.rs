//! Raw readings for the cloud: commits of the raw store, in their order, put together by station.

use std::collections::BTreeMap;

use proto::{Lane, RawReadings, Reading, Record, StationId, Timestamp};
use rusqlite::{OptionalExtension as _, TransactionBehavior, params};

use super::{Spool, mark, set_mark};
use crate::ingest;
use crate::store::{Cursor, StoreError, spool_sum};

/// The most readings that are put together at once.
const MOST_READINGS: usize = 20_000;
/// The most readings of one record: what the cloud refuses is not more than this.
const MOST_OF_RECORD: usize = 2_000;
/// The most commits that are read at once.
const MOST_COMMITS: u32 = 2_000;

impl Spool {
    /// Puts readings of the commits after those that were taken before into the back-fill, when it has no others. Gives
    /// whether there may be more to take at once. How far the commits are taken and what came of them is one transaction: each reading goes once.
    /// Commits that expired before they were taken are skipped, and counted. The first call begins with the oldest that is
    /// there.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn gather_raw(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let lane = Lane::Backfill as i64;
        let transaction = self.connection().transaction()?;
        let full: bool =
            transaction.query_row("SELECT EXISTS (SELECT 1 FROM spool WHERE lane = ?1)", [lane], |row| row.get(0))?;
        let taken = mark(&transaction, "raw_taken")?;
        let oldest: Option<i64> =
            transaction.query_row("SELECT id FROM raw ORDER BY id LIMIT 1", [], |row| row.get(0)).optional()?;
        transaction.commit()?;
        let Some(oldest) = oldest.filter(|_| !full) else { return Ok(false) };
        let before = taken.unwrap_or(oldest - 1);
        // Numbers of commits that failed, or hold no messages, may be among them.
        let expired = (oldest - 1 - before).max(0);

        let mut stations: BTreeMap<StationId, Vec<Reading>> = BTreeMap::new();
        let (mut last, mut readings) = (before.max(oldest - 1), 0);
        for _ in 0..MOST_COMMITS {
            let cursor = Cursor { commit: last.cast_unsigned(), messages: u32::MAX };
            let Some((commit, messages)) = self.store.commit_after(cursor)? else { break };
            last = commit.cast_signed();
            for (station, of) in messages.iter().filter_map(ingest::readings_of) {
                readings += of.len();
                stations.entry(station).or_default().extend(of);
            }
            if readings >= MOST_READINGS {
                break;
            }
        }
        if last == before {
            return Ok(false);
        }

        let transaction = self.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (station, readings) in stations {
            for part in RawReadings::new(station.clone(), readings).readings.chunks(MOST_OF_RECORD) {
                let record = Record::Raw(RawReadings { station: station.clone(), readings: part.to_vec() });
                let (at, body) = (now.as_millis(), record.encode());
                transaction
                    .prepare_cached("INSERT INTO spool (lane, at_ms, body, sum) VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![lane, at, body, spool_sum(lane, at, &body)])?;
            }
        }
        set_mark(&transaction, "raw_taken", last)?;
        for (name, by) in [("raw_sent", readings as i64), ("raw_expired_unsent", expired)] {
            if by > 0 {
                transaction.execute(
                    "INSERT INTO counter VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                    params![name, by],
                )?;
            }
        }
        transaction.commit()?;
        Ok(readings >= MOST_READINGS)
    }
}
