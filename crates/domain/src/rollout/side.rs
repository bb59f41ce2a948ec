//! The two versions that a rollout compares.

/// Which version a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The version that served before.
    Stable,
    /// The version being rolled out.
    Candidate,
}
