//! Clients that mean no good, each beside a station that means well: it must not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway::broker::BrokerConfig;
use gateway::door::{DoorConfig, queue};
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{ConnectReturnCode, LastWill, Packet, SubscribeReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{GOODBYE, Gateway, PING, Pki, Raw, config, hello, publish, read, until, within};

/// What a PUBACK may take at most while others misbehave. It takes a millisecond or two, also where the tests have one
/// slow core to share; without the door's care, seconds.
const LOW: Duration = Duration::from_secs(1);

/// A station that publishes and waits for its PUBACK, again and again.
struct Witness {
    slowest_ms: Arc<AtomicU64>,
    rounds: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Witness {
    async fn of(gateway: &Gateway) -> Self {
        let mut station = Raw::connect(gateway.mqtt(), "n1").await;
        let (slowest_ms, rounds, over) =
            (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (slowest, done, stop) = (Arc::clone(&slowest_ms), Arc::clone(&rounds), Arc::clone(&over));
        let task = tokio::spawn(async move {
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                id = id % 60_000 + 1;
                let asked = Instant::now();
                station.send(&publish("tilth/v1/f/n1/data", id, b"x")).await;
                station.expect_puback(id).await;
                slowest.fetch_max(asked.elapsed().as_millis() as u64, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { slowest_ms, rounds, over, task }
    }

    /// It was served all the time, and is served still.
    async fn stays_content(self) {
        let rounds = read(&self.rounds);
        until("more rounds", || read(&self.rounds) >= rounds + 10).await;
        self.over.store(true, Ordering::Relaxed);
        within("the witness", self.task).await.unwrap();
        let slowest = Duration::from_millis(read(&self.slowest_ms));
        assert!(slowest < LOW, "a PUBACK took {slowest:?}");
    }
}

async fn open(config: DoorConfig) -> (Gateway, Witness) {
    let mut gateway = Gateway::with(config, 1_000, BrokerConfig::default()).await;
    gateway.store_everything();
    let witness = Witness::of(&gateway).await;
    (gateway, witness)
}

/// Writes a byte at a time until the other side ends it; returns how many it took.
async fn drip(address: SocketAddr, before: Vec<u8>, bytes: Vec<u8>) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&before).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let end = tokio::spawn(async move {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
    });
    for (at, byte) in bytes.iter().enumerate() {
        if end.is_finished() || writer.write_all(&[*byte]).await.is_err() {
            return at;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    within("the end", end).await.unwrap();
    bytes.len()
}

#[tokio::test]
async fn a_byte_at_a_time_is_too_slow_in_a_connect_and_in_a_publish() {
    let (gateway, witness) = open(DoorConfig { handshake_timeout_s: 1, ..config() }).await;
    let mut bytes = bytes::BytesMut::new();
    let mut slow = hello("n2");
    slow.keep_alive = 1;
    slow.write(&mut bytes).unwrap();
    // Longer than the time for a handshake, and than one and a half keep-alives.
    let long = publish("tilth/v1/f/n2/data", 1, &[b' '; 400]);
    let address = gateway.mqtt();
    let bytes = bytes.to_vec();
    let drips = [
        tokio::spawn(drip(address, Vec::new(), [&bytes[..], &long].concat())),
        tokio::spawn(drip(address, bytes, long)),
    ];
    for drip in drips {
        let taken = within("the drip's end", drip).await.unwrap();
        assert!(taken < 100, "{taken} bytes");
    }
    assert_eq!((read(&gateway.metrics.handshake_timeouts), read(&gateway.metrics.keep_alive_timeouts)), (1, 1));
    witness.stays_content().await;
}

#[tokio::test]
async fn what_no_client_may_do_ends_its_connection_only() {
    let (gateway, witness) = open(config()).await;
    let mut qos_2 = publish("tilth/v1/f/n2/data", 1, b"x");
    qos_2[0] = 0x34;
    let mut second = bytes::BytesMut::new();
    hello("n2").write(&mut second).unwrap();
    for (what, bytes) in [
        ("another's topic", publish("tilth/v1/f/n1/data", 1, b"x")),
        ("a command", publish("tilth/v1/f/n2/command", 1, b"x")),
        ("a system topic", publish("$SYS/broker/load", 1, b"x")),
        ("a shared topic", publish("$share/g/tilth/v1/f/n1/data", 1, b"x")),
        ("a wildcard", publish("tilth/v1/f/+/data", 1, b"x")),
        ("all", publish("#", 1, b"x")),
        ("QoS 2", qos_2),
        ("QoS 3", vec![0x36, 5, 0, 1, b'a', 0, 1]),
        ("no UTF-8", vec![0x32, 6, 0, 2, 0xC3, 0x28, 0, 1]),
        ("a zero in a topic", vec![0x32, 5, 0, 1, 0, 0, 1]),
        ("a second CONNECT", second.to_vec()),
        ("too large a packet", vec![0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("a length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("a PUBREL", vec![0x62, 2, 0, 1]),
        ("a PUBACK without an id", vec![0x40, 0]),
    ] {
        let mut client = Raw::connect(gateway.mqtt(), "n2").await;
        client.send(&bytes).await;
        assert_eq!(client.packet().await, None, "{what}");
    }
    for (what, bytes) in [
        ("a PUBLISH before a CONNECT", publish("tilth/v1/f/n1/data", 1, b"x")),
        ("a PINGREQ before a CONNECT", PING.to_vec()),
        ("too large a CONNECT", vec![0x10, 0xff, 0xff, 0xff, 0x7f]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
    ] {
        let mut stranger = Raw::dial(gateway.mqtt()).await;
        stranger.send(&bytes).await;
        assert_eq!(stranger.packet().await, None, "{what}");
    }
    witness.stays_content().await;
}

#[tokio::test]
async fn silent_peers_cost_nothing() {
    let pki = Pki::new();
    let (gateway, witness) = open(DoorConfig { tls: Some(pki.door()), handshake_timeout_s: 1, ..config() }).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(gateway.mqtt()).await.unwrap());
        silent.push(TcpStream::connect(gateway.addresses.mqtts.unwrap()).await.unwrap());
    }
    // One that is let in and wants no keep-alive may be silent for ever.
    let mut connect = hello("n2");
    connect.keep_alive = 0;
    let mut patient = Raw::dial(gateway.mqtt()).await;
    assert_eq!(patient.ask_in(&connect).await, Some(ConnectReturnCode::Success));
    until("the end of the others", || read(&gateway.metrics.handshake_timeouts) == 100).await;
    patient.send(&PING).await;
    assert_eq!(patient.packet().await, Some(Packet::PingResp));
    witness.stays_content().await;
}

#[tokio::test]
async fn tls_garbage_and_certificates_of_others_are_sent_away() {
    let pki = Pki::new();
    let (gateway, witness) = open(DoorConfig { tls: Some(pki.door()), ..config() }).await;
    let address = gateway.addresses.mqtts.unwrap();
    for garbage in [&[0_u8; 300][..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3], &[0x16; 20_000]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let _ = within("the end", stream.read_to_end(&mut Vec::new())).await;
    }
    for identity in [Some(Pki::new().issue("n1", &[])), None] {
        let (_client, mut events) = pki.client(&gateway, "n1", identity.as_ref());
        within("a refusal", async { while events.poll().await.is_ok() {} }).await;
    }
    until("all refusals", || read(&gateway.metrics.connections_refused_tls) == 6).await;
    witness.stays_content().await;
}

#[tokio::test]
async fn five_thousand_connections_at_once() {
    let (gateway, witness) = open(DoorConfig { handshake_timeout_s: 60, max_connections: 4_000, ..config() }).await;
    let mut held = Vec::new();
    for _ in 0..5_000 {
        held.push(TcpStream::connect(gateway.mqtt()).await.unwrap());
    }
    until("as many as may be", || read(&gateway.metrics.connections_open_now) == 4_000).await;
    until("the others refused", || read(&gateway.metrics.connections_refused_full) == 1_001).await;
    drop(held);
    until("their end", || read(&gateway.metrics.connections_open_now) == 1).await;
    Raw::connect(gateway.mqtt(), "n2").await;
    witness.stays_content().await;
}

#[tokio::test]
async fn floods_of_subscriptions_are_bounded() {
    let (gateway, witness) = open(config()).await;
    let mut viewer = Raw::connect(gateway.mqtt(), "viewer").await;
    let filters: Vec<String> = (0..100).map(|i| format!("lamp/{i}")).collect();
    let granted = viewer.subscribe(&filters.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let refused = granted.iter().filter(|code| **code == SubscribeReasonCode::Failure).count();
    assert_eq!(refused, 100 - 64);
    // Without waiting for an answer: what the broker has not answered is bounded, too.
    let subscribe = |id: u16| [&[0x82, 12], &id.to_be_bytes()[..], &[0, 7], b"lamp/10", &[1]].concat();
    let flood: Vec<u8> = (1..=5_000).flat_map(subscribe).collect();
    let _ = viewer.stream.write_all(&flood).await;
    let _ = within("its end or its answers", async {
        let mut answers = 0;
        while answers < 5_000 && viewer.packet().await.is_some() {
            answers += 1;
        }
    })
    .await;
    witness.stays_content().await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_not_waited_for() {
    let (gateway, witness) = open(config()).await;
    let mut viewer = Raw::connect(gateway.mqtt(), "viewer").await;
    viewer.subscribe(&["tilth/v1/f/#"]).await;
    let mut loud = Raw::connect(gateway.mqtt(), "n2").await;
    for id in 1..=400 {
        loud.send(&publish("tilth/v1/f/n2/data", id, &[7; 50_000])).await;
        loud.expect_puback(id).await;
    }
    // A witness's PUBACK may be on its way.
    let acknowledged = || read(&gateway.metrics.pubacks) - read(&witness.rounds);
    within("each is acknowledged, once", async {
        while acknowledged() != 400 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    drop(viewer);
    witness.stays_content().await;
}

#[tokio::test]
async fn wills_are_bounded_and_their_topics_too() {
    let (gateway, witness) = open(config()).await;
    for (topic, size, expected) in [
        ("tilth/v1/f/n2/status", 20_000, None),
        ("tilth/v1/f/n1/status", 10, Some(ConnectReturnCode::NotAuthorized)),
        ("tilth/v1/f/n2/data", 10, Some(ConnectReturnCode::NotAuthorized)),
        ("$SYS/x", 10, Some(ConnectReturnCode::NotAuthorized)),
        ("#", 10, Some(ConnectReturnCode::NotAuthorized)),
    ] {
        let mut connect = hello("n2");
        connect.last_will = Some(LastWill::new(topic, vec![7; size], QoS::AtLeastOnce, true));
        assert_eq!(Raw::dial(gateway.mqtt()).await.ask_in(&connect).await, expected, "{topic}");
    }
    // Two hundred deaths with a will each.
    for _ in 0..200 {
        let mut connect = hello("n2");
        connect.last_will = Some(LastWill::new("tilth/v1/f/n2/status", "gone", QoS::AtLeastOnce, true));
        let mut raw = Raw::dial(gateway.mqtt()).await;
        assert_eq!(raw.ask_in(&connect).await, Some(ConnectReturnCode::Success));
    }
    until("every end", || read(&gateway.metrics.connections_open_now) == 1).await;
    let taken_over = read(&gateway.metrics.takeovers);
    assert_eq!(read(&gateway.metrics.wills) + taken_over, 200);
    witness.stays_content().await;
}

#[tokio::test]
async fn two_clients_of_one_name_put_each_other_out() {
    let (gateway, witness) = open(config()).await;
    let address = gateway.mqtt();
    let fight = || async move {
        for _ in 0..150 {
            let mut raw = Raw::connect(address, "n2").await;
            let _ = raw.stream.write_all(&publish("tilth/v1/f/n2/data", 1, b"x")).await;
            let _ = tokio::time::timeout(Duration::from_millis(20), raw.stream.read_buf(&mut raw.buffer)).await;
        }
    };
    let (one, other) = (tokio::spawn(fight()), tokio::spawn(fight()));
    within("one", one).await.unwrap();
    within("the other", other).await.unwrap();
    until("their end", || read(&gateway.metrics.connections_open_now) == 1).await;
    assert_eq!(gateway.outbox.connected(), 1, "the witness");
    let mut raw = Raw::connect(address, "n2").await;
    raw.send(&publish("tilth/v1/f/n2/data", 9, b"x")).await;
    raw.expect_puback(9).await;
    witness.stays_content().await;
}

#[tokio::test]
async fn a_disconnect_storm_delivers_each_acknowledged_message_once() {
    let mut gateway = Gateway::with(config(), 1_000, BrokerConfig::default()).await;
    let mut deliveries = std::mem::replace(&mut gateway.deliveries, queue(1, 1).1);
    let storing = tokio::spawn(async move {
        let mut stored = Vec::new();
        while let Some(delivery) = deliveries.recv().await {
            stored.push(u32::from_be_bytes(delivery.payload[..].try_into().unwrap()));
            delivery.ticket.commit();
        }
        stored
    });
    let address = gateway.mqtt();
    let storm = |name: &'static str, numbers: std::ops::Range<u32>| async move {
        let topic = format!("tilth/v1/f/{name}/data");
        for number in numbers {
            let mut station = Raw::connect(address, name).await;
            station.send(&publish(&topic, 1, &number.to_be_bytes())).await;
            station.expect_puback(1).await;
            station.send(&GOODBYE).await;
        }
    };
    let storms = [tokio::spawn(storm("n1", 0..500)), tokio::spawn(storm("n2", 500..1_000))];
    for storm in storms {
        within("a storm", storm).await.unwrap();
    }
    until("every end", || read(&gateway.metrics.connections_open_now) == 0).await;
    gateway.shutdown.cancel();
    within("the door's end", gateway.door).await.unwrap();
    let mut stored = within("the store", storing).await.unwrap();
    stored.sort_unstable();
    assert!(stored.into_iter().eq(0..1_000));
}
