//! What MQTT 5 adds to 3.1.1 at the door.
//!
//! An MQTT 5 client meets the same door: the same identities, limits and withheld PUBACKs. What differs:
//! - The CONNACK says what the door does not do: no session outlives its connection, no QoS 2, no shared subscriptions,
//!   no subscription identifiers. It names the largest packet, the publishes that may wait for their PUBACK, the topic
//!   aliases, and the client id where the client left it to the door.
//! - A publish that this client may not send is answered by a PUBACK with the reason 0x87 and costs no connection. With
//!   QoS 0 there is no answer, so the connection ends, as in 3.1.1.
//! - A connection that the door ends gets a DISCONNECT that says why.
//! - A client beyond its rate is not told: it is not read from, as in 3.1.1.
//! - A will's delay ends with the session, which is at once (MQTT 5, 3.1.3.2.2), so a will is published without a delay.
//!
//! Properties of a message go on to subscribers, as the standard demands. The pipeline needs none of them. A station's
//! topic aliases end at the door.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::{Error, FixedHeader};
use rumqttc::v5::mqttbytes::v5;
use rumqttd::protocol::PublishProperties;

use super::connection::{End, MAX_WITHHELD};
use super::frames::{Frame, FrameError, MAX_HEADER_BYTES, PublishHead, put_length};

/// Topic aliases that a client may set. Its topic is half of a small message; it has only a few of them.
const TOPIC_ALIASES: u16 = 8;
/// The keep-alive that a client gets that wants none, in seconds: else a peer that has gone would stay for ever.
const KEEP_ALIVE_S: u16 = 600;

/// Reason codes (MQTT 5, table 2-6).
pub(crate) mod reason {
    pub const MALFORMED: u8 = 0x81;
    pub const IMPLEMENTATION: u8 = 0x83;
    pub const VERSION: u8 = 0x84;
    pub const CLIENT_ID: u8 = 0x85;
    pub const PASSWORD: u8 = 0x86;
    pub const NOT_AUTHORIZED: u8 = 0x87;
    pub const BUSY: u8 = 0x89;
    pub const SHUTTING_DOWN: u8 = 0x8B;
    pub const AUTHENTICATION: u8 = 0x8C;
    pub const KEEP_ALIVE: u8 = 0x8D;
    pub const TAKEN_OVER: u8 = 0x8E;
    pub const FILTER: u8 = 0x8F;
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    pub const QUOTA: u8 = 0x97;
    pub const QOS: u8 = 0x9B;
    pub const SHARED: u8 = 0x9E;
    pub const CONNECTION_RATE: u8 = 0x9F;
    /// Of an UNSUBACK: there was no such subscription.
    pub const NO_SUBSCRIPTION: u8 = 0x11;
}

/// What is peculiar to one MQTT 5 client.
#[derive(Debug)]
pub(crate) struct Client5 {
    aliases: [Option<Bytes>; TOPIC_ALIASES as usize],
    /// QoS 1 messages that it takes before it has answered one.
    pub receive_maximum: u16,
    /// The largest packet that it takes, in bytes.
    pub max_packet: u32,
}

impl Client5 {
    /// A client with the properties of its CONNECT.
    pub fn new(properties: Option<&v5::ConnectProperties>) -> Self {
        Self {
            aliases: Default::default(),
            receive_maximum: properties.and_then(|p| p.receive_maximum).unwrap_or(u16::MAX),
            max_packet: properties.and_then(|p| p.max_packet_size).unwrap_or(u32::MAX),
        }
    }

    /// Looks into a PUBLISH. One with a topic alias is written again with the topic and without the alias.
    pub fn publish(&mut self, frame: &Frame) -> Result<(Frame, PublishHead), End> {
        let mut head = frame.publish()?;
        let Properties { whole, values, alias } = publish_properties(&frame.bytes, head.payload)?;
        head.payload = whole.end;
        head.properties = whole;
        let Some(alias) = alias else {
            return if head.topic.is_empty() {
                malformed("a PUBLISH without a topic")
            } else {
                Ok((frame.clone(), head))
            };
        };
        let number = u16::from_be_bytes([frame.bytes[alias.start + 1], frame.bytes[alias.start + 2]]);
        let Some(place) = number.checked_sub(1).and_then(|at| self.aliases.get_mut(usize::from(at))) else {
            return malformed("a topic alias beyond the maximum");
        };
        if !head.topic.is_empty() {
            if head.topic.len() > MAX_HEADER_BYTES {
                return malformed("a topic alias for too long a topic");
            }
            *place = Some(Bytes::copy_from_slice(&frame.bytes[head.topic.clone()]));
        }
        let Some(topic) = place.as_ref() else {
            return malformed("a topic alias that was not set");
        };
        Ok(without_alias(frame, &head, topic, values, &alias))
    }
}

