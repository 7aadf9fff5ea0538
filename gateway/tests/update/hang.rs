//! The whole gateway while its model hangs: stations do not notice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway::update::Journal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::update::Reason;
use proto::{Assignments, Batch, Birth, Channel, Lane, Quantity, Reading, Record, StationId, Timestamp, Window};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};

use crate::bench::{PATIENCE, assignment, target, until};
use crate::process::{MODEL, Process, next};
use crate::tuf::{Repository, Server, Signing};

const STATIONS: usize = 8;
/// What a PUBACK may take while the model hangs for ten seconds.
const LOW: Duration = Duration::from_secs(2);
/// How long the model must have hung for the test to say anything.
const LONG: Duration = Duration::from_secs(8);

/// A quarter of an hour of readings.
fn batch(start: Timestamp, sequence: u64) -> Batch {
    let reading = |i: i64| {
        let n = (sequence.cast_signed() - 1) * 3 + i;
        let value = Quantity::SoilMoisture.quantise(0.25 + 0.002 * (n % 7) as f64);
        Reading { channel: Channel::at(Quantity::SoilMoisture, 20), time: start.plus_secs(n * 300), value }
    };
    Batch { boot: 1, sequence, readings: (0..3).map(reading).collect() }
}

/// What the stations see.
#[derive(Default)]
struct Seen {
    pubacks: AtomicU64,
    slowest_ms: AtomicU64,
    over: AtomicBool,
}

/// Publishes a quarter of an hour after the other, each when the one before is acknowledged; gives how many.
async fn station(name: String, port: u16, start: Timestamp, seen: Arc<Seen>) -> u64 {
    let mut options = MqttOptions::new(&name, "127.0.0.1", port);
    options.set_credentials(&name, &name).set_keep_alive(Duration::from_secs(60));
    let (client, mut events) = AsyncClient::new(options, 10);
    let topic = |kind: &str| format!("tilth/v1/f/{name}/{kind}");
    let birth = Birth {
        boot: 1,
        firmware: "1.0".to_owned(),
        interval_s: 300,
        report_s: 900,
        channels: Vec::new(),
        field: None,
        latitude: None,
        longitude: None,
    };
    publish(&client, &mut events, topic("birth"), birth.encode()).await;
    let mut sequence = 0;
    while !seen.over.load(Ordering::Relaxed) {
        sequence += 1;
        let asked = Instant::now();
        publish(&client, &mut events, topic("data"), batch(start, sequence).encode().unwrap()).await;
        seen.slowest_ms.fetch_max(asked.elapsed().as_millis() as u64, Ordering::Relaxed);
        seen.pubacks.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sequence
}

async fn publish(client: &AsyncClient, events: &mut EventLoop, topic: String, payload: Vec<u8>) {
    client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Incoming::PubAck(_))) {}
}

/// The process in which a gateway's model runs.
fn runner(gateway: u32) -> Option<Pid> {
    let of = |pid: &str, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok()).find_map(|pid| {
        let is =
            of(&pid, "cmdline").contains("model-runner") && of(&pid, "status").contains(&format!("PPid:\t{gateway}\n"));
        is.then(|| Pid::from_raw(pid.parse().unwrap()))
    })
}

