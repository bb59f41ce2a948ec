//! REST v1, for the command line, consoles and scripts: everything that the registry does, in one file for
//! each resource. Bodies are shared with clients ([`slipway_api::rest::registry`]).
//!
//! Each handler carries `#[utoipa::path]` and is mounted with `routes!`, so that the OpenAPI document is
//! generated from the same words as the router.

mod access;
mod aliases;
mod approvals;
mod artifacts;
mod audit;
mod bodies;
mod card;
mod error;
mod events;
mod experiments;
mod gc;
mod import_deliveries;
mod imports;
mod lineage;
mod metrics;
mod models;
mod openapi;
mod policies;
mod purge;
mod reports;
mod retention;
mod run_bodies;
mod runs;
mod search;
mod signatures;
mod versions;
mod webhooks;

use axum::{Json, Router};
use slipway_http_server::Problem;
use slipway_openapi::DocumentedRouter;

use crate::state::Registry;

/// What a handler returns.
type Answer<T> = Result<Json<T>, Problem>;

pub(crate) fn router() -> Router<Registry> {
    slipway_openapi::reject_other_methods(slipway_openapi::mount(described()))
}

/// The routes together with their description.
fn described() -> DocumentedRouter<Registry> {
    openapi::DESCRIBED
        .router()
        .merge(experiments::router())
        .merge(runs::router())
        .merge(metrics::router())
        .merge(models::router())
        .merge(versions::router())
        .merge(aliases::router())
        .merge(artifacts::router())
        .merge(imports::router())
        .merge(import_deliveries::router())
        .merge(events::router())
        .merge(access::router())
        .merge(approvals::router())
        .merge(audit::router())
        .merge(card::router())
        .merge(lineage::router())
        .merge(policies::router())
        .merge(purge::router())
        .merge(reports::router())
        .merge(signatures::router())
        .merge(gc::router())
        .merge(retention::router())
        .merge(webhooks::router())
        .merge(openapi::router())
}
