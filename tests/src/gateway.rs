//! A gateway alone, as a process of its own, and waiting for what it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use gateway::store::Store;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::tilth;

/// Nothing that is waited for with [`until`] takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that ends with the test. Its configuration is `gateway.toml` of a directory, where its data lie in `data` and
/// its ready file is `ready.json`.
pub struct Gateway {
    dir: PathBuf,
    process: Child,
}

impl Gateway {
    /// Starts the one that is configured in `dir` for the farm `fallon`, with `more` beside what each has. `more` begins
    /// with the door.
    #[must_use]
    pub fn start(dir: &Path, more: &str) -> Self {
        let config = format!(
            "farm = \"fallon\"\ngateway = \"home\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n{more}",
            dir.join("data"),
            dir.join("ready.json"),
        );
        fs::write(dir.join("gateway.toml"), config).unwrap();
        Self { dir: dir.to_owned(), process: run(dir) }
    }

    /// Where it listens, once it is ready.
    ///
    /// # Panics
    /// When it is not in time.
    #[must_use]
    pub fn ready(&self) -> serde_json::Value {
        let ready = until("the gateway is ready", || fs::read_to_string(self.dir.join("ready.json")).ok());
        serde_json::from_str(&ready).unwrap()
    }

    /// One of its counters, as it is on disk.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let store = Store::open(&self.dir.join("data")).unwrap();
        store.counters().unwrap().get(name).copied().unwrap_or(0)
    }

    /// Ends it as a power cut would, and starts it again.
    pub fn kill_and_start_again(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        fs::remove_file(self.dir.join("ready.json")).unwrap();
        self.process = run(&self.dir);
        let _ = self.ready();
    }

    /// Asks it to end, and waits.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn end(&mut self) {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(dir: &Path) -> Child {
    Command::new(tilth()).args(["gateway", "--config"]).arg(dir.join("gateway.toml")).spawn().unwrap()
}

/// Waits until there is something.
///
/// # Panics
/// When there is not in time.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
