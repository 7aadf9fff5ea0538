//! `kill -9` a hundred times while real MQTT clients publish as fast as they are acknowledged: what was acknowledged is in
//! the raw store once, and windows and alerts are those of a gateway that was never killed. And its stations torn off all at once.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use gateway::store::{Cursor, Store};
use proto::{Alert, Batch, Birth, Channel, Lane, Quantity, Reading, Record, StationId, Timestamp, Window};
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, Publish};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, Outgoing, QoS};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

#[path = "support/process.rs"]
mod process;

use process::{Gateway, PATIENCE, client, password, until};

const STATIONS: usize = 4;
const BATCHES: u64 = 280;
const KILLS: u32 = 100;
/// How far one station may be ahead of another, in batches: less than detection waits for.
const AHEAD: u64 = 2;

fn name(station: usize) -> String {
    format!("n{station}")
}

/// A gateway of so many stations.
async fn gateway_of(stations: usize) -> Gateway {
    let clients: String = (0..stations).map(|number| client(&name(number), "station")).collect();
    Gateway::of(&clients, "[rules]\nspike_close_after = 6\n").await
}

/// The start of a quarter of an hour, five days ago.
fn beginning() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now()).plus_secs(-5 * 86_400).floor_to(900)
}

/// A quarter of an hour of readings, and what is wrong with them.
fn batch(start: Timestamp, station: usize, sequence: u64) -> Batch {
    let mut readings = Vec::new();
    for i in 0..3 {
        let n = (sequence as i64 - 1) * 3 + i;
        let time = start.plus_secs(n * 300 + station as i64);
        let wiggle = 0.002 * ((n * (station as i64 + 3)) % 7) as f64;
        let mut moisture = 0.2 + wiggle;
        match (station, sequence) {
            (0, 150..180) => moisture = 0.2,
            (1, 100..) if sequence.is_multiple_of(29) && i == 1 => moisture += 0.2,
            _ => {}
        }
        readings.push(Reading {
            channel: Channel::at(Quantity::SoilMoisture, 20),
            time,
            value: Quantity::SoilMoisture.quantise(moisture),
        });
        if station != 2 || !(180..200).contains(&sequence) {
            let value = Quantity::SoilTemperature.quantise(14.0 + 3.0 * (n as f64 / 46.0).sin() + 10.0 * wiggle);
            readings.push(Reading { channel: Channel::at(Quantity::SoilTemperature, 20), time, value });
        }
    }
    Batch { boot: 1, sequence, readings }
}

/// How far each station's batches are acknowledged by PUBACK.
type Acknowledged = Arc<Vec<AtomicU64>>;

