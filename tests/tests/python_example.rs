//! The README's station in Python, as it is written there, against a real gateway at which the station is added while it runs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use tests::python::python;
use tests::{project, tilth};

/// Nothing in this test takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that ends with the test.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first block of Python in the README.
fn example() -> String {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```python\n").expect("the README has an example in Python");
    rest.split_once("```").unwrap().0.to_owned()
}

async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn station(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    let done =
        Command::new(tilth()).arg("station").args(arguments).arg("--json").arg("--credentials-dir").arg(dir).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[tokio::test]
async fn the_readmes_station_in_python_is_let_in_and_its_reading_is_stored() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("credentials.d")).unwrap();
    fs::write(at("reading.py"), example()).unwrap();
    let config = format!(
        "farm = \"fallon\"\ngateway = \"home\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n
         [door]\nlisten = \"127.0.0.1:0\"\ncredentials_dir = {:?}\n",
        at("data"),
        at("ready.json"),
        at("credentials.d"),
    );
    fs::write(at("gateway.toml"), config).unwrap();
    let gateway = Command::new(tilth()).args(["gateway", "--config"]).arg(at("gateway.toml")).spawn().unwrap();
    let _gateway = Gateway(gateway);
    let ready = until("the gateway is ready", async || fs::read_to_string(at("ready.json")).ok()).await;
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let address = |key: &str| ready[key].as_str().unwrap().parse::<SocketAddr>().unwrap();
    let (mqtt, status) = (address("mqtt").to_string(), address("status"));

    let added = station(&at("credentials.d"), &["add", "weather-1"]);
    assert_eq!(added["topic"], "tilth/v1/fallon/weather-1/data");
    let password = added["password"].as_str().unwrap();
    let (host, port) = mqtt.split_once(':').unwrap();
    let send = |password: &str| -> Output {
        Command::new(python()).arg(at("reading.py")).args(["weather-1", password, host, port]).output().unwrap()
    };
    // The gateway looks for new credentials at most once a second.
    until("the reading is acknowledged", async || send(password).status.success().then_some(())).await;

    let page = async |path: &str| reqwest::get(format!("http://{status}{path}")).await.unwrap().text().await.unwrap();
    until("the page shows the reading", async || {
        let page = page("/").await;
        (page.contains("weather-1") && page.contains("0.231")).then_some(())
    })
    .await;
    assert!(page("/metrics").await.contains("event=\"readings\"} 2"), "both of its values are stored, once");

    station(&at("credentials.d"), &["remove", "weather-1"]);
    until("the station is refused", async || (!send(password).status.success()).then_some(())).await;
}
