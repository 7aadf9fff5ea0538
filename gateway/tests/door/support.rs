//! A door, and clients of which every byte is in the test's hand.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use gateway::broker::{Broker, BrokerConfig};
use gateway::credentials::{Credentials, Role};
use gateway::decode::source::Routes;
use gateway::door::{
    Deliveries, Delivery, Door, DoorAddresses, DoorConfig, DoorMetrics, Outbox, Release, TlsConfig, queue,
};
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, LastWill, Packet, Publish, Subscribe, SubscribeFilter, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};
use rumqttc::{AsyncClient, EventLoop, MqttOptions, QoS, TlsConfiguration, Transport};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes as long on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the queue of deliveries: more than any of these tests puts there, but where it is said.
pub const BYTES: u32 = 16 << 20;

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A door with a broker behind it.
pub struct Gateway {
    pub addresses: DoorAddresses,
    pub outbox: Outbox,
    pub metrics: Arc<DoorMetrics>,
    pub broker: Broker,
    pub deliveries: Deliveries,
    pub shutdown: CancellationToken,
    pub door: JoinHandle<()>,
}

impl Gateway {
    pub async fn open() -> Self {
        Self::with(config(), 1_000, BrokerConfig::default()).await
    }

    pub async fn with(config: DoorConfig, room: usize, broker: BrokerConfig) -> Self {
        Self::with_routes(config, room, broker, Routes::default()).await
    }

    /// One with sources.
    pub async fn with_routes(config: DoorConfig, room: usize, broker: BrokerConfig, routes: Routes) -> Self {
        let mut credentials = Credentials::default();
        for (name, role) in
            [("n1", Role::Station), ("n2", Role::Station), ("viewer", Role::Subscriber), ("node-red", Role::Subscriber)]
        {
            credentials.insert(name, role, &password(name));
        }
        for name in ["n7", "n8", "sp-1"] {
            credentials.insert(name, Role::Station, &password(name));
        }
        credentials.insert_bridge("edge", &["spBv1.0/G/+/e1/#", "spBv1.0/STATE/#"], &password("edge"));
        let (sender, deliveries) = queue(room, BYTES);
        let broker = Broker::start(broker).await.unwrap();
        let door =
            Door::bind(&config, "f".parse().unwrap(), credentials, routes, broker.clone(), sender).await.unwrap();
        let shutdown = CancellationToken::new();
        let (addresses, outbox, metrics) = (door.addresses(), door.outbox(), door.metrics());
        tokio::spawn({
            let (broker, shutdown) = (broker.clone(), shutdown.clone());
            async move { broker.run(shutdown).await }
        });
        let (closing, (ended, end)) = (shutdown.clone(), tokio::sync::oneshot::channel());
        // A blocking task of this runtime would have to end with the test.
        std::thread::spawn(move || {
            door.run(closing).unwrap();
            let _ = ended.send(());
        });
        let door = tokio::spawn(async { end.await.unwrap() });
        Self { addresses, outbox, metrics, broker, deliveries, shutdown, door }
    }

    pub fn mqtt(&self) -> SocketAddr {
        self.addresses.mqtt.unwrap()
    }

    pub async fn next(&mut self) -> Delivery {
        within("a delivery", self.deliveries.recv()).await.unwrap()
    }

    /// From now on everything is stored at once.
    pub fn store_everything(&mut self) -> JoinHandle<()> {
        let mut deliveries = std::mem::replace(&mut self.deliveries, queue(1, 1).1);
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                let mut release = Release::new();
                release.commit(delivery.ticket);
                while let Ok(delivery) = deliveries.try_recv() {
                    release.commit(delivery.ticket);
                }
            }
        })
    }
}

pub fn config() -> DoorConfig {
    DoorConfig { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))), ..DoorConfig::default() }
}

pub fn password(name: &str) -> String {
    format!("{name}-password-of-128-bits-or-more")
}

pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A client of which every byte is in the test's hand.
pub struct Raw {
    pub stream: TcpStream,
    pub buffer: BytesMut,
}

