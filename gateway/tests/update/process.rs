//! The whole gateway as a process of its own, killed in the midst of an update again and again.

use std::fs;
use std::process::{Child, Command, Stdio};

use gateway::update::Journal;
use proto::update::Phase;
use proto::{Assignment, Assignments, Manifest};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::bench::{assignment, target, until};
use crate::tuf::{Fault, Repository, Server, Signing, TOKEN};

pub const MODEL: &str = "soil-anomaly";
const ONNX: &[u8] = include_bytes!("../../models/soil-anomaly-1.0.0/model.onnx");
const MANIFEST: &str = include_str!("../../models/soil-anomaly-1.0.0/manifest.toml");

/// What the gateway brought along, under another version and with a word more in its file.
pub fn next() -> (Vec<u8>, Manifest) {
    // Field 6 of an ONNX file is a text that says nothing to a runtime.
    let onnx = [ONNX, &[6 << 3 | 2, 4], b"next"].concat();
    let mut manifest = Manifest::parse(MANIFEST).unwrap();
    manifest.version = "1.1.0".to_owned();
    manifest.sha256 = hex::encode(Sha256::digest(&onnx));
    manifest.limits.max_latency_ms = 1_000;
    (onnx, manifest)
}

pub struct Process {
    pub dir: TempDir,
    pub child: Option<Child>,
}

impl Process {
    /// The place of a gateway that takes updates, with these stations in its credentials.
    pub fn new(server: &Server, repository: &Repository, stations: &[String]) -> Self {
        let process = Self::alone(stations, "");
        let at = |name: &str| process.dir.path().join(name);
        fs::write(at("root.json"), repository.pinned()).unwrap();
        let more = format!(
            "[cloud]\nurl = \"{}\"\ntoken = \"{TOKEN}\"\n[updates]\nroot = {:?}\npoll_s = 1\n",
            server.url,
            at("root.json"),
        );
        let config = fs::read_to_string(at("gateway.toml")).unwrap();
        fs::write(at("gateway.toml"), config + &more).unwrap();
        process
    }

    /// The same without a cloud, and with some keys more.
    pub fn alone(stations: &[String], keys: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut credentials = String::new();
        for name in stations {
            let digest = hex::encode(Sha256::digest(name));
            credentials += &format!("[[client]]\nname = {name:?}\nrole = \"station\"\npassword_sha256 = {digest:?}\n");
        }
        fs::write(at("credentials.toml"), credentials).unwrap();
        let config = format!(
            "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"{}\"\nstatus_listen = \"127.0.0.1:0\"\nready_file = \"{}\"\n{keys}\
             [door]\nlisten = \"127.0.0.1:0\"\ncredentials = \"{}\"\n",
            at("data"),
            at("ready"),
            at("credentials.toml"),
        );
        fs::write(at("gateway.toml"), config).unwrap();
        Self { dir, child: None }
    }

    pub fn start(&mut self) {
        let _ = fs::remove_file(self.dir.path().join("ready"));
        let child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("--config")
            .arg(self.dir.path().join("gateway.toml"))
            .env("RUST_LOG", "off")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub async fn until_ready(&self) -> serde_json::Value {
        let ready = self.dir.path().join("ready");
        until("the gateway is ready", || ready.exists()).await;
        serde_json::from_slice(&fs::read(ready).unwrap()).unwrap()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The active version and the candidate's phase, as the journal has them.
    pub fn journal(&self) -> (Option<String>, Option<Phase>) {
        let Ok(journal) = Journal::open(&self.dir.path().join("data")) else { return (None, None) };
        let Some(state) = journal.states().get(MODEL) else { return (None, None) };
        let active = state.active.as_ref().map(|active| active.version.version.clone());
        (active, state.candidate.as_ref().map(|candidate| candidate.phase))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_in_every_phase_ends_up_with_the_new_version() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (onnx, manifest) = next();
    let mut repository = Repository::new(1).await;
    repository.put_model(&onnx, &manifest);
    let wanted: Assignment = assignment("1.1.0", &onnx, 1);
    let assignments = Assignments { models: [(MODEL.to_owned(), wanted)].into() };
    repository.put(&target(), assignments.to_json().as_bytes(), &[]);
    repository.publish(&Signing::default()).await;
    let server = Server::start(&repository).await;
    // The link breaks at first, so that there is something to be killed in.
    server.fault(".onnx", Fault::Cut(40_000));
    let mut process = Process::new(&server, &repository, &[]);
    for phase in [Phase::Fetching, Phase::Fetching, Phase::Verified, Phase::SelfTested] {
        if phase > Phase::Fetching {
            server.mend();
        }
        process.start();
        until(phase.name(), || {
            let (active, now) = process.journal();
            active.as_deref() == Some("1.1.0") || now.is_some_and(|now| now >= phase)
        })
        .await;
        process.kill();
        assert!(matches!(process.journal().0.as_deref(), Some("1.0.0" | "1.1.0")));
    }
    process.start();
    until("the new version is active", || process.journal().0.as_deref() == Some("1.1.0")).await;
    process.kill();
    process.start();
    let ready = process.until_ready().await;
    let page = format!("http://{}/", ready["status"].as_str().unwrap());
    let text = reqwest::get(page).await.unwrap().text().await.unwrap();
    assert!(text.contains("soil-anomaly 1.1.0"), "the new version does not run:\n{text}");
    let sent = server.sent();
    assert!(sent < 2 * (onnx.len() as u64), "{sent} bytes for {}", onnx.len());
}
