//! People: their passwords, their sessions, and the farms that they belong to.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use rand::Rng;
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::api::types::Role;
use crate::database::statements;

statements! {
    /// $1 address.
    FIND_USER = "SELECT user_id, password_hash FROM app_user WHERE email = $1";

    /// $1 hash of the token, $2 user, $3 seconds that it lasts. Takes the chance to forget sessions that are over.
    BEGIN_SESSION = "WITH over AS (DELETE FROM session WHERE expires <= now())
        INSERT INTO session (token_sha256, user_id, expires) VALUES ($1, $2, now() + make_interval(secs => $3))";

    /// $1 hash of the token.
    END_SESSION = "DELETE FROM session WHERE token_sha256 = $1";

    /// $1 hash of the token.
    FIND_SESSION = "SELECT u.user_id, u.email, u.role FROM session s JOIN app_user u ON u.user_id = s.user_id
        WHERE s.token_sha256 = $1 AND s.expires > now()";

    /// $1 hash of the token, $2 farm. No row: no session. False: no member of the farm.
    FIND_MEMBER = "SELECT EXISTS (SELECT FROM membership m WHERE m.farm_id = $2 AND m.user_id = s.user_id)
        FROM session s WHERE s.token_sha256 = $1 AND s.expires > now()";
}

/// How long a session lasts.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);

/// Bytes of a token; as hard to guess as a key.
const TOKEN_BYTES: usize = 32;

/// A secret that names its bearer. The database holds only its hash.
pub struct Token(String);

impl Token {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0_u8; TOKEN_BYTES];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The token as text, for its bearer only.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The hash under which the database knows a token.
    #[must_use]
    pub fn hash(secret: &str) -> [u8; 32] {
        Sha256::digest(secret.as_bytes()).into()
    }
}

/// A person with a session.
#[derive(sqlx::FromRow)]
pub struct Person {
    /// The account.
    pub user_id: i64,
    /// The account's address.
    pub email: String,
    /// What the person may do.
    #[sqlx(try_from = "String")]
    pub role: Role,
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        [Self::Viewer, Self::Agronomist, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| format!("unknown role {name:?}"))
    }
}

/// Makes the argon2id hash of a password, as a PHC string. Takes some 30 ms of CPU.
///
/// # Errors
/// When argon2 refuses the password, as for one of more than 4 GiB.
pub fn hash_password(password: &str) -> anyhow::Result<String> {
    let mut salt = [0_u8; 16];
    rand::rng().fill_bytes(&mut salt);
    let hash = SaltString::encode_b64(&salt)
        .and_then(|salt| Ok(Argon2::default().hash_password(password.as_bytes(), &salt)?.to_string()));
    hash.map_err(|error| anyhow::anyhow!("argon2: {error}"))
}

/// Whether a password is the one of a hash. Takes as long when there is no hash, so that nobody learns from the time
/// which accounts there are.
fn verify_password(password: &str, hash: Option<&str>) -> bool {
    static OF_NOBODY: LazyLock<String> = LazyLock::new(|| hash_password("nobody's").unwrap_or_default());
    let Ok(parsed) = PasswordHash::new(hash.unwrap_or(&OF_NOBODY)) else {
        return false;
    };
    let right = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
    right && hash.is_some()
}

/// The address as accounts are known by it.
#[must_use]
pub fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Logs a person in: a new session's token, or `None` when address and password do not belong together.
///
/// # Errors
/// When the database does not answer.
pub async fn log_in(pool: &PgPool, email: &str, password: String) -> Result<Option<Token>, sqlx::Error> {
    let user: Option<(i64, String)> = sqlx::query_as(FIND_USER).bind(normal_email(email)).fetch_optional(pool).await?;
    let (user_id, hash) = user.unzip();
    let right = tokio::task::spawn_blocking(move || verify_password(&password, hash.as_deref())).await;
    let (Some(user_id), Ok(true)) = (user_id, right) else {
        return Ok(None);
    };
    let token = Token::random();
    sqlx::query(BEGIN_SESSION)
        .bind(Token::hash(token.secret()))
        .bind(user_id)
        .bind(SESSION_LIFETIME.as_secs_f64())
        .execute(pool)
        .await?;
    Ok(Some(token))
}

/// Ends a session. One that is not there is no error.
///
/// # Errors
/// When the database does not answer.
pub async fn log_out(pool: &PgPool, secret: &str) -> Result<(), sqlx::Error> {
    sqlx::query(END_SESSION).bind(Token::hash(secret)).execute(pool).await?;
    Ok(())
}

