//! What other people's sensors leave in the store: what their decoders must have again, and channels that nobody mapped.

use proto::Timestamp;
use rusqlite::{Transaction, TransactionBehavior, params};

use super::{Group, Store, StoreError};
use crate::decode::source::Unknown;
use crate::ingest::Unmapped;

pub(super) fn keep(transaction: &Transaction<'_>, group: &Group) -> Result<(), StoreError> {
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
    Ok(())
}

impl Store {
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
            // It is proposed again when its next value comes.
            let Ok(station) = row.get::<_, String>(1)?.parse() else { continue };
            let proposal = row.get::<_, Option<String>>(5)?;
            let channel = Unknown {
                source: row.get(0)?,
                station,
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
}