fn malformed<T>(what: &str) -> Result<T, End> {
    Err(End::Malformed(what.to_owned()))
}

/// Writes a PUBLISH, whose properties' values begin at `values`, again with `topic` and without the property at `alias`.
fn without_alias(
    frame: &Frame,
    head: &PublishHead,
    topic: &[u8],
    values: usize,
    alias: &Range<usize>,
) -> (Frame, PublishHead) {
    let (before, after) = (values..alias.start, alias.end..head.properties.end);
    let properties = before.len() + after.len();
    let mut body = BytesMut::with_capacity(topic.len() + properties + (frame.bytes.len() - head.payload) + 8);
    // A topic came with its length in two bytes.
    body.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
    body.put_slice(topic);
    if head.qos > 0 {
        body.put_u16(head.packet);
    }
    let properties_start = body.len();
    put_length(&mut body, properties);
    body.put_slice(&frame.bytes[before]);
    body.put_slice(&frame.bytes[after]);
    let payload = body.len();
    body.put_slice(&frame.bytes[head.payload..]);
    let mut bytes = BytesMut::with_capacity(body.len() + 5);
    bytes.put_u8(frame.bytes[0]);
    put_length(&mut bytes, body.len());
    let shift = bytes.len();
    let header = FixedHeader::new(frame.bytes[0], shift - 1, body.len());
    bytes.put_slice(&body);
    let head = PublishHead {
        topic: shift + 2..shift + 2 + topic.len(),
        properties: shift + properties_start..shift + payload,
        payload: shift + payload,
        ..head.clone()
    };
    (Frame { header, bytes: bytes.freeze() }, head)
}

/// A PUBLISH of an MQTT 3.1.1 client as MQTT 5 writes it: with no properties.
pub(crate) fn with_properties(frame: &Frame, head: &PublishHead) -> BytesMut {
    let body = frame.body();
    let mut bytes = BytesMut::with_capacity(frame.bytes.len() + 2);
    bytes.put_u8(frame.bytes[0]);
    put_length(&mut bytes, frame.bytes.len() - body + 1);
    bytes.put_slice(&frame.bytes[body..head.payload]);
    bytes.put_u8(0);
    bytes.put_slice(&frame.bytes[head.payload..]);
    bytes
}

/// Writes an MQTT 5 PUBLISH as MQTT 3.1.1 does, which has no properties.
pub(crate) fn put_without_properties(out: &mut BytesMut, frame: &Frame) -> Result<(), FrameError> {
    let head = frame.publish()?;
    let (length, values) = length_at(&frame.bytes, head.payload)?;
    let payload = frame.bytes.get(values + length..).ok_or(FrameError::Malformed(Error::BoundaryCrossed(length)))?;
    let before = &frame.bytes[frame.body()..head.payload];
    out.put_u8(frame.bytes[0]);
    put_length(out, before.len() + payload.len());
    out.put_slice(before);
    out.put_slice(payload);
    Ok(())
}

/// A number of up to four bytes (MQTT 5, 1.5.5) at `at`, and where it ends.
fn length_at(bytes: &[u8], at: usize) -> Result<(usize, usize), FrameError> {
    let mut length = 0;
    for (i, byte) in bytes.get(at..).unwrap_or_default().iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok((length, at + i + 1));
        }
    }
    Err(FrameError::Malformed(Error::MalformedRemainingLength))
}

/// Where the properties of a PUBLISH are.
struct Properties {
    /// All of them, with their length before them.
    whole: Range<usize>,
    /// Where they begin after it.
    values: usize,
    /// A topic alias among them.
    alias: Option<Range<usize>>,
}

