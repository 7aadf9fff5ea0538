//! The water balance of a root zone: Allen et al. (1998), *Crop evapotranspiration*, FAO Irrigation and Drainage Paper 56,
//! chapter 8. Where FAO-56 books the depletion from day to day (eq. 85), here probes measure it; the rest is the same.

/// Total available water in the root zone, mm. FAO-56 eq. 82: TAW = 1000 (field capacity - wilting point) Zr; water contents
/// in m3/m3, rooting depth in m.
#[must_use]
pub fn total_available_mm(field_capacity: f64, wilting_point: f64, root_depth_m: f64) -> f64 {
    1000.0 * (field_capacity - wilting_point) * root_depth_m
}

/// Readily available water in the root zone, mm. FAO-56 eq. 83: RAW = p TAW.
#[must_use]
pub fn readily_available_mm(depletion_fraction: f64, total_mm: f64) -> f64 {
    depletion_fraction * total_mm
}

/// p at another evapotranspiration of the crop than the table's 5 mm/d: who needs more a day suffers earlier. FAO-56 chapter 8
/// (under eq. 83, and table 22's footnote): p = p of the table + 0.04 (5 - ETc), within 0.1 to 0.8; ETc in mm/d.
#[must_use]
pub fn depletion_fraction(of_table: f64, etc_mm_per_day: f64) -> f64 {
    (of_table + 0.04 * (5.0 - etc_mm_per_day)).clamp(0.1, 0.8)
}

/// Share of its transpiration that is left to a crop, 0 to 1. FAO-56 eq. 84: Ks = (TAW - Dr) / ((1 - p) TAW) once the
/// depletion Dr exceeds RAW.
#[must_use]
pub fn stress_coefficient(depletion_mm: f64, total_mm: f64, depletion_fraction: f64) -> f64 {
    ((total_mm - depletion_mm) / ((1.0 - depletion_fraction) * total_mm)).clamp(0.0, 1.0)
}

/// What the layers of a root zone miss to field capacity, and what they hold above it, mm; each layer is its water content (m3/m3) and its
/// thickness (m). Their difference is eq. 87's depletion by the mean content. The two are told apart because water above field
/// capacity is on its way: it is not yet where another layer misses it, and the next days' roots may drink it before.
#[must_use]
pub fn missing_and_surplus_mm(field_capacity: f64, layers: impl IntoIterator<Item = (f64, f64)>) -> (f64, f64) {
    layers.into_iter().fold((0.0, 0.0), |(missing, surplus), (content, layer_m)| {
        let lacks_mm = 1000.0 * (field_capacity - content) * layer_m;
        (missing + lacks_mm.max(0.0), surplus + (-lacks_mm).max(0.0))
    })
}

/// The part of a root zone of `root_depth_m` that each of the depths (m, rising) stands for, in m: from half-way to the
/// depth above (the surface for the first) to half-way to the one below (the bottom for the last). They sum to the rooting depth; a
/// depth beyond it stands for nothing.
#[must_use]
pub fn layers_m(depths_m: &[f64], root_depth_m: f64) -> Vec<f64> {
    let edge = |i: usize| match depths_m.get(i) {
        _ if i == 0 => 0.0,
        Some(below) => ((depths_m[i - 1] + below) / 2.0).min(root_depth_m),
        None => root_depth_m,
    };
    // The last that counts reaches down to the bottom, whatever lies below it.
    let used = (0..depths_m.len()).filter(|i| edge(*i) < root_depth_m).count();
    (0..depths_m.len())
        .map(|i| match i + 1 {
            next if next < used => edge(next) - edge(i),
            next if next == used => root_depth_m - edge(i),
            _ => 0.0,
        })
        .collect()
}

/// The middle of some values; of an even number the mean of the two in the middle. None of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn the_root_zone_of_an_example_computed_by_hand() {
        // Loam under alfalfa, 1 m deep: 1000 (0.28 - 0.14) 1.0 = 140 mm, of which 0.55 · 140 = 77 mm without stress.
        let total = total_available_mm(0.28, 0.14, 1.0);
        near(total, 140.0);
        near(readily_available_mm(0.55, total), 77.0);
        // At 0.20 m3/m3: 1000 (0.28 - 0.20) 1.0 = 80 mm are missing; Ks = (140 - 80) / (0.45 · 140) = 0.952.
        let (depletion, surplus) = missing_and_surplus_mm(0.28, [(0.20, 0.6), (0.20, 0.4)]);
        near(depletion, 80.0);
        near(surplus, 0.0);
        near(stress_coefficient(depletion, total, 0.55), 60.0 / 63.0);
        near(stress_coefficient(50.0, total, 0.55), 1.0);
    }

    #[test]
    fn water_that_is_on_its_way_is_not_yet_where_it_is_missing() {
        // 0.3 m are 0.05 above field capacity, 15 mm, and 0.7 m are 0.08 below, 56 mm.
        let (missing, surplus) = missing_and_surplus_mm(0.18, [(0.23, 0.3), (0.10, 0.7)]);
        near(missing, 56.0);
        near(surplus, 15.0);
        // By the mean content, 0.139 m3/m3, they are 41 mm.
        near(missing - surplus, 1000.0 * (0.18 - 0.139));
        assert_eq!(missing_and_surplus_mm(0.18, []), (0.0, 0.0));
    }

    #[test]
    fn tomatoes_on_silt_suffer_once_raw_is_used_up() {
        // Field capacity 0.32, wilting point 0.12, 0.8 m, p 0.40: TAW 160 mm, RAW 64 mm, and Ks at 65 mm (160 - 65) / 96.
        let total = total_available_mm(0.32, 0.12, 0.8);
        near(total, 160.0);
        near(readily_available_mm(0.40, total), 64.0);
        near(stress_coefficient(64.0, total, 0.40), 1.0);
        near(stress_coefficient(65.0, total, 0.40), 95.0 / 96.0);
    }

    #[test]
    fn a_thirsty_day_leaves_less_without_stress() {
        near(depletion_fraction(0.55, 5.0), 0.55);
        near(depletion_fraction(0.55, 8.0), 0.43);
        near(depletion_fraction(0.55, 3.0), 0.63);
        near(depletion_fraction(0.20, 9.0), 0.1);
        near(depletion_fraction(0.70, 1.0), 0.8);
    }

    #[test]
    fn probes_stand_for_the_soil_half_way_to_their_neighbours() {
        let all = |depths: &[f64], root: f64, expected: &[f64]| {
            let layers = layers_m(depths, root);
            assert_eq!(layers.len(), expected.len());
            layers.iter().zip(expected).for_each(|(a, b)| near(*a, *b));
            near(layers.iter().sum(), if depths.is_empty() { 0.0 } else { root });
        };
        all(&[0.1, 0.2, 0.4], 0.6, &[0.15, 0.15, 0.3]);
        all(&[0.1, 0.2, 0.4], 0.25, &[0.15, 0.1, 0.0]);
        all(&[0.1, 0.2, 0.4], 0.1, &[0.1, 0.0, 0.0]);
        all(&[0.3], 1.0, &[1.0]);
        all(&[0.4, 0.6], 0.3, &[0.3, 0.0]);
        all(&[], 0.3, &[]);
    }

    #[test]
    fn the_middle_is_not_moved_by_one_that_is_far_off() {
        assert_eq!(median(vec![0.2, 0.9, 0.1]), Some(0.2));
        assert_eq!(median(vec![0.5, 0.25]), Some(0.375));
        assert_eq!(median(Vec::new()), None);
    }
}
