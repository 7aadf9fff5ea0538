//! Alerts.

use axum::Json;
use axum::extract::State;
use proto::StationId;
use utoipa::IntoParams;

use super::App;
use super::access::FarmAccess;
use super::parameters::{PageParameters, Parameters};
use super::problem::{ApiResult, Problem};
use super::types::{AlertPage, AlertState};
use crate::alerts;

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
    params(("farm" = String, Path, description = "The farm's id"), AlertParameters, PageParameters),
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
    let page = parameters.page()?;
    parameters.finish()?;
    let connection = &mut *app.pool.acquire().await?;
    Ok(Json(alerts::page(connection, &farm, state, station.as_ref(), &page).await?))
}
