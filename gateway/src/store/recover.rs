//! A store that SQLite itself cannot read any more: what can be read of it goes into a new one, the old one stays beside it,
//! and what is missing is reported. When that is broken off, by a power cut or a full disk, the next start begins it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use proto::{StationId, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior, params_from_iter};

use super::{FILE, PROGRESS_FROM, Reserve, Store, StoreError, count, keep_progress, quarantine};
use crate::deduplicate::{Due, Progress, Row};

/// Up to this size the whole file is checked at each start, bytes; of a larger one the small tables.
const CHECK_WHOLE: u64 = 64 << 20;
/// Says that the store was found damaged.
const SUSPECT: &str = "suspect";
/// Names the damaged store until the new one is whole: a symbolic link, which takes no room.
const RECOVERING: &str = "recovering";
/// The most rows that are looked for one by one where pages between them cannot be read.
const LOOK_FOR: i64 = 200_000;
/// What the file of every store begins with: SQLite's magic, pages of 4 KiB, a write-ahead log, no reserved space.
const HEADER: &[u8; 24] = b"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20";
/// Tables with the columns that their rows are ordered by.
const KEYS: [(&str, &str); 20] = [
    ("meta", "key"),
    ("raw", "id"),
    ("progress", "station, boot"),
    ("station", "station"),
    ("analysed", "station"),
    ("belief", "station"),
    ("field_state", "field"),
    ("state", "station"),
    ("emitted", "station, start_ms"),
    ("carried", "station"),
    ("alert", "id"),
    ("history", "start_ms, station"),
    ("spool", "id"),
    ("lane", "lane"),
    ("uplink", "key"),
    ("quarantine", "id"),
    ("counter", "name"),
    ("source_state", "source, key"),
    ("unmapped", "source, station, name"),
    ("sqlite_sequence", "rowid"),
];

impl StoreError {
    /// Whether the file itself is damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
                    // A page that is another one's: columns are missing, or of another kind.
                    || matches!(
                        error,
                        rusqlite::Error::InvalidColumnType(..)
                            | rusqlite::Error::FromSqlConversionFailure(..)
                            | rusqlite::Error::Utf8Error(..)
                            | rusqlite::Error::IntegralValueOutOfRange(..)
                    )
            }
            Self::Damaged { .. } => true,
            Self::Layout { .. } => false,
        }
    }
}

impl Store {
    /// Opens the store in `dir`. One whose file is damaged is made anew from what can be read of it; what was counted for that is
    /// given.
    ///
    /// # Errors
    /// When it cannot be opened for another reason.
    pub fn open_or_recover(dir: &Path, now: Timestamp) -> Result<(Self, BTreeMap<String, u64>), StoreError> {
        if dir.join(RECOVERING).is_symlink() {
            let why = super::damaged("the file".to_owned(), "it was not made anew to its end");
            return Self::recover(dir, now, &why);
        }
        let suspect = dir.join(SUSPECT);
        match Self::open(dir).and_then(|store| store.check(suspect.exists()).map(|()| store)) {
            Ok(store) => {
                let _ = fs::remove_file(suspect);
                Ok((store, BTreeMap::new()))
            }
            Err(error) if error.is_damage() => Self::recover(dir, now, &error),
            Err(error) => Err(error),
        }
    }

