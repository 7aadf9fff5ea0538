//! `tilth up` as its operator meets it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;
use tests::farm::free_address;

fn data_dir() -> TempDir {
    let dir = TempDir::with_prefix("tilth-up-").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

fn up(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(tests::tilth());
    command.env_remove("DATABASE_URL").arg("up").arg("--data-dir").arg(data_dir).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a start that must be refused: gives what it said, one line on standard error.
fn refused(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(matches!(status.code(), Some(1 | 2)), "{status}: {said}");
    assert_eq!(said.trim().lines().count(), 1, "one line: {said}");
    assert!(!String::from_utf8(stdout).unwrap().contains("Gateway"), "nothing starts");
    said
}

/// Reads what a farm says until it has introduced itself; gives that text.
fn introduction(farm: &mut Child) -> String {
    let mut said = String::new();
    let mut out = BufReader::new(farm.stdout.take().unwrap());
    while !said.contains("Ctrl-C ends it") {
        if out.read_line(&mut said).unwrap() == 0 {
            let mut error = String::new();
            farm.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            panic!("the farm ended before it had started: {said}{error}");
        }
    }
    // Goes on reading, so that the farm is never held up by a full pipe.
    std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    said
}

fn after<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.trim().strip_prefix(label))
        .unwrap_or_else(|| panic!("no {label} in {text}"))
        .trim()
}

