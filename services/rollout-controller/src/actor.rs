//! Who asks: events of changes name the client.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use slipway_api::events::Actor;

/// Header in which clients name who acts. The controller does not authenticate it.
const HEADER: &str = "x-slipway-actor";
const MAX_NAME_CHARS: usize = 256;
const ANONYMOUS: &str = "anonymous";

tokio::task_local! {
    static ACTOR: Actor;
}

/// Handles a request on behalf of its client.
pub(crate) async fn acting(request: Request, next: Next) -> Response {
    let named = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    let named = named.filter(|name| !name.is_empty()).unwrap_or(ANONYMOUS);
    let origin = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let actor = Actor {
        name: named.chars().take(MAX_NAME_CHARS).collect(),
        origin: origin.map(|ConnectInfo(peer)| peer.ip().to_string()).unwrap_or_default(),
    };
    ACTOR.scope(actor, next.run(request)).await
}

/// The client on whose behalf this task acts; `None` where the controller acts automatically.
pub(crate) fn current() -> Option<Actor> {
    ACTOR.try_with(Actor::clone).ok()
}
