//! What the API says, as types. The OpenAPI document, and with it the dashboard's types, is generated from these.
//!
//! A field that can be empty is always there and `null`; times are RFC 3339 in UTC, except in columns for charts, which
//! are whole seconds since 1970.

mod models;
mod nodes;
mod update;

use std::collections::BTreeMap;

use proto::{Channel, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

pub use models::{
    Activation, ActiveOn, AssignedTo, FarmModels, GatewayModels, ModelAssignment, ModelCard, ModelEvent,
    ModelEventKind, ModelEventPage, ModelLimits, ModelList, ModelPush, ModelVersion, RollBack,
};
pub use nodes::{
    FarmNodes, GatewayNodes, NodeModelList, NodeModelPush, NodeModelVersion, NodeOrder, NodeState, NodeStatus,
    NodesPhase, NodesStatus, Rollout, SetRollout,
};
pub use update::{
    ActiveVersion, Candidate, ModelStatus, SelfTest, ShadowReport, UpdatePhase, UpdateReason, UpdateRefusal,
    UpdateStatus,
};

/// Credentials of a person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The address that the account was made with; case does not matter.
    #[schema(example = "farmer@example.org", max_length = 254)]
    pub email: String,
    /// The password.
    #[schema(format = Password, max_length = 1024)]
    pub password: String,
}

/// What a person may do, each including those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees everything of their farms.
    Viewer,
    /// Also sets agronomic parameters.
    Agronomist,
    /// Also operates gateways and rollouts.
    Operator,
    /// Also manages people.
    Admin,
}

