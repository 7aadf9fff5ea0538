//! `tilth model train`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use cloud::train::{Corpus, Options, Report, Trained, train};
use gateway::validate::{Limits, Tolerance};
use gateway::window::{Origin, Shape, Windows};
use node_sim::FarmConfig;
use proto::{Reading, StationId, Timestamp, Window};

/// What to train on, and what to call it.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Simulated days to train on, for each kind of weather, spread over the year; half as many more set the thresholds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(4..=3650))]
    days: u32,
    /// In how many stretches over the year.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=12))]
    seasons: u32,
    /// Simulated stations.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(2..=1000))]
    stations: u32,
    /// The seed of the simulation and of the training. The same arguments give the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file of measured weather to train on beside the synthetic one. May be given several times.
    #[arg(long, value_name = "FILE")]
    weather: Vec<PathBuf>,
    /// Passes over the samples.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: u32,
    /// The directory to write to; it is made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model's name.
    #[arg(long, default_value = "soil-anomaly")]
    name: String,
    /// The model's version.
    #[arg(long, default_value = "1.0.0")]
    version: String,
    /// The version that it is made from; it must be registered when this one is pushed.
    #[arg(long, value_name = "VERSION")]
    parent: Option<String>,
}

/// Window length of the models that are trained here, s; the gateway's.
const WINDOW_S: u32 = 900;

/// What keeps the seeds of what sets the thresholds away from those that are trained on.
const HELD_OUT_SEED: u64 = 1_000_000;

/// Trains a model, and writes it.
///
/// # Errors
/// When a file cannot be read or written, or when nothing can be learnt.
pub fn run(args: &TrainArgs, json: bool) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let stretch_s = i64::from(args.days) * 86_400 / i64::from(args.seasons);
    let (mut training, mut held_out) = (None, None);
    let weathers = std::iter::once(None).chain(args.weather.iter().map(Some));
    for (kind, weather) in weathers.enumerate() {
        for season in 0..args.seasons {
            let start =
                FarmConfig::default().start.plus_secs(i64::from(season) * 365 * 86_400 / i64::from(args.seasons));
            let run = u64::from(season) + 100 * kind as u64;
            let simulate = |seed: u64, from: Timestamp, seconds: i64| {
                let farm = FarmConfig {
                    start: from,
                    seed,
                    stations: args.stations,
                    weather: weather.cloned().into(),
                    ..FarmConfig::default()
                };
                corpus(&farm, &format!("r{run}-"), from.plus_secs(seconds))
            };
            add(&mut training, simulate(args.seed + run, start, stretch_s)?)?;
            // What comes after it, on other stations.
            add(&mut held_out, simulate(args.seed + HELD_OUT_SEED + run, start.plus_secs(stretch_s), stretch_s / 2)?)?;
            if !json {
                println!(
                    "simulated {} from {start}, {} s",
                    weather.map_or("synthetic weather".into(), |w| w.display().to_string()),
                    begun.elapsed().as_secs()
                );
            }
        }
    }
    let (training, held_out) =
        (training.context("no weather to train on")?, held_out.context("no weather to hold out")?);
    let options = Options {
        name: args.name.clone(),
        version: args.version.clone(),
        trained_on: described(args),
        seed: args.seed,
        epochs: args.epochs,
        parent: args.parent.clone(),
        ..Options::default()
    };
    let trained = train(&options, &training, &held_out, |epoch, loss| {
        if !json {
            println!("epoch {:>3}: loss {loss:.4}, {} s", epoch + 1, begun.elapsed().as_secs());
        }
    })?;
    write(&args.out, &trained)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&trained.report)?);
    } else {
        print(&trained.report, trained.onnx.len(), begun);
    }
    Ok(ExitCode::SUCCESS)
}

/// The command that makes the model again. Of files only the name: where they lie is nobody's business.
fn described(args: &TrainArgs) -> String {
    let TrainArgs { days, seasons, stations, seed, epochs, .. } = args;
    let name = |path: &PathBuf| {
        path.file_name().map_or_else(String::new, |name| format!(" --weather {}", name.to_string_lossy()))
    };
    let weather: String = args.weather.iter().map(name).collect();
    format!(
        "simulated farms without faults: tilth model train --days {days} --seasons {seasons} --stations {stations} --seed {seed} --epochs {epochs}{weather}"
    )
}

fn add(to: &mut Option<Corpus>, more: Corpus) -> anyhow::Result<()> {
    *to = Some(match to.take() {
        None => more,
        Some(corpus) => corpus.merge(more)?,
    });
    Ok(())
}

/// The windows that a gateway would make of a farm's readings, from its start to `to`. Station names get `prefix`, so that
/// those of several farms can stand side by side.
fn corpus(farm: &FarmConfig, prefix: &str, to: Timestamp) -> anyhow::Result<Corpus> {
    let shape = Shape {
        length_s: WINDOW_S,
        context_ms: 3600 * 1000,
        idle_ms: 3600 * 1000,
        tolerance: Tolerance { future_ms: 0, lateness_ms: 0, oldest_ms: i64::MAX },
    };
    let mut windows = Windows::new(shape, Limits::of);
    let mut closed: Vec<Window> = Vec::new();
    // One station's readings of one time: a batch.
    let mut batch: Vec<Reading> = Vec::new();
    let mut of: Option<StationId> = None;
    let mut sequence = 0;
    let mut insert = |of: &Option<StationId>, batch: &mut Vec<Reading>| {
        if let (Some(station), Some(first)) = (of, batch.first()) {
            sequence += 1;
            windows.insert(station, Origin { boot: 1, sequence }, batch, first.time, sequence);
            closed.extend(windows.close().into_iter().map(|c| c.window));
            batch.clear();
        }
    };
    node_sim::simulate(farm, farm.start, to, |station, reading| {
        if of.as_ref() != Some(station) || batch.first().is_some_and(|first| first.time != reading.time) {
            insert(&of, &mut batch);
            of = Some(station.clone());
        }
        batch.push(reading);
    })?;
    insert(&of, &mut batch);
    let mut names = std::collections::BTreeMap::new();
    for window in &mut closed {
        if !names.contains_key(&window.station) {
            names.insert(window.station.clone(), format!("{prefix}{}", window.station).parse::<StationId>()?);
        }
        window.station.clone_from(&names[&window.station]);
    }
    Ok(Corpus::new(closed)?)
}

fn write(dir: &Path, trained: &Trained) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    file("model.onnx", &trained.onnx)?;
    file("manifest.toml", trained.manifest.to_toml()?.as_bytes())
}

fn print(report: &Report, bytes: usize, begun: Instant) {
    println!(
        "{} samples, {} weights, {bytes} bytes, {} s",
        report.samples,
        report.parameters,
        begun.elapsed().as_secs()
    );
    if let Some(last) = report.training_losses.last() {
        println!("loss {last:.4} on what was trained on, {:.4} on what was held out", report.held_out_loss);
    }
    println!("{:<24} {:>8} {:>8} {:>10} {:>13}", "channel", "median", "99.9 %", "threshold", "false alerts");
    for channel in &report.channels {
        let (name, median, high) = (channel.channel.to_string(), channel.median, channel.high);
        println!("{name:<24} {median:>8.2} {high:>8.2} {:>10.2} {:>13}", channel.threshold, channel.false_alerts);
    }
    println!(
        "{:.2} false alerts in 100 held-out station-days, of {:.0}",
        report.false_alerts_per_100_station_days, report.held_out_station_days
    );
}
