//! Whoever owns the network, the server, or some of the keys. Each attack ends with the active model untouched and a status
//! that says what was expected and what came.

use std::collections::BTreeMap;

use proto::Assignments;
use proto::assignment::{manifest_target, model_target};
use proto::update::{Reason, Refusal};

use crate::bench::{Bench, Gateway, NAME, assignment, base, model, target};
use crate::tuf::{Fault, Key, Repository, Server, Signing};

/// A gateway that has read the registry and runs what it brought along.
async fn started(bench: &Bench) -> Gateway {
    let mut gateway = bench.start();
    gateway.until("the registry is read", |status| status.checked.is_some()).await;
    gateway
}

/// The status has the reason and these words, and the model is what it was.
fn expect(gateway: &Gateway, refusal: &Refusal, reason: Reason, words: &[&str]) {
    println!("| {} | {} |", refusal.reason, refusal.text);
    assert_eq!(refusal.reason, reason, "{}", refusal.text);
    for word in words {
        assert!(refusal.text.contains(word), "{word:?} is not in {:?}", refusal.text);
    }
    assert_eq!(gateway.judging(), base().1.sha256, "another model judges");
    assert_eq!(gateway.status().models[0].active.version, "1.0.0");
}

/// Serves another state of the registry, and waits until it is refused.
async fn served(bench: &Bench, repository: &Repository, reason: Reason, words: &[&str]) {
    let mut gateway = started(bench).await;
    bench.server.serve(repository);
    let refusal = gateway.until_refused().await;
    expect(&gateway, &refusal, reason, words);
    // Once the truth is back, newer than what was seen of it, all is well.
    let mut newer = bench.repository.clone();
    newer.publish(&Signing { versions: Some([9; 3]), ..Signing::default() }).await;
    bench.server.serve(&newer);
    gateway.until("well again", |status| status.refusal.is_none()).await;
}

/// Pushes a good model whose file the server then gets wrong, and waits until it is refused.
async fn fetched(ending: &str, fault: Fault, reason: Reason, words: &[&str]) {
    let mut bench = Bench::new().await;
    bench.server.fault(ending, fault);
    let next = model("1.1.0", 1.1);
    bench.push(&next, 1).await;
    let mut gateway = bench.start();
    let refusal = gateway.until_version_refused(reason).await;
    expect(&gateway, &refusal, reason, words);
    // A new assignment of the same version is tried, and goes well now.
    bench.server.mend();
    bench.assign(assignment("1.1.0", &next.0, 2)).await;
    gateway.until_active("1.1.0").await;
}

#[tokio::test]
async fn tampered_target() {
    let (mut onnx, _) = model("1.1.0", 1.1);
    onnx[20] ^= 1;
    fetched(".onnx", Fault::Instead(onnx), Reason::Digest, &["test-model-1.1.0.onnx: sha256 ", ", expected "]).await;
}

#[tokio::test]
async fn tampered_manifest() {
    let text = model("1.1.0", 1.1).1.to_toml().unwrap().replace("threshold = 1.0", "threshold = 9.0");
    fetched(".toml", Fault::Instead(text.into()), Reason::Digest, &["test-model-1.1.0.toml: sha256 "]).await;
}

