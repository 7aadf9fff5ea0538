//! Decisions on irrigation, as they are read.

use std::fmt;
use std::str::FromStr;

use proto::{FarmId, FieldId, Timestamp};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::api::types::{Decision, DecisionCause, DecisionPage};
use crate::database::{SqlTime, statements};

macro_rules! list {
    ($condition:literal) => {
        concat!(
            "SELECT decision_id, field_id, at, cause, mm, minutes, reason, depletion_mm, total_mm, readily_mm, rain_mm,
                 probes, untrusted, stations, confirmed
             FROM decision
             WHERE farm_id = $1 AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
                 AND ($4::timestamptz IS NULL OR (at, decision_id) < ($4, $5))",
            $condition,
            " ORDER BY at DESC, decision_id DESC LIMIT $6"
        )
    };
}

statements! {
    /// $1 farm, $2 from when or null, $3 before when or null, $4 and $5 time and id of the last decision of the page before,
    /// or null for the first page, $6 how many at most.
    OF_FARM = list!("");

    /// The same, of $7 field.
    OF_FIELD = list!(" AND field_id = $7");
}

/// What decisions are asked for.
#[derive(Debug)]
pub struct Selection {
    /// Only those for this field.
    pub field: Option<FieldId>,
    /// From when.
    pub from: Option<Timestamp>,
    /// Before when.
    pub to: Option<Timestamp>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// How many at most.
    pub limit: u32,
}

/// Where a page of decisions ended. Clients take it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    at: Timestamp,
    id: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}", self.at.as_millis(), self.id)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(value: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is not what a page gave as next";
        let (at, id) = value.split_once('~').ok_or(WRONG)?;
        if id.is_empty() || id.len() > proto::decision::MAX_TEXT || id.contains('\0') {
            return Err(WRONG);
        }
        Ok(Self { at: Timestamp::from_millis(at.parse().map_err(|_| WRONG)?), id: id.to_owned() })
    }
}

#[derive(sqlx::FromRow)]
struct DecisionRow {
    decision_id: String,
    field_id: String,
    at: SqlTime,
    cause: String,
    mm: Option<f64>,
    minutes: Option<i32>,
    reason: String,
    depletion_mm: Option<f64>,
    total_mm: f64,
    readily_mm: f64,
    rain_mm: Option<f64>,
    probes: i64,
    untrusted: i64,
    stations: Json<Vec<String>>,
    confirmed: Json<Vec<String>>,
}

impl TryFrom<DecisionRow> for Decision {
    type Error = sqlx::Error;

    fn try_from(row: DecisionRow) -> Result<Self, sqlx::Error> {
        let cause = proto::decision::Cause::ALL.into_iter().find(|cause| cause.name() == row.cause);
        let cause = cause.ok_or_else(|| sqlx::Error::Decode(format!("unknown cause {:?}", row.cause).into()))?;
        Ok(Self {
            id: row.decision_id,
            field: row.field_id,
            at: row.at.0,
            cause: cause.into(),
            mm: row.mm,
            minutes: row.minutes.map(i32::unsigned_abs),
            reason: row.reason,
            depletion_mm: row.depletion_mm,
            total_mm: row.total_mm,
            readily_mm: row.readily_mm,
            rain_mm: row.rain_mm,
            probes: row.probes.unsigned_abs(),
            untrusted: row.untrusted.unsigned_abs(),
            stations: row.stations.0,
            confirmed: row.confirmed.0,
        })
    }
}

impl From<proto::decision::Cause> for DecisionCause {
    fn from(cause: proto::decision::Cause) -> Self {
        use proto::decision::Cause;
        match cause {
            Cause::Due => Self::Due,
            Cause::Moist => Self::Moist,
            Cause::Rain => Self::Rain,
            Cause::Settling => Self::Settling,
            Cause::Hours => Self::Hours,
            Cause::Spent => Self::Spent,
            Cause::Small => Self::Small,
            Cause::Untrusted => Self::Untrusted,
            Cause::Unconfirmed => Self::Unconfirmed,
        }
    }
}

/// A page of a farm's decisions, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn page(
    connection: &mut PgConnection,
    farm: &FarmId,
    selection: &Selection,
) -> Result<DecisionPage, sqlx::Error> {
    let Selection { field, from, to, after, limit } = selection;
    let mut query = sqlx::query_as(if field.is_some() { OF_FIELD } else { OF_FARM })
        .bind(farm.as_str())
        .bind(from.map(SqlTime))
        .bind(to.map(SqlTime))
        .bind(after.as_ref().map(|cursor| SqlTime(cursor.at)))
        .bind(after.as_ref().map(|cursor| cursor.id.as_str()))
        .bind(i64::from(*limit) + 1);
    if let Some(field) = field {
        query = query.bind(field.as_str());
    }
    let rows: Vec<DecisionRow> = query.fetch_all(connection).await?;
    let more = rows.len() > *limit as usize;
    let rows = rows.into_iter().take(*limit as usize);
    let items = rows.map(Decision::try_from).collect::<Result<Vec<_>, _>>()?;
    let last = items.last().filter(|_| more);
    let next = last.map(|decision| Cursor { at: decision.at, id: decision.id.clone() }.to_string());
    Ok(DecisionPage { items, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { at: Timestamp::from_millis(900_000), id: "north/900000".to_owned() };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for wrong in ["", "~", "7", "7~", "x~north/7", "7~a\0b"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong:?}");
        }
    }
}
