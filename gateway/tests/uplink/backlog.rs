//! Weeks without a cloud: what is new goes first, the backlog follows, and each record is there once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use gateway::spool::Spool;
use gateway::uplink::UplinkConfig;
use proto::{Alert, Lane, Record};

use crate::support::{Mood, Running, alert, cloud, counts, mark, now, place, spool, until, untimely, window};

const STATIONS: i64 = 24;
/// Three weeks of quarters of an hour.
const WINDOWS: i64 = 2_016;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_three_weeks_offline_the_newest_goes_first_and_nothing_is_missing_or_doubled() {
    let (cloud, address) = cloud().await;
    cloud.lock().unwrap().mood = Mood::Broken;
    let (dir, mut store) = place();
    let end = now();
    let first = end.as_millis() / 900_000 - WINDOWS;
    let stations: Vec<String> = (0..STATIONS).map(|n| format!("n{n}")).collect();
    let of = |number: i64| stations.iter().map(move |station| window(station, number));
    // Each window is made as its quarter ends; an alert a day, and the last one stays open.
    for day in 0..21 {
        for number in day * 96..(day + 1) * 96 {
            let made = end.plus_secs(-900 * (WINDOWS - 1 - number));
            spool(&mut store, made, of(first + number).collect());
        }
        spool(&mut store, end.plus_secs(-86_400 * (20 - day)), vec![alert(first + day)]);
    }
    let uplink = Running::start(dir.path(), &format!("http://{address}"), UplinkConfig::default());
    until("the cloud is away", || !uplink.error().is_empty()).await;

    let newest = first + WINDOWS - 1;
    let back = Instant::now();
    cloud.lock().unwrap().mood = Mood::Well;
    until("the newest windows and all alerts are there", || {
        let cloud = cloud.lock().unwrap();
        let of_newest = |(_, r): &&(Lane, Record)| matches!(r, Record::Window(_)) && mark(r) == newest;
        cloud.records.iter().filter(of_newest).count() == stations.len()
            && cloud.records.iter().filter(|(lane, _)| *lane == Lane::Alerts).count() == 21
    })
    .await;
    let (took, there) = (back.elapsed(), cloud.lock().unwrap().records.len());
    println!("the newest windows and the alerts were there {took:?} after the cloud, before {there} records");
    assert!(there < 5_000, "{there} records were there before the newest");
    // What is measured meanwhile does not wait for the backlog.
    spool(&mut store, now(), of(newest + 1).collect());
    until("everything is there", || cloud.lock().unwrap().records.len() as i64 >= STATIONS * (WINDOWS + 1) + 21).await;
    until("nothing waits", || crate::support::waiting(dir.path()) == 0).await;
    let counts = counts(&cloud);
    assert_eq!(counts.len() as i64, STATIONS * (WINDOWS + 1) + 21);
    assert!(counts.values().all(|count| *count == 1));
    {
        let cloud = cloud.lock().unwrap();
        let position = cloud.records.iter().position(|(_, r)| mark(r) == newest + 1).unwrap();
        let all = cloud.records.len();
        println!("what came meanwhile was record {position} of {all}");
        assert!(position < all - 1_000);
        let late: BTreeSet<Lane> = cloud.records.iter().map(|(lane, _)| *lane).collect();
        assert!(late.contains(&Lane::Backfill));
        assert_eq!(cloud.gaps, 0);
    }
    uplink.end().await;
}

