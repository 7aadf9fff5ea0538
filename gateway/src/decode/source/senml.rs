//! A source of SenML packs.
//!
//! ```toml
//! [[source]]
//! kind = "senml"
//! topics = ["senml/{station}/up"]     # a capture names the station; without one the records' names do
//! channels = [
//!   { name = "temp", channel = "soil_temperature_20cm" },           # in the record's unit
//!   { name = "%RH", channel = "relative_humidity_200cm" },          # a record without a name of its own has its unit's
//!   { name = "rain#sum", channel = "rain", counter = true },        # the integral, where the record has one
//! ]
//! ```

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::values::{Gathered, Value, Values};
use super::{Common, Decoded, Decoder, SourceError};
use crate::decode::mapping::topic::TopicTemplate;
use crate::decode::senml::{self, Record};

/// What is appended to the name of a sum.
const SUM: &str = "#sum";

/// A `[[source]]` of the kind `senml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SenmlConfig {
    /// The topics: MQTT filters in which `{station}` stands for a whole level.
    pub topics: Vec<String>,
}

impl SenmlConfig {
    /// The topics as MQTT filters.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        self.templates().iter().map(TopicTemplate::filter).collect()
    }

    fn templates(&self) -> Vec<TopicTemplate> {
        self.topics.iter().filter_map(|topic| TopicTemplate::parse(topic).ok()).collect()
    }

    /// What is wrong with its values: key, value, and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, String)> {
        let mut wrong = Vec::new();
        if self.topics.is_empty() {
            wrong.push(("topics", "[]".to_owned(), "at least one topic, like \"senml/{station}/up\"".to_owned()));
        }
        for topic in &self.topics {
            match TopicTemplate::parse(topic) {
                Err(expected) => wrong.push(("topics", format!("{topic:?}"), expected)),
                Ok(template) if template.names().iter().any(|name| *name != "station") => {
                    wrong.push(("topics", format!("{topic:?}"), "a topic whose only capture is {station}".to_owned()));
                }
                Ok(_) => {}
            }
        }
        wrong
    }
}

/// Its decoder.
#[derive(Debug)]
pub struct Packs {
    common: Common,
    topics: Vec<TopicTemplate>,
    values: Values,
}

impl Packs {
    /// One that knows no counter.
    #[must_use]
    pub fn new(common: &Common, config: &SenmlConfig) -> Self {
        Self { common: common.clone(), topics: config.templates(), values: Values::new(common) }
    }

    fn record(&mut self, gathered: &mut Gathered, of_topic: Option<&str>, record: &Record) {
        let (of_name, measured) = senml::split(&record.name);
        let Some(called) = of_topic.or(of_name) else {
            let why = || format!("{:?} names no station, and the topic has no {{station}}", record.name);
            return gathered.decoded.refuse("station", why);
        };
        let station = self.common.station(&[called]);
        let unit = record.unit.as_deref();
        let name = if measured.is_empty() { unit.unwrap_or("value") } else { measured };
        let of = [called];
        let value = Value { of: &of, name, unit, time: record.time, value: 0.0 };
        gathered.hear(&station);
        // What is no number says something else about the station.
        if let Some(senml::Value::Number(number)) = record.value {
            self.values.take(gathered, &station, &Value { value: number, ..value });
        }
        if let Some(sum) = record.sum {
            let name = format!("{name}{SUM}");
            let unit = unit.map(|unit| format!("{unit}.s"));
            self.values.take(gathered, &station, &Value { name: &name, unit: unit.as_deref(), value: sum, ..value });
        }
    }
}

impl Decoder for Packs {
    fn decode(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Result<Decoded, SourceError> {
        let pack = senml::read(payload, now).map_err(|error| SourceError::new(error.reason(), error.to_string()))?;
        let captures = self.topics.iter().find_map(|template| template.captures(topic)).unwrap_or_default();
        let of_topic = captures.get("station").map(|station| (*station).to_owned());
        let mut gathered = Gathered::default();
        for (reason, why) in pack.refused {
            gathered.decoded.refuse(reason, || why);
        }
        for record in &pack.records {
            self.record(&mut gathered, of_topic.as_deref(), record);
        }
        Ok(self.values.finish(gathered))
    }

    fn restore(&mut self, key: &str, body: &[u8]) {
        self.values.restore(key, body);
    }
}
