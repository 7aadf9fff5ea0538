//! Reading the tables back. A row whose content is not what was written is left out and remembered as damaged, and
//! [`Store::set_aside`] reports what was lost with it.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::{Alert, Batch, FieldId, Record, StationId, Timestamp, Window};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, params, params_from_iter};
use zstd::bulk::Decompressor;
use zstd::zstd_safe::get_frame_content_size;

use super::sum::Sum;
use super::{
    Analysed, Commit, Cursor, Known, LAST_COMMAND, MAX_UNPROVEN, PROGRESS_FROM, RawMessage, Store, StoreError, count,
    damaged, kind_code, quarantine,
};
use crate::decode::json;
use crate::deduplicate::{Progress, Row};
use crate::detect::barrier::Reached;
use crate::door::DeliveryKind;
use crate::window::{Emitted, RejectCounts, Rhythm};

/// A row that cannot be read any more.
#[derive(Debug, Clone)]
pub(super) struct Damage {
    /// What is done when it is reported: it is deleted.
    pub then: &'static str,
    pub key: Vec<Value>,
    /// What is lost with it, in words.
    pub what: String,
    /// What of it is kept aside.
    pub body: Vec<u8>,
    /// How many commits; 0 for a row of another table.
    pub commits: u64,
}

fn key(station: &str) -> Value {
    Value::Text(station.to_owned())
}

impl Store {
    fn damage(&mut self, delete: &'static str, key: Vec<Value>, what: String, body: Vec<u8>) {
        self.found(Damage { then: delete, key, what, body, commits: 0 });
    }

    pub(super) fn found(&mut self, damage: Damage) {
        tracing::error!(damage.what, "the store is damaged");
        self.damages.push(damage);
    }

    /// Takes what was found damaged since the last call out of the tables, keeps it aside with what it cost, and counts it.
    ///
    /// On a full disk it is done at the next call.
    ///
    /// # Errors
    /// When SQLite refuses, and it does not pass.
    pub fn set_aside(&mut self, now: Timestamp) -> Result<BTreeMap<String, u64>, StoreError> {
        if self.damages.is_empty() {
            return Ok(BTreeMap::new());
        }
        match self.move_aside(now) {
            Err(error) if error.passes() => Ok(BTreeMap::new()),
            other => other,
        }
    }

    fn move_aside(&mut self, now: Timestamp) -> Result<BTreeMap<String, u64>, StoreError> {
        let _turn = self.turn.clone();
        let _turn = _turn.take();
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut counters = BTreeMap::new();
        for damage in &self.damages {
            quarantine(&transaction, now, "store", &damage.what, &damage.body)?;
            transaction.execute(damage.then, params_from_iter(&damage.key))?;
            let name = if damage.commits > 0 { "refused.damaged_commit" } else { "refused.damaged_row" };
            *counters.entry(name.to_owned()).or_default() += damage.commits.max(1);
        }
        count(&transaction, &counters)?;
        transaction.commit()?;
        self.damages.clear();
        self.raw_bytes = None;
        Ok(counters)
    }

