//! A broker that the farm already runs: the gateway is one of its clients, and takes in what stations publish there.
//!
//! It promises the same as the [door](crate::door): a QoS 1 message is acknowledged to the broker when it is on disk, not
//! before. The session at the broker outlives connections and the gateway (`clean_session` is off, the client id is always
//! the same), so what comes while the gateway is away waits at the broker, and what it had not acknowledged comes again;
//! the pipeline knows what it has. How much the broker keeps for it is the broker's matter (Mosquitto: `max_queued_messages`).
//!
//! The broker authenticates the stations; here the topic says which station a message is from. What is no station's topic
//! and no source's is acknowledged, counted and left; so is a payload larger than the door would take, and the page says so.
//!
//! rumqttc is a client for one connection here. Each attempt gets a new one, because after a reconnect it would send what
//! the old connection owed, and an acknowledgement of the old connection could hit another message of the new one.

mod config;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::{FarmId, GatewayId, StationId, Topic, TopicKind};
use rand::RngExt as _;
use rumqttc::mqttbytes::v4::SubscribeReasonCode;
use rumqttc::{AsyncClient, ConnectionError, Event, Incoming, LastWill, MqttOptions, Publish, QoS, SubscribeFilter};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub use self::config::ExternalConfig;

use crate::decode::source::{Announcement, Routes};
use crate::door::{Delivery, DeliveryKind, Mailbox, Ticket, ToPipeline, TurnedAwayLog, shown};

/// Messages for stations that wait for the connection. Further ones are dropped and counted: whoever sends acks and
/// commands repeats them.
const MAX_OUTGOING: usize = 1_024;
/// Messages that came and wait for room in the pipeline. With more, nothing is read from the broker.
const MAX_WAITING: usize = 1_024;
/// Bytes of them, likewise: one more message may come.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Acknowledgements and messages that rumqttc may hold.
const REQUESTS: usize = 4_096;
/// Events of rumqttc that may wait to be looked at, each with a whole packet. It reads up to ten packets ahead by itself.
const EVENTS: usize = 8;
/// The largest packet that is taken or sent. A larger one ends the connection, each time that it comes.
const MAX_PACKET_BYTES: usize = 16 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The shortest and the longest time between two attempts to connect; each is drawn between half and all of it.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];
/// How long a shutdown waits for what came to be stored.
const DRAIN: Duration = Duration::from_secs(5);
/// Time for the last packets of a connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is counted. All but `connected_now` only grow.
#[derive(Debug, Default)]
pub struct ExternalMetrics {
    /// 1 while the gateway is connected to the broker.
    pub connected_now: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    /// Messages handed to the pipeline.
    pub publishes: AtomicU64,
    /// Acknowledgements sent to the broker.
    pub pubacks: AtomicU64,
    /// Messages on topics that are no station's and no source's.
    pub refused_topic: AtomicU64,
    /// Messages with a payload larger than allowed.
    pub refused_size: AtomicU64,
    /// Messages to stations that were sent to the broker.
    pub messages_sent: AtomicU64,
    /// Messages to stations that were dropped.
    pub messages_dropped: AtomicU64,
}

