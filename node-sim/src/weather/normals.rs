//! Twelve monthly normals of a place, as climate tables give them: what [`super::generated`] makes weather of.

use serde::{Deserialize, Serialize};

use crate::evapotranspiration::{dew_point_c, saturation_vapour_pressure_kpa};
use crate::sun::{Place, daylight_h, extraterrestrial_mj_m2_d};

/// A value for each month, January first.
pub type Monthly = [f64; 12];

/// Days of the months; February's are a mean over years.
pub const DAYS: Monthly = [31.0, 28.2425, 31.0, 30.0, 31.0, 30.0, 31.0, 31.0, 30.0, 31.0, 30.0, 31.0];

/// What the weather of a place is like, month by month, January first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normals {
    /// Mean daily maximum of the air temperature, Cel; -60 to 55.
    pub max_c: Monthly,
    /// Mean daily minimum of the air temperature, Cel; at least 2 below the maximum.
    pub min_c: Monthly,
    /// Rain in the month, mm; 0 to 2000.
    pub rain_mm: Monthly,
    /// Days of the month with at least `wet_day_mm` of rain; above 0 where it rains, and at most nine tenths of the month.
    pub wet_days: Monthly,
    /// Mean global radiation, MJ/(m2 d); 0.15 to 0.95 of the clear sky's. Or else `sunshine_h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radiation_mj_m2_d: Option<Monthly>,
    /// Mean hours of bright sunshine in a day; at most the day's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunshine_h: Option<Monthly>,
    /// Mean wind at 2 m, m/s; 0 to 20.
    pub wind_m_s: Monthly,
    /// Mean dew point, Cel; at most the mean temperature. Or else `relative_humidity_pct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dew_point_c: Option<Monthly>,
    /// Mean relative humidity, %; 5 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_humidity_pct: Option<Monthly>,
    /// The least rain of a wet day, mm; 0.1 to 2.5.
    #[serde(default = "tenth")]
    pub wet_day_mm: f64,
    /// How much likelier a wet day is after a wet day than after a dry one, 0 to 0.9. A quarter unless given, after Geng, Penning de Vries
    /// and Supit (1986), who found P(wet after dry) to be three quarters of the share of wet days wherever they looked.
    #[serde(default = "quarter")]
    pub wet_persistence: f64,
    /// Standard deviation of the daily maximum around the season's, Cel; 0 to 10. Fallon's in 2015 was 4.7, Maricopa's in 2013 was 3.7.
    #[serde(default = "sd_max")]
    pub max_sd_c: f64,
    /// Standard deviation of the daily minimum around the season's, Cel; 0 to 10. Fallon's in 2015 was 3.9, Maricopa's in 2013 was 3.3.
    #[serde(default = "sd_min")]
    pub min_sd_c: f64,
    /// How much lower the maximum is on wet days than on dry ones, Cel; 0 to 10. An assumption.
    #[serde(default = "wet_cooling")]
    pub wet_cooling_c: f64,
    /// A wet day's clearness of the sky as a share of a dry day's, 0.3 to 1. An assumption.
    #[serde(default = "wet_light")]
    pub wet_clearness: f64,
}

fn tenth() -> f64 {
    0.1
}

fn quarter() -> f64 {
    0.25
}

fn sd_max() -> f64 {
    4.5
}

fn sd_min() -> f64 {
    3.7
}

fn wet_cooling() -> f64 {
    3.0
}

fn wet_light() -> f64 {
    0.6
}

