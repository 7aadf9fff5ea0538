//! The ground at a place: water, heat and what is dissolved in layers of one soil, under a crop.
//!
//! Each step asks the crop and the air what they take ([`crate::crop::demand`]), moves the water ([`richards`]), and lets heat
//! ([`thermal`]) and solutes ([`solute`]) follow it. Solutes move when a millimetre has, or within an hour.
#![allow(clippy::needless_range_loop, reason = "a layer is one index into several arrays")]

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crop::demand::{Coefficients, EVAPORABLE_MM, Ground, Wants, Wetted, exposed_mm};
use crate::soil::curve::Curve;
use crate::soil::pedotransfer::{Characteristics, Composition};
use crate::soil::solute::{Movement, transport};
use crate::soil::thermal::{Coupling, Temperatures, Thermal, annual_wave_c};
use crate::soil::{LAYERS, THICKNESS_MM, bulk_ec_ds_m, richards};
use crate::weather::{AnnualTemperature, Conditions};

/// Water that stands in the field's unevenness before it runs off, mm, on level ground.
const PONDING_MM: f64 = 5.0;
/// A kilogram on a hectare in mg on a square metre.
const MG_M2_PER_KG_HA: f64 = 100.0;
/// Solutes are moved when so much water has passed between two layers, mm, or after so long, h.
const MOVED_MM: f64 = 1.0;
const MOVED_H: f64 = 1.0;
/// What a kilogram of nitrogen, phosphorus and potassium on a hectare adds to the salt in the soil's water, dS/m mm: nitrate (14.0 mg/meq) comes
/// with a cation and potassium (39.1 mg/meq) with chloride or drives out a cation, and 10 meq/l are 1 dS/m (Richards 1954, *USDA
/// Handbook* 60, figure 3). Phosphate is bound to the soil.
const SALT_PER_KG_HA: [f64; 3] =
    [MG_M2_PER_KG_HA / 14.0 / MEQ_L_PER_DS_M, 0.0, MG_M2_PER_KG_HA / 39.1 / MEQ_L_PER_DS_M];
const MEQ_L_PER_DS_M: f64 = 10.0;
/// Into which depth fertiliser is worked, mm.
const WORKED_MM: f64 = 100.0;
/// Where organic matter is mineralised, mm.
const HUMUS_MM: f64 = 310.0;
/// First-order rate of mineralisation at 35 Cel, per h: 0.054 per week (Stanford and Smith 1972, *Soil Sci. Soc. Am. J.* 36, 465-472).
const MINERALISATION_PER_H: f64 = 0.054 / 168.0;

/// What is dissolved, in the order of all arrays of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Solute {
    /// Total salt; its amount is EC times water, dS/m mm.
    Salt,
    /// Nitrate nitrogen, mg/m2.
    Nitrate,
    /// Phosphorus that plants can get, mg/m2.
    Phosphorus,
    /// Potassium that plants can get, mg/m2.
    Potassium,
}

/// How many solutes there are.
pub const SOLUTES: usize = 4;
/// Distribution coefficients, l/kg: neither salt nor nitrate is sorbed; of 15 mg/kg phosphorus some 0.1 mg/l are dissolved, of 180 mg/kg
/// potassium some 10. The last two are assumptions for a loam.
const SORPTION_L_KG: [f64; SOLUTES] = [0.0, 0.0, 150.0, 18.0];
/// What there is at first above and far below a plough's depth, mg/kg. Assumptions: a field that is fertilised.
const NUTRIENTS_MG_KG: [(f64, f64); 3] = [(14.0, 2.0), (18.0, 4.0), (190.0, 100.0)];
/// Nitrogen that can be mineralised, kg/ha: an assumption for 2.5 % organic matter.
const ORGANIC_KG_HA: f64 = 120.0;
/// How much more concentrated than the soil's water roots may take a solute up.
const MOST_UPTAKE: [f64; SOLUTES] = [0.0, 3.0, 300.0, 50.0];

