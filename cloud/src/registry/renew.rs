//! Keeps the registry's metadata from expiring.
//!
//! Any number of processes look after it; the lock lets one of them at a time see what is due, so each renewal is made once.

use std::time::Duration;

use proto::Timestamp;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tough::schema::RoleType;

use super::metadata::Lifetimes;
use super::{Publisher, RegistryError, store};
use crate::clock;

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long before the root's end the log begins to warn, in seconds: only a person with its key can renew it.
const ROOT_WARNING_S: i64 = 30 * 24 * 3600;

/// How often it warns, in seconds.
const WARN_EVERY_S: i64 = 24 * 3600;

/// Renews what is due, until the shutdown. A failure is logged, and tried again at the next look.
pub async fn keep_renewed(pool: PgPool, publisher: Publisher, shutdown: CancellationToken) {
    let mut warned: Option<Timestamp> = None;
    loop {
        let now = clock::wall();
        match renew(&pool, &publisher, now).await {
            Ok(Some(role)) => tracing::info!(%role, "renewed the registry's metadata"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot renew the registry's metadata yet"),
        }
        match root_ends_soon(&pool, now).await {
            Ok(Some(end)) if warned.is_none_or(|at| now >= at.plus_secs(WARN_EVERY_S)) => {
                tracing::warn!(%end, "the registry's root is about to expire: rotate its key");
                warned = Some(now);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "cannot read when the registry's root expires"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Renews what is due at `now`, by the wall clock. Gives the lowest role that was.
///
/// # Errors
/// [`RegistryError`]; nothing has changed then.
pub async fn renew(pool: &PgPool, publisher: &Publisher, now: Timestamp) -> Result<Option<RoleType>, RegistryError> {
    if due(&store::expiries(pool).await?, publisher.lifetimes, now).is_none() {
        return Ok(None);
    }
    let mut transaction = pool.begin().await?;
    store::lock(&mut transaction).await?;
    // Another process may have been faster.
    let Some(role) = due(&store::expiries(&mut *transaction).await?, publisher.lifetimes, now) else {
        return Ok(None);
    };
    let published = store::newest(&mut transaction).await?.ok_or(RegistryError::NotCreated)?;
    let signatures = publisher.signer(now).next(role, published).await?;
    store::add_metadata(&mut transaction, signatures, now).await?;
    transaction.commit().await?;
    Ok(Some(role))
}

/// The lowest role whose metadata has no more than half its life before it. What stands above it is renewed with it.
fn due(expiries: &[(RoleType, Timestamp)], lifetimes: Lifetimes, now: Timestamp) -> Option<RoleType> {
    let is_due = |role: &RoleType| {
        let ends = expiries.iter().find(|(of, _)| of == role).map(|(_, ends)| *ends);
        ends.is_some_and(|ends| ends.plus_secs(-lifetimes.seconds(*role) / 2) <= now)
    };
    super::ONLINE.into_iter().find(is_due)
}

async fn root_ends_soon(pool: &PgPool, now: Timestamp) -> Result<Option<Timestamp>, sqlx::Error> {
    let expiries = store::expiries(pool).await?;
    let end = expiries.iter().find(|(role, _)| *role == RoleType::Root).map(|(_, end)| *end);
    Ok(end.filter(|end| end.plus_secs(-ROOT_WARNING_S) <= now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: i64 = 3600;

    #[test]
    fn what_has_half_its_life_behind_it_is_due_the_lowest_first() {
        let now = Timestamp::from_secs(1_800_000_000);
        let in_hours = |hours: i64| now.plus_secs(hours * HOUR_S);
        let due = |targets, snapshot, timestamp| {
            let ends = [
                (RoleType::Root, in_hours(1)),
                (RoleType::Targets, in_hours(targets)),
                (RoleType::Snapshot, in_hours(snapshot)),
                (RoleType::Timestamp, in_hours(timestamp)),
            ];
            due(&ends, Lifetimes { timestamp_days: 1 }, now)
        };
        assert_eq!(due(2000, 2000, 13), None);
        assert_eq!(due(2000, 2000, 12), Some(RoleType::Timestamp));
        assert_eq!(due(2000, 2000, -100), Some(RoleType::Timestamp));
        assert_eq!(due(2000, 45 * 24, 13), Some(RoleType::Snapshot));
        assert_eq!(due(45 * 24, 45 * 24, 0), Some(RoleType::Targets));
        assert_eq!(super::due(&[], Lifetimes::default(), now), None);
    }
}
