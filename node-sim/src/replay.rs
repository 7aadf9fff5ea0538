//! Replay: measured data instead of simulated, from any CSV, through the same stations.
//!
//! ```toml
//! [replay]
//! on_error = "skip"                     # what cannot be read is left out and counted; "stop" does not begin
//! at_end = "stop"                       # or "loop"
//! # begin = "2026-06-01T07:00:00Z"      # farm time of the first row; unless given, its own
//!
//! [[replay.file]]
//! path = "hourly.csv"
//! station = "weather-1"                 # or station_column = "site", and perhaps stations = { "Site A" = "a1" }
//! time = "time_utc"
//! columns = [
//!   { name = "air_temperature_c", channel = "air_temperature_200cm" },
//!   { name = "rain_in", channel = "rain", unit = "in" },
//! ]
//! ```
//!
//! The rows of all files become samples of their stations, in order of time, at the pace of the configuration; [`ReplayFile`]
//! says what a file may be like; its text is UTF-8, or else ISO 8859-1. A gap in the data is a gap: nothing is made up. A replay is a pure function of its files,
//! so that a restart goes on at the very row. Everything is read before anything is played, so that what is wrong is known
//! at the start.

mod file;
mod lines;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use proto::native::MAX_READINGS;
use proto::{Channel, FieldId, Reading, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::{FarmConfig, Problem};
use crate::farm::Sample;
use crate::faults::injector::{Injector, Shown};
use crate::faults::{Fault, Known, RandomFaults, Scenario, StationFaults, read_scenario};
use crate::station::Measured;
use file::Rows;

/// Mistakes in data that are told one by one; the others are only counted.
const MOST_TOLD: usize = 20;
const DAY_MS: i64 = 86_400_000;

/// What to do about a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Leave out what cannot be read, a value or a row, tell it and count it.
    #[default]
    Skip,
    /// Do not begin.
    Stop,
}

/// What comes after the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// Everything is reported and acknowledged, and the program ends.
    #[default]
    Stop,
    /// The first row again, one usual interval later; after data of a day or more so many whole days after it was played
    /// before, so that a day's course goes on.
    Loop,
}

/// What is replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayConfig {
    /// What to do about rows that cannot be read.
    #[serde(default)]
    pub on_error: OnError,
    /// What comes after the last row.
    #[serde(default)]
    pub at_end: AtEnd,
    /// The farm time at which the first row is played, and all others as much later or earlier as it; unless given, rows are
    /// played at their own time.
    #[serde(default)]
    pub begin: Option<Timestamp>,
    /// The files.
    #[serde(rename = "file")]
    pub files: Vec<ReplayFile>,
}

/// A CSV file and what its columns mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayFile {
    /// Where it is.
    pub path: PathBuf,
    /// The station that measured it; either this or `station_column`.
    #[serde(default)]
    pub station: Option<StationId>,
    /// The column that names the station of a row.
    #[serde(default)]
    pub station_column: Option<String>,
    /// Stations by their name in that column. Without any, a name is taken as it is, in small letters with `-` for what no
    /// station's name may hold; with some, rows of others are left out.
    #[serde(default)]
    pub stations: BTreeMap<String, StationId>,
    /// The column of the time.
    pub time: String,
    /// How it is written: `rfc3339`, `unix_s`, `unix_ms`, or a format like `%Y-%m-%d %H:%M` (as C's strptime).
    #[serde(default = "time::rfc3339")]
    pub time_format: String,
    /// Where a time without an offset is from: `UTC`, `-08:00` or `America/Los_Angeles`.
    #[serde(default = "time::utc")]
    pub time_zone: String,
    /// What separates the fields, one character.
    #[serde(default = "file::comma")]
    pub delimiter: char,
    /// What separates a number's decimals: `.` or `,`.
    #[serde(default = "file::point")]
    pub decimal: char,
    /// The line with the columns' names, from 1.
    #[serde(default = "file::first")]
    pub header_line: u32,
    /// The first line with data; unless given, the one after the names.
    #[serde(default)]
    pub first_line: Option<u32>,
    /// Texts that stand for a missing measurement, beside nothing at all.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The columns that are played. Others are left aside.
    pub columns: Vec<Column>,
    /// The field in which the stations stand.
    #[serde(default)]
    pub field: Option<FieldId>,
    /// Degrees north of the station, where it is one.
    #[serde(default)]
    pub latitude: Option<f64>,
    /// Degrees east of it.
    #[serde(default)]
    pub longitude: Option<f64>,
}

