//! `gateway check --config FILE` says everything that is wrong, without starting.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

fn check(text: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    fs::write(&file, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_gateway")).args(["check", "--config"]).arg(file).output().unwrap()
}

#[test]
fn a_good_configuration_is_good() {
    let output = check("farm = \"f\"\ngateway = \"g\"\ndata_dir = \"data\"\n");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn all_mistakes_are_named_at_once_with_file_key_and_value() {
    let output = check(
        "gateway = \"a/b\"\ndata_dir = \"data\"\nstatus_listen = \"here\"\ncolour = 1\n[windows]\nlength_s = 7\n\
         lateness_s = \"long\"\n[retention]\nraw_days = 0\n[door]\nmax_connections = 0\nlisten = \"127.0.0.1:0\"\n\
         [cloud]\nurl = \"ftp://x\"\n",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "farm: is missing",
        "line 1: gateway = \"a/b\": ",
        "line 3: status_listen = \"here\": ",
        "line 4: colour = 1: unknown field",
        "line 7: windows.lateness_s = \"long\": ",
        "windows.length_s = 7 is not a part of a day",
        "retention.raw_days = 0 is not above 0 days",
        "door.max_connections = 0 is not above 0",
        "cloud.token: is missing",
        "cloud.url = \"ftp://x\" is not an address",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 10, "{said}");
    assert!(said.lines().all(|line| line.starts_with("configuration /")), "{said}");
}

#[test]
fn files_that_are_not_there_are_named() {
    let output = check(
        "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"data\"\nmodels_dir = \"/no/models\"\n[cloud]\nurl = \"http://x\"\ntoken = \"t\"\n\
         [updates]\nroot = \"/no/root.json\"\n[door]\ncredentials = \"/no/stations.toml\"\n[door.tls]\nlisten = \"127.0.0.1:0\"\n\
         certificate = \"/no/gateway.pem\"\nkey = \"/no/gateway.key\"\nclient_ca = \"/no/ca.pem\"\n",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in ["/no/stations.toml", "/no/gateway.pem", "/no/root.json", "/no/models"] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn a_door_may_be_shut_beside_a_broker_of_the_farms_own() {
    let read = |text: &str| {
        let config: gateway::Config =
            toml::from_str(&format!("farm = \"f\"\ngateway = \"g\"\ndata_dir = \"/x\"\n{text}")).unwrap();
        (config.door.listen.is_some(), config.check())
    };
    assert_eq!(read(""), (true, vec![]));
    assert_eq!(read("broker = \"mqtts://broker.lan\""), (true, vec![]));
    assert_eq!(read("broker = \"mqtts://broker.lan\"\n[door]"), (false, vec![]));
    assert_eq!(read("[door]").1, ["door = {} is not with a listen or a tls.listen, or beside a broker"]);
    assert_eq!(read("[broker]\nurl = \"mqtt://x\"\nca = \"a.pem\"").1.len(), 1);
}

#[test]
fn times_that_no_clock_can_wait_for_and_shares_that_are_none_are_named() {
    let text = "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"/x\"\n[door]\nlisten = \"127.0.0.1:0\"\n\
                handshake_timeout_s = 9_000_000_000_000_000_000\ndrain_timeout_s = 3601\n\
                [updates]\npoll_s = 9_000_000_000_000_000_000\nself_test_s = 3601\nprobation_s = 604801\n\
                [rules]\nanomaly_close_below = inf\ncommon_share = nan\n";
    let wrong = gateway::Config::parse(text).unwrap_err();
    let keys: Vec<&str> = wrong.iter().filter_map(|wrong| wrong.split(" = ").next()).collect();
    let expected = [
        "door.handshake_timeout_s",
        "door.drain_timeout_s",
        "rules.common_share",
        "rules.anomaly_close_below",
        "updates.poll_s",
        "updates.self_test_s",
        "updates.probation_s",
    ];
    assert_eq!(keys, expected, "{wrong:#?}");
}

#[test]
fn mistakes_in_filters_are_named_with_the_others() {
    let output = check(
        "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"data\"\n[windows]\nlength_s = 7\n\
         [filters.soil_mosture]\nrange = [0, 1]\n[filters.station.n7.soil_moisture_20cm]\nrange = [1, 0]\nstuck = true\n",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "windows.length_s = 7 is not a part of a day",
        "filters.soil_mosture is not a quantity (soil_moisture, ",
        "filters.station.n7.soil_moisture_20cm.range = [1, 0] is not [least, greatest] in the quantity's unit",
        "filters.station.n7.soil_moisture_20cm.stuck = true is not { hours = above 0 and at most 72 }, or false",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");
}
