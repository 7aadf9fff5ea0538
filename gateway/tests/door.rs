//! The front door and the broker behind it, tried with real clients. A small pipeline stands in for the gateway's: each
//! test takes the deliveries itself, and decides when they are "on disk".
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use gateway::broker::{Broker, BrokerConfig};
use gateway::credentials::{Credentials, Role};
use gateway::door::{Delivery, DeliveryKind, Door, DoorAddresses, DoorConfig, DoorMetrics, Outbox, Release, TlsConfig};
use proptest::strategy::{Strategy, ValueTree};
use proto::{StationId, TopicKind};
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, LastWill, Packet, Publish, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, QoS, TlsConfiguration, Transport};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until a condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A door with a broker behind it.
struct Gateway {
    addresses: DoorAddresses,
    outbox: Outbox,
    metrics: Arc<DoorMetrics>,
    broker: Broker,
    deliveries: mpsc::Receiver<Delivery>,
    shutdown: CancellationToken,
    door: JoinHandle<()>,
}

impl Gateway {
    async fn open() -> Self {
        Self::with(config(), 1_000, BrokerConfig::default()).await
    }

    async fn with(config: DoorConfig, room: usize, broker: BrokerConfig) -> Self {
        let mut credentials = Credentials::default();
        for (name, role) in
            [("n1", Role::Station), ("n2", Role::Station), ("viewer", Role::Subscriber), ("node-red", Role::Subscriber)]
        {
            credentials.insert(name, role, &password(name));
        }
        let (sender, deliveries) = mpsc::channel(room);
        let broker = Broker::start(broker).await.unwrap();
        let door = Door::bind(&config, "f".parse().unwrap(), credentials, broker.clone(), sender).await.unwrap();
        let shutdown = CancellationToken::new();
        let (addresses, outbox, metrics) = (door.addresses(), door.outbox(), door.metrics());
        tokio::spawn({
            let (broker, shutdown) = (broker.clone(), shutdown.clone());
            async move { broker.run(shutdown).await }
        });
        let door = tokio::spawn(door.run(shutdown.clone()));
        Self { addresses, outbox, metrics, broker, deliveries, shutdown, door }
    }

    fn mqtt(&self) -> SocketAddr {
        self.addresses.mqtt.unwrap()
    }

    async fn next(&mut self) -> Delivery {
        within("a delivery", self.deliveries.recv()).await.unwrap()
    }

    /// From now on everything is stored at once.
    fn store_everything(&mut self) -> JoinHandle<()> {
        let (_, none) = mpsc::channel(1);
        let mut deliveries = std::mem::replace(&mut self.deliveries, none);
        tokio::spawn(async move {
            let mut group = Vec::new();
            while deliveries.recv_many(&mut group, 100).await > 0 {
                let mut release = Release::new();
                group.drain(..).for_each(|delivery: Delivery| release.commit(delivery.ticket));
            }
        })
    }
}

fn config() -> DoorConfig {
    DoorConfig { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), ..DoorConfig::default() }
}

