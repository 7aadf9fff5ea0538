//! Word of changes, from whichever process stored them to every browser that looks at the farm.
//!
//! A change is announced with PostgreSQL's NOTIFY in the transaction that stores it, so it is heard when and only when
//! the data can be seen, by every cloud process. Each process listens once and passes on to its streams.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::{FarmId, StationId, Timestamp};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgListener, PgNotification, PgPool};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::api::types::{Change, ChangeKind};
use crate::database::statements;

statements! {
    /// $1 channel, $2 payload.
    NOTIFY = "SELECT pg_notify($1, $2)";
}

/// The name under which PostgreSQL knows our notifications.
const CHANNEL: &str = "tilth_change";

/// The most stations that a notification lists: PostgreSQL takes 8,000 bytes, and a station's name has up to 64. A
/// change of more stations lists none, which means the whole farm.
const MOST_STATIONS: usize = 100;

/// Changes that a stream may be behind before it is told to ask for everything anew.
const MOST_BEHIND: usize = 256;

/// How long to wait before listening again when the database has gone.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// A change and its farm, or a kind of change that is of every farm, as notified.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Notification {
    Farm {
        farm: FarmId,
        #[serde(flatten)]
        change: Change,
    },
    Everywhere {
        everywhere: ChangeKind,
    },
}

/// What a stream hears.
#[derive(Debug, Clone)]
pub enum News {
    /// Something changed in a farm.
    Changed(FarmId, Change),
    /// Something changed that every farm shares.
    ChangedEverywhere(ChangeKind),
    /// Changes may have been missed.
    Missed,
}

/// Where the streams of this process hear of changes.
pub type Changes = broadcast::Sender<News>;

/// Announces a change; heard when the transaction commits.
///
/// # Errors
/// When the database does not answer.
pub async fn announce(
    connection: &mut sqlx::PgConnection,
    farm: &FarmId,
    kind: ChangeKind,
    stations: &BTreeSet<&StationId>,
    until: Timestamp,
) -> Result<(), sqlx::Error> {
    let listed = stations.len() <= MOST_STATIONS;
    let stations = stations.iter().filter(|_| listed).map(ToString::to_string).collect();
    notify(connection, &Notification::Farm { farm: farm.clone(), change: Change { kind, stations, until } }).await
}

/// Announces a change of what every farm shares; heard when the transaction commits.
///
/// # Errors
/// When the database does not answer.
pub async fn announce_everywhere(connection: &mut sqlx::PgConnection, kind: ChangeKind) -> Result<(), sqlx::Error> {
    notify(connection, &Notification::Everywhere { everywhere: kind }).await
}

async fn notify(connection: &mut sqlx::PgConnection, notification: &Notification) -> Result<(), sqlx::Error> {
    let payload = serde_json::to_string(notification).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(NOTIFY).bind(CHANNEL).bind(payload).execute(connection).await?;
    Ok(())
}

/// Listens, on a connection of its own. Whatever is announced from now on is heard.
///
/// # Errors
/// When the database does not answer.
pub async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// A place for this process's streams to hear of changes.
#[must_use]
pub fn channel() -> Changes {
    broadcast::Sender::new(MOST_BEHIND)
}

/// Passes on what is heard, until the shutdown. A database that goes away is listened to again when it is back, and the
/// streams are told so only then, so that nothing falls between what they ask for anew and what they hear next.
pub async fn pass_on(mut listener: PgListener, pool: PgPool, changes: Changes, shutdown: CancellationToken) {
    loop {
        let heard = tokio::select! {
            () = shutdown.cancelled() => return,
            heard = listener.try_recv() => heard,
        };
        let news = match heard {
            Ok(Some(notification)) => parse(&notification),
            // The connection was lost, and another listens already.
            Ok(None) => Some(News::Missed),
            Err(error) => {
                tracing::warn!(%error, "cannot listen for changes; trying again");
                listener = tokio::select! {
                    () = shutdown.cancelled() => return,
                    again = listen_again(&pool) => again,
                };
                tracing::info!("listening for changes again");
                Some(News::Missed)
            }
        };
        // An error only says that nobody looks now.
        news.map(|news| changes.send(news));
    }
}

async fn listen_again(pool: &PgPool) -> PgListener {
    loop {
        tokio::time::sleep(LISTEN_AGAIN).await;
        match listen(pool).await {
            Ok(listener) => return listener,
            Err(error) => tracing::debug!(%error, "cannot listen for changes yet"),
        }
    }
}

fn parse(notification: &PgNotification) -> Option<News> {
    match serde_json::from_str(notification.payload()) {
        Ok(Notification::Farm { farm, change }) => Some(News::Changed(farm, change)),
        Ok(Notification::Everywhere { everywhere }) => Some(News::ChangedEverywhere(everywhere)),
        Err(error) => {
            tracing::warn!(%error, payload = notification.payload(), "a notification that is not ours");
            None
        }
    }
}
