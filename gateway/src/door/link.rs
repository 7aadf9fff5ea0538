//! A client's own way to the embedded broker.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use rumqttc::mqttbytes::PacketType;
use rumqttc::mqttbytes::v4::Connect;
use tokio::net::TcpStream;

use super::frames::{Frame, Frames};
use super::metrics::{DoorMetrics, count, subtract};
use super::socket::{self, Step};
use crate::broker::{Broker, Instance};

/// Bytes for the broker that it has not taken. A client that fills them is not read from until it has; a station, whose
/// data must not wait for the broker, loses its connection.
pub(crate) const MAX_WAITING_BYTES: usize = 512 * 1024;

/// The link's own keep-alive, in seconds; the door pings far more often.
const KEEP_ALIVE_S: u16 = u16::MAX;

type Opening = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// A connection to the broker on behalf of one client, opening or open.
///
/// The broker knows the client by a name of the door's, has no credentials and no will of it, and never sees its
/// DISCONNECT: a rumqttd connection that ends with one is taken out twice, and the second time may hit another client.
pub(crate) struct Link {
    state: State,
    frames: Frames,
    out: BytesMut,
    flushing: bool,
    pub instance: Arc<Instance>,
    slot: Slot,
    metrics: Arc<DoorMetrics>,
}

enum State {
    Opening(Opening),
    Open(TcpStream),
}

impl Link {
    /// Begins to open a way to the broker. Whatever is [sent](Self::send) before it is open waits.
    pub fn open(broker: &Broker, slots: &Arc<Slots>, max_frame: usize, metrics: &Arc<DoorMetrics>) -> Self {
        let instance = broker.instance();
        let slot = slots.take();
        let mut connect = Connect::new(format!("door-{}", slot.number));
        connect.keep_alive = KEEP_ALIVE_S;
        let mut out = BytesMut::new();
        // Only too long a text could fail here.
        let _ = connect.write(&mut out);
        count(&metrics.broker_links_now);
        Self {
            state: State::Opening(Box::pin(dial(instance.address))),
            frames: Frames::new(max_frame),
            out,
            flushing: false,
            instance,
            slot,
            metrics: Arc::clone(metrics),
        }
    }

    /// Adds a packet to what goes to the broker.
    pub fn send(&mut self, packet: &[u8]) {
        self.out.extend_from_slice(packet);
    }

    /// Whether too much waits for the broker.
    pub fn is_full(&self) -> bool {
        self.out.len() > MAX_WAITING_BYTES
    }

    /// Keeps the link alive.
    pub fn ping(&mut self) {
        self.send(&[0xC0, 0]);
    }

    /// The next packet from the broker; sends what waits meanwhile. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the broker cannot be reached, refuses, sends nonsense or ends the connection.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            match &mut self.state {
                State::Opening(opening) => {
                    let stream = opening.await?;
                    self.state = State::Open(stream);
                }
                State::Open(stream) => {
                    if let Some(frame) = self.frames.next().map_err(io::Error::other)? {
                        match frame.header.packet_type().map_err(io::Error::other)? {
                            PacketType::ConnAck if frame.bytes.last() == Some(&0) => continue,
                            PacketType::ConnAck => {
                                return Err(io::Error::other("the broker refuses the connection"));
                            }
                            _ => return Ok(frame),
                        }
                    }
                    match socket::step(stream, &mut self.out, &mut self.flushing, Some(&mut self.frames)).await? {
                        Step::Progress => {}
                        Step::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                    }
                }
            }
        }
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Drop for Link {
    fn drop(&mut self) {
        subtract(&self.metrics.broker_links_now, 1);
        tracing::trace!(slot = self.slot.number, "the way to the broker closes");
    }
}

/// Names for the links. rumqttd remembers every client id that it has ever seen, so they are used again, the longest
/// unused first.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    free: Mutex<std::collections::VecDeque<u64>>,
    used: AtomicU64,
}

/// A link's name, given back when dropped.
struct Slot {
    number: u64,
    slots: Arc<Slots>,
}

impl Slots {
    fn take(self: &Arc<Self>) -> Slot {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let number = free.unwrap_or_else(|| self.used.fetch_add(1, Ordering::Relaxed));
        Slot { number, slots: Arc::clone(self) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.free.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.number);
    }
}
