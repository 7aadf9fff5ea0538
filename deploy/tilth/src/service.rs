//! The processes of a farm: each a child with a configuration file, a log file, and a file that says when it is ready.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a service may take to say that it is ready.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end after it was asked to; then it is killed, which loses nothing that was acknowledged.
const STOP: Duration = Duration::from_secs(20);
/// The wait before the first restart; each further one waits twice as long.
const BACK_OFF: Duration = Duration::from_millis(200);
/// The longest wait before a restart.
const BACK_OFF_MOST: Duration = Duration::from_secs(10);
/// A service that ran this long has recovered: its next restart waits [`BACK_OFF`] again.
const STEADY: Duration = Duration::from_secs(30);
/// How many of the log's last bytes are shown when a service does not start.
const LOG_TAIL: usize = 2_000;

/// What to run: this program again, as one of the tiers.
#[derive(Debug, Clone)]
pub struct Service {
    /// The subcommand: `cloud`, `gateway` or `node-sim`.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// Where its log goes.
    pub log: PathBuf,
    /// What it writes when it is ready.
    pub ready_file: PathBuf,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be run, or its log cannot be written.
    pub fn spawn(&self) -> anyhow::Result<Running> {
        match fs::remove_file(&self.ready_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot clear {}", self.ready_file.display()));
            }
            _ => {}
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        // A process group of its own: Ctrl-C in the terminal comes to us alone, and we end the services in order.
        let child = Command::new(&self.program)
            .arg(self.name)
            .arg("--config")
            .arg(&self.config)
            .env("TILTH_SUPERVISED", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {} {}", self.program.display(), self.name))?;
        Ok(Running { service: self.clone(), child, since: Instant::now() })
    }

    /// The end of its log.
    fn log_tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL)..]).trim().to_owned()
    }
}

/// A service that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    service: Service,
    child: Child,
    since: Instant,
}

impl Running {
    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it is ready and gives what it wrote then.
    ///
    /// # Errors
    /// When it ends before, takes too long, or writes something else.
    pub async fn ready<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let name = self.service.name;
        let began = Instant::now();
        while began.elapsed() < READY {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended with {status} while it started; its log ends with:\n{}", self.service.log_tail());
            }
            match fs::read(&self.service.ready_file) {
                Ok(bytes) => {
                    return serde_json::from_slice(&bytes).with_context(|| {
                        format!("{name} wrote something else into {}", self.service.ready_file.display())
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => sleep(Duration::from_millis(20)).await,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", self.service.ready_file.display()));
                }
            }
        }
        bail!("{name} was not ready within {} s; its log is {}", READY.as_secs(), self.service.log.display())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// When the operating system does not let us.
    pub async fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill().await
    }

    /// Asks it to end and waits until it did.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub async fn stop(mut self) -> std::io::Result<ExitStatus> {
        if let Some(pid) = self.child.id() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
        }
        if let Ok(status) = timeout(STOP, self.child.wait()).await {
            return status;
        }
        self.child.kill().await?;
        self.child.wait().await
    }

    /// Keeps it running until `shutdown`, then stops it. Whenever it ends by itself it is started again, after a
    /// longer wait each time until it holds; `report` is told.
    ///
    /// # Errors
    /// When it cannot be started again.
    pub async fn supervise(mut self, shutdown: CancellationToken, report: impl Fn(String)) -> anyhow::Result<()> {
        let mut back_off = BACK_OFF;
        loop {
            let status = tokio::select! {
                () = shutdown.cancelled() => {
                    self.stop().await?;
                    return Ok(());
                }
                status = self.child.wait() => status?,
            };
            if self.since.elapsed() >= STEADY {
                back_off = BACK_OFF;
            }
            report(format!(
                "{} ended with {status}; starting it again in {:.1} s",
                self.service.name,
                back_off.as_secs_f64()
            ));
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = sleep(back_off) => {}
            }
            back_off = (back_off * 2).min(BACK_OFF_MOST);
            self = self.service.spawn()?;
        }
    }
}

/// Lets this process end when the one that started it is gone, so that no service is left over. Does nothing for a
/// process that `tilth up` did not start.
pub fn end_with_parent() {
    if std::env::var_os("TILTH_SUPERVISED").is_some() {
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    }
}
