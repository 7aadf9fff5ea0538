//! What the API says of models: the versions in the registry, what gateways are to run, and what they made of it.

use std::collections::BTreeMap;

use proto::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::UpdateStatus;

/// A model to be registered.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the body; the handler reads it part by part")]
pub struct ModelPush {
    /// The manifest, as TOML; at most 4 MiB.
    pub manifest: String,
    /// The ONNX file; at most 16 MiB.
    #[schema(value_type = String, format = Binary)]
    pub model: Vec<u8>,
}

/// A version of a model. It never changes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ModelVersion {
    /// The model's name.
    #[schema(example = "soil-anomaly")]
    pub name: String,
    /// Its version: three numbers.
    #[schema(example = "1.0.0")]
    pub version: String,
    /// SHA-256 of the ONNX file, hex.
    pub sha256: String,
    /// Size of the ONNX file, in bytes.
    pub bytes: u64,
    /// The version that it was made from.
    #[schema(required)]
    pub parent: Option<String>,
    /// When it was pushed, by the wall clock: the registry is of no farm.
    #[schema(value_type = String, format = DateTime)]
    pub pushed_at: Timestamp,
    /// Who pushed it.
    pub pushed_by: String,
    /// What its manifest says.
    #[serde(flatten)]
    pub card: ModelCard,
    /// The gateways that run it, of the farms that the person sees.
    pub active_on: Vec<ActiveOn>,
    /// The gateways that are to run it, of the farms that the person sees.
    pub assigned_to: Vec<AssignedTo>,
}

/// What a model's manifest says, but for its golden samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelCard {
    /// What it is for.
    #[schema(example = "anomaly")]
    pub task: String,
    /// What it was trained on, in words.
    pub trained_on: String,
    /// The score from which a window is an anomaly.
    pub threshold: f64,
    /// How many windows it sees at a time.
    pub steps: u32,
    /// The length of each, in seconds.
    pub window_s: u32,
    /// What it sees of each window.
    #[schema(example = json!(["soil_moisture_20cm.mean"]))]
    pub features: Vec<String>,
    /// The channels that it scores.
    #[schema(example = json!(["soil_moisture_20cm"]))]
    pub scores: Vec<String>,
    /// How good it is, as its trainer measured it.
    pub metrics: BTreeMap<String, f64>,
    /// What it may take on a gateway.
    pub limits: ModelLimits,
}

/// What a gateway lets a model take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelLimits {
    /// The size of the ONNX file, in bytes.
    pub max_bytes: u64,
    /// The time for one sample, in milliseconds.
    pub max_latency_ms: u64,
    /// The memory while it runs, in bytes.
    pub max_memory_bytes: u64,
}

/// A gateway that runs a version.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ActiveOn {
    /// The farm.
    pub farm: String,
    /// The gateway.
    pub gateway: String,
    /// Since when, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// A gateway that is to run a version.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct AssignedTo {
    /// The farm.
    pub farm: String,
    /// The gateway.
    pub gateway: String,
}

/// Versions of models, the newest first.
#[derive(Serialize, ToSchema)]
pub struct ModelList {
    /// The versions; the five hundred newest.
    pub items: Vec<ModelVersion>,
}

/// What a farm's gateways are to run, and how they stand.
#[derive(Serialize, ToSchema)]
pub struct FarmModels {
    /// What each gateway is to run, by gateway and model.
    pub assignments: Vec<ModelAssignment>,
    /// The gateways, by id.
    pub gateways: Vec<GatewayModels>,
}

/// The version of a model that a gateway is to run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelAssignment {
    /// The gateway.
    pub gateway: String,
    /// The model's name.
    #[schema(example = "soil-anomaly")]
    pub model: String,
    /// The version.
    #[schema(example = "1.1.0")]
    pub version: String,
    /// Grows with every assignment of this model to this gateway.
    pub serial: u64,
    /// How long it runs in shadow first, in seconds of farm time.
    pub shadow_s: u32,
    /// The share of scores that must agree with the active version at the shadow's end, 0 to 1.
    pub min_agreement: f64,
    /// When it was assigned, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who assigned it.
    pub by: String,
    /// The version that a roll-back brings back; null when there is none.
    #[schema(required)]
    pub before: Option<String>,
}

/// How a gateway stands with its models.
#[derive(Serialize, ToSchema)]
pub struct GatewayModels {
    /// The gateway's id.
    pub id: String,
    /// The gateway's name, for people.
    pub name: String,
    /// Its last report; null when it has sent none.
    #[schema(required)]
    pub update: Option<UpdateStatus>,
}

/// A version to be run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// The version.
    #[schema(example = "1.1.0")]
    pub version: String,
    /// The gateways; all of the farm unless given.
    #[serde(default)]
    #[schema(nullable = false)]
    pub gateways: Option<Vec<String>>,
    /// How long it runs in shadow first, in seconds of farm time; 0 for not at all.
    #[serde(default = "a_day")]
    #[schema(default = 86_400, maximum = 15_552_000)]
    pub shadow_s: u32,
    /// The share of scores that must agree with the active version at the shadow's end, 0 to 1. Below it, it is refused.
    #[serde(default)]
    #[schema(default = 0.0, minimum = 0, maximum = 1)]
    pub min_agreement: f64,
}

const fn a_day() -> u32 {
    86_400
}

/// Which gateways go back.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The gateways; all that run the model by assignment unless given.
    #[serde(default)]
    #[schema(nullable = false)]
    pub gateways: Option<Vec<String>>,
}

/// What happened to a model on a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelEventKind {
    /// It became the one that judges.
    Activated,
    /// It began to run in shadow.
    Shadow,
    /// It was refused before it judged.
    Refused,
    /// It judged, and was given up for the one before it.
    RolledBack,
}

impl ModelEventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Activated, Self::Shadow, Self::Refused, Self::RolledBack];

    /// The kind as the database and the API write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::Shadow => "shadow",
            Self::Refused => "refused",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Something that happened to a model on a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelEvent {
    /// The gateway.
    pub gateway: String,
    /// The model's name; null when the gateway refused the registry as a whole.
    #[schema(required)]
    pub model: Option<String>,
    /// When, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What happened.
    pub kind: ModelEventKind,
    /// The version that it happened to.
    #[schema(required)]
    pub version: Option<String>,
    /// Why it was refused or rolled back, for programs.
    #[schema(required, example = "golden")]
    pub reason: Option<String>,
    /// The same, and more, for people.
    pub text: String,
}

/// A page of events, newest first.
#[derive(Serialize, ToSchema)]
pub struct ModelEventPage {
    /// The events.
    pub items: Vec<ModelEvent>,
    /// What to give as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next: Option<String>,
}
