//! What follows from a job that is done, and from what the pipeline says.

use std::time::Duration;

use proto::assignment::MAX_MODELS;
use proto::update::Reason;
use tokio::time::Instant;

use crate::detect::slots::{Failure, Order};
use crate::model::{Model, ModelError};
use crate::update::fetch::{FetchError, Step};
use crate::update::journal::{Counter, JournalError};
use crate::update::machine::{Action, Event, State, Version};
use crate::update::refused::Refused;
use crate::update::source::Trusted;

use super::job::{Done, Polled};
use super::{Updater, status};

/// How often the comparison in shadow is written down; a restart loses no more of it.
const NOTE_SHADOW: Duration = Duration::from_secs(10);
/// After failures the wait between two polls doubles up to this many times the usual one.
const BACK_OFF_MOST: u32 = 16;

impl Updater {
    pub(super) async fn settle(&mut self, done: Done) -> Result<(), JournalError> {
        match done {
            Done::Polled(trusted, result) => self.polled(trusted, result).await,
            Done::Fetched(name, version, result) => self.fetched(&name, &version, result).await,
            Done::Started { name, version, candidate: true, result } => self.tested(&name, &version, result).await,
            Done::Started { name, version, candidate: false, result } => match result {
                Ok(model) => {
                    self.ordered.insert(name.clone(), version.digest);
                    self.order(Order::Activate { name, model: Some(model) }).await;
                    Ok(())
                }
                Err(error) => {
                    self.hold(&name, None, self.setting.patience.again);
                    if error.passes() {
                        return Ok(());
                    }
                    let (digest, reason, text) = (version.digest, error.reason(), error.to_string());
                    self.apply(&name, Event::Failed { digest, reason, text }, None).await
                }
            },
        }
    }

    async fn polled(&mut self, trusted: Trusted, result: Result<Polled, Refused>) -> Result<(), JournalError> {
        let names: Vec<String> = self.journal.states().keys().cloned().collect();
        if !self.source.is_of(&self.trusted) {
            for name in &names {
                self.apply(name, Event::OtherRegistry, None).await?;
            }
        }
        let mut counters = self.counters();
        if result.is_ok() {
            self.checked = Some(self.now());
            counters.push((Counter::Checked, self.now().as_millis()));
        }
        let changed = (trusted != self.trusted).then_some(&trusted);
        self.journal.keep_all(&counters, changed)?;
        self.trusted = trusted;
        let Polled { metadata, digest, mut assignments, nodes } = match result {
            Ok(polled) => polled,
            Err(refused) => {
                self.failures += 1;
                self.poll_after(1 << self.failures.saturating_sub(1).min(BACK_OFF_MOST.ilog2()));
                tracing::warn!(reason = refused.reason.name(), text = refused.text, "the registry was refused");
                self.refusal = Some(self.refusal(None, &refused));
                return Ok(());
            }
        };
        self.failures = 0;
        self.poll_after(1);
        self.refusal = None;
        self.metadata = Some(metadata);
        self.nodes.send_replace(nodes);
        self.assignments = Some((digest, assignments.clone()));
        for name in &names {
            let assignment = assignments.models.remove(name);
            self.apply(name, Event::Assigned(assignment), None).await?;
        }
        for (name, assignment) in assignments.models {
            if self.journal.states().len() >= MAX_MODELS {
                let text =
                    format!("model {name:?} is one more than the {} that a gateway runs", self.journal.states().len());
                self.refusal = Some(self.refusal(None, &Refused::new(Reason::Assignment, text)));
            } else {
                self.apply(&name, Event::Assigned(Some(assignment)), None).await?;
            }
        }
        Ok(())
    }

    async fn fetched(
        &mut self,
        name: &str,
        version: &Version,
        result: Result<Step, FetchError>,
    ) -> Result<(), JournalError> {
        self.journal.keep(&self.counters())?;
        self.held.remove(name);
        let event = match result {
            Ok(Step::Came(fetched, size)) => Event::Fetched { fetched, size },
            Ok(Step::Whole(size)) => {
                self.apply(name, Event::Fetched { fetched: size, size }, None).await?;
                Event::Verified
            }
            Ok(Step::Wait(wait)) => {
                self.hold(name, None, wait);
                return Ok(());
            }
            Err(FetchError::Later(refused)) => {
                self.hold(name, Some((version, refused)), self.setting.patience.again);
                return Ok(());
            }
            Err(FetchError::Disk(error)) => {
                let refused = Refused::new(Reason::Unavailable, format!("this gateway's disk: {error}"));
                self.hold(name, Some((version, refused)), self.setting.patience.again);
                return Ok(());
            }
            Err(FetchError::Struck(refused)) => Event::Struck(refused.reason, refused.text),
            Err(FetchError::Never(refused)) => Event::Refused(refused.reason, refused.text),
        };
        self.apply(name, event, None).await
    }

