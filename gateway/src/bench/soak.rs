//! A month of a farm, as fast as it goes: does anything grow?
//!
//! 24 stations, a report a minute, sent each hour, to a gateway whose clock runs so that a day takes eight
//! seconds. It keeps raw readings for a week, and a few megabytes for a cloud that never comes, so that every limit is
//! reached within the month. After each day its memory, its file and the rows of all its tables are looked at: none of them
//! may be larger in the last third than it was in the third before.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use proto::TimeScale;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::load::Clients;
use super::payload::{Format, Prepared, STEP_MS};
use super::process::Scratch;
use super::servers::Running;
use super::{Args, Programs};

const STATIONS: u32 = 24;
/// How long a day takes.
const DAY: Duration = Duration::from_secs(8);
const HOUR_MS: i64 = 3_600_000;
const RAW_DAYS: u32 = 7;
const SPOOL_BYTES: u64 = 4 << 20;
/// By how much the last third may be above the one before: what comes and goes within a day or with a page of the file.
const SLACK: f64 = 1.10;
/// Rows below this come and go, and say nothing.
const FEW_ROWS: u64 = 200;

/// How the gateway stands after a day.
#[derive(Debug, Clone, Serialize)]
struct Day {
    day: u32,
    rss_bytes: u64,
    /// The store's file with its log.
    store_bytes: u64,
    /// Rows by table.
    rows: BTreeMap<String, u64>,
}

/// Measures `days` days.
///
/// # Errors
/// As [`super::run`], and when something grows.
pub async fn run(days: u32, args: &Args, programs: &Programs) -> anyhow::Result<()> {
    let scratch = Scratch::new(&args.dir)?;
    let wall = crate::wall_clock();
    let time = TimeScale { wall, farm: wall, speed: 86_400.0 / DAY.as_secs_f64() };
    let mut running = Running::gateway(STATIONS, time, scratch.path(), programs, |config| {
        config.retention.raw_days = RAW_DAYS;
        config.retention.spool_bytes = SPOOL_BYTES;
    })
    .await?;
    let an_hour = u32::try_from(HOUR_MS / STEP_MS)?;
    let prepared = Prepared::new(Format::Native, STATIONS, days * 24 * an_hour, |number| {
        wall.plus_millis(i64::from(number) * STEP_MS)
    });
    let mut clients = Clients::connect(running.address, &prepared, true).await?;
    let began = Instant::now();
    let mut seen = Vec::new();
    for day in 1..=days {
        for hour in 1..=24 {
            // An hour's readings are sent when it is over.
            let due = DAY * ((day - 1) * 24 + hour) / 24;
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            clients.pipelined(STATIONS * an_hour, an_hour as usize).await?;
        }
        let store = scratch.path().join("data/gateway.sqlite");
        let looked = Day {
            day,
            rss_bytes: running.processes.rss()?,
            store_bytes: ["", "-wal"].iter().map(|end| size(&store, end)).sum(),
            rows: tokio::task::spawn_blocking(move || rows(&store)).await??,
        };
        if args.json {
            println!("{}", serde_json::to_string(&looked)?);
        } else {
            let rows: Vec<String> = looked.rows.iter().map(|(table, rows)| format!("{table} {rows}")).collect();
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            println!(
                "day {day:>3}: {:.1} MiB of memory, {:.1} MiB on disk; {}",
                mib(looked.rss_bytes),
                mib(looked.store_bytes),
                rows.join(", ")
            );
        }
        seen.push(looked);
    }
    running.check(&clients).await?;
    drop(clients);
    running.processes.end().await;
    let grown = grown(&seen);
    if !grown.is_empty() {
        bail!("it grows: {}", grown.join("; "));
    }
    if !args.json {
        println!("nothing grows");
    }
    Ok(())
}

fn size(store: &Path, end: &str) -> u64 {
    let mut path = store.as_os_str().to_owned();
    path.push(end);
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// How many rows each table has.
fn rows(store: &Path) -> rusqlite::Result<BTreeMap<String, u64>> {
    let connection = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names
        .into_iter()
        .map(|name| {
            let rows =
                connection.query_row(&format!("SELECT count(*) FROM \"{name}\""), [], |row| row.get::<_, i64>(0))?;
            Ok((name, rows.cast_unsigned()))
        })
        .collect()
}

/// What is larger in the last third than in the one before.
fn grown(days: &[Day]) -> Vec<String> {
    let third = days.len() / 3;
    if third == 0 {
        return Vec::new();
    }
    let (before, last) = (&days[days.len() - 2 * third..days.len() - third], &days[days.len() - third..]);
    let most = |days: &[Day], what: &dyn Fn(&Day) -> u64| days.iter().map(what).max().unwrap_or(0);
    let mut grown = Vec::new();
    let mut look = |name: &str, few: u64, what: &dyn Fn(&Day) -> u64| {
        let (before, last) = (most(before, what), most(last, what));
        if last > few && last as f64 > before as f64 * SLACK {
            grown.push(format!("{name} from {before} to {last}"));
        }
    };
    look("memory", 0, &|day| day.rss_bytes);
    look("the store's file", 0, &|day| day.store_bytes);
    for table in last.iter().flat_map(|day| day.rows.keys()).collect::<std::collections::BTreeSet<_>>() {
        look(table, FEW_ROWS, &|day| day.rows.get(table).copied().unwrap_or(0));
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_to_the_end_is_named_and_what_levels_off_is_not() {
        let day = |day: u32, raw: u64| Day {
            day,
            rss_bytes: 1_000_000 + u64::from(day.min(10)) * 100_000,
            store_bytes: 50_000,
            rows: [("raw".to_owned(), raw)].into(),
        };
        let level: Vec<Day> = (1..=30).map(|n| day(n, 1_000 * u64::from(n.min(8)))).collect();
        assert_eq!(grown(&level), Vec::<String>::new());
        let growing: Vec<Day> = (1..=30).map(|n| day(n, 1_000 * u64::from(n))).collect();
        assert_eq!(grown(&growing), ["raw from 20000 to 30000"]);
    }
}
