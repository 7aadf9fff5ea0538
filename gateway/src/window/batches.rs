//! Where readings came from, once for each batch instead of once for each reading.

use std::collections::VecDeque;

use proto::{Channel, Timestamp};

use super::Origin;
use crate::room::push;

/// Of a reading whose origin is [`Origin::plain`] of its value.
const PLAIN: u32 = u32::MAX;

/// A reading before it has its place. The order of readings of a channel is that of time, origin and index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placing {
    pub time: Timestamp,
    pub origin: Origin,
    /// Place in its batch.
    pub index: u16,
    pub value: f64,
}

impl Placing {
    /// Whether readings of one time are of one batch, and of different channels in order.
    pub fn are_one_row(readings: &[(Channel, Self)]) -> bool {
        let is_plain = |placing: &Self| placing.origin == Origin::plain(placing.value);
        readings.windows(2).all(|pair| {
            let [(channel, one), (next_channel, next)] = pair else { return true };
            let plain = is_plain(one);
            channel < next_channel && plain == is_plain(next) && (plain || one.origin == next.origin)
        })
    }
}

/// Batches of one boot, one after the other: a station's mostly are.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The number of the first.
    number: u32,
    /// How many there are.
    count: u32,
    /// The first one's.
    origin: Origin,
    /// The newest of their readings.
    newest: Timestamp,
}

impl Run {
    /// How far behind the first the batch is or, if it is the next one, will be.
    fn place(&self, origin: Origin) -> Option<u32> {
        let behind = origin.sequence.checked_sub(self.origin.sequence).filter(|_| origin.boot == self.origin.boot)?;
        u32::try_from(behind).ok().filter(|behind| *behind <= self.count)
    }

    fn holds(&self, origin: Origin) -> bool {
        self.place(origin).is_some_and(|place| place < self.count)
    }
}

/// The batches of which a station's readings are kept, by number.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// The number of the next.
    next: u32,
    runs: VecDeque<Run>,
}

impl Batches {
    /// The origin of a reading that is kept with the number of its batch.
    pub fn origin(&self, batch: u32, value: f64) -> Origin {
        if batch == PLAIN {
            return Origin::plain(value);
        }
        // Numbers wrap.
        let ago = |number: u32| self.next.wrapping_sub(number);
        let after = self.runs.partition_point(|run| ago(run.number) >= ago(batch));
        let Run { number, origin, .. } = self.runs[after - 1];
        Origin { sequence: origin.sequence + u64::from(batch.wrapping_sub(number)), ..origin }
    }

    /// The number with which the reading is kept from now on.
    pub fn take(&mut self, &Placing { time, origin, value, .. }: &Placing) -> u32 {
        if origin == Origin::plain(value) { PLAIN } else { self.number(origin, time) }
    }

    fn number(&mut self, origin: Origin, time: Timestamp) -> u32 {
        // Mostly it is the batch of the reading before, or the next one.
        let last = self.runs.len().checked_sub(1).filter(|last| self.runs[*last].place(origin).is_some());
        let at = last.or_else(|| self.runs.iter().rposition(|run| run.holds(origin))).unwrap_or_else(|| {
            push(&mut self.runs, Run { number: self.next, count: 0, origin, newest: time });
            self.runs.len() - 1
        });
        let run = &mut self.runs[at];
        run.newest = time.max(run.newest);
        let place = run.place(origin).unwrap_or_default();
        if place == run.count {
            run.count += 1;
            self.next = self.next.wrapping_add(1);
        }
        run.number.wrapping_add(place)
    }

    /// Forgets batches that have no readings from `from` on.
    pub fn let_go(&mut self, from: Timestamp) {
        while self.runs.pop_front_if(|run| run.newest < from).is_some() {}
    }
}
