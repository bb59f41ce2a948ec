//! The registry keeps to its OpenAPI document.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_testkit::Contract;

use crate::world::{MODEL, World};

const SIGNATURE: &str = include_str!("../../../../crates/model-signing/tests/fixtures/p256.sig");
const PUBLIC_KEY: &str = include_str!("../../../../crates/model-signing/tests/fixtures/p256.pub");
/// Nothing listens there.
const RECEIVER: &str = "http://127.0.0.1:9/hook";

/// Where models may be imported from, and nothing listens either.
const OUTSIDE: &str = "http://127.0.0.1:9/models/";

/// What the requests find.
struct Seeds {
    experiment: String,
    run: String,
    model_id: String,
    report: String,
    token: String,
    delivery: String,
    import: String,
}

impl World {
    pub(crate) async fn made(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.v1(method, path, body).await;
        assert!(status.is_success(), "{path}: {status}: {answer}");
        answer
    }

    async fn tracked(&self) -> (String, String) {
        let experiment = self.made(Method::POST, "experiments", json!({"name": "churn"})).await;
        let experiment = experiment["experiment_id"].as_str().unwrap().to_owned();
        let path = format!("experiments/{experiment}/runs");
        let run = self.made(Method::POST, &path, json!({"run_name": "first"})).await;
        let run = run["info"]["run_id"].as_str().unwrap().to_owned();
        let points: Vec<Value> = (0..30)
            .map(|step| json!({"key": "loss", "value": 1.0 / f64::from(step + 1), "step": step}))
            .collect();
        let logged = json!({"metrics": points, "params": {"lr": "0.1"}, "tags": {"team": "a"}});
        self.made(Method::POST, &format!("runs/{run}/log"), logged).await;
        let uploaded =
            self.put_file(&format!("{experiment}/{run}/artifacts/plots/loss.txt"), b"0.1 0.2").await;
        assert_eq!(uploaded.0, StatusCode::OK, "{}", uploaded.1);
        (experiment, run)
    }

    async fn seeded(&self) -> Seeds {
        let (experiment, run) = self.tracked().await;
        let model_id = self.onnx_model(MODEL).await;
        let hook = json!({"name": "hook", "url": RECEIVER, "events": ["slipway.registry.alias.*"]});
        self.made(Method::POST, "webhooks", hook).await;
        self.made(Method::POST, "models", json!({"name": "m", "tags": {"team": "a"}})).await;
        let source = format!("models:/{model_id}");
        for _ in 0..2 {
            self.made(Method::POST, "models/m/versions", json!({"source": source, "model_id": model_id}))
                .await;
        }
        self.made(Method::PUT, "signing-keys/release", json!({"pem": PUBLIC_KEY})).await;
        let signature: Value = serde_json::from_str(SIGNATURE).unwrap();
        self.made(Method::PUT, "models/m/versions/1/signature", signature).await;
        let rules = json!({"rules": [{"rule": "servable"}]});
        self.made(Method::PUT, "models/m/policies/champion", rules).await;
        let champion = json!({"version": "1"});
        self.made(Method::PUT, "models/m/aliases/champion", champion).await;
        self.made(Method::POST, "models/m/versions/1/approvals", json!({"by": "ada"})).await;
        let report = json!({"name": "holdout", "dataset": {"name": "d", "digest": "x"}, "rows": 10,
            "metrics": {"accuracy": 0.5}});
        let report = self.made(Method::POST, "models/m/versions/1/reports", report).await;
        let rule = json!({"for": {"scope": "all"}, "after_days": 30, "action": "delete"});
        self.made(Method::PUT, "retention-rules/old", rule).await;
        let token = self.made(Method::POST, "tokens", json!({"name": "t", "principal": "ann"})).await;
        let grant = json!({"subject": "ann", "scope": "model:m", "role": "viewer"});
        self.made(Method::PUT, "grants", grant).await;
        let text = |value: &Value| value["id"].as_str().unwrap().to_owned();
        let import = json!({"uri": format!("{OUTSIDE}m.onnx")});
        let import = self.made(Method::POST, "models/m/imports", import).await;
        let (report, token, import) = (text(&report), text(&token), text(&import));
        Seeds { experiment, run, model_id, report, token, delivery: self.delivery().await, import }
    }

