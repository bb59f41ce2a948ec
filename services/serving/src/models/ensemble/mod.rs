//! Ensembles: one request to several models, the tensors of one passed to the next in memory.
//!
//! A definition names tensors; steps take some of them and give others, so the steps are a directed graph
//! without cycles. It is checked alone when it is read, and against the models of its steps whenever one of
//! those changes.

mod bind;
#[cfg(test)]
pub(crate) mod definitions;
mod file;

pub(crate) use bind::{Bound, Cause, MAX_DEPTH, Models, Unbound, bind};
pub(crate) use file::read;
