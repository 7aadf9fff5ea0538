//! A store with records in it, an uplink that runs, and a cloud that is good or bad.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::config::CloudConfig;
use gateway::spool::Spool;
use gateway::store::{Group, Store};
use gateway::uplink::{Uplink, UplinkConfig};
use proto::{GatewayStatus, Lane, Record, TimeScale, Timestamp, Untimely, UplinkBatch, UplinkStatus, Window};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::records;

/// Nothing in these tests takes as long on any machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// What the cloud does with a request.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Mood {
    /// What it should; it refuses what is in `poison`.
    #[default]
    Well,
    /// It sends a good answer, a byte a second.
    Slow,
    /// It reads, and never answers.
    Silent,
    /// 500.
    Broken,
    /// 200, and words.
    Nonsense,
    /// 200, and a sequence that nobody asked for.
    WrongSequence,
    /// 307 to another place.
    Elsewhere,
    /// Half of an answer.
    Truncated,
    /// It closes a connection that it accepted.
    Closes,
    /// 200, and an answer without an end.
    Endless,
}

#[derive(Default)]
pub struct Cloud {
    pub mood: Mood,
    /// Marks of records that it refuses for good.
    pub poison: Vec<i64>,
    /// How far it has the lanes of each store.
    pub sequence: BTreeMap<(u64, Lane), u64>,
    /// What it stored, in order, with the lane.
    pub records: Vec<(Lane, Record)>,
    /// Requests of batches that it heard to their end, whatever it did with them.
    pub requests: u32,
    pub refusals: u32,
    pub gaps: u32,
    pub connections: u32,
    /// Bytes that came and went, as the sockets count them.
    pub bytes: u64,
    pub reports: Vec<GatewayStatus>,
}

pub type SharedCloud = Arc<Mutex<Cloud>>;

/// A cloud, and where it listens.
pub async fn cloud() -> (SharedCloud, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cloud = SharedCloud::default();
    let shared = Arc::clone(&cloud);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            shared.lock().unwrap().connections += 1;
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    (cloud, address)
}

