//! The base station on the field: it gathers what the stations around it send, sleeps, and hands it over TV white space to the farmhouse.
//!
//! As FarmBeats' (Vasisht et al. 2017): two solar panels of 60 W, four lead-acid batteries of 12 V and 44 Ah, a radio for TV white
//! space, Wi-Fi for the sensors and a small computer, switched on and off as [`crate::energy::plan`] decides. What they take is not in
//! the paper: it is what such parts take by their data sheets.
//!
//! In a farm that runs, the stations behind it reach the gateway while it is on and its way to the farmhouse is open; what they
//! measure in between waits in their rings. It is on for whole steps of the soil.

use proto::{FieldId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::energy::outlook::Outlook;
use crate::energy::plan::Cycle;
use crate::energy::solar::{Bounds, Solar};
use crate::energy::turns::{Policy, Turns, TurnsState};
use crate::energy::{Chemistry, Supply, SupplyConfig};
use crate::farm::STEP_S;
use crate::field::FieldConfig;
use crate::radio::outage::Fading;
use crate::radio::{Link, backhaul};
use crate::station::distance_m;
use crate::sun::Place;
use crate::weather::{Conditions, Weather};

/// On: some 16 W of the radio, 5 W of the Wi-Fi and 4 W of the computer; off: the switch and its clock. It is on for five minutes at least: two
/// for starting and association, and three to take over and hand on.
pub const CYCLE: Cycle = Cycle { on_w: 25.0, off_w: 0.3, on_s: 300.0, most_gap_s: 6.0 * 3600.0 };

/// A third of the batteries is kept back for when the forecast is wrong: lead acid that is emptied does not last.
pub const RESERVE: f64 = 0.35;

/// Planned by the forecast.
pub const PLANNED: Policy = Policy::Planned { reserve: RESERVE, least_gap_s: CYCLE.on_s };

/// The longest on-time and the longest gap, s.
const MOST_ON_S: u32 = 3600;
const MOST_GAP_S: u32 = 86_400;

/// What is allowed of its panel and battery.
const BOUNDS: Bounds = Bounds {
    panel_w: (0.0, 10_000.0, "0 to 10000 W"),
    battery_wh: (1.0, 100_000.0, "1 to 100000 Wh"),
    cells: (1.0, 24.0, "1 to 24"),
};

/// `[farm.base_station]`: what stands between stations and gateway. Without it stations reach the gateway by themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaseStationConfig {
    /// The fields whose stations are behind it; all when none is named.
    pub fields: Vec<FieldId>,
    /// Degrees north and east; without them the mean of its fields' middles.
    pub latitude: Option<f64>,
    /// See `latitude`.
    pub longitude: Option<f64>,
    /// Power of the panel at standard test conditions, W; 0 to 10000.
    pub panel_w: f64,
    /// Its tilt towards the equator, degrees; 0 to 90.
    pub tilt_deg: f64,
    /// Share of the light that something else takes, 0 to 1.
    pub shaded: f64,
    /// What the battery is made of.
    pub battery: Chemistry,
    /// What it holds when new, Wh; 1 to 100000.
    pub battery_wh: f64,
    /// Its cells in series; 1 to 24.
    pub cells: u32,
    /// Its age at the beginning, years; 0 to 20.
    pub age_years: f64,
    /// Its charge at the beginning, 0 to 1.
    pub charge: f64,
    /// What it takes while it is on, W; above `off_w` and up to 1000.
    pub on_w: f64,
    /// What it takes while it is off, W; 0 to 100.
    pub off_w: f64,
    /// How long it is on each time, s; a multiple of 300 up to 3600.
    pub on_s: u32,
    /// A fixed duty cycle: time between the beginnings of two on-times, s; `on_s` to 86400. Without it the forecast decides.
    pub gap_s: Option<u32>,
    /// The longest time between two on-times that is planned, s; `on_s` to 86400.
    pub most_gap_s: u32,
    /// Share of the battery that a plan keeps back for when the forecast is wrong, 0 to 1.
    pub reserve: f64,
}

impl Default for BaseStationConfig {
    /// [`SupplyConfig::base_station`] and [`CYCLE`], planned by the forecast, for all stations.
    fn default() -> Self {
        let SupplyConfig { panel, battery, .. } = SupplyConfig::base_station();
        Self {
            fields: Vec::new(),
            latitude: None,
            longitude: None,
            panel_w: 120.0,
            tilt_deg: panel.tilt_deg,
            shaded: panel.shaded,
            battery: battery.chemistry,
            battery_wh: battery.capacity_wh,
            cells: battery.cells,
            age_years: battery.age_years,
            charge: 0.9,
            on_w: CYCLE.on_w,
            off_w: CYCLE.off_w,
            on_s: CYCLE.on_s as u32,
            gap_s: None,
            most_gap_s: CYCLE.most_gap_s as u32,
            reserve: RESERVE,
        }
    }
}

