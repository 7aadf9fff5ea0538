//! Stationary Gaussian random fields in the plane, which can be asked for at any point in constant time.
//!
//! The spectral (randomisation) method: a field with a covariance is a sum of cosines whose wave vectors are drawn from the
//! covariance's spectral density (Shinozuka and Jan 1972; Mantoglou and Wilson 1982; Kramer, Kurbanmuradov and Sabelfeld
//! 2007, whose stratified sampling is used here: each wave takes its own share of the spectrum and of the directions, so
//! that a single field keeps closely to its covariance). Nothing is stored but the waves: no grid, and the value at a point
//! does not depend on what other points are asked for.

use std::f64::consts::{PI, TAU};

use crate::chance::{Chance, hash};

/// Waves of a field. Its kurtosis is then 3 - 3/(2 × 400), and no pattern of single waves can be seen.
const WAVES: usize = 400;
/// Golden-ratio fraction: neighbouring shares of the spectrum go in directions that are far from each other.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// How smooth a field is: the ν of Matérn's covariance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smoothness {
    /// ν = 1/2, the exponential covariance `exp(-h/l)`: continuous and rough, as soil is.
    Exponential,
    /// ν = 5/2, `(1 + h/l + h²/(3 l²)) exp(-h/l)`: twice differentiable, as land is on which machines drive.
    Matern52,
}

/// A field of mean zero and variance one.
#[derive(Debug, Clone)]
pub struct RandomField {
    smoothness: Smoothness,
    scale_m: f64,
    waves: Vec<Wave>,
}

#[derive(Debug, Clone, Copy)]
struct Wave {
    /// rad/m.
    east: f64,
    north: f64,
    phase: f64,
}

/// A field's value at a point, with its slope and curvature there.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Local {
    /// The value.
    pub value: f64,
    /// Its derivative to the east, 1/m.
    pub east: f64,
    /// Its derivative to the north, 1/m.
    pub north: f64,
}

impl Smoothness {
    fn nu(self) -> f64 {
        match self {
            Self::Exponential => 0.5,
            Self::Matern52 => 2.5,
        }
    }

    /// Correlation at a distance, both in the same unit as the scale. Matérn (1960); Rasmussen and Williams (2006) eq. 4.17
    /// with l for their l/√(2ν).
    #[must_use]
    pub fn correlation(self, distance: f64, scale: f64) -> f64 {
        let h = distance / scale;
        match self {
            Self::Exponential => (-h).exp(),
            Self::Matern52 => (1.0 + h + h * h / 3.0) * (-h).exp(),
        }
    }

    /// The scale l of a covariance whose correlation has fallen to a twentieth at `range_m` (the practical range).
    #[must_use]
    pub fn scale_m(self, range_m: f64) -> f64 {
        // 3 = -ln 0.05 for the exponential; 5.9186 solves (1 + h + h²/3) exp(-h) = 0.05.
        range_m
            / match self {
                Self::Exponential => 2.995_732,
                Self::Matern52 => 5.918_6,
            }
    }
}

impl RandomField {
    /// The field with this seed and label, whose correlation has fallen to a twentieth at `range_m`.
    #[must_use]
    pub fn new(seed: u64, label: &str, smoothness: Smoothness, range_m: f64) -> Self {
        let scale_m = smoothness.scale_m(range_m);
        let mut chance = Chance::new(seed, label);
        let turn = chance.at(-1).uniform();
        let waves = (0..WAVES)
            .map(|index| {
                let mut draw = chance.at(index as i64);
                // In two dimensions Matérn's spectral density is proportional to (1/l² + k²)^(-ν - 1), so that the share of
                // the variance in wave numbers above k is (1 + l² k²)^(-ν).
                let share = (index as f64 + draw.uniform().max(1e-9)) / WAVES as f64;
                let k = (share.powf(-1.0 / smoothness.nu()) - 1.0).max(0.0).sqrt() / scale_m;
                let direction = PI * (turn + GOLDEN * index as f64).fract();
                Wave { east: k * direction.cos(), north: k * direction.sin(), phase: TAU * draw.uniform() }
            })
            .collect();
        Self { smoothness, scale_m, waves }
    }

    /// The value at a point, m east and north.
    #[must_use]
    pub fn at(&self, east_m: f64, north_m: f64) -> f64 {
        let sum: f64 = self.waves.iter().map(|wave| wave.angle(east_m, north_m).cos()).sum();
        (2.0 / WAVES as f64).sqrt() * sum
    }

    /// The value and its derivatives at a point. Those of an exponential field do not exist in the limit of many waves.
    #[must_use]
    pub fn local(&self, east_m: f64, north_m: f64) -> Local {
        let amplitude = (2.0 / WAVES as f64).sqrt();
        self.waves.iter().fold(Local::default(), |local, wave| {
            let (sin, cos) = wave.angle(east_m, north_m).sin_cos();
            Local {
                value: local.value + amplitude * cos,
                east: local.east - amplitude * wave.east * sin,
                north: local.north - amplitude * wave.north * sin,
            }
        })
    }

