//! A simulated station's power, when the configuration asks for it: its battery, and when it is off.

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use super::outlook::Forecast;
use super::plan::Cycle;
use super::solar::{Bounds, Solar, outside};
use super::turns::{Policy, Turns, TurnsState};
use super::{Chemistry, Load, Supply, SupplyConfig};
use crate::radio::RadioConfig;
use crate::sun::Place;
use crate::weather::Conditions;

/// What is allowed of a station's panel and battery.
const BOUNDS: Bounds = Bounds {
    panel_w: (0.0, 100.0, "0 to 100 W"),
    battery_wh: (0.1, 1000.0, "0.1 to 1000 Wh"),
    cells: (1.0, 12.0, "1 to 12"),
};

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
    /// How long a report is on air, s; 0 to 60. Without it as long as the radio's report is when nothing is lost.
    pub air_s: Option<f64>,
    /// Whether it plans its reports by the energy that is forecast, at most one each `report_s`. Otherwise there is one each `report_s`.
    pub planned: bool,
    /// Share of the battery that a plan keeps back for when the forecast is wrong, 0 to 1.
    pub reserve: f64,
    /// The longest time between two reports that is planned, s; `report_s` to 86400.
    pub most_gap_s: u32,
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
            air_s: None,
            planned: false,
            reserve: 0.3,
            most_gap_s: 6 * 3600,
        }
    }
}

impl EnergyConfig {
    /// What is wrong with it: key, value and what is allowed.
    pub(crate) fn problems(&self, report_s: u32) -> Vec<(&'static str, f64, &'static str)> {
        // Without a plan there is no longest gap.
        let least_gap_s = if self.planned { f64::from(report_s) } else { 0.0 };
        let own = [
            ("sleep_w", self.sleep_w, (0.0, 1.0, "0 to 1 W")),
            ("sample_j", self.sample_j, (0.0, 10.0, "0 to 10 J")),
            ("air_s", self.air_s.unwrap_or_default(), (0.0, 60.0, "0 to 60 s")),
            ("reserve", self.reserve, (0.0, 1.0, "0 to 1")),
            ("most_gap_s", f64::from(self.most_gap_s), (least_gap_s, 86_400.0, "report_s to 86400 s")),
        ];
        [self.solar().problems(&BOUNDS), outside(&own)].concat()
    }

    /// What it is powered by.
    #[must_use]
    pub fn solar(&self) -> Solar {
        let Self { panel_w, tilt_deg, shaded, battery, battery_wh, cells, age_years, charge, .. } = *self;
        Solar { panel_w, tilt_deg, shaded, battery, battery_wh, cells, age_years, charge }
    }

    /// The longest time between two reports while there is power, s.
    #[must_use]
    pub fn longest_gap_s(&self, report_s: u32) -> u32 {
        if self.planned { self.most_gap_s.max(report_s) } else { report_s }
    }

    /// The supply, with a panel that gives `of_panel` times as much.
    pub(crate) fn supply(&self, of_panel: f64) -> SupplyConfig {
        self.solar().supply(&SupplyConfig::station(), of_panel)
    }
}

/// A station's power.
#[derive(Debug, Clone)]
pub struct Power {
    turns: Turns,
    /// The last sample was not taken, because there was no power.
    missed: bool,
    /// A report is due with the next sample; only where reports are planned.
    due: bool,
}

/// What changes in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerState {
    turns: TurnsState,
    missed: bool,
    due: bool,
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
    /// The power of a station at a place that samples and reports so often (s) by such a radio, with a panel that gives `of_panel` times as
    /// much as is configured.
    #[must_use]
    pub fn new(
        config: &EnergyConfig,
        radio: &RadioConfig,
        place: Place,
        of_panel: f64,
        (sample_s, report_s): (u32, u32),
    ) -> Self {
        let EnergyConfig { sleep_w, sample_j, .. } = *config;
        let load = Load { sleep_w, sample_j, transmit_w: radio.transmit_w(), ..Load::station() };
        let air_s = config.air_s.unwrap_or_else(|| radio.air_s());
        let asleep_w = load.sleep_w + load.sample_j * f64::from(load.probes) / f64::from(sample_s);
        let on_s = air_s + load.listen_s;
        let cycle = Cycle {
            on_w: asleep_w + load.report_j(air_s) / on_s,
            off_w: asleep_w,
            on_s,
            most_gap_s: f64::from(config.longest_gap_s(report_s)),
        };
        let policy = match config.planned {
            true => Policy::Planned { reserve: config.reserve, least_gap_s: f64::from(report_s) },
            false => Policy::Fixed(f64::from(report_s)),
        };
        let turns = Turns::new(&config.supply(of_panel), &cycle, policy, place, config.charge);
        Self { turns, missed: false, due: false }
    }

    /// Plans its reports by a forecast, where they are planned.
    pub fn plan(&mut self, forecast: &Forecast) {
        self.turns.plan(forecast);
    }

    /// Goes on by a step.
    pub fn step(&mut self, start: Timestamp, hours: f64, conditions: &Conditions) {
        let reports = self.turns.begin(hours * 3600.0);
        self.due |= reports > 0 && self.turns.is_planned();
        self.turns.end(start, hours, conditions);
    }

    /// Asks for a sample.
    pub fn wake(&mut self) -> Wake {
        let off = !self.supply().is_on();
        let before = std::mem::replace(&mut self.missed, off);
        match (before, self.missed) {
            (_, true) => Wake::Off,
            (true, false) => Wake::Boots,
            (false, false) => Wake::Takes,
        }
    }

    /// Whether a report goes out after the sample at hand; none where reports are not planned.
    pub fn report(&mut self) -> Option<bool> {
        self.turns.is_planned().then(|| std::mem::take(&mut self.due))
    }

    /// The supply.
    #[must_use]
    pub fn supply(&self) -> &Supply {
        self.turns.supply()
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> PowerState {
        PowerState { turns: self.turns.state(), missed: self.missed, due: self.due }
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: PowerState) {
        self.turns.restore(state.turns);
        (self.missed, self.due) = (state.missed, state.due);
    }
}
