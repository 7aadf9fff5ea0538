//! Raw readings by the back-fill: each once, in the order of the raw store, and exactly as they were stored.

use std::collections::BTreeMap;

use gateway::door::DeliveryKind;
use gateway::store::{Group, RawMessage, Store, kind_code};
use gateway::uplink::UplinkConfig;
use proto::{Batch, Channel, Reading, Record, StationId, Timestamp};
use rusqlite::Connection;

use crate::support::{Mood, Running, SharedCloud, cloud, now, place, until};

/// A commit of one batch of each of two stations; the second is somebody's who sends JSON with more digits than we do.
fn commit(store: &mut Store, id: u64, at: Timestamp) -> Vec<(StationId, Reading)> {
    let channel: Channel = "soil_moisture_20cm".parse().unwrap();
    let reading = |n: i64| Reading { channel, time: at.plus_secs(n), value: 0.2 + (id % 50) as f64 / 10_000.0 };
    let mut readings: Vec<Reading> = (0..3).map(reading).collect();
    for reading in &mut readings {
        reading.value = channel.quantity.quantise(reading.value);
    }
    let batch = Batch { boot: 1, sequence: id, readings: readings.clone() };
    let plain = Reading { value: 0.123_456_789_012 + id as f64, ..reading(7) };
    let plain = Reading { channel: "rain".parse().unwrap(), ..plain };
    let json = serde_json::json!({ "rain": plain.value, "time": plain.time.to_string() }).to_string();
    let message = |station: &str, payload: Vec<u8>| RawMessage {
        station: station.to_owned(),
        kind: kind_code(DeliveryKind::Data),
        at_ms: at.as_millis(),
        payload: payload.into(),
        ..RawMessage::default()
    };
    let messages = vec![message("n1", batch.encode().unwrap()), message("n2", json.into_bytes())];
    store.commit(&Group { messages, ..Group::default() }, id, at).unwrap();
    let of = |station: &str, reading: Reading| (station.parse().unwrap(), reading);
    readings.into_iter().map(|r| of("n1", r)).chain([of("n2", plain)]).collect()
}

fn in_cloud(cloud: &SharedCloud) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for (_, record) in &cloud.lock().unwrap().records {
        let Record::Raw(raw) = record else { continue };
        for reading in &raw.readings {
            *all.entry(name(&raw.station, reading)).or_default() += 1;
        }
    }
    all
}

fn name(station: &StationId, Reading { channel, time, value }: &Reading) -> String {
    format!("{station} {channel} {time} {:016x}", value.to_bits())
}

#[tokio::test]
async fn raw_readings_go_once_each_and_to_the_last_bit_through_a_cloud_that_is_away_and_a_restart() {
    let (cloud, address) = cloud().await;
    let url = format!("http://{address}");
    let (dir, mut store) = place();
    let start = now().plus_secs(-86_400);
    let mut expected = Vec::new();
    for id in 1..=500 {
        expected.extend(commit(&mut store, id, start.plus_secs(30 * id as i64)));
    }
    let config = UplinkConfig { raw: true, ..UplinkConfig::default() };
    cloud.lock().unwrap().mood = Mood::Truncated;
    let uplink = Running::start(dir.path(), &url, config);
    until("the cloud had some and did not say so", || cloud.lock().unwrap().requests > 1).await;
    uplink.end().await;
    cloud.lock().unwrap().mood = Mood::Well;
    let uplink = Running::start(dir.path(), &url, config);
    until("the first are there", || in_cloud(&cloud).len() == 4 * 500).await;
    for id in 501..=520 {
        expected.extend(commit(&mut store, id, start.plus_secs(30 * id as i64)));
    }
    until("those that came meanwhile, too", || in_cloud(&cloud).len() == 4 * 520).await;
    uplink.end().await;
    let there = in_cloud(&cloud);
    assert!(there.values().all(|count| *count == 1));
    for (station, reading) in expected {
        assert!(there.contains_key(&name(&station, &reading)), "{station} {reading:?}");
    }
}

#[tokio::test]
async fn commits_that_expired_before_they_were_sent_are_skipped_and_counted() {
    let (cloud, address) = cloud().await;
    let url = format!("http://{address}");
    let (dir, mut store) = place();
    let start = now().plus_secs(-86_400);
    commit(&mut store, 1, start);
    let config = UplinkConfig { raw: true, ..UplinkConfig::default() };
    let uplink = Running::start(dir.path(), &url, config);
    until("the first is there", || in_cloud(&cloud).len() == 4).await;
    uplink.end().await;
    for id in 2..=9 {
        commit(&mut store, id, start.plus_secs(30 * id as i64));
    }
    let beside = Connection::open(dir.path().join("gateway.sqlite")).unwrap();
    beside.execute("DELETE FROM raw WHERE id <= 6", []).unwrap();
    let uplink = Running::start(dir.path(), &url, config);
    until("the rest is there", || in_cloud(&cloud).len() == 4 * 4).await;
    uplink.end().await;
    let counted = |name: &str| -> i64 {
        beside.query_row("SELECT value FROM counter WHERE name = ?1", [name], |row| row.get(0)).unwrap()
    };
    assert_eq!(counted("raw_expired_unsent"), 5);
    assert_eq!(counted("raw_sent"), 16);
}
