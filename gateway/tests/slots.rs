//! How versions of a model take turns: shadow, swap, and the way back when one fails.
#![allow(clippy::unwrap_used)]

#[path = "support/onnx.rs"]
mod onnx;

use gateway::detect::slots::{Order, SlotReport, fits};
use gateway::detect::{Detector, RulesConfig};
use gateway::model::{LoadedModel, Model, Runner, RunnerLimits, RunnerProgram};
use onnx::{FEATURES, MEAN, Onnx};
use proto::update::Reason;
use proto::{Aggregate, Alert, AlertKind, Channel, Quantity, Stats, Timestamp, Window};

const NAME: &str = "test-model";

fn start(window: i64) -> Timestamp {
    Timestamp::from_secs(1_780_300_800 + window * 900)
}

fn end(window: i64) -> Timestamp {
    start(window + 1)
}

/// A window of a station whose soil is as wet as given at both depths.
fn window(number: i64, moisture: f64) -> Window {
    let of = |depth| {
        let mean = moisture + 0.0003 * (number % 7) as f64;
        let stats = Stats { count: 3, min: mean - 0.001, mean, max: mean + 0.001, stddev: 0.001 };
        Aggregate { channel: Channel::at(Quantity::SoilMoisture, depth), accepted: Some(stats), rejected: None }
    };
    let aggregates = vec![of(10), of(20)];
    Window { station: "n1".parse().unwrap(), start: start(number), length_s: 900, revision: 0, aggregates }
}

/// A model whose scores are `scale` times the mean of its channel, in this process.
fn mean(version: &str, scale: f32) -> Model {
    let bytes = Onnx::mean(scale).bytes();
    let golden = MEAN.map(|mean| mean * f64::from(scale));
    LoadedModel::verify(&bytes, &onnx::manifest(version, &bytes, &golden).to_toml().unwrap(), start(0)).unwrap().into()
}

/// A model that answers its golden sample, and gives no number below a mean of 0.24.
fn brittle() -> Onnx {
    Onnx::new().mean_to("mean").floats("least", &[1], &[0.24]).node("Sub", &["mean", "least"], "above", vec![]).node(
        "Log",
        &["above"],
        "scores",
        vec![],
    )
}

fn brittle_golden() -> [f64; FEATURES] {
    MEAN.map(|mean| (mean - 0.24).ln())
}

fn detector(active: Model) -> Detector {
    Detector::new(vec![(active, None)], RulesConfig::default(), Vec::new())
}

fn observe(detector: &mut Detector, numbers: std::ops::Range<i64>, moisture: f64) -> Vec<Alert> {
    numbers.flat_map(|number| detector.observe(&[window(number, moisture)])).collect()
}

fn report(detector: &Detector) -> SlotReport {
    detector.report().slots.remove(NAME).unwrap()
}

#[test]
fn a_version_in_shadow_raises_nothing_and_is_compared_from_its_first_window_on() {
    let mut detector = detector(mean("1.0.0", 1.0));
    observe(&mut detector, 0..10, 0.25);
    // Ten times as high: it would raise an alert of everything.
    let order = Order::Shadow { model: mean("1.1.0", 10.0), now: start(500), shadow_s: 3600, so_far: None };
    detector.obey(order);
    assert_eq!(report(&detector).shadow.unwrap().judged, None);
    assert_eq!(observe(&mut detector, 10..30, 0.25), []);
    let shadow = report(&detector).shadow.unwrap();
    assert_eq!(shadow.judged, Some(end(29)));
    assert_eq!(shadow.report.until, end(10).plus_secs(3600), "an hour from the first window that it judged");
    assert_eq!((shadow.report.windows, shadow.report.alerts, shadow.report.active_alerts), (20, 40, 0));
    assert_eq!(shadow.report.agreement, 0.0);
    assert!((shadow.report.mean_difference - 9.0 * 0.25).abs() < 0.1, "{shadow:?}");
    assert_eq!(detector.running()[0].version, "1.0.0");
}

#[test]
fn a_comparison_goes_on_after_a_restart() {
    let mut whole = detector(mean("1.0.0", 1.0));
    whole.obey(Order::Shadow { model: mean("1.1.0", 4.2), now: start(0), shadow_s: 7200, so_far: None });
    observe(&mut whole, 0..12, 0.237);
    let mut first = detector(mean("1.0.0", 1.0));
    first.obey(Order::Shadow { model: mean("1.1.0", 4.2), now: start(0), shadow_s: 7200, so_far: None });
    observe(&mut first, 0..5, 0.237);
    let so_far = Some(report(&first).shadow.unwrap().report);
    let mut second = detector(mean("1.0.0", 1.0));
    second.warm((0..5).map(|n| window(n, 0.237)));
    second.obey(Order::Shadow { model: mean("1.1.0", 4.2), now: start(99), shadow_s: 7200, so_far });
    observe(&mut second, 5..12, 0.237);
    let (one, two) = (report(&whole).shadow.unwrap().report, report(&second).shadow.unwrap().report);
    assert!(one.agreement > 0.0 && one.agreement < 1.0, "{one:?}");
    assert_eq!((one.windows, one.until, one.alerts), (two.windows, two.until, two.alerts));
    assert!((one.agreement - two.agreement).abs() < 1e-9 && (one.mean_difference - two.mean_difference).abs() < 1e-6);
}

