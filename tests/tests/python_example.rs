//! The README's station in Python, as it is written there, against a real gateway at which the station is added while it runs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use tests::gateway::{Gateway, until};
use tests::python::python;
use tests::{project, tilth};

/// The first block of Python in the README.
fn example() -> String {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```python\n").expect("the README has an example in Python");
    rest.split_once("```").unwrap().0.to_owned()
}

fn station(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    let done =
        Command::new(tilth()).arg("station").args(arguments).arg("--json").arg("--credentials-dir").arg(dir).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn the_readmes_station_in_python_is_let_in_and_its_reading_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("credentials.d")).unwrap();
    fs::write(at("reading.py"), example()).unwrap();
    let door = format!("[door]\nlisten = \"127.0.0.1:0\"\ncredentials_dir = {:?}\n", at("credentials.d"));
    let gateway = Gateway::start(dir.path(), &door);
    let ready = gateway.ready();
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
    until("the reading is acknowledged", || send(password).status.success().then_some(()));

    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let page = |path: &str| {
        runtime.block_on(async { reqwest::get(format!("http://{status}{path}")).await.unwrap().text().await.unwrap() })
    };
    until("the page shows the reading", || {
        let page = page("/");
        (page.contains("weather-1") && page.contains("0.231")).then_some(())
    });
    assert!(page("/metrics").contains("event=\"readings\"} 2"), "both of its values are stored, once");

    station(&at("credentials.d"), &["remove", "weather-1"]);
    until("the station is refused", || (!send(password).status.success()).then_some(()));
}
