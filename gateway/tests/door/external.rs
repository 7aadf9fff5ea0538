//! The gateway as a client of a broker that the farm already runs: a real Mosquitto that is restarted, and a gateway that
//! is killed, at whatever point. The test takes the deliveries itself and decides when they are "on disk".

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use gateway::decode::source::{Announcement, Routes};
use gateway::door::{Deliveries, Delivery, DeliveryKind, TurnedAwayLog, queue};
use gateway::external::{External, ExternalConfig, ExternalMetrics, ToExternal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS, Transport};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{BYTES, Pki, read, until, within};

/// A Mosquitto that keeps what it has when it is stopped.
pub struct Broker {
    child: Child,
    pub port: u16,
    directory: tempfile::TempDir,
}

impl Broker {
    pub async fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let path = directory.path().display();
        let config = format!(
            "persistence true\npersistence_location {path}/\nmax_queued_messages 0\nuser root\nlistener {port} 127.0.0.1\n{more}\n"
        );
        std::fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
        let child = run(directory.path());
        let broker = Self { child, port, directory };
        broker.listens().await;
        broker
    }

    async fn listens(&self) {
        within("Mosquitto", async {
            while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    async fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        within("Mosquitto's end", self.child.wait()).await.unwrap();
    }

    async fn again(&mut self) {
        self.child = run(self.directory.path());
        self.listens().await;
    }

    fn config(&self) -> ExternalConfig {
        ExternalConfig::at(&format!("mqtt://127.0.0.1:{}", self.port))
    }

    /// Publishes a message for each payload with QoS 1, and waits until the broker has them.
    async fn publish(&self, topic: &str, payloads: impl IntoIterator<Item = u32>) {
        let payloads: Vec<u32> = payloads.into_iter().collect();
        let options = MqttOptions::new("n1", "127.0.0.1", self.port);
        let (client, mut events) = AsyncClient::new(options, payloads.len() + 1);
        for payload in &payloads {
            client.try_publish(topic, QoS::AtLeastOnce, false, payload.to_string()).unwrap();
        }
        let mut acknowledged = 0;
        while acknowledged < payloads.len() {
            if let Event::Incoming(Incoming::PubAck(_)) = within("a PUBACK", events.poll()).await.unwrap() {
                acknowledged += 1;
            }
        }
    }
}

fn run(directory: &Path) -> Child {
    let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
    let mut command = Command::new(program);
    command.arg("-c").arg(directory.join("mosquitto.conf")).stderr(std::process::Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// The largest payload that the gateway takes in these tests.
const LARGEST: usize = 1 << 20;

/// A gateway's way to the broker.
struct Way {
    deliveries: Deliveries,
    metrics: Arc<ExternalMetrics>,
    to_broker: ToExternal,
    refused: Arc<TurnedAwayLog>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Way {
    async fn open(config: &ExternalConfig, room: usize) -> Self {
        Self::open_saying(config, room, &[]).await
    }

    /// One that says this about itself.
    async fn open_saying(config: &ExternalConfig, room: usize, announced: &[Announcement]) -> Self {
        let (sender, deliveries) = queue(room, BYTES);
        let names = ("f".parse().unwrap(), &"g".parse().unwrap());
        let refused = Arc::<TurnedAwayLog>::default();
        let limit = (LARGEST, Arc::clone(&refused));
        let external = External::new(config, names, Routes::default(), sender, limit).unwrap().saying(announced);
        let (to_broker, shutdown) = (external.handle(), CancellationToken::new());
        let metrics = Arc::clone(to_broker.metrics());
        let task = tokio::spawn(external.run(shutdown.clone()));
        Self { deliveries, metrics, to_broker, refused, shutdown, task }
    }

    async fn connected(&self) {
        until("the connection", || read(&self.metrics.connected_now) == 1).await;
    }

    async fn next(&mut self) -> Delivery {
        within("a delivery", self.deliveries.recv()).await.unwrap()
    }

    /// As if the gateway's process were killed.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn number(delivery: &Delivery) -> u32 {
    std::str::from_utf8(&delivery.payload).unwrap().parse().unwrap()
}

/// What is on disk, and how often each came.
type Disk = BTreeMap<u32, u32>;

async fn store(way: &mut Way, disk: &mut Disk, until_stored: usize) {
    while disk.len() < until_stored {
        let delivery = way.next().await;
        let number = number(&delivery);
        let times = disk.entry(number).or_default();
        *times += 1;
        assert!(*times == 1 || delivery.duplicate, "{number} comes again, and the broker does not say so");
        delivery.ticket.commit();
    }
}

#[tokio::test]
async fn nothing_is_lost_when_the_gateway_is_killed_and_the_broker_restarted() {
    let mut broker = Broker::start("allow_anonymous true").await;
    let mut disk = Disk::new();
    let topic = "tilth/v1/f/n1/data";

    // A session that is there before anything is published.
    let mut way = Way::open(&broker.config(), 10).await;
    way.connected().await;
    broker.publish(topic, 0..1).await;
    store(&mut way, &mut disk, 1).await;

    // Killed with some on disk, some taken and not on disk, and the rest at the broker.
    broker.publish(topic, 1..100).await;
    store(&mut way, &mut disk, 40).await;
    let mut not_stored = Vec::new();
    for _ in 0..5 {
        not_stored.push(way.next().await);
    }
    way.kill().await;
    // Too late: the broker never hears of it.
    not_stored.into_iter().for_each(|delivery| delivery.ticket.commit());
    // What comes while it is away waits, also over a restart of the broker.
    broker.publish(topic, 100..150).await;
    broker.stop().await;
    broker.again().await;
    broker.publish(topic, 150..200).await;

    let mut way = Way::open(&broker.config(), 10).await;
    store(&mut way, &mut disk, 200).await;
    // The broker restarts under it while messages are on their way and not on disk.
    broker.publish(topic, 200..210).await;
    let held = [way.next().await, way.next().await];
    let connections = read(&way.metrics.connections);
    broker.stop().await;
    until("the loss", || read(&way.metrics.connected_now) == 0).await;
    broker.again().await;
    until("the return", || read(&way.metrics.connections) > connections).await;
    // Those of the old connection are on disk now, and acknowledged to nobody: they come again.
    for delivery in held {
        disk.insert(number(&delivery), 1);
        delivery.ticket.commit();
    }
    broker.publish(topic, 210..300).await;
    store(&mut way, &mut disk, 300).await;

    // Nothing is left over: what comes next is new.
    let pubacks = read(&way.metrics.pubacks);
    broker.publish(topic, [300]).await;
    loop {
        let delivery = way.next().await;
        let number = number(&delivery);
        assert!(number == 300 || delivery.duplicate, "{number}");
        delivery.ticket.commit();
        if number == 300 {
            break;
        }
    }
    until("its acknowledgement", || read(&way.metrics.pubacks) > pubacks).await;
    way.shutdown.cancel();
    within("the end", way.task).await.unwrap();
    assert!(disk.keys().copied().eq(0..300));

    // And nothing waits at the broker for the next one.
    let mut way = Way::open(&broker.config(), 10).await;
    way.connected().await;
    broker.publish(topic, [301]).await;
    assert_eq!(number(&way.next().await), 301);
}

#[tokio::test]
async fn an_acknowledgement_waits_for_the_disk_and_a_lost_one_brings_the_message_again() {
    let broker = Broker::start("allow_anonymous true\nmax_inflight_messages 3").await;
    let mut way = Way::open(&broker.config(), 100).await;
    way.connected().await;
    broker.publish("tilth/v1/f/n1/data", 0..10).await;
    let held = [way.next().await, way.next().await, way.next().await];
    assert_eq!(held.each_ref().map(number), [0, 1, 2]);
    // The broker sends no more than three that are not acknowledged.
    broker.publish("tilth/v1/f/n1/data", 10..11).await;
    assert!(way.deliveries.try_recv().is_err());
    assert_eq!(read(&way.metrics.pubacks), 0);
    let [first, second, third] = held;
    first.ticket.commit();
    assert_eq!(number(&way.next().await), 3);
    // Not stored: the connection ends, and all that is not acknowledged comes again.
    drop(second.ticket);
    drop(third.ticket);
    let again = way.next().await;
    assert_eq!((number(&again), again.duplicate), (1, true));
    again.ticket.commit();
    for expected in 2..11 {
        let delivery = way.next().await;
        assert_eq!(number(&delivery), expected);
        delivery.ticket.commit();
    }
}

#[tokio::test]
async fn only_stations_of_this_farm_come_in_and_their_acks_go_out() {
    let broker = Broker::start("allow_anonymous true").await;
    let mut way = Way::open(&broker.config(), 100).await;
    way.connected().await;
    let mut options = MqttOptions::new("n7", "127.0.0.1", broker.port);
    options.set_keep_alive(std::time::Duration::from_secs(5));
    let (station, mut events) = AsyncClient::new(options, 20);
    station.try_subscribe("tilth/v1/f/n7/ack", QoS::AtLeastOnce).unwrap();
    for (topic, payload) in [
        ("tilth/v1/other/n7/data", "1"),
        ("tilth/v1/f/N 7/data", "2"),
        ("tilth/v1/f/n7/ack", "3"),
        ("tilth/v1/f/n7/birth", "4"),
        ("tilth/v1/f/n7/status", "5"),
        ("tilth/v1/f/n7/data", "6"),
    ] {
        station.try_publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
    }
    let (heard, mut messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            if let Ok(Event::Incoming(Incoming::Publish(publish))) = events.poll().await {
                heard.send(publish.payload).unwrap();
            }
        }
    });
    for (kind, payload) in [(DeliveryKind::Birth, 4), (DeliveryKind::Status, 5), (DeliveryKind::Data, 6)] {
        let delivery = way.next().await;
        assert_eq!((delivery.station.as_str(), delivery.kind, number(&delivery)), ("n7", kind, payload));
        delivery.ticket.commit();
    }
    assert_eq!(read(&way.metrics.refused_topic), 1, "the station that cannot be one");
    assert_eq!(within("its own", messages.recv()).await.unwrap(), "3");
    assert!(way.to_broker.publish("tilth/v1/f/n7/ack".to_owned(), "stored".into(), false));
    assert_eq!(within("the ack", messages.recv()).await.unwrap(), "stored");
}

#[tokio::test]
async fn a_broker_that_wants_certificates_gets_one() {
    let pki = Pki::new();
    let file = |name: &str| pki.directory.path().join(name);
    let (certificate, key) = pki.issue("gateway", &[]);
    std::fs::write(file("gateway.pem"), &certificate).unwrap();
    std::fs::write(file("gateway.key"), &key).unwrap();
    let path = pki.directory.path().display();
    let broker = Broker::start(&format!(
        "cafile {path}/ca.pem\ncertfile {path}/door.pem\nkeyfile {path}/door.key\nrequire_certificate true\nuse_identity_as_username true"
    ))
    .await;
    let config = ExternalConfig {
        ca: Some(file("ca.pem")),
        certificate: Some(file("gateway.pem")),
        key: Some(file("gateway.key")),
        ..ExternalConfig::at(&format!("mqtts://localhost:{}", broker.port))
    };
    let mut way = Way::open(&config, 10).await;
    way.connected().await;

    let mut options = MqttOptions::new("n1", "localhost", broker.port);
    let tls = rumqttc::TlsConfiguration::Simple {
        ca: pki.authority_pem.clone().into_bytes(),
        alpn: None,
        client_auth: Some((certificate.into_bytes(), key.into_bytes())),
    };
    options.set_transport(Transport::tls_with_config(tls));
    let (station, mut events) = AsyncClient::new(options, 10);
    station.try_publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, false, "7").unwrap();
    tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let delivery = way.next().await;
    assert_eq!(number(&delivery), 7);
    delivery.ticket.commit();
    until("the acknowledgement", || read(&way.metrics.pubacks) == 1).await;
}

#[tokio::test]
async fn what_the_gateway_says_about_itself_is_retained_and_its_will_says_that_it_is_gone() {
    let broker = Broker::start("allow_anonymous true").await;
    let state = gateway::decode::sparkplug::command::state("g1", proto::Timestamp::from_secs(1_780_297_200));
    let open = || {
        let (sender, _deliveries) = queue(10, BYTES);
        let names = ("f".parse().unwrap(), &"g".parse().unwrap());
        let limit = (LARGEST, Arc::default());
        let external = External::new(&broker.config(), names, Routes::default(), sender, limit).unwrap();
        let external = external.saying(std::slice::from_ref(&state));
        let shutdown = CancellationToken::new();
        (tokio::spawn(external.run(shutdown.clone())), shutdown)
    };
    let (task, _) = open();
    let (client, mut events) = AsyncClient::new(MqttOptions::new("edge", "127.0.0.1", broker.port), 10);
    client.try_subscribe("spBv1.0/STATE/g1", QoS::AtLeastOnce).unwrap();
    let mut told = async |expected: &bytes::Bytes| loop {
        let event = within("a state", events.poll()).await.unwrap();
        if matches!(event, Event::Incoming(Incoming::Publish(publish)) if publish.payload == *expected) {
            return;
        }
    };
    told(&state.online).await;
    // Killed: the broker publishes its will.
    task.abort();
    told(&state.offline).await;
    let (task, shutdown) = open();
    told(&state.online).await;
    // Somebody else's word for it is set right at once.
    client.try_publish("spBv1.0/STATE/g1", QoS::AtLeastOnce, true, state.offline.clone()).unwrap();
    told(&state.offline).await;
    told(&state.online).await;
    // An orderly end has no will, but says so itself.
    shutdown.cancel();
    told(&state.offline).await;
    within("the end", task).await.unwrap();
}

#[tokio::test]
async fn a_large_message_comes_through() {
    let broker = Broker::start("allow_anonymous true").await;
    let mut way = Way::open(&broker.config(), 10).await;
    way.connected().await;
    let mut options = MqttOptions::new("n1", "127.0.0.1", broker.port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (station, mut events) = AsyncClient::new(options, 10);
    station.try_publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, false, vec![7; 200_000]).unwrap();
    tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let delivery = way.next().await;
    assert_eq!(delivery.payload.len(), 200_000);
    delivery.ticket.commit();
    until("the acknowledgement", || read(&way.metrics.pubacks) == 1).await;
}

#[tokio::test]
async fn too_large_a_payload_is_refused_once_and_does_not_come_again() {
    let broker = Broker::start("allow_anonymous true").await;
    let mut way = Way::open(&broker.config(), 10).await;
    way.connected().await;
    let mut options = MqttOptions::new("n1", "127.0.0.1", broker.port);
    options.set_max_packet_size(2 << 20, 2 << 20);
    let (station, mut events) = AsyncClient::new(options, 10);
    for size in [LARGEST + 1, LARGEST] {
        station.try_publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, false, vec![7; size]).unwrap();
    }
    tokio::spawn(async move { while events.poll().await.is_ok() {} });
    let delivery = way.next().await;
    assert_eq!(delivery.payload.len(), LARGEST, "the one that is too large is passed over, and the connection goes on");
    until("its acknowledgement", || read(&way.metrics.pubacks) == 1).await;
    delivery.ticket.commit();
    until("the other's", || read(&way.metrics.pubacks) == 2).await;
    let counted = [&way.metrics.refused_size, &way.metrics.publishes, &way.metrics.connections].map(read);
    assert_eq!(counted, [1, 1, 1]);
    let noted: Vec<_> = way.refused.newest().into_iter().map(|refused| (refused.client, refused.why)).collect();
    let why = "refused: a payload of 1048577 bytes, at most 1048576 (door.max_payload_bytes)";
    assert_eq!(noted, [("n1".to_owned(), why.to_owned())]);

    // The broker has nothing left for it.
    way.kill().await;
    broker.publish("tilth/v1/f/n1/data", [5]).await;
    let mut way = Way::open(&broker.config(), 10).await;
    assert_eq!(number(&way.next().await), 5);
    assert_eq!(read(&way.metrics.refused_size), 0);
}

