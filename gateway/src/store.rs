//! The gateway's memory: one SQLite file that survives power cuts and that a field engineer can open with any SQLite tool.
//!
//! Raw messages are kept one row for each group commit, compressed together, with the stations' names and the times beside
//! them, so that a row can be found without being opened. Beside them stand the little tables that let a killed gateway
//! go on: how far each station was stored, which windows were emitted, which alerts are open, what waits for the cloud.
//!
//! Intake and analysis have a connection each and take turns in writing; a reader never holds up a writer (WAL).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::{Alert, Decision, FieldId, Lane, Record, StationId, Timestamp};
use rand::RngExt as _;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::deduplicate::{BOOTS_KEPT, Due, Row};
use crate::detect::barrier::Reached;
use crate::door::DeliveryKind;
use crate::ingest::Unmapped;
use crate::window::Rhythm;
use rows::{RAW, RawRow, emitted_sum};
use sum::Sum;

mod mark;
mod recover;
mod reserve;
mod retention;
pub(crate) mod rows;
mod sources;
mod sum;

pub use reserve::{BYTES as RESERVE_BYTES, Reserve};
pub use retention::DELETE_AT_ONCE;

/// The store's file in the data directory.
pub const FILE: &str = "gateway.sqlite";
/// The tables that this program makes and reads.
pub const LAYOUT: i64 = 2;
/// zstd's level: the highest of those that cost less than the sync of the commit.
const LEVEL: i32 = 1;
/// The largest commit once decompressed, bytes, of a row of layout 1: no check sum says that its size is what was written.
const MAX_UNPROVEN: u64 = 256 << 20;
/// Room for messages before they are compressed that is kept from one commit to the next, bytes.
const ENCODED_KEPT: usize = 4 << 20;
/// When a station was heard is kept no more exactly than this, ms: nothing depends on it but what a person sees.
const HEARD_MS: i64 = 60_000;
/// SQLite's number for an `auto_vacuum` that gives free pages back when it is told to.
const INCREMENTAL: i64 = 2;
/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);
/// The number in `meta` that says from which commit on the raw store knows more of the stations' progress than the table.
const PROGRESS_FROM: &str = "progress_from";
/// The key of the number of the last command to a station.
const LAST_COMMAND: &str = "last_command";
/// What a raw row takes beside its body, bytes: its other columns, and its share of the page.
const RAW_ROW: u64 = 128;
/// The most rows that are kept aside. The oldest goes first: it is there to be looked at, not to be processed.
const QUARANTINE_MOST: u32 = 2_000;
/// The most bytes of them; of a larger one its beginning is kept.
pub const QUARANTINE_BYTES: usize = 16 << 20;

