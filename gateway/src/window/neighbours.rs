//! Which windows a new reading may change: its own, and those of the readings that the filters look at beside it.

use std::ops::ControlFlow;

use proto::{Channel, Timestamp};

use super::Shape;
use super::rows::Rows;
use crate::filter::HALF_WIDTH;
use crate::validate::Limits;

/// Tells `mark` the time of a reading in each window that the row at `at` may change.
pub(super) fn of_row(rows: &Rows, at: usize, shape: &Shape, mut mark: impl FnMut(Timestamp)) {
    let time = rows.row(at).time;
    mark(time);
    let usual = is_usual(rows, at, shape);
    if usual {
        (at - HALF_WIDTH..at).rev().for_each(|before| mark(rows.row(before).time));
    }
    for column in 0..rows.width(at) {
        let (channel, limits, _) = rows.reading(at, column);
        let possible = |before| limits.possible(rows.reading(before, column).2);
        if !usual || limits.stuck.is_some() || !(at - HALF_WIDTH..at).all(possible) {
            of_channel(rows, at, channel, limits, shape, &mut mark);
        }
    }
}

/// The same for one reading of the row.
pub(super) fn of_one(rows: &Rows, at: usize, column: usize, shape: &Shape, mut mark: impl FnMut(Timestamp)) {
    let (channel, limits, _) = rows.reading(at, column);
    mark(rows.row(at).time);
    of_channel(rows, at, channel, limits, shape, &mut mark);
}

/// The first row that says anything about the channel's readings in a window that begins at `start` with the row `first`:
/// so far back as neighbours can be, but no farther than the filters look.
pub(super) fn first_before(
    rows: &Rows,
    channel: Channel,
    limits: &Limits,
    first: usize,
    start: Timestamp,
    context_ms: i64,
) -> usize {
    let farthest = rows.first_from(start.plus_millis(-limits.look_back_ms(context_ms)));
    if limits.stuck.is_some() {
        return farthest;
    }
    // A time is a neighbour if its first reading is possible; here it counts when all of them are.
    let (mut neighbours, mut all_possible, mut last, mut low) = (0, false, None, first);
    for (at, time, value) in rows.readings(channel, farthest..first).rev() {
        if last.replace(time) != Some(time) {
            neighbours += usize::from(all_possible);
            if neighbours == HALF_WIDTH {
                break;
            }
            all_possible = true;
        }
        all_possible &= limits.possible(value);
        low = at;
    }
    low
}

/// Whether the row is the last, and before it come as many of its kind, near and at different times, as the outlier filter
/// looks at: then they are the neighbours of all channels.
fn is_usual(rows: &Rows, at: usize, shape: &Shape) -> bool {
    let Some(first) = at.checked_sub(HALF_WIDTH) else { return false };
    let time = |at: usize| rows.row(at).time;
    at + 1 == rows.len()
        && time(at).millis_since(time(first)) <= shape.context_ms
        && (first..at).all(|before| rows.are_alike(before, at) && time(before) < time(before + 1))
        && (first == 0 || time(first - 1) < time(first))
}

/// The neighbours of the row's reading of a channel.
fn of_channel(
    rows: &Rows,
    at: usize,
    channel: Channel,
    limits: &Limits,
    shape: &Shape,
    mark: &mut impl FnMut(Timestamp),
) {
    let own = rows.row(at).time;
    let near = |time: Timestamp| time.millis_since(own).abs() <= shape.context_ms;
    // A neighbour is the first reading of a time, and possible; `judge` passes over the others too.
    let counts = |row: usize, time: Timestamp, value: f64| {
        let earlier = || (0..row).rev().take_while(|before| rows.row(*before).time == time);
        time != own && limits.possible(value) && !earlier().any(|before| rows.column(before, channel).is_some())
    };
    let mut look = |left: usize, (row, time, value): (usize, Timestamp, f64)| {
        if !near(time) {
            return ControlFlow::Break(());
        }
        let counted = counts(row, time, value);
        if counted {
            mark(time);
        }
        match left - usize::from(counted) {
            0 => ControlFlow::Break(()),
            left => ControlFlow::Continue(left),
        }
    };
    let _ = rows.readings(channel, 0..at).rev().try_fold(HALF_WIDTH, &mut look);
    let _ = rows.readings(channel, at + 1..rows.len()).try_fold(HALF_WIDTH, &mut look);
    // A run of equal values may begin with this reading, or end.
    if limits.stuck.is_some() {
        let within_ms = limits.look_back_ms(shape.context_ms);
        let later = rows.readings(channel, at + 1..rows.len()).map(|(_, time, _)| time);
        later.take_while(|time| time.millis_since(own) <= within_ms).for_each(mark);
    }
}
