//! The gateway's own page, as a person in the farmhouse reads it: one request, no script, no cloud.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Nothing in these tests takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Gateway {
    _dir: TempDir,
    process: Child,
    mqtt: u16,
    page: String,
}

impl Gateway {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let client = |name: &str, role: &str| {
            let digest = hex::encode(Sha256::digest("secret"));
            format!("[[client]]\nname = \"{name}\"\nrole = \"{role}\"\npassword_sha256 = \"{digest}\"\n")
        };
        let bridge = format!("{}topics = [\"sensors/#\"]\n", client("lab", "bridge"));
        fs::write(at("credentials.toml"), client("n1", "station") + &bridge).unwrap();
        let config = format!(
            "farm = \"f\"\ngateway = \"g1\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n\
             [door]\nlisten = \"127.0.0.1:0\"\ncredentials = {:?}\n\
             [[source]]\nkind = \"senml\"\nname = \"lab\"\nprefix = \"lab-\"\ntopics = [\"sensors/{{station}}\"]\n",
            at("data"),
            at("ready.json"),
            at("credentials.toml"),
        );
        fs::write(at("gateway.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        let process = command.arg("--config").arg(at("gateway.toml")).spawn().unwrap();
        let mut gateway = Self { process, mqtt: 0, page: String::new(), _dir: dir };
        let ready = gateway._dir.path().join("ready.json");
        let wait = async {
            while !ready.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the gateway is ready");
        let ready: serde_json::Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        gateway.mqtt = ready["mqtt"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        gateway.page = format!("http://{}/", ready["status"].as_str().unwrap());
        gateway
    }

    /// Publishes with QoS 1, and waits for the PUBACK; false when the client is not let in.
    async fn publish(&self, name: &str, password: &str, topic: &str, payload: &str) -> bool {
        let mut options = MqttOptions::new(name, "127.0.0.1", self.mqtt);
        options.set_credentials(name, password);
        let (client, mut events) = AsyncClient::new(options, 4);
        client.try_publish(topic, QoS::AtLeastOnce, false, payload).unwrap();
        let until = async {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::PubAck(_))) => return true,
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
        };
        tokio::time::timeout(PATIENCE, until).await.expect("an answer")
    }

    /// The page, once it holds all of this.
    async fn shows(&self, parts: &[&str]) -> String {
        let mut page = String::new();
        let wait = async {
            loop {
                page = reqwest::get(&self.page).await.unwrap().text().await.unwrap();
                if parts.iter().all(|part| page.contains(part)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let missing: Vec<_> = parts.iter().filter(|part| !page.contains(**part)).collect();
            panic!("{missing:?} are not on the page:\n{page}");
        }
        page
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn the_page_says_what_came_what_did_not_and_why() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let gateway = Gateway::start().await;
    let page = gateway.shows(&["No station has reported yet", "Nothing needs attention", "Nobody so far."]).await;
    assert!(!page.contains("<script"), "it needs no script");

    let data = "tilth/v1/f/n1/data";
    assert!(gateway.publish("n1", "secret", data, r#"{"soil_moisture_20cm": 0.231}"#).await);
    assert!(gateway.publish("n1", "secret", data, "{\"mud\": 1}").await, "what cannot be read is acknowledged too");
    assert!(!gateway.publish("n1", "wrong", data, "{}").await);
    assert!(!gateway.publish("n2", "secret", "tilth/v1/f/n2/data", "{}").await);
    assert!(!gateway.publish("n1", "secret", "tilth/v1/f/n3/data", "{}").await);
    let pack = r#"[{"n":"turbidity","u":"NTU","v":3.5}]"#;
    assert!(gateway.publish("lab", "secret", "sensors/probe7", pack).await);
    gateway
        .shows(&[
            "0.231",
            "unknown quantity &quot;mud&quot;",
            "refused: wrong password",
            "refused: nobody of that name is known",
            "it may not publish &quot;tilth/v1/f/n3/data&quot;",
            "Channels that nobody mapped",
            "turbidity",
            "soil-anomaly 1.0.0",
            "Store on disk",
        ])
        .await;
}
