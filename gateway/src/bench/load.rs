//! The stations of a benchmark: many connections that send frames made before, and note when their PUBACKs come.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::payload::{self, Prepared};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that are opened at the same time.
const OPENING: usize = 50;
/// The shortest time that is slept for: the kernel wakes no more exactly than this.
const SHORTEST: Duration = Duration::from_micros(50);

/// What became of some messages.
#[derive(Debug)]
pub(super) struct Outcome {
    /// How many were acknowledged: all.
    pub messages: u32,
    /// From the first publish to the last PUBACK.
    pub took: Duration,
    /// From publish to PUBACK, µs, in order.
    latencies: Vec<u32>,
}

impl Outcome {
    fn new(took: Duration, mut latencies: Vec<u32>) -> Self {
        latencies.sort_unstable();
        Self { messages: u32::try_from(latencies.len()).unwrap_or(u32::MAX), took, latencies }
    }

    /// The latency that this share of the messages did not exceed.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let at = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(at.saturating_sub(1)).map_or(0.0, |us| f64::from(*us) / 1000.0)
    }
}

/// The connected stations.
pub(super) struct Clients<'a> {
    prepared: &'a Prepared,
    clients: Vec<Arc<Client>>,
}

/// One connected station.
struct Client {
    stream: TcpStream,
    /// Publishes so far.
    sent: AtomicU32,
    /// Of them acknowledged.
    acknowledged: AtomicU32,
    /// When the publish that is on its way was sent, µs since the run began, and 1; 0 when none is. For one at a time.
    since: AtomicU64,
    /// What came of a packet that is not whole.
    rest: Mutex<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl<'a> Clients<'a> {
    /// Connects a client for each station of `prepared`. A native one subscribes to its acks and says what it is, as
    /// stations do.
    pub async fn connect(address: SocketAddr, prepared: &'a Prepared, native: bool) -> anyhow::Result<Self> {
        let count = u32::try_from(prepared.stations.len())?;
        let mut clients = Vec::with_capacity(prepared.stations.len());
        let mut opening = FuturesUnordered::new();
        let mut next = 0;
        while clients.len() < prepared.stations.len() {
            while next < count && opening.len() < OPENING {
                opening.push(async move { (next, timeout(ANSWER_TIMEOUT, open(address, next, native)).await) });
                next += 1;
            }
            if let Some((index, opened)) = opening.next().await {
                let opened = opened.unwrap_or_else(|_| bail!("no answer within {ANSWER_TIMEOUT:?}"));
                clients.push((index, opened.with_context(|| format!("station {index} cannot connect"))?));
            }
        }
        clients.sort_by_key(|(index, _)| *index);
        Ok(Self { prepared, clients: clients.into_iter().map(|(_, client)| Arc::new(client)).collect() })
    }

    /// Publishes that were acknowledged so far, of each connection.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.clients.iter().map(|client| u64::from(client.acknowledged.load(Ordering::Relaxed))).collect()
    }

    /// Sends `messages`, shared out evenly, each connection up to `window` before it has their PUBACKs.
    pub async fn pipelined(&mut self, messages: u32, window: usize) -> anyhow::Result<Outcome> {
        let each = messages as usize / self.clients.len();
        let began = Instant::now();
        let all = self
            .clients
            .iter()
            .zip(&self.prepared.stations)
            .map(|(client, frames)| client.pipelined(frames, each, window, began));
        let mut latencies = Vec::with_capacity(messages as usize);
        for done in futures_util::future::join_all(all).await {
            latencies.extend(done?);
        }
        Ok(Outcome::new(began.elapsed(), latencies))
    }

