//! Models that run on nodes: their versions in the registry, and what a farm's nodes are to run. The latter is one signed
//! target for each farm, which all its gateways read.

use std::collections::BTreeSet;

use proto::node_model::MAX_BYTES;
use proto::rollout::{Order, node_model_target, rollout_target};
use proto::{FarmId, NodeModelFile, NodeRollout, StationId, Timestamp};
use sha2::{Digest as _, Sha256};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use super::assign::AssignError;
use super::{Publication, Publisher, PushError};
use crate::api::types::{
    ChangeKind, FarmNodes, GatewayNodes, NodeModelVersion, NodeOrder, NodesStatus, Rollout, SetRollout,
};
use crate::database::{SqlTime, statements};
use crate::{changes, clock};

statements! {
    /// $1 name, $2 version.
    DIGEST = "SELECT sha256 FROM node_model_version WHERE name = $1 AND version = $2";

    /// The columns of node_model_version.
    ADD_VERSION = "INSERT INTO node_model_version
            (name, version, sha256, bytes, channels, steps, hidden, trained_on, pushed_at, pushed_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

    /// $1 how many at most.
    VERSIONS = "SELECT name, version, sha256, bytes, channels, steps, hidden, trained_on, pushed_at, pushed_by
        FROM node_model_version ORDER BY pushed_at DESC, name, version LIMIT $1";

    /// $1 farm.
    CURRENT = "SELECT r.name, r.version, v.sha256, r.serial, r.what, r.stations, r.share, r.most_failed, r.changed_at,
            r.changed_by
        FROM node_rollout r JOIN node_model_version v ON v.name = r.name AND v.version = r.version
        WHERE r.farm_id = $1 ORDER BY r.serial DESC LIMIT 1";

    /// The columns of node_rollout; the serial is the next one, and is given back.
    ADD_ROLLOUT = "INSERT INTO node_rollout
            (farm_id, serial, name, version, what, stations, share, most_failed, changed_at, changed_by)
        SELECT $1, coalesce(max(serial), 0) + 1, $2, $3, $4, $5, $6, $7, $8, $9 FROM node_rollout WHERE farm_id = $1
        RETURNING serial";

    /// $1 farm.
    GATEWAYS = "SELECT gateway_id, name, status -> 'update' -> 'nodes' FROM gateway WHERE farm_id = $1 ORDER BY gateway_id";
}

/// The most versions in a list.
const MOST_LISTED: i64 = 500;
/// The longest description, in bytes.
const MOST_TEXT: usize = 4096;

#[derive(sqlx::FromRow)]
struct VersionRow {
    name: String,
    version: String,
    sha256: Vec<u8>,
    bytes: i64,
    channels: Json<Vec<String>>,
    steps: i64,
    hidden: i64,
    trained_on: String,
    pushed_at: SqlTime,
    pushed_by: String,
}

impl From<VersionRow> for NodeModelVersion {
    fn from(row: VersionRow) -> Self {
        let count = |count: i64| u32::try_from(count).unwrap_or(0);
        Self {
            name: row.name,
            version: row.version,
            sha256: hex::encode(row.sha256),
            bytes: row.bytes.unsigned_abs(),
            channels: row.channels.0,
            steps: count(row.steps),
            hidden: count(row.hidden),
            trained_on: row.trained_on,
            pushed_at: row.pushed_at.0,
            pushed_by: row.pushed_by,
        }
    }
}

#[derive(sqlx::FromRow)]
struct RolloutRow {
    name: String,
    version: String,
    sha256: Vec<u8>,
    serial: i64,
    what: String,
    stations: Json<Vec<String>>,
    share: f64,
    most_failed: f64,
    changed_at: SqlTime,
    changed_by: String,
}

impl TryFrom<RolloutRow> for Rollout {
    type Error = sqlx::Error;

    fn try_from(row: RolloutRow) -> Result<Self, sqlx::Error> {
        let order = Order::ALL.into_iter().find(|order| order.name() == row.what);
        let order = order.ok_or_else(|| sqlx::Error::Decode(format!("unknown order {:?}", row.what).into()))?;
        Ok(Self {
            name: row.name,
            version: row.version,
            sha256: hex::encode(row.sha256),
            serial: row.serial.unsigned_abs(),
            order: NodeOrder(order),
            stations: row.stations.0,
            share: row.share,
            most_failed: row.most_failed,
            at: row.changed_at.0,
            by: row.changed_by,
        })
    }
}

/// Registers a version: its file and its row, or nothing. The version is the file's own.
///
/// # Errors
/// [`PushError`].
pub async fn push(
    pool: &PgPool,
    publisher: &Publisher,
    name: &str,
    bytes: &[u8],
    trained_on: &str,
    by: &str,
) -> Result<NodeModelVersion, PushError> {
    let file = inspect(name, bytes, trained_on).map_err(PushError::Mistakes)?;
    let version = file.version.to_string();
    let mut transaction = pool.begin().await?;
    let mut publication = Publication::begin(&mut transaction, publisher).await?;
    let existing: Option<Vec<u8>> =
        sqlx::query_scalar(DIGEST).bind(name).bind(&version).fetch_optional(&mut *transaction).await?;
    if let Some(existing) = existing {
        let same = existing == Sha256::digest(bytes)[..];
        return Err(PushError::Exists { name: name.to_owned(), version, same });
    }
    let custom = [("kind", "node-model"), ("name", name), ("version", version.as_str())];
    let target = node_model_target(name, file.version);
    let sha256 = publication.add(&mut transaction, &target, bytes, &custom).await?;
    let row = VersionRow {
        name: name.to_owned(),
        version: version.clone(),
        sha256: sha256.to_vec(),
        bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
        channels: Json(file.channels.iter().map(ToString::to_string).collect()),
        steps: i64::try_from(file.steps).unwrap_or(0),
        hidden: i64::try_from(file.first.weights.len()).unwrap_or(0),
        trained_on: trained_on.to_owned(),
        pushed_at: SqlTime(clock::wall()),
        pushed_by: by.to_owned(),
    };
    sqlx::query(ADD_VERSION)
        .bind(&row.name)
        .bind(&row.version)
        .bind(&row.sha256)
        .bind(row.bytes)
        .bind(&row.channels)
        .bind(row.steps)
        .bind(row.hidden)
        .bind(&row.trained_on)
        .bind(row.pushed_at)
        .bind(&row.pushed_by)
        .execute(&mut *transaction)
        .await?;
    publication.finish(&mut transaction).await?;
    changes::announce_everywhere(&mut transaction, ChangeKind::Models).await?;
    transaction.commit().await?;
    Ok(row.into())
}

/// Reads a file, and says everything that is wrong with what is to be registered.
fn inspect(name: &str, bytes: &[u8], trained_on: &str) -> Result<NodeModelFile, Vec<String>> {
    let mut wrong = Vec::new();
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !is_name {
        let shown: String = name.chars().take(64).collect();
        wrong.push(format!("name: {shown:?} is not 1 to 64 characters of a-z, 0-9 and -"));
    }
    if trained_on.len() > MOST_TEXT || trained_on.contains('\0') {
        wrong.push(format!("trained_on: {} bytes, of which none is 0, are more than {MOST_TEXT}", trained_on.len()));
    }
    if bytes.len() > MAX_BYTES {
        wrong.push(format!("model: {} bytes are more than the {MAX_BYTES} that a node takes", bytes.len()));
        return Err(wrong);
    }
    match NodeModelFile::decode(bytes) {
        Ok(file) if wrong.is_empty() => Ok(file),
        Ok(_) => Err(wrong),
        Err(error) => {
            wrong.push(format!("model: {error}"));
            Err(wrong)
        }
    }
}

/// The newest versions, at most five hundred.
///
/// # Errors
/// When the database does not answer.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<NodeModelVersion>, sqlx::Error> {
    let rows: Vec<VersionRow> = sqlx::query_as(VERSIONS).bind(MOST_LISTED).fetch_all(connection).await?;
    Ok(rows.into_iter().map(NodeModelVersion::from).collect())
}

