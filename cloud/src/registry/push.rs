//! A new version comes into the registry.

use proto::assignment::{manifest_target, model_target};
use proto::{Manifest, Timestamp};
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};

use super::inspect::inspect;
use super::{Publication, Publisher, RegistryError, versions};
use crate::api::types::{ChangeKind, ModelVersion};
use crate::database::{SqlTime, statements};
use crate::{changes, clock};

statements! {
    /// $1 name, $2 version.
    EXISTING = "SELECT sha256, manifest_sha256 FROM model_version WHERE name = $1 AND version = $2";

    /// The columns of model_version.
    ADD_VERSION = "INSERT INTO model_version
            (name, version, sha256, manifest_sha256, bytes, parent, card, pushed_at, pushed_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
}

/// Why a version was not registered. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// Manifest or file cannot be used; everything that is wrong.
    #[error("{}", .0.join("; "))]
    Mistakes(Vec<String>),
    /// The version is taken.
    #[error("{name} {version} exists already, with {} content; versions do not change", if *.same { "the same" } else { "other" })]
    Exists {
        /// The model.
        name: String,
        /// Its version.
        version: String,
        /// Whether manifest and file are the same, byte for byte.
        same: bool,
    },
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<sqlx::Error> for PushError {
    fn from(error: sqlx::Error) -> Self {
        Self::Registry(error.into())
    }
}

/// Registers a version: all of it, or nothing. `by` is who pushes it.
///
/// # Errors
/// [`PushError`].
pub async fn push(
    pool: &PgPool,
    publisher: &Publisher,
    manifest_text: &str,
    onnx: &[u8],
    by: &str,
) -> Result<ModelVersion, PushError> {
    let manifest = inspect(manifest_text, onnx).map_err(PushError::Mistakes)?;
    register(pool, publisher, &manifest, manifest_text, onnx, by).await
}

/// [`push`], for a version that may be there already with the same content.
///
/// # Errors
/// As [`push`].
pub async fn push_if_new(
    pool: &PgPool,
    publisher: &Publisher,
    manifest_text: &str,
    onnx: &[u8],
    by: &str,
) -> Result<ModelVersion, PushError> {
    match push(pool, publisher, manifest_text, onnx, by).await {
        Err(PushError::Exists { name, version, same: true }) => {
            let found = versions::find(&mut *pool.acquire().await?, &name, &version).await?;
            found.ok_or(PushError::Exists { name, version, same: true })
        }
        outcome => outcome,
    }
}

/// Registers a version that has been looked through.
pub(crate) async fn register(
    pool: &PgPool,
    publisher: &Publisher,
    manifest: &Manifest,
    manifest_text: &str,
    onnx: &[u8],
    by: &str,
) -> Result<ModelVersion, PushError> {
    let (name, version) = (manifest.name.as_str(), manifest.version.as_str());
    let mut transaction = pool.begin().await?;
    let mut publication = Publication::begin(&mut transaction, publisher).await?;
    let kinds = |kind| [("kind", kind), ("name", name), ("version", version)];
    let model = publication.add(&mut transaction, &model_target(name, version), onnx, &kinds("model")).await?;
    let target = manifest_target(name, version);
    let text = publication.add(&mut transaction, &target, manifest_text.as_bytes(), &kinds("manifest")).await?;

    if let Some(existing) = digests(&mut transaction, name, version).await? {
        let same = existing == (model.to_vec(), text.to_vec());
        return Err(PushError::Exists { name: name.to_owned(), version: version.to_owned(), same });
    }
    if let Some(parent) = &manifest.parent
        && digests(&mut transaction, name, parent).await?.is_none()
    {
        return Err(PushError::Mistakes(vec![format!("parent: there is no {name} {parent} in the registry")]));
    }
    let pushed = Pushed { manifest, model, text, bytes: onnx.len(), at: clock::wall(), by };
    pushed.insert(&mut transaction).await?;
    publication.finish(&mut transaction).await?;
    changes::announce_everywhere(&mut transaction, ChangeKind::Models).await?;
    let registered = versions::find(&mut transaction, name, version).await?;
    transaction.commit().await?;
    registered.ok_or_else(|| sqlx::Error::RowNotFound.into())
}

async fn digests(
    connection: &mut PgConnection,
    name: &str,
    version: &str,
) -> Result<Option<(Vec<u8>, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as(EXISTING).bind(name).bind(version).fetch_optional(connection).await
}

/// A row of `model_version`.
struct Pushed<'a> {
    manifest: &'a Manifest,
    model: [u8; 32],
    text: [u8; 32],
    bytes: usize,
    at: Timestamp,
    by: &'a str,
}

impl Pushed<'_> {
    async fn insert(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(ADD_VERSION)
            .bind(&self.manifest.name)
            .bind(&self.manifest.version)
            .bind(self.model)
            .bind(self.text)
            .bind(i64::try_from(self.bytes).unwrap_or(i64::MAX))
            .bind(&self.manifest.parent)
            .bind(Json(versions::card(self.manifest)))
            .bind(SqlTime(self.at))
            .bind(self.by)
            .execute(connection)
            .await?;
        Ok(())
    }
}