    /// Sends `messages`, `rate` of them a second at random moments, the connections taking turns. One whose publish is not
    /// acknowledged yet is passed over.
    pub async fn sparse(&mut self, messages: u32, rate: f64) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        let latencies = Arc::new(Mutex::new(Vec::with_capacity(messages as usize)));
        let readers: Vec<_> = self
            .clients
            .iter()
            .map(|client| tokio::spawn(Arc::clone(client).listen(began, Arc::clone(&latencies))))
            .collect();
        let sending = tokio::task::block_in_place(|| self.send_sparsely(messages, rate, began));
        let until = Instant::now() + ANSWER_TIMEOUT;
        let last = loop {
            if self.clients.iter().all(|client| client.since.load(Ordering::Acquire) == 0) {
                break Ok(());
            }
            if Instant::now() > until || readers.iter().any(tokio::task::JoinHandle::is_finished) {
                let waiting = self.clients.iter().filter(|c| c.since.load(Ordering::Acquire) > 0).count();
                break Err(anyhow::anyhow!("{waiting} publishes are not acknowledged"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let took = began.elapsed();
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        sending.and(last)?;
        Ok(Outcome::new(took, std::mem::take(&mut *lock(&latencies))))
    }

    /// The sender of [`Self::sparse`]: on a thread of its own, because it must not be late.
    fn send_sparsely(&self, messages: u32, rate: f64, began: Instant) -> anyhow::Result<()> {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut due = Duration::ZERO;
        let mut turns = self.clients.iter().zip(&self.prepared.stations).cycle();
        for _ in 0..messages {
            // Exponential gaps: as many stations that know nothing of each other send.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let uniform = ((random >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
            due += Duration::from_secs_f64(-uniform.min(1.0).ln() / rate);
            let wait = due.saturating_sub(began.elapsed());
            if wait > SHORTEST {
                std::thread::sleep(wait);
            }
            let mut passed_over = 0;
            for (client, frames) in turns.by_ref() {
                if client.send_one(frames, began)? {
                    break;
                }
                passed_over += 1;
                if passed_over > self.clients.len() {
                    ensure!(
                        began.elapsed() < due + ANSWER_TIMEOUT,
                        "nothing is acknowledged within {ANSWER_TIMEOUT:?}"
                    );
                    std::thread::sleep(SHORTEST);
                }
            }
        }
        Ok(())
    }
}

impl Client {
    async fn pipelined(
        &self,
        frames: &payload::Frames,
        messages: usize,
        window: usize,
        began: Instant,
    ) -> anyhow::Result<Vec<u32>> {
        let first = self.sent.load(Ordering::Relaxed) as usize;
        ensure!(first + messages <= frames.len(), "too few messages are prepared");
        let mut since = Vec::with_capacity(messages);
        let mut latencies = Vec::with_capacity(messages);
        while latencies.len() < messages {
            let to = messages.min(latencies.len() + window);
            if since.len() < to {
                // Each by itself, as the client libraries of stations write them.
                while since.len() < to {
                    let next = first + since.len();
                    self.write(frames.bytes(next, next + 1)).await?;
                    since.push(micros(began));
                }
                self.sent.store(u32::try_from(first + to)?, Ordering::Relaxed);
            }
            timeout(ANSWER_TIMEOUT, self.stream.readable())
                .await
                .with_context(|| format!("no PUBACK within {ANSWER_TIMEOUT:?}"))??;
            self.read(|_| {
                // Servers acknowledge in order (MQTT 3.1.1, 4.6).
                if let Some(since) = since.get(latencies.len()) {
                    latencies.push(u32::try_from(micros(began) - since).unwrap_or(u32::MAX));
                }
            })?;
        }
        Ok(latencies)
    }

    /// Sends the next message unless the one before is on its way.
    fn send_one(&self, frames: &payload::Frames, began: Instant) -> anyhow::Result<bool> {
        let number = self.sent.load(Ordering::Relaxed) as usize;
        if self.since.load(Ordering::Acquire) > 0 || number >= frames.len() {
            return Ok(false);
        }
        let bytes = frames.bytes(number, number + 1);
        self.since.store(micros(began) + 1, Ordering::Release);
        let written = self.stream.try_write(bytes)?;
        ensure!(written == bytes.len(), "a socket takes no whole message");
        self.sent.store(u32::try_from(number + 1)?, Ordering::Relaxed);
        Ok(true)
    }

    /// Notes PUBACKs of messages that are sent one at a time.
    async fn listen(self: Arc<Self>, began: Instant, latencies: Arc<Mutex<Vec<u32>>>) -> anyhow::Result<()> {
        loop {
            self.stream.readable().await?;
            let mut answers = 0;
            self.read(|_| answers += 1)?;
            for _ in 0..answers {
                let since = self.since.swap(0, Ordering::AcqRel);
                ensure!(since > 0, "a PUBACK for nothing");
                let took = (micros(began) + 1).saturating_sub(since);
                lock(&latencies).push(u32::try_from(took).unwrap_or(u32::MAX));
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there, and tells the packet id of each PUBACK in it.
    fn read(&self, mut acknowledged: impl FnMut(u16)) -> anyhow::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let read = match self.stream.try_read(&mut buffer) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut rest = lock(&self.rest);
        rest.extend_from_slice(&buffer[..read]);
        let mut at = 0;
        while let Some((first, body, length)) = packet(&rest[at..]) {
            if first >> 4 == 4
                && let [high, low] = rest[at + body..at + length]
            {
                acknowledged(u16::from_be_bytes([high, low]));
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            at += length;
        }
        rest.drain(..at);
        if rest.is_empty() && rest.capacity() > 4096 {
            *rest = Vec::new();
        }
        Ok(())
    }

    /// Waits until a packet of this type has come.
    async fn expect(&self, kind: u8) -> anyhow::Result<()> {
        let mut read = Vec::new();
        loop {
            self.stream.readable().await?;
            let mut buffer = [0; 256];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => bail!("the server has closed the connection"),
                Ok(count) => read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            while let Some((first, body, length)) = packet(&read) {
                let refused = first >> 4 == 2 && read[body + 1] != 0;
                ensure!(!refused, "the server refuses it with code {}", read[body + 1]);
                read.drain(..length);
                if first >> 4 == kind {
                    return Ok(());
                }
            }
        }
    }
}

/// A packet at the beginning: its first byte, where its body begins, and its length. None when it is not whole.
fn packet(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = usize::from(*bytes.get(at)?);
        length |= (byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (bytes.len() >= at + length).then_some((bytes[0], at, at + length))
}

async fn open(address: SocketAddr, index: u32, native: bool) -> anyhow::Result<Client> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&payload::connect(&payload::station(index))).await?;
    let client = Client {
        stream,
        sent: AtomicU32::new(0),
        acknowledged: AtomicU32::new(0),
        since: AtomicU64::new(0),
        rest: Mutex::default(),
    };
    client.expect(2).await?;
    if native {
        client.write(&payload::subscribe(&payload::topic(index, "ack"))).await?;
        client.expect(9).await?;
        let mut birth = Vec::new();
        payload::publish(&mut birth, &payload::topic(index, "birth"), u16::MAX, &payload::birth(60));
        client.write(&birth).await?;
        client.expect(4).await?;
    }
    Ok(client)
}
