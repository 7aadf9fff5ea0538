//! `tilth`: runs a whole farm, or one tier of it, and works with models.

use std::process::ExitCode;

use clap::Parser as _;
use gateway::model::RunnerProgram;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // What runs a pushed model is as small as can be, and limits itself before it does anything else.
    if std::env::args().nth(1).is_some_and(|what| what == RunnerProgram::SUBCOMMAND) {
        return gateway::model::worker::main();
    }
    // Both ring and aws-lc-rs may be in the tree: say which one TLS uses before anything does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tilth::run(tilth::Cli::parse())
}
