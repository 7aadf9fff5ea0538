//! Pushing models: registered as a whole or not at all, and never changed.

use cloud::api::types::Role;
use cloud::registry::{self, PushError};
use cloud::setup;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{StringStringEntryProto, TensorProto};

use crate::support::cloud::{Cloud, STRANGER, answer};
use crate::support::models::{Model, model, onnx};

/// Everything that a push changes.
async fn registry_rows(cloud: &Cloud) -> [i64; 4] {
    [
        cloud.count("SELECT count(*) FROM model_version").await,
        cloud.count("SELECT count(*) FROM blob").await,
        cloud.count("SELECT count(*) FROM tuf_metadata").await,
        cloud.count("SELECT max(version) FROM tuf_metadata WHERE role = 'timestamp'").await,
    ]
}

fn detail(problem: &Value) -> &str {
    problem["detail"].as_str().unwrap()
}

#[tokio::test]
async fn a_pushed_model_is_listed_and_served_as_it_came() {
    let cloud = Cloud::start().await;
    let first = model("1.0.0");
    let pushed = cloud.push(&first).await;
    assert_eq!(pushed["sha256"], first.manifest.sha256);
    assert_eq!(pushed["bytes"], first.onnx.len());
    assert_eq!(pushed["pushed_by"], "farmer@example.org");
    assert_eq!((&pushed["active_on"], &pushed["assigned_to"]), (&json!([]), &json!([])));
    assert_eq!(pushed["metrics"], json!({"held_out_loss": 0.25}));
    assert_eq!(pushed["features"], json!(["soil_moisture_10cm.mean", "soil_moisture_20cm.mean"]));
    assert_eq!(pushed["limits"]["max_latency_ms"], 50);

    let second = model("1.1.0").after("1.0.0");
    assert_eq!(cloud.push(&second).await["parent"], "1.0.0");
    let list = cloud.read("/api/v1/models").await;
    let versions: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["version"]).collect();
    assert_eq!(versions, ["1.1.0", "1.0.0"], "the newest first");
    assert_eq!(cloud.read("/api/v1/models/soil-anomaly/1.0.0").await, pushed);
    let manifest = cloud.request(Method::GET, "/api/v1/models/soil-anomaly/1.0.0/manifest").send().await.unwrap();
    assert_eq!(manifest.headers()["content-type"], "text/toml; charset=utf-8");
    assert_eq!(manifest.text().await.unwrap(), first.text());

    let client = cloud.verified().await;
    let names =
        ["soil-anomaly-1.0.0.onnx", "soil-anomaly-1.0.0.toml", "soil-anomaly-1.1.0.onnx", "soil-anomaly-1.1.0.toml"];
    assert_eq!(client.names(), names);
    assert_eq!(client.target("soil-anomaly-1.0.0.onnx").await, first.onnx);
    assert_eq!(client.target("soil-anomaly-1.1.0.toml").await, second.text().as_bytes());
    let (status, problem) = cloud.get("/api/v1/models/soil-anomaly/9.0.0").await;
    assert_eq!((status, detail(&problem)), (StatusCode::NOT_FOUND, "there is no model version \"soil-anomaly 9.0.0\""));
    for path in ["/api/v1/models/a%00b/1.0.0", "/api/v1/models/a/%00/manifest"] {
        assert_eq!(cloud.get(path).await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_version_does_not_change() {
    let cloud = Cloud::start().await;
    let first = model("1.0.0");
    cloud.push(&first).await;
    let before = registry_rows(&cloud).await;
    let (status, problem) = cloud.push_files(&first.text(), &first.onnx).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(detail(&problem), "soil-anomaly 1.0.0 exists already, with the same content; versions do not change");
    let other = Model::of("soil-anomaly", "1.0.0", &onnx("another"));
    let (status, problem) = cloud.push_files(&other.text(), &other.onnx).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(detail(&problem), "soil-anomaly 1.0.0 exists already, with other content; versions do not change");
    assert_eq!(registry_rows(&cloud).await, before);

    // What is there already is what was wanted, for who says so; other content is not.
    let push_if_new = async |model: &Model| {
        registry::push_if_new(&cloud.pool, &cloud.publisher(), &model.text(), &model.onnx, "tests").await
    };
    assert_eq!(push_if_new(&first).await.unwrap().pushed_by, "farmer@example.org");
    assert!(matches!(push_if_new(&other).await, Err(PushError::Exists { same: false, .. })));
    assert_eq!(push_if_new(&model("2.0.0")).await.unwrap().pushed_by, "tests");
}

#[tokio::test]
async fn every_mistake_is_named_at_once() {
    let cloud = Cloud::start().await;
    let before = registry_rows(&cloud).await;
    let mut wrong = model("1.0.0");
    wrong.manifest.version = "one".to_owned();
    wrong.manifest.threshold = -1.0;
    wrong.manifest.tolerance = 0.0;
    let (status, problem) = cloud.push_files(&wrong.text(), &wrong.onnx).await;
    assert_eq!((status, &problem["type"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("urn:tilth:problem:model")));
    for key in ["version: \"one\"", "threshold: -1.0", "tolerance: 0.0"] {
        assert!(detail(&problem).contains(key), "{key}: {problem}");
    }

    let good = model("1.0.0");
    let mut small = good.clone();
    small.manifest.limits.max_bytes = 7;
    let mut nul = good.clone();
    nul.manifest.trained_on = "a\0b".to_owned();
    let length = good.onnx.len();
    let mut broken = good.onnx.clone();
    broken.truncate(length - 5);
    for (manifest, onnx, expected) in [
        ("name = 7".to_owned(), good.onnx.clone(), "the manifest is not one"),
        (good.text(), model("1.0.1").onnx, "sha256: the manifest says"),
        (good.text(), broken, "the model is not an ONNX file"),
        (good.text(), Vec::new(), "the model has no graph"),
        (small.text(), good.onnx.clone(), &format!("limits.max_bytes: the file has {length} bytes, more than 7")),
        (nul.text(), good.onnx.clone(), "trained_on: holds a zero byte"),
        (good.clone().after("0.9.0").text(), good.onnx.clone(), "parent: there is no soil-anomaly 0.9.0"),
    ] {
        let (status, problem) = cloud.push_files(&manifest, &onnx).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{expected}: {problem}");
        assert!(detail(&problem).contains(expected), "{expected}: {problem}");
    }
    assert_eq!(registry_rows(&cloud).await, before);
}

#[tokio::test]
async fn a_model_that_refers_outside_itself_is_refused_by_name() {
    let cloud = Cloud::start().await;
    let mut file = onnx("1.0.0");
    let location = StringStringEntryProto { key: "location".to_owned(), value: "../../etc/passwd".to_owned() };
    let tensor = TensorProto {
        name: "weights".to_owned(),
        data_location: Some(DataLocation::External as i32),
        external_data: vec![location],
        ..TensorProto::default()
    };
    // Deep inside, where a branch's graph keeps its own tensors.
    let branch = tract_onnx::pb::GraphProto { initializer: vec![tensor], ..Default::default() };
    let attribute = tract_onnx::pb::AttributeProto { g: Some(branch), ..Default::default() };
    file.graph.as_mut().unwrap().node[0].attribute.push(attribute);
    let outside = Model::of("soil-anomaly", "1.0.0", &file);
    let (status, problem) = cloud.push_files(&outside.text(), &outside.onnx).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let expected = r#"tensors are kept outside the file, which is not allowed: "weights" in "../../etc/passwd""#;
    assert_eq!(detail(&problem), expected);

    let mut old = onnx("1.0.0");
    (old.ir_version, old.opset_import) = (1, Vec::new());
    let old = Model::of("soil-anomaly", "1.0.0", &old);
    let (_, problem) = cloud.push_files(&old.text(), &old.onnx).await;
    assert!(detail(&problem).contains("ir_version is 1") && detail(&problem).contains("opset_import"), "{problem}");
}

#[tokio::test]
async fn a_form_that_is_none_is_refused_and_limits_are_named() {
    let cloud = Cloud::start().await;
    let before = registry_rows(&cloud).await;
    let send = async |form: Form| {
        answer(cloud.request(Method::POST, "/api/v1/models").multipart(form).send().await.unwrap()).await
    };
    let (status, problem) = send(Form::new().text("manifest", "x")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("model")));
    let (status, problem) = send(Form::new().text("manifest", "x").text("manifest", "x")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("manifest")));
    let (status, problem) = send(Form::new().text("weights", "x")).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("weights")));
    let (status, _) =
        answer(cloud.request(Method::POST, "/api/v1/models").json(&json!({})).send().await.unwrap()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);

    let large = |bytes: usize| Part::bytes(vec![b' '; bytes]);
    let (status, problem) = send(Form::new().part("model", large((16 << 20) + 1))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(detail(&problem), "the model has more than the 16777216 bytes that are allowed");
    let (status, problem) = send(Form::new().part("manifest", large((4 << 20) + 1))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(detail(&problem).contains("4194304 bytes"), "{problem}");
    assert_eq!(registry_rows(&cloud).await, before);
}

#[tokio::test]
async fn only_operators_push() {
    let mut cloud = Cloud::start().await;
    let farm = "fallon".parse().unwrap();
    for (role, allowed) in
        [(Role::Viewer, false), (Role::Agronomist, false), (Role::Operator, true), (Role::Admin, true)]
    {
        let email = format!("{}@example.org", role.name());
        setup::create_user(&cloud.pool, &email, "secret", role, std::slice::from_ref(&farm)).await.unwrap();
        cloud.cookie = Some(cloud.log_in((&email, "secret")).await);
        let pushed = Model::of(role.name(), "1.0.0", &onnx("1"));
        let (status, answer) = cloud.push_files(&pushed.text(), &pushed.onnx).await;
        if allowed {
            assert_eq!((status, &answer["pushed_by"]), (StatusCode::CREATED, &json!(email)));
        } else {
            assert_eq!(status, StatusCode::FORBIDDEN);
            let expected = format!("this needs the role operator or admin, and {email} has the role {}", role.name());
            assert_eq!(detail(&answer), expected);
        }
    }
    cloud.cookie = None;
    assert_eq!(cloud.push_files("", b"").await.0, StatusCode::UNAUTHORIZED);
    // Whoever pushes, everybody sees it, and nobody what other farms run.
    cloud.cookie = Some(cloud.log_in(STRANGER).await);
    assert_eq!(cloud.read("/api/v1/models").await["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_push_that_breaks_off_leaves_nothing() {
    let cloud = Cloud::start().await;
    let before = registry_rows(&cloud).await;
    let first = model("1.0.0");
    let head = format!(
        "--b\r\nContent-Disposition: form-data; name=\"manifest\"\r\n\r\n{}\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n",
        first.text()
    );
    let whole = [head.as_bytes(), &first.onnx, b"\r\n--b--\r\n"].concat();
    let request = format!(
        "POST /api/v1/models HTTP/1.1\r\nhost: cloud\r\ncookie: {}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n",
        cloud.cookie.as_deref().unwrap(),
        whole.len()
    );
    let address = cloud.base.strip_prefix("http://").unwrap();
    for sent in [head.len(), whole.len() - 20, whole.len() - 3] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(&whole[..sent]).await.unwrap();
        stream.shutdown().await.unwrap();
        // The server answers or closes once it has understood that no more comes.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
    }
    assert_eq!(registry_rows(&cloud).await, before);
    cloud.push(&first).await;
}

#[tokio::test]
async fn a_push_whose_transaction_is_cut_leaves_nothing() {
    let cloud = Cloud::start().await;
    let before = registry_rows(&cloud).await;
    // Somebody else holds the timestamp's row-to-be, so that the push waits at its very end, with all else written.
    let next = before[3] + 1;
    let mut other = cloud.pool.begin().await.unwrap();
    let held = "INSERT INTO tuf_metadata VALUES ('timestamp', $1, '', now(), now())";
    sqlx::query(held).bind(next).execute(&mut *other).await.unwrap();
    let first = model("1.0.0");
    let text = first.text();
    let pushing = cloud.push_files(&text, &first.onnx);
    let waits = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO tuf_metadata%'";
    let cut = async {
        crate::support::until("the push to wait", async || {
            (cloud.pool.execute(waits).await.unwrap().rows_affected() == 1).then_some(())
        })
        .await;
    };
    let ((status, _), ()) = tokio::join!(pushing, cut);
    assert!(status.is_server_error(), "{status}");
    other.rollback().await.unwrap();
    assert_eq!(registry_rows(&cloud).await, before);
    assert!(cloud.verified().await.names().is_empty());
    cloud.push(&first).await;
    assert_eq!(cloud.verified().await.names().len(), 2);
}

#[tokio::test]
async fn two_processes_push_at_once() {
    let one = Cloud::start().await;
    let two = one.another().await;
    let models: Vec<Model> = (0..8).map(|n| Model::of(&format!("model-{n}"), "1.0.0", &onnx("1"))).collect();
    let pushes = models.iter().enumerate().map(|(n, model)| if n % 2 == 0 { one.push(model) } else { two.push(model) });
    futures_util::future::join_all(pushes).await;
    assert_eq!(one.verified().await.names().len(), 16);
    assert_eq!(two.read("/api/v1/models").await["items"].as_array().unwrap().len(), 8);
    assert_eq!(one.tuf_version("targets").await, 9, "a version for each push");

    // Of the same version only one is taken.
    let (same, other) = (model("1.0.0"), Model::of("soil-anomaly", "1.0.0", &onnx("another")));
    let (text, other_text) = (same.text(), other.text());
    let (a, b) = tokio::join!(one.push_files(&text, &same.onnx), two.push_files(&other_text, &other.onnx));
    let mut statuses = [a.0.as_u16(), b.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}
