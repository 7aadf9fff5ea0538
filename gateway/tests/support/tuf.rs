//! A registry to be lied with: a TUF repository made with `tough`, signed by whomever the test says, and a real HTTP server
//! that serves it with whatever fault the test says.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, stream};
use proto::Manifest;
use proto::assignment::{manifest_target, model_target};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tough::editor::signed::SignedRole;
use tough::key_source::KeySource;
use tough::schema::{
    Hashes, KeyHolder, Metafile, Role, RoleKeys, RoleType, Root, Snapshot, Target, Targets, Timestamp,
};
use tough::sign::{Sign, parse_keypair};
use tough::{TargetName, async_trait};

/// The token that the server wants to see.
pub const TOKEN: &str = "a-gateways-token";

/// An ed25519 key.
#[derive(Debug, Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// A new one.
    pub fn new() -> Self {
        Self(rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_der())
    }

    fn public(&self) -> tough::schema::key::Key {
        parse_keypair(&self.0).unwrap().tuf_key()
    }
}

#[async_trait]
impl KeySource for Key {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Box::new(parse_keypair(&self.0)?))
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        unreachable!("no key is written")
    }
}

/// Who signs what, and until when it holds.
#[derive(Debug, Clone)]
pub struct Signing {
    /// Keys in place of a role's own.
    pub by: BTreeMap<&'static str, Vec<Key>>,
    /// Seconds from now until the timestamp expires.
    pub timestamp_expires_s: i64,
    /// Versions in place of the next ones: timestamp, snapshot, targets.
    pub versions: Option<[u64; 3]>,
}

impl Default for Signing {
    fn default() -> Self {
        Self { by: BTreeMap::new(), timestamp_expires_s: 86_400, versions: None }
    }
}

/// A repository.
#[derive(Debug, Clone)]
pub struct Repository {
    root: Root,
    keys: BTreeMap<&'static str, Vec<Key>>,
    version: u64,
    targets: BTreeMap<String, (Vec<u8>, Target)>,
    /// What is served, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

const ROLES: [(&str, RoleType); 4] = [
    ("root", RoleType::Root),
    ("targets", RoleType::Targets),
    ("snapshot", RoleType::Snapshot),
    ("timestamp", RoleType::Timestamp),
];

impl Repository {
    /// An empty one. The role of the targets needs as many signatures as given, by as many keys.
    pub async fn new(targets_keys: u64) -> Self {
        let number = |role: &str| if role == "targets" { targets_keys } else { 1 };
        let keys: BTreeMap<_, Vec<Key>> =
            ROLES.iter().map(|(role, _)| (*role, (0..number(role)).map(|_| Key::new()).collect())).collect();
        let mut repository =
            Self { root: root_of(&keys, 1), keys, version: 0, targets: BTreeMap::new(), files: BTreeMap::new() };
        let root = signed(repository.root.clone(), &repository.keys["root"], RoleType::Root).await;
        repository.files.insert("metadata/1.root.json".to_owned(), root);
        repository.publish(&Signing::default()).await;
        repository
    }

    /// The root that a gateway pins.
    pub fn pinned(&self) -> Vec<u8> {
        self.files["metadata/1.root.json"].clone()
    }

    /// A role's keys.
    pub fn keys(&self, role: &str) -> Vec<Key> {
        self.keys[role].clone()
    }

    /// Puts a target in, with what is said of it. It is published with the next metadata.
    pub fn put(&mut self, name: &str, bytes: &[u8], said: &[(&str, &str)]) {
        let hashes = Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: HashMap::new() };
        let custom = said.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
        let target = Target { length: bytes.len() as u64, hashes, custom, _extra: HashMap::new() };
        self.targets.insert(name.to_owned(), (bytes.to_vec(), target));
    }

    /// Puts a model in.
    pub fn put_model(&mut self, onnx: &[u8], manifest: &Manifest) {
        self.put_model_with(&manifest.name, &manifest.version, onnx, &manifest.to_toml().unwrap());
    }

    /// Puts a model in whose manifest may be anything.
    pub fn put_model_with(&mut self, name: &str, version: &str, onnx: &[u8], manifest: &str) {
        let said = |kind| [("kind", kind), ("name", name), ("version", version)];
        self.put(&model_target(name, version), onnx, &said("model"));
        self.put(&manifest_target(name, version), manifest.as_bytes(), &said("manifest"));
    }

    /// Takes a target out.
    pub fn take(&mut self, name: &str) {
        self.targets.remove(name);
    }