    /// The delivery of the alias, once there is one.
    async fn delivery(&self) -> String {
        for _ in 0..600 {
            let page = self.get("/api/v1/webhooks/hook/deliveries").await;
            if let Some(id) = page["deliveries"][0]["id"].as_str() {
                return id.to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        unreachable!("no delivery of the alias")
    }
}

fn tracking(contract: Contract, seeds: &Seeds) -> Contract {
    contract
        .knowing("experiment_id", &[json!(seeds.experiment)])
        .knowing("experiment_ids", &[json!([seeds.experiment]), json!(["0"])])
        .knowing("experiment", &[json!(seeds.experiment)])
        .knowing("run_id", &[json!(seeds.run)])
        .knowing("run_ids", &[json!([seeds.run])])
        .knowing("keys", &[json!(["loss"])])
        .knowing("key", &[json!("team")])
        .knowing("/api/v1/runs/{run_id}/metrics key", &[json!("loss")])
        .knowing("max_points", &[json!(10)])
        .knowing("/api/v1/runs/{run_id}/artifacts path", &[json!("plots/loss.txt")])
        .knowing("get /api/v1/runs/{run_id}/artifacts path", &[json!("plots"), json!(".")])
        .knowing("max_bytes", &[json!(4)])
        .knowing("post /api/v1/runs/search filter", &[json!("metrics.loss < 1"), json!(null)])
        .knowing("post /api/v1/runs/search order_by", &[json!(["metrics.loss ASC"]), json!([])])
        .knowing("filter", &[json!("name LIKE 'm%'"), json!("tags.team = 'a'")])
        .knowing("order_by", &[json!("name DESC"), json!("creation_time")])
        .knowing("post /api/v1/experiments name", &[json!("e-1"), json!("e-2"), json!("churn")])
        .knowing("patch /api/v1/experiments/{experiment_id} name", &[json!("churn"), json!("Default")])
        .knowing("artifact_location", &[json!(null)])
        .knowing("start_time", &[json!(1)])
}

fn models(contract: Contract, seeds: &Seeds) -> Contract {
    let rules = json!([{"rule": "servable"}, {"rule": "any-of", "rules": [{"rule": "signed"}]}]);
    let signature = serde_json::from_str(SIGNATURE).unwrap();
    contract
        .knowing("/api/v1/models name", &[json!("m")])
        .knowing("post /api/v1/models name", &[json!("n-1"), json!("n-2"), json!("m")])
        .knowing("post /api/v1/models/{name}/rename name", &[json!("n-1"), json!("n-2")])
        .knowing("new_name", &[json!("n-3"), json!("n-1"), json!("m")])
        .knowing("version", &[json!("1"), json!("1"), json!("2")])
        .knowing("alias", &[json!("champion")])
        .knowing("source", &[json!(format!("models:/{}", seeds.model_id))])
        .knowing("model_id", &[json!(seeds.model_id), json!(null)])
        .knowing("post /api/v1/models/{name}/versions run_id", &[json!(null)])
        .knowing("/api/v1/models/{name}/versions/{version}/artifacts path", &[json!("MLmodel")])
        .knowing("get /api/v1/models/{name}/versions/{version}/artifacts path", &[json!(".")])
        .knowing("format", &[json!("json"), json!("markdown")])
        .knowing("by", &[json!("ada")])
        .knowing("rules", &[rules, json!([])])
        .knowing("pem", &[json!(PUBLIC_KEY)])
        .knowing("/api/v1/signing-keys name", &[json!("release")])
        .knowing("/api/v1/models/{name}/versions/{version}/reports id", &[json!(seeds.report)])
        .knowing("rows", &[json!(100)])
        .knowing("segments", &[json!([])])
        .knowing("/api/v1/models/{name}/versions/{version}/reports metrics", &[json!({"accuracy": 0.5})])
        .knowing("latency", &[json!(null), json!({"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0})])
        .knowing("dataset", &[json!({"name": "d", "digest": "x"})])
        .knowing("put /api/v1/models/{name}/versions/{version}/signature ", &[signature])
}

fn operation(contract: Contract, seeds: &Seeds) -> Contract {
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    contract
        .knowing("/api/v1/webhooks name", &[json!("hook")])
        .knowing("post /api/v1/webhooks name", &[json!("w-1"), json!("w-2"), json!("hook")])
        .knowing("uri", &[json!(format!("{OUTSIDE}m.onnx")), json!(format!("{OUTSIDE}n.onnx"))])
        .knowing("/api/v1/models/{name}/imports id", &[json!(seeds.import)])
        .knowing("url", &[json!(RECEIVER)])
        .knowing("events", &[json!(["slipway.registry.alias.*"])])
        .knowing("secret", &[json!(secret), json!(null)])
        .knowing("overlap_s", &[json!(60)])
        .knowing("/api/v1/webhooks/{name}/deliveries id", &[json!(seeds.delivery)])
        .knowing("/api/v1/retention-rules name", &[json!("old")])
        .knowing(
            "put /api/v1/retention-rules/{name} ",
            &[json!({"for": {"scope": "all"}, "after_days": 30, "action": "archive"})],
        )
        .knowing("after_days", &[json!(30)])
        .knowing("keep_last", &[json!(5), json!(null)])
        .knowing("keep_best", &[json!(null)])
        .knowing("/api/v1/tokens id", &[json!(seeds.token)])
        .knowing("post /api/v1/tokens name", &[json!("t-2")])
        .knowing("principal", &[json!("ann")])
        .knowing("expires_in_s", &[json!(3600)])
        .knowing("subject", &[json!("ann"), json!("group:team")])
        .knowing("scope", &[json!("*"), json!("model:m"), json!("experiment:0")])
        .knowing("role", &[json!("viewer")])
        .knowing("type", &[json!("slipway.registry.*"), json!("slipway.registry.alias.set")])
        .knowing("since", &[json!("2026-01-02T03:04:05Z")])
        .knowing("until", &[json!("2099-01-02T03:04:05Z")])
        .knowing("grace_s", &[json!(86_400)])
        .knowing("older_than_s", &[json!(0)])
        .knowing("limit", &[json!(10)])
        .knowing("page_token", &[json!(null)])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_is_as_the_document_says() {
    let world = World::importing_with(OUTSIDE, &[]).await;
    let seeds = world.seeded().await;
    let contract = Contract::of(&world.url);
    let contract = operation(models(tracking(contract, &seeds), &seeds), &seeds);
    // These need what an earlier request left: a deleted experiment, a model that nothing uses; or a token of
    // their own.
    contract.run().await.require(&[
        "post /api/v1/experiments/{experiment_id}/restore",
        "post /api/v1/models/{name}/rename",
        "put /api/v1/imports/{id}/files",
        "post /api/v1/imports/{id}/complete",
    ]);
}
