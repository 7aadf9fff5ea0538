//! `node-sim validate` as a program: what it writes, that it writes the same again, and how it ends.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

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
