//! What the windows need of a station that fell silent, in one piece, so that its raw commits may go.
//!
//! Open windows are built again from raw commits. A station that went silent would hold its last ones for ever, and with
//! them everything that came after. So what is still needed of them is carried in one blob, exactly as it stands in
//! memory: when the station comes back, its windows go on as if nothing had been let go of.

use prost::Message;
use proto::{Channel, StationId, Timestamp};

use super::batches::Placing;
use super::belief::At;
use super::{Origin, Station, Windows};

/// zstd's level: a blob is written once in a silence.
const LEVEL: i32 = 3;
/// The largest blob once decompressed, bytes: far above a station's readings of some hours.
const MAX_BYTES: usize = 64 << 20;

/// What was kept of a station, and is none.
#[derive(Debug, thiserror::Error)]
#[error("what was kept of station {station}: {detail}")]
pub struct CarriedError {
    /// Whose.
    pub station: StationId,
    /// What is wrong.
    pub detail: String,
}

#[derive(Clone, PartialEq, Message)]
struct Carried {
    #[prost(sint64, optional, tag = "1")]
    watermark_ms: Option<i64>,
    #[prost(message, optional, tag = "2")]
    top: Option<At>,
    #[prost(message, repeated, tag = "3")]
    columns: Vec<Column>,
}

/// The readings of a channel in their order, a number of each.
#[derive(Clone, PartialEq, Message)]
struct Column {
    #[prost(uint32, tag = "1")]
    channel: u32,
    #[prost(sint64, repeated, tag = "2")]
    times_ms: Vec<i64>,
    #[prost(uint32, repeated, tag = "3")]
    boots: Vec<u32>,
    #[prost(uint64, repeated, tag = "4")]
    sequences: Vec<u64>,
    #[prost(uint32, repeated, tag = "5")]
    indexes: Vec<u32>,
    #[prost(double, repeated, tag = "6")]
    values: Vec<f64>,
}

impl Windows {
    /// What is needed of the stations that have been silent for as long as readings are kept, in one blob each; their raw
    /// commits are needed no more. It must be on disk before any of these go: give it to the same transaction that notes
    /// [`Windows::oldest_commit`], and to [`Windows::restore_carried`] after a restart, before the replay; with the station's new [`Windows::belief`]. A later
    /// blob of a station replaces an earlier one. `least_ms` as in [`Windows::close_idle`].
    /// At most `most` stations at a time.
    pub fn carry(&mut self, now: Timestamp, least_ms: i64, most: usize) -> Vec<(StationId, Vec<u8>)> {
        let mut carried = Vec::new();
        for (id, station) in &mut self.stations {
            let silence_ms = station.patience_ms(&self.shape, least_ms).max(self.keep_ms);
            let silent = station.grown.is_none_or(|grown| now.millis_since(grown) >= silence_ms);
            if carried.len() >= most {
                break;
            }
            if station.commits.is_empty() || !station.open.is_empty() || station.reached.is_some() || !silent {
                continue;
            }
            station.belief.settle(now);
            if let Ok(blob) = zstd::bulk::compress(&station.carried().encode_to_vec(), LEVEL) {
                station.commits.clear();
                station.begun = None;
                carried.push((id.clone(), blob));
            }
        }
        carried
    }

    /// Takes up what was carried of a station before the restart. After [`Windows::restore`], before the replay.
    ///
    /// # Errors
    /// When `blob` is damaged; nothing of it is taken up then.
    pub fn restore_carried(&mut self, id: &StationId, blob: &[u8]) -> Result<(), CarriedError> {
        let error = |detail: String| CarriedError { station: id.clone(), detail };
        let bytes = zstd::bulk::decompress(blob, MAX_BYTES).map_err(|e| error(e.to_string()))?;
        let carried = Carried::decode(bytes.as_slice()).map_err(|e| error(e.to_string()))?;
        let mut columns = Vec::with_capacity(carried.columns.len());
        for column in carried.columns {
            let channel = Channel::from_code(column.channel).map_err(|e| error(e.to_string()))?;
            columns.push((channel, column.entries().ok_or_else(|| error(format!("{channel} is not whole")))?));
        }
        let (shape, keep_ms) = (self.shape, self.keep_ms);
        let station = self.stations.entry(id.clone()).or_default();
        let from = station.reached.map(|reached| reached.plus_millis(-keep_ms));
        let all =
            columns.into_iter().flat_map(|(channel, entries)| entries.into_iter().map(move |entry| (channel, entry)));
        let mut kept: Vec<_> = all.filter(|(_, entry)| from.is_none_or(|from| entry.time >= from)).collect();
        station.place(&shape, &self.filters, id, &mut kept);
        // What is believed now is on disk too; only stores of before that was so do not have it.
        if station.needed_from.is_none() {
            station.belief.watermark = station.belief.watermark.max(carried.watermark_ms.map(Timestamp::from_millis));
            station.belief.top = carried.top.map(Into::into);
        }
        Ok(())
    }
}

impl Station {
    fn carried(&self) -> Carried {
        Carried {
            watermark_ms: self.belief.watermark.map(Timestamp::as_millis),
            top: self.belief.top.map(At::from),
            columns: self.rows.channels().iter().map(|(channel, _)| Column::of(*channel, self)).collect(),
        }
    }
}

impl Column {
    fn of(channel: Channel, Station { rows, batches, .. }: &Station) -> Self {
        let readings = || rows.readings(channel, 0..rows.len());
        let origins = || rows.origins(channel, batches);
        Self {
            channel: channel.code(),
            times_ms: readings().map(|(_, time, _)| time.as_millis()).collect(),
            boots: origins().map(|(origin, _)| origin.boot).collect(),
            sequences: origins().map(|(origin, _)| origin.sequence).collect(),
            indexes: origins().map(|(_, index)| u32::from(index)).collect(),
            values: readings().map(|(.., value)| value).collect(),
        }
    }

    /// None when the lists differ in length, or a place or a value is none.
    fn entries(&self) -> Option<Vec<Placing>> {
        let count = self.times_ms.len();
        if [self.boots.len(), self.sequences.len(), self.indexes.len(), self.values.len()] != [count; 4] {
            return None;
        }
        let placing = |at: usize| {
            Some(Placing {
                time: Timestamp::from_millis(self.times_ms[at]),
                origin: Origin { boot: self.boots[at], sequence: self.sequences[at] },
                index: u16::try_from(self.indexes[at]).ok()?,
                value: Some(self.values[at]).filter(|value| value.is_finite())?,
            })
        };
        (0..count).map(placing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WindowsConfig;
    use crate::validate::Limits;

    #[test]
    fn a_value_that_is_no_number_is_damage() {
        let blob = |value: f64| {
            let column = Column {
                channel: Channel::of(proto::Quantity::Rain).code(),
                times_ms: vec![1_780_297_200_000],
                boots: vec![1],
                sequences: vec![1],
                indexes: vec![0],
                values: vec![value],
            };
            let carried = Carried { columns: vec![column], ..Carried::default() };
            zstd::bulk::compress(&carried.encode_to_vec(), LEVEL).unwrap()
        };
        let restored = |value: f64| {
            let mut windows = Windows::new(WindowsConfig::default().shape(), Limits::of);
            windows.restore_carried(&"n1".parse().unwrap(), &blob(value)).map_err(|error| error.to_string())
        };
        assert_eq!(restored(1.5), Ok(()));
        assert_eq!(restored(f64::INFINITY), Err("what was kept of station n1: rain is not whole".to_owned()));
        assert!(restored(f64::NAN).is_err());
    }
}
