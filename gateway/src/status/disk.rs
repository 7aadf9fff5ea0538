//! What lies on the disk, against what may.

use std::path::Path;

use maud::{Markup, html};
use nix::sys::statvfs::statvfs;
use proto::{Lane, Timestamp};
use rusqlite::{Connection, OptionalExtension as _};

use super::{age, bytes};
use crate::config::RetentionConfig;
use crate::store::{QUARANTINE_BYTES, RESERVE_BYTES, Reserve};

/// Records of a lane that are looked at for how large they are. A lane with more is not read for a page: it would take too
/// long where much waits, so its bytes are told from these.
const SAMPLED: u32 = 5_000;
/// The share of a limit from which on it is said that little is left.
const NEARLY: f64 = 0.9;
/// Free space below this is little, bytes: less than what a day of a busy farm takes.
const LITTLE: u64 = 256 << 20;

/// What lies on the disk, as it is found for the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Bytes of what waits for the cloud, and whether that is told from a part.
    spool: (u64, bool),
    /// Bytes of what is kept aside.
    aside: u64,
    /// When the oldest raw readings came.
    oldest: Option<Timestamp>,
    /// Free bytes of the file system, and all; none where it does not say.
    free: Option<(u64, u64)>,
    /// Bytes that are set aside for a full disk.
    reserve: u64,
}

impl Disk {
    /// Looks at `dir` and the store in it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn look(dir: &Path, store: &Connection) -> rusqlite::Result<Self> {
        let mut spool = (0, false);
        for lane in Lane::ALL {
            let (records, looked, sum): (i64, i64, i64) = store.query_row(
                "SELECT (SELECT count(*) FROM spool WHERE lane = ?1), count(*), coalesce(sum(length(body)), 0)
                 FROM (SELECT body FROM spool WHERE lane = ?1 ORDER BY id DESC LIMIT ?2)",
                (lane as i64, SAMPLED),
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )?;
            let all = i128::from(sum) * i128::from(records) / i128::from(looked.max(1));
            spool.0 += u64::try_from(all).unwrap_or(0);
            spool.1 |= records > looked;
        }
        let aside: i64 = store.query_row(
            "SELECT coalesce(sum(octet_length(body) + octet_length(reason)), 0) FROM quarantine",
            [],
            |row| row.get(0),
        )?;
        let oldest = store.query_row("SELECT at_ms FROM raw ORDER BY id LIMIT 1", [], |row| row.get(0)).optional()?;
        let free = statvfs(dir).ok().map(|of| {
            #[allow(clippy::useless_conversion, reason = "on machines of 32 bits they are no u64")]
            let [fragment, free, all] = [of.fragment_size(), of.blocks_available(), of.blocks()].map(u64::from);
            (free.saturating_mul(fragment), all.saturating_mul(fragment))
        });
        Ok(Self {
            spool,
            aside: aside.unsigned_abs(),
            oldest: oldest.map(Timestamp::from_millis),
            free,
            reserve: Reserve::held(dir),
        })
    }
}

/// What lies on the disk, against what may. `raw` are the bytes of the raw readings, `file` those of the whole store.
pub fn shown(
    disk: &Result<Disk, String>,
    (raw, file): (Option<u64>, u64),
    limits: &RetentionConfig,
    now: Timestamp,
) -> Markup {
    html! {
        section {
            h2 { "Disk" }
            @match disk {
                Err(error) => p.fault { "The store cannot be read: " (error) },
                Ok(disk) => table {
                    tr { th { "What" } th { "Bytes" } th { "Of at most" } th.words { "" } }
                    tr {
                        td { "Raw readings" }
                        @match raw { Some(raw) => (against(raw, limits.raw_bytes)), None => { td { "–" } td { (bytes(limits.raw_bytes)) } } }
                        td.words {
                            @match disk.oldest {
                                Some(oldest) => { "the oldest is of " (age(now, oldest)) " ago, kept for " (limits.raw_days) " d" }
                                None => "none yet",
                            }
                        }
                    }
                    tr {
                        td { "Waiting for the cloud" }
                        (against(disk.spool.0, limits.spool_bytes))
                        td.words { @if disk.spool.1 { "about" } }
                    }
                    tr { td { "Kept aside" } (against(disk.aside, QUARANTINE_BYTES as u64)) td.words {} }
                    tr { td { "Store on disk" } td { (bytes(file)) } td {} td.words { "the whole file, with what is between" } }
                    @if let Some((free, all)) = disk.free {
                        tr {
                            td { "Free" }
                            td.warning[free < LITTLE] { (bytes(free)) }
                            td { (bytes(all)) }
                            td.words { @if free < LITTLE { span.warning { "little: the oldest raw readings go when it is full" } } }
                        }
                    }
                    tr {
                        td { "Set aside for a full disk" }
                        td.warning[disk.reserve < RESERVE_BYTES] { (bytes(disk.reserve)) }
                        td { (bytes(RESERVE_BYTES)) }
                        td.words {
                            @if disk.reserve == 0 { span.fault { "given up: the disk was full, and has no room for it yet" } }
                            @else if disk.reserve < RESERVE_BYTES { span.warning { "in part: there is no room for more" } }
                            @else { "whole" }
                        }
                    }
                },
            }
        }
    }
}

/// The cells of what is used and of its limit.
fn against(used: u64, limit: u64) -> Markup {
    let nearly = used as f64 >= NEARLY * limit as f64;
    html! { td.warning[nearly] { (bytes(used)) } td { (bytes(limit)) } }
}

#[cfg(test)]
mod tests {
    use proto::{Alert, AlertKind, Record};

    use super::*;
    use crate::store::{FILE, Group, Store};

    fn alert(number: usize) -> Record {
        Record::Alert(Alert {
            id: format!("a{number}"),
            station: "n1".parse().unwrap(),
            channel: None,
            kind: AlertKind::Silent,
            opened: Timestamp::from_secs(1),
            updated: Timestamp::from_secs(1),
            closed: None,
            score: 1.0,
            threshold: 1.0,
            value: None,
            drivers: Vec::new(),
            model: None,
            revision: 0,
            message: "nothing was heard".to_owned(),
        })
    }

    #[test]
    fn what_waits_is_added_up_and_told_from_a_part_where_it_is_much() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let look = || Disk::look(dir.path(), &Connection::open(dir.path().join(FILE)).unwrap()).unwrap();
        assert_eq!((look().spool, look().aside, look().reserve), ((0, false), 0, 0));

        // Names of one length, so that the part is like the whole.
        let records: Vec<Record> = (1_000..1_000 + 2 * SAMPLED as usize).map(|n| alert(n + 10_000)).collect();
        let each = records[0].encode().len() as u64;
        let mut group = Group { records: records[..10].to_vec(), ..Group::default() };
        group.quarantined.push(("station n1".to_owned(), "mud".to_owned(), b"12345".to_vec()));
        store.commit(&group, 1, Timestamp::from_secs(1)).unwrap();
        assert_eq!((look().spool, look().aside), ((10 * each, false), 8));

        let group = Group { records: records[10..].to_vec(), ..Group::default() };
        store.commit(&group, 2, Timestamp::from_secs(2)).unwrap();
        assert_eq!(look().spool, (2 * u64::from(SAMPLED) * each, true));
        let (free, all) = look().free.unwrap();
        assert!(0 < free && free < all);

        let _reserve = Reserve::open(dir.path());
        assert_eq!(look().reserve, RESERVE_BYTES);
    }
}
