//! Model versions on this replica: fetched by digest, verified, loaded, and kept while a traffic table names them.

mod cache;
mod evict;
pub(crate) mod folder;
mod loader;
mod manager;
mod pbtxt;
mod served;

pub(crate) use cache::Cache;
pub(crate) use loader::Loader;
pub(crate) use manager::{Manager, Update};
pub(crate) use served::Served;
