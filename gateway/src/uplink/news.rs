//! Of which stations' untimely readings a status report tells: of a few at a time, so that the report stays small.

use std::collections::BTreeMap;

use proto::uplink::MAX_UNTIMELY;
use proto::{StationId, Untimely};

/// What the cloud has been told. A restart forgets it, and all is told again.
#[derive(Debug, Default)]
pub(super) struct Told {
    known: BTreeMap<StationId, Untimely>,
    /// The last station that it was told of: the next report goes on behind it, so that none waits for ever behind others
    /// of which there is news each time.
    last: Option<StationId>,
}

impl Told {
    /// Those of which it is news, at most [`MAX_UNTIMELY`].
    pub fn news(&self, all: &BTreeMap<StationId, Untimely>) -> BTreeMap<StationId, Untimely> {
        let is_behind = |station: &StationId| self.last.as_ref().is_none_or(|last| station > last);
        let behind = all.iter().filter(|(station, _)| is_behind(station));
        let before = all.iter().filter(|(station, _)| !is_behind(station));
        let is_news = |(station, counts): &(&StationId, &Untimely)| self.known.get(*station) != Some(*counts);
        let news = behind.chain(before).filter(is_news).take(MAX_UNTIMELY);
        news.map(|(station, counts)| (station.clone(), *counts)).collect()
    }

    /// The cloud has it.
    pub fn told(&mut self, news: BTreeMap<StationId, Untimely>) {
        // The turn may have come round to the stations up to the one that it began behind.
        let begun = self.last.take();
        let round = begun.as_ref().and_then(|begun| news.range(..=begun).next_back());
        self.last = round.or_else(|| news.last_key_value()).map(|(station, _)| station.clone()).or(begun);
        self.known.extend(news);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(late: u64, names: impl Iterator<Item = usize>) -> BTreeMap<StationId, Untimely> {
        names.map(|n| (format!("n{n:03}").parse().unwrap(), Untimely { late, ..Untimely::default() })).collect()
    }

    #[test]
    fn each_station_is_told_of_in_turn_and_once_however_often_others_change() {
        let mut told = Told::default();
        let mut all = counts(1, 0..50);
        let mut heard: BTreeMap<StationId, u32> = BTreeMap::new();
        for round in 2..12 {
            let news = told.news(&all);
            assert!(news.len() <= MAX_UNTIMELY);
            // What was not told, because the cloud was away, is told the next time.
            assert_eq!(told.news(&all), news);
            news.keys().for_each(|station| *heard.entry(station.clone()).or_default() += 1);
            told.told(news);
            // Of the first thirty there is news with each report.
            all.extend(counts(round, 0..30));
        }
        assert_eq!(heard.len(), 50);
        assert!(heard.values().skip(30).all(|times| *times == 1), "{heard:?}");
        assert!(heard.values().take(30).all(|times| (5..=7).contains(times)), "{heard:?}");
    }

    #[test]
    fn what_the_cloud_has_is_no_news() {
        let mut told = Told::default();
        let all = counts(3, 0..5);
        told.told(told.news(&all));
        assert_eq!(told.news(&all), BTreeMap::new());
        assert_eq!(told.news(&counts(4, 2..3)), counts(4, 2..3));
    }
}
