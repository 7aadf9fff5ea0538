//! paho-mqtt speaks MQTT 5 with a gateway's front door: what it is promised, refused and given.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::python::python;
use tests::{project, tilth};

/// Nothing in this test takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest payload that this gateway takes, bytes.
const MOST: usize = 5_000;

/// A gateway that ends with the test.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What paho-mqtt was told and given by a gateway.
fn said() -> Value {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut clients = String::new();
    for (name, role) in [("n1", "station"), ("viewer", "subscriber")] {
        let digest = Sha256::digest(name).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        clients += &format!("[[client]]\nname = \"{name}\"\nrole = \"{role}\"\npassword_sha256 = \"{digest}\"\n");
    }
    fs::write(at("credentials.toml"), clients).unwrap();
    let config = format!(
        "farm = \"fallon\"\ngateway = \"home\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n
         [door]\nlisten = \"127.0.0.1:0\"\ncredentials = {:?}\nmax_payload_bytes = {MOST}\n",
        at("data"),
        at("ready.json"),
        at("credentials.toml"),
    );
    fs::write(at("gateway.toml"), config).unwrap();
    let gateway = Command::new(tilth()).args(["gateway", "--config"]).arg(at("gateway.toml")).spawn().unwrap();
    let _gateway = Gateway(gateway);
    let end = Instant::now() + PATIENCE;
    while !at("ready.json").exists() {
        assert!(Instant::now() < end, "the gateway is not ready within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ready: Value = serde_json::from_slice(&fs::read(at("ready.json")).unwrap()).unwrap();
    let mqtt: SocketAddr = ready["mqtt"].as_str().unwrap().parse().unwrap();
    let said = Command::new(python())
        .arg(project().join("tests/python/mqtt5_client.py"))
        .args([&*mqtt.ip().to_string(), &mqtt.port().to_string()])
        .args(["fallon", "n1", "n1", "viewer", "viewer"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn paho_is_refused_with_reasons_and_gets_what_mqtt_5_promises() {
    let said = said();
    // MQTT 5, table 2-6: 134 bad user name or password, 133 client identifier not valid.
    let refused = json!({
        "a wrong password": 134, "a name that nobody knows": 134, "the client id of another": 133,
    });
    assert_eq!(said["refused"], refused);
    let connack = json!({
        "reason": 0, "session_expiry": 0, "maximum_qos": 1, "maximum_packet": MOST + 1_024 + 5, "receive_maximum": 1_024,
    });
    assert_eq!(said["connack"], connack);
    assert_eq!(said["session_present"], false, "no session outlives its connection, though an hour was asked for");
    assert_eq!(said["subscribed"], json!([1, 158]), "QoS 1, and no shared subscription");
    assert_eq!(
        said["published"],
        json!([0, 0, 135, 0]),
        "another station's topic is not authorized, and costs no connection"
    );
    let message = json!({
        "note": "after", "user_properties": [["firmware", "1.4.2"], ["firmware", "süd"], ["", ""]],
        "content_type": "application/json",
    });
    assert_eq!(said["message"], message, "the first that came after the subscription, with its properties");
    assert_eq!(
        said["small_packets"],
        json!(["first", "last"]),
        "what is above a client's largest packet does not come"
    );
    let one_by_one = json!({"order": ["0", "1", "2", "3", "4"], "at_once": 0});
    assert_eq!(said["receive_maximum"], one_by_one, "none before the one before it is answered");
    assert_eq!(said["too_large"], 149, "a packet that is too large ends the connection with its reason");
}
