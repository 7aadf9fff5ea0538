//! A station's connection: MQTT 3.1.1, QoS 1, under the station's own name.
//!
//! The client library is not a queue: what it has taken may be gone after a reconnect. So nothing rests in it. Each
//! connection begins with an empty client, the node ([`crate::node`]) says what to send, and only the gateway's own
//! acknowledgement takes a report from it. A PUBACK means nothing here.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::unfold;
use proto::{
    Ack, Birth, Command, CommandMessage, FarmId, NodeModelStatus, StationId, Status, Timestamp, Topic, TopicKind,
};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, LastWill, MqttOptions, Packet, Publish, QoS,
    SubscribeFilter, Transport,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::node::{Entry, Lost, Node, Overdue};
use crate::radio::Path;

/// Requests that the client library holds for its connection: the node's window, and the few of a connection's beginning.
/// When it is full, the node holds the report back until there is room.
const REQUESTS: usize = 64;
/// The longest silence before the connection is probed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long a connection attempt may take, s.
const CONNECT_TIMEOUT_S: u64 = 10;
/// The largest packet taken or sent; a report of a day is far below.
const PACKET_BYTES: usize = 256 * 1024;
/// The wait after a failed connection: at first, and at most. It doubles, and half of it is chance, so that ten thousand
/// stations do not come back in the same instant.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const MOST_BACKOFF: Duration = Duration::from_secs(5);
/// How long a station waits for its farewell to go out.
const FAREWELL: Duration = Duration::from_secs(1);
/// Commands for the farm that wait to be carried out. One more is refused with a warning.
const MOST_COMMANDS: usize = 64;
/// Commands about models that wait; one more is dropped, and will be sent again.
const MOST_MODEL_COMMANDS: usize = 16;

/// What a station tells its gateway about itself and how it gets there.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The farm.
    pub farm: FarmId,
    /// The station; also the client's id and user name.
    pub station: StationId,
    /// The birth that is published on each connect.
    pub birth: Birth,
    /// Host and port.
    pub broker: (String, u16),
    /// The password; without one the station connects without a name.
    pub password: Option<String>,
    /// TLS, where it is used.
    pub tls: Option<Tls>,
}

/// What TLS needs, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority that signed the broker's certificate.
    pub ca: Vec<u8>,
    /// The station's certificate and key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("client", &self.client.is_some()).finish_non_exhaustive()
    }
}

/// What the farm and a station's connection share.
#[derive(Debug)]
pub struct Link {
    node: Mutex<Node>,
    commands: Mutex<Commands>,
    models: Mutex<ModelCommands>,
    /// The time that the gateway has last told, and when that was.
    told: Mutex<Option<(Timestamp, std::time::Instant)>>,
    /// The node itself: its boot, and whether it reaches the gateway.
    radio: watch::Sender<Radio>,
    /// How its reports go, where that takes time.
    path: Mutex<Option<Path>>,
    /// There is something to send.
    wake: Notify,
    /// Something was acknowledged or commanded; shared by all links, and the farm waits for it.
    progress: Arc<Notify>,
}

/// What a node's power and its radio make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Radio {
    boot: u32,
    reaches: bool,
}

/// Irrigation commands of a station.
#[derive(Debug, Default)]
struct Commands {
    /// Those that have come: number and minutes.
    waiting: VecDeque<(u64, u32)>,
    /// The number of the last that was taken, of this start or one before.
    taken: Option<u64>,
    /// The number of the last that is carried out, whatever happens to the process.
    done: Option<u64>,
    /// Whether the gateway is still to be told so.
    untold: bool,
}

/// Commands about a station's models, and how these stand.
#[derive(Debug, Default)]
struct ModelCommands {
    waiting: VecDeque<Command>,
    /// None of a station that takes none.
    status: Option<NodeModelStatus>,
    /// Whether the gateway is still to be told.
    untold: bool,
}

