//! What the API answers, and what it says to questions that cannot be answered.

use proto::RejectReason::{Hampel, Range};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::cloud::Cloud;
use crate::support::records::{
    WindowExt as _, alert, alerts, birth, births, decision, decisions, time, window, windows,
};

/// A farm with two stations, one of them with a field, some hours of data, and an alert.
async fn small_farm() -> Cloud {
    let cloud = Cloud::start().await;
    cloud.store(&births(1, [birth("n1", "2015-06-01T00:00:00Z", Some("south"))])).await;
    let moisture = "soil_moisture_20cm";
    cloud
        .store(&windows(
            1,
            [
                window("n1", "2015-06-08T10:00:00Z").with(moisture, &[0.25, 0.75], &[]).with("rain", &[1.5], &[]),
                window("n1", "2015-06-08T10:15:00Z").with(moisture, &[], &[(Range, 7.0), (Hampel, 0.9)]),
                window("n2", "2015-06-08T10:15:00Z").with("rain", &[0.0], &[]),
                window("n1", "2015-06-08T11:30:00Z").with(moisture, &[0.5], &[(Range, -3.0)]),
            ],
        ))
        .await;
    cloud.store(&alerts(1, [alert("n1", "2015-06-08T11:00:00Z")])).await;
    cloud
}

#[tokio::test]
async fn the_overview_is_one_answer() {
    let cloud = small_farm().await;
    let mut overview = cloud.read("/api/v1/farms/fallon").await;
    let now = overview["now"].take();
    assert!(now.as_str().unwrap().starts_with("2015-06-08T12:"), "{now}");
    let seen = overview["gateways"][0]["last_seen"].take();
    assert!(seen.as_str().unwrap().starts_with("2015-06-08T12:"), "{seen}");
    insta::assert_json_snapshot!(overview);
}

#[tokio::test]
async fn a_station_says_what_it_has_delivered() {
    let cloud = small_farm().await;
    let station = cloud.read("/api/v1/farms/fallon/stations/n1").await;
    assert_eq!(station["counts"], json!({"readings_7d": 7, "rejected_7d": 3}));
    assert_eq!(station["untimely"], json!({"late": 0, "future": 0, "clock": 0}));
    assert_eq!(station["id"], "n1");
    let overview = cloud.read("/api/v1/farms/fallon").await;
    assert_eq!(overview["stations"], cloud.read("/api/v1/farms/fallon/stations").await);
    assert_eq!(overview["stations"][0]["latest"], station["latest"]);
    let (status, problem) = cloud.get("/api/v1/farms/fallon/stations/n3").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!((&problem["field"], &problem["value"]), (&"station".into(), &"n3".into()));
}

#[tokio::test]
async fn a_series_is_columns_of_one_length() {
    let cloud = small_farm().await;
    let series = async |query: &str| cloud.read(&format!("/api/v1/farms/fallon/stations/n1/series?{query}")).await;
    let span = "from=2015-06-08T00:00:00Z&to=2015-06-09T00:00:00%2B00:00";

    let raw = series(&format!("{span}&channel=soil_moisture_20cm")).await;
    insta::assert_json_snapshot!(raw);
    let hours = series(&format!("{span}&resolution=hour&channel=soil_moisture_20cm")).await;
    assert_eq!(hours["series"][0]["time"], json!([1_433_757_600, 1_433_761_200]));
    assert_eq!(hours["series"][0]["count"], json!([2, 1]));
    assert_eq!(hours["series"][0]["rejected"], json!([2, 1]));
    assert_eq!(hours["series"][0]["reasons"], json!([{"range": 1, "hampel": 1}, {"range": 1}]));
    let days = series(&format!("{span}&resolution=day")).await;
    assert_eq!(days["series"].as_array().unwrap().len(), 2, "all channels unless some are given");
    assert_eq!(days["series"][0]["channel"], "soil_moisture_20cm");
    assert_eq!(days["series"][0]["mean"], json!([0.5]));
    assert_eq!(days["series"][0]["reasons"], json!([{"range": 2, "hampel": 1}]));
    assert_eq!(days["series"][0]["rejected_min"], json!([-3.0]));
    assert_eq!(days["series"][1]["channel"], "rain");

    // The end is not included, a channel without points is empty, and without a span it is the last week.
    let cut =
        series("from=2015-06-08T10:00:00Z&to=2015-06-08T10:15:00Z&channel=soil_moisture_20cm&channel=pressure").await;
    assert_eq!(cut["series"][0]["count"], json!([2]));
    assert_eq!((&cut["series"][1]["channel"], &cut["series"][1]["time"]), (&"pressure".into(), &json!([])));
    assert_eq!(series("channel=rain").await["series"][0]["mean"], json!([1.5]));
}

