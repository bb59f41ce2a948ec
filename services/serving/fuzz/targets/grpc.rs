//! Messages of ModelInfer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slipway_serving::fuzzing::grpc(bytes));
