//! Windows of aggregates: their rows, the hours and days that they lie in, and the latest values.
//!
//! Hours, days and latest values are made anew from the tables below them, for just those channels and times that a
//! batch touches. So they are exact whatever was sent again or amended, and in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Channel, FarmId, RejectReason, StationId, Stats, Timestamp, Window};
use sqlx::{PgConnection, PgPool};

use super::{Refusal, check_time};
use crate::database::{SqlTime, statements};

/// Makes anew the roll-up rows of some channels and times from the rows below them.
///
/// Counts add up. The mean is the mean of the means, weighted by count; the variance is, with n, m and s of each part
/// and M of the whole, sum(n (s^2 + (m - M)^2)) / sum(n): no difference of large numbers.
/// $1 farm; $2 stations, $3 channels and $4 times, of one length: what to make.
macro_rules! roll_up {
    ($from:literal to $to:literal, each $length:literal) => {
        concat!(
            "WITH part AS (
                SELECT t.station_id, t.channel, t.start AS whole, a.*,
                    sum(a.count * a.mean) OVER w / nullif(sum(a.count) OVER w, 0) AS whole_mean
                FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS t (station_id, channel, start)
                CROSS JOIN LATERAL (
                    SELECT a.count::double precision, a.min, a.mean, a.max, a.stddev, a.rejected_range, a.rejected_rate,
                        a.rejected_hampel, a.rejected_late, a.rejected_future, a.rejected_duplicate,
                        a.rejected_stuck, a.rejected_clock, a.rejected_min, a.rejected_max
                    FROM ", $from, " a
                    WHERE a.farm_id = $1 AND a.station_id = t.station_id AND a.channel = t.channel
                        AND a.start >= t.start AND a.start < t.start + interval '", $length, "'
                ) AS a
                WINDOW w AS (PARTITION BY t.station_id, t.channel, t.start)
            )
            INSERT INTO ", $to, " (farm_id, station_id, channel, start, count, min, mean, max, stddev, rejected_range,
                rejected_rate, rejected_hampel, rejected_late, rejected_future, rejected_duplicate, rejected_stuck,
                rejected_clock, rejected_min, rejected_max)
            SELECT $1, station_id, channel, whole, sum(count)::bigint, min(min),
                least(greatest(min(whole_mean), min(min)), max(max)), max(max),
                sqrt(sum(count * (stddev * stddev + (mean - whole_mean) * (mean - whole_mean))) / nullif(sum(count), 0)),
                sum(rejected_range), sum(rejected_rate), sum(rejected_hampel), sum(rejected_late), sum(rejected_future),
                sum(rejected_duplicate), sum(rejected_stuck), sum(rejected_clock), min(rejected_min), max(rejected_max)
            FROM part GROUP BY station_id, channel, whole
            ON CONFLICT (farm_id, station_id, channel, start) DO UPDATE SET count = excluded.count, min = excluded.min,
                mean = excluded.mean, max = excluded.max, stddev = excluded.stddev,
                rejected_range = excluded.rejected_range, rejected_rate = excluded.rejected_rate,
                rejected_hampel = excluded.rejected_hampel, rejected_late = excluded.rejected_late,
                rejected_future = excluded.rejected_future, rejected_duplicate = excluded.rejected_duplicate,
                rejected_stuck = excluded.rejected_stuck, rejected_clock = excluded.rejected_clock,
                rejected_min = excluded.rejected_min, rejected_max = excluded.rejected_max"
        )
    };
}

