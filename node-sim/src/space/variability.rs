//! How much a field's ground varies, and over what distance: what a configuration says of it.

use serde::{Deserialize, Serialize};

/// How texture and height vary within a field.
///
/// The defaults are an assumption for alluvial farmland, within what surveys find (Mulla and McBratney 2002: coefficients of variation of
/// sand and clay contents of some 10 to 50 %, ranges of tens to hundreds of metres).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Variability {
    /// Standard deviation of the sand content, % by weight; 0 to 20.
    pub sand_sd_pct: f64,
    /// Standard deviation of the clay content, % by weight; 0 to 12.
    pub clay_sd_pct: f64,
    /// Distance at which the texture's correlation has fallen to a twentieth, m; 5 to 5000.
    pub range_m: f64,
    /// Share of the texture's variance that two points next to each other do not share; 0 to 0.9.
    pub nugget_share: f64,
    /// Standard deviation of the height around the tilted plane, m; 0 to 50.
    pub relief_sd_m: f64,
    /// Distance at which the relief's correlation has fallen to a twentieth, m; 50 to 20000.
    pub relief_range_m: f64,
    /// Slope of the plane, %; 0 to 30.
    pub tilt_pct: f64,
    /// Where the plane goes down, degrees clockwise from north; 0 to 360.
    pub tilt_towards_degrees: f64,
}

impl Default for Variability {
    fn default() -> Self {
        Self {
            sand_sd_pct: 7.0,
            clay_sd_pct: 4.0,
            range_m: 180.0,
            nugget_share: 0.1,
            relief_sd_m: 0.8,
            relief_range_m: 600.0,
            tilt_pct: 0.4,
            tilt_towards_degrees: 20.0,
        }
    }
}

impl Variability {
    /// What is out of its bounds: key, value and what is allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, f64, String)> {
        [
            ("sand_sd_pct", self.sand_sd_pct, 0.0, 20.0, "%"),
            ("clay_sd_pct", self.clay_sd_pct, 0.0, 12.0, "%"),
            ("range_m", self.range_m, 5.0, 5000.0, "m"),
            ("nugget_share", self.nugget_share, 0.0, 0.9, ""),
            ("relief_sd_m", self.relief_sd_m, 0.0, 50.0, "m"),
            ("relief_range_m", self.relief_range_m, 50.0, 20_000.0, "m"),
            ("tilt_pct", self.tilt_pct, 0.0, 30.0, "%"),
            ("tilt_towards_degrees", self.tilt_towards_degrees, 0.0, 360.0, "degrees"),
        ]
        .into_iter()
        .filter(|(_, value, low, high, _)| !(low..=high).contains(&value))
        .map(|(key, value, low, high, unit)| (key, value, format!("{low} to {high} {unit}").trim_end().to_owned()))
        .collect()
    }
}