impl Raw {
    pub async fn dial(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), buffer: BytesMut::new() }
    }

    /// A client that is let in.
    pub async fn connect(address: SocketAddr, name: &str) -> Self {
        let mut raw = Self::dial(address).await;
        assert_eq!(raw.ask_in(&hello(name)).await, Some(ConnectReturnCode::Success));
        raw
    }

    pub async fn ask_in(&mut self, connect: &Connect) -> Option<ConnectReturnCode> {
        let mut bytes = BytesMut::new();
        connect.write(&mut bytes).unwrap();
        self.send(&bytes).await;
        match self.packet().await? {
            Packet::ConnAck(ack) => Some(ack.code),
            other => panic!("{other:?} instead of a CONNACK"),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet; `None` when the connection has ended.
    pub async fn packet(&mut self) -> Option<Packet> {
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

    /// The next packet of either version, as bytes; `None` when the connection has ended.
    pub async fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            match rumqttc::mqttbytes::check(self.buffer.iter(), 1 << 20) {
                Ok(header) => return Some(self.buffer.split_to(header.frame_length()).to_vec()),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match within("bytes from the door", self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn expect_puback(&mut self, id: u16) {
        match self.packet().await {
            Some(Packet::PubAck(ack)) => assert_eq!(ack.pkid, id),
            other => panic!("{other:?} instead of PUBACK {id}"),
        }
    }

    pub async fn expect_end(&mut self) {
        assert_eq!(self.packet().await, None);
    }

    pub async fn subscribe(&mut self, filters: &[&str]) -> Vec<SubscribeReasonCode> {
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

pub fn hello(name: &str) -> Connect {
    let mut connect = Connect::new(name);
    connect.set_login(name, password(name));
    connect
}

pub fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut publish = Publish::new(topic, if id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }, payload);
    publish.pkid = id;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).unwrap();
    bytes.to_vec()
}

/// Either version of the protocol, as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.
    V5,
}

pub const VERSIONS: [Version; 2] = [Version::V3, Version::V5];

impl Version {
    /// The CONNECT of `name`, which has `id` for a client id.
    pub fn hello(self, name: &str, id: &str, keep_alive: u16) -> Vec<u8> {
        self.hello_with(name, id, keep_alive, None)
    }

    /// One with a last will, its topic and message.
    pub fn hello_with(self, name: &str, id: &str, keep_alive: u16, will: Option<(&str, &[u8])>) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let client_id = id.to_owned();
        match self {
            Self::V3 => {
                let last_will = will.map(|(topic, message)| LastWill::new(topic, message, QoS::AtLeastOnce, true));
                let connect = Connect { client_id, keep_alive, last_will, ..hello(name) };
                connect.write(&mut bytes).unwrap();
            }
            Self::V5 => {
                let login = v5::Login { username: name.to_owned(), password: password(name) };
                let will =
                    will.map(|(topic, message)| v5::LastWill::new(topic, message, QoS5::AtLeastOnce, true, None));
                let connect = v5::Connect { keep_alive, client_id, clean_start: true, properties: None };
                connect.write(&will, &Some(login), &mut bytes).unwrap();
            }
        }
        bytes.to_vec()
    }

    /// A PUBLISH, with QoS 0 where `id` is 0.
    pub fn publish(self, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::V3 => publish(topic, id, payload),
            Self::V5 => {
                let qos = if id == 0 { QoS5::AtMostOnce } else { QoS5::AtLeastOnce };
                let mut publish = v5::Publish::new(topic, qos, payload.to_vec(), None);
                publish.pkid = id;
                let mut bytes = BytesMut::new();
                publish.write(&mut bytes).unwrap();
                bytes.to_vec()
            }
        }
    }

    /// A SUBSCRIBE with QoS 1.
    pub fn subscribe(self, id: u16, filter: &str) -> Vec<u8> {
        let properties: &[u8] = if self == Self::V5 { &[0] } else { &[] };
        let length = u16::try_from(filter.len()).unwrap().to_be_bytes();
        let body = [&id.to_be_bytes()[..], properties, &length, filter.as_bytes(), &[1]].concat();
        [&[0x82, u8::try_from(body.len()).unwrap()][..], &body].concat()
    }

    /// A client that is let in.
    pub async fn connect(self, address: SocketAddr, name: &str, id: &str) -> Raw {
        let mut raw = Raw::dial(address).await;
        raw.send(&self.hello(name, id, 60)).await;
        let answer = raw.frame().await.unwrap();
        assert_eq!((answer[0], answer[3]), (0x20, 0), "{name} is not let in: {answer:?}");
        raw
    }
}

/// A PUBACK of success, which is the same in either version.
pub fn acknowledge(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

pub const PING: [u8; 2] = [0xC0, 0];
pub const GOODBYE: [u8; 2] = [0xE0, 0];

/// A program of Mosquitto's.
pub struct Mosquitto {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Mosquitto {
    /// `mosquitto_sub`, once the broker has granted its subscription.
    pub async fn subscribe(address: SocketAddr, name: &str, filter: &str) -> Self {
        Self::subscribe_with(address, name, filter, &[]).await
    }

    /// The same with more arguments.
    pub async fn subscribe_with(address: SocketAddr, name: &str, filter: &str, more: &[&str]) -> Self {
        let mut child = mosquitto("mosquitto_sub", address, name)
            .args(more)
            .args(["-d", "-q", "1", "-F", "message %t %x", "-t", filter])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut sub = Self { _child: child, lines };
        sub.line("Subscribed").await;
        sub
    }

    pub async fn line(&mut self, start: &str) -> String {
        loop {
            let line = within(&format!("{start:?} from mosquitto_sub"), self.lines.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("mosquitto_sub ended before {start:?}"));
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }

    pub async fn message(&mut self) -> (String, Vec<u8>) {
        let line = self.line("message ").await;
        let (topic, hex) = line.split_once(' ').unwrap_or((&line, ""));
        let payload = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        (topic.to_owned(), payload)
    }
}

pub fn mosquitto(program: &str, address: SocketAddr, name: &str) -> Command {
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

/// A certificate authority with the files of a door.
pub struct Pki {
    pub directory: tempfile::TempDir,
    authority: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub authority_pem: String,
}

impl Pki {
    pub fn new() -> Self {
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
    pub fn issue(&self, common: &str, dns: &[&str]) -> (String, String) {
        let mut params =
            rcgen::CertificateParams::new(dns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common.is_empty() {
            params.distinguished_name.push(rcgen::DnType::CommonName, common);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    pub fn door(&self) -> TlsConfig {
        let file = |name| self.directory.path().join(name);
        TlsConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificate: file("door.pem"),
            key: file("door.key"),
            client_ca: file("ca.pem"),
        }
    }

    /// A TLS client that trusts this authority and shows `identity`.
    pub fn client(&self, gateway: &Gateway, id: &str, identity: Option<&(String, String)>) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(id, "localhost", gateway.addresses.mqtts.unwrap().port());
        let client_auth =
            identity.map(|(certificate, key)| (certificate.clone().into_bytes(), key.clone().into_bytes()));
        let tls = TlsConfiguration::Simple { ca: self.authority_pem.clone().into_bytes(), alpn: None, client_auth };
        options.set_transport(Transport::tls_with_config(tls));
        AsyncClient::new(options, 10)
    }
}
