//! What was missing in the weather's file, and its evapotranspiration beside the published one.

use super::super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::weather::report::AgainstPublished;

/// The most gaps that are listed.
const MOST_GAPS: usize = 60;

/// Adds the gaps, and the comparison when the file gives something to compare with.
pub(super) fn add(section: &mut Section, scenario: &Scenario) {
    let Some(file) = scenario.inputs.weather.file() else { return };
    let (from, to) = file.span();
    section.text.push_str(&format!(
        "\n\nThe file covers {from} to {to}. {} of its values were missing and filled, in {} gaps{}.",
        file.filled,
        file.gaps.len(),
        if file.gaps.len() > MOST_GAPS { ", of which the longest are listed" } else { "" }
    ));
    if !file.gaps.is_empty() {
        let step = if file.is_daily() { "days" } else { "hours" };
        let mut table = Table::new("Gaps in the file", &["column", "from", step, "filled with"]);
        let mut gaps: Vec<_> = file.gaps.iter().collect();
        if gaps.len() > MOST_GAPS {
            gaps.sort_by_key(|gap| std::cmp::Reverse(gap.rows));
            gaps.truncate(MOST_GAPS);
        }
        table.rows = gaps
            .iter()
            .map(|gap| {
                vec![gap.column.clone(), gap.from.to_string(), gap.rows.to_string(), gap.filled.text().to_owned()]
            })
            .collect();
        section.tables.push(table);
    }
    let Some(published) = AgainstPublished::of(&scenario.inputs.weather) else { return };
    section.text.push_str(
        "\n\nThe reference evapotranspiration that the file gives is compared with the one that drives the crops: the ASCE's standardised daily \
         equation for short grass, over the days that were wholly measured.",
    );
    let (daily, hourly, sum) = published.sums_mm();
    let mut table =
        Table::new("Reference evapotranspiration over the file's days", &["by", "mm", "% of the published"]);
    for (name, mm) in [("the file", sum), ("the daily equation", daily), ("the hourly equation, summed", hourly)] {
        table.row(name, 1, &[mm, 100.0 * mm / sum]);
    }
    section.tables.push(table);
    let points = |of: fn(&(i64, f64, f64, f64)) -> f64| published.days.iter().map(|day| (day.3, of(day))).collect();
    section.plots.push(Plot::new(
        "reference",
        "Reference evapotranspiration, computed against published",
        Axis::numbers("published, mm/d"),
        Axis::numbers("computed, mm/d"),
        [
            Series::new("hourly equation", Form::Points, points(|day| day.2)),
            Series::new("daily equation", Form::Points, points(|day| day.1)),
        ],
    ));
    section.checks.extend([
        Check::within("evapotranspiration of all days over the published, %", 100.0 * daily / sum, 99.5, 100.5),
        Check::at_most("mean absolute difference, mm/d", published.mean_absolute_difference_mm(), 0.08),
    ]);
}

#[cfg(test)]
mod tests {
    use super::super::section;
    use super::*;
    use crate::config::FarmConfig;

    #[test]
    fn a_year_at_fallon_agrees_with_what_was_published_and_its_gap_is_named() {
        let path =
            std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/fallon-2015/daily.csv"));
        let farm = FarmConfig {
            weather: path.into(),
            wind_height_m: 3.0,
            start: "2015-01-01T08:00:00Z".parse().unwrap(),
            ..FarmConfig::default()
        };
        let scenario = Scenario::of(farm, 30)
            .unwrap_or_else(|error| panic!("this test needs the weather measured at Fallon: {error}"));
        let section = section(&scenario).unwrap();
        assert!(section.checks.iter().all(|check| check.holds) && section.checks.len() == 4, "{:?}", section.checks);
        assert_eq!(section.tables[1].rows[0], ["wind_speed_m_s", "2015-04-22T08:00:00Z", "1", "on a line"]);
    }
}
