//! The roles' metadata: made, signed and put in order by `tough`, here only put together.
//!
//! Pure but for the reading of keys: it knows neither the database nor a clock.

use std::collections::HashMap;
use std::num::NonZeroU64;

use aws_lc_rs::rand::SystemRandom;
use jiff02::Timestamp as Expiry;
use proto::Timestamp as Time;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::TargetName;
use tough::editor::signed::SignedRole;
use tough::schema::{
    Hashes, KeyHolder, Metafile, Role, RoleKeys, RoleType, Root, Signed, Snapshot, Target, Targets, Timestamp,
};

use super::RegistryError;
use super::keys::{KeyDir, ONLINE, StoredKey};

/// The version of the TUF specification.
const SPEC_VERSION: &str = "1.0.0";

const DAY_S: i64 = 24 * 3600;

/// How long metadata is valid, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// The timestamp: for so long can somebody who holds the network hide that there is something newer.
    pub timestamp_days: u32,
}

impl Lifetimes {
    /// Days that targets and snapshot are valid.
    const ONLINE_DAYS: u32 = 90;

    /// Days that a root is valid; long, because a person renews it.
    const ROOT_DAYS: u32 = 365;

    /// How long a role's metadata is valid, in seconds.
    #[must_use]
    pub fn seconds(self, role: RoleType) -> i64 {
        let days = match role {
            RoleType::Root => Self::ROOT_DAYS,
            RoleType::Timestamp => self.timestamp_days,
            RoleType::Targets | RoleType::Snapshot | RoleType::DelegatedTargets => Self::ONLINE_DAYS,
        };
        i64::from(days) * DAY_S
    }

    /// When metadata that is signed now ends, to the whole second: not every client reads fractions.
    fn end(self, role: RoleType, now: Time) -> Expiry {
        let seconds = now.as_millis().div_euclid(1000).saturating_add(self.seconds(role));
        Expiry::from_second(seconds).unwrap_or(Expiry::MAX)
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { timestamp_days: 1 }
    }
}

/// A file of metadata, ready to be served.
pub(super) struct Signature {
    pub role: RoleType,
    pub version: NonZeroU64,
    pub expires: Time,
    pub bytes: Vec<u8>,
}

/// The newest metadata of every role.
pub(super) struct Published {
    pub root: Signed<Root>,
    pub targets: Signed<Targets>,
    pub snapshot: Signed<Snapshot>,
    pub timestamp: Signed<Timestamp>,
}

/// What signs, until when, and when it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signer<'a> {
    pub keys: &'a KeyDir,
    pub lifetimes: Lifetimes,
    pub now: Time,
}

impl Signer<'_> {
    /// Signs the first metadata of a registry without targets.
    pub async fn first(&self, root: &Root) -> Result<Vec<Signature>, RegistryError> {
        let mut targets = Targets::new(SPEC_VERSION.to_owned(), NonZeroU64::MIN, Expiry::MIN);
        // There are none, and an empty object would only be read again and again.
        targets.delegations = None;
        let snapshot = Snapshot::new(SPEC_VERSION.to_owned(), NonZeroU64::MIN, Expiry::MIN);
        let timestamp = Timestamp::new(SPEC_VERSION.to_owned(), NonZeroU64::MIN, Expiry::MIN);
        self.chain(root, Some(targets), Some(snapshot), timestamp).await
    }

    /// Signs a role's next version, and those of the roles above it: of targets, snapshot and timestamp; of the snapshot,
    /// that and the timestamp; of the timestamp, that alone.
    pub async fn next(&self, role: RoleType, published: Published) -> Result<Vec<Signature>, RegistryError> {
        let Published { root, targets, snapshot, timestamp } = published;
        let (mut targets, mut snapshot, mut timestamp) = (targets.signed, snapshot.signed, timestamp.signed);
        targets.version = targets.version.saturating_add(1);
        snapshot.version = snapshot.version.saturating_add(1);
        timestamp.version = timestamp.version.saturating_add(1);
        let targets = (role == RoleType::Targets).then_some(targets);
        let snapshot = (role != RoleType::Timestamp).then_some(snapshot);
        self.chain(&root.signed, targets, snapshot, timestamp).await
    }

    async fn chain(
        &self,
        root: &Root,
        targets: Option<Targets>,
        snapshot: Option<Snapshot>,
        mut timestamp: Timestamp,
    ) -> Result<Vec<Signature>, RegistryError> {
        self.keys.check(root, &ONLINE)?;
        let mut signed = Vec::with_capacity(ONLINE.len());
        let holder = KeyHolder::Root(root.clone());
        let mut below = None;
        if let Some(mut targets) = targets {
            targets.expires = self.lifetimes.end(RoleType::Targets, self.now);
            below = Some(self.sign(targets, &holder, &mut signed).await?);
        }
        if let Some(mut snapshot) = snapshot {
            snapshot.expires = self.lifetimes.end(RoleType::Snapshot, self.now);
            snapshot.meta.extend(below.map(|targets| ("targets.json".to_owned(), targets)));
            below = Some(self.sign(snapshot, &holder, &mut signed).await?);
        }
        timestamp.expires = self.lifetimes.end(RoleType::Timestamp, self.now);
        timestamp.meta.extend(below.map(|snapshot| ("snapshot.json".to_owned(), snapshot)));
        self.sign(timestamp, &holder, &mut signed).await?;
        Ok(signed)
    }

    /// Signs one role, and gives what the role above it says of it.
    async fn sign<R: Role + Serialize>(
        &self,
        role: R,
        holder: &KeyHolder,
        signed: &mut Vec<Signature>,
    ) -> Result<Metafile, RegistryError> {
        let role = SignedRole::new(role, holder, &self.keys.sources()?, &SystemRandom::new()).await?;
        let sha256 = role.sha256().to_vec().into();
        let file = Metafile {
            length: Some(*role.length()),
            hashes: Some(Hashes { sha256, _extra: HashMap::new() }),
            version: role.signed().signed.version(),
            _extra: HashMap::new(),
        };
        signed.push(Signature::of(&role));
        Ok(file)
    }
}

