//! A disk that is really full: the gateway's data lies on a small file system of its own, which another program fills, or
//! the gateway itself. What is acknowledged is on disk, the page answers, alerts come, and it heals by itself.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway::store::{Cursor, RawMessage, Store};
use proto::{Batch, Birth, Channel, Lane, Quantity, Reading, Record, StationId, Timestamp, Window};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Nothing in these tests takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a gateway on a full disk may take to end.
const ENDS: Duration = Duration::from_secs(20);
const RESERVE: u64 = 8 << 20;
const FAILED: &str = r#"tilth_gateway_events_total{event="failed_commits"}"#;
const CROWDED_OUT: &str = r#"tilth_gateway_events_total{event="raw_commits_crowded_out"}"#;

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How a process gets a file system of its own here: as root, else as an ordinary user. Where neither may mount, in some containers,
/// no disk can be filled, and that is said.
fn own_mounts() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let mut why = Vec::new();
    for way in ways {
        let mut command = Command::new("unshare");
        command.args(way).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
        match command.output() {
            Ok(done) if done.status.success() => return Some(way),
            Ok(done) => why.push(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
            Err(error) => why.push(error.to_string()),
        }
    }
    // Past what the tests' harness keeps to itself of a test that succeeds.
    let mut past = std::io::stderr();
    writeln!(
        past,
        "skipped: nobody may mount here ({}); tests/pipeline.rs has, everywhere, a disk that takes no larger files",
        why.join("; ")
    )
    .unwrap();
    None
}

/// A disk of its own for a gateway, which stays when the gateway is killed.
struct Disk {
    /// Goes with it.
    dir: TempDir,
    /// Holds the mounts, until its standard input ends.
    holder: Child,
    as_user: bool,
    /// The directory of the data, which is mounted for those in the holder's namespace alone.
    data: File,
}

