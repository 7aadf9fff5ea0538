//! What a decision changes: water that is commanded, with its bill and what it yields, and fertiliser where it goes.

use proto::Timestamp;

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::config::FarmConfig;
use crate::crop::Crop;
use crate::farm::Farm;
use crate::faults::random::RandomConfig;
use crate::field::{Fertiliser, Season};
use crate::ground::Solute;

const DAY_S: i64 = 86_400;
/// How long the maize is followed, days.
const DAYS: i64 = 110;
/// What runs, mm/h, and how often and how long it is told to, every so many days and minutes.
const RATE_MM_H: f64 = 8.0;
const COMMANDS: [(&str, i64, u32); 5] = [
    ("nothing", 1, 0),
    ("2 h every 6 days", 6, 120),
    ("3 h every 5 days", 5, 180),
    ("4 h every 4 days", 4, 240),
    ("6 h every 3 days", 3, 360),
];
/// What is spread on the fifth day, kg/ha.
const SPREAD: [(&str, Solute, f64); 3] = [
    ("nitrogen, as nitrate", Solute::Nitrate, 120.0),
    ("phosphorus", Solute::Phosphorus, 20.0),
    ("potassium", Solute::Potassium, 50.0),
];
/// Where they are looked for, mm: in what is tilled, and below it.
const DEPTHS_MM: [f64; 2] = [50.0, 300.0];

/// The nutrients at the depths, mg/kg.
type Contents = [[f64; 2]; 3];

/// A summer.
struct Run {
    season: Season,
    /// Before the fertiliser, just after it, and at the end.
    contents: [Contents; 3],
}

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let config = farm(scenario);
    let runs = COMMANDS.map(|(_, every, minutes)| run(&config, every, minutes));
    let runs: Vec<Run> = runs.into_iter().collect::<anyhow::Result<_>>()?;
    let header = [
        "told to water",
        "pumped, m³",
        "bill",
        "on the soil, mm",
        "drained, mm",
        "N leached, kg/ha",
        "days of stress",
        "share of the yield",
    ];
    let mut water = Table::new("A summer of maize under the scenario's weather", &header);
    for ((name, ..), Run { season, .. }) in COMMANDS.iter().zip(&runs) {
        let amounts = [season.pumped_m3, season.bill, season.irrigation_mm, season.drainage_mm];
        let rest = [season.nitrate_leached_kg_ha, f64::from(season.stress_days), share(season)];
        water.row(*name, 2, &[&amounts[..], &rest].concat());
    }
    let header = ["nutrient", "depth, mm", "before, mg/kg", "just after", "at the end, dry", "at the end, wet"];
    let mut nutrients = Table::new("Fertiliser worked into the upper soil", &header);
    let (dry, wet) = (&runs[0], &runs[runs.len() - 1]);
    for (at, (name, _, kg_ha)) in SPREAD.iter().enumerate() {
        for (depth, depth_mm) in DEPTHS_MM.iter().enumerate() {
            let contents = [dry.contents[0], dry.contents[1], dry.contents[2], wet.contents[2]];
            nutrients.row(
                format!("{name}, {kg_ha} kg/ha"),
                2,
                &[&[*depth_mm][..], &contents.map(|contents| contents[at][depth])].concat(),
            );
        }
    }
    // Of what is in the upper soil just after it was spread, what is still there after much water.
    let left = |at: usize| wet.contents[2][at][0] / wet.contents[1][at][0];
    let price = config.fields[0].irrigation.price_per_m3;
    let off = |run: &Run| (run.season.bill - price * run.season.pumped_m3).abs();
    let (half, full) = (&runs[2].season, &runs[3].season);
    Ok(Section {
        title: "Decisions".to_owned(),
        text: format!(
            "A field of maize on 1 June (south of the equator 1 December) that is watered when it is told to, {RATE_MM_H} mm/h over the whole field, \
             for {DAYS} days. The bill is what was pumped at {price} a cubic metre; the yield is lost by FAO-33 with the water that the crop did \
             not get. On the fifth day fertiliser is spread and worked in: nitrate goes with the water, phosphorus and potassium are held by the soil."
        ),
        plots: vec![Plot::new(
            "water",
            "What water yields, and what it takes away",
            Axis::numbers("irrigation, mm"),
            Axis::numbers("% of the yield, kg/ha of nitrogen"),
            [
                Series::new("yield, %", Form::Line, points(&runs, |season| 100.0 * share(season))),
                Series::new(
                    "nitrogen leached, kg/ha",
                    Form::Line,
                    points(&runs, |season| season.nitrate_leached_kg_ha),
                ),
            ],
        )],
        checks: vec![
            Check::at_most(
                "the bill differs from the pumped water's price by",
                runs.iter().map(off).fold(0.0, f64::max),
                1e-6,
            ),
            Check::at_least(
                "yield with half of the water over that without, as a share",
                share(half) - share(&dry.season),
                0.05,
            ),
            Check::at_least("yield with enough water over that with half, as a share", share(full) - share(half), 0.05),
            Check::at_most("what still more water adds, as a share", share(&wet.season) - share(full), 0.1),
            Check::at_least(
                "nitrogen that still more water leaches, kg/ha",
                wet.season.nitrate_leached_kg_ha - full.nitrate_leached_kg_ha,
                1.0,
            ),
            Check::at_most(
                "the share of the nitrate that is left in the upper soil, over potassium's",
                left(0) / left(2),
                0.9,
            ),
            Check::at_most("the share of the potassium that is left there, over phosphorus's", left(2) / left(1), 1.0),
        ],
        tables: vec![water, nutrients],
    })
}

