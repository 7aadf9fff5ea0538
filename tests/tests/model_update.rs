//! A model that somebody pushes goes over the air, and takes over on the gateway; or it is refused, and everybody is told why.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use gateway::update::Journal;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tests::farm::{Farm, PATIENCE, Setup};
use tests::{models, oracle};

const NAME: &str = "soil-anomaly";

/// Runs `tilth model` against the farm's cloud.
async fn model(farm: &Farm, arguments: &[&str]) -> Output {
    let mut command = command(farm, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn command(farm: &Farm, arguments: &[&str]) -> Command {
    let mut command = Command::new(tests::tilth());
    command
        .arg("model")
        .args(arguments)
        .env("TILTH_CLOUD", format!("http://{}", farm.plan.cloud))
        .env("TILTH_EMAIL", tilth::farm::USER)
        .env("TILTH_PASSWORD", &farm.secrets.user);
    command
}

async fn succeeds(farm: &Farm, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let output = model(farm, &arguments).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}; gateway: {}", farm.log("gateway"));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks until the gateway's own report in the cloud holds.
async fn until(farm: &Farm, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let began = std::time::Instant::now();
    loop {
        let status: Option<Value> =
            sqlx::query_scalar("SELECT status -> 'update' FROM gateway").fetch_one(&farm.pool).await.unwrap();
        let status = status.unwrap_or_default();
        if holds(&status) {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: in vain, {status:#}; gateway: {}", farm.log("gateway"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How far the update to 1.1.0 has come.
fn step(active: Option<&str>, phase: Option<&str>) -> usize {
    let phases = ["fetching", "verified", "self_tested", "shadow"];
    match (active, phase) {
        (Some("1.1.0"), _) => ACTIVE,
        (_, Some(phase)) => 1 + phases.iter().position(|p| *p == phase).unwrap(),
        _ => 0,
    }
}

/// The last step.
const ACTIVE: usize = 5;

fn active(status: &Value) -> &str {
    status["models"][0]["active"]["version"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_model_takes_over_and_goes_back_and_no_window_is_lost_or_doubled() {
    // Two stations: what three see alike is the weather.
    let mut farm = Farm::new(Setup::new(2, 40)).await;
    farm.start_cloud().await;
    farm.start_gateway().await;
    let dir = tempfile::tempdir().unwrap();
    // So low a threshold that it finds something everywhere: its alerts say who judges.
    models::variant(dir.path(), "1.1.0", |manifest| manifest.threshold = 0.01);
    let pushed = succeeds(&farm, &["push", path(dir.path())]).await;
    assert_eq!((pushed["name"].as_str(), pushed["version"].as_str()), (Some(NAME), Some("1.1.0")));
    until(&farm, "the base model is active", |status| active(status) == "1.0.0").await;

    // The stations come when it is in shadow: what they send then runs through all that follows.
    let mut activate = command(&farm, &["activate", NAME, "1.1.0", "--shadow", "6h", "--wait", "--json"]);
    let activating = tokio::task::spawn_blocking(move || activate.output().unwrap());
    let phase = |status: &Value| status["models"][0]["candidate"]["phase"] == "shadow";
    until(&farm, "the new version is in shadow", phase).await;
    farm.start_node_sim().await;
    let output = activating.await.unwrap();
    assert!(output.status.success(), "{}; gateway: {}", String::from_utf8_lossy(&output.stderr), farm.log("gateway"));
    let after: Value = serde_json::from_slice(&output.stdout).unwrap();
    let status = &after["gateways"][0]["update"]["models"][0];
    assert_eq!(status["active"]["version"], "1.1.0");
    assert_eq!(status["previous"], "1.0.0");
    let why = status["active"]["why"].as_str().unwrap();
    assert!(why.contains("6 h"), "{why}");
    farm.sees("an alert of the new version", "SELECT count(*) FROM alert WHERE model = 'soil-anomaly 1.1.0'").await;

    let after = succeeds(&farm, &["rollback", NAME, "--wait"]).await;
    assert_eq!(after["gateways"][0]["update"]["models"][0]["active"]["version"], "1.0.0");

    farm.simulation_ends().await;
    let (_, made) = oracle::expected(&farm.truth());
    farm.tables_hold(made).await;
    oracle::check(&farm.pool, &farm.truth()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_on_however_often_the_gateway_is_killed() {
    let mut chance = ChaCha8Rng::seed_from_u64(20_261_124);
    let mut farm = Farm::start(Setup::new(6, 16)).await;
    let dir = tempfile::tempdir().unwrap();
    models::variant(dir.path(), "1.1.0", |_| {});
    succeeds(&farm, &["push", path(dir.path())]).await;
    until(&farm, "the base model is active", |status| active(status) == "1.0.0").await;
    succeeds(&farm, &["activate", NAME, "1.1.0", "--shadow", "3h"]).await;
    // Three deaths in a row without a step forward would be a crash loop, and refuse what is new: wait after two.
    let (mut reached, mut deaths) = (0, 0);
    for kill in 1.. {
        // The random moment itself: an update takes a few seconds, and is cut at another point each time.
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..1500))).await;
        farm.kill_gateway().await;
        let journal = Journal::open(&farm.plan.data_dir.join("gateway")).unwrap();
        let state = serde_json::to_value(&journal.states()[NAME]).unwrap();
        drop(journal);
        farm.start_gateway().await;
        let step = step(state["active"]["version"]["version"].as_str(), state["candidate"]["phase"].as_str());
        if step == ACTIVE {
            assert!(kill > 2, "only {kill} kills fitted in");
            break;
        }
        deaths = if step == reached { deaths + 1 } else { 1 };
        reached = step;
        if deaths == 2 {
            let of = |status: &Value| {
                let model = &status["models"][0];
                self::step(model["active"]["version"].as_str(), model["candidate"]["phase"].as_str())
            };
            until(&farm, "a step forward", |status| of(status) > reached).await;
        }
    }
    until(&farm, "the new version is active", |status| active(status) == "1.1.0").await;
    farm.simulation_ends().await;
    let (_, made) = oracle::expected(&farm.truth());
    farm.tables_hold(made).await;
    oracle::check(&farm.pool, &farm.truth()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_a_gateway_refuses_is_told_of_with_its_reason_everywhere() {
    let farm = Farm::start(Setup::new(3, 2)).await;
    let dir = tempfile::tempdir().unwrap();
    let folder = |version: &str| dir.path().join(version);
    until(&farm, "the base model is active", |status| active(status) == "1.0.0").await;
    models::variant(&folder("1.1.0"), "1.1.0", |manifest| manifest.golden[0].output[0] += 1.0);
    models::rebuilt(&folder("1.2.0"), "1.2.0", |onnx| models::bomb(onnx, 1 << 30), |_| {});
    models::rebuilt(
        &folder("1.3.0"),
        "1.3.0",
        |onnx| models::slow(onnx, 256, 40),
        |manifest| manifest.limits.max_latency_ms = 1,
    );
    models::rebuilt(&folder("1.4.0"), "1.4.0", models::strange, |_| {});
    let refused = [
        ("1.1.0", "golden", "golden sample 0, expected "),
        ("1.2.0", "memory", "GiB of memory, more than is left of the 64 MiB that its manifest allows"),
        ("1.3.0", "latency", "ms for one sample, more than the 1 ms that its manifest allows"),
        ("1.4.0", "unsupported", "operator Frobnicate of domain ai.onnx is not supported (node \"strange\")"),
    ];
    for (version, reason, words) in refused {
        succeeds(&farm, &["push", path(&folder(version))]).await;
        let output = model(&farm, &["activate", NAME, version, "--wait"]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{version}: {error}");
        let told = format!("refuses soil-anomaly {version} ({reason}): ");
        assert!(error.contains(&told) && error.contains(words), "{told:?} and {words:?} in {error}");
        println!("| {version} | {reason} | {} |", error.trim());
        let is_told = |status: &Value| {
            let refusal = &status["models"][0]["refusals"][0];
            let text = refusal["text"].as_str().unwrap_or_default();
            refusal["version"] == version && refusal["reason"] == reason && text.contains(words)
        };
        let status = until(&farm, "the refusal is told", is_told).await;
        assert_eq!((active(&status), &status["models"][0]["candidate"]), ("1.0.0", &Value::Null));
    }
    let shown = String::from_utf8(model(&farm, &["show", NAME]).await.stdout).unwrap();
    assert!(shown.contains("runs 1.0.0 since"), "{shown}");
    for (version, reason, words) in refused {
        let told = |line: &&str| line.contains(&format!("refused {version} at ")) && line.contains(words);
        let line = shown.lines().find(told).unwrap_or_else(|| panic!("{version} in {shown}"));
        assert!(line.contains(&format!("({reason}): ")), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_of_the_command_line_has_its_words_and_its_exit_code() {
    let mut farm = Farm::new(Setup::new(3, 1)).await;
    farm.start_cloud().await;
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name);
    models::variant(&folder("good"), "1.1.0", |_| {});
    models::variant(&folder("wrong"), "1.2.0", |manifest| {
        manifest.threshold = 0.0;
        manifest.tolerance = -1.0;
        manifest.input.steps = 0;
    });
    let told = async |arguments: &[&str], code: i32, said: &[&str]| {
        let output = model(&farm, arguments).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        for said in said {
            assert!(error.contains(said), "{arguments:?}: {said:?} in {error}");
        }
    };
    models::rebuilt(&folder("outside"), "1.3.0", models::outside, |_| {});
    let (good, wrong) = (folder("good"), folder("wrong"));
    told(&["push", path(&good)], 0, &[]).await;
    told(&["push", path(&good)], 1, &["soil-anomaly", "1.1.0", "exists"]).await;
    told(&["push", path(&wrong)], 1, &["threshold", "tolerance", "input.steps"]).await;
    let words = ["tensors are kept outside the file, which is not allowed", "\"elsewhere\" in \"weights.bin\""];
    told(&["push", path(&folder("outside"))], 1, &words).await;
    told(&["push", path(&folder("nothing"))], 2, &["cannot read", "nothing"]).await;
    told(&["show", "no-such-model"], 1, &["there is no model no-such-model"]).await;
    told(&["activate", NAME, "9.9.9"], 1, &["9.9.9"]).await;
    told(&["activate", NAME, "1.1.0", "--gateway", "barn"], 1, &["barn"]).await;
    told(&["rollback", NAME], 1, &["no version of soil-anomaly to go back to"]).await;
    told(&["activate", NAME, "1.1.0", "--shadow", "soon"], 2, &["not a duration"]).await;
    told(&["list", "--cloud", "http://127.0.0.1:9"], 3, &["does not answer"]).await;
    told(&["list", "--email", "nobody@example.org"], 4, &["does not let nobody@example.org in"]).await;
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
