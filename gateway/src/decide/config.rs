//! The fields of the farm, as the configuration says.
//!
//! ```toml
//! [[field]]
//! name = "north"
//! stations = ["n1", "n2", "n3"]        # whose soil moisture counts
//! crop = "alfalfa"                     # or root_depth_m and depletion_fraction
//! soil = "loam"                        # or field_capacity and wilting_point
//! valves = ["n1"]                      # the stations that get the command
//! auto = true                          # false: only advice
//! hours = [20.0, 6.0]                  # local hours in which it may run
//! utc_offset_h = -8.0
//! [field.irrigation]
//! kind = "sprinkler"
//! application_mm_per_h = 6.0
//! max_minutes = 480                    # a day
//! ```

use std::collections::BTreeMap;

use proto::{FieldId, StationId};
use serde::{Deserialize, Serialize};

use super::balance;
use super::tables::{Crop, Texture};

/// Most stations of a field.
const MOST_STATIONS: usize = 1_000;

/// A field for which the gateway decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// Its name.
    pub name: FieldId,
    /// The stations whose soil moisture counts, and whose rain.
    pub stations: Vec<StationId>,
    /// What grows: says rooting depth and depletion fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// Rooting depth, m; instead of the crop's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_depth_m: Option<f64>,
    /// Share of the available water that the crop takes without stress, p; instead of the crop's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depletion_fraction: Option<f64>,
    /// What the crop uses a day at this time of the year, ETc, mm: p is adjusted to it; as it is, it is for 5 mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etc_mm_per_day: Option<f64>,
    /// The soil's texture: says field capacity and wilting point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soil: Option<Texture>,
    /// Water content at field capacity, m3/m3; instead of the soil's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_capacity: Option<f64>,
    /// Water content at the wilting point, m3/m3; instead of the soil's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wilting_point: Option<f64>,
    /// How it is irrigated.
    pub irrigation: IrrigationConfig,
    /// The stations whose valves are commanded. A station has valves of one field.
    #[serde(default)]
    pub valves: Vec<StationId>,
    /// Whether valves are commanded; otherwise decisions are advice.
    #[serde(default)]
    pub auto: bool,
    /// From which to which local hour it may run, over midnight when the first is the later; none for always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<[f64; 2]>,
    /// Local time less UTC, h: standard time, all the year. Days and hours are counted by it.
    #[serde(default)]
    pub utc_offset_h: f64,
    /// Fewest probes in the root zone that must be trusted.
    #[serde(default = "min_probes")]
    pub min_probes: u32,
    /// How old a measurement may be, h.
    #[serde(default = "fresh_h")]
    pub fresh_h: f64,
    /// How long after an irrigation none is decided, so that its water can go down, h.
    #[serde(default = "interval_h")]
    pub interval_h: f64,
    /// How long after rain none is decided, h; at most 48.
    #[serde(default = "rain_h")]
    pub rain_h: f64,
    /// How much rain in that time delays it, mm.
    #[serde(default = "rain_mm")]
    pub rain_mm: f64,
    /// How much is left missing to field capacity, mm: room for rain, and for what a probe is wrong.
    #[serde(default = "leave_mm")]
    pub leave_mm: f64,
}

/// How a field is irrigated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrrigationConfig {
    /// What kind of system it is.
    pub kind: SystemKind,
    /// Water that leaves the system while it runs, mm/h over the field.
    pub application_mm_per_h: f64,
    /// Share of it that the root zone gets, above 0 to 1; unless given, that of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efficiency: Option<f64>,
    /// The most minutes a day.
    pub max_minutes: u32,
    /// The shortest run, minutes.
    #[serde(default = "min_minutes")]
    pub min_minutes: u32,
    /// Runs are whole multiples of this, minutes.
    #[serde(default = "step_minutes")]
    pub step_minutes: u32,
    /// How long a command that no valve has confirmed is repeated, minutes.
    #[serde(default = "expire_minutes")]
    pub expire_minutes: u32,
}

/// A kind of irrigation system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemKind {
    /// Drippers.
    Drip,
    /// A centre pivot or a linear move.
    Pivot,
    /// Sprinklers.
    Sprinkler,
}

