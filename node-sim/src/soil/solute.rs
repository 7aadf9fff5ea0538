//! What is dissolved in the soil's water and moves with it: salt, nitrate, phosphorus, potassium.
//!
//! Advection and dispersion with linear sorption (Bear 1972; Jury and Horton 2004, *Soil Physics*, eq. 7.17), implicit and upwind.
//! Upwind differences spread a front as a dispersivity of half the distance between two layers would; only what the soil's own
//! dispersivity exceeds that by is added. Amounts are changed by the flows, each taken once and given once.
#![allow(clippy::needless_range_loop, reason = "a layer is one index into several arrays")]

/// Longitudinal dispersivity in a field, mm: 2 to 20 cm over a metre or two (Vanderborght and Vereecken 2007, *Vadose Zone J.* 6,
/// 29-52).
const DISPERSIVITY_MM: f64 = 80.0;

/// What moves a solute over a time.
#[derive(Debug, Clone, Copy)]
pub struct Movement<'a, const N: usize> {
    /// Thickness of the layers, mm.
    pub thickness_mm: &'a [f64; N],
    /// Water in them at the end, mm.
    pub water_mm: &'a [f64; N],
    /// Water that flowed out of each downwards, mm; upwards below zero.
    pub down_mm: &'a [f64; N],
    /// Water that roots took from each, mm.
    pub uptake_mm: &'a [f64; N],
}

/// Where a solute went, in its own unit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gone {
    /// Below the last layer.
    pub drained: f64,
    /// Into roots.
    pub taken: f64,
}

