//! What a decision about water changes: the soil, the water's bill, and the yield.
#![allow(clippy::unwrap_used)]

use node_sim::FarmConfig;
use node_sim::farm::Farm;
use node_sim::field::{Crop, Fertiliser, FieldConfig, Season};
use node_sim::irrigation::System;
use node_sim::weather::Climate;
use proto::Timestamp;

const DAY_S: i64 = 86_400;

/// A farm with one field of a crop that irrigates only when it is told to, from 1 June.
fn farm(crop: Crop, change: impl Fn(&mut FieldConfig)) -> FarmConfig {
    let mut config = FarmConfig { stations: 1, sample_s: 3600, report_s: 3600, ..FarmConfig::default() };
    let mut field = config.fields().remove(1);
    field.crop = crop;
    field.irrigation.scheduled = false;
    change(&mut field);
    config.fields = vec![field];
    config
}

/// So many days, with this many minutes commanded on every `every`th day.
fn run(config: &FarmConfig, days: i64, every: i64, minutes: u32) -> (Farm, Season) {
    let mut farm = Farm::new(config).unwrap();
    for day in 0..days {
        if minutes > 0 && day % every == 0 {
            farm.irrigate(0, minutes);
        }
        farm.advance(config.start.plus_secs(DAY_S * (day + 1)), |_| {});
    }
    let season = farm.seasons().remove(0);
    (farm, season)
}

#[test]
fn water_that_is_commanded_costs_and_pays() {
    let config = farm(Crop::Maize, |_| {});
    let (_, dry) = run(&config, 110, 1, 0);
    let (_, half) = run(&config, 110, 5, 180);
    let (_, full) = run(&config, 110, 4, 240);
    assert_eq!((dry.pumped_m3, dry.bill), (0.0, 0.0));
    // 4 h of 8 mm/h on 12 ha, 28 times, for 5 cents a m3.
    assert!((full.pumped_m3 - 28.0 * 32.0 * 10.0 * 12.0).abs() < 1.0, "{full:?}");
    assert!((full.bill - 0.05 * full.pumped_m3).abs() < 1e-6);
    assert!((full.irrigation_mm - 28.0 * 32.0).abs() < 1e-6);
    let yields = [&dry, &half, &full].map(|season| match season.harvests.first() {
        Some(harvest) => harvest.relative_yield,
        None => season.standing_relative_yield,
    });
    assert!(yields[0] < 0.3 && yields[1] > yields[0] + 0.05 && yields[2] > yields[1] + 0.1, "{yields:?}");
    assert!(yields[2] > 0.9 && dry.stress_days > 40 && full.stress_days < 15, "{dry:?} {full:?}");
    assert!(full.drainage_mm > dry.drainage_mm && full.nitrate_leached_kg_ha > dry.nitrate_leached_kg_ha);
}

#[test]
fn a_crop_that_frost_has_killed_is_named_in_the_season_with_its_day() {
    // A summer in which maize does not get on, and frosts in September.
    let start: Timestamp = "2026-07-01T08:00:00Z".parse().unwrap();
    let cold =
        FarmConfig { start, climate: Climate { mean_c: 5.0, ..Climate::default() }, ..farm(Crop::Maize, |_| {}) };
    let (_, season) = run(&cold, 120, 4, 240);
    let harvest = season.harvests[0];
    assert!((harvest.yield_t_ha, season.harvests.len()) == (0.0, 1) && harvest.at < season.until, "{season:?}");
    // As people read it: what it was, when, and how cold.
    let read = serde_json::to_value(&season).unwrap();
    let told = &read["harvests"][0];
    assert_eq!(told["at"], harvest.at.to_string());
    assert!(told["killed_by_frost_c"].as_f64().is_some_and(|lowest| (-15.0..-3.0).contains(&lowest)), "{told}");
    assert_eq!(serde_json::from_value::<Season>(read).unwrap(), season);
    // What ripens says nothing of frost.
    let (_, warm) = run(&farm(Crop::Maize, |_| {}), 110, 4, 240);
    let told = serde_json::to_value(&warm).unwrap();
    assert!(told["harvests"][0]["yield_t_ha"].as_f64().unwrap() > 0.0, "{told}");
    assert!(told["harvests"][0].get("killed_by_frost_c").is_none(), "{told}");
}

