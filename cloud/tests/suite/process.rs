//! The program: its command line, its start, its end, and what operators set up.

use std::process::{Command, Stdio};

use cloud::api::types::Role;
use cloud::setup;

use crate::support::cloud::{Cloud, FARMER, farm};
use crate::support::{postgres, until};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cloud"))
}

#[test]
fn the_program_prints_the_document() {
    let output = program().arg("openapi").output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), cloud::api::openapi_json());
}

#[test]
fn a_start_that_cannot_be_gives_one_line_and_a_code() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cloud.toml");
    let run = |config: &str| {
        std::fs::write(&path, config).unwrap();
        let output = program().arg("--config").arg(&path).env("RUST_LOG", "off").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.lines().count(), 1, "{error}");
        (output.status.code(), error)
    };
    let (code, error) = run("database_url = 7\n");
    assert_eq!(code, Some(2));
    assert!(error.contains("cloud.toml line 1: invalid type: integer `7`, expected a string"), "{error}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, error) = run(&format!("database_url = \"postgres://127.0.0.1:1/x\"\nlisten = \"{address}\"\n"));
    assert_eq!(code, Some(1));
    assert!(error.starts_with(&format!("cloud: listen = \"{address}\": Address already in use")), "{error}");

    let (code, error) = run("database_url = \"postgres://u:secret@127.0.0.1:1/x\"\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(code, Some(1));
    assert!(error.starts_with("cloud: database x at 127.0.0.1 port 1: ") && !error.contains("secret"), "{error}");

    let output = program().args(["--config", "/nowhere/cloud.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn the_program_serves_and_ends_in_order_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    let (path, ready) = (directory.path().join("cloud.toml"), directory.path().join("ready.json"));
    let url = postgres::database().await;
    std::fs::write(&path, format!("database_url = {url:?}\nlisten = \"127.0.0.1:0\"\nready_file = {ready:?}\n"))
        .unwrap();
    let mut child = program().arg("serve").arg("--config").arg(&path).stderr(Stdio::null()).spawn().unwrap();
    let text = until("the ready file", async || std::fs::read_to_string(&ready).ok()).await;
    let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
    rustls::crypto::ring::default_provider().install_default().ok();
    let answer = reqwest::get(format!("http://{}/readyz", ready["http"].as_str().unwrap())).await.unwrap();
    assert!(answer.status().is_success());
    let killed = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let status = until("the end", async || child.try_wait().unwrap()).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn setting_up_again_changes_what_is_there() {
    let cloud = Cloud::start().await;
    let mut changed = farm("fallon", "Fallon Farms");
    changed.fields[0].crop = "maize".to_owned();
    setup::create_or_update_farm(&cloud.pool, &changed).await.unwrap();
    let overview = cloud.read("/api/v1/farms/fallon").await;
    assert_eq!(overview["farm"]["name"], "Fallon Farms");
    assert_eq!(overview["fields"][0]["crop"], "maize");

    assert!(setup::user_exists(&cloud.pool, " FARMER@example.org").await.unwrap());
    assert!(!setup::user_exists(&cloud.pool, "nobody@example.org").await.unwrap());
    setup::create_user(&cloud.pool, FARMER.0, "another", Role::Viewer, &[]).await.unwrap();
    cloud.log_in((FARMER.0, "another")).await;
    assert_eq!(cloud.read("/api/v1/me").await["role"], "viewer");
    assert_eq!(cloud.read("/api/v1/me").await["farms"][0]["id"], "fallon", "farms are added, not taken");

    setup::create_gateway(&cloud.pool, &changed.id, &"g1".parse().unwrap(), "Barn", "new-token").await.unwrap();
    let (status, _) = cloud.send_bytes(vec![], "token-of-g1").await;
    assert_eq!(status, reqwest::StatusCode::UNAUTHORIZED);
    let (status, _) = cloud.send_bytes(vec![], "new-token").await;
    assert_eq!(status, reqwest::StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_cannot_be_set_up_is_named() {
    let cloud = Cloud::start().await;
    let mut wrong = farm("mars", "Mars");
    wrong.timezone = "Mars/Olympus".to_owned();
    let error = setup::create_or_update_farm(&cloud.pool, &wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "farm \"mars\": time zone \"Mars/Olympus\" is not known");
    let mut wrong = farm("wet", "Wet");
    wrong.fields[1].wilting_point = 0.9;
    let error = setup::create_or_update_farm(&cloud.pool, &wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "farm \"wet\": field \"south\"");
    assert_eq!(cloud.count("SELECT count(*) FROM farm WHERE farm_id IN ('mars', 'wet')").await, 0);
    let error = setup::create_user(&cloud.pool, "nobody", "x", Role::Viewer, &[]).await.unwrap_err();
    assert_eq!(error.to_string(), "e-mail address \"nobody\" has no @");
    let gateway = setup::create_gateway(&cloud.pool, &wrong.id, &"g1".parse().unwrap(), "", "t").await.unwrap_err();
    assert_eq!(gateway.to_string(), "farm \"wet\": gateway \"g1\"");
}