impl Role {
    /// The role as the database and the API write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Agronomist => "agronomist",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// The person that is logged in.
#[derive(Serialize, ToSchema)]
pub struct Me {
    /// The address of the account.
    pub email: String,
    /// What the person may do.
    pub role: Role,
    /// The farms of the person, by name.
    pub farms: Vec<FarmName>,
}

/// A farm's id and name.
#[derive(Serialize, ToSchema)]
pub struct FarmName {
    /// The farm's id, as in paths.
    pub id: String,
    /// The farm's name, for people.
    pub name: String,
}

/// A farm in a list.
#[derive(Serialize, ToSchema)]
pub struct FarmSummary {
    /// The farm's id, as in paths.
    pub id: String,
    /// The farm's name, for people.
    pub name: String,
    /// IANA name of the farm's time zone.
    #[schema(example = "America/Los_Angeles")]
    pub timezone: String,
}

/// A farm.
#[derive(Serialize, ToSchema)]
pub struct Farm {
    /// The farm's id, as in paths.
    pub id: String,
    /// The farm's name, for people.
    pub name: String,
    /// IANA name of the farm's time zone.
    #[schema(example = "America/Los_Angeles")]
    pub timezone: String,
    /// Degrees north, WGS 84.
    pub latitude: f64,
    /// Degrees east, WGS 84.
    pub longitude: f64,
}

/// Everything that the page of a farm shows, in one answer.
#[derive(Serialize, ToSchema)]
pub struct Overview {
    /// The farm.
    pub farm: Farm,
    /// What the farm's clock shows. A simulated farm's clock runs faster than the wall's.
    #[schema(value_type = String, format = DateTime)]
    pub now: Timestamp,
    /// Farm seconds per second of the wall clock; 1 for a real farm.
    pub speed: f64,
    /// Up to when the cloud has data of this farm; null when it has none.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub data_until: Option<Timestamp>,
    /// The fields, by name.
    pub fields: Vec<Field>,
    /// The stations, by id.
    pub stations: Vec<Station>,
    /// The open alerts, newest first, at most 200.
    pub alerts: Vec<Alert>,
    /// The gateways, by id.
    pub gateways: Vec<Gateway>,
}

/// A field: one crop in one soil, watered alike.
#[derive(Serialize, ToSchema)]
pub struct Field {
    /// The field's id.
    pub id: String,
    /// The field's name, for people.
    pub name: String,
    /// What grows there.
    #[schema(example = "alfalfa")]
    pub crop: String,
    /// The soil's texture class.
    #[schema(example = "sandy_loam")]
    pub soil: String,
    /// Volumetric water content that the soil holds against gravity, m3/m3.
    pub field_capacity: f64,
    /// Volumetric water content below which the crop takes no more water, m3/m3.
    pub wilting_point: f64,
    /// Volumetric water content at which the field is due for water, m3/m3.
    pub refill_point: f64,
    /// How many stations stand in the field.
    pub stations: u32,
}

/// A station and the latest value of each of its channels.
#[derive(Serialize, ToSchema)]
pub struct Station {
    /// The station's id, as in paths.
    pub id: String,
    /// The field that it stands in; null when it has not said so.
    #[schema(required)]
    pub field: Option<String>,
    /// Degrees north, WGS 84.
    #[schema(required)]
    pub latitude: Option<f64>,
    /// Degrees east, WGS 84.
    #[schema(required)]
    pub longitude: Option<f64>,
    /// Seconds between two samples.
    #[schema(required)]
    pub interval_s: Option<u32>,
    /// Seconds between two reports.
    #[schema(required)]
    pub report_s: Option<u32>,
    /// Name and version of the station's firmware.
    #[schema(required)]
    pub firmware: Option<String>,
    /// Up to when the cloud has heard of the station, in farm time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_heard: Option<Timestamp>,
    /// The latest accepted value of each channel, by channel.
    pub latest: Vec<LatestValue>,
}

/// The mean of the latest window of a channel in which a reading was accepted.
#[derive(Serialize, ToSchema)]
pub struct LatestValue {
    /// The channel: quantity and level.
    #[schema(value_type = String, example = "soil_moisture_20cm")]
    pub channel: Channel,
    /// What is measured.
    pub quantity: Quantity,
    /// The quantity's unit, UCUM.
    #[schema(example = "m3/m3")]
    pub unit: String,
    /// How deep in the soil, or how high above it, in cm.
    #[schema(required)]
    pub level_cm: Option<u16>,
    /// The mean, in the unit.
    pub value: f64,
    /// The window's end.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
}

/// A station and what it has delivered.
#[derive(Serialize, ToSchema)]
pub struct StationDetail {
    /// The station.
    #[serde(flatten)]
    pub station: Station,
    /// What it has delivered in the last seven days.
    pub counts: StationCounts,
    /// What it has sent that is in no window for its time.
    pub untimely: UntimelyReadings,
}

/// Readings of a station that its gateway stored and that are in no window for their time, since the gateway was set up. The
/// series' reasons tell of all others.
#[derive(Serialize, ToSchema)]
pub struct UntimelyReadings {
    /// Later than is allowed.
    pub late: u64,
    /// From the future.
    pub future: u64,
    /// Of a clock that is wrong: long past, or before what the station had sent already.
    pub clock: u64,
}

/// Readings of a station in the last seven days of farm time.
#[derive(Serialize, ToSchema)]
pub struct StationCounts {
    /// Readings that reached the gateway, accepted or not.
    pub readings_7d: u64,
    /// Those of them that were rejected.
    pub rejected_7d: u64,
}

/// What a channel measures.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub proto::Quantity);

impl PartialSchema for Quantity {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What a channel measures."))
            .enum_values(Some(proto::Quantity::ALL.map(proto::Quantity::name)))
            .into()
    }
}

impl ToSchema for Quantity {}

/// Hourly means of one channel at every station, for sparklines.
#[derive(Serialize, ToSchema)]
pub struct Sparklines {
    /// Start of the first step.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// End of the last step.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Seconds from one value to the next.
    pub step_s: u32,
    /// For each station that has the channel: a value a step, oldest first, null where nothing was accepted.
    pub stations: BTreeMap<String, Vec<Option<f64>>>,
}