impl Link {
    /// A link to a node of this boot, which reaches the gateway.
    #[must_use]
    pub fn new(node: Node, boot: u32, progress: Arc<Notify>) -> Self {
        Self {
            node: Mutex::new(node),
            commands: Mutex::default(),
            models: Mutex::default(),
            told: Mutex::default(),
            radio: watch::Sender::new(Radio { boot, reaches: true }),
            path: Mutex::default(),
            wake: Notify::new(),
            progress,
        }
    }

    /// The node is of this boot now. Of another than before it connects anew, and says so in its birth.
    pub fn restarted(&self, boot: u32) {
        self.radio.send_if_modified(|radio| std::mem::replace(&mut radio.boot, boot) != boot);
    }

    /// Whether the node reaches the gateway: when it does not, its connection is dropped and not made again.
    pub fn reaches(&self, reaches: bool) {
        let changed = self.radio.send_if_modified(|radio| std::mem::replace(&mut radio.reaches, reaches) != reaches);
        if changed {
            self.progress.notify_one();
        }
    }

    /// How the node's reports go from now on: each takes as long as its packets are on air, and is sent again when they do not
    /// arrive. Without a path they go at once.
    pub fn goes_by(&self, path: Option<Path>) {
        *lock(&self.path) = path;
    }

    /// What [`Link::reaches`] was last told.
    #[must_use]
    pub fn is_reaching(&self) -> bool {
        self.radio.borrow().reaches
    }

    /// Gives the node a report to keep and to send.
    pub fn push(&self, entry: Entry) -> Vec<Lost> {
        let lost = self.node().push(entry);
        self.wake.notify_one();
        lost
    }

    /// How many reports wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.node().len()
    }

    /// What waits.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.node().entries().collect()
    }

    /// The irrigation commands that have come since the last call: number and minutes.
    #[must_use]
    pub fn take_commands(&self) -> Vec<(u64, u32)> {
        lock(&self.commands).waiting.drain(..).collect()
    }

    /// The irrigation of this number is carried out, or was before the start. The gateway is told.
    pub fn irrigated(&self, id: u64) {
        {
            let mut commands = lock(&self.commands);
            commands.done = commands.done.max(Some(id));
            commands.taken = commands.taken.max(Some(id));
            commands.untold = true;
        }
        self.wake.notify_one();
    }

    /// The number of the last irrigation that is carried out.
    #[must_use]
    pub fn last_irrigated(&self) -> Option<u64> {
        lock(&self.commands).done
    }

    /// The time that the gateway has told since the last call, and when it came.
    #[must_use]
    pub fn take_time(&self) -> Option<(Timestamp, std::time::Instant)> {
        lock(&self.told).take()
    }

    /// The commands about models that have come since the last call.
    #[must_use]
    pub fn take_model_commands(&self) -> Vec<Command> {
        lock(&self.models).waiting.drain(..).collect()
    }

    /// How the station's models stand from now on. The gateway is told.
    pub fn set_models(&self, status: NodeModelStatus) {
        {
            let mut models = lock(&self.models);
            models.status = Some(status);
            models.untold = true;
        }
        self.wake.notify_one();
    }

    fn node(&self) -> MutexGuard<'_, Node> {
        lock(&self.node)
    }
}

