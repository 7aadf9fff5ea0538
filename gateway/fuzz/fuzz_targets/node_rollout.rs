#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::node_rollout(bytes));
