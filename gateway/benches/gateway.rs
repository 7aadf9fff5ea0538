//! `cargo bench -p gateway`: what one message costs. See [`gateway::bench`].
//!
//! `cargo test` runs it, too: then a few hundred messages must come through the floor and the gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gateway::bench::{self, Args, Program, Programs};

#[derive(Parser)]
#[command(name = "gateway", about = "What one message costs")]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    args: Args,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum What {
    /// Be the floor
    #[command(hide = true)]
    Floor { dir: PathBuf },
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let said: Vec<String> = std::env::args().skip(1).collect();
    let result = if said.iter().any(|arg| arg == "--bench") || said.first().is_some_and(|arg| arg == "floor") {
        match Cli::parse() {
            Cli { what: Some(What::Floor { dir }), .. } => bench::floor::serve(&dir),
            Cli { args, .. } => programs().and_then(|programs| bench::run(&args, &programs)),
        }
    } else {
        as_test(&said)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn programs() -> anyhow::Result<Programs> {
    Ok(Programs {
        gateway: Program { path: env!("CARGO_BIN_EXE_gateway").into(), arguments: Vec::new() },
        floor: Program { path: std::env::current_exe()?, arguments: vec!["floor".to_owned()] },
    })
}

/// What `cargo test` asks for, in as far as it asks this program.
fn as_test(said: &[String]) -> anyhow::Result<()> {
    const NAME: &str = "a_quick_run_measures_floor_and_gateway";
    if said.iter().any(|arg| arg == "--list") {
        println!("{NAME}: test");
        return Ok(());
    }
    let mut filters = said.iter().filter(|arg| !arg.starts_with('-')).peekable();
    if filters.peek().is_some() && !filters.any(|filter| NAME.contains(filter.as_str())) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let rows = runtime.block_on(bench::measure(&Args::quick(), &programs()?, |_| ()))?;
    let names: Vec<&str> = rows.iter().map(|row| row.server.name()).collect();
    let each = ["floor", "gateway-native", "gateway-json"];
    anyhow::ensure!(names == [each, each].concat(), "other rows: {names:?}");
    for row in &rows {
        let fine =
            row.messages_per_second > 0.0 && row.rss_bytes > 1 << 20 && row.p50_ms > 0.0 && row.p99_ms >= row.p50_ms;
        anyhow::ensure!(fine, "no measurement: {row:?}");
    }
    println!("test {NAME} ... ok");
    Ok(())
}