fn password(name: &str) -> String {
    format!("{name}-password-of-128-bits-or-more")
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A client of which every byte is in the test's hand.
struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    async fn dial(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: BytesMut::new() }
    }

    /// A client that is let in.
    async fn connect(address: SocketAddr, name: &str) -> Self {
        let mut raw = Self::dial(address).await;
        assert_eq!(raw.ask_in(&hello(name)).await, Some(ConnectReturnCode::Success));
        raw
    }

    async fn ask_in(&mut self, connect: &Connect) -> Option<ConnectReturnCode> {
        let mut bytes = BytesMut::new();
        connect.write(&mut bytes).unwrap();
        self.send(&bytes).await;
        match self.packet().await? {
            Packet::ConnAck(ack) => Some(ack.code),
            other => panic!("{other:?} instead of a CONNACK"),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None` when the connection has ended.
    async fn packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.buffer, 1 << 20) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match within("bytes from the door", self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn expect_puback(&mut self, id: u16) {
        match self.packet().await {
            Some(Packet::PubAck(ack)) => assert_eq!(ack.pkid, id),
            other => panic!("{other:?} instead of PUBACK {id}"),
        }
    }

    async fn expect_end(&mut self) {
        assert_eq!(self.packet().await, None);
    }

    async fn subscribe(&mut self, filters: &[&str]) -> Vec<SubscribeReasonCode> {
        let filters = filters.iter().map(|filter| SubscribeFilter::new((*filter).to_owned(), QoS::AtLeastOnce));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = 77;
        let mut bytes = BytesMut::new();
        subscribe.write(&mut bytes).unwrap();
        self.send(&bytes).await;
        match self.packet().await {
            Some(Packet::SubAck(ack)) if ack.pkid == 77 => ack.return_codes,
            other => panic!("{other:?} instead of a SUBACK"),
        }
    }
}

fn hello(name: &str) -> Connect {
    let mut connect = Connect::new(name);
    connect.set_login(name, password(name));
    connect
}

fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut publish = Publish::new(topic, if id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }, payload);
    publish.pkid = id;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).unwrap();
    bytes.to_vec()
}

const PING: [u8; 2] = [0xC0, 0];
const GOODBYE: [u8; 2] = [0xE0, 0];

/// A program of Mosquitto's.
struct Mosquitto {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Mosquitto {
    /// `mosquitto_sub`, once the broker has granted its subscription.
    async fn subscribe(address: SocketAddr, name: &str, filter: &str) -> Self {
        let mut child = mosquitto("mosquitto_sub", address, name)
            .args(["-d", "-q", "1", "-F", "message %t %x", "-t", filter])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut sub = Self { _child: child, lines };
        sub.line("Subscribed").await;
        sub
    }

    async fn line(&mut self, start: &str) -> String {
        loop {
            let line = within(&format!("{start:?} from mosquitto_sub"), self.lines.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("mosquitto_sub ended before {start:?}"));
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }

    async fn message(&mut self) -> (String, Vec<u8>) {
        let line = self.line("message ").await;
        let (topic, hex) = line.split_once(' ').unwrap_or((&line, ""));
        let payload = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        (topic.to_owned(), payload)
    }
}

fn mosquitto(program: &str, address: SocketAddr, name: &str) -> Command {
    // It writes a line when the line is complete, not when there are four kilobytes of them.
    let mut command = Command::new("stdbuf");
    command.args([
        "-oL",
        program,
        "-h",
        "127.0.0.1",
        "-p",
        &address.port().to_string(),
        "-u",
        name,
        "-P",
        &password(name),
    ]);
    command.kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_puback_goes_when_its_publish_is_stored_and_not_before() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&publish("tilth/v1/f/n1/data", 9, b"readings")).await;
    let delivery = gateway.next().await;
    assert_eq!(delivery.station.as_str(), "n1");
    assert_eq!((delivery.kind, &delivery.payload[..]), (DeliveryKind::Data, &b"readings"[..]));
    // What is asked later is answered: the door has had its chance to acknowledge, and did not.
    station.send(&PING).await;
    assert_eq!(station.packet().await, Some(Packet::PingResp));
    assert_eq!(read(&gateway.metrics.deliveries_waiting_now), 1);
    delivery.ticket.commit();
    station.expect_puback(9).await;
    assert_eq!((read(&gateway.metrics.pubacks), read(&gateway.metrics.deliveries_waiting_now)), (1, 0));
}

#[tokio::test]
async fn qos_0_births_and_statuses_are_delivered_too() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    for (kind, id) in [("birth", 1), ("status", 2), ("data", 0)] {
        station.send(&publish(&format!("tilth/v1/f/n1/{kind}"), id, kind.as_bytes())).await;
    }
    for kind in [DeliveryKind::Birth, DeliveryKind::Status, DeliveryKind::Data] {
        let delivery = gateway.next().await;
        assert_eq!(delivery.kind, kind);
        delivery.ticket.commit();
    }
    station.expect_puback(1).await;
    station.expect_puback(2).await;
    station.send(&PING).await;
    assert_eq!(station.packet().await, Some(Packet::PingResp), "QoS 0 has no PUBACK");
}

#[tokio::test]
async fn three_hundred_in_flight_are_released_in_order_and_together() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let stream: Vec<u8> = (1..=300).flat_map(|id| publish("tilth/v1/f/n1/data", id, &id.to_be_bytes())).collect();
    station.send(&stream).await;
    let mut release = Release::new();
    for id in 1..=300_u16 {
        let delivery = gateway.next().await;
        assert_eq!(&delivery.payload[..], id.to_be_bytes());
        release.commit(delivery.ticket);
    }
    assert_eq!(read(&gateway.metrics.pubacks), 0);
    release.send();
    for id in 1..=300 {
        station.expect_puback(id).await;
    }
}

#[tokio::test]
async fn a_library_client_gets_all_of_its_pubacks() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut options = MqttOptions::new("n1", "127.0.0.1", gateway.mqtt().port());
    options.set_credentials("n1", password("n1")).set_inflight(100);
    let (client, mut events) = AsyncClient::new(options, 10);
    tokio::spawn(async move {
        for i in 0..1_000_u32 {
            client.publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, false, i.to_be_bytes()).await.unwrap();
        }
        // Kept, or the event loop ends before it has heard the last answer.
        std::future::pending::<()>().await;
    });
    let mut acknowledged = 0;
    while acknowledged < 1_000 {
        if let Event::Incoming(Incoming::PubAck(_)) = within("an event", events.poll()).await.unwrap() {
            acknowledged += 1;
        }
    }
    assert_eq!(read(&gateway.metrics.publishes), 1_000);
}

#[tokio::test]
async fn what_could_not_be_stored_is_sent_again_on_a_new_connection() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&[publish("tilth/v1/f/n1/data", 1, b"one"), publish("tilth/v1/f/n1/data", 2, b"two")].concat()).await;
    gateway.next().await.ticket.commit();
    drop(gateway.next().await);
    station.expect_puback(1).await;
    station.expect_end().await;
    until("the count", || read(&gateway.metrics.closed_not_stored) == 1).await;

    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let mut again = publish("tilth/v1/f/n1/data", 2, b"two");
    again[0] |= 0b1000; // DUP
    station.send(&again).await;
    let delivery = gateway.next().await;
    assert_eq!(&delivery.payload[..], b"two");
    delivery.ticket.commit();
    station.expect_puback(2).await;
}

#[tokio::test]
async fn strangers_are_refused_and_counted() {
    let gateway = Gateway::open().await;
    let metrics = &gateway.metrics;
    let ask = async |connect: &Connect| Raw::dial(gateway.mqtt()).await.ask_in(connect).await;

    let mut wrong_password = hello("n1");
    wrong_password.set_login("n1", "guess");
    assert_eq!(ask(&wrong_password).await, Some(ConnectReturnCode::BadUserNamePassword));
    assert_eq!(ask(&hello("n9")).await, Some(ConnectReturnCode::BadUserNamePassword));
    assert_eq!(ask(&Connect::new("n1")).await, Some(ConnectReturnCode::BadUserNamePassword));
    let mut other_client_id = hello("n1");
    other_client_id.client_id = "n2".to_owned();
    assert_eq!(ask(&other_client_id).await, Some(ConnectReturnCode::BadClientId));
    let mut others_will = hello("n1");
    others_will.last_will = Some(LastWill::new("tilth/v1/f/n2/status", "x", QoS::AtMostOnce, false));
    assert_eq!(ask(&others_will).await, Some(ConnectReturnCode::NotAuthorized));
    let mut version_5 = hello("n1");
    version_5.protocol = rumqttc::mqttbytes::Protocol::V5;
    let mut raw = Raw::dial(gateway.mqtt()).await;
    let mut bytes = BytesMut::new();
    version_5.write(&mut bytes).unwrap();
    raw.send(&bytes).await;
    let mut answer = Vec::new();
    within("the end", raw.stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [0x20, 3, 0, 0x84, 0]);

    let counted = [
        &metrics.connections_refused_password,
        &metrics.connections_refused_unknown,
        &metrics.connections_refused_client_id,
        &metrics.connections_refused_will,
        &metrics.connections_refused_protocol,
        &metrics.connections_accepted,
    ]
    .map(read);
    assert_eq!(counted, [1, 2, 1, 1, 1, 0]);
}

#[tokio::test]
async fn a_client_that_publishes_what_it_may_not_is_closed() {
    let mut gateway =
        Gateway::with(DoorConfig { max_payload_bytes: 1_000, ..config() }, 100, BrokerConfig::default()).await;
    let mut qos_2 = publish("tilth/v1/f/n1/data", 1, b"x");
    qos_2[0] = 0x34;
    for (name, bytes) in [
        ("n1", publish("tilth/v1/f/n2/data", 1, b"x")),
        ("n1", publish("tilth/v1/f/n1/command", 1, b"x")),
        ("n1", publish("tilth/v1/g/n1/data", 1, b"x")),
        ("n1", publish("$SYS/x", 1, b"x")),
        ("viewer", publish("tilth/v1/f/n1/data", 1, b"x")),
        ("viewer", publish("tilth/v1/f/n1/command", 1, b"x")),
        ("n1", publish("tilth/v1/f/n1/data", 1, &[0; 1_001])),
        ("n1", publish("tilth/v1/f/n1/data", 1, &[0; 100_000])),
        ("n1", qos_2),
    ] {
        let mut client = Raw::connect(gateway.mqtt(), name).await;
        client.send(&bytes).await;
        client.expect_end().await;
    }
    let metrics = &gateway.metrics;
    until("every client's end", || read(&metrics.connections_open_now) == 0).await;
    let counted =
        [&metrics.publishes_refused_topic, &metrics.publishes_refused_size, &metrics.publishes_refused_qos].map(read);
    assert_eq!(counted, [6, 2, 1]);
    assert!(gateway.deliveries.try_recv().is_err(), "none of it came through");

    let mut client = Raw::connect(gateway.mqtt(), "n1").await;
    client.send(&publish("tilth/v1/f/n1/data", 1, &[0; 1_000])).await;
    assert_eq!(gateway.next().await.payload.len(), 1_000);
}

#[tokio::test]
async fn silent_and_slow_strangers_are_sent_away_while_others_go_on() {
    let pki = Pki::new();
    let mut config = DoorConfig { handshake_timeout_s: 1, ..config() };
    config.tls = Some(pki.door());
    let mut gateway = Gateway::with(config, 100, BrokerConfig::default()).await;
    gateway.store_everything();
    let mut strangers = Vec::new();
    for address in [gateway.mqtt(), gateway.addresses.mqtts.unwrap()] {
        for beginning in [&b""[..], &[0x10][..], &[0x16, 3, 1][..]] {
            let mut stranger = Raw::dial(address).await;
            stranger.send(beginning).await;
            strangers.push(stranger);
        }
    }
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let (mut id, metrics) = (0, Arc::clone(&gateway.metrics));
    while read(&metrics.handshake_timeouts)
        + read(&metrics.connections_refused_tls)
        + read(&metrics.connections_refused_not_mqtt)
        < 6
    {
        id = id % 60_000 + 1;
        station.send(&publish("tilth/v1/f/n1/data", id, b"x")).await;
        station.expect_puback(id).await;
    }
    for mut stranger in strangers {
        // Some get a TLS alert first; a reset is an end, too.
        let _ = within("a stranger's end", stranger.stream.read_to_end(&mut Vec::new())).await;
    }
    assert!(read(&metrics.handshake_timeouts) >= 4);
}

#[tokio::test]
async fn the_same_client_again_takes_over() {
    let mut gateway = Gateway::open().await;
    let mut will = hello("n1");
    will.last_will = Some(LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, false));
    let mut first = Raw::dial(gateway.mqtt()).await;
    assert_eq!(first.ask_in(&will).await, Some(ConnectReturnCode::Success));
    first.send(&publish("tilth/v1/f/n1/data", 1, b"x")).await;
    let outstanding = gateway.next().await;

    let mut second = Raw::connect(gateway.mqtt(), "n1").await;
    first.expect_end().await;
    until("the first one's end", || read(&gateway.metrics.connections_open_now) == 1).await;
    outstanding.ticket.commit();
    second.send(&publish("tilth/v1/f/n1/data", 1, b"again")).await;
    let delivery = gateway.next().await;
    assert_eq!((delivery.kind, &delivery.payload[..]), (DeliveryKind::Data, &b"again"[..]), "no will in between");
    delivery.ticket.commit();
    second.expect_puback(1).await;
    assert_eq!((read(&gateway.metrics.takeovers), gateway.outbox.connected()), (1, 1));

    // Two programs of one name are two clients.
    let mut ids = Vec::new();
    for id in ["a", "b"] {
        let mut connect = hello("viewer");
        connect.client_id = id.to_owned();
        let mut raw = Raw::dial(gateway.mqtt()).await;
        assert_eq!(raw.ask_in(&connect).await, Some(ConnectReturnCode::Success));
        ids.push(raw);
    }
    for raw in &mut ids {
        raw.send(&PING).await;
        assert_eq!(raw.packet().await, Some(Packet::PingResp));
    }
}

#[tokio::test]
async fn a_station_that_goes_without_a_word_is_offline() {
    let mut gateway = Gateway::open().await;
    let mut connect = hello("n1");
    connect.last_will = Some(LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, true));
    let mut station = Raw::dial(gateway.mqtt()).await;
    station.ask_in(&connect).await;
    assert_eq!(gateway.outbox.stations(), ["n1".parse::<StationId>().unwrap()]);
    drop(station);
    let delivery = gateway.next().await;
    assert_eq!(
        (delivery.station.as_str(), delivery.kind, &delivery.payload[..]),
        ("n1", DeliveryKind::Status, &b"gone"[..])
    );
    delivery.ticket.commit();
    assert_eq!(gateway.outbox.connected(), 0);

    let mut station = Raw::dial(gateway.mqtt()).await;
    station.ask_in(&connect).await;
    station.send(&GOODBYE).await;
    station.expect_end().await;
    until("its end", || read(&gateway.metrics.connections_open_now) == 0).await;
    assert!(gateway.deliveries.try_recv().is_err(), "a goodbye takes the will back");
}

#[tokio::test]
async fn a_station_that_falls_silent_is_closed() {
    let mut gateway = Gateway::open().await;
    let mut connect = hello("n1");
    connect.keep_alive = 1;
    connect.last_will = Some(LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, false));
    let mut station = Raw::dial(gateway.mqtt()).await;
    station.ask_in(&connect).await;
    station.expect_end().await;
    assert_eq!(gateway.next().await.kind, DeliveryKind::Status);
    assert_eq!(read(&gateway.metrics.keep_alive_timeouts), 1);
}

#[tokio::test]
async fn acks_and_commands_reach_the_station_that_subscribed() {
    let gateway = Gateway::open().await;
    let n1: StationId = "n1".parse().unwrap();
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, b"0"), "not connected");
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, b"1"), "not subscribed");
    let granted = station
        .subscribe(&["tilth/v1/f/n1/ack", "tilth/v1/f/n1/command", "tilth/v1/f/n2/ack", "tilth/v1/f/n1/#"])
        .await;
    let door = SubscribeReasonCode::Success(QoS::AtMostOnce);
    assert_eq!(granted, [door, door, SubscribeReasonCode::Failure, SubscribeReasonCode::Failure]);

    let mut release = Release::new();
    assert!(release.publish(&gateway.outbox, &n1, TopicKind::Ack, b"2"));
    assert!(release.publish(&gateway.outbox, &n1, TopicKind::Command, b"3"));
    release.send();
    for (kind, payload) in [("ack", b"2"), ("command", b"3")] {
        let Some(Packet::Publish(message)) = station.packet().await else { panic!("no message") };
        assert_eq!((message.topic, &message.payload[..]), (format!("tilth/v1/f/n1/{kind}"), &payload[..]));
    }
    assert_eq!(read(&gateway.metrics.broker_links_now), 0, "no connection behind the door");

    let mut unsubscribe = Unsubscribe::new("tilth/v1/f/n1/ack");
    unsubscribe.pkid = 3;
    let mut bytes = BytesMut::new();
    unsubscribe.write(&mut bytes).unwrap();
    station.send(&bytes).await;
    assert!(matches!(station.packet().await, Some(Packet::UnsubAck(ack)) if ack.pkid == 3));
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, b"4"));
    assert!(gateway.outbox.publish(&n1, TopicKind::Command, b"5"));
}

#[tokio::test]
async fn mosquitto_sees_what_stations_send() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&publish("tilth/v1/f/n1/data", 1, b"before anybody listens")).await;
    station.expect_puback(1).await;
    assert_eq!(read(&gateway.broker.metrics().handed_on), 0);

    let mut sub = Mosquitto::subscribe(gateway.mqtt(), "viewer", "tilth/v1/f/#").await;
    let bytes: Vec<u8> = (0..=255).collect();
    for (id, kind, payload) in [(2, "birth", &b"born"[..]), (3, "data", &bytes), (4, "status", b"")] {
        station.send(&publish(&format!("tilth/v1/f/n1/{kind}"), id, payload)).await;
        station.expect_puback(id).await;
        assert_eq!(sub.message().await, (format!("tilth/v1/f/n1/{kind}"), payload.to_vec()));
    }
    assert_eq!(station.subscribe(&["tilth/v1/f/n1/ack"]).await.len(), 1);
    gateway.outbox.publish(&"n1".parse().unwrap(), TopicKind::Ack, b"ack");
    assert_eq!(sub.message().await, ("tilth/v1/f/n1/ack".to_owned(), b"ack".to_vec()));

    drop(sub);
    until("the viewer's end", || read(&gateway.metrics.broker_links_now) == 0).await;
    let handed_on = read(&gateway.broker.metrics().handed_on);
    let Some(Packet::Publish(_)) = station.packet().await else { panic!("no ack") };
    station.send(&publish("tilth/v1/f/n1/data", 5, b"nobody listens any more")).await;
    station.expect_puback(5).await;
    assert!(read(&gateway.broker.metrics().handed_on) <= handed_on + 1, "at most the watchdog's");
}

#[tokio::test]
async fn other_topics_go_through_the_broker() {
    let gateway = Gateway::open().await;
    let mut sub = Mosquitto::subscribe(gateway.mqtt(), "viewer", "lamp/+").await;
    let status =
        mosquitto("mosquitto_pub", gateway.mqtt(), "node-red").args(["-q", "1", "-t", "lamp/1", "-m", "on"]).status();
    assert!(within("mosquitto_pub", status).await.unwrap().success());
    assert_eq!(sub.message().await, ("lamp/1".to_owned(), b"on".to_vec()));

    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let granted =
        station.subscribe(&["$share/g/lamp/1", "lamp/+", "tilth/v1/f/n1/ack", "tilth/v1/f/n2/data", "#"]).await;
    let (failure, broker) = (SubscribeReasonCode::Failure, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    assert_eq!(granted, [failure, broker, SubscribeReasonCode::Success(QoS::AtMostOnce), failure, failure]);
    station.send(&publish("lamp/2", 5, b"off")).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match station.packet().await {
            Some(Packet::PubAck(ack)) => seen.push(format!("puback {}", ack.pkid)),
            Some(Packet::Publish(message)) => seen.push(format!("{} {:?}", message.topic, message.payload)),
            other => panic!("{other:?}"),
        }
    }
    seen.sort();
    assert_eq!(seen, ["lamp/2 b\"off\"", "puback 5"]);
    assert_eq!(sub.message().await, ("lamp/2".to_owned(), b"off".to_vec()));
}

#[tokio::test]
async fn shared_subscriptions_and_mqtt_5_are_refused_to_mosquitto() {
    let gateway = Gateway::open().await;
    let shared =
        mosquitto("mosquitto_sub", gateway.mqtt(), "viewer").args(["-t", "$share/g/tilth/v1/f/n1/data"]).output();
    let shared = within("mosquitto_sub", shared).await.unwrap();
    assert!(String::from_utf8_lossy(&shared.stderr).contains("denied"), "{shared:?}");
    assert_eq!(read(&gateway.metrics.subscriptions_refused), 1);
    let version_5 = mosquitto("mosquitto_sub", gateway.mqtt(), "viewer").args(["-V", "5", "-t", "lamp/#"]).output();
    let version_5 = within("mosquitto_sub", version_5).await.unwrap();
    assert!(!version_5.status.success(), "{version_5:?}");
    assert!(read(&gateway.metrics.connections_refused_protocol) >= 1);
}

#[tokio::test]
async fn a_broken_broker_is_started_again_and_data_does_not_notice() {
    let broker = BrokerConfig { probe_interval_ms: 50, ..BrokerConfig::default() };
    let mut gateway = Gateway::with(config(), 100, broker).await;
    gateway.store_everything();
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let mut viewer = Mosquitto::subscribe(gateway.mqtt(), "viewer", "tilth/v1/f/#").await;
    until("a probe", || read(&gateway.broker.metrics().probes_answered) > 0).await;

    // rumqttd's router panics at a topic that begins with a character of several bytes. The door lets none through, so
    // the broker's own port is spoken to.
    let before = gateway.broker.address();
    let mut intruder = Raw::dial(before).await;
    assert_eq!(intruder.ask_in(&Connect::new("intruder")).await, Some(ConnectReturnCode::Success));
    intruder.send(&publish("\u{e4}hre", 1, b"x")).await;

    let mut id = 0;
    while read(&gateway.broker.metrics().restarts) == 0 {
        id = id % 60_000 + 1;
        station.send(&publish("tilth/v1/f/n1/data", id, b"x")).await;
        station.expect_puback(id).await;
    }
    assert_ne!(gateway.broker.address(), before);
    // mosquitto_sub comes back by itself, through the door to the new broker.
    viewer.line("Subscribed").await;
    station.send(&publish("tilth/v1/f/n1/data", 60_001, b"after")).await;
    station.expect_puback(60_001).await;
    while viewer.message().await.1 != b"after" {}
}

#[tokio::test]
async fn hostile_bytes_close_only_their_own_connection() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let noise = proptest::collection::vec(proptest::num::u8::ANY, 0..200);
    let mut hostile: Vec<Vec<u8>> = (0..150).map(|_| noise.new_tree(&mut runner).unwrap().current()).collect();
    hostile.extend([
        vec![0x30, 0xff, 0xff, 0xff, 0xff],
        vec![0x32, 3, 0, 9, b'a'],
        vec![0x36, 5, 0, 1, b'a', 0, 1],
        vec![0x32, 5, 0, 1, b'a', 0, 0],
        vec![0x32, 5, 0, 1, 0xff, 0, 1],
        vec![0x80, 4, 0, 1, 0, 0],
        vec![0x82, 2, 0, 1],
        vec![0x82, 1, 0],
        vec![0xA2, 1, 0],
        vec![0xA2, 2, 0, 1],
        vec![0xA2, 3, 0, 1, 9],
        vec![0x62, 2, 0, 1],
        vec![0x20, 2, 0, 0],
        vec![0x10, 0],
        vec![0xF0, 0],
        vec![0x00, 0],
    ]);
    for (i, bytes) in hostile.iter().enumerate() {
        let mut stranger = Raw::dial(gateway.mqtt()).await;
        let mut guest = Raw::connect(gateway.mqtt(), "n2").await;
        // Either may be closed while it still speaks.
        let _ = stranger.stream.write_all(bytes).await;
        let _ = guest.stream.write_all(bytes).await;
        drop((stranger, guest));
        let id = u16::try_from(i + 1).unwrap();
        station.send(&publish("tilth/v1/f/n1/data", id, b"x")).await;
        station.expect_puback(id).await;
    }
    until("their end", || read(&gateway.metrics.connections_open_now) == 1).await;
    assert!(read(&gateway.metrics.closed_malformed) >= 20);
}

#[tokio::test]
async fn a_slow_store_slows_its_stations_and_loses_nothing() {
    let mut gateway = Gateway::with(config(), 4, BrokerConfig::default()).await;
    let station = Raw::connect(gateway.mqtt(), "n1").await;
    let (mut reader, mut writer) = station.stream.into_split();
    let sending = tokio::spawn(async move {
        for id in 1..=5_000_u16 {
            writer.write_all(&publish("tilth/v1/f/n1/data", id, &[7; 2_000])).await.unwrap();
        }
        writer
    });
    until("a full queue", || read(&gateway.metrics.deliveries_waiting_now) == 5).await;
    let mut other = Raw::connect(gateway.mqtt(), "n2").await;
    other.send(&PING).await;
    assert_eq!(other.packet().await, Some(Packet::PingResp));
    assert_eq!(read(&gateway.metrics.deliveries_waiting_now), 5, "four in the queue, one in the door's hand");

    // Taken out of the queue and not committed: the door stops at its own bound.
    let mut held = Vec::new();
    while held.len() < 1_024 {
        held.push(gateway.next().await);
    }
    until("the bound", || read(&gateway.metrics.deliveries_waiting_now) == 1_024).await;
    assert!(gateway.deliveries.try_recv().is_err());
    held.into_iter().for_each(|delivery| delivery.ticket.commit());
    gateway.store_everything();
    let mut acks = vec![0; 4 * 5_000];
    within("every PUBACK", reader.read_exact(&mut acks)).await.unwrap();
    let ids: Vec<u16> = acks.chunks(4).map(|ack| u16::from_be_bytes([ack[2], ack[3]])).collect();
    assert_eq!(ids, (1..=5_000).collect::<Vec<_>>());
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_being_stored() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&[publish("tilth/v1/f/n1/data", 1, b"x"), publish("tilth/v1/f/n1/data", 2, b"y")].concat()).await;
    let (first, second) = (gateway.next().await, gateway.next().await);
    gateway.shutdown.cancel();
    first.ticket.commit();
    station.expect_puback(1).await;
    assert!(!gateway.door.is_finished());
    second.ticket.commit();
    station.expect_puback(2).await;
    station.expect_end().await;
    within("the door's end", gateway.door).await.unwrap();
    assert!(gateway.deliveries.recv().await.is_none(), "the queue is closed, and no will is in it");
    assert!(TcpStream::connect(gateway.addresses.mqtt.unwrap()).await.is_err());
}

#[tokio::test]
async fn caps_hold_and_free_again() {
    let mut gateway =
        Gateway::with(DoorConfig { max_connections_per_address: 3, ..config() }, 100, BrokerConfig::default()).await;
    gateway.store_everything();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Raw::dial(gateway.mqtt()).await);
    }
    until("three", || read(&gateway.metrics.connections_open_now) == 3).await;
    Raw::dial(gateway.mqtt()).await.expect_end().await;
    assert_eq!(read(&gateway.metrics.connections_refused_address), 1);
    drop(held);
    until("none", || read(&gateway.metrics.connections_open_now) == 0).await;
    Raw::connect(gateway.mqtt(), "n1").await;
}

/// A certificate authority with the files of a door.
struct Pki {
    directory: tempfile::TempDir,
    authority: rcgen::Issuer<'static, rcgen::KeyPair>,
    authority_pem: String,
}

impl Pki {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority_pem = params.self_signed(&key).unwrap().pem();
        let pki =
            Self { directory: tempfile::tempdir().unwrap(), authority: rcgen::Issuer::new(params, key), authority_pem };
        let (certificate, key) = pki.issue("door", &["localhost"]);
        for (file, pem) in [("door.pem", &certificate), ("door.key", &key), ("ca.pem", &pki.authority_pem)] {
            std::fs::write(pki.directory.path().join(file), pem).unwrap();
        }
        pki
    }

    /// A certificate and its key as PEM; `common` may be empty.
    fn issue(&self, common: &str, dns: &[&str]) -> (String, String) {
        let mut params =
            rcgen::CertificateParams::new(dns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common.is_empty() {
            params.distinguished_name.push(rcgen::DnType::CommonName, common);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn door(&self) -> TlsConfig {
        let file = |name| self.directory.path().join(name);
        TlsConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificate: file("door.pem"),
            key: file("door.key"),
            client_ca: file("ca.pem"),
        }
    }

    /// A TLS client that trusts this authority and shows `identity`.
    fn client(&self, gateway: &Gateway, id: &str, identity: Option<&(String, String)>) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(id, "localhost", gateway.addresses.mqtts.unwrap().port());
        let client_auth =
            identity.map(|(certificate, key)| (certificate.clone().into_bytes(), key.clone().into_bytes()));
        let tls = TlsConfiguration::Simple { ca: self.authority_pem.clone().into_bytes(), alpn: None, client_auth };
        options.set_transport(Transport::tls_with_config(tls));
        AsyncClient::new(options, 10)
    }
}

#[tokio::test]
async fn a_certificate_of_our_authority_lets_in_and_no_other() {
    let pki = Pki::new();
    let mut gateway =
        Gateway::with(DoorConfig { tls: Some(pki.door()), ..config() }, 100, BrokerConfig::default()).await;

    for (id, identity) in [("n7", pki.issue("n7", &["else.example"])), ("n8", pki.issue("", &["n8"]))] {
        let (client, mut events) = pki.client(&gateway, id, Some(&identity));
        client.publish(format!("tilth/v1/f/{id}/data"), QoS::AtLeastOnce, false, id).await.unwrap();
        let polling = tokio::spawn(async move {
            loop {
                if let Event::Incoming(Incoming::PubAck(_)) = events.poll().await.unwrap() {
                    return;
                }
            }
        });
        let delivery = gateway.next().await;
        assert_eq!((delivery.station.as_str(), &delivery.payload[..]), (id, id.as_bytes()));
        delivery.ticket.commit();
        within("its PUBACK", polling).await.unwrap();
    }

    let metrics = &gateway.metrics;
    let refused = async |id: &str, identity: Option<&(String, String)>| {
        let (_client, mut events) = pki.client(&gateway, id, identity);
        within("a refusal", async { while events.poll().await.is_ok() {} }).await;
    };
    refused("n7", None).await;
    refused("n7", Some(&Pki::new().issue("n7", &[]))).await;
    until("both refusals", || read(&metrics.connections_refused_tls) == 2).await;
    refused("n7", Some(&pki.issue("N 7", &[]))).await;
    until("a refusal", || read(&metrics.connections_refused_certificate_name) == 1).await;
    refused("n8", Some(&pki.issue("n7", &[]))).await;
    assert_eq!(read(&metrics.connections_refused_client_id), 1);
}
