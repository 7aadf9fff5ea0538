//! Faults by scenario: what goes wrong with which probe, from when to when.
//!
//! A scenario is a TOML file of `[[fault]]` tables:
//!
//! ```toml
//! [[fault]]
//! station = "c3"
//! channel = "soil_moisture_20cm"
//! kind = "drift"                   # spike, stuck, drift or dropout
//! start = "2d 4h"                  # since the farm's start, or a time: "2026-06-03T04:00:00Z"
//! end = "4d"
//! rate = 0.002                     # drift: unit per hour; spike: probability of a reading, 0 to 0.5
//! # magnitude = 0.15               # spike: how far the outliers are off
//! ```
//!
//! The clocks of whole stations are wrong by `[[clock]]` tables: see [`crate::clock`].
//!
//! `rate` and `magnitude` may be left out; then they follow from what the quantity spans in a season. Everything that
//! is wrong in a file is reported at once.

use std::path::Path;

use proto::{Channel, StationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::clock::{ClockFault, Jump};
use crate::config::Problem;
use crate::sensor::Sensor;
use crate::station::CHANNELS;

/// The name of what is wrong with a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Single readings are far off.
    Spike,
    /// The value stays where it was.
    Stuck,
    /// The value runs away slowly.
    Drift,
    /// There are no readings.
    Dropout,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Spike, Self::Stuck, Self::Drift, Self::Dropout];

    /// Its name in scenarios and truth logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::Stuck => "stuck",
            Self::Drift => "drift",
            Self::Dropout => "dropout",
        }
    }
}

/// What a fault does to a reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {
    /// Each reading is off by `magnitude`, up or down, with this probability; never two in a row.
    Spike {
        /// In the quantity's unit.
        magnitude: f64,
        /// 0 to 0.5.
        probability: f64,
    },
    /// The first reading is repeated.
    Stuck,
    /// Each reading is off by the time since the fault's start times this.
    Drift {
        /// In the quantity's unit per hour.
        per_hour: f64,
    },
    /// No reading is made.
    Dropout,
}

/// A fault of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The station.
    pub station: StationId,
    /// The channel.
    pub channel: Channel,
    /// What it does.
    pub effect: Effect,
    /// The first moment of it.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
}

impl Fault {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        match self.effect {
            Effect::Spike { .. } => FaultKind::Spike,
            Effect::Stuck => FaultKind::Stuck,
            Effect::Drift { .. } => FaultKind::Drift,
            Effect::Dropout => FaultKind::Dropout,
        }
    }

    /// Whether it is there at a time.
    #[must_use]
    pub fn is_active(&self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }

    /// Its stream of chance.
    pub(crate) fn chance(&self, seed: u64) -> Chance {
        Chance::new(seed, &format!("fault/{}/{}/{}", self.station, self.channel, self.start.as_millis()))
    }
}

/// By how much a spike fault puts the sample with this number off: zero for most.
pub(crate) fn spike(chance: &mut Chance, sample: i64, magnitude: f64, probability: f64) -> f64 {
    let hits = |chance: &mut Chance, sample| chance.at(sample).uniform() < probability;
    if !hits(chance, sample) || hits(chance, sample - 1) {
        return 0.0;
    }
    let mut draw = chance.at(sample);
    draw.uniform();
    let sign = if draw.uniform() < 0.5 { -1.0 } else { 1.0 };
    sign * magnitude * (0.8 + 0.4 * draw.uniform())
}

/// What a scenario says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scenario {
    /// The faults of probes, in their order.
    pub faults: Vec<Fault>,
    /// The faults of clocks, in their order.
    pub clocks: Vec<ClockFault>,
}

/// The keys of a clock's fault.
const CLOCK_KEYS: [&str; 6] = ["station", "start", "end", "offset_s", "drift_ppm", "restart_1970"];
/// The keys of a fault.
const KEYS: [&str; 7] = ["station", "channel", "kind", "start", "end", "magnitude", "rate"];

