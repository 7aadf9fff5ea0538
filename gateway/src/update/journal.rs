//! What an update remembers through power cuts: how far each model has come, which metadata was trusted, how many bytes
//! have come. One SQLite file; each transition is one transaction, synced before anything acts on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::Timestamp;
use proto::update::Phase;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::disk::{Disk, RealDisk};
use super::machine::{Action, Event, State, Version};

/// The tables that this program makes and reads.
const LAYOUT: i64 = 1;
/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    -- running: a gateway has started and has not ended well; crashes: how often in a row; the rest are counters and times.
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    -- A model's versions, as JSON: active, previous, candidate, refusals.
    CREATE TABLE model (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    -- The registry's metadata that was found true last: the next one may not be older.
    CREATE TABLE trusted (file TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
";

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// SQLite says so.
    #[error("updates journal: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The disk says so.
    #[error("updates journal: {0}")]
    Disk(#[from] std::io::Error),
    /// Another version made it.
    #[error("updates journal: layout {found}, but this gateway reads layout {LAYOUT}; use the version that made it")]
    Layout {
        /// Its layout.
        found: i64,
    },
    /// A row holds something else.
    #[error("updates journal: model {name:?} cannot be read: {detail}")]
    Damaged {
        /// The model.
        name: String,
        /// What is wrong.
        detail: String,
    },
}

impl JournalError {
    /// Whether it may pass by itself: a full disk, a file that another program holds.
    #[must_use]
    pub fn passes(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure))
    }
}

/// A number that the journal keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// 1 from a start to a clean end.
    Running,
    /// Starts in a row that did not last.
    Crashes,
    /// Bytes received from the registry since the gateway was set up.
    Bytes,
    /// When the byte budget is full again, in microseconds since 1970.
    BudgetFullAt,
    /// When the registry was last read and found true, in milliseconds of farm time since 1970.
    Checked,
}

impl Counter {
    const fn key(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Crashes => "crashes",
            Self::Bytes => "bytes",
            Self::BudgetFullAt => "budget_full_at_us",
            Self::Checked => "checked_ms",
        }
    }
}

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    states: BTreeMap<String, State>,
    disk: Arc<dyn Disk>,
}

impl Journal {
    /// Opens the journal in `data_dir`, making it where there is none.
    ///
    /// # Errors
    /// When it cannot be opened or read, or another version made it.
    pub fn open(data_dir: &Path) -> Result<Self, JournalError> {
        Self::open_on(data_dir, Arc::new(RealDisk))
    }

    /// The same on another disk.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on(data_dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, JournalError> {
        let dir = data_dir.join("models");
        disk.create_dir(&dir)?;
        let mut connection = Connection::open(dir.join("updates.sqlite"))?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        } else if found != LAYOUT {
            return Err(JournalError::Layout { found });
        }
        transaction.commit()?;
        let states = read_states(&connection)?;
        Ok(Self { connection, states, disk })
    }

    /// What is known of each model, by name.
    #[must_use]
    pub const fn states(&self) -> &BTreeMap<String, State> {
        &self.states
    }

    /// Takes a model on by what happened to it, in one transaction, and gives what is to be told to the pipeline. When
    /// the transaction fails, nothing has happened.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn apply(&mut self, name: &str, event: Event, now: Timestamp) -> Result<Vec<Action>, JournalError> {
        let before = self.states.get(name).cloned().unwrap_or_default();
        let (after, actions) = before.clone().step(event, now);
        if after != before {
            let body = serde_json::to_string(&after)
                .map_err(|e| JournalError::Damaged { name: name.to_owned(), detail: e.to_string() })?;
            self.disk.transaction()?;
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "INSERT INTO model (name, state) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET state = excluded.state",
                params![name, body],
            )?;
            if step(&before) != step(&after) {
                // What died before this step says nothing about it.
                transaction.execute("DELETE FROM meta WHERE key = ?1", [Counter::Crashes.key()])?;
            }
            transaction.commit()?;
            self.states.insert(name.to_owned(), after);
            self.disk.transaction()?;
        }
        Ok(actions)
    }

    /// A number that was kept; 0 before the first time.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn counter(&self, counter: Counter) -> Result<i64, JournalError> {
        let value = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = ?1", [counter.key()], |row| row.get(0))
            .optional()?;
        Ok(value.unwrap_or(0))
    }

    /// Keeps numbers, all or none.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn keep(&mut self, counters: &[(Counter, i64)]) -> Result<(), JournalError> {
        self.keep_all(counters, None)
    }

    /// Keeps numbers and the trusted metadata, all or none.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn keep_all(
        &mut self,
        counters: &[(Counter, i64)],
        trusted: Option<&BTreeMap<String, Vec<u8>>>,
    ) -> Result<(), JournalError> {
        self.disk.transaction()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (counter, value) in counters {
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                params![counter.key(), value],
            )?;
        }
        if let Some(trusted) = trusted {
            transaction.execute("DELETE FROM trusted", [])?;
            for (file, body) in trusted {
                transaction.execute("INSERT INTO trusted (file, body) VALUES (?1, ?2)", params![file, body])?;
            }
        }
        transaction.commit()?;
        self.disk.transaction()?;
        Ok(())
    }

    /// The metadata that was trusted last, by file.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn trusted(&self) -> Result<BTreeMap<String, Vec<u8>>, JournalError> {
        let mut statement = self.connection.prepare("SELECT file, body FROM trusted")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The gateway ends well: what ran did not bring it down.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn clean_shutdown(&mut self) -> Result<(), JournalError> {
        self.keep(&[(Counter::Running, 0), (Counter::Crashes, 0)])
    }
}

