//! How a service reaches the registry.

use anyhow::Context as _;
use secrecy::SecretString;
use slipway_grpc_client::{TracedChannel, channel, channel_with_token};

/// The token with which this service authenticates to the registry and to other services.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct RegistryToken {
    /// Token that this service sends to the registry; required if access control of the registry is on.
    #[arg(long, env = "SLIPWAY_REGISTRY_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub registry_token: Option<SecretString>,
}

/// A channel to the registry, with the token if there is one.
///
/// # Errors
/// The URL is not the address of a service, or the token contains characters that a header cannot carry;
/// names the setting.
pub fn registry_channel(url: &str, token: &RegistryToken) -> anyhow::Result<TracedChannel> {
    const URL: &str = "the registry's address (--registry-url or SLIPWAY_REGISTRY_URL)";
    let Some(token) = &token.registry_token else { return channel(url).context(URL) };
    channel(url).context(URL)?;
    channel_with_token(url, token)
        .context("the registry's token (--registry-token or SLIPWAY_REGISTRY_TOKEN)")
}

/// A channel to another service, with the token if there is one.
///
/// # Errors
/// The URL is not the address of a service, or the token contains characters that a header cannot carry.
pub fn service_channel(url: &str, token: &RegistryToken) -> anyhow::Result<TracedChannel> {
    match &token.registry_token {
        Some(token) => channel_with_token(url, token),
        None => channel(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_is_refused_by_the_names_of_the_setting() {
        let token = RegistryToken::default();
        for url in ["http://127.0.0.1:5000", "http://registry", "http://[::1]:5000/"] {
            assert!(registry_channel(url, &token).is_ok(), "{url}");
        }
        let with_token = RegistryToken { registry_token: Some("t0ken".into()) };
        for url in ["", "foo", "localhost:30418", "ftp://host", "https://host", "http://"] {
            for token in [&token, &with_token] {
                let refused = format!("{:#}", registry_channel(url, token).unwrap_err());
                assert!(refused.contains("--registry-url or SLIPWAY_REGISTRY_URL"), "{refused}");
                assert!(refused.contains(&format!("`{url}` is not")) && refused.contains("http://HOST:PORT"));
            }
        }
    }

    #[tokio::test]
    async fn a_token_that_no_header_can_carry_is_refused_by_its_setting() {
        let token = RegistryToken { registry_token: Some("t0\nken".into()) };
        let refused = format!("{:#}", registry_channel("http://registry", &token).unwrap_err());
        assert!(refused.contains("SLIPWAY_REGISTRY_TOKEN") && !refused.contains("ken:"), "{refused}");
    }
}
