//! The small models that run on the nodes themselves: the file that a node takes, and what gateway and station say to each
//! other until it runs.
//!
//! The gateway offers a model; the station says in its status how much of it is there, and the gateway sends what follows, a
//! chunk at a time. So either of them may start anew at any moment. What a station makes of the bytes is its own business:
//! it checks them against the offer's SHA-256 before it uses them.

mod file;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::file::{
    FileError, Layer, MAX_BIAS, MAX_BYTES, MAX_CHANNELS, MAX_HIDDEN, MAX_NAME, MAX_STEPS, NodeModelFile,
};
use crate::decode::{DecodeError, at_most};
use crate::wire;

/// The most bytes of a model in one chunk: with its heads, a packet that every radio takes.
pub const MAX_CHUNK: usize = 512;
/// The longest reason, in bytes.
const MAX_REASON: usize = 32;

/// The version of a node's model: three numbers, the first up to 4,095 and the others up to 1,023, not all of them 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeModelVersion(u32);

/// A text or a code that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {0:?} is not three numbers like 1.0.0, the first up to 4095 and the others up to 1023")]
pub struct InvalidVersion(pub String);

impl NodeModelVersion {
    /// The version with a code; none for 0, which is no version.
    #[must_use]
    pub const fn from_code(code: u32) -> Option<Self> {
        if code == 0 { None } else { Some(Self(code)) }
    }

    /// Major << 20 | minor << 10 | patch.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }
}

impl fmt::Display for NodeModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 >> 20, self.0 >> 10 & 1023, self.0 & 1023)
    }
}

impl FromStr for NodeModelVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let refused = || InvalidVersion(text.chars().take(32).collect());
        let number = |text: &str, most: u32| {
            let fits = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
            text.parse().ok().filter(|number: &u32| fits && *number <= most)
        };
        let numbers: Vec<&str> = text.split('.').collect();
        let [major, minor, patch] = numbers[..] else { return Err(refused()) };
        let (Some(major), Some(minor), Some(patch)) = (number(major, 4095), number(minor, 1023), number(patch, 1023))
        else {
            return Err(refused());
        };
        Self::from_code(major << 20 | minor << 10 | patch).ok_or_else(refused)
    }
}

impl TryFrom<String> for NodeModelVersion {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, InvalidVersion> {
        text.parse()
    }
}

impl From<NodeModelVersion> for String {
    fn from(version: NodeModelVersion) -> Self {
        version.to_string()
    }
}

/// The mark of a file: the first four bytes of its SHA-256. It tells two files of one version apart, and nothing more.
#[must_use]
pub const fn mark(sha256: &[u8; 32]) -> u32 {
    u32::from_le_bytes([sha256[0], sha256[1], sha256[2], sha256[3]])
}

/// A model that a station should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeModelOffer {
    /// Its version.
    pub version: NodeModelVersion,
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
    /// The length of its file, bytes.
    pub size: u32,
}

/// A part of a model's file, which the station asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeModelChunk {
    /// Which model.
    pub version: NodeModelVersion,
    /// Where in the file it begins.
    pub offset: u32,
    /// At least one byte, at most [`MAX_CHUNK`].
    pub bytes: Vec<u8>,
}

/// The active model is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeModelBack {
    /// The version before, which comes back; none where there is none.
    pub to: Option<NodeModelVersion>,
    /// The mark of the model that goes. A station that runs another does nothing.
    pub from: u32,
}

/// Where a station's update is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeModelState {
    /// Nothing was offered yet.
    #[default]
    Idle,
    /// The candidate is coming.
    Receiving,
    /// The last candidate is the active model.
    Active,
    /// The last candidate was active, and is no more.
    RolledBack,
    /// The last candidate was not taken.
    Refused,
}

impl NodeModelState {
    /// Every state, in the order of their numbers on the wire.
    pub const ALL: [Self; 5] = [Self::Idle, Self::Receiving, Self::Active, Self::RolledBack, Self::Refused];

    /// Its name in tables and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Receiving => "receiving",
            Self::Active => "active",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
        }
    }
}

/// A model on a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its version.
    pub version: NodeModelVersion,
    /// Which file of that version: [`mark`].
    pub mark: u32,
}

/// How a station stands with its models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeModelStatus {
    /// The one that judges.
    pub active: Option<Held>,
    /// The one that would come back.
    pub previous: Option<NodeModelVersion>,
    /// The last one that was offered and is not active.
    pub candidate: Option<Held>,
    /// How much of the candidate is there, bytes.
    pub offset: u32,
    /// Where the update is.
    pub state: NodeModelState,
    /// Why it was rolled back or refused; empty otherwise.
    pub reason: String,
    /// Samples that the active one has called unusual.
    pub alerts: u64,
    /// Samples that the active one has judged.
    pub judged: u64,
    /// Whether it may still be rolled back for what it judges. Where there is one before, no other is taken meanwhile.
    pub on_probation: bool,
}

impl NodeModelOffer {
    pub(crate) fn to_wire(self) -> wire::NodeModelOffer {
        wire::NodeModelOffer { version: self.version.code(), sha256: self.sha256.to_vec(), size: self.size }
    }

    pub(crate) fn from_wire(offer: wire::NodeModelOffer) -> Result<Self, DecodeError> {
        let length = offer.sha256.len();
        let sha256 = offer.sha256.try_into().map_err(|_| DecodeError::value("sha256", format!("{length} bytes")))?;
        Ok(Self { version: version(offer.version)?, sha256, size: offer.size })
    }
}