/// Every `sum` is a check sum of its row, see [`sum`]; rows of layout 1 have none.
const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL, sum INTEGER) WITHOUT ROWID;
    -- A group commit: first_ms and last_ms span its readings (farm time), stations are those that it has messages of.
    CREATE TABLE raw (
        id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, first_ms INTEGER, last_ms INTEGER,
        stations TEXT NOT NULL, messages INTEGER NOT NULL, body BLOB NOT NULL, sum INTEGER);
    CREATE TABLE progress (
        station TEXT NOT NULL, boot INTEGER NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER, sum INTEGER,
        PRIMARY KEY (station, boot)) WITHOUT ROWID;
    -- What is heard of a station. watermark_ms is of layout 1.
    CREATE TABLE station (
        station TEXT PRIMARY KEY, heard_ms INTEGER NOT NULL, watermark_ms INTEGER, birth BLOB, birth_ms INTEGER, sum INTEGER) WITHOUT ROWID;
    -- How far a station's messages are gone through, and its windows judged.
    CREATE TABLE analysed (
        station TEXT PRIMARY KEY, watermark_ms INTEGER, interval_s INTEGER NOT NULL, report_s INTEGER NOT NULL,
        reached_ms INTEGER, away INTEGER NOT NULL, sum INTEGER) WITHOUT ROWID;
    -- The detector's state of a station.
    CREATE TABLE state (station TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER) WITHOUT ROWID;
    CREATE TABLE emitted (
        station TEXT NOT NULL, start_ms INTEGER NOT NULL, revision INTEGER NOT NULL, digest INTEGER NOT NULL,
        rejected_range INTEGER NOT NULL, rejected_rate INTEGER NOT NULL, rejected_hampel INTEGER NOT NULL,
        rejected_duplicate INTEGER NOT NULL, rejected_stuck INTEGER NOT NULL, sum INTEGER,
        PRIMARY KEY (station, start_ms)) WITHOUT ROWID;
    -- What open windows need of a station that fell silent, in place of its raw rows.
    CREATE TABLE carried (station TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER) WITHOUT ROWID;
    CREATE TABLE alert (id TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER) WITHOUT ROWID;
    CREATE TABLE history (
        start_ms INTEGER NOT NULL, station TEXT NOT NULL, body BLOB NOT NULL, sum INTEGER,
        PRIMARY KEY (start_ms, station)) WITHOUT ROWID;
    CREATE TABLE spool (id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, at_ms INTEGER NOT NULL, body BLOB NOT NULL, sum INTEGER);
    CREATE INDEX spool_lane ON spool (lane, id);
    -- How far the cloud has a lane, and the row up to which a batch is under way: it is sent again as it was.
    CREATE TABLE lane (lane INTEGER PRIMARY KEY, acknowledged INTEGER NOT NULL, sending INTEGER);
    -- What could not be read or was refused for good, with the reason.
    CREATE TABLE quarantine (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, source TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// From layout 1 to 2.
const UPGRADE: &str = "
    ALTER TABLE meta ADD COLUMN sum INTEGER;
    ALTER TABLE raw ADD COLUMN sum INTEGER;
    ALTER TABLE progress ADD COLUMN at_ms INTEGER;
    ALTER TABLE progress ADD COLUMN sum INTEGER;
    ALTER TABLE station ADD COLUMN sum INTEGER;
    ALTER TABLE emitted ADD COLUMN rejected_stuck INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE emitted ADD COLUMN sum INTEGER;
    ALTER TABLE alert ADD COLUMN sum INTEGER;
    ALTER TABLE history ADD COLUMN sum INTEGER;
    ALTER TABLE spool ADD COLUMN sum INTEGER;
    CREATE TABLE analysed (
        station TEXT PRIMARY KEY, watermark_ms INTEGER, interval_s INTEGER NOT NULL, report_s INTEGER NOT NULL,
        reached_ms INTEGER, away INTEGER NOT NULL, sum INTEGER) WITHOUT ROWID;
    INSERT INTO analysed SELECT station, watermark_ms, 300, 900, NULL, 1, NULL FROM station;
    CREATE TABLE state (station TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER) WITHOUT ROWID;
    CREATE TABLE carried (station TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER) WITHOUT ROWID;
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
    -- What decisions on a field's irrigation need again after a restart.
    CREATE TABLE IF NOT EXISTS field_state (field TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER) WITHOUT ROWID;
";

/// Made where it is missing, too.
const BELIEF: &str = "
    -- How far a station's clock was believed before the oldest raw row that its windows need.
    CREATE TABLE IF NOT EXISTS belief (station TEXT PRIMARY KEY, body BLOB NOT NULL, sum INTEGER) WITHOUT ROWID;
";

/// And this.
const UPLINK: &str = "
    -- store: the random number by which the cloud tells this store's sequences from another's. The rest is the back-fill's.
    CREATE TABLE IF NOT EXISTS uplink (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
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
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }

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
    /// How far some stations are stored now, where the table is behind.
    pub progress: Option<Due>,
    /// When each station was heard.
    pub stations: HashMap<StationId, Timestamp>,
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
    /// Its last birth.
    pub birth: Option<Vec<u8>>,
}

