//! The recent past of one station, by window and channel.

use std::collections::VecDeque;

use proto::{Channel, RejectReason, Rejected, Stats, Timestamp, Window};

use crate::room::make_room;

/// Most channels of one station that are judged; real ones have a dozen. More are stored and forwarded, but not judged.
pub const MAX_CHANNELS: usize = 64;

/// What one channel's accepted readings were in one window. Single precision is what models see, and keeps it small.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Smallest value.
    pub min: f32,
    /// Mean value.
    pub mean: f32,
    /// Largest value.
    pub max: f32,
    /// Population standard deviation.
    pub stddev: f32,
}

impl Cell {
    /// Of a window in which nothing of the channel was accepted.
    const MISSING: Self = Self { min: f32::NAN, mean: f32::NAN, max: f32::NAN, stddev: f32::NAN };

    /// None of a window in which nothing was accepted.
    #[inline]
    fn known(self) -> Option<Self> {
        (!self.mean.is_nan()).then_some(self)
    }

    /// Whether every reading was the same.
    pub fn is_flat(&self) -> bool {
        self.min.to_bits() == self.max.to_bits()
    }

    #[inline]
    fn stats(self) -> Stats {
        let [min, mean, max, stddev] = [self.min, self.mean, self.max, self.stddev].map(f64::from);
        Stats { count: 1, min, mean, max, stddev }
    }
}

/// How much room a column is given at least at once, windows.
const ROOM: usize = 4;

/// What is known of a window, beside its cells.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// Whether the station sent anything at all.
    heard: bool,
    /// The span of the rejected readings, of the few channels that had some, by index of the channel.
    rejected: Vec<(usize, Span)>,
}

/// From the least to the greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// The least.
    pub min: f32,
    /// The greatest.
    pub max: f32,
}

/// What is known of one channel.
#[derive(Debug, Clone)]
pub struct Column<'a> {
    history: &'a History,
    cells: &'a VecDeque<Cell>,
    /// The slot after the one that was asked for last, and its start: models ask for one after the other.
    next: std::cell::Cell<(usize, Timestamp)>,
}

impl Column<'_> {
    /// The accepted readings of the window that starts at `start`. Models ask a thousand times for each sample.
    #[inline]
    pub fn stats(&self, start: Timestamp) -> Option<Stats> {
        let (next, at) = self.next.get();
        let index = if start == at { next } else { self.history.index(start)? };
        self.next.set((index + 1, start.plus_millis(self.history.length_ms)));
        self.cells.get(index)?.known().map(Cell::stats)
    }
}

/// A ring of the newest windows, one slot for each window's start without gaps, and beside it one of cells for each channel:
/// models look at one channel after the other.
#[derive(Debug)]
pub struct History {
    capacity: usize,
    length_ms: i64,
    /// Start of the oldest slot.
    first: Timestamp,
    slots: VecDeque<Slot>,
    channels: Vec<Channel>,
    /// Of each channel, as many as there are slots.
    cells: Vec<VecDeque<Cell>>,
}

impl History {
    /// Keeps `capacity` windows.
    pub fn new(capacity: usize) -> Self {
        Self::of_channels(capacity, Vec::new())
    }

    /// Keeps `capacity` windows, and knows these channels already.
    pub fn of_channels(capacity: usize, channels: Vec<Channel>) -> Self {
        let cells = channels.iter().map(|_| VecDeque::new()).collect();
        Self { capacity, length_ms: 0, first: Timestamp::MIN, slots: VecDeque::new(), channels, cells }
    }

    /// Start of the oldest window that is kept; none before the first.
    pub fn first(&self) -> Option<Timestamp> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    /// Keeps at least `capacity` windows from now on.
    pub fn grow(&mut self, capacity: usize) {
        self.capacity = self.capacity.max(capacity);
    }

