//! What gateways are to run: which version of which model, and how it comes to be active. Each gateway finds its
//! assignments in a target of its own, so that they are signed as well, and cannot be brought back when they are over.

use std::collections::{BTreeMap, BTreeSet};

use proto::assignment::{MAX_SHADOW_S, assignment_target};
use proto::{Assignment, Assignments, FarmId, GatewayId, Timestamp};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use super::{Publication, Publisher, RegistryError, versions};
use crate::api::types::{Activation, ChangeKind, FarmModels, GatewayModels, ModelAssignment};
use crate::changes;
use crate::database::{SqlTime, statements};

statements! {
    /// What holds in a farm. $1 farm.
    CURRENT = "SELECT DISTINCT ON (a.gateway_id, a.model) a.gateway_id, a.model, a.version, a.serial, a.shadow_s,
            a.min_agreement, a.back_to, a.assigned_at, a.assigned_by, v.sha256
        FROM assignment a JOIN model_version v ON v.name = a.model AND v.version = a.version
        WHERE a.farm_id = $1 ORDER BY a.gateway_id, a.model, a.serial DESC";

    /// $1 farm, $2 gateway, $3 model, $4 serial.
    EARLIER = "SELECT version, back_to FROM assignment
        WHERE farm_id = $1 AND gateway_id = $2 AND model = $3 AND serial = $4";

    /// Whether a gateway has only ever been assigned one version. $1 farm, $2 gateway, $3 model.
    ONLY_ONE = "SELECT count(DISTINCT version) = 1 FROM assignment
        WHERE farm_id = $1 AND gateway_id = $2 AND model = $3";

    /// The columns of assignment; the serial is the next one.
    ADD = "INSERT INTO assignment (farm_id, gateway_id, model, serial, version, shadow_s, min_agreement, back_to,
            assigned_at, assigned_by)
        SELECT $1, $2, $3, coalesce(max(serial), 0) + 1, $4, $5, $6, $7, $8, $9
        FROM assignment WHERE farm_id = $1 AND gateway_id = $2 AND model = $3";

    /// $1 farm.
    GATEWAYS = "SELECT gateway_id, name, status -> 'update' FROM gateway WHERE farm_id = $1 ORDER BY gateway_id";
}

/// Why nothing was assigned.
#[derive(Debug, thiserror::Error)]
pub enum AssignError {
    /// The registry has no such version.
    #[error("there is no version {model} {version} in the registry")]
    Version {
        /// The model.
        model: String,
        /// The version.
        version: String,
    },
    /// The farm has no such gateway.
    #[error("there is no gateway {0:?}")]
    Gateway(String),
    /// A value cannot be used.
    #[error("{field}: {value:?} {reason}")]
    Value {
        /// Whose.
        field: &'static str,
        /// The value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// There is no version to go back to.
    #[error("{}: there is no version of {model} to go back to", .gateways.join(", "))]
    NothingBefore {
        /// On which gateways.
        gateways: Vec<String>,
        /// Of which model.
        model: String,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<sqlx::Error> for AssignError {
    fn from(error: sqlx::Error) -> Self {
        Self::Registry(error.into())
    }
}

#[derive(sqlx::FromRow)]
struct Current {
    gateway_id: String,
    model: String,
    version: String,
    serial: i64,
    shadow_s: i64,
    min_agreement: f64,
    back_to: Option<i64>,
    assigned_at: SqlTime,
    assigned_by: String,
    sha256: Vec<u8>,
}

/// A gateway's row: id, name, and what it last reported of its models.
type GatewayRow = (String, String, Option<proto::UpdateStatus>);

/// What a farm's gateways are to run, and how they stand.
///
/// # Errors
/// When the database does not answer.
pub async fn of_farm(connection: &mut PgConnection, farm: &FarmId) -> Result<FarmModels, sqlx::Error> {
    let current = current(connection, farm).await?;
    let gateways = gateways(connection, farm).await?;
    let mut assignments = Vec::with_capacity(current.len());
    for row in current {
        let before = before(connection, farm, &row, reported(&gateways, &row.gateway_id)).await?;
        assignments.push(ModelAssignment {
            gateway: row.gateway_id,
            model: row.model,
            version: row.version,
            serial: row.serial.unsigned_abs(),
            shadow_s: u32::try_from(row.shadow_s).unwrap_or(u32::MAX),
            min_agreement: row.min_agreement,
            at: row.assigned_at.0,
            by: row.assigned_by,
            before: before.map(|(version, _)| version),
        });
    }
    let gateway = |(id, name, update): GatewayRow| GatewayModels { id, name, update: update.map(Into::into) };
    Ok(FarmModels { assignments, gateways: gateways.into_iter().map(gateway).collect() })
}

/// What a gateway last reported of its models.
fn reported<'a>(gateways: &'a [GatewayRow], gateway: &str) -> Option<&'a proto::UpdateStatus> {
    gateways.iter().find(|(id, ..)| id == gateway).and_then(|(.., update)| update.as_ref())
}

async fn current(connection: &mut PgConnection, farm: &FarmId) -> Result<Vec<Current>, sqlx::Error> {
    sqlx::query_as(CURRENT).bind(farm.as_str()).fetch_all(connection).await
}

async fn gateways(connection: &mut PgConnection, farm: &FarmId) -> Result<Vec<GatewayRow>, sqlx::Error> {
    type Row = (String, String, Option<Json<serde_json::Value>>);
    let rows: Vec<Row> = sqlx::query_as(GATEWAYS).bind(farm.as_str()).fetch_all(connection).await?;
    // What an older version stored in another shape is as if it were not there.
    let parsed = |update: Option<Json<serde_json::Value>>| update.and_then(|Json(u)| serde_json::from_value(u).ok());
    Ok(rows.into_iter().map(|(id, name, update)| (id, name, parsed(update))).collect())
}

/// Who changes the assignments of a farm, and when in farm time.
pub struct Change<'a> {
    /// The farm.
    pub farm: &'a FarmId,
    /// The model.
    pub model: &'a str,
    /// Who.
    pub by: &'a str,
    /// When.
    pub now: Timestamp,
}