/// Where the properties of a PUBLISH are, whose length stands at `at`. Checks that they are those of a PUBLISH from a
/// client, each once, and whole (MQTT 5, 3.3.2.3).
fn publish_properties(bytes: &[u8], at: usize) -> Result<Properties, FrameError> {
    let begin = at;
    let wrong = || FrameError::Malformed(Error::MalformedPacket);
    let (length, start) = length_at(bytes, at)?;
    let end = start + length;
    if end > bytes.len() {
        return Err(FrameError::Malformed(Error::BoundaryCrossed(length)));
    }
    let properties = &bytes[..end];
    // Where a value with its length in two bytes ends.
    let sized = |at: usize, text: bool| {
        let length = properties.get(at..at + 2).ok_or_else(wrong)?;
        let end = at + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let value = properties.get(at + 2..end).ok_or_else(wrong)?;
        if text && std::str::from_utf8(value).is_err() {
            return Err(FrameError::Malformed(Error::TopicNotUtf8));
        }
        Ok(end)
    };
    let (mut at, mut seen, mut alias) = (start, 0_u64, None);
    while at < end {
        let (id, value) = (properties[at], at + 1);
        let next = match id {
            1 if matches!(properties.get(value), Some(0 | 1)) => value + 1,
            2 => value + 4,
            3 | 8 => sized(value, true)?,
            9 => sized(value, false)?,
            35 => {
                alias = Some(at..value + 2);
                value + 2
            }
            38 => sized(sized(value, true)?, true)?,
            _ => return Err(wrong()),
        };
        if next > end || (id != 38 && seen & (1 << id) != 0) {
            return Err(wrong());
        }
        seen |= 1 << id;
        at = next;
    }
    Ok(Properties { whole: begin..end, values: start, alias })
}

/// The properties of a PUBLISH, as the broker has them.
pub(crate) fn for_broker(frame: &Frame, head: &PublishHead) -> Option<PublishProperties> {
    if head.properties.len() <= 1 {
        return None;
    }
    let read = v5::PublishProperties::read(&mut frame.bytes.slice(head.properties.clone())).ok()??;
    Some(PublishProperties {
        payload_format_indicator: read.payload_format_indicator,
        message_expiry_interval: read.message_expiry_interval,
        topic_alias: None,
        response_topic: read.response_topic,
        correlation_data: read.correlation_data,
        user_properties: read.user_properties,
        subscription_identifiers: Vec::new(),
        content_type: read.content_type,
    })
}

/// The same for a will.
pub(crate) fn of_will(properties: v5::LastWillProperties) -> PublishProperties {
    PublishProperties {
        payload_format_indicator: properties.payload_format_indicator,
        message_expiry_interval: properties.message_expiry_interval,
        topic_alias: None,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        user_properties: properties.user_properties,
        subscription_identifiers: Vec::new(),
        content_type: properties.content_type,
    }
}

