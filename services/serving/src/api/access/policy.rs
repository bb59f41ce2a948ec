//! What each route and each gRPC method requires of its caller. One that is not listed is refused.
//!
//! A deployment belongs to the model that it serves: a role on the model is a role on the deployment. A token
//! of the token file stands for these roles on its deployments; with `*` it stands for all of them.

use std::sync::LazyLock;

use http::Method;
use slipway_access::policy::Requirement::{Authenticated, Open, Role as Needs};
use slipway_access::policy::Resource::{Everything, OfPath};
use slipway_access::policy::{Policy, Requirement, Resource, Rule, grpc, rule};
use slipway_domain::access::Role;

use super::Need;

const DEPLOYMENT: Resource = OfPath("name", "deployment");
const USE: Requirement = Needs(Role::Viewer, DEPLOYMENT);
/// Labels decide over rollouts.
const LABEL: Requirement = Needs(Role::Editor, DEPLOYMENT);
/// What concerns every caller: placement of models, logs and traces.
const CONTROL: Requirement = Needs(Role::Deployer, Everything);

/// The policy of serving. The names of models in gRPC messages are checked by the handlers.
pub static RULES: [Rule; 72] = [
    rule("GET", "/", Open),
    rule("GET", "/v2/health/live", Open),
    rule("GET", "/v2/health/ready", Open),
    rule("GET", "/v2", Authenticated),
    rule("GET", "/v2/", Authenticated),
    // Lists show the deployments that the caller may use.
    rule("GET", "/v2/models", Authenticated),
    rule("GET", "/v2/models/stats", Authenticated),
    rule("GET", "/v1/models", Authenticated),
    rule("POST", "/v2/repository/index", Authenticated),
    rule("GET", "/v2/models/{name}", USE),
    rule("GET", "/v2/models/{name}/ready", USE),
    rule("POST", "/v2/models/{name}/infer", USE),
    rule("GET", "/v2/models/{name}/config", USE),
    rule("GET", "/v2/models/{name}/stats", USE),
    rule("GET", "/v2/models/{name}/versions/{version}", USE),
    rule("GET", "/v2/models/{name}/versions/{version}/ready", USE),
    rule("POST", "/v2/models/{name}/versions/{version}/infer", USE),
    rule("GET", "/v2/models/{name}/versions/{version}/config", USE),
    rule("GET", "/v2/models/{name}/versions/{version}/stats", USE),
    rule("GET POST", "/v1/models/{name}", USE),
    rule("POST", "/v1/deployments/{name}/labels", LABEL),
    rule("POST", "/api/v1/deployments/{name}/labels", LABEL),
    rule("GET", "/api/v1/deployments", Authenticated),
    rule("GET", "/api/v1/deployments/{name}", USE),
    rule("GET", "/openapi.json", Authenticated),
    rule("GET", "/docs", Authenticated),
    rule("POST", "/v2/repository/models/{name}/load", CONTROL),
    rule("POST", "/v2/repository/models/{name}/unload", CONTROL),
    rule("POST", "/v2/repository/{repository}/models/{name}/load", CONTROL),
    rule("POST", "/v2/repository/{repository}/models/{name}/unload", CONTROL),
    rule("GET", "/v2/logging", Authenticated),
    rule("POST", "/v2/logging", CONTROL),
    rule("GET", "/v2/trace/setting", Authenticated),
    rule("POST", "/v2/trace/setting", CONTROL),
    rule("GET", "/v2/models/{name}/trace/setting", USE),
    rule("POST", "/v2/models/{name}/trace/setting", CONTROL),
    // There is no shared memory; these answer so.
    rule("GET", "/v2/systemsharedmemory/status", Authenticated),
    rule("GET", "/v2/systemsharedmemory/region/{region}/status", Authenticated),
    rule("POST", "/v2/systemsharedmemory/region/{region}/register", Authenticated),
    rule("POST", "/v2/systemsharedmemory/region/{region}/unregister", Authenticated),
    rule("POST", "/v2/systemsharedmemory/unregister", Authenticated),
    rule("GET", "/v2/cudasharedmemory/status", Authenticated),
    rule("GET", "/v2/cudasharedmemory/region/{region}/status", Authenticated),
    rule("POST", "/v2/cudasharedmemory/region/{region}/register", Authenticated),
    rule("POST", "/v2/cudasharedmemory/region/{region}/unregister", Authenticated),
    rule("POST", "/v2/cudasharedmemory/unregister", Authenticated),
    // Answer that there is nothing.
    rule("GET POST PUT PATCH DELETE", "/v2/{*rest}", Authenticated),
    rule("GET POST PUT PATCH DELETE", "/v1/{*rest}", Authenticated),
    grpc("/inference.GRPCInferenceService/ServerLive", Open),
    grpc("/inference.GRPCInferenceService/ServerReady", Open),
    grpc("/inference.GRPCInferenceService/ServerMetadata", Authenticated),
    // The deployment is named in the message, and its handler checks the caller.
    grpc("/inference.GRPCInferenceService/ModelReady", Authenticated),
    grpc("/inference.GRPCInferenceService/ModelMetadata", Authenticated),
    grpc("/inference.GRPCInferenceService/ModelInfer", Authenticated),
    grpc("/inference.GRPCInferenceService/ModelStreamInfer", Authenticated),
    grpc("/inference.GRPCInferenceService/ModelConfig", Authenticated),
    grpc("/inference.GRPCInferenceService/ModelStatistics", Authenticated),
    grpc("/inference.GRPCInferenceService/RepositoryIndex", Authenticated),
    grpc("/inference.GRPCInferenceService/RepositoryModelLoad", CONTROL),
    grpc("/inference.GRPCInferenceService/RepositoryModelUnload", CONTROL),
    // A message with settings changes them, which needs deployer on everything; its handler checks that.
    grpc("/inference.GRPCInferenceService/TraceSetting", Authenticated),
    grpc("/inference.GRPCInferenceService/LogSettings", Authenticated),
    grpc("/inference.GRPCInferenceService/SystemSharedMemoryStatus", Authenticated),
    grpc("/inference.GRPCInferenceService/SystemSharedMemoryRegister", Authenticated),
    grpc("/inference.GRPCInferenceService/SystemSharedMemoryUnregister", Authenticated),
    grpc("/inference.GRPCInferenceService/CudaSharedMemoryStatus", Authenticated),
    grpc("/inference.GRPCInferenceService/CudaSharedMemoryRegister", Authenticated),
    grpc("/inference.GRPCInferenceService/CudaSharedMemoryUnregister", Authenticated),
    // Health of the server needs no token; that of a model is checked once the message is read.
    grpc("/grpc.health.v1.Health/Check", Open),
    grpc("/grpc.health.v1.Health/Watch", Open),
    grpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Authenticated),
    grpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Authenticated),
];

