//! Keeps web pages out. In front of every route of every port: the name that a request uses for this service,
//! the page that sent it, and the type of its body are checked before anything is read from it.
//!
//! A service on loopback has no other protection from pages than this: any page may send a request to
//! `127.0.0.1`, with a body of certain types, and without being able to read the answer; a page whose name
//! resolves to `127.0.0.1` (DNS rebinding) may read it, too.

mod decision;
mod names;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::anyhow;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures::future::Either;
use http::{Method, StatusCode, header};
use http_body::Body as _;
use tower::Service;

use self::decision::{Asked, decide};
pub use self::decision::{Bodies, Refusal};
use self::names::{HostRule, OriginRule};
use crate::Problem;
use crate::linger::lingering;

/// Which names and origins are this service's own.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Listener")]
pub struct GuardConfig {
    /// Host names that requests may use for this service, separated by commas, in addition to `localhost` and
    /// IP addresses: `registry`, `registry:5000`, `*.example.org`; `*` allows any name, which disables the
    /// protection from DNS rebinding. [default: none]
    #[arg(long, env = "SLIPWAY_ALLOWED_HOSTS", value_delimiter = ',', value_name = "HOSTS")]
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages, separated by commas, that may send requests that change something, in addition
    /// to this service's own origin, e.g. `https://mlops.example.org`. [default: none]
    #[arg(long, env = "SLIPWAY_ALLOWED_ORIGINS", value_delimiter = ',', value_name = "ORIGINS")]
    pub allowed_origins: Vec<String>,
}

impl GuardConfig {
    /// The guard with these settings.
    ///
    /// # Errors
    /// An entry is not a host or an origin; names the setting.
    pub fn guard(&self) -> anyhow::Result<Guard> {
        let hosts = parsed(&self.allowed_hosts, "--allowed-hosts or SLIPWAY_ALLOWED_HOSTS", HostRule::parse)?;
        let setting = "--allowed-origins or SLIPWAY_ALLOWED_ORIGINS";
        let origins = parsed(&self.allowed_origins, setting, OriginRule::parse)?;
        Ok(Guard { hosts, origins, ..Guard::default() })
    }
}

fn parsed<T>(
    entries: &[String],
    setting: &str,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> anyhow::Result<Vec<T>> {
    let entries = entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| parse(entry).map_err(|expected| anyhow!("{setting}: `{entry}`: {expected}")))
        .collect()
}

/// Decides which requests are answered. The default knows `localhost` and IP addresses, and takes JSON and
/// gRPC.
#[derive(Debug, Clone)]
pub struct Guard {
    hosts: Vec<HostRule>,
    origins: Vec<OriginRule>,
    bodies: fn(&Method, &str) -> Bodies,
    shape: fn(&Refusal, &str) -> Response,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            origins: Vec::new(),
            bodies: |_method, _path| Bodies::Json,
            shape: |refusal, _path| refusal.problem().into_response(),
        }
    }
}

impl Guard {
    /// The guard of a service whose routes take other bodies than JSON, by method and path. gRPC needs no
    /// mention.
    #[must_use]
    pub fn with_bodies(self, bodies: fn(&Method, &str) -> Bodies) -> Self {
        Self { bodies, ..self }
    }

    /// The guard of a service that answers errors in another shape than a problem, by path.
    #[must_use]
    pub fn with_shape(self, shape: fn(&Refusal, &str) -> Response) -> Self {
        Self { shape, ..self }
    }

    fn check(&self, request: &Request, secure: bool) -> Result<(), Refusal> {
        let path = request.uri().path();
        decide(
            &self.hosts,
            &self.origins,
            &Asked {
                method: request.method(),
                authority: request.uri().authority().map(http::uri::Authority::as_str),
                headers: request.headers(),
                has_body: !request.body().is_end_stream(),
                bodies: if is_grpc(path) { Bodies::Grpc } else { (self.bodies)(request.method(), path) },
                secure,
            },
        )
    }