/// How much of time one point of a series sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The windows as the gateway made them.
    Raw,
    /// Hours.
    Hour,
    /// Days in UTC.
    Day,
}

impl Resolution {
    /// Every resolution as the API writes it.
    pub const NAMES: [&str; 3] = ["raw", "hour", "day"];
}

impl std::str::FromStr for Resolution {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        match value {
            "raw" => Ok(Self::Raw),
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err(format!("must be one of {}", Self::NAMES.join(", "))),
        }
    }
}

/// What a station measured from one time to another.
#[derive(Serialize, ToSchema)]
pub struct StationSeries {
    /// What one point sums up.
    pub resolution: Resolution,
    /// Points that start at or after this time.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// Points that start before this time.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// A series for each channel, by channel. A channel without points is there and empty.
    pub series: Vec<ChannelSeries>,
}

/// A channel's points as columns of one length, oldest first.
#[derive(Serialize, ToSchema)]
pub struct ChannelSeries {
    /// The channel: quantity and level.
    #[schema(value_type = String, example = "soil_moisture_20cm")]
    pub channel: Channel,
    /// What is measured.
    pub quantity: Quantity,
    /// The quantity's unit, UCUM.
    #[schema(example = "m3/m3")]
    pub unit: String,
    /// How deep in the soil, or how high above it, in cm.
    #[schema(required)]
    pub level_cm: Option<u16>,
    /// Start of each point, whole seconds since 1970-01-01T00:00:00Z.
    pub time: Vec<i64>,
    /// Mean of the accepted readings; null when there is none.
    pub mean: Vec<Option<f64>>,
    /// Least accepted reading.
    pub min: Vec<Option<f64>>,
    /// Greatest accepted reading.
    pub max: Vec<Option<f64>>,
    /// How many readings were accepted.
    pub count: Vec<i64>,
    /// How many readings were rejected.
    pub rejected: Vec<i64>,
    /// Why: how many for each reason, `range`, `rate`, `hampel`, `duplicate` or `stuck`; null where none was rejected.
    pub reasons: Vec<Option<BTreeMap<String, i64>>>,
    /// Least rejected reading; null when none was rejected.
    pub rejected_min: Vec<Option<f64>>,
    /// Greatest rejected reading.
    pub rejected_max: Vec<Option<f64>>,
}

/// A channel's raw readings as columns of one length, by time and then by value.
#[derive(Serialize, ToSchema)]
pub struct ReadingPage {
    /// The channel: quantity and level.
    #[schema(value_type = String, example = "soil_moisture_20cm")]
    pub channel: Channel,
    /// The quantity's unit, UCUM.
    #[schema(example = "m3/m3")]
    pub unit: String,
    /// When each was taken, milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: Vec<i64>,
    /// What each said.
    pub value: Vec<f64>,
    /// What to give as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next: Option<String>,
}

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A model finds the station's channels unlike what it has learnt.
    Anomaly,
    /// A channel repeats one value.
    Stuck,
    /// Single values far off their neighbours.
    Spike,
    /// A channel sends nothing while the station is heard.
    Dropout,
    /// The whole station is not heard.
    Silent,
}

/// Which alerts a list holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Those that are not closed.
    Open,
    /// Those that are.
    Closed,
    /// All.
    All,
}

impl std::str::FromStr for AlertState {
    type Err = &'static str;

    fn from_str(value: &str) -> Result<Self, &'static str> {
        match value {
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            "all" => Ok(Self::All),
            _ => Err("must be one of open, closed, all"),
        }
    }
}