/// The lock; a panic elsewhere while it was held ends the process in [`crate::run()`], so what it guards is still looked at.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a station connected until `finish`, then says goodbye. What takes time on its radio takes `speed` times less here.
pub async fn serve(identity: Identity, link: Arc<Link>, seed: u64, speed: f64, finish: CancellationToken) {
    let mut chance = Chance::new(seed, &format!("client/{}", identity.station));
    let air = Air { speed, chance: Chance::new(seed, &format!("air/{}", identity.station)), draws: 0, under_way: None };
    let mut station = Connection { identity, link, begun: Instant::now(), last: [0; 2], connected: false, air };
    let mut failures: u32 = 0;
    let mut radio = station.link.radio.subscribe();
    for attempt in 0.. {
        tokio::select! {
            () = finish.cancelled() => return,
            reached = radio.wait_for(|radio| radio.reaches) => match reached {
                Ok(now) => station.identity.birth.boot = now.boot,
                // The link is held by the station itself.
                Err(_) => return,
            }
        }
        let lived = Instant::now();
        let end = station.live(&finish, &mut radio).await;
        let connected = std::mem::take(&mut station.connected);
        station.air.under_way = None;
        station.link.node().disconnected();
        match end {
            End::Finished => return,
            End::Lost => continue,
            End::Overdue => {
                tracing::warn!(station = %station.identity.station, "nothing is acknowledged, connecting anew")
            }
            End::Failed(error) => log_failure(&station.identity, &error, failures),
        }
        failures = failures_after(failures, connected, lived.elapsed());
        let wait = FIRST_BACKOFF
            .saturating_mul(1 << failures.min(8))
            .min(MOST_BACKOFF)
            .mul_f64(0.5 + 0.5 * chance.at(attempt).uniform());
        tokio::select! {
            () = finish.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How many attempts in a row have failed after one that lasted so long. A connection that lived was a good one; a broker that
/// takes the packets and says nothing lets an attempt last as long without being one.
fn failures_after(failures: u32, connected: bool, lived: Duration) -> u32 {
    if connected && lived > MOST_BACKOFF { 0 } else { failures + 1 }
}

/// A refusal is the operator's business at once, a broker that is away when it stays away.
fn log_failure(identity: &Identity, error: &ConnectionError, failures: u32) {
    const LONG: u32 = 6;
    let station = &identity.station;
    match error {
        ConnectionError::ConnectionRefused(
            code @ (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized),
        ) => {
            tracing::warn!(%station, ?code, "the broker refuses the station");
        }
        error if failures == LONG => {
            tracing::warn!(%station, %error, "the broker cannot be reached; it is tried again and again")
        }
        error => tracing::debug!(%station, %error, "the connection failed"),
    }
}

enum End {
    Finished,
    /// The node's power or its radio is away, or was.
    Lost,
    Overdue,
    Failed(ConnectionError),
}

struct Connection {
    identity: Identity,
    link: Arc<Link>,
    begun: Instant,
    /// The numbers of the last birth and the last time that were asked for.
    last: [u64; 2],
    connected: bool,
    air: Air,
}

/// A node's radio: one report at a time is on air.
struct Air {
    /// Farm time over wall time.
    speed: f64,
    chance: Chance,
    draws: i64,
    /// Until when it is, and whether it arrives.
    under_way: Option<(Instant, bool)>,
}

impl Air {
    /// Whether the report of so many bytes that is to go next has come through. If not, it is on air from now on if it was not, or
    /// again if it did not arrive.
    fn is_through(&mut self, path: &Path, bytes: usize) -> bool {
        let now = Instant::now();
        match self.under_way {
            Some((until, _)) if now < until => false,
            Some((_, true)) => {
                self.under_way = None;
                true
            }
            Some((_, false)) | None => {
                let (chance, draws) = (&mut self.chance, &mut self.draws);
                let sent = path.send(bytes.try_into().unwrap_or(u32::MAX), || {
                    *draws += 1;
                    chance.at(*draws).uniform()
                });
                let wait = Duration::from_secs_f64((sent.latency_s / self.speed).clamp(0.0, 1e9));
                self.under_way = Some((now + wait, sent.arrived));
                false
            }
        }
    }
}

impl Connection {
    /// One connection, from connect to its end.
    async fn live(&mut self, finish: &CancellationToken, radio: &mut watch::Receiver<Radio>) -> End {
        let (client, mut eventloop) = AsyncClient::new(self.options(), REQUESTS);
        let mut network = eventloop.network_options();
        network.set_connection_timeout(CONNECT_TIMEOUT_S);
        network.set_tcp_nodelay(true);
        eventloop.set_network_options(network);
        // As a stream, so that a poll in progress is never cut off by another branch of the select.
        let mut events =
            pin!(unfold(eventloop, |mut eventloop| async move { Some((eventloop.poll().await, eventloop)) }));
        loop {
            let deadline = self.link.node().deadline();
            let begun = self.begun;
            let overdue = async move {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(begun + deadline).await,
                    None => std::future::pending().await,
                }
            };
            let through = self.air.under_way.map(|(until, _)| until);
            let through = async move {
                match through {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.on_event(&client, event),
                    Some(Err(error)) => return End::Failed(error),
                    None => return End::Finished,
                },
                () = self.link.wake.notified() => {}
                () = through => {}
                () = overdue => {
                    let action = self.link.node().overdue(self.begun.elapsed());
                    match action {
                        Some(Overdue::Reconnect) => return End::Overdue,
                        Some(Overdue::Resend) => tracing::debug!(station = %self.identity.station, "no acknowledgement in time, sending again"),
                        None => {}
                    }
                }
                // Without a word, as it is with radios; the broker publishes the will.
                Ok(()) = radio.changed() => return End::Lost,
                () = finish.cancelled() => break,
            }
            self.send(&client);
        }
        let goodbye = async {
            self.publish(&client, TopicKind::Status, self.status(false).encode());
            // When the queue is full the connection is simply dropped, and the broker publishes the will.
            if client.try_disconnect().is_ok() {
                while let Some(Ok(event)) = events.next().await {
                    if matches!(event, Event::Outgoing(rumqttc::Outgoing::Disconnect)) {
                        break;
                    }
                }
            }
        };
        // A farewell that does not go out in time does not matter: the broker publishes the will.
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
        End::Finished
    }

    fn options(&self) -> MqttOptions {
        let Identity { station, broker: (host, port), password, tls, birth, .. } = &self.identity;
        let mut options = MqttOptions::new(station.as_str(), host.as_str(), *port);
        options.set_clean_session(true);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_max_packet_size(PACKET_BYTES, PACKET_BYTES);
        if let Some(password) = password {
            options.set_credentials(station.as_str(), password.as_str());
        }
        if let Some(tls) = tls {
            options.set_transport(Transport::tls(tls.ca.clone(), tls.client.clone(), None));
        }
        let will = Status { online: false, boot: birth.boot, irrigated: None, model: None }.encode();
        options.set_last_will(LastWill::new(self.topic(TopicKind::Status), will, QoS::AtLeastOnce, false));
        options
    }

    fn on_event(&mut self, client: &AsyncClient, event: Event) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                let topics = [TopicKind::Ack, TopicKind::Command];
                let filters = topics.map(|kind| SubscribeFilter::new(self.topic(kind), QoS::AtLeastOnce));
                // The queue is empty: there is room for the beginning. Were there none, nothing would be acknowledged, and the
                // connection would be made anew.
                if client.try_subscribe_many(filters).is_err() {
                    return;
                }
                self.publish(client, TopicKind::Birth, self.identity.birth.encode());
                self.connected = true;
                lock(&self.link.commands).untold = false;
                lock(&self.link.models).untold = false;
                self.publish(client, TopicKind::Status, self.status(true).encode());
                self.link.node().connected();
                tracing::debug!(station = %self.identity.station, "connected");
            }
            Event::Incoming(Packet::Publish(message)) => self.on_message(client, &message),
            _ => {}
        }
    }

    fn on_message(&mut self, client: &AsyncClient, message: &Publish) {
        let station = &self.identity.station;
        let Ok(topic) = message.topic.parse::<Topic>() else {
            tracing::warn!(%station, topic = message.topic, "a message on a topic that was not asked for");
            return;
        };
        match topic.kind {
            TopicKind::Ack => match Ack::decode(&message.payload) {
                Ok(ack) => {
                    if self.link.node().acknowledged(&ack, self.begun.elapsed()) {
                        self.link.progress.notify_one();
                    }
                }
                Err(error) => {
                    tracing::warn!(%station, %error, "an acknowledgement that cannot be read")
                }
            },
            TopicKind::Command => match CommandMessage::decode(&message.payload) {
                Ok(command) => self.on_command(client, command),
                Err(error) => tracing::warn!(%station, %error, "a command that cannot be read"),
            },
            TopicKind::Birth | TopicKind::Data | TopicKind::Status => {}
        }
    }

    fn on_command(&mut self, client: &AsyncClient, message: CommandMessage) {
        let station = &self.identity.station;
        let last = match &message.command {
            Command::Birth => Some(self.last[0]),
            Command::SetTime(_) => Some(self.last[1]),
            Command::Irrigate { .. } => lock(&self.link.commands).taken,
            Command::OfferModel(_) | Command::ModelChunk(_) | Command::ModelBack(_) => None,
        };
        if last.is_some_and(|last| message.id <= last) {
            tracing::debug!(%station, id = message.id, "a command that came before");
            // Perhaps the gateway has not heard that it was carried out.
            lock(&self.link.commands).untold = true;
            return;
        }
        match &message.command {
            Command::ModelChunk(chunk) => tracing::debug!(%station, chunk.offset, "a part of a model"),
            command => tracing::info!(%station, id = message.id, ?command, "command"),
        }
        match message.command {
            Command::Birth => {
                self.last[0] = message.id;
                self.publish(client, TopicKind::Birth, self.identity.birth.encode());
            }
            Command::SetTime(time) => {
                self.last[1] = message.id;
                *lock(&self.link.told) = Some((time, std::time::Instant::now()));
                self.link.progress.notify_one();
            }
            Command::Irrigate { minutes } => {
                let mut commands = lock(&self.link.commands);
                if commands.waiting.len() < MOST_COMMANDS {
                    commands.waiting.push_back((message.id, minutes));
                    commands.taken = Some(message.id);
                    drop(commands);
                    self.link.progress.notify_one();
                } else {
                    tracing::warn!(%station, minutes, "too many commands are waiting, irrigation is refused");
                }
            }
            command @ (Command::OfferModel(_) | Command::ModelChunk(_) | Command::ModelBack(_)) => {
                let mut models = lock(&self.link.models);
                // What is too much is sent again.
                if models.status.is_some() && models.waiting.len() < MOST_MODEL_COMMANDS {
                    models.waiting.push_back(command);
                    drop(models);
                    self.link.progress.notify_one();
                }
            }
        }
    }

    fn status(&self, online: bool) -> Status {
        let model = lock(&self.link.models).status.clone();
        Status { online, boot: self.identity.birth.boot, irrigated: self.link.last_irrigated(), model }
    }

    /// Sends what the node wants to send, as far as there is room.
    fn send(&mut self, client: &AsyncClient) {
        let untold = {
            let mut commands = lock(&self.link.commands);
            self.connected && commands.done.is_some() && std::mem::take(&mut commands.untold)
        };
        let models_untold = self.connected && std::mem::take(&mut lock(&self.link.models).untold);
        if untold || models_untold {
            self.publish(client, TopicKind::Status, self.status(true).encode());
        }
        let now = self.begun.elapsed();
        loop {
            let path = *lock(&self.link.path);
            if let Some(path) = path {
                let Some(bytes) = self.link.node().next_bytes() else { return };
                if !self.air.is_through(&path, bytes) {
                    return;
                }
            }
            let Some(entry) = self.link.node().next_to_send(now) else {
                return;
            };
            if client.try_publish(self.topic(TopicKind::Data), QoS::AtLeastOnce, false, entry.payload).is_err() {
                // Full: each message that goes out is an event, after which this is tried again.
                self.link.node().not_sent();
                return;
            }
        }
    }

    fn publish(&self, client: &AsyncClient, kind: TopicKind, payload: Vec<u8>) {
        if client.try_publish(self.topic(kind), QoS::AtLeastOnce, false, payload).is_err() {
            tracing::debug!(station = %self.identity.station, ?kind, "no room to publish");
        }
    }

    fn topic(&self, kind: TopicKind) -> String {
        Topic { farm: self.identity.farm.clone(), station: self.identity.station.clone(), kind }.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_lived_ends_the_waiting() {
        let long = MOST_BACKOFF + Duration::from_millis(1);
        assert_eq!(failures_after(5, true, long), 0);
        assert_eq!(failures_after(5, true, Duration::from_millis(10)), 6, "let in and thrown out");
        assert_eq!(failures_after(5, false, Duration::from_secs(CONNECT_TIMEOUT_S)), 6, "silent");
    }
}
