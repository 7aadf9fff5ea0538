//! Detection: which station and channel needs a person's eye.
//!
//! Two kinds of judges look at every closed window. *Rules* ([`rules`]) see what a glance at one channel shows: a value that
//! never moves, a value that jumps and returns, a channel that went quiet. *Models* ([`slots`]) see what only the channels
//! together show: a sensor that drifts away from what the rest of its station suggests. Rules speak first; a model is silent
//! about a channel that a rule has already reported.
//!
//! Everything here is pure and synchronous: windows and times come in, changed alerts go out. The same windows in the
//! same order give the same alerts, to the last bit, also when the process was killed in between and the detector goes on
//! with what [`Detector::news`] told. Which windows are judged together is decided by the [`barrier`]. Only silence is
//! measured by a clock. It must not know of the store, the uplink, or the wall clock.

mod attribution;
pub mod barrier;
mod history;
mod message;
pub mod rules;
pub mod slots;
mod state;
pub(crate) mod station;

use std::collections::{BTreeMap, BTreeSet};

use proto::{Alert, AlertKind, Channel, FieldId, RunningModel, StationId, Timestamp, Window};

pub use rules::RulesConfig;

use crate::model::Model;

use attribution::Request;
use slots::{Order, Report, Scores, Slots};
pub use state::UnreadableState;
use station::{Station, Tick};

/// Most stations whose history is kept. Beyond it a station's windows are stored and forwarded, but not judged; at the
/// history's 40 kB each this bounds the detector to a few hundred megabytes.
pub const MAX_STATIONS: usize = 10_000;

/// Steps of history kept beyond the longest model's input: room for late amendments, and a day of flat runs for the rules.
const HISTORY_MARGIN: usize = 8;

/// Fewest steps of history kept: a day of quarter hours.
const MIN_HISTORY: usize = 96;

/// The score from which a channel is a suspect, and the weather's trace is looked for in the other stations.
const RAISED: f64 = 0.5;

/// Fewest stations that make something common.
const FEWEST_COMMON: usize = 3;

/// More than this share of a field's stations makes something common to the field.
const FIELD_SHARE: f64 = 0.5;

/// The channels on which it is no sensor's fault: of the whole farm, and of each field.
type Common = BTreeMap<Option<FieldId>, Vec<Channel>>;

/// Those of a station in `field`.
fn common_to(common: &Common, field: Option<&FieldId>) -> Vec<Channel> {
    let of_field = field.and_then(|field| common.get(&Some(field.clone())));
    common.get(&None).into_iter().chain(of_field).flatten().copied().collect()
}

/// When a station was last heard, for [`Detector::tick`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard<'a> {
    /// The station.
    pub station: &'a StationId,
    /// When anything last came from it, in farm time.
    pub last: Timestamp,
    /// How often it reports, in seconds.
    pub report_s: u32,
}

/// Judges windows, and keeps the alerts that are open.
#[derive(Debug)]
pub struct Detector {
    models: Slots,
    rules: RulesConfig,
    stations: BTreeMap<StationId, Station>,
    history: usize,
    /// Stations whose state may have changed since it was told.
    touched: BTreeSet<StationId>,
    /// Windows that a model has scored, since somebody asked.
    judged: u64,
    /// Since when silence is watched: silence before the gateway itself ran is nobody's fault.
    watching_since: Option<Timestamp>,
}

impl Detector {
    /// A detector that runs `models`, each with the version that stands by, and `rules`, and goes on with the alerts in
    /// `restored` that are still open.
    #[must_use]
    pub fn new(models: Vec<(Model, Option<Model>)>, rules: RulesConfig, restored: Vec<Alert>) -> Self {
        let models = Slots::new(models);
        let history = models.steps().max(MIN_HISTORY) + HISTORY_MARGIN;
        let mut stations = BTreeMap::new();
        for alert in restored.into_iter().filter(|a| a.closed.is_none()) {
            stations.entry(alert.station.clone()).or_insert_with(|| Station::new(history)).restore(alert);
        }
        Self { models, rules, stations, history, touched: BTreeSet::new(), judged: 0, watching_since: None }
    }

    /// Judges windows that were just emitted, of any revision, and gives every alert that was opened, changed or closed,
    /// each with a new revision. Windows that end together are judged together, with one batch per model.
    ///
    /// Alerts bear the end of the window that changed them. A higher revision of a window that was already judged amends
    /// the history and raises nothing by itself.
    pub fn observe(&mut self, windows: &[Window]) -> Vec<Alert> {
        let mut changed = Vec::new();
        self.judge_all(windows, false, &mut changed);
        changed
    }

    /// Takes in which field `station` says that it stands in.
    pub fn describe(&mut self, station: &StationId, field: Option<&FieldId>) {
        let known = self.stations.get(station);
        if known.map_or(field.is_none() || self.stations.len() >= MAX_STATIONS, |known| known.field.as_ref() == field) {
            return;
        }
        let station_of = || Station::new(self.history);
        self.stations.entry(station.clone()).or_insert_with(station_of).field = field.cloned();
        self.touched.insert(station.clone());
    }

