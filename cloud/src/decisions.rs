//! Decisions on irrigation, as they are read.

use proto::{FarmId, FieldId, Timestamp};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::api::types::{Decision, DecisionCause, DecisionPage};
use crate::database::{SqlTime, statements};
use crate::paging::Page;

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
    /// Which page of them.
    pub page: Page,
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
    let Selection { field, from, to, page } = selection;
    let mut query = sqlx::query_as(if field.is_some() { OF_FIELD } else { OF_FARM })
        .bind(farm.as_str())
        .bind(from.map(SqlTime))
        .bind(to.map(SqlTime))
        .bind(page.at())
        .bind(page.id())
        .bind(page.rows());
    if let Some(field) = field {
        query = query.bind(field.as_str());
    }
    let mut rows: Vec<DecisionRow> = query.fetch_all(connection).await?;
    let next = page.cut(&mut rows, |row| (row.at, &row.decision_id));
    let items = rows.into_iter().map(Decision::try_from).collect::<Result<_, _>>()?;
    Ok(DecisionPage { items, next })
}
