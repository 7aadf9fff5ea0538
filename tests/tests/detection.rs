//! Faults of every kind are found on the right station and channel, and a farm without faults is left in peace.
//!
//! The whole of what a gateway does with readings after its store: windows, rules and the model that it brings along, on
//! simulated farms that the model was not trained on. The tables are printed; `cargo test -p tests --test detection --
//! --nocapture` shows them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gateway::detect::{Detector, RulesConfig};
use gateway::model::LoadedModel;
use gateway::validate::{Limits, Tolerance};
use gateway::window::{Origin, Shape, Windows};
use node_sim::FarmConfig;
use node_sim::farm::Farm;
use node_sim::faults::{Fault, FaultKind};
use proto::{Alert, AlertKind, Timestamp, Window};
use tests::measured;

const DAY_S: i64 = 86_400;
const WINDOW_S: u32 = 900;
const DAYS: i64 = 30;

/// A seed that no training uses.
const SEED: u64 = 777;

/// What a gateway makes of a farm's readings, by the end of the windows.
fn windows(farm: &mut Farm, days: i64) -> BTreeMap<Timestamp, Vec<Window>> {
    let shape = Shape {
        length_s: WINDOW_S,
        context_ms: 3_600_000,
        idle_ms: 3_600_000,
        tolerance: Tolerance { future_ms: 0, lateness_ms: 0, oldest_ms: i64::MAX },
    };
    let mut windows = Windows::new(shape, Limits::of);
    let mut closed = BTreeMap::<Timestamp, Vec<Window>>::new();
    let mut sequence = 0;
    farm.advance(farm.now().plus_secs(days * DAY_S), |sample| {
        let readings: Vec<proto::Reading> = sample.readings.iter().map(|measured| measured.reading).collect();
        sequence += 1;
        windows.insert(sample.id, Origin { boot: 1, sequence }, &readings, sample.time, sequence);
        for window in windows.close() {
            closed.entry(window.window.end()).or_default().push(window.window);
        }
    });
    closed
}

/// Every alert of a farm, in its last revision, in the order in which they opened.
fn alerts(farm: &mut Farm, days: i64) -> Vec<Alert> {
    let base = LoadedModel::base(farm.now()).unwrap();
    let mut detector = Detector::new(vec![(base.into(), None)], RulesConfig::default(), Vec::new());
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    let mut told = 0;
    for windows in windows(farm, days).into_values() {
        for alert in detector.observe(&windows) {
            told += 1;
            assert!(alert.drivers.iter().map(|d| d.share).sum::<f64>() <= 1.0 + 1e-9, "{alert:?}");
            let opened = alert.revision == 0;
            assert!(!opened || alert.drivers.first().map(|d| d.channel) == alert.channel, "{alert:?}");
            alerts.insert(alert.id.clone(), alert);
        }
    }
    assert_eq!(detector.failed(), []);
    let mut alerts: Vec<Alert> = alerts.into_values().collect();
    alerts.sort_by_key(|a| (a.opened, a.id.clone()));
    assert!(told <= 6 * alerts.len() + 6, "{told} revisions of {} alerts", alerts.len());
    alerts
}

fn peace(name: &str, config: &FarmConfig) -> usize {
    let mut farm = Farm::new(config).unwrap();
    let stations = farm.stations().len();
    let alerts = alerts(&mut farm, DAYS);
    println!("{name}: {} alerts in {} fault-free station-days", alerts.len(), stations as i64 * DAYS);
    for alert in &alerts {
        println!("    {} {} {}", alert.opened, alert.station, alert.message);
    }
    alerts.len()
}

#[test]
fn a_farm_without_faults_is_left_in_peace() {
    let farm = FarmConfig { seed: SEED, ..FarmConfig::default() };
    let allowed = (i64::from(farm.stations) * DAYS / 50) as usize;
    assert!(peace("synthetic weather, June", &farm) <= allowed);
    let measured = FarmConfig {
        weather: Some(measured("fallon-2015/hourly.csv")).into(),
        start: "2015-06-01T07:00:00Z".parse().unwrap(),
        ..farm
    };
    assert!(peace("measured weather, June", &measured) <= allowed);
}

/// The kinds that the gateway's rules and its base model are made for.
const KINDS: [FaultKind; 4] = [FaultKind::Spike, FaultKind::Stuck, FaultKind::Drift, FaultKind::Dropout];

/// How long each kind lasts, in hours.
fn hours(kind: FaultKind) -> i64 {
    match kind {
        FaultKind::Drift => 36,
        FaultKind::Dropout => 6,
        _ => 12,
    }
}

