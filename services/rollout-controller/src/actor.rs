//! The client on whose behalf a change is made: events of changes name it.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use slipway_access::Caller;
use slipway_api::events::Actor;

/// Header in which clients name who acts. It counts only while access control is off, as nothing proves it.
const HEADER: &str = "x-slipway-actor";
const MAX_NAME_CHARS: usize = 256;
const ANONYMOUS: &str = "anonymous";

tokio::task_local! {
    static ACTOR: Actor;
}

/// Handles a request on behalf of its client.
pub(crate) async fn acting(request: Request, next: Next) -> Response {
    let proven = Caller::current().filter(Caller::is_proven);
    if let Some(Caller { principal, origin, .. }) = proven {
        return ACTOR.scope(Actor { name: principal.to_string(), origin }, next.run(request)).await;
    }
    let named = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    let named = named.filter(|name| !name.is_empty()).unwrap_or(ANONYMOUS);
    let origin = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let actor = Actor {
        name: named.chars().take(MAX_NAME_CHARS).collect(),
        origin: origin.map(|ConnectInfo(peer)| peer.ip().to_string()).unwrap_or_default(),
    };
    ACTOR.scope(actor, next.run(request)).await
}

/// Acts on behalf of an object of a Kubernetes cluster.
pub(crate) async fn acting_as<F: Future>(object: String, act: F) -> F::Output {
    ACTOR.scope(Actor { name: object, origin: "kubernetes".to_owned() }, act).await
}

/// The client on whose behalf this task acts; `None` where the controller acts automatically.
pub(crate) fn current() -> Option<Actor> {
    ACTOR.try_with(Actor::clone).ok()
}
