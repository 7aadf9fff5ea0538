//! The whole gateway as a process of its own: a real MQTT client on one side, a cloud that fails in every way on the other,
//! and `kill -9` in between.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use proto::{
    Ack, Aggregate, Batch, Birth, Channel, GatewayStatus, Lane, Quantity, Reading, Record, StationId, Timestamp,
    UplinkBatch,
};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use tempfile::TempDir;

#[path = "support/process.rs"]
mod process;

use process::{Gateway, password, until, within};

const MINUTE: i64 = 60_000;

/// The configuration of a gateway with a cloud.
fn to_cloud(url: &str) -> String {
    format!("[cloud]\nurl = \"{url}\"\ntoken = \"a-token\"\n")
}

/// A station, connected.
struct Station {
    id: StationId,
    client: AsyncClient,
    events: EventLoop,
}

impl Station {
    /// Connects, listens for acknowledgements, and says what it is.
    async fn connect(name: &str, gateway: &Gateway) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", gateway.mqtt);
        options.set_credentials(name, password(name)).set_keep_alive(Duration::from_secs(30));
        let (client, events) = AsyncClient::new(options, 64);
        let mut station = Self { id: name.parse().unwrap(), client, events };
        station.client.subscribe(station.topic("ack"), QoS::AtLeastOnce).await.unwrap();
        station.expect("SUBACK", |incoming| matches!(incoming, Incoming::SubAck(_))).await;
        let channels = vec![Channel::at(Quantity::SoilMoisture, 20), Channel::of(Quantity::Rain)];
        let birth = Birth {
            boot: 1,
            firmware: "1.0".to_owned(),
            interval_s: 300,
            report_s: 900,
            channels,
            field: None,
            latitude: None,
            longitude: None,
        };
        station.publish("birth", birth.encode()).await;
        station
    }

    fn topic(&self, kind: &str) -> String {
        format!("tilth/v1/f/{}/{kind}", self.id)
    }

    async fn expect<T>(&mut self, what: &str, mut is: impl FnMut(&Incoming) -> T) -> T
    where
        T: PartialEq + Default,
    {
        within(what, async {
            loop {
                if let Event::Incoming(incoming) = self.events.poll().await.unwrap() {
                    let found = is(&incoming);
                    if found != T::default() {
                        return found;
                    }
                }
            }
        })
        .await
    }

    /// Publishes and waits for the PUBACK.
    async fn publish(&mut self, kind: &str, payload: Vec<u8>) {
        self.client.publish(self.topic(kind), QoS::AtLeastOnce, false, payload).await.unwrap();
        self.expect("a PUBACK", |incoming| matches!(incoming, Incoming::PubAck(_))).await;
    }

    /// Sends a batch and waits until it is acknowledged end to end.
    async fn send(&mut self, batch: &Batch) {
        let topic = self.topic("data");
        self.client.publish(topic, QoS::AtLeastOnce, false, batch.encode().unwrap()).await.unwrap();
        let wanted = Ack { boot: batch.boot, sequence: batch.sequence };
        self.expect("an acknowledgement", |incoming| match incoming {
            Incoming::Publish(publish) => Ack::decode(&publish.payload).is_ok_and(|ack| ack == wanted),
            _ => false,
        })
        .await;
    }
}

/// The start of a quarter of an hour, a day ago.
fn yesterday() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now()).plus_millis(-1440 * MINUTE).floor_to(900)
}

/// A quarter of an hour of readings each five minutes: soil that dries, with a spike in every seventh batch, and rain.
/// Reports are not made at the ends of windows.
fn batch(start: Timestamp, sequence: u64) -> Batch {
    let readings = (0..3).flat_map(|i| {
        let n = (sequence as i64 - 1) * 3 + i;
        let time = start.plus_millis((n * 5 + 7) * MINUTE);
        let spike = if sequence % 7 == 3 && i == 1 { 0.1 } else { 0.0 };
        let moisture = Quantity::SoilMoisture.quantise(0.30 - 0.0001 * n as f64 + spike);
        [
            Reading { channel: Channel::at(Quantity::SoilMoisture, 20), time, value: moisture },
            Reading { channel: Channel::of(Quantity::Rain), time, value: if n % 50 == 0 { 4.2 } else { 0.0 } },
        ]
    });
    Batch { boot: 1, sequence, readings: readings.collect() }
}