    /// Signs what there is, with the next versions.
    pub async fn publish(&mut self, signing: &Signing) {
        self.version += 1;
        let [timestamp_version, snapshot_version, targets_version] = signing.versions.unwrap_or([self.version; 3]);
        let by = |role: &'static str| signing.by.get(role).cloned().unwrap_or_else(|| self.keys[role].clone());
        let mut targets = Targets::new("1.0.0".to_owned(), nonzero(targets_version), expires(86_400 * 30));
        for (name, (_, target)) in &self.targets {
            targets.add_target(TargetName::new(name).unwrap(), target.clone());
        }
        let targets = signed(targets, &by("targets"), RoleType::Targets).await;
        let mut snapshot = Snapshot::new("1.0.0".to_owned(), nonzero(snapshot_version), expires(86_400 * 30));
        snapshot.meta.insert("targets.json".to_owned(), metafile(&targets, targets_version));
        let snapshot = signed(snapshot, &by("snapshot"), RoleType::Snapshot).await;
        let expiry = expires(signing.timestamp_expires_s);
        let mut timestamp = Timestamp::new("1.0.0".to_owned(), nonzero(timestamp_version), expiry);
        timestamp.meta.insert("snapshot.json".to_owned(), metafile(&snapshot, snapshot_version));
        let timestamp = signed(timestamp, &by("timestamp"), RoleType::Timestamp).await;
        for (name, (bytes, _)) in &self.targets {
            self.files.insert(format!("targets/{}.{name}", hex::encode(Sha256::digest(bytes))), bytes.clone());
        }
        self.files.insert(format!("metadata/{targets_version}.targets.json"), targets);
        self.files.insert(format!("metadata/{snapshot_version}.snapshot.json"), snapshot);
        self.files.insert("metadata/timestamp.json".to_owned(), timestamp);
    }

    /// Publishes a `targets.json` as it is, under a snapshot and a timestamp that name it.
    pub async fn publish_raw_targets(&mut self, targets: Vec<u8>) {
        self.publish(&Signing::default()).await;
        let version = self.version;
        let mut snapshot = Snapshot::new("1.0.0".to_owned(), nonzero(version), expires(86_400));
        snapshot.meta.insert("targets.json".to_owned(), metafile(&targets, version));
        let snapshot = signed(snapshot, &self.keys["snapshot"], RoleType::Snapshot).await;
        let mut timestamp = Timestamp::new("1.0.0".to_owned(), nonzero(version), expires(86_400));
        timestamp.meta.insert("snapshot.json".to_owned(), metafile(&snapshot, version));
        let timestamp = signed(timestamp, &self.keys["timestamp"], RoleType::Timestamp).await;
        self.files.insert(format!("metadata/{version}.targets.json"), targets);
        self.files.insert(format!("metadata/{version}.snapshot.json"), snapshot);
        self.files.insert("metadata/timestamp.json".to_owned(), timestamp);
    }

    /// Replaces all keys but the root's, and publishes.
    pub async fn rotate(&mut self) {
        for (_, keys) in self.keys.iter_mut().filter(|(role, _)| **role != "root") {
            keys.iter_mut().for_each(|key| *key = Key::new());
        }
        let version = self.root.version.get() + 1;
        self.root = root_of(&self.keys, version);
        let root = signed(self.root.clone(), &self.keys["root"], RoleType::Root).await;
        self.files.insert(format!("metadata/{version}.root.json"), root);
        self.publish(&Signing::default()).await;
    }
}

fn root_of(keys: &BTreeMap<&'static str, Vec<Key>>, version: u64) -> Root {
    let mut root = Root {
        spec_version: "1.0.0".to_owned(),
        consistent_snapshot: true,
        version: nonzero(version),
        expires: expires(86_400 * 365),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for (role, role_type) in ROLES {
        let ids: Vec<_> = keys[role].iter().map(|key| key.public().key_id().unwrap()).collect();
        root.keys.extend(ids.iter().cloned().zip(keys[role].iter().map(Key::public)));
        let threshold = nonzero(keys[role].len() as u64);
        root.roles.insert(role_type, RoleKeys { keyids: ids, threshold, _extra: HashMap::new() });
    }
    root
}

/// The role's file, signed by `keys` whether they are its own or not.
async fn signed<T: Role>(role: T, keys: &[Key], role_type: RoleType) -> Vec<u8> {
    let only: BTreeMap<_, _> = ROLES.iter().map(|(role, _)| (*role, keys.to_vec())).collect();
    let mut holder = root_of(&only, 1);
    holder.roles.get_mut(&role_type).unwrap().threshold = nonzero(1);
    let sources: Vec<Box<dyn KeySource>> = keys.iter().map(|key| Box::new(key.clone()) as _).collect();
    let signed = SignedRole::new(role, &KeyHolder::Root(holder), &sources, &SystemRandom::new()).await.unwrap();
    signed.buffer().clone()
}

fn metafile(bytes: &[u8], version: u64) -> Metafile {
    let hashes = Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: HashMap::new() };
    let length = Some(bytes.len() as u64);
    Metafile { length, hashes: Some(hashes), version: nonzero(version), _extra: HashMap::new() }
}