impl ExternalMetrics {
    /// Every counter's name and value.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("connected_now", read(&self.connected_now)),
            ("connections", read(&self.connections)),
            ("publishes", read(&self.publishes)),
            ("pubacks", read(&self.pubacks)),
            ("refused_topic", read(&self.refused_topic)),
            ("refused_size", read(&self.refused_size)),
            ("messages_sent", read(&self.messages_sent)),
            ("messages_dropped", read(&self.messages_dropped)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The way from the gateway to the broker's clients. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ToExternal {
    queue: mpsc::Sender<Outgoing>,
    metrics: Arc<ExternalMetrics>,
}

#[derive(Debug)]
struct Outgoing {
    topic: String,
    payload: Bytes,
    retain: bool,
}

impl ToExternal {
    /// Publishes with QoS 0. Never waits; returns whether the message is on its way to the broker.
    pub fn publish(&self, topic: String, payload: Bytes, retain: bool) -> bool {
        let sent = self.queue.try_send(Outgoing { topic, payload, retain }).is_ok();
        if !sent {
            count(&self.metrics.messages_dropped);
        }
        sent
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<ExternalMetrics> {
        &self.metrics
    }
}

/// The gateway as a client of the farm's broker, not yet connected.
pub struct External {
    options: MqttOptions,
    farm: FarmId,
    routes: Routes,
    /// In whose name messages of sources are delivered.
    name: Arc<StationId>,
    filters: Vec<String>,
    /// What the gateway says about itself, as retained messages.
    announced: Vec<Announcement>,
    deliveries: ToPipeline,
    outgoing: mpsc::Receiver<Outgoing>,
    handle: ToExternal,
    max_payload: usize,
    /// What is refused, for the page.
    log: Arc<TurnedAwayLog>,
}

/// Why a connection ended.
enum End {
    Shutdown,
    Lost(String),
}

/// One connection.
struct Session {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, ConnectionError>>,
    polling: JoinHandle<()>,
    mailbox: Arc<Mailbox>,
    /// Messages handed to the pipeline that are not acknowledged.
    withheld: u32,
    /// Messages that the pipeline has no room for.
    waiting: VecDeque<Delivery>,
    /// Their bytes.
    waiting_bytes: usize,
    /// Acknowledgements that rumqttc had no room for.
    acknowledged: VecDeque<u16>,
    connected: bool,
}

impl Session {
    fn wait(&mut self, delivery: Delivery) {
        self.waiting_bytes += delivery.payload.len();
        self.waiting.push_back(delivery);
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.mailbox.leave();
        self.polling.abort();
    }
}

impl External {
    /// A client as `config` says, which takes payloads of `max_payload` bytes at most and notes larger ones in `log`.
    /// `deliveries` is the pipeline's queue.
    ///
    /// # Errors
    /// Names the key and the file that cannot be read.
    pub fn new(
        config: &ExternalConfig,
        (farm, gateway): (FarmId, &GatewayId),
        routes: Routes,
        deliveries: ToPipeline,
        (max_payload, log): (usize, Arc<TurnedAwayLog>),
    ) -> Result<Self, String> {
        let mut options = config.options(&format!("tilth-{farm}-{gateway}"))?;
        options
            .set_clean_session(false)
            .set_manual_acks(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        let own = TopicKind::ALL.into_iter().filter(|kind| kind.from_station());
        let mut filters: Vec<String> =
            own.map(|kind| format!("{}/{farm}/+/{}", proto::topic::PREFIX, kind.name())).collect();
        filters.extend(routes.filters().map(str::to_owned));
        let name = "broker".parse().map_err(|error| format!("{error}"))?;
        let (queue, outgoing) = mpsc::channel(MAX_OUTGOING);
        let handle = ToExternal { queue, metrics: Arc::default() };
        Ok(Self {
            options,
            farm,
            routes,
            name: Arc::new(name),
            filters,
            announced: Vec::new(),
            deliveries,
            outgoing,
            handle,
            max_payload,
            log,
        })
    }

    /// With what the gateway says about itself: on every connect that it is there, at the orderly end that it is not. The
    /// first is also the connection's will; MQTT knows only one.
    #[must_use]
    pub fn saying(mut self, announced: &[Announcement]) -> Self {
        if let Some(Announcement { topic, offline, .. }) = announced.first() {
            self.options.set_last_will(LastWill::new(topic, offline.clone(), QoS::AtLeastOnce, true));
        }
        self.filters.extend(announced.iter().map(|own| own.topic.clone()));
        self.announced = announced.to_vec();
        self
    }

    /// Says that the gateway is there, or is not.
    fn announce(&self, session: &Session, online: bool) {
        for own in &self.announced {
            let payload = if online { own.online.clone() } else { own.offline.clone() };
            if session.client.try_publish(&own.topic, QoS::AtLeastOnce, true, payload).is_err() {
                count(&self.handle.metrics.messages_dropped);
            }
        }
    }

    /// The way to the broker's clients.
    #[must_use]
    pub fn handle(&self) -> ToExternal {
        self.handle.clone()
    }

    /// Stays connected until `shutdown`. Then it takes nothing more, waits (five seconds at most) until what came is stored,
    /// acknowledges what of it is, says goodbye and returns.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut retry = RETRY[0];
        loop {
            let mut session = self.connect();
            let end = self.serve(&mut session, &shutdown).await;
            self.handle.metrics.connected_now.store(0, Ordering::Relaxed);
            let reason = match end {
                End::Shutdown => return self.say_goodbye(&mut session).await,
                End::Lost(reason) => reason,
            };
            if session.connected {
                retry = RETRY[0];
            }
            drop(session);
            let pause = rand::rng().random_range(retry / 2..=retry);
            warn!(%reason, ?pause, "the farm's broker is not reached; trying again");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(pause) => {}
            }
            retry = (retry * 2).min(RETRY[1]);
        }
    }

