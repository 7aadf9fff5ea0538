//! Logging in and out.

use std::net::SocketAddr;
use std::time::Instant;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum_extra::extract::CookieJar;

use super::App;
use super::access::{SESSION_COOKIE, no_session_cookie, session_cookie};
use super::parameters::JsonBody;
use super::problem::{ApiError, ApiResult, Problem};
use super::types::{FarmName, LoginRequest, Me};
use crate::inventory;
use crate::people::{self, LoginGuard, Person};

/// The longest address and password that are looked at, in bytes.
const MOST_EMAIL: usize = 254;
const MOST_PASSWORD: usize = 1024;

type SetCookie = [(HeaderName, String); 1];

/// Log in
///
/// Begins a session of fourteen days, whose token the cookie `tilth_session` bears.
#[utoipa::path(
    post,
    path = "/login",
    tag = "session",
    request_body = LoginRequest,
    responses(
        (status = 204, description = "Logged in", headers(("set-cookie" = String, description = "The session's cookie"))),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is not JSON, or lacks a field"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Address and password do not belong together"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "Too many wrong passwords; `Retry-After` says when to try again"),
    )
)]
pub async fn login(
    State(app): State<App>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    JsonBody(login): JsonBody<LoginRequest>,
) -> ApiResult<(StatusCode, SetCookie)> {
    if login.email.len() > MOST_EMAIL || login.email.contains('\0') {
        return Err(ApiError::parameter("email", &login.email, "is no e-mail address"));
    }
    if login.password.len() > MOST_PASSWORD {
        return Err(ApiError::parameter("password", "", format!("is longer than {MOST_PASSWORD} bytes")));
    }
    let lock = || app.logins.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !lock().admits(&login.email, from.ip(), Instant::now()) {
        let detail = "too many wrong passwords for this account; try again later";
        return Err(ApiError::TooMany { detail, retry_after_s: LoginGuard::PERIOD.as_secs() });
    }
    let turn = app.password_checks.acquire().await;
    let token = people::log_in(&app.pool, &login.email, login.password).await?;
    drop(turn);
    let Some(token) = token else {
        lock().failed(&login.email, from.ip(), Instant::now());
        return Err(ApiError::Unauthorised("address and password do not belong together"));
    };
    lock().succeeded(&login.email, from.ip());
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, session_cookie(&token, &headers))]))
}

/// Log out
///
/// Ends the session. Without one nothing happens.
#[utoipa::path(post, path = "/logout", tag = "session", responses((status = 204, description = "Logged out")))]
pub async fn logout(State(app): State<App>, cookies: CookieJar) -> ApiResult<(StatusCode, SetCookie)> {
    if let Some(cookie) = cookies.get(SESSION_COOKIE) {
        people::log_out(&app.pool, cookie.value()).await?;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, no_session_cookie())]))
}

/// Who is logged in
#[utoipa::path(
    get,
    path = "/me",
    tag = "session",
    security(("session" = [])),
    responses(
        (status = 200, body = Me, description = "The person and their farms"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
    )
)]
pub async fn me(State(app): State<App>, person: Person) -> ApiResult<Json<Me>> {
    let farms = inventory::farms_of(&mut *app.pool.acquire().await?, person.user_id).await?;
    let farms = farms.into_iter().map(|farm| FarmName { id: farm.id, name: farm.name }).collect();
    Ok(Json(Me { email: person.email, role: person.role, farms }))
}
