//! A gateway by itself: `gateway --config FILE`, and `gateway check --config FILE`, which only says what is wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use gateway::Config;
use gateway::model::{RunnerProgram, worker};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "gateway", version, about = "The edge of a farm")]
struct Cli {
    /// What to do
    #[arg(value_enum, default_value = "run")]
    what: What,
    /// The configuration, a TOML file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Run until SIGINT or SIGTERM
    Run,
    /// Check the configuration
    Check,
}

fn main() -> ExitCode {
    // A gateway starts itself again for each model that it was given. That process has no threads and no log.
    if std::env::args().nth(1).is_some_and(|what| what == RunnerProgram::SUBCOMMAND) {
        return worker::main();
    }
    gateway()
}

#[tokio::main]
async fn gateway() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The broker's own view of its connections is noise: `gateway::broker` looks after it, and counts.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,rumqttd=warn,rumqttd::server=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Cli { what, config: path } = Cli::parse();
    let config = match what {
        What::Run => Config::load(&path).map(Some),
        What::Check => Config::check_all(&path).map(|()| None),
    };
    let config = match config {
        Ok(Some(config)) => config,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        token.cancel();
    });
    gateway::run(config, shutdown).await
}
