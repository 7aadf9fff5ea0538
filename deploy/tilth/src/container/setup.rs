//! The job before the services: tables, the farm in them, secrets, the registry's keys, the farm's clock. Everything that
//! is there already stays as it is, so that it runs at every start.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use gateway::credentials::Role;
use node_sim::config::FarmConfig;
use proto::{TimeScale, Timestamp};

use super::{Clock, SPEED, Volumes, simulated, slot};
use crate::data_dir::{Beginning, DataDir, Site};
use crate::farm::{self, Secrets};
use crate::registry::{self, Keyring};
use crate::{secret, station};

/// How long PostgreSQL may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far the farm's clock goes on from the last sign of life, in real time: the gateway tells the cloud how it is every
/// five seconds, and what the stations made since must not lie in the future.
const SINCE_THE_LAST_SIGN: Duration = Duration::from_secs(15);

/// How the farm is set up.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Farm time over real time. 1 is for real stations: the farm's clock is the wall clock. Kept until another is said
    /// [default: 720, where a day passes in two minutes]
    #[arg(long, env = "TILTH_SPEED", value_name = "SPEED", default_value = "", hide_default_value = true)]
    speed: Asked,
    /// Where the dashboard is found from outside; only told
    #[arg(long, env = "TILTH_DASHBOARD", value_name = "URL", default_value = "http://localhost:8080")]
    dashboard: String,
}

/// A speed, or nothing: an unset variable comes from compose as an empty text.
#[derive(Debug, Clone, Copy)]
struct Asked(Option<f64>);

impl std::str::FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self(None)) } else { crate::up::speed(text).map(|speed| Self(Some(speed))) }
    }
}

pub(super) async fn run(volumes: &Volumes, args: &SetupArgs) -> anyhow::Result<()> {
    let secrets = Secrets::open(&volumes.at("setup"), std::iter::empty())?;
    secret::write(&volumes.at("pairing/token"), &secrets.gateway).context("cannot write pairing/token")?;
    let subscriber = (farm::SUBSCRIBER, Role::Subscriber, secrets.subscriber.as_str());
    station::write(&volumes.at("stations").join(format!("{}.toml", farm::SUBSCRIBER)), [subscriber])?;

    let pool = connect(&volumes.database_url()?).await?;
    cloud::database::migrate(&pool).await?;
    let first = !cloud::setup::user_exists(&pool, farm::USER).await?;
    let seen: Option<i64> = sqlx::query_scalar(
        "SELECT (extract(epoch FROM max((status->>'at')::timestamptz)) * 1000)::bigint FROM gateway",
    )
    .fetch_one(&pool)
    .await?;
    let clock = set_clock(volumes, args.speed.0, seen.map(Timestamp::from_millis))?;

    farm::set_up_inventory(&pool, &simulated(clock.began, clock.seed)?, &secrets).await?;
    registry::set_up(&pool, &volumes.keys(), &volumes.pinned_root()).await?;
    pool.close().await;

    println!("The farm is set up; a day passes in {:.0} s.", 86_400.0 / clock.time.speed);
    if first {
        println!(
            "\n  Dashboard   {}\n  Sign in     {}  {}\n  MQTT        user {}  password {}\n",
            args.dashboard,
            farm::USER,
            secrets.user,
            farm::SUBSCRIBER,
            secrets.subscriber
        );
    }
    Ok(())
}

pub(super) fn print_password(volumes: &Volumes) -> anyhow::Result<()> {
    let secrets = Secrets::open(&volumes.at("setup"), std::iter::empty())?;
    println!("{}", secrets.user);
    Ok(())
}

/// New keys for the registry; only here are all of its keys in one place.
pub(super) async fn rotate(volumes: &Volumes, which: Keyring) -> anyhow::Result<()> {
    let pool = cloud::database::connect(&volumes.database_url()?).await?;
    let keys = volumes.keys();
    let version = cloud::registry::rotate(&pool, &keys.root, &keys.online, which.into()).await?;
    pool.close().await;
    println!("the registry's root is now version {version}; the old key files end with .retired");
    Ok(())
}

