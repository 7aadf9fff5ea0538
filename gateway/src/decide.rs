//! Decisions: whether a field is irrigated, how much, and why.
//!
//! At each boundary of windows the water that is missing in a field's root zone is reckoned from the soil moisture of its
//! stations ([`balance`]). When the crop has taken what it takes without stress the field is irrigated: up to field capacity less
//! some room, in the allowed hours, and not again before that water has gone down. What a layer misses is missing also while
//! another is above field capacity, for so its water may never reach the roots below; it only need not be given twice. Rain delays. A probe with an open alert, whose
//! readings were rejected, or that is old, is not asked; with too few that are left nothing is irrigated.
//!
//! Everything here is pure: windows and times come in, decisions go out. The same windows and times in the same order give
//! the same decisions, to the last bit, also when the process was killed in between and the decider goes on with what
//! [`Decider::news`] told. A command is known by its decision, so it can be sent again and again: a valve station carries it out
//! once. It must not know of the store, the network, or the wall clock.

pub mod balance;
pub mod config;
mod field;
mod reason;
mod state;
pub mod tables;

use std::collections::BTreeMap;

use proto::{Channel, Decision, FieldId, StationId, Timestamp, Window};

pub use config::FieldConfig;
use field::Field;
pub use state::UnreadableState;

/// A command that a valve station has not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The station whose valve it is.
    pub station: StationId,
    /// The number of the command: the time of its decision, in ms.
    pub id: u64,
    /// How long it is to run.
    pub minutes: u32,
}

/// How a field stands, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The field.
    pub field: FieldId,
    /// Whether its valves are commanded.
    pub auto: bool,
    /// The last decision that was told.
    pub told: Option<Decision>,
    /// How it was at the last boundary, told or not; none since the gateway was started.
    pub now: Option<Decision>,
    /// The valve stations of the last irrigation, and whether each has confirmed it.
    pub valves: Vec<(StationId, bool)>,
}

/// Decides for all fields.
#[derive(Debug)]
pub struct Decider {
    fields: Vec<Field>,
    /// The fields that listen to a station.
    listening: BTreeMap<StationId, Vec<usize>>,
}

impl Decider {
    /// A decider for `fields` that knows nothing yet. A field whose configuration does not say enough is left out.
    #[must_use]
    pub fn new(fields: &[FieldConfig]) -> Self {
        let fields: Vec<Field> = fields.iter().filter_map(Field::new).collect();
        let mut listening: BTreeMap<StationId, Vec<usize>> = BTreeMap::new();
        for (index, field) in fields.iter().enumerate() {
            for station in &field.config().stations {
                let all = listening.entry(station.clone()).or_default();
                if !all.contains(&index) {
                    all.push(index);
                }
            }
        }
        Self { fields, listening }
    }

    /// Whether there is nothing to decide on.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.fields.is_empty()
    }

    /// Goes on with a field as [`Decider::news`] told it. A field that is not configured any more is passed over.
    ///
    /// # Errors
    /// When the bytes are no state: the field is then one without a past.
    pub fn remember(&mut self, field: &FieldId, state: &[u8]) -> Result<(), UnreadableState> {
        match self.fields.iter_mut().find(|f| f.config().name == *field) {
            Some(field) => field.remember(state),
            None => Ok(()),
        }
    }

    /// The states of the fields that are other ones than were last told.
    pub fn news(&mut self) -> Vec<(FieldId, Vec<u8>)> {
        self.fields.iter_mut().filter_map(|field| Some((field.config().name.clone(), field.news()?))).collect()
    }

    /// Takes in the windows of a boundary that is complete, and decides for the fields that they are of. `now` is when the
    /// last of what completed it came; `distrusted` says of which channels an alert is open.
    pub fn observe(
        &mut self,
        windows: &[Window],
        now: Timestamp,
        distrusted: impl Fn(&StationId, Channel) -> bool,
    ) -> Vec<Decision> {
        let mut due: BTreeMap<usize, Timestamp> = BTreeMap::new();
        for window in windows {
            for index in self.listening.get(&window.station).into_iter().flatten() {
                self.fields[*index].take(window);
                let at = due.entry(*index).or_insert_with(|| window.end());
                *at = (*at).max(window.end());
            }
        }
        due.into_iter().filter_map(|(index, at)| self.fields[index].decide(at, now, &distrusted)).collect()
    }

    /// A station says that it has carried out all irrigations up to the one of this number. Gives the decisions that are to be
    /// told again with that.
    pub fn confirm(&mut self, station: &StationId, id: u64) -> Vec<Decision> {
        self.fields.iter_mut().filter_map(|field| field.confirm(station, id)).collect()
    }

    /// The commands that are to be sent, again and again until they are confirmed.
    pub fn orders(&self, now: Timestamp) -> impl Iterator<Item = Order> {
        self.fields.iter().flat_map(move |field| field.orders(now))
    }

    /// How the fields stand.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        self.fields.iter().map(Field::standing).collect()
    }
}

#[cfg(test)]
mod tests;
