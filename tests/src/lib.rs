//! What the scenarios across the tiers are made of: a farm of real processes, and an oracle that computes again, from the
//! truth log and by other means than the gateway, what its aggregates must be.
#![allow(clippy::unwrap_used)]

pub mod farm;
pub mod gateway;
pub mod models;
pub mod oracle;
pub mod python;

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The project's root.
#[must_use]
pub fn project() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().unwrap()
}

/// A file of the real measurements that lie beside the project.
///
/// # Panics
/// When it is not there; the message says what is missing.
#[must_use]
pub fn measured(name: &str) -> PathBuf {
    let path = project().join("../shared/data").join(name);
    assert!(path.exists(), "this test needs the measured data ../shared/data/{name} beside the project");
    path.canonicalize().unwrap()
}

/// Node with a script of `tests/interop`, whose packages are installed when they are missing.
///
/// # Panics
/// When they cannot be installed.
#[must_use]
pub fn node(script: &str) -> Command {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let interop = project().join("tests/interop");
    if !interop.join("node_modules").exists() {
        let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&interop).status();
        assert!(installed.expect("npm is needed").success(), "npm ci failed in tests/interop");
    }
    let mut node = Command::new("node");
    node.arg(script).current_dir(interop);
    node
}

/// The program under test, as cargo built it beside the running test.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn tilth() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("tilth");
    assert!(program.exists(), "{} is not built: run `cargo build --workspace` first", program.display());
    program
}
