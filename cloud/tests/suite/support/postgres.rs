//! A private PostgreSQL server for this test binary: started by the first test that needs it, stopped when the process
//! is gone, however it goes.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Stops the server and removes its directory once the test process, and with it the other end of the pipe, is gone.
const GUARD: &str = r#""$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=300 \
    >"$2/log" 2>&1 & server=$!; cat; kill -INT $server; wait $server; rm -rf "$2""#;

/// The database that every test's own is copied from.
const TEMPLATE: &str = "migrated";

struct Server {
    directory: PathBuf,
    _guard: ChildStdin,
}

static SERVER: OnceLock<Server> = OnceLock::new();

/// Makes a database with our tables, for one test, and gives its address.
pub async fn database() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = SERVER.get_or_init(|| std::thread::spawn(start).join().unwrap());
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = server.connect("postgres").await.unwrap();
    let create = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    server.url(&name)
}

impl Server {
    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.directory.display())
    }

    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect(&self.url(database)).await
    }
}

fn start() -> Server {
    let programs = programs();
    let directory = tempfile::Builder::new().prefix("tilth-cloud-test-").tempdir().unwrap().keep();
    let user = ordinary_user();
    if let Some((uid, gid)) = user {
        chown(&directory, Some(uid), Some(gid)).unwrap();
    }
    let as_user = |program: &Path| {
        let mut command = Command::new(program);
        command.current_dir(&directory);
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    };

    let options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"];
    let made = as_user(&programs.join("initdb")).args(options).arg("-D").arg(directory.join("data")).output().unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

    let mut guard = as_user(Path::new("/bin/sh"));
    guard.args(["-c", GUARD, "sh"]).arg(&programs).arg(&directory).stdin(Stdio::piped());
    let mut pipe = guard.spawn().unwrap().stdin.take().unwrap();
    pipe.flush().unwrap();

    let server = Server { directory, _guard: pipe };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut connection = server.wait().await;
        let create = AssertSqlSafe(format!("CREATE DATABASE {TEMPLATE}"));
        sqlx::query(create).execute(&mut connection).await.unwrap();
        let pool = cloud::database::connect(&server.url(TEMPLATE)).await.unwrap();
        cloud::database::migrate(&pool).await.unwrap();
        pool.close().await;
    });
    server
}

impl Server {
    async fn wait(&self) -> PgConnection {
        let began = Instant::now();
        loop {
            match self.connect("postgres").await {
                Ok(connection) => return connection,
                Err(error) => {
                    let log = || fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                    assert!(began.elapsed() < super::PATIENCE, "{error}\n{}", log());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// Where PostgreSQL's programs are: Debian keeps them out of the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let found = found.into_iter().rfind(|folder| folder.join("initdb").exists());
    found.expect("initdb is neither in /usr/lib/postgresql/*/bin nor in the path: install PostgreSQL")
}

/// PostgreSQL refuses to run as root; who runs it then.
fn ordinary_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
        Some((fields.next()?, fields.next()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("neither a user postgres nor a user nobody"))
}
