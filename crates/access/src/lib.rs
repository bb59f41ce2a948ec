//! Access control of every service: how callers prove who they are, what each route requires, and the guard
//! in front of the routes.
//!
//! The registry owns tokens, roles and grants. It publishes their digests through NATS KV
//! ([`slipway_api::access`]); the other services [`follow`] them and check their callers locally
//! ([`Verifier`]) by a table of their routes ([`policy`]). What a role allows is decided in
//! [`slipway_domain::access`].

pub mod audit;
mod caller;
mod config;
mod credential;
pub mod directory;
mod follow;
mod guard;
mod identities;
mod keep;
pub mod lasting;
pub mod oidc;
mod origin;
mod places;
pub mod policy;
pub mod principal;
pub mod publish;
mod service;
mod token;
mod verifier;

pub use caller::Caller;
pub use config::{CheckConfig, DEFAULT_MAX_AGE_S, Switch};
pub use credential::{Malformed, Presented};
pub use follow::follow;
pub use guard::{Gate, Resolve, Resolved, guard};
pub use origin::{Network, client_address};
pub use places::{NoPlace, Place, Places};
pub use service::AccessControl;
pub use token::{ApiToken, same};
pub use verifier::{Refused, Verifier};
