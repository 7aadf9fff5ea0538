//! MQTT 5 at the same door: with clients of which every byte is known, with rumqttc's and with Mosquitto's.

use bytes::{Bytes, BytesMut};
use gateway::broker::BrokerConfig;
use gateway::door::{DeliveryKind, DoorConfig};
use proto::{StationId, TopicKind};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::*;
use rumqttc::v5::{AsyncClient, Event, Incoming, MqttOptions};
use tokio::io::AsyncReadExt;

use crate::support::{Gateway, Mosquitto, PING, Raw, config, mosquitto, password, read, until, within};

/// A client that speaks MQTT 5.
struct Raw5(Raw);

impl Raw5 {
    /// Asks to be let in.
    async fn ask(gateway: &Gateway, connect: &Connect, will: Option<LastWill>, name: &str) -> (Self, Option<ConnAck>) {
        let login = Some(Login { username: name.to_owned(), password: password(name) });
        let mut raw = Self(Raw::dial(gateway.mqtt()).await);
        let mut bytes = BytesMut::new();
        connect.write(&will, &login, &mut bytes).unwrap();
        raw.0.send(&bytes).await;
        let answer = match raw.packet().await {
            Some(Packet::ConnAck(ack)) => Some(ack),
            None => None,
            other => panic!("{other:?} instead of a CONNACK"),
        };
        (raw, answer)
    }

    async fn connect(gateway: &Gateway, name: &str) -> Self {
        let (raw, answer) = Self::ask(gateway, &hello5(name), None, name).await;
        assert_eq!(answer.unwrap().code, ConnectReturnCode::Success);
        raw
    }

    async fn packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.0.buffer, None) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("{error}"),
            }
            match within("bytes from the door", self.0.stream.read_buf(&mut self.0.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn publish(&mut self, topic: &str, id: u16, payload: &[u8], properties: Option<PublishProperties>) {
        let qos = if id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut publish = Publish::new(topic, qos, payload.to_vec(), properties);
        publish.pkid = id;
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        self.0.send(&bytes).await;
    }

    async fn puback(&mut self) -> (u16, PubAckReason) {
        match self.packet().await {
            Some(Packet::PubAck(ack)) => (ack.pkid, ack.reason),
            other => panic!("{other:?} instead of a PUBACK"),
        }
    }

    async fn subscribe(&mut self, filters: Vec<Filter>) -> Vec<SubscribeReasonCode> {
        let subscribe = Subscribe { pkid: 77, filters, properties: None };
        let mut bytes = BytesMut::new();
        subscribe.write(&mut bytes).unwrap();
        self.0.send(&bytes).await;
        match self.packet().await {
            Some(Packet::SubAck(ack)) if ack.pkid == 77 => ack.return_codes,
            other => panic!("{other:?} instead of a SUBACK"),
        }
    }

    async fn expect_disconnect(&mut self, reason: DisconnectReasonCode) {
        match self.packet().await {
            Some(Packet::Disconnect(disconnect)) => assert_eq!(disconnect.reason_code, reason),
            other => panic!("{other:?} instead of a DISCONNECT"),
        }
        assert_eq!(self.packet().await, None);
    }
}

fn hello5(client_id: &str) -> Connect {
    Connect { keep_alive: 60, client_id: client_id.to_owned(), clean_start: false, properties: None }
}

fn filter(path: &str) -> Filter {
    Filter::new(path, QoS::AtLeastOnce)
}

fn alias(alias: u16) -> Option<PublishProperties> {
    Some(PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() })
}

