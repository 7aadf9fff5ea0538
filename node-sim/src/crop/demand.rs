//! What crop and weather ask of the soil, and what the soil gives: FAO-56's dual crop coefficient over layers.
#![allow(clippy::needless_range_loop, reason = "a layer is one index into several arrays")]

use crate::soil::pedotransfer::Characteristics;

use super::growth::Canopy;

/// Depth of the soil that dries by evaporation, mm: FAO-56 chapter 7, 0.10 to 0.15 m.
pub const EVAPORABLE_MM: f64 = 100.0;
/// The depth over which evaporation draws, mm: its share falls by 1/e, as long as there is water above.
const DRAWN_MM: f64 = 30.0;
/// Roots in moist layers take up to this many times their own share for those in dry ones (Jarvis 1989, *J. Hydrol.* 107, 57-72: the
/// inverse of his critical index, 0.5).
const MOST_COMPENSATION: f64 = 2.0;
/// Air that roots need, m3/m3; they take less below it and nothing without (FAO AquaCrop: the anaerobiosis point, 5 %).
const NEEDED_AIR: f64 = 0.05;

/// The climate's part in FAO-56's coefficients, of a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Climate {
    /// Mean wind at 2 m, m/s.
    pub wind_m_s: f64,
    /// Lowest relative humidity, %.
    pub least_humidity_pct: f64,
}

impl Climate {
    /// The correction of FAO-56 eq. 70 and 72.
    fn correction(&self, height_m: f64) -> f64 {
        let wind = self.wind_m_s.clamp(1.0, 6.0);
        let humidity = self.least_humidity_pct.clamp(20.0, 80.0);
        (0.04 * (wind - 2.0) - 0.004 * (humidity - 45.0)) * (height_m.max(0.1) / 3.0).powf(0.3)
    }
}

/// Coefficients that hold for a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficients {
    /// Basal crop coefficient.
    pub kcb: f64,
    /// The most that crop and wet ground evaporate, over ET0.
    pub kc_max: f64,
    /// Share of the ground that is shaded.
    pub cover: f64,
    /// Rooting depth, mm.
    pub root_depth_mm: f64,
}

impl Coefficients {
    /// Of a crop in a climate: FAO-56 eq. 70 (Kcb above 0.45) and 72.
    #[must_use]
    pub fn of(canopy: &Canopy, climate: &Climate) -> Self {
        let correction = climate.correction(canopy.height_m);
        let kcb = if canopy.kcb >= 0.45 { (canopy.kcb + correction).max(0.0) } else { canopy.kcb };
        Self {
            kcb,
            kc_max: (1.2 + correction).max(kcb + 0.05),
            cover: canopy.cover,
            root_depth_mm: 1000.0 * canopy.root_depth_m,
        }
    }

    /// Share of the ground that is both wetted and in the sun, FAO-56's few (eq. 75; of drippers' share that fraction of which `1 - 2/3 fc` lies
    /// in the sun, as it has below that equation).
    #[must_use]
    pub fn exposed(&self, wetted: Wetted) -> f64 {
        let lit = if wetted.by_drippers { 1.0 - 2.0 / 3.0 * self.cover } else { 1.0 };
        (1.0 - self.cover).min(wetted.share * lit).clamp(0.01, 1.0)
    }
}

/// What the last water wetted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wetted {
    /// Share of the ground, FAO-56's fw.
    pub share: f64,
    /// Whether it came from drippers, which stand beneath the plants: most of what they wet lies in the shade.
    pub by_drippers: bool,
}

impl Wetted {
    /// All the ground, as rain and sprinklers wet it.
    pub const WHOLE: Self = Self { share: 1.0, by_drippers: false };
}

/// What crop and air want.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wants {
    /// The day's coefficients.
    pub coefficients: Coefficients,
    /// What the wetted ground in the sun has lost since it was wet, mm: FAO-56's De. See [`exposed_mm`].
    pub exposed_mm: f64,
    /// What the last water wetted.
    pub wetted: Wetted,
    /// Reference evapotranspiration, mm/h.
    pub et0_mm_h: f64,
    /// Share of the available water that the crop takes without stress.
    pub depletion_fraction: f64,
}

