//! What every import shares.

use std::sync::Arc;

use slipway_artifact_store::ArtifactStore;
use slipway_domain::Invalid;

use super::config::ImportConfig;
use super::remote::Remote;

/// What may be imported, and what reads it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    config: Arc<ImportConfig>,
    pub(super) remote: Remote,
}

impl Sources {
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(config: &ImportConfig, artifacts: ArtifactStore) -> anyhow::Result<Self> {
        Ok(Self { config: Arc::new(config.clone()), remote: Remote::new(artifacts, config)? })
    }

    /// Refuses an address that may not be imported.
    ///
    /// # Errors
    /// Names the setting that would allow it.
    pub(super) fn check(&self, uri: &str) -> Result<(), Invalid> {
        self.config.check(uri)
    }
}
