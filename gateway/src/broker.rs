//! The farm's broker for everything that is not a station's data: an embedded rumqttd on a loopback port, started again
//! when it stops answering.
//!
//! Nothing of the data's way depends on it. The [door](crate::door) hands stations' messages on to it only while
//! somebody subscribes to them, without waiting; what it cannot take is dropped and counted. It must not know what the
//! messages mean.
//!
//! rumqttd cannot be stopped: an instance that is given up keeps its (dead) threads and its port. Restarts are rare, and
//! counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use rumqttd::local::{LinkRx, LinkTx};
use rumqttd::protocol::{Packet, Publish, PublishProperties};
use rumqttd::{ConnectionSettings, RouterConfig, ServerSettings};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::door::KEPT;

/// Bytes of one segment of a topic filter's log. A subscriber that falls behind by more than [`SEGMENTS`] of them loses
/// the oldest; each stays in memory as long as its filter is known.
const SEGMENT_BYTES: usize = 256 * 1024;
const SEGMENTS: usize = 4;
/// Messages handed on that the broker has not taken in. When it is so far behind, further ones are dropped.
const MAX_HANDED_ON: usize = 2_000;
/// The largest packet that it takes: the door's largest payload and its header.
const MAX_PACKET_BYTES: usize = 16 * 1024 * 1024;
/// Packets that it reads from one connection before it serves the others.
const MAX_BATCH: usize = 200;
/// Time for a new instance to listen.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two attempts to start it.
const RETRY: Duration = Duration::from_secs(1);
/// The watchdog's topic. The door lets nobody else publish it.
pub(crate) const PROBE_TOPIC: &str = "tilth-watchdog";

/// The `[broker]` table of the gateway's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerConfig {
    /// Clients of the door that may have a way to the broker at a time.
    pub max_connections: usize,
    /// Milliseconds between two of the watchdog's messages.
    pub probe_interval_ms: u64,
    /// Milliseconds after which the broker is started again when such a message has not come back.
    pub probe_timeout_ms: u64,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self { max_connections: 1_000, probe_interval_ms: 5_000, probe_timeout_ms: 10_000 }
    }
}

/// What the broker's surroundings count. All only grow.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    /// Messages handed on to the broker.
    pub handed_on: AtomicU64,
    /// Messages that the broker could not take.
    pub hand_on_dropped: AtomicU64,
    /// Times that the watchdog started the broker again.
    pub restarts: AtomicU64,
    /// The watchdog's messages that came back.
    pub probes_answered: AtomicU64,
}

impl BrokerMetrics {
    /// Every counter's name and value.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("handed_on", read(&self.handed_on)),
            ("hand_on_dropped", read(&self.hand_on_dropped)),
            ("restarts", read(&self.restarts)),
            ("probes_answered", read(&self.probes_answered)),
        ]
    }
}

/// A broker that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No port, no thread, or nobody listening in time.
    #[error("embedded broker: {0}")]
    Start(#[from] io::Error),
    /// Its router did not let the gateway in.
    #[error("embedded broker: {0}")]
    Link(String),
}

/// The broker, whichever instance of it is running. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: BrokerConfig,
    instance: Mutex<Arc<Instance>>,
    /// How many clients subscribe to stations' messages.
    wanted: AtomicUsize,
    metrics: BrokerMetrics,
}

