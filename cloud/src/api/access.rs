//! Who asks: a person by the session's cookie, or a gateway by its token.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::{HeaderMap, header, request::Parts};
use axum_extra::extract::CookieJar;
use proto::{FarmId, GatewayId, StationId};

use super::App;
use super::problem::{ApiError, ApiResult};
use super::types::Role;
use crate::ingest;
use crate::people::{self, Person, SESSION_LIFETIME, Token};

/// The name of the session's cookie.
pub const SESSION_COOKIE: &str = "tilth_session";

const NOT_LOGGED_IN: ApiError = ApiError::Unauthorised("log in first");

/// The `Set-Cookie` header of a session: no script reads the cookie, and other sites' forms do not send it. It is kept to
/// HTTPS when the request came by HTTPS, as the proxy in front says.
#[must_use]
pub fn session_cookie(token: &Token, headers: &HeaderMap) -> String {
    let by_https = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes() == b"https");
    let (secret, seconds) = (token.secret(), SESSION_LIFETIME.as_secs());
    let secure = if by_https { "; Secure" } else { "" };
    format!("{SESSION_COOKIE}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")
}

/// The `Set-Cookie` header that makes the browser forget its session.
#[must_use]
pub fn no_session_cookie() -> String {
    format!("{SESSION_COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// The secret of the request's session, not yet looked up.
fn session_secret(headers: &HeaderMap) -> ApiResult<String> {
    let cookies = CookieJar::from_headers(headers);
    cookies.get(SESSION_COOKIE).map(|cookie| cookie.value().to_owned()).ok_or(NOT_LOGGED_IN)
}

impl FromRequestParts<App> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let secret = session_secret(&parts.headers)?;
        people::person(&app.pool, &secret).await?.ok_or(NOT_LOGGED_IN)
    }
}

/// The farm of the path, which the person may see. Somebody else's farm is as if it were not there.
pub struct FarmAccess(pub FarmId);

impl FromRequestParts<App> for FarmAccess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let secret = session_secret(&parts.headers)?;
        let name = path_parameter(parts, app, "farm").await?;
        let not_found = || ApiError::NotFound { what: "farm", value: name.clone() };
        match people::is_member(&app.pool, &secret, &name).await? {
            Some(true) => Ok(Self(name.parse().map_err(|_| not_found())?)),
            Some(false) => Err(not_found()),
            None => Err(NOT_LOGGED_IN),
        }
    }
}

/// A station of the path, in a farm that the person may see. Whether it is there is not looked up.
pub struct StationAccess {
    /// The farm.
    pub farm: FarmId,
    /// The station's name.
    pub station: StationId,
}

impl StationAccess {
    /// What to say when the station is not there.
    #[must_use]
    pub fn not_found(&self) -> ApiError {
        ApiError::NotFound { what: "station", value: self.station.to_string() }
    }
}

impl FromRequestParts<App> for StationAccess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let FarmAccess(farm) = FarmAccess::from_request_parts(parts, app).await?;
        let name = path_parameter(parts, app, "station").await?;
        match name.parse() {
            Ok(station) => Ok(Self { farm, station }),
            Err(_) => Err(ApiError::NotFound { what: "station", value: name }),
        }
    }
}

/// Somebody who may read the registry: a gateway by its token, or else a person by the session's cookie.
pub struct RegistryReader;

impl FromRequestParts<App> for RegistryReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            GatewayAccess::from_request_parts(parts, app).await?;
        } else {
            Person::from_request_parts(parts, app).await?;
        }
        Ok(Self)
    }
}

/// A person who may change models: an operator or an admin.
pub struct Operator(pub Person);

impl FromRequestParts<App> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let person = Person::from_request_parts(parts, app).await?;
        if person.role < Role::Operator {
            return Err(ApiError::Role { email: person.email, role: person.role });
        }
        Ok(Self(person))
    }
}

async fn path_parameter(parts: &mut Parts, app: &App, name: &'static str) -> ApiResult<String> {
    let parameters = RawPathParams::from_request_parts(parts, app).await;
    let parameters = parameters.map_err(|error| ApiError::Body(error.body_text()))?;
    let found = parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.replace('\0', "\u{fffd}"));
    found.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("the path has no {name}")))
}

/// A gateway, by the token of its `Authorization: Bearer` header.
pub struct GatewayAccess {
    /// The gateway's farm.
    pub farm: FarmId,
    /// The gateway.
    pub gateway: GatewayId,
}

impl FromRequestParts<App> for GatewayAccess {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or(ApiError::Unauthorised("a gateway's token is needed: Authorization: Bearer TOKEN"))?;
        let found = ingest::gateway_of_token(&app.pool, Token::hash(token)).await?;
        let (farm, gateway) = found.ok_or(ApiError::Unauthorised("no gateway has this token"))?;
        Ok(Self { farm, gateway })
    }
}
