//! From an accepted connection to a client that is let in, or to a refusal.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use proto::StationId;
use rumqttc::mqttbytes::PacketType;
use rumqttc::mqttbytes::v4::{ConnAck, Connect, ConnectReturnCode};
use rumqttc::v5::mqttbytes::v5;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info};

use super::Shared;
use super::connection::{Connection, Session, Will};
use super::frames::{Frame, Frames};
use super::metrics::count;
use super::mqtt5::{self, Client5, reason};
use super::outbox::Peer;
use super::socket::{self, Plain, Step};
use super::topics::{Identity, Publishing};
use crate::credentials::{Refusal, Role};

/// Bytes that a CONNECT may have: names, a password and a will.
const MAX_CONNECT_BYTES: usize = 8 * 1024;
/// The longest client id of a program.
const MAX_CLIENT_ID_BYTES: usize = 128;
/// Time for the refused to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// A plain connection, if it is let in.
pub(crate) async fn plain(shared: &Arc<Shared>, stream: TcpStream, address: IpAddr) -> Option<Box<Connection<Plain>>> {
    let stream = Plain::new(stream);
    let writer = stream.writer();
    let until = Instant::now() + shared.handshake_timeout;
    let connection = connect(shared, stream, Proof::Password(address), until).await?;
    connection.write_directly(writer);
    Some(connection)
}

/// A TLS connection, if it is let in. The certificate's name is the client's.
pub(crate) async fn tls(
    shared: &Arc<Shared>,
    stream: TcpStream,
    acceptor: &TlsAcceptor,
) -> Option<Box<Connection<TlsStream<TcpStream>>>> {
    let until = Instant::now() + shared.handshake_timeout;
    let accepted = tokio::select! {
        () = shared.shutdown.cancelled() => return None,
        accepted = timeout_at(until, shared.turns.take(acceptor.accept(stream))) => accepted,
    };
    match accepted {
        Err(_) => {
            count(&shared.metrics.handshake_timeouts);
            None
        }
        Ok(Err(error)) => {
            debug!(%error, "TLS handshake failed");
            count(&shared.metrics.connections_refused_tls);
            None
        }
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let name = certificates.and_then(<[_]>::first).and_then(super::tls::name);
            match name.filter(|name| name.parse::<StationId>().is_ok()) {
                Some(name) => connect(shared, stream, Proof::Certificate(name), until).await,
                None => {
                    debug!("a client certificate without a name that a client can have");
                    count(&shared.metrics.connections_refused_certificate_name);
                    None
                }
            }
        }
    }
}

/// By what a client shows who it is.
enum Proof {
    /// Its password, tried from an address.
    Password(IpAddr),
    /// Its certificate, which has this name.
    Certificate(String),
}

/// Reads the CONNECT and answers it, or has the connection answer it if the client is let in.
async fn connect<S>(shared: &Arc<Shared>, mut socket: S, proof: Proof, until: Instant) -> Option<Box<Connection<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let metrics = &shared.metrics;
    let mut frames = Frames::new(MAX_CONNECT_BYTES);
    let first = tokio::select! {
        () = shared.shutdown.cancelled() => return None,
        first = timeout_at(until, first_frame(&mut socket, &mut frames)) => first,
    };
    let frame = match first {
        Ok(Some(frame)) => frame,
        missing => {
            let timeout = missing.is_err();
            count(if timeout { &metrics.handshake_timeouts } else { &metrics.connections_refused_not_mqtt });
            return None;
        }
    };
    shared.keyring.look().await;
    let mut answer = BytesMut::new();
    let level = frame.protocol().map_or(0, |(_, level)| level);
    match admit(shared, &frame, &proof) {
        Ok(Admitted { mut session, keep_alive, assigned }) => {
            let keep_alive = if level == 5 {
                mqtt5::put_connack(&mut answer, shared.max_frame(), keep_alive, assigned)
            } else {
                // Only too long a packet could fail to be written.
                let _ = ConnAck::new(ConnectReturnCode::Success, false).write(&mut answer);
                keep_alive
            };
            // MQTT 3.1.1, 3.1.2.10: gone after one and a half times the keep-alive.
            session.patience = (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1_500));
            count(&metrics.connections_accepted);
            shared.clients.enter(&session.key, Arc::clone(&session.peer));
            debug!(client = %session.name, level, "let in");
            frames.set_max_frame(shared.max_frame());
            Some(Connection::new(Arc::clone(shared), session, socket, frames, answer))
        }
        Err(refused) => {
            refused.count(shared);
            match refused.answer() {
                Some((_, reason)) if level >= 5 => mqtt5::put_refusal(&mut answer, reason),
                Some((code, _)) => {
                    let _ = ConnAck::new(code, false).write(&mut answer);
                }
                None => {}
            }
            let farewell = async {
                socket.write_all(&answer).await?;
                socket.shutdown().await
            };
            let _ = timeout(FAREWELL, farewell).await;
            None
        }
    }
}

