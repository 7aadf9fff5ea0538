//! A runner as the gateway sees it: a child process, a socket to it, and what it last said on standard error.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use proto::update::Reason;

use super::error::{ModelError, failed_allocation, grouped};
use super::frame::{self, Frame, Kind, MAX_FROM_RUNNER, Timed};
use super::limits::Limit;

/// How much of a runner's standard error is kept, in bytes: the end of it.
const MAX_SAID: usize = 4 << 10;

/// The program of a runner: a `gateway` or a `tilth`, and the subcommand that makes it one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerProgram {
    /// The program.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl RunnerProgram {
    /// The subcommand of `gateway` and `tilth`.
    pub const SUBCOMMAND: &'static str = "model-runner";

    /// The program that is running now, also when its file was replaced since.
    #[must_use]
    pub fn this() -> Self {
        Self::at("/proc/self/exe")
    }

    /// The `gateway` or `tilth` at a path.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), args: vec![Self::SUBCOMMAND.to_owned()] }
    }
}

/// A runner's process. Dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    socket: UnixStream,
    said: Option<JoinHandle<String>>,
    memory: Limit,
    cpu_s: u64,
}

impl Process {
    /// Starts a runner for a model that may take so much memory, and so much of the processor in its self-test.
    pub fn start(program: &RunnerProgram, memory: Limit, cpu_s: u64) -> Result<Self, ModelError> {
        let failed = |error: io::Error| {
            let text = format!("cannot start a runner with {}: {error}", program.path.display());
            ModelError::of_machine(Reason::Crash, text)
        };
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        // The gateway's environment is none of a model's business; the locale-free default is all that it needs.
        let mut child = Command::new(&program.path)
            .args(&program.args)
            .env_clear()
            // Memory that the allocator commits ahead would be a model's beside what it may take.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let said = child.stderr.take().map(|stderr| thread::spawn(move || last_words(stderr)));
        Ok(Self { child, socket, said, memory, cpu_s })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a frame and waits for the answer, both within `patience`.
    pub fn ask(&mut self, kind: Kind, bytes: &[u8], patience: Duration) -> Result<Frame, ModelError> {
        let deadline = Instant::now() + patience;
        self.send(kind, bytes, deadline, patience)?;
        self.receive(deadline, patience)
    }

    /// Sends a frame before the deadline, `patience` after something began.
    pub fn send(&mut self, kind: Kind, bytes: &[u8], deadline: Instant, patience: Duration) -> Result<(), ModelError> {
        frame::write(&mut Timed { socket: &self.socket, deadline }, kind, bytes)
            .map_err(|error| self.end(&error, patience))
    }

    /// Waits for a frame until the deadline, `patience` after something began. A refusal is an error.
    pub fn receive(&mut self, deadline: Instant, patience: Duration) -> Result<Frame, ModelError> {
        match frame::read(&mut Timed { socket: &self.socket, deadline }, MAX_FROM_RUNNER) {
            Ok(Some(Frame { kind: Kind::Refused, bytes })) => Err(serde_json::from_slice(&bytes)
                .unwrap_or_else(|error| ModelError::new(Reason::Crash, format_args!("its runner refused: {error}")))),
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(self.end(&io::ErrorKind::UnexpectedEof.into(), patience)),
            Err(error) => Err(self.end(&error, patience)),
        }
    }

    /// Ends it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(said) = self.said.take() {
            let _ = said.join();
        }
    }

    /// Kills and reaps a process that did not do what it should, and says what became of it.
    fn end(&mut self, error: &io::Error, patience: Duration) -> ModelError {
        // A process that is already ending keeps its own exit status.
        let _ = self.child.kill();
        let status = self.child.wait();
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        if error.kind() == io::ErrorKind::TimedOut {
            let text = format!("did not answer within {} ms", grouped(patience.as_millis()));
            return ModelError::new(Reason::Timeout, text);
        }
        match status {
            Ok(status) => self.death(status, &said),
            Err(error) => ModelError::of_machine(Reason::Crash, format_args!("its runner is lost: {error}")),
        }
    }

    /// How a process ended, in words.
    fn death(&self, status: ExitStatus, said: &str) -> ModelError {
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
        let signal = status.signal().and_then(|number| Signal::try_from(number).ok());
        let (reason, text) = match (signal, failed_allocation(said)) {
            (Some(Signal::SIGABRT), Some(wanted)) => {
                (Reason::Memory, format!("needs {wanted}, more than is left of the {}", self.memory.as_size()))
            }
            (Some(Signal::SIGABRT), None) if said.contains("has overflowed its stack") => {
                (Reason::Crash, "crashed: its computation overflowed the stack".to_owned())
            }
            (Some(Signal::SIGXCPU), _) => {
                let limit = self.cpu_s;
                (
                    Reason::Timeout,
                    format!("was ended by the kernel: its self-test took more than {limit} s of processor"),
                )
            }
            (Some(Signal::SIGKILL), _) => {
                let text = "was killed from outside (SIGKILL), as the kernel does when the machine's memory runs out";
                (Reason::Crash, text.to_owned())
            }
            (Some(signal), _) => (Reason::Crash, format!("crashed ({signal}): its runner said: {last}")),
            (None, _) => (Reason::Crash, format!("ended its runner ({status}), which said: {last}")),
        };
        ModelError::new(reason, text)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads standard error to its end, so that nobody waits for room in the pipe, and keeps the last of it.
fn last_words(mut stderr: impl Read) -> String {
    let mut kept = Vec::with_capacity(2 * MAX_SAID);
    let mut buffer = [0; MAX_SAID];
    while let Ok(read @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let old = kept.len().saturating_sub(MAX_SAID);
        kept.drain(..old);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
