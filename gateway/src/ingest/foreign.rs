//! Messages of sources on their way to the disk, and back from it.
//!
//! The message stays in the raw store as it came. Behind it, in the same commit, stands what it said in our own words: births
//! as a station's own would be, and the readings of each station, exact. After a restart these are read, and not the message:
//! it needs a decoder that remembers what came before, and a configuration that may have changed since.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use proto::{Channel, Reading, Record, StationBirth, StationId, Status, Timestamp};

use super::intake::{Intake, Taken, raw, see};
use super::{Content, Item, count};
use crate::decode::source::{Taken as Read, Unknown};
use crate::deduplicate::Sent;
use crate::door::{Delivery, DeliveryKind};
use crate::store::{NORMALISED, Normalised, RawMessage, kind_code};

/// The most channels that nobody mapped and that are remembered. Of more, those that come later are only counted.
pub const UNKNOWN_MOST: usize = 1_000;
/// How often a channel that is known to be unknown is written again, with its newest value, in ms of farm time.
const UNKNOWN_AGAIN_MS: i64 = 60_000;

/// A channel that nobody mapped, as it stands on the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Unmapped {
    /// What is known of it.
    pub channel: Unknown,
    /// When its last value came.
    pub at: Timestamp,
    /// How many values came.
    pub values: u64,
}

/// The channels that nobody mapped, each with when it was written last.
#[derive(Debug, Default)]
pub(super) struct UnmappedChannels(Mutex<BTreeMap<Key, (Unmapped, Timestamp)>>);

/// Source, station and name.
type Key = (String, StationId, String);

impl UnmappedChannels {
    pub(super) fn new(known: Vec<Unmapped>) -> Self {
        let key = |one: &Unmapped| (one.channel.source.clone(), one.channel.station.clone(), one.channel.name.clone());
        let known = known.into_iter().take(UNKNOWN_MOST).map(|one| (key(&one), (one.clone(), one.at)));
        Self(Mutex::new(known.collect()))
    }

    pub(super) fn all(&self) -> Vec<Unmapped> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|(unmapped, _)| unmapped.clone()).collect()
    }

    /// Takes one up. Gives it back when it is to be written, and an error when there is no room.
    fn take(&self, channel: Unknown, at: Timestamp) -> Result<Option<Unmapped>, ()> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = known.len() >= UNKNOWN_MOST;
        let key = (channel.source.clone(), channel.station.clone(), channel.name.clone());
        if let Some((unmapped, written)) = known.get_mut(&key) {
            unmapped.values += 1;
            let changed = (&unmapped.channel.unit, unmapped.channel.proposal) != (&channel.unit, channel.proposal);
            (unmapped.channel, unmapped.at) = (channel, at);
            let due = changed || at.millis_since(*written) >= UNKNOWN_AGAIN_MS;
            return Ok(due.then(|| {
                *written = at;
                unmapped.clone()
            }));
        }
        if full {
            return Err(());
        }
        let unmapped = Unmapped { channel, at, values: 1 };
        known.insert(key, (unmapped.clone(), at));
        Ok(Some(unmapped))
    }
}