/// A row to be added.
struct New {
    gateway: String,
    version: String,
    shadow_s: u32,
    min_agreement: f64,
    back_to: Option<i64>,
}

/// Assigns a version to gateways of a farm, or to all of them.
///
/// # Errors
/// [`AssignError`]; nothing has changed then.
pub async fn activate(
    pool: &PgPool,
    publisher: &Publisher,
    change: &Change<'_>,
    activation: &Activation,
) -> Result<(), AssignError> {
    let Activation { version, gateways: named, shadow_s, min_agreement } = activation;
    check_values(*shadow_s, *min_agreement)?;
    let mut transaction = pool.begin().await?;
    let publication = Publication::begin(&mut transaction, publisher).await?;
    if versions::find(&mut transaction, change.model, version).await?.is_none() {
        return Err(AssignError::Version { model: change.model.to_owned(), version: version.clone() });
    }
    let current = current(&mut transaction, change.farm).await?;
    let known = gateways(&mut transaction, change.farm).await?;
    let news = chosen(&known, named.as_deref())?.into_iter().map(|gateway| {
        let before = current.iter().find(|row| row.gateway_id == gateway && row.model == change.model);
        // The same version once more, for a gateway that refused it, is no version to go back to.
        let back_to = before.and_then(|row| if row.version == *version { row.back_to } else { Some(row.serial) });
        New { gateway, version: version.clone(), shadow_s: *shadow_s, min_agreement: *min_agreement, back_to }
    });
    let news = news.collect();
    publish(transaction, publication, change, news).await
}

fn check_values(shadow_s: u32, min_agreement: f64) -> Result<(), AssignError> {
    let wrong = |field, value: String, reason: String| Err(AssignError::Value { field, value, reason });
    if shadow_s > MAX_SHADOW_S {
        return wrong("shadow_s", shadow_s.to_string(), format!("must be at most {MAX_SHADOW_S} seconds"));
    }
    if !(0.0..=1.0).contains(&min_agreement) {
        return wrong("min_agreement", min_agreement.to_string(), "must be from 0 to 1".to_owned());
    }
    Ok(())
}

/// The gateways that are named, each once, or all.
fn chosen(known: &[GatewayRow], named: Option<&[String]>) -> Result<BTreeSet<String>, AssignError> {
    let known: BTreeSet<&str> = known.iter().map(|(id, ..)| id.as_str()).collect();
    let chosen: BTreeSet<String> = match named {
        Some(named) => named.iter().cloned().collect(),
        None => known.iter().map(|id| (*id).to_owned()).collect(),
    };
    match chosen.iter().find(|id| !known.contains(id.as_str())) {
        Some(unknown) => Err(AssignError::Gateway(unknown.clone())),
        None if chosen.is_empty() => {
            let reason = "must name a gateway of the farm".to_owned();
            Err(AssignError::Value { field: "gateways", value: "[]".to_owned(), reason })
        }
        None => Ok(chosen),
    }
}