/// Whose session a token is.
///
/// # Errors
/// When the database does not answer.
pub async fn person(pool: &PgPool, secret: &str) -> Result<Option<Person>, sqlx::Error> {
    sqlx::query_as(FIND_SESSION).bind(Token::hash(secret)).fetch_optional(pool).await
}

/// Whether the bearer of a token may see a farm; `None` when the token is of no session.
///
/// # Errors
/// When the database does not answer.
pub async fn is_member(pool: &PgPool, secret: &str, farm: &str) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(FIND_MEMBER).bind(Token::hash(secret)).bind(farm).fetch_optional(pool).await
}

/// How many wrong passwords an account takes in [`LoginGuard::PERIOD`].
const MOST_FAILURES: u32 = 10;

/// How many accounts the guard remembers. When it is full of recent failures the oldest is forgotten, and costs the
/// guesser `MOST_FAILURES` tries for each account that drives one out.
const MOST_REMEMBERED: usize = 4096;

/// Slows down whoever guesses passwords: after ten wrong ones an account takes none from that address for a while.
///
/// It counts in this process only, so `n` processes take `n` times as many tries; argon2's price bounds the rest.
#[derive(Default)]
pub struct LoginGuard {
    failures: std::collections::HashMap<(String, std::net::IpAddr), (u32, Instant)>,
}

impl LoginGuard {
    /// For how long failures count.
    pub const PERIOD: Duration = Duration::from_secs(300);

    /// Whether an account takes another try now, from this address.
    #[must_use]
    pub fn admits(&self, email: &str, from: std::net::IpAddr, now: Instant) -> bool {
        let key = (normal_email(email), from);
        self.failures
            .get(&key)
            .is_none_or(|(count, since)| *count < MOST_FAILURES || now.duration_since(*since) >= Self::PERIOD)
    }

    /// Counts a wrong password.
    pub fn failed(&mut self, email: &str, from: std::net::IpAddr, now: Instant) {
        let key = (normal_email(email), from);
        if self.failures.len() >= MOST_REMEMBERED && !self.failures.contains_key(&key) {
            self.failures.retain(|_, (_, since)| now.duration_since(*since) < Self::PERIOD);
            if self.failures.len() >= MOST_REMEMBERED {
                let oldest = self.failures.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| key.clone());
                oldest.map(|key| self.failures.remove(&key));
            }
        }
        let entry = self.failures.entry(key).or_insert((0, now));
        if now.duration_since(entry.1) >= Self::PERIOD {
            *entry = (0, now);
        }
        entry.0 += 1;
    }

    /// Forgets the failures of an account, after a right password.
    pub fn succeeded(&mut self, email: &str, from: std::net::IpAddr) {
        self.failures.remove(&(normal_email(email), from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_password_is_its_own_only() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(verify_password("correct horse", Some(&hash)));
        assert!(!verify_password("battery staple", Some(&hash)));
        assert!(!verify_password("nobody's", None));
    }

    #[test]
    fn ten_wrong_passwords_close_the_account_for_a_while_and_for_that_address() {
        let (here, there) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::BROADCAST));
        let start = Instant::now();
        let mut guard = LoginGuard::default();
        for _ in 0..MOST_FAILURES {
            assert!(guard.admits("a@b.c", here, start));
            guard.failed("a@b.c", here, start);
        }
        assert!(!guard.admits("A@B.C ", here, start));
        assert!(guard.admits("a@b.c", there, start));
        assert!(guard.admits("d@b.c", here, start));
        assert!(guard.admits("a@b.c", here, start + LoginGuard::PERIOD));
        guard.failed("a@b.c", here, start + LoginGuard::PERIOD);
        assert!(guard.admits("a@b.c", here, start + LoginGuard::PERIOD));
        guard.succeeded("a@b.c", here);
        assert!(guard.failures.is_empty());
    }

    #[test]
    fn the_guard_remembers_a_bounded_number_of_accounts() {
        let start = Instant::now();
        let mut guard = LoginGuard::default();
        for n in 0..MOST_REMEMBERED + 10 {
            guard.failed(&format!("{n}@b.c"), IpAddr::V4(Ipv4Addr::LOCALHOST), start + Duration::from_millis(n as u64));
        }
        assert_eq!(guard.failures.len(), MOST_REMEMBERED);
    }
}
