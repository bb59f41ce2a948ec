//! `slipway setup`: what a platform on servers of its own needs of them before its services start.

use std::process::ExitCode;

use clap::Args;
use slipway_event_bus::{NatsConfig, StreamSettings};

use super::nats;
use crate::output::outln;

/// Arguments of `slipway setup`.
#[derive(Debug, Clone, Args)]
pub struct SetupOptions {
    /// The user `platform` of NATS, who may create streams.
    #[command(flatten)]
    nats: NatsConfig,
    /// Streams and buckets that do not exist yet.
    #[command(flatten)]
    streams: StreamSettings,
}

/// Creates the streams and buckets of NATS. Those that exist keep their settings.
pub(crate) fn run(options: &SetupOptions) -> anyhow::Result<ExitCode> {
    slipway_runtime::install_tls_provider();
    nats::make_streams(&options.nats.nats_url, &options.streams)?;
    outln!("the streams and buckets of NATS exist");
    Ok(ExitCode::SUCCESS)
}
