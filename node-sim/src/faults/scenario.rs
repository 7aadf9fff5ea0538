//! Reads scenarios: TOML files of what goes wrong.
//!
//! ```toml
//! [[fault]]
//! station = "c3"
//! channel = "soil_moisture_20cm"   # not for clock_drift, brown_out and hang, which befall the whole station
//! kind = "drift"                   # see `parameters` for the kinds and for what each takes
//! start = "2d 4h"                  # since the farm's start, or a time: "2026-06-03T04:00:00Z"
//! end = "4d"
//! rate = 0.002                     # here unit per hour; what is left out has a default by kind and quantity
//!
//! [[irrigation]]                   # what goes wrong with a field's pipes; not in a replay, which waters nothing
//! field = "north"
//! start = "3d"
//! end = "9d"
//! share = 0.0                      # of the water that should come: 0 is a valve that stays shut, 0.4 a clogged filter
//! ```
//!
//! The clocks of whole stations are wrong by `[[clock]]` tables (see [`crate::clock`]) or, which is the same, by faults of
//! the kind `clock_drift`. One fault at a time is allowed on a channel, on a station as a whole, and on its clock. Everything
//! that is wrong in a file is reported at once.

use std::path::Path;

use proto::{Channel, FieldId, StationId, Timestamp};

use super::parameters::{KEYS, Parameters, Rail, numbers, takes};
use super::{Fault, FaultKind};
use crate::clock::{ClockFault, Jump};
use crate::config::Problem;

/// Something wrong with a field's irrigation.
#[derive(Debug, Clone, PartialEq)]
pub struct IrrigationFault {
    /// The field.
    pub field: FieldId,
    /// The first moment of it.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
    /// How much of the water comes, 0 to 2.
    pub share: f64,
}

/// What a scenario says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scenario {
    /// The faults of probes and of stations' power, in their order.
    pub faults: Vec<Fault>,
    /// The faults of clocks, in their order.
    pub clocks: Vec<ClockFault>,
    /// The faults of fields' irrigation, in their order.
    pub irrigations: Vec<IrrigationFault>,
}

/// What a scenario's names may be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// The stations.
    pub stations: &'a [StationId],
    /// The channels, of any station.
    pub channels: &'a [Channel],
    /// The fields that are irrigated; none in a replay, where nothing is and no scenario may say otherwise.
    pub fields: &'a [FieldId],
}

/// The keys of a clock's fault.
const CLOCK_KEYS: [&str; 6] = ["station", "start", "end", "offset_s", "drift_ppm", "restart_1970"];
/// The keys of an irrigation's fault.
const IRRIGATION_KEYS: [&str; 4] = ["field", "start", "end", "share"];
/// The keys of a fault, beside its parameters.
const FAULT_KEYS: [&str; 5] = ["station", "channel", "kind", "start", "end"];
/// The tables of a scenario.
const TABLES: [&str; 3] = ["fault", "clock", "irrigation"];

/// A table that was read.
enum Item {
    Fault(Fault),
    Clock(ClockFault),
    Irrigation(IrrigationFault),
}

