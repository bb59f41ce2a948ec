//! The middleware in front of every route.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use slipway_access::{Refused, lasting};
use slipway_http_server::Problem;

use super::refusal::Refusal;
use super::rules::{Rule, rule};
use super::scope::admit;
use crate::access::authenticator::{Access, Authenticator};
use crate::access::caller::{Caller, acting};
use crate::access::refusals::RefusedCall;
use crate::api::mlflow::error::Failure;
use crate::api::pages::is_rest;
use crate::error::Error;

/// What a client without a credential may try.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Bearer realm=\"slipway\""),
    HeaderValue::from_static("Basic realm=\"slipway\""),
];

/// Lets a request through to its handler, or answers in the shape of its API why not.
pub(crate) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let origin = access.origin(peer, request.headers());
    let shape = Shape::of(&request);
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let again = again(&access, &origin, &request);
    let seen = origin.clone();
    let (actor, reason, response) = match pass(&access, origin, request).await {
        Ok((caller, mut request)) => {
            let actor = caller.actor.clone();
            // A route that needs no token ignores one that is wrong.
            let has_credential = !actor.credential.is_empty();
            request.extensions_mut().insert(caller);
            let response = acting(actor.clone(), next.run(request)).await;
            let response = match again {
                Some(again) if has_credential => lasting::watch(response, move || again.clone().check()),
                _ => response,
            };
            (actor, "refused by its handler".to_owned(), response)
        }
        Err((caller, refusal)) => {
            let caller = caller.unwrap_or_else(|| Caller::nobody(seen));
            (caller.actor, refusal.to_string(), shape.refusal(refusal))
        }
    };
    if let Some(status) = refused_status(&response).filter(|_| access.authenticator.is_some()) {
        let actor = actor.as_ref().clone();
        access.refusals.note(RefusedCall { actor, method, path, status, reason });
    }
    response
}

/// What it takes to check a caller again.
#[derive(Debug, Clone)]
struct Again {
    authenticator: Arc<Authenticator>,
    /// `Authorization` alone.
    headers: HeaderMap,
    origin: String,
}

fn again(access: &Access, origin: &str, request: &Request) -> Option<Again> {
    let authenticator = Arc::clone(access.authenticator.as_ref()?);
    let mut header = request.headers().get(header::AUTHORIZATION)?.clone();
    header.set_sensitive(true);
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, header)]);
    Some(Again { authenticator, headers, origin: origin.to_owned() })
}

impl Again {
    /// Whether the credential is still valid.
    async fn check(self) -> Result<(), Refused> {
        match self.authenticator.authenticate(&self.headers, self.origin).await {
            Err(Error::Unauthenticated(why)) => Err(Refused::Unauthenticated(why)),
            // While the database or the issuer is unreachable, nothing is known against the caller.
            _ => Ok(()),
        }
    }
}

/// 401 or 403 where the response is a refusal; over gRPC the status is in a header.
fn refused_status(response: &Response) -> Option<u16> {
    let status = response.status().as_u16();
    let grpc = response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
    match (grpc, status) {
        (Some("16"), _) => Some(401),
        (Some("7"), _) => Some(403),
        (None, 401 | 403) => Some(status),
        _ => None,
    }
}

type Passed = Result<(Caller, Request), (Option<Caller>, Refusal)>;

async fn pass(access: &Access, origin: String, request: Request) -> Passed {
    let Some(authenticator) = &access.authenticator else { return Ok((access.anyone(origin), request)) };
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let rule = rule(request.method(), route, request.uri().path());
    if matches!(rule, Rule::Open | Rule::Delivery) {
        return Ok((Caller::nobody(origin), request));
    }
    let caller = authenticator
        .authenticate(request.headers(), origin)
        .await
        .map_err(|error| (None, Refusal::from(error)))?;
    match rule {
        Rule::Needs(role, resource) => match admit(authenticator, &caller, (role, resource), request).await {
            Ok(request) => Ok((caller, request)),
            Err(refusal) => Err((Some(caller), refusal)),
        },
        Rule::Open | Rule::Delivery | Rule::Known => Ok((caller, request)),
    }
}

/// How errors look.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Mlflow,
    Problem,
    Grpc,
}

impl Shape {
    fn of(request: &Request) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
            Self::Grpc
        } else if is_rest(request.uri().path()) {
            Self::Problem
        } else {
            Self::Mlflow
        }
    }

    fn refusal(self, refusal: Refusal) -> Response {
        let error = match refusal {
            Refusal::Message(failure) => return failure.into_response(),
            Refusal::Error(error) => error,
        };
        let mut response = match self {
            Self::Mlflow => Failure::from(error).into_response(),
            Self::Problem => Problem::from(error).into_response(),
            Self::Grpc => {
                return tonic::Status::from(error)
                    .into_http::<tonic::body::Body>()
                    .map(axum::body::Body::new);
            }
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            for challenge in CHALLENGES {
                response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }
}