    /// What the correlation of two points at a distance is in theory.
    #[must_use]
    pub fn correlation(&self, distance_m: f64) -> f64 {
        self.smoothness.correlation(distance_m, self.scale_m)
    }
}

impl Wave {
    fn angle(&self, east_m: f64, north_m: f64) -> f64 {
        self.east * east_m + self.north * north_m + self.phase
    }
}

/// Two standard normal numbers of a place, alike for nothing but the same place (to the millimetre): what varies within a step or
/// two, and what a sample of the soil gets wrong.
#[must_use]
pub fn nugget(seed: u64, label: &str, east_m: f64, north_m: f64) -> (f64, f64) {
    let millimetres = |metres: f64| (metres * 1000.0).round() as i64;
    let place = format!("{label}/{}/{}", millimetres(east_m), millimetres(north_m));
    let mut draw = Chance::new(seed, "space/nugget").at((hash(&place) >> 24) as i64);
    (draw.normal(), draw.normal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variogram(field: &dyn Fn(f64, f64) -> f64, lag: f64) -> f64 {
        // Pairs along four directions over four square kilometres.
        let mut sum = 0.0;
        let mut pairs = 0;
        for i in 0..40 {
            for j in 0..40 {
                let (e, n) = (50.0 * f64::from(i), 50.0 * f64::from(j));
                let angle = PI * f64::from(i + j) / 4.0;
                let other = field(e + lag * angle.cos(), n + lag * angle.sin());
                sum += (field(e, n) - other).powi(2);
                pairs += 1;
            }
        }
        0.5 * sum / f64::from(pairs)
    }

    #[test]
    fn a_big_samples_variogram_is_that_of_its_theory() {
        for smoothness in [Smoothness::Exponential, Smoothness::Matern52] {
            let fields: Vec<RandomField> =
                (0..3).map(|seed| RandomField::new(seed, "test", smoothness, 200.0)).collect();
            for lag in [10.0, 40.0, 100.0, 200.0, 400.0] {
                let theory = 1.0 - fields[0].correlation(lag);
                let found = fields.iter().map(|field| variogram(&|e, n| field.at(e, n), lag)).sum::<f64>() / 3.0;
                // Three fields of 4 km2 hold some 300 independent patches: 8 % of sampling error, and waves' own.
                assert!((found / theory - 1.0).abs() < 0.15, "{smoothness:?} at {lag} m: {found} for {theory}");
            }
        }
    }

    #[test]
    fn values_are_normal_with_mean_zero_and_variance_one() {
        let field = RandomField::new(11, "test", Smoothness::Exponential, 50.0);
        let values: Vec<f64> = (0..40)
            .flat_map(|i| (0..40).map(move |j| (i, j)))
            .map(|(i, j)| field.at(f64::from(i) * 100.0, f64::from(j) * 100.0))
            .collect();
        let n = values.len() as f64;
        let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / n;
        // Standard errors for 1600 independent values: 0.025, 0.035, 0.12.
        assert!(moment(1).abs() < 0.1, "{}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.12, "{}", moment(2));
        assert!((moment(4) / moment(2).powi(2) - 3.0).abs() < 0.5, "{}", moment(4));
    }

    #[test]
    fn derivatives_are_those_of_the_values() {
        let field = RandomField::new(3, "test", Smoothness::Matern52, 300.0);
        let local = field.local(120.0, -70.0);
        let step = 0.01;
        let east = (field.at(120.0 + step, -70.0) - field.at(120.0 - step, -70.0)) / (2.0 * step);
        let north = (field.at(120.0, -70.0 + step) - field.at(120.0, -70.0 - step)) / (2.0 * step);
        assert!((local.value - field.at(120.0, -70.0)).abs() < 1e-12);
        assert!((local.east - east).abs() < 1e-8 && (local.north - north).abs() < 1e-8, "{local:?} {east} {north}");
    }

    #[test]
    fn the_practical_range_is_where_the_correlation_is_a_twentieth() {
        for smoothness in [Smoothness::Exponential, Smoothness::Matern52] {
            let correlation = smoothness.correlation(100.0, smoothness.scale_m(100.0));
            assert!((correlation - 0.05).abs() < 1e-5, "{smoothness:?}: {correlation}");
        }
    }

    #[test]
    fn a_field_is_the_same_for_its_seed_and_another_for_another() {
        let at = |seed, label: &str| RandomField::new(seed, label, Smoothness::Exponential, 100.0).at(12.0, 34.0);
        assert_eq!(at(1, "sand"), at(1, "sand"));
        assert_ne!(at(1, "sand"), at(2, "sand"));
        assert_ne!(at(1, "sand"), at(1, "clay"));
        assert_eq!(nugget(1, "a", 1.0, 2.0), nugget(1, "a", 1.000_01, 2.0));
        assert_ne!(nugget(1, "a", 1.0, 2.0), nugget(1, "a", 1.01, 2.0));
    }
}
