//! What a lack of water costs in yield: FAO-33's response factors, period by period.
//!
//! In a period the loss is `Ky (1 - ETa/ETm)` (Doorenbos and Kassam 1979, eq. 1); over a season the periods' remains are
//! multiplied (Rao, Sarma and Chander 1988, *Agric. Water Manage.* 13, 25-32, eq. 4).

use serde::{Deserialize, Serialize};

use super::{Crop, Parameters};

/// Water that a crop had and would have had in each of FAO-33's periods, mm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaterUse {
    /// Evapotranspiration.
    pub actual_mm: [f64; 4],
    /// Evapotranspiration without stress.
    pub most_mm: [f64; 4],
}

impl WaterUse {
    /// Books water at a place in the season, in degree days.
    pub fn add(&mut self, parameters: &Parameters, gdd: f64, actual_mm: f64, most_mm: f64) {
        let period = parameters.period_ends_gdd.iter().position(|end| gdd < *end).unwrap_or(3);
        self.actual_mm[period] += actual_mm;
        self.most_mm[period] += most_mm;
    }

    /// The share of the potential yield that is left, 0 to 1.
    #[must_use]
    pub fn relative_yield(&self, crop: Crop) -> f64 {
        let left = |(ky, (actual, most)): (f64, (&f64, &f64))| {
            if *most > 0.0 { (1.0 - ky * (1.0 - actual / most)).clamp(0.0, 1.0) } else { 1.0 }
        };
        crop.parameters().response.into_iter().zip(self.actual_mm.iter().zip(&self.most_mm)).map(left).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maize_that_is_thirsty_in_flower_loses_most() {
        let parameters = Crop::Maize.parameters();
        let relative = |thirsty: f64| {
            let mut used = WaterUse::default();
            for gdd in (0..1700).step_by(10).map(f64::from) {
                let period = parameters.period_ends_gdd.iter().position(|end| gdd < *end).unwrap();
                used.add(&parameters, gdd, if period as f64 == thirsty { 2.5 } else { 5.0 }, 5.0);
            }
            used.relative_yield(Crop::Maize)
        };
        // FAO-33: 1 - Ky 0.5.
        for (period, expected) in [(0.0, 0.8), (1.0, 0.25), (2.0, 0.75), (3.0, 0.9), (9.0, 1.0)] {
            assert!((relative(period) - expected).abs() < 1e-9, "{period}: {}", relative(period));
        }
    }
}
