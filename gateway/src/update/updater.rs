//! The task that takes updates on: it asks the registry, brings versions to disk, tests them, and gives the pipeline its
//! orders.
//!
//! What is to be done next is read from the journal, so that a gateway that was killed goes on where it was. One job runs
//! at a time, in slices; what the pipeline reports is heard in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::update::{Phase, Refusal, UpdateStatus};
use proto::{Assignments, Timestamp};
use rand::RngExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::detect::slots::{Failure, Order, Report};
use crate::nodes::Wanted;

use super::budget::{Budget, RESERVE};
use super::fetch::Fetcher;
use super::files::Files;
use super::journal::{Counter, Journal, JournalError};
use super::link::{Counted, Link};
use super::machine::{Event, Version};
use super::refused::Refused;
use super::source::{Metadata, Source, Trusted};
use super::startup::Starter;

mod job;
mod rollout;
mod setting;
mod settle;
mod status;

use job::Done;
pub use setting::Setting;

/// The least budget for which the registry is asked, bytes.
const POLL_LEAST: u64 = RESERVE / 4;
/// The longest sleep, so that a clock that jumps does not matter for long.
const SLEEP_MOST: Duration = Duration::from_secs(60);

/// The updater's task.
#[derive(Debug)]
pub struct Updater {
    setting: Setting,
    journal: Journal,
    link: Arc<Link>,
    source: Arc<Source>,
    fetcher: Fetcher,
    files: Files,
    starter: Starter,
    orders: mpsc::Sender<Order>,
    reports: watch::Receiver<Report>,
    status: watch::Sender<UpdateStatus>,
    trusted: Trusted,
    metadata: Option<Metadata>,
    /// The assignments that were read last, and their digest: the same need not come again.
    assignments: Option<(String, Assignments)>,
    checked: Option<Timestamp>,
    refusal: Option<Refusal>,
    /// What the farm's nodes are to run.
    nodes: watch::Sender<Option<Wanted>>,
    /// What holds a model's candidate up for now.
    held: BTreeMap<String, (Instant, Option<Refusal>)>,
    /// Models whose candidate is in the pipeline's shadow.
    shadows: BTreeSet<String>,
    /// The version that the pipeline was last told to let judge.
    ordered: BTreeMap<String, String>,
    /// Failures that were heard.
    heard: BTreeMap<String, Vec<Failure>>,
    noted: BTreeMap<String, Instant>,
    activated: BTreeMap<String, Instant>,
    started: Instant,
    stayed: bool,
    next_poll: Instant,
    failures: u32,
    untidy: bool,
}

type Job = Pin<Box<dyn Future<Output = Done> + Send>>;

impl Updater {
    /// An updater, and where it says how it is doing.
    ///
    /// # Errors
    /// When the pinned root cannot be read, or the journal.
    pub fn new(
        setting: Setting,
        journal: Journal,
        starter: Starter,
        orders: mpsc::Sender<Order>,
        reports: watch::Receiver<Report>,
    ) -> anyhow::Result<(Self, watch::Receiver<UpdateStatus>)> {
        let root = setting.config.root.as_ref().context("updates.root is not set")?;
        let pinned = fs::read(root).with_context(|| format!("updates.root {}", root.display()))?;
        let budget = Budget::new(setting.config.bytes_per_hour, journal.counter(Counter::BudgetFullAt)?);
        let bytes = u64::try_from(journal.counter(Counter::Bytes)?).unwrap_or(0);
        let link = Arc::new(Link::new(setting.cloud.token.clone(), setting.patience, Counted { bytes, budget })?);
        let scratch = setting.data_dir.join("models").join("tuf");
        let source = Source::new(Arc::clone(&link), &setting.cloud.url, pinned, scratch)
            .with_context(|| format!("updates.root {}", root.display()))?;
        let source = Arc::new(source);
        let files = Files::new(&setting.data_dir, Arc::clone(&setting.disk));
        let checked = Some(journal.counter(Counter::Checked)?).filter(|ms| *ms != 0).map(Timestamp::from_millis);
        let (status, receiver) = watch::channel(UpdateStatus::default());
        let updater = Self {
            fetcher: Fetcher::new(Arc::clone(&source), Arc::clone(&link), files.clone()),
            trusted: journal.trusted()?,
            setting,
            journal,
            link,
            source,
            files,
            starter,
            orders,
            reports,
            status,
            metadata: None,
            assignments: None,
            checked,
            refusal: None,
            nodes: watch::channel(None).0,
            held: BTreeMap::new(),
            shadows: BTreeSet::new(),
            ordered: BTreeMap::new(),
            heard: BTreeMap::new(),
            noted: BTreeMap::new(),
            activated: BTreeMap::new(),
            started: Instant::now(),
            stayed: false,
            next_poll: Instant::now(),
            failures: 0,
            untidy: true,
        };
        updater.publish();
        Ok((updater, receiver))
    }

