//! Backups of an installation: the schemas of all services in Postgres, the artifacts in S3, and the streams
//! of NATS. A backup is made while the platform runs, and has every write that was acknowledged before it
//! began.
//!
//! The order makes it consistent. Artifacts are stored before the rows that name them and deleted after them,
//! so they are copied before the snapshot of Postgres and once more after it. Events are published after
//! their change has committed, so the streams are read after the snapshot; consumers start again at the
//! place that they had acknowledged before it, and the inbox of each schema makes repeated events harmless.

mod create;
mod manifest;
mod objects;
mod place;
mod postgres;
mod restore;
mod streams;
mod verify;

pub use create::{Artifacts, create};
pub use manifest::{FORMAT_VERSION, Manifest};
pub use place::Place;
pub use postgres::{newer_schemas, schema_names};
pub use restore::{RestoreOptions, Restored, restore};
use slipway_artifact_store::ArtifactStore;
use slipway_event_bus::EventBus;
use sqlx::postgres::PgConnectOptions;
pub use verify::{Verified, verify};

/// The servers of an installation.
#[derive(Debug, Clone)]
pub struct Installation {
    /// A user who reads all schemas, and for a restore one who may change them.
    pub postgres: PgConnectOptions,
    /// A user who may snapshot, restore and purge streams.
    pub nats: EventBus,
    /// The bucket of all artifacts.
    pub artifacts: ArtifactStore,
}

/// Receives lines that report progress.
pub type Progress<'run> = &'run (dyn Fn(&str) + Send + Sync);
