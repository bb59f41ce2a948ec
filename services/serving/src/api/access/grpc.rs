//! The guard of gRPC: who calls is known before a message is read, and what it may do once it is.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::AUTHORIZATION;

use super::{Access, Caller, Need};
use crate::api::changed_by::ChangedBy;
use crate::failure::Failure;

/// Methods that anybody may call.
const OPEN: [&str; 2] =
    ["/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"];
const OPEN_SERVICE: &str = "/grpc.health.v1.Health/";

/// Middleware of the routes; not added where no tokens are asked for.
pub(crate) async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    match access.admit_grpc(&mut request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

impl Access {
    /// Notes in the request who calls.
    ///
    /// # Errors
    /// No token, or none that is good; as a gRPC answer.
    pub(crate) fn admit_grpc(&self, request: &mut Request) -> Result<(), Response> {
        let path = request.uri().path();
        if !self.is_on() || OPEN.contains(&path) {
            return Ok(());
        }
        if path.starts_with(OPEN_SERVICE) {
            // The health of the server needs no token, that of a model does: it is known once the message is read.
            if request.headers().contains_key(AUTHORIZATION)
                && let Ok(Some(caller)) = self.identify(request.headers())
            {
                request.extensions_mut().insert(caller);
            }
            return Ok(());
        }
        match self.identify(request.headers()) {
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