#[tokio::test]
async fn sparklines_are_aligned() {
    let cloud = small_farm().await;
    let sparklines = cloud.read("/api/v1/farms/fallon/sparklines?channel=rain&hours=4").await;
    assert_eq!(
        sparklines,
        json!({
            "from": "2015-06-08T09:00:00Z", "to": "2015-06-08T13:00:00Z", "step_s": 3600,
            "stations": {"n1": [null, 1.5, null, null], "n2": [null, 0.0, null, null]},
        })
    );
    let week = cloud.read("/api/v1/farms/fallon/sparklines?channel=soil_moisture_20cm").await;
    assert_eq!(week["stations"]["n1"].as_array().unwrap().len(), 168);
    assert_eq!(week["stations"]["n2"], json!(null));
}

#[tokio::test]
async fn alerts_come_in_pages_newest_first() {
    let cloud = Cloud::start().await;
    let opened = |n: i64| {
        let mut alert =
            alert(if n % 2 == 0 { "n1" } else { "n2" }, &time("2015-06-01T00:00:00Z").plus_secs(n / 2).to_string());
        alert.closed = (n % 5 == 0).then_some(time("2015-06-02T00:00:00Z"));
        alert
    };
    cloud.store(&alerts(1, (0..25).map(opened))).await;
    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = cloud.read(&format!("/api/v1/farms/fallon/alerts?limit=10{next}")).await;
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|a| (a["opened"].as_str().unwrap().to_owned(), a["id"].as_str().unwrap().to_owned())),
        );
        let Some(cursor) = page["next"].as_str() else {
            break;
        };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");

    let count = async |query: &str| {
        let page = cloud.read(&format!("/api/v1/farms/fallon/alerts?{query}")).await;
        page["items"].as_array().unwrap().len()
    };
    assert_eq!(count("state=open").await, 20);
    assert_eq!(count("state=closed").await, 5);
    assert_eq!(count("state=all&station=n2").await, 12);
    assert_eq!(count("station=n9").await, 0);
}

