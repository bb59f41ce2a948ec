//! What each route needs. A route that is not listed needs an administrator: a forgotten route is not open,
//! and a test asks for a line for every route.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::Method;
use slipway_domain::access::Role::{self, Admin, Deployer, Editor, Viewer};

use super::scope::Resource::{self, *};

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing, not even a credential.
    Open,
    /// A token that is good for this alone, which the handler checks.
    Delivery,
    /// Any caller that is known: the handler shows what the caller may see, or checks by itself.
    Known,
    /// A role on what the request is about.
    Needs(Role, Resource),
}
use Rule::{Delivery, Known, Needs, Open};

/// gRPC methods that check the caller themselves, since what they are about stands in a message.
const GRPC_METHODS: [&str; 3] = ["GetModelVersion", "ResolveAlias", "GetTrainingProfile"];
const GRPC_PREFIX: &str = "/slipway.registry.v1.Registry/";
/// The same.
const IMPORTS: [&str; 2] = ["/slipway.registry.v1.Imports/Ensure", "/slipway.registry.v1.Imports/End"];
/// The same: it serves the rollout controller alone.
const ISSUE_DELIVERY: &str = "/slipway.registry.v1.Imports/IssueDelivery";
/// The same: they serve the launcher alone.
const JOB_TOKENS: [&str; 2] =
    ["/slipway.registry.v1.JobTokens/Issue", "/slipway.registry.v1.JobTokens/Revoke"];

