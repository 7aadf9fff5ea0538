//! Decisions on irrigation: each once.

use std::collections::BTreeMap;

use proto::{Decision, FarmId, Timestamp};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::{Refusal, check_text, check_time};
use crate::database::{SqlTime, statements};

statements! {
    /// $1 farm; all others are columns. What is there stays: of a decision nothing changes but who has carried it out, and they
    /// become more.
    INSERT_DECISIONS = "INSERT INTO decision (farm_id, decision_id, field_id, at, cause, mm, minutes, reason,
            depletion_mm, total_mm, readily_mm, rain_mm, probes, untrusted, stations, confirmed)
        SELECT $1, r.* FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::double precision[],
            $7::integer[], $8::text[], $9::double precision[], $10::double precision[], $11::double precision[],
            $12::double precision[], $13::bigint[], $14::bigint[], $15::jsonb[], $16::jsonb[]) AS r
        ON CONFLICT (farm_id, decision_id) DO UPDATE SET confirmed = excluded.confirmed
            WHERE jsonb_array_length(decision.confirmed) < jsonb_array_length(excluded.confirmed)";
}

/// Refuses a decision that the table cannot hold.
pub(super) fn check(index: usize, decision: &Decision, latest: Timestamp) -> Result<(), Refusal> {
    check_time(index, "at", decision.at, latest)?;
    check_text(index, "id", &decision.id)?;
    check_text(index, "reason", &decision.reason)
}

/// Stores decisions. Gives the number of rows that are new or other ones than before.
pub(super) async fn store(
    connection: &mut PgConnection,
    farm: &FarmId,
    decisions: &[&Decision],
) -> Result<u64, sqlx::Error> {
    // Of one that comes several times in a batch, the last: the lane is in the order in which it was told.
    let once: BTreeMap<&str, &Decision> = decisions.iter().map(|d| (d.id.as_str(), *d)).collect();
    let decisions: Vec<&Decision> = once.into_values().collect();
    let numbers = |number: fn(&Decision) -> Option<f64>| decisions.iter().map(|d| number(d)).collect::<Vec<_>>();
    let minutes = |d: &&Decision| d.run.map(|run| i32::try_from(run.minutes).unwrap_or(i32::MAX));
    let outcome = sqlx::query(INSERT_DECISIONS)
        .bind(farm.as_str())
        .bind(decisions.iter().map(|d| d.id.as_str()).collect::<Vec<_>>())
        .bind(decisions.iter().map(|d| d.field.as_str()).collect::<Vec<_>>())
        .bind(decisions.iter().map(|d| SqlTime(d.at)).collect::<Vec<_>>())
        .bind(decisions.iter().map(|d| d.cause.name()).collect::<Vec<_>>())
        .bind(numbers(|d| d.run.map(|run| run.mm)))
        .bind(decisions.iter().map(minutes).collect::<Vec<_>>())
        .bind(decisions.iter().map(|d| d.reason.as_str()).collect::<Vec<_>>())
        .bind(numbers(|d| d.inputs.depletion_mm))
        .bind(numbers(|d| Some(d.inputs.total_mm)))
        .bind(numbers(|d| Some(d.inputs.readily_mm)))
        .bind(numbers(|d| d.inputs.rain_mm))
        .bind(decisions.iter().map(|d| i64::from(d.inputs.probes)).collect::<Vec<_>>())
        .bind(decisions.iter().map(|d| i64::from(d.inputs.untrusted)).collect::<Vec<_>>())
        .bind(decisions.iter().map(|d| Json(&d.stations)).collect::<Vec<_>>())
        .bind(decisions.iter().map(|d| Json(&d.confirmed)).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(outcome.rows_affected())
}
