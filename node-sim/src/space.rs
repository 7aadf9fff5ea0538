//! Where things are: fields as polygons, ground that varies over them, and the places of stations.
//!
//! - [`boundary`] reads a field's polygon from GeoJSON and brings it to metres around the gateway.
//! - [`random_field`] is correlated chance over the plane, [`variability`] how much of it there is.
//! - [`terrain`] is the height, its slope, and the wetness that follows from them.
//! - [`placement`] spreads stations over a field.
//!
//! [`FieldSpace`] puts them together: [`FieldSpace::site`] is all that is known of a point. The same seed gives the same
//! ground, whatever points are asked for and in whatever order; fields next to each other lie in one landscape.

pub mod boundary;
pub mod placement;
pub mod random_field;
pub mod terrain;
pub mod variability;

pub use boundary::{Boundary, BoundaryConfig, Projection};
pub use variability::Variability;

use std::sync::OnceLock;

use crate::sun::Place;
use random_field::{RandomField, Smoothness, nugget};
use terrain::{Terrain, Wetness};

/// How sand and clay go together: where there is more sand there is less clay. An assumption.
const SAND_CLAY_CORRELATION: f64 = -0.6;
/// The least share of sand, silt and clay that a field's middle may have, %: their logarithms must exist.
pub const LEAST_SHARE_PCT: f64 = 1.0;

/// What the ground is like at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// Metres east of the gateway.
    pub east_m: f64,
    /// Metres north of the gateway.
    pub north_m: f64,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Sand, % by weight of the fine earth.
    pub sand_pct: f64,
    /// Clay, % by weight of the fine earth; the rest is silt.
    pub clay_pct: f64,
    /// Metres above the sea.
    pub elevation_m: f64,
    /// The steepest descent, m/m.
    pub slope: f64,
    /// Where it goes down, degrees clockwise from north.
    pub aspect_degrees: f64,
}

/// The ground of one field.
#[derive(Debug, Clone)]
pub struct FieldSpace {
    boundary: Boundary,
    texture: TextureField,
    terrain: Terrain,
    /// Made when it is asked for: it looks at the whole field.
    wetness: OnceLock<Wetness>,
    seed: u64,
    label: String,
}

/// Sand and clay as functions of the place.
///
/// The field lies in additive log-ratios `ln(sand/silt)` and `ln(clay/silt)` (Aitchison 1986; for soil Lark and Bishop 2007), so that
/// shares are positive and sum to a hundred everywhere. To the first order its standard deviations in per cent are those
/// that were asked for: with p the shares, d(sand, clay) = (diag p - p pᵀ) d(ratios), whose inverse is diag(1/p) + 1/silt.
#[derive(Debug, Clone)]
pub struct TextureField {
    /// The ratios of the field's nominal texture.
    middle: [f64; 2],
    /// From two independent standard normal numbers to deviations of the ratios.
    spread: [[f64; 2]; 2],
    nugget_share: f64,
    seed: u64,
    fields: [RandomField; 2],
}

impl TextureField {
    /// Around a nominal texture. Shares below [`LEAST_SHARE_PCT`] are raised to it.
    #[must_use]
    pub fn new(seed: u64, sand_pct: f64, clay_pct: f64, variability: &Variability) -> Self {
        let raised = [sand_pct, clay_pct, 100.0 - sand_pct - clay_pct].map(|share| share.max(LEAST_SHARE_PCT));
        let sum: f64 = raised.iter().sum();
        let [sand, clay, silt] = raised.map(|share| share / sum);
        let (sand_sd, clay_sd) = (variability.sand_sd_pct / 100.0, variability.clay_sd_pct / 100.0);
        let independent = (1.0 - SAND_CLAY_CORRELATION * SAND_CLAY_CORRELATION).sqrt();
        // Rows: sand, clay. Columns: the two independent fields.
        let shares = [[sand_sd, 0.0], [clay_sd * SAND_CLAY_CORRELATION, clay_sd * independent]];
        let spread = [0, 1].map(|ratio| {
            [0, 1].map(|field| {
                let both = (shares[0][field] + shares[1][field]) / silt;
                shares[ratio][field] / [sand, clay][ratio] + both
            })
        });
        let field = |label| RandomField::new(seed, label, Smoothness::Exponential, variability.range_m);
        Self {
            middle: [(sand / silt).ln(), (clay / silt).ln()],
            spread,
            nugget_share: variability.nugget_share,
            seed,
            fields: [field("space/texture/1"), field("space/texture/2")],
        }
    }

