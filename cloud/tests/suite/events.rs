//! Changes reach whoever looks, by whichever process.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::support::cloud::{Cloud, STRANGER};
use crate::support::records::{WindowExt as _, alert, alerts, birth, births, window, windows};
use crate::support::until;

/// A stream that a browser reads.
pub struct Stream {
    response: Response,
    unread: String,
}

impl Stream {
    pub async fn open(cloud: &Cloud, farm: &str) -> Self {
        let path = format!("/api/v1/farms/{farm}/events");
        let response = cloud.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, unread: String::new() }
    }

    /// Name and data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((event, rest)) = self.unread.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned());
                let found = field("event:").zip(field("data:"));
                self.unread = rest.to_owned();
                if let Some((name, data)) = found {
                    return Some((name, serde_json::from_str(&data).unwrap()));
                }
            }
            let more = tokio::time::timeout(Duration::from_secs(30), self.response.chunk()).await.expect("an event");
            self.unread += std::str::from_utf8(&more.ok()??).unwrap();
        }
    }

    pub async fn change(&mut self) -> Value {
        let (name, data) = self.next().await.unwrap();
        assert_eq!(name, "change");
        data
    }
}

#[tokio::test]
async fn a_change_that_another_process_stored_reaches_the_stream() {
    let stores = Cloud::start().await;
    let serves = stores.another().await;
    let mut stream = Stream::open(&serves, "fallon").await;
    let at = "2015-06-01T00:00:00Z";
    stores.store(&windows(1, ["n2", "n1"].map(|n| window(n, at).with("rain", &[1.0], &[])))).await;
    let change = stream.change().await;
    assert_eq!(
        change,
        serde_json::json!({"kind": "aggregates", "stations": ["n1", "n2"], "until": "2015-06-01T00:15:00Z"})
    );

    stores.store(&alerts(1, [alert("n1", at)])).await;
    assert_eq!(stream.change().await["kind"], "alerts");
    stores.store(&births(1, [birth("n1", at, None)])).await;
    assert_eq!(stream.change().await["kind"], "births");

    // What was there before changes nothing, and many stations are not listed.
    stores.store(&births(1, [birth("n1", at, None)])).await;
    stores.store(&windows(3, (0..150).map(|n| window(&format!("m{n}"), at).with("rain", &[1.0], &[])))).await;
    let change = stream.change().await;
    assert_eq!((&change["kind"], &change["stations"]), (&"aggregates".into(), &serde_json::json!([])));
}

#[tokio::test]
async fn a_stream_hears_of_its_own_farm_only() {
    let mut cloud = Cloud::start().await;
    let mut mine = Stream::open(&cloud, "fallon").await;
    cloud.cookie = Some(cloud.log_in(STRANGER).await);
    let mut theirs = Stream::open(&cloud, "elsewhere").await;
    cloud.store(&windows(1, [window("n1", "2015-06-01T00:00:00Z").with("rain", &[1.0], &[])])).await;
    assert_eq!(mine.change().await["stations"], serde_json::json!(["n1"]));
    cloud.shutdown.cancel();
    assert!(theirs.next().await.is_none(), "the end, and nothing before");
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let mut cloud = Cloud::start().await;
    let mut stream = Stream::open(&cloud, "fallon").await;
    cloud.shutdown.cancel();
    assert!(stream.next().await.is_none());
    let ended = tokio::time::timeout(Duration::from_secs(9), cloud.running.take().unwrap()).await;
    ended.expect("before requests are cut off").unwrap().unwrap();
}

#[tokio::test]
async fn a_database_that_went_and_came_back_is_heard_again() {
    let cloud = Cloud::start().await;
    let mut stream = Stream::open(&cloud, "fallon").await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text").fetch_one(&cloud.pool).await.unwrap();
    let postgres = sqlx::PgPool::connect(&cloud.database_url.replacen(&name, "postgres", 1)).await.unwrap();
    let run = async |statement: String| {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&postgres).await.unwrap();
    };

    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    run(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).await;
    let status = async |path: &str| cloud.request(Method::GET, path).send().await.unwrap().status();
    // The backends end one by one.
    for path in ["/readyz", "/api/v1/farms/fallon"] {
        until(path, async || (status(path).await == StatusCode::SERVICE_UNAVAILABLE).then_some(())).await;
    }
    assert_eq!(status("/healthz").await, StatusCode::OK);

    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    until("readiness to come back", async || (status("/readyz").await == StatusCode::OK).then_some(())).await;
    assert_eq!(stream.next().await.unwrap().0, "refresh");

    // From the refresh on nothing is missed: a change comes by itself, or, where the connection went once more meanwhile,
    // with another refresh.
    cloud.store(&windows(1, [window("n1", "2015-06-01T00:00:00Z").with("rain", &[1.0], &[])])).await;
    match stream.next().await.unwrap() {
        (name, change) if name == "change" => {
            assert_eq!(change["stations"], serde_json::json!(["n1"]));
        }
        (name, _) => assert_eq!(name, "refresh"),
    }
}
