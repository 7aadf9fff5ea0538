//! The gateway's own page, which needs neither a cloud nor JavaScript: what a person with a phone in the farmhouse wants to
//! know. `/metrics` and `/healthz` beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use proto::update::{Candidate, Phase};
use proto::{GatewayStatus, Reading, Timestamp};
use rusqlite::{Connection, OpenFlags};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Verdict;
use crate::config::RetentionConfig;
use crate::door::{TurnedAway, TurnedAwayLog};
use crate::ingest::{Doubt, Snapshot, Snapshots, StationState};
use crate::metrics::{self, Sources};
use crate::uplink::Pace;

mod disk;
mod refusals;
mod way;

use disk::Disk;
use refusals::Refused;

const STYLE: &str = "
:root{color-scheme:light dark;--ground:#f6f5f1;--card:#fff;--line:#e2dfd6;--ink:#1f2421;--quiet:#5d665f;--fault:#b3261e;--warning:#8f5600;--ok:#2f6b4f}
@media(prefers-color-scheme:dark){:root{--ground:#151917;--card:#1d2320;--line:#2e3632;--ink:#e8ece9;--quiet:#a9b3ad;--fault:#f28b82;--warning:#f0b35a;--ok:#7fc4a1}}
body{font:15px/22px Inter,system-ui,sans-serif;background:var(--ground);color:var(--ink);margin:0;padding:20px;max-width:1100px}
h1{font-size:22px;margin:0 0 4px}h2{font-size:15px;margin:0 0 8px}p{margin:0 0 16px;color:var(--quiet)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px;margin:0 0 16px;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--line)}
td{white-space:nowrap}th{font-weight:550;color:var(--quiet);font-size:12.5px;line-height:17px;vertical-align:bottom}tr:last-child td{border-bottom:0}
th:first-child,td:first-child,td.words,th.words{text-align:left}td:first-child,td.words{white-space:normal}
td.long{min-width:16em;overflow-wrap:anywhere}.stations td:first-child,.stations th:first-child{position:sticky;left:-16px;background:var(--card);white-space:nowrap}
.stations th{min-width:4.6em}.stations td.clock{white-space:normal;min-width:11em}
@media(max-width:640px){body{padding:12px}section{padding:12px}.stations td:first-child,.stations th:first-child{left:-12px}th,td{padding:4px 6px}
.flow tr{display:flex;flex-wrap:wrap;gap:0 12px;padding:6px 0;border-bottom:1px solid var(--line)}.flow tr:last-child{border-bottom:0}
.flow tr:has(th){display:none}.flow td{border:0;padding:0}.flow td:first-child{font-weight:550}.flow td.long{flex:1 0 100%;min-width:0}
.flow td:empty{display:none}.flow td[data-as]::before{content:attr(data-as) ' ';color:var(--quiet)}}
.fault{color:var(--fault)}.warning{color:var(--warning)}.ok{color:var(--ok)}
";

/// What the page is made of.
#[derive(Clone)]
pub struct Page {
    /// The farm's and the gateway's name.
    pub title: String,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// How much of it is kept.
    pub retention: RetentionConfig,
    /// Whom the door turned away last.
    pub turned_away: Arc<TurnedAwayLog>,
    /// The pipeline's state.
    pub snapshot: Snapshots,
    /// The same with what waits for the cloud.
    pub status: watch::Receiver<GatewayStatus>,
    /// How the link does just now; none without a cloud.
    pub pace: Option<watch::Receiver<Pace>>,
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
    let wall = crate::wall_clock();
    let pace = page.pace.as_ref().map(|pace| pace.borrow().clone());
    let data_dir = page.data_dir.clone();
    let looked = tokio::task::spawn_blocking(move || look(&data_dir)).await;
    let looked = looked.map_err(|error| error.to_string()).and_then(|read| read.map_err(|error| error.to_string()));
    let (disk, aside) =
        looked.map_or_else(|error| (Err(error.clone()), Err(error)), |(disk, aside)| (Ok(disk), Ok(aside)));
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
                p {
                    "Farm time " (minute(now)) ", started " (age(now, status.started)) " ago, version " (status.version) ". "
                    (number(status.readings)) " readings stored, " (page.sources.outbox.connected()) " stations connected."
                }
                (own_clock(snapshot.own_clock))
                (alerts(&snapshot, now))
                (decisions(&snapshot, now))
                (stations(&snapshot, now))
                (models(&snapshot, &status, now))
                (way::backlog(&status.uplink, now))
                (way::link(&status.uplink, pace.as_ref(), now, wall))
                (disk::shown(&disk, (snapshot.raw_bytes, status.disk_bytes), &page.retention, now))
                (unmapped(&snapshot, now))
                (refusals(&status, &page.sources.door.snapshot()))
                (kept_aside(&aside, now))
                (turned_away(&page.turned_away.newest(), wall))
            }
        }
    }
}

