//! The HTTP server: the API, the dashboard, health and metrics, from its start to its ordered end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};
use tower_http::trace::{DefaultOnFailure, TraceLayer};
use tracing::Level;
use utoipa_swagger_ui::SwaggerUi;

use crate::api::problem::ApiError;
use crate::api::{self, App};
use crate::dashboard;

/// The largest body but for a model's, whose route has a limit of its own: a batch.
const MOST_BODY: usize = proto::uplink::MAX_COMPRESSED;

/// How long an answer may take to begin; statements end before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a body may make no progress.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long readiness waits for the database.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long requests may take to end after the shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that the process serves.
pub fn routes(app: App) -> Router {
    let (api, document) = api::router();
    Router::new()
        .merge(api)
        .merge(SwaggerUi::new("/api/docs").url("/api/openapi.json", document))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(async |method: Method| ApiError::Method(method.to_string()))
        .fallback(dashboard::serve)
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_TIMEOUT))
        .layer(CompressionLayer::new().compress_when(compressible()))
        .layer(middleware::from_fn(secure))
        .layer(middleware::from_fn_with_state(app.clone(), count))
        .layer(TraceLayer::new_for_http().on_failure(DefaultOnFailure::new().level(Level::DEBUG)))
        .with_state(app)
}

/// What is worth compressing. Files of the registry are not, and must come in the length that was announced, because they
/// are fetched in parts.
fn compressible() -> impl Predicate {
    DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream"))
}

/// Serves until the shutdown, then ends streams, lets requests end and returns.
///
/// # Errors
/// When the listener fails, or requests do not end in time.
pub async fn serve(listener: TcpListener, app: App) -> anyhow::Result<()> {
    let shutdown = app.shutdown.clone();
    let service = routes(app).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        served = serving.into_future() => served.context("serving HTTP"),
        () = late => {
            tracing::warn!("requests still ran {} s after the shutdown and were cut off", DRAIN_TIMEOUT.as_secs());
            Ok(())
        }
    }
}

/// Headers that every answer bears.
async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, dashboard::CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What people may see of their farms is nobody's to keep.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("dashboard", MatchedPath::as_str);
    // Anybody may invent methods; label sets must stay bounded.
    let method = match method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT => method.as_str(),
        _ => "other",
    };
    app.metrics.answered(method, route, response.status().as_u16(), began.elapsed());
    response
}

async fn metrics(State(app): State<App>) -> Response {
    match app.metrics.text(&app.pool, app.changes.receiver_count()) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => ApiError::Internal(error.into()).into_response(),
    }
}

async fn ready(State(app): State<App>) -> Response {
    let answer = tokio::time::timeout(READY_TIMEOUT, sqlx::query("SELECT 1").execute(&app.pool)).await;
    match answer {
        Ok(Ok(_)) => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response(),
    }
}
