//! A simulated station's power, when the configuration asks for it: its battery, and when it is off.

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Battery, Chemistry, Controller, Load, Panel, Supply, SupplyConfig};
use crate::sun::Place;
use crate::weather::Conditions;

/// `[farm.energy]`: what every station is powered by. Without it stations have a battery that never ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnergyConfig {
    /// Power of the panel at standard test conditions, W; 0 to 100.
    pub panel_w: f64,
    /// Its tilt towards the equator, degrees; 0 to 90.
    pub tilt_deg: f64,
    /// Share of the light that something else takes, 0 to 1.
    pub shaded: f64,
    /// What the battery is made of.
    pub battery: Chemistry,
    /// What it holds when new, Wh; 0.1 to 1000.
    pub battery_wh: f64,
    /// Its cells in series; 1 to 12.
    pub cells: u32,
    /// Its age at the beginning, years; 0 to 20.
    pub age_years: f64,
    /// Its charge at the beginning, 0 to 1.
    pub charge: f64,
    /// Asleep, W; 0 to 1.
    pub sleep_w: f64,
    /// For each of the probes that a sample reads, J; 0 to 10.
    pub sample_j: f64,
    /// How long a report is on air, s; 0 to 60.
    pub air_s: f64,
}

impl Default for EnergyConfig {
    /// [`SupplyConfig::station`] and [`Load::station`].
    fn default() -> Self {
        let SupplyConfig { panel, battery, .. } = SupplyConfig::station();
        let load = Load::station();
        Self {
            panel_w: 1.0,
            tilt_deg: panel.tilt_deg,
            shaded: 0.0,
            battery: battery.chemistry,
            battery_wh: battery.capacity_wh,
            cells: battery.cells,
            age_years: battery.age_years,
            charge: 0.85,
            sleep_w: load.sleep_w,
            sample_j: load.sample_j,
            air_s: 1.1,
        }
    }
}

impl EnergyConfig {
    /// What is wrong with it: key, value and what is allowed.
    pub(crate) fn problems(&self) -> Vec<(&'static str, f64, &'static str)> {
        let within = [
            ("panel_w", self.panel_w, 0.0, 100.0, "0 to 100 W"),
            ("tilt_deg", self.tilt_deg, 0.0, 90.0, "0 to 90 degrees"),
            ("shaded", self.shaded, 0.0, 1.0, "0 to 1"),
            ("battery_wh", self.battery_wh, 0.1, 1000.0, "0.1 to 1000 Wh"),
            ("cells", f64::from(self.cells), 1.0, 12.0, "1 to 12"),
            ("age_years", self.age_years, 0.0, 20.0, "0 to 20 years"),
            ("charge", self.charge, 0.0, 1.0, "0 to 1"),
            ("sleep_w", self.sleep_w, 0.0, 1.0, "0 to 1 W"),
            ("sample_j", self.sample_j, 0.0, 10.0, "0 to 10 J"),
            ("air_s", self.air_s, 0.0, 60.0, "0 to 60 s"),
        ];
        let wrong = within.into_iter().filter(|(_, value, low, high, _)| !(*low..=*high).contains(value));
        wrong.map(|(key, value, _, _, allowed)| (key, value, allowed)).collect()
    }

    /// The supply, with a panel that gives `of_panel` times as much.
    fn supply(&self, of_panel: f64) -> SupplyConfig {
        let SupplyConfig { panel, controller, .. } = SupplyConfig::station();
        let area_m2 = self.panel_w * of_panel / (1000.0 * panel.efficiency);
        SupplyConfig {
            panel: Panel { area_m2, tilt_deg: self.tilt_deg, shaded: self.shaded, ..panel },
            controller: Controller { ..controller },
            battery: Battery {
                chemistry: self.battery,
                capacity_wh: self.battery_wh,
                cells: self.cells,
                age_years: self.age_years,
            },
        }
    }
}

/// A station's power.
#[derive(Debug, Clone)]
pub struct Power {
    config: SupplyConfig,
    load_w: f64,
    place: Place,
    state: PowerState,
}

/// What changes in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerState {
    supply: Supply,
    /// The last sample was not taken, because there was no power.
    missed: bool,
}

/// Whether a sample is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// As always.
    Takes,
    /// The first since the power was away: the node has booted.
    Boots,
    /// There is no power.
    Off,
}

impl Power {
    /// The power of a station at a place that samples and reports so often, with a panel that gives `of_panel` times as much as
    /// is configured.
    #[must_use]
    pub fn new(config: &EnergyConfig, place: Place, of_panel: f64, sample_s: u32, report_s: u32) -> Self {
        let load = Load { sleep_w: config.sleep_w, sample_j: config.sample_j, ..Load::station() };
        let supply = config.supply(of_panel);
        Self {
            load_w: load.mean_w(f64::from(sample_s), f64::from(report_s), config.air_s),
            state: PowerState { supply: Supply::new(&supply, config.charge), missed: false },
            config: supply,
            place,
        }
    }

    /// Goes on by a step.
    pub fn step(&mut self, start: Timestamp, hours: f64, conditions: &Conditions) {
        self.state.supply.step(&self.config, &self.place, start, hours, conditions, self.load_w);
    }

    /// Asks for a sample.
    pub fn wake(&mut self) -> Wake {
        let before = std::mem::replace(&mut self.state.missed, !self.state.supply.is_on());
        match (before, self.state.missed) {
            (_, true) => Wake::Off,
            (true, false) => Wake::Boots,
            (false, false) => Wake::Takes,
        }
    }

    /// The supply.
    #[must_use]
    pub fn supply(&self) -> &Supply {
        &self.state.supply
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> PowerState {
        self.state
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: PowerState) {
        self.state = state;
    }
}
