#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::kept_state(bytes));
