//! Each kind of fault is alerted in the cloud's tables, on the station and the channel where it was injected.
#![allow(clippy::unwrap_used)]

use std::fs;

use node_sim::truth::{Event, read_events};
use proto::Timestamp;
use sqlx::Row as _;
use tests::farm::{Farm, Setup};
use tests::{oracle, project};

#[derive(Debug)]
struct Raised {
    station: String,
    channel: String,
    kind: String,
    opened: Timestamp,
    closed: Option<Timestamp>,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_alerted_on_its_station_and_channel_and_closed_after_its_end() {
    let scenario = fs::read_to_string(project().join("deploy/scenarios/faults.toml")).unwrap();
    let mut farm = Farm::start(Setup { scenario: Some(scenario), ..Setup::new(24, 7) }).await;
    farm.simulation_ends().await;
    let (_, made) = oracle::expected(&farm.truth());
    farm.tables_hold(made).await;

    // When the simulation is over all stations are silent, which is no false alarm.
    let rows = sqlx::query(
        "SELECT station_id, channel, kind, (extract(epoch FROM opened) * 1000)::bigint AS opened,
            (extract(epoch FROM closed) * 1000)::bigint AS closed FROM alert WHERE kind <> 'silent' ORDER BY opened",
    )
    .fetch_all(&farm.pool)
    .await
    .unwrap();
    let mut raised: Vec<Raised> = rows
        .iter()
        .map(|row| Raised {
            station: row.get("station_id"),
            channel: row.get("channel"),
            kind: row.get("kind"),
            opened: Timestamp::from_millis(row.get("opened")),
            closed: row.get::<Option<i64>, _>("closed").map(Timestamp::from_millis),
        })
        .collect();

    println!("{:8} {:24} {:8} {:>9}  alerted as", "station", "channel", "fault", "after");
    let mut missed = Vec::new();
    for event in read_events(&farm.truth()).unwrap() {
        let Event::Fault { station, channel: Some(channel), kind, start, end, .. } = event else { continue };
        // A value that comes back from a drift jumps, which may be an alert of its own just after the end.
        let of_this = |r: &Raised| {
            r.station == station.as_str()
                && r.channel == channel.to_string()
                && (start..=end.plus_secs(7_200)).contains(&r.opened)
        };
        match raised.iter().find(|r| of_this(r)) {
            Some(first) => {
                let minutes = first.opened.millis_since(start) / 60_000;
                println!("{station:8} {:24} {:8} {minutes:>5} min  {}", channel.to_string(), kind.name(), first.kind);
                assert!(first.closed.is_some(), "{first:?} is still open long after the fault's end");
            }
            None => missed.push(format!("{station} {channel} {}", kind.name())),
        }
        raised.retain(|r| !of_this(r));
    }
    println!("alerts beside the faults: {raised:#?}");
    assert!(missed.is_empty(), "not alerted: {missed:?}; other alerts: {raised:#?}");
    assert!(raised.len() <= 24 * 7 / 10, "{} alerts where no fault was injected: {raised:#?}", raised.len());
}
