//! A measured server's processes: started in a directory of their own, watched through `/proc`, ended with the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// The unit of times in `/proc`; the same on every Linux that Rust runs on (`USER_HZ`).
const TICKS_A_SECOND: u64 = 100;
/// How often it is looked whether a server rests.
const GLANCE: Duration = Duration::from_millis(50);
/// So many glances tell whether it does.
const GLANCES: usize = 20;
/// In so few of them a thread of a server at rest is found at work: it does a little by itself.
const FEW: usize = 3;
/// How long a server may take to come to rest.
const REST_TIMEOUT: Duration = Duration::from_secs(300);
/// How long it may take to end before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A directory that goes when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory in `dir`.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("tilth-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// The processes of one server.
#[derive(Default)]
pub(super) struct Processes(Vec<(String, Child)>);

impl Processes {
    /// Starts one more. What it says goes to a file beside its data.
    pub fn start(&mut self, name: &str, mut command: Command, dir: &Path) -> anyhow::Result<()> {
        let log = fs::File::create(dir.join(format!("{name}.log")))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name} ({:?})", command.get_program()))?;
        self.0.push((name.to_owned(), child));
        Ok(())
    }

    /// Every one must still be there.
    ///
    /// # Errors
    /// Names the one that is not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        for (name, child) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended by itself: {status}");
            }
        }
        Ok(())
    }

    /// User and system time of all of them and their children so far.
    pub fn cpu(&mut self) -> anyhow::Result<Duration> {
        self.check()?;
        let mut ticks = 0;
        for pid in self.family() {
            ticks += stat_ticks(pid).unwrap_or(0);
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
    }

    /// What all of them have had written to disk so far, bytes: `write_bytes` of `/proc/PID/io`.
    pub fn written(&mut self) -> anyhow::Result<u64> {
        self.check()?;
        let of = |pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse::<u64>().ok()
        };
        Ok(self.family().into_iter().filter_map(of).sum())
    }

    /// The most memory that each ever held, together, in bytes.
    pub fn peak_rss(&mut self) -> anyhow::Result<u64> {
        self.check()?;
        Ok(self.family().into_iter().filter_map(|pid| status_bytes(pid, "VmHWM")).sum())
    }

    /// The memory that they hold now, in bytes.
    pub fn rss(&mut self) -> anyhow::Result<u64> {
        self.check()?;
        Ok(self.family().into_iter().filter_map(|pid| status_bytes(pid, "VmRSS")).sum())
    }

    /// Waits until they do nothing that is worth counting. That a thread waits for a core or the disk is no rest, so a
    /// machine that is busy with something else does not make a server look done.
    pub async fn rest(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + REST_TIMEOUT;
        let mut glances = std::collections::VecDeque::from([true; GLANCES]);
        while glances.iter().filter(|at_work| **at_work).count() > FEW {
            if Instant::now() > until {
                bail!("it does not come to rest within {REST_TIMEOUT:?}");
            }
            sleep(GLANCE).await;
            self.check()?;
            glances.pop_front();
            glances.push_back(self.family().into_iter().any(is_at_work));
        }
        Ok(())
    }

    /// Ends them, the last started first.
    pub async fn end(mut self) {
        while let Some((name, mut child)) = self.0.pop() {
            signal(&child, Signal::SIGTERM);
            let until = Instant::now() + END_TIMEOUT;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > until {
                    eprintln!("{name} does not end and is killed");
                    break;
                }
                sleep(Duration::from_millis(10)).await;
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Their process numbers, and those of all that they started.
    fn family(&self) -> Vec<u32> {
        let parents = parents();
        let mut family: Vec<u32> = self.0.iter().map(|(_, child)| child.id()).collect();
        let mut at = 0;
        while let Some(&parent) = family.get(at) {
            family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        family
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.get(1)?.parse().ok()?))).collect()
}

/// The fields of `/proc/PID/stat` from the third on (`man 5 proc`): the second is a name in parentheses.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Whether any thread of a process runs, waits for a core (R) or for the disk (D).
fn is_at_work(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        matches!(state, Some('R' | 'D'))
    })
}

/// utime, stime, and those of children that ended (cutime, cstime), in clock ticks: fields 14 to 17.
fn stat_ticks(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

fn status_bytes(pid: u32, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
