//! One client that is let in: its packets in, its PUBACKs and messages out, in one task.

mod publishing;
pub(crate) mod subscribing;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto::StationId;
use rumqttd::protocol::PublishProperties;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::Shared;
use super::delivery::{Delivery, DeliveryKind, Ticket};
use super::frames::{Frame, FrameError, Frames};
use super::link::Link;
use super::metrics::{add, count, subtract};
use super::mqtt5::{self, Client5};
use super::outbox::Peer;
use super::socket::{self, Step, Writer};
use super::topics::{Identity, Publishing};
use crate::broker::Watching;

/// Publishes of one client that wait for their commit. A client that has as many is not read from until the store has
/// caught up: back-pressure that TCP carries to it.
pub(crate) const MAX_WITHHELD: u32 = 1_024;
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
/// Time for a will to find room in the pipeline.
const WILL_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two pings on the way to the broker.
const LINK_PING: Duration = Duration::from_secs(600);
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
    /// What is peculiar to it when it speaks MQTT 5.
    pub mqtt5: Option<Box<Client5>>,
    /// What is to be published when it goes without a farewell.
    pub will: Option<Box<Will>>,
}

/// A last will.
#[derive(Debug)]
pub(crate) struct Will {
    pub topic: String,
    pub message: Bytes,
    pub properties: Option<Box<PublishProperties>>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("it said goodbye")]
    Farewell,
    #[error("it left its will")]
    FarewellWithWill,
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
    #[error("what it sent is no MQTT: {0}")]
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
    answers: Vec<Option<u8>>,
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
    /// A QoS 1 publish of an MQTT 5 client that is refused, to be said after the PUBACKs that come before it.
    refused: Option<u16>,
    link: Option<Box<Link>>,
    /// Filters at the broker, and whether stations' messages match them.
    filters: Vec<(String, bool)>,
    watching: Option<Watching>,
    pending: VecDeque<PendingSubscribe>,
    /// When something was read last.
    read_at: Instant,
    /// When a whole packet was read last: a byte now and then is no sign of life (MQTT 3.1.1, 3.1.2.10).
    last_heard: Instant,
    /// The client has sent more than its rate: until when it is not read from.
    paused_until: Option<Instant>,
    /// Since when the client takes nothing.
    stuck_since: Option<Instant>,
    next_link_ping: Instant,
    /// When the wait for outstanding commits ends, once the door closes.
    drain_until: Option<Instant>,
    /// The mailbox knows that PUBACKs are waited for.
    awaiting: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// A connection whose CONNECT has been read; `frames` may hold what came with it, `out` holds its CONNACK.
    ///
    /// Boxed, because a future keeps room for what is moved into it twice.
    pub fn new(shared: Arc<Shared>, session: Session, socket: S, frames: Frames, out: BytesMut) -> Box<Self> {
        let now = Instant::now();
        Box::new(Self {
            shared,
            session,
            socket,
            frames,
            out,
            flushing: false,
            withheld: 0,
            withheld_bytes: 0,
            blocked: None,
            refused: None,
            link: None,
            filters: Vec::new(),
            watching: None,
            pending: VecDeque::new(),
            read_at: now,
            last_heard: now,
            paused_until: None,
            stuck_since: None,
            next_link_ping: now + FAR,
            drain_until: None,
            awaiting: false,
        })
    }

    /// From now on PUBACKs and messages may be written past this connection's task.
    pub fn write_directly(&self, writer: Writer) {
        self.session.peer.mailbox.write_directly(writer, Arc::clone(&self.shared.metrics));
    }

    /// Serves the client to its end.
    pub async fn run(mut self: Box<Self>) {
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
            End::Farewell | End::FarewellWithWill | End::Closed | End::Io(_) | End::Shutdown => {}
        }
        match &end {
            End::Farewell | End::FarewellWithWill | End::Closed | End::Shutdown | End::Io(_) | End::Silent(_) => {
                debug!(client = %name, "closed: {end}")
            }
            _ => {
                warn!(client = %name, "closed: {end}");
                self.shared.log.note(name, format!("closed: {end}"));
            }
        }
        self.shared.clients.leave(&self.session.key, &self.session.peer, self.shared.now());
        // PUBACKs released until now still go, as far as the client takes them.
        self.collect();
        subtract(&self.shared.metrics.deliveries_waiting_now, u64::from(self.withheld));
        if self.session.mqtt5.is_some() {
            mqtt5::put_disconnect(&mut self.out, &end);
        }
        let _ = timeout(FAREWELL, self.say_farewell()).await;
        let orderly = matches!(end, End::Farewell | End::FarewellWithWill | End::Closed | End::TakenOver);
        if let (true, Some(mut link)) = (orderly, self.link.take())
            && !self.shared.shutdown.is_cancelled()
            && let Ok(Ok(())) = timeout(FAREWELL, link.finish()).await
        {
            link.leave();
        }
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
            self.hand_on(will.topic.as_bytes(), &will.message, will.properties.map(|properties| *properties));
            let topic = (kind == DeliveryKind::Foreign).then(|| Arc::from(will.topic.as_str()));
            let (payload, ticket) = (will.message, Ticket::detached());
            let delivery = Delivery { station, kind, topic, payload, packet: 0, duplicate: false, ticket };
            // While the disk is full there is no room for long: what only waits must not keep a place, nor the door open.
            let sent = timeout(WILL_TIMEOUT, self.shared.deliveries.send(delivery)).await.unwrap_or(false);
            let metrics = &self.shared.metrics;
            count(if sent { &metrics.wills } else { &metrics.wills_dropped });
        } else {
            let properties = will.properties.map(|properties| *properties);
            self.shared.broker.hand_on(Bytes::from(will.topic), will.message, properties);
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
            self.say_refused();
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
            let awaiting = !reading || self.refused.is_some() || self.drain_until.is_some();
            if awaiting != self.awaiting {
                self.awaiting = awaiting;
                mailbox.wait_for_acknowledgements(awaiting);
            }
            if !self.out.is_empty() {
                mailbox.hold();
            }
            let roomy = self.out.len() < MAX_UNWRITTEN_BYTES
                && self.link.as_ref().is_some_and(|link| link.unanswered() < self.receive_maximum());
            let gone = self.link.as_ref().map(|link| link.instance.given_up.clone());
            let blocked = self.blocked.as_ref().map_or(0, |delivery| shared.deliveries.bytes_of(delivery));
            tokio::select! {
                biased;
                () = mailbox.woken() => {}
                stepped = socket::step(&mut self.socket, &mut self.out, &mut self.flushing, reading.then_some(&mut self.frames)) => {
                    if stepped? == Step::End {
                        return Err(End::Closed);
                    }
                    self.stuck_since = None;
                    if reading {
                        self.read_at = Instant::now();
                        shared.activity.note();
                    }
                }
                place = shared.deliveries.reserve(blocked), if self.blocked.is_some() => {
                    let (Some(place), Some(delivery)) = (place, self.blocked.take()) else { return Err(End::Shutdown) };
                    place.fill(delivery);
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

    /// How many QoS 1 messages the client takes before it has answered one.
    fn receive_maximum(&self) -> usize {
        self.session.mqtt5.as_ref().map_or(usize::MAX, |client| usize::from(client.receive_maximum))
    }

    /// Whether the client is read from now.
    fn is_reading(&self) -> bool {
        self.drain_until.is_none()
            && self.blocked.is_none()
            && self.refused.is_none()
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
        let clear = self.out.is_empty() && !self.flushing;
        let mut contents = self.session.peer.mailbox.take(clear);
        if self.out.is_empty() && !contents.frames.is_empty() {
            std::mem::swap(&mut self.out, &mut contents.frames);
        } else {
            self.out.extend_from_slice(&contents.frames);
        }
        if contents.acknowledged > 0 {
            let metrics = &self.shared.metrics;
            add(&metrics.pubacks, u64::from(contents.acknowledged));
            subtract(&metrics.deliveries_waiting_now, u64::from(contents.acknowledged));
        }
        self.withheld -= contents.acknowledged + contents.written;
        if self.withheld == 0 {
            self.withheld_bytes = 0;
        }
        contents
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