/// An alert that a gateway raised.
#[derive(Serialize, ToSchema)]
pub struct Alert {
    /// The alert's id: station, channel, kind and time of opening.
    pub id: String,
    /// The station.
    pub station: String,
    /// The field that the station stands in.
    #[schema(required)]
    pub field: Option<String>,
    /// The channel; null when the alert is about the whole station.
    #[schema(value_type = Option<String>, required, example = "soil_moisture_20cm")]
    pub channel: Option<Channel>,
    /// What it is about.
    pub kind: AlertKind,
    /// When it was opened, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub opened: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated: Timestamp,
    /// When it was closed; null while it is open.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub closed: Option<Timestamp>,
    /// The score that raised it.
    pub score: f64,
    /// The score above which an alert is raised.
    pub threshold: f64,
    /// The channel's value when it was raised, in the channel's unit.
    #[schema(required)]
    pub value: Option<f64>,
    /// The channels that drove the score, most first.
    pub drivers: Vec<Driver>,
    /// Name and version of the model that raised it; null for a rule.
    #[schema(required, example = "soil-anomaly 1.0.0")]
    pub model: Option<String>,
    /// One sentence for people.
    pub message: String,
}

/// A channel's part in an alert's score.
#[derive(Serialize, ToSchema)]
pub struct Driver {
    /// The channel.
    #[schema(value_type = String, example = "soil_moisture_20cm")]
    pub channel: Channel,
    /// Its share of the score, 0 to 1.
    pub share: f64,
}

/// A page of alerts, newest first.
#[derive(Serialize, ToSchema)]
pub struct AlertPage {
    /// The alerts.
    pub items: Vec<Alert>,
    /// What to give as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next: Option<String>,
}

/// What a gateway decided on the irrigation of a field.
#[derive(Serialize, ToSchema)]
pub struct Decision {
    /// The decision's id: field and time.
    pub id: String,
    /// The field.
    pub field: String,
    /// The time up to which measurements were looked at, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub cause: DecisionCause,
    /// Water that leaves the irrigation system, mm over the field; null when the field is not irrigated.
    #[schema(required)]
    pub mm: Option<f64>,
    /// For how long it runs; null when the field is not irrigated.
    #[schema(required)]
    pub minutes: Option<u32>,
    /// Why, in one sentence with numbers and units.
    pub reason: String,
    /// Water missing in the root zone to field capacity, mm; null when too few probes could be trusted.
    #[schema(required)]
    pub depletion_mm: Option<f64>,
    /// Water that the root zone holds for the crop, mm.
    pub total_mm: f64,
    /// Water of it that the crop takes without stress, mm.
    pub readily_mm: f64,
    /// Rain of the hours before, mm; null when nobody measures it.
    #[schema(required)]
    pub rain_mm: Option<f64>,
    /// Probes that were trusted.
    pub probes: u64,
    /// Probes that were not.
    pub untrusted: u64,
    /// The stations whose valves were commanded; none when it is only advice.
    pub stations: Vec<String>,
    /// Those of them that have said that they carried it out.
    pub confirmed: Vec<String>,
}

/// Why a decision is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionCause {
    /// What the crop takes without stress is used up: the field is irrigated. All others hold.
    Due,
    /// There is water enough.
    Moist,
    /// Rain has just fallen.
    Rain,
    /// Water of the last irrigation is still going down.
    Settling,
    /// It is not the hour.
    Hours,
    /// The day's minutes are used up.
    Spent,
    /// Less than the shortest run is missing.
    Small,
    /// There are too few probes that can be trusted.
    Untrusted,
    /// A valve has not said that it carried out the last decision.
    Unconfirmed,
}

/// A page of decisions.
#[derive(Serialize, ToSchema)]
pub struct DecisionPage {
    /// The decisions.
    pub items: Vec<Decision>,
    /// What to give as `cursor` for the next page; null on the last.
    #[schema(required)]
    pub next: Option<String>,
}

/// A gateway and what it last said of itself.
#[derive(Serialize, ToSchema)]
pub struct Gateway {
    /// The gateway's id.
    pub id: String,
    /// The gateway's name, for people.
    pub name: String,
    /// When the cloud last heard from it, in farm time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_seen: Option<Timestamp>,
    /// Its last report; null when it has sent none.
    #[schema(required)]
    pub status: Option<GatewayStatus>,
}

