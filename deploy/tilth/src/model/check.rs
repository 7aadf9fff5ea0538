//! `tilth model check`.

use std::path::PathBuf;
use std::process::ExitCode;

use gateway::model::{CheckReport, RunnerLimits, RunnerProgram};
use proto::assignment::{MAX_MANIFEST_BYTES, MAX_MODEL_BYTES};

use super::push::{Files, read};
use crate::client::ClientError;

/// What to check.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// A folder with model.onnx and manifest.toml, or an ONNX file
    #[arg(value_name = "FOLDER|FILE")]
    model: PathBuf,
    /// The manifest [default: manifest.toml beside the file, when it is there]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// Says whether a gateway can run the model: 0 when it can.
pub fn run(args: &CheckArgs, json: bool) -> anyhow::Result<ExitCode> {
    let (onnx, manifest) = match files(args) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("tilth: {error}");
            return Ok(ExitCode::from(error.exit_code()));
        }
    };
    let limits = RunnerLimits::default();
    let report = gateway::model::check(&RunnerProgram::this(), &limits, &onnx, manifest.as_deref());
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(crate::FAILED) })
}

fn files(args: &CheckArgs) -> Result<(Vec<u8>, Option<String>), ClientError> {
    let files = Files::of(&args.model, args.manifest.as_deref());
    let onnx = read(&files.model, MAX_MODEL_BYTES)?;
    if args.manifest.is_none() && !files.manifest.exists() {
        return Ok((onnx, None));
    }
    let manifest = String::from_utf8(read(&files.manifest, MAX_MANIFEST_BYTES)?)
        .map_err(|_| ClientError::Usage(format!("{} is not text", files.manifest.display())))?;
    Ok((onnx, Some(manifest)))
}

fn print(report: &CheckReport) {
    println!("{} bytes, sha256 {}", report.bytes, report.sha256);
    let opsets: Vec<String> = report.opsets.iter().map(|(domain, version)| format!("{domain} {version}")).collect();
    println!("made by {}, ONNX IR {}, opset {}", report.producer, report.ir_version, opsets.join(", "));
    for (what, tensors) in [("input", &report.inputs), ("output", &report.outputs)] {
        for tensor in tensors {
            println!("{what:<7} {} {} {}", tensor.name, tensor.datum_type, tensor.shape_text());
        }
    }
    let operators: Vec<String> = report.operators.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("operators: {}", operators.join(", "));
    if let Some(test) = &report.self_test {
        println!(
            "one sample takes {} µs, one of a batch {} µs; {:.1} MiB of memory; the self-test took {} ms",
            test.latency_us,
            test.batch_latency_us,
            test.memory_bytes as f64 / f64::from(1 << 20),
            test.wall_ms
        );
    }
    for warning in &report.warnings {
        println!("note: {warning}");
    }
    for problem in &report.problems {
        println!("problem ({}): {}", problem.reason, problem.text);
    }
    println!("{}", if report.ok { "a gateway can run it" } else { "a gateway refuses it" });
}
