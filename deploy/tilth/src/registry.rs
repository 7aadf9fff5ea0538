//! The model registry of a farm that runs here: its keys and the root that gateways pin, and `tilth keys`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use cloud::registry::{self, Publisher, PushError, Which};
use gateway::model::LoadedModel;
use serde::Deserialize;
use serde_json::json;
use sqlx::PgPool;

use crate::postgres::Postgres;
use crate::{runtime, secret};

/// Who is named as having pushed the model that the gateway brings along.
const PUSHED_BY: &str = "tilth";

/// Where the registry's keys lie. The root's key has a directory of its own, which nothing that serves needs to read.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The root's key.
    pub root: PathBuf,
    /// The keys of targets, snapshot and timestamp.
    pub online: PathBuf,
}

impl Keys {
    /// Those of the farm in `data_dir`.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { root: data_dir.join("registry/root-keys"), online: data_dir.join("registry/online-keys") }
    }
}

/// The root that the gateway of the farm in `data_dir` trusts.
#[must_use]
pub fn pinned_root(data_dir: &Path) -> PathBuf {
    data_dir.join("registry/root.json")
}

/// Makes the registry where there is none, registers the model that the gateway brings along, and writes the root that
/// gateways are to trust to `pin`.
///
/// # Errors
/// When the database or a file refuses.
pub async fn set_up(pool: &PgPool, keys: &Keys, pin: &Path) -> anyhow::Result<()> {
    registry::create(pool, &keys.root, &keys.online).await.context("the model registry")?;
    let root = String::from_utf8(registry::root(pool).await?).context("the registry's root is no text")?;
    if fs::read_to_string(pin).ok().as_deref() != Some(&root) {
        secret::write(pin, &root).with_context(|| format!("cannot write {}", pin.display()))?;
    }
    let (onnx, manifest) = LoadedModel::base_files();
    match registry::push_if_new(pool, &Publisher::new(&keys.online), manifest, onnx, PUSHED_BY).await {
        // What an older release registered under this version stays.
        Ok(_) | Err(PushError::Exists { .. }) => Ok(()),
        Err(error) => Err(error).context("the model that the gateway brings along"),
    }
}

/// Keys of the registry.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tilth keys rotate online                       new keys for targets, snapshot and timestamp, as after a break-in
  tilth keys rotate root                         a new root key; gateways follow, the old one signs the change
  DATABASE_URL=postgres://… tilth keys rotate online --root-keys DIR --online-keys DIR

Without --root-keys and --online-keys the farm of --data-dir is meant, whether it runs or not. A running cloud takes the new
keys by itself.")]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make new keys, and let the root say that they count from now on
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// Which keys
    which: Keyring,
    /// The farm's directory [default: /var/lib/tilth as root, else ~/.local/share/tilth]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["root_keys", "online_keys"])]
    data_dir: Option<PathBuf>,
    /// Where the root's key lies
    #[arg(long, value_name = "DIR", requires = "online_keys")]
    root_keys: Option<PathBuf>,
    /// Where the other keys lie
    #[arg(long, value_name = "DIR", requires = "root_keys")]
    online_keys: Option<PathBuf>,
    /// The cloud's database [default: the farm's own]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Keyring {
    /// The root's key
    Root,
    /// The keys of targets, snapshot and timestamp
    Online,
}

impl From<Keyring> for Which {
    fn from(keyring: Keyring) -> Self {
        match keyring {
            Keyring::Root => Self::Root,
            Keyring::Online => Self::Online,
        }
    }
}

/// Runs a subcommand of `tilth keys`.
///
/// # Errors
/// When the keys, or the database, cannot be read or written.
pub fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let Command::Rotate(args) = args.command;
    let data_dir = || args.data_dir.clone().map_or_else(crate::up::default_data_dir, Ok);
    let keys = match (&args.root_keys, &args.online_keys) {
        (Some(root), Some(online)) => Keys { root: root.clone(), online: online.clone() },
        _ => Keys::of(&data_dir()?),
    };
    let database = match &args.database_url {
        Some(url) => Database::Elsewhere(url.clone()),
        None => Database::of(&data_dir()?)?,
    };
    let url = database.url();
    let version = runtime()?.block_on(async {
        let pool = cloud::database::connect(&url).await?;
        let version = registry::rotate(&pool, &keys.root, &keys.online, args.which.into()).await?;
        pool.close().await;
        anyhow::Ok(version)
    })?;
    if args.json {
        println!("{:#}", json!({ "root_version": version }));
    } else {
        println!("the registry's root is now version {version}; the old key files end with .retired");
    }
    Ok(ExitCode::SUCCESS)
}

/// The database of a farm.
enum Database {
    /// It runs already, or is none of ours to run.
    Elsewhere(String),
    /// The private one of a farm that does not run: it runs as long as this, and the farm is locked.
    Ours(Box<Postgres>, #[expect(dead_code, reason = "held, not read")] File),
}

impl Database {
    fn of(data_dir: &Path) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Cloud {
            database_url: String,
        }
        let path = data_dir.join("config/cloud.toml");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("there is no farm in {}: --data-dir", data_dir.display()))?;
        let Cloud { database_url } = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let lock = File::open(data_dir.join("lock"))?;
        let runs = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
        if runs || !Postgres::is_in(data_dir) {
            return Ok(Self::Elsewhere(database_url));
        }
        Ok(Self::Ours(Box::new(Postgres::start(data_dir, &data_dir.join("log/postgres.log"))?), lock))
    }

    fn url(&self) -> String {
        match self {
            Self::Elsewhere(url) => url.clone(),
            Self::Ours(postgres, _) => postgres.url(),
        }
    }
}
