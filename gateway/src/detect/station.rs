//! One station's history, and its alerts as they open, change and close.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use proto::{Alert, AlertKind, Channel, Driver, FieldId, StationId, Stats, Timestamp, Window};

use super::history::{Column, History};
use super::message::sentence;
use super::rules::{self, Evidence, Finding, RulesConfig};
use super::slots::Scores;
use super::{RAISED, is_rule};

/// The boundary that is judged.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// End of the windows.
    pub end: Timestamp,
    /// Whether history is only replayed: nothing opens and nothing closes.
    pub quiet: bool,
}

/// How much a score must grow or shrink before an open alert is told again. A growing trouble is thus told a handful of
/// times, whatever its length.
const MATERIAL: f64 = 1.5;

/// Most drivers that an alert names.
const MAX_DRIVERS: usize = 5;

/// Most stretches of the past that are kept from the models; the oldest is dropped first. A day holds fewer real ones.
const MAX_SPOILED: usize = 64;

/// How far apart in time stations may feel the same weather, ms: water takes hours from one depth to the next.
const COMMON_MS: i64 = 6 * 3_600_000;

/// An alert that is open.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) alert: Alert,
    /// None after a restart without the state, until it is seen again.
    pub(super) evidence: Option<Evidence>,
    /// Windows in a row without evidence.
    pub(super) quiet: u32,
    /// The highest score so far.
    pub(super) peak: f64,
}

/// A stretch of a channel's past that an alert has shown to be wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoiled {
    pub(super) channel: Channel,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

/// What the models may know of a channel.
#[derive(Debug)]
pub struct Known<'a> {
    column: Column<'a>,
    spoiled: Vec<Spoiled>,
}

impl Known<'_> {
    /// The accepted readings of the window that starts at `start`.
    #[inline]
    pub fn stats(&self, start: Timestamp) -> Option<Stats> {
        let spoiled = self.spoiled.iter().any(|s| s.from <= start && start < s.until);
        if spoiled { None } else { self.column.stats(start) }
    }
}

/// One station.
#[derive(Debug)]
pub struct Station {
    /// Where it says that it stands.
    pub(super) field: Option<FieldId>,
    pub(super) history: History,
    /// Start of the newest window that was judged.
    judged: Option<Timestamp>,
    pub(super) tracks: Vec<Track>,
    /// Windows in a row whose score reached the threshold, and the end of the first.
    pub(super) above: BTreeMap<Channel, (u32, Timestamp)>,
    /// The channels that had a score at the newest boundary.
    pub(super) scored: Vec<Channel>,
    /// When each channel's score was last raised.
    pub(super) raised: BTreeMap<Channel, Timestamp>,
    pub(super) spoiled: Vec<Spoiled>,
    /// A digest of the state that was last told.
    told: u64,
}

impl Station {
    /// A station without a past, that will keep `history` windows of it.
    pub fn new(history: usize) -> Self {
        Self {
            field: None,
            history: History::new(history),
            judged: None,
            tracks: Vec::new(),
            above: BTreeMap::new(),
            scored: Vec::new(),
            raised: BTreeMap::new(),
            spoiled: Vec::new(),
            told: 0,
        }
    }

    /// Keeps at least `windows` of the past from now on.
    pub fn look_back(&mut self, windows: usize) {
        self.history.grow(windows);
    }

    /// Goes on with an alert that was open before a restart.
    pub fn restore(&mut self, alert: Alert) {
        let peak = alert.score;
        self.tracks.push(Track { alert, evidence: None, quiet: 0, peak });
    }

