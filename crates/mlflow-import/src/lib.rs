//! Copies everything of an MLflow server into a Slipway registry, over MLflow's REST API.
//!
//! The order is: experiments, runs with their artifacts, logged models with theirs, the remainder of runs
//! that refer to logged models, registered models, versions, aliases. Each object is marked with a tag when
//! it is complete, so that an import which was interrupted continues where it stopped. IDs of runs and logged
//! models and version numbers are kept.

mod artifacts;
mod batch;
mod body;
mod experiments;
mod failure;
mod http;
mod json;
mod logged_models;
mod mark;
mod models;
mod options;
mod report;
mod runs;
mod state;
mod uri;
mod versions;

pub use failure::{AddressError, ConfigError, Failure};
pub use options::{Options, Registry};
pub use report::{Counts, FailedObject, Kind, Progress, Summary};

use state::Import;

/// One import from an MLflow server into a registry. It runs on one thread: its future is not `Send`.
pub struct Importer(Import);

impl Importer {
    /// Prepares an import; sends no request yet.
    ///
    /// Credentials for the MLflow server come from the environment, as for MLflow's own client:
    /// `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`; credentials in
    /// the URL take precedence.
    ///
    /// # Errors
    /// An address is not an http or https URL, or both are the same server.
    pub fn new(options: Options, registry: &Registry) -> Result<Self, ConfigError> {
        Import::new(options, registry).map(Self)
    }

    /// Copies everything that the options select. Failures of single objects do not end it; [`Self::summary`]
    /// lists them.
    ///
    /// # Errors
    /// The experiments of a server cannot be listed, e.g. because it is unreachable or rejects the
    /// credentials.
    pub async fn run(&self) -> Result<(), Failure> {
        let import = &self.0;
        let experiments = experiments::copy(import).await?;
        let pending = runs::copy(import, &experiments).await;
        let known = logged_models::copy(import, &experiments).await;
        runs::finish(import, pending, &known, &experiments).await;
        experiments::finish(import, &experiments).await;
        models::copy(import, &experiments.roots).await;
        Ok(())
    }

    /// Counts up to now; may be called while [`Self::run`] is pending on the same thread.
    pub fn progress(&self) -> Progress {
        self.0.report.progress()
    }

    /// The result: counts, failures, notes, and the reason if the import stopped early.
    pub fn summary(&self) -> Summary {
        self.0.report.summary(self.0.stopped())
    }
}
