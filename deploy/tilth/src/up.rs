//! `tilth up`: a whole farm, from its database to its stations, until Ctrl-C.

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use jiff::SignedDuration;
use node_sim::config::{FarmConfig, Pace};
use node_sim::weather::WeatherConfig;
use proto::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::data_dir::{Beginning, DataDir, Site};
use crate::farm::{self, Plan, Secrets};
use crate::postgres::Postgres;
use crate::service::Running;
use crate::{USAGE, ends_on_signal, failed, in_one_line, runtime};

/// How often the farm's clock is saved.
const SAVE: Duration = Duration::from_secs(1);
/// How often it is looked whether the first readings have come.
const LOOK: Duration = Duration::from_millis(100);

/// How a farm is run.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where everything is kept [default: /var/lib/tilth as root, else ~/.local/share/tilth]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Stations over the three fields; kept from the first start on
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    stations: u32,
    /// Farm time over real time: at 720 a day passes in two minutes
    #[arg(long, default_value_t = 720.0, value_parser = speed)]
    speed: f64,
    /// The chance that the farm is made with; kept from the first start on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measured weather, a CSV of hours or days whose header names columns and units, the time's zone (time_utc) and the wind's height
    /// (wind_speed_3m_mph); kept from the first start on. Without it the weather is made up
    #[arg(long, value_name = "FILE")]
    weather: Option<PathBuf>,
    /// Where the farm is, degrees north, degrees east and metres above the sea, like 28.6,77.2,216; kept from the first start on
    /// [default: Fallon, Nevada]
    #[arg(long, value_name = "LAT,LON,METRES", value_parser = place, allow_hyphen_values = true)]
    place: Option<[f64; 3]>,
    /// The zone of the weather's times that have none, like Asia/Kolkata; kept from the first start on
    #[arg(long, value_name = "ZONE", value_parser = zone, requires = "weather")]
    zone: Option<String>,
    /// At which height the weather's wind was measured, unless its column says; kept from the first start on [default: 2]
    #[arg(long, value_name = "METRES", requires = "weather")]
    wind_height: Option<f64>,
    /// Faults to inject, a TOML file
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Let the gateway irrigate, by its own decisions: the fields have no schedule of their own, and begin dry
    #[arg(long)]
    irrigate: bool,
    /// When the farm's clock begins, like 2026-06-01T07:00:00Z; kept from the first start on [default: 1 June, of the weather's year]
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// Where the dashboard is served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where stations and other MQTT clients connect; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    mqtt: SocketAddr,
    /// Where the gateway's own page is served; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    status: SocketAddr,
    /// End by itself after this time, like 60s, 5m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    r#for: Option<Duration>,
    /// A PostgreSQL to use instead of a private one
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
}

/// Farm time over real time, as it is given on a command line.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=100_000.0).contains(&speed) { Ok(speed) } else { Err("must be 0.001 to 100000".to_owned()) }
}

fn place(text: &str) -> Result<[f64; 3], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    let place = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
    place.ok_or_else(|| "not three numbers, degrees north, degrees east and metres above the sea".to_owned())
}