    fn refuse(&self, refusal: &Refusal, request: &Request) -> Response {
        let path = request.uri().path();
        tracing::debug!(method = %request.method(), ?path, ?refusal, "request refused");
        let kind = request.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        if is_grpc(path) && kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            let status = tonic::Status::from(refusal.problem());
            return status.into_http::<tonic::body::Body>().map(axum::body::Body::new);
        }
        (self.shape)(refusal, path)
    }
}

/// Whether a path names a call of gRPC: `/package.Service/Method`.
fn is_grpc(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    service.is_some_and(|(service, method)| service.contains('.') && !method.is_empty())
}

impl Refusal {
    /// HTTP status: 403 for a name or a page, 415 for a body.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Host { .. } | Self::Origin { .. } => StatusCode::FORBIDDEN,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// What happened, and which setting would allow it.
    pub fn detail(&self) -> String {
        match self {
            Self::Host { host } => format!(
                "Invalid Host header - possible DNS rebinding attack detected: `{host}` is not a name of \
                 this service; if it is, add it to --allowed-hosts or SLIPWAY_ALLOWED_HOSTS"
            ),
            Self::Origin { evidence } => format!(
                "the request comes from a web page of another origin ({evidence}), and such pages may not \
                 change anything here; if the page is trusted, add its origin to --allowed-origins or \
                 SLIPWAY_ALLOWED_ORIGINS"
            ),
            Self::MediaType { sent: Some(sent), expected } => {
                format!("`Content-Type`: expected {expected}, got `{sent}`")
            }
            Self::MediaType { sent: None, expected } => {
                format!("`Content-Type`: expected {expected}, got none")
            }
        }
    }

    /// As a problem.
    pub fn problem(&self) -> Problem {
        let (code, title) = match self {
            Self::Host { .. } => ("host-not-allowed", "Host not allowed"),
            Self::Origin { .. } => ("origin-not-allowed", "Origin not allowed"),
            Self::MediaType { .. } => ("unsupported-media-type", "Unsupported media type"),
        };
        Problem::new(self.status(), code, title, self.detail())
    }
}

/// A service behind a guard.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    pub(crate) service: S,
    pub(crate) guard: Arc<Guard>,
    /// Whether the connection has TLS.
    pub(crate) secure: bool,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.guard.check(&request, self.secure) {
            Ok(()) => Either::Left(self.service.call(request)),
            Err(refusal) => {
                let response = self.guard.refuse(&refusal, &request);
                // The client may still send the body, and is to hear the answer.
                drop(lingering(request));
                Either::Right(ready(Ok(response)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_refused_by_name_and_empty_ones_are_none() {
        let config = |hosts: &[&str], origins: &[&str]| GuardConfig {
            allowed_hosts: hosts.iter().map(ToString::to_string).collect(),
            allowed_origins: origins.iter().map(ToString::to_string).collect(),
        };
        assert!(config(&["", " registry "], &[""]).guard().is_ok());
        let refused = format!("{:#}", config(&["http://registry"], &[]).guard().unwrap_err());
        assert!(
            refused.contains("SLIPWAY_ALLOWED_HOSTS") && refused.contains("`http://registry`"),
            "{refused}"
        );
        let refused = format!("{:#}", config(&[], &["mlops.example.org"]).guard().unwrap_err());
        assert!(refused.contains("SLIPWAY_ALLOWED_ORIGINS"), "{refused}");
    }

    #[test]
    fn calls_of_grpc_are_known_by_their_path() {
        assert!(
            is_grpc("/slipway.launcher.v1.Launcher/SubmitJob") && is_grpc("/grpc.health.v1.Health/Check")
        );
        for path in ["/", "/v2/models/a.b/infer", "/api/2.0/mlflow/runs/create", "/a.b", "/a.b/", "*"] {
            assert!(!is_grpc(path), "{path}");
        }
    }
}
