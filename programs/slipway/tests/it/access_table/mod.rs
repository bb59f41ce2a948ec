//! Every route and gRPC method of every service, as callers without a token and with each role find it on a
//! platform with access control on; held against docs/access-table.md.

mod described;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use slipway_access::policy::Rule;
use tonic::transport::Channel;
use tower::{Service as _, ServiceExt as _};

use crate::platform::Platform;

const ROLES: [&str; 4] = ["viewer", "editor", "deployer", "admin"];
const CONTENTS: &str = "# Access table

Every route and gRPC method with access control on, and what callers get: without a token, and with a token
whose role is held on everything. `401` and `403` are refusals; `yes` means that the request reached its
handler. Health (`/healthz`, `/readyz`) and `/metrics` need no token. What is listed below `/ajax-api/`
applies to the same path below `/api/`. [access.md](access.md) describes the roles.

The test `access_table` of `programs/slipway` walks a running platform and compares. This command writes the
table again:

```sh
SLIPWAY_WRITE_DOCS=1 cargo test -p slipway --test it access_table
```
";

/// A line of the table, to be asked.
struct Route {
    methods: &'static str,
    path: String,
    requirement: String,
}

fn of_rules(rules: &'static [Rule]) -> Vec<Route> {
    let route = |rule: &Rule| Route {
        methods: rule.methods,
        path: rule.path.to_owned(),
        requirement: rule.describe(),
    };
    rules.iter().map(route).collect()
}

/// Of each service its name, the endpoints of its REST and gRPC, and its routes.
fn services() -> Vec<(&'static str, &'static str, &'static str, Vec<Route>)> {
    let registry = slipway_registry::access_rules();
    let registry =
        registry.into_iter().map(|(methods, path, requirement)| Route { methods, path, requirement });
    vec![
        ("registry", "registry", "registry", registry.collect()),
        ("launcher", "launcher", "launcher", of_rules(&slipway_launcher::ACCESS_RULES)),
        ("serving", "serving_http", "serving_grpc", of_rules(&slipway_serving::ACCESS_RULES)),
        (
            "rollout controller",
            "rollout_controller",
            "rollout_controller",
            of_rules(&slipway_rollout_controller::ACCESS_RULES),
        ),
        ("drift monitor", "drift_monitor", "drift_monitor", of_rules(&slipway_drift_monitor::ACCESS_RULES)),
    ]
}

struct Walker {
    http: Client,
    /// By role; without one the caller has no token.
    tokens: BTreeMap<&'static str, String>,
}

