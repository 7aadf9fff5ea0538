//! Who gets which part of a model next: a pure state machine over what the registry wants, what the stations say, and the
//! time.
//!
//! What holds whatever happens, and is held by the tests beside this file:
//! - a station gets only what its own status asks for, one command at a time;
//! - no more stations than allowed are on their way at once, and one that does not answer gives its place to another;
//! - once too many have refused a model or rolled it back, nobody gets it any more, until a rollout with another number.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::node_model::{MAX_CHUNK, mark};
use proto::rollout::Order;
use proto::update::{MAX_NODES, NodeStatus, NodesPhase, NodesStatus};
use proto::{
    Command, NodeModelBack, NodeModelChunk, NodeModelOffer, NodeModelState, NodeModelStatus, NodeModelVersion,
    NodeRollout, StationId, Timestamp,
};

use super::config::NodesConfig;
use super::{MOST_STATIONS, Wanted};

#[cfg(test)]
mod tests;

/// How often a station may leave a command unanswered before it gives its place to another.
const PLACE_TRIES: u32 = 3;
/// The wait for an answer doubles so often.
const DOUBLINGS: u32 = 6;
/// A station that asks again for what it was sent is heard after so long at the earliest.
const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// Which stage was stopped, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The rollout's number.
    pub serial: u64,
    /// The digest of its model, in hexadecimal: another registry counts anew.
    pub digest: String,
    /// Why, in words.
    pub why: String,
}

/// What a station is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Offer,
    Chunk(u32),
    Back(Option<NodeModelVersion>),
}

/// How a station stands with the wanted model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It refused it or rolled it back.
    Failed,
    /// It comes.
    Receiving,
    /// It has not come yet.
    Before,
    /// It has not all of the model's channels.
    Unfit,
    /// It left it because it was told so.
    Left,
    /// It runs.
    Active,
}

#[derive(Debug)]
struct Station {
    status: NodeModelStatus,
    heard: Timestamp,
    /// What was sent last, and is not answered.
    last: Option<Want>,
    tries: u32,
    sent: Option<Duration>,
    /// Nothing is sent before.
    next: Duration,
    /// Whether it has one of the places.
    placed: bool,
}

/// The state machine. Times are since any fixed moment.
#[derive(Debug)]
pub struct Relay {
    config: NodesConfig,
    wanted: Option<Wanted>,
    stopped: Option<Stopped>,
    stations: BTreeMap<StationId, Station>,
    /// What is wanted, or that it was stopped, has changed since it was last kept.
    news: bool,
}

impl Relay {
    /// Nobody is known, and nothing wanted.
    #[must_use]
    pub fn new(config: NodesConfig) -> Self {
        Self { config, wanted: None, stopped: None, stations: BTreeMap::new(), news: false }
    }

    /// Which stage was stopped before a restart.
    pub fn stopped(&mut self, stopped: Option<Stopped>) {
        self.stopped = stopped;
    }

    /// What the registry wants from now on.
    pub fn want(&mut self, wanted: Option<Wanted>) {
        if self.wanted == wanted {
            return;
        }
        self.news = true;
        self.wanted = wanted;
        let rollout = self.wanted.as_ref().map(|wanted| &wanted.rollout);
        let stays = |stopped: &Stopped| {
            rollout.is_some_and(|rollout| rollout.serial == stopped.serial && rollout.sha256 == stopped.digest)
        };
        self.stopped = self.stopped.take().filter(stays);
        for station in self.stations.values_mut() {
            (station.last, station.tries, station.placed) = (None, 0, false);
        }
        self.judge();
    }

    /// A station said at `at` how it stands. Gives back whether that was newer than what was known.
    pub fn hear(&mut self, id: &StationId, status: NodeModelStatus, at: Timestamp) -> bool {
        if let Some(station) = self.stations.get_mut(id) {
            if at < station.heard {
                return false;
            }
            station.heard = at;
            // Counts alone answer nothing.
            (station.status.alerts, station.status.judged) = (status.alerts, status.judged);
            if station.status == status {
                if status.state == NodeModelState::Receiving
                    && let Some(sent) = station.sent
                {
                    station.next = station.next.min(sent + ASKED_AGAIN);
                }
                return true;
            }
            station.status = status;
            (station.last, station.tries) = (None, 0);
        } else if self.stations.len() < MOST_STATIONS {
            let (last, sent) = (None, None);
            let station = Station { status, heard: at, last, tries: 0, sent, next: Duration::ZERO, placed: false };
            self.stations.insert(id.clone(), station);
        } else {
            return false;
        }
        self.judge();
        true
    }

