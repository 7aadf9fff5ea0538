//! The native payloads between a station and its gateway.
//!
//! A [`Batch`] is column-packed: the sample times are written once as steps, and each channel's values as steps of
//! integers of `10^-decimals`. It says all that is needed to read it, so that a gateway that has forgotten a station's
//! birth can still store its readings.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::channel::{Channel, Reading};
use crate::decode::{self, DecodeError, at_most, message};
use crate::id::FieldId;
use crate::node_model::{NodeModelBack, NodeModelChunk, NodeModelOffer, NodeModelStatus};
use crate::quantity::{MAX_INTEGER, from_integer, to_integer};
use crate::time::Timestamp;
use crate::wire;

/// The most readings in one batch: a day of thirty channels at one minute.
pub const MAX_READINGS: usize = 43_200;
/// The most channels that a station has.
pub const MAX_CHANNELS: usize = 256;
/// The longest firmware name, in bytes.
pub const MAX_FIRMWARE: usize = 64;
/// The most decimals that a column's values may have.
pub const MAX_DECIMALS: u32 = 9;

/// What a station is; published on every connect.
#[derive(Debug, Clone, PartialEq)]
pub struct Birth {
    /// Counts the station's starts, from 1.
    pub boot: u32,
    /// Name and version of the firmware.
    pub firmware: String,
    /// Seconds between two samples.
    pub interval_s: u32,
    /// Seconds between two batches.
    pub report_s: u32,
    /// What it measures.
    pub channels: Vec<Channel>,
    /// The field that it stands in, when it knows.
    pub field: Option<FieldId>,
    /// Degrees north, when it knows.
    pub latitude: Option<f64>,
    /// Degrees east, when it knows.
    pub longitude: Option<f64>,
}

/// Readings, known by (station, boot, sequence).
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The start of the station that made it.
    pub boot: u32,
    /// Counts the batches of a boot, from 1.
    pub sequence: u64,
    /// The readings, by time and then by channel. A channel has at most one at a time.
    pub readings: Vec<Reading>,
}

/// The gateway's word that everything of `boot` up to `sequence` is on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The start of the station.
    pub boot: u32,
    /// The highest sequence on disk.
    pub sequence: u64,
}

/// What a gateway may ask of a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Publish the birth again.
    Birth,
    /// Set the clock.
    SetTime(Timestamp),
    /// Run the irrigation of the station's field.
    Irrigate {
        /// For how long.
        minutes: u32,
    },
    /// Take a model, and run it.
    OfferModel(NodeModelOffer),
    /// Keep a part of it.
    ModelChunk(NodeModelChunk),
    /// Go back from a model.
    ModelBack(NodeModelBack),
}

/// A command and the number that it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandMessage {
    /// Grows with each command of one kind to a station. The station remembers the last of each kind, irrigations also over
    /// its restarts, and carries out none that is not above it: so the gateway may send a command as often as it likes.
    /// Commands about models say by themselves what they are about, and do nothing a second time; their number means nothing.
    pub id: u64,
    /// What is asked.
    pub command: Command,
}

/// Whether a station is there. The offline one is its last will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// True after a connect, false in the will.
    pub online: bool,
    /// The start of the station.
    pub boot: u32,
    /// The id of the newest irrigation command that it has carried out; said on each connect, and after each.
    pub irrigated: Option<u64>,
    /// How it stands with its models; said on each connect, after each command about them, and when one is rolled back.
    pub model: Option<NodeModelStatus>,
}

/// Why a batch cannot be written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// The value is not finite, or too large for its quantity's decimals.
    #[error("{channel} at {time}: {value} cannot be sent")]
    Value {
        /// The reading's channel.
        channel: Channel,
        /// The reading's time.
        time: Timestamp,
        /// The reading's value.
        value: f64,
    },
    /// Two readings of one channel have the same time.
    #[error("{channel} at {time}: two readings")]
    Twice {
        /// The readings' channel.
        channel: Channel,
        /// The readings' time.
        time: Timestamp,
    },
    /// More than [`MAX_READINGS`], or more than [`MAX_CHANNELS`] channels, or times further apart than 49 days.
    #[error("the batch is too large or spans too long a time")]
    TooLarge,
}

