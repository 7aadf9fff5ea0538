//! How a crop stands: degree days, stages, cover, height and roots; sowing, cuts and harvest.

use serde::{Deserialize, Serialize};

use super::{Crop, Parameters};
use crate::sun::day_of_year;

/// Kc of dry bare soil. FAO-56 eq. 76: 0.15 to 0.20.
const KC_MIN: f64 = 0.15;
/// The day's mean temperature below which what stands for years loses its leaves, Cel (FAO-56 table 11: alfalfa's last
/// cycle ends at -4 Cel by night).
const FROST_C: f64 = -2.0;
/// How deep roots reach when they are young, m.
const YOUNG_ROOTS_M: f64 = 0.15;

/// FAO-56's stages, and the ground between two crops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing grows.
    Bare,
    /// Less than a tenth of the ground is covered.
    Initial,
    /// Until it is covered.
    Development,
    /// Until leaves grow old.
    Mid,
    /// Until it is ripe.
    Late,
}

/// What a day does to a crop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Day {
    /// The day since 1970 on the solar clock.
    pub number: i64,
    /// Lowest and highest temperature, Cel.
    pub lowest_c: f64,
    /// Highest temperature, Cel.
    pub highest_c: f64,
}

/// What happened on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It was sown.
    Sown,
    /// It was cut, grazed or harvested.
    Harvested,
    /// Frost took its leaves; they come again.
    Frozen,
    /// Frost killed it before there was anything to harvest.
    Killed,
}

/// A crop on its field.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Whether it grows.
    pub grows: bool,
    /// Degree days since it was sown or cut, Cel d.
    pub gdd: f64,
}

/// How a crop stands, for the water's sake.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canopy {
    /// The stage.
    pub stage: Stage,
    /// Basal crop coefficient, without the climate's correction.
    pub kcb: f64,
    /// m.
    pub height_m: f64,
    /// Share of the ground that is shaded; FAO-56's fc.
    pub cover: f64,
    /// m.
    pub root_depth_m: f64,
}

/// Degree days of a day, Cel d: AquaCrop's third method (the highest temperature within base and upper one, the lowest not above the
/// upper one, the mean not below the base).
#[must_use]
pub fn degree_days(parameters: &Parameters, day: &Day) -> f64 {
    let highest = day.highest_c.clamp(parameters.base_c, parameters.upper_c);
    let lowest = day.lowest_c.min(parameters.upper_c);
    (f64::midpoint(highest, lowest) - parameters.base_c).max(0.0)
}

impl Growth {
    /// Bare ground, or stubble.
    #[must_use]
    pub fn new(crop: Crop) -> Self {
        Self { grows: crop.parameters().sown.is_none(), gdd: 0.0 }
    }

    /// A day passes. South of the equator an annual crop is sown half a year later.
    pub fn day(&mut self, crop: Crop, day: &Day, south: bool) -> Option<Happened> {
        let parameters = crop.parameters();
        let mut happened = None;
        if let Some((month, date)) = parameters.sown {
            let sown = (30.44 * f64::from(month - 1) + f64::from(date) - 1.0 + if south { 182.6 } else { 0.0 })
                .rem_euclid(365.2425);
            let since = (day_of_year(day.number) - sown).rem_euclid(365.2425);
            if since < 1.0 {
                *self = Self { grows: true, gdd: 0.0 };
                return Some(Happened::Sown);
            }
            if self.grows && self.is_killed_by(&parameters, day.lowest_c) {
                let ripening = self.gdd >= parameters.period_ends_gdd[2];
                *self = Self { grows: false, gdd: 0.0 };
                return Some(if ripening { Happened::Harvested } else { Happened::Killed });
            }
        } else if f64::midpoint(day.lowest_c, day.highest_c) < FROST_C && self.gdd > 0.0 {
            self.gdd = 0.0;
            return Some(Happened::Frozen);
        }
        if self.grows {
            self.gdd += degree_days(&parameters, day);
            if self.gdd >= parameters.stage_ends_gdd[3] {
                *self = Self { grows: parameters.sown.is_none(), gdd: 0.0 };
                happened = Some(Happened::Harvested);
            }
        }
        happened
    }

    /// Whether an annual crop dies at this lowest temperature of a day, Cel. As long as it covers less than a tenth of the ground it comes again from
    /// below, or is sown again: an assumption. What has nothing left but to ripen is harvested when frost has ended it.
    fn is_killed_by(&self, parameters: &Parameters, lowest_c: f64) -> bool {
        let flowers = self.gdd >= parameters.period_ends_gdd[0];
        self.gdd >= parameters.stage_ends_gdd[0] && lowest_c < parameters.killed_c[usize::from(flowers)]
    }

    /// How it stands.
    #[must_use]
    pub fn canopy(&self, crop: Crop) -> Canopy {
        let p = crop.parameters();
        if !self.grows {
            return Canopy { stage: Stage::Bare, kcb: 0.0, height_m: 0.0, cover: 0.0, root_depth_m: 0.0 };
        }
        let [initial, development, mid, late] = p.stage_ends_gdd;
        let between = |from: f64, to: f64| ((self.gdd - from) / (to - from)).clamp(0.0, 1.0);
        let (stage, kcb) = if self.gdd < initial {
            (Stage::Initial, p.kcb[0])
        } else if self.gdd < development {
            (Stage::Development, p.kcb[0] + (p.kcb[1] - p.kcb[0]) * between(initial, development))
        } else if self.gdd < mid {
            (Stage::Mid, p.kcb[1])
        } else {
            (Stage::Late, p.kcb[1] + (p.kcb[2] - p.kcb[1]) * between(mid, late))
        };
        // Height and roots grow until full cover; what is cut keeps its roots and a twentieth of a metre.
        let grown = between(0.0, development);
        let height_m = 0.05 + (p.height_m - 0.05) * between(initial, development);
        let root_depth_m =
            if p.sown.is_some() { YOUNG_ROOTS_M + (p.root_depth_m - YOUNG_ROOTS_M) * grown } else { p.root_depth_m };
        Canopy { stage, kcb, height_m, cover: cover(kcb, height_m), root_depth_m }
    }
}

