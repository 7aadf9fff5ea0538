//! A whole farm as processes of its own, in a private directory, with a private PostgreSQL, on free loopback ports.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node_sim::config::{FarmConfig, Pace};
use node_sim::field::FieldConfig;
use proto::{TimeScale, Timestamp};
use sqlx::PgPool;
use tempfile::TempDir;
use tilth::farm::{Plan, Secrets, Services};
use tilth::postgres::Postgres;
use tilth::service::Running;

/// How long a condition is waited for before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// What a farm is to be like.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many stations.
    pub stations: u32,
    /// How many days are simulated, where the pace is not the clock's.
    pub days: i64,
    /// What sets the pace: what the gateway acknowledges, or the clock at `speed`, and then there is no end.
    pub pace: Pace,
    /// The fields; the simulator's own when there are none.
    pub fields: Vec<FieldConfig>,
    /// Faults, in a scenario's TOML.
    pub scenario: Option<String>,
    /// Measured weather.
    pub weather: Option<PathBuf>,
    /// When the farm's clock begins.
    pub start: Timestamp,
    /// How fast the clocks of gateway and cloud run.
    pub speed: f64,
    /// Whether the nodes take models over the air.
    pub node_models: bool,
}

impl Setup {
    /// A farm without faults under synthetic weather.
    #[must_use]
    pub fn new(stations: u32, days: i64) -> Self {
        Self {
            stations,
            days,
            pace: Pace::Acknowledged,
            fields: Vec::new(),
            scenario: None,
            weather: None,
            start: FarmConfig::default().start,
            speed: 240.0,
            node_models: false,
        }
    }
}

/// A farm that runs. Its processes end when it is dropped.
pub struct Farm {
    /// What it was set up with.
    pub plan: Plan,
    /// What people and programs sign in with.
    pub secrets: Secrets,
    /// The cloud's tables.
    pub pool: PgPool,
    /// The stations, while they run.
    pub node_sim: Option<Running>,
    /// The gateway, while it runs.
    pub gateway: Option<Running>,
    /// The cloud, while it runs.
    pub cloud: Option<Running>,
    services: Services,
    _postgres: Postgres,
    dir: TempDir,
}

