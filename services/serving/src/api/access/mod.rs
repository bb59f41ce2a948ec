//! Tokens: who may call which deployments. Off without a token file, and then it costs nothing.
//!
//! The file is read again when it changes; one that does not parse leaves the rules as they are. A request shows its token as
//! `Authorization: Bearer …`, in gRPC as the metadata `authorization`.

pub(crate) mod grpc;
pub(crate) mod rest;
mod rules;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use http::{HeaderMap, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_domain::access::token_digest;
use slipway_runtime::clock::now_unix_ms;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::watch;
use tokio_util::sync::CancellationToken;

pub use self::rules::{ALL_MODELS, TokenEntry, TokenFile};
use self::rules::{Grant, Rules, TokenDigest};
use crate::failure::{Failure, Kind};

/// Settings of the tokens.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessConfig {
    /// JSON file with the tokens of callers, as SHA-256 digests, and the deployments that each may call. The
    /// file is read again when it changes; `slipway serving-tokens create` creates entries. [default: no
    /// token is required]
    #[arg(long, env = "SLIPWAY_SERVING_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need<'name> {
    /// Nothing that is anybody's secret: health.
    Nothing,
    /// What every caller may know.
    AnyToken,
    /// Something with one deployment.
    Model(&'name str),
    /// Something that concerns every caller.
    AllModels,
}

/// Who calls: a token that was good when the request came. Travels in the extensions of the request.
#[derive(Debug, Clone)]
pub(crate) struct Caller(TokenDigest);

/// Decides who may do what. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    rules: RwLock<Arc<Rules>>,
    metrics: AccessMetrics,
    file: PathBuf,
    /// What it held at the start.
    known: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    token: String,
}

#[derive(Debug, Clone, Default)]
struct AccessMetrics {
    refused: Family<ReasonLabels, Counter>,
    uses: Family<TokenLabels, Counter>,
    tokens: Gauge,
    file_errors: Counter,
}

impl AccessMetrics {
    fn register(metrics: &Metrics) -> Self {
        let access = Self::default();
        let refused = "Requests rejected for their token";
        metrics.register("serving_requests_refused", refused, access.refused.clone());
        metrics.register("serving_token_uses", "Requests by token", access.uses.clone());
        metrics.register("serving_tokens", "Tokens of the token file", access.tokens.clone());
        let errors = "Invalid changes of the token file";
        metrics.register("serving_token_file_errors", errors, access.file_errors.clone());
        access
    }

    fn uses(&self, token: &str) -> Counter {
        self.uses.get_or_create_owned(&TokenLabels { token: token.to_owned() })
    }
}

impl Access {
    /// Rules of the token file, where there is one.
    ///
    /// # Errors
    /// The file cannot be used: a server that is told to ask for tokens does not start without.
    pub(crate) fn load(config: &AccessConfig, metrics: &Metrics) -> anyhow::Result<Self> {
        let Some(file) = config.tokens_file.clone() else { return Ok(Self(None)) };
        let metrics = AccessMetrics::register(metrics);
        let known = watch::read(std::slice::from_ref(&file));
        let rules = known.as_ref().map_err(Clone::clone).and_then(|known| read(known, &metrics));
        let rules = rules
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("the token file {} (--tokens-file)", file.display()))?;
        let known = known.unwrap_or_default();
        Ok(Self(Some(Arc::new(Inner { rules: RwLock::new(Arc::new(rules)), metrics, file, known }))))
    }

    /// Follows the token file until the shutdown.
    pub(crate) async fn watch(self, shutdown: CancellationToken) {
        let Some(inner) = self.0 else { return shutdown.cancelled().await };
        let (paths, known) = (vec![inner.file.clone()], inner.known.clone());
        watch::watch(paths, known, shutdown, move |contents| inner.reload(contents)).await;
    }

    /// Whether tokens are asked for.
    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Who calls, by the headers of the request; `None` where nobody is asked.
    ///
    /// # Errors
    /// No token, or none that is good.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Option<Caller>, Failure> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes()))
        else {
            return Err(inner.refused(
                Kind::Unauthenticated,
                "no-token",
                "expected 'Authorization: Bearer <token>'",
            ));
        };
        let caller = Caller(token_digest(token));
        inner.with_grant(&caller, |grant| {
            grant.uses.inc();
            Ok(())
        })?;
        Ok(Some(caller))
    }

    /// Refuses what the caller may not do. Asked again for each message of a stream, which may outlive its token.
    ///
    /// # Errors
    /// The token ended meanwhile, or is for something else.
    pub(crate) fn check(&self, caller: Option<&Caller>, need: Need<'_>) -> Result<(), Failure> {
        let Some(inner) = &self.0 else { return Ok(()) };
        if need == Need::Nothing {
            return Ok(());
        }
        inner.with_grant(known(caller)?, |grant| {
            let lawful = match need {
                Need::Nothing | Need::AnyToken => true,
                Need::Model(model) => grant.takes(model),
                Need::AllModels => grant.all,
            };
            if lawful {
                return Ok(());
            }
            let message = match need {
                Need::Model(model) => format!("the token '{}' is not for model '{model}'", grant.name),
                _ => {
                    format!("the token '{}' is not for all models, which this operation requires", grant.name)
                }
            };
            Err(inner.refused(Kind::Forbidden, "not-allowed", message))
        })
    }

    /// Both at once: who calls, and whether they may.
    ///
    /// # Errors
    /// As of [`Self::identify`] and [`Self::check`].
    pub(crate) fn admit(&self, headers: &HeaderMap, need: Need<'_>) -> Result<Option<Caller>, Failure> {
        if !self.is_on() || need == Need::Nothing {
            return Ok(None);
        }
        let caller = self.identify(headers)?;
        self.check(caller.as_ref(), need)?;
        Ok(caller)
    }

    /// Name of the token that a caller showed; `None` where no tokens are asked for.
    pub(crate) fn name_of(&self, caller: Option<&Caller>) -> Option<String> {
        let (inner, caller) = (self.0.as_ref()?, caller?);
        inner.rules().grant(&caller.0).map(|grant| grant.name.clone())
    }

    /// Which deployments a caller sees in lists: those that it may call.
    pub(crate) fn sees(&self, caller: Option<&Caller>) -> impl Fn(&str) -> bool + use<> {
        let visible = self.0.as_ref().map(|inner| (inner.rules(), caller.map(|caller| caller.0)));
        move |model| match &visible {
            None => true,
            Some((rules, digest)) => {
                let grant = digest.as_ref().and_then(|digest| rules.grant(digest));
                grant.is_some_and(|grant| grant.takes(model))
            }
        }
    }
}

