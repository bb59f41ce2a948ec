//! Settings of access.

use secrecy::{ExposeSecret as _, SecretString};
use slipway_access::Network;
use slipway_access::oidc::OidcConfig;

/// An administrator's token that is shorter can be guessed.
const MIN_ADMIN_TOKEN_CHARS: usize = 32;

/// Whether callers have to say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Nobody has to: everybody may do everything.
    Off,
    /// Everybody has to, and may do what was granted.
    On,
}

/// Who may do what.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessConfig {
    /// Whether callers need a token, and roles for what they do.
    #[arg(long, env = "SLIPWAY_AUTH", value_enum, default_value = "off")]
    pub auth: Switch,
    /// A token that may do everything, as the principal `admin`: with it the first tokens and grants are made. At least 32 characters.
    #[arg(long, env = "SLIPWAY_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub admin_token: Option<SecretString>,
    /// Proxies whose `X-Forwarded-For` is believed, as addresses or networks, e.g. `10.0.0.0/8`.
    #[arg(long, env = "SLIPWAY_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub trusted_proxies: Vec<Network>,
    /// Identity tokens.
    #[command(flatten)]
    pub oidc: OidcConfig,
}

impl AccessConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let short =
            |token: &SecretString| token.expose_secret().trim().chars().count() < MIN_ADMIN_TOKEN_CHARS;
        anyhow::ensure!(
            !self.admin_token.as_ref().is_some_and(short),
            "the administrator's token (SLIPWAY_ADMIN_TOKEN) needs at least {MIN_ADMIN_TOKEN_CHARS} characters"
        );
        if self.auth == Switch::On && self.admin_token.is_none() && self.oidc.oidc_issuer.is_none() {
            tracing::warn!(
                "access is on without SLIPWAY_ADMIN_TOKEN and without an OIDC issuer: only tokens that exist already are accepted"
            );
        }
        Ok(())
    }
}
