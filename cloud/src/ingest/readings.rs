//! Raw readings, as the gateways stored them.

use std::collections::BTreeSet;

use proto::{FarmId, RawReadings, Timestamp};
use sqlx::{PgConnection, PgPool};

use super::{Refusal, check_time};
use crate::database::{SqlTime, statements};

statements! {
    /// $1 times.
    MAKE_PARTITIONS = "SELECT make_reading_partitions($1)";

    /// A reading that is there is left. $1 farm; $2 stations, $3 channels, $4 times, $5 values.
    INSERT_READINGS = "INSERT INTO reading (farm_id, station_id, channel, time, value)
        SELECT $1, r.* FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::double precision[]) AS r
        ON CONFLICT DO NOTHING";
}

/// Seconds of a day.
const DAY_S: u32 = 86_400;

/// Refuses readings that the table cannot hold.
pub(super) fn check(index: usize, raw: &RawReadings, latest: Timestamp) -> Result<(), Refusal> {
    raw.readings.iter().try_for_each(|reading| check_time(index, "time", reading.time, latest))
}

/// Makes the partitions that are not there yet.
pub(super) async fn make_partitions(pool: &PgPool, raw: &[&RawReadings]) -> Result<(), sqlx::Error> {
    let readings = raw.iter().flat_map(|raw| &raw.readings);
    let days: BTreeSet<SqlTime> = readings.map(|reading| SqlTime(reading.time.floor_to(DAY_S))).collect();
    sqlx::query(MAKE_PARTITIONS).bind(Vec::from_iter(days)).execute(pool).await?;
    Ok(())
}

/// Stores readings. The stations' rows are there. Gives the number of rows that are new.
pub(super) async fn store(
    connection: &mut PgConnection,
    farm: &FarmId,
    raw: &[&RawReadings],
) -> Result<u64, sqlx::Error> {
    let of = || raw.iter().flat_map(|raw| raw.readings.iter().map(move |reading| (&raw.station, reading)));
    let outcome = sqlx::query(INSERT_READINGS)
        .bind(farm.as_str())
        .bind(of().map(|(station, _)| station.as_str()).collect::<Vec<_>>())
        .bind(of().map(|(_, reading)| reading.channel.to_string()).collect::<Vec<_>>())
        .bind(of().map(|(_, reading)| SqlTime(reading.time)).collect::<Vec<_>>())
        .bind(of().map(|(_, reading)| reading.value).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(outcome.rows_affected())
}
