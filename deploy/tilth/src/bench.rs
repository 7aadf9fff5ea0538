//! `tilth bench`: what a tier costs, measured on this machine with this binary.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use gateway::bench::{self, Program, Programs};

/// What is measured.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tilth bench gateway                      the table: floor, mosquitto, gateway, in two shapes of load (four minutes)
  tilth bench gateway --stations 10000     memory, and CPU of ten thousand stations that report each minute
  tilth bench gateway --soak 30            does anything grow over a month?")]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What one message costs at the gateway, beside a broker and the least that any durable server must do
    Gateway(bench::Args),
    /// Be the least that any durable server must do
    #[command(hide = true)]
    Floor {
        /// Where it keeps what comes
        dir: PathBuf,
    },
}

/// Measures.
///
/// # Errors
/// When a server cannot be started, ends by itself or does not acknowledge.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.command {
        Command::Gateway(args) => {
            let own = |arguments: &[&str]| -> std::io::Result<Program> {
                let arguments = arguments.iter().map(ToString::to_string).collect();
                Ok(Program { path: std::env::current_exe()?, arguments })
            };
            bench::run(&args, &Programs { gateway: own(&["gateway"])?, floor: own(&["bench", "floor"])? })
        }
        Command::Floor { dir } => bench::floor::serve(&dir),
    }
}
