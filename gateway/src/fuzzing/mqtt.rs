//! What any client may send to the door.

use bytes::BytesMut;
use proto::{FarmId, StationId};
use rumqttc::mqttbytes::PacketType;
use rumqttc::v5::mqttbytes::v5;
use rumqttd::protocol::{Packet, Protocol as _, v5::V5};

use crate::decode::source::Routes;
use crate::door::connection::subscribing::{subscribe, unsubscribe};
use crate::door::frames::{Frame, Frames};
use crate::door::handshake::Hello;
use crate::door::mqtt5::{Client5, for_broker, put_without_properties, with_properties};
use crate::door::topics::{Identity, Publishing, Subscribing};

/// The largest packet.
const MAX_FRAME: usize = 64 * 1024;

/// A stream of MQTT 3.1.1 packets that comes in pieces; the first byte says how large they are.
pub fn mqtt_frames(bytes: &[u8]) {
    let clients = Clients::new();
    packets(bytes, |frame| match frame.packet_type() {
        Ok(PacketType::Publish) => {
            let Ok(head) = frame.publish() else { return };
            let (topic, payload) = (frame.topic(&head), &frame.bytes[head.payload..]);
            if clients.publishes(topic) && head.qos < 2 {
                let packet = to_broker(&with_properties(frame, &head));
                assert_eq!(packet, Some((topic.as_bytes().to_vec(), payload.to_vec())));
            }
        }
        Ok(PacketType::Connect) => drop(Hello::read(frame)),
        Ok(PacketType::Subscribe) => clients.subscribe(frame, false),
        Ok(PacketType::Unsubscribe) => drop(unsubscribe(frame, false)),
        _ => {}
    });
}

/// The same of MQTT 5: a client with its topic aliases. What goes on to the broker, and from there to a client that speaks
/// 3.1.1, is the same message.
pub fn mqtt5_frames(bytes: &[u8]) {
    let clients = Clients::new();
    let mut client = Client5::new(None);
    packets(bytes, |frame| match frame.packet_type() {
        Ok(PacketType::Connect) => {
            if let Ok(Hello { mqtt5: Some(other), .. }) = Hello::read(frame) {
                client = other;
            }
        }
        Ok(PacketType::Publish) => {
            let Ok((whole, head)) = client.publish(frame) else { return };
            let (topic, payload) = (whole.topic(&head).to_owned(), whole.bytes[head.payload..].to_vec());
            assert!(!topic.is_empty() && frame.bytes.ends_with(&payload));
            let properties = for_broker(&whole, &head);
            assert!(properties.is_none_or(|properties| properties.topic_alias.is_none()));
            let mut older = BytesMut::new();
            assert!(put_without_properties(&mut older, &whole).is_ok());
            let again = first(&older);
            let head = again.publish().unwrap_or_else(|error| unreachable!("{error}"));
            assert_eq!((again.topic(&head), &again.bytes[head.payload..]), (topic.as_str(), payload.as_slice()));
            if clients.publishes(&topic) && head.qos < 2 {
                assert_eq!(to_broker(&whole.bytes), Some((topic.into_bytes(), payload)));
            }
        }
        Ok(PacketType::Subscribe) => clients.subscribe(frame, true),
        Ok(PacketType::Unsubscribe) => drop(unsubscribe(frame, true)),
        _ => {}
    });
}

/// Cuts a stream into packets, until something is none.
fn packets(bytes: &[u8], mut each: impl FnMut(&Frame)) {
    let Some((size, stream)) = bytes.split_first() else { return };
    let mut frames = Frames::new(MAX_FRAME);
    let mut packets = 0;
    for piece in stream.chunks(usize::from(*size).max(1)) {
        frames.push(piece);
        loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    packets += 1;
                    let _ = frame.protocol();
                    each(&frame);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert!(packets <= stream.len() / 2, "a packet has two bytes or more");
}

fn first(bytes: &[u8]) -> Frame {
    let mut frames = Frames::new(2 * MAX_FRAME);
    frames.push(bytes);
    match frames.next() {
        Ok(Some(frame)) => frame,
        other => unreachable!("{other:?}"),
    }
}

/// Topic and payload as the broker behind the door reads them.
fn to_broker(packet: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    match V5.read_mut(&mut BytesMut::from(packet), 2 * MAX_FRAME) {
        Ok(Packet::Publish(publish, _)) => Some((publish.topic.to_vec(), publish.payload.to_vec())),
        other => panic!("the broker reads {other:?}"),
    }
}

/// One client of each kind.
struct Clients {
    routes: Routes,
    all: [Identity; 3],
}

impl Clients {
    fn new() -> Self {
        let name = |name: &str| name.parse::<StationId>().unwrap_or_else(|_| unreachable!("{name} is a name"));
        let farm: FarmId = "f".parse().unwrap_or_else(|_| unreachable!("f is a name"));
        let topics = vec!["spBv1.0/#".to_owned(), "a/+/b".to_owned()];
        Self {
            routes: Routes::new(&super::configs("[[source]]\nkind = \"sparkplug\"")),
            all: [Identity::station(&farm, &name("n1")), Identity::Program, Identity::Bridge { topics: topics.into() }],
        }
    }

    /// Whether what one of them publishes on a topic goes to the broker.
    fn publishes(&self, topic: &str) -> bool {
        self.all.iter().any(|client| matches!(client.publishing(topic, &self.routes), Publishing::Broker))
    }

    fn subscribe(&self, frame: &Frame, mqtt5: bool) {
        let Ok((pkid, asked)) = subscribe(frame, mqtt5) else { return };
        let served = |filter: &v5::Filter| {
            let place = |client: &Identity| client.subscribing(&filter.path, &self.routes);
            self.all.iter().any(|client| matches!(place(client), Subscribing::Broker { .. }))
        };
        let filters: Vec<_> = asked.into_iter().filter(served).collect();
        let mut packet = BytesMut::new();
        if !filters.is_empty() && (v5::Subscribe { pkid, filters, properties: None }).write(&mut packet).is_ok() {
            let read = V5.read_mut(&mut packet, 2 * MAX_FRAME);
            assert!(matches!(read, Ok(Packet::Subscribe(..))), "the broker reads {read:?}");
        }
    }
}