/// Water that is brought, and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Brought {
    /// Rain, mm/h.
    pub rain_mm_h: f64,
    /// Irrigation that reaches the soil, mm/h.
    pub irrigation_mm_h: f64,
    /// Electrical conductivity of the irrigation's water, dS/m.
    pub water_ec_ds_m: f64,
    /// Nitrate nitrogen in it, mg/l.
    pub nitrate_mg_l: f64,
}

/// What grows on it, for a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cover {
    /// FAO-56's coefficients.
    pub coefficients: Coefficients,
    /// The share of the available water taken without stress.
    pub depletion_fraction: f64,
    /// What the last water wetted.
    pub wetted: Wetted,
    /// Nitrogen, phosphorus and potassium that the crop wants with each mm that it transpires, mg/m2.
    pub wants_mg_mm: [f64; 3],
}

/// What a step took, mm.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Used {
    /// By evaporation.
    pub evaporation_mm: f64,
    /// By the crop.
    pub transpiration_mm: f64,
    /// By the crop, had it had enough.
    pub potential_mm: f64,
}

/// What came and went since the beginning, mm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// What was in the soil and on it at the beginning.
    pub initial_mm: f64,
    /// Rain.
    pub rain_mm: f64,
    /// Irrigation.
    pub irrigation_mm: f64,
    /// What ran off the surface.
    pub runoff_mm: f64,
    /// What left the last layer downwards.
    pub drainage_mm: f64,
    /// Evaporation.
    pub evaporation_mm: f64,
    /// Transpiration.
    pub transpiration_mm: f64,
    /// Nitrate nitrogen that drained, kg/ha.
    pub nitrate_leached_kg_ha: f64,
    /// Salt that drained, dS/m mm.
    pub salt_leached: f64,
    /// Nitrogen that the crop took up, kg/ha.
    pub nitrogen_taken_kg_ha: f64,
}

/// All that changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    water_mm: [f64; LAYERS],
    place: [f64; LAYERS],
    ponded_mm: f64,
    step_h: f64,
    temperature_c: [f64; LAYERS],
    solutes: [[f64; LAYERS]; SOLUTES],
    /// On the surface.
    surface: [f64; SOLUTES],
    /// Moved since the solutes were, mm.
    down_mm: [f64; LAYERS],
    uptake_mm: [f64; LAYERS],
    entering: [f64; SOLUTES],
    moved_h: f64,
    organic_mg_m2: f64,
    /// What the wetted ground in the sun has lost, FAO-56's De.
    exposed_mm: f64,
    sums: Sums,
}

/// The ground at a place.
#[derive(Debug, Clone)]
pub struct Column {
    soil: Characteristics,
    thermal: Thermal,
    annual: AnnualTemperature,
    ponding_mm: f64,
    flow: richards::Column<LAYERS>,
    state: State,
}

/// A soil of a composition that holds and conducts a little more or less than another of the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Soil {
    /// What it is made of.
    pub composition: Composition,
    /// Its water contents over what the composition says.
    pub contents: f64,
    /// Its conductivity over what the composition says.
    pub conductivity: f64,
    /// The steepest descent of the surface, m/m: the steeper, the less stands on it.
    pub slope: f64,
}

impl Soil {
    /// How it holds and conducts water.
    #[must_use]
    pub fn characteristics(&self) -> Characteristics {
        self.scaled(Curve::shared(&self.composition).1)
    }

    fn scaled(&self, soil: Characteristics) -> Characteristics {
        Characteristics {
            wilting_point: soil.wilting_point * self.contents,
            field_capacity: soil.field_capacity * self.contents,
            saturation: soil.saturation * self.contents,
            saturated_conductivity_mm_h: soil.saturated_conductivity_mm_h * self.conductivity,
            ..soil
        }
    }
}

