//! The ground and what grows on it: infiltration, profiles, heat and a year's crops, held against theory and published numbers.

use std::f64::consts::{PI, TAU};
use std::sync::Arc;

use proto::Timestamp;

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::crop::Crop;
use crate::crop::stand::{Stand, days_before};
use crate::ground::{Brought, Column, Soil};
use crate::soil::curve::{Curve, VanGenuchten};
use crate::soil::pedotransfer::Composition;
use crate::soil::richards::{self, Bottom, Top};
use crate::soil::thermal::{Coupling, Temperatures, Thermal};
use crate::soil::{LAYERS, THICKNESS_MM};
use crate::weather::Weather;

const LOAM: Composition = Composition { sand_pct: 40.0, clay_pct: 20.0, organic_matter_pct: 2.5 };
/// What the year is followed in, s.
const STEP_S: i64 = 900;
/// What one irrigation of the year gives, mm, and how long it runs, h.
const GIVEN_MM: f64 = 35.0;
const GIVEN_H: f64 = 6.0;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut section = Section {
        title: "Ground and crops".to_owned(),
        text:
            "Water moves by Richards' equation (mixed form, implicit, conservative), its hydraulics after Saxton and \
               Rawls (2006). Infiltration under a wet surface must lie between Green and Ampt's (1911) and Talsma and \
               Parlange's (1972) solution, which bound what any soil does. The front is that of the first problem of \
               Celia et al. (1990), beside a solution by SciPy on 1,000 cells.\n\n\
               Heat is conducted through moist layers; the daily wave must fall as exp(-z/D) and come z/D later.\n\n\
               Crops grow by degree days under the scenario's weather, drink by FAO-56's dual coefficients, are \
               irrigated when nine tenths of their readily available water are gone, and lose yield by FAO-33."
                .to_owned(),
        ..Section::default()
    };
    infiltration(&mut section);
    front(&mut section);
    heat(&mut section);
    year(&mut section, scenario);
    Ok(section)
}

fn infiltration(section: &mut Section) {
    const N: usize = 100;
    let curve = Arc::new(Curve::of(&LOAM.characteristics()));
    let (dry_mm, k) = (-20_000.0, curve.saturated_conductivity_mm_h());
    let s2 = curve.sorptivity_mm_sqrt_h(dry_mm, 0.0).powi(2);
    let mut column = richards::Column::new(curve, [8.0; N], Bottom::Free, [dry_mm; N]);
    let (mut taken, mut points, mut bounds) = (0.0, Vec::new(), [Vec::new(), Vec::new()]);
    let (mut soonest, mut latest) = (f64::INFINITY, f64::NEG_INFINITY);
    for step in 1..=35 {
        let hours = 0.1 * f64::from(step);
        taken += column.advance(0.1, Top::Head(0.0), &[0.0; N]).infiltration_mm;
        points.push((hours, taken));
        // The hours at which either bound has taken so much.
        let y = 2.0 * k * taken / s2;
        for (bound, x) in bounds.iter_mut().zip([y - y.ln_1p(), y - 1.0 + (-y).exp()]) {
            bound.push((x * s2 / (2.0 * k * k), taken));
        }
        if step > 3 {
            latest = latest.max(bounds[0][step as usize - 1].0 / hours);
            soonest = soonest.min(bounds[1][step as usize - 1].0 / hours);
        }
    }
    let [green_ampt, talsma_parlange] = bounds;
    section.plots.push(Plot::new(
        "infiltration",
        "Infiltration into dry loam under a wet surface",
        Axis::numbers("h"),
        Axis::numbers("mm"),
        [
            Series::new("Richards", Form::Points, points),
            Series::new("Green and Ampt", Form::Line, green_ampt),
            Series::new("Talsma and Parlange", Form::Line, talsma_parlange),
        ],
    ));
    section.checks.push(Check::at_most("Green and Ampt's time for the same water over Richards', most", latest, 1.1));
    section.checks.push(Check::at_least("Talsma and Parlange's over Richards', least", soonest, 0.9));
}

