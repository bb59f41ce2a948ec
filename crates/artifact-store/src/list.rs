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
