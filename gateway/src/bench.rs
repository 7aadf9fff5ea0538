//! The benchmark: what one message costs at this gateway, and beside it, in the same run and on the same load, what it
//! costs at least and what it costs at a broker.
//!
//! The question: does the whole gateway (front door, durable store, filters, windows, inference) cost less than a broker
//! alone? Every message is a QoS 1 publish of 8 channels, and counts when its PUBACK is there. Two shapes of load:
//!
//! - *pipelined*: 100 connections with up to 100 publishes in flight each, as fast as the server takes them: stations that
//!   send what they kept while the gateway was away.
//! - *sparse*: 1,000 connections, one message at a time, 6,000 a second in all at random moments: what stations do.
//!
//! Servers are processes of their own, on loopback, in a directory that goes with the run: the [`floor`], Mosquitto
//! (`persistence false`, nobody asked for a password, queues without limit), Mosquitto with `mosquitto_sub -q 1` on every
//! topic, and the gateway with native and with JSON payloads, without a cloud. Their CPU is the user and system time of all
//! their threads and children from `/proc`, from after a warm-up until they have come to rest after the last message: what
//! a server puts off is counted. A station's messages are a minute of its time apart, from some days ago on: it sends what
//! it kept, a report each minute, faster than it was measured. So its windows of a quarter of an hour close with every
//! fifteenth message, as in a field where stations report each minute, and go through the base model, which is held against
//! what the gateway says it has emitted and judged; its clock is the wall clock. The load comes from this process, encoded beforehand.
//!
//! Neighbours on the machine and its caches make one process slower than another that runs a minute later. So each server is
//! measured several times, all in turns, and the median of each figure counts; of memory the most.
//!
//! [`stations`] and [`soak`] answer two more questions: what ten thousand stations cost that report each minute, and
//! whether anything grows over a month.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

pub mod floor;
mod load;
mod payload;
mod process;
mod servers;
pub mod soak;
pub mod stations;
mod table;

pub use servers::{Program, Programs};
pub use table::Verdict;

use load::{Clients, Outcome};
use payload::{Format, Prepared};
use process::Scratch;
use servers::Running;

/// How long the measured part of a sparse run is, in seconds, unless told otherwise.
const SECONDS: u32 = 10;
/// How often each server is measured, unless told otherwise.
const ROUNDS: u32 = 3;
/// Messages of a pipelined run for each of those seconds. A fixed number, so that every server gets the same.
const PIPELINED_A_SECOND: u32 = 40_000;
const PIPELINED_CONNECTIONS: u32 = 100;
const PIPELINED_WINDOW: usize = 100;
const SPARSE_CONNECTIONS: u32 = 1_000;
/// Messages a second of all sparse connections together.
const SPARSE_RATE: u32 = 6_000;
/// The warm-up is this part of a run.
const WARM_UP: u32 = 5;

/// How messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// 100 connections, up to 100 in flight.
    Pipelined,
    /// 1,000 connections, one at a time, 6,000 a second in all.
    Sparse,
}

/// Who takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
pub enum Server {
    /// The least that a durable server does.
    #[serde(rename = "floor")]
    Floor,
    /// Mosquitto alone.
    #[serde(rename = "mosquitto")]
    Mosquitto,
    /// Mosquitto and a subscriber.
    #[serde(rename = "mosquitto+subscriber")]
    #[value(name = "mosquitto+subscriber")]
    MosquittoSubscriber,
    /// The gateway, native payloads.
    #[serde(rename = "gateway-native")]
    GatewayNative,
    /// The gateway, JSON payloads.
    #[serde(rename = "gateway-json")]
    GatewayJson,
}