impl Birth {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no birth, or a field holds what it may not.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::from_wire(message("birth", bytes)?)
    }

    pub(crate) fn to_wire(&self) -> wire::Birth {
        wire::Birth {
            boot: self.boot,
            firmware: self.firmware.clone(),
            interval_s: self.interval_s,
            report_s: self.report_s,
            channels: self.channels.iter().map(|c| c.code()).collect(),
            field: self.field.as_ref().map(ToString::to_string),
            latitude: self.latitude,
            longitude: self.longitude,
        }
    }

    pub(crate) fn from_wire(birth: wire::Birth) -> Result<Self, DecodeError> {
        at_most("channels", birth.channels.len(), MAX_CHANNELS)?;
        at_most("bytes of firmware", birth.firmware.len(), MAX_FIRMWARE)?;
        let degrees = |field, value: Option<f64>, most: f64| match value {
            Some(v) if !(-most..=most).contains(&v) => Err(DecodeError::value(field, v)),
            value => Ok(value),
        };
        let mut channels = birth.channels.into_iter().map(Channel::from_code).collect::<Result<Vec<_>, _>>()?;
        channels.sort_unstable();
        if let Some(twice) = channels.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(DecodeError::value("channels", format!("{} twice", twice[0])));
        }
        Ok(Self {
            boot: birth.boot,
            firmware: birth.firmware,
            interval_s: above_zero("interval_s", birth.interval_s)?,
            report_s: above_zero("report_s", birth.report_s)?,
            channels,
            field: birth.field.map(|f| f.parse().map_err(|e| DecodeError::value("field", e))).transpose()?,
            latitude: degrees("latitude", birth.latitude, 90.0)?,
            longitude: degrees("longitude", birth.longitude, 180.0)?,
        })
    }
}

fn above_zero(field: &'static str, value: u32) -> Result<u32, DecodeError> {
    if value == 0 { Err(DecodeError::value(field, value)) } else { Ok(value) }
}

impl Batch {
    /// The payload. Values go rounded to their quantity's [`wire_decimals`](crate::Quantity::wire_decimals), as
    /// [`Quantity::quantise`](crate::Quantity::quantise) does; times in whole milliseconds.
    ///
    /// # Errors
    /// When a value cannot be sent, a channel has two readings at a time, or the batch is too large.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let data = wire::Data { boot: self.boot, sequence: self.sequence, ..pack(&self.readings)? };
        Ok(data.encode_to_vec())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no batch, or a field holds what it may not.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let data: wire::Data = message("data", bytes)?;
        if data.sequence == 0 {
            return Err(DecodeError::value("sequence", 0));
        }
        let readings = unpack(&data)?;
        Ok(Self { boot: data.boot, sequence: data.sequence, readings })
    }
}

/// Readings by column: times once, and each channel's values as steps of integers. Boot and sequence are left at 0.
pub(crate) fn pack(readings: &[Reading]) -> Result<wire::Data, EncodeError> {
    if readings.len() > MAX_READINGS {
        return Err(EncodeError::TooLarge);
    }
    let mut times: Vec<Timestamp> = readings.iter().map(|r| r.time).collect();
    times.sort_unstable();
    times.dedup();
    let base = times.first().copied().unwrap_or_default();
    let mut before = base;
    let mut steps_ms = Vec::with_capacity(times.len());
    for time in &times {
        steps_ms.push(u32::try_from(time.millis_since(before)).map_err(|_| EncodeError::TooLarge)?);
        before = *time;
    }

    let mut by_channel: BTreeMap<Channel, Vec<&Reading>> = BTreeMap::new();
    for reading in readings {
        by_channel.entry(reading.channel).or_default().push(reading);
    }
    if by_channel.len() > MAX_CHANNELS {
        return Err(EncodeError::TooLarge);
    }
    let mut columns = Vec::with_capacity(by_channel.len());
    for (channel, mut readings) in by_channel {
        readings.sort_by_key(|r| r.time);
        let decimals = channel.quantity.wire_decimals();
        let mut values = Vec::with_capacity(readings.len());
        let mut samples = Vec::with_capacity(readings.len());
        let (mut value_before, mut next_sample) = (0, 0);
        for reading in readings {
            let &Reading { time, value, .. } = reading;
            let integer = to_integer(value, decimals).ok_or(EncodeError::Value { channel, time, value })?;
            values.push(integer - value_before);
            value_before = integer;
            let sample = times.binary_search(&time).unwrap_or(0) + 1;
            let step =
                sample.checked_sub(next_sample).filter(|s| *s > 0).ok_or(EncodeError::Twice { channel, time })?;
            samples.push(step as u32);
            next_sample = sample;
        }
        if samples.len() == times.len() {
            samples.clear();
        }
        columns.push(wire::Column { channel: channel.code(), decimals: u32::from(decimals), values, samples });
    }
    Ok(wire::Data { boot: 0, sequence: 0, base_time_ms: base.as_millis(), steps_ms, columns })
}

