//! Two tenants of one platform: what each sees of the lists of every service, and that neither learns
//! anything of the other.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, strategy};
use crate::platform::Platform;

struct Tenants {
    platform: Platform,
    admin: Client,
    /// Viewer of the model `m`, editor of its experiment.
    ann: Client,
    ann_token: String,
    /// Viewer of the model `n` and of its experiment.
    ben: Client,
    /// Without any role.
    carl: Client,
    /// IDs of the jobs of Ann's experiment, in the order of their submission.
    ours: Vec<String>,
    /// ID of the job of Ben's experiment.
    theirs: String,
}

fn token(platform: &Platform, principal: &str, grants: &[(&str, &str)]) -> String {
    for (scope, role) in grants {
        platform.slipway(&["grants", "set", principal, role, "--on", scope]).success();
    }
    let made = platform.json(&["tokens", "create", "test", "--principal", principal]);
    made["token"].as_str().unwrap().to_owned()
}

impl Tenants {
    async fn begin() -> Self {
        let platform = Platform::start(&["--auth", "on"]);
        let admin = std::fs::read_to_string(platform.data_dir().join("admin-token")).unwrap();
        let admin = Client::new(&platform).with_token(admin.trim());
        let mut experiments = Vec::new();
        for name in ["m", "n"] {
            admin.register(name, "right-1.onnx").await;
            admin.deploy(name, strategy(0.2)).await;
            let monitor = json!({"name": format!("w-{name}"), "deployment": name, "model": name});
            admin.post(&format!("{}/api/v1/monitors", admin.monitor), monitor).await;
            let made = admin.mlflow("experiments/create", json!({"name": name})).await;
            experiments.push(made["experiment_id"].as_str().unwrap().to_owned());
        }
        let job = async |experiment: Option<&String>| {
            let script = "echo begun; sleep 600";
            let mut body = json!({"name": "train", "command": ["sh", "-c", script], "grace_period_s": 0,
                "resources": {"cpus": 0.1}});
            if let Some(experiment) = experiment {
                body["experiment_id"] = json!(experiment);
            }
            let made = admin.post(&format!("{}/api/v1/jobs", admin.launcher), body).await;
            made["id"].as_str().unwrap().to_owned()
        };
        // In turns, so that positions in the whole list would tell of each other.
        let first = job(Some(&experiments[0])).await;
        let theirs = job(Some(&experiments[1])).await;
        job(None).await;
        let ours = vec![first, job(Some(&experiments[0])).await];
        let scope = |index: usize| format!("experiment:{}", experiments[index]);
        let ann_token = token(&platform, "ann", &[("model:m", "viewer"), (&scope(0), "editor")]);
        let ben = token(&platform, "ben", &[("model:n", "viewer"), (&scope(1), "viewer")]);
        let carl = token(&platform, "carl", &[]);
        let [ann, ben, carl] =
            [&ann_token, &ben, &carl].map(|token| Client::new(&platform).with_token(token));
        let tenants = Self { platform, admin, ann, ann_token, ben, carl, ours, theirs };
        // Roles arrive before tokens, and Carl's token was the last.
        for (_, list, _) in tenants.lists() {
            while tenants.carl.send(Method::GET, &list, None).await.0 == StatusCode::UNAUTHORIZED {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        tenants
    }

    /// Name, address and key of the items of each list.
    fn lists(&self) -> [(&'static str, String, &'static str); 4] {
        let Client { launcher, controller, monitor, .. } = &self.admin;
        [
            ("jobs", format!("{launcher}/api/v1/jobs"), "id"),
            ("deployments", format!("{controller}/api/v1/deployments"), "model"),
            ("rollouts", format!("{controller}/api/v1/rollouts"), "model"),
            ("monitors", format!("{monitor}/api/v1/monitors"), "model"),
        ]
    }
}

/// All pages of a list, one item on each; the keys of the items, and the tokens between the pages.
async fn pages(client: &Client, list: &str, name: &str, key: &str) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut tokens) = (Vec::new(), Vec::new());
    loop {
        let token = tokens.last().map(|token| format!("&page_token={token}")).unwrap_or_default();
        let page = client.get(&format!("{list}?limit=1{token}")).await;
        let items = page[name].as_array().unwrap();
        assert_eq!(items.len(), 1, "a page is full, or there is none: {page}");
        keys.extend(items.iter().map(|item| item[key].as_str().unwrap().to_owned()));
        match page["next_page_token"].as_str() {
            Some(next) => tokens.push(next.to_owned()),
            None => return (keys, tokens),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_each_tenant_its_own_and_tell_nothing_of_others() {
    let tenants = Tenants::begin().await;
    let Tenants { admin, ann, ben, carl, ours, theirs, .. } = &tenants;
    let newest_first: Vec<&str> = ours.iter().rev().map(String::as_str).collect();
    for (name, list, key) in tenants.lists() {
        let (of_ann, tokens) = pages(ann, &list, name, key).await;
        let (of_ben, _) = pages(ben, &list, name, key).await;
        let (of_all, tokens_of_all) = pages(admin, &list, name, key).await;
        if name == "jobs" {
            assert_eq!(of_ann, newest_first);
            assert_eq!(of_ben, [theirs.as_str()]);
            assert_eq!(of_all.len(), 4);
        } else {
            assert_eq!((of_ann, of_ben), (vec!["m".to_owned()], vec!["n".to_owned()]), "{name}");
            assert_eq!(of_all.len(), 2, "{name}");
        }
        // A token names an item of the page, and its position among all items is not in it.
        for token in &tokens {
            assert!(tokens_of_all.contains(token) || name != "jobs", "{name}: {token}");
        }
        let (status, refused) = carl.send(Method::GET, &list, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{name}");
        assert!(refused["detail"].as_str().unwrap().contains("this caller has none there"), "{refused}");
    }
    // A page token that names another tenant's job or rollout is that of no page.
    for (name, list) in [("jobs", &tenants.lists()[0].1), ("rollouts", &tenants.lists()[2].1)] {
        let (_, tokens_of_all) = pages(admin, list, name, "id").await;
        let mut answers = Vec::new();
        for token in &tokens_of_all {
            answers.push(ann.send(Method::GET, &format!("{list}?page_token={token}"), None).await.0);
        }
        assert!(answers.contains(&StatusCode::BAD_REQUEST), "{name}: {answers:?}");
        let invented = "IjAxOTljMDAwLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMCI";
        let (status, refused) = ann.send(Method::GET, &format!("{list}?page_token={invented}"), None).await;
        assert_eq!((status, &refused["field"]), (StatusCode::BAD_REQUEST, &json!("page_token")));
    }
    // Filters do not widen what is shown.
    let [_, _, (_, rollouts, _), (_, monitors, _)] = tenants.lists();
    for (list, name) in [(rollouts, "rollouts"), (monitors, "monitors")] {
        assert_eq!(ann.get(&format!("{list}?deployment=n")).await[name], json!([]), "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_belongs_to_its_experiment_and_a_rollout_to_its_own_deployment() {
    let tenants = Tenants::begin().await;
    let Tenants { platform, admin, ann, ann_token, ben, ours, theirs, .. } = &tenants;
    let job = |id: &str| format!("{}/api/v1/jobs/{id}", admin.launcher);
    let status = async |client: &Client, method: Method, url: String| client.send(method, &url, None).await.0;
    for path in ["", "/logs", "/checkpoints"] {
        assert_eq!(status(ann, Method::GET, job(&ours[0]) + path).await, StatusCode::OK, "{path}");
        assert_eq!(status(ann, Method::GET, job(theirs) + path).await, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(status(ben, Method::GET, job(theirs) + path).await, StatusCode::OK, "{path}");
    }
    // What does not exist looks like what is another's.
    assert_eq!(status(ann, Method::GET, job("no-id")).await, StatusCode::FORBIDDEN);
    let spec = &admin.get(&job(&ours[0])).await["spec"];
    assert_eq!(spec["env"]["MLFLOW_EXPERIMENT_ID"], spec["experiment_id"]);
    assert_eq!(status(ben, Method::POST, job(theirs) + "/cancel").await, StatusCode::FORBIDDEN, "a viewer");
    assert_eq!(status(ann, Method::POST, job(theirs) + "/cancel").await, StatusCode::FORBIDDEN);
    assert_eq!(status(ann, Method::POST, job(&ours[1]) + "/cancel").await, StatusCode::OK, "an editor");

    // Another deployment of the same name, of Ann's model: the rollouts of the one before stay Ben's.
    let rollouts = format!("{}/api/v1/rollouts", admin.controller);
    let found = admin.get(&format!("{rollouts}?deployment=n")).await;
    let old = found["rollouts"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(status(ben, Method::GET, format!("{rollouts}/{old}")).await, StatusCode::OK);
    let deployments = format!("{}/api/v1/deployments", admin.controller);
    assert_eq!(status(admin, Method::DELETE, format!("{deployments}/n")).await, StatusCode::NO_CONTENT);
    admin
        .post(
            &deployments,
            json!({"name": "n", "model": "m", "version": "1",
        "default_strategy": strategy(0.2)}),
        )
        .await;
    assert_eq!(status(ann, Method::GET, format!("{deployments}/n")).await, StatusCode::OK);
    for path in ["", "/decisions"] {
        let url = format!("{rollouts}/{old}{path}");
        assert_eq!(status(ann, Method::GET, url).await, StatusCode::FORBIDDEN, "{path}");
    }
    let listed = ann.get(&rollouts).await;
    assert!(listed["rollouts"].as_array().unwrap().iter().all(|rollout| rollout["id"] != old.as_str()));

    // A followed log ends with the token.
    let http = reqwest::Client::new();
    let follow = http.get(format!("{}/logs?follow=true", job(&ours[0]))).bearer_auth(ann_token);
    let mut events = follow.header("accept", "text/event-stream").send().await.unwrap();
    let mut text = String::new();
    while !text.contains("begun") {
        text.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    platform.slipway(&["tokens", "revoke", ann_token.split('_').nth(1).unwrap()]).success();
    while let Some(chunk) = events.chunk().await.unwrap() {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.ends_with("event: error\ndata: the token is unknown or was revoked\n\n"), "{text}");
    let (refused, why) = ann.send(Method::GET, &job(&ours[0]), None).await;
    assert_eq!((refused, &why["code"]), (StatusCode::UNAUTHORIZED, &Value::from("unauthenticated")));
}
