//! The water under the farm's stations: what came in, went out and stayed.

use super::{Check, Scenario, Section, Table};
use crate::farm::Farm;

/// The water is followed at most so long, days: by then every layer has been wet and dry.
const MOST_DAYS: u32 = 60;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut farm = Farm::new(&scenario.farm)?;
    farm.advance(scenario.end().min(scenario.start().plus_secs(i64::from(MOST_DAYS) * 86_400)), |_| {});
    let header = ["station", "rain and irrigation", "evaporation", "transpiration", "drainage", "run-off", "imbalance"];
    let mut table = Table::new("Water since the farm began, mm", &header);
    let mut worst = 0.0f64;
    for station in farm.stations() {
        let water = station.ground();
        let sums = water.sums();
        let out = [sums.evaporation_mm, sums.transpiration_mm, sums.drainage_mm, sums.runoff_mm];
        let mut row = vec![station.id().to_string(), format!("{:.1}", sums.rain_mm + sums.irrigation_mm)];
        row.extend(out.map(|mm| format!("{mm:.1}")));
        row.push(format!("{:.1e}", water.imbalance_mm()));
        table.rows.push(row);
        worst = worst.max(water.imbalance_mm().abs() / (sums.rain_mm + sums.irrigation_mm).max(1.0));
    }
    Ok(Section {
        title: "Water in the soil".to_owned(),
        text: "What came in must be what went out and what the soil has gained.".to_owned(),
        tables: vec![table],
        plots: Vec::new(),
        checks: vec![Check::at_most("imbalance over supply", worst, 1e-6)],
    })
}
