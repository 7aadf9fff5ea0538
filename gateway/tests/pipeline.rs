//! The gateway as a whole: its real binary, real MQTT clients at its door, and a small cloud on loopback that can fail in
//! the ways in which clouds fail.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::{
    Ack, Aggregate, Batch, Birth, Channel, Lane, Quantity, Reading, Record, RejectReason, StationId, Timestamp,
    UplinkBatch, Window,
};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS};
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// Nothing in these tests takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// What the cloud answers.
#[derive(Clone, Default)]
enum Mood {
    /// As it should.
    #[default]
    Well,
    /// 500.
    Broken,
    /// 400, in the name of something that stands before it.
    Proxied,
    /// 422 to a batch with the window that starts then.
    Dislikes(Timestamp),
}

#[derive(Default)]
struct Cloud {
    mood: Mood,
    /// How far it has each lane.
    sequence: BTreeMap<Lane, u64>,
    /// What it stored, in order.
    records: Vec<Record>,
    gaps: u32,
    refusals: u32,
    failures: u32,
}

type SharedCloud = Arc<Mutex<Cloud>>;

/// A cloud, and where it listens.
async fn cloud() -> (SharedCloud, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (serve(listener), address)
}

fn serve(listener: TcpListener) -> SharedCloud {
    let cloud = SharedCloud::default();
    let router = axum::Router::new()
        .route("/api/v1/uplink", axum::routing::post(uplink))
        .route("/api/v1/uplink/status", axum::routing::post(|| async { StatusCode::NO_CONTENT }))
        .with_state(Arc::clone(&cloud));
    tokio::spawn(async move { axum::serve(listener, router).await });
    cloud
}

