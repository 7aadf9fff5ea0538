//! A station's readings of the last hours, a row for each time and batch.
//!
//! A station's channels mostly come together, so what they have in common is kept once: a row says when and in which batch,
//! its *layout* which channels, and beside all rows lie their values. So a message of eight readings is one write at the end of
//! two queues, and its neighbours lie beside it.
//!
//! What comes over our own wire has few decimals. As long as all of a station's values are whole numbers of their quantity's
//! last decimal they lie as such, in half the room; the first that is none has all of them lie as they are.
//!
//! Rows are in order of time. Of one time there may be several, and then the readings of *each channel* by themselves are in
//! order of origin and index; that, and no order between channels, is what everybody outside relies on.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use proto::{Channel, Timestamp};

use super::Origin;
use super::batches::{Batches, Placing};
use crate::room::make_room;
use crate::validate::Limits;

/// Layouts that are looked at for one that fits; a station has one or two.
const LAYOUTS_LOOKED_AT: usize = 32;
/// Room for so many rows at least is made at once.
const ROOM: usize = 8;

/// The readings of one time that came in one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub time: Timestamp,
    /// Which of the station's [`Batches`] it came in.
    pub batch: u32,
    /// The number of its first value; the first of all that are kept is [`Rows::first`]. Wraps.
    value: u32,
    layout: u32,
    /// The first reading's place in the batch.
    index: u16,
}

/// A channel of a layout.
#[derive(Debug, Clone)]
struct Column {
    channel: Channel,
    /// How far behind the row's first reading it is in its batch. Wraps.
    index: u16,
    limits: Arc<Limits>,
}

/// Which channels a row has.
#[derive(Debug, Default)]
struct Layout {
    columns: Vec<Column>,
    /// How many rows are of it; with none its place is free.
    rows: u32,
}

/// The values of rows, one row's behind the other's.
#[derive(Debug)]
enum Values {
    /// In steps of their columns.
    Steps(VecDeque<i32>),
    /// As they are.
    Any(VecDeque<f64>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Steps(VecDeque::new())
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Steps(steps) => steps.len(),
            Self::Any(values) => values.len(),
        }
    }

    #[inline]
    fn get(&self, at: usize, scale: f64) -> f64 {
        match self {
            Self::Steps(steps) => f64::from(steps[at]) / scale,
            Self::Any(values) => values[at],
        }
    }

    fn let_go(&mut self, first: usize) {
        match self {
            Self::Steps(steps) => drop(steps.drain(..first)),
            Self::Any(values) => drop(values.drain(..first)),
        }
    }
}

/// A value as a whole number of steps; none when it is not exactly that.
#[inline]
fn in_steps(value: f64, scale: f64) -> Option<i32> {
    // The nearest one, cut where there is none: that is seen at once.
    let steps = (value * scale + 0.5_f64.copysign(value)) as i32;
    ((f64::from(steps) / scale).to_bits() == value.to_bits()).then_some(steps)
}

/// Puts the last `more` of a queue to `place` in it.
fn move_to<T>(queue: &mut VecDeque<T>, more: usize, place: usize) {
    if place + more < queue.len() {
        let mut behind = queue.split_off(place);
        behind.rotate_right(more);
        queue.append(&mut behind);
    }
}

