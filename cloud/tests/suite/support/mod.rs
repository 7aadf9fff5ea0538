//! What the tests stand on: a PostgreSQL server, clouds that run on its databases, and records to send.

pub mod cloud;
pub mod models;
pub mod postgres;
pub mod records;

use std::time::{Duration, Instant};

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `check` gives something.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
