//! Registered models and aliases.

use reqwest::Method;
use slipway_api::rest::{
    PageQuery, TagValue,
    registry::{
        AliasTarget, Description, Force, Import, ImportPage, Model, ModelPage, ModelsQuery, NewImport,
        NewModel, Rename, Version,
    },
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Lists or searches models.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn models(&self, query: &ModelsQuery) -> Result<ModelPage, Error> {
        self.get(&["models"]).query(query).read().await
    }

    /// Registers a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_model(&self, new: &NewModel) -> Result<Model, Error> {
        self.request(Method::POST, &["models"]).json(new).read().await
    }

    /// Shows a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn model(&self, name: &str) -> Result<Model, Error> {
        self.get(&["models", name]).read().await
    }

    /// Changes the description of a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn describe_model(&self, name: &str, update: &Description) -> Result<Model, Error> {
        self.request(Method::PATCH, &["models", name]).json(update).read().await
    }

    /// Renames a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rename_model(&self, name: &str, rename: &Rename) -> Result<Model, Error> {
        self.request(Method::POST, &["models", name, "rename"]).json(rename).read().await
    }

    /// Deletes a model and its versions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_model(&self, name: &str, force: Force) -> Result<(), Error> {
        self.request(Method::DELETE, &["models", name]).query(&force).done().await
    }

    /// Sets a tag of a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_model_tag(&self, name: &str, key: &str, value: &TagValue) -> Result<(), Error> {
        self.request(Method::PUT, &["models", name, "tags", key]).json(value).done().await
    }

    /// Deletes a tag of a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_model_tag(&self, name: &str, key: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["models", name, "tags", key]).done().await
    }

    /// Shows the version that an alias points at.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn alias(&self, model: &str, alias: &str) -> Result<Version, Error> {
        self.get(&["models", model, "aliases", alias]).read().await
    }

    /// Points an alias at a version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_alias(&self, model: &str, alias: &str, target: &AliasTarget) -> Result<(), Error> {
        self.request(Method::PUT, &["models", model, "aliases", alias]).json(target).done().await
    }

    /// Imports the content of an address as a version; does not wait for it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn import(&self, model: &str, new: &NewImport) -> Result<Import, Error> {
        self.request(Method::POST, &["models", model, "imports"]).json(new).read().await
    }

    /// Lists the imports of a model.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn imports(&self, model: &str, page: &PageQuery) -> Result<ImportPage, Error> {
        self.get(&["models", model, "imports"]).query(page).read().await
    }

    /// Ends an import. Its versions stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_import(&self, model: &str, id: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["models", model, "imports", id]).done().await
    }

    /// Deletes an alias.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_alias(&self, model: &str, alias: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["models", model, "aliases", alias]).done().await
    }
}