/// Connects as soon as the database answers: it may start more slowly than its health check says.
async fn connect(url: &str) -> anyhow::Result<sqlx::PgPool> {
    let until = Instant::now() + PATIENCE;
    loop {
        match cloud::database::connect(url).await {
            Ok(pool) => return Ok(pool),
            Err(error) if Instant::now() > until => return Err(error).context("PostgreSQL does not answer"),
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// Sets the farm's clock, unless the farm runs: then it stays as it is.
fn set_clock(volumes: &Volumes, asked: Option<f64>, seen: Option<Timestamp>) -> anyhow::Result<Clock> {
    let now = Timestamp::from_jiff(jiff::Timestamp::now());
    let known = volumes.at("farm/clock.toml").exists().then(|| volumes.clock()).transpose()?;
    if let Some(known) = &known
        && is_running(volumes)?
    {
        if asked.is_some_and(|speed| speed != known.time.speed) {
            eprintln!(
                "tilth: the farm runs at {} times real time, and goes on so until it is stopped",
                known.time.speed
            );
        }
        return Ok(known.clone());
    }
    let speed = asked.or(known.as_ref().map(|clock| clock.time.speed)).unwrap_or(SPEED);
    let usual = FarmConfig::default();
    let began = if speed == 1.0 { now.floor_to(86_400) } else { usual.start };
    let beginning =
        Beginning { began, seed: usual.seed, stations: usual.stations, weather: None, site: Site::default() };
    let data = DataDir::open(&volumes.at("farm"), &beginning)?;
    let since = |seen: Timestamp| seen.plus_millis((SINCE_THE_LAST_SIGN.as_millis() as f64 * speed) as i64);
    let reached = slot::reached(&volumes.at("node-sim"))?.max(seen.map(since));
    let time = if speed == 1.0 { TimeScale::real() } else { data.time_scale(now, speed, reached) };
    let Beginning { began, seed, .. } = data.beginning();
    let clock = Clock { began, seed, time };
    let path = volumes.at("farm/clock.toml");
    secret::write(&path, &toml::to_string(&clock)?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(clock)
}

/// Whether a tier holds the farm's lock.
fn is_running(volumes: &Volumes) -> anyhow::Result<bool> {
    match fs::File::open(volumes.at("farm/lock"))?.try_lock() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock farm/lock"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes(dir: &std::path::Path) -> Volumes {
        for name in ["farm", "node-sim"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        Volumes { dir: dir.to_owned(), run: dir.to_owned(), database: String::new() }
    }

    #[test]
    fn a_farm_that_was_stopped_goes_on_where_it_was_and_one_that_runs_keeps_its_clock() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path());
        let first = set_clock(&volumes, None, None).unwrap();
        assert_eq!((first.time.speed, first.time.farm), (SPEED, first.began));

        let seen = first.began.plus_secs(30 * 86_400);
        let lock = volumes.hold().unwrap();
        let running = set_clock(&volumes, Some(60.0), Some(seen)).unwrap();
        assert_eq!((running.time, running.began), (first.time, first.began), "its tiers have this clock");
        drop(lock);

        let second = set_clock(&volumes, None, Some(seen)).unwrap();
        assert_eq!(second.began, first.began);
        assert_eq!(second.time.farm, seen.plus_secs(15 * 720), "no reading that was made lies in its future");
        assert_eq!(set_clock(&volumes, Some(60.0), Some(seen)).unwrap().time.speed, 60.0);
        assert_eq!(set_clock(&volumes, None, Some(seen)).unwrap().time.speed, 60.0, "once said it is kept");
    }

    #[test]
    fn a_farm_of_real_stations_has_the_wall_clock_at_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = volumes(dir.path());
        assert_eq!(set_clock(&volumes, Some(1.0), None).unwrap().time, TimeScale::real());
        assert_eq!(set_clock(&volumes, None, Some(Timestamp::from_secs(0))).unwrap().time, TimeScale::real());
        assert_eq!("".parse::<Asked>().unwrap().0, None);
        assert!("fast".parse::<Asked>().is_err() && "0".parse::<Asked>().is_err());
    }
}
