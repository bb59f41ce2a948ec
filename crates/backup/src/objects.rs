//! Artifacts: which objects there are, and copies of their bytes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use slipway_artifact_store::{ArtifactStore, Error, Listed};

use crate::Progress;
use crate::manifest::ArtifactsPart;
use crate::place::{FileRef, Place};

const PAGE: usize = 1_000;
/// Objects on their way at once.
const AT_ONCE: usize = 16;
/// Number of objects between two reports of progress.
const REPORT_EVERY: u64 = 1_000;
const INDEX: &str = "objects.jsonl";

/// An object of the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectLine {
    pub(crate) key: String,
    pub(crate) size_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// The copy; absent if the backup has no bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) copy: Option<FileRef>,
}

/// Objects by key.
pub(crate) type Objects = BTreeMap<String, ObjectLine>;

/// The file of a copy. Keys may be longer than names of files, and have any characters.
fn path_of(key: &str) -> String {
    let digest = hex::encode(Sha256::digest(key));
    format!("objects/{}/{digest}", &digest[..2])
}

/// What an interrupted backup has copied to a folder.
pub(crate) async fn resume(place: &Place) -> anyhow::Result<Objects> {
    let Some(path) = place.journal() else { return Ok(Objects::new()) };
    let Ok(text) = tokio::fs::read_to_string(&path).await else { return Ok(Objects::new()) };
    // The last line may be half written.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<ObjectLine>(line).ok());
    Ok(lines.map(|line| (line.key.clone(), line)).collect())
}

/// Deletes the list of what was copied, which the index replaces.
pub(crate) async fn finish(place: &Place) -> anyhow::Result<()> {
    match place.journal() {
        Some(path) => match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
        None => Ok(()),
    }
}

/// Copies every object that `known` lacks or has with another ETag or length.
pub(crate) async fn copy_new(
    store: &ArtifactStore,
    place: &Place,
    known: &mut Objects,
    copy: bool,
    progress: Progress<'_>,
) -> anyhow::Result<()> {
    let mut journal = place.journal().map(|path| Journal::open(&path)).transpose()?;
    let (mut after, mut count, mut size_bytes) = (None::<String>, 0_u64, 0_u64);
    loop {
        let page = store.list_page("", after.as_deref(), PAGE).await.context("S3")?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        let new: Vec<Listed> = page.into_iter().filter(|listed| !is_known(known, listed)).collect();
        let mut copies = futures::stream::iter(new)
            .map(|listed| copied(store, place, listed, copy))
            .buffer_unordered(AT_ONCE);
        while let Some(line) = copies.try_next().await? {
            // Deleted since it was listed: the rows that named it were deleted before.
            let Some(line) = line else { continue };
            if let Some(journal) = &mut journal {
                journal.add(&line)?;
            }
            (count, size_bytes) = (count + 1, size_bytes + line.size_bytes);
            if count % REPORT_EVERY == 0 {
                progress(&format!("artifacts: {count} objects, {size_bytes} bytes so far"));
            }
            known.insert(line.key.clone(), line);
        }
    }
}

fn is_known(known: &Objects, listed: &Listed) -> bool {
    known
        .get(&listed.key)
        .is_some_and(|line| line.etag == listed.etag && line.size_bytes == listed.size_bytes)
}

async fn copied(
    store: &ArtifactStore,
    place: &Place,
    listed: Listed,
    copy: bool,
) -> anyhow::Result<Option<ObjectLine>> {
    let Listed { key, size_bytes, etag, .. } = listed;
    if !copy {
        return Ok(Some(ObjectLine { key, size_bytes, etag, copy: None }));
    }
    let download = match store.get(&key).await {
        Ok(download) => download,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("S3, object {key}")),
    };
    let expected = download.size_bytes;
    let file = place.write(&path_of(&key), download.into_stream()).await;
    let file = file.with_context(|| format!("S3, object {key}"))?;
    ensure!(
        file.size_bytes == expected,
        "S3, object {key}: {} bytes were received, expected {expected}",
        file.size_bytes
    );
    Ok(Some(ObjectLine { key, size_bytes: expected, etag, copy: Some(file) }))
}

/// What was copied, so that an interrupted backup goes on.
struct Journal(std::fs::File);

impl Journal {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(file.with_context(|| format!("cannot write {}", path.display()))?))
    }

    fn add(&mut self, line: &ObjectLine) -> anyhow::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        Ok(self.0.write_all(text.as_bytes())?)
    }
}

