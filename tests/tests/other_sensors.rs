//! The README's sources, as they are written there, with real clients: paho-mqtt and mqtt.js publish SenML in JSON and CBOR,
//! ChirpStack's uplinks and JSON of an own shape to a real gateway, as a bridge, and the readings come out in windows.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use gateway::spool::{Limits, Spool};
use gateway::store::Store;
use proto::{Lane, Record, Stats, Timestamp};
use tests::gateway::Gateway;
use tests::python::python;
use tests::{node, project, tilth};

/// What each client sends: five formats, 31 times.
const MESSAGES: usize = 5 * 31;

/// The README's blocks of configuration with sources.
fn sources() -> String {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let blocks = readme.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let sources: String = blocks.filter(|block| block.contains("[[source]]")).collect();
    assert!(!sources.is_empty(), "the README shows sources");
    sources
}

/// By station, channel and start in seconds from `from`, what its readings came to.
fn windows(data_dir: &Path, from: Timestamp) -> BTreeMap<(String, String, i64), Stats> {
    let mut spool = Spool::open(data_dir).unwrap();
    let sending = spool.next(Lane::Aggregates, Limits::default(), from).unwrap().expect("windows");
    let mut found = BTreeMap::new();
    for (_, record) in sending.records {
        let Record::Window(window) = record else { continue };
        for aggregate in &window.aggregates {
            let at = window.start.millis_since(from) / 1000;
            // An amended window comes again, and the last counts.
            let key = (window.station.to_string(), aggregate.channel.to_string(), at);
            found.extend(aggregate.accepted.map(|accepted| (key, accepted)));
        }
    }
    found
}

#[test]
fn what_other_peoples_sensors_send_comes_out_in_windows() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("credentials.d")).unwrap();
    let config = format!(
        "[door]\nlisten = \"127.0.0.1:0\"\ncredentials_dir = {:?}\n
         [windows]\nlength_s = 60\ncontext_s = 60\nidle_s = 60\n\n{}",
        at("credentials.d"),
        sources(),
    );
    let filters = ["application/#", "senml/#", "farm/#"].iter().flat_map(|filter| ["--bridge", filter]);
    let added = Command::new(tilth())
        .args(["station", "add", "lorawan", "--json", "--credentials-dir"])
        .arg(at("credentials.d"))
        .args(filters)
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    let password = added["password"].as_str().unwrap();
    let mut gateway = Gateway::start(dir.path(), &config);
    let mqtt: SocketAddr = gateway.ready()["mqtt"].as_str().unwrap().parse().unwrap();
    let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let start = Timestamp::from_secs(now - 600).floor_to(60);
    let from = (start.as_millis() / 1000).to_string();
    let arguments = |name| [&*host, &*port, "lorawan", password, name, &*from];
    let script = project().join("tests/python/other_sensors.py");
    let sent = [
        Command::new(python()).arg(script).args(arguments("py")).output().unwrap(),
        node("other-sensors.mjs").args(arguments("js")).output().unwrap(),
        // The same again changes nothing: each of its readings is known.
        node("other-sensors.mjs").args(arguments("js")).output().unwrap(),
    ];
    for sent in sent {
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
        assert_eq!(String::from_utf8_lossy(&sent.stdout).trim(), MESSAGES.to_string(), "all is acknowledged");
    }
    let stations = |name: &str| {
        let eui = name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        [
            (format!("senml-{name}-json"), "soil_temperature_20cm"),
            (format!("senml-{name}-cbor"), "soil_temperature_20cm"),
            (format!("chirpstack-{eui:0>16}"), "soil_temperature_20cm"),
            (format!("chirpstack-{:0>15}f", &eui[..eui.len() - 1]), "air_temperature_200cm"),
            (format!("farm-{name}-p1"), "soil_moisture_20cm"),
        ]
    };
    gateway.end();

    let found = windows(&at("data"), start);
    for (station, channel) in ["py", "js"].iter().flat_map(|name| stations(name)) {
        // Of the five minutes the last one or two wait for what comes after them.
        for minute in 0..3 {
            let key = (station.clone(), channel.to_owned(), 60 * minute);
            let stats = found.get(&key).unwrap_or_else(|| panic!("{key:?} is none of {:?}", found.keys()));
            let scale = if channel.starts_with("soil_moisture") { 100.0 } else { 1.0 };
            let mean = (10.25 + 0.6 * minute as f64) / scale;
            assert_eq!(stats.count, 6, "{key:?}");
            assert!((stats.mean - mean).abs() < 1e-9, "{key:?}: {} is not {mean}", stats.mean);
        }
    }
    let rain = &found[&("chirpstack-0000000000007079".to_owned(), "rain".to_owned(), 60)];
    assert!(rain.count == 6 && (rain.mean - 0.2).abs() < 1e-9, "a counter's steps: {rain:?}");
    let store = Store::open(&at("data")).unwrap();
    let unmapped = store.unmapped().unwrap();
    let lines: Vec<String> = unmapped.iter().map(|unmapped| unmapped.channel.line()).collect();
    assert!(lines.contains(&"{ name = \"BatV\", channel = \"battery\" },".to_owned()), "it is proposed: {lines:?}");
}
