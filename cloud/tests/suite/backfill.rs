//! What comes by the back-fill, and what a store's number is for.

use proto::{Channel, Lane, RawReadings, Reading, Record};
use reqwest::StatusCode;

use crate::support::cloud::Cloud;
use crate::support::records::{WindowExt as _, alert, alerts, batch, time, window, windows};

const MOISTURE: &str = "soil_moisture_20cm";
const START: &str = "2015-06-01T00:00:00Z";

/// Readings a second apart, of values that are their numbers.
fn raw(station: &str, numbers: std::ops::Range<u32>) -> Record {
    let channel: Channel = MOISTURE.parse().unwrap();
    let reading =
        |n| Reading { channel, time: time(START).plus_secs(i64::from(n)), value: f64::from(n) / 10_000.0 + 1e-9 };
    Record::Raw(RawReadings::new(station.parse().unwrap(), numbers.map(reading).collect()))
}

fn late(first: u64, records: Vec<Record>) -> proto::UplinkBatch {
    proto::UplinkBatch { lane: Lane::Backfill, ..batch(first, records) }
}

#[tokio::test]
async fn the_back_fill_takes_windows_and_raw_readings_and_both_once() {
    let cloud = Cloud::start().await;
    let old = |n: i64| {
        let start = time(START).plus_secs(900 * n).to_string();
        Record::Window(window("n1", &start).with(MOISTURE, &[0.2], &[]))
    };
    let mixed = late(1, vec![old(1), raw("n1", 0..100), old(0), raw("n2", 0..7)]);
    assert_eq!(cloud.store(&mixed).await, 4);
    let before = cloud.tables().await;
    assert_eq!(cloud.store(&mixed).await, 4);
    assert_eq!(cloud.tables().await, before, "what comes again is skipped");
    assert_eq!(cloud.count("SELECT count(*) FROM reading").await, 107);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 2);
    assert_eq!(cloud.count("SELECT count FROM aggregate_daily").await, 2);
    // A window that the live lane brings too is the same window, and a reading that another store brings the same reading.
    cloud.store(&windows(1, [window("n1", START).with(MOISTURE, &[0.2], &[])])).await;
    let again = proto::UplinkBatch { store: 8, ..late(1, vec![raw("n1", 50..120)]) };
    assert_eq!(cloud.store(&again).await, 1);
    assert_eq!(cloud.count("SELECT count(*) FROM reading").await, 127);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 2);
    let names = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'reading'::regclass";
    assert_eq!(cloud.count(names).await, 1, "a partition for the month");
}

