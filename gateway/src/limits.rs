//! Which filters hold for which channel of which station: the defaults of its quantity, and what the configuration says
//! otherwise.
//!
//! ```toml
//! [filters.soil_moisture]                        # a quantity, at all depths
//! range = [0.02, 0.55]                           # m3/m3
//! [filters.soil_moisture_20cm]                   # a channel
//! max_rate_per_hour = 1.0                        # or false
//! [filters.station.n7.soil_moisture_20cm]        # a channel (or a quantity) of one station
//! hampel = { sigmas = 8.0, floor = 0.05 }        # or false
//! stuck = { hours = 12.0 }                       # or false
//! ```
//!
//! Each key is looked up by itself, from the narrowest table to the widest, and last in [`Limits::of`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use proto::{Channel, Quantity, StationId};
use toml::{Table, Value};

use crate::filter::Hampel;
use crate::validate::{Limits, Stuck};

/// The longest time that a stuck filter may look back, in hours: as long the readings of all stations are kept in memory.
pub const MOST_STUCK_HOURS: f64 = 72.0;

/// The largest magnitude of a range's ends: far beyond any quantity, and sums of squares of what lies within stay numbers.
const MOST_VALUE: f64 = 1e12;

const KEYS: [&str; 4] = ["range", "max_rate_per_hour", "hampel", "stuck"];

/// The filters of every channel.
#[derive(Debug, Clone)]
pub struct Filters {
    /// By [`Quantity::code`], with what the configuration says of the whole quantity.
    quantities: Vec<Arc<Limits>>,
    channels: BTreeMap<Channel, Overrides>,
    stations: BTreeMap<StationId, Narrow>,
}

/// What the configuration says of one station.
#[derive(Debug, Clone, Default)]
struct Narrow {
    quantities: BTreeMap<Quantity, Overrides>,
    channels: BTreeMap<Channel, Overrides>,
}

/// What one table says; none is what it does not say.
#[derive(Debug, Clone, Default, PartialEq)]
struct Overrides {
    range: Option<RangeInclusive<f64>>,
    max_rate_per_hour: Option<Option<f64>>,
    hampel: Option<Option<Hampel>>,
    stuck: Option<Option<Stuck>>,
}

impl Overrides {
    fn apply(&self, limits: &mut Limits) {
        if let Some(range) = &self.range {
            limits.range = range.clone();
        }
        if let Some(rate) = self.max_rate_per_hour {
            limits.max_rate_per_hour = rate;
        }
        if let Some(hampel) = self.hampel {
            limits.hampel = hampel;
        }
        if let Some(stuck) = self.stuck {
            limits.stuck = stuck;
        }
    }
}

impl Default for Filters {
    fn default() -> Self {
        Self::new(Limits::of)
    }
}

impl Filters {
    /// The same for every station, by quantity.
    #[must_use]
    pub fn new(limits: impl Fn(Quantity) -> Limits) -> Self {
        let quantities = Quantity::ALL.into_iter().map(|quantity| Arc::new(limits(quantity))).collect();
        Self { quantities, channels: BTreeMap::new(), stations: BTreeMap::new() }
    }

    /// The filters of the configuration's `[filters]`.
    ///
    /// # Errors
    /// Everything that is wrong in it, each with its key, its value and what is expected.
    pub fn read(table: &Table) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let (mut filters, mut all) = (Self::default(), Narrow::default());
        for (key, value) in table {
            match (key.as_str(), value) {
                ("station", Value::Table(stations)) => {
                    for (name, tables) in stations {
                        let path = format!("filters.station.{name}");
                        let mut of = Narrow::default();
                        match tables {
                            Value::Table(tables) => {
                                tables.iter().for_each(|(key, value)| of.read(&path, key, value, &mut wrong));
                            }
                            other => wrong.push(format!("{path} = {other} is not a table")),
                        }
                        match name.parse::<StationId>() {
                            Ok(station) => drop(filters.stations.insert(station, of)),
                            Err(error) => wrong.push(format!("{path} is not of a station: {error}")),
                        }
                    }
                }
                ("station", other) => wrong.push(format!("filters.station = {other} is not a table of stations")),
                (key, value) => all.read("filters", key, value, &mut wrong),
            }
        }
        for (quantity, overrides) in all.quantities {
            overrides.apply(Arc::make_mut(&mut filters.quantities[usize::from(quantity.code())]));
        }
        filters.channels = all.channels;
        if wrong.is_empty() { Ok(filters) } else { Err(wrong) }
    }

    /// What is expected of a station's channel.
    #[must_use]
    pub fn of(&self, station: &StationId, channel: Channel) -> Arc<Limits> {
        let quantity = &self.quantities[usize::from(channel.quantity.code())];
        let narrow = self.stations.get(station);
        let overrides = [
            self.channels.get(&channel),
            narrow.and_then(|n| n.quantities.get(&channel.quantity)),
            narrow.and_then(|n| n.channels.get(&channel)),
        ];
        if overrides.iter().all(Option::is_none) {
            return Arc::clone(quantity);
        }
        let mut limits = Limits::clone(quantity);
        overrides.into_iter().flatten().for_each(|o| o.apply(&mut limits));
        Arc::new(limits)
    }

    /// How long before a reading the readings begin that any verdict depends on ([`Limits::look_back_ms`]).
    #[must_use]
    pub fn look_back_ms(&self, context_ms: i64) -> i64 {
        let narrow = self.stations.values().flat_map(|n| n.quantities.values().chain(n.channels.values()));
        let stuck = self.channels.values().chain(narrow).filter_map(|o| o.stuck.flatten());
        let wide = self.quantities.iter().filter_map(|limits| limits.stuck);
        stuck.chain(wide).map(|stuck| stuck.after_ms + context_ms).max().unwrap_or(context_ms)
    }
}