/// A station's rows.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: VecDeque<Row>,
    values: Values,
    /// The number of the first value.
    first: u32,
    layouts: Vec<Layout>,
    /// The channels that have readings, in order.
    channels: Vec<(Channel, Arc<Limits>)>,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row.
    pub fn row(&self, at: usize) -> &Row {
        &self.rows[at]
    }

    /// The channels that have readings, in order, each with what is expected of it.
    pub fn channels(&self) -> &[(Channel, Arc<Limits>)] {
        &self.channels
    }

    /// The first row that is not before `time`.
    pub fn first_from(&self, time: Timestamp) -> usize {
        self.rows.partition_point(|row| row.time < time)
    }

    /// Where a row of `time` goes, when there is none of that time.
    pub fn vacancy(&self, time: Timestamp) -> Option<usize> {
        if self.rows.back().is_none_or(|last| last.time < time) {
            return Some(self.rows.len());
        }
        let at = self.first_from(time);
        (self.rows[at].time != time).then_some(at)
    }

    /// A channel's readings in some rows: row, time and value.
    pub fn readings(
        &self,
        channel: Channel,
        rows: Range<usize>,
    ) -> impl DoubleEndedIterator<Item = (usize, Timestamp, f64)> {
        let mut known: Option<(u32, Option<usize>)> = None;
        let scale = channel.quantity.wire_scale();
        rows.clone().zip(self.rows.range(rows)).filter_map(move |(at, row)| {
            let column = match known {
                Some((layout, column)) if layout == row.layout => column,
                _ => known.insert((row.layout, self.column_of(row, channel))).1,
            };
            Some((at, row.time, self.values.get(self.place(row) + column?, scale)))
        })
    }

    /// The same with the origins, for those who keep them: origin and index of each.
    pub fn origins(&self, channel: Channel, batches: &Batches) -> impl Iterator<Item = (Origin, u16)> {
        self.rows
            .iter()
            .filter_map(move |row| self.column_of(row, channel).map(|column| self.key(row, column, batches)))
    }

    /// How many readings a row has.
    pub fn width(&self, at: usize) -> usize {
        self.layouts[self.rows[at].layout as usize].columns.len()
    }

    /// A reading of a row: its channel, what is expected of it, and its value.
    pub fn reading(&self, at: usize, column: usize) -> (Channel, &Limits, f64) {
        let row = &self.rows[at];
        let Column { channel, limits, .. } = &self.layouts[row.layout as usize].columns[column];
        (*channel, limits, self.values.get(self.place(row) + column, channel.quantity.wire_scale()))
    }

    /// Whether two rows have the same channels in the same places.
    pub fn are_alike(&self, one: usize, other: usize) -> bool {
        self.rows[one].layout == self.rows[other].layout
    }

    /// Where the channel is in a row.
    pub fn column(&self, at: usize, channel: Channel) -> Option<usize> {
        self.column_of(&self.rows[at], channel)
    }

    fn column_of(&self, row: &Row, channel: Channel) -> Option<usize> {
        self.layouts[row.layout as usize].columns.iter().position(|column| column.channel == channel)
    }

    fn value(&self, row: &Row, column: usize) -> f64 {
        let channel = self.layouts[row.layout as usize].columns[column].channel;
        self.values.get(self.place(row) + column, channel.quantity.wire_scale())
    }

    /// Where the row's first value is.
    fn place(&self, row: &Row) -> usize {
        row.value.wrapping_sub(self.first) as usize
    }

    /// What the order of a channel's readings of one time goes by.
    fn key(&self, row: &Row, column: usize, batches: &Batches) -> (Origin, u16) {
        let index = row.index.wrapping_add(self.layouts[row.layout as usize].columns[column].index);
        (batches.origin(row.batch, self.value(row, column)), index)
    }

    /// Puts readings of one time, batch and different channels into a row of their own at `at`, which [`Self::vacancy`] gave.
    pub fn insert(
        &mut self,
        at: usize,
        batch: u32,
        readings: &[(Channel, Placing)],
        limits: impl Fn(Channel) -> Arc<Limits>,
    ) {
        let Some((_, Placing { time, index: first, .. })) = readings.first() else { return };
        let columns = || readings.iter().map(|(channel, placing)| (*channel, placing.index.wrapping_sub(*first)));
        let layout = self.layout(at.checked_sub(1), columns(), limits);
        let place = self.rows.get(at).map_or(self.values.len(), |next| self.place(next));
        self.put(at, place, readings);
        let row = Row { time: *time, batch, value: self.first.wrapping_add(place as u32), layout, index: *first };
        make_room(&mut self.rows, 1, ROOM);
        self.rows.insert(at, row);
    }

    /// Puts a reading into its place among others of its time, unless it is there: gives its row and column.
    pub fn insert_one(
        &mut self,
        (channel, placing): (Channel, Placing),
        batches: &mut Batches,
        limits: impl Fn(Channel) -> Arc<Limits>,
    ) -> Option<(usize, usize)> {
        let of_the_time = self.first_from(placing.time)..self.rows.partition_point(|row| row.time <= placing.time);
        let (mut from, mut to) = (of_the_time.start, of_the_time.end);
        for at in of_the_time {
            let row = &self.rows[at];
            let Some(column) = self.column_of(row, channel) else { continue };
            match self.key(row, column, batches).cmp(&(placing.origin, placing.index)) {
                std::cmp::Ordering::Less => from = at + 1,
                std::cmp::Ordering::Equal => return None,
                std::cmp::Ordering::Greater => {
                    to = at;
                    break;
                }
            }
        }
        let batch = batches.take(&placing);
        // None of the rows between has the channel.
        let Some(at) = (from..to).find(|at| self.rows[*at].batch == batch) else {
            self.insert(to, batch, &[(channel, placing)], limits);
            return Some((to, 0));
        };
        let Row { layout: before, index: first, .. } = self.rows[at];
        let columns = &self.layouts[before as usize].columns;
        let width = columns.len();
        let wider: Vec<_> = columns
            .iter()
            .map(|column| (column.channel, column.index))
            .chain([(channel, placing.index.wrapping_sub(first))])
            .collect();
        self.put(at + 1, self.place(&self.rows[at]) + width, &[(channel, placing)]);
        self.rows[at].layout = self.layout(at.checked_sub(1), wider.into_iter(), limits);
        self.release(before, 1);
        Some((at, width))
    }

    /// Puts values to `place`; rows from `later` on have theirs behind them. To be called before a row is told of it.
    fn put(&mut self, later: usize, place: usize, readings: &[(Channel, Placing)]) {
        let more = readings.len();
        if let Values::Steps(steps) = &mut self.values {
            let before = steps.len();
            make_room(steps, more, ROOM * more);
            for (channel, placing) in readings {
                let Some(value) = in_steps(placing.value, channel.quantity.wire_scale()) else { break };
                steps.push_back(value);
            }
            if steps.len() == before + more {
                move_to(steps, more, place);
            } else {
                steps.truncate(before);
                self.widen();
            }
        }
        if let Values::Any(values) = &mut self.values {
            make_room(values, more, ROOM * more);
            values.extend(readings.iter().map(|(_, placing)| placing.value));
            move_to(values, more, place);
        }
        self.rows.range_mut(later..).for_each(|row| row.value = row.value.wrapping_add(more as u32));
    }

    /// Has all values lie as they are.
    fn widen(&mut self) {
        let columns = self.rows.iter().map(|row| (row, self.layouts[row.layout as usize].columns.len()));
        let values = columns.flat_map(|(row, columns)| (0..columns).map(|column| self.value(row, column))).collect();
        self.values = Values::Any(values);
    }

    /// The layout of these columns, for one more row; mostly it is that of the row `beside`.
    fn layout(
        &mut self,
        beside: Option<usize>,
        columns: impl ExactSizeIterator<Item = (Channel, u16)> + Clone,
        limits: impl Fn(Channel) -> Arc<Limits>,
    ) -> u32 {
        let fits = |layout: &Layout| {
            layout.rows > 0
                && layout.columns.len() == columns.len()
                && layout
                    .columns
                    .iter()
                    .zip(columns.clone())
                    .all(|(own, (channel, index))| own.channel == channel && own.index == index)
        };
        let beside = beside.and_then(|at| self.rows.get(at)).map(|row| row.layout as usize);
        let found = beside
            .filter(|at| fits(&self.layouts[*at]))
            .or_else(|| self.layouts.iter().take(LAYOUTS_LOOKED_AT).position(fits));
        let at = found.unwrap_or_else(|| {
            let made = columns.map(|(channel, index)| Column { channel, index, limits: self.known(channel, &limits) });
            let made = Layout { columns: made.collect(), rows: 0 };
            match self.layouts.iter().position(|layout| layout.rows == 0) {
                Some(free) => {
                    self.layouts[free] = made;
                    free
                }
                None => {
                    self.layouts.push(made);
                    self.layouts.len() - 1
                }
            }
        });
        self.layouts[at].rows += 1;
        at as u32
    }

    /// What is expected of a channel, which is known from now on.
    fn known(&mut self, channel: Channel, limits: impl Fn(Channel) -> Arc<Limits>) -> Arc<Limits> {
        match self.channels.binary_search_by_key(&channel, |(known, _)| *known) {
            Ok(at) => Arc::clone(&self.channels[at].1),
            Err(at) => {
                let limits = limits(channel);
                self.channels.insert(at, (channel, Arc::clone(&limits)));
                limits
            }
        }
    }

    /// So many rows of a layout have gone.
    fn release(&mut self, layout: u32, rows: u32) {
        let layout = &mut self.layouts[layout as usize];
        layout.rows -= rows;
        if layout.rows == 0 {
            let gone = std::mem::take(&mut layout.columns);
            let has = |channel: Channel| {
                self.layouts.iter().any(|layout| layout.columns.iter().any(|column| column.channel == channel))
            };
            self.channels.retain(|(known, _)| gone.iter().all(|column| column.channel != *known) || has(*known));
        }
    }

    /// Forgets what is before `from`.
    pub fn let_go(&mut self, from: Timestamp) {
        let mut values = 0;
        while let Some(row) = self.rows.pop_front_if(|row| row.time < from) {
            values += self.layouts[row.layout as usize].columns.len();
            self.release(row.layout, 1);
        }
        if self.rows.is_empty() {
            *self = Self::default();
        } else if values > 0 {
            self.values.let_go(values);
            self.first = self.first.wrapping_add(values as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::Quantity;

    use super::*;

    type Reading = (Channel, Placing);

    const CHANNELS: [Channel; 4] = [
        Channel::at(Quantity::SoilMoisture, 10),
        Channel::at(Quantity::SoilMoisture, 20),
        Channel::of(Quantity::Rain),
        Channel::of(Quantity::Battery),
    ];

    fn limits(channel: Channel) -> Arc<Limits> {
        Arc::new(Limits::of(channel.quantity))
    }

    /// A batch, native or plain: a boot and sequence (or none), and channel, minute and value of each reading.
    type Said = (Option<(u32, u64)>, Vec<(usize, i64, u8)>);

    fn batches() -> impl Strategy<Value = Vec<Said>> {
        let readings = prop::collection::vec((0..CHANNELS.len(), 0_i64..12, any::<u8>()), 1..10);
        prop::collection::vec((prop::option::of((1_u32..3, 0_u64..6)), readings), 1..20)
    }

    fn readings((origin, said): Said) -> Vec<Reading> {
        let one = |(index, (channel, minute, value)): (u16, (usize, i64, u8))| {
            // Most are of few decimals.
            let value = match value {
                7 => 1.0 / 3.0,
                8 => -0.0,
                few => f64::from(few % 4) / 10.0,
            };
            let time = Timestamp::from_secs(minute * 60);
            let (origin, index) = match origin {
                Some((boot, sequence)) => (Origin { boot, sequence }, index),
                None => (Origin::plain(value), 0),
            };
            (CHANNELS[channel], Placing { time, origin, index, value })
        };
        (0..).zip(said).map(one).collect()
    }

    fn key((channel, placing): &Reading) -> (Channel, Timestamp, Origin, u16) {
        (*channel, placing.time, placing.origin, placing.index)
    }

    /// Everything that the rows say, by channel and in their order.
    fn told(rows: &Rows, batches: &Batches) -> Vec<Reading> {
        let of = |channel: Channel| {
            let origins = rows.origins(channel, batches);
            rows.readings(channel, 0..rows.len())
                .zip(origins)
                .map(move |((_, time, value), (origin, index))| (channel, Placing { time, origin, index, value }))
        };
        rows.channels().iter().flat_map(|(channel, _)| of(*channel)).collect()
    }

    proptest! {
        #[test]
        fn rows_hold_what_a_list_for_each_channel_would_hold(all in batches(), from in 0_i64..12) {
            let (mut rows, mut batches, mut expected) = (Rows::default(), Batches::default(), Vec::<Reading>::new());
            for batch in all.clone().into_iter().map(readings) {
                for run in batch.chunk_by(|(_, one), (_, next)| one.time == next.time) {
                    match rows.vacancy(run[0].1.time).filter(|_| Placing::are_one_row(run)) {
                        Some(at) => {
                            let batch = batches.take(&run[0].1);
                            rows.insert(at, batch, run, limits);
                        }
                        None => run.iter().for_each(|one| _ = rows.insert_one(*one, &mut batches, limits)),
                    }
                }
                expected.extend(batch);
                expected.sort_by_key(key);
                expected.dedup_by_key(|one| key(one));
                prop_assert_eq!(format!("{:?}", told(&rows, &batches)), format!("{expected:?}"));
            }
            let from = Timestamp::from_secs(from * 60);
            rows.let_go(from);
            batches.let_go(from);
            expected.retain(|(_, placing)| placing.time >= from);
            prop_assert_eq!(format!("{:?}", told(&rows, &batches)), format!("{expected:?}"));
            rows.let_go(Timestamp::from_secs(3600));
            prop_assert_eq!((rows.len(), rows.layouts.len(), rows.channels.len()), (0, 0, 0));
        }
    }

    #[test]
    fn a_value_is_in_steps_only_when_it_is_exactly_so_many() {
        for quantity in [Quantity::SoilMoisture, Quantity::Rain, Quantity::Pressure, Quantity::SolarRadiation] {
            let scale = quantity.wire_scale();
            for steps in [0, 1, -1, 7, 12_345, -98_765, i32::MAX, i32::MIN + 1] {
                assert_eq!(in_steps(f64::from(steps) / scale, scale), Some(steps));
            }
            for value in [-0.0, 1.0 / 3.0, 0.1 + 0.2, 1e300, f64::from(i32::MAX) + 1.0, f64::NAN, f64::INFINITY] {
                assert_eq!(in_steps(value, scale), None, "{value}");
            }
        }
    }

    #[test]
    fn a_station_whose_channels_come_together_has_one_layout() {
        let (mut rows, mut batches) = (Rows::default(), Batches::default());
        for sequence in 1..=100 {
            let time = Timestamp::from_secs(sequence as i64 * 60);
            let one = |(index, channel): (u16, Channel)| {
                (channel, Placing { time, origin: Origin { boot: 1, sequence }, index, value: f64::from(index) })
            };
            let readings: Vec<Reading> = (0..).zip(CHANNELS).map(one).collect();
            let batch = batches.take(&readings[0].1);
            rows.insert(rows.len(), batch, &readings, limits);
            rows.let_go(time.plus_millis(-30 * 60_000));
        }
        assert_eq!((rows.len(), rows.values.len(), rows.layouts.len()), (31, 124, 1));
        assert_eq!(rows.layouts[0].rows, 31);
        assert!(matches!(&rows.values, Values::Steps(steps) if steps.capacity() <= 200), "{:?}", rows.values);
    }
}
