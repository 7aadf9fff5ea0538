//! Water in four layers of soil: infiltration, gravity, suction, evaporation, roots, drainage.
//!
//! A layer's conductivity and suction are Saxton and Rawls' (2006) power functions of its water content, carried on to
//! saturation. Between two layers water flows after Darcy, with the flow by suction written as the difference of the
//! layers' matric flux potentials (Campbell 1985, *Soil Physics with BASIC*, chapter 8), which is exact for a uniform soil
//! and needs no mean conductivity. What leaves one place enters another: every amount is taken once and given once, so
//! that what came in, less what went out, is what the soil gained ([`WaterColumn::imbalance_mm`]).

use serde::{Deserialize, Serialize};

use super::Hydraulics;

/// How many layers there are.
pub const LAYERS: usize = 4;
/// The layers' thicknesses, mm. The first three hold the probes at 10, 20 and 40 cm; the last is where deep roots
/// drink and drainage passes.
pub const THICKNESS_MM: [f64; LAYERS] = [150.0, 150.0, 300.0, 400.0];
/// The layers that hold the probes at 10, 20 and 40 cm.
pub const PROBED: [usize; 3] = [0, 1, 2];
/// The depth of the root zone whose depletion decides on irrigation: the layers above 60 cm.
const ROOT_ZONE: std::ops::Range<usize> = 0..3;
/// Water that stands in the field's unevenness before it runs off, mm.
const PONDING_MM: f64 = 5.0;
/// Water below this share of the wilting point does not leave: it is bound to the particles.
const BOUND_SHARE: f64 = 0.5;

/// Water in a column of soil.
#[derive(Debug, Clone, PartialEq)]
pub struct WaterColumn {
    soil: Hydraulics,
    curve: Curve,
    /// State: everything that changes.
    state: WaterState,
}

/// What changes in a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaterState {
    /// Water in each layer, mm.
    pub layers_mm: [f64; LAYERS],
    /// Water on the surface, mm.
    pub ponded_mm: f64,
    /// Sums since the beginning, mm.
    pub sums: Sums,
}

/// What went in and out since the beginning, mm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// What was in the soil and on it at the beginning.
    pub initial_mm: f64,
    /// Rain and irrigation.
    pub supply_mm: f64,
    /// What ran off the surface.
    pub runoff_mm: f64,
    /// What left the last layer downwards.
    pub drainage_mm: f64,
    /// From the surface and the first layer.
    pub evaporation_mm: f64,
    /// Through the crop.
    pub transpiration_mm: f64,
}

/// What weather and crop ask of the soil during a step, and what they bring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Rain and irrigation, mm/h.
    pub supply_mm_h: f64,
    /// Evaporation from bare wet soil, mm/h.
    pub evaporation_mm_h: f64,
    /// Transpiration of the crop with enough water, mm/h.
    pub transpiration_mm_h: f64,
    /// Share of the roots in each layer; they sum to one.
    pub roots: [f64; LAYERS],
    /// How much of the available water the crop takes without stress, 0 to 1 (FAO-56 table 22).
    pub depletion_fraction: f64,
}

/// What of the hydraulics the inner loop needs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Curve {
    /// Exponent of conductivity over relative saturation.
    conductivity_exponent: f64,
    /// Matric flux potential at saturation, mm2/h, and its exponent.
    potential_mm2_h: f64,
    potential_exponent: f64,
    /// Steps into which an hour is cut so that gravity's explicit step is stable.
    substeps_per_h: f64,
}

impl Curve {
    fn new(soil: &Hydraulics) -> Self {
        let slope = soil.slope();
        // Saxton and Rawls (2006) eq. 17: K = Ks (w / ws)^(3 + 2 B).
        let conductivity_exponent = 3.0 + 2.0 * slope;
        // Suction at saturation on the power curve through -33 kPa at field capacity; 1 kPa is 102 mm of water.
        let entry_mm = 33.0 * 102.0 * (soil.field_capacity / soil.saturation).powf(slope);
        let potential_mm2_h = soil.saturated_conductivity_mm_h * entry_mm / (1.0 + 3.0 / slope);
        let steepest = soil.saturated_conductivity_mm_h * conductivity_exponent / soil.saturation / THICKNESS_MM[0];
        Self {
            conductivity_exponent,
            potential_mm2_h,
            potential_exponent: conductivity_exponent - slope,
            substeps_per_h: steepest,
        }
    }
}

