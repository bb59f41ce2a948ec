//! From credentials to a caller, by what the registry published. No request waits for another service.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use http::{HeaderMap, HeaderValue, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use secrecy::ExposeSecret as _;
use slipway_domain::access::{Role, token_digest};
use slipway_runtime::clock::now_unix_ms;
use slipway_service_kit::metrics::Metrics;

use crate::config::CheckConfig;
use crate::directory::{Directory, Proven, Rejected};
use crate::identities::{Found, Identities};
use crate::keep::{self, Copy};
use crate::oidc::{Identity, PublishedOidc, Refused as NotTrusted};
use crate::principal::validate_principal;
use crate::{ApiToken, Caller, Network, Presented, client_address};

/// No token is longer.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// 401: there is no valid credential.
    #[error("{0}")]
    Unauthenticated(String),
    /// 403: the caller may not do that.
    #[error("{0}")]
    Denied(String),
    /// 503: it is not known who may do what.
    #[error("{0}")]
    Unavailable(String),
}

impl Refused {
    /// A short name, as a label of metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Denied(_) => "denied",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Checks callers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: RwLock<Directory>,
    identities: Identities,
    max_age_ms: u64,
    trusted: Vec<Network>,
    /// On disk, where there is one.
    copy: Option<Mutex<Copy>>,
}

impl Verifier {
    /// A verifier that knows nothing yet; [`crate::follow`] fills it.
    pub fn new(config: &CheckConfig) -> Self {
        Self::with(config, None)
    }

    /// A verifier that keeps a copy of what it knows in this file, and starts with what the file holds.
    pub fn with_copy(config: &CheckConfig, path: PathBuf) -> Self {
        Self::with(config, Some(Copy::new(path)))
    }

    fn with(config: &CheckConfig, copy: Option<Copy>) -> Self {
        let directory = copy.as_ref().map(Copy::read).unwrap_or_default();
        Self(Arc::new(Inner {
            directory: RwLock::new(directory),
            copy: copy.map(Mutex::new),
            identities: Identities::default(),
            max_age_ms: config.access_max_age_s.saturating_mul(1_000),
            trusted: config.trusted_proxies.clone(),
        }))
    }