/// Writes the list of all objects.
pub(crate) async fn write_index(
    store: &ArtifactStore,
    place: &Place,
    objects: Objects,
    copied: bool,
) -> anyhow::Result<ArtifactsPart> {
    let count = objects.len() as u64;
    let size_bytes = objects.values().map(|object| object.size_bytes).sum();
    let lines = futures::stream::iter(objects.into_values()).chunks(PAGE).map(|lines| {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        Ok(Bytes::from(text))
    });
    let index = place.write(INDEX, lines).await?;
    Ok(ArtifactsPart { bucket: store.bucket().to_owned(), copied, objects: count, size_bytes, index })
}

/// The lines of the index.
pub(crate) async fn index(
    place: &Place,
    part: &ArtifactsPart,
) -> anyhow::Result<BoxStream<'static, anyhow::Result<ObjectLine>>> {
    let path = part.index.path.clone();
    let stream = place.open(&path).await?.with_context(|| format!("{place}: {path} is missing"))?;
    let lines = futures::stream::try_unfold((stream, BytesMut::new()), move |(mut stream, mut rest)| {
        let path = path.clone();
        async move {
            loop {
                if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line = rest.split_to(end + 1);
                    let line = serde_json::from_slice(&line).with_context(|| format!("{path}: bad line"))?;
                    return Ok(Some((line, (stream, rest))));
                }
                match stream.try_next().await? {
                    Some(chunk) => rest.extend_from_slice(&chunk),
                    None if rest.is_empty() => return Ok(None),
                    None => bail!("{path} is truncated"),
                }
            }
        }
    });
    Ok(lines.boxed())
}

/// Writes the objects of a backup into the bucket, those that it lacks. Returns how many were written. With a
/// backup that has no bytes, all must be there.
pub(crate) async fn load(
    store: &ArtifactStore,
    place: &Place,
    part: &ArtifactsPart,
    progress: Progress<'_>,
) -> anyhow::Result<u64> {
    store.ensure_bucket().await.context("S3")?;
    let present = listed(store).await?;
    let lines =
        index(place, part).await?.try_filter(|line| futures::future::ready(!is_present(&present, line)));
    if !part.copied {
        return check_present(lines.boxed(), store.bucket()).await;
    }
    let mut writes =
        lines.map(|line| async { restore_object(store, place, &line?).await }).buffer_unordered(AT_ONCE);
    let mut count = 0;
    while writes.try_next().await?.is_some() {
        count += 1;
        if count % REPORT_EVERY == 0 {
            progress(&format!("artifacts: {count} objects so far"));
        }
    }
    Ok(count)
}

async fn listed(store: &ArtifactStore) -> anyhow::Result<BTreeMap<String, (u64, Option<String>)>> {
    let (mut present, mut after) = (BTreeMap::new(), None::<String>);
    loop {
        let page = store.list_page("", after.as_deref(), PAGE).await.context("S3")?;
        let Some(last) = page.last() else { return Ok(present) };
        after = Some(last.key.clone());
        present.extend(page.into_iter().map(|listed| (listed.key, (listed.size_bytes, listed.etag))));
    }
}

fn is_present(present: &BTreeMap<String, (u64, Option<String>)>, line: &ObjectLine) -> bool {
    present.get(&line.key).is_some_and(|(size_bytes, etag)| {
        *size_bytes == line.size_bytes && etag.is_some() && *etag == line.etag
    })
}

async fn check_present(
    missing: BoxStream<'_, anyhow::Result<ObjectLine>>,
    bucket: &str,
) -> anyhow::Result<u64> {
    let missing: Vec<ObjectLine> = missing.try_collect().await?;
    let Some(first) = missing.first() else { return Ok(0) };
    bail!(
        "the backup has no copies of artifacts (--artifacts manifest), and bucket {bucket} lacks {} of its \
         objects or has other bytes, the first of which is `{}`: restore the bucket from its replica or \
         version history first",
        missing.len(),
        first.key
    )
}

async fn restore_object(store: &ArtifactStore, place: &Place, line: &ObjectLine) -> anyhow::Result<()> {
    let key = &line.key;
    let Some(file) = &line.copy else { bail!("object {key}: the backup has no copy of it") };
    let stream = place.open(&file.path).await?;
    let stream = stream.with_context(|| format!("object {key}: {place}: {} is missing", file.path))?;
    let stored = store.put_stream(key, stream, Some(line.size_bytes)).await;
    let stored = stored.with_context(|| format!("S3, object {key}"))?;
    if stored.sha256 != file.sha256 {
        store.delete(key).await.with_context(|| format!("S3, object {key}"))?;
        bail!("object {key}: {} is damaged: SHA-256 {}, expected {}", file.path, stored.sha256, file.sha256);
    }
    Ok(())
}
