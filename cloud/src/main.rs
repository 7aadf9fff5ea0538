//! The cloud as a program of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Takes in what gateways send, and serves the API and the dashboard.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration, a TOML file.
    #[arg(long, default_value = "cloud.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Serves; the same as no command.
    Serve {
        /// The configuration, a TOML file.
        #[arg(long, default_value = "cloud.toml")]
        config: PathBuf,
    },
    /// Prints the OpenAPI document.
    Openapi,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let path = match arguments.command {
        Some(Command::Openapi) => {
            print!("{}", cloud::api::openapi_json());
            return ExitCode::SUCCESS;
        }
        Some(Command::Serve { config }) => config,
        None => arguments.config,
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let config = match cloud::Config::load(&path) {
        Ok(config) => config,
        Err(error) => return failed(&error.into(), 2),
    };
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, 1),
    }
}

async fn serve(config: cloud::Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (mut terminate, cancel) = (signal(SignalKind::terminate())?, shutdown.clone());
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = tokio::signal::ctrl_c() => {} }
        cancel.cancel();
    });
    cloud::run(config, shutdown).await
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("cloud: {error:#}");
    ExitCode::from(code)
}
