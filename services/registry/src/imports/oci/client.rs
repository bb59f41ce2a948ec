//! Requests to registries, by the distribution protocol of OCI: anonymous, with a token, or with a password.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::{Credentials, Login};
use super::reference::{Reference, is_loopback};

/// Blobs often are at another host, e.g. in a bucket.
const MAX_REDIRECTS: usize = 5;
const MAX_TOKEN_BYTES: usize = 256 * 1024;
/// Time for which a token counts whose server does not say.
const DEFAULT_TOKEN_S: u64 = 60;
/// Tokens are renewed this long before they expire.
const TOKEN_MARGIN_S: u64 = 10;
const MAX_TOKENS: usize = 1_000;

/// A client of registries. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    credentials: Credentials,
    tokens: Arc<Mutex<HashMap<String, Token>>>,
}

#[derive(Debug, Clone)]
struct Token {
    secret: SecretString,
    expires_at: Instant,
}

/// What a request is sent with.
#[derive(Debug)]
enum Authorisation {
    None,
    Token(SecretString),
    Password(Login),
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(alias = "access_token")]
    token: Option<SecretString>,
    expires_in: Option<u64>,
}

impl Client {
    /// The HTTP client must not follow redirects.
    pub(super) fn new(http: reqwest::Client, credentials: Credentials) -> Self {
        Self { http, credentials, tokens: Arc::default() }
    }

    /// Asks for something of a repository; the status is any but 401.
    pub(super) async fn send(
        &self,
        reference: &Reference,
        method: &Method,
        url: &Url,
        accept: &'static str,
    ) -> anyhow::Result<Response> {
        let key = format!("{}/{}", reference.registry, reference.repository);
        let known = self.known(&key).map_or(Authorisation::None, Authorisation::Token);
        let response = self.ask(method, url, accept, &known).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).into_iter();
        let challenge = challenges.filter_map(|value| Challenge::parse(value.to_str().ok()?)).next();
        let challenge = challenge.with_context(|| {
            format!("{} requires an authentication that is not supported", reference.registry)
        })?;
        let login = self.credentials.of(&reference.registry)?;
        let is_anonymous = login.is_none();
        let authorisation = match challenge {
            Challenge::Basic => login.map_or(Authorisation::None, Authorisation::Password),
            Challenge::Bearer { realm, service, scope } => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", reference.repository));
                let realm = self.realm(reference, &realm, service.as_deref(), &scope)?;
                let token = self.fetch_token(realm, login.as_ref()).await?;
                let secret = token.secret.clone();
                self.remember(key, token);
                Authorisation::Token(secret)
            }
        };
        let response = self.ask(method, url, accept, &authorisation).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            bail!(refused(reference, is_anonymous));
        }
        Ok(response)
    }

    /// Reads a blob, wherever the registry redirects to.
    pub(super) async fn blob(&self, reference: &Reference, digest: &str) -> anyhow::Result<Response> {
        let url = reference.url("blobs", digest)?;
        let mut response = self.send(reference, &Method::GET, &url, "*/*").await?;
        for _ in 0..MAX_REDIRECTS {
            if !response.status().is_redirection() {
                return found(response);
            }
            let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            let to = response.url().join(to.context("a redirect without a location")?)?;
            // The digest of the bytes is checked; what must not happen is a request to a service of this
            // network, none of which has a certificate for it.
            ensure!(
                is_safe(reference, &to),
                "{} redirects to {}, which is not HTTPS",
                response.url(),
                shown(&to)
            );
            response = match to.origin() == reference.base.origin() {
                true => self.send(reference, &Method::GET, &to, "*/*").await?,
                // No credential leaves the registry.
                false => self.ask(&Method::GET, &to, "*/*", &Authorisation::None).await?,
            };
        }
        bail!("{} redirects more than {MAX_REDIRECTS} times", reference.registry)
    }

    async fn ask(
        &self,
        method: &Method,
        url: &Url,
        accept: &'static str,
        authorisation: &Authorisation,
    ) -> anyhow::Result<Response> {
        let request = self.http.request(method.clone(), url.clone());
        let request = request.header(header::ACCEPT, HeaderValue::from_static(accept));
        let request = match authorisation {
            Authorisation::None => request,
            Authorisation::Token(token) => request.bearer_auth(token.expose_secret()),
            Authorisation::Password(login) => {
                request.basic_auth(&login.user, Some(login.password.expose_secret()))
            }
        };
        // A presigned URL is a credential.
        let answered = request.send().await.map_err(reqwest::Error::without_url);
        answered.with_context(|| format!("{} does not answer", shown(url)))
    }

    /// Where a token is to be had.
    fn realm(
        &self,
        reference: &Reference,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> anyhow::Result<Url> {
        let mut url = Url::parse(realm).with_context(|| format!("the realm {realm} is no URL"))?;
        ensure!(
            is_safe(reference, &url),
            "{} names {} for tokens, which is not HTTPS",
            reference.registry,
            shown(&url)
        );
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scope.split(' ') {
            query.append_pair("scope", scope);
        }
        drop(query);
        Ok(url)
    }

    async fn fetch_token(&self, realm: Url, login: Option<&Login>) -> anyhow::Result<Token> {
        let at = shown(&realm);
        let password = login.cloned().map_or(Authorisation::None, Authorisation::Password);
        let response = self.ask(&Method::GET, &realm, "application/json", &password).await?;
        let status = response.status();
        ensure!(status.is_success(), "{at} answers with HTTP status {status} instead of a token");
        let body = read(response, MAX_TOKEN_BYTES).await?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
        let answer = answer.with_context(|| format!("{at} answers with something else than a token"))?;
        let secret = answer.token.with_context(|| format!("{at} answers without a token"))?;
        let valid_s = answer.expires_in.unwrap_or(DEFAULT_TOKEN_S).min(24 * 3_600);
        let valid_s = valid_s.saturating_sub(TOKEN_MARGIN_S);
        Ok(Token { secret, expires_at: Instant::now() + Duration::from_secs(valid_s) })
    }

    fn known(&self, key: &str) -> Option<SecretString> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(key).filter(|token| token.expires_at > Instant::now()).map(|token| token.secret.clone())
    }

    fn remember(&self, key: String, token: Token) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, token| token.expires_at > Instant::now());
        if tokens.len() < MAX_TOKENS {
            tokens.insert(key, token);
        }
    }
}

