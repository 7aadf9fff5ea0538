//! A soil's hydraulic functions as a table: water content, conductivity and matric flux potential over one coordinate.
//!
//! The coordinate `u` is the pressure head on a scale that is logarithmic where the soil is dry and linear where it is wet:
//! `u = -ln(1 - h/hc)` for a head h below zero and `u = h/hc` above. All functions are straight lines between the table's nodes, so a
//! Newton step that crosses no node is exact, and a look-up costs a few multiplications. Below saturation water is
//! compressed as in an aquifer (specific storage), so that content and head always tell of each other.
//!
//! The matric flux potential is the integral of the conductivity over the head (Kirchhoff's transform; Gardner 1958).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::pedotransfer::{Characteristics, Composition};

/// Where the coordinate passes from the logarithm to the line, mm.
const SCALE_MM: f64 = 50.0;
/// How many segments a table has.
const SEGMENTS: usize = 400;
/// The driest head of the table, mm: 100 kPa times 10^5. Drier soil is as dry as this.
const DRIEST_MM: f64 = 1e9;
/// Specific storage, per mm: 10^-3 per m, as in loam and clay (Domenico and Mifflin 1965).
const STORAGE_PER_MM: f64 = 1e-6;

/// van Genuchten's (1980) retention curve with Mualem's (1976) conductivity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VanGenuchten {
    /// Residual water content, m3/m3.
    pub residual: f64,
    /// Saturated water content, m3/m3.
    pub saturation: f64,
    /// Inverse of the air entry's head, per mm.
    pub alpha_per_mm: f64,
    /// Shape, above 1.
    pub n: f64,
    /// Saturated conductivity, mm/h.
    pub saturated_conductivity_mm_h: f64,
}

impl VanGenuchten {
    fn effective(&self, head_mm: f64) -> f64 {
        (1.0 + (self.alpha_per_mm * (-head_mm).max(0.0)).powf(self.n)).powf(1.0 / self.n - 1.0)
    }

    /// Water content at a head in mm, m3/m3. van Genuchten (1980) eq. 21.
    #[must_use]
    pub fn content(&self, head_mm: f64) -> f64 {
        self.residual + (self.saturation - self.residual) * self.effective(head_mm)
    }

    /// Conductivity at a head in mm, mm/h. van Genuchten (1980) eq. 8.
    #[must_use]
    pub fn conductivity_mm_h(&self, head_mm: f64) -> f64 {
        let (m, s) = (1.0 - 1.0 / self.n, self.effective(head_mm));
        self.saturated_conductivity_mm_h * s.sqrt() * (1.0 - (1.0 - s.powf(1.0 / m)).powf(m)).powi(2)
    }
}

/// A table of hydraulic functions.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// From saturation to the driest.
    nodes: Vec<Node>,
    per_u: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    content: f64,
    conductivity: f64,
    potential: f64,
}

/// The functions at a coordinate, and their slopes over it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Point {
    pub content: f64,
    pub content_slope: f64,
    pub conductivity: f64,
    pub conductivity_slope: f64,
    pub potential: f64,
    pub potential_slope: f64,
}

/// The coordinate of a head in mm.
#[must_use]
pub(super) fn coordinate(head_mm: f64) -> f64 {
    if head_mm < 0.0 { -(-head_mm.max(-DRIEST_MM) / SCALE_MM).ln_1p() } else { head_mm / SCALE_MM }
}

/// The head at a coordinate, mm.
#[must_use]
pub(super) fn head_mm(u: f64) -> f64 {
    if u < 0.0 { -SCALE_MM * (-u).exp_m1() } else { u * SCALE_MM }
}