/// A station that keeps what is not acknowledged, and sends it again on each new connection.
async fn station(number: usize, start: Timestamp, port: Arc<AtomicU16>, all: Acknowledged, over: Arc<AtomicBool>) {
    let topic = |kind: &str| format!("tilth/v1/f/{}/{kind}", name(number));
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
    while !over.load(Ordering::Relaxed) {
        let port = port.load(Ordering::Relaxed);
        let mut options = MqttOptions::new(name(number), "127.0.0.1", port);
        options.set_credentials(name(number), password(&name(number))).set_keep_alive(Duration::from_secs(30));
        let (client, mut events) = AsyncClient::new(options, 64);
        client.publish(topic("birth"), QoS::AtLeastOnce, false, birth.encode()).await.unwrap();
        let mut next = all[number].load(Ordering::Relaxed) + 1;
        // What is in flight, by packet id: a sequence, or 0 for the birth.
        let (mut queued, mut flying) = (VecDeque::from([0]), BTreeMap::new());
        loop {
            let slowest = all.iter().map(|one| one.load(Ordering::Relaxed)).min().unwrap();
            while next <= BATCHES && next <= slowest + AHEAD && queued.len() + flying.len() < 8 {
                let payload = batch(start, number, next).encode().unwrap();
                client.publish(topic("data"), QoS::AtLeastOnce, false, payload).await.unwrap();
                queued.push_back(next);
                next += 1;
            }
            match tokio::time::timeout(Duration::from_millis(5), events.poll()).await {
                Err(_) if over.load(Ordering::Relaxed) => return,
                Err(_) | Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => {}
                Ok(Err(_)) => break,
                Ok(Ok(Event::Outgoing(Outgoing::Publish(packet)))) => {
                    flying.insert(packet, queued.pop_front().unwrap());
                }
                Ok(Ok(Event::Incoming(Incoming::PubAck(puback)))) => {
                    let sequence = flying.remove(&puback.pkid).unwrap();
                    all[number].fetch_max(sequence, Ordering::Relaxed);
                }
                Ok(Ok(_)) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends everything to a gateway that is killed so many times meanwhile.
async fn run(start: Timestamp, kills: u32) -> Gateway {
    let mut gateway = gateway_of(STATIONS).await;
    let port = Arc::new(AtomicU16::new(gateway.mqtt));
    let (all, over): (Acknowledged, Arc<AtomicBool>) =
        (Arc::new((0..STATIONS).map(|_| AtomicU64::new(0)).collect()), Arc::default());
    let stations: Vec<_> =
        (0..STATIONS).map(|n| tokio::spawn(station(n, start, port.clone(), all.clone(), over.clone()))).collect();
    let sum = || all.iter().map(|one| one.load(Ordering::Relaxed)).sum::<u64>();
    let whole = STATIONS as u64 * BATCHES;
    for kill in 1..=kills {
        // Under load: each time something more was acknowledged, at another moment of its way.
        let wanted = u64::from(kill) * whole / u64::from(kills + 1);
        until("the stations are acknowledged", || sum() >= wanted).await;
        tokio::time::sleep(Duration::from_millis(u64::from(kill * 37 % 61))).await;
        gateway.kill();
        let acknowledged: Vec<u64> = all.iter().map(|one| one.load(Ordering::Relaxed)).collect();
        if kill % 10 == 0 {
            is_stored_once(&gateway.data(), &acknowledged);
        }
        gateway.again().await;
        port.store(gateway.mqtt, Ordering::Relaxed);
    }
    until("everything is acknowledged", || sum() == whole).await;
    over.store(true, Ordering::Relaxed);
    for station in stations {
        station.await.unwrap();
    }
    gateway.stop().await;
    is_stored_once(&gateway.data(), &[BATCHES; STATIONS]);
    gateway
}

/// Every acknowledged batch is in the raw store, and none is there twice.
fn is_stored_once(data: &Path, acknowledged: &[u64]) {
    let mut store = Store::open(data).unwrap();
    let mut seen: BTreeSet<(String, u64)> = BTreeSet::new();
    let mut cursor = Cursor { commit: 0, messages: u32::MAX };
    while let Some((commit, messages)) = store.commit_after(cursor).unwrap() {
        for message in messages.iter().filter(|message| message.kind == 1) {
            let batch = Batch::decode(&message.payload).unwrap();
            let new = seen.insert((message.station.clone(), batch.sequence));
            assert!(new, "{} has batch {} twice", message.station, batch.sequence);
        }
        cursor = Cursor { commit, messages: u32::MAX };
    }
    for (number, acknowledged) in acknowledged.iter().enumerate() {
        for sequence in 1..=*acknowledged {
            assert!(seen.contains(&(name(number), sequence)), "{} has lost batch {sequence}", name(number));
        }
    }
}

/// What the spool holds: each window's and each alert's last revision.
fn said(data: &Path) -> (BTreeMap<(StationId, Timestamp), Window>, BTreeMap<String, Alert>) {
    let store = rusqlite::Connection::open(data.join("gateway.sqlite")).unwrap();
    let mut statement = store.prepare("SELECT body FROM spool WHERE lane IN (?1, ?2) ORDER BY id").unwrap();
    let lanes = [Lane::Alerts as i64, Lane::Aggregates as i64];
    let bodies = statement.query_map(lanes, |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let (mut windows, mut alerts) = (BTreeMap::new(), BTreeMap::new());
    for body in bodies {
        match Record::decode(&body.unwrap()).unwrap() {
            Record::Window(window) => drop(windows.insert((window.station.clone(), window.start), window)),
            // How long a station was not heard depends on when it was killed.
            Record::Alert(alert) if alert.kind == proto::AlertKind::Silent => {}
            Record::Alert(alert) => drop(alerts.insert(alert.id.clone(), alert)),
            other => panic!("{other:?}"),
        }
    }
    (windows, alerts)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_a_hundred_times_under_load_a_gateway_loses_nothing_and_says_the_same() {
    let start = beginning();
    let never = run(start, 0).await;
    let killed = run(start, KILLS).await;
    let ((windows, alerts), (expected, expected_alerts)) = (said(&killed.data()), said(&never.data()));
    assert!(expected.len() as u64 > STATIONS as u64 * (BATCHES - 4), "{} windows", expected.len());
    assert!(expected_alerts.len() > 3, "too few alerts to compare: {expected_alerts:?}");
    for (key, window) in &expected {
        assert_eq!(windows.get(key), Some(window), "{key:?}");
    }
    assert_eq!(windows.len(), expected.len());
    assert_eq!(alerts, expected_alerts);
}

/// Stations of the storm, and how often each is torn off.
const STORM: usize = 100;
const TEARS: usize = 15;

/// One connection of a station: its CONNECT and these batches in one write.
async fn dial(port: u16, number: usize, start: Timestamp, batches: std::ops::RangeInclusive<u64>) -> TcpStream {
    let mut bytes = BytesMut::new();
    let mut connect = Connect::new(name(number));
    connect.set_login(name(number), password(&name(number)));
    connect.write(&mut bytes).unwrap();
    for sequence in batches {
        put(&mut bytes, number, start, sequence);
    }
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream
}

/// Writes the PUBLISH of a batch, whose packet id is its sequence.
fn put(bytes: &mut BytesMut, number: usize, start: Timestamp, sequence: u64) {
    let topic = format!("tilth/v1/f/{}/data", name(number));
    let payload = batch(start, number, sequence).encode().unwrap();
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
    publish.pkid = sequence.try_into().unwrap();
    publish.write(bytes).unwrap();
}

/// Reads until so many PUBACKs have come; gives the last of them.
async fn acknowledged(stream: &mut TcpStream, wanted: usize) -> Option<u64> {
    let (mut bytes, mut last) = (BytesMut::new(), None);
    let mut count = 0;
    while count < wanted {
        match Packet::read(&mut bytes, 1 << 16) {
            Ok(Packet::PubAck(ack)) => (count, last) = (count + 1, Some(u64::from(ack.pkid))),
            Ok(Packet::ConnAck(ack)) => assert_eq!(ack.code, ConnectReturnCode::Success),
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("a PUBACK");
                assert!(read.unwrap() > 0, "the gateway closed the connection");
            }
        }
    }
    last
}

/// A station whose connection is torn off together with all others', again and again; gives what is acknowledged in the end.
async fn torn_off(number: usize, start: Timestamp, port: u16, all: Arc<Barrier>) -> u64 {
    let mut stored = 0;
    for tear in 0..TEARS {
        all.wait().await;
        let next = stored + 4;
        let mut stream = dial(port, number, start, stored + 1..=stored + 3).await;
        stored = acknowledged(&mut stream, (number + tear) % 4).await.unwrap_or(stored);
        all.wait().await;
        // What it still says may come or not; a reset says no goodbye.
        let mut bytes = BytesMut::new();
        put(&mut bytes, number, start, next);
        let _ = stream.try_write(&bytes);
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut stream = dial(port, number, start, stored + 1..=stored + 4).await;
    acknowledged(&mut stream, 4).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stations_that_are_all_torn_off_at_once_again_and_again_have_each_batch_stored_once() {
    let mut gateway = gateway_of(STORM).await;
    let (start, port, all) = (beginning(), gateway.mqtt, Arc::new(Barrier::new(STORM)));
    let stations: Vec<_> = (0..STORM).map(|n| tokio::spawn(torn_off(n, start, port, Arc::clone(&all)))).collect();
    let mut stored = Vec::new();
    for station in stations {
        stored.push(station.await.unwrap());
    }
    gateway.stop().await;
    is_stored_once(&gateway.data(), &stored);
    let counters = Store::open(&gateway.data()).unwrap().counters().unwrap();
    assert!(counters["duplicate_batches"] > STORM as u64, "hardly anything came twice: {counters:?}");
}
