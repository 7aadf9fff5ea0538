//! The contract between Tilth's tiers.
//!
//! Wire messages, topics, quantities and units, aggregates, alerts, the model manifest, and how a window of aggregates
//! becomes a model's input tensor. Everything here is pure: no I/O, no async, no clock, and nothing of the other tiers.
//! Whatever comes from outside is parsed once, here, into a type that cannot be wrong afterwards; hostile bytes give an
//! error that names the field and the value, never a panic and never an unbounded allocation.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod aggregate;
pub mod alert;
pub mod assignment;
pub mod channel;
mod checked;
pub mod decision;
pub mod decode;
pub mod document;
pub mod id;
pub mod manifest;
pub mod native;
pub mod node_model;
pub mod quantity;
pub mod raw;
pub mod rollout;
pub mod tensor;
pub mod time;
pub mod topic;
pub mod units;
pub mod update;
pub mod uplink;

pub use aggregate::{Aggregate, RejectReason, Rejected, Stats, Window};
pub use alert::{Alert, AlertKind, Driver};
pub use assignment::{Assignment, Assignments};
pub use channel::{Channel, Reading};
pub use decision::Decision;
pub use decode::DecodeError;
pub use id::{FarmId, FieldId, GatewayId, StationId};
pub use manifest::Manifest;
pub use native::{Ack, Batch, Birth, Command, CommandMessage, Status};
pub use node_model::{
    NodeModelBack, NodeModelChunk, NodeModelFile, NodeModelOffer, NodeModelState, NodeModelStatus, NodeModelVersion,
};
pub use quantity::Quantity;
pub use raw::RawReadings;
pub use rollout::NodeRollout;
pub use time::{TimeScale, Timestamp};
pub use topic::{Topic, TopicKind};
pub use update::UpdateStatus;
pub use uplink::{
    BudgetStatus, GatewayStatus, Lane, LaneStatus, LinkStatus, Record, RunningModel, StationBirth, Untimely,
    UplinkBatch, UplinkStatus,
};

/// The generated protobuf messages. Only this crate sees them; the others use the checked types.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/tilth.v1.rs"));
}