fn read_states(connection: &Connection) -> Result<BTreeMap<String, State>, JournalError> {
    let mut statement = connection.prepare("SELECT name, state FROM model")?;
    let mut rows = statement.query([])?;
    let mut states = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (name, body): (String, String) = (row.get(0)?, row.get(1)?);
        let state = serde_json::from_str(&body)
            .map_err(|e| JournalError::Damaged { name: name.clone(), detail: e.to_string() })?;
        states.insert(name, state);
    }
    Ok(states)
}

/// Where a model stands: another one is a step forward or back.
fn step(state: &State) -> (Option<&Version>, Option<Phase>) {
    (state.active.as_ref().map(|active| &active.version), state.candidate.as_ref().map(|candidate| candidate.phase))
}

#[cfg(test)]
mod tests {
    use proto::Assignment;
    use proto::update::{Reason, SelfTest, ShadowReport};
    use tempfile::TempDir;

    use super::*;

    const NAME: &str = "soil-anomaly";

    fn version(number: &str) -> Version {
        Version { version: number.to_owned(), digest: number.repeat(8) }
    }

    fn assigned(number: &str, serial: u64) -> Event {
        let Version { version, digest } = version(number);
        Event::Assigned(Some(Assignment { version, sha256: digest, serial, shadow_s: 3_600, min_agreement: 0.0 }))
    }

    /// Two starts did not last, and then this happens: how many are remembered, also by whoever opens the journal next.
    fn remembered(dir: &TempDir, journal: &mut Journal, event: Event) -> i64 {
        journal.keep(&[(Counter::Crashes, 2), (Counter::Bytes, 9)]).unwrap();
        journal.apply(NAME, event, Timestamp::from_secs(1_800_000_000)).unwrap();
        assert_eq!(journal.counter(Counter::Bytes).unwrap(), 9);
        let next = Journal::open(dir.path()).unwrap();
        assert_eq!(next.states(), journal.states());
        next.counter(Counter::Crashes).unwrap()
    }

    #[test]
    fn crashes_are_forgotten_at_each_step_and_at_nothing_else() {
        let dir = TempDir::new().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let shadow = |until| ShadowReport {
            windows: 5,
            until: Timestamp::from_secs(until),
            agreement: 1.0,
            mean_difference: 0.0,
            alerts: 0,
            active_alerts: 0,
        };
        let measured = SelfTest { latency_us: 1, batch_latency_us: 1, memory_bytes: 1, cpu_ms: 1, wall_ms: 1 };
        let failed = Event::Failed { digest: version("1.1.0").digest, reason: Reason::Panic, text: "boom".to_owned() };
        let (late, end) = (1_900_000_000, Some(Timestamp::from_secs(2_000_000_000)));
        let wrong = || "of no use".to_owned();
        for (what, event, is_step) in [
            ("the first version", Event::Base(Some(version("1.0.0"))), true),
            ("the same again", Event::Base(Some(version("1.0.0"))), false),
            ("something to fetch", assigned("1.1.0", 1), true),
            ("the same assignment", assigned("1.1.0", 1), false),
            ("bytes", Event::Fetched { fetched: 10, size: 20 }, false),
            ("a target that came wrong", Event::Struck(Reason::Digest, wrong()), false),
            ("all of it", Event::Verified, true),
            ("the same late", Event::Verified, false),
            ("the self-test", Event::SelfTested(Some(measured)), true),
            ("the shadow", Event::Running, true),
            ("a restart in shadow", Event::Running, false),
            ("what it judged", Event::Judged(shadow(late), None), false),
            ("the end of the shadow", Event::Judged(shadow(late), end), true),
            ("its probation", Event::Stayed, false),
            ("a way back", failed, true),
            ("another one", assigned("1.2.0", 2), true),
            ("its refusal", Event::Refused(Reason::Golden, wrong()), true),
            ("no assignment", Event::Assigned(None), false),
        ] {
            let left = remembered(&dir, &mut journal, event);
            assert_eq!(left, if is_step { 0 } else { 2 }, "{what}");
        }
        assert_eq!(journal.states()[NAME].active.as_ref().unwrap().version, version("1.0.0"));
    }

    #[test]
    fn a_start_that_cannot_be_counted_is_a_start_all_the_same() {
        let dir = TempDir::new().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let base = version("1.0.0");
        let bases = [crate::update::Base { name: NAME.to_owned(), version: base.version, digest: base.digest }];
        let now = Timestamp::from_secs(1_800_000_000);
        let runs = journal.startup(dir.path(), &bases, now).unwrap();
        assert_eq!(runs.len(), 1);
        // A disk that takes nothing, as a writer that does not end: both may pass.
        journal.connection.busy_timeout(Duration::ZERO).unwrap();
        let other = Connection::open(dir.path().join("models/updates.sqlite")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(journal.startup(dir.path(), &bases, now).unwrap(), runs);
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(journal.counter(Counter::Crashes).unwrap(), 0);
        journal.startup(dir.path(), &bases, now).unwrap();
        assert_eq!(journal.counter(Counter::Crashes).unwrap(), 1);
    }
}
