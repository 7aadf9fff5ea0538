//! From an accepted connection to a client that is let in, or to a refusal.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use proto::StationId;
use rumqttc::mqttbytes::PacketType;
use rumqttc::mqttbytes::v4::{ConnAck, Connect, ConnectReturnCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::Shared;
use super::connection::{Connection, Session};
use super::frames::{Frame, Frames};
use super::metrics::count;
use super::outbox::Peer;
use super::socket::{self, Step};
use super::topics::{Identity, Publishing};
use crate::credentials::{Refusal, Role};

/// Bytes that a CONNECT may have: names, a password and a will.
const MAX_CONNECT_BYTES: usize = 8 * 1024;
/// The longest client id of a program.
const MAX_CLIENT_ID_BYTES: usize = 128;
/// Time for the refused to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// CONNACK of MQTT 5 with the reason "unsupported protocol version", which such a client can read.
const REFUSED_MQTT_5: [u8; 5] = [0x20, 3, 0, 0x84, 0];

/// A plain connection.
pub(crate) async fn plain(shared: &Arc<Shared>, stream: TcpStream, address: IpAddr) {
    connect(shared, stream, Proof::Password(address), Instant::now() + shared.handshake_timeout).await;
}

/// A TLS connection. The certificate's name is the client's.
pub(crate) async fn tls(shared: &Arc<Shared>, stream: TcpStream, acceptor: &TlsAcceptor) {
    let until = Instant::now() + shared.handshake_timeout;
    let accepted = tokio::select! {
        () = shared.shutdown.cancelled() => return,
        // Boxed, because it is large and soon over, and a connection's task keeps room for its largest part.
        accepted = Box::pin(timeout_at(until, acceptor.accept(stream))) => accepted,
    };
    match accepted {
        Err(_) => count(&shared.metrics.handshake_timeouts),
        Ok(Err(error)) => {
            debug!(%error, "TLS handshake failed");
            count(&shared.metrics.connections_refused_tls);
        }
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let name = certificates.and_then(<[_]>::first).and_then(super::tls::name);
            match name.filter(|name| name.parse::<StationId>().is_ok()) {
                Some(name) => connect(shared, stream, Proof::Certificate(name), until).await,
                None => {
                    debug!("a client certificate without a name that a client can have");
                    count(&shared.metrics.connections_refused_certificate_name);
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

/// Reads the CONNECT, answers it, and serves the client if it is let in.
async fn connect<S>(shared: &Arc<Shared>, mut socket: S, proof: Proof, until: Instant)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let metrics = &shared.metrics;
    let mut frames = Frames::new(MAX_CONNECT_BYTES);
    let first = tokio::select! {
        () = shared.shutdown.cancelled() => return,
        first = timeout_at(until, first_frame(&mut socket, &mut frames)) => first,
    };
    let frame = match first {
        Err(_) => return count(&metrics.handshake_timeouts),
        Ok(None) => return count(&metrics.connections_refused_not_mqtt),
        Ok(Some(frame)) => frame,
    };
    let mut answer = BytesMut::new();
    match admit(shared, &frame, &proof) {
        Ok(session) => {
            // Only too long a packet could fail to be written.
            let _ = ConnAck::new(ConnectReturnCode::Success, false).write(&mut answer);
            count(&metrics.connections_accepted);
            shared.clients.enter(&session.key, Arc::clone(&session.peer));
            debug!(client = %session.name, "let in");
            frames.set_max_frame(shared.max_frame());
            Connection::new(Arc::clone(shared), session, socket, frames, answer).run().await;
        }
        Err(refused) => {
            refused.count(shared);
            match refused.answer() {
                Some(Answer::Code(code)) => {
                    let _ = ConnAck::new(code, false).write(&mut answer);
                }
                Some(Answer::Mqtt5) => answer.extend_from_slice(&REFUSED_MQTT_5),
                None => {}
            }
            let farewell = async {
                socket.write_all(&answer).await?;
                socket.shutdown().await
            };
            let _ = timeout(FAREWELL, farewell).await;
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
enum Refused {
    NotMqtt,
    Protocol { level: u8 },
    Credentials(Refusal, String),
    Guessing(String),
    ClientId(String),
    Will(String),
}

enum Answer {
    Code(ConnectReturnCode),
    Mqtt5,
}

impl Refused {
    fn answer(&self) -> Option<Answer> {
        Some(match self {
            Self::NotMqtt => return None,
            Self::Protocol { level: 5 } => Answer::Mqtt5,
            Self::Protocol { .. } => Answer::Code(ConnectReturnCode::RefusedProtocolVersion),
            Self::Credentials(..) => Answer::Code(ConnectReturnCode::BadUserNamePassword),
            Self::Guessing(_) => Answer::Code(ConnectReturnCode::ServiceUnavailable),
            Self::ClientId(_) => Answer::Code(ConnectReturnCode::BadClientId),
            Self::Will(_) => Answer::Code(ConnectReturnCode::NotAuthorized),
        })
    }

    fn count(&self, shared: &Shared) {
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
            Self::Will(topic) => {
                info!(%topic, "refused: not its will");
                count(&metrics.connections_refused_will);
            }
        }
    }
}

/// Cuts what a stranger sent to a length for the log.
fn shown(text: &str) -> String {
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

/// Whether a CONNECT is let in, and as whom.
fn admit(shared: &Shared, frame: &Frame, proof: &Proof) -> Result<Session, Refused> {
    if !matches!(frame.packet_type(), Ok(PacketType::Connect)) {
        return Err(Refused::NotMqtt);
    }
    match frame.protocol() {
        Some((b"MQTT", 4)) => {}
        Some((b"MQTT" | b"MQIsdp", level)) => return Err(Refused::Protocol { level }),
        _ => return Err(Refused::NotMqtt),
    }
    let connect = Connect::read(frame.header, frame.bytes.clone()).map_err(|_| Refused::NotMqtt)?;
    let (user, password) = connect.login.as_ref().map_or(("", ""), |login| (&login.username, &login.password));
    let (name, role) = match proof {
        // The certificate says who it is. A user name may repeat it.
        Proof::Certificate(name) if user.is_empty() || user == name => (name.as_str(), shared.keyring.role_of(name)),
        Proof::Certificate(_) => return Err(Refused::Credentials(Refusal::Unknown, shown(user))),
        Proof::Password(address) => (user, verify(shared, *address, user, password.as_bytes())?),
    };
    let client_id = connect.client_id.as_str();
    let (identity, key, station) = match role {
        Role::Station => {
            if client_id != name {
                return Err(Refused::ClientId(shown(client_id)));
            }
            if let Some(source) = shared.routes.owner(name) {
                info!(client = %name, source, "its name lies under the source's prefix: no station may have it");
                return Err(Refused::Credentials(Refusal::Unknown, shown(name)));
            }
            let station: StationId = name.parse().map_err(|_| Refused::ClientId(shown(name)))?;
            (Identity::station(&shared.farm, &station), name.to_owned(), Some(Arc::new(station)))
        }
        Role::Subscriber | Role::Bridge => {
            let topics = (role == Role::Bridge).then(|| shared.keyring.topics_of(name));
            let identity = topics.map_or(Identity::Program, |topics| Identity::Bridge { topics });
            // Without an id, and then with a clean session only (MQTT 3.1.1, 3.1.3.1), it is one of its own.
            if client_id.is_empty() && connect.clean_session {
                let number = shared.nameless.fetch_add(1, Ordering::Relaxed);
                (identity, format!("{name}//{number}"), None)
            } else if client_id.is_empty()
                || client_id.len() > MAX_CLIENT_ID_BYTES
                || client_id.contains(['/', '+', '#', '$', '\0'])
            {
                return Err(Refused::ClientId(shown(client_id)));
            } else {
                (identity, format!("{name}/{client_id}"), None)
            }
        }
    };
    if let Some(will) = &connect.last_will {
        if shared.announced.holds(&will.topic) {
            return Err(Refused::Will(shown(&will.topic)));
        }
        use super::delivery::DeliveryKind::{Foreign, Status};
        match identity.publishing(&will.topic, &shared.routes) {
            Publishing::Pipeline(Status | Foreign) | Publishing::Broker => {}
            _ => return Err(Refused::Will(shown(&will.topic))),
        }
    }
    // MQTT 3.1.1, 3.1.2.10: gone after one and a half times the keep-alive.
    let patience = (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1_500));
    let sender = match &identity {
        // Its name follows the stations' rule, as everybody's in the credentials.
        Identity::Bridge { .. } => name.parse().ok().map(Arc::new),
        _ => station.clone(),
    };
    Ok(Session {
        sender,
        name: name.to_owned(),
        key,
        identity,
        peer: Arc::new(Peer::new(station)),
        patience,
        will: connect.last_will,
    })
}