    /// Sends what is due; `send` says whether it went.
    pub fn send(&mut self, now: Duration, mut send: impl FnMut(&StationId, Command) -> bool) {
        let Some(wanted) = &self.wanted else { return };
        let (rollout, file) = (&wanted.rollout, wanted.file.as_ref().ok());
        let goes = rollout.order == Order::Go && self.stopped.is_none();
        let pause = Duration::from_millis(self.config.pause_ms);
        let patience = Duration::from_secs(self.config.patience_s);
        for station in self.stations.values_mut().filter(|station| station.placed) {
            let gave_up = station.tries >= PLACE_TRIES;
            station.placed = !gave_up && want(rollout, goes, station, true).is_some();
        }
        let mut free = (self.config.at_once as usize).saturating_sub(self.placed());
        for (id, station) in &mut self.stations {
            let in_stage = rollout.holds(id);
            let Some(want) = want(rollout, goes, station, in_stage) else { continue };
            let earliest = match station.last {
                Some(last) if last == want => station.next,
                _ => station.sent.map_or(Duration::ZERO, |sent| sent + pause),
            };
            // What takes a model away takes no place.
            let needs_place = !station.placed && !matches!(want, Want::Back(_));
            if now < earliest || (needs_place && free == 0) {
                continue;
            }
            let Some(command) = command(rollout, file, want) else { continue };
            if !send(id, command) {
                // It is not there; when it comes it says how it stands.
                station.placed = false;
                (station.last, station.sent) = (None, Some(now));
                continue;
            }
            if needs_place {
                station.placed = true;
                free -= 1;
            }
            station.tries = if station.last == Some(want) { station.tries + 1 } else { 1 };
            (station.last, station.sent) = (Some(want), Some(now));
            station.next = now + patience * (1 << (station.tries - 1).min(DOUBLINGS));
        }
    }

    /// How it goes; none when nothing is wanted.
    #[must_use]
    pub fn status(&self) -> Option<NodesStatus> {
        let Wanted { rollout, file, .. } = self.wanted.as_ref()?;
        let count = |standing: &dyn Fn(Standing) -> bool| {
            let stage = self.stage(rollout).filter(|(_, station)| standing(self::standing(rollout, &station.status)));
            u32::try_from(stage.count()).unwrap_or(u32::MAX)
        };
        let in_stage = count(&|_| true);
        let (active, failed) = (count(&|s| s == Standing::Active), count(&|s| s == Standing::Failed));
        let waiting = count(&|s| matches!(s, Standing::Before | Standing::Receiving));
        let phase = match (rollout.order, &self.stopped, file) {
            (Order::Abort, ..) => NodesPhase::Aborted,
            (Order::Pause, ..) => NodesPhase::Paused,
            (Order::Go, Some(_), _) => NodesPhase::Stopped,
            (Order::Go, None, Err(_)) => NodesPhase::Fetching,
            (Order::Go, None, Ok(_)) if active > 0 && waiting == 0 => NodesPhase::Done,
            (Order::Go, None, Ok(_)) => NodesPhase::Going,
        };
        let text = match (&self.stopped, file) {
            (Some(stopped), _) => stopped.why.clone(),
            (None, Err(why)) => why.clone(),
            (None, Ok(_)) => String::new(),
        };
        let mut stations: Vec<(Standing, NodeStatus)> = self
            .stations
            .iter()
            .map(|(id, station)| (standing(rollout, &station.status), described(id, rollout.holds(id), station)))
            .collect();
        stations.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.station.cmp(&b.station)));
        Some(NodesStatus {
            name: rollout.name.clone(),
            version: rollout.version,
            digest: rollout.sha256.clone(),
            serial: rollout.serial,
            phase,
            text,
            known: u32::try_from(self.stations.len()).unwrap_or(u32::MAX),
            in_stage,
            active,
            failed,
            stations: stations.into_iter().take(MAX_NODES).map(|(_, station)| station).collect(),
        })
    }

    /// What is to be kept, when it has changed since the last call.
    pub fn news(&mut self) -> Option<(Option<&Wanted>, Option<&Stopped>)> {
        std::mem::take(&mut self.news).then_some((self.wanted.as_ref(), self.stopped.as_ref()))
    }

    /// What the last call gave could not be kept.
    pub fn not_kept(&mut self) {
        self.news = true;
    }

    /// The stations of the stage.
    fn stage<'a>(&'a self, rollout: &'a NodeRollout) -> impl Iterator<Item = (&'a StationId, &'a Station)> {
        self.stations.iter().filter(|(id, _)| rollout.holds(id))
    }

    fn placed(&self) -> usize {
        self.stations.values().filter(|station| station.placed).count()
    }

    /// Stops the stage when too many have failed.
    fn judge(&mut self) {
        let Some(Wanted { rollout, .. }) = &self.wanted else { return };
        if self.stopped.is_some() {
            return;
        }
        let fails = |(_, station): &(&StationId, &Station)| standing(rollout, &station.status) == Standing::Failed;
        let (all, failed) = (self.stage(rollout).count(), self.stage(rollout).filter(fails).count());
        if failed as f64 <= rollout.most_failed * all as f64 {
            return;
        }
        let first = self.stage(rollout).find(fails);
        let first = first.map(|(id, station)| format!("{id} says {:?}", station.status.reason)).unwrap_or_default();
        let why = format!("{failed} of {all} stations refused it or rolled it back; {first}");
        tracing::warn!(model = rollout.name, version = %rollout.version, why, "a stage of nodes is stopped");
        self.stopped = Some(Stopped { serial: rollout.serial, digest: rollout.sha256.clone(), why });
        self.news = true;
    }
}

