//! A thin link: what goes over it in an hour is bounded, and an alert does not wait for it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gateway::uplink::UplinkConfig;
use proto::Lane;

use crate::support::{Running, alert, birth, cloud, counts, decision, now, place, spool, until, window};

#[tokio::test]
async fn a_budget_holds_the_link_and_an_alert_goes_at_once() {
    let (cloud, address) = cloud().await;
    let (dir, mut store) = place();
    spool(&mut store, now().plus_secs(-86_400), (0..4_000).map(|n| window("n1", n)).collect());
    let config =
        UplinkConfig { bytes_per_hour: Some(64 << 10), burst_bytes: Some(32 << 10), ..UplinkConfig::default() };
    let began = Instant::now();
    let uplink = Running::start(dir.path(), &format!("http://{address}"), config);
    until("what it may send is sent", || !cloud.lock().unwrap().records.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = cloud.lock().unwrap().records.len();
    assert!(before < 4_000, "the budget holds most of it back");
    spool(&mut store, now(), vec![alert(9_000)]);
    let raised = Instant::now();
    until("the alert is there", || cloud.lock().unwrap().records.iter().any(|(lane, _)| *lane == Lane::Alerts)).await;
    println!("the alert was there after {:?}; {before} of 4000 windows before it", raised.elapsed());
    assert!(raised.elapsed() < Duration::from_secs(10));
    let (counted, measured) = (uplink.link_bytes.link_bytes.load(Ordering::Relaxed), cloud.lock().unwrap().bytes);
    println!("counted {counted} bytes, the sockets {measured}");
    let may = 32 * 1_024 + 64 * 1_024 * began.elapsed().as_secs() / 3_600;
    assert!(measured <= counted && counted <= may, "{measured} <= {counted} <= {may}");
    assert!(cloud.lock().unwrap().reports.len() <= 1, "a status is rare on a thin link");
    assert_eq!(uplink.told.borrow().budget.unwrap().bytes_per_hour, 64 << 10);
    uplink.end().await;
    assert!(counts(&cloud).values().all(|count| *count == 1));
}

#[tokio::test]
async fn the_back_fill_has_its_share_beside_live_data_that_never_ends() {
    let (cloud, address) = cloud().await;
    let (dir, mut store) = place();
    spool(&mut store, now().plus_secs(-86_400), (0..1_000).map(|n| window("n1", n)).collect());
    spool(&mut store, now(), (10_000..10_500).map(|n| window("n2", n)).collect());
    let config = UplinkConfig { backfill_share: 0.3, ..UplinkConfig::default() };
    let uplink = Running::start(dir.path(), &format!("http://{address}"), config);
    let mut next = 10_500;
    until("the backlog is there although live data never ends", || {
        if crate::support::waiting(dir.path()) < 2_000 {
            spool(&mut store, now(), (next..next + 500).map(|n| window("n2", n)).collect());
            next += 500;
        }
        cloud.lock().unwrap().records.iter().filter(|(lane, _)| *lane == Lane::Backfill).count() == 1_000
    })
    .await;
    uplink.end().await;
}

#[tokio::test]
async fn alerts_go_before_decisions_before_windows_and_the_back_fill_has_its_share_all_the_while() {
    let (cloud, address) = cloud().await;
    let (dir, mut store) = place();
    spool(&mut store, now().plus_secs(-86_400), (20_000..60_000).map(|n| window("n1", n)).collect());
    // In the order in which they are not to go.
    let mut records: Vec<_> = (0..20_000).map(|n| window("n2", n)).collect();
    records.extend((2_000..2_100).map(birth));
    records.extend((0..4_000).map(decision));
    records.extend((0..4_000).map(alert));
    spool(&mut store, now(), records);
    let config = UplinkConfig { backfill_share: 0.3, ..UplinkConfig::default() };
    let uplink = Running::start(dir.path(), &format!("http://{address}"), config);
    until("all but a backlog is there", || {
        let cloud = cloud.lock().unwrap();
        cloud.records.iter().filter(|(lane, _)| *lane != Lane::Backfill).count() == 28_100
    })
    .await;
    let lanes: Vec<Lane> = cloud.lock().unwrap().records.iter().map(|(lane, _)| *lane).collect();
    let mut order: Vec<Lane> = lanes.iter().copied().filter(|lane| *lane != Lane::Backfill).collect();
    order.dedup();
    assert_eq!(order, [Lane::Alerts, Lane::Decisions, Lane::Births, Lane::Aggregates]);
    // Its windows are as long as the live ones: of both, which went together, it has as much as of the bytes.
    let first_live = lanes.iter().position(|lane| *lane == Lane::Aggregates).unwrap();
    let last_live = lanes.iter().rposition(|lane| *lane == Lane::Aggregates).unwrap();
    let beside = &lanes[first_live..last_live];
    let share = beside.iter().filter(|lane| **lane == Lane::Backfill).count() as f64 / beside.len() as f64;
    println!("the back-fill had {share:.3} of what went beside live windows");
    assert!((0.25..0.35).contains(&share), "{share}");
    uplink.end().await;
}
