//! From a gateway's batch to the tables: exactly once, whatever is sent how often.
//!
//! The rows of a batch, the sequence of its lane and the word to the browsers are one transaction. The lane's row in
//! `uplink_progress` is locked first, so two processes that get the same batch at once take turns, and the second finds
//! it stored. Rows go in by the column (`unnest`), never one by one.
//!
//! This module knows nothing of HTTP, compression or sessions.

pub mod alerts;
pub mod births;
pub mod decisions;
pub mod readings;
pub mod windows;

use std::collections::{BTreeMap, BTreeSet};

use proto::uplink::MAX_UNTIMELY;
use proto::{FarmId, GatewayId, Lane, Record, StationId, Timestamp, Untimely, UpdateStatus, UplinkBatch};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use crate::api::types::ChangeKind;
use crate::changes;
use crate::database::{SqlTime, statements};
use crate::registry::events;

statements! {
    /// Locks the lane's row, which is made when the lane is new. $1 farm, $2 gateway, $3 store, $4 lane.
    LOCK_LANE = "INSERT INTO uplink_progress AS p (farm_id, gateway_id, store_id, lane, sequence) VALUES ($1, $2, $3, $4, 0)
        ON CONFLICT (farm_id, gateway_id, store_id, lane) DO UPDATE SET sequence = p.sequence RETURNING sequence";

    /// $1 farm, $2 gateway, $3 store, $4 lane, $5 sequence.
    ADVANCE_LANE = "UPDATE uplink_progress SET sequence = $5
        WHERE farm_id = $1 AND gateway_id = $2 AND store_id = $3 AND lane = $4";

    /// $1 farm, $2 gateway, $3 time.
    GATEWAY_SEEN = "UPDATE gateway SET last_seen = greatest(last_seen, $3) WHERE farm_id = $1 AND gateway_id = $2";

    /// $1 farm, $2 gateway, $3 time, $4 report.
    GATEWAY_STATUS = "UPDATE gateway SET last_seen = greatest(last_seen, $3), status = $4
        WHERE farm_id = $1 AND gateway_id = $2";

    /// Makes the stations that are not known yet, and locks them all until the transaction's end, always in the same
    /// order: two gateways may hear the same stations, and roll-ups of one station are made by one at a time.
    /// $1 farm, $2 stations, $3 up to when each was heard, or null.
    HEAR_STATIONS = "INSERT INTO station AS s (farm_id, station_id, last_heard)
        SELECT $1, h.station_id, h.heard FROM unnest($2::text[], $3::timestamptz[]) AS h (station_id, heard)
        ORDER BY h.station_id
        ON CONFLICT (farm_id, station_id) DO UPDATE SET last_heard = greatest(s.last_heard, excluded.last_heard)";

    /// What a gateway last said of its models; its row is locked, so that reports take turns. $1 farm, $2 gateway.
    LAST_UPDATE = "SELECT status -> 'update' FROM gateway WHERE farm_id = $1 AND gateway_id = $2 FOR UPDATE";

    /// $1 farm, $2 gateway, $3 stations, $4 to $6 how many by reason.
    UPSERT_UNTIMELY = "INSERT INTO untimely (farm_id, gateway_id, station_id, late, future, clock)
        SELECT $1, $2, r.* FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[]) AS r
        ON CONFLICT (farm_id, station_id, gateway_id) DO UPDATE
            SET late = excluded.late, future = excluded.future, clock = excluded.clock";

    /// $1 hash of the token.
    FIND_GATEWAY = "SELECT farm_id, gateway_id FROM gateway WHERE token_sha256 = $1";
}

/// The earliest time that a record may bear. Together with [`LATEST_AFTER_NOW_S`] it bounds how many partitions
/// anybody can have made.
pub const EARLIEST: Timestamp = Timestamp::from_secs(946_684_800); // 2000-01-01T00:00:00Z

/// How far a record may be ahead of the farm's clock, in seconds: clocks differ, but not by a month.
pub const LATEST_AFTER_NOW_S: i64 = 31 * 24 * 3600;

/// A record that cannot be stored, and with it its batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} {reason}")]
pub struct Refusal {
    /// Which field of which record, like `records[3].start`.
    pub field: String,
    /// What it held.
    pub value: String,
    /// Why that cannot be.
    pub reason: String,
}

impl Refusal {
    fn new(index: usize, field: &str, value: impl ToString, reason: impl Into<String>) -> Self {
        Self { field: format!("records[{index}].{field}"), value: value.to_string(), reason: reason.into() }
    }
}

