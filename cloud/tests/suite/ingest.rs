//! What gateways send is stored once, whatever happens on the way.

use proto::RejectReason::{Hampel, Range};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::cloud::{Cloud, TOKEN, farm};
use crate::support::records::{WindowExt as _, alert, alerts, birth, births, time, window, windows};
use crate::support::until;

const MOISTURE: &str = "soil_moisture_20cm";

#[tokio::test]
async fn sending_twice_changes_nothing() {
    let cloud = Cloud::start().await;
    let first = windows(
        1,
        [
            window("n1", "2015-06-01T00:00:00Z").with(MOISTURE, &[0.2, 0.3], &[(Range, 4.0)]).with("rain", &[0.0], &[]),
            window("n2", "2015-06-01T00:00:00Z").with(MOISTURE, &[], &[(Hampel, 0.5), (Range, -1.0)]),
        ],
    );
    let alerts = alerts(1, [alert("n1", "2015-06-01T00:00:00Z")]);
    let births = births(1, [birth("n1", "2015-06-01T00:00:00Z", Some("north"))]);
    for batch in [&first, &alerts, &births] {
        cloud.store(batch).await;
    }
    let before = cloud.tables().await;
    for batch in [&first, &alerts, &births] {
        assert_eq!(cloud.store(batch).await, batch.last());
    }
    assert_eq!(cloud.tables().await, before);
}

#[tokio::test]
async fn a_gap_is_refused_and_says_what_comes_next() {
    let cloud = Cloud::start().await;
    let start = "2015-06-01T00:00:00Z";
    cloud.store(&windows(1, [window("n1", start).with(MOISTURE, &[0.2], &[])])).await;
    let before = cloud.tables().await;
    let (status, problem) = cloud.send(&windows(3, [window("n2", start).with(MOISTURE, &[0.2], &[])])).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(problem["expected"], 2);
    assert_eq!(problem["type"], "urn:tilth:problem:sequence-gap");
    assert_eq!(cloud.tables().await, before);
}

#[tokio::test]
async fn only_what_is_new_of_a_batch_is_stored() {
    let cloud = Cloud::start().await;
    let quarter = |n: usize| {
        let start = time("2015-06-01T00:00:00Z").plus_secs(900 * n as i64).to_string();
        window("n1", &start).with(MOISTURE, &[n as f64 / 100.0], &[])
    };
    // Of a gateway that names no store.
    let windows = |first, quarters: Vec<_>| proto::UplinkBatch { store: 0, ..windows(first, quarters) };
    assert_eq!(cloud.store(&windows(1, (0..3).map(quarter).collect())).await, 3);
    // The same sequences with other content: a gateway does not do so, and if one did the first word would count.
    let mut again = windows(1, (10..13).chain(3..5).map(quarter).collect());
    assert_eq!(cloud.store(&again).await, 5);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 5);
    assert_eq!(cloud.count("SELECT count FROM aggregate_daily").await, 5);
    again.first = 6;
    assert_eq!(cloud.store(&again).await, 10);
    assert_eq!(cloud.count("SELECT count(*) FROM aggregate").await, 8);
}

#[tokio::test]
async fn each_lane_has_a_sequence_of_its_own() {
    let cloud = Cloud::start().await;
    let start = "2015-06-01T00:00:00Z";
    cloud.store(&windows(1, [window("n1", start).with(MOISTURE, &[0.2], &[])])).await;
    assert_eq!(cloud.store(&alerts(1, [alert("n1", start)])).await, 1);
    assert_eq!(cloud.store(&births(1, [birth("n1", start, None)])).await, 1);
    assert_eq!(cloud.count("SELECT count(*) FROM uplink_progress WHERE sequence = 1").await, 3);
}

