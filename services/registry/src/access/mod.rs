//! Callers of the registry: from credentials to a [`Caller`] with grants, and links to what a caller may read.
//!
//! `slipway_domain::access` decides. With access off, every caller is `anonymous` and may do everything. Either way the caller goes
//! into the audit trail. References in a request body are authorised where the reference is stored ([`references`]).

mod authenticator;
mod caller;
mod config;
pub(crate) mod job_tokens;
pub(crate) mod references;
mod ttl_cache;

pub(crate) use authenticator::{Access, Authenticator, is_launcher};
pub(crate) use caller::{Caller, acting, carry, current_actor, proven};
pub use config::{AccessConfig, Switch};
pub(crate) use references::Reader;
pub(crate) use ttl_cache::KEPT_S;