/// The scenario's farm with one field, which obeys, and a station that is never without power.
fn farm(scenario: &Scenario) -> FarmConfig {
    let south = scenario.farm.latitude < 0.0;
    let year = scenario.start().to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC).year();
    let first = jiff::civil::date(year, if south { 12 } else { 6 }, 1).at(0, 0, 0, 0);
    let first = jiff::tz::TimeZone::UTC.to_timestamp(first).map_or(scenario.start(), Timestamp::from_jiff);
    let start = first.plus_secs(-3600 * scenario.farm.place().zone_h());
    let mut field = scenario.farm.fields().remove(0);
    field.crop = Crop::Maize;
    (field.irrigation.scheduled, field.irrigation.rate_mm_h, field.irrigation.system) = (false, RATE_MM_H, None);
    let [n_kg_ha, p_kg_ha, k_kg_ha] = SPREAD.map(|(_, _, kg_ha)| kg_ha);
    field.fertiliser = vec![Fertiliser { at: start.plus_secs(4 * DAY_S), n_kg_ha, p_kg_ha, k_kg_ha }];
    FarmConfig {
        start,
        stations: 1,
        sample_s: 3600,
        report_s: 3600,
        fields: vec![field],
        scenario: None,
        faults: RandomConfig::default(),
        energy: None,
        radio: None,
        base_station: None,
        ..scenario.farm.clone()
    }
}

fn run(config: &FarmConfig, every: i64, minutes: u32) -> anyhow::Result<Run> {
    let mut farm = Farm::new(config)?;
    let contents = |farm: &Farm| {
        let ground = farm.stations()[0].ground();
        SPREAD.map(|(_, solute, _)| DEPTHS_MM.map(|depth_mm| ground.nutrient_mg_kg(solute, depth_mm)))
    };
    let (mut before, mut after) = (Contents::default(), Contents::default());
    for day in 0..DAYS {
        if day == 4 {
            before = contents(&farm);
            farm.advance(config.start.plus_secs(day * DAY_S + 3600), |_| {});
            after = contents(&farm);
        }
        if minutes > 0 && day % every == 0 {
            farm.irrigate(0, minutes);
        }
        farm.advance(config.start.plus_secs((day + 1) * DAY_S), |_| {});
    }
    let contents = [before, after, contents(&farm)];
    Ok(Run { season: farm.seasons().remove(0), contents })
}

/// The share of the potential yield that was harvested, or stands.
fn share(season: &Season) -> f64 {
    season.harvests.first().map_or(season.standing_relative_yield, |harvest| harvest.relative_yield)
}

fn points(runs: &[Run], of: impl Fn(&Season) -> f64) -> Vec<(f64, f64)> {
    runs.iter().map(|run| (run.season.irrigation_mm, of(&run.season))).collect()
}
