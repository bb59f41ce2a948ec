//! Access control: which callers may call which deployments. Off without a token file and with `--auth off`,
//! and then it costs nothing.
//!
//! A caller shows its token as `Authorization: Bearer …`, in gRPC as the metadata `authorization`. It is a
//! token of the token file, which names deployments, or a token of the registry, whose roles on models count.
//! The file is read again when it changes; one that does not parse leaves the rules as they are. Tokens of
//! the registry are checked by what it published ([`slipway_access`]).

mod file;
mod granted;
pub(crate) mod grpc;
pub(crate) mod policy;
pub(crate) mod rest;
mod rules;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request};
use http::{HeaderMap, header};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use slipway_access::CheckConfig;
use slipway_domain::access::token_digest;
use slipway_event_bus::EventBus;
use slipway_service_kit::Tasks;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use self::file::TokensInFile;
use self::granted::{Granted, GrantedCaller};
use self::rules::TokenDigest;
pub use self::rules::{ALL_MODELS, TokenEntry, TokenFile};
use crate::failure::{Failure, Kind};
use crate::models::routing::Routing;

const NO_TOKEN: &str = "expected 'Authorization: Bearer <token>'";

/// Settings of access control.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Access")]
pub struct AccessConfig {
    /// JSON file with the tokens of callers, as SHA-256 digests, and the deployments that each may call. The
    /// file is read again when it changes; `slipway serving-tokens create` creates entries. [default: no
    /// token is required]
    #[arg(long, env = "SLIPWAY_SERVING_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    /// Tokens of the registry.
    #[command(flatten)]
    pub check: CheckConfig,
}

/// What a request requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need<'name> {
    /// Nothing: health.
    Nothing,
    /// Any valid token.
    AnyToken,
    /// Use of one deployment.
    Model(&'name str),
    /// Labels for one deployment, which decide over its rollouts.
    Labels(&'name str),
    /// Control of what concerns every caller.
    AllModels,
    /// The route or method has no rule: nothing is enough.
    Unlisted,
}

/// Who calls: a token that was valid when the request came. Travels in the extensions of the request.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A token of the token file.
    Listed(TokenDigest),
    /// A token of the registry.
    Granted(Arc<GrantedCaller>),
}

/// Decides which callers may do what. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    file: Option<TokensInFile>,
    granted: Option<Granted>,
    refused: Family<ReasonLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Why a request is refused: a label of metrics, and what the caller receives.
#[derive(Debug)]
struct Refusal {
    reason: &'static str,
    failure: Failure,
}

impl Refusal {
    fn new(reason: &'static str, kind: Kind, message: impl Into<String>) -> Self {
        Self { reason, failure: Failure::new(kind, message) }
    }
}

impl Access {
    /// Rules of the token file and of the registry, as configured.
    ///
    /// # Errors
    /// The file cannot be used: a server that requires tokens does not start without them.
    pub(crate) fn load(
        config: &AccessConfig,
        cache_dir: &Path,
        metrics: &Metrics,
        routing: &Arc<Routing>,
    ) -> anyhow::Result<Self> {
        let file = config.tokens_file.clone().map(|file| TokensInFile::load(file, metrics)).transpose()?;
        let granted = Granted::new(&config.check, cache_dir, metrics, routing);
        if file.is_none() && granted.is_none() {
            return Ok(Self(None));
        }
        let refused = Family::default();
        let help = "Requests rejected for their token";
        metrics.register("serving_requests_refused", help, refused.clone());
        Ok(Self(Some(Arc::new(Inner { file, granted, refused }))))
    }

    /// Follows the token file until the shutdown.
    pub(crate) async fn watch(self, shutdown: CancellationToken) {
        match self.0.as_ref().and_then(|inner| inner.file.as_ref()) {
            Some(file) => file.watch(shutdown).await,
            None => shutdown.cancelled().await,
        }
    }

    /// Follows what the registry publishes, where its tokens are accepted.
    ///
    /// # Errors
    /// There is no NATS to receive it from.
    pub(crate) fn follow(
        &self,
        bus: Option<&EventBus>,
        tasks: &mut Tasks,
        readiness: &Readiness,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let Some(granted) = self.0.as_ref().and_then(|inner| inner.granted.as_ref()) else { return Ok(()) };
        let bus = bus.ok_or_else(|| {
            anyhow::anyhow!(
                "--auth on requires NATS (--nats-url or SLIPWAY_NATS_URL), through which tokens and roles \
                 arrive"
            )
        })?;
        granted.follow(bus, tasks, readiness, shutdown);
        Ok(())
    }

