//! The gateway's memory: one SQLite file that survives power cuts and that a field engineer can open with any SQLite tool.
//!
//! Raw messages are kept one row for each group commit, compressed together, with the stations' names and the times beside
//! them, so that a row can be found without being opened. Beside them stand the little tables that let a killed gateway
//! go on: how far each station was stored, which windows were emitted, which alerts are open, what waits for the cloud.
//!
//! Intake and analysis have a connection each and take turns in writing; a reader never holds up a writer (WAL).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message as _;
use proto::{Alert, Lane, Record, StationId, Timestamp, Window};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::decode::source::Unknown;
use crate::door::DeliveryKind;
use crate::ingest::Unmapped;
use crate::window::{Emitted, RejectCounts};

/// The store's file in the data directory.
pub const FILE: &str = "gateway.sqlite";
/// The tables that this program makes and reads.
pub const LAYOUT: i64 = 2;
/// zstd's level: the highest of those that cost less than the sync of the commit.
const LEVEL: i32 = 1;
/// The largest commit once decompressed, bytes: far above what one group holds.
const MAX_COMMIT: usize = 256 << 20;
/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);
/// How many rows are deleted at once, so that a deletion never holds up a commit for long.
pub const DELETE_AT_ONCE: u32 = 200;
/// What a raw row takes beside its body, bytes: its other columns, and its share of the page.
const RAW_ROW: u64 = 128;
/// The most that is kept aside. The oldest goes first: it is there to be looked at, not to be processed.
const QUARANTINE_MOST: u32 = 2_000;

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    -- A group commit: first_ms and last_ms span its readings (farm time), stations are those that it has messages of.
    CREATE TABLE raw (
        id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, first_ms INTEGER, last_ms INTEGER,
        stations TEXT NOT NULL, messages INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE TABLE progress (
        station TEXT NOT NULL, boot INTEGER NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (station, boot)) WITHOUT ROWID;
    CREATE TABLE station (
        station TEXT PRIMARY KEY, heard_ms INTEGER NOT NULL, watermark_ms INTEGER, birth BLOB, birth_ms INTEGER) WITHOUT ROWID;
    CREATE TABLE emitted (
        station TEXT NOT NULL, start_ms INTEGER NOT NULL, revision INTEGER NOT NULL, digest INTEGER NOT NULL,
        rejected_range INTEGER NOT NULL, rejected_rate INTEGER NOT NULL, rejected_hampel INTEGER NOT NULL,
        rejected_duplicate INTEGER NOT NULL, rejected_stuck INTEGER NOT NULL, PRIMARY KEY (station, start_ms)) WITHOUT ROWID;
    -- What open windows need of a station that fell silent, in place of its raw rows.
    CREATE TABLE carried (station TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE alert (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE history (start_ms INTEGER NOT NULL, station TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (start_ms, station)) WITHOUT ROWID;
    CREATE TABLE spool (id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL);
    CREATE INDEX spool_lane ON spool (lane, id);
    -- How far the cloud has a lane, and the row up to which a batch is under way: it is sent again as it was.
    CREATE TABLE lane (lane INTEGER PRIMARY KEY, acknowledged INTEGER NOT NULL, sending INTEGER);
    -- What could not be read or was refused for good, with the reason.
    CREATE TABLE quarantine (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// Made where they are missing, whichever version made the store.
const SOURCES: &str = "
    -- What the decoder of a source must have again after a restart.
    CREATE TABLE IF NOT EXISTS source_state (
        source TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (source, key)) WITHOUT ROWID;
    -- Channels of sources that nobody mapped, with what they may be.
    CREATE TABLE IF NOT EXISTS unmapped (
        source TEXT NOT NULL, station TEXT NOT NULL, name TEXT NOT NULL, unit TEXT, value TEXT NOT NULL, proposal TEXT,
        at_ms INTEGER NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (source, station, name)) WITHOUT ROWID;
";

/// From layout 1 to 2.
const UPGRADE: &str = "
    ALTER TABLE emitted ADD COLUMN rejected_stuck INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE carried (station TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says so.
    #[error("store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Another version made it.
    #[error(
        "store {path}: layout {found}, but this gateway reads layout {LAYOUT}; use the version that made it, or another data_dir"
    )]
    Layout {
        /// The file.
        path: String,
        /// Its layout.
        found: i64,
    },
    /// A row holds something else.
    #[error("store: {what} cannot be read: {detail}")]
    Damaged {
        /// Which row.
        what: String,
        /// What is wrong.
        detail: String,
    },
}

impl StoreError {
    /// Whether it may pass by itself: a full disk, a store that another program holds.
    #[must_use]
    pub fn passes(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure))
    }
}

