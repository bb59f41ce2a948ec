//! Checkpoints on their way between agents and the artifact store. Agents have no key of the store: each file
//! is stored and read under a presigned URL, which names one object and expires. An attempt gets URLs for
//! objects under its own uploads, and for files of its job's committed checkpoints, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_artifact_store::{Error, MAX_PARTS, UploadedPart};
use slipway_domain::training::{Manifest, check_file_path, upload_step};
use slipway_http_server::Problem;
use uuid::Uuid;

use crate::state::State;

/// URLs are valid for this long. An agent that is slower asks again.
const VALID: Duration = Duration::from_secs(3_600);
/// Files of one call.
pub(crate) const MAX_FILES: usize = 256;
/// Parts of one call.
const MAX_SIGNED_PARTS: u32 = 64;
const MIB: u64 = 1024 * 1024;
/// A file that is no longer than this is stored by one request.
const PART_BYTES: u64 = 16 * MIB;
/// Largest object of S3.
const MAX_OBJECT_BYTES: u64 = 5 * MIB * MIB;
/// Objects of an upload.
const MAX_OBJECTS: usize = 100_001;

/// Object key prefix of a job's checkpoints, without a trailing slash.
pub(crate) fn prefix_of(job_id: Uuid) -> String {
    format!("checkpoints/{job_id}")
}

/// One upload of an attempt: where its objects are.
#[derive(Debug)]
pub(crate) struct Upload<'state> {
    state: &'state State,
    prefix: String,
}

/// How a file is stored.
#[derive(Debug)]
pub(crate) enum Target {
    /// By one PUT under this URL.
    Whole { url: String },
    /// In parts.
    Parts { upload_id: String, part_bytes: u64 },
}

impl<'state> Upload<'state> {
    /// The upload with this prefix, if it is one of the attempt.
    pub(crate) fn of(
        state: &'state State,
        job_id: Uuid,
        attempt: u32,
        prefix: String,
    ) -> Result<Self, Problem> {
        match upload_step(&prefix_of(job_id), attempt, &prefix) {
            Some(_) => Ok(Self { state, prefix }),
            None => Err(Problem::invalid("prefix", "is not that of an upload of this attempt")),
        }
    }

    /// Object key of a file; `field` is where its path came from.
    fn key(&self, field: &str, path: &str) -> Result<String, Problem> {
        check_file_path(path).map_err(|reason| Problem::invalid(field, reason))?;
        Ok(format!("{}/{path}", self.prefix))
    }

    /// Where the files, given by path and length, are stored.
    pub(crate) async fn begin(&self, files: &[(String, u64)]) -> Result<Vec<Target>, Problem> {
        check_count("files", files.len())?;
        let mut targets = Vec::with_capacity(files.len());
        for (index, (path, size_bytes)) in files.iter().enumerate() {
            let key = self.key(&format!("files[{index}].path"), path)?;
            if *size_bytes > MAX_OBJECT_BYTES {
                let detail = format!("must be at most {MAX_OBJECT_BYTES}, is {size_bytes}");
                return Err(Problem::invalid(format!("files[{index}].size_bytes"), detail));
            }
            targets.push(self.target(&key, *size_bytes).await?);
        }
        Ok(targets)
    }

    async fn target(&self, key: &str, size_bytes: u64) -> Result<Target, Problem> {
        let store = &self.state.store;
        if size_bytes <= PART_BYTES {
            let url = store.presigned_put(key, VALID).await.map_err(unavailable)?;
            return Ok(Target::Whole { url });
        }
        let upload_id = store.begin_parts(key).await.map_err(unavailable)?;
        Ok(Target::Parts { upload_id, part_bytes: part_bytes(size_bytes) })
    }

    /// URLs for parts of a file, in order.
    pub(crate) async fn sign_parts(
        &self,
        path: &str,
        upload_id: &str,
        first: u32,
        count: u32,
    ) -> Result<Vec<String>, Problem> {
        let key = self.key("path", path)?;
        if count == 0 || count > MAX_SIGNED_PARTS {
            return Err(Problem::invalid("count", format!("must be 1 to {MAX_SIGNED_PARTS}, is {count}")));
        }
        let numbers = first..first.saturating_add(count);
        if first == 0 || numbers.end > MAX_PARTS.unsigned_abs() + 1 {
            let detail = format!("parts must be numbered 1 to {MAX_PARTS}, are {count} from {first}");
            return Err(Problem::invalid("first_part", detail));
        }
        let mut urls = Vec::new();
        for number in numbers {
            let signed = self.state.store.presigned_part(&key, upload_id, number.cast_signed(), VALID).await;
            urls.push(signed.map_err(unavailable)?);
        }
        Ok(urls)
    }