impl WaterColumn {
    /// A column with the same water content, m3/m3, in each layer.
    #[must_use]
    pub fn new(soil: Hydraulics, water_content: f64) -> Self {
        let layers_mm = THICKNESS_MM.map(|thickness| thickness * water_content.clamp(0.0, soil.saturation));
        let sums = Sums { initial_mm: layers_mm.iter().sum(), ..Sums::default() };
        Self { soil, curve: Curve::new(&soil), state: WaterState { layers_mm, ponded_mm: 0.0, sums } }
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> &WaterState {
        &self.state
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: WaterState) {
        self.state = state;
    }

    /// Begins anew with this share of the available water missing, 0 to 1, in every layer.
    pub fn dry(&mut self, share: f64) {
        let available = self.soil.field_capacity - self.soil.wilting_point;
        *self = Self::new(self.soil, self.soil.field_capacity - share * available);
    }

    /// Water content of a layer, m3/m3.
    #[must_use]
    pub fn water_content(&self, layer: usize) -> f64 {
        self.state.layers_mm[layer] / THICKNESS_MM[layer]
    }

    /// How the soil holds water.
    #[must_use]
    pub fn soil(&self) -> &Hydraulics {
        &self.soil
    }

    /// What the root zone lacks to field capacity, mm (FAO-56: the root zone depletion Dr).
    #[must_use]
    pub fn depletion_mm(&self) -> f64 {
        ROOT_ZONE
            .map(|layer| (self.soil.field_capacity * THICKNESS_MM[layer] - self.state.layers_mm[layer]).max(0.0))
            .sum()
    }

    /// What the root zone holds between field capacity and wilting point, mm (FAO-56 eq. 82: TAW).
    #[must_use]
    pub fn total_available_mm(&self) -> f64 {
        ROOT_ZONE.map(|layer| (self.soil.field_capacity - self.soil.wilting_point) * THICKNESS_MM[layer]).sum()
    }

    /// What came in, less what went out, less what the soil gained: zero but for rounding, mm.
    #[must_use]
    pub fn imbalance_mm(&self) -> f64 {
        let s = &self.state.sums;
        let out = s.runoff_mm + s.drainage_mm + s.evaporation_mm + s.transpiration_mm;
        let stored = self.state.layers_mm.iter().sum::<f64>() + self.state.ponded_mm;
        s.initial_mm + s.supply_mm - out - stored
    }

    /// What went in and out.
    #[must_use]
    pub fn sums(&self) -> &Sums {
        &self.state.sums
    }

    /// Goes on by a time.
    pub fn step(&mut self, hours: f64, demand: &Demand) {
        let substeps = (hours * self.curve.substeps_per_h).ceil().max(1.0);
        for _ in 0..substeps as u32 {
            self.substep(hours / substeps, demand);
        }
    }

    fn substep(&mut self, hours: f64, demand: &Demand) {
        let mut conductivity = [0.0; LAYERS];
        let mut potential = [0.0; LAYERS];
        for layer in 0..LAYERS {
            let wetness = (self.water_content(layer) / self.soil.saturation).clamp(1e-6, 1.0);
            let logarithm = wetness.ln();
            conductivity[layer] =
                self.soil.saturated_conductivity_mm_h * (self.curve.conductivity_exponent * logarithm).exp();
            potential[layer] = self.curve.potential_mm2_h * (self.curve.potential_exponent * logarithm).exp();
        }

        // Drainage first, then from below upwards, so that a layer has made room before it is given water.
        let drained = (conductivity[LAYERS - 1] * hours).min(self.free_mm(LAYERS - 1));
        self.state.layers_mm[LAYERS - 1] -= drained;
        self.state.sums.drainage_mm += drained;
        for upper in (0..LAYERS - 1).rev() {
            let lower = upper + 1;
            let distance_mm = (THICKNESS_MM[upper] + THICKNESS_MM[lower]) / 2.0;
            let wanted = (conductivity[upper] + (potential[upper] - potential[lower]) / distance_mm) * hours;
            let (from, to) = if wanted > 0.0 { (upper, lower) } else { (lower, upper) };
            let moved = wanted.abs().min(self.free_mm(from)).min(self.room_mm(to));
            self.state.layers_mm[from] -= moved;
            self.state.layers_mm[to] += moved;
        }

        let supply = demand.supply_mm_h * hours;
        self.state.sums.supply_mm += supply;
        let on_surface = self.state.ponded_mm + supply;
        let suction = (self.curve.potential_mm2_h - potential[0]) / (THICKNESS_MM[0] / 2.0);
        let taken = on_surface.min((self.soil.saturated_conductivity_mm_h + suction) * hours).min(self.room_mm(0));
        self.state.layers_mm[0] += taken;
        let left = on_surface - taken;
        self.state.ponded_mm = left.min(PONDING_MM);
        self.state.sums.runoff_mm += left - self.state.ponded_mm;

        self.evaporate(hours, demand);
    }

    fn evaporate(&mut self, hours: f64, demand: &Demand) {
        let mut wanted = demand.evaporation_mm_h * hours;
        let from_surface = wanted.min(self.state.ponded_mm);
        self.state.ponded_mm -= from_surface;
        wanted -= from_surface;
        // FAO-56 eq. 74, with the first layer for the evaporable one: falls from field capacity to half of wilting point.
        let bound = BOUND_SHARE * self.soil.wilting_point;
        let dryness = ((self.water_content(0) - bound) / (self.soil.field_capacity - bound)).clamp(0.0, 1.0);
        let from_soil = (wanted * dryness * dryness).min(self.free_mm(0));
        self.state.layers_mm[0] -= from_soil;
        self.state.sums.evaporation_mm += from_surface + from_soil;

        let available = self.soil.field_capacity - self.soil.wilting_point;
        for layer in 0..LAYERS {
            // FAO-56 eq. 84, layer by layer.
            let left = (self.water_content(layer) - self.soil.wilting_point) / available;
            let stress = (left / (1.0 - demand.depletion_fraction)).clamp(0.0, 1.0);
            let taken = (demand.transpiration_mm_h * hours * demand.roots[layer] * stress).min(self.free_mm(layer));
            self.state.layers_mm[layer] -= taken;
            self.state.sums.transpiration_mm += taken;
        }
    }

    /// What a layer can give, mm.
    fn free_mm(&self, layer: usize) -> f64 {
        (self.state.layers_mm[layer] - BOUND_SHARE * self.soil.wilting_point * THICKNESS_MM[layer]).max(0.0)
    }

    /// What a layer can still take, mm.
    fn room_mm(&self, layer: usize) -> f64 {
        (self.soil.saturation * THICKNESS_MM[layer] - self.state.layers_mm[layer]).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::soil::Texture;

    const STEP_H: f64 = 1.0 / 12.0;
    const ROOTS: [f64; LAYERS] = [0.4, 0.3, 0.2, 0.1];

    fn demand(supply_mm_h: f64, et_mm_h: f64) -> Demand {
        Demand {
            supply_mm_h,
            evaporation_mm_h: 0.2 * et_mm_h,
            transpiration_mm_h: 0.8 * et_mm_h,
            roots: ROOTS,
            depletion_fraction: 0.5,
        }
    }

    /// When each probed layer has gained 0.01 m3/m3, in hours.
    fn arrivals(texture: Texture, supply_mm_h: f64, supply_h: f64) -> [Option<f64>; 3] {
        let soil = texture.hydraulics();
        let mut column = WaterColumn::new(soil, (soil.field_capacity + soil.wilting_point) / 2.0);
        let before = PROBED.map(|layer| column.water_content(layer));
        let mut arrived = [None; 3];
        for step in 0..5 * 288 {
            let hour = f64::from(step) * STEP_H;
            column.step(STEP_H, &demand(if hour < supply_h { supply_mm_h } else { 0.0 }, 0.0));
            for (at, layer) in PROBED.into_iter().enumerate() {
                if arrived[at].is_none() && column.water_content(layer) > before[at] + 0.01 {
                    arrived[at] = Some(hour);
                }
            }
        }
        arrived
    }

    #[test]
    fn soil_that_begins_dry_lacks_its_share() {
        let soil = Texture::Loam.hydraulics();
        let mut column = WaterColumn::new(soil, soil.saturation);
        column.dry(0.5);
        assert!((column.depletion_mm() - 0.5 * column.total_available_mm()).abs() < 1e-9);
        assert!((0..LAYERS).all(|layer| (column.water_content(layer) - 0.21).abs() < 1e-12));
    }

    #[test]
    fn water_reaches_10_cm_first_then_20_then_40() {
        for texture in Texture::ALL {
            let [first, second, third] = arrivals(texture, 6.0, 10.0).map(|arrived| arrived.unwrap_or(f64::INFINITY));
            assert!(first < 5.0, "{texture:?}: {first}");
            assert!(first < second && second < third, "{texture:?}: {first} {second} {third}");
        }
    }

    #[test]
    fn dry_days_dry_the_soil_from_above() {
        for texture in Texture::ALL {
            let soil = texture.hydraulics();
            let mut column = WaterColumn::new(soil, soil.field_capacity);
            let mut before = column.water_content(0);
            for day in 0..10 {
                for step in 0..288 {
                    let sun = (std::f64::consts::PI * (f64::from(step) / 144.0 - 0.5)).sin().max(0.0);
                    column.step(STEP_H, &demand(0.0, 0.7 * sun));
                }
                let now = column.water_content(0);
                assert!(now < before, "{texture:?} day {day}: {now} is not below {before}");
                before = now;
            }
            assert!(column.water_content(0) < column.water_content(2), "{texture:?}");
            assert!(column.depletion_mm() > 10.0, "{texture:?}: {}", column.depletion_mm());
        }
    }

    #[test]
    fn a_wet_profile_drains_fast_at_first_and_hardly_after_days() {
        for texture in Texture::ALL {
            let soil = texture.hydraulics();
            let mut column = WaterColumn::new(soil, soil.saturation);
            let mut days = Vec::new();
            for _ in 0..6 {
                let before = column.sums().drainage_mm;
                for _ in 0..288 {
                    column.step(STEP_H, &demand(0.0, 0.0));
                }
                days.push(column.sums().drainage_mm - before);
            }
            assert!(days[0] > 20.0 && days[5] < days[0] / 10.0, "{texture:?}: {days:?}");
            assert!(column.water_content(0) > 0.9 * soil.field_capacity, "{texture:?}: {}", column.water_content(0));
        }
    }

    #[test]
    fn more_than_the_soil_can_take_stands_and_then_runs_off() {
        let mut column = WaterColumn::new(Texture::ClayLoam.hydraulics(), 0.47);
        for _ in 0..24 {
            column.step(STEP_H, &demand(30.0, 0.0));
        }
        assert_eq!(column.state().ponded_mm, PONDING_MM);
        assert!(column.sums().runoff_mm > 20.0, "{:?}", column.sums());
    }

    proptest! {
        #[test]
        fn water_is_conserved_whatever_happens(
            texture in prop::sample::select(Texture::ALL.to_vec()),
            initial in 0.0..0.6f64,
            contents in 0.8..1.2f64,
            conductivity in 0.3..3.0f64,
            days in prop::collection::vec((0.0..60.0f64, 0.0..1.5f64, 1u32..40), 1..30),
        ) {
            let soil = texture.hydraulics().scaled(contents, conductivity);
            let mut column = WaterColumn::new(soil, initial);
            for (supply, et, steps) in days {
                for _ in 0..steps {
                    column.step(STEP_H, &demand(supply, et));
                    prop_assert!(column.imbalance_mm().abs() <= 1e-6 * column.sums().supply_mm.max(1.0), "{}", column.imbalance_mm());
                    for layer in 0..LAYERS {
                        prop_assert!((0.0..=soil.saturation + 1e-9).contains(&column.water_content(layer)));
                    }
                }
            }
        }
    }
}
