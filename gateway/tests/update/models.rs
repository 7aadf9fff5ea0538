//! Models in the real runner: good ones, those that it refuses, and those that go wrong only once they judge.

use proto::update::{Phase, Reason};
use proto::{Assignment, Manifest};
use std::sync::atomic::Ordering;

use crate::bench::{Bench, NAME, assignment, base, model};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_runner_refuses_is_refused_with_its_words() {
    let mut wrong = model("2.0.0", 1.2);
    wrong.1.golden[0].output[0] += 0.5;
    let half = model("2.1.0", 1.3).0;
    let half = half[..half.len() / 2].to_vec();
    let half = (half.clone(), onnx::manifest("2.1.0", &half, &MEAN));
    let mut large = model("2.2.0", 1.4);
    large.1.limits.max_memory_bytes = 1;
    let slow = Onnx::slow(128, 40).bytes();
    let mut slow = (slow.clone(), onnx::manifest("2.3.0", &slow, &MEAN));
    slow.1.limits.max_latency_ms = 1;
    let mut hourly = model("2.4.0", 1.5);
    hourly.1.input.window_s = 3_600;
    let cases = [
        (wrong, Reason::Golden, "expected 0.8"),
        (half, Reason::Unsupported, "is no ONNX model"),
        (large, Reason::Memory, "more than is left of the 1 bytes that its manifest allows"),
        (slow, Reason::Latency, "ms for one sample, more than the 1 ms that its manifest allows"),
        (hourly, Reason::Manifest, "it needs windows of 3600 s, and this gateway makes windows of 900 s"),
    ];
    let mut bench = Bench::new().await.with_runner();
    let mut gateway = bench.start();
    for (serial, (pushed, reason, words)) in cases.into_iter().enumerate() {
        bench.push(&pushed, serial as u64 + 1).await;
        let refusal = gateway.until_version_refused(reason).await;
        println!("| {} | {} |", refusal.reason, refusal.text);
        assert!(refusal.text.contains(words), "{words:?} is not in {:?}", refusal.text);
        assert_eq!(refusal.version, Some(pushed.1.version));
        assert_eq!(gateway.judging(), base().1.sha256);
    }
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
