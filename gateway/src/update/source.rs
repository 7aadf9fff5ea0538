//! The registry as a TUF repository: read, verified by `tough`, and held against what was trusted before.
//!
//! What was trusted is kept in the journal, not only in `tough`'s own directory: its files are not synced, and a power cut
//! that tore one would open the door to an older one. It also begins at the newest root that was trusted, so that a
//! rotated key is not a reason to forget at each poll.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use proto::update::Reason;
use sha2::{Digest as _, Sha256};
use tough::schema::{Root, Signed, Target};
use tough::{
    ExpirationEnforcement, Limits, RepositoryLoader, TargetName, Transport, TransportError, TransportErrorKind,
    TransportStream, async_trait,
};
use url::Url;

use super::link::{Link, LinkError};
use super::refused::Refused;

/// The largest `root.json`, in bytes: a few keys and their roles.
pub const MAX_ROOT_BYTES: u64 = 64 << 10;
/// The largest `timestamp.json`, in bytes: one digest and its signatures.
pub const MAX_TIMESTAMP_BYTES: u64 = 16 << 10;
/// The largest `snapshot.json`, in bytes: one digest and its signatures.
pub const MAX_SNAPSHOT_BYTES: u64 = 64 << 10;
/// The largest `targets.json`, in bytes: some twenty thousand targets.
pub const MAX_TARGETS_BYTES: u64 = 8 << 20;
/// The most roots on the way from the trusted one to the newest.
pub const MAX_ROOT_UPDATES: u64 = 256;

/// What of `tough`'s directory is kept. `targets.json` is held by the version that `snapshot.json` names.
const KEPT: [&str; 4] = ["root.json", "timestamp.json", "snapshot.json", "latest_known_time.json"];
/// Which root was pinned when the rest was kept: another one is another registry.
const PINNED: &str = "pinned.sha256";

/// The metadata that was trusted last, by file.
pub type Trusted = BTreeMap<String, Vec<u8>>;

/// The registry.
#[derive(Debug)]
pub struct Source {
    link: Arc<Link>,
    metadata: Url,
    targets: Url,
    pinned: Vec<u8>,
    scratch: PathBuf,
    /// Files whose name bears their version, as they came, so that they come once only.
    known: Arc<Mutex<HashMap<String, Bytes>>>,
}

/// What the registry says, verified.
#[derive(Debug, Clone)]
pub struct Metadata {
    targets: HashMap<TargetName, Target>,
}

