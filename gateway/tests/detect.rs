//! What the detector says of windows: rules, hysteresis, restarts, and models that misbehave.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use gateway::detect::{Detector, Heard, RulesConfig};
use gateway::model::LoadedModel;
use proto::{
    Aggregate, Alert, AlertKind, Channel, Quantity, RejectReason, Rejected, StationId, Stats, Timestamp, Window,
};

#[path = "support/onnx.rs"]
mod onnx;

const WINDOW_S: u32 = 900;
const MOISTURE: Channel = Channel::at(Quantity::SoilMoisture, 20);
const AIR: Channel = Channel::at(Quantity::AirTemperature, 200);
const RAIN: Channel = Channel::of(Quantity::Rain);

fn station(name: &str) -> StationId {
    name.parse().unwrap()
}

fn start(window: i64) -> Timestamp {
    Timestamp::from_secs(1_780_300_800 + window * i64::from(WINDOW_S))
}

fn end(window: i64) -> Timestamp {
    start(window + 1)
}

/// A channel whose readings move around `mean`.
fn moving(channel: Channel, mean: f64) -> Aggregate {
    let spread = mean.abs() / 100.0;
    let stats = Stats { count: 3, min: mean - spread, mean, max: mean + spread, stddev: spread };
    Aggregate { channel, accepted: Some(stats), rejected: None }
}

/// A channel whose readings are all the same.
fn still(channel: Channel, value: f64) -> Aggregate {
    Aggregate {
        channel,
        accepted: Some(Stats { count: 3, min: value, mean: value, max: value, stddev: 0.0 }),
        rejected: None,
    }
}

fn window_of(name: &str, number: i64, mut aggregates: Vec<Aggregate>) -> Window {
    aggregates.sort_by_key(|a| a.channel);
    Window { station: station(name), start: start(number), length_s: WINDOW_S, revision: 0, aggregates }
}

/// Soil moisture that moves a little from window to window.
fn usual(number: i64) -> f64 {
    0.24 + 0.0003 * (number % 7) as f64
}

fn healthy(number: i64) -> Window {
    window_of("n1", number, vec![moving(MOISTURE, usual(number)), moving(AIR, 20.0), still(RAIN, 0.0)])
}

fn rules_only() -> Detector {
    Detector::new(Vec::new(), RulesConfig::default(), Vec::new())
}

fn observe(detector: &mut Detector, windows: impl IntoIterator<Item = Window>) -> Vec<Alert> {
    windows.into_iter().flat_map(|window| detector.observe(&[window])).collect()
}

#[test]
fn a_healthy_station_raises_nothing() {
    assert_eq!(observe(&mut rules_only(), (0..400).map(healthy)), []);
}

#[test]
fn a_stuck_channel_is_told_once_and_again_as_it_lasts_and_closes_when_it_moves() {
    let mut detector = rules_only();
    observe(&mut detector, (0..96).map(healthy));
    let stuck = |n| window_of("n1", n, vec![still(MOISTURE, 0.241), moving(AIR, 20.0), still(RAIN, 0.0)]);
    let told = observe(&mut detector, (96..128).map(stuck));
    assert!(told.iter().all(|a| a.kind == AlertKind::Stuck && a.channel == Some(MOISTURE)), "{told:?}");
    assert_eq!(told[0].opened, end(99), "four flat windows of a channel that was never flat");
    assert_eq!(told[0].message, "Soil moisture 20 cm stuck at 0.241 m³/m³ for 1 h");
    assert_eq!(told[0].id, format!("n1/soil_moisture_20cm/stuck/{}", end(99).as_millis()));
    assert!((3..8).contains(&told.len()), "{} revisions in eight hours", told.len());
    assert!(told.iter().map(|a| a.revision).eq(0..told.len() as u32));

    let closed = observe(&mut detector, [healthy(128)]);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].closed, Some(end(128)));
    assert_eq!(closed[0].message, "Soil moisture 20 cm was stuck at 0.241 m³/m³ for 8 h 15 min");
    assert_eq!(detector.open().count(), 0);
}