fn ends(farm: &mut Child, within: Duration) -> std::process::ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = farm.try_wait().unwrap() {
            return status;
        }
        assert!(began.elapsed() < within, "the farm did not end within {} s", within.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose command line or open cluster names `dir`.
fn left_over(dir: &Path) -> Vec<String> {
    let commands = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    commands.filter(|command| command.contains(dir.to_str().unwrap())).map(|c| c.replace('\0', " ")).collect()
}

async fn overview(url: &str, user: &str, password: &str) -> serde_json::Value {
    let client = reqwest::Client::new();
    let login = client
        .post(format!("{url}/api/v1/login"))
        .json(&serde_json::json!({"email": user, "password": password}))
        .send()
        .await
        .unwrap();
    assert_eq!(login.status(), 204);
    let cookie = login.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    client
        .get(format!("{url}/api/v1/farms/fallon"))
        .header("cookie", cookie)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_farm_starts_introduces_itself_ends_on_a_signal_and_goes_on_where_it_was() {
    let _ = rustls_provider();
    let dir = data_dir();
    let listen = free_address().to_string();
    let mut clock = String::new();
    let mut reached = None;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut farm = up(dir.path(), &["--listen", &listen]).spawn().unwrap();
        let said = introduction(&mut farm);
        let url = after(&said, "Dashboard");
        assert_eq!(url, format!("http://{listen}"));
        let (user, password) = after(&said, "Sign in").split_once("  ").unwrap();
        let seen = overview(url, user, password.trim()).await;
        assert_eq!(seen["fields"].as_array().unwrap().len(), 3);
        assert_eq!(seen["stations"].as_array().unwrap().len(), 24);
        assert!(
            seen["now"].as_str().unwrap() > clock.as_str(),
            "the farm's clock goes on: {} after {clock}",
            seen["now"]
        );
        clock = seen["now"].as_str().unwrap().to_owned();

        kill(Pid::from_raw(farm.id().cast_signed()), signal).unwrap();
        assert!(ends(&mut farm, Duration::from_secs(60)).success(), "{signal} is a clean end");
        assert_eq!(left_over(dir.path()), Vec::<String>::new());
        let came_to = node_sim::store::resume_time(&dir.path().join("node-sim")).unwrap();
        assert!(came_to > reached, "the stations go on: {came_to:?} after {reached:?}");
        reached = came_to;
    }
}

#[test]
fn a_farm_that_is_killed_leaves_nothing_running_and_goes_on() {
    let dir = data_dir();
    let listen = free_address().to_string();
    for _ in 0..2 {
        let mut farm = up(dir.path(), &["--listen", &listen, "--stations", "3"]).spawn().unwrap();
        introduction(&mut farm);
        farm.kill().unwrap();
        farm.wait().unwrap();
        let began = Instant::now();
        while !left_over(dir.path()).is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "still running: {:#?}", left_over(dir.path()));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_farm_ends_by_itself_after_the_time_it_was_given() {
    let dir = data_dir();
    let mut farm =
        up(dir.path(), &["--listen", &free_address().to_string(), "--stations", "3", "--for", "8s"]).spawn().unwrap();
    introduction(&mut farm);
    assert!(ends(&mut farm, Duration::from_secs(60)).success());
    assert_eq!(left_over(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_farm_at_another_place_is_there_for_its_stations_its_gateway_and_its_page() {
    let _ = rustls_provider();
    let dir = data_dir();
    let weather = dir.path().join("delhi.csv");
    let rows = (10..20).map(|hour| format!("2019-05-02 {hour}:00,30,15,3,500,0\n"));
    let header = "time,temp_c,dewpoint_c,wind_m_s,solar_w_m2,rain_mm\n";
    fs::write(&weather, header.to_owned() + &rows.collect::<String>()).unwrap();
    let (data, listen) = (dir.path().join("farm"), free_address().to_string());
    let there = ["--place", "-28.6,77.2,216", "--zone", "Asia/Kolkata", "--weather", weather.to_str().unwrap()];
    let mut farm = up(&data, &[&["--listen", &listen, "--stations", "3"], &there[..]].concat()).spawn().unwrap();
    let said = introduction(&mut farm);
    let (user, password) = after(&said, "Sign in").split_once("  ").unwrap();
    let seen = overview(after(&said, "Dashboard"), user, password.trim()).await;
    kill(Pid::from_raw(farm.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(ends(&mut farm, Duration::from_secs(60)).success());
    assert_eq!(
        [&seen["farm"]["latitude"], &seen["farm"]["longitude"], &seen["farm"]["timezone"]],
        [&json!(-28.6), &json!(77.2), &json!("Asia/Kolkata")]
    );
    assert!(seen["now"].as_str().unwrap().starts_with("2019-"), "{}", seen["now"]);
    let config = |tier: &str| -> toml::Table {
        fs::read_to_string(data.join(format!("config/{tier}.toml"))).unwrap().parse().unwrap()
    };
    let stations = config("node-sim");
    let number = |key: &str| stations["farm"][key].as_float().unwrap();
    assert_eq!([number("latitude"), number("longitude"), number("elevation_m")], [-28.6, 77.2, 216.0]);
    assert_eq!(stations["farm"]["weather"]["time_zone"].as_str(), Some("Asia/Kolkata"));
    // The solar day there, in quarters of an hour.
    assert_eq!(config("gateway")["field"][0]["utc_offset_h"].as_float(), Some(5.25));
}

/// As root, PostgreSQL runs as a user who may not enter a directory like `/root`.
#[test]
fn a_farm_lives_also_where_the_databases_user_may_not_enter() {
    let dir = data_dir();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let data = closed.join("farm");
    let listen = free_address().to_string();
    let mut farm = up(&data, &["--listen", &listen, "--stations", "3", "--for", "6s"]).spawn().unwrap();
    introduction(&mut farm);
    assert!(ends(&mut farm, Duration::from_secs(60)).success());
    if let Ok(elsewhere) = fs::read_link(data.join("postgres")) {
        fs::remove_dir_all(elsewhere).unwrap();
    }
}

#[test]
fn an_unreadable_weather_file_is_named_with_line_and_column() {
    let dir = data_dir();
    let weather = dir.path().join("weather.csv");
    fs::write(
        &weather,
        "time_utc,air_temperature_c,dew_point_c,wind_speed_m_s,solar_radiation_w_m2\n\
         2015-01-01T08:00:00Z,-13.9,-17.6,0.0,0.0\n\
         2015-01-01T09:00:00Z,-13.9,cold,0.3,0.0\n",
    )
    .unwrap();
    let said = refused(&mut up(&dir.path().join("farm"), &["--weather", weather.to_str().unwrap()]));
    for part in ["weather.csv", "line 3", "dew_point_c", "cold"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_database_that_does_not_answer_is_named() {
    let dir = data_dir();
    let nobody = free_address();
    let url = format!("postgres://tilth:secret@{nobody}/tilth");
    let said = refused(&mut up(dir.path(), &["--database-url", &url, "--listen", &free_address().to_string()]));
    assert!(said.contains("database") && said.contains(&nobody.port().to_string()), "{said}");
    assert!(!said.contains("secret"), "the password stays out of it: {said}");
}

#[test]
fn a_port_in_use_is_named() {
    let dir = data_dir();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for option in ["--listen", "--mqtt", "--status"] {
        let address = taken.local_addr().unwrap().to_string();
        let free = free_address().to_string();
        let mut arguments = vec![option, address.as_str()];
        if option != "--listen" {
            arguments.extend(["--listen", &free]);
        }
        let said = refused(&mut up(dir.path(), &arguments));
        assert!(said.contains(option) && said.contains(&address), "{said}");
    }
}

#[test]
fn a_data_directory_of_another_version_is_named() {
    let dir = data_dir();
    fs::write(dir.path().join("farm.toml"), "layout = 99\n").unwrap();
    let said = refused(&mut up(dir.path(), &["--listen", &free_address().to_string()]));
    assert!(said.contains("farm.toml has layout 99, but this tilth reads layout 1"), "{said}");
}

#[test]
fn a_scenario_with_mistakes_is_refused_before_anything_starts() {
    let dir = data_dir();
    let scenario = dir.path().join("scenario.toml");
    fs::write(&scenario, "[[fault]]\nstation = \"z9\"\nchannel = \"soil_moisture_20cm\"\nkind = \"stuck\"\nstart = \"1h\"\nend = \"2h\"\n").unwrap();
    let Output { status, stderr, .. } = up(dir.path(), &["--scenario", scenario.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("scenario.toml") && said.contains("z9"), "{said}");
}

fn rustls_provider() -> Result<(), std::sync::Arc<rustls::crypto::CryptoProvider>> {
    rustls::crypto::ring::default_provider().install_default()
}
