use proptest::prelude::*;

use super::*;

const ANNUAL: AnnualTemperature = AnnualTemperature { mean_c: 12.0, amplitude_c: 12.0, warmest_day: 200.0 };
const STEP_H: f64 = 0.25;

fn soil(sand_pct: f64, clay_pct: f64) -> Soil {
    let composition = Composition { sand_pct, clay_pct, organic_matter_pct: 2.5 };
    Soil { composition, contents: 1.0, conductivity: 1.0, slope: 0.0 }
}

fn start() -> Timestamp {
    "2026-06-01T07:00:00Z".parse().unwrap()
}

fn column(soil: &Soil) -> Column {
    Column::new(soil, ANNUAL, 2.0, start())
}

fn crop() -> Cover {
    Cover {
        coefficients: Coefficients { kcb: 1.1, kc_max: 1.25, cover: 0.85, root_depth_mm: 1000.0 },
        depletion_fraction: 0.55,
        wetted: Wetted::WHOLE,
        wants_mg_mm: [25.0, 5.0, 25.0],
    }
}

fn sunny(hour: f64, et0_mm_d: f64) -> Conditions {
    let sun = (std::f64::consts::PI * (hour - 6.0) / 12.0).sin().max(0.0);
    Conditions {
        air_temperature_c: 20.0 + 8.0 * ((hour - 15.0) / 24.0 * std::f64::consts::TAU).cos(),
        dew_point_c: 6.0,
        relative_humidity_pct: 40.0,
        wind_speed_m_s: 2.0,
        solar_radiation_w_m2: 900.0 * sun,
        clear_sky_w_m2: 950.0 * sun,
        rain_mm_h: 0.0,
        et0_mm_h: et0_mm_d * std::f64::consts::PI / 24.0 * sun,
    }
}

/// Days under the sun, with so much water at noon of each day.
fn run(column: &mut Column, days: u32, cover: &Cover, water_mm: impl Fn(u32) -> f64) -> Used {
    let mut all = Used::default();
    for step in 0..days * 96 {
        let (day, hour) = (step / 96, f64::from(step % 96) * STEP_H);
        let brought = Brought {
            irrigation_mm_h: if (12.0..16.0).contains(&hour) { water_mm(day) / 4.0 } else { 0.0 },
            water_ec_ds_m: 1.0,
            nitrate_mg_l: 2.0,
            ..Brought::default()
        };
        let used = column.step(start().plus_secs(i64::from(step) * 900), STEP_H, &sunny(hour, 7.0), &brought, cover);
        all.evaporation_mm += used.evaporation_mm;
        all.transpiration_mm += used.transpiration_mm;
        all.potential_mm += used.potential_mm;
    }
    all
}

#[test]
fn water_reaches_10_cm_first_then_20_then_40() {
    for (sand, clay) in [(80.0, 5.0), (40.0, 20.0), (30.0, 35.0)] {
        let mut column = column(&soil(sand, clay));
        column.dry(0.5);
        let bare =
            Cover { coefficients: Coefficients { kcb: 0.0, root_depth_mm: 0.0, ..crop().coefficients }, ..crop() };
        let before = [100.0, 200.0, 400.0].map(|depth| column.water_content(depth));
        let mut arrived = [None; 3];
        for step in 0..5 * 96 {
            let brought = Brought { irrigation_mm_h: if step < 40 { 8.0 } else { 0.0 }, ..Brought::default() };
            column.step(start(), STEP_H, &sunny(0.0, 0.0), &brought, &bare);
            for (at, depth) in [100.0, 200.0, 400.0].into_iter().enumerate() {
                if arrived[at].is_none() && column.water_content(depth) > before[at] + 0.01 {
                    arrived[at] = Some(step);
                }
            }
        }
        let [first, second, third] = arrived.map(|at| at.unwrap_or(u32::MAX));
        assert!(first < 20 && first < second && second < third, "{sand}: {arrived:?}");
    }
}

#[test]
fn a_crop_that_gets_no_water_dries_the_soil_from_above_and_then_suffers() {
    let mut column = column(&soil(40.0, 20.0));
    let first = run(&mut column, 5, &crop(), |_| 0.0);
    assert!(first.transpiration_mm > 0.97 * first.potential_mm, "{first:?}");
    assert!(column.water_content(50.0) < column.water_content(400.0));
    run(&mut column, 20, &crop(), |_| 0.0);
    let last = run(&mut column, 5, &crop(), |_| 0.0);
    assert!(last.transpiration_mm < 0.5 * last.potential_mm, "{last:?}");
    // Two metres of loam hold 140 mm a metre; roots have one.
    let (missing, total) = column.depletion_mm(1000.0);
    assert!(missing > 0.7 * total && missing < 1.1 * total, "{missing} {total}");
    assert!(column.imbalance_mm().abs() < 1e-9);
}