/// A column and the channel that it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the file.
    pub name: String,
    /// The channel: a quantity with its depth or height, like `soil_moisture_20cm`.
    pub channel: Channel,
    /// Its unit in the file; unless given, the quantity's own. See [`proto::units`].
    #[serde(default)]
    pub unit: Option<String>,
    /// What a value is multiplied by, where `unit` does not say it.
    #[serde(default)]
    pub scale: Option<f64>,
    /// What is added then.
    #[serde(default)]
    pub offset: Option<f64>,
}

/// Something in a file that cannot be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The column, where it is one.
    pub column: Option<String>,
    /// What is there, and why it cannot be played.
    pub problem: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replay file {:?}, line {}", self.file, self.line)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// What was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Whole rows.
    pub rows: u64,
    /// Single values of rows that were played.
    pub values: u64,
    /// The first of both, in the order of files and lines.
    pub first: Vec<BadRow>,
}

impl Skipped {
    fn row(&mut self, bad: BadRow) {
        self.rows += 1;
        self.tell(bad);
    }

    fn value(&mut self, bad: BadRow) {
        self.values += 1;
        self.tell(bad);
    }

    fn tell(&mut self, bad: BadRow) {
        if self.first.len() < MOST_TOLD {
            self.first.push(bad);
        }
    }
}

/// A station whose data is replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// Its name.
    pub id: StationId,
    /// What it measures.
    pub channels: Vec<Channel>,
    /// Its usual time between two rows, s.
    pub interval_s: u32,
    /// Its field.
    pub field: Option<FieldId>,
    /// Degrees north and east.
    pub position: Option<(f64, f64)>,
}

/// Files as they are played.
#[derive(Debug, Clone)]
pub struct Replay {
    stations: Vec<Played>,
    rows: Rows,
    /// Whether the station reports after a row.
    reports: Vec<bool>,
    /// The number of a row among those of its station, and how many each station has.
    numbers: (Vec<u32>, Vec<u32>),
    scenario: Scenario,
    /// What bends the readings, at the beginning and at the moment.
    healthy: Injector,
    injector: Injector,
    shown: Vec<Shown>,
    skipped: Skipped,
    /// How much later than measured the first pass is played, ms.
    shift_ms: i64,
    /// How much later the next pass is, ms; none when there is no other.
    period_ms: Option<i64>,
    now: Timestamp,
    /// The pass and the row that come next.
    next: (i64, usize),
    readings: Vec<Measured>,
}

