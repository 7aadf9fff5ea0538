//! What gateways made of their models is kept, and browsers hear of it.

use std::time::Duration;

use proto::update::{ActiveVersion, ModelStatus, Reason, Refusal};
use proto::{GatewayStatus, Untimely, UpdateStatus};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::events::Stream;
use crate::support::cloud::{Cloud, TOKEN, answer};
use crate::support::models::model;
use crate::support::records::{WindowExt as _, time, window, windows};

const EVENTS: &str = "/api/v1/farms/fallon/models/events";

fn status(update: UpdateStatus) -> GatewayStatus {
    let now = time("2015-06-08T12:00:00Z");
    GatewayStatus {
        at: now,
        started: now,
        version: "0.1.0".to_owned(),
        models: Vec::new(),
        stations: 0,
        connected: 0,
        backlog: [].into(),
        backlog_oldest: None,
        uplink: proto::UplinkStatus::default(),
        disk_bytes: 0,
        readings: 0,
        rejected: [].into(),
        untimely: [].into(),
        update,
    }
}

fn runs(version: &str, since: &str, refusals: Vec<Refusal>) -> UpdateStatus {
    let active = ActiveVersion {
        version: version.to_owned(),
        digest: version.repeat(3),
        since: time(since),
        why: format!("{version} came"),
    };
    let model = ModelStatus { name: "soil-anomaly".to_owned(), active, previous: None, candidate: None, refusals };
    UpdateStatus { checked: Some(time(since)), models: vec![model], ..UpdateStatus::default() }
}

fn refusal(version: Option<&str>, reason: Reason, at: &str) -> Refusal {
    let text = "expected 0.25, got 0.75".to_owned();
    Refusal { version: version.map(str::to_owned), digest: None, reason, text, at: time(at) }
}

async fn report(cloud: &Cloud, update: &UpdateStatus) -> (StatusCode, Value) {
    let request = cloud.request(Method::POST, "/api/v1/uplink/status").bearer_auth(TOKEN);
    answer(request.json(&status(update.clone())).send().await.unwrap()).await
}

