//! What the containers of deploy/compose.yaml do at their start, without containers: the same commands as processes, in a
//! private directory, with a private PostgreSQL. (`tests/compose` does it for real.)
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::tilth;
use tilth::postgres::Postgres;

/// Nothing in this test takes as long on any machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The volumes and the network of a farm.
struct Farm {
    dir: TempDir,
    postgres: Postgres,
    cloud: SocketAddr,
    mqtt: SocketAddr,
    status: SocketAddr,
}

/// A container's process. It ends with the test.
struct Container {
    process: Child,
    run: PathBuf,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Farm {
    fn new() -> Self {
        let dir = TempDir::with_prefix("tilth-test-").unwrap();
        // As root, PostgreSQL runs as a user who must be able to enter.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let postgres = Postgres::start(dir.path(), &dir.path().join("postgres.log")).unwrap();
        for volume in
            ["database", "setup", "root-keys", "online-keys", "farm", "pairing", "stations", "gateway", "node-sim"]
        {
            fs::DirBuilder::new().mode(0o700).create(dir.path().join(volume)).unwrap();
        }
        let url = postgres.url();
        let password = url.split_once("tilth:").unwrap().1.split_once('@').unwrap().0;
        fs::write(dir.path().join("database/password"), password).unwrap();
        Self { dir, postgres, cloud: free_address(), mqtt: free_address(), status: free_address() }
    }

    fn command(&self, run: &Path, arguments: &[&str]) -> Command {
        let url = self.postgres.url();
        let database = url.split_once('@').unwrap().1.split_once('/').unwrap().0;
        let mut command = Command::new(tilth());
        command
            .arg("container")
            .args(arguments)
            .env("TILTH_DIR", self.dir.path())
            .env("TILTH_RUN", run)
            .env("TILTH_DATABASE", database)
            .env("TILTH_LISTEN", self.cloud.to_string())
            .env("TILTH_CLOUD_URL", format!("http://{}", self.cloud))
            .env("TILTH_MQTT_LISTEN", self.mqtt.to_string())
            .env("TILTH_STATUS_LISTEN", self.status.to_string())
            .env("TILTH_BROKER", self.mqtt.to_string())
            .env("TILTH_STATIONS", "4")
            .env("TILTH_SPEED", "");
        command
    }

    fn finishes(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(self.dir.path(), arguments).output().unwrap();
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// Starts a container, and waits until its health check succeeds.
    fn start(&self, name: &str, arguments: &[&str]) -> Container {
        let run = self.dir.path().join("run").join(name);
        fs::create_dir_all(&run).unwrap();
        let mut process = self.command(&run, arguments).spawn().unwrap();
        let end = Instant::now() + PATIENCE;
        while !self.is_well(&run) {
            assert_eq!(process.try_wait().unwrap(), None, "{name} ended");
            assert!(Instant::now() < end, "{name} is not well within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Container { process, run }
    }

    fn is_well(&self, run: &Path) -> bool {
        self.command(run, &["health"]).stderr(Stdio::null()).status().unwrap().success()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_farm_comes_up_from_empty_volumes_and_replicas_have_stations_of_their_own() {
    let farm = tokio::task::spawn_blocking(Farm::new).await.unwrap();
    let early = farm.command(farm.dir.path(), &["gateway"]).output().unwrap();
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && said.contains("the setup makes it, and is to run first"), "{said}");

    let told = farm.finishes(&["setup"]);
    let password = farm.finishes(&["password"]);
    assert!(
        password.trim().len() >= 22 && told.contains(password.trim()),
        "the first start tells the password: {told}"
    );
    let again = farm.finishes(&["setup"]);
    assert!(!again.contains(password.trim()), "and no later one: {again}");
    assert_eq!(farm.finishes(&["password"]), password);

    let cloud = farm.start("cloud", &["cloud"]);
    let gateway = farm.start("gateway", &["gateway"]);
    let clock = fs::read_to_string(farm.dir.path().join("farm/clock.toml")).unwrap();
    farm.finishes(&["setup"]);
    assert_eq!(
        fs::read_to_string(farm.dir.path().join("farm/clock.toml")).unwrap(),
        clock,
        "a farm that runs has its clock"
    );
    let first = farm.start("node-sim-1", &["node-sim"]);
    let _second = farm.start("node-sim-2", &["node-sim"]);

    let pool = cloud::database::connect(&farm.postgres.url()).await.unwrap();
    let stations = async || -> Vec<String> {
        let all = sqlx::query_scalar("SELECT DISTINCT station_id FROM aggregate ORDER BY 1").fetch_all(&pool);
        all.await.unwrap()
    };
    let end = Instant::now() + PATIENCE;
    while stations().await.len() < 8 {
        assert!(Instant::now() < end, "only these have aggregates: {:?}", stations().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let config = fs::read_to_string(gateway.run.join("config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    let fields: Vec<&str> = config["field"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(fields, ["north", "east", "creek"], "the gateway decides on the first replica's fields");
    assert_eq!(stations().await, ["b-c1", "b-e1", "b-n1", "b-n2", "c1", "e1", "n1", "n2"]);

    // A replica that is started again is the one that it was.
    drop(first);
    let _first = farm.start("node-sim-1", &["node-sim"]);
    let credentials = fs::read_dir(farm.dir.path().join("stations")).unwrap().map(|e| e.unwrap().file_name());
    let credentials = credentials.map(|name| name.into_string().unwrap());
    // A replica that starts writes its own anew: beside it at first, and then in its place.
    let mut credentials: Vec<String> = credentials.filter(|name| !name.ends_with(".making")).collect();
    credentials.sort_unstable();
    assert_eq!(credentials, ["node-sim.1.toml", "node-sim.2.toml", "subscriber.toml"]);

    let rotated = farm.finishes(&["rotate", "online"]);
    assert!(rotated.contains("root is now version 2"), "{rotated}");
    let gateways_run = gateway.run.clone();
    drop(gateway);
    assert!(!farm.is_well(&gateways_run), "a tier that ended is not well");
    assert!(farm.is_well(&cloud.run));
    pool.close().await;
}