impl Replay {
    /// Reads the files; stations report, and probes fail, as the farm says.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, with the scenario or, when `on_error` says so, with the data.
    pub fn open(config: &ReplayConfig, farm: &FarmConfig) -> Result<Self, Vec<Problem>> {
        let report_s = farm.report_s;
        let mut problems = Vec::new();
        if config.files.is_empty() {
            problems.push(Problem::of("replay.file", "is missing; a replay has [[replay.file]] tables"));
        }
        let readers: Vec<file::Reader<'_>> = config
            .files
            .iter()
            .enumerate()
            .filter_map(|(at, file)| file::Reader::new(at, file, &mut problems))
            .collect();
        let (mut rows, mut skipped) = (Rows::default(), Skipped::default());
        for reader in readers {
            reader.read(&mut rows, &mut skipped, &mut problems);
        }
        rows.sort(&config.files, &mut skipped);
        if rows.is_empty() && problems.is_empty() {
            problems.push(Problem::of("replay.file", "there is no row that can be played"));
        }
        if config.on_error == OnError::Stop && skipped.rows + skipped.values > 0 {
            problems.extend(skipped.first.iter().map(|bad| Problem::of("", bad.to_string())));
            let more = (skipped.rows + skipped.values).saturating_sub(skipped.first.len() as u64);
            if more > 0 {
                problems.push(Problem::of("", format!("and {more} more rows and values that cannot be read")));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let stations = rows.stations(&config.files);
        let first = rows.time(0);
        let shift_ms = config.begin.map_or(0, |begin| begin.millis_since(first));
        let reports = rows.reports(report_s, shift_ms);
        let (station, readings) = rows.largest_report(&reports);
        if readings > MAX_READINGS {
            let problem = format!(
                "{report_s} is too long: a report of {} would have {readings} readings, and {MAX_READINGS} fit",
                stations[station].id
            );
            return Err(vec![Problem::of("farm.report_s", problem)]);
        }
        let begin = first.plus_millis(shift_ms);
        let scenario = scenario(farm, begin, &stations)?;
        let injector = injector(farm, begin, &stations, &scenario);
        let interval_ms = stations.iter().map(|station| i64::from(station.interval_s) * 1000).min().unwrap_or(1000);
        let span_ms = rows.time(rows.len() - 1).millis_since(first) + interval_ms;
        let period_ms = if span_ms < DAY_MS { span_ms } else { (span_ms + DAY_MS - 1) / DAY_MS * DAY_MS };
        Ok(Self {
            reports,
            now: begin.plus_millis(-1),
            numbers: rows.numbers(),
            healthy: injector.clone(),
            injector,
            scenario,
            shown: Vec::new(),
            period_ms: (config.at_end == AtEnd::Loop).then_some(period_ms),
            next: (0, 0),
            readings: Vec::new(),
            stations,
            rows,
            skipped,
            shift_ms,
        })
    }

    /// The stations, in the order of their names.
    #[must_use]
    pub fn stations(&self) -> &[Played] {
        &self.stations
    }

    /// What was left out.
    #[must_use]
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// The moment: before it begins, the last one before the first row.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When the next row is played; none when all are.
    #[must_use]
    pub fn next_sample(&self) -> Option<Timestamp> {
        let (pass, row) = self.next;
        (row < self.rows.len()).then(|| self.time(pass, row))
    }

    /// What goes wrong by scenario.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The stations' faults out of chance, from the beginning.
    pub fn random(&self) -> impl Iterator<Item = RandomFaults> + '_ {
        self.stations.iter().filter_map(|station| self.healthy.random(&station.id))
    }

    /// Puts it at a moment: what is played then is all after it. Where something goes wrong it is played up to there unseen, for a fault
    /// may remember what came before.
    pub fn restore(&mut self, now: Timestamp) {
        self.injector = self.healthy.clone();
        if !self.injector.is_empty() {
            self.next = (0, 0);
            self.now = self.time(0, 0).plus_millis(-1);
            self.advance(now, |_| {});
            self.now = now;
            return;
        }
        self.now = now;
        let begun = self.rows.time(0).plus_millis(self.shift_ms);
        let pass = self.period_ms.map_or(0, |period| now.millis_since(begun).div_euclid(period).max(0));
        let row = self.rows.first_after(now.plus_millis(-self.shift_ms - pass * self.period_ms.unwrap_or(0)));
        self.next = (pass, row);
        self.wrap();
    }

    /// Goes on to a moment (or stays, when it is past), and gives each sample until then, it included, in order of time.
    pub fn advance(&mut self, to: Timestamp, mut on_sample: impl FnMut(&Sample<'_>)) {
        while let Some(time) = self.next_sample().filter(|time| *time <= to) {
            let row = self.next.1;
            let station = self.rows.station(row);
            let number = self.next.0 * i64::from(self.numbers.1[station]) + i64::from(self.numbers.0[row]);
            self.shown.clear();
            let id = &self.stations[station].id;
            let outcome = self.injector.sample(id, number, time, self.rows.values(row), &mut self.shown);
            self.readings.clear();
            self.readings.extend(self.shown.iter().map(|shown| Measured {
                reading: Reading { channel: shown.channel, time, value: shown.channel.quantity.quantise(shown.value) },
                fault: shown.fault,
                truth: shown.fault.map(|_| shown.truth),
            }));
            on_sample(&Sample {
                station,
                id: &self.stations[station].id,
                time,
                reports: self.reports[row],
                restarted: outcome.restarted,
                watchdog_resets: outcome.watchdog_resets,
                reaches: !outcome.lost,
                path: None,
                readings: &self.readings,
            });
            self.next.1 += 1;
            self.wrap();
        }
        self.now = self.now.max(to);
    }

    /// Behind the last row comes the first one of the next pass.
    fn wrap(&mut self) {
        if self.next.1 == self.rows.len() && self.period_ms.is_some() {
            self.next = (self.next.0 + 1, 0);
        }
    }

    fn time(&self, pass: i64, row: usize) -> Timestamp {
        self.rows.time(row).plus_millis(self.shift_ms + pass * self.period_ms.unwrap_or(0))
    }
}

/// The farm's scenario, for the stations that are played.
fn scenario(farm: &FarmConfig, begin: Timestamp, stations: &[Played]) -> Result<Scenario, Vec<Problem>> {
    let Some(path) = &farm.scenario else { return Ok(Scenario::default()) };
    let ids: Vec<StationId> = stations.iter().map(|station| station.id.clone()).collect();
    let mut channels: Vec<Channel> = stations.iter().flat_map(|station| station.channels.clone()).collect();
    channels.sort_unstable();
    channels.dedup();
    // What was measured was watered when it was: nothing is irrigated.
    read_scenario(path, begin, &Known { stations: &ids, channels: &channels, fields: &[] })
}

/// What bends the readings: the scenario's faults, and those out of chance.
fn injector(farm: &FarmConfig, begin: Timestamp, stations: &[Played], scenario: &Scenario) -> Injector {
    let mut injector = Injector::default();
    for Played { id, channels, .. } in stations {
        let own: Vec<Fault> = scenario.faults.iter().filter(|fault| fault.station == *id).cloned().collect();
        let random = RandomFaults::new(&farm.faults, farm.seed, id, channels, begin, &own);
        let faults = StationFaults::new(own, random, farm.seed);
        if !faults.is_empty() {
            injector.insert(id.clone(), faults);
        }
    }
    injector
}

impl ReplayFile {
    fn position(&self) -> Option<(f64, f64)> {
        self.latitude.zip(self.longitude)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, text: &str) -> ReplayFile {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        let toml = format!(
            "path = {path:?}\nstation = \"a1\"\ntime = \"t\"\ncolumns = [\n\
             {{ name = \"air\", channel = \"air_temperature_200cm\", unit = \"degF\" }},\n\
             {{ name = \"vwc\", channel = \"soil_moisture_20cm\", unit = \"%\" }}]"
        );
        toml::from_str(&toml).unwrap()
    }

    fn config(files: Vec<ReplayFile>) -> ReplayConfig {
        ReplayConfig { on_error: OnError::Skip, at_end: AtEnd::Stop, begin: None, files }
    }

    fn farm() -> FarmConfig {
        FarmConfig::default()
    }

    fn played(replay: &mut Replay, to: &str) -> Vec<String> {
        let mut samples = Vec::new();
        replay.advance(to.parse().unwrap(), |sample| {
            let readings = sample.readings.iter().map(|m| format!("{}={}", m.reading.channel, m.reading.value));
            let end = if sample.reports { " |" } else { "" };
            samples.push(format!("{} {} {}{end}", sample.id, sample.time, readings.collect::<Vec<_>>().join(" ")));
        });
        samples
    }

    const THREE: &str =
        "t,air,vwc,other\n2026-01-01T00:00:00Z,32,10,x\n2026-01-01T00:10:00Z,,20,\n2026-01-01T01:00:00Z,212,30,\n";

    #[test]
    fn rows_are_played_once_in_order_with_their_gaps_and_converted() {
        let dir = tempfile::tempdir().unwrap();
        let other = ReplayFile {
            station: Some("b1".parse().unwrap()),
            ..file(dir.path(), "b.csv", "vwc,air,t\n5,-40,2026-01-01T00:05:00Z\n")
        };
        let mut replay = Replay::open(&config(vec![file(dir.path(), "a.csv", THREE), other]), &farm()).unwrap();
        assert_eq!(replay.stations().iter().map(|station| station.interval_s).collect::<Vec<_>>(), [3000, 3600]);
        let all = [
            "a1 2026-01-01T00:00:00Z air_temperature_200cm=0 soil_moisture_20cm=0.1 |",
            "b1 2026-01-01T00:05:00Z air_temperature_200cm=-40 soil_moisture_20cm=0.05 |",
            "a1 2026-01-01T00:10:00Z soil_moisture_20cm=0.2 |",
            "a1 2026-01-01T01:00:00Z air_temperature_200cm=100 soil_moisture_20cm=0.3 |",
        ];
        assert_eq!(played(&mut replay, "2026-01-01T00:10:00Z"), all[..3]);
        assert_eq!(replay.next_sample(), Some("2026-01-01T01:00:00Z".parse().unwrap()));
        assert_eq!(played(&mut replay, "2027-01-01T00:00:00Z"), all[3..]);
        assert_eq!(replay.next_sample(), None);
        // From any moment it goes on with what is after it.
        for (moment, rest) in [("2025-01-01T00:00:00Z", 0), ("2026-01-01T00:05:00Z", 2), ("2026-01-01T00:59:00Z", 3)] {
            replay.restore(moment.parse().unwrap());
            assert_eq!(played(&mut replay, "2027-01-01T00:00:00Z"), all[rest..]);
        }
    }

    #[test]
    fn a_loop_begins_again_after_an_interval_or_whole_days_and_resumes() {
        let dir = tempfile::tempdir().unwrap();
        let mut loops = ReplayConfig {
            at_end: AtEnd::Loop,
            begin: Some("2026-06-01T00:00:00Z".parse().unwrap()),
            ..config(vec![file(dir.path(), "a.csv", THREE)])
        };
        let times = |replay: &mut Replay, to: &str| {
            let samples = played(replay, to);
            samples.iter().map(|sample| sample.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut replay = Replay::open(&loops, &farm()).unwrap();
        // An hour of data, and 50 minutes as the usual interval.
        let expected = ["00:00", "00:10", "01:00", "01:50", "02:00", "02:50", "03:40"];
        let expected = expected.map(|time| format!("2026-06-01T{time}:00Z"));
        assert_eq!(times(&mut replay, "2026-06-01T03:40:00Z"), expected);
        let rest = times(&mut replay, "2026-06-01T09:00:00Z");
        replay.restore("2026-06-01T03:40:00Z".parse().unwrap());
        assert_eq!(times(&mut replay, "2026-06-01T09:00:00Z"), rest);

        let days = "t,air,vwc\n2026-01-01T06:00:00Z,32,10\n2026-01-02T06:00:00Z,32,10\n2026-01-03T03:00:00Z,32,10\n";
        loops.files = vec![file(dir.path(), "a.csv", days)];
        let mut replay = Replay::open(&loops, &farm()).unwrap();
        assert_eq!(times(&mut replay, "2026-06-04T00:00:00Z")[3], "2026-06-04T00:00:00Z");
    }

    #[test]
    fn what_cannot_be_read_is_named_counted_and_left_out_or_stops_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = "t,air,vwc\n2026-01-01T00:00:00Z,n/a,10\nsoon,32,10\n2026-01-01T00:20:00Z,32\n\
                    2026-01-01T00:30:00Z,inf,20\n2026-01-01T00:30:00Z,50,21\n";
        let mut told = config(vec![file(dir.path(), "a.csv", text)]);
        let mut replay = Replay::open(&told, &farm()).unwrap();
        assert_eq!((replay.skipped().rows, replay.skipped().values), (2, 3));
        assert_eq!(
            played(&mut replay, "2027-01-01T00:00:00Z"),
            [
                "a1 2026-01-01T00:00:00Z soil_moisture_20cm=0.1 |",
                "a1 2026-01-01T00:30:00Z soil_moisture_20cm=0.2 air_temperature_200cm=10 |"
            ]
        );
        told.on_error = OnError::Stop;
        let problems = Replay::open(&told, &farm()).unwrap_err();
        let expected = [
            "line 2, column air: \"n/a\" is not a number",
            "line 3, column t: time \"soon\" is not RFC 3339, like 2026-07-14T06:00:00Z",
            "line 4: has 2 fields, the line with the names has 3",
            "line 5, column air: \"inf\" is no value of air_temperature_200cm",
            "line 6, column vwc: soil_moisture_20cm of a1 has a value of 2026-01-01T00:30:00Z already, in line 5",
        ];
        let path = dir.path().join("a.csv");
        let expected = expected.map(|text| format!("replay file {path:?}, {text}"));
        assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        // Other ends of lines change nothing.
        std::fs::write(&path, text.replace('\n', "\r\n")).unwrap();
        assert_eq!(
            Replay::open(&told, &farm()).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>(),
            expected
        );
        told.files[0].missing = vec!["n/a".to_owned()];
        assert_eq!(Replay::open(&told, &farm()).unwrap_err().len(), 4);
    }

    #[test]
    fn a_quote_that_does_not_close_spoils_its_own_line_and_a_note_may_go_over_lines() {
        let dir = tempfile::tempdir().unwrap();
        let text = "t,air,vwc,note\n2026-01-01T00:00:00Z,32,10,\"two\nlines, \"\"quoted\"\"\"\n\
                    2026-01-01T00:10:00Z,\"50,10,\n2026-01-01T00:20:00Z,50,30,\"half\n\r\n2026-01-01T00:30:00Z,50,40,\n\
                    2026-01-01T00:40:00Z,50,\"4\n1\",\n2026-01-01T00:50:00Z,50,50,\"open";
        let told = config(vec![file(dir.path(), "a.csv", text)]);
        let mut replay = Replay::open(&told, &farm()).unwrap();
        let told: Vec<(u64, Option<&str>)> =
            replay.skipped().first.iter().map(|bad| (bad.line, bad.column.as_deref())).collect();
        assert_eq!(told, [(4, Some("air")), (5, Some("note")), (8, Some("vwc")), (9, None), (10, Some("note"))]);
        assert_eq!(replay.skipped().rows, 5);
        assert_eq!(replay.skipped().first[0].problem, "a quote opens here that does not close");
        let samples = played(&mut replay, "2027-01-01T00:00:00Z");
        assert_eq!(
            samples,
            [
                "a1 2026-01-01T00:00:00Z air_temperature_200cm=0 soil_moisture_20cm=0.1 |",
                "a1 2026-01-01T00:30:00Z air_temperature_200cm=10 soil_moisture_20cm=0.4 |"
            ]
        );
        // Nor does it among the names.
        std::fs::write(dir.path().join("a.csv"), "t,\"air,vwc\n2026-01-01T00:00:00Z,32,10\n").unwrap();
        let problems = Replay::open(&config(vec![file(dir.path(), "a.csv", "t,\"air,vwc\n")]), &farm()).unwrap_err();
        assert!(problems[0].problem.ends_with("line 1 has a quote that does not close"), "{problems:?}");
    }

    #[test]
    fn text_that_is_not_utf_8_is_read_as_iso_8859_1_and_named_where_it_is_no_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = file(dir.path(), "a.csv", "");
        (one.station, one.station_column) = (None, Some("Süd".to_owned()));
        one.columns[0].name = "Luft (°F)".to_owned();
        one.stations.insert("Wäldchen".to_owned(), "wood".parse().unwrap());
        let text = "Süd,t,Luft (°F),vwc,note\nWäldchen,2026-01-01T00:00:00Z,32,10,naß\nWäldchen,2026-01-01T00:10:00Z,32°,20,\n";
        let latin: Vec<u8> = text.chars().map(|sign| u8::try_from(u32::from(sign)).unwrap()).collect();
        std::fs::write(&one.path, latin).unwrap();
        let mut replay = Replay::open(&config(vec![one.clone()]), &farm()).unwrap();
        let bad = &replay.skipped().first[0];
        assert_eq!(
            (bad.line, bad.column.as_deref(), bad.problem.as_str()),
            (3, Some("Luft (°F)"), "\"32°\" is not a number")
        );
        assert_eq!((replay.skipped().rows, replay.skipped().values), (0, 1));
        assert_eq!(
            played(&mut replay, "2027-01-01T00:00:00Z"),
            [
                "wood 2026-01-01T00:00:00Z air_temperature_200cm=0 soil_moisture_20cm=0.1 |",
                "wood 2026-01-01T00:10:00Z soil_moisture_20cm=0.2 |"
            ]
        );
        let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(&one.path, wide).unwrap();
        let problems = Replay::open(&config(vec![one]), &farm()).unwrap_err();
        assert!(problems[0].problem.contains("is UTF-16 text"), "{problems:?}");
    }

    #[test]
    fn a_column_names_the_stations_and_lines_above_the_names_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "\"TOA5\";\"CR1000\"\nt;site;air;vwc\n;;degF;%\n1767225600;North Field;32,9;10\n1767225600;B;212;20,5\n";
        let mut one = ReplayFile {
            station: None,
            station_column: Some("site".to_owned()),
            time_format: "unix_s".to_owned(),
            delimiter: ';',
            decimal: ',',
            header_line: 2,
            first_line: Some(4),
            ..file(dir.path(), "a.csv", text)
        };
        let mut replay = Replay::open(&config(vec![one.clone()]), &farm()).unwrap();
        let all = [
            "b 2026-01-01T00:00:00Z air_temperature_200cm=100 soil_moisture_20cm=0.205 |",
            "north-field 2026-01-01T00:00:00Z air_temperature_200cm=0.5 soil_moisture_20cm=0.1 |",
        ];
        assert_eq!(played(&mut replay, "2027-01-01T00:00:00Z"), all);
        assert_eq!(replay.skipped(), &Skipped::default());
        one.stations.insert("B".to_owned(), "pump-1".parse().unwrap());
        let mut replay = Replay::open(&config(vec![one]), &farm()).unwrap();
        assert_eq!(played(&mut replay, "2027-01-01T00:00:00Z"), [all[0].replacen('b', "pump-1", 1)]);
    }

    #[test]
    fn probes_fail_as_the_scenario_says_and_as_they_would_have_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scenario.toml");
        let stuck = "[[fault]]\nstation = \"a1\"\nchannel = \"soil_moisture_20cm\"\nkind = \"stuck\"\nstart = \"5m\"\nend = \"2h\"\n";
        std::fs::write(&path, stuck).unwrap();
        let text = THREE.to_owned() + "2026-01-01T02:00:00Z,32,40,\n";
        let told = config(vec![file(dir.path(), "a.csv", &text)]);
        let faulty = FarmConfig { scenario: Some(path.clone()), ..farm() };
        let mut replay = Replay::open(&told, &faulty).unwrap();
        let moisture = |replay: &mut Replay, to: &str| {
            let samples = played(replay, to);
            samples.iter().map(|sample| sample.split("20cm=").nth(1).unwrap().replace(" |", "")).collect::<Vec<_>>()
        };
        assert_eq!(moisture(&mut replay, "2027-01-01T00:00:00Z"), ["0.1", "0.2", "0.2", "0.4"]);
        replay.restore("2026-01-01T00:30:00Z".parse().unwrap());
        assert_eq!(moisture(&mut replay, "2027-01-01T00:00:00Z"), ["0.2", "0.4"]);
        std::fs::write(&path, stuck.replace("a1", "z9").replace("20cm", "30cm")).unwrap();
        assert_eq!(Replay::open(&told, &faulty).unwrap_err().len(), 2);
        let valve = "[[irrigation]]\nfield = \"north\"\nstart = \"5m\"\nend = \"2h\"\nshare = 0.0\n";
        std::fs::write(&path, valve).unwrap();
        let mut in_a_field = told.clone();
        in_a_field.files[0].field = Some("north".parse().unwrap());
        let problems = Replay::open(&in_a_field, &faulty).unwrap_err();
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "irrigation"));
        assert!(problems[0].problem.starts_with("is of no use: a replay waters nothing"), "{problems:?}");
    }

    #[test]
    fn everything_that_is_wrong_with_the_configuration_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut wrong = file(dir.path(), "a.csv", THREE);
        (wrong.time_zone, wrong.time_format) = ("Mars".to_owned(), "%H".to_owned());
        wrong.columns[0].unit = Some("mm".to_owned());
        wrong.columns[1].scale = Some(2.0);
        wrong.station = None;
        let mut missing = file(dir.path(), "b.csv", "time,air\n");
        missing.columns.truncate(1);
        let gone = ReplayFile { path: dir.path().join("gone.csv"), ..missing.clone() };
        let problems = Replay::open(&config(vec![wrong, missing, gone]), &farm()).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        let of_first =
            ["time_zone", "station", "columns[0].unit", "columns[1]"].map(|key| format!("replay.file[0].{key}"));
        assert_eq!(keys[..4], of_first);
        assert_eq!(keys[4..], ["replay.file[1].time", "replay.file[2].path"]);
        assert!(problems[4].problem.contains("\"t\" is not a column of") && problems[4].problem.ends_with("time, air"));
        assert_eq!(Replay::open(&config(Vec::new()), &farm()).unwrap_err()[0].key, "replay.file");
        let all_day = Replay::open(&config(vec![file(dir.path(), "c.csv", "t,air,vwc\n")]), &farm()).unwrap_err();
        assert_eq!(all_day[0].problem, "there is no row that can be played");
    }
}
