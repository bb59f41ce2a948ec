//! Callers of the registry: from credentials to a [`caller::Caller`] with grants, and links to what a caller
//! may read.
//!
//! `slipway_domain::access` decides. With access off, every caller is `anonymous` and may do everything.
//! Either way the caller goes into the audit trail. References in a request body are authorised where the
//! reference is stored ([`references`]).

pub(crate) mod announcer;
pub(crate) mod audit_trail;
pub(crate) mod authenticator;
pub(crate) mod caller;
pub(crate) mod calls;
mod config;
pub(crate) mod grants;
pub(crate) mod job_tokens;
pub(crate) mod links;
pub(crate) mod publishing;
pub(crate) mod references;
pub(crate) mod refusals;
pub(crate) mod tokens;
pub(crate) mod ttl_cache;

pub use config::AccessConfig;
pub use slipway_access::Switch;