/// Reads a scenario for a farm, or a replay, that starts at `start`.
///
/// # Errors
/// Everything that is wrong in it.
pub fn read_scenario(path: &Path, start: Timestamp, known: &Known<'_>) -> Result<Scenario, Vec<Problem>> {
    let whole = |problem: String| vec![Problem::new(path, "", problem)];
    let text = std::fs::read_to_string(path).map_err(|error| whole(format!("cannot be read: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error| vec![Problem::toml(path, &text, &error)])?;
    let mut problems = Vec::new();
    for key in table.keys().filter(|key| !TABLES.contains(&key.as_str())) {
        problems.push(Problem::new(
            path,
            key,
            "is not known; a scenario has [[fault]], [[clock]] and [[irrigation]] tables",
        ));
    }
    let mut scenario = Scenario::default();
    for name in TABLES {
        match table.get(name) {
            None => {}
            Some(_) if name == "irrigation" && known.fields.is_empty() => {
                let problem = "is of no use: a replay waters nothing; it may have [[fault]] and [[clock]] tables";
                problems.push(Problem::new(path, name, problem));
            }
            Some(toml::Value::Array(tables)) => {
                for (index, value) in tables.iter().enumerate() {
                    let mut reader =
                        Reader { path, name: format!("{name} {}", index + 1), start, known, problems: &mut problems };
                    let Some(table) = value.as_table() else {
                        reader.problem("", format!("must be written as a [[{name}]] table"));
                        continue;
                    };
                    let item = match name {
                        "fault" => reader.fault(table),
                        "clock" => reader.clock_table(table).map(Item::Clock),
                        _ => reader.irrigation(table).map(Item::Irrigation),
                    };
                    match item {
                        Some(Item::Fault(fault)) => scenario.faults.push(fault),
                        Some(Item::Clock(clock)) => scenario.clocks.push(clock),
                        Some(Item::Irrigation(irrigation)) => scenario.irrigations.push(irrigation),
                        None => {}
                    }
                }
            }
            Some(_) => problems.push(Problem::new(path, name, format!("must be written as [[{name}]] tables"))),
        }
    }
    problems.extend(collisions(path, &scenario));
    if problems.is_empty() { Ok(scenario) } else { Err(problems) }
}

/// What is more than once at a time.
fn collisions(path: &Path, scenario: &Scenario) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut twice = |key: &str, what: String, one: &str, two: &str| {
        problems.push(Problem::new(path, key, format!("{what} has {one} and {two}; one at a time is allowed")));
    };
    let span = |start: Timestamp, end: Timestamp| format!("from {start} to {end}");
    let shown = |fault: &Fault| format!("a {} {}", fault.kind().name(), span(fault.start, fault.end));
    for (index, fault) in scenario.faults.iter().enumerate() {
        if let Some(other) = scenario.faults[..index].iter().find(|other| other.collides(fault)) {
            let what = match fault.channel {
                Some(channel) => format!("{} {channel}", fault.station),
                None => format!("{} as a whole", fault.station),
            };
            twice("fault", what, &shown(other), &shown(fault));
        }
    }
    for (index, clock) in scenario.clocks.iter().enumerate() {
        let same =
            |other: &&ClockFault| other.station == clock.station && other.start < clock.end && clock.start < other.end;
        if let Some(other) = scenario.clocks[..index].iter().find(same) {
            let shown = |clock: &ClockFault| format!("a fault {}", span(clock.start, clock.end));
            twice("clock", format!("{}'s clock", clock.station), &shown(other), &shown(clock));
        }
    }
    for (index, one) in scenario.irrigations.iter().enumerate() {
        let same =
            |other: &&IrrigationFault| other.field == one.field && other.start < one.end && one.start < other.end;
        if let Some(other) = scenario.irrigations[..index].iter().find(same) {
            let shown = |one: &IrrigationFault| format!("a fault {}", span(one.start, one.end));
            twice("irrigation", format!("field {}", one.field), &shown(other), &shown(one));
        }
    }
    problems
}

/// Reads one table and collects what is wrong in it.
struct Reader<'a> {
    path: &'a Path,
    name: String,
    start: Timestamp,
    known: &'a Known<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, key: &str, problem: impl Into<String>) {
        let key = if key.is_empty() { self.name.clone() } else { format!("{}, {key}", self.name) };
        self.problems.push(Problem::new(self.path, &key, problem));
    }

    fn unknown_keys(&mut self, table: &toml::Table, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            self.problem(key, format!("is not known; known are {}", known.join(", ")));
        }
    }

    fn fault(&mut self, table: &toml::Table) -> Option<Item> {
        let keys: Vec<&str> = FAULT_KEYS.into_iter().chain(KEYS).collect();
        self.unknown_keys(table, &keys);
        let station = self.station(table);
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
        let channel = match kind {
            Some(kind) if kind.is_of_station() => {
                if table.contains_key("channel") {
                    self.problem("channel", format!("is of no use: {} befalls the whole station", kind.name()));
                }
                None
            }
            _ => Some(self.text(table, "channel").and_then(|name| self.channel("channel", name))),
        };
        if let (Some(kind), Some(Some(channel))) = (kind, channel)
            && !kind.befalls(channel.quantity)
        {
            let can = proto::Quantity::ALL.into_iter().filter(|quantity| kind.befalls(*quantity));
            let can: Vec<&str> = can.map(proto::Quantity::name).collect();
            self.problem("channel", format!("{channel} cannot be {}; {} can", kind.name(), can.join(", ")));
        }
        let (start, end) = self.span(table);
        // A channel that is wrong has been told; what the parameters' bounds are is then not known.
        let channel = match channel {
            None => None,
            Some(channel) => Some(channel?),
        };
        let kind = kind?;
        let given = self.parameters(table, kind, channel);
        if kind == FaultKind::ClockDrift {
            return Some(Item::Clock(self.clock(&given, station?, start?, end?)));
        }
        let effect = given.effect(kind, channel)?;
        Some(Item::Fault(Fault { station: station?, channel, effect, start: start?, end: end? }))
    }

    /// The parameters of a kind.
    fn parameters(&mut self, table: &toml::Table, kind: FaultKind, channel: Option<Channel>) -> Parameters {
        for key in KEYS.into_iter().filter(|key| table.contains_key(*key) && !takes(kind, key)) {
            let of: Vec<&str> =
                FaultKind::ALL.into_iter().filter(|kind| takes(*kind, key)).map(FaultKind::name).collect();
            self.problem(key, format!("belongs to {}, not to {}", of.join(", "), kind.name()));
        }
        let mut given = Parameters::default();
        for number in numbers(kind, channel.map(|channel| channel.quantity)) {
            if let Some(value) = self.number(table, number.key) {
                if !(number.low..=number.high).contains(&value) {
                    self.problem(number.key, format!("{value} is not {} to {}", number.low, number.high));
                }
                given.set(number.key, value);
            }
        }
        if takes(kind, "rail") && table.contains_key("rail") {
            given.rail = match self.text(table, "rail") {
                Some("low") => Some(Rail::Low),
                Some("high") => Some(Rail::High),
                Some(other) => {
                    self.problem("rail", format!("{other:?} is not one of low, high"));
                    None
                }
                None => None,
            };
        }
        if takes(kind, "wet") {
            given.wet = self.truth(table, "wet");
        }
        if takes(kind, "restart_1970") {
            given.restart_1970 = self.truth(table, "restart_1970");
        }
        if takes(kind, "with") {
            given.with = self.text(table, "with").and_then(|name| self.channel("with", name));
            if let (Some(with), Some(channel)) = (given.with, channel)
                && (with == channel || with.quantity.unit() != channel.quantity.unit())
            {
                self.problem("with", format!("{with} is not another channel in {}", channel.quantity.unit()));
            }
        }
        given
    }

    fn clock(&mut self, given: &Parameters, station: StationId, start: Timestamp, end: Timestamp) -> ClockFault {
        let restart = given.restart_1970 == Some(true);
        if restart && given.offset_s.is_some() {
            self.problem("offset_s", "is of no use beside restart_1970");
        }
        let alone = !restart && given.offset_s.is_none();
        let drift_ppm = given.drift_ppm.unwrap_or(if alone { 200.0 } else { 0.0 });
        let ahead_ms = given.offset_s.unwrap_or(0.0) * 1000.0;
        let jump = if restart { Jump::Restart } else { Jump::Ahead(ahead_ms.round() as i64) };
        ClockFault { station, start, end, jump, drift_ppm }
    }

    /// A `[[clock]]` table: as a fault, but without any default drift.
    fn clock_table(&mut self, table: &toml::Table) -> Option<ClockFault> {
        self.unknown_keys(table, &CLOCK_KEYS);
        let station = self.station(table);
        let (start, end) = self.span(table);
        let mut given = Parameters::default();
        for number in numbers(FaultKind::ClockDrift, None) {
            if let Some(value) = self.number(table, number.key) {
                if !(number.low..=number.high).contains(&value) {
                    self.problem(number.key, format!("{value} is not {} to {}", number.low, number.high));
                }
                given.set(number.key, value);
            }
        }
        given.restart_1970 = self.truth(table, "restart_1970");
        given.drift_ppm = given.drift_ppm.or(Some(0.0));
        Some(self.clock(&given, station?, start?, end?))
    }

    fn irrigation(&mut self, table: &toml::Table) -> Option<IrrigationFault> {
        self.unknown_keys(table, &IRRIGATION_KEYS);
        let field = self.text(table, "field").and_then(|name| {
            let found = self.known.fields.iter().find(|field| field.as_str() == name).cloned();
            if found.is_none() {
                let names: Vec<&str> = self.known.fields.iter().map(FieldId::as_str).collect();
                self.problem("field", format!("{name:?} is not one of {}", names.join(", ")));
            }
            found
        });
        let (start, end) = self.span(table);
        if !table.contains_key("share") {
            self.problem("share", "is missing");
        }
        let share = self.number(table, "share");
        if let Some(share) = share.filter(|share| !(0.0..=2.0).contains(share)) {
            self.problem("share", format!("{share} is not 0 to 2"));
        }
        Some(IrrigationFault { field: field?, start: start?, end: end?, share: share? })
    }

    fn station(&mut self, table: &toml::Table) -> Option<StationId> {
        let name = self.text(table, "station")?;
        let found = self.known.stations.iter().find(|station| station.as_str() == name).cloned();
        if found.is_none() {
            let names: Vec<&str> = self.known.stations.iter().map(StationId::as_str).collect();
            self.problem("station", format!("{name:?} is not one of {}", list(&names)));
        }
        found
    }

    fn channel(&mut self, key: &str, name: &str) -> Option<Channel> {
        let found = self.known.channels.iter().copied().find(|channel| channel.to_string() == name);
        if found.is_none() {
            let names: Vec<String> = self.known.channels.iter().map(Channel::to_string).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.problem(key, format!("{name:?} is not one of {}", list(&names)));
        }
        found
    }

    fn span(&mut self, table: &toml::Table) -> (Option<Timestamp>, Option<Timestamp>) {
        let start = self.time(table, "start");
        let end = self.time(table, "end");
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

    /// None when it is not there, or wrong.
    fn number(&mut self, table: &toml::Table, key: &str) -> Option<f64> {
        match table.get(key)? {
            toml::Value::Float(number) if number.is_finite() => Some(*number),
            toml::Value::Integer(number) => Some(*number as f64),
            other => {
                self.problem(key, format!("{other} is not a number"));
                None
            }
        }
    }

    /// None when it is not there, or wrong.
    fn truth(&mut self, table: &toml::Table, key: &str) -> Option<bool> {
        match table.get(key)? {
            toml::Value::Boolean(truth) => Some(*truth),
            other => {
                self.problem(key, format!("{other} is not true or false"));
                None
            }
        }
    }

    fn time(&mut self, table: &toml::Table, key: &str) -> Option<Timestamp> {
        let text = match table.get(key) {
            Some(toml::Value::Datetime(time)) => time.to_string(),
            _ => self.text(table, key)?.to_owned(),
        };
        let offset = || {
            let span: jiff::Span = text.parse().ok()?;
            let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
            (!duration.is_negative()).then(|| i64::try_from(duration.as_millis()).ok())?
        };
        let time = text.parse().ok().or_else(|| offset().map(|millis| self.start.plus_millis(millis)));
        if time.is_none() {
            self.problem(key, format!("{text:?} is neither a time like 2026-06-03T04:00:00Z nor an offset from the farm's start like \"2d 4h\""));
        }
        time
    }
}

