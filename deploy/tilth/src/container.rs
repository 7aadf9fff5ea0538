//! What a container does at its start: it takes what the setup left in the volumes, writes its tier's configuration, and is
//! that tier from then on, as process 1.
//!
//! Four services run: PostgreSQL, `cloud`, `gateway` and `node-sim`. Before them runs a job, [`setup`], that brings the
//! tables up to date and makes whatever secret is missing. It alone sees the root key and the first user's password; each
//! tier's volumes hold no more than the tier needs.
//!
//! | below the directory | what | setup | cloud | gateway | node-sim |
//! | --- | --- | --- | --- | --- | --- |
//! | `database/password` | PostgreSQL's password, which its own container makes | reads | reads | | |
//! | `setup/` | the first user's password, and the others | writes | | | |
//! | `root-keys/` | the registry's root key | writes | | | |
//! | `online-keys/` | the registry's other keys | writes | reads | | |
//! | `farm/` | the farm's clock, the registry's root to trust | writes | reads | reads | reads |
//! | `pairing/token` | the gateway's token at the cloud | writes | | reads | |
//! | `stations/` | credentials files: who may report to the gateway | writes | | writes | writes |
//! | `gateway/` | the gateway's store | | | writes | |
//! | `node-sim/` | the simulated stations' state, a folder for each replica | reads | | | writes |
//!
//! What runs holds `farm/lock` shared, so that the setup sees whether the farm runs, and sets its clock only when not.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use gateway::config::CloudConfig;
use gateway::credentials::Role;
use gateway::door::DoorConfig;
use gateway::update::UpdatesConfig;
use node_sim::config::FarmConfig;
use node_sim::onboard::NodeConfig;
use proto::TimeScale;
use serde::{Deserialize, Serialize};

use crate::registry::{Keyring, Keys};
use crate::{farm, secret, serve, station};

mod setup;
mod slot;

/// Farm time over real time when nobody says: a day passes in two minutes.
const SPEED: f64 = 720.0;
/// How long a health check waits for an answer.
const HEALTH: Duration = Duration::from_secs(3);
/// The name of PostgreSQL's user and database.
const DATABASE: &str = "tilth";

/// The start of a container.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    #[command(subcommand)]
    command: Command,
    /// Below which the volumes are mounted
    #[arg(long, env = "TILTH_DIR", value_name = "DIR", default_value = "/var/lib/tilth", global = true)]
    dir: PathBuf,
    /// Where the configuration is written, and what says that the tier is ready; empty at the start
    #[arg(long, env = "TILTH_RUN", value_name = "DIR", default_value = "/run/tilth", global = true)]
    run: PathBuf,
    /// PostgreSQL's host and port
    #[arg(long, env = "TILTH_DATABASE", value_name = "HOST:PORT", default_value = "postgres:5432", global = true)]
    database: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the tables up to date, make the secrets that are missing, and set the farm's clock
    Setup(setup::SetupArgs),
    /// Print the first user's password; works where the setup's volume is mounted
    Password,
    /// Make new keys for the registry; works where the setup's volumes are mounted
    Rotate {
        /// Which keys
        which: Keyring,
    },
    /// Be the cloud
    Cloud(ListenArgs),
    /// Be the gateway
    Gateway(GatewayArgs),
    /// Be simulated stations, in the first place that no other replica has
    NodeSim(NodeSimArgs),
    /// Succeed when this container's tier is well
    Health,
}

#[derive(Debug, Args)]
struct ListenArgs {
    /// Where the dashboard and the API are served
    #[arg(long, env = "TILTH_LISTEN", value_name = "ADDRESS", default_value_t = everywhere(8080))]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
struct GatewayArgs {
    /// Where stations connect
    #[arg(long, env = "TILTH_MQTT_LISTEN", value_name = "ADDRESS", default_value_t = everywhere(1883))]
    mqtt: SocketAddr,
    /// Where the gateway's own page is served
    #[arg(long, env = "TILTH_STATUS_LISTEN", value_name = "ADDRESS", default_value_t = everywhere(8090))]
    status: SocketAddr,
    /// The cloud's address
    #[arg(long, env = "TILTH_CLOUD_URL", value_name = "URL", default_value = "http://cloud:8080")]
    cloud: String,
    #[command(flatten)]
    simulated: SimulatedArgs,
}

#[derive(Debug, Args)]
struct NodeSimArgs {
    /// The gateway's host and port
    #[arg(long, env = "TILTH_BROKER", value_name = "HOST:PORT", default_value = "gateway:1883")]
    broker: String,
    #[command(flatten)]
    simulated: SimulatedArgs,
    /// Write every reading to the truth log: 20 bytes each
    #[arg(long, env = "TILTH_TRUTH", default_value_t = false, action = clap::ArgAction::Set)]
    truth: bool,
}

#[derive(Debug, Args)]
struct SimulatedArgs {
    /// Stations of one replica of node-sim
    #[arg(long, env = "TILTH_STATIONS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    stations: u32,
}

const fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// What a simulated farm of this deployment is, but for its stations.
fn simulated(start: proto::Timestamp, seed: u64) -> anyhow::Result<FarmConfig> {
    Ok(FarmConfig { id: farm::FARM.parse()?, start, seed, ..FarmConfig::default() })
}

/// The volumes, as this container sees them.
#[derive(Debug, Clone)]
struct Volumes {
    dir: PathBuf,
    run: PathBuf,
    database: String,
}

/// The farm as the setup describes it to the tiers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    /// When a simulated farm began.
    began: proto::Timestamp,
    /// The chance that it was begun with.
    seed: u64,
    /// How its clock runs.
    time: TimeScale,
}

