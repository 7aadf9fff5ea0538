//! A source of any JSON, by a [mapping](crate::decode::mapping).

use proto::Timestamp;

use super::values::{Gathered, Value, Values};
use super::{Common, Decoded, Decoder, SourceError};
use crate::decode::mapping::{JsonConfig, MISSING, Mapping, Named};

impl JsonConfig {
    /// The topics as MQTT filters; none while the mapping is wrong.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        self.build().map(|mapping| vec![mapping.filter()]).unwrap_or_default()
    }

    /// What is wrong with its values: key, value, and what is expected.
    #[must_use]
    pub fn check(&self) -> Vec<(&'static str, String, String)> {
        self.build().err().unwrap_or_default()
    }
}

/// The decoder of a mapping; one that takes nothing while the mapping is wrong, which the configuration's check says.
#[must_use]
pub fn decoder(common: &Common, config: &JsonConfig) -> Box<dyn Decoder> {
    let mapping = config.build().ok();
    Box::new(Messages { common: common.clone(), mapping, values: Values::new(common) })
}

#[derive(Debug)]
struct Messages {
    common: Common,
    mapping: Option<Mapping>,
    values: Values,
}

impl Decoder for Messages {
    fn decode(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Result<Decoded, SourceError> {
        let mapping = self.mapping.as_ref().ok_or_else(|| SourceError::new("mapping", "the mapping is wrong"))?;
        let mapped =
            mapping.read(topic, payload).map_err(|error| SourceError::new(error.reason(), error.to_string()))?;
        let mut gathered = Gathered::default();
        for (reason, why) in mapped.refused {
            if reason == MISSING {
                // It says itself that there is none; that is nothing to tell people.
                *gathered.decoded.refused.entry(reason).or_default() += 1;
            } else {
                gathered.decoded.refuse(reason, || why);
            }
        }
        for Named { station: called, name, unit, time, value } in &mapped.values {
            let station = self.common.station(&[called]);
            let of = [called.as_str()];
            let time = time.unwrap_or(now);
            let value = Value { of: &of, name, unit: unit.as_deref(), time, value: *value };
            self.values.take(&mut gathered, &station, &value);
        }
        Ok(self.values.finish(gathered))
    }

    fn restore(&mut self, key: &str, body: &[u8]) {
        self.values.restore(key, body);
    }
}
