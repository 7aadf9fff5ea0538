//! Farms, fields, stations with their latest values, and gateways, as they are read.

use std::collections::HashMap;

use proto::{Channel, FarmId, StationId, Timestamp};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::api::types::{
    BudgetStatus, Farm, FarmSummary, Field, Gateway, GatewayStatus, LaneStatus, LatestValue, LinkStatus, Quantity,
    RunningModel, Station, StationCounts, UntimelyReadings, UplinkStatus,
};
use crate::database::{SqlTime, statements};

statements! {
    /// $1 user.
    FARMS_OF_USER = "SELECT f.farm_id, f.name, f.timezone FROM membership m JOIN farm f ON f.farm_id = m.farm_id
        WHERE m.user_id = $1 ORDER BY f.name, f.farm_id";

    /// $1 farm.
    FARM = "SELECT farm_id, name, timezone, latitude, longitude FROM farm WHERE farm_id = $1";

    /// $1 farm.
    FIELDS = "SELECT f.field_id, f.name, f.crop, f.soil, f.field_capacity, f.wilting_point, f.refill_point,
            (SELECT count(*) FROM station s WHERE s.farm_id = f.farm_id AND s.field_id = f.field_id) AS stations
        FROM field f WHERE f.farm_id = $1 ORDER BY f.name, f.field_id";

    /// $1 farm, $2 station or null for all.
    STATIONS = "SELECT station_id, field_id, latitude, longitude, interval_s, report_s, firmware, last_heard
        FROM station WHERE farm_id = $1 AND ($2::text IS NULL OR station_id = $2) ORDER BY station_id";

    /// $1 farm, $2 station or null for all.
    LATEST_VALUES = "SELECT station_id, channel, value, time FROM latest_value
        WHERE farm_id = $1 AND ($2::text IS NULL OR station_id = $2) AND value IS NOT NULL";

    /// $1 farm, $2 station, $3 time.
    COUNTS_SINCE = "SELECT coalesce(sum(count + rejected), 0)::bigint, coalesce(sum(rejected), 0)::bigint
        FROM aggregate_hourly WHERE farm_id = $1 AND station_id = $2 AND start >= $3";

    /// Of all gateways that heard the station. $1 farm, $2 station.
    UNTIMELY = "SELECT least(coalesce(sum(late), 0), 9223372036854775807)::bigint,
            least(coalesce(sum(future), 0), 9223372036854775807)::bigint,
            least(coalesce(sum(clock), 0), 9223372036854775807)::bigint
        FROM untimely WHERE farm_id = $1 AND station_id = $2";

    /// $1 farm.
    GATEWAYS = "SELECT gateway_id, name, last_seen, status FROM gateway WHERE farm_id = $1 ORDER BY gateway_id";
}

/// Seconds over which a station's readings are counted.
const COUNTED_S: i64 = 7 * 24 * 3600;

/// The farms of a user, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn farms_of(connection: &mut PgConnection, user_id: i64) -> Result<Vec<FarmSummary>, sqlx::Error> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(FARMS_OF_USER).bind(user_id).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(id, name, timezone)| FarmSummary { id, name, timezone }).collect())
}

/// A farm.
///
/// # Errors
/// When there is none of that name, or the database does not answer.
pub async fn farm(connection: &mut PgConnection, farm: &FarmId) -> Result<Farm, sqlx::Error> {
    let (id, name, timezone, latitude, longitude) =
        sqlx::query_as(FARM).bind(farm.as_str()).fetch_one(connection).await?;
    Ok(Farm { id, name, timezone, latitude, longitude })
}

#[derive(sqlx::FromRow)]
struct FieldRow {
    field_id: String,
    name: String,
    crop: String,
    soil: String,
    field_capacity: f64,
    wilting_point: f64,
    refill_point: f64,
    stations: i64,
}

/// The fields of a farm, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn fields(connection: &mut PgConnection, farm: &FarmId) -> Result<Vec<Field>, sqlx::Error> {
    let rows: Vec<FieldRow> = sqlx::query_as(FIELDS).bind(farm.as_str()).fetch_all(connection).await?;
    let field = |row: FieldRow| Field {
        id: row.field_id,
        name: row.name,
        crop: row.crop,
        soil: row.soil,
        field_capacity: row.field_capacity,
        wilting_point: row.wilting_point,
        refill_point: row.refill_point,
        stations: u32::try_from(row.stations).unwrap_or(u32::MAX),
    };
    Ok(rows.into_iter().map(field).collect())
}

#[derive(sqlx::FromRow)]
struct StationRow {
    station_id: String,
    field_id: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    interval_s: Option<i64>,
    report_s: Option<i64>,
    firmware: Option<String>,
    last_heard: Option<SqlTime>,
}

