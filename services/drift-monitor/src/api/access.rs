//! What each route requires of its caller. A route that is not listed is refused.
//!
//! A monitor belongs to the model of its deployment: a role on the model shows the monitor. A monitor's
//! policy submits jobs and pauses rollouts as the drift monitor itself, so whoever writes one needs the role
//! that both require, on everything.

use slipway_access::policy::Requirement::{Authenticated, List, Role as Needs};
use slipway_access::policy::Resource::{Everything, OfPath};
use slipway_access::policy::{Requirement, Rule, grpc, rule};
use slipway_access::principal::ROLLOUT_CONTROLLER_SERVICE;
use slipway_access::{Resolve, Resolved};
use slipway_domain::access::{Role, Scope};
use slipway_http_server::Problem;
use sqlx::PgPool;

use crate::store::monitors;

const SHOW: Requirement = Needs(Role::Viewer, OfPath("name", "monitor"));
const READ: Requirement = Needs(Role::Viewer, Everything);
const WRITE: Requirement = Needs(Role::Deployer, Everything);

/// The policy of the drift monitor.
pub static RULES: [Rule; 16] = [
    rule("GET", "/api/v1/monitors", List),
    rule("POST", "/api/v1/monitors", WRITE),
    rule("GET", "/api/v1/monitors/{name}", SHOW),
    rule("PUT PATCH DELETE", "/api/v1/monitors/{name}", WRITE),
    rule("GET", "/api/v1/monitors/{name}/windows", SHOW),
    rule("GET", "/api/v1/monitors/{name}/windows/{number}", SHOW),
    rule("GET", "/api/v1/monitors/{name}/verdicts", SHOW),
    rule("GET", "/api/v1/monitors/{name}/actions", SHOW),
    rule("GET", "/openapi.json", Authenticated),
    rule("GET", "/docs", Authenticated),
    grpc("/slipway.drift.v1.DriftMonitor/GetMonitor", READ),
    grpc("/slipway.drift.v1.DriftMonitor/ListWindows", READ),
    // The rollout controller makes the monitors of ModelDeployments.
    grpc("/slipway.drift.v1.Monitors/Apply", WRITE).or_services(&[ROLLOUT_CONTROLLER_SERVICE]),
    grpc("/slipway.drift.v1.Monitors/Delete", WRITE).or_services(&[ROLLOUT_CONTROLLER_SERVICE]),
    grpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Authenticated),
    grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Authenticated),
];

/// Finds the model of a monitor.
#[derive(Debug)]
pub(crate) struct Models(pub(crate) PgPool);

impl Resolve for Models {
    fn scope_of<'a>(&'a self, _kind: &'static str, name: &'a str) -> Resolved<'a> {
        Box::pin(async move {
            let found = monitors::get(&self.0, name).await.map_err(Problem::from)?;
            Ok(found.map(|monitor| Scope::Model(monitor.model)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let mut routes = slipway_testkit::routes(&format!("{:?}", crate::api::rest::routes()));
        let proto = include_str!("../../../../proto/slipway/drift/v1/drift.proto");
        routes.extend(slipway_testkit::grpc_methods(proto));
        let proto = include_str!("../../../../proto/slipway/drift/v1/monitors.proto");
        routes.extend(slipway_testkit::grpc_methods(proto));
        routes.extend(slipway_testkit::reflection_methods());
        slipway_testkit::assert_covered(&routes, RULES.iter().map(|rule| (rule.methods, rule.path)));
    }
}
