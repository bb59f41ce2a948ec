//! Hands the files of a folder or a bucket to the registry, as the bytes of an import that it cannot read
//! itself, and ends.

mod source;
mod upload;

use std::path::PathBuf;

use anyhow::Context as _;
use slipway_api::rest::registry::{DeliveredFile, DeliveredFiles};
use tokio_util::sync::CancellationToken;

use self::source::Source;
use self::upload::{Registry, Uploaded};

/// What is delivered.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Delivery of an import")]
pub struct DeliverConfig {
    /// ID of an import of the registry whose bytes to deliver, instead of serving: the registry cannot read
    /// them itself. The process ends when they are delivered. [default: serves]
    #[arg(long, env = "SLIPWAY_SERVING_DELIVER_IMPORT", value_name = "ID",
          requires_all = ["deliver_source", "deliver_token_file"])]
    pub deliver_import: Option<String>,
    /// Where the bytes are: a file, a folder, or `s3://BUCKET/PREFIX`. A bucket is read with
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL of the environment.
    #[arg(long, env = "SLIPWAY_SERVING_DELIVER_SOURCE", value_name = "SOURCE")]
    pub deliver_source: Option<String>,
    /// File with the delivery token of the import.
    #[arg(long, env = "SLIPWAY_SERVING_DELIVER_TOKEN_FILE", value_name = "FILE")]
    pub deliver_token_file: Option<PathBuf>,
    /// File to which the reason is written if the delivery fails, e.g. the termination message of a
    /// container. [default: none; it is in the log]
    #[arg(long, env = "SLIPWAY_SERVING_DELIVER_MESSAGE_FILE", value_name = "FILE")]
    pub deliver_message_file: Option<PathBuf>,
}

/// Delivers, until the shutdown.
///
/// # Errors
/// A setting is missing, the source cannot be read, or the registry refuses; what may pass was tried again.
pub(crate) async fn run(
    config: &DeliverConfig,
    import: &str,
    registry_url: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let delivering = deliver(config, import, registry_url);
    let delivered = shutdown.run_until_cancelled(delivering).await;
    let delivered = delivered.unwrap_or_else(|| Err(anyhow::anyhow!("the delivery was interrupted")));
    if let (Err(error), Some(file)) = (&delivered, &config.deliver_message_file)
        && let Err(problem) = tokio::fs::write(file, format!("{error:#}")).await
    {
        tracing::warn!(error = %problem, file = %file.display(), "the reason of the failure was not written");
    }
    delivered
}

async fn deliver(config: &DeliverConfig, import: &str, registry_url: &str) -> anyhow::Result<()> {
    let source = config.deliver_source.as_deref();
    let source = source.context("--deliver-source or SLIPWAY_SERVING_DELIVER_SOURCE: required")?;
    let file = config.deliver_token_file.as_ref();
    let file = file.context("--deliver-token-file or SLIPWAY_SERVING_DELIVER_TOKEN_FILE: required")?;
    let token = tokio::fs::read_to_string(file).await;
    let token = token.with_context(|| format!("the delivery token in {}", file.display()))?;
    let registry = Registry::new(registry_url, import, token.trim())?;
    let reader = Source::parse(source, |name| std::env::var(name).ok())?;
    let files = reader.list().await.with_context(|| source.to_owned())?;
    tracing::info!(source, files = files.len(), "delivering");
    let mut delivered = Vec::with_capacity(files.len());
    for file in &files {
        match registry.upload(&reader, file).await? {
            Uploaded::Stored { sha256 } => delivered.push(DeliveredFile { path: file.path.clone(), sha256 }),
            Uploaded::AlreadyComplete => {
                tracing::info!("an earlier attempt has completed the delivery");
                return Ok(());
            }
        }
    }
    registry.complete(&DeliveredFiles { files: delivered }).await?;
    tracing::info!(source, "delivered");
    Ok(())
}