/// A target of the registry: what its bytes must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed256 {
    /// Its name.
    pub name: String,
    /// Its length, in bytes.
    pub length: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Source {
    /// The registry of the cloud at `url`, trusted by the `root.json` in `pinned`; `scratch` is a directory for `tough`.
    ///
    /// # Errors
    /// When the address is none, or the root is not one that signs itself.
    pub fn new(link: Arc<Link>, url: &str, pinned: Vec<u8>, scratch: PathBuf) -> anyhow::Result<Self> {
        let base = Url::parse(&format!("{}/", url.trim_end_matches('/')))?;
        let root: Signed<Root> = serde_json::from_slice(&pinned)?;
        root.signed.verify_role(&root)?;
        let (metadata, targets) = (base.join("tuf/metadata/")?, base.join("tuf/targets/")?);
        Ok(Self { link, metadata, targets, pinned, scratch, known: Arc::default() })
    }

    /// Where a target is.
    ///
    /// # Errors
    /// When its name cannot be part of an address.
    pub fn url(&self, target: &Signed256) -> Result<Url, Refused> {
        let path = format!("{}.{}", target.sha256, target.name);
        self.targets.join(&path).map_err(|error| Refused::new(Reason::TargetName, format!("{path:?}: {error}")))
    }

    /// Whether `trusted` was kept for the root that is pinned now.
    #[must_use]
    pub fn is_of(&self, trusted: &Trusted) -> bool {
        trusted.get(PINNED).is_none_or(|pinned| *pinned == self.pinned_digest())
    }

    /// Reads and verifies the registry's metadata. Gives also what is to be trusted from now on, whether it went well or
    /// not: what was verified before something else failed must not come back older either.
    pub async fn read(&self, trusted: &Trusted) -> (Trusted, Result<Metadata, Refused>) {
        let empty = Trusted::new();
        let trusted = if self.is_of(trusted) { trusted } else { &empty };
        if let Err(error) = self.fill(trusted).await {
            let text = format!("{}: {error}", self.scratch.display());
            return (trusted.clone(), Err(Refused::new(Reason::Unavailable, text)));
        }
        let root = trusted.get("root.json").unwrap_or(&self.pinned);
        let transport = Fetch { link: Arc::clone(&self.link), known: Arc::clone(&self.known), came: Arc::default() };
        let came = Arc::clone(&transport.came);
        let loaded = RepositoryLoader::new(root, self.metadata.clone(), self.targets.clone())
            .transport(transport)
            .limits(Limits {
                max_root_size: MAX_ROOT_BYTES,
                max_targets_size: MAX_TARGETS_BYTES,
                max_timestamp_size: MAX_TIMESTAMP_BYTES,
                max_snapshot_size: MAX_SNAPSHOT_BYTES,
                max_root_updates: MAX_ROOT_UPDATES,
            })
            .datastore(self.scratch.clone())
            .expiration_enforcement(ExpirationEnforcement::Safe)
            .load()
            .await;
        let kept = self.kept().await;
        let came = std::mem::take(&mut *came.lock().unwrap_or_else(PoisonError::into_inner));
        let result = match loaded {
            Ok(repository) if !repository.root().signed.consistent_snapshot => {
                Err(Refused::new(Reason::Malformed, "root.json: consistent_snapshot is false, expected true"))
            }
            Ok(repository) => check_names(&repository.targets().signed.targets)
                .map(|()| Metadata { targets: repository.targets().signed.targets.clone() }),
            Err(error) => {
                let root = kept.get("root.json").and_then(|root| serde_json::from_slice(root).ok());
                Err(Refused::metadata(&error, root.as_ref(), |role| {
                    came.iter().rev().find(|(file, _)| role_of(file) == role).map(|(_, body)| body.to_vec())
                }))
            }
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_ok() {
            known.retain(|file, _| came.iter().any(|(came, _)| came == file));
        } else {
            // One of them may be what is wrong.
            known.clear();
        }
        (kept, result)
    }

    /// A small target, whole and verified.
    ///
    /// # Errors
    /// When it does not come, or is not what was signed.
    pub async fn target(&self, target: &Signed256, limit: u64) -> Result<Vec<u8>, Refused> {
        let Signed256 { name, length, sha256 } = target;
        if *length > limit {
            return Err(Refused::new(Reason::TooLarge, format!("{name}: {length} bytes, expected at most {limit}")));
        }
        let body = self.link.whole(self.url(target)?, *length).await.map_err(|error| match &error {
            LinkError::NotFound { .. } => Refused::new(Reason::MissingTarget, error.to_string()),
            _ => Refused::link(&error, Reason::TooLarge),
        })?;
        if (body.len() as u64) < *length {
            let text = format!("{name}: {} bytes, expected {length}", body.len());
            return Err(Refused::new(Reason::Truncated, text));
        }
        let found = hex::encode(Sha256::digest(&body));
        if found != *sha256 {
            return Err(Refused::new(Reason::Digest, format!("{name}: sha256 {found}, expected {sha256}")));
        }
        Ok(body)
    }

    /// Puts what was trusted where `tough` looks for it.
    async fn fill(&self, trusted: &Trusted) -> std::io::Result<()> {
        tokio::fs::create_dir_all(&self.scratch).await?;
        for file in KEPT {
            let path = self.scratch.join(file);
            match trusted.get(file) {
                Some(body) => tokio::fs::write(path, body).await?,
                None => match tokio::fs::remove_file(path).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                },
            }
        }
        Ok(())
    }

    async fn kept(&self) -> Trusted {
        let mut kept = Trusted::from([(PINNED.to_owned(), self.pinned_digest())]);
        for file in KEPT {
            if let Ok(body) = tokio::fs::read(self.scratch.join(file)).await {
                kept.insert(file.to_owned(), body);
            }
        }
        kept
    }

    fn pinned_digest(&self) -> Vec<u8> {
        hex::encode(Sha256::digest(&self.pinned)).into_bytes()
    }
}

