//! `tilth model`: makes models, says whether a gateway can run them, and brings them to gateways.

pub(crate) mod assign;
mod check;
pub(crate) mod push;
mod train;

use std::process::ExitCode;

use crate::client::{ClientError, CloudArgs};

/// What to do with models.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tilth model train --out /tmp/model --version 1.1.0      make one from simulated days
  tilth model check /tmp/model                            can a gateway run it, how fast, with how much memory?
  tilth model push /tmp/model                             register it in the cloud, signed
  tilth model activate soil-anomaly 1.1.0 --shadow 24h --wait
  tilth model list                                        what there is, and where it runs
  tilth model show soil-anomaly                           every version, every gateway, what was refused and why
  tilth model rollback soil-anomaly                       the version before, at once

Exit codes: 0 done; 1 refused, or failed; 2 wrong arguments or files; 3 the cloud does not answer; 4 it does not let you in.
Without --cloud the farm that `tilth up` runs on this machine is meant, and its first user.")]
pub struct ModelArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cloud: CloudArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train an anomaly model on a simulated farm without faults, and write model.onnx and manifest.toml
    Train(train::TrainArgs),
    /// Say whether a gateway can run a model, how fast and with how much memory, and what is wrong with it
    Check(check::CheckArgs),
    /// Register a version in the cloud, signed
    Push(push::PushArgs),
    /// List the registered versions, and where they run
    List,
    /// Show a model: its versions, its gateways, and what was refused
    Show(assign::ShowArgs),
    /// Let gateways run a version, first in shadow
    Activate(assign::ActivateArgs),
    /// Let gateways run the version before, at once
    Rollback(assign::RollbackArgs),
}

/// Runs a subcommand of `tilth model`.
///
/// # Errors
/// When a file cannot be read or written, or when nothing can be learnt.
pub fn run(args: ModelArgs) -> anyhow::Result<ExitCode> {
    let ModelArgs { command, cloud } = args;
    match command {
        Command::Train(train) => train::run(&train, cloud.json),
        Command::Check(check) => check::run(&check, cloud.json),
        Command::Push(push) => told(push::run(&push, &cloud)),
        Command::List => told(assign::list(&cloud)),
        Command::Show(show) => told(assign::show(&show, &cloud)),
        Command::Activate(activate) => told(assign::activate(&activate, &cloud)),
        Command::Rollback(rollback) => told(assign::rollback(&rollback, &cloud)),
    }
}

/// Says what went wrong, each refusal on a line of its own, and gives the exit code.
pub(crate) fn told(result: Result<(), ClientError>) -> anyhow::Result<ExitCode> {
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("tilth: {error}");
            Ok(ExitCode::from(error.exit_code()))
        }
    }
}
