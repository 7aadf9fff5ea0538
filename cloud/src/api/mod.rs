//! The HTTP API: its routes, and the OpenAPI document that is made from them.
//!
//! A handler reads top to bottom: who asks, what is asked, the one call that answers. SQL and rules are elsewhere.

pub mod access;
mod alerts;
mod assignments;
mod decisions;
mod events;
mod farms;
mod models;
mod nodes;
pub mod parameters;
pub mod problem;
mod readings;
mod session;
mod stations;
mod tuf;
pub mod types;
mod uplink;

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::changes::Changes;
use crate::clock::FarmClock;
use crate::metrics::Metrics;
use crate::people::LoginGuard;
use crate::registry::Publisher;

/// What handlers share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What handlers share. Nothing of it outlives the process: any number of processes serve the same farms.
pub struct Shared {
    /// The database.
    pub pool: PgPool,
    /// The farms' clock.
    pub clock: FarmClock,
    /// What is counted.
    pub metrics: Metrics,
    /// Where streams hear of changes.
    pub changes: Changes,
    /// Streams end when it is cancelled.
    pub shutdown: CancellationToken,
    /// Slows down guessing.
    pub logins: Mutex<LoginGuard>,
    /// One for each password that is checked at a time; argon2 takes 19 MiB and a core each. Others wait.
    pub password_checks: Semaphore,
    /// One for each batch that is unpacked and stored at a time, some 40 MiB at worst. Others wait.
    pub ingests: Semaphore,
    /// What signs changes of the registry; none in a process that only reads it.
    pub publisher: Option<Publisher>,
    /// One for each model that is received, looked through and registered at a time. Others wait.
    pub pushes: Semaphore,
    /// One for each stream of events. Further ones are refused.
    pub streams: Arc<Semaphore>,
}

/// Passwords that are checked at a time.
const MOST_PASSWORD_CHECKS: usize = 2;

/// Batches that are stored at a time. It leaves connections for those who read.
const MOST_INGESTS: usize = 4;

/// Models that are received and looked through at a time, 20 MiB and what they unpack to each. Registering is one at a time
/// anyway, and who waits for it holds a connection to the database.
const MOST_PUSHES: usize = 2;

/// Streams that one process feeds; each holds a socket and a place in the broadcast.
const MOST_STREAMS: usize = 2048;

impl App {
    /// The state of a process.
    #[must_use]
    pub fn new(
        pool: PgPool,
        clock: FarmClock,
        metrics: Metrics,
        changes: Changes,
        shutdown: CancellationToken,
        publisher: Option<Publisher>,
    ) -> Self {
        Self(Arc::new(Shared {
            pool,
            clock,
            metrics,
            changes,
            shutdown,
            logins: Mutex::default(),
            password_checks: Semaphore::new(MOST_PASSWORD_CHECKS),
            ingests: Semaphore::new(MOST_INGESTS),
            publisher,
            pushes: Semaphore::new(MOST_PUSHES),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        }))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tilth",
        description = "A farm's stations, what they measured, its alerts and its gateways. People log in and send the \
            session's cookie; gateways send their token. Every error is an RFC 9457 problem.",
        license(name = "MIT OR Apache-2.0")
    ),
    modifiers(&Security),
    components(schemas(types::Change)),
    tags(
        (name = "session", description = "Logging in and out"),
        (name = "farms", description = "Farms, fields and gateways"),
        (name = "stations", description = "Stations and what they measured"),
        (name = "alerts", description = "What is wrong, or was"),
        (name = "decisions", description = "What gateways decided on irrigation, and why"),
        (name = "models", description = "The registry, and what gateways run of it"),
        (name = "uplink", description = "From gateways"),
    )
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let cookie = ApiKeyValue::with_description(access::SESSION_COOKIE, "Set by login.");
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A gateway's token.")).build();
        components.add_security_scheme("gateway", SecurityScheme::Http(bearer));
    }
}

/// The API's routes, and the document that describes them.
pub fn router() -> (Router<App>, utoipa::openapi::OpenApi) {
    let v1 = OpenApiRouter::new()
        .routes(routes!(session::login))
        .routes(routes!(session::logout))
        .routes(routes!(session::me))
        .routes(routes!(farms::farms))
        .routes(routes!(farms::overview))
        .routes(routes!(farms::fields))
        .routes(routes!(farms::gateways))
        .routes(routes!(stations::stations))
        .routes(routes!(stations::station))
        .routes(routes!(stations::series))
        .routes(routes!(readings::readings))
        .routes(routes!(stations::sparklines))
        .routes(routes!(alerts::alerts))
        .routes(routes!(decisions::decisions))
        .routes(routes!(events::events))
        .routes(routes!(models::models, models::push_model).layer(DefaultBodyLimit::max(models::MOST_BODY)))
        .routes(routes!(models::model_version))
        .routes(routes!(models::model_manifest))
        .routes(routes!(assignments::farm_models))
        .routes(routes!(assignments::activate_model))
        .routes(routes!(assignments::roll_back_model))
        .routes(routes!(assignments::model_events))
        .routes(routes!(nodes::node_models, nodes::push_node_model).layer(DefaultBodyLimit::max(nodes::MOST_BODY)))
        .routes(routes!(nodes::farm_node_models, nodes::set_node_models))
        .routes(routes!(uplink::uplink))
        .routes(routes!(uplink::status));
    let tuf = OpenApiRouter::new().routes(routes!(tuf::metadata)).routes(routes!(tuf::target));
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", v1).nest("/tuf", tuf).split_for_parts()
}

/// The OpenAPI document, as `cloud/openapi.json` holds it.
#[must_use]
pub fn openapi_json() -> String {
    // Serialising what was built from string constants does not fail; an empty document would fail the test.
    router().1.to_pretty_json().map(|text| text + "\n").unwrap_or_default()
}
