//! A cotton season at Maricopa: soil and crop under measured weather and irrigation, beside FAO-56's bucket as another program has it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use node_sim::crop::demand::{Climate, Coefficients, Ground, Wants, Wetted, depletion_fraction, exposed_mm};
use node_sim::crop::growth::{Canopy, Stage, cover};
use node_sim::soil::curve::Curve;
use node_sim::soil::pedotransfer::Characteristics;
use node_sim::soil::richards::{Bottom, Column, Top};
use node_sim::soil::{LAYERS, THICKNESS_MM};

/// A table's rows by date, each its numbers by column.
fn rows(name: &str) -> BTreeMap<String, BTreeMap<String, f64>> {
    let path = format!("{}/../../shared/data/maricopa-cotton-2013/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("this test needs {path}: {error}"));
    let header = reader.headers().unwrap().clone();
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let cells = header
                .iter()
                .zip(&record)
                .skip(1)
                .filter_map(|(key, value)| Some((key.to_owned(), value.parse().ok()?)));
            (record[0].to_owned(), cells.collect())
        })
        .collect()
}

/// Season's sums, mm.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    etc: f64,
    eta: f64,
    evaporation: f64,
    transpiration: f64,
    drainage: f64,
}

/// The soil of the reference: field capacity, wilting point; the rest is a sandy clay loam's.
const SOIL: Characteristics = Characteristics {
    wilting_point: 0.100,
    field_capacity: 0.225,
    saturation: 0.42,
    air_entry_kpa: 3.0,
    saturated_conductivity_mm_h: 25.0,
    bulk_density_kg_m3: 1500.0,
    clay: 0.2,
    sand: 0.6,
};

/// Kcb, height and rooting depth of a day of the season: FAO-56's lengths of stages, 31, 52, 50 and 21 days.
fn canopy(day: f64) -> Canopy {
    let between = |from: f64, to: f64| ((day - from) / (to - from)).clamp(0.0, 1.0);
    let kcb = if day < 133.0 { 0.15 + 1.05 * between(31.0, 83.0) } else { 1.2 - 0.627 * between(133.0, 154.0) };
    let grown = between(31.0, 83.0);
    let height_m = 0.05 + 1.15 * grown;
    Canopy { stage: Stage::Mid, kcb, height_m, cover: cover(kcb, height_m), root_depth_m: 0.6 + 1.1 * grown }
}

/// The season, hour by hour, with this schedule.
fn season(schedule: &str) -> (Sums, Sums) {
    let (weather, irrigation) = (rows("weather.csv"), rows(&format!("irrigation-{schedule}.csv")));
    let expected = rows(&format!("expected-{schedule}.csv"));
    let mut column = Column::<LAYERS>::new(Arc::new(Curve::of(&SOIL)), THICKNESS_MM, Bottom::Free, [-1e6; LAYERS]);
    // The bucket begins at the wilting point, 60 cm deep; what the roots grow into is at field capacity.
    let mut top = 0.0;
    column.set_water_mm(THICKNESS_MM.map(|thickness| {
        top += thickness;
        thickness * if top < 700.0 { SOIL.wilting_point } else { SOIL.field_capacity }
    }));
    let (mut ours, mut theirs) = (Sums::default(), Sums::default());
    let (mut wetted, mut etc_mm_d, mut exposed) = (1.0, 5.0, 20.0);
    for (number, (date, reference)) in expected.iter().enumerate() {
        let day = &weather[date];
        let watering = irrigation.get(date);
        wetted = watering.map_or(wetted, |row| row["wetted_fraction"]);
        let canopy = canopy(number as f64);
        let wind_m_s = day["wind_speed_3m_m_s"] * 4.87 / (67.8f64 * 3.0 - 5.42).ln();
        let climate = Climate { wind_m_s, least_humidity_pct: day["rh_min_pct"] };
        let mut coefficients = Coefficients::of(&canopy, &climate);
        // The reference takes Kcb as it is given.
        coefficients.kcb = canopy.kcb;
        let p = depletion_fraction(0.65, etc_mm_d);
        etc_mm_d = 0.0;
        let before = column.stored_mm();
        let mut flows_out = 0.0;
        for hour in 0..24 {
            let sun = (std::f64::consts::PI * (f64::from(hour) + 0.5 - 6.0) / 12.0).sin().max(0.0);
            let et0 = day["etref_mm"] * sun / 7.596;
            let ground = Ground { soil: &SOIL, thickness_mm: &THICKNESS_MM, water_mm: column.water_mm() };
            let wet = Wetted { share: wetted, by_drippers: false };
            let wants = Wants { coefficients, exposed_mm: exposed, wetted: wet, et0_mm_h: et0, depletion_fraction: p };
            let taken = ground.take(&wants, 0.0, 1.0);
            let sinks = std::array::from_fn(|layer| taken.evaporation_mm_h[layer] + taken.uptake_mm_h[layer]);
            // Water comes in the first six hours; surface run-off is off in the reference.
            let share = if hour < 6 { 1.0 / 6.0 } else { 0.0 };
            let (irrigated, rained) = (share * watering.map_or(0.0, |row| row["depth_mm"]), share * day["rain_mm"]);
            let (rate, evaporable) = (irrigated + rained, ground.evaporable_mm().0);
            let evaporated = taken.evaporation_mm_h.iter().sum();
            exposed = exposed_mm(exposed, evaporable, rained, irrigated, evaporated, coefficients.exposed(wet), wetted);
            let flows = column.advance(1.0, Top::Supply { rate_mm_h: rate, ponding_mm: 200.0 }, &sinks);
            let (e, t) = (taken.evaporation_mm_h.iter().sum::<f64>(), taken.uptake_mm_h.iter().sum::<f64>());
            ours.evaporation += e;
            ours.transpiration += t;
            ours.drainage += flows.down_mm[LAYERS - 1];
            flows_out += e + t + flows.down_mm[LAYERS - 1];
            etc_mm_d += e + taken.potential_mm_h;
        }
        let supplied = watering.map_or(0.0, |row| row["depth_mm"]) + day["rain_mm"];
        assert!((before + supplied - flows_out - column.stored_mm()).abs() < 1e-9, "{date}");
        ours.etc += etc_mm_d;
        theirs.etc += reference["ETc"];
        theirs.eta += reference["ETa"];
        theirs.evaporation += reference["E"];
        theirs.transpiration += reference["T"];
        theirs.drainage += reference["DP"];
    }
    ours.eta = ours.evaporation + ours.transpiration;
    (ours, theirs)
}

#[test]
fn a_cotton_season_uses_the_water_that_fao_56_says() {
    for schedule in ["dry", "wet"] {
        let (ours, theirs) = season(schedule);
        let within = |what: &str, ours: f64, theirs: f64, share: f64| {
            assert!(
                (ours / theirs - 1.0).abs() < share,
                "{schedule} {what}: {ours:.0} mm, the reference has {theirs:.0}"
            );
        };
        within("ETc", ours.etc, theirs.etc, 0.02);
        within("ETa", ours.eta, theirs.eta, 0.06);
        within("T", ours.transpiration, theirs.transpiration, 0.09);
        within("E", ours.evaporation, theirs.evaporation, 0.25);
        // A bucket lets go at once what is above field capacity; two metres of soil hold some of it, and roots draw it up again.
        assert!((5.0..theirs.drainage).contains(&ours.drainage), "{schedule}: {} {}", ours.drainage, theirs.drainage);
    }
}