    /// Makes the store in `dir` anew from what can be read of it.
    ///
    /// # Errors
    /// When the new one cannot be written.
    pub fn recover(dir: &Path, now: Timestamp, why: &StoreError) -> Result<(Self, BTreeMap<String, u64>), StoreError> {
        let link = dir.join(RECOVERING);
        let aside = match fs::read_link(&link) {
            Ok(begun) => dir.join(begun),
            Err(_) => dir.join(format!("{FILE}.damaged-{}", now.as_millis())),
        };
        tracing::error!(%why, kept = %aside.display(), "the store is damaged and made anew from what can be read");
        // The new one may need what is set aside.
        Reserve::give_up_in(dir);
        set_apart(dir, &aside, &link)
            .map_err(|error| super::damaged(format!("the file {}", dir.join(FILE).display()), error))?;
        if let Ok(mut file) = fs::OpenOptions::new().write(true).open(&aside) {
            let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(HEADER));
        }
        let mut store = Self::open(dir)?;
        let mut lost = Vec::new();
        let transaction = store.connection.transaction()?;
        match Connection::open(&aside) {
            Ok(old) => {
                // Alone with it, SQLite needs no shared memory beside the log, for which a full disk may have no room.
                let _ = old.pragma_update(None, "locking_mode", "EXCLUSIVE");
                for (table, key) in KEYS {
                    if let Some(problem) = copy(&old, &transaction, table, key)? {
                        lost.push(format!("{table}: {problem}"));
                    }
                }
            }
            Err(error) => lost.push(error.to_string()),
        }
        let sure: bool =
            transaction.query_row("SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'judged')", [], |row| row.get(0))?;
        if !sure {
            // How far the analysis was is lost. What is open is made again, and what was said is not said again.
            transaction.execute("DELETE FROM meta WHERE key LIKE 'gone_through%'", [])?;
        }
        let (gaps, missing) = gaps(&transaction)?;
        lost.extend(gaps);
        let mut counters: BTreeMap<String, u64> = [("refused.damaged_store".to_owned(), 1)].into();
        if missing > 0 {
            counters.insert("refused.damaged_commit".to_owned(), missing);
        }
        let what = format!("{why}; kept as {}; {}", aside.display(), lost.join("; "));
        tracing::error!(what, "what the damage cost");
        quarantine(&transaction, now, "store", &what, &[])?;
        count(&transaction, &counters)?;
        transaction.commit()?;
        store.raise_progress(0, now)?;
        // Before anything is acknowledged: a link that a power cut brings back would undo what came after it.
        fs::remove_file(&link)
            .and_then(|()| fs::File::open(dir)?.sync_all())
            .map_err(|error| super::damaged(format!("the link {}", link.display()), error))?;
        Ok((store, counters))
    }

    /// Lets the whole file be checked at the next start, for it was found damaged while the gateway ran.
    pub fn suspect(dir: &Path) {
        let _ = fs::write(dir.join(SUSPECT), b"");
    }

    /// Whether SQLite can read the file.
    fn check(&self, suspect: bool) -> Result<(), StoreError> {
        let ask = |what: &str| -> Result<(), StoreError> {
            let said: String = self.connection.query_row(what, [], |row| row.get(0))?;
            if said == "ok" { Ok(()) } else { Err(super::damaged("the file".to_owned(), said)) }
        };
        if suspect || self.disk_bytes() <= CHECK_WHOLE {
            return ask("PRAGMA integrity_check(1)");
        }
        let large = ["raw", "spool", "quarantine", "sqlite_sequence"];
        KEYS.iter()
            .filter(|(table, _)| !large.contains(table))
            .try_for_each(|(table, _)| ask(&format!("PRAGMA integrity_check({table})")))
    }

    /// Makes the table of progress complete.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn settle_progress(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let from = self.meta(PROGRESS_FROM)?.unwrap_or(0).cast_unsigned();
        self.raise_progress(from, now)
    }

    /// Raises how far each station is stored to what its raw messages from commit `from` on say.
    fn raise_progress(&mut self, from: u64, now: Timestamp) -> Result<(), StoreError> {
        let progress = Progress::new(self.progress_table()?, []);
        let mut raised: BTreeMap<(StationId, u32), u64> = BTreeMap::new();
        self.learn_from(from, |Row { station, boot, sequence }, _| {
            if progress.highest(&station, boot).is_none_or(|known| known < sequence) {
                let known = raised.entry((station, boot)).or_default();
                *known = sequence.max(*known);
            }
        })?;
        let rows = raised.into_iter().map(|((station, boot), sequence)| Row { station, boot, sequence }).collect();
        let from = self.newest()? + 1;
        let turn = self.turn.clone();
        let _turn = turn.take();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        keep_progress(&transaction, &Due { rows, from }, now)?;
        transaction.commit()?;
        Ok(())
    }
}