/// What reflection shows is the contract of this API, and no data.
const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Methods, path (of MLflow's API without `/api` or `/ajax-api`), and what it needs.
const RULES: &[(&str, &str, Rule)] = &[
    ("GET", "/health", Open),
    ("GET", "/version", Open),
    // A static page without data; its script asks the API as the browser's user.
    ("GET", "/", Open),
    ("GET", "/3.0/mlflow/server-info", Known),
    // Answers only that there is nothing.
    ("GET POST PUT PATCH DELETE", "/{version}/mlflow/{*rest}", Known),
    ("GET POST PUT PATCH DELETE", "/v1/traces", Known),
    ("POST", "/2.0/mlflow/experiments/create", Needs(Editor, Everything)),
    ("GET", "/2.0/mlflow/experiments/get", Needs(Viewer, Experiment)),
    ("GET", "/2.0/mlflow/experiments/get-by-name", Needs(Viewer, ExperimentName)),
    ("GET POST", "/2.0/mlflow/experiments/search", Known),
    ("POST", "/2.0/mlflow/experiments/search-datasets", Known),
    ("POST", "/2.0/mlflow/experiments/update", Needs(Editor, Experiment)),
    ("POST", "/2.0/mlflow/experiments/delete", Needs(Editor, Experiment)),
    ("POST", "/2.0/mlflow/experiments/restore", Needs(Editor, Experiment)),
    ("POST", "/2.0/mlflow/experiments/set-experiment-tag", Needs(Editor, Experiment)),
    ("POST", "/2.0/mlflow/experiments/delete-experiment-tag", Needs(Editor, Experiment)),
    ("POST", "/2.0/mlflow/runs/create", Needs(Editor, ExperimentOrDefault)),
    ("GET", "/2.0/mlflow/runs/get", Needs(Viewer, Run)),
    ("POST", "/2.0/mlflow/runs/search", Known),
    ("POST", "/2.0/mlflow/runs/update", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/delete", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/restore", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/log-parameter", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/set-tag", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/delete-tag", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/log-model", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/log-metric", Needs(Editor, Points)),
    ("POST", "/2.0/mlflow/runs/log-batch", Needs(Editor, Points)),
    ("POST", "/2.0/mlflow/runs/log-inputs", Needs(Editor, Run)),
    ("POST", "/2.0/mlflow/runs/outputs", Needs(Editor, Run)),
    ("GET", "/2.0/mlflow/metrics/get-history", Needs(Viewer, Run)),
    ("GET", "/2.0/mlflow/metrics/get-history-bulk", Needs(Viewer, Runs("run_id"))),
    ("GET", "/2.0/mlflow/metrics/get-history-bulk-interval", Needs(Viewer, Runs("run_ids"))),
    ("GET", "/2.0/mlflow/artifacts/list", Needs(Viewer, Run)),
    ("POST", "/2.0/mlflow/artifacts/presigned-download-url", Needs(Viewer, RunOrLoggedModel)),
    ("POST", "/2.0/mlflow/artifacts/presigned-upload-url", Needs(Editor, RunOrLoggedModel)),
    ("POST", "/2.0/mlflow/logged-models", Needs(Editor, Experiment)),
    ("POST", "/2.0/mlflow/logged-models/search", Known),
    ("GET", "/2.0/mlflow/logged-models/{model_id}", Needs(Viewer, LoggedModel)),
    ("PATCH DELETE", "/2.0/mlflow/logged-models/{model_id}", Needs(Editor, LoggedModel)),
    ("PATCH", "/2.0/mlflow/logged-models/{model_id}/tags", Needs(Editor, LoggedModel)),
    ("DELETE", "/2.0/mlflow/logged-models/{model_id}/tags/{key}", Needs(Editor, LoggedModel)),
    ("POST", "/2.0/mlflow/logged-models/{model_id}/params", Needs(Editor, LoggedModel)),
    ("GET", "/2.0/mlflow/logged-models/{model_id}/artifacts/directories", Needs(Viewer, LoggedModel)),
    ("POST", "/2.0/mlflow/registered-models/create", Needs(Editor, Model)),
    ("GET", "/2.0/mlflow/registered-models/get", Needs(Viewer, Model)),
    ("GET POST", "/2.0/mlflow/registered-models/search", Known),
    ("POST", "/2.0/mlflow/registered-models/rename", Needs(Deployer, Rename)),
    ("PATCH", "/2.0/mlflow/registered-models/update", Needs(Editor, Model)),
    ("DELETE", "/2.0/mlflow/registered-models/delete", Needs(Deployer, Model)),
    ("GET POST", "/2.0/mlflow/registered-models/get-latest-versions", Needs(Viewer, Model)),
    ("POST", "/2.0/mlflow/registered-models/set-tag", Needs(Editor, Model)),
    ("DELETE", "/2.0/mlflow/registered-models/delete-tag", Needs(Editor, Model)),
    ("GET", "/2.0/mlflow/registered-models/alias", Needs(Viewer, Model)),
    ("POST DELETE", "/2.0/mlflow/registered-models/alias", Needs(Deployer, Model)),
    // What it is made from is authorised where it is resolved.
    ("POST", "/2.0/mlflow/model-versions/create", Needs(Editor, Model)),
    ("GET", "/2.0/mlflow/model-versions/get", Needs(Viewer, Model)),
    ("GET POST", "/2.0/mlflow/model-versions/search", Known),
    ("PATCH", "/2.0/mlflow/model-versions/update", Needs(Editor, Model)),
    ("POST", "/2.0/mlflow/model-versions/transition-stage", Needs(Deployer, Model)),
    ("DELETE", "/2.0/mlflow/model-versions/delete", Needs(Deployer, Model)),
    ("GET", "/2.0/mlflow/model-versions/get-download-uri", Needs(Viewer, Model)),
    ("POST", "/2.0/mlflow/model-versions/set-tag", Needs(Editor, Model)),
    ("DELETE", "/2.0/mlflow/model-versions/delete-tag", Needs(Editor, Model)),
    ("GET", "/get-artifact", Needs(Viewer, Run)),
    ("GET", "/model-versions/get-artifact", Needs(Viewer, Model)),
    ("POST", "/2.0/mlflow/upload-artifact", Needs(Editor, RunOfQuery)),
    ("GET", "/2.0/mlflow/logged-models/{model_id}/artifacts/files", Needs(Viewer, LoggedModel)),
    ("GET", "/2.0/mlflow-artifacts/artifacts", Needs(Viewer, Directory)),
    ("GET", "/2.0/mlflow-artifacts/artifacts/{*path}", Needs(Viewer, Artifact)),
    ("PUT DELETE", "/2.0/mlflow-artifacts/artifacts/{*path}", Needs(Editor, Artifact)),
    ("GET", "/2.0/mlflow-artifacts/presigned/{*path}", Needs(Viewer, Artifact)),
    // The path is a directory here, and the file's name in the body lies within it.
    ("POST", "/2.0/mlflow-artifacts/mpu/create/{*path}", Needs(Editor, Artifact)),
    ("POST", "/2.0/mlflow-artifacts/mpu/complete/{*path}", Needs(Editor, Artifact)),
    ("POST", "/2.0/mlflow-artifacts/mpu/abort/{*path}", Needs(Editor, Artifact)),
    ("GET", "/api/v1/experiments", Known),
    ("POST", "/api/v1/experiments", Needs(Editor, Everything)),
    ("GET", "/api/v1/experiments/{experiment_id}", Needs(Viewer, ExperimentInPath)),
    ("PATCH DELETE", "/api/v1/experiments/{experiment_id}", Needs(Editor, ExperimentInPath)),
    ("POST", "/api/v1/experiments/{experiment_id}/restore", Needs(Editor, ExperimentInPath)),
    ("PUT DELETE", "/api/v1/experiments/{experiment_id}/tags/{key}", Needs(Editor, ExperimentInPath)),
    ("POST", "/api/v1/experiments/{experiment_id}/runs", Needs(Editor, ExperimentInPath)),
    ("POST", "/api/v1/runs/search", Known),
    ("GET", "/api/v1/runs/{run_id}", Needs(Viewer, RunInPath)),
    ("PATCH DELETE", "/api/v1/runs/{run_id}", Needs(Editor, RunInPath)),
    ("POST", "/api/v1/runs/{run_id}/restore", Needs(Editor, RunInPath)),
    ("POST", "/api/v1/runs/{run_id}/log", Needs(Editor, RunInPath)),
    ("DELETE", "/api/v1/runs/{run_id}/tags/{key}", Needs(Editor, RunInPath)),
    ("GET", "/api/v1/runs/{run_id}/metrics/{key}", Needs(Viewer, RunInPath)),
    // The use case authorises each run.
    ("POST", "/api/v1/metrics/sample", Known),
    ("GET", "/api/v1/runs/{run_id}/artifacts", Needs(Viewer, RunInPath)),
    ("GET", "/api/v1/runs/{run_id}/artifacts/preview", Needs(Viewer, RunInPath)),
    ("GET", "/api/v1/runs/{run_id}/artifacts/content", Needs(Viewer, RunInPath)),
    ("PUT", "/api/v1/runs/{run_id}/artifacts/content", Needs(Editor, RunInPath)),
    // Events that the caller may not read are left out.
    ("GET", "/api/v1/events", Known),
    ("GET", "/api/v1/events/stream", Known),
    ("GET", "/api/v1/models", Known),
    ("POST", "/api/v1/models", Needs(Editor, ModelInBody)),
    ("PATCH", "/api/v1/models/{name}", Needs(Editor, ModelInPath)),
    // The handler requires the role on the new name, too.
    ("POST", "/api/v1/models/{name}/rename", Needs(Deployer, ModelInPath)),
    ("PUT DELETE", "/api/v1/models/{name}/tags/{key}", Needs(Editor, ModelInPath)),
    ("GET", "/api/v1/models/{name}/aliases/{alias}", Needs(Viewer, ModelInPath)),
    ("PUT DELETE", "/api/v1/models/{name}/aliases/{alias}", Needs(Deployer, ModelInPath)),
    ("GET", "/api/v1/model-versions", Known),
    // What it is created from is authorised where it is resolved.
    ("POST", "/api/v1/models/{name}/versions", Needs(Editor, ModelInPath)),
    ("GET", "/api/v1/models/{name}/imports", Needs(Viewer, ModelInPath)),
    // With an alias, it needs the role that sets aliases; the use case looks.
    ("POST", "/api/v1/models/{name}/imports", Needs(Editor, ModelInPath)),
    ("DELETE", "/api/v1/models/{name}/imports/{id}", Needs(Editor, ModelInPath)),
    ("PUT", "/api/v1/imports/{id}/files", Delivery),
    ("POST", "/api/v1/imports/{id}/complete", Delivery),
    ("PATCH", "/api/v1/models/{name}/versions/{version}", Needs(Editor, ModelInPath)),
    ("PUT", "/api/v1/models/{name}/versions/{version}/stage", Needs(Deployer, ModelInPath)),
    ("PUT DELETE", "/api/v1/models/{name}/versions/{version}/tags/{key}", Needs(Editor, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/artifacts", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/artifacts/preview", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/artifacts/content", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}", Needs(Viewer, ModelInPath)),
    // Forced, they need an administrator; the handlers look.
    ("DELETE", "/api/v1/models/{name}", Needs(Deployer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}", Needs(Viewer, ModelInPath)),
    ("DELETE", "/api/v1/models/{name}/versions/{version}", Needs(Deployer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/card", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/promotion", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/policies", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/policies/{alias}", Needs(Viewer, ModelInPath)),
    ("PUT DELETE", "/api/v1/models/{name}/policies/{alias}", Needs(Admin, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/lineage", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/reports", Needs(Viewer, ModelInPath)),
    ("POST", "/api/v1/models/{name}/versions/{version}/reports", Needs(Editor, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/reports/{id}", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/approvals", Needs(Viewer, ModelInPath)),
    ("POST", "/api/v1/models/{name}/versions/{version}/approvals", Needs(Editor, ModelInPath)),
    // Withdrawing another caller's approval requires an administrator; the handler checks that.
    ("DELETE", "/api/v1/models/{name}/versions/{version}/approvals/{by}", Needs(Editor, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/signature", Needs(Viewer, ModelInPath)),
    ("PUT DELETE", "/api/v1/models/{name}/versions/{version}/signature", Needs(Editor, ModelInPath)),
    ("GET", "/api/v1/models/{name}/versions/{version}/signature/bundle", Needs(Viewer, ModelInPath)),
    ("GET", "/api/v1/signing-keys", Known),
    ("GET", "/api/v1/signing-keys/{name}", Known),
    ("PUT DELETE", "/api/v1/signing-keys/{name}", Needs(Admin, Everything)),
    ("GET", "/api/v1/runs", Known),
    ("POST", "/api/v1/purge", Needs(Admin, Everything)),
    ("GET", "/api/v1/openapi.json", Known),
    ("GET", "/api/v1/docs", Known),
    ("GET", "/openapi.json", Known),
    ("GET", "/docs", Known),
    // Webhooks receive all events, and send them to addresses of their creator's choice.
    ("GET POST", "/2.0/mlflow/webhooks", Needs(Admin, Everything)),
    ("GET PATCH DELETE", "/2.0/mlflow/webhooks/{webhook_id}", Needs(Admin, Everything)),
    ("POST", "/2.0/mlflow/webhooks/{webhook_id}/test", Needs(Admin, Everything)),
    ("GET POST", "/api/v1/webhooks", Needs(Admin, Everything)),
    ("GET PATCH DELETE", "/api/v1/webhooks/{name}", Needs(Admin, Everything)),
    ("POST", "/api/v1/webhooks/{name}/rotate-secret", Needs(Admin, Everything)),
    ("POST", "/api/v1/webhooks/{name}/test", Needs(Admin, Everything)),
    ("GET", "/api/v1/webhooks/{name}/deliveries", Needs(Admin, Everything)),
    ("POST", "/api/v1/webhooks/{name}/deliveries/{id}/replay", Needs(Admin, Everything)),
    ("POST", "/api/v1/webhooks/{name}/replay", Needs(Admin, Everything)),
    ("GET", "/api/v1/retention-rules", Needs(Admin, Everything)),
    ("GET PUT DELETE", "/api/v1/retention-rules/{name}", Needs(Admin, Everything)),
    ("POST", "/api/v1/retention-rules/{name}/run", Needs(Admin, Everything)),
    ("POST", "/api/v1/gc", Needs(Admin, Everything)),
    ("GET", "/api/v1/me", Known),
    ("GET POST", "/api/v1/tokens", Needs(Admin, Everything)),
    ("DELETE", "/api/v1/tokens/{id}", Needs(Admin, Everything)),
    ("GET PUT DELETE", "/api/v1/grants", Needs(Admin, Everything)),
    ("GET", "/api/v1/audit", Needs(Admin, Everything)),
];

/// Methods, path and requirement of every route and gRPC method, for the access table.
pub fn access_rules() -> Vec<(&'static str, String, String)> {
    // Every route of MLflow is served here; most of them below `/api`, too.
    let whole = |path: &str| match path.split('/').nth(1) {
        Some("2.0" | "3.0" | "{version}") => format!("/ajax-api{path}"),
        _ => path.to_owned(),
    };
    let rest = RULES.iter().map(|(methods, path, rule)| (*methods, whole(path), rule.describe()));
    let checked = "viewer on the model".to_owned();
    let registry =
        GRPC_METHODS.iter().map(|method| ("POST", format!("{GRPC_PREFIX}{method}"), checked.clone()));
    let launcher = "the launcher's token".to_owned();
    let tokens = JOB_TOKENS.iter().map(|path| ("POST", (*path).to_owned(), launcher.clone()));
    let deployer = "deployer on the model, or the rollout controller".to_owned();
    let imports = IMPORTS.iter().map(|path| ("POST", (*path).to_owned(), deployer.clone()));
    let controller = "the rollout controller's token".to_owned();
    let delivery = [("POST", ISSUE_DELIVERY.to_owned(), controller)];
    let reflection = REFLECTION.iter().map(|path| ("POST", (*path).to_owned(), Known.describe()));
    rest.chain(registry).chain(tokens).chain(imports).chain(delivery).chain(reflection).collect()
}

impl Rule {
    fn describe(self) -> String {
        match self {
            Self::Open => "none".to_owned(),
            Self::Delivery => "the delivery token of the import".to_owned(),
            Self::Known => "any token".to_owned(),
            Self::Needs(role, Everything) => format!("{role} on everything"),
            Self::Needs(role, Model | ModelInPath | ModelInBody) => format!("{role} on the model"),
            Self::Needs(role, Rename) => format!("{role} on both names"),
            Self::Needs(role, Experiment | ExperimentOrDefault | ExperimentName | ExperimentInPath) => {
                format!("{role} on the experiment")
            }
            Self::Needs(role, _) => format!("{role} on the experiment that it belongs to"),
        }
    }
}

/// By path; of each its methods.
static BY_PATH: LazyLock<HashMap<&str, Vec<(&str, Rule)>>> = LazyLock::new(|| {
    let mut by_path: HashMap<&str, Vec<(&str, Rule)>> = HashMap::new();
    for (methods, path, rule) in RULES {
        let of_path = by_path.entry(path).or_default();
        of_path.extend(methods.split(' ').map(|method| (method, *rule)));
    }
    by_path
});

/// The rule for a route as the router names it; `path` is the request's own.
pub(super) fn rule(method: &Method, route: &str, path: &str) -> Rule {
    find(method, route, path).unwrap_or(Needs(Admin, Everything))
}

fn find(method: &Method, route: &str, path: &str) -> Option<Rule> {
    if let Some(called) = path.strip_prefix(GRPC_PREFIX) {
        return GRPC_METHODS.contains(&called).then_some(Known);
    }
    let checked = [&JOB_TOKENS, &IMPORTS, &REFLECTION].iter().any(|paths| paths.contains(&path));
    if checked || path == ISSUE_DELIVERY {
        return Some(Known);
    }
    let short = route.strip_prefix("/ajax-api").or_else(|| route.strip_prefix("/api"));
    // REST v1 stands with its whole path.
    let key = short.filter(|short| !short.starts_with("/v1/")).unwrap_or(route);
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    BY_PATH.get(key)?.iter().find(|(known, _)| *known == method).map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method of every route, as the router shows itself.
    fn routes() -> Vec<(Method, String)> {
        let shown = format!("{:?}", crate::api::routes());
        let (shown, _fallbacks) = shown.split_once("fallback_router: ").unwrap();
        let (endpoints, rest) = shown.split_once("Node { paths: {").unwrap();
        let paths: HashMap<&str, &str> = rest
            .split("RouteId(")
            .skip(1)
            .filter_map(|one| one.split_once("): \"").map(|(id, path)| (id, path.split('"').next().unwrap())))
            .collect();
        let mut routes = Vec::new();
        for endpoint in endpoints.split("RouteId(").skip(1) {
            let (id, endpoint) = endpoint.split_once(')').unwrap();
            let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
            let has =
                |method: &Method| !endpoint.contains(&format!("{}: None", method.as_str().to_lowercase()));
            // A fallback beside handlers answers 405; alone, it takes every method.
            let any = !endpoint.contains("fallback: Default(") && !methods.iter().any(has);
            routes.extend(
                methods
                    .into_iter()
                    .filter(|method| any || has(method))
                    .map(|method| (method, paths[id].to_owned())),
            );
        }
        routes
    }

    #[test]
    fn every_route_is_listed_and_nothing_else() {
        let routes = routes();
        assert!(routes.len() > 100, "{routes:?}");
        let unlisted: Vec<_> =
            routes.iter().filter(|(method, route)| find(method, route, route).is_none()).collect();
        assert!(unlisted.is_empty(), "say in RULES what these need: {unlisted:?}");
        let served = |method: &str, path: &str| {
            routes.iter().any(|(known, route)| {
                let short = route.strip_prefix("/ajax-api").or_else(|| route.strip_prefix("/api"));
                known.as_str() == method && (route == path || short == Some(path))
            })
        };
        for (methods, path, _) in RULES {
            let stale: Vec<&str> = methods.split(' ').filter(|method| !served(method, path)).collect();
            assert!(stale.is_empty(), "nothing serves {stale:?} {path} any more");
        }
    }

    #[test]
    fn only_health_version_and_the_static_page_are_open() {
        let open: Vec<&str> =
            RULES.iter().filter(|(_, _, rule)| *rule == Open).map(|(_, path, _)| *path).collect();
        assert_eq!(open, ["/health", "/version", "/"]);
        // Whatever changes something needs more than being known.
        for (methods, path, rule) in RULES {
            let reads = path.contains("search")
                || path.contains("{*rest}")
                || *path == crate::api::mlflow::OTLP_TRACES
                || path.contains("presigned-download")
                || path.ends_with("/metrics/sample")
                || *methods == "GET";
            let is_delivery = *rule == Delivery && path.starts_with("/api/v1/imports/{id}/");
            assert!(
                reads
                    || is_delivery
                    || matches!(rule, Needs(role, _) if *role >= Editor || path.contains("get-latest")),
                "{path}"
            );
        }
    }

    #[test]
    fn every_grpc_method_checks_its_caller() {
        let proto = include_str!("../../../../../proto/slipway/registry/v1/registry.proto");
        let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        let methods: Vec<&str> = methods.collect();
        assert_eq!(methods, GRPC_METHODS);
        let proto = include_str!("../../../../../proto/slipway/registry/v1/job_tokens.proto");
        let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        let paths: Vec<String> =
            methods.map(|name| format!("/slipway.registry.v1.JobTokens/{name}")).collect();
        assert_eq!(paths, JOB_TOKENS);
        let proto = include_str!("../../../../../proto/slipway/registry/v1/imports.proto");
        let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        let paths: Vec<String> = methods.map(|name| format!("/slipway.registry.v1.Imports/{name}")).collect();
        assert_eq!(paths, [&IMPORTS[..], &[ISSUE_DELIVERY]].concat());
        let rule = |path: &str| rule(&Method::POST, "/slipway.registry.v1.Registry/{*method}", path);
        assert_eq!(rule("/slipway.registry.v1.Registry/ResolveAlias"), Known);
        assert_eq!(rule("/slipway.registry.v1.Registry/Forgotten"), Needs(Admin, Everything));
    }

    #[test]
    fn what_nobody_listed_needs_an_administrator() {
        let rule = |method: Method, route: &str| rule(&method, route, route);
        assert_eq!(rule(Method::GET, "/api/v1/new"), Needs(Admin, Everything));
        assert_eq!(rule(Method::PUT, "/api/v1/models"), Needs(Admin, Everything));
        assert_eq!(rule(Method::GET, "/ajax-api/2.0/mlflow/runs/get"), Needs(Viewer, Run));
        assert_eq!(rule(Method::HEAD, "/api/v1/runs"), Known);
    }

    /// What the body of each request names by id beyond what its rule looks at, on every route that writes
    /// and that others than administrators of everything may use. A new route needs a line here, and what it
    /// names an attack in tests/it/references.rs.
    const NAMED: &[(&str, &[&str])] = &[
        ("/2.0/mlflow/experiments/update", &[]),
        ("/2.0/mlflow/experiments/delete", &[]),
        ("/2.0/mlflow/experiments/restore", &[]),
        ("/2.0/mlflow/experiments/set-experiment-tag", &[]),
        ("/2.0/mlflow/experiments/delete-experiment-tag", &[]),
        // The tag `mlflow.parentRunId` is text to the registry, which never follows it.
        ("/2.0/mlflow/runs/create", &[]),
        ("/2.0/mlflow/runs/update", &[]),
        ("/2.0/mlflow/runs/delete", &[]),
        ("/2.0/mlflow/runs/restore", &[]),
        ("/2.0/mlflow/runs/log-parameter", &[]),
        ("/2.0/mlflow/runs/set-tag", &[]),
        ("/2.0/mlflow/runs/delete-tag", &[]),
        ("/2.0/mlflow/runs/log-model", &[]),
        ("/2.0/mlflow/runs/log-metric", &["model_id"]),
        ("/2.0/mlflow/runs/log-batch", &["metrics", "model_id", "modelId"]),
        ("/2.0/mlflow/runs/log-inputs", &["models", "model_id", "modelId"]),
        ("/2.0/mlflow/runs/outputs", &["models", "model_id"]),
        ("/2.0/mlflow/artifacts/presigned-download-url", &["run_id", "model_id"]),
        ("/2.0/mlflow/artifacts/presigned-upload-url", &["run_id", "model_id"]),
        ("/2.0/mlflow/logged-models", &["source_run_id", "sourceRunId"]),
        ("/2.0/mlflow/logged-models/{model_id}", &[]),
        ("/2.0/mlflow/logged-models/{model_id}/tags", &[]),
        ("/2.0/mlflow/logged-models/{model_id}/tags/{key}", &[]),
        ("/2.0/mlflow/logged-models/{model_id}/params", &[]),
        ("/2.0/mlflow/registered-models/create", &[]),
        ("/2.0/mlflow/registered-models/rename", &["new_name"]),
        ("/2.0/mlflow/registered-models/update", &[]),
        ("/2.0/mlflow/registered-models/delete", &[]),
        ("/2.0/mlflow/registered-models/set-tag", &[]),
        ("/2.0/mlflow/registered-models/delete-tag", &[]),
        ("/2.0/mlflow/registered-models/alias", &[]),
        ("/2.0/mlflow/registered-models/get-latest-versions", &[]),
        (
            "/2.0/mlflow/model-versions/create",
            &["source", "run_id", "runId", "model_id", "runs:/", "models:/", "mlflow-artifacts:/"],
        ),
        ("/2.0/mlflow/model-versions/update", &[]),
        ("/2.0/mlflow/model-versions/transition-stage", &[]),
        ("/2.0/mlflow/model-versions/delete", &[]),
        ("/2.0/mlflow/model-versions/set-tag", &[]),
        ("/2.0/mlflow/model-versions/delete-tag", &[]),
        ("/2.0/mlflow/upload-artifact", &[]),
        ("/2.0/mlflow-artifacts/artifacts/{*path}", &[]),
        // An upload is found by its id and the path that was authorised.
        ("/2.0/mlflow-artifacts/mpu/create/{*path}", &[]),
        ("/2.0/mlflow-artifacts/mpu/complete/{*path}", &[]),
        ("/2.0/mlflow-artifacts/mpu/abort/{*path}", &[]),
        ("/api/v1/experiments/{experiment_id}", &[]),
        ("/api/v1/experiments/{experiment_id}/restore", &[]),
        ("/api/v1/experiments/{experiment_id}/tags/{key}", &[]),
        ("/api/v1/experiments/{experiment_id}/runs", &[]),
        ("/api/v1/runs/{run_id}", &[]),
        ("/api/v1/runs/{run_id}/restore", &[]),
        ("/api/v1/runs/{run_id}/log", &[]),
        // Bytes.
        ("/api/v1/runs/{run_id}/artifacts/content", &[]),
        ("/api/v1/runs/{run_id}/tags/{key}", &[]),
        ("/api/v1/models", &[]),
        ("/api/v1/models/{name}/rename", &["new_name"]),
        ("/api/v1/models/{name}/tags/{key}", &[]),
        // An address outside of the registry, which the setting of the registry allows.
        ("/api/v1/models/{name}/imports", &[]),
        ("/api/v1/models/{name}/imports/{id}", &[]),
        // A version of the same model.
        ("/api/v1/models/{name}/aliases/{alias}", &[]),
        (
            "/api/v1/models/{name}/versions",
            &["source", "run_id", "model_id", "runs:/", "models:/", "mlflow-artifacts:/"],
        ),
        ("/api/v1/models/{name}/versions/{version}/stage", &[]),
        ("/api/v1/models/{name}/versions/{version}/tags/{key}", &[]),
        ("/api/v1/models/{name}", &[]),
        ("/api/v1/models/{name}/versions/{version}", &[]),
        ("/api/v1/models/{name}/policies/{alias}", &[]),
        // Datasets of reports are names and digests, which nothing follows.
        ("/api/v1/models/{name}/versions/{version}/reports", &[]),
        ("/api/v1/models/{name}/versions/{version}/approvals", &[]),
        ("/api/v1/models/{name}/versions/{version}/approvals/{by}", &[]),
        ("/api/v1/models/{name}/versions/{version}/signature", &[]),
    ];

    #[test]
    fn what_bodies_name_is_listed_and_attacked() {
        let writes = |methods: &str| methods.split(' ').any(|method| method != "GET");
        for (methods, path, rule) in RULES {
            if writes(methods) && matches!(rule, Needs(_, place) if *place != Everything) {
                assert!(
                    NAMED.iter().any(|(named, _)| named == path),
                    "say in NAMED what bodies of {path} name"
                );
            }
        }
        let attacks = include_str!("../../../tests/it/references.rs");
        for (path, fields) in NAMED.iter().filter(|(_, fields)| !fields.is_empty()) {
            let short = path.strip_prefix("/2.0/mlflow/").unwrap_or(path);
            assert!(
                attacks.contains(&format!("\"{short}\"")),
                "tests/it/references.rs does not attack {path}"
            );
            for field in *fields {
                assert!(attacks.contains(field), "tests/it/references.rs does not attack {field} of {path}");
            }
        }
    }
}