/// Reads a scenario for a farm that starts at `start` and has these stations.
///
/// # Errors
/// Everything that is wrong in it.
pub fn read_scenario(path: &Path, start: Timestamp, stations: &[StationId]) -> Result<Scenario, Vec<Problem>> {
    let whole = |problem: String| vec![Problem::new(path, "", problem)];
    let text = std::fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error| vec![Problem::toml(path, &text, &error)])?;
    let mut problems = Vec::new();
    for key in table.keys().filter(|key| !["fault", "clock"].contains(&key.as_str())) {
        problems.push(Problem::new(path, key, "is not known; a scenario has [[fault]] and [[clock]] tables"));
    }
    let mut clocks = Vec::new();
    match table.get("clock") {
        None => {}
        Some(toml::Value::Array(tables)) => {
            for (index, value) in tables.iter().enumerate() {
                let reader = Reader { path, name: format!("clock {}", index + 1), problems: &mut problems };
                clocks.extend(value.as_table().and_then(|table| reader.clock(table, start, stations)));
            }
        }
        Some(_) => problems.push(Problem::new(path, "clock", "must be written as [[clock]] tables")),
    }
    let mut faults: Vec<Fault> = Vec::new();
    match table.get("fault") {
        None => {}
        Some(toml::Value::Array(tables)) => {
            for (index, value) in tables.iter().enumerate() {
                let reader = Reader { path, name: format!("fault {}", index + 1), problems: &mut problems };
                if let Some(fault) = value.as_table().and_then(|table| reader.fault(table, start, stations)) {
                    faults.push(fault);
                }
            }
        }
        Some(_) => problems.push(Problem::new(path, "fault", "must be written as [[fault]] tables")),
    }
    for (index, fault) in faults.iter().enumerate() {
        let same = |other: &&Fault| other.station == fault.station && other.channel == fault.channel;
        if let Some(other) =
            faults[..index].iter().filter(same).find(|other| other.start < fault.end && fault.start < other.end)
        {
            let problem = format!(
                "{} {} has a {} from {} to {} and a {} from {} to {}; one at a time is allowed",
                fault.station,
                fault.channel,
                other.kind().name(),
                other.start,
                other.end,
                fault.kind().name(),
                fault.start,
                fault.end
            );
            problems.push(Problem::new(path, "fault", problem));
        }
    }
    if problems.is_empty() { Ok(Scenario { faults, clocks }) } else { Err(problems) }
}

