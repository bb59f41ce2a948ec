//! The API server of a Kubernetes cluster: how it is reached, watched and told what objects there are to be.

mod apply;
mod connection;
mod reflect;
mod text;
mod watch;

pub use apply::{apply, delete, set_finalizers};
pub use connection::{ALL_NAMESPACES, Connection};
pub use reflect::reflect;
pub use text::text;
pub use watch::{api, watch};
