//! The event bus on three NATS servers, of which one at a time dies, is cut off from the others, or has a
//! full disk.
#![expect(clippy::disallowed_methods, reason = "tests start tasks and make ids of their own")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod faults;
mod kit;