/// Each window's last revision in the spool.
fn windows(data: &Path) -> BTreeMap<(StationId, Timestamp), Window> {
    let store = rusqlite::Connection::open(data.join("gateway.sqlite")).unwrap();
    let mut statement = store.prepare("SELECT body FROM spool WHERE lane = ?1 ORDER BY id").unwrap();
    let bodies = statement.query_map([Lane::Aggregates as i64], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let window = |body: rusqlite::Result<Vec<u8>>| match Record::decode(&body.unwrap()).unwrap() {
        Record::Window(window) => ((window.station.clone(), window.start), window),
        other => panic!("{other:?}"),
    };
    bodies.map(window).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_model_hangs_stations_are_acknowledged_and_it_is_rolled_back_and_no_window_is_missing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let names: Vec<String> = (0..STATIONS).map(|n| format!("n{n}")).collect();
    let (onnx, manifest) = next();
    let mut repository = Repository::new(1).await;
    repository.put_model(&onnx, &manifest);
    let assignments = Assignments { models: [(MODEL.to_owned(), assignment("1.1.0", &onnx, 1))].into() };
    repository.put(&target(), assignments.to_json().as_bytes(), &[]);
    repository.publish(&Signing::default()).await;
    let server = Server::start(&repository).await;
    let mut process = Process::new(&server, &repository, &names);
    process.start();
    until("the pushed version is active", || process.journal().0.as_deref() == Some("1.1.0")).await;
    let ready = process.until_ready().await;
    let port = ready["mqtt"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    let gateway = process.child.as_ref().unwrap().id();

    // Five days ago: far more quarters than the stations tell of.
    let start = Timestamp::from_jiff(jiff::Timestamp::now()).plus_secs(-5 * 86_400).floor_to(900);
    let seen = Arc::<Seen>::default();
    let stations: Vec<_> =
        names.iter().map(|name| tokio::spawn(station(name.clone(), port, start, Arc::clone(&seen)))).collect();
    let pubacks = || seen.pubacks.load(Ordering::Relaxed);
    until("the stations report", || pubacks() > 10 * STATIONS as u64).await;

    // It hangs: it is there, and does not answer.
    let model = runner(gateway).unwrap();
    kill(model, Signal::SIGSTOP).unwrap();
    let (stopped, before) = (Instant::now(), pubacks());
    seen.slowest_ms.store(0, Ordering::Relaxed);
    until("the model that hangs is ended", || runner(gateway) != Some(model)).await;
    let (hung, meanwhile) = (stopped.elapsed(), pubacks() - before);
    let slowest = Duration::from_millis(seen.slowest_ms.load(Ordering::Relaxed));
    println!("it hung for {hung:?}; {meanwhile} PUBACKs came meanwhile, the slowest after {slowest:?}");
    assert!(hung >= LONG, "it hung for {hung:?} only");
    assert!(slowest < LOW, "a PUBACK took {slowest:?} while the model hung");
    assert!(meanwhile > 10 * STATIONS as u64, "{meanwhile} PUBACKs came while the model hung");

    until("the version before is back", || process.journal().0.as_deref() == Some("1.0.0")).await;
    let state = Journal::open(&process.dir.path().join("data")).unwrap().states()[MODEL].clone();
    let refusal = &state.refusals[0];
    assert_eq!((refusal.version.as_deref(), refusal.reason), (Some("1.1.0"), Reason::Timeout));
    assert_eq!(refusal.text, "did not answer within 10,000 ms");
    page_says(&ready, &["soil-anomaly 1.1.0 refused", &refusal.text]).await;

    let after = pubacks();
    until("the stations go on", || pubacks() > after + 3 * STATIONS as u64).await;
    seen.over.store(true, Ordering::Relaxed);
    let mut sent = Vec::new();
    for station in stations {
        sent.push(station.await.unwrap());
    }
    let mut child = process.child.take().unwrap();
    assert!(Command::new("kill").arg("-TERM").arg(gateway.to_string()).status().unwrap().success());
    until("the gateway has ended", || child.try_wait().unwrap().is_some()).await;
    let windows = windows(&process.dir.path().join("data"));
    for (name, sent) in names.iter().zip(sent) {
        // What the last readings would close is still open.
        for number in 0..sent.cast_signed() - 3 {
            let key = (name.parse().unwrap(), start.plus_secs(900 * number));
            let count = windows.get(&key).map(|window| window.aggregates[0].accepted.map_or(0, |stats| stats.count));
            assert_eq!(count, Some(3), "window {number} of {name}, of {sent} batches");
        }
    }
}

/// Waits until the gateway's page says all of this.
async fn page_says(ready: &serde_json::Value, words: &[&str]) {
    let page = format!("http://{}/", ready["status"].as_str().unwrap());
    let asked = Instant::now();
    loop {
        let text = reqwest::get(&page).await.unwrap().text().await.unwrap();
        let missing: Vec<_> = words.iter().filter(|words| !text.contains(**words)).collect();
        if missing.is_empty() {
            return;
        }
        assert!(asked.elapsed() < PATIENCE, "the page does not say {missing:?}:\n{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_of_a_folder_run_beside_the_gateway_which_goes_on_without_those_that_fail() {
    let models = tempfile::tempdir().unwrap();
    let (onnx, good) = next();
    let mut liar = good.clone();
    liar.name = "liar".to_owned();
    liar.golden[0].output[0] += 1.0;
    let mut cut = good.clone();
    cut.name = "cut".to_owned();
    for (manifest, onnx) in [(&good, &onnx[..]), (&liar, &onnx), (&cut, &onnx[1..])] {
        let dir = models.path().join(&manifest.name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("manifest.toml"), manifest.to_toml().unwrap()).unwrap();
        fs::write(dir.join("model.onnx"), onnx).unwrap();
    }
    fs::create_dir(models.path().join("empty")).unwrap();
    let mut process = Process::alone(&["n0".to_owned()], &format!("models_dir = {:?}\n", models.path()));
    process.start();
    let ready = process.until_ready().await;
    let at = |name: &str| format!("{} does not run", models.path().join(name).display());
    let failed = [at("cut"), at("empty"), "liar 1.1.0 does not run".to_owned(), "soil-anomaly 1.1.0".to_owned()];
    page_says(&ready, &failed.each_ref().map(String::as_str)).await;
    page_says(&ready, &["the sha256 of model.onnx is ", "golden sample"]).await;

    let port = ready["mqtt"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    let start = Timestamp::from_jiff(jiff::Timestamp::now()).plus_secs(-5 * 86_400).floor_to(900);
    let seen = Arc::<Seen>::default();
    let station = tokio::spawn(station("n0".to_owned(), port, start, Arc::clone(&seen)));
    let pubacks = || seen.pubacks.load(Ordering::Relaxed);
    until("the station reports", || pubacks() > 10).await;
    let model = runner(process.child.as_ref().unwrap().id()).expect("it runs in a process of its own");
    kill(model, Signal::SIGSTOP).unwrap();
    page_says(&ready, &["soil-anomaly 1.1.0 does not run", "did not answer within "]).await;
    let after = pubacks();
    until("the station goes on", || pubacks() > after + 10).await;
    seen.over.store(true, Ordering::Relaxed);
    assert!(station.await.unwrap() > 20);
}