#[test]
fn what_takes_over_judges_from_the_next_window_on_and_its_alerts_say_so() {
    let mut detector = detector(mean("1.0.0", 1.0));
    observe(&mut detector, 0..10, 0.25);
    detector.obey(Order::Shadow { model: mean("1.1.0", 10.0), now: start(10), shadow_s: 0, so_far: None });
    observe(&mut detector, 10..11, 0.25);
    detector.obey(Order::Activate { name: NAME.to_owned(), model: None });
    assert_eq!(report(&detector).shadow, None);
    assert_eq!(detector.running()[0].version, "1.1.0");
    let told = observe(&mut detector, 11..40, 0.25);
    let first = told.first().unwrap();
    assert_eq!((first.kind, first.model.as_deref()), (AlertKind::Anomaly, Some("test-model 1.1.0")));

    detector.obey(Order::Activate { name: NAME.to_owned(), model: Some(mean("1.0.0", 1.0)) });
    let told = observe(&mut detector, 40..70, 0.25);
    assert!(told.iter().all(|alert| alert.closed.is_some()), "the old version sees nothing wrong: {told:?}");
    assert_eq!(detector.open().count(), 0);
}

#[test]
fn when_a_version_fails_the_one_before_judges_the_same_windows() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = brittle().bytes();
    onnx::write(dir.path(), &bytes, &onnx::manifest("1.1.0", &bytes, &brittle_golden()));
    let program = RunnerProgram::at(env!("CARGO_BIN_EXE_gateway"));
    let runner = || Runner::start(&program, dir.path(), &RunnerLimits::default(), start(0)).unwrap();

    // One that was killed from outside, and one that gives what is no number.
    for (kill, moisture, reason) in [(true, 0.3, Reason::Crash), (false, 0.2, Reason::NotANumber)] {
        let mut detector = detector(mean("1.0.0", 5.0));
        let runner = runner();
        let (process, digest) = (runner.process_id(), runner.digest().to_owned());
        detector.obey(Order::Activate { name: NAME.to_owned(), model: Some(runner.into()) });
        assert_eq!(detector.running()[0].version, "1.1.0");
        observe(&mut detector, 0..4, 0.3);
        assert_eq!(report(&detector).failed, []);
        if kill {
            let process = nix::unistd::Pid::from_raw(i32::try_from(process).unwrap());
            nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        // Without a window between, the version before speaks: five times the mean is over the threshold.
        let told = observe(&mut detector, 4..30, moisture);
        assert_eq!(detector.running()[0].version, "1.0.0");
        let report = report(&detector);
        let failure = report.failed.first().unwrap();
        assert_eq!((failure.digest.as_str(), failure.reason), (digest.as_str(), reason), "{failure:?}");
        assert_ne!(report.active, digest);
        assert_eq!(told.first().and_then(|alert| alert.model.as_deref()), Some("test-model 1.0.0"), "{told:?}");
    }
}

#[test]
fn a_version_that_fails_in_shadow_is_dropped_and_the_active_one_does_not_notice() {
    let bytes = brittle().bytes();
    let manifest = onnx::manifest("1.1.0", &bytes, &brittle_golden()).to_toml().unwrap();
    let shadow = LoadedModel::verify(&bytes, &manifest, start(0)).unwrap();
    let mut detector = detector(mean("1.0.0", 1.0));
    detector.obey(Order::Shadow { model: shadow.into(), now: start(0), shadow_s: 3600, so_far: None });
    assert_eq!(observe(&mut detector, 0..20, 0.2), []);
    let report = report(&detector);
    assert_eq!((report.shadow, report.failed[0].reason), (None, Reason::NotANumber));
    assert_eq!(detector.running()[0].version, "1.0.0");
}

#[test]
fn a_model_that_takes_no_missing_values_is_asked_about_whole_samples_only() {
    let mut detector = detector(mean("1.0.0", 10.0));
    // Of the first three windows' four steps some are missing: the model would give what is no number.
    observe(&mut detector, 0..3, 0.25);
    assert_eq!(report(&detector).failed, []);
    let told = observe(&mut detector, 3..30, 0.25);
    assert_eq!(report(&detector).failed, []);
    assert!(!told.is_empty(), "from the fourth on it judges");
}

#[test]
fn what_the_gateway_cannot_feed_is_said_in_words() {
    let manifest = onnx::manifest("1.0.0", b"", &MEAN);
    assert_eq!(fits(&manifest, 900), Ok(()));
    assert_eq!(fits(&manifest, 300).unwrap_err(), "it needs windows of 900 s, and this gateway makes windows of 300 s");
    let mut long = manifest;
    long.input.steps = 193;
    assert_eq!(fits(&long, 900).unwrap_err(), "it looks back on 193 windows, and this gateway keeps 192");
}