impl Normals {
    /// What is wrong with them at a place: key, and value with what is allowed.
    #[must_use]
    pub fn problems(&self, place: &Place) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut each =
            |key: &str, of: &Monthly, low: &dyn Fn(usize) -> f64, high: &dyn Fn(usize) -> f64, unit: &str| {
                for (month, value) in of.iter().enumerate() {
                    let (low, high) = (low(month), high(month));
                    if !(low..=high).contains(value) {
                        problems
                            .push((format!("{key}[{month}]"), format!("{value} is not {low:.1} to {high:.1} {unit}")));
                    }
                }
            };
        each("max_c", &self.max_c, &|_| -60.0, &|_| 55.0, "Cel");
        each("min_c", &self.min_c, &|_| -70.0, &|month| self.max_c[month] - 2.0, "Cel, 2 below max_c");
        each("rain_mm", &self.rain_mm, &|_| 0.0, &|_| 2000.0, "mm");
        let least = |month: usize| if self.rain_mm[month] > 0.0 { 0.1 } else { 0.0 };
        // A month's rain must be more than its wet days' least.
        let most = |month: usize| (0.9 * DAYS[month]).min((self.rain_mm[month] / self.wet_day_mm).max(least(month)));
        each("wet_days", &self.wet_days, &least, &most, "days");
        each("wind_m_s", &self.wind_m_s, &|_| 0.0, &|_| 20.0, "m/s");
        if let Some(radiation) = &self.radiation_mj_m2_d {
            let clear = self.clear_sky_mj_m2_d(place);
            each(
                "radiation_mj_m2_d",
                radiation,
                &|m| 0.15 * clear[m],
                &|m| 0.95 * clear[m],
                "MJ/(m2 d), a share of the clear sky's",
            );
        }
        if let Some(sunshine) = &self.sunshine_h {
            each("sunshine_h", sunshine, &|_| 0.0, &|m| monthly(|day| daylight_h(place.latitude, day))[m], "h");
        }
        if let Some(dew_point) = &self.dew_point_c {
            each(
                "dew_point_c",
                dew_point,
                &|_| -70.0,
                &|m| 0.5 * (self.max_c[m] + self.min_c[m]),
                "Cel, the mean temperature",
            );
        }
        if let Some(humidity) = &self.relative_humidity_pct {
            each("relative_humidity_pct", humidity, &|_| 5.0, &|_| 100.0, "%");
        }
        for (key, value, low, high) in [
            ("wet_day_mm", self.wet_day_mm, 0.1, 2.5),
            ("wet_persistence", self.wet_persistence, 0.0, 0.9),
            ("max_sd_c", self.max_sd_c, 0.0, 10.0),
            ("min_sd_c", self.min_sd_c, 0.0, 10.0),
            ("wet_cooling_c", self.wet_cooling_c, 0.0, 10.0),
            ("wet_clearness", self.wet_clearness, 0.3, 1.0),
        ] {
            if !(low..=high).contains(&value) {
                problems.push((key.to_owned(), format!("{value} is not {low} to {high}")));
            }
        }
        if self.radiation_mj_m2_d.is_some() == self.sunshine_h.is_some() {
            problems.push(("radiation_mj_m2_d".to_owned(), "one of it and sunshine_h must be given".to_owned()));
        }
        if self.dew_point_c.is_some() == self.relative_humidity_pct.is_some() {
            problems.push(("dew_point_c".to_owned(), "one of it and relative_humidity_pct must be given".to_owned()));
        }
        problems
    }

    /// Mean radiation under a clear sky, MJ/(m2 d). FAO-56 eq. 37.
    #[must_use]
    pub fn clear_sky_mj_m2_d(&self, place: &Place) -> Monthly {
        monthly(|day| (0.75 + 2e-5 * place.elevation_m) * extraterrestrial_mj_m2_d(place.latitude, day))
    }

    /// Mean global radiation, MJ/(m2 d): as given, or from the sunshine by Ångström's formula with FAO-56's 0.25 and 0.5 (eq. 35).
    #[must_use]
    pub fn radiation(&self, place: &Place) -> Monthly {
        if let Some(radiation) = self.radiation_mj_m2_d {
            return radiation;
        }
        let outside = monthly(|day| extraterrestrial_mj_m2_d(place.latitude, day));
        let daylight = monthly(|day| daylight_h(place.latitude, day));
        let sunshine = self.sunshine_h.unwrap_or_default();
        std::array::from_fn(|month| (0.25 + 0.5 * sunshine[month] / daylight[month]) * outside[month])
    }

    /// Mean dew point, Cel: as given, or from the humidity with the mean of the saturation vapour pressures at maximum and minimum
    /// (FAO-56 eq. 19).
    #[must_use]
    pub fn dew_point(&self) -> Monthly {
        if let Some(dew_point) = self.dew_point_c {
            return dew_point;
        }
        let humidity = self.relative_humidity_pct.unwrap_or([50.0; 12]);
        std::array::from_fn(|month| {
            let saturation = 0.5
                * (saturation_vapour_pressure_kpa(self.max_c[month])
                    + saturation_vapour_pressure_kpa(self.min_c[month]));
            dew_point_c(humidity[month] / 100.0 * saturation)
        })
    }
}

/// The mean over each month of what a day of the year, from 1, has.
fn monthly(of: impl Fn(f64) -> f64) -> Monthly {
    let mut begin = 0.0;
    std::array::from_fn(|month| {
        let days = DAYS[month];
        let mean = (0..28).map(|part| of(begin + 0.5 + days * (f64::from(part) + 0.5) / 28.0)).sum::<f64>() / 28.0;
        begin += days;
        mean
    })
}

/// A course over the year, on straight lines between the months' middles, whose mean over each month is the month's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    nodes: Monthly,
}

impl Course {
    /// Through these means.
    #[must_use]
    pub fn through(means: &Monthly) -> Self {
        let mut nodes = *means;
        // Over a month the course has the mean n[-1]/8 + 3 n/4 + n[+1]/8; Jacobi's method halves the error at least.
        for _ in 0..60 {
            nodes = std::array::from_fn(|month| {
                let around = nodes[(month + 11) % 12] + nodes[(month + 1) % 12];
                (means[month] - around / 8.0) / 0.75
            });
        }
        Self { nodes }
    }

