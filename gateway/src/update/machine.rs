//! What a model's versions go through on a gateway, as a pure state machine: a state, what happened and the time give the
//! next state and what is to be told to the pipeline.
//!
//! What holds whatever happens, and is held by the property tests beside this file:
//! - a model that the gateway brought along always has an active version;
//! - a pushed version is active only after its self-test;
//! - an assignment is settled once: refused, rolled back or activated, it is not tried again; a later one is;
//! - the version that was active before stays, to fall back to.
//!
//! Nothing here knows of files, the network or a clock.

use proto::update::{Phase, Reason, Refusal, SelfTest, ShadowReport};
use proto::{Assignment, Timestamp};
use serde::{Deserialize, Serialize};

mod step;
#[cfg(test)]
mod tests;

/// How often a target may come wrong: the first time it is thrown away and fetched anew.
pub const STRIKES: u8 = 2;
/// So many starts in a row that did not last are a crash loop, and the active version of that time is to blame.
pub const CRASHES: u32 = 3;
/// So many, and the version on its way is.
pub const CRASHES_ON_THE_WAY: u32 = 6;

/// A version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number.
    pub version: String,
    /// SHA-256 of its ONNX file, in hexadecimal.
    pub digest: String,
}

/// The version that judges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Which.
    pub version: Version,
    /// Since when, in farm time.
    pub since: Timestamp,
    /// How it came to be active, in words.
    pub why: String,
    /// Whether the gateway has stayed up with it for its probation.
    pub kept: bool,
}

/// A version on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What asked for it.
    pub assignment: Assignment,
    /// How far it has come.
    pub phase: Phase,
    /// Since when, in farm time.
    pub since: Timestamp,
    /// Bytes on disk, of file and manifest.
    pub fetched: u64,
    /// Bytes that there are; 0 until the registry's targets were read for it.
    pub size: u64,
    /// How often one of its targets came wrong.
    pub strikes: u8,
    /// What the self-test measured; none of a version that the gateway brought along.
    pub self_test: Option<SelfTest>,
    /// How it compares, once it runs in shadow.
    pub shadow: Option<ShadowReport>,
}

/// Everything about one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version that the gateway brought along; none of a model that came by the registry alone.
    pub base: Option<Version>,
    /// The version that judges; none before the first of a model that the gateway did not bring along.
    pub active: Option<Active>,
    /// The version to fall back to.
    pub previous: Option<Version>,
    /// The version on its way.
    pub candidate: Option<Candidate>,
    /// The serial of the newest assignment that came to an end, good or bad.
    pub settled: u64,
    /// What was refused, the newest first.
    pub refusals: Vec<Refusal>,
}

/// Something that happened to a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The gateway starts, and brings along this version.
    Base(Option<Version>),
    /// The registry is another one than before: its serials count from the start.
    OtherRegistry,
    /// What the registry wants to run here; none when it names no version of this model.
    Assigned(Option<Assignment>),
    /// So much is on disk.
    Fetched {
        /// Bytes on disk.
        fetched: u64,
        /// Bytes that there are.
        size: u64,
    },
    /// A target came wrong and was thrown away.
    Struck(Reason, String),
    /// All of the candidate is on disk and is what was signed.
    Verified,
    /// The candidate cannot be used.
    Refused(Reason, String),
    /// The candidate answered its golden samples within its limits.
    SelfTested(Option<SelfTest>),
    /// The candidate is running: into the shadow with it, or straight to work.
    Running,
    /// How the candidate compares in shadow, and the end of the newest window that it has judged. The shadow's end counts
    /// from the first one, so the report says when it is.
    Judged(ShadowReport, Option<Timestamp>),
    /// The pipeline gave a version up while it ran.
    Failed {
        /// Its digest.
        digest: String,
        /// The kind of reason.
        reason: Reason,
        /// The reason in words.
        text: String,
    },
    /// A version's files are no longer what they were.
    Lost {
        /// Which version.
        version: Version,
        /// What was found, in words.
        text: String,
    },
    /// The gateway has stayed up for the probation.
    Stayed,
    /// The gateway did not stay up this many times in a row.
    CrashLoop(u32),
}

/// What the pipeline is to be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Run the candidate in shadow.
    Shadow {
        /// For so long, in seconds of farm time.
        shadow_s: u32,
        /// What was compared before a restart.
        so_far: Option<ShadowReport>,
    },
    /// Forget the version in shadow.
    EndShadow,
    /// The version that was the candidate judges from now on.
    Activate {
        /// Whether it is in shadow already.
        from_shadow: bool,
    },
}

impl State {
    /// Whether `version` is the one that the gateway brought along.
    #[must_use]
    pub fn is_base(&self, version: &Version) -> bool {
        self.base.as_ref() == Some(version)
    }

    /// Every version whose files are needed.
    pub fn needed(&self) -> impl Iterator<Item = Version> + '_ {
        let active = self.active.as_ref().map(|active| active.version.clone());
        let candidate = self.candidate.as_ref().map(Candidate::version);
        active.into_iter().chain(self.previous.clone()).chain(candidate).filter(|version| !self.is_base(version))
    }
}

impl Candidate {
    /// Which version it is.
    #[must_use]
    pub fn version(&self) -> Version {
        Version { version: self.assignment.version.clone(), digest: self.assignment.sha256.clone() }
    }
}
