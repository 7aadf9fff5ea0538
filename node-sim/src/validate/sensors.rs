//! The probes: each model's errors against its data sheet, and what each kind of fault does to a course of readings.

use proto::{Channel, Quantity, StationId, Timestamp};

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::chance::Chance;
use crate::clock::{ClockFault, Jump, NodeClock};
use crate::faults::{Fault, FaultKind, Injector, Parameters, Scenario as Faults};
use crate::sensing::{Model, Probe, Reading, models, reads};
use crate::sensor::Sensor;

/// Units of each model, and readings of each unit.
const UNITS: usize = 100;
const READINGS: i64 = 120;
/// What a fault's course is followed in, samples of an hour's sixth, and when the fault begins and ends, h.
const SAMPLES: i64 = 6 * 24 * 6;
const BEGIN_H: f64 = 36.0;
const END_H: f64 = 108.0;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut section = Section {
        title: "Sensors".to_owned(),
        text: format!(
            "{UNITS} units of each model read a quantity that stands still, at the middle of its usual span and at the \
             temperature of its calibration. Bias is each unit's mean error; a data sheet's ± is taken for two standard \
             deviations, and no unit is worse. Noise is what a unit's readings scatter by, its slow part included. Where \
             figures are from says the last column.\n\n\
             Below, what each kind of fault makes of a course of readings, with the parameters that it has unless a \
             scenario gives others; it lasts from hour {BEGIN_H} to {END_H}."
        ),
        ..Section::default()
    };
    data_sheets(&mut section, scenario.farm.seed);
    faults(&mut section, scenario)?;
    Ok(section)
}

fn middle(model: &Model) -> f64 {
    let (low, high) = model.range;
    let usual = Sensor::of(model.quantity).span / 2.0;
    if (low..=high).contains(&usual) { usual } else { (low + high) / 2.0 }
}

/// What units of a model show: the mean errors of the units, the standard deviation of one unit's readings, and the least
/// step between two readings.
fn errors(model: &'static Model, seed: u64) -> anyhow::Result<(Vec<f64>, f64, f64)> {
    let truth = middle(model);
    let (mut biases, mut variance, mut readings) = (Vec::new(), 0.0, Vec::new());
    for unit in 0..UNITS {
        let station: StationId = format!("unit{unit}").parse()?;
        let begin = Timestamp::from_secs(0);
        let mut probe = Probe::new(model, seed, &station, model.name, begin);
        let mut white = Chance::new(seed, &format!("validate/{}/{unit}", model.name));
        let shown: Vec<f64> = (0..READINGS)
            .map(|k| {
                // Three hours apart, so that slow noise is seen whole; all in a fortnight, so that ageing is not.
                let time = begin.plus_secs(3 * 3600 * k);
                let normal = white.at(k).normal();
                probe.measure(&Reading { time, truth, probe_c: model.t0_c, powered_s: 1e6, normal })
            })
            .collect();
        let mean = shown.iter().sum::<f64>() / shown.len() as f64;
        biases.push(mean - truth);
        variance += shown.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (shown.len() - 1) as f64;
        readings.extend(shown.iter().map(|&value| reads(model, value)));
    }
    readings.sort_by(f64::total_cmp);
    let step = readings.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 1e-9).fold(f64::MAX, f64::min);
    Ok((biases, (variance / UNITS as f64).sqrt(), step))
}

fn data_sheets(section: &mut Section, seed: u64) {
    let mut table = Table::new(
        "Errors against the data sheet",
        &[
            "model",
            "± stated",
            "2 sd of bias",
            "worst bias",
            "noise stated",
            "noise found",
            "step stated",
            "step found",
            "figures",
        ],
    );
    let (mut worst_bias, mut worst_noise, mut worst_step) = (0.0f64, 0.0f64, 0.0f64);
    for model in models::ALL {
        let Ok((biases, noise, step)) = errors(model, seed) else { continue };
        let truth = middle(model);
        let allowed = model.offset + model.gain * truth.abs();
        let stated = (model.noise + model.relative_noise * truth.abs()).hypot(model.slow_noise);
        let sd = (biases.iter().map(|bias| bias.powi(2)).sum::<f64>() / biases.len() as f64).sqrt();
        let worst = biases.iter().fold(0.0f64, |worst, bias| worst.max(bias.abs()));
        // A mean of readings has its share of the slow noise, whose longest octave lasts three days, and of a drift.
        let blurred = 2.0 * model.slow_noise + 4.0 * stated / (READINGS as f64).sqrt() + 0.05 * model.per_year;
        worst_bias = worst_bias.max(if allowed > 0.0 { worst / ((allowed + blurred) * (1.0 + 1e-9)) } else { 0.0 });
        if stated > 0.0 {
            worst_noise = worst_noise.max((noise / stated - 1.0).abs());
        }
        if step < f64::MAX {
            worst_step = worst_step.max((step / model.resolution - 1.0).abs());
        }
        let cells = [allowed, 2.0 * sd, worst, stated, noise, model.resolution];
        let mut row: Vec<String> = std::iter::once(model.name.to_owned()).chain(cells.map(super::shown)).collect();
        row.push(if step < f64::MAX { super::shown(step) } else { "–".to_owned() });
        row.push(model.source.to_owned());
        table.rows.push(row);
    }
    section.tables.push(table);
    section.checks.extend([
        Check::at_most("the worst unit's bias, as a share of what its data sheet and its noise allow", worst_bias, 1.0),
        Check::at_most("noise differs from the stated by, as a share", worst_noise, 0.1),
        Check::at_most("steps differ from the stated resolution by, as a share", worst_step, 1e-6),
    ]);
}

