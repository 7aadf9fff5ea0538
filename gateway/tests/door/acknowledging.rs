//! Data in, acknowledgements and messages out.

use bytes::BytesMut;
use gateway::broker::BrokerConfig;
use gateway::door::{DeliveryKind, DoorConfig, Release};
use proto::{StationId, TopicKind};
use rumqttc::mqttbytes::v4::{ConnectReturnCode, LastWill, Packet, SubscribeReasonCode, Unsubscribe};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn a_puback_goes_when_its_publish_is_stored_and_not_before() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&publish("tilth/v1/f/n1/data", 9, b"readings")).await;
    let delivery = gateway.next().await;
    assert_eq!(delivery.station.as_str(), "n1");
    assert_eq!((delivery.kind, &delivery.payload[..]), (DeliveryKind::Data, &b"readings"[..]));
    // What is asked later is answered: the door has had its chance to acknowledge, and did not.
    station.send(&PING).await;
    assert_eq!(station.packet().await, Some(Packet::PingResp));
    assert_eq!(read(&gateway.metrics.deliveries_waiting_now), 1);
    delivery.ticket.commit();
    station.expect_puback(9).await;
    assert_eq!((read(&gateway.metrics.pubacks), read(&gateway.metrics.deliveries_waiting_now)), (1, 0));
}

#[tokio::test]
async fn qos_0_births_and_statuses_are_delivered_too() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    for (kind, id) in [("birth", 1), ("status", 2), ("data", 0)] {
        station.send(&publish(&format!("tilth/v1/f/n1/{kind}"), id, kind.as_bytes())).await;
    }
    for kind in [DeliveryKind::Birth, DeliveryKind::Status, DeliveryKind::Data] {
        let delivery = gateway.next().await;
        assert_eq!(delivery.kind, kind);
        delivery.ticket.commit();
    }
    station.expect_puback(1).await;
    station.expect_puback(2).await;
    station.send(&PING).await;
    assert_eq!(station.packet().await, Some(Packet::PingResp), "QoS 0 has no PUBACK");
}

#[tokio::test]
async fn three_hundred_in_flight_are_released_in_order_and_together() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let stream: Vec<u8> = (1..=300).flat_map(|id| publish("tilth/v1/f/n1/data", id, &id.to_be_bytes())).collect();
    station.send(&stream).await;
    let mut release = Release::new();
    for id in 1..=300_u16 {
        let delivery = gateway.next().await;
        assert_eq!(&delivery.payload[..], id.to_be_bytes());
        release.commit(delivery.ticket);
    }
    assert_eq!(read(&gateway.metrics.pubacks), 0);
    release.send();
    for id in 1..=300 {
        station.expect_puback(id).await;
    }
}

#[tokio::test]
async fn a_library_client_gets_all_of_its_pubacks() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut options = MqttOptions::new("n1", "127.0.0.1", gateway.mqtt().port());
    options.set_credentials("n1", password("n1")).set_inflight(100);
    let (client, mut events) = AsyncClient::new(options, 10);
    tokio::spawn(async move {
        for i in 0..1_000_u32 {
            client.publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, false, i.to_be_bytes()).await.unwrap();
        }
        // Kept, or the event loop ends before it has heard the last answer.
        std::future::pending::<()>().await;
    });
    let mut acknowledged = 0;
    while acknowledged < 1_000 {
        if let Event::Incoming(Incoming::PubAck(_)) = within("an event", events.poll()).await.unwrap() {
            acknowledged += 1;
        }
    }
    assert_eq!(read(&gateway.metrics.publishes), 1_000);
}

#[tokio::test]
async fn what_could_not_be_stored_is_sent_again_on_a_new_connection() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&[publish("tilth/v1/f/n1/data", 1, b"one"), publish("tilth/v1/f/n1/data", 2, b"two")].concat()).await;
    gateway.next().await.ticket.commit();
    drop(gateway.next().await);
    station.expect_puback(1).await;
    station.expect_end().await;
    until("the count", || read(&gateway.metrics.closed_not_stored) == 1).await;

    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let mut again = publish("tilth/v1/f/n1/data", 2, b"two");
    again[0] |= 0b1000; // DUP
    station.send(&again).await;
    let delivery = gateway.next().await;
    assert_eq!(&delivery.payload[..], b"two");
    delivery.ticket.commit();
    station.expect_puback(2).await;
}

