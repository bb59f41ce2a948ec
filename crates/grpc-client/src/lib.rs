//! gRPC clients of other services.

use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use http::uri::Scheme;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_telemetry::grpc::PropagateTrace;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A channel that carries the trace context, and a token where it has one.
pub type TracedChannel = InterceptedService<Channel, Introduce>;

/// How this service shows the registry who it is.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct RegistryToken {
    /// The token that this service shows the registry; needed where the registry's access is on.
    #[arg(long, env = "SLIPWAY_REGISTRY_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub registry_token: Option<SecretString>,
}

/// Client interceptor: adds the trace context and the token to each call.
#[derive(Debug, Clone, Default)]
pub struct Introduce {
    trace: PropagateTrace,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Introduce {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let mut request = self.trace.call(request)?;
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// One call.
const CALL_TIMEOUT_MS: u64 = 10_000;

/// A channel to `url`, e.g. `http://127.0.0.1:5000`. It connects at the first call, and again after each loss.
///
/// # Errors
/// The URL does not parse.
pub fn channel(url: &str) -> anyhow::Result<TracedChannel> {
    introduced(url, Introduce::default())
}

/// [`channel`] to the registry, with the token that it asks for where its access is on.
///
/// # Errors
/// The URL is none of a service, or the token holds what no header can carry.
pub fn registry_channel(url: &str, token: &RegistryToken) -> anyhow::Result<TracedChannel> {
    let mut introduce = Introduce::default();
    if let Some(token) = &token.registry_token {
        let mut value =
            MetadataValue::try_from(format!("Bearer {}", token.expose_secret().trim())).map_err(|_| {
                anyhow::anyhow!("the registry token (SLIPWAY_REGISTRY_TOKEN) contains characters that are not allowed in a header")
            })?;
        value.set_sensitive(true);
        introduce.authorization = Some(value);
    }
    introduced(url, introduce).context("the registry's address (--registry-url or SLIPWAY_REGISTRY_URL)")
}

/// Whether there is a host to connect to. Nothing here speaks TLS to other services.
fn is_address(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme() == Some(&Scheme::HTTP));
    uri.is_some_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

fn introduced(url: &str, introduce: Introduce) -> anyhow::Result<TracedChannel> {
    let refused = || {
        format!("`{url}` is not a service's address; expected http://HOST:PORT, e.g. http://127.0.0.1:5000")
    };
    anyhow::ensure!(is_address(url), refused());
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(refused)?
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .timeout(Duration::from_millis(CALL_TIMEOUT_MS))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    Ok(InterceptedService::new(endpoint.connect_lazy(), introduce))
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
        for url in ["", "foo", "localhost:30418", "ftp://host", "https://host", "http://"] {
            let refused = format!("{:#}", registry_channel(url, &token).unwrap_err());
            assert!(refused.contains("--registry-url or SLIPWAY_REGISTRY_URL"), "{refused}");
            assert!(refused.contains(&format!("`{url}` is not")) && refused.contains("http://HOST:PORT"));
        }
    }
}
