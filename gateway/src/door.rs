//! The gateway's front door: every MQTT client comes in here.
//!
//! What it promises:
//! - A station's publish ends here. It goes to the pipeline as a [`Delivery`], and its PUBACK goes to the client when the
//!   pipeline [commits](Ticket::commit) the delivery's ticket, not before. Acks and commands go back by the [`Outbox`].
//! - Nobody is let in without a password or a certificate, speaks under another's name, or sees what it may not see.
//! - One client, whatever it sends or does not send, costs the others nothing: time-outs, caps and bounded queues
//!   everywhere, and a client that is not kept up with is not read from.
//! - Everything else (other topics, subscribers) goes on to the [broker](crate::broker) over a connection of the client's
//!   own, opened when it is needed. Data never waits for the broker; stations' messages are handed on to it while
//!   somebody subscribes to them.
//!
//! - A message on a source's topic goes the way of a station's data, when a bridge publishes it that may.
//!
//! It must not know what is in a payload, and keeps nothing: sessions are always clean, and retained messages and wills
//! of stations are no more than messages. The few things that the gateway says about itself it tells to each subscriber.
//!
//! It speaks MQTT 3.1.1 and MQTT 5 on the same ports; [`mqtt5`] says what differs.
//!
//! A client meets [`admission`], [`tls`], [`handshake`], [`connection`] (with [`frames`], [`rate`] and [`topics`]), perhaps
//! [`link`], in that order; [`mailbox`] and [`outbox`] are the way back. All of it runs on one thread, in [`strokes`], of which
//! handshakes have half at most ([`turns`]).

mod admission;
mod config;
pub(crate) mod connection;
mod delivery;
pub(crate) mod frames;
pub(crate) mod handshake;
mod link;
mod log;
mod mailbox;
mod metrics;
pub(crate) mod mqtt5;
mod outbox;
mod queue;
mod rate;
mod socket;
mod strokes;
pub(crate) mod tls;
pub(crate) mod topics;
mod turns;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proto::FarmId;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use self::config::{DoorConfig, TlsConfig};
pub use self::delivery::{Delivery, DeliveryKind, Release, Ticket};
pub(crate) use self::handshake::shown;
pub(crate) use self::link::KEPT;
pub use self::log::{TurnedAway, TurnedAwayLog};
pub(crate) use self::mailbox::Mailbox;
pub use self::metrics::DoorMetrics;
pub use self::outbox::Outbox;
pub use self::queue::{Deliveries, ToPipeline, queue};
pub use self::tls::TlsError;

use self::admission::{Addresses, Admission};
use self::link::Slots;
use self::outbox::{Announced, Clients};
use self::rate::{ClientRate, Rate};
use self::strokes::Activity;
use self::turns::Turns;
use crate::broker::Broker;
use crate::credentials::Keyring;
use crate::decode::source::Routes;

/// How long nobody is accepted after the system had no more file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A door that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// An address that cannot be listened on.
    #[error("{key} = \"{address}\": {source}")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// TLS files that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Where the door listens, with the ports that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorAddresses {
    /// Plain MQTT with passwords.
    pub mqtt: Option<SocketAddr>,
    /// MQTT over TLS with client certificates.
    pub mqtts: Option<SocketAddr>,
}

/// The front door, bound and not yet open.
pub struct Door {
    shared: Arc<Shared>,
    plain: Option<TcpListener>,
    tls: Option<(TcpListener, TlsAcceptor)>,
    addresses: DoorAddresses,
}

/// What all connections share.
pub(crate) struct Shared {
    farm: Arc<FarmId>,
    keyring: Keyring,
    broker: Broker,
    deliveries: ToPipeline,
    clients: Arc<Clients>,
    metrics: Arc<DoorMetrics>,
    log: Arc<TurnedAwayLog>,
    slots: Arc<Slots>,
    /// What sources take.
    routes: Routes,
    announced: Arc<Announced>,
    /// Programs so far that gave no client id.
    nameless: AtomicU64,
    addresses: Addresses,
    shutdown: CancellationToken,
    activity: Activity,
    /// In which TLS handshakes go on.
    turns: Turns,
    max_payload: usize,
    max_connections: u64,
    max_connections_per_address: usize,
    /// What one client may send.
    client_rate: ClientRate,
    /// How often one address may connect.
    connection_rate: Rate,
    /// When the door's own clock, by which the rates go, stood at zero.
    opened: Instant,
    handshake_timeout: Duration,
    drain_timeout: Duration,
}

impl Shared {
    /// The largest body of a packet: a payload and its topic.
    fn max_frame(&self) -> usize {
        self.max_payload + frames::MAX_HEADER_BYTES
    }

    /// What the door's own clock shows.
    fn now(&self) -> Duration {
        self.opened.elapsed()
    }
}

