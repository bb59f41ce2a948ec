//! OpenAPI documents of the services: completed with what holds for every operation, served at
//! `/openapi.json`, and shown as a page at `/docs`.
//!
//! A service describes its handlers with `#[utoipa::path]`, mounts them with `routes!`, and passes the router
//! to [`mount`]. Its tests pass the same router to [`check::defects`] and compare [`document`] with the
//! committed file.

pub mod check;
mod complete;
mod page;
mod serve;

pub use self::complete::{Described, set_errors};
pub use self::page::page;
pub use self::serve::{document, mount, reject_other_methods};
