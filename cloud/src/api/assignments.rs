//! What a farm's gateways are to run, and what they made of it.

use axum::Json;
use axum::extract::{Path, State};

use super::App;
use super::access::{FarmAccess, Operator};
use super::parameters::{JsonBody, PageParameters, Parameters};
use super::problem::{ApiError, ApiResult, Problem};
use super::types::{Activation, FarmModels, ModelEventPage, RollBack};
use crate::registry::assign::{self, Change};
use crate::registry::events;

/// A farm's models
///
/// What each gateway is to run, and how it stands.
#[utoipa::path(
    get,
    path = "/farms/{farm}/models",
    tag = "models",
    operation_id = "farm_models",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    responses(
        (status = 200, body = FarmModels, description = "Assignments and gateways"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
    )
)]
pub async fn farm_models(State(app): State<App>, FarmAccess(farm): FarmAccess) -> ApiResult<Json<FarmModels>> {
    Ok(Json(assign::of_farm(&mut *app.pool.acquire().await?, &farm).await?))
}

/// Activate a version
///
/// The gateways fetch it, test it, run it in shadow for a while, and let it take over; or refuse it and say why.
#[utoipa::path(
    put,
    path = "/farms/{farm}/models/{name}",
    tag = "models",
    operation_id = "activate_model",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id"), ("name" = String, Path, description = "The model's name")),
    request_body = Activation,
    responses(
        (status = 200, body = FarmModels, description = "Assigned; how things stand now"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is not JSON, or lacks a field"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "Needs the role operator or admin"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, version or gateway"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A value cannot be used"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The server has no keys for it, or the database does not answer"),
    )
)]
pub async fn activate_model(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
    Operator(person): Operator,
    Path(path): Path<(String, String)>,
    JsonBody(activation): JsonBody<Activation>,
) -> ApiResult<Json<FarmModels>> {
    let publisher = app.publisher.as_ref().ok_or(ApiError::ReadOnly)?;
    let (_, model) = path;
    if model.contains('\0') || activation.version.contains('\0') {
        return Err(ApiError::parameter("version", &activation.version.escape_default().to_string(), "is no version"));
    }
    let change = Change { farm: &farm, model: &model, by: &person.email, now: app.clock.now() };
    assign::activate(&app.pool, publisher, &change, &activation).await?;
    tracing::info!(%farm, model, version = activation.version, by = person.email, "model assigned");
    Ok(Json(assign::of_farm(&mut *app.pool.acquire().await?, &farm).await?))
}

/// Go back to the version before
///
/// Each gateway gets the version that was assigned before the present one, or else the one that it reported to have run,
/// and takes it up at once. Unless gateways are named, those that have none stay as they are.
#[utoipa::path(
    post,
    path = "/farms/{farm}/models/{name}/rollback",
    tag = "models",
    operation_id = "roll_back_model",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id"), ("name" = String, Path, description = "The model's name")),
    request_body = RollBack,
    responses(
        (status = 200, body = FarmModels, description = "Assigned; how things stand now"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "The body is not JSON"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 403, body = Problem, content_type = "application/problem+json", description = "Needs the role operator or admin"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm or gateway"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "There is no version to go back to"),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "The server has no keys for it, or the database does not answer"),
    )
)]
pub async fn roll_back_model(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
    Operator(person): Operator,
    Path(path): Path<(String, String)>,
    JsonBody(order): JsonBody<RollBack>,
) -> ApiResult<Json<FarmModels>> {
    let publisher = app.publisher.as_ref().ok_or(ApiError::ReadOnly)?;
    let (_, model) = path;
    let change = Change { farm: &farm, model: &model, by: &person.email, now: app.clock.now() };
    assign::roll_back(&app.pool, publisher, &change, order.gateways.as_deref()).await?;
    tracing::info!(%farm, model, by = person.email, "model rolled back");
    Ok(Json(assign::of_farm(&mut *app.pool.acquire().await?, &farm).await?))
}

/// What happened to a farm's models
///
/// What gateways activated, ran in shadow, refused and rolled back. Newest first, in pages.
#[utoipa::path(
    get,
    path = "/farms/{farm}/models/events",
    tag = "models",
    operation_id = "farm_model_events",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id"), PageParameters),
    responses(
        (status = 200, body = ModelEventPage, description = "A page of events"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be used"),
    )
)]
pub async fn model_events(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
    mut parameters: Parameters,
) -> ApiResult<Json<ModelEventPage>> {
    let page = parameters.page()?;
    parameters.finish()?;
    Ok(Json(events::page(&mut *app.pool.acquire().await?, &farm, &page).await?))
}
