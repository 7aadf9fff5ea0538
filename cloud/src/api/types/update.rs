//! What the API says of a gateway's models: [`proto::update`] for the document, field by field.

use proto::Timestamp;
use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::NodesStatus;

/// How a gateway stands with the registry, and with each of its models.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct UpdateStatus {
    /// When the registry was last read and found true, in farm time; null before the first time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub checked: Option<Timestamp>,
    /// Why the registry was refused at the last try; null when it was not.
    #[schema(required)]
    pub refusal: Option<UpdateRefusal>,
    /// Bytes received from the registry since the gateway was set up.
    pub bytes: u64,
    /// The models, by name.
    pub models: Vec<ModelStatus>,
    /// How it brings the nodes' model to its stations; null when the farm's nodes are to run none.
    #[schema(required)]
    pub nodes: Option<NodesStatus>,
}

/// One model on a gateway.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelStatus {
    /// Its name.
    pub name: String,
    /// The version that judges.
    pub active: ActiveVersion,
    /// The version that would take over if the active one failed.
    #[schema(required)]
    pub previous: Option<String>,
    /// The version that is on its way.
    #[schema(required)]
    pub candidate: Option<Candidate>,
    /// What was refused or rolled back, the newest first.
    pub refusals: Vec<UpdateRefusal>,
}

/// The version that judges.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ActiveVersion {
    /// The version.
    pub version: String,
    /// SHA-256 of the ONNX file, hex.
    pub digest: String,
    /// Since when, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// How it came to be active, in words.
    pub why: String,
}

/// A version on its way from the registry to its activation.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Candidate {
    /// The version.
    pub version: String,
    /// SHA-256 of the ONNX file, hex.
    pub digest: String,
    /// How far it has come.
    pub phase: UpdatePhase,
    /// Since when it is in this phase, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Bytes that the gateway has of file and manifest together.
    pub fetched: u64,
    /// Bytes that there are.
    pub size: u64,
    /// What the self-test measured; null before it has passed.
    #[schema(required)]
    pub self_test: Option<SelfTest>,
    /// How it compares with the active version; null unless it runs beside it.
    #[schema(required)]
    pub shadow: Option<ShadowReport>,
}

/// What a model took in its self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct ShadowReport {
    /// Samples that both have judged.
    pub windows: u64,
    /// When the shadow ends, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// The share of scores on the same side of the threshold, 0 to 1.
    pub agreement: f64,
    /// Mean distance of the scores, in thresholds.
    pub mean_difference: f64,
    /// Scores of the version in shadow that reached its threshold.
    pub alerts: u64,
    /// Scores of the active version that reached its threshold.
    pub active_alerts: u64,
}

/// Something that a gateway refused or rolled back.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct UpdateRefusal {
    /// The version; null when it is about the registry itself.
    #[schema(required)]
    pub version: Option<String>,
    /// SHA-256 of its ONNX file, hex.
    #[schema(required)]
    pub digest: Option<String>,
    /// The kind of reason, for programs.
    pub reason: UpdateReason,
    /// What was expected and what came, for people.
    pub text: String,
    /// When, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// Why something was refused or rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpdateReason(pub proto::update::Reason);

impl PartialSchema for UpdateReason {
    fn schema() -> RefOr<Schema> {
        let names = proto::update::Reason::ALL.iter().map(|reason| reason.name());
        names_of("Why something was refused or rolled back.", names)
    }
}

impl ToSchema for UpdateReason {}

/// How far a candidate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UpdatePhase(pub proto::update::Phase);

impl PartialSchema for UpdatePhase {
    fn schema() -> RefOr<Schema> {
        names_of("How far a candidate has come.", proto::update::Phase::ALL.map(proto::update::Phase::name))
    }
}

impl ToSchema for UpdatePhase {}

pub(super) fn names_of(description: &str, names: impl IntoIterator<Item = &'static str>) -> RefOr<Schema> {
    let schema = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    schema.enum_values(Some(names)).into()
}

impl From<proto::UpdateStatus> for UpdateStatus {
    fn from(status: proto::UpdateStatus) -> Self {
        let proto::UpdateStatus { checked, refusal, bytes, models, nodes } = status;
        let models = models.into_iter().map(ModelStatus::from).collect();
        let nodes = nodes.map(NodesStatus::from);
        Self { checked, refusal: refusal.map(UpdateRefusal::from), bytes, models, nodes }
    }
}

impl From<proto::update::ModelStatus> for ModelStatus {
    fn from(status: proto::update::ModelStatus) -> Self {
        let proto::update::ModelStatus { name, active, previous, candidate, refusals } = status;
        let proto::update::ActiveVersion { version, digest, since, why } = active;
        let active = ActiveVersion { version, digest, since, why };
        let refusals = refusals.into_iter().map(UpdateRefusal::from).collect();
        Self { name, active, previous, candidate: candidate.map(Candidate::from), refusals }
    }
}

impl From<proto::update::Candidate> for Candidate {
    fn from(candidate: proto::update::Candidate) -> Self {
        let proto::update::Candidate { version, digest, phase, since, fetched, size, self_test, shadow } = candidate;
        let (self_test, shadow) = (self_test.map(SelfTest::from), shadow.map(ShadowReport::from));
        Self { version, digest, phase: UpdatePhase(phase), since, fetched, size, self_test, shadow }
    }
}

impl From<proto::update::SelfTest> for SelfTest {
    fn from(test: proto::update::SelfTest) -> Self {
        let proto::update::SelfTest { latency_us, batch_latency_us, memory_bytes, cpu_ms, wall_ms } = test;
        Self { latency_us, batch_latency_us, memory_bytes, cpu_ms, wall_ms }
    }
}

impl From<proto::update::ShadowReport> for ShadowReport {
    fn from(report: proto::update::ShadowReport) -> Self {
        let proto::update::ShadowReport { windows, until, agreement, mean_difference, alerts, active_alerts } = report;
        Self { windows, until, agreement, mean_difference, alerts, active_alerts }
    }
}

impl From<proto::update::Refusal> for UpdateRefusal {
    fn from(refusal: proto::update::Refusal) -> Self {
        let proto::update::Refusal { version, digest, reason, text, at } = refusal;
        Self { version, digest, reason: UpdateReason(reason), text, at }
    }
}