/// What only the disk knows. Only a page that somebody looks at asks, so the store is opened for it, to read alone.
fn look(data_dir: &Path) -> rusqlite::Result<(Disk, Vec<Refused>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let store = Connection::open_with_flags(data_dir.join(crate::store::FILE), flags)?;
    Ok((Disk::look(data_dir, &store)?, refusals::newest(&store)?))
}

/// Whether the gateway's own clock is right, where that is not certain.
fn own_clock((correction_ms, doubt): (i64, Option<Doubt>)) -> Markup {
    let off = age(Timestamp::from_millis(correction_ms.saturating_abs()), Timestamp::from_millis(0));
    let way = if correction_ms > 0 { "behind" } else { "ahead" };
    html! {
        @if let Some(doubt) = doubt {
            section {
                h2.fault { "Clock in doubt" }
                "The gateway's clock " (doubt.says()) ". Until stations agree on the time, or it is set, no station is told the time and \
                 no reading is let go of for its age."
                @if correction_ms != 0 { " The farm's time is held against it: the clock is " (off) " " (way) "." }
            }
        } @else if correction_ms != 0 {
            section {
                h2.warning { "Wrong clock" }
                "The gateway's clock is " (off) " " (way) ", as its stations agree. The farm's time goes by them; set the clock."
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
                table.flow {
                    tr { th { "Station" } th.words { "What" } th { "Score" } th { "Since" } th { "Found by" } }
                    @for alert in &snapshot.alerts {
                        tr {
                            td { (alert.station) }
                            td.words.long.fault { (alert.message) }
                            td data-as="score" { (format!("{:.1}", alert.score)) }
                            td data-as="for" { (age(now, alert.opened)) }
                            td data-as="found by" { (alert.model.as_deref().unwrap_or("a rule")) }
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
                table.flow {
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
                                td.words.long { (decision.reason) }
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
                table.stations {
                    tr {
                        th { "Station" } th { "Heard" }
                        @if wrong_clock { th { "Clock" } }
                        @for channel in &channels { th { (channel.label()) br; span { (channel.quantity.symbol()) } } }
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
    html! { td.clock.warning { (said.join(", ")) } }
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
            table.flow {
                @for model in &status.models {
                    tr {
                        td { (model.name) " " (model.version) }
                        td.words { @if let Some(told) = on_its_way(&model.name) { (told.active.why) } }
                        td { "for " (age(now, model.since)) }
                    }
                }
                @for (model, reason) in &snapshot.failed_models {
                    tr { td.fault { (model) " does not run" } td.words.long { (reason) } td {} }
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
                            td.words.long { (refusal.text) }
                            td { (age(now, refusal.at)) " ago" }
                        }
                    }
                }
                @if let Some(refusal) = &update.refusal {
                    tr { td.fault { "The registry is refused" } td.words.long { (refusal.text) } td { (age(now, refusal.at)) " ago" } }
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
                            td.words.long { code { (one.channel.line()) } }
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
                Ok(aside) => table.flow {
                    tr { th { "From" } th.words { "What is wrong" } th { "Came" } }
                    @for one in aside {
                        tr { td { (one.source) } td.words.long { (one.reason) } td { (age(now, one.at)) " ago" } }
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
                table.flow {
                    tr { th { "Client" } th.words { "Why" } th { "Times" } th { "Last" } }
                    @for one in clients {
                        tr { td { (one.client) } td.words.long { (one.why) } td data-as="times" { (one.times) } td data-as="last" { (age(wall, one.at)) " ago" } }
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

/// A moment, to the minute: the page is made anew every few seconds anyway.
fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..16).map_or_else(|| text.clone(), |minute| minute.replace('T', " ") + " UTC")
}

/// A count, its digits in threes.
fn number(count: u64) -> String {
    let digits = count.to_string();
    let first = (digits.len() + 2) % 3 + 1;
    let (head, tail) = digits.split_at(first.min(digits.len()));
    let threes = tail.as_bytes().chunks(3).map(|three| format!(",{}", String::from_utf8_lossy(three)));
    threes.fold(head.to_owned(), |text, three| text + &three)
}

/// Bytes in the largest unit that they fill.
fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_bytes_are_said_as_people_read_them() {
        let counts = [0, 7, 999, 1_000, 45_678, 123_456, 1_234_567].map(number);
        assert_eq!(counts, ["0", "7", "999", "1,000", "45,678", "123,456", "1,234,567"]);
        assert_eq!([512, 8_400, 4 << 30].map(bytes), ["512 B", "8.4 kB", "4.3 GB"]);
    }

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
