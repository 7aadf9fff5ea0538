//! `/metrics` in the Prometheus text format, made anew at each request from what the parts count.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::broker::Broker;
use crate::door::{DoorMetrics, Outbox};
use crate::external::ExternalMetrics;
use crate::ingest::Snapshot;
use crate::uplink::UplinkMetrics;

/// Where the numbers are.
#[derive(Clone)]
pub struct Sources {
    /// The front door's.
    pub door: Arc<DoorMetrics>,
    /// The broker's.
    pub broker: Broker,
    /// Those of the way to the farm's own broker, where there is one.
    pub external: Option<Arc<ExternalMetrics>>,
    /// The uplink's, where there is a cloud.
    pub uplink: Option<Arc<UplinkMetrics>>,
    /// Who is connected.
    pub outbox: Outbox,
}

/// A counter with one label.
type Labelled = Family<[(&'static str, String); 1], Counter>;

/// The text for Prometheus.
///
/// # Errors
/// Never in practice: writing into a string does not fail.
pub fn render(snapshot: &Snapshot, sources: &Sources) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("tilth_gateway");
    let add =
        |name: &'static str, help: &str, label: &'static str, values: Vec<(String, u64)>, registry: &mut Registry| {
            let family = Labelled::default();
            for (value, count) in values {
                family.get_or_create(&[(label, value)]).inc_by(count);
            }
            registry.register(name, help, family);
        };
    let named = |values: Vec<(&'static str, u64)>| {
        values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Vec<_>>()
    };
    let under = |prefix: &str| -> Vec<(String, u64)> {
        let counters = snapshot.counters.iter();
        counters.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), *value))).collect()
    };
    add(
        "door",
        "What the front door counted since it was opened",
        "event",
        named(sources.door.snapshot()),
        &mut registry,
    );
    add(
        "broker",
        "What the broker counted since it was started",
        "event",
        named(sources.broker.metrics().snapshot()),
        &mut registry,
    );
    if let Some(external) = &sources.external {
        let help = "What the way to the farm's own broker counted since it was started";
        add("external_broker", help, "event", named(external.snapshot()), &mut registry);
    }
    add("rejected_readings", "Readings that were not accepted, by reason", "reason", under("rejected."), &mut registry);
    add("refused_messages", "Messages that could not be read, by reason", "reason", under("refused."), &mut registry);
    let others =
        snapshot.counters.iter().filter(|(name, _)| !name.contains('.')).map(|(name, value)| (name.clone(), *value));
    add("events", "What else was counted since the gateway was set up", "event", others.collect(), &mut registry);
    if let Some(uplink) = &sources.uplink {
        let load = |counter: &AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let counted = [
            ("batches", load(&uplink.batches)),
            ("records", load(&uplink.records)),
            ("bytes", load(&uplink.bytes)),
            ("failures", load(&uplink.failures)),
            ("refused", load(&uplink.refused)),
            ("link_bytes", load(&uplink.link_bytes)),
            ("reports", load(&uplink.reports)),
        ];
        add("uplink", "What the uplink counted since it was started", "event", named(counted.to_vec()), &mut registry);
    }
    let status = &snapshot.status;
    let gauge = |name: &'static str, help: &str, value: u64, registry: &mut Registry| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    gauge("stations", "Stations that were ever heard", u64::from(status.stations), &mut registry);
    gauge("connected", "Stations that are connected", sources.outbox.connected() as u64, &mut registry);
    gauge("open_alerts", "Alerts that are open", snapshot.alerts.len() as u64, &mut registry);
    gauge("disk_bytes", "Bytes that the store takes on disk", status.disk_bytes, &mut registry);
    let (correction_ms, doubt) = snapshot.own_clock;
    gauge(
        "clock_in_doubt",
        "Whether the gateway's own clock is not believed",
        u64::from(doubt.is_some()),
        &mut registry,
    );
    let correction: Gauge<f64, AtomicU64> = Gauge::default();
    correction.set(correction_ms as f64 / 1000.0);
    registry.register("clock_correction_seconds", "What is added to the gateway's own clock", correction);
    let waiting: Family<[(&'static str, String); 1], Gauge> = Family::default();
    for (lane, records) in &status.backlog {
        waiting.get_or_create(&[("lane", lane.clone())]).set(i64::try_from(*records).unwrap_or(i64::MAX));
    }
    registry.register("backlog", "Records that wait for the cloud", waiting);
    let waited: Family<[(&'static str, String); 1], Gauge> = Family::default();
    for (lane, of) in &status.uplink.lanes {
        let age = of.oldest.map_or(0, |oldest| status.at.millis_since(oldest).max(0) / 1000);
        waited.get_or_create(&[("lane", lane.clone())]).set(age);
    }
    registry.register("backlog_age_seconds", "How long the oldest record has waited, in farm time", waited);
    let dropped = status.uplink.lanes.iter().map(|(lane, of)| (lane.clone(), of.dropped)).collect();
    add("dropped_records", "What was dropped unsent because too much waited", "lane", dropped, &mut registry);
    if let Some(link) = &status.uplink.link {
        gauge("link_up", "Whether the cloud was reached the last time", u64::from(link.up), &mut registry);
    }
    if let Some(budget) = &status.uplink.budget {
        gauge("budget_bytes", "Bytes that may go over the link now", budget.available, &mut registry);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