impl Curve {
    /// The table of a content (m3/m3) and a conductivity (mm/h) over the head in mm.
    #[must_use]
    pub fn new(content: impl Fn(f64) -> f64, conductivity_mm_h: impl Fn(f64) -> f64) -> Self {
        let step = (DRIEST_MM / SCALE_MM).ln_1p() / SEGMENTS as f64;
        let mut nodes = Vec::with_capacity(SEGMENTS + 1);
        let mut potential = 0.0;
        for node in 0..=SEGMENTS {
            let u = -step * node as f64;
            let head = head_mm(u);
            if node > 0 {
                // Simpson's rule over u, dh = (hc - h) du.
                let integrand = |u: f64| conductivity_mm_h(head_mm(u)) * (SCALE_MM - head_mm(u));
                potential -= step / 6.0 * (integrand(u) + 4.0 * integrand(u + step / 2.0) + integrand(u + step));
            }
            // Before the air entry, too, a content has one head: by the storage's slope.
            let most = content(0.0) + STORAGE_PER_MM * SCALE_MM * u;
            nodes.push(Node { content: content(head).min(most), conductivity: conductivity_mm_h(head), potential });
        }
        // From zero at the driest.
        let driest = potential;
        nodes.iter_mut().for_each(|node| node.potential -= driest);
        Self { nodes, per_u: 1.0 / step }
    }

    /// The table of van Genuchten's functions.
    #[must_use]
    pub fn van_genuchten(soil: &VanGenuchten) -> Self {
        Self::new(|head| soil.content(head), |head| soil.conductivity_mm_h(head))
    }

    /// The table of a soil's characteristics.
    #[must_use]
    pub fn of(soil: &Characteristics) -> Self {
        Self::new(|head| soil.content(head), |head| soil.conductivity_mm_h(soil.content(head)))
    }

    /// The table of a composition, made once for all soils whose sand and clay round to the same per cent.
    #[must_use]
    pub fn shared(composition: &Composition) -> (Arc<Self>, Characteristics) {
        type Known = Mutex<BTreeMap<[i64; 3], (Arc<Curve>, Characteristics)>>;
        static KNOWN: OnceLock<Known> = OnceLock::new();
        let key = [
            composition.sand_pct.round() as i64,
            composition.clay_pct.round() as i64,
            (10.0 * composition.organic_matter_pct).round() as i64,
        ];
        // What panicked inside left a whole entry or none.
        let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (curve, soil) = known.entry(key).or_insert_with(|| {
            let soil = Composition {
                sand_pct: key[0] as f64,
                clay_pct: key[1] as f64,
                organic_matter_pct: key[2] as f64 / 10.0,
            }
            .characteristics();
            (Arc::new(Self::of(&soil)), soil)
        });
        (curve.clone(), *soil)
    }

    /// Water content when saturated, m3/m3.
    #[must_use]
    pub fn saturation(&self) -> f64 {
        self.nodes[0].content
    }

    /// Conductivity when saturated, mm/h.
    #[must_use]
    pub fn saturated_conductivity_mm_h(&self) -> f64 {
        self.nodes[0].conductivity
    }

    /// Sorptivity of soil at one head whose surface is kept at another, mm/h^0.5. Parlange (1975, *Soil Sci.* 119, 158-161): its square is the
    /// integral of `(w + w1 - 2 w0)` over the potential, w being the content, w0 the dry and w1 the wet one.
    #[must_use]
    pub fn sorptivity_mm_sqrt_h(&self, dry_mm: f64, wet_mm: f64) -> f64 {
        const STEPS: usize = 4000;
        let (from, to) = (coordinate(dry_mm), coordinate(wet_mm));
        let (low, high) = (self.at(from).content, self.at(to).content);
        let at = |step: usize| self.at(from + (to - from) * step as f64 / STEPS as f64);
        let part = |step: usize| {
            let (a, b) = (at(step), at(step + 1));
            (f64::midpoint(a.content, b.content) + high - 2.0 * low) * (b.potential - a.potential)
        };
        (0..STEPS).map(part).sum::<f64>().sqrt()
    }