statements! {
    /// $1 starts.
    MAKE_PARTITIONS = "SELECT make_aggregate_partitions($1)";

    /// $1 farm; all others are columns. A row with a higher revision replaces, any other is left.
    UPSERT_AGGREGATES = "INSERT INTO aggregate AS a (farm_id, station_id, channel, start, length_s, revision, count, min,
            mean, max, stddev, rejected_range, rejected_rate, rejected_hampel, rejected_late, rejected_future,
            rejected_duplicate, rejected_stuck, rejected_clock, rejected_min, rejected_max)
        SELECT $1, r.* FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::integer[], $6::integer[],
            $7::integer[], $8::double precision[], $9::double precision[], $10::double precision[],
            $11::double precision[], $12::integer[], $13::integer[], $14::integer[], $15::integer[], $16::integer[],
            $17::integer[], $18::integer[], $19::integer[], $20::double precision[], $21::double precision[]) AS r
        ON CONFLICT (farm_id, station_id, channel, start, length_s) DO UPDATE SET revision = excluded.revision,
            count = excluded.count, min = excluded.min, mean = excluded.mean, max = excluded.max,
            stddev = excluded.stddev, rejected_range = excluded.rejected_range,
            rejected_rate = excluded.rejected_rate, rejected_hampel = excluded.rejected_hampel,
            rejected_late = excluded.rejected_late, rejected_future = excluded.rejected_future,
            rejected_duplicate = excluded.rejected_duplicate, rejected_stuck = excluded.rejected_stuck,
            rejected_clock = excluded.rejected_clock, rejected_min = excluded.rejected_min,
            rejected_max = excluded.rejected_max
        WHERE excluded.revision > a.revision";

    /// The hours that windows lie in.
    ROLL_UP_HOURS = roll_up!("aggregate" to "aggregate_hourly", each "1 hour");

    /// The days that hours lie in.
    ROLL_UP_DAYS = roll_up!("aggregate_hourly" to "aggregate_daily", each "1 day");

    /// The last window with an accepted reading lies in the last hour with one.
    /// $1 farm; $2 stations and $3 channels, each pair once.
    REFRESH_LATEST_VALUES = "INSERT INTO latest_value AS l (farm_id, station_id, channel, value, time)
        SELECT $1, t.station_id, t.channel, w.mean, w.time
        FROM unnest($2::text[], $3::text[]) AS t (station_id, channel)
        LEFT JOIN LATERAL (
            SELECT h.start FROM aggregate_hourly h
            WHERE h.farm_id = $1 AND h.station_id = t.station_id AND h.channel = t.channel AND h.count > 0
            ORDER BY h.start DESC LIMIT 1
        ) AS h ON true
        LEFT JOIN LATERAL (
            SELECT a.mean, a.start + make_interval(secs => a.length_s) AS time FROM aggregate a
            WHERE a.farm_id = $1 AND a.station_id = t.station_id AND a.channel = t.channel AND a.count > 0
                AND a.start >= h.start AND a.start < h.start + interval '1 hour'
            ORDER BY a.start DESC, a.length_s DESC LIMIT 1
        ) AS w ON true
        ON CONFLICT (farm_id, station_id, channel) DO UPDATE SET value = excluded.value, time = excluded.time
        WHERE (l.value, l.time) IS DISTINCT FROM (excluded.value, excluded.time)";
}

/// Seconds of an hour, which windows must divide evenly so that each lies in one.
const HOUR_S: u32 = 3600;

/// Seconds of a day.
const DAY_S: u32 = 24 * HOUR_S;

/// Refuses a window that the tables cannot hold.
pub(super) fn check(index: usize, window: &Window, latest: Timestamp) -> Result<(), Refusal> {
    check_time(index, "start", window.start, latest)?;
    if !(60..=HOUR_S).contains(&window.length_s) || !HOUR_S.is_multiple_of(window.length_s) {
        let reason = "must divide an hour evenly, and be a minute at least";
        return Err(Refusal::new(index, "length_s", window.length_s, reason));
    }
    if window.start.floor_to(window.length_s) != window.start {
        let reason = format!("is not a multiple of {} s since 1970", window.length_s);
        return Err(Refusal::new(index, "start", window.start, reason));
    }
    fits(index, "revision", window.revision)?;
    for aggregate in &window.aggregates {
        aggregate.accepted.map_or(Ok(()), |stats| fits(index, "count", stats.count))?;
        let rejected = aggregate.rejected.as_ref();
        let total: u64 = rejected.map_or(0, |r| r.counts.iter().map(|(_, count)| u64::from(*count)).sum());
        fits(index, "rejected", total)?;
    }
    if let Some(pair) = window.aggregates.windows(2).find(|pair| pair[0].channel >= pair[1].channel) {
        return Err(Refusal::new(index, "channel", pair[1].channel, "comes twice or out of order"));
    }
    Ok(())
}

