//! Models in the real runner: good ones, those that it refuses, and those that go wrong only once they judge.

use std::sync::atomic::Ordering;

use proto::update::{Phase, Reason};
use proto::{Assignment, Manifest};
use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, NAME, assignment, base, model, until};
use crate::hostile::{Case, bombs, files, graphs};
use crate::onnx::{self, MEAN, Onnx, Trap};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_model_passes_its_self_test_in_a_child_and_judges() {
    let mut bench = Bench::new().await.with_runner();
    let good = model("1.1.0", 1.1);
    bench.repository.put_model(&good.0, &good.1);
    bench.assign(Assignment { shadow_s: 9_000, min_agreement: 0.9, ..assignment("1.1.0", &good.0, 1) }).await;
    let mut gateway = bench.start();
    gateway.until_phase(Phase::Shadow).await;
    let measured = gateway.status().models[0].candidate.as_ref().and_then(|candidate| candidate.self_test);
    assert!(measured.is_none_or(|measured| measured.memory_bytes > 0 && measured.wall_ms > 0), "{measured:?}");
    gateway.until_active("1.1.0").await;
    gateway.stop(&bench).await;
    bench.start().until_active("1.1.0").await;
}

/// Pushes one after the other to a gateway that runs, with the limits of all of them. Each is refused in its words while
/// the model that judges goes on undisturbed; a good one is taken afterwards.
async fn each_is_refused(cases: Vec<Case>) {
    let mut bench = Bench::new().await.with_limits(&cases[0].limits).with_runner();
    let mut gateway = bench.start();
    let active = gateway.until("started", |status| status.checked.is_some()).await.models.remove(0).active;
    assert_eq!((active.version.as_str(), &active.digest), ("1.0.0", &base().1.sha256));
    assert!(cases.iter().all(|case| case.limits == cases[0].limits));
    for (serial, mut case) in (1..).zip(cases) {
        case.manifest.version = format!("2.0.{serial}");
        let judged = gateway.judged();
        bench.push(&(case.onnx.clone(), case.manifest.clone()), serial).await;
        let refusal = gateway.until_settled(&case.manifest.version).await;
        let refusal = refusal.unwrap_or_else(|| panic!("{} is active", case.name));
        case.expect_of_gateway(refusal.reason, &refusal.text);
        assert_eq!(refusal.digest, Some(hex::encode(Sha256::digest(&case.onnx))), "{}", case.name);
        let model = gateway.status().models.remove(0);
        assert_eq!((model.active, model.candidate), (active.clone(), None), "{}", case.name);
        assert_eq!(gateway.judging(), active.digest, "{}", case.name);
        assert!(gateway.judged() > judged, "{}: no window was judged", case.name);
    }
    bench.push(&model("3.0.0", 1.1), 1_000).await;
    gateway.until_active("3.0.0").await;
    let judged = gateway.judged();
    until("the good version judges", || gateway.judged() > judged).await;
    gateway.stop(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_that_would_hang_flood_or_crash_it_are_refused_by_a_gateway_that_runs_on() {
    each_is_refused(bombs::all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_that_are_too_slow_for_a_strict_gateway_are_refused_by_it() {
    for case in bombs::of_other_limits() {
        each_is_refused(vec![case]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_models_are_refused_by_a_gateway_that_runs_on() {
    each_is_refused(files::all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_that_make_no_sense_here_are_refused_by_a_gateway_that_runs_on() {
    let words = ["it needs windows of 3600 s, and this gateway makes windows of 900 s"];
    let hourly = Case::new("windows of an hour", &Onnx::mean(1.0), Reason::Manifest, &words)
        .manifest(|manifest| manifest.input.window_s = 3_600);
    each_is_refused([graphs::all(), vec![hourly]].concat()).await;
}

fn trapped(trap: Trap) -> (Vec<u8>, Manifest) {
    let bytes = Onnx::trap(trap).bytes();
    let manifest = onnx::manifest("1.1.0", &bytes, &MEAN);
    (bytes, manifest)
}

const TRAPS: [(Trap, Reason); 4] = [
    (Trap::NotANumber, Reason::NotANumber),
    (Trap::Panic, Reason::Panic),
    (Trap::Memory, Reason::Memory),
    (Trap::Slow, Reason::Timeout),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_version_that_goes_wrong_is_rolled_back_and_no_window_goes_unjudged() {
    for (trap, reason) in TRAPS {
        let mut bench = Bench::new().await.with_runner();
        let pushed = trapped(trap);
        bench.push(&pushed, 1).await;
        let mut gateway = bench.start();
        gateway.until_active("1.1.0").await;
        // The bench's pipeline fails when a window is not judged.
        bench.storm.store(true, Ordering::Relaxed);
        let model = gateway.until_active("1.0.0").await;
        let refusal = model.refusals[0].clone();
        println!("| {} | {} |", refusal.reason, refusal.text);
        assert_eq!((refusal.reason, refusal.version.as_deref()), (reason, Some("1.1.0")), "{}", refusal.text);
        assert_eq!(model.active.why, format!("rolled back from 1.1.0: {}", refusal.text));
        gateway.kill().await;
        // The registry still wants it here, and it is not tried again.
        let mut gateway = bench.start();
        let status = gateway.until("read", |status| status.checked.is_some() && status.bytes > 0).await;
        assert_eq!((status.models[0].name.as_str(), &status.models[0].candidate), (NAME, &None));
        assert_eq!(gateway.judging(), base().1.sha256);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_in_shadow_that_goes_wrong_is_refused_and_harms_nobody() {
    for (trap, reason) in TRAPS {
        let mut bench = Bench::new().await.with_runner();
        let pushed = trapped(trap);
        bench.repository.put_model(&pushed.0, &pushed.1);
        bench.assign(Assignment { shadow_s: 15_552_000, ..assignment("1.1.0", &pushed.0, 1) }).await;
        let mut gateway = bench.start();
        gateway.until_phase(Phase::Shadow).await;
        bench.storm.store(true, Ordering::Relaxed);
        let refusal = gateway.until_version_refused(reason).await;
        assert_eq!(refusal.version.as_deref(), Some("1.1.0"));
        assert_eq!((gateway.status().models[0].active.version.as_str(), gateway.judging()), ("1.0.0", base().1.sha256));
    }
}
