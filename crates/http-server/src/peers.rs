//! Routers whose handlers know where a request comes from.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::middleware::AddExtension;
use axum::{Extension, Router};
use tower::Layer as _;

/// A router for the connection of one client.
pub(crate) type PeersRouter = AddExtension<Router, ConnectInfo<SocketAddr>>;

/// The router for the connection of `peer`.
pub(crate) fn with_peer(router: &Router, peer: SocketAddr) -> PeersRouter {
    Extension(ConnectInfo(peer)).layer(router.clone())
}
