//! The Python that scenarios use: the one that TILTH_PYTHON names, or the environment in `tests/.venv`, which is made when it
//! is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The Python of an environment of its own, with what `tests/python/requirements-NAME.txt` names. For what does not go together
/// with the rest.
///
/// # Panics
/// When the environment cannot be made.
#[must_use]
pub fn python_with(name: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(tests.join("python/venv")).arg(name).status();
    assert!(made.expect("bash is needed").success(), "tests/python/venv {name} could not make the Python environment");
    tests.join(format!(".venv-{name}/bin/python"))
}

/// The Python to run, with what `tests/python/requirements.txt` names.
///
/// # Panics
/// When the environment cannot be made.
#[must_use]
pub fn python() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(python) = std::env::var_os("TILTH_PYTHON") {
        return PathBuf::from(python);
    }
    let made = MADE.get_or_init(|| {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let made = Command::new(tests.join("python/venv")).status();
        assert!(made.expect("bash is needed").success(), "tests/python/venv could not make the Python environment");
        tests.join(".venv/bin/python")
    });
    made.clone()
}
