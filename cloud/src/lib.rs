//! The cloud: takes in what gateways send, keeps it in PostgreSQL, and shows it to people.
//!
//! A batch goes through [`api`] (who sends it, is it one) to [`ingest`] (exactly once into the tables) and is announced
//! by [`changes`]. A page asks [`api`], which reads by [`inventory`], [`series`], [`alerts`] and [`people`]. A model goes
//! into the [`registry`], from which gateways fetch what they are to run. A process holds no state of its own, so any
//! number of them serve one database.
//!
//! Nothing here knows of MQTT, of filters or of how a gateway works inside: [`proto`] is all that is shared.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod alerts;
pub mod api;
pub mod changes;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod database;
pub mod decisions;
pub mod ingest;
pub mod inventory;
pub mod metrics;
pub mod paging;
pub mod people;
pub mod readings;
pub mod registry;
pub mod series;
pub mod server;
pub mod setup;
pub mod train;

use std::path::Path;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Config, RegistryConfig};

use crate::api::App;
use crate::clock::FarmClock;
use crate::metrics::Metrics;

/// Runs a cloud process: brings the tables up to date, serves until the shutdown, and ends in order.
///
/// # Errors
/// When the address is taken, or the database does not answer at the start.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(&config.listen).await.with_context(|| format!("listen = {:?}", config.listen))?;
    let address = listener.local_addr().with_context(|| format!("listen = {:?}", config.listen))?;
    let pool = database::connect_with(&config.database_url, config.database_connections).await?;
    database::migrate(&pool).await?;
    let heard = changes::listen(&pool).await.context("listening for changes")?;
    let changes = changes::channel();

    // However one of the tasks ends, by a panic too, the others end as well.
    let shutdown = shutdown.child_token();
    let passing_on = changes::pass_on(heard, pool.clone(), changes.clone(), shutdown.clone());
    let with_us = shutdown.clone().drop_guard();
    let passing_on = tokio::spawn(async move {
        let _with_us = with_us;
        passing_on.await;
    });
    let publisher = config.registry.as_ref().map(RegistryConfig::publisher);
    let renewing = publisher.clone().map(|publisher| {
        let (pool, with_us, shutdown) = (pool.clone(), shutdown.clone().drop_guard(), shutdown.clone());
        tokio::spawn(async move {
            let _with_us = with_us;
            registry::renew::keep_renewed(pool, publisher, shutdown).await;
        })
    });
    let clock = FarmClock::new(config.time.unwrap_or_default());
    let app = App::new(pool.clone(), clock, Metrics::default(), changes, shutdown.clone(), publisher);
    if let Some(path) = &config.ready_file {
        write_ready_file(path, &serde_json::json!({ "http": address.to_string() }))?;
    }
    tracing::info!(%address, "serving");
    let served = server::serve(listener, app).await;

    shutdown.cancel();
    passing_on.await.context("the task that passes on changes")?;
    if let Some(renewing) = renewing {
        renewing.await.context("the task that renews the registry's metadata")?;
    }
    pool.close().await;
    served
}

/// Writes the file as a whole or not at all, so that whoever waits for it never reads half of it.
fn write_ready_file(path: &Path, content: &serde_json::Value) -> anyhow::Result<()> {
    let unfinished = path.with_extension("tmp");
    std::fs::write(&unfinished, content.to_string())
        .and_then(|()| std::fs::rename(&unfinished, path))
        .with_context(|| format!("ready_file = {}", path.display()))
}
