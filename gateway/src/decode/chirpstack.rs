//! ChirpStack v4's events in JSON, as its MQTT integration publishes them on
//! `application/{id}/device/{devEui}/event/{event}`. Pure.
//!
//! Of the events (ChirpStack's documentation, "Event types"), `up` brings readings and `status` a battery level; `join`,
//! `ack`, `txack`, `log`, `location` and `integration` bring none and are counted by their name.
//!
//! The values of an uplink are the numbers of `object`, which ChirpStack's codec made of the payload, named by their path
//! (`TempC_DS`, `temperatureSensor/1`). Where there is no `object` and the uplink came on a port for Cayenne LPP, they are
//! read of `data` [here](super::cayenne), by the same names. `rssi` is that of the gateway that heard the device best.
//!
//! An uplink is of its `time`: ChirpStack takes it from a gateway with a clock of its own, else from the server's. Only
//! where it is missing the earliest `gwTime` and then the earliest `nsTime` of `rxInfo` counts. An event that comes again has
//! the same time and so the same readings; ChirpStack itself lets no frame counter pass twice, so none is kept here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::Timestamp;
use serde::Deserialize;
use serde_json::Value as Json;

use super::cayenne;
use super::mapping::leaves;

/// The most values of one event.
pub const MAX_VALUES: usize = 1_024;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The device's EUI in small hexadecimal digits.
    pub dev_eui: String,
    /// What people call it.
    pub device_name: String,
    /// What people call its kind.
    pub profile: String,
    /// What it is of.
    pub time: Option<Timestamp>,
    /// What happened.
    pub kind: EventKind,
    /// Its values.
    pub values: Vec<Item>,
    /// What could not be taken, by a short word for counting, and why.
    pub refused: Vec<(&'static str, String)>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A device sent something.
    Up,
    /// A device said how its battery is.
    Status,
    /// Another event, by the reason that it is counted by.
    Other(&'static str),
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// What it is called.
    pub name: String,
    /// Its unit, where one is known.
    pub unit: Option<&'static str>,
    /// The value in that unit.
    pub value: f64,
}

/// Why an event cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChirpstackError {
    /// It is not ChirpStack 4's JSON; what the parser said.
    #[error("not an event of ChirpStack 4 in JSON: {0}")]
    Malformed(String),
    /// The event is none that is known.
    #[error("event {0:?} is none of ChirpStack 4's")]
    Event(String),
    /// The device is not said, or not as a EUI.
    #[error("deviceInfo.devEui {0:?} is not 16 hexadecimal digits")]
    Device(String),
    /// Topic and payload name two devices.
    #[error("the topic is of device {topic}, the event of {event}")]
    TwoDevices {
        /// The topic's.
        topic: String,
        /// The payload's.
        event: String,
    },
    /// There are too many values.
    #[error("more than {MAX_VALUES} values in object")]
    TooMany,
}

impl ChirpstackError {
    /// A short word for counting.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Event(_) => "event",
            Self::Device(_) | Self::TwoDevices { .. } => "device",
            Self::TooMany => "too_many",
        }
    }
}

/// What is read of an event; everything else is passed over. A field at its default is not there (Protocol Buffers' JSON
/// mapping), and a field that is null is not there either.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    device_info: Option<DeviceInfo>,
    time: Option<String>,
    f_port: Option<u32>,
    data: Option<String>,
    object: Option<Json>,
    rx_info: Option<Vec<RxInfo>>,
    battery_level: Option<f64>,
    battery_level_unavailable: Option<bool>,
    external_power_source: Option<bool>,
    margin: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeviceInfo {
    dev_eui: String,
    device_name: String,
    device_profile_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RxInfo {
    gw_time: Option<String>,
    ns_time: Option<String>,
    rssi: Option<f64>,
}

/// Reads what was published on `topic`. Uplinks without `object` on one of `cayenne_ports` hold Cayenne LPP.
///
/// # Errors
/// When it is no event of ChirpStack 4's, or says nothing of its device.
pub fn read(topic: &str, payload: &[u8], cayenne_ports: &[u8]) -> Result<Event, ChirpstackError> {
    let name = topic.rsplit('/').next().unwrap_or_default();
    let kind = kind(name).ok_or_else(|| ChirpstackError::Event(shown(name)))?;
    let wire: Wire = serde_json::from_slice(payload).map_err(|error| ChirpstackError::Malformed(error.to_string()))?;
    let device = wire.device_info.as_ref().map(|info| info.dev_eui.as_str()).unwrap_or_default();
    if device.len() != 16 || !device.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ChirpstackError::Device(shown(device)));
    }
    let dev_eui = device.to_ascii_lowercase();
    let levels: Vec<&str> = topic.split('/').collect();
    let of_topic = levels.windows(2).find(|pair| pair[0] == "device").map(|pair| pair[1]);
    if let Some(topic) = of_topic.filter(|topic| !topic.eq_ignore_ascii_case(&dev_eui)) {
        return Err(ChirpstackError::TwoDevices { topic: shown(topic), event: dev_eui });
    }
    let info = wire.device_info.as_ref();
    let mut event = Event {
        dev_eui,
        device_name: info.map(|info| shown(&info.device_name)).unwrap_or_default(),
        profile: info.map(|info| shown(&info.device_profile_name)).unwrap_or_default(),
        time: None,
        kind,
        values: Vec::new(),
        refused: Vec::new(),
    };
    event.time = event.time_of(&wire);
    match kind {
        EventKind::Up => event.uplink(&wire, cayenne_ports)?,
        EventKind::Status => event.status(&wire),
        EventKind::Other(_) => {}
    }
    Ok(event)
}