#[tokio::test]
async fn a_new_store_and_a_store_that_was_set_back_lose_nothing() {
    let (cloud, address) = cloud().await;
    let url = format!("http://{address}");
    let (dir, mut store) = place();
    spool(&mut store, now(), (0..40).map(|n| window("n1", n)).collect());
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join("gateway.sqlite"), copy.path().join("gateway.sqlite")).unwrap();
    drop(store);
    // A copy of a store that is in use would lack its journal: make it of one that was closed.
    std::fs::copy(dir.path().join("gateway.sqlite"), copy.path().join("gateway.sqlite")).unwrap();
    let uplink = Running::start(dir.path(), &url, UplinkConfig::default());
    until("all is there", || counts(&cloud).len() == 40).await;
    uplink.end().await;

    // A fresh store whose lane overlaps what the first had sent.
    let (fresh, mut store) = place();
    spool(&mut store, now(), (100..160).map(|n| window("n1", n)).collect());
    let uplink = Running::start(fresh.path(), &url, UplinkConfig::default());
    until("all of the fresh store is there", || counts(&cloud).len() == 100).await;
    uplink.end().await;

    // The first one's copy, which has not sent anything as far as it knows, and has more now.
    let mut store = gateway::store::Store::open(copy.path()).unwrap();
    spool(&mut store, now(), (200..260).map(|n| window("n1", n)).collect());
    let uplink = Running::start(copy.path(), &url, UplinkConfig::default());
    until("all of the copy is there", || counts(&cloud).len() == 160).await;
    uplink.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_lane_dropped_is_told_and_leaves_no_gap_and_no_alert_open_that_ended() {
    let (cloud, address) = cloud().await;
    let (dir, mut store) = place();
    let ended = |number: i64| match alert(number) {
        Record::Alert(alert) => Record::Alert(Alert { closed: Some(alert.opened), revision: 1, ..alert }),
        other => panic!("{other:?}"),
    };
    spool(&mut store, now(), (0..3).map(alert).collect());
    let uplink = Running::start(dir.path(), &format!("http://{address}"), UplinkConfig::default());
    until("the cloud knows of three", || cloud.lock().unwrap().records.len() == 3).await;
    cloud.lock().unwrap().mood = Mood::Broken;
    spool(&mut store, now(), (3..6).map(alert).collect());
    until("the next three are under way", || !uplink.error().is_empty()).await;

    spool(&mut store, now(), (0..6).map(ended).collect());
    spool(&mut store, now(), (6..2_000).flat_map(|number| [alert(number), ended(number)]).collect());
    let mut watched = Spool::open(dir.path()).unwrap();
    let (dropped, _) = watched.trim(1 << 20).unwrap();
    assert!(dropped > 500, "{dropped}");
    let told = watched.backlog().unwrap().into_iter().find(|(lane, _)| *lane == Lane::Alerts).unwrap().1;
    assert_eq!(told.dropped, dropped);

    cloud.lock().unwrap().mood = Mood::Well;
    until("nothing waits", || crate::support::waiting(dir.path()) == 0).await;
    uplink.end().await;
    let cloud = cloud.lock().unwrap();
    let mut open = BTreeMap::new();
    for (_, record) in &cloud.records {
        let Record::Alert(alert) = record else { panic!("{record:?}") };
        open.insert(alert.id.clone(), alert.closed.is_none());
    }
    assert_eq!((open.len() as u64, cloud.gaps), (2_000 - dropped, 0));
    assert!(open.values().all(|is_open| !is_open), "all that the cloud knows of have ended");
}

#[tokio::test]
async fn the_cloud_is_told_of_each_stations_untimely_readings_once_and_of_few_at_a_time() {
    let (cloud, address) = cloud().await;
    let (dir, _store) = place();
    let uplink = Running::start(dir.path(), &format!("http://{address}"), UplinkConfig::default());
    until("three reports are there", || cloud.lock().unwrap().reports.len() >= 3).await;
    uplink.end().await;
    let reports = std::mem::take(&mut cloud.lock().unwrap().reports);
    assert_eq!(reports.iter().map(|report| report.untimely.len()).collect::<Vec<_>>()[..3], [20, 5, 0]);
    let told: BTreeMap<_, _> = reports.into_iter().flat_map(|report| report.untimely).collect();
    assert_eq!(told, (0..25).map(|n| (format!("n{n}").parse().unwrap(), untimely(n))).collect());
}