/// The middles of the layers, mm.
#[must_use]
pub fn middles_mm() -> [f64; LAYERS] {
    let mut top = 0.0;
    THICKNESS_MM.map(|thickness| {
        top += thickness;
        top - thickness / 2.0
    })
}

/// A value of the layers at a depth, mm: on a straight line between their middles.
fn at_depth(values: impl Fn(usize) -> f64, depth_mm: f64) -> f64 {
    let middles = middles_mm();
    let lower = middles.partition_point(|middle| *middle < depth_mm).clamp(1, LAYERS - 1);
    let share = ((depth_mm - middles[lower - 1]) / (middles[lower] - middles[lower - 1])).clamp(0.0, 1.0);
    values(lower - 1) * (1.0 - share) + values(lower) * share
}

impl Column {
    /// Ground at field capacity, with the year's heat in it at a time, and this conductivity in its water, dS/m.
    #[must_use]
    pub fn new(soil: &Soil, annual: AnnualTemperature, water_ec_ds_m: f64, time: Timestamp) -> Self {
        let (curve, unscaled) = Curve::shared(&soil.composition);
        let characteristics = soil.scaled(unscaled);
        let flow = richards::Column::new(curve, THICKNESS_MM, richards::Bottom::Free, [-3366.0; LAYERS])
            .scaled(soil.contents, soil.conductivity);
        let middles = middles_mm();
        let mut solutes = [[0.0; LAYERS]; SOLUTES];
        for layer in 0..LAYERS {
            let dry_kg_m2 = characteristics.bulk_density_kg_m3 * THICKNESS_MM[layer] / 1000.0;
            let share = (-(middles[layer] - 150.0).max(0.0) / 250.0).exp();
            for (solute, (top, deep)) in NUTRIENTS_MG_KG.into_iter().enumerate() {
                solutes[solute + 1][layer] = dry_kg_m2 * (deep + (top - deep) * share);
            }
        }
        let temperature_c = Temperatures::of_year(&annual, &middles.map(|mm| mm / 1000.0), time).0;
        let mut column = Self {
            thermal: Thermal::of(&characteristics),
            soil: characteristics,
            annual,
            // Half of it is left at a slope of 5 %: an assumption after Onstad (1984, Trans. ASAE 27, 729-732).
            ponding_mm: PONDING_MM * 0.5f64.powf(soil.slope / 0.05),
            flow,
            state: State {
                water_mm: [0.0; LAYERS],
                place: [0.0; LAYERS],
                ponded_mm: 0.0,
                step_h: 0.0,
                temperature_c,
                solutes,
                surface: [0.0; SOLUTES],
                down_mm: [0.0; LAYERS],
                uptake_mm: [0.0; LAYERS],
                entering: [0.0; SOLUTES],
                moved_h: 0.0,
                organic_mg_m2: ORGANIC_KG_HA * MG_M2_PER_KG_HA,
                exposed_mm: 0.0,
                sums: Sums::default(),
            },
        };
        let field_capacity = column.soil.field_capacity;
        column.begin(|_| field_capacity);
        for layer in 0..LAYERS {
            column.state.solutes[0][layer] = water_ec_ds_m * column.flow.water_mm()[layer];
        }
        column
    }

    /// Begins anew with this water content, m3/m3, at each layer's middle (mm).
    fn begin(&mut self, content: impl Fn(f64) -> f64) {
        let middles = middles_mm();
        self.flow.set_water_mm(std::array::from_fn(|layer| content(middles[layer]) * THICKNESS_MM[layer]));
        self.forget();
        self.state.exposed_mm = self.depletion_mm(EVAPORABLE_MM).0;
    }

