//! Readings in plain JSON: the gateway's real binary, an MQTT client of which every flag is in the test's hand, and the
//! tables that the gateway keeps.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proto::{Aggregate, Channel, Record, Timestamp};
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Login, Packet, Publish};
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Nothing in these tests takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
const WINDOW_S: u32 = 900;

struct Gateway {
    dir: TempDir,
    process: Option<Child>,
    port: u16,
}

impl Gateway {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let digest: String = Sha256::digest("n1").iter().map(|byte| format!("{byte:02x}")).collect();
        let client = format!("[[client]]\nname = \"n1\"\nrole = \"station\"\npassword_sha256 = \"{digest}\"\n");
        fs::write(dir.path().join("credentials.toml"), client).unwrap();
        let mut gateway = Self { dir, process: None, port: 0 };
        gateway.start_again();
        gateway
    }

    /// Starts it, after a kill when it runs.
    fn start_again(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        let _ = fs::remove_file(self.path("ready.json"));
        let config = format!(
            "farm = \"f\"\ngateway = \"g1\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n
             [door]\nlisten = \"127.0.0.1:0\"\ncredentials = {:?}\n",
            self.path("data"),
            self.path("ready.json"),
            self.path("credentials.toml"),
        );
        fs::write(self.path("gateway.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        self.process = Some(command.arg("--config").arg(self.path("gateway.toml")).spawn().unwrap());
        until("the gateway is ready", || self.path("ready.json").exists());
        let ready: BTreeMap<String, String> =
            serde_json::from_str(&fs::read_to_string(self.path("ready.json")).unwrap()).unwrap();
        self.port = ready["mqtt"].rsplit_once(':').unwrap().1.parse().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let store = Connection::open_with_flags(self.path("data/gateway.sqlite"), flags).unwrap();
        store.busy_timeout(PATIENCE).unwrap();
        store
    }

    fn counter(&self, name: &str) -> i64 {
        let count = "SELECT coalesce(sum(value), 0) FROM counter WHERE name = ?1";
        self.store().query_row(count, [name], |row| row.get(0)).unwrap()
    }

    fn raw_commits(&self) -> i64 {
        self.store().query_row("SELECT count(*) FROM raw", [], |row| row.get(0)).unwrap()
    }

    /// The newest of what was kept aside: why, and the payload.
    fn kept_aside(&self) -> (String, Vec<u8>) {
        let newest = "SELECT reason, body FROM quarantine ORDER BY id DESC LIMIT 1";
        self.store().query_row(newest, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    /// The aggregates of every window that has closed.
    fn aggregates(&self) -> BTreeMap<(Timestamp, Channel), Aggregate> {
        let store = self.store();
        let mut statement = store.prepare("SELECT body FROM history").unwrap();
        let bodies = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
        let windows = bodies.map(|body| match Record::decode(&body.unwrap()).unwrap() {
            Record::Window(window) => window,
            other => panic!("{other:?} among the windows"),
        });
        windows.flat_map(|w| w.aggregates.into_iter().map(move |a| ((w.start, a.channel), a))).collect()
    }

    fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The station n1 at the gateway's door.
struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    packet: u16,
}

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream, buffer: BytesMut::new(), packet: 0 };
        let mut connect = Connect::new("n1");
        connect.login = Some(Login::new("n1", "n1"));
        let mut bytes = BytesMut::new();
        connect.write(&mut bytes).unwrap();
        client.stream.write_all(&bytes).unwrap();
        match client.hear() {
            Packet::ConnAck(ack) => assert_eq!(ack.code, ConnectReturnCode::Success),
            other => panic!("{other:?} instead of a CONNACK"),
        }
        client
    }

    fn hear(&mut self) -> Packet {
        loop {
            if let Ok(packet) = Packet::read(&mut self.buffer, 1 << 20) {
                return packet;
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "the connection ended");
            self.buffer.extend_from_slice(&bytes[..read]);
        }
    }

    /// Publishes as a packet of its own, and waits for the PUBACK.
    fn publish(&mut self, payload: &str) {
        self.packet += 1;
        self.publish_as(self.packet, false, payload);
    }

    fn publish_as(&mut self, packet: u16, again: bool, payload: &str) {
        let mut publish = Publish::new("tilth/v1/f/n1/data", QoS::AtLeastOnce, payload.as_bytes());
        (publish.pkid, publish.dup) = (packet, again);
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
        match self.hear() {
            Packet::PubAck(ack) => assert_eq!(ack.pkid, packet),
            other => panic!("{other:?} instead of a PUBACK"),
        }
    }
}

