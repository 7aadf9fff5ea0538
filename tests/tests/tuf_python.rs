//! The TUF project's own client (PyPI `tuf`) fetches from the registry what a gateway fetches, verifies it, and refuses what
//! was changed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloud::api::types::Activation;
use cloud::registry::{self, Publisher, Which, assign};
use cloud::setup::{self, FarmSpec};
use proto::{Assignments, FarmId, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tempfile::TempDir;
use tilth::postgres::Postgres;
use tilth::service::{Running, Service};

const TOKEN: &str = "token-of-barn";
const ASSIGNMENT: &str = "assignment.fallon.barn.json";

const CHANGE_A_BYTE: &str = "UPDATE blob SET bytes = set_byte(bytes, 100, 255 - get_byte(bytes, 100))
    WHERE sha256 IN (SELECT sha256 FROM model_version)";

const FORGET_THE_TIMESTAMP: &str = "DELETE FROM tuf_metadata
    WHERE role = 'timestamp' AND version = (SELECT max(version) FROM tuf_metadata WHERE role = 'timestamp')";

/// A cloud as a process of its own, with a registry that holds the base model and one after it.
struct Registry {
    pool: PgPool,
    url: String,
    cloud: Running,
    _postgres: Postgres,
    dir: TempDir,
}

impl Registry {
    async fn start() -> Self {
        let dir = TempDir::with_prefix("tilth-test-").unwrap();
        // As root, PostgreSQL runs as a user who must be able to enter.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let path = dir.path().to_owned();
        let postgres = tokio::task::spawn_blocking(move || Postgres::start(&path, &path.join("postgres.log")));
        let postgres = postgres.await.unwrap().unwrap();
        let pool = cloud::database::connect(&postgres.url()).await.unwrap();
        cloud::database::migrate(&pool).await.unwrap();
        let farm: FarmId = "fallon".parse().unwrap();
        let spec = FarmSpec {
            id: farm.clone(),
            name: "Fallon".to_owned(),
            timezone: "America/Los_Angeles".to_owned(),
            latitude: 39.47,
            longitude: -118.78,
            fields: Vec::new(),
        };
        setup::create_or_update_farm(&pool, &spec).await.unwrap();
        setup::create_gateway(&pool, &farm, &"barn".parse().unwrap(), "Barn", TOKEN).await.unwrap();

        let (root_keys, online_keys) = (dir.path().join("root"), dir.path().join("online"));
        registry::create(&pool, &root_keys, &online_keys).await.unwrap();
        let next = dir.path().join("next");
        tests::models::variant(&next, "1.1.0", |_| {});
        let publisher = Publisher::new(&online_keys);
        for folder in [&tests::models::base(), &next] {
            let (manifest, onnx) = files(folder);
            registry::push(&pool, &publisher, &manifest, &onnx, "tests").await.unwrap();
        }
        let change = assign::Change {
            farm: &farm,
            model: "soil-anomaly",
            by: "tests",
            now: Timestamp::from_secs(1_433_764_800),
        };
        let activation = Activation { version: "1.1.0".to_owned(), gateways: None, shadow_s: 3600, min_agreement: 0.9 };
        assign::activate(&pool, &publisher, &change, &activation).await.unwrap();
        fs::write(dir.path().join("root.json"), registry::root(&pool).await.unwrap()).unwrap();

        let service = Service {
            name: "cloud",
            program: tests::tilth(),
            config: dir.path().join("cloud.toml"),
            log: dir.path().join("cloud.log"),
            ready_file: dir.path().join("ready.json"),
        };
        let config = json!({
            "database_url": postgres.url(),
            "listen": "127.0.0.1:0",
            "ready_file": &service.ready_file,
            "registry": {"online_keys": &online_keys},
        });
        fs::write(&service.config, toml::to_string(&config).unwrap()).unwrap();
        let mut cloud = service.spawn().unwrap();
        let ready: Value = cloud.ready().await.unwrap();
        let url = format!("http://{}", ready["http"].as_str().unwrap());
        Self { pool, url, cloud, _postgres: postgres, dir }
    }

    /// What the client makes of these targets: what it printed, or else why it refused. It remembers what it saw in
    /// `memory`.
    fn fetch(&self, memory: &str, token: &str, names: &[&str]) -> Result<Value, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/tuf_client.py");
        let mut client = Command::new(tests::python::python());
        client.arg(script).args([&self.url, token]).arg(self.dir.path().join("root.json"));
        let output = client.arg(self.memory(memory)).args(names).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        match output.status.code() {
            Some(0) => Ok(serde_json::from_str(&said).unwrap()),
            Some(1) if !said.is_empty() => Err(said.trim().to_owned()),
            other => panic!("{other:?}: {said}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    fn memory(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn rotate(&self, which: Which) {
        let (root_keys, online_keys) = (self.dir.path().join("root"), self.dir.path().join("online"));
        registry::rotate(&self.pool, &root_keys, &online_keys, which).await.unwrap();
    }

    async fn run(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.unwrap();
    }
}

fn files(folder: &Path) -> (String, Vec<u8>) {
    (fs::read_to_string(folder.join("manifest.toml")).unwrap(), fs::read(folder.join("model.onnx")).unwrap())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_reference_client_fetches_verifies_and_refuses() {
    let registry = Registry::start().await;
    let names = ["soil-anomaly-1.1.0.onnx", "soil-anomaly-1.1.0.toml", ASSIGNMENT];
    let (manifest, onnx) = files(&registry.dir.path().join("next"));

    let fetched = registry.fetch("client", TOKEN, &names).unwrap();
    assert_eq!(fetched["root"], 1);
    let custom = json!({"kind": "model", "name": "soil-anomaly", "version": "1.1.0"});
    assert_eq!(fetched["targets"][names[0]], json!({"sha256": sha256(&onnx), "custom": custom}));
    assert_eq!(fetched["targets"][names[1]]["sha256"], sha256(manifest.as_bytes()));
    let assignment = fs::read(registry.memory("client").join("targets").join(ASSIGNMENT)).unwrap();
    let assigned = &Assignments::parse(&assignment).unwrap().models["soil-anomaly"];
    assert_eq!((assigned.version.as_str(), &assigned.sha256), ("1.1.0", &sha256(&onnx)));

    // Who was there before a rotation follows, and so does who trusts only the first root.
    registry.rotate(Which::Root).await;
    registry.rotate(Which::Online).await;
    for memory in ["client", "another client"] {
        let fetched = registry.fetch(memory, TOKEN, &names).unwrap();
        assert_eq!((&fetched["root"], &fetched["targets"][names[0]]["sha256"]), (&json!(3), &json!(sha256(&onnx))));
    }

    // Nobody reads without a token, and what is not signed is not there.
    let refused = registry.fetch("client", "somebody else's", &names).unwrap_err();
    assert!(refused.contains("401"), "{refused}");
    assert_eq!(
        registry.fetch("client", TOKEN, &["soil-anomaly-9.0.0.onnx"]).unwrap_err(),
        "there is no target soil-anomaly-9.0.0.onnx"
    );

    // A target that was changed where it lies, in one byte.
    registry.run("ALTER TABLE blob DROP CONSTRAINT blob_check").await;
    registry.run(CHANGE_A_BYTE).await;
    let refused = registry.fetch("a third client", TOKEN, &names[..1]).unwrap_err();
    assert!(refused.starts_with("LengthOrHashMismatchError"), "{refused}");
    registry.fetch("a third client", TOKEN, &names[1..]).expect("the others are as they were");

    // A timestamp older than the one that was seen, and one that a key signed which is no longer the timestamp's.
    let later = cloud::clock::wall().plus_secs(13 * 3600);
    let publisher = Publisher::new(&registry.dir.path().join("online"));
    assert!(registry::renew::renew(&registry.pool, &publisher, later).await.unwrap().is_some());
    registry.fetch("client", TOKEN, &names[1..]).unwrap();
    for expected in ["BadVersionNumberError", "UnsignedMetadataError"] {
        registry.run(FORGET_THE_TIMESTAMP).await;
        let refused = registry.fetch("client", TOKEN, &names[1..]).unwrap_err();
        assert!(refused.starts_with(expected), "{expected}: {refused}");
    }
    registry.cloud.stop().await.unwrap();
}
