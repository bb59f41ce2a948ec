//! The pure rules of Slipway: no I/O, no clock, no randomness of their own.
//!
//! Time, ids and random numbers are arguments. Each module is the decision half of one service; the service
//! performs what is decided here.

pub mod access;
pub mod audit;
pub mod datatype;
pub mod drift;
pub mod ensemble;
mod invalid;
mod path;
pub mod registry;
pub mod rollout;
mod statistics;
pub mod traffic;
pub mod training;

pub use invalid::Invalid;

#[cfg(test)]
mod test_random;
