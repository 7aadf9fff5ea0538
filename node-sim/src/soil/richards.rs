//! Water in a column of soil: Richards' equation in its mixed form, solved so that no water is lost.
//!
//! The column is cut into layers. The change of a layer's water is what flows in and out and what roots and evaporation take
//! (Celia, Bouloutas and Zarba 1990, *Water Resour. Res.* 26, 1483-1496, eq. 8: the mixed form), implicit in time; the heads are found by
//! Newton's method over the coordinate of [`super::curve`]. When they are found, the layers' water is updated by the flows, not by
//! the heads: what leaves a layer enters the next to the last bit, and what Newton's method has left over goes into the next
//! step's balance, not out of the soil.
//!
//! Between two layers' middles, d apart, the flow is that of a steady column whose conductivity is exponential in the head between
//! them (Gardner 1958): `q = (phi1 - phi2)/d + w K1 + (1 - w) K2`, phi being the matric flux potential, with
//! `w = 1/(1 - exp(-x)) - 1/x`, `x = d (K1 - K2)/(phi1 - phi2)` (Ross 2003, *Agron. J.* 95, 1352-1361, weights gravity alike). It is
//! exact at rest, under gravity alone and where suction alone draws, and thick layers may lie under thin ones.
#![allow(clippy::needless_range_loop, reason = "a layer is one index into several arrays")]

use std::sync::Arc;

use super::curve::{Curve, Point, coordinate, head_mm};

/// What Newton's method may leave over in a layer, mm: a millionth of a light rain of five minutes.
const TOLERANCE_MM: f64 = 1e-8;
/// How many Newton steps are tried before the time step is shortened.
const MOST_ITERATIONS: usize = 12;
/// The largest change of the coordinate in a Newton step.
const MOST_CHANGE: f64 = 2.0;
/// The largest change of a layer's content in a step, m3/m3; a step that changes more is taken in shorter ones.
const MOST_CONTENT_CHANGE: f64 = 0.04;
/// The shortest time step, h; here the flows are taken as they come.
const SHORTEST_H: f64 = 1e-6;

/// What is below the last layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bottom {
    /// Water drains under gravity alone (a unit gradient).
    Free,
    /// A head at the lower edge, mm.
    Head(f64),
    /// Nothing passes.
    Closed,
}

/// What happens at the surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Top {
    /// Water comes at a rate, mm/h, stands on the surface up to a depth, mm, and runs off beyond.
    Supply {
        /// mm/h.
        rate_mm_h: f64,
        /// What stands before it runs off, mm.
        ponding_mm: f64,
    },
    /// The surface is kept at a head, mm.
    Head(f64),
}

/// What flowed in a step, mm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flows<const N: usize> {
    /// Into the first layer.
    pub infiltration_mm: f64,
    /// Off the surface.
    pub runoff_mm: f64,
    /// Out of each layer downwards; out of the last it is drainage.
    pub down_mm: [f64; N],
}

/// A column of soil with N layers.
#[derive(Debug, Clone)]
pub struct Column<const N: usize> {
    curve: Arc<Curve>,
    /// Contents and conductivities are the curve's times these.
    content_factor: f64,
    conductivity_factor: f64,
    thickness_mm: [f64; N],
    bottom: Bottom,
    water_mm: [f64; N],
    /// The layers' coordinates on the curve.
    place: [f64; N],
    ponded_mm: f64,
    /// What the next step begins with, h.
    step_h: f64,
}

impl<const N: usize> Column<N> {
    /// A column with a head, mm, in each layer.
    #[must_use]
    pub fn new(curve: Arc<Curve>, thickness_mm: [f64; N], bottom: Bottom, heads_mm: [f64; N]) -> Self {
        let mut column = Self {
            curve,
            content_factor: 1.0,
            conductivity_factor: 1.0,
            thickness_mm,
            bottom,
            water_mm: [0.0; N],
            place: heads_mm.map(coordinate),
            ponded_mm: 0.0,
            step_h: 0.1,
        };
        column.fill();
        column
    }