    /// Sand and clay at a point, %.
    #[must_use]
    pub fn at(&self, east_m: f64, north_m: f64) -> (f64, f64) {
        let near = nugget(self.seed, "texture", east_m, north_m);
        let [a, b] = [0, 1].map(|index| {
            (1.0 - self.nugget_share).sqrt() * self.fields[index].at(east_m, north_m)
                + self.nugget_share.sqrt() * [near.0, near.1][index]
        });
        let [sand, clay] =
            [0, 1].map(|ratio| (self.middle[ratio] + self.spread[ratio][0] * a + self.spread[ratio][1] * b).exp());
        let whole = 1.0 + sand + clay;
        (100.0 * sand / whole, 100.0 * clay / whole)
    }

    /// Half the mean squared difference of two points at a distance, as a share of the variance, in theory.
    #[must_use]
    pub fn variogram(&self, distance_m: f64) -> f64 {
        if distance_m == 0.0 {
            return 0.0;
        }
        self.nugget_share + (1.0 - self.nugget_share) * (1.0 - self.fields[0].correlation(distance_m))
    }
}

impl FieldSpace {
    /// The ground of the field with this boundary and nominal texture. `label` is the field's name: its stations' places depend on
    /// it, its landscape does not.
    #[must_use]
    pub fn new(
        boundary: Boundary,
        label: &str,
        (sand_pct, clay_pct): (f64, f64),
        variability: &Variability,
        gateway: &Place,
        seed: u64,
    ) -> Self {
        Self {
            texture: TextureField::new(seed, sand_pct, clay_pct, variability),
            terrain: Terrain::new(seed, gateway.elevation_m, variability),
            wetness: OnceLock::new(),
            boundary,
            seed,
            label: label.to_owned(),
        }
    }

    /// Its boundary.
    #[must_use]
    pub fn boundary(&self) -> &Boundary {
        &self.boundary
    }

    /// Its sand and clay.
    #[must_use]
    pub fn texture(&self) -> &TextureField {
        &self.texture
    }

    /// What the ground is like at a point, in metres from the gateway.
    #[must_use]
    pub fn site(&self, east_m: f64, north_m: f64) -> Site {
        let (latitude, longitude) = self.boundary.projection().to_degrees(east_m, north_m);
        let (sand_pct, clay_pct) = self.texture.at(east_m, north_m);
        let surface = self.terrain.at(east_m, north_m);
        Site {
            east_m,
            north_m,
            latitude,
            longitude,
            sand_pct,
            clay_pct,
            elevation_m: surface.elevation_m,
            slope: surface.slope,
            aspect_degrees: surface.aspect_degrees,
        }
    }

    /// The topographic wetness index at a point, `ln(a / tan β)` with a in m: 4 on a crest, 12 in a hollow.
    #[must_use]
    pub fn wetness_index(&self, east_m: f64, north_m: f64) -> f64 {
        self.wetness.get_or_init(|| Wetness::new(&self.terrain, &self.boundary)).at(east_m, north_m)
    }

    /// What the ground is like at a place of the earth.
    #[must_use]
    pub fn site_at(&self, latitude: f64, longitude: f64) -> Site {
        let (east_m, north_m) = self.boundary.projection().to_metres(latitude, longitude);
        self.site(east_m, north_m)
    }

