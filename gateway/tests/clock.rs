//! Stations with wrong clocks at a real gateway: what they have timed is rejected with the reason, who can take it is told
//! the time, and nothing good that comes after it suffers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use proto::{Batch, Birth, Channel, Command, CommandMessage, Quantity, Reading, Timestamp};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::sync::mpsc;

/// Nothing in these tests takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
const NAMES: [&str; 4] = ["ahead", "restarted", "plain", "good"];

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

fn moisture() -> Channel {
    Channel::at(Quantity::SoilMoisture, 20)
}

/// A gateway's place on disk.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client = |name: &&str| {
            let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("[[client]]\nname = {name:?}\nrole = \"station\"\npassword_sha256 = {digest:?}\n")
        };
        let credentials: String = NAMES.iter().map(client).collect();
        std::fs::write(dir.path().join("credentials.toml"), credentials).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    async fn start(&self) -> Gateway {
        let ready = self.path("ready.json");
        let _ = std::fs::remove_file(&ready);
        let config = format!(
            "farm = \"f\"\ngateway = \"g1\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {ready:?}\n
             [door]\nlisten = \"127.0.0.1:0\"\ncredentials = {:?}\n",
            self.path("data"),
            self.path("credentials.toml"),
        );
        std::fs::write(self.path("gateway.toml"), config).unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(["--config", &self.path("gateway.toml")]).kill_on_drop(true).stderr(Stdio::inherit());
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

    fn ask<T: rusqlite::types::FromSql>(&self, sql: &str) -> Option<T> {
        let path = self.path("data/gateway.sqlite");
        let store = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        store.busy_timeout(PATIENCE).unwrap();
        store.query_row(sql, [], |row| row.get(0)).ok()
    }

    fn counted(&self, name: &str) -> i64 {
        self.ask(&format!("SELECT value FROM counter WHERE name = '{name}'")).unwrap_or(0)
    }
}

struct Gateway {
    child: Child,
    mqtt: SocketAddr,
    status: SocketAddr,
}

