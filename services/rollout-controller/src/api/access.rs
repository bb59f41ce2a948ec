//! What each route requires of its caller. A route that is not listed is refused.
//!
//! A deployment and its rollouts belong to the model that it serves: a role on the model is a role on them.

use slipway_access::policy::Requirement::{Authenticated, List, Role as Needs};
use slipway_access::policy::Resource::{Everything, OfPath};
use slipway_access::policy::{Requirement, Resource, Rule, grpc, rule};
use slipway_access::principal::DRIFT_MONITOR_SERVICE;
use slipway_access::{Resolve, Resolved};
use slipway_domain::access::{Role, Scope};
use slipway_http_server::Problem;
use sqlx::PgPool;
use uuid::Uuid;

use crate::store::{deployments, rollouts};

const DEPLOYMENT: Resource = OfPath("name", "deployment");
const ROLLOUT: Resource = OfPath("id", "rollout");
const READ: Requirement = Needs(Role::Viewer, Everything);
const WRITE: Requirement = Needs(Role::Deployer, Everything);

/// The policy of the rollout controller.
pub static RULES: [Rule; 26] = [
    rule("GET", "/api/v1/deployments", List),
    rule("POST", "/api/v1/deployments", WRITE),
    rule("GET", "/api/v1/deployments/{name}", Needs(Role::Viewer, DEPLOYMENT)),
    rule("PATCH DELETE", "/api/v1/deployments/{name}", Needs(Role::Deployer, DEPLOYMENT)),
    rule("POST", "/api/v1/deployments/{name}/rollback", Needs(Role::Deployer, DEPLOYMENT)),
    rule("POST", "/api/v1/deployments/{name}/rollouts", Needs(Role::Deployer, DEPLOYMENT)),
    rule("PUT", "/api/v1/deployments/{name}/rules", Needs(Role::Deployer, DEPLOYMENT)),
    rule("PUT DELETE", "/api/v1/deployments/{name}/kill-switch", Needs(Role::Deployer, DEPLOYMENT)),
    rule("GET", "/api/v1/deployments/{name}/drill", Needs(Role::Viewer, DEPLOYMENT)),
    rule("PUT DELETE", "/api/v1/deployments/{name}/drill", Needs(Role::Deployer, DEPLOYMENT)),
    rule("GET", "/api/v1/rollouts", List),
    rule("GET", "/api/v1/rollouts/{id}", Needs(Role::Viewer, ROLLOUT)),
    rule("GET", "/api/v1/rollouts/{id}/decisions", Needs(Role::Viewer, ROLLOUT)),
    rule("GET", "/openapi.json", Authenticated),
    rule("GET", "/docs", Authenticated),
    rule("POST", "/api/v1/rollouts/{id}/{verb}", Needs(Role::Deployer, ROLLOUT)),
    // The drift monitor follows the stable version, and its policies pause rollouts.
    grpc("/slipway.rollout.v1.RolloutController/GetDeployment", READ).or_services(&[DRIFT_MONITOR_SERVICE]),
    grpc("/slipway.rollout.v1.RolloutController/StartRollout", WRITE),
    grpc("/slipway.rollout.v1.RolloutController/GetRollout", READ),
    grpc("/slipway.rollout.v1.RolloutController/PauseDeployment", WRITE)
        .or_services(&[DRIFT_MONITOR_SERVICE]),
    grpc("/slipway.rollout.v1.RolloutController/Rollback", WRITE),
    grpc("/slipway.rollout.v1.RolloutController/StartDrill", WRITE),
    grpc("/slipway.rollout.v1.RolloutController/GetDrill", READ),
    grpc("/slipway.rollout.v1.RolloutController/StopDrill", WRITE),
    grpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Authenticated),
    grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Authenticated),
];

/// Finds the model of a deployment or a rollout.
#[derive(Debug)]
pub(crate) struct Models(pub(crate) PgPool);

impl Resolve for Models {
    fn scope_of<'a>(&'a self, kind: &'static str, name: &'a str) -> Resolved<'a> {
        Box::pin(async move {
            let model = self.find(kind, name).await.map_err(Problem::from)?;
            Ok(model.map(Scope::Model))
        })
    }
}

impl Models {
    async fn find(&self, kind: &str, name: &str) -> sqlx::Result<Option<String>> {
        let mut connection = self.0.acquire().await?;
        let deployment = if kind == "rollout" {
            let Ok(id) = Uuid::parse_str(name) else { return Ok(None) };
            let found = rollouts::find(&mut connection, id).await?;
            // A deployment that was made later under the same name may belong to another model.
            let Some(rollout) = found.filter(|found| found.deployment_deleted_at_ms.is_none()) else {
                return Ok(None);
            };
            rollout.deployment
        } else {
            name.to_owned()
        };
        let found = deployments::find(&mut connection, &deployment).await?;
        Ok(found.map(|deployment| deployment.model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let mut routes = slipway_testkit::routes(&format!("{:?}", crate::api::rest::routes()));
        let proto = include_str!("../../../../proto/slipway/rollout/v1/rollout.proto");
        routes.extend(slipway_testkit::grpc_methods(proto));
        routes.extend(slipway_testkit::reflection_methods());
        slipway_testkit::assert_covered(&routes, RULES.iter().map(|rule| (rule.methods, rule.path)));
    }
}
