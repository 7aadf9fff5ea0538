//! Records that the cloud refuses for good: each is found and set aside, and its lane and the others go on.

use gateway::uplink::UplinkConfig;
use proto::Lane;
use rusqlite::Connection;

use crate::support::{Running, alert, birth, cloud, counts, decision, now, place, spool, until, window};

#[tokio::test]
async fn poison_in_each_lane_first_and_last_and_several_in_one_batch() {
    let (cloud, address) = cloud().await;
    // In batches of 200 windows: the first, two neighbours in the middle, and the last. Of ten decisions the first, one in
    // between and the last; and one of each other lane.
    cloud.lock().unwrap().poison = vec![0, 90, 91, 199, 1_003, 2_000, 3_009, 4_000, 4_005, 4_009];
    let (dir, mut store) = place();
    let late = now().plus_secs(-30 * 86_400);
    spool(&mut store, late, (3_000..3_010).map(|n| window("n2", n)).collect());
    let mut records: Vec<_> = (0..200).map(|n| window("n1", n)).collect();
    records.extend((1_000..1_010).map(alert));
    records.extend((2_000..2_010).map(birth));
    records.extend((4_000..4_010).map(decision));
    spool(&mut store, now(), records);
    let uplink = Running::start(dir.path(), &format!("http://{address}"), UplinkConfig::default());
    until("the others are in the cloud", || counts(&cloud).len() == 240 - 10).await;
    until("nothing waits", || crate::support::waiting(dir.path()) == 0).await;
    {
        let cloud = cloud.lock().unwrap();
        assert_eq!(cloud.gaps, 0, "it leaves no gap");
        assert!(cloud.records.iter().any(|(lane, _)| *lane == Lane::Backfill));
        let store = cloud.sequence.keys().next().unwrap().0;
        for (lane, expected) in
            [(Lane::Alerts, 9), (Lane::Decisions, 7), (Lane::Births, 9), (Lane::Aggregates, 196), (Lane::Backfill, 9)]
        {
            assert_eq!(cloud.sequence[&(store, lane)], expected, "{lane:?}");
        }
    }
    assert!(counts(&cloud).values().all(|count| *count == 1));
    let told = uplink.told.borrow().clone();
    let refused = ["aggregates", "alerts", "decisions"].map(|lane| told.lanes[lane].refused);
    assert_eq!(refused, [4, 1, 3]);
    uplink.end().await;
    let store = Connection::open(dir.path().join("gateway.sqlite")).unwrap();
    let mut statement = store
        .prepare("SELECT source, count(*) FROM quarantine WHERE reason LIKE '%no such record%' GROUP BY 1 ORDER BY 1")
        .unwrap();
    let aside: Vec<(String, i64)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let expected = [("aggregates", 4), ("alerts", 1), ("backfill", 1), ("births", 1), ("decisions", 3)];
    assert_eq!(aside, expected.map(|(lane, count)| (format!("uplink {lane}"), count)));
}

#[tokio::test]
async fn a_cloud_that_refuses_everything_gets_it_slowly() {
    let (cloud, address) = cloud().await;
    cloud.lock().unwrap().poison = (0..1_000).collect();
    let (dir, mut store) = place();
    spool(&mut store, now(), (0..1_000).map(|n| window("n1", n)).collect());
    let uplink = Running::start(dir.path(), &format!("http://{address}"), UplinkConfig::default());
    until("it says so", || uplink.error().contains("everything is refused")).await;
    cloud.lock().unwrap().poison.clear();
    until("the rest is in the cloud", || crate::support::waiting(dir.path()) == 0).await;
    assert!(counts(&cloud).len() > 950, "{}", counts(&cloud).len());
    uplink.end().await;
}
