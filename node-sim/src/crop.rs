//! Crops: what they are ([`Crop`]), how they grow ([`growth`]), what they ask of the soil ([`demand`]), what they yield
//! ([`response`]); and a crop on its field, day by day ([`stand`]).
//!
//! Coefficients, heights, roots and depletion fractions are FAO-56's (Allen et al. 1998, *Crop evapotranspiration*, Irrigation and
//! Drainage Paper 56, tables 12, 17 and 22; of ranges the middle, of roots' and cotton's height the smaller). The times of stages are growing
//! degree days of the crops that come with AquaCrop (Raes, Steduto, Hsiao and Fereres; as AquaCrop-OSPy has them: MaizeGDD, CottonGDD,
//! TomatoGDD, WheatGDD, and PotatoLocalGDD, a potato of Brussels): FAO-56's initial stage ends at a cover of a tenth,
//! `emergence + ln(0.1 / CC0) / CGC`, its development at 98 % of the most, its mid-season with AquaCrop's senescence. Yield response factors are FAO-33's (Doorenbos and
//! Kassam 1979, *Yield response to water*, table 24).

pub mod demand;
pub mod growth;
pub mod response;
pub mod stand;

use serde::{Deserialize, Serialize};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// Alfalfa for hay, cut when it flowers.
    Alfalfa,
    /// Cotton.
    Cotton,
    /// Grain maize.
    Maize,
    /// Pasture under rotated grazing.
    Pasture,
    /// Potato.
    Potato,
    /// Tomato.
    Tomato,
    /// Spring wheat.
    Wheat,
}

/// A crop in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Below this it does not develop, Cel.
    pub base_c: f64,
    /// Above this it develops no faster, Cel.
    pub upper_c: f64,
    /// The ends of FAO-56's stages (initial, development, mid-season, late season), growing degree days since sowing or the last cut.
    pub stage_ends_gdd: [f64; 4],
    /// Basal crop coefficients of the initial stage, of mid-season and of the end: FAO-56 table 17.
    pub kcb: [f64; 3],
    /// Height when grown, m: FAO-56 table 12.
    pub height_m: f64,
    /// Rooting depth when grown, m: FAO-56 table 22, the smaller, which is for irrigated crops.
    pub root_depth_m: f64,
    /// Share of the available water taken without stress at 5 mm/d: FAO-56 table 22.
    pub depletion_fraction: f64,
    /// The ends of FAO-33's periods (vegetative, flowering, yield formation, ripening), growing degree days. Flowering is
    /// AquaCrop's; where yield formation ends is an assumption, for AquaCrop has no ripening.
    pub period_ends_gdd: [f64; 4],
    /// FAO-33's yield response factors in them. Over a whole season it has 1.1 for alfalfa and potato, 0.85 for cotton, 1.25 for maize,
    /// 1.05 for tomato and winter wheat (FAO-56 table 24).
    pub response: [f64; 4],
    /// Yield without stress, t/ha, of a season or a cut: good commercial yields under irrigation of FAO-33, chapter 3; alfalfa's see
    /// [`Crop::parameters`].
    pub potential_t_ha: f64,
    /// Nitrogen, phosphorus and potassium taken up by such a crop, kg/ha.
    pub nutrients_kg_ha: [f64; 3],
    /// Water that it transpires in a season or between two cuts, mm, to spread the nutrients over: FAO-33, chapter 3.
    pub transpires_mm: f64,
    /// When it is sown north of the equator (month, day); none for what stands for years and is cut or grazed.
    pub sown: Option<(i8, i8)>,
    /// The lowest temperature of a day below which an annual crop dies, before it flowers and from then on, Cel: the colder ends of what
    /// Ventskevich (1958) has, by Snyder and de Melo-Abreu 2005, *Frost protection: fundamentals, practice and economics*, FAO, chapter 4.
    /// What stands for years is not killed.
    pub killed_c: [f64; 2],
}

impl Crop {
    /// Every crop.
    pub const ALL: [Self; 7] =
        [Self::Alfalfa, Self::Cotton, Self::Maize, Self::Pasture, Self::Potato, Self::Tomato, Self::Wheat];

