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
