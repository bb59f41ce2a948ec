//! `slipway backup` and `slipway restore`.

mod place;

use std::path::Path;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use slipway_artifact_store::ArtifactStore;
use slipway_backup::{Artifacts, Installation, Manifest, RestoreOptions};
use slipway_event_bus::EventBus;
use sqlx::postgres::PgConnectOptions;

use crate::connection::Connection;
use crate::installation::{KnownServers, NATS_URL, POSTGRES_URL, Servers};
use crate::output::{self, errln, outln, size};

const ENVIRONMENT: &str = "Servers: SLIPWAY_POSTGRES_URL, SLIPWAY_NATS_URL, SLIPWAY_S3_ENDPOINT, \
    SLIPWAY_S3_BUCKET, SLIPWAY_S3_ACCESS_KEY and SLIPWAY_S3_SECRET_KEY, as for the services; each that is \
    not set is read from the platform in --data-dir. The user of Postgres has to read all schemas (for a \
    restore: own them, or be a superuser), that of NATS has to manage streams.\n\n\
    s3:// places are in the same S3 server, unless SLIPWAY_BACKUP_S3_ENDPOINT, SLIPWAY_BACKUP_S3_REGION, \
    SLIPWAY_BACKUP_S3_ACCESS_KEY and SLIPWAY_BACKUP_S3_SECRET_KEY name another one.";
/// Time in which NATS has to answer for the first time.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_POLL: Duration = Duration::from_millis(50);

/// See `slipway backup --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a backup of a running installation: Postgres, artifacts in S3, and streams of NATS.
    ///
    /// The backup has every write that was acknowledged before its snapshot. A backup to a folder that was
    /// interrupted goes on when the command is run again.
    #[command(after_help = ENVIRONMENT)]
    Create {
        /// New folder, or s3://BUCKET/PREFIX.
        #[arg(long, value_name = "PLACE")]
        output: String,
        /// What to keep of artifacts. With `manifest`, a restore requires that the bucket has all of them.
        #[arg(long, value_enum, default_value = "copy")]
        artifacts: ArtifactsChoice,
    },
    /// Reads a backup, and compares the SHA-256 of every file and the number of rows of every table.
    #[command(after_help = ENVIRONMENT)]
    Verify {
        /// Folder, or s3://BUCKET/PREFIX.
        place: String,
    },
    /// Shows what a backup has.
    #[command(after_help = ENVIRONMENT)]
    Show {
        /// Folder, or s3://BUCKET/PREFIX.
        place: String,
    },
}

/// What a backup has of artifacts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ArtifactsChoice {
    /// Their bytes.
    Copy,
    /// Keys, sizes and ETags.
    Manifest,
}

/// See `slipway restore --help`.
#[derive(Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub struct RestoreArguments {
    /// Folder, or s3://BUCKET/PREFIX.
    place: String,
    /// Deletes everything that the installation has in Postgres and NATS. Objects of the bucket stay.
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(connection: &Connection, command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Create { output, artifacts } => create(connection, &output, artifacts).await,
            Command::Verify { place } => {
                let place = place::parse(&place, &connection.data_dir)?;
                let verified = slipway_backup::verify(&place, &progress(connection)).await?;
                show(connection, &verified.manifest);
                if !connection.json {
                    outln!("verified: {} files", verified.files);
                }
                Ok(())
            }
            Command::Show { place } => {
                let place = place::parse(&place, &connection.data_dir)?;
                show(connection, &Manifest::read(&place).await?);
                Ok(())
            }
        }
    })
}

async fn create(connection: &Connection, output: &str, artifacts: ArtifactsChoice) -> anyhow::Result<()> {
    let place = place::parse(output, &connection.data_dir)?;
    let installation = open(servers(&connection.data_dir)?).await?;
    let artifacts = match artifacts {
        ArtifactsChoice::Copy => Artifacts::Copy,
        ArtifactsChoice::Manifest => Artifacts::Manifest,
    };
    let started = Instant::now();
    let manifest = slipway_backup::create(&installation, &place, artifacts, &progress(connection)).await?;
    show(connection, &manifest);
    if !connection.json {
        outln!("backup complete after {:.1} s: {place}", started.elapsed().as_secs_f64());
    }
    Ok(())
}