#[tokio::test]
async fn a_lower_or_equal_revision_is_ignored() {
    let cloud = Cloud::start().await;
    let at = |revision, value| window("n1", "2015-06-01T00:00:00Z").with(MOISTURE, &[value], &[]).revised(revision);
    cloud.store(&windows(1, [at(2, 0.2)])).await;
    cloud.store(&windows(2, [at(1, 0.9), at(2, 0.8)])).await;
    let latest = &cloud.read("/api/v1/farms/fallon").await["stations"][0]["latest"][0];
    assert_eq!(latest["value"], 0.2);
    assert_eq!(latest["time"], "2015-06-01T00:15:00Z");
    cloud.store(&windows(4, [at(3, 0.3)])).await;
    assert_eq!(cloud.read("/api/v1/farms/fallon").await["stations"][0]["latest"][0]["value"], 0.3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_get_the_same_lane_at_once_store_it_once() {
    let one = Cloud::start().await;
    let other = one.another().await;
    let station = |n: u64| format!("n{}", n % 5);
    let record = |n: u64| {
        // Every batch needs a month that no partition is there for yet.
        let start = time("2013-01-01T00:00:00Z").plus_secs(n.cast_signed() * 86_400 * 9).to_string();
        window(&station(n), &start).with(MOISTURE, &[n as f64], &[]).with("rain", &[1.0], &[(Range, 9e9)])
    };
    let batches: Vec<_> = (0..8).map(|b| windows(b * 10 + 1, (b * 10..b * 10 + 10).map(record))).collect();
    for batch in &batches {
        let (a, b) = tokio::join!(one.store(batch), other.store(batch));
        assert_eq!((a, b), (batch.last(), batch.last()));
    }
    assert_eq!(one.count("SELECT count(*) FROM aggregate").await, 160);
    assert_eq!(one.count("SELECT sum(count)::bigint FROM aggregate_daily").await, 160);
    assert_eq!(one.count("SELECT sum(rejected)::bigint FROM aggregate_hourly").await, 80);
    assert_eq!(one.count("SELECT sequence FROM uplink_progress").await, 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_that_hear_the_same_stations_do_not_spoil_the_roll_ups() {
    let cloud = Cloud::start().await;
    let second = "g2".parse().unwrap();
    cloud::setup::create_gateway(&cloud.pool, &farm("fallon", "").id, &second, "Shed", "token-of-g2").await.unwrap();
    let send = async |gateway: &str, offset: i64| {
        for n in 0..12_i64 {
            let start = time("2015-06-01T00:00:00Z").plus_secs((n * 2 + offset) * 900).to_string();
            // The stations in the opposite order, as a deadlock would need.
            let mut records = vec!["n1", "n2", "n3"];
            if offset == 1 {
                records.reverse();
            }
            let records = records.into_iter().map(|station| window(station, &start).with(MOISTURE, &[0.2], &[]));
            let mut batch = windows(n as u64 * 3 + 1, records);
            batch.gateway = gateway.parse().unwrap();
            let body = zstd::encode_all(batch.encode().as_slice(), 3).unwrap();
            let (status, answer) = cloud.send_bytes(body, &format!("token-of-{gateway}")).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
        }
    };
    tokio::join!(send("g1", 0), send("g2", 1));
    assert_eq!(cloud.count("SELECT min(count) FROM aggregate_hourly").await, 4);
    assert_eq!(cloud.count("SELECT sum(count)::bigint FROM aggregate_daily").await, 72);
}

#[tokio::test]
async fn a_transaction_that_breaks_off_leaves_nothing() {
    let cloud = Cloud::start().await;
    let start = "2015-06-01T00:00:00Z";
    cloud.store(&windows(1, [window("n1", start).with("rain", &[1.0], &[])])).await;
    let before = cloud.tables().await;

    // Fails after the rows and the hours are in, before the sequence is.
    let fail = "ALTER TABLE aggregate_daily ADD CONSTRAINT broken CHECK (count < 2)";
    sqlx::query(fail).execute(&cloud.pool).await.unwrap();
    let batch = windows(2, [window("n2", start).with(MOISTURE, &[0.2, 0.3], &[])]);
    let (status, problem) = cloud.send(&batch).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(problem["detail"], "this is a mistake of the server; its log says more");
    assert_eq!(cloud.tables().await, before);

    sqlx::query("ALTER TABLE aggregate_daily DROP CONSTRAINT broken").execute(&cloud.pool).await.unwrap();
    assert_eq!(cloud.store(&batch).await, 2);
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_leaves_nothing() {
    let cloud = Cloud::start().await;
    let start = "2015-06-01T00:00:00Z";
    cloud.store(&windows(1, [window("n1", start).with("rain", &[1.0], &[])])).await;
    let before = cloud.tables().await;

    // Holds the station's row, so that ingest waits in the middle of its transaction, and is cut there.
    let mut holder = cloud.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM station FOR UPDATE").execute(&mut *holder).await.unwrap();
    let batch = windows(2, [window("n1", start).with(MOISTURE, &[0.2, 0.3], &[])]);
    let cut = async {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until("ingest's wait", async || (cloud.count(cut).await > 0).then_some(())).await;
    };
    let ((status, _), ()) = tokio::join!(cloud.send(&batch), cut);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    holder.rollback().await.unwrap();
    assert_eq!(cloud.tables().await, before);
    assert_eq!(cloud.store(&batch).await, 2);
}

#[tokio::test]
async fn a_station_is_there_from_its_first_window_and_known_from_its_birth() {
    let cloud = Cloud::start().await;
    cloud.store(&windows(1, [window("n1", "2015-06-01T00:00:00Z").with(MOISTURE, &[0.2], &[])])).await;
    let station = cloud.read("/api/v1/farms/fallon/stations/n1").await;
    assert_eq!(station["field"], json!(null));
    assert_eq!(station["firmware"], json!(null));
    assert_eq!(station["last_heard"], "2015-06-01T00:15:00Z");

    cloud.store(&births(1, [birth("n1", "2015-06-01T00:20:00Z", Some("north"))])).await;
    let station = cloud.read("/api/v1/farms/fallon/stations/n1").await;
    assert_eq!(station["field"], "north");
    assert_eq!(station["interval_s"], 60);
    assert_eq!(station["latitude"], 39.47);
    assert_eq!(station["last_heard"], "2015-06-01T00:20:00Z");
    assert_eq!(station["latest"][0]["value"], 0.2);

    // An older birth that comes later, and one that names a field of another farm's plan.
    let mut older = birth("n1", "2015-06-01T00:10:00Z", Some("south"));
    older.birth.interval_s = 7;
    cloud.store(&births(2, [older, birth("n1", "2015-06-01T00:30:00Z", Some("nowhere"))])).await;
    let station = cloud.read("/api/v1/farms/fallon/stations/n1").await;
    assert_eq!(station["field"], "north");
    assert_eq!(station["interval_s"], 60);
    assert_eq!(station["last_heard"], "2015-06-01T00:30:00Z");
    assert_eq!(cloud.read("/api/v1/farms/fallon/fields").await[0]["stations"], 1);
}

#[tokio::test]
async fn an_alert_is_as_its_highest_revision_says() {
    let cloud = Cloud::start().await;
    let mut opened = alert("n1", "2015-06-01T00:00:00Z");
    cloud.store(&alerts(1, [opened.clone()])).await;
    opened.revision = 2;
    opened.updated = time("2015-06-01T02:00:00Z");
    opened.closed = Some(opened.updated);
    let mut late = opened.clone();
    (late.revision, late.closed) = (1, None);
    cloud.store(&alerts(2, [opened, late])).await;
    assert_eq!(cloud.read("/api/v1/farms/fallon/alerts?state=open").await["items"], json!([]));
    let closed = cloud.read("/api/v1/farms/fallon/alerts?state=closed").await;
    assert_eq!(closed["items"][0]["closed"], "2015-06-01T02:00:00Z");
    assert_eq!(closed["items"][0]["opened"], "2015-06-01T00:00:00Z");
}

#[tokio::test]
async fn a_gateway_reports_on_itself() {
    let cloud = Cloud::start().await;
    assert_eq!(cloud.read("/api/v1/farms/fallon/gateways").await[0]["status"], json!(null));
    let status = json!({
        "at": "2015-06-08T11:59:00Z", "started": "2015-06-01T00:00:00Z", "version": "0.1.0",
        "models": [{"name": "soil-anomaly", "version": "1.0.0", "task": "anomaly", "since": "2015-06-01T00:00:00Z", "digest": "00ff"}],
        "stations": 24, "connected": 23, "backlog": {"alerts": 0, "aggregates": 7}, "backlog_oldest": null,
        "disk_bytes": 1_000_000, "readings": 12_345, "rejected": {"range": 3},
    });
    let send = |status: &serde_json::Value| {
        cloud.request(reqwest::Method::POST, "/api/v1/uplink/status").bearer_auth(TOKEN).json(status).send()
    };
    assert_eq!(send(&status).await.unwrap().status(), StatusCode::NO_CONTENT);
    let gateways = cloud.read("/api/v1/farms/fallon/gateways").await;
    let mut expected = status.clone();
    // A gateway that takes no updates need not speak of them, nor an older one of its link.
    expected["update"] = json!({"checked": null, "refusal": null, "bytes": 0, "models": [], "nodes": null});
    expected["uplink"] = json!({"lanes": {}, "link": null, "budget": null});
    assert_eq!(gateways[0]["status"], expected);
    assert!(gateways[0]["last_seen"].as_str().unwrap().starts_with("2015-06-08T12:0"));

    let mut hostile = status;
    hostile["version"] = "a\0b".into();
    assert_eq!(send(&hostile).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    hostile["version"] = 7.into();
    assert_eq!(send(&hostile).await.unwrap().status(), StatusCode::BAD_REQUEST);
}
