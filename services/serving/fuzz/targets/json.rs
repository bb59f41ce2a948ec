//! Bodies of inference requests that are JSON alone.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slipway_serving::fuzzing::json(bytes));