fn kind(name: &str) -> Option<EventKind> {
    Some(match name {
        "up" => EventKind::Up,
        "status" => EventKind::Status,
        "join" => EventKind::Other("event_join"),
        "ack" => EventKind::Other("event_ack"),
        "txack" => EventKind::Other("event_txack"),
        "log" => EventKind::Other("event_log"),
        "location" => EventKind::Other("event_location"),
        "integration" => EventKind::Other("event_integration"),
        _ => return None,
    })
}

impl Event {
    fn time_of(&mut self, wire: &Wire) -> Option<Timestamp> {
        let heard = wire.rx_info.as_deref().unwrap_or_default();
        let earliest =
            |of: fn(&RxInfo) -> Option<&String>| heard.iter().filter_map(of).filter_map(|time| time.parse().ok()).min();
        match wire.time.as_ref().map(|time| time.parse::<Timestamp>()) {
            Some(Ok(time)) => return Some(time),
            Some(Err(error)) => self.refused.push(("time", error.to_string())),
            None => {}
        }
        earliest(|rx| rx.gw_time.as_ref()).or_else(|| earliest(|rx| rx.ns_time.as_ref()))
    }

    fn uplink(&mut self, wire: &Wire, cayenne_ports: &[u8]) -> Result<(), ChirpstackError> {
        let heard = wire.rx_info.as_deref().unwrap_or_default();
        let best = heard.iter().filter_map(|rx| rx.rssi).filter(|rssi| rssi.is_finite()).max_by(f64::total_cmp);
        if let Some(value) = best {
            self.values.push(Item { name: "rssi".to_owned(), unit: Some("dBm"), value });
        }
        let data = wire.data.as_deref().unwrap_or_default();
        match wire.object.as_ref().filter(|object| !object.is_null()) {
            Some(object) => {
                for (pointer, leaf) in leaves(object, MAX_VALUES).ok_or(ChirpstackError::TooMany)? {
                    // A text or a switch says something else about the device.
                    let Some(value) = leaf.as_f64().filter(|value| value.is_finite()) else { continue };
                    let name = pointer.strip_prefix('/').unwrap_or(&pointer).to_owned();
                    self.values.push(Item { name, unit: None, value });
                }
            }
            None if data.is_empty() => {}
            None => self.payload(data, wire.f_port.unwrap_or(0), cayenne_ports),
        }
        Ok(())
    }

    /// The values of a payload that ChirpStack left as it was.
    fn payload(&mut self, data: &str, port: u32, cayenne_ports: &[u8]) {
        if !cayenne_ports.iter().any(|cayenne| u32::from(*cayenne) == port) {
            let why = format!(
                "fPort {port}: no object (the device's profile has no codec), and cayenne_ports has not {port}"
            );
            return self.refused.push(("no_object", why));
        }
        let bytes = match STANDARD.decode(data) {
            Ok(bytes) => bytes,
            Err(error) => return self.refused.push(("data", format!("data is not base64: {error}"))),
        };
        match cayenne::read(&bytes) {
            Ok(items) => {
                let item = |item: cayenne::Item| Item { name: item.name, unit: item.unit, value: item.value };
                self.values.extend(items.into_iter().map(item));
            }
            Err(error) => self.refused.push(("cayenne", format!("fPort {port}: {error}"))),
        }
    }

