//! What is counted, for Prometheus.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use proto::Lane;
use sqlx::PgPool;

use crate::ingest::Receipt;

/// Upper bounds of the latency histogram, seconds.
const LATENCY_BOUNDS_S: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// A request's method, route and status. Routes, not paths, so that the number of label sets is bounded.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
}

/// One label with one of a few values.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Label(&'static str, &'static str);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [(self.0, self.1)].encode(encoder)
    }
}

/// The counters of a process.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<Request, Counter>,
    latency: Family<Route, Histogram>,
    batches: Family<Label, Counter>,
    repeated: Family<Label, Counter>,
    records: Family<Label, Counter>,
    rows: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    connections: Family<Label, Gauge>,
    streams: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BOUNDS_S)),
            batches: Family::default(),
            repeated: Family::default(),
            records: Family::default(),
            rows: Family::default(),
            refusals: Family::default(),
            connections: Family::default(),
            streams: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("tilth_cloud");
        registry.register("http_requests", "Requests answered, by route and status", metrics.requests.clone());
        registry.register("http_latency_seconds", "From request to the answer's head", metrics.latency.clone());
        registry.register("ingest_batches", "Batches stored", metrics.batches.clone());
        registry.register("ingest_repeated_batches", "Batches that were stored before", metrics.repeated.clone());
        registry.register("ingest_records", "Records stored, each once", metrics.records.clone());
        registry.register("ingest_rows", "Rows written, roll-ups not counted", metrics.rows.clone());
        registry.register("ingest_refusals", "Batches refused, by reason", metrics.refusals.clone());
        registry.register("database_connections", "Connections to the database", metrics.connections.clone());
        registry.register("event_streams", "Streams that listen for changes", metrics.streams.clone());
        metrics.registry = Arc::new(Mutex::new(registry));
        metrics
    }
}

impl Metrics {
    /// Counts an answered request.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let route = route.to_owned();
        self.latency.get_or_create(&Route { route: route.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Request { method: method.to_owned(), route, status }).inc();
    }

    /// Counts a stored batch.
    pub fn ingested(&self, lane: Lane, receipt: &Receipt) {
        let label = Label("lane", lane.name());
        let batches = if receipt.records == 0 { &self.repeated } else { &self.batches };
        batches.get_or_create(&label).inc();
        self.records.get_or_create(&label).inc_by(receipt.records);
        self.rows.get_or_create(&label).inc_by(receipt.rows);
    }

    /// Counts a refused batch.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&Label("reason", reason)).inc();
    }

    /// Everything as text.
    ///
    /// # Errors
    /// Never, in fact: writing to a string does not fail.
    pub fn text(&self, pool: &PgPool, streams: usize) -> Result<String, std::fmt::Error> {
        let idle = pool.num_idle();
        let used = (pool.size() as usize).saturating_sub(idle);
        for (state, number) in [("idle", idle), ("used", used)] {
            self.connections.get_or_create(&Label("state", state)).set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        self.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}