#[tokio::test]
async fn the_same_client_again_takes_over() {
    let mut gateway = Gateway::open().await;
    let mut will = hello("n1");
    will.last_will = Some(LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, false));
    let mut first = Raw::dial(gateway.mqtt()).await;
    assert_eq!(first.ask_in(&will).await, Some(ConnectReturnCode::Success));
    first.send(&publish("tilth/v1/f/n1/data", 1, b"x")).await;
    let outstanding = gateway.next().await;

    let mut second = Raw::connect(gateway.mqtt(), "n1").await;
    first.expect_end().await;
    until("the first one's end", || read(&gateway.metrics.connections_open_now) == 1).await;
    outstanding.ticket.commit();
    second.send(&publish("tilth/v1/f/n1/data", 1, b"again")).await;
    let delivery = gateway.next().await;
    assert_eq!((delivery.kind, &delivery.payload[..]), (DeliveryKind::Data, &b"again"[..]), "no will in between");
    delivery.ticket.commit();
    second.expect_puback(1).await;
    assert_eq!((read(&gateway.metrics.takeovers), gateway.outbox.connected()), (1, 1));

    // Two programs of one name are two clients.
    let mut ids = Vec::new();
    for id in ["a", "b"] {
        let mut connect = hello("viewer");
        connect.client_id = id.to_owned();
        let mut raw = Raw::dial(gateway.mqtt()).await;
        assert_eq!(raw.ask_in(&connect).await, Some(ConnectReturnCode::Success));
        ids.push(raw);
    }
    for raw in &mut ids {
        raw.send(&PING).await;
        assert_eq!(raw.packet().await, Some(Packet::PingResp));
    }
}

#[tokio::test]
async fn a_station_that_goes_without_a_word_is_offline() {
    let mut gateway = Gateway::open().await;
    let mut connect = hello("n1");
    connect.last_will = Some(LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, true));
    let mut station = Raw::dial(gateway.mqtt()).await;
    station.ask_in(&connect).await;
    assert_eq!(gateway.outbox.stations(), ["n1".parse::<StationId>().unwrap()]);
    drop(station);
    let delivery = gateway.next().await;
    assert_eq!(
        (delivery.station.as_str(), delivery.kind, &delivery.payload[..]),
        ("n1", DeliveryKind::Status, &b"gone"[..])
    );
    delivery.ticket.commit();
    assert_eq!(gateway.outbox.connected(), 0);

    let mut station = Raw::dial(gateway.mqtt()).await;
    station.ask_in(&connect).await;
    station.send(&GOODBYE).await;
    station.expect_end().await;
    until("its end", || read(&gateway.metrics.connections_open_now) == 0).await;
    assert!(gateway.deliveries.try_recv().is_err(), "a goodbye takes the will back");
}

#[tokio::test]
async fn a_station_that_falls_silent_is_closed() {
    let mut gateway = Gateway::open().await;
    let mut connect = hello("n1");
    connect.keep_alive = 1;
    connect.last_will = Some(LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, false));
    let mut station = Raw::dial(gateway.mqtt()).await;
    station.ask_in(&connect).await;
    station.expect_end().await;
    assert_eq!(gateway.next().await.kind, DeliveryKind::Status);
    assert_eq!(read(&gateway.metrics.keep_alive_timeouts), 1);
}

#[tokio::test]
async fn acks_and_commands_reach_the_station_that_subscribed() {
    let gateway = Gateway::open().await;
    let n1: StationId = "n1".parse().unwrap();
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, b"0"), "not connected");
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, b"1"), "not subscribed");
    let granted = station
        .subscribe(&["tilth/v1/f/n1/ack", "tilth/v1/f/n1/command", "tilth/v1/f/n2/ack", "tilth/v1/f/n1/#"])
        .await;
    let door = SubscribeReasonCode::Success(QoS::AtMostOnce);
    assert_eq!(granted, [door, door, SubscribeReasonCode::Failure, SubscribeReasonCode::Failure]);

    let mut release = Release::new();
    assert!(release.publish(&gateway.outbox, &n1, TopicKind::Ack, b"2"));
    assert!(release.publish(&gateway.outbox, &n1, TopicKind::Command, b"3"));
    release.send();
    for (kind, payload) in [("ack", b"2"), ("command", b"3")] {
        let Some(Packet::Publish(message)) = station.packet().await else { panic!("no message") };
        assert_eq!((message.topic, &message.payload[..]), (format!("tilth/v1/f/n1/{kind}"), &payload[..]));
    }
    assert_eq!(read(&gateway.metrics.broker_links_now), 0, "no connection behind the door");

    let mut unsubscribe = Unsubscribe::new("tilth/v1/f/n1/ack");
    unsubscribe.pkid = 3;
    let mut bytes = BytesMut::new();
    unsubscribe.write(&mut bytes).unwrap();
    station.send(&bytes).await;
    assert!(matches!(station.packet().await, Some(Packet::UnsubAck(ack)) if ack.pkid == 3));
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, b"4"));
    assert!(gateway.outbox.publish(&n1, TopicKind::Command, b"5"));
}

