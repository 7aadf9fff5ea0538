//! What a gateway says of its models: what it runs and why, what is on its way, and what it refused.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::StationId;
use crate::node_model::{NodeModelState, NodeModelVersion};
use crate::time::Timestamp;

/// The most refusals of one model that a gateway remembers.
pub const MAX_REFUSALS: usize = 8;
/// The most stations that a gateway lists.
pub const MAX_NODES: usize = 200;

/// How a gateway stands with the registry, and with each of its models.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// When the registry was last read and found true, in farm time; none before the first time.
    pub checked: Option<Timestamp>,
    /// Why the registry was refused at the last try; none when it was not.
    pub refusal: Option<Refusal>,
    /// Bytes received from the registry since the gateway was set up.
    pub bytes: u64,
    /// The models, by name.
    pub models: Vec<ModelStatus>,
    /// How it brings the nodes' model to its stations; none when the farm's nodes are to run none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
}

/// How a gateway brings the model that the farm's nodes are to run to its stations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodesStatus {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: NodeModelVersion,
    /// SHA-256 of its file, in hexadecimal.
    pub digest: String,
    /// The rollout's number.
    pub serial: u64,
    /// How far it has come.
    pub phase: NodesPhase,
    /// Why it does not go on, in words; empty when it does.
    pub text: String,
    /// How many of the gateway's stations take models at all.
    pub known: u32,
    /// How many of them are in the stage.
    pub in_stage: u32,
    /// How many of those run the version.
    pub active: u32,
    /// How many of those have refused it or rolled it back.
    pub failed: u32,
    /// The stations, at most [`MAX_NODES`]: those that failed first, then those on their way, then by name.
    pub stations: Vec<NodeStatus>,
}

/// How far a gateway is with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodesPhase {
    /// The file is not here yet.
    Fetching,
    /// It goes to the stations of the stage.
    Going,
    /// Every station of the stage runs it.
    Done,
    /// Somebody paused it.
    Paused,
    /// Too many stations refused it or rolled it back: nobody gets it any more.
    Stopped,
    /// It is taken back from the stations that run it.
    Aborted,
}

impl NodesPhase {
    /// Every phase.
    pub const ALL: [Self; 6] = [Self::Fetching, Self::Going, Self::Done, Self::Paused, Self::Stopped, Self::Aborted];

    /// Its name in tables and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Going => "going",
            Self::Done => "done",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Aborted => "aborted",
        }
    }
}

/// A station and its models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub station: StationId,
    /// Whether it is in the stage.
    pub in_stage: bool,
    /// The version that judges.
    pub active: Option<NodeModelVersion>,
    /// The version that would come back.
    pub previous: Option<NodeModelVersion>,
    /// The version that was offered last and is not active.
    pub candidate: Option<NodeModelVersion>,
    /// How much of it is there, bytes.
    pub offset: u32,
    /// Where the update is.
    pub state: NodeModelState,
    /// Why it was refused or rolled back; empty otherwise.
    pub reason: String,
    /// Samples that the active version has called unusual, when the station last said so.
    pub alerts: u64,
    /// Samples that it has judged.
    pub judged: u64,
    /// Whether it is on probation: it may still go back by itself. Gateways of before did not say.
    #[serde(default)]
    pub on_probation: bool,
    /// When the station last said so, in farm time.
    pub heard: Timestamp,
}

/// One model on a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// The version that judges.
    pub active: ActiveVersion,
    /// The version that would take over if the active one failed.
    pub previous: Option<String>,
    /// The version that is on its way.
    pub candidate: Option<Candidate>,
    /// What was refused or rolled back, the newest first; at most [`MAX_REFUSALS`].
    pub refusals: Vec<Refusal>,
}

/// The version that judges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveVersion {
    /// The version.
    pub version: String,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub digest: String,
    /// Since when, in farm time.
    pub since: Timestamp,
    /// How it came to be active, in words.
    pub why: String,
}

/// A version on its way from the registry to its activation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The version.
    pub version: String,
    /// SHA-256 of the ONNX file, in hexadecimal.
    pub digest: String,
    /// How far it has come.
    pub phase: Phase,
    /// Since when it is in this phase, in farm time.
    pub since: Timestamp,
    /// Bytes that are on disk, of file and manifest together.
    pub fetched: u64,
    /// Bytes that there are.
    pub size: u64,
    /// What the self-test measured, once it has passed.
    pub self_test: Option<SelfTest>,
    /// How it compares with the active version, once it runs beside it.
    pub shadow: Option<ShadowReport>,
}