#[test]
fn salt_gathers_without_leaching_and_is_washed_out_by_much_water() {
    let mut scarce = column(&soil(40.0, 20.0));
    run(&mut scarce, 60, &crop(), |day| if day % 5 == 0 { 35.0 } else { 0.0 });
    let mut plenty = column(&soil(40.0, 20.0));
    run(&mut plenty, 60, &crop(), |day| if day % 5 == 0 { 90.0 } else { 0.0 });
    assert!(scarce.water_ec_ds_m(600.0) > 1.5 * plenty.water_ec_ds_m(600.0));
    assert!(plenty.sums().salt_leached > 5.0 * scarce.sums().salt_leached.max(1.0));
    assert!(plenty.sums().nitrate_leached_kg_ha > scarce.sums().nitrate_leached_kg_ha + 5.0);
    assert!(scarce.sums().nitrogen_taken_kg_ha > 20.0, "{:?}", scarce.sums());
}

#[test]
fn fertiliser_is_found_by_the_probes_and_phosphorus_stays_where_it_was_put() {
    let mut ground = column(&soil(40.0, 20.0));
    let at = |ground: &Column, solute, depth| ground.nutrient_mg_kg(solute, depth);
    let before = [Solute::Nitrate, Solute::Phosphorus, Solute::Potassium].map(|solute| at(&ground, solute, 50.0));
    ground.fertilise([100.0, 30.0, 80.0]);
    // 100 kg/ha in 10 cm of 1,430 kg/m3: 70 mg/kg.
    let added = [Solute::Nitrate, Solute::Phosphorus, Solute::Potassium].map(|solute| at(&ground, solute, 50.0));
    for ((after, before), kg_ha) in added.iter().zip(before).zip([100.0, 30.0, 80.0]) {
        let expected = kg_ha * 100.0 / (ground.soil().bulk_density_kg_m3 * 0.1);
        assert!((after - before - expected).abs() < 0.01 * expected, "{after} {before} {expected}");
    }
    let deep = at(&ground, Solute::Phosphorus, 300.0);
    let idle = Cover { coefficients: Coefficients { kcb: 0.0, root_depth_mm: 0.0, ..crop().coefficients }, ..crop() };
    run(&mut ground, 30, &idle, |day| if day % 3 == 0 { 50.0 } else { 0.0 });
    assert!(at(&ground, Solute::Nitrate, 50.0) < 0.2 * added[0], "{}", at(&ground, Solute::Nitrate, 50.0));
    assert!(
        at(&ground, Solute::Phosphorus, 50.0) > 0.9 * added[1] && at(&ground, Solute::Phosphorus, 300.0) < 1.1 * deep
    );
}

#[test]
fn what_is_kept_and_put_back_goes_on_as_if_nothing_had_happened() {
    let mut one = column(&soil(65.0, 10.0));
    run(&mut one, 3, &crop(), |_| 12.0);
    let text = toml::to_string(&one.state()).unwrap();
    let mut other = column(&soil(65.0, 10.0));
    other.restore(toml::from_str(&text).unwrap());
    run(&mut one, 2, &crop(), |_| 12.0);
    run(&mut other, 2, &crop(), |_| 12.0);
    assert_eq!(one.state(), other.state());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn water_and_salt_are_conserved_in_every_step(
        sand in 8.0..90.0f64,
        clay_share in 0.1..0.9f64,
        factors in (0.88..1.12f64, 0.5..2.0f64),
        dry in 0.0..1.0f64,
        spells in prop::collection::vec((prop::sample::select(vec![0.0, 0.0, 1.0, 12.0, 60.0]), 0.0..12.0f64, 1u32..30), 1..10),
    ) {
        let clay = (clay_share * (100.0 - sand)).min(55.0);
        let soil = Soil { contents: factors.0, conductivity: factors.1, slope: 0.02, ..soil(sand, clay) };
        let mut column = column(&soil);
        column.dry(dry);
        let salt = |column: &Column| {
            let state = column.state();
            state.solutes[0].iter().sum::<f64>() + state.surface[0] + state.entering[0] + state.sums.salt_leached
        };
        let (mut came, begun) = (0.0, salt(&column));
        let mut step = 0;
        for (rate, et0, steps) in spells {
            for _ in 0..steps {
                let before = (column.imbalance_mm(), column.sums().runoff_mm);
                let brought = Brought { irrigation_mm_h: rate, water_ec_ds_m: 0.8, ..Brought::default() };
                step += 1;
                column.step(start(), STEP_H, &sunny(f64::from(step) * STEP_H % 24.0, et0), &brought, &crop());
                came += rate * STEP_H * 0.8;
                let error = (column.imbalance_mm() - before.0).abs();
                prop_assert!(error <= 1e-6 * (rate * STEP_H).max(1e-3), "{} of {}", error, rate * STEP_H);
                if column.sums().runoff_mm > before.1 {
                    // What ran off took salt along.
                    came = salt(&column) - begun;
                }
                prop_assert!((salt(&column) - begun - came).abs() < 1e-7 * (begun + came), "{} {}", salt(&column) - begun, came);
                for depth in [5.0, 100.0, 400.0, 1800.0] {
                    let content = column.water_content(depth);
                    prop_assert!(content > 0.0 && content < 1.02 * column.soil().saturation, "{} {}", depth, content);
                    prop_assert!(column.water_ec_ds_m(depth) >= 0.0);
                }
            }
        }
    }
}