impl Volumes {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn keys(&self) -> Keys {
        Keys { root: self.at("root-keys"), online: self.at("online-keys") }
    }

    /// The root that the gateway trusts.
    fn pinned_root(&self) -> PathBuf {
        self.at("farm/root.json")
    }

    fn ready_file(&self) -> PathBuf {
        self.run.join("ready.json")
    }

    fn clock(&self) -> anyhow::Result<Clock> {
        let path = self.at("farm/clock.toml");
        let text = fs::read_to_string(&path).with_context(|| not_set_up(&path))?;
        toml::from_str(&text).with_context(|| format!("{} is not a farm's clock", path.display()))
    }

    fn database_url(&self) -> anyhow::Result<String> {
        let path = self.at("database/password");
        let password = fs::read_to_string(&path).with_context(|| not_set_up(&path))?;
        Ok(format!("postgres://{DATABASE}:{}@{}/{DATABASE}", password.trim(), self.database))
    }

    /// Says that the farm runs, as long as the file is open.
    fn hold(&self) -> anyhow::Result<File> {
        let path = self.at("farm/lock");
        let lock = File::open(&path).with_context(|| not_set_up(&path))?;
        lock.lock_shared().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(lock)
    }

    /// Writes a tier's configuration, and gives where.
    fn write_config(&self, config: impl Serialize) -> anyhow::Result<PathBuf> {
        let path = self.run.join("config.toml");
        let config = toml::Table::try_from(config)?;
        secret::write(&path, &toml::to_string(&config)?).with_context(|| format!("cannot write {}", path.display()))?;
        match fs::remove_file(self.ready_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(path),
        }
    }
}

fn not_set_up(path: &Path) -> String {
    format!("cannot read {}: the setup makes it, and is to run first", path.display())
}

/// Does it, and gives the exit code.
#[must_use]
pub fn run(args: ContainerArgs) -> ExitCode {
    let ContainerArgs { command, dir, run, database } = args;
    let volumes = Volumes { dir, run, database };
    let begun = match command {
        Command::Setup(args) => return done(crate::runtime().and_then(|r| r.block_on(setup::run(&volumes, &args)))),
        Command::Rotate { which } => {
            return done(crate::runtime().and_then(|r| r.block_on(setup::rotate(&volumes, which))));
        }
        Command::Password => return done(setup::print_password(&volumes)),
        Command::Health => return done(crate::runtime().and_then(|r| r.block_on(health(&volumes)))),
        Command::Cloud(args) => cloud(&volumes, &args).map(|(config, lock)| {
            let code = serve(&config, cloud::Config::load, cloud::run);
            drop(lock);
            code
        }),
        Command::Gateway(args) => gateway(&volumes, &args).map(|(config, lock)| {
            let code = serve(&config, gateway::Config::load, gateway::run);
            drop(lock);
            code
        }),
        Command::NodeSim(args) => node_sim(&volumes, &args).map(|(config, locks)| {
            let code = serve(&config, node_sim::Config::load, node_sim::run);
            drop(locks);
            code
        }),
    };
    begun.unwrap_or_else(|error| crate::failed(&error))
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    result.map_or_else(|error| crate::failed(&error), |()| ExitCode::SUCCESS)
}

