//! Packets in: what a client publishes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use rumqttc::mqttbytes::PacketType;
use rumqttd::protocol::PublishProperties;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::debug;

use super::{Connection, End};
use crate::door::delivery::{Delivery, DeliveryKind, Ticket};
use crate::door::frames::{Frame, PublishHead};
use crate::door::metrics::{add, count};
use crate::door::mqtt5::{self, reason};
use crate::door::topics::Publishing;

/// The first byte of a PUBACK.
const PUBACK: u8 = 0x40;
/// The shortest pause of a client beyond its rate: after it, several of its packets pass at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Deals with every packet that has been read, as long as there is room for what follows from it.
    pub(super) fn take_packets(&mut self) -> Result<(), End> {
        while self.is_reading() {
            let Some(frame) = self.frames.next()? else {
                break;
            };
            self.last_heard = self.last_heard.max(self.read_at);
            self.take_packet(&frame)?;
            // A subscriber answers as often as it is written to.
            if frame.bytes[0] != PUBACK {
                self.charge(frame.bytes.len());
            }
        }
        Ok(())
    }

    /// Counts a packet against the client's rate. Beyond it the client is not read from for a while.
    fn charge(&mut self, bytes: usize) {
        let (rate, opened) = (&self.shared.client_rate, self.shared.opened);
        let mut spent = self.session.peer.spent();
        // The time of the last read is good enough while there is something left, and costs no look at the clock.
        if spent.charge(rate, self.read_at - opened, bytes).is_some() {
            let wait = spent.wait(rate, opened.elapsed());
            drop(spent);
            self.pause(wait);
        }
    }

    pub(super) fn pause(&mut self, wait: Option<Duration>) {
        if let Some(wait) = wait {
            count(&self.shared.metrics.pauses);
            self.paused_until = Some(Instant::now() + wait.max(SHORTEST_PAUSE));
        }
    }

    fn take_packet(&mut self, frame: &Frame) -> Result<(), End> {
        match frame.packet_type()? {
            PacketType::Publish => self.take_publish(frame),
            PacketType::PingReq => {
                self.out.put_slice(&[0xD0, 0]);
                Ok(())
            }
            PacketType::Subscribe => self.take_subscribe(frame),
            PacketType::Unsubscribe => self.take_unsubscribe(frame),
            PacketType::PubAck => self.take_puback(frame),
            // MQTT 5 says here whether the will goes out (3.14.2.1).
            PacketType::Disconnect if self.session.mqtt5.is_some() => match frame.bytes.get(frame.body()) {
                None | Some(0) => Err(End::Farewell),
                Some(_) => Err(End::FarewellWithWill),
            },
            PacketType::Disconnect => Err(End::Farewell),
            other => Err(End::Malformed(format!("{other:?} from a client"))),
        }
    }

    fn take_publish(&mut self, frame: &Frame) -> Result<(), End> {
        match &mut self.session.mqtt5 {
            None => {
                let head = frame.publish()?;
                let payload = frame.bytes.len() - head.payload;
                if payload > self.shared.max_payload {
                    return Err(End::Size(payload));
                }
                self.pass_on(frame, &head)
            }
            // Its CONNACK has named the largest packet, so its payload is within as well.
            Some(client) => {
                let (frame, head) = client.publish(frame)?;
                self.pass_on(&frame, &head)
            }
        }
    }

    fn pass_on(&mut self, frame: &Frame, head: &PublishHead) -> Result<(), End> {
        match self.session.identity.publishing(frame.topic(head), &self.shared.routes) {
            Publishing::Refused => self.refuse(frame, head),
            _ if head.qos == 2 => Err(End::Qos),
            Publishing::Pipeline(kind) => self.deliver(frame, head, kind),
            // Only the gateway says whether it is there.
            Publishing::Broker if self.shared.announced.holds(frame.topic(head)) => self.refuse(frame, head),
            Publishing::Broker => {
                count(&self.shared.metrics.publishes_to_broker);
                if self.session.mqtt5.is_some() {
                    return self.send_to_broker(&frame.bytes);
                }
                let bytes = mqtt5::with_properties(frame, head);
                self.send_to_broker(&bytes)
            }
        }
    }

    /// A publish that this client may not send ends its connection, but for MQTT 5's, whose PUBACK says so.
    fn refuse(&mut self, frame: &Frame, head: &PublishHead) -> Result<(), End> {
        let topic: String = frame.topic(head).chars().take(200).collect();
        if self.session.mqtt5.is_none() || head.qos != 1 {
            return Err(End::Topic(topic));
        }
        debug!(client = %self.session.name, %topic, "a publish refused");
        count(&self.shared.metrics.publishes_refused_topic);
        self.refused = Some(head.packet);
        self.say_refused();
        Ok(())
    }

    /// Answers a refused publish, once those before it are answered (MQTT 5, 4.6). Until then nothing more is read.
    pub(super) fn say_refused(&mut self) {
        if self.withheld == 0
            && let Some(packet) = self.refused.take()
        {
            mqtt5::put_refused_publish(&mut self.out, packet, reason::NOT_AUTHORIZED);
        }
    }

    /// Only messages from the broker are to be answered: the door's own have QoS 0.
    fn take_puback(&mut self, frame: &Frame) -> Result<(), End> {
        let body = frame.body();
        let Some(packet) = frame.bytes.get(body..body + 2) else {
            return Err(End::Malformed("a PUBACK without a packet id".to_owned()));
        };
        let packet = u16::from_be_bytes([packet[0], packet[1]]);
        if let Some(link) = &mut self.link {
            link.answered(packet);
        }
        Ok(())
    }

    fn deliver(&mut self, frame: &Frame, head: &PublishHead, kind: DeliveryKind) -> Result<(), End> {
        let Some(station) = self.session.sender.clone() else {
            return Err(End::Topic(frame.topic(head).to_owned()));
        };
        let topic = (kind == DeliveryKind::Foreign).then(|| Arc::from(frame.topic(head)));
        let payload = frame.bytes.slice(head.payload..);
        let metrics = &self.shared.metrics;
        count(&metrics.publishes);
        add(&metrics.publish_bytes, payload.len() as u64);
        if self.shared.broker.is_wanted() {
            self.hand_on(&frame.bytes[head.topic.clone()], &payload, mqtt5::for_broker(frame, head));
        }
        let ticket = if head.qos == 0 {
            Ticket::detached()
        } else {
            self.withheld += 1;
            self.withheld_bytes += payload.len();
            count(&metrics.deliveries_waiting_now);
            Ticket::withheld(Arc::clone(&self.session.peer.mailbox), head.packet)
        };
        let (packet, duplicate) = (head.packet, head.duplicate);
        match self.shared.deliveries.try_send(Delivery { station, kind, topic, payload, packet, duplicate, ticket }) {
            Ok(()) => Ok(()),
            Err(tokio::sync::mpsc::error::TrySendError::Full(delivery)) => {
                self.blocked = Some(delivery);
                Ok(())
            }
            Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => Err(End::Shutdown),
        }
    }

    /// Lets subscribers see a station's message. Copied, because the broker keeps it far longer than the pipeline does.
    pub(super) fn hand_on(&self, topic: &[u8], payload: &[u8], properties: Option<PublishProperties>) {
        if self.shared.broker.is_wanted() {
            self.shared.broker.hand_on(Bytes::copy_from_slice(topic), Bytes::copy_from_slice(payload), properties);
        }
    }
}
