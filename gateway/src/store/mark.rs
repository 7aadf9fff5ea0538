//! How far the store was acknowledged, in a small file beside it: a write-ahead log that is damaged at its end looks to
//! SQLite like one whose last write a power cut broke off, and what lay behind the damage is gone without a word.
//!
//! The file is written after each commit and never synced, so it costs no write to the disk of its own: the system brings
//! it there within its half minute. It survives `kill -9`, and of a power cut an older mark is left. It never says more than
//! was synced, so what it misses was there: there is no false alarm, and after a power cut some seconds may be lost unreported.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use proto::Timestamp;
use rusqlite::types::Value;

use super::rows::Damage;
use super::sum::Sum;
use super::{Store, StoreError};

/// The mark's file in the data directory.
const FILE: &str = "newest";
/// The number of the store, of the commit, and its time, with a check sum; 64 bits each, the lowest byte first.
const BYTES: usize = 32;

/// The mark of a store that is open.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    /// The store's number.
    store: i64,
}

impl Mark {
    /// Notes that a commit is on disk.
    pub(super) fn note(&self, commit: u64, at: Timestamp) {
        let said = [self.store, commit.cast_signed(), at.as_millis()];
        let sum = said.iter().fold(Sum::new(), |sum, number| sum.int(*number)).value();
        let mut bytes = [0; BYTES];
        for (place, number) in bytes.chunks_exact_mut(8).zip(said.into_iter().chain([sum])) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        if let Err(error) = self.file.write_all_at(&bytes, 0) {
            tracing::debug!(%error, "how far the store is acknowledged is not marked");
        }
    }

    /// The last commit that was noted of this store, and when it came; none when that cannot be read.
    fn read(&self) -> Option<(u64, Timestamp)> {
        let mut bytes = [0; BYTES];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let mut numbers = [0; BYTES / 8];
        for (number, place) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
            *number = i64::from_le_bytes(place.try_into().ok()?);
        }
        let [store, commit, at, sum] = numbers;
        let good = Sum::new().int(store).int(commit).int(at).value() == sum && store == self.store;
        good.then(|| (commit.cast_unsigned(), Timestamp::from_millis(at)))
    }
}

impl Store {
    /// Marks each commit from now on in `dir`. Where the mark that is there says that more was acknowledged than the store
    /// holds, `reports`, which is [beside](Self::beside) this one, [says](Self::set_aside) what is lost.
    ///
    /// # Errors
    /// When SQLite cannot read.
    pub fn mark(&mut self, dir: &Path, reports: &mut Self) -> Result<(), StoreError> {
        let store = self.connection.query_row("SELECT value FROM uplink WHERE key = 'store'", [], |row| row.get(0))?;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join(FILE));
        let mark = match file {
            Ok(file) => Mark { file, store },
            Err(error) => {
                tracing::warn!(%error, "how far the store is acknowledged cannot be marked");
                return Ok(());
            }
        };
        if let Some((commit, at)) = mark.read() {
            reports.look_for_loss(commit, at)?;
        }
        self.mark = Some(mark);
        Ok(())
    }

    /// Up to `commit`, of `at`, everything was acknowledged: what of it is not there is damage.
    fn look_for_loss(&mut self, commit: u64, at: Timestamp) -> Result<(), StoreError> {
        let newest = self.newest()?;
        let told = self.meta("lost_to")?;
        if newest >= commit || told == Some(at.as_millis()) {
            return Ok(());
        }
        let since: Option<i64> = self.connection.query_row(
            "SELECT max(at_ms) FROM raw WHERE id = (SELECT max(id) FROM raw)",
            [],
            |row| row.get(0),
        )?;
        let since = since.map_or_else(|| "the beginning".to_owned(), |ms| Timestamp::from_millis(ms).to_string());
        let what = format!(
            "commits {} to {commit} from {since} to {at}: acknowledged, and not in the store: the end of its write-ahead log is damaged or gone",
            newest + 1
        );
        // That it was told is on disk together with the telling.
        let at = at.as_millis();
        self.found(Damage {
            then: "INSERT OR REPLACE INTO meta VALUES ('lost_to', ?1, ?2)",
            key: vec![Value::Integer(at), Value::Integer(Sum::new().bytes("lost_to").int(at).value())],
            what,
            body: Vec::new(),
            commits: commit - newest,
        });
        Ok(())
    }
}
