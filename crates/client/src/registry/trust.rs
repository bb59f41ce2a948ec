//! Signatures, reports, approvals and policies.

use reqwest::Method;
use slipway_api::rest::{
    Empty, PageQuery,
    registry::{
        AliasPolicies, AliasPolicy, Approval, ApprovalPage, Bundle, NewApproval, NewSigningKey, Promotion,
        PromotionQuery, ReportDetails, ReportPage, ReportsQuery, SigningKey, SigningKeyPage,
        VersionSignature,
    },
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Lists trusted keys.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn signing_keys(&self, page: &PageQuery) -> Result<SigningKeyPage, Error> {
        self.get(&["signing-keys"]).query(page).read().await
    }

    /// Trusts a key or root certificates.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_signing_key(&self, name: &str, new: &NewSigningKey) -> Result<SigningKey, Error> {
        self.request(Method::PUT, &["signing-keys", name]).json(new).read().await
    }

    /// Removes a trusted key.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_signing_key(&self, name: &str) -> Result<Empty, Error> {
        self.request(Method::DELETE, &["signing-keys", name]).read().await
    }

    /// Shows how a version is signed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn signature(&self, model: &str, version: &str) -> Result<VersionSignature, Error> {
        self.get(&["models", model, "versions", version, "signature"]).read().await
    }

    /// Returns the bundle of a signature.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn signature_bundle(&self, model: &str, version: &str) -> Result<Bundle, Error> {
        self.get(&["models", model, "versions", version, "signature", "bundle"]).read().await
    }

    /// Attaches a signature.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn attach_signature(
        &self,
        model: &str,
        version: &str,
        bundle: &Bundle,
    ) -> Result<VersionSignature, Error> {
        self.request(Method::PUT, &["models", model, "versions", version, "signature"])
            .json(bundle)
            .read()
            .await
    }

    /// Adds a report. The body is a report as a user wrote it: the service checks it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_report(
        &self,
        model: &str,
        version: &str,
        report: &serde_json::Value,
    ) -> Result<ReportDetails, Error> {
        self.request(Method::POST, &["models", model, "versions", version, "reports"])
            .json(report)
            .read()
            .await
    }

    /// Lists reports, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn reports(
        &self,
        model: &str,
        version: &str,
        query: &ReportsQuery,
    ) -> Result<ReportPage, Error> {
        self.get(&["models", model, "versions", version, "reports"]).query(query).read().await
    }

    /// Shows a report.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn report(&self, model: &str, version: &str, id: &str) -> Result<ReportDetails, Error> {
        self.get(&["models", model, "versions", version, "reports", id]).read().await
    }

    /// Approves a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn approve(&self, model: &str, version: &str, new: &NewApproval) -> Result<Approval, Error> {
        self.request(Method::POST, &["models", model, "versions", version, "approvals"])
            .json(new)
            .read()
            .await
    }

    /// Withdraws an approval.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn withdraw_approval(&self, model: &str, version: &str, by: &str) -> Result<Empty, Error> {
        self.request(Method::DELETE, &["models", model, "versions", version, "approvals", by]).read().await
    }

    /// Lists approvals.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn approvals(
        &self,
        model: &str,
        version: &str,
        page: &PageQuery,
    ) -> Result<ApprovalPage, Error> {
        self.get(&["models", model, "versions", version, "approvals"]).query(page).read().await
    }

    /// Lists the policies of a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn policies(&self, model: &str) -> Result<AliasPolicies, Error> {
        self.get(&["models", model, "policies"]).read().await
    }

    /// Sets the policy of an alias. The body is a policy as a user wrote it: the service checks it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_policy(
        &self,
        model: &str,
        alias: &str,
        policy: &serde_json::Value,
    ) -> Result<AliasPolicy, Error> {
        self.request(Method::PUT, &["models", model, "policies", alias]).json(policy).read().await
    }

    /// Removes the policy of an alias.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_policy(&self, model: &str, alias: &str) -> Result<Empty, Error> {
        self.request(Method::DELETE, &["models", model, "policies", alias]).read().await
    }

    /// Checks whether an alias can be set to a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn promotion(
        &self,
        model: &str,
        version: &str,
        query: &PromotionQuery,
    ) -> Result<Promotion, Error> {
        self.get(&["models", model, "versions", version, "promotion"]).query(query).read().await
    }
}