impl Server {
    /// Its name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Mosquitto => "mosquitto",
            Self::MosquittoSubscriber => "mosquitto+subscriber",
            Self::GatewayNative => "gateway-native",
            Self::GatewayJson => "gateway-json",
        }
    }

    /// Native payloads go to the gateway only; to all others it is one whether they are.
    fn format(self) -> Format {
        if self == Self::GatewayNative { Format::Native } else { Format::Json }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// Seconds that each server is measured in the sparse shape; the pipelined shape has 40,000 messages for each
    #[arg(long, default_value_t = SECONDS, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub seconds: u32,
    /// How often each server is measured, all in turns; the median of each figure counts, of memory the most
    #[arg(long, default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Only this shape
    #[arg(long, value_enum)]
    pub shape: Option<Shape>,
    /// Only these servers
    #[arg(long, value_enum, value_delimiter = ',')]
    pub server: Vec<Server>,
    /// A glance: a few hundred messages, floor and gateway only
    #[arg(long)]
    pub quick: bool,
    /// One JSON object for each row, and nothing else on standard output
    #[arg(long)]
    pub json: bool,
    /// Instead of the table: so many stations that report each minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub stations: Option<u32>,
    /// With --stations: the hours of readings that each has kept and sends first, at most a week
    #[arg(long, value_name = "HOURS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=168))]
    pub history: u32,
    /// Measure this gateway's program instead of the own one
    #[arg(long, value_name = "PROGRAM")]
    pub gateway: Option<PathBuf>,
    /// Instead of the table: so many days of 24 stations, as fast as they go
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=400), conflicts_with = "stations")]
    pub soak: Option<u32>,
    /// Where the servers keep their files while it runs; must be on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub dir: PathBuf,
}

impl Args {
    /// A few hundred messages to the floor and the gateway.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            seconds: 1,
            rounds: 1,
            shape: None,
            server: Vec::new(),
            quick: true,
            json: false,
            stations: None,
            history: 0,
            gateway: None,
            soak: None,
            dir: std::env::temp_dir(),
        }
    }

    fn servers(&self) -> Vec<Server> {
        let all = Server::value_variants().iter().copied();
        if !self.server.is_empty() {
            return all.filter(|server| self.server.contains(server)).collect();
        }
        let broker = |server: &Server| matches!(server, Server::Mosquitto | Server::MosquittoSubscriber);
        all.filter(|server| !(self.quick && broker(server))).collect()
    }

    fn shapes(&self) -> Vec<Shape> {
        self.shape.map_or_else(|| Shape::value_variants().to_vec(), |shape| vec![shape])
    }

    fn plan(&self, shape: Shape) -> Plan {
        let (connections, messages) = match shape {
            Shape::Pipelined => (PIPELINED_CONNECTIONS, PIPELINED_A_SECOND * self.seconds),
            Shape::Sparse => (SPARSE_CONNECTIONS, SPARSE_RATE * self.seconds),
        };
        if self.quick { Plan { connections: 10, messages: 300 } } else { Plan { connections, messages } }
    }
}

/// How much is sent.
#[derive(Debug, Clone, Copy)]
struct Plan {
    connections: u32,
    /// Measured ones, of all connections together.
    messages: u32,
}

impl Plan {
    fn warm_up(self) -> u32 {
        (self.messages / WARM_UP).max(self.connections)
    }
}

/// What one server did with one shape of load.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// How messages came.
    pub shape: Shape,
    /// Who took them.
    pub server: Server,
    /// User and system time of all its processes, µs for each message.
    pub cpu_us_per_message: f64,
    /// Acknowledged messages a second.
    pub messages_per_second: f64,
    /// The most memory that it held, bytes; of all its processes.
    pub rss_bytes: u64,
    /// From publish to PUBACK, ms: the median.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// Bytes that it had written to disk for each byte of payload; in the table only.
    #[serde(skip)]
    pub written_per_payload_byte: f64,
}

/// Measures what `args` ask for, and prints it.
///
/// # Errors
/// When a server cannot be started, ends by itself or does not acknowledge.
pub fn run(args: &Args, programs: &Programs) -> anyhow::Result<()> {
    let mut programs = programs.clone();
    if let Some(path) = &args.gateway {
        programs.gateway = Program { path: path.clone(), arguments: Vec::new() };
    }
    let programs = &programs;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if let Some(stations) = args.stations {
        return runtime.block_on(stations::run(stations, args, programs));
    }
    if let Some(days) = args.soak {
        return runtime.block_on(soak::run(days, args, programs));
    }
    let rows = runtime.block_on(measure(args, programs, |row| {
        if args.json {
            println!("{}", serde_json::to_string(row).unwrap_or_default());
        }
    }))?;
    if !args.json {
        print!("{}", table::table(&rows));
        for verdict in table::verdicts(&rows) {
            println!("{verdict}");
        }
        println!("{}", table::circumstances());
    }
    Ok(())
}

