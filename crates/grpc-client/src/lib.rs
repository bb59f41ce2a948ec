//! gRPC clients of other services: channels that connect by themselves, carry the trace context, and limit
//! the time of a call.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use http::uri::Scheme;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_telemetry::context::TRACEPARENT;
use slipway_telemetry::current_traceparent;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Limit of the time to connect.
const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// Limit of the time of one call.
const CALL_TIMEOUT_MS: u64 = 10_000;
/// An idle connection is tested this often.
const KEEP_ALIVE_INTERVAL_S: u64 = 10;

/// A channel that carries the trace context, and a token where it has one.
pub type TracedChannel = InterceptedService<Channel, CallMetadata>;

/// A bearer token, which may be replaced by another one while calls carry it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Token(Arc<RwLock<MetadataValue<Ascii>>>);

impl Token {
    /// This token.
    ///
    /// # Errors
    /// It contains characters that a header cannot carry.
    pub fn new(token: &SecretString) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(RwLock::new(bearer(token)?))))
    }

    /// Replaces it: later calls carry the new one.
    ///
    /// # Errors
    /// The new one contains characters that a header cannot carry; then the old one stays.
    pub fn replace(&self, token: &SecretString) -> anyhow::Result<()> {
        let value = bearer(token)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }

    fn value(&self) -> MetadataValue<Ascii> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Client interceptor: adds the current span's `traceparent`, and the token, to each call.
#[derive(Debug, Clone, Default)]
pub struct CallMetadata {
    token: Option<Token>,
}

impl Interceptor for CallMetadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        if let Some(value) = current_traceparent().and_then(|text| MetadataValue::try_from(text).ok()) {
            metadata.insert(TRACEPARENT, value);
        }
        if let Some(token) = &self.token {
            metadata.insert("authorization", token.value());
        }
        Ok(request)
    }
}

/// A channel to `url`, e.g. `http://127.0.0.1:5000`. It connects at the first call, and again after each
/// loss.
///
/// # Errors
/// The URL is not the address of a service.
pub fn channel(url: &str) -> anyhow::Result<TracedChannel> {
    connect(url, CallMetadata::default())
}

/// [`channel`] whose calls carry a bearer token.
///
/// # Errors
/// The URL is not the address of a service.
pub fn channel_with_token(url: &str, token: &Token) -> anyhow::Result<TracedChannel> {
    connect(url, CallMetadata { token: Some(token.clone()) })
}

/// The value of `authorization`, which is never shown.
fn bearer(token: &SecretString) -> anyhow::Result<MetadataValue<Ascii>> {
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose_secret().trim()))
        .map_err(|_| anyhow::anyhow!("the token contains characters that are not allowed in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whether there is a host to connect to. Connections between services are plain text.
fn is_address(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok().filter(|uri| uri.scheme() == Some(&Scheme::HTTP));
    uri.is_some_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

fn connect(url: &str, metadata: CallMetadata) -> anyhow::Result<TracedChannel> {
    let refused = || {
        format!("`{url}` is not a service's address; expected http://HOST:PORT, e.g. http://127.0.0.1:5000")
    };
    anyhow::ensure!(is_address(url), refused());
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(refused)?
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .timeout(Duration::from_millis(CALL_TIMEOUT_MS))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(KEEP_ALIVE_INTERVAL_S))
        .keep_alive_while_idle(true);
    Ok(InterceptedService::new(endpoint.connect_lazy(), metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_the_scheme_http_and_a_host() {
        for url in ["http://127.0.0.1:5000", "http://registry", "http://[::1]:5000/"] {
            assert!(channel(url).is_ok(), "{url}");
        }
        for url in ["", "foo", "localhost:30418", "ftp://host", "https://host", "http://"] {
            let refused = format!("{:#}", channel(url).unwrap_err());
            assert!(refused.contains(&format!("`{url}` is not")) && refused.contains("http://HOST:PORT"));
        }
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_rejected_without_being_shown() {
        let refused = Token::new(&"s3\ncret".into()).unwrap_err();
        assert!(!format!("{refused:#}{refused:?}").contains("cret"), "{refused:#}");
    }

    #[test]
    fn the_token_of_a_call_is_never_shown() {
        let token = Token::new(&" s3cret\n".into()).unwrap();
        let mut metadata = CallMetadata { token: Some(token.clone()) };
        assert!(!format!("{metadata:?}").contains("s3cret"));
        let request = metadata.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer s3cret");
        assert!(!format!("{request:?}").contains("s3cret"));
        // Calls carry the token of now; one that no header can carry changes nothing.
        token.replace(&"n3w".into()).unwrap();
        token.replace(&"br0\nken".into()).unwrap_err();
        let request = metadata.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer n3w");
    }
}
