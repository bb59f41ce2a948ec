//! Query strings.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Filters and paging of a list of monitors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MonitorsQuery {
    /// Only monitors of this deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page [default: the first page].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}