/// The stations of a farm by id, or one of them, with their latest values by channel.
///
/// # Errors
/// When the database does not answer.
pub async fn stations(
    connection: &mut PgConnection,
    farm: &FarmId,
    station: Option<&StationId>,
) -> Result<Vec<Station>, sqlx::Error> {
    let station = station.map(StationId::as_str);
    let rows: Vec<StationRow> =
        sqlx::query_as(STATIONS).bind(farm.as_str()).bind(station).fetch_all(&mut *connection).await?;
    let values: Vec<(String, String, f64, SqlTime)> =
        sqlx::query_as(LATEST_VALUES).bind(farm.as_str()).bind(station).fetch_all(connection).await?;

    let mut latest: HashMap<String, Vec<LatestValue>> = HashMap::with_capacity(rows.len());
    for (station, channel, value, SqlTime(time)) in values {
        let channel = stored_channel(&channel)?;
        latest.entry(station).or_default().push(LatestValue {
            channel,
            quantity: Quantity(channel.quantity),
            unit: channel.quantity.unit().to_owned(),
            level_cm: channel.level_cm,
            value,
            time,
        });
    }
    latest.values_mut().for_each(|values| values.sort_by_key(|value| value.channel));

    let seconds = |value: Option<i64>| value.and_then(|s| u32::try_from(s).ok());
    let station = |row: StationRow| Station {
        latest: latest.remove(&row.station_id).unwrap_or_default(),
        id: row.station_id,
        field: row.field_id,
        latitude: row.latitude,
        longitude: row.longitude,
        interval_s: seconds(row.interval_s),
        report_s: seconds(row.report_s),
        firmware: row.firmware,
        last_heard: row.last_heard.map(|time| time.0),
    };
    Ok(rows.into_iter().map(station).collect())
}

/// A channel that the database names.
///
/// # Errors
/// When it is none, which only a mistake of ours can bring about.
pub fn stored_channel(text: &str) -> Result<Channel, sqlx::Error> {
    text.parse().map_err(|error: proto::channel::InvalidChannel| sqlx::Error::Decode(error.into()))
}

/// What a station has delivered in the seven days before `now`.
///
/// # Errors
/// When the database does not answer.
pub async fn counts(
    connection: &mut PgConnection,
    farm: &FarmId,
    station: &StationId,
    now: Timestamp,
) -> Result<StationCounts, sqlx::Error> {
    let (readings, rejected): (i64, i64) = sqlx::query_as(COUNTS_SINCE)
        .bind(farm.as_str())
        .bind(station.as_str())
        .bind(SqlTime(now.plus_secs(-COUNTED_S)))
        .fetch_one(connection)
        .await?;
    Ok(StationCounts { readings_7d: readings.unsigned_abs(), rejected_7d: rejected.unsigned_abs() })
}

/// What a station has sent that is in no window for its time.
///
/// # Errors
/// When the database does not answer.
pub async fn untimely(
    connection: &mut PgConnection,
    farm: &FarmId,
    station: &StationId,
) -> Result<UntimelyReadings, sqlx::Error> {
    let (late, future, clock): (i64, i64, i64) =
        sqlx::query_as(UNTIMELY).bind(farm.as_str()).bind(station.as_str()).fetch_one(connection).await?;
    Ok(UntimelyReadings { late: late.unsigned_abs(), future: future.unsigned_abs(), clock: clock.unsigned_abs() })
}

type GatewayRow = (String, String, Option<SqlTime>, Option<Json<proto::GatewayStatus>>);

/// The gateways of a farm, by id.
///
/// # Errors
/// When the database does not answer.
pub async fn gateways(connection: &mut PgConnection, farm: &FarmId) -> Result<Vec<Gateway>, sqlx::Error> {
    let rows: Vec<GatewayRow> = sqlx::query_as(GATEWAYS).bind(farm.as_str()).fetch_all(connection).await?;
    let gateway = |(id, name, last_seen, status): GatewayRow| Gateway {
        id,
        name,
        last_seen: last_seen.map(|time| time.0),
        status: status.map(|Json(status)| status.into()),
    };
    Ok(rows.into_iter().map(gateway).collect())
}

impl From<proto::GatewayStatus> for GatewayStatus {
    fn from(status: proto::GatewayStatus) -> Self {
        let proto::GatewayStatus {
            at,
            started,
            version,
            models,
            stations,
            connected,
            backlog,
            backlog_oldest,
            disk_bytes,
            readings,
            rejected,
            untimely: _,
            uplink,
            update,
        } = status;
        let models = models.into_iter().map(RunningModel::from).collect();
        Self {
            at,
            started,
            version,
            models,
            stations,
            connected,
            backlog,
            backlog_oldest,
            disk_bytes,
            readings,
            rejected,
            uplink: uplink.into(),
            update: update.into(),
        }
    }
}

impl From<proto::UplinkStatus> for UplinkStatus {
    fn from(status: proto::UplinkStatus) -> Self {
        let lane = |(name, lane)| {
            let proto::LaneStatus { records, oldest, refused, dropped } = lane;
            (name, LaneStatus { records, oldest, refused, dropped })
        };
        let link = |link: proto::LinkStatus| {
            let proto::LinkStatus { up, since, last_success, last_error, last_error_at, bytes } = link;
            LinkStatus { up, since, last_success, last_error, last_error_at, bytes }
        };
        let budget = |budget: proto::BudgetStatus| {
            let proto::BudgetStatus { bytes_per_hour, burst_bytes, available } = budget;
            BudgetStatus { bytes_per_hour, burst_bytes, available }
        };
        Self {
            lanes: status.lanes.into_iter().map(lane).collect(),
            link: status.link.map(link),
            budget: status.budget.map(budget),
        }
    }
}

impl From<proto::RunningModel> for RunningModel {
    fn from(model: proto::RunningModel) -> Self {
        let proto::RunningModel { name, version, task, since, digest } = model;
        Self { name, version, task: task.to_string(), since, digest }
    }
}
