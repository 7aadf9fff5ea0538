//! A gateway's updater on a bench: everything real but the stations.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway::config::CloudConfig;
use gateway::detect::slots::{Comparison, Line, Slots};
use gateway::model::{LoadedModel, Model, ModelError, RunnerLimits};
use gateway::update::disk::{Disk, RealDisk};
use gateway::update::link::Patience;
use gateway::update::{Base, Journal, Setting, Starter, Updater, UpdatesConfig};
use proto::assignment::assignment_target;
use proto::update::{ModelStatus, Phase, Reason, Refusal, UpdateStatus};
use proto::{Assignment, Assignments, FarmId, GatewayId, Manifest, TimeScale, Timestamp};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::onnx::{self, MEAN, Onnx, TRAP};
use crate::tuf::{Repository, Server, Signing, TOKEN};

/// The name of every model here.
pub const NAME: &str = "test-model";
/// Nothing here takes as long on any machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A model's file and manifest: each score is `scale` times its channel's mean.
pub fn model(version: &str, scale: f32) -> (Vec<u8>, Manifest) {
    padded(version, scale, 0)
}

/// The same with so many bytes more.
pub fn padded(version: &str, scale: f32, bytes: usize) -> (Vec<u8>, Manifest) {
    let mut onnx = Onnx::mean(scale);
    onnx.0.doc_string = (0..bytes).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
    let onnx = onnx.bytes();
    let mut manifest = onnx::manifest(version, &onnx, &MEAN.map(|mean| mean * f64::from(scale)));
    manifest.limits.max_bytes = 4 << 20;
    (onnx, manifest)
}

/// What the gateway brought along.
pub fn base() -> (Vec<u8>, Manifest) {
    model("1.0.0", 1.0)
}

/// An assignment of a version that starts at once.
pub fn assignment(version: &str, onnx: &[u8], serial: u64) -> Assignment {
    let sha256 = hex::encode(Sha256::digest(onnx));
    Assignment { version: version.to_owned(), sha256, serial, shadow_s: 0, min_agreement: 0.0 }
}

/// What the gateway's assignment is called.
pub fn target() -> String {
    let (farm, gateway) = names();
    assignment_target(&farm, &gateway)
}

fn names() -> (FarmId, GatewayId) {
    ("f".parse().unwrap(), "g".parse().unwrap())
}