    /// The same soil with all contents and conductivities times a factor, and the same heads in it.
    #[must_use]
    pub fn scaled(mut self, contents: f64, conductivity: f64) -> Self {
        (self.content_factor, self.conductivity_factor) = (contents, conductivity);
        self.fill();
        self
    }

    fn fill(&mut self) {
        for layer in 0..N {
            let content = self.curve.at(self.place[layer]).content * self.content_factor;
            self.water_mm[layer] = content * self.thickness_mm[layer];
        }
    }

    /// Sets the layers' water, mm, with nothing on the surface, and the heads that belong to it.
    pub fn set_water_mm(&mut self, water_mm: [f64; N]) {
        for layer in 0..N {
            let content = water_mm[layer] / self.thickness_mm[layer] / self.content_factor;
            self.place[layer] = self.curve.coordinate_of(content);
        }
        (self.water_mm, self.ponded_mm, self.step_h) = (water_mm, 0.0, 0.1);
    }

    /// What changes, to keep: water, places on the curve, what stands on the surface (mm) and the time step (h).
    #[must_use]
    pub fn state(&self) -> ([f64; N], [f64; N], f64, f64) {
        (self.water_mm, self.place, self.ponded_mm, self.step_h)
    }

    /// Puts back what was kept.
    pub fn restore(&mut self, (water_mm, place, ponded_mm, step_h): ([f64; N], [f64; N], f64, f64)) {
        (self.water_mm, self.place, self.ponded_mm, self.step_h) = (water_mm, place, ponded_mm, step_h);
    }

    /// Water in each layer, mm.
    #[must_use]
    pub fn water_mm(&self) -> &[f64; N] {
        &self.water_mm
    }

    /// The layers' thickness, mm.
    #[must_use]
    pub fn thickness_mm(&self) -> &[f64; N] {
        &self.thickness_mm
    }

    /// Water on the surface, mm.
    #[must_use]
    pub fn ponded_mm(&self) -> f64 {
        self.ponded_mm
    }

    /// Takes water from the surface, mm; gives how much there was of it.
    pub fn take_ponded_mm(&mut self, wanted_mm: f64) -> f64 {
        let taken = wanted_mm.min(self.ponded_mm);
        self.ponded_mm -= taken;
        taken
    }

    /// Water content of a layer, m3/m3.
    #[must_use]
    pub fn content(&self, layer: usize) -> f64 {
        self.water_mm[layer] / self.thickness_mm[layer]
    }

    /// Pressure head of a layer, mm.
    #[must_use]
    pub fn head_mm(&self, layer: usize) -> f64 {
        head_mm(self.place[layer])
    }

    /// All water in the soil and on it, mm.
    #[must_use]
    pub fn stored_mm(&self) -> f64 {
        self.water_mm.iter().sum::<f64>() + self.ponded_mm
    }

    /// Goes on by a time in as many steps as it takes; `sinks_mm_h` is what leaves each layer to roots and air, which the caller has
    /// made sure is there.
    pub fn advance(&mut self, hours: f64, top: Top, sinks_mm_h: &[f64; N]) -> Flows<N> {
        let mut flows = Flows { infiltration_mm: 0.0, runoff_mm: 0.0, down_mm: [0.0; N] };
        let mut left = hours;
        while left > 0.0 {
            let step = if self.step_h >= left { left } else { self.step_h.min(left / 2.0) };
            let Some((down, iterations)) = self.attempt(step, top, sinks_mm_h, &mut flows) else {
                self.step_h = step / 3.0;
                continue;
            };
            left = if step >= left { 0.0 } else { left - step };
            for (sum, down) in flows.down_mm.iter_mut().zip(down) {
                *sum += down;
            }
            let longer = if iterations <= 4 {
                1.7
            } else if iterations <= 7 {
                1.0
            } else {
                0.6
            };
            // A step that was cut short by the end says nothing against the one that was meant.
            self.step_h = (step * longer).max(if longer < 1.0 { SHORTEST_H } else { self.step_h }).min(1.0);
        }
        flows
    }

