//! Runs and their metrics.

use reqwest::Method;
use slipway_api::rest::{
    PageQuery,
    registry::{
        LogBatch, MetricHistory, NewRun, Run, RunDetails, RunDetailsPage, RunPage, RunSearch, RunUpdate,
        RunsQuery, SampleRequest, Samples,
    },
};

use super::Registry;
use crate::Error;

impl Registry {
    /// Lists runs, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn runs(&self, query: &RunsQuery) -> Result<RunPage, Error> {
        self.get(&["runs"]).query(query).read().await
    }

    /// Searches runs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn search_runs(&self, search: &RunSearch) -> Result<RunDetailsPage, Error> {
        self.request(Method::POST, &["runs", "search"]).json(search).read().await
    }

    /// Creates a run in an experiment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_run(&self, experiment_id: &str, new: &NewRun) -> Result<RunDetails, Error> {
        self.request(Method::POST, &["experiments", experiment_id, "runs"]).json(new).read().await
    }

    /// Shows a run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn run(&self, run_id: &str) -> Result<RunDetails, Error> {
        self.get(&["runs", run_id]).read().await
    }

    /// Changes state, end or name of a run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn update_run(&self, run_id: &str, update: &RunUpdate) -> Result<Run, Error> {
        self.request(Method::PATCH, &["runs", run_id]).json(update).read().await
    }

    /// Deletes a run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_run(&self, run_id: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["runs", run_id]).done().await
    }

    /// Restores a run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restore_run(&self, run_id: &str) -> Result<RunDetails, Error> {
        self.request(Method::POST, &["runs", run_id, "restore"]).read().await
    }

    /// Logs metrics, params and tags in one transaction.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log(&self, run_id: &str, batch: &LogBatch) -> Result<(), Error> {
        self.request(Method::POST, &["runs", run_id, "log"]).json(batch).done().await
    }

    /// Deletes a tag of a run.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_run_tag(&self, run_id: &str, key: &str) -> Result<(), Error> {
        self.request(Method::DELETE, &["runs", run_id, "tags", key]).done().await
    }

    /// Reads a page of the history of a metric.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metric_history(
        &self,
        run_id: &str,
        key: &str,
        page: &PageQuery,
    ) -> Result<MetricHistory, Error> {
        self.get(&["runs", run_id, "metrics", key]).query(page).read().await
    }

    /// Samples histories for charts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn sample_metrics(&self, request: &SampleRequest) -> Result<Samples, Error> {
        self.request(Method::POST, &["metrics", "sample"]).json(request).read().await
    }
}
