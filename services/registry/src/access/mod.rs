//! Access to the registry: who calls, from where, and whether that caller may do what the request asks for.
//!
//! A request passes [`guard::guard`] before its handler: credentials become a [`Caller`] ([`gate`]), the route says what is needed
//! ([`rules`]), the request says on what ([`places`]), and `slipway_domain::access` decides. Off, every caller is `anonymous` and may
//! do everything. Either way the caller goes into the audit trail. What a body refers to beyond that is authorised where the reference is
//! stored ([`references`]).

mod caller;
mod config;
mod gate;
mod guard;
mod places;
mod recent;
pub(crate) mod references;
mod rules;

pub(crate) use caller::{Caller, carry, current_actor, proven};
pub use config::{AccessConfig, Switch};
pub(crate) use gate::{Access, is_launcher};
pub(crate) use guard::guard;
pub(crate) use places::PinnedBy;
pub(crate) use references::Reader;
