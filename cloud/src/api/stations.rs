//! Stations and what they measured.

use axum::Json;
use axum::extract::State;
use proto::{Channel, Timestamp};
use utoipa::IntoParams;

use super::App;
use super::access::{FarmAccess, StationAccess};
use super::parameters::Parameters;
use super::problem::{ApiError, ApiResult, Problem};
use super::types::{Resolution, Sparklines, Station, StationDetail, StationSeries};
use crate::inventory;
use crate::series::{self, Selection};

/// Hours of sparklines unless the request says otherwise, and at most.
const HOURS: u32 = 168;
const MOST_HOURS: u32 = 31 * 24;

/// Seconds of a series unless the request says otherwise.
const SERIES_S: i64 = 7 * 24 * 3600;

/// Channels that a series can be asked for; a station has no more.
const MOST_CHANNELS: usize = proto::native::MAX_CHANNELS;

/// A farm's stations
#[utoipa::path(
    get,
    path = "/farms/{farm}/stations",
    tag = "stations",
    operation_id = "farm_stations",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    responses(
        (status = 200, body = Vec<Station>, description = "The stations, by id"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
    )
)]
pub async fn stations(State(app): State<App>, FarmAccess(farm): FarmAccess) -> ApiResult<Json<Vec<Station>>> {
    Ok(Json(inventory::stations(&mut *app.pool.acquire().await?, &farm, None).await?))
}

/// A station
#[utoipa::path(
    get,
    path = "/farms/{farm}/stations/{station}",
    tag = "stations",
    security(("session" = [])),
    params(
        ("farm" = String, Path, description = "The farm's id"),
        ("station" = String, Path, description = "The station's id"),
    ),
    responses(
        (status = 200, body = StationDetail, description = "The station and what it has delivered"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm or station, or somebody else's"),
    )
)]
pub async fn station(State(app): State<App>, access: StationAccess) -> ApiResult<Json<StationDetail>> {
    let connection = &mut *app.pool.acquire().await?;
    let mut found = inventory::stations(connection, &access.farm, Some(&access.station)).await?;
    let station = found.pop().ok_or_else(|| access.not_found())?;
    let counts = inventory::counts(connection, &access.farm, &access.station, app.clock.now()).await?;
    let untimely = inventory::untimely(connection, &access.farm, &access.station).await?;
    Ok(Json(StationDetail { station, counts, untimely }))
}

/// What series to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; `SeriesQuery::take` reads them one by one")]
struct SeriesParameters {
    /// Points that start at or after this time; seven days before `to` unless given.
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    from: Timestamp,
    /// Points that start before this time; now, in farm time, unless given.
    #[param(value_type = Option<String>, format = DateTime, required = false, nullable = false)]
    to: Timestamp,
    /// What one point sums up; `raw` unless given.
    #[param(inline, required = false)]
    resolution: Resolution,
    /// A channel, as often as needed; all of the station's unless given.
    #[param(value_type = Vec<String>, required = false, example = json!(["soil_moisture_20cm"]))]
    channel: Vec<Channel>,
}

struct SeriesQuery {
    from: Timestamp,
    to: Timestamp,
    resolution: Resolution,
    channels: Vec<Channel>,
}

impl SeriesQuery {
    fn take(mut parameters: Parameters, now: Timestamp) -> ApiResult<Self> {
        let to = parameters.one("to")?.unwrap_or(now);
        let from = parameters.one("from")?.unwrap_or_else(|| to.plus_secs(-SERIES_S));
        let resolution = parameters.one("resolution")?.unwrap_or(Resolution::Raw);
        let mut channels: Vec<Channel> = parameters.all("channel")?;
        parameters.finish()?;
        if from >= to {
            return Err(ApiError::parameter("from", &from.to_string(), format!("must be before to, which is {to}")));
        }
        channels.sort_unstable();
        channels.dedup();
        if let Some(channel) = channels.get(MOST_CHANNELS) {
            return Err(ApiError::parameter(
                "channel",
                &channel.to_string(),
                format!("is one of more than {MOST_CHANNELS}"),
            ));
        }
        Ok(Self { from, to, resolution, channels })
    }
}

/// What a station measured over time
///
/// A series for each channel, in columns. One answer holds at most 50,000 points; ask for less time, fewer channels or
/// a coarser resolution when there are more.
#[utoipa::path(
    get,
    path = "/farms/{farm}/stations/{station}/series",
    tag = "stations",
    operation_id = "station_series",
    security(("session" = [])),
    params(
        ("farm" = String, Path, description = "The farm's id"),
        ("station" = String, Path, description = "The station's id"),
        SeriesParameters,
    ),
    responses(
        (status = 200, body = StationSeries, description = "The series, by channel"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm or station, or somebody else's"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be used, or there are too many points"),
    )
)]
pub async fn series(
    State(app): State<App>,
    access: StationAccess,
    parameters: Parameters,
) -> ApiResult<Json<StationSeries>> {
    let query = SeriesQuery::take(parameters, app.clock.now())?;
    let SeriesQuery { from, to, resolution, mut channels } = query;
    let connection = &mut *app.pool.acquire().await?;
    if !series::station_exists(connection, &access.farm, &access.station).await? {
        return Err(access.not_found());
    }
    if channels.is_empty() {
        channels = series::channels(connection, &access.farm, &access.station).await?;
    }
    let (farm, station) = (&access.farm, &access.station);
    let selection = Selection { farm, station, channels: &channels, from, to, resolution };
    let series = series::series(connection, &selection).await?.ok_or_else(|| {
        let most = series::MOST_POINTS;
        ApiError::parameter(
            "from",
            &from.to_string(),
            format!(
                "gives more than {most} points up to {to}; ask for less time, fewer channels or a coarser resolution"
            ),
        )
    })?;
    Ok(Json(StationSeries { resolution, from, to, series }))
}

/// What sparklines to give.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the parameters; the handler reads them one by one")]
struct SparklineParameters {
    /// The channel.
    #[param(value_type = String, example = "soil_moisture_20cm")]
    channel: Channel,
    /// How many hours, up to and with the present one.
    #[param(required = false, default = 168, minimum = 1, maximum = 744)]
    hours: u32,
}

/// One channel of all stations
///
/// Hourly means for the sparklines of the farm's page, aligned with each other.
#[utoipa::path(
    get,
    path = "/farms/{farm}/sparklines",
    tag = "stations",
    operation_id = "farm_sparklines",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id"), SparklineParameters),
    responses(
        (status = 200, body = Sparklines, description = "Hourly means, by station"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
        (status = 422, body = Problem, content_type = "application/problem+json", description = "A parameter cannot be used"),
    )
)]
pub async fn sparklines(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
    mut parameters: Parameters,
) -> ApiResult<Json<Sparklines>> {
    let channel: Option<Channel> = parameters.one("channel")?;
    let hours = parameters.between("hours", 1, MOST_HOURS, HOURS)?;
    parameters.finish()?;
    let channel = channel.ok_or_else(|| ApiError::parameter("channel", "", "must be given"))?;
    let connection = &mut *app.pool.acquire().await?;
    Ok(Json(series::sparklines(connection, &farm, channel, hours, app.clock.now()).await?))
}
