//! Why versions do not load, and whether trying again may help.

/// Why a version did not load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadFailure {
    /// For people.
    pub reason: String,
    /// Whether loading it again may help.
    pub retry: Retry,
}

/// Whether, and how, a load that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Something was unreachable or short: the version is still loading.
    Soon,
    /// The version has failed for now: registry or artifact store answered and do not give it, or it took too
    /// much of the machine.
    Later,
    /// The version's own bytes cannot be served; they never change.
    Never,
}

impl LoadFailure {
    /// The version cannot be served, now or later.
    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Never }
    }

    /// It may be served later.
    pub(super) fn withheld(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Later }
    }

    /// It may be served in a moment.
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retry: Retry::Soon }
    }
}

impl From<std::io::Error> for LoadFailure {
    fn from(error: std::io::Error) -> Self {
        // A full disk may have room later.
        Self::passing(format!("the cache directory: {error}"))
    }
}

impl From<slipway_artifact_store::Error> for LoadFailure {
    fn from(error: slipway_artifact_store::Error) -> Self {
        match error {
            // Downloads go to the cache directory and nowhere else.
            slipway_artifact_store::Error::File(error) => error.into(),
            error if error.is_transient() && !error.is_refusal() => Self::passing(error.to_string()),
            error => Self::withheld(error.to_string()),
        }
    }
}
