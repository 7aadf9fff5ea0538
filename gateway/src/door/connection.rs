//! One client that is let in: its packets in, its PUBACKs and messages out, in one task.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proto::{StationId, TopicKind};
use rumqttc::mqttbytes::v4::{LastWill, SubAck, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe};
use rumqttc::mqttbytes::{PacketType, QoS};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::Shared;
use super::delivery::{Delivery, DeliveryKind, Ticket};
use super::frames::{self, Frame, FrameError, Frames, PublishHead};
use super::link::Link;
use super::metrics::{add, count, subtract};
use super::outbox::Peer;
use super::socket::{self, Step};
use super::topics::{Identity, Publishing, Subscribing};
use crate::broker::Watching;

/// Publishes of one client that wait for their commit. A client that has as many is not read from until the store has
/// caught up: back-pressure that TCP carries to it.
const MAX_WITHHELD: u32 = 1_024;
/// Bytes of payload of one client that wait for their commit, likewise.
const MAX_WITHHELD_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that wait to be written to a client. With more, nothing is read from it or from the broker for it.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;
/// A write buffer that has grown beyond this is given back when it is empty.
const KEPT_WRITE_BYTES: usize = 16 * 1024;
/// A client that takes nothing of what is written for as long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the last bytes to a client whose connection ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Time between two pings on the way to the broker.
const LINK_PING: Duration = Duration::from_secs(600);
/// Subscriptions of one client at the broker, which keeps a log for each.
const MAX_FILTERS: usize = 64;
/// The longest topic filter, in bytes.
const MAX_FILTER_BYTES: usize = 512;
/// SUBSCRIBEs of one client that wait for the broker. With more, its connection ends.
const MAX_PENDING_SUBSCRIBES: usize = 64;
/// The shortest pause of a client beyond its rate: after it, several of its packets pass at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// The first byte of a PUBACK.
const PUBACK: u8 = 0x40;
/// How long nothing to wait for is waited for.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// What the handshake has found out about a client.
pub(crate) struct Session {
    /// Its name in logs.
    pub name: String,
    /// Its key among the clients.
    pub key: String,
    /// What it may publish and subscribe to.
    pub identity: Identity,
    /// How the others see it.
    pub peer: Arc<Peer>,
    /// Whose name its deliveries bear: a station's own, or a bridge's.
    pub sender: Option<Arc<StationId>>,
    /// After how much silence it is gone; `None` when it did not say.
    pub patience: Option<Duration>,
    /// What is to be published when it goes without a farewell.
    pub will: Option<LastWill>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("it said goodbye")]
    Farewell,
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("nothing came from it for {0:?}")]
    Silent(Duration),
    #[error("it took nothing for {WRITE_TIMEOUT:?}")]
    Stuck,
    #[error("it connected again")]
    TakenOver,
    #[error("what it sent is no MQTT 3.1.1: {0}")]
    Malformed(String),
    #[error("it may not publish {0:?}")]
    Topic(String),
    #[error("it published {0} bytes")]
    Size(usize),
    #[error("it published with QoS 2")]
    Qos,
    #[error("what it sent could not be stored")]
    NotStored,
    #[error("its way to the broker broke: {0}")]
    Broker(std::io::Error),
    #[error("the gateway stops")]
    Shutdown,
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::TooLarge(bytes) => Self::Size(bytes),
            FrameError::Malformed(error) => Self::Malformed(error.to_string()),
        }
    }
}

/// A SUBSCRIBE that the broker has a part in: the answers known, `None` where its own belong, and the filters of those.
struct PendingSubscribe {
    packet: u16,
    answers: Vec<Option<SubscribeReasonCode>>,
    filters: Vec<String>,
}

