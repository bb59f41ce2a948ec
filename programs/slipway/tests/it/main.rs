//! The platform as its users meet it: the `slipway` program, its servers and services, all real.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod access_table;
mod backup;
mod balancer;
mod client;
mod commands;
mod dedicated;
mod doctor;
mod documented;
mod drills;
mod earlier_release;
mod ensembles;
mod envoy;
mod faults;
mod folders;
mod guarded;
mod import;
mod job_tokens;
mod kubeconfig;
mod lifecycle;
mod lint;
mod neighbours;
mod output;
mod pgbouncer;
mod platform;
mod refusals;
mod replicas;
mod requests;
mod rolling;
mod tenants;
mod traces;
mod trust;
mod unjudged;
mod waiting;
