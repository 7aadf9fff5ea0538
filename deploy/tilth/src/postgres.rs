//! A private PostgreSQL: a cluster in a directory of ours, on a free loopback port, with a password of its own.
//!
//! PostgreSQL refuses to run as root. As root it is run as `postgres` (Debian's package makes that user), else `nobody`,
//! in a directory that this user owns. Where that user may not enter the data directory (a clone under `/root`, say),
//! the cluster stands below [`ELSEWHERE`] and a link in the data directory says where.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink,
};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use sha2::{Digest as _, Sha256};

/// Where a cluster stands when PostgreSQL's user may not enter the data directory.
pub const ELSEWHERE: &str = "/var/lib/tilth";
/// Where Debian and its kin keep the server's programs, by version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// How long a start may take: recovery after a power cut included.
const START: Duration = Duration::from_secs(60);
/// How long a fast shutdown may take before it becomes an immediate one, which loses nothing either.
const STOP: Duration = Duration::from_secs(20);
/// How often another port is tried when somebody took the one that was free a moment ago.
const ATTEMPTS: u32 = 5;
/// The name of the only role and of the only database.
const NAME: &str = "tilth";

/// A running server. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    cluster: PathBuf,
    runs_as: Option<User>,
    password: String,
    port: u16,
    child: Child,
    guard: Child,
}