    /// The sites of the first `count` stations, drawn: spread evenly, and the same ones when more are asked for. Fewer in a field
    /// that is hardly there (see [`placement::places`]), which a configuration refuses.
    #[must_use]
    pub fn stations(&self, count: usize) -> Vec<Site> {
        placement::places(&self.boundary, self.seed, &self.label, count)
            .into_iter()
            .map(|(east_m, north_m)| self.site(east_m, north_m))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Place = Place { latitude: 39.4575, longitude: -118.7739, elevation_m: 1208.5 };

    fn loam(seed: u64) -> FieldSpace {
        let boundary = Boundary::square(39.46, -118.77, 250_000.0, &GATEWAY);
        FieldSpace::new(boundary, "north", (40.0, 20.0), &Variability::default(), &GATEWAY, seed)
    }

    #[test]
    fn stations_ten_metres_apart_agree_more_than_ones_three_hundred_apart() {
        let (mut near, mut far) = (0.0, 0.0);
        for seed in 0..8 {
            let field = loam(seed);
            for site in field.stations(12) {
                let difference = |metres: f64| {
                    let other = field.site(site.east_m + metres, site.north_m);
                    (site.sand_pct - other.sand_pct).abs() + (site.clay_pct - other.clay_pct).abs()
                };
                near += difference(10.0);
                far += difference(300.0);
            }
        }
        // In theory the ratio of mean absolute differences is the root of the variograms': sqrt(0.24/0.99) = 0.49.
        assert!(near < 0.65 * far && near > 0.35 * far, "{near} {far}");
    }

    #[test]
    fn a_big_samples_texture_has_the_mean_the_deviations_and_the_variogram_it_was_asked_for() {
        let variability = Variability::default();
        let (mut sand, mut clay, mut squares, mut pairs) = (Vec::new(), Vec::new(), [0.0; 4], 0.0);
        let lags = [5.0, 30.0, 90.0, 400.0];
        let mut theory = [0.0; 4];
        for seed in 0..4 {
            let texture = TextureField::new(seed, 40.0, 20.0, &variability);
            theory = lags.map(|lag| texture.variogram(lag) * variability.sand_sd_pct.powi(2));
            for i in 0..400 {
                let (e, n) = (f64::from(i % 20) * 110.0, f64::from(i / 20) * 110.0);
                let here = texture.at(e, n);
                sand.push(here.0);
                clay.push(here.1);
                pairs += 1.0;
                for (sum, lag) in squares.iter_mut().zip(lags) {
                    *sum += 0.5 * (here.0 - texture.at(e + 0.6 * lag, n + 0.8 * lag).0).powi(2);
                }
            }
        }
        let moments = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
        };
        let (sand, clay) = (moments(&sand), moments(&clay));
        assert!((sand.0 - 40.0).abs() < 1.5 && (clay.0 - 20.0).abs() < 1.5, "{sand:?} {clay:?}");
        assert!((sand.1 / variability.sand_sd_pct - 1.0).abs() < 0.12, "{sand:?}");
        assert!((clay.1 / variability.clay_sd_pct - 1.0).abs() < 0.15, "{clay:?}");
        for ((sum, theory), lag) in squares.iter().zip(theory).zip(lags) {
            assert!((sum / pairs / theory - 1.0).abs() < 0.2, "{lag} m: {} for {theory}", sum / pairs);
        }
    }

    #[test]
    fn shares_are_shares_even_in_soil_of_sand_that_varies_wildly() {
        let wild = Variability { sand_sd_pct: 20.0, clay_sd_pct: 12.0, nugget_share: 0.5, ..Variability::default() };
        let texture = TextureField::new(9, 92.0, 5.0, &wild);
        for i in 0..500 {
            let (sand, clay) = texture.at(f64::from(i) * 37.0, f64::from(i % 7) * 61.0);
            assert!(sand > 0.0 && clay > 0.0 && sand + clay < 100.0, "{sand} {clay}");
        }
    }

    #[test]
    fn a_site_does_not_depend_on_what_else_is_asked_and_neighbours_lie_in_one_landscape() {
        let (field, again) = (loam(1), loam(1));
        let sites = field.stations(20);
        assert_eq!(again.site(sites[7].east_m, sites[7].north_m), sites[7]);
        assert_eq!(again.stations(8)[..], sites[..8]);
        let next = FieldSpace::new(
            Boundary::square(39.47, -118.77, 250_000.0, &GATEWAY),
            "east",
            (40.0, 20.0),
            &Variability::default(),
            &GATEWAY,
            1,
        );
        let (ours, theirs) = (field.site(100.0, 700.0), next.site(100.0, 700.0));
        assert_eq!((ours.sand_pct, ours.elevation_m), (theirs.sand_pct, theirs.elevation_m));
        assert_ne!(loam(2).site(0.0, 0.0).sand_pct, field.site(0.0, 0.0).sand_pct);
    }
}
