//! The broker behind the door, seen by its subscribers.

use gateway::broker::BrokerConfig;
use proto::TopicKind;
use rumqttc::QoS;
use rumqttc::mqttbytes::v4::{Packet, SubscribeReasonCode};

use crate::support::*;

#[tokio::test]
async fn mosquitto_sees_what_stations_send() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    station.send(&publish("tilth/v1/f/n1/data", 1, b"before anybody listens")).await;
    station.expect_puback(1).await;
    assert_eq!(read(&gateway.broker.metrics().handed_on), 0);

    let mut sub = Mosquitto::subscribe(gateway.mqtt(), "viewer", "tilth/v1/f/#").await;
    let bytes: Vec<u8> = (0..=255).collect();
    for (id, kind, payload) in [(2, "birth", &b"born"[..]), (3, "data", &bytes), (4, "status", b"")] {
        station.send(&publish(&format!("tilth/v1/f/n1/{kind}"), id, payload)).await;
        station.expect_puback(id).await;
        assert_eq!(sub.message().await, (format!("tilth/v1/f/n1/{kind}"), payload.to_vec()));
    }
    assert_eq!(station.subscribe(&["tilth/v1/f/n1/ack"]).await.len(), 1);
    gateway.outbox.publish(&"n1".parse().unwrap(), TopicKind::Ack, b"ack");
    assert_eq!(sub.message().await, ("tilth/v1/f/n1/ack".to_owned(), b"ack".to_vec()));

    drop(sub);
    until("the viewer's end", || read(&gateway.metrics.broker_links_now) == 0).await;
    let handed_on = read(&gateway.broker.metrics().handed_on);
    let Some(Packet::Publish(_)) = station.packet().await else { panic!("no ack") };
    station.send(&publish("tilth/v1/f/n1/data", 5, b"nobody listens any more")).await;
    station.expect_puback(5).await;
    assert!(read(&gateway.broker.metrics().handed_on) <= handed_on + 1, "at most the watchdog's");
}

/// The buffers of a rumqttd link hold some two hundred messages.
#[tokio::test]
async fn more_than_a_link_holds_comes_through_in_its_order() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut viewer = Raw::connect(gateway.mqtt(), "viewer").await;
    viewer.subscribe(&["tilth/v1/f/#"]).await;
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    for group in 0..50_u16 {
        let ids = group * 100 + 1..=group * 100 + 100;
        let all: Vec<u8> = ids.clone().flat_map(|id| publish("tilth/v1/f/n1/data", id, &id.to_be_bytes())).collect();
        station.send(&all).await;
        for id in ids.clone() {
            station.expect_puback(id).await;
        }
        for id in ids {
            let Some(Packet::Publish(message)) = viewer.packet().await else { panic!("no message {id}") };
            assert_eq!(message.payload[..], id.to_be_bytes());
            if message.pkid > 0 {
                viewer.send(&acknowledge(message.pkid)).await;
            }
        }
    }
    assert_eq!(read(&gateway.broker.metrics().hand_on_dropped), 0);
    assert_eq!(read(&gateway.broker.metrics().restarts), 0);
}

/// The broker forgets what is retained when it is started again, and gives a new subscriber but a part of many.
#[tokio::test]
async fn what_the_gateway_says_reaches_each_subscriber_whole_and_nothing_else_is_retained() {
    const TOPICS: usize = 500;
    let mut gateway =
        Gateway::with(config(), 1_000, BrokerConfig { probe_interval_ms: 50, ..Default::default() }).await;
    gateway.store_everything();
    for number in 0..TOPICS {
        gateway.outbox.announce(&format!("said/{number}"), &bytes::Bytes::from_static(b"here"));
    }
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    for id in 1..=500 {
        let mut retained = publish("tilth/v1/f/n1/data", id, b"retained");
        retained[0] |= 1;
        station.send(&retained).await;
        station.expect_puback(id).await;
    }
    let new_subscriber = async |number: usize| {
        let mut viewer = VERSIONS[0].connect(gateway.mqtt(), "viewer", &format!("v{number}")).await;
        assert_eq!(viewer.subscribe(&["said/+"]).await.len(), 1);
        let mut told = std::collections::BTreeSet::new();
        for _ in 0..TOPICS {
            let Some(Packet::Publish(message)) = viewer.packet().await else { panic!("no message") };
            assert_eq!((&message.payload[..], message.retain), (&b"here"[..], true));
            assert!(told.insert(message.topic));
        }
        // What comes next is no station's message of before.
        assert_eq!(viewer.subscribe(&["tilth/v1/f/#"]).await.len(), 1);
        viewer.send(&PING).await;
        assert_eq!(viewer.packet().await, Some(Packet::PingResp));
    };
    for number in 0..20 {
        new_subscriber(number).await;
    }
    break_the_broker(&gateway).await;
    new_subscriber(20).await;
}

