//! Word of changes to browsers, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt as _, future};
use tokio_stream::wrappers::BroadcastStream;

use super::App;
use super::access::FarmAccess;
use super::problem::{ApiError, ApiResult, Problem};
use super::types::Change;
use crate::changes::News;

/// How often a comment keeps a silent stream alive through proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a stream lasts. The browser connects again by itself, and whoever was logged out meanwhile is refused.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Changes as they come
///
/// Server-sent events. `change` says what changed; its data is a `Change`. `refresh`, without data to speak of, says
/// that changes may have been missed: ask for everything anew. The stream ends after an hour, or when the server stops;
/// connect again then.
#[utoipa::path(
    get,
    path = "/farms/{farm}/events",
    tag = "farms",
    operation_id = "farm_events",
    security(("session" = [])),
    params(("farm" = String, Path, description = "The farm's id")),
    responses(
        (status = 200, body = Change, content_type = "text/event-stream", description = "A stream of events"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "Nobody is logged in"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "No such farm, or somebody else's"),
        (status = 429, body = Problem, content_type = "application/problem+json", description = "Too many streams are open"),
    )
)]
pub async fn events(
    State(app): State<App>,
    FarmAccess(farm): FarmAccess,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let place = app.streams.clone().try_acquire_owned().map_err(|_| ApiError::TooMany {
        detail: "too many streams are open; ask every minute instead",
        retry_after_s: 60,
    })?;
    let clock = app.clock;
    let news = BroadcastStream::new(app.changes.subscribe()).filter_map(move |news| {
        let changed = |change: Change| Event::default().event("change").json_data(change).ok();
        let event = match news {
            Ok(News::Changed(of, change)) if of == farm => changed(change),
            Ok(News::ChangedEverywhere(kind)) => changed(Change { kind, stations: Vec::new(), until: clock.now() }),
            Ok(News::Changed(..)) => None,
            // Missed by the process, or by this stream, which was too slow.
            Ok(News::Missed) | Err(_) => Some(Event::default().event("refresh").data("{}")),
        };
        future::ready(event.map(Ok))
    });
    let shutdown = app.shutdown.clone();
    let end = async move {
        let _place = place;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(LIFETIME) => {}
        }
    };
    let hello = futures_util::stream::iter([Ok(Event::default().comment("listening"))]);
    let stream = hello.chain(news).take_until(Box::pin(end));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}
