//! What the runner takes from itself before it touches a model, and how it measures what the model took.

use std::fs;
use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike as _;

/// Files that the runner may have open: its three standard ones, and one to read its own memory from.
const MAX_FILES: u64 = 8;

/// Stack that the runner may take, in bytes; what needs more is an endless recursion.
const MAX_STACK: u64 = 8 << 20;

/// Takes away what no model needs: files to write, many open ones, core dumps, new privileges, and memory beyond
/// `max_memory_bytes` over what the process has now. For `cpu_s` seconds of the processor more it may run, until
/// [`lift_cpu_limit`].
pub fn confine(max_memory_bytes: u64, cpu_s: u64) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_FSIZE, 0)?;
    limit(Resource::RLIMIT_NOFILE, MAX_FILES)?;
    limit(Resource::RLIMIT_STACK, MAX_STACK)?;
    limit(Resource::RLIMIT_DATA, status("VmData:")?.saturating_add(max_memory_bytes))?;
    let (_, hard) = getrlimit(Resource::RLIMIT_CPU)?;
    let soft = (cpu_ms()? / 1000).saturating_add(cpu_s);
    Ok(setrlimit(Resource::RLIMIT_CPU, soft.min(hard), hard)?)
}

/// Lets it run for as long as the gateway has samples.
pub fn lift_cpu_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CPU)?;
    Ok(setrlimit(Resource::RLIMIT_CPU, hard, hard)?)
}

/// Sets a limit for good, unless a lower one is there already.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    Ok(setrlimit(resource, value.min(hard), value.min(hard))?)
}

/// The most memory of its own that the process ever had, in bytes. The program's code is not counted: all runners and
/// the gateway share it.
pub fn peak_memory() -> io::Result<u64> {
    Ok(status("VmHWM:")?.saturating_sub(status("RssFile:")?))
}

/// The memory of its own that the process has now, in bytes.
pub fn own_memory() -> io::Result<u64> {
    status("RssAnon:")
}

/// Time of the processor that the process has used, in milliseconds.
pub fn cpu_ms() -> io::Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((usage.user_time() + usage.system_time()).num_milliseconds().unsigned_abs())
}

/// A size from `/proc/self/status`, in bytes.
fn status(key: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.map(|k| k * 1024).ok_or_else(|| io::Error::other(format!("/proc/self/status has no {key}")))
}
