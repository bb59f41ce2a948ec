//! The issuer's public keys: found through its discovery document, kept, and asked for again when a token
//! names another one.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use super::Refused;
use super::key_set::KeySet;

const FETCH_TIMEOUT_MS: u64 = 5_000;
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// Keys are asked for again after this time, so that one which the issuer withdrew ends.
const MAX_AGE_S: u64 = 600;
/// Keys that are passed on to other services, which cannot ask for a key that they lack, are asked for again
/// after this time.
const MAX_PUBLISHED_AGE_S: u64 = 60;
/// Two fetches are at least so far apart, whatever tokens say.
const MIN_FETCH_INTERVAL_S: u64 = 10;

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: String,
    http: reqwest::Client,
    held: RwLock<Held>,
    /// When they were last asked for; held while one asks, so that others wait for its answer.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug, Clone, Default)]
struct Held {
    keys: Arc<KeySet>,
    fetched: Option<Instant>,
}

impl Held {
    fn is_younger_than(&self, seconds: u64) -> bool {
        self.fetched.is_some_and(|at| at.elapsed() < Duration::from_secs(seconds))
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeysDocument {
    keys: Vec<Value>,
}

impl Keys {
    pub(super) fn new(issuer: &str) -> Result<Self, String> {
        require_safe(issuer)?;
        let http = reqwest::Client::builder()
            .timeout(Duration::from_millis(FETCH_TIMEOUT_MS))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| format!("is unreachable: {error}"))?;
        Ok(Self { issuer: issuer.to_owned(), http, held: RwLock::default(), asked: Mutex::default() })
    }

    /// The key of that id; without one the only key of the algorithm's family.
    pub(super) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey, Refused> {
        let held = self.held();
        if held.is_younger_than(MAX_AGE_S)
            && let Some(key) = held.keys.pick(kid, algorithm)
        {
            return Ok(key);
        }
        let refreshed = self.refresh(held.fetched).await;
        let held = self.held();
        match (held.keys.pick(kid, algorithm), refreshed) {
            (Some(key), Ok(())) => Ok(key),
            (Some(key), Err(error)) => {
                // A key that may be withdrawn is better than rejecting every caller while the issuer
                // restarts.
                tracing::warn!(%error, "keys of the OIDC issuer are stale");
                Ok(key)
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Refused::Token("the token's key is none of the issuer's".to_owned())),
        }
    }

    /// All keys as JSON Web Keys; those read before where the issuer is unreachable.
    pub(super) async fn documents(&self) -> Vec<Value> {
        let held = self.held();
        if !held.is_younger_than(MAX_PUBLISHED_AGE_S)
            && let Err(error) = self.refresh(held.fetched).await
        {
            tracing::debug!(%error, "the OIDC issuer's keys were not read again");
        }
        self.held().keys.documents().to_vec()
    }

    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches the keys unless that was done since `seen`, or just now.
    async fn refresh(&self, seen: Option<Instant>) -> Result<(), Refused> {
        let mut asked = self.asked.lock().await;
        let recently = asked.is_some_and(|at| at.elapsed() < Duration::from_secs(MIN_FETCH_INTERVAL_S));
        let fetched = self.held().fetched;
        if fetched != seen || (recently && fetched.is_some()) {
            return Ok(());
        }
        if recently {
            return Err(Refused::Issuer("its last request failed a moment ago".to_owned()));
        }
        *asked = Some(Instant::now());
        let keys = Arc::new(self.fetch().await.map_err(Refused::Issuer)?);
        tracing::debug!(keys = keys.len(), issuer = self.issuer, "fetched the keys of the OIDC issuer");
        *self.held.write().unwrap_or_else(PoisonError::into_inner) =
            Held { keys, fetched: Some(Instant::now()) };
        Ok(())
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.document(&address).await?;
        if discovery.issuer != self.issuer {
            return Err(format!("its discovery document names the issuer '{}'", discovery.issuer));
        }
        require_safe(&discovery.jwks_uri).map_err(|why| format!("its jwks_uri {why}"))?;
        let set: KeysDocument = self.document(&discovery.jwks_uri).await?;
        Ok(KeySet::read(set.keys))
    }

    async fn document<T: DeserializeOwned>(&self, address: &str) -> Result<T, String> {
        let away = |error: reqwest::Error| format!("{address}: {}", error.without_url());
        let mut response = self
            .http
            .get(address)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(away)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if body.len() + chunk.len() > MAX_DOCUMENT_BYTES {
                return Err(format!("{address} has more than {MAX_DOCUMENT_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("{address}: {error}"))
    }
}

/// Keys travel over TLS, except on this machine.
fn require_safe(address: &str) -> Result<(), String> {
    let url = Url::parse(address).map_err(|error| format!("is not a URL: {error}"))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(()),
        "http" if local => Ok(()),
        _ => Err("must be an https URL".to_owned()),
    }
}
