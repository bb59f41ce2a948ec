//! The records of one deployment on their way to its subject.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the records of a deployment have in common, whichever of its versions made them.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// The deployment.
    pub deployment: String,
    /// Its identity, where its traffic table has one.
    pub deployment_id: Option<String>,
    /// Rows that clients were answered and that left no record, because the queue was full.
    dropped_rows: AtomicU64,
}

impl Feed {
    pub(crate) fn new(deployment: &str, deployment_id: Option<&str>) -> Self {
        Self {
            deployment: deployment.to_owned(),
            deployment_id: deployment_id.map(str::to_owned),
            dropped_rows: AtomicU64::new(0),
        }
    }

    /// The deployment and its identity: records with the same key share messages.
    pub(crate) fn key(&self) -> (&str, Option<&str>) {
        (&self.deployment, self.deployment_id.as_deref())
    }

    pub(crate) fn count_dropped(&self, rows: u64) {
        self.dropped_rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn dropped_rows(&self) -> u64 {
        self.dropped_rows.load(Ordering::Relaxed)
    }
}

impl PartialEq for Feed {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
