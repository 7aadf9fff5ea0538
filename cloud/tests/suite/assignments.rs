//! What gateways are to run, and the way back.

use cloud::setup;
use proto::Assignments;
use proto::update::{ActiveVersion, ModelStatus};
use proto::{GatewayStatus, Timestamp, UpdateStatus};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::cloud::{Cloud, STRANGER, TOKEN, answer};
use crate::support::models::{Model, model, onnx};
use crate::support::records::time;

const MODELS: &str = "/api/v1/farms/fallon/models";

async fn put(cloud: &Cloud, name: &str, body: Value) -> (StatusCode, Value) {
    let request = cloud.request(Method::PUT, &format!("{MODELS}/{name}")).json(&body);
    answer(request.send().await.unwrap()).await
}

async fn activate(cloud: &Cloud, body: Value) -> Value {
    let (status, body) = put(cloud, "soil-anomaly", body).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

async fn roll_back(cloud: &Cloud, body: Value) -> (StatusCode, Value) {
    let request = cloud.request(Method::POST, &format!("{MODELS}/soil-anomaly/rollback")).json(&body);
    answer(request.send().await.unwrap()).await
}

/// Gateway, version, serial and shadow of each assignment.
fn assigned(answer: &Value) -> Vec<(String, String, u64, u64)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let (serial, shadow) = (row["serial"].as_u64().unwrap(), row["shadow_s"].as_u64().unwrap());
        (text(&row["gateway"]), text(&row["version"]), serial, shadow)
    };
    answer["assignments"].as_array().unwrap().iter().map(row).collect()
}

fn row(gateway: &str, version: &str, serial: u64, shadow_s: u64) -> (String, String, u64, u64) {
    (gateway.to_owned(), version.to_owned(), serial, shadow_s)
}

/// What the signed target of a gateway says.
async fn signed(cloud: &Cloud, gateway: &str) -> Assignments {
    let client = cloud.verified().await;
    Assignments::parse(&client.target(&format!("assignment.fallon.{gateway}.json")).await).unwrap()
}

async fn with_two_gateways() -> Cloud {
    let cloud = Cloud::start().await;
    let (farm, gateway) = ("fallon".parse().unwrap(), "g2".parse().unwrap());
    setup::create_gateway(&cloud.pool, &farm, &gateway, "Pump house", "token-of-g2").await.unwrap();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        cloud.push(&model(version)).await;
    }
    cloud
}

/// A report of "g1" that it runs a version, with another behind it.
fn runs(version: &str, previous: Option<&str>, since: Timestamp) -> GatewayStatus {
    let digest = model(version).manifest.sha256;
    let active = ActiveVersion { version: version.to_owned(), digest: digest.clone(), since, why: "tests".to_owned() };
    let running = proto::RunningModel {
        name: "soil-anomaly".to_owned(),
        version: version.to_owned(),
        task: "anomaly".to_owned(),
        since,
        digest,
    };
    let of_model = ModelStatus {
        name: "soil-anomaly".to_owned(),
        active,
        previous: previous.map(str::to_owned),
        candidate: None,
        refusals: Vec::new(),
    };
    GatewayStatus {
        at: since,
        started: since,
        version: "0.1.0".to_owned(),
        models: vec![running],
        stations: 1,
        connected: 1,
        backlog: [].into(),
        backlog_oldest: None,
        uplink: proto::UplinkStatus::default(),
        disk_bytes: 0,
        readings: 0,
        rejected: [].into(),
        untimely: [].into(),
        update: UpdateStatus { models: vec![of_model], ..UpdateStatus::default() },
    }
}