/// Takes gateways back to the version before: the one that was assigned before, or else the one that they reported to
/// have run. It becomes active at once. Without `named`, all that have one to go back to.
///
/// # Errors
/// [`AssignError`]; nothing has changed then.
pub async fn roll_back(
    pool: &PgPool,
    publisher: &Publisher,
    change: &Change<'_>,
    named: Option<&[String]>,
) -> Result<(), AssignError> {
    let mut transaction = pool.begin().await?;
    let publication = Publication::begin(&mut transaction, publisher).await?;
    let current = current(&mut transaction, change.farm).await?;
    let known = gateways(&mut transaction, change.farm).await?;
    let (mut news, mut without) = (Vec::new(), Vec::new());
    for gateway in chosen(&known, named)? {
        let present = current.iter().find(|row| row.gateway_id == gateway && row.model == change.model);
        let before = match present {
            Some(present) => before(&mut transaction, change.farm, present, reported(&known, &gateway)).await?,
            None => None,
        };
        match before {
            Some((version, back_to)) => news.push(New { gateway, version, shadow_s: 0, min_agreement: 0.0, back_to }),
            None => without.push(gateway),
        }
    }
    if news.is_empty() || (named.is_some() && !without.is_empty()) {
        return Err(AssignError::NothingBefore { gateways: without, model: change.model.to_owned() });
    }
    publish(transaction, publication, change, news).await
}

/// The version before the present one, and which row a further roll-back goes to.
async fn before(
    connection: &mut PgConnection,
    farm: &FarmId,
    present: &Current,
    reported: Option<&proto::UpdateStatus>,
) -> Result<Option<(String, Option<i64>)>, sqlx::Error> {
    let key = (farm.as_str(), present.gateway_id.as_str(), present.model.as_str());
    if let Some(serial) = present.back_to {
        let earlier = sqlx::query_as(EARLIER).bind(key.0).bind(key.1).bind(key.2).bind(serial);
        return earlier.fetch_optional(connection).await;
    }
    let only: bool =
        sqlx::query_scalar(ONLY_ONE).bind(key.0).bind(key.1).bind(key.2).fetch_one(&mut *connection).await?;
    let model = reported.and_then(|update| update.models.iter().find(|model| model.name == present.model));
    let Some(model) = model.filter(|_| only) else {
        return Ok(None);
    };
    // The version may not have come into use there yet; then the active one is the one before it.
    let active = Some(&model.active.version).filter(|version| **version != present.version);
    let Some(version) = active.or(model.previous.as_ref()).filter(|version| **version != present.version) else {
        return Ok(None);
    };
    let registered = versions::find(connection, &present.model, version).await?;
    Ok(registered.map(|registered| (registered.version, None)))
}

/// Adds the rows, publishes the assignments of their gateways, and tells the browsers.
async fn publish(
    mut transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    mut publication: Publication<'_>,
    change: &Change<'_>,
    news: Vec<New>,
) -> Result<(), AssignError> {
    for new in &news {
        sqlx::query(ADD)
            .bind(change.farm.as_str())
            .bind(&new.gateway)
            .bind(change.model)
            .bind(&new.version)
            .bind(i64::from(new.shadow_s))
            .bind(new.min_agreement)
            .bind(new.back_to)
            .bind(SqlTime(change.now))
            .bind(change.by)
            .execute(&mut *transaction)
            .await?;
    }
    let current = current(&mut transaction, change.farm).await?;
    for new in &news {
        let of_gateway = current.iter().filter(|row| row.gateway_id == new.gateway);
        let assignments = Assignments { models: of_gateway.map(assignment).collect::<BTreeMap<_, _>>() };
        if let Some(reason) = assignments.check().into_iter().next() {
            return Err(AssignError::Value { field: "models", value: new.gateway.clone(), reason });
        }
        let gateway: GatewayId =
            new.gateway.parse().map_err(|error: proto::id::InvalidId| sqlx::Error::Decode(error.into()))?;
        let target = assignment_target(change.farm, &gateway);
        let bytes = assignments.to_json();
        publication.add(&mut transaction, &target, bytes.as_bytes(), &[("kind", "assignment")]).await?;
    }
    publication.finish(&mut transaction).await?;
    changes::announce(&mut transaction, change.farm, ChangeKind::Models, &BTreeSet::new(), change.now).await?;
    transaction.commit().await?;
    Ok(())
}

fn assignment(row: &Current) -> (String, Assignment) {
    let assignment = Assignment {
        version: row.version.clone(),
        sha256: hex::encode(&row.sha256),
        serial: row.serial.unsigned_abs(),
        shadow_s: u32::try_from(row.shadow_s).unwrap_or(u32::MAX),
        min_agreement: row.min_agreement,
    };
    (row.model.clone(), assignment)
}