/// Why nothing of a batch was stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Records between what is stored and this batch are missing, or it begins among what is stored and goes beyond: a store
    /// sends a batch again as it was, so one that was set back sends other records under numbers that are taken.
    #[error("the batch begins at {first}, and {expected} comes next")]
    Gap {
        /// The batch's first sequence.
        first: u64,
        /// The one that comes next.
        expected: u64,
    },
    /// A record cannot be stored.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database failed; the same batch may go well the next time.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The highest sequence of the lane that is stored.
    pub sequence: u64,
    /// Records of this batch that were not stored before.
    pub records: u64,
    /// Rows that were written for them, roll-ups not counted.
    pub rows: u64,
}

/// Stores what is new in a batch. `now` is farm time.
///
/// # Errors
/// [`IngestError`]; nothing is stored then.
pub async fn ingest(pool: &PgPool, batch: &UplinkBatch, now: Timestamp) -> Result<Receipt, IngestError> {
    let records = Records::checked(batch, now)?;
    records.make_partitions(pool).await?;

    let mut transaction = pool.begin().await?;
    let (farm, gateway, lane) = (batch.farm.as_str(), batch.gateway.as_str(), batch.lane.name());
    let store = batch.store.cast_signed();
    let stored: i64 = sqlx::query_scalar(LOCK_LANE)
        .bind(farm)
        .bind(gateway)
        .bind(store)
        .bind(lane)
        .fetch_one(&mut *transaction)
        .await?;
    let stored = stored.unsigned_abs();
    let last = batch.last();
    if last <= stored {
        return Ok(Receipt { sequence: stored, records: 0, rows: 0 });
    }
    // A gateway that names no store gets what it always got: what is stored is skipped.
    if batch.first > stored + 1 || (batch.store > 0 && batch.first <= stored) {
        return Err(IngestError::Gap { first: batch.first, expected: stored + 1 });
    }

    let skipped = usize::try_from(stored + 1 - batch.first).unwrap_or(usize::MAX);
    let (rows, news) = records.store(&mut transaction, &batch.farm, skipped).await?;
    sqlx::query(ADVANCE_LANE)
        .bind(farm)
        .bind(gateway)
        .bind(store)
        .bind(lane)
        .bind(last.cast_signed())
        .execute(&mut *transaction)
        .await?;
    sqlx::query(GATEWAY_SEEN).bind(farm).bind(gateway).bind(SqlTime(now)).execute(&mut *transaction).await?;
    let stations = news.heard.keys().copied().collect();
    changes::announce(&mut transaction, &batch.farm, news.kind, &stations, news.until).await?;
    transaction.commit().await?;
    Ok(Receipt { sequence: last, records: last - stored, rows })
}

