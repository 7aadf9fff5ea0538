//! `tilth node-model train`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use cloud::train::{NodeOptions, NodeReport, NodeSamples, train_node};
use node_sim::FarmConfig;
use node_sim::station::CHANNELS;
use proto::{Channel, NodeModelVersion, Quantity, Reading, StationId, Timestamp};

/// What to train on, and what to call it.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Simulated days to train on, spread over the year; half as many more set the thresholds.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(4..=3650))]
    days: u32,
    /// In how many stretches over the year.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=12))]
    seasons: u32,
    /// Simulated stations.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    stations: u32,
    /// The seed of the simulation and of the training. The same arguments give the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passes over the samples.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: u32,
    /// How many samples the model looks at, the newest among them.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=16))]
    steps: u8,
    /// Hidden units.
    #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(u8).range(1..=32))]
    hidden: u8,
    /// The file to write; beside it FILE.txt says how it was made.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The model's version.
    #[arg(long, default_value = "1.0.0")]
    version: NodeModelVersion,
}

/// What keeps the seeds of what sets the thresholds away from those that are trained on.
const HELD_OUT_SEED: u64 = 1_000_000;

/// What a node's model looks at: what follows from what was before. Rain begins when it likes, and a radio's strength is
/// chance.
#[must_use]
pub fn channels() -> Vec<Channel> {
    CHANNELS.into_iter().filter(|channel| !matches!(channel.quantity, Quantity::Rain | Quantity::Rssi)).collect()
}

/// Trains a model, and writes it.
///
/// # Errors
/// When a file cannot be written, or when nothing can be learnt.
pub fn run(args: &TrainArgs, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let stretch_s = i64::from(args.days) * 86_400 / i64::from(args.seasons);
    let channels = channels();
    let empty = || NodeSamples { channels: channels.clone(), tracks: Vec::new() };
    let (mut training, mut held_out) = (empty(), empty());
    for season in 0..args.seasons {
        let start = FarmConfig::default().start.plus_secs(i64::from(season) * 365 * 86_400 / i64::from(args.seasons));
        let farm =
            |seed: u64, start: Timestamp| FarmConfig { start, seed, stations: args.stations, ..FarmConfig::default() };
        let seed = args.seed + u64::from(season);
        add(&mut training, &farm(seed, start), stretch_s)?;
        add(&mut held_out, &farm(seed + HELD_OUT_SEED, start.plus_secs(stretch_s)), stretch_s / 2)?;
    }
    let options = NodeOptions {
        version: args.version,
        seed: args.seed,
        epochs: args.epochs,
        steps: usize::from(args.steps),
        hidden: usize::from(args.hidden),
        learning_rate: 3e-3,
    };
    let trained = train_node(&options, &training, &held_out, |epoch, loss| {
        if !json && (epoch + 1).is_multiple_of(5) {
            println!("epoch {:>3}: loss {loss:.6}, {} s", epoch + 1, begun.elapsed().as_secs());
        }
    })?;
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    write(&args.out, &trained.bytes)?;
    write(&described_in(&args.out), format!("{}\n", described(args)).as_bytes())?;
    if json {
        println!("{}", serde_json::to_string_pretty(&trained.report)?);
    } else {
        print(&trained.report, begun);
    }
    Ok(ExitCode::SUCCESS)
}

/// Where it is said how a file was made.
pub fn described_in(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".txt");
    file.with_file_name(name)
}

/// The command that makes the model again.
fn described(args: &TrainArgs) -> String {
    let TrainArgs { days, seasons, stations, seed, epochs, steps, hidden, version, .. } = args;
    format!(
        "simulated farms without faults: tilth node-model train --days {days} --seasons {seasons} --stations {stations} --seed {seed} --epochs {epochs} --steps {steps} --hidden {hidden} --version {version}"
    )
}

/// A station's samples as they come.
struct Open {
    track: Vec<Vec<f64>>,
    time: Timestamp,
    row: Vec<Option<f64>>,
}

/// Adds the samples of a farm, from its start on. A sample without one of the channels begins another track.
fn add(to: &mut NodeSamples, farm: &FarmConfig, seconds: i64) -> anyhow::Result<()> {
    let channels = to.channels.clone();
    let mut stations: BTreeMap<StationId, Open> = BTreeMap::new();
    let mut done: Vec<Vec<Vec<f64>>> = Vec::new();
    let mut end = |track: &mut Vec<Vec<f64>>, row: &mut Vec<Option<f64>>| {
        let values: Option<Vec<f64>> = std::mem::replace(row, vec![None; channels.len()]).into_iter().collect();
        match values {
            Some(values) => track.push(values),
            None => done.extend(Some(std::mem::take(track)).filter(|track| !track.is_empty())),
        }
    };
    node_sim::simulate(farm, farm.start, farm.start.plus_secs(seconds), |station, reading: Reading| {
        if !stations.contains_key(station) {
            let row = vec![None; channels.len()];
            stations.insert(station.clone(), Open { track: Vec::new(), time: reading.time, row });
        }
        let Some(Open { track, time, row }) = stations.get_mut(station) else { return };
        if *time != reading.time {
            end(track, row);
            *time = reading.time;
        }
        if let Some(at) = channels.iter().position(|channel| *channel == reading.channel) {
            row[at] = Some(reading.value);
        }
    })?;
    for Open { mut track, mut row, .. } in stations.into_values() {
        end(&mut track, &mut row);
        end(&mut track, &mut vec![None; channels.len()]);
    }
    to.tracks.extend(done);
    Ok(())
}

fn print(report: &NodeReport, begun: Instant) {
    println!("{} samples, {} bytes, {} s", report.samples, report.bytes, begun.elapsed().as_secs());
    println!("errors on what was held out, root mean square, in the channel's unit:");
    println!(
        "{:<24} {:>10} {:>10} {:>10} {:>13} {:>10} {:>10}",
        "channel", "as before", "float", "8 bits", "quantisation", "step", "threshold"
    );
    for channel in &report.channels {
        println!(
            "{:<24} {:>10.4} {:>10.4} {:>10.4} {:>13.4} {:>10.4} {:>10.4}",
            channel.channel.to_string(),
            channel.as_before,
            channel.float,
            channel.integer,
            channel.quantisation,
            channel.resolution,
            channel.threshold
        );
    }
    println!("{} of {} fault-free samples are called unusual", report.false_alerts, report.held_out);
}
