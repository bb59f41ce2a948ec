//! Compressed bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slipway_serving::fuzzing::compressed(bytes));