    /// Who sends these headers.
    ///
    /// # Errors
    /// There is no valid token, or it is not known which tokens are valid.
    pub fn authenticate(&self, headers: &HeaderMap, origin: String) -> Result<Caller, Refused> {
        let header = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| unauthenticated("expected 'Authorization: Bearer <token>'"))?;
        self.verify(header, origin)
    }

    /// Who sends this value of the header `Authorization`.
    ///
    /// # Errors
    /// As of [`Self::authenticate`].
    pub fn verify(&self, header: &HeaderValue, origin: String) -> Result<Caller, Refused> {
        // HTTP/1 drops the space after the colon of a header; over HTTP/2 some clients send it as part of the
        // value.
        let presented = Presented::read(header.as_bytes().trim_ascii()).map_err(unauthenticated)?;
        let now_ms = now_unix_ms();
        self.require_current(now_ms)?;
        let proven = self.prove(&presented, now_ms)?;
        if !presented.names(&proven.principal) {
            return Err(unauthenticated("the token belongs to another user than the one given"));
        }
        let Proven { principal, credential, grants } = proven;
        Ok(Caller { principal, credential, origin, grants })
    }

    fn prove(&self, presented: &Presented, now_ms: u64) -> Result<Proven, Refused> {
        let secret = presented.secret.expose_secret();
        if secret.len() > MAX_TOKEN_BYTES {
            return Err(unauthenticated(format!("the token has more than {MAX_TOKEN_BYTES} bytes")));
        }
        let digest = || token_digest(secret.as_bytes());
        let directory = self.read();
        if let Some(token) = ApiToken::parse(secret) {
            return match directory.token(&token, now_ms) {
                Ok(proven) => Ok(proven),
                // A token of the configuration may have the form of an API token.
                Err(Rejected::Unknown) => directory
                    .configured(&digest())
                    .ok_or_else(|| unauthenticated("the token is unknown or was revoked")),
                Err(Rejected::Expired) => Err(unauthenticated("the token has expired")),
            };
        }
        let digest = digest();
        if let Some(proven) = directory.configured(&digest) {
            return Ok(proven);
        }
        let oidc = directory.oidc().filter(|_| secret.matches('.').count() == 2);
        let entries = directory.entries_digest();
        drop(directory);
        let oidc = oidc.ok_or_else(|| unauthenticated("the token is none of the registry's"))?;
        let identity = match self.0.identities.find(&digest, &oidc, entries, now_ms) {
            Found::Proven(proven) => return Ok(proven),
            Found::Identity(identity) => identity,
            Found::Unknown => Arc::new(identity(&oidc, secret)?),
        };
        Ok(self.0.identities.remember(digest, &oidc, identity, &self.read(), now_ms))
    }

    /// Rejects while it is not known who may do what.
    fn require_current(&self, now_ms: u64) -> Result<(), Refused> {
        let directory = self.read();
        let Some(published_ms) = directory.published_at_ms() else {
            return Err(Refused::Unavailable(
                "access control is on, and this service has not received tokens and roles from the registry \
                 yet (NATS KV bucket slipway-access); try again"
                    .to_owned(),
            ));
        };
        if !directory.is_enabled() {
            return Err(Refused::Unavailable(
                "access control is on at this service and off at the registry; set SLIPWAY_AUTH=on there"
                    .to_owned(),
            ));
        }
        let age_ms = now_ms.saturating_sub(published_ms);
        if age_ms > self.0.max_age_ms {
            return Err(Refused::Unavailable(format!(
                "the registry last published tokens and roles {} s ago, which is more than the limit of {} s \
                 (SLIPWAY_ACCESS_MAX_AGE_S); the registry or NATS is unreachable",
                age_ms / 1_000,
                self.0.max_age_ms / 1_000
            )));
        }
        Ok(())
    }

    /// Seconds since the registry published what is known here; `None` before that.
    pub fn age_s(&self) -> Option<u64> {
        let published_ms = self.read().published_at_ms()?;
        Some(now_unix_ms().saturating_sub(published_ms) / 1_000)
    }

    /// Shows the age of what is known among the metrics.
    pub fn register(&self, metrics: &Metrics) {
        metrics.collect(Age(self.clone()));
    }

    /// Role of training jobs on everything.
    pub fn job_role(&self) -> Role {
        self.read().job_role()
    }

    /// The address that a request comes from.
    pub fn origin(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> String {
        let Some(peer) = peer else { return String::new() };
        if self.0.trusted.is_empty() {
            return peer.to_canonical().to_string();
        }
        let forwarded: Vec<&str> =
            headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        client_address(peer, forwarded.into_iter(), &self.0.trusted).to_string()
    }

    fn read(&self) -> RwLockReadGuard<'_, Directory> {
        self.0.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the copy on disk where it is due.
    pub(crate) async fn keep(&self) {
        let next = self.0.copy.as_ref().and_then(|copy| {
            let mut copy = copy.lock().unwrap_or_else(PoisonError::into_inner);
            copy.next(&self.read())
        });
        if let Some((path, contents)) = next {
            let _ = tokio::task::spawn_blocking(move || keep::write(&path, &contents)).await;
        }
    }

    /// The directory, to be changed.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Directory> {
        // Each change is one entry; a panic leaves the others right.
        self.0.directory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Age of what the registry published.
#[derive(Debug)]
struct Age(Verifier);

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(age_s) = self.0.age_s() else { return Ok(()) };
        let gauge = ConstGauge::new(i64::try_from(age_s).unwrap_or(i64::MAX));
        let help = "Time since the registry published the tokens and roles that callers are checked by";
        let encoder = encoder.encode_descriptor(
            "slipway_access_data_age",
            help,
            Some(&Unit::Seconds),
            gauge.metric_type(),
        )?;
        gauge.encode(encoder)
    }
}

/// Whose identity token it is, by its signature.
fn identity(oidc: &PublishedOidc, secret: &str) -> Result<Identity, Refused> {
    let identity = oidc.verify(secret).map_err(|refused| match refused {
        NotTrusted::Token(why) | NotTrusted::Issuer(why) => unauthenticated(why),
    })?;
    validate_principal(&identity.principal)
        .map_err(|why| unauthenticated(format!("the token's principal is not valid here: {why}")))?;
    Ok(identity)
}

fn unauthenticated(why: impl std::fmt::Display) -> Refused {
    Refused::Unauthenticated(why.to_string())
}
