//! Hours, days and latest values are what the windows say, in whatever order these came and were amended.

use std::collections::BTreeMap;

use proto::RejectReason::{Clock, Hampel, Range, Rate, Stuck};
use proto::{Channel, RejectReason, Timestamp, Window};
use rand::seq::SliceRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sqlx::FromRow;

use crate::support::cloud::Cloud;
use crate::support::records::{WindowExt as _, channel, stats, time, window, windows};

/// What the readings of a channel in some span are: accepted values, and rejected ones with their reason.
type Readings = (Vec<f64>, Vec<(RejectReason, f64)>);

#[tokio::test]
async fn hours_and_days_are_what_the_windows_say() {
    let cloud = Cloud::start().await;
    let random = &mut ChaCha8Rng::seed_from_u64(7);
    let channels = ["soil_moisture_20cm", "pressure", "rain"].map(channel);

    // Three days of two stations; each window comes in one to three revisions, and in any order: the highest counts.
    let mut sent: Vec<Window> = Vec::new();
    let mut truth: BTreeMap<(String, Timestamp, Channel), Readings> = BTreeMap::new();
    for station in ["n1", "n2"] {
        for quarter in 0..3 * 96 {
            let start = time("2015-05-30T00:00:00Z").plus_secs(quarter * 900);
            for revision in 0..random.random_range(1..=3) {
                let mut made = window(station, &start.to_string()).revised(revision);
                for channel in channels {
                    let readings = readings(random, channel);
                    made = made.with(&channel.to_string(), &readings.0, &readings.1);
                    truth.insert((station.to_owned(), start, channel), readings);
                }
                sent.push(made);
            }
        }
    }
    sent.shuffle(random);
    let mut first = 1;
    for records in sent.chunks(97) {
        let batch = windows(first, records.iter().cloned());
        first = batch.last() + 1;
        cloud.store(&batch).await;
    }

    for (table, length_s) in [("aggregate", 900), ("aggregate_hourly", 3600), ("aggregate_daily", 86_400)] {
        let mut expected: BTreeMap<(String, Timestamp, Channel), Readings> = BTreeMap::new();
        for ((station, start, channel), (accepted, rejected)) in &truth {
            let whole = expected.entry((station.clone(), start.floor_to(length_s), *channel)).or_default();
            whole.0.extend(accepted);
            whole.1.extend(rejected);
        }
        let rows = rows(&cloud, table).await;
        assert_eq!(rows.len(), expected.len(), "{table}");
        for row in rows {
            let key = (row.station_id.clone(), Timestamp::from_secs(row.start_s), channel(&row.channel));
            row.compare(&expected[&key], &format!("{table} {key:?}"));
        }
    }
}

fn readings(random: &mut ChaCha8Rng, channel: Channel) -> Readings {
    let base = if channel.to_string() == "pressure" { 1013.25 } else { 0.2 };
    let accepted = (0..random.random_range(0..6)).map(|_| base + random.random_range(-0.1..0.1)).collect();
    let reason = |random: &mut ChaCha8Rng| [Range, Rate, Hampel, Stuck, Clock][random.next_u32() as usize % 5];
    let rejected = (0..random.random_range(0..3)).map(|_| (reason(random), random.random_range(-9.0..9.0))).collect();
    (accepted, rejected)
}

#[derive(FromRow)]
struct Row {
    station_id: String,
    channel: String,
    start_s: i64,
    count: i64,
    min: Option<f64>,
    mean: Option<f64>,
    max: Option<f64>,
    stddev: Option<f64>,
    rejected_range: i64,
    rejected_rate: i64,
    rejected_hampel: i64,
    rejected_stuck: i64,
    rejected_clock: i64,
    rejected: i64,
    rejected_min: Option<f64>,
    rejected_max: Option<f64>,
}

async fn rows(cloud: &Cloud, table: &str) -> Vec<Row> {
    let query = format!(
        "SELECT station_id, channel, extract(epoch FROM start)::bigint AS start_s, count::bigint, min, mean, max, stddev,
            rejected_range::bigint, rejected_rate::bigint, rejected_hampel::bigint, rejected_stuck::bigint,
            rejected_clock::bigint, rejected::bigint, rejected_min, rejected_max FROM {table} WHERE farm_id = 'fallon'"
    );
    sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(&cloud.pool).await.unwrap()
}

impl Row {
    fn compare(&self, (accepted, rejected): &Readings, what: &str) {
        let of = |reason| rejected.iter().filter(|(of, _)| *of == reason).count() as i64;
        assert_eq!(self.count, accepted.len() as i64, "{what}");
        assert_eq!(
            [self.rejected_range, self.rejected_rate, self.rejected_hampel, self.rejected_stuck, self.rejected_clock],
            [of(Range), of(Rate), of(Hampel), of(Stuck), of(Clock)],
            "{what}"
        );
        assert_eq!(self.rejected, rejected.len() as i64, "{what}");
        let values: Vec<f64> = rejected.iter().map(|(_, value)| *value).collect();
        let bounds = stats(&values).map(|s| (s.min, s.max));
        assert_eq!(self.rejected_min.zip(self.rejected_max), bounds, "{what}");

        let expected = stats(accepted);
        assert_eq!(self.min.zip(self.max), expected.map(|s| (s.min, s.max)), "{what}");
        match (self.mean.zip(self.stddev), expected) {
            (Some((mean, stddev)), Some(expected)) => {
                assert!((mean - expected.mean).abs() <= 1e-12 * expected.mean.abs(), "{what}: {mean} {expected:?}");
                assert!((stddev - expected.stddev).abs() <= 1e-9, "{what}: {stddev} {expected:?}");
            }
            (found, expected) => assert!(found.is_none() && expected.is_none(), "{what}: {found:?} {expected:?}"),
        }
    }
}

#[tokio::test]
async fn the_latest_value_follows_an_amendment_that_takes_it_back() {
    let cloud = Cloud::start().await;
    let rain = |start: &str, revision, accepted: &[f64]| {
        let rejected: &[_] = if accepted.is_empty() { &[(Hampel, 3.0)] } else { &[] };
        window("n1", start).with("rain", accepted, rejected).revised(revision)
    };
    let latest = async || cloud.read("/api/v1/farms/fallon/stations/n1").await["latest"].clone();
    cloud.store(&windows(1, [rain("2015-05-31T23:45:00Z", 0, &[1.0]), rain("2015-06-01T03:00:00Z", 0, &[2.0])])).await;
    assert_eq!(latest().await[0]["value"], 2.0);
    cloud.store(&windows(3, [rain("2015-06-01T03:00:00Z", 1, &[])])).await;
    assert_eq!(latest().await[0]["value"], 1.0);
    assert_eq!(latest().await[0]["time"], "2015-06-01T00:00:00Z");
    cloud.store(&windows(4, [rain("2015-05-31T23:45:00Z", 1, &[])])).await;
    assert_eq!(latest().await, serde_json::json!([]));
    // An older window that comes late is not the latest.
    cloud.store(&windows(5, [rain("2015-06-02T00:00:00Z", 0, &[5.0]), rain("2015-06-01T00:00:00Z", 0, &[6.0])])).await;
    assert_eq!(latest().await[0]["value"], 5.0);
}
