//! Purge, garbage collection and retention rules.

use reqwest::Method;
use slipway_api::rest::{
    PageQuery,
    registry::{
        Applied, ApplyQuery, Collected, CollectionRequest, PurgeRequest, Purged, RetentionRule,
        RetentionRulePage,
    },
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Purges deleted runs, logged models and experiments, or counts them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn purge(&self, request: &PurgeRequest) -> Result<Purged, Error> {
        self.request(Method::POST, &["purge"]).json(request).read().await
    }

    /// Frees unreferenced and orphaned objects of a page of the bucket, or reports them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn collect(&self, request: &CollectionRequest) -> Result<Collected, Error> {
        self.request(Method::POST, &["gc"]).json(request).read().await
    }

    /// Lists retention rules.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn retention_rules(&self, page: &PageQuery) -> Result<RetentionRulePage, Error> {
        self.get(&["retention-rules"]).query(page).read().await
    }

    /// Creates or replaces a retention rule. The body is a rule as a user wrote it: the service checks it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_retention_rule(
        &self,
        name: &str,
        rule: &serde_json::Value,
    ) -> Result<RetentionRule, Error> {
        self.request(Method::PUT, &["retention-rules", name]).json(rule).read().await
    }

    /// Deletes a retention rule.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_retention_rule(&self, name: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["retention-rules", name]).done().await
    }

    /// Applies a rule to a page of runs or versions, or lists what it would archive or delete.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn apply_retention_rule(&self, name: &str, query: &ApplyQuery) -> Result<Applied, Error> {
        self.request(Method::POST, &["retention-rules", name, "run"]).query(query).read().await
    }
}
