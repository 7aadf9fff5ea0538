//! How much is kept: raw readings by age and by bytes, the oldest out first.

use std::collections::BTreeMap;

use proto::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use super::{RAW_ROW, Store, StoreError, count};

/// How many rows are deleted at once, so that a deletion never holds up a commit for long.
pub const DELETE_AT_ONCE: u32 = 200;
/// How many free pages go back to the file system at once on a full disk: each may cost one in the write-ahead log first.
const SHRINK_PAGES: u32 = 500;
/// How many after old readings went by their age or their size.
const TRIM_PAGES: u32 = 2_000;
/// How often, one after the other.
const SHRINKS: u32 = 3;

impl Store {
    /// Lets go of the oldest raw commits that nothing needs, about `bytes` of them, for a disk that is full, and gives their
    /// room back to the file system together with that of the write-ahead log. Gives how many went. It takes some room itself.
    ///
    /// # Errors
    /// When SQLite refuses: nothing went then.
    pub fn make_room(&mut self, bytes: u64, needed: u64) -> Result<u64, StoreError> {
        let held = match self.raw_bytes {
            Some(held) => held,
            None => self.add_up_raw()?,
        };
        let turn = self.turn.clone();
        let _turn = turn.take();
        // A log that could not be brought into the file has grown beyond what it should be.
        self.empty_log()?;
        let (gone, _) = self.let_go(Timestamp::MIN, held.saturating_sub(bytes), Some(needed))?;
        for _ in 0..if gone > 0 { SHRINKS } else { 0 } {
            let shrunk = self.shrink(SHRINK_PAGES).and_then(|()| self.empty_log());
            if let Err(error) = shrunk {
                tracing::warn!(%error, "the store could not be made smaller");
                break;
            }
        }
        Ok(gone)
    }

    /// Gives at most so many free pages back to the file system.
    fn shrink(&self, pages: u32) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        // One goes with each row.
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Brings the write-ahead log into the file, and cuts it off.
    fn empty_log(&self) -> Result<(), StoreError> {
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// The connection, for the spool that shares the file.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Lets go of the oldest raw commits: those older than `before`, and those beyond `most` bytes, but none from
    /// `needed` on. Gives how many went, and how many of them only because of the bytes. At most [`DELETE_AT_ONCE`] go for
    /// each of the two reasons; call it again when as many went.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn trim(&mut self, before: Timestamp, most: u64, needed: Option<u64>) -> Result<(u64, u64), StoreError> {
        let turn = self.turn.clone();
        let _turn = turn.take();
        let (gone, crowded) = self.let_go(before, most, needed)?;
        if gone > 0 {
            self.shrink(TRIM_PAGES)?;
        }
        Ok((gone, crowded))
    }

    fn let_go(&mut self, before: Timestamp, most: u64, needed: Option<u64>) -> Result<(u64, u64), StoreError> {
        let needed = needed.map_or(i64::MAX, u64::cast_signed);
        // Rows are in the order of their commits: the old ones are found without looking at the others.
        let (aged, aged_bytes) = self.delete_raw(
            "SELECT id FROM (SELECT id, at_ms FROM raw WHERE id < ?1 ORDER BY id LIMIT ?2) WHERE at_ms < ?3",
            params![needed, DELETE_AT_ONCE, before.as_millis()],
        )?;
        let bytes = match self.raw_bytes {
            Some(bytes) => bytes.saturating_sub(aged_bytes),
            None => self.add_up_raw()?,
        };
        self.raw_bytes = Some(bytes);
        let mut crowded = 0;
        if bytes > most {
            let gone_bytes;
            (crowded, gone_bytes) = self.delete_raw(
                "SELECT id FROM (SELECT id, sum(length(body) + ?4) OVER (ORDER BY id) - length(body) - ?4 AS before
                    FROM (SELECT id, body FROM raw WHERE id < ?1 ORDER BY id LIMIT ?2)) WHERE before < ?3",
                params![needed, DELETE_AT_ONCE, (bytes - most).cast_signed(), RAW_ROW.cast_signed()],
            )?;
            self.raw_bytes = Some(bytes.saturating_sub(gone_bytes));
        }
        Ok((aged + crowded, crowded))
    }

    /// Deletes the raw rows that `which` selects; gives how many they were, and their bytes.
    fn delete_raw(&self, which: &str, params: impl rusqlite::Params) -> Result<(u64, u64), StoreError> {
        let delete = format!("DELETE FROM raw WHERE id IN ({which}) RETURNING length(body)");
        let mut statement = self.connection.prepare_cached(&delete)?;
        let rows = statement.query_map(params, |row| row.get::<_, i64>(0))?;
        let (mut count, mut bytes) = (0, 0);
        for length in rows {
            count += 1;
            bytes += length?.cast_unsigned() + RAW_ROW;
        }
        Ok((count, bytes))
    }

    pub(super) fn add_up_raw(&self) -> Result<u64, StoreError> {
        let (rows, bytes): (i64, i64) =
            self.connection.query_row("SELECT count(*), coalesce(sum(length(body)), 0) FROM raw", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        Ok(bytes.cast_unsigned() + rows.cast_unsigned() * RAW_ROW)
    }

    /// Bytes of all raw rows; none before they were added up.
    #[must_use]
    pub const fn raw_bytes(&self) -> Option<u64> {
        self.raw_bytes
    }

    /// Bytes of the whole file that are in use.
    pub(crate) fn used_bytes(&self) -> Result<u64, StoreError> {
        let pragma = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((pragma("page_count")? - pragma("freelist_count")?).max(0).cast_unsigned()
            * pragma("page_size")?.cast_unsigned())
    }

    /// Bytes that the store takes on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let path = self.connection.path().unwrap_or_default();
        ["", "-wal"].iter().filter_map(|end| std::fs::metadata(format!("{path}{end}")).ok()).map(|m| m.len()).sum()
    }

    /// Adds to counters outside a group.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn add(&mut self, counters: &BTreeMap<String, u64>) -> Result<(), StoreError> {
        let _turn = self.turn.take();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        count(&transaction, counters)?;
        transaction.commit()?;
        Ok(())
    }
}
