//! Settings of webhooks.

/// How webhooks are called.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookConfig {
    /// Allows webhooks to private, loopback and link-local addresses. Only for a single machine, or if every
    /// user who may create webhooks may also reach these addresses.
    #[arg(long, env = "SLIPWAY_WEBHOOK_ALLOW_PRIVATE")]
    pub webhook_allow_private: bool,
    /// Timeout of a delivery, in milliseconds.
    #[arg(long, env = "SLIPWAY_WEBHOOK_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub webhook_timeout_ms: u64,
    /// Delay before the first retry, in milliseconds; it doubles with each further one.
    #[arg(long, env = "SLIPWAY_WEBHOOK_RETRY_INITIAL_MS", default_value_t = 5_000, value_name = "MS")]
    pub webhook_retry_initial_ms: u64,
    /// Maximum delay between two attempts, in milliseconds.
    #[arg(long, env = "SLIPWAY_WEBHOOK_RETRY_MAX_MS", default_value_t = 4 * 3_600_000, value_name = "MS")]
    pub webhook_retry_max_ms: u64,
    /// Number of attempts before a delivery becomes a dead letter.
    #[arg(long, env = "SLIPWAY_WEBHOOK_MAX_ATTEMPTS", default_value_t = 16, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub webhook_max_attempts: u32,
}
