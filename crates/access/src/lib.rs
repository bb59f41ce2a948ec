//! How callers prove who they are: API tokens, what an Authorization header holds, identity tokens of an OIDC issuer; and from
//! where they call.
//!
//! What they may do then is decided in `slipway_domain::access`.

mod credential;
pub mod oidc;
mod origin;
pub mod principal;
mod token;

pub use credential::{Malformed, Presented};
pub use origin::{Network, client_address};
pub use token::{ApiToken, same};
