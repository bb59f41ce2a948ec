//! What every service has: start and stop, configuration, health, metrics, errors, paging, Postgres, HTTP and
//! gRPC on one port.
//!
//! A service composes it in one order, so that one `lib.rs` teaches all: configuration → telemetry → clients
//! → state → router → background tasks → readiness → serve → drain → flush.

mod accept;
pub mod clock;
mod connection;
pub mod db;
mod exposition;
pub mod extract;
pub mod front;
pub mod grpc;
pub mod guard;
pub mod health;
pub mod json;
mod leave;
pub mod lifecycle;
pub mod linger;
mod memory;
mod merge_patch;
pub mod metrics;
pub mod page;
pub mod problem;
pub mod server;
pub mod text;
pub mod tls;
pub mod trace;
pub mod watch;

pub use guard::{Bodies, Guard, Refusal};
pub use lifecycle::{Tasks, main};
pub use merge_patch::merge_patch;
pub use problem::Problem;
pub use server::ListenConfig;
pub use tls::TlsConfig;