/// Reads one table and collects what is wrong in it.
struct Reader<'a> {
    path: &'a Path,
    name: String,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, key: &str, problem: impl Into<String>) {
        self.problems.push(Problem::new(self.path, &format!("{}, {key}", self.name), problem));
    }

    fn fault(mut self, table: &toml::Table, farm_start: Timestamp, stations: &[StationId]) -> Option<Fault> {
        for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.problem(key, format!("is not known; known are {}", KEYS.join(", ")));
        }
        let station = self.station(table, stations);
        let channel = self.text(table, "channel").and_then(|name| {
            let found = CHANNELS.into_iter().find(|channel| channel.to_string() == name);
            if found.is_none() {
                self.problem(
                    "channel",
                    format!("{name:?} is not one of {}", CHANNELS.map(|c| c.to_string()).join(", ")),
                );
            }
            found
        });
        let kind = self.text(table, "kind").and_then(|name| {
            let found = FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
            if found.is_none() {
                self.problem(
                    "kind",
                    format!("{name:?} is not one of {}", FaultKind::ALL.map(FaultKind::name).join(", ")),
                );
            }
            found
        });
        let (start, end) = self.span(table, farm_start);
        let magnitude = self.number(table, "magnitude");
        let rate = self.number(table, "rate");
        let (kind, channel) = (kind?, channel?);
        let span = Sensor::of(channel.quantity).span;
        let given = |value: &Option<Option<f64>>| value.is_some();
        if given(&magnitude) && kind != FaultKind::Spike {
            self.problem("magnitude", format!("belongs to spike, not to {}", kind.name()));
        }
        if given(&rate) && !matches!(kind, FaultKind::Spike | FaultKind::Drift) {
            self.problem("rate", format!("belongs to spike and drift, not to {}", kind.name()));
        }
        let effect = match kind {
            FaultKind::Stuck => Effect::Stuck,
            FaultKind::Dropout => Effect::Dropout,
            FaultKind::Drift => Effect::Drift { per_hour: rate.flatten().unwrap_or(0.008 * span) },
            FaultKind::Spike => {
                let magnitude = magnitude.flatten().unwrap_or(0.6 * span);
                let probability = rate.flatten().unwrap_or(0.05);
                if !(0.0..=0.5).contains(&probability) {
                    self.problem("rate", format!("{probability} is not a probability of 0 to 0.5"));
                }
                Effect::Spike { magnitude, probability }
            }
        };
        Some(Fault { station: station?, channel, effect, start: start?, end: end? })
    }

    fn clock(mut self, table: &toml::Table, farm_start: Timestamp, stations: &[StationId]) -> Option<ClockFault> {
        for key in table.keys().filter(|key| !CLOCK_KEYS.contains(&key.as_str())) {
            self.problem(key, format!("is not known; known are {}", CLOCK_KEYS.join(", ")));
        }
        let station = self.station(table, stations);
        let (start, end) = self.span(table, farm_start);
        let offset_s = self.number(table, "offset_s");
        let drift_ppm = self.number(table, "drift_ppm").flatten().unwrap_or(0.0);
        let restart = match table.get("restart_1970") {
            None => false,
            Some(toml::Value::Boolean(restart)) => *restart,
            Some(other) => {
                self.problem("restart_1970", format!("{other} is not true or false"));
                false
            }
        };
        if restart && offset_s.is_some() {
            self.problem("offset_s", "is of no use beside restart_1970");
        }
        if drift_ppm.abs() >= 1e6 {
            self.problem("drift_ppm", format!("{drift_ppm} is not between -1000000 and 1000000"));
        }
        let ahead_ms = offset_s.flatten().unwrap_or(0.0) * 1000.0;
        let jump = if restart { Jump::Restart } else { Jump::Ahead(ahead_ms.round() as i64) };
        Some(ClockFault { station: station?, start: start?, end: end?, jump, drift_ppm })
    }

    fn station(&mut self, table: &toml::Table, stations: &[StationId]) -> Option<StationId> {
        let name = self.text(table, "station")?;
        let found = stations.iter().find(|station| station.as_str() == name).cloned();
        if found.is_none() {
            self.problem("station", format!("{name:?} is not one of {}", list(stations)));
        }
        found
    }

    fn span(&mut self, table: &toml::Table, farm_start: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let start = self.time(table, "start", farm_start);
        let end = self.time(table, "end", farm_start);
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            self.problem("end", format!("{end} is not after the start, {start}"));
        }
        (start, end)
    }

    fn text<'t>(&mut self, table: &'t toml::Table, key: &str) -> Option<&'t str> {
        match table.get(key) {
            Some(toml::Value::String(text)) => Some(text),
            Some(other) => {
                self.problem(key, format!("{other} is not a text"));
                None
            }
            None => {
                self.problem(key, "is missing");
                None
            }
        }
    }

    /// None when it is not there, some none when it is wrong.
    fn number(&mut self, table: &toml::Table, key: &str) -> Option<Option<f64>> {
        let number = match table.get(key)? {
            toml::Value::Float(number) if number.is_finite() => Some(*number),
            toml::Value::Integer(number) => Some(*number as f64),
            other => {
                self.problem(key, format!("{other} is not a number"));
                None
            }
        };
        Some(number)
    }

    fn time(&mut self, table: &toml::Table, key: &str, farm_start: Timestamp) -> Option<Timestamp> {
        let text = match table.get(key) {
            Some(toml::Value::Datetime(time)) => time.to_string(),
            _ => self.text(table, key)?.to_owned(),
        };
        let offset = || {
            let span: jiff::Span = text.parse().ok()?;
            let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
            (!duration.is_negative()).then(|| i64::try_from(duration.as_millis()).ok())?
        };
        let time = text.parse().ok().or_else(|| offset().map(|millis| farm_start.plus_millis(millis)));
        if time.is_none() {
            self.problem(key, format!("{text:?} is neither a time like 2026-06-03T04:00:00Z nor an offset from the farm's start like \"2d 4h\""));
        }
        time
    }
}

