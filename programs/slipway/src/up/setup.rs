//! `slipway setup`: what a platform on servers of its own needs of them before its services start.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use slipway_event_bus::{NatsConfig, StreamSettings};

use super::nats;
use crate::output::{errln, outln};

/// Arguments of `slipway setup`.
#[derive(Debug, Clone, Args)]
pub struct SetupOptions {
    /// The user `platform` of NATS, who may create streams.
    #[command(flatten)]
    nats: NatsConfig,
    /// Streams and buckets that do not exist yet.
    #[command(flatten)]
    streams: StreamSettings,
    /// Maximum time to wait for NATS, in seconds. From 0 to 3600; an attempt in progress ends after up to 30
    /// more.
    #[arg(long, env = "SLIPWAY_SETUP_WAIT_S", default_value_t = 120, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    wait_s: u64,
}

/// Creates the streams and buckets of NATS. Those that exist keep their settings.
pub(crate) fn run(options: &SetupOptions) -> anyhow::Result<ExitCode> {
    slipway_runtime::install_tls_provider();
    let (started, limit) = (Instant::now(), Duration::from_secs(options.wait_s));
    while let Err(error) = nats::make_streams(&options.nats.nats_url, &options.streams) {
        if started.elapsed() >= limit {
            return Err(error);
        }
        errln!("{error:#}; trying again");
    }
    outln!("the streams and buckets of NATS exist");
    Ok(ExitCode::SUCCESS)
}