/// The readings of columns, by time and then by channel.
pub(crate) fn unpack(data: &wire::Data) -> Result<Vec<Reading>, DecodeError> {
    at_most("channels", data.columns.len(), MAX_CHANNELS)?;
    at_most("samples", data.steps_ms.len(), MAX_READINGS)?;
    at_most("readings", data.columns.iter().map(|c| c.values.len()).sum(), MAX_READINGS)?;

    let mut time_ms = data.base_time_ms;
    let mut times = Vec::with_capacity(data.steps_ms.len());
    for (sample, step) in data.steps_ms.iter().enumerate() {
        if sample > 0 && *step == 0 {
            return Err(DecodeError::value("steps_ms", 0));
        }
        time_ms = time_ms.checked_add(i64::from(*step)).ok_or_else(|| DecodeError::value("steps_ms", step))?;
        times.push(decode::time("steps_ms", time_ms)?);
    }

    let mut readings = Vec::with_capacity(data.columns.iter().map(|c| c.values.len()).sum());
    let mut seen = Vec::with_capacity(data.columns.len());
    for column in &data.columns {
        let channel = Channel::from_code(column.channel)?;
        seen.push(channel);
        read_column(channel, column, &times, &mut readings)?;
    }
    seen.sort_unstable();
    if let Some(twice) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(DecodeError::value("columns", format!("{} twice", twice[0])));
    }
    readings.sort_by_key(|r| (r.time, r.channel));
    Ok(readings)
}

fn read_column(
    channel: Channel,
    column: &wire::Column,
    times: &[Timestamp],
    readings: &mut Vec<Reading>,
) -> Result<(), DecodeError> {
    if column.decimals > MAX_DECIMALS {
        return Err(DecodeError::value("decimals", column.decimals));
    }
    let expected = if column.samples.is_empty() { times.len() } else { column.samples.len() };
    if column.values.len() != expected {
        return Err(DecodeError::value("values", format!("{} values for {expected} samples", column.values.len())));
    }
    let (mut integer, mut next_sample) = (0_i64, 0_usize);
    for (n, step) in column.values.iter().enumerate() {
        integer = integer
            .checked_add(*step)
            .filter(|i| i.checked_abs().is_some_and(|abs| abs <= MAX_INTEGER))
            .ok_or_else(|| DecodeError::value("values", step))?;
        let by = column.samples.get(n).map_or(1, |s| *s as usize);
        next_sample += by;
        let time = (by > 0).then(|| times.get(next_sample - 1)).flatten();
        let time = *time.ok_or_else(|| DecodeError::value("samples", next_sample))?;
        readings.push(Reading { channel, time, value: from_integer(integer, column.decimals as u8) });
    }
    Ok(())
}

impl Ack {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::Ack { boot: self.boot, sequence: self.sequence }.encode_to_vec()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no acknowledgement.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let ack: wire::Ack = message("ack", bytes)?;
        Ok(Self { boot: ack.boot, sequence: ack.sequence })
    }
}

impl CommandMessage {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let command = match &self.command {
            Command::Birth => wire::command::Command::Birth(true),
            Command::SetTime(time) => wire::command::Command::SetTimeMs(time.as_millis()),
            Command::Irrigate { minutes } => wire::command::Command::IrrigateMinutes(*minutes),
            Command::OfferModel(offer) => wire::command::Command::NodeModel(offer.to_wire()),
            Command::ModelChunk(chunk) => wire::command::Command::NodeModelChunk(chunk.to_wire()),
            Command::ModelBack(back) => wire::command::Command::NodeModelBack(back.to_wire()),
        };
        wire::Command { id: self.id, command: Some(command) }.encode_to_vec()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no command, or one that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message: wire::Command = message("command", bytes)?;
        let command = match message.command.ok_or(DecodeError::Missing { field: "command" })? {
            wire::command::Command::Birth(_) => Command::Birth,
            wire::command::Command::SetTimeMs(ms) => Command::SetTime(decode::time("set_time_ms", ms)?),
            wire::command::Command::IrrigateMinutes(minutes) => Command::Irrigate { minutes },
            wire::command::Command::NodeModel(offer) => Command::OfferModel(NodeModelOffer::from_wire(offer)?),
            wire::command::Command::NodeModelChunk(chunk) => Command::ModelChunk(NodeModelChunk::from_wire(chunk)?),
            wire::command::Command::NodeModelBack(back) => Command::ModelBack(NodeModelBack::from_wire(back)?),
        };
        Ok(Self { id: message.id, command })
    }
}

impl Status {
    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let node_model = self.model.as_ref().map(NodeModelStatus::to_wire);
        wire::Status { online: self.online, boot: self.boot, irrigated: self.irrigated, node_model }.encode_to_vec()
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no status, or a field holds what it may not.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let status: wire::Status = message("status", bytes)?;
        let model = status.node_model.map(NodeModelStatus::from_wire).transpose()?;
        Ok(Self { online: status.online, boot: status.boot, irrigated: status.irrigated, model })
    }
}
