//! The noise of the probes: what readings scatter by, against what the probe's class says.

use super::{Check, Scenario, Section, Table};
use crate::chance::Chance;
use crate::sensor::Sensor;
use crate::station::CHANNELS;

/// Readings of a steady quantity for each channel: the standard deviation of so many is within 5 %.
const READINGS: i64 = 4000;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut table = Table::new("Noise at the middle of the usual range", &["channel", "stated", "found"]);
    let mut worst = 0.0f64;
    for channel in CHANNELS {
        let sensor = Sensor::of(channel.quantity);
        let truth = sensor.span / 2.0;
        let stated = sensor.noise + sensor.relative_noise * truth;
        if stated == 0.0 {
            continue;
        }
        let mut chance = Chance::new(scenario.farm.seed, &format!("validate/noise/{channel}"));
        let squares: f64 = (0..READINGS).map(|at| (sensor.noisy(truth, chance.at(at).normal()) - truth).powi(2)).sum();
        let found = (squares / READINGS as f64).sqrt();
        worst = worst.max((found / stated - 1.0).abs());
        table.row(channel.to_string(), 5, &[stated, found]);
    }
    Ok(Section {
        title: "Sensors".to_owned(),
        text: "Readings of a quantity that stands still, without faults.".to_owned(),
        tables: vec![table],
        plots: Vec::new(),
        checks: vec![Check::at_most("the noise differs from the stated by, as a share", worst, 0.05)],
    })
}
