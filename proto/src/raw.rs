//! Raw readings on their way to the cloud.
//!
//! They go column-packed like the native payload. What the columns cannot hold to the last bit goes beside them, so that the
//! cloud has exactly what the gateway stored.

use crate::channel::{Channel, Reading};
use crate::decode::{self, DecodeError, at_most};
use crate::id::StationId;
use crate::native::{self, MAX_READINGS};
use crate::quantity::{from_integer, to_integer};
use crate::time::Timestamp;
use crate::wire;

/// Readings of one station as they were stored, before any filter.
#[derive(Debug, Clone, PartialEq)]
pub struct RawReadings {
    /// The station.
    pub station: StationId,
    /// By time, channel and value; at least one.
    pub readings: Vec<Reading>,
}

impl RawReadings {
    /// Readings in the order in which they are read again.
    #[must_use]
    pub fn new(station: StationId, mut readings: Vec<Reading>) -> Self {
        sort(&mut readings);
        Self { station, readings }
    }

    pub(crate) fn to_wire(&self) -> wire::Raw {
        let mut packed: Vec<Reading> = Vec::with_capacity(self.readings.len());
        let mut exact = Vec::new();
        for reading in &self.readings {
            let is_second =
                packed.last().is_some_and(|last| (last.time, last.channel) == (reading.time, reading.channel));
            if is_second || !fits(reading) { exact.push(to_exact(reading)) } else { packed.push(*reading) }
        }
        let data = native::pack(&packed).unwrap_or_else(|_| {
            // Too many channels, or times too far apart.
            exact.extend(packed.iter().map(to_exact));
            wire::Data::default()
        });
        wire::Raw { station: self.station.to_string(), readings: Some(data), exact }
    }

    pub(crate) fn from_wire(raw: wire::Raw) -> Result<Self, DecodeError> {
        let mut readings = native::unpack(&raw.readings.unwrap_or_default())?;
        at_most("readings", readings.len() + raw.exact.len(), MAX_READINGS)?;
        for exact in raw.exact {
            readings.push(Reading {
                channel: Channel::from_code(exact.channel)?,
                time: decode::time("time_ms", exact.time_ms)?,
                value: decode::finite("value", exact.value)?,
            });
        }
        if readings.is_empty() {
            return Err(DecodeError::Missing { field: "readings" });
        }
        Ok(Self::new(raw.station.parse().map_err(|e| DecodeError::value("station", e))?, readings))
    }
}

/// Whether a column gives the same bits back.
fn fits(reading: &Reading) -> bool {
    let decimals = reading.channel.quantity.wire_decimals();
    to_integer(reading.value, decimals)
        .is_some_and(|integer| from_integer(integer, decimals).to_bits() == reading.value.to_bits())
}

fn to_exact(reading: &Reading) -> wire::Exact {
    wire::Exact { channel: reading.channel.code(), time_ms: reading.time.as_millis(), value: reading.value }
}

fn sort(readings: &mut [Reading]) {
    let key = |reading: &Reading| -> (Timestamp, Channel) { (reading.time, reading.channel) };
    readings.sort_by(|a, b| key(a).cmp(&key(b)).then(a.value.total_cmp(&b.value)));
}