    /// Goes on with a station as [`Detector::news`] told it; its windows are then to be [recalled](Self::recall).
    ///
    /// # Errors
    /// When the bytes are no state: the station is then one without a past.
    pub fn remember(&mut self, station: &StationId, state: &[u8]) -> Result<(), UnreadableState> {
        self.stations.insert(station.clone(), Station::of_state(state, self.history)?);
        Ok(())
    }

    /// Puts a window that was judged before a restart into the history of its station again.
    pub fn recall(&mut self, window: &Window) {
        if let Some(station) = self.stations.get_mut(&window.station) {
            station.take(window);
        }
    }

    /// The states of the stations that are other ones than were last told.
    pub fn news(&mut self) -> Vec<(StationId, Vec<u8>)> {
        let touched = std::mem::take(&mut self.touched);
        let state = |id: StationId| self.stations.get_mut(&id).and_then(Station::news).map(|state| (id, state));
        touched.into_iter().filter_map(state).collect()
    }

    /// Start of the oldest window of `station` that matters yet.
    #[must_use]
    pub fn history_from(&self, station: &StationId) -> Option<Timestamp> {
        self.stations.get(station).and_then(Station::history_from)
    }

    /// Takes in the history after a restart without the stations' states, oldest window first, and raises nothing: open
    /// alerts stay as they were restored, and what was nearly an alert is again nearly one.
    pub fn warm(&mut self, windows: impl Iterator<Item = Window>) {
        let windows: Vec<Window> = windows.collect();
        self.judge_all(&windows, true, &mut Vec::new());
    }

