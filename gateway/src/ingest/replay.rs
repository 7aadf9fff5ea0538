//! From the raw store back to what was said.

use proto::{StationId, Timestamp};

use super::{Content, Item, foreign};
use crate::decode::{self, Message};
use crate::deduplicate::Sent;
use crate::door::DeliveryKind;
use crate::store::RawMessage;
use crate::window::Origin;

/// What a stored message says, and how it is known again when it is plain. The same as was handed over when it came: the
/// same bytes and the same time of arrival.
pub(crate) fn item(message: &RawMessage) -> Option<(Item, Option<Sent>)> {
    if foreign::is_foreign(message) {
        return foreign::item(message);
    }
    let station: StationId = message.station.parse().ok()?;
    let kind = DeliveryKind::from_code(message.kind)?;
    let mut known = None;
    let content = match decode::read(kind, &message.payload, Timestamp::from_millis(message.at_ms)) {
        Ok(Message::Data(batch)) => {
            Content::Batch(Origin { boot: batch.boot, sequence: batch.sequence }, batch.readings)
        }
        Ok(Message::Plain(plain)) => {
            let packet = u16::try_from(message.packet).unwrap_or(0);
            known = Some(Sent::new(&message.payload, packet, plain.newest()));
            Content::Plain(plain.readings)
        }
        Ok(Message::Birth(birth)) => Content::Birth(Box::new(birth)),
        Ok(Message::Status(status)) => Content::from(status),
        Err(_) => return None,
    };
    Some((Item { station, content }, known))
}