    /// Takes in a window, in place of what was known of it. Older ones than the ring holds are forgotten.
    pub fn put(&mut self, window: &Window) {
        let length_ms = i64::from(window.length_s.max(1)) * 1000;
        if length_ms != self.length_ms || self.slots.is_empty() {
            self.clear();
            self.length_ms = length_ms;
            self.first = window.start;
        }
        let mut index = window.start.millis_since(self.first).div_euclid(length_ms);
        let ahead = index - self.slots.len() as i64;
        if ahead >= self.capacity as i64 {
            self.clear();
            self.first = window.start;
            index = 0;
        }
        if index < 0 {
            let missing = index.unsigned_abs() as usize;
            if self.slots.len() + missing > self.capacity {
                return;
            }
            (0..missing).for_each(|_| self.slots.push_front(Slot::default()));
            for cells in &mut self.cells {
                make_room(cells, missing, ROOM);
                (0..missing).for_each(|_| cells.push_front(Cell::MISSING));
            }
            self.first = window.start;
            index = 0;
        }
        let mut index = index as usize;
        let missing = (index + 1).saturating_sub(self.slots.len());
        self.slots.extend((0..missing).map(|_| Slot::default()));
        let beyond = self.slots.len().saturating_sub(self.capacity);
        self.slots.drain(..beyond);
        self.first = self.first.plus_millis(beyond as i64 * length_ms);
        index -= beyond;
        for cells in &mut self.cells {
            cells.drain(..beyond.min(cells.len()));
            make_room(cells, missing, ROOM);
            cells.resize(self.slots.len(), Cell::MISSING);
            cells[index] = Cell::MISSING;
        }
        let mut slot = Slot { heard: !window.aggregates.is_empty(), rejected: Vec::new() };
        for aggregate in &window.aggregates {
            let Some(channel) = self.index_or_add(aggregate.channel) else { continue };
            // Only what was judged by its value says something about the sensor.
            let judged = |r: &Rejected| {
                r.counts.iter().any(|(reason, _)| {
                    matches!(reason, RejectReason::Range | RejectReason::Rate | RejectReason::Hampel)
                })
            };
            if let Some(rejected) = aggregate.rejected.as_ref().filter(|r| judged(r)) {
                slot.rejected.push((channel, Span { min: rejected.min as f32, max: rejected.max as f32 }));
            }
            let accepted = aggregate.accepted.as_ref().map(|s| {
                let [min, mean, max, stddev] = [s.min, s.mean, s.max, s.stddev].map(|v| v as f32);
                Cell { min, mean, max, stddev }
            });
            // A filter may keep a value that stands still out of the aggregates. Who looks for what is wrong must see it.
            let still = || {
                let rejected = aggregate.rejected.as_ref()?;
                let only_stuck = rejected.counts.iter().all(|(reason, _)| *reason == RejectReason::Stuck);
                let value = rejected.min as f32;
                only_stuck.then_some(Cell { min: value, mean: value, max: value, stddev: 0.0 })
            };
            self.cells[channel][index] = accepted.or_else(still).unwrap_or(Cell::MISSING);
        }
        self.slots[index] = slot;
    }

    /// The channels that were ever seen, in the order in which they came.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// How long one window is, in ms; zero before the first.
    pub const fn length_ms(&self) -> i64 {
        self.length_ms
    }

    /// The channel's accepted readings of the window that starts at `start`.
    pub fn stats(&self, start: Timestamp, channel: Channel) -> Option<Stats> {
        self.column(channel)?.stats(start)
    }

