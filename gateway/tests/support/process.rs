//! The gateway as a process of its own, that is killed and started again where the one before left off.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Nothing in these tests takes as long on any machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    within(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub fn password(name: &str) -> String {
    format!("{name}-password-of-128-bits-or-more")
}

/// Who may connect: the entry of the credentials file for `name`, in the role `role`.
pub fn client(name: &str, role: &str) -> String {
    let digest = hex::encode(Sha256::digest(password(name)));
    format!("[[client]]\nname = \"{name}\"\nrole = \"{role}\"\npassword_sha256 = \"{digest}\"\n")
}

/// A place for a gateway, and the gateway that runs there. It listens on new ports after each start.
pub struct Gateway {
    dir: TempDir,
    child: Option<Child>,
    pub mqtt: u16,
    status: String,
}

impl Gateway {
    /// Of the stations n1 and n2, with a configuration that ends with `more`.
    pub async fn start(more: &str) -> Self {
        Self::of(&["n1", "n2"].map(|name| client(name, "station")).concat(), more).await
    }

    /// Of these clients.
    pub async fn of(clients: &str, more: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("credentials.toml"), clients).unwrap();
        let config = format!(
            "farm = \"f\"\ngateway = \"g\"\ndata_dir = {:?}\nstatus_listen = \"127.0.0.1:0\"\nready_file = {:?}\n\
             [door]\nlisten = \"127.0.0.1:0\"\ncredentials = {:?}\n{more}",
            at("data"),
            at("ready"),
            at("credentials.toml")
        );
        fs::write(at("gateway.toml"), config).unwrap();
        let mut gateway = Self { dir, child: None, mqtt: 0, status: String::new() };
        gateway.again().await;
        gateway
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts it where the one before left off.
    pub async fn again(&mut self) {
        let ready = self.dir.path().join("ready");
        let _ = fs::remove_file(&ready);
        let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("--config")
            .arg(self.dir.path().join("gateway.toml"))
            .env("RUST_LOG", "off")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        until("the gateway is ready", || {
            assert!(child.try_wait().unwrap().is_none(), "the gateway ended");
            ready.exists()
        })
        .await;
        let ready: BTreeMap<String, String> = serde_json::from_slice(&fs::read(&ready).unwrap()).unwrap();
        self.mqtt = ready["mqtt"].rsplit_once(':').unwrap().1.parse().unwrap();
        self.status = format!("http://{}", ready["status"]);
    }

    /// What it answers on its page's address.
    pub async fn get(&self, path: &str) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::get(format!("{}{path}", self.status)).await.unwrap().text().await.unwrap()
    }

    /// Its resident memory, in bytes (`/proc/PID/status`).
    pub fn memory(&self) -> u64 {
        let pid = self.child.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")).unwrap();
        1024 * kib.parse::<u64>().unwrap()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and waits for a clean end.
    pub async fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
        let mut code = None;
        until("the gateway has ended", || {
            code = child.try_wait().unwrap();
            code.is_some()
        })
        .await;
        assert!(code.unwrap().success());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
