//! What the aggregates must be, computed from the truth log in the plainest way: everything in memory, every neighbourhood
//! looked up and sorted anew, nothing kept from one window to the next. It shares no code with the gateway's windows and
//! filters; only their limits by quantity are the same numbers.

use std::collections::BTreeMap;
use std::path::Path;

use gateway::validate::Limits;
use proto::{Channel, StationId, Timestamp};
use sqlx::{PgPool, Row as _};

/// The length of a window.
const WINDOW_S: u32 = 900;
/// Neighbours that are looked at on each side.
const HALF_WIDTH: usize = 3;
/// Neighbours further apart than this are none: the gateway's default.
const CONTEXT_MS: i64 = 3_600_000;

/// One channel of one station in one window.
pub type Key = (StationId, Channel, Timestamp);

/// What an aggregate must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expected {
    /// Accepted values in order of time.
    pub accepted: Vec<f64>,
    /// Rejected ones.
    pub rejected: Vec<f64>,
}

/// All aggregates that the truth log of `dir` comes to, and the number of its readings.
#[must_use]
pub fn expected(dir: &Path) -> (BTreeMap<Key, Expected>, i64) {
    expected_of(&[dir])
}

/// The same of several truth logs, of different stations.
#[must_use]
pub fn expected_of(dirs: &[impl AsRef<Path>]) -> (BTreeMap<Key, Expected>, i64) {
    let mut series: BTreeMap<(StationId, Channel), Vec<(Timestamp, f64)>> = BTreeMap::new();
    let mut made = 0;
    for reading in dirs.iter().flat_map(|dir| node_sim::truth::read_readings(dir.as_ref()).unwrap()) {
        let reading = reading.unwrap();
        series.entry((reading.station, reading.channel)).or_default().push((reading.time, reading.value));
        made += 1;
    }
    let mut all: BTreeMap<Key, Expected> = BTreeMap::new();
    for ((station, channel), mut readings) in series {
        readings.sort_by_key(|(time, _)| *time);
        assert!(readings.windows(2).all(|pair| pair[0].0 < pair[1].0), "{station} {channel}: two readings of one time");
        for (at, (time, value)) in readings.iter().enumerate() {
            let aggregate = all.entry((station.clone(), channel, time.floor_to(WINDOW_S))).or_default();
            if is_good(&Limits::of(channel.quantity), &readings, at) {
                aggregate.accepted.push(*value);
            } else {
                aggregate.rejected.push(*value);
            }
        }
    }
    (all, made)
}

/// Whether the reading at `at` is possible, no leap, and no outlier among its neighbours.
fn is_good(limits: &Limits, readings: &[(Timestamp, f64)], at: usize) -> bool {
    let (time, value) = readings[at];
    if !limits.range.contains(&value) {
        return false;
    }
    let beside = |others: Vec<&(Timestamp, f64)>| -> Vec<(i64, f64)> {
        let possible = others.into_iter().filter(|(_, v)| limits.range.contains(v));
        possible
            .map(|(t, v)| (t.millis_since(time).abs(), *v))
            .take(HALF_WIDTH)
            .take_while(|(ms, _)| *ms <= CONTEXT_MS)
            .collect()
    };
    let (before, after) = (beside(readings[..at].iter().rev().collect()), beside(readings[at + 1..].iter().collect()));

    // With two or more neighbours on each side their median says more than the two next to it.
    let floor = limits.hampel.map_or(0.0, |hampel| hampel.floor);
    let reach = before.len().min(after.len());
    let mut values: Vec<f64> = before[..reach].iter().chain(&after[..reach]).map(|(_, v)| *v).chain([value]).collect();
    let median = middle(&mut values);
    if limits.hampel.is_some() && reach >= 2 && (value - median).abs() <= floor {
        return true;
    }

    if let (Some(rate), Some(left), Some(right)) = (limits.max_rate_per_hour, before.first(), after.first()) {
        let too_far = |(ms, v): &(i64, f64)| (value - v).abs() > (rate * *ms as f64 / 3_600_000.0).max(floor);
        if (value > left.1) == (value > right.1)
            && value != left.1
            && value != right.1
            && too_far(left)
            && too_far(right)
        {
            return false;
        }
    }

    let Some(hampel) = limits.hampel.filter(|_| reach >= 2) else { return true };
    let mut deviations: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
    let spread = 1.4826 * middle(&mut deviations);
    (value - median).abs() <= hampel.floor.max(hampel.sigmas * spread)
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Checks every row of `aggregate` against the truth log of `dir`: none is missing, none is there that should not be, and
/// each holds exactly the readings that were made. Gives the number of readings.
///
/// # Panics
/// When a row differs; the message says which and how.
pub async fn check(pool: &PgPool, dir: &Path) -> i64 {
    check_all(pool, &[dir]).await
}

/// The same with several truth logs, of different stations.
///
/// # Panics
/// When a row differs; the message says which and how.
pub async fn check_all(pool: &PgPool, dirs: &[impl AsRef<Path>]) -> i64 {
    let (mut expected, made) = expected_of(dirs);
    let rows = sqlx::query(
        "SELECT station_id, channel, (extract(epoch FROM start) * 1000)::bigint AS start_ms, count::bigint, min, mean, max, stddev,
            rejected::bigint, rejected_min, rejected_max FROM aggregate ORDER BY 1, 2, 3",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    for row in &rows {
        let (station, channel): (String, String) = (row.get("station_id"), row.get("channel"));
        let start = Timestamp::from_millis(row.get("start_ms"));
        let key = (station.parse().unwrap(), channel.parse().unwrap(), start);
        let truth =
            expected.remove(&key).unwrap_or_else(|| panic!("{station} {channel} {start}: nothing was measured then"));
        let name = format!("{station} {channel} {start}");
        assert_eq!(row.get::<i64, _>("count"), truth.accepted.len() as i64, "{name}: accepted of {truth:?}");
        assert_eq!(row.get::<i64, _>("rejected"), truth.rejected.len() as i64, "{name}: rejected of {truth:?}");
        let column = |column: &str| row.get::<Option<f64>, _>(column);
        let (min, max) = extremes(&truth.accepted);
        assert_eq!((column("min"), column("max")), (min, max), "{name}: extremes");
        assert_eq!(
            (column("rejected_min"), column("rejected_max")),
            extremes(&truth.rejected),
            "{name}: rejected extremes"
        );
        let count = truth.accepted.len() as f64;
        let mean = truth.accepted.iter().sum::<f64>() / count;
        let stddev = (truth.accepted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
        for (what, there, expected) in
            [("mean", column("mean"), mean), ("standard deviation", column("stddev"), stddev)]
        {
            match there {
                None => assert!(truth.accepted.is_empty(), "{name}: no {what}"),
                Some(there) => assert!(
                    (there - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
                    "{name}: {what} {there}, not {expected}"
                ),
            }
        }
    }
    assert!(
        expected.is_empty(),
        "{} aggregates are missing, the first is {:?}",
        expected.len(),
        expected.first_key_value()
    );
    made
}

fn extremes(values: &[f64]) -> (Option<f64>, Option<f64>) {
    (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max))
}
