//! Settings of webhooks.

/// How webhooks are called.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookConfig {
    /// Lets webhooks call private, loopback and link-local addresses. For one machine and for networks in which whoever may make a
    /// webhook may reach everything anyway.
    #[arg(long, env = "SLIPWAY_WEBHOOK_ALLOW_PRIVATE")]
    pub webhook_allow_private: bool,
    /// How long a receiver may take to answer, in milliseconds.
    #[arg(long, env = "SLIPWAY_WEBHOOK_TIMEOUT_MS", default_value_t = 10_000, value_name = "MS",
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub webhook_timeout_ms: u64,
    /// Pause after the first attempt that failed, in milliseconds; each further one is twice as long.
    #[arg(long, env = "SLIPWAY_WEBHOOK_RETRY_INITIAL_MS", default_value_t = 5_000, value_name = "MS")]
    pub webhook_retry_initial_ms: u64,
    /// Longest pause between two attempts, in milliseconds.
    #[arg(long, env = "SLIPWAY_WEBHOOK_RETRY_MAX_MS", default_value_t = 4 * 3_600_000, value_name = "MS")]
    pub webhook_retry_max_ms: u64,
    /// Attempts before a delivery is kept as a dead letter.
    #[arg(long, env = "SLIPWAY_WEBHOOK_MAX_ATTEMPTS", default_value_t = 16, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub webhook_max_attempts: u32,
}
