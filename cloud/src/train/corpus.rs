//! The windows to learn from.

use std::collections::BTreeMap;

use proto::{Channel, StationId, Stats, Timestamp, Window};

/// Windows of one length, by station.
#[derive(Debug, Clone)]
pub struct Corpus {
    window_s: u32,
    stations: BTreeMap<StationId, Track>,
}

/// One station's windows without gaps; what is missing is none.
#[derive(Debug, Clone)]
pub struct Track {
    first: Timestamp,
    windows: usize,
    channels: Vec<(Channel, Vec<Option<Stats>>)>,
}

/// Why windows are no corpus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorpusError {
    /// There are none.
    #[error("there are no windows to learn from")]
    Empty,
    /// They differ in length.
    #[error("station {station}: the window of {start} is {length_s} s long, others are {expected_s} s")]
    Length {
        /// Whose window.
        station: StationId,
        /// Its start.
        start: Timestamp,
        /// Its length.
        length_s: u32,
        /// The first one's length.
        expected_s: u32,
    },
    /// A station's windows span more than is taken at once.
    #[error("station {station}: its windows span more than {limit} windows")]
    TooLong {
        /// Which station.
        station: StationId,
        /// The most.
        limit: usize,
    },
}

/// Most windows of one station from its first to its last: ten years of quarter hours. A single window with a wrong date
/// would otherwise take all the memory.
const MAX_WINDOWS: usize = 400_000;

impl Corpus {
    /// The windows, in any order; of two revisions of one window the higher counts.
    ///
    /// # Errors
    /// When there are none, when they differ in length, or when a station's spread too far.
    pub fn new(windows: impl IntoIterator<Item = Window>) -> Result<Self, CorpusError> {
        let mut by_station: BTreeMap<StationId, BTreeMap<Timestamp, Window>> = BTreeMap::new();
        let mut expected: Option<u32> = None;
        for window in windows {
            let expected_s = *expected.get_or_insert(window.length_s);
            if window.length_s != expected_s {
                return Err(CorpusError::Length {
                    station: window.station,
                    start: window.start,
                    length_s: window.length_s,
                    expected_s,
                });
            }
            let station = by_station.entry(window.station.clone()).or_default();
            if station.get(&window.start).is_none_or(|known| known.revision < window.revision) {
                station.insert(window.start, window);
            }
        }
        let window_s = expected.filter(|length| *length > 0).ok_or(CorpusError::Empty)?;
        let mut stations = BTreeMap::new();
        for (station, windows) in by_station {
            stations.insert(station.clone(), Track::new(station, window_s, &windows)?);
        }
        Ok(Self { window_s, stations })
    }

    /// How long each window is, in seconds.
    #[must_use]
    pub const fn window_s(&self) -> u32 {
        self.window_s
    }

    /// The stations.
    pub fn stations(&self) -> impl Iterator<Item = &StationId> {
        self.stations.keys()
    }

    /// The stations of both. A station that both have is taken from `other`.
    ///
    /// # Errors
    /// When their windows differ in length.
    pub fn merge(mut self, other: Self) -> Result<Self, CorpusError> {
        match other.stations.first_key_value() {
            Some((station, track)) if other.window_s != self.window_s => Err(CorpusError::Length {
                station: station.clone(),
                start: track.first,
                length_s: other.window_s,
                expected_s: self.window_s,
            }),
            _ => {
                self.stations.extend(other.stations);
                Ok(self)
            }
        }
    }

    /// The corpus in two: the stations that `first` chooses, and the others.
    #[must_use]
    pub fn split(self, mut first: impl FnMut(&StationId) -> bool) -> (Self, Self) {
        let window_s = self.window_s;
        let (a, b) = self.stations.into_iter().partition(|(station, _)| first(station));
        (Self { window_s, stations: a }, Self { window_s, stations: b })
    }

    pub(super) fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.stations.values()
    }

    /// The channels that at least half of the stations have, in the channels' order.
    pub(super) fn common_channels(&self) -> Vec<Channel> {
        let mut counts: BTreeMap<Channel, usize> = BTreeMap::new();
        for (channel, _) in self.stations.values().flat_map(|t| &t.channels) {
            *counts.entry(*channel).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| 2 * count >= self.stations.len()).map(|(channel, _)| channel).collect()
    }
}

impl Track {
    fn new(station: StationId, window_s: u32, windows: &BTreeMap<Timestamp, Window>) -> Result<Self, CorpusError> {
        let length_ms = i64::from(window_s) * 1000;
        let first = windows.keys().next().copied().unwrap_or_default();
        let place = |start: Timestamp| (start.millis_since(first) / length_ms) as usize;
        let count = windows.keys().next_back().map_or(0, |last| place(*last) + 1);
        if count > MAX_WINDOWS {
            return Err(CorpusError::TooLong { station, limit: MAX_WINDOWS });
        }
        let mut channels: BTreeMap<Channel, Vec<Option<Stats>>> = BTreeMap::new();
        for (start, window) in windows {
            for aggregate in &window.aggregates {
                channels.entry(aggregate.channel).or_insert_with(|| vec![None; count])[place(*start)] =
                    aggregate.accepted;
            }
        }
        Ok(Self { first, windows: count, channels: channels.into_iter().collect() })
    }

    /// The channel's accepted readings of the window that starts at `start`.
    pub fn stats(&self, window_s: u32, start: Timestamp, channel: Channel) -> Option<Stats> {
        let offset_ms = start.millis_since(self.first);
        let length_ms = i64::from(window_s) * 1000;
        let place = usize::try_from(offset_ms).ok()? / length_ms as usize;
        let (_, windows) = self.channels.iter().find(|(c, _)| *c == channel)?;
        windows.get(place).copied().flatten()
    }

    /// The end of each window, oldest first.
    pub fn ends(&self, window_s: u32) -> impl Iterator<Item = Timestamp> {
        (1..=self.windows as i64).map(move |n| self.first.plus_millis(n * i64::from(window_s) * 1000))
    }
}
