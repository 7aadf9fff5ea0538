use proptest::prelude::*;

use super::*;
use crate::soil::curve::VanGenuchten;
use crate::soil::pedotransfer::Composition;

fn soil(sand_pct: f64, clay_pct: f64) -> Arc<Curve> {
    Curve::shared(&Composition { sand_pct, clay_pct, organic_matter_pct: 2.5 }).0
}

const STILL: Top = Top::Supply { rate_mm_h: 0.0, ponding_mm: 5.0 };

/// Celia et al. (1990), their first problem: a soil of New Mexico.
const NEW_MEXICO: VanGenuchten = VanGenuchten {
    residual: 0.102,
    saturation: 0.368,
    alpha_per_mm: 0.00335,
    n: 2.0,
    saturated_conductivity_mm_h: 331.92,
};

/// What flowed in, mm, and the depths, m, at which heads, mm, are passed, by another program: method of lines on 1,000 cells with
/// arithmetic means of the conductivity, BDF of SciPy 1.17 at a relative tolerance of 1e-6.
const CELIA_INFILTRATED_MM: f64 = 41.136;
const CELIA_FRONT: [(f64, f64); 4] = [(-1000.0, 0.398), (-2000.0, 0.537), (-5000.0, 0.565), (-9000.0, 0.571)];

/// A column of a metre under a head of -75 cm, dry at -10 m, after a day: the heads, and what flowed in.
fn celia<const N: usize>() -> ([f64; N], f64) {
    let curve = Arc::new(Curve::van_genuchten(&NEW_MEXICO));
    let mut column = Column::new(curve, [1000.0 / N as f64; N], Bottom::Head(-10_000.0), [-10_000.0; N]);
    let before = column.stored_mm();
    let (mut infiltrated, mut drained) = (0.0, 0.0);
    for _ in 0..240 {
        let flows = column.advance(0.1, Top::Head(-750.0), &[0.0; N]);
        infiltrated += flows.infiltration_mm;
        drained += flows.down_mm[N - 1];
        assert!((before + infiltrated - drained - column.stored_mm()).abs() < 1e-9);
    }
    (std::array::from_fn(|layer| column.head_mm(layer)), infiltrated)
}

/// The depth, m, at which a profile of equal layers over a metre passes a head.
fn front_m<const N: usize>(heads: &[f64; N], head: f64) -> f64 {
    let below = heads.iter().position(|h| *h < head).unwrap();
    let (a, b) = (heads[below - 1], heads[below]);
    (below as f64 - 0.5 + (a - head) / (a - b)) / N as f64
}

#[test]
fn the_front_of_celia_et_al_1990_is_where_a_fine_grid_has_it() {
    let (fine, infiltrated) = celia::<100>();
    let (coarse, with_coarse) = celia::<40>();
    assert!((infiltrated / CELIA_INFILTRATED_MM - 1.0).abs() < 0.02, "{infiltrated}");
    assert!((with_coarse / CELIA_INFILTRATED_MM - 1.0).abs() < 0.03, "{with_coarse}");
    for (head, depth_m) in CELIA_FRONT {
        assert!((front_m(&fine, head) - depth_m).abs() < 0.015, "{head}: {}", front_m(&fine, head));
        assert!((front_m(&coarse, head) - depth_m).abs() < 0.03, "{head}: {}", front_m(&coarse, head));
    }
}

#[test]
fn at_rest_the_heads_stand_over_the_water_table() {
    const N: usize = 12;
    let thickness: [f64; N] = std::array::from_fn(|layer| 20.0 + 10.0 * layer as f64);
    let depth: f64 = thickness.iter().sum();
    let mut column = Column::new(soil(40.0, 20.0), thickness, Bottom::Head(0.0), [-3000.0; N]);
    for _ in 0..4000 {
        column.advance(24.0, STILL, &[0.0; N]);
    }
    let mut middle = 0.0;
    for layer in 0..N {
        middle += thickness[layer] / 2.0;
        let expected = middle - depth;
        assert!(
            (column.head_mm(layer) - expected).abs() < 0.01 * depth,
            "{layer}: {} {expected}",
            column.head_mm(layer)
        );
        middle += thickness[layer] / 2.0;
    }
}

#[test]
fn a_steady_flow_is_conducted_under_a_gradient_of_one() {
    const N: usize = 16;
    for (sand, clay, rate) in [(80.0, 5.0, 2.0), (40.0, 20.0, 0.5), (30.0, 35.0, 0.05)] {
        let curve = soil(sand, clay);
        let mut column = Column::new(curve.clone(), [100.0; N], Bottom::Free, [-3000.0; N]);
        let mut drained = 0.0;
        for _ in 0..3000 {
            drained =
                column.advance(2.0, Top::Supply { rate_mm_h: rate, ponding_mm: 5.0 }, &[0.0; N]).down_mm[N - 1] / 2.0;
        }
        assert!((drained / rate - 1.0).abs() < 1e-3, "{drained}");
        for layer in 0..N {
            let conducted = curve.at(coordinate(column.head_mm(layer))).conductivity;
            assert!((conducted / rate - 1.0).abs() < 0.01, "{layer}: {conducted}");
        }
    }
}