    fn connect(&self) -> Session {
        let (client, mut event_loop) = AsyncClient::new(self.options.clone(), REQUESTS);
        let (sender, events) = mpsc::channel(EVENTS);
        // A task of its own: rumqttc would lose what it is about to write if its future were dropped.
        let polling = tokio::spawn(async move {
            loop {
                let event = event_loop.poll().await;
                let over = event.is_err();
                if sender.send(event).await.is_err() || over {
                    return;
                }
            }
        });
        Session {
            client,
            events,
            polling,
            mailbox: Arc::default(),
            withheld: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            acknowledged: VecDeque::new(),
            connected: false,
        }
    }

    async fn serve(&mut self, session: &mut Session, shutdown: &CancellationToken) -> End {
        let (mut drain_until, mut abandoned) = (None, false);
        let mailbox = Arc::clone(&session.mailbox);
        let deliveries = self.deliveries.clone();
        loop {
            abandoned |= self.take_mail(session);
            if abandoned && drain_until.is_none() {
                return End::Lost("what came could not be stored".to_owned());
            }
            if drain_until.is_some() && (abandoned || session.withheld == 0) && session.acknowledged.is_empty() {
                return End::Shutdown;
            }
            let running = drain_until.is_none();
            let next = session.waiting.front().map_or(0, |delivery| deliveries.bytes_of(delivery));
            tokio::select! {
                biased;
                () = mailbox.woken() => {}
                () = shutdown.cancelled(), if running => drain_until = Some(Instant::now() + DRAIN),
                () = sleep_until(drain_until.unwrap_or_else(Instant::now)), if !running => return End::Shutdown,
                place = deliveries.reserve(next), if !session.waiting.is_empty() => {
                    let (Some(place), Some(delivery)) = (place, session.waiting.pop_front()) else { return End::Shutdown };
                    session.waiting_bytes -= delivery.payload.len();
                    place.fill(delivery);
                }
                // What comes after the shutdown takes no room.
                event = session.events.recv(), if session.has_room() || !running => match event {
                    Some(Ok(Event::Incoming(packet))) => {
                        if let Err(end) = self.take(session, packet, running) {
                            return end;
                        }
                    }
                    Some(Ok(Event::Outgoing(_))) => {}
                    Some(Err(error)) => return End::Lost(error.to_string()),
                    None => return End::Lost("the client ended".to_owned()),
                },
                outgoing = self.outgoing.recv(), if session.connected => {
                    let Some(Outgoing { topic, payload, retain }) = outgoing else { continue };
                    let sent = session.client.try_publish(topic, QoS::AtMostOnce, retain, payload).is_ok();
                    let metrics = &self.handle.metrics;
                    count(if sent { &metrics.messages_sent } else { &metrics.messages_dropped });
                }
            }
        }
    }

    /// Acknowledges to the broker what is on disk. Whether something never will be.
    fn take_mail(&self, session: &mut Session) -> bool {
        let contents = session.mailbox.take(true);
        session.withheld -= contents.acknowledged;
        // Released PUBACKs, four bytes each.
        session.acknowledged.extend(contents.frames.chunks_exact(4).map(|ack| u16::from_be_bytes([ack[2], ack[3]])));
        while let Some(&packet) = session.acknowledged.front() {
            let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
            publish.pkid = packet;
            if session.client.try_ack(&publish).is_err() {
                // Tried again with the next event: rumqttc has thousands of others to send before.
                break;
            }
            session.acknowledged.pop_front();
            count(&self.handle.metrics.pubacks);
        }
        contents.abandoned
    }

