//! Clients that mean no good, in either version of the protocol, each beside a station that means well: it must not notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway::broker::BrokerConfig;
use gateway::door::{DoorConfig, queue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{GOODBYE, Gateway, PING, Pki, Raw, VERSIONS, Version, acknowledge, config, read, until, within};

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
    async fn of(gateway: &Gateway, version: Version) -> Self {
        let mut station = version.connect(gateway.mqtt(), "n1", "n1").await;
        let (slowest_ms, rounds, over) =
            (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (slowest, done, stop) = (Arc::clone(&slowest_ms), Arc::clone(&rounds), Arc::clone(&over));
        let task = tokio::spawn(async move {
            let mut id = 0;
            while !stop.load(Ordering::Relaxed) {
                id = id % 60_000 + 1;
                let asked = Instant::now();
                station.send(&version.publish("tilth/v1/f/n1/data", id, b"x")).await;
                assert_eq!(station.frame().await.unwrap()[..4], acknowledge(id));
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

async fn open(config: DoorConfig, version: Version) -> (Gateway, Witness) {
    let mut gateway = Gateway::with(config, 1_000, BrokerConfig::default()).await;
    gateway.store_everything();
    let witness = Witness::of(&gateway, version).await;
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
    for version in VERSIONS {
        let (gateway, witness) = open(DoorConfig { handshake_timeout_s: 1, ..config() }, version).await;
        let hello = version.hello("n2", "n2", 1);
        // Longer than the time for a handshake, and than one and a half keep-alives.
        let long = version.publish("tilth/v1/f/n2/data", 1, &[b' '; 400]);
        let address = gateway.mqtt();
        let drips = [
            tokio::spawn(drip(address, Vec::new(), [&hello[..], &long].concat())),
            tokio::spawn(drip(address, hello, long)),
        ];
        for drip in drips {
            let taken = within("the drip's end", drip).await.unwrap();
            assert!(taken < 100, "{taken} bytes");
        }
        let counted = (read(&gateway.metrics.handshake_timeouts), read(&gateway.metrics.keep_alive_timeouts));
        assert_eq!(counted, (1, 1), "{version:?}");
        witness.stays_content().await;
    }
}

/// What happens to a client that does something that it may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Its connection ends; in MQTT 5 it is told why.
    End,
    /// In MQTT 5 the message is refused, and the connection goes on.
    Refused,
}

#[tokio::test]
async fn what_no_client_may_do_ends_its_connection_only() {
    use Answer::{End, Refused};
    for version in VERSIONS {
        let (gateway, witness) = open(config(), version).await;
        let publish = |topic: &str| version.publish(topic, 1, b"x");
        let with_qos = |bits: u8| [&[0x30 | bits][..], &publish("tilth/v1/f/n2/data")[1..]].concat();
        // A PUBLISH of such a topic, which is no text.
        let raw_topic = |topic: &[u8]| {
            let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
            let body = [&[0, topic.len() as u8][..], topic, &[0, 1], properties].concat();
            [&[0x32, body.len() as u8][..], &body].concat()
        };
        for (what, bytes, answer) in [
            ("another's topic", publish("tilth/v1/f/n1/data"), Refused),
            ("a command", publish("tilth/v1/f/n2/command"), Refused),
            ("a system topic", publish("$SYS/broker/load"), Refused),
            ("a shared topic", publish("$share/g/tilth/v1/f/n1/data"), Refused),
            ("a wildcard", publish("tilth/v1/f/+/data"), Refused),
            ("all", publish("#"), Refused),
            ("QoS 2", with_qos(4), End),
            ("QoS 3", with_qos(6), End),
            ("no UTF-8", raw_topic(&[0xC3, 0x28]), End),
            ("a zero in a topic", raw_topic(&[0]), Refused),
            ("a second CONNECT", version.hello("n2", "n2", 60), End),
            ("too large a packet", vec![0x30, 0xff, 0xff, 0xff, 0x7f], End),
            ("a length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f], End),
            ("a PUBREL", vec![0x62, 2, 0, 1], End),
            ("a PUBACK without an id", vec![0x40, 0], End),
        ] {
            let mut client = version.connect(gateway.mqtt(), "n2", "n2").await;
            client.send(&bytes).await;
            let first = client.frame().await;
            match (version, answer) {
                (Version::V3, _) => assert_eq!(first, None, "{what}"),
                (Version::V5, Refused) => assert_eq!(first, Some(vec![0x40, 3, 0, 1, 0x87]), "{what}"),
                (Version::V5, End) => {
                    assert_eq!(first.as_ref().map(|bytes| bytes[0]), Some(0xE0), "{what}: {first:?}");
                    assert_eq!(client.frame().await, None, "{what}");
                }
            }
        }
        for (what, bytes) in [
            ("a PUBLISH before a CONNECT", publish("tilth/v1/f/n1/data")),
            ("a PINGREQ before a CONNECT", PING.to_vec()),
            ("too large a CONNECT", vec![0x10, 0xff, 0xff, 0xff, 0x7f]),
            ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ] {
            let mut stranger = Raw::dial(gateway.mqtt()).await;
            stranger.send(&bytes).await;
            assert_eq!(stranger.frame().await, None, "{what}");
        }
        witness.stays_content().await;
    }
}

#[tokio::test]
async fn malformed_properties_end_their_connection_only() {
    let (gateway, witness) = open(config(), Version::V5).await;
    let published = read(&gateway.metrics.publishes) - read(&witness.rounds);
    // Of a PUBLISH on its own topic: these bytes stand where the properties and their length do.
    let publish = |properties: &[u8]| {
        let topic = b"tilth/v1/f/n2/data";
        let body = [&[0, topic.len() as u8][..], topic, &[0, 1], properties, b"x"].concat();
        [&[0x32, body.len() as u8][..], &body].concat()
    };
    let mut wrong = Vec::new();
    for (what, bytes) in [
        ("longer than the packet", publish(&[100, 1, 0])),
        ("a length of five bytes", publish(&[0xff, 0xff, 0xff, 0xff, 1])),
        ("an unknown one", publish(&[2, 0x7f, 1])),
        ("one of a CONNECT", publish(&[5, 17, 0, 0, 0, 9])),
        ("a topic alias of 0", publish(&[3, 35, 0, 0])),
        ("a topic alias beyond the maximum", publish(&[3, 35, 0xff, 0xff])),
        ("two topic aliases", publish(&[6, 35, 0, 1, 35, 0, 1])),
        ("a payload format of 2", publish(&[2, 1, 2])),
        ("a text that is cut off", publish(&[4, 38, 0, 5, b'a'])),
        ("a text that is none", publish(&[7, 38, 0, 1, 0xff, 0, 1, b'x'])),
        ("a subscription identifier", publish(&[2, 11, 1])),
        ("a topic alias that was never set", vec![0x32, 9, 0, 0, 0, 1, 3, 35, 0, 1, b'x']),
        ("of a SUBSCRIBE, longer than it", vec![0x82, 8, 0, 1, 50, 0, 2, b'a', b'b', 1]),
        ("of a SUBSCRIBE, an unknown one", vec![0x82, 9, 0, 1, 2, 0x7f, 1, 0, 1, b'a', 1]),
        ("of an UNSUBSCRIBE, longer than it", vec![0xA2, 6, 0, 1, 50, 0, 1, b'a']),
        ("of an AUTH, which nobody asked for", vec![0xF0, 2, 0, 0]),
    ] {
        let mut client = Version::V5.connect(gateway.mqtt(), "n2", "n2").await;
        client.send(&bytes).await;
        let first = client.frame().await;
        let told = matches!(first.as_deref(), Some([0xE0, 2, 0x81 | 0x82, 0]));
        if !told || client.frame().await.is_some() {
            wrong.push(format!("{what}: {first:?} instead of a DISCONNECT"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And of a CONNECT, whose properties follow ten bytes of header.
    for (what, properties) in [
        ("longer than the packet", &[0x7f, 17, 0][..]),
        ("an unknown one", &[2, 0x7f, 1]),
        ("a receive maximum of 0", &[3, 33, 0, 0]),
        ("one of a PUBLISH", &[3, 35, 0, 1]),
    ] {
        let hello = Version::V5.hello("n2", "n2", 60);
        let body = [&hello[2..12], properties, &hello[13..]].concat();
        let mut client = Raw::dial(gateway.mqtt()).await;
        client.send(&[&[0x10, body.len() as u8][..], &body].concat()).await;
        assert_eq!(client.frame().await, None, "{what}");
    }
    assert!(read(&gateway.metrics.publishes) - read(&witness.rounds) <= published + 1, "none of it came through");
    witness.stays_content().await;
}

#[tokio::test]
async fn silent_peers_cost_nothing() {
    let pki = Pki::new();
    for version in VERSIONS {
        let config = DoorConfig { tls: Some(pki.door()), handshake_timeout_s: 1, ..config() };
        let (gateway, witness) = open(config, version).await;
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(TcpStream::connect(gateway.mqtt()).await.unwrap());
            silent.push(TcpStream::connect(gateway.addresses.mqtts.unwrap()).await.unwrap());
        }
        // One that is let in and wants no keep-alive may be silent for ever.
        let mut patient = Raw::dial(gateway.mqtt()).await;
        patient.send(&version.hello("n2", "n2", 0)).await;
        assert_eq!(patient.frame().await.unwrap()[3], 0);
        until("the end of the others", || read(&gateway.metrics.handshake_timeouts) == 100).await;
        patient.send(&PING).await;
        assert_eq!(patient.frame().await.unwrap(), [0xD0, 0], "{version:?}");
        witness.stays_content().await;
    }
}

#[tokio::test]
async fn tls_garbage_and_certificates_of_others_are_sent_away() {
    let pki = Pki::new();
    let (gateway, witness) = open(DoorConfig { tls: Some(pki.door()), ..config() }, Version::V5).await;
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

/// Handshakes that come at once.
const FLOOD: usize = 1_000;

/// What a TLS client says first. The answer costs the door a key exchange and a signature, and who sends it again and again
/// nothing.
fn client_hello() -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn a_flood_of_tls_handshakes_holds_up_nobody() {
    use std::io::{Read as _, Write as _};
    let pki = Pki::new();
    let config = DoorConfig { tls: Some(pki.door()), handshake_timeout_s: 60, ..config() };
    let (gateway, witness) = open(config, Version::V5).await;
    let (address, hello) = (gateway.addresses.mqtts.unwrap(), client_hello());
    let slowest_ms = Arc::clone(&witness.slowest_ms);
    let flood = tokio::task::spawn_blocking(move || {
        let mut all: Vec<_> = (0..FLOOD).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        slowest_ms.store(0, Ordering::Relaxed);
        let began = Instant::now();
        all.iter_mut().for_each(|stream| stream.write_all(&hello).unwrap());
        let mut answered = 0;
        for stream in &mut all {
            answered += usize::from(stream.read(&mut [0; 8]).is_ok_and(|read| read > 0));
        }
        (answered, began.elapsed())
    });
    let (answered, took) = within("the flood", flood).await.unwrap();
    let slowest = Duration::from_millis(read(&witness.slowest_ms));
    println!("{answered} handshakes in {took:?}: a PUBACK took {slowest:?} at most");
    assert_eq!(answered, FLOOD);
    // Among handshakes that are served as they come it is half of their time or more.
    assert!(slowest * 4 < took, "a PUBACK took {slowest:?} of the {took:?} of the flood");
    witness.stays_content().await;
}

/// One in five says who it is, half of these in each version; the others are silent.
#[tokio::test]
async fn five_thousand_connections_at_once() {
    for version in VERSIONS {
        let most = DoorConfig { handshake_timeout_s: 60, max_connections: 4_000, ..config() };
        let (gateway, witness) = open(most, version).await;
        let mut held = Vec::new();
        for number in 0..5_000 {
            let mut raw = Raw::dial(gateway.mqtt()).await;
            let speaks = (number % 5 == 0).then_some(VERSIONS[number % 2]);
            if let Some(speaks) = speaks {
                // Of the last ones it is refused by a reset.
                let _ = raw.stream.write_all(&speaks.hello("viewer", &format!("v{number}"), 600)).await;
            }
            held.push((speaks, raw));
        }
        until("as many as may be", || read(&gateway.metrics.connections_open_now) == 4_000).await;
        until("the others refused", || read(&gateway.metrics.connections_refused_full) == 1_001).await;
        for (number, (speaks, raw)) in held.iter_mut().take(3_999).enumerate() {
            if speaks.is_some() {
                assert_eq!(raw.frame().await.unwrap()[3], 0, "{number}");
            }
        }
        drop(held);
        until("their end", || read(&gateway.metrics.connections_open_now) == 1).await;
        version.connect(gateway.mqtt(), "n2", "n2").await;
        witness.stays_content().await;
    }
}

#[tokio::test]
async fn floods_of_subscriptions_are_bounded() {
    for version in VERSIONS {
        let (gateway, witness) = open(config(), version).await;
        let mut viewer = version.connect(gateway.mqtt(), "viewer", "viewer").await;
        let mut refused = 0;
        for number in 1..=100 {
            viewer.send(&version.subscribe(number, &format!("lamp/{number}"))).await;
            let answer = viewer.frame().await.unwrap();
            assert_eq!(answer[0], 0x90);
            refused += usize::from(*answer.last().unwrap() >= 0x80);
        }
        assert_eq!(refused, 100 - 64);
        viewer.send(&version.subscribe(101, "$share/g/lamp/1")).await;
        assert!(*viewer.frame().await.unwrap().last().unwrap() >= 0x80, "a shared subscription");
        // Without waiting for an answer: what the broker has not answered is bounded, too.
        let flood: Vec<u8> = (1..=5_000).flat_map(|id| version.subscribe(id, "lamp/10")).collect();
        let _ = viewer.stream.write_all(&flood).await;
        let _ = within("its end or its answers", async {
            let mut answers = 0;
            while answers < 5_000 && viewer.frame().await.is_some() {
                answers += 1;
            }
        })
        .await;
        witness.stays_content().await;
    }
}

#[tokio::test]
async fn a_reader_that_never_reads_is_not_waited_for() {
    for version in VERSIONS {
        let (gateway, witness) = open(config(), version).await;
        let mut viewer = version.connect(gateway.mqtt(), "viewer", "viewer").await;
        viewer.send(&version.subscribe(1, "tilth/v1/f/#")).await;
        assert_eq!(viewer.frame().await.unwrap()[0], 0x90);
        let mut loud = version.connect(gateway.mqtt(), "n2", "n2").await;
        for id in 1..=400 {
            loud.send(&version.publish("tilth/v1/f/n2/data", id, &[7; 50_000])).await;
            assert_eq!(loud.frame().await.unwrap()[..4], acknowledge(id));
        }
        // A witness's PUBACK may be on its way.
        let acknowledged = || read(&gateway.metrics.pubacks) - read(&witness.rounds);
        until("each is acknowledged, once", || acknowledged() == 400).await;
        drop(viewer);
        witness.stays_content().await;
    }
}

#[tokio::test]
async fn wills_are_bounded_and_their_topics_too() {
    for version in VERSIONS {
        let (gateway, witness) = open(config(), version).await;
        let not_authorised = if version == Version::V5 { 0x87 } else { 5 };
        for (topic, size, expected) in [
            ("tilth/v1/f/n2/status", 20_000, None),
            ("tilth/v1/f/n1/status", 10, Some(not_authorised)),
            ("tilth/v1/f/n2/data", 10, Some(not_authorised)),
            ("$SYS/x", 10, Some(not_authorised)),
            ("#", 10, Some(not_authorised)),
        ] {
            let mut raw = Raw::dial(gateway.mqtt()).await;
            raw.send(&version.hello_with("n2", "n2", 60, Some((topic, &vec![7; size])))).await;
            assert_eq!(raw.frame().await.map(|answer| answer[3]), expected, "{topic}");
        }
        // Two hundred deaths with a will each.
        for _ in 0..200 {
            let mut raw = Raw::dial(gateway.mqtt()).await;
            raw.send(&version.hello_with("n2", "n2", 60, Some(("tilth/v1/f/n2/status", b"gone")))).await;
            assert_eq!(raw.frame().await.unwrap()[3], 0);
        }
        until("every end", || read(&gateway.metrics.connections_open_now) == 1).await;
        let taken_over = read(&gateway.metrics.takeovers);
        assert_eq!(read(&gateway.metrics.wills) + taken_over, 200);
        witness.stays_content().await;
    }
}

#[tokio::test]
async fn two_clients_of_one_name_put_each_other_out() {
    for versions in [VERSIONS, [Version::V3; 2], [Version::V5; 2]] {
        let (gateway, witness) = open(config(), versions[0]).await;
        let address = gateway.mqtt();
        let fight = |version: Version| async move {
            for _ in 0..100 {
                let mut raw = version.connect(address, "n2", "n2").await;
                let _ = raw.stream.write_all(&version.publish("tilth/v1/f/n2/data", 1, b"x")).await;
                let _ = tokio::time::timeout(Duration::from_millis(20), raw.stream.read_buf(&mut raw.buffer)).await;
            }
        };
        let [one, other] = versions.map(|version| tokio::spawn(fight(version)));
        within("one", one).await.unwrap();
        within("the other", other).await.unwrap();
        until("their end", || read(&gateway.metrics.connections_open_now) == 1).await;
        assert_eq!(gateway.outbox.connected(), 1, "the witness");
        let mut raw = versions[1].connect(address, "n2", "n2").await;
        raw.send(&versions[1].publish("tilth/v1/f/n2/data", 9, b"x")).await;
        assert_eq!(raw.frame().await.unwrap()[..4], acknowledge(9));
        witness.stays_content().await;
    }
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
    let storm = |version: Version, name: &'static str, numbers: std::ops::Range<u32>| async move {
        let topic = format!("tilth/v1/f/{name}/data");
        for number in numbers {
            let mut station = version.connect(address, name, name).await;
            station.send(&version.publish(&topic, 1, &number.to_be_bytes())).await;
            assert_eq!(station.frame().await.unwrap()[..4], acknowledge(1));
            station.send(&GOODBYE).await;
        }
    };
    let storms = [tokio::spawn(storm(Version::V3, "n1", 0..500)), tokio::spawn(storm(Version::V5, "n2", 500..1_000))];
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