/// The share of the ground that a crop shades: FAO-56 eq. 76 with Kcmax = 1.2.
#[must_use]
pub fn cover(kcb: f64, height_m: f64) -> f64 {
    ((kcb - KC_MIN) / (1.2 - KC_MIN)).clamp(0.0, 0.99).powf(1.0 + 0.5 * height_m).max(0.01)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A year of a continental summer: 12 +- 13 Cel over the year, 16 Cel between night and day.
    fn year(crop: Crop, mut each: impl FnMut(i64, &Growth, Option<Happened>)) {
        let mut growth = Growth::new(crop);
        for number in 0..730 {
            let mean = 12.0 - 13.0 * (std::f64::consts::TAU * (number as f64 - 17.0) / 365.2425).cos();
            let day = Day { number, lowest_c: mean - 8.0, highest_c: mean + 8.0 };
            let happened = growth.day(crop, &day, false);
            each(number, &growth, happened);
        }
    }

    #[test]
    fn annual_crops_last_about_as_long_as_fao_56_says() {
        // FAO-56 table 11 (days): maize 125 to 180, potato 115 to 165, wheat 120 to 200 (135 at 35 to 45 degrees), tomato 135 to
        // 180, cotton 180 to 225, for which this summer is too short.
        for (crop, days) in
            [(Crop::Maize, 115..185), (Crop::Potato, 80..165), (Crop::Wheat, 110..175), (Crop::Tomato, 125..185)]
        {
            let (mut sown, mut ripe, mut stages) = (0, 0, Vec::new());
            year(crop, |day, growth, happened| {
                if day >= 365 {
                    match happened {
                        Some(Happened::Sown) => sown = day,
                        Some(Happened::Harvested) => ripe = day,
                        _ => {}
                    }
                    if sown > 0 && ripe == 0 {
                        stages.push(growth.canopy(crop).stage);
                    }
                }
            });
            assert!(days.contains(&(ripe - sown)), "{crop:?}: sown on {sown}, ripe on {ripe}");
            assert!(stages.is_sorted() && stages[0] == Stage::Initial && stages.contains(&Stage::Mid), "{crop:?}");
        }
    }

    #[test]
    fn alfalfa_is_cut_three_to_six_times_and_rests_in_winter() {
        let mut cuts = Vec::new();
        year(Crop::Alfalfa, |day, growth, happened| {
            if day >= 365 && happened == Some(Happened::Harvested) {
                cuts.push(day - 365);
                assert!(growth.canopy(Crop::Alfalfa).cover < 0.2);
            }
            assert_eq!(growth.canopy(Crop::Alfalfa).root_depth_m, 1.0);
        });
        assert!((3..=6).contains(&cuts.len()), "{cuts:?}");
        assert!(cuts.iter().all(|day| (90..320).contains(day)), "{cuts:?}");
    }

    #[test]
    fn cover_height_and_coefficient_grow_until_mid_season() {
        let mut growth = Growth { grows: true, gdd: 0.0 };
        let mut before = growth.canopy(Crop::Maize);
        for gdd in 1..1400 {
            growth.gdd = f64::from(gdd);
            let canopy = growth.canopy(Crop::Maize);
            assert!(canopy.cover >= before.cover && canopy.height_m >= before.height_m && canopy.kcb >= before.kcb);
            before = canopy;
        }
        assert!(before.cover > 0.85 && before.height_m == 2.0 && before.root_depth_m == 1.0, "{before:?}");
    }

    #[test]
    fn frost_kills_what_is_up_and_not_what_stands_for_years() {
        let frost = |crop: Crop, gdd: f64, lowest_c: f64| {
            let mut growth = Growth { grows: true, gdd };
            let day = Day { number: 200, lowest_c, highest_c: 8.0 };
            (growth.day(crop, &day, false), growth.canopy(crop).stage == Stage::Bare)
        };
        assert_eq!(frost(Crop::Maize, 600.0, -3.5), (Some(Happened::Killed), true));
        assert_eq!(frost(Crop::Maize, 600.0, -2.5), (None, false));
        // Too young to be killed, or as good as ripe.
        assert_eq!(frost(Crop::Maize, 100.0, -3.5), (None, false));
        assert_eq!(frost(Crop::Maize, 1600.0, -3.5), (Some(Happened::Harvested), true));
        // Wheat bears more until it flowers.
        assert_eq!(frost(Crop::Wheat, 600.0, -6.0), (None, false));
        assert_eq!(frost(Crop::Wheat, 1400.0, -6.0), (Some(Happened::Killed), true));
        assert_eq!(frost(Crop::Alfalfa, 300.0, -6.0), (None, false));
    }

    #[test]
    fn warmth_counts_between_base_and_upper_temperature() {
        let of = |lowest_c, highest_c| degree_days(&Crop::Maize.parameters(), &Day { number: 0, lowest_c, highest_c });
        assert_eq!(of(10.0, 20.0), 7.0);
        assert_eq!(of(20.0, 40.0), 17.0);
        assert_eq!(of(-5.0, 6.0), 0.0);
    }
}