impl NodeModelChunk {
    pub(crate) fn to_wire(&self) -> wire::NodeModelChunk {
        wire::NodeModelChunk { version: self.version.code(), offset: self.offset, bytes: self.bytes.clone() }
    }

    pub(crate) fn from_wire(chunk: wire::NodeModelChunk) -> Result<Self, DecodeError> {
        at_most("bytes", chunk.bytes.len(), MAX_CHUNK)?;
        if chunk.bytes.is_empty() {
            return Err(DecodeError::Missing { field: "bytes" });
        }
        Ok(Self { version: version(chunk.version)?, offset: chunk.offset, bytes: chunk.bytes })
    }
}

impl NodeModelBack {
    pub(crate) fn to_wire(self) -> wire::NodeModelBack {
        wire::NodeModelBack { version: code(self.to), mark: self.from }
    }

    pub(crate) fn from_wire(back: wire::NodeModelBack) -> Result<Self, DecodeError> {
        Ok(Self { to: maybe(back.version)?, from: back.mark })
    }
}

impl NodeModelStatus {
    pub(crate) fn to_wire(&self) -> wire::NodeModel {
        let held = |held: Option<Held>| (code(held.map(|held| held.version)), held.map_or(0, |held| held.mark));
        let ((active, active_mark), (candidate, candidate_mark)) = (held(self.active), held(self.candidate));
        wire::NodeModel {
            active,
            active_mark,
            previous: code(self.previous),
            candidate,
            candidate_mark,
            offset: self.offset,
            state: self.state as u32,
            reason: self.reason.clone(),
            alerts: self.alerts,
            judged: self.judged,
            on_probation: self.on_probation,
        }
    }

    pub(crate) fn from_wire(model: wire::NodeModel) -> Result<Self, DecodeError> {
        at_most("bytes of reason", model.reason.len(), MAX_REASON)?;
        let printable = model.reason.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !printable {
            return Err(DecodeError::value("reason", model.reason.escape_default()));
        }
        let held = |code, mark| Ok(maybe(code)?.map(|version| Held { version, mark }));
        let state = NodeModelState::ALL.get(model.state as usize);
        Ok(Self {
            active: held(model.active, model.active_mark)?,
            previous: maybe(model.previous)?,
            candidate: held(model.candidate, model.candidate_mark)?,
            offset: model.offset,
            state: *state.ok_or_else(|| DecodeError::value("state", model.state))?,
            reason: model.reason,
            alerts: model.alerts,
            judged: model.judged,
            on_probation: model.on_probation,
        })
    }
}

fn code(version: Option<NodeModelVersion>) -> u32 {
    version.map_or(0, NodeModelVersion::code)
}

fn maybe(code: u32) -> Result<Option<NodeModelVersion>, DecodeError> {
    Ok(NodeModelVersion::from_code(code))
}

fn version(code: u32) -> Result<NodeModelVersion, DecodeError> {
    NodeModelVersion::from_code(code).ok_or_else(|| DecodeError::value("version", code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, CommandMessage, Status};

    #[test]
    fn a_version_is_three_numbers_in_one() {
        for (text, code) in
            [("1.0.0", 1 << 20), ("0.0.1", 1), ("4095.1023.1023", u32::MAX), ("2.3.4", 2 << 20 | 3 << 10 | 4)]
        {
            let version: NodeModelVersion = text.parse().unwrap();
            assert_eq!((version.code(), version.to_string().as_str()), (code, text));
        }
        for text in
            ["", "1", "1.0", "1.0.0.0", "0.0.0", "4096.0.0", "1.1024.0", "1.0.1024", "01.0.0", "+1.0.0", "1.0.x"]
        {
            assert!(text.parse::<NodeModelVersion>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_said_about_models_is_read_as_it_was_written() {
        let version: NodeModelVersion = "1.2.3".parse().unwrap();
        let commands = [
            Command::OfferModel(NodeModelOffer { version, sha256: [7; 32], size: 2000 }),
            Command::ModelChunk(NodeModelChunk { version, offset: 512, bytes: vec![9; MAX_CHUNK] }),
            Command::ModelBack(NodeModelBack { to: None, from: 5 }),
            Command::ModelBack(NodeModelBack { to: Some(version), from: u32::MAX }),
        ];
        for command in commands {
            let message = CommandMessage { id: 3, command };
            assert_eq!(CommandMessage::decode(&message.encode()), Ok(message));
        }
        let held = |mark| Some(Held { version, mark });
        for state in NodeModelState::ALL {
            let model = NodeModelStatus {
                active: held(1),
                previous: None,
                candidate: held(2),
                offset: 12,
                state,
                reason: "known as bad".to_owned(),
                alerts: 3,
                judged: 500,
                on_probation: true,
            };
            let status = Status { online: true, boot: 2, irrigated: None, model: Some(model) };
            assert_eq!(Status::decode(&status.encode()), Ok(status));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }

    #[test]
    fn what_is_too_long_or_nothing_is_refused() {
        let version: NodeModelVersion = "1.2.3".parse().unwrap();
        let chunk = |bytes| Command::ModelChunk(NodeModelChunk { version, offset: 0, bytes });
        for (command, field) in [(chunk(vec![0; MAX_CHUNK + 1]), "bytes"), (chunk(Vec::new()), "bytes")] {
            let error = CommandMessage::decode(&CommandMessage { id: 1, command }.encode()).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        for reason in ["x".repeat(33), "line\nline".to_owned()] {
            let model = Some(NodeModelStatus { reason, ..NodeModelStatus::default() });
            let status = Status { online: true, boot: 2, irrigated: None, model };
            assert!(Status::decode(&status.encode()).is_err());
        }
    }
}