/// A place for a gateway, and a registry for it.
pub struct Bench {
    pub dir: TempDir,
    /// Where the pinned root is.
    _pinned: TempDir,
    pub repository: Repository,
    pub server: Server,
    pub config: UpdatesConfig,
    pub patience: Patience,
    pub starter: Starter,
    pub token: String,
    /// Whether the stations' values are beyond what a model with a trap stands.
    pub storm: Arc<AtomicBool>,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with_keys(1).await
    }

    /// The role of the targets needs so many signatures.
    pub async fn with_keys(targets_keys: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (dir, pinned) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let repository = Repository::new(targets_keys).await;
        let server = Server::start(&repository).await;
        let root = pinned.path().join("root.json");
        std::fs::write(&root, repository.pinned()).unwrap();
        let config = UpdatesConfig { root: Some(root), poll_s: 1, probation_s: 3_600, ..UpdatesConfig::default() };
        let patience = Patience {
            answer: Duration::from_secs(2),
            stretch: Duration::from_secs(1),
            least: 1_000,
            again: Duration::from_millis(20),
        };
        let starter = Starter::with(own, |dir: &Path, since| LoadedModel::load(dir, since).map(Model::from));
        Self {
            dir,
            _pinned: pinned,
            repository,
            server,
            config,
            patience,
            starter,
            token: TOKEN.to_owned(),
            storm: Arc::default(),
        }
    }

    /// From now on pushed models run in the real runner, a child of its own.
    pub fn with_runner(mut self) -> Self {
        self.config.runner_program = Some(env!("CARGO_BIN_EXE_gateway").into());
        self.starter = Starter::new(&self.config, own);
        self
    }

    /// From now on a pushed model may take so much.
    pub fn with_limits(mut self, limits: &RunnerLimits) -> Self {
        let RunnerLimits { max_memory_bytes, max_latency_ms, self_test_s } = *limits;
        self.config = UpdatesConfig { max_memory_bytes, max_latency_ms, self_test_s, ..self.config };
        self
    }

    /// Puts a model in and assigns it, and publishes both.
    pub async fn push(&mut self, (onnx, manifest): &(Vec<u8>, Manifest), serial: u64) {
        self.repository.put_model(onnx, manifest);
        self.assign(assignment(&manifest.version, onnx, serial)).await;
    }

    /// Assigns a version, and publishes.
    pub async fn assign(&mut self, assignment: Assignment) {
        let assignments = Assignments { models: [(NAME.to_owned(), assignment)].into() };
        self.repository.put(&target(), assignments.to_json().as_bytes(), &[]);
        self.publish().await;
    }

    /// Publishes what the repository has.
    pub async fn publish(&mut self) {
        self.repository.publish(&Signing::default()).await;
        self.server.serve(&self.repository);
    }

    /// Starts the gateway.
    pub fn start(&self) -> Gateway {
        self.start_on(Arc::new(RealDisk)).unwrap()
    }

    /// Starts the gateway on a disk that may fail on the way.
    pub fn start_on(&self, disk: Arc<dyn Disk>) -> anyhow::Result<Gateway> {
        let now = wall();
        let data_dir = self.dir.path().join("data");
        let mut journal = Journal::open_on(&data_dir, Arc::clone(&disk))?;
        let base = base().1;
        let bases = [Base { name: base.name, version: base.version, digest: base.sha256 }];
        let mut models = Vec::new();
        for run in journal.startup(&data_dir, &bases, now)? {
            let active = self.starter.start(&run.name, &run.place, run.since)?;
            assert_eq!(active.digest(), run.version.digest);
            let standby = run.previous.map(|(_, place)| self.starter.start(&run.name, &place, now).unwrap());
            models.push((active, standby));
        }
        let slots = Slots::new(models);
        let (line, orders, reports) = Line::new();
        line.report.send_replace(slots.report());
        let cloud = CloudConfig { url: self.server.url.clone(), token: self.token.clone() };
        let mut setting = Setting::new(names(), TimeScale::real(), cloud, self.config.clone(), 900, data_dir);
        (setting.patience, setting.disk) = (self.patience, disk);
        let (updater, status) = Updater::new(setting, journal, self.starter.clone(), orders, reports.clone())?;
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(updater.run(shutdown.clone()));
        let judged = Arc::default();
        let pipeline = tokio::spawn(pipeline(slots, line, Arc::clone(&self.storm), Arc::clone(&judged)));
        Ok(Gateway { status, reports, shutdown, task: Some(task), pipeline, judged })
    }
}

fn own(_: &str, since: Timestamp) -> Result<Model, ModelError> {
    let (onnx, manifest) = base();
    LoadedModel::verify(&onnx, &manifest.to_toml().unwrap(), since).map(Model::from)
}

/// The pipeline: the real slots, and a window of a quarter of an hour every few milliseconds.
async fn pipeline(mut slots: Slots, mut line: Line, storm: Arc<AtomicBool>, judged: Arc<AtomicU64>) {
    let mut end = wall().floor_to(900);
    loop {
        tokio::select! {
            order = line.orders.recv() => match order {
                Some(order) => slots.obey(order),
                None => return,
            },
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                end = end.plus_secs(900);
                let storm = storm.load(Ordering::Relaxed);
                let fill = |_: usize, _: &Manifest, row: &mut [f32]| {
                    row.iter_mut().zip(onnx::SAMPLE).for_each(|(to, from)| *to = if storm { 2.0 * TRAP } else { from as f32 });
                };
                let scores = slots.score(1, &fill, Some(&Comparison { samples: vec![0], end }));
                assert_eq!(scores[0].len(), onnx::FEATURES, "a window was not judged");
                judged.fetch_add(1, Ordering::Relaxed);
            }
        }
        let now = slots.report();
        line.report.send_if_modified(|report| {
            let changed = *report != now;
            *report = now;
            changed
        });
    }
}

