//! Births: what a station last said of itself.

use std::collections::BTreeMap;

use proto::{FarmId, StationBirth, StationId, Timestamp};
use serde_json::json;
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Refusal, check_text, check_time};
use crate::database::{SqlTime, statements};

statements! {
    /// A field that the farm does not have is left out, and what a birth does not say stays as it was.
    /// $1 farm; $2 stations, $3 when, $4 fields, $5 latitudes, $6 longitudes, $7 and $8 intervals, $9 firmware,
    /// $10 channels as JSON arrays.
    UPDATE_STATIONS = "UPDATE station s SET born = b.at, field_id = coalesce(f.field_id, s.field_id),
            latitude = coalesce(b.latitude, s.latitude), longitude = coalesce(b.longitude, s.longitude),
            interval_s = b.interval_s, report_s = b.report_s, firmware = b.firmware, channels = b.channels
        FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::double precision[], $6::double precision[],
                $7::bigint[], $8::bigint[], $9::text[], $10::jsonb[])
            AS b (station_id, at, field_id, latitude, longitude, interval_s, report_s, firmware, channels)
        LEFT JOIN field f ON f.farm_id = $1 AND f.field_id = b.field_id
        WHERE s.farm_id = $1 AND s.station_id = b.station_id AND (s.born IS NULL OR s.born <= b.at)";
}

/// Refuses a birth that the table cannot hold.
pub(super) fn check(index: usize, birth: &StationBirth, latest: Timestamp) -> Result<(), Refusal> {
    check_time(index, "at", birth.at, latest)?;
    check_text(index, "firmware", &birth.birth.firmware)?;
    for (field, degrees, most) in
        [("latitude", birth.birth.latitude, 90.0), ("longitude", birth.birth.longitude, 180.0)]
    {
        if let Some(degrees) = degrees.filter(|degrees| !(-most..=most).contains(degrees)) {
            return Err(Refusal::new(index, field, degrees, format!("must be from -{most} to {most}")));
        }
    }
    Ok(())
}

/// Stores births. The stations' rows are there and locked. Gives the number of rows that changed.
pub(super) async fn store(
    connection: &mut PgConnection,
    farm: &FarmId,
    births: &[&StationBirth],
) -> Result<u64, sqlx::Error> {
    let mut latest: BTreeMap<&StationId, &StationBirth> = BTreeMap::new();
    for birth in births {
        let known = latest.entry(&birth.station).or_insert(birth);
        if birth.at >= known.at {
            *known = birth;
        }
    }
    let births: Vec<&StationBirth> = latest.into_values().collect();
    let outcome = sqlx::query(UPDATE_STATIONS)
        .bind(farm.as_str())
        .bind(births.iter().map(|b| b.station.as_str()).collect::<Vec<_>>())
        .bind(births.iter().map(|b| SqlTime(b.at)).collect::<Vec<_>>())
        .bind(births.iter().map(|b| b.birth.field.as_ref().map(|f| f.as_str())).collect::<Vec<_>>())
        .bind(births.iter().map(|b| b.birth.latitude).collect::<Vec<_>>())
        .bind(births.iter().map(|b| b.birth.longitude).collect::<Vec<_>>())
        .bind(births.iter().map(|b| i64::from(b.birth.interval_s)).collect::<Vec<_>>())
        .bind(births.iter().map(|b| i64::from(b.birth.report_s)).collect::<Vec<_>>())
        .bind(births.iter().map(|b| b.birth.firmware.as_str()).collect::<Vec<_>>())
        .bind(births.iter().map(|b| Json(json!(b.birth.channels))).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(outcome.rows_affected())
}