#[test]
fn what_rests_by_nature_is_not_stuck() {
    let radiation = Channel::of(Quantity::SolarRadiation);
    let night = |n: i64| {
        let light = if (n / 48) % 2 == 0 { moving(radiation, 500.0 + n as f64) } else { still(radiation, 0.0) };
        window_of("n1", n, vec![light, still(RAIN, 0.0), still(Channel::of(Quantity::WindSpeed), 0.0)])
    };
    assert_eq!(observe(&mut rules_only(), (0..384).map(night)), []);
}

#[test]
fn air_is_saturated_for_hours_but_never_without_humidity() {
    let humidity = Channel::of(Quantity::RelativeHumidity);
    let told = |value: f64| {
        let mut detector = rules_only();
        observe(&mut detector, (0..96).map(|n| window_of("n1", n, vec![moving(humidity, 60.0)])));
        observe(&mut detector, (96..100).map(|n| window_of("n1", n, vec![still(humidity, value)])))
    };
    assert_eq!(told(100.0), []);
    assert_eq!(told(0.0).iter().map(|a| a.kind).collect::<Vec<_>>(), [AlertKind::Stuck]);
}

#[test]
fn a_coarse_channel_must_rest_longer_than_it_usually_does() {
    let mut detector = rules_only();
    // A whole-degree thermometer that shows the same value for up to two hours.
    let coarse = |n: i64| {
        window_of("n1", n, vec![if n % 9 == 0 { moving(AIR, 20.5) } else { still(AIR, 20.0 + (n / 9 % 5) as f64) }])
    };
    assert_eq!(observe(&mut detector, (0..96).map(coarse)), []);
    let told = observe(&mut detector, (96..150).map(|n| window_of("n1", n, vec![still(AIR, 31.0)])));
    assert_eq!(told.first().map(|a| a.kind), None, "so flat a channel is never called stuck within half a day");
}

#[test]
fn a_spike_returns_and_rain_stays() {
    let mut detector = rules_only();
    observe(&mut detector, (0..20).map(|n| window_of("n1", n, vec![moving(MOISTURE, 0.24)])));
    // Rain: the first window has both levels in it, and stays.
    let rain = |n: i64, mean: f64, min: f64| {
        let stats = Stats { count: 3, min, mean, max: 0.38, stddev: 0.05 };
        window_of("n1", n, vec![Aggregate { channel: MOISTURE, accepted: Some(stats), rejected: None }])
    };
    assert_eq!(observe(&mut detector, [rain(20, 0.31, 0.24), rain(21, 0.37, 0.36), rain(22, 0.36, 0.35)]), []);

    let mut spike = window_of("n1", 23, vec![moving(MOISTURE, 0.36)]);
    spike.aggregates[0].rejected = Some(Rejected { counts: vec![(RejectReason::Hampel, 1)], min: 0.52, max: 0.52 });
    assert_eq!(observe(&mut detector, [spike]), [], "it is not known yet whether it stays");
    let told = observe(&mut detector, [rain(24, 0.36, 0.35)]);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].kind, told[0].channel, told[0].value.map(|v| (v * 100.0).round())),
        (AlertKind::Spike, Some(MOISTURE), Some(52.0))
    );
    assert_eq!(told[0].message, "Soil moisture 20 cm jumped to 0.520 m³/m³ from 0.360 m³/m³, and back");

    let closed = observe(&mut detector, (25..50).map(|n| rain(n, 0.36, 0.35)));
    assert_eq!(
        closed.iter().filter(|a| a.kind == AlertKind::Spike).map(|a| a.closed).collect::<Vec<_>>(),
        [Some(end(24 + 16))]
    );
}

#[test]
fn a_late_reading_is_no_spike() {
    let mut detector = rules_only();
    observe(&mut detector, (0..20).map(healthy));
    let mut late = healthy(20);
    late.aggregates[0].rejected = Some(Rejected { counts: vec![(RejectReason::Late, 1)], min: 0.9, max: 0.9 });
    assert_eq!(observe(&mut detector, [late, healthy(21), healthy(22)]), []);
}