/// The records of a batch, of one lane, each of them fit to be stored.
enum Records<'a> {
    Windows(Vec<&'a proto::Window>),
    Alerts(Vec<&'a proto::Alert>),
    Births(Vec<&'a proto::StationBirth>),
    Backfill(Vec<&'a Record>),
    Decisions(Vec<&'a proto::Decision>),
}

/// What is to be announced.
struct News<'a> {
    kind: ChangeKind,
    heard: Heard<'a>,
    until: Timestamp,
}

/// The stations of some records, in order, and up to when each was heard if the records say so.
type Heard<'a> = BTreeMap<&'a StationId, Option<Timestamp>>;

impl<'a> Records<'a> {
    fn checked(batch: &'a UplinkBatch, now: Timestamp) -> Result<Self, Refusal> {
        let latest = now.plus_secs(LATEST_AFTER_NOW_S);
        let records = batch.records.iter().enumerate();
        let other = |index| Refusal::new(index, "kind", "another", format!("is not of lane {}", batch.lane.name()));
        match batch.lane {
            Lane::Aggregates => {
                let window = |(index, record): (usize, &'a Record)| match record {
                    Record::Window(window) => windows::check(index, window, latest).map(|()| window),
                    _ => Err(other(index)),
                };
                records.map(window).collect::<Result<_, _>>().map(Self::Windows)
            }
            Lane::Alerts => {
                let alert = |(index, record): (usize, &'a Record)| match record {
                    Record::Alert(alert) => alerts::check(index, alert, latest).map(|()| alert),
                    _ => Err(other(index)),
                };
                records.map(alert).collect::<Result<_, _>>().map(Self::Alerts)
            }
            Lane::Births => {
                let birth = |(index, record): (usize, &'a Record)| match record {
                    Record::Birth(birth) => births::check(index, birth, latest).map(|()| birth),
                    _ => Err(other(index)),
                };
                records.map(birth).collect::<Result<_, _>>().map(Self::Births)
            }
            Lane::Decisions => {
                let decision = |(index, record): (usize, &'a Record)| match record {
                    Record::Decision(decision) => decisions::check(index, decision, latest).map(|()| decision),
                    _ => Err(other(index)),
                };
                records.map(decision).collect::<Result<_, _>>().map(Self::Decisions)
            }
            Lane::Backfill => {
                let late = |(index, record): (usize, &'a Record)| match record {
                    Record::Window(window) => windows::check(index, window, latest).map(|()| record),
                    Record::Raw(raw) => readings::check(index, raw, latest).map(|()| record),
                    _ => Err(other(index)),
                };
                records.map(late).collect::<Result<_, _>>().map(Self::Backfill)
            }
        }
    }

    /// Makes the partitions that are not there yet.
    async fn make_partitions(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        match self {
            Self::Windows(windows) => windows::make_partitions(pool, windows).await,
            Self::Backfill(records) => {
                let (windows, raw) = split(records);
                windows::make_partitions(pool, &windows).await?;
                readings::make_partitions(pool, &raw).await
            }
            Self::Alerts(_) | Self::Births(_) | Self::Decisions(_) => Ok(()),
        }
    }

    /// Stores all but the first `skipped` records. Gives the number of rows, and what to announce.
    async fn store(
        &self,
        connection: &mut PgConnection,
        farm: &FarmId,
        skipped: usize,
    ) -> Result<(u64, News<'a>), sqlx::Error> {
        match self {
            Self::Windows(windows) => {
                let windows = &windows[skipped..];
                let heard = heard(windows.iter().map(|window| (&window.station, Some(window.end()))));
                hear(connection, farm, &heard).await?;
                let rows = windows::store(connection, farm, windows).await?;
                Ok((rows, News::of(ChangeKind::Aggregates, heard, windows.iter().map(|window| window.end()))))
            }
            Self::Alerts(alerts) => {
                let alerts = &alerts[skipped..];
                let heard = heard(alerts.iter().map(|alert| (&alert.station, None)));
                hear(connection, farm, &heard).await?;
                let rows = alerts::store(connection, farm, alerts).await?;
                Ok((rows, News::of(ChangeKind::Alerts, heard, alerts.iter().map(|alert| alert.updated))))
            }
            Self::Births(births) => {
                let births = &births[skipped..];
                let heard = heard(births.iter().map(|birth| (&birth.station, Some(birth.at))));
                hear(connection, farm, &heard).await?;
                let rows = births::store(connection, farm, births).await?;
                Ok((rows, News::of(ChangeKind::Births, heard, births.iter().map(|birth| birth.at))))
            }
            Self::Decisions(decisions) => {
                let decisions = &decisions[skipped..];
                let rows = decisions::store(connection, farm, decisions).await?;
                let times = decisions.iter().map(|decision| decision.at);
                Ok((rows, News::of(ChangeKind::Decisions, Heard::new(), times)))
            }
            Self::Backfill(records) => {
                let (windows, raw) = split(&records[skipped..]);
                let of_windows = windows.iter().map(|window| (&window.station, window.end()));
                let of_raw = raw.iter().filter_map(|raw| Some((&raw.station, raw.readings.last()?.time)));
                let times: Vec<_> = of_windows.chain(of_raw).collect();
                // Stations in one order for all that lock them: at once, and not windows first.
                let heard = heard(times.iter().map(|(station, at)| (*station, Some(*at))));
                hear(connection, farm, &heard).await?;
                let rows =
                    windows::store(connection, farm, &windows).await? + readings::store(connection, farm, &raw).await?;
                Ok((rows, News::of(ChangeKind::Aggregates, heard, times.into_iter().map(|(_, at)| at))))
            }
        }
    }
}

/// The windows and the raw readings among some records.
fn split<'a>(records: &[&'a Record]) -> (Vec<&'a proto::Window>, Vec<&'a proto::RawReadings>) {
    let windows = records.iter().filter_map(|r| if let Record::Window(window) = r { Some(window) } else { None });
    let raw = records.iter().filter_map(|r| if let Record::Raw(raw) = r { Some(raw) } else { None });
    (windows.collect(), raw.collect())
}

impl<'a> News<'a> {
    fn of(kind: ChangeKind, heard: Heard<'a>, times: impl Iterator<Item = Timestamp>) -> Self {
        Self { kind, heard, until: times.max().unwrap_or(EARLIEST) }
    }
}

fn heard<'a>(records: impl Iterator<Item = (&'a StationId, Option<Timestamp>)>) -> Heard<'a> {
    let mut heard = Heard::new();
    for (station, at) in records {
        let latest = heard.entry(station).or_default();
        *latest = (*latest).max(at);
    }
    heard
}

async fn hear(connection: &mut PgConnection, farm: &FarmId, heard: &Heard<'_>) -> Result<(), sqlx::Error> {
    let (stations, times): (Vec<&str>, Vec<Option<SqlTime>>) =
        heard.iter().map(|(station, at)| (station.as_str(), at.map(SqlTime))).unzip();
    sqlx::query(HEAR_STATIONS).bind(farm.as_str()).bind(stations).bind(times).execute(connection).await?;
    Ok(())
}

