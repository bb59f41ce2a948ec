//! Experiments.

use reqwest::Method;
use slipway_api::rest::{
    TagValue,
    registry::{Experiment, ExperimentPage, ExperimentUpdate, ExperimentsQuery, NewExperiment},
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Lists or searches experiments.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn experiments(&self, query: &ExperimentsQuery) -> Result<ExperimentPage, Error> {
        self.get(&["experiments"]).query(query).read().await
    }

    /// Creates an experiment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_experiment(&self, new: &NewExperiment) -> Result<Experiment, Error> {
        self.request(Method::POST, &["experiments"]).json(new).read().await
    }

    /// Shows an experiment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn experiment(&self, id: &str) -> Result<Experiment, Error> {
        self.get(&["experiments", id]).read().await
    }

    /// Renames an experiment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_experiment(&self, id: &str, update: &ExperimentUpdate) -> Result<Experiment, Error> {
        self.request(Method::PATCH, &["experiments", id]).json(update).read().await
    }

    /// Deletes an experiment and its runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_experiment(&self, id: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["experiments", id]).done().await
    }

    /// Restores an experiment and its runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restore_experiment(&self, id: &str) -> Result<Experiment, Error> {
        self.request(Method::POST, &["experiments", id, "restore"]).read().await
    }

    /// Sets a tag.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_experiment_tag(&self, id: &str, key: &str, value: &TagValue) -> Result<(), Error> {
        self.request(Method::PUT, &["experiments", id, "tags", key]).json(value).done().await
    }

    /// Deletes a tag.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_experiment_tag(&self, id: &str, key: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["experiments", id, "tags", key]).done().await
    }
}