    /// Its numbers.
    ///
    /// A cycle of alfalfa between two cuts is FAO-56 table 11's 5, 10, 10 and 5 days of 30 on the 500 degree days (base 5 Cel) to
    /// its first flowers; of pasture between two grazings the same on 350. Only their season's response factor
    /// is published (alfalfa 1.1, FAO-33 by FAO-56 table 24); pasture is taken to have it too. Potato's two vegetative periods, early and late, stand for
    /// vegetative and flowering. Where FAO-33 gives no factor (cotton's yield formation, wheat's ripening), the next period's
    /// or none is taken. A cut of alfalfa is 3 t/ha: western Nevada cuts three to four times and has 4.5 short tons an acre in a year, which are
    /// 2.5 to 3.4 t/ha of hay a cut (Davison, Solomon and Lawry 2016, University of Nevada Cooperative Extension); with all the water that
    /// it can use it gave 15 to 21 t/ha of dry matter in a year (Bushland, Texas: Evett et al. 2000).
    #[must_use]
    pub const fn parameters(self) -> Parameters {
        match self {
            Self::Alfalfa => Parameters {
                base_c: 5.0,
                upper_c: 30.0,
                stage_ends_gdd: [83.0, 250.0, 417.0, 500.0],
                kcb: [0.30, 1.15, 1.10],
                height_m: 0.7,
                root_depth_m: 1.0,
                depletion_fraction: 0.55,
                period_ends_gdd: [500.0; 4],
                response: [1.1, 0.0, 0.0, 0.0],
                potential_t_ha: 3.0,
                nutrients_kg_ha: [20.0, 8.0, 65.0],
                transpires_mm: 140.0,
                sown: None,
                killed_c: [f64::NEG_INFINITY; 2],
            },
            Self::Cotton => Parameters {
                base_c: 12.0,
                upper_c: 35.0,
                stage_ends_gdd: [417.0, 1156.0, 1601.0, 1956.0],
                kcb: [0.15, 1.125, 0.45],
                height_m: 1.2,
                root_depth_m: 1.0,
                depletion_fraction: 0.65,
                period_ends_gdd: [502.0, 1211.0, 1601.0, 1956.0],
                response: [0.2, 0.5, 0.25, 0.25],
                potential_t_ha: 4.5,
                nutrients_kg_ha: [180.0, 30.0, 150.0],
                transpires_mm: 700.0,
                sown: Some((4, 25)),
                killed_c: [-2.0, -3.0],
            },
            Self::Maize => Parameters {
                base_c: 8.0,
                upper_c: 30.0,
                stage_ends_gdd: [322.0, 705.0, 1400.0, 1700.0],
                kcb: [0.15, 1.15, 0.15],
                height_m: 2.0,
                root_depth_m: 1.0,
                depletion_fraction: 0.55,
                period_ends_gdd: [880.0, 1060.0, 1500.0, 1700.0],
                response: [0.4, 1.5, 0.5, 0.2],
                potential_t_ha: 9.0,
                nutrients_kg_ha: [200.0, 40.0, 180.0],
                transpires_mm: 550.0,
                sown: Some((5, 5)),
                killed_c: [-3.0, -3.0],
            },
            Self::Pasture => Parameters {
                base_c: 5.0,
                upper_c: 28.0,
                stage_ends_gdd: [58.0, 175.0, 292.0, 350.0],
                kcb: [0.30, 0.90, 0.80],
                height_m: 0.2,
                root_depth_m: 0.5,
                depletion_fraction: 0.60,
                period_ends_gdd: [350.0; 4],
                response: [1.1, 0.0, 0.0, 0.0],
                potential_t_ha: 1.5,
                nutrients_kg_ha: [35.0, 5.0, 35.0],
                transpires_mm: 90.0,
                sown: None,
                killed_c: [f64::NEG_INFINITY; 2],
            },
            Self::Potato => Parameters {
                base_c: 2.0,
                upper_c: 26.0,
                stage_ends_gdd: [383.0, 875.0, 1325.0, 1613.0],
                kcb: [0.15, 1.10, 0.65],
                height_m: 0.6,
                root_depth_m: 0.4,
                depletion_fraction: 0.35,
                period_ends_gdd: [506.0, 650.0, 1450.0, 1613.0],
                response: [0.45, 0.8, 0.7, 0.2],
                potential_t_ha: 35.0,
                nutrients_kg_ha: [180.0, 30.0, 250.0],
                transpires_mm: 450.0,
                sown: Some((5, 1)),
                killed_c: [-3.0, -2.0],
            },
            Self::Tomato => Parameters {
                base_c: 7.0,
                upper_c: 28.0,
                stage_ends_gdd: [404.0, 1009.0, 1553.0, 1933.0],
                kcb: [0.15, 1.10, 0.70],
                height_m: 0.6,
                root_depth_m: 0.7,
                depletion_fraction: 0.40,
                period_ends_gdd: [525.0, 1275.0, 1600.0, 1933.0],
                response: [0.4, 1.1, 0.8, 0.4],
                potential_t_ha: 65.0,
                nutrients_kg_ha: [180.0, 30.0, 280.0],
                transpires_mm: 500.0,
                sown: Some((5, 10)),
                killed_c: [-1.0, -1.0],
            },
            Self::Wheat => Parameters {
                base_c: 0.0,
                upper_c: 26.0,
                stage_ends_gdd: [229.0, 1186.0, 1700.0, 2400.0],
                kcb: [0.15, 1.10, 0.15],
                height_m: 1.0,
                root_depth_m: 1.0,
                depletion_fraction: 0.55,
                period_ends_gdd: [1250.0, 1450.0, 2100.0, 2400.0],
                response: [0.2, 0.65, 0.55, 0.0],
                potential_t_ha: 6.0,
                nutrients_kg_ha: [160.0, 28.0, 130.0],
                transpires_mm: 450.0,
                sown: Some((3, 15)),
                killed_c: [-10.0, -4.0],
            },
        }
    }

    /// Its name, as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alfalfa => "alfalfa",
            Self::Cotton => "cotton",
            Self::Maize => "maize",
            Self::Pasture => "pasture",
            Self::Potato => "potato",
            Self::Tomato => "tomato",
            Self::Wheat => "wheat",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_coefficients_are_what_they_can_be() {
        for crop in Crop::ALL {
            let p = crop.parameters();
            assert!(p.stage_ends_gdd.is_sorted() && p.period_ends_gdd.is_sorted(), "{crop:?}");
            assert_eq!(p.stage_ends_gdd[3], p.period_ends_gdd[3], "{crop:?}");
            assert!(p.kcb[0] <= p.kcb[1] && p.kcb[2] <= p.kcb[1] && p.kcb[1] < 1.2, "{crop:?}");
            assert!((0.2..0.8).contains(&p.depletion_fraction) && p.base_c < p.upper_c, "{crop:?}");
            assert!(p.response.iter().all(|ky| (0.0..=1.5).contains(ky)), "{crop:?}");
        }
    }
}