/// Names for a message: all of them, or as many as are read.
fn list(names: &[&str]) -> String {
    const MOST: usize = 40;
    let more = names.len().saturating_sub(MOST);
    let shown = names[..names.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Effect;
    use crate::station::CHANNELS;

    fn read(text: &str) -> Result<Vec<Fault>, Vec<String>> {
        read_whole(text).map(|scenario| scenario.faults)
    }

    fn read_whole(text: &str) -> Result<Scenario, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        let stations: Vec<StationId> = ["n1", "n2", "e1"].map(|name| name.parse().unwrap()).to_vec();
        let fields: Vec<FieldId> = ["north", "east"].map(|name| name.parse().unwrap()).to_vec();
        let known = Known { stations: &stations, channels: &CHANNELS, fields: &fields };
        read_scenario(&path, "2026-06-01T00:00:00Z".parse().unwrap(), &known).map_err(|problems| {
            problems.iter().map(|problem| problem.to_string().replace(&format!("{:?}", path), "s.toml")).collect()
        })
    }

    fn table(kind: &str, station: &str, rest: &str) -> String {
        format!("[[fault]]\nkind = \"{kind}\"\nstation = \"{station}\"\nstart = \"1h\"\nend = \"2h\"\n{rest}\n")
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
    fn parameters_are_read_and_the_others_have_defaults() {
        let moisture = "channel = \"soil_moisture_10cm\"";
        let text = [
            table("waterlogged", "n1", &format!("{moisture}\nleak = 0.25\ndrying_h = 6\nwet = false")),
            table("rail", "n2", &format!("{moisture}\nrail = \"low\"")),
            table("swapped", "e1", &format!("{moisture}\nwith = \"soil_moisture_40cm\"")),
            table("brown_out", "e1", "below_v = 3.5"),
            table("hang", "n2", ""),
        ]
        .concat();
        let effects: Vec<Effect> = read(&text).unwrap().into_iter().map(|fault| fault.effect).collect();
        let expected = [
            Effect::Waterlogged { leak: 0.25, sd: 0.01, drying_h: 6.0, wet: false },
            Effect::Rail { value: 0.0 },
            Effect::Swapped { with: "soil_moisture_40cm".parse().unwrap() },
            Effect::BrownOut { probability: 0.5, sag_v: 0.4, below_v: Some(3.5) },
            Effect::Hang { probability: 0.2 },
        ];
        assert_eq!(effects, expected);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let problems = read(
            "colour = 1\n\
             [[clock]]\nstation = \"z9\"\nstart = \"1d\"\nsize = 1\ndrift_ppm = \"fast\"\nrestart_1970 = 1\n\
             [[irrigation]]\nfield = \"west\"\nstart = \"1d\"\nend = \"2d\"\nshare = 3\n\
             [[fault]]\nstation = \"z9\"\nchannel = \"soil_moisture_30cm\"\nkind = \"spik\"\nstart = \"soon\"\nend = 5\nsize = 1\n\
             [[fault]]\nstation = \"n1\"\nchannel = \"rain\"\nkind = \"stuck\"\nstart = \"2d\"\nend = \"1d\"\nrate = 1\nmagnitude = \"x\"\n",
        )
        .unwrap_err();
        let expected = [
            "s.toml, colour: is not known; a scenario has [[fault]], [[clock]] and [[irrigation]] tables",
            "s.toml, fault 1, size: is not known; known are station, channel, kind, start, end, magnitude, rate, ",
            "s.toml, fault 1, station: \"z9\" is not one of n1, n2, e1",
            "s.toml, fault 1, kind: \"spik\" is not one of spike, stuck, drift, bias, noise, dropout, rail, pulled_out, ",
            "s.toml, fault 1, channel: \"soil_moisture_30cm\" is not one of soil_moisture_10cm, ",
            "s.toml, fault 1, start: \"soon\" is neither a time like 2026-06-03T04:00:00Z nor an offset",
            "s.toml, fault 1, end: 5 is not a text",
            "s.toml, fault 2, end: 2026-06-02T00:00:00Z is not after the start, 2026-06-03T00:00:00Z",
            "s.toml, fault 2, magnitude: belongs to spike, bias, noise, brown_out, not to stuck",
            "s.toml, fault 2, rate: belongs to spike, drift, dropout, brown_out, hang, not to stuck",
            "s.toml, clock 1, size: is not known; known are station, start, end, offset_s, drift_ppm, restart_1970",
            "s.toml, clock 1, station: \"z9\" is not one of n1, n2, e1",
            "s.toml, clock 1, end: is missing",
            "s.toml, clock 1, drift_ppm: \"fast\" is not a number",
            "s.toml, clock 1, restart_1970: 1 is not true or false",
            "s.toml, irrigation 1, field: \"west\" is not one of north, east",
            "s.toml, irrigation 1, share: 3 is not 0 to 2",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}\n{expected}");
        }
    }

    #[test]
    fn each_parameter_has_bounds_and_its_kind_a_channel_that_it_can_befall() {
        let moisture = "channel = \"soil_moisture_10cm\"";
        for (kind, rest, expected) in [
            ("spike", format!("{moisture}\nrate = 0.6"), "rate: 0.6 is not 0 to 0.5"),
            ("spike", format!("{moisture}\nmagnitude = -1"), "magnitude: -1 is not 0 to 5"),
            ("drift", format!("{moisture}\nrate = -0.3"), "rate: -0.3 is not -0.25 to 0.25"),
            ("bias", format!("{moisture}\nmagnitude = 0.6"), "magnitude: 0.6 is not -0.5 to 0.5"),
            ("noise", format!("{moisture}\nmagnitude = nan"), "magnitude: nan is not a number"),
            ("dropout", format!("{moisture}\nrate = 1.5"), "rate: 1.5 is not 0 to 1"),
            ("rail", format!("{moisture}\nrail = \"middle\""), "rail: \"middle\" is not one of low, high"),
            ("pulled_out", "channel = \"rain\"".to_owned(), "channel: rain cannot be pulled_out; soil_moisture, "),
            ("pulled_out", format!("{moisture}\nsun_c = 40"), "sun_c: 40 is not 0 to 30"),
            ("waterlogged", "channel = \"rain\"".to_owned(), "channel: rain cannot be waterlogged; soil_moisture, "),
            ("waterlogged", format!("{moisture}\nleak = 2"), "leak: 2 is not 0 to 1"),
            ("waterlogged", format!("{moisture}\nwet = \"very\""), "wet: \"very\" is not true or false"),
            ("swapped", moisture.to_owned(), "with: is missing"),
            ("swapped", format!("{moisture}\nwith = \"rain\""), "with: rain is not another channel in m3/m3"),
            ("brown_out", moisture.to_owned(), "channel: is of no use: brown_out befalls the whole station"),
            ("brown_out", "rate = 1.0".to_owned(), "rate: 1 is not 0 to 0.95"),
            ("hang", "magnitude = 1.0".to_owned(), "magnitude: belongs to spike, bias, noise, brown_out, not to hang"),
            ("clock_drift", "drift_ppm = 2e6".to_owned(), "drift_ppm: 2000000 is not -999999 to 999999"),
            ("stuck", String::new(), "channel: is missing"),
        ] {
            let problems = read(&table(kind, "n1", &rest)).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(&format!("s.toml, fault 1, {expected}")), "{problems:?}\n{expected}");
        }
    }

    #[test]
    fn clocks_are_read_and_a_clock_is_a_fault_too() {
        let scenario = read_whole(
            &("[[clock]]\nstation = \"n1\"\nstart = \"1h\"\nend = \"2h\"\noffset_s = -90.5\ndrift_ppm = 20\n\
             [[clock]]\nstation = \"n2\"\nstart = \"1h\"\nend = \"2h\"\nrestart_1970 = true\n"
                .to_owned()
                + &table("clock_drift", "e1", "")
                + &table("clock_drift", "n2", "offset_s = 5").replace("1h", "3h").replace("2h", "4h")),
        )
        .unwrap();
        let jumps: Vec<(&str, Jump, f64)> =
            scenario.clocks.iter().map(|clock| (clock.station.as_str(), clock.jump, clock.drift_ppm)).collect();
        let expected = [
            ("e1", Jump::Ahead(0), 200.0),
            ("n2", Jump::Ahead(5000), 0.0),
            ("n1", Jump::Ahead(-90_500), 20.0),
            ("n2", Jump::Restart, 0.0),
        ];
        assert_eq!(jumps, expected);
        assert_eq!(scenario.clocks[2].start.to_string(), "2026-06-01T01:00:00Z");
    }

    #[test]
    fn two_faults_at_once_in_one_place_are_refused() {
        let fault = |kind: &str, start: &str, end: &str| {
            format!(
                "[[fault]]\nstation = \"n1\"\nchannel = \"rain\"\nkind = \"{kind}\"\nstart = \"{start}\"\nend = \"{end}\"\n"
            )
        };
        assert!(read(&(fault("stuck", "1d", "2d") + &fault("dropout", "2d", "3d"))).is_ok());
        let clock = "[[clock]]\nstation = \"n1\"\nstart = \"1h\"\nend = \"2h\"\n";
        let swapped = table("swapped", "n1", "channel = \"soil_moisture_10cm\"\nwith = \"soil_moisture_40cm\"");
        for (text, place) in [
            (fault("stuck", "1d", "2d") + &fault("dropout", "1d 12h", "3d"), "n1 rain"),
            (swapped + &table("bias", "n1", "channel = \"soil_moisture_40cm\""), "n1 soil_moisture_40cm"),
            (table("brown_out", "n1", "") + &table("hang", "n1", ""), "n1 as a whole"),
            (clock.to_owned() + &table("clock_drift", "n1", ""), "n1's clock"),
            ("[[irrigation]]\nfield = \"north\"\nstart = \"1h\"\nend = \"2h\"\nshare = 0\n".repeat(2), "field north"),
        ] {
            let problems = read_whole(&text).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].contains(place) && problems[0].ends_with("one at a time is allowed"),
                "{place}: {problems:?}"
            );
        }
        let apart = table("brown_out", "n1", "") + &table("stuck", "n1", "channel = \"rain\"") + clock;
        assert!(read_whole(&apart).is_ok());
    }
}