#[tokio::test]
async fn truncated_target() {
    let onnx = model("1.1.0", 1.1).0;
    let half = onnx[..onnx.len() / 2].to_vec();
    let words = [format!("ends after {} bytes", half.len()), format!("expected {}", onnx.len())];
    fetched(".onnx", Fault::Instead(half), Reason::Truncated, &words.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn endless_target() {
    fetched(".onnx", Fault::Endless, Reason::TooLarge, &["test-model-1.1.0.onnx: does not end after "]).await;
}

#[tokio::test]
async fn target_that_the_server_does_not_have() {
    fetched(".onnx", Fault::Status(404), Reason::MissingTarget, &["the registry has no such file", "expected "]).await;
}

#[tokio::test]
async fn target_that_is_not_in_the_metadata() {
    let mut bench = Bench::new().await;
    let (onnx, manifest) = model("1.1.0", 1.1);
    bench.repository.put_model(&onnx, &manifest);
    bench.repository.take(&model_target(NAME, "1.1.0"));
    bench.assign(assignment("1.1.0", &onnx, 1)).await;
    let mut gateway = bench.start();
    let refusal = gateway.until_version_refused(Reason::MissingTarget).await;
    expect(&gateway, &refusal, Reason::MissingTarget, &["test-model-1.1.0.onnx: the registry signs no such target"]);
}

#[tokio::test]
async fn arbitrary_target() {
    let mut bench = Bench::new().await;
    let (other, manifest) = model("1.1.0", 1.2);
    bench.repository.put_model(&other, &manifest);
    bench.assign(assignment("1.1.0", &model("1.1.0", 1.1).0, 1)).await;
    let mut gateway = bench.start();
    let refusal = gateway.until_version_refused(Reason::Digest).await;
    expect(&gateway, &refusal, Reason::Digest, &["test-model-1.1.0.onnx: sha256 ", " is assigned"]);
}

#[tokio::test]
async fn target_that_says_it_is_something_else() {
    let mut bench = Bench::new().await;
    let (onnx, manifest) = model("1.1.0", 1.1);
    bench.repository.put_model(&onnx, &manifest);
    let said = [("kind", "model"), ("name", "other-model"), ("version", "1.1.0")];
    bench.repository.put(&model_target(NAME, "1.1.0"), &onnx, &said);
    bench.assign(assignment("1.1.0", &onnx, 1)).await;
    let mut gateway = bench.start();
    let refusal = gateway.until_version_refused(Reason::TargetName).await;
    expect(&gateway, &refusal, Reason::TargetName, &["its name is \"other-model\", expected \"test-model\""]);
}

#[tokio::test]
async fn expired_timestamp() {
    let bench = Bench::new().await;
    let mut later = bench.repository.clone();
    later.publish(&Signing { timestamp_expires_s: -3_600, ..Signing::default() }).await;
    served(&bench, &later, Reason::Expired, &["timestamp.json: it expired at 20", "expected one that is still valid"])
        .await;
}

#[tokio::test]
async fn older_timestamp() {
    let mut bench = Bench::new().await;
    let older = bench.repository.clone();
    bench.publish().await;
    served(&bench, &older, Reason::OlderVersion, &["timestamp.json: version 1, expected at least 2"]).await;
}

#[tokio::test]
async fn older_snapshot() {
    let mut bench = Bench::new().await;
    bench.publish().await;
    let mut older = bench.repository.clone();
    older.publish(&Signing { versions: Some([3, 1, 1]), ..Signing::default() }).await;
    served(&bench, &older, Reason::OlderVersion, &["timestamp.json 3: names snapshot 1, expected at least 2"]).await;
}

#[tokio::test]
async fn older_targets() {
    let mut bench = Bench::new().await;
    bench.publish().await;
    let mut older = bench.repository.clone();
    older.publish(&Signing { versions: Some([3, 3, 1]), ..Signing::default() }).await;
    served(&bench, &older, Reason::OlderVersion, &["names targets.json 1, expected at least 2"]).await;
}

#[tokio::test]
async fn older_timestamp_after_a_restart_on_torn_files() {
    let mut bench = Bench::new().await;
    let older = bench.repository.clone();
    bench.publish().await;
    started(&bench).await.kill().await;
    // What a power cut can do to files that were never synced.
    for file in ["timestamp.json", "snapshot.json", "root.json"] {
        std::fs::write(bench.dir.path().join("data/models/tuf").join(file), "").unwrap();
    }
    bench.server.serve(&older);
    let mut gateway = bench.start();
    let refusal = gateway.until_refused().await;
    expect(&gateway, &refusal, Reason::OlderVersion, &["expected at least 2"]);
}

#[tokio::test]
async fn mixed_versions() {
    let bench = Bench::new().await;
    let mut mixed = bench.repository.clone();
    let old = mixed.files["metadata/1.targets.json"].clone();
    mixed.put("something.bin", b"new", &[]);
    mixed.publish(&Signing::default()).await;
    mixed.files.insert("metadata/2.targets.json".to_owned(), old);
    served(&bench, &mixed, Reason::Mixed, &["2.targets.json: sha256 ", "but the file that names it signs "]).await;
}

#[tokio::test]
async fn mixed_versions_of_a_longer_file() {
    let bench = Bench::new().await;
    let mut mixed = bench.repository.clone();
    mixed.publish(&Signing::default()).await;
    let longer = mixed.files["metadata/2.targets.json"].repeat(2);
    mixed.files.insert("metadata/2.targets.json".to_owned(), longer);
    served(&bench, &mixed, Reason::Mixed, &["2.targets.json: more than the ", "bytes that snapshot.json signs"]).await;
}

#[tokio::test]
async fn signatures_below_the_threshold() {
    let bench = Bench::with_keys(2).await;
    let mut forged = bench.repository.clone();
    let one = forged.keys("targets")[..1].to_vec();
    forged.publish(&Signing { by: BTreeMap::from([("targets", one)]), ..Signing::default() }).await;
    let words = ["targets.json: 1 valid signatures by the keys of its role, expected 2"];
    served(&bench, &forged, Reason::Signatures, &words).await;
}

#[tokio::test]
async fn a_signature_that_does_not_fit() {
    let bench = Bench::new().await;
    let mut forged = bench.repository.clone();
    forged.publish(&Signing::default()).await;
    let timestamp = String::from_utf8(forged.files["metadata/timestamp.json"].clone()).unwrap();
    let later = timestamp.replace("\"version\": 2", "\"version\": 3");
    assert_ne!(timestamp, later);
    forged.files.insert("metadata/timestamp.json".to_owned(), later.into());
    served(&bench, &forged, Reason::Signatures, &["timestamp.json: 0 valid signatures", "expected 1"]).await;
}

#[tokio::test]
async fn key_of_another_role() {
    let bench = Bench::new().await;
    let mut forged = bench.repository.clone();
    let other = forged.keys("snapshot");
    forged.publish(&Signing { by: BTreeMap::from([("targets", other)]), ..Signing::default() }).await;
    served(&bench, &forged, Reason::WrongKey, &["targets.json: signed by key ", "which is of the role snapshot"]).await;
}

#[tokio::test]
async fn key_of_nobody() {
    let bench = Bench::new().await;
    let mut forged = bench.repository.clone();
    forged.publish(&Signing { by: BTreeMap::from([("timestamp", vec![Key::new()])]), ..Signing::default() }).await;
    served(&bench, &forged, Reason::WrongKey, &["timestamp.json: signed by key ", "which is of no role"]).await;
}

async fn faulty(ending: &str, fault: Fault, reason: Reason, words: &[&str]) {
    let bench = Bench::new().await;
    let mut gateway = started(&bench).await;
    let before = gateway.status().bytes;
    bench.server.fault(ending, fault);
    let refusal = gateway.until_refused().await;
    expect(&gateway, &refusal, reason, words);
    assert!(gateway.status().bytes - before < 1 << 20, "{} bytes came", gateway.status().bytes - before);
    bench.server.mend();
    gateway.until("well again", |status| status.refusal.is_none()).await;
}

#[tokio::test]
async fn endless_metadata() {
    let words = ["timestamp.json: more than 16384 bytes came"];
    faulty("timestamp.json", Fault::Endless, Reason::EndlessMetadata, &words).await;
}

#[tokio::test]
async fn endless_root() {
    faulty("root.json", Fault::Endless, Reason::EndlessMetadata, &["2.root.json: more than 65536 bytes came"]).await;
}

#[tokio::test]
async fn slow_server() {
    let words = ["timestamp.json: ", " bytes in 1 s, expected at least 1000"];
    faulty("timestamp.json", Fault::Trickle, Reason::Slow, &words).await;
}

#[tokio::test]
async fn malformed_metadata() {
    faulty("timestamp.json", Fault::Instead(b"{\"signed\": [}".to_vec()), Reason::Malformed, &["timestamp.json: "])
        .await;
}

#[tokio::test]
async fn a_server_that_is_out_of_order() {
    let words = ["timestamp.json: the registry answered 503 Service Unavailable, expected 200 OK"];
    faulty("timestamp.json", Fault::Status(503), Reason::Unavailable, &words).await;
}

#[tokio::test]
async fn a_server_that_is_away() {
    let mut bench = Bench::new().await;
    let mut gateway = started(&bench).await;
    let elsewhere = Server::start(&bench.repository).await;
    drop(std::mem::replace(&mut bench.server, elsewhere));
    let refusal = gateway.until_refused().await;
    expect(&gateway, &refusal, Reason::Unavailable, &["2.root.json: "]);
}

#[tokio::test]
async fn a_path_in_a_targets_name() {
    for name in ["../../etc/passwd", "/etc/passwd", "a/b.onnx"] {
        let bench = Bench::new().await;
        let mut forged = bench.repository.clone();
        forged.put(name, b"root::0:0", &[]);
        forged.publish(&Signing::default()).await;
        let shown = format!("targets.json: a target is named {name:?}, expected letters, digits");
        served(&bench, &forged, Reason::TargetName, &[&shown]).await;
    }
}

#[tokio::test]
async fn a_targets_name_that_is_no_name() {
    let bench = Bench::new().await;
    let mut forged = bench.repository.clone();
    forged.put("victim.bin", b"x", &[]);
    forged.publish(&Signing::default()).await;
    let named = String::from_utf8(forged.files["metadata/2.targets.json"].clone()).unwrap().replace("victim.bin", "..");
    let mut forged = bench.repository.clone();
    forged.publish_raw_targets(named.into_bytes()).await;
    served(&bench, &forged, Reason::TargetName, &["targets.json: ", "target name '..' is unsafe"]).await;
}

#[tokio::test]
async fn a_manifest_with_three_mistakes() {
    let mut bench = Bench::new().await;
    let (onnx, mut manifest) = model("1.1.0", 1.1);
    (manifest.threshold, manifest.tolerance, manifest.limits.max_bytes) = (-1.0, 0.0, 0);
    bench.repository.put_model(&onnx, &manifest);
    bench.assign(assignment("1.1.0", &onnx, 1)).await;
    let mut gateway = bench.start();
    let refusal = gateway.until_version_refused(Reason::Manifest).await;
    let words = ["test-model-1.1.0.toml: ", "threshold: -1.0", "tolerance: 0.0", "limits.max_bytes: 0"];
    expect(&gateway, &refusal, Reason::Manifest, &words);
}

#[tokio::test]
async fn a_manifest_of_another_model() {
    let mut bench = Bench::new().await;
    let (onnx, _) = model("1.1.0", 1.1);
    let text = model("1.2.0", 1.2).1.to_toml().unwrap();
    bench.repository.put_model_with(NAME, "1.1.0", &onnx, &text);
    bench.assign(assignment("1.1.0", &onnx, 1)).await;
    let mut gateway = bench.start();
    let refusal = gateway.until_version_refused(Reason::Manifest).await;
    expect(&gateway, &refusal, Reason::Manifest, &["version: \"1.2.0\", expected \"1.1.0\"; sha256: "]);
    assert!(
        !bench.server.requests().iter().any(|r| r.ends_with(&model_target(NAME, "1.1.0"))),
        "the rest came for nothing"
    );
    assert!(bench.server.requests().iter().any(|r| r.ends_with(&manifest_target(NAME, "1.1.0"))));
}

#[tokio::test]
async fn an_assignment_with_mistakes() {
    let mut bench = Bench::new().await;
    let mut wrong = assignment("1.x", b"", 0);
    wrong.min_agreement = 2.0;
    let assignments = Assignments { models: [("../evil".to_owned(), wrong)].into() };
    bench.repository.put(&target(), assignments.to_json().as_bytes(), &[]);
    bench.publish().await;
    let mut gateway = bench.start();
    let refusal = gateway.until_refused().await;
    let words = ["assignment.f.g.json: ", "models.../evil", "version: \"1.x\"", "serial: 0", "min_agreement: 2.0"];
    expect(&gateway, &refusal, Reason::Assignment, &words);
}

#[tokio::test]
async fn a_wrong_token() {
    let mut bench = Bench::new().await;
    bench.token = "another".to_owned();
    let mut gateway = bench.start();
    let refusal = gateway.until_refused().await;
    expect(&gateway, &refusal, Reason::Unavailable, &["the registry answered 401 Unauthorized, expected 200 OK"]);
}