/// Refuses a time that no farm of ours can have measured at.
fn check_time(index: usize, field: &str, time: Timestamp, latest: Timestamp) -> Result<(), Refusal> {
    if (EARLIEST..=latest).contains(&time) {
        Ok(())
    } else {
        Err(Refusal::new(index, field, time, format!("must be from {EARLIEST} to {latest}")))
    }
}

/// Refuses text that PostgreSQL cannot hold.
fn check_text(index: usize, field: &str, text: &str) -> Result<(), Refusal> {
    if text.contains('\0') {
        Err(Refusal::new(index, field, text.escape_default(), "holds a zero byte"))
    } else {
        Ok(())
    }
}

/// Stores a gateway's report of itself, and what it says of its models that the report before did not. A station that it
/// rejects readings of is one of the farm's, whether anything else was ever heard of it or not.
///
/// # Errors
/// When the database does not answer.
pub async fn store_status(
    pool: &PgPool,
    farm: &FarmId,
    gateway: &GatewayId,
    status: &proto::GatewayStatus,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    hear_untimely(pool, farm, &status.untimely, now).await?;
    let mut transaction = pool.begin().await?;
    let before: Option<Option<Json<serde_json::Value>>> = sqlx::query_scalar(LAST_UPDATE)
        .bind(farm.as_str())
        .bind(gateway.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
    // What an older version stored in another shape is as if it were not there.
    let before = before.flatten().and_then(|Json(update)| serde_json::from_value::<UpdateStatus>(update).ok());
    let events = events::between(gateway, before.as_ref(), &status.update);
    events::store(&mut transaction, farm, &events).await?;
    sqlx::query(GATEWAY_STATUS)
        .bind(farm.as_str())
        .bind(gateway.as_str())
        .bind(SqlTime(now))
        .bind(Json(status))
        .execute(&mut *transaction)
        .await?;
    store_untimely(&mut transaction, farm, gateway, &status.untimely).await?;
    changes::announce(&mut transaction, farm, ChangeKind::Status, &BTreeSet::new(), now).await?;
    transaction.commit().await
}

/// Makes the stations of which only untimely readings are known. In a transaction of its own: a batch locks stations before its
/// gateway, and a report the other way round.
async fn hear_untimely(
    pool: &PgPool,
    farm: &FarmId,
    untimely: &BTreeMap<StationId, Untimely>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let told = heard(untimely.keys().take(MAX_UNTIMELY).map(|station| (station, None)));
    if told.is_empty() {
        return Ok(());
    }
    let mut transaction = pool.begin().await?;
    hear(&mut transaction, farm, &told).await?;
    changes::announce(&mut transaction, farm, ChangeKind::Births, &told.keys().copied().collect(), now).await?;
    transaction.commit().await
}

/// Stores what a gateway counts of stations' untimely readings; more than it may tell of at a time is not kept.
async fn store_untimely(
    connection: &mut PgConnection,
    farm: &FarmId,
    gateway: &GatewayId,
    untimely: &BTreeMap<StationId, Untimely>,
) -> Result<(), sqlx::Error> {
    if untimely.is_empty() {
        return Ok(());
    }
    let told = || untimely.iter().take(MAX_UNTIMELY);
    let numbers = |number: fn(&Untimely) -> u64| {
        told().map(|(_, of)| i64::try_from(number(of)).unwrap_or(i64::MAX)).collect::<Vec<_>>()
    };
    sqlx::query(UPSERT_UNTIMELY)
        .bind(farm.as_str())
        .bind(gateway.as_str())
        .bind(told().map(|(station, _)| station.as_str()).collect::<Vec<_>>())
        .bind(numbers(|of| of.late))
        .bind(numbers(|of| of.future))
        .bind(numbers(|of| of.clock))
        .execute(connection)
        .await?;
    Ok(())
}

/// The gateway that bears a token of this hash, if any.
///
/// # Errors
/// When the database does not answer.
pub async fn gateway_of_token(
    pool: &PgPool,
    token_sha256: [u8; 32],
) -> Result<Option<(FarmId, GatewayId)>, sqlx::Error> {
    let found: Option<(String, String)> = sqlx::query_as(FIND_GATEWAY).bind(token_sha256).fetch_optional(pool).await?;
    found
        .map(|(farm, gateway)| {
            let wrong = |error: proto::id::InvalidId| sqlx::Error::Decode(error.into());
            Ok((farm.parse().map_err(wrong)?, gateway.parse().map_err(wrong)?))
        })
        .transpose()
}
