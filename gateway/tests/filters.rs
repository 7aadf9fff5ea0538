//! The filters on what was really measured. There is no measured series of soil moisture beside the project; but there are
//! a season's irrigations and rains that were measured, and what an independent water balance says they did to the soil: how
//! high its moisture rose each time, and how it dried between. Each rise is put into a single reading, as a probe shows a
//! front that reaches it: no filter may call that a spike.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use gateway::validate::{Limits, Tolerance};
use gateway::window::{Origin, Shape, Windows};
use proto::{Aggregate, Channel, Quantity, Reading, RejectReason, StationId, Timestamp};

/// A file of the real measurements that lie beside the project.
fn measured(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(name);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("this test needs the measured data ../shared/data/{name}: {error}"))
}

/// The columns of a CSV file by name.
fn columns(text: &str, names: &[&str]) -> Vec<Vec<String>> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let places: Vec<usize> = names.iter().map(|name| header.iter().position(|h| h == name).unwrap()).collect();
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            places.iter().map(|place| cells[*place].to_owned()).collect()
        })
        .collect()
}

/// A repeatable number from 0 to 1.
fn noise(n: i64) -> f64 {
    let mut x = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

const STEP_S: i64 = 300;

/// Five-minute readings of soil moisture over a season at Maricopa: of the surface layer (0.114 m) and of the root zone. Both
/// dry through each day, and on a day with water rise within one reading. And the times of the readings at fronts.
fn season(schedule: &str) -> BTreeMap<Channel, (Vec<Reading>, Vec<Timestamp>)> {
    const FIELD_CAPACITY: f64 = 0.225;
    const SURFACE_MM: f64 = 114.29;
    let rows = columns(
        &measured(&format!("maricopa-cotton-2013/expected-{schedule}.csv")),
        &["date", "De", "Dr", "Zr", "Irrig", "Rain"],
    );
    let mut all: BTreeMap<Channel, (Vec<Reading>, Vec<Timestamp>)> = BTreeMap::new();
    let mut before: Option<[f64; 2]> = None;
    for row in rows {
        let start: Timestamp = format!("{}T07:00:00Z", row[0]).parse().unwrap();
        let [surface_mm, root_mm, root_m, irrigation, rain] = [1, 2, 3, 4, 5].map(|at| row[at].parse::<f64>().unwrap());
        let end = [FIELD_CAPACITY - surface_mm / SURFACE_MM, FIELD_CAPACITY - root_mm / (1000.0 * root_m)];
        let begin = before.replace(end).unwrap_or(end);
        for (layer, level) in [(0, 5), (1, 60)] {
            let channel = Channel::at(Quantity::SoilMoisture, level);
            let (readings, fronts) = all.entry(channel).or_default();
            // The front comes at another hour each day. What it brought is lost again until the day ends, by a guess: the
            // balance only has the day's end.
            let at = (noise(start.as_millis()) * 200.0) as i64 + 40;
            let water = if irrigation + rain > 0.5 { (irrigation + rain).min(60.0) / 1000.0 } else { 0.0 };
            let top = end[layer].max(begin[layer]) + if layer == 0 { 0.4 * water } else { 0.02 * water };
            for n in 0..288 {
                let share = n as f64 / 288.0;
                let value = match () {
                    () if water == 0.0 => begin[layer] + (end[layer] - begin[layer]) * share,
                    () if n < at => begin[layer],
                    () => top + (end[layer] - top) * (n - at) as f64 / (288 - at) as f64,
                };
                let time = start.plus_secs(n * STEP_S);
                if water > 0.0 && (at - 3..at + 4).contains(&n) {
                    fronts.push(time);
                }
                let value = channel.quantity.quantise(value + 0.0015 * (noise(time.as_millis() + layer as i64) - 0.5));
                readings.push(Reading { channel, time, value });
            }
        }
    }
    all
}

/// What each window of the readings comes to, when they come a quarter of an hour at a time.
fn windows(shape: Shape, readings: &[Reading]) -> BTreeMap<Timestamp, Aggregate> {
    let station: StationId = "n1".parse().unwrap();
    let mut windows = Windows::new(shape, Limits::of);
    let mut last = BTreeMap::new();
    let mut take = |closed: Vec<gateway::window::Closed>| {
        for mut closed in closed {
            last.insert(closed.window.start, closed.window.aggregates.remove(0));
        }
    };
    for (sequence, batch) in (1..).zip(readings.chunks(3)) {
        let now = batch.last().unwrap().time;
        windows.insert(&station, Origin { boot: 1, sequence }, batch, now, sequence);
        take(windows.close());
    }
    take(windows.close_idle(readings.last().unwrap().time.plus_secs(86_400), 0));
    last
}

fn shape(length_s: u32, context_s: i64) -> Shape {
    let tolerance = Tolerance { future_ms: 300_000, lateness_ms: 7_200_000, oldest_ms: i64::MAX };
    Shape { length_s, context_ms: context_s * 1000, idle_ms: 3_600_000, tolerance }
}

fn rejected(windows: &BTreeMap<Timestamp, Aggregate>) -> u32 {
    windows.values().filter_map(|a| a.rejected.as_ref()).map(proto::Rejected::total).sum()
}

#[test]
fn no_reading_on_a_wetting_front_is_rejected_and_spikes_beside_it_are() {
    for schedule in ["dry", "wet"] {
        for (channel, (readings, fronts)) in season(schedule) {
            let steps = readings.windows(2).filter(|pair| pair[1].value - pair[0].value > 0.03).count();
            if channel.level_cm == Some(5) {
                assert!(
                    steps >= 20,
                    "{schedule} {channel}: only {steps} readings rise by more than the filter's floor"
                );
            }
            assert!(fronts.len() > 100, "{schedule} {channel}: {} readings at fronts", fronts.len());
            let found = windows(shape(900, 3_600), &readings);
            let wrong = found.iter().find(|(_, a)| a.rejected.is_some());
            assert_eq!(wrong, None, "{schedule} {channel}: of {} readings", readings.len());

            // The same with a spike every few hours, up or down: also among the readings of a front, but not within three of
            // each other, and not where the step itself is: there a probe that leaps and one that is wet look the same.
            let mut spiked = readings.clone();
            let mut spikes = Vec::new();
            for at in (50..spiked.len() - 50).step_by(41) {
                let near = &readings[at - 4..=at + 4];
                if near.windows(2).any(|pair| (pair[1].value - pair[0].value).abs() > 0.01) {
                    continue;
                }
                let height = 0.12 * if spiked[at].value > 0.13 && noise(at as i64) < 0.5 { -1.0 } else { 1.0 };
                spiked[at].value = channel.quantity.quantise(spiked[at].value + height);
                spikes.push(spiked[at]);
            }
            assert!(spikes.len() > 1000, "{}", spikes.len());
            let found = windows(shape(900, 3_600), &spiked);
            for spike in &spikes {
                let aggregate = &found[&spike.time.floor_to(900)];
                let rejected =
                    aggregate.rejected.as_ref().unwrap_or_else(|| panic!("{schedule} {spike:?} is accepted"));
                assert_eq!((rejected.min, rejected.max, rejected.total()), (spike.value, spike.value, 1));
                let reason = rejected.counts[0].0;
                assert!(matches!(reason, RejectReason::Hampel | RejectReason::Rate), "{reason:?}");
            }
            assert_eq!(rejected(&found) as usize, spikes.len(), "{schedule} {channel}: only the spikes");
        }
    }
}

#[test]
fn a_year_of_measured_weather_is_accepted_to_the_last_hour() {
    let text = measured("fallon-2015/hourly.csv");
    for (name, quantity) in [
        ("air_temperature_c", Quantity::AirTemperature),
        ("wind_speed_m_s", Quantity::WindSpeed),
        ("solar_radiation_w_m2", Quantity::SolarRadiation),
    ] {
        let channel = Channel::at(quantity, 200);
        let readings: Vec<Reading> = columns(&text, &["time_utc", name])
            .into_iter()
            .filter(|row| !row[1].is_empty())
            .map(|row| Reading { channel, time: row[0].parse().unwrap(), value: row[1].parse().unwrap() })
            .collect();
        assert!(readings.len() > 8_000, "{name}: {}", readings.len());
        // A station that measures by the hour has its neighbours hours away.
        let found = windows(shape(3_600, 4 * 3_600), &readings);
        let wrong: Vec<_> = found.iter().filter(|(_, a)| a.rejected.is_some()).take(5).collect();
        assert!(wrong.is_empty(), "{name}: {} of {}: {wrong:?}", rejected(&found), readings.len());
    }
}
