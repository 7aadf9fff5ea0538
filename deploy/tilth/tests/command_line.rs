//! The command line by itself. (Because of this test `cargo test` builds the program that the end-to-end tests start.)
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn tilth(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tilth")).args(arguments).output().unwrap()
}

#[test]
fn help_names_every_option_of_a_farm() {
    let help = String::from_utf8(tilth(&["up", "--help"]).stdout).unwrap();
    for option in [
        "--data-dir",
        "--stations",
        "--speed",
        "--seed",
        "--weather",
        "--scenario",
        "--start",
        "--listen",
        "--mqtt",
        "--status",
        "--for",
        "--database-url",
    ] {
        assert!(help.contains(option), "{option} in {help}");
    }
}

#[test]
fn a_gateways_configuration_is_checked_without_starting_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        tilth(&["gateway", "check", "--config", file.to_str().unwrap()])
    };
    let good = "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"/no/data\"\n";
    assert!(check(good).status.success());
    let output = check(&format!("{good}[windows]\nlength_s = 7\n[door]\ncredentials = \"/no/file\"\nlisten = 5\n"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), error.lines().count()), (Some(2), 3), "{error}");
    for said in ["line 8: door.listen = 5: ", "windows.length_s = 7 is not ", "credentials file /no/file: "] {
        assert!(error.contains(said), "{said} in {error}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_exit_code_2() {
    for (arguments, said) in [
        (["up", "--stations", "0"], "0 is not in 1..=10000"),
        (["up", "--speed", "0"], "must be 0.001 to 100000"),
        (["up", "--for", "soon"], "not a duration like 60s, 5m or 2h"),
        (["up", "--start", "tomorrow"], "is not RFC 3339"),
        (["gateway", "--config", "no-such-file.toml"], "no-such-file.toml"),
    ] {
        let output = tilth(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(said), "{said} in {error}");
    }
}
