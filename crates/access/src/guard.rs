//! The middleware in front of every route of a service, REST and gRPC.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use slipway_domain::access::{Role, Scope};
use slipway_http_server::Problem;

use crate::audit::{Calls, Outcome};
use crate::policy::{Decision, Policy, Requirement, Resource, Rule, decide};
use crate::{Caller, Refused, Verifier, lasting};

/// What a client without a credential may try.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Bearer realm=\"slipway\""),
    HeaderValue::from_static("Basic realm=\"slipway\""),
];

/// The answer of [`Resolve`].
pub type Resolved<'a> = Pin<Box<dyn Future<Output = Result<Option<Scope>, Problem>> + Send + 'a>>;

/// Finds the registered model or the experiment that something belongs to, whose roles then apply.
pub trait Resolve: std::fmt::Debug + Send + Sync {
    /// The scope of the thing of this kind with this name; `None` where there is no such thing, or it belongs
    /// to nothing, which needs a role on everything.
    fn scope_of<'a>(&'a self, kind: &'static str, name: &'a str) -> Resolved<'a>;
}

/// Access control of one service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    policy: Arc<Policy>,
    /// Absent where access control is off.
    verifier: Option<Verifier>,
    resolve: Option<Arc<dyn Resolve>>,
    calls: Calls,
}

impl Gate {
    /// Access control by this policy; without a verifier it is off.
    pub fn new(policy: Policy, verifier: Option<Verifier>, calls: Calls) -> Self {
        Self { policy: Arc::new(policy), verifier, resolve: None, calls }
    }

    /// With roles on models and experiments for what belongs to one.
    #[must_use]
    pub fn resolving(self, resolve: impl Resolve + 'static) -> Self {
        Self { resolve: Some(Arc::new(resolve)), ..self }
    }

    async fn admit(&self, verifier: &Verifier, request: Request) -> Result<(Request, Admitted), Refusal> {
        let (mut parts, body) = request.into_parts();
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let origin = verifier.origin(peer, &parts.headers);
        let route = parts.extensions.get::<MatchedPath>().map(|matched| matched.as_str().to_owned());
        let rule = self.policy.find(&parts.method, route.as_deref(), parts.uri.path());
        let refused = |caller: Caller, refused: Refused| Refusal { caller, refused };
        if rule.is_some_and(|rule| matches!(rule.requirement, Requirement::Open | Requirement::AttemptToken))
        {
            let caller = Caller::anonymous(origin);
            return Ok((Request::from_parts(parts, body), Admitted { caller, changes: false, again: None }));
        }
        let caller = verifier
            .authenticate(&parts.headers, origin.clone())
            .map_err(|error| refused(Caller::anonymous(origin), error))?;
        let named = named(rule, &mut parts).await;
        let scope = self.scope(named.as_ref()).await.map_err(|error| refused(caller.clone(), error))?;
        match decide(rule, &caller, &scope, verifier.job_role()) {
            Decision::Allowed => {
                let again = rule.zip(parts.headers.get(header::AUTHORIZATION)).map(|(rule, header)| {
                    let (gate, verifier, mut header) = (self.clone(), verifier.clone(), header.clone());
                    header.set_sensitive(true);
                    Again { gate, verifier, rule, named, header, origin: caller.origin.clone() }
                });
                let changes = rule.is_some_and(changes);
                Ok((Request::from_parts(parts, body), Admitted { caller, changes, again }))
            }
            Decision::Denied(why) => Err(refused(caller, Refused::Denied(why))),
        }
    }

    /// What the request is about.
    async fn scope(&self, named: Option<&Named>) -> Result<Scope, Refused> {
        let (Some(Named { kind, name }), Some(resolve)) = (named, &self.resolve) else {
            return Ok(Scope::Everything);
        };
        let scope = resolve.scope_of(kind, name).await.map_err(|problem| {
            Refused::Unavailable(format!("it is not known what the {kind} belongs to: {problem}"))
        })?;
        Ok(scope.unwrap_or(Scope::Everything))
    }
}

