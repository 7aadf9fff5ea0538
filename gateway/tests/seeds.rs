//! Every input that a fuzzer began with, found more with or broke something with, through the decoders that it was for.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn every_seed_is_read_or_refused_and_nothing_else() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (name, target) in gateway::fuzzing::TARGETS {
        let seeds = run(&fuzz.join("seeds").join(name), target);
        assert!(seeds > 0, "{name} has no seeds");
        if fuzz.join("found").join(name).exists() {
            run(&fuzz.join("found").join(name), target);
        }
    }
    for inputs in ["seeds", "found"] {
        for folder in fs::read_dir(fuzz.join(inputs)).into_iter().flatten() {
            let name = folder.unwrap().file_name();
            let known = gateway::fuzzing::TARGETS.iter().any(|(target, _)| name == *target);
            assert!(known, "{inputs}: a folder {name:?} without a target");
        }
    }
}

/// The fuzz targets are no part of any build here; but each is the same two lines around a function that is, so it is seen
/// from their text that they fit it.
#[test]
fn every_target_is_a_program_of_the_fuzzers_that_calls_it() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(fuzz.join("Cargo.toml")).unwrap()).unwrap();
    let programs = manifest["bin"].as_array().unwrap();
    for (name, _) in gateway::fuzzing::TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        let text = fs::read_to_string(fuzz.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let expected =
            format!("#![no_main]\nlibfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::{name}(bytes));\n");
        assert_eq!(text, expected, "{path}");
        let listed = |program: &&toml::Value| program["name"].as_str() == Some(name);
        let program = programs.iter().find(listed).unwrap_or_else(|| panic!("Cargo.toml has no program {name}"));
        assert_eq!(program["path"].as_str(), Some(path.as_str()));
    }
    assert_eq!(programs.len(), gateway::fuzzing::TARGETS.len(), "each program has its target");
    assert_eq!(fs::read_dir(fuzz.join("fuzz_targets")).unwrap().count(), gateway::fuzzing::TARGETS.len());
}

/// Runs a target with every file of a folder; gives how many there are.
fn run(folder: &Path, target: fn(&[u8])) -> usize {
    let mut inputs = 0;
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        target(&fs::read(&path).unwrap());
        inputs += 1;
    }
    inputs
}
