//! Energy of a station and of the base station over the time that is looked at: by the forecast, and by a fixed rhythm.

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table, shown};
use crate::base_station;
use crate::energy::course::{Outcome, Season};
use crate::energy::plan::Cycle;
use crate::energy::turns::Policy;
use crate::energy::{Load, SupplyConfig};
use crate::radio::Lora;

/// Gaps of a fixed rhythm that are tried, in parts of the shortest: each a quarter longer than the one before.
const TRIED: usize = 24;
/// The report of a station far away, bytes.
const REPORT_BYTES: u32 = 200;
/// How often it would like to report, s.
const EVERY_S: f64 = 100.0;
/// Share of the light that the crop takes from that station's panel.
const SHADED: f64 = 0.98;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut table = Table::new(
        "Planned by the forecast, and fixed",
        &["", "transfers", "mean gap, min", "longest gap, h", "outages", "out, h"],
    );
    let mut section = Section {
        title: "Energy".to_owned(),
        text: "The base station on the field and a far station, at LoRa's slowest rate, that would report every hundred seconds, whose panel a crop has grown over (98 % of the light), each with the weather of the \
               farm. Planned: it is on for as long as a transfer takes, and off for as long as the energy that is forecast for three \
               days and the battery above its reserve demand, as FarmBeats' base station does (Vasisht et al., NSDI 2017). Fixed: \
               the same number of transfers, evenly spread; and the shortest even spread that is out for no longer than the planned \
               one.\n\nEnergy is conserved in every step, whatever weather and load: a property that is tested."
            .to_owned(),
        ..Section::default()
    };
    let station = SupplyConfig::station();
    let shaded = SupplyConfig { panel: crate::energy::Panel { shaded: SHADED, ..station.panel }, ..station };
    let load = Load::station();
    let far = Lora { spreading: Lora::station().plan.slowest(), ..Lora::station() };
    let on_j = load.sample_j * f64::from(load.probes) + load.report_j(far.report_air_s(REPORT_BYTES));
    let reporting = Cycle { on_w: load.sleep_w + on_j / 5.0, off_w: load.sleep_w, on_s: 5.0, most_gap_s: 6.0 * 3600.0 };
    let planned = Policy::Planned { reserve: 0.3, least_gap_s: EVERY_S };
    for (name, config, cycle, policy, least_gap_s) in [
        (
            "base station",
            SupplyConfig::base_station(),
            base_station::CYCLE,
            base_station::PLANNED,
            base_station::CYCLE.on_s,
        ),
        ("station", shaded, reporting, planned, EVERY_S),
    ] {
        let weather = &scenario.inputs.weather;
        let season = Season::new(weather, &config, scenario.start(), scenario.days, scenario.farm.seed);
        let planned = season.run(&config, &cycle, policy);
        let fixed = season.run(&config, &cycle, Policy::Fixed(planned.mean_gap_s));
        let gaps: Vec<f64> = (0..TRIED as i32).map(|k| least_gap_s * 1.25f64.powi(k)).collect();
        let safe = season.safe(&config, &cycle, &gaps, planned.out_h);
        row(&mut table, &format!("{name}, planned"), &planned);
        row(&mut table, &format!("{name}, fixed, as many transfers"), &fixed);
        if let Some((gap_s, safe)) = &safe {
            row(&mut table, &format!("{name}, fixed, as safe"), safe);
            let what = format!("{name}: mean gap of the planned over that of a fixed one that is as safe");
            // Where there is power for all, the fixed one is on as often as can be, and the planned one hardly less.
            section.checks.push(Check::at_most(&what, planned.mean_gap_s / gap_s.max(safe.mean_gap_s), 1.01));
        }
        let what = format!("{name}: longest gap of the planned, h, and of the fixed with as many transfers");
        section.checks.push(Check::at_most(&what, planned.longest_gap_s / 3600.0, fixed.longest_gap_s / 3600.0));
        let avoided = fixed.out_h - planned.out_h;
        let what = format!("{name}: hours out that planning avoids, of {} h", shown(fixed.out_h));
        section.checks.push(Check::at_least(&what, avoided, 0.8 * fixed.out_h));
        let days =
            |values: &[f64], times: f64| values.iter().enumerate().map(|(day, v)| (day as f64, v * times)).collect();
        let series = [("planned", &planned), ("fixed, as many transfers", &fixed)];
        section.plots.push(Plot::new(
            &format!("{}-charge", name.replace(' ', "-")),
            &format!("Charge of the {name}'s battery"),
            Axis::numbers("days since the start"),
            Axis::from_to("% of what it holds", 0.0, 100.0),
            series.map(|(of, outcome)| Series::new(of, Form::Line, days(&outcome.charge, 100.0))),
        ));
        section.plots.push(Plot::new(
            &format!("{}-gap", name.replace(' ', "-")),
            &format!("Time between two transfers of the {name}"),
            Axis::numbers("days since the start"),
            Axis::numbers("minutes, mean of a day"),
            series.map(|(of, outcome)| Series::new(of, Form::Line, days(&outcome.gap_s, 1.0 / 60.0))),
        ));
    }
    section.tables.push(table);
    Ok(section)
}

fn row(table: &mut Table, name: &str, outcome: &Outcome) {
    let cells = [
        outcome.transfers.to_string(),
        format!("{:.1}", outcome.mean_gap_s / 60.0),
        format!("{:.1}", outcome.longest_gap_s / 3600.0),
        outcome.outages.to_string(),
        format!("{:.1}", outcome.out_h),
    ];
    table.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
}
