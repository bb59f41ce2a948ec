//! Bodies of KServe's v1.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slipway_serving::fuzzing::rows(bytes));
