//! Checkpoints: when one is complete, who may commit it, which is restored, which are let go.
//!
//! An upload writes the files of a checkpoint under a prefix that no other upload has, then its manifest, then the commit. A
//! checkpoint exists by its manifest, and a manifest counts only where all that it names is there, so whatever an upload left
//! behind when it was cut off is never seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Invalid, invalid::ensure, path::check_relative};

/// `schema` of a [`Manifest`].
pub const MANIFEST_SCHEMA: &str = "slipway.checkpoint/1";
const MANIFEST_NAME: &str = "MANIFEST.json";
const SHA256_HEX_CHARS: usize = 64;
const MAX_FILES: usize = 100_000;

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Path within the checkpoint's directory.
    pub path: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// What a checkpoint consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: String,
    /// Job that wrote it.
    pub job_id: String,
    /// Attempt that wrote it.
    pub attempt: u32,
    /// Training step that it holds.
    pub step: u64,
    /// Object key prefix of its files, unique to this upload, without a trailing slash.
    pub prefix: String,
    /// Its files.
    pub files: Vec<ManifestFile>,
    /// When it was written, Unix time in milliseconds.
    pub created_at_unix_ms: u64,
}

impl Manifest {
    /// Checks the manifest itself; the complaint names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure(self.schema == MANIFEST_SCHEMA, "schema", || format!("must be {MANIFEST_SCHEMA}"))?;
        ensure(!self.job_id.is_empty(), "job_id", || "must not be empty".into())?;
        ensure(self.attempt > 0, "attempt", || "must be 1 or more".into())?;
        check_relative(&self.prefix).map_err(|why| Invalid::new("prefix", why))?;
        ensure(!self.files.is_empty(), "files", || "a checkpoint holds at least one file".into())?;
        ensure(self.files.len() <= MAX_FILES, "files", || format!("must be at most {MAX_FILES}"))?;
        let mut seen = BTreeSet::new();
        for (index, file) in self.files.iter().enumerate() {
            let field = format!("files[{index}]");
            check_relative(&file.path).map_err(|why| Invalid::new(format!("{field}.path"), why))?;
            ensure(file.path != MANIFEST_NAME && seen.insert(&file.path), &format!("{field}.path"), || {
                format!("'{}' is there twice or reserved", file.path)
            })?;
            let lower_hex = |character: char| character.is_ascii_digit() || ('a'..='f').contains(&character);
            ensure(
                file.sha256.len() == SHA256_HEX_CHARS && file.sha256.chars().all(lower_hex),
                &format!("{field}.sha256"),
                || "must be 64 lower-case hex digits".into(),
            )?;
        }
        Ok(())
    }

    /// Object key of the manifest.
    pub fn key(&self) -> String {
        format!("{}/{MANIFEST_NAME}", self.prefix)
    }

    /// Object key of one of its files.
    pub fn file_key(&self, file: &ManifestFile) -> String {
        format!("{}/{}", self.prefix, file.path)
    }

    /// Whether every object that it names is there with its length.
    fn is_complete(&self, listing: &BTreeMap<String, u64>) -> bool {
        self.validate().is_ok()
            && self.files.iter().all(|file| listing.get(&self.file_key(file)) == Some(&file.size_bytes))
    }

    fn age_order(&self) -> (u64, u32, u64, &str) {
        (self.step, self.attempt, self.created_at_unix_ms, &self.prefix)
    }
}

/// One operation of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadStep {
    /// Put a file's bytes under this key.
    PutFile {
        /// Object key.
        key: String,
        /// Index in [`Manifest::files`].
        file: usize,
    },
    /// Put the manifest under this key, only where none is there.
    PutManifest {
        /// Object key.
        key: String,
    },
    /// Tell the launcher, which checks the attempt's token.
    Commit,
}

/// The order in which a checkpoint is uploaded. Files may go in parallel; the manifest follows the last of them.
pub fn upload_plan(manifest: &Manifest) -> Vec<UploadStep> {
    let files = manifest.files.iter().enumerate();
    let files = files.map(|(index, file)| UploadStep::PutFile { key: manifest.file_key(file), file: index });
    files.chain([UploadStep::PutManifest { key: manifest.key() }, UploadStep::Commit]).collect()
}

/// The checkpoint that the next attempt starts from: the newest one of which everything is there. `manifests` are the
/// committed ones, in any order; `listing` has the length of each object by key. Contents are checked against their digests
/// when they are read; on a mismatch ask again without that manifest.
pub fn choose_restore<'manifest>(
    manifests: &'manifest [Manifest],
    listing: &BTreeMap<String, u64>,
) -> Option<&'manifest Manifest> {
    manifests
        .iter()
        .filter(|manifest| manifest.is_complete(listing))
        .max_by(|left, right| left.age_order().cmp(&right.age_order()))
}

/// The checkpoints beyond the newest `keep`, oldest first. The newest is never among them. Delete the manifest of each before
/// its files.
pub fn released(manifests: &[Manifest], keep: u32) -> Vec<&Manifest> {
    let mut by_age: Vec<&Manifest> = manifests.iter().collect();
    by_age.sort_by(|left, right| left.age_order().cmp(&right.age_order()));
    let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
    by_age.truncate(by_age.len().saturating_sub(keep));
    by_age
}

/// A message of an attempt that is no longer the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("attempt {attempt} has been replaced; the current one is {current}")]
pub struct Fenced {
    /// Who spoke.
    pub attempt: u32,
    /// Who may speak.
    pub current: u32,
}

/// Whether a message of `attempt` with `token` may change the job. `current_token` is the one that the current attempt was given;
/// none while no attempt runs.
pub fn check_fence(
    job: &super::Job,
    current_token: Option<&str>,
    attempt: u32,
    token: &str,
) -> Result<(), Fenced> {
    if job.has_attempt() && job.attempt == attempt && current_token == Some(token) {
        Ok(())
    } else {
        Err(Fenced { attempt, current: job.attempt })
    }
}

#[cfg(test)]
mod tests;
