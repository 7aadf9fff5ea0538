//! Alerts: the highest revision of each.

use std::collections::BTreeMap;

use proto::{Alert, FarmId, Timestamp};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Refusal, check_text, check_time};
use crate::database::{SqlTime, statements};

statements! {
    /// $1 farm; all others are columns. An alert with a higher revision replaces, any other is left.
    UPSERT_ALERTS = "INSERT INTO alert AS a (farm_id, alert_id, station_id, channel, kind, opened, updated, closed,
            score, threshold, value, drivers, model, revision, message)
        SELECT $1, r.* FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
            $7::timestamptz[], $8::timestamptz[], $9::double precision[], $10::double precision[],
            $11::double precision[], $12::jsonb[], $13::text[], $14::integer[], $15::text[]) AS r
        ON CONFLICT (farm_id, alert_id) DO UPDATE SET updated = excluded.updated, closed = excluded.closed,
            score = excluded.score, threshold = excluded.threshold, value = excluded.value,
            drivers = excluded.drivers, model = excluded.model, revision = excluded.revision,
            message = excluded.message
        WHERE excluded.revision > a.revision";
}

/// Refuses an alert that the table cannot hold.
pub(super) fn check(index: usize, alert: &Alert, latest: Timestamp) -> Result<(), Refusal> {
    check_time(index, "opened", alert.opened, latest)?;
    check_time(index, "updated", alert.updated, latest)?;
    alert.closed.map_or(Ok(()), |closed| check_time(index, "closed", closed, latest))?;
    check_text(index, "id", &alert.id)?;
    check_text(index, "message", &alert.message)?;
    check_text(index, "model", alert.model.as_deref().unwrap_or_default())?;
    if i32::try_from(alert.revision).is_err() {
        return Err(Refusal::new(index, "revision", alert.revision, format!("is more than {}", i32::MAX)));
    }
    Ok(())
}

/// Stores alerts. The stations' rows are there. Gives the number of rows that changed.
pub(super) async fn store(connection: &mut PgConnection, farm: &FarmId, alerts: &[&Alert]) -> Result<u64, sqlx::Error> {
    let mut latest: BTreeMap<&str, &Alert> = BTreeMap::new();
    for alert in alerts {
        let known = latest.entry(&alert.id).or_insert(alert);
        if alert.revision > known.revision {
            *known = alert;
        }
    }
    let alerts: Vec<&Alert> = latest.into_values().collect();
    let times = |time: fn(&Alert) -> Timestamp| alerts.iter().map(|a| SqlTime(time(a))).collect::<Vec<_>>();
    let outcome = sqlx::query(UPSERT_ALERTS)
        .bind(farm.as_str())
        .bind(alerts.iter().map(|a| a.id.as_str()).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.station.as_str()).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.channel.map(|c| c.to_string())).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.kind.name()).collect::<Vec<_>>())
        .bind(times(|a| a.opened))
        .bind(times(|a| a.updated))
        .bind(alerts.iter().map(|a| a.closed.map(SqlTime)).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.score).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.threshold).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.value).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| Json(&a.drivers)).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.model.as_deref()).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| i32::try_from(a.revision).unwrap_or(i32::MAX)).collect::<Vec<_>>())
        .bind(alerts.iter().map(|a| a.message.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(outcome.rows_affected())
}