fn zone(text: &str) -> Result<String, String> {
    match jiff::tz::TimeZone::get(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not a time zone like Asia/Kolkata that this machine knows".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "not a duration like 60s, 5m or 2h".to_owned())?;
    Duration::try_from(duration).map_err(|_| "must not be negative".to_owned())
}

/// Runs the farm and gives the exit code.
#[must_use]
pub fn main(args: &UpArgs) -> ExitCode {
    let prepared = match Prepared::new(args) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("tilth: {}", in_one_line(&error));
            return ExitCode::from(USAGE);
        }
    };
    match runtime().and_then(|runtime| runtime.block_on(async { run(args, prepared, ends_on_signal()?).await })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// Everything that can be found wrong before anything starts.
struct Prepared {
    data: DataDir,
    farm: FarmConfig,
    addresses: Addresses,
}

/// Where the servers listen; every port is a real one.
struct Addresses {
    cloud: SocketAddr,
    mqtt: SocketAddr,
    status: SocketAddr,
}

impl Prepared {
    fn new(args: &UpArgs) -> anyhow::Result<Self> {
        let weather = args.weather.as_deref().map(absolute).transpose()?;
        let scenario = args.scenario.as_deref().map(absolute).transpose()?;
        let data_dir = args.data_dir.clone().map_or_else(default_data_dir, Ok)?;
        let site = Site { place: args.place, zone: args.zone.clone(), wind_height_m: args.wind_height };
        let began = match args.start {
            Some(start) => start,
            None => default_start(weather.as_deref(), &site)?,
        };
        let asked = Beginning { began, seed: args.seed, stations: args.stations, weather, site };
        let data = DataDir::open(&data_dir, &asked)?;
        let beginning = data.beginning();
        if beginning != asked && (beginning.seed, beginning.stations) != (asked.seed, asked.stations) {
            eprintln!(
                "tilth: {} goes on with the {} stations and the seed {} that it was begun with",
                data.path().display(),
                beginning.stations,
                beginning.seed
            );
        }
        let farm = FarmConfig {
            id: farm::FARM.parse()?,
            start: beginning.began,
            seed: beginning.seed,
            stations: beginning.stations,
            scenario,
            ..at(&beginning.site, beginning.weather)
        };
        let farm = if args.irrigate { farm::left_to_the_gateway(farm) } else { farm };
        farm.open()?;
        let addresses = Addresses {
            cloud: free("--listen", args.listen)?,
            mqtt: free("--mqtt", args.mqtt)?,
            status: free("--status", args.status)?,
        };
        Ok(Self { data, farm, addresses })
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot read {}", path.display()))
}

/// Where a farm is kept unless something else is said.
///
/// # Errors
/// When nothing says where the user's data lies.
pub(crate) fn default_data_dir() -> anyhow::Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from(crate::postgres::ELSEWHERE));
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    Ok(base.context("neither HOME nor XDG_DATA_HOME is set: say --data-dir")?.join("tilth"))
}

/// A farm at a place, under its measured weather.
fn at(site: &Site, weather: Option<PathBuf>) -> FarmConfig {
    let usual = FarmConfig::default();
    let [latitude, longitude, elevation_m] = site.place.unwrap_or([usual.latitude, usual.longitude, usual.elevation_m]);
    let weather = WeatherConfig { time_zone: site.zone.clone().filter(|_| weather.is_some()), ..weather.into() };
    let wind_height_m = site.wind_height_m.unwrap_or(usual.wind_height_m);
    FarmConfig { latitude, longitude, elevation_m, weather, wind_height_m, ..usual }
}

/// Local midnight of 1 June: in the year of the measured weather, else in the simulator's own.
fn default_start(weather: Option<&Path>, site: &Site) -> anyhow::Result<Timestamp> {
    let farm = at(site, weather.map(Path::to_owned));
    let in_utc = |time: Timestamp| time.to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let year = match weather {
        None => in_utc(farm.start).year(),
        Some(weather) => {
            let file = node_sim::weather::WeatherFile::read(weather, &farm.weather.options(), &farm.place())?;
            in_utc(file.span().0).year()
        }
    };
    let moved = in_utc(farm.start).with().year(year);
    let start = match site.place {
        None => moved.build()?,
        // Midnight by the hours nearest to the sun's, wherever the simulator's own place has it.
        Some(_) => moved.hour(0).build()?.checked_sub(SignedDuration::from_hours(farm.place().zone_h()))?,
    };
    Ok(Timestamp::from_jiff(start.timestamp()))
}

/// The address with a port that is free now.
fn free(option: &str, address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {option} {address}"))?;
    Ok(listener.local_addr()?)
}