/// A message as it came, for the raw store.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RawMessage {
    /// The station; of a source's message the bridge that brought it.
    #[prost(string, tag = "1")]
    pub station: String,
    /// 0 birth, 1 data, 2 status, 3 a source's message, 4 what one said of a station ([`NORMALISED`]).
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// When it came, farm time in ms since 1970.
    #[prost(sint64, tag = "3")]
    pub at_ms: i64,
    /// The payload.
    #[prost(bytes = "bytes", tag = "4")]
    pub payload: bytes::Bytes,
    /// The packet id that it came with; 0 with none.
    #[prost(uint32, tag = "5")]
    pub packet: u32,
    /// The readings of a station that a source's message brought; the message stands before it.
    #[prost(message, optional, tag = "6")]
    pub readings: Option<Normalised>,
    /// The whole topic of a source's message.
    #[prost(string, tag = "7")]
    pub topic: String,
}

/// The kind of a raw message that holds what a source's message said of a station.
pub const NORMALISED: u32 = 4;

/// Readings in our own words: three columns of the same length.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Normalised {
    /// When: the first from the message's `at_ms`, each other from the one before.
    #[prost(sint64, repeated, tag = "1")]
    pub steps_ms: Vec<i64>,
    /// Of which channel, as [`proto::Channel::code`].
    #[prost(uint32, repeated, tag = "2")]
    pub channels: Vec<u32>,
    /// The values, exact.
    #[prost(double, repeated, tag = "3")]
    pub values: Vec<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Commit {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<RawMessage>,
}

/// What a group commit brings to disk.
#[derive(Debug, Default)]
pub struct Group {
    /// The messages, in the order in which they came.
    pub messages: Vec<RawMessage>,
    /// The first and the last time of their readings.
    pub span: Option<(Timestamp, Timestamp)>,
    /// How far each station is stored now.
    pub progress: BTreeMap<(StationId, u32), u64>,
    /// When each station was heard.
    pub stations: BTreeMap<StationId, Timestamp>,
    /// Births, as they came.
    pub births: BTreeMap<StationId, (Timestamp, Vec<u8>)>,
    /// What could not be read: source, reason, payload.
    pub quarantined: Vec<(String, String, Vec<u8>)>,
    /// What was counted.
    pub counters: BTreeMap<String, u64>,
    /// Births that go to the cloud.
    pub records: Vec<Record>,
    /// What decoders of sources must have again: source, key, and what; none to forget it.
    pub source_states: Vec<(String, String, Option<Vec<u8>>)>,
    /// Channels of sources that nobody mapped.
    pub unmapped: Vec<Unmapped>,
}

/// A station as the store remembers it.
#[derive(Debug, Clone)]
pub struct Known {
    /// When anything came from it.
    pub heard: Timestamp,
    /// Its newest reading that is gone through.
    pub watermark: Option<Timestamp>,
    /// Its last birth.
    pub birth: Option<Vec<u8>>,
}

/// What waits for the cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records.
    pub records: u64,
    /// When the oldest was made.
    pub oldest: Option<Timestamp>,
}

/// The store, open for reading and writing.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// Bytes of all raw rows, once they were added up.
    raw_bytes: Option<u64>,
    /// Held by the connection that writes, of those that were opened [beside](Self::beside) each other. SQLite would make
    /// the others ask again and again, later and later.
    turn: Turn,
}

#[derive(Debug, Clone, Default)]
struct Turn(Arc<Mutex<()>>);