impl BaseStationConfig {
    /// What is wrong with it, beside the fields' names: key, value and what is allowed.
    pub(crate) fn problems(&self, gateway: &Place) -> Vec<(&'static str, String, String)> {
        let on_s = f64::from(self.on_s);
        let (gap_s, most_gap_s) = (self.gap_s.unwrap_or(MOST_GAP_S), f64::from(self.most_gap_s));
        let near = |value: Option<f64>, of: f64| value.is_none_or(|value| (value - of).abs() <= 1.0);
        let shown = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let step_s = STEP_S as u32;
        let whole = (step_s..=MOST_ON_S).contains(&self.on_s) && self.on_s.is_multiple_of(step_s);
        let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
        let checks = [
            ("latitude", shown(self.latitude), near(self.latitude, gateway.latitude), "within a degree of the gateway"),
            (
                "longitude",
                shown(self.longitude),
                near(self.longitude, gateway.longitude),
                "within a degree of the gateway",
            ),
            ("off_w", self.off_w.to_string(), within(self.off_w, 0.0, 100.0), "0 to 100 W"),
            (
                "on_w",
                self.on_w.to_string(),
                self.on_w > self.off_w && self.on_w <= 1000.0,
                "above off_w and up to 1000 W",
            ),
            ("on_s", self.on_s.to_string(), whole, "a multiple of 300 up to 3600 s"),
            ("gap_s", gap_s.to_string(), within(f64::from(gap_s), on_s, f64::from(MOST_GAP_S)), "on_s to 86400 s"),
            (
                "most_gap_s",
                self.most_gap_s.to_string(),
                within(most_gap_s, on_s, f64::from(MOST_GAP_S)),
                "on_s to 86400 s",
            ),
            ("reserve", self.reserve.to_string(), within(self.reserve, 0.0, 1.0), "0 to 1"),
        ];
        let solar = self.solar().problems(&BOUNDS);
        let solar = solar.into_iter().map(|(key, value, allowed)| (key, value.to_string(), allowed.to_owned()));
        let wrong = checks.into_iter().filter(|(_, _, holds, _)| !holds);
        solar.chain(wrong.map(|(key, value, _, allowed)| (key, value, allowed.to_owned()))).collect()
    }

    /// What it is powered by.
    #[must_use]
    pub fn solar(&self) -> Solar {
        let Self { panel_w, tilt_deg, shaded, battery, battery_wh, cells, age_years, charge, .. } = *self;
        Solar { panel_w, tilt_deg, shaded, battery, battery_wh, cells, age_years, charge }
    }

    /// Whether the stations of a field are behind it.
    #[must_use]
    pub fn serves(&self, field: &FieldId) -> bool {
        self.fields.is_empty() || self.fields.contains(field)
    }

    /// Where it stands on a farm with these fields.
    #[must_use]
    pub fn place(&self, gateway: &Place, fields: &[FieldConfig]) -> Place {
        let served: Vec<&FieldConfig> = fields.iter().filter(|field| self.serves(&field.id)).collect();
        let mean = |of: fn(&FieldConfig) -> f64| {
            served.iter().map(|field| of(field)).sum::<f64>() / served.len().max(1) as f64
        };
        Place {
            latitude: self.latitude.unwrap_or_else(|| mean(|field| field.latitude)),
            longitude: self.longitude.unwrap_or_else(|| mean(|field| field.longitude)),
            ..*gateway
        }
    }

    /// The longest time between the beginnings of two on-times while there is power, s.
    #[must_use]
    pub fn longest_gap_s(&self) -> u32 {
        self.gap_s.unwrap_or(self.most_gap_s)
    }

    /// Its panel, controller and battery.
    #[must_use]
    pub fn supply(&self) -> SupplyConfig {
        self.solar().supply(&SupplyConfig::base_station(), 1.0)
    }

    /// What it takes and for how long.
    #[must_use]
    pub fn cycle(&self) -> Cycle {
        let (on_s, most_gap_s) = (f64::from(self.on_s), f64::from(self.most_gap_s));
        Cycle { on_w: self.on_w, off_w: self.off_w, on_s, most_gap_s }
    }

    /// When it is on.
    #[must_use]
    pub fn policy(&self) -> Policy {
        match self.gap_s {
            Some(gap_s) => Policy::Fixed(f64::from(gap_s)),
            None => Policy::Planned { reserve: self.reserve, least_gap_s: f64::from(self.on_s) },
        }
    }
}