impl Walker {
    fn new(platform: &Platform) -> Self {
        slipway_runtime::install_tls_provider();
        let mut tokens = BTreeMap::new();
        for role in ROLES {
            let principal = format!("the-{role}");
            platform.slipway(&["grants", "set", &principal, role]).success();
            let made = platform.json(&["tokens", "create", role, "--principal", &principal]);
            tokens.insert(role, made["token"].as_str().unwrap().to_owned());
        }
        // Redirects of the web page would be followed to a page that is open.
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, tokens }
    }

    /// What a request comes to, by REST.
    async fn rest(&self, base: &str, method: &str, path: &str, role: Option<&str>) -> &'static str {
        let mut path = path.to_owned();
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, if &path[from..=to] == "{version}" { "2" } else { "nothing" });
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request =
            self.http.request(method.clone(), format!("{base}{path}")).timeout(Duration::from_secs(60));
        // What the registry needs to know which object a request is about.
        let about = json!({
            "experiment_id": "0", "experiment_name": "nothing", "run_id": "nothing", "run_uuid": "nothing",
            "model_id": "nothing", "name": "nothing", "new_name": "other", "path": "nothing",
        });
        request = if path.ends_with("/upload-artifact") {
            request.query(&[("run_uuid", "nothing"), ("path", "nothing")])
        } else {
            request.query(&about).query(&[("run_ids", "nothing")])
        };
        if method != Method::GET {
            request = request.json(&about);
        }
        if let Some(role) = role {
            request = request.bearer_auth(&self.tokens[role]);
        }
        let response = request.send().await.unwrap();
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                assert!(response.headers().contains_key("www-authenticate"), "{method} {path}");
                "401"
            }
            StatusCode::FORBIDDEN => "403",
            StatusCode::SERVICE_UNAVAILABLE => {
                let body: Value = response.json().await.unwrap_or_default();
                let text = body.to_string();
                assert!(!text.contains("tokens and roles"), "{method} {path}: {text}");
                "yes"
            }
            _ => "yes",
        }
    }

    /// The same by gRPC, with an empty message.
    async fn grpc(&self, channel: &mut Channel, path: &str, role: Option<&str>) -> &'static str {
        let mut request = http::Request::post(path).header("content-type", "application/grpc");
        if let Some(role) = role {
            request = request.header("authorization", format!("Bearer {}", self.tokens[role]));
        }
        let body = tonic::body::Body::new("\0\0\0\0\0".to_owned());
        let request = request.body(body).unwrap();
        // A stream that was accepted may stay silent.
        let sent = async { channel.ready().await.unwrap().call(request).await.unwrap() };
        let Ok(response) = tokio::time::timeout(Duration::from_secs(20), sent).await else { return "yes" };
        match response.headers().get("grpc-status").and_then(|status| status.to_str().ok()) {
            Some("16") => "401",
            Some("7") => "403",
            _ => "yes",
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_token_and_with_each_role_reach_what_the_table_says() {
    let platform = Platform::start(&["--auth", "on"]);
    let walker = Walker::new(&platform);
    // The tokens have arrived at every service once the last one has.
    for service in ["launcher", "rollout_controller", "drift_monitor", "serving_http"] {
        let path = match service {
            "launcher" => "/api/v1/jobs",
            "rollout_controller" => "/api/v1/deployments",
            "drift_monitor" => "/api/v1/monitors",
            _ => "/v2/models",
        };
        let base = platform.endpoint(service);
        while walker.rest(&base, "GET", path, Some("admin")).await != "yes" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut table = CONTENTS.to_owned();
    for (service, rest, grpc, routes) in services() {
        let base = platform.endpoint(rest);
        let mut channel =
            tonic::transport::Endpoint::from_shared(platform.endpoint(grpc)).unwrap().connect_lazy();
        _ = write!(
            table,
            "\n## {service}\n\n| method | path | requires | no token | viewer | editor | deployer | admin |\n\
             |---|---|---|---|---|---|---|---|\n"
        );
        assert_complete(&walker, service, &base, &channel, &routes).await;
        for Route { methods, path, requirement } in routes {
            let is_grpc = is_grpc(&path);
            for method in methods.split(' ') {
                let mut cells = Vec::new();
                for role in [None].into_iter().chain(ROLES.map(Some)) {
                    cells.push(if is_grpc {
                        walker.grpc(&mut channel, &path, role).await
                    } else {
                        walker.rest(&base, method, &path, role).await
                    });
                }
                let kind = if is_grpc { "gRPC" } else { method };
                _ = writeln!(table, "| {kind} | `{path}` | {requirement} | {} |", cells.join(" | "));
            }
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/access-table.md");
    if std::env::var_os("SLIPWAY_WRITE_DOCS").is_some() {
        std::fs::write(file, &table).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let differs =
        |(found, listed): (&str, &str)| (found != listed).then(|| format!("found  {found}\nlisted {listed}"));
    let first = table.lines().zip(committed.lines()).find_map(differs);
    assert!(
        table == committed,
        "docs/access-table.md is not current; SLIPWAY_WRITE_DOCS=1 writes it\n{first:?}"
    );
    only_health_is_open(&table);
}

/// Whether a path is `/package.Service/Method`.
fn is_grpc(path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    first.contains('.') && !first.ends_with(".json")
}

/// The table has every method of the gRPC services that are mounted, and no other, and every operation that
/// the service documents.
async fn assert_complete(walker: &Walker, service: &str, base: &str, channel: &Channel, routes: &[Route]) {
    let token = &walker.tokens["viewer"];
    let mounted = described::grpc_methods(channel, token).await;
    let listed = routes.iter().map(|route| route.path.clone()).filter(|path| is_grpc(path));
    assert_eq!(mounted, listed.collect::<BTreeSet<String>>(), "gRPC methods of {service}");
    let listed: BTreeSet<(String, String)> = routes
        .iter()
        .flat_map(|route| route.methods.split(' ').map(|method| (method.to_owned(), route.path.clone())))
        .collect();
    let documented = described::rest_operations(&walker.http, base, token).await;
    assert!(documented.len() > 5, "{service}: {documented:?}");
    let unlisted: Vec<_> = documented.difference(&listed).collect();
    assert!(unlisted.is_empty(), "{service} documents routes that the table does not list: {unlisted:?}");
}

/// What a caller without a token reaches is health, and what proves its caller in the message.
fn only_health_is_open(table: &str) {
    let open: Vec<&str> = table
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split(" | ").collect();
            (cells.len() == 8 && cells[3] == "yes").then(|| cells[1].trim_matches('`'))
        })
        .collect();
    let expected = |path: &&str| {
        ["/health", "/version", "/"].contains(path)
            || path.starts_with("/v2/health/")
            || path.starts_with("/grpc.health.v1.Health/")
            || path.ends_with("/ServerLive")
            || path.ends_with("/ServerReady")
            || path.starts_with("/slipway.launcher.v1.Agents/")
    };
    let unexpected: Vec<&&str> = open.iter().filter(|path| !expected(path)).collect();
    assert!(unexpected.is_empty(), "open to every caller: {unexpected:?}");
}
