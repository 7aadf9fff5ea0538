//! Farms, their fields and their gateways.

use axum::Json;
use axum::extract::State;

use super::App;
use super::access::FarmAccess;
use super::problem::{ApiResult, Problem};
use super::types::{AlertState, FarmSummary, Field, Gateway, Overview};
use crate::paging::Page;
use crate::people::Person;
use crate::{alerts, inventory};

/// The most open alerts in an overview; a page shows no more at a glance.
const MOST_ALERTS: u32 = 200;

/// My farms
#[utoipa::path(
    get,
    path = "/farms",
    tag = "farms",
    operation_id = "my_farms",
    security(("session" = [])),
    responses(
        (status = 200, body = Vec<FarmSummary>, description = "The farms that the person sees, by name"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
    )
)]
pub async fn farms(State(app): State<App>, person: Person) -> ApiResult<Json<Vec<FarmSummary>>> {
    Ok(Json(inventory::farms_of(&mut *app.pool.acquire().await?, person.user_id).await?))
}

/// A farm at a glance
///
/// Everything that the farm's page shows, in one answer.
#[utoipa::path(
    get,
    path = "/farms/{farm}",
    tag = "farms",
    operation_id = "farm_overview",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    responses(
        (status = 200, body = Overview, description = "The farm"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
    )
)]
pub async fn overview(State(app): State<App>, FarmAccess(farm): FarmAccess) -> ApiResult<Json<Overview>> {
    let connection = &mut *app.pool.acquire().await?;
    let stations = inventory::stations(connection, &farm, None).await?;
    let data_until = stations.iter().flat_map(|station| &station.latest).map(|latest| latest.time).max();
    Ok(Json(Overview {
        now: app.clock.now(),
        speed: app.clock.speed(),
        data_until,
        fields: inventory::fields(connection, &farm).await?,
        alerts: alerts::page(connection, &farm, AlertState::Open, None, &Page { after: None, limit: MOST_ALERTS })
            .await?
            .items,
        gateways: inventory::gateways(connection, &farm).await?,
        farm: inventory::farm(connection, &farm).await?,
        stations,
    }))
}

/// A farm's fields
#[utoipa::path(
    get,
    path = "/farms/{farm}/fields",
    tag = "farms",
    operation_id = "farm_fields",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    responses(
        (status = 200, body = Vec<Field>, description = "The fields, by name"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
    )
)]
pub async fn fields(State(app): State<App>, FarmAccess(farm): FarmAccess) -> ApiResult<Json<Vec<Field>>> {
    Ok(Json(inventory::fields(&mut *app.pool.acquire().await?, &farm).await?))
}

/// A farm's gateways
#[utoipa::path(
    get,
    path = "/farms/{farm}/gateways",
    tag = "farms",
    operation_id = "farm_gateways",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    responses(
        (status = 200, body = Vec<Gateway>, description = "The gateways, by id"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
    )
)]
pub async fn gateways(State(app): State<App>, FarmAccess(farm): FarmAccess) -> ApiResult<Json<Vec<Gateway>>> {
    Ok(Json(inventory::gateways(&mut *app.pool.acquire().await?, &farm).await?))
}
