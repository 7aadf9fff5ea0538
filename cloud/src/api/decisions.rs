//! Decisions on irrigation.

use axum::Json;
use axum::extract::State;
use proto::{FieldId, Timestamp};
use utoipa::IntoParams;

use super::App;
use super::access::FarmAccess;
use super::parameters::{PageParameters, Parameters};
use super::problem::{ApiResult, Problem};
use super::types::DecisionPage;
use crate::decisions::{self, Selection};

/// What decisions to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; the handler reads them one by one")]
struct DecisionParameters {
    /// Only those for this field.
    #[param(value_type = String, required = false)]
    field: FieldId,
    /// Only those from this time on.
    #[param(value_type = String, format = DateTime, required = false)]
    from: Timestamp,
    /// Only those before this time.
    #[param(value_type = String, format = DateTime, required = false)]
    to: Timestamp,
}

/// What the farm's gateways decided on irrigation
///
/// Newest first, in pages.
#[utoipa::path(
    get,
    path = "/farms/{farm}/decisions",
    tag = "decisions",
    operation_id = "farm_decisions",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id"), DecisionParameters, PageParameters),
    responses(
        (status = 200, body = DecisionPage, description = "A page of decisions"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be used"),
    )
)]
pub async fn decisions(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
    mut parameters: Parameters,
) -> ApiResult<Json<DecisionPage>> {
    let selection = Selection {
        field: parameters.one("field")?,
        from: parameters.one("from")?,
        to: parameters.one("to")?,
        page: parameters.page()?,
    };
    parameters.finish()?;
    let connection = &mut *app.pool.acquire().await?;
    Ok(Json(decisions::page(connection, &farm, &selection).await?))
}
