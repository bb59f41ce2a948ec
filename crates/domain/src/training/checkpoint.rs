//! Checkpoints: when one is complete, who may commit it, which is restored, which are let go.
//!
//! An upload writes the files of a checkpoint under a prefix that no other upload has; the launcher checks
//! that they are all there, writes the manifest, and commits. A checkpoint exists by its manifest, and a
//! manifest counts only where all that it names is there, so whatever an upload left behind when it was cut
//! off is never seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::parts::{PartConflict, combine};
use super::job::Job;
use crate::{Invalid, invalid::ensure, path::check_relative};

/// `schema` of a [`Manifest`].
pub const MANIFEST_SCHEMA: &str = "slipway.checkpoint/2";
/// `schema` of manifests whose paths are those within a folder that has the step as its name.
const STEP_FOLDER_SCHEMA: &str = "slipway.checkpoint/1";
const MANIFEST_NAME: &str = "MANIFEST.json";
const SHA256_HEX_CHARS: usize = 64;
const MAX_FILES: usize = 100_000;
/// Permission bits that are kept; set-user-id and the like are not.
pub const MODE_BITS: u32 = 0o777;

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Path within the checkpoint folder.
    pub path: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Permission bits. Absent: those of a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Index in [`Manifest::parts`] of the upload that stored it. Absent: the manifest's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
}

/// A folder of a checkpoint; it may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFolder {
    /// Path within the checkpoint folder.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
}

/// A symbolic link of a checkpoint that stays inside the checkpoint folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestLink {
    /// Path within the checkpoint folder.
    pub path: String,
    /// Where it points, relative to the folder that it lies in.
    pub target: String,
}

/// What a checkpoint consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`], or that of an older release.
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
    /// Its folders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<ManifestFolder>,
    /// Its symbolic links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<ManifestLink>,
    /// The entry of the checkpoint folder that a command resumes from, where there is one such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_from: Option<String>,
    /// Number of processes that train in the distributed job that wrote it. Absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world_size: Option<u32>,
    /// Object key prefixes of the uploads by the processes of a distributed job that each saved a part.
    /// Empty: there was one upload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// When it was written, Unix time in milliseconds.
    pub created_at_unix_ms: u64,
}

