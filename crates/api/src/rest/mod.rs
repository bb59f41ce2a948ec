//! Bodies and query strings of REST v1, by service: the types that its handlers and the typed client share,
//! and from which the OpenAPI documents are generated.
//!
//! A type with the name of a domain type has the same fields: the conversions name each of them, so that a
//! field that is added to one does not compile until the other has it.
//!
//! Conventions: times are Unix milliseconds, or RFC 3339 where the name ends in `_at`; lists take `limit` and
//! `page_token` and return `next_page_token` while there is more; a field that is `null` or absent is unset.

mod convert;
pub mod launcher;
pub mod monitors;
mod numbers;
pub mod registry;
pub mod rollouts;
pub mod serving;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use numbers::Number;

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page [default: the first page].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// An empty response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// The value of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TagValue {
    /// The value.
    pub value: String,
}