/// A scenario in which each station has a fault every four days, with the sizes that the simulator chooses.
fn scenario(farm: &FarmConfig) -> String {
    let all = [
        "soil_moisture_10cm",
        "soil_moisture_20cm",
        "soil_moisture_40cm",
        "soil_temperature_10cm",
        "soil_temperature_30cm",
        "soil_ec_20cm",
        "air_temperature_200cm",
        "relative_humidity_200cm",
        "battery",
    ];
    let mut text = String::new();
    let mut turn = 0;
    for (place, (station, _)) in farm.station_names().iter().enumerate() {
        for (round, day) in (3..DAYS - 2).step_by(4).enumerate() {
            let kind = KINDS[(place + round) % KINDS.len()];
            let channel = all[turn % all.len()];
            turn += 1;
            let start = day * 24 + (place as i64 * 5) % 24;
            let end = start + hours(kind);
            writeln!(text, "[[fault]]\nstation = \"{station}\"\nchannel = \"{channel}\"\nkind = \"{}\"\nstart = \"{start}h\"\nend = \"{end}h\"", kind.name()).unwrap();
        }
    }
    text
}

#[derive(Debug, Default)]
struct Row {
    faults: u32,
    found: u32,
    elsewhere: u32,
    delays: Vec<i64>,
}

#[test]
fn each_kind_of_fault_is_found_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scenario.toml");
    let mut config = FarmConfig { seed: SEED + 1, ..FarmConfig::default() };
    std::fs::write(&path, scenario(&config)).unwrap();
    config.scenario = Some(path);
    let mut farm = Farm::new(&config).unwrap();
    let faults: Vec<Fault> = farm.faults().to_vec();
    let alerts = alerts(&mut farm, DAYS);

    let expected = |kind: FaultKind| match kind {
        FaultKind::Spike => AlertKind::Spike,
        FaultKind::Stuck => AlertKind::Stuck,
        FaultKind::Dropout => AlertKind::Dropout,
        _ => AlertKind::Anomaly,
    };
    let during = |fault: &Fault, alert: &Alert, after_h: i64| {
        alert.station == fault.station
            && fault.start <= alert.opened
            && alert.opened <= fault.end.plus_secs(after_h * 3600)
    };
    let mut table: BTreeMap<&str, Row> = BTreeMap::new();
    let mut by_channel: BTreeMap<(&str, String), (u32, u32)> = BTreeMap::new();
    for fault in &faults {
        let row = table.entry(fault.kind().name()).or_default();
        row.faults += 1;
        let cell = by_channel.entry((fault.kind().name(), fault.channel.unwrap().to_string())).or_default();
        cell.0 += 1;
        let found = alerts
            .iter()
            .find(|a| during(fault, a, 1) && a.channel == fault.channel && a.kind == expected(fault.kind()));
        if let Some(alert) = found {
            row.found += 1;
            cell.1 += 1;
            row.delays.push(alert.opened.millis_since(fault.start) / (1000 * i64::from(WINDOW_S)));
        }
        row.elsewhere += alerts.iter().filter(|a| during(fault, a, 12) && a.channel != fault.channel).count() as u32;
    }
    let stray: Vec<&Alert> = alerts.iter().filter(|a| !faults.iter().any(|f| during(f, a, 12))).collect();
    println!("{:<8} {:>7} {:>6} {:>16} {:>24}", "fault", "faults", "found", "another channel", "median delay, windows");
    for (kind, row) in &mut table {
        row.delays.sort_unstable();
        let median = row.delays.get(row.delays.len() / 2).copied().unwrap_or(-1);
        println!("{kind:<8} {:>7} {:>6} {:>16} {median:>24}", row.faults, row.found, row.elsewhere);
    }
    println!("{} alerts in all, {} of them far from any fault", alerts.len(), stray.len());
    for ((kind, channel), (faults, found)) in by_channel.iter().filter(|(_, (faults, found))| faults != found) {
        println!("    {kind} of {channel}: {found} of {faults}");
    }
    for (kind, row) in &table {
        // A drift grows for 36 hours from nothing; a slow one in a channel that varies much by itself stays below the noise.
        let least = if *kind == FaultKind::Drift.name() { row.faults / 2 } else { row.faults };
        assert!(row.found >= least, "{kind}: {} of {} were found", row.found, row.faults);
    }
    assert!(stray.len() <= 24 * DAYS as usize / 50, "alerts far from any fault: {stray:#?}");
}