    /// Makes one object of a file's parts.
    pub(crate) async fn complete(
        &self,
        path: &str,
        upload_id: &str,
        etags: Vec<String>,
    ) -> Result<(), Problem> {
        let key = self.key("path", path)?;
        let parts: Vec<UploadedPart> =
            (1..).zip(etags).map(|(number, etag)| UploadedPart { number, etag }).collect();
        match self.state.store.complete_parts(&key, upload_id, &parts).await {
            Ok(()) => Ok(()),
            // The answer to an earlier call may have been lost.
            Err(Error::Parts { .. }) if self.is_stored(&key).await => Ok(()),
            Err(Error::Parts { reason }) => {
                Err(Problem::invalid("etags", format!("the parts do not match: {reason}")))
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    async fn is_stored(&self, key: &str) -> bool {
        matches!(self.state.store.size_bytes(key).await, Ok(Some(_)))
    }

    /// Deletes what the upload has stored.
    pub(crate) async fn discard(&self) -> Result<(), Problem> {
        delete(self.state, &self.prefix).await.map_err(unavailable)
    }
}

/// Writes the manifest of an upload whose files are all stored.
pub(crate) async fn seal(state: &State, manifest: &Manifest) -> Result<(), Problem> {
    let mut listing: BTreeMap<String, u64> = BTreeMap::new();
    for prefix in manifest.prefixes() {
        let found = state.store.list(&format!("{prefix}/"), MAX_OBJECTS).await.map_err(unavailable)?;
        listing.extend(found.into_iter().map(|object| (object.key, object.size_bytes)));
    }
    let json = serde_json::to_string(manifest).map_err(Problem::internal)?;
    if let Some(file) = manifest.missing(&listing) {
        let stored = listing.get(&manifest.file_key(file));
        let stored =
            stored.map_or("is not stored".to_owned(), |bytes| format!("is stored with {bytes} bytes"));
        let detail = format!("the file `{}` of {} bytes {stored}", file.path, file.size_bytes);
        return Err(Problem::invalid("manifest_json", detail));
    }
    // `false` where an earlier call wrote it.
    state.store.put_if_absent(&manifest.key(), json.into_bytes().into()).await.map(drop).map_err(unavailable)
}

/// URLs of files of the committed checkpoint with this prefix, in order.
pub(crate) async fn sign_downloads(
    state: &State,
    prefix: &str,
    paths: &[String],
) -> Result<Vec<String>, Problem> {
    check_count("paths", paths.len())?;
    let mut urls = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        check_file_path(path).map_err(|reason| Problem::invalid(format!("paths[{index}]"), reason))?;
        let signed = state.store.presigned_get(&format!("{prefix}/{path}"), VALID).await;
        urls.push(signed.map_err(unavailable)?);
    }
    Ok(urls)
}

/// Deletes the objects of a checkpoint or of an upload. First the manifest: without it the rest is no
/// checkpoint.
pub(crate) async fn delete(state: &State, prefix: &str) -> Result<(), Error> {
    state.store.delete(&format!("{prefix}/MANIFEST.json")).await?;
    for object in state.store.list(&format!("{prefix}/"), MAX_OBJECTS).await? {
        state.store.delete(&object.key).await?;
    }
    state.store.abort_parts_under(&format!("{prefix}/")).await.map(drop)
}

/// Size of a file's parts: all but the last one have the same, because some stores require it, and there are
/// few enough of them.
fn part_bytes(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(MAX_PARTS.unsigned_abs().into()).next_multiple_of(MIB).max(PART_BYTES)
}

fn check_count(field: &str, count: usize) -> Result<(), Problem> {
    if count <= MAX_FILES {
        return Ok(());
    }
    Err(Problem::invalid(field, format!("must be at most {MAX_FILES}, are {count}")))
}

fn unavailable(error: Error) -> Problem {
    tracing::warn!(%error, "request of an agent to the artifact store failed");
    Problem::unavailable("the artifact store")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_few_enough_parts_of_one_size() {
        assert_eq!(part_bytes(PART_BYTES + 1), PART_BYTES);
        assert_eq!(part_bytes(160_000 * MIB), PART_BYTES);
        assert_eq!(part_bytes(160_000 * MIB + 1), 17 * MIB);
        for size_bytes in [PART_BYTES + 1, 999_999 * MIB, MAX_OBJECT_BYTES] {
            let parts = size_bytes.div_ceil(part_bytes(size_bytes));
            assert!(parts <= u64::from(MAX_PARTS.unsigned_abs()), "{size_bytes}: {parts} parts");
        }
    }
}
