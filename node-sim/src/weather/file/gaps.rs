//! What is missing in measured weather, and what is put in its place.

use proto::Timestamp;

use super::header::{QUANTITIES, Quantity};

/// A row's values in canonical units.
pub(super) type Row = [Option<f64>; QUANTITIES];

/// Measured days on each side of a long gap whose mean course fills it.
const DAYS: usize = 3;

/// How a gap was filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// On the straight line between what was measured before and after.
    Line,
    /// With the same hour of the nearest days.
    NearestDays,
    /// From the mean course of the three days before to that of the three days after.
    MeanCourse,
    /// Rain, with none.
    None,
}

/// Measurements that are missing in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// The column, as it is named in the file.
    pub column: String,
    /// The beginning of the first row that is missing.
    pub from: Timestamp,
    /// How many rows: hours of an hourly file, days of a daily one.
    pub rows: usize,
    /// What is in their place.
    pub filled: Filled,
}

impl Filled {
    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Line => "on a line",
            Self::NearestDays => "the same hour of the nearest days",
            Self::MeanCourse => "mean course of the days around",
            Self::None => "no rain",
        }
    }
}

/// A gap in one quantity, before it has a name and a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hole {
    pub first: usize,
    pub rows: usize,
    pub filled: Filled,
}

/// Fills what is missing of a quantity. `per_day` is the rows of a day (24, or 1), and up to `short` rows are a short gap.
///
/// # Errors
/// When there is no value at all (unless it is rain).
pub(super) fn fill(rows: &mut [Row], quantity: Quantity, per_day: usize, short: usize) -> Result<Vec<Hole>, ()> {
    let column = quantity as usize;
    let measured: Vec<usize> = (0..rows.len()).filter(|&at| rows[at][column].is_some()).collect();
    if measured.is_empty() && quantity != Quantity::Rain {
        return Err(());
    }
    let mut holes: Vec<Hole> = Vec::new();
    for at in (0..rows.len()).filter(|&at| rows[at][column].is_none()) {
        match holes.last_mut() {
            Some(hole) if hole.first + hole.rows == at => hole.rows += 1,
            _ => holes.push(Hole { first: at, rows: 1, filled: Filled::Line }),
        }
    }
    let mut values = Vec::new();
    for hole in &mut holes {
        hole.filled = match quantity {
            Quantity::Rain => Filled::None,
            _ if hole.rows > short => Filled::MeanCourse,
            Quantity::Radiation if per_day > 1 => Filled::NearestDays,
            _ => Filled::Line,
        };
        for at in hole.first..hole.first + hole.rows {
            let line = || on_a_line(rows, column, &measured, at);
            let value = match hole.filled {
                Filled::None => 0.0,
                Filled::Line => line(),
                Filled::NearestDays => same_hour_nearby(rows, column, at).unwrap_or_else(line),
                Filled::MeanCourse => mean_course(rows, column, hole, per_day, at).unwrap_or_else(line),
            };
            values.push((at, value));
        }
    }
    for (at, value) in values {
        rows[at][column] = Some(value);
    }
    Ok(holes)
}

/// The same hour of the nearest day within a week that has a value.
fn same_hour_nearby(rows: &[Row], column: usize, at: usize) -> Option<f64> {
    (1..=7).find_map(|days| {
        let earlier = at.checked_sub(24 * days).and_then(|index| rows[index][column]);
        let later = rows.get(at + 24 * days).and_then(|row| row[column]);
        match (earlier, later) {
            (Some(a), Some(b)) => Some((a + b) / 2.0),
            (one, other) => one.or(other),
        }
    })
}

/// From the mean of the same hour in the days before a hole to that in the days after it; where one side has none, the other's.
fn mean_course(rows: &[Row], column: usize, hole: &Hole, per_day: usize, at: usize) -> Option<f64> {
    let hour = at % per_day;
    let mean = |indices: &mut dyn Iterator<Item = usize>| {
        let found: Vec<f64> = indices.filter_map(|index| rows[index][column]).take(DAYS).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    };
    let before = mean(&mut (0..hole.first).rev().filter(|index| index % per_day == hour));
    let after = mean(&mut (hole.first + hole.rows..rows.len()).filter(|index| index % per_day == hour));
    let share = (at - hole.first + 1) as f64 / (hole.rows + 1) as f64;
    match (before, after) {
        (Some(before), Some(after)) => Some(before + (after - before) * share),
        (one, other) => one.or(other),
    }
}

/// On the straight line between the measurements before and after; the nearest one at the file's ends.
fn on_a_line(rows: &[Row], column: usize, measured: &[usize], at: usize) -> f64 {
    let value = |index: usize| rows[index][column].unwrap_or(0.0);
    let after = measured.partition_point(|&index| index < at);
    match (after.checked_sub(1).map(|i| measured[i]), measured.get(after).copied()) {
        (Some(a), Some(b)) => value(a) + (value(b) - value(a)) * (at - a) as f64 / (b - a) as f64,
        (Some(only), None) | (None, Some(only)) => value(only),
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_gap_takes_the_course_of_the_days_around_it() {
        // Ten days whose course has an amplitude of 5 around a mean that rises by one a day; two days are missing.
        let truth = |at: usize| at as f64 / 24.0 + 5.0 * (std::f64::consts::TAU * at as f64 / 24.0).sin();
        let mut rows = vec![Row::default(); 240];
        for (at, row) in rows.iter_mut().enumerate().filter(|(at, _)| !(100..148).contains(at)) {
            row[Quantity::Air as usize] = Some(truth(at));
        }
        let holes = fill(&mut rows, Quantity::Air, 24, 6).unwrap();
        assert_eq!(holes, [Hole { first: 100, rows: 48, filled: Filled::MeanCourse }]);
        for (at, row) in rows.iter().enumerate().take(148).skip(100) {
            let value = row[Quantity::Air as usize].unwrap();
            // The means lie two days before and after the gap, when all is up to two degrees different; a line would miss the course.
            assert!((value - truth(at)).abs() < 2.1, "{at}: {value} for {}", truth(at));
        }
    }

    #[test]
    fn a_column_without_a_value_is_refused_but_rain_is_none() {
        let mut rows = vec![Row::default(); 3];
        assert_eq!(fill(&mut rows, Quantity::Wind, 24, 6), Err(()));
        assert_eq!(fill(&mut rows, Quantity::Rain, 24, 6).unwrap()[0].filled, Filled::None);
        assert_eq!(rows[1][Quantity::Rain as usize], Some(0.0));
    }
}
