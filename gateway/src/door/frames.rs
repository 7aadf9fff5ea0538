//! From bytes to MQTT frames and back.
//!
//! The packets themselves are read by `rumqttc::mqttbytes`; here is only what it does not do without a copy per message:
//! cutting a stream into frames and looking into a PUBLISH without taking its topic out.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::{Error, FixedHeader, PacketType, check};

/// Room for a PUBLISH's topic and packet id beside its payload. A topic of ours has at most 150 bytes.
pub(crate) const MAX_HEADER_BYTES: usize = 1024;

/// One whole MQTT packet.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Its fixed header.
    pub header: FixedHeader,
    /// All of it, fixed header included.
    pub bytes: Bytes,
}

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// A frame longer than allowed.
    #[error("a packet of {0} bytes is larger than allowed")]
    TooLarge(usize),
    /// Anything else.
    #[error("{0}")]
    Malformed(Error),
}

impl From<Error> for FrameError {
    fn from(error: Error) -> Self {
        match error {
            Error::PayloadSizeLimitExceeded(bytes) => Self::TooLarge(bytes),
            other => Self::Malformed(other),
        }
    }
}

/// Cuts a stream into frames. It holds no buffer while it waits for a frame to begin, so that ten thousand idle clients
/// cost nothing, and gives frames that share one exactly sized allocation per read.
#[derive(Debug)]
pub(crate) struct Frames {
    /// What has been read and not been cut.
    chunk: Bytes,
    /// The beginning of a frame whose rest has not come. Empty while `chunk` is not.
    partial: BytesMut,
    max_frame: usize,
}