    /// A battery in per cent, and the link's margin in dB, are quantities that only the configuration can place.
    fn status(&mut self, wire: &Wire) {
        let unavailable = wire.battery_level_unavailable == Some(true) || wire.external_power_source == Some(true);
        let battery = wire.battery_level.filter(|_| !unavailable);
        for (name, unit, value) in [("batteryLevel", Some("%"), battery), ("margin", Some("dB"), wire.margin)] {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                self.values.push(Item { name: name.to_owned(), unit, value });
            }
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As in ChirpStack's documentation, with names of our own.
    fn event(rest: &str) -> String {
        format!(
            r#"{{"deduplicationId":"3ac7e3c4-4401-4b8d-9386-a5c902f9202d","time":"2022-07-18T09:34:15.775023242+00:00",
            "deviceInfo":{{"tenantId":"52f14cd4-c6f1-4fbd-8f87-4025e1d49242","tenantName":"ChirpStack",
            "applicationId":"17c82e96-be03-4f38-aef3-f83d48582d97","applicationName":"Farm",
            "deviceProfileId":"14855bf7-d10d-4aee-b618-ebfcb64dc7ad","deviceProfileName":"Soil probe",
            "deviceName":"Probe 7","devEui":"0101010101010101","tags":{{"key":"value"}}}},{rest}}}"#
        )
    }

    fn up(rest: &str) -> Event {
        let topic = "application/17c82e96-be03-4f38-aef3-f83d48582d97/device/0101010101010101/event/up";
        read(topic, event(rest).as_bytes(), &[1, 2]).unwrap()
    }

    fn values(event: &Event) -> Vec<(&str, f64)> {
        event.values.iter().map(|item| (item.name.as_str(), item.value)).collect()
    }

    const HEARD: &str = r#""devAddr":"00189440","dr":1,"fCnt":12,"fPort":1,"rxInfo":[
        {"gatewayId":"0016c001f153a14c","uplinkId":4217106255,"rssi":-96,"snr":10.5,"context":"E3OWOQ=="},
        {"gatewayId":"0016c001f153a14d","uplinkId":4217106256,"rssi":-36,"snr":-3,"context":"E3OWOQ=="}]"#;

    #[test]
    fn an_uplink_says_what_its_object_says() {
        let event = up(&format!(
            r#"{HEARD},"data":"zOE=","object":{{"BatV":3.297,"TempC_DS":22.93,"Node_type":"LHT65N","ok":true,
            "soil":{{"vwc":[23.1,24]}},"none":null}}"#
        ));
        assert_eq!((event.dev_eui.as_str(), event.device_name.as_str()), ("0101010101010101", "Probe 7"));
        assert_eq!(event.profile, "Soil probe");
        assert_eq!(event.time, Some("2022-07-18T09:34:15.775Z".parse().unwrap()));
        let mut found = values(&event);
        found.sort_by_key(|value| value.0);
        let expected =
            [("BatV", 3.297), ("TempC_DS", 22.93), ("rssi", -36.0), ("soil/vwc/0", 23.1), ("soil/vwc/1", 24.0)];
        assert_eq!(found, expected);
        assert!(event.refused.is_empty());
    }

    #[test]
    fn cayenne_is_read_where_there_is_no_object_and_the_port_is_its() {
        // 03 67 01 10 05 67 00 FF
        let event = up(&format!(r#"{HEARD},"data":"A2cBEAVnAP8=""#));
        let expected = [("rssi", -36.0), ("temperatureSensor/3", 27.2), ("temperatureSensor/5", 25.5)];
        assert_eq!(values(&event), expected);
        assert_eq!(event.values[1].unit, Some("Cel"));
        for (rest, said) in [
            (r#""fPort":9,"data":"A2cBEA==""#, ("no_object", "fPort 9: no object")),
            (r#""data":"A2cBEA==""#, ("no_object", "fPort 0: no object")),
            (r#""fPort":2,"data":"*""#, ("data", "data is not base64")),
            (r#""fPort":2,"data":"A2cB""#, ("cayenne", "fPort 2: byte 2: temperatureSensor needs 2 bytes")),
        ] {
            let event = up(rest);
            assert!(event.refused[0].0 == said.0 && event.refused[0].1.contains(said.1), "{:?}", event.refused);
            assert!(event.values.is_empty());
        }
        for rest in [r#""fPort":1,"object":{}"#, r#""fPort":1"#, r#""fPort":1,"data":"","object":null,"rxInfo":null"#] {
            let event = up(rest);
            assert!(event.values.is_empty() && event.refused.is_empty(), "{rest}: {event:?}");
        }
    }

    #[test]
    fn the_time_is_the_events_then_a_gateways_then_the_servers() {
        let time = |rest: &str| {
            let whole = event(rest).replacen("\"time\":\"2022-07-18T09:34:15.775023242+00:00\",", "", 1);
            read("device/0101010101010101/event/up", whole.as_bytes(), &[]).unwrap().time.map(|time| time.to_string())
        };
        let both = r#""rxInfo":[{"nsTime":"2026-06-01T07:00:01Z"},{"gwTime":"2026-06-01T07:00:03Z"},{"gwTime":"2026-06-01T07:00:02Z"}]"#;
        assert_eq!(time(both).as_deref(), Some("2026-06-01T07:00:02Z"));
        let server = r#""rxInfo":[{"nsTime":"2026-06-01T07:00:01Z","gwTime":"yesterday"}]"#;
        assert_eq!(time(server).as_deref(), Some("2026-06-01T07:00:01Z"));
        assert_eq!(time("\"fCnt\":1"), None);
    }

    #[test]
    fn a_status_says_its_battery_and_other_events_are_counted() {
        let topic = |name: &str| format!("application/x/device/0101010101010101/event/{name}");
        let read = |name: &str, rest: &str| read(&topic(name), event(rest).as_bytes(), &[]).unwrap();
        assert_eq!(
            values(&read("status", r#""margin":10,"batteryLevel":88.3"#)),
            [("batteryLevel", 88.3), ("margin", 10.0)]
        );
        let mains = read("status", r#""margin":10,"externalPowerSource":true,"batteryLevel":0"#);
        assert_eq!(values(&mains), [("margin", 10.0)]);
        for (name, rest) in [
            ("join", r#""devAddr":"00189440""#),
            ("ack", r#""queueItemId":"1bbcab1d-6ec6-4136-b3f5-d63be1dc08de","acknowledged":true,"fCntDown":3"#),
            ("txack", r#""downlinkId":3461958127,"gatewayId":"0016c001f153a14c","txInfo":{"frequency":867900000}"#),
            ("log", r#""level":"ERROR","code":"UPLINK_MIC","description":"MIC","context":{"deduplication_id":"4e"}"#),
            ("location", r#""location":{"latitude":37.344214,"longitude":-8.839375,"altitude":2}"#),
            ("integration", r#""integrationName":"loracloud","eventType":"modem_UplinkResponse","object":{"temp":1}"#),
        ] {
            let event = read(name, rest);
            assert!(matches!(event.kind, EventKind::Other(reason) if reason == format!("event_{name}")), "{event:?}");
            assert!(event.values.is_empty());
        }
    }

    #[test]
    fn what_is_no_event_says_why() {
        let topic = "application/x/device/0101010101010101/event/up";
        for (topic, payload, said) in [
            (topic, "{".to_owned(), "not an event of ChirpStack 4 in JSON: EOF"),
            (topic, r#"{"devEUI":"AgICAgICAgI="}"#.to_owned(), "deviceInfo.devEui \"\" is not 16"),
            (topic, event("\"fPort\":\"x\""), "invalid type: string \"x\", expected u32"),
            (
                "application/x/device/0202020202020202/event/up",
                event("\"fPort\":1"),
                "the topic is of device 0202020202020202",
            ),
            ("application/x/device/0101010101010101/event/down", event("\"fPort\":1"), "event \"down\" is none"),
        ] {
            let error = read(topic, payload.as_bytes(), &[]).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let many = event(&format!("\"object\":[{}0]", "0,".repeat(MAX_VALUES)));
        assert_eq!(read(topic, many.as_bytes(), &[]), Err(ChirpstackError::TooMany));
    }

    proptest! {
        #[test]
        fn hostile_events_never_panic(rest in r#"[\{\}\[\]":,0-9a-z]{0,60}"#, port in 0..300) {
            let topic = "application/x/device/0101010101010101/event/up";
            let _ = read(topic, event(&rest).as_bytes(), &[1]);
            let _ = read(topic, event(&format!("\"fPort\":{port},\"data\":\"{rest}\"")).as_bytes(), &[1]);
        }
    }
}
