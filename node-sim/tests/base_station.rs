//! A base station between stations and gateway: who reaches whom when, and what planning by the forecast is worth.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use node_sim::base_station::{BaseStationConfig, Cause, OffTime};
use node_sim::farm::{Farm, Sample};
use node_sim::{Config, FarmConfig};
use proptest::prelude::*;
use proto::Timestamp;

const DAY_S: i64 = 86_400;
const STEP_S: i64 = 300;

/// The scenario of the library.
fn winter() -> FarmConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/scenarios/base_station.toml");
    Config::load(Path::new(path)).unwrap_or_else(|error| panic!("{error}")).farm
}

/// When samples were taken, and whether they reached, by station; the base station's off-times with the one at hand; and the farm's state.
type Course = (BTreeMap<String, Vec<(Timestamp, bool, bool)>>, Vec<OffTime>, node_sim::farm::FarmState);

/// A farm's course until `end`, in pieces.
fn course(config: &FarmConfig, end: Timestamp, pieces: impl IntoIterator<Item = i64>) -> Course {
    let mut farm = Farm::new(config).unwrap();
    let (mut samples, mut off) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
    let mut take = |sample: &Sample<'_>| {
        samples.entry(sample.id.to_string()).or_default().push((sample.time, sample.reaches, sample.reports));
    };
    for piece_s in pieces {
        farm.advance(farm.now().plus_secs(piece_s).min(end), &mut take);
        off.extend(farm.take_off_times());
        // A restart in between changes nothing.
        let kept = toml::to_string(&farm.state()).unwrap();
        farm = Farm::new(config).unwrap();
        farm.restore(toml::from_str(&kept).unwrap());
    }
    farm.advance(end, &mut take);
    off.extend(farm.take_off_times());
    off.extend(farm.base().and_then(|base| base.off_until(end)));
    let imbalance_wh = farm.base().unwrap().supply().imbalance_wh();
    assert!(imbalance_wh.abs() < 1e-6, "{imbalance_wh}");
    (samples, off, farm.state())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Whatever the base station: those behind it reach the gateway in no off-time and at all other times, the others always; off-times are
    /// in order, apart, and each begins and ends with a step; and how time is cut, with restarts, changes nothing.
    #[test]
    fn stations_reach_the_gateway_when_the_base_station_is_on(
        gap_s in prop::option::of(300u32..10_000),
        on_steps in 1u32..4,
        battery_wh in 5.0f64..400.0,
        charge in 0.0f64..1.0,
        pieces in prop::collection::vec(1i64..90_000, 0..4),
    ) {
        let base = BaseStationConfig {
            fields: vec!["north".parse().unwrap()],
            on_s: 300 * on_steps,
            gap_s: gap_s.map(|gap_s| gap_s.max(300 * on_steps)),
            battery_wh,
            charge,
            panel_w: battery_wh / 10.0,
            ..BaseStationConfig::default()
        };
        let config = FarmConfig { stations: 2, energy: None, radio: None, base_station: Some(base), ..winter() };
        let end = config.start.plus_secs(3 * DAY_S);
        let whole = course(&config, end, []);
        let (samples, off, _) = &whole;
        for pair in off.windows(2) {
            prop_assert!(pair[0].end < pair[1].start, "{:?}", pair);
        }
        for time in off {
            prop_assert!(time.start < time.end && time.start.as_millis() % (1000 * STEP_S) == 0);
        }
        let is_off = |at: Timestamp| off.iter().any(|off| off.start <= at && at < off.end);
        for (station, samples) in samples {
            for (time, reaches, _) in samples {
                prop_assert_eq!(*reaches, station != "n1" || !is_off(*time), "{} {}", station, time);
            }
        }
        prop_assert_eq!(&course(&config, end, pieces), &whole);
    }
}

#[test]
fn a_fixed_duty_cycle_is_on_when_it_is_said_to_be() {
    let base = BaseStationConfig { gap_s: Some(1500), ..BaseStationConfig::default() };
    let config = FarmConfig { stations: 1, energy: None, radio: None, base_station: Some(base), ..winter() };
    let (_, off, _) = course(&config, config.start.plus_secs(DAY_S), []);
    assert_eq!(off.len(), (DAY_S / 1500) as usize + 1);
    // The last is not over.
    for (number, off) in (0..).zip(&off[..off.len() - 1]) {
        let on = config.start.plus_secs(1500 * number);
        assert_eq!(*off, OffTime { start: on.plus_secs(300), end: on.plus_secs(1500), cause: Cause::DutyCycle });
    }
}

/// What a winter was like: hours without power, and steps on or reports, of the base station and of the mean station.
#[derive(Debug, Default)]
struct Winter {
    base_out_h: f64,
    base_on: u32,
    station_out_h: f64,
    reports: u32,
}

fn run(config: &FarmConfig, days: i64) -> Winter {
    let mut farm = Farm::new(config).unwrap();
    let mut winter = Winter::default();
    let stations = farm.stations().len() as f64;
    for step in 1..=days * DAY_S / STEP_S {
        let reports = &mut winter.reports;
        farm.advance(config.start.plus_secs(step * STEP_S), |sample| {
            *reports += u32::from(sample.reports && !sample.readings.is_empty());
        });
        let hours = STEP_S as f64 / 3600.0;
        let base = farm.base().unwrap();
        winter.base_out_h += if base.supply().is_on() { 0.0 } else { hours };
        winter.base_on += u32::from(base.is_on());
        let out = farm.stations().iter().filter(|station| !station.power().unwrap().supply().is_on()).count();
        winter.station_out_h += hours * out as f64 / stations;
    }
    winter
}

#[test]
fn planning_by_the_forecast_avoids_the_outages_of_a_fixed_duty_cycle() {
    const DAYS: i64 = 75;
    let config = FarmConfig { sample_s: 300, report_s: 300, ..winter() };
    let planned = run(&config, DAYS);
    // As often on the mean, and evenly.
    let on_s = DAYS * DAY_S / i64::from(planned.base_on);
    let report_s = DAYS * DAY_S * i64::from(config.stations) / i64::from(planned.reports);
    let mut fixed = config.clone();
    fixed.report_s = (report_s as u32 + 150) / 300 * 300;
    let energy = fixed.energy.as_mut().unwrap();
    energy.planned = false;
    fixed.base_station.as_mut().unwrap().gap_s = Some(on_s as u32);
    let fixed = run(&fixed, DAYS);
    println!("planned: {planned:?}\nfixed, each {on_s} s and {report_s} s: {fixed:?}");
    assert!(fixed.base_out_h > 24.0 && fixed.station_out_h > 24.0, "the winter is not dull enough: {fixed:?}");
    assert!(planned.base_out_h < 0.2 * fixed.base_out_h, "{planned:?} {fixed:?}");
    assert!(planned.station_out_h < 0.2 * fixed.station_out_h, "{planned:?} {fixed:?}");
}