    /// Opens an alert for each station that has not been heard for several of its reporting intervals, and closes it when
    /// the station is heard again. Gives the alerts that changed.
    pub fn tick<'a>(&mut self, now: Timestamp, heard: impl IntoIterator<Item = Heard<'a>>) -> Vec<Alert> {
        let watching_since = *self.watching_since.get_or_insert(now);
        let mut changed = Vec::new();
        for Heard { station: id, last, report_s } in heard {
            let patience_ms =
                i64::from(self.rules.silent_min_s.max(report_s.saturating_mul(self.rules.silent_reports))) * 1000;
            let silent = now.millis_since(last.max(watching_since)) >= patience_ms;
            if let Some(station) = self.stations.get_mut(id) {
                station.hear(id, silent, last, patience_ms, now, &mut changed);
            } else if silent && self.stations.len() < MAX_STATIONS {
                let station = self.stations.entry(id.clone()).or_insert_with(|| Station::new(self.history));
                station.hear(id, silent, last, patience_ms, now, &mut changed);
            }
            if silent || changed.last().is_some_and(|alert| alert.station == *id) {
                self.touched.insert(id.clone());
            }
        }
        changed
    }

    /// The models that run; one that failed is not among them.
    #[must_use]
    pub fn running(&self) -> Vec<RunningModel> {
        self.models.running()
    }

    /// The models that stopped while they ran, each with the reason.
    #[must_use]
    pub fn failed(&self) -> Vec<(String, String)> {
        self.models.failed()
    }

    /// How many windows a model has scored since this was asked last.
    pub fn take_judged(&mut self) -> u64 {
        std::mem::take(&mut self.judged)
    }

    /// Does what the updater wants, between two boundaries: no window is judged by half.
    pub fn obey(&mut self, order: Order) {
        self.models.obey(order);
        let history = self.models.steps() + HISTORY_MARGIN;
        if history > self.history {
            self.history = history;
            self.stations.values_mut().for_each(|station| station.look_back(history));
        }
    }

    /// What the updater is told.
    #[must_use]
    pub fn report(&self) -> Report {
        self.models.report()
    }

    /// The alerts that are open.
    pub fn open(&self) -> impl Iterator<Item = &Alert> {
        self.stations.values().flat_map(Station::open)
    }

    fn judge_all(&mut self, windows: &[Window], quiet: bool, changed: &mut Vec<Alert>) {
        let mut boundaries: BTreeMap<Timestamp, Vec<&Window>> = BTreeMap::new();
        for window in windows {
            boundaries.entry(window.end()).or_default().push(window);
        }
        for (end, windows) in boundaries {
            let mut due: Vec<StationId> = Vec::new();
            for window in windows {
                if !self.stations.contains_key(&window.station) && self.stations.len() >= MAX_STATIONS {
                    continue;
                }
                let station = self.stations.entry(window.station.clone()).or_insert_with(|| Station::new(self.history));
                if station.take(window) {
                    due.push(window.station.clone());
                }
            }
            due.sort_unstable();
            due.dedup();
            self.touched.extend(due.iter().cloned());
            self.judge(&due, &Tick { end, quiet }, changed);
        }
    }

    /// Judges one boundary for the stations whose window has just closed.
    fn judge(&mut self, due: &[StationId], tick: &Tick, changed: &mut Vec<Alert>) {
        for id in due {
            if let Some(station) = self.stations.get_mut(id) {
                station.apply_rules(id, &self.rules, tick, changed);
            }
        }
        let scores = self.score(due, tick);
        if !tick.quiet {
            self.judged += scores.values().filter(|scores| !scores.is_empty()).count() as u64;
        }
        for id in due {
            if let (Some(station), Some(scores)) = (self.stations.get_mut(id), scores.get(id)) {
                station.note(scores, tick.end);
            }
        }
        let common = self.common(tick.end);
        let mut disputes = Vec::new();
        for id in due {
            let (Some(station), Some(scores)) = (self.stations.get_mut(id), scores.get(id)) else { continue };
            let ready = station.weigh(scores, &common_to(&common, station.field.as_ref()), &self.rules, tick, changed);
            if !ready.is_empty() {
                disputes.push((id, ready));
            }
        }
        for (id, ready) in disputes {
            let Some(scores) = scores.get(id) else { continue };
            let culprit = self.culprit(id, scores, tick.end);
            if let Some(station) = self.stations.get_mut(id) {
                station.settle(id, &ready, culprit, scores, &self.rules, tick, changed);
            }
        }
    }

    /// Every model's scores for the stations that are due. A channel with an open alert is hidden while the other
    /// channels are judged, and is itself judged with all that is known, to see when it is well again.
    fn score(&mut self, due: &[StationId], tick: &Tick) -> BTreeMap<StationId, Scores> {
        let mut requests = Vec::new();
        for id in due {
            let Some(station) = self.stations.get(id) else { continue };
            let open = station.hidden();
            requests.push(Request { station: id, hidden: open.clone(), only: None });
            for channel in station.anomalous() {
                let hidden = open.iter().copied().filter(|c| *c != channel).collect();
                requests.push(Request { station: id, hidden, only: Some(channel) });
            }
        }
        let mut scores: BTreeMap<StationId, Scores> = BTreeMap::new();
        let results = attribution::run(&mut self.models, &self.stations, &requests, tick.end, !tick.quiet);
        for (request, result) in requests.iter().zip(results) {
            let merged = scores.entry(request.station.clone()).or_default();
            match request.only {
                None => merged.extend(result),
                Some(channel) => merged.extend(result.into_iter().filter(|(c, _)| *c == channel)),
            }
        }
        scores
    }

    /// The channels on which so many stations scored high of late that it is the weather and not a sensor, and by field
    /// those on which so many of its stations did that it is what the field was given.
    fn common(&self, end: Timestamp) -> Common {
        let mut counts: BTreeMap<(Option<&FieldId>, Channel), (usize, usize)> = BTreeMap::new();
        for station in self.stations.values() {
            for channel in station.scored().iter().filter(|channel| station.was_raised(**channel, end)) {
                station.places().for_each(|place| counts.entry((place, *channel)).or_default().0 += 1);
            }
        }
        counts.retain(|_, (high, _)| *high >= FEWEST_COMMON);
        // Mostly none is left.
        let stations = (!counts.is_empty()).then(|| self.stations.values());
        for station in stations.into_iter().flatten() {
            for (place, channel) in station.places().flat_map(|place| station.scored().iter().map(move |c| (place, *c)))
            {
                if let Some((_, scored)) = counts.get_mut(&(place, channel)) {
                    *scored += 1;
                }
            }
        }
        let mut common = Common::new();
        for ((place, channel), (high, scored)) in counts {
            let share = if place.is_some() { FIELD_SHARE } else { self.rules.common_share };
            if high as f64 > share * scored as f64 {
                common.entry(place.cloned()).or_default().push(channel);
            }
        }
        common
    }

    /// Of the channels whose score is raised, the one without which the others look best; none when there is none.
    ///
    /// A drifting channel spoils the prediction of its neighbours too. So each suspect is hidden in turn, and the one
    /// whose absence leaves the least to explain is the culprit.
    fn culprit(&mut self, id: &StationId, scores: &Scores, end: Timestamp) -> Option<Channel> {
        let station = self.stations.get(id)?;
        let open = station.hidden();
        let mut suspects: Vec<(Channel, f64)> =
            scores.iter().filter(|(c, s)| s.value >= RAISED && !open.contains(c)).map(|(c, s)| (*c, s.value)).collect();
        suspects.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if suspects.len() < 2 {
            return suspects.first().map(|(channel, _)| *channel);
        }
        let requests: Vec<Request<'_>> = suspects
            .iter()
            .map(|(channel, _)| Request {
                station: id,
                hidden: open.iter().copied().chain([*channel]).collect(),
                only: None,
            })
            .collect();
        let results = attribution::run(&mut self.models, &self.stations, &requests, end, false);
        let left = |scores: &Scores| {
            scores.iter().filter(|(c, _)| !open.contains(c)).map(|(_, s)| s.value).fold(0.0, f64::max)
        };
        suspects
            .iter()
            .zip(&results)
            .min_by(|(_, a), (_, b)| left(a).total_cmp(&left(b)))
            .map(|((channel, _), _)| *channel)
    }
}

/// Whether two kinds are about the same trouble of a channel, so that a model need not repeat a rule.
const fn is_rule(kind: AlertKind) -> bool {
    matches!(kind, AlertKind::Stuck | AlertKind::Spike | AlertKind::Dropout)
}
