//! What waits for the cloud, and how the way there is.

use std::time::Duration;

use maud::{Markup, html};
use proto::{Lane, LinkStatus, Timestamp, UplinkStatus};

use super::{age, bytes, number};
use crate::uplink::Pace;

/// By lane: how many records wait, for how long the oldest does, and what the cloud does not get.
pub fn backlog(uplink: &UplinkStatus, now: Timestamp) -> Markup {
    let waiting: u64 = uplink.lanes.values().map(|lane| lane.records).sum();
    html! {
        section {
            h2 { "Waiting for the cloud · " (number(waiting)) }
            table {
                tr { th { "Lane, the most urgent first" } th { "Records" } th { "Oldest" } th { "Refused by the cloud" } th { "Dropped unsent" } }
                @for lane in Lane::ALL {
                    @let of = uplink.lanes.get(lane.name()).copied().unwrap_or_default();
                    tr {
                        td { (words(lane)) }
                        td { (number(of.records)) }
                        td { @match of.oldest { Some(oldest) => (age(now, oldest)), None => "–" } }
                        (lost(of.refused))
                        (lost(of.dropped))
                    }
                }
            }
        }
    }
}

/// The cell of what the cloud does not get.
fn lost(count: u64) -> Markup {
    html! { td.fault[count > 0] { @if count > 0 { (number(count)) } @else { "–" } } }
}

const fn words(lane: Lane) -> &'static str {
    match lane {
        Lane::Alerts => "Alerts",
        Lane::Decisions => "Decisions",
        Lane::Births => "Births of stations",
        Lane::Aggregates => "Live windows",
        Lane::Backfill => "Back-fill",
    }
}

/// The link: whether it is up, how fast it answers, what it carries. Its times are farm time, but for what `pace` says, which
/// goes by the wall clock.
pub fn link(uplink: &UplinkStatus, pace: Option<&Pace>, now: Timestamp, wall: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Link to the cloud" }
            @match (&uplink.link, pace) {
                (Some(link), Some(pace)) => table {
                    (state(link, pace, now))
                    tr {
                        td { "Last contact" }
                        td.words { @match link.last_success { Some(at) => { (age(now, at)) " ago" }, None => "none since the gateway was started" } }
                    }
                    tr {
                        td { "Last error" }
                        td.words {
                            @match (&link.last_error, link.last_error_at) {
                                (Some(error), Some(at)) => { (age(now, at)) " ago: " (error) },
                                _ => "none since the gateway was started",
                            }
                        }
                    }
                    tr {
                        td { "Round trip" }
                        td.words { @match pace.round_trip { Some(took) => { (span(took)) " for the last request" }, None => "–" } }
                    }
                    tr {
                        td { "Sent and received in the last hour" }
                        td.words {
                            (bytes(pace.last_hour(wall)))
                            @match uplink.budget {
                                Some(budget) => { " of a budget of " (bytes(budget.bytes_per_hour)) " an hour" },
                                None => ", without a budget",
                            }
                        }
                    }
                    @if let Some(budget) = uplink.budget {
                        tr {
                            td { "May go at once" }
                            td.words {
                                span.warning[budget.available < budget.burst_bytes / 2] { (bytes(budget.available)) }
                                " of " (bytes(budget.burst_bytes))
                                @if budget.available < budget.burst_bytes / 2 { ": only alerts and decisions go until half of it is there" }
                            }
                        }
                    }
                },
                _ => "No cloud is configured. Everything stays here.",
            }
        }
    }
}

fn state(link: &LinkStatus, pace: &Pace, now: Timestamp) -> Markup {
    let since = age(now, link.since);
    html! {
        tr {
            td { "State" }
            td.words {
                @if link.up { span.ok { "up" } " for " (since) }
                @else if link.last_error.is_none() { "not tried yet" }
                @else { span.fault { "away" } " for " (since) }
                @if let Some(waits) = pace.waits { ", tries again after " (span(waits)) }
            }
        }
    }
}

/// A short span of time.
fn span(length: Duration) -> String {
    match length.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", length.as_secs_f64()),
    }
}
