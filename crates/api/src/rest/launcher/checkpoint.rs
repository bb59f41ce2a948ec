//! Committed checkpoints.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slipway_domain::training;
use utoipa::ToSchema;

/// A committed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// Training step.
    pub step: u64,
    /// Attempt that wrote it.
    pub attempt: u32,
    /// Object key of its manifest.
    pub manifest_key: String,
    /// Files and folders at its top level.
    pub entries: Vec<String>,
    /// Number of files.
    pub files: usize,
    /// Total size, in bytes.
    pub size_bytes: u64,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
}

/// A committed checkpoint with its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointDetails {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Its files.
    pub files: Vec<CheckpointFile>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointFile {
    /// Path within the checkpoint folder.
    pub path: String,
    /// Size, in bytes.
    pub size_bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

/// Checkpoints of a job, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoints {
    /// At most 1000.
    pub checkpoints: Vec<Checkpoint>,
}

impl Checkpoint {
    /// The checkpoint of a manifest that was committed at this time.
    pub fn new(manifest: &training::Manifest, created_at: DateTime<Utc>) -> Self {
        Self {
            step: manifest.step,
            attempt: manifest.attempt,
            manifest_key: manifest.key(),
            entries: manifest.entries(),
            files: manifest.files.len(),
            size_bytes: manifest.files.iter().map(|file| file.size_bytes).sum(),
            created_at,
        }
    }
}

impl From<training::ManifestFile> for CheckpointFile {
    fn from(file: training::ManifestFile) -> Self {
        Self { path: file.path, size_bytes: file.size_bytes, sha256: file.sha256 }
    }
}
