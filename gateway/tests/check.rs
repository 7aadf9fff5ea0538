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
fn every_file_that_is_not_there_is_named_beside_every_wrong_value() {
    let output = check(
        "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"data\"\nmodels_dir = \"/no/models\"\n[windows]\nlength_s = 7\n\
         [cloud]\nurl = \"http://x\"\ntoken = \"t\"\n[broker]\nurl = \"mqtts://x\"\nca = \"/no/broker-ca.pem\"\n\
         certificate = \"/no/client.pem\"\nkey = \"/no/client.key\"\npassword_file = \"/no/password\"\n\
         [updates]\nroot = \"/no/root.json\"\n[door]\ncredentials = \"/no/stations.toml\"\n\
         credentials_dir = \"/no/credentials.d\"\nmax_connections = -1\nmax_connections_per_address = 0\n\
         [door.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"/no/gateway.pem\"\nclient_ca = \"/no/ca.pem\"\n\
         key = \"/no/gateway.key\"\n",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "models_dir = \"/no/models\": ",
        "windows.length_s = 7 is not ",
        "broker.ca = \"/no/broker-ca.pem\": ",
        "broker.certificate = \"/no/client.pem\": ",
        "broker.key = \"/no/client.key\": ",
        "broker.password_file = \"/no/password\": ",
        "updates.root = \"/no/root.json\": ",
        "door.credentials: credentials file /no/stations.toml: ",
        "door.credentials_dir: credentials file /no/credentials.d: ",
        "line 21: door.max_connections = -1: invalid value: integer `-1`, expected usize",
        "door.max_connections_per_address = 0 is not above 0",
        "door.tls.certificate = \"/no/gateway.pem\": ",
        "door.tls.key = \"/no/gateway.key\": ",
        "door.tls.client_ca = \"/no/ca.pem\": ",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 14, "{said}");
    assert!(said.lines().all(|line| line.starts_with("configuration /")), "{said}");
}

#[test]
fn files_that_are_there_and_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for folder in ["credentials.d", "models", "models/good", "models/none", "models/other"] {
        fs::create_dir(at(folder)).unwrap();
    }
    let write = |name: &str, text: &[u8]| fs::write(at(name), text).unwrap();
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let client =
        |name: &str| format!("[[client]]\nname = \"{name}\"\nrole = \"station\"\npassword_sha256 = \"{digest}\"\n");
    write("credentials.toml", client("n1").as_bytes());
    write("credentials.d/broken.toml", b"[[client]]\nname = \"n2\"\nrole = \"king\"\ncolour = 1\n");
    write("credentials.d/good.toml", client("n3").as_bytes());
    write("credentials.d/twice.toml", client("n1").as_bytes());
    let (onnx, manifest) = gateway::model::LoadedModel::base_files();
    for folder in ["good", "other"] {
        write(&format!("models/{folder}/manifest.toml"), manifest.as_bytes());
        write(&format!("models/{folder}/model.onnx"), onnx);
    }
    write("models/other/model.onnx", &onnx[1..]);
    write("ca.pem", b"no certificate");
    let output = check(&format!(
        "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"data\"\nmodels_dir = {:?}\n[door]\ncredentials = {:?}\ncredentials_dir = {:?}\n\
         [broker]\nurl = \"mqtts://x\"\nca = {:?}\n",
        at("models"),
        at("credentials.toml"),
        at("credentials.d"),
        at("ca.pem"),
    ));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "credentials.d/broken.toml: line 3: client[0].role = \"king\": unknown variant `king`, expected ",
        "line 4: client[0].colour = 1: unknown field `colour`, expected ",
        "credentials.d/twice.toml: a client \"n1\" is in an earlier file",
        "models/none\": cannot read ",
        "models/other\": the sha256 of model.onnx is ",
        "ca.pem\": no certificate in it",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 5, "{said}");
}

#[test]
fn every_mistake_of_every_source_is_named_with_its_line() {
    let output = check(
        "farm = \"f\"\ngateway = \"g\"\ndata_dir = \"data\"\n\
         [[source]]\nkind = \"sparkplug\"\nrebirth_s = \"often\"\ncolour = 1\nreport_s = 0\n\
         channels = [{ name = \"a\", chanel = \"rain\" }, { name = \"b\", channel = \"rain\", scale = \"x\" }]\n\
         [[source]]\nkind = \"smoke\"\nprefix = 5\n\
         [[source]]\nname = \"c\"\n\
         [[source]]\nkind = \"senml\"\ntopics = [\"a/#/b\"]\ntopic = \"x\"\n\
         [[source.channels]]\nname = \"t\"\nchannel = \"soil_moisture_20cm\"\nunit = \"kPa\"\nscale = 0.0\ncounter = true\n",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in [
        "line 6: source[0].rebirth_s = \"often\": invalid type: string \"often\", expected u32",
        "line 7: source[0].colour = 1: unknown field `colour`, expected one of `groups`, ",
        "source[0].report_s = 0 is not above 0 s",
        "line 9: source[0].channels[0].chanel = \"rain\": unknown field `chanel`, expected one of `name`, ",
        "line 9: source[0].channels[1].scale = \"x\": invalid type: string \"x\", expected f64",
        "line 11: source[1].kind = \"smoke\": unknown variant `smoke`, expected one of `sparkplug`, ",
        "line 12: source[1].prefix = 5: invalid type: integer `5`, expected a string",
        "line 13: source[2].kind: is missing, expected one of `sparkplug`, `chirpstack`, `senml`, `json`",
        "source[3].topics = \"a/#/b\" is not ",
        "line 18: source[3].topic = \"x\": unknown field `topic`, expected `topics`",
        "source[3].channels[0].unit = \"kPa\" is not a unit of soil_moisture: ",
        "source[3].channels[0].unit = \"kPa\" is not there beside scale or offset",
        "source[3].channels[0].scale = \"0\" is not a number other than 0",
        "source[3].channels[0].counter = \"true\" is not of use but for rain",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    assert_eq!(said.lines().count(), 15, "{said}");
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
