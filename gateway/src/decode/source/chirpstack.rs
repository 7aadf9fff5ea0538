//! A source of ChirpStack v4's events.
//!
//! ```toml
//! [[source]]
//! kind = "chirpstack"
//! cayenne_ports = [2]                 # uplinks that ChirpStack has no codec for, and that hold Cayenne LPP
//! stations = { "a84041000181c061" = "north-1" }         # else `chirpstack-` and the device's EUI
//! channels = [
//!   { name = "TempC_DS", of = "LSN50*", channel = "soil_temperature_20cm" },    # of: EUI, name or profile of the device
//!   { name = "temperatureSensor/1", channel = "air_temperature_200cm" },
//!   { name = "Bat_status", ignore = true },
//! ]
//! ```

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::values::{Gathered, Value, Values};
use super::{Common, Decoded, Decoder, SourceError, filter};
use crate::decode::chirpstack::{Event, EventKind, read};

/// A `[[source]]` of the kind `chirpstack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChirpstackConfig {
    /// The topics, as MQTT filters; the last level is the event.
    pub topics: Vec<String>,
    /// The ports on which uplinks hold Cayenne LPP, where ChirpStack has no codec for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cayenne_ports: Vec<u8>,
    /// By what a device's station is called.
    pub station: StationName,
}

/// What names a device's station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StationName {
    /// Its EUI, which never changes.
    #[default]
    DevEui,
    /// The name that people gave it in ChirpStack. Another name makes another station.
    DeviceName,
}

impl Default for ChirpstackConfig {
    fn default() -> Self {
        Self {
            topics: vec!["application/+/device/+/event/+".to_owned()],
            cayenne_ports: Vec::new(),
            station: StationName::default(),
        }
    }
}

impl ChirpstackConfig {
    /// What is wrong with its values: key, value, and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, String)> {
        let mut wrong = Vec::new();
        if self.topics.is_empty() {
            wrong.push(("topics", "[]".to_owned(), "at least one MQTT filter".to_owned()));
        }
        for topic in self.topics.iter().filter(|topic| !filter::is_filter(topic)) {
            wrong.push(("topics", format!("{topic:?}"), filter::EXPECTED.to_owned()));
        }
        for port in self.cayenne_ports.iter().filter(|port| !(1..=223).contains(*port)) {
            let expected = "a port for applications: 1 to 223 (LoRaWAN 1.0.4, 4.3.2)";
            wrong.push(("cayenne_ports", port.to_string(), expected.to_owned()));
        }
        wrong
    }
}

/// Its decoder.
#[derive(Debug)]
pub struct Events {
    common: Common,
    config: ChirpstackConfig,
    values: Values,
}

impl Events {
    /// One that knows no counter.
    #[must_use]
    pub fn new(common: &Common, config: &ChirpstackConfig) -> Self {
        Self { common: common.clone(), config: config.clone(), values: Values::new(common) }
    }
}

impl Decoder for Events {
    fn decode(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Result<Decoded, SourceError> {
        let event: Event = read(topic, payload, &self.config.cayenne_ports)
            .map_err(|error| SourceError::new(error.reason(), error.to_string()))?;
        let called = match self.config.station {
            StationName::DevEui => event.dev_eui.as_str(),
            StationName::DeviceName => event.device_name.as_str(),
        };
        if called.is_empty() {
            return Err(SourceError::new("device", format!("device {} has no deviceName", event.dev_eui)));
        }
        let station = self.common.station(&[called]);
        let mut gathered = Gathered::default();
        for (reason, why) in event.refused {
            gathered.decoded.refuse(reason, || format!("{station}: {why}"));
        }
        if let EventKind::Other(reason) = event.kind {
            *gathered.decoded.refused.entry(reason).or_default() += 1;
        }
        let of = [event.dev_eui.as_str(), event.device_name.as_str(), event.profile.as_str()];
        let time = event.time.unwrap_or(now);
        gathered.hear(&station);
        for item in &event.values {
            let value = Value { of: &of, name: &item.name, unit: item.unit, time, value: item.value };
            self.values.take(&mut gathered, &station, &value);
        }
        Ok(self.values.finish(gathered))
    }

    fn restore(&mut self, key: &str, body: &[u8]) {
        self.values.restore(key, body);
    }
}