#[tokio::test]
async fn decisions_come_once_and_in_pages_newest_first() {
    let cloud = Cloud::start().await;
    let at = |n: i64| time("2015-06-01T00:00:00Z").plus_secs(900 * n).to_string();
    assert_eq!(cloud.store(&decisions(1, (0..25).map(|n| decision(&at(n), n == 20)))).await, 25);
    // Of another store of the gateway, which counts anew: what is there stays.
    let again = proto::UplinkBatch { store: 99, ..decisions(1, [decision(&at(3), true), decision(&at(25), false)]) };
    cloud.store(&again).await;
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = cloud.read(&format!("/api/v1/farms/fallon/decisions?limit=10{next}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|d| d["at"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(seen, (0..26).rev().map(at).collect::<Vec<_>>());

    let page = cloud.read(&format!("/api/v1/farms/fallon/decisions?field=north&from={}&to={}", at(20), at(21))).await;
    let expected = json!([{
        "id": "north/1433134800000", "field": "north", "at": at(20), "cause": "due", "mm": 47.5, "minutes": 475,
        "reason": "48 mm are missing in the root zone", "depletion_mm": 48.0, "total_mm": 84.0, "readily_mm": 46.2,
        "rain_mm": null, "probes": 6, "untrusted": 1, "stations": ["n1"], "confirmed": [],
    }]);
    assert_eq!((&page["items"], &page["next"]), (&expected, &json!(null)));
    let first = cloud.read(&format!("/api/v1/farms/fallon/decisions?from={}&to={}", at(3), at(4))).await;
    assert_eq!(first["items"][0]["cause"], "moist", "a decision never changes");
    let none = cloud.read("/api/v1/farms/fallon/decisions?field=east").await;
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn who_has_carried_a_decision_out_is_added_and_never_taken_back() {
    let cloud = Cloud::start().await;
    let told = |confirmed: &[&str]| {
        let of = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let due = decision("2015-06-01T05:00:00Z", true);
        proto::Decision { stations: of(&["n1", "n2"]), confirmed: of(confirmed), ..due }
    };
    let confirmed = async || {
        let page = cloud.read("/api/v1/farms/fallon/decisions").await;
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "it is one decision, however often it is told: {items:?}");
        items[0]["confirmed"].clone()
    };
    assert_eq!(cloud.store(&decisions(1, [told(&[])])).await, 1);
    assert_eq!(confirmed().await, json!([]));
    cloud.store(&decisions(2, [told(&["n2"]), told(&["n2", "n1"])])).await;
    assert_eq!(confirmed().await, json!(["n2", "n1"]));
    let old = proto::UplinkBatch { store: 99, ..decisions(1, [told(&["n2"])]) };
    cloud.store(&old).await;
    assert_eq!(confirmed().await, json!(["n2", "n1"]), "what an older copy of the gateway's store says");
}

#[tokio::test]
async fn a_parameter_that_cannot_be_used_is_named_with_its_value() {
    let cloud = small_farm().await;
    let series = "/stations/n1/series";
    for (path, query, field, value) in [
        (series, "resolution=minute", "resolution", "minute"),
        (series, "from=yesterday", "from", "yesterday"),
        (series, "channel=mud_20cm", "channel", "mud_20cm"),
        (series, "from=2015-06-08T00:00:00Z&to=2015-06-08T00:00:00Z", "from", "2015-06-08T00:00:00Z"),
        (series, "to=2015-06-08T00:00:00Z&to=2015-06-09T00:00:00Z", "to", "2015-06-09T00:00:00Z"),
        (series, "chanel=rain", "chanel", "rain"),
        ("/sparklines", "", "channel", ""),
        ("/sparklines", "channel=rain&hours=0", "hours", "0"),
        ("/sparklines", "channel=rain&hours=745", "hours", "745"),
        ("/alerts", "state=opened", "state", "opened"),
        ("/alerts", "limit=201", "limit", "201"),
        ("/alerts", "cursor=7", "cursor", "7"),
        ("/alerts", "station=N%201", "station", "N 1"),
        ("/decisions", "field=N%201", "field", "N 1"),
        ("/decisions", "from=yesterday", "from", "yesterday"),
    ] {
        let (status, problem) = cloud.get(&format!("/api/v1/farms/fallon{path}?{query}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}?{query}: {problem}");
        assert_eq!((&problem["field"], &problem["value"]), (&field.into(), &value.into()), "{problem}");
        assert_eq!(problem["type"], "urn:tilth:problem:parameter");
        assert!(problem["detail"].as_str().unwrap().starts_with(field));
    }
}

#[tokio::test]
async fn too_many_points_are_refused_and_not_cut() {
    let cloud = Cloud::start().await;
    cloud.store(&windows(1, [window("n1", "2015-06-08T00:00:00Z").with("rain", &[1.0], &[])])).await;
    let hours =
        "INSERT INTO aggregate_hourly SELECT farm_id, station_id, channel, start - n * interval '1 hour', count,
            min, mean, max, stddev, rejected_range, rejected_rate, rejected_hampel, rejected_late, rejected_future,
            rejected_duplicate FROM aggregate_hourly, generate_series(1, 50000) AS n";
    sqlx::query(hours).execute(&cloud.pool).await.unwrap();
    let series = "/api/v1/farms/fallon/stations/n1/series?resolution=hour&to=2015-06-09T00:00:00Z&from";
    let (status, problem) = cloud.get(&format!("{series}=2000-01-01T00:00:00Z")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem["detail"].as_str().unwrap().contains("more than 50000 points"), "{problem}");
    let points = cloud.read(&format!("{series}=2010-01-01T00:00:00Z")).await;
    assert_eq!(points["series"][0]["time"].as_array().unwrap().len(), 47_617);
}
