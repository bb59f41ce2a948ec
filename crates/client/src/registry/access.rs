//! The caller, API tokens, grants and the audit trail.

use reqwest::Method;
use slipway_api::rest::{
    Empty, PageQuery,
    registry::{
        ApiToken, ApiTokenPage, AuditPage, AuditQuery, Grant, GrantPage, GrantsQuery, Me, NewApiToken,
        NewGrant, WhichGrant,
    },
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Shows the caller and its roles.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn me(&self) -> Result<Me, Error> {
        self.get(&["me"]).read().await
    }

    /// Lists API tokens.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tokens(&self, page: &PageQuery) -> Result<ApiTokenPage, Error> {
        self.get(&["tokens"]).query(page).read().await
    }

    /// Creates an API token; only this response contains its secret.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_token(&self, new: &NewApiToken) -> Result<ApiToken, Error> {
        self.request(Method::POST, &["tokens"]).json(new).read().await
    }

    /// Revokes an API token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn revoke_token(&self, id: &str) -> Result<Empty, Error> {
        self.request(Method::DELETE, &["tokens", id]).read().await
    }

    /// Lists grants.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn grants(&self, query: &GrantsQuery) -> Result<GrantPage, Error> {
        self.get(&["grants"]).query(query).read().await
    }

    /// Grants a role in a scope.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_grant(&self, new: &NewGrant) -> Result<Grant, Error> {
        self.request(Method::PUT, &["grants"]).json(new).read().await
    }

    /// Removes a grant.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_grant(&self, which: &WhichGrant) -> Result<Empty, Error> {
        self.request(Method::DELETE, &["grants"]).query(which).read().await
    }

    /// Lists changes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, Error> {
        self.get(&["audit"]).query(query).read().await
    }
}
