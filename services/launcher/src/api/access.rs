//! What each route requires of its caller. A route that is not listed is refused.

use slipway_access::policy::Requirement::{AttemptToken, Authenticated, Role as Needs, SubmitJobs};
use slipway_access::policy::Resource::Everything;
use slipway_access::policy::{Requirement, Rule, grpc, rule};
use slipway_access::principal::DRIFT_MONITOR_SERVICE;
use slipway_domain::access::Role;

/// Jobs, and their logs, may show anything that their commands print.
const READ: Requirement = Needs(Role::Viewer, Everything);
const CANCEL: Requirement = Needs(Role::Editor, Everything);

/// The policy of the launcher.
pub static RULES: [Rule; 20] = [
    rule("GET", "/api/v1/jobs", READ),
    rule("POST", "/api/v1/jobs", SubmitJobs),
    rule("GET", "/api/v1/capacity", READ),
    rule("GET", "/api/v1/jobs/{id}", READ),
    rule("POST", "/api/v1/jobs/{id}/cancel", CANCEL),
    rule("GET", "/api/v1/jobs/{id}/logs", READ),
    rule("GET", "/api/v1/jobs/{id}/checkpoints", READ),
    rule("GET", "/api/v1/jobs/{id}/checkpoints/{step}", READ),
    rule("DELETE", "/api/v1/jobs/{id}/checkpoints/{step}", CANCEL),
    rule("GET", "/openapi.json", Authenticated),
    rule("GET", "/docs", Authenticated),
    // Policies of the drift monitor submit jobs.
    grpc("/slipway.launcher.v1.Launcher/SubmitJob", SubmitJobs).or_services(&[DRIFT_MONITOR_SERVICE]),
    grpc("/slipway.launcher.v1.Launcher/GetJob", READ),
    grpc("/slipway.launcher.v1.Launcher/ListJobs", READ),
    grpc("/slipway.launcher.v1.Launcher/CancelJob", CANCEL),
    // Each call of an agent has the token of its attempt, which the handler compares.
    grpc("/slipway.launcher.v1.Agents/AcquireLease", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/Heartbeat", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/AppendLogs", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/CommitCheckpoint", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/FinishAttempt", AttemptToken),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let mut routes = slipway_testkit::routes(&format!("{:?}", crate::api::rest::routes()));
        let proto = include_str!("../../../../proto/slipway/launcher/v1/launcher.proto");
        routes.extend(slipway_testkit::grpc_methods(proto));
        slipway_testkit::assert_covered(&routes, RULES.iter().map(|rule| (rule.methods, rule.path)));
    }
}
