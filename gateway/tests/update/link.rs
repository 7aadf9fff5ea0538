//! The link: what comes over it, and how often it may break.

use proto::update::Phase;

use crate::bench::{Bench, model, padded};
use crate::tuf::Fault;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_again_and_again_costs_one_download() {
    let mut bench = Bench::new().await;
    let next = padded("1.1.0", 1.1, 700_000);
    // Each answer breaks after a stretch; the gateway is restarted in between.
    bench.server.fault(".onnx", Fault::Cut(61_003));
    bench.push(&next, 1).await;
    let mut restarts = 0;
    loop {
        let mut gateway = bench.start();
        let before = on_disk(&bench);
        let went_on = |s: &proto::update::UpdateStatus| s.models[0].active.version == "1.1.0";
        let ended = tokio::select! {
            _ = gateway.until("active", went_on) => true,
            () = crate::bench::until("more is on disk", || on_disk(&bench) > before + 120_000) => false,
        };
        gateway.kill().await;
        if ended {
            break;
        }
        restarts += 1;
    }
    assert!(restarts >= 3, "{restarts} restarts");
    let size = (next.0.len() + next.1.to_toml().unwrap().len()) as u64;
    let sent = bench.server.sent();
    println!("{sent} bytes of bodies for {size} bytes of files, {restarts} restarts");
    // Metadata for each start, and at a kill what was on its way.
    assert!(sent < size + 20_000 * (restarts + 1), "{sent} bytes were sent for {size}");
}

/// Bytes of the model that is coming.
fn on_disk(bench: &Bench) -> u64 {
    let incoming = bench.dir.path().join("data/models/incoming");
    let entries = std::fs::read_dir(incoming).into_iter().flatten().flatten();
    entries.map(|dir| std::fs::metadata(dir.path().join("model.onnx.part")).map_or(0, |part| part.len())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_ranges_is_good_enough() {
    let mut bench = Bench::new().await;
    bench.server.fault(".onnx", Fault::NoRanges);
    // More than is asked for at once.
    bench.push(&padded("1.1.0", 1.1, 1_500_000), 1).await;
    bench.start().until_active("1.1.0").await;
    assert_eq!(bench.server.requests().iter().filter(|r| r.ends_with(".onnx")).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_beyond_the_budget_not_even_after_a_restart() {
    let mut bench = Bench::new().await;
    bench.config.bytes_per_hour = 1 << 20;
    bench.push(&padded("1.1.0", 1.1, 2_000_000), 1).await;
    bench.repository.put_model(&model("1.1.1", 1.1).0, &model("1.1.1", 1.1).1);
    let mut gateway = bench.start();
    gateway.until_phase(Phase::Fetching).await;
    gateway.until("the budget is used up", |status| status.bytes > 900_000).await;
    gateway.kill().await;
    let used = bench.server.sent();
    let mut gateway = bench.start();
    gateway.until("it goes on", |status| status.models[0].candidate.is_some()).await;
    let polls = |bench: &Bench| bench.server.requests().iter().filter(|r| r.ends_with("timestamp.json")).count();
    let before = polls(&bench);
    crate::bench::until("it has had time enough", || polls(&bench) >= before + 2).await;
    let status = gateway.status();
    assert!(status.models[0].candidate.as_ref().unwrap().fetched < 1 << 20);
    assert!(status.bytes <= (1 << 20) + 64_000, "{} bytes came", status.bytes);
    assert!(bench.server.sent() < used + 64_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_is_not_what_was_written_is_fetched_anew() {
    let mut bench = Bench::new().await;
    let next = padded("1.1.0", 1.1, 100_000);
    bench.server.fault(".onnx", Fault::Cut(50_000));
    bench.push(&next, 1).await;
    let mut gateway = bench.start();
    gateway.until_phase(Phase::Fetching).await;
    crate::bench::until("a part is on disk", || on_disk(&bench) > 40_000).await;
    gateway.kill().await;
    let name = format!("data/models/incoming/test-model-1.1.0-{}/model.onnx.part", next.1.sha256);
    let part = bench.dir.path().join(name);
    if part.exists() {
        let length = std::fs::metadata(&part).unwrap().len() as usize;
        std::fs::write(&part, vec![0; length]).unwrap();
    }
    bench.server.mend();
    bench.start().until_active("1.1.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_without_change_costs_next_to_nothing() {
    let mut bench = Bench::new().await;
    bench.push(&model("1.1.0", 1.1), 1).await;
    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
    let polls = |bench: &Bench| bench.server.requests().iter().filter(|r| r.ends_with("timestamp.json")).count();
    let (bytes, before) = (gateway.status().bytes, polls(&bench));
    crate::bench::until("two more polls", || polls(&bench) >= before + 3).await;
    gateway.until("counted", |status| status.bytes > bytes).await;
    let each = (gateway.status().bytes - bytes) / (polls(&bench) - before) as u64;
    println!("{each} bytes a poll without change; {bytes} bytes for everything until the version was active");
    assert!(each < 1_000, "{each} bytes");
    let snapshots = bench.server.requests().iter().filter(|r| r.ends_with("snapshot.json")).count();
    assert_eq!(snapshots, 1, "what has a version in its name came again");
}
