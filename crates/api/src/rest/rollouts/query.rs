//! Query strings.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Filters and paging of a list of rollouts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RolloutsQuery {
    /// Only rollouts of the deployment that has this name now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Only rollouts of the deployment with this ID, also after it was deleted.
    #[param(value_type = Option<uuid::Uuid>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page [default: the first page].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}
