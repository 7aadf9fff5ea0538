//! From named values to a source's readings: what ChirpStack, SenML and mapped JSON share.

use std::collections::{BTreeMap, BTreeSet};

use proto::native::{MAX_CHANNELS, MAX_FIRMWARE};
use proto::{Birth, Channel, Reading, StationId, Timestamp};

use super::channels::{Channels, Target};
use super::{Common, Decoded, Unknown};
use crate::decode::counter::{Counted, Counters};

/// The most unknown channels of one message that are told.
const UNKNOWN_MOST: usize = 64;
/// The most stations of one message; those after them are refused.
const STATIONS_MOST: usize = 1_000;

/// The most stations of a source that are described; what others measure is not said beforehand.
const DESCRIBED_MOST: usize = 10_000;
/// How the key of a station's birth begins.
const BIRTH_KEY: &str = "birth/";

/// A source's channels and counters.
#[derive(Debug)]
pub struct Values {
    common: Common,
    channels: Channels,
    counters: Counters,
    /// What each station was heard to measure.
    measured: BTreeMap<StationId, BTreeSet<Channel>>,
}

/// What a message holds, while it is read.
#[derive(Debug, Default)]
pub struct Gathered {
    /// All but the stations.
    pub decoded: Decoded,
    stations: BTreeMap<StationId, Vec<Reading>>,
}

/// One value of a station.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// What the source calls its station, and what the station is: what a rule's `of` is compared with.
    pub of: &'a [&'a str],
    /// What it is called.
    pub name: &'a str,
    /// Its unit, where one is told.
    pub unit: Option<&'a str>,
    /// When it was measured.
    pub time: Timestamp,
    /// The value, in that unit.
    pub value: f64,
}

impl Gathered {
    /// Notes that a station was heard; false when there are too many.
    pub fn hear(&mut self, station: &StationId) -> bool {
        let known = self.stations.contains_key(station);
        if !known && self.stations.len() >= STATIONS_MOST {
            self.decoded.refuse("too_many", || format!("{station}: more than {STATIONS_MOST} stations in one message"));
            return false;
        }
        if !known {
            self.stations.insert(station.clone(), Vec::new());
        }
        true
    }
}

impl Values {
    /// Those of a source.
    #[must_use]
    pub fn new(common: &Common) -> Self {
        Self {
            common: common.clone(),
            channels: Channels::new(&common.channels),
            counters: Counters::default(),
            measured: BTreeMap::new(),
        }
    }

    /// All that was gathered: readings by time and channel, none twice, and a birth of each station that was heard to
    /// measure more than before.
    #[must_use]
    pub fn finish(&mut self, gathered: Gathered) -> Decoded {
        let Gathered { mut decoded, stations } = gathered;
        for (station, mut readings) in stations {
            if readings.is_empty() {
                decoded.heard.push(station);
                continue;
            }
            readings.sort_by(|a, b| (a.time, a.channel).cmp(&(b.time, b.channel)).then(a.value.total_cmp(&b.value)));
            readings.dedup();
            if let Some(birth) = self.describe(&station, &readings) {
                decoded.state.push((format!("{BIRTH_KEY}{station}"), Some(birth.encode())));
                decoded.births.push((station.clone(), birth));
            }
            decoded.stations.push((station, readings));
        }
        decoded
    }

    /// What a station is, when its readings are of channels that it was not heard to measure before. Such stations do not
    /// say what they are: they measure what they were heard to, stand in the source's field and report as it says.
    fn describe(&mut self, station: &StationId, readings: &[Reading]) -> Option<Birth> {
        if !self.measured.contains_key(station) && self.measured.len() >= DESCRIBED_MOST {
            return None;
        }
        let measured = self.measured.entry(station.clone()).or_default();
        let before = measured.len();
        for reading in readings {
            if measured.len() < MAX_CHANNELS {
                measured.insert(reading.channel);
            }
        }
        (measured.len() > before).then(|| Birth {
            boot: 1,
            firmware: self.common.name.chars().take(MAX_FIRMWARE).collect(),
            interval_s: self.common.report_s(),
            report_s: self.common.report_s(),
            channels: measured.iter().copied().collect(),
            field: self.common.field.clone(),
            latitude: None,
            longitude: None,
        })
    }

    /// Adds a value to what a message holds: as a reading, as an unknown channel, or as nothing where it is to be ignored.
    pub fn take(&mut self, gathered: &mut Gathered, station: &StationId, value: &Value<'_>) {
        if !gathered.hear(station) {
            return;
        }
        let decoded = &mut gathered.decoded;
        let found = self.channels.find(value.of, value.name, value.unit);
        let (channel, conversion) = match found.target {
            Target::Channel(channel, conversion) => (channel, conversion),
            Target::Ignored => return,
            Target::Unknown(proposal) => return self.unknown(decoded, station, value, proposal),
        };
        let mut number = conversion.apply(value.value);
        let infinite = |number: f64| format!("{station} {}: {number} is no number", value.name);
        if !number.is_finite() {
            return decoded.refuse("value", || infinite(number));
        }
        if found.counter {
            let (counted, kept) = self.counters.take(station.as_str(), value.name, value.time, number);
            decoded.state.extend(kept);
            match counted {
                Counted::Since(count) if count.is_finite() => number = count,
                // From far below nothing to far above it.
                Counted::Since(count) => return decoded.refuse("value", || infinite(count)),
                Counted::Restarted => {
                    return decoded.refuse("counter_restarted", || format!("{station} {}: begins again", value.name));
                }
                // The first says nothing by itself, and what a late one would say the one after it has said.
                Counted::First | Counted::Late => return,
            }
        }
        let reading = Reading { channel, time: value.time, value: number };
        gathered.stations.entry(station.clone()).or_default().push(reading);
    }

    fn unknown(&self, decoded: &mut Decoded, station: &StationId, value: &Value<'_>, proposal: Option<Channel>) {
        let same = |unknown: &Unknown| unknown.station == *station && unknown.name == value.name;
        if let Some(known) = decoded.unknown.iter_mut().find(|unknown| same(unknown)) {
            known.value = value.value.to_string();
        } else if decoded.unknown.len() < UNKNOWN_MOST {
            decoded.unknown.push(Unknown {
                source: self.common.name.clone(),
                station: station.clone(),
                name: value.name.to_owned(),
                unit: value.unit.map(str::to_owned),
                value: value.value.to_string(),
                proposal,
            });
        }
    }

    /// Takes up a counter or a birth that was kept before a restart.
    pub fn restore(&mut self, key: &str, body: &[u8]) {
        let Some(station) = key.strip_prefix(BIRTH_KEY) else { return self.counters.restore(key, body) };
        let fits = self.measured.len() < DESCRIBED_MOST;
        if let (true, Ok(station), Ok(birth)) = (fits, station.parse(), Birth::decode(body)) {
            self.measured.insert(station, birth.channels.into_iter().collect());
        }
    }
}
