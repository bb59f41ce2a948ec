//! `backup.json`: what a backup has. It is written last, so a backup with it is complete.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::place::{FileRef, Place};

/// Name of the format.
const FORMAT: &str = "slipway-backup";
/// Version of the format that this release writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// File with the manifest.
pub(crate) const MANIFEST: &str = "backup.json";
/// File with its SHA-256.
const MANIFEST_DIGEST: &str = "backup.json.sha256";
const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

/// The contents of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `slipway-backup`.
    pub format: String,
    /// Version of the format.
    pub format_version: u32,
    /// Release that made it.
    pub slipway_version: String,
    /// When the snapshot of Postgres was taken, RFC 3339.
    pub snapshot_at: String,
    /// Schemas of Postgres.
    pub postgres: PostgresPart,
    /// Artifacts.
    pub artifacts: ArtifactsPart,
    /// Streams of NATS.
    pub streams: Vec<StreamPart>,
}

/// Schemas of Postgres.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PostgresPart {
    /// Version of the server.
    pub server_version: String,
    /// One for each service that stores anything.
    pub schemas: Vec<SchemaPart>,
}

/// A schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SchemaPart {
    /// Its name.
    pub name: String,
    /// SHA-384 checksums of applied migrations in hex, by version, by the table that lists them.
    pub migrations: BTreeMap<String, BTreeMap<i64, String>>,
    /// Its tables.
    pub tables: Vec<TablePart>,
    /// Last values of sequences that were used.
    pub sequences: BTreeMap<String, i64>,
}

/// A table: its rows in the text format of COPY, compressed with gzip.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TablePart {
    /// Its name.
    pub name: String,
    /// Columns in the order of the file.
    pub columns: Vec<String>,
    /// Number of rows.
    pub rows: u64,
    /// The rows.
    pub file: FileRef,
}

/// Artifacts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArtifactsPart {
    /// Bucket that they were in.
    pub bucket: String,
    /// Whether the backup has their bytes, or their keys, sizes and ETags only.
    pub copied: bool,
    /// Number of objects.
    pub objects: u64,
    /// Total length.
    pub size_bytes: u64,
    /// An [`crate::objects::ObjectLine`] per line.
    pub index: FileRef,
}

/// A stream of NATS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamPart {
    /// Its name.
    pub name: String,
    /// Its configuration, as NATS returned it.
    pub config: Value,
    /// Its state, as NATS returned it.
    pub state: Value,
    /// Last message of the backup's moment; later ones are deleted after a restore where they are events.
    pub last_sequence: u64,
    /// Number of messages in the snapshot.
    pub messages: u64,
    /// Configurations of durable consumers, with the place where each goes on.
    pub consumers: Vec<Value>,
    /// Snapshot in the format of NATS; absent for an empty stream and for one that is kept in memory.
    pub file: Option<FileRef>,
}

impl Manifest {
    pub(crate) fn new(
        snapshot_at: String,
        postgres: PostgresPart,
        artifacts: ArtifactsPart,
        streams: Vec<StreamPart>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            slipway_version: env!("CARGO_PKG_VERSION").to_owned(),
            snapshot_at,
            postgres,
            artifacts,
            streams,
        }
    }

    /// Number of rows of all tables.
    pub fn rows(&self) -> u64 {
        self.postgres.schemas.iter().flat_map(|schema| &schema.tables).map(|table| table.rows).sum()
    }

    /// Number of messages of all streams.
    pub fn messages(&self) -> u64 {
        self.streams.iter().map(|stream| stream.messages).sum()
    }

    pub(crate) async fn write(&self, place: &Place) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        let digest = format!("{}\n", hex::encode(Sha256::digest(&text)));
        place.write_bytes(MANIFEST_DIGEST, Bytes::from(digest)).await?;
        place.settle().await?;
        place.write_bytes(MANIFEST, Bytes::from(text)).await?;
        place.settle().await
    }

    /// Reads the manifest of a backup.
    ///
    /// # Errors
    /// There is none, it is damaged, or a newer release made it.
    pub async fn read(place: &Place) -> anyhow::Result<Self> {
        let Some(text) = place.read_bytes(MANIFEST, MAX_MANIFEST_BYTES).await? else {
            bail!(
                "{place} has no {MANIFEST}: it is not a backup, or the backup is incomplete; run `slipway \
                 backup create` again with the same --output to complete it"
            );
        };
        let digest = place.read_bytes(MANIFEST_DIGEST, 1024).await?.unwrap_or_default();
        let actual = hex::encode(Sha256::digest(&text));
        if String::from_utf8_lossy(&digest).trim() != actual {
            bail!("{place}: {MANIFEST} is damaged: its SHA-256 is {actual}, which {MANIFEST_DIGEST} lacks");
        }
        Self::parse(&text).with_context(|| format!("{place}: {MANIFEST}"))
    }

    fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let document: Value = serde_json::from_slice(text).context("not JSON")?;
        if document["format"] != FORMAT {
            bail!("format is {}, expected \"{FORMAT}\"", document["format"]);
        }
        let version = document["format_version"].as_u64().unwrap_or_default();
        if version == 0 || version > u64::from(FORMAT_VERSION) {
            bail!(
                "format_version is {}, expected 1 to {FORMAT_VERSION}: use the release that made the backup \
                 ({}), or a newer one",
                document["format_version"],
                document["slipway_version"].as_str().unwrap_or("unknown"),
            );
        }
        serde_json::from_value(document).context("not a manifest of a backup")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_and_newer_ones_are_refused_with_what_was_expected() {
        let error = |text: &str| format!("{:#}", Manifest::parse(text.as_bytes()).unwrap_err());
        assert!(error("{").contains("not JSON"));
        assert!(error(r#"{"format": "tar"}"#).contains("expected \"slipway-backup\""));
        let newer = error(r#"{"format": "slipway-backup", "format_version": 9, "slipway_version": "3.0.0"}"#);
        assert!(newer.contains("format_version is 9, expected 1 to 1") && newer.contains("3.0.0"), "{newer}");
        assert!(error(r#"{"format": "slipway-backup", "format_version": 1}"#).contains("not a manifest"));
    }
}