async fn uplink(State(cloud): State<SharedCloud>, body: Bytes) -> Response {
    let batch = UplinkBatch::decode(&zstd::decode_all(body.as_ref()).unwrap()).unwrap();
    let mut cloud = cloud.lock().unwrap();
    let starts = |at: Timestamp| batch.records.iter().any(|r| matches!(r, Record::Window(w) if w.start == at));
    match cloud.mood {
        Mood::Broken => {
            cloud.failures += 1;
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Mood::Proxied => {
            cloud.failures += 1;
            return (StatusCode::BAD_REQUEST, "<html>not here</html>").into_response();
        }
        Mood::Dislikes(at) if starts(at) => {
            cloud.refusals += 1;
            let kind = [(header::CONTENT_TYPE, "application/problem+json")];
            return (StatusCode::UNPROCESSABLE_ENTITY, kind, r#"{"title":"no such window"}"#).into_response();
        }
        Mood::Dislikes(_) | Mood::Well => {}
    }
    let stored = cloud.sequence.get(&batch.lane).copied().unwrap_or(0);
    if batch.first > stored + 1 {
        cloud.gaps += 1;
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        return (StatusCode::CONFLICT, kind, format!(r#"{{"expected":{}}}"#, stored + 1)).into_response();
    }
    let (lane, last) = (batch.lane, batch.last());
    let known = usize::try_from(stored + 1 - batch.first).unwrap();
    cloud.records.extend(batch.records.into_iter().skip(known));
    let stored = stored.max(last);
    cloud.sequence.insert(lane, stored);
    axum::Json(serde_json::json!({ "sequence": stored })).into_response()
}

/// The newest revision of each window that `cloud` has.
fn windows(cloud: &SharedCloud) -> BTreeMap<(StationId, Timestamp), Window> {
    let mut all: BTreeMap<_, Window> = BTreeMap::new();
    for record in &cloud.lock().unwrap().records {
        if let Record::Window(window) = record {
            let newest = all.entry((window.station.clone(), window.start)).or_insert_with(|| window.clone());
            if newest.revision < window.revision {
                *newest = window.clone();
            }
        }
    }
    all
}

/// A gateway's place on disk, with the stations `n1` and `n2` in its credentials.
struct Place {
    dir: TempDir,
    /// Lines at the end of its configuration.
    more: String,
}

impl Place {
    fn new(cloud: Option<SocketAddr>, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut credentials = String::new();
        for name in ["n1", "n2"] {
            let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
            credentials += &format!("[[client]]\nname = {name:?}\nrole = \"station\"\npassword_sha256 = {digest:?}\n");
        }
        std::fs::write(dir.path().join("credentials.toml"), credentials).unwrap();
        let cloud = cloud.map_or_else(String::new, |a| format!("[cloud]\nurl = \"http://{a}\"\ntoken = \"token\"\n"));
        Self { dir, more: cloud + more }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn command(&self) -> Command {
        let config = format!(
            "farm = \"f\"\ngateway = \"g1\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n
             [door]\nlisten = \"127.0.0.1:0\"\ncredentials = {:?}\n{}",
            self.path("data"),
            self.path("ready.json"),
            self.path("credentials.toml"),
            self.more
        );
        std::fs::write(self.path("gateway.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["--config", &self.path("gateway.toml")]).kill_on_drop(true).stderr(Stdio::piped());
        command
    }

    async fn start(&self) -> Gateway {
        let mut command = self.command();
        command.stderr(Stdio::inherit());
        self.start_by(command).await
    }

    /// Starts the gateway on a disk that takes no file beyond `kilobytes`.
    async fn start_in(&self, kilobytes: u32) -> Gateway {
        let mut command = Command::new("bash");
        let limit = format!("trap '' XFSZ; ulimit -S -f {kilobytes}; exec \"$@\"");
        command.args(["-c", &limit, "bash"]).arg(env!("CARGO_BIN_EXE_gateway")).kill_on_drop(true);
        command.args(self.command().as_std().get_args()).stderr(Stdio::null());
        self.start_by(command).await
    }

    async fn start_by(&self, mut command: Command) -> Gateway {
        let ready = self.path("ready.json");
        let _ = std::fs::remove_file(&ready);
        let mut child = command.spawn().unwrap();
        until("the gateway is ready", || {
            assert!(child.try_wait().unwrap().is_none(), "the gateway ended");
            Path::new(&ready).exists()
        })
        .await;
        let addresses: BTreeMap<String, String> =
            serde_json::from_str(&std::fs::read_to_string(&ready).unwrap()).unwrap();
        let address = |name: &str| addresses[name].parse().unwrap();
        Gateway { child, mqtt: address("mqtt"), status: address("status") }
    }

    /// What the gateway says when it ends by itself.
    async fn fail(&self) -> Output {
        within("the gateway ends", self.command().output()).await.unwrap()
    }

    /// The store, beside the running gateway.
    fn store(&self) -> Connection {
        let path = self.path("data/gateway.sqlite");
        let store = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        store.busy_timeout(PATIENCE).unwrap();
        store
    }

    /// How far the first boot of station n1 is on disk.
    fn progress(&self) -> u64 {
        let mut store = gateway::store::Store::open(Path::new(&self.path("data"))).unwrap();
        store.progress().unwrap().highest(&"n1".parse().unwrap(), 1).unwrap()
    }

    fn ask(&self, sql: &str) -> i64 {
        self.store().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

struct Gateway {
    child: Child,
    mqtt: SocketAddr,
    status: SocketAddr,
}

impl Gateway {
    async fn get(&self, path: &str) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::get(format!("http://{}{path}", self.status)).await.unwrap().text().await.unwrap()
    }

    /// Waits until a page holds all of these.
    async fn shows(&self, path: &str, parts: &[&str]) -> String {
        let mut page = String::new();
        let shown = tokio::time::timeout(PATIENCE, async {
            while !parts.iter().all(|part| page.contains(part)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                page = self.get(path).await;
            }
        });
        let shown = shown.await.is_ok();
        assert!(shown, "{path} does not show all of {parts:?}:\n{page}");
        page
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A station that is connected: a real MQTT client.
struct Station {
    name: &'static str,
    client: AsyncClient,
    events: mpsc::UnboundedReceiver<Incoming>,
    acks: Vec<Ack>,
}

fn dial(gateway: &Gateway, name: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(name, "127.0.0.1", gateway.mqtt.port());
    options.set_credentials(name, name);
    AsyncClient::new(options, 10)
}

impl Station {
    /// Connects, and says what it is.
    async fn connect(gateway: &Gateway, name: &'static str, report_s: u32) -> Self {
        let mut station = Self::connect_again(gateway, name).await;
        let birth = Birth {
            boot: 1,
            firmware: "test 1.0.0".to_owned(),
            interval_s: 300,
            report_s,
            channels: vec![moisture()],
            field: None,
            latitude: None,
            longitude: None,
        };
        station.publish("birth", birth.encode()).await;
        station
    }

    /// Connects, and has nothing new to say of itself.
    async fn connect_again(gateway: &Gateway, name: &'static str) -> Self {
        let (client, mut poll) = dial(gateway, name);
        let (sender, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = poll.poll().await {
                if let Event::Incoming(incoming) = event
                    && sender.send(incoming).is_err()
                {
                    break;
                }
            }
        });
        let mut station = Self { name, client, events, acks: Vec::new() };
        station.client.subscribe(format!("tilth/v1/f/{name}/ack"), QoS::AtMostOnce).await.unwrap();
        station.hear(|incoming| matches!(incoming, Incoming::SubAck(_))).await;
        station
    }

    async fn hear(&mut self, awaited: impl Fn(&Incoming) -> bool) {
        assert!(self.hears(awaited).await, "the connection ended");
    }

    /// Waits for a packet; false when the connection ends before it comes.
    async fn hears(&mut self, awaited: impl Fn(&Incoming) -> bool) -> bool {
        while let Some(incoming) = within("an answer from the door", self.events.recv()).await {
            if let Incoming::Publish(publish) = &incoming {
                self.acks.push(Ack::decode(&publish.payload).unwrap());
            }
            if awaited(&incoming) {
                return true;
            }
        }
        false
    }

    /// Publishes, and waits for the PUBACK.
    async fn publish(&mut self, kind: &str, payload: Vec<u8>) {
        self.hand_in(kind, payload).await;
        self.is_taken().await;
    }

    /// Publishes, and waits for nothing.
    async fn hand_in(&mut self, kind: &str, payload: Vec<u8>) {
        let topic = format!("tilth/v1/f/{}/{kind}", self.name);
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    /// Waits for a PUBACK.
    async fn is_taken(&mut self) {
        self.hear(|incoming| matches!(incoming, Incoming::PubAck(_))).await;
    }

    /// Sends a batch, and waits until the gateway says that it has it.
    async fn send(&mut self, sequence: u64, readings: &[Reading]) {
        let batch = Batch { boot: 1, sequence, readings: readings.to_vec() };
        self.publish("data", batch.encode().unwrap()).await;
        while self.acks.last().is_none_or(|ack| ack.sequence < sequence) {
            self.hear(|incoming| matches!(incoming, Incoming::Publish(_))).await;
        }
        assert_eq!(self.acks.last().map(|a| a.boot), Some(1));
    }

    /// Sends the readings, a window in a batch.
    async fn report(&mut self, first: u64, readings: &[Reading]) {
        for (sequence, readings) in (first..).zip(readings.chunks(3)) {
            self.send(sequence, readings).await;
        }
    }
}

fn moisture() -> Channel {
    Channel::at(Quantity::SoilMoisture, 20)
}

/// The start of a window some hours ago: everything after it has happened already.
fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now()).plus_secs(-3600 * hours).floor_to(900)
}

/// A reading every five minutes from `start` on, drying slowly.
fn drying(start: Timestamp, readings: i64) -> Vec<Reading> {
    let value = |i: i64| moisture().quantity.quantise(0.3 - 0.0007 * i as f64 + 0.0002 * (i % 3) as f64);
    (0..readings).map(|i| Reading { channel: moisture(), time: start.plus_secs(300 * i), value: value(i) }).collect()
}

fn only(window: &Window) -> &Aggregate {
    assert_eq!(window.aggregates.len(), 1);
    &window.aggregates[0]
}

fn count(window: &Window) -> u32 {
    only(window).accepted.map_or(0, |stats| stats.count)
}

#[tokio::test]
async fn bad_input_is_counted_by_reason_and_costs_nothing_else() {
    let (cloud, address) = cloud().await;
    let place = Place::new(Some(address), "");
    let gateway = place.start().await;
    let start = hours_ago(6);
    let readings = drying(start, 36);
    let mut station = Station::connect(&gateway, "n1", 900).await;
    station.report(1, &readings[..30]).await;

    // Cannot be read: sending it again would not help.
    station.publish("data", b"\xff\xffnot a batch".to_vec()).await;
    // Nobody knows it.
    let (_client, mut stranger) = dial(&gateway, "n666");
    assert!(within("the door's answer", stranger.poll()).await.is_err());
    let reading = |time: Timestamp, value: f64| Reading { channel: moisture(), time, value };
    let impossible = reading(readings[29].time.plus_secs(10), 0.95);
    let future = reading(hours_ago(0).plus_secs(7200), 0.3);
    let late = reading(start.plus_secs(7), 0.3);
    station.send(11, &[impossible]).await;
    station.send(12, &[future]).await;
    station.send(13, &[late]).await;
    // Sent again after an acknowledgement that was lost.
    station.send(13, &[late]).await;
    station.report(14, &readings[30..]).await;

    gateway
        .shows(
            "/metrics",
            &[
                r#"tilth_gateway_rejected_readings_total{reason="range"} 1"#,
                r#"tilth_gateway_rejected_readings_total{reason="future"} 1"#,
                r#"tilth_gateway_rejected_readings_total{reason="late"} 1"#,
                r#"tilth_gateway_refused_messages_total{reason="malformed_data"} 1"#,
                r#"tilth_gateway_door_total{event="connections_refused_unknown"} 1"#,
                r#"tilth_gateway_events_total{event="duplicate_batches"} 1"#,
            ],
        )
        .await;
    let row = |reason: &str| format!("<tr><td>{reason}</td><td>1</td></tr>");
    let rows = ["range", "future", "late", "malformed data", "at the door: connections refused unknown"].map(row);
    gateway.shows("/", &rows.each_ref().map(String::as_str)).await;

    assert_eq!(place.ask("SELECT count(*) FROM quarantine WHERE source = 'station n1'"), 2);
    let kept = |which: &str| -> (String, Vec<u8>) {
        let sql = format!("SELECT reason, body FROM quarantine WHERE reason {which} 'clock: %'");
        place.store().query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!(kept("NOT LIKE").1, b"\xff\xffnot a batch");
    let (reason, body) = kept("LIKE");
    let expected = format!("clock: a reading is of {} or the like, which station n1 sent at ", future.time);
    assert!(reason.starts_with(&expected), "{reason}");
    assert_eq!(body, format!("soil_moisture_20cm {} 0.3\n", future.time).into_bytes());
    assert_eq!(
        place.ask("SELECT value FROM counter WHERE name = 'readings'"),
        36 + 3,
        "the repeated batch is stored once"
    );

    // Ten whole windows before the bad input and after it.
    until("the aggregates are in the cloud", || windows(&cloud).len() >= 11).await;
    let all = windows(&cloud);
    for window in all.values() {
        assert_eq!(count(window), 3, "{window:?}");
    }
    let rejected: Vec<_> = all.values().filter_map(|w| only(w).rejected.clone()).flat_map(|r| r.counts).collect();
    assert_eq!(rejected, [(RejectReason::Range, 1)]);
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_store() {
    let place = Place::new(None, "");
    let gateway = place.start().await;
    let mut station = Station::connect(&gateway, "n1", 900).await;
    for (sequence, readings) in (1..).zip(drying(hours_ago(6), 15).chunks(3)) {
        station.send(sequence, readings).await;
        assert_eq!(place.progress(), sequence);
    }
    assert_eq!(place.ask("SELECT sum(messages) FROM raw"), 1 + 5, "the birth and the batches");
}

#[tokio::test]
async fn a_killed_gateway_emits_the_same_aggregates_and_goes_on_in_its_lanes() {
    let mut results = Vec::new();
    let start = hours_ago(8);
    let readings = drying(start, 60);
    for kills in [&[][..], &[4, 5, 11, 17][..]] {
        let (cloud, address) = cloud().await;
        let place = Place::new(Some(address), "");
        let mut gateway = place.start().await;
        let mut station = Station::connect(&gateway, "n1", 900).await;
        for (sequence, batch) in (1..).zip(readings.chunks(3)) {
            station.send(sequence, batch).await;
            if kills.contains(&sequence) {
                gateway.kill().await;
                gateway = place.start().await;
                station = Station::connect(&gateway, "n1", 900).await;
            }
        }
        until("the aggregates are in the cloud", || windows(&cloud).len() >= 19).await;
        let cloud = cloud.lock().unwrap();
        assert_eq!((cloud.gaps, cloud.refusals), (0, 0));
        let births = cloud.records.iter().filter(|r| matches!(r, Record::Birth(_))).count();
        assert_eq!(births, 1, "the same birth is not told again");
        let of_windows = |r: &Record| if let Record::Window(w) = r { Some(w.clone()) } else { None };
        results.push(cloud.records.iter().filter_map(of_windows).collect::<Vec<_>>());
    }
    assert_eq!(results[0], results[1]);
}

#[tokio::test]
async fn a_late_reading_amends_its_window_in_the_cloud() {
    let (cloud, address) = cloud().await;
    let place = Place::new(Some(address), "");
    let gateway = place.start().await;
    let start = hours_ago(6);
    let mut readings = drying(start, 24);
    let late = readings.remove(13);
    let mut station = Station::connect(&gateway, "n1", 900).await;
    station.report(1, &readings).await;
    let key = ("n1".parse().unwrap(), late.time.floor_to(900));
    until("the window is in the cloud", || windows(&cloud).contains_key(&key)).await;
    let first = windows(&cloud)[&key].clone();
    assert_eq!((count(&first), first.revision), (2, 0));
    station.send(100, &[late]).await;
    until("the amendment is in the cloud", || windows(&cloud)[&key].revision > 0).await;
    assert_eq!(count(&windows(&cloud)[&key]), 3);
}

#[tokio::test]
async fn a_broken_cloud_gets_everything_once_and_in_order_when_it_is_well_again() {
    let (cloud, address) = cloud().await;
    cloud.lock().unwrap().mood = Mood::Broken;
    let place = Place::new(Some(address), "");
    let gateway = place.start().await;
    let readings = drying(hours_ago(8), 60);
    let mut station = Station::connect(&gateway, "n1", 900).await;
    station.report(1, &readings[..30]).await;
    until("the cloud failed", || cloud.lock().unwrap().failures > 1).await;
    cloud.lock().unwrap().mood = Mood::Proxied;
    let failures = cloud.lock().unwrap().failures;
    until("what stands before the cloud refused", || cloud.lock().unwrap().failures > failures + 1).await;
    gateway.shows("/", &["<td>Live windows</td><td>9</td>", ">away<"]).await;
    cloud.lock().unwrap().mood = Mood::Well;
    station.report(11, &readings[30..]).await;
    until("the aggregates are in the cloud", || windows(&cloud).len() >= 19).await;
    let starts: Vec<_> = cloud
        .lock()
        .unwrap()
        .records
        .iter()
        .filter_map(|r| if let Record::Window(w) = r { Some(w.start) } else { None })
        .collect();
    assert!(starts.is_sorted_by(|a, b| a < b), "once and in order: {starts:?}");
    assert_eq!(place.ask("SELECT count(*) FROM quarantine"), 0);
}

#[tokio::test]
async fn a_cloud_that_is_not_there_gets_everything_when_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let place = Place::new(Some(address), "");
    let gateway = place.start().await;
    let mut station = Station::connect(&gateway, "n1", 900).await;
    station.report(1, &drying(hours_ago(6), 30)).await;
    gateway.shows("/metrics", &[r#"tilth_gateway_backlog{lane="aggregates"} 9"#]).await;
    let cloud = serve(TcpListener::bind(address).await.unwrap());
    until("the aggregates are in the cloud", || windows(&cloud).len() == 9).await;
    gateway.shows("/metrics", &[r#"tilth_gateway_backlog{lane="aggregates"} 0"#]).await;
}

#[tokio::test]
async fn a_lane_goes_on_where_the_cloud_has_it() {
    let (cloud, address) = cloud().await;
    // It had 40 windows of a store that is gone.
    cloud.lock().unwrap().sequence.insert(Lane::Aggregates, 40);
    let place = Place::new(Some(address), "");
    let gateway = place.start().await;
    let readings = drying(hours_ago(8), 60);
    let mut station = Station::connect(&gateway, "n1", 900).await;
    station.report(1, &readings[..30]).await;
    until("nothing is skipped as known", || windows(&cloud).len() == 9).await;
    // Now the cloud is restored from an old copy.
    cloud.lock().unwrap().sequence.insert(Lane::Aggregates, 3);
    station.report(11, &readings[30..]).await;
    until("the lane is renumbered", || windows(&cloud).len() >= 19).await;
    assert!(cloud.lock().unwrap().gaps > 0);
}

#[tokio::test]
async fn one_refused_record_is_set_aside_and_its_lane_goes_on() {
    let (cloud, address) = cloud().await;
    let place = Place::new(Some(address), "");
    cloud.lock().unwrap().mood = Mood::Broken;
    let gateway = place.start().await;
    let start = hours_ago(8);
    let mut station = Station::connect(&gateway, "n1", 900).await;
    station.report(1, &drying(start, 60)).await;
    gateway.shows("/metrics", &[r#"tilth_gateway_backlog{lane="aggregates"} 19"#]).await;
    let poisoned = start.plus_secs(900 * 7);
    cloud.lock().unwrap().mood = Mood::Dislikes(poisoned);
    until("the others are in the cloud", || windows(&cloud).len() == 18).await;
    assert!(windows(&cloud).keys().all(|(_, start)| *start != poisoned));
    assert!(cloud.lock().unwrap().refusals > 1, "it was found by halving");
    assert_eq!(cloud.lock().unwrap().gaps, 0, "it leaves no gap");
    let (source, reason): (String, String) = place
        .store()
        .query_row("SELECT source, reason FROM quarantine", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(source, "uplink aggregates");
    assert!(reason.contains("no such window"), "{reason}");
}

#[tokio::test]
async fn an_alert_goes_before_what_waited_longer_and_the_page_shows_it_without_a_script() {
    let (cloud, address) = cloud().await;
    cloud.lock().unwrap().mood = Mood::Broken;
    let place = Place::new(Some(address), "[rules]\nsilent_reports = 1\nsilent_min_s = 1\n");
    let gateway = place.start().await;
    let readings = drying(hours_ago(6), 30);
    let mut station = Station::connect(&gateway, "n1", 1).await;
    station.report(1, &readings).await;
    let page = gateway
        .shows("/", &["Open alerts · 1", "Stations · 1", "<td>n1</td>", "<td>Live windows</td><td>9</td>"])
        .await;
    assert!(page.contains("30 readings stored, "), "{page}");
    assert!(page.contains(&format!("{:.3}", readings[29].value)), "the latest value: {page}");
    assert!(!page.contains("<script"), "{page}");
    cloud.lock().unwrap().mood = Mood::Well;
    until("everything is in the cloud", || windows(&cloud).len() == 9).await;
    let lanes: Vec<Lane> = cloud.lock().unwrap().records.iter().map(Record::lane).collect();
    assert!(lanes.is_sorted(), "by priority: {lanes:?}");
    assert_eq!((lanes[0], lanes.len() >= 11), (Lane::Alerts, true), "{lanes:?}");
}

#[tokio::test]
async fn a_gateway_that_is_asked_to_end_stores_and_ends_well() {
    let place = Place::new(None, "");
    let mut gateway = place.start().await;
    let mut station = Station::connect(&gateway, "n1", 900).await;
    station.report(1, &drying(hours_ago(6), 6)).await;
    let id = gateway.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert!(within("the gateway ends", gateway.child.wait()).await.unwrap().success());
    assert_eq!(place.progress(), 2);
}

#[tokio::test]
async fn a_store_of_another_layout_is_refused_by_name() {
    let place = Place::new(None, "");
    std::fs::create_dir(place.path("data")).unwrap();
    let store = Connection::open(place.path("data/gateway.sqlite")).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let output = place.fail().await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("gateway.sqlite: layout 99, but this gateway reads layout 2"), "{said}");
}

#[tokio::test]
async fn every_mistake_in_a_configuration_is_named_at_once() {
    let mistakes =
        "[cloud]\nurl = \"ftp://there\"\ntoken = \"t\"\n[windows]\nlength_s = 7000\n[retention]\nraw_days = 0\n";
    let place = Place::new(None, mistakes);
    let output = within("the check", place.command().arg("check").output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in ["gateway.toml", "cloud.url = \"ftp://there\"", "windows.length_s = 7000", "retention.raw_days = 0"] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
    let place = Place::new(None, "[windows]\nlength_s = \"long\"\n");
    let said = String::from_utf8(place.fail().await.stderr).unwrap();
    assert!(said.contains("gateway.toml: line") && said.contains(r#"length_s = "long""#), "{said}");
    let output = within("the check", Place::new(None, "").command().arg("check").output()).await.unwrap();
    assert!(output.status.success());
}

/// A disk that takes no larger files can be had everywhere. To SQLite it is a write that fails (EFBIG), as on a disk that is
/// broken, and not a full disk (ENOSPC), so no room is made on it; `tests/full_disk.rs` fills a real one.
#[tokio::test]
async fn a_disk_that_takes_no_more_acknowledges_nothing_and_heals_also_after_a_kill() {
    let place = Place::new(None, "");
    let mut gateway = place.start_in(1_000).await;
    let mut station = Station::connect(&gateway, "n1", 900).await;
    // All of one window, so that nothing but raw readings is to be written.
    let start = hours_ago(3);
    let batch = |sequence: u64| {
        let time = start.plus_millis(100 * sequence.cast_signed());
        Batch { boot: 1, sequence, readings: vec![Reading { channel: moisture(), time, value: 0.3 }] }
    };
    let refused = [r#"tilth_gateway_events_total{event="failed_commits"}"#];
    let mut sequence = 1;
    loop {
        station.hand_in("data", batch(sequence).encode().unwrap()).await;
        tokio::select! {
            () = station.is_taken() => sequence += 1,
            _ = gateway.shows("/metrics", &refused) => break,
        }
        assert!(sequence < 5_000, "the disk is not full");
    }
    let stored = || place.progress();
    assert_eq!(stored(), sequence - 1, "what was acknowledged, and no more");
    assert_eq!(gateway.get("/healthz").await, "ok");

    // Killed, it starts on the same disk, takes the message again, and still has no room for it.
    gateway.kill().await;
    gateway = place.start_in(1_000).await;
    station = Station::connect_again(&gateway, "n1").await;
    station.hand_in("data", batch(sequence).encode().unwrap()).await;
    gateway.shows("/metrics", &refused).await;
    assert_eq!(stored(), sequence - 1);
    assert_eq!(gateway.get("/healthz").await, "ok");

    let id = gateway.child.id().unwrap().to_string();
    let healed = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited:unlimited"]).status().await.unwrap();
    assert!(healed.success());
    station.is_taken().await;
    assert_eq!(stored(), sequence, "what was held back is taken, on the same connection");
    for sequence in sequence + 1..sequence + 3 {
        station.send(sequence, &batch(sequence).readings).await;
    }
    assert_eq!(stored(), sequence + 2);
    gateway.shows("/metrics", &[r#"tilth_gateway_events_total{event="failed_commits"}"#]).await;
    let readings = place.ask("SELECT value FROM counter WHERE name = 'readings'");
    assert_eq!(readings, (sequence + 2).cast_signed(), "a group that failed is not counted");
}
