//! Bridges bring messages of sources, and hear what the gateway says about itself.

use gateway::broker::BrokerConfig;
use gateway::decode::source::{Routes, SourceConfig};
use gateway::door::DeliveryKind;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnectReturnCode, LastWill, Packet, SubscribeReasonCode};

use crate::support::{Gateway, Raw, config, hello, publish};

async fn gateway() -> Gateway {
    let source: SourceConfig = toml::from_str("kind = \"sparkplug\"\nprefix = \"sp-\"").unwrap();
    Gateway::with_routes(config(), 100, BrokerConfig::default(), Routes::new(&[source])).await
}

#[tokio::test]
async fn a_bridge_publishes_within_its_topics_and_its_will_counts() {
    let mut gateway = gateway().await;
    let mut bridge = Raw::dial(gateway.mqtt()).await;
    let mut connect = hello("edge");
    connect.last_will = Some(LastWill::new("spBv1.0/G/NDEATH/e1", "gone", QoS::AtLeastOnce, false));
    assert_eq!(bridge.ask_in(&connect).await, Some(ConnectReturnCode::Success));
    bridge.send(&publish("spBv1.0/G/NBIRTH/e1", 7, b"birth")).await;
    let delivery = gateway.next().await;
    assert_eq!((delivery.kind, delivery.station.as_str(), delivery.packet), (DeliveryKind::Foreign, "edge", 7));
    assert_eq!((delivery.topic.as_deref(), &delivery.payload[..]), (Some("spBv1.0/G/NBIRTH/e1"), &b"birth"[..]));
    delivery.ticket.commit();
    bridge.expect_puback(7).await;
    // Another node's data ends the connection, and the will tells of it.
    bridge.send(&publish("spBv1.0/G/NDATA/e2", 8, b"not its own")).await;
    bridge.expect_end().await;
    let will = gateway.next().await;
    assert_eq!((will.kind, will.topic.as_deref()), (DeliveryKind::Foreign, Some("spBv1.0/G/NDEATH/e1")));

    // Nobody else publishes what a source takes, nor anything of Sparkplug's: neither a station nor a program. And nobody
    // at all commands what is behind it: neither by a message nor by a will.
    for (name, topics) in [
        ("n1", &["spBv1.0/G/NDATA/e1", "spBv1.0/G/DCMD/e1/valve"][..]),
        ("node-red", &["spBv1.0/G/NDATA/e1", "spBv1.0/G/DCMD/e1/valve", "spBv1.0/G/NCMD/e1", "spBv1.0/STATE/other"]),
        ("edge", &["spBv1.0/G/DCMD/e1/valve", "spBv1.0/G/NCMD/e1"]),
    ] {
        for topic in topics {
            let mut other = Raw::connect(gateway.mqtt(), name).await;
            other.send(&publish(topic, 1, b"forged")).await;
            other.expect_end().await;
            let mut connect = hello(name);
            connect.last_will = Some(LastWill::new(*topic, "forged", QoS::AtLeastOnce, false));
            let answer = Raw::dial(gateway.mqtt()).await.ask_in(&connect).await;
            assert_eq!(answer, Some(ConnectReturnCode::NotAuthorized), "{name}, {topic}");
        }
    }
    // And no native station has a name of a source's.
    let refused = Raw::dial(gateway.mqtt()).await.ask_in(&hello("sp-1")).await;
    assert_eq!(refused, Some(ConnectReturnCode::BadUserNamePassword));
}

#[tokio::test]
async fn what_the_gateway_says_about_itself_is_retained_and_its_own() {
    let gateway = gateway().await;
    let state = "spBv1.0/STATE/g1";
    gateway.outbox.announce(state, &bytes::Bytes::from_static(b"here"));
    let mut bridge = Raw::connect(gateway.mqtt(), "edge").await;
    let granted = bridge.subscribe(&["spBv1.0/STATE/#", "spBv1.0/G/NCMD/e1", "spBv1.0/G/NCMD/e2", "tilth/#"]).await;
    let granted: Vec<bool> = granted.iter().map(|code| *code != SubscribeReasonCode::Failure).collect();
    assert_eq!(granted, [true, true, false, false]);
    let Some(Packet::Publish(told)) = bridge.packet().await else { panic!("no retained message") };
    assert_eq!((told.topic.as_str(), &told.payload[..], told.retain), (state, &b"here"[..], true));
    // What changes is told at once, and commands come through.
    gateway.outbox.announce(state, &bytes::Bytes::from_static(b"gone"));
    let Some(Packet::Publish(told)) = bridge.packet().await else { panic!("no message") };
    assert_eq!((&told.payload[..], told.retain), (&b"gone"[..], false));
    gateway.outbox.publish_foreign("spBv1.0/G/NCMD/e1", bytes::Bytes::from_static(b"rebirth"));
    let Some(Packet::Publish(command)) = bridge.packet().await else { panic!("no command") };
    assert_eq!((command.topic.as_str(), &command.payload[..]), ("spBv1.0/G/NCMD/e1", &b"rebirth"[..]));
    // Nobody else says whether the gateway is there: not by a message, and not by a will.
    bridge.send(&publish(state, 3, b"forged")).await;
    bridge.expect_end().await;
    let mut connect = hello("edge");
    connect.last_will = Some(LastWill::new(state, "forged", QoS::AtMostOnce, true));
    let refused = Raw::dial(gateway.mqtt()).await.ask_in(&connect).await;
    assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized));
}