/// What the path of a request names.
#[derive(Debug, Clone)]
struct Named {
    kind: &'static str,
    name: String,
}

async fn named(rule: Option<&Rule>, parts: &mut Parts) -> Option<Named> {
    let Requirement::Role(_, resource) = rule?.requirement else { return None };
    let (Resource::OfPath(parameter, kind) | Resource::ExperimentOfPath(parameter, kind)) = resource else {
        return None;
    };
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let (_, name) = parameters.iter().find(|(key, _)| *key == parameter)?;
    Some(Named { kind, name: name.to_owned() })
}

/// What it takes to check a caller again.
#[derive(Debug, Clone)]
struct Again {
    gate: Gate,
    verifier: Verifier,
    rule: &'static Rule,
    named: Option<Named>,
    header: HeaderValue,
    origin: String,
}

impl Again {
    /// Whether the caller may still have the response that is being sent.
    async fn check(self) -> Result<(), Refused> {
        let caller = self.verifier.verify(&self.header, self.origin)?;
        // While the database is unreachable, nothing is known against the caller.
        let Ok(scope) = self.gate.scope(self.named.as_ref()).await else { return Ok(()) };
        match decide(Some(self.rule), &caller, &scope, self.verifier.job_role()) {
            Decision::Allowed => Ok(()),
            Decision::Denied(why) => Err(Refused::Denied(why)),
        }
    }
}

struct Admitted {
    caller: Caller,
    changes: bool,
    /// Absent where no credential was needed.
    again: Option<Again>,
}

struct Refusal {
    caller: Caller,
    refused: Refused,
}

/// Whether a call of this rule may change something: it is in the audit trail then.
fn changes(rule: &Rule) -> bool {
    match rule.requirement {
        Requirement::Role(role, _) => role > Role::Viewer,
        Requirement::SubmitJobs | Requirement::Services => true,
        Requirement::Open | Requirement::Authenticated | Requirement::List | Requirement::AttemptToken => {
            false
        }
    }
}

/// Middleware: lets a request through to its handler, with its [`Caller`] in the extensions, or says why not.
pub async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Some(verifier) = gate.verifier.clone() else { return next_for_anyone(request, next).await };
    let is_grpc = is_grpc(&request);
    let call = gate.calls.begin(&request);
    match gate.admit(&verifier, request).await {
        Ok((mut request, Admitted { caller, changes, again })) => {
            request.extensions_mut().insert(caller.clone());
            let response = caller.clone().scope(next.run(request)).await;
            if changes {
                call.end(&caller, Outcome::of(&response));
            }
            match again {
                Some(again) => lasting::watch(response, move || again.clone().check()),
                None => response,
            }
        }
        Err(Refusal { caller, refused }) => {
            call.end(&caller, Outcome::Refused(&refused));
            respond(&refused, is_grpc)
        }
    }
}

/// Handles a request where access control is off.
async fn next_for_anyone(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let origin = peer.map(|ConnectInfo(peer)| peer.ip().to_canonical().to_string()).unwrap_or_default();
    Caller::anyone(origin).scope(next.run(request)).await
}

fn is_grpc(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        let (status, code, title) = match refused {
            Refused::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "unauthenticated", "Unauthenticated"),
            Refused::Denied(_) => (StatusCode::FORBIDDEN, "denied", "Forbidden"),
            Refused::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Service unavailable")
            }
        };
        Self::new(status, code, title, detail)
    }
}

fn respond(refused: &Refused, is_grpc: bool) -> Response {
    let problem = Problem::from(refused.clone());
    if is_grpc {
        return tonic::Status::from(problem).into_http::<tonic::body::Body>().map(Body::new);
    }
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        for challenge in CHALLENGES {
            response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    response
}
