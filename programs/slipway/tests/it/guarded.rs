//! A platform with access control on: what a tenant reaches, what services may do for each other, and where
//! it is recorded.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::proto::launcher::launcher_client::LauncherClient;
use slipway_api::proto::launcher::{ListJobsRequest, SubmitJobRequest};
use slipway_service_kit::registry::{RegistryToken, service_channel};
use tonic::Code;

use crate::client::{Client, strategy};
use crate::platform::{Platform, wait_for};

fn created(platform: &Platform, principal: &str, grants: &[(&str, &str)]) -> String {
    for (scope, role) in grants {
        platform.slipway(&["grants", "set", principal, role, "--on", scope]).success();
    }
    let made = platform.json(&["tokens", "create", "test", "--principal", principal]);
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_on_a_model_is_a_role_on_its_deployment_and_on_no_other() {
    let platform = Platform::start(&["--auth", "on"]);
    let admin = std::fs::read_to_string(platform.data_dir().join("admin-token")).unwrap();
    let admin = Client::new(&platform).with_token(admin.trim());
    // The registry, the rollout controller and serving call each other for this.
    for model in ["m", "n"] {
        admin.register(model, "right-1.onnx").await;
        admin.deploy(model, strategy(0.2)).await;
    }
    let token = created(&platform, "ann", &[("model:m", "deployer")]);
    let ann = Client::new(&platform).with_token(&token);
    let predicts =
        async |client: &Client, deployment: &str| client.predict(deployment, 1.0, "id").await.is_ok();
    while !predicts(&ann, "m").await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(!predicts(&ann, "n").await && !predicts(&Client::new(&platform), "m").await);
    let models = ann.get(&format!("{}/v2/models", ann.serving)).await;
    assert_eq!(models, json!({"models": ["m"]}));

    let deployment = |name: &str| format!("{}/api/v1/deployments/{name}", ann.controller);
    assert_eq!(ann.get(&deployment("m")).await["model"], "m");
    let (status, denied) = ann.send(Method::GET, &deployment("n"), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let detail = denied["detail"].as_str().unwrap();
    assert!(detail.contains("the role viewer is needed on the registered model 'n'"), "{detail}");
    let kill = |name: &str| format!("{}/kill-switch", deployment(name));
    let why = json!({"reason": "wrong prices"});
    assert_eq!(ann.send(Method::PUT, &kill("n"), Some(&why)).await.0, StatusCode::FORBIDDEN);
    assert_eq!(ann.send(Method::PUT, &kill("m"), Some(&why)).await.0, StatusCode::OK);
    // A job runs with a role on everything, and so does a monitor's policy.
    let job = json!({"name": "j", "command": ["true"]});
    let jobs = format!("{}/api/v1/jobs", ann.launcher);
    assert_eq!(ann.send(Method::POST, &jobs, Some(&job)).await.0, StatusCode::FORBIDDEN);
    let monitors = format!("{}/api/v1/monitors", ann.monitor);
    assert_eq!(ann.send(Method::POST, &monitors, Some(&json!({}))).await.0, StatusCode::FORBIDDEN);

    // Both calls are in the registry's audit trail, and the event of the change names its author.
    let calls = || platform.json(&["audit", "list", "--principal", "ann"])["audit"].clone();
    let has = |what: &str, path: &str| {
        let calls = calls();
        let id = format!("rollout-controller PUT {path}");
        calls.as_array().unwrap().iter().any(|row| row["what"] == what && row["id"] == id.as_str())
    };
    wait_for("the calls in the audit trail", || {
        has("answered", "/api/v1/deployments/m/kill-switch")
            && has("refused", "/api/v1/deployments/n/kill-switch")
    });
    // A revoked token is refused everywhere within seconds.
    platform.slipway(&["tokens", "revoke", token.split('_').nth(1).unwrap()]).success();
    while ann.send(Method::GET, &deployment("m"), None).await.0 != StatusCode::UNAUTHORIZED
        || predicts(&ann, "m").await
    {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // The command line has the administrator's token for every service.
    for command in [&["registry", "gc"][..], &["jobs", "list"], &["monitors", "list"], &["rollouts", "list"]]
    {
        platform.slipway(command).success();
    }
}

/// A variable of a process of the platform.
fn variable(platform: &Platform, part: &str, name: &str) -> String {
    let bytes = std::fs::read(format!("/proc/{}/environ", platform.pid(part))).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let found = text.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{part} has no {name}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_do_for_others_what_it_needs_and_nothing_else() {
    let platform = Platform::start(&["--auth", "on"]);
    let mut tokens = Vec::new();
    for part in ["serving", "rollout_controller", "drift_monitor"] {
        tokens.push((part, variable(&platform, part, "SLIPWAY_REGISTRY_TOKEN")));
    }
    let registry = std::fs::read(format!("/proc/{}/environ", platform.pid("registry"))).unwrap();
    let registry = String::from_utf8_lossy(&registry).into_owned();
    for (part, token) in tokens {
        assert!(!registry.contains(&token), "the registry has the token of {part}");
        let secret = RegistryToken::of(token.clone()).resolve().unwrap();
        let channel = service_channel(&platform.endpoint("launcher"), &secret).unwrap();
        let mut launcher = LauncherClient::new(channel);
        let spec_json = json!({"name": "retrain", "command": ["true"]}).to_string();
        let submitted =
            launcher.submit_job(SubmitJobRequest { spec_json, idempotency_key: part.to_owned() }).await;
        // Policies of the drift monitor submit jobs; no service lists them.
        match part {
            "drift_monitor" => assert!(submitted.is_ok(), "{submitted:?}"),
            _ => assert_eq!(submitted.unwrap_err().code(), Code::PermissionDenied, "{part}"),
        }
        let listed = launcher.list_jobs(ListJobsRequest::default()).await;
        assert_eq!(listed.unwrap_err().code(), Code::PermissionDenied, "{part}");
        let client = Client::new(&platform).with_token(&token);
        let (status, me) = client.send(Method::GET, &format!("{}/api/v1/me", client.registry), None).await;
        assert_eq!(
            (status, &me["principal"]),
            (StatusCode::OK, &Value::from(format!("slipway:{}", part.replace('_', "-"))))
        );
        let (status, _) = client.send(Method::GET, &format!("{}/v2/logging", client.serving), None).await;
        assert_eq!(status, StatusCode::OK, "any token reads the settings of the log");
        let body = json!({"log_info": false});
        let (status, _) =
            client.send(Method::POST, &format!("{}/v2/logging", client.serving), Some(&body)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{part}");
    }
    // The monitor's own calls are accepted: it learns that the deployment does not exist.
    let monitor = json!({"name": "w", "deployment": "none", "model": "none"});
    let file = platform.file("monitor.json", &monitor);
    platform.slipway(&["monitors", "create", &file]).success();
    wait_for("the monitor to say why it waits", || {
        platform.slipway(&["monitors", "list"]).text().contains("there is no deployment `none`")
    });
}
