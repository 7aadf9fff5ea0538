//! What stations measured over time, as it is read: series of one station, and one channel of all stations.

use std::collections::BTreeMap;

use proto::{Channel, FarmId, RejectReason, StationId, Timestamp};
use sqlx::PgConnection;

use crate::api::types::{ChannelSeries, Quantity, Resolution, Sparklines};
use crate::database::{SqlTime, statements};
use crate::inventory::stored_channel;

/// The points of some channels of one station. The order of the result is that of the primary key, so PostgreSQL reads
/// one range of it for each channel and sorts nothing. The reasons are in the order of [`RejectReason::ALL`].
/// $1 farm, $2 station, $3 channels, $4 from, $5 to, $6 how many at most.
macro_rules! points {
    ($table:literal) => {
        concat!(
            "SELECT channel, start, count::bigint, min, mean, max, rejected::bigint, rejected_min, rejected_max,
                 CASE WHEN rejected > 0 THEN ARRAY[rejected_range, rejected_rate, rejected_hampel, rejected_late,
                     rejected_future, rejected_duplicate, rejected_stuck, rejected_clock]::bigint[] END AS reasons
             FROM ",
            $table,
            " WHERE farm_id = $1 AND station_id = $2 AND channel = ANY($3) AND start >= $4 AND start < $5
             ORDER BY channel, start LIMIT $6"
        )
    };
}

statements! {
    /// The windows.
    RAW_POINTS = points!("aggregate");

    /// The hours.
    HOUR_POINTS = points!("aggregate_hourly");

    /// The days.
    DAY_POINTS = points!("aggregate_daily");

    /// $1 farm, $2 station.
    CHANNELS = "SELECT channel FROM latest_value WHERE farm_id = $1 AND station_id = $2";

    /// $1 farm, $2 station.
    STATION_EXISTS = "SELECT EXISTS (SELECT FROM station WHERE farm_id = $1 AND station_id = $2)";

    /// $1 farm, $2 channel, $3 from, $4 to.
    HOURS_OF_ALL = "SELECT l.station_id, h.start, h.mean
        FROM latest_value l
        LEFT JOIN aggregate_hourly h ON h.farm_id = l.farm_id AND h.station_id = l.station_id AND h.channel = l.channel
            AND h.start >= $3 AND h.start < $4
        WHERE l.farm_id = $1 AND l.channel = $2";
}

/// The most points that one answer holds, over all channels: some four megabytes of JSON.
pub const MOST_POINTS: usize = 50_000;

/// Seconds of an hour.
const HOUR_S: u32 = 3600;

/// Whether a farm has a station.
///
/// # Errors
/// When the database does not answer.
pub async fn station_exists(
    connection: &mut PgConnection,
    farm: &FarmId,
    station: &StationId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(STATION_EXISTS).bind(farm.as_str()).bind(station.as_str()).fetch_one(connection).await
}

/// The channels that were ever heard from a station, in their order.
///
/// # Errors
/// When the database does not answer.
pub async fn channels(
    connection: &mut PgConnection,
    farm: &FarmId,
    station: &StationId,
) -> Result<Vec<Channel>, sqlx::Error> {
    let names: Vec<String> =
        sqlx::query_scalar(CHANNELS).bind(farm.as_str()).bind(station.as_str()).fetch_all(connection).await?;
    let mut channels = names.iter().map(|name| stored_channel(name)).collect::<Result<Vec<_>, _>>()?;
    channels.sort_unstable();
    Ok(channels)
}

/// What to read of a station.
pub struct Selection<'a> {
    /// The farm.
    pub farm: &'a FarmId,
    /// The station.
    pub station: &'a StationId,
    /// The channels, each once.
    pub channels: &'a [Channel],
    /// Points that start at or after this time.
    pub from: Timestamp,
    /// Points that start before this time.
    pub to: Timestamp,
    /// What one point sums up.
    pub resolution: Resolution,
}

#[derive(sqlx::FromRow)]
struct PointRow {
    channel: String,
    start: SqlTime,
    count: i64,
    min: Option<f64>,
    mean: Option<f64>,
    max: Option<f64>,
    rejected: i64,
    rejected_min: Option<f64>,
    rejected_max: Option<f64>,
    /// How many by reason; none where nothing was rejected.
    reasons: Option<Vec<i64>>,
}

