//! A cloud process (here a task) on a database of its own, with a farm, a gateway and a person.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cloud::api::types::Role;
use cloud::registry;
use cloud::registry::Publisher;
use cloud::setup::{self, FarmSpec, FieldSpec};
use cloud::{Config, RegistryConfig};
use proto::{FarmId, TimeScale, Timestamp, UplinkBatch};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{postgres, records, until};

/// The gateway's token.
pub const TOKEN: &str = "token-of-g1";

/// What the farm's clock shows when a test's cloud starts.
pub const NOW: &str = "2015-06-08T12:00:00Z";

/// The account that sees the farm "fallon".
pub const FARMER: (&str, &str) = ("farmer@example.org", "correct horse");

/// The account that sees the farm "elsewhere" only.
pub const STRANGER: (&str, &str) = ("stranger@example.org", "battery staple");

/// A running cloud, and a client that may be logged in.
pub struct Cloud {
    pub base: String,
    pub database_url: String,
    pub pool: PgPool,
    pub cookie: Option<String>,
    pub shutdown: CancellationToken,
    pub running: Option<JoinHandle<anyhow::Result<()>>>,
    keys: Arc<TempDir>,
    client: Client,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Cloud {
    /// A cloud with the farm "fallon" and its fields "north" and "south", the gateway "g1" and the farmer's account;
    /// the farmer is logged in. There is another farm, "elsewhere", that is not the farmer's. The registry is empty.
    pub async fn start() -> Self {
        let keys = Arc::new(tempfile::tempdir().unwrap());
        let mut cloud = Self::start_on(&postgres::database().await, keys).await;
        registry::create(&cloud.pool, &cloud.root_keys(), &cloud.online_keys()).await.unwrap();
        let (fallon, elsewhere) = (farm("fallon", "Fallon"), farm("elsewhere", "Elsewhere"));
        for farm in [&fallon, &elsewhere] {
            setup::create_or_update_farm(&cloud.pool, farm).await.unwrap();
        }
        let gateway = "g1".parse().unwrap();
        setup::create_gateway(&cloud.pool, &fallon.id, &gateway, "Barn", TOKEN).await.unwrap();
        for ((email, password), farm) in [(FARMER, &fallon), (STRANGER, &elsewhere)] {
            setup::create_user(&cloud.pool, email, password, Role::Admin, std::slice::from_ref(&farm.id))
                .await
                .unwrap();
        }
        cloud.cookie = Some(cloud.log_in(FARMER).await);
        cloud
    }

    /// Another process on the same database.
    pub async fn another(&self) -> Self {
        let mut other = Self::start_on(&self.database_url, self.keys.clone()).await;
        other.cookie.clone_from(&self.cookie);
        other
    }

    /// Another process, which has no keys of the registry.
    pub async fn without_keys(&self) -> Self {
        let mut other = Self::start_with(&self.database_url, self.keys.clone(), None).await;
        other.cookie.clone_from(&self.cookie);
        other
    }

    /// Where the key of the registry's root is.
    pub fn root_keys(&self) -> PathBuf {
        self.keys.path().join("root")
    }

    /// Where the other keys of the registry are.
    pub fn online_keys(&self) -> PathBuf {
        self.keys.path().join("online")
    }

    /// What signs for the registry.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(&self.online_keys())
    }

    async fn start_on(database_url: &str, keys: Arc<TempDir>) -> Self {
        let registry = RegistryConfig { online_keys: keys.path().join("online"), timestamp_days: 1 };
        Self::start_with(database_url, keys, Some(registry)).await
    }

    async fn start_with(database_url: &str, keys: Arc<TempDir>, registry: Option<RegistryConfig>) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let directory = tempfile::tempdir().unwrap();
        let ready_file = directory.path().join("ready.json");
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let wall = Timestamp::from_millis(wall.try_into().unwrap());
        let config = Config {
            database_url: database_url.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            ready_file: Some(ready_file.clone()),
            time: Some(TimeScale { wall, farm: records::time(NOW), speed: 1.0 }),
            database_connections: 8,
            registry,
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(cloud::run(config, shutdown.clone()));
        let ready = until("the cloud's start", async || {
            assert!(!running.is_finished(), "the cloud ended before it served");
            std::fs::read_to_string(&ready_file).ok()
        });
        let ready: Value = serde_json::from_str(&ready.await).unwrap();
        Self {
            base: format!("http://{}", ready["http"].as_str().unwrap()),
            database_url: database_url.to_owned(),
            pool: cloud::database::connect(database_url).await.unwrap(),
            cookie: None,
            shutdown,
            running: Some(running),
            keys,
            client: Client::new(),
        }
    }

    /// A request, with the session's cookie if somebody is logged in.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        }
    }

    /// Status and JSON of a GET.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// The JSON of a GET that must go well.
    pub async fn read(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Logs in, and gives the cookie.
    pub async fn log_in(&self, (email, password): (&str, &str)) -> String {
        let answer = self.try_log_in(email, password).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Tries to log in.
    pub async fn try_log_in(&self, email: &str, password: &str) -> Response {
        let body = serde_json::json!({ "email": email, "password": password });
        self.request(Method::POST, "/api/v1/login").json(&body).send().await.unwrap()
    }

    /// Sends a batch as the gateway does.
    pub async fn send(&self, batch: &UplinkBatch) -> (StatusCode, Value) {
        let body = zstd::encode_all(batch.encode().as_slice(), 3).unwrap();
        self.send_bytes(body, TOKEN).await
    }

    /// Sends a batch that must be stored, and gives the sequence of the answer.
    pub async fn store(&self, batch: &UplinkBatch) -> u64 {
        let (status, body) = self.send(batch).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["sequence"].as_u64().unwrap()
    }

    /// Sends any bytes as a batch.
    pub async fn send_bytes(&self, body: Vec<u8>, token: &str) -> (StatusCode, Value) {
        let request = self
            .request(Method::POST, "/api/v1/uplink")
            .bearer_auth(token)
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "zstd")
            .body(body);
        answer(request.send().await.unwrap()).await
    }

    /// Every row of the tables that ingest writes, as JSON in the order of their keys.
    pub async fn tables(&self) -> Vec<Value> {
        let mut tables = Vec::new();
        for table in TABLES {
            let rows = "SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text), '[]') FROM";
            let query = sqlx::AssertSqlSafe(format!("{rows} {table} t"));
            tables.push(sqlx::query_scalar::<_, Value>(query).fetch_one(&self.pool).await.unwrap());
        }
        tables
    }

    /// One number from the database.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.unwrap()
    }
}

const TABLES: [&str; 8] = [
    "reading",
    "station",
    "uplink_progress",
    "aggregate",
    "aggregate_hourly",
    "aggregate_daily",
    "latest_value",
    "alert",
];

/// Status and JSON of an answer; null when it has no body.
pub async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{status}");
    }
    let text = response.text().await.unwrap();
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
}

/// A farm with two fields.
pub fn farm(id: &str, name: &str) -> FarmSpec {
    let field = |id: &str, name: &str| FieldSpec {
        id: id.parse().unwrap(),
        name: name.to_owned(),
        crop: "alfalfa".to_owned(),
        soil: "sandy_loam".to_owned(),
        field_capacity: 0.23,
        wilting_point: 0.1,
        refill_point: 0.16,
    };
    FarmSpec {
        id: id.parse::<FarmId>().unwrap(),
        name: name.to_owned(),
        timezone: "America/Los_Angeles".to_owned(),
        latitude: 39.47,
        longitude: -118.78,
        fields: vec![field("north", "North"), field("south", "South")],
    }
}
