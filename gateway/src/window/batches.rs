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

#[derive(Debug, Clone, Copy)]
struct Batch {
    origin: Origin,
    /// The newest of its readings.
    newest: Timestamp,
}

/// The batches of which a station's readings are kept, by number.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// The number of the first that is kept.
    first: u32,
    kept: VecDeque<Batch>,
}

impl Batches {
    /// The origin of a reading that is kept with the number of its batch.
    pub fn origin(&self, batch: u32, value: f64) -> Origin {
        if batch == PLAIN {
            return Origin::plain(value);
        }
        self.kept[batch.wrapping_sub(self.first) as usize].origin
    }

    /// The number with which the reading is kept from now on.
    pub fn take(&mut self, &Placing { time, origin, value, .. }: &Placing) -> u32 {
        if origin == Origin::plain(value) { PLAIN } else { self.number(origin, time) }
    }

    fn number(&mut self, origin: Origin, time: Timestamp) -> u32 {
        // Mostly it is the batch of the reading before, or a new one.
        let at = match self.kept.back() {
            Some(last) if origin < last.origin => self.kept.iter().rposition(|batch| batch.origin == origin),
            Some(last) if origin == last.origin => Some(self.kept.len() - 1),
            _ => None,
        };
        let at = at.unwrap_or_else(|| {
            push(&mut self.kept, Batch { origin, newest: time });
            self.kept.len() - 1
        });
        self.kept[at].newest = time.max(self.kept[at].newest);
        self.first.wrapping_add(at as u32)
    }

    /// Forgets batches that have no readings from `from` on.
    pub fn let_go(&mut self, from: Timestamp) {
        while self.kept.front().is_some_and(|batch| batch.newest < from) {
            self.kept.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}