    /// Begins anew with this share of the available water missing, 0 to 1, at every depth. The salt's concentration stays.
    pub fn dry(&mut self, share: f64) {
        let before = *self.flow.water_mm();
        let content = self.soil.field_capacity - share * (self.soil.field_capacity - self.soil.wilting_point);
        self.begin(|_| content);
        for layer in 0..LAYERS {
            self.state.solutes[0][layer] *= self.flow.water_mm()[layer] / before[layer];
        }
        (self.state.surface, self.state.entering, self.state.moved_h) = ([0.0; SOLUTES], [0.0; SOLUTES], 0.0);
        (self.state.down_mm, self.state.uptake_mm) = ([0.0; LAYERS], [0.0; LAYERS]);
    }

    /// Begins to count anew what comes and goes.
    pub fn forget(&mut self) {
        self.state.sums = Sums { initial_mm: self.flow.stored_mm(), ..Sums::default() };
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> State {
        let (water_mm, place, ponded_mm, step_h) = self.flow.state();
        State { water_mm, place, ponded_mm, step_h, ..self.state.clone() }
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: State) {
        self.flow.restore((state.water_mm, state.place, state.ponded_mm, state.step_h));
        self.state = state;
    }

    /// How it holds and conducts water.
    #[must_use]
    pub fn soil(&self) -> &Characteristics {
        &self.soil
    }

    /// What came and went.
    #[must_use]
    pub fn sums(&self) -> &Sums {
        &self.state.sums
    }

    /// What came, less what went, less what the soil gained: zero but for rounding, mm.
    #[must_use]
    pub fn imbalance_mm(&self) -> f64 {
        let s = &self.state.sums;
        let out = s.runoff_mm + s.drainage_mm + s.evaporation_mm + s.transpiration_mm;
        s.initial_mm + s.rain_mm + s.irrigation_mm - out - self.flow.stored_mm()
    }

    /// Water content at a depth in mm, m3/m3.
    #[must_use]
    pub fn water_content(&self, depth_mm: f64) -> f64 {
        at_depth(|layer| self.flow.content(layer), depth_mm)
    }

    /// Temperature at a depth in mm, Cel.
    #[must_use]
    pub fn temperature_c(&self, depth_mm: f64) -> f64 {
        at_depth(|layer| self.state.temperature_c[layer], depth_mm)
    }

    /// Electrical conductivity of the soil's water at a depth in mm, dS/m.
    #[must_use]
    pub fn water_ec_ds_m(&self, depth_mm: f64) -> f64 {
        at_depth(|layer| self.state.solutes[0][layer] / self.flow.water_mm()[layer], depth_mm)
    }

    /// Bulk electrical conductivity at a depth in mm, dS/m at 25 Cel.
    #[must_use]
    pub fn bulk_ec_ds_m(&self, depth_mm: f64) -> f64 {
        bulk_ec_ds_m(self.water_content(depth_mm), self.water_ec_ds_m(depth_mm))
    }

    /// A nutrient at a depth in mm, mg in a kg of dry soil.
    #[must_use]
    pub fn nutrient_mg_kg(&self, solute: Solute, depth_mm: f64) -> f64 {
        let density = self.soil.bulk_density_kg_m3 / 1000.0;
        at_depth(|layer| self.state.solutes[solute as usize][layer] / (density * THICKNESS_MM[layer]), depth_mm)
    }

    /// What is missing to field capacity above a depth, mm, and what is available there, mm (FAO-56: Dr and TAW).
    #[must_use]
    pub fn depletion_mm(&self, depth_mm: f64) -> (f64, f64) {
        Ground { soil: &self.soil, thickness_mm: &THICKNESS_MM, water_mm: self.flow.water_mm() }.depletion_mm(depth_mm)
    }

    /// Fertiliser is worked into the upper soil: nitrogen (which counts as nitrate), phosphorus, potassium, kg/ha; and its salt. What roots
    /// take of it later stays in the salt.
    pub fn fertilise(&mut self, kg_ha: [f64; 3]) {
        let mut top = 0.0;
        for layer in 0..LAYERS {
            let share = (WORKED_MM - top).clamp(0.0, THICKNESS_MM[layer]) / WORKED_MM;
            for (solute, amount) in kg_ha.into_iter().enumerate() {
                self.state.solutes[solute + 1][layer] += share * amount * MG_M2_PER_KG_HA;
                self.state.solutes[Solute::Salt as usize][layer] += share * amount * SALT_PER_KG_HA[solute];
            }
            top += THICKNESS_MM[layer];
        }
    }

    /// Goes on by a step that begins at `start`.
    pub fn step(
        &mut self,
        start: Timestamp,
        hours: f64,
        weather: &Conditions,
        brought: &Brought,
        cover: &Cover,
    ) -> Used {
        let supply_mm_h = brought.rain_mm_h + brought.irrigation_mm_h;
        let standing_mm_h = self.flow.ponded_mm() / hours;
        let ground = Ground { soil: &self.soil, thickness_mm: &THICKNESS_MM, water_mm: self.flow.water_mm() };
        let (et0, coefficients) = (weather.et0_mm_h, &cover.coefficients);
        // What stands on the surface evaporates first.
        let from_surface_mm_h = ((1.0 - coefficients.cover) * coefficients.kc_max * et0).clamp(0.0, standing_mm_h);
        let wants = Wants {
            coefficients: *coefficients,
            exposed_mm: self.state.exposed_mm,
            wetted: cover.wetted,
            et0_mm_h: et0,
            depletion_fraction: cover.depletion_fraction,
        };
        let taken = ground.take(&wants, from_surface_mm_h, hours);
        let evaporable_mm = ground.evaporable_mm().0;
        let sinks = std::array::from_fn(|layer| taken.evaporation_mm_h[layer] + taken.uptake_mm_h[layer]);
        let from_surface_mm = self.flow.take_ponded_mm(from_surface_mm_h * hours);
        let on_surface_mm = self.flow.ponded_mm() + supply_mm_h * hours;
        let top = richards::Top::Supply { rate_mm_h: supply_mm_h, ponding_mm: self.ponding_mm };
        let flows = self.flow.advance(hours, top, &sinks);

        let used = Used {
            evaporation_mm: from_surface_mm + taken.evaporation_mm_h.iter().sum::<f64>() * hours,
            transpiration_mm: taken.uptake_mm_h.iter().sum::<f64>() * hours,
            potential_mm: taken.potential_mm_h * hours,
        };
        let state = &mut self.state;
        state.exposed_mm = exposed_mm(
            state.exposed_mm,
            evaporable_mm,
            brought.rain_mm_h * hours,
            brought.irrigation_mm_h * hours,
            used.evaporation_mm - from_surface_mm,
            coefficients.exposed(cover.wetted),
            cover.wetted.share,
        );
        state.sums.rain_mm += brought.rain_mm_h * hours;
        state.sums.irrigation_mm += brought.irrigation_mm_h * hours;
        state.sums.runoff_mm += flows.runoff_mm;
        state.sums.drainage_mm += flows.down_mm[LAYERS - 1];
        state.sums.evaporation_mm += used.evaporation_mm;
        state.sums.transpiration_mm += used.transpiration_mm;

        // What is dissolved on the surface goes where the water goes; the last of it with the last of the water.
        let irrigated_mm = brought.irrigation_mm_h * hours;
        state.surface[0] += irrigated_mm * brought.water_ec_ds_m;
        state.surface[1] += irrigated_mm * brought.nitrate_mg_l;
        let share = |mm: f64| if on_surface_mm > 0.0 { (mm / on_surface_mm).clamp(0.0, 1.0) } else { 0.0 };
        let (off, stays) = (share(flows.runoff_mm), share(self.flow.ponded_mm()));
        let into = (1.0 - off - stays).max(0.0);
        for solute in 0..SOLUTES {
            state.entering[solute] += state.surface[solute] * into;
            state.surface[solute] *= stays;
        }
        let mut most = 0.0f64;
        for layer in 0..LAYERS {
            state.down_mm[layer] += flows.down_mm[layer];
            state.uptake_mm[layer] += taken.uptake_mm_h[layer] * hours;
            most = most.max(state.down_mm[layer].abs());
        }
        state.moved_h += hours;
        if most >= MOVED_MM || state.moved_h >= MOVED_H - 1e-9 {
            self.move_solutes(cover);
        }
        self.warm(start, hours, weather, cover, used.evaporation_mm / hours);
        used
    }

    fn warm(&mut self, start: Timestamp, hours: f64, weather: &Conditions, cover: &Cover, evaporation_mm_h: f64) {
        let contents = std::array::from_fn(|layer| self.flow.content(layer));
        let surface = Coupling::of(weather, cover.coefficients.cover, evaporation_mm_h);
        let depth_m = THICKNESS_MM.iter().sum::<f64>() / 1000.0;
        let below = annual_wave_c(&self.annual, depth_m, start);
        let mut temperatures = Temperatures(self.state.temperature_c);
        temperatures.step(hours * 3600.0, &self.thermal, &THICKNESS_MM, &contents, surface, below);
        self.state.temperature_c = temperatures.0;
    }

    fn move_solutes(&mut self, cover: &Cover) {
        self.mineralise();
        let state = &mut self.state;
        let movement = Movement {
            thickness_mm: &THICKNESS_MM,
            water_mm: self.flow.water_mm(),
            down_mm: &state.down_mm,
            uptake_mm: &state.uptake_mm,
        };
        let drunk: f64 = state.uptake_mm.iter().sum();
        for solute in 0..SOLUTES {
            let sorption = self.soil.bulk_density_kg_m3 / 1000.0 * SORPTION_L_KG[solute];
            // As much as the crop wants, out of what its roots' water holds.
            let offered: f64 = (0..LAYERS)
                .map(|layer| {
                    let concentration =
                        state.solutes[solute][layer] / (movement.water_mm[layer] + sorption * THICKNESS_MM[layer]);
                    state.uptake_mm[layer] * concentration
                })
                .sum();
            let wanted = if solute == 0 { 0.0 } else { cover.wants_mg_mm[solute - 1] * drunk };
            let uptake = if offered > 0.0 { (wanted / offered).min(MOST_UPTAKE[solute]) } else { 0.0 };
            let gone = transport(&mut state.solutes[solute], &movement, sorption, state.entering[solute], uptake);
            if solute == Solute::Nitrate as usize {
                state.sums.nitrate_leached_kg_ha += gone.drained / MG_M2_PER_KG_HA;
                state.sums.nitrogen_taken_kg_ha += gone.taken / MG_M2_PER_KG_HA;
            } else if solute == Solute::Salt as usize {
                state.sums.salt_leached += gone.drained;
            }
        }
        (state.down_mm, state.uptake_mm, state.entering) = ([0.0; LAYERS], [0.0; LAYERS], [0.0; SOLUTES]);
        state.moved_h = 0.0;
    }

    /// Organic nitrogen becomes nitrate: first order, twice as fast with each 10 Cel, slower below field capacity in proportion (Stanford and
    /// Epstein 1974, *Soil Sci. Soc. Am. J.* 38, 103-107).
    fn mineralise(&mut self) {
        let mut top = 0.0;
        for layer in 0..LAYERS {
            let share = (HUMUS_MM - top).clamp(0.0, THICKNESS_MM[layer]) / HUMUS_MM;
            if share <= 0.0 {
                break;
            }
            let warmth = ((self.state.temperature_c[layer] - 35.0) / 10.0).exp2();
            let moisture = (self.flow.content(layer) / self.soil.field_capacity).min(1.0);
            let made = self.state.organic_mg_m2 * share * MINERALISATION_PER_H * warmth * moisture * self.state.moved_h;
            self.state.organic_mg_m2 -= made;
            self.state.solutes[Solute::Nitrate as usize][layer] += made;
            top += THICKNESS_MM[layer];
        }
    }
}

#[cfg(test)]
mod tests;