    /// Whether tokens are required.
    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Who sends the request; `None` where no token is required.
    ///
    /// # Errors
    /// There is no token, or none that is valid.
    pub(crate) fn identify(&self, request: &Request) -> Result<Option<Caller>, Failure> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        self.identify_by(request.headers(), peer)
    }

    fn identify_by(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Option<Caller>, Failure> {
        let Some(inner) = &self.0 else { return Ok(None) };
        inner.identify(headers, peer).map(Some).map_err(|refusal| inner.refused(refusal))
    }

    /// Refuses what the caller may not do. Checked again for each message of a stream, which may outlive its
    /// token.
    ///
    /// # Errors
    /// The token expired or was revoked, or is not for this.
    pub(crate) fn check(&self, caller: Option<&Caller>, need: Need<'_>) -> Result<(), Failure> {
        let Some(inner) = &self.0 else { return Ok(()) };
        if need == Need::Nothing {
            return Ok(());
        }
        inner.check(caller, need).map_err(|refusal| inner.refused(refusal))
    }

    /// Identifies the caller and checks that it may.
    ///
    /// # Errors
    /// As of [`Self::identify`] and [`Self::check`].
    pub(crate) fn admit(&self, request: &Request, need: Need<'_>) -> Result<Option<Caller>, Failure> {
        if !self.is_on() || need == Need::Nothing {
            return Ok(None);
        }
        let caller = self.identify(request)?;
        self.check(caller.as_ref(), need)?;
        Ok(caller)
    }

    /// [`Self::admit`] of a prediction, by its headers.
    ///
    /// # Errors
    /// As of [`Self::admit`].
    pub(crate) fn admit_prediction(&self, headers: &HeaderMap, deployment: &str) -> Result<(), Failure> {
        if !self.is_on() {
            return Ok(());
        }
        let caller = self.identify_by(headers, None)?;
        self.check(caller.as_ref(), Need::Model(deployment))
    }

    /// Name of the caller, for the log; `None` where no token is required.
    pub(crate) fn name_of(&self, caller: Option<&Caller>) -> Option<String> {
        match caller? {
            Caller::Listed(digest) => self.0.as_ref()?.file.as_ref()?.name_of(digest),
            Caller::Granted(caller) => Some(caller.principal().to_owned()),
        }
    }

    /// Which deployments a caller sees in lists: those that it may use.
    pub(crate) fn sees(&self, caller: Option<&Caller>) -> impl Fn(&str) -> bool + use<> {
        let inner = self.0.clone();
        let caller = caller.cloned();
        move |deployment| match (&inner, &caller) {
            (None, _) => true,
            (Some(inner), Some(Caller::Listed(digest))) => {
                inner.file.as_ref().is_some_and(|file| file.takes(digest, deployment))
            }
            (Some(inner), Some(Caller::Granted(caller))) => {
                inner.granted.as_ref().is_some_and(|granted| granted.may_use(caller, deployment))
            }
            (Some(_), None) => false,
        }
    }
}

impl Inner {
    fn identify(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Result<Caller, Refusal> {
        let header = headers.get(header::AUTHORIZATION);
        let bearer = header.and_then(|value| bearer(value.as_bytes()));
        if let (Some(file), Some(token)) = (&self.file, bearer) {
            let digest = token_digest(token);
            // Without the registry's tokens the file has the last word.
            if self.granted.is_none() || file.knows(&digest) {
                file.uses(&digest)?;
                return Ok(Caller::Listed(digest));
            }
        }
        let Some(granted) = &self.granted else {
            return Err(Refusal::new("no-token", Kind::Unauthenticated, NO_TOKEN));
        };
        granted.identify(headers, peer).map(Caller::Granted)
    }

    fn check(&self, caller: Option<&Caller>, need: Need<'_>) -> Result<(), Refusal> {
        let unknown = || Refusal::new("no-token", Kind::Unauthenticated, NO_TOKEN);
        match caller {
            // A caller that the guard has let in; a request that passed no guard has none.
            None => Err(unknown()),
            Some(Caller::Listed(digest)) => self.file.as_ref().ok_or_else(unknown)?.check(digest, need),
            Some(Caller::Granted(caller)) => self.granted.as_ref().ok_or_else(unknown)?.check(caller, need),
        }
    }

    fn refused(&self, refusal: Refusal) -> Failure {
        self.refused.get_or_create(&ReasonLabels { reason: refusal.reason }).inc();
        refusal.failure
    }
}

/// The token of an `Authorization` header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    // HTTP/1 drops the space after the colon of a header; over HTTP/2 some clients send it as part of the
    // value.
    let (scheme, token) = value.trim_ascii_start().split_at_checked(b"Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
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
