//! Who is not let in, and what is not let through.

use std::sync::Arc;

use bytes::BytesMut;
use gateway::broker::BrokerConfig;
use gateway::door::DoorConfig;
use proptest::strategy::{Strategy, ValueTree};
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, LastWill};
use rumqttc::{Event, Incoming, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test]
async fn strangers_are_refused_and_counted() {
    let gateway = Gateway::open().await;
    let metrics = &gateway.metrics;
    let ask = async |connect: &Connect| Raw::dial(gateway.mqtt()).await.ask_in(connect).await;

    let mut wrong_password = hello("n1");
    wrong_password.set_login("n1", "guess");
    assert_eq!(ask(&wrong_password).await, Some(ConnectReturnCode::BadUserNamePassword));
    assert_eq!(ask(&hello("n9")).await, Some(ConnectReturnCode::BadUserNamePassword));
    assert_eq!(ask(&Connect::new("n1")).await, Some(ConnectReturnCode::BadUserNamePassword));
    let mut other_client_id = hello("n1");
    other_client_id.client_id = "n2".to_owned();
    assert_eq!(ask(&other_client_id).await, Some(ConnectReturnCode::BadClientId));
    let mut others_will = hello("n1");
    others_will.last_will = Some(LastWill::new("tilth/v1/f/n2/status", "x", QoS::AtMostOnce, false));
    assert_eq!(ask(&others_will).await, Some(ConnectReturnCode::NotAuthorized));
    let mut raw = Raw::dial(gateway.mqtt()).await;
    let mut bytes = BytesMut::new();
    hello("n1").write(&mut bytes).unwrap();
    assert_eq!(&bytes[4..9], b"MQTT\x04");
    bytes[8] = 6;
    raw.send(&bytes).await;
    let mut answer = Vec::new();
    within("the end", raw.stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, [0x20, 3, 0, 0x84, 0]);

    let counted = [
        &metrics.connections_refused_password,
        &metrics.connections_refused_unknown,
        &metrics.connections_refused_client_id,
        &metrics.connections_refused_will,
        &metrics.connections_refused_protocol,
        &metrics.connections_accepted,
    ]
    .map(read);
    assert_eq!(counted, [1, 2, 1, 1, 1, 0]);
}

#[tokio::test]
async fn a_client_that_publishes_what_it_may_not_is_closed() {
    let mut gateway =
        Gateway::with(DoorConfig { max_payload_bytes: 1_000, ..config() }, 100, BrokerConfig::default()).await;
    let mut qos_2 = publish("tilth/v1/f/n1/data", 1, b"x");
    qos_2[0] = 0x34;
    for (name, bytes) in [
        ("n1", publish("tilth/v1/f/n2/data", 1, b"x")),
        ("n1", publish("tilth/v1/f/n1/command", 1, b"x")),
        ("n1", publish("tilth/v1/g/n1/data", 1, b"x")),
        ("n1", publish("$SYS/x", 1, b"x")),
        ("viewer", publish("tilth/v1/f/n1/data", 1, b"x")),
        ("viewer", publish("tilth/v1/f/n1/command", 1, b"x")),
        ("n1", publish("tilth/v1/f/n1/data", 1, &[0; 1_001])),
        ("n1", publish("tilth/v1/f/n1/data", 1, &[0; 100_000])),
        ("n1", qos_2),
    ] {
        let mut client = Raw::connect(gateway.mqtt(), name).await;
        client.send(&bytes).await;
        client.expect_end().await;
    }
    let metrics = &gateway.metrics;
    until("every client's end", || read(&metrics.connections_open_now) == 0).await;
    let counted =
        [&metrics.publishes_refused_topic, &metrics.publishes_refused_size, &metrics.publishes_refused_qos].map(read);
    assert_eq!(counted, [6, 2, 1]);
    assert!(gateway.deliveries.try_recv().is_err(), "none of it came through");

    let mut client = Raw::connect(gateway.mqtt(), "n1").await;
    client.send(&publish("tilth/v1/f/n1/data", 1, &[0; 1_000])).await;
    assert_eq!(gateway.next().await.payload.len(), 1_000);
}

