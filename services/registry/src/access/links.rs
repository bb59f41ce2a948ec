//! Links: references from one row to another that a caller was authorised to make.

/// A run that a row may refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunLink {
    run_id: String,
    experiment_id: Option<i64>,
}

impl RunLink {
    /// Only [`super::references`] makes links, for a caller that may read the run.
    pub(super) fn new(run_id: &str, experiment_id: Option<i64>) -> Self {
        Self { run_id: run_id.to_owned(), experiment_id }
    }

    /// The run's id.
    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The run's experiment, where a caller was authorised to read it; `None` where the registry does not
    /// have the run, or where access control was off and the reference crosses experiments.
    pub(crate) const fn experiment_id(&self) -> Option<i64> {
        self.experiment_id
    }
}

/// A logged model that a row may refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedModelLink(String);

impl LoggedModelLink {
    /// Only [`super::references`] makes links, for a caller that may read the logged model.
    pub(super) const fn new(model_id: String) -> Self {
        Self(model_id)
    }

    /// The logged model's id.
    pub(crate) fn model_id(&self) -> &str {
        &self.0
    }
}
