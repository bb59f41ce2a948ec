//! The registry with a real Postgres, S3 and NATS, as its clients see it.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod access;
mod artifacts;
mod audit;
mod contract;
mod deployed;
mod events;
mod faults;
mod gc;
mod histories;
mod home;
mod import_deliveries;
mod imports;
mod imports_oci;
mod job_tokens;
mod line;
mod lineage;
mod mlflow_artifacts;
mod mlflow_models;
mod mlflow_runs;
mod pages;
mod promotion;
mod published;
mod purge;
mod questions;
mod receiver;
mod references;
mod replicas;
mod rest_access;
mod rest_events;
mod rest_models;
mod rest_tracking;
mod retention;
mod scans;
mod schema;
mod signatures;
mod tracking;
mod trust;
mod values;
mod versions;
mod webhooks;
mod world;
