//! Heat in the soil: conduction through moist layers between the surface's energy balance and the year's wave below.
//!
//! Capacity and conductivity follow from composition and water. The steps are implicit, of any length. Under a daily wave of
//! amplitude A at the surface there is `A exp(-z/D)` at the depth z, `z/(D w)` later, D being the damping depth `sqrt(2 k/w)`
//! (Campbell and Norman 1998, *Environmental Biophysics*, eq. 8.4); the tests hold the layers to it.
#![allow(clippy::needless_range_loop, reason = "a layer is one index into several arrays")]

use std::f64::consts::{PI, TAU};

use proto::Timestamp;

use super::pedotransfer::Characteristics;
use crate::evapotranspiration::saturation_vapour_pressure_kpa;
use crate::sun::day_of_year;
use crate::weather::{AnnualTemperature, Conditions};

/// Seconds of a mean year.
const YEAR_S: f64 = 365.2425 * 86_400.0;
/// A usual diffusivity of moist mineral soil, m2/s (Campbell and Norman 1998, table 8.2), for the wave of the year alone.
const ANNUAL_DIFFUSIVITY_M2_S: f64 = 0.5e-6;
/// Heat capacities of minerals and water, J/(m3 K): de Vries (1963), *Thermal properties of soils*, table 7.1.
const MINERAL_J_M3_K: f64 = 1.92e6;
const WATER_J_M3_K: f64 = 4.18e6;
/// Latent heat of a millimetre of water, J/m2 (FAO-56: 2.45 MJ/kg).
const LATENT_J_MM: f64 = 2.45e6;
/// Stefan and Boltzmann's constant, W/(m2 K4).
const STEFAN_BOLTZMANN: f64 = 5.67e-8;
/// Albedo of bare soil (Campbell and Norman 1998, table 11.2: dry 0.2 to 0.35, wet 0.1 to 0.15).
const SOIL_ALBEDO: f64 = 0.2;
/// Heat capacity of air, J/(m3 K).
const AIR_J_M3_K: f64 = 1200.0;
/// Contents at which the conductivity is tabulated: 0 to 0.64 m3/m3.
const CONTENTS: usize = 33;
const CONTENT_STEP: f64 = 0.02;

/// How a soil conducts and holds heat.
#[derive(Debug, Clone, PartialEq)]
pub struct Thermal {
    conductivity_w_m_k: [f64; CONTENTS],
    dry_j_m3_k: f64,
}

impl Thermal {
    /// Of a soil's density and clay.
    #[must_use]
    pub fn of(soil: &Characteristics) -> Self {
        Self {
            conductivity_w_m_k: std::array::from_fn(|step| conductivity_w_m_k(soil, CONTENT_STEP * step as f64)),
            dry_j_m3_k: (1.0 - soil.saturation) * MINERAL_J_M3_K,
        }
    }

    /// Heat capacity at a water content (m3/m3), J/(m3 K): de Vries (1963) eq. 7.1, organic matter counted as mineral.
    #[must_use]
    pub fn capacity_j_m3_k(&self, content: f64) -> f64 {
        self.dry_j_m3_k + WATER_J_M3_K * content
    }

    /// Conductivity at a water content (m3/m3), W/(m K), from the table.
    #[must_use]
    pub fn conductivity_w_m_k(&self, content: f64) -> f64 {
        let place = (content / CONTENT_STEP).clamp(0.0, (CONTENTS - 1) as f64);
        let index = (place as usize).min(CONTENTS - 2);
        let (a, b) = (self.conductivity_w_m_k[index], self.conductivity_w_m_k[index + 1]);
        a + (b - a) * (place - index as f64)
    }
}

/// Campbell (1985), *Soil Physics with BASIC*, eq. 4.20: thermal conductivity of mineral soil, W/(m K).
fn conductivity_w_m_k(soil: &Characteristics, content: f64) -> f64 {
    let density = soil.bulk_density_kg_m3 / 1000.0;
    let a = 0.65 - 0.78 * density + 0.60 * density * density;
    let b = 1.06 * density;
    let c = 1.0 + 2.6 / soil.clay.max(0.01).sqrt();
    let d = 0.03 + 0.1 * density * density;
    a + b * content - (a - d) * (-(c * content).powi(4)).exp()
}

/// What the surface exchanges heat with: a temperature, and how well it is coupled to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coupling {
    /// Cel.
    pub temperature_c: f64,
    /// W/(m2 K).
    pub conductance_w_m2_k: f64,
}