#[tokio::test]
async fn raw_readings_are_read_in_pages() {
    let cloud = Cloud::start().await;
    cloud.store(&late(1, vec![raw("n1", 0..250)])).await;
    let path = format!(
        "/api/v1/farms/fallon/stations/n1/readings?channel={MOISTURE}&from={START}&to=2015-06-01T00:04:00Z&limit=100"
    );
    let (mut times, mut values, mut cursor) = (Vec::new(), Vec::new(), String::new());
    for page in 0.. {
        let answer = cloud.read(&format!("{path}{cursor}")).await;
        assert_eq!(answer["unit"], "m3/m3");
        times.extend(answer["time_ms"].as_array().unwrap().iter().map(|t| t.as_i64().unwrap()));
        values.extend(answer["value"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()));
        let Some(next) = answer["next"].as_str() else {
            assert_eq!(page, 2);
            break;
        };
        cursor = format!("&cursor={next}");
    }
    let start = time(START).as_millis();
    assert_eq!(times, (0..240).map(|n| start + n * 1000).collect::<Vec<_>>());
    // The test reads JSON to an ulp; the table has every bit.
    assert!(values.iter().zip(0..240).all(|(v, n): (&f64, u32)| (v - (f64::from(n) / 10_000.0 + 1e-9)).abs() < 1e-15));
    assert_eq!(
        cloud.count("SELECT count(*) FROM reading WHERE value = 0.00010000100000000001::double precision").await,
        1
    );

    let wrong = |query: &str| format!("/api/v1/farms/fallon/stations/n1/readings?{query}");
    for (query, field) in [
        ("", "channel"),
        ("channel=x", "channel"),
        ("channel=rain&cursor=1", "cursor"),
        ("channel=rain&limit=0", "limit"),
    ] {
        let (status, problem) = cloud.get(&wrong(query)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}: {problem}");
        assert_eq!(problem["field"], field, "{problem}");
    }
    let (status, _) = cloud.get("/api/v1/farms/fallon/stations/n9/readings?channel=rain").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_record_of_another_lane_or_of_a_strange_time_is_refused() {
    let cloud = Cloud::start().await;
    let channel: Channel = MOISTURE.parse().unwrap();
    let reading = |at: &str| Reading { channel, time: time(at), value: 0.2 };
    let of = |at: &str| {
        late(1, vec![raw("n1", 0..3), Record::Raw(RawReadings::new("n1".parse().unwrap(), vec![reading(at)]))])
    };
    let (status, problem) = cloud.send(&of("1970-01-01T00:00:00Z")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["field"], "records[1].time", "{problem}");
    let mut batch = alerts(1, [alert("n1", START)]);
    batch.lane = Lane::Backfill;
    assert_eq!(cloud.send(&batch).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(cloud.count("SELECT count(*) FROM reading").await, 0);
}

#[tokio::test]
async fn a_new_store_counts_from_one_and_a_store_that_was_set_back_loses_nothing() {
    let cloud = Cloud::start().await;
    let quarter = |n: i64| window("n1", &time(START).plus_secs(900 * n).to_string()).with(MOISTURE, &[0.2], &[]);
    assert_eq!(cloud.store(&windows(1, (0..40).map(quarter))).await, 40);
    // Another store of the same gateway: half of its numbers are those that the first has used.
    let fresh = proto::UplinkBatch { store: 8, ..windows(1, (100..160).map(quarter)) };
    assert_eq!(cloud.store(&fresh).await, 60);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 100);
    // The first, from an old copy of its disk.
    let (status, problem) = cloud.send(&windows(31, (200..220).map(quarter))).await;
    assert_eq!((status, &problem["expected"]), (StatusCode::CONFLICT, &41.into()));
    assert_eq!(cloud.store(&windows(41, (200..220).map(quarter))).await, 60);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 120);
    // A gateway that names no store is met as it always was.
    let unnamed =
        |first, numbers: std::ops::Range<i64>| proto::UplinkBatch { store: 0, ..windows(first, numbers.map(quarter)) };
    assert_eq!(cloud.store(&unnamed(1, 300..303)).await, 3);
    assert_eq!(cloud.store(&unnamed(2, 301..305)).await, 5);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 125);
}

#[tokio::test]
async fn what_was_stored_before_stores_had_numbers_stays_as_it_was() {
    let cloud = Cloud::start().await;
    let quarter = |n: i64| window("n1", &time(START).plus_secs(900 * n).to_string()).with(MOISTURE, &[0.2], &[]);
    // As an old gateway left it.
    sqlx::query(
        "INSERT INTO uplink_progress (farm_id, gateway_id, lane, sequence) VALUES ('fallon', 'g1', 'aggregates', 9)",
    )
    .execute(&cloud.pool)
    .await
    .unwrap();
    let old = |first, n| proto::UplinkBatch { store: 0, ..windows(first, [quarter(n)]) };
    assert_eq!(cloud.store(&old(9, 0)).await, 9, "it has that");
    assert_eq!(cloud.store(&old(10, 1)).await, 10);
    // The same gateway, of this version: it thinks that it has sent 10, and is told to count anew.
    let (status, problem) = cloud.send(&windows(11, [quarter(2)])).await;
    assert_eq!((status, &problem["expected"]), (StatusCode::CONFLICT, &1.into()));
    assert_eq!(cloud.store(&windows(1, [quarter(2)])).await, 1);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 2);
}