fn nonzero(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap()
}

fn expires(seconds: i64) -> jiff02::Timestamp {
    jiff02::Timestamp::from_second(jiff02::Timestamp::now().as_second() + seconds).unwrap()
}

/// What the server does wrong with a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// It sends these bytes instead, and says that they are all.
    Instead(Vec<u8>),
    /// It does not end.
    Endless,
    /// A byte now and then.
    Trickle,
    /// The connection breaks after so many bytes of each answer.
    Cut(usize),
    /// It answers with this status.
    Status(u16),
    /// It takes no ranges.
    NoRanges,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Its address.
    pub url: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<Vec<(String, Fault)>>,
    requests: Mutex<Vec<String>>,
    sent: AtomicU64,
}

impl Server {
    /// A server of a repository.
    pub async fn start(repository: &Repository) -> Self {
        let shared = Arc::new(Shared::default());
        let router = Router::new().route("/tuf/{*path}", get(serve)).with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let server = Self { url, shared, task };
        server.serve(repository);
        server
    }

    /// Serves what the repository has now.
    pub fn serve(&self, repository: &Repository) {
        *self.shared.files.lock().unwrap() = repository.files.clone();
    }

    /// Does this wrong with every file whose path ends so, until told otherwise.
    pub fn fault(&self, ending: &str, fault: Fault) {
        self.shared.faults.lock().unwrap().push((ending.to_owned(), fault));
    }

    /// Does everything right again.
    pub fn mend(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// The paths that were asked for.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Bytes of bodies that were sent.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(State(shared): State<Arc<Shared>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    shared.requests.lock().unwrap().push(path.clone());
    if headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()) != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let file = shared.files.lock().unwrap().get(&path).cloned();
    let fault =
        shared.faults.lock().unwrap().iter().find(|(end, _)| path.ends_with(end.as_str())).map(|(_, f)| f.clone());
    let body = match (&fault, file) {
        (Some(Fault::Instead(bytes)), _) => bytes.clone(),
        (Some(Fault::Status(status)), _) => return StatusCode::from_u16(*status).unwrap().into_response(),
        (Some(Fault::Endless), _) => return endless(shared).into_response(),
        (_, Some(bytes)) => bytes,
        (_, None) => return StatusCode::NOT_FOUND.into_response(),
    };
    let range = headers.get(RANGE).and_then(|v| range(v.to_str().ok()?, body.len()));
    let range = range.filter(|_| fault != Some(Fault::NoRanges));
    if range.as_ref().is_some_and(|range| range.start >= body.len()) {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let whole = body.len();
    let part = range.clone().map_or(body.clone(), |range| body[range].to_vec());
    let mut answer = Response::builder().header(CONTENT_LENGTH, part.len());
    if let Some(Range { start, end }) = range {
        answer = answer.status(StatusCode::PARTIAL_CONTENT);
        answer = answer.header(CONTENT_RANGE, format!("bytes {start}-{}/{whole}", end - 1));
    }
    let (piece, pause) =
        if fault == Some(Fault::Trickle) { (1, Duration::from_millis(20)) } else { (8 << 10, Duration::ZERO) };
    let end = match fault {
        Some(Fault::Cut(after)) if after < part.len() => Some(after),
        _ => None,
    };
    answer.body(Body::from_stream(pieces(shared, part, piece, pause, end))).unwrap()
}

/// A body in pieces; it breaks at `end`.
fn pieces(
    shared: Arc<Shared>,
    body: Vec<u8>,
    piece: usize,
    pause: Duration,
    end: Option<usize>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold((shared, body, 0), move |(shared, body, at)| async move {
        let stop = end.unwrap_or(body.len());
        if at >= stop {
            // What was sent gets through before the connection breaks.
            tokio::time::sleep(Duration::from_millis(if end.is_some() { 30 } else { 0 })).await;
            return end.map(|_| (Err(std::io::Error::other("the link broke")), (shared, body, usize::MAX)));
        }
        tokio::time::sleep(pause).await;
        let next = (at + piece).min(stop);
        shared.sent.fetch_add((next - at) as u64, Ordering::Relaxed);
        let bytes = Bytes::copy_from_slice(&body[at..next]);
        Some((Ok(bytes), (shared, body, next)))
    })
}

fn endless(shared: Arc<Shared>) -> Response {
    let zeros = stream::unfold(shared, |shared| async move {
        shared.sent.fetch_add(8 << 10, Ordering::Relaxed);
        Some((Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 8 << 10])), shared))
    });
    Body::from_stream(zeros).into_response()
}

/// A range as bounds, cut to the file.
fn range(header: &str, length: usize) -> Option<Range<usize>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..(last.parse::<usize>().ok()? + 1).min(length))
}