impl Postgres {
    /// Starts the cluster of `data_dir`, making it first where there is none. Its log goes to `log`.
    ///
    /// # Errors
    /// When no server is installed, the cluster is of another version, or the server does not start.
    pub fn start(data_dir: &Path, log: &Path) -> anyhow::Result<Self> {
        let programs = programs()?;
        let runs_as = runs_as()?;
        let cluster = cluster_of(data_dir, runs_as.as_ref())?;
        let password_file = data_dir.join("postgres.password");
        if !cluster.join("PG_VERSION").exists() {
            make_cluster(&programs, &cluster, &password_file, runs_as.as_ref())?;
        }
        let password = fs::read_to_string(&password_file)
            .with_context(|| format!("cannot read the database's password in {}", password_file.display()))?;
        check_version(&programs, &cluster)?;
        stop_left_over(&programs, &cluster, runs_as.as_ref());

        for attempt in 1.. {
            let port = free_port()?;
            let child = spawn(&programs, &cluster, port, log, runs_as.as_ref())?;
            let guard = guard(&child)?;
            let mut postgres = Self {
                programs: programs.clone(),
                cluster: cluster.clone(),
                runs_as: runs_as.clone(),
                password: password.clone(),
                port,
                child,
                guard,
            };
            match postgres.wait_until_ready(log) {
                Ok(()) => return Ok(postgres),
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(_) => {}
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Whether `data_dir` has a cluster of its own.
    #[must_use]
    pub fn is_in(data_dir: &Path) -> bool {
        data_dir.join("postgres.password").exists()
    }

    /// The address of the database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{NAME}", self.password, self.port)
    }

    /// The server's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's version, as it says it.
    #[must_use]
    pub fn version(&self) -> String {
        fs::read_to_string(self.cluster.join("PG_VERSION")).unwrap_or_default().trim().to_owned()
    }

    /// Whether the server has ended by itself.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn wait_until_ready(&mut self, log: &Path) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < START {
            if let Some(status) = self.child.try_wait()? {
                bail!("PostgreSQL ended with {status} while it started; its log is {}", log.display());
            }
            let ready = command(&self.programs, "pg_isready", self.runs_as.as_ref())
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", NAME, "-d", NAME])
                .status()?;
            if ready.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("PostgreSQL did not start within {} s; its log is {}", START.as_secs(), log.display())
    }

    fn stop(&mut self) {
        for (signal, wait) in [(Signal::SIGINT, STOP), (Signal::SIGQUIT, STOP), (Signal::SIGKILL, STOP)] {
            if self.ended() {
                return;
            }
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
            let asked = Instant::now();
            while asked.elapsed() < wait && !self.ended() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// The newest installed server's directory of programs.
fn programs() -> anyhow::Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(DEBIAN).into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse().ok();
        let programs = entry.path().join("bin");
        if let Some(version) = version.filter(|_| programs.join("postgres").exists()) {
            found.push((version, programs));
        }
    }
    found.sort();
    if let Some((_, programs)) = found.pop() {
        return Ok(programs);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|dir| dir.join("postgres").exists() && dir.join("initdb").exists()).context(
        "PostgreSQL's server is not installed: install it (on Debian: apt-get install postgresql), or set DATABASE_URL",
    )
}

/// Whom PostgreSQL runs as; none when it can run as we do.
fn runs_as() -> anyhow::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")
}

/// Where the cluster of `data_dir` stands. Makes the directory above it.
fn cluster_of(data_dir: &Path, runs_as: Option<&User>) -> anyhow::Result<PathBuf> {
    let here = data_dir.join("postgres");
    let Some(user) = runs_as else { return Ok(here) };
    if let Ok(elsewhere) = fs::read_link(&here) {
        return Ok(elsewhere);
    }
    if may_enter(data_dir, user) {
        return Ok(here);
    }
    let digest = Sha256::digest(fs::canonicalize(data_dir)?.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let elsewhere = Path::new(ELSEWHERE).join(format!("postgres-{name}"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(ELSEWHERE)
        .with_context(|| format!("cannot make {ELSEWHERE}, where user {} may enter", user.name))?;
    symlink(&elsewhere, &here).with_context(|| format!("cannot link {} to {}", here.display(), elsewhere.display()))?;
    Ok(elsewhere)
}

/// Whether `user` may go through `dir` and all above it.
fn may_enter(dir: &Path, user: &User) -> bool {
    let Ok(dir) = fs::canonicalize(dir) else { return false };
    dir.ancestors().all(|dir| {
        fs::metadata(dir).is_ok_and(|meta| {
            let may = if meta.uid() == user.uid.as_raw() {
                0o100
            } else if meta.gid() == user.gid.as_raw() {
                0o010
            } else {
                0o001
            };
            meta.permissions().mode() & may != 0
        })
    })
}

/// A command of PostgreSQL's, as the user that it runs as, from a directory that this user may be in.
fn command(programs: &Path, name: &str, runs_as: Option<&User>) -> Command {
    let mut command = Command::new(programs.join(name));
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = runs_as {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

fn make_cluster(programs: &Path, cluster: &Path, password_file: &Path, runs_as: Option<&User>) -> anyhow::Result<()> {
    // What a start that was cut off left behind has no PG_VERSION or an incomplete one: it holds nothing.
    if cluster.exists() {
        fs::remove_dir_all(cluster).with_context(|| format!("cannot clear {}", cluster.display()))?;
    }
    let making = cluster.with_extension("making");
    let _ = fs::remove_dir_all(&making);
    fs::DirBuilder::new().mode(0o700).create(&making).with_context(|| format!("cannot make {}", making.display()))?;
    let password = crate::secret::password();
    write_secret(password_file, &password)?;
    let for_initdb = making.with_extension("initdb");
    write_secret(&for_initdb, &password)?;
    if let Some(user) = runs_as {
        for path in [&making, &for_initdb] {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
    }
    let output = command(programs, "initdb", runs_as)
        .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username", NAME, "--pwfile"])
        .arg(&for_initdb)
        .arg("--pgdata")
        .arg(&making)
        .stderr(Stdio::piped())
        .output()
        .context("cannot run initdb")?;
    fs::remove_file(&for_initdb)?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    make_database(programs, &making, runs_as)?;
    fs::rename(&making, cluster).with_context(|| format!("cannot put the cluster in {}", cluster.display()))?;
    Ok(())
}

/// Makes the database in single-user mode: no server listens meanwhile.
fn make_database(programs: &Path, cluster: &Path, runs_as: Option<&User>) -> anyhow::Result<()> {
    let mut single = command(programs, "postgres", runs_as)
        .args(["--single", "-D"])
        .arg(cluster)
        .arg("postgres")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = single.stdin.take() {
        writeln!(input, "CREATE DATABASE {NAME}")?;
    }
    let output = single.wait_with_output()?;
    if !output.status.success() {
        bail!("PostgreSQL could not make its database: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn check_version(programs: &Path, cluster: &Path) -> anyhow::Result<()> {
    let made_by = fs::read_to_string(cluster.join("PG_VERSION"))?;
    let output = Command::new(programs.join("postgres")).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let installed = text.split_whitespace().last().and_then(|v| v.split('.').next()).unwrap_or_default();
    let installed = installed.trim_matches(|c: char| !c.is_ascii_digit());
    if made_by.trim() != installed {
        bail!(
            "{} was made by PostgreSQL {}, but PostgreSQL {installed} is installed: install {0}, or use another --data-dir",
            cluster.display(),
            made_by.trim()
        );
    }
    Ok(())
}

/// Ends the server of a start that was killed and could not end it.
fn stop_left_over(programs: &Path, cluster: &Path, runs_as: Option<&User>) {
    if cluster.join("postmaster.pid").exists() {
        let _ = command(programs, "pg_ctl", runs_as).args(["stop", "-s", "-m", "fast", "-D"]).arg(cluster).status();
    }
}

fn spawn(programs: &Path, cluster: &Path, port: u16, log: &Path, runs_as: Option<&User>) -> anyhow::Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    command(programs, "postgres", runs_as)
        .arg("-D")
        .arg(cluster)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "max_connections=60", "-c", "log_checkpoints=off"])
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot run postgres")
}

/// A process that stops the server when this one is gone without having done so: it waits for the end of a pipe that we
/// hold open, which even a kill closes.
fn guard(server: &Child) -> anyhow::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r _; kill -INT \"$0\"", &server.id().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot run sh")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    crate::secret::write(path, secret).with_context(|| format!("cannot write {}", path.display()))
}