/// Moves a solute whose amount in each layer is given per square metre of ground (its concentration times mm of water).
///
/// `sorption` is bulk density times distribution coefficient, a number: how many times its volume of water each volume of soil
/// counts for. `entering` came with the water that infiltrated. Roots take the share `uptake` of what is in the water they
/// drink. What drains from below comes back clean.
pub fn transport<const N: usize>(
    amount: &mut [f64; N],
    movement: &Movement<'_, N>,
    sorption: f64,
    entering: f64,
    uptake: f64,
) -> Gone {
    let Movement { thickness_mm, water_mm, down_mm, uptake_mm } = *movement;
    // The flow between layer and layer + 1 is down_by * c(layer) - up_by * c(layer + 1).
    let (mut down_by, mut up_by) = ([0.0; N], [0.0; N]);
    for layer in 0..N {
        let flow: f64 = down_mm[layer];
        down_by[layer] = flow.max(0.0);
        if let Some(next) = thickness_mm.get(layer + 1) {
            let distance = (thickness_mm[layer] + next) / 2.0;
            let mixing = flow.abs() * (DISPERSIVITY_MM - distance / 2.0).max(0.0) / distance;
            down_by[layer] += mixing;
            up_by[layer] = (-flow).max(0.0) + mixing;
        }
    }
    let (mut upper, mut value) = ([0.0; N], [0.0; N]);
    for layer in 0..N {
        let mut diagonal =
            water_mm[layer] + sorption * thickness_mm[layer] + down_by[layer] + uptake * uptake_mm[layer];
        let mut right = amount[layer];
        if layer == 0 {
            right += entering;
        } else {
            diagonal += up_by[layer - 1] - down_by[layer - 1] * upper[layer - 1];
            right += down_by[layer - 1] * value[layer - 1];
        }
        upper[layer] = up_by[layer] / diagonal;
        value[layer] = right / diagonal;
    }
    let mut concentration = value;
    for layer in (0..N - 1).rev() {
        concentration[layer] += upper[layer] * concentration[layer + 1];
    }
    let mut gone = Gone::default();
    let mut flow_in = entering;
    for layer in 0..N {
        let below = if layer + 1 < N { concentration[layer + 1] } else { 0.0 };
        let flow_out = down_by[layer] * concentration[layer] - up_by[layer] * below;
        let taken = uptake * uptake_mm[layer] * concentration[layer];
        amount[layer] += flow_in - flow_out - taken;
        gone.taken += taken;
        flow_in = flow_out;
    }
    gone.drained = flow_in;
    gone
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use proptest::prelude::*;

    use super::*;

    /// The complementary error function. Abramowitz and Stegun (1964) 7.1.26, within 1.5e-7.
    fn erfc(x: f64) -> f64 {
        let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
        let series =
            t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
        let positive = series * (-x * x).exp();
        if x >= 0.0 { positive } else { 2.0 - positive }
    }

    /// Concentrations after a steady flow of water with concentration 1 at 0.3 m3/m3.
    fn breakthrough<const N: usize>(dz: f64, flow_mm: f64, steps: u32, sorption: f64) -> [f64; N] {
        let (thickness, water) = ([dz; N], [0.3 * dz; N]);
        let mut amount = [0.0; N];
        for _ in 0..steps {
            let movement =
                Movement { thickness_mm: &thickness, water_mm: &water, down_mm: &[flow_mm; N], uptake_mm: &[0.0; N] };
            transport(&mut amount, &movement, sorption, flow_mm, 0.0);
        }
        amount.map(|amount| amount / (dz * (0.3 + sorption)))
    }

    #[test]
    fn a_front_comes_through_as_lindstrom_and_others_say() {
        // Lindstrom et al. (1967), *Soil Sci. Soc. Am. J.* 31, 21-24 (van Genuchten and Alves 1982, solution A2): a flow of concentration 1
        // begins at a surface that lets nothing back, D = 80 mm v. Sorption only slows the time (the retardation factor).
        for sorption in [0.0, 0.6] {
            let retardation = 1.0 + sorption / 0.3;
            let concentrations = breakthrough::<80>(25.0, 0.5, (480.0 * retardation) as u32, sorption);
            let (travelled, spread) = (480.0 * 0.5 / 0.3, 80.0 * 480.0 * 0.5 / 0.3);
            for (layer, c) in concentrations.iter().enumerate().skip(4).step_by(4) {
                let z = 25.0 * (layer as f64 + 0.5);
                let root = 2.0 * f64::sqrt(spread);
                let way = (z - travelled) / root;
                let expected = 0.5 * erfc(way) + (travelled / 80.0 / PI).sqrt() * (-way * way).exp()
                    - 0.5 * (1.0 + (z + travelled) / 80.0) * (z / 80.0).exp() * erfc((z + travelled) / root);
                assert!((c - expected).abs() < 0.02, "{sorption} {z}: {c} {expected}");
            }
        }
    }

    #[test]
    fn evaporation_leaves_salt_behind_and_roots_take_what_they_are_let() {
        let thickness = [100.0; 3];
        let mut amount = [30.0, 30.0, 30.0];
        // 10 mm rise from layer to layer and leave the first as vapour.
        let movement = Movement {
            thickness_mm: &thickness,
            water_mm: &[30.0, 30.0, 20.0],
            down_mm: &[-10.0, -10.0, 0.0],
            uptake_mm: &[0.0; 3],
        };
        transport(&mut amount, &movement, 0.0, 0.0, 0.0);
        assert!(amount[0] > 35.0 && (amount.iter().sum::<f64>() - 90.0).abs() < 1e-9, "{amount:?}");
        let movement = Movement { down_mm: &[0.0; 3], uptake_mm: &[3.0; 3], ..movement };
        let mut half = amount;
        let (whole, part) =
            (transport(&mut amount, &movement, 0.0, 0.0, 1.0), transport(&mut half, &movement, 0.0, 0.0, 0.5));
        assert!(part.taken > 0.45 * whole.taken && part.taken < 0.6 * whole.taken);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_falls_below_zero(
            amounts in prop::array::uniform8(0.0..50.0f64),
            water in prop::array::uniform8(1.0..80.0f64),
            down in prop::array::uniform8(-20.0..40.0f64),
            roots in prop::array::uniform8(0.0..3.0f64),
            sorption in prop::sample::select(vec![0.0, 5.0, 300.0]),
            entering in 0.0..30.0f64,
            uptake in 0.0..1.0f64,
        ) {
            let mut after = amounts;
            let thickness = [20.0, 30.0, 50.0, 80.0, 120.0, 200.0, 300.0, 400.0];
            let mut down_mm = down;
            down_mm[7] = down_mm[7].max(0.0);
            let movement = Movement { thickness_mm: &thickness, water_mm: &water, down_mm: &down_mm, uptake_mm: &roots };
            let gone = transport(&mut after, &movement, sorption, entering, uptake);
            let before = amounts.iter().sum::<f64>() + entering;
            let error = before - after.iter().sum::<f64>() - gone.drained - gone.taken;
            prop_assert!(error.abs() < 1e-9 * before.max(1.0), "{}", error);
            prop_assert!(after.iter().all(|amount| *amount > -1e-9) && gone.drained >= 0.0 && gone.taken >= 0.0, "{:?}", after);
        }
    }
}