/// Serves a connection until it ends.
async fn serve(mut stream: TcpStream, cloud: SharedCloud) {
    let mut bytes = Vec::new();
    while let Some((path, body)) = request(&mut stream, &mut bytes, &cloud).await {
        let mood = cloud.lock().unwrap().mood;
        let is_batch = path == "/api/v1/uplink";
        cloud.lock().unwrap().requests += u32::from(is_batch);
        let answer = match mood {
            Mood::Well | Mood::Slow if is_batch => take(&cloud, &body),
            Mood::Well | Mood::Slow => {
                cloud.lock().unwrap().reports.push(serde_json::from_slice(&body).unwrap());
                text("204 No Content", "application/json", "")
            }
            Mood::Silent => {
                while cloud.lock().unwrap().mood == Mood::Silent {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                return;
            }
            Mood::Broken => text("500 Internal Server Error", "text/plain", "it broke"),
            Mood::Nonsense => text("200 OK", "text/html", "<html>Welcome to our hotel's network</html>"),
            Mood::WrongSequence => text("200 OK", "application/json", r#"{"sequence":1000000}"#),
            Mood::Elsewhere => {
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/steal\r\ncontent-length: 0\r\n\r\n"
                    .to_owned()
            }
            Mood::Truncated => "HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{\"sequ".to_owned(),
            Mood::Closes => return,
            Mood::Endless => "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_owned(),
        };
        cloud.lock().unwrap().bytes += answer.len() as u64;
        match mood {
            Mood::Slow => {
                for byte in answer.as_bytes() {
                    if cloud.lock().unwrap().mood == Mood::Slow {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
            }
            Mood::Endless => {
                let filling = vec![b' '; 1 << 16];
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                while stream.write_all(&filling).await.is_ok() {}
                return;
            }
            _ => {
                let sent = stream.write_all(answer.as_bytes()).await;
                if sent.is_err() || mood == Mood::Truncated {
                    return;
                }
            }
        }
    }
}

fn text(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Path and body of the next request; none when the connection ends.
async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>, cloud: &SharedCloud) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
            if bytes.len() >= whole {
                let body = bytes[end + 4..whole].to_vec();
                bytes.drain(..whole);
                return Some((head.split(' ').nth(1).unwrap().to_owned(), body));
            }
        }
        let mut part = [0; 16_384];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        cloud.lock().unwrap().bytes += read as u64;
        bytes.extend_from_slice(&part[..read]);
    }
}

/// Stores a batch as the cloud does.
fn take(cloud: &SharedCloud, body: &[u8]) -> String {
    let batch = UplinkBatch::decode(&zstd::decode_all(body).unwrap()).unwrap();
    let mut cloud = cloud.lock().unwrap();
    if batch.records.iter().any(|record| cloud.poison.contains(&mark(record))) {
        cloud.refusals += 1;
        return text("422 Unprocessable Content", "application/problem+json", r#"{"title":"no such record"}"#);
    }
    let stored = cloud.sequence.get(&(batch.store, batch.lane)).copied().unwrap_or(0);
    if batch.last() > stored {
        if batch.first != stored + 1 {
            cloud.gaps += 1;
            let expected = format!(r#"{{"expected":{}}}"#, stored + 1);
            return text("409 Conflict", "application/problem+json", &expected);
        }
        cloud.sequence.insert((batch.store, batch.lane), batch.last());
        let lane = batch.lane;
        cloud.records.extend(batch.records.into_iter().map(|record| (lane, record)));
    }
    let stored = cloud.sequence[&(batch.store, batch.lane)];
    text("200 OK", "application/json", &format!(r#"{{"sequence":{stored}}}"#))
}

/// The number that a record of these tests is known by.
pub fn mark(record: &Record) -> i64 {
    match record {
        Record::Window(window) => window.start.as_millis() / 900_000,
        Record::Alert(alert) => alert.opened.as_millis() / 900_000,
        Record::Birth(birth) => birth.at.as_millis() / 900_000,
        Record::Decision(decision) => decision.at.as_millis() / 900_000,
        Record::Raw(raw) => raw.readings[0].time.as_millis() / 900_000,
    }
}

/// The window with this number.
pub fn window(station: &str, number: i64) -> Record {
    let start = Timestamp::from_secs(900 * number);
    let channel = "soil_moisture_20cm".parse().unwrap();
    let value = 0.2 + (number % 97) as f64 / 1_000.0;
    let stats = proto::Stats { count: 3, min: value, mean: value + 0.001, max: value + 0.002, stddev: 0.001 };
    let aggregates = vec![proto::Aggregate { channel, accepted: Some(stats), rejected: None }];
    Record::Window(Window { station: station.parse().unwrap(), start, length_s: 900, revision: 0, aggregates })
}

fn at(number: i64) -> Timestamp {
    Timestamp::from_secs(900 * number)
}

pub fn alert(number: i64) -> Record {
    Record::Alert(records::alert(number, at(number)))
}

pub fn birth(number: i64) -> Record {
    Record::Birth(records::birth("n1", at(number)))
}

pub fn decision(number: i64) -> Record {
    Record::Decision(records::decision("north", at(number)))
}

/// Puts records into the spool as if they were made then.
pub fn spool(store: &mut Store, at: Timestamp, records: Vec<Record>) {
    store.commit(&Group { records, ..Group::default() }, 1, at).unwrap();
}

pub fn now() -> Timestamp {
    Timestamp::from_millis(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
    )
}

/// An uplink that runs.
pub struct Running {
    pub told: watch::Receiver<UplinkStatus>,
    pub link_bytes: Arc<gateway::uplink::UplinkMetrics>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub fn start(dir: &Path, url: &str, config: UplinkConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let names = ("f".parse().unwrap(), "g1".parse().unwrap());
        let cloud = CloudConfig { url: url.to_owned(), token: "token".to_owned() };
        let (_, status) = watch::channel(status());
        let uplink = Uplink::new(names, cloud, config, TimeScale::default(), dir.to_owned(), status).unwrap();
        let (told, link_bytes, stop) = (uplink.told(), uplink.metrics(), CancellationToken::new());
        let task = tokio::spawn(uplink.run(stop.clone()));
        Self { told, link_bytes, stop, task }
    }

    /// What it last said went wrong.
    pub fn error(&self) -> String {
        self.told.borrow().link.as_ref().unwrap().last_error.clone().unwrap_or_default()
    }

    pub fn is_up(&self) -> bool {
        self.told.borrow().link.as_ref().unwrap().up
    }

    /// Asks it to end, and waits.
    pub async fn end(self) {
        self.stop.cancel();
        within("the uplink ends", self.task).await.unwrap().unwrap();
    }
}

fn status() -> GatewayStatus {
    let text = r#"{"at":"2026-01-01T00:00:00Z","started":"2026-01-01T00:00:00Z","version":"0","models":[],"stations":24,
        "connected":24,"backlog":{},"backlog_oldest":null,"disk_bytes":0,"readings":0,"rejected":{}}"#;
    let mut status: GatewayStatus = serde_json::from_str(text).unwrap();
    status.untimely = (0..25).map(|n| (format!("n{n}").parse().unwrap(), untimely(n))).collect();
    status
}

/// What a station's readings were rejected for.
pub fn untimely(number: u64) -> Untimely {
    Untimely { late: number + 1, future: 0, clock: number }
}

/// A directory with a store.
pub fn place() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Records that wait.
pub fn waiting(dir: &Path) -> u64 {
    Spool::open(dir).unwrap().backlog().unwrap().iter().map(|(_, backlog)| backlog.records).sum()
}

/// How often the cloud has each record.
pub fn counts(cloud: &SharedCloud) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for (_, record) in &cloud.lock().unwrap().records {
        let name = match record {
            Record::Window(window) => format!("window {} {}", window.station, mark(record)),
            Record::Alert(_) => format!("alert {}", mark(record)),
            Record::Birth(_) => format!("birth {}", mark(record)),
            Record::Decision(_) => format!("decision {}", mark(record)),
            Record::Raw(raw) => format!("raw {} {}", raw.station, mark(record)),
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}