impl Door {
    /// Takes the addresses of `config`. Whoever connects waits until [`Self::run`]. `routes` are the topics of sources.
    ///
    /// `deliveries` is the pipeline's queue: when it is full, the door stops reading. Its bounds are those of what lies
    /// between the two.
    ///
    /// # Errors
    /// When an address cannot be listened on, or the TLS files cannot be used.
    pub async fn bind(
        config: &DoorConfig,
        farm: FarmId,
        keyring: impl Into<Keyring>,
        routes: Routes,
        broker: Broker,
        deliveries: ToPipeline,
    ) -> Result<Self, DoorError> {
        let plain = match config.listen {
            Some(address) => Some(listen("door.listen", address).await?),
            None => None,
        };
        let tls = match &config.tls {
            Some(tls) => {
                let acceptor = tls::acceptor(tls)?;
                Some((listen("door.tls.listen", tls.listen).await?, acceptor))
            }
            None => None,
        };
        let addresses = DoorAddresses {
            mqtt: plain.as_ref().and_then(|listener| listener.local_addr().ok()),
            mqtts: tls.as_ref().and_then(|(listener, _)| listener.local_addr().ok()),
        };
        let shared = Arc::new(Shared {
            farm: Arc::new(farm),
            keyring: keyring.into(),
            broker,
            deliveries,
            clients: Arc::default(),
            metrics: Arc::default(),
            log: Arc::default(),
            slots: Arc::default(),
            routes,
            announced: Arc::default(),
            nameless: AtomicU64::new(0),
            addresses: Addresses::default(),
            shutdown: CancellationToken::new(),
            activity: Activity::default(),
            turns: Turns::default(),
            max_payload: config.max_payload_bytes,
            max_connections: admission::room_for(config.max_connections),
            max_connections_per_address: config.max_connections_per_address,
            client_rate: config.client_rate(),
            connection_rate: config.connection_rate(),
            opened: Instant::now(),
            handshake_timeout: Duration::from_secs(config.handshake_timeout_s),
            drain_timeout: Duration::from_secs(config.drain_timeout_s),
        });
        Ok(Self { shared, plain, tls, addresses })
    }

    /// Where the door listens.
    #[must_use]
    pub fn addresses(&self) -> DoorAddresses {
        self.addresses
    }

    /// The way to the stations.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox {
            farm: Arc::clone(&self.shared.farm),
            clients: Arc::clone(&self.shared.clients),
            announced: Arc::clone(&self.shared.announced),
            external: None,
            broker: self.shared.broker.clone(),
            metrics: Arc::clone(&self.shared.metrics),
        }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> Arc<DoorMetrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Whom it turned away last.
    #[must_use]
    pub fn turned_away(&self) -> Arc<TurnedAwayLog> {
        Arc::clone(&self.shared.log)
    }

    /// Lets clients in until `shutdown`, all on this thread. Blocks: give it a thread of its own.
    ///
    /// Then it takes no more connections and packets, waits (at most the drain time) until the pipeline has committed
    /// what it was handed, writes those PUBACKs, closes every connection and returns. The pipeline must go on until
    /// then; its queue closes with the return.
    ///
    /// # Errors
    /// When the system has no more file descriptors.
    pub fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        strokes::run(self.serve(shutdown), &shared.activity)
    }

    async fn serve(self, shutdown: CancellationToken) {
        let Self { shared, plain, tls, addresses } = self;
        info!(mqtt = ?addresses.mqtt, mqtts = ?addresses.mqtts, "the front door is open");
        let connections = TaskTracker::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = accept(&shared, &connections, plain, None) => {}
            () = accept_tls(&shared, &connections, tls) => {}
        }
        shared.shutdown.cancel();
        connections.close();
        connections.wait().await;
        info!("the front door is closed");
    }
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, DoorError> {
    TcpListener::bind(address).await.map_err(|source| DoorError::Listen { key, address, source })
}

async fn accept_tls(shared: &Arc<Shared>, connections: &TaskTracker, tls: Option<(TcpListener, TlsAcceptor)>) {
    let (listener, acceptor) = tls.unzip();
    accept(shared, connections, listener, acceptor).await;
}

/// Accepts connections for ever; without a listener it only waits.
async fn accept(
    shared: &Arc<Shared>,
    connections: &TaskTracker,
    listener: Option<TcpListener>,
    tls: Option<TlsAcceptor>,
) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let address = admission::counted(address.ip());
                if let Some(admission) = Admission::of(shared, address) {
                    connections.spawn(serve(admission, stream, tls.clone()));
                }
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(admission: Admission, stream: TcpStream, tls: Option<TlsAcceptor>) {
    let shared = Arc::clone(&admission.shared);
    socket::prepare(&stream);
    // The handshake's future is soon over and large, and a future keeps room for its largest part: so it is boxed.
    match tls {
        None => {
            if let Some(connection) = Box::pin(handshake::plain(&shared, stream, admission.address)).await {
                connection.run().await;
            }
        }
        Some(acceptor) => {
            if let Some(connection) = Box::pin(handshake::tls(&shared, stream, &acceptor)).await {
                connection.run().await;
            }
        }
    }
    drop(admission);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, F: Future>(_: fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand stations wait in as many of these.
    #[test]
    fn a_connection_is_small() {
        let bytes = size_of_future(serve) + size_of::<connection::Connection<socket::Plain>>();
        assert!(bytes <= 2_048, "{bytes} bytes");
    }
}
