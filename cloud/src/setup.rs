//! What an operator sets up directly in the database: farms with their fields, gateways and people. Doing so again
//! changes what is there to what is given.

use anyhow::{Context, ensure};
use proto::{FarmId, FieldId, GatewayId};
use sqlx::PgPool;

pub use crate::api::types::Role;
use crate::database::statements;
use crate::people::{Token, hash_password, normal_email};

statements! {
    /// $1 name of a time zone.
    KNOWS_TIMEZONE = "SELECT EXISTS (SELECT FROM pg_timezone_names WHERE name = $1)";

    /// The columns of farm.
    UPSERT_FARM = "INSERT INTO farm (farm_id, name, timezone, latitude, longitude) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (farm_id) DO UPDATE SET name = excluded.name, timezone = excluded.timezone,
            latitude = excluded.latitude, longitude = excluded.longitude";

    /// The columns of field.
    UPSERT_FIELD = "INSERT INTO field
            (farm_id, field_id, name, crop, soil, field_capacity, wilting_point, refill_point)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (farm_id, field_id) DO UPDATE SET name = excluded.name, crop = excluded.crop, soil = excluded.soil,
            field_capacity = excluded.field_capacity, wilting_point = excluded.wilting_point,
            refill_point = excluded.refill_point";

    /// $1 farm, $2 gateway, $3 name, $4 hash of the token.
    UPSERT_GATEWAY = "INSERT INTO gateway (farm_id, gateway_id, name, token_sha256) VALUES ($1, $2, $3, $4)
        ON CONFLICT (farm_id, gateway_id) DO UPDATE SET name = excluded.name, token_sha256 = excluded.token_sha256";

    /// $1 address, $2 hash of the password, $3 role.
    UPSERT_USER = "INSERT INTO app_user (email, password_hash, role) VALUES ($1, $2, $3)
        ON CONFLICT (email) DO UPDATE SET password_hash = excluded.password_hash, role = excluded.role
        RETURNING user_id";

    /// $1 farms, $2 user.
    ADD_MEMBERSHIPS = "INSERT INTO membership (farm_id, user_id) SELECT farm_id, $2 FROM unnest($1::text[]) AS f (farm_id)
        ON CONFLICT DO NOTHING";

    /// $1 address.
    USER_EXISTS = "SELECT EXISTS (SELECT FROM app_user WHERE email = $1)";
}

/// A farm to be.
#[derive(Debug, Clone)]
pub struct FarmSpec {
    /// Its id.
    pub id: FarmId,
    /// Its name, for people.
    pub name: String,
    /// IANA name of its time zone.
    pub timezone: String,
    /// Degrees north, WGS 84.
    pub latitude: f64,
    /// Degrees east, WGS 84.
    pub longitude: f64,
    /// Its fields.
    pub fields: Vec<FieldSpec>,
}

/// A field to be. Water contents are volumetric, m3/m3, and rise from wilting point to refill point to field capacity.
#[derive(Debug, Clone)]
pub struct FieldSpec {
    /// Its id.
    pub id: FieldId,
    /// Its name, for people.
    pub name: String,
    /// What grows there.
    pub crop: String,
    /// The soil's texture class.
    pub soil: String,
    /// What the soil holds against gravity.
    pub field_capacity: f64,
    /// Below it the crop takes no more water.
    pub wilting_point: f64,
    /// At it the field is due for water.
    pub refill_point: f64,
}

/// Makes a farm and its fields, or brings them to what is given. Fields that are not given stay.
///
/// # Errors
/// When the time zone is not known, a number is outside what it can be, or the database does not answer.
pub async fn create_or_update_farm(pool: &PgPool, farm: &FarmSpec) -> anyhow::Result<()> {
    let known: bool = sqlx::query_scalar(KNOWS_TIMEZONE).bind(&farm.timezone).fetch_one(pool).await?;
    ensure!(known, "farm {:?}: time zone {:?} is not known", farm.id.as_str(), farm.timezone);
    let mut transaction = pool.begin().await?;
    sqlx::query(UPSERT_FARM)
        .bind(farm.id.as_str())
        .bind(&farm.name)
        .bind(&farm.timezone)
        .bind(farm.latitude)
        .bind(farm.longitude)
        .execute(&mut *transaction)
        .await
        .with_context(|| format!("farm {:?}", farm.id.as_str()))?;
    for field in &farm.fields {
        sqlx::query(UPSERT_FIELD)
            .bind(farm.id.as_str())
            .bind(field.id.as_str())
            .bind(&field.name)
            .bind(&field.crop)
            .bind(&field.soil)
            .bind(field.field_capacity)
            .bind(field.wilting_point)
            .bind(field.refill_point)
            .execute(&mut *transaction)
            .await
            .with_context(|| format!("farm {:?}: field {:?}", farm.id.as_str(), field.id.as_str()))?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Makes a gateway of a farm, or gives it another name and token.
///
/// # Errors
/// When there is no such farm, or the database does not answer.
pub async fn create_gateway(
    pool: &PgPool,
    farm: &FarmId,
    gateway: &GatewayId,
    name: &str,
    token: &str,
) -> anyhow::Result<()> {
    sqlx::query(UPSERT_GATEWAY)
        .bind(farm.as_str())
        .bind(gateway.as_str())
        .bind(name)
        .bind(Token::hash(token))
        .execute(pool)
        .await
        .with_context(|| format!("farm {:?}: gateway {:?}", farm.as_str(), gateway.as_str()))?;
    Ok(())
}

/// Makes an account that sees these farms, or gives it another password and role, and these farms besides its own.
///
/// # Errors
/// When the address is none, there is no such farm, or the database does not answer.
pub async fn create_user(
    pool: &PgPool,
    email: &str,
    password: &str,
    role: Role,
    farms: &[FarmId],
) -> anyhow::Result<()> {
    let email = normal_email(email);
    ensure!(email.contains('@'), "e-mail address {email:?} has no @");
    let hash = hash_password(password)?;
    let mut transaction = pool.begin().await?;
    let user_id: i64 = sqlx::query_scalar(UPSERT_USER)
        .bind(&email)
        .bind(hash)
        .bind(role.name())
        .fetch_one(&mut *transaction)
        .await
        .with_context(|| format!("user {email:?}"))?;
    let names: Vec<&str> = farms.iter().map(FarmId::as_str).collect();
    sqlx::query(ADD_MEMBERSHIPS)
        .bind(&names)
        .bind(user_id)
        .execute(&mut *transaction)
        .await
        .with_context(|| format!("user {email:?}: farms {names:?}"))?;
    transaction.commit().await?;
    Ok(())
}

/// Whether there is an account of this address.
///
/// # Errors
/// When the database does not answer.
pub async fn user_exists(pool: &PgPool, email: &str) -> anyhow::Result<bool> {
    Ok(sqlx::query_scalar(USER_EXISTS).bind(normal_email(email)).fetch_one(pool).await?)
}
