//! ModelDeployments on a real cluster: the operator, and the pods that it makes.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod cache;
mod clients;
mod delivery;
mod drills;
mod edge;
mod failures;
mod kserve;
mod lifecycle;
mod many;
mod repair;
mod role;
mod rollouts;
mod scaling;
mod separate;
mod sidecar;
mod storage;
mod upgrade;
mod world;
mod zero;

#[path = "../it/client.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod client;
#[path = "../it/platform.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod platform;