fn fits(index: usize, field: &str, number: impl TryInto<i32> + ToString + Copy) -> Result<(), Refusal> {
    match number.try_into() {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(index, field, number, format!("is more than {}", i32::MAX))),
    }
}

/// Makes the partitions that are not there yet.
pub(super) async fn make_partitions(pool: &PgPool, windows: &[&Window]) -> Result<(), sqlx::Error> {
    let days: BTreeSet<SqlTime> = windows.iter().map(|window| SqlTime(window.start.floor_to(DAY_S))).collect();
    sqlx::query(MAKE_PARTITIONS).bind(Vec::from_iter(days)).execute(pool).await?;
    Ok(())
}

/// The rows of some windows, by column.
#[derive(Default)]
struct Columns<'a> {
    stations: Vec<&'a str>,
    channels: Vec<String>,
    starts: Vec<SqlTime>,
    lengths_s: Vec<i32>,
    revisions: Vec<i32>,
    counts: Vec<i32>,
    accepted: [Vec<Option<f64>>; 4],
    rejected: [Vec<i32>; RejectReason::ALL.len()],
    rejected_min: Vec<Option<f64>>,
    rejected_max: Vec<Option<f64>>,
}

impl<'a> Columns<'a> {
    /// Of windows that come more than once, the first with the highest revision.
    fn of(windows: &[&'a Window]) -> Self {
        let mut latest: BTreeMap<(&StationId, Timestamp, u32), &'a Window> = BTreeMap::new();
        for window in windows {
            let known = latest.entry((&window.station, window.start, window.length_s)).or_insert(window);
            if window.revision > known.revision {
                *known = window;
            }
        }
        let mut columns = Self::default();
        for window in latest.into_values() {
            for aggregate in &window.aggregates {
                columns.push(window, aggregate);
            }
        }
        columns
    }

    fn push(&mut self, window: &'a Window, aggregate: &proto::Aggregate) {
        // `check` has seen that every number fits.
        let fitted = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        self.stations.push(window.station.as_str());
        self.channels.push(aggregate.channel.to_string());
        self.starts.push(SqlTime(window.start));
        self.lengths_s.push(fitted(window.length_s));
        self.revisions.push(fitted(window.revision));
        let accepted = aggregate.accepted;
        self.counts.push(accepted.map_or(0, |stats| fitted(stats.count)));
        let values = accepted.map(|Stats { min, mean, max, stddev, .. }| [min, mean, max, stddev]);
        for (at, column) in self.accepted.iter_mut().enumerate() {
            column.push(values.map(|values| values[at]));
        }
        let rejected = aggregate.rejected.as_ref();
        for (reason, column) in RejectReason::ALL.into_iter().zip(&mut self.rejected) {
            let count = rejected.and_then(|r| r.counts.iter().find(|(of, _)| *of == reason));
            column.push(count.map_or(0, |(_, count)| fitted(*count)));
        }
        self.rejected_min.push(rejected.map(|r| r.min));
        self.rejected_max.push(rejected.map(|r| r.max));
    }
}

/// What a batch touches: times of one length, of channels of stations.
type Touched<'a> = BTreeSet<(&'a StationId, Channel, Timestamp)>;

fn touched<'a>(windows: &[&'a Window], length_s: u32) -> Touched<'a> {
    let of_window = |window: &&'a Window| {
        let (station, start) = (&window.station, window.start.floor_to(length_s));
        window.aggregates.iter().map(move |aggregate| (station, aggregate.channel, start))
    };
    windows.iter().flat_map(of_window).collect()
}