/// A connection of a client that is let in.
pub(crate) struct Connection<S> {
    shared: Arc<Shared>,
    session: Session,
    socket: S,
    frames: Frames,
    out: BytesMut,
    flushing: bool,
    /// Publishes handed to the pipeline whose PUBACK is withheld.
    withheld: u32,
    /// Their bytes, counted up since there were none.
    withheld_bytes: usize,
    /// A delivery that the pipeline has no room for.
    blocked: Option<Delivery>,
    link: Option<Box<Link>>,
    /// Filters at the broker, and whether stations' messages match them.
    filters: Vec<(String, bool)>,
    watching: Option<Watching>,
    pending: VecDeque<PendingSubscribe>,
    last_heard: Instant,
    /// The client has sent more than its rate: until when it is not read from.
    paused_until: Option<Instant>,
    /// Since when the client takes nothing.
    stuck_since: Option<Instant>,
    next_link_ping: Instant,
    /// When the wait for outstanding commits ends, once the door closes.
    drain_until: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// A connection whose CONNECT has been read; `frames` may hold what came with it, `out` holds its CONNACK.
    pub fn new(shared: Arc<Shared>, session: Session, socket: S, frames: Frames, out: BytesMut) -> Self {
        let now = Instant::now();
        Self {
            shared,
            session,
            socket,
            frames,
            out,
            flushing: false,
            withheld: 0,
            withheld_bytes: 0,
            blocked: None,
            link: None,
            filters: Vec::new(),
            watching: None,
            pending: VecDeque::new(),
            last_heard: now,
            paused_until: None,
            stuck_since: None,
            next_link_ping: now + FAR,
            drain_until: None,
        }
    }

    /// Serves the client to its end.
    pub async fn run(mut self) {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let name = &self.session.name;
        let metrics = &self.shared.metrics;
        match &end {
            End::Silent(_) => count(&metrics.keep_alive_timeouts),
            End::Stuck => count(&metrics.write_timeouts),
            End::TakenOver => count(&metrics.takeovers),
            End::Malformed(_) => count(&metrics.closed_malformed),
            End::Topic(_) => count(&metrics.publishes_refused_topic),
            End::Size(_) => count(&metrics.publishes_refused_size),
            End::Qos => count(&metrics.publishes_refused_qos),
            End::NotStored => count(&metrics.closed_not_stored),
            End::Broker(_) => count(&metrics.closed_broker),
            End::Farewell | End::Closed | End::Io(_) | End::Shutdown => {}
        }
        match &end {
            End::Farewell | End::Closed | End::Shutdown | End::Io(_) | End::Silent(_) => {
                debug!(client = %name, "closed: {end}")
            }
            _ => warn!(client = %name, "closed: {end}"),
        }
        self.shared.clients.leave(&self.session.key, &self.session.peer, self.shared.now());
        // PUBACKs released until now still go, as far as the client takes them.
        self.collect();
        subtract(&self.shared.metrics.deliveries_waiting_now, u64::from(self.withheld));
        let _ = timeout(FAREWELL, self.say_farewell()).await;
        if !matches!(end, End::Farewell | End::TakenOver | End::Shutdown) {
            self.deliver_will().await;
        }
    }

    async fn say_farewell(&mut self) -> std::io::Result<()> {
        while !self.out.is_empty() || self.flushing {
            socket::step(&mut self.socket, &mut self.out, &mut self.flushing, None).await?;
        }
        tokio::io::AsyncWriteExt::shutdown(&mut self.socket).await
    }