    /// A candidate was started, or not.
    async fn tested(
        &mut self,
        name: &str,
        version: &Version,
        result: Result<Model, ModelError>,
    ) -> Result<(), JournalError> {
        let under_way = self.journal.states().get(name).and_then(|state| state.candidate.as_ref());
        if under_way.is_none_or(|candidate| candidate.version() != *version) {
            return Ok(());
        }
        self.held.remove(name);
        match result {
            Ok(model) => {
                self.apply(name, Event::SelfTested(model.self_test()), None).await?;
                self.apply(name, Event::Running, Some(model)).await
            }
            Err(error) if error.passes() => {
                let refused = Refused::new(error.reason(), format!("{error}; trying again"));
                self.hold(name, Some((version, refused)), self.setting.patience.again);
                Ok(())
            }
            Err(error) => self.apply(name, Event::Refused(error.reason(), error.to_string()), None).await,
        }
    }

    /// What the pipeline says.
    pub(super) async fn hear(&mut self) -> Result<(), JournalError> {
        let report = self.reports.borrow_and_update().clone();
        for (name, slot) in report.slots {
            let heard = self.heard.get(&name).map_or(&[][..], Vec::as_slice);
            for failure in unheard(heard, &slot.failed).to_vec() {
                let Failure { digest, reason, text, .. } = failure;
                if self.is_candidate(&name, &digest) {
                    self.shadows.remove(&name);
                }
                self.apply(&name, Event::Failed { digest, reason, text }, None).await?;
            }
            self.heard.insert(name.clone(), slot.failed);
            let Some(shadow) = slot.shadow.filter(|shadow| self.is_candidate(&name, &shadow.digest)) else { continue };
            let ended = shadow.judged.is_some_and(|end| end >= shadow.report.until);
            let due = self.noted.get(&name).is_none_or(|noted| noted.elapsed() >= NOTE_SHADOW);
            if self.shadows.contains(&name) && (ended || due) {
                self.noted.insert(name.clone(), Instant::now());
                self.apply(&name, Event::Judged(shadow.report, shadow.judged), None).await?;
            }
        }
        Ok(())
    }

    fn is_candidate(&self, name: &str, digest: &str) -> bool {
        let candidate = self.journal.states().get(name).and_then(|state| state.candidate.as_ref());
        candidate.is_some_and(|candidate| candidate.assignment.sha256 == digest)
    }

    /// Takes a model on in the journal, and then tells the pipeline.
    async fn apply(&mut self, name: &str, event: Event, model: Option<Model>) -> Result<(), JournalError> {
        let now = self.now();
        let (before, actions) = (self.journal.states().get(name).cloned(), self.journal.apply(name, event, now)?);
        let after = self.journal.states().get(name);
        if before.as_ref() != after {
            self.untidy = true;
            status::log(name, before.as_ref(), after);
            let candidate = |state: &State| state.candidate.as_ref().map(|candidate| candidate.assignment.clone());
            if before.as_ref().and_then(candidate) != after.and_then(candidate) {
                self.held.remove(name);
            }
        }
        let mut model = model;
        for action in actions {
            let name = name.to_owned();
            match action {
                Action::Shadow { shadow_s, so_far } => {
                    if let Some(model) = model.take() {
                        self.shadows.insert(name);
                        self.order(Order::Shadow { model, now, shadow_s, so_far }).await;
                    }
                }
                Action::EndShadow => {
                    self.shadows.remove(&name);
                    self.order(Order::EndShadow { name }).await;
                }
                Action::Activate { from_shadow } => {
                    self.shadows.remove(&name);
                    self.activated.insert(name.clone(), Instant::now());
                    let digest = self.journal.states().get(&name).and_then(|s| s.active.as_ref());
                    if let Some(digest) = digest.map(|active| active.version.digest.clone()) {
                        self.ordered.insert(name.clone(), digest);
                    }
                    let model = model.take().filter(|_| !from_shadow);
                    self.order(Order::Activate { name, model }).await;
                    self.journal.keep(&[(Counter::Crashes, 0)])?;
                }
            }
        }
        Ok(())
    }

    async fn order(&mut self, order: Order) {
        // It ends before the updater only when the gateway ends.
        let _ = self.orders.send(order).await;
    }
}

/// What of `now` was not in `before`: the list is bounded, and the oldest go first.
fn unheard<'a>(before: &[Failure], now: &'a [Failure]) -> &'a [Failure] {
    let kept = (0..=before.len()).map(|gone| &before[gone..]).find(|kept| now.starts_with(kept)).unwrap_or_default();
    &now[kept.len()..]
}
