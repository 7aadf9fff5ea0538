//! The transitions.

use proto::update::{MAX_REFUSALS, Phase, Reason, Refusal, ShadowReport};
use proto::{Assignment, Timestamp};

use super::{Action, Active, CRASHES, CRASHES_ON_THE_WAY, Candidate, Event, STRIKES, State, Version};

impl State {
    /// What follows from `event` at `now`, in farm time.
    #[must_use]
    pub fn step(mut self, event: Event, now: Timestamp) -> (Self, Vec<Action>) {
        let actions = match event {
            Event::Base(base) => self.start(base, now),
            Event::OtherRegistry => {
                self.settled = 0;
                Vec::new()
            }
            Event::Assigned(assignment) => self.assign(assignment, now),
            Event::Fetched { fetched, size } => self.on_candidate(|c| (c.fetched, c.size) = (fetched, size)),
            Event::Struck(reason, text) => self.strike(reason, text, now),
            Event::Verified => self.advance(Phase::Verified, now),
            Event::Refused(reason, text) => self.refuse(reason, text, now),
            Event::SelfTested(measured) => {
                let _ = self.on_candidate(|c| c.self_test = measured);
                self.advance(Phase::SelfTested, now)
            }
            Event::Running => self.begin(now),
            Event::Judged(report, end) => self.judge(report, end, now),
            Event::Failed { digest, reason, text } => self.fail(&digest, reason, text, now),
            Event::Lost { version, text } => self.lose(&version, text, now),
            Event::Stayed => {
                if let Some(active) = &mut self.active {
                    active.kept = true;
                }
                Vec::new()
            }
            Event::CrashLoop(starts) => self.crash_loop(starts, now),
        };
        (self, actions)
    }

    fn start(&mut self, base: Option<Version>, now: Timestamp) -> Vec<Action> {
        let old = std::mem::replace(&mut self.base, base);
        let was_old = |version: &Version| old.as_ref() == Some(version);
        if self.previous.as_ref().is_some_and(was_old) {
            self.previous = None;
        }
        if self.active.as_ref().is_none_or(|active| was_old(&active.version)) {
            let unchanged = self.active.as_ref().map(|active| &active.version) == self.base.as_ref();
            if !unchanged {
                let why = "came with the gateway".to_owned();
                self.active = self.base.clone().map(|version| Active { version, since: now, why, kept: true });
            }
        }
        self.complete();
        Vec::new()
    }

    /// Falls back to the base where there is nothing else to fall back to.
    fn complete(&mut self) {
        let active = self.active.as_ref().map(|active| &active.version);
        self.previous = self.previous.take().or_else(|| self.base.clone()).filter(|previous| Some(previous) != active);
    }

    fn assign(&mut self, assignment: Option<Assignment>, now: Timestamp) -> Vec<Action> {
        let under_way = self.candidate.as_ref().map(|candidate| &candidate.assignment);
        if assignment.as_ref() == under_way {
            return Vec::new();
        }
        let actions = self.drop_candidate();
        if let Some(assignment) = assignment.filter(|assignment| assignment.serial > self.settled) {
            let version = Version { version: assignment.version.clone(), digest: assignment.sha256.clone() };
            if self.active.as_ref().is_some_and(|active| active.version == version) {
                self.settled = assignment.serial;
            } else {
                self.candidate = Some(Candidate {
                    assignment,
                    phase: Phase::Fetching,
                    since: now,
                    fetched: 0,
                    size: 0,
                    strikes: 0,
                    self_test: None,
                    shadow: None,
                });
            }
        }
        actions
    }

    fn on_candidate(&mut self, change: impl FnOnce(&mut Candidate)) -> Vec<Action> {
        if let Some(candidate) = &mut self.candidate {
            change(candidate);
        }
        Vec::new()
    }

    /// A phase follows the one before it only; an event that comes late changes nothing.
    fn advance(&mut self, phase: Phase, now: Timestamp) -> Vec<Action> {
        self.on_candidate(|candidate| {
            let next = Phase::ALL.iter().find(|next| **next > candidate.phase);
            if next == Some(&phase) {
                (candidate.phase, candidate.since) = (phase, now);
            }
        })
    }

    fn strike(&mut self, reason: Reason, text: String, now: Timestamp) -> Vec<Action> {
        let _ = self.on_candidate(|candidate| (candidate.strikes, candidate.fetched) = (candidate.strikes + 1, 0));
        match &self.candidate {
            Some(candidate) if candidate.strikes >= STRIKES => self.refuse(reason, text, now),
            _ => Vec::new(),
        }
    }

    fn begin(&mut self, now: Timestamp) -> Vec<Action> {
        let alone = self.active.is_none();
        let Some(candidate) = &mut self.candidate else { return Vec::new() };
        let shadow_s = candidate.assignment.shadow_s;
        match candidate.phase {
            Phase::SelfTested if alone => self.activate("activated as the first of its name".to_owned(), false, now),
            Phase::SelfTested if shadow_s == 0 => self.activate("activated without a shadow".to_owned(), false, now),
            Phase::SelfTested => {
                let until = now.plus_secs(i64::from(shadow_s));
                let shadow = ShadowReport {
                    windows: 0,
                    until,
                    agreement: 1.0,
                    mean_difference: 0.0,
                    alerts: 0,
                    active_alerts: 0,
                };
                (candidate.phase, candidate.since, candidate.shadow) = (Phase::Shadow, now, Some(shadow));
                vec![Action::Shadow { shadow_s, so_far: None }]
            }
            // After a restart it goes on until its end.
            Phase::Shadow => vec![Action::Shadow { shadow_s, so_far: candidate.shadow }],
            Phase::Fetching | Phase::Verified => Vec::new(),
        }
    }

