//! The dashboard, the API's page, health and metrics.

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::support::cloud::Cloud;
use crate::support::records::{WindowExt as _, window, windows};

async fn get(cloud: &Cloud, path: &str) -> Response {
    cloud.request(Method::GET, path).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn every_path_of_the_dashboards_own_is_its_page() {
    let cloud = Cloud::start().await;
    for path in ["/", "/index.html", "/farms/fallon", "/farms/fallon/stations/n1?days=7"] {
        let page = get(&cloud, path).await;
        assert_eq!(page.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&page, "content-type"), "text/html", "{path}");
        assert_eq!(header(&page, "cache-control"), "no-cache", "{path}");
        assert_eq!(header(&page, "x-content-type-options"), "nosniff");
        assert_eq!(header(&page, "x-frame-options"), "DENY");
        assert!(header(&page, "content-security-policy").starts_with("default-src 'self';"));
        assert!(page.text().await.unwrap().contains("<title>"), "{path}");
    }
}

#[tokio::test]
async fn assets_never_change_and_are_there_or_not() {
    let cloud = Cloud::start().await;
    let page = get(&cloud, "/").await.text().await.unwrap();
    let assets: Vec<&str> = page.split('"').filter(|text| text.starts_with("/assets/")).collect();
    assert!(!assets.is_empty(), "{page}");
    for path in assets {
        let asset = get(&cloud, path).await;
        assert_eq!(asset.status(), StatusCode::OK, "{path}");
        assert_eq!(header(&asset, "cache-control"), "public, max-age=31536000, immutable", "{path}");
    }
    assert_eq!(get(&cloud, "/assets/gone-123.js").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_the_api_does_not_have_is_a_problem_and_no_page() {
    let cloud = Cloud::start().await;
    for path in ["/api", "/api/v1/fields", "/api/v2/me"] {
        let (status, problem) = cloud.get(path).await;
        assert_eq!((status, &problem["value"]), (StatusCode::NOT_FOUND, &path.into()));
    }
    for (method, path) in [
        (Method::DELETE, "/api/v1/me"),
        (Method::POST, "/farms/fallon"),
        (Method::GET, "/api/v1/login"),
        (Method::POST, "/metrics"),
    ] {
        let response = cloud.request(method, path).send().await.unwrap();
        let (status, problem) = crate::support::cloud::answer(response).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(problem["type"], "urn:tilth:problem:method");
    }
    let answer = get(&cloud, "/api/v1/me").await;
    assert_eq!(header(&answer, "cache-control"), "no-store");
}

#[tokio::test]
async fn the_api_describes_itself() {
    let cloud = Cloud::start().await;
    let document = cloud.read("/api/openapi.json").await;
    assert_eq!(document, serde_json::from_str::<Value>(&cloud::api::openapi_json()).unwrap());
    let page = get(&cloud, "/api/docs").await;
    assert_eq!(page.status(), StatusCode::OK);
    let page = page.text().await.unwrap();
    assert!(page.contains("swagger-ui"), "{page}");
    let script = get(&cloud, "/api/docs/swagger-initializer.js").await.text().await.unwrap();
    assert!(script.contains("/api/openapi.json"), "{script}");
    assert_eq!(get(&cloud, "/api/docs/swagger-ui-bundle.js").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn health_and_readiness_are_said() {
    let cloud = Cloud::start().await;
    assert_eq!(get(&cloud, "/healthz").await.status(), StatusCode::OK);
    assert_eq!(get(&cloud, "/readyz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_requests_and_what_was_stored_and_refused() {
    let cloud = Cloud::start().await;
    let batch =
        windows(1, [window("n1", "2015-06-01T00:00:00Z").with("rain", &[1.0], &[]).with("pressure", &[9e2], &[])]);
    cloud.store(&batch).await;
    cloud.store(&batch).await;
    cloud.send_bytes(vec![1, 2, 3], crate::support::cloud::TOKEN).await;
    cloud.read("/api/v1/farms/fallon").await;
    get(&cloud, "/no/such/page").await;

    let answer = get(&cloud, "/metrics").await;
    assert!(header(&answer, "content-type").starts_with("application/openmetrics-text"));
    let text = answer.text().await.unwrap();
    for line in [
        r#"tilth_cloud_ingest_batches_total{lane="aggregates"} 1"#,
        r#"tilth_cloud_ingest_repeated_batches_total{lane="aggregates"} 1"#,
        r#"tilth_cloud_ingest_records_total{lane="aggregates"} 1"#,
        r#"tilth_cloud_ingest_rows_total{lane="aggregates"} 2"#,
        r#"tilth_cloud_ingest_refusals_total{reason="body"} 1"#,
        r#"tilth_cloud_http_requests_total{method="GET",route="/api/v1/farms/{farm}",status="200"} 1"#,
        r#"tilth_cloud_http_requests_total{method="POST",route="/api/v1/uplink",status="400"} 1"#,
        r#"tilth_cloud_http_requests_total{method="GET",route="dashboard",status="200"} 1"#,
        r#"tilth_cloud_http_latency_seconds_count{route="/api/v1/uplink"} 3"#,
        r#"tilth_cloud_event_streams 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(text.contains("tilth_cloud_database_connections{state=\"idle\"}"));
}
