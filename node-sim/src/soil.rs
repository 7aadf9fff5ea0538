//! Soil: what it is made of and what follows from it ([`pedotransfer`], [`curve`]), how water moves in it ([`richards`]), heat
//! ([`thermal`]) and what is dissolved ([`solute`]). [`crate::ground`] puts them together.

pub mod curve;
pub mod pedotransfer;
pub mod richards;
pub mod solute;
pub mod thermal;

use serde::{Deserialize, Serialize};

use pedotransfer::Composition;

/// How many layers a station's soil has.
pub const LAYERS: usize = 16;
/// Their thickness, mm: two metres in all, thin where rain and sun work.
pub const THICKNESS_MM: [f64; LAYERS] =
    [10.0, 15.0, 25.0, 50.0, 60.0, 70.0, 80.0, 90.0, 110.0, 130.0, 150.0, 180.0, 220.0, 260.0, 270.0, 280.0];

/// A soil's texture class (USDA).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Texture {
    /// 88 % sand, 5 % clay.
    Sand,
    /// 80 % sand, 5 % clay.
    LoamySand,
    /// 65 % sand, 10 % clay.
    SandyLoam,
    /// 40 % sand, 20 % clay.
    Loam,
    /// 20 % sand, 15 % clay.
    SiltLoam,
    /// 10 % sand, 5 % clay.
    Silt,
    /// 60 % sand, 25 % clay.
    SandyClayLoam,
    /// 30 % sand, 35 % clay.
    ClayLoam,
    /// 10 % sand, 35 % clay.
    SiltyClayLoam,
    /// 50 % sand, 40 % clay.
    SandyClay,
    /// 10 % sand, 45 % clay.
    SiltyClay,
    /// 25 % sand, 50 % clay.
    Clay,
}

/// Organic matter of the fields' soils, %.
const ORGANIC_MATTER_PCT: f64 = 2.5;

impl Texture {
    /// Every class.
    pub const ALL: [Self; 12] = [
        Self::Sand,
        Self::LoamySand,
        Self::SandyLoam,
        Self::Loam,
        Self::SiltLoam,
        Self::Silt,
        Self::SandyClayLoam,
        Self::ClayLoam,
        Self::SiltyClayLoam,
        Self::SandyClay,
        Self::SiltyClay,
        Self::Clay,
    ];

    /// Sand and clay in the middle of the class as Saxton and Rawls (2006) table 3 has it, % by weight.
    #[must_use]
    pub const fn sand_clay_pct(self) -> (f64, f64) {
        match self {
            Self::Sand => (88.0, 5.0),
            Self::LoamySand => (80.0, 5.0),
            Self::SandyLoam => (65.0, 10.0),
            Self::Loam => (40.0, 20.0),
            Self::SiltLoam => (20.0, 15.0),
            Self::Silt => (10.0, 5.0),
            Self::SandyClayLoam => (60.0, 25.0),
            Self::ClayLoam => (30.0, 35.0),
            Self::SiltyClayLoam => (10.0, 35.0),
            Self::SandyClay => (50.0, 40.0),
            Self::SiltyClay => (10.0, 45.0),
            Self::Clay => (25.0, 50.0),
        }
    }

    /// What such a soil is made of, with 2.5 % organic matter.
    #[must_use]
    pub const fn composition(self) -> Composition {
        let (sand_pct, clay_pct) = self.sand_clay_pct();
        Composition { sand_pct, clay_pct, organic_matter_pct: ORGANIC_MATTER_PCT }
    }

    /// Its name, as people write it: `sandy loam`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sand => "sand",
            Self::LoamySand => "loamy sand",
            Self::SandyLoam => "sandy loam",
            Self::Loam => "loam",
            Self::SiltLoam => "silt loam",
            Self::Silt => "silt",
            Self::SandyClayLoam => "sandy clay loam",
            Self::ClayLoam => "clay loam",
            Self::SiltyClayLoam => "silty clay loam",
            Self::SandyClay => "sandy clay",
            Self::SiltyClay => "silty clay",
            Self::Clay => "clay",
        }
    }
}

/// Bulk electrical conductivity of soil at 25 Cel, dS/m, from its water content and the conductivity of that water.
///
/// Rhoades et al. (1976): the water's conductivity, times the water content, times a transmission that grows with it (here
/// 1.382 w - 0.093, theirs for a fine sandy loam), plus 0.18 dS/m of the particles' surfaces.
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
}
