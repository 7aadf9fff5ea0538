//! Caps and rates.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use gateway::broker::BrokerConfig;
use gateway::door::DoorConfig;
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn caps_hold_and_free_again() {
    let mut gateway =
        Gateway::with(DoorConfig { max_connections_per_address: 3, ..config() }, 100, BrokerConfig::default()).await;
    gateway.store_everything();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Raw::dial(gateway.mqtt()).await);
    }
    until("three", || read(&gateway.metrics.connections_open_now) == 3).await;
    Raw::dial(gateway.mqtt()).await.expect_end().await;
    assert_eq!(read(&gateway.metrics.connections_refused_address), 1);
    drop(held);
    until("none", || read(&gateway.metrics.connections_open_now) == 0).await;
    Raw::connect(gateway.mqtt(), "n1").await;
}

#[tokio::test]
async fn a_station_beyond_its_rate_waits_and_loses_nothing_while_others_go_on() {
    let config = DoorConfig { rate_messages_per_s: 500, rate_burst_s: 1, ..config() };
    let mut gateway = Gateway::with(config, 10_000, BrokerConfig::default()).await;
    gateway.store_everything();
    let loud = Raw::connect(gateway.mqtt(), "n1").await;
    let (mut reader, mut writer) = loud.stream.into_split();
    let begun = Instant::now();
    let sending = tokio::spawn(async move {
        for id in 1..=1_500_u16 {
            writer.write_all(&publish("tilth/v1/f/n1/data", id, b"x")).await.unwrap();
        }
        writer
    });
    let mut quiet = Raw::connect(gateway.mqtt(), "n2").await;
    let mut id = 0;
    let mut slowest = Duration::ZERO;
    let mut reading = tokio::spawn(async move {
        let mut acks = vec![0; 4 * 1_500];
        within("every PUBACK", reader.read_exact(&mut acks)).await.unwrap();
        acks
    });
    let acks = loop {
        let asked = Instant::now();
        id += 1;
        tokio::select! {
            acks = &mut reading => break acks.unwrap(),
            () = async {
                quiet.send(&publish("tilth/v1/f/n2/data", id, b"x")).await;
                quiet.expect_puback(id).await;
                slowest = slowest.max(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            } => {}
        }
    };
    // 1,500 messages, 500 of them at once and the others at 500 a second.
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
    assert!(slowest < Duration::from_secs(1), "the other one waited {slowest:?}");
    let ids: Vec<u16> = acks.chunks(4).map(|ack| u16::from_be_bytes([ack[2], ack[3]])).collect();
    assert_eq!(ids, (1..=1_500).collect::<Vec<_>>());
    assert!(read(&gateway.metrics.pauses) > 0);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn bytes_count_too_and_a_new_connection_does_not_forget() {
    let config = DoorConfig { rate_bytes_per_s: 20_000, rate_burst_s: 1, ..config() };
    let mut gateway = Gateway::with(config, 10_000, BrokerConfig::default()).await;
    gateway.store_everything();
    let begun = Instant::now();
    for id in 1..=3 {
        let mut station = Raw::connect(gateway.mqtt(), "n1").await;
        station.send(&publish("tilth/v1/f/n1/data", id, &[7; 20_000])).await;
        station.expect_puback(id).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(read(&gateway.metrics.pauses) >= 2);
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_refused_for_a_while() {
    let config = DoorConfig { connections_per_s_per_address: 20, connection_burst_per_address: 30, ..config() };
    let mut gateway = Gateway::with(config, 100, BrokerConfig::default()).await;
    gateway.store_everything();
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    while read(&gateway.metrics.connections_refused_rate) < 100 {
        drop(TcpStream::connect(gateway.mqtt()).await.unwrap());
    }
    assert!(read(&gateway.metrics.connections_accepted) == 1);
    station.send(&publish("tilth/v1/f/n1/data", 1, b"x")).await;
    station.expect_puback(1).await;
    // Those of the flood that lie in the queue are refused, and then it comes in again.
    within("a place", async {
        loop {
            let mut raw = Raw::dial(gateway.mqtt()).await;
            let mut bytes = BytesMut::new();
            hello("n2").write(&mut bytes).unwrap();
            if raw.stream.write_all(&bytes).await.is_ok() && raw.packet().await.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn wrong_passwords_are_not_looked_at_for_ever() {
    let gateway = Gateway::open().await;
    let ask = async |connect: &Connect| Raw::dial(gateway.mqtt()).await.ask_in(connect).await;
    let mut guess = hello("n1");
    guess.set_login("n1", "guess");
    for _ in 0..10 {
        assert_eq!(ask(&guess).await, Some(ConnectReturnCode::BadUserNamePassword));
    }
    assert_eq!(ask(&guess).await, Some(ConnectReturnCode::ServiceUnavailable));
    assert_eq!(ask(&hello("n1")).await, Some(ConnectReturnCode::ServiceUnavailable), "a right one would be told by it");
    assert_eq!(ask(&hello("n2")).await, Some(ConnectReturnCode::Success));
    assert_eq!(read(&gateway.metrics.connections_refused_guessing), 2);
    assert_eq!(read(&gateway.metrics.connections_refused_password), 10);
}

/// Whether the kernel will ask, within so many seconds, whether the peer of this connection is there: `/proc/net/tcp`
/// shows it as the timer 2, with the time that is left in hundredths of a second.
fn is_asked_after(door: u16, client: u16, within_s: u64) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = |column: &str| u16::from_str_radix(column.rsplit_once(':').unwrap().1, 16).unwrap();
        let (timer, left) = columns[5].split_once(':').unwrap();
        let left = u64::from_str_radix(left, 16).unwrap();
        (port(columns[1]), port(columns[2]), timer) == (door, client, "02") && left <= 100 * within_s
    })
}

#[tokio::test]
async fn a_client_without_a_keep_alive_is_asked_after_by_the_kernel() {
    let pki = Pki::new();
    let config = DoorConfig { tls: Some(pki.door()), ..config() };
    let gateway = Gateway::with(config, 100, BrokerConfig::default()).await;
    let mut client = Raw::dial(gateway.mqtt()).await;
    let mut connect = hello("n1");
    connect.keep_alive = 0;
    assert_eq!(client.ask_in(&connect).await, Some(ConnectReturnCode::Success));
    let port = client.stream.local_addr().unwrap().port();
    until("the kernel asks after it", || is_asked_after(gateway.mqtt().port(), port, 300)).await;

    let by_tls = TcpStream::connect(gateway.addresses.mqtts.unwrap()).await.unwrap();
    let port = by_tls.local_addr().unwrap().port();
    until("after one at the other door, too", || is_asked_after(gateway.addresses.mqtts.unwrap().port(), port, 300))
        .await;
}