impl Turn {
    fn take(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens the store in `dir`, making it where there is none.
    ///
    /// # Errors
    /// When it cannot be opened, or another version made it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(64);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found == 0 {
            transaction.execute_batch(TABLES)?;
            for lane in Lane::ALL {
                transaction.execute("INSERT INTO lane (lane, acknowledged) VALUES (?1, 0)", params![lane as i64])?;
            }
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        } else if found == 1 {
            transaction.execute_batch(UPGRADE)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        } else if found != LAYOUT {
            return Err(StoreError::Layout { path: path.display().to_string(), found });
        }
        transaction.execute_batch(SOURCES)?;
        transaction.commit()?;
        Ok(Self { connection, raw_bytes: None, turn: Turn::default() })
    }

    /// Another connection to the same store, for what can be made again: its transactions are not synced by themselves, but
    /// with the next of another connection. The two take turns in writing.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn beside(&self) -> Result<Self, StoreError> {
        let path = Path::new(self.connection.path().unwrap_or_default());
        let mut store = Self::open(path.parent().unwrap_or(path))?;
        store.connection.pragma_update(None, "synchronous", "NORMAL")?;
        store.turn = self.turn.clone();
        Ok(store)
    }

    /// Brings a group to disk, its messages as the raw row `id`. When this returns, the group survives a power cut.
    ///
    /// # Errors
    /// When SQLite refuses: nothing of the group is stored then.
    pub fn commit(&mut self, group: &Group, id: u64, now: Timestamp) -> Result<(), StoreError> {
        let body = zstd::bulk::compress(&Commit { messages: group.messages.clone() }.encode_to_vec(), LEVEL)
            .map_err(|e| StoreError::Damaged { what: "a commit".to_owned(), detail: e.to_string() })?;
        let mut names: Vec<&str> = group.messages.iter().map(|m| m.station.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let _turn = self.turn.take();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !group.messages.is_empty() {
            transaction
                .prepare_cached("INSERT INTO raw (id, at_ms, first_ms, last_ms, stations, messages, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    id.cast_signed(),
                    now.as_millis(),
                    group.span.map(|s| s.0.as_millis()),
                    group.span.map(|s| s.1.as_millis()),
                    names.join(" "),
                    group.messages.len() as i64,
                    body
                ])?;
        }
        for ((station, boot), sequence) in &group.progress {
            transaction
                .prepare_cached("INSERT INTO progress VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)")?
                .execute(params![station.as_str(), boot, sequence.cast_signed()])?;
        }
        for (station, heard) in &group.stations {
            transaction
                .prepare_cached(
                    "INSERT INTO station (station, heard_ms) VALUES (?1, ?2)
                        ON CONFLICT DO UPDATE SET heard_ms = excluded.heard_ms",
                )?
                .execute(params![station.as_str(), heard.as_millis()])?;
        }
        for (station, (at, payload)) in &group.births {
            transaction
                .prepare_cached("UPDATE station SET birth = ?2, birth_ms = ?3 WHERE station = ?1")?
                .execute(params![station.as_str(), payload, at.as_millis()])?;
        }
        for (source, key, body) in &group.source_states {
            match body {
                Some(body) => transaction
                    .prepare_cached("INSERT OR REPLACE INTO source_state VALUES (?1, ?2, ?3)")?
                    .execute(params![source, key, body])?,
                None => transaction
                    .prepare_cached("DELETE FROM source_state WHERE source = ?1 AND key = ?2")?
                    .execute(params![source, key])?,
            };
        }
        for Unmapped { channel, at, values } in &group.unmapped {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO unmapped VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    channel.source,
                    channel.station.as_str(),
                    channel.name,
                    channel.unit,
                    channel.value,
                    channel.proposal.map(|channel| channel.to_string()),
                    at.as_millis(),
                    values.cast_signed(),
                ])?;
        }
        for (source, reason, body) in &group.quarantined {
            quarantine(&transaction, now, source, reason, body)?;
        }
        count(&transaction, &group.counters)?;
        spool(&transaction, &group.records, now)?;
        transaction.commit()?;
        if let Some(bytes) = self.raw_bytes.as_mut().filter(|_| !group.messages.is_empty()) {
            *bytes += body.len() as u64 + RAW_ROW;
        }
        Ok(())
    }
}

/// How far the commits of the raw store are gone through: all before `commit`, and so many messages of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// The raw store's row.
    pub commit: u64,
    /// How many of its messages; [`u32::MAX`] for all.
    pub messages: u32,
}