impl Farm {
    /// Makes a farm: database, tables and configurations. Nothing else runs yet.
    pub async fn new(setup: Setup) -> Self {
        let dir = TempDir::with_prefix("tilth-test-").unwrap();
        // As root, PostgreSQL runs as a user who must be able to enter.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let path = dir.path().to_owned();
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(&path, &path.join("postgres.log")))
            .await
            .unwrap()
            .unwrap();
        let scenario = setup.scenario.map(|text| {
            let path = dir.path().join("scenario.toml");
            fs::write(&path, text).unwrap();
            path
        });
        let farm = FarmConfig {
            id: tilth::farm::FARM.parse().unwrap(),
            start: setup.start,
            stations: setup.stations,
            weather: setup.weather.into(),
            scenario,
            fields: setup.fields,
            ..FarmConfig::default()
        };
        let by_clock = setup.pace == Pace::Scale;
        let until = setup.start.plus_secs(setup.days * 86_400);
        // Without the clock's pace the clocks stand at the end already: no reading is from the future, however fast the
        // simulation is.
        let begins = if by_clock { setup.start } else { until };
        let plan = Plan {
            data_dir: dir.path().to_owned(),
            farm,
            time: TimeScale { wall: now(), farm: begins, speed: setup.speed },
            pace: setup.pace,
            until: (!by_clock).then_some(until),
            truth_readings: true,
            database_url: postgres.url(),
            cloud: free_address(),
            mqtt: free_address(),
            status: free_address(),
            node_models: setup.node_models,
        };
        let stations = plan.farm.station_names().into_iter().map(|(station, _)| station);
        let secrets = Secrets::open(dir.path(), stations).unwrap();
        plan.set_up_database(&secrets).await.unwrap();
        let services = plan.configure(&secrets, &crate::tilth()).unwrap();
        let pool = cloud::database::connect(&plan.database_url).await.unwrap();
        Self { plan, secrets, pool, node_sim: None, gateway: None, cloud: None, services, _postgres: postgres, dir }
    }

    /// Makes a farm and starts all of it.
    pub async fn start(setup: Setup) -> Self {
        let mut farm = Self::new(setup).await;
        farm.start_cloud().await;
        farm.start_gateway().await;
        farm.start_node_sim().await;
        farm
    }

    /// Starts the cloud.
    pub async fn start_cloud(&mut self) {
        self.cloud = Some(ready(&self.services.cloud).await);
    }

    /// Starts the gateway.
    pub async fn start_gateway(&mut self) {
        self.gateway = Some(ready(&self.services.gateway).await);
    }

    /// Starts the stations.
    pub async fn start_node_sim(&mut self) {
        self.node_sim = Some(ready(&self.services.node_sim).await);
    }

    /// Ends the gateway as a power cut would.
    pub async fn kill_gateway(&mut self) {
        self.gateway.take().unwrap().kill().await.unwrap();
    }

    /// Ends the stations as a power cut would.
    pub async fn kill_node_sim(&mut self) {
        self.node_sim.take().unwrap().kill().await.unwrap();
    }

    /// Ends the cloud as a power cut would.
    pub async fn kill_cloud(&mut self) {
        self.cloud.take().unwrap().kill().await.unwrap();
    }

    /// Waits until the simulation is at its end and everything is acknowledged.
    pub async fn simulation_ends(&mut self) {
        let mut node_sim = self.node_sim.take().unwrap();
        let status = tokio::time::timeout(PATIENCE, node_sim.ended()).await.expect("the simulation ends").unwrap();
        assert!(status.success(), "node-sim ended with {status}: {}", self.log("node-sim"));
    }

    /// Readings in the cloud's tables, accepted and rejected.
    pub async fn readings_in_tables(&self) -> i64 {
        sqlx::query_scalar("SELECT coalesce(sum(count + rejected), 0)::bigint FROM aggregate")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Of each station how many readings are in the tables, from the first window to the last.
    async fn stations_in_tables(&self) -> Vec<(String, i64, String, String)> {
        sqlx::query_as(
            "SELECT station_id, sum(count + rejected)::bigint, min(start)::text, max(start)::text FROM aggregate
                GROUP BY 1 ORDER BY 1",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until the tables hold as many readings as were made.
    pub async fn tables_hold(&self, readings: i64) {
        let began = Instant::now();
        loop {
            let there = self.readings_in_tables().await;
            if there == readings {
                return;
            }
            assert!(there < readings, "{there} readings in the tables, but only {readings} were made");
            if began.elapsed() >= PATIENCE {
                let stations = self.stations_in_tables().await;
                panic!(
                    "{there} of {readings} readings are in the tables: {stations:#?}; gateway: {}",
                    self.log("gateway")
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a query counts something.
    pub async fn sees(&self, what: &str, query: &'static str) {
        let began = Instant::now();
        while sqlx::query_scalar::<_, i64>(query).fetch_one(&self.pool).await.unwrap() == 0 {
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}; gateway: {}", self.log("gateway"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The truth log's directory.
    #[must_use]
    pub fn truth(&self) -> PathBuf {
        self.dir.path().join("truth")
    }

    /// The end of a tier's log.
    #[must_use]
    pub fn log(&self, tier: &str) -> String {
        tail(&self.dir.path().join(format!("log/{tier}.log")))
    }
}

async fn ready(service: &tilth::service::Service) -> Running {
    let mut running = service.spawn().unwrap();
    running.ready::<serde_json::Value>().await.unwrap();
    running
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A loopback address with a port that is free now.
#[must_use]
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// What the wall clock shows.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}
