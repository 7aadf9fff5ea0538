//! The dashboard of a running farm in a real Chromium; the tests themselves are in `tests/browser`.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tests::farm::{PATIENCE, free_address};
use tests::gateway::until;
use tests::{project, tilth};

struct Farm(Child);

impl Drop for Farm {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// A station comes to the farm whose clock is years behind: nothing of what it sends is in any window.
fn report_of_another_time(farm: &Path) {
    let added = Command::new(tilth())
        .args(["station", "add", "zz-clock", "--json", "--data-dir"])
        .arg(farm)
        .env_remove("TILTH_CREDENTIALS_DIR")
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let added: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
    let ready: serde_json::Value = serde_json::from_slice(&fs::read(farm.join("run/gateway.json")).unwrap()).unwrap();
    let mqtt: SocketAddr = ready["mqtt"].as_str().unwrap().parse().unwrap();
    let (password, topic) = (added["password"].as_str().unwrap(), added["topic"].as_str().unwrap());
    let (host, port) = (mqtt.ip().to_string(), mqtt.port().to_string());
    until("the reading is acknowledged", || {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", &host, "-p", &port, "-i", "zz-clock", "-u", "zz-clock", "-P", password, "-q", "1"]);
        publish.args(["-t", topic, "-m", r#"{"time": "1999-12-31T23:00:00Z", "soil_moisture_20cm": 0.231}"#]);
        publish.output().unwrap().status.success().then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_a_running_farm_in_a_real_browser() {
    let browser = project().join("tests/browser");
    if !browser.join("node_modules").exists() {
        let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&browser).status();
        assert!(installed.expect("npm is needed").success(), "npm ci failed in tests/browser");
    }
    let dir = TempDir::with_prefix("tilth-browser-").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let listen = free_address();
    let log = fs::File::create(dir.path().join("up.log")).unwrap();
    let farm = Command::new(tilth())
        .args(["up", "--listen", &listen.to_string(), "--data-dir"])
        .arg(dir.path())
        .arg("--scenario")
        .arg(project().join("deploy/scenarios/faults.toml"))
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let _farm = Farm(farm);
    let began = Instant::now();
    let introduced = || fs::read_to_string(dir.path().join("up.log")).unwrap();
    while !introduced().contains("Ctrl-C ends it") {
        assert!(began.elapsed() < PATIENCE, "the farm did not start: {}", introduced());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let secrets: tilth::farm::Secrets =
        toml::from_str(&fs::read_to_string(dir.path().join("secrets.toml")).unwrap()).unwrap();
    let model = dir.path().join("soil.node");
    fs::write(&model, tests::models::for_nodes("1.0.0", false)).unwrap();
    let passes = |script: &str| {
        let status = Command::new("npm")
            .args(["run", "--silent", script])
            .current_dir(&browser)
            .env("TILTH_URL", format!("http://{listen}"))
            .env("TILTH_EMAIL", tilth::farm::USER)
            .env("TILTH_PASSWORD", &secrets.user)
            .env("TILTH_NODE_MODEL", &model)
            .status()
            .unwrap();
        assert!(status.success(), "the browser tests failed; their output is above");
    };
    passes("test");
    // After the others, for which each station of the farm is as it should be.
    report_of_another_time(dir.path());
    passes("test-untimely");
}
