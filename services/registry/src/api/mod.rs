//! The registry's protocols: MLflow's REST API, REST v1, gRPC, and the access control in front of all three.

pub(crate) mod access;
mod download;
pub(crate) mod grpc;
mod home;
pub(crate) mod mlflow;
pub(crate) mod pages;
pub(crate) mod rest;

use axum::Router;

use crate::state::Registry;

/// All HTTP routes, which [`Registry`] serves.
pub(crate) fn routes() -> Router<Registry> {
    home::router().merge(mlflow::router()).merge(rest::router())
}