impl Manifest {
    /// Checks the manifest itself; the complaint names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure([MANIFEST_SCHEMA, STEP_FOLDER_SCHEMA].contains(&self.schema.as_str()), "schema", || {
            format!("must be {MANIFEST_SCHEMA} or {STEP_FOLDER_SCHEMA}, is {}", self.schema)
        })?;
        ensure(!self.job_id.is_empty(), "job_id", || "must not be empty".into())?;
        ensure(self.attempt > 0, "attempt", || "must be 1 or more".into())?;
        check_relative(&self.prefix).map_err(|why| Invalid::new("prefix", why))?;
        for (index, part) in self.parts.iter().enumerate() {
            check_relative(part).map_err(|why| Invalid::new(format!("parts[{index}]"), why))?;
        }
        ensure(!self.files.is_empty(), "files", || "a checkpoint holds at least one file".into())?;
        let count = self.files.len() + self.folders.len() + self.links.len();
        ensure(count <= MAX_FILES, "files", || {
            format!("must be at most {MAX_FILES} with folders and links")
        })?;
        let mut seen = BTreeSet::new();
        for (index, file) in self.files.iter().enumerate() {
            let field = format!("files[{index}]");
            check_entry(&mut seen, &format!("{field}.path"), &file.path)?;
            let lower_hex = |character: char| character.is_ascii_digit() || ('a'..='f').contains(&character);
            ensure(
                file.sha256.len() == SHA256_HEX_CHARS && file.sha256.chars().all(lower_hex),
                &format!("{field}.sha256"),
                || "must be 64 lower-case hex digits".into(),
            )?;
            check_mode(&format!("{field}.mode"), file.mode.unwrap_or(0))?;
            let is_part = |part: u32| usize::try_from(part).is_ok_and(|part| part < self.parts.len());
            ensure(file.part.is_none_or(is_part), &format!("{field}.part"), || {
                format!("must be below the {} of parts", self.parts.len())
            })?;
        }
        for (index, folder) in self.folders.iter().enumerate() {
            check_entry(&mut seen, &format!("folders[{index}].path"), &folder.path)?;
            check_mode(&format!("folders[{index}].mode"), folder.mode)?;
        }
        for (index, link) in self.links.iter().enumerate() {
            check_entry(&mut seen, &format!("links[{index}].path"), &link.path)?;
            let field = format!("links[{index}].target");
            ensure(link_destination(&link.path, &link.target).is_some(), &field, || {
                format!("must stay inside the checkpoint folder, is '{}'", link.target)
            })?;
        }
        self.check_nesting()?;
        if let Some(name) = &self.resume_from {
            check_relative(name).map_err(|why| Invalid::new("resume_from", why))?;
        }
        Ok(())
    }

    /// Nothing may lie under a file or a link: restoring it would write through the link.
    fn check_nesting(&self) -> Result<(), Invalid> {
        let files = self.files.iter().map(|file| file.path.as_str());
        let leaves: BTreeSet<&str> =
            files.clone().chain(self.links.iter().map(|link| link.path.as_str())).collect();
        let folders = self.folders.iter().map(|folder| folder.path.as_str());
        for path in leaves.iter().copied().chain(folders) {
            let mut parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            let above = parents.find(|parent| leaves.contains(parent));
            ensure(above.is_none(), "files", || {
                format!("'{path}' lies under '{}', which is no folder", above.unwrap_or_default())
            })?;
        }
        Ok(())
    }

    /// Where its files belong within the checkpoint folder: at the top, or in a folder of this name.
    pub fn step_folder(&self) -> Option<String> {
        (self.schema == STEP_FOLDER_SCHEMA).then(|| self.step.to_string())
    }

    /// The entries of the checkpoint folder that it consists of, sorted.
    pub fn entries(&self) -> Vec<String> {
        if let Some(folder) = self.step_folder() {
            return vec![folder];
        }
        let paths = self.files.iter().map(|file| &file.path);
        let paths = paths
            .chain(self.folders.iter().map(|folder| &folder.path))
            .chain(self.links.iter().map(|link| &link.path));
        let names: BTreeSet<&str> = paths.map(|path| path.split('/').next().unwrap_or(path)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Object key of the manifest.
    pub fn key(&self) -> String {
        format!("{}/{MANIFEST_NAME}", self.prefix)
    }

    /// Object key of one of its files.
    pub fn file_key(&self, file: &ManifestFile) -> String {
        format!("{}/{}", self.prefix_of(file), file.path)
    }

    /// Object key prefix of the upload that stored one of its files.
    pub fn prefix_of(&self, file: &ManifestFile) -> &str {
        let part = file.part.and_then(|part| self.parts.get(usize::try_from(part).ok()?));
        part.unwrap_or(&self.prefix)
    }

    /// Object key prefixes of its uploads.
    pub fn prefixes(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.prefix).chain(&self.parts)
    }

    /// Whether `processes` that train can read it.
    pub fn fits(&self, processes: u32, may_reshard: bool) -> bool {
        may_reshard || self.world_size.unwrap_or(1) == processes
    }

    /// The first of its files that is not there with its length; `listing` has the length of each object by
    /// key.
    pub fn missing(&self, listing: &BTreeMap<String, u64>) -> Option<&ManifestFile> {
        self.files.iter().find(|file| listing.get(&self.file_key(file)) != Some(&file.size_bytes))
    }

    fn is_complete(&self, listing: &BTreeMap<String, u64>) -> bool {
        self.validate().is_ok() && self.missing(listing).is_none()
    }

    fn age_order(&self) -> (u64, u32, u64, &str) {
        (self.step, self.attempt, self.created_at_unix_ms, &self.prefix)
    }
}

fn check_entry<'paths>(
    seen: &mut BTreeSet<&'paths str>,
    field: &str,
    path: &'paths str,
) -> Result<(), Invalid> {
    check_relative(path).map_err(|why| Invalid::new(field, why))?;
    ensure(path != MANIFEST_NAME && seen.insert(path), field, || {
        format!("'{path}' is there twice or reserved")
    })
}