#[test]
fn a_steady_flow_to_and_from_a_water_table_is_gardners() {
    // K = Ks exp(a h): h(z) = ln((1 - q/Ks) exp(-a z) + q/Ks) / a above the table, q downwards (Gardner 1958), on thick layers.
    const N: usize = 10;
    let (ks, a): (f64, f64) = (20.0, 0.002);
    let curve = Curve::new(|h| 0.1 + 0.3 * (a * h.min(0.0)).exp(), |h| ks * (a * h.min(0.0)).exp());
    for rate in [2.0, -0.5] {
        let mut column = Column::new(Arc::new(curve.clone()), [100.0; N], Bottom::Head(0.0), [-500.0; N]);
        let mut sinks = [0.0; N];
        sinks[0] = f64::max(-rate, 0.0);
        for _ in 0..2000 {
            column.advance(1.0, Top::Supply { rate_mm_h: f64::max(rate, 0.0), ponding_mm: 5.0 }, &sinks);
        }
        for layer in 1..N {
            let z = 1000.0 - 100.0 * (layer as f64 + 0.5);
            let expected = ((1.0 - rate / ks) * (-a * z).exp() + rate / ks).ln() / a;
            assert!((column.head_mm(layer) - expected).abs() < 8.0, "{rate} {z}: {} {expected}", column.head_mm(layer));
        }
    }
}

#[test]
fn infiltration_lies_between_green_and_ampt_and_talsma_and_parlange() {
    // With y = 2 K I/S2 and x = 2 K2 t/S2: x = y - ln(1 + y) (Green and Ampt 1911), x = y - 1 + exp(-y) (Talsma and Parlange 1972), K
    // and S at the wet end; any soil is between the two.
    const N: usize = 100;
    for (sand, clay, hours) in [(40.0, 20.0, 3.5), (65.0, 10.0, 1.0), (30.0, 35.0, 8.0)] {
        let curve = soil(sand, clay);
        let (dry, k) = (-20_000.0, curve.saturated_conductivity_mm_h());
        let s2 = curve.sorptivity_mm_sqrt_h(dry, 0.0).powi(2);
        let mut column = Column::new(curve, [8.0; N], Bottom::Free, [dry; N]);
        let (mut infiltrated, mut time) = (0.0, 0.0);
        while time < hours {
            infiltrated += column.advance(0.05, Top::Head(0.0), &[0.0; N]).infiltration_mm;
            time += 0.05;
            let (x, y) = (2.0 * k * k * time / s2, 2.0 * k * infiltrated / s2);
            if time > 0.3 {
                let (green_ampt, talsma_parlange) = (y - y.ln_1p(), y - 1.0 + (-y).exp());
                assert!(
                    green_ampt < 1.1 * x && 0.9 * x < talsma_parlange,
                    "{sand} {time}: {green_ampt} {x} {talsma_parlange}"
                );
            }
        }
        assert!(column.head_mm(N - 1) < -1000.0, "{sand}: the front has come to the bottom, {infiltrated} mm");
    }
}

#[test]
fn more_than_the_soil_can_take_stands_and_then_runs_off() {
    const N: usize = 16;
    let mut column = Column::new(soil(30.0, 35.0), [50.0; N], Bottom::Free, [-3000.0; N]);
    let mut sums = (0.0, 0.0);
    for _ in 0..24 {
        let flows = column.advance(0.25, Top::Supply { rate_mm_h: 40.0, ponding_mm: 5.0 }, &[0.0; N]);
        sums = (sums.0 + flows.infiltration_mm, sums.1 + flows.runoff_mm);
    }
    assert!((column.ponded_mm() - 5.0).abs() < 1e-9 && sums.1 > 100.0, "{sums:?}");
    assert!((sums.0 + sums.1 + column.ponded_mm() - 240.0).abs() < 1e-9);
    // What stands goes in when the rain is over.
    column.advance(3.0, STILL, &[0.0; N]);
    assert_eq!(column.ponded_mm(), 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn water_is_conserved_in_every_step_whatever_happens(
        sand in 5.0..92.0f64,
        clay_share in 0.05..0.95f64,
        wetness in 0.0..1.0f64,
        factors in (0.85..1.15f64, 0.3..3.0f64),
        spells in prop::collection::vec((prop::sample::select(vec![0.0, 0.0, 0.3, 4.0, 25.0, 120.0]), 0.0..0.6f64, 0.02..1.5f64, 1u32..12), 1..14),
    ) {
        const N: usize = 16;
        let thickness: [f64; N] = std::array::from_fn(|layer| 10.0 + 12.0 * layer as f64);
        let clay = (clay_share * (100.0 - sand)).min(60.0);
        let head = -10f64.powf(1.0 + 5.0 * wetness);
        let mut column = Column::new(soil(sand, clay), thickness, Bottom::Free, [head; N]).scaled(factors.0, factors.1);
        for (rate, uptake, hours, steps) in spells {
            for _ in 0..steps {
                let before = column.stored_mm();
                let sinks: [f64; N] = std::array::from_fn(|layer| {
                    uptake.min(0.2 * column.water_mm()[layer] / hours) / N as f64
                });
                let flows = column.advance(hours, Top::Supply { rate_mm_h: rate, ponding_mm: 5.0 }, &sinks);
                let taken: f64 = sinks.iter().sum::<f64>() * hours;
                let error = before + rate * hours - flows.runoff_mm - flows.down_mm[N - 1] - taken - column.stored_mm();
                prop_assert!(error.abs() <= 1e-6 * (rate * hours).max(1e-3), "{} of {}", error, rate * hours);
                prop_assert!(flows.runoff_mm >= 0.0 && column.ponded_mm() >= 0.0);
                for layer in 0..N {
                    let content = column.content(layer);
                    prop_assert!(content > 0.0 && content < column.curve.saturation() * factors.0 * 1.01, "{} {}", layer, content);
                }
            }
        }
    }
}
