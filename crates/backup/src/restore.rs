//! Restores a backup.

use crate::manifest::Manifest;
use crate::place::Place;
use crate::{Installation, Progress, objects, postgres, streams, verify};

/// How to restore.
#[derive(Debug, Clone, Copy, Default)]
pub struct RestoreOptions {
    /// Whether what the installation has in Postgres and NATS may be deleted.
    pub replace: bool,
}

/// What was restored.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The backup.
    pub manifest: Manifest,
    /// Artifacts that the bucket lacked.
    pub objects_written: u64,
}

/// Restores a backup into an installation whose services are stopped. All checks come before the first
/// change. Artifacts come first, then streams, then all rows in one transaction, so a restore that was
/// interrupted is run again in the same way.
///
/// # Errors
/// The backup is damaged or of a newer release, services run, the installation is not empty, or a server is
/// unreachable or refuses.
pub async fn restore(
    installation: &Installation,
    place: &Place,
    options: RestoreOptions,
    progress: Progress<'_>,
) -> anyhow::Result<Restored> {
    let manifest = Manifest::read(place).await?;
    postgres::check_known(&manifest.postgres.schemas)?;
    let mut connection = postgres::connect(&installation.postgres).await?;
    postgres::check_target(&mut connection, options.replace).await?;
    let client = installation.nats.client();
    streams::check_target(client, &manifest.streams, options.replace).await?;
    // Copies of artifacts are verified while they are written.
    verify::verify_data(place, &manifest).await?;

    let objects_written =
        objects::load(&installation.artifacts, place, &manifest.artifacts, progress).await?;
    progress(&format!("artifacts: {objects_written} of {} objects written", manifest.artifacts.objects));
    streams::load(client, &manifest.streams, place, progress).await?;
    postgres::load(&mut connection, &manifest.postgres, place, progress).await?;
    Ok(Restored { manifest, objects_written })
}