fn check_mode(field: &str, mode: u32) -> Result<(), Invalid> {
    ensure(mode & !MODE_BITS == 0, field, || format!("must be at most 0o{MODE_BITS:o}, is 0o{mode:o}"))
}

/// The path that a link at `path` with a relative `target` leads to, both within one folder; none where it
/// leaves the folder or leads to the folder itself.
pub fn link_destination(path: &str, target: &str) -> Option<String> {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return None;
    }
    let mut segments: Vec<&str> = path.split('/').collect();
    segments.pop();
    for segment in target.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            name => segments.push(name),
        }
    }
    let destination = segments.join("/");
    check_relative(&destination).ok().map(|()| destination)
}

/// Object key prefix of an upload: `base` is that of the job's checkpoints, `name` is unique to the upload.
pub fn upload_prefix(base: &str, step: u64, attempt: u32, name: &str) -> String {
    format!("{base}/{step:012}/{attempt}-{name}")
}

/// The step of an upload of this attempt with that prefix; none where the prefix is not what
/// [`upload_prefix`] makes of the same `base` and `attempt`.
pub fn upload_step(base: &str, attempt: u32, prefix: &str) -> Option<u64> {
    let (step, upload) = prefix.strip_prefix(base)?.strip_prefix('/')?.split_once('/')?;
    let name = upload.strip_prefix(&attempt.to_string())?.strip_prefix('-')?;
    let is_name =
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
    let step = step.parse().ok()?;
    (is_name && upload_prefix(base, step, attempt, name) == prefix).then_some(step)
}

/// Whether `path` can be one of the files of a checkpoint.
///
/// # Errors
/// Why not.
pub fn check_file_path(path: &str) -> Result<(), String> {
    if path == MANIFEST_NAME { Err(format!("'{path}' is reserved")) } else { check_relative(path) }
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
    /// Store the checkpoint in Postgres, after the attempt's token was checked.
    Commit,
}

/// The order in which a checkpoint is uploaded. Files may go in parallel; the manifest follows the last of
/// them.
pub fn upload_plan(manifest: &Manifest) -> Vec<UploadStep> {
    let files = manifest.files.iter().enumerate();
    let files = files.map(|(index, file)| UploadStep::PutFile { key: manifest.file_key(file), file: index });
    files.chain([UploadStep::PutManifest { key: manifest.key() }, UploadStep::Commit]).collect()
}

/// The checkpoint that the next attempt starts from: the newest one of which everything is there. `manifests`
/// are the committed ones, in any order; `listing` has the length of each object by key. Contents are checked
/// against their digests when they are read; on a mismatch ask again without that manifest.
pub fn choose_restore<'manifest>(
    manifests: &'manifest [Manifest],
    listing: &BTreeMap<String, u64>,
) -> Option<&'manifest Manifest> {
    manifests
        .iter()
        .filter(|manifest| manifest.is_complete(listing))
        .max_by(|left, right| left.age_order().cmp(&right.age_order()))
}

/// The checkpoints beyond the newest `keep` steps, and those that a later one of the same step supersedes,
/// oldest first. The newest is never among them. Delete the manifest of each before its files.
pub fn released(manifests: &[Manifest], keep: u32) -> Vec<&Manifest> {
    let mut newest_first: Vec<&Manifest> = manifests.iter().collect();
    newest_first.sort_by(|left, right| right.age_order().cmp(&left.age_order()));
    let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
    let mut kept = BTreeSet::new();
    newest_first.retain(|manifest| {
        let stays = kept.len() < keep && kept.insert(manifest.step);
        !stays
    });
    newest_first.reverse();
    newest_first
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

/// Whether a message of `attempt` with `token` may change the job. `current_token` is the one that the
/// current attempt was given; none while no attempt runs.
pub fn check_fence(job: &Job, current_token: Option<&str>, attempt: u32, token: &str) -> Result<(), Fenced> {
    if job.has_attempt() && job.attempt() == attempt && current_token == Some(token) {
        Ok(())
    } else {
        Err(Fenced { attempt, current: job.attempt() })
    }
}

mod parts;
#[cfg(test)]
mod tests;
