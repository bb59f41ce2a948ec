//! The server over real connections: routes, guard, front, TLS, gRPC and the end.
#![expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

mod end;
mod front;
mod grpc;
mod guard;
mod routes;
mod tls;
mod world;
