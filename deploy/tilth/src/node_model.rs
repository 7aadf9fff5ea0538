//! `tilth node-model`: makes the small models that run on the nodes themselves, and brings them there in stages.

mod rollout;
mod train;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use proto::node_model::MAX_BYTES;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use crate::client::{Client, ClientError, CloudArgs};
use crate::model::{push::read, told};
use crate::runtime;

/// What to do with the nodes' models.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tilth node-model train --out soil.node --version 1.0.0  make one from simulated days
  tilth node-model push soil.node --name soil-node        register it in the cloud, signed
  tilth node-model stage soil-node 1.0.0 --station n1     one station first
  tilth node-model stage soil-node 1.0.0 --share 0.25 --wait
  tilth node-model show                                   how far it is, and how every station stands
  tilth node-model pause                                  nobody gets it any more; who has it keeps it
  tilth node-model resume                                 on with the same stage
  tilth node-model abort                                  who has it goes back, for good

A stage stops by itself when too many of its stations refuse the model or roll it back; `resume`, or a new stage, goes on.
Stations take models when their configuration says so ([node] model = true for node-sim).
Exit codes: 0 done; 1 refused, or failed; 2 wrong arguments or files; 3 the cloud does not answer; 4 it does not let you in.")]
pub struct NodeModelArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cloud: CloudArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Train a model on a simulated farm without faults, quantise it, and write its file
    Train(train::TrainArgs),
    /// Register a version in the cloud, signed
    Push(PushArgs),
    /// List the registered versions
    List,
    /// Show what the farm's nodes are to run, and how every station stands
    Show,
    /// Let stations run a version: named ones, a share of all, or both
    Stage(rollout::StageArgs),
    /// Send nothing more; what runs stays
    Pause,
    /// Go on with the stage as it is, also when it has stopped
    Resume,
    /// Take the version back from all stations that run it
    Abort,
}

/// What to push.
#[derive(Debug, clap::Args)]
struct PushArgs {
    /// The model's file
    #[arg(value_name = "FILE")]
    model: PathBuf,
    /// Its name
    #[arg(long, default_value = "soil-node")]
    name: String,
    /// What it was trained on, in words [default: what lies beside it as FILE.txt]
    #[arg(long, value_name = "TEXT")]
    trained_on: Option<String>,
}

/// Runs a subcommand of `tilth node-model`.
///
/// # Errors
/// When a file cannot be read or written, or when nothing can be learnt.
pub fn run(args: NodeModelArgs) -> anyhow::Result<ExitCode> {
    let NodeModelArgs { command, cloud } = args;
    match command {
        Command::Train(train) => train::run(&train, cloud.json),
        Command::Push(args) => told(push(&args, &cloud)),
        Command::List => told(rollout::list(&cloud)),
        Command::Show => told(rollout::show(&cloud)),
        Command::Stage(stage) => told(rollout::stage(&stage, &cloud)),
        Command::Pause => told(rollout::order("pause", &cloud)),
        Command::Resume => told(rollout::order("go", &cloud)),
        Command::Abort => told(rollout::order("abort", &cloud)),
    }
}

fn push(args: &PushArgs, cloud: &CloudArgs) -> Result<(), ClientError> {
    let model = read(&args.model, MAX_BYTES as u64)?;
    let beside = || fs::read_to_string(train::described_in(&args.model)).unwrap_or_default();
    let trained_on = args.trained_on.clone().unwrap_or_else(beside);
    let form = Form::new()
        .text("name", args.name.clone())
        .text("trained_on", trained_on.trim().to_owned())
        .part("model", Part::bytes(model).file_name("model.node"));
    let pushed: Value = runtime().map_err(|e| ClientError::Usage(e.to_string()))?.block_on(async {
        let client = Client::sign_in(cloud).await?;
        client.upload("node-models", form).await
    })?;
    if cloud.json {
        println!("{pushed:#}");
    } else {
        let text = |key: &str| pushed[key].as_str().unwrap_or("?").to_owned();
        println!(
            "registered {} {}, {} bytes, sha256 {}",
            text("name"),
            text("version"),
            pushed["bytes"],
            text("sha256")
        );
        println!("next: tilth node-model stage {} {} --station STATION", text("name"), text("version"));
    }
    Ok(())
}