/// The start of a window that is over, as the wall clock has it.
fn some_window() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now()).floor_to(WINDOW_S).plus_secs(-2 * 3600)
}

fn moisture() -> Channel {
    "soil_moisture_20cm".parse().unwrap()
}

#[test]
fn a_reading_is_on_disk_before_its_puback_and_in_its_window_once_however_often_it_comes() {
    let mut gateway = Gateway::start();
    let start = some_window();
    let object = |minute: i64, value: f64| {
        format!(
            r#"{{"time":"{}","soil_moisture_20cm":{value},"air_temperature_200cm":18.5}}"#,
            start.plus_secs(minute * 60)
        )
    };
    let mut client = gateway.client();
    client.publish(&object(2, 0.231));
    assert_eq!((gateway.raw_commits(), gateway.counter("readings")), (1, 2), "the PUBACK came after the commit");
    client.publish(&format!("[{},{}]", object(5, 0.229), object(8, 0.235)));
    // What closes the window.
    client.publish(&object(40, 0.23));
    let expected = |aggregates: &BTreeMap<(Timestamp, Channel), Aggregate>| {
        aggregates.get(&(start, moisture())).is_some_and(|aggregate| {
            let stats = aggregate.accepted.as_ref().unwrap();
            (stats.count, stats.min, stats.max) == (3, 0.229, 0.235) && aggregate.rejected.is_none()
        })
    };
    until("the window closes", || expected(&gateway.aggregates()));
    let before = gateway.aggregates();
    let readings = gateway.counter("readings");

    // The very payload again, its parts in another arrangement, and all of it after a kill.
    client.publish(&object(2, 0.231));
    assert_eq!(gateway.counter("duplicate_batches"), 1);
    assert_eq!(gateway.counter("readings"), readings, "a payload that is known again is not counted again");
    client.publish(&format!("[{},{}]", object(8, 0.235), object(2, 0.231)));
    gateway.start_again();
    let mut client = gateway.client();
    client.publish(&object(2, 0.231));
    client.publish(&format!("[{},{},{}]", object(40, 0.23), object(5, 0.229), object(2, 0.231)));
    assert_eq!(gateway.counter("duplicate_batches"), 2, "also known after the restart");
    // Another value in the same window shows that all before it has been dealt with.
    client.publish(&object(11, 0.233));
    until("the window is amended", || {
        gateway.aggregates().get(&(start, moisture())).is_some_and(|a| a.accepted.as_ref().unwrap().count == 4)
    });
    let after = gateway.aggregates();
    assert!(after[&(start, moisture())].rejected.is_none(), "nothing was taken for a second reading of its time");
    let later = |aggregates: &BTreeMap<(Timestamp, Channel), Aggregate>| {
        aggregates.keys().filter(|(window, _)| *window != start).count()
    };
    assert_eq!(later(&before), later(&after), "no other window came or went");
}

#[test]
fn of_two_values_of_one_time_the_same_one_counts_whichever_came_first() {
    let start = some_window();
    let object = |minute: i64, value: f64| {
        format!(r#"{{"time":"{}","soil_moisture_20cm":{value}}}"#, start.plus_secs(minute * 60))
    };
    let mut seen = Vec::new();
    for order in [[0.21, 0.22], [0.22, 0.21]] {
        let gateway = Gateway::start();
        let mut client = gateway.client();
        order.iter().for_each(|value| client.publish(&object(3, *value)));
        client.publish(&object(40, 0.215));
        until("the window closes", || gateway.aggregates().contains_key(&(start, moisture())));
        seen.push(gateway.aggregates().remove(&(start, moisture())).unwrap());
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].rejected.as_ref().unwrap().counts.len(), 1, "the other is a duplicate: {:?}", seen[0]);
}