/// Why a base station hands nothing on. When there was more than one reason in turn, the later of these is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It is not its time.
    DutyCycle,
    /// It is on, but its way to the farmhouse is out.
    Link,
    /// Its battery is empty.
    Power,
}

/// A time in which a base station handed nothing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OffTime {
    /// The first moment of it.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
    /// Why.
    pub cause: Cause,
}

/// A base station at a moment.
#[derive(Debug, Clone)]
pub struct BaseStation {
    turns: Turns,
    /// Only where it plans.
    outlook: Option<Outlook>,
    link: Link,
    fading: Fading,
    /// How many stations share its way to the farmhouse.
    stations: u32,
    off: Option<(Timestamp, Cause)>,
    rate_bit_s: f64,
    over: Vec<OffTime>,
}

/// What changes in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseStationState {
    turns: TurnsState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    off_since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    rate_bit_s: f64,
}

impl BaseStation {
    /// The base station of a farm, at a place, for so many stations.
    #[must_use]
    pub fn new(config: &BaseStationConfig, place: Place, weather: &Weather, seed: u64, stations: u32) -> Self {
        let (supply, policy) = (config.supply(), config.policy());
        let planned = matches!(policy, Policy::Planned { .. });
        let gateway = weather.place();
        Self {
            turns: Turns::new(&supply, &config.cycle(), policy, *gateway, config.charge),
            outlook: planned.then(|| Outlook::new(weather, &supply, seed)),
            link: backhaul::fixed_device(distance_m(place.latitude, place.longitude, gateway)),
            fading: Fading::new(seed, "base station"),
            stations: stations.max(1),
            off: None,
            rate_bit_s: 0.0,
            over: Vec::new(),
        }
    }

    /// Begins a step at `start`, in whose middle the weather is this.
    pub fn begin(&mut self, start: Timestamp, conditions: &Conditions) {
        if let Some(outlook) = self.outlook.as_mut().filter(|_| start.as_millis().rem_euclid(3_600_000) == 0) {
            self.turns.plan(&outlook.at(start));
        }
        self.turns.begin(STEP_S as f64);
        self.rate_bit_s = backhaul::rate_bit_s(&self.link, conditions, self.fading.at(start));
        let cause = match () {
            () if !self.turns.supply().is_on() => Some(Cause::Power),
            () if !self.turns.is_transferring() => Some(Cause::DutyCycle),
            () if self.rate_bit_s <= 0.0 => Some(Cause::Link),
            () => None,
        };
        self.off = match (self.off, cause) {
            (None, cause) => cause.map(|cause| (start, cause)),
            (Some((since, before)), Some(cause)) => Some((since, before.max(cause))),
            (Some(_), None) => {
                self.over.extend(self.off_until(start));
                None
            }
        };
    }

    /// Ends the step that began at `start`.
    pub fn end(&mut self, start: Timestamp, hours: f64, conditions: &Conditions) {
        self.turns.end(start, hours, conditions);
    }

    /// Whether it hands on what the stations send, in the step at hand.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.off.is_none()
    }

    /// What a station has of its way to the farmhouse, bit/s.
    #[must_use]
    pub fn share_bit_s(&self) -> f64 {
        self.rate_bit_s / f64::from(self.stations)
    }

    /// The off-time at hand, were it over now.
    #[must_use]
    pub fn off_until(&self, end: Timestamp) -> Option<OffTime> {
        self.off.filter(|(start, _)| *start < end).map(|(start, cause)| OffTime { start, end, cause })
    }

    /// The off-times that were over since the last call.
    pub fn take_off_times(&mut self) -> Vec<OffTime> {
        std::mem::take(&mut self.over)
    }

    /// Its power.
    #[must_use]
    pub fn supply(&self) -> &Supply {
        self.turns.supply()
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> BaseStationState {
        BaseStationState {
            turns: self.turns.state(),
            off_since: self.off.map(|(since, _)| since),
            cause: self.off.map(|(_, cause)| cause),
            rate_bit_s: self.rate_bit_s,
        }
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: BaseStationState) {
        self.turns.restore(state.turns);
        self.off = state.off_since.zip(state.cause);
        self.rate_bit_s = state.rate_bit_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_farmbeats() {
        let config = BaseStationConfig::default();
        let (supply, expected) = (config.supply(), SupplyConfig::base_station());
        assert!((supply.panel.area_m2 - expected.panel.area_m2).abs() < 1e-12);
        assert_eq!(SupplyConfig { panel: expected.panel, ..supply }, expected);
        assert_eq!((config.cycle(), config.policy()), (CYCLE, PLANNED));
    }
}