/// Renames the damaged store to `aside`, which `link` names from then on; what was made of it and is not whole goes.
fn set_apart(dir: &Path, aside: &Path, link: &Path) -> std::io::Result<()> {
    if !link.is_symlink() {
        std::os::unix::fs::symlink(aside.file_name().unwrap_or_default(), link)?;
    }
    let begun = aside.exists();
    // The file last: when it is gone, so is what belongs to it.
    for end in ["-wal", "-shm", ""] {
        let from = dir.join(format!("{FILE}{end}"));
        let moved = if begun { fs::remove_file(from) } else { fs::rename(from, format!("{}{end}", aside.display())) };
        match moved {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Copies what can be read of a table, from both ends towards the damage; gives what stood in the way.
fn copy(old: &Connection, new: &Connection, table: &str, key: &str) -> Result<Option<String>, StoreError> {
    let columns = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(&format!("PRAGMA table_info({table})"))?;
        let names = statement.query_map([], |row| row.get(1))?;
        names.collect()
    };
    let known: BTreeSet<String> = columns(new)?.into_iter().collect();
    let shared: Vec<String> = match columns(old) {
        Ok(names) => names.into_iter().filter(|name| known.contains(name)).collect(),
        Err(error) => return Ok(Some(error.to_string())),
    };
    if shared.is_empty() {
        return Ok(Some("it is not there".to_owned()));
    }
    let list = shared.join(", ");
    let places: Vec<String> = (1..=shared.len()).map(|n| format!("?{n}")).collect();
    let mut insert = new.prepare(&format!("INSERT OR REPLACE INTO {table} ({list}) VALUES ({})", places.join(", ")))?;
    let mut put = |row: &rusqlite::Row<'_>| -> rusqlite::Result<()> {
        let values: Vec<Value> = (0..shared.len()).map(|n| row.get(n)).collect::<rusqlite::Result<_>>()?;
        // A row that fits nowhere is no row.
        let _ = insert.execute(params_from_iter(values));
        Ok(())
    };
    let mut through = |order: &str| -> rusqlite::Result<()> {
        let mut statement = old.prepare(&format!("SELECT {list} FROM {table} ORDER BY {order}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            put(row)?;
        }
        Ok(())
    };
    let Err(error) = through(key) else { return Ok(None) };
    let backwards: Vec<String> = key.split(", ").map(|column| format!("{column} DESC")).collect();
    let _ = through(&backwards.join(", "));
    if key == "id" {
        // Rows between two damaged pages are found by their numbers.
        let ends = format!("SELECT coalesce(min(id), 1), coalesce(max(id), 0) FROM {table}");
        let (first, last): (i64, i64) = new.query_row(&ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let beyond = if last == 0 { LOOK_FOR } else { last };
        if let Ok(mut one) = old.prepare(&format!("SELECT {list} FROM {table} WHERE id = ?1")) {
            for id in (first..=beyond).take(LOOK_FOR as usize) {
                let there =
                    new.query_row(&format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE id = ?1)"), [id], |row| {
                        row.get::<_, bool>(0)
                    })?;
                if !there {
                    let _ = one.query_row([id], &mut put);
                }
            }
        }
    }
    Ok(Some(error.to_string()))
}

/// The commits that are missing between others, in words, and how many they are. Commits are numbered without gaps.
fn gaps(connection: &Connection) -> Result<(Vec<String>, u64), StoreError> {
    let mut statement = connection.prepare("SELECT id, at_ms FROM raw ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let (mut before, mut words, mut missing): (Option<(i64, i64)>, Vec<String>, u64) = (None, Vec::new(), 0);
    for row in rows {
        let (id, at) = row?;
        if let Some((last, since)) = before.filter(|(last, _)| last + 1 < id) {
            missing += (id - last - 1).cast_unsigned();
            let time = |ms| Timestamp::from_millis(ms);
            words.push(format!("commits {} to {} of {} to {}", last + 1, id - 1, time(since), time(at)));
        }
        before = Some((id, at));
    }
    let reached: Option<i64> =
        connection.query_row("SELECT max(value) FROM meta WHERE key = 'gone_through'", [], |row| row.get(0))?;
    if let (Some((last, since)), Some(reached)) = (before, reached)
        && last < reached
    {
        missing += (reached - last).cast_unsigned();
        words.push(format!("commits {} to {reached} from {} on", last + 1, Timestamp::from_millis(since)));
    }
    words.truncate(20);
    Ok((words, missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Group, RawMessage};

    #[test]
    fn what_was_broken_off_while_the_store_was_made_anew_begins_again_and_loses_nothing_more() {
        let now = Timestamp::from_secs(1_000_000);
        let message =
            RawMessage { station: "n1".to_owned(), kind: 1, payload: vec![7; 100].into(), ..RawMessage::default() };
        // The link is there; the log is moved, too; all is moved; a new store is begun.
        for step in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let mut store = Store::open(dir.path()).unwrap();
            for id in 1..=10 {
                let group = Group { messages: vec![message.clone()], ..Group::default() };
                store.commit(&group, id, now).unwrap();
            }
            // As a process that was killed leaves it.
            for name in [FILE, "gateway.sqlite-wal"] {
                fs::copy(at(name), at(&format!("{name}.copy"))).unwrap();
            }
            drop(store);
            for name in [FILE, "gateway.sqlite-wal"] {
                fs::rename(at(&format!("{name}.copy")), at(name)).unwrap();
            }
            std::os::unix::fs::symlink("gateway.sqlite.damaged-5", at(RECOVERING)).unwrap();
            if step > 0 {
                fs::rename(at("gateway.sqlite-wal"), at("gateway.sqlite.damaged-5-wal")).unwrap();
            }
            if step > 1 {
                fs::rename(at(FILE), at("gateway.sqlite.damaged-5")).unwrap();
            }
            if step > 2 {
                let group = Group { messages: vec![message.clone()], ..Group::default() };
                Store::open(dir.path()).unwrap().commit(&group, 77, now).unwrap();
            }
            let (store, counters) = Store::open_or_recover(dir.path(), now).unwrap();
            assert_eq!((store.newest().unwrap(), counters["refused.damaged_store"]), (10, 1), "step {step}");
            assert_eq!(counters.get("refused.damaged_commit"), None, "step {step}");
            drop(store);
            let (store, counters) = Store::open_or_recover(dir.path(), now).unwrap();
            assert_eq!((store.newest().unwrap(), counters.len()), (10, 0), "step {step}: once");
        }
    }
}