impl Metadata {
    /// The target of a name, when there is one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Signed256> {
        let target = self.targets.get(&TargetName::new(name).ok()?)?;
        Some(Signed256 { name: name.to_owned(), length: target.length, sha256: hex::encode(&target.hashes.sha256) })
    }

    /// A target that is to be the `kind` of this version of this model.
    ///
    /// # Errors
    /// When there is none, or it says that it is something else.
    pub fn find_of(&self, target: &str, kind: &str, name: &str, version: &str) -> Result<Signed256, Refused> {
        let missing = || Refused::new(Reason::MissingTarget, format!("{target}: the registry signs no such target"));
        let found = self.find(target).ok_or_else(missing)?;
        let custom = TargetName::new(target).ok().and_then(|name| self.targets.get(&name)).map(|target| &target.custom);
        for (key, expected) in [("kind", kind), ("name", name), ("version", version)] {
            let said = custom.and_then(|custom| custom.get(key)).and_then(|said| said.as_str());
            if said != Some(expected) {
                let said = said.unwrap_or("nothing");
                let text = format!("{target}: its {key} is {said:?}, expected {expected:?}");
                return Err(Refused::new(Reason::TargetName, text));
            }
        }
        Ok(found)
    }
}

/// Names are flat: what has a slash in it is meant to land somewhere.
fn check_names(targets: &HashMap<TargetName, Target>) -> Result<(), Refused> {
    let flat = |name: &str| {
        !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    match targets.keys().map(TargetName::raw).find(|name| !flat(name)) {
        None => Ok(()),
        Some(name) => {
            let shown: String = name.chars().take(128).collect();
            let text = format!("targets.json: a target is named {shown:?}, expected letters, digits, '.', '-' and '_'");
            Err(Refused::new(Reason::TargetName, text))
        }
    }
}

/// The role of a metadata file: `targets` of `7.targets.json`.
fn role_of(file: &str) -> &str {
    let stem = file.strip_suffix(".json").unwrap_or(file);
    stem.rsplit('.').next().unwrap_or(stem)
}

/// How `tough` gets the registry's files.
#[derive(Debug, Clone)]
struct Fetch {
    link: Arc<Link>,
    known: Arc<Mutex<HashMap<String, Bytes>>>,
    /// What came in this round, in order.
    came: Arc<Mutex<Vec<(String, Bytes)>>>,
}

impl Fetch {
    async fn get(&self, url: &Url) -> Result<Bytes, LinkError> {
        let file = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let by_version = file.starts_with(|c: char| c.is_ascii_digit()) && role_of(&file) != "root";
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&file).cloned();
        let body = match known.filter(|_| by_version) {
            Some(body) => body,
            None => {
                let limit = match role_of(&file) {
                    "root" => MAX_ROOT_BYTES,
                    "timestamp" => MAX_TIMESTAMP_BYTES,
                    "snapshot" => MAX_SNAPSHOT_BYTES,
                    _ => MAX_TARGETS_BYTES,
                };
                Bytes::from(self.link.whole(url.clone(), limit).await?)
            }
        };
        if by_version {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(file.clone(), body.clone());
        }
        self.came.lock().unwrap_or_else(PoisonError::into_inner).push((file, body.clone()));
        Ok(body)
    }
}

#[async_trait]
impl Transport for Fetch {
    /// A failure is given as the stream's content: `tough` takes one of `fetch` itself for "there is no newer root".
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let result = self.get(&url).await.map_err(|error| {
            let kind = match error {
                LinkError::NotFound { .. } => TransportErrorKind::FileNotFound,
                _ => TransportErrorKind::Other,
            };
            TransportError::new_with_cause(kind, url, error)
        });
        Ok(Box::pin(stream::iter([result])))
    }
}