fn front(section: &mut Section) {
    const N: usize = 100;
    const PUBLISHED: [(f64, f64); 4] = [(-1.0, 0.398), (-2.0, 0.537), (-5.0, 0.565), (-9.0, 0.571)];
    let soil = VanGenuchten {
        residual: 0.102,
        saturation: 0.368,
        alpha_per_mm: 0.00335,
        n: 2.0,
        saturated_conductivity_mm_h: 331.92,
    };
    let curve = Arc::new(Curve::van_genuchten(&soil));
    let mut column = richards::Column::new(curve, [10.0; N], Bottom::Head(-10_000.0), [-10_000.0; N]);
    let mut profiles = Vec::new();
    for hours in [6, 12, 24] {
        let until = hours * 10 - profiles.len() as i32 * [0, 60, 60][profiles.len()];
        for _ in 0..until {
            column.advance(0.1, Top::Head(-750.0), &[0.0; N]);
        }
        let points = (0..N).map(|layer| ((layer as f64 + 0.5) / 100.0, column.head_mm(layer) / 1000.0)).collect();
        profiles.push(Series::new(&format!("{hours} h"), Form::Line, points));
    }
    let worst = PUBLISHED
        .map(|(head_m, depth_m)| {
            let below = (0..N).position(|layer| column.head_mm(layer) < 1000.0 * head_m).unwrap_or(N - 1);
            ((below as f64) / 100.0 - depth_m).abs()
        })
        .into_iter()
        .fold(0.0, f64::max);
    let reference = PUBLISHED.map(|(head_m, depth_m)| (depth_m, head_m)).to_vec();
    profiles.push(Series::new("24 h, SciPy", Form::Points, reference));
    let (x, y) = (Axis::numbers("depth, m"), Axis::numbers("pressure head, m"));
    section.plots.push(Plot::new("front", "A front enters dry soil (Celia et al. 1990)", x, y, profiles));
    section.checks.push(Check::at_most("the front after a day is off by, m", worst, 0.015));
}

fn heat(section: &mut Section) {
    let thermal = Thermal::of(&LOAM.characteristics());
    let content = 0.25;
    let damping_m = (thermal.conductivity_w_m_k(content) / thermal.capacity_j_m3_k(content) * 86_400.0 / PI).sqrt();
    let mut column = Temperatures([15.0; LAYERS]);
    let mut extremes = [(f64::INFINITY, f64::NEG_INFINITY, 0.0); LAYERS];
    for step in 0..12 * 288 {
        let hour = f64::from(step + 1) / 12.0;
        let temperature_c = 15.0 + 10.0 * (TAU * (hour - 12.0) / 24.0).cos();
        let surface = Coupling { temperature_c, conductance_w_m2_k: 1e9 };
        column.step(300.0, &thermal, &THICKNESS_MM, &[content; LAYERS], surface, 15.0);
        for (extreme, &temperature) in extremes.iter_mut().zip(&column.0).filter(|_| step >= 11 * 288) {
            extreme.0 = extreme.0.min(temperature);
            if temperature > extreme.1 {
                (extreme.1, extreme.2) = (temperature, hour - 11.0 * 24.0);
            }
        }
    }
    let header = ["depth, m", "amplitude, Cel", "theory", "lag, h", "theory"];
    let mut table = Table::new("A daily wave of 10 Cel in moist loam", &header);
    let (mut worst_c, mut worst_h) = (0.0f64, 0.0f64);
    let (mut amplitudes, mut theory) = (Vec::new(), Vec::new());
    let mut top = 0.0;
    for (layer, (low, high, at)) in extremes.into_iter().enumerate().take(8) {
        let depth_m = (top + THICKNESS_MM[layer] / 2.0) / 1000.0;
        top += THICKNESS_MM[layer];
        let (amplitude, expected) = ((high - low) / 2.0, 10.0 * (-depth_m / damping_m).exp());
        let (lag, expected_h) = ((at - 12.0f64).rem_euclid(24.0), depth_m / damping_m * 24.0 / TAU);
        table.row(format!("{depth_m:.3}"), 2, &[amplitude, expected, lag, expected_h]);
        amplitudes.push((depth_m, amplitude));
        theory.push((depth_m, expected));
        worst_c = worst_c.max((amplitude - expected).abs());
        worst_h = worst_h.max((lag - expected_h).abs());
    }
    section.tables.push(table);
    section.plots.push(Plot::new(
        "heat",
        "Amplitude of the daily wave",
        Axis::numbers("depth, m"),
        Axis::numbers("Cel"),
        [Series::new("simulated", Form::Points, amplitudes), Series::new("10 exp(-z/D)", Form::Line, theory)],
    ));
    section.checks.push(Check::at_most("amplitude differs from theory by, Cel", worst_c, 0.3));
    section.checks.push(Check::at_most("lag differs from theory by, h", worst_h, 0.5));
}

