//! Where a backup is kept, as an argument names it.

use std::path::Path;

use anyhow::{Context as _, bail};
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_backup::Place;

use crate::installation::{KnownServers, variable};

const SCHEME: &str = "s3://";

/// A folder, or `s3://BUCKET/PREFIX`.
pub(super) fn parse(text: &str, data_dir: &Path) -> anyhow::Result<Place> {
    match bucket_and_prefix(text)? {
        None => Ok(Place::Folder(text.into())),
        Some((bucket, prefix)) => {
            let config = config(data_dir)?;
            Ok(Place::Bucket { store: ArtifactStore::new(&config).in_bucket(bucket), prefix })
        }
    }
}

/// `None` for a folder.
fn bucket_and_prefix(text: &str) -> anyhow::Result<Option<(&str, String)>> {
    let Some(rest) = text.strip_prefix(SCHEME) else {
        if text.is_empty() || text.contains("://") {
            bail!("`{text}` is not a place of a backup: expected a folder or s3://BUCKET/PREFIX");
        }
        return Ok(None);
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    if bucket.is_empty() || prefix.is_empty() {
        bail!("`{text}` is not a place of a backup: expected s3://BUCKET/PREFIX, e.g. s3://backups/monday");
    }
    Ok(Some((bucket, format!("{prefix}/"))))
}

fn config(data_dir: &Path) -> anyhow::Result<S3Config> {
    let own = KnownServers::find(data_dir)?.s3;
    let Some(s3_endpoint) = variable("SLIPWAY_BACKUP_S3_ENDPOINT") else {
        return own.context("SLIPWAY_BACKUP_S3_ENDPOINT or SLIPWAY_S3_ENDPOINT is required for s3:// places");
    };
    let region = own.map_or_else(|| "us-east-1".to_owned(), |own| own.s3_region);
    Ok(S3Config {
        s3_endpoint,
        s3_region: variable("SLIPWAY_BACKUP_S3_REGION").unwrap_or(region),
        s3_bucket: String::new(),
        s3_access_key: variable("SLIPWAY_BACKUP_S3_ACCESS_KEY").unwrap_or_default(),
        s3_secret_key: variable("SLIPWAY_BACKUP_S3_SECRET_KEY").unwrap_or_default().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_folders_or_prefixes_of_buckets() {
        assert_eq!(bucket_and_prefix("backups/monday").unwrap(), None);
        let monday = bucket_and_prefix("s3://backups/slipway/monday/").unwrap();
        assert_eq!(monday, Some(("backups", "slipway/monday/".to_owned())));
        for text in ["", "s3://", "s3://backups", "s3:///monday", "https://example.com/backup"] {
            let error = bucket_and_prefix(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("s3://BUCKET/PREFIX"), "{error}");
        }
    }
}