/// rumqttd's router panics at a topic that begins with a character of several bytes. The door lets none through, so the
/// broker's own port is spoken to. Returns when it has been started again.
async fn break_the_broker(gateway: &Gateway) {
    let (intruder, mut events) = rumqttc::v5::AsyncClient::new(
        rumqttc::v5::MqttOptions::new("intruder", "127.0.0.1", gateway.broker.address().port()),
        10,
    );
    intruder.try_publish("\u{e4}hre", rumqttc::v5::mqttbytes::QoS::AtLeastOnce, false, "x").unwrap();
    let polling = tokio::spawn(async move { while events.poll().await.is_ok() {} });
    until("another broker", || read(&gateway.broker.metrics().restarts) > 0).await;
    polling.abort();
}

#[tokio::test]
async fn other_topics_go_through_the_broker_but_no_stations() {
    let gateway = Gateway::open().await;
    let mut sub = Mosquitto::subscribe(gateway.mqtt(), "viewer", "lamp/+").await;
    let status =
        mosquitto("mosquitto_pub", gateway.mqtt(), "node-red").args(["-q", "1", "-t", "lamp/1", "-m", "on"]).status();
    assert!(within("mosquitto_pub", status).await.unwrap().success());
    assert_eq!(sub.message().await, ("lamp/1".to_owned(), b"on".to_vec()));

    let (failure, broker) = (SubscribeReasonCode::Failure, SubscribeReasonCode::Success(QoS::AtLeastOnce));
    let mut lamp = Raw::connect(gateway.mqtt(), "node-red").await;
    assert_eq!(lamp.subscribe(&["$share/g/lamp/1", "lamp/+"]).await, [failure, broker]);
    lamp.send(&publish("lamp/2", 5, b"off")).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match lamp.packet().await {
            Some(Packet::PubAck(ack)) => seen.push(format!("puback {}", ack.pkid)),
            Some(Packet::Publish(message)) => seen.push(format!("{} {:?}", message.topic, message.payload)),
            other => panic!("{other:?}"),
        }
    }
    seen.sort();
    assert_eq!(seen, ["lamp/2 b\"off\"", "puback 5"]);
    assert_eq!(sub.message().await, ("lamp/2".to_owned(), b"off".to_vec()));

    // A station is under its own name only.
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let granted =
        station.subscribe(&["$share/g/lamp/1", "lamp/+", "tilth/v1/f/n1/ack", "tilth/v1/f/n2/data", "#"]).await;
    let own = SubscribeReasonCode::Success(QoS::AtMostOnce);
    assert_eq!(granted, [failure, failure, own, failure, failure]);
    station.send(&publish("lamp/1", 5, b"off")).await;
    station.expect_end().await;
    let status =
        mosquitto("mosquitto_pub", gateway.mqtt(), "node-red").args(["-q", "1", "-t", "lamp/3", "-m", "on"]).status();
    assert!(within("mosquitto_pub", status).await.unwrap().success());
    assert_eq!(sub.message().await.0, "lamp/3", "and not what the station said");
}

#[tokio::test]
async fn shared_subscriptions_are_refused_to_mosquitto() {
    let gateway = Gateway::open().await;
    let shared =
        mosquitto("mosquitto_sub", gateway.mqtt(), "viewer").args(["-t", "$share/g/tilth/v1/f/n1/data"]).output();
    let shared = within("mosquitto_sub", shared).await.unwrap();
    assert!(String::from_utf8_lossy(&shared.stderr).contains("denied"), "{shared:?}");
    assert_eq!(read(&gateway.metrics.subscriptions_refused), 1);
}

#[tokio::test]
async fn a_broken_broker_is_started_again_and_data_does_not_notice() {
    let broker = BrokerConfig { probe_interval_ms: 50, ..BrokerConfig::default() };
    let mut gateway = Gateway::with(config(), 100, broker).await;
    gateway.store_everything();
    let mut station = Raw::connect(gateway.mqtt(), "n1").await;
    let mut viewer = Mosquitto::subscribe(gateway.mqtt(), "viewer", "tilth/v1/f/#").await;
    until("a probe", || read(&gateway.broker.metrics().probes_answered) > 0).await;

    let before = gateway.broker.address();
    let broken = std::cell::Cell::new(false);
    let breaking = async {
        break_the_broker(&gateway).await;
        broken.set(true);
    };
    let publishing = async {
        let mut id = 0;
        while !broken.get() {
            id = id % 60_000 + 1;
            station.send(&publish("tilth/v1/f/n1/data", id, b"x")).await;
            station.expect_puback(id).await;
        }
    };
    tokio::join!(breaking, publishing);
    assert_ne!(gateway.broker.address(), before);
    // mosquitto_sub comes back by itself, through the door to the new broker.
    viewer.line("Subscribed").await;
    station.send(&publish("tilth/v1/f/n1/data", 60_001, b"after")).await;
    station.expect_puback(60_001).await;
    while viewer.message().await.1 != b"after" {}
}
