#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::mqtt5_frames(bytes));