fn wall() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

/// A gateway that runs.
pub struct Gateway {
    status: watch::Receiver<UpdateStatus>,
    reports: watch::Receiver<gateway::detect::slots::Report>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
    pipeline: JoinHandle<()>,
    judged: Arc<AtomicU64>,
}

impl Gateway {
    /// Waits until the status is so, and gives it.
    pub async fn until(&mut self, what: &str, mut holds: impl FnMut(&UpdateStatus) -> bool) -> UpdateStatus {
        let said = self.status.clone();
        let wait = self.status.wait_for(|status| holds(status));
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) => panic!("{what}: the updater ended"),
            Err(_) => panic!("{what}: not within {PATIENCE:?}, but {:#?}", *said.borrow()),
        }
    }

    /// Waits until a version is active, in the journal and in the pipeline.
    pub async fn until_active(&mut self, version: &str) -> ModelStatus {
        let status = self.until(version, |status| status.models.iter().any(|m| m.active.version == version)).await;
        let model = status.models[0].clone();
        let judges = self.reports.wait_for(|report| report.slots[NAME].active == model.active.digest);
        tokio::time::timeout(PATIENCE, judges).await.unwrap().unwrap();
        model
    }

    /// Waits until the registry's metadata was refused, and gives why.
    pub async fn until_refused(&mut self) -> Refusal {
        self.until("refused", |status| status.refusal.is_some()).await.refusal.unwrap()
    }

    /// Waits until a version was refused, and gives why.
    pub async fn until_version_refused(&mut self, reason: Reason) -> Refusal {
        let what = format!("refused for {reason}");
        let refused = |status: &UpdateStatus| status.models[0].refusals.first().is_some_and(|r| r.reason == reason);
        self.until(&what, refused).await.models[0].refusals[0].clone()
    }

    /// Waits until a version is settled, and gives why it was refused; none when it is active.
    pub async fn until_settled(&mut self, version: &str) -> Option<Refusal> {
        let is_it = |refusal: &&Refusal| refusal.version.as_deref() == Some(version);
        let refusal = |model: &ModelStatus| model.refusals.first().filter(is_it).cloned();
        let settled = |model: &ModelStatus| model.active.version == version || refusal(model).is_some();
        refusal(&self.until(version, |status| settled(&status.models[0])).await.models[0])
    }

    /// Waits until the candidate is in this phase.
    pub async fn until_phase(&mut self, phase: Phase) {
        let reached = |status: &UpdateStatus| status.models[0].candidate.as_ref().is_some_and(|c| c.phase == phase);
        self.until(phase.name(), reached).await;
    }

    /// The version that judges in the pipeline.
    pub fn judging(&self) -> String {
        self.reports.borrow().slots[NAME].active.clone()
    }

    /// How many windows were judged.
    pub fn judged(&self) -> u64 {
        assert!(!self.pipeline.is_finished(), "the pipeline has ended");
        self.judged.load(Ordering::Relaxed)
    }

    pub fn status(&self) -> UpdateStatus {
        self.status.borrow().clone()
    }

    /// Waits until a version is active, or the updater has ended; gives whether it is active.
    pub async fn active_or_ended(&mut self, version: &str) -> bool {
        let active = self.status.wait_for(|status| status.models[0].active.version == version);
        let active = tokio::time::timeout(PATIENCE, active).await.expect("neither active nor ended").is_ok();
        if !active {
            let error = self.task.take().unwrap().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("power"), "{error:#}");
        }
        active
    }

    /// `kill -9`: nothing more is done.
    pub async fn kill(mut self) {
        self.pipeline.abort();
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Ends well.
    pub async fn stop(mut self, bench: &Bench) {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
        self.pipeline.abort();
        Journal::open(&bench.dir.path().join("data")).unwrap().clean_shutdown().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.pipeline.abort();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
