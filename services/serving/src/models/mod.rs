//! Model versions on this replica: fetched by digest, verified, loaded, and kept while a traffic table names
//! them.

mod binding;
mod cache;
pub(crate) mod collector;
mod contract;
mod copy;
pub(crate) mod currency;
mod deployment;
pub(crate) mod engine_config;
pub(crate) mod ensemble;
mod evict;
mod failure;
pub(crate) mod files;
pub(crate) mod folder;
mod gate;
mod labels;
pub(crate) mod limits;
mod loader;
mod manager;
mod memory;
mod meters;
mod opener;
mod pbtxt;
mod probe;
mod readiness;
pub(crate) mod report;
mod resident;
pub(crate) mod routing;
mod served;
mod slots;
mod spares;
mod update;

pub(crate) use cache::Cache;
pub(crate) use labels::Labels;
pub(crate) use loader::{Limits, LoadSettings, Loader, Origins};
pub(crate) use manager::{Manager, TABLES_PART};
pub(crate) use meters::LoadMeters;
pub(crate) use probe::ProbeOptions;
pub use probe::run_if_asked;
pub(crate) use resident::{Absent, LOAD_WAIT_MS, Resident};
pub(crate) use served::{Described, Memory, Served, Work};
pub(crate) use update::{AllTables, Entry, Update};
