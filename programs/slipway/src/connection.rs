//! The platform that a command works with.

use std::path::PathBuf;

use clap::Args;

/// Id of the option `--data-dir` of `slipway` itself.
pub(crate) const PLATFORM_DATA_DIR: &str = "platform_data_dir";

/// Location of a running platform, and the form of the output.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Data directory of the platform; its `endpoints.json` holds the addresses of all services.
    // The launcher has an option of that name for a folder of its own.
    #[arg(id = PLATFORM_DATA_DIR, long = "data-dir", global = true, env = "SLIPWAY_HOME",
          default_value = ".slipway", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Prints JSON instead of tables; times stay as the services return them.
    #[arg(long, global = true)]
    pub json: bool,
}
