//! Stations against a real broker (Mosquitto) that is killed, and a simulator that is killed.
//!
//! Between them stands a stand-in for the gateway: it keeps each report and acknowledges, for each station and boot, the
//! highest sequence up to which it has them all.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node_sim::base_station::{BaseStationConfig, Cause, OffTime};
use node_sim::energy::EnergyConfig;
use node_sim::farm::Farm;
use node_sim::onboard::Memory;
use node_sim::radio::RadioConfig;
use node_sim::truth::{Event, TruthReading, read_events, read_readings};
use node_sim::{Config, FarmConfig, Pace, simulate};
use proto::node_model::{Held, mark};
use proto::{
    Ack, Batch, Birth, Channel, Command, CommandMessage, FarmId, NodeModelChunk, NodeModelFile, NodeModelOffer,
    NodeModelState, Quantity, Reading, StationId, Status, TimeScale, Timestamp, Topic, TopicKind,
};
use rumqttc::{AsyncClient, Event as MqttEvent, MqttOptions, Packet, QoS};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker of its own, on a port that stays when it is killed and started again.
struct Broker {
    port: u16,
    dir: tempfile::TempDir,
    process: Child,
}

impl Broker {
    async fn start(extra: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence false\n{}",
            if extra.is_empty() { "allow_anonymous true\n" } else { extra }
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let process = Self::spawn(dir.path());
        let broker = Self { port, dir, process };
        broker.is_there().await;
        broker
    }