/// What the analysis remembers of closed windows, in one transaction.
#[derive(Debug, Default)]
pub struct Emission {
    /// The windows.
    pub windows: Vec<crate::window::Closed>,
    /// The alerts that changed.
    pub alerts: Vec<Alert>,
    /// How far the commits are gone through of which this comes.
    pub cursor: Cursor,
    /// What open windows need of stations that fell silent, in place of their raw rows.
    pub carried: Vec<(StationId, Vec<u8>)>,
    /// What is kept aside: source, reason, and what it is.
    pub quarantined: Vec<(String, String, Vec<u8>)>,
    /// What was counted.
    pub counters: BTreeMap<String, u64>,
    /// The oldest raw row that is needed after a restart.
    pub replay_from: Option<u64>,
    /// By station that has moved on: its watermark, up to which all that was due is in `windows` or was kept before.
    pub watermarks: BTreeMap<StationId, Timestamp>,
    /// By station: windows before this cannot change any more, and need no memory.
    pub final_before: BTreeMap<StationId, Timestamp>,
    /// By station: windows before this are no history for the detector any more.
    pub history_before: BTreeMap<StationId, Timestamp>,
}

impl Emission {
    /// How many windows and alerts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len() + self.alerts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Store {
    /// Keeps closed windows and changed alerts, and puts them into the spool. A power cut may undo it, together with how far
    /// the commits are gone through: then the same is made again.
    ///
    /// # Errors
    /// When SQLite refuses: nothing is kept then.
    pub fn emit(&mut self, emission: &Emission, now: Timestamp) -> Result<(), StoreError> {
        let _turn = self.turn.take();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for closed in &emission.windows {
            let (window, emitted) = (&closed.window, &closed.emitted);
            transaction
                .prepare_cached("INSERT OR REPLACE INTO emitted VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
                .execute(params![
                window.station.as_str(),
                window.start.as_millis(),
                emitted.revision,
                emitted.digest,
                emitted.rejected.range,
                emitted.rejected.rate,
                emitted.rejected.hampel,
                emitted.rejected.duplicate,
                emitted.rejected.stuck,
            ])?;
            let record = Record::Window(window.clone());
            let body = record.encode();
            transaction.prepare_cached("INSERT OR REPLACE INTO history VALUES (?1, ?2, ?3)")?.execute(params![
                window.start.as_millis(),
                window.station.as_str(),
                body
            ])?;
            spool_one(&transaction, &record, &body, now)?;
        }
        for alert in &emission.alerts {
            let record = Record::Alert(alert.clone());
            let body = record.encode();
            if alert.closed.is_some() {
                transaction.prepare_cached("DELETE FROM alert WHERE id = ?1")?.execute([&alert.id])?;
            } else {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO alert VALUES (?1, ?2)")?
                    .execute(params![alert.id, body])?;
            }
            spool_one(&transaction, &record, &body, now)?;
        }
        for (station, body) in &emission.carried {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO carried VALUES (?1, ?2)")?
                .execute(params![station.as_str(), body])?;
        }
        for (source, reason, body) in &emission.quarantined {
            quarantine(&transaction, now, source, reason, body)?;
        }
        count(&transaction, &emission.counters)?;
        let Cursor { commit, messages } = emission.cursor;
        let meta = [
            ("replay_from", emission.replay_from.unwrap_or(commit)),
            ("gone_through", commit),
            ("gone_through_messages", u64::from(messages)),
        ];
        for (key, value) in meta {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
                .execute(params![key, value.cast_signed()])?;
        }
        for (station, watermark) in &emission.watermarks {
            transaction
                .prepare_cached("UPDATE station SET watermark_ms = ?2 WHERE station = ?1")?
                .execute(params![station.as_str(), watermark.as_millis()])?;
        }
        for (station, before) in &emission.final_before {
            transaction
                .prepare_cached("DELETE FROM emitted WHERE station = ?1 AND start_ms < ?2")?
                .execute(params![station.as_str(), before.as_millis()])?;
        }
        for (station, before) in &emission.history_before {
            transaction
                .prepare_cached("DELETE FROM history WHERE start_ms < ?2 AND station = ?1")?
                .execute(params![station.as_str(), before.as_millis()])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The stations that were ever heard.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn stations(&self) -> Result<BTreeMap<StationId, Known>, StoreError> {
        let mut statement = self.connection.prepare("SELECT station, heard_ms, watermark_ms, birth FROM station")?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Option<i64>>(2)?,
                row.get::<_, Option<Vec<u8>>>(3)?,
            ))
        })?;
        rows.map(|row| {
            let (station, heard, watermark, birth) = row?;
            let (heard, watermark) = (Timestamp::from_millis(heard), watermark.map(Timestamp::from_millis));
            Ok((station_id(&station)?, Known { heard, watermark, birth }))
        })
        .collect()
    }

    /// How far each boot of each station is stored.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn progress(&self) -> Result<BTreeMap<(StationId, u32), u64>, StoreError> {
        let mut statement = self.connection.prepare("SELECT station, boot, sequence FROM progress")?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?, row.get::<_, i64>(2)?)))?;
        rows.map(|row| {
            let (station, boot, sequence) = row?;
            Ok(((station_id(&station)?, boot), sequence.cast_unsigned()))
        })
        .collect()
    }

    /// What was emitted of the windows that can still be amended.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn emitted(&self) -> Result<BTreeMap<StationId, BTreeMap<Timestamp, Emitted>>, StoreError> {
        let mut statement = self.connection.prepare("SELECT * FROM emitted")?;
        let rows = statement.query_map([], |row| {
            let rejected = RejectCounts {
                range: row.get(4)?,
                rate: row.get(5)?,
                hampel: row.get(6)?,
                duplicate: row.get(7)?,
                stuck: row.get(8)?,
            };
            let emitted = Emitted { revision: row.get(2)?, digest: row.get(3)?, rejected };
            Ok((row.get::<_, String>(0)?, Timestamp::from_millis(row.get(1)?), emitted))
        })?;
        let mut all: BTreeMap<StationId, BTreeMap<Timestamp, Emitted>> = BTreeMap::new();
        for row in rows {
            let (station, start, emitted) = row?;
            all.entry(station_id(&station)?).or_default().insert(start, emitted);
        }
        Ok(all)
    }

    /// What is carried of silent stations.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn carried(&self) -> Result<Vec<(StationId, Vec<u8>)>, StoreError> {
        let mut statement = self.connection.prepare("SELECT station, body FROM carried ORDER BY station")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        rows.map(|row| row.map_err(StoreError::from).and_then(|(station, body)| Ok((station_id(&station)?, body))))
            .collect()
    }

    /// The alerts that are open.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn open_alerts(&self) -> Result<Vec<Alert>, StoreError> {
        let mut statement = self.connection.prepare("SELECT id, body FROM alert ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
        let mut alerts = Vec::new();
        for row in rows {
            let (id, body) = row?;
            match Record::decode(&body) {
                Ok(Record::Alert(alert)) => alerts.push(alert),
                Ok(_) => return Err(damaged(format!("alert {id}"), "another record")),
                Err(error) => return Err(damaged(format!("alert {id}"), error)),
            }
        }
        Ok(alerts)
    }

    /// The windows of the last time, oldest first: the detector's history.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn history(&self) -> Result<Vec<Window>, StoreError> {
        let mut statement = self.connection.prepare("SELECT body FROM history ORDER BY start_ms, station")?;
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut windows = Vec::new();
        for row in rows {
            match Record::decode(&row?) {
                Ok(Record::Window(window)) => windows.push(window),
                Ok(_) => return Err(damaged("a window of the history".to_owned(), "another record")),
                Err(error) => return Err(damaged("a window of the history".to_owned(), error)),
            }
        }
        Ok(windows)
    }

    /// How far the commits are gone through; none in a store that was made before this was noted.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn cursor(&self) -> Result<Option<Cursor>, StoreError> {
        let (commit, messages) = (self.meta("gone_through")?, self.meta("gone_through_messages")?);
        Ok(commit.zip(messages).map(|(commit, messages)| Cursor {
            commit: commit.cast_unsigned(),
            messages: u32::try_from(messages).unwrap_or(u32::MAX),
        }))
    }

    /// The newest commit's number: the highest that any row has, or that was gone through.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn newest(&self) -> Result<u64, StoreError> {
        let newest: i64 = self.connection.query_row("SELECT coalesce(max(id), 0) FROM raw", [], |row| row.get(0))?;
        Ok(newest.max(self.meta("gone_through")?.unwrap_or(0)).cast_unsigned())
    }

    fn meta(&self, key: &str) -> Result<Option<i64>, StoreError> {
        let value = self.connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0));
        Ok(value.optional()?)
    }

    /// Gives the raw messages that are needed after a restart to `take`, with their commit and their place in it.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn replay(&self, mut take: impl FnMut(u64, u32, RawMessage)) -> Result<(), StoreError> {
        let from = self.meta("replay_from")?.unwrap_or(0);
        let mut statement = self.connection.prepare("SELECT id, body FROM raw WHERE id >= ?1 ORDER BY id")?;
        let mut rows = statement.query([from])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let messages = messages(id, row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
            for (index, message) in (0..).zip(messages) {
                take(id.cast_unsigned(), index, message);
            }
        }
        Ok(())
    }

    /// The first commit that is not wholly gone through, with its messages; none when there is none.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn commit_after(&self, cursor: Cursor) -> Result<Option<(u64, Vec<RawMessage>)>, StoreError> {
        let from = cursor.commit + u64::from(cursor.messages == u32::MAX);
        let row = self
            .connection
            .prepare_cached("SELECT id, body FROM raw WHERE id >= ?1 ORDER BY id LIMIT 1")?
            .query_row([from.cast_signed()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .optional()?;
        row.map(|(id, body)| Ok((id.cast_unsigned(), messages(id, &body)?))).transpose()
    }

    /// What decoders of sources kept: source, key, and what.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn source_states(&self) -> Result<Vec<(String, String, Vec<u8>)>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT source, key, body FROM source_state ORDER BY source, key")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The channels of sources that nobody mapped, the newest first.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn unmapped(&self) -> Result<Vec<Unmapped>, StoreError> {
        let mut statement = self.connection.prepare(
            "SELECT source, station, name, unit, value, proposal, at_ms, times FROM unmapped ORDER BY at_ms DESC",
        )?;
        let mut rows = statement.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let proposal = row.get::<_, Option<String>>(5)?;
            let channel = Unknown {
                source: row.get(0)?,
                station: station_id(&row.get::<_, String>(1)?)?,
                name: row.get(2)?,
                unit: row.get(3)?,
                value: row.get(4)?,
                proposal: proposal.and_then(|channel| channel.parse().ok()),
            };
            let (at, values) = (Timestamp::from_millis(row.get(6)?), row.get::<_, i64>(7)?.cast_unsigned());
            all.push(Unmapped { channel, at, values });
        }
        Ok(all)
    }

    /// Forgets channels that nobody had mapped.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn forget_unmapped(&mut self, settled: &[Unmapped]) -> Result<(), StoreError> {
        let _turn = self.turn.take();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for Unmapped { channel, .. } in settled {
            transaction
                .prepare_cached("DELETE FROM unmapped WHERE source = ?1 AND station = ?2 AND name = ?3")?
                .execute(params![channel.source, channel.station.as_str(), channel.name])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// All counters.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut statement = self.connection.prepare("SELECT name, value FROM counter")?;
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn messages(id: i64, body: &[u8]) -> Result<Vec<RawMessage>, StoreError> {
    let body = zstd::bulk::decompress(body, MAX_COMMIT).map_err(|e| damaged(format!("raw row {id}"), e))?;
    let commit = Commit::decode(body.as_slice()).map_err(|e| damaged(format!("raw row {id}"), e))?;
    Ok(commit.messages)
}

fn station_id(name: &str) -> Result<StationId, StoreError> {
    name.parse().map_err(|error| damaged("a station's name".to_owned(), error))
}

fn damaged(what: String, detail: impl ToString) -> StoreError {
    StoreError::Damaged { what, detail: detail.to_string() }
}

fn count(transaction: &Transaction<'_>, counters: &BTreeMap<String, u64>) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO counter VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = value + excluded.value",
    )?;
    for (name, by) in counters {
        statement.execute(params![name, by.cast_signed()])?;
    }
    Ok(())
}

