//! The issuer's public keys: found through its discovery document, kept, and asked for again when a token names another one.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use super::Refused;

const FETCH_TIMEOUT_MS: u64 = 5_000;
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
const MAX_KEYS: usize = 100;
/// Keys are asked for again after this time, so that one which the issuer withdrew ends.
const MAX_AGE_S: u64 = 600;
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
    by_id: Arc<HashMap<String, Key>>,
    fetched: Option<Instant>,
}

/// A key, and the algorithm that it is for where its document says so.
#[derive(Debug, Clone)]
struct Key {
    decoding: DecodingKey,
    algorithm: Option<KeyAlgorithm>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
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
        let fresh = held.fetched.is_some_and(|at| at.elapsed() < Duration::from_secs(MAX_AGE_S));
        if fresh && let Some(key) = pick(&held.by_id, kid, algorithm) {
            return Ok(key);
        }
        let refreshed = self.refresh(held.fetched).await;
        let held = self.held();
        match (pick(&held.by_id, kid, algorithm), refreshed) {
            (Some(key), Ok(())) => Ok(key),
            (Some(key), Err(error)) => {
                // Better a key that may be withdrawn than nobody served while the issuer restarts.
                tracing::warn!(%error, "keys of the OIDC issuer are stale");
                Ok(key)
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Refused::Token("the token's key is none of the issuer's".to_owned())),
        }
    }

    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for the keys unless somebody did so since `seen`, or just now.
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
        let by_id = Arc::new(self.fetch().await.map_err(Refused::Issuer)?);
        tracing::info!(keys = by_id.len(), issuer = self.issuer, "fetched the keys of the OIDC issuer");
        *self.held.write().unwrap_or_else(PoisonError::into_inner) =
            Held { by_id, fetched: Some(Instant::now()) };
        Ok(())
    }

    async fn fetch(&self) -> Result<HashMap<String, Key>, String> {
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let discovery: Discovery = self.document(&address).await?;
        if discovery.issuer != self.issuer {
            return Err(format!("its discovery document names the issuer '{}'", discovery.issuer));
        }
        require_safe(&discovery.jwks_uri).map_err(|why| format!("its jwks_uri {why}"))?;
        let set: KeySet = self.document(&discovery.jwks_uri).await?;
        // A key of a kind that is not known here does not spoil the others.
        let keys = set.keys.into_iter().take(MAX_KEYS);
        Ok(keys.filter_map(|key| usable(serde_json::from_value(key).ok()?)).collect())
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

/// Public keys for signatures of the kinds that are accepted; one without an id has the empty one.
fn usable(key: Jwk) -> Option<(String, Key)> {
    let accepted = match &key.algorithm {
        AlgorithmParameters::RSA(_) => true,
        AlgorithmParameters::EllipticCurve(parameters) => parameters.curve == EllipticCurve::P256,
        AlgorithmParameters::OctetKeyPair(parameters) => parameters.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let signs = key.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = key.common.key_operations.as_ref().is_none_or(|may| may.contains(&KeyOperations::Verify));
    let decoding = DecodingKey::from_jwk(&key).ok()?;
    let algorithm = key.common.key_algorithm;
    (accepted && signs && verifies)
        .then(|| (key.common.key_id.unwrap_or_default(), Key { decoding, algorithm }))
}

fn pick(keys: &HashMap<String, Key>, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
    let (family, named) = match algorithm {
        Algorithm::RS256 => (AlgorithmFamily::Rsa, KeyAlgorithm::RS256),
        Algorithm::ES256 => (AlgorithmFamily::Ec, KeyAlgorithm::ES256),
        _ => (AlgorithmFamily::Ed, KeyAlgorithm::EdDSA),
    };
    // RFC 9864 gives Ed25519 a name of its own, which is the same signature.
    let is_ed25519 = |one| one == KeyAlgorithm::UNKNOWN_ALGORITHM && family == AlgorithmFamily::Ed;
    // A key that says which algorithm it is for verifies no other (RFC 7517, section 4.4).
    let fits = |key: &Key| {
        key.decoding.family() == family && key.algorithm.is_none_or(|one| one == named || is_ed25519(one))
    };
    if let Some(kid) = kid {
        return keys.get(kid).filter(|key| fits(key)).map(|key| key.decoding.clone());
    }
    let mut of_family = keys.values().filter(|key| fits(key));
    let only = of_family.next()?;
    of_family.next().is_none().then(|| only.decoding.clone())
}