impl Narrow {
    fn read(&mut self, path: &str, key: &str, value: &Value, wrong: &mut Vec<String>) {
        let path = format!("{path}.{key}");
        // What is wrong is named whatever the table is of.
        let overrides = match value {
            Value::Table(table) => overrides(&path, table, wrong),
            other => {
                wrong.push(format!("{path} = {other} is not a table with {}", KEYS.join(", ")));
                Overrides::default()
            }
        };
        if let Ok(quantity) = key.parse::<Quantity>() {
            self.quantities.insert(quantity, overrides);
        } else if let Ok(channel) = key.parse::<Channel>() {
            self.channels.insert(channel, overrides);
        } else {
            let known = Quantity::ALL.map(Quantity::name).join(", ");
            wrong.push(format!("{path} is not a quantity ({known}) or a channel like soil_moisture_20cm"));
        }
    }
}

fn overrides(path: &str, table: &Table, wrong: &mut Vec<String>) -> Overrides {
    let mut all = Overrides::default();
    for (key, value) in table {
        let read = match key.as_str() {
            "range" => range(value)
                .map(|range| all.range = Some(range))
                .ok_or("[least, greatest] in the quantity's unit, from -1e12 to 1e12"),
            "max_rate_per_hour" => or_off(value, |value| number(value).filter(|rate| *rate > 0.0))
                .map(|rate| all.max_rate_per_hour = Some(rate))
                .ok_or("above 0 in the quantity's unit per hour, or false"),
            "hampel" => or_off(value, hampel)
                .map(|hampel| all.hampel = Some(hampel))
                .ok_or("{ sigmas = above 0, floor = 0 or more in the quantity's unit }, or false"),
            "stuck" => or_off(value, stuck)
                .map(|stuck| all.stuck = Some(stuck))
                .ok_or("{ hours = above 0 and at most 72 }, or false"),
            _ => {
                wrong.push(format!("{path}.{key} is not known; known are {}", KEYS.join(", ")));
                continue;
            }
        };
        if let Err(expected) = read {
            wrong.push(format!("{path}.{key} = {value} is not {expected}"));
        }
    }
    all
}

/// `false` switches a filter off.
fn or_off<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
    if value.as_bool() == Some(false) { Some(None) } else { read(value).map(Some) }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) if number.is_finite() => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

fn range(value: &Value) -> Option<RangeInclusive<f64>> {
    let [least, greatest] = value.as_array()?.as_slice() else { return None };
    let (least, greatest) = (number(least)?, number(greatest)?);
    (-MOST_VALUE <= least && least < greatest && greatest <= MOST_VALUE).then_some(least..=greatest)
}

/// The numbers of a table with just these keys.
fn fields<const N: usize>(value: &Value, keys: [&str; N]) -> Option<[f64; N]> {
    let table = value.as_table().filter(|table| table.len() == N)?;
    let mut numbers = [0.0; N];
    for (slot, key) in numbers.iter_mut().zip(keys) {
        *slot = number(table.get(key)?)?;
    }
    Some(numbers)
}

fn hampel(value: &Value) -> Option<Hampel> {
    let [sigmas, floor] = fields(value, ["sigmas", "floor"])?;
    (sigmas > 0.0 && floor >= 0.0).then_some(Hampel { sigmas, floor })
}

