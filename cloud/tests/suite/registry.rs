//! The registry as it is set up, served and kept alive.

use cloud::registry::metadata::Lifetimes;
use cloud::registry::{self, Publisher, Which, keys::KeyDir, renew};
use proto::Timestamp;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tough::schema::RoleType;

use crate::support::cloud::{Cloud, TOKEN, answer};
use crate::support::models::{Model, model, onnx};
use crate::support::until;

const DAY_S: i64 = 24 * 3600;

#[tokio::test]
async fn an_empty_registry_can_be_verified_from_its_first_root() {
    let cloud = Cloud::start().await;
    assert!(cloud.verified().await.names().is_empty());
    let root = registry::root(&cloud.pool).await.unwrap();
    assert_eq!(cloud.tuf("metadata/1.root.json").await.unwrap(), root);

    // Set up again, it stays as it is; with other keys it does not go on.
    registry::create(&cloud.pool, &cloud.root_keys(), &cloud.online_keys()).await.unwrap();
    assert_eq!(registry::root(&cloud.pool).await.unwrap(), root);
    assert_eq!(cloud.tuf_version("timestamp").await, 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let error = registry::create(&cloud.pool, &cloud.root_keys(), elsewhere.path()).await.unwrap_err().to_string();
    assert!(error.contains("there is no targets key that root version 1 of the registry names"), "{error}");
    let stranger = Publisher::new(elsewhere.path());
    let first = model("1.0.0");
    let error = registry::push(&cloud.pool, &stranger, &first.text(), &first.onnx, "tests").await.unwrap_err();
    assert!(error.to_string().contains("there is no targets key"), "{error}");
    assert_eq!(cloud.count("SELECT count(*) FROM blob").await, 0);
}

#[tokio::test]
async fn keys_that_a_broken_start_left_are_used() {
    let cloud = Cloud::start().await;
    let names = || {
        let files = std::fs::read_dir(cloud.online_keys()).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    assert_eq!(before.len(), 3);
    sqlx::query("DELETE FROM tuf_metadata").execute(&cloud.pool).await.unwrap();
    registry::create(&cloud.pool, &cloud.root_keys(), &cloud.online_keys()).await.unwrap();
    assert_eq!(names(), before);
    cloud.verified().await;
}

#[tokio::test]
async fn only_gateways_and_people_read_the_registry() {
    let mut cloud = Cloud::start().await;
    cloud.push(&model("1.0.0")).await;
    let digest = model("1.0.0").manifest.sha256;
    let paths = ["/tuf/metadata/timestamp.json".to_owned(), format!("/tuf/targets/{digest}.soil-anomaly-1.0.0.onnx")];
    let status = async |cloud: &Cloud, path: &str, token: Option<&str>| {
        let request = cloud.request(Method::GET, path);
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        let response = request.send().await.unwrap();
        if response.status().is_success() { response.status() } else { answer(response).await.0 }
    };
    for path in &paths {
        assert_eq!(status(&cloud, path, None).await, StatusCode::OK, "with a session");
        assert_eq!(status(&cloud, path, Some("another's")).await, StatusCode::UNAUTHORIZED, "a token counts before it");
    }
    cloud.cookie = None;
    for path in &paths {
        assert_eq!(status(&cloud, path, Some(TOKEN)).await, StatusCode::OK);
        assert_eq!(status(&cloud, path, None).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let cloud = Cloud::start().await;
    let none = "0".repeat(64);
    for path in [
        "metadata/2.root.json".to_owned(),
        "metadata/root.json".to_owned(),
        "metadata/01.root.json".to_owned(),
        "metadata/99999999999999999999.root.json".to_owned(),
        "metadata/9999999999999999999.root.json".to_owned(),
        "metadata/1.mirrors.json".to_owned(),
        "metadata/%00.json".to_owned(),
        format!("targets/{none}.soil-anomaly-1.0.0.onnx"),
        "targets/soil-anomaly-1.0.0.onnx".to_owned(),
        "targets/..%2F..%2Fetc%2Fpasswd".to_owned(),
    ] {
        let response = cloud.request(Method::GET, &format!("/tuf/{path}")).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer(response).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_target_is_served_in_parts() {
    let cloud = Cloud::start().await;
    // Longer than what is read from the database at a time, and no multiple of it.
    let mut file = onnx("1.0.0");
    let noise: Vec<u8> = (0..600_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    file.producer_name = noise.iter().map(|byte| char::from(byte % 64 + 32)).collect();
    let large = Model::of("soil-anomaly", "1.0.0", &file);
    cloud.push(&large).await;
    let (bytes, digest) = (&large.onnx, &large.manifest.sha256);
    let path = format!("/tuf/targets/{digest}.soil-anomaly-1.0.0.onnx");
    let etag = format!("\"{digest}\"");
    let get = async |headers: &[(header::HeaderName, &str)]| {
        let mut request = cloud.request(Method::GET, &path).bearer_auth(TOKEN);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.send().await.unwrap()
    };

    // Not compressed even where that is allowed, so that its length is known.
    let whole = get(&[(header::ACCEPT_ENCODING, "gzip")]).await;
    assert_eq!(whole.status(), StatusCode::OK);
    let length = bytes.len().to_string();
    for (name, value) in [
        (header::CONTENT_LENGTH, length.as_str()),
        (header::ETAG, &etag),
        (header::ACCEPT_RANGES, "bytes"),
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable"),
    ] {
        assert_eq!(whole.headers()[&name], value, "{name}");
    }
    assert_eq!(whole.bytes().await.unwrap(), bytes);

    let end = bytes.len() - 1;
    for (range, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=262143-262144", 262_143, 262_144),
        ("bytes=300000-", 300_000, end),
        ("bytes=-7", bytes.len() - 7, end),
        ("bytes=5-99999999", 5, end),
    ] {
        let part = get(&[(header::RANGE, range)]).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(part.headers()[header::CONTENT_RANGE], format!("bytes {from}-{to}/{length}"), "{range}");
        assert_eq!(part.headers()[header::CONTENT_LENGTH], (to - from + 1).to_string(), "{range}");
        assert_eq!(part.bytes().await.unwrap(), &bytes[from..=to], "{range}");
    }
    let beyond = get(&[(header::RANGE, &format!("bytes={length}-"))]).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.headers()[header::CONTENT_RANGE], format!("bytes */{length}"));

    // A download that goes on only if the file is still the same.
    let same = get(&[(header::RANGE, "bytes=9-"), (header::IF_RANGE, &etag)]).await;
    assert_eq!(same.status(), StatusCode::PARTIAL_CONTENT);
    let other = get(&[(header::RANGE, "bytes=9-"), (header::IF_RANGE, "\"another\"")]).await;
    assert_eq!(other.status(), StatusCode::OK);
    let known = get(&[(header::IF_NONE_MATCH, &etag)]).await;
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    assert!(known.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_has_the_timestamp_gets_no_body() {
    let cloud = Cloud::start().await;
    let get = async |known: Option<&str>| {
        let mut request = cloud.request(Method::GET, "/tuf/metadata/timestamp.json").bearer_auth(TOKEN);
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        request.send().await.unwrap()
    };
    let first = get(None).await;
    assert_eq!(first.headers()[header::CONTENT_TYPE], "application/json");
    assert!(first.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("no-cache"));
    let etag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(get(Some(&etag)).await.status(), StatusCode::NOT_MODIFIED);
    cloud.push(&model("1.0.0")).await;
    assert_eq!(get(Some(&etag)).await.status(), StatusCode::OK);
}

/// When a role's newest metadata ends.
async fn ends(cloud: &Cloud, file: &str) -> Timestamp {
    cloud.tuf_json(file).await["signed"]["expires"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn metadata_is_renewed_when_half_its_life_is_over() {
    let cloud = Cloud::start().await;
    cloud.push(&model("1.0.0")).await;
    let publisher = cloud.publisher();
    let end = ends(&cloud, "timestamp.json").await;
    let renew = async |now: Timestamp| renew::renew(&cloud.pool, &publisher, now).await.unwrap();

    assert_eq!(renew(end.plus_secs(-DAY_S / 2 - 1)).await, None);
    let half = end.plus_secs(-DAY_S / 2);
    assert_eq!(renew(half).await, Some(RoleType::Timestamp));
    assert_eq!(renew(half).await, None, "once");
    assert_eq!(ends(&cloud, "timestamp.json").await, half.plus_secs(DAY_S));
    assert_eq!((cloud.tuf_version("timestamp").await, cloud.tuf_version("snapshot").await), (3, 2));
    assert_eq!(cloud.verified().await.names().len(), 2);

    let targets_end = ends(&cloud, "2.targets.json").await;
    assert_eq!(renew(targets_end.plus_secs(-45 * DAY_S)).await, Some(RoleType::Targets));
    assert_eq!(cloud.tuf_version("targets").await, 3);
    let client = cloud.verified().await;
    assert_eq!(client.target("soil-anomaly-1.0.0.onnx").await, model("1.0.0").onnx);
    // Expiries are whole seconds: not every client reads fractions.
    let expires = cloud.tuf_json("timestamp.json").await["signed"]["expires"].as_str().unwrap().to_owned();
    assert_eq!(expires.len(), "2026-01-01T00:00:00Z".len(), "{expires}");
}

#[tokio::test]
async fn many_processes_renew_once_and_a_running_one_by_itself() {
    let cloud = Cloud::start().await;
    // A registry that was left alone for six days.
    let (root, online) = (tempfile::tempdir().unwrap(), Publisher::new(&cloud.online_keys()));
    sqlx::query("DELETE FROM tuf_metadata").execute(&cloud.pool).await.unwrap();
    let past = cloud::clock::wall().plus_secs(-6 * DAY_S);
    let lifetimes = Lifetimes { timestamp_days: 7 };
    let weekly = Publisher { lifetimes, ..online };
    registry::create_at(&cloud.pool, &KeyDir::new(root.path()), &weekly, past).await.unwrap();
    let now = past.plus_secs(4 * DAY_S);
    let renewals = (0..4).map(|_| renew::renew(&cloud.pool, &weekly, now));
    let renewed = futures_util::future::join_all(renewals).await;
    assert_eq!(renewed.into_iter().filter_map(Result::unwrap).count(), 1);

    // The end is now in five days, which is more than half of the one day that the next process gives it.
    let before = cloud.tuf_version("timestamp").await;
    assert_eq!(before, 2);
    sqlx::query("UPDATE tuf_metadata SET expires = now() + interval '11 hours' WHERE role = 'timestamp'")
        .execute(&cloud.pool)
        .await
        .unwrap();
    let _another = cloud.another().await;
    until("the renewal", async || (cloud.tuf_version("timestamp").await > before).then_some(())).await;
    let end = ends(&cloud, "timestamp.json").await;
    assert!(end > cloud::clock::wall().plus_secs(DAY_S - 60), "{end}");
}

#[tokio::test]
async fn old_metadata_is_forgotten_and_roots_are_not() {
    let cloud = Cloud::start().await;
    for _ in 0..20 {
        registry::rotate(&cloud.pool, &cloud.root_keys(), &cloud.online_keys(), Which::Root).await.unwrap();
    }
    assert!(cloud.tuf("metadata/1.snapshot.json").await.is_some(), "of the last day");
    sqlx::query("UPDATE tuf_metadata SET published = published - interval '2 days'")
        .execute(&cloud.pool)
        .await
        .unwrap();
    cloud.push(&model("1.0.0")).await;
    let newest = cloud.tuf_version("targets").await;
    assert_eq!(newest, 22);
    let there = async |version: u64| cloud.tuf(&format!("metadata/{version}.targets.json")).await.is_some();
    assert!(!there(newest - 16).await && there(newest - 15).await && there(newest).await);
    let client = cloud.verified().await;
    assert_eq!(client.repository.root().signed.version.get(), 21, "from the first, one after the other");
}

#[tokio::test]
async fn a_blob_is_what_its_digest_says() {
    let cloud = Cloud::start().await;
    let insert = "INSERT INTO blob (sha256, bytes) VALUES ($1, $2)";
    let digest: [u8; 32] = Sha256::digest(b"one").into();
    let wrong = sqlx::query(insert).bind(digest).bind(&b"another"[..]).execute(&cloud.pool).await.unwrap_err();
    assert!(wrong.to_string().contains("blob_check"), "{wrong}");
    sqlx::query(insert).bind(digest).bind(&b"one"[..]).execute(&cloud.pool).await.unwrap();
}

#[tokio::test]
async fn a_cloud_without_keys_serves_and_changes_nothing() {
    let cloud = Cloud::start().await;
    cloud.push(&model("1.0.0")).await;
    let reader = cloud.without_keys().await;
    assert_eq!(reader.verified().await.names().len(), 2);
    let second = model("1.1.0");
    let (status, problem): (_, Value) = reader.push_files(&second.text(), &second.onnx).await;
    assert_eq!((status, &problem["type"]), (StatusCode::SERVICE_UNAVAILABLE, &"urn:tilth:problem:read-only".into()));
}