#[test]
fn a_reading_without_a_time_is_of_now_and_is_known_again_by_mqtts_dup_flag() {
    let mut gateway = Gateway::start();
    let mut client = gateway.client();
    let reading = r#"{"soil_moisture_20cm":0.231}"#;
    client.publish_as(7, false, reading);
    assert_eq!(gateway.counter("readings"), 1);
    // The PUBACK was lost: the client connects and sends it again, before and after the gateway is killed.
    gateway.client().publish_as(7, true, reading);
    gateway.start_again();
    let mut client = gateway.client();
    client.publish_as(7, true, reading);
    assert_eq!((gateway.counter("readings"), gateway.counter("duplicate_batches")), (1, 2));
    // The same value a moment later is another reading, and so is one that never came, even though it is flagged.
    client.publish_as(8, false, reading);
    client.publish_as(9, true, reading);
    assert_eq!((gateway.counter("readings"), gateway.counter("duplicate_batches")), (3, 2));
    assert_eq!(gateway.counter("rejected.future") + gateway.counter("rejected.late"), 0);
}

#[test]
fn bad_json_is_acknowledged_counted_by_reason_kept_aside_and_costs_nothing_else() {
    let gateway = Gateway::start();
    let mut client = gateway.client();
    let time = some_window();
    let deep = format!("{{\"rain\":{}", "[".repeat(200_000));
    let wide: Vec<String> = (0..300).map(|cm| format!("\"soil_moisture_{cm}cm\":1")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    let many = format!("[{}]", vec!["[]"; 50_000].join(","));
    let keys = format!("{{{}\"rain\":1}}", "\"a\":1,".repeat(40_000));
    let cases: &[(&str, &str, &str)] = &[
        ("{", "malformed_json", "EOF while parsing"),
        ("{\"rain\":NaN}", "malformed_json", "not JSON"),
        ("{\"rain\":1e999}", "malformed_json", "number out of range"),
        ("{\"rain\":0x1}", "malformed_json", "not JSON"),
        ("{\"rain\":1}{\"rain\":2}", "malformed_json", "trailing characters"),
        ("{\"rain\":\"\u{1}\"}", "malformed_json", "control character"),
        (&deep, "malformed_json", "recursion limit exceeded"),
        (&wide, "too_many_json", "300 channels, at most 256"),
        (&many, "empty_json", "expected an object, found an array"),
        (&keys, "repeated_json", "\"a\" is there more than once"),
        ("{}", "empty_json", "no channel is named"),
        ("[]", "empty_json", "no channel is named"),
        ("{\"rain\":1,\"rain\":2}", "empty_json", "\"rain\" is there more than once"),
        ("{\"rain\":0.1,\"mud_20cm\":1}", "unknown_channel_json", "unknown quantity \"mud\""),
        ("{\"rain\":0.2,\"soil_moisture_99999cm\":1}", "unknown_channel_json", "level must be"),
        ("{\"rain\":0.3,\"wind_speed_200cm\":\"3\"}", "value_json", "expected a number, found \"3\""),
        ("{\"rain\":0.4,\"wind_speed_200cm\":true}", "value_json", "expected a number, found true"),
        ("[{\"rain\":0.5},{\"time\":\"noon\",\"rain\":1}]", "time_json", "\"noon\" is not RFC 3339"),
        ("[{\"rain\":0.6},{\"time\":1780297200,\"rain\":1}]", "time_json", "found 1780297200"),
        ("[{\"rain\":0.7},null]", "value_json", "expected an object, found null"),
    ];
    for (payload, counter, said) in cases {
        let name = format!("refused.{counter}");
        let (before, shown) = (gateway.counter(&name), payload.chars().take(60).collect::<String>());
        client.publish(payload);
        assert!(gateway.counter(&name) > before, "{shown} is not counted as {counter}");
        let (reason, body) = gateway.kept_aside();
        assert!(reason.contains(said), "{shown}: {reason:?} does not say {said:?}");
        assert_eq!(body, payload.as_bytes(), "{shown} is kept as it came");
    }
    // What stood beside the refused keys was taken, and the next one is as good as the first.
    assert_eq!(gateway.counter("readings"), 8);
    client.publish(&format!(r#"{{"time":"{time}","rain":0.2}}"#));
    assert_eq!(gateway.counter("readings"), 9);
}