#[test]
fn a_missing_channel_is_a_dropout_while_its_station_reports() {
    let mut detector = rules_only();
    observe(&mut detector, (0..20).map(healthy));
    let without = |n| window_of("n1", n, vec![moving(AIR, 20.0), still(RAIN, 0.0)]);
    let told = observe(&mut detector, (20..23).map(without));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].kind, told[0].channel, told[0].opened), (AlertKind::Dropout, Some(MOISTURE), end(22)));
    assert!(told[0].message.starts_with("Soil moisture 20 cm missing for 45 min, last 0.24"), "{}", told[0].message);
    // Longer than the history.
    let lasting = observe(&mut detector, (23..300).map(without));
    assert!(!lasting.is_empty() && lasting.iter().all(|a| a.closed.is_none() && a.id == told[0].id), "{lasting:?}");
    let closed = observe(&mut detector, [healthy(300)]);
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].id.as_str(), closed[0].closed), (told[0].id.as_str(), Some(end(300))));
}

#[test]
fn a_station_that_is_away_as_a_whole_has_no_dropout() {
    let mut detector = rules_only();
    observe(&mut detector, (0..20).map(healthy));
    assert_eq!(observe(&mut detector, (60..80).map(healthy)), []);
}

#[test]
fn a_silent_station_is_told_once_the_gateway_itself_has_listened_long_enough() {
    let mut detector = rules_only();
    let n1 = station("n1");
    let heard = |last| [Heard { station: &n1, last, report_s: 900 }];
    let boot = start(100);
    assert_eq!(detector.tick(boot, heard(start(0))), [], "the gateway was away, not the station");
    assert_eq!(detector.tick(boot.plus_secs(7199), heard(start(0))), []);
    let told = detector.tick(boot.plus_secs(7200), heard(start(0)));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].kind, told[0].channel), (AlertKind::Silent, None));
    assert_eq!(told[0].id, format!("n1/-/silent/{}", boot.plus_secs(7200).as_millis()));
    assert!(told[0].message.starts_with("Station n1 silent for 1 d 3 h"), "{}", told[0].message);
    assert_eq!(detector.tick(boot.plus_secs(7300), heard(start(0))), []);
    let closed = detector.tick(boot.plus_secs(7400), heard(boot.plus_secs(7350)));
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].closed, Some(boot.plus_secs(7350)));
}

#[test]
fn a_higher_revision_amends_the_past_and_raises_nothing() {
    let mut detector = rules_only();
    observe(&mut detector, (0..20).map(healthy));
    let mut amended = healthy(12);
    amended.revision = 1;
    amended.aggregates.clear();
    assert_eq!(observe(&mut detector, [amended]), []);
}

#[test]
fn a_restarted_detector_goes_on_as_if_nothing_had_happened() {
    let faulty = |n: i64| match n {
        100..=130 => window_of("n1", n, vec![still(MOISTURE, 0.241), moving(AIR, 20.0), still(RAIN, 0.0)]),
        131..=160 => window_of("n1", n, vec![moving(MOISTURE, usual(n)), still(RAIN, 0.0)]),
        _ => healthy(n),
    };
    let mut whole = rules_only();
    let expected = observe(&mut whole, (0..200).map(faulty));
    assert!(expected.len() > 6);
    for cut in 96..170 {
        let mut first = rules_only();
        let mut told = observe(&mut first, (0..cut).map(faulty));
        let restored: Vec<Alert> = first.open().cloned().collect();
        drop(first);
        let mut second = Detector::new(Vec::new(), RulesConfig::default(), restored);
        second.warm((0..cut).map(faulty));
        told.extend(observe(&mut second, (cut..200).map(faulty)));
        assert_eq!(told, expected, "restarted before window {cut}");
    }
}

mod models {
    use super::*;

    #[test]
    fn the_embedded_model_stands_its_own_verification_and_is_small() {
        let base = LoadedModel::base(start(0)).unwrap();
        assert_eq!(base.label(), "soil-anomaly 1.0.0");
        assert!(base.manifest().golden.len() >= 2);
        assert!(
            base.manifest().golden.iter().any(|g| g.input.iter().any(|v| v.is_nan())),
            "one golden sample has missing values"
        );
        let detector = Detector::new(vec![(base.into(), None)], RulesConfig::default(), Vec::new());
        let running = detector.running();
        assert_eq!(
            (running[0].name.as_str(), running[0].task.as_str(), running[0].since),
            ("soil-anomaly", "anomaly", start(0))
        );
        assert!(std::fs::metadata(base_dir().join("model.onnx")).unwrap().len() < 300_000);
    }