/// What the wetted ground in the sun lacks after a step, mm: FAO-56 eq. 77, in which neither what roots take from it nor what
/// drains from it counts. `total_mm` is its TEW, and `wetted` the share of the ground that the irrigation wets, in sun and shade.
#[must_use]
pub fn exposed_mm(
    before_mm: f64,
    total_mm: f64,
    rain_mm: f64,
    irrigation_mm: f64,
    evaporated_mm: f64,
    few: f64,
    wetted: f64,
) -> f64 {
    // Roots and drainage only matter above field capacity and in the first centimetres; the layers below know of them.
    (before_mm - rain_mm - irrigation_mm / wetted + evaporated_mm / few).clamp(0.0, total_mm)
}

/// A layered soil, as crop and air see it.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a, const N: usize> {
    /// Its characteristics.
    pub soil: &'a Characteristics,
    /// Thickness of its layers, mm.
    pub thickness_mm: &'a [f64; N],
    /// Water in them, mm.
    pub water_mm: &'a [f64; N],
}

/// What leaves the soil, mm/h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken<const N: usize> {
    /// By evaporation, from each layer.
    pub evaporation_mm_h: [f64; N],
    /// By roots, from each layer.
    pub uptake_mm_h: [f64; N],
    /// What the crop would transpire without stress.
    pub potential_mm_h: f64,
    /// FAO-56's Ks, and what compensation adds: transpiration over what it could be.
    pub stress: f64,
}

