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
use crate::{Caller, Refused, Verifier};

/// What a client without a credential may try.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Bearer realm=\"slipway\""),
    HeaderValue::from_static("Basic realm=\"slipway\""),
];

/// The answer of [`Resolve`].
pub type Resolved<'a> = Pin<Box<dyn Future<Output = Result<Option<String>, Problem>> + Send + 'a>>;

/// Finds the registered model that something belongs to, whose roles then apply.
pub trait Resolve: std::fmt::Debug + Send + Sync {
    /// The model of the thing of this kind with this name; `None` where there is no such thing, which needs a
    /// role on everything.
    fn model_of<'a>(&'a self, kind: &'static str, name: &'a str) -> Resolved<'a>;
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

    /// With roles on models for what belongs to a model.
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
            return Ok((Request::from_parts(parts, body), Admitted { caller, changes: false }));
        }
        let caller = verifier
            .authenticate(&parts.headers, origin.clone())
            .map_err(|error| refused(Caller::anonymous(origin), error))?;
        let scope = self.scope(rule, &mut parts).await.map_err(|error| refused(caller.clone(), error))?;
        match decide(rule, &caller, &scope, verifier.job_role()) {
            Decision::Allowed => {
                let changes = rule.is_some_and(changes);
                Ok((Request::from_parts(parts, body), Admitted { caller, changes }))
            }
            Decision::Denied(why) => Err(refused(caller, Refused::Denied(why))),
        }
    }

    /// What the request is about.
    async fn scope(&self, rule: Option<&Rule>, parts: &mut Parts) -> Result<Scope, Refused> {
        let Some(Requirement::Role(_, Resource::OfPath(parameter, kind))) = rule.map(|rule| rule.requirement)
        else {
            return Ok(Scope::Everything);
        };
        let Some(resolve) = &self.resolve else { return Ok(Scope::Everything) };
        let parameters = RawPathParams::from_request_parts(parts, &()).await.ok();
        let name = parameters
            .as_ref()
            .and_then(|found| found.iter().find(|(key, _)| *key == parameter))
            .map(|(_, name)| name.to_owned());
        let Some(name) = name else { return Ok(Scope::Everything) };
        let model = resolve.model_of(kind, &name).await.map_err(|problem| {
            Refused::Unavailable(format!("the model of the {kind} is not known: {problem}"))
        })?;
        Ok(model.map_or(Scope::Everything, Scope::Model))
    }
}

struct Admitted {
    caller: Caller,
    changes: bool,
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
        Requirement::Open | Requirement::Authenticated | Requirement::AttemptToken => false,
    }
}

/// Middleware: lets a request through to its handler, with its [`Caller`] in the extensions, or says why not.
pub async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Some(verifier) = gate.verifier.clone() else { return next.run(request).await };
    let is_grpc = is_grpc(&request);
    let call = gate.calls.begin(&request);
    match gate.admit(&verifier, request).await {
        Ok((mut request, Admitted { caller, changes })) => {
            request.extensions_mut().insert(caller.clone());
            let response = caller.clone().scope(next.run(request)).await;
            if changes {
                call.end(&caller, Outcome::of(&response));
            }
            response
        }
        Err(Refusal { caller, refused }) => {
            call.end(&caller, Outcome::Refused(&refused));
            respond(&refused, is_grpc)
        }
    }
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