fn cloud(volumes: &Volumes, args: &ListenArgs) -> anyhow::Result<(PathBuf, File)> {
    #[derive(Serialize)]
    struct Cloud {
        database_url: String,
        listen: String,
        ready_file: PathBuf,
        time: TimeScale,
        registry: Registry,
    }
    #[derive(Serialize)]
    struct Registry {
        online_keys: PathBuf,
    }
    let lock = volumes.hold()?;
    let config = volumes.write_config(Cloud {
        database_url: volumes.database_url()?,
        listen: args.listen.to_string(),
        ready_file: volumes.ready_file(),
        time: volumes.clock()?.time,
        registry: Registry { online_keys: volumes.keys().online },
    })?;
    Ok((config, lock))
}

fn gateway(volumes: &Volumes, args: &GatewayArgs) -> anyhow::Result<(PathBuf, File)> {
    let lock = volumes.hold()?;
    let token = volumes.at("pairing/token");
    let token = fs::read_to_string(&token).with_context(|| not_set_up(&token))?;
    let Clock { began, seed, time } = volumes.clock()?;
    // The first replica's fields; those of the others have the same names.
    let simulated = FarmConfig { stations: args.simulated.stations, ..simulated(began, seed)? };
    let config = volumes.write_config(gateway::Config {
        farm: farm::FARM.parse()?,
        gateway: farm::GATEWAY.parse()?,
        data_dir: volumes.at("gateway"),
        status_listen: args.status,
        ready_file: Some(volumes.ready_file()),
        time,
        door: DoorConfig {
            listen: Some(args.mqtt),
            credentials_dir: Some(volumes.at("stations")),
            ..DoorConfig::default()
        },
        cloud: Some(CloudConfig { url: args.cloud.clone(), token }),
        uplink: gateway::uplink::UplinkConfig::default(),
        windows: gateway::config::WindowsConfig::default(),
        retention: gateway::config::RetentionConfig::default(),
        rules: gateway::detect::RulesConfig::default(),
        models_dir: None,
        broker: None,
        sources: farm::sources(&volumes.at("gateway/sources.toml"))?,
        fields: farm::fields(&volumes.at("gateway/fields.toml"), &simulated)?,
        filters: toml::Table::new(),
        nodes: gateway::nodes::NodesConfig::default(),
        updates: UpdatesConfig { root: Some(volumes.pinned_root()), ..UpdatesConfig::default() },
    })?;
    Ok((config, lock))
}

fn node_sim(volumes: &Volumes, args: &NodeSimArgs) -> anyhow::Result<(PathBuf, [File; 2])> {
    let lock = volumes.hold()?;
    let Clock { began, seed, time } = volumes.clock()?;
    let slot = slot::take(&volumes.at("node-sim"))?;
    let farm = slot.farm(FarmConfig { stations: args.simulated.stations, ..simulated(began, seed)? });
    let passwords = slot.passwords(farm.station_names().into_iter().map(|(station, _)| station))?;
    let clients = passwords.iter().map(|(station, password)| (station.as_str(), Role::Station, password.as_str()));
    // A dot: no station can be called so, and have this file for its own.
    station::write(&volumes.at("stations").join(format!("node-sim.{}.toml", slot.number)), clients)?;
    eprintln!("tilth: stations of place {}, {} of them", slot.number, passwords.len());
    let config = volumes.write_config(node_sim::Config {
        passwords,
        time,
        truth_dir: Some(slot.dir.join("truth")),
        truth_readings: args.truth,
        ready_file: Some(volumes.ready_file()),
        node: NodeConfig { model: true, ..NodeConfig::default() },
        ..node_sim::Config::new(farm, args.broker.clone(), slot.state())
    })?;
    Ok((config, [lock, slot.lock]))
}

/// Asks the tier of this container how it is. Stations have no server: that they were ready is enough.
async fn health(volumes: &Volumes) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Ready {
        http: Option<SocketAddr>,
        status: Option<SocketAddr>,
    }
    let path = volumes.ready_file();
    let text = fs::read_to_string(&path).with_context(|| format!("not ready: no {}", path.display()))?;
    let ready: Ready = serde_json::from_str(&text).with_context(|| format!("{} is not understood", path.display()))?;
    let (address, page) = match (ready.http, ready.status) {
        (Some(cloud), _) => (cloud, "readyz"),
        (None, Some(gateway)) => (gateway, "healthz"),
        (None, None) => return Ok(()),
    };
    let url = format!("http://{}/{page}", crate::up::browser_address(address));
    let client = reqwest::Client::builder().timeout(HEALTH).no_proxy().build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("no answer from {url}"))?;
    if !answer.status().is_success() {
        bail!("{url} answers {}", answer.status());
    }
    Ok(())
}
