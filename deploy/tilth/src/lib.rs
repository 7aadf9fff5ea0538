//! The operator's one binary: a whole farm in one process tree, each tier alone, and work with models.
//!
//! This crate sees all tiers and holds none of their logic: it finds a PostgreSQL, writes each tier's configuration,
//! starts the tiers as processes of their own and ends them in order.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub mod bench;
pub mod client;
pub mod container;
pub mod data_dir;
pub mod farm;
pub mod model;
pub mod node_model;
pub mod postgres;
pub mod registry;
pub mod secret;
pub mod service;
pub mod station;
pub mod up;

/// The exit code when something failed while it ran.
const FAILED: u8 = 1;
/// The exit code when it could not begin with what it was given.
const USAGE: u8 = 2;

/// A farm's sensors, gateway and cloud.
#[derive(Debug, Parser)]
#[command(name = "tilth", version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: up::UpArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole farm: PostgreSQL, cloud, gateway and simulated stations. This is what happens without a command, too.
    Up(up::UpArgs),
    /// Make models, check them, and bring them to gateways
    Model(model::ModelArgs),
    /// Make the small models that run on the nodes, and bring them there in stages
    NodeModel(node_model::NodeModelArgs),
    /// Change the keys that sign models
    Keys(registry::KeysArgs),
    /// Run the cloud alone.
    Cloud(ServiceArgs),
    /// Run a gateway alone, or check its configuration.
    Gateway(GatewayArgs),
    /// Run simulated stations alone.
    NodeSim(ServiceArgs),
    /// Say which stations a gateway lets in
    Station(station::StationArgs),
    /// Measure what a tier costs on this machine
    Bench(bench::BenchArgs),
    /// Be one of the containers of deploy/compose.yaml
    #[command(hide = true)]
    Container(container::ContainerArgs),
}

#[derive(Debug, Args)]
struct GatewayArgs {
    /// What to do.
    #[arg(value_enum, default_value = "run")]
    what: What,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Run until SIGINT or SIGTERM
    Run,
    /// Say everything that is wrong with the configuration and the files that it names, and start nothing
    Check,
}

#[derive(Debug, Args)]
struct ServiceArgs {
    /// Its configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Does what the command line asks for, and gives the exit code: 0 when it went well, 1 when it failed, 2 when it could
/// not begin with what it was given.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match cli.command.unwrap_or(Command::Up(cli.up)) {
        Command::Up(args) => up::main(&args),
        Command::Model(args) => {
            log_to_stderr("warn");
            model::run(args).unwrap_or_else(|error| failed(&error))
        }
        Command::NodeModel(args) => {
            log_to_stderr("warn");
            node_model::run(args).unwrap_or_else(|error| failed(&error))
        }
        Command::Keys(args) => {
            log_to_stderr("warn");
            registry::run(args).unwrap_or_else(|error| failed(&error))
        }
        Command::Cloud(args) => serve(&args.config, cloud::Config::load, cloud::run),
        Command::Gateway(GatewayArgs { what: What::Run, service }) => {
            serve(&service.config, gateway::Config::load, gateway::run)
        }
        Command::Gateway(GatewayArgs { what: What::Check, service }) => check(&service.config),
        Command::NodeSim(args) => serve(&args.config, node_sim::Config::load, node_sim::run),
        Command::Station(args) => station::run(args).unwrap_or_else(|error| failed(&error)),
        Command::Bench(args) => bench::run(args).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS),
        Command::Container(args) => container::run(args),
    }
}

/// Says everything that is wrong with a gateway's configuration.
fn check(config: &Path) -> ExitCode {
    match gateway::Config::check_all(config) {
        Ok(()) => {
            println!("configuration {}: nothing is wrong", config.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Runs one tier until it is asked to end.
fn serve<C, E, F>(
    config: &Path,
    load: impl FnOnce(&Path) -> Result<C, E>,
    run: impl FnOnce(C, CancellationToken) -> F,
) -> ExitCode
where
    E: std::fmt::Display,
    F: Future<Output = anyhow::Result<()>>,
{
    service::end_with_parent();
    log_to_stderr("info,rumqttd=warn,rumqttd::server=off,sqlx=warn");
    let config = match load(config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("tilth: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match runtime().and_then(|runtime| runtime.block_on(async { run(config, ends_on_signal()?).await })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Says what went wrong in one line, with what caused it.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("tilth: {}", in_one_line(error));
    ExitCode::from(FAILED)
}

/// An error and its causes; a cause that the text before it already tells is left out.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        told if told.contains(&cause) => line,
        told => format!("{told}: {cause}"),
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A token that is cancelled on Ctrl-C and on SIGTERM.
fn ends_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
    });
    Ok(token)
}

fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
