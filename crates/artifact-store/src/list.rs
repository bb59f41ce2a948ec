//! Walking a bucket in pages.

use std::time::SystemTime;

use crate::{ArtifactStore, Error};

/// S3's own limit of a page.
const MAX_PAGE: usize = 1_000;

/// One object of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Object key.
    pub key: String,
    /// Length.
    pub size_bytes: u64,
    /// Changes with the bytes; absent where the store does not say.
    pub etag: Option<String>,
    /// When it was written; absent where the store does not say.
    pub modified: Option<SystemTime>,
}

impl ArtifactStore {
    /// Objects under a prefix behind the key `after`, in key order, at most `limit` and never more than 1000.
    ///
    /// # Errors
    /// The store is unreachable or refuses.
    pub async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>, Error> {
        let page = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .set_start_after(after.map(str::to_owned))
            .max_keys(i32::try_from(limit.min(MAX_PAGE)).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| Error::store("list objects", error))?;
        let listed = page.contents.unwrap_or_default().into_iter().filter_map(|object| {
            Some(Listed {
                key: object.key?,
                size_bytes: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                etag: object.e_tag,
                modified: object.last_modified.and_then(|time| SystemTime::try_from(time).ok()),
            })
        });
        Ok(listed.collect())
    }
}

/// Path of an object within a prefix; `None` for one that only begins alike, and for the empty objects by
/// which some clients mark folders.
pub fn path_within(prefix: &str, key: &str) -> Option<String> {
    if key == prefix {
        return key.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
    }
    let rest = key.strip_prefix(prefix)?;
    let rest = if prefix.ends_with('/') { rest } else { rest.strip_prefix('/')? };
    (!rest.is_empty() && !rest.ends_with('/')).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_a_folder_have_paths_within_it() {
        for (prefix, key, path) in [
            ("m/fraud", "m/fraud/1/model.onnx", Some("1/model.onnx")),
            ("m/fraud/", "m/fraud/model.onnx", Some("model.onnx")),
            ("m/fraud", "m/fraud-2/model.onnx", None),
            ("m/fraud.onnx", "m/fraud.onnx", Some("fraud.onnx")),
            ("m/fraud/", "m/fraud/", None),
            ("m/fraud", "m/fraud/data/", None),
        ] {
            assert_eq!(path_within(prefix, key).as_deref(), path, "{prefix} {key}");
        }
    }
}
