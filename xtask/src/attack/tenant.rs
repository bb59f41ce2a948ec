//! A tenant: someone with a token for one experiment, who wants to see or be more.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Door;
use super::platform::Platform;

const MLFLOW: &str = "/api/2.0/mlflow";

pub(super) async fn doors(platform: &Platform) -> anyhow::Result<Vec<Door>> {
    Ok(vec![
        references(platform).await?,
        names(platform).await?,
        strangers(platform).await?,
        settings(platform).await?,
    ])
}

/// Makes a token of a principal with one role.
pub(super) async fn tenant(
    platform: &Platform,
    principal: &str,
    role: &str,
    scope: &str,
) -> anyhow::Result<String> {
    let token = json!({"name": principal, "principal": principal});
    let made = platform.done(Method::POST, "/api/v1/tokens", &token).await?;
    let grant = json!({"subject": principal, "role": role, "scope": scope});
    platform.done(Method::PUT, "/api/v1/grants", &grant).await?;
    Ok(made["token"].as_str().unwrap_or_default().to_owned())
}

/// What a request names by id is authorised like a read of it.
async fn references(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("tenant: another tenant's run, model or files, named by id in a body");
    let post =
        async |path: &str, body: Value| platform.done(Method::POST, &format!("{MLFLOW}/{path}"), &body).await;
    let experiment = async |name: &str| {
        let made = post("experiments/create", json!({"name": name})).await?;
        anyhow::Ok(made["experiment_id"].as_str().unwrap_or_default().to_owned())
    };
    let run = async |experiment: &str| {
        let made = post("runs/create", json!({"experiment_id": experiment, "start_time": 1})).await?;
        anyhow::Ok(made["run"]["info"]["run_id"].as_str().unwrap_or_default().to_owned())
    };
    let (ours, theirs) = (experiment("attack-ours").await?, experiment("attack-theirs").await?);
    let (run, secret) = (run(&ours).await?, run(&theirs).await?);
    let logged = json!({"experiment_id": theirs, "name": "secret", "source_run_id": secret});
    let logged = post("logged-models", logged).await?["model"]["info"]["model_id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let token = tenant(platform, "attack-tenant", "editor", &format!("experiment:{ours}")).await?;
    let model = json!({"subject": "attack-tenant", "role": "deployer", "scope": "model:attack-ours"});
    platform.done(Method::PUT, "/api/v1/grants", &model).await?;
    post("registered-models/create", json!({"name": "attack-ours"})).await?;
    let named = Named { ours, run, theirs, secret, logged };
    for (path, body) in named.writes() {
        let route = format!("{MLFLOW}/{path}");
        let answer = platform.as_bearer(&token, Method::POST, "registry", &route).json(&body).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let refused = matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        // A search may answer with nothing.
        let empty = path == "runs/search" && status.is_success() && !text.contains(&named.secret);
        door.attempt((!refused && !empty).then(|| format!("{path} {body}: {status} {text}")));
    }
    for path in named.reads() {
        let status = platform.as_bearer(&token, Method::GET, "registry", &path).send().await?.status();
        door.attempt(status.is_success().then(|| format!("GET {path}: {status}")));
    }
    Ok(door)
}

/// What a tenant has, and what of another tenant it names.
struct Named {
    /// The tenant's experiment.
    ours: String,
    /// A run in it.
    run: String,
    /// The other tenant's experiment.
    theirs: String,
    /// A run in it.
    secret: String,
    /// A logged model of that run.
    logged: String,
}

impl Named {
    fn files(&self) -> String {
        format!("{}/{}/artifacts", self.theirs, self.secret)
    }

    /// Writes that name something of the other tenant, by path and body.
    fn writes(&self) -> [(&'static str, Value); 11] {
        let Self { ours, run, theirs, secret, logged } = self;
        let version = |mut body: Value| {
            body["name"] = "attack-ours".into();
            ("model-versions/create", body)
        };
        [
            ("logged-models", json!({"experiment_id": ours, "name": "m", "source_run_id": secret})),
            version(json!({"source": format!("runs:/{secret}/model")})),
            version(json!({"source": format!("models:/{logged}")})),
            version(json!({"source": format!("mlflow-artifacts:/{}", self.files())})),
            version(json!({"source": format!("runs:/{run}/model"), "run_id": secret})),
            version(json!({"source": format!("runs:/{run}/model"), "model_id": logged})),
            ("runs/outputs", json!({"run_id": run, "models": [{"model_id": logged, "step": 0}]})),
            ("runs/log-inputs", json!({"run_id": run, "models": [{"model_id": logged}]})),
            (
                "runs/log-metric",
                json!({"run_id": run, "key": "a", "value": 1.0, "timestamp": 1, "model_id": logged}),
            ),
            ("runs/log-metric", json!({"run_id": secret, "key": "a", "value": 1.0, "timestamp": 1})),
            ("runs/search", json!({"experiment_ids": [theirs], "max_results": 5})),
        ]
    }

    /// Paths that read something of the other tenant, or of the platform.
    fn reads(&self) -> [String; 9] {
        let Self { secret, logged, .. } = self;
        [
            format!("{MLFLOW}/runs/get?run_id={secret}"),
            format!("{MLFLOW}/logged-models/{logged}"),
            format!("{MLFLOW}/artifacts/list?run_id={secret}"),
            format!("/api/2.0/mlflow-artifacts/artifacts?path={}", self.files()),
            format!("/get-artifact?run_uuid={secret}&path=model"),
            "/api/v1/audit".to_owned(),
            "/api/v1/tokens".to_owned(),
            "/api/v1/grants".to_owned(),
            "/api/v1/webhooks".to_owned(),
        ]
    }
}

/// Names that would be taken for the administrator, for nobody, or for the platform itself.
async fn names(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("tenant: principals and scopes that look like others");
    let taken = [
        "admin",
        " admin",
        "admin ",
        "Admin",
        "ADMIN",
        "system",
        "anonymous",
        "\u{430}dmin",
        "ad\u{200b}min",
        "admin\n",
        "admin\0",
        "",
        "group:",
        "job:1",
    ];
    for principal in taken {
        let token = json!({"name": "attack", "principal": principal});
        let answer =
            platform.as_admin(Method::POST, "registry", "/api/v1/tokens").json(&token).send().await?;
        door.attempt(answer.status().is_success().then(|| format!("a token of the principal {principal:?}")));
        let grant = json!({"subject": principal, "role": "admin", "scope": "*"});
        let answer = platform.as_admin(Method::PUT, "registry", "/api/v1/grants").json(&grant).send().await?;
        door.attempt(answer.status().is_success().then(|| format!("a grant to the principal {principal:?}")));
    }
    for scope in
        ["experiment:-1", "experiment:x", "experiment:", "model:", "everything", "experiment:0 ", "*:*"]
    {
        let grant = json!({"subject": "attack-scopes", "role": "viewer", "scope": scope});
        let answer = platform.as_admin(Method::PUT, "registry", "/api/v1/grants").json(&grant).send().await?;
        door.attempt(answer.status().is_success().then(|| format!("a grant on the scope {scope:?}")));
    }
    Ok(door)
}

/// Without a token, or with one that only looks like one.
async fn strangers(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("network: a service without a valid token");
    let routes = [
        ("registry", Method::GET, "/api/2.0/mlflow/experiments/get?experiment_id=0"),
        ("registry", Method::GET, "/api/2.0/mlflow-artifacts/artifacts?path="),
        ("registry", Method::GET, "/api/v1/models"),
        ("registry", Method::GET, "/api/v1/grants"),
        ("registry", Method::GET, "/api/v1/audit"),
        ("registry", Method::POST, "/api/v1/tokens"),
        ("launcher", Method::GET, "/api/v1/jobs"),
        ("launcher", Method::POST, "/api/v1/jobs"),
        ("rollout_controller", Method::GET, "/api/v1/deployments"),
        ("rollout_controller", Method::POST, "/api/v1/deployments"),
        ("drift_monitor", Method::GET, "/api/v1/monitors"),
        ("drift_monitor", Method::POST, "/api/v1/monitors"),
        ("serving_http", Method::GET, "/v2/models"),
        ("serving_http", Method::POST, "/v2/models/m/infer"),
    ];
    // {"alg":"none"} and {"sub":"admin"}.
    let tokens = ["", "admin", "slp_0000000000000000_x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."];
    for (service, method, path) in routes {
        for token in tokens {
            let request = platform.as_bearer(token, method.clone(), service, path);
            let request = if method == Method::POST {
                request.json(&json!({"name": "x", "principal": "x"}))
            } else {
                request
            };
            let status = request.send().await?.status();
            let refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            door.attempt(
                (!refused).then(|| format!("{service} {method} {path} with the token {token:?}: {status}")),
            );
        }
    }
    Ok(door)
}

/// Serving's warnings cannot be switched off.
async fn settings(platform: &Platform) -> anyhow::Result<Door> {
    let mut door = Door::new("network: serving's log");
    for body in [json!({"log_warning": false}), json!({"log_error": false}), json!({"log_verbose_level": -1})]
    {
        // The administrator may change settings, and not these.
        let ask = |method| platform.as_admin(method, "serving_http", "/v2/logging");
        let answer = ask(Method::POST).json(&body).send().await?;
        let settings: Value = ask(Method::GET).send().await?.json().await.unwrap_or_default();
        let silenced = settings["log_warning"] == false || settings["log_error"] == false;
        door.attempt(silenced.then(|| format!("{body}: {}, and now {settings}", answer.status())));
    }
    Ok(door)
}
