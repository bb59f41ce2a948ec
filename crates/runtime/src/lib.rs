//! What a process takes from its surroundings: the clock, random ids, tasks, files, and the implementation of
//! TLS.
//!
//! Decisions take times and ids as arguments; the edge gets them here. `clippy.toml` rejects the functions
//! behind these modules everywhere else, so that this crate shows where a program depends on more than its
//! arguments.

pub mod clock;
pub mod file;
pub mod id;
pub mod task;

/// Makes ring the process's TLS provider; harmless when called again.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
