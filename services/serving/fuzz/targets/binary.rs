//! Bodies of inference requests with raw tensors behind the JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slipway_serving::fuzzing::binary(bytes));