#[test]
fn a_pivot_waters_where_its_arm_passes_and_drip_loses_little() {
    let pivot = System::Pivot { rotation_h: 20.0, sector_degrees: 15.0, efficiency: 0.8 };
    let mut config = farm(Crop::Alfalfa, |field| {
        (field.irrigation.system, field.irrigation.rate_mm_h, field.dry) = (Some(pivot), 1.0, Some(0.6));
    });
    config.stations = 8;
    // A quarter of a turn: some stations get wet, others not.
    let wetter = |minutes| {
        let mut farm = Farm::new(&config).unwrap();
        let content = |farm: &Farm| farm.stations().iter().map(|s| s.ground().sums().irrigation_mm).collect::<Vec<_>>();
        farm.irrigate(0, minutes);
        farm.advance(config.start.plus_secs(DAY_S), |_| {});
        content(&farm)
    };
    let (quarter, whole) = (wetter(300), wetter(1200));
    let wet = quarter.iter().filter(|mm| **mm > 5.0).count();
    assert!((1..4).contains(&wet), "{quarter:?}");
    assert!(whole.iter().all(|mm| (10.0..24.0).contains(mm)), "a turn is 20 h of 0.8 mm/h: {whole:?}");

    let drip = System::Drip { emitter_l_h: 1.0, emitters_per_m2: 4.0, efficiency: 0.9, wetted: 0.3 };
    let with = |system| {
        let config = farm(Crop::Tomato, |field| {
            (field.irrigation.system, field.irrigation.rate_mm_h) = (Some(system), 4.0);
        });
        run(&config, 60, 2, 180).1
    };
    let (drip, sprinkler) = (with(drip), with(System::Sprinkler { efficiency: 0.75 }));
    assert!((drip.pumped_m3 - sprinkler.pumped_m3).abs() < 1e-6);
    assert!((drip.irrigation_mm / sprinkler.irrigation_mm - 0.9 / 0.75).abs() < 1e-9);
    assert!(
        drip.evaporation_mm < 0.8 * sprinkler.evaporation_mm,
        "{} {}",
        drip.evaporation_mm,
        sprinkler.evaporation_mm
    );
}

#[test]
fn fertiliser_comes_on_its_day_and_too_much_water_takes_it_away() {
    let at: Timestamp = "2026-06-05T16:00:00Z".parse().unwrap();
    let event = Fertiliser { at, n_kg_ha: 120.0, p_kg_ha: 20.0, k_kg_ha: 50.0 };
    let nitrate = |farm: &Farm| farm.stations()[0].ground().nutrient_mg_kg(node_sim::ground::Solute::Nitrate, 50.0);
    let config = farm(Crop::Maize, |field| field.fertiliser = vec![event]);
    let mut farm_of = Farm::new(&config).unwrap();
    farm_of.advance(at.plus_secs(-600), |_| {});
    let (before, salt) = (nitrate(&farm_of), farm_of.stations()[0].ground().water_ec_ds_m(50.0));
    farm_of.advance(at.plus_secs(600), |_| {});
    // 120 kg/ha in 10 cm of 1,450 kg/m3.
    assert!((nitrate(&farm_of) - before - 83.0).abs() < 8.0, "{before} {}", nitrate(&farm_of));
    // 120 kg/ha of N and 50 of K are 857 and 128 meq/m2 in the water of 10 cm; 10 meq/l are 1 dS/m.
    let water_mm = 100.0 * farm_of.stations()[0].ground().water_content(50.0);
    let salt = farm_of.stations()[0].ground().water_ec_ds_m(50.0) - salt;
    assert!((salt * water_mm / 98.5 - 1.0).abs() < 0.15, "{salt} dS/m in {water_mm} mm");
    let (_, little) = run(&config, 50, 3, 120);
    let (_, much) = run(&config, 50, 1, 300);
    assert!(much.nitrate_leached_kg_ha > little.nitrate_leached_kg_ha + 30.0, "{little:?} {much:?}");
}

#[test]
fn wrong_systems_and_amounts_are_named() {
    let config = farm(Crop::Maize, |field| {
        field.irrigation.system = Some(System::Pivot { rotation_h: 1.0, sector_degrees: 15.0, efficiency: 0.8 });
        field.fertiliser = vec![Fertiliser { at: Timestamp::from_secs(0), n_kg_ha: -1.0, p_kg_ha: 0.0, k_kg_ha: 0.0 }];
        field.area_ha = Some(0.0);
    });
    let text = Farm::new(&config).unwrap_err().to_string();
    for expected in [
        "farm.fields[0].irrigation.system.rotation_h: 1 is not 4 to 240 h",
        "farm.fields[0].fertiliser[0].n_kg_ha: -1 is not 0 to 2000 kg/ha",
        "farm.fields[0].area_ha: 0 is not 0.001 to 10000",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\nin\n{text}");
    }
}