/// How far a candidate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is being fetched.
    Fetching,
    /// All of it is on disk, and is what the registry signed.
    Verified,
    /// It answered its golden samples within its limits.
    SelfTested,
    /// It runs beside the active version and raises nothing.
    Shadow,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 4] = [Self::Fetching, Self::Verified, Self::SelfTested, Self::Shadow];

    /// Its name in tables and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Verified => "verified",
            Self::SelfTested => "self_tested",
            Self::Shadow => "shadow",
        }
    }
}

/// What a model took in its self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Time for one sample alone, the median, in microseconds.
    pub latency_us: u64,
    /// Time for one sample of a batch of 256, in microseconds.
    pub batch_latency_us: u64,
    /// Most memory beyond an idle process, in bytes.
    pub memory_bytes: u64,
    /// Time of the processor, in milliseconds.
    pub cpu_ms: u64,
    /// Time of the clock, in milliseconds.
    pub wall_ms: u64,
}

/// How a version in shadow compares with the active one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// Samples that both have judged.
    pub windows: u64,
    /// When the shadow ends, in farm time.
    pub until: Timestamp,
    /// The share of scores on the same side of the threshold, 0 to 1; 1 before the first.
    pub agreement: f64,
    /// Mean distance of the scores, in thresholds.
    pub mean_difference: f64,
    /// Scores of the version in shadow that reached its threshold.
    pub alerts: u64,
    /// Scores of the active version that reached its threshold.
    pub active_alerts: u64,
}

/// Something that was refused or rolled back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The version; none when it is about the registry itself.
    pub version: Option<String>,
    /// SHA-256 of its ONNX file, in hexadecimal.
    pub digest: Option<String>,
    /// The kind of reason, for programs.
    pub reason: Reason,
    /// What was expected and what came, for people.
    pub text: String,
    /// When, in farm time.
    pub at: Timestamp,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why something was refused or rolled back.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in tables, metrics and the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

reasons! {
    /// The registry's metadata is past its expiry.
    Expired = "expired",
    /// The registry's metadata is older than what was seen before.
    OlderVersion = "older_version",
    /// The registry's files do not belong to one another.
    Mixed = "mixed",
    /// Fewer valid signatures than the role needs.
    Signatures = "signatures",
    /// Signed by a key of another role, or of nobody.
    WrongKey = "wrong_key",
    /// A metadata file does not end within its limit.
    EndlessMetadata = "endless_metadata",
    /// The registry sends too slowly.
    Slow = "slow",
    /// The registry does not answer.
    Unavailable = "unavailable",
    /// The registry's metadata cannot be read.
    Malformed = "malformed",
    /// The registry has no such target.
    MissingTarget = "missing_target",
    /// The target's name is not one: it holds a path, or belongs to something else.
    TargetName = "target_name",
    /// The bytes are not those that were signed.
    Digest = "digest",
    /// The target ends too early.
    Truncated = "truncated",
    /// The target is larger than was signed, or than is allowed.
    TooLarge = "too_large",
    /// The manifest cannot be used.
    Manifest = "manifest",
    /// The assignment cannot be used.
    Assignment = "assignment",
    /// The graph has an operator, type or shape that the gateway cannot run.
    Unsupported = "unsupported",
    /// The graph refers to data outside its file.
    ExternalData = "external_data",
    /// A golden sample comes out differently.
    Golden = "golden",
    /// It takes longer for a sample than it may.
    Latency = "latency",
    /// It takes more memory than it may.
    Memory = "memory",
    /// It did not answer in time.
    Timeout = "timeout",
    /// The runtime panicked over it.
    Panic = "panic",
    /// Its process died.
    Crash = "crash",
    /// It gave something that is not a number.
    NotANumber = "not_a_number",
    /// It agreed with the active version less than it had to.
    Agreement = "agreement",
    /// The gateway did not stay up with it.
    CrashLoop = "crash_loop",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_json_says() {
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
        for phase in NodesPhase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }
}
