//! The models that judge, a slot for each name: the active version, the one that stood before it, and one in shadow.
//!
//! A slot never stands empty-handed when there is anything to fall back on. When its active version fails, the version
//! before it judges *the same batch* in the same call, so that no window goes unjudged; who updates models hears of it by
//! [`Report`] and makes it durable. A version in shadow sees what the active one sees and raises nothing: its scores are
//! only compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::update::{Reason, ShadowReport};
use proto::{Channel, Manifest, RunningModel, Timestamp};
use tokio::sync::{mpsc, watch};

use crate::model::{Model, ModelError};

/// The most windows that a model may look back on; a station's history is no longer than two days of quarter hours.
pub const MAX_STEPS: u32 = 192;

/// Orders that lie between the updater and the pipeline. One is given at a time, and the next after it is seen in a report.
pub const ORDERS: usize = 16;

/// The most failures that a report tells; the oldest go first. Whoever listens has seen them long before.
const MAX_FAILURES: usize = 16;

/// What the updater wants of the pipeline.
#[derive(Debug)]
pub enum Order {
    /// Runs a version in shadow, in place of the one of the same name that is there.
    Shadow {
        /// The version.
        model: Model,
        /// The farm's time now: what the end is expected by until the first window is judged.
        now: Timestamp,
        /// How long, in seconds of farm time, from the first window that it judges. The report tells when that is over; the
        /// shadow itself goes on until it is ended.
        shadow_s: u32,
        /// What was compared before a restart.
        so_far: Option<ShadowReport>,
    },
    /// Ends the shadow of this name.
    EndShadow {
        /// The model's name.
        name: String,
    },
    /// Lets a version judge from the next window on. The one before it stands by.
    Activate {
        /// The model's name.
        name: String,
        /// The version; none for the one in shadow.
        model: Option<Model>,
    },
}

/// What the pipeline says of its models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// By name.
    pub slots: BTreeMap<String, SlotReport>,
}

/// What the pipeline says of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SlotReport {
    /// SHA-256 of the version that judges; empty when none is left that works.
    pub active: String,
    /// The version in shadow.
    pub shadow: Option<Shadowing>,
    /// Versions that failed since the gateway was started, the newest last.
    pub failed: Vec<Failure>,
}

/// A version in shadow.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadowing {
    /// SHA-256 of its file.
    pub digest: String,
    /// How it compares.
    pub report: ShadowReport,
    /// End of the newest window that it has judged.
    pub judged: Option<Timestamp>,
}

/// A version that failed while it ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// SHA-256 of its file.
    pub digest: String,
    /// Name and version.
    pub label: String,
    /// The kind of reason.
    pub reason: Reason,
    /// What happened, in words.
    pub text: String,
}

/// Both ends of the line between the updater and the pipeline.
#[derive(Debug)]
pub struct Line {
    /// Where the pipeline takes orders.
    pub orders: mpsc::Receiver<Order>,
    /// Where it reports.
    pub report: watch::Sender<Report>,
}

impl Line {
    /// A line, and the updater's end of it.
    #[must_use]
    pub fn new() -> (Self, mpsc::Sender<Order>, watch::Receiver<Report>) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let (report, receiver) = watch::channel(Report::default());
        (Self { orders, report }, sender, receiver)
    }
}

/// Whether the gateway can feed a model, or why not, in words.
///
/// # Errors
/// What the model needs and the gateway has not.
pub fn fits(manifest: &Manifest, window_s: u32) -> Result<(), String> {
    let input = &manifest.input;
    if input.window_s != window_s {
        return Err(format!(
            "it needs windows of {} s, and this gateway makes windows of {window_s} s",
            input.window_s
        ));
    }
    if input.steps > MAX_STEPS {
        return Err(format!("it looks back on {} windows, and this gateway keeps {MAX_STEPS}", input.steps));
    }
    Ok(())
}

/// A model's opinion of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// In shares of the threshold: 1.0 is where an alert becomes possible.
    pub value: f64,
    /// The model's name and version.
    pub label: Arc<str>,
}

/// The scores of one sample by channel. A channel that cannot be judged yet has none.
pub type Scores = BTreeMap<Channel, Score>;

/// Fills a sample of a model's input for request number `n`.
pub type Fill<'a> = dyn Fn(usize, &Manifest, &mut [f32]) + 'a;

/// The samples on which versions in shadow are compared with the active ones.
#[derive(Debug)]
pub struct Comparison {
    /// Their places among the requests.
    pub samples: Vec<usize>,
    /// The end of the windows that are judged.
    pub end: Timestamp,
}

#[derive(Debug)]
struct Shadow {
    model: Model,
    shadow_ms: i64,
    until: Timestamp,
    judged: Option<Timestamp>,
    windows: u64,
    compared: u64,
    agreed: u64,
    difference: f64,
    alerts: u64,
    active_alerts: u64,
}

/// One model: its versions.
#[derive(Debug)]
struct Slot {
    active: Model,
    standby: Option<Model>,
    shadow: Option<Shadow>,
    failed: Vec<Failure>,
}

