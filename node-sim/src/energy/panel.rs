//! What a panel gives: the sun on its plane, its temperature, its dust.

use proto::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sun::Place;
use crate::weather::Conditions;

/// Temperature of the cells at standard test conditions, Cel (IEC 60904-3).
const STANDARD_C: f64 = 25.0;
/// Reflected by the ground, as a share: FAO-56's grass.
const ALBEDO: f64 = 0.23;
/// A beam is not believed to be stronger on the panel than so many times that on the level: near sunrise the ratio has no bound.
const MOST_BEAM_RATIO: f64 = 6.0;

/// A panel. It faces the equator.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Area of its cells, m2.
    pub area_m2: f64,
    /// Share of the sun's power that it gives at standard test conditions.
    pub efficiency: f64,
    /// Its tilt; 0 lies flat.
    pub tilt_deg: f64,
    /// Change of its power with its temperature, 1/K: -0.003 to -0.005 for crystalline silicon.
    pub temperature_per_k: f64,
    /// Share of the light that something else takes, as a crop that has grown over it.
    pub shaded: f64,
}

impl Panel {
    /// Its power, W, with a share of it lost to dust.
    #[must_use]
    pub fn power_w(&self, place: &Place, time: Timestamp, conditions: &Conditions, soiling: f64) -> f64 {
        let plane_w_m2 = self.plane_w_m2(place, time, conditions.solar_radiation_w_m2);
        let light_w_m2 = plane_w_m2 * (1.0 - soiling) * (1.0 - self.shaded);
        let warmer_k = cell_c(light_w_m2, conditions) - STANDARD_C;
        (light_w_m2 * self.area_m2 * self.efficiency * (1.0 + self.temperature_per_k * warmer_k)).max(0.0)
    }

    /// Irradiance on its plane, W/m2: the beam by the ratio of the sun's incidences, the sky as if it were equally bright everywhere, and what
    /// the ground reflects (Liu and Jordan 1963; Duffie and Beckman, *Solar Engineering of Thermal Processes*, eq. 2.15.1). A
    /// plane tilted towards the equator sees the sun as a level one does at a latitude lower by the tilt (eq. 1.6.7).
    #[must_use]
    pub fn plane_w_m2(&self, place: &Place, time: Timestamp, level_w_m2: f64) -> f64 {
        let above_w_m2 = place.extraterrestrial_w_m2(time);
        if self.tilt_deg == 0.0 || above_w_m2 <= 0.0 {
            return level_w_m2;
        }
        let tilt = self.tilt_deg.to_radians();
        let towards = Place { latitude: place.latitude - self.tilt_deg.copysign(place.latitude), ..*place };
        let ratio = (towards.extraterrestrial_w_m2(time) / above_w_m2).min(MOST_BEAM_RATIO);
        let diffuse = level_w_m2 * diffuse_share(level_w_m2 / above_w_m2);
        let beam = level_w_m2 - diffuse;
        beam * ratio + diffuse * (1.0 + tilt.cos()) / 2.0 + ALBEDO * level_w_m2 * (1.0 - tilt.cos()) / 2.0
    }
}

/// Temperature of the cells, Cel. Faiman (2008), *Assessing the outdoor operating temperature of photovoltaic modules*, with
/// his mean coefficients 25 W/(m2 K) and 6.84 W s/(m3 K).
fn cell_c(light_w_m2: f64, conditions: &Conditions) -> f64 {
    conditions.air_temperature_c + light_w_m2 / (25.0 + 6.84 * conditions.wind_speed_m_s)
}

/// Share of the level radiation that comes from the whole sky, by the clearness index. Erbs, Klein and Duffie (1982), as in
/// Duffie and Beckman eq. 2.10.1.
fn diffuse_share(clearness: f64) -> f64 {
    let k = clearness.clamp(0.0, 1.0);
    match k {
        k if k <= 0.22 => 1.0 - 0.09 * k,
        k if k <= 0.80 => 0.9511 - 0.1604 * k + 4.388 * k.powi(2) - 16.638 * k.powi(3) + 12.336 * k.powi(4),
        _ => 0.165,
    }
}

/// Dust on a panel. Kimber et al. (2006), *The effect of soiling on large grid-connected photovoltaic systems in California and
/// the Southwest region of the United States*: it takes a share of the power each day without rain, until a day with
/// enough rain washes it off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Soiling {
    /// Share of the light that it takes.
    pub loss: f64,
    /// Rain of the last day, mm, forgotten with a time constant of a day.
    rain_mm: f64,
}

/// Loss a day and at most, and the rain that washes it off, mm in a day: the defaults of the `pvlib` library for Kimber's model, but for
/// the two weeks after a rain in which it gathers no dust.
const SOILING_PER_DAY: f64 = 0.0015;
const MOST_SOILING: f64 = 0.3;
const WASHING_MM: f64 = 6.0;

impl Soiling {
    /// Goes on by a time.
    pub fn step(&mut self, hours: f64, rain_mm_h: f64) {
        self.rain_mm = self.rain_mm * (-hours / 24.0).exp() + rain_mm_h * hours;
        self.loss = match self.rain_mm >= WASHING_MM {
            true => 0.0,
            false => (self.loss + SOILING_PER_DAY * hours / 24.0).min(MOST_SOILING),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Duffie and Beckman (4th edition), example 1.8.1 and 2.15.1's geometry: at 40 degrees north on 20 February, 9 to 10 o'clock
    /// solar time, a plane tilted by 60 degrees to the south has Rb = 1.71.
    #[test]
    fn the_beams_ratio_is_that_of_duffie_and_beckman() {
        let place = Place { latitude: 40.0, longitude: 0.0, elevation_m: 0.0 };
        let panel = Panel { area_m2: 1.0, efficiency: 0.15, tilt_deg: 60.0, temperature_per_k: 0.0, shaded: 0.0 };
        // 9:30 solar time; the equation of time is -14 minutes.
        let time: Timestamp = "2026-02-20T09:44:00Z".parse().unwrap();
        let above = place.extraterrestrial_w_m2(time);
        let towards = Place { latitude: -20.0, ..place };
        let ratio = towards.extraterrestrial_w_m2(time) / above;
        assert!((ratio - 1.71).abs() < 0.06, "{ratio}");
        // Under a bright sky the tilted plane gets more in February, under a dark one less.
        assert!(panel.plane_w_m2(&place, time, 0.7 * above) > 1.1 * 0.7 * above);
        assert!(panel.plane_w_m2(&place, time, 0.1 * above) < 0.1 * above);
    }

    /// Erbs et al.: the pieces meet, and the share falls from 1 to 0.165.
    #[test]
    fn the_diffuse_share_is_continuous() {
        for edge in [0.22, 0.80] {
            assert!((diffuse_share(edge - 1e-9) - diffuse_share(edge + 1e-9)).abs() < 0.005);
        }
        assert_eq!((diffuse_share(0.0), diffuse_share(0.95)), (1.0, 0.165));
    }

    #[test]
    fn dust_gathers_and_rain_washes_it_off() {
        let mut soiling = Soiling::default();
        (0..100).for_each(|_| soiling.step(24.0, 0.0));
        assert!((soiling.loss - 0.15).abs() < 1e-9);
        soiling.step(24.0, 0.1);
        assert!(soiling.loss > 0.15);
        (0..4).for_each(|_| soiling.step(1.0, 2.0));
        assert_eq!(soiling.loss, 0.0);
        (0..1000).for_each(|_| soiling.step(24.0, 0.0));
        assert_eq!(soiling.loss, MOST_SOILING);
    }
}
