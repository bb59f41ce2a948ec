//! The HTTP server of a service: REST and gRPC on one port, with health, metrics, traces, limits and a drain
//! at the end; errors as problem documents, extractors whose rejections name the field, and paging.
//!
//! From the connection to the handler: `accept` (connections, TLS, drain) → `connection` (HTTP/1.1 and
//! HTTP/2) → [`guard`] (which hosts, pages and bodies) → [`front`] (the quick way past the router) → the
//! router with its layers ([`server`]).

mod accept;
mod connection;
pub mod extract;
pub mod front;
mod grpc;
pub mod guard;
pub mod health;
pub mod json;
mod leave;
pub mod linger;
mod merge_patch;
pub mod page;
mod peers;
pub mod problem;
mod requests;
pub mod server;
pub mod text;
pub mod tls;
mod trace;

pub use grpc::Grpc;
pub use guard::{Bodies, Guard, Refusal};
pub use leave::EndConnection;
pub use merge_patch::merge_patch;
pub use problem::Problem;
pub use server::ListenConfig;
pub use tls::TlsConfig;