pub(crate) fn restore(connection: &Connection, arguments: &RestoreArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let place = place::parse(&arguments.place, &connection.data_dir)?;
        let installation = open(servers(&connection.data_dir)?).await?;
        let options = RestoreOptions { replace: arguments.replace };
        let started = Instant::now();
        let restored = slipway_backup::restore(&installation, &place, options, &progress(connection)).await?;
        show(connection, &restored.manifest);
        if !connection.json {
            outln!("restored after {:.1} s; start the services", started.elapsed().as_secs_f64());
        }
        Ok(())
    })
}

/// Restores a backup into the servers of a platform that starts.
pub(crate) fn restore_into(servers: Servers, place: &str, data_dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let place = place::parse(place, data_dir)?;
        let installation = open(servers).await?;
        let say = |line: &str| outln!("{line}");
        slipway_backup::restore(&installation, &place, RestoreOptions::default(), &say).await?;
        Ok(())
    })
}

fn servers(data_dir: &Path) -> anyhow::Result<Servers> {
    KnownServers::find(data_dir)?.all(data_dir)
}

/// Progress for people is printed as it is made, and to standard error where the output is JSON.
fn progress(connection: &Connection) -> impl Fn(&str) + Send + Sync {
    let json = connection.json;
    move |line| if json { errln!("{line}") } else { outln!("{line}") }
}

async fn open(servers: Servers) -> anyhow::Result<Installation> {
    slipway_runtime::install_tls_provider();
    let postgres = PgConnectOptions::from_str(&servers.postgres)
        .map_err(|error| anyhow::anyhow!("{POSTGRES_URL} is not a URL of Postgres: {error}"))?;
    let nats = EventBus::connect(&servers.nats, "slipway-backup").await?;
    let started = Instant::now();
    while !nats.is_connected() {
        let problem = nats.trouble().unwrap_or_else(|| "it does not answer".to_owned());
        anyhow::ensure!(started.elapsed() < CONNECT_LIMIT, "NATS is unreachable ({NATS_URL}): {problem}");
        tokio::time::sleep(CONNECT_POLL).await;
    }
    Ok(Installation { postgres, nats, artifacts: ArtifactStore::new(&servers.s3) })
}

fn show(connection: &Connection, manifest: &Manifest) {
    if connection.json {
        output::json(&json!({
            "snapshot_at": manifest.snapshot_at,
            "slipway_version": manifest.slipway_version,
            "format_version": manifest.format_version,
            "postgres": {"server_version": manifest.postgres.server_version, "rows": manifest.rows(),
                "schemas": manifest.postgres.schemas.iter().map(|schema| &schema.name).collect::<Vec<_>>()},
            "artifacts": {"objects": manifest.artifacts.objects, "size_bytes": manifest.artifacts.size_bytes,
                "copied": manifest.artifacts.copied},
            "streams": manifest.streams.iter().map(|stream| json!({"name": stream.name,
                "messages": stream.messages})).collect::<Vec<_>>(),
        }));
        return;
    }
    let kept = if manifest.artifacts.copied { "" } else { ", without their bytes" };
    let rows = [
        ("snapshot", manifest.snapshot_at.clone()),
        ("release", manifest.slipway_version.clone()),
        ("postgres", format!("{} rows, server {}", manifest.rows(), manifest.postgres.server_version)),
        (
            "artifacts",
            format!("{} objects, {}{kept}", manifest.artifacts.objects, size(manifest.artifacts.size_bytes)),
        ),
        ("streams", format!("{} messages", manifest.messages())),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    output::table(&["PART", "CONTENTS"], &rows);
}