/// How a station stands with a rollout's model.
fn standing(rollout: &NodeRollout, status: &NodeModelStatus) -> Standing {
    let mark = rollout.digest().map(|digest| mark(&digest));
    let is_it = |held: Option<proto::node_model::Held>| {
        held.is_some_and(|held| held.version == rollout.version && Some(held.mark) == mark)
    };
    if is_it(status.active) {
        return Standing::Active;
    }
    match status.state {
        NodeModelState::Receiving if is_it(status.candidate) => Standing::Receiving,
        NodeModelState::RolledBack | NodeModelState::Refused if is_it(status.candidate) => match status.reason.as_str()
        {
            "told" => Standing::Left,
            "channel" => Standing::Unfit,
            _ => Standing::Failed,
        },
        _ => Standing::Before,
    }
}

fn want(rollout: &NodeRollout, goes: bool, station: &Station, in_stage: bool) -> Option<Want> {
    match standing(rollout, &station.status) {
        Standing::Active if rollout.order == Order::Abort => Some(Want::Back(station.status.previous)),
        Standing::Receiving if goes && in_stage => Some(Want::Chunk(station.status.offset)),
        // It would not take it, and says when it would.
        Standing::Before if station.status.on_probation && station.status.previous.is_some() => None,
        Standing::Before if goes && in_stage => Some(Want::Offer),
        _ => None,
    }
}

/// The command that a station is to get; none when the file is not here, or ends before what is asked for.
fn command(rollout: &NodeRollout, file: Option<&std::sync::Arc<[u8]>>, want: Want) -> Option<Command> {
    let (version, sha256) = (rollout.version, rollout.digest()?);
    Some(match want {
        Want::Back(to) => Command::ModelBack(NodeModelBack { to, from: mark(&sha256) }),
        Want::Offer => Command::OfferModel(NodeModelOffer {
            version,
            sha256,
            size: u32::try_from(file?.len()).unwrap_or(u32::MAX),
        }),
        Want::Chunk(offset) => {
            let rest = file?.get(offset as usize..).filter(|rest| !rest.is_empty())?;
            let bytes = rest[..rest.len().min(MAX_CHUNK)].to_vec();
            Command::ModelChunk(NodeModelChunk { version, offset, bytes })
        }
    })
}

fn described(id: &StationId, in_stage: bool, station: &Station) -> NodeStatus {
    let status = &station.status;
    NodeStatus {
        station: id.clone(),
        in_stage,
        active: status.active.map(|held| held.version),
        previous: status.previous,
        candidate: status.candidate.map(|held| held.version),
        offset: status.offset,
        state: status.state,
        reason: status.reason.clone(),
        alerts: status.alerts,
        judged: status.judged,
        on_probation: status.on_probation,
        heard: station.heard,
    }
}
