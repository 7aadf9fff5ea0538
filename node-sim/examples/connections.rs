//! What many stations cost in one process: memory and time of the processor, each station with an MQTT connection of its own
//! to a real broker (Mosquitto), and a report each minute.
//!
//! ```text
//! cargo run --release -p node-sim --example connections
//! ```
//!
//! The stations run in this process, exactly as `node-sim` runs them. The broker is a process of its own, and so is the
//! stand-in for a gateway, which acknowledges every report; neither is counted. Every connection takes a file descriptor
//! here and in the broker: the limit is raised as far as it may be, and what is missing is said.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use node_sim::{Config, FarmConfig, Pace};
use proto::{Ack, Batch, TimeScale, Timestamp, Topic, TopicKind};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio_util::sync::CancellationToken;

/// What one process may take: memory, and share of one core.
const MOST_MIB: f64 = 600.0;
const MOST_SHARE: f64 = 0.1;
/// File descriptors besides the connections: files, pipes, the runtime's.
const SPARE: u64 = 100;
/// How long all stations may take to connect and to have reported once.
const PATIENCE: Duration = Duration::from_secs(600);
/// Times in `/proc` are in hundredths of a second on every Linux that Rust runs on (`USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

#[derive(Parser)]
#[command(about = "What many stations cost in one process")]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// How many stations
    #[arg(long, default_value_t = 10_000)]
    stations: u32,
    /// How long is measured, once every station has reported
    #[arg(long, default_value_t = 2)]
    minutes: u32,
    /// Connect to a broker that runs already, where somebody acknowledges, instead of starting both
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
}

#[derive(Subcommand)]
enum Part {
    /// Be the stand-in for a gateway: acknowledge every report, and write down how many there were
    #[command(hide = true)]
    Gateway { port: u16, count: PathBuf },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let result = match cli.part {
        Some(Part::Gateway { port, count }) => runtime.block_on(acknowledge(port, &count)).map(|()| true),
        None => runtime.block_on(measure(&cli)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("connections: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A process that ends with this one.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(cli: &Cli) -> anyhow::Result<bool> {
    raise_limit(u64::from(cli.stations) + SPARE)?;
    let dir = tempfile::tempdir()?;
    let count = dir.path().join("reports");
    let (broker, _processes) = match &cli.broker {
        Some(broker) => (broker.clone(), Vec::new()),
        None => {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            (format!("127.0.0.1:{port}"), vec![mosquitto(dir.path(), port)?, gateway(port, &count)?])
        }
    };
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    let farm = FarmConfig { stations: cli.stations, sample_s: 60, report_s: 60, ..FarmConfig::default() };
    let time = TimeScale { wall: now, farm: farm.start, speed: 1.0 };
    let config = Config { pace: Pace::Scale, time, ..Config::new(farm, &broker, dir.path().join("state")) };
    eprintln!("{} stations connect and report for the first time", cli.stations);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(node_sim::run(config, shutdown.clone()));
    let begun = Instant::now();
    while cli.broker.is_none() && reports(&count) < u64::from(cli.stations) {
        if running.is_finished() {
            running.await??;
            bail!("the stations have ended");
        }
        if begun.elapsed() > PATIENCE {
            bail!("only {} reports came within {PATIENCE:?}", reports(&count));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if cli.broker.is_some() {
        tokio::time::sleep(Duration::from_secs(90)).await;
    }
    eprintln!("measuring for {} min", cli.minutes);
    let (connections, reported, cpu, begun) = (sockets()?, reports(&count), cpu_s()?, Instant::now());
    tokio::time::sleep(Duration::from_secs(60 * u64::from(cli.minutes))).await;
    let share = (cpu_s()? - cpu) / begun.elapsed().as_secs_f64();
    let rate = (reports(&count) - reported) as f64 / begun.elapsed().as_secs_f64();
    let (rss, peak) = (memory_mib("VmRSS")?, memory_mib("VmHWM")?);
    let held = sockets()?;
    shutdown.cancel();
    running.await??;

    println!("{} stations, {connections} connections at the beginning and {held} at the end", cli.stations);
    if cli.broker.is_none() {
        println!("{rate:.1} reports a second, each acknowledged end to end");
    }
    println!("memory: {rss:.0} MiB, {peak:.0} MiB at most (allowed: {MOST_MIB:.0} MiB)");
    println!("time of the processor: {:.2} % of a core (allowed: {:.0} %)", 100.0 * share, 100.0 * MOST_SHARE);
    let enough = u64::from(cli.stations) * 99 / 100;
    Ok(peak <= MOST_MIB && share <= MOST_SHARE && connections.min(held) >= enough)
}

/// Lets this process and those that it starts open so many files.
fn raise_limit(files: u64) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < files {
        if hard < files {
            bail!("{files} files must be open at a time, but only {hard} may (ulimit -Hn): let a superuser raise it");
        }
        setrlimit(Resource::RLIMIT_NOFILE, files, hard)?;
    }
    Ok(())
}

fn mosquitto(dir: &Path, port: u16) -> anyhow::Result<Ended> {
    let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
    let program = places.into_iter().find(|path| Path::new(path).exists());
    let program = program.context("Mosquitto is needed (apt-get install mosquitto), or --broker")?;
    let config = format!(
        "listener {port} 127.0.0.1\nuser root\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"
    );
    let path = dir.join("mosquitto.conf");
    std::fs::write(&path, config)?;
    let child = Command::new(program).arg("-c").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(Ended(child))
}

fn gateway(port: u16, count: &Path) -> anyhow::Result<Ended> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(Ended(command.arg("gateway").arg(port.to_string()).arg(count).spawn()?))
}

/// Acknowledges the highest sequence up to which each station and boot is whole.
async fn acknowledge(port: u16, count: &Path) -> anyhow::Result<()> {
    let mut options = MqttOptions::new("gateway", "127.0.0.1", port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(options, 4096);
    let mut highest: HashMap<(String, u32), u64> = HashMap::new();
    let (mut reports, mut written) = (0u64, Instant::now());
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.subscribe("tilth/v1/+/+/data", QoS::AtLeastOnce).await?;
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let topic: Topic = message.topic.parse()?;
                let batch = Batch::decode(&message.payload)?;
                let known = highest.entry((topic.station.to_string(), batch.boot)).or_default();
                reports += u64::from(batch.sequence > *known);
                *known = batch.sequence.max(*known);
                let ack = Ack { boot: batch.boot, sequence: *known };
                let topic = Topic { kind: TopicKind::Ack, ..topic }.to_string();
                // A full queue loses an acknowledgement, as a radio does.
                let _ = client.try_publish(topic, QoS::AtMostOnce, false, ack.encode());
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        if written.elapsed() > Duration::from_millis(200) {
            written = Instant::now();
            let new = count.with_extension("new");
            std::fs::write(&new, reports.to_string())?;
            std::fs::rename(new, count)?;
        }
    }
}

/// How many reports the stand-in has written down.
fn reports(count: &Path) -> u64 {
    std::fs::read_to_string(count).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The sockets of this process.
fn sockets() -> anyhow::Result<u64> {
    let links = std::fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(links.filter(|link| link.to_string_lossy().starts_with("socket:")).count() as u64)
}

/// User and system time of this process, s: fields 14 and 15 of `/proc/self/stat` (`man 5 proc`).
fn cpu_s() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = text.rsplit_once(')').context("/proc/self/stat")?;
    let ticks = rest.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_A_SECOND)
}

fn memory_mib(key: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).context("/proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
