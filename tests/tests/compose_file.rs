//! deploy/compose.yaml is what the Compose specification allows. (`tests/compose` brings it up for real.)
#![allow(clippy::unwrap_used)]

use std::process::Command;

use tests::project;
use tests::python::python;

#[test]
fn the_compose_file_is_valid_by_the_compose_specifications_schema() {
    let checked = Command::new(python())
        .args(["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "--color", "never"])
        .arg(project().join("deploy/compose.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
}

/// What the schema does not know: whoever reads this file later must not undo it.
#[test]
fn no_service_runs_as_root_or_may_write_its_own_files_and_one_job_alone_sees_the_root_key() {
    let to_json = "import json, sys; from ruamel.yaml import YAML; json.dump(YAML(typ='safe').load(open(sys.argv[1])), sys.stdout)";
    let read =
        Command::new(python()).args(["-c", to_json]).arg(project().join("deploy/compose.yaml")).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let compose: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    let services = compose["services"].as_object().unwrap();
    let mut names: Vec<&str> = services.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cloud", "gateway", "node-sim", "postgres", "setup"]);
    for (name, service) in services {
        let user = service["user"].as_str().unwrap();
        assert!(!user.starts_with("root") && !user.starts_with('0'), "{name} runs as {user}");
        assert_eq!(service["read_only"], true, "{name} may write to its image");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name} has capabilities");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert!(service["logging"]["options"]["max-size"].is_string(), "{name} may fill the disk with its log");
        let mounts = service["volumes"].as_array().unwrap().iter().filter_map(|mount| mount.as_str());
        let sees = |volume: &str| mounts.clone().any(|mount| mount.starts_with(&format!("{volume}:")));
        assert_eq!(sees("root-keys"), name == "setup", "{name} and the registry's root key");
        assert_eq!(sees("setup"), name == "setup", "{name} and the first user's password");
        assert_eq!(sees("online-keys"), name == "setup" || name == "cloud", "{name} and the registry's keys");
    }
}
