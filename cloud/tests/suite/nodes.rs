//! Models for nodes: registered and signed, and rolled out by farm.

use cloud::api::types::Role;
use cloud::setup;
use proto::rollout::Order;
use proto::{Channel, NodeModelFile, NodeRollout, Quantity};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::cloud::{Cloud, answer};

const NODES: &str = "/api/v1/farms/fallon/node-models";

/// A model of one channel.
fn file(version: &str) -> Vec<u8> {
    let channels = [Channel::at(Quantity::SoilMoisture, 20)];
    let file = NodeModelFile::persistence(version.parse().unwrap(), &channels, vec![(0.3, 0.1)], 2);
    file.encode().unwrap()
}

async fn push(cloud: &Cloud, name: &str, bytes: Vec<u8>) -> (StatusCode, Value) {
    let form =
        Form::new().text("name", name.to_owned()).text("trained_on", "nothing").part("model", Part::bytes(bytes));
    answer(cloud.request(Method::POST, "/api/v1/node-models").multipart(form).send().await.unwrap()).await
}

async fn set(cloud: &Cloud, body: Value) -> (StatusCode, Value) {
    answer(cloud.request(Method::PUT, NODES).json(&body).send().await.unwrap()).await
}

async fn signed(cloud: &Cloud) -> NodeRollout {
    NodeRollout::parse(&cloud.verified().await.target("nodes.fallon.json").await).unwrap()
}

#[tokio::test]
async fn a_model_for_nodes_is_registered_whole_or_not_at_all() {
    let cloud = Cloud::start().await;
    let (status, pushed) = push(&cloud, "soil-node", file("1.0.0")).await;
    assert_eq!(status, StatusCode::CREATED, "{pushed}");
    assert_eq!((&pushed["version"], &pushed["channels"]), (&json!("1.0.0"), &json!(["soil_moisture_20cm"])));
    assert_eq!((&pushed["steps"], &pushed["hidden"], &pushed["trained_on"]), (&json!(2), &json!(2), &json!("nothing")));
    assert_eq!(cloud.read("/api/v1/node-models").await["items"], json!([pushed]));
    assert_eq!(cloud.verified().await.target("soil-node-1.0.0.node").await, file("1.0.0"));

    let (status, problem) = push(&cloud, "soil-node", file("1.0.0")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("with the same content"), "{problem}");
    let mut damaged = file("1.1.0");
    damaged[40] ^= 1;
    for (name, bytes, words) in [
        ("soil-node", damaged, "model: its checksum is "),
        ("soil-node", vec![0; 4000], "model: it does not begin with TNM1"),
        ("Soil", file("1.1.0"), "name: \"Soil\" is not 1 to 64 characters"),
    ] {
        let (status, problem) = push(&cloud, name, bytes).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{words}: {problem}");
    }
    let (status, _) = push(&cloud, "soil-node", vec![0; 5000]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(cloud.count("SELECT count(*) FROM node_model_version").await, 1);
    assert_eq!(cloud.count("SELECT count(*) FROM blob").await, 1);
}

#[tokio::test]
async fn a_rollout_is_a_signed_target_and_what_is_not_said_stays() {
    let cloud = Cloud::start().await;
    for version in ["1.0.0", "1.1.0"] {
        push(&cloud, "soil-node", file(version)).await;
    }
    let nothing = cloud.read(NODES).await;
    assert_eq!((&nothing["rollout"], &nothing["gateways"][0]["nodes"]), (&Value::Null, &Value::Null));
    let (status, first) = set(&cloud, json!({"name": "soil-node", "version": "1.0.0", "stations": ["n1"]})).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!((&first["rollout"]["serial"], &first["rollout"]["by"]), (&json!(1), &json!("farmer@example.org")));
    let rollout = signed(&cloud).await;
    assert_eq!((rollout.serial, rollout.order, rollout.share, rollout.most_failed), (1, Order::Go, 0.0, 0.1));
    assert_eq!(rollout.stations, ["n1".parse().unwrap()].into());

    set(&cloud, json!({"share": 0.25, "most_failed": 0.5})).await;
    set(&cloud, json!({"order": "pause"})).await;
    let rollout = signed(&cloud).await;
    assert_eq!((rollout.serial, rollout.order, rollout.share, rollout.most_failed), (3, Order::Pause, 0.25, 0.5));
    assert_eq!((rollout.version.to_string().as_str(), rollout.stations.len()), ("1.0.0", 1));
    // Another model begins with nobody.
    set(&cloud, json!({"version": "1.1.0"})).await;
    let rollout = signed(&cloud).await;
    assert_eq!((rollout.serial, rollout.share, rollout.most_failed, rollout.stations.len()), (4, 0.0, 0.1, 0));

    for (body, status, words) in [
        (json!({"version": "9.9.9"}), StatusCode::NOT_FOUND, "9.9.9"),
        (json!({"version": "\u{0}"}), StatusCode::NOT_FOUND, "soil-node"),
        (json!({"share": 1.5}), StatusCode::UNPROCESSABLE_ENTITY, "share: 1.5 is not 0 to 1"),
        (json!({"stations": ["No station"]}), StatusCode::UNPROCESSABLE_ENTITY, "is no station's name"),
        (json!({"order": "stop"}), StatusCode::BAD_REQUEST, "stop"),
    ] {
        let (found, problem) = set(&cloud, body.clone()).await;
        assert_eq!(found, status, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{words}: {problem}");
    }
    assert_eq!(signed(&cloud).await.serial, 4, "nothing has changed");
}

#[tokio::test]
async fn who_only_looks_changes_nothing() {
    let mut cloud = Cloud::start().await;
    push(&cloud, "soil-node", file("1.0.0")).await;
    let farm = "fallon".parse().unwrap();
    setup::create_user(&cloud.pool, "viewer@example.org", "secret", Role::Viewer, &[farm]).await.unwrap();
    cloud.cookie = Some(cloud.log_in(("viewer@example.org", "secret")).await);
    let (status, _) = set(&cloud, json!({"name": "soil-node", "version": "1.0.0", "share": 1.0})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(push(&cloud, "soil-node", file("1.1.0")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(cloud.read(NODES).await["rollout"], Value::Null);
}