/// What a farm's nodes are to run, and how its gateways and stations stand.
///
/// # Errors
/// When the database does not answer.
pub async fn of_farm(connection: &mut PgConnection, farm: &FarmId) -> Result<FarmNodes, sqlx::Error> {
    type Row = (String, String, Option<Json<serde_json::Value>>);
    let rollout = current(connection, farm).await?;
    let rows: Vec<Row> = sqlx::query_as(GATEWAYS).bind(farm.as_str()).fetch_all(connection).await?;
    let gateway = |(id, name, nodes): Row| {
        // What another version stored in another shape is as if it were not there.
        let nodes: Option<proto::update::NodesStatus> =
            nodes.and_then(|Json(nodes)| serde_json::from_value(nodes).ok());
        GatewayNodes { id, name, nodes: nodes.map(NodesStatus::from) }
    };
    Ok(FarmNodes { rollout, gateways: rows.into_iter().map(gateway).collect() })
}

async fn current(connection: &mut PgConnection, farm: &FarmId) -> Result<Option<Rollout>, sqlx::Error> {
    let row: Option<RolloutRow> = sqlx::query_as(CURRENT).bind(farm.as_str()).fetch_optional(connection).await?;
    row.map(Rollout::try_from).transpose()
}

/// Sets what a farm's nodes are to run, and on which stations. What `change` leaves out stays as it is.
///
/// # Errors
/// [`AssignError`]; nothing has changed then.
pub async fn set(
    pool: &PgPool,
    publisher: &Publisher,
    farm: &FarmId,
    change: &SetRollout,
    by: &str,
    now: Timestamp,
) -> Result<(), AssignError> {
    let mut transaction = pool.begin().await?;
    let mut publication = Publication::begin(&mut transaction, publisher).await?;
    let before = current(&mut transaction, farm).await?;
    let of = |field: &'static str, given: &Option<String>, before: Option<&String>| {
        let missing = || AssignError::Value { field, value: String::new(), reason: "is missing".to_owned() };
        given.as_ref().or(before).cloned().ok_or_else(missing)
    };
    let name = of("name", &change.name, before.as_ref().map(|before| &before.name))?;
    let version = of("version", &change.version, before.as_ref().map(|before| &before.version))?;
    let unknown = || AssignError::Version { model: shown(&name), version: shown(&version) };
    if name.contains('\0') || version.contains('\0') {
        return Err(unknown());
    }
    let sha256: Option<Vec<u8>> =
        sqlx::query_scalar(DIGEST).bind(&name).bind(&version).fetch_optional(&mut *transaction).await?;
    let sha256 = hex::encode(sha256.ok_or_else(unknown)?);
    // Another model begins with nobody.
    let same = before.as_ref().filter(|before| before.sha256 == sha256);
    let named = change.stations.clone().or_else(|| same.map(|same| same.stations.clone())).unwrap_or_default();
    let stations = named.iter().map(|id| id.parse::<StationId>()).collect::<Result<BTreeSet<_>, _>>();
    let wrong = |field, value: String, reason: String| AssignError::Value { field, value, reason };
    let stations =
        stations.map_err(|error| wrong("stations", shown(&error.value), "is no station's name".to_owned()))?;
    let mut rollout = NodeRollout {
        version: version.parse().map_err(|_| unknown())?,
        sha256,
        serial: 1,
        order: change.order.map_or(Order::Go, |order| order.0),
        share: change.share.or_else(|| same.map(|same| same.share)).unwrap_or(0.0),
        most_failed: change.most_failed.or_else(|| same.map(|same| same.most_failed)).unwrap_or(0.1),
        stations,
        name,
    };
    if let Some(reason) = rollout.check().into_iter().next() {
        return Err(wrong("rollout", rollout.name.clone(), reason));
    }
    let serial: i64 = sqlx::query_scalar(ADD_ROLLOUT)
        .bind(farm.as_str())
        .bind(&rollout.name)
        .bind(rollout.version.to_string())
        .bind(rollout.order.name())
        .bind(Json(&rollout.stations))
        .bind(rollout.share)
        .bind(rollout.most_failed)
        .bind(SqlTime(now))
        .bind(by)
        .fetch_one(&mut *transaction)
        .await?;
    rollout.serial = serial.unsigned_abs();
    let bytes = rollout.to_json();
    publication.add(&mut transaction, &rollout_target(farm), bytes.as_bytes(), &[("kind", "rollout")]).await?;
    publication.finish(&mut transaction).await?;
    changes::announce(&mut transaction, farm, ChangeKind::Models, &BTreeSet::new(), now).await?;
    transaction.commit().await?;
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect::<String>().replace('\0', "\u{fffd}")
}
