//! What the updater says of itself: to the cloud and its people by [`UpdateStatus`], and to the log.

use proto::update::{ActiveVersion, Candidate, ModelStatus, Phase, UpdateStatus};

use crate::update::machine::{self, State};

use super::Updater;

impl Updater {
    /// Says how things stand.
    pub(super) fn publish(&self) {
        let held = self.held.values().find_map(|(_, refusal)| refusal.clone());
        let now = UpdateStatus {
            checked: self.checked,
            refusal: self.refusal.clone().or(held),
            bytes: self.link.counted().bytes,
            models: self.journal.states().iter().map(|(name, state)| self.model(name, state)).collect(),
            // Told by who brings it to the stations.
            nodes: None,
        };
        self.status.send_if_modified(|status| {
            let changed = *status != now;
            *status = now;
            changed
        });
    }

    fn model(&self, name: &str, state: &State) -> ModelStatus {
        let active = match &state.active {
            Some(active) => ActiveVersion {
                version: active.version.version.clone(),
                digest: active.version.digest.clone(),
                since: active.since,
                why: active.why.clone(),
            },
            None => ActiveVersion {
                version: "none".to_owned(),
                digest: String::new(),
                since: self.setting.time.at(crate::wall_clock()).floor_to(86_400),
                why: "no version of this model has been active yet".to_owned(),
            },
        };
        ModelStatus {
            name: name.to_owned(),
            active,
            previous: state.previous.as_ref().map(|previous| previous.version.clone()),
            candidate: state.candidate.as_ref().map(|candidate| self.candidate(name, candidate)),
            refusals: state.refusals.clone(),
        }
    }

    fn candidate(&self, name: &str, candidate: &machine::Candidate) -> Candidate {
        // The pipeline's report is newer than what is written down of it.
        let reports = self.reports.borrow();
        let live = reports.slots.get(name).and_then(|slot| slot.shadow.as_ref());
        let live = live.filter(|s| candidate.phase == Phase::Shadow && s.digest == candidate.assignment.sha256);
        Candidate {
            version: candidate.assignment.version.clone(),
            digest: candidate.assignment.sha256.clone(),
            phase: candidate.phase,
            since: candidate.since,
            fetched: candidate.fetched,
            size: candidate.size,
            self_test: candidate.self_test,
            shadow: live.map(|shadow| shadow.report).or(candidate.shadow),
        }
    }
}

/// Tells the log what changed for a model.
pub fn log(model: &str, before: Option<&State>, after: Option<&State>) {
    let Some(after) = after else { return };
    let phase = |state: &State| state.candidate.as_ref().map(|c| (c.assignment.version.clone(), c.phase));
    if let Some((version, now)) = phase(after)
        && before.and_then(phase) != phase(after)
    {
        tracing::info!(model, version, phase = now.name(), "an update goes on");
    }
    if before.map(|state| &state.refusals) != Some(&after.refusals)
        && let Some(refusal) = after.refusals.first()
    {
        tracing::warn!(
            model,
            version = refusal.version,
            reason = refusal.reason.name(),
            text = refusal.text,
            "refused"
        );
    }
    if let Some(active) = &after.active
        && before.and_then(|state| state.active.as_ref()).map(|active| &active.version) != Some(&active.version)
    {
        tracing::info!(model, version = active.version.version, why = active.why, "another version is active");
    }
}
