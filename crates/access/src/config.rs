//! Settings of access control that every service has.

use crate::Network;

/// Whether callers authenticate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Callers need no credential and may do everything.
    #[default]
    Off,
    /// Callers need a token, and may do what was granted to it.
    On,
}

/// Access control of a service that checks its callers by what the registry publishes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct CheckConfig {
    /// Whether callers need a token of the registry, and roles for what they do. The registry must have the
    /// same setting.
    #[arg(long, env = "SLIPWAY_AUTH", value_enum, default_value = "off")]
    pub auth: Switch,
    /// Lifetime of tokens and roles that the registry published, in seconds: while the registry or NATS is
    /// unreachable, callers are checked by the last known ones for this long, then rejected with 503.
    #[arg(
        long,
        env = "SLIPWAY_ACCESS_MAX_AGE_S",
        default_value_t = DEFAULT_MAX_AGE_S,
        value_name = "SECONDS"
    )]
    pub access_max_age_s: u64,
    /// Proxies whose `X-Forwarded-For` is trusted, as addresses or networks, e.g. `10.0.0.0/8`. [default:
    /// none]
    #[arg(long, env = "SLIPWAY_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxies: Vec<Network>,
}

/// One day: an outage of a night does not stop predictions.
pub const DEFAULT_MAX_AGE_S: u64 = 24 * 3_600;