/// The first packet, if it is one.
async fn first_frame<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S, frames: &mut Frames) -> Option<Frame> {
    let mut nothing = BytesMut::new();
    loop {
        match frames.next() {
            Ok(Some(frame)) => return Some(frame),
            Ok(None) => {}
            Err(_) => return None,
        }
        match socket::step(socket, &mut nothing, &mut false, Some(frames)).await {
            Ok(Step::Progress) => {}
            Ok(Step::End) | Err(_) => return None,
        }
    }
}

/// Why a CONNECT is refused.
#[derive(Debug)]
pub(crate) enum Refused {
    NotMqtt,
    Protocol { level: u8 },
    Authentication,
    Credentials(Refusal, String),
    Guessing(String),
    ClientId(String),
    Will(String),
    WillQos,
}

impl Refused {
    /// What the client is told, in MQTT 3.1.1 and in MQTT 5.
    fn answer(&self) -> Option<(ConnectReturnCode, u8)> {
        Some(match self {
            Self::NotMqtt => return None,
            Self::Protocol { .. } => (ConnectReturnCode::RefusedProtocolVersion, reason::VERSION),
            Self::Authentication => (ConnectReturnCode::NotAuthorized, reason::AUTHENTICATION),
            Self::Credentials(..) => (ConnectReturnCode::BadUserNamePassword, reason::PASSWORD),
            Self::Guessing(_) => (ConnectReturnCode::ServiceUnavailable, reason::CONNECTION_RATE),
            Self::ClientId(_) => (ConnectReturnCode::BadClientId, reason::CLIENT_ID),
            Self::Will(_) => (ConnectReturnCode::NotAuthorized, reason::NOT_AUTHORIZED),
            Self::WillQos => (ConnectReturnCode::NotAuthorized, reason::QOS),
        })
    }

    /// Who it says it is, and why it is not let in, for the page.
    fn words(&self) -> (&str, String) {
        match self {
            Self::NotMqtt => ("a stranger", "no MQTT CONNECT came first".to_owned()),
            Self::Protocol { level } => {
                ("a stranger", format!("MQTT of protocol level {level}, expected 4 (3.1.1) or 5"))
            }
            Self::Authentication => ("a stranger", "an authentication method, which is not known here".to_owned()),
            Self::Credentials(Refusal::Unknown, name) => (name, "nobody of that name is known".to_owned()),
            Self::Credentials(Refusal::Password, name) => (name, "wrong password".to_owned()),
            Self::Guessing(name) => (name, "too many wrong passwords".to_owned()),
            Self::ClientId(id) => (id, "this client id is not its name".to_owned()),
            Self::WillQos => ("a client", "a last will with QoS 2".to_owned()),
            Self::Will(topic) => ("a client", format!("a last will on {topic:?}, which it may not publish")),
        }
    }

