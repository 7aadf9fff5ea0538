//! Stations that do as a node does, some of which lose what they are sent, and what the relay must hold about them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proto::node_model::{Held, MAX_CHUNK, mark};
use proto::rollout::Order;
use proto::update::NodesPhase;
use proto::{Command, NodeModelState, NodeModelStatus, NodeRollout, StationId, Timestamp};

use super::super::{NodesConfig, Wanted};
use super::Relay;

const SIZE: usize = 1700;

fn rollout() -> NodeRollout {
    NodeRollout {
        name: "soil-node".to_owned(),
        version: "1.1.0".parse().unwrap(),
        sha256: "ab".repeat(32),
        serial: 1,
        order: Order::Go,
        stations: BTreeSet::new(),
        share: 1.0,
        most_failed: 0.1,
    }
}

fn wanted(rollout: NodeRollout) -> Option<Wanted> {
    let file: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    Some(Wanted { rollout, target: String::new(), file: Ok(Arc::from(file)) })
}

fn id(number: usize) -> StationId {
    format!("n{number}").parse().unwrap()
}

/// What a node makes of a whole model.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Taste {
    Good,
    Bad,
    /// It has other channels.
    Other,
}

struct Node {
    taste: Taste,
    status: NodeModelStatus,
    received: Vec<u8>,
}

impl Node {
    fn new(taste: Taste) -> Self {
        Self { taste, status: NodeModelStatus::default(), received: Vec::new() }
    }

    /// Does as it is told, and answers.
    fn take(&mut self, command: Command) -> NodeModelStatus {
        let status = &mut self.status;
        match command {
            Command::OfferModel(offer) => {
                let held = Held { version: offer.version, mark: mark(&offer.sha256) };
                if status.active != Some(held) && status.candidate != Some(held) {
                    (status.candidate, status.offset, status.state) = (Some(held), 0, NodeModelState::Receiving);
                    self.received.clear();
                }
            }
            Command::ModelChunk(chunk) => {
                assert!(chunk.bytes.len() <= MAX_CHUNK);
                if status.state == NodeModelState::Receiving && chunk.offset == status.offset {
                    self.received.extend(&chunk.bytes);
                    status.offset += chunk.bytes.len() as u32;
                }
                if status.state == NodeModelState::Receiving && self.received.len() == SIZE {
                    assert!(self.received.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
                    status.offset = 0;
                    if self.taste == Taste::Good {
                        (status.active, status.state) = (status.candidate.take(), NodeModelState::Active);
                    } else {
                        status.state = NodeModelState::Refused;
                        status.reason = if self.taste == Taste::Bad { "golden" } else { "channel" }.to_owned();
                    }
                }
            }
            Command::ModelBack(back) => {
                if status.active.is_some_and(|held| held.mark == back.from) {
                    status.candidate = status.active.take();
                    (status.state, status.reason) = (NodeModelState::RolledBack, "told".to_owned());
                }
            }
            other => panic!("{other:?}"),
        }
        status.clone()
    }
}

struct Field {
    relay: Relay,
    nodes: BTreeMap<StationId, Node>,
    now: Duration,
    /// Answers on their way.
    air: VecDeque<(StationId, NodeModelStatus)>,
    sent: usize,
    most_at_once: usize,
}

impl Field {
    fn new(tastes: &[Taste], config: NodesConfig) -> Self {
        let nodes: BTreeMap<StationId, Node> =
            tastes.iter().enumerate().map(|(number, taste)| (id(number), Node::new(*taste))).collect();
        let mut relay = Relay::new(config);
        for station in nodes.keys() {
            relay.hear(station, NodeModelStatus::default(), Timestamp::from_secs(0));
        }
        Self { relay, nodes, now: Duration::ZERO, air: VecDeque::new(), sent: 0, most_at_once: 0 }
    }

    /// Goes on by a quarter of a second; `lost` says which of the messages, in either direction, are.
    fn step(&mut self, mut lost: impl FnMut() -> bool) {
        self.now += Duration::from_millis(250);
        let at = Timestamp::from_millis(i64::try_from(self.now.as_millis()).unwrap());
        for (station, status) in self.air.drain(..) {
            if !lost() {
                self.relay.hear(&station, status, at);
            }
        }
        let mut commands = Vec::new();
        self.relay.send(self.now, |station, command| {
            commands.push((station.clone(), command));
            true
        });
        self.sent += commands.len();
        self.most_at_once = self.most_at_once.max(self.relay.placed());
        for (station, command) in commands {
            if !lost() {
                let status = self.nodes.get_mut(&station).unwrap().take(command);
                self.air.push_back((station, status));
            }
        }
    }

