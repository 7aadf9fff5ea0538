//! From a station's bytes to what they say: native payloads, and [plain JSON](json) where a station sends readings. What
//! other people's sensors send on topics of their own is read by [sources](source).

use bytes::Bytes;
use proto::{Batch, Birth, DecodeError, Status, Timestamp};

use crate::contain::contained;
use crate::door::DeliveryKind;

pub mod cayenne;
pub mod chirpstack;
pub mod counter;
pub mod json;
pub mod mapping;
pub mod propose;
pub mod senml;
pub mod source;
pub mod sparkplug;

pub use json::{JsonError, Plain};

/// What a station said.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// What it is.
    Birth(Birth),
    /// Readings, known by boot and sequence.
    Data(Batch),
    /// Readings in plain JSON, each known by itself.
    Plain(Plain),
    /// Whether it is there.
    Status(Status),
}

/// Why a payload cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no native message of its kind.
    #[error(transparent)]
    Native(#[from] DecodeError),
    /// It begins like plain JSON, and is none that can be taken.
    #[error(transparent)]
    Plain(#[from] JsonError),
    /// Its decoder panicked.
    #[error("its decoder panicked: {0}")]
    Panicked(String),
    /// It is a source's, and no station's.
    #[error("a source's message came as a station's")]
    Foreign,
}

/// Reads a payload that came at `now`. The same bytes and the same `now` give the same, bit for bit.
///
/// # Errors
/// When it is not what its topic says.
pub fn read(kind: DeliveryKind, payload: &Bytes, now: Timestamp) -> Result<Message, Unreadable> {
    Ok(match kind {
        DeliveryKind::Birth => Message::Birth(Birth::decode(payload)?),
        DeliveryKind::Data if json::is_plain(payload) => Message::Plain(json::read(payload, now)?),
        DeliveryKind::Data => Message::Data(Batch::decode(payload)?),
        DeliveryKind::Status => Message::Status(Status::decode(payload)?),
        DeliveryKind::Foreign => return Err(Unreadable::Foreign),
    })
}

/// As [`read`], for what just came: a panic refuses the payload, and does not end the gateway, to which a station would send
/// the same again.
///
/// # Errors
/// When it is not what its topic says, or the decoder panics.
pub(crate) fn read_contained(kind: DeliveryKind, payload: &Bytes, now: Timestamp) -> Result<Message, Unreadable> {
    or_panicked(|| read(kind, payload, now))
}

fn or_panicked(read: impl FnOnce() -> Result<Message, Unreadable>) -> Result<Message, Unreadable> {
    contained(read).unwrap_or_else(|said| Err(Unreadable::Panicked(said)))
}

/// A short word for counting what could not be read: `malformed_data`, `malformed_json`.
#[must_use]
pub fn refusal(kind: DeliveryKind, error: &Unreadable) -> String {
    let kind = match kind {
        DeliveryKind::Birth => "birth",
        DeliveryKind::Data => "data",
        DeliveryKind::Status => "status",
        DeliveryKind::Foreign => "foreign",
    };
    match error {
        Unreadable::Native(error) => format!("{}_{kind}", error.reason()),
        Unreadable::Plain(error) => format!("{}_json", error.reason()),
        Unreadable::Panicked(_) => format!("panicked_{kind}"),
        Unreadable::Foreign => format!("value_{kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_counted_by_what_and_why() {
        let read = |kind, bytes: &[u8]| read(kind, &Bytes::copy_from_slice(bytes), Timestamp::from_secs(0));
        let error = read(DeliveryKind::Data, b"\xff\xff").unwrap_err();
        assert_eq!(refusal(DeliveryKind::Data, &error), "malformed_data");
        let error = read(DeliveryKind::Data, b"{").unwrap_err();
        assert_eq!(refusal(DeliveryKind::Data, &error), "malformed_json");
        let error = read(DeliveryKind::Birth, b"{").unwrap_err();
        assert_eq!(refusal(DeliveryKind::Birth, &error), "malformed_birth", "only readings come as JSON");
        let error = or_panicked(|| panic!("no such byte")).unwrap_err();
        assert_eq!(refusal(DeliveryKind::Data, &error), "panicked_data");
        assert_eq!(error.to_string(), "its decoder panicked: no such byte");
        let status = Status { online: true, boot: 3, irrigated: None, model: None };
        assert_eq!(read(DeliveryKind::Status, &status.encode()).unwrap(), Message::Status(status));
    }
}