static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy::new(&RULES));

/// What a REST route requires; `name` is that of the path, decoded as its handler sees it.
pub(super) fn need<'name>(method: &Method, pattern: &str, name: Option<&'name str>) -> Need<'name> {
    // No route matched: the answer is that there is none.
    if pattern.is_empty() {
        return Need::AnyToken;
    }
    let Some(rule) = POLICY.find(method, Some(pattern), pattern) else { return Need::Unlisted };
    match rule.requirement {
        Open => Need::Nothing,
        Authenticated => Need::AnyToken,
        Needs(role, Resource::OfPath(..)) => match name {
            // `<name>:predict`.
            Some(name) if pattern == "/v1/models/{name}" && method == Method::POST => {
                Need::Model(name.rsplit_once(':').map_or(name, |(name, _verb)| name))
            }
            Some(name) if role > Role::Viewer => Need::Labels(name),
            Some(name) => Need::Model(name),
            // A name that is not UTF-8 has no handler that takes it.
            None => Need::AllModels,
        },
        Needs(_, Everything) => Need::AllModels,
        Needs(_, Resource::ExperimentOfPath(..))
        | Requirement::List
        | Requirement::SubmitJobs
        | Requirement::AttemptToken
        | Requirement::Services => Need::Unlisted,
    }
}

/// What a gRPC method requires before its message is read.
pub(super) fn need_of_method(path: &str) -> Need<'static> {
    match POLICY.find(&Method::POST, None, path).map(|rule| rule.requirement) {
        Some(Open) => Need::Nothing,
        Some(Authenticated) => Need::AnyToken,
        Some(Needs(..)) => Need::AllModels,
        _ => Need::Unlisted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_rule_and_every_rule_a_route() {
        let mut routes = slipway_testkit::routes(&format!("{:?}", crate::api::rest::routes()));
        let inference = include_str!("../../../../../proto/inference/grpc_service.proto");
        routes.extend(slipway_testkit::grpc_methods(inference));
        routes.extend(slipway_testkit::reflection_methods());
        for method in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
            routes.insert(("POST".to_owned(), method.to_owned()));
        }
        slipway_testkit::assert_covered(&routes, RULES.iter().map(|rule| (rule.methods, rule.path)));
    }

    #[test]
    fn a_method_without_a_rule_is_refused() {
        assert_eq!(need_of_method("/inference.GRPCInferenceService/Other"), Need::Unlisted);
        assert_eq!(need_of_method("/inference.GRPCInferenceService/RepositoryModelLoad"), Need::AllModels);
        assert_eq!(need(&Method::DELETE, "/v2/logging", None), Need::Unlisted);
        assert_eq!(need(&Method::POST, "/v1/deployments/{name}/labels", Some("a")), Need::Labels("a"));
    }
}