pub(crate) fn quarantine(
    transaction: &Transaction<'_>,
    now: Timestamp,
    source: &str,
    reason: &str,
    body: &[u8],
) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT INTO quarantine (at_ms, source, reason, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![now.as_millis(), source, reason, body])?;
    transaction
        .prepare_cached("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?1")?
        .execute([QUARANTINE_MOST])?;
    Ok(())
}

fn spool(transaction: &Transaction<'_>, records: &[Record], now: Timestamp) -> Result<(), StoreError> {
    records.iter().try_for_each(|record| spool_one(transaction, record, &record.encode(), now))
}

fn spool_one(transaction: &Transaction<'_>, record: &Record, body: &[u8], now: Timestamp) -> Result<(), StoreError> {
    transaction.prepare_cached("INSERT INTO spool (lane, at_ms, body) VALUES (?1, ?2, ?3)")?.execute(params![
        record.lane() as i64,
        now.as_millis(),
        body
    ])?;
    Ok(())
}

impl Store {
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
        let _turn = self.turn.clone();
        let _turn = _turn.take();
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
        if aged + crowded > 0 {
            self.connection.execute_batch("PRAGMA incremental_vacuum(2000)")?;
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

    fn add_up_raw(&self) -> Result<u64, StoreError> {
        let (rows, bytes): (i64, i64) =
            self.connection.query_row("SELECT count(*), coalesce(sum(length(body)), 0) FROM raw", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        Ok(bytes.cast_unsigned() + rows.cast_unsigned() * RAW_ROW)
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

impl DeliveryKind {
    /// The kind of a raw message from its number.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Self::Birth),
            1 => Some(Self::Data),
            2 => Some(Self::Status),
            3 => Some(Self::Foreign),
            _ => None,
        }
    }
}

/// The kind of a raw message as a number.
#[must_use]
pub const fn kind_code(kind: DeliveryKind) -> u32 {
    match kind {
        DeliveryKind::Birth => 0,
        DeliveryKind::Data => 1,
        DeliveryKind::Status => 2,
        DeliveryKind::Foreign => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(bytes: usize) -> Group {
        // Bytes that zstd cannot make smaller.
        let payload: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
        let message = RawMessage {
            station: "n1".to_owned(),
            kind: 1,
            at_ms: 0,
            payload: payload.into(),
            ..RawMessage::default()
        };
        Group { messages: vec![message], ..Group::default() }
    }

    fn rows(store: &Store) -> Vec<i64> {
        let mut statement = store.connection.prepare("SELECT id FROM raw ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn raw_readings_go_by_age_but_none_that_open_windows_need() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        for day in 0..10 {
            store.commit(&group(10), day + 1, Timestamp::from_secs(86_400 * day.cast_signed())).unwrap();
        }
        let before = Timestamp::from_secs(86_400 * 5);
        assert_eq!(store.trim(before, u64::MAX, Some(3)).unwrap(), (2, 0));
        assert_eq!(store.trim(before, u64::MAX, None).unwrap(), (3, 0));
        assert_eq!(rows(&store), [6, 7, 8, 9, 10]);
        assert_eq!(store.trim(before, u64::MAX, None).unwrap(), (0, 0));
    }

    #[test]
    fn raw_readings_beyond_the_size_go_oldest_first_and_only_as_many_as_must() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let now = Timestamp::from_secs(1_000_000);
        for id in 1..=10 {
            store.commit(&group(10_000), id, now).unwrap();
        }
        let long_ago = Timestamp::from_secs(0);
        assert_eq!(store.trim(long_ago, 200_000, None).unwrap(), (0, 0));
        // From here on the store knows its size without looking.
        store.commit(&group(100_000), 11, now).unwrap();
        assert_eq!(store.trim(long_ago, 175_000, None).unwrap(), (3, 3));
        assert_eq!(rows(&store), [4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(store.raw_bytes, Some(store.add_up_raw().unwrap()));
        assert_eq!(store.trim(long_ago, 1_000, Some(6)).unwrap(), (2, 2), "the windows need the others");
        assert_eq!(rows(&store), [6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn a_full_disk_may_pass_and_another_layout_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        store.connection.pragma_update(None, "max_page_count", 40).unwrap();
        let error = (1..100).find_map(|id| store.commit(&group(10_000), id, Timestamp::from_secs(0)).err()).unwrap();
        assert!(error.passes(), "{error}");
        store.connection.pragma_update(None, "max_page_count", 4_000).unwrap();
        store.commit(&group(10_000), 100, Timestamp::from_secs(0)).unwrap();
        store.connection.pragma_update(None, "user_version", LAYOUT + 1).unwrap();
        assert!(!Store::open(dir.path()).unwrap_err().passes());
    }
}