    /// The channel's accepted readings; none when it was never seen.
    pub fn column(&self, channel: Channel) -> Option<Column<'_>> {
        let next = std::cell::Cell::new((0, self.first));
        Some(Column { history: self, cells: &self.cells[self.index_of(channel)?], next })
    }

    /// The span of the channel's readings that were rejected for their value in the window that starts at `start`.
    pub fn rejected(&self, start: Timestamp, channel: Channel) -> Option<Span> {
        let channel = self.index_of(channel)?;
        self.slot(start)?.rejected.iter().find(|(c, _)| *c == channel).map(|(_, span)| *span)
    }

    /// The windows in which the station sent something, newest first, from the one that ends at `end`: start, and the
    /// channel's cell.
    pub fn backwards(&self, end: Timestamp, channel: Channel) -> impl Iterator<Item = (Timestamp, Option<Cell>)> {
        let cells = self.index_of(channel).map(|channel| &self.cells[channel]);
        let known = if self.length_ms == 0 {
            0
        } else {
            end.millis_since(self.first).div_euclid(self.length_ms).clamp(0, self.slots.len() as i64)
        };
        self.slots.range(..known as usize).enumerate().rev().filter(|(_, slot)| slot.heard).map(move |(index, _)| {
            let cell = cells.and_then(|cells| cells.get(index)?.known());
            (self.first.plus_millis(index as i64 * self.length_ms), cell)
        })
    }

    fn slot(&self, start: Timestamp) -> Option<&Slot> {
        self.slots.get(self.index(start)?)
    }

    /// The place of the window that starts at `start`, if one can start there.
    fn index(&self, start: Timestamp) -> Option<usize> {
        let offset = start.millis_since(self.first);
        if offset < 0 || self.length_ms == 0 || offset % self.length_ms != 0 {
            return None;
        }
        usize::try_from(offset / self.length_ms).ok()
    }

    fn index_of(&self, channel: Channel) -> Option<usize> {
        self.channels.iter().position(|c| *c == channel)
    }

    fn index_or_add(&mut self, channel: Channel) -> Option<usize> {
        self.index_of(channel).or_else(|| {
            (self.channels.len() < MAX_CHANNELS).then(|| {
                self.channels.push(channel);
                let mut cells = VecDeque::new();
                make_room(&mut cells, self.slots.len(), ROOM);
                cells.resize(self.slots.len(), Cell::MISSING);
                self.cells.push(cells);
                self.channels.len() - 1
            })
        })
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.cells.iter_mut().for_each(VecDeque::clear);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proto::{Aggregate, Quantity};

    use super::*;

    const CHANNELS: [Channel; 3] = [
        Channel::at(Quantity::SoilMoisture, 10),
        Channel::at(Quantity::SoilMoisture, 20),
        Channel::of(Quantity::Battery),
    ];
    const LENGTH_S: u32 = 900;
    const CAPACITY: i64 = 6;

    fn start(window: i64) -> Timestamp {
        Timestamp::from_secs(window * i64::from(LENGTH_S))
    }

    /// A window: its number, and the mean of each channel; of one without a mean everything was rejected.
    type Said = (i64, Vec<(usize, Option<u8>)>);

    fn said() -> impl Strategy<Value = Said> {
        let channels = prop::collection::btree_map(0..CHANNELS.len(), prop::option::of(any::<u8>()), 0..3);
        (0_i64..20, channels.prop_map(|channels| channels.into_iter().collect()))
    }

    fn window((number, channels): &Said) -> Window {
        let aggregate = |(channel, mean): &(usize, Option<u8>)| {
            let stats = |mean: u8| {
                let mean = f64::from(mean);
                Stats { count: 3, min: mean - 1.0, mean, max: mean + 1.0, stddev: 0.5 }
            };
            let rejected = Rejected { counts: vec![(RejectReason::Range, 3)], min: -9.0, max: 900.0 };
            let rejected = mean.is_none().then_some(rejected);
            Aggregate { channel: CHANNELS[*channel], accepted: mean.map(stats), rejected }
        };
        Window {
            station: "n1".parse().unwrap(),
            start: start(*number),
            length_s: LENGTH_S,
            revision: 0,
            aggregates: channels.iter().map(aggregate).collect(),
        }
    }

    proptest! {
        #[test]
        fn the_ring_holds_what_a_map_of_its_newest_windows_holds(all in prop::collection::vec(said(), 1..40)) {
            let mut history = History::new(CAPACITY as usize);
            let mut expected: BTreeMap<i64, Said> = BTreeMap::new();
            let mut span: Option<(i64, i64)> = None;
            for said in all {
                let number = said.0;
                history.put(&window(&said));
                let (first, last) = match span {
                    Some((_, last)) if number - last > CAPACITY => (number, number),
                    Some((first, last)) if number > last => (first.max(number - CAPACITY + 1), number),
                    Some((first, last)) if number < first && last - number >= CAPACITY => (first, last),
                    Some((first, last)) => (first.min(number), last),
                    None => (number, number),
                };
                span = Some((first, last));
                expected.insert(number, said);
                expected.retain(|number, _| (first..=last).contains(number));
                prop_assert_eq!(history.first(), Some(start(first)));
                for (index, channel) in CHANNELS.into_iter().enumerate() {
                    let mean = |number: i64| {
                        let (_, channels) = expected.get(&number)?;
                        channels.iter().find(|(at, _)| *at == index)?.1.map(f64::from)
                    };
                    let column = history.column(channel);
                    for number in -1..21 {
                        let found = column.as_ref().and_then(|column| column.stats(start(number)));
                        prop_assert_eq!(found.map(|stats| stats.mean), mean(number), "{} of {}", channel, number);
                        let rejected = expected.get(&number).is_some_and(|(_, all)| all.contains(&(index, None)));
                        prop_assert_eq!(history.rejected(start(number), channel).is_some(), rejected);
                    }
                    let heard = expected.values().rev().filter(|(_, channels)| !channels.is_empty());
                    let backwards: Vec<_> =
                        history.backwards(start(last + 1), channel).map(|(at, cell)| (at, cell.map(|c| f64::from(c.mean)))).collect();
                    prop_assert_eq!(backwards, heard.map(|(number, _)| (start(*number), mean(*number))).collect::<Vec<_>>());
                }
            }
        }
    }
}