    fn until(&mut self, minutes: u64, phase: NodesPhase, mut lost: impl FnMut() -> bool) {
        let end = self.now + Duration::from_secs(60 * minutes);
        while self.relay.status().unwrap().phase != phase {
            assert!(self.now < end, "{:?}", self.relay.status());
            self.step(&mut lost);
        }
    }

    fn active(&self) -> usize {
        self.nodes.values().filter(|node| node.status.active.is_some()).count()
    }
}

#[test]
fn first_one_then_all_and_no_more_at_once_than_allowed() {
    let mut field = Field::new(&[Taste::Good; 12], NodesConfig { at_once: 3, ..NodesConfig::default() });
    let first = NodeRollout { stations: [id(4)].into(), share: 0.0, ..rollout() };
    field.relay.want(wanted(first));
    field.until(1, NodesPhase::Done, || false);
    assert_eq!((field.active(), field.most_at_once), (1, 1));
    // An offer and four chunks, a second apart.
    assert_eq!(field.sent, 5);
    assert!(field.now >= Duration::from_secs(4), "{:?}", field.now);
    field.relay.want(wanted(NodeRollout { serial: 2, ..rollout() }));
    field.until(5, NodesPhase::Done, || false);
    assert_eq!((field.active(), field.most_at_once, field.sent), (12, 3, 60));
    let status = field.relay.status().unwrap();
    assert_eq!((status.known, status.in_stage, status.active, status.failed), (12, 12, 12, 0));
}

#[test]
fn a_bad_model_stops_its_stage_and_another_number_begins_it_anew() {
    let mut tastes = vec![Taste::Good; 20];
    tastes[3] = Taste::Bad;
    tastes[4] = Taste::Bad;
    tastes[5] = Taste::Other;
    let mut field = Field::new(&tastes, NodesConfig { at_once: 1, ..NodesConfig::default() });
    field.relay.want(wanted(NodeRollout { most_failed: 0.05, ..rollout() }));
    field.until(30, NodesPhase::Stopped, || false);
    let status = field.relay.status().unwrap();
    assert_eq!(status.failed, 2, "one in twenty is allowed");
    assert!(status.text.starts_with("2 of 20 stations refused it or rolled it back; n"), "{}", status.text);
    assert_eq!((status.stations[0].state, status.stations[0].reason.as_str()), (NodeModelState::Refused, "golden"));
    let (sent, active) = (field.sent, field.active());
    (0..400).for_each(|_| field.step(|| false));
    assert_eq!((field.sent, field.active()), (sent, active), "nobody gets it any more");
    // A restart remembers that.
    let (wanted_before, stopped) = (field.relay.wanted.clone(), field.relay.stopped.clone());
    let mut again = Relay::new(NodesConfig::default());
    again.stopped(stopped);
    again.want(wanted_before);
    assert_eq!(again.status().unwrap().phase, NodesPhase::Stopped);
    field.relay.want(wanted(NodeRollout { serial: 2, most_failed: 0.2, ..rollout() }));
    field.until(30, NodesPhase::Done, || false);
    assert_eq!(field.active(), 17);
}

#[test]
fn a_pause_sends_nothing_and_an_abort_takes_it_back() {
    let mut field = Field::new(&[Taste::Good; 6], NodesConfig { at_once: 2, ..NodesConfig::default() });
    field.relay.want(wanted(rollout()));
    while field.active() < 2 {
        field.step(|| false);
    }
    (0..2).for_each(|_| field.step(|| false));
    field.relay.want(wanted(NodeRollout { serial: 2, order: Order::Pause, ..rollout() }));
    field.step(|| false);
    let (sent, active) = (field.sent, field.active());
    (0..400).for_each(|_| field.step(|| false));
    assert_eq!((field.sent, field.active()), (sent, active));
    assert_eq!(field.relay.status().unwrap().phase, NodesPhase::Paused);
    field.relay.want(wanted(NodeRollout { serial: 3, order: Order::Abort, ..rollout() }));
    (0..400).for_each(|_| field.step(|| false));
    assert_eq!(field.active(), 0);
    assert_eq!(field.sent, sent + active, "each that ran it is told once");
    assert_eq!(field.relay.status().unwrap().failed, 0, "to be told so is no failure");
}

#[test]
fn who_does_not_answer_gives_its_place_to_another_and_gets_it_when_it_is_back() {
    let mut field = Field::new(&[Taste::Good; 3], NodesConfig { at_once: 1, ..NodesConfig::default() });
    field.relay.want(wanted(rollout()));
    // The first says nothing: its answers never come.
    for _ in 0..4 * 60 * 10 {
        field.air.retain(|(station, _)| *station != id(0));
        field.step(|| false);
    }
    let status = field.relay.status().unwrap();
    assert_eq!((status.active, status.phase), (2, NodesPhase::Going));
    assert!(field.sent < 20, "{} commands: each wait is twice the one before", field.sent);
    // It says how it stands, as on a connect.
    let now = field.nodes[&id(0)].status.clone();
    field.air.push_back((id(0), now));
    field.until(2, NodesPhase::Done, || false);
}

#[test]
fn what_was_heard_later_counts_and_nobody_who_is_away_is_waited_for() {
    let mut relay = Relay::new(NodesConfig { at_once: 1, ..NodesConfig::default() });
    let status = |offset| NodeModelStatus { offset, ..NodeModelStatus::default() };
    assert!(relay.hear(&id(1), status(5), Timestamp::from_secs(5)));
    assert!(!relay.hear(&id(1), status(4), Timestamp::from_secs(4)), "an old one that is gone through again");
    relay.hear(&id(2), status(0), Timestamp::from_secs(5));
    relay.want(wanted(rollout()));
    let mut asked = Vec::new();
    relay.send(Duration::from_secs(1), |station, _| {
        asked.push(station.clone());
        *station == id(2)
    });
    assert_eq!(asked, [id(1), id(2)]);
    assert_eq!(relay.status().unwrap().stations[0].offset, 5);
}

#[test]
fn who_tries_a_model_out_is_not_asked_and_holds_up_nobody_until_it_says_that_it_is_through() {
    let mut field = Field::new(&[Taste::Good; 2], NodesConfig { at_once: 1, ..NodesConfig::default() });
    let version = |text: &str| text.parse().unwrap();
    let trying = |judged| NodeModelStatus {
        active: Some(Held { version: version("1.0.1"), mark: 1 }),
        previous: Some(version("1.0.0")),
        state: NodeModelState::Active,
        judged,
        on_probation: judged < 500,
        ..NodeModelStatus::default()
    };
    field.nodes.get_mut(&id(0)).unwrap().status = trying(0);
    field.relay.hear(&id(0), trying(0), Timestamp::from_secs(0));
    field.relay.want(wanted(rollout()));
    for judged in 1..200 {
        field.air.push_back((id(0), trying(judged)));
        field.step(|| false);
    }
    let status = field.relay.status().unwrap();
    // An offer and four chunks for the other.
    assert_eq!((status.active, status.phase, field.sent), (1, NodesPhase::Going, 5));
    field.nodes.get_mut(&id(0)).unwrap().status = trying(500);
    field.air.push_back((id(0), trying(500)));
    field.until(1, NodesPhase::Done, || false);
}

#[test]
fn counts_are_no_answer() {
    let mut relay = Relay::new(NodesConfig::default());
    relay.hear(&id(0), NodeModelStatus::default(), Timestamp::from_secs(0));
    relay.want(wanted(rollout()));
    let mut offers = 0;
    for second in 0..200 {
        relay.send(Duration::from_secs(second), |_, _| {
            offers += 1;
            true
        });
        let at = Timestamp::from_secs(i64::try_from(second).unwrap());
        relay.hear(&id(0), NodeModelStatus { judged: second, ..NodeModelStatus::default() }, at);
    }
    // At 0, 30 and 90 s: each wait is twice the one before.
    assert_eq!(offers, 3);
    assert_eq!(relay.status().unwrap().stations[0].judged, 199);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is lost, everybody has it in the end, byte for byte.
    #[test]
    fn losses_only_cost_time(losses in prop::collection::vec(any::<bool>(), 50..400), at_once in 1u32..5) {
        let mut field = Field::new(&[Taste::Good; 5], NodesConfig { at_once, patience_s: 5, ..NodesConfig::default() });
        field.relay.want(wanted(rollout()));
        // Never more than half, and after them none.
        let mut losses = losses.into_iter();
        field.until(60 * 24, NodesPhase::Done, || losses.next().unwrap_or(false));
        prop_assert!(field.most_at_once <= at_once as usize);
        prop_assert_eq!(field.active(), 5);
    }
}
