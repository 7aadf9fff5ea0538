//! The keys of a configuration that say what something is powered by: a station's and a base station's have the same.

use super::{Battery, Chemistry, Panel, SupplyConfig};

/// A panel and a battery as a configuration has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solar {
    /// Power of the panel at standard test conditions, W.
    pub panel_w: f64,
    /// Its tilt towards the equator, degrees; 0 to 90.
    pub tilt_deg: f64,
    /// Share of the light that something else takes, 0 to 1.
    pub shaded: f64,
    /// What the battery is made of.
    pub battery: Chemistry,
    /// What it holds when new, Wh.
    pub battery_wh: f64,
    /// Its cells in series.
    pub cells: u32,
    /// Its age at the beginning, years; 0 to 20.
    pub age_years: f64,
    /// Its charge at the beginning, 0 to 1.
    pub charge: f64,
}

/// What is allowed of a number: from, to, and both in words.
pub(crate) type Allowed = (f64, f64, &'static str);

/// What is allowed where it depends on what is powered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub panel_w: Allowed,
    pub battery_wh: Allowed,
    pub cells: Allowed,
}

impl Solar {
    /// What is wrong with it: key, value and what is allowed.
    pub(crate) fn problems(&self, bounds: &Bounds) -> Vec<(&'static str, f64, &'static str)> {
        outside(&[
            ("panel_w", self.panel_w, bounds.panel_w),
            ("tilt_deg", self.tilt_deg, (0.0, 90.0, "0 to 90 degrees")),
            ("shaded", self.shaded, (0.0, 1.0, "0 to 1")),
            ("battery_wh", self.battery_wh, bounds.battery_wh),
            ("cells", f64::from(self.cells), bounds.cells),
            ("age_years", self.age_years, (0.0, 20.0, "0 to 20 years")),
            ("charge", self.charge, (0.0, 1.0, "0 to 1")),
        ])
    }

    /// The supply, whose other parts are as in `parts`, with a panel that gives `of_panel` times as much.
    pub(crate) fn supply(&self, parts: &SupplyConfig, of_panel: f64) -> SupplyConfig {
        let area_m2 = self.panel_w * of_panel / (1000.0 * parts.panel.efficiency);
        SupplyConfig {
            panel: Panel { area_m2, tilt_deg: self.tilt_deg, shaded: self.shaded, ..parts.panel },
            controller: parts.controller,
            battery: Battery {
                chemistry: self.battery,
                capacity_wh: self.battery_wh,
                cells: self.cells,
                age_years: self.age_years,
            },
        }
    }
}

/// Those of some numbers that are not allowed: key, value and what is.
pub(crate) fn outside(numbers: &[(&'static str, f64, Allowed)]) -> Vec<(&'static str, f64, &'static str)> {
    let wrong = numbers.iter().filter(|(_, value, (low, high, _))| !(*low..=*high).contains(value));
    wrong.map(|(key, value, (_, _, allowed))| (*key, *value, *allowed)).collect()
}
