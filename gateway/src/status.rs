//! The gateway's own page, which needs neither a cloud nor JavaScript: what a person with a phone in the farmhouse wants to
//! know. `/metrics` and `/healthz` beside it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use proto::update::{Candidate, Phase};
use proto::{GatewayStatus, Reading, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Verdict;
use crate::door::{TurnedAway, TurnedAwayLog};
use crate::ingest::{Snapshot, Snapshots, StationState};
use crate::metrics::{self, Sources};

mod refusals;

pub use refusals::Refused;

const STYLE: &str = "
:root{color-scheme:light dark;--ground:#f6f5f1;--card:#fff;--line:#e2dfd6;--ink:#1f2421;--quiet:#5d665f;--fault:#b3261e;--warning:#8f5600;--ok:#2f6b4f}
@media(prefers-color-scheme:dark){:root{--ground:#151917;--card:#1d2320;--line:#2e3632;--ink:#e8ece9;--quiet:#a9b3ad;--fault:#f28b82;--warning:#f0b35a;--ok:#7fc4a1}}
body{font:15px/22px Inter,system-ui,sans-serif;background:var(--ground);color:var(--ink);margin:0;padding:20px;max-width:1100px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:15px;margin:0 0 8px}p{margin:0 0 16px;color:var(--quiet)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px;margin:0 0 16px;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child,td.words,th.words{text-align:left;white-space:normal}th{font-weight:550;color:var(--quiet);font-size:12.5px}
.fault{color:var(--fault)}.warning{color:var(--warning)}.ok{color:var(--ok)}
";

/// What the page is made of.
#[derive(Clone)]
pub struct Page {
    /// The farm's and the gateway's name.
    pub title: String,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// Whom the door turned away last.
    pub turned_away: Arc<TurnedAwayLog>,
    /// The pipeline's state.
    pub snapshot: Snapshots,
    /// The same with what waits for the cloud.
    pub status: watch::Receiver<GatewayStatus>,
    /// What is counted.
    pub sources: Sources,
}

/// Serves the page until `shutdown`.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: TcpListener, page: Page, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(show))
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(page);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn show_metrics(State(page): State<Page>) -> impl IntoResponse {
    let mut snapshot = page.snapshot.fresh().await;
    snapshot.status = page.status.borrow().clone();
    match metrics::render(&snapshot, &page.sources) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn show(State(page): State<Page>) -> Markup {
    let snapshot = page.snapshot.fresh().await;
    let status = page.status.borrow().clone();
    let now = status.at;
    let data_dir = page.data_dir.clone();
    let aside = tokio::task::spawn_blocking(move || refusals::newest(&data_dir)).await;
    let aside = aside.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="5";
                title { (page.title) " · Tilth gateway" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (page.title) }
                p { "Farm time " (now) ", started " (age(now, status.started)) " ago, version " (status.version) "." }
                (alerts(&snapshot, now))
                (decisions(&snapshot, now))
                (stations(&snapshot, now))
                (models(&snapshot, &status, now))
                (facts(&status, page.sources.outbox.connected(), now))
                (unmapped(&snapshot, now))
                (refusals(&status, &page.sources.door.snapshot()))
                (kept_aside(&aside, now))
                (turned_away(&page.turned_away.newest(), crate::wall_clock()))
            }
        }
    }
}

fn alerts(snapshot: &Snapshot, now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Open alerts · " (snapshot.alerts.len()) }
            @if snapshot.alerts.is_empty() { span.ok { "Nothing needs attention." } }
            @else {
                table {
                    tr { th { "Station" } th.words { "What" } th { "Score" } th { "Since" } th { "Found by" } }
                    @for alert in &snapshot.alerts {
                        tr {
                            td { (alert.station) }
                            td.words.fault { (alert.message) }
                            td { (format!("{:.1}", alert.score)) }
                            td { (age(now, alert.opened)) }
                            td { (alert.model.as_deref().unwrap_or("a rule")) }
                        }
                    }
                }
            }
        }
    }
}

/// What was decided last for each field, and how it stands now.
fn decisions(snapshot: &Snapshot, now: Timestamp) -> Markup {
    html! {
        @if !snapshot.fields.is_empty() {
            section {
                h2 { "Irrigation decisions" }
                table {
                    tr { th { "Field" } th { "Decided" } th.words { "What" } th.words { "Why" } th { "Valves" } }
                    @for field in &snapshot.fields {
                        @let decision = field.now.as_ref().or(field.told.as_ref());
                        tr {
                            td { (field.field) @if !field.auto { " (advice)" } }
                            @if let Some(decision) = decision {
                                td { (age(now, decision.at)) " ago" }
                                td.words {
                                    @match decision.run {
                                        Some(run) => { (format!("irrigate {:.1} mm in {} min", run.mm, run.minutes)) }
                                        None => { "hold: " (decision.cause.name()) }
                                    }
                                }
                                td.words { (decision.reason) }
                            } @else {
                                td {} td.words { "nothing yet" } td {}
                            }
                            td {
                                @for (valve, confirmed) in &field.valves {
                                    @if *confirmed { (valve) " ran " } @else { span.warning { (valve) " unconfirmed " } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn stations(snapshot: &Snapshot, now: Timestamp) -> Markup {
    let mut channels: Vec<_> = snapshot.stations.iter().flat_map(|s| s.latest.iter().map(|r| r.channel)).collect();
    channels.sort_unstable();
    channels.dedup();
    // A column for the few that have a wrong one, only while there are any.
    let wrong_clock = snapshot.stations.iter().any(|s| s.clock.verdict.is_wrong());
    html! {
        section {
            h2 { "Stations · " (snapshot.stations.len()) }
            @if snapshot.stations.is_empty() { "No station has reported yet. A station connects by MQTT with its name and password." }
            @else {
                table {
                    tr {
                        th { "Station" } th { "Heard" }
                        @if wrong_clock { th { "Clock" } }
                        @for channel in &channels { th { (channel.label()) br; (channel.quantity.symbol()) } }
                    }
                    @for station in snapshot.stations.iter() {
                        tr {
                            td { (station.id) }
                            (heard(station, now))
                            @if wrong_clock { (clock(station, now)) }
                            @for channel in &channels {
                                td { @if let Some(reading) = station.latest.iter().find(|r| r.channel == *channel) { (value(reading)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn heard(station: &StationState, now: Timestamp) -> Markup {
    let late = now.millis_since(station.heard) > 3_000 * i64::from(station.report_s);
    html! { @if late { td.warning { "silent " (age(now, station.heard)) } } @else { td { (age(now, station.heard)) } } }
}

fn clock(station: &StationState, now: Timestamp) -> Markup {
    let state = &station.clock;
    if !state.verdict.is_wrong() {
        return html! { td { (state.verdict.name()) } };
    }
    let mut said = Vec::new();
    if !matches!(state.verdict, Verdict::Ahead | Verdict::Behind | Verdict::LongPast) {
        said.push(state.verdict.name().to_owned());
    }
    if let Some(offset_ms) = state.offset_ms {
        let by = age(Timestamp::from_millis(offset_ms.saturating_abs()), Timestamp::from_millis(0));
        said.push(format!("{by} {}", if offset_ms < 0 { "behind" } else { "ahead" }));
    }
    said.extend(state.drift_ppm.map(|ppm| format!("{:+.1} s a day", ppm * 0.0864)));
    said.extend(state.since.map(|since| format!("for {}", age(now, since))));
    html! { td.warning { (said.join(", ")) } }
}

fn value(reading: &Reading) -> String {
    format!("{:.*}", usize::from(reading.channel.quantity.decimals()), reading.value)
}

/// What judges and since when, what is on its way, and what was refused.
fn models(snapshot: &Snapshot, status: &GatewayStatus, now: Timestamp) -> Markup {
    let update = &status.update;
    let on_its_way = |name: &str| update.models.iter().find(|model| model.name == name);
    html! {
        section {
            h2 { "Models" }
            table {
                @for model in &status.models {
                    tr {
                        td { (model.name) " " (model.version) }
                        td.words { @if let Some(told) = on_its_way(&model.name) { (told.active.why) } }
                        td { "for " (age(now, model.since)) }
                    }
                }
                @for (model, reason) in &snapshot.failed_models {
                    tr { td.fault { (model) " stopped" } td.words { (reason) } td {} }
                }
                @for model in &update.models {
                    @if let Some(candidate) = &model.candidate {
                        tr {
                            td.warning { (model.name) " " (candidate.version) " on its way" }
                            td.words { (phase(candidate)) }
                            td { "for " (age(now, candidate.since)) }
                        }
                    }
                    @for refusal in &model.refusals {
                        tr {
                            td.fault { (model.name) " " (refusal.version.as_deref().unwrap_or_default()) " refused" }
                            td.words { (refusal.text) }
                            td { (age(now, refusal.at)) " ago" }
                        }
                    }
                }
                @if let Some(refusal) = &update.refusal {
                    tr { td.fault { "The registry is refused" } td.words { (refusal.text) } td { (age(now, refusal.at)) " ago" } }
                }
                @if let Some(checked) = update.checked {
                    tr { td { "Registry last read" } td {} td { (age(now, checked)) " ago" } }
                }
            }
        }
    }
}

fn phase(candidate: &Candidate) -> String {
    match (candidate.phase, &candidate.shadow) {
        (Phase::Fetching, _) => format!("{} of {} bytes fetched", candidate.fetched, candidate.size),
        (Phase::Verified, _) => "fetched and verified, not yet tested".to_owned(),
        (Phase::SelfTested, _) => "answered its golden samples, not yet in shadow".to_owned(),
        (Phase::Shadow, None) => "in shadow".to_owned(),
        (Phase::Shadow, Some(shadow)) => format!(
            "in shadow until {}: {:.1} % of the scores of {} windows agree",
            shadow.until,
            100.0 * shadow.agreement,
            shadow.windows
        ),
    }
}

fn facts(status: &GatewayStatus, connected: usize, now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Gateway" }
            table {
                tr { td { "Stations connected" } td { (connected) } }
                tr { td { "Readings stored" } td { (status.readings) } }
                tr { td { "Store on disk" } td { (format!("{:.1} MB", status.disk_bytes as f64 / 1e6)) } }
                @for (lane, records) in &status.backlog { tr { td { "Waiting for the cloud: " (lane) } td { (records) } } }
                @if let Some(oldest) = status.backlog_oldest { tr { td { "Oldest of them" } td { (age(now, oldest)) } } }
            }
        }
    }
}

/// What was rejected since the gateway was set up, and what the door refused since it was opened.
fn refusals(status: &GatewayStatus, door: &[(&'static str, u64)]) -> Markup {
    let at_the_door = door.iter().filter(|(event, count)| *count > 0 && event.contains("refused"));
    let all: Vec<_> = status
        .rejected
        .iter()
        .map(|(reason, count)| (reason.replace('_', " "), *count))
        .chain(at_the_door.map(|(event, count)| (format!("at the door: {}", event.replace('_', " ")), *count)))
        .collect();
    html! {
        section {
            h2 { "Rejected and refused, by reason" }
            @if all.is_empty() { "Nothing so far." }
            @else { table { @for (reason, count) in &all { tr { td { (reason) } td { (count) } } } } }
        }
    }
}

/// Channels of other people's sensors that nobody mapped, each with the line that would.
fn unmapped(snapshot: &Snapshot, now: Timestamp) -> Markup {
    html! {
        @if !snapshot.unmapped.is_empty() {
            section {
                h2 { "Channels that nobody mapped · " (snapshot.unmapped.len()) }
                p { "Their messages are kept. Look at the proposal, and copy the line into the source's " code { "channels" } "." }
                table {
                    tr { th { "Source" } th.words { "Station" } th.words { "Channel" } th { "Last value" } th { "Came" } th { "Values" } th.words { "Line" } }
                    @for one in &snapshot.unmapped {
                        tr {
                            td { (one.channel.source) }
                            td.words { (one.channel.station) }
                            td.words { (one.channel.name) }
                            td { (one.channel.value) @if let Some(unit) = &one.channel.unit { " " (unit) } }
                            td { (age(now, one.at)) " ago" }
                            td { (one.values) }
                            td.words { code { (one.channel.line()) } }
                        }
                    }
                }
            }
        }
    }
}

/// The newest of what could not be taken, with what was wrong.
fn kept_aside(aside: &Result<Vec<Refused>, String>, now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Kept aside, the newest first" }
            @match aside {
                Err(error) => span.fault { "The store cannot be read: " (error) },
                Ok(aside) if aside.is_empty() => "Nothing so far.",
                Ok(aside) => table {
                    tr { th { "From" } th.words { "What is wrong" } th { "Came" } }
                    @for one in aside {
                        tr { td { (one.source) } td.words { (one.reason) } td { (age(now, one.at)) " ago" } }
                    }
                },
            }
        }
    }
}

/// Whom the door refused or sent away, with the wall clock's time.
fn turned_away(clients: &[TurnedAway], wall: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Turned away at the door, the newest first" }
            @if clients.is_empty() { "Nobody so far." }
            @else {
                table {
                    tr { th { "Client" } th.words { "Why" } th { "Times" } th { "Last" } }
                    @for one in clients {
                        tr { td { (one.client) } td.words { (one.why) } td { (one.times) } td { (age(wall, one.at)) " ago" } }
                    }
                }
            }
        }
    }
}

/// How long ago, in the two largest units.
fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.millis_since(then).max(0) / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_said_in_its_largest_units() {
        let now = Timestamp::from_secs(1_000_000);
        let ago = |seconds: i64| age(now, now.plus_secs(-seconds));
        assert_eq!(
            [ago(5), ago(125), ago(20_400), ago(200_000), ago(-9)],
            ["5 s", "2 min", "5 h 40 min", "2 d 7 h", "0 s"]
        );
    }
}
