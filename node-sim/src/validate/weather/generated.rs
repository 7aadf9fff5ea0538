//! Many generated years beside the normals that they come from.

use super::super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::weather::report::{Comparison, against_normals};

/// Years that are generated: a mean monthly rain is then known to a tenth or so.
const YEARS: usize = 30;

/// Adds tables, a plot and a check, when the farm's weather has normals.
pub(super) fn add(section: &mut Section, scenario: &Scenario) {
    let Some(normals) = &scenario.farm.weather.normals else { return };
    let comparisons = against_normals(normals, &scenario.farm.place(), scenario.farm.seed, YEARS);
    section.text.push_str(&format!(
        "\n\nBeside it {YEARS} years that were generated from the farm's normals, by Richardson's (1981) method: each month's mean must be within four \
         standard errors of the normal (by the spread between the years), and what the making of hours from days may be off."
    ));
    let months = Axis::months();
    for of_quantity in comparisons.chunks(12) {
        let what = of_quantity[0].what;
        let mut table = Table::new(
            &format!("Generated against normal: {what}"),
            &["month", "normal", "generated", "difference", "standard error"],
        );
        for (comparison, name) in of_quantity.iter().zip(&months.names) {
            let Comparison { normal, generated, standard_error, .. } = comparison;
            table.row(name, 2, &[*normal, *generated, generated - normal, *standard_error]);
        }
        section.tables.push(table);
    }
    let values = |what: &str, of: fn(&Comparison) -> f64| -> Vec<f64> {
        comparisons.iter().filter(|comparison| comparison.what.starts_with(what)).map(of).collect()
    };
    for (name, title, label, what) in [
        ("normal-temperature", "Mean maximum and minimum", "°C", &["mean maximum", "mean minimum"][..]),
        ("normal-rain", "Rain", "mm", &["rain"][..]),
        ("normal-radiation", "Radiation", "MJ/(m² d)", &["radiation"][..]),
    ] {
        let series = what.iter().flat_map(|what| {
            [
                Series::over_names(&format!("{what}, normal"), Form::Line, &values(what, |c| c.normal)),
                Series::over_names(&format!("{what}, generated"), Form::Points, &values(what, |c| c.generated)),
            ]
        });
        section.plots.push(Plot::new(name, title, months.clone(), Axis::numbers(label), series));
    }
    let wrong: Vec<String> =
        comparisons.iter().filter(|c| !c.holds()).map(|c| format!("{} of {}", c.what, months.names[c.month])).collect();
    let value = if wrong.is_empty() { "none".to_owned() } else { wrong.join("; ") };
    section.checks.push(Check::new("months whose mean is not the normal's", value, "none", wrong.is_empty()));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::space;
    use super::super::section;
    use super::*;

    #[test]
    fn the_scenario_with_normals_and_a_boundary_holds() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/scenarios/normals.toml"));
        let scenario = Scenario::read(Some(path), None, 20).unwrap();
        let weather = section(&scenario).unwrap();
        assert_eq!((weather.checks.len(), weather.tables.len(), weather.plots.len()), (3, 8, 5));
        let ground = space::section(&scenario).unwrap();
        for check in weather.checks.iter().chain(&ground.checks) {
            assert!(check.holds, "{check:?}");
        }
        // The first station stands where it is told to.
        let site = &scenario.farm.fields()[0];
        let stations = crate::farm::Farm::new(&scenario.farm).unwrap();
        let (latitude, longitude) = stations.stations()[0].position();
        assert!((latitude - site.places[0][1]).abs() < 1e-9 && (longitude - site.places[0][0]).abs() < 1e-9);
    }
}