    /// Publishes the last will: a station's as its status, a program's at the broker.
    async fn deliver_will(&mut self) {
        let Some(will) = self.session.will.take() else {
            return;
        };
        let place = self.session.identity.publishing(&will.topic, &self.shared.routes);
        if let (Publishing::Pipeline(kind), Some(station)) = (place, self.session.sender.clone()) {
            count(&self.shared.metrics.wills);
            self.hand_on(will.topic.as_bytes(), &will.message);
            let topic = (kind == DeliveryKind::Foreign).then(|| Arc::from(will.topic.as_str()));
            let (payload, ticket) = (will.message, Ticket::detached());
            let delivery = Delivery { station, kind, topic, payload, packet: 0, duplicate: false, ticket };
            // Fails only when the pipeline has gone: nobody is left to hear it.
            let _ = self.shared.deliveries.send(delivery).await;
        } else {
            self.shared.broker.hand_on(Bytes::from(will.topic), will.message);
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let shared = Arc::clone(&self.shared);
        let mailbox = Arc::clone(&self.session.peer.mailbox);
        let mut shutdown = pin!(shared.shutdown.cancelled());
        // What its last connection had sent counts.
        let wait = self.session.peer.spent().wait(&shared.client_rate, shared.now());
        self.pause(wait);
        let mut timer = pin!(sleep_until(self.deadline()));
        loop {
            self.take_mail()?;
            self.take_packets()?;
            if self.drain_until.is_some()
                && self.blocked.is_none()
                && self.withheld == 0
                && self.out.is_empty()
                && !self.flushing
            {
                return Err(End::Shutdown);
            }
            let deadline = self.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            let reading = self.is_reading();
            let roomy = self.out.len() < MAX_UNWRITTEN_BYTES;
            let gone = self.link.as_ref().map(|link| link.instance.given_up.clone());
            tokio::select! {
                biased;
                () = mailbox.woken() => {}
                stepped = socket::step(&mut self.socket, &mut self.out, &mut self.flushing, reading.then_some(&mut self.frames)) => {
                    if stepped? == Step::End {
                        return Err(End::Closed);
                    }
                    self.stuck_since = None;
                    if reading {
                        self.last_heard = Instant::now();
                    }
                }
                permit = shared.deliveries.reserve(), if self.blocked.is_some() => {
                    let (Ok(permit), Some(delivery)) = (permit, self.blocked.take()) else { return Err(End::Shutdown) };
                    permit.send(delivery);
                }
                frame = next_of(&mut self.link), if self.link.is_some() && roomy && self.drain_until.is_none() => {
                    self.take_from_broker(&frame.map_err(End::Broker)?)?;
                }
                () = given_up(gone.as_ref()), if gone.is_some() => {
                    return Err(End::Broker(std::io::Error::other("the broker is started again")));
                }
                () = shutdown.as_mut(), if self.drain_until.is_none() => {
                    self.drain_until = Some(Instant::now() + shared.drain_timeout);
                }
                () = timer.as_mut() => {
                    self.check_times()?;
                    timer.as_mut().reset(self.deadline());
                }
            }
            if !self.out.is_empty() {
                self.stuck_since.get_or_insert_with(Instant::now);
            } else if self.out.capacity() > KEPT_WRITE_BYTES {
                self.out = BytesMut::new();
            }
        }
    }

    /// Whether the client is read from now.
    fn is_reading(&self) -> bool {
        self.drain_until.is_none()
            && self.blocked.is_none()
            && self.paused_until.is_none()
            && self.withheld < MAX_WITHHELD
            && self.withheld_bytes < MAX_WITHHELD_BYTES
            && self.out.len() < MAX_UNWRITTEN_BYTES
            && !self.link.as_ref().is_some_and(|link| link.is_full())
    }

    /// When [`Self::check_times`] has something to look at.
    fn deadline(&self) -> Instant {
        let mut deadline = self.next_link_ping;
        if let Some(patience) = self.session.patience {
            deadline = deadline.min(self.last_heard + patience);
        }
        if let Some(since) = self.stuck_since {
            deadline = deadline.min(since + WRITE_TIMEOUT);
        }
        if let Some(until) = self.drain_until {
            deadline = deadline.min(until);
        }
        if let Some(until) = self.paused_until {
            deadline = deadline.min(until);
        }
        deadline
    }

    fn check_times(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.drain_until.is_some_and(|until| until <= now) {
            return Err(End::Shutdown);
        }
        if self.stuck_since.is_some_and(|since| since + WRITE_TIMEOUT <= now) {
            return Err(End::Stuck);
        }
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        if let Some(patience) = self.session.patience
            && self.last_heard + patience <= now
        {
            if self.is_reading() {
                return Err(End::Silent(patience));
            }
            // It may have spoken; it is the door that does not listen.
            self.last_heard = now;
        }
        if self.next_link_ping <= now {
            self.next_link_ping = now + FAR;
            if let Some(link) = &mut self.link {
                link.ping();
                self.next_link_ping = now + LINK_PING;
            }
        }
        Ok(())
    }

    /// Takes released PUBACKs and messages, and what others want of this connection.
    fn take_mail(&mut self) -> Result<(), End> {
        let contents = self.collect();
        if contents.taken_over {
            return Err(End::TakenOver);
        }
        if contents.abandoned { Err(End::NotStored) } else { Ok(()) }
    }

    fn collect(&mut self) -> super::mailbox::Contents {
        let mut contents = self.session.peer.mailbox.take();
        if self.out.is_empty() {
            std::mem::swap(&mut self.out, &mut contents.frames);
        } else {
            self.out.extend_from_slice(&contents.frames);
        }
        if contents.acknowledged > 0 {
            let metrics = &self.shared.metrics;
            add(&metrics.pubacks, u64::from(contents.acknowledged));
            subtract(&metrics.deliveries_waiting_now, u64::from(contents.acknowledged));
            self.withheld -= contents.acknowledged;
            if self.withheld == 0 {
                self.withheld_bytes = 0;
            }
        }
        contents
    }

    /// Deals with every packet that has been read, as long as there is room for what follows from it.
    fn take_packets(&mut self) -> Result<(), End> {
        while self.is_reading() {
            let Some(frame) = self.frames.next()? else {
                break;
            };
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
        if spent.charge(rate, self.last_heard - opened, bytes).is_some() {
            let wait = spent.wait(rate, opened.elapsed());
            drop(spent);
            self.pause(wait);
        }
    }

    fn pause(&mut self, wait: Option<Duration>) {
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
            PacketType::Subscribe => {
                let subscribe = Subscribe::read(frame.header, frame.bytes.clone()).map_err(FrameError::from)?;
                self.take_subscribe(subscribe)
            }
            PacketType::Unsubscribe => {
                let unsubscribe = Unsubscribe::read(frame.header, frame.bytes.clone()).map_err(FrameError::from)?;
                self.take_unsubscribe(unsubscribe)
            }
            PacketType::PubAck => {
                // The door itself sends QoS 0 only.
                if let Some(link) = &mut self.link {
                    link.send(&frame.bytes);
                }
                Ok(())
            }
            PacketType::Disconnect => Err(End::Farewell),
            other => Err(End::Malformed(format!("{other:?} from a client"))),
        }
    }

    fn take_publish(&mut self, frame: &Frame) -> Result<(), End> {
        let head = frame.publish()?;
        let payload = frame.bytes.len() - head.payload;
        if payload > self.shared.max_payload {
            return Err(End::Size(payload));
        }
        match self.session.identity.publishing(frame.topic(&head), &self.shared.routes) {
            Publishing::Refused => Err(End::Topic(frame.topic(&head).chars().take(200).collect())),
            _ if head.qos == 2 => Err(End::Qos),
            Publishing::Pipeline(kind) => self.deliver(frame, &head, kind),
            // Only the gateway says whether it is there.
            Publishing::Broker if self.shared.announced.holds(frame.topic(&head)) => {
                Err(End::Topic(frame.topic(&head).to_owned()))
            }
            Publishing::Broker => {
                count(&self.shared.metrics.publishes_to_broker);
                self.open_link().send(&frame.bytes);
                self.check_link()
            }
        }
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
            self.hand_on(&frame.bytes[head.topic.clone()], &payload);
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
    fn hand_on(&self, topic: &[u8], payload: &[u8]) {
        if self.shared.broker.is_wanted() {
            self.shared.broker.hand_on(Bytes::copy_from_slice(topic), Bytes::copy_from_slice(payload));
        }
    }

    fn open_link(&mut self) -> &mut Link {
        let shared = &self.shared;
        let next_ping = &mut self.next_link_ping;
        self.link.get_or_insert_with(|| {
            *next_ping = Instant::now() + LINK_PING;
            Box::new(Link::open(&shared.broker, &shared.slots, shared.max_frame(), &shared.metrics))
        })
    }

    /// A program waits while the broker is behind; a station must not.
    fn check_link(&self) -> Result<(), End> {
        let full = self.link.as_ref().is_some_and(|link| link.is_full());
        if full && self.session.peer.station.is_some() {
            return Err(End::Broker(std::io::Error::other("the broker is behind")));
        }
        Ok(())
    }

    fn take_subscribe(&mut self, subscribe: Subscribe) -> Result<(), End> {
        if subscribe.pkid == 0 {
            return Err(End::Malformed("SUBSCRIBE with packet id 0".to_owned()));
        }
        let mut answers = Vec::with_capacity(subscribe.filters.len());
        let mut for_broker = Vec::new();
        for SubscribeFilter { path, qos } in subscribe.filters {
            let place = if path.len() > MAX_FILTER_BYTES {
                Subscribing::Refused
            } else {
                self.session.identity.subscribing(&path, &self.shared.routes)
            };
            answers.push(match place {
                Subscribing::Door(kind) => {
                    self.session.peer.subscribe(kind);
                    Some(SubscribeReasonCode::Success(QoS::AtMostOnce))
                }
                Subscribing::Broker { stations } if self.add_filter(&path, stations) => {
                    for_broker.push(SubscribeFilter::new(path, granted(qos)));
                    None
                }
                Subscribing::Broker { .. } | Subscribing::Refused => {
                    debug!(client = %self.session.name, filter = %path, "subscription refused");
                    count(&self.shared.metrics.subscriptions_refused);
                    Some(SubscribeReasonCode::Failure)
                }
            });
        }
        let filters = for_broker.iter().map(|filter: &SubscribeFilter| filter.path.clone()).collect();
        let pending = PendingSubscribe { packet: subscribe.pkid, answers, filters };
        if for_broker.is_empty() {
            return self.answer(pending, &[]);
        }
        if self.pending.len() >= MAX_PENDING_SUBSCRIBES {
            return Err(End::Malformed(format!("{MAX_PENDING_SUBSCRIBES} SUBSCRIBEs without waiting for an answer")));
        }
        self.pending.push_back(pending);
        let mut packet = BytesMut::new();
        let subscribe = Subscribe { pkid: subscribe.pkid, filters: for_broker };
        subscribe.write(&mut packet).map_err(FrameError::from)?;
        self.open_link().send(&packet);
        self.check_link()
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
    fn answer(&mut self, pending: PendingSubscribe, from_broker: &[SubscribeReasonCode]) -> Result<(), End> {
        let mut from_broker = from_broker.iter().copied();
        let answers = pending
            .answers
            .into_iter()
            .map(|answer| answer.or_else(|| from_broker.next()).unwrap_or(SubscribeReasonCode::Failure))
            .collect();
        SubAck::new(pending.packet, answers).write(&mut self.out).map_err(FrameError::from)?;
        self.shared.announced.matching(&pending.filters, |topic, payload| {
            frames::put_retained(&mut self.out, topic, payload);
        });
        Ok(())
    }

    /// Answered here: rumqttd answers an UNSUBSCRIBE once for each filter, and not at all for one that it does not know.
    fn take_unsubscribe(&mut self, unsubscribe: Unsubscribe) -> Result<(), End> {
        let mut for_broker = Vec::new();
        for path in unsubscribe.topics {
            match self.session.identity.subscribing(&path, &self.shared.routes) {
                Subscribing::Door(kind @ (TopicKind::Ack | TopicKind::Command)) => self.session.peer.unsubscribe(kind),
                _ => {
                    if let Some(at) = self.filters.iter().position(|(filter, _)| *filter == path) {
                        self.filters.swap_remove(at);
                        for_broker.push(path);
                    }
                }
            }
        }
        if !self.filters.iter().any(|&(_, stations)| stations) {
            self.watching = None;
        }
        self.out.put_slice(&[0xB0, 2]);
        self.out.put_u16(unsubscribe.pkid);
        if for_broker.is_empty() {
            return Ok(());
        }
        let mut packet = BytesMut::new();
        let unsubscribe = Unsubscribe { pkid: unsubscribe.pkid, topics: for_broker };
        unsubscribe.write(&mut packet).map_err(FrameError::from)?;
        self.open_link().send(&packet);
        self.check_link()
    }

    /// Passes on what the broker sends.
    fn take_from_broker(&mut self, frame: &Frame) -> Result<(), End> {
        let nonsense = |what: &str| End::Broker(std::io::Error::other(what.to_owned()));
        match frame.header.packet_type().map_err(FrameError::from)? {
            PacketType::Publish | PacketType::PubAck => self.out.extend_from_slice(&frame.bytes),
            PacketType::SubAck => {
                let suback =
                    SubAck::read(frame.header, frame.bytes.clone()).map_err(|error| nonsense(&error.to_string()))?;
                let at = self.pending.iter().position(|pending| pending.packet == suback.pkid);
                let pending =
                    at.and_then(|at| self.pending.remove(at)).ok_or_else(|| nonsense("a SUBACK for nothing"))?;
                self.answer(pending, &suback.return_codes)?;
            }
            PacketType::UnsubAck | PacketType::PingResp => {}
            other => return Err(nonsense(&format!("{other:?} from the broker"))),
        }
        Ok(())
    }
}

/// The QoS that a subscription gets: the door passes no QoS 2.
fn granted(asked: QoS) -> QoS {
    match asked {
        QoS::AtMostOnce => QoS::AtMostOnce,
        QoS::AtLeastOnce | QoS::ExactlyOnce => QoS::AtLeastOnce,
    }
}

async fn next_of(link: &mut Option<Box<Link>>) -> std::io::Result<Frame> {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

async fn given_up(instance: Option<&tokio_util::sync::CancellationToken>) {
    match instance {
        Some(given_up) => given_up.cancelled().await,
        None => std::future::pending().await,
    }
}