    /// One implicit step. None when it is too long; nothing has changed then.
    fn attempt(
        &mut self,
        hours: f64,
        top: Top,
        sinks_mm_h: &[f64; N],
        flows: &mut Flows<N>,
    ) -> Option<([f64; N], usize)> {
        let factor = self.conductivity_factor;
        let mut place = self.place;
        let mut points = [Point::default(); N];
        for layer in 0..N {
            points[layer] = self.curve.at(place[layer]);
        }
        // The weights of gravity, from the step's beginning: they change slowly.
        let mut weight = [0.5; N];
        let mut per_distance = [0.0; N];
        for layer in 0..N - 1 {
            let distance = (self.thickness_mm[layer] + self.thickness_mm[layer + 1]) / 2.0;
            per_distance[layer] = 1.0 / distance;
            weight[layer] = gravity_weight(&points[layer], &points[layer + 1], distance);
        }
        let surface = Surface::new(self, top, hours);
        let base = match self.bottom {
            Bottom::Head(head) => Some(self.curve.at(coordinate(head))),
            Bottom::Free | Bottom::Closed => None,
        };
        let last_half = 2.0 / self.thickness_mm[N - 1];
        let tolerance = TOLERANCE_MM / hours;

        for iteration in 0..=MOST_ITERATIONS {
            // Flows, and their slopes over the coordinate above and below.
            let (entering, entering_slope) = surface.flow(&points[0]);
            let mut down = [0.0; N];
            let (mut by_upper, mut by_lower) = ([0.0; N], [0.0; N]);
            for layer in 0..N - 1 {
                let (a, b, w, d) = (&points[layer], &points[layer + 1], weight[layer], per_distance[layer]);
                let gravity = w * a.conductivity + (1.0 - w) * b.conductivity;
                down[layer] = factor * ((a.potential - b.potential) * d + gravity);
                by_upper[layer] = factor * (a.potential_slope * d + w * a.conductivity_slope);
                by_lower[layer] = factor * ((1.0 - w) * b.conductivity_slope - b.potential_slope * d);
            }
            let last = &points[N - 1];
            match (self.bottom, &base) {
                (Bottom::Free, _) => {
                    down[N - 1] = factor * last.conductivity;
                    by_upper[N - 1] = factor * last.conductivity_slope;
                }
                (Bottom::Head(_), Some(base)) => {
                    let gravity = (last.conductivity + base.conductivity) / 2.0;
                    down[N - 1] = factor * ((last.potential - base.potential) * last_half + gravity);
                    by_upper[N - 1] = factor * (last.potential_slope * last_half + last.conductivity_slope / 2.0);
                }
                _ => {}
            }

            // What does not fit yet, and the matrix of its slopes, eliminated on the way down (Thomas).
            let mut worst = 0.0f64;
            let (mut upper, mut value) = ([0.0; N], [0.0; N]);
            for layer in 0..N {
                let point = &points[layer];
                let size = self.thickness_mm[layer] * self.content_factor / hours;
                let flow_in = if layer == 0 { entering } else { down[layer - 1] };
                let rest =
                    point.content * size - self.water_mm[layer] / hours - flow_in + down[layer] + sinks_mm_h[layer];
                worst = worst.max(rest.abs());
                let (mut diagonal, mut right) = (point.content_slope * size + by_upper[layer], -rest);
                if layer == 0 {
                    diagonal -= entering_slope;
                } else {
                    diagonal -= by_lower[layer - 1];
                    let lower = -by_upper[layer - 1];
                    diagonal -= lower * upper[layer - 1];
                    right -= lower * value[layer - 1];
                }
                upper[layer] = by_lower[layer] / diagonal;
                value[layer] = right / diagonal;
            }
            let give_up = iteration == MOST_ITERATIONS;
            if iteration > 0 && (worst <= tolerance || (give_up && hours <= SHORTEST_H)) {
                return self
                    .accept(hours, &surface, place, entering, down, sinks_mm_h, flows)
                    .map(|down| (down, iteration));
            }
            if give_up {
                return None;
            }
            let mut change = 0.0;
            for layer in (0..N).rev() {
                change = value[layer] - upper[layer] * change;
                if !change.is_finite() {
                    return None;
                }
                let moved = place[layer] + change.clamp(-MOST_CHANGE, MOST_CHANGE);
                // Saturation is a corner, which is not to be jumped over.
                place[layer] = if place[layer] < 0.0 && moved > 0.0 { 0.0 } else { moved };
                points[layer] = self.curve.at(place[layer]);
            }
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one step, taken together once")]
    fn accept(
        &mut self,
        hours: f64,
        surface: &Surface,
        place: [f64; N],
        entering: f64,
        down: [f64; N],
        sinks_mm_h: &[f64; N],
        flows: &mut Flows<N>,
    ) -> Option<[f64; N]> {
        let mut water = [0.0; N];
        for layer in 0..N {
            let flow_in = if layer == 0 { entering } else { down[layer - 1] };
            water[layer] = self.water_mm[layer] + (flow_in - down[layer] - sinks_mm_h[layer]) * hours;
            let change = (water[layer] - self.water_mm[layer]).abs();
            if change > MOST_CONTENT_CHANGE * self.thickness_mm[layer] && hours > 20.0 * SHORTEST_H {
                return None;
            }
        }
        (self.water_mm, self.place) = (water, place);
        flows.infiltration_mm += entering * hours;
        if let Some((rate_mm_h, ponding_mm)) = surface.supply {
            let standing = (self.ponded_mm + (rate_mm_h - entering) * hours).max(0.0);
            self.ponded_mm = standing.min(ponding_mm);
            flows.runoff_mm += standing - self.ponded_mm;
        }
        Some(down.map(|flow| flow * hours))
    }
}

/// The surface during a step.
struct Surface {
    /// Rate and ponding depth, where water is supplied.
    supply: Option<(f64, f64)>,
    /// What there is to infiltrate, mm/h.
    available_mm_h: f64,
    head: Point,
    per_half: f64,
    factor: f64,
    weight: f64,
}

impl Surface {
    fn new<const N: usize>(column: &Column<N>, top: Top, hours: f64) -> Self {
        let half = column.thickness_mm[0] / 2.0;
        let first = column.curve.at(column.place[0]);
        let (supply, available_mm_h, head) = match top {
            Top::Supply { rate_mm_h, ponding_mm } => {
                let available = rate_mm_h + column.ponded_mm / hours;
                (Some((rate_mm_h, ponding_mm)), available, column.ponded_mm)
            }
            Top::Head(head) => (None, f64::INFINITY, head),
        };
        let head = column.curve.at(coordinate(head));
        let weight = gravity_weight(&head, &first, half);
        Self { supply, available_mm_h, head, per_half: 1.0 / half, factor: column.conductivity_factor, weight }
    }

    /// What enters the first layer, mm/h, and its slope: all that there is, or what the soil takes in under the surface's head.
    fn flow(&self, first: &Point) -> (f64, f64) {
        let (w, d) = (self.weight, self.per_half);
        let gravity = w * self.head.conductivity + (1.0 - w) * first.conductivity;
        let taken = self.factor * ((self.head.potential - first.potential) * d + gravity);
        if self.available_mm_h <= taken {
            return (self.available_mm_h, 0.0);
        }
        (taken, self.factor * ((1.0 - w) * first.conductivity_slope - first.potential_slope * d))
    }
}

/// How much the upper of two places counts for the conductivity under gravity; see the module.
fn gravity_weight(upper: &Point, lower: &Point, distance_mm: f64) -> f64 {
    let difference = upper.potential - lower.potential;
    let per_mm = if difference.abs() > 1e-9 * (upper.potential + lower.potential) {
        (upper.conductivity - lower.conductivity) / difference
    } else if upper.potential_slope > 0.0 {
        upper.conductivity_slope / upper.potential_slope
    } else {
        0.0
    };
    let x = distance_mm * per_mm.max(0.0);
    if x < 1e-3 {
        0.5 + x / 12.0
    } else if x > 30.0 {
        1.0 - 1.0 / x
    } else {
        1.0 / (-(-x).exp_m1()) - 1.0 / x
    }
}

#[cfg(test)]
mod tests;
