//! From facts about a machine, servers and a cluster to findings. Nothing here reads anything: facts are
//! arguments, so every finding has a line in a table of tests.

pub mod cluster;
mod finding;
pub mod machine;
pub mod servers;
mod skew;
mod version;

pub use finding::{Finding, Level, worst};
pub use skew::{certificate, clock};
pub use version::Version;