/// The CONNACK of a client that is let in. `assigned` is the client id that the door gave it, `keep_alive` what it asked
/// for; returns the keep-alive that holds, in seconds.
pub(crate) fn put_connack(out: &mut BytesMut, max_frame: usize, keep_alive: u16, assigned: Option<String>) -> u16 {
    let server_keep_alive = (keep_alive == 0).then_some(KEEP_ALIVE_S);
    let properties = v5::ConnAckProperties {
        session_expiry_interval: Some(0),
        receive_max: u16::try_from(MAX_WITHHELD).ok(),
        max_qos: Some(1),
        retain_available: Some(1),
        // The first byte and the length, which has at most four.
        max_packet_size: u32::try_from(max_frame + 5).ok(),
        assigned_client_identifier: assigned,
        topic_alias_max: Some(TOPIC_ALIASES),
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: Some(1),
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(0),
        server_keep_alive,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    let code = v5::ConnectReturnCode::Success;
    // Only too long a packet could fail to be written.
    let _ = v5::ConnAck { session_present: false, code, properties: Some(properties) }.write(out);
    server_keep_alive.unwrap_or(keep_alive)
}

/// The CONNACK of a client that is refused.
pub(crate) fn put_refusal(out: &mut BytesMut, reason: u8) {
    out.put_slice(&[0x20, 3, 0, reason, 0]);
}

/// A PUBACK, of either version.
pub(crate) fn puback(packet: u16) -> [u8; 4] {
    let [high, low] = packet.to_be_bytes();
    [0x40, 2, high, low]
}

/// A PUBACK that says why a publish is not taken.
pub(crate) fn put_refused_publish(out: &mut BytesMut, packet: u16, reason: u8) {
    out.put_slice(&[0x40, 3]);
    out.put_u16(packet);
    out.put_u8(reason);
}

/// The DISCONNECT of a connection that the door ends.
pub(crate) fn put_disconnect(out: &mut BytesMut, end: &End) {
    let reason = match end {
        End::Farewell | End::FarewellWithWill | End::Closed | End::Io(_) | End::Stuck => return,
        End::Silent(_) => reason::KEEP_ALIVE,
        End::TakenOver => reason::TAKEN_OVER,
        End::Malformed(_) => reason::MALFORMED,
        End::Topic(_) => reason::NOT_AUTHORIZED,
        End::Size(_) => reason::PACKET_TOO_LARGE,
        End::Qos => reason::QOS,
        End::NotStored | End::Broker(_) => reason::BUSY,
        End::Shutdown => reason::SHUTTING_DOWN,
    };
    // The length of its properties could be left out, but then rumqttc 0.25 waits for it.
    out.put_slice(&[0xE0, 2, reason, 0]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::v5::mqttbytes::QoS;

    use super::*;
    use crate::door::frames::Frames;

    fn frame(bytes: &[u8]) -> Frame {
        let mut frames = Frames::new(1 << 20);
        frames.push(bytes);
        frames.next().unwrap().unwrap()
    }

    fn written(publish: &v5::Publish) -> Frame {
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        frame(&bytes)
    }

    fn properties() -> v5::PublishProperties {
        v5::PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(77),
            topic_alias: None,
            response_topic: Some("answers".to_owned()),
            correlation_data: Some(Bytes::from_static(b"\xff\0")),
            user_properties: vec![("a".to_owned(), "b".repeat(150)), ("a".to_owned(), "c".to_owned())],
            subscription_identifiers: Vec::new(),
            content_type: Some("text/plain".to_owned()),
        }
    }

    fn publish(topic: &str, alias: Option<u16>, qos: QoS) -> v5::Publish {
        let properties = v5::PublishProperties { topic_alias: alias, ..properties() };
        let mut publish = v5::Publish::new(topic, qos, "payload", Some(properties));
        publish.pkid = if qos == QoS::AtMostOnce { 0 } else { 9 };
        publish
    }

    #[test]
    fn an_alias_stands_for_its_topic_until_it_is_set_again() {
        let mut client = Client5::new(None);
        for (topic, alias, expected) in [
            ("tilth/v1/f/n1/data", None, "tilth/v1/f/n1/data"),
            ("tilth/v1/f/n1/data", Some(1), "tilth/v1/f/n1/data"),
            ("", Some(1), "tilth/v1/f/n1/data"),
            ("other", Some(8), "other"),
            ("", Some(1), "tilth/v1/f/n1/data"),
            ("third", Some(1), "third"),
            ("", Some(1), "third"),
            ("", Some(8), "other"),
        ] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                let (frame, head) = client.publish(&written(&publish(topic, alias, qos))).unwrap();
                assert_eq!((frame.topic(&head), &frame.bytes[head.payload..]), (expected, &b"payload"[..]));
                // What is written again is what the library would have written without the alias.
                assert_eq!(frame.bytes, written(&publish(expected, None, qos)).bytes.clone());
                assert_eq!(frame.header.frame_length(), frame.bytes.len());
                let known = for_broker(&frame, &head).unwrap();
                assert_eq!(known.user_properties, properties().user_properties);
                assert_eq!(known.correlation_data, properties().correlation_data);
            }
        }
        for (topic, alias) in [("", None), ("", Some(2)), ("x", Some(0)), ("x", Some(9))] {
            let frame = written(&publish(topic, alias, QoS::AtMostOnce));
            assert!(matches!(client.publish(&frame), Err(End::Malformed(_))), "{topic:?} {alias:?}");
        }
    }

    #[test]
    fn properties_that_no_client_may_send_are_malformed() {
        let with = |properties: &[u8]| {
            let mut bytes = vec![0x30, u8::try_from(4 + properties.len()).unwrap(), 0, 1, b'a'];
            bytes.push(u8::try_from(properties.len()).unwrap());
            bytes.extend_from_slice(properties);
            Client5::new(None).publish(&frame(&bytes))
        };
        assert!(with(&[]).is_ok());
        assert!(with(&[1, 1]).is_ok());
        for wrong in [
            &[1, 2][..],
            &[1, 1, 1, 1],
            &[2, 0, 0, 0],
            &[11, 1],
            &[17, 0, 0, 0, 0],
            &[35, 0],
            &[38, 0, 1, b'a', 0, 2, b'b'],
            &[3, 0, 1, 0xff],
            &[0],
            &[200],
        ] {
            assert!(matches!(with(wrong), Err(End::Malformed(_))), "{wrong:?}");
        }
        // Properties that are longer than the packet.
        assert!(Client5::new(None).publish(&frame(&[0x30, 4, 0, 1, b'a', 9])).is_err());
        assert!(Client5::new(None).publish(&frame(&[0x30, 3, 0, 1, b'a'])).is_err());
    }

    #[test]
    fn a_message_goes_over_to_the_other_version_and_back() {
        for size in [0, 1, 110, 130, 20_000] {
            let mut publish =
                rumqttc::mqttbytes::v4::Publish::new("a/b", rumqttc::mqttbytes::QoS::AtLeastOnce, vec![7; size]);
            publish.pkid = 3;
            let mut bytes = BytesMut::new();
            publish.write(&mut bytes).unwrap();
            let old = frame(&bytes);
            let new = frame(&with_properties(&old, &old.publish().unwrap()));
            let mut expected = v5::Publish::new("a/b", QoS::AtLeastOnce, vec![7; size], None);
            expected.pkid = 3;
            assert_eq!(new.bytes, written(&expected).bytes);
            expected.properties = Some(properties());
            for new in [new, written(&expected)] {
                let mut out = BytesMut::new();
                put_without_properties(&mut out, &new).unwrap();
                assert_eq!(&out[..], &old.bytes[..]);
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_publishes_never_panic(body in prop::collection::vec(any::<u8>(), 0..120), flags in 0_u8..16) {
            let mut bytes = vec![0x30 | flags, u8::try_from(body.len()).unwrap()];
            bytes.extend_from_slice(&body);
            let frame = frame(&bytes);
            if let Ok((frame, head)) = Client5::new(None).publish(&frame) {
                prop_assert!(head.payload <= frame.bytes.len());
                let _ = for_broker(&frame, &head);
            }
        }

        #[test]
        fn the_library_reads_what_the_door_lets_through(
            topic in "[a-z/]{1,200}", alias in prop::option::of(1_u16..=8), expiry in prop::option::of(any::<u32>()),
            user in prop::collection::vec((".{0,40}", ".{0,40}"), 0..5), payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let properties = v5::PublishProperties {
                topic_alias: alias, message_expiry_interval: expiry, user_properties: user.clone(), ..Default::default()
            };
            let mut publish = v5::Publish::new(topic.clone(), QoS::AtLeastOnce, payload.clone(), Some(properties));
            publish.pkid = 3;
            let (frame, head) = Client5::new(None).publish(&written(&publish)).unwrap();
            let mut bytes = BytesMut::from(&frame.bytes[..]);
            let v5::Packet::Publish(read) = v5::Packet::read(&mut bytes, None).unwrap() else { panic!("no publish") };
            prop_assert_eq!(&read.topic[..], topic.as_bytes());
            prop_assert_eq!(&read.payload[..], &payload[..]);
            prop_assert_eq!(&frame.bytes[head.payload..], &payload[..]);
            let known = read.properties.unwrap_or_default();
            prop_assert_eq!((known.topic_alias, known.message_expiry_interval, &known.user_properties), (None, expiry, &user));
            let for_broker = for_broker(&frame, &head).unwrap_or_default();
            prop_assert_eq!((for_broker.message_expiry_interval, for_broker.user_properties), (expiry, user));
        }
    }
}