#[tokio::test]
async fn what_a_gateway_made_of_its_models_is_kept_once() {
    let cloud = Cloud::start().await;
    let golden = refusal(Some("1.1.0"), Reason::Golden, "2015-06-08T12:01:00Z");
    let panic = refusal(Some("1.2.0"), Reason::Panic, "2015-06-08T12:03:00Z");
    let reports = [
        runs("1.0.0", "2015-06-08T12:00:00Z", Vec::new()),
        runs("1.0.0", "2015-06-08T12:00:00Z", vec![golden.clone()]),
        runs("1.2.0", "2015-06-08T12:02:00Z", vec![golden.clone()]),
        runs("1.0.0", "2015-06-08T12:03:01Z", vec![panic, golden]),
    ];
    for update in &reports {
        for _ in 0..2 {
            assert_eq!(report(&cloud, update).await.0, StatusCode::NO_CONTENT);
        }
    }
    // A report that comes late and again adds nothing.
    report(&cloud, &reports[2]).await;
    report(&cloud, &reports[3]).await;

    let page = cloud.read(EVENTS).await;
    let words = |event: &Value| {
        let word = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", word("kind"), word("version"), word("reason"))
    };
    let events: Vec<String> = page["items"].as_array().unwrap().iter().map(words).collect();
    let expected = [
        "activated 1.0.0 -",
        "rolled_back 1.2.0 panic",
        "activated 1.2.0 -",
        "refused 1.1.0 golden",
        "activated 1.0.0 -",
    ];
    assert_eq!((events.as_slice(), &page["next"]), (&expected.map(str::to_owned)[..], &Value::Null));
    let refused = json!({
        "gateway": "g1", "model": "soil-anomaly", "at": "2015-06-08T12:01:00Z", "kind": "refused", "version": "1.1.0",
        "reason": "golden", "text": "expected 0.25, got 0.75",
    });
    assert_eq!(page["items"][3], refused);

    // In pages.
    let first = cloud.read(&format!("{EVENTS}?limit=2")).await;
    assert_eq!(first["items"].as_array().unwrap()[..], page["items"].as_array().unwrap()[..2]);
    let cursor = first["next"].as_str().unwrap();
    let rest = cloud.read(&format!("{EVENTS}?limit=200&cursor={cursor}")).await;
    assert_eq!(rest["items"].as_array().unwrap()[..], page["items"].as_array().unwrap()[2..]);
    for wrong in ["?limit=0", "?limit=201", "?cursor=x", "?since=1"] {
        assert_eq!(cloud.get(&format!("{EVENTS}{wrong}")).await.0, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let update = &cloud.read("/api/v1/farms/fallon").await["gateways"][0]["status"]["update"];
    assert_eq!(update["models"][0]["refusals"][0]["reason"], "panic");
    assert_eq!(cloud.read("/api/v1/farms/fallon/models").await["gateways"][0]["update"], *update);
}

#[tokio::test]
async fn a_refused_registry_is_an_event_when_its_reason_is_new() {
    let cloud = Cloud::start().await;
    for (reason, at) in [
        (Reason::Expired, "2015-06-08T12:01:00Z"),
        (Reason::Expired, "2015-06-08T12:02:00Z"),
        (Reason::Signatures, "2015-06-08T12:03:00Z"),
    ] {
        let mut update = runs("1.0.0", "2015-06-08T12:00:00Z", Vec::new());
        update.refusal = Some(refusal(None, reason, at));
        report(&cloud, &update).await;
    }
    let page = cloud.read(EVENTS).await;
    let reasons: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|event| &event["reason"]).collect();
    assert_eq!(reasons, [&json!("signatures"), &json!("expired"), &Value::Null]);
    assert_eq!((&page["items"][0]["model"], &page["items"][0]["version"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn a_report_that_cannot_be_stored_is_refused() {
    let cloud = Cloud::start().await;
    let mut update = runs("1.0.0", "2015-06-08T12:00:00Z", Vec::new());
    update.models[0].active.why = "a\0b".to_owned();
    let (status, problem) = report(&cloud, &update).await;
    assert_eq!((status, &problem["value"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("a\\u{0}b")));
    // More than any gateway says is not kept.
    let mut long = runs("1.0.0", "2015-06-08T12:00:00Z", Vec::new());
    long.models[0].active.why = "why ".repeat(10_000);
    let one = long.models[0].clone();
    long.models = (0..40).map(|n| ModelStatus { name: format!("model-{n}"), ..one.clone() }).collect();
    long.models[0].refusals =
        (0..40).map(|n| refusal(Some(&format!("1.{n}.0")), Reason::Crash, "2015-06-08T12:00:00Z")).collect();
    for model in &mut long.models[1..] {
        model.active.why.clear();
    }
    assert_eq!(report(&cloud, &long).await.0, StatusCode::NO_CONTENT);
    assert_eq!(cloud.count("SELECT count(*) FROM model_event").await, 16 + 8);
    assert_eq!(cloud.count("SELECT max(length(message))::bigint FROM model_event").await, 1000);
}

#[tokio::test]
async fn browsers_hear_of_pushes_and_assignments() {
    let cloud = Cloud::start().await;
    let other = cloud.another().await;
    let mut stream = Stream::open(&other, "fallon").await;
    cloud.push(&model("1.0.0")).await;
    let change = tokio::time::timeout(Duration::from_secs(30), stream.change()).await.unwrap();
    assert_eq!((&change["kind"], &change["stations"]), (&json!("models"), &json!([])));
    assert!(change["until"].as_str().unwrap().starts_with("2015-06-08T12:"), "{change}");
    let request = cloud.request(Method::PUT, "/api/v1/farms/fallon/models/soil-anomaly");
    let assigned = request.json(&json!({"version": "1.0.0"})).send().await.unwrap();
    assert_eq!(assigned.status(), StatusCode::OK);
    assert_eq!(stream.change().await["kind"], "models");
}

#[tokio::test]
async fn what_a_station_sent_at_wrong_times_is_shown_with_the_station_by_reason() {
    let cloud = Cloud::start().await;
    cloud.store(&windows(1, [window("n1", "2015-06-08T11:00:00Z").with("rain", &[1.0], &[])])).await;
    let say = async |untimely: Vec<(String, Untimely)>| {
        let untimely = untimely.into_iter().map(|(station, counts)| (station.parse().unwrap(), counts)).collect();
        let status = GatewayStatus { untimely, ..status(UpdateStatus::default()) };
        let request = cloud.request(Method::POST, "/api/v1/uplink/status").bearer_auth(TOKEN);
        assert_eq!(request.json(&status).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    };
    let shown = async || cloud.read("/api/v1/farms/fallon/stations/n1").await["untimely"].clone();
    say(vec![("n1".to_owned(), Untimely { late: 3, future: 0, clock: 7 })]).await;
    assert_eq!(shown().await, json!({"late": 3, "future": 0, "clock": 7}));
    // A report that tells of others takes nothing back, and one that counts further replaces.
    say(vec![("n2".to_owned(), Untimely { late: 1, ..Untimely::default() })]).await;
    assert_eq!(shown().await, json!({"late": 3, "future": 0, "clock": 7}));
    // And that is all that is known of this one: it is listed, and says what was rejected of it.
    let stations = cloud.read("/api/v1/farms/fallon/stations").await;
    let listed: Vec<&serde_json::Value> = stations.as_array().unwrap().iter().collect();
    assert_eq!(listed.iter().map(|station| &station["id"]).collect::<Vec<_>>(), ["n1", "n2"]);
    assert_eq!((&listed[1]["last_heard"], &listed[1]["latest"]), (&json!(null), &json!([])));
    let other = cloud.read("/api/v1/farms/fallon/stations/n2").await;
    assert_eq!(other["untimely"], json!({"late": 1, "future": 0, "clock": 0}));
    say(vec![("n1".to_owned(), Untimely { late: 4, future: u64::MAX, clock: 7 })]).await;
    assert_eq!(shown().await, json!({"late": 4, "future": i64::MAX, "clock": 7}));
    // More than any gateway tells of at a time is not kept.
    say((0..100).map(|n| (format!("x{n:02}"), Untimely::default())).collect()).await;
    assert_eq!(cloud.count("SELECT count(*) FROM untimely").await, 2 + 20);
}