/// How far a station's messages are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Analysed {
    /// Its newest reading.
    pub watermark: Option<Timestamp>,
    /// What it has said about its rhythm.
    pub rhythm: Rhythm,
    /// How far its windows are closed, for the [barrier](crate::detect::barrier).
    pub reached: Option<Reached>,
}

/// What waits for the cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records.
    pub records: u64,
    /// When the oldest was made.
    pub oldest: Option<Timestamp>,
    /// Windows, alerts and decisions that were dropped unsent since the store was made, because too much waited.
    pub dropped: u64,
}

/// The store, open for reading and writing.
pub struct Store {
    connection: Connection,
    /// Bytes of all raw rows, once they were added up.
    raw_bytes: Option<u64>,
    /// When each station was heard, as far as it was kept here.
    heard: HashMap<StationId, Timestamp>,
    /// A commit's messages before they are compressed; its room is used again.
    encoded: Vec<u8>,
    /// Its tables are large: they are used again, too.
    compressor: zstd::bulk::Compressor<'static>,
    /// What was found damaged and not yet set aside.
    damages: Vec<rows::Damage>,
    /// Where it is marked how far the store is acknowledged, of the connection that does so.
    mark: Option<mark::Mark>,
    /// Held by the connection that writes, of those that were opened [beside](Self::beside) each other. SQLite would make
    /// the others ask again and again, later and later.
    turn: Turn,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.connection.path()).finish_non_exhaustive()
    }
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
        // To set it again would be a write, and a full disk has no room for one: a store must open without.
        if connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? != INCREMENTAL {
            connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(64);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found == 0 {
            transaction.execute_batch(TABLES)?;
            for (key, value) in [("gone_through", 0), ("gone_through_messages", i64::from(u32::MAX))] {
                put_meta(&transaction, key, value)?;
            }
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        } else if found == 1 {
            transaction.execute_batch(UPGRADE)?;
            transaction.pragma_update(None, "user_version", LAYOUT)?;
        } else if found != LAYOUT {
            return Err(StoreError::Layout { path: path.display().to_string(), found });
        }
        transaction.execute_batch(SOURCES)?;
        transaction.execute_batch(BELIEF)?;
        transaction.execute_batch(UPLINK)?;
        for lane in Lane::ALL {
            transaction
                .execute("INSERT OR IGNORE INTO lane (lane, acknowledged) VALUES (?1, 0)", params![lane as i64])?;
        }
        let known: bool =
            transaction
                .query_row("SELECT EXISTS (SELECT 1 FROM meta WHERE key = ?1)", [PROGRESS_FROM], |r| r.get(0))?;
        if !known {
            // The table was always complete where this was not noted.
            let next = "SELECT coalesce(max(id), 0) + 1 FROM raw";
            let next = transaction.query_row(next, [], |row| row.get(0))?;
            put_meta(&transaction, PROGRESS_FROM, next)?;
        }
        let id = rand::rng().random_range(1..i64::MAX);
        transaction.execute("INSERT OR IGNORE INTO uplink VALUES ('store', ?1)", [id])?;
        transaction.commit()?;
        let compressor = zstd::bulk::Compressor::new(LEVEL)
            .map_err(|e| StoreError::Damaged { what: "zstd".to_owned(), detail: e.to_string() })?;
        Ok(Self {
            connection,
            raw_bytes: None,
            heard: HashMap::new(),
            encoded: Vec::new(),
            compressor,
            damages: Vec::new(),
            mark: None,
            turn: Turn::default(),
        })
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
        self.encoded.clear();
        for message in &group.messages {
            prost::encoding::message::encode(1, message, &mut self.encoded);
        }
        let body = self
            .compressor
            .compress(&self.encoded)
            .map_err(|e| StoreError::Damaged { what: "a commit".to_owned(), detail: e.to_string() })?;
        if self.encoded.capacity() > ENCODED_KEPT {
            self.encoded = Vec::new();
        }
        let mut names: Vec<&str> = group.messages.iter().map(|m| m.station.as_str()).collect();
        names.dedup();
        names.sort_unstable();
        names.dedup();
        let row = RawRow {
            id: id.cast_signed(),
            at: now.as_millis(),
            first: group.span.map(|s| s.0.as_millis()),
            last: group.span.map(|s| s.1.as_millis()),
            stations: names.join(" "),
            count: group.messages.len() as i64,
            body,
            sum: None,
        };
        let _turn = self.turn.take();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !group.messages.is_empty() {
            transaction
                .prepare_cached(&format!("INSERT INTO raw ({RAW}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"))?
                .execute(params![
                    row.id,
                    row.at,
                    row.first,
                    row.last,
                    row.stations,
                    row.count,
                    row.body,
                    row.expected().value()
                ])?;
        }
        if let Some(due) = &group.progress {
            keep_progress(&transaction, due, now)?;
        }
        let heard_before = |heard: Timestamp| move |kept: &&Timestamp| heard.millis_since(**kept) < HEARD_MS;
        let mut heard: Vec<(&StationId, Timestamp)> = Vec::new();
        for (station, at) in &group.stations {
            if self.heard.get(station).filter(heard_before(*at)).is_none() {
                heard.push((station, *at));
            }
        }
        for (station, heard) in &heard {
            let sum = Sum::new().bytes(station.as_str()).bytes([]).value();
            transaction
                .prepare_cached(
                    "INSERT INTO station (station, heard_ms, sum) VALUES (?1, ?2, ?3)
                        ON CONFLICT DO UPDATE SET heard_ms = excluded.heard_ms",
                )?
                .execute(params![station.as_str(), heard.as_millis(), sum])?;
        }
        for (station, (at, payload)) in &group.births {
            let sum = Sum::new().bytes(station.as_str()).bytes(payload).value();
            transaction
                .prepare_cached("UPDATE station SET birth = ?2, birth_ms = ?3, sum = ?4 WHERE station = ?1")?
                .execute(params![station.as_str(), payload, at.as_millis(), sum])?;
        }
        sources::keep(&transaction, group)?;
        let aside = group.quarantined.iter().map(|(source, reason, body)| (&**source, &**reason, &**body));
        quarantine_all(&transaction, now, aside)?;
        count(&transaction, &group.counters)?;
        spool(&transaction, &group.records, now)?;
        transaction.commit()?;
        self.heard.extend(heard.into_iter().map(|(station, at)| (station.clone(), at)));
        if !group.messages.is_empty() {
            if let Some(bytes) = &mut self.raw_bytes {
                *bytes += row.body.len() as u64 + RAW_ROW;
            }
            if let Some(mark) = &self.mark {
                mark.note(id, now);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Keeps the number of the last command that was given to a station.
    ///
    /// # Errors
    /// When SQLite cannot write.
    pub fn keep_last_command(&mut self, number: u64) -> Result<(), StoreError> {
        let _turn = self.turn.take();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        put_meta(&transaction, LAST_COMMAND, number.cast_signed())?;
        Ok(transaction.commit()?)
    }
}

/// Writes rows of the table of progress, and how far it is complete.
fn keep_progress(transaction: &Transaction<'_>, due: &Due, now: Timestamp) -> Result<(), StoreError> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO progress VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut forget = transaction.prepare_cached(
        "DELETE FROM progress WHERE station = ?1 AND boot NOT IN
            (SELECT boot FROM progress WHERE station = ?1 ORDER BY at_ms DESC, boot DESC LIMIT ?2)",
    )?;
    for Row { station, boot, sequence } in &due.rows {
        let (station, sequence) = (station.as_str(), sequence.cast_signed());
        let sum = Sum::new().bytes(station).int(*boot).int(sequence).value();
        put.execute(params![station, boot, sequence, now.as_millis(), sum])?;
        forget.execute(params![station, BOOTS_KEPT as i64])?;
    }
    put_meta(transaction, PROGRESS_FROM, due.from.cast_signed())
}

fn put_meta(transaction: &Transaction<'_>, key: &str, value: i64) -> Result<(), StoreError> {
    let sum = Sum::new().bytes(key).int(value).value();
    transaction.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2, ?3)")?.execute(params![key, value, sum])?;
    Ok(())
}