    /// The open alerts.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.tracks.iter().map(|t| &t.alert)
    }

    /// The state, when it is another one than was last told.
    pub fn news(&mut self) -> Option<Vec<u8>> {
        let state = self.state();
        let mut digest = DefaultHasher::new();
        state.hash(&mut digest);
        let digest = digest.finish();
        (std::mem::replace(&mut self.told, digest) != digest).then_some(state)
    }

    /// Start of the oldest window that is kept.
    pub fn history_from(&self) -> Option<Timestamp> {
        self.history.first()
    }

    /// The channels that had a score at the newest boundary.
    pub fn scored(&self) -> &[Channel] {
        &self.scored
    }

    /// Where it stands: on the farm, and in its field if it has said which.
    pub fn places(&self) -> impl Iterator<Item = Option<&FieldId>> {
        std::iter::once(None).chain(self.field.as_ref().map(Some))
    }

    /// Takes in the scores of the boundary that ends at `end`.
    pub fn note(&mut self, scores: &Scores, end: Timestamp) {
        self.scored = scores.keys().copied().collect();
        let raised = scores.iter().filter(|(_, score)| score.value >= RAISED);
        self.raised.extend(raised.map(|(channel, _)| (*channel, end)));
    }

    /// Whether the channel's score was raised within [`COMMON_MS`].
    pub fn was_raised(&self, channel: Channel, end: Timestamp) -> bool {
        self.raised.get(&channel).is_some_and(|at| end.millis_since(*at) <= COMMON_MS)
    }

    /// Takes in a window. True when it is newer than all before it, and so is to be judged.
    pub fn take(&mut self, window: &Window) -> bool {
        self.history.put(window);
        let newer = self.judged.is_none_or(|judged| window.start > judged);
        if newer {
            self.judged = Some(window.start);
        }
        newer
    }

    /// What the models may know of a channel: its history without the stretches that alerts have shown to be wrong. None
    /// when nothing is known of it.
    pub fn known(&self, channel: Channel) -> Option<Known<'_>> {
        let column = self.history.column(channel)?;
        let spoiled = self.spoiled.iter().filter(|s| s.channel == channel).copied().collect();
        Some(Known { column, spoiled })
    }

    /// The channels with an open alert: the models judge the others without them.
    pub fn hidden(&self) -> Vec<Channel> {
        let mut channels: Vec<Channel> = self.tracks.iter().filter_map(|t| t.alert.channel).collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }

    /// The channels with an open anomaly.
    pub fn anomalous(&self) -> Vec<Channel> {
        self.tracks.iter().filter(|t| t.alert.kind == AlertKind::Anomaly).filter_map(|t| t.alert.channel).collect()
    }

    /// Judges every channel by the rules.
    pub fn apply_rules(&mut self, id: &StationId, rules: &RulesConfig, tick: &Tick, changed: &mut Vec<Alert>) {
        for channel in self.history.channels().to_vec() {
            for kind in [AlertKind::Stuck, AlertKind::Spike, AlertKind::Dropout] {
                let open = self.position(Some(channel), kind);
                let (finding, patience) = match kind {
                    AlertKind::Stuck => (rules::stuck(&self.history, channel, tick.end, rules), 1),
                    AlertKind::Spike => (rules::spike(&self.history, channel, tick.end), rules.spike_close_after),
                    _ => {
                        let evidence = open.and_then(|track| self.tracks[track].evidence);
                        (rules::dropout(&self.history, channel, tick.end, evidence, rules), 1)
                    }
                };
                match (finding, open) {
                    (Some(finding), Some(track)) => self.seen(track, finding, tick, changed),
                    (Some(finding), None) => self.report(id, Some(channel), finding, Vec::new(), None, tick, changed),
                    (None, Some(track)) => self.unseen(track, patience, tick, changed),
                    (None, None) => {}
                }
            }
        }
    }

    /// Takes in the models' scores: open anomalies change or close. Gives the channels whose score has been high long
    /// enough to be reported.
    pub fn weigh(
        &mut self,
        scores: &Scores,
        common: &[Channel],
        rules: &RulesConfig,
        tick: &Tick,
        changed: &mut Vec<Alert>,
    ) -> Vec<Channel> {
        let mut ready = Vec::new();
        for (channel, score) in scores {
            let explained = self.tracks.iter().any(|t| t.alert.channel == Some(*channel) && is_rule(t.alert.kind));
            if let Some(track) = self.position(Some(*channel), AlertKind::Anomaly) {
                if explained {
                    // A rule has named the trouble; one alert for it is enough.
                    self.close(track, tick, changed);
                } else if score.value >= rules.anomaly_close_below {
                    let finding = self.anomaly(*channel, score.value, self.tracks[track].alert.opened, tick.end);
                    self.tracks[track].alert.drivers = drivers(scores, *channel);
                    self.seen(track, finding, tick, changed);
                } else {
                    self.unseen(track, rules.anomaly_close_after, tick, changed);
                }
                continue;
            }
            if score.value < 1.0 || explained || common.contains(channel) {
                self.above.remove(channel);
                continue;
            }
            let (count, _) = self.above.entry(*channel).or_insert((0, tick.end));
            *count += 1;
            if *count >= rules.anomaly_open_after {
                ready.push(*channel);
            }
        }
        let unscored =
            |t: &Track| t.alert.kind == AlertKind::Anomaly && t.alert.channel.is_some_and(|c| !scores.contains_key(&c));
        while let Some(track) = self.tracks.iter().position(unscored).filter(|_| !tick.quiet) {
            // Its model is gone, and nobody else can say when it is well again.
            self.close(track, tick, changed);
        }
        if tick.quiet { Vec::new() } else { ready }
    }

    /// Reports an anomaly on one of the channels that are `ready`: on the `culprit`, if it is one of them. If it is not
    /// (yet), they wait for it as long again as they have waited; then the strongest is reported.
    #[allow(clippy::too_many_arguments)]
    pub fn settle(
        &mut self,
        id: &StationId,
        ready: &[Channel],
        culprit: Option<Channel>,
        scores: &Scores,
        rules: &RulesConfig,
        tick: &Tick,
        changed: &mut Vec<Alert>,
    ) {
        let value = |channel: &Channel| scores.get(channel).map_or(0.0, |s| s.value);
        let waited =
            ready.iter().filter_map(|c| self.above.get(c)).any(|(count, _)| *count >= 2 * rules.anomaly_open_after);
        let strongest = || ready.iter().copied().max_by(|a, b| value(a).total_cmp(&value(b)));
        let Some(channel) = culprit.filter(|c| ready.contains(c)).or_else(|| strongest().filter(|_| waited)) else {
            return;
        };
        let Some(score) = scores.get(&channel) else { return };
        let since = self.above.get(&channel).map_or(tick.end, |(_, since)| *since);
        let finding = self.anomaly(channel, score.value, since, tick.end);
        self.report(id, Some(channel), finding, drivers(scores, channel), Some(score.label.to_string()), tick, changed);
        // The other suspects start again, now that the culprit is hidden from them.
        self.above.clear();
    }

    /// Takes in whether the station is silent at `now`.
    pub fn hear(
        &mut self,
        id: &StationId,
        silent: bool,
        last: Timestamp,
        patience_ms: i64,
        now: Timestamp,
        changed: &mut Vec<Alert>,
    ) {
        let tick = Tick { end: now, quiet: false };
        let open = self.position(None, AlertKind::Silent);
        if silent {
            let score = now.millis_since(last) as f64 / patience_ms.max(1) as f64;
            let finding = Finding { evidence: Evidence::Silent { since: last }, score };
            match open {
                Some(track) => self.seen(track, finding, &tick, changed),
                None => self.report(id, None, finding, Vec::new(), None, &tick, changed),
            }
        } else if let Some(track) = open {
            self.close(track, &Tick { end: last.min(now), quiet: false }, changed);
        }
    }

    fn position(&self, channel: Option<Channel>, kind: AlertKind) -> Option<usize> {
        self.tracks.iter().position(|t| t.alert.channel == channel && t.alert.kind == kind)
    }

    fn anomaly(&self, channel: Channel, score: f64, since: Timestamp, end: Timestamp) -> Finding {
        let value = self.history.stats(end.plus_millis(-self.history.length_ms()), channel).map(|s| s.mean);
        Finding { evidence: Evidence::Anomaly { value, since }, score }
    }

    #[allow(clippy::too_many_arguments)]
    fn report(
        &mut self,
        id: &StationId,
        channel: Option<Channel>,
        finding: Finding,
        drivers: Vec<Driver>,
        model: Option<String>,
        tick: &Tick,
        changed: &mut Vec<Alert>,
    ) {
        if tick.quiet {
            return;
        }
        let Finding { evidence, score } = finding;
        let kind = evidence.kind();
        let drivers = match channel {
            Some(channel) if drivers.is_empty() => vec![Driver { channel, share: 1.0 }],
            _ => drivers,
        };
        let alert = Alert {
            id: Alert::id_of(id, channel, kind, tick.end),
            station: id.clone(),
            channel,
            kind,
            opened: tick.end,
            updated: tick.end,
            closed: None,
            score,
            threshold: 1.0,
            value: evidence.value(),
            drivers,
            model,
            revision: 0,
            message: sentence(id, channel, &evidence, score, tick.end, false),
        };
        changed.push(alert.clone());
        self.tracks.push(Track { alert, evidence: Some(evidence), quiet: 0, peak: score });
    }

    /// The trouble goes on. Told again only when it has become another one in size or cause.
    fn seen(&mut self, track: usize, finding: Finding, tick: &Tick, changed: &mut Vec<Alert>) {
        let track = &mut self.tracks[track];
        track.quiet = 0;
        track.evidence = Some(finding.evidence);
        track.peak = track.peak.max(finding.score);
        let (told, score) = (track.alert.score, finding.score);
        if tick.quiet || (score < told * MATERIAL && score > told / MATERIAL) {
            return;
        }
        track.alert.score = score;
        track.alert.value = finding.evidence.value();
        track.tell(tick.end, false, changed);
    }

    fn unseen(&mut self, track: usize, patience: u32, tick: &Tick, changed: &mut Vec<Alert>) {
        let quiet = self.tracks[track].quiet + 1;
        if quiet < patience {
            self.tracks[track].quiet = quiet;
        } else {
            self.close(track, tick, changed);
        }
    }

    fn close(&mut self, track: usize, tick: &Tick, changed: &mut Vec<Alert>) {
        if tick.quiet {
            return;
        }
        let mut track = self.tracks.remove(track);
        track.alert.closed = Some(tick.end);
        track.alert.score = track.peak;
        track.tell(tick.end, true, changed);
        let Some(channel) = track.alert.channel else { return };
        if matches!(track.alert.kind, AlertKind::Stuck | AlertKind::Anomaly) {
            let from = track.evidence.map_or(track.alert.opened, |e| e.since());
            if self.spoiled.len() == MAX_SPOILED {
                self.spoiled.remove(0);
            }
            self.spoiled.push(Spoiled { channel, from, until: tick.end });
        }
    }
}

impl Track {
    fn tell(&mut self, at: Timestamp, ended: bool, changed: &mut Vec<Alert>) {
        if let Some(evidence) = &self.evidence {
            self.alert.message =
                sentence(&self.alert.station, self.alert.channel, evidence, self.alert.score, at, ended);
        }
        self.alert.updated = at;
        self.alert.revision += 1;
        changed.push(self.alert.clone());
    }
}

/// The channels whose scores make up the station's, by their share of the sum of squares; the culprit first.
fn drivers(scores: &Scores, culprit: Channel) -> Vec<Driver> {
    let total: f64 = scores.values().map(|s| s.value * s.value).sum();
    let mut drivers: Vec<Driver> = scores
        .iter()
        .map(|(channel, score)| Driver {
            channel: *channel,
            share: if total > 0.0 { score.value * score.value / total } else { 0.0 },
        })
        .collect();
    drivers.sort_by(|a, b| {
        (b.channel == culprit)
            .cmp(&(a.channel == culprit))
            .then(b.share.total_cmp(&a.share))
            .then(a.channel.cmp(&b.channel))
    });
    drivers.truncate(MAX_DRIVERS);
    drivers.retain(|d| d.share > 0.005);
    drivers
}