impl Coupling {
    /// The energy balance of ground under a cover (share of the ground), from which `evaporation_mm_h` evaporate.
    ///
    /// Net radiation less what air and evaporation take is what the soil conducts; written for the temperature at which it
    /// conducts nothing. Long wave after FAO-56 eq. 39, the difference between ground and air linear. The resistance to
    /// the air is FAO-56 eq. 4 over ground of 5 mm roughness, 295/u s/m, and up to 100 s/m below leaves. Leaves let a tenth of the
    /// light through and are as warm as the air.
    #[must_use]
    pub fn of(conditions: &Conditions, cover: f64, evaporation_mm_h: f64) -> Self {
        let kelvin = conditions.air_temperature_c + 273.16;
        let open = 1.0 - 0.9 * cover;
        let clear = conditions.clear_sky_w_m2;
        let clearness = if clear > 30.0 { (conditions.solar_radiation_w_m2 / clear).clamp(0.3, 1.0) } else { 0.8 };
        let vapour_kpa = saturation_vapour_pressure_kpa(conditions.dew_point_c);
        let long_wave =
            STEFAN_BOLTZMANN * kelvin.powi(4) * (0.34 - 0.14 * vapour_kpa.sqrt()) * (1.35 * clearness - 0.35);
        let net = open * ((1.0 - SOIL_ALBEDO) * conditions.solar_radiation_w_m2 - long_wave);
        let latent = evaporation_mm_h * LATENT_J_MM / 3600.0;
        let resistance_s_m = 295.0 / conditions.wind_speed_m_s.max(0.5) + 100.0 * cover;
        let conductance = 4.0 * STEFAN_BOLTZMANN * kelvin.powi(3) + AIR_J_M3_K / resistance_s_m;
        Self {
            temperature_c: conditions.air_temperature_c + (net - latent) / conductance,
            conductance_w_m2_k: conductance,
        }
    }
}

/// Temperatures in layers of soil, Cel.
#[derive(Debug, Clone, PartialEq)]
pub struct Temperatures<const N: usize>(pub [f64; N]);

impl<const N: usize> Temperatures<N> {
    /// What the year has brought at a time to layers with these middles, m.
    #[must_use]
    pub fn of_year(annual: &AnnualTemperature, middles_m: &[f64; N], time: Timestamp) -> Self {
        Self(middles_m.map(|depth_m| annual_wave_c(annual, depth_m, time)))
    }

    /// Goes on by a time with these water contents, under a coupled surface and over a temperature at the lower edge.
    pub fn step(
        &mut self,
        seconds: f64,
        thermal: &Thermal,
        thickness_mm: &[f64; N],
        contents: &[f64; N],
        surface: Coupling,
        below_c: f64,
    ) {
        let cells = &mut self.0;
        // Resistances of half a layer, m2 K/W.
        let half: [f64; N] =
            std::array::from_fn(|layer| thickness_mm[layer] / 2000.0 / thermal.conductivity_w_m_k(contents[layer]));
        let (mut upper, mut value) = ([0.0; N], [0.0; N]);
        let mut above = 1.0 / (half[0] + 1.0 / surface.conductance_w_m2_k);
        for layer in 0..N {
            let below = if layer + 1 < N { 1.0 / (half[layer] + half[layer + 1]) } else { 1.0 / half[layer] };
            let storage = thermal.capacity_j_m3_k(contents[layer]) * thickness_mm[layer] / 1000.0 / seconds;
            let mut diagonal = storage + above + below;
            let mut right = storage * cells[layer];
            if layer == 0 {
                right += above * surface.temperature_c;
            } else {
                diagonal += above * upper[layer - 1];
                right += above * value[layer - 1];
            }
            if layer + 1 == N {
                right += below * below_c;
            }
            upper[layer] = -below / diagonal;
            value[layer] = right / diagonal;
            above = below;
        }
        cells[N - 1] = value[N - 1];
        for layer in (0..N - 1).rev() {
            cells[layer] = value[layer] - upper[layer] * cells[layer + 1];
        }
    }
}

