//! A model for the nodes themselves goes from the registry through the gateway to the stations, in stages; or is refused, or
//! goes back by itself, and everybody is told why.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use node_sim::Pace;
use serde_json::Value;
use tests::farm::{Farm, PATIENCE, Setup};

const NAME: &str = "soil-node";

/// Runs `tilth node-model` against the farm's cloud.
async fn node_model(farm: &Farm, arguments: &[&str]) -> Output {
    let mut command = Command::new(tests::tilth());
    command
        .arg("node-model")
        .args(arguments)
        .env("TILTH_CLOUD", format!("http://{}", farm.plan.cloud))
        .env("TILTH_EMAIL", tilth::farm::USER)
        .env("TILTH_PASSWORD", &farm.secrets.user);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn succeeds(farm: &Farm, arguments: &[&str]) -> Value {
    let output = node_model(farm, &[arguments, &["--json"]].concat()).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}; gateway: {}", farm.log("gateway"));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks until what the cloud says holds.
async fn until(farm: &Farm, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let nodes = succeeds(farm, &["show"]).await["gateways"][0]["nodes"].clone();
        if holds(&nodes) {
            return nodes;
        }
        let logs = (farm.log("gateway"), farm.log("node-sim"));
        assert!(began.elapsed() < PATIENCE, "{what}: in vain, {nodes:#}; {logs:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn station<'a>(nodes: &'a Value, name: &str) -> &'a Value {
    let all = nodes["stations"].as_array();
    all.into_iter().flatten().find(|station| station["station"] == name).unwrap_or(&Value::Null)
}

async fn push(farm: &Farm, dir: &Path, version: &str, always: bool) -> Value {
    let path = dir.join(format!("{version}.node"));
    std::fs::write(&path, tests::models::for_nodes(version, always)).unwrap();
    succeeds(farm, &["push", path.to_str().unwrap(), "--name", NAME]).await
}

/// Three stations whose time runs so fast that a probation takes less than a minute.
fn setup() -> Setup {
    Setup { pace: Pace::Scale, speed: 3600.0, node_models: true, ..Setup::new(3, 3650) }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_station_first_then_all_and_a_bad_model_goes_back_everywhere_and_stops_its_stage() {
    let farm = Farm::start(setup()).await;
    let dir = tempfile::tempdir().unwrap();
    let pushed = push(&farm, dir.path(), "1.0.0", false).await;
    assert_eq!((pushed["name"].as_str(), pushed["version"].as_str()), (Some(NAME), Some("1.0.0")));
    let again = node_model(&farm, &["push", dir.path().join("1.0.0.node").to_str().unwrap(), "--name", NAME]).await;
    assert_eq!(again.status.code(), Some(1));

    let after = succeeds(&farm, &["stage", NAME, "1.0.0", "--station", "n1", "--wait"]).await;
    let nodes = &after["gateways"][0]["nodes"];
    assert_eq!((&nodes["in_stage"], &nodes["active"]), (&1.into(), &1.into()), "{nodes:#}");
    assert_eq!(station(nodes, "n1")["active"], "1.0.0");
    for other in ["e1", "c1"] {
        let other = station(nodes, other);
        assert_eq!(
            (&other["active"], &other["state"], &other["in_stage"]),
            (&Value::Null, &"idle".into(), &false.into())
        );
    }
    let after = succeeds(&farm, &["stage", NAME, "1.0.0", "--share", "1", "--wait"]).await;
    let nodes = &after["gateways"][0]["nodes"];
    assert_eq!((&nodes["active"], &nodes["phase"]), (&3.into(), &"done".into()), "{nodes:#}");

    push(&farm, dir.path(), "1.1.0", true).await;
    succeeds(&farm, &["stage", NAME, "1.1.0", "--share", "1"]).await;
    let back = |station: &Value| station["state"] == "rolled_back" && station["active"] == "1.0.0";
    let nodes = until(&farm, "every station has gone back", |nodes| {
        ["n1", "e1", "c1"].iter().all(|name| back(station(nodes, name)))
    })
    .await;
    for name in ["n1", "e1", "c1"] {
        let station = station(&nodes, name);
        assert_eq!((&station["candidate"], &station["reason"]), (&"1.1.0".into(), &"alerts".into()), "{station:#}");
    }
    assert_eq!(nodes["phase"], "stopped");
    assert!(nodes["text"].as_str().unwrap().contains("of 3 stations refused it or rolled it back"), "{nodes:#}");
    farm.sees("word of the stop", "SELECT count(*) FROM model_event WHERE reason = 'stopped' AND version = '1.1.0'")
        .await;
    let waited = node_model(&farm, &["stage", NAME, "1.1.0", "--share", "1", "--wait"]).await;
    let error = String::from_utf8(waited.stderr).unwrap();
    assert!(waited.status.code() == Some(1) && error.contains("has stopped the stage"), "{error}");

    // What is good can still be taken back, and then it is for good.
    succeeds(&farm, &["stage", NAME, "1.0.0", "--share", "1"]).await;
    succeeds(&farm, &["abort"]).await;
    let gone = |station: &Value| station["active"].is_null() && station["reason"] == "told";
    until(&farm, "nobody runs it", |nodes| ["n1", "e1", "c1"].iter().all(|name| gone(station(nodes, name)))).await;
    let shown = String::from_utf8(node_model(&farm, &["show"]).await.stdout).unwrap();
    assert!(shown.contains("soil-node 1.0.0: abort") && shown.contains("rolled_back  told"), "{shown}");
}

/// One station's program hangs now and then: its watchdog resets it, and after the third time it has no new model any more. On another
/// station the same model is on probation, and then not any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_station_whose_watchdog_bites_takes_its_new_model_back_and_the_others_keep_it() {
    let hangs = "[[fault]]\nstation = \"e1\"\nkind = \"hang\"\nstart = \"0h\"\nend = \"3650d\"\nrate = 0.3\n";
    let farm = Farm::start(Setup { scenario: Some(hangs.to_owned()), ..setup() }).await;
    let dir = tempfile::tempdir().unwrap();
    push(&farm, dir.path(), "1.0.0", false).await;
    succeeds(&farm, &["stage", NAME, "1.0.0", "--station", "n1", "--wait"]).await;
    let probation = |nodes: &Value| station(nodes, "n1")["on_probation"].clone();
    until(&farm, "the model is on probation", |nodes| probation(nodes) == true).await;

    succeeds(&farm, &["stage", NAME, "1.0.0", "--station", "n1", "--station", "e1"]).await;
    let nodes =
        until(&farm, "the station that hangs has gone back", |nodes| station(nodes, "e1")["state"] == "rolled_back")
            .await;
    let hung = station(&nodes, "e1");
    assert_eq!(
        (&hung["reason"], &hung["candidate"], &hung["active"], &hung["on_probation"]),
        (&"watchdog".into(), &"1.0.0".into(), &Value::Null, &false.into()),
        "{nodes:#}"
    );
    let nodes = until(&farm, "the probation is over", |nodes| probation(nodes) == false).await;
    assert_eq!(
        (&station(&nodes, "n1")["active"], &station(&nodes, "n1")["state"]),
        (&"1.0.0".into(), &"active".into())
    );
}

/// Lets so much time be between two chunks, from the gateway's next start on.
fn pause(farm: &Farm, ms: u32) {
    let path = farm.plan.data_dir.join("config/gateway.toml");
    let mut config: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let nodes = config.get_mut("nodes").and_then(toml::Value::as_table_mut).unwrap();
    nodes.insert("pause_ms".to_owned(), i64::from(ms).into());
    std::fs::write(&path, config.to_string()).unwrap();
}

/// Waits until what the gateway keeps on its own disk holds.
async fn on_disk<T>(farm: &Farm, what: &str, query: &str, holds: impl Fn(T) -> bool) -> T
where
    T: rusqlite::types::FromSql + Clone,
{
    let path = farm.plan.data_dir.join("gateway/models/nodes.sqlite");
    let began = Instant::now();
    loop {
        let store = rusqlite::Connection::open(&path).unwrap();
        let found: Option<T> = store.query_row(query, (), |row| row.get(0)).ok();
        if let Some(found) = found.filter(|found| holds(found.clone())) {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: in vain; {}", farm.log("gateway"));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_go_on_where_they_were_when_gateway_and_nodes_are_killed() {
    let mut farm = Farm::new(Setup { speed: 240.0, ..setup() }).await;
    // There is time to look between two chunks, however busy the machine is.
    pause(&farm, 15_000);
    farm.start_cloud().await;
    farm.start_gateway().await;
    farm.start_node_sim().await;
    let dir = tempfile::tempdir().unwrap();
    push(&farm, dir.path(), "1.0.0", false).await;
    succeeds(&farm, &["stage", NAME, "1.0.0", "--station", "n1"]).await;
    let offset = |nodes: &Value| station(nodes, "n1")["offset"].as_u64().unwrap_or(0);
    let before = until(&farm, "a chunk is there", |nodes| offset(nodes) > 0).await;
    let before = (station(&before, "n1")["state"].clone(), offset(&before));
    assert_eq!(before.0, "receiving");
    farm.kill_gateway().await;
    // What is there is on disk at the gateway as well: it goes on without a cloud.
    farm.kill_cloud().await;
    farm.kill_node_sim().await;
    pause(&farm, 5_000);
    farm.start_node_sim().await;
    farm.start_gateway().await;
    let further = |status: Vec<u8>| {
        let model = proto::Status::decode(&status).unwrap().model.unwrap();
        u64::from(model.offset) > before.1 || model.active.is_some()
    };
    on_disk(&farm, "a chunk more, without a cloud", "SELECT status FROM station WHERE name = 'n1'", further).await;
    farm.kill_node_sim().await;
    farm.start_node_sim().await;
    farm.start_cloud().await;
    let nodes = until(&farm, "the model is active", |nodes| station(nodes, "n1")["active"] == "1.0.0").await;
    assert_eq!(station(&nodes, "n1")["state"], "active");
    // No byte went twice: what the node kept before it was killed was not offered again.
    let log = std::fs::read_to_string(farm.plan.data_dir.join("log/node-sim.log")).unwrap();
    let offers = log.lines().filter(|line| line.contains("OfferModel")).count();
    assert_eq!(offers, 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_were_tampered_with_are_refused_in_the_cloud_and_on_the_gateways_disk() {
    let mut farm = Farm::start(Setup { speed: 240.0, ..setup() }).await;
    let dir = tempfile::tempdir().unwrap();
    let sha256 = push(&farm, dir.path(), "1.0.0", false).await["sha256"].as_str().unwrap().to_owned();
    // Whoever owns the cloud's database may change the file, but not what is signed.
    sqlx::query("ALTER TABLE blob DROP CONSTRAINT blob_check").execute(&farm.pool).await.unwrap();
    let change =
        "UPDATE blob SET bytes = set_byte(bytes, 100, get_byte(bytes, 100) # 1) WHERE encode(sha256, 'hex') = $1";
    sqlx::query(change).bind(&sha256).execute(&farm.pool).await.unwrap();
    succeeds(&farm, &["stage", NAME, "1.0.0", "--station", "n1"]).await;
    let refused = |nodes: &Value| nodes["text"].as_str().is_some_and(|text| text.starts_with("digest: "));
    let nodes = until(&farm, "the gateway refuses it", refused).await;
    assert_eq!((&nodes["phase"], &station(&nodes, "n1")["state"]), (&"fetching".into(), &"idle".into()));

    // Put right it comes; and what is changed on the gateway's own disk it notices, and sends nothing of it.
    sqlx::query(change).bind(&sha256).execute(&farm.pool).await.unwrap();
    farm.kill_node_sim().await;
    until(&farm, "it is here", |nodes| nodes["phase"] == "going").await;
    let file = "SELECT file FROM wanted";
    let good = on_disk(&farm, "it is on disk", file, |_: Vec<u8>| true).await;
    farm.kill_gateway().await;
    farm.kill_cloud().await;
    {
        let mut file = good.clone();
        file[100] ^= 1;
        let store = rusqlite::Connection::open(farm.plan.data_dir.join("gateway/models/nodes.sqlite")).unwrap();
        store.execute("UPDATE wanted SET file = ?1", [file]).unwrap();
    }
    let heard = "SELECT at_ms FROM station WHERE name = 'n1'";
    let before = on_disk(&farm, "n1 was heard", heard, |_: i64| true).await;
    farm.start_gateway().await;
    farm.start_node_sim().await;
    // It has asked, and could have been sent what is wrong.
    on_disk(&farm, "n1 is heard again", heard, |at: i64| at > before).await;
    farm.start_cloud().await;
    let nodes = until(&farm, "the right one is active", |nodes| station(nodes, "n1")["active"] == "1.0.0").await;
    assert_eq!((&nodes["phase"], &nodes["failed"]), (&"done".into(), &0.into()), "{nodes:#}");
    on_disk(&farm, "the right one is on disk again", file, |found: Vec<u8>| found == good).await;
}
