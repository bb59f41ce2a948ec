//! What each route requires of its caller. A route that is not listed is refused.
//!
//! A job that names an experiment belongs to it: a role on the experiment is a role on the job. Its id never
//! changes hands, as a name might.

use slipway_access::policy::Requirement::{AttemptToken, Authenticated, List, Role as Needs, SubmitJobs};
use slipway_access::policy::Resource::{Everything, ExperimentOfPath};
use slipway_access::policy::{Requirement, Rule, grpc, rule};
use slipway_access::principal::DRIFT_MONITOR_SERVICE;
use slipway_access::{Resolve, Resolved};
use slipway_domain::access::{Role, Scope};
use slipway_http_server::Problem;
use sqlx::PgPool;
use uuid::Uuid;

use crate::store::jobs;

/// Jobs, and their logs, may show anything that their commands print.
const READ: Requirement = Needs(Role::Viewer, Everything);
const CANCEL: Requirement = Needs(Role::Editor, Everything);
const READ_ONE: Requirement = Needs(Role::Viewer, ExperimentOfPath("id", "job"));
const CANCEL_ONE: Requirement = Needs(Role::Editor, ExperimentOfPath("id", "job"));

/// The policy of the launcher.
pub static RULES: [Rule; 31] = [
    rule("GET", "/api/v1/jobs", List),
    rule("POST", "/api/v1/jobs", SubmitJobs),
    rule("GET", "/api/v1/capacity", READ),
    rule("GET", "/api/v1/jobs/{id}", READ_ONE),
    rule("POST", "/api/v1/jobs/{id}/cancel", CANCEL_ONE),
    rule("POST", "/api/v1/jobs/{id}/suspend", CANCEL_ONE),
    rule("POST", "/api/v1/jobs/{id}/resume", CANCEL_ONE),
    rule("GET", "/api/v1/jobs/{id}/logs", READ_ONE),
    rule("GET", "/api/v1/jobs/{id}/checkpoints", READ_ONE),
    rule("GET", "/api/v1/jobs/{id}/checkpoints/{step}", READ_ONE),
    rule("DELETE", "/api/v1/jobs/{id}/checkpoints/{step}", CANCEL_ONE),
    rule("GET", "/openapi.json", Authenticated),
    rule("GET", "/docs", Authenticated),
    // Policies of the drift monitor submit jobs.
    grpc("/slipway.launcher.v1.Launcher/SubmitJob", SubmitJobs).or_services(&[DRIFT_MONITOR_SERVICE]),
    grpc("/slipway.launcher.v1.Launcher/GetJob", READ),
    grpc("/slipway.launcher.v1.Launcher/ListJobs", List),
    grpc("/slipway.launcher.v1.Launcher/CancelJob", CANCEL),
    grpc("/slipway.launcher.v1.Launcher/SuspendJob", CANCEL),
    grpc("/slipway.launcher.v1.Launcher/ResumeJob", CANCEL),
    // Each call of an agent has the token of its attempt, which the handler compares.
    grpc("/slipway.launcher.v1.Agents/AcquireLease", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/Heartbeat", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/AppendLogs", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/BeginUploads", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/SignParts", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/CompleteUpload", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/DiscardUpload", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/SignDownloads", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/CommitCheckpoint", AttemptToken),
    grpc("/slipway.launcher.v1.Agents/FinishAttempt", AttemptToken),
    grpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Authenticated),
    grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Authenticated),
];

/// Finds the experiment of a job.
#[derive(Debug)]
pub(crate) struct Experiments(pub(crate) PgPool);

impl Resolve for Experiments {
    fn scope_of<'a>(&'a self, _kind: &'static str, name: &'a str) -> Resolved<'a> {
        Box::pin(async move {
            let Ok(id) = Uuid::parse_str(name) else { return Ok(None) };
            let found = jobs::experiment_of(&self.0, id).await.map_err(Problem::from)?;
            Ok(found.map(Scope::Experiment))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let mut routes = slipway_testkit::routes(&format!("{:?}", crate::api::rest::routes()));
        let proto = include_str!("../../../../proto/slipway/launcher/v1/launcher.proto");
        routes.extend(slipway_testkit::grpc_methods(proto));
        routes.extend(slipway_testkit::reflection_methods());
        slipway_testkit::assert_covered(&routes, RULES.iter().map(|rule| (rule.methods, rule.path)));
    }
}
