//! What the generator makes of a month's normals.

use super::super::normals::{Course, DAYS, Monthly, Normals};
use crate::sun::Place;

/// How much of the minimum's residual the dew point follows, and its own deviation, Cel. Assumptions, like the others here.
pub(super) const DEW_FOLLOWS_MIN: f64 = 0.6;
pub(super) const DEW_SD_C: f64 = 1.8;
/// How much higher the dew point is on wet days, Cel.
const WET_DEW_C: f64 = 3.0;
/// Standard deviation of the logarithm of a day's mean wind.
pub(super) const WIND_SD: f64 = 0.35;
/// The darkest day's clearness, and how the residual spreads it on the logistic scale between that and a clear sky.
const DARKEST: f64 = 0.08;
const DRY_SPREAD: f64 = 1.1;
const WET_SPREAD: f64 = 0.7;
/// A dry day's mean clearness is at most this.
const CLEAREST_MEAN: f64 = 0.97;

/// The courses over the year, which do not leap between months.
#[derive(Debug, Clone, Copy)]
pub(super) struct Courses {
    pub max: Course,
    pub min: Course,
    pub dew_point: Course,
}

/// What holds for the whole of a month.
#[derive(Debug, Clone, Copy)]
pub(super) struct Month {
    /// Share of wet days.
    wet_share: f64,
    pub wet_after_dry: f64,
    pub wet_after_wet: f64,
    /// Of a wet day's rain beyond the least: the gamma distribution.
    pub rain_shape: f64,
    pub rain_scale_mm: f64,
    pub rain_least_mm: f64,
    pub max_sd_c: f64,
    pub min_sd_c: f64,
    wet_cooling_c: f64,
    wet_dew_c: f64,
    pub wind_m_s: f64,
    /// Middle of the clearness on the logistic scale, on dry days and on wet ones.
    dry_middle: f64,
    wet_middle: f64,
    /// How likely a front is on a day.
    pub front_share: f64,
}

impl Courses {
    pub(super) fn new(normals: &Normals) -> Self {
        Self {
            max: Course::through(&normals.max_c),
            min: Course::through(&normals.min_c),
            dew_point: Course::through(&normals.dew_point()),
        }
    }
}

impl Month {
    pub(super) fn all(normals: &Normals, place: &Place) -> [Self; 12] {
        let (radiation, clear) = (normals.radiation(place), normals.clear_sky_mj_m2_d(place));
        std::array::from_fn(|month| Self::new(normals, month, radiation[month] / clear[month]))
    }

    fn new(normals: &Normals, month: usize, clearness: f64) -> Self {
        let of = |values: &Monthly| values[month];
        let wet_share = of(&normals.wet_days) / DAYS[month];
        let wet_after_dry = wet_share * (1.0 - normals.wet_persistence);
        let mean_mm = if wet_share > 0.0 { of(&normals.rain_mm) / of(&normals.wet_days) } else { 0.0 };
        let beyond_mm = (mean_mm - normals.wet_day_mm).max(0.01);
        // Geng et al. (1986): β = 1.83 m - 2.16 mm for a mean of m. It comes to nothing at 1.2 mm; below 3 mm the straight line from there to
        // nothing, 1.11 m, is ours.
        let scale_mm = if mean_mm < 3.0 { 1.11 * beyond_mm } else { (1.83 * mean_mm - 2.16) * beyond_mm / mean_mm };
        // Maximum and minimum shall hardly ever change places: the difference's deviation is at most two fifths of its mean.
        let range_c = of(&normals.max_c) - of(&normals.min_c);
        let (max_sd_c, min_sd_c) = (normals.max_sd_c, normals.min_sd_c);
        let difference_sd_c = (max_sd_c * max_sd_c + min_sd_c * min_sd_c - 2.0 * 0.633 * max_sd_c * min_sd_c).sqrt();
        let calmer = (0.4 * range_c / difference_sd_c.max(1e-9)).min(1.0);
        let dry = (clearness / (1.0 - wet_share * (1.0 - normals.wet_clearness))).min(CLEAREST_MEAN);
        let wet = if wet_share > 0.0 { (clearness - (1.0 - wet_share) * dry) / wet_share } else { dry };
        Self {
            wet_share,
            wet_after_dry,
            wet_after_wet: if wet_share > 0.0 { wet_after_dry + normals.wet_persistence } else { 0.0 },
            rain_shape: beyond_mm / scale_mm,
            rain_scale_mm: scale_mm,
            rain_least_mm: normals.wet_day_mm,
            max_sd_c: calmer * max_sd_c,
            min_sd_c: calmer * min_sd_c,
            wet_cooling_c: normals.wet_cooling_c.min(0.3 * range_c),
            wet_dew_c: WET_DEW_C,
            wind_m_s: of(&normals.wind_m_s),
            dry_middle: middle(dry, DRY_SPREAD),
            wet_middle: middle(wet.clamp(DARKEST + 0.02, CLEAREST_MEAN), WET_SPREAD),
            front_share: (1.0 - wet_share) * wet_after_dry,
        }
    }

    /// How far a day's maximum is from the month's, so that wet days and dry ones together have the month's mean, Cel.
    pub(super) fn max_shift_c(&self, wet: bool) -> f64 {
        self.wet_cooling_c * if wet { self.wet_share - 1.0 } else { self.wet_share }
    }

    /// The same for the dew point.
    pub(super) fn dew_shift_c(&self, wet: bool) -> f64 {
        self.wet_dew_c * if wet { 1.0 - self.wet_share } else { -self.wet_share }
    }

    /// A day's radiation over the clear sky's, for a standard normal residual.
    pub(super) fn clearness(&self, wet: bool, residual: f64) -> f64 {
        let (middle, spread) = if wet { (self.wet_middle, WET_SPREAD) } else { (self.dry_middle, DRY_SPREAD) };
        logistic(middle + spread * residual)
    }
}

fn logistic(x: f64) -> f64 {
    DARKEST + (1.0 - DARKEST) / (1.0 + (-x).exp())
}

/// The middle that gives the clearness a mean, by bisection over its expectation.
fn middle(mean: f64, spread: f64) -> f64 {
    let expectation = |middle: f64| {
        let (mut sum, mut weights) = (0.0, 0.0);
        for step in -25..=25 {
            let z = 0.2 * f64::from(step);
            let weight = (-0.5 * z * z).exp();
            sum += weight * logistic(middle + spread * z);
            weights += weight;
        }
        sum / weights
    };
    let (mut low, mut high) = (-12.0, 12.0);
    for _ in 0..50 {
        let half = 0.5 * (low + high);
        if expectation(half) < mean { low = half } else { high = half }
    }
    0.5 * (low + high)
}