impl<const N: usize> Ground<'_, N> {
    /// How much of each layer lies above a depth, mm.
    fn above(&self, depth_mm: f64) -> [f64; N] {
        let mut top = 0.0;
        self.thickness_mm.map(|thickness| {
            let part = (depth_mm - top).clamp(0.0, thickness);
            top += thickness;
            part
        })
    }

    /// What is missing to field capacity above a depth, mm, layer by layer none below zero, and what is available there in all, mm.
    /// FAO-56 eq. 82 and 87.
    #[must_use]
    pub fn depletion_mm(&self, depth_mm: f64) -> (f64, f64) {
        let (capacity, wilting) = (self.soil.field_capacity, self.soil.wilting_point);
        let (mut missing, mut total) = (0.0, 0.0);
        for (layer, part) in self.above(depth_mm).into_iter().enumerate() {
            missing += part * (capacity - self.water_mm[layer] / self.thickness_mm[layer]).max(0.0);
            total += part * (capacity - wilting);
        }
        (missing, total)
    }

    /// What can evaporate from wet ground, and what of it freely, mm: FAO-56's TEW (eq. 73) and its REW by texture (Allen et
    /// al. 2005, *J. Irrig. Drain. Eng.* 131, 2-13: 8 mm and 8 of clay, 20 less 15 of sand above 80 % of it, 11 less 6 of clay above 50 % of it).
    #[must_use]
    pub fn evaporable_mm(&self) -> (f64, f64) {
        let soil = self.soil;
        let total = EVAPORABLE_MM * (soil.field_capacity - 0.5 * soil.wilting_point);
        let readily = match soil {
            soil if soil.sand > 0.8 => 20.0 - 15.0 * soil.sand,
            soil if soil.clay > 0.5 => 11.0 - 6.0 * soil.clay,
            soil => 8.0 + 8.0 * soil.clay,
        };
        (total, readily.min(0.8 * total))
    }

    /// What evaporation and roots take in the next hours, with nothing taken that is not there.
    ///
    /// Evaporation: FAO-56 eq. 71, `Ke = min(Kr (Kcmax - Kcb), few Kcmax)` with Kr of eq. 74, of which `standing_mm_h` is met by what
    /// stands on the surface; it draws from the upper 10 cm down to half of the wilting point. Uptake: Kcb ET0 times Ks of the
    /// root zone (eq. 84), from each layer by its roots (40, 30, 20 and 10 % in the quarters of their depth) and its own Ks. What
    /// the zone lacks is by its mean content (eq. 87): water above field capacity in one layer counts for a dry one, as in AquaCrop.
    #[must_use]
    pub fn take(&self, wants: &Wants, standing_mm_h: f64, hours: f64) -> Taken<N> {
        let Wants { coefficients, exposed_mm, wetted, et0_mm_h, depletion_fraction } = *wants;
        let (total, readily) = self.evaporable_mm();
        let reduction = ((total - exposed_mm) / (total - readily)).clamp(0.0, 1.0);
        let room = coefficients.kc_max - coefficients.kcb;
        let ke = (reduction * room).min(coefficients.exposed(wetted) * coefficients.kc_max).max(0.0);
        let evaporation_mm_h = self.evaporate((ke * et0_mm_h - standing_mm_h).max(0.0), hours);
        let potential_mm_h = coefficients.kcb * et0_mm_h;
        let (uptake_mm_h, stress) =
            self.drink(potential_mm_h, coefficients.root_depth_mm, depletion_fraction, hours, &evaporation_mm_h);
        Taken { evaporation_mm_h, uptake_mm_h, potential_mm_h, stress }
    }

    fn evaporate(&self, wanted_mm_h: f64, hours: f64) -> [f64; N] {
        let mut weights = [0.0; N];
        if wanted_mm_h <= 0.0 {
            return weights;
        }
        let driest = 0.5 * self.soil.wilting_point;
        let (mut sum, mut top) = (0.0, 0.0);
        for (layer, part) in self.above(EVAPORABLE_MM).into_iter().enumerate() {
            if part > 0.0 {
                let free = (self.water_mm[layer] / self.thickness_mm[layer] - driest).max(0.0);
                weights[layer] = part * free * (-(top + part / 2.0) / DRAWN_MM).exp();
                sum += weights[layer];
                top += self.thickness_mm[layer];
            }
        }
        let per_weight = if sum > 0.0 { wanted_mm_h / sum } else { 0.0 };
        std::array::from_fn(|layer| {
            let free = (self.water_mm[layer] - driest * self.thickness_mm[layer]).max(0.0);
            (weights[layer] * per_weight).min(0.5 * free / hours)
        })
    }

    fn drink(
        &self,
        potential_mm_h: f64,
        root_depth_mm: f64,
        depletion_fraction: f64,
        hours: f64,
        evaporation_mm_h: &[f64; N],
    ) -> ([f64; N], f64) {
        let mut uptake = [0.0; N];
        if root_depth_mm <= 0.0 {
            return (uptake, 1.0);
        }
        let (capacity, wilting) = (self.soil.field_capacity, self.soil.wilting_point);
        let ks = |left: f64| (left / ((1.0 - depletion_fraction) * (capacity - wilting))).clamp(0.0, 1.0);
        let (mut index, mut top, mut zone, mut rooted) = (0.0, 0.0, 0.0, 0);
        for (layer, part) in self.above(root_depth_mm).into_iter().enumerate() {
            if part <= 0.0 {
                break;
            }
            let content = self.water_mm[layer] / self.thickness_mm[layer];
            let left = content - wilting;
            zone += part * left.max(0.0);
            // 40, 70, 90 and 100 % above the quarters lie on this line, within one per cent.
            let below = |depth: f64| (1.75 - 0.75 * depth / root_depth_mm) * depth / root_depth_mm;
            let roots = below(top + part) - below(top);
            let air = ((self.soil.saturation - content) / NEEDED_AIR).clamp(0.0, 1.0);
            uptake[layer] = roots * ks(left) * air;
            index += uptake[layer];
            top += part;
            rooted = layer + 1;
        }
        let stress = ks(zone / root_depth_mm).min(MOST_COMPENSATION * index).min(1.0);
        let per_index = if index > 0.0 { potential_mm_h * stress / index } else { 0.0 };
        let mut sum = 0.0;
        for layer in 0..rooted {
            let free = self.water_mm[layer] - wilting * self.thickness_mm[layer] - evaporation_mm_h[layer] * hours;
            uptake[layer] = (uptake[layer] * per_index).min(0.5 * free.max(0.0) / hours);
            sum += uptake[layer];
        }
        (uptake, if potential_mm_h > 0.0 { sum / potential_mm_h } else { 1.0 })
    }
}