/// What is left when all was said: the highest revision of each window.
type Final = BTreeMap<(StationId, Timestamp), (u32, Vec<Aggregate>)>;

fn keep_highest(windows: &mut Final, record: &Record) {
    if let Record::Window(window) = record {
        let key = (window.station.clone(), window.start);
        if windows.get(&key).is_none_or(|(revision, _)| window.revision > *revision) {
            windows.insert(key, (window.revision, window.aggregates.clone()));
        }
    }
}

/// The windows that wait for the cloud in a gateway's store, and how many records they are.
fn spooled(data: &Path) -> (Final, usize) {
    let store = rusqlite::Connection::open(data.join("gateway.sqlite")).unwrap();
    let mut statement = store.prepare("SELECT body FROM spool WHERE lane = ?1 ORDER BY id").unwrap();
    let bodies = statement.query_map([Lane::Aggregates as i64], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let (mut windows, mut records) = (Final::new(), 0);
    for body in bodies {
        keep_highest(&mut windows, &Record::decode(&body.unwrap()).unwrap());
        records += 1;
    }
    (windows, records)
}

fn readings_in(windows: &Final) -> u32 {
    let aggregates = windows.values().flat_map(|(_, aggregates)| aggregates);
    aggregates.map(|a| a.accepted.map_or(0, |s| s.count) + a.rejected.as_ref().map_or(0, proto::Rejected::total)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_twice_or_cannot_be_read_is_counted_and_harms_nothing() {
    let mut gateway = Gateway::start("").await;
    let start = yesterday();
    let mut station = Station::connect("n1", &gateway).await;
    for sequence in 1..=8 {
        station.send(&batch(start, sequence)).await;
    }
    station.send(&batch(start, 8)).await;
    station.publish("data", b"no protobuf".to_vec()).await;
    let mut impossible = batch(start, 9);
    impossible.readings[0].value = 0.99;
    impossible.readings[5].time = Timestamp::from_jiff(jiff::Timestamp::now()).plus_millis(1440 * MINUTE);
    station.send(&impossible).await;
    for sequence in 10..=12 {
        station.send(&batch(start, sequence)).await;
    }

    let wanted = [
        r#"events_total{event="readings"} 72"#,
        r#"events_total{event="duplicate_batches"} 1"#,
        r#"refused_messages_total{reason="malformed_data"} 1"#,
        r#"rejected_readings_total{reason="range"} 1"#,
        r#"rejected_readings_total{reason="future"} 1"#,
    ];
    within("the counters", async {
        loop {
            let metrics = gateway.get("/metrics").await;
            if wanted.iter().all(|line| metrics.contains(line)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    gateway.stop().await;
    let store = rusqlite::Connection::open(gateway.data().join("gateway.sqlite")).unwrap();
    let aside: Vec<u8> = store.query_row("SELECT body FROM quarantine", [], |row| row.get(0)).unwrap();
    assert_eq!(aside, b"no protobuf");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_after_every_batch_emits_the_same_windows() {
    // One station reports all the time, the other is away for three hours.
    let start = yesterday();
    let sequences = 1..=40u64;
    let (mut steady, mut killed) = (Gateway::start("").await, Gateway::start("").await);
    let away = |sequence: u64| (16..28).contains(&sequence);
    let (mut first, mut second) = (Station::connect("n1", &steady).await, Station::connect("n2", &steady).await);
    for sequence in sequences.clone() {
        first.send(&batch(start, sequence)).await;
        if !away(sequence) {
            second.send(&batch(start, sequence)).await;
        }
    }
    steady.stop().await;

    for sequence in sequences {
        let mut first = Station::connect("n1", &killed).await;
        first.send(&batch(start, sequence)).await;
        if !away(sequence) {
            let mut second = Station::connect("n2", &killed).await;
            second.send(&batch(start, sequence)).await;
        }
        killed.kill();
        killed.again().await;
    }
    killed.stop().await;

    let (expected, once) = spooled(&steady.data());
    let (windows, records) = spooled(&killed.data());
    let differing: Vec<_> =
        expected.keys().chain(windows.keys()).filter(|k| expected.get(*k) != windows.get(*k)).collect();
    assert!(
        differing.is_empty(),
        "{differing:?}: {:?} instead of {:?}",
        windows.get(differing[0]),
        expected.get(differing[0])
    );
    assert_eq!(records, once, "nothing is said twice");
}

/// How the cloud fails next.
#[derive(Clone, Copy)]
enum Fault {
    /// 500, and nothing is stored.
    Error,
    /// 500, and the batch is stored all the same.
    Forgets,
    /// 200 with an answer that is none.
    Nonsense,
}

#[derive(Default)]
struct Stored {
    faults: VecDeque<Fault>,
    sequences: BTreeMap<&'static str, u64>,
    windows: Final,
    /// A window start that is refused for good.
    poisoned: Option<Timestamp>,
    /// What the gateway's last status says was refused, by reason.
    refused: BTreeMap<String, u64>,
}

type Cloud = Arc<Mutex<Stored>>;

type Answer = (StatusCode, [(HeaderName, &'static str); 1], String);

fn answer(status: StatusCode, body: impl ToString) -> Answer {
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    (status, [(CONTENT_TYPE, kind)], body.to_string())
}

async fn take(State(cloud): State<Cloud>, headers: HeaderMap, body: Bytes) -> Answer {
    assert_eq!(headers["authorization"], "Bearer a-token");
    let body = zstd::bulk::decompress(&body, 16 << 20).unwrap();
    let batch = UplinkBatch::decode(&body).unwrap();
    let mut cloud = cloud.lock().unwrap();
    let fault = if batch.lane == Lane::Aggregates { cloud.faults.pop_front() } else { None };
    match fault {
        Some(Fault::Error) => return answer(StatusCode::INTERNAL_SERVER_ERROR, "{}"),
        Some(Fault::Nonsense) => return answer(StatusCode::OK, "<html>Log in to this network"),
        Some(Fault::Forgets) | None => {}
    }
    let refused = |record: &Record| matches!(record, Record::Window(w) if Some(w.start) == cloud.poisoned);
    if batch.records.iter().any(refused) {
        return answer(StatusCode::UNPROCESSABLE_ENTITY, "a window that nobody wants");
    }
    let have = cloud.sequences.get(batch.lane.name()).copied().unwrap_or(0);
    if batch.first > have + 1 {
        return answer(StatusCode::CONFLICT, serde_json::json!({ "expected": have + 1 }));
    }
    for (sequence, record) in (batch.first..).zip(&batch.records) {
        if sequence > have {
            keep_highest(&mut cloud.windows, record);
        }
    }
    let have = have.max(batch.last());
    cloud.sequences.insert(batch.lane.name(), have);
    if matches!(fault, Some(Fault::Forgets)) {
        return answer(StatusCode::INTERNAL_SERVER_ERROR, "{}");
    }
    answer(StatusCode::OK, serde_json::json!({ "sequence": have }))
}

async fn hear(State(cloud): State<Cloud>, Json(status): Json<GatewayStatus>) -> StatusCode {
    cloud.lock().unwrap().refused = status.rejected;
    StatusCode::NO_CONTENT
}

async fn cloud() -> (Cloud, String) {
    let cloud = Cloud::default();
    let app = Router::new()
        .route("/api/v1/uplink", post(take))
        .route("/api/v1/uplink/status", post(hear))
        .with_state(Arc::clone(&cloud));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (cloud, url)
}

/// The windows of a station's first `batches` that have closed when the last has come.
fn closed(start: Timestamp, batches: u64) -> Vec<Timestamp> {
    let newest = batch(start, batches).readings.last().unwrap().time;
    (0..).map(|i| start.plus_millis(i * 15 * MINUTE)).take_while(|s| newest.millis_since(*s) >= 25 * MINUTE).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloud_has_everything_once_however_it_fails() {
    let (cloud, url) = cloud().await;
    let start = yesterday();
    {
        let mut stored = cloud.lock().unwrap();
        stored.faults = [Fault::Error, Fault::Forgets, Fault::Nonsense, Fault::Forgets].into();
        stored.poisoned = Some(start.plus_millis(60 * MINUTE));
    }
    let mut gateway = Gateway::start(&to_cloud(&url)).await;
    let mut station = Station::connect("n1", &gateway).await;
    for sequence in 1..=20 {
        station.send(&batch(start, sequence)).await;
        if sequence == 10 {
            gateway.kill();
            gateway.again().await;
            station = Station::connect("n1", &gateway).await;
        }
    }
    let mut expected = closed(start, 20);
    expected.retain(|s| *s != start.plus_millis(60 * MINUTE));
    until("the cloud has all but the refused window", || {
        let stored = cloud.lock().unwrap();
        stored.windows.keys().map(|(_, start)| *start).eq(expected.iter().copied())
    })
    .await;
    assert!(readings_in(&cloud.lock().unwrap().windows) > 0);
    gateway.stop().await;
    let store = rusqlite::Connection::open(gateway.data().join("gateway.sqlite")).unwrap();
    let why: String = store.query_row("SELECT reason FROM quarantine", [], |row| row.get(0)).unwrap();
    assert!(why.contains("a window that nobody wants"), "{why}");
    assert_eq!(spooled(&gateway.data()).1, 0, "a record leaves the disk when the cloud has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_that_lost_its_last_hour_or_knows_another_life_gets_what_is_new() {
    let (cloud, url) = cloud().await;
    let start = yesterday();
    // The gateway's disk was replaced: the cloud has more than this one ever sent.
    cloud.lock().unwrap().sequences = [("aggregates", 5_000), ("births", 3)].into();
    let mut gateway = Gateway::start(&to_cloud(&url)).await;
    let mut station = Station::connect("n1", &gateway).await;
    for sequence in 1..=10 {
        station.send(&batch(start, sequence)).await;
    }
    let arrived = |batches: u64| {
        let expected = closed(start, batches);
        let stored = cloud.lock().unwrap();
        stored.windows.keys().map(|(_, start)| *start).eq(expected.iter().copied())
    };
    until("the cloud has what the new gateway made", || arrived(10)).await;
    // The cloud came back from a backup.
    cloud.lock().unwrap().sequences.insert("aggregates", 2);
    for sequence in 11..=14 {
        station.send(&batch(start, sequence)).await;
    }
    until("the cloud has what came after the backup", || arrived(14)).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_end_of_the_log_has_cost_is_said_once_and_a_torn_write_costs_nothing() {
    let (cloud, url) = cloud().await;
    let mut gateway = Gateway::start(&to_cloud(&url)).await;
    let start = yesterday();
    let mut station = Station::connect("n1", &gateway).await;
    // Each is a commit of its own, after that of the birth.
    for sequence in 1..=20 {
        station.send(&batch(start, sequence)).await;
    }
    gateway.kill();
    let log = gateway.data().join("gateway.sqlite-wal");
    let rows = |data: &Path| {
        let store = rusqlite::Connection::open(data.join("gateway.sqlite")).unwrap();
        store.query_row("SELECT max(id) FROM raw", [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
    };

    // What a power cut leaves of a write that nobody was told is done.
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend([0x5a; 3_000]);
    fs::write(&log, bytes).unwrap();
    gateway.again().await;
    let metrics = gateway.get("/metrics").await;
    assert!(!metrics.contains("damaged"), "{metrics}");
    let mut station = Station::connect("n1", &gateway).await;
    for sequence in 21..=30 {
        station.send(&batch(start, sequence)).await;
    }
    gateway.kill();
    let acknowledged = 1 + 20 + 1 + 10;

    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&log, &bytes).unwrap();
    let copy = TempDir::new().unwrap();
    for name in ["gateway.sqlite", "gateway.sqlite-wal"] {
        fs::copy(gateway.data().join(name), copy.path().join(name)).unwrap();
    }
    let left = rows(copy.path());
    assert!((1..acknowledged).contains(&left), "{left} commits are left");
    gateway.again().await;
    let lost = acknowledged - left;
    let metric = format!("refused_messages_total{{reason=\"damaged_commit\"}} {lost}\n");
    let metrics = gateway.get("/metrics").await;
    assert!(metrics.contains(&metric), "{metric} is not in {metrics}");
    let page = gateway.get("/").await;
    assert!(page.contains(&format!("commits {} to {acknowledged} from ", left + 1)), "{page}");
    until("the cloud hears of it", || cloud.lock().unwrap().refused.get("damaged_commit") == Some(&lost)).await;

    // Killed before and after a commit that has a number of those: it is said no second time.
    for more in [true, false] {
        gateway.kill();
        gateway.again().await;
        let metrics = gateway.get("/metrics").await;
        assert!(metrics.contains(&metric), "{metric} is not in {metrics}");
        if more {
            let _station = Station::connect("n1", &gateway).await;
        }
    }
    gateway.kill();
    assert_eq!(rows(&gateway.data()), left + 1);
}
