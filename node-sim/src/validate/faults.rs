//! The faults of the configured farm: those of its scenario and those out of chance, in the readings of its stations.

use std::collections::BTreeMap;

use proto::{Channel, Timestamp};

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table};
use crate::farm::Farm;
use crate::faults::{Fault, RandomFaults};

/// The most faults that are listed, and of which a plot is drawn.
const MOST_LISTED: usize = 60;
const MOST_PLOTS: usize = 6;
/// A plot begins so long before its fault, and ends so long after it or after its beginning, h.
const BEFORE_H: i64 = 12;
const AFTER_H: i64 = 12;
const MOST_H: i64 = 7 * 24;

/// What was seen of a channel: when, what was true where a fault was in it, and what was read.
type Course = Vec<(Timestamp, Option<f64>, f64)>;

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut farm = Farm::new(&scenario.farm)?;
    let end = scenario.end();
    let random = farm.stations().iter().filter_map(|station| station.faults().random());
    let random: Vec<Fault> = random.flat_map(|mut random: RandomFaults| random.until(end)).collect();
    let mut faults: Vec<Fault> = farm.faults().iter().cloned().chain(random).collect();
    faults.retain(|fault| fault.start < end);
    faults.sort_by_key(|fault| fault.start);
    let clocks: usize = (0..farm.stations().len()).map(|station| farm.clock_faults(station).len()).sum();
    let mut section = Section {
        title: "Faults of this farm".to_owned(),
        text: format!(
            "{} faults of probes and of stations as a whole begin in the time that is looked at, {} by the scenario and \
             the others out of chance, and {clocks} of clocks. A reading with a fault says so in the truth log, beside what was true.",
            faults.len(),
            faults.iter().filter(|fault| farm.faults().contains(fault)).count(),
        ),
        ..Section::default()
    };
    let Some(last) = faults.iter().map(|fault| fault.end.min(end)).max() else { return Ok(section) };
    let listed: Vec<&Fault> = faults.iter().take(MOST_LISTED).collect();
    let (mut made, mut bent) = (vec![0u32; listed.len()], vec![0u32; listed.len()]);
    let mut outside = 0u32;
    let mut courses: BTreeMap<usize, Course> = BTreeMap::new();
    let by_station = |id: &proto::StationId| -> Vec<usize> {
        (0..listed.len()).filter(|index| listed[*index].station == *id).collect()
    };
    let of_station: Vec<Vec<usize>> = farm.stations().iter().map(|station| by_station(station.id())).collect();
    farm.advance(last.plus_secs(3600 * AFTER_H).min(end), |sample| {
        for &index in &of_station[sample.station] {
            let fault = listed[index];
            let active = fault.is_active(sample.time);
            let near = sample.time >= fault.start.plus_secs(-3600 * BEFORE_H)
                && sample.time <= fault.end.plus_secs(3600 * AFTER_H).min(fault.start.plus_secs(3600 * MOST_H));
            let channel = fault.channel.unwrap_or(WHOLE);
            let reading = sample.readings.iter().find(|measured| measured.reading.channel == channel);
            if let Some(measured) = reading {
                made[index] += u32::from(active);
                bent[index] += u32::from(active && measured.fault == Some(fault.kind()));
                if index < MOST_PLOTS && near {
                    let value = measured.reading.value;
                    let course = courses.entry(index).or_default();
                    course.push((sample.time, measured.truth, value));
                }
            }
        }
        let told = |channel: Channel| {
            faults.iter().any(|fault| {
                fault.station == *sample.id
                    && fault.is_active(sample.time)
                    && (fault.channel.is_none() || fault.bends(channel))
            })
        };
        outside += sample
            .readings
            .iter()
            .filter(|measured| measured.fault.is_some() && !told(measured.reading.channel))
            .count() as u32;
    });
    let header = ["station", "channel", "kind", "start", "end", "due", "made", "with the fault"];
    let mut table = Table::new("Faults in the order of their start, and the readings while they last", &header);
    for (index, fault) in listed.iter().enumerate() {
        let seconds = fault.end.min(end).millis_since(fault.start) / 1000;
        let due = seconds / i64::from(scenario.farm.sample_s);
        table.rows.push(vec![
            fault.station.to_string(),
            fault.channel.map_or_else(|| "all".to_owned(), |channel| channel.to_string()),
            fault.kind().name().to_owned(),
            fault.start.to_string(),
            fault.end.to_string(),
            due.to_string(),
            made[index].to_string(),
            bent[index].to_string(),
        ]);
    }
    section.tables.push(table);
    for (index, course) in courses {
        let fault = listed[index];
        let channel = fault.channel.unwrap_or(WHOLE);
        let (mut truth, mut shown) = (Vec::new(), Vec::new());
        let mut before: Option<Timestamp> = None;
        for (time, true_value, value) in course {
            let hours = time.millis_since(fault.start) as f64 / 3_600_000.0;
            // Samples that were lost are a gap.
            let gap = before.is_some_and(|before| time.millis_since(before) > 1500 * i64::from(scenario.farm.sample_s));
            if gap {
                shown.push((hours, f64::NAN));
            }
            truth.extend(true_value.map(|true_value| (hours, true_value)));
            shown.push((hours, value));
            before = Some(time);
        }
        section.plots.push(Plot::new(
            &format!(
                "{}-{}-{}",
                index + 1,
                fault.station.as_str().replace('_', "-"),
                fault.kind().name().replace('_', "-")
            ),
            &format!("{} of {}: {channel}", fault.kind().name(), fault.station),
            Axis::numbers("hours since it began"),
            Axis::numbers(channel.quantity.symbol()),
            [Series::new("reading", Form::Line, shown), Series::new("truth of a faulty one", Form::Points, truth)],
        ));
    }
    section.checks.push(Check::at_most("readings with a fault where and when none was to be", f64::from(outside), 0.0));
    Ok(section)
}

/// What is shown of a station as a whole.
const WHOLE: Channel = Channel::of(proto::Quantity::Battery);