/// Stores windows. The stations' rows are there and locked. Gives the number of rows that changed.
pub(super) async fn store(
    connection: &mut PgConnection,
    farm: &FarmId,
    windows: &[&Window],
) -> Result<u64, sqlx::Error> {
    let columns = Columns::of(windows);
    if columns.stations.is_empty() {
        return Ok(0);
    }
    let mut upsert = sqlx::query(UPSERT_AGGREGATES)
        .bind(farm.as_str())
        .bind(columns.stations)
        .bind(columns.channels)
        .bind(columns.starts)
        .bind(columns.lengths_s)
        .bind(columns.revisions)
        .bind(columns.counts);
    for column in columns.accepted {
        upsert = upsert.bind(column);
    }
    for column in columns.rejected {
        upsert = upsert.bind(column);
    }
    let rows =
        upsert.bind(columns.rejected_min).bind(columns.rejected_max).execute(&mut *connection).await?.rows_affected();

    for (statement, length_s) in [(ROLL_UP_HOURS, HOUR_S), (ROLL_UP_DAYS, DAY_S)] {
        let touched = touched(windows, length_s);
        let stations: Vec<&str> = touched.iter().map(|(station, ..)| station.as_str()).collect();
        let channels: Vec<String> = touched.iter().map(|(_, channel, _)| channel.to_string()).collect();
        let starts: Vec<SqlTime> = touched.iter().map(|(.., start)| SqlTime(*start)).collect();
        sqlx::query(statement)
            .bind(farm.as_str())
            .bind(stations)
            .bind(channels)
            .bind(starts)
            .execute(&mut *connection)
            .await?;
    }

    let of_stations: BTreeSet<(&StationId, Channel)> =
        touched(windows, DAY_S).into_iter().map(|(station, channel, _)| (station, channel)).collect();
    let (stations, channels): (Vec<&str>, Vec<String>) =
        of_stations.iter().map(|(station, channel)| (station.as_str(), channel.to_string())).unzip();
    sqlx::query(REFRESH_LATEST_VALUES).bind(farm.as_str()).bind(stations).bind(channels).execute(connection).await?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Aggregate, Quantity, Rejected};

    const NOW: Timestamp = Timestamp::from_secs(1_420_099_200);

    fn window(start: Timestamp, revision: u32, mean: f64) -> Window {
        let stats = Stats { count: 3, min: mean - 1.0, mean, max: mean + 1.0, stddev: 0.5 };
        let rejected = Rejected { counts: vec![(RejectReason::Hampel, 2)], min: -40.0, max: 90.0 };
        let channel = Channel::at(Quantity::AirTemperature, 200);
        Window {
            station: "n1".parse().unwrap(),
            start,
            length_s: 900,
            revision,
            aggregates: vec![Aggregate { channel, accepted: Some(stats), rejected: Some(rejected) }],
        }
    }

    #[test]
    fn a_window_that_comes_twice_is_one_row_of_the_highest_revision() {
        let windows = [window(NOW, 0, 1.0), window(NOW, 2, 2.0), window(NOW, 1, 3.0), window(NOW, 2, 4.0)];
        let columns = Columns::of(&windows.iter().collect::<Vec<_>>());
        assert_eq!(columns.revisions, [2]);
        assert_eq!(columns.accepted[1], [Some(2.0)]);
        assert_eq!(columns.rejected.map(|column| column[0]), [0, 0, 2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_window_that_cannot_be_stored_is_refused_by_field_and_value() {
        let refused = |change: fn(&mut Window)| {
            let mut window = window(NOW, 0, 1.0);
            change(&mut window);
            check(7, &window, NOW).unwrap_err().to_string()
        };
        assert_eq!(
            refused(|w| w.start = Timestamp::from_secs(0)),
            "records[7].start: \"1970-01-01T00:00:00Z\" must be from 2000-01-01T00:00:00Z to 2015-01-01T08:00:00Z"
        );
        assert_eq!(
            refused(|w| w.start = w.start.plus_secs(-1)),
            "records[7].start: \"2015-01-01T07:59:59Z\" is not a multiple of 900 s since 1970"
        );
        assert_eq!(
            refused(|w| w.length_s = 1000),
            "records[7].length_s: \"1000\" must divide an hour evenly, and be a minute at least"
        );
        assert_eq!(refused(|w| w.revision = u32::MAX), "records[7].revision: \"4294967295\" is more than 2147483647");
        assert_eq!(
            refused(|w| w.aggregates = vec![w.aggregates[0].clone(), w.aggregates[0].clone()]),
            "records[7].channel: \"air_temperature_200cm\" comes twice or out of order"
        );
    }
}