    fn judge(&mut self, report: ShadowReport, end: Option<Timestamp>, now: Timestamp) -> Vec<Action> {
        let Some(Candidate { phase: Phase::Shadow, shadow: Some(shadow), assignment, .. }) = &mut self.candidate else {
            return Vec::new();
        };
        *shadow = report;
        if end.is_none_or(|end| end < report.until) {
            return Vec::new();
        }
        let (agreed, least) = (report.agreement * 100.0, assignment.min_agreement * 100.0);
        if report.agreement < assignment.min_agreement {
            let text = format!(
                "agreed with the active version on {agreed:.1} % of the scores of {} windows, expected at least {least:.1} %",
                report.windows
            );
            self.refuse(Reason::Agreement, text, now)
        } else {
            let lasted = lasting(i64::from(assignment.shadow_s));
            self.activate(format!("activated after {lasted} in shadow, {agreed:.1} % agreement"), true, now)
        }
    }

    fn fail(&mut self, digest: &str, reason: Reason, text: String, now: Timestamp) -> Vec<Action> {
        let is_active = self.active.as_ref().is_some_and(|active| active.version.digest == digest);
        let in_shadow =
            self.candidate.as_ref().is_some_and(|c| c.assignment.sha256 == digest && c.phase == Phase::Shadow);
        if is_active {
            self.roll_back(reason, text, now);
            Vec::new()
        } else if in_shadow {
            self.refuse(reason, text, now)
        } else {
            Vec::new()
        }
    }

    fn lose(&mut self, version: &Version, text: String, now: Timestamp) -> Vec<Action> {
        if self.is_base(version) {
            return Vec::new();
        }
        if self.previous.as_ref() == Some(version) {
            self.previous = None;
            self.complete();
        }
        if let Some(candidate) = &mut self.candidate
            && candidate.version() == *version
        {
            candidate.phase = Phase::Fetching;
            candidate.since = now;
            (candidate.fetched, candidate.self_test, candidate.shadow) = (0, None, None);
        }
        if self.active.as_ref().is_some_and(|active| active.version == *version) {
            self.roll_back(Reason::Digest, text, now);
        }
        Vec::new()
    }

    /// A version that judges goes back soon. One on its way is suspected late: it runs in a process of its own, and it is
    /// rather the power that comes and goes.
    fn crash_loop(&mut self, starts: u32, now: Timestamp) -> Vec<Action> {
        let text = format!("the gateway did not stay up {starts} times in a row, expected it to stay up");
        let on_probation = self.active.as_ref().is_some_and(|active| !active.kept);
        let under_way = self.candidate.as_ref().is_some_and(|candidate| candidate.phase >= Phase::Verified);
        if on_probation && starts >= CRASHES {
            self.roll_back(Reason::CrashLoop, text, now);
        } else if under_way && starts >= CRASHES_ON_THE_WAY {
            return self.refuse(Reason::CrashLoop, text, now);
        }
        Vec::new()
    }

    fn activate(&mut self, why: String, from_shadow: bool, now: Timestamp) -> Vec<Action> {
        let Some(candidate) = self.candidate.take() else { return Vec::new() };
        let version = candidate.version();
        self.settled = self.settled.max(candidate.assignment.serial);
        // There is nothing to fall back to from the version that the gateway brought along but itself.
        let kept = self.is_base(&version);
        self.previous = self.active.take().map(|active| active.version);
        self.active = Some(Active { version, since: now, why, kept });
        self.complete();
        vec![Action::Activate { from_shadow }]
    }

    /// The pipeline has gone back by itself, or nothing runs yet: there is nothing to tell it.
    fn roll_back(&mut self, reason: Reason, text: String, now: Timestamp) {
        let Some(failed) = self.active.clone() else { return };
        let version = failed.version.version.clone();
        // One that the gateway brought along is tried again and again: that is told once.
        let told = |last: &Refusal| {
            last.digest.as_ref() == Some(&failed.version.digest) && last.reason == reason && last.text == text
        };
        if !(self.is_base(&failed.version) && self.refusals.first().is_some_and(told)) {
            self.note(&failed.version, reason, text.clone(), now);
        }
        let to = self.previous.take().or_else(|| self.base.clone()).filter(|to| *to != failed.version);
        match to {
            Some(to) => {
                let why = format!("rolled back from {version}: {text}");
                self.active = Some(Active { version: to, since: now, why, kept: true });
            }
            // The version that the gateway brought along is all that is left, and stays.
            None if self.is_base(&failed.version) => {}
            None => self.active = None,
        }
        self.complete();
    }

    fn refuse(&mut self, reason: Reason, text: String, now: Timestamp) -> Vec<Action> {
        if let Some(candidate) = &self.candidate {
            let (version, serial) = (candidate.version(), candidate.assignment.serial);
            self.note(&version, reason, text, now);
            self.settled = self.settled.max(serial);
        }
        self.drop_candidate()
    }

    fn drop_candidate(&mut self) -> Vec<Action> {
        match self.candidate.take() {
            Some(candidate) if candidate.phase == Phase::Shadow => vec![Action::EndShadow],
            _ => Vec::new(),
        }
    }

    fn note(&mut self, version: &Version, reason: Reason, text: String, at: Timestamp) {
        let (version, digest) = (Some(version.version.clone()), Some(version.digest.clone()));
        self.refusals.insert(0, Refusal { version, digest, reason, text, at });
        self.refusals.truncate(MAX_REFUSALS);
    }
}

/// Seconds in words: `24 h`, `90 min`, `45 s`.
fn lasting(seconds: i64) -> String {
    match seconds {
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}