#[tokio::test]
async fn a_slow_store_slows_its_stations_and_loses_nothing() {
    let mut gateway = Gateway::with(config(), 4, BrokerConfig::default()).await;
    let station = Raw::connect(gateway.mqtt(), "n1").await;
    let (mut reader, mut writer) = station.stream.into_split();
    let sending = tokio::spawn(async move {
        for id in 1..=5_000_u16 {
            writer.write_all(&publish("tilth/v1/f/n1/data", id, &[7; 2_000])).await.unwrap();
        }
        writer
    });
    until("a full queue", || read(&gateway.metrics.deliveries_waiting_now) == 5).await;
    let mut other = Raw::connect(gateway.mqtt(), "n2").await;
    other.send(&PING).await;
    assert_eq!(other.packet().await, Some(Packet::PingResp));
    assert_eq!(read(&gateway.metrics.deliveries_waiting_now), 5, "four in the queue, one in the door's hand");

    // Taken out of the queue and not committed: the door stops at its own bound.
    let mut held = Vec::new();
    while held.len() < 1_024 {
        held.push(gateway.next().await);
    }
    until("the bound", || read(&gateway.metrics.deliveries_waiting_now) == 1_024).await;
    assert!(gateway.deliveries.try_recv().is_err());
    held.into_iter().for_each(|delivery| delivery.ticket.commit());
    gateway.store_everything();
    let mut acks = vec![0; 4 * 5_000];
    within("every PUBACK", reader.read_exact(&mut acks)).await.unwrap();
    let ids: Vec<u16> = acks.chunks(4).map(|ack| u16::from_be_bytes([ack[2], ack[3]])).collect();
    assert_eq!(ids, (1..=5_000).collect::<Vec<_>>());
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_will_that_finds_no_room_keeps_neither_a_place_nor_the_door_open() {
    let config = DoorConfig { drain_timeout_s: 1, ..config() };
    let mut gateway = Gateway::with(config, 1, BrokerConfig::default()).await;
    let mut connect = hello("n1");
    connect.last_will = Some(LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, true));
    let mut full = Raw::connect(gateway.mqtt(), "n2").await;
    full.send(&publish("tilth/v1/f/n2/data", 1, b"x")).await;
    until("a full queue", || read(&gateway.metrics.deliveries_waiting_now) == 1).await;
    for number in 1..=2 {
        let mut station = Raw::dial(gateway.mqtt()).await;
        assert_eq!(station.ask_in(&connect).await, Some(ConnectReturnCode::Success));
        drop(station);
        until("its place", || read(&gateway.metrics.connections_open_now) == 1).await;
        assert_eq!(read(&gateway.metrics.wills_dropped), number);
    }
    // The third goes just before the door closes.
    let mut station = Raw::dial(gateway.mqtt()).await;
    assert_eq!(station.ask_in(&connect).await, Some(ConnectReturnCode::Success));
    drop(station);
    until("its end", || gateway.outbox.connected() == 1).await;
    gateway.shutdown.cancel();
    within("the door's end", &mut gateway.door).await.unwrap();
    assert_eq!((read(&gateway.metrics.wills), read(&gateway.metrics.wills_dropped)), (0, 3));
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_being_stored() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&[publish("tilth/v1/f/n1/data", 1, b"x"), publish("tilth/v1/f/n1/data", 2, b"y")].concat()).await;
    let (first, second) = (gateway.next().await, gateway.next().await);
    gateway.shutdown.cancel();
    first.ticket.commit();
    station.expect_puback(1).await;
    assert!(!gateway.door.is_finished());
    second.ticket.commit();
    station.expect_puback(2).await;
    station.expect_end().await;
    within("the door's end", gateway.door).await.unwrap();
    assert!(gateway.deliveries.recv().await.is_none(), "the queue is closed, and no will is in it");
    assert!(TcpStream::connect(gateway.addresses.mqtt.unwrap()).await.is_err());
}