async fn run(args: &UpArgs, prepared: Prepared, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Prepared { mut data, farm, addresses } = prepared;
    let began = Instant::now();
    let log = data.path().join("log");
    std::fs::create_dir_all(&log).with_context(|| format!("cannot make {}", log.display()))?;
    say(&format!("Tilth keeps this farm in {}", data.path().display()));

    let mut database = None;
    let database_url = match &args.database_url {
        Some(url) => url.clone(),
        None => {
            let (dir, log) = (data.path().to_owned(), log.join("postgres.log"));
            let step = Step::begin("PostgreSQL");
            let postgres = tokio::task::spawn_blocking(move || Postgres::start(&dir, &log)).await??;
            step.done(&format!("version {}", postgres.version()));
            database.insert(postgres).url()
        }
    };

    let reached = node_sim::store::resume_time(&data.path().join("node-sim"))?;
    let time = data.time_scale(now(), args.speed, reached);
    let plan = Plan {
        data_dir: data.path().to_owned(),
        farm,
        time,
        pace: Pace::Scale,
        until: None,
        truth_readings: false,
        database_url,
        cloud: addresses.cloud,
        mqtt: addresses.mqtt,
        status: addresses.status,
        node_models: true,
    };
    let secrets = Secrets::open(data.path(), plan.farm.station_names().into_iter().map(|(station, _)| station))?;
    let step = Step::begin("Tables");
    plan.set_up_database(&secrets).await?;
    step.done("up to date");
    let services = plan.configure(&secrets, &std::env::current_exe()?)?;

    // From below upwards, so that nobody waits for somebody; they are ended the other way round.
    let mut running: Vec<Running> = Vec::new();
    for (service, what) in [
        (&services.cloud, format!("http://{}", browser_address(addresses.cloud))),
        (&services.gateway, format!("MQTT on {}", addresses.mqtt)),
        (&services.node_sim, format!("{} stations, {}", plan.farm.stations, pace(args.speed))),
    ] {
        let step = Step::begin(title(service.name));
        let mut started = service.spawn()?;
        tokio::select! {
            () = shutdown.cancelled() => break,
            ready = started.ready::<serde_json::Value>() => ready?,
        };
        step.done(&what);
        running.push(started);
    }
    if !shutdown.is_cancelled() {
        data.save_clock(&time, now())?;
        let step = Step::begin("First readings in the tables");
        let cloud = addresses.cloud;
        tokio::select! {
            () = shutdown.cancelled() => {}
            seen = first_aggregate(&plan.database_url) => { seen?; step.done(&format!("{:.1} s after the start", began.elapsed().as_secs_f64())); }
        }
        introduce(cloud, &addresses, &secrets, data.path());
    }

    let end = args.r#for.map(|length| began + length);
    let result = watch(running, &mut data, &time, database.as_mut(), end, &shutdown).await;
    data.stop_clock(&time, now())?;
    if let Some(postgres) = database {
        tokio::task::spawn_blocking(move || drop(postgres)).await?;
    }
    say("Stopped. Start again to go on from here.");
    result
}

/// Keeps the services running until the end, then ends them in order: stations first, the cloud last.
async fn watch(
    running: Vec<Running>,
    data: &mut DataDir,
    time: &proto::TimeScale,
    mut database: Option<&mut Postgres>,
    end: Option<Instant>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut supervised: Vec<_> = Vec::new();
    for service in running {
        let stop = CancellationToken::new();
        supervised.push((stop.clone(), tokio::spawn(service.supervise(stop, |line| say(&line)))));
    }
    let ending = async {
        match end {
            Some(end) => tokio::time::sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    };
    let mut tick = tokio::time::interval(SAVE);
    tokio::pin!(ending);
    let result = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            () = &mut ending => break Ok(()),
            _ = tick.tick() => {
                data.save_clock(time, now())?;
                if database.as_mut().is_some_and(|postgres| postgres.ended()) {
                    break Err(anyhow::anyhow!("PostgreSQL ended by itself; its log is {}", data.path().join("log/postgres.log").display()));
                }
                if supervised.iter().any(|(_, task)| task.is_finished()) {
                    break Err(anyhow::anyhow!("a service could not be started again"));
                }
            }
        }
    };
    say("Stopping: stations, gateway, cloud, database");
    for (stop, task) in supervised.into_iter().rev() {
        stop.cancel();
        task.await??;
    }
    result
}

