//! What is known of the nodes' models, on disk: one SQLite file. All of it can be heard and read again; losing it costs only
//! time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::{NodeModelStatus, NodeRollout, StationId, Status, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use sha2::{Digest as _, Sha256};

use super::Wanted;
use super::relay::Stopped;

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    -- What the nodes are to run: the rollout as JSON, its target's digest, its file once it is here, and whether it was stopped.
    CREATE TABLE IF NOT EXISTS wanted (
        id INTEGER PRIMARY KEY CHECK (id = 1), rollout TEXT NOT NULL, target TEXT NOT NULL, file BLOB, stopped TEXT
    );
    -- What each station last said of its models, as its status, and when, in ms of farm time.
    CREATE TABLE IF NOT EXISTS station (name TEXT PRIMARY KEY, status BLOB NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
";

type Stations = BTreeMap<StationId, (NodeModelStatus, Timestamp)>;

/// The file, open.
#[derive(Debug)]
pub struct NodesStore {
    connection: Connection,
}

impl NodesStore {
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let dir = data_dir.join("models");
        std::fs::create_dir_all(&dir)?;
        let connection = Connection::open(dir.join("nodes.sqlite"))?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection })
    }

    pub fn stations(&self) -> anyhow::Result<Stations> {
        let mut rows = self.connection.prepare("SELECT name, status, at_ms FROM station")?;
        let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let rows: Vec<(String, Vec<u8>, i64)> = rows.collect::<Result<_, _>>()?;
        // What cannot be read is heard again.
        let known = |(name, status, at_ms): (String, Vec<u8>, i64)| {
            let status = Status::decode(&status).ok()?.model?;
            Some((name.parse().ok()?, (status, Timestamp::from_millis(at_ms))))
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    pub fn wanted(&self) -> anyhow::Result<Option<(Wanted, Option<Stopped>)>> {
        let row = self.connection.query_row("SELECT rollout, target, file, stopped FROM wanted", (), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        });
        type Row = (String, String, Option<Vec<u8>>, Option<String>);
        let row: Option<Row> = row.optional()?;
        let Some((rollout, target, file, stopped)) = row else { return Ok(None) };
        let Ok(rollout) = NodeRollout::parse(rollout.as_bytes()) else { return Ok(None) };
        let stopped = stopped.map(|why| Stopped { serial: rollout.serial, digest: rollout.sha256.clone(), why });
        // A node that got other bytes than it was offered would not take the model again.
        let whole = |file: &Vec<u8>| hex::encode(Sha256::digest(file)) == rollout.sha256;
        let file = match file {
            Some(file) if whole(&file) => Ok(Arc::from(file)),
            Some(_) => Err("the file on this gateway's disk is damaged, it will come again".to_owned()),
            None => Err("it has not come yet".to_owned()),
        };
        Ok(Some((Wanted { rollout, target, file }, stopped)))
    }

    /// Keeps what stations said, and what is wanted when that has changed.
    pub fn keep(
        &mut self,
        stations: &Stations,
        wanted: Option<(Option<&Wanted>, Option<&Stopped>)>,
    ) -> rusqlite::Result<()> {
        if stations.is_empty() && wanted.is_none() {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (station, (status, at)) in stations {
            let status = Status { online: true, boot: 0, irrigated: None, model: Some(status.clone()) }.encode();
            transaction.execute(
                "INSERT INTO station (name, status, at_ms) VALUES (?1, ?2, ?3)
                    ON CONFLICT (name) DO UPDATE SET status = excluded.status, at_ms = excluded.at_ms",
                params![station.as_str(), status, at.as_millis()],
            )?;
        }
        if let Some((wanted, stopped)) = wanted {
            transaction.execute("DELETE FROM wanted", ())?;
            if let Some(Wanted { rollout, target, file }) = wanted {
                let file = file.as_ref().ok().map(|file| file.as_ref());
                transaction.execute(
                    "INSERT INTO wanted (id, rollout, target, file, stopped) VALUES (1, ?1, ?2, ?3, ?4)",
                    params![rollout.to_json(), target, file, stopped.map(|stopped| &stopped.why)],
                )?;
            }
        }
        transaction.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::rollout::Order;

    #[test]
    fn what_is_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let rollout = NodeRollout {
            name: "soil-node".to_owned(),
            version: "1.0.0".parse().unwrap(),
            sha256: hex::encode(Sha256::digest([1, 2, 3])),
            serial: 7,
            order: Order::Go,
            stations: ["n1".parse().unwrap()].into(),
            share: 0.5,
            most_failed: 0.1,
        };
        let wanted = Wanted { rollout: rollout.clone(), target: "cd".repeat(32), file: Ok(Arc::from([1u8, 2, 3])) };
        let stopped = Stopped { serial: 7, digest: rollout.sha256, why: "why".to_owned() };
        let status = NodeModelStatus { offset: 5, reason: "crc".to_owned(), ..NodeModelStatus::default() };
        let stations: Stations = [("n1".parse().unwrap(), (status, Timestamp::from_secs(9)))].into();
        let mut store = NodesStore::open(dir.path()).unwrap();
        assert!(store.wanted().unwrap().is_none() && store.stations().unwrap().is_empty());
        store.keep(&stations, Some((Some(&wanted), Some(&stopped)))).unwrap();
        let mut store = NodesStore::open(dir.path()).unwrap();
        assert_eq!(store.wanted().unwrap(), Some((wanted, Some(stopped))));
        assert_eq!(store.stations().unwrap(), stations);
        store.connection.execute("UPDATE wanted SET file = x'010203FF'", ()).unwrap();
        let (damaged, _) = store.wanted().unwrap().unwrap();
        assert!(damaged.file.unwrap_err().contains("damaged"));
        store.keep(&BTreeMap::new(), Some((None, None))).unwrap();
        assert!(store.wanted().unwrap().is_none());
    }
}
