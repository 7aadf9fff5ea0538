//! Heat in the soil: conduction through a metre of it, between the air above and the year's wave below.
//!
//! Twenty cells of 5 cm, one diffusivity (Campbell and Norman 1998, *Environmental Biophysics*, chapter 8). A daily wave of
//! amplitude A at the surface has `A exp(-z/D)` at the depth z and comes `z/(D w)` later, D being the damping depth
//! `sqrt(2 k/w)`; the tests hold the cells to it.

use std::f64::consts::TAU;

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sun::day_of_year;
use crate::weather::AnnualTemperature;

/// Cells of soil.
pub const CELLS: usize = 20;
/// A cell's thickness, m.
const CELL_M: f64 = 0.05;
/// Seconds of a mean year.
const YEAR_S: f64 = 365.2425 * 86_400.0;

/// Thermal diffusivity of moist mineral soil, m2/s (Campbell and Norman 1998, table 8.2: 0.4 to 0.7 for loams).
pub const DIFFUSIVITY_M2_S: f64 = 0.5e-6;

/// Temperatures in a column of soil.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatColumn {
    diffusivity_m2_s: f64,
    annual: AnnualTemperature,
    cells: HeatState,
}

/// What changes: the cells' temperatures, Cel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeatState(pub [f64; CELLS]);

impl HeatColumn {
    /// A column in which the year's wave has settled, at a time.
    #[must_use]
    pub fn new(diffusivity_m2_s: f64, annual: AnnualTemperature, time: Timestamp) -> Self {
        let mut cells = [0.0; CELLS];
        for (cell, temperature) in cells.iter_mut().enumerate() {
            *temperature = annual_wave_c(&annual, diffusivity_m2_s, (cell as f64 + 0.5) * CELL_M, time);
        }
        Self { diffusivity_m2_s, annual, cells: HeatState(cells) }
    }

    /// What changes, to keep.
    #[must_use]
    pub fn state(&self) -> &HeatState {
        &self.cells
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, state: HeatState) {
        self.cells = state;
    }

    /// Temperature at a depth, Cel.
    #[must_use]
    pub fn temperature_c(&self, depth_m: f64) -> f64 {
        let place = (depth_m / CELL_M - 0.5).clamp(0.0, (CELLS - 1) as f64);
        let cell = (place as usize).min(CELLS - 2);
        let share = place - cell as f64;
        self.cells.0[cell] * (1.0 - share) + self.cells.0[cell + 1] * share
    }

    /// Goes on by at most ten minutes (the explicit scheme's bound is half an hour) under a surface temperature.
    pub fn step(&mut self, seconds: f64, surface_c: f64, time: Timestamp) {
        let cells = &mut self.cells.0;
        let bottom = annual_wave_c(&self.annual, self.diffusivity_m2_s, CELLS as f64 * CELL_M, time);
        let factor = self.diffusivity_m2_s * seconds / (CELL_M * CELL_M);
        // Surface and bottom are half a cell away, hence the factor two.
        let mut flow_in = 2.0 * factor * (surface_c - cells[0]);
        for cell in 0..CELLS {
            let flow_out = match cells.get(cell + 1) {
                Some(next) => factor * (cells[cell] - next),
                None => 2.0 * factor * (cells[cell] - bottom),
            };
            cells[cell] += flow_in - flow_out;
            flow_in = flow_out;
        }
    }
}

/// The temperature of the ground's surface, Cel: the air's, warmed by the sun where no crop shades it, cooled at night.
///
/// A bare surface is taken to be up to 9 Cel warmer than the air in full sun and 1.5 Cel colder under a clear night sky,
/// within what is measured over crops and bare soil; it is not an energy balance.
#[must_use]
pub fn surface_c(air_temperature_c: f64, solar_radiation_w_m2: f64, cover: f64) -> f64 {
    let bare = 1.0 - 0.8 * cover;
    air_temperature_c + bare * (0.0105 * solar_radiation_w_m2 - 1.5)
}

/// The year's wave at a depth. Campbell and Norman (1998) eq. 2.4.
fn annual_wave_c(annual: &AnnualTemperature, diffusivity_m2_s: f64, depth_m: f64, time: Timestamp) -> f64 {
    let damping_m = (diffusivity_m2_s * YEAR_S / std::f64::consts::PI).sqrt();
    let days = time.as_millis() as f64 / 86_400_000.0;
    let angle = TAU * (day_of_year(days as i64) + days.fract() - annual.warmest_day) / 365.2425;
    annual.mean_c + annual.amplitude_c * (-depth_m / damping_m).exp() * (angle - depth_m / damping_m).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Amplitude and the hour of the maximum at each depth, of the third day under a daily wave of 10 Cel.
    fn daily_wave(depths_m: [f64; 3]) -> [(f64, f64); 3] {
        let annual = AnnualTemperature { mean_c: 15.0, amplitude_c: 0.0, warmest_day: 200.0 };
        let start = Timestamp::from_secs(0);
        let mut column = HeatColumn::new(DIFFUSIVITY_M2_S, annual, start);
        let mut extremes = [(f64::INFINITY, f64::NEG_INFINITY, 0.0); 3];
        for step in 0..12 * 288 {
            let hour = f64::from(step) / 12.0;
            column.step(300.0, 15.0 + 10.0 * (TAU * (hour - 12.0) / 24.0).cos(), start);
            if step >= 11 * 288 {
                for (extreme, depth) in extremes.iter_mut().zip(depths_m) {
                    let temperature = column.temperature_c(depth);
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
        let depths = [0.1, 0.2, 0.3];
        let damping_m = (DIFFUSIVITY_M2_S * 86_400.0 / std::f64::consts::PI).sqrt();
        for ((amplitude, maximum_h), depth) in daily_wave(depths).into_iter().zip(depths) {
            let expected = 10.0 * (-depth / damping_m).exp();
            assert!((amplitude / expected - 1.0).abs() < 0.12, "{depth} m: {amplitude}, expected {expected}");
            let expected_h = 12.0 + depth / damping_m * 24.0 / TAU;
            let late = (maximum_h - expected_h).rem_euclid(24.0);
            assert!(late.min(24.0 - late) < 0.6, "{depth} m: warmest at {maximum_h} h, expected {expected_h}");
        }
    }

    #[test]
    fn a_column_begins_where_the_year_has_brought_it() {
        let annual = AnnualTemperature { mean_c: 12.0, amplitude_c: 12.0, warmest_day: 200.0 };
        let at = |day: i64, depth: f64| {
            HeatColumn::new(DIFFUSIVITY_M2_S, annual, Timestamp::from_secs(day * 86_400)).temperature_c(depth)
        };
        assert!(at(200, 0.1) > at(200, 0.9));
        assert!(at(15, 0.1) < at(15, 0.9));
    }
}
