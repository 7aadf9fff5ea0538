//! Models that run on the nodes themselves: their versions, and what a farm's nodes are to run.

use axum::Json;
use axum::extract::multipart::MultipartRejection;
use axum::extract::{Multipart, State};
use axum::http::StatusCode;
use proto::node_model::MAX_BYTES;

use super::App;
use super::access::{FarmAccess, Operator};
use super::models::{broken, bytes};
use super::parameters::JsonBody;
use super::problem::{ApiError, ApiResult, Problem};
use super::types::{FarmNodes, NodeModelList, NodeModelPush, NodeModelVersion, SetRollout};
use crate::people::Person;
use crate::registry::nodes;

/// The largest text of a push, in bytes.
const MOST_TEXT: u64 = 4096;
/// The largest body of a push, in bytes: the file, its name and its description, and what a form needs.
pub const MOST_BODY: usize = 64 << 10;

/// Models for nodes in the registry
///
/// Every version, newest first; the five hundred newest.
#[utoipa::path(
    get,
    path = "/node-models",
    tag = "models",
    operation_id = "node_models",
    security(("session" = [])),
    responses(
        (status = 200, body = NodeModelList, description = "The versions"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
    )
)]
pub async fn node_models(State(app): State<App>, _: Person) -> ApiResult<Json<NodeModelList>> {
    Ok(Json(NodeModelList { items: nodes::list(&mut *app.pool.acquire().await?).await? }))
}

/// Push a model for nodes
///
/// Registers a version, all of it or nothing. Versions never change: another content needs another number.
#[utoipa::path(
    post,
    path = "/node-models",
    tag = "models",
    operation_id = "push_node_model",
    security(("session" = [])),
    request_body(content = NodeModelPush, content_type = "multipart/form-data", description = "Name and file"),
    responses(
        (status = 201, body = NodeModelVersion, description = "Registered"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is no such form, or broke off"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "Needs the role operator or admin"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "The version exists; `detail` says whether with the same content"),
        (status = 413, body = Problem, content_type = "application/problem+json", description = "The file is too large"),
        (status = 415, body = Problem, content_type = "application/problem+json", description = "The body is no form"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "The model cannot be used; `detail` names every mistake"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The server has no keys for it, or the database does not answer"),
    )
)]
pub async fn push_node_model(
    State(app): State<App>,
    Operator(person): Operator,
    form: Result<Multipart, MultipartRejection>,
) -> ApiResult<(StatusCode, Json<NodeModelVersion>)> {
    let publisher = app.publisher.as_ref().ok_or(ApiError::ReadOnly)?;
    let mut form = form.map_err(|_| ApiError::Media {
        field: "content-type",
        expected: "multipart/form-data",
        value: "another".to_owned(),
    })?;
    let (mut name, mut trained_on, mut model) = (None, None, None);
    while let Some(field) = form.next_field().await.map_err(|error| broken(&error))? {
        let part = field.name().unwrap_or_default().to_owned();
        let (place, most) = match part.as_str() {
            "name" => (&mut name, MOST_TEXT),
            "trained_on" => (&mut trained_on, MOST_TEXT),
            "model" => (&mut model, MAX_BYTES as u64),
            _ => return Err(ApiError::parameter(part, "", "is a part that is not known here")),
        };
        if place.replace(bytes(field, &part, most).await?).is_some() {
            return Err(ApiError::parameter(part, "", "comes a second time"));
        }
    }
    let text = |part: &'static str, bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| ApiError::parameter(part, "", "is not UTF-8"))
    };
    let missing = |part| ApiError::parameter(part, "", "is missing");
    let name = text("name", name.ok_or_else(|| missing("name"))?)?;
    let trained_on = text("trained_on", trained_on.unwrap_or_default())?;
    let model = model.ok_or_else(|| missing("model"))?;
    let version = nodes::push(&app.pool, publisher, &name, &model, &trained_on, &person.email).await?;
    tracing::info!(name, version = version.version, by = person.email, "model for nodes registered");
    Ok((StatusCode::CREATED, Json(version)))
}

/// The models of a farm's nodes
///
/// What they are to run, and how gateways and stations stand.
#[utoipa::path(
    get,
    path = "/farms/{farm}/node-models",
    tag = "models",
    operation_id = "farm_node_models",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    responses(
        (status = 200, body = FarmNodes, description = "Rollout, gateways and stations"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
    )
)]
pub async fn farm_node_models(State(app): State<App>, FarmAccess(farm): FarmAccess) -> ApiResult<Json<FarmNodes>> {
    Ok(Json(nodes::of_farm(&mut *app.pool.acquire().await?, &farm).await?))
}

/// Set what a farm's nodes run
///
/// Which version, on which stations or which share of them, and whether it goes on, pauses, or is taken back. What is not
/// given stays as it is. A stage that was stopped, because too many stations refused the model or rolled it back, goes on with
/// any change.
#[utoipa::path(
    put,
    path = "/farms/{farm}/node-models",
    tag = "models",
    operation_id = "set_node_models",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    request_body = SetRollout,
    responses(
        (status = 200, body = FarmNodes, description = "Set; how things stand now"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is not JSON"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "Needs the role operator or admin"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm or version"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be used"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The server has no keys for it, or the database does not answer"),
    )
)]
pub async fn set_node_models(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
    Operator(person): Operator,
    JsonBody(change): JsonBody<SetRollout>,
) -> ApiResult<Json<FarmNodes>> {
    let publisher = app.publisher.as_ref().ok_or(ApiError::ReadOnly)?;
    nodes::set(&app.pool, publisher, &farm, &change, &person.email, app.clock.now()).await?;
    tracing::info!(%farm, ?change, by = person.email, "what nodes run is set");
    Ok(Json(nodes::of_farm(&mut *app.pool.acquire().await?, &farm).await?))
}
