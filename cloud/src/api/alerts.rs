//! Alerts.

use axum::Json;
use axum::extract::State;
use proto::StationId;
use utoipa::IntoParams;

use super::App;
use super::access::FarmAccess;
use super::parameters::Parameters;
use super::problem::{ApiResult, Problem};
use super::types::{AlertPage, AlertState};
use crate::alerts::{self, Cursor};

/// Alerts in a page unless the request says otherwise, and at most.
const PAGE: u32 = 50;
const MOST_PAGE: u32 = 200;

/// What alerts to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; the handler reads them one by one")]
struct AlertParameters {
    /// Which alerts; `all` unless given.
    #[param(inline, required = false)]
    state: AlertState,
    /// Only those of this station.
    #[param(value_type = String, required = false)]
    station: StationId,
    /// `next` of the page before.
    #[param(value_type = String, required = false)]
    cursor: Cursor,
    /// How many at most.
    #[param(required = false, default = 50, minimum = 1, maximum = 200)]
    limit: u32,
}

/// A farm's alerts
///
/// Newest first, in pages.
#[utoipa::path(
    get,
    path = "/farms/{farm}/alerts",
    tag = "alerts",
    operation_id = "farm_alerts",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id"), AlertParameters),
    responses(
        (status = 200, body = AlertPage, description = "A page of alerts"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be used"),
    )
)]
pub async fn alerts(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
    mut parameters: Parameters,
) -> ApiResult<Json<AlertPage>> {
    let state = parameters.one("state")?.unwrap_or(AlertState::All);
    let station: Option<StationId> = parameters.one("station")?;
    let after: Option<Cursor> = parameters.one("cursor")?;
    let limit = parameters.between("limit", 1, MOST_PAGE, PAGE)?;
    parameters.finish()?;
    let connection = &mut *app.pool.acquire().await?;
    Ok(Json(alerts::page(connection, &farm, state, station.as_ref(), after.as_ref(), limit).await?))
}
