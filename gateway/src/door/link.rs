//! A client's own way to the embedded broker.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::PacketType;
use rumqttc::v5::mqttbytes::v5;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::frames::{Frame, Frames};
use super::metrics::{DoorMetrics, count, subtract};
use super::mqtt5;
use super::socket::{self, Step};
use crate::broker::{Broker, Instance};

/// Bytes for the broker that it has not taken. A client that fills them is not read from until it has; a station, whose
/// data must not wait for the broker, loses its connection.
pub(crate) const MAX_WAITING_BYTES: usize = 512 * 1024;

/// The type of a SUBSCRIBE.
const SUBSCRIBE: u8 = 8;

/// The link's own keep-alive, in seconds; the door pings far more often.
const KEEP_ALIVE_S: u16 = u16::MAX;

/// Ways that stay open when their client has gone, for the next ones.
pub(crate) const KEPT: usize = 16;
/// How long, at most: well within the link's keep-alive, for nobody pings for it.
const KEPT_FOR: Duration = Duration::from_secs(KEEP_ALIVE_S as u64 / 2);

type Opening = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// A connection to the broker on behalf of one client, opening or open.
///
/// It speaks MQTT 5, whatever the client speaks: rumqttd panics when a message with MQTT 5's properties meets a subscriber
/// that speaks 3.1.1, so it never sees one.
/// The broker knows the client by a name of the door's, has no credentials and no will of it, and never sees its
/// DISCONNECT: a rumqttd connection that ends with one is taken out twice, and the second time may hit another client.
///
/// A message that rumqttd keeps holds all of the ten kilobytes that its connection was read into. So of clients that come, publish
/// something and go, the next one has the way of the one before.
pub(crate) struct Link {
    state: State,
    /// It has subscribed to something: nobody else can have it.
    listens: bool,
    frames: Frames,
    out: BytesMut,
    flushing: bool,
    /// QoS 1 messages on their way to the client, and whether they are answered. They are answered to the broker in their
    /// order: rumqttd ends a connection that answers in another. It has at most a hundred on their way.
    unanswered: VecDeque<(u16, bool)>,
    pub instance: Arc<Instance>,
    slot: Slot,
    metrics: Arc<DoorMetrics>,
}

enum State {
    Opening(Opening),
    Open(TcpStream),
    /// Somebody else has it.
    Given,
}

impl Link {
    /// A way that somebody else has left, or one that begins to open. Whatever is [sent](Self::send) before it is open waits.
    pub fn open(broker: &Broker, slots: &Arc<Slots>, max_frame: usize, metrics: &Arc<DoorMetrics>) -> Self {
        let instance = broker.instance();
        count(&metrics.broker_links_now);
        let new = |state, out, slot, instance| Self {
            state,
            listens: false,
            frames: Frames::new(max_frame),
            out,
            flushing: false,
            unanswered: VecDeque::new(),
            instance,
            slot,
            metrics: Arc::clone(metrics),
        };
        if let Some((stream, slot)) = slots.kept(&instance) {
            return new(State::Open(stream), BytesMut::new(), slot, instance);
        }
        let slot = slots.take();
        let client_id = format!("door-{}", slot.number);
        let connect = v5::Connect { keep_alive: KEEP_ALIVE_S, client_id, clean_start: true, properties: None };
        let mut out = BytesMut::new();
        // Only too long a text could fail here.
        let _ = connect.write(&None, &None, &mut out);
        new(State::Opening(Box::pin(dial(instance.address))), out, slot, instance)
    }

    /// Adds a packet to what goes to the broker.
    pub fn send(&mut self, packet: &[u8]) {
        self.listens |= packet.first().is_some_and(|first| first >> 4 == SUBSCRIBE);
        self.out.extend_from_slice(packet);
    }

    /// Whether too much waits for the broker.
    pub fn is_full(&self) -> bool {
        self.out.len() > MAX_WAITING_BYTES
    }

    /// How many QoS 1 messages the client has not answered.
    pub fn unanswered(&self) -> usize {
        self.unanswered.iter().filter(|(_, answered)| !answered).count()
    }

    /// A QoS 1 message is on its way to the client, or (when `answered`) is left out.
    pub fn passed_on(&mut self, packet: u16, answered: bool) {
        self.unanswered.push_back((packet, answered));
        self.answer();
    }

    /// The client has answered a message. An answer to nothing is left out.
    pub fn answered(&mut self, packet: u16) {
        if let Some(sent) = self.unanswered.iter_mut().find(|(id, answered)| *id == packet && !answered) {
            sent.1 = true;
            self.answer();
        }
    }

    fn answer(&mut self) {
        while let Some((packet, _)) = self.unanswered.pop_front_if(|(_, answered)| *answered) {
            self.send(&mqtt5::puback(packet));
        }
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
                State::Given => return Err(io::ErrorKind::NotConnected.into()),
                State::Open(stream) => {
                    if let Some(frame) = self.frames.next().map_err(io::Error::other)? {
                        match frame.header.packet_type().map_err(io::Error::other)? {
                            // The code stands after the flags.
                            PacketType::ConnAck if frame.bytes.get(frame.body() + 1) == Some(&0) => continue,
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

    /// Sends what still waits, and returns when the broker has dealt with it: a client may publish and go at once.
    pub async fn finish(&mut self) -> io::Result<()> {
        // The broker deals with one packet after the other, so its answer to this one is its last.
        self.ping();
        while !matches!(self.next().await?.packet_type(), Ok(PacketType::PingResp)) {}
        Ok(())
    }

    /// Leaves the way, which is [finished](Self::finish), to the next client.
    pub fn leave(mut self) {
        if let (false, State::Open(stream)) = (self.listens, mem::replace(&mut self.state, State::Given)) {
            self.slot.keep(stream, Arc::clone(&self.instance));
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
    free: Mutex<VecDeque<u64>>,
    kept: Mutex<Vec<Kept>>,
    used: AtomicU64,
}

/// A way that is open and nobody's.
#[derive(Debug)]
struct Kept {
    stream: TcpStream,
    number: u64,
    instance: Arc<Instance>,
    since: Instant,
}

/// A link's name, given back when dropped.
struct Slot {
    number: u64,
    slots: Arc<Slots>,
    /// It goes on with a way that is kept.
    kept: bool,
}

impl Slots {
    fn take(self: &Arc<Self>) -> Slot {
        let free = self.free().pop_front();
        let number = free.unwrap_or_else(|| self.used.fetch_add(1, Ordering::Relaxed));
        self.slot(number)
    }

    /// The way that was left last, if there is one to this instance that is still open.
    fn kept(self: &Arc<Self>, instance: &Arc<Instance>) -> Option<(TcpStream, Slot)> {
        loop {
            let Kept { stream, number, instance: other, since } = self.ways().pop()?;
            let slot = self.slot(number);
            let ours = Arc::ptr_eq(&other, instance) && !instance.given_up.is_cancelled() && since.elapsed() < KEPT_FOR;
            // The broker says nothing that nobody asked for, but that it closes.
            let silent = stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if ours && silent {
                return Some((stream, slot));
            }
        }
    }

    fn slot(self: &Arc<Self>, number: u64) -> Slot {
        Slot { number, slots: Arc::clone(self), kept: false }
    }

    fn free(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ways(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn keep(&mut self, stream: TcpStream, instance: Arc<Instance>) {
        let mut ways = self.slots.ways();
        if ways.len() < KEPT {
            ways.push(Kept { stream, number: self.number, instance, since: Instant::now() });
            self.kept = true;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.kept {
            self.slots.free().push_back(self.number);
        }
    }
}
