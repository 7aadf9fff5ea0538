//! Faults of every kind are found on the right station and channel, and a farm without faults is left in peace.
//!
//! The whole of what a gateway does with readings after its store: windows, rules and the model that it brings along, on
//! simulated farms that the model was not trained on; and clocks, which it finds by when reports come. The tables are
//! printed; `cargo test -p tests --test detection -- --nocapture` shows them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gateway::clock::{Arrival, Bounds, Clocks};
use gateway::config::WindowsConfig;
use gateway::detect::{Detector, RulesConfig};
use gateway::model::LoadedModel;
use gateway::validate::{Limits, Tolerance};
use gateway::window::{Origin, Shape, Windows};
use node_sim::FarmConfig;
use node_sim::clock::NodeClock;
use node_sim::farm::Farm;
use node_sim::faults::{Fault, FaultKind};
use proto::{Alert, AlertKind, Channel, Manifest, Quantity, Reading, StationId, Timestamp, Window};
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
    let mut boots = BTreeMap::<StationId, u32>::new();
    farm.advance(farm.now().plus_secs(days * DAY_S), |sample| {
        let readings: Vec<Reading> = sample.readings.iter().map(|measured| measured.reading).collect();
        sequence += 1;
        let boot = boots.entry(sample.id.clone()).or_insert(1);
        *boot += u32::from(sample.restarted);
        windows.insert(sample.id, Origin { boot: *boot, sequence }, &readings, sample.time, sequence);
        for window in windows.close() {
            closed.entry(window.window.end()).or_default().push(window.window);
        }
    });
    closed
}

/// What a gateway says of a farm.
struct Said {
    /// Every alert in its last revision, in the order in which they opened.
    alerts: Vec<Alert>,
    /// How many revisions there were in all.
    revisions: usize,
    /// How many alerts opened with more of the blame on another channel than on their own.
    blamed: usize,
}

fn said(farm: &mut Farm, days: i64) -> Said {
    let base = LoadedModel::base(farm.now()).unwrap();
    let mut detector = Detector::new(vec![(base.into(), None)], RulesConfig::default(), Vec::new());
    for station in farm.stations() {
        detector.describe(station.id(), Some(station.field_id()));
    }
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    let (mut revisions, mut blamed) = (0, 0);
    for windows in windows(farm, days).into_values() {
        for alert in detector.observe(&windows) {
            revisions += 1;
            assert!(alert.drivers.iter().map(|d| d.share).sum::<f64>() <= 1.0 + 1e-9, "{alert:?}");
            blamed += usize::from(alert.revision == 0 && alert.drivers.first().map(|d| d.channel) != alert.channel);
            alerts.insert(alert.id.clone(), alert);
        }
    }
    assert_eq!(detector.failed(), []);
    let mut alerts: Vec<Alert> = alerts.into_values().collect();
    alerts.sort_by_key(|a| (a.opened, a.id.clone()));
    Said { alerts, revisions, blamed }
}

impl Said {
    /// An alert opens, changes a few times at most and closes, and its own channel has the most of the blame.
    fn is_tidy(&self) {
        let (alerts, Self { revisions, blamed, .. }) = (self.alerts.len(), self);
        assert!(*revisions <= 6 * alerts + 6, "{revisions} revisions of {alerts} alerts");
        assert_eq!(*blamed, 0, "alerts that blame another channel");
    }
}

