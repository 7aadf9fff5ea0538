//! The floor: a durable MQTT server that does nothing but what every durable one must. It parses the frame, appends, syncs
//! every 50 ms, and then acknowledges. Whatever a gateway costs beyond it is what it does with the message.
//!
//! It lets everybody in, and knows CONNECT, SUBSCRIBE, PINGREQ and PUBLISH.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rumqttc::mqttbytes::{Error, check};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How often it syncs.
const SYNC: Duration = Duration::from_millis(50);
/// The largest frame that it takes.
const FRAME_MOST: usize = 1 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// What came since the last sync.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    /// Connections with the PUBACKs that they get after it.
    waiting: Vec<(Arc<Client>, Vec<u8>)>,
}

/// What is released for one connection.
#[derive(Default)]
struct Client {
    out: Mutex<Vec<u8>>,
    wake: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves on a free port of loopback until it is killed, keeps everything in `dir`, and writes the address to
/// `dir/ready.json`.
///
/// # Errors
/// When it cannot listen or write.
pub fn serve(dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let group = Arc::new(Mutex::new(Group::default()));
        let file = File::create(dir.join("log")).with_context(|| format!("cannot write in {}", dir.display()))?;
        let syncing = Arc::clone(&group);
        std::thread::Builder::new().name("sync".to_owned()).spawn(move || sync(file, &syncing))?;
        let ready = serde_json::json!({ "mqtt": listener.local_addr()?.to_string() });
        fs::write(dir.join("ready.making"), ready.to_string())?;
        fs::rename(dir.join("ready.making"), dir.join("ready.json"))?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(client(stream, Arc::clone(&group)));
        }
    })
}

/// Brings to disk what came, and releases its PUBACKs, for ever.
fn sync(mut file: File, group: &Mutex<Group>) {
    loop {
        std::thread::sleep(SYNC);
        let Group { bytes, waiting } = std::mem::take(&mut *lock(group));
        if waiting.is_empty() {
            continue;
        }
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            eprintln!("floor: {error}");
            std::process::exit(1);
        }
        for (client, acknowledgements) in waiting {
            lock(&client.out).extend_from_slice(&acknowledgements);
            client.wake.notify_one();
        }
    }
}

async fn client(stream: TcpStream, group: Arc<Mutex<Group>>) {
    // Whoever goes, or sends what is no MQTT, is not served any more.
    let _ = converse(&stream, &group).await;
}

async fn converse(stream: &TcpStream, group: &Mutex<Group>) -> anyhow::Result<()> {
    let client = Arc::new(Client::default());
    let mut rest = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = client.wake.notified() => {
                let out = std::mem::take(&mut *lock(&client.out));
                write(stream, &out).await?;
            }
            readable = stream.readable() => {
                readable?;
                let answer = SCRATCH.with_borrow_mut(|scratch| match stream.try_read(scratch) {
                    Ok(0) => bail!("it has gone"),
                    Ok(read) => take(&scratch[..read], &mut rest, &client, group),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Vec::new()),
                    Err(error) => Err(error.into()),
                })?;
                write(stream, &answer).await?;
            }
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Takes the frames of what was read: publishes go to the group, the answer to others is returned.
fn take(read: &[u8], rest: &mut Vec<u8>, client: &Arc<Client>, group: &Mutex<Group>) -> anyhow::Result<Vec<u8>> {
    let joined;
    let mut bytes = if rest.is_empty() {
        read
    } else {
        rest.extend_from_slice(read);
        joined = std::mem::take(rest);
        joined.as_slice()
    };
    let (mut answer, mut acknowledgements, mut publishes) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let frame = match check(bytes.iter(), FRAME_MOST) {
            Ok(header) => header.frame_length(),
            Err(Error::InsufficientBytes(_)) => break,
            Err(error) => bail!("{error}"),
        };
        let (frame, after) = bytes.split_at(frame);
        bytes = after;
        match frame[0] >> 4 {
            1 => answer.extend_from_slice(&[0x20, 2, 0, 0]),
            3 => {
                let body = 1 + frame[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
                let length = frame.get(body..body + 2).context("a PUBLISH without a topic")?;
                let packet = body + 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                let packet = frame.get(packet..packet + 2).context("a PUBLISH without a packet id")?;
                acknowledgements.extend_from_slice(&[0x40, 2, packet[0], packet[1]]);
                publishes.push(frame);
            }
            8 => answer.extend_from_slice(&[0x90, 3, frame[2], frame[3], 0]),
            12 => answer.extend_from_slice(&[0xd0, 0]),
            other => bail!("a packet of type {other}"),
        }
    }
    rest.extend_from_slice(bytes);
    if !publishes.is_empty() {
        let mut group = lock(group);
        publishes.iter().for_each(|frame| group.bytes.extend_from_slice(frame));
        group.waiting.push((Arc::clone(client), acknowledgements));
    }
    Ok(answer)
}
