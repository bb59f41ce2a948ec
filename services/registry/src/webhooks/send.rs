//! One call of a receiver: signed, bounded in time, without redirects, and only to addresses that may be
//! called.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use slipway_domain::Invalid;
use slipway_domain::registry::webhook::{Format, Outcome, is_public};

use super::config::WebhookConfig;
use super::dialect::Dialect;
use super::sign;
use crate::store::webhooks::Secrets;

const CONNECT_TIMEOUT_MS: u64 = 3_000;
const MAX_URL_BYTES: usize = 2_000;
/// Connections kept for the next call of the same receiver.
const MAX_IDLE_PER_HOST: usize = 4;
/// Bytes of an error that are kept.
const MAX_ERROR_CHARS: usize = 300;
const REFUSED: &str = "the address is private; SLIPWAY_WEBHOOK_ALLOW_PRIVATE would allow it";

/// One call.
pub(crate) struct Call<'call> {
    pub(crate) format: Format,
    pub(crate) url: &'call str,
    pub(crate) secrets: &'call Secrets,
    /// The same at every attempt.
    pub(crate) id: &'call str,
    pub(crate) body: &'call str,
    /// Bytes of the answer's body that are wanted. None for deliveries: it is not needed, and may be long.
    pub(crate) answer_bytes: usize,
}

/// Calls receivers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    http: reqwest::Client,
    allow_private: bool,
    dialect: Dialect,
    /// How long a call may take, in milliseconds.
    pub(crate) timeout_ms: u64,
}

/// What one call came to.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) outcome: Outcome,
    /// For people; absent where the receiver took it.
    pub(crate) error: Option<String>,
    /// The beginning of what the receiver answered, where that was wanted.
    pub(crate) answer: String,
}

impl Called {
    /// The status that the receiver answered with.
    pub(crate) fn status(&self) -> Option<i32> {
        match self.outcome {
            Outcome::Answered { status, .. } => Some(i32::from(status)),
            Outcome::Silent => None,
        }
    }
}

impl Sender {
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new(config: &WebhookConfig, dialect: Dialect) -> anyhow::Result<Self> {
        slipway_runtime::install_tls_provider();
        let http = reqwest::Client::builder()
            .user_agent(concat!("Slipway-Webhooks/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would resolve the name itself, unseen.
            .no_proxy()
            .dns_resolver(Arc::new(Resolver { allow_private: config.webhook_allow_private }))
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .timeout(Duration::from_millis(config.webhook_timeout_ms))
            .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
            .build()?;
        Ok(Self {
            http,
            allow_private: config.webhook_allow_private,
            dialect,
            timeout_ms: config.webhook_timeout_ms,
        })
    }

    /// Checks the URL of a receiver.
    ///
    /// # Errors
    /// It is no address, of another scheme, or one that may not be called.
    pub(crate) fn check_url(&self, text: &str) -> Result<(), Invalid> {
        let refuse = |why: &str| Err(Invalid::new("url", why));
        if text.len() > MAX_URL_BYTES {
            return refuse("too long");
        }
        let Ok(url) = Url::parse(text) else { return refuse("expected http://… or https://…") };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("expected http://… or https://…");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("takes no credentials: calls are signed, and the URL is shown");
        }
        if self.may_call(&url) { Ok(()) } else { refuse(REFUSED) }
    }

    /// Names are looked at when they are resolved.
    fn may_call(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let local = host == "localhost" || host.ends_with(".localhost");
        self.allow_private || (literal.map_or(true, is_public) && !local)
    }

    /// Calls a receiver once.
    pub(crate) async fn call(&self, call: &Call<'_>, now_ms: i64) -> Called {
        let failed = |reason: &str| Called {
            outcome: Outcome::Silent,
            error: Some(reason.chars().take(MAX_ERROR_CHARS).collect()),
            answer: String::new(),
        };
        // Again, because the setting may have changed since the webhook was made.
        match Url::parse(call.url) {
            Ok(url) if self.may_call(&url) => {}
            _ => return failed(REFUSED),
        }
        let mut request = self.http.post(call.url).body(call.body.to_owned());
        for (name, value) in
            sign::headers((call.format, &self.dialect), call.secrets, call.id, now_ms, call.body)
        {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(response) => {
                let status = response.status();
                let retry_after_ms = response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
                    .map(|seconds| seconds.saturating_mul(1_000));
                let error = (!status.is_success()).then(|| format!("answered {status}"));
                let outcome = Outcome::Answered { status: status.as_u16(), retry_after_ms };
                Called { outcome, error, answer: beginning(response, call.answer_bytes).await }
            }
            Err(error) => failed(&reason(&error)),
        }
    }
}

/// At most this many bytes of a body, or what arrived before the timeout.
async fn beginning(mut response: reqwest::Response, bytes: usize) -> String {
    let mut read = Vec::new();
    while read.len() < bytes {
        let Ok(Some(chunk)) = response.chunk().await else { break };
        read.extend_from_slice(&chunk[..chunk.len().min(bytes - read.len())]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// The innermost cause says what happened; the outer ones repeat that a request failed.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "did not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Resolves names to addresses that may be called. The connection goes to what is returned here, so a name
/// cannot change in between.
#[derive(Debug)]
struct Resolver {
    allow_private: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(REFUSED.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::mlflow::webhook_events::DIALECT;

    fn sender(allow_private: bool) -> Sender {
        let config = WebhookConfig {
            webhook_allow_private: allow_private,
            webhook_timeout_ms: 1_000,
            webhook_retry_initial_ms: 1,
            webhook_retry_max_ms: 1,
            webhook_max_attempts: 1,
        };
        Sender::new(&config, DIALECT).unwrap()
    }

    #[test]
    fn only_public_addresses_are_taken_unless_a_setting_says_so() {
        for private in [
            "http://127.0.0.1:9",
            "http://localhost/",
            "http://a.localhost",
            "https://10.0.0.1",
            "http://[::1]/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(sender(false).check_url(private).is_err(), "{private}");
            assert!(sender(true).check_url(private).is_ok(), "{private}");
        }
        for wrong in [
            "",
            "example.org",
            "ftp://example.org",
            "file:///etc/passwd",
            "http://me:secret@example.org",
            "http://",
        ] {
            assert!(sender(true).check_url(wrong).is_err(), "{wrong}");
        }
        assert!(sender(false).check_url("https://example.org/hook?x=1").is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_called() {
        let secrets = Secrets { secret: None, old_secret: None, old_secret_until_ms: 0 };
        let call = Call {
            format: Format::Mlflow,
            url: "http://localhost:1/",
            secrets: &secrets,
            id: "1",
            body: "{}",
            answer_bytes: 0,
        };
        // Made before the setting was taken away; `ip6-localhost` and the like are names as others.
        let called = sender(false).call(&call, 0).await;
        assert_eq!(called.error.as_deref(), Some(REFUSED));
        let resolved = Resolver { allow_private: false }.resolve("localhost".parse().unwrap()).await;
        assert!(resolved.is_err());
    }
}