    fn spawn(dir: &Path) -> Child {
        let program =
            ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("this test needs Mosquitto (apt-get install mosquitto)");
        let mut command = Process::new(program);
        command.arg("-c").arg(dir.join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    async fn is_there(&self) {
        until("the broker to listen", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()).await;
    }

    async fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::spawn(self.dir.path());
        self.is_there().await;
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Station, boot and sequence of a report.
type Key = (StationId, u32, u64);
/// Channel, time and the bits of the value.
type Bits = (String, Timestamp, u64);

/// What the stand-in for the gateway has.
#[derive(Default)]
struct Received {
    reports: BTreeMap<Key, Vec<Reading>>,
    /// The highest sequence without a gap below, by station and boot.
    whole: HashMap<(StationId, u32), u64>,
    births: Vec<(StationId, Birth)>,
    statuses: Vec<(StationId, Status)>,
    /// Acknowledge the highest sequence, as the gateway does, though reports below it may have been lost at the station.
    highest: bool,
    /// The broker has confirmed the subscription.
    listening: bool,
}

impl Received {
    fn readings(&self) -> BTreeMap<Key, Vec<Bits>> {
        self.reports
            .iter()
            .map(|(key, readings)| {
                let mut readings: Vec<_> =
                    readings.iter().map(|r| (r.channel.to_string(), r.time, r.value.to_bits())).collect();
                readings.sort();
                (key.clone(), readings)
            })
            .collect()
    }
}

/// The stand-in for the gateway.
struct Gateway {
    received: Arc<Mutex<Received>>,
    client: AsyncClient,
    stop: CancellationToken,
}

impl Gateway {
    fn start(port: u16) -> Self {
        let mut options = MqttOptions::new("gateway", "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(10)).set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut eventloop) = AsyncClient::new(options, 10_000);
        let received = Arc::new(Mutex::new(Received::default()));
        let stop = CancellationToken::new();
        let (shared, sender, stopped) = (received.clone(), client.clone(), stop.clone());
        tokio::spawn(async move {
            while !stopped.is_cancelled() {
                match eventloop.poll().await {
                    Ok(MqttEvent::Incoming(Packet::ConnAck(_))) => {
                        sender.try_subscribe("tilth/v1/#", QoS::AtLeastOnce).unwrap()
                    }
                    Ok(MqttEvent::Incoming(Packet::SubAck(_))) => shared.lock().unwrap().listening = true,
                    Ok(MqttEvent::Incoming(Packet::Publish(message))) => {
                        let topic: Topic = message.topic.parse().unwrap();
                        if let Some(ack) = take(&mut shared.lock().unwrap(), &topic, &message.payload) {
                            let topic = Topic { kind: TopicKind::Ack, ..topic }.to_string();
                            // A full queue loses an acknowledgement, as a radio does.
                            let _ = sender.try_publish(topic, QoS::AtMostOnce, false, ack.encode());
                        }
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        Self { received, client, stop }
    }

    fn reports(&self) -> usize {
        self.received.lock().unwrap().reports.len()
    }

    fn has(&self, is_so: impl Fn(&Received) -> bool) -> bool {
        is_so(&self.received.lock().unwrap())
    }

    fn command(&self, farm: &FarmId, station: &str, id: u64, command: Command) {
        let topic = Topic { farm: farm.clone(), station: station.parse().unwrap(), kind: TopicKind::Command };
        self.client
            .try_publish(topic.to_string(), QoS::AtLeastOnce, false, CommandMessage { id, command }.encode())
            .unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn take(received: &mut Received, topic: &Topic, payload: &[u8]) -> Option<Ack> {
    let station = topic.station.clone();
    match topic.kind {
        TopicKind::Data => {
            let batch = Batch::decode(payload).unwrap();
            let key = (station.clone(), batch.boot, batch.sequence);
            let readings = received.reports.entry(key).or_insert_with(|| batch.readings.clone());
            assert_eq!(readings, &batch.readings, "{station}: one boot and sequence, two reports");
            let whole = received.whole.entry((station.clone(), batch.boot)).or_default();
            while received.reports.contains_key(&(station.clone(), batch.boot, *whole + 1)) {
                *whole += 1;
            }
            let sequence = if received.highest { batch.sequence } else { *whole };
            Some(Ack { boot: batch.boot, sequence })
        }
        TopicKind::Birth => {
            received.births.push((station, Birth::decode(payload).unwrap()));
            None
        }
        TopicKind::Status => {
            received.statuses.push((station, Status::decode(payload).unwrap()));
            None
        }
        TopicKind::Ack | TopicKind::Command => None,
    }
}

fn config(broker: &Broker, dir: &Path, days: i64) -> Config {
    let farm = FarmConfig { stations: 6, ..FarmConfig::default() };
    let mut config = Config::new(farm, broker.address(), dir.join("state"));
    config.pace = Pace::Acknowledged;
    config.until = Some(config.farm.start.plus_secs(days * 86_400));
    config.truth_dir = Some(dir.join("truth"));
    config.truth_readings = true;
    config
}

fn truth(config: &Config) -> Vec<TruthReading> {
    read_readings(config.truth_dir.as_ref().unwrap()).unwrap().map(Result::unwrap).collect()
}

/// The truth log has each reading once, everything that the farm makes is in it, and what arrived is exactly that.
fn assert_nothing_is_lost_or_doubled(config: &Config, gateway: &Gateway) {
    let mut logged: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut made = BTreeMap::new();
    for reading in truth(config) {
        let key = (reading.station.clone(), reading.boot, reading.sequence);
        logged.entry(key).or_default().push((reading.channel.to_string(), reading.time, reading.value.to_bits()));
        let before = made.insert((reading.station, reading.channel, reading.time), reading.value);
        assert!(before.is_none(), "a reading was made twice");
    }
    logged.values_mut().for_each(|readings| readings.sort());
    let mut expected = BTreeMap::new();
    simulate(&config.farm, config.farm.start, config.until.unwrap(), |station, reading| {
        expected.insert((station.clone(), reading.channel, reading.time), reading.value);
    })
    .unwrap();
    assert_eq!(made.len(), expected.len());
    assert!(made == expected, "what was made is not what the farm makes");
    assert!(logged == gateway.received.lock().unwrap().readings(), "what arrived is not what was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_report_arrives_while_the_broker_is_killed_and_started_again() {
    let mut broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    let dir = tempfile::tempdir().unwrap();
    let config = config(&broker, dir.path(), 3);
    let farm = tokio::spawn(node_sim::run(config.clone(), CancellationToken::new()));
    for reports in [100, 700] {
        until("reports", || gateway.reports() > reports).await;
        broker.kill_and_restart().await;
    }
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap().unwrap();
    assert_nothing_is_lost_or_doubled(&config, &gateway);
    assert_eq!(truth(&config).len(), 6 * 13 * 3 * 288);
}

/// Runs the program to its end, and kills it whenever so many reports have come.
async fn goes_on_after_kills(config: &Path, gateway: &Gateway, after: &[usize]) {
    let start = || {
        let mut program = Process::new(env!("CARGO_BIN_EXE_node-sim"));
        program.arg("--config").arg(config).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut process = start();
    for reports in after {
        until("reports", || gateway.reports() > *reports).await;
        process.kill().unwrap();
        process.wait().unwrap();
        process = start();
    }
    let mut status = None;
    until("the end", || {
        status = process.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_simulator_goes_on_where_it_was() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("scenario.toml");
    let fault = "[[fault]]\nstation = \"e1\"\nchannel = \"soil_moisture_10cm\"\nkind = \"stuck\"\nstart = \"6h\"\nend = \"2d\"\n";
    std::fs::write(&scenario, fault).unwrap();
    let mut config = config(&broker, dir.path(), 4);
    config.farm.scenario = Some(scenario);
    let file = dir.path().join("node-sim.toml");
    std::fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
    goes_on_after_kills(&file, &gateway, &[50, 333, 1111]).await;
    assert_nothing_is_lost_or_doubled(&config, &gateway);
    let boots: std::collections::BTreeSet<u32> = truth(&config).iter().map(|reading| reading.boot).collect();
    assert!(boots.len() > 1 && boots.iter().all(|boot| (1..=4).contains(boot)), "{boots:?}");
    let events = read_events(config.truth_dir.as_ref().unwrap()).unwrap();
    assert!(matches!(&events[..], [Event::Fault { station, .. }] if station.as_str() == "e1"), "{events:?}");
}

/// A run without a broker, until so many readings are in the truth log.
async fn run_alone(config: &Config, readings: usize) {
    let shutdown = CancellationToken::new();
    let farm = tokio::spawn(node_sim::run(config.clone(), shutdown.clone()));
    let dir = config.truth_dir.clone().unwrap();
    until("readings", || read_readings(&dir).is_ok_and(|all| all.count() > readings)).await;
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap().unwrap();
}

/// A run with a broker, until reports of this boot have arrived, and everything that waited.
async fn run_with(config: &Config, gateway: &Gateway, boot: u32) {
    let shutdown = CancellationToken::new();
    let farm = tokio::spawn(node_sim::run(config.clone(), shutdown.clone()));
    until("the boot's reports", || {
        gateway.has(|received| received.reports.keys().filter(|key| key.1 == boot).count() > 20)
    })
    .await;
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap().unwrap();
}

fn clock(farm: Timestamp, speed: f64) -> TimeScale {
    TimeScale { wall: Timestamp::from_jiff(jiff::Timestamp::now()), farm, speed }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_farm_that_was_off_has_a_gap_and_still_sends_what_it_kept() {
    let mut broker = Broker::start("").await;
    broker.process.kill().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 1);
    (config.pace, config.until, config.time) = (Pace::Scale, None, clock(config.farm.start, 20_000.0));
    run_alone(&config, 2000).await;
    let been = node_sim::resume_time(&config.state_dir).unwrap().unwrap();
    let before = truth(&config).len();

    broker.kill_and_restart().await;
    let gateway = Gateway::start(broker.port);
    let on_again = been.plus_secs(2 * 86_400);
    config.time = clock(on_again, 2000.0);
    run_with(&config, &gateway, 2).await;
    let truth = truth(&config);
    assert!(truth[..before].iter().all(|reading| reading.boot == 1 && reading.time <= been));
    assert!(truth[before..].iter().all(|reading| reading.boot == 2 && reading.time > on_again));
    // Everything was acknowledged before the end.
    assert_eq!(gateway.received.lock().unwrap().reports.values().map(Vec::len).sum::<usize>(), truth.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_is_in_the_truth_log() {
    overflow(Memory::Flash, 2500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_in_a_node_without_flash_is_in_the_truth_log() {
    overflow(Memory::Ram, 3500).await;
}

/// So many readings a station while the broker is away, which are more than its memory holds.
async fn overflow(memory: Memory, readings: usize) {
    let mut broker = Broker::start("").await;
    broker.process.kill().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 1);
    config.farm.stations = 3;
    config.ring_readings = 1000;
    config.node.memory = memory;
    (config.pace, config.until, config.time) = (Pace::Scale, None, clock(config.farm.start, 20_000.0));
    run_alone(&config, 3 * readings).await;

    broker.kill_and_restart().await;
    let gateway = Gateway::start(broker.port);
    config.time = clock(node_sim::resume_time(&config.state_dir).unwrap().unwrap(), 2000.0);
    run_with(&config, &gateway, 2).await;
    let made: std::collections::BTreeSet<Key> =
        truth(&config).into_iter().map(|r| (r.station, r.boot, r.sequence)).collect();
    let arrived: std::collections::BTreeSet<Key> = gateway.received.lock().unwrap().reports.keys().cloned().collect();
    let lost = lost(&config);
    // One that was under way when it had to go may have arrived all the same.
    assert!(lost.difference(&arrived).count() > 50, "{}", lost.len());
    assert!(
        made == arrived.union(&lost).cloned().collect(),
        "made {}, arrived {}, lost {}",
        made.len(),
        arrived.len(),
        lost.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_says_what_it_is_obeys_and_says_goodbye() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    until("the gateway to listen", || gateway.has(|received| received.listening)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 1);
    config.pace = Pace::Scale;
    config.until = None;
    config.time =
        TimeScale { wall: Timestamp::from_jiff(jiff::Timestamp::now()), farm: config.farm.start, speed: 3600.0 };
    config.ready_file = Some(dir.path().join("ready.json"));
    let shutdown = CancellationToken::new();
    let farm = tokio::spawn(node_sim::run(config.clone(), shutdown.clone()));
    until("reports of every station", || gateway.has(|received| received.whole.len() == 6)).await;
    assert_eq!(std::fs::read_to_string(dir.path().join("ready.json")).unwrap(), "{\"stations\":6}\n");
    let births = |received: &Received| received.births.iter().filter(|(station, _)| station.as_str() == "n1").count();
    let before = gateway.received.lock().unwrap().births.clone();
    let (_, birth) = before.iter().find(|(station, _)| station.as_str() == "n1").unwrap();
    assert_eq!((birth.boot, birth.interval_s, birth.report_s, birth.channels.len()), (1, 300, 900, 13));
    assert_eq!(birth.field.as_ref().unwrap().as_str(), "north");
    // A command that comes twice is carried out once.
    let count = gateway.received.lock().unwrap().births.len();
    for (id, command) in [
        (1, Command::Irrigate { minutes: 600 }),
        (2, Command::Birth),
        (2, Command::Birth),
        (3, Command::SetTime(config.farm.start)),
        (4, Command::Birth),
    ] {
        gateway.command(&config.farm.id, "n1", id, command);
    }
    until("two more births", || {
        gateway.has(|received| births(received) >= before.iter().filter(|(s, _)| s.as_str() == "n1").count() + 2)
    })
    .await;
    assert_eq!(gateway.received.lock().unwrap().births.len(), count + 2);
    // The field gets wet, which without the command it would not for a day.
    until("water in the north field", || {
        gateway.has(|received| {
            let moist = |((station, _, _), readings): (&Key, &Vec<Reading>)| {
                station.as_str() == "n2"
                    && readings.iter().any(|r| r.channel.to_string() == "soil_moisture_10cm" && r.value > 0.23)
            };
            received.reports.iter().any(moist)
        })
    })
    .await;
    // Whoever sends the command again is told that it was carried out, and that is all that happens.
    let confirmed = || {
        let received = gateway.received.lock().unwrap();
        received.statuses.iter().filter(|(s, status)| s.as_str() == "n1" && status.irrigated == Some(1)).count()
    };
    until("the command's confirmation", || confirmed() == 1).await;
    gateway.command(&config.farm.id, "n1", 1, Command::Irrigate { minutes: 600 });
    until("the confirmation again", || confirmed() == 2).await;
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap().unwrap();
    until("six farewells", || {
        gateway.has(|received| received.statuses.iter().filter(|(_, status)| !status.online).count() == 6)
    })
    .await;
    assert!(gateway.has(|received| {
        received.statuses.iter().filter(|(_, status)| status.online && status.irrigated.is_none()).count() == 6
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_station_sends_its_own_clocks_times_until_it_is_told_the_true_one() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    until("the gateway to listen", || gateway.has(|received| received.listening)).await;
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("clock.toml");
    let text = "[[clock]]\nstation = \"n1\"\nstart = \"0h\"\nend = \"90d\"\noffset_s = 86400\n";
    std::fs::write(&scenario, text).unwrap();
    let mut config = config(&broker, dir.path(), 1);
    (config.pace, config.until, config.farm.scenario) = (Pace::Scale, None, Some(scenario));
    config.time =
        TimeScale { wall: Timestamp::from_jiff(jiff::Timestamp::now()), farm: config.farm.start, speed: 3600.0 };
    let farm_now = || config.time.at(Timestamp::from_jiff(jiff::Timestamp::now()));
    let shutdown = CancellationToken::new();
    let farm = tokio::spawn(node_sim::run(config.clone(), shutdown.clone()));
    // How far the newest report of a station is ahead of the newest of another, in hours.
    let ahead_h = |received: &Received| {
        let newest = |name: &str| {
            let of = received.reports.iter().filter(|((station, ..), _)| station.as_str() == name);
            of.max_by_key(|((_, boot, sequence), _)| (*boot, *sequence)).and_then(|(_, readings)| readings.last())
        };
        Some(newest("n1")?.time.millis_since(newest("n2")?.time) as f64 / 3_600_000.0)
    };
    until("reports a day ahead", || {
        gateway.has(|received| ahead_h(received).is_some_and(|h| (20.0..28.0).contains(&h)))
    })
    .await;
    gateway.command(&config.farm.id, "n1", 1, Command::SetTime(farm_now()));
    until("reports of the true time", || gateway.has(|received| ahead_h(received).is_some_and(|h| h.abs() < 4.0)))
        .await;
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stations_come_with_their_own_certificates() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::new(dir.path());
    ca.issue("127.0.0.1", "server");
    for station in ["n1", "e1", "c1"] {
        ca.issue(station, station);
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Each station may use its own topics only; the gateway's stand-in comes without TLS.
    std::fs::write(dir.path().join("acl"), "topic readwrite #\npattern readwrite tilth/v1/demo/%u/#\n").unwrap();
    let broker = Broker::start(&format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true\nlistener {plain} 127.0.0.1\nallow_anonymous true\nacl_file {}\n",
        path("ca.crt"),
        path("server.crt"),
        path("server.key"),
        path("acl"),
    ))
    .await;
    let gateway = Gateway::start(plain);
    let mut config = config(&broker, dir.path(), 1);
    config.farm.stations = 3;
    config.until = Some(config.farm.start.plus_secs(3 * 3600));
    config.tls =
        Some(node_sim::config::TlsConfig { ca: dir.path().join("ca.crt"), certificates: Some(dir.path().to_owned()) });
    let farm = node_sim::run(config.clone(), CancellationToken::new());
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap();
    assert_nothing_is_lost_or_doubled(&config, &gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measured_year_is_replayed_exactly_while_the_simulator_is_killed() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/fallon-2015/hourly.csv"));
    assert!(path.exists(), "this test needs the weather measured at Fallon, {path:?}");
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    let dir = tempfile::tempdir().unwrap();
    let columns = [
        ("air_temperature_c", "air_temperature_200cm"),
        ("wind_speed_m_s", "wind_speed_300cm"),
        ("solar_radiation_w_m2", "solar_radiation"),
    ];
    let list = columns.map(|(name, channel)| format!("{{ name = {name:?}, channel = {channel:?} }}")).join(", ");
    let text = format!(
        "broker = {:?}\nstate_dir = {:?}\ntruth_dir = {:?}\ntruth_readings = true\npace = \"acknowledged\"\n\
         [farm]\nreport_s = 86400\n\
         [[replay.file]]\npath = {path:?}\nstation = \"faln\"\ntime = \"time_utc\"\ncolumns = [{list}]\n",
        broker.address(),
        dir.path().join("state"),
        dir.path().join("truth"),
    );
    let file = dir.path().join("node-sim.toml");
    std::fs::write(&file, text).unwrap();
    goes_on_after_kills(&file, &gateway, &[30, 200]).await;

    let mut expected: Vec<(String, Timestamp, u64)> = Vec::new();
    for row in csv::Reader::from_path(path).unwrap().deserialize::<BTreeMap<String, String>>() {
        let row = row.unwrap();
        for (name, channel) in columns.iter().filter(|(name, _)| !row[*name].is_empty()) {
            let channel: proto::Channel = channel.parse().unwrap();
            let value = channel.quantity.quantise(row[*name].parse().unwrap());
            expected.push((channel.to_string(), row["time_utc"].parse().unwrap(), value.to_bits()));
        }
    }
    let mut arrived: Vec<Bits> = gateway.received.lock().unwrap().readings().into_values().flatten().collect();
    expected.sort();
    arrived.sort();
    assert!(expected.len() > 26_000 && expected == arrived, "{} rows, {} arrived", expected.len(), arrived.len());
    gateway.has(|received| {
        let birth = &received.births[0].1;
        assert_eq!((birth.interval_s, birth.report_s, birth.channels.len()), (3600, 86_400, 3));
        assert!(received.births.iter().map(|(_, birth)| birth.boot).max() == Some(3));
        true
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_farm_writes_the_same_truth_to_the_byte() {
    // Weather of normals, fields with a boundary, faults out of chance: all that chance decides.
    let normals = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scenarios/normals.toml");
    let mut table: toml::Table = std::fs::read_to_string(normals).unwrap().parse().unwrap();
    let farm = table["farm"].as_table_mut().unwrap();
    farm.insert("stations".to_owned(), toml::Value::Integer(4));
    let rates = "[rates]\nspike = 200.0\nstuck = 200.0\ndropout = 200.0\nhang = 200.0\n";
    farm.insert("faults".to_owned(), toml::Value::Table(rates.parse().unwrap()));
    let mut farm: FarmConfig = table.remove("farm").unwrap().try_into().unwrap();
    assert!(farm.fields.iter().any(|field| field.boundary.is_some()) && farm.weather.normals.is_some());
    let mut truths = Vec::new();
    for seed in [7, 7, 8] {
        farm.seed = seed;
        let broker = Broker::start("").await;
        let _gateway = Gateway::start(broker.port);
        let dir = tempfile::tempdir().unwrap();
        let config = Config { farm: farm.clone(), ..config(&broker, dir.path(), 3) };
        let run = node_sim::run(config.clone(), CancellationToken::new());
        tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
        let bytes = |name: &str| std::fs::read(config.truth_dir.as_ref().unwrap().join(name)).unwrap();
        let files = ["faults.jsonl", "readings.bin", "season.json"].map(bytes);
        assert!(files.iter().all(|file| file.len() > 100), "{:?}", files.map(|file| file.len()));
        truths.push(files);
    }
    for (at, name) in ["faults.jsonl", "readings.bin", "season.json"].into_iter().enumerate() {
        assert!(truths[0][at] == truths[1][at], "{name} is another one with the same seed");
        assert!(truths[0][at] != truths[2][at], "{name} is the same with another seed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn measured_data_is_played_at_its_speed_with_the_faults_that_it_is_given() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    let dir = tempfile::tempdir().unwrap();
    let first: Timestamp = "2026-03-01T06:00:00Z".parse().unwrap();
    let (minutes, speed) = (240_u32, 3600.0);
    let measured = |minute: u32| 10.0 + 0.05 * f64::from(minute);
    let data = dir.path().join("data.csv");
    let rows: Vec<String> = (0..minutes)
        .map(|minute| format!("{},{:.2},30\n", first.plus_secs(i64::from(minute) * 60), measured(minute)))
        .collect();
    std::fs::write(&data, format!("t,air,vwc\n{}", rows.concat())).unwrap();
    let faults = dir.path().join("faults.toml");
    let text = "[[fault]]\nstation = \"a1\"\nchannel = \"air_temperature_200cm\"\nkind = \"bias\"\nmagnitude = 5.0\nstart = \"1h\"\nend = \"2h\"\n\
        [[fault]]\nstation = \"a1\"\nchannel = \"soil_moisture_20cm\"\nkind = \"dropout\"\nrate = 1.0\nstart = \"2h\"\nend = \"3h\"\n\
        [[clock]]\nstation = \"a1\"\noffset_s = 7200\nstart = \"3h 31m\"\nend = \"5h\"\n";
    std::fs::write(&faults, text).unwrap();
    let text = format!(
        "broker = {:?}\nstate_dir = {:?}\ntruth_dir = {:?}\ntruth_readings = true\n\
         [time]\nwall = \"{}\"\nfarm = \"{first}\"\nspeed = {speed:?}\n\
         [farm]\nreport_s = 600\nscenario = {faults:?}\n\
         [[replay.file]]\npath = {data:?}\nstation = \"a1\"\ntime = \"t\"\ncolumns = [{{ name = \"air\", channel = \"air_temperature_200cm\" }}, \
         {{ name = \"vwc\", channel = \"soil_moisture_20cm\", unit = \"%\" }}]\n",
        broker.address(),
        dir.path().join("state"),
        dir.path().join("truth"),
        Timestamp::from_jiff(jiff::Timestamp::now()),
    );
    let file = dir.path().join("node-sim.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    let begun = Instant::now();
    tokio::time::timeout(PATIENCE, node_sim::run(config.clone(), CancellationToken::new())).await.unwrap().unwrap();
    // Four hours, an hour a second; the beginning was a moment before.
    let took = begun.elapsed().as_secs_f64();
    assert!(took > 3.0, "{took} s");

    let mut expected = Vec::new();
    for minute in 0..minutes {
        let time = first.plus_secs(i64::from(minute) * 60);
        // The clock is ahead in all reports whose first row is after half past three.
        let sent = if minute > 210 { time.plus_secs(7200) } else { time };
        let bias = if (60..120).contains(&minute) { 5.0 } else { 0.0 };
        let air: Channel = "air_temperature_200cm".parse().unwrap();
        let moisture: Channel = "soil_moisture_20cm".parse().unwrap();
        expected.push((air.to_string(), sent, air.quantity.quantise(measured(minute) + bias)));
        if !(120..180).contains(&minute) {
            expected.push((moisture.to_string(), sent, 0.3));
        }
    }
    let mut arrived: Vec<(String, Timestamp, f64)> = gateway
        .received
        .lock()
        .unwrap()
        .reports
        .values()
        .flatten()
        .map(|reading| (reading.channel.to_string(), reading.time, reading.value))
        .collect();
    let in_order = |a: &(String, Timestamp, f64), b: &(String, Timestamp, f64)| (&a.0, a.1).cmp(&(&b.0, b.1));
    expected.sort_by(in_order);
    arrived.sort_by(in_order);
    assert_eq!(arrived.len(), expected.len());
    for (arrived, expected) in arrived.iter().zip(&expected) {
        assert!((&arrived.0, arrived.1) == (&expected.0, expected.1), "{arrived:?} is not {expected:?}");
        assert!((arrived.2 - expected.2).abs() < 1e-9, "{arrived:?} is not {expected:?}");
    }
    // The truth log has what the probe would have said, and events for what no reading says.
    let biased: Vec<TruthReading> = truth(&config).into_iter().filter(|reading| reading.fault.is_some()).collect();
    assert_eq!(biased.len(), 60);
    let events = read_events(config.truth_dir.as_ref().unwrap()).unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Fault { .. })).count(), 3, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stations_whose_battery_is_empty_are_off_and_come_back_in_a_boot_of_their_own() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 5);
    // A battery that does not last a night.
    let energy = EnergyConfig { battery_wh: 0.1, sleep_w: 0.02, ..EnergyConfig::default() };
    config.farm.energy = Some(energy);
    let file = dir.path().join("node-sim.toml");
    std::fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
    goes_on_after_kills(&file, &gateway, &[400]).await;
    assert_nothing_is_lost_or_doubled(&config, &gateway);
    for station in ["n1", "e1", "c1"] {
        let own: Vec<TruthReading> = truth(&config).into_iter().filter(|r| r.station.as_str() == station).collect();
        let boots: std::collections::BTreeSet<u32> = own.iter().map(|reading| reading.boot).collect();
        // Two starts, and four or five mornings.
        assert!((6..=8).contains(&boots.len()), "{station}: {boots:?}");
        let mut times: Vec<Timestamp> = own.iter().map(|reading| reading.time).collect();
        times.sort();
        let gaps = times.windows(2).filter(|pair| pair[1].millis_since(pair[0]) > 3_600_000).count();
        assert!((4..=5).contains(&gaps), "{station}: {gaps} nights");
        // Each boot had a birth.
        let received = gateway.received.lock().unwrap();
        let births = received.births.iter().filter(|(id, _)| id.as_str() == station);
        let born: std::collections::BTreeSet<u32> = births.map(|(_, birth)| birth.boot).collect();
        assert!(born.len() + 2 >= boots.len(), "{station}: {born:?} of {boots:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_radio_that_is_out_drops_the_connection_and_loses_only_what_the_ring_cannot_hold() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    gateway.received.lock().unwrap().highest = true;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 6);
    config.farm.stations = 3;
    config.ring_readings = 2000;
    // At the edge of what reaches: out for hours.
    config.farm.radio = Some(RadioConfig { exponent: 4.2, shadowing_db: 10.0, ..RadioConfig::default() });
    let farm = node_sim::run(config.clone(), CancellationToken::new());
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap();

    let made: std::collections::BTreeSet<Key> =
        truth(&config).into_iter().map(|r| (r.station, r.boot, r.sequence)).collect();
    let lost = lost(&config);
    let arrived: std::collections::BTreeSet<Key> = gateway.received.lock().unwrap().reports.keys().cloned().collect();
    let missing: std::collections::BTreeSet<Key> = made.difference(&arrived).cloned().collect();
    assert!(missing.is_subset(&lost), "{:?}", missing.difference(&lost).collect::<Vec<_>>());
    assert!(!missing.is_empty(), "the radio was never out for long");
    assert!(arrived.len() > made.len() / 4, "{} of {}", arrived.len(), made.len());
    let wills = gateway.received.lock().unwrap().statuses.iter().filter(|(_, status)| !status.online).count();
    assert!(wills > 3, "{wills}");
}

/// The reports that found no room, by the truth log.
fn lost(config: &Config) -> std::collections::BTreeSet<Key> {
    let mut lost = std::collections::BTreeSet::new();
    for event in read_events(config.truth_dir.as_ref().unwrap()).unwrap() {
        if let Event::Lost { station, boot, first, last, .. } = event {
            lost.extend((first..=last).map(|sequence| (station.clone(), boot, sequence)));
        }
    }
    lost
}

/// The base station's off-times by the truth log.
fn off_times(config: &Config) -> Vec<OffTime> {
    let events = read_events(config.truth_dir.as_ref().unwrap()).unwrap();
    let off = events.into_iter().filter_map(|event| match event {
        Event::BaseStationOff(off) => Some(off),
        _ => None,
    });
    off.collect()
}

/// Those that the farm without a network has.
fn expected_off_times(config: &Config) -> Vec<OffTime> {
    let mut farm = Farm::new(&config.farm).unwrap();
    let end = config.until.unwrap();
    farm.advance(end, |_| {});
    let mut off = farm.take_off_times();
    off.extend(farm.base().unwrap().off_until(end));
    off
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_measured_while_a_base_station_is_off_arrives_when_it_is_on() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 4);
    config.farm.stations = 3;
    // On for five minutes of every five hours, until the battery is empty in the second night.
    config.farm.base_station = Some(BaseStationConfig {
        fields: vec!["north".parse().unwrap(), "east".parse().unwrap()],
        gap_s: Some(5 * 3600),
        battery_wh: 60.0,
        off_w: 2.0,
        panel_w: 8.0,
        ..BaseStationConfig::default()
    });
    let file = dir.path().join("node-sim.toml");
    std::fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
    goes_on_after_kills(&file, &gateway, &[300]).await;
    assert_nothing_is_lost_or_doubled(&config, &gateway);
    assert!(lost(&config).is_empty());
    let off = off_times(&config);
    assert_eq!(off, expected_off_times(&config));
    let of = |cause| off.iter().filter(|off| off.cause == cause).count();
    assert!(of(Cause::DutyCycle) > 5 && of(Cause::Power) > 0, "{off:?}");
    // Each on-time is a connection of its own; who does not need the base station has one for each start.
    let received = gateway.received.lock().unwrap();
    let births = |name: &str| received.births.iter().filter(|(id, _)| id.as_str() == name).count();
    assert!(births("n1") >= off.len() && births("e1") >= off.len(), "{} {}", births("n1"), births("e1"));
    assert!(births("c1") <= 4, "{}", births("c1"));
    let longest =
        |name: &str| received.births.iter().find(|(id, _)| id.as_str() == name).map(|(_, birth)| birth.report_s);
    assert_eq!((longest("n1"), longest("c1")), (Some(5 * 3600), Some(900)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_while_a_base_station_is_off_is_in_the_truth_log() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    gateway.received.lock().unwrap().highest = true;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 3);
    config.farm.stations = 2;
    config.ring_readings = 1000;
    // Ten hours are 1,560 readings.
    config.farm.base_station = Some(BaseStationConfig { gap_s: Some(10 * 3600), ..BaseStationConfig::default() });
    let farm = node_sim::run(config.clone(), CancellationToken::new());
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap();
    let made: std::collections::BTreeSet<Key> =
        truth(&config).into_iter().map(|r| (r.station, r.boot, r.sequence)).collect();
    let arrived: std::collections::BTreeSet<Key> = gateway.received.lock().unwrap().reports.keys().cloned().collect();
    let lost = lost(&config);
    // One that was under way when it had to go may have arrived all the same.
    assert!(lost.difference(&arrived).count() > 2 * 7 * 10, "{}", lost.len());
    assert!(made == arrived.union(&lost).cloned().collect());
    assert_eq!(off_times(&config), expected_off_times(&config));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_radio_takes_as_long_as_its_reports_are_on_air() {
    let mut broker = Broker::start("").await;
    broker.process.kill().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 1);
    config.farm.stations = 1;
    // In sight of the gateway: nothing is lost.
    let radio = RadioConfig {
        spreading: 12,
        frequency_mhz: 868.1,
        exponent: 2.0,
        plants_m: 0.0,
        shadowing_db: 0.0,
        ..RadioConfig::default()
    };
    config.farm.radio = Some(radio);
    (config.pace, config.until, config.time) = (Pace::Scale, None, clock(config.farm.start, 20_000.0));
    run_alone(&config, 3000).await;

    const SPEED: f64 = 40.0;
    broker.kill_and_restart().await;
    let gateway = Gateway::start(broker.port);
    until("the gateway listens", || gateway.has(|received| received.listening)).await;
    config.time = clock(node_sim::resume_time(&config.state_dir).unwrap().unwrap(), SPEED);
    let (begun, shutdown) = (Instant::now(), CancellationToken::new());
    let farm = tokio::spawn(node_sim::run(config.clone(), shutdown.clone()));
    until("reports", || gateway.reports() >= 20).await;
    let lora = radio.lora();
    assert!(lora.packets(200).count() > 1);
    let air_s = |received: &Received| -> f64 {
        let bytes = received.reports.iter().map(|((_, boot, sequence), readings)| {
            Batch { boot: *boot, sequence: *sequence, readings: readings.clone() }.encode().unwrap().len()
        });
        bytes.map(|bytes| lora.report(bytes as u32, 100.0).air_s).sum()
    };
    let (air_s, arrived) = {
        let received = gateway.received.lock().unwrap();
        (air_s(&received), received.reports.len())
    };
    let took_s = begun.elapsed().as_secs_f64();
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, farm).await.unwrap().unwrap().unwrap();
    // 39 readings at LoRa's slowest rate are several packets, and some ten seconds on air.
    assert!(air_s > 8.0 * arrived as f64 && took_s >= air_s / SPEED, "{arrived} reports: {air_s} s, {took_s} s");
    // The oldest first, and none left out.
    let received = gateway.received.lock().unwrap();
    let sequences: Vec<u64> = received.reports.keys().filter(|key| key.1 == 1).map(|key| key.2).collect();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "{sequences:?}");
}

/// A certificate authority that writes what it issues to a folder.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(dir.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), dir: dir.to_owned() }
    }

    fn issue(&self, name: &str, file: &str) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.dir.join(format!("{file}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
    }
}

/// A model of one channel, which says that it stays as it was.
fn model(version: &str) -> Vec<u8> {
    let channels = [Channel::at(Quantity::SoilMoisture, 10)];
    let file = NodeModelFile::persistence(version.parse().unwrap(), &channels, vec![(0.3, 0.1)], 2);
    file.encode().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_over_restarts_and_one_of_other_bytes_than_were_offered_is_refused() {
    let broker = Broker::start("").await;
    let gateway = Gateway::start(broker.port);
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&broker, dir.path(), 1);
    (config.pace, config.until, config.time) = (Pace::Scale, None, clock(config.farm.start, 60.0));
    config.node.model = true;
    let start = || {
        let shutdown = CancellationToken::new();
        (tokio::spawn(node_sim::run(config.clone(), shutdown.clone())), shutdown)
    };
    let last = || {
        let received = gateway.received.lock().unwrap();
        let of_n1 = received.statuses.iter().rev().find(|(station, status)| station.as_str() == "n1" && status.online);
        of_n1.and_then(|(_, status)| status.model.clone())
    };
    let tell = |command| gateway.command(&config.farm.id, "n1", 1, command);
    let is = |state, offset| last().is_some_and(|model| model.state == state && model.offset == offset);
    let (running, shutdown) = start();
    until("the station", || is(NodeModelState::Idle, 0)).await;

    let bytes = model("1.2.3");
    let (version, size) = ("1.2.3".parse().unwrap(), bytes.len() as u32);
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    tell(Command::OfferModel(NodeModelOffer { version, sha256, size }));
    until("the offer's answer", || is(NodeModelState::Receiving, 0)).await;
    tell(Command::ModelChunk(NodeModelChunk { version, offset: 0, bytes: bytes[..30].to_vec() }));
    until("the chunk's answer", || is(NodeModelState::Receiving, 30)).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
    gateway.received.lock().unwrap().statuses.clear();
    let (running, shutdown) = start();
    until("the station after its restart", || is(NodeModelState::Receiving, 30)).await;
    tell(Command::ModelChunk(NodeModelChunk { version, offset: 30, bytes: bytes[30..].to_vec() }));
    until("the model", || is(NodeModelState::Active, 0)).await;
    assert_eq!(last().unwrap().active, Some(Held { version, mark: mark(&sha256) }));

    let mut bytes = model("1.3.0");
    let (version, size, sha256) = ("1.3.0".parse().unwrap(), bytes.len() as u32, Sha256::digest(&bytes).into());
    tell(Command::OfferModel(NodeModelOffer { version, sha256, size }));
    until("the offer's answer", || is(NodeModelState::Receiving, 0)).await;
    bytes[40] ^= 1;
    tell(Command::ModelChunk(NodeModelChunk { version, offset: 0, bytes }));
    until("the refusal", || is(NodeModelState::Refused, 0)).await;
    let model = last().unwrap();
    assert_eq!(model.reason, "sha256");
    assert_eq!(model.active.unwrap().version.to_string(), "1.2.3", "what ran goes on");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
