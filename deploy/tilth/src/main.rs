//! `tilth`: runs a whole farm, or one tier of it, and works with models.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // Both ring and aws-lc-rs may be in the tree: say which one TLS uses before anything does.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tilth::run(tilth::Cli::parse())
}