/// A crop's year on loam.
struct Followed {
    column: Column,
    stand: Stand,
    kcb: Vec<(f64, f64)>,
    /// The worst step's error over what came in, with a thousandth of a millimetre where little did.
    worst: f64,
}

fn follow(weather: &mut Weather, crop: Crop, start: Timestamp, days: u32) -> Followed {
    const HOURS: f64 = STEP_S as f64 / 3600.0;
    let place = *weather.place();
    let soil = Soil { composition: LOAM, contents: 1.0, conductivity: 1.0, slope: 0.0 };
    let mut stand = Stand::new(crop, &place, &days_before(weather, &place, start));
    let mut column = Column::new(&soil, weather.annual(), 2.0, start);
    let (mut kcb, mut worst, mut running_h) = (Vec::new(), 0.0f64, 0.0);
    for step in 0..i64::from(days) * 86_400 / STEP_S {
        let time = start.plus_secs(step * STEP_S);
        let conditions = weather.at(time.plus_secs(STEP_S / 2));
        stand.begin(&place, time);
        if step % (86_400 / STEP_S) == 0 {
            kcb.push((step as f64 * HOURS / 24.0, stand.canopy().kcb));
            let (missing, total) = column.depletion_mm(1000.0 * stand.canopy().root_depth_m.max(0.3));
            if stand.canopy().kcb > 0.0 && missing > 0.9 * stand.cover().depletion_fraction * total {
                running_h = GIVEN_H;
            }
        }
        let brought = Brought {
            rain_mm_h: conditions.rain_mm_h,
            irrigation_mm_h: if running_h > 0.0 { GIVEN_MM / GIVEN_H } else { 0.0 },
            water_ec_ds_m: 0.5,
            nitrate_mg_l: 1.0,
        };
        running_h -= HOURS;
        let before = column.imbalance_mm();
        let used = column.step(time, HOURS, &conditions, &brought, stand.cover());
        stand.end(HOURS, &conditions, &used);
        let came = (brought.rain_mm_h + brought.irrigation_mm_h) * HOURS;
        worst = worst.max((column.imbalance_mm() - before).abs() / came.max(1e-3));
    }
    Followed { column, stand, kcb, worst }
}

fn year(section: &mut Section, scenario: &Scenario) {
    let mut weather = scenario.inputs.weather.clone();
    let header =
        ["crop", "rain", "irrigation", "evaporation", "transpiration", "drainage", "run-off", "N leached, kg/ha"];
    let mut water = Table::new("Water on loam, mm", &header);
    let mut yields =
        Table::new("Yield", &["crop", "harvests", "t/ha in all", "share of the potential", "days of stress"]);
    let (mut worst, mut courses) = (0.0f64, Vec::new());
    for crop in Crop::ALL {
        let followed = follow(&mut weather, crop, scenario.start(), scenario.days);
        let s = followed.column.sums();
        let cells = [s.rain_mm, s.irrigation_mm, s.evaporation_mm, s.transpiration_mm, s.drainage_mm, s.runoff_mm];
        water.row(crop.name(), 1, &[&cells[..], &[s.nitrate_leached_kg_ha]].concat());
        let harvests = followed.stand.harvests();
        let sum =
            |of: fn(&crate::crop::stand::Harvest) -> f64| harvests.iter().map(of).fold(0.0, |sum, value| sum + value);
        let relative = sum(|harvest| harvest.relative_yield) / (harvests.len() as f64).max(1.0);
        // What was not harvested has no share of anything.
        let shown = |value: f64| if harvests.is_empty() { "–".to_owned() } else { format!("{value:.2}") };
        let cells =
            [shown(sum(|harvest| harvest.yield_t_ha)), shown(relative), followed.stand.stress_days().to_string()];
        yields.rows.push([crop.name().to_owned(), harvests.len().to_string()].into_iter().chain(cells).collect());
        worst = worst.max(followed.worst);
        courses.push(Series::new(crop.name(), Form::Line, followed.kcb));
    }
    section.tables.push(water);
    section.tables.push(yields);
    let (x, y) = (Axis::numbers("days since the start"), Axis::numbers("Kcb"));
    // Six colours, and pasture is like alfalfa.
    courses.retain(|series| series.name != Crop::Pasture.name());
    section.plots.push(Plot::new("crops", "Basal crop coefficients", x, y, courses));
    section.checks.push(Check::at_most("a step's imbalance over what came in, most", worst, 1e-6));
}
