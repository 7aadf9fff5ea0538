//! The newest of what was kept aside, as it stands in the store.

use proto::Timestamp;
use rusqlite::Connection;

/// How many are shown.
const SHOWN: u32 = 30;

/// Something that could not be taken, and was kept aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When it came.
    pub at: Timestamp,
    /// Where it came from, like `station n1`.
    pub source: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The newest first.
///
/// # Errors
/// When the store cannot be read.
pub fn newest(store: &Connection) -> rusqlite::Result<Vec<Refused>> {
    let mut statement = store.prepare("SELECT at_ms, source, reason FROM quarantine ORDER BY id DESC LIMIT ?1")?;
    let rows = statement.query_map([SHOWN], |row| {
        Ok(Refused { at: Timestamp::from_millis(row.get(0)?), source: row.get(1)?, reason: row.get(2)? })
    })?;
    rows.collect()
}
