//! The README's certificates, made and used as it is written there: a gateway in a process of its own lets in the station that
//! they are for, while it is listed, and nobody else.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use tests::gateway::{Gateway, until};
use tests::{project, tilth};

/// The blocks of a language in the README's section on certificates.
fn blocks(language: &str) -> Vec<String> {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let (_, section) =
        readme.split_once("### Certificates instead of passwords\n").expect("the README has the section");
    let section = section.split_once("\n### ").unwrap().0;
    let begin = format!("```{language}\n");
    let blocks = section.split(&begin).skip(1);
    blocks.map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

fn shell(dir: &Path, script: &str) -> Output {
    let path = format!("{}:{}", tilth().parent().unwrap().display(), std::env::var("PATH").unwrap());
    Command::new("sh").args(["-ec", script]).current_dir(dir).env("PATH", path).output().unwrap()
}

#[test]
fn the_readmes_certificate_lets_its_station_in_until_its_name_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let [make, publish] = &blocks("sh")[..] else { panic!("two blocks of commands") };
    let [toml] = &blocks("toml")[..] else { panic!("a block of configuration") };

    // The gateway is called by the name of this machine here.
    let made = shell(dir.path(), &make.replace("gateway.lan", "localhost"));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::create_dir(at("credentials.d")).unwrap();
    let here = format!("{}/", dir.path().display());
    let gateway =
        Gateway::start(dir.path(), &toml.replace("/etc/tilth/", &here).replace("0.0.0.0:8883", "127.0.0.1:0"));
    let checked =
        Command::new(tilth()).args(["gateway", "check", "--config"]).arg(at("gateway.toml")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let ready = gateway.ready();
    let mqtts: SocketAddr = ready["mqtts"].as_str().unwrap().parse().unwrap();
    assert!(ready.get("mqtt").is_none(), "nobody comes in by a password");

    let publish = publish.replace("gateway.lan -p 8883", &format!("localhost -p {}", mqtts.port()));
    let publish = publish.replace("/etc/tilth/", &here);
    let (add, publish) = publish.split_once('\n').unwrap();
    for version in ["mqttv311", "mqttv5"] {
        let refused = shell(dir.path(), &format!("{} -V {version}", publish.trim_end()));
        assert!(!refused.status.success(), "by a good certificate of a name that is not listed: {refused:?}");
    }
    let added = shell(dir.path(), add);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    assert!(!String::from_utf8(added.stdout).unwrap().contains("password"), "there is none");
    // The gateway looks for new credentials at most once a second.
    for (version, value) in [("mqttv311", "0.231"), ("mqttv5", "0.232")] {
        let publish = format!("{} -V {version}", publish.trim_end()).replace("0.231", value);
        until("the reading is acknowledged", || shell(dir.path(), &publish).status.success().then_some(()));
    }
    until("both are stored", || (gateway.counter("readings") == 2).then_some(()));

    let removed = shell(dir.path(), &add.replace("add weather-1 --certificate", "remove weather-1"));
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    until("it is refused", || (!shell(dir.path(), publish).status.success()).then_some(()));
}
