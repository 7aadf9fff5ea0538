//! Sparkplug B by other people's libraries: edge nodes of pysparkplug and of sparkplug-payload with mqtt.js at a real gateway.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use gateway::spool::{Limits, Spool};
use gateway::store::Store;
use proto::decision::{Cause, Decision};
use proto::{Lane, Record, Stats, Timestamp};
use tempfile::TempDir;
use tests::gateway::{Gateway, until};
use tests::python::python_with;
use tests::{node, project, tilth};

/// A gateway that listens to Sparkplug nodes.
struct Host {
    gateway: Gateway,
    dir: TempDir,
    /// Where nodes connect.
    mqtt: SocketAddr,
    password: String,
    /// The farm's own broker, where the gateway is its client.
    broker: Option<Child>,
}

impl Host {
    /// One that lets a bridge in that speaks for a node.
    fn start(node: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = dir.path().join("credentials.d");
        fs::create_dir(&credentials).unwrap();
        let added = Command::new(tilth())
            .args(["station", "add", node, "--json", "--bridge", &format!("spBv1.0/Farm/+/{node}/#")])
            .args(["--bridge", "spBv1.0/STATE/#", "--credentials-dir"])
            .arg(&credentials)
            .output()
            .unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
        let password = added["password"].as_str().unwrap().to_owned();
        let mut host =
            Self::run(dir, &format!("[door]\nlisten = \"127.0.0.1:0\"\ncredentials_dir = {credentials:?}\n"));
        host.password = password;
        host.mqtt = host.gateway.ready()["mqtt"].as_str().unwrap().parse().unwrap();
        host
    }