fn peace(name: &str, config: &FarmConfig) -> usize {
    let mut farm = Farm::new(config).unwrap();
    let stations = farm.stations().len();
    let said = said(&mut farm, DAYS);
    said.is_tidy();
    let alerts = said.alerts;
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

/// The other kinds that readings show, and the share of them that is found at least: a little less than was measured.
const OTHERS: [(FaultKind, f64); 7] = [
    (FaultKind::Bias, 0.4),
    (FaultKind::Noise, 0.75),
    (FaultKind::Rail, 0.95),
    (FaultKind::PulledOut, 0.9),
    (FaultKind::Waterlogged, 0.75),
    (FaultKind::Swapped, 0.8),
    (FaultKind::BrownOut, 1.0),
];

/// The channels that the base model scores.
fn scored() -> Vec<String> {
    let manifest = Manifest::parse(LoadedModel::base_files().1).unwrap();
    manifest.output.scores.iter().map(ToString::to_string).collect()
}

/// Plugs that fit each other's place.
const PAIRS: [(&str, &str); 6] = [
    ("soil_moisture_10cm", "soil_moisture_20cm"),
    ("soil_moisture_10cm", "soil_moisture_40cm"),
    ("soil_moisture_20cm", "soil_moisture_40cm"),
    ("soil_temperature_10cm", "soil_temperature_30cm"),
    ("soil_temperature_10cm", "air_temperature_200cm"),
    ("soil_temperature_30cm", "air_temperature_200cm"),
];

/// How long each kind lasts, in hours.
fn hours(kind: FaultKind) -> i64 {
    match kind {
        FaultKind::Drift => 36,
        FaultKind::Dropout => 6,
        FaultKind::PulledOut | FaultKind::Waterlogged | FaultKind::Swapped => 48,
        FaultKind::Bias | FaultKind::Noise | FaultKind::BrownOut => 24,
        _ => 12,
    }
}

/// A scenario in which each station has a fault every four days, with the sizes that the simulator chooses.
fn scenario(farm: &FarmConfig, kinds: &[FaultKind]) -> String {
    let channels = scored();
    let mut text = String::new();
    let mut turn = 0;
    for (place, (station, _)) in farm.station_names().iter().enumerate() {
        for (round, day) in (3..DAYS - 2).step_by(4).enumerate() {
            let kind = kinds[(place + round) % kinds.len()];
            let start = day * 24 + (place as i64 * 5) % 24;
            let end = start + hours(kind);
            let of = match kind {
                FaultKind::BrownOut => String::new(),
                FaultKind::Swapped => {
                    let (channel, with) = PAIRS[place % PAIRS.len()];
                    format!("channel = \"{channel}\"\nwith = \"{with}\"\n")
                }
                // What is in the soil; what has a connector; all.
                FaultKind::PulledOut => format!("channel = \"{}\"\n", channels[place % 6]),
                FaultKind::Waterlogged => format!("channel = \"{}\"\n", channels[place % 8]),
                FaultKind::Rail => {
                    let rail = if place % 2 == 0 { "low" } else { "high" };
                    format!("channel = \"{}\"\nrail = \"{rail}\"\n", channels[turn % channels.len()])
                }
                _ => format!("channel = \"{}\"\n", channels[turn % channels.len()]),
            };
            turn += 1;
            writeln!(
                text,
                "[[fault]]\nstation = \"{station}\"\nkind = \"{}\"\nstart = \"{start}h\"\nend = \"{end}h\"\n{of}",
                kind.name()
            )
            .unwrap();
        }
    }
    text
}

/// What became of the faults of a kind.
#[derive(Debug, Default)]
struct Row {
    faults: u32,
    found: u32,
    elsewhere: u32,
    delays: Vec<i64>,
    /// What the findings were called, and how often.
    called: BTreeMap<&'static str, u32>,
    /// Faults and findings of each channel.
    channels: BTreeMap<String, (u32, u32)>,
}

impl Row {
    /// Counts a fault, and when and as what it was found.
    fn count(&mut self, of: String, since: Timestamp, found: Option<(Timestamp, &'static str)>) {
        self.faults += 1;
        let cell = self.channels.entry(of).or_default();
        cell.0 += 1;
        if let Some((at, called)) = found {
            self.found += 1;
            cell.1 += 1;
            self.delays.push(at.millis_since(since) / (1000 * i64::from(WINDOW_S)));
            *self.called.entry(called).or_default() += 1;
        }
    }
}

fn print(table: &mut BTreeMap<&str, Row>) {
    println!(
        "{:<12} {:>7} {:>6} {:>16} {:>24}  called",
        "fault", "faults", "found", "another channel", "median delay, windows"
    );
    for (kind, row) in table {
        row.delays.sort_unstable();
        let median = row.delays.get(row.delays.len() / 2).map_or_else(|| "-".to_owned(), ToString::to_string);
        let called: Vec<String> = row.called.iter().map(|(called, times)| format!("{called} {times}")).collect();
        println!(
            "{kind:<12} {:>7} {:>6} {:>16} {median:>24}  {}",
            row.faults,
            row.found,
            row.elsewhere,
            called.join(", ")
        );
        for (channel, (faults, found)) in row.channels.iter().filter(|(_, (faults, found))| faults != found) {
            println!("    of {channel}: {found} of {faults}");
        }
    }
}

/// Whether an alert is on a channel that a fault bends. A brown-out shows in the battery.
fn shows(fault: &Fault, alert: &Alert) -> bool {
    alert.channel.is_some_and(|channel| match fault.kind() {
        FaultKind::BrownOut => channel.quantity == Quantity::Battery,
        _ => fault.bends(channel),
    })
}

/// A farm of this seed with a scenario of these kinds: what became of the faults, where an alert tells of one when `tells` says so;
/// and what the gateway said. No more alerts than allowed are far from any fault, which echoes for so many hours.
fn measure(
    seed: u64,
    kinds: &[FaultKind],
    echoes_h: i64,
    tells: impl Fn(&Fault, &Alert) -> bool,
) -> (BTreeMap<&'static str, Row>, Said) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scenario.toml");
    let mut config = FarmConfig { seed, ..FarmConfig::default() };
    std::fs::write(&path, scenario(&config, kinds)).unwrap();
    config.scenario = Some(path);
    let mut farm = Farm::new(&config).unwrap();
    let faults: Vec<Fault> = farm.faults().to_vec();
    let said = said(&mut farm, DAYS);
    let alerts = &said.alerts;

    let during = |fault: &Fault, alert: &Alert, after_h: i64| {
        alert.station == fault.station
            && fault.start <= alert.opened
            && alert.opened <= fault.end.plus_secs(after_h * 3600)
    };
    let mut table: BTreeMap<&str, Row> = BTreeMap::new();
    for fault in &faults {
        let row = table.entry(fault.kind().name()).or_default();
        let of = fault.channels().into_iter().flatten().map(|channel| channel.to_string()).collect::<Vec<_>>();
        let found = alerts.iter().find(|a| during(fault, a, 1) && tells(fault, a));
        row.count(of.join(" and "), fault.start, found.map(|alert| (alert.opened, alert.kind.name())));
        row.elsewhere += alerts.iter().filter(|a| during(fault, a, echoes_h) && !shows(fault, a)).count() as u32;
    }
    print(&mut table);
    let stray: Vec<&Alert> = alerts.iter().filter(|a| !faults.iter().any(|f| during(f, a, echoes_h))).collect();
    println!(
        "{} alerts in all, {} of them far from any fault, {} that first blamed another channel",
        alerts.len(),
        stray.len(),
        said.blamed
    );
    assert!(stray.len() <= 24 * DAYS as usize / 50, "alerts far from any fault: {stray:#?}");
    (table, said)
}

#[test]
fn each_kind_of_fault_is_found_where_it_is() {
    let expected = |kind: FaultKind| match kind {
        FaultKind::Spike => AlertKind::Spike,
        FaultKind::Stuck => AlertKind::Stuck,
        FaultKind::Dropout => AlertKind::Dropout,
        _ => AlertKind::Anomaly,
    };
    let tells = |fault: &Fault, alert: &Alert| shows(fault, alert) && alert.kind == expected(fault.kind());
    let (table, said) = measure(SEED + 1, &KINDS, 12, tells);
    said.is_tidy();
    for (kind, row) in table {
        // A drift grows for 36 hours from nothing; a slow one in a channel that varies much by itself stays below the noise.
        let least = if kind == FaultKind::Drift.name() { row.faults / 2 } else { row.faults };
        assert!(row.found >= least, "{kind}: {} of {} were found", row.found, row.faults);
    }
}

#[test]
fn kinds_that_nothing_is_made_for_are_found_as_often_as_is_said() {
    // What is wrong with such a probe has no name of its own: any alert where it shows tells of it. What
    // it read lies in the day that a model looks at for a day more.
    let (table, _) = measure(SEED + 2, &OTHERS.map(|(kind, _)| kind), 24, shows);
    for (kind, share) in OTHERS {
        let Row { faults, found, .. } = table[kind.name()];
        assert!(f64::from(found) >= share * f64::from(faults), "{}: {found} of {faults} were found", kind.name());
    }
}

/// Clocks that are wrong for four days, and what the gateway calls each of them.
const CLOCKS: [(&str, &[&str]); 4] = [
    ("drift_ppm = 200", &["drifting"]),
    ("offset_s = 3600", &["ahead"]),
    ("offset_s = -3600", &["set back", "behind"]),
    ("restart_1970 = true", &["long past"]),
];

#[test]
fn every_wrong_clock_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("scenario.toml");
    let mut config = FarmConfig { seed: SEED + 3, ..FarmConfig::default() };
    let mut text = String::new();
    for (place, (station, _)) in config.station_names().iter().enumerate() {
        let (wrong, _) = CLOCKS[place % CLOCKS.len()];
        writeln!(
            text,
            "[[fault]]\nstation = \"{station}\"\nkind = \"clock_drift\"\nstart = \"{}h\"\nend = \"168h\"\n{wrong}",
            72 + place
        )
        .unwrap();
    }
    std::fs::write(&path, text).unwrap();
    config.scenario = Some(path);
    let farm = Farm::new(&config).unwrap();

    let shape = WindowsConfig::default().shape();
    let bounds = Bounds { fresh_ms: shape.tolerance.future_ms, oldest_ms: shape.tolerance.oldest_ms };
    let mut table: BTreeMap<&str, Row> = BTreeMap::new();
    for (place, (station, _)) in config.station_names().iter().enumerate() {
        let faults = farm.clock_faults(place);
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        let node = NodeClock::new(faults.clone());
        let mut windows = Windows::new(shape, Limits::of);
        let mut clocks = Clocks::new(bounds);
        let mut found = None;
        for report in 0..DAYS * DAY_S / i64::from(WINDOW_S) {
            let time = config.start.plus_secs(report * i64::from(WINDOW_S));
            let shown = time.plus_millis(node.ahead_ms(time));
            // The way takes a second or two.
            let at = time.plus_millis(1000 + report * 377 % 1000);
            let reading = Reading { channel: Channel::of(Quantity::Battery), time: shown, value: 4.0 };
            let placed =
                windows.insert(station, Origin { boot: 1, sequence: report as u64 }, &[reading], at, report as u64);
            let goes_back = placed.clock > 0 && placed.windowed + placed.late + placed.future == 0;
            clocks.observe(station, Arrival { at, newest: shown, goes_back });
            let verdict = clocks.state(station).verdict;
            assert!(!verdict.is_wrong() || time >= fault.start, "{station}: {} at {time}", verdict.name());
            if verdict.is_wrong() && time < fault.end && found.is_none() {
                found = Some((at, verdict.name()));
            }
        }
        let (wrong, called) = CLOCKS[place % CLOCKS.len()];
        let (_, verdict) = found.unwrap_or_else(|| panic!("{station}: {wrong} was not found"));
        assert!(called.contains(&verdict), "{station}: {wrong} was called {verdict}");
        table.entry(wrong).or_default().count("the clock".to_owned(), fault.start, found);
    }
    print(&mut table);
}