/// A series for each selected channel, in the selection's order; `None` when there are more than [`MOST_POINTS`].
///
/// # Errors
/// When the database does not answer.
pub async fn series(
    connection: &mut PgConnection,
    selection: &Selection<'_>,
) -> Result<Option<Vec<ChannelSeries>>, sqlx::Error> {
    let statement = match selection.resolution {
        Resolution::Raw => RAW_POINTS,
        Resolution::Hour => HOUR_POINTS,
        Resolution::Day => DAY_POINTS,
    };
    let names: Vec<String> = selection.channels.iter().map(ToString::to_string).collect();
    let rows: Vec<PointRow> = sqlx::query_as(statement)
        .bind(selection.farm.as_str())
        .bind(selection.station.as_str())
        .bind(&names)
        .bind(SqlTime(selection.from))
        .bind(SqlTime(selection.to))
        .bind(MOST_POINTS as i64 + 1)
        .fetch_all(connection)
        .await?;
    if rows.len() > MOST_POINTS {
        return Ok(None);
    }
    let mut series: Vec<ChannelSeries> = selection.channels.iter().copied().map(empty).collect();
    for points in rows.chunk_by(|a, b| a.channel == b.channel) {
        let Some(at) = names.iter().position(|name| *name == points[0].channel) else {
            continue;
        };
        for point in points {
            series[at].push(point);
        }
    }
    Ok(Some(series))
}

fn empty(channel: Channel) -> ChannelSeries {
    ChannelSeries {
        channel,
        quantity: Quantity(channel.quantity),
        unit: channel.quantity.unit().to_owned(),
        level_cm: channel.level_cm,
        time: Vec::new(),
        mean: Vec::new(),
        min: Vec::new(),
        max: Vec::new(),
        count: Vec::new(),
        rejected: Vec::new(),
        reasons: Vec::new(),
        rejected_min: Vec::new(),
        rejected_max: Vec::new(),
    }
}

impl ChannelSeries {
    fn push(&mut self, point: &PointRow) {
        self.time.push(point.start.0.as_millis().div_euclid(1000));
        self.mean.push(point.mean);
        self.min.push(point.min);
        self.max.push(point.max);
        self.count.push(point.count);
        self.rejected.push(point.rejected);
        self.reasons.push(point.reasons.as_ref().map(|counts| {
            let by_reason = RejectReason::ALL.into_iter().zip(counts.iter().copied());
            by_reason.filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name().to_owned(), count)).collect()
        }));
        self.rejected_min.push(point.rejected_min);
        self.rejected_max.push(point.rejected_max);
    }
}

/// One channel's hourly means at every station that has it, over the `hours` hours up to and with the one of `now`.
///
/// # Errors
/// When the database does not answer.
pub async fn sparklines(
    connection: &mut PgConnection,
    farm: &FarmId,
    channel: Channel,
    hours: u32,
    now: Timestamp,
) -> Result<Sparklines, sqlx::Error> {
    let to = now.floor_to(HOUR_S).plus_secs(i64::from(HOUR_S));
    let from = to.plus_secs(-i64::from(hours) * i64::from(HOUR_S));
    let rows: Vec<(String, Option<SqlTime>, Option<f64>)> = sqlx::query_as(HOURS_OF_ALL)
        .bind(farm.as_str())
        .bind(channel.to_string())
        .bind(SqlTime(from))
        .bind(SqlTime(to))
        .fetch_all(connection)
        .await?;
    let mut stations: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for (station, start, mean) in rows {
        let values = stations.entry(station).or_insert_with(|| vec![None; hours as usize]);
        let step = start.map(|SqlTime(start)| start.millis_since(from) / (i64::from(HOUR_S) * 1000));
        if let Some(value) = step.and_then(|step| usize::try_from(step).ok()).and_then(|step| values.get_mut(step)) {
            *value = mean;
        }
    }
    Ok(Sparklines { from, to, step_s: HOUR_S, stations })
}