    fn count(&self, shared: &Shared) {
        let (client, why) = self.words();
        shared.log.note(client, format!("refused: {why}"));
        let metrics = &shared.metrics;
        match self {
            Self::NotMqtt => count(&metrics.connections_refused_not_mqtt),
            Self::Protocol { level } => {
                debug!(level, "refused: another MQTT version");
                count(&metrics.connections_refused_protocol);
            }
            Self::Credentials(Refusal::Unknown, name) => {
                info!(client = %name, "refused: unknown");
                count(&metrics.connections_refused_unknown);
            }
            Self::Credentials(Refusal::Password, name) => {
                info!(client = %name, "refused: wrong password");
                count(&metrics.connections_refused_password);
            }
            Self::Guessing(name) => {
                debug!(client = %name, "refused: too many wrong passwords");
                count(&metrics.connections_refused_guessing);
            }
            Self::ClientId(id) => {
                info!(client_id = %id, "refused: not its client id");
                count(&metrics.connections_refused_client_id);
            }
            Self::Authentication => {
                debug!("refused: an authentication method");
                count(&metrics.connections_refused_protocol);
            }
            Self::WillQos => {
                debug!("refused: a will with QoS 2");
                count(&metrics.connections_refused_will);
            }
            Self::Will(topic) => {
                info!(%topic, "refused: not its will");
                count(&metrics.connections_refused_will);
            }
        }
    }
}

/// Cuts what a stranger sent to a length for the log.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Looks at a password, but not too often.
fn verify(shared: &Shared, address: IpAddr, user: &str, password: &[u8]) -> Result<Role, Refused> {
    let (now, name) = (shared.now(), shown(user));
    if !shared.addresses.may_try(address, &name, now) {
        return Err(Refused::Guessing(name));
    }
    shared.keyring.verify(user, password).map_err(|refusal| {
        shared.addresses.guessed(address, &name, now);
        Refused::Credentials(refusal, name)
    })
}

/// What a CONNECT says, in either version.
pub(crate) struct Hello {
    /// What is peculiar to a client that speaks MQTT 5.
    pub mqtt5: Option<Client5>,
    client_id: String,
    /// Whether the door may give it a client id.
    nameless: bool,
    keep_alive: u16,
    user: String,
    password: String,
    will: Option<Will>,
}

impl Hello {
    /// Reads a CONNECT of either version.
    pub fn read(frame: &Frame) -> Result<Self, Refused> {
        match frame.protocol() {
            Some((b"MQTT", 4)) => Self::read_4(frame),
            Some((b"MQTT", 5)) => Self::read_5(frame),
            Some((b"MQTT" | b"MQIsdp", level)) => Err(Refused::Protocol { level }),
            _ => Err(Refused::NotMqtt),
        }
    }

    fn read_4(frame: &Frame) -> Result<Self, Refused> {
        let connect = Connect::read(frame.header, frame.bytes.clone()).map_err(|_| Refused::NotMqtt)?;
        let (user, password) = connect.login.map(|login| (login.username, login.password)).unwrap_or_default();
        let will = connect.last_will.map(|will| Will { topic: will.topic, message: will.message, properties: None });
        Ok(Self {
            mqtt5: None,
            // Without an id, and then with a clean session only (MQTT 3.1.1, 3.1.3.1), it is one of its own.
            nameless: connect.client_id.is_empty() && connect.clean_session,
            client_id: connect.client_id,
            keep_alive: connect.keep_alive,
            user,
            password,
            will,
        })
    }

    fn read_5(frame: &Frame) -> Result<Self, Refused> {
        let header = v5::check(frame.bytes.iter(), None).map_err(|_| Refused::NotMqtt)?;
        let (connect, will, login) = v5::Connect::read(header, frame.bytes.clone()).map_err(|_| Refused::NotMqtt)?;
        let properties = connect.properties.as_ref();
        if properties.is_some_and(|p| p.authentication_method.is_some()) {
            return Err(Refused::Authentication);
        }
        // It would take nothing at all, which MQTT 5 forbids it to say (3.1.2.11.3, 3.1.2.11.4).
        if properties.is_some_and(|p| p.receive_maximum == Some(0) || p.max_packet_size == Some(0)) {
            return Err(Refused::NotMqtt);
        }
        let (user, password) = login.map(|login| (login.username, login.password)).unwrap_or_default();
        let will = match will {
            Some(will) if will.qos == rumqttc::v5::mqttbytes::QoS::ExactlyOnce => return Err(Refused::WillQos),
            Some(will) => {
                let topic = String::from_utf8(will.topic.to_vec()).map_err(|_| Refused::NotMqtt)?;
                Some(Will {
                    topic,
                    message: will.message,
                    properties: will.properties.map(mqtt5::of_will).map(Box::new),
                })
            }
            None => None,
        };
        Ok(Self {
            mqtt5: Some(Client5::new(properties)),
            nameless: connect.client_id.is_empty(),
            client_id: connect.client_id,
            keep_alive: connect.keep_alive,
            user,
            password,
            will,
        })
    }
}

