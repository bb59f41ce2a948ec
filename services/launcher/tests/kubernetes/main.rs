//! The launcher's Kubernetes backend on a real cluster.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod account;
mod api_server;
mod distributed;
mod gate;
mod jobs;
mod kills;
mod resources;
mod role;
mod starts;
mod world;

#[path = "../it/world.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod launcher;
#[path = "../it/processes.rs"]
#[expect(dead_code, reason = "what the other tests need of it")]
mod processes;