/// How far the commits of the raw store are gone through: all before `commit`, and so many messages of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// The raw store's row.
    pub commit: u64,
    /// How many of its messages; [`u32::MAX`] for all.
    pub messages: u32,
}

impl Cursor {
    /// All of a commit is gone through.
    #[must_use]
    pub fn after(commit: u64) -> Self {
        Self { commit, messages: u32::MAX }
    }
}

/// What the analysis remembers of closed windows, in one transaction.
#[derive(Debug, Default)]
pub struct Emission {
    /// The windows.
    pub windows: Vec<crate::window::Closed>,
    /// The alerts that changed.
    pub alerts: Vec<Alert>,
    /// What was decided.
    pub decisions: Vec<Decision>,
    /// What decisions need again, of the fields where it is another.
    pub fields: Vec<(FieldId, Vec<u8>)>,
    /// How far the commits are gone through of which this comes.
    pub cursor: Cursor,
    /// What was counted.
    pub counters: BTreeMap<String, u64>,
    /// The oldest raw row that is needed after a restart.
    pub replay_from: Option<u64>,
    /// The boundary up to which windows are judged.
    pub judged: Timestamp,
    /// By station that has moved on: how far all that was due is in `windows` or was kept before.
    pub analysed: BTreeMap<StationId, Analysed>,
    /// Of the same stations: how far their clocks are believed.
    pub beliefs: Vec<(StationId, Vec<u8>)>,
    /// The detector's state, of stations where it is another one.
    pub states: Vec<(StationId, Vec<u8>)>,
    /// What open windows need of stations that fell silent, in place of their raw rows.
    pub carried: Vec<(StationId, Vec<u8>)>,
    /// What is kept aside: source, reason, and what it is.
    pub quarantined: Vec<(String, String, Vec<u8>)>,
    /// By station: windows before this cannot change any more, and need no memory.
    pub final_before: BTreeMap<StationId, Timestamp>,
    /// By station: windows before this are no history for the detector any more.
    pub history_before: BTreeMap<StationId, Timestamp>,
}

