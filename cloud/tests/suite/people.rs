//! Logging in, and what whom is shown.

use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::support::cloud::{Cloud, FARMER, STRANGER, answer};

#[tokio::test]
async fn a_person_logs_in_sees_their_farms_and_logs_out() {
    let mut cloud = Cloud::start().await;
    let logged_in = cloud.try_log_in("Farmer@Example.org ", FARMER.1).await;
    assert_eq!(logged_in.status(), StatusCode::NO_CONTENT);
    let cookie = logged_in.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["tilth_session=", "; HttpOnly", "; SameSite=Lax", "; Path=/", "; Max-Age=1209600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "plain HTTP: {cookie}");

    let me = cloud.read("/api/v1/me").await;
    assert_eq!(me, json!({"email": FARMER.0, "role": "admin", "farms": [{"id": "fallon", "name": "Fallon"}]}));
    let farms = cloud.read("/api/v1/farms").await;
    assert_eq!(farms, json!([{"id": "fallon", "name": "Fallon", "timezone": "America/Los_Angeles"}]));

    let out = cloud.request(Method::POST, "/api/v1/logout").send().await.unwrap();
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    assert!(out.headers()[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(cloud.get("/api/v1/me").await.0, StatusCode::UNAUTHORIZED);
    // The other session goes on.
    cloud.cookie = cookie.split(';').next().map(str::to_owned);
    cloud.read("/api/v1/me").await;
}

#[tokio::test]
async fn the_cookie_is_kept_to_https_behind_a_proxy() {
    let cloud = Cloud::start().await;
    let body = json!({"email": FARMER.0, "password": FARMER.1});
    let request = cloud.request(Method::POST, "/api/v1/login").header("x-forwarded-proto", "https").json(&body);
    let cookie = request.send().await.unwrap().headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_person_get_the_same_answer() {
    let cloud = Cloud::start().await;
    let wrong = answer(cloud.try_log_in(FARMER.0, "wrong").await).await;
    let unknown = answer(cloud.try_log_in("nobody@example.org", "wrong").await).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert_eq!(wrong, unknown);
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let cloud = Cloud::start().await;
    for _ in 0..10 {
        assert_eq!(cloud.try_log_in(FARMER.0, "wrong").await.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = cloud.try_log_in(FARMER.0, FARMER.1).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "300");
    assert_eq!(cloud.try_log_in(STRANGER.0, STRANGER.1).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_login_that_is_none_is_refused_by_field() {
    let cloud = Cloud::start().await;
    let send = async |body: &'static str| {
        let request = cloud.request(Method::POST, "/api/v1/login").header(header::CONTENT_TYPE, "application/json");
        answer(request.body(body).send().await.unwrap()).await
    };
    let (status, problem) = send(r#"{"email": "a@b.c"}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem["detail"].as_str().unwrap().contains("missing field `password`"), "{problem}");
    let (status, problem) = send(r#"{"email": "a\u0000b", "password": ""}"#).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &"email".into()));
    assert_eq!(send("{").await.0, StatusCode::BAD_REQUEST);
    let (status, problem) = answer(cloud.request(Method::POST, "/api/v1/login").body("{}").send().await.unwrap()).await;
    assert_eq!((status, &problem["field"]), (StatusCode::UNSUPPORTED_MEDIA_TYPE, &"content-type".into()));
}

#[tokio::test]
async fn an_expired_session_is_none() {
    let cloud = Cloud::start().await;
    sqlx::query("UPDATE session SET expires = now() - interval '1 second'").execute(&cloud.pool).await.unwrap();
    assert_eq!(cloud.get("/api/v1/me").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(cloud.get("/api/v1/farms/fallon").await.0, StatusCode::UNAUTHORIZED);
    // The next login sweeps it away.
    cloud.log_in(FARMER).await;
    assert_eq!(cloud.count("SELECT count(*) FROM session").await, 1);
}

/// Every path of the document that wants a session, with its parameters filled in.
fn paths_with_session(farm: &str) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(&cloud::api::openapi_json()).unwrap();
    let wants = |path: &serde_json::Value| path["get"]["security"] == json!([{"session": []}]);
    let paths = document["paths"].as_object().unwrap().iter().filter(|(_, path)| wants(path));
    let paths = paths.map(|(path, _)| path.replace("{farm}", farm).replace("{station}", "n1")).collect::<Vec<_>>();
    assert!(paths.len() > 8, "{paths:?}");
    paths
}

#[tokio::test]
async fn nobody_sees_anything_without_a_session() {
    let mut cloud = Cloud::start().await;
    for cookie in [None, Some("tilth_session=0123"), Some("tilth_session=")] {
        cloud.cookie = cookie.map(str::to_owned);
        for path in paths_with_session("fallon") {
            assert_eq!(cloud.get(&path).await.0, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
}

#[tokio::test]
async fn somebody_elses_farm_is_as_if_it_were_not_there() {
    let cloud = Cloud::start().await;
    for farm in ["elsewhere", "nowhere", "not%20a%20name", "%00", "%FF"] {
        for path in paths_with_session(farm).iter().filter(|path| path.contains("/farms/")) {
            let (status, problem) = cloud.get(path).await;
            let expected = if farm == "%FF" { StatusCode::BAD_REQUEST } else { StatusCode::NOT_FOUND };
            assert_eq!(status, expected, "{path} {problem}");
        }
    }
}
