//! The gateway's own program at the farm's Mosquitto, over TLS, killed again and again under load: what Mosquitto took from
//! the stations is in the raw store, once.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gateway::store::{Cursor, Store};
use proto::{Batch, Channel, Quantity, Reading, Timestamp};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tempfile::TempDir;

use crate::external::Broker;
use crate::support::{Pki, read, until};

const STATIONS: usize = 3;
const KILLS: u64 = 12;
/// How many batches a station has on the way to Mosquitto.
const IN_FLIGHT: u64 = 8;

struct Gateway {
    dir: TempDir,
    child: Option<Child>,
}

impl Gateway {
    /// A place for a gateway that is a client of the broker at this port, with a certificate.
    fn at(port: u16, pki: &Pki) -> Self {
        let dir = TempDir::new().unwrap();
        let file = |name: &str| pki.directory.path().join(name).display().to_string();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "farm = \"f\"\ngateway = \"g\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n\
             [door]\nlisten = \"127.0.0.1:0\"\n\
             [broker]\nurl = \"mqtts://localhost:{port}\"\nca = {:?}\ncertificate = {:?}\nkey = {:?}\n",
            at("data"),
            at("ready"),
            file("ca.pem"),
            file("gateway.pem"),
            file("gateway.key")
        );
        fs::write(at("gateway.toml"), config).unwrap();
        Self { dir, child: None }
    }

    async fn start(&mut self) {
        let ready = self.dir.path().join("ready");
        let _ = fs::remove_file(&ready);
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.arg("--config").arg(self.dir.path().join("gateway.toml"));
        self.child = Some(command.env("RUST_LOG", "off").stdout(Stdio::null()).spawn().unwrap());
        until("the gateway is ready", || ready.exists()).await;
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// How many batches are in its raw store, beside it while it runs.
    fn stored(&self) -> u64 {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let store = rusqlite::Connection::open_with_flags(self.dir.path().join("data/gateway.sqlite"), flags);
        let sum = "SELECT coalesce(sum(messages), 0) FROM raw";
        let stored = store.and_then(|store| store.query_row(sum, [], |row| row.get::<_, i64>(0)));
        stored.map_or(0, i64::cast_unsigned)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.kill();
    }
}

fn batch(start: Timestamp, sequence: u64) -> Batch {
    let channel = Channel::at(Quantity::SoilMoisture, 20);
    let time = start.plus_secs(10 * sequence.cast_signed());
    let value = Quantity::SoilMoisture.quantise(0.2 + 0.001 * (sequence % 50) as f64);
    Batch { boot: 1, sequence, readings: vec![Reading { channel, time, value }] }
}

/// Publishes batches until it is `over`, and then until Mosquitto has all of them; gives how many they are.
async fn station(name: String, port: u16, taken: Arc<AtomicU64>, over: Arc<AtomicBool>) -> u64 {
    let start = Timestamp::from_jiff(jiff::Timestamp::now()).plus_secs(-5 * 86_400).floor_to(900);
    let (client, mut events) = AsyncClient::new(MqttOptions::new(&name, "127.0.0.1", port), 64);
    let (mut sent, mut acknowledged) = (0, 0);
    loop {
        let more = !over.load(Ordering::Relaxed);
        if !more && acknowledged == sent {
            return sent;
        }
        if more && sent < acknowledged + IN_FLIGHT {
            sent += 1;
            let payload = batch(start, sent).encode().unwrap();
            client.publish(format!("tilth/v1/f/{name}/data"), QoS::AtLeastOnce, false, payload).await.unwrap();
        }
        match tokio::time::timeout(Duration::from_millis(5), events.poll()).await {
            Ok(Ok(Event::Incoming(Incoming::PubAck(_)))) => {
                acknowledged += 1;
                taken.fetch_add(1, Ordering::Relaxed);
            }
            Ok(event) => drop(event.unwrap()),
            Err(_) => {}
        }
    }
}

/// The sequences of each station in the raw store, in the order in which they are there.
fn sequences(data: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut store = Store::open(data).unwrap();
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut cursor = Cursor { commit: 0, messages: u32::MAX };
    while let Some((commit, messages)) = store.commit_after(cursor).unwrap() {
        for message in messages {
            all.entry(message.station).or_default().push(Batch::decode(&message.payload).unwrap().sequence);
        }
        cursor = Cursor { commit, messages: u32::MAX };
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_at_the_farms_broker_it_has_all_that_the_broker_took_once() {
    let pki = Pki::new();
    let (certificate, key) = pki.issue("gateway", &[]);
    fs::write(pki.directory.path().join("gateway.pem"), certificate).unwrap();
    fs::write(pki.directory.path().join("gateway.key"), key).unwrap();
    let tls = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let path = pki.directory.path().display();
    let broker = Broker::start(&format!(
        "allow_anonymous true\nlistener {tls} 127.0.0.1\ncafile {path}/ca.pem\ncertfile {path}/door.pem\n\
         keyfile {path}/door.key\nrequire_certificate true"
    ))
    .await;
    let mut gateway = Gateway::at(tls, &pki);
    gateway.start().await;
    // Its session is at the broker before anything is published.
    let (taken, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let one = || station("n0".to_owned(), broker.port, Arc::default(), Arc::new(AtomicBool::new(false)));
    let first = tokio::spawn(one());
    until("something comes through", || gateway.stored() > 0).await;
    first.abort();
    let names: Vec<String> = (1..=STATIONS).map(|n| format!("n{n}")).collect();
    let stations: Vec<_> = names
        .iter()
        .map(|name| tokio::spawn(station(name.clone(), broker.port, Arc::clone(&taken), Arc::clone(&over))))
        .collect();

    let mut waited = 0;
    for kill in 1..=KILLS {
        let before = gateway.stored();
        until("more is stored", || gateway.stored() > before + 20).await;
        // At another moment of a group each time.
        tokio::time::sleep(Duration::from_millis(kill * 37 % 61)).await;
        gateway.kill();
        waited += u64::from(read(&taken) > gateway.stored());
        gateway.start().await;
    }
    assert!(waited > KILLS / 2, "at {waited} kills only there was anything on the way");
    over.store(true, Ordering::Relaxed);
    let mut sent = BTreeMap::new();
    for (name, station) in names.iter().zip(stations) {
        sent.insert(name.clone(), station.await.unwrap());
    }
    let has_all = || {
        let mut store = Store::open(&gateway.dir.path().join("data")).unwrap();
        let progress = store.progress().unwrap();
        sent.iter().all(|(name, sent)| progress.highest(&name.parse().unwrap(), 1) == Some(*sent))
    };
    until("the newest of each station is stored", has_all).await;
    gateway.kill();
    let stored = sequences(&gateway.dir.path().join("data"));
    for (name, sent) in &sent {
        assert!(stored[name].iter().copied().eq(1..=*sent), "{name}, of {sent}: {:?}", stored[name]);
    }
}