impl Emission {
    /// How many windows, alerts and decisions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len() + self.alerts.len() + self.decisions.len()
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
            let (station, start) = (window.station.as_str(), window.start.as_millis());
            transaction
                .prepare_cached("INSERT OR REPLACE INTO emitted VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
                .execute(params![
                    station,
                    start,
                    emitted.revision,
                    emitted.digest,
                    emitted.rejected.range,
                    emitted.rejected.rate,
                    emitted.rejected.hampel,
                    emitted.rejected.duplicate,
                    emitted.rejected.stuck,
                    emitted_sum(station, start, emitted).value(),
                ])?;
            let record = Record::Window(window.clone());
            let body = record.encode();
            let sum = Sum::new().int(start).bytes(station).bytes(&body).value();
            transaction
                .prepare_cached("INSERT OR REPLACE INTO history VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![start, station, body, sum])?;
            spool_one(&transaction, &record, &body, now)?;
        }
        for alert in &emission.alerts {
            let record = Record::Alert(alert.clone());
            let body = record.encode();
            if alert.closed.is_some() {
                transaction.prepare_cached("DELETE FROM alert WHERE id = ?1")?.execute([&alert.id])?;
            } else {
                let sum = Sum::new().bytes(&alert.id).bytes(&body).value();
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO alert VALUES (?1, ?2, ?3)")?
                    .execute(params![alert.id, body, sum])?;
            }
            spool_one(&transaction, &record, &body, now)?;
        }
        for decision in &emission.decisions {
            let record = Record::Decision(decision.clone());
            spool_one(&transaction, &record, &record.encode(), now)?;
        }
        for (field, body) in &emission.fields {
            let sum = Sum::new().bytes(field.as_str()).bytes(body).value();
            transaction.prepare_cached("INSERT OR REPLACE INTO field_state VALUES (?1, ?2, ?3)")?.execute(params![
                field.as_str(),
                body,
                sum
            ])?;
        }
        for (table, rows) in
            [("state", &emission.states), ("carried", &emission.carried), ("belief", &emission.beliefs)]
        {
            for (station, body) in rows {
                let sum = Sum::new().bytes(station.as_str()).bytes(body).value();
                transaction
                    .prepare_cached(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2, ?3)"))?
                    .execute(params![station.as_str(), body, sum])?;
            }
        }
        let aside = emission.quarantined.iter().map(|(source, reason, body)| (&**source, &**reason, &**body));
        quarantine_all(&transaction, now, aside)?;
        count(&transaction, &emission.counters)?;
        let Cursor { commit, messages } = emission.cursor;
        let meta = [
            ("replay_from", emission.replay_from.unwrap_or(commit).cast_signed()),
            ("gone_through", commit.cast_signed()),
            ("gone_through_messages", i64::from(messages)),
            ("judged", emission.judged.as_millis()),
        ];
        for (key, value) in meta {
            put_meta(&transaction, key, value)?;
        }
        for (station, analysed) in &emission.analysed {
            let reached = analysed.reached;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO analysed VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    station.as_str(),
                    analysed.watermark.map(Timestamp::as_millis),
                    analysed.rhythm.interval_s,
                    analysed.rhythm.report_s,
                    reached.map(|r| r.until.as_millis()),
                    reached.is_some_and(|r| r.away),
                    analysed.sum(station.as_str()).value()
                ])?;
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

/// Keeps one thing aside: whose it is, why, and what it is.
pub(crate) fn quarantine(
    transaction: &Transaction<'_>,
    now: Timestamp,
    source: &str,
    reason: &str,
    body: &[u8],
) -> Result<(), StoreError> {
    quarantine_all(transaction, now, [(source, reason, body)].into_iter())
}

/// Keeps things aside, of too many the last, and lets go of the oldest for them.
fn quarantine_all<'a>(
    transaction: &Transaction<'_>,
    now: Timestamp,
    all: impl DoubleEndedIterator<Item = (&'a str, &'a str, &'a [u8])>,
) -> Result<(), StoreError> {
    let mut held = 0;
    let beginning = |body: &'a [u8]| &body[..body.len().min(QUARANTINE_BYTES / 2)];
    let fits =
        all.rev().map(|(source, reason, body)| (source, reason, beginning(body))).take_while(|(_, reason, body)| {
            held += reason.len() + body.len();
            held <= QUARANTINE_BYTES
        });
    let kept: Vec<_> = fits.take(QUARANTINE_MOST as usize).collect();
    if kept.is_empty() {
        return Ok(());
    }
    let mut insert =
        transaction.prepare_cached("INSERT INTO quarantine (at_ms, source, reason, body) VALUES (?1, ?2, ?3, ?4)")?;
    for (source, reason, body) in kept.into_iter().rev() {
        insert.execute(params![now.as_millis(), source, reason, body])?;
    }
    transaction
        .prepare_cached("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?1")?
        .execute([QUARANTINE_MOST])?;
    // SQLite tells the length of a text or a blob without reading it.
    let mut newest_first = transaction
        .prepare_cached("SELECT id, octet_length(body) + octet_length(reason) FROM quarantine ORDER BY id DESC")?;
    let mut rows = newest_first.query([])?;
    let mut held = 0;
    while let Some(row) = rows.next()? {
        held += row.get::<_, i64>(1)?;
        if held > QUARANTINE_BYTES as i64 {
            let id: i64 = row.get(0)?;
            drop(rows);
            transaction.prepare_cached("DELETE FROM quarantine WHERE id <= ?1")?.execute([id])?;
            break;
        }
    }
    Ok(())
}

fn spool(transaction: &Transaction<'_>, records: &[Record], now: Timestamp) -> Result<(), StoreError> {
    records.iter().try_for_each(|record| spool_one(transaction, record, &record.encode(), now))
}

fn spool_one(transaction: &Transaction<'_>, record: &Record, body: &[u8], now: Timestamp) -> Result<(), StoreError> {
    let (lane, at) = (record.lane() as i64, now.as_millis());
    transaction
        .prepare_cached("INSERT INTO spool (lane, at_ms, body, sum) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![lane, at, body, spool_sum(lane, at, body)])?;
    Ok(())
}

/// The check sum of a row of the spool.
pub(crate) fn spool_sum(lane: i64, at_ms: i64, body: &[u8]) -> i64 {
    Sum::new().int(lane).int(at_ms).bytes(body).value()
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
    fn a_good_commit_is_no_damage_whatever_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let payload = vec![0; MAX_UNPROVEN as usize + 1];
        let message = RawMessage { payload: payload.into(), ..RawMessage::default() };
        let group = Group { messages: vec![message], ..Group::default() };
        store.commit(&group, 1, Timestamp::from_secs(0)).unwrap();
        assert_eq!(store.scrub(0, 10).unwrap(), Some(2));
        assert!(store.set_aside(Timestamp::from_secs(0)).unwrap().is_empty());
        let (_, messages) = store.commit_after(Cursor::after(0)).unwrap().unwrap();
        assert_eq!(messages[0].payload.len(), MAX_UNPROVEN as usize + 1);
        // Without a check sum its size is not believed.
        store.connection.execute("UPDATE raw SET sum = NULL", []).unwrap();
        assert!(store.commit_after(Cursor::after(0)).unwrap().is_none());
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
        let free: i64 = store.connection.pragma_query_value(None, "freelist_count", |row| row.get(0)).unwrap();
        assert_eq!(free, 0, "what went is given back to the file system");
    }

    #[test]
    fn what_is_kept_aside_is_bounded_by_rows_and_by_bytes_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut aside = |id: u64, count: usize, bytes: usize| {
            let quarantined = (0..count).map(|_| ("n1".to_owned(), "?".to_owned(), vec![7; bytes])).collect();
            store.commit(&Group { quarantined, ..Group::default() }, id, Timestamp::from_secs(0)).unwrap();
            let held = "SELECT min(id), max(id), sum(length(body)) FROM quarantine";
            store.connection.query_row(held, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap()
        };
        assert_eq!(aside(1, 100, 200_000), (1, 83, 83 * 200_000), "83 of them are the last within 16 MiB");
        assert_eq!(aside(2, 1, 200_000), (2, 84, 83 * 200_000));
        assert_eq!(aside(3, 2_100, 1), (85, 2_084, 2_000));
        assert_eq!(aside(4, 1, 20 << 20), (86, 2_085, 1_999 + (8 << 20)), "of a large one the beginning");
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

    #[test]
    fn on_a_full_disk_old_readings_that_nothing_needs_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let now = Timestamp::from_secs(1_000_000);
        store.connection.pragma_update(None, "max_page_count", 120).unwrap();
        let full = (1..).find(|id| match store.commit(&group(10_000), *id, now) {
            Ok(()) => false,
            Err(error) => {
                assert!(error.is_full(), "{error}");
                true
            }
        });
        let full = full.unwrap();
        assert_eq!(store.make_room(50_000, 1).unwrap(), 0, "the windows need all of them");
        assert!(store.commit(&group(10_000), full, now).unwrap_err().is_full());
        let gone = store.make_room(50_000, full).unwrap();
        assert!((4..8).contains(&gone), "{gone} commits");
        for id in full..full + 3 {
            store.commit(&group(10_000), id, now).unwrap();
        }
        assert_eq!(rows(&store).first(), Some(&(gone.cast_signed() + 1)), "the oldest went");
    }
}