impl Frames {
    /// Frames of a body of at most `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self { chunk: Bytes::new(), partial: BytesMut::new(), max_frame }
    }

    /// Allows other frames from the next one on.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Adds what was read. To be called only when [`Self::next`] has returned `None`.
    pub fn push(&mut self, read: &[u8]) {
        debug_assert!(self.chunk.is_empty());
        if self.partial.is_empty() {
            self.chunk = Bytes::copy_from_slice(read);
        } else {
            self.partial.extend_from_slice(read);
            if !matches!(check(self.partial.iter(), self.max_frame), Err(Error::InsufficientBytes(_))) {
                self.chunk = std::mem::take(&mut self.partial).freeze();
            }
        }
    }

    /// The next whole frame.
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.chunk.is_empty() {
            return Ok(None);
        }
        match check(self.chunk.iter(), self.max_frame) {
            Ok(header) => {
                let bytes = self.chunk.split_to(header.frame_length());
                Ok(Some(Frame { header, bytes }))
            }
            Err(Error::InsufficientBytes(_)) => {
                self.partial.extend_from_slice(&self.chunk);
                self.chunk = Bytes::new();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Frame {
    /// What the packet is. Also checks the reserved flags of its first byte (MQTT 3.1.1, table 2.2).
    pub fn packet_type(&self) -> Result<PacketType, FrameError> {
        let kind = self.header.packet_type()?;
        let expected = match kind {
            PacketType::Publish => return Ok(kind),
            PacketType::Subscribe | PacketType::Unsubscribe | PacketType::PubRel => 0b0010,
            _ => 0,
        };
        if self.bytes[0] & 0x0f == expected {
            Ok(kind)
        } else {
            Err(FrameError::Malformed(Error::IncorrectPacketFormat))
        }
    }

    /// Where the variable header begins.
    pub fn body(&self) -> usize {
        1 + self.bytes[1..].iter().take_while(|&&byte| byte & 0x80 != 0).count() + 1
    }

    /// Looks into a PUBLISH.
    pub fn publish(&self) -> Result<PublishHead, FrameError> {
        let malformed = |error| Err(FrameError::Malformed(error));
        let body = self.body();
        let Some(length) = self.bytes.get(body..body + 2) else {
            return malformed(Error::MalformedPacket);
        };
        let topic = body + 2..body + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let Some(text) = self.bytes.get(topic.clone()) else {
            return malformed(Error::BoundaryCrossed(topic.len()));
        };
        if std::str::from_utf8(text).is_err() {
            return malformed(Error::TopicNotUtf8);
        }
        let qos = (self.bytes[0] >> 1) & 0b11;
        let mut payload = topic.end;
        let mut packet = 0;
        match qos {
            0 => {}
            1 | 2 => {
                let Some(id) = self.bytes.get(payload..payload + 2) else {
                    return malformed(Error::MalformedPacket);
                };
                packet = u16::from_be_bytes([id[0], id[1]]);
                payload += 2;
                if packet == 0 {
                    return malformed(Error::PacketIdZero);
                }
            }
            other => return malformed(Error::InvalidQoS(other)),
        }
        let properties = payload..payload;
        Ok(PublishHead { topic, qos, packet, properties, payload, duplicate: self.bytes[0] & 0b1000 != 0 })
    }

    /// The topic of a PUBLISH; [`Self::publish`] has checked that it is UTF-8.
    pub fn topic(&self, head: &PublishHead) -> &str {
        std::str::from_utf8(&self.bytes[head.topic.clone()]).unwrap_or_default()
    }

    /// The name and level of the protocol in a CONNECT, without reading the rest, which another version writes
    /// differently.
    pub fn protocol(&self) -> Option<(&[u8], u8)> {
        let body = &self.bytes[self.body()..];
        let length = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
        Some((body.get(2..2 + length)?, *body.get(2 + length)?))
    }
}

/// What a PUBLISH says before its payload, as places in its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishHead {
    /// Where the topic is.
    pub topic: Range<usize>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The packet id; 0 for QoS 0.
    pub packet: u16,
    /// Where the properties are that MQTT 5 has, with their length before them; nowhere in 3.1.1.
    pub properties: Range<usize>,
    /// Where the payload begins.
    pub payload: usize,
    /// Whether the client says that it may have sent this packet before.
    pub duplicate: bool,
}

/// Writes a QoS 0 PUBLISH of a retained message.
pub(crate) fn put_retained(frames: &mut BytesMut, mqtt5: bool, topic: &str, payload: &[u8]) {
    let at = frames.len();
    put_publish(frames, mqtt5, [topic], payload);
    frames[at] |= 1;
}

/// Writes a length as MQTT does: seven bits a byte, the lowest first.
pub(crate) fn put_length(bytes: &mut BytesMut, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        bytes.put_u8(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
}

/// Bytes of a QoS 0 PUBLISH as [`put_publish`] writes it, or a few more.
pub(crate) fn publish_bytes<const N: usize>(levels: [&str; N], payload: &[u8]) -> usize {
    levels.iter().map(|level| level.len() + 1).sum::<usize>() + payload.len() + 7
}

/// Writes a QoS 0 PUBLISH whose topic is `levels` with `/` between them, for MQTT 5 or for 3.1.1.
pub(crate) fn put_publish<const N: usize>(frames: &mut BytesMut, mqtt5: bool, levels: [&str; N], payload: &[u8]) {
    let topic = levels.iter().map(|level| level.len() + 1).sum::<usize>() - 1;
    let remaining = 2 + topic + usize::from(mqtt5) + payload.len();
    frames.reserve(remaining + 5);
    frames.put_u8(0x30);
    put_length(frames, remaining);
    // Our topics are far shorter than 64 KiB: three ids of 64 bytes and a prefix.
    frames.put_u16(u16::try_from(topic).unwrap_or(u16::MAX));
    for (i, level) in levels.iter().enumerate() {
        if i > 0 {
            frames.put_u8(b'/');
        }
        frames.put_slice(level.as_bytes());
    }
    if mqtt5 {
        // No properties.
        frames.put_u8(0);
    }
    frames.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::mqttbytes::QoS;
    use rumqttc::mqttbytes::v4::{Packet, Publish};
    use rumqttc::v5::mqttbytes::v5;

    use super::*;

    fn publish(topic: &str, qos: QoS, packet: u16, payload: &[u8]) -> Vec<u8> {
        let mut publish = Publish::new(topic, qos, payload);
        publish.pkid = packet;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        bytes.to_vec()
    }

    #[test]
    fn our_publish_is_read_by_the_library() {
        for size in [0, 1, 100, 127, 128, 20_000, 300_000] {
            let mut bytes = BytesMut::new();
            put_publish(&mut bytes, true, ["tilth/v1", "f", "n1", "ack"], &vec![7; size]);
            assert!(bytes.len() <= publish_bytes(["tilth/v1", "f", "n1", "ack"], &vec![7; size]));
            let v5::Packet::Publish(read) = v5::Packet::read(&mut bytes, None).unwrap() else {
                panic!("not a publish")
            };
            assert_eq!((&read.topic[..], read.payload.len(), bytes.len()), (&b"tilth/v1/f/n1/ack"[..], size, 0));

            put_publish(&mut bytes, false, ["tilth/v1", "f", "n1", "ack"], &vec![7; size]);
            let Packet::Publish(read) = Packet::read(&mut bytes, 1 << 20).unwrap() else { panic!("not a publish") };
            assert_eq!((read.topic.as_str(), read.payload.len()), ("tilth/v1/f/n1/ack", size));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn a_frame_larger_than_allowed_is_refused_at_its_header() {
        let mut frames = Frames::new(1000);
        frames.push(&[0x30, 0xff, 0xff, 0x7f]);
        assert!(matches!(frames.next(), Err(FrameError::TooLarge(2_097_151))));
    }

    #[test]
    fn no_buffer_is_held_between_frames() {
        let mut frames = Frames::new(1000);
        frames.push(&publish("a", QoS::AtMostOnce, 0, b"x"));
        assert!(frames.next().unwrap().is_some());
        assert!(frames.next().unwrap().is_none());
        assert_eq!((frames.chunk.len(), frames.partial.capacity()), (0, 0));
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_stream_is_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            cuts in prop::collection::vec(1_usize..400, 1..30),
        ) {
            let sent: Vec<Vec<u8>> = payloads.iter().enumerate()
                .map(|(i, payload)| publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, i as u16 + 1, payload)).collect();
            let stream = sent.concat();
            let mut frames = Frames::new(10_000);
            let mut received = Vec::new();
            let mut rest = stream.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                rest = later;
                frames.push(now);
                while let Some(frame) = frames.next().unwrap() {
                    received.push(frame);
                }
            }
            prop_assert_eq!(received.len(), sent.len());
            for (i, (frame, payload)) in received.iter().zip(&payloads).enumerate() {
                let head = frame.publish().unwrap();
                prop_assert_eq!(frame.topic(&head), "tilth/v1/f/n1/data");
                prop_assert_eq!((head.qos, usize::from(head.packet)), (1, i + 1));
                prop_assert_eq!(&frame.bytes[head.payload..], payload.as_slice());
            }
        }

        #[test]
        fn hostile_bytes_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let mut frames = Frames::new(200);
            'stream: for chunk in chunks {
                frames.push(&chunk);
                loop {
                    match frames.next() {
                        Ok(Some(frame)) => {
                            let _ = frame.packet_type();
                            let _ = frame.protocol();
                            if let Ok(head) = frame.publish() {
                                let _ = frame.topic(&head);
                                prop_assert!(head.payload <= frame.bytes.len());
                            }
                        }
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
            }
        }
    }
}
