//! Raw readings.

use axum::Json;
use axum::extract::State;
use proto::{Channel, Timestamp};
use utoipa::IntoParams;

use super::App;
use super::access::StationAccess;
use super::parameters::Parameters;
use super::problem::{ApiError, ApiResult, Problem};
use super::types::ReadingPage;
use crate::readings::{self, Cursor, Selection};
use crate::series;

/// Readings in a page unless the request says otherwise, and at most.
const PAGE: u32 = 1_000;
const MOST_PAGE: u32 = 20_000;

/// Seconds of readings unless the request says otherwise.
const SPAN_S: i64 = 24 * 3600;

/// What readings to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; the handler reads them one by one")]
struct ReadingParameters {
    /// The channel.
    #[param(value_type = String, example = "soil_moisture_20cm")]
    channel: Channel,
    /// Readings at or after this time; a day before `to` unless given.
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    from: Timestamp,
    /// Readings before this time; now, in farm time, unless given.
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    to: Timestamp,
    /// `next` of the page before.
    #[param(value_type = String, required = false)]
    cursor: Cursor,
    /// How many at most.
    #[param(required = false, default = 1000, minimum = 1, maximum = 20000)]
    limit: u32,
}

/// A channel's raw readings
///
/// As the station sent them, before any filter; oldest first, in pages. There are some only of gateways that are told to send
/// them.
#[utoipa::path(
    get,
    path = "/farms/{farm}/stations/{station}/readings",
    tag = "stations",
    operation_id = "station_readings",
    security(("session" = [])),
    params(
        ("farm" = String, Path, description = "The farm's id"),
        ("station" = String, Path, description = "The station's id"),
        ReadingParameters,
    ),
    responses(
        (status = 200, body = ReadingPage, description = "A page of readings"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm or station, or somebody else's"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be used"),
    )
)]
pub async fn readings(
    State(app): State<App>,
    access: StationAccess,
    mut parameters: Parameters,
) -> ApiResult<Json<ReadingPage>> {
    let channel: Option<Channel> = parameters.one("channel")?;
    let to = parameters.one("to")?.unwrap_or_else(|| app.clock.now());
    let from = parameters.one("from")?.unwrap_or_else(|| to.plus_secs(-SPAN_S));
    let after: Option<Cursor> = parameters.one("cursor")?;
    let limit = parameters.between("limit", 1, MOST_PAGE, PAGE)?;
    parameters.finish()?;
    let channel = channel.ok_or_else(|| ApiError::parameter("channel", "", "is missing"))?;
    if from >= to {
        return Err(ApiError::parameter("from", &from.to_string(), format!("must be before to, which is {to}")));
    }
    let connection = &mut *app.pool.acquire().await?;
    if !series::station_exists(connection, &access.farm, &access.station).await? {
        return Err(access.not_found());
    }
    let (farm, station) = (&access.farm, &access.station);
    let selection = Selection { farm, station, channel, from, to, after, limit };
    Ok(Json(readings::page(connection, &selection).await?))
}