    pub(super) fn at(&self, u: f64) -> Point {
        let wet = &self.nodes[0];
        if u >= 0.0 {
            let (content_slope, potential_slope) = (STORAGE_PER_MM * SCALE_MM, wet.conductivity * SCALE_MM);
            return Point {
                content: wet.content + content_slope * u,
                content_slope,
                conductivity: wet.conductivity,
                conductivity_slope: 0.0,
                potential: wet.potential + potential_slope * u,
                potential_slope,
            };
        }
        let place = (-u * self.per_u).min(SEGMENTS as f64);
        let index = (place as usize).min(SEGMENTS - 1);
        let (a, b, share) = (&self.nodes[index], &self.nodes[index + 1], place - index as f64);
        Point {
            content: a.content + (b.content - a.content) * share,
            content_slope: (a.content - b.content) * self.per_u,
            conductivity: a.conductivity + (b.conductivity - a.conductivity) * share,
            conductivity_slope: (a.conductivity - b.conductivity) * self.per_u,
            potential: a.potential + (b.potential - a.potential) * share,
            potential_slope: (a.potential - b.potential) * self.per_u,
        }
    }

    /// The coordinate of a water content.
    pub(super) fn coordinate_of(&self, content: f64) -> f64 {
        if content >= self.saturation() {
            return (content - self.saturation()) / (STORAGE_PER_MM * SCALE_MM);
        }
        let index = self.nodes.partition_point(|node| node.content > content).clamp(1, SEGMENTS);
        let (a, b) = (&self.nodes[index - 1], &self.nodes[index]);
        let share = if a.content > b.content { (a.content - content) / (a.content - b.content) } else { 0.0 };
        -((index - 1) as f64 + share.clamp(0.0, 1.0)) / self.per_u
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loam() -> Characteristics {
        Composition { sand_pct: 40.0, clay_pct: 20.0, organic_matter_pct: 2.5 }.characteristics()
    }

    #[test]
    fn the_table_gives_what_the_functions_give() {
        let soil = loam();
        let curve = Curve::of(&soil);
        for kpa in [1.0, 8.0, 20.0, 33.0, 100.0, 1500.0, 20_000.0] {
            let head = -kpa * super::super::pedotransfer::MM_PER_KPA;
            let point = curve.at(coordinate(head));
            let content = soil.content(head);
            // At 33 kPa the curve has a corner, which the table rounds.
            assert!((point.content / content - 1.0).abs() < 8e-3, "{kpa} kPa: {} {content}", point.content);
            let conductivity = soil.conductivity_mm_h(content);
            assert!((point.conductivity / conductivity - 1.0).abs() < 0.1, "{kpa} kPa: {}", point.conductivity);
            if kpa > 20.0 {
                assert!((head_mm(curve.coordinate_of(point.content)) / head - 1.0).abs() < 1e-6, "{kpa} kPa");
            }
        }
    }

    #[test]
    fn the_potential_is_the_integral_of_the_conductivity() {
        let soil = loam();
        let curve = Curve::of(&soil);
        let (from, to): (f64, f64) = (-60_000.0, -5_000.0);
        let steps = 20_000;
        let sum: f64 = (0..steps)
            .map(|k| from + (to - from) * (f64::from(k) + 0.5) / f64::from(steps))
            .map(|head| soil.conductivity_mm_h(soil.content(head)) * (to - from) / f64::from(steps))
            .sum();
        let potential = |head: f64| curve.at(coordinate(head)).potential;
        assert!(((potential(to) - potential(from)) / sum - 1.0).abs() < 5e-3);
    }

    #[test]
    fn a_texture_is_tabulated_once() {
        let at = |sand_pct| Curve::shared(&Composition { sand_pct, clay_pct: 20.2, organic_matter_pct: 2.5 }).0;
        assert!(Arc::ptr_eq(&at(40.1), &at(39.8)) && !Arc::ptr_eq(&at(40.1), &at(41.0)));
    }
}