/// The wave of the year at a depth, Cel. Campbell and Norman (1998) eq. 2.4.
#[must_use]
pub fn annual_wave_c(annual: &AnnualTemperature, depth_m: f64, time: Timestamp) -> f64 {
    let damping_m = (ANNUAL_DIFFUSIVITY_M2_S * YEAR_S / PI).sqrt();
    let days = time.as_millis() as f64 / 86_400_000.0;
    let angle = TAU * (day_of_year(days as i64) + days.fract() - annual.warmest_day) / 365.2425;
    annual.mean_c + annual.amplitude_c * (-depth_m / damping_m).exp() * (angle - depth_m / damping_m).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soil::pedotransfer::Composition;

    fn loam() -> Characteristics {
        Composition { sand_pct: 40.0, clay_pct: 20.0, organic_matter_pct: 2.5 }.characteristics()
    }

    #[test]
    fn moist_soil_conducts_as_measured() {
        // Campbell and Norman (1998) table 8.2: 0.2 to 0.3 dry, 1.0 to 1.5 wet, in W/(m K).
        let thermal = Thermal::of(&loam());
        assert!((0.2..0.35).contains(&thermal.conductivity_w_m_k(0.0)), "{}", thermal.conductivity_w_m_k(0.0));
        assert!((1.0..1.6).contains(&thermal.conductivity_w_m_k(0.35)), "{}", thermal.conductivity_w_m_k(0.35));
        let diffusivity = thermal.conductivity_w_m_k(0.28) / thermal.capacity_j_m3_k(0.28);
        assert!((0.4e-6..0.7e-6).contains(&diffusivity), "{diffusivity}");
    }

    /// Amplitude and the hour of the maximum in each layer, of the twelfth day under a daily wave of 10 Cel at the surface.
    fn daily_wave<const N: usize>(thickness_mm: &[f64; N], content: f64) -> [(f64, f64); N] {
        let thermal = Thermal::of(&loam());
        let mut column = Temperatures([15.0; N]);
        let mut extremes = [(f64::INFINITY, f64::NEG_INFINITY, 0.0); N];
        for step in 0..12 * 288 {
            let hour = f64::from(step + 1) / 12.0;
            let surface =
                Coupling { temperature_c: 15.0 + 10.0 * (TAU * (hour - 12.0) / 24.0).cos(), conductance_w_m2_k: 1e9 };
            column.step(300.0, &thermal, thickness_mm, &[content; N], surface, 15.0);
            if step >= 11 * 288 {
                for (extreme, temperature) in extremes.iter_mut().zip(column.0) {
                    extreme.0 = extreme.0.min(temperature);
                    if temperature > extreme.1 {
                        (extreme.1, extreme.2) = (temperature, hour - 11.0 * 24.0);
                    }
                }
            }
        }
        extremes.map(|(low, high, at)| ((high - low) / 2.0, at))
    }

    #[test]
    fn the_daily_wave_falls_and_lags_with_depth_as_theory_says() {
        let thickness = crate::soil::THICKNESS_MM;
        for content in [0.08, 0.2, 0.35] {
            let thermal = Thermal::of(&loam());
            let diffusivity = thermal.conductivity_w_m_k(content) / thermal.capacity_j_m3_k(content);
            let damping_m = (diffusivity * 86_400.0 / PI).sqrt();
            let mut depth = 0.0;
            for (layer, (amplitude, maximum_h)) in daily_wave(&thickness, content).into_iter().enumerate().take(8) {
                depth += thickness[layer] / 2000.0;
                let expected = 10.0 * (-depth / damping_m).exp();
                assert!((amplitude - expected).abs() < 0.05 * expected + 0.05, "{depth} m: {amplitude}, {expected}");
                let late = (maximum_h - 12.0 - depth / damping_m * 24.0 / TAU).rem_euclid(24.0);
                assert!(late.min(24.0 - late) < 0.5, "{depth} m: warmest at {maximum_h} h, {late} h off");
                depth += thickness[layer] / 2000.0;
            }
        }
    }

    #[test]
    fn bare_dry_ground_is_hot_by_day_and_cold_by_night_and_evaporation_and_leaves_temper_it() {
        let noon = Conditions {
            air_temperature_c: 30.0,
            dew_point_c: 8.0,
            relative_humidity_pct: 25.0,
            wind_speed_m_s: 2.0,
            solar_radiation_w_m2: 900.0,
            clear_sky_w_m2: 950.0,
            rain_mm_h: 0.0,
            et0_mm_h: 0.7,
        };
        let of =
            |conditions: &Conditions, cover, evaporation| Coupling::of(conditions, cover, evaporation).temperature_c;
        assert!(of(&noon, 0.0, 0.0) > 55.0);
        assert!(of(&noon, 0.0, 0.7) < of(&noon, 0.0, 0.0) - 20.0);
        assert!(of(&noon, 0.9, 0.0) < 42.0, "{}", of(&noon, 0.9, 0.0));
        let night = Conditions { solar_radiation_w_m2: 0.0, clear_sky_w_m2: 0.0, air_temperature_c: 12.0, ..noon };
        assert!(of(&night, 0.0, 0.0) < 9.0 && of(&night, 0.9, 0.0) > 11.0);
    }
}
