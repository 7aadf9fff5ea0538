//! Measured data that the configuration replays, as its stations send it.

use proto::{Channel, Timestamp};

use super::{Axis, Check, Form, Plot, Scenario, Section, Series, Table, shown};

/// The most channels of which a plot is drawn, of the first station.
const MOST_PLOTS: usize = 4;
/// A gap is what is longer than this many usual intervals.
const GAP: f64 = 1.5;

/// What a station sent.
#[derive(Debug, Default)]
struct Sent {
    samples: u32,
    readings: u32,
    faulty: u32,
    outside: u32,
    span: Option<(Timestamp, Timestamp)>,
    gaps: u32,
    longest_s: f64,
    /// Times that are not later than the one before.
    back: u32,
}

pub(super) fn section(scenario: &Scenario) -> anyhow::Result<Section> {
    let mut section = Section { title: "Replay".to_owned(), ..Section::default() };
    let Some(replay) = &scenario.replay else {
        section.text = "This configuration replays no measured data.".to_owned();
        return Ok(section);
    };
    let mut replay = replay.clone();
    let stations = replay.stations().to_vec();
    let skipped = replay.skipped().clone();
    section.text = format!(
        "The files as they are played once, through the stations that send them. {} rows and {} values could not be read.",
        skipped.rows, skipped.values
    );
    let mut sent: Vec<Sent> = stations.iter().map(|_| Sent::default()).collect();
    let first: Vec<Channel> =
        stations.first().map_or_else(Vec::new, |station| station.channels.iter().copied().take(MOST_PLOTS).collect());
    let mut courses: Vec<Vec<(Timestamp, f64)>> = vec![Vec::new(); first.len()];
    replay.advance(Timestamp::MAX, |sample| {
        let sent = &mut sent[sample.station];
        sent.samples += 1;
        sent.readings += sample.readings.len() as u32;
        sent.faulty += sample.readings.iter().filter(|measured| measured.fault.is_some()).count() as u32;
        let outside = |reading: &proto::Reading| !reading.channel.quantity.range().contains(&reading.value);
        sent.outside += sample.readings.iter().filter(|measured| outside(&measured.reading)).count() as u32;
        let usual_s = f64::from(stations[sample.station].interval_s);
        if let Some((_, before)) = sent.span {
            let since_s = sample.time.millis_since(before) as f64 / 1000.0;
            sent.back += u32::from(since_s <= 0.0);
            sent.gaps += u32::from(since_s > GAP * usual_s);
            sent.longest_s = sent.longest_s.max(since_s);
        }
        sent.span = Some((sent.span.map_or(sample.time, |(first, _)| first), sample.time));
        if sample.station == 0 {
            for (course, channel) in courses.iter_mut().zip(&first) {
                let value = sample.readings.iter().find(|measured| measured.reading.channel == *channel);
                course.push((sample.time, value.map_or(f64::NAN, |measured| measured.reading.value)));
            }
        }
    });
    let header = [
        "station",
        "channels",
        "usual interval, s",
        "first",
        "last",
        "samples",
        "readings",
        "with a fault",
        "gaps",
        "longest, h",
    ];
    let mut table = Table::new("What is sent", &header);
    for (station, sent) in stations.iter().zip(&sent) {
        let times = sent.span.map_or_else(Default::default, |(first, last)| [first.to_string(), last.to_string()]);
        let counts = [sent.samples, sent.readings, sent.faulty, sent.gaps].map(|count| count.to_string());
        let head = [station.id.to_string(), station.channels.len().to_string(), station.interval_s.to_string()];
        table.rows.push(head.into_iter().chain(times).chain(counts).chain([shown(sent.longest_s / 3600.0)]).collect());
    }
    section.tables.push(table);
    if !skipped.first.is_empty() {
        let mut table = Table::new("What could not be read, the first of it", &["file", "line", "column", "problem"]);
        table.rows.extend(skipped.first.iter().map(|bad| {
            let file = bad.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            vec![file, bad.line.to_string(), bad.column.clone().unwrap_or_default(), bad.problem.clone()]
        }));
        section.tables.push(table);
    }
    let begin = sent.first().and_then(|sent| sent.span).map_or(scenario.start(), |(first, _)| first);
    for (channel, course) in first.iter().zip(courses) {
        let days = course.into_iter().map(|(time, value)| (time.millis_since(begin) as f64 / 86_400_000.0, value));
        section.plots.push(Plot::new(
            &channel.to_string().replace('_', "-"),
            &format!("{channel} of {}", stations[0].id),
            Axis::numbers("days"),
            Axis::numbers(channel.quantity.symbol()),
            [Series::new("sent", Form::Line, days.collect())],
        ));
    }
    let total = |of: fn(&Sent) -> u32| f64::from(sent.iter().map(of).sum::<u32>());
    section.checks.push(Check::at_most(
        "samples that are not later than their station's before",
        total(|sent| sent.back),
        0.0,
    ));
    section.checks.push(Check::at_most("readings outside of their quantity's range", total(|sent| sent.outside), 0.0));
    Ok(section)
}
