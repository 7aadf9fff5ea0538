//! How each measured server is started, and how it is seen that it did what it acknowledged.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use proto::TimeScale;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Server;
use super::load::Clients;
use super::payload::{CHANNELS, FARM, PASSWORD, STEP_MS, station};
use super::process::{Processes, Scratch};
use crate::config::{Config, WindowsConfig};
use crate::filter::HALF_WIDTH;
use crate::window::Rhythm;

/// How long a server may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the last windows may take to be on disk once all is quiet; they wait some seconds for others.
const EMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a subscriber may take to have its subscription.
const SUBSCRIBE_TIME: Duration = Duration::from_secs(1);

/// A program and what it is to be called with before the benchmark's own arguments.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<String>,
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        command
    }
}

/// What is started to be measured.
#[derive(Debug, Clone)]
pub struct Programs {
    /// A gateway; gets `--config FILE`.
    pub gateway: Program,
    /// The floor; gets its directory, and calls [`floor::serve`](super::floor::serve) with it.
    pub floor: Program,
}

/// A server that listens.
pub(super) struct Running {
    pub address: SocketAddr,
    pub processes: Processes,
    /// The gateway's page.
    status: Option<SocketAddr>,
}

impl Running {
    /// Starts `server` for so many stations.
    pub async fn start(server: Server, stations: u32, scratch: &Scratch, programs: &Programs) -> anyhow::Result<Self> {
        match server {
            Server::Floor => {
                let mut processes = Processes::default();
                let mut command = programs.floor.command();
                command.arg(scratch.path());
                processes.start("floor", command, scratch.path())?;
                let ready = ready(&scratch.path().join("ready.json"), &mut processes).await?;
                Ok(Self { address: address(&ready, "mqtt")?, processes, status: None })
            }
            Server::Mosquitto | Server::MosquittoSubscriber => {
                mosquitto(server == Server::MosquittoSubscriber, scratch).await
            }
            Server::GatewayNative | Server::GatewayJson => {
                Self::gateway(stations, TimeScale::real(), scratch.path(), programs, |_| ()).await
            }
        }
    }

    /// Starts a gateway whose clock runs like `time`; `change` changes its configuration.
    pub async fn gateway(
        stations: u32,
        time: TimeScale,
        dir: &Path,
        programs: &Programs,
        change: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        let mut config: Config = toml::from_str(&format!(
            "farm = {FARM:?}\ngateway = \"bench\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n",
            dir.join("data"),
            dir.join("ready.json"),
        ))?;
        config.time = time;
        config.door.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        config.door.credentials = Some(dir.join("credentials.toml"));
        // All stations come from one address, at once, and faster than any station does.
        config.door.connections_per_s_per_address = 0;
        config.door.rate_messages_per_s = 0;
        config.door.rate_bytes_per_s = 0;
        change(&mut config);
        let mut credentials = String::new();
        let digest = hex::encode(Sha256::digest(PASSWORD));
        for index in 0..stations {
            let name = station(index);
            writeln!(credentials, "[[client]]\nname = {name:?}\nrole = \"station\"\npassword_sha256 = {digest:?}")?;
        }
        fs::write(dir.join("credentials.toml"), credentials)?;
        fs::write(dir.join("gateway.toml"), toml::to_string(&config)?)?;
        let mut processes = Processes::default();
        let mut command = programs.gateway.command();
        // As `deploy/Dockerfile` sets it.
        command.arg("--config").arg(dir.join("gateway.toml")).env("MIMALLOC_PURGE_DELAY", "10");
        processes.start("gateway", command, dir)?;
        let ready = ready(&dir.join("ready.json"), &mut processes).await?;
        Ok(Self { address: address(&ready, "mqtt")?, processes, status: Some(address(&ready, "status")?) })
    }

    /// A gateway must have taken as many readings as were acknowledged, have emitted the windows that they fill, and have had
    /// them judged by its model.
    ///
    /// # Errors
    /// When it has not: then it was something else that was measured.
    pub async fn check(&mut self, clients: &Clients<'_>) -> anyhow::Result<()> {
        self.processes.check()?;
        let Some(status) = self.status else { return Ok(()) };
        let sent = clients.acknowledged();
        let until = Instant::now() + EMIT_TIMEOUT;
        loop {
            let metrics = reqwest::get(format!("http://{status}/metrics")).await?.text().await?;
            match has_done(&metrics, &sent) {
                Err(_) if Instant::now() < until => sleep(Duration::from_millis(100)).await,
                done => return done,
            }
        }
    }
}