#[tokio::test]
async fn the_connack_says_what_the_door_does_and_does_not() {
    let gateway =
        Gateway::with(DoorConfig { max_payload_bytes: 5_000, ..config() }, 100, BrokerConfig::default()).await;
    let (_raw, answer) = Raw5::ask(&gateway, &hello5("n1"), None, "n1").await;
    let answer = answer.unwrap();
    assert_eq!((answer.session_present, answer.code), (false, ConnectReturnCode::Success));
    let properties = answer.properties.unwrap();
    assert_eq!(properties.session_expiry_interval, Some(0));
    assert_eq!(properties.receive_max, Some(1_024));
    assert_eq!(properties.max_qos, Some(1));
    assert_eq!(properties.max_packet_size, Some(5_000 + 1_024 + 5));
    assert_eq!(properties.topic_alias_max, Some(8));
    assert_eq!(properties.wildcard_subscription_available, Some(1));
    assert_eq!(properties.subscription_identifiers_available, Some(0));
    assert_eq!(properties.shared_subscription_available, Some(0));
    assert_eq!(properties.assigned_client_identifier, None);
    assert_eq!(properties.server_keep_alive, None);

    // Who leaves its id or its keep-alive to the door is told them.
    for (name, id) in [("n1", "n1"), ("viewer", "viewer-0")] {
        let connect = Connect { keep_alive: 0, ..hello5("") };
        let (mut raw, answer) = Raw5::ask(&gateway, &connect, None, name).await;
        let properties = answer.unwrap().properties.unwrap();
        assert_eq!(properties.assigned_client_identifier.as_deref(), Some(id));
        assert_eq!(properties.server_keep_alive, Some(600));
        raw.0.send(&PING).await;
        assert_eq!(raw.packet().await, Some(Packet::PingResp(PingResp)));
    }
}

#[tokio::test]
async fn strangers_are_told_why_they_are_refused() {
    let gateway = Gateway::open().await;
    let refused = async |connect: &Connect, will: Option<LastWill>, name: &str| {
        let (mut raw, answer) = Raw5::ask(&gateway, connect, will, name).await;
        let code = answer.unwrap().code;
        assert_eq!(raw.packet().await, None);
        code
    };
    use ConnectReturnCode::{BadAuthenticationMethod, BadUserNamePassword, ClientIdentifierNotValid};
    use ConnectReturnCode::{NotAuthorized, QoSNotSupported};
    assert_eq!(refused(&hello5("n9"), None, "n9").await, BadUserNamePassword);
    assert_eq!(refused(&hello5("n2"), None, "n1").await, ClientIdentifierNotValid);
    assert_eq!(refused(&hello5("a/b"), None, "viewer").await, ClientIdentifierNotValid);
    let will = |topic: &str, qos| Some(LastWill::new(topic, "gone", qos, false, None));
    assert_eq!(refused(&hello5("n1"), will("tilth/v1/f/n2/status", QoS::AtLeastOnce), "n1").await, NotAuthorized);
    assert_eq!(refused(&hello5("n1"), will("tilth/v1/f/n1/status", QoS::ExactlyOnce), "n1").await, QoSNotSupported);
    let properties =
        ConnectProperties { authentication_method: Some("SCRAM-SHA-1".to_owned()), ..ConnectProperties::default() };
    let connect = Connect { properties: Some(properties), ..hello5("n1") };
    assert_eq!(refused(&connect, None, "n1").await, BadAuthenticationMethod);
    assert_eq!(read(&gateway.metrics.connections_accepted), 0);

    // A receive maximum of 0 is no MQTT 5.
    let properties = ConnectProperties { receive_maximum: Some(0), ..ConnectProperties::default() };
    let connect = Connect { properties: Some(properties), ..hello5("n1") };
    let (_raw, answer) = Raw5::ask(&gateway, &connect, None, "n1").await;
    assert_eq!(answer, None);
}

#[tokio::test]
async fn a_station_publishes_with_properties_and_aliases_and_its_puback_is_withheld() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw5::connect(&gateway, "n1").await;
    let properties = PublishProperties {
        topic_alias: Some(3),
        content_type: Some("application/json".to_owned()),
        user_properties: vec![("unit".to_owned(), "kPa".to_owned())],
        ..PublishProperties::default()
    };
    station.publish("tilth/v1/f/n1/data", 1, b"one", Some(properties)).await;
    station.publish("", 2, b"two", alias(3)).await;
    station.publish("tilth/v1/f/n1/birth", 3, b"three", None).await;
    for (kind, payload) in
        [(DeliveryKind::Data, &b"one"[..]), (DeliveryKind::Data, b"two"), (DeliveryKind::Birth, b"three")]
    {
        let delivery = gateway.next().await;
        assert_eq!((delivery.kind, &delivery.payload[..]), (kind, payload));
        station.0.send(&PING).await;
        assert_eq!(station.packet().await, Some(Packet::PingResp(PingResp)), "nothing is acknowledged yet");
        delivery.ticket.commit();
        assert_eq!(station.puback().await.1, PubAckReason::Success);
    }
}