impl Disk {
    fn new(way: &[&str], mebibytes: u32) -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut credentials = String::new();
        for name in ["n1", "n2"] {
            let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
            credentials += &format!("[[client]]\nname = {name:?}\nrole = \"station\"\npassword_sha256 = {digest:?}\n");
        }
        fs::write(at("credentials.toml"), credentials).unwrap();
        let config = format!(
            "farm = \"f\"\ngateway = \"g\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n\
             [door]\nlisten = \"127.0.0.1:0\"\ncredentials = {:?}\n[rules]\nsilent_reports = 1\nsilent_min_s = 1\n",
            at("data"),
            at("ready"),
            at("credentials.toml")
        );
        fs::write(at("gateway.toml"), config).unwrap();
        fs::create_dir(at("data")).unwrap();
        let mount = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$1\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(way)
            .args(["sh", "-c", &mount, "sh", &at("data")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 8];
        holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        assert_eq!(&said, b"mounted\n");
        let data = File::open(format!("/proc/{}/root{}", holder.id(), at("data"))).unwrap();
        Self { holder, as_user: way.contains(&"--user"), data, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file on its disk.
    fn file(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.data.as_raw_fd()).into()
    }

    fn has_reserve(&self) -> bool {
        fs::metadata(self.file("reserve")).is_ok_and(|file| file.len() == RESERVE)
    }

    /// Fills what is left of the disk.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.file("filler")).unwrap();
        loop {
            match file.write(&[1; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A gateway's process that sees the disk.
    fn gateway(&self) -> Process {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string()]);
        if self.as_user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(env!("CARGO_BIN_EXE_gateway")).arg("--config").arg(self.path("gateway.toml"));
        Process(command.env("RUST_LOG", "off").stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway whose data lies on a disk of so many MiB.
struct Gateway {
    process: Process,
    mqtt: u16,
    status: String,
    disk: Disk,
}

impl Gateway {
    async fn start(way: &[&str], mebibytes: u32) -> Self {
        Self::start_on(Disk::new(way, mebibytes)).await
    }

    async fn start_on(disk: Disk) -> Self {
        let ready = disk.path("ready");
        let _ = fs::remove_file(&ready);
        let mut process = disk.gateway();
        until("the gateway is ready", || {
            assert!(process.0.try_wait().unwrap().is_none(), "the gateway ended");
            ready.exists()
        })
        .await;
        let ready: BTreeMap<String, String> = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        let mqtt = ready["mqtt"].rsplit_once(':').unwrap().1.parse().unwrap();
        Self { process, mqtt, status: ready["status"].clone(), disk }
    }

    /// `kill -9`; gives the disk that it leaves.
    fn kill(self) -> Disk {
        drop(self.process);
        self.disk
    }

    async fn get(&self, path: &str) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::get(format!("http://{}{path}", self.status)).await.unwrap().text().await.unwrap()
    }

    /// Waits until a page holds this.
    async fn shows(&self, path: &str, part: &str) {
        let begun = Instant::now();
        loop {
            let page = self.get(path).await;
            if page.contains(part) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} does not show {part:?}:\n{page}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a counter shows; 0 when it is not there.
    async fn counter(&self, name: &str) -> u64 {
        let page = self.get("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Asks it to end, and waits until it has; gives how it ended, and a copy of its store.
    async fn stop(mut self) -> (ExitStatus, TempDir) {
        assert!(Command::new("kill").arg("-TERM").arg(self.process.0.id().to_string()).status().unwrap().success());
        let asked = Instant::now();
        until("the gateway has ended", || self.process.0.try_wait().unwrap().is_some()).await;
        assert!(asked.elapsed() < ENDS, "it took {:?} to end", asked.elapsed());
        let copy = TempDir::new().unwrap();
        for name in ["gateway.sqlite", "gateway.sqlite-wal"] {
            let _ = fs::copy(self.disk.file(name), copy.path().join(name));
        }
        (self.process.0.wait().unwrap(), copy)
    }
}

/// A station that is connected, and counts its PUBACKs, which come in the order of its publishes.
struct Station {
    name: &'static str,
    client: AsyncClient,
    acknowledged: Arc<AtomicU64>,
}

impl Station {
    fn connect(gateway: &Gateway, name: &'static str) -> Self {
        let mut options = MqttOptions::new(name, "127.0.0.1", gateway.mqtt);
        options
            .set_credentials(name, name)
            .set_keep_alive(Duration::from_secs(300))
            .set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::new(options, 64);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let count = acknowledged.clone();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Incoming::PubAck(_)) = event {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { name, client, acknowledged }
    }

    async fn hand_in(&self, kind: &str, payload: Vec<u8>) {
        let topic = format!("tilth/v1/f/{}/{kind}", self.name);
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    async fn announce(&self, report_s: u32) {
        let birth = Birth {
            boot: 1,
            firmware: "1.0".to_owned(),
            interval_s: 300,
            report_s,
            channels: Vec::new(),
            field: None,
            latitude: None,
            longitude: None,
        };
        self.hand_in("birth", birth.encode()).await;
    }

    async fn send(&self, batch: &Batch) {
        self.hand_in("data", batch.encode().unwrap()).await;
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    async fn has(&self, acknowledged: u64) {
        until("what was published is acknowledged", || self.acknowledged() >= acknowledged).await;
        assert_eq!(self.acknowledged(), acknowledged);
    }
}

/// The start of a quarter of an hour, two days ago.
fn beginning() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now()).plus_secs(-2 * 86_400).floor_to(900)
}

/// A quarter of an hour of readings.
fn batch(start: Timestamp, sequence: u64) -> Batch {
    let reading = |i: i64| {
        let n = (sequence.cast_signed() - 1) * 3 + i;
        let value = Quantity::SoilTemperature.quantise(14.0 + 0.1 * (n % 7) as f64);
        Reading { channel: Channel::at(Quantity::SoilTemperature, 20), time: start.plus_secs(n * 300), value }
    };
    Batch { boot: 1, sequence, readings: (0..3).map(reading).collect() }
}

/// The number of a batch.
fn sequence(message: &RawMessage) -> u64 {
    Batch::decode(&message.payload).unwrap().sequence
}

/// The numbers of a station's messages in the raw store, each once.
fn stored(data: &TempDir, station: &str, number: impl Fn(&RawMessage) -> u64) -> BTreeSet<u64> {
    let mut store = Store::open(data.path()).unwrap();
    let mut seen = BTreeSet::new();
    let mut cursor = Cursor { commit: 0, messages: u32::MAX };
    while let Some((commit, messages)) = store.commit_after(cursor).unwrap() {
        for message in messages.iter().filter(|message| message.kind == 1 && message.station == station) {
            let number = number(message);
            assert!(seen.insert(number), "{station} has message {number} twice");
        }
        cursor = Cursor { commit, messages: u32::MAX };
    }
    seen
}

/// Each window's last revision in the spool.
fn windows(data: &TempDir) -> BTreeMap<(StationId, Timestamp), Window> {
    let store = rusqlite::Connection::open(data.path().join("gateway.sqlite")).unwrap();
    let mut statement = store.prepare("SELECT body FROM spool WHERE lane = ?1 ORDER BY id").unwrap();
    let bodies = statement.query_map([Lane::Aggregates as i64], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let mut windows = BTreeMap::new();
    for body in bodies {
        let Record::Window(window) = Record::decode(&body.unwrap()).unwrap() else { panic!("no window") };
        windows.insert((window.station.clone(), window.start), window);
    }
    windows
}

/// Fills the disk under a gateway that has `n2`'s first ten batches, so that it holds a group that has no room.
async fn fill_under(gateway: &Gateway, start: Timestamp) -> (Station, Station) {
    let (first, second) = (Station::connect(gateway, "n1"), Station::connect(gateway, "n2"));
    first.announce(900).await;
    second.announce(900).await;
    for sequence in 1..=10 {
        second.send(&batch(start, sequence)).await;
    }
    first.has(1).await;
    second.has(11).await;
    assert!(gateway.disk.has_reserve());
    gateway.disk.fill();
    // It says now that it reports each second; and that is the last that is heard of it.
    first.announce(1).await;
    // What was set aside is given up, and taken by somebody else.
    until("the reserve is given up", || !gateway.disk.has_reserve()).await;
    gateway.disk.fill();
    let failed = gateway.counter(FAILED).await;
    let begun = Instant::now();
    while gateway.counter(FAILED).await < failed + 3 {
        assert!(begun.elapsed() < PATIENCE, "the disk is not full");
        gateway.disk.fill();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_acknowledged_and_all_of_it_when_there_is_room_again() {
    let Some(way) = own_mounts() else { return };
    let start = beginning();
    let mut said = Vec::new();
    for full in [false, true] {
        let gateway = Gateway::start(way, 64).await;
        let (first, second) = if full {
            let (first, second) = fill_under(&gateway, start).await;
            for sequence in 11..=20 {
                second.send(&batch(start, sequence)).await;
            }
            gateway.shows("/", "Open alerts · 1").await;
            gateway.shows("/", "Station n1 silent").await;
            assert_eq!(gateway.get("/healthz").await, "ok");
            let failed = gateway.counter(FAILED).await;
            let begun = Instant::now();
            while gateway.counter(FAILED).await < failed + 2 {
                assert!(begun.elapsed() < PATIENCE, "the disk is not tried again");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!((first.acknowledged(), second.acknowledged()), (1, 11), "nothing of it is on disk");
            fs::remove_file(gateway.disk.file("filler")).unwrap();
            (first, second)
        } else {
            let (first, second) = (Station::connect(&gateway, "n1"), Station::connect(&gateway, "n2"));
            first.announce(900).await;
            second.announce(900).await;
            first.announce(1).await;
            for sequence in 1..=20 {
                second.send(&batch(start, sequence)).await;
            }
            (first, second)
        };
        first.has(2).await;
        second.has(21).await;
        for sequence in 21..=30 {
            second.send(&batch(start, sequence)).await;
        }
        second.has(31).await;
        until("room is set aside again", || gateway.disk.has_reserve()).await;
        let (status, data) = gateway.stop().await;
        assert!(status.success(), "{status}");
        assert_eq!(stored(&data, "n2", sequence), (1..=30).collect());
        said.push(windows(&data));
    }
    assert!(said[0].len() > 25, "{} windows", said[0].len());
    assert_eq!(said[0], said[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_gateway_ends_well_and_has_what_it_acknowledged() {
    let Some(way) = own_mounts() else { return };
    let start = beginning();
    let gateway = Gateway::start(way, 24).await;
    let (_first, second) = fill_under(&gateway, start).await;
    for sequence in 11..=20 {
        second.send(&batch(start, sequence)).await;
    }
    let (status, data) = gateway.stop().await;
    assert!(status.success(), "{status}");
    assert_eq!(second.acknowledged(), 11);
    assert_eq!(stored(&data, "n2", sequence), (1..=10).collect());
}

/// A reading a quarter of an hour that takes 0.1 MB on disk: nothing makes its digits fewer.
fn heavy(start: Timestamp, number: u64) -> Vec<u8> {
    let mut digits = String::new();
    let mut state = number + 1;
    while digits.len() < 240_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        digits += &format!("{:09}", (state >> 33) % 1_000_000_000);
    }
    let time = start.plus_secs(900 * number.cast_signed());
    format!(r#"{{"time": "{time}", "soil_temperature_20cm": 14.1{digits}}}"#).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_the_gateways_own_readings_fill_goes_on_without_the_oldest() {
    const MESSAGES: u64 = 400;
    let Some(way) = own_mounts() else { return };
    let start = beginning().plus_secs(-5 * 86_400);
    let mut gateway = Gateway::start(way, 16).await;
    let mut station = Station::connect(&gateway, "n1");
    let mut before = 0;
    for number in 1..=MESSAGES {
        station.hand_in("data", heavy(start, number)).await;
        if number % 4 == 0 {
            station.has(number - before).await;
        }
        // Killed on the full disk, of which another program takes what is left, it starts and goes on without the oldest.
        if number % 120 == 0 {
            let disk = gateway.kill();
            disk.fill();
            gateway = Gateway::start_on(disk).await;
            station = Station::connect(&gateway, "n1");
            before = number;
        }
    }
    let gone = gateway.counter(CROWDED_OUT).await;
    let (status, data) = gateway.stop().await;
    assert!(status.success(), "{status}");
    let number = |message: &RawMessage| {
        let reading: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        let time: jiff::Timestamp = reading["time"].as_str().unwrap().parse().unwrap();
        (Timestamp::from_jiff(time).millis_since(start) / 900_000).cast_unsigned()
    };
    let kept = stored(&data, "n1", number);
    let oldest = *kept.first().unwrap();
    assert_eq!(kept, (oldest..=MESSAGES).collect(), "the oldest went, and no other");
    assert!(gone > 10 && kept.len() > 10, "{gone} commits went, {} messages are kept", kept.len());
    let windows = windows(&data).len() as u64;
    assert!(windows >= MESSAGES - 4, "{windows} windows: those of what went are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_a_full_disk_a_gateway_starts_thinks_and_heals() {
    let Some(way) = own_mounts() else { return };
    let start = beginning();
    let mut said = Vec::new();
    // Never killed; killed when there was still something set aside; and when that was taken, too.
    for (killed, taken) in [(false, false), (true, false), (true, true)] {
        let mut gateway = Gateway::start(way, 64).await;
        let (mut first, mut second) = if taken {
            fill_under(&gateway, start).await
        } else {
            let (first, second) = (Station::connect(&gateway, "n1"), Station::connect(&gateway, "n2"));
            first.announce(900).await;
            second.announce(900).await;
            for sequence in 1..=10 {
                second.send(&batch(start, sequence)).await;
            }
            first.has(1).await;
            second.has(11).await;
            (first, second)
        };
        if killed {
            gateway.disk.fill();
            let disk = gateway.kill();
            disk.fill();
            gateway = Gateway::start_on(disk).await;
            (first, second) = (Station::connect(&gateway, "n1"), Station::connect(&gateway, "n2"));
            first.announce(1).await;
            second.announce(900).await;
        }
        for sequence in 11..=20 {
            second.send(&batch(start, sequence)).await;
        }
        if killed {
            gateway.shows("/", "Station n1 silent").await;
            assert_eq!(gateway.get("/healthz").await, "ok");
            fs::remove_file(gateway.disk.file("filler")).unwrap();
            first.has(1).await;
            second.has(11).await;
        } else {
            second.has(21).await;
        }
        for sequence in 21..=30 {
            second.send(&batch(start, sequence)).await;
        }
        until("all is acknowledged", || second.acknowledged() >= 21 + u64::from(!killed) * 10).await;
        until("room is set aside again", || gateway.disk.has_reserve()).await;
        let (status, data) = gateway.stop().await;
        assert!(status.success(), "{status}");
        assert_eq!(stored(&data, "n2", sequence), (1..=30).collect());
        said.push(windows(&data));
    }
    assert!(said[0].len() > 25, "{} windows", said[0].len());
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0], said[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_on_a_full_disk_is_made_anew_in_the_room_that_was_set_aside() {
    let Some(way) = own_mounts() else { return };
    let start = beginning();
    let gateway = Gateway::start(way, 24).await;
    let second = Station::connect(&gateway, "n2");
    second.announce(900).await;
    for sequence in 1..=10 {
        second.send(&batch(start, sequence)).await;
    }
    second.has(11).await;
    let disk = gateway.kill();
    // A page of the file, into which SQLite has brought its log, is overwritten.
    let copy = TempDir::new().unwrap();
    for name in ["gateway.sqlite", "gateway.sqlite-wal"] {
        fs::copy(disk.file(name), copy.path().join(name)).unwrap();
    }
    drop(Store::open(copy.path()).unwrap());
    let mut bytes = fs::read(copy.path().join("gateway.sqlite")).unwrap();
    let store = rusqlite::Connection::open(copy.path().join("gateway.sqlite")).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'counter'";
    let page = store.query_row(root, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
    bytes[(page - 1) * 4096..page * 4096].fill(0xa5);
    fs::remove_file(disk.file("gateway.sqlite-wal")).unwrap();
    fs::write(disk.file("gateway.sqlite"), bytes).unwrap();
    disk.fill();
    let gateway = Gateway::start_on(disk).await;
    gateway.shows("/metrics", r#"tilth_gateway_refused_messages_total{reason="damaged_store"} 1"#).await;
    fs::remove_file(gateway.disk.file("filler")).unwrap();
    let second = Station::connect(&gateway, "n2");
    second.send(&batch(start, 11)).await;
    second.has(1).await;
    let (status, data) = gateway.stop().await;
    assert!(status.success(), "{status}");
    assert_eq!(stored(&data, "n2", sequence), (1..=11).collect());
}