    fn take(&self, session: &mut Session, packet: Incoming, running: bool) -> Result<(), End> {
        match packet {
            Incoming::ConnAck(ack) => {
                let metrics = &self.handle.metrics;
                count(&metrics.connections);
                metrics.connected_now.store(1, Ordering::Relaxed);
                info!(session = ack.session_present, "connected to the farm's broker");
                session.connected = true;
                // Also with a session: the filters may be others than when it began.
                let filters = self.filters.iter().map(|path| SubscribeFilter::new(path.clone(), QoS::AtLeastOnce));
                session.client.try_subscribe_many(filters).map_err(|error| End::Lost(error.to_string()))?;
                self.announce(session, true);
                Ok(())
            }
            Incoming::SubAck(ack) => {
                for (filter, code) in self.filters.iter().zip(&ack.return_codes) {
                    if *code == SubscribeReasonCode::Failure {
                        error!(filter, "the farm's broker refuses the subscription");
                    }
                }
                Ok(())
            }
            // What comes after the shutdown has begun comes again.
            Incoming::Publish(publish) if running => {
                self.take_publish(session, publish);
                Ok(())
            }
            Incoming::Disconnect => Err(End::Lost("the broker says goodbye".to_owned())),
            _ => Ok(()),
        }
    }

    fn take_publish(&self, session: &mut Session, publish: Publish) {
        let metrics = &self.handle.metrics;
        let ticket = if publish.qos == QoS::AtMostOnce {
            Ticket::detached()
        } else {
            session.withheld += 1;
            Ticket::withheld(Arc::clone(&session.mailbox), publish.pkid)
        };
        if self.announced.iter().any(|own| own.topic == publish.topic) {
            // The will of a connection before this one (Sparkplug 3.0.0: the host says again that it is there).
            if says_offline(&publish.payload) {
                self.announce(session, true);
            }
            return ticket.commit();
        }
        let Some((station, kind)) = self.sender(&publish.topic) else {
            debug!(topic = %publish.topic, "no station's topic");
            count(&metrics.refused_topic);
            return ticket.commit();
        };
        let bytes = publish.payload.len();
        if bytes > self.max_payload {
            let who = if kind == DeliveryKind::Foreign { shown(&publish.topic) } else { station.to_string() };
            warn!(client = %who, bytes, "refused: too large a payload, at the farm's broker");
            let most = self.max_payload;
            self.log
                .note(&who, format!("refused: a payload of {bytes} bytes, at most {most} (door.max_payload_bytes)"));
            count(&metrics.refused_size);
            return ticket.commit();
        }
        count(&metrics.publishes);
        let topic = (kind == DeliveryKind::Foreign).then(|| Arc::from(publish.topic.as_str()));
        let (packet, duplicate, payload) = (publish.pkid, publish.dup, publish.payload);
        let delivery = Delivery { station, kind, topic, payload, packet, duplicate, ticket };
        if !session.waiting.is_empty() {
            session.wait(delivery);
        } else if let Err(mpsc::error::TrySendError::Full(delivery)) = self.deliveries.try_send(delivery) {
            session.wait(delivery);
        }
    }

    /// From whom a message on `topic` is, and what.
    fn sender(&self, topic: &str) -> Option<(Arc<StationId>, DeliveryKind)> {
        if self.routes.takes(topic) {
            return Some((Arc::clone(&self.name), DeliveryKind::Foreign));
        }
        let Topic { farm, station, kind } = topic.parse().ok()?;
        let kind = match kind {
            TopicKind::Birth => DeliveryKind::Birth,
            TopicKind::Data => DeliveryKind::Data,
            TopicKind::Status => DeliveryKind::Status,
            TopicKind::Ack | TopicKind::Command => return None,
        };
        (farm == self.farm && self.routes.owner(station.as_str()).is_none()).then(|| (Arc::new(station), kind))
    }

    /// Sends what waits and a DISCONNECT.
    async fn say_goodbye(&self, session: &mut Session) {
        if session.connected {
            self.announce(session, false);
        }
        if session.client.try_disconnect().is_ok() {
            let _ = timeout(FAREWELL, async { while let Some(Ok(_)) = session.events.recv().await {} }).await;
        }
    }
}

/// Whether a host application is said to be gone.
fn says_offline(payload: &[u8]) -> bool {
    let said: Option<serde_json::Value> = serde_json::from_slice(payload).ok();
    said.is_some_and(|said| said.get("online") == Some(&serde_json::Value::Bool(false)))
}
