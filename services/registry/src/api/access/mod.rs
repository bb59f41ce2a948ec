//! Access control of every route: the guard, the role that each route requires, and the resource that a
//! request acts on.
//!
//! A request passes [`guard::guard`] before its handler: [`crate::access`] turns credentials into a caller,
//! the route determines the role required ([`rules`]), and the request identifies the resource ([`scope`]).

mod extract;
mod guard;
mod refusal;
mod rules;
mod scope;

pub(crate) use guard::guard;
pub use rules::access_rules;