impl Intake {
    /// Reads a message of a source.
    pub(super) fn take_foreign(&mut self, taken: &mut Taken, delivery: Delivery, now: Timestamp) {
        let Delivery { station: bridge, topic, payload, packet, duplicate, ticket, .. } = delivery;
        let (bridge, topic) = ((*bridge).clone(), topic.unwrap_or_default());
        let Taken { group, items, tickets, replies, .. } = taken;
        tickets.push(ticket);
        // Only MQTT itself tells a message that comes again from one that says the same.
        let sent = Sent::new(&payload, packet, None);
        if self.recent.holds(&bridge, &sent, duplicate) {
            return count(&mut group.counters, "duplicate_batches", 1);
        }
        self.recent.note(&bridge, sent);
        let read = match self.sources.decode_contained(&topic, &payload, now) {
            Ok(read) => read,
            Err(refused) => {
                tracing::warn!(%bridge, %refused, "a source's message cannot be read: kept aside");
                count(&mut group.counters, format!("refused.{}_{}", refused.error.reason, refused.kind), 1);
                return group.quarantined.push((
                    format!("source {}", refused.source_name),
                    format!("topic {:?}: {}", refused.topic, refused.error),
                    payload.to_vec(),
                ));
            }
        };
        let Read { source, kind, decoded } = read;
        for (reason, by) in &decoded.refused {
            count(&mut group.counters, format!("refused.{reason}_{kind}"), *by);
        }
        for (what, by) in &decoded.counted {
            count(&mut group.counters, format!("{kind}.{what}"), *by);
        }
        let problems = decoded.aside.iter().chain(&decoded.problems).map(String::as_str).collect::<Vec<_>>().join("; ");
        if !problems.is_empty() {
            tracing::warn!(source, %topic, %problems, "parts of a source's message cannot be taken");
            group.quarantined.push((
                format!("source {source}"),
                format!("topic {topic:?}: {problems}"),
                payload.to_vec(),
            ));
        }
        group
            .messages
            .push(RawMessage { topic: topic.to_string(), ..raw(&bridge, DeliveryKind::Foreign, now, payload, packet) });
        items.push(Item { station: bridge, content: Content::Foreign });
        for (station, birth) in decoded.births {
            let payload = birth.encode();
            group.stations.insert(station.clone(), now);
            group.births.insert(station.clone(), (now, payload.clone()));
            if self.births.get(&station) != Some(&birth) {
                let record = StationBirth { station: station.clone(), at: now, birth: birth.clone() };
                group.records.push(Record::Birth(record));
                self.births.insert(station.clone(), birth.clone());
            }
            group.messages.push(raw(&station, DeliveryKind::Birth, now, payload.into(), 0));
            items.push(Item { station, content: Content::Birth(Box::new(birth)) });
        }
        for (station, readings) in decoded.stations {
            see(group, &station, &readings, now);
            group.messages.push(normalised(&station, &readings, now));
            items.push(Item { station, content: Content::Plain(readings) });
        }
        for station in decoded.heard {
            group.stations.insert(station.clone(), now);
            group.messages.push(normalised(&station, &[], now));
            items.push(Item { station, content: Content::Status { online: true, irrigated: None, model: None } });
        }
        for (station, number) in decoded.irrigated {
            // Not online: a valve may say nothing for weeks, and is not silent then.
            let status = Status { online: false, boot: 0, irrigated: Some(number), model: None };
            group.messages.push(raw(&station, DeliveryKind::Status, now, status.encode().into(), 0));
            items.push(Item {
                station,
                content: Content::Status { online: false, irrigated: Some(number), model: None },
            });
        }
        for channel in decoded.unknown {
            count(&mut group.counters, "unmapped", 1);
            match self.shared.unmapped.take(channel, now) {
                Ok(due) => group.unmapped.extend(due),
                Err(()) => count(&mut group.counters, "unmapped_forgotten", 1),
            }
        }
        group.source_states.extend(decoded.state.into_iter().map(|(key, body)| (source.clone(), key, body)));
        replies.extend(decoded.replies);
    }
}

/// Readings of a source's station, as they are kept.
fn normalised(station: &StationId, readings: &[Reading], now: Timestamp) -> RawMessage {
    let mut before = now.as_millis();
    let step = |reading: &Reading| {
        let step = reading.time.as_millis().wrapping_sub(before);
        before = reading.time.as_millis();
        step
    };
    let kept = Normalised {
        steps_ms: readings.iter().map(step).collect(),
        channels: readings.iter().map(|reading| reading.channel.code()).collect(),
        values: readings.iter().map(|reading| reading.value).collect(),
    };
    RawMessage {
        station: station.to_string(),
        kind: NORMALISED,
        at_ms: now.as_millis(),
        readings: Some(kept),
        ..RawMessage::default()
    }
}

