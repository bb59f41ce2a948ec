//! Makes a backup.

use anyhow::{Context as _, bail};

use crate::manifest::{MANIFEST, Manifest};
use crate::objects;
use crate::place::Place;
use crate::postgres::{self, Snapshot};
use crate::{Installation, Progress, streams};

/// What a backup has of artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Artifacts {
    /// Their bytes.
    Copy,
    /// Keys, sizes and ETags: the bucket has a replica or a version history of its own.
    Manifest,
}

/// Makes a backup of a running installation. An interrupted backup goes on with the artifacts that it has not
/// copied yet.
///
/// # Errors
/// The place has a complete backup or other files, or a server is unreachable or refuses.
pub async fn create(
    installation: &Installation,
    place: &Place,
    artifacts: Artifacts,
    progress: Progress<'_>,
) -> anyhow::Result<Manifest> {
    check_place(place).await?;
    // Whether the servers can be used, before what takes long.
    postgres::connect(&installation.postgres).await.map(drop)?;
    let client = installation.nats.client();
    streams::places(client).await.map(drop)?;
    place.prepare().await?;

    let copy = artifacts == Artifacts::Copy;
    let (store, mut known) = (&installation.artifacts, objects::resume(place).await?);
    if !known.is_empty() {
        progress(&format!("artifacts: {} objects were copied by an interrupted backup", known.len()));
    }
    known.retain(|_, object| object.copy.is_some() == copy);
    objects::copy_new(store, place, &mut known, copy, progress).await?;

    let places = streams::places(client).await?;
    let snapshot = Snapshot::take(&installation.postgres).await?;
    let snapshot_at = snapshot.taken_at.clone();
    let last = streams::last_sequences(client, &places).await?;
    let postgres = postgres::dump(snapshot, place, progress).await?;
    let streams = streams::dump(client, places, last, place, progress).await?;

    // Those that were stored while the first ones were copied.
    objects::copy_new(store, place, &mut known, copy, progress).await?;
    let artifacts = objects::write_index(store, place, known, copy).await?;
    progress(&format!("artifacts: {} objects, {} bytes", artifacts.objects, artifacts.size_bytes));

    let manifest = Manifest::new(snapshot_at, postgres, artifacts, streams);
    manifest.write(place).await?;
    objects::finish(place).await?;
    Ok(manifest)
}

/// A new place, or that of an interrupted backup.
async fn check_place(place: &Place) -> anyhow::Result<()> {
    let found = place.open(MANIFEST).await;
    // A bucket that does not exist yet is created.
    let exists = match place {
        Place::Folder(_) => found?.is_some(),
        Place::Bucket { .. } => found.is_ok_and(|found| found.is_some()),
    };
    if exists {
        let made = Manifest::read(place).await.with_context(|| format!("{place} has a backup already"))?;
        bail!("{place} has the backup of {} already: use another --output", made.snapshot_at);
    }
    let is_resumed = place.journal().is_some_and(|journal| journal.exists());
    if !is_resumed && !place.is_empty_folder().await {
        bail!("{place} is not empty and has no backup: use a new folder for --output");
    }
    Ok(())
}