    /// At a share of a month, January 0.
    #[must_use]
    pub fn at(&self, month: usize, share: f64) -> f64 {
        let (other, weight) =
            if share < 0.5 { ((month + 11) % 12, 0.5 - share) } else { ((month + 1) % 12, share - 0.5) };
        self.nodes[month] + (self.nodes[other] - self.nodes[month]) * weight
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const FALLON: Place = Place { latitude: 39.4575, longitude: -118.77388, elevation_m: 1208.5 };

    /// Roughly the valley's: to test with, not to quote.
    pub(crate) fn valley() -> Normals {
        Normals {
            max_c: [7.5, 11.5, 15.5, 19.0, 24.0, 29.0, 33.5, 32.5, 27.5, 20.5, 12.5, 7.5],
            min_c: [-7.0, -4.5, -1.5, 1.5, 6.0, 9.5, 13.0, 11.5, 7.0, 1.0, -4.0, -7.5],
            rain_mm: [14.0, 13.0, 12.0, 13.0, 15.0, 12.0, 5.0, 6.0, 7.0, 11.0, 10.0, 13.0],
            wet_days: [4.5, 4.2, 4.0, 3.8, 4.0, 3.0, 1.5, 1.8, 2.0, 2.8, 3.4, 4.2],
            radiation_mj_m2_d: Some([8.5, 12.0, 17.0, 22.0, 25.5, 28.0, 28.0, 25.0, 20.5, 14.5, 9.7, 7.6]),
            sunshine_h: None,
            wind_m_s: [1.5, 1.8, 2.2, 2.5, 2.4, 2.3, 2.0, 1.8, 1.7, 1.6, 1.5, 1.4],
            dew_point_c: Some([-6.5, -5.5, -5.0, -4.0, -0.5, 1.5, 4.0, 3.5, 0.5, -2.0, -4.5, -6.5]),
            relative_humidity_pct: None,
            wet_day_mm: tenth(),
            wet_persistence: quarter(),
            max_sd_c: sd_max(),
            min_sd_c: sd_min(),
            wet_cooling_c: wet_cooling(),
            wet_clearness: wet_light(),
        }
    }

    #[test]
    fn a_course_keeps_the_months_means() {
        let means = valley().max_c;
        let course = Course::through(&means);
        for (month, mean) in means.iter().enumerate() {
            let found = (0..1000).map(|k| course.at(month, (f64::from(k) + 0.5) / 1000.0)).sum::<f64>() / 1000.0;
            assert!((found - mean).abs() < 1e-3, "{month}: {found} {mean}");
        }
        assert!((course.at(3, 1.0) - course.at(4, 0.0)).abs() < 1e-9);
    }

    #[test]
    fn sunshine_and_humidity_stand_for_radiation_and_dew_point() {
        // FAO-56 example 10: Rio de Janeiro in May, 220 h of sunshine: 14.5 MJ/(m2 d) of 25.1 outside.
        let rio = Place { latitude: -22.9, longitude: -43.2, elevation_m: 10.0 };
        let normals = Normals { radiation_mj_m2_d: None, sunshine_h: Some([220.0 / 31.0; 12]), ..valley() };
        assert!((normals.radiation(&rio)[4] - 14.5).abs() < 0.15, "{:?}", normals.radiation(&rio));
        // FAO-56 example 5: 25 and 18 Cel at 54 and 82 %: 1.70 kPa by both, 1.78 kPa by their mean.
        let normals = Normals {
            dew_point_c: None,
            relative_humidity_pct: Some([68.0; 12]),
            max_c: [25.0; 12],
            min_c: [18.0; 12],
            ..valley()
        };
        assert!((saturation_vapour_pressure_kpa(normals.dew_point()[0]) - 1.78).abs() < 0.01);
    }

    #[test]
    fn what_cannot_be_is_named_by_key_and_month() {
        assert_eq!(valley().problems(&FALLON), []);
        let mut wrong = Normals { sunshine_h: Some([6.0; 12]), wet_persistence: 2.0, ..valley() };
        wrong.min_c[6] = 33.0;
        wrong.wet_days[1] = 40.0;
        wrong.radiation_mj_m2_d = Some([35.0; 12]);
        let keys: Vec<String> = wrong.problems(&FALLON).into_iter().map(|(key, _)| key).collect();
        for key in ["min_c[6]", "wet_days[1]", "radiation_mj_m2_d[0]", "wet_persistence", "radiation_mj_m2_d"] {
            assert!(keys.iter().any(|found| found == key), "{key} not in {keys:?}");
        }
    }
}