    /// Where it says what the farm's nodes are to run, once the registry was read.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Option<Wanted>> {
        self.nodes.subscribe()
    }

    /// Takes updates on until `shutdown`.
    ///
    /// # Errors
    /// When the journal cannot be written, for a reason that does not pass.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut job: Option<Job> = None;
        loop {
            let went = async {
                self.tick()?;
                if job.is_none() {
                    job = self.next();
                }
                self.publish();
                let wake = self.wake();
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(true),
                    done = async { match &mut job { Some(job) => job.await, None => std::future::pending().await } } => {
                        job = None;
                        self.settle(done).await?;
                    }
                    changed = self.reports.changed() => {
                        if changed.is_err() {
                            // The pipeline has ended: there is nobody left to give an order to.
                            return Ok(true);
                        }
                        self.hear().await?;
                    }
                    () = tokio::time::sleep_until(wake), if job.is_none() => {}
                }
                Ok::<bool, JournalError>(false)
            }
            .await;
            match went {
                Ok(false) => {}
                Ok(true) => {
                    shutdown.cancelled().await;
                    return Ok(());
                }
                Err(error) if error.passes() => {
                    tracing::warn!(%error, "the updates journal could not be written; trying again");
                    self.reports.mark_changed();
                    tokio::select! { () = shutdown.cancelled() => return Ok(()), () = tokio::time::sleep(self.setting.patience.again) => {} }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next job, by what the journal says; none when there is nothing to do.
    fn next(&self) -> Option<Job> {
        let now = Instant::now();
        if now >= self.next_poll {
            return Some(self.poll());
        }
        let free = |name: &String| self.held.get(name).is_none_or(|(until, _)| *until <= now);
        for (name, state) in self.journal.states().iter().filter(|(name, _)| free(name)) {
            if let Some(candidate) = &state.candidate {
                match candidate.phase {
                    Phase::Fetching => {
                        if let Some(metadata) = &self.metadata {
                            return Some(self.fetch(name, state, candidate.version(), metadata));
                        }
                    }
                    Phase::Verified | Phase::SelfTested | Phase::Shadow if !self.shadows.contains(name) => {
                        return Some(self.start(name, state, candidate.version(), true));
                    }
                    _ => {}
                }
            }
            if let Some(active) = &state.active
                && self.is_other(name, &active.version)
            {
                return Some(self.start(name, state, active.version.clone(), false));
            }
        }
        None
    }

    /// Whether the pipeline lets another version judge than the journal, and was not told so yet.
    fn is_other(&self, name: &str, version: &Version) -> bool {
        let judging = self.reports.borrow().slots.get(name).map(|slot| slot.active.clone());
        judging.is_some_and(|judging| judging != version.digest) && self.ordered.get(name) != Some(&version.digest)
    }

    /// What time alone brings: probations end, and files that nothing needs go.
    fn tick(&mut self) -> Result<(), JournalError> {
        let probation = Duration::from_secs(self.setting.config.probation_s);
        if !self.stayed && self.started.elapsed() >= probation {
            self.journal.keep(&[(Counter::Crashes, 0)])?;
            self.stayed = true;
        }
        let now = self.now();
        let on_probation = self.journal.states().iter().filter(|(_, s)| s.active.as_ref().is_some_and(|a| !a.kept));
        let stayed = on_probation.filter(|(name, _)| self.runs_since(name).elapsed() >= probation);
        for name in stayed.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.journal.apply(&name, Event::Stayed, now)?;
        }
        if std::mem::take(&mut self.untidy) {
            let states = self.journal.states().iter();
            let needed: Vec<_> = states.flat_map(|(name, s)| s.needed().map(move |v| (name.clone(), v))).collect();
            if let Err(error) = self.files.keep_only(&needed) {
                tracing::warn!(%error, "files of old versions could not be removed");
            }
        }
        Ok(())
    }

    /// Since when the gateway runs with a model's active version.
    fn runs_since(&self, name: &str) -> Instant {
        self.activated.get(name).copied().unwrap_or(self.started)
    }

    fn wake(&self) -> Instant {
        let probation = Duration::from_secs(self.setting.config.probation_s);
        let held = self.held.values().map(|(until, _)| *until);
        let kept = self.journal.states().iter().filter(|(_, s)| s.active.as_ref().is_some_and(|a| !a.kept));
        let kept = kept.map(|(name, _)| self.runs_since(name) + probation);
        let soon = held.chain(kept).chain([self.next_poll]).filter(|at| *at > Instant::now()).min();
        soon.unwrap_or(self.next_poll).min(Instant::now() + SLEEP_MOST)
    }

    fn poll_after(&mut self, times: u32) {
        let usual = Duration::from_secs(self.setting.config.poll_s) * times;
        let wait = self.link.wait(POLL_LEAST);
        self.next_poll = Instant::now() + usual.mul_f64(rand::rng().random_range(0.9..1.1)).max(wait);
    }

    fn hold(&mut self, name: &str, why: Option<(&Version, Refused)>, wait: Duration) {
        if let Some((version, refused)) = &why {
            tracing::warn!(
                model = name,
                version = version.version,
                reason = refused.reason.name(),
                text = refused.text,
                "an update does not go on for now"
            );
        }
        let refusal = why.map(|(version, refused)| self.refusal(Some(version), &refused));
        self.held.insert(name.to_owned(), (Instant::now() + wait, refusal));
    }

    fn refusal(&self, version: Option<&Version>, refused: &Refused) -> Refusal {
        Refusal {
            version: version.map(|version| version.version.clone()),
            digest: version.map(|version| version.digest.clone()),
            reason: refused.reason,
            text: refused.text.clone(),
            at: self.now(),
        }
    }

    fn counters(&self) -> Vec<(Counter, i64)> {
        let Counted { bytes, budget } = self.link.counted();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        vec![(Counter::Bytes, bytes), (Counter::BudgetFullAt, budget.full_at_us())]
    }

    /// The farm's time.
    fn now(&self) -> Timestamp {
        self.setting.time.at(crate::wall_clock())
    }
}
