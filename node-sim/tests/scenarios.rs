//! The library of scenarios: each file is read without a mistake, and what it says happens, where it says so and nowhere else.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use node_sim::FarmConfig;
use node_sim::clock::NodeClock;
use node_sim::farm::Farm;
use node_sim::faults::{Effect, Fault, FaultKind};
use proto::{Channel, Quantity, Timestamp};

fn library() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/scenarios"))
}

fn config(name: &str, stations: u32) -> FarmConfig {
    FarmConfig { scenario: Some(library().join(format!("{name}.toml"))), stations, ..FarmConfig::default() }
}

/// The scenarios of faults; a file with a farm in it is a configuration.
fn names() -> Vec<String> {
    let files = std::fs::read_dir(library()).unwrap().map(|file| file.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| !std::fs::read_to_string(path).unwrap().lines().any(|line| line.starts_with("[farm")))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What is seen of one channel, or of a station as a whole.
#[derive(Debug, Default)]
struct Seen {
    readings: Vec<(Timestamp, Option<FaultKind>)>,
    restarts: Vec<Timestamp>,
    /// When it rained, and how much, mm.
    rain: Vec<(Timestamp, f64)>,
}

/// Of a connector that is dry at first: nothing is seen before it rains, and then everything for a day.
fn leaks_with_rain(name: &str, fault: &Fault, one: &Seen, rain: &[(Timestamp, f64)]) {
    let first = rain.iter().find(|(time, mm)| fault.is_active(*time) && *mm > 0.0);
    let (first, _) = first.unwrap_or_else(|| panic!("{name}: no rain in the time of {}'s leak", fault.station));
    let leaks = |(_, found): &&(Timestamp, Option<FaultKind>)| *found == Some(FaultKind::Waterlogged);
    let leak = one.readings.iter().find(leaks).unwrap_or_else(|| panic!("{name}: {} never leaks", fault.station)).0;
    assert!(leak >= *first, "{name}: {} leaks at {leak}, before the rain at {first}", fault.station);
    let wet = one.readings.iter().filter(|(time, _)| leak <= *time && *time < leak.plus_secs(86_400));
    assert!(wet.clone().count() > 200 && wet.clone().all(|reading| leaks(&reading)), "{name}: {}", fault.station);
}

/// Runs a farm until half a day after the last fault has begun, and looks at every fault.
fn assert_happens(name: &str) {
    let mut farm = Farm::new(&config(name, 24)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let faults = farm.faults().to_vec();
    let needed =
        |farm: &Farm, id: &str| farm.stations().iter().position(|station| station.id().as_str() == id).unwrap();
    let stations = faults.iter().map(|fault| needed(&farm, fault.station.as_str()) + 1).max();
    if let Some(stations) = stations {
        farm = Farm::new(&config(name, stations.max(18) as u32)).unwrap();
    }
    let dry = |fault: &Fault| matches!(fault.effect, Effect::Waterlogged { wet: false, .. });
    let last = faults.iter().map(|fault| fault.start.plus_secs(12 * 3600));
    // Rain has to come first.
    let last = last.chain(faults.iter().filter(|fault| dry(fault)).map(|fault| fault.end)).max();
    let last = last.unwrap_or(farm.now().plus_secs(12 * 3600));
    let mut seen: BTreeMap<(String, Option<Channel>), Seen> = BTreeMap::new();
    farm.advance(last, |sample| {
        let station = sample.id.to_string();
        let whole = seen.entry((station.clone(), None)).or_default();
        whole.readings.push((sample.time, None));
        if sample.restarted {
            whole.restarts.push(sample.time);
        }
        let rain = sample.readings.iter().find(|measured| measured.reading.channel.quantity == Quantity::Rain);
        whole.rain.extend(rain.map(|measured| (sample.time, measured.reading.value)));
        for measured in sample.readings {
            let one = seen.entry((station.clone(), Some(measured.reading.channel))).or_default();
            one.readings.push((sample.time, measured.fault));
            assert_eq!(measured.fault.is_some(), measured.truth.is_some());
        }
    });
    for fault in &faults {
        let (kind, span) = (fault.kind(), fault.start..fault.end.min(last));
        let due = span.end.millis_since(span.start) as f64 / 300_000.0;
        for channel in fault.channels().into_iter().flatten() {
            let one = &seen[&(fault.station.to_string(), Some(channel))];
            let within: Vec<_> = one.readings.iter().filter(|(time, _)| span.contains(time)).collect();
            let bent = within.iter().filter(|(_, found)| *found == Some(kind)).count();
            if dry(fault) {
                leaks_with_rain(name, fault, one, &seen[&(fault.station.to_string(), None)].rain);
                continue;
            }
            let enough = match kind {
                FaultKind::Dropout => (within.len() as f64) < 0.75 * due,
                FaultKind::Spike => bent >= 2 && bent < within.len() / 2,
                _ => bent == within.len() && bent > 0,
            };
            assert!(enough, "{name}: {} {channel} {}: {bent} of {}", fault.station, kind.name(), within.len());
        }
        if matches!(kind, FaultKind::BrownOut | FaultKind::Hang) {
            let whole = &seen[&(fault.station.to_string(), None)];
            let restarts =
                whole.restarts.iter().filter(|time| span.start <= **time && **time <= span.end.plus_secs(600));
            assert!(restarts.count() >= 1, "{name}: {} does not restart", fault.station);
            let samples = whole.readings.iter().filter(|(time, _)| span.contains(time)).count();
            assert!((samples as f64) < 0.95 * due, "{name}: {} loses nothing", fault.station);
        }
    }
    // Nothing is wrong elsewhere.
    for ((station, channel), one) in &seen {
        for (time, found) in &one.readings {
            let Some(found) = found else { continue };
            let told = faults.iter().any(|fault| {
                fault.station.as_str() == station
                    && fault.kind() == *found
                    && fault.is_active(*time)
                    && (fault.channel.is_none() || channel.is_some_and(|channel| fault.bends(channel)))
            });
            assert!(told, "{name}: {station} {channel:?} has a {} at {time}", found.name());
        }
    }
}

#[test]
fn there_is_one_for_each_kind_and_it_holds_that_kind() {
    for kind in FaultKind::ALL {
        let farm = Farm::new(&config(kind.name(), 24)).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
        let (faults, clocks) = (farm.faults(), &farm.scenario().clocks);
        if kind == FaultKind::ClockDrift {
            assert!(!clocks.is_empty() && faults.is_empty());
        } else {
            assert!(!faults.is_empty() && faults.iter().all(|fault| fault.kind() == kind), "{}", kind.name());
        }
    }
}

#[test]
fn clocks_go_wrong_in_their_time_and_as_they_are_told_to() {
    let farm = Farm::new(&config("clock_drift", 3)).unwrap();
    let (start, clocks) = (farm.now(), &farm.scenario().clocks);
    assert_eq!(clocks.len(), 3);
    let ahead_s = |station: &str, hours: i64| {
        let own = clocks.iter().filter(|clock| clock.station.as_str() == station).cloned().collect();
        NodeClock::new(own).ahead_ms(start.plus_secs(hours * 3600)) as f64 / 1000.0
    };
    // Two thousandths too fast from the sixth hour on, until it is set right after eight days.
    assert_eq!([5, 6, 106, 8 * 24].map(|hour| ahead_s("n1", hour)), [0.0, 0.0, 720.0, 0.0]);
    assert_eq!([11, 12, 71, 72].map(|hour| ahead_s("e1", hour)), [0.0, 3600.0, 3600.0, 0.0]);
    let since_1970_s = start.as_millis() as f64 / 1000.0 + 86_400.0;
    assert_eq!([23, 24, 47, 48].map(|hour| ahead_s("c1", hour)), [0.0, -since_1970_s, -since_1970_s, 0.0]);
}

#[test]
fn each_kind_happens() {
    FaultKind::ALL
        .into_iter()
        .filter(|kind| *kind != FaultKind::ClockDrift)
        .for_each(|kind| assert_happens(kind.name()));
}

#[test]
fn every_other_file_happens() {
    let kinds = FaultKind::ALL.map(FaultKind::name);
    let others: Vec<String> = names().into_iter().filter(|name| !kinds.contains(&name.as_str())).collect();
    assert!(others.len() >= 9, "{others:?}");
    others.iter().for_each(|name| assert_happens(name));
}

#[test]
fn water_that_does_not_come_leaves_the_soil_dry_and_a_burst_pipe_makes_it_wet() {
    // What the soil holds on the mean of the days on which all three happen: who was watered at the end of them is chance.
    let water = |config: &FarmConfig| {
        let mut farm = Farm::new(config).unwrap();
        let mut sums = vec![0.0; farm.stations().len()];
        let quarters = 3 * 4..9 * 4;
        for quarter in quarters.clone() {
            farm.advance(config.start.plus_secs(quarter * 21_600), |_| {});
            let stations = farm.stations().iter().map(|station| station.ground().water_content(200.0));
            sums.iter_mut().zip(stations).for_each(|(sum, water)| *sum += water);
        }
        sums.into_iter().map(|sum| sum / quarters.clone().count() as f64).collect::<Vec<f64>>()
    };
    // All fields are dry at first, so that each is irrigated.
    let with = config("irrigation_failure", 3);
    let mut dry = with.fields();
    dry.iter_mut().for_each(|field| field.dry = Some(0.7));
    let with = FarmConfig { fields: dry, ..with };
    let without = FarmConfig { scenario: None, ..with.clone() };
    let (with, without) = (water(&with), water(&without));
    assert!(with[0] < without[0] - 0.02 && with[1] < without[1] - 0.005, "{with:?} {without:?}");
    assert!(with[2] > without[2] + 0.005, "{with:?} {without:?}");
}
