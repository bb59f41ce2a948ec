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

pub use self::complete::{Described, describe_access, problem_response, set_errors};
pub use self::page::{escape, page};
pub use self::serve::{document, mount, page_response, reject_other_methods};