impl IrrigationConfig {
    /// A system with what must be given, and defaults for the rest.
    #[must_use]
    pub const fn new(kind: SystemKind, application_mm_per_h: f64, max_minutes: u32) -> Self {
        Self {
            kind,
            application_mm_per_h,
            efficiency: None,
            max_minutes,
            min_minutes: min_minutes(),
            step_minutes: step_minutes(),
            expire_minutes: expire_minutes(),
        }
    }
}

impl SystemKind {
    /// Field application efficiency. FAO Irrigation Water Management Training Manual 4 (Brouwer et al. 1989), annex I, table 8:
    /// drip 90 %, sprinkler 75 %; a pivot is taken for a sprinkler.
    #[must_use]
    pub const fn efficiency(self) -> f64 {
        match self {
            Self::Drip => 0.90,
            Self::Pivot | Self::Sprinkler => 0.75,
        }
    }
}

const fn min_probes() -> u32 {
    2
}
const fn fresh_h() -> f64 {
    3.0
}
const fn interval_h() -> f64 {
    12.0
}
const fn rain_h() -> f64 {
    6.0
}
const fn rain_mm() -> f64 {
    3.0
}
const fn leave_mm() -> f64 {
    5.0
}
const fn min_minutes() -> u32 {
    10
}
const fn step_minutes() -> u32 {
    5
}
const fn expire_minutes() -> u32 {
    60
}

/// What the decisions need of crop and soil.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RootZone {
    /// Rooting depth, m.
    pub root_depth_m: f64,
    /// p, adjusted to the crop's evapotranspiration where that is given.
    pub depletion_fraction: f64,
    /// Water content at field capacity, m3/m3.
    pub field_capacity: f64,
    /// TAW, mm.
    pub total_mm: f64,
    /// RAW, mm.
    pub readily_mm: f64,
}

impl FieldConfig {
    /// A field with what must be given besides crop and soil, and defaults for the rest.
    #[must_use]
    pub const fn new(name: FieldId, stations: Vec<StationId>, irrigation: IrrigationConfig) -> Self {
        Self {
            name,
            stations,
            crop: None,
            root_depth_m: None,
            depletion_fraction: None,
            etc_mm_per_day: None,
            soil: None,
            field_capacity: None,
            wilting_point: None,
            irrigation,
            valves: Vec::new(),
            auto: false,
            hours: None,
            utc_offset_h: 0.0,
            min_probes: min_probes(),
            fresh_h: fresh_h(),
            interval_h: interval_h(),
            rain_h: rain_h(),
            rain_mm: rain_mm(),
            leave_mm: leave_mm(),
        }
    }

    /// Its root zone; none when the configuration does not say enough, which [`check`] names.
    #[must_use]
    pub fn root_zone(&self) -> Option<RootZone> {
        let root_depth_m = self.root_depth_m.or(self.crop.map(|crop| crop.root_depth_m()))?;
        let depletion_fraction = self.depletion_fraction.or(self.crop.map(|crop| crop.depletion_fraction()))?;
        let adjusted = |etc_mm_per_day| balance::depletion_fraction(depletion_fraction, etc_mm_per_day);
        let depletion_fraction = self.etc_mm_per_day.map_or(depletion_fraction, adjusted);
        let field_capacity = self.field_capacity.or(self.soil.map(|soil| soil.water().0))?;
        let wilting_point = self.wilting_point.or(self.soil.map(|soil| soil.water().1))?;
        let total_mm = balance::total_available_mm(field_capacity, wilting_point, root_depth_m);
        let readily_mm = balance::readily_available_mm(depletion_fraction, total_mm);
        (total_mm > 0.0).then_some(RootZone { root_depth_m, depletion_fraction, field_capacity, total_mm, readily_mm })
    }

    /// Share of the water that the root zone gets.
    #[must_use]
    pub fn efficiency(&self) -> f64 {
        self.irrigation.efficiency.unwrap_or(self.irrigation.kind.efficiency())
    }
}