#[tokio::test]
async fn a_shutdown_acknowledges_what_is_stored_and_says_goodbye_whatever_waits() {
    let broker = Broker::start("allow_anonymous true").await;
    let state = gateway::decode::sparkplug::command::state("g1", proto::Timestamp::from_secs(1_780_297_200));
    let mut way = Way::open_saying(&broker.config(), 1, std::slice::from_ref(&state)).await;
    way.connected().await;
    let options = MqttOptions::new("edge", "127.0.0.1", broker.port);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.try_subscribe("spBv1.0/STATE/g1", QoS::AtLeastOnce).unwrap();
    until("the acknowledgement of its own word", || read(&way.metrics.pubacks) == 1).await;
    broker.publish("tilth/v1/f/n1/data", 0..5).await;
    until("all of them, of which one is in the queue", || read(&way.metrics.publishes) == 5).await;
    way.shutdown.cancel();
    for expected in 0..3 {
        let delivery = way.next().await;
        assert_eq!(number(&delivery), expected);
        delivery.ticket.commit();
    }
    let not_stored = way.next().await;
    until("the acknowledgements", || read(&way.metrics.pubacks) == 4).await;
    assert!(!way.task.is_finished());
    drop(not_stored.ticket);
    loop {
        let event = within("the state", events.poll()).await.unwrap();
        if matches!(event, Event::Incoming(Incoming::Publish(publish)) if publish.payload == state.offline) {
            break;
        }
    }
    within("the end", way.task).await.unwrap();

    let mut way = Way::open(&broker.config(), 10).await;
    for expected in [3, 4] {
        let delivery = way.next().await;
        assert_eq!((number(&delivery), delivery.duplicate), (expected, true));
        delivery.ticket.commit();
    }
    broker.publish("tilth/v1/f/n1/data", [5]).await;
    assert_eq!(number(&way.next().await), 5, "and no other came again");
}

