//! Versions of models, their cards and their lineage.

use reqwest::Method;
use slipway_api::rest::{
    PageQuery, TagValue,
    registry::{
        Card, CardFormat, CardQuery, Description, Force, Lineage, NewVersion, StageChange, VersionDetails,
        VersionPage, VersionsQuery,
    },
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Lists the versions of a model, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn versions(&self, model: &str, page: &PageQuery) -> Result<VersionPage, Error> {
        self.get(&["models", model, "versions"]).query(page).read().await
    }

    /// Searches the versions of all models.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn search_versions(&self, query: &VersionsQuery) -> Result<VersionPage, Error> {
        self.get(&["model-versions"]).query(query).read().await
    }

    /// Creates a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_version(&self, model: &str, new: &NewVersion) -> Result<VersionDetails, Error> {
        self.request(Method::POST, &["models", model, "versions"]).json(new).read().await
    }

    /// Shows a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn version(&self, model: &str, version: &str) -> Result<VersionDetails, Error> {
        self.get(&["models", model, "versions", version]).read().await
    }

    /// Changes the description of a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn describe_version(
        &self,
        model: &str,
        version: &str,
        update: &Description,
    ) -> Result<VersionDetails, Error> {
        self.request(Method::PATCH, &["models", model, "versions", version]).json(update).read().await
    }

    /// Moves a version to a stage.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_stage(
        &self,
        model: &str,
        version: &str,
        change: &StageChange,
    ) -> Result<VersionDetails, Error> {
        self.request(Method::PUT, &["models", model, "versions", version, "stage"]).json(change).read().await
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_version(&self, model: &str, version: &str, force: Force) -> Result<(), Error> {
        self.request(Method::DELETE, &["models", model, "versions", version]).query(&force).done().await
    }

    /// Sets a tag of a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_version_tag(
        &self,
        model: &str,
        version: &str,
        key: &str,
        value: &TagValue,
    ) -> Result<(), Error> {
        self.request(Method::PUT, &["models", model, "versions", version, "tags", key])
            .json(value)
            .done()
            .await
    }

    /// Deletes a tag of a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_version_tag(&self, model: &str, version: &str, key: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["models", model, "versions", version, "tags", key]).done().await
    }

    /// Shows the model card of a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn card(&self, model: &str, version: &str) -> Result<Card, Error> {
        self.get(&["models", model, "versions", version, "card"]).read().await
    }

    /// Shows the model card of a version as Markdown.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn card_markdown(&self, model: &str, version: &str) -> Result<String, Error> {
        let query = CardQuery { format: CardFormat::Markdown };
        self.get(&["models", model, "versions", version, "card"]).query(&query).text().await
    }

    /// Shows what a version was created from and where it is deployed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lineage(&self, model: &str, version: &str) -> Result<Lineage, Error> {
        self.get(&["models", model, "versions", version, "lineage"]).read().await
    }
}
