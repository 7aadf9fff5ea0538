//! Many stations that report each minute: what they cost, and how much memory they take.
//!
//! They connect, each sends what it kept of the last hours (`--history`; a day and a bit fills every buffer that the
//! gateway has of a station), and from then on each reports once a minute, at random moments, for three minutes. The first
//! of these is not counted.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use proto::TimeScale;
use serde::Serialize;

use super::load::Clients;
use super::payload::{Format, Prepared, STEP_MS};
use super::process::Scratch;
use super::servers::Running;
use super::table::{Verdict, circumstances};
use super::{Args, PIPELINED_WINDOW, Programs};

/// Minutes that are measured, after one that is not.
const MINUTES: u32 = 2;

/// What so many stations cost.
#[derive(Debug, Clone, Serialize)]
struct Report {
    stations: u32,
    /// Memory when all are connected and have said what they are.
    connected_rss_bytes: u64,
    /// Hours of readings that each had kept.
    history_h: u32,
    /// The most memory in all.
    rss_bytes: u64,
    /// CPU time for each second, while all report each minute.
    share_of_core: f64,
    cpu_us_per_message: f64,
    messages_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Measures `stations` stations.
///
/// # Errors
/// As [`super::run`].
pub async fn run(stations: u32, args: &Args, programs: &Programs) -> anyhow::Result<()> {
    let scratch = Scratch::new(&args.dir)?;
    let mut running = Running::gateway(stations, TimeScale::real(), scratch.path(), programs, |_| ()).await?;
    let kept = args.history * 3_600_000 / u32::try_from(STEP_MS)?;
    let each = kept + MINUTES + 3;
    let reports = crate::wall_clock().plus_millis(-STEP_MS);
    let prepared = Prepared::new(Format::Native, stations, each, |number| {
        let beyond = i64::from(number) - i64::from(kept);
        reports.plus_millis(beyond * STEP_MS)
    });
    eprintln!("{stations} stations connect");
    let mut clients = Clients::connect(running.address, &prepared, true).await?;
    running.processes.rest().await?;
    let connected_rss_bytes = running.processes.rss()?;
    if kept > 0 {
        eprintln!("they send what they kept of {} hours", args.history);
        clients.pipelined(kept * stations, PIPELINED_WINDOW).await?;
        running.processes.rest().await?;
    }
    eprintln!("they report for {} minutes", MINUTES + 1);
    let rate = f64::from(stations) / 60.0;
    clients.sparse(stations, rate).await?;
    let before = running.processes.cpu()?;
    let outcome = clients.sparse(stations * MINUTES, rate).await?;
    // What is put off to the end of a window is counted, and what the gateway does meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let took = outcome.took + Duration::from_secs(1);
    let cpu = running.processes.cpu()? - before;
    let report = Report {
        stations,
        connected_rss_bytes,
        history_h: args.history,
        rss_bytes: running.processes.peak_rss()?,
        share_of_core: cpu.as_secs_f64() / took.as_secs_f64(),
        cpu_us_per_message: cpu.as_secs_f64() * 1e6 / f64::from(outcome.messages),
        messages_per_second: f64::from(outcome.messages) / outcome.took.as_secs_f64(),
        p50_ms: outcome.percentile_ms(0.50),
        p99_ms: outcome.percentile_ms(0.99),
    };
    running.check(&clients).await.context("what was measured is not what was meant")?;
    drop(clients);
    running.processes.end().await;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{} stations, each with {} h of readings", self.stations, self.history_h)?;
        writeln!(
            f,
            "memory: {:.0} MiB connected, {:.0} MiB at most",
            mib(self.connected_rss_bytes),
            mib(self.rss_bytes)
        )?;
        writeln!(
            f,
            "a report a minute: {:.0} a second, {:.2} % of a core, {:.0} µs a message, PUBACK after {:.1} ms (p99 {:.1} ms)",
            self.messages_per_second,
            self.share_of_core * 100.0,
            self.cpu_us_per_message,
            self.p50_ms,
            self.p99_ms
        )?;
        let most = if self.stations <= 1_000 { 60.0 } else { 300.0 };
        writeln!(f, "{}", Verdict::new("RSS", mib(self.rss_bytes), most, " MiB"))?;
        writeln!(f, "{}", Verdict::new("share of a core", self.share_of_core * 100.0, 3.0, " %"))?;
        writeln!(f, "{}", circumstances())
    }
}
