//! The platform that a command works with.

use std::path::PathBuf;

use clap::Args;

/// Location of a running platform, and the form of the output.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Data directory of the platform; its `endpoints.json` holds the addresses of all services.
    #[arg(long, global = true, env = "SLIPWAY_HOME", default_value = ".slipway", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Prints JSON instead of tables; times stay as the services return them.
    #[arg(long, global = true)]
    pub json: bool,
}
