//! An update's life, from the registry to the pipeline and back.

use gateway::update::{Journal, Starter};
use proto::Assignment;
use proto::update::{Phase, Reason};

use crate::bench::{Bench, NAME, assignment, base, model};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pushed_version_runs_in_shadow_and_then_takes_over() {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.001);
    bench.repository.put_model(&next.0, &next.1);
    let wanted = Assignment { shadow_s: 36_000, min_agreement: 0.9, ..assignment("1.1.0", &next.0, 1) };
    bench.assign(wanted).await;
    let mut gateway = bench.start();
    gateway.until_phase(Phase::Shadow).await;
    assert_eq!(gateway.status().models[0].active.version, "1.0.0");
    let model = gateway.until_active("1.1.0").await;
    assert_eq!(model.active.why, "activated after 10 h in shadow, 100.0 % agreement");
    assert_eq!(model.previous.as_deref(), Some("1.0.0"));
    assert_eq!(model.candidate, None);
    gateway.stop(&bench).await;

    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_goes_on_after_a_restart_until_its_end() {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.001);
    bench.repository.put_model(&next.0, &next.1);
    bench.assign(Assignment { shadow_s: 864_000, ..assignment("1.1.0", &next.0, 1) }).await;
    let mut gateway = bench.start();
    gateway
        .until("compared", |s| s.models[0].candidate.as_ref().is_some_and(|c| c.shadow.is_some_and(|s| s.windows > 3)))
        .await;
    let since = gateway.status().models[0].candidate.as_ref().unwrap().since;
    gateway.kill().await;
    let mut gateway = bench.start();
    let again = gateway
        .until("compared again", |s| {
            s.models[0].candidate.as_ref().is_some_and(|c| c.shadow.is_some_and(|s| s.windows > 3))
        })
        .await;
    assert_eq!(again.models[0].candidate.as_ref().unwrap().since, since);
    assert_eq!(gateway.until_active("1.1.0").await.active.why, "activated after 240 h in shadow, 100.0 % agreement");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_disagrees_is_refused_with_both_numbers() {
    let mut bench = Bench::new().await;
    // It sees an anomaly in the channel whose mean is 0.5, and the active one does not.
    let next = model("1.1.0", 3.0);
    bench.repository.put_model(&next.0, &next.1);
    bench.assign(Assignment { shadow_s: 9_000, min_agreement: 0.9, ..assignment("1.1.0", &next.0, 1) }).await;
    let mut gateway = bench.start();
    let refusal = gateway.until_version_refused(Reason::Agreement).await;
    assert!(refusal.text.starts_with("agreed with the active version on 50.0 % of the scores of"), "{}", refusal.text);
    assert!(refusal.text.ends_with("expected at least 90.0 %"), "{}", refusal.text);
    assert_eq!(gateway.judging(), base().1.sha256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_version_comes_back_without_a_byte_of_it() {
    let mut bench = Bench::new().await;
    let versions = [model("1.1.0", 1.1), model("1.2.0", 1.2)];
    bench.push(&versions[0], 1).await;
    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
    bench.push(&versions[1], 2).await;
    gateway.until_active("1.2.0").await;
    let fetched = |bench: &Bench| bench.server.requests().iter().filter(|r| r.ends_with(".onnx")).count();
    let before = fetched(&bench);
    bench.assign(assignment("1.1.0", &versions[0].0, 3)).await;
    let model = gateway.until_active("1.1.0").await;
    assert_eq!((model.previous.as_deref(), fetched(&bench)), (Some("1.2.0"), before));
    // And so does the one that the gateway brought along.
    bench.push(&base(), 4).await;
    gateway.until_active("1.0.0").await;
    assert_eq!(fetched(&bench), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_version_that_fails_is_rolled_back_and_stays_so() {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.1);
    bench.push(&next, 1).await;
    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
    gateway.kill().await;
    // From now on it cannot be started: as if the runtime had changed under it.
    bench.starter = Starter::with(
        |_, since| {
            let (onnx, manifest) = base();
            gateway::model::LoadedModel::verify(&onnx, &manifest.to_toml().unwrap(), since).map(Into::into)
        },
        |_, _| Err(gateway::model::ModelError::new(Reason::Unsupported, "operator \"New\" is not known")),
    );
    let data_dir = bench.dir.path().join("data");
    let mut journal = Journal::open(&data_dir).unwrap();
    let manifest = base().1;
    let bases = [gateway::update::Base { name: NAME.to_owned(), version: manifest.version, digest: manifest.sha256 }];
    let now = proto::Timestamp::from_secs(1_800_000_000);
    let run = journal.startup(&data_dir, &bases, now).unwrap().remove(0);
    let error = bench.starter.start(&run.name, &run.place, now).unwrap_err();
    let instead = journal.could_not_start(&data_dir, &run, error.reason(), error.to_string(), now).unwrap().unwrap();
    assert_eq!((instead.version.version.as_str(), &instead.place), ("1.0.0", &gateway::update::Place::Base));
    drop(journal);
    let mut gateway = bench.start();
    let model = gateway.until("read", |status| status.checked.is_some()).await.models.remove(0);
    assert_eq!(model.active.why, "rolled back from 1.1.0: operator \"New\" is not known");
    assert_eq!((model.refusals[0].reason, model.candidate), (Reason::Unsupported, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_stay_up_with_a_new_version_goes_back() {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.1);
    bench.push(&next, 1).await;
    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
    gateway.kill().await;
    for _ in 1..3 {
        let mut gateway = bench.start();
        gateway.until_active("1.1.0").await;
        gateway.kill().await;
    }
    let mut gateway = bench.start();
    let model = gateway.until_active("1.0.0").await;
    assert_eq!(model.refusals[0].reason, Reason::CrashLoop);
    assert_eq!(model.refusals[0].text, "the gateway did not stay up 3 times in a row, expected it to stay up");
    // A gateway that ends well is not in a loop.
    gateway.stop(&bench).await;
    bench.push(&model_of("1.2.0"), 2).await;
    let mut gateway = bench.start();
    gateway.until_active("1.2.0").await;
    gateway.stop(&bench).await;
    for _ in 0..4 {
        let mut gateway = bench.start();
        gateway.until_active("1.2.0").await;
        gateway.stop(&bench).await;
    }
}

fn model_of(version: &str) -> (Vec<u8>, proto::Manifest) {
    model(version, 1.2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_rotted_on_disk_are_not_run() {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.1);
    bench.push(&next, 1).await;
    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
    gateway.kill().await;
    let file = bench.dir.path().join(format!("data/models/versions/{NAME}-1.1.0-{}/model.onnx", next.1.sha256));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut gateway = bench.start();
    let model = gateway.until_active("1.0.0").await;
    assert_eq!(model.refusals[0].reason, Reason::Digest);
    assert!(model.refusals[0].text.contains(&format!("expected {}", next.1.sha256)), "{}", model.refusals[0].text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assignment_that_changes_or_goes_drops_what_was_under_way() {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.1);
    bench.repository.put_model(&next.0, &next.1);
    bench.assign(Assignment { shadow_s: 15_552_000, ..assignment("1.1.0", &next.0, 1) }).await;
    let mut gateway = bench.start();
    gateway.until_phase(Phase::Shadow).await;
    bench.repository.take(&crate::bench::target());
    bench.publish().await;
    gateway.until("dropped", |status| status.models[0].candidate.is_none()).await;
    assert_eq!(gateway.judging(), base().1.sha256);
    let versions = bench.dir.path().join("data/models/versions");
    crate::bench::until("its files go", || std::fs::read_dir(&versions).unwrap().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_rotated_are_followed_and_rollback_is_still_seen() {
    let mut bench = Bench::new().await;
    let next = model("1.1.0", 1.1);
    bench.repository.rotate().await;
    bench.push(&next, 1).await;
    let mut gateway = bench.start();
    gateway.until_active("1.1.0").await;
    gateway.kill().await;
    let older = tuf_at(&bench, 2).await;
    bench.server.serve(&older);
    let mut gateway = bench.start();
    let refusal = gateway.until_refused().await;
    assert_eq!(refusal.reason, Reason::OlderVersion, "{}", refusal.text);
    let asked = bench.server.requests().iter().filter(|r| r.ends_with("2.root.json")).count();
    assert_eq!(asked, 1, "the root that was trusted is where it goes on");
}

/// The same repository with older metadata, signed by the right keys.
async fn tuf_at(bench: &Bench, version: u64) -> crate::tuf::Repository {
    let mut older = bench.repository.clone();
    older.publish(&crate::tuf::Signing { versions: Some([version; 3]), ..Default::default() }).await;
    older
}