/// The truth of a field in summer: the sun, warm days, soil that dries and a shower at hour 60.
fn truth(hour: f64) -> [(Channel, f64); 7] {
    let day = (std::f64::consts::TAU * (hour - 9.0) / 24.0).sin();
    let sun = (std::f64::consts::TAU * (hour - 6.0) / 24.0).sin().max(0.0);
    let dried = 0.30 - 0.0006 * hour;
    let rained = if hour >= 60.0 { 0.07 * (-(hour - 60.0) / 40.0).exp() } else { 0.0 };
    let shower = if (60.0..61.0).contains(&hour) { 2.0 } else { 0.0 };
    [
        (MOISTURE, dried + rained),
        (Channel::at(Quantity::SoilMoisture, 40), 0.24 - 0.0002 * hour),
        (WARMTH, 18.0 + 3.0 * (std::f64::consts::TAU * (hour - 12.0) / 24.0).sin()),
        (Channel::at(Quantity::AirTemperature, 200), 19.0 + 8.0 * day),
        (Channel::of(Quantity::SolarRadiation), 900.0 * sun),
        (Channel::of(Quantity::Rain), shower),
        (BATTERY, 3.7 + 0.2 * sun),
    ]
}

const MOISTURE: Channel = Channel::at(Quantity::SoilMoisture, 10);
const WARMTH: Channel = Channel::at(Quantity::SoilTemperature, 10);
const BATTERY: Channel = Channel::of(Quantity::Battery);

fn faults(section: &mut Section, scenario: &Scenario) -> anyhow::Result<()> {
    let (start, station): (Timestamp, StationId) = (scenario.start(), "field".parse()?);
    let at = |hour: f64| start.plus_millis((hour * 3_600_000.0).round() as i64);
    let mut table =
        Table::new("Readings with a fault while it lasts", &["kind", "channel", "due", "made", "with the fault"]);
    let mut outside = 0;
    for kind in FaultKind::ALL.into_iter().filter(|kind| *kind != FaultKind::ClockDrift) {
        let channel = match kind {
            FaultKind::PulledOut => WARMTH,
            FaultKind::BrownOut => BATTERY,
            _ => MOISTURE,
        };
        let given = Parameters { with: Some(Channel::at(Quantity::SoilMoisture, 40)), ..Parameters::default() };
        let of = (!kind.is_of_station()).then_some(channel);
        let Some(effect) = given.effect(kind, of) else { continue };
        let fault = Fault { station: station.clone(), channel: of, effect, start: at(BEGIN_H), end: at(END_H) };
        let mut injector = Injector::new(&Faults { faults: vec![fault], ..Faults::default() }, scenario.farm.seed);
        let (mut true_points, mut shown_points) = (Vec::new(), Vec::new());
        let (mut due, mut made, mut bent) = (0, 0, 0);
        for number in 0..SAMPLES {
            let hour = number as f64 / 6.0;
            let sample = truth(hour);
            let mut out = Vec::new();
            injector.sample(&station, number, at(hour), &sample, &mut out);
            let shown = out.iter().find(|shown| shown.channel == channel);
            let value = sample.iter().find(|(one, _)| *one == channel).map_or(f64::NAN, |(_, value)| *value);
            true_points.push((hour, value));
            shown_points.push((hour, shown.map_or(f64::NAN, |shown| shown.value)));
            let lasts = (BEGIN_H..END_H).contains(&hour);
            due += u32::from(lasts);
            made += u32::from(lasts && shown.is_some());
            bent += u32::from(lasts && shown.is_some_and(|shown| shown.fault == Some(kind)));
            outside += u32::from(!lasts && shown.is_none_or(|shown| shown.fault.is_some()));
        }
        table.rows.push(vec![
            kind.name().to_owned(),
            channel.to_string(),
            due.to_string(),
            made.to_string(),
            bent.to_string(),
        ]);
        let unit = channel.quantity.symbol();
        section.plots.push(Plot::new(
            &kind.name().replace('_', "-"),
            &format!("{}: {channel}", kind.name()),
            Axis::numbers("hours"),
            Axis::numbers(unit),
            [Series::new("truth", Form::Line, true_points), Series::new("reading", Form::Line, shown_points)],
        ));
    }
    let clock = NodeClock::new(vec![ClockFault {
        station,
        start: at(BEGIN_H),
        end: at(END_H),
        jump: Jump::Ahead(0),
        drift_ppm: 200.0,
    }]);
    let ahead = |number: i64| {
        let hour = number as f64 / 6.0;
        (hour, clock.ahead_ms(at(hour)) as f64 / 1000.0)
    };
    section.plots.push(Plot::new(
        "clock-drift",
        "clock_drift: a station's clock",
        Axis::numbers("hours"),
        Axis::numbers("ahead, s"),
        [Series::new("clock", Form::Line, (0..SAMPLES).map(ahead).collect())],
    ));
    section.tables.push(table);
    section.checks.push(Check::at_most(
        "readings with a fault, or missing, outside of its time",
        f64::from(outside),
        0.0,
    ));
    Ok(())
}