#[tokio::test]
async fn a_publish_that_it_may_not_send_is_answered_in_its_turn() {
    let mut gateway = Gateway::open().await;
    let mut station = Raw5::connect(&gateway, "n1").await;
    station.publish("tilth/v1/f/n1/data", 1, b"one", None).await;
    station.publish("tilth/v1/f/n2/data", 2, b"another's", None).await;
    station.publish("tilth/v1/f/n1/data", 3, b"three", None).await;
    let first = gateway.next().await;
    until("the refusal", || read(&gateway.metrics.publishes_refused_topic) == 1).await;
    first.ticket.commit();
    assert_eq!(station.puback().await, (1, PubAckReason::Success));
    assert_eq!(station.puback().await, (2, PubAckReason::NotAuthorized));
    let third = gateway.next().await;
    assert_eq!(&third.payload[..], b"three", "the connection goes on");
    third.ticket.commit();
    assert_eq!(station.puback().await, (3, PubAckReason::Success));

    // With QoS 0 there is no answer but the end.
    station.publish("tilth/v1/f/n2/data", 0, b"another's", None).await;
    station.expect_disconnect(DisconnectReasonCode::NotAuthorized).await;
}

#[tokio::test]
async fn a_connection_that_the_door_ends_is_told_why() {
    let mut gateway =
        Gateway::with(DoorConfig { max_payload_bytes: 1_000, ..config() }, 100, BrokerConfig::default()).await;
    let mut first = Raw5::connect(&gateway, "n1").await;
    let mut second = Raw5::connect(&gateway, "n1").await;
    first.expect_disconnect(DisconnectReasonCode::SessionTakenOver).await;
    second.publish("tilth/v1/f/n1/data", 1, &[0; 3_000], None).await;
    second.expect_disconnect(DisconnectReasonCode::PacketTooLarge).await;

    let mut station = Raw5::connect(&gateway, "n1").await;
    let mut publish = Publish::new("tilth/v1/f/n1/data", QoS::ExactlyOnce, "x", None);
    publish.pkid = 1;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).unwrap();
    station.0.send(&bytes).await;
    station.expect_disconnect(DisconnectReasonCode::QoSNotSupported).await;

    for wrong in [&[0x30, 7, 0, 1, b'a', 3, 35, 0, 9][..], &[0xF0, 0], &[0x30, 6, 0, 1, b'a', 2, 1, 7]] {
        let mut station = Raw5::connect(&gateway, "n1").await;
        station.0.send(wrong).await;
        station.expect_disconnect(DisconnectReasonCode::MalformedPacket).await;
    }

    let mut station = Raw5::connect(&gateway, "n1").await;
    station.publish("tilth/v1/f/n1/data", 1, b"lost", None).await;
    drop(gateway.next().await);
    station.expect_disconnect(DisconnectReasonCode::ServerBusy).await;

    let connect = Connect { keep_alive: 1, ..hello5("n1") };
    let (mut silent, _) = Raw5::ask(&gateway, &connect, None, "n1").await;
    silent.expect_disconnect(DisconnectReasonCode::KeepAliveTimeout).await;

    let mut station = Raw5::connect(&gateway, "n1").await;
    gateway.shutdown.cancel();
    station.expect_disconnect(DisconnectReasonCode::ServerShuttingDown).await;
}

