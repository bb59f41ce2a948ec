//! The caller, API tokens and grants.

use serde::{Deserialize, Serialize};
use slipway_domain::access::Role;
use utoipa::{IntoParams, ToSchema};

/// The caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// Name of the caller; `anonymous` if access control is off.
    pub principal: String,
    /// What authenticated the caller, e.g. the ID of a token.
    pub credential: String,
    /// Address that the request came from.
    pub origin: String,
    /// Groups of the caller.
    pub groups: Vec<String>,
    /// Roles of the caller, its own and those of its groups.
    pub grants: Vec<HeldRole>,
}

/// A role that the caller has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldRole {
    /// `*`, `experiment:<id>` or `model:<name>`.
    pub scope: String,
    /// The role.
    #[schema(example = "editor")]
    pub role: Role,
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// ID, which is also the middle part of the token.
    pub id: String,
    /// Purpose of the token.
    pub name: String,
    /// Principal that the token authenticates.
    pub principal: String,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Principal that created it.
    pub created_by: String,
    /// Expiry time; unset if the token is valid until it is revoked.
    pub expires_at_unix_ms: Option<i64>,
    /// Time of the last request with this token.
    pub last_used_at_unix_ms: Option<i64>,
    /// The token itself; only in the response that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A page of tokens, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiTokenPage {
    /// The tokens.
    pub tokens: Vec<ApiToken>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A token to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// Purpose of the token.
    pub name: String,
    /// Principal that the token authenticates; its grants apply.
    pub principal: String,
    /// Seconds until the token expires [default: never].
    pub expires_in_s: Option<i64>,
}

/// A role that a principal or a group has in a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grant {
    /// A principal, or `group:<name>`.
    pub subject: String,
    /// `*`, `experiment:<id>` or `model:<name>`.
    pub scope: String,
    /// `viewer`, `editor`, `deployer` or `admin`.
    pub role: String,
    /// Time of the grant.
    pub granted_at_unix_ms: i64,
    /// Principal that granted the role.
    pub granted_by: String,
}

/// A page of grants, by subject and scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantPage {
    /// The grants.
    pub grants: Vec<Grant>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which grants are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct GrantsQuery {
    /// Only grants of this principal or group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// A role to be granted; it replaces the subject's previous role in the scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrant {
    /// A principal, or `group:<name>`.
    pub subject: String,
    /// `*`, `experiment:<id>` or `model:<name>`.
    pub scope: String,
    /// `viewer`, `editor`, `deployer` or `admin`.
    pub role: String,
}

/// A grant to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WhichGrant {
    /// A principal, or `group:<name>`.
    pub subject: String,
    /// `*`, `experiment:<id>` or `model:<name>`.
    pub scope: String,
}