    /// The stations that were ever heard.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn stations(&mut self) -> Result<BTreeMap<StationId, Known>, StoreError> {
        let mut all = BTreeMap::new();
        let mut bad = Vec::new();
        {
            let mut statement = self.connection.prepare("SELECT station, heard_ms, birth, sum FROM station")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, heard): (String, i64) = (row.get(0)?, row.get(1)?);
                let birth: Option<Vec<u8>> = row.get(2)?;
                let good = Sum::new().bytes(&name).bytes(birth.as_deref().unwrap_or_default()).is(row.get(3)?);
                match name.parse::<StationId>() {
                    Ok(station) if good => {
                        all.insert(station, Known { heard: Timestamp::from_millis(heard), birth });
                    }
                    _ => bad.push((name, birth.unwrap_or_default())),
                }
            }
        }
        for (name, birth) in bad {
            let what = format!("station {name:?}: what it said of itself is lost until it connects again");
            self.damage("DELETE FROM station WHERE station = ?1", vec![key(&name)], what, birth);
        }
        Ok(all)
    }

    /// How far each boot of each station is stored.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn progress(&mut self) -> Result<Progress, StoreError> {
        let table = self.progress_table()?;
        let from = self.meta(PROGRESS_FROM)?.unwrap_or(0).cast_unsigned();
        let mut beside = Vec::new();
        self.learn_from(from, |row, commit| beside.push((row, commit)))?;
        Ok(Progress::new(table, beside))
    }

    /// Gives each batch in the raw store from commit `from` on to `learn`, with the commit.
    pub(super) fn learn_from(&mut self, mut from: u64, mut learn: impl FnMut(Row, u64)) -> Result<(), StoreError> {
        while let Some((commit, messages)) = self.commit_from(from)? {
            let data = kind_code(DeliveryKind::Data);
            for message in messages.iter().filter(|m| m.kind == data && !json::is_plain(&m.payload)) {
                if let (Ok(batch), Ok(station)) = (Batch::decode(&message.payload), message.station.parse()) {
                    learn(Row { station, boot: batch.boot, sequence: batch.sequence }, commit);
                }
            }
            from = commit + 1;
        }
        Ok(())
    }

    /// The rows of the table of progress; a boot that was heard of later stands later.
    pub(super) fn progress_table(&mut self) -> Result<Vec<Row>, StoreError> {
        let mut all = Vec::new();
        let mut bad = Vec::new();
        {
            let mut statement =
                self.connection.prepare("SELECT station, boot, sequence, sum FROM progress ORDER BY at_ms")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, boot, sequence): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let good = Sum::new().bytes(&name).int(boot).int(sequence).is(row.get(3)?);
                match (name.parse::<StationId>(), u32::try_from(boot)) {
                    (Ok(station), Ok(boot)) if good => {
                        all.push(Row { station, boot, sequence: sequence.cast_unsigned() });
                    }
                    _ => bad.push((name, boot)),
                }
            }
        }
        for (name, boot) in bad {
            let what = format!("station {name:?}, boot {boot}: how far it is stored; batches may be stored twice");
            let row = vec![key(&name), Value::Integer(boot)];
            self.damage("DELETE FROM progress WHERE station = ?1 AND boot = ?2", row, what, Vec::new());
        }
        Ok(all)
    }

    /// How far each station is gone through.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn analysed(&mut self) -> Result<BTreeMap<StationId, Analysed>, StoreError> {
        let mut all = BTreeMap::new();
        let mut bad = Vec::new();
        {
            let mut statement = self
                .connection
                .prepare("SELECT station, watermark_ms, interval_s, report_s, reached_ms, away, sum FROM analysed")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let name: String = row.get(0)?;
                let (watermark, reached): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(4)?);
                let analysed = Analysed {
                    watermark: watermark.map(Timestamp::from_millis),
                    rhythm: Rhythm { interval_s: row.get(2)?, report_s: row.get(3)? },
                    reached: match reached {
                        Some(until) => Some(Reached { until: Timestamp::from_millis(until), away: row.get(5)? }),
                        None => None,
                    },
                };
                let good = analysed.sum(&name).is(row.get(6)?);
                match name.parse::<StationId>() {
                    Ok(station) if good => {
                        all.insert(station, analysed);
                    }
                    _ => bad.push(name),
                }
            }
        }
        for name in bad {
            let what = format!("station {name:?}: how far its windows were made; some may be made again");
            self.damage("DELETE FROM analysed WHERE station = ?1", vec![key(&name)], what, Vec::new());
        }
        Ok(all)
    }

    /// How far each station's clock was believed.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn beliefs(&mut self) -> Result<BTreeMap<StationId, Vec<u8>>, StoreError> {
        let cost = "readings that a wrong clock has timed may be judged otherwise";
        self.bodies("SELECT station, body, sum FROM belief", "DELETE FROM belief WHERE station = ?1", "station", cost)
    }

    /// The detector's state of each station.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn states(&mut self) -> Result<BTreeMap<StationId, Vec<u8>>, StoreError> {
        let cost = "what was nearly an alert may be found later, or not";
        self.bodies("SELECT station, body, sum FROM state", "DELETE FROM state WHERE station = ?1", "station", cost)
    }

    /// What is carried of silent stations.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn carried(&mut self) -> Result<BTreeMap<StationId, Vec<u8>>, StoreError> {
        let cost = "readings of its last hours for windows that may be amended";
        self.bodies("SELECT station, body, sum FROM carried", "DELETE FROM carried WHERE station = ?1", "station", cost)
    }

    /// What the decider told of fields.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn field_states(&mut self) -> Result<BTreeMap<FieldId, Vec<u8>>, StoreError> {
        let cost = "its last irrigation is forgotten, and another may be decided at once";
        self.bodies(
            "SELECT field, body, sum FROM field_state",
            "DELETE FROM field_state WHERE field = ?1",
            "field",
            cost,
        )
    }

    fn bodies<K: std::str::FromStr + Ord>(
        &mut self,
        select: &str,
        delete: &'static str,
        what: &str,
        cost: &str,
    ) -> Result<BTreeMap<K, Vec<u8>>, StoreError> {
        let mut all = BTreeMap::new();
        let mut bad = Vec::new();
        {
            let mut statement = self.connection.prepare(select)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, body): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let good = Sum::new().bytes(&name).bytes(&body).is(row.get(2)?);
                match name.parse::<K>() {
                    Ok(id) if good => {
                        all.insert(id, body);
                    }
                    _ => bad.push((name, body)),
                }
            }
        }
        for (name, body) in bad {
            self.damage(delete, vec![key(&name)], format!("{what} {name:?}: {cost}"), body);
        }
        Ok(all)
    }

    /// What was emitted of the windows that can still be amended.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn emitted(&mut self) -> Result<BTreeMap<StationId, BTreeMap<Timestamp, Emitted>>, StoreError> {
        let mut all: BTreeMap<StationId, BTreeMap<Timestamp, Emitted>> = BTreeMap::new();
        let mut bad = Vec::new();
        {
            let mut statement = self.connection.prepare(
                "SELECT station, start_ms, revision, digest, rejected_range, rejected_rate, rejected_hampel,
                    rejected_duplicate, rejected_stuck, sum FROM emitted",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, start): (String, i64) = (row.get(0)?, row.get(1)?);
                let rejected = RejectCounts {
                    range: row.get(4)?,
                    rate: row.get(5)?,
                    hampel: row.get(6)?,
                    duplicate: row.get(7)?,
                    stuck: row.get(8)?,
                };
                let emitted = Emitted { revision: row.get(2)?, digest: row.get(3)?, rejected };
                let good = emitted_sum(&name, start, &emitted).is(row.get(9)?);
                match name.parse::<StationId>() {
                    Ok(station) if good => {
                        all.entry(station).or_default().insert(Timestamp::from_millis(start), emitted);
                    }
                    _ => bad.push((name, start)),
                }
            }
        }
        for (name, start) in bad {
            let at = Timestamp::from_millis(start);
            let what = format!("station {name:?}: that its window of {at} was emitted; an amendment may be missed");
            let row = vec![key(&name), Value::Integer(start)];
            self.damage("DELETE FROM emitted WHERE station = ?1 AND start_ms = ?2", row, what, Vec::new());
        }
        Ok(all)
    }

    /// The alerts that are open.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn open_alerts(&mut self) -> Result<Vec<Alert>, StoreError> {
        let mut all = Vec::new();
        let mut bad = Vec::new();
        {
            let mut statement = self.connection.prepare("SELECT id, body, sum FROM alert ORDER BY id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (id, body): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let good = Sum::new().bytes(&id).bytes(&body).is(row.get(2)?);
                match Record::decode(&body) {
                    Ok(Record::Alert(alert)) if good => all.push(alert),
                    _ => bad.push((id, body)),
                }
            }
        }
        for (id, body) in bad {
            let what = format!("alert {id:?}: it is found again while its trouble lasts");
            self.damage("DELETE FROM alert WHERE id = ?1", vec![key(&id)], what, body);
        }
        Ok(all)
    }

    /// The windows of the last time, oldest first: the detector's history, and what it has not judged yet.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn history(&mut self) -> Result<Vec<Window>, StoreError> {
        let mut all = Vec::new();
        let mut bad = Vec::new();
        {
            let mut statement = self
                .connection
                .prepare("SELECT start_ms, station, body, sum FROM history ORDER BY start_ms, station")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (start, name, body): (i64, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let good = Sum::new().int(start).bytes(&name).bytes(&body).is(row.get(3)?);
                match Record::decode(&body) {
                    Ok(Record::Window(window)) if good => all.push(window),
                    _ => bad.push((start, name, body)),
                }
            }
        }
        for (start, name, body) in bad {
            let at = Timestamp::from_millis(start);
            let what = format!("station {name:?}: its window of {at} for detection");
            let row = vec![Value::Integer(start), key(&name)];
            self.damage("DELETE FROM history WHERE start_ms = ?1 AND station = ?2", row, what, body);
        }
        Ok(all)
    }

    /// How far the commits are gone through; none in a store that was made before this was noted.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn cursor(&self) -> Result<Option<Cursor>, StoreError> {
        let (commit, messages) = (self.meta("gone_through")?, self.meta("gone_through_messages")?);
        Ok(commit.zip(messages).map(|(commit, messages)| Cursor {
            commit: commit.cast_unsigned(),
            messages: u32::try_from(messages).unwrap_or(u32::MAX),
        }))
    }

    /// The boundary up to which windows are judged.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn judged(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.meta("judged")?.map(Timestamp::from_millis))
    }

    /// The newest commit's number: the highest that any row has, or that was gone through.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn newest(&self) -> Result<u64, StoreError> {
        let newest: i64 = self.connection.query_row("SELECT coalesce(max(id), 0) FROM raw", [], |row| row.get(0))?;
        Ok(newest.max(self.meta("gone_through")?.unwrap_or(0)).cast_unsigned())
    }

    /// When the newest commit came, in farm time; none when there is none.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn newest_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let newest = "SELECT at_ms FROM raw ORDER BY id DESC LIMIT 1";
        Ok(self.connection.query_row(newest, [], |row| row.get(0)).optional()?.map(Timestamp::from_millis))
    }

    /// The number of the last command that was given to a station, as far as it was kept.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn last_command(&self) -> Result<u64, StoreError> {
        Ok(self.meta(LAST_COMMAND)?.unwrap_or(0).cast_unsigned())
    }

    pub(super) fn meta(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let row = self.connection.query_row("SELECT value, sum FROM meta WHERE key = ?1", [name], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
        });
        let row = row.optional()?;
        let good = row.filter(|(value, sum)| Sum::new().bytes(name).int(*value).is(*sum));
        if row.is_some() && good.is_none() {
            tracing::error!(name, "the store is damaged: a number is lost, and found again as well as it can be");
        }
        Ok(good.map(|(value, _)| value))
    }

    /// Gives the raw messages that are needed after a restart to `take`, with their commit and their place in it.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn replay(&mut self, mut take: impl FnMut(u64, u32, RawMessage)) -> Result<(), StoreError> {
        let mut from = self.meta("replay_from")?.unwrap_or(0).cast_unsigned();
        while let Some((commit, messages)) = self.commit_from(from)? {
            for (index, message) in (0..).zip(messages) {
                take(commit, index, message);
            }
            from = commit + 1;
        }
        Ok(())
    }

    /// The first commit that is not wholly gone through, with its messages; none when there is none.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn commit_after(&mut self, cursor: Cursor) -> Result<Option<(u64, Vec<RawMessage>)>, StoreError> {
        self.commit_from(cursor.commit + u64::from(cursor.messages == u32::MAX))
    }

    /// The first commit from a number on that can be read.
    fn commit_from(&mut self, mut from: u64) -> Result<Option<(u64, Vec<RawMessage>)>, StoreError> {
        loop {
            let row = self
                .connection
                .prepare_cached(&format!("SELECT {RAW} FROM raw WHERE id >= ?1 ORDER BY id LIMIT 1"))?
                .query_row([from.cast_signed()], RawRow::read)
                .optional()?;
            let Some(row) = row else { return Ok(None) };
            let id = row.id.cast_unsigned();
            match row.messages() {
                Ok(messages) => return Ok(Some((id, messages))),
                Err(error) => {
                    self.raw_damage(row, &error.to_string());
                    from = id + 1;
                }
            }
        }
    }

    /// Looks at `most` commits from `from` on for damage; gives where to go on, none when it came to the end.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn scrub(&mut self, from: u64, most: u32) -> Result<Option<u64>, StoreError> {
        let rows: Vec<RawRow> = self
            .connection
            .prepare_cached(&format!("SELECT {RAW} FROM raw WHERE id >= ?1 ORDER BY id LIMIT ?2"))?
            .query_map(params![from.cast_signed(), most], RawRow::read)?
            .collect::<Result<_, _>>()?;
        let next = rows.last().map(|row| row.id.cast_unsigned() + 1);
        for row in rows {
            if let Err(error) = row.messages() {
                self.raw_damage(row, &error.to_string());
            }
        }
        Ok(next)
    }

    fn raw_damage(&mut self, row: RawRow, error: &str) {
        let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), |ms| Timestamp::from_millis(ms).to_string());
        let what = format!(
            "commit {}: {} messages of {:?} from {} to {}: {error}",
            row.id,
            row.count,
            row.stations,
            time(row.first),
            time(row.last)
        );
        let (then, key) = ("DELETE FROM raw WHERE id = ?1", vec![Value::Integer(row.id)]);
        self.found(Damage { then, key, what, body: row.body, commits: 1 });
    }

    /// All counters.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut statement = self.connection.prepare("SELECT name, value FROM counter")?;
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The columns of a raw row.
pub(super) const RAW: &str = "id, at_ms, first_ms, last_ms, stations, messages, body, sum";