fn stuck(value: &Value) -> Option<Stuck> {
    let [hours] = fields(value, ["hours"])?;
    (hours > 0.0 && hours <= MOST_STUCK_HOURS).then_some(Stuck { after_ms: (hours * 3_600_000.0).ceil() as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Filters, Vec<String>> {
        Filters::read(&text.parse().unwrap())
    }

    #[test]
    fn nothing_said_is_what_each_quantity_has() {
        let filters = read("").unwrap();
        for quantity in Quantity::ALL {
            assert_eq!(*filters.of(&"n1".parse().unwrap(), Channel::of(quantity)), Limits::of(quantity));
        }
        assert_eq!(filters.look_back_ms(3_600_000), 3_600_000);
    }

    #[test]
    fn the_narrowest_table_counts_key_by_key() {
        let filters = read(
            "[soil_moisture]\nrange = [0.02, 0.55]\nmax_rate_per_hour = 1\nstuck = { hours = 6 }\n\
             [soil_moisture_20cm]\nmax_rate_per_hour = false\n\
             [station.n7.soil_moisture]\nhampel = false\n\
             [station.n7.soil_moisture_20cm]\nrange = [0.1, 0.5]\nstuck = false\n\
             [rain]\nrange = [0, 30]\n",
        )
        .unwrap();
        let of = |station: &str, channel: &str| {
            Limits::clone(&filters.of(&station.parse().unwrap(), channel.parse().unwrap()))
        };
        let quantity = Limits {
            range: 0.02..=0.55,
            max_rate_per_hour: Some(1.0),
            stuck: Some(Stuck { after_ms: 6 * 3_600_000 }),
            ..Limits::of(Quantity::SoilMoisture)
        };
        assert_eq!(of("n1", "soil_moisture_60cm"), quantity);
        let channel = Limits { max_rate_per_hour: None, ..quantity.clone() };
        assert_eq!(of("n1", "soil_moisture_20cm"), channel);
        assert_eq!(of("n7", "soil_moisture_60cm"), Limits { hampel: None, ..quantity });
        assert_eq!(of("n7", "soil_moisture_20cm"), Limits { range: 0.1..=0.5, hampel: None, stuck: None, ..channel });
        assert_eq!(of("n7", "rain").range, 0.0..=30.0);
        assert_eq!(of("n7", "soil_ec_20cm"), Limits::of(Quantity::SoilEc));
        assert_eq!(filters.look_back_ms(3_600_000), 7 * 3_600_000);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let wrong = read(
            "rain = 5\n[station]\nn1 = 3\n[station.\"a b\".wind_speed]\nrange = [2, 1]\n\
             [soil_mosture]\nrange = [0, 1]\n[rssi]\nrange = [-1e13, 0]\n\
             [soil_moisture_20cm]\nrange = [0.1]\nmax_rate_per_hour = 0\nhampel = { sigmas = 3 }\nstuck = { hours = 100 }\nspeed = 1\n\
             [station.n2.battery]\nhampel = true\nmax_rate_per_hour = \"fast\"\n",
        )
        .map(|_| ());
        let wrong = wrong.unwrap_err();
        let expected = [
            "filters.rain = 5 is not a table with range, max_rate_per_hour, hampel, stuck",
            "filters.station.n1 = 3 is not a table",
            "filters.station.a b.wind_speed.range = [2, 1] is not [least, greatest]",
            "filters.station.a b is not of a station: ",
            "filters.soil_mosture is not a quantity (soil_moisture, ",
            "filters.rssi.range = [-10000000000000.0, 0] is not [least, greatest]",
            "filters.soil_moisture_20cm.range = [0.1] is not [least, greatest]",
            "filters.soil_moisture_20cm.max_rate_per_hour = 0 is not above 0",
            "filters.soil_moisture_20cm.hampel = { sigmas = 3 } is not { sigmas = above 0, floor",
            "filters.soil_moisture_20cm.stuck = { hours = 100 } is not { hours = above 0 and at most 72 }",
            "filters.soil_moisture_20cm.speed is not known; known are range, ",
            "filters.station.n2.battery.hampel = true is not { sigmas",
            "filters.station.n2.battery.max_rate_per_hour = \"fast\" is not above 0",
        ];
        assert_eq!(wrong.len(), expected.len(), "{wrong:#?}");
        for expected in expected {
            assert!(wrong.iter().any(|w| w.starts_with(expected)), "{expected}\n{wrong:#?}");
        }
    }
}
