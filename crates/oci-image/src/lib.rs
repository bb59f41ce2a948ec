//! OCI image archives from files of this machine, without a registry and without a container engine.
//!
//! The same files make the same bytes: entries are sorted and have neither times nor names of users, and
//! compression depends on nothing but the content.

mod archive;
mod error;
mod layer;
mod libraries;
mod seal;
mod tar;

pub use archive::{Archive, Written, architecture};
pub use error::Error;
pub use layer::Layer;
pub use seal::{Compression, SealedLayer};
