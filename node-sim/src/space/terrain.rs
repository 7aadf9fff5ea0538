//! The lie of the land: a tilted plane with smooth hills and hollows, and where water gathers on it.

use super::boundary::Boundary;
use super::random_field::{RandomField, Smoothness};
use super::variability::Variability;

/// Cells along the longer side of a field's grid.
const CELLS: usize = 64;
/// The flattest slope for the wetness index, m/m: on level land the index has no bounds.
const LEAST_SLOPE: f64 = 1e-3;

/// The land's height as a function of the place.
#[derive(Debug, Clone)]
pub struct Terrain {
    elevation_m: f64,
    /// Of the plane, m/m, upwards.
    plane: [f64; 2],
    relief_sd_m: f64,
    relief: RandomField,
}

/// Height and slope at a point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Surface {
    /// Metres above the sea.
    pub elevation_m: f64,
    /// The steepest descent, m/m.
    pub slope: f64,
    /// Where it goes down, degrees clockwise from north, 0 to 360.
    pub aspect_degrees: f64,
}

impl Terrain {
    /// The land around an origin of this height.
    #[must_use]
    pub fn new(seed: u64, origin_elevation_m: f64, variability: &Variability) -> Self {
        let towards = variability.tilt_towards_degrees.to_radians();
        let rise = -variability.tilt_pct / 100.0;
        Self {
            elevation_m: origin_elevation_m,
            plane: [rise * towards.sin(), rise * towards.cos()],
            relief_sd_m: variability.relief_sd_m,
            relief: RandomField::new(seed, "space/relief", Smoothness::Matern52, variability.relief_range_m),
        }
    }

    /// Height and slope at a point.
    #[must_use]
    pub fn at(&self, east_m: f64, north_m: f64) -> Surface {
        let local = self.relief.local(east_m, north_m);
        let east = self.plane[0] + self.relief_sd_m * local.east;
        let north = self.plane[1] + self.relief_sd_m * local.north;
        Surface {
            elevation_m: self.elevation_m
                + self.plane[0] * east_m
                + self.plane[1] * north_m
                + self.relief_sd_m * local.value,
            slope: east.hypot(north),
            aspect_degrees: (-east).atan2(-north).to_degrees().rem_euclid(360.0),
        }
    }
}

/// The topographic wetness index over a field, `ln(a / tan β)` (Beven and Kirkby 1979): a is the area that drains through a metre of
/// contour, m, and β the slope. Water from a cell goes to all lower neighbours, by slope and length of contour (Quinn, Beven, Chevallier and
/// Planchon 1991). What lies outside the field's box drains nothing into it.
#[derive(Debug, Clone)]
pub struct Wetness {
    low: [f64; 2],
    cell_m: f64,
    columns: usize,
    rows: usize,
    index: Vec<f64>,
}

impl Wetness {
    /// Of a field.
    #[must_use]
    pub fn new(terrain: &Terrain, boundary: &Boundary) -> Self {
        let (low, high) = boundary.extent();
        let (width, height) = (high[0] - low[0], high[1] - low[1]);
        let cell_m = width.max(height) / CELLS as f64;
        let count = |length: f64| (length / cell_m).ceil() as usize + 1;
        let (columns, rows) = (count(width), count(height));
        let surfaces: Vec<Surface> = (0..rows * columns)
            .map(|at| terrain.at(low[0] + cell_m * (at % columns) as f64, low[1] + cell_m * (at / columns) as f64))
            .collect();
        let mut order: Vec<usize> = (0..surfaces.len()).collect();
        order.sort_by(|&a, &b| surfaces[b].elevation_m.total_cmp(&surfaces[a].elevation_m).then(a.cmp(&b)));
        let mut area = vec![cell_m * cell_m; surfaces.len()];
        let mut index = vec![0.0; surfaces.len()];
        for at in order {
            let mut lower: Vec<(usize, f64)> = Vec::with_capacity(8);
            let mut contour_m = 0.0;
            for (other, distance_m, length_m) in neighbours(at, columns, rows, cell_m) {
                let fall = (surfaces[at].elevation_m - surfaces[other].elevation_m) / distance_m;
                if fall > 0.0 {
                    lower.push((other, fall * length_m));
                    contour_m += length_m;
                }
            }
            let all: f64 = lower.iter().map(|(_, weight)| weight).sum();
            for (other, weight) in lower {
                area[other] += area[at] * weight / all;
            }
            let through_m = if contour_m > 0.0 { contour_m } else { cell_m };
            index[at] = (area[at] / through_m / surfaces[at].slope.max(LEAST_SLOPE)).ln();
        }
        Self { low, cell_m, columns, rows, index }
    }

