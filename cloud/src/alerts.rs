//! Alerts, as they are read.

use proto::{FarmId, StationId};
use serde::Deserialize;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::api::types::{Alert, AlertKind, AlertPage, AlertState, Driver};
use crate::database::{SqlTime, statements};
use crate::inventory::stored_channel;
use crate::paging::Page;

macro_rules! list {
    ($condition:literal) => {
        concat!(
            "SELECT a.alert_id, a.station_id, s.field_id, a.channel, a.kind, a.opened, a.updated, a.closed, a.score,
                 a.threshold, a.value, a.drivers, a.model, a.message
             FROM alert a JOIN station s ON s.farm_id = a.farm_id AND s.station_id = a.station_id
             WHERE a.farm_id = $1 AND ($2::text IS NULL OR a.station_id = $2)
                 AND ($3::timestamptz IS NULL OR (a.opened, a.alert_id) < ($3, $4))",
            $condition,
            " ORDER BY a.opened DESC, a.alert_id DESC LIMIT $5"
        )
    };
}

statements! {
    /// $1 farm, $2 station or null for all, $3 and $4 opening and id of the last alert of the page before, or null for
    /// the first page, $5 how many at most.
    ALL = list!("");

    /// The same, of those that are open.
    OPEN = list!(" AND a.closed IS NULL");

    /// The same, of those that are closed.
    CLOSED = list!(" AND a.closed IS NOT NULL");
}

#[derive(sqlx::FromRow)]
struct AlertRow {
    alert_id: String,
    station_id: String,
    field_id: Option<String>,
    channel: Option<String>,
    kind: String,
    opened: SqlTime,
    updated: SqlTime,
    closed: Option<SqlTime>,
    score: f64,
    threshold: f64,
    value: Option<f64>,
    drivers: Json<Vec<StoredDriver>>,
    model: Option<String>,
    message: String,
}

#[derive(Deserialize)]
struct StoredDriver {
    channel: proto::Channel,
    share: f64,
}

impl TryFrom<AlertRow> for Alert {
    type Error = sqlx::Error;

    fn try_from(row: AlertRow) -> Result<Self, sqlx::Error> {
        let kind = proto::AlertKind::ALL.into_iter().find(|kind| kind.name() == row.kind);
        let kind = kind.ok_or_else(|| sqlx::Error::Decode(format!("unknown alert kind {:?}", row.kind).into()))?;
        let drivers = row.drivers.0.into_iter().map(|StoredDriver { channel, share }| Driver { channel, share });
        Ok(Self {
            id: row.alert_id,
            station: row.station_id,
            field: row.field_id,
            channel: row.channel.as_deref().map(stored_channel).transpose()?,
            kind: kind.into(),
            opened: row.opened.0,
            updated: row.updated.0,
            closed: row.closed.map(|time| time.0),
            score: row.score,
            threshold: row.threshold,
            value: row.value,
            drivers: drivers.collect(),
            model: row.model,
            message: row.message,
        })
    }
}

impl From<proto::AlertKind> for AlertKind {
    fn from(kind: proto::AlertKind) -> Self {
        match kind {
            proto::AlertKind::Anomaly => Self::Anomaly,
            proto::AlertKind::Stuck => Self::Stuck,
            proto::AlertKind::Spike => Self::Spike,
            proto::AlertKind::Dropout => Self::Dropout,
            proto::AlertKind::Silent => Self::Silent,
        }
    }
}

/// A page of a farm's alerts, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn page(
    connection: &mut PgConnection,
    farm: &FarmId,
    state: AlertState,
    station: Option<&StationId>,
    page: &Page,
) -> Result<AlertPage, sqlx::Error> {
    let statement = match state {
        AlertState::All => ALL,
        AlertState::Open => OPEN,
        AlertState::Closed => CLOSED,
    };
    let mut rows: Vec<AlertRow> = sqlx::query_as(statement)
        .bind(farm.as_str())
        .bind(station.map(StationId::as_str))
        .bind(page.at())
        .bind(page.id())
        .bind(page.rows())
        .fetch_all(connection)
        .await?;
    let next = page.cut(&mut rows, |row| (row.opened, &row.alert_id));
    let items = rows.into_iter().map(Alert::try_from).collect::<Result<_, _>>()?;
    Ok(AlertPage { items, next })
}