/// What is wrong with the fields: key, value and what is expected.
#[must_use]
pub fn check(fields: &[FieldConfig]) -> Vec<(String, String, String)> {
    let mut wrong = Vec::new();
    let mut valves: BTreeMap<&StationId, &FieldId> = BTreeMap::new();
    for (index, field) in fields.iter().enumerate() {
        let mut expect = |holds: bool, key: &str, value: String, expected: &str| {
            if !holds {
                wrong.push((format!("field[{index}].{key}"), value, expected.to_owned()));
            }
        };
        let twice = fields[..index].iter().any(|other| other.name == field.name);
        expect(!twice, "name", field.name.to_string(), "a name that no other field has");
        let stations = field.stations.len();
        expect(
            (1..=MOST_STATIONS).contains(&stations),
            "stations",
            format!("{stations} stations"),
            "1 to 1000 stations",
        );
        for valve in &field.valves {
            let others = valves.insert(valve, &field.name).is_some();
            expect(!others, "valves", format!("{valve:?}"), "a station that is no valve yet");
        }
        let most = proto::decision::MAX_STATIONS;
        expect(field.valves.len() <= most, "valves", format!("{} stations", field.valves.len()), "at most 64 stations");
        expect(!field.auto || !field.valves.is_empty(), "auto", "true".to_owned(), "of use without valves");
        let crop = field.crop.is_some();
        let mut number =
            |key: &str, value: Option<f64>, other: bool, range: std::ops::RangeInclusive<f64>, what: &str| {
                let shown = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
                let fits = value.map_or(other, |value| range.contains(&value));
                let expected = format!("{} to {} {what}", range.start(), range.end());
                expect(fits, key, shown, &expected);
            };
        number("root_depth_m", field.root_depth_m, crop, 0.05..=3.0, "m (a crop would say it)");
        number("depletion_fraction", field.depletion_fraction, crop, 0.05..=0.95, "(a crop would say it)");
        number("etc_mm_per_day", field.etc_mm_per_day, true, 0.5..=20.0, "mm");
        let soil = field.soil.is_some();
        number("field_capacity", field.field_capacity, soil, 0.02..=0.7, "m3/m3 (a soil would say it)");
        number("wilting_point", field.wilting_point, soil, 0.0..=0.6, "m3/m3 (a soil would say it)");
        number("utc_offset_h", Some(field.utc_offset_h), false, -14.0..=14.0, "h");
        number("fresh_h", Some(field.fresh_h), false, 0.25..=48.0, "h");
        number("interval_h", Some(field.interval_h), false, 0.0..=336.0, "h");
        number("rain_h", Some(field.rain_h), false, 0.0..=48.0, "h");
        number("rain_mm", Some(field.rain_mm), false, 0.1..=500.0, "mm");
        number("leave_mm", Some(field.leave_mm), false, 0.0..=500.0, "mm");
        let irrigation = &field.irrigation;
        number("irrigation.application_mm_per_h", Some(irrigation.application_mm_per_h), false, 0.1..=200.0, "mm/h");
        number("irrigation.efficiency", irrigation.efficiency, true, 0.1..=1.0, "");
        for hour in field.hours.iter().flatten() {
            number("hours", Some(*hour), false, 0.0..=24.0, "h");
        }
        let mut minutes = |key: &str, value: u32, range: std::ops::RangeInclusive<u32>| {
            let expected = format!("{} to {} min", range.start(), range.end());
            expect(range.contains(&value), key, value.to_string(), &expected);
        };
        minutes("min_probes", field.min_probes, 1..=10_000);
        minutes("irrigation.max_minutes", irrigation.max_minutes, 1..=proto::decision::MAX_MINUTES);
        minutes("irrigation.min_minutes", irrigation.min_minutes, 1..=irrigation.max_minutes.max(1));
        minutes("irrigation.step_minutes", irrigation.step_minutes, 1..=irrigation.max_minutes.max(1));
        minutes("irrigation.expire_minutes", irrigation.expire_minutes, 1..=10_080);
        let said = soil || (field.field_capacity.is_some() && field.wilting_point.is_some());
        let said = said && (crop || (field.root_depth_m.is_some() && field.depletion_fraction.is_some()));
        if said && field.root_zone().is_none() {
            let value = field.wilting_point.or(field.soil.map(|soil| soil.water().1)).unwrap_or_default();
            expect(false, "wilting_point", value.to_string(), "below the field capacity");
        }
    }
    wrong
}
