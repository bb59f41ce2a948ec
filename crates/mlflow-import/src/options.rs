//! What to copy, and from where to where.

use secrecy::SecretString;

/// What to copy from which MLflow server.
#[derive(Debug, Clone)]
pub struct Options {
    /// URL of the MLflow server, e.g. `http://old:5000`.
    pub source: String,
    /// Names of experiments to copy with their runs and logged models. If these and `models` are both empty,
    /// everything is copied.
    pub experiments: Vec<String>,
    /// Names of registered models to copy with their versions.
    pub models: Vec<String>,
    /// Skips artifacts, and the model versions that require them.
    pub skip_artifacts: bool,
    /// Counts what would be copied and writes nothing.
    pub dry_run: bool,
    /// Maximum concurrent requests to each of the two servers, at least 1.
    pub concurrency: u16,
}

impl Options {
    /// Whether neither experiments nor models are selected, which means all of both.
    pub(crate) fn everything(&self) -> bool {
        self.experiments.is_empty() && self.models.is_empty()
    }

    pub(crate) fn wants_experiment(&self, name: &str) -> bool {
        self.everything() || self.experiments.iter().any(|wanted| wanted == name)
    }
}

/// The registry to copy into.
#[derive(Debug, Clone)]
pub struct Registry {
    /// URL of the registry, e.g. `http://127.0.0.1:5000`.
    pub address: String,
    /// Token sent with every request, where the registry requires one.
    pub token: Option<SecretString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_of_models_selects_no_experiment() {
        let of = |experiments: &[&str], models: &[&str]| Options {
            source: "http://old:5000".to_owned(),
            experiments: experiments.iter().map(|name| (*name).to_owned()).collect(),
            models: models.iter().map(|name| (*name).to_owned()).collect(),
            skip_artifacts: false,
            dry_run: false,
            concurrency: 1,
        };
        assert!(of(&[], &[]).everything() && of(&[], &[]).wants_experiment("a"));
        assert!(of(&["a"], &[]).wants_experiment("a") && !of(&["a"], &[]).wants_experiment("b"));
        assert!(!of(&[], &["m"]).wants_experiment("a"));
    }
}