/// A client that is let in.
struct Admitted {
    session: Session,
    /// What it asked for, in seconds.
    keep_alive: u16,
    /// The client id that the door gives it.
    assigned: Option<String>,
}

/// Whether a CONNECT is let in, and as whom.
fn admit(shared: &Shared, frame: &Frame, proof: &Proof) -> Result<Admitted, Refused> {
    if !matches!(frame.packet_type(), Ok(PacketType::Connect)) {
        return Err(Refused::NotMqtt);
    }
    let Hello { mqtt5, client_id, nameless, keep_alive, user, password, will } = Hello::read(frame)?;
    let (name, role) = match proof {
        // The certificate says who it is. A user name may repeat it.
        Proof::Certificate(name) if user.is_empty() || user == *name => {
            let role = shared.keyring.role_of(name).map_err(|refusal| Refused::Credentials(refusal, shown(name)))?;
            (name.clone(), role)
        }
        Proof::Certificate(_) => return Err(Refused::Credentials(Refusal::Unknown, shown(&user))),
        Proof::Password(address) => {
            let role = verify(shared, *address, &user, password.as_bytes())?;
            (user, role)
        }
    };
    let mut assigned = None;
    let (identity, key, station) = match role {
        Role::Station => {
            if nameless && mqtt5.is_some() {
                assigned = Some(name.clone());
            } else if client_id != name {
                return Err(Refused::ClientId(shown(&client_id)));
            }
            if let Some(source) = shared.routes.owner(&name) {
                info!(client = %name, source, "its name lies under the source's prefix: no station may have it");
                return Err(Refused::Credentials(Refusal::Unknown, shown(&name)));
            }
            let station: StationId = name.parse().map_err(|_| Refused::ClientId(shown(&name)))?;
            (Identity::station(&shared.farm, &station), name.clone(), Some(Arc::new(station)))
        }
        Role::Subscriber | Role::Bridge => {
            let topics = (role == Role::Bridge).then(|| shared.keyring.topics_of(&name));
            let identity = topics.map_or(Identity::Program, |topics| Identity::Bridge { topics });
            if nameless {
                let number = shared.nameless.fetch_add(1, Ordering::Relaxed);
                assigned = Some(format!("{name}-{number}"));
                (identity, format!("{name}//{number}"), None)
            } else if client_id.is_empty()
                || client_id.len() > MAX_CLIENT_ID_BYTES
                || client_id.contains(['/', '+', '#', '$', '\0'])
            {
                return Err(Refused::ClientId(shown(&client_id)));
            } else {
                (identity, format!("{name}/{client_id}"), None)
            }
        }
    };
    if let Some(will) = &will {
        if shared.announced.holds(&will.topic) {
            return Err(Refused::Will(shown(&will.topic)));
        }
        use super::delivery::DeliveryKind::{Foreign, Status};
        match identity.publishing(&will.topic, &shared.routes) {
            Publishing::Pipeline(Status | Foreign) | Publishing::Broker => {}
            _ => return Err(Refused::Will(shown(&will.topic))),
        }
    }
    let sender = match &identity {
        // Its name follows the stations' rule, as everybody's in the credentials.
        Identity::Bridge { .. } => name.parse().ok().map(Arc::new),
        _ => station.clone(),
    };
    let peer = Arc::new(Peer::new(station, mqtt5.as_ref().map(|client| client.max_packet)));
    let mqtt5 = mqtt5.map(Box::new);
    let session = Session { name, key, identity, peer, sender, mqtt5, patience: None, will: will.map(Box::new) };
    Ok(Admitted { session, keep_alive, assigned })
}
