//! The guard of gRPC: who calls is known before a message is read, and what it may do once it is.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;
use slipway_access::{Refused, lasting};

use super::policy::need_of_method;
use super::{Access, Caller, Need};
use crate::api::changed_by::ChangedBy;
use crate::failure::{Failure, Kind};

const HEALTH: &str = "/grpc.health.v1.Health/";

/// Middleware of the routes; not added where no tokens are asked for.
pub(crate) async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    if let Err(refusal) = access.admit_grpc(&mut request) {
        return refusal;
    }
    let caller = request.extensions().get::<Caller>().cloned();
    let response = next.run(request).await;
    // A stream ends with its token. What its messages are about is checked with each of them.
    match caller {
        Some(caller) => lasting::watch(response, move || {
            let checked = access.check(Some(&caller), Need::AnyToken);
            std::future::ready(checked.map_err(refused))
        }),
        None => response,
    }
}

fn refused(failure: Failure) -> Refused {
    match failure.kind {
        Kind::Unavailable => Refused::Unavailable(failure.message),
        _ => Refused::Unauthenticated(failure.message),
    }
}

impl Access {
    /// Notes in the request who calls.
    ///
    /// # Errors
    /// No token, or none that is good; as a gRPC answer.
    pub(crate) fn admit_grpc(&self, request: &mut Request) -> Result<(), Response> {
        if !self.is_on() {
            return Ok(());
        }
        let path = request.uri().path();
        let need = need_of_method(path);
        if need == Need::Nothing {
            // The health of the server needs no token, that of a model does: it is known once the message is
            // read.
            if path.starts_with(HEALTH)
                && request.headers().contains_key(AUTHORIZATION)
                && let Ok(Some(caller)) = self.identify(request)
            {
                request.extensions_mut().insert(caller);
            }
            return Ok(());
        }
        match self.admit(request, need) {
            Ok(Some(caller)) => {
                request.extensions_mut().insert(caller);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(refusal) => Err(tonic::Status::from(refusal).into_http()),
        }
    }

    /// [`Self::check`] for the caller that the guard noted.
    ///
    /// # Errors
    /// The caller may not.
    pub(crate) fn check_noted(&self, extensions: &tonic::Extensions, need: Need<'_>) -> Result<(), Failure> {
        self.check(extensions.get::<Caller>(), need)
    }

    /// Who sends a call, for the log.
    pub(crate) fn changed_by(&self, extensions: &tonic::Extensions) -> ChangedBy {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        ChangedBy { peer, token: self.name_of(extensions.get::<Caller>()) }
    }
}