/// Measures each shape with each server, and tells each row when it is there.
///
/// # Errors
/// As [`run`].
pub async fn measure(args: &Args, programs: &Programs, mut tell: impl FnMut(&Row)) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for shape in args.shapes() {
        let plan = args.plan(shape);
        let mut measured: BTreeMap<Server, Vec<Row>> = BTreeMap::new();
        for round in 1..=args.rounds {
            for server in args.servers() {
                let doing = || format!("{shape:?}, {}, round {round} of {}", server.name(), args.rounds);
                eprintln!("{}: {} connections, {} messages", doing(), plan.connections, plan.messages);
                let row = measure_one(shape, server, plan, args, programs).await.with_context(doing)?;
                measured.entry(server).or_default().push(row);
            }
        }
        for row in measured.values().filter_map(|rounds| median(rounds)) {
            tell(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Of each figure of a server's rounds the median, or the greater of the two in the middle; of memory the most.
fn median(rounds: &[Row]) -> Option<Row> {
    let of = |figure: fn(&Row) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    };
    Some(Row {
        cpu_us_per_message: of(|row| row.cpu_us_per_message)?,
        messages_per_second: of(|row| row.messages_per_second)?,
        rss_bytes: rounds.iter().map(|row| row.rss_bytes).max()?,
        p50_ms: of(|row| row.p50_ms)?,
        p99_ms: of(|row| row.p99_ms)?,
        written_per_payload_byte: of(|row| row.written_per_payload_byte)?,
        ..rounds.first()?.clone()
    })
}

async fn measure_one(
    shape: Shape,
    server: Server,
    plan: Plan,
    args: &Args,
    programs: &Programs,
) -> anyhow::Result<Row> {
    let scratch = Scratch::new(&args.dir)?;
    let mut running = Running::start(server, plan.connections, &scratch, programs).await?;
    // A sparse connection that waits longer than others for its turn lets them send more.
    let each = (plan.warm_up() + plan.messages).div_ceil(plan.connections) * 5 / 4 + 8;
    let prepared = Prepared::new(server.format(), plan.connections, each, payload::kept(each));
    let mut clients = Clients::connect(running.address, &prepared, server == Server::GatewayNative).await?;
    drive(&mut clients, shape, plan.warm_up()).await?;
    running.processes.rest().await?;
    let (before, written_before) = (running.processes.cpu()?, running.processes.written()?);
    let outcome = drive(&mut clients, shape, plan.messages).await?;
    running.processes.rest().await?;
    let cpu = running.processes.cpu()? - before;
    let written = running.processes.written()?.saturating_sub(written_before);
    let rss_bytes = running.processes.peak_rss()?;
    running.check(&clients).await?;
    drop(clients);
    running.processes.end().await;
    Ok(Row {
        shape,
        server,
        cpu_us_per_message: cpu.as_secs_f64() * 1e6 / f64::from(outcome.messages),
        messages_per_second: f64::from(outcome.messages) / outcome.took.as_secs_f64(),
        rss_bytes,
        p50_ms: outcome.percentile_ms(0.50),
        p99_ms: outcome.percentile_ms(0.99),
        written_per_payload_byte: written as f64 / (f64::from(outcome.messages) * prepared.payload_bytes),
    })
}

async fn drive(clients: &mut Clients<'_>, shape: Shape, messages: u32) -> anyhow::Result<Outcome> {
    match shape {
        Shape::Pipelined => clients.pipelined(messages, PIPELINED_WINDOW).await,
        Shape::Sparse => clients.sparse(messages, f64::from(SPARSE_RATE)).await,
    }
}
