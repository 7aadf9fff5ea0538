//! The versions in the registry, as they are read.

use std::collections::HashMap;

use proto::Manifest;
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::api::types::{ActiveOn, AssignedTo, ModelCard, ModelLimits, ModelVersion};
use crate::database::{SqlTime, statements};

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT name, version, sha256, bytes, parent, card, pushed_at, pushed_by FROM model_version ", $rest)
    };
}

statements! {
    /// $1 how many at most.
    NEWEST = select!("ORDER BY pushed_at DESC, name, version LIMIT $1");

    /// $1 name, $2 version.
    ONE = select!("WHERE name = $1 AND version = $2");

    /// $1 name, $2 version.
    MANIFEST = "SELECT b.bytes FROM model_version m JOIN blob b ON b.sha256 = m.manifest_sha256
        WHERE m.name = $1 AND m.version = $2";

    /// The models that gateways report to run. $1 user.
    RUNNING = "SELECT g.farm_id, g.gateway_id, g.status -> 'models'
        FROM membership m JOIN gateway g ON g.farm_id = m.farm_id
        WHERE m.user_id = $1 AND g.status IS NOT NULL ORDER BY g.farm_id, g.gateway_id";

    /// What gateways are to run. $1 user.
    ASSIGNED = "SELECT DISTINCT ON (a.farm_id, a.gateway_id, a.model) a.farm_id, a.gateway_id, a.model, a.version
        FROM membership m JOIN assignment a ON a.farm_id = m.farm_id
        WHERE m.user_id = $1 ORDER BY a.farm_id, a.gateway_id, a.model, a.serial DESC";
}

/// The most versions in a list.
const MOST_LISTED: i64 = 500;

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    version: String,
    sha256: Vec<u8>,
    bytes: i64,
    parent: Option<String>,
    card: Json<ModelCard>,
    pushed_at: SqlTime,
    pushed_by: String,
}

impl From<Row> for ModelVersion {
    fn from(row: Row) -> Self {
        Self {
            name: row.name,
            version: row.version,
            sha256: hex::encode(row.sha256),
            bytes: row.bytes.unsigned_abs(),
            parent: row.parent,
            pushed_at: row.pushed_at.0,
            pushed_by: row.pushed_by,
            card: row.card.0,
            active_on: Vec::new(),
            assigned_to: Vec::new(),
        }
    }
}

/// What people see of a manifest.
pub(super) fn card(manifest: &Manifest) -> ModelCard {
    let proto::manifest::Limits { max_bytes, max_latency_ms, max_memory_bytes } = manifest.limits;
    ModelCard {
        task: manifest.task.name().to_owned(),
        trained_on: manifest.trained_on.clone(),
        threshold: manifest.threshold,
        steps: manifest.input.steps,
        window_s: manifest.input.window_s,
        features: manifest.input.features.iter().map(ToString::to_string).collect(),
        scores: manifest.output.scores.iter().map(ToString::to_string).collect(),
        metrics: manifest.metrics.clone(),
        limits: ModelLimits { max_bytes, max_latency_ms, max_memory_bytes },
    }
}

/// The newest versions, at most five hundred, with what a person may see of who runs them.
///
/// # Errors
/// When the database does not answer.
pub async fn list(connection: &mut PgConnection, user_id: i64) -> Result<Vec<ModelVersion>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(NEWEST).bind(MOST_LISTED).fetch_all(&mut *connection).await?;
    let mut versions: Vec<ModelVersion> = rows.into_iter().map(ModelVersion::from).collect();
    add_gateways(connection, user_id, &mut versions).await?;
    Ok(versions)
}

/// One version, with what a person may see of who runs it; none when there is no such version.
///
/// # Errors
/// When the database does not answer.
pub async fn find_for(
    connection: &mut PgConnection,
    user_id: i64,
    name: &str,
    version: &str,
) -> Result<Option<ModelVersion>, sqlx::Error> {
    let Some(found) = find(connection, name, version).await? else {
        return Ok(None);
    };
    let mut found = [found];
    add_gateways(connection, user_id, &mut found).await?;
    let [found] = found;
    Ok(Some(found))
}

/// One version, without who runs it; none when there is no such version.
///
/// # Errors
/// When the database does not answer.
pub async fn find(
    connection: &mut PgConnection,
    name: &str,
    version: &str,
) -> Result<Option<ModelVersion>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(ONE).bind(name).bind(version).fetch_optional(connection).await?;
    Ok(row.map(ModelVersion::from))
}

/// The manifest of a version, as it was pushed; none when there is no such version.
///
/// # Errors
/// When the database does not answer.
pub async fn manifest(
    connection: &mut PgConnection,
    name: &str,
    version: &str,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(MANIFEST).bind(name).bind(version).fetch_optional(connection).await
}

async fn add_gateways(
    connection: &mut PgConnection,
    user_id: i64,
    versions: &mut [ModelVersion],
) -> Result<(), sqlx::Error> {
    type Running = (String, String, Json<Vec<proto::RunningModel>>);
    let running: Vec<Running> = sqlx::query_as(RUNNING).bind(user_id).fetch_all(&mut *connection).await?;
    let assigned: Vec<(String, String, String, String)> =
        sqlx::query_as(ASSIGNED).bind(user_id).fetch_all(connection).await?;

    let key = |version: &ModelVersion| (version.name.clone(), version.version.clone());
    let places: HashMap<_, usize> = versions.iter().enumerate().map(|(at, version)| (key(version), at)).collect();
    for (farm, gateway, Json(models)) in running {
        for proto::RunningModel { name, version, since, digest, .. } in models {
            let place = places.get(&(name, version)).map(|at| &mut versions[*at]);
            // A gateway may have been built with other content under the same number.
            if let Some(version) = place.filter(|version| version.sha256 == digest) {
                version.active_on.push(ActiveOn { farm: farm.clone(), gateway: gateway.clone(), since });
            }
        }
    }
    for (farm, gateway, model, version) in assigned {
        if let Some(at) = places.get(&(model, version)) {
            versions[*at].assigned_to.push(AssignedTo { farm, gateway });
        }
    }
    Ok(())
}
