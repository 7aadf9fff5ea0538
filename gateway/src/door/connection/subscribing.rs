//! A client's subscriptions, and its way to the broker.

use bytes::{BufMut, BytesMut};
use proto::TopicKind;
use rumqttc::mqttbytes::v4::{Subscribe, SubscribeFilter, Unsubscribe};
use rumqttc::mqttbytes::{PacketType, QoS};
use rumqttc::v5::mqttbytes::{QoS as QoS5, v5};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::debug;

use super::{Connection, End, LINK_PING, PendingSubscribe};
use crate::broker::PROBE_TOPIC;
use crate::door::frames::{self, Frame, FrameError, put_length};
use crate::door::link::Link;
use crate::door::metrics::count;
use crate::door::mqtt5::{self, reason};
use crate::door::topics::Subscribing;

/// Subscriptions of one client at the broker, which keeps a log for each.
const MAX_FILTERS: usize = 64;
/// The longest topic filter, in bytes.
const MAX_FILTER_BYTES: usize = 512;
/// SUBSCRIBEs of one client that wait for the broker. With more, its connection ends.
const MAX_PENDING_SUBSCRIBES: usize = 64;
/// The answer to a filter that is refused, in MQTT 3.1.1.
const FAILURE: u8 = 0x80;

/// A filter that a client asks for. In MQTT 3.1.1 it has no other options than its QoS.
type Asked = v5::Filter;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    fn open_link(&mut self) -> &mut Link {
        let shared = &self.shared;
        let next_ping = &mut self.next_link_ping;
        self.link.get_or_insert_with(|| {
            *next_ping = Instant::now() + LINK_PING;
            Box::new(Link::open(&shared.broker, &shared.slots, shared.max_frame(), &shared.metrics))
        })
    }

    /// Sends a packet to the broker. A program waits while the broker is behind; a station must not.
    pub(super) fn send_to_broker(&mut self, packet: &[u8]) -> Result<(), End> {
        let station = self.session.peer.station.is_some();
        let link = self.open_link();
        link.send(packet);
        if station && link.is_full() {
            return Err(End::Broker(std::io::Error::other("the broker is behind")));
        }
        Ok(())
    }

    pub(super) fn take_subscribe(&mut self, frame: &Frame) -> Result<(), End> {
        let (packet, asked) = subscribe(frame, self.session.mqtt5.is_some())?;
        let (mut answers, mut for_broker) = (Vec::with_capacity(asked.len()), Vec::new());
        for filter in asked {
            answers.push(match self.place(&filter) {
                Ok(Subscribing::Door(kind)) => {
                    self.session.peer.subscribe(kind);
                    Some(0)
                }
                // The door passes no QoS 2.
                Ok(_) => {
                    let qos = if filter.qos == QoS5::AtMostOnce { filter.qos } else { QoS5::AtLeastOnce };
                    for_broker.push(Asked { qos, ..filter });
                    None
                }
                Err(reason) => {
                    debug!(client = %self.session.name, filter = %filter.path, reason, "subscription refused");
                    count(&self.shared.metrics.subscriptions_refused);
                    Some(if self.session.mqtt5.is_some() { reason } else { FAILURE })
                }
            });
        }
        let filters = for_broker.iter().map(|filter: &Asked| filter.path.clone()).collect();
        let pending = PendingSubscribe { packet, answers, filters };
        if for_broker.is_empty() {
            self.answer(pending, &[]);
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING_SUBSCRIBES {
            return Err(End::Malformed(format!("{MAX_PENDING_SUBSCRIBES} SUBSCRIBEs without waiting for an answer")));
        }
        self.pending.push_back(pending);
        let mut bytes = BytesMut::new();
        let subscribe = v5::Subscribe { pkid: packet, filters: for_broker, properties: None };
        subscribe.write(&mut bytes).map_err(|error| End::Malformed(error.to_string()))?;
        self.send_to_broker(&bytes)
    }

    /// Where a filter is served; one at the broker is noted. Else MQTT 5's reason why not.
    fn place(&mut self, filter: &Asked) -> Result<Subscribing, u8> {
        if filter.path.starts_with("$share/") {
            return Err(reason::SHARED);
        }
        if filter.path.len() > MAX_FILTER_BYTES {
            return Err(reason::QUOTA);
        }
        if filter.nolocal {
            // The broker has no such thing.
            return Err(reason::IMPLEMENTATION);
        }
        let place = self.session.identity.subscribing(&filter.path, &self.shared.routes);
        match place {
            Subscribing::Door(_) => Ok(place),
            Subscribing::Broker { stations } if self.add_filter(&filter.path, stations) => Ok(place),
            Subscribing::Broker { .. } => Err(reason::QUOTA),
            Subscribing::Refused if rumqttc::mqttbytes::valid_filter(&filter.path) => Err(reason::NOT_AUTHORIZED),
            Subscribing::Refused => Err(reason::FILTER),
        }
    }

    /// Notes a filter at the broker; false when there are too many.
    fn add_filter(&mut self, path: &str, stations: bool) -> bool {
        if !self.filters.iter().any(|(filter, _)| filter == path) {
            if self.filters.len() >= MAX_FILTERS {
                return false;
            }
            self.filters.push((path.to_owned(), stations));
        }
        if stations && self.watching.is_none() {
            self.watching = Some(self.shared.broker.watching());
        }
        true
    }

    /// Sends a SUBACK, with the broker's answers where they belong.
    fn answer(&mut self, pending: PendingSubscribe, from_broker: &[u8]) {
        let mqtt5 = self.session.mqtt5.is_some();
        let mut from_broker = from_broker.iter().copied();
        let answers =
            pending.answers.into_iter().map(|answer| answer.or_else(|| from_broker.next()).unwrap_or(FAILURE));
        put_answers(&mut self.out, 0x90, pending.packet, mqtt5, answers);
        self.shared.announced.matching(&pending.filters, |topic, payload| {
            frames::put_retained(&mut self.out, mqtt5, topic, payload);
        });
    }

    /// Answered here: rumqttd answers an UNSUBSCRIBE once for each filter, and not at all for one that it does not know.
    pub(super) fn take_unsubscribe(&mut self, frame: &Frame) -> Result<(), End> {
        let mqtt5 = self.session.mqtt5.is_some();
        let (packet, topics) = unsubscribe(frame, mqtt5)?;
        let (mut answers, mut for_broker) = (Vec::with_capacity(topics.len()), Vec::new());
        for path in topics {
            let had = match self.session.identity.subscribing(&path, &self.shared.routes) {
                Subscribing::Door(kind @ (TopicKind::Ack | TopicKind::Command)) => self.session.peer.unsubscribe(kind),
                _ => match self.filters.iter().position(|(filter, _)| *filter == path) {
                    Some(at) => {
                        self.filters.swap_remove(at);
                        for_broker.push(path);
                        true
                    }
                    None => false,
                },
            };
            answers.push(if had { 0 } else { reason::NO_SUBSCRIPTION });
        }
        if !self.filters.iter().any(|&(_, stations)| stations) {
            self.watching = None;
        }
        put_answers(&mut self.out, 0xB0, packet, mqtt5, mqtt5.then_some(answers).into_iter().flatten());
        if for_broker.is_empty() {
            return Ok(());
        }
        let mut bytes = BytesMut::new();
        let unsubscribe = v5::Unsubscribe { pkid: packet, filters: for_broker, properties: None };
        unsubscribe.write(&mut bytes).map_err(|error| End::Malformed(error.to_string()))?;
        self.send_to_broker(&bytes)
    }

    /// Passes on what the broker sends.
    pub(super) fn take_from_broker(&mut self, frame: &Frame) -> Result<(), End> {
        let nonsense = |what: &str| End::Broker(std::io::Error::other(what.to_owned()));
        let kind = frame.header.packet_type().map_err(FrameError::from)?;
        let body = frame.body();
        let packet = frame.bytes.get(body..body + 2).unwrap_or(&[0, 0]);
        let packet = u16::from_be_bytes([packet[0], packet[1]]);
        match kind {
            PacketType::Publish => self.take_message(frame)?,
            PacketType::PubAck => self.out.put_slice(&mqtt5::puback(packet)),
            PacketType::SubAck => {
                // The broker sends no properties, so one byte says that there are none.
                let answers = frame.bytes.get(body + 3..).unwrap_or_default();
                let at = self.pending.iter().position(|pending| pending.packet == packet);
                let pending =
                    at.and_then(|at| self.pending.remove(at)).ok_or_else(|| nonsense("a SUBACK for nothing"))?;
                self.answer(pending, answers);
            }
            PacketType::UnsubAck | PacketType::PingResp => {}
            other => return Err(nonsense(&format!("{other:?} from the broker"))),
        }
        Ok(())
    }

    /// Passes on a message. One that is larger than the client takes is left out, as if it had taken it (MQTT 5,
    /// 3.1.2.11.4), and so are the watchdog's.
    fn take_message(&mut self, frame: &Frame) -> Result<(), End> {
        let head = frame.publish()?;
        let most = self.session.mqtt5.as_ref().map_or(usize::MAX, |client| client.max_packet as usize);
        let left_out = frame.bytes.len() > most || frame.topic(&head) == PROBE_TOPIC;
        if head.qos > 0
            && let Some(link) = &mut self.link
        {
            link.passed_on(head.packet, left_out);
        }
        match &self.session.mqtt5 {
            _ if left_out => {}
            Some(_) => self.out.extend_from_slice(&frame.bytes),
            None => mqtt5::put_without_properties(&mut self.out, frame)?,
        }
        Ok(())
    }
}

