//! Every input that a fuzzer began with or broke something with, through the decoders that it was for.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn every_seed_is_read_or_refused_and_nothing_else() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in gateway::fuzzing::TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(seeds.join(name)).unwrap_or_else(|error| panic!("seeds of {name}: {error}")) {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no seeds");
    }
    let folders = fs::read_dir(seeds).unwrap().count();
    assert_eq!(folders, gateway::fuzzing::TARGETS.len(), "a folder without a target");
}
