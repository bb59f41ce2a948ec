//! Serving as its clients see it: the real binary against real NATS, S3 and ONNX Runtime. Only the registry
//! is a stand-in, with the registry's own protocol, so that its answers can be wrong.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]

mod access;
mod clients;
mod cloudevents;
mod collector;
mod contract;
mod deliver;
mod devices;
mod disk;
mod drills;
mod empty;
mod ensembles;
mod extensions;
mod failures;
mod faults;
mod folder;
mod grpc;
mod grpc_extensions;
mod joining;
mod metrics;
mod pages;
mod probe;
mod protocol;
mod readiness;
mod records;
mod refusals;
mod registry;
mod residency;
mod restart;
mod rules;
mod serving;
mod soak;
mod staleness;
mod startup;
mod stress;
mod tls;
mod traces;
mod traffic;
mod triton_config;
mod upgrade;
mod world;
