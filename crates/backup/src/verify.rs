//! Verifies a backup without any server.

use std::io::Write as _;

use anyhow::{Context as _, ensure};
use flate2::write::MultiGzDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use crate::Progress;
use crate::manifest::{Manifest, TablePart};
use crate::objects::{self, ObjectLine};
use crate::place::{FileRef, Place};

/// Files read at once.
const AT_ONCE: usize = 8;
/// Damaged files that an error lists.
const MAX_LISTED: usize = 10;

/// What was verified.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The backup.
    pub manifest: Manifest,
    /// Number of files whose SHA-256 was verified.
    pub files: u64,
}

/// Reads every file of a backup and compares SHA-256, lengths and numbers of rows.
///
/// # Errors
/// Files are missing or damaged; the message lists them.
pub async fn verify(place: &Place, progress: Progress<'_>) -> anyhow::Result<Verified> {
    let manifest = Manifest::read(place).await?;
    let mut files = verify_data(place, &manifest).await?;
    progress(&format!("{} rows of Postgres and {} messages verified", manifest.rows(), manifest.messages()));
    let mut damaged = Vec::new();
    let lines = objects::index(place, &manifest.artifacts).await?;
    let mut checks = lines.map(|line| async { check_object(place, line?).await }).buffer_unordered(AT_ONCE);
    let (mut objects, mut size_bytes) = (0, 0);
    while let Some((line, checked)) = checks.try_next().await? {
        (objects, size_bytes) = (objects + 1, size_bytes + line.size_bytes);
        files += u64::from(line.copy.is_some());
        if let Err(error) = checked {
            damaged.push(format!("{}: {error:#}", line.key));
        }
    }
    refuse(&damaged)?;
    ensure!(
        objects == manifest.artifacts.objects && size_bytes == manifest.artifacts.size_bytes,
        "{} lists {objects} objects with {size_bytes} bytes, expected {} with {}",
        manifest.artifacts.index.path,
        manifest.artifacts.objects,
        manifest.artifacts.size_bytes
    );
    Ok(Verified { manifest, files })
}

fn refuse(damaged: &[String]) -> anyhow::Result<()> {
    let listed = &damaged[..damaged.len().min(MAX_LISTED)];
    ensure!(damaged.is_empty(), "{} files are missing or damaged:\n  {}", damaged.len(), listed.join("\n  "));
    Ok(())
}

/// Verifies everything but copies of artifacts. Returns the number of files.
pub(crate) async fn verify_data(place: &Place, manifest: &Manifest) -> anyhow::Result<u64> {
    let (mut files, mut damaged) = (0, Vec::new());
    let mut note = |path: &str, checked: anyhow::Result<()>| {
        files += 1;
        if let Err(error) = checked {
            damaged.push(format!("{path}: {error:#}"));
        }
    };
    for table in manifest.postgres.schemas.iter().flat_map(|schema| &schema.tables) {
        note(&table.file.path, check_table(place, table).await);
    }
    for file in manifest.streams.iter().filter_map(|stream| stream.file.as_ref()) {
        note(&file.path, check_file(place, file, |_| Ok(())).await);
    }
    let index = &manifest.artifacts.index;
    note(&index.path, check_file(place, index, |_| Ok(())).await);
    refuse(&damaged)?;
    Ok(files)
}

async fn check_object(place: &Place, line: ObjectLine) -> anyhow::Result<(ObjectLine, anyhow::Result<()>)> {
    let checked = match &line.copy {
        Some(file) => check_file(place, file, |_| Ok(())).await,
        None => Ok(()),
    };
    Ok((line, checked))
}

async fn check_table(place: &Place, table: &TablePart) -> anyhow::Result<()> {
    let (mut decoder, mut rows) = (MultiGzDecoder::new(Vec::new()), 0_u64);
    let count = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count() as u64;
    check_file(place, &table.file, |chunk| {
        decoder.write_all(chunk)?;
        rows += count(decoder.get_ref());
        decoder.get_mut().clear();
        Ok(())
    })
    .await?;
    rows += count(&decoder.finish().context("truncated")?);
    ensure!(rows == table.rows, "{rows} rows, expected {}", table.rows);
    Ok(())
}

async fn check_file(
    place: &Place,
    file: &FileRef,
    mut each: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut stream = place.open(&file.path).await?.context("missing")?;
    let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
    let mut readable = Ok(());
    while let Some(chunk) = stream.try_next().await? {
        hasher.update(&chunk);
        size_bytes += chunk.len() as u64;
        if readable.is_ok() {
            readable = each(&chunk);
        }
    }
    let actual = hex::encode(hasher.finalize());
    ensure!(size_bytes == file.size_bytes, "{size_bytes} bytes, expected {}", file.size_bytes);
    ensure!(actual == file.sha256, "SHA-256 is {actual}, expected {}", file.sha256);
    readable.context("not gzip")
}