/// Whether a registry may lead to an address: by HTTPS, or on this machine if the registry is there as well.
fn is_safe(reference: &Reference, url: &Url) -> bool {
    url.scheme() == "https" || (is_loopback(&reference.base) && is_loopback(url) && url.scheme() == "http")
}

/// An address without its query, which may have a signature.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn refused(reference: &Reference, is_anonymous: bool) -> String {
    let Reference { registry, repository, .. } = reference;
    match is_anonymous {
        true => format!(
            "{registry} refuses anonymous access to {repository}; SLIPWAY_IMPORT_REGISTRY_AUTH_FILE of the \
             registry has no credentials for {registry}"
        ),
        false => format!("{registry} refuses access to {repository} with the credentials for {registry}"),
    }
}

/// A response with what was asked for.
pub(super) fn found(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    ensure!(status.is_success(), "{} answers with HTTP status {status}", shown(response.url()));
    Ok(response)
}

/// The body, which is refused where it is longer than `most_bytes`.
pub(super) async fn read(response: Response, most_bytes: usize) -> anyhow::Result<Vec<u8>> {
    let from = shown(response.url());
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        body.extend_from_slice(&chunk.map_err(reqwest::Error::without_url)?);
        ensure!(body.len() <= most_bytes, "the answer of {from} has more than {most_bytes} bytes");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_leads_to_https_and_from_this_machine_to_this_machine() {
        let remote = Reference::parse("oci://ghcr.io/m:1").unwrap();
        let local = Reference::parse("oci://127.0.0.1:5000/m:1").unwrap();
        for (reference, url, is_allowed) in [
            (&remote, "https://auth.example.com/token", true),
            (&remote, "http://ghcr.io/token", false),
            (&remote, "http://169.254.169.254/latest", false),
            (&remote, "http://127.0.0.1:6000/token", false),
            (&remote, "file:///etc/passwd", false),
            (&local, "http://127.0.0.1:6000/token", true),
            (&local, "http://169.254.169.254/latest", false),
        ] {
            assert_eq!(is_safe(reference, &Url::parse(url).unwrap()), is_allowed, "{url}");
        }
    }

    #[test]
    fn signatures_of_addresses_are_not_shown() {
        let url = Url::parse("https://user:secret@bucket.example.com:1/blob?X-Amz-Signature=abc").unwrap();
        assert_eq!(shown(&url), "https://bucket.example.com:1/blob");
    }
}
