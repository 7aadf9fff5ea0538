//! The soil under a station: what it is made of, its water ([`water`]), its heat ([`heat`]) and its salt.

pub mod curve;
pub mod heat;
pub mod pedotransfer;
pub mod richards;
pub mod solute;
pub mod thermal;
pub mod water;

use serde::{Deserialize, Serialize};

pub use heat::HeatColumn;
pub use water::{Demand, WaterColumn};

/// How many layers a station's soil has.
pub const LAYERS: usize = 16;
/// Their thickness, mm: two metres in all, thin where rain and sun work.
pub const THICKNESS_MM: [f64; LAYERS] =
    [10.0, 15.0, 25.0, 50.0, 60.0, 70.0, 80.0, 90.0, 110.0, 130.0, 150.0, 180.0, 220.0, 260.0, 270.0, 280.0];

/// A soil's texture class (USDA).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Texture {
    /// 80 % sand, 5 % clay.
    LoamySand,
    /// 65 % sand, 10 % clay.
    SandyLoam,
    /// 40 % sand, 20 % clay.
    Loam,
    /// 20 % sand, 15 % clay.
    SiltLoam,
    /// 60 % sand, 25 % clay.
    SandyClayLoam,
    /// 30 % sand, 35 % clay.
    ClayLoam,
    /// 10 % sand, 35 % clay.
    SiltyClayLoam,
}

/// How a soil holds and conducts water.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hydraulics {
    /// Water content at -1500 kPa, m3/m3.
    pub wilting_point: f64,
    /// Water content at -33 kPa, m3/m3.
    pub field_capacity: f64,
    /// Water content when all pores are full, m3/m3.
    pub saturation: f64,
    /// Conductivity when saturated, mm/h.
    pub saturated_conductivity_mm_h: f64,
}

impl Texture {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::LoamySand,
        Self::SandyLoam,
        Self::Loam,
        Self::SiltLoam,
        Self::SandyClayLoam,
        Self::ClayLoam,
        Self::SiltyClayLoam,
    ];

    /// Saxton and Rawls (2006), table 3: soils with 2.5 % organic matter, no salinity, gravel or compaction.
    #[must_use]
    pub const fn hydraulics(self) -> Hydraulics {
        let (wilting_point, field_capacity, saturation, saturated_conductivity_mm_h) = match self {
            Self::LoamySand => (0.05, 0.12, 0.46, 96.7),
            Self::SandyLoam => (0.08, 0.18, 0.45, 50.3),
            Self::Loam => (0.14, 0.28, 0.46, 15.5),
            Self::SiltLoam => (0.11, 0.31, 0.48, 16.1),
            Self::SandyClayLoam => (0.17, 0.27, 0.43, 11.3),
            Self::ClayLoam => (0.22, 0.36, 0.48, 4.3),
            Self::SiltyClayLoam => (0.22, 0.38, 0.51, 5.7),
        };
        Hydraulics { wilting_point, field_capacity, saturation, saturated_conductivity_mm_h }
    }

    /// Sand and clay, % by weight: those of the soils of table 3.
    #[must_use]
    pub const fn sand_clay_pct(self) -> (f64, f64) {
        match self {
            Self::LoamySand => (80.0, 5.0),
            Self::SandyLoam => (65.0, 10.0),
            Self::Loam => (40.0, 20.0),
            Self::SiltLoam => (20.0, 15.0),
            Self::SandyClayLoam => (60.0, 25.0),
            Self::ClayLoam => (30.0, 35.0),
            Self::SiltyClayLoam => (10.0, 35.0),
        }
    }

    /// Its name, as people write it: `sandy loam`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoamySand => "loamy sand",
            Self::SandyLoam => "sandy loam",
            Self::Loam => "loam",
            Self::SiltLoam => "silt loam",
            Self::SandyClayLoam => "sandy clay loam",
            Self::ClayLoam => "clay loam",
            Self::SiltyClayLoam => "silty clay loam",
        }
    }
}

impl Hydraulics {
    /// The slope of the retention curve between -33 and -1500 kPa on logarithmic scales. Saxton and Rawls (2006) eq. 15.
    fn slope(&self) -> f64 {
        (1500f64.ln() - 33f64.ln()) / (self.field_capacity.ln() - self.wilting_point.ln())
    }

    /// A soil a little different: all water contents times `contents`, conductivity times `conductivity`.
    #[must_use]
    pub fn scaled(&self, contents: f64, conductivity: f64) -> Self {
        Self {
            wilting_point: self.wilting_point * contents,
            field_capacity: self.field_capacity * contents,
            saturation: (self.saturation * contents).min(0.6),
            saturated_conductivity_mm_h: self.saturated_conductivity_mm_h * conductivity,
        }
    }
}

/// Bulk electrical conductivity of soil at 25 Cel, dS/m, from its water content and the conductivity of that water.
///
/// Rhoades et al. (1976): the water's conductivity, times the water content, times a transmission that grows with it (here
/// 1.382 w - 0.093, theirs for a fine sandy loam), plus 0.18 dS/m of the particles' surfaces. Salt is held constant in the
/// water: what evaporates and what washes out is not simulated.
#[must_use]
pub fn bulk_ec_ds_m(water_content: f64, water_ec_ds_m: f64) -> f64 {
    let transmission = (1.382 * water_content - 0.093).max(0.0);
    water_ec_ds_m * water_content * transmission + 0.18
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salt_conducts_more_in_wet_soil() {
        assert!(bulk_ec_ds_m(0.3, 2.0) > bulk_ec_ds_m(0.2, 2.0));
        assert_eq!(bulk_ec_ds_m(0.05, 2.0), 0.18);
    }

    #[test]
    fn textures_hold_more_from_wilting_to_saturation() {
        for texture in Texture::ALL {
            let h = texture.hydraulics();
            assert!(h.wilting_point < h.field_capacity && h.field_capacity < h.saturation, "{texture:?}");
        }
    }
}