/// Whether a gateway that says this of itself has done all that there was to do with so many messages of each station.
fn has_done(metrics: &str, sent: &[u64]) -> anyhow::Result<()> {
    let readings = sent.iter().sum::<u64>() * CHANNELS.len() as u64;
    let full = sent.iter().copied().map(windows_of).sum::<u64>();
    // A window is judged when every station is that far.
    let due = sent.iter().min().copied().map_or(0, windows_of) * sent.len() as u64;
    let [stored, emitted, judged] = ["readings", "windows", "windows_judged"].map(|event| counter(metrics, event));
    ensure!(stored == readings, "{readings} readings are acknowledged, but {stored} stored");
    ensure!(emitted >= full, "{full} windows are full, but {emitted} emitted");
    ensure!(judged >= due, "{due} windows are to be judged, but {judged} are");
    Ok(())
}

/// How many windows so many messages of a station fill at least, each of a minute, and no filter looks beyond their end.
fn windows_of(messages: u64) -> u64 {
    let ahead = HALF_WIDTH as u64 * u64::from(Rhythm::default().interval_s) * 1000 / STEP_MS.unsigned_abs();
    let window = u64::from(WindowsConfig::default().length_s) * 1000 / STEP_MS.unsigned_abs();
    messages.saturating_sub(1 + ahead) / window
}

/// A counter of `/metrics`; 0 when it has not begun to count.
fn counter(metrics: &str, event: &str) -> u64 {
    let begin = format!("{{event=\"{event}\"}} ");
    metrics.lines().find_map(|line| line.split_once(&begin)?.1.parse().ok()).unwrap_or(0)
}

async fn mosquitto(subscriber: bool, scratch: &Scratch) -> anyhow::Result<Running> {
    let dir = scratch.path();
    // It cannot say which port it took, so a free one is looked for and named.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let config = dir.join("mosquitto.conf");
    fs::write(
        &config,
        format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nmax_inflight_messages 0\nuser root\n",
            address.port()
        ),
    )?;
    let mut processes = Processes::default();
    let mut command = Command::new(program("mosquitto"));
    command.arg("-c").arg(config);
    processes.start("mosquitto", command, dir)?;
    let until = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(address).await.is_err() {
        processes.check()?;
        ensure!(Instant::now() < until, "mosquitto does not listen on {address} within {START_TIMEOUT:?}");
        sleep(Duration::from_millis(20)).await;
    }
    if subscriber {
        let mut command = Command::new(program("mosquitto_sub"));
        command.args(["-h", "127.0.0.1", "-p", &address.port().to_string(), "-q", "1", "-t", "#"]);
        processes.start("mosquitto_sub", command, dir)?;
        sleep(SUBSCRIBE_TIME).await;
        processes.check()?;
    }
    Ok(Running { address, processes, status: None })
}

/// Debian keeps servers where a user's PATH does not look.
fn program(name: &str) -> PathBuf {
    let there = Path::new("/usr/sbin").join(name);
    if there.is_file() { there } else { PathBuf::from(name) }
}

/// Waits for the file that says where a server listens.
async fn ready(path: &Path, processes: &mut Processes) -> anyhow::Result<serde_json::Value> {
    let until = Instant::now() + START_TIMEOUT;
    loop {
        if let Ok(text) = fs::read(path) {
            return serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", path.display()));
        }
        processes.check()?;
        if Instant::now() > until {
            bail!("it does not listen within {START_TIMEOUT:?}");
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn address(ready: &serde_json::Value, key: &str) -> anyhow::Result<SocketAddr> {
    let text = ready[key].as_str().with_context(|| format!("it does not say its {key} address"))?;
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_stores_and_does_not_think_is_not_measured() {
        // Of 100 and 46 messages, a minute apart, 5 and 2 quarters of an hour are over with the quarter that a filter may look
        // beyond.
        let sent = [100, 46];
        let said = |readings: u64, windows: u64, judged: u64| {
            let metrics = format!(
                "# HELP x\ngateway_events_total{{event=\"readings\"}} {readings}\n\
                 gateway_events_total{{event=\"windows\"}} {windows}\n\
                 gateway_events_total{{event=\"windows_judged\"}} {judged}\n"
            );
            has_done(&metrics, &sent).map_err(|error| error.to_string())
        };
        let readings = 146 * CHANNELS.len() as u64;
        assert_eq!(said(readings, 7, 4), Ok(()));
        for (windows, judged, wrong) in [
            (6, 4, "7 windows are full, but 6 emitted"),
            (0, 0, "7 windows are full, but 0 emitted"),
            (8, 3, "4 windows are to be judged, but 3 are"),
        ] {
            assert_eq!(said(readings, windows, judged).unwrap_err(), wrong);
        }
        assert!(said(readings - 1, 7, 4).unwrap_err().contains("are acknowledged"));
    }
}