/// FAO-56's depletion fraction at a crop's evapotranspiration, mm/d: table 22's footnote.
#[must_use]
pub fn depletion_fraction(of_table: f64, etc_mm_d: f64) -> f64 {
    (of_table + 0.04 * (5.0 - etc_mm_d)).clamp(0.1, 0.8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crop::growth::Stage;
    use crate::soil::THICKNESS_MM;
    use crate::soil::pedotransfer::Composition;

    fn loam() -> Characteristics {
        Composition { sand_pct: 40.0, clay_pct: 20.0, organic_matter_pct: 2.5 }.characteristics()
    }

    fn of(content: impl Fn(&Characteristics) -> f64) -> (Characteristics, [f64; 16]) {
        let soil = loam();
        let content = content(&soil);
        (soil, THICKNESS_MM.map(|thickness| content * thickness))
    }

    fn wants(depletion_fraction: f64) -> Wants {
        Wants { coefficients: GROWN, exposed_mm: 0.0, wetted: Wetted::WHOLE, et0_mm_h: 0.5, depletion_fraction }
    }

    const GROWN: Coefficients = Coefficients { kcb: 1.15, kc_max: 1.25, cover: 0.9, root_depth_mm: 1000.0 };

    #[test]
    fn the_whole_crop_suffers_as_fao_56_says_when_it_is_dry_everywhere() {
        for (missing, p) in [(0.3, 0.55), (0.7, 0.55), (0.85, 0.35), (1.0, 0.55)] {
            let (soil, water) = of(|s| s.field_capacity - missing * (s.field_capacity - s.wilting_point));
            let ground = Ground { soil: &soil, thickness_mm: &THICKNESS_MM, water_mm: &water };
            let taken = ground.take(&wants(p), 0.0, 1.0 / 12.0);
            let expected = f64::min((1.0 - missing) / (1.0 - p), 1.0);
            assert!((taken.stress - expected).abs() < 1e-9, "{missing}: {} {expected}", taken.stress);
            assert!((taken.uptake_mm_h.iter().sum::<f64>() - expected * 1.15 * 0.5).abs() < 1e-9);
        }
    }

    #[test]
    fn water_above_field_capacity_counts_for_a_dry_layer() {
        // The upper quarter is a third of the available water above field capacity, as an irrigation leaves it for days; of that below 60 % are gone.
        let (soil, mut water) = of(|s| s.field_capacity - 0.6 * (s.field_capacity - s.wilting_point));
        let available = soil.field_capacity - soil.wilting_point;
        let upper = soil.field_capacity + available / 3.0;
        let above = Ground { soil: &soil, thickness_mm: &THICKNESS_MM, water_mm: &water }.above(250.0);
        for layer in 0..16 {
            let share = above[layer] / THICKNESS_MM[layer];
            water[layer] = share * upper * THICKNESS_MM[layer] + (1.0 - share) * water[layer];
        }
        let ground = Ground { soil: &soil, thickness_mm: &THICKNESS_MM, water_mm: &water };
        // (1/4 (1 + 1/3) + 3/4 0.4) TAW are left: 0.633, and without the surplus 0.55.
        let taken = ground.take(&wants(0.35), 0.0, 1.0 / 12.0);
        assert!((taken.stress - (1.0 / 3.0 + 0.3) / 0.65).abs() < 1e-9, "{}", taken.stress);
    }

    #[test]
    fn roots_drink_by_quarters_and_in_moist_layers_for_dry_ones() {
        let (soil, water) = of(|s| s.field_capacity);
        let ground = Ground { soil: &soil, thickness_mm: &THICKNESS_MM, water_mm: &water };
        let upper = |taken: &Taken<16>| {
            let above = ground.above(250.0);
            let sum: f64 =
                taken.uptake_mm_h.iter().zip(above).zip(THICKNESS_MM).map(|((u, part), t)| u * part / t).sum();
            sum / taken.uptake_mm_h.iter().sum::<f64>()
        };
        let moist = ground.take(&wants(0.55), 0.0, 1.0 / 12.0);
        assert!((upper(&moist) - 0.40).abs() < 0.02, "{}", upper(&moist));
        let mut dry_above = water;
        (0..6).for_each(|layer| dry_above[layer] = 1.1 * soil.wilting_point * THICKNESS_MM[layer]);
        let ground = Ground { water_mm: &dry_above, ..ground };
        let taken = ground.take(&wants(0.55), 0.0, 1.0 / 12.0);
        assert!(taken.stress > 0.98 && upper(&taken) < 0.25, "{} {}", taken.stress, upper(&taken));
        let drowned = Ground { water_mm: &THICKNESS_MM.map(|t| t * soil.saturation), ..ground };
        assert_eq!(drowned.take(&wants(0.55), 0.0, 1.0 / 12.0).stress, 0.0);
    }

    #[test]
    fn bare_ground_evaporates_freely_at_first_and_then_less_and_less() {
        let (soil, mut water) = of(|s| s.field_capacity);
        let bare = Coefficients { kcb: 0.0, kc_max: 1.2, cover: 0.0, root_depth_mm: 0.0 };
        let (mut days, mut exposed) = (Vec::new(), 0.0);
        for _ in 0..40 {
            let mut day = 0.0;
            for _ in 0..24 {
                let ground = Ground { soil: &soil, thickness_mm: &THICKNESS_MM, water_mm: &water };
                let wants = Wants { coefficients: bare, exposed_mm: exposed, et0_mm_h: 0.25, ..wants(0.55) };
                let taken = ground.take(&wants, 0.0, 1.0);
                let evaporated: f64 = taken.evaporation_mm_h.iter().sum();
                exposed = exposed_mm(
                    exposed,
                    ground.evaporable_mm().0,
                    0.0,
                    0.0,
                    evaporated,
                    bare.exposed(Wetted::WHOLE),
                    1.0,
                );
                for layer in 0..16 {
                    water[layer] -= taken.evaporation_mm_h[layer];
                    day += taken.evaporation_mm_h[layer];
                }
            }
            days.push(day);
        }
        // FAO-56: Kcmax ET0 until REW (10 mm), then less; TEW in all.
        assert!((days[0] - 7.2).abs() < 0.05 && days[4] < 0.6 * days[0] && days[39] < 0.1, "{days:?}");
        let total = 100.0 * (soil.field_capacity - 0.5 * soil.wilting_point);
        let sum: f64 = days.iter().sum();
        assert!((0.9 * total..=total).contains(&sum), "{sum} {total}");
    }

    #[test]
    fn what_drippers_wet_lies_in_the_shade_of_a_grown_crop() {
        let at = |cover| Coefficients { cover, ..GROWN };
        let drippers = Wetted { share: 0.35, by_drippers: true };
        let furrows = Wetted { by_drippers: false, ..drippers };
        // FAO-56 below eq. 75: fw (1 - 2/3 fc), between all of Table 20's fw and a third of it.
        for (cover, expected) in [(0.0, 0.35), (0.3, 0.28), (0.6, 0.21)] {
            assert!((at(cover).exposed(drippers) - expected).abs() < 1e-12, "{cover}");
            assert_eq!(at(cover).exposed(furrows), 0.35);
        }
        // Less than is in the sun at all it cannot be.
        assert!((at(0.9).exposed(drippers) - 0.1).abs() < 1e-12 && (at(0.9).exposed(furrows) - 0.1).abs() < 1e-12);
        // Where all is wet, by rain say, it does not matter from what.
        let whole = Wetted { share: 1.0, ..drippers };
        assert_eq!(at(0.6).exposed(whole), at(0.6).exposed(Wetted::WHOLE));
        let (soil, water) = of(|s| s.field_capacity);
        let ground = Ground { soil: &soil, thickness_mm: &THICKNESS_MM, water_mm: &water };
        let evaporated = |wetted| {
            let wants = Wants { coefficients: Coefficients { kcb: 0.6, ..at(0.6) }, wetted, ..wants(0.55) };
            ground.take(&wants, 0.0, 1.0 / 12.0).evaporation_mm_h.iter().sum::<f64>()
        };
        // Ke = few Kcmax while the ground is wet: in proportion.
        assert!((evaporated(drippers) / evaporated(furrows) - 0.6).abs() < 1e-9);
    }

    #[test]
    fn wind_and_dry_air_ask_for_more() {
        let canopy = Canopy { stage: Stage::Mid, kcb: 1.15, height_m: 2.0, cover: 0.9, root_depth_m: 1.0 };
        // FAO-56 example 28's kind: u2 = 3.5 m/s, RHmin = 30 %: 1.15 + (0.06 + 0.06) (2/3)^0.3.
        let dry = Coefficients::of(&canopy, &Climate { wind_m_s: 3.5, least_humidity_pct: 30.0 });
        assert!((dry.kcb - (1.15 + 0.12 * (2.0f64 / 3.0).powf(0.3))).abs() < 1e-12);
        let standard = Coefficients::of(&canopy, &Climate { wind_m_s: 2.0, least_humidity_pct: 45.0 });
        assert!((standard.kcb - 1.15).abs() < 1e-12 && (standard.kc_max - 1.2).abs() < 1e-12);
        assert!((depletion_fraction(0.55, 8.0) - 0.43).abs() < 1e-12);
    }
}