/// Names for a message: all of them, or as many as are read.
fn list(stations: &[StationId]) -> String {
    const MOST: usize = 40;
    let names: Vec<&str> = stations.iter().take(MOST).map(StationId::as_str).collect();
    let more = stations.len().saturating_sub(MOST);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Fault>, Vec<String>> {
        read_whole(text).map(|scenario| scenario.faults)
    }

    fn read_whole(text: &str) -> Result<Scenario, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        let stations: Vec<StationId> = ["n1", "n2", "e1"].map(|name| name.parse().unwrap()).to_vec();
        read_scenario(&path, "2026-06-01T00:00:00Z".parse().unwrap(), &stations).map_err(|problems| {
            problems.iter().map(|problem| problem.to_string().replace(&format!("{:?}", path), "s.toml")).collect()
        })
    }

    #[test]
    fn offsets_and_times_are_read() {
        let faults = read(
            "[[fault]]\nstation = \"n1\"\nchannel = \"soil_moisture_20cm\"\nkind = \"spike\"\nstart = \"2d 4h\"\nend = \"2026-06-05T00:00:00Z\"\n\
             [[fault]]\nstation = \"e1\"\nchannel = \"rain\"\nkind = \"dropout\"\nstart = 2026-06-02T00:00:00Z\nend = \"48h\"\n",
        )
        .unwrap();
        assert_eq!(faults[0].start.to_string(), "2026-06-03T04:00:00Z");
        assert_eq!(faults[0].effect, Effect::Spike { magnitude: 0.15, probability: 0.05 });
        assert_eq!(faults[1].start.to_string(), "2026-06-02T00:00:00Z");
        assert_eq!(faults[1].end.to_string(), "2026-06-03T00:00:00Z");
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let problems = read(
            "colour = 1\n\
             [[clock]]\nstation = \"z9\"\nstart = \"1d\"\nsize = 1\ndrift_ppm = \"fast\"\nrestart_1970 = 1\n\
             [[fault]]\nstation = \"z9\"\nchannel = \"soil_moisture_30cm\"\nkind = \"spik\"\nstart = \"soon\"\nend = 5\nsize = 1\n\
             [[fault]]\nstation = \"n1\"\nchannel = \"rain\"\nkind = \"stuck\"\nstart = \"2d\"\nend = \"1d\"\nrate = 1\nmagnitude = \"x\"\n",
        )
        .unwrap_err();
        let expected = [
            "s.toml, colour: is not known; a scenario has [[fault]] and [[clock]] tables",
            "s.toml, clock 1, size: is not known; known are station, start, end, offset_s, drift_ppm, restart_1970",
            "s.toml, clock 1, station: \"z9\" is not one of n1, n2, e1",
            "s.toml, clock 1, end: is missing",
            "s.toml, clock 1, drift_ppm: \"fast\" is not a number",
            "s.toml, clock 1, restart_1970: 1 is not true or false",
            "s.toml, fault 1, size: is not known; known are station, channel, kind, start, end, magnitude, rate",
            "s.toml, fault 1, station: \"z9\" is not one of n1, n2, e1",
            "s.toml, fault 1, channel: \"soil_moisture_30cm\" is not one of soil_moisture_10cm, ",
            "s.toml, fault 1, kind: \"spik\" is not one of spike, stuck, drift, dropout",
            "s.toml, fault 1, start: \"soon\" is neither a time like 2026-06-03T04:00:00Z nor an offset",
            "s.toml, fault 1, end: 5 is not a text",
            "s.toml, fault 2, end: 2026-06-02T00:00:00Z is not after the start, 2026-06-03T00:00:00Z",
            "s.toml, fault 2, magnitude: \"x\" is not a number",
            "s.toml, fault 2, magnitude: belongs to spike, not to stuck",
            "s.toml, fault 2, rate: belongs to spike and drift, not to stuck",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}\n{expected}");
        }
    }

    #[test]
    fn clocks_are_read() {
        let scenario = read_whole(
            "[[clock]]\nstation = \"n1\"\nstart = \"1h\"\nend = \"2h\"\noffset_s = -90.5\ndrift_ppm = 20\n\
             [[clock]]\nstation = \"n2\"\nstart = \"1h\"\nend = \"2h\"\nrestart_1970 = true\n",
        )
        .unwrap();
        let jumps: Vec<(Jump, f64)> = scenario.clocks.iter().map(|clock| (clock.jump, clock.drift_ppm)).collect();
        assert_eq!(jumps, [(Jump::Ahead(-90_500), 20.0), (Jump::Restart, 0.0)]);
        assert_eq!(scenario.clocks[0].start.to_string(), "2026-06-01T01:00:00Z");
    }

    #[test]
    fn two_faults_at_once_on_a_channel_are_refused() {
        let fault = |kind: &str, start: &str, end: &str| {
            format!(
                "[[fault]]\nstation = \"n1\"\nchannel = \"rain\"\nkind = \"{kind}\"\nstart = \"{start}\"\nend = \"{end}\"\n"
            )
        };
        assert!(read(&(fault("stuck", "1d", "2d") + &fault("dropout", "2d", "3d"))).is_ok());
        let problems = read(&(fault("stuck", "1d", "2d") + &fault("dropout", "1d 12h", "3d"))).unwrap_err();
        assert!(problems[0].contains("one at a time is allowed"), "{problems:?}");
    }

    #[test]
    fn spikes_are_single_and_about_as_many_as_asked_for() {
        let mut chance = Chance::new(1, "test");
        let offs: Vec<f64> = (0..4000).map(|sample| spike(&mut chance, sample, 10.0, 0.05)).collect();
        let hits = offs.iter().filter(|off| **off != 0.0).count();
        assert!((130..260).contains(&hits), "{hits}");
        assert!(offs.windows(2).all(|pair| pair[0] == 0.0 || pair[1] == 0.0));
        assert!(offs.iter().any(|off| *off > 0.0) && offs.iter().any(|off| *off < 0.0));
    }
}