/// One running rumqttd.
pub(crate) struct Instance {
    /// Where it listens.
    pub address: SocketAddr,
    /// Cancelled when it is given up.
    pub given_up: CancellationToken,
    hand_on: Mutex<LinkTx>,
    /// The hand-on link receives nothing, but rumqttd takes a link without its receiver for dead.
    _receiver: LinkRx,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Says, as long as it lives, that somebody subscribes to stations' messages.
#[derive(Debug)]
pub(crate) struct Watching(Broker);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.shared.wanted.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Broker {
    /// Starts a broker on a free loopback port.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        let instance = Mutex::new(Arc::new(Instance::start(&config).await?));
        let shared = Shared { config, instance, wanted: AtomicUsize::new(0), metrics: BrokerMetrics::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Watches the broker until `shutdown`: a message of its own must come back through it in time, over the same ways
    /// that stations' messages go; else a new instance takes its place.
    pub async fn run(&self, shutdown: CancellationToken) {
        loop {
            let instance = self.instance();
            let failure = tokio::select! {
                () = shutdown.cancelled() => break,
                failure = self.watch(&instance) => failure,
            };
            error!(address = %instance.address, %failure, "the embedded broker does not answer and is started again");
            instance.given_up.cancel();
            let new = tokio::select! {
                () = shutdown.cancelled() => break,
                new = self.start_again() => new,
            };
            info!(address = %new.address, "the embedded broker runs again");
            *self.shared.instance.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
            self.shared.metrics.restarts.fetch_add(1, Ordering::Relaxed);
        }
        self.instance().given_up.cancel();
    }

    async fn start_again(&self) -> Instance {
        loop {
            match Instance::start(&self.shared.config).await {
                Ok(instance) => return instance,
                Err(error) => warn!(%error, "the embedded broker cannot be started; trying again"),
            }
            sleep(RETRY).await;
        }
    }

    /// Returns, with the reason, when the instance does not answer.
    async fn watch(&self, instance: &Instance) -> String {
        let interval = Duration::from_millis(self.shared.config.probe_interval_ms);
        let patience = Duration::from_millis(self.shared.config.probe_timeout_ms);
        let mut options = MqttOptions::new("watchdog", instance.address.ip().to_string(), instance.address.port());
        options.set_keep_alive(patience.max(Duration::from_secs(5)));
        // It publishes nothing. The client keeps 200 bytes for each publish that may be in flight: 13 MB, if nobody says less.
        options.set_outgoing_inflight_upper_limit(1);
        let (client, mut events) = AsyncClient::new(options, 4);
        if let Err(error) = client.try_subscribe(PROBE_TOPIC, QoS::AtMostOnce) {
            return error.to_string();
        }
        // The probe on its way, when it is lost, and when the next one is due.
        let mut probe = 0_u64;
        let mut lost_at = Instant::now() + patience;
        let mut due_at = None;
        loop {
            tokio::select! {
                () = sleep_until(lost_at) => return format!("no answer within {patience:?}"),
                () = sleep_until(due_at.unwrap_or(lost_at)), if due_at.is_some() => {
                    due_at = None;
                    probe += 1;
                    instance.publish(Bytes::from_static(PROBE_TOPIC.as_bytes()), Bytes::from(probe.to_string()), None);
                }
                event = events.poll() => match event {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => due_at = Some(Instant::now()),
                    Ok(Event::Incoming(Incoming::Publish(publish))) if publish.payload == probe.to_string().as_bytes() => {
                        self.shared.metrics.probes_answered.fetch_add(1, Ordering::Relaxed);
                        due_at = Some(Instant::now() + interval);
                        lost_at = Instant::now() + interval + patience;
                    }
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                },
            }
        }
    }

    /// Where the running instance listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.instance().address
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &BrokerMetrics {
        &self.shared.metrics
    }

    pub(crate) fn instance(&self) -> Arc<Instance> {
        Arc::clone(&self.shared.instance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Somebody subscribes to stations' messages, until the result is dropped.
    pub(crate) fn watching(&self) -> Watching {
        self.shared.wanted.fetch_add(1, Ordering::Relaxed);
        Watching(self.clone())
    }

    /// Whether anybody subscribes to stations' messages.
    pub(crate) fn is_wanted(&self) -> bool {
        self.shared.wanted.load(Ordering::Relaxed) > 0
    }

    /// Publishes at the broker with QoS 0. Never waits: when the broker is behind, the message is dropped and counted.
    pub(crate) fn hand_on(&self, topic: Bytes, payload: Bytes, properties: Option<PublishProperties>) {
        let metrics = &self.shared.metrics;
        let taken = self.instance().publish(topic, payload, properties);
        let counter = if taken { &metrics.handed_on } else { &metrics.hand_on_dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Instance {
    async fn start(config: &BrokerConfig) -> Result<Self, BrokerError> {
        // rumqttd does not say which port it got, so a free one is looked for and named. Somebody else may take it in
        // between; then nobody of ours answers there, or the start fails, and it is tried again with another.
        let address = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let server = ServerSettings {
            name: "broker".to_owned(),
            listen: address,
            tls: None,
            next_connection_delay_ms: 0,
            connections: ConnectionSettings {
                connection_timeout_ms: 5_000,
                max_payload_size: MAX_PACKET_BYTES,
                max_inflight_count: MAX_BATCH,
                auth: None,
                external_auth: None,
                dynamic_filters: false,
            },
        };
        let mut broker = rumqttd::Broker::new(rumqttd::Config {
            router: RouterConfig {
                // The watchdog and the hand-on link besides, and ways that are nobody's just now.
                max_connections: config.max_connections + 2 + KEPT,
                max_outgoing_packet_count: 200,
                max_segment_size: SEGMENT_BYTES,
                max_segment_count: SEGMENTS,
                ..RouterConfig::default()
            },
            // MQTT 5 only: it panics when a message with properties meets a subscriber that speaks 3.1.1.
            v5: Some([("1".to_owned(), server)].into()),
            ..rumqttd::Config::default()
        });
        let (hand_on, receiver) = broker.link("gateway").map_err(|error| BrokerError::Link(error.to_string()))?;
        std::thread::Builder::new().name("broker".to_owned()).spawn(move || {
            if let Err(error) = broker.start() {
                error!(%error, "the embedded broker ended");
            }
        })?;
        let listening = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(START_TIMEOUT, listening).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("nobody listens on {address} after {START_TIMEOUT:?}"))
        })?;
        let (given_up, hand_on) = (CancellationToken::new(), Mutex::new(hand_on));
        Ok(Self { address, given_up, hand_on, _receiver: receiver })
    }

    /// Hands a message to the router, if it is there and not too far behind.
    fn publish(&self, topic: Bytes, payload: Bytes, properties: Option<PublishProperties>) -> bool {
        let mut link = self.hand_on.lock().unwrap_or_else(PoisonError::into_inner);
        if link.buffer().len() >= MAX_HANDED_ON {
            return false;
        }
        if properties.is_some() {
            // The link has no way to publish with properties but its buffer, and then its router must be told. A message
            // that only the watchdog gets, and takes no notice of, does that.
            let publish = Publish::new(topic, payload, false);
            link.buffer().push_back(Packet::Publish(publish, properties));
            let _ = link.try_publish(PROBE_TOPIC, "");
            return true;
        }
        // With the router's queue full this is an error, too, but the message is in the link's buffer all the same, and
        // what stands in the queue brings it along. When the router has gone, the watchdog's connection ends with it.
        let _ = link.try_publish(topic, payload);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BrokerConfig {
        BrokerConfig { probe_interval_ms: 10, probe_timeout_ms: 200, ..BrokerConfig::default() }
    }

    #[tokio::test]
    async fn a_broker_that_hangs_is_noticed() {
        let broker = Broker::start(config()).await.unwrap();
        // It accepts, and never answers.
        let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut hung = Instance::start(&config()).await.unwrap();
        hung.address = silent.local_addr().unwrap();
        let failure = broker.watch(&hung).await;
        assert_eq!(failure, "no answer within 200ms");
    }

    #[tokio::test]
    async fn a_broker_that_answers_is_left_alone() {
        let broker = Broker::start(BrokerConfig { probe_timeout_ms: 60_000, ..config() }).await.unwrap();
        let shutdown = CancellationToken::new();
        let watching = tokio::spawn({
            let (broker, shutdown) = (broker.clone(), shutdown.clone());
            async move { broker.run(shutdown).await }
        });
        while broker.metrics().probes_answered.load(Ordering::Relaxed) < 5 {
            tokio::task::yield_now().await;
        }
        assert_eq!(broker.metrics().restarts.load(Ordering::Relaxed), 0);
        shutdown.cancel();
        watching.await.unwrap();
    }

    #[tokio::test]
    async fn what_a_broker_cannot_take_is_dropped_and_counted() {
        let broker = Broker::start(config()).await.unwrap();
        let instance = broker.instance();
        // As if the router had taken in nothing for long.
        let filler = rumqttd::protocol::Packet::PingReq(rumqttd::protocol::PingReq);
        let waiting = instance.hand_on.lock().unwrap();
        waiting.buffer().extend(std::iter::repeat_n(filler, MAX_HANDED_ON));
        drop(waiting);
        broker.hand_on(Bytes::from_static(b"a"), Bytes::from_static(b"b"), None);
        assert_eq!(broker.metrics().hand_on_dropped.load(Ordering::Relaxed), 1);
    }
}