impl Signature {
    fn of<R: Role + Serialize>(role: &SignedRole<R>) -> Self {
        let signed = &role.signed().signed;
        Self {
            role: R::TYPE,
            version: signed.version(),
            expires: Time::from_secs(signed.expires().as_second()),
            bytes: role.buffer().clone(),
        }
    }
}

/// A root that names these keys.
pub(super) fn root(
    version: NonZeroU64,
    lifetimes: Lifetimes,
    now: Time,
    keys: impl IntoIterator<Item = (RoleType, StoredKey)>,
) -> Root {
    let mut root = Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true,
        version,
        expires: lifetimes.end(RoleType::Root, now),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for (role, key) in keys {
        replace_key(&mut root, role, key);
    }
    root
}

/// Makes a key the only one of its role.
pub(super) fn replace_key(root: &mut Root, role: RoleType, key: StoredKey) {
    let keys = RoleKeys { keyids: vec![key.id.clone()], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
    root.keys.insert(key.id, key.public);
    root.roles.insert(role, keys);
    root.keys.retain(|id, _| root.roles.values().any(|keys| keys.keyids.contains(id)));
}

/// The root that follows another, not yet with other keys.
pub(super) fn next_root(old: &Root, lifetimes: Lifetimes, now: Time) -> Root {
    let mut root = old.clone();
    root.version = old.version.saturating_add(1);
    root.expires = lifetimes.end(RoleType::Root, now);
    root
}

/// Signs a root with its own key, and with the one of the root before it, which is how clients of that one come to trust
/// this one.
pub(super) async fn sign_root(root: Root, old: Option<&Root>, keys: &KeyDir) -> Result<Signature, RegistryError> {
    keys.check(&root, &[RoleType::Root])?;
    let (sources, random) = (keys.sources()?, SystemRandom::new());
    let mut signed = SignedRole::new(root.clone(), &KeyHolder::Root(root.clone()), &sources, &random).await?;
    if let Some(old) = old {
        keys.check(old, &[RoleType::Root])?;
        // One call with both keys would sign with one of them only.
        let by_old = SignedRole::new(root, &KeyHolder::Root(old.clone()), &sources, &random).await?;
        signed = signed.add_old_signatures(by_old.signed().signatures.clone())?;
        old.verify_role(signed.signed())?;
    }
    let own = &signed.signed().signed;
    own.verify_role(signed.signed())?;
    Ok(Signature::of(&signed))
}

/// What the targets say of a file. `custom` holds no fractions and no empty object: clients write them differently.
pub(super) fn target(bytes: &[u8], custom: &[(&str, &str)]) -> Target {
    Target {
        length: bytes.len() as u64,
        hashes: Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: HashMap::new() },
        custom: custom.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect(),
        _extra: HashMap::new(),
    }
}

/// The name of a target.
pub(super) fn target_name(name: &str) -> Result<TargetName, RegistryError> {
    Ok(TargetName::new(name)?)
}