/// A gateway's report of itself.
#[derive(Serialize, ToSchema)]
pub struct GatewayStatus {
    /// When it was made, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// When the gateway's process started, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// The gateway's software.
    pub version: String,
    /// The models that it runs.
    pub models: Vec<RunningModel>,
    /// Stations that it knows.
    pub stations: u32,
    /// Stations that are connected.
    pub connected: u32,
    /// Records that wait for the cloud, by lane.
    pub backlog: BTreeMap<String, u64>,
    /// Time of the oldest record that waits; null when none does.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub backlog_oldest: Option<Timestamp>,
    /// Bytes that its store takes on disk.
    pub disk_bytes: u64,
    /// Readings that it has stored.
    pub readings: u64,
    /// Readings that it has rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// What waits for the cloud, and how the way to it is.
    pub uplink: UplinkStatus,
    /// How its models come and go.
    pub update: UpdateStatus,
}

/// What waits for the cloud, and how the way to it is.
#[derive(Serialize, ToSchema)]
pub struct UplinkStatus {
    /// By lane; empty from an older gateway.
    pub lanes: BTreeMap<String, LaneStatus>,
    /// The link; null from an older gateway.
    #[schema(required)]
    pub link: Option<LinkStatus>,
    /// What the link may carry; null when it may carry anything.
    #[schema(required)]
    pub budget: Option<BudgetStatus>,
}

/// What waits in a lane.
#[derive(Serialize, ToSchema)]
pub struct LaneStatus {
    /// Records that wait.
    pub records: u64,
    /// When the oldest of them was made, in farm time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub oldest: Option<Timestamp>,
    /// Records that the cloud refused for good, since the gateway was started.
    pub refused: u64,
    /// Windows, alerts or decisions that were dropped unsent since the gateway was set up, because too much waited.
    pub dropped: u64,
}

/// The way to the cloud, as the gateway sees it.
#[derive(Serialize, ToSchema)]
pub struct LinkStatus {
    /// Whether the last request was answered as it should be.
    pub up: bool,
    /// Since when it is so, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When a request last went well, in farm time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_success: Option<Timestamp>,
    /// What last went wrong, in words; null when nothing has since the gateway was started.
    #[schema(required)]
    pub last_error: Option<String>,
    /// When that was, in farm time.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_error_at: Option<Timestamp>,
    /// Bytes that went over the link in both directions since the gateway was started, headers estimated.
    pub bytes: u64,
}

/// What the link may carry.
#[derive(Serialize, ToSchema)]
pub struct BudgetStatus {
    /// Bytes of an hour.
    pub bytes_per_hour: u64,
    /// Bytes that may go at once when little went before.
    pub burst_bytes: u64,
    /// Bytes that may go now.
    pub available: u64,
}

/// A model that a gateway runs.
#[derive(Serialize, ToSchema)]
pub struct RunningModel {
    /// The model's name.
    pub name: String,
    /// The model's version.
    pub version: String,
    /// What it is for.
    #[schema(example = "anomaly")]
    pub task: String,
    /// Since when it runs, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// SHA-256 of the model's file, hex.
    pub digest: String,
}

/// What is stored of a gateway's lane after a batch.
#[derive(Serialize, ToSchema)]
pub struct UplinkReceipt {
    /// The highest sequence that is stored. Everything up to it may leave the gateway's disk.
    pub sequence: u64,
}

/// What changed in a farm; the data of a `change` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// Which data changed.
    pub kind: ChangeKind,
    /// The stations that it is about; empty when it is about the farm, or about more stations than are listed.
    pub stations: Vec<String>,
    /// Up to when there is data now, in farm time.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
}

/// Which data of a farm changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Aggregates, and with them latest values and series.
    Aggregates,
    /// Alerts.
    Alerts,
    /// Stations.
    Births,
    /// Decisions on irrigation.
    Decisions,
    /// A gateway's report of itself.
    Status,
    /// Models in the registry, or what the farm's gateways are to run.
    Models,
}