/// The readings that were kept with [`normalised`], bit for bit; none say that the station was heard. A channel that this
/// program does not know is left out, and so is what is no number.
pub(super) fn readings(message: &RawMessage) -> Vec<Reading> {
    let Some(Normalised { steps_ms, channels, values }) = &message.readings else { return Vec::new() };
    let mut time = message.at_ms;
    let mut readings = Vec::with_capacity(values.len());
    for ((step, channel), value) in steps_ms.iter().zip(channels).zip(values) {
        time = time.wrapping_add(*step);
        if let (Ok(channel), true) = (Channel::from_code(*channel), value.is_finite()) {
            readings.push(Reading { channel, time: Timestamp::from_millis(time), value: *value });
        }
    }
    readings
}

/// What a stored message of a source says: nothing by itself, for what it says stands behind it.
pub(super) fn item(message: &RawMessage) -> Option<(Item, Option<Sent>)> {
    let station: StationId = message.station.parse().ok()?;
    if message.kind == NORMALISED {
        let readings = readings(message);
        let heard = readings.is_empty();
        let content = if heard {
            Content::Status { online: true, irrigated: None, model: None }
        } else {
            Content::Plain(readings)
        };
        return Some((Item { station, content }, None));
    }
    let packet = u16::try_from(message.packet).unwrap_or(0);
    Some((Item { station, content: Content::Foreign }, Some(Sent::new(&message.payload, packet, None))))
}

/// Whether a stored message is a source's, or what one said.
pub(super) fn is_foreign(message: &RawMessage) -> bool {
    message.kind == NORMALISED || message.kind == kind_code(DeliveryKind::Foreign)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn readings_come_back_from_the_store_bit_for_bit(
            readings in prop::collection::vec((0_i64..4_000_000_000_000, prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO, 0_u16..300), 0..40),
            now in 0_i64..4_000_000_000_000,
        ) {
            let readings: Vec<Reading> = readings.into_iter().map(|(ms, value, level)| Reading {
                channel: Channel::at(proto::Quantity::SoilMoisture, level), time: Timestamp::from_millis(ms), value,
            }).collect();
            let message = normalised(&"gh-1".parse().unwrap(), &readings, Timestamp::from_millis(now));
            let message = RawMessage::decode(message.encode_to_vec().as_slice()).unwrap();
            let (item, known) = item(&message).unwrap();
            let back = match item.content {
                Content::Plain(back) => back,
                Content::Status { online: true, irrigated: None, model: None } if readings.is_empty() => Vec::new(),
                other => panic!("{other:?}"),
            };
            let bits = |all: &[Reading]| all.iter().map(|r| (r.channel, r.time, r.value.to_bits())).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&readings));
            prop_assert!(known.is_none() && is_foreign(&message));
        }
    }

    #[test]
    fn what_is_no_number_does_not_come_back_from_the_store() {
        let reading =
            |value| Reading { channel: Channel::of(proto::Quantity::Rain), time: Timestamp::from_millis(7), value };
        let all = [f64::INFINITY, 1.5, f64::NAN, f64::NEG_INFINITY].map(reading);
        let message = normalised(&"gh-1".parse().unwrap(), &all, Timestamp::from_millis(7));
        let Content::Plain(back) = item(&message).unwrap().0.content else { panic!("no readings") };
        assert_eq!(back, [reading(1.5)]);
    }

    #[test]
    fn channels_that_nobody_mapped_are_bounded_and_written_seldom() {
        let known = UnmappedChannels::default();
        let unknown = |name: String| Unknown {
            source: "gh".to_owned(),
            station: "gh-1".parse().unwrap(),
            name,
            unit: None,
            value: "1".to_owned(),
            proposal: None,
        };
        let at = Timestamp::from_secs;
        for i in 0..UNKNOWN_MOST {
            assert!(known.take(unknown(format!("c{i}")), at(0)).unwrap().is_some());
        }
        assert_eq!(known.take(unknown("more".to_owned()), at(0)), Err(()));
        assert_eq!(known.take(unknown("c1".to_owned()), at(59)), Ok(None));
        assert_eq!(known.take(unknown("c1".to_owned()), at(60)).unwrap().unwrap().values, 3);
        let other = Unknown { unit: Some("%".to_owned()), ..unknown("c1".to_owned()) };
        assert!(known.take(other, at(61)).unwrap().is_some(), "what is proposed has changed");
        assert_eq!(known.all().len(), UNKNOWN_MOST);
    }
}
