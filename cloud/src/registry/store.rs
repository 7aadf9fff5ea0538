//! The registry in the database: metadata and blobs, and the lock under which both change.

use std::num::NonZeroU64;

use proto::Timestamp;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, PgExecutor, PgPool};
use tough::schema::{RoleType, Signed};

use super::RegistryError;
use super::metadata::{Published, Signature};
use crate::database::{SqlTime, statements};

statements! {
    /// Waits until nobody else changes the registry, until the transaction's end. $1 number of the lock.
    LOCK = "SELECT pg_advisory_xact_lock($1)";

    /// The newest metadata of every role.
    NEWEST = "SELECT DISTINCT ON (role) role, bytes FROM tuf_metadata ORDER BY role, version DESC";

    /// When the newest metadata of every role ends.
    EXPIRIES = "SELECT DISTINCT ON (role) role, expires FROM tuf_metadata ORDER BY role, version DESC";

    /// $1 role, $2 version, $3 bytes, $4 end, $5 time.
    ADD_METADATA = "INSERT INTO tuf_metadata (role, version, bytes, expires, published) VALUES ($1, $2, $3, $4, $5)";

    /// Forgets metadata that no client still asks for. $1 newest versions to keep, $2 time from which on all are kept.
    PRUNE = "DELETE FROM tuf_metadata m USING
            (SELECT role, max(version) AS version FROM tuf_metadata GROUP BY role) newest
        WHERE m.role = newest.role AND m.role <> 'root' AND m.version <= newest.version - $1 AND m.published < $2";

    /// $1 role, $2 version.
    METADATA = "SELECT bytes FROM tuf_metadata WHERE role = $1 AND version = $2";

    /// $1 role.
    NEWEST_METADATA = "SELECT bytes FROM tuf_metadata WHERE role = $1 ORDER BY version DESC LIMIT 1";

    /// $1 digest, $2 bytes.
    ADD_BLOB = "INSERT INTO blob (sha256, bytes) VALUES ($1, $2) ON CONFLICT (sha256) DO NOTHING";

    /// $1 digest.
    BLOB_LENGTH = "SELECT length(bytes)::bigint FROM blob WHERE sha256 = $1";

    /// $1 digest, $2 first byte from 1, $3 number of bytes.
    BLOB_PART = "SELECT substring(bytes FROM $2 FOR $3) FROM blob WHERE sha256 = $1";
}

/// The number of the registry's lock among PostgreSQL's advisory locks.
const LOCK_NUMBER: i64 = 0x7469_6c74_6802;

/// Versions of targets and snapshot metadata that are kept at least, and for how long all are, in seconds: a client that
/// has just read a timestamp still asks for what that one names.
const KEPT_VERSIONS: i64 = 16;
const KEPT_S: i64 = 24 * 3600;

/// Waits for the registry's lock, which the transaction then holds to its end.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(LOCK).bind(LOCK_NUMBER).execute(connection).await?;
    Ok(())
}

/// The newest metadata; none when the registry has not been created.
pub(super) async fn newest(connection: &mut PgConnection) -> Result<Option<Published>, RegistryError> {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(NEWEST).fetch_all(connection).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(Published {
        root: parse(&rows, RoleType::Root)?,
        targets: parse(&rows, RoleType::Targets)?,
        snapshot: parse(&rows, RoleType::Snapshot)?,
        timestamp: parse(&rows, RoleType::Timestamp)?,
    }))
}

fn parse<T: DeserializeOwned>(rows: &[(String, Vec<u8>)], role: RoleType) -> Result<Signed<T>, RegistryError> {
    let name = role.to_string();
    let row = rows.iter().find(|(role, _)| *role == name);
    let (_, bytes) = row.ok_or(RegistryError::Stored { role, problem: "is missing".to_owned() })?;
    serde_json::from_slice(bytes).map_err(|error| RegistryError::Stored { role, problem: error.to_string() })
}

/// When the newest metadata of each role ends.
pub(super) async fn expiries(executor: impl PgExecutor<'_>) -> Result<Vec<(RoleType, Timestamp)>, sqlx::Error> {
    let rows: Vec<(String, SqlTime)> = sqlx::query_as(EXPIRIES).fetch_all(executor).await?;
    let known = |(role, SqlTime(ends)): (String, SqlTime)| Some((role.parse().ok()?, ends));
    Ok(rows.into_iter().filter_map(known).collect())
}

/// Adds metadata, and forgets what is long superseded.
pub(super) async fn add_metadata(
    connection: &mut PgConnection,
    signatures: Vec<Signature>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    for Signature { role, version, expires, bytes } in signatures {
        sqlx::query(ADD_METADATA)
            .bind(role.to_string())
            .bind(number(version))
            .bind(bytes)
            .bind(SqlTime(expires))
            .bind(SqlTime(now))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(PRUNE).bind(KEPT_VERSIONS).bind(SqlTime(now.plus_secs(-KEPT_S))).execute(connection).await?;
    Ok(())
}

/// The metadata of a role: one version, or the newest.
///
/// # Errors
/// When the database does not answer.
pub async fn metadata(pool: &PgPool, role: RoleType, version: Option<u64>) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let role = role.to_string();
    match version.map(i64::try_from) {
        None => sqlx::query_scalar(NEWEST_METADATA).bind(role).fetch_optional(pool).await,
        Some(Ok(version)) => sqlx::query_scalar(METADATA).bind(role).bind(version).fetch_optional(pool).await,
        Some(Err(_)) => Ok(None),
    }
}

/// Adds a blob, which may be there already, and gives its digest.
pub(super) async fn add_blob(connection: &mut PgConnection, bytes: &[u8]) -> Result<[u8; 32], sqlx::Error> {
    let sha256: [u8; 32] = Sha256::digest(bytes).into();
    sqlx::query(ADD_BLOB).bind(sha256).bind(bytes).execute(connection).await?;
    Ok(sha256)
}

/// The length of a blob, in bytes; none when there is no such blob.
///
/// # Errors
/// When the database does not answer.
pub async fn blob_length(pool: &PgPool, sha256: &[u8; 32]) -> Result<Option<u64>, sqlx::Error> {
    let length: Option<i64> = sqlx::query_scalar(BLOB_LENGTH).bind(sha256).fetch_optional(pool).await?;
    Ok(length.map(i64::unsigned_abs))
}

/// A part of a blob: at most `length` bytes from byte `from` on, counted from 0.
///
/// # Errors
/// When the database does not answer, or the blob is not there.
pub async fn blob_part(pool: &PgPool, sha256: &[u8; 32], from: u64, length: u32) -> Result<Vec<u8>, sqlx::Error> {
    let from = i32::try_from(from + 1).unwrap_or(i32::MAX);
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    sqlx::query_scalar(BLOB_PART).bind(sha256).bind(from).bind(length).fetch_one(pool).await
}

fn number(version: NonZeroU64) -> i64 {
    i64::try_from(version.get()).unwrap_or(i64::MAX)
}