    /// One that is a client of a Mosquitto, as the node is: each with a password.
    fn start_at_mosquitto(node: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("passwords"), "").unwrap();
        for name in ["tilth", node] {
            let mut add = Command::new("mosquitto_passwd");
            let added = add.arg("-b").arg(at("passwords")).args([name, &format!("{name}'s")]).status().unwrap();
            assert!(added.success());
        }
        fs::write(at("password"), "tilth's\n").unwrap();
        let mqtt = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let broker = format!(
            "listener {} 127.0.0.1\nallow_anonymous false\npassword_file {}\nuser root\n",
            mqtt.port(),
            at("passwords").display()
        );
        fs::write(at("mosquitto.conf"), broker).unwrap();
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let mut broker = Command::new(program);
        let broker = broker.arg("-c").arg(at("mosquitto.conf")).stderr(Stdio::null()).spawn().unwrap();
        until("Mosquitto listens", || TcpStream::connect(mqtt).ok());
        let config = format!("[broker]\nurl = \"mqtt://tilth@{mqtt}\"\npassword_file = {:?}\n[door]\n", at("password"));
        let mut host = Self::run(dir, &config);
        (host.broker, host.password, host.mqtt) = (Some(broker), format!("{node}'s"), mqtt);
        let _ = host.gateway.ready();
        host
    }

    /// Runs one with these ways to it.
    fn run(dir: TempDir, ways: &str) -> Self {
        let config = format!(
            "{ways}
             [windows]\nlength_s = 60\ncontext_s = 60\nidle_s = 60\nlateness_s = 600\n
             [[source]]\nkind = \"sparkplug\"\nprefix = \"sp-\"\nstations = {{ \"Farm/edge1/probe\" = \"north-1\", \"Farm/edge2\" = \"roof\", \"Farm/edge3/probe\" = \"south-1\", \"Farm/edge3/valve\" = \"pump-1\" }}
             channels = [{{ name = \"Frost\", channel = \"soil_temperature_20cm\" }}]
             [source.valves]\n\"Farm/edge3/valve\" = {{ minutes = \"Irrigation/Minutes\", number = \"Irrigation/Number\" }}
             [[field]]\nname = \"south\"\nstations = [\"south-1\"]\nvalves = [\"pump-1\"]\nauto = true
             root_depth_m = 0.6\ndepletion_fraction = 0.55\nsoil = \"loam\"
             [field.irrigation]\nkind = \"drip\"\napplication_mm_per_h = 6.0\nmax_minutes = 600\n",
        );
        let gateway = Gateway::start(dir.path(), &config);
        let nowhere = (Ipv4Addr::LOCALHOST, 0).into();
        Self { gateway, dir, mqtt: nowhere, password: String::new(), broker: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a node against it to its end.
    fn serve(&self, mut node: Command, name: &str, start: Timestamp) {
        let (host, port) = (self.mqtt.ip().to_string(), self.mqtt.port().to_string());
        let start = (start.as_millis() / 1000).to_string();
        let done = node.args([&*host, &*port, name, &*self.password, "home", &*start]).output().unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success() && said.trim() == "done", "{said}{wrong}");
    }

    /// What was decided, in the order in which it was told.
    fn decisions(&self, now: Timestamp) -> Vec<Decision> {
        let mut spool = Spool::open(&self.at("data")).unwrap();
        let sending = spool.next(Lane::Decisions, Limits::default(), now).unwrap().expect("decisions");
        let decision = |(_, record)| if let Record::Decision(decision) = record { Some(decision) } else { None };
        sending.records.into_iter().filter_map(decision).collect()
    }

    /// By station, channel and seconds from `start`, what the readings of a window came to.
    fn windows(&self, start: Timestamp) -> BTreeMap<(String, String, i64), Stats> {
        let mut spool = Spool::open(&self.at("data")).unwrap();
        let sending = spool.next(Lane::Aggregates, Limits::default(), start).unwrap().expect("windows");
        let mut found = BTreeMap::new();
        for (_, record) in sending.records {
            let Record::Window(window) = record else { continue };
            for aggregate in &window.aggregates {
                let at = window.start.millis_since(start) / 1000;
                let key = (window.station.to_string(), aggregate.channel.to_string(), at);
                found.insert(key, aggregate.accepted.unwrap());
            }
        }
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(broker) = &mut self.broker {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

/// Ten minutes ago, at the start of a window.
fn some_start() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    Timestamp::from_secs(now.cast_signed() - 600).floor_to(60)
}

/// Holds windows to what a straight line of six values in each comes to.
fn expect(found: &BTreeMap<(String, String, i64), Stats>, station: &str, channel: &str, first: f64, step: f64) {
    // Of the five minutes the last one or two wait for what comes after them.
    for minute in 0..3 {
        let key = (station.to_owned(), channel.to_owned(), 60 * minute);
        let stats = found.get(&key).unwrap_or_else(|| panic!("{key:?} is none of {:?}", found.keys()));
        let mean = first + step * (6.0 * minute as f64 + 2.5);
        assert_eq!(stats.count, 6, "{key:?}");
        assert!((stats.mean - mean).abs() < 1e-6, "{key:?}: {} is not {mean}", stats.mean);
    }
}

#[test]
fn a_node_of_pysparkplug_is_served_and_a_killed_gateway_needs_no_birth_to_go_on() {
    let mut host = Host::start("edge1");
    let start = some_start();
    let mut script = Command::new(python_with("sparkplug"));
    script.arg(project().join("tests/python/sparkplug_node.py"));
    host.serve(script, "edge1", start);
    host.gateway.kill_and_start_again();
    host.gateway.end();

    assert_eq!(
        (host.gateway.counter("sparkplug.seq_gaps"), host.gateway.counter("sparkplug.rebirths_requested")),
        (1, 1)
    );
    assert_eq!(
        (host.gateway.counter("sparkplug.node_births"), host.gateway.counter("sparkplug.device_births")),
        (2, 2)
    );
    assert_eq!(host.gateway.counter("readings"), 2 * 31 + 1, "what came around the gap was read as well");
    assert_eq!(host.gateway.counter("rejected.late"), 1, "the one that came an hour late");
    let found = host.windows(start);
    expect(&found, "north-1", "soil_moisture_20cm", 0.25, 1.0 / 64.0);
    expect(&found, "north-1", "soil_temperature_20cm", 0.0, -1.0);
    let unmapped = Store::open(&host.at("data")).unwrap().unmapped().unwrap();
    let [door] = &unmapped[..] else { panic!("{unmapped:?}") };
    assert_eq!((door.channel.name.as_str(), door.channel.proposal), ("Enclosure Door", None));
}

#[test]
fn a_node_of_sparkplug_payload_is_asked_for_its_birth_and_loses_nothing_by_it() {
    let mut host = Host::start("edge2");
    let start = some_start();
    host.serve(node("sparkplug-node.mjs"), "edge2", start);
    until("the node's will", || (host.gateway.counter("sparkplug.node_deaths") == 1).then_some(()));
    host.gateway.end();

    assert_eq!(host.gateway.counter("sparkplug.rebirths_requested"), 1);
    assert_eq!(host.gateway.counter("sparkplug.held_read"), 2, "what came before the birth");
    assert_eq!((host.gateway.counter("sparkplug.historical"), host.gateway.counter("sparkplug.nulls")), (1, 2));
    let found = host.windows(start);
    // 50 °F are 10 °C, and half a degree is 5/18 K. The RSSI of the second step was never sent.
    expect(&found, "roof", "air_temperature_200cm", 10.0, 5.0 / 18.0);
    let rssi = &found[&("roof".to_owned(), "rssi".to_owned(), 60)];
    assert_eq!((rssi.count, rssi.max, rssi.min), (6, -106.0, -111.0));
}

#[test]
fn a_valve_of_a_device_is_commanded_until_it_says_that_it_ran() {
    commanded(Host::start("edge3"));
}

#[test]
fn a_valve_is_commanded_over_a_broker_of_the_farm_that_wants_passwords() {
    commanded(Host::start_at_mosquitto("edge3"));
}

fn commanded(mut host: Host) {
    let start = some_start();
    let mut script = Command::new(python_with("sparkplug"));
    script.arg(project().join("tests/python/sparkplug_valve.py"));
    host.serve(script, "edge3", start);
    host.gateway.kill_and_start_again();
    host.gateway.end();

    let told = host.decisions(start);
    let due: Vec<&Decision> = told.iter().filter(|decision| decision.cause == Cause::Due).collect();
    let [commanded, carried_out] = due[..] else { panic!("told once, and again when it was carried out: {told:?}") };
    assert_eq!((commanded.stations.len(), commanded.run.unwrap().minutes), (1, 475));
    assert_eq!((&commanded.confirmed, &carried_out.confirmed), (&Vec::new(), &commanded.stations));
    assert_eq!(Decision { confirmed: Vec::new(), ..carried_out.clone() }, *commanded);
    assert_eq!(host.gateway.counter("unmapped"), 0, "the valve's metrics are no channels that somebody forgot");
}
