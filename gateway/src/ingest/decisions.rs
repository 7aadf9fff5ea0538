//! Decisions on their way from the boundaries to the disk, and from there to the valves.
//!
//! A command goes out when its decision is on disk, and again and again until its station has said that it carried it out, or
//! the command has expired. It bears the decision's number, so a station obeys once, also after a restart of either. That
//! a station has obeyed is read in its status, which lies in the raw store like all it says.
//!
//! A native valve station is commanded by our own message, a Sparkplug one by that of its source (`decode/sparkplug/valve.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proto::{AlertKind, Channel, Command, CommandMessage, Decision, FieldId, StationId, Timestamp, TopicKind, Window};

use crate::decide::{Decider, FieldConfig, Order, Standing};
use crate::decode::sparkplug::Valve;
use crate::detect::Detector;
use crate::door::Outbox;

/// How long to wait for a station's word before it is commanded again.
const AGAIN: Duration = Duration::from_secs(5);

/// What is decided, and the way to the valves.
#[derive(Debug)]
pub(super) struct Decisions {
    decider: Decider,
    /// What was decided since the last emission.
    made: Vec<Decision>,
    outbox: Option<Outbox>,
    /// The valves that are no native ones.
    foreign: BTreeMap<StationId, Valve>,
    /// When each order was last sent.
    sent: BTreeMap<(StationId, u64), Instant>,
}

impl Decisions {
    /// Goes on with the fields as they were.
    pub fn new(
        fields: &[FieldConfig],
        states: BTreeMap<FieldId, Vec<u8>>,
        foreign: BTreeMap<StationId, Valve>,
    ) -> Self {
        let mut decider = Decider::new(fields);
        for (field, state) in states {
            if let Err(error) = decider.remember(&field, &state) {
                tracing::error!(%field, %error, "the field begins without a past");
            }
        }
        Self { decider, made: Vec::new(), outbox: None, foreign, sent: BTreeMap::new() }
    }

    /// From now on valves can be commanded.
    pub fn connect(&mut self, outbox: Outbox) {
        self.outbox = Some(outbox);
    }

    /// Decides for the fields that the windows of a boundary are of; what completed it came at `at`. A station's silence is
    /// measured by the clock, and no reason for distrust: what it said is old soon enough.
    pub fn decide(&mut self, windows: &[Window], at: Timestamp, detector: &Detector) {
        if self.decider.is_idle() {
            return;
        }
        let open = detector.open().filter(|alert| alert.kind != AlertKind::Silent);
        let open: BTreeSet<(&StationId, Option<Channel>)> = open.map(|a| (&a.station, a.channel)).collect();
        let distrusted = |station: &StationId, channel: Channel| {
            [Some(channel), None].into_iter().any(|channel| open.contains(&(station, channel)))
        };
        self.made.extend(self.decider.observe(windows, at, distrusted));
    }

    /// A station says which irrigation it has carried out.
    pub fn confirm(&mut self, station: &StationId, id: u64) {
        self.made.extend(self.decider.confirm(station, id));
    }

    /// How many decisions wait for an emission.
    pub fn len(&self) -> usize {
        self.made.len()
    }

    /// What was decided since the last call, and what must be kept with it.
    pub fn take(&mut self) -> (Vec<Decision>, Vec<(FieldId, Vec<u8>)>) {
        for decision in &self.made {
            let confirmed = decision.confirmed.len();
            tracing::info!(id = decision.id, cause = decision.cause.name(), confirmed, decision.reason, "decision");
        }
        (std::mem::take(&mut self.made), self.decider.news())
    }

    /// How the fields stand.
    pub fn standing(&self) -> Vec<Standing> {
        self.decider.standing()
    }

    /// Sends the commands that are due. Everything that was taken must be on disk.
    pub fn command(&mut self, now: Timestamp) {
        let Some(outbox) = self.outbox.as_ref().filter(|_| self.made.is_empty()) else { return };
        // What is there no more is forgotten.
        let mut sent = BTreeMap::new();
        for Order { station, id, minutes } in self.decider.orders(now) {
            let key = (station, id);
            let last = self.sent.remove(&key);
            let at = match last {
                Some(last) if last.elapsed() < AGAIN => last,
                _ => {
                    let goes = match self.foreign.get(&key.0) {
                        None => {
                            let message = CommandMessage { id, command: Command::Irrigate { minutes } };
                            outbox.publish(&key.0, TopicKind::Command, &message.encode())
                        }
                        Some(valve) => {
                            let message = valve.command(id, minutes, now);
                            message.map(|(topic, payload)| outbox.publish_foreign(&topic, payload)).is_some()
                        }
                    };
                    tracing::info!(station = %key.0, id, minutes, goes, again = last.is_some(), "a valve is commanded");
                    Instant::now()
                }
            };
            sent.insert(key, at);
        }
        self.sent = sent;
    }
}