    /// At a point of the field, between the four cells around it.
    #[must_use]
    pub fn at(&self, east_m: f64, north_m: f64) -> f64 {
        let place = |metres: f64, low: f64, count: usize| {
            let cell = ((metres - low) / self.cell_m).clamp(0.0, (count - 1) as f64);
            let first = (cell as usize).min(count.saturating_sub(2));
            (first, cell - first as f64)
        };
        let (column, right) = place(east_m, self.low[0], self.columns);
        let (row, up) = place(north_m, self.low[1], self.rows);
        let value = |column: usize, row: usize| {
            self.index[row.min(self.rows - 1) * self.columns + column.min(self.columns - 1)]
        };
        let along = |row: usize| value(column, row) * (1.0 - right) + value(column + 1, row) * right;
        along(row) * (1.0 - up) + along(row + 1) * up
    }
}

/// A cell's neighbours: index, distance and length of the contour towards them (Quinn et al. 1991: half a cell, and 0.354 of it across
/// a corner).
fn neighbours(at: usize, columns: usize, rows: usize, cell_m: f64) -> impl Iterator<Item = (usize, f64, f64)> {
    let (column, row) = ((at % columns) as i64, (at / columns) as i64);
    (-1..=1).flat_map(move |dy: i64| (-1..=1).map(move |dx: i64| (dx, dy))).filter_map(move |(dx, dy)| {
        let (x, y) = (column + dx, row + dy);
        let inside = (0..columns as i64).contains(&x) && (0..rows as i64).contains(&y) && (dx, dy) != (0, 0);
        let straight = dx == 0 || dy == 0;
        inside.then(|| {
            let (distance, length) = if straight { (1.0, 0.5) } else { (std::f64::consts::SQRT_2, 0.354) };
            ((y * columns as i64 + x) as usize, distance * cell_m, length * cell_m)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sun::Place;

    const GATEWAY: Place = Place { latitude: 39.4575, longitude: -118.7739, elevation_m: 1208.5 };

    #[test]
    fn a_plane_falls_where_it_is_told_to() {
        let variability =
            Variability { relief_sd_m: 0.0, tilt_pct: 2.0, tilt_towards_degrees: 90.0, ..Variability::default() };
        let terrain = Terrain::new(1, 1000.0, &variability);
        let here = terrain.at(100.0, 50.0);
        assert!((here.elevation_m - 998.0).abs() < 1e-9 && (here.slope - 0.02).abs() < 1e-12, "{here:?}");
        assert!((here.aspect_degrees - 90.0).abs() < 1e-9);
    }

    #[test]
    fn the_slope_is_that_of_the_heights() {
        let terrain = Terrain::new(5, 1000.0, &Variability::default());
        let here = terrain.at(40.0, -30.0);
        let height = |e, n| terrain.at(e, n).elevation_m;
        let east = (height(40.1, -30.0) - height(39.9, -30.0)) / 0.2;
        let north = (height(40.0, -29.9) - height(40.0, -30.1)) / 0.2;
        assert!((here.slope - east.hypot(north)).abs() < 1e-7);
        let (sin, cos) = here.aspect_degrees.to_radians().sin_cos();
        // A step downhill along the aspect goes down by the slope.
        let down = height(40.0 + 0.1 * sin, -30.0 + 0.1 * cos) - here.elevation_m;
        assert!((down + 0.1 * here.slope).abs() < 1e-5, "{down} {}", here.slope);
    }

    #[test]
    fn down_a_plane_the_index_grows_with_the_length_of_the_slope() {
        let variability =
            Variability { relief_sd_m: 0.0, tilt_pct: 2.0, tilt_towards_degrees: 180.0, ..Variability::default() };
        let field = Boundary::square(GATEWAY.latitude, GATEWAY.longitude, 640.0 * 640.0, &GATEWAY);
        let wetness = Wetness::new(&Terrain::new(1, 1000.0, &variability), &field);
        // In the middle, a is the length of the slope above: ln(a / 0.02).
        for upslope in [100.0, 200.0, 300.0] {
            let found = wetness.at(0.0, 320.0 - upslope);
            let theory = (upslope / 0.02f64).ln();
            assert!((found - theory).abs() < 0.25, "{upslope} m: {found} for {theory}");
        }
    }

    #[test]
    fn hollows_are_wetter_than_hills() {
        let field = Boundary::square(GATEWAY.latitude, GATEWAY.longitude, 250_000.0, &GATEWAY);
        let terrain =
            Terrain::new(3, 1000.0, &Variability { tilt_pct: 0.0, relief_range_m: 300.0, ..Variability::default() });
        let wetness = Wetness::new(&terrain, &field);
        let mut points: Vec<(f64, f64)> = (0..20)
            .flat_map(|i| (0..20).map(move |j| (f64::from(i) * 24.0 - 228.0, f64::from(j) * 24.0 - 228.0)))
            .map(|(e, n)| (terrain.at(e, n).elevation_m, wetness.at(e, n)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mean = |part: &[(f64, f64)]| part.iter().map(|p| p.1).sum::<f64>() / part.len() as f64;
        assert!(mean(&points[..100]) > mean(&points[300..]) + 0.5, "{} {}", mean(&points[..100]), mean(&points[300..]));
    }
}
