//! `node-sim validate` as a program: what it writes, that it writes the same again, and how it ends.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use node_sim::FarmConfig;
use node_sim::validate::{SECTIONS, Scenario};

fn validate(out: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_node-sim")).arg("validate").arg("--out").arg(out).args(arguments).output().unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| (name(&entry), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn the_same_configuration_gives_the_same_report() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("farm.toml");
    std::fs::write(&config, "[farm]\nstations = 3\nseed = 7\n").unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--days", "20", "--only", "weather", "--only", "sensors"];
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let output = validate(&one, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("# Weather") && text.contains("| Jun ") && text.contains("holds"), "{text}");
    validate(&two, &arguments);
    let files = files(&one);
    assert!(files.contains_key("report.html") && files.contains_key("weather-temperature.svg"), "{:?}", files.keys());
    assert!(files == self::files(&two));
}

/// Each section with parts of its plots' names, of what its checks say, and of its tables' cells.
type Expected = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str]);
const REPORT: [Expected; 11] = [
    ("weather", &["temperature", "rain"], &["dew point above air temperature", "radiation above 1.1"], &["Jun"]),
    ("space", &["map-0", "map-2"], &["difference at 10 m over that at 300 m"], &["n1", "e1", "c1"]),
    ("soil", &[], &["imbalance over supply"], &[]),
    (
        "ground",
        &["infiltration", "front", "heat", "crops"],
        &[
            "Green and Ampt",
            "Talsma and Parlange",
            "the front after a day",
            "amplitude differs",
            "lag differs",
            "imbalance",
        ],
        &["alfalfa", "maize", "pasture"],
    ),
    (
        "decisions",
        &["water"],
        &["the bill differs", "yield with half of the water", "yield with enough water", "phosphorus's"],
        &["nothing", "4 h every 4 days", "phosphorus, 20 kg/ha", "potassium, 50 kg/ha"],
    ),
    ("sensors", &["drift", "clock-drift"], &["the worst unit's bias", "noise differs", "resolution"], &[]),
    ("faults", &["-stuck"], &["readings with a fault where"], &["c1", "stuck"]),
    (
        "firmware",
        &["exception"],
        &["memory of a node", "the largest error", "loses chunks", "not those that were offered", "the watchdog bites"],
        &["the whole node", "32000", "refused", "sha256", "rolled_back", "watchdog"],
    ),
    ("energy", &["-charge", "-gap"], &["hours out that planning avoids", "longest gap of the planned"], &[]),
    ("radio", &["reach"], &["time on air of 10 bytes at SF7", "the longest packet"], &[]),
    ("replay", &[], &[], &[]),
];

#[test]
fn every_section_is_there_with_its_figures_and_what_it_checks_holds() {
    let faults = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scenarios/stuck.toml");
    let farm = FarmConfig { stations: 6, scenario: Some(faults), ..FarmConfig::default() };
    let month = Scenario::of(farm, 30).unwrap();
    // Outages are of the winter.
    let year = Scenario { days: 365, ..month.clone() };
    assert_eq!(SECTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), REPORT.map(|(name, ..)| name));
    for ((name, make), (_, plots, checks, cells)) in SECTIONS.iter().zip(REPORT) {
        let section = make(if *name == "energy" { &year } else { &month }).unwrap();
        assert!(!section.title.is_empty() && section.text.len() > 40, "{name}");
        for wanted in plots {
            let plot = section.plots.iter().find(|plot| plot.name.contains(wanted));
            let plot = plot.unwrap_or_else(|| panic!("{name} has no plot {wanted}"));
            let drawn = |points: &[(f64, f64)]| points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()).count();
            assert!(plot.series.iter().any(|series| drawn(&series.points) > 1), "{name}: nothing is drawn in {wanted}");
            assert!(plot.svg().unwrap().contains("<svg"), "{name}: {wanted}");
        }
        for wanted in checks {
            let check = section.checks.iter().find(|check| check.what.contains(wanted));
            assert!(check.is_some(), "{name} does not check {wanted}: {:?}", section.checks);
        }
        assert!(section.checks.iter().all(|check| check.holds), "{name}: {:?}", section.checks);
        for wanted in cells {
            let rows = section.tables.iter().flat_map(|table| &table.rows).flatten();
            assert!(
                rows.clone().any(|cell| cell.contains(wanted)),
                "{name} does not tell {wanted}: {:?}",
                section.tables
            );
        }
    }
}

#[test]
fn the_faults_of_a_scenario_are_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scenarios");
    for (name, row) in [("stuck", "stuck"), ("hang", "hang")] {
        let scenario = library.join(format!("{name}.toml"));
        let arguments = ["--scenario", scenario.to_str().unwrap(), "--days", "6", "--only", "faults"];
        let output = validate(&dir.path().join(name), &arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let cells: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .filter(|cells: &Vec<_>| cells.len() == 10)
            .collect();
        let rows: Vec<&Vec<&str>> = cells.iter().filter(|cells| cells[3] == row).collect();
        assert!(!rows.is_empty(), "{text}");
        for row in rows {
            let [due, made, bent] = [6, 7, 8].map(|at| row[at].parse::<u32>().unwrap());
            match name {
                "stuck" => assert!(due > 10 && made == due && bent == due, "{text}"),
                _ => assert!(made < due && bent == 0, "{text}"),
            }
        }
        let plots =
            files(&dir.path().join(name)).into_keys().filter(|file| file.ends_with(&format!("-{name}.svg"))).count();
        assert!(plots > 0);
    }
}

#[test]
fn replayed_data_is_in_the_report_with_its_gaps_and_what_could_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("hours.csv");
    let hour =
        |hour: u32| if hour == 7 { "t7,8\n".to_owned() } else { format!("2026-01-01T{hour:02}:00:00Z,{hour}\n") };
    let rows: String = (0..20).filter(|hour| !(10..14).contains(hour)).map(hour).collect();
    std::fs::write(&data, format!("t,air\n{rows}")).unwrap();
    let config = dir.path().join("replay.toml");
    let columns = "columns = [{ name = \"air\", channel = \"air_temperature_200cm\", unit = \"Cel\" }]";
    let text = format!(
        "[replay]\nat_end = \"loop\"\n[[replay.file]]\npath = {data:?}\nstation = \"a1\"\ntime = \"t\"\n{columns}\n"
    );
    std::fs::write(&config, text).unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--days", "2", "--only", "replay"];
    let output = validate(dir.path(), &arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let row = text.lines().map(cells).find(|cells| cells.get(1).is_some_and(|cell| cell == "a1"));
    let expected = ["a1", "1", "3600", "2026-01-01T00:00:00Z", "2026-01-01T19:00:00Z", "15", "15", "0", "2", "5"];
    assert_eq!(row.unwrap()[1..11], expected, "{text}");
    assert!(
        text.lines().map(cells).any(|cells| cells.len() > 3 && cells[1] == "hours.csv" && cells[2] == "9"),
        "{text}"
    );
    assert!(files(dir.path()).contains_key("replay-air-temperature-200cm.svg"));
}

#[test]
fn a_wrong_configuration_is_named_and_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("farm.toml");
    std::fs::write(&config, "[farm]\nstations = 0\nsample_s = 0\n").unwrap();
    let output = validate(dir.path(), &["--config", config.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("farm.stations: 0 is not") && text.contains("farm.sample_s: 0 is not"), "{text}");
}
