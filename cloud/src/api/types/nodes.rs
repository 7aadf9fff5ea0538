//! What the API says of the models that run on nodes.

use proto::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::update::names_of;

/// A model for nodes, to be registered.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes the body; the handler reads it part by part")]
pub struct NodeModelPush {
    /// The model's name: 1 to 64 characters of a-z, 0-9 and -.
    pub name: String,
    /// What it was trained on, in words.
    pub trained_on: Option<String>,
    /// The file, at most 4 KiB; it says its version.
    #[schema(value_type = String, format = Binary)]
    pub model: Vec<u8>,
}

/// A version of a model for nodes. It never changes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NodeModelVersion {
    /// The model's name.
    #[schema(example = "soil-node")]
    pub name: String,
    /// Its version: three numbers.
    #[schema(example = "1.0.0")]
    pub version: String,
    /// SHA-256 of its file, hex.
    pub sha256: String,
    /// Size of its file, in bytes.
    pub bytes: u64,
    /// The channels that it looks at; a station without one of them refuses it.
    pub channels: Vec<String>,
    /// How many samples it looks back.
    pub steps: u32,
    /// How many hidden units it has.
    pub hidden: u32,
    /// What it was trained on, in words.
    pub trained_on: String,
    /// When it was pushed, by the wall clock: the registry is of no farm.
    #[schema(value_type = String, format = DateTime)]
    pub pushed_at: Timestamp,
    /// Who pushed it.
    pub pushed_by: String,
}

/// Versions of models for nodes, the newest first.
#[derive(Serialize, ToSchema)]
pub struct NodeModelList {
    /// The versions; the five hundred newest.
    pub items: Vec<NodeModelVersion>,
}

/// What is to be done with a rollout: `go`, `pause` (nothing more is sent, what runs stays) or `abort` (whoever runs it goes
/// back).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOrder(pub proto::rollout::Order);

impl PartialSchema for NodeOrder {
    fn schema() -> RefOr<Schema> {
        names_of("What is to be done with a rollout.", proto::rollout::Order::ALL.map(proto::rollout::Order::name))
    }
}

impl ToSchema for NodeOrder {}

/// Which model a farm's nodes are to run, and on which stations.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Rollout {
    /// The model's name.
    #[schema(example = "soil-node")]
    pub name: String,
    /// Its version.
    #[schema(example = "1.0.0")]
    pub version: String,
    /// SHA-256 of its file, hex.
    pub sha256: String,
    /// Grows with every change.
    pub serial: u64,
    /// What is to be done.
    pub order: NodeOrder,
    /// Stations that are in the stage.
    pub stations: Vec<String>,
    /// The share of all stations that is in the stage beside them, 0 to 1.
    pub share: f64,
    /// The stage stops when more than this share of its stations refuse it or roll it back, 0 to 1.
    pub most_failed: f64,
    /// When that was set, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who set it.
    pub by: String,
}

/// A change of what a farm's nodes are to run. What is not given stays as it is; of another model nobody is in the stage but
/// who is given.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRollout {
    /// The model's name.
    #[serde(default)]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Its version.
    #[serde(default)]
    #[schema(nullable = false)]
    pub version: Option<String>,
    /// What is to be done; `go` unless given.
    #[serde(default)]
    #[schema(nullable = false)]
    pub order: Option<NodeOrder>,
    /// Stations that are in the stage.
    #[serde(default)]
    #[schema(nullable = false)]
    pub stations: Option<Vec<String>>,
    /// The share of all stations that is in the stage beside them.
    #[serde(default)]
    #[schema(nullable = false, minimum = 0, maximum = 1)]
    pub share: Option<f64>,
    /// The share of the stage's stations that may refuse it or roll it back; a tenth at first.
    #[serde(default)]
    #[schema(nullable = false, minimum = 0, maximum = 1)]
    pub most_failed: Option<f64>,
}

/// What a farm's nodes are to run, and how they stand.
#[derive(Debug, Serialize, ToSchema)]
pub struct FarmNodes {
    /// What they are to run; null when nothing was ever rolled out.
    #[schema(required)]
    pub rollout: Option<Rollout>,
    /// The gateways that bring it to them, by id.
    pub gateways: Vec<GatewayNodes>,
}

/// How a gateway is with its stations' models.
#[derive(Debug, Serialize, ToSchema)]
pub struct GatewayNodes {
    /// The gateway's id.
    pub id: String,
    /// The gateway's name, for people.
    pub name: String,
    /// Its last report; null when it has sent none.
    #[schema(required)]
    pub nodes: Option<NodesStatus>,
}

/// How a gateway brings the model that the farm's nodes are to run to its stations.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NodesStatus {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, hex.
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
    /// The stations, at most two hundred: those that failed first, then those on their way, then by name.
    pub stations: Vec<NodeStatus>,
}

/// How far a gateway is with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NodesPhase(pub proto::update::NodesPhase);

impl PartialSchema for NodesPhase {
    fn schema() -> RefOr<Schema> {
        let names = proto::update::NodesPhase::ALL.map(proto::update::NodesPhase::name);
        names_of("How far a gateway is with a rollout.", names)
    }
}

impl ToSchema for NodesPhase {}

/// Where a station's update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NodeState(pub proto::NodeModelState);

impl PartialSchema for NodeState {
    fn schema() -> RefOr<Schema> {
        names_of("Where a station's update is.", proto::NodeModelState::ALL.map(proto::NodeModelState::name))
    }
}

impl ToSchema for NodeState {}

/// A station and its models.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NodeStatus {
    /// The station.
    pub station: String,
    /// Whether it is in the stage.
    pub in_stage: bool,
    /// The version that judges; null when none does.
    #[schema(required)]
    pub active: Option<String>,
    /// The version that would come back.
    #[schema(required)]
    pub previous: Option<String>,
    /// The version that was offered last and is not active.
    #[schema(required)]
    pub candidate: Option<String>,
    /// How much of it is there, in bytes.
    pub offset: u32,
    /// Where the update is.
    pub state: NodeState,
    /// Why it was refused or rolled back; empty otherwise.
    pub reason: String,
    /// Samples that the active version has called unusual, when the station last said so.
    pub alerts: u64,
    /// Samples that it has judged.
    pub judged: u64,
    /// Whether it is on probation: it may still go back by itself for what it judges.
    pub on_probation: bool,
    /// When the station last said so, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub heard: Timestamp,
}

impl From<proto::update::NodesStatus> for NodesStatus {
    fn from(status: proto::update::NodesStatus) -> Self {
        Self {
            name: status.name,
            version: status.version.to_string(),
            digest: status.digest,
            serial: status.serial,
            phase: NodesPhase(status.phase),
            text: status.text,
            known: status.known,
            in_stage: status.in_stage,
            active: status.active,
            failed: status.failed,
            stations: status.stations.into_iter().map(NodeStatus::from).collect(),
        }
    }
}

impl From<proto::update::NodeStatus> for NodeStatus {
    fn from(status: proto::update::NodeStatus) -> Self {
        let text = |version: Option<proto::NodeModelVersion>| version.map(|version| version.to_string());
        Self {
            station: status.station.to_string(),
            in_stage: status.in_stage,
            active: text(status.active),
            previous: text(status.previous),
            candidate: text(status.candidate),
            offset: status.offset,
            state: NodeState(status.state),
            reason: status.reason,
            alerts: status.alerts,
            judged: status.judged,
            on_probation: status.on_probation,
            heard: status.heard,
        }
    }
}