/// Reads a SUBSCRIBE of either version: its packet id, and the filters.
pub(crate) fn subscribe(frame: &Frame, mqtt5: bool) -> Result<(u16, Vec<Asked>), End> {
    let (packet, asked) = if mqtt5 {
        let read =
            v5::check(frame.bytes.iter(), None).and_then(|header| v5::Subscribe::read(header, frame.bytes.clone()));
        let v5::Subscribe { pkid, filters, properties } = read.map_err(|error| End::Malformed(error.to_string()))?;
        if properties.is_some_and(|properties| properties.id.is_some()) {
            return Err(End::Malformed("a subscription identifier".to_owned()));
        }
        (pkid, filters)
    } else {
        let Subscribe { pkid, filters } =
            Subscribe::read(frame.header, frame.bytes.clone()).map_err(FrameError::from)?;
        let asked = |SubscribeFilter { path, qos }| {
            Asked::new(path, if qos == QoS::AtMostOnce { QoS5::AtMostOnce } else { QoS5::AtLeastOnce })
        };
        (pkid, filters.into_iter().map(asked).collect())
    };
    if packet == 0 { Err(End::Malformed("SUBSCRIBE with packet id 0".to_owned())) } else { Ok((packet, asked)) }
}

/// Reads an UNSUBSCRIBE of either version: its packet id, and the filters.
pub(crate) fn unsubscribe(frame: &Frame, mqtt5: bool) -> Result<(u16, Vec<String>), End> {
    let (packet, topics) = if mqtt5 {
        let read =
            v5::check(frame.bytes.iter(), None).and_then(|header| v5::Unsubscribe::read(header, frame.bytes.clone()));
        let read = read.map_err(|error| End::Malformed(error.to_string()))?;
        (read.pkid, read.filters)
    } else {
        let read = Unsubscribe::read(frame.header, frame.bytes.clone()).map_err(FrameError::from)?;
        (read.pkid, read.topics)
    };
    if packet == 0 || topics.is_empty() {
        return Err(End::Malformed("UNSUBSCRIBE without a packet id or a filter".to_owned()));
    }
    Ok((packet, topics))
}

/// Writes a SUBACK or UNSUBACK: an answer for each filter.
fn put_answers(out: &mut BytesMut, first: u8, packet: u16, mqtt5: bool, answers: impl Iterator<Item = u8>) {
    let answers: Vec<u8> = answers.collect();
    out.put_u8(first);
    put_length(out, 2 + usize::from(mqtt5) + answers.len());
    out.put_u16(packet);
    if mqtt5 {
        out.put_u8(0);
    }
    out.put_slice(&answers);
}
