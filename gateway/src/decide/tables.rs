//! What is known of crops and soils from the literature.

use serde::{Deserialize, Serialize};

/// A crop of FAO-56, table 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Crop {
    row: usize,
}

struct Row {
    name: &'static str,
    root_depth_m: f64,
    depletion_fraction: f64,
}

const fn crop(name: &'static str, root_depth_m: f64, depletion_fraction: f64) -> Row {
    Row { name, root_depth_m, depletion_fraction }
}

/// Allen et al. (1998), FAO-56, table 22: maximum effective rooting depth (the smaller of two) and p. <https://www.fao.org/4/x0490e/x0490e0e.htm>
///
/// Every row was compared with table 22 as pyfao56 has it (`src/pyfao56/tools/tables.py`). Where the table has several rows of a
/// crop, this one is: alfalfa for hay, dry beans, bermuda and clover for hay, citrus with a canopy of 70 %, dry onions, fresh
/// peas, grain maize and sorghum, olives with a canopy of 40 to 60 %.
const CROPS: [Row; 46] = [
    crop("alfalfa", 1.0, 0.55),
    crop("almond", 1.0, 0.40),
    crop("apple", 1.0, 0.50),
    crop("apricot", 1.0, 0.50),
    crop("asparagus", 1.2, 0.45),
    crop("barley", 1.0, 0.55),
    crop("bean", 0.6, 0.45),
    crop("bermuda_grass", 1.0, 0.55),
    crop("berries", 0.6, 0.50),
    crop("broccoli", 0.4, 0.45),
    crop("cabbage", 0.5, 0.45),
    crop("carrot", 0.5, 0.35),
    crop("chickpea", 0.6, 0.50),
    crop("citrus", 1.2, 0.50),
    crop("clover", 0.6, 0.50),
    crop("cotton", 1.0, 0.65),
    crop("cucumber", 0.7, 0.50),
    crop("garlic", 0.3, 0.30),
    crop("grape_table", 1.0, 0.35),
    crop("grape_wine", 1.0, 0.45),
    crop("hops", 1.0, 0.50),
    crop("lentil", 0.6, 0.50),
    crop("lettuce", 0.3, 0.30),
    crop("maize", 1.0, 0.55),
    crop("millet", 1.0, 0.55),
    crop("oats", 1.0, 0.55),
    crop("olive", 1.2, 0.65),
    crop("onion", 0.3, 0.30),
    crop("pasture", 0.5, 0.60),
    crop("pea", 0.6, 0.35),
    crop("potato", 0.4, 0.35),
    crop("rapeseed", 1.0, 0.60),
    crop("ryegrass", 0.6, 0.60),
    crop("sorghum", 1.0, 0.55),
    crop("soybean", 0.6, 0.50),
    crop("spinach", 0.3, 0.20),
    crop("spring_wheat", 1.0, 0.55),
    crop("strawberry", 0.2, 0.20),
    crop("sugar_beet", 0.7, 0.55),
    crop("sugar_cane", 1.2, 0.65),
    crop("sunflower", 0.8, 0.45),
    crop("sweet_maize", 0.8, 0.50),
    crop("sweet_pepper", 0.5, 0.30),
    crop("tomato", 0.7, 0.40),
    crop("watermelon", 0.8, 0.40),
    crop("winter_wheat", 1.5, 0.55),
];

impl Crop {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        CROPS[self.row].name
    }

    /// Effective rooting depth, m: the smaller of the table's two, which its footnote gives for scheduling irrigation; the larger
    /// is for soils without layers, rain-fed crops and modelled stress.
    #[must_use]
    pub const fn root_depth_m(self) -> f64 {
        CROPS[self.row].root_depth_m
    }

    /// Share of the available water that the crop takes without stress, p, at about 5 mm of evapotranspiration a day; for others see
    /// [`super::balance::depletion_fraction`].
    #[must_use]
    pub const fn depletion_fraction(self) -> f64 {
        CROPS[self.row].depletion_fraction
    }
}

impl TryFrom<String> for Crop {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let row = CROPS.iter().position(|crop| crop.name == name);
        row.map(|row| Self { row }).ok_or_else(|| {
            let known: Vec<&str> = CROPS.iter().map(|crop| crop.name).collect();
            format!(
                "crop {name:?} is not known; give root_depth_m and depletion_fraction instead, or one of {}",
                known.join(", ")
            )
        })
    }
}

impl From<Crop> for String {
    fn from(crop: Crop) -> Self {
        crop.name().to_owned()
    }
}

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
    /// 10 % sand, 45 % clay.
    SiltyClay,
    /// 50 % sand, 40 % clay.
    SandyClay,
    /// 25 % sand, 50 % clay.
    Clay,
}

impl Texture {
    /// Water content at field capacity (-33 kPa) and at the wilting point (-1500 kPa), m3/m3.
    ///
    /// Saxton and Rawls (2006), table 3: soils with 2.5 % organic matter, no salinity, gravel or compaction.
    #[must_use]
    pub const fn water(self) -> (f64, f64) {
        match self {
            Self::Sand => (0.10, 0.05),
            Self::LoamySand => (0.12, 0.05),
            Self::SandyLoam => (0.18, 0.08),
            Self::Loam => (0.28, 0.14),
            Self::SiltLoam => (0.31, 0.11),
            Self::Silt => (0.30, 0.06),
            Self::SandyClayLoam => (0.27, 0.17),
            Self::ClayLoam => (0.36, 0.22),
            Self::SiltyClayLoam => (0.38, 0.22),
            Self::SiltyClay => (0.41, 0.27),
            Self::SandyClay => (0.36, 0.25),
            Self::Clay => (0.42, 0.30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_found_by_their_names_and_are_what_crops_can_be() {
        for crop in CROPS {
            let found = Crop::try_from(crop.name.to_owned()).unwrap();
            assert_eq!((found.name(), found.root_depth_m()), (crop.name, crop.root_depth_m));
            assert!((0.2..=2.5).contains(&crop.root_depth_m) && (0.1..=0.8).contains(&found.depletion_fraction()));
        }
        assert!(CROPS.is_sorted_by_key(|crop| crop.name));
        let error = Crop::try_from("mais".to_owned()).unwrap_err();
        assert!(error.contains("\"mais\"") && error.contains("maize"), "{error}");
    }
}
