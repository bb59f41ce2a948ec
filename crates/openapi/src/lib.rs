//! OpenAPI documents of the services: completed with what holds for every operation, served at
//! `/openapi.json`, and shown as a page at `/docs`.
//!
//! A service describes its handlers with `#[utoipa::path]`, mounts them with [`routes!`], and passes the
//! router to [`mount`]. It serves the committed document; its tests pass the same router to
//! [`check::defects`] and compare [`document`] with that file.

mod also;
pub mod check;
mod complete;
mod described;
mod page;
mod router;
mod serve;

pub use self::complete::set_errors;
pub use self::described::Described;
pub use self::router::{DocumentedRouter, Mounted, Operations};
pub use self::serve::{Published, document, method_not_allowed, mount, reject_other_methods};
#[doc(hidden)]
pub use utoipa_axum::paste;