/// Waits until an aggregate has arrived.
async fn first_aggregate(database_url: &str) -> anyhow::Result<()> {
    let pool = cloud::database::connect(database_url).await?;
    loop {
        let arrived: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM aggregate)").fetch_one(&pool).await?;
        if arrived {
            pool.close().await;
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn introduce(cloud: SocketAddr, addresses: &Addresses, secrets: &Secrets, data_dir: &Path) {
    say(&format!(
        "\n  Dashboard      http://{}\n  Sign in        {}  {}\n  Gateway page   http://{}\n  MQTT           {}  user {}  password {}\n  Logs           {}\n\n  Ctrl-C ends it; nothing is lost.\n",
        browser_address(cloud),
        farm::USER,
        secrets.user,
        addresses.status,
        addresses.mqtt,
        farm::SUBSCRIBER,
        secrets.subscriber,
        data_dir.join("log").display(),
    ));
}

/// Where a browser on this machine finds a server that may listen on all addresses.
pub(crate) fn browser_address(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, address.port()).into() } else { address }
}

fn title(service: &str) -> &'static str {
    match service {
        "cloud" => "Cloud",
        "gateway" => "Gateway",
        _ => "Stations",
    }
}

fn pace(speed: f64) -> String {
    if speed == 1.0 { "in real time".to_owned() } else { format!("a day in {:.0} s", 86_400.0 / speed) }
}

fn now() -> Timestamp {
    Timestamp::from_jiff(jiff::Timestamp::now())
}

/// Tells the operator something. Standard output is for this alone; a reader that went away does not end the farm.
fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// A step of the start: named when it begins (on a terminal), and with its time when it is done.
struct Step {
    name: &'static str,
    began: Instant,
}

impl Step {
    fn begin(name: &'static str) -> Self {
        use std::io::Write as _;
        if std::io::stdout().is_terminal() {
            print!("  … {name}");
            let _ = std::io::stdout().flush();
        }
        Self { name, began: Instant::now() }
    }

    fn done(self, what: &str) {
        let start = if std::io::stdout().is_terminal() { "\r" } else { "" };
        say(&format!("{start}  ✓ {:<29} {what} ({:.1} s)", self.name, self.began.elapsed().as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        up: UpArgs,
    }

    #[test]
    fn a_farm_stands_where_it_was_begun_under_weather_of_that_place() {
        let dir = tempfile::tempdir().unwrap();
        let (data_dir, weather) = (dir.path().join("farm"), dir.path().join("delhi.csv"));
        let rows = (10..20).map(|hour| format!("2019-05-02 {hour}:00,30,15,3,500,0\n"));
        let header = "time,temp_c,dewpoint_c,wind_m_s,solar_w_m2,rain_mm\n";
        std::fs::write(&weather, header.to_owned() + &rows.collect::<String>()).unwrap();
        let prepared = |more: &[&str]| {
            let data_dir = data_dir.to_str().unwrap();
            let line = [&["up", "--data-dir", data_dir, "--listen", "127.0.0.1:0"], more].concat();
            Prepared::new(&Line::try_parse_from(line)?.up)
        };
        let weather = weather.to_str().unwrap();
        // Its times have no zone.
        let error = format!("{:#}", prepared(&["--weather", weather]).err().unwrap());
        assert!(error.contains("has no time zone"), "{error}");
        let there =
            ["--place", "-28.6,77.2,216", "--zone", "Asia/Kolkata", "--wind-height", "10", "--weather", weather];
        let begun = prepared(&there).unwrap().farm;
        assert_eq!((begun.latitude, begun.longitude, begun.elevation_m), (-28.6, 77.2, 216.0));
        assert_eq!((begun.wind_height_m, begun.weather.time_zone.as_deref()), (10.0, Some("Asia/Kolkata")));
        assert_eq!(begun.start.to_string(), "2019-05-31T19:00:00Z");
        assert_eq!(prepared(&[]).unwrap().farm, begun, "a farm stays where it is");
        for (wrong, said) in [
            (&["--place", "28.6,77.2"][..], "not three numbers"),
            (&["--zone", "Asia/Delhi", "--weather", weather], "not a time zone like Asia/Kolkata"),
            (&["--wind-height", "3"], "--weather"),
        ] {
            let error = format!("{:#}", prepared(wrong).err().unwrap());
            assert!(error.contains(said), "{error}");
        }
    }
}