/// All models.
#[derive(Debug)]
pub struct Slots {
    slots: BTreeMap<String, Slot>,
}

impl Slots {
    /// Slots of the models that were running, each with the version that stands by.
    #[must_use]
    pub fn new(models: Vec<(Model, Option<Model>)>) -> Self {
        let slot = |(active, standby): (Model, Option<Model>)| {
            (active.manifest().name.clone(), Slot { active, standby, shadow: None, failed: Vec::new() })
        };
        Self { slots: models.into_iter().map(slot).collect() }
    }

    /// How many windows the models look back on at most.
    #[must_use]
    pub fn steps(&self) -> usize {
        let models = self.slots.values().flat_map(|s| {
            [Some(&s.active), s.standby.as_ref(), s.shadow.as_ref().map(|s| &s.model)].into_iter().flatten()
        });
        models.map(|m| m.manifest().input.steps as usize).max().unwrap_or(0)
    }

    /// Does what the updater wants.
    pub fn obey(&mut self, order: Order) {
        match order {
            Order::Shadow { model, now, shadow_s, so_far } => {
                if let Some(slot) = self.slots.get_mut(&model.manifest().name) {
                    slot.shadow = Some(Shadow::new(model, now, shadow_s, so_far));
                } else {
                    // There is nothing to compare it with.
                    tracing::warn!(
                        model = model.label(),
                        "no version of this model is active: nothing to be in shadow of"
                    );
                }
            }
            Order::EndShadow { name } => {
                if let Some(slot) = self.slots.get_mut(&name) {
                    slot.shadow = None;
                }
            }
            Order::Activate { name, model } => self.activate(name, model),
        }
    }

    fn activate(&mut self, name: String, model: Option<Model>) {
        let Some(slot) = self.slots.get_mut(&name) else {
            if let Some(active) = model {
                self.slots.insert(name, Slot { active, standby: None, shadow: None, failed: Vec::new() });
            }
            return;
        };
        let shadow = slot.shadow.take().map(|s| s.model);
        let Some(next) = model.or(shadow) else { return };
        if next.digest() == slot.active.digest() && slot.active.failure().is_none() {
            return;
        }
        tracing::info!(from = slot.active.label(), to = next.label(), "another version takes over");
        let before = std::mem::replace(&mut slot.active, next);
        if before.failure().is_none() {
            slot.standby = Some(before);
        }
    }

    /// The versions that judge; one that failed and had nothing to fall back on is not among them.
    #[must_use]
    pub fn running(&self) -> Vec<RunningModel> {
        self.slots.values().map(|s| &s.active).filter(|m| m.failure().is_none()).map(Model::running).collect()
    }

    /// The models that no longer judge, each with the reason.
    #[must_use]
    pub fn failed(&self) -> Vec<(String, String)> {
        let stopped = self.slots.values().map(|s| &s.active);
        stopped.filter_map(|m| m.failure().map(|why| (m.label(), why.to_string()))).collect()
    }

    /// What the updater is told.
    #[must_use]
    pub fn report(&self) -> Report {
        let slot = |slot: &Slot| SlotReport {
            active: if slot.active.failure().is_none() { slot.active.digest().to_owned() } else { String::new() },
            shadow: slot.shadow.as_ref().map(|shadow| Shadowing {
                digest: shadow.model.digest().to_owned(),
                report: shadow.report(),
                judged: shadow.judged,
            }),
            failed: slot.failed.clone(),
        };
        Report { slots: self.slots.iter().map(|(name, s)| (name.clone(), slot(s))).collect() }
    }

    /// Scores `requests` samples with every model, one batch each. Where models overlap, the higher score of a channel
    /// counts. Versions in shadow judge the samples of `comparison` too, and are compared.
    pub fn score(&mut self, requests: usize, fill: &Fill<'_>, comparison: Option<&Comparison>) -> Vec<Scores> {
        let mut merged = vec![Scores::new(); requests];
        for slot in self.slots.values_mut() {
            let scores = slot.judge(requests, fill);
            if let Some(comparison) = comparison {
                slot.compare(&scores, fill, comparison);
            }
            for (merged, scores) in merged.iter_mut().zip(scores) {
                for (channel, score) in scores {
                    if merged.get(&channel).is_none_or(|known| known.value < score.value) {
                        merged.insert(channel, score);
                    }
                }
            }
        }
        merged
    }
}

impl Slot {
    /// The active version's scores; when it fails, those of the version before it.
    fn judge(&mut self, requests: usize, fill: &Fill<'_>) -> Vec<Scores> {
        while self.active.failure().is_none() {
            match judge(&mut self.active, requests, fill) {
                Ok(scores) => return scores,
                Err(error) => self.fall_back(&error),
            }
        }
        Vec::new()
    }

    fn fall_back(&mut self, error: &ModelError) {
        let failed = self.active.label();
        let digest = self.active.digest().to_owned();
        self.note(&digest, &failed, error);
        match self.standby.take().filter(|m| m.failure().is_none()) {
            Some(standby) => {
                tracing::error!(%error, failed, back_to = standby.label(), "a model failed: back to the version before it");
                self.active = standby;
            }
            None => tracing::error!(%error, failed, "a model failed and is no longer run"),
        }
    }