impl Gateway {
    /// Waits until the page shows something, or no longer does.
    async fn page(&self, part: &str, shown: bool) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut page = String::new();
        let waited = tokio::time::timeout(PATIENCE, async {
            while page.is_empty() || page.contains(part) != shown {
                tokio::time::sleep(Duration::from_millis(50)).await;
                page = reqwest::get(format!("http://{}/", self.status)).await.unwrap().text().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "{part:?} shown: {}, not {shown}:\n{page}", !shown);
    }
}

/// A station: a real MQTT client that counts its batches, and whose clock is ahead of the true one.
struct Station {
    name: &'static str,
    client: AsyncClient,
    pubacks: mpsc::UnboundedReceiver<()>,
    commands: mpsc::UnboundedReceiver<CommandMessage>,
    sequence: u64,
    ahead_ms: i64,
}

impl Station {
    async fn connect(gateway: &Gateway, name: &'static str) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", gateway.mqtt.port());
        options.set_credentials(name, name);
        let (client, mut poll) = AsyncClient::new(options, 10);
        let ((puback, pubacks), (command, commands)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let (subscribed, ready) = tokio::sync::oneshot::channel();
        let mut subscribed = Some(subscribed);
        tokio::spawn(async move {
            while let Ok(event) = poll.poll().await {
                match event {
                    Event::Incoming(Incoming::PubAck(_)) => {
                        let _ = puback.send(());
                    }
                    Event::Incoming(Incoming::SubAck(_)) => {
                        let _ = subscribed.take().map(|s| s.send(()));
                    }
                    Event::Incoming(Incoming::Publish(publish)) if publish.topic.ends_with("/command") => {
                        let _ = command.send(CommandMessage::decode(&publish.payload).unwrap());
                    }
                    _ => {}
                }
            }
        });
        client.subscribe(format!("tilth/v1/f/{name}/command"), QoS::AtLeastOnce).await.unwrap();
        within("the subscription", ready).await.unwrap();
        Self { name, client, pubacks, commands, sequence: 0, ahead_ms: 0 }
    }

    async fn publish(&mut self, kind: &str, payload: Vec<u8>) {
        let topic = format!("tilth/v1/f/{}/{kind}", self.name);
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
        within("the acknowledgement", self.pubacks.recv()).await.unwrap();
    }

    async fn birth(&mut self, boot: u32) {
        let (firmware, channels) = ("test 1.0.0".to_owned(), vec![moisture()]);
        let birth = Birth {
            boot,
            firmware,
            interval_s: 1,
            report_s: 3,
            channels,
            field: None,
            latitude: None,
            longitude: None,
        };
        self.publish("birth", birth.encode()).await;
    }

    /// Three readings of the last three seconds, as the station's clock has them. Gives the true time of the newest.
    async fn report(&mut self, boot: u32) -> Timestamp {
        self.sequence += 1;
        let made = now();
        let reading = |ago_s: i64| Reading {
            channel: moisture(),
            time: made.plus_millis(self.ahead_ms).plus_secs(-ago_s),
            value: 0.3,
        };
        let batch = Batch { boot, sequence: self.sequence, readings: [2, 1, 0].map(reading).to_vec() };
        let payload = batch.encode().unwrap();
        self.publish("data", payload).await;
        made
    }

    /// Waits for the command to set the clock, sets it, and gives the command's number.
    async fn obey(&mut self) -> u64 {
        let message = within("a command", self.commands.recv()).await.unwrap();
        let Command::SetTime(time) = message.command else { panic!("{message:?}") };
        self.ahead_ms = time.millis_since(now());
        assert!(self.ahead_ms.abs() < 5_000, "told a time that is {} ms off", self.ahead_ms);
        message.id
    }
}

#[tokio::test]
async fn wrong_clocks_are_found_set_right_and_cost_nothing_else() {
    let place = Place::new();
    let gateway = place.start().await;
    let mut good = Station::connect(&gateway, "good").await;
    good.birth(1).await;
    good.report(1).await;

    // An hour ahead. Its readings are from the future; the next ones, set right, are neither that nor late.
    let mut ahead = Station::connect(&gateway, "ahead").await;
    ahead.birth(1).await;
    ahead.report(1).await;
    ahead.ahead_ms = 3_630_000;
    let wrong = ahead.report(1).await;
    gateway.page("1 h 0 min ahead", true).await;
    let first = ahead.obey().await;
    let right = ahead.report(1).await;
    gateway.page("1 h 0 min ahead", false).await;
    until("the rejections are stored", || place.counted("rejected.future") == 3).await;
    assert_eq!((place.counted("untimely.future.ahead"), place.counted("untimely.future.good")), (3, 0));
    let reason: String = place.ask("SELECT reason FROM quarantine WHERE source = 'station ahead'").unwrap();
    assert!(
        reason.starts_with("clock: 3 readings are of ") && reason.contains("which station ahead sent at"),
        "{reason}"
    );
    let body: Vec<u8> = place.ask("SELECT body FROM quarantine WHERE source = 'station ahead'").unwrap();
    let newest = format!("soil_moisture_20cm {} 0.3\n", wrong.plus_millis(3_630_000));
    assert!(String::from_utf8(body).unwrap().ends_with(&newest), "{newest}");

    // Started again in 1970: older than anything can be.
    let mut restarted = Station::connect(&gateway, "restarted").await;
    restarted.birth(1).await;
    restarted.ahead_ms = -(now().as_millis() / 86_400_000 * 86_400_000) - 60_000;
    restarted.report(1).await;
    gateway.page(" d 0 h behind", true).await;
    restarted.obey().await;
    restarted.report(1).await;
    gateway.page(" d 0 h behind", false).await;
    until("the rejections are stored", || place.counted("rejected.clock") == 3).await;
    assert_eq!(place.counted("untimely.clock.restarted"), 3);
    // With them it is stored how far the others have come: the good readings count.
    let watermark = place.ask::<i64>("SELECT watermark_ms FROM analysed WHERE station = 'ahead'").unwrap();
    assert!((right.as_millis() - 5_000..=now().as_millis()).contains(&watermark), "{watermark}");

    // Who speaks plain JSON can only be reported.
    let mut plain = Station::connect(&gateway, "plain").await;
    let payload = format!(r#"{{"time": "{}", "soil_moisture_20cm": 0.3}}"#, now().plus_secs(7230));
    plain.publish("data", payload.into_bytes()).await;
    until("the plain reading is rejected", || place.counted("rejected.future") == 4).await;
    gateway.page("2 h 0 min ahead", true).await;

    // Nobody else was told anything, and no reading was late. A station is not told again at once.
    good.report(1).await;
    ahead.ahead_ms = 3_630_000;
    ahead.report(1).await;
    until("the second fault is counted", || place.counted("rejected.future") == 7).await;
    assert!(ahead.commands.is_empty() && good.commands.is_empty() && plain.commands.is_empty());
    assert_eq!((place.counted("rejected.late"), place.counted("clocks_told")), (0, 2));

    // Killed and started again it goes on with higher numbers, which alone are obeyed.
    let Gateway { mut child, .. } = gateway;
    child.kill().await.unwrap();
    let gateway = place.start().await;
    let sequence = ahead.sequence;
    let mut ahead = Station::connect(&gateway, "ahead").await;
    (ahead.sequence, ahead.ahead_ms) = (sequence, -8 * 86_400_000 * 100);
    ahead.birth(1).await;
    ahead.report(1).await;
    assert!(ahead.obey().await > first);
}
