//! The connection to PostgreSQL, its tables, and how times cross over.
//!
//! The SQL itself stands beside the functions that run it, one module for each group of tables, always in a
//! `statements!` block, so that [`all_statements`] knows all of it and a test can have PostgreSQL check every one.

use std::str::FromStr;
use std::time::Duration;

use proto::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgConnectOptions, PgHasArrayType, PgPool, PgPoolOptions, PgTypeInfo, PgValueRef,
};
use sqlx::{Decode, Encode, Postgres, Type};

/// How long the database may take to answer at the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for a free connection before it is answered with 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one statement may run; PostgreSQL ends it then, so that no request holds a connection for ever.
const STATEMENT_TIMEOUT: &str = "60s";

/// Declares SQL statements as constants, and a slice of them all for the test that has each one checked.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* const $name: &str = $sql;)+

        /// Every statement of this module.
        pub(crate) const STATEMENTS: &[(&str, &str)] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
}
pub(crate) use statements;

/// Name and text of every SQL statement that the cloud runs, for checking them against the tables.
pub fn all_statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        crate::inventory::STATEMENTS,
        crate::series::STATEMENTS,
        crate::alerts::STATEMENTS,
        crate::decisions::STATEMENTS,
        crate::people::STATEMENTS,
        crate::changes::STATEMENTS,
        crate::setup::STATEMENTS,
        crate::ingest::STATEMENTS,
        crate::ingest::windows::STATEMENTS,
        crate::ingest::alerts::STATEMENTS,
        crate::ingest::births::STATEMENTS,
        crate::ingest::readings::STATEMENTS,
        crate::readings::STATEMENTS,
        crate::ingest::decisions::STATEMENTS,
        crate::registry::store::STATEMENTS,
        crate::registry::push::STATEMENTS,
        crate::registry::versions::STATEMENTS,
        crate::registry::assign::STATEMENTS,
        crate::registry::events::STATEMENTS,
        crate::registry::nodes::STATEMENTS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// A database that cannot be used. One line, and without the password.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The address is not one.
    #[error("database address is not like postgres://user:password@host:port/name: {0}")]
    Address(BoxDynError),
    /// Nobody answers there, or not as PostgreSQL.
    #[error("database {place}: {source}")]
    Connect {
        /// Name, host and port.
        place: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// Somebody is there and does not answer.
    #[error("database {place} does not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Silent {
        /// Name, host and port.
        place: String,
    },
    /// The tables cannot be brought to what this version needs.
    #[error("database migration: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("database: {0}")]
    Query(#[from] sqlx::Error),
}

/// Opens a pool of at most `connections` connections, and makes sure that the database answers.
///
/// # Errors
/// [`DatabaseError`] when the address is wrong or the database does not answer within ten seconds.
pub async fn connect_with(url: &str, connections: u32) -> Result<PgPool, DatabaseError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(DatabaseError::Address("another scheme".into()));
    }
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| DatabaseError::Address(error.into()))?
        .application_name("tilth-cloud")
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
            ("timezone", "UTC"),
        ]);
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    let place = format!("{} at {host} port {}", options.get_database().unwrap_or("of the user"), options.get_port());

    // The pool would try again and again and then say only "timed out"; a connection of our own says why.
    match tokio::time::timeout(CONNECT_TIMEOUT, sqlx::ConnectOptions::connect(&options)).await {
        Ok(Ok(connection)) => sqlx::Connection::close(connection).await?,
        Ok(Err(source)) => return Err(DatabaseError::Connect { place, source }),
        Err(_) => return Err(DatabaseError::Silent { place }),
    }
    let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(pool.connect_lazy_with(options))
}

/// Opens a small pool, as for [`crate::setup`].
///
/// # Errors
/// As [`connect_with`].
pub async fn connect(url: &str) -> Result<PgPool, DatabaseError> {
    connect_with(url, 4).await
}

/// Brings the tables to what this version needs. Any number of processes may do so at once.
///
/// # Errors
/// [`DatabaseError`] when a migration fails, or the tables are of a later version.
pub async fn migrate(pool: &PgPool) -> Result<(), DatabaseError> {
    let mut connection = pool.acquire().await?;
    sqlx::query("SET statement_timeout = 0").execute(&mut *connection).await?;
    let outcome = sqlx::migrate!().run_direct(None, &mut *connection, false).await;
    // The setting must not go back into the pool.
    sqlx::Connection::close(connection.detach()).await?;
    Ok(outcome?)
}

/// A time as PostgreSQL has it (`timestamptz`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlTime(pub Timestamp);

/// 2000-01-01T00:00:00Z, from which PostgreSQL counts, in milliseconds since 1970.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;

impl Type<Postgres> for SqlTime {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("timestamptz")
    }
}

impl PgHasArrayType for SqlTime {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("_timestamptz")
    }
}

impl Encode<'_, Postgres> for SqlTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = (self.0.as_millis() - POSTGRES_EPOCH_MS) * 1000;
        Encode::<Postgres>::encode(micros, buffer)
    }
}

impl Decode<'_, Postgres> for SqlTime {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Postgres>>::decode(value)?;
        Ok(Self(Timestamp::from_millis(micros.div_euclid(1000).saturating_add(POSTGRES_EPOCH_MS))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_is_not_there_gives_one_line_without_the_password() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = connect(&format!("postgres://tilth:secret@127.0.0.1:{port}/tilth")).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("database tilth at 127.0.0.1 port {port}: ")), "{error}");
        assert!(!error.contains("secret") && !error.contains('\n'), "{error}");

        let error = connect("mysql:/tilth").await.unwrap_err().to_string();
        assert!(error.starts_with("database address is not like postgres://"), "{error}");
    }
}