#[tokio::test]
async fn a_will_goes_out_unless_the_goodbye_takes_it_back() {
    let mut gateway = Gateway::open().await;
    let properties = LastWillProperties {
        delay_interval: Some(3_600),
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let will = LastWill::new("tilth/v1/f/n1/status", "gone", QoS::AtLeastOnce, true, Some(properties));
    for (farewell, goes_out) in [(&[0xE0, 0][..], false), (&[0xE0, 1, 0], false), (&[0xE0, 1, 4], true), (&[], true)] {
        let (mut station, answer) = Raw5::ask(&gateway, &hello5("n1"), Some(will.clone()), "n1").await;
        assert_eq!(answer.unwrap().code, ConnectReturnCode::Success);
        station.0.send(farewell).await;
        drop(station);
        if goes_out {
            // Its delay ends with the session, and that with the connection.
            let delivery = gateway.next().await;
            assert_eq!((delivery.kind, &delivery.payload[..]), (DeliveryKind::Status, &b"gone"[..]));
            delivery.ticket.commit();
        }
        until("its end", || read(&gateway.metrics.connections_open_now) == 0).await;
        assert!(gateway.deliveries.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_station_gets_its_acks_and_others_their_reasons() {
    let gateway = Gateway::open().await;
    let n1: StationId = "n1".parse().unwrap();
    let connect_properties = ConnectProperties { max_packet_size: Some(60), ..ConnectProperties::default() };
    let connect = Connect { properties: Some(connect_properties), ..hello5("n1") };
    let (mut station, _) = Raw5::ask(&gateway, &connect, None, "n1").await;
    let local = Filter { nolocal: true, ..filter("lamp/+") };
    let granted = station
        .subscribe(vec![
            filter("tilth/v1/f/n1/ack"),
            filter("tilth/v1/f/n2/ack"),
            filter("$share/g/tilth/v1/f/n1/ack"),
            filter("lamp/#/x"),
            filter(&"x".repeat(600)),
            local,
        ])
        .await;
    use SubscribeReasonCode as Code;
    assert_eq!(
        granted,
        [
            Code::Success(QoS::AtMostOnce),
            Code::NotAuthorized,
            Code::SharedSubscriptionsNotSupported,
            Code::TopicFilterInvalid,
            Code::QuotaExceeded,
            Code::ImplementationSpecific
        ]
    );
    assert!(gateway.outbox.publish(&n1, TopicKind::Ack, b"ack"));
    let Some(Packet::Publish(message)) = station.packet().await else { panic!("no ack") };
    assert_eq!((&message.topic[..], &message.payload[..]), (&b"tilth/v1/f/n1/ack"[..], &b"ack"[..]));
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, &[7; 60]), "larger than it takes");

    let mut bytes = BytesMut::new();
    let filters = vec!["tilth/v1/f/n1/ack".to_owned(), "never/asked/for".to_owned()];
    Unsubscribe { pkid: 5, filters, properties: None }.write(&mut bytes).unwrap();
    station.0.send(&bytes).await;
    let Some(Packet::UnsubAck(ack)) = station.packet().await else { panic!("no UNSUBACK") };
    assert_eq!((ack.pkid, ack.reasons), (5, vec![UnsubAckReason::Success, UnsubAckReason::NoSubscriptionExisted]));
    assert!(!gateway.outbox.publish(&n1, TopicKind::Ack, b"ack"));
}

/// The next message from the broker.
async fn message(client: &mut Raw5) -> Publish {
    match client.packet().await {
        Some(Packet::Publish(publish)) => publish,
        other => panic!("{other:?} instead of a message"),
    }
}

#[tokio::test]
async fn properties_reach_subscribers_of_either_version() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut viewer = Raw5::connect(&gateway, "viewer").await;
    assert_eq!(
        viewer.subscribe(vec![filter("lamp/+"), filter("tilth/v1/f/#")]).await,
        [SubscribeReasonCode::Success(QoS::AtLeastOnce); 2]
    );
    let mut old = Mosquitto::subscribe(gateway.mqtt(), "node-red", "#").await;
    let (mut station, mut lamp) = (Raw5::connect(&gateway, "n1").await, Raw5::connect(&gateway, "node-red").await);
    let properties = PublishProperties {
        topic_alias: Some(1),
        payload_format_indicator: Some(1),
        response_topic: Some("lamp/answers".to_owned()),
        correlation_data: Some(Bytes::from_static(b"\x01\xff")),
        content_type: Some("text/plain".to_owned()),
        user_properties: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
        ..PublishProperties::default()
    };
    // Once over a program's own way to the broker, and twice handed on by the door.
    for (topic, payload) in [("lamp/1", "on"), ("tilth/v1/f/n1/data", "{}"), ("", "{}")] {
        let client = if topic == "lamp/1" { &mut lamp } else { &mut station };
        client.publish(topic, 7, payload.as_bytes(), Some(properties.clone())).await;
        assert_eq!(client.puback().await.0, 7);
        let seen = message(&mut viewer).await;
        let topic = if topic.is_empty() { "tilth/v1/f/n1/data" } else { topic };
        assert_eq!((&seen.topic[..], &seen.payload[..]), (topic.as_bytes(), payload.as_bytes()));
        let expected = PublishProperties { topic_alias: None, ..properties.clone() };
        assert_eq!(seen.properties, Some(expected), "{topic}");
        assert_eq!(old.message().await, (topic.to_owned(), payload.as_bytes().to_vec()));
    }
    // An old client's message comes without.
    let status = mosquitto("mosquitto_pub", gateway.mqtt(), "node-red").args(["-t", "lamp/2", "-m", "off"]).status();
    assert!(within("mosquitto_pub", status).await.unwrap().success());
    let seen = message(&mut viewer).await;
    assert_eq!((&seen.topic[..], seen.properties), (&b"lamp/2"[..], None));
}

#[tokio::test]
async fn a_subscriber_gets_no_more_at_once_than_it_takes_and_nothing_too_large() {
    let gateway = Gateway::open().await;
    let properties = ConnectProperties { receive_maximum: Some(2), max_packet_size: Some(200), ..Default::default() };
    let connect = Connect { properties: Some(properties), ..hello5("viewer") };
    let (mut viewer, _) = Raw5::ask(&gateway, &connect, None, "viewer").await;
    viewer.subscribe(vec![filter("lamp/+")]).await;
    let mut lamp = Raw5::connect(&gateway, "node-red").await;
    for id in 1..=6 {
        let payload = if id == 2 { vec![7; 300] } else { vec![7; usize::from(id)] };
        lamp.publish("lamp/1", id, &payload, None).await;
        assert_eq!(lamp.puback().await.0, id);
    }
    let mut unanswered = Vec::new();
    for size in [1, 3] {
        let seen = message(&mut viewer).await;
        assert_eq!(seen.payload.len(), size, "the second is left out");
        unanswered.push(seen.pkid);
    }
    // The door answers, so it had its chance to send a third one.
    for _ in 0..20 {
        viewer.0.send(&PING).await;
        assert_eq!(viewer.packet().await, Some(Packet::PingResp(PingResp)));
    }
    for size in [4, 5, 6] {
        let [high, low] = unanswered.remove(0).to_be_bytes();
        viewer.0.send(&[0x40, 2, high, low]).await;
        let seen = message(&mut viewer).await;
        assert_eq!(seen.payload.len(), size);
        unanswered.push(seen.pkid);
    }
}

#[tokio::test]
async fn a_library_client_of_mqtt_5_gets_all_of_its_pubacks() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut options = MqttOptions::new("n1", "127.0.0.1", gateway.mqtt().port());
    options.set_credentials("n1", password("n1")).set_outgoing_inflight_upper_limit(100);
    let (client, mut events) = AsyncClient::new(options, 10);
    tokio::spawn(async move {
        for i in 0..1_000_u32 {
            let payload = i.to_be_bytes().to_vec();
            client.publish("tilth/v1/f/n1/data", QoS::AtLeastOnce, false, payload).await.unwrap();
        }
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
async fn mosquitto_speaks_mqtt_5_with_the_door() {
    let mut gateway = Gateway::open().await;
    gateway.store_everything();
    let mut sub = Mosquitto::subscribe_with(gateway.mqtt(), "viewer", "tilth/v1/f/#", &["-V", "mqttv5"]).await;
    let publish = |topic: &'static str, qos: &'static str| {
        let mut command = mosquitto("mosquitto_pub", gateway.mqtt(), "n1");
        command.args(["-V", "mqttv5", "-i", "n1", "-q", qos, "-t", topic, "-m", "x"]);
        command.args([
            "-D",
            "publish",
            "user-property",
            "unit",
            "kPa",
            "-D",
            "connect",
            "session-expiry-interval",
            "60",
        ]);
        async move { within("mosquitto_pub", command.output()).await.unwrap() }
    };
    for qos in ["0", "1"] {
        let sent = publish("tilth/v1/f/n1/data", qos).await;
        assert!(sent.status.success(), "{sent:?}");
        assert_eq!(sub.message().await, ("tilth/v1/f/n1/data".to_owned(), b"x".to_vec()));
    }
    let refused = publish("tilth/v1/f/n2/data", "1").await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Not authorized"), "{refused:?}");
    let shared = mosquitto("mosquitto_sub", gateway.mqtt(), "viewer").args(["-V", "5", "-t", "$share/g/x"]).output();
    let shared = within("mosquitto_sub", shared).await.unwrap();
    assert!(String::from_utf8_lossy(&shared.stderr).contains("denied"), "{shared:?}");
}
