//! Why the registry's metadata is refused, in words for people and a reason for programs.

use std::error::Error as _;

use proto::update::Reason;
use serde::Deserialize;
use tough::error::Error as TufError;
use tough::schema::{Root, Signed};

use super::link::LinkError;

/// A refusal of the registry or of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The kind of reason.
    pub reason: Reason,
    /// What was expected and what came.
    pub text: String,
}

impl Refused {
    /// A refusal.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// Whether it says nothing of the registry's content, only that it did not come.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self.reason, Reason::Slow | Reason::Unavailable)
    }

    /// The same for metadata that did not come; `endless` is what a file without an end is.
    #[must_use]
    pub fn link(error: &LinkError, endless: Reason) -> Self {
        let reason = match error {
            LinkError::NotFound { .. } | LinkError::Away { .. } => Reason::Unavailable,
            LinkError::Slow { .. } => Reason::Slow,
            LinkError::Endless { .. } => endless,
        };
        Self::new(reason, error.to_string())
    }

    /// Why `tough` refuses the metadata. `root` is the newest trusted one, `file` the content of a role's file as it came.
    #[must_use]
    pub fn metadata(error: &TufError, root: Option<&Signed<Root>>, file: impl Fn(&str) -> Option<Vec<u8>>) -> Self {
        match error {
            TufError::Transport { source, url, .. } => {
                let cause = source.source();
                if let Some(link) = cause.and_then(|cause| cause.downcast_ref::<LinkError>()) {
                    return Self::link(link, Reason::EndlessMetadata);
                }
                let name = url.path().rsplit('/').next().unwrap_or_default();
                match cause.and_then(|cause| cause.downcast_ref::<TufError>()) {
                    Some(TufError::HashMismatch { calculated, expected, .. }) => Self::new(
                        Reason::Mixed,
                        format!("{name}: sha256 {calculated}, but the file that names it signs {expected}"),
                    ),
                    Some(TufError::MaxSizeExceeded { max_size, specifier, .. }) => Self::new(
                        Reason::Mixed,
                        format!("{name}: more than the {max_size} bytes that {specifier} signs"),
                    ),
                    _ => Self::new(Reason::Unavailable, format!("{name}: {source}")),
                }
            }
            TufError::VerifyMetadata { role, source, .. } => {
                let role = role.to_string();
                signatures(&role, source, root, file(&role))
            }
            TufError::ExpiredMetadata { role, .. } => {
                let expired = file(&role.to_string()).and_then(|body| expiry(&body));
                let when =
                    expired.map_or_else(|| "it is past its expiry".to_owned(), |at| format!("it expired at {at}"));
                let text = format!(
                    "{role}.json: {when}, expected one that is still valid; it may be withheld from this gateway"
                );
                Self::new(Reason::Expired, text)
            }
            TufError::SystemTimeSteppedBackward { sys_time, latest_known_time } => Self::new(
                Reason::Expired,
                format!(
                    "this gateway's clock shows {sys_time}, but it has shown {latest_known_time} before: expiry cannot be judged"
                ),
            ),
            TufError::OlderMetadata { role, current_version, new_version, .. } => Self::new(
                Reason::OlderVersion,
                format!(
                    "{role}.json: version {new_version}, expected at least {current_version}, which was seen before"
                ),
            ),
            TufError::OlderSnapshotInTimestamp { snapshot_new, snapshot_old, timestamp_new, .. } => Self::new(
                Reason::OlderVersion,
                format!(
                    "timestamp.json {timestamp_new}: names snapshot {snapshot_new}, expected at least {snapshot_old}, which was seen before"
                ),
            ),
            TufError::SnapshotRoleRollback {
                role, old_role_version, new_role_version, new_snapshot_version, ..
            } => Self::new(
                Reason::OlderVersion,
                format!(
                    "snapshot.json {new_snapshot_version}: names {role} {new_role_version}, expected at least {old_role_version}, which was seen before"
                ),
            ),
            TufError::VersionMismatch { role, fetched, expected, .. } => Self::new(
                Reason::Mixed,
                format!("{role}.json: version {fetched}, but the file that names it signs version {expected}"),
            ),
            TufError::SnapshotRoleMissing { role, old_version, new_version } => Self::new(
                Reason::Mixed,
                format!("snapshot.json {new_version}: does not name {role}, which snapshot {old_version} did"),
            ),
            TufError::ParseMetadata { role, source, .. } => {
                // A target's name that would leave its directory is refused while the file is read.
                let text = format!("{role}.json: {source}");
                let reason = if text.contains("target name") { Reason::TargetName } else { Reason::Malformed };
                Self::new(reason, text)
            }
            other => Self::new(Reason::Malformed, other.to_string()),
        }
    }
}

/// What there is to know of a role's file without trusting it.
#[derive(Deserialize)]
struct Envelope {
    signed: Head,
    signatures: Vec<KeyOnly>,
}

#[derive(Deserialize)]
struct Head {
    expires: String,
}

#[derive(Deserialize)]
struct KeyOnly {
    keyid: String,
}

fn expiry(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Envelope>(body).ok().map(|envelope| envelope.signed.expires)
}

/// Too few valid signatures: by the role's own keys, or by others altogether.
fn signatures(role: &str, error: &tough::schema::Error, root: Option<&Signed<Root>>, file: Option<Vec<u8>>) -> Refused {
    let tough::schema::Error::SignatureThreshold { threshold, valid, .. } = error else {
        return Refused::new(Reason::Signatures, format!("{role}.json: {error}"));
    };
    let few = Refused::new(
        Reason::Signatures,
        format!("{role}.json: {valid} valid signatures by the keys of its role, expected {threshold}"),
    );
    let (Some(root), Some(envelope)) = (root, file.and_then(|body| serde_json::from_slice::<Envelope>(&body).ok()))
    else {
        return few;
    };
    let roles_of = |key: &str| -> Vec<String> {
        let has = |keys: &tough::schema::RoleKeys| keys.keyids.iter().any(|id| hex::encode(id) == key);
        root.signed.roles.iter().filter(|(_, keys)| has(keys)).map(|(role, _)| role.to_string()).collect()
    };
    let signers: Vec<(&str, Vec<String>)> =
        envelope.signatures.iter().map(|s| (s.keyid.as_str(), roles_of(&s.keyid))).collect();
    let foreign = signers.iter().find(|(_, roles)| !roles.iter().any(|r| r == role));
    match foreign {
        Some((key, roles)) if signers.iter().all(|(_, roles)| !roles.iter().any(|r| r == role)) => {
            let key: String = key.chars().take(8).collect();
            let whose =
                if roles.is_empty() { "of no role".to_owned() } else { format!("of the role {}", roles.join(", ")) };
            Refused::new(
                Reason::WrongKey,
                format!("{role}.json: signed by key {key}…, which is {whose}; expected {threshold} by the role {role}"),
            )
        }
        _ => few,
    }
}