/// A raw row as it is stored.
pub(crate) struct RawRow {
    pub id: i64,
    pub at: i64,
    pub first: Option<i64>,
    pub last: Option<i64>,
    pub stations: String,
    pub count: i64,
    pub body: Vec<u8>,
    pub sum: Option<i64>,
}

impl RawRow {
    pub fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            at: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
            stations: String::from_utf8_lossy(row.get_ref(4)?.as_bytes().unwrap_or_default()).into_owned(),
            count: row.get(5)?,
            body: row.get_ref(6)?.as_bytes().unwrap_or_default().to_vec(),
            sum: row.get(7)?,
        })
    }

    pub fn expected(&self) -> Sum {
        let times = Sum::new().int(self.id).int(self.at).maybe(self.first).maybe(self.last);
        times.bytes(&self.stations).int(self.count).bytes(&self.body)
    }

    pub fn messages(&self) -> Result<Vec<RawMessage>, StoreError> {
        let id = self.id;
        if !self.expected().is(self.sum) {
            return Err(damaged(format!("raw row {id}"), "its check sum does not fit"));
        }
        let size = get_frame_content_size(&self.body).ok().flatten();
        let size = size.ok_or_else(|| damaged(format!("raw row {id}"), "it does not begin with its size"))?;
        let size = if self.sum.is_some() { size } else { size.min(MAX_UNPROVEN) };
        let size = usize::try_from(size).map_err(|e| damaged(format!("raw row {id}"), e))?;
        let mut body = Vec::new();
        // A check sum may fit what nobody wrote.
        body.try_reserve_exact(size).map_err(|e| damaged(format!("raw row {id}"), e))?;
        Decompressor::new()
            .and_then(|mut decompressor| decompressor.decompress_to_buffer(&self.body, &mut body))
            .map_err(|e| damaged(format!("raw row {id}"), e))?;
        let commit = Commit::decode(body.as_slice()).map_err(|e| damaged(format!("raw row {id}"), e))?;
        Ok(commit.messages)
    }
}

impl Analysed {
    pub(super) fn sum(&self, station: &str) -> Sum {
        let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        Sum::new()
            .bytes(station)
            .maybe(ms(self.watermark))
            .int(self.rhythm.interval_s)
            .int(self.rhythm.report_s)
            .maybe(ms(self.reached.map(|r| r.until)))
            .int(self.reached.is_some_and(|r| r.away))
    }
}

pub(super) fn emitted_sum(station: &str, start: i64, emitted: &Emitted) -> Sum {
    let RejectCounts { range, rate, hampel, duplicate, stuck } = emitted.rejected;
    Sum::new()
        .bytes(station)
        .int(start)
        .int(emitted.revision)
        .int(emitted.digest)
        .int(range)
        .int(rate)
        .int(hampel)
        .int(duplicate)
        .int(stuck)
}