    #[test]
    fn what_a_whole_field_shows_is_no_sensors_fault() {
        // Wet soil is something to look at. Four of sixteen stations are in the west, where it is watered; in the east one
        // probe alone says the same. Five of sixteen are not enough to be the weather.
        let wet = |number: usize| number < 4 || number == 9;
        let scale = 1.0 / 0.32;
        let bytes = onnx::Onnx::mean(scale as f32).bytes();
        let manifest = onnx::manifest("1.0.0", &bytes, &onnx::MEAN.map(|mean| mean * scale)).to_toml().unwrap();
        let alerts = |fields: bool| -> Vec<String> {
            let model = LoadedModel::verify(&bytes, &manifest, start(0)).unwrap();
            let mut detector = Detector::new(vec![(model.into(), None)], RulesConfig::default(), Vec::new());
            let name = |number: usize| format!("n{number:02}");
            for number in (0..16).filter(|_| fields) {
                let field = if number < 4 { "west" } else { "east" };
                detector.describe(&station(&name(number)), Some(&field.parse().unwrap()));
            }
            let mut opened = Vec::new();
            for window in 0..60 {
                let of = |number: usize| {
                    let level = if window >= 20 && wet(number) { 0.40 } else { 0.12 };
                    let at = |depth, level: f64| {
                        moving(Channel::at(Quantity::SoilMoisture, depth), level + 0.0003 * (window % 7) as f64)
                    };
                    window_of(&name(number), window, vec![at(10, level), at(20, 0.12)])
                };
                let windows: Vec<Window> = (0..16).map(of).collect();
                let changed = detector.observe(&windows);
                opened.extend(changed.into_iter().filter(|alert| alert.revision == 0).map(|a| a.station.to_string()));
            }
            assert_eq!(detector.failed(), []);
            opened.sort_unstable();
            opened.dedup();
            opened
        };
        assert_eq!(alerts(false), ["n00", "n01", "n02", "n03", "n09"]);
        assert_eq!(alerts(true), ["n09"]);
    }

    fn base_dir() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/soil-anomaly-1.0.0")
    }

    fn base_files() -> (Vec<u8>, String) {
        (
            std::fs::read(base_dir().join("model.onnx")).unwrap(),
            std::fs::read_to_string(base_dir().join("manifest.toml")).unwrap(),
        )
    }

    fn digest(bytes: &[u8]) -> String {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn a_model_that_gives_no_numbers_is_retired_and_the_rules_go_on() {
        use prost::Message;
        use tract_onnx::pb::ModelProto;
        let (onnx, manifest) = base_files();
        // Thresholds so small that a large error is infinite, and a golden sample of a station that knows nothing.
        let mut model = ModelProto::decode(onnx.as_slice()).unwrap();
        let thresholds = model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.name == "thresholds").unwrap();
        let count = thresholds.raw_data.len() / 4;
        thresholds.raw_data = f32::MIN_POSITIVE.to_le_bytes().repeat(count);
        let bytes = model.encode_to_vec();
        let mut manifest = proto::Manifest::parse(&manifest).unwrap();
        let strange = |v: &f64| 1000.0 * *v as f32;
        let real: Vec<f32> = manifest.golden[0].input.iter().map(strange).collect();
        manifest.sha256 = digest(&bytes);
        manifest.golden.truncate(1);
        manifest.golden[0].input.fill(f64::NAN);
        manifest.golden[0].output.fill(0.0);
        let mut model = LoadedModel::verify(&bytes, &manifest.to_toml().unwrap(), start(0)).unwrap();
        assert_eq!(model.failure(), None);
        let error = model.run(&real).unwrap_err();
        assert!(error.to_string().contains("of sample 0 is inf"), "{error}");

        let mut detector = Detector::new(vec![(model.into(), None)], RulesConfig::default(), Vec::new());
        assert_eq!(detector.running(), []);
        assert_eq!(detector.failed().len(), 1);
        observe(&mut detector, (0..96).map(healthy));
        let stuck = |n| window_of("n1", n, vec![still(MOISTURE, 0.241), moving(AIR, 20.0), still(RAIN, 0.0)]);
        let told = observe(&mut detector, (96..106).map(stuck));
        assert!(!told.is_empty() && told.iter().all(|a| a.kind == AlertKind::Stuck), "{told:?}");
    }
}