#[tokio::test]
async fn what_waits_for_the_pipeline_is_bounded_in_bytes() {
    const MESSAGES: u64 = 20;
    let broker = Broker::start("allow_anonymous true").await;
    let mut way = Way::open(&broker.config(), 1).await;
    way.connected().await;
    let mut options = MqttOptions::new("n1", "127.0.0.1", broker.port);
    options.set_max_packet_size(2 << 20, 2 << 20);
    let (station, mut events) = AsyncClient::new(options, 20);
    for _ in 0..MESSAGES {
        station.try_publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, false, vec![7; 1 << 20]).unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < MESSAGES {
        let event = within("a PUBACK", events.poll()).await.unwrap();
        acknowledged += u64::from(matches!(event, Event::Incoming(Incoming::PubAck(_))));
    }
    // One in the queue, and 4 MiB that wait for it.
    for taken in 0..MESSAGES {
        let wanted = MESSAGES.min(taken + 5);
        until("as many as may wait", || read(&way.metrics.publishes) >= wanted).await;
        assert_eq!(read(&way.metrics.publishes), wanted);
        let delivery = way.next().await;
        assert_eq!(delivery.payload.len(), 1 << 20);
        delivery.ticket.commit();
    }
    until("the acknowledgements", || read(&way.metrics.pubacks) == MESSAGES).await;
}