    fn compare(&mut self, active: &[Scores], fill: &Fill<'_>, comparison: &Comparison) {
        let Some(shadow) = self.shadow.as_mut().filter(|_| !comparison.samples.is_empty() && !active.is_empty()) else {
            return;
        };
        let samples = &comparison.samples;
        match judge(&mut shadow.model, samples.len(), &|n, manifest, row| fill(samples[n], manifest, row)) {
            Ok(scores) => {
                let pairs = samples.iter().filter_map(|n| active.get(*n)).zip(&scores);
                shadow.take(pairs, comparison.end);
            }
            Err(error) => {
                let (digest, label) = (shadow.model.digest().to_owned(), shadow.model.label());
                tracing::warn!(%error, model = label, "a version in shadow failed");
                self.note(&digest, &label, &error);
                self.shadow = None;
            }
        }
    }

    fn note(&mut self, digest: &str, label: &str, error: &ModelError) {
        if self.failed.len() == MAX_FAILURES {
            self.failed.remove(0);
        }
        self.failed.push(Failure {
            digest: digest.to_owned(),
            label: label.to_owned(),
            reason: error.reason(),
            text: error.to_string(),
        });
    }
}

impl Shadow {
    fn new(model: Model, now: Timestamp, shadow_s: u32, so_far: Option<ShadowReport>) -> Self {
        let shadow_ms = i64::from(shadow_s) * 1000;
        let scores = model.manifest().output.scores.len() as u64;
        let mut shadow = Self {
            model,
            shadow_ms,
            until: now.plus_millis(shadow_ms),
            judged: None,
            windows: 0,
            compared: 0,
            agreed: 0,
            difference: 0.0,
            alerts: 0,
            active_alerts: 0,
        };
        if let Some(before) = so_far.filter(|before| before.windows > 0) {
            shadow.until = before.until;
            shadow.windows = before.windows;
            shadow.compared = before.windows * scores;
            shadow.agreed = (before.agreement * shadow.compared as f64).round() as u64;
            shadow.difference = before.mean_difference * shadow.compared as f64;
            shadow.alerts = before.alerts;
            shadow.active_alerts = before.active_alerts;
        }
        shadow
    }

    fn take<'a>(&mut self, pairs: impl Iterator<Item = (&'a Scores, &'a Scores)>, end: Timestamp) {
        if self.judged.is_none() && self.windows == 0 {
            self.until = end.plus_millis(self.shadow_ms);
        }
        self.judged = Some(self.judged.map_or(end, |judged| judged.max(end)));
        for (active, shadow) in pairs {
            self.windows += u64::from(!shadow.is_empty());
            for (channel, score) in shadow {
                self.alerts += u64::from(score.value >= 1.0);
                let Some(other) = active.get(channel) else { continue };
                self.active_alerts += u64::from(other.value >= 1.0);
                self.compared += 1;
                self.agreed += u64::from((score.value >= 1.0) == (other.value >= 1.0));
                self.difference += (score.value - other.value).abs();
            }
        }
    }

    fn report(&self) -> ShadowReport {
        let share = |sum: f64, none: f64| if self.compared == 0 { none } else { sum / self.compared as f64 };
        ShadowReport {
            windows: self.windows,
            until: self.until,
            agreement: share(self.agreed as f64, 1.0),
            mean_difference: share(self.difference, 0.0),
            alerts: self.alerts,
            active_alerts: self.active_alerts,
        }
    }
}

/// One model's scores of every request, in thresholds. A model that does not take missing values is not asked about samples
/// that have some, and has no opinion of them.
fn judge(model: &mut Model, requests: usize, fill: &Fill<'_>) -> Result<Vec<Scores>, ModelError> {
    let (sample, most) = (model.sample_len(), model.max_batch());
    let takes_missing = model.manifest().takes_missing();
    let label: Arc<str> = model.label().into();
    // One run's samples at a time: those of a thousand stations are megabytes.
    let mut input = Vec::with_capacity(requests.min(most) * sample);
    let mut asked = Vec::with_capacity(most);
    let mut judged = vec![Scores::new(); requests];
    for n in 0..requests {
        let from = input.len();
        input.resize(from + sample, f32::NAN);
        fill(n, model.manifest(), &mut input[from..]);
        if takes_missing || input[from..].iter().all(|value| value.is_finite()) {
            asked.push(n);
        } else {
            input.truncate(from);
        }
        if asked.is_empty() || (asked.len() < most && n + 1 < requests) {
            continue;
        }
        let scores = model.run(&input)?;
        let Manifest { threshold, output, .. } = model.manifest();
        for (n, row) in asked.drain(..).zip(scores.chunks(output.scores.len())) {
            let score = |value: f32| Score { value: f64::from(value) / threshold, label: Arc::clone(&label) };
            judged[n] = output.scores.iter().zip(row).map(|(channel, value)| (*channel, score(*value))).collect();
        }
        input.clear();
    }
    Ok(judged)
}