impl Inner {
    fn reload(&self, contents: &watch::Contents) {
        match contents.as_ref().map_err(Clone::clone).and_then(|files| read(files, &self.metrics)) {
            Ok(rules) => {
                tracing::info!(tokens = rules.len(), "token file changed");
                *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
            }
            Err(error) => {
                self.metrics.file_errors.inc();
                let file = self.file.display();
                tracing::error!(error, %file, "token file invalid; the previous rules stay in force");
            }
        }
    }

    fn rules(&self) -> Arc<Rules> {
        // The lock is held for one pointer; a panic cannot leave it half-written.
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_grant(
        &self,
        caller: &Caller,
        ask: impl FnOnce(&Grant) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let rules = self.rules();
        let Some(grant) = rules.grant(&caller.0) else {
            return Err(self.refused(Kind::Unauthenticated, "unknown-token", "the token is unknown"));
        };
        if grant.is_over(now_unix_ms()) {
            let message = format!("the token '{}' has expired", grant.name);
            return Err(self.refused(Kind::Unauthenticated, "expired-token", message));
        }
        ask(grant)
    }

    fn refused(&self, kind: Kind, reason: &'static str, message: impl Into<String>) -> Failure {
        self.metrics.refused.get_or_create(&ReasonLabels { reason }).inc();
        Failure::new(kind, message)
    }
}

/// A caller that the guard has let in; without the guard nobody is.
fn known(caller: Option<&Caller>) -> Result<&Caller, Failure> {
    caller.ok_or_else(|| Failure::new(Kind::Unauthenticated, "expected 'Authorization: Bearer <token>'"))
}

/// The token of an `Authorization` header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    // HTTP/1 drops the space after the colon of a header; over HTTP/2 some clients send it as part of the value.
    let (scheme, token) = value.trim_ascii_start().split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// The rules in the file that was read.
fn read(files: &[Vec<u8>], metrics: &AccessMetrics) -> Result<Rules, String> {
    let bytes = files.first().map(Vec::as_slice).unwrap_or_default();
    let rules = Rules::parse(bytes, |name| metrics.uses(name))?;
    metrics.tokens.set(i64::try_from(rules.len()).unwrap_or(i64::MAX));
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::bearer;

    #[test]
    fn a_token_is_found_whatever_spaces_are_around_it() {
        for value in ["Bearer t-1", "bearer t-1", " Bearer t-1", "Bearer   t-1 "] {
            assert_eq!(bearer(value.as_bytes()), Some(&b"t-1"[..]), "{value:?}");
        }
        for value in ["", "Bearer", "Bearer ", "Basic t-1", "Bearert-1"] {
            assert_eq!(bearer(value.as_bytes()), None, "{value:?}");
        }
    }
}