async fn report(cloud: &Cloud, status: &GatewayStatus) {
    let request = cloud.request(Method::POST, "/api/v1/uplink/status").bearer_auth(TOKEN).json(status);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_version_is_assigned_in_a_signed_target() {
    let cloud = with_two_gateways().await;
    let empty = cloud.read(MODELS).await;
    assert_eq!(empty["assignments"], json!([]));
    assert_eq!(empty["gateways"][1], json!({"id": "g2", "name": "Pump house", "update": null}));

    let answer = activate(&cloud, json!({"version": "1.0.0"})).await;
    assert_eq!(assigned(&answer), [row("g1", "1.0.0", 1, 86_400), row("g2", "1.0.0", 1, 86_400)]);
    assert_eq!(answer["assignments"][0]["by"], "farmer@example.org");
    assert!(answer["assignments"][0]["at"].as_str().unwrap().starts_with("2015-06-08T12:"), "farm time: {answer}");
    assert_eq!(cloud.read(MODELS).await, answer);

    let change = json!({"version": "1.1.0", "gateways": ["g1", "g1"], "shadow_s": 0, "min_agreement": 0.875});
    let answer = activate(&cloud, change).await;
    assert_eq!(assigned(&answer), [row("g1", "1.1.0", 2, 0), row("g2", "1.0.0", 1, 86_400)]);
    let assignment = &signed(&cloud, "g1").await.models["soil-anomaly"];
    assert_eq!((assignment.version.as_str(), assignment.serial, assignment.shadow_s), ("1.1.0", 2, 0));
    assert_eq!((assignment.min_agreement, &assignment.sha256), (0.875, &model("1.1.0").manifest.sha256));
    assert_eq!(signed(&cloud, "g2").await.models["soil-anomaly"].version, "1.0.0");

    // Another model is beside it, not in its place.
    cloud.push(&Model::of("rain-anomaly", "2.0.0", &onnx("rain"))).await;
    let (status, _) = put(&cloud, "rain-anomaly", json!({"version": "2.0.0", "gateways": ["g1"]})).await;
    assert_eq!(status, StatusCode::OK);
    let models = signed(&cloud, "g1").await.models;
    assert_eq!(models.keys().collect::<Vec<_>>(), ["rain-anomaly", "soil-anomaly"]);
    assert_eq!(models["soil-anomaly"].version, "1.1.0");
}

#[tokio::test]
async fn a_roll_back_goes_to_the_version_before_and_then_to_the_one_before_that() {
    let cloud = with_two_gateways().await;
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.2.0"] {
        activate(&cloud, json!({"version": version, "gateways": ["g1"]})).await;
    }
    assert_eq!(cloud.read(MODELS).await["assignments"][0]["before"], "1.1.0");
    let (_, answer) = roll_back(&cloud, json!({})).await;
    assert_eq!(assigned(&answer), [row("g1", "1.1.0", 5, 0)], "the same version twice is one step; g2 has nothing");
    assert_eq!(answer["assignments"][0]["before"], "1.0.0");
    let (_, answer) = roll_back(&cloud, json!({"gateways": ["g1"]})).await;
    assert_eq!(assigned(&answer), [row("g1", "1.0.0", 6, 0)], "and not forth to 1.2.0 again");
    assert_eq!(answer["assignments"][0]["before"], Value::Null);
    assert_eq!(signed(&cloud, "g1").await.models["soil-anomaly"].serial, 6);
    let (status, problem) = roll_back(&cloud, json!({"gateways": ["g1"]})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(problem["detail"], "g1: there is no version of soil-anomaly to go back to");
    activate(&cloud, json!({"version": "1.2.0", "gateways": ["g1"]})).await;
    let (_, answer) = roll_back(&cloud, json!({})).await;
    assert_eq!(assigned(&answer), [row("g1", "1.0.0", 8, 0)]);
}

#[tokio::test]
async fn before_the_first_assignment_is_what_the_gateway_reported() {
    let cloud = with_two_gateways().await;
    let since = time("2015-06-08T11:00:00Z");
    let (status, _) = roll_back(&cloud, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT, "nothing is assigned");
    activate(&cloud, json!({"version": "1.1.0", "gateways": ["g1"]})).await;
    assert_eq!(roll_back(&cloud, json!({})).await.0, StatusCode::CONFLICT, "and nothing reported");

    // It has taken over; the gateway says what it could go back to.
    report(&cloud, &runs("1.1.0", Some("1.0.0"), since)).await;
    let (_, answer) = roll_back(&cloud, json!({})).await;
    assert_eq!(assigned(&answer), [row("g1", "1.0.0", 2, 0)]);
    report(&cloud, &runs("1.0.0", Some("1.1.0"), since.plus_secs(60))).await;
    assert_eq!(roll_back(&cloud, json!({})).await.0, StatusCode::CONFLICT, "a second roll-back does not go forth");

    // It has not taken over yet; what judges is what to go back to.
    let (farm, gateway) = ("fallon".parse().unwrap(), "g2".parse().unwrap());
    setup::create_gateway(&cloud.pool, &farm, &gateway, "Pump house", "another").await.unwrap();
    activate(&cloud, json!({"version": "1.2.0", "gateways": ["g2"]})).await;
    let request = cloud.request(Method::POST, "/api/v1/uplink/status").bearer_auth("another");
    let reported = request.json(&runs("1.0.0", None, since)).send().await.unwrap();
    assert_eq!(reported.status(), StatusCode::NO_CONTENT);
    let (_, answer) = roll_back(&cloud, json!({"gateways": ["g2"]})).await;
    assert_eq!(assigned(&answer)[1], row("g2", "1.0.0", 2, 0));

    // A report that an older version stored in another shape is none, and no obstacle.
    sqlx::query("UPDATE gateway SET status = jsonb_set(status, '{update}', '7') WHERE gateway_id = 'g1'")
        .execute(&cloud.pool)
        .await
        .unwrap();
    assert_eq!(cloud.read(MODELS).await["gateways"][0]["update"], Value::Null);
    report(&cloud, &runs("1.0.0", None, since)).await;

    // What it reports must be in the registry.
    let (farm, gateway) = ("fallon".parse().unwrap(), "g3".parse().unwrap());
    setup::create_gateway(&cloud.pool, &farm, &gateway, "Hill", "a third").await.unwrap();
    activate(&cloud, json!({"version": "1.2.0", "gateways": ["g3"]})).await;
    let request = cloud.request(Method::POST, "/api/v1/uplink/status").bearer_auth("a third");
    request.json(&runs("0.1.0", None, since)).send().await.unwrap();
    assert_eq!(roll_back(&cloud, json!({"gateways": ["g3"]})).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn who_runs_a_version_is_seen_by_the_farms_people_only() {
    let mut cloud = with_two_gateways().await;
    activate(&cloud, json!({"version": "1.1.0", "gateways": ["g2"]})).await;
    let since = time("2015-06-08T11:00:00Z");
    report(&cloud, &runs("1.0.0", None, since)).await;
    let first = cloud.read("/api/v1/models/soil-anomaly/1.0.0").await;
    let expected = json!([{"farm": "fallon", "gateway": "g1", "since": "2015-06-08T11:00:00Z"}]);
    assert_eq!((&first["active_on"], &first["assigned_to"]), (&expected, &json!([])));
    let list = cloud.read("/api/v1/models").await;
    let second = list["items"].as_array().unwrap().iter().find(|item| item["version"] == "1.1.0").unwrap();
    assert_eq!(second["assigned_to"], json!([{"farm": "fallon", "gateway": "g2"}]));
    // The same number with other content is another model.
    let mut other = runs("1.1.0", None, since);
    other.models[0].digest = "0".repeat(64);
    report(&cloud, &other).await;
    assert_eq!(cloud.read("/api/v1/models/soil-anomaly/1.1.0").await["active_on"], json!([]));

    cloud.cookie = Some(cloud.log_in(STRANGER).await);
    for item in cloud.read("/api/v1/models").await["items"].as_array().unwrap() {
        assert_eq!((&item["active_on"], &item["assigned_to"]), (&json!([]), &json!([])));
    }
    assert_eq!(put(&cloud, "soil-anomaly", json!({"version": "1.1.0"})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(roll_back(&cloud, json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_assignment_that_cannot_be_is_refused_and_changes_nothing() {
    let mut cloud = with_two_gateways().await;
    let before = cloud.tuf_version("timestamp").await;
    let refuse = async |body: Value, status: StatusCode, detail: &str| {
        let (found, problem) = put(&cloud, "soil-anomaly", body).await;
        assert_eq!(found, status, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{detail}: {problem}");
    };
    refuse(json!({"version": "9.9.9"}), StatusCode::NOT_FOUND, "there is no model version \"soil-anomaly 9.9.9\"")
        .await;
    let named = json!({"version": "1.0.0", "gateways": ["g1", "g9"]});
    refuse(named, StatusCode::NOT_FOUND, "there is no gateway \"g9\"").await;
    refuse(json!({"version": "1.0.0", "gateways": []}), StatusCode::UNPROCESSABLE_ENTITY, "gateways").await;
    let beyond = json!({"version": "1.0.0", "min_agreement": 1.5});
    refuse(beyond, StatusCode::UNPROCESSABLE_ENTITY, "min_agreement: \"1.5\" must be from 0 to 1").await;
    let long = json!({"version": "1.0.0", "shadow_s": 15_552_001});
    refuse(long, StatusCode::UNPROCESSABLE_ENTITY, "shadow_s: \"15552001\" must be at most 15552000 seconds").await;
    refuse(json!({"version": "1.0.0", "shadow": 1}), StatusCode::BAD_REQUEST, "unknown field `shadow`").await;
    refuse(json!({}), StatusCode::BAD_REQUEST, "missing field `version`").await;
    refuse(json!({"version": "\0"}), StatusCode::UNPROCESSABLE_ENTITY, "is no version").await;
    assert_eq!(roll_back(&cloud, json!({"gateways": ["g9"]})).await.0, StatusCode::NOT_FOUND);

    let farm = "fallon".parse().unwrap();
    let viewer = ("viewer@example.org", "secret");
    let role = cloud::api::types::Role::Viewer;
    setup::create_user(&cloud.pool, viewer.0, viewer.1, role, std::slice::from_ref(&farm)).await.unwrap();
    cloud.cookie = Some(cloud.log_in(viewer).await);
    let (status, problem) = put(&cloud, "soil-anomaly", json!({"version": "1.0.0"})).await;
    assert_eq!((status, &problem["type"]), (StatusCode::FORBIDDEN, &json!("urn:tilth:problem:role")));
    assert_eq!(roll_back(&cloud, json!({})).await.0, StatusCode::FORBIDDEN);
    assert_eq!(cloud.read(MODELS).await["assignments"], json!([]), "looking is allowed");
    assert_eq!(cloud.tuf_version("timestamp").await, before);
}