#[tokio::test]
async fn silent_and_slow_strangers_are_sent_away_while_others_go_on() {
    let pki = Pki::new();
    let mut config = DoorConfig { handshake_timeout_s: 1, ..config() };
    config.tls = Some(pki.door());
    let mut gateway = Gateway::with(config, 100, BrokerConfig::default()).await;
    gateway.store_everything();
    let mut strangers = Vec::new();
    for address in [gateway.mqtt(), gateway.addresses.mqtts.unwrap()] {
        for beginning in [&b""[..], &[0x10][..], &[0x16, 3, 1][..]] {
            let mut stranger = Raw::dial(address).await;
            stranger.send(beginning).await;
            strangers.push(stranger);
        }
    }
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let (mut id, metrics) = (0, Arc::clone(&gateway.metrics));
    while read(&metrics.handshake_timeouts)
        + read(&metrics.connections_refused_tls)
        + read(&metrics.connections_refused_not_mqtt)
        < 6
    {
        id = id % 60_000 + 1;
        station.send(&publish("tilth/v1/f/n1/data", id, b"x")).await;
        station.expect_puback(id).await;
    }
    for mut stranger in strangers {
        // Some get a TLS alert first; a reset is an end, too.
        let _ = within("a stranger's end", stranger.stream.read_to_end(&mut Vec::new())).await;
    }
    assert!(read(&metrics.handshake_timeouts) >= 4);
}

#[tokio::test]
async fn hostile_bytes_close_only_their_own_connection() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let noise = proptest::collection::vec(proptest::num::u8::ANY, 0..200);
    let mut hostile: Vec<Vec<u8>> = (0..150).map(|_| noise.new_tree(&mut runner).unwrap().current()).collect();
    hostile.extend([
        vec![0x30, 0xff, 0xff, 0xff, 0xff],
        vec![0x32, 3, 0, 9, b'a'],
        vec![0x36, 5, 0, 1, b'a', 0, 1],
        vec![0x32, 5, 0, 1, b'a', 0, 0],
        vec![0x32, 5, 0, 1, 0xff, 0, 1],
        vec![0x80, 4, 0, 1, 0, 0],
        vec![0x82, 2, 0, 1],
        vec![0x82, 1, 0],
        vec![0xA2, 1, 0],
        vec![0xA2, 2, 0, 1],
        vec![0xA2, 3, 0, 1, 9],
        vec![0x62, 2, 0, 1],
        vec![0x20, 2, 0, 0],
        vec![0x10, 0],
        vec![0xF0, 0],
        vec![0x00, 0],
    ]);
    for (i, bytes) in hostile.iter().enumerate() {
        let mut stranger = Raw::dial(gateway.mqtt()).await;
        let mut guest = Raw::connect(gateway.mqtt(), "n2").await;
        let mut guest_5 = Version::V5.connect(gateway.mqtt(), "n7", "n7").await;
        // Each may be closed while it still speaks.
        for client in [&mut stranger, &mut guest, &mut guest_5] {
            let _ = client.stream.write_all(bytes).await;
        }
        drop((stranger, guest, guest_5));
        let id = u16::try_from(i + 1).unwrap();
        station.send(&publish("tilth/v1/f/n1/data", id, b"x")).await;
        station.expect_puback(id).await;
    }
    until("their end", || read(&gateway.metrics.connections_open_now) == 1).await;
    assert!(read(&gateway.metrics.closed_malformed) >= 20);
}

#[tokio::test]
async fn a_certificate_of_our_authority_lets_in_and_no_other() {
    let pki = Pki::new();
    let mut gateway =
        Gateway::with(DoorConfig { tls: Some(pki.door()), ..config() }, 100, BrokerConfig::default()).await;

    for (id, identity) in [("n7", pki.issue("n7", &["else.example"])), ("n8", pki.issue("", &["n8"]))] {
        let (client, mut events) = pki.client(&gateway, id, Some(&identity));
        client.publish(format!("tilth/v1/f/{id}/data"), QoS::AtLeastOnce, false, id).await.unwrap();
        let polling = tokio::spawn(async move {
            loop {
                if let Event::Incoming(Incoming::PubAck(_)) = events.poll().await.unwrap() {
                    return;
                }
            }
        });
        let delivery = gateway.next().await;
        assert_eq!((delivery.station.as_str(), &delivery.payload[..]), (id, id.as_bytes()));
        delivery.ticket.commit();
        within("its PUBACK", polling).await.unwrap();
    }

    let metrics = &gateway.metrics;
    let refused = async |id: &str, identity: Option<&(String, String)>| {
        let (_client, mut events) = pki.client(&gateway, id, identity);
        within("a refusal", async { while events.poll().await.is_ok() {} }).await;
    };
    refused("n7", None).await;
    refused("n7", Some(&Pki::new().issue("n7", &[]))).await;
    until("both refusals", || read(&metrics.connections_refused_tls) == 2).await;
    refused("n7", Some(&pki.issue("N 7", &[]))).await;
    until("a refusal", || read(&metrics.connections_refused_certificate_name) == 1).await;
    refused("n8", Some(&pki.issue("n7", &[]))).await;
    assert_eq!(read(&metrics.connections_refused_client_id), 1);
    assert_eq!(read(&metrics.connections_refused_unknown), 0);
    refused("n99", Some(&pki.issue("n99", &[]))).await;
    assert_eq!(read(&metrics.connections_refused_unknown), 1, "a good certificate of somebody who is not listed");
}
