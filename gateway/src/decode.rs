//! From a station's bytes to what they say. Native payloads only; each further format is a function beside this one.

use bytes::Bytes;
use proto::{Batch, Birth, DecodeError, Status};

use crate::door::DeliveryKind;

/// What a station said.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// What it is.
    Birth(Birth),
    /// Readings.
    Data(Batch),
    /// Whether it is there.
    Status(Status),
}

/// Reads a native payload.
///
/// # Errors
/// When it is not what its topic says.
pub fn native(kind: DeliveryKind, payload: &Bytes) -> Result<Message, DecodeError> {
    match kind {
        DeliveryKind::Birth => Birth::decode(payload).map(Message::Birth),
        DeliveryKind::Data => Batch::decode(payload).map(Message::Data),
        DeliveryKind::Status => Status::decode(payload).map(Message::Status),
    }
}

/// A short word for counting what could not be read: `malformed_data`.
#[must_use]
pub fn refusal(kind: DeliveryKind, error: &DecodeError) -> String {
    let kind = match kind {
        DeliveryKind::Birth => "birth",
        DeliveryKind::Data => "data",
        DeliveryKind::Status => "status",
    };
    format!("{}_{kind}", error.reason())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_counted_by_what_and_why() {
        let error = native(DeliveryKind::Data, &Bytes::from_static(b"\xff\xff")).unwrap_err();
        assert_eq!(refusal(DeliveryKind::Data, &error), "malformed_data");
        let status = Status { online: true, boot: 3 };
        assert_eq!(native(DeliveryKind::Status, &status.encode().into()).unwrap(), Message::Status(status));
    }
}
