//! Reports, approvals, and policies over everything that is known of a version.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{MODEL, World};

/// A report of this accuracy, of which the old have so much less.
fn report(accuracy: f64, gap: f64) -> Value {
    json!({
        "name": "holdout", "dataset": {"name": "cancer", "digest": "sha256:d1"}, "rows": 400,
        "metrics": {"accuracy": accuracy}, "latency": {"p50_ms": 1.5, "p95_ms": 4, "p99_ms": 9.25},
        "segments": [
            {"attribute": "age", "value": "<60", "rows": 300, "metrics": {"accuracy": accuracy}},
            {"attribute": "age", "value": "60+", "rows": 90, "metrics": {"accuracy": accuracy - gap}},
            {"attribute": "age", "value": "unknown", "rows": 10, "metrics": {"accuracy": 0.0}},
        ],
        "source": "https://ci.example/42",
    })
}

impl World {
    async fn post_report(&self, version: &str, report: &Value) -> Value {
        let path = format!("models/m/versions/{version}/reports");
        let (status, answer) = self.api(Method::POST, &path, report.clone()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer
    }

    async fn new_version(&self) -> String {
        let model = self.onnx_model(MODEL).await;
        self.version("m", &model).await.1["model_version"]["version"].as_str().unwrap().to_owned()
    }

    async fn approve(&self, version: &str, by: &str) -> StatusCode {
        let path = format!("models/m/versions/{version}/approvals");
        self.api(Method::POST, &path, json!({"by": by, "comment": "looked at it"})).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_kept_as_it_was_with_its_gaps() {
    let world = World::begin().await;
    let version = world.new_version().await;
    let made = world.post_report(&version, &report(0.75, 0.25)).await;
    assert_eq!(made["gaps"][0]["gap"], 0.25, "{made}");
    assert_eq!((&made["gaps"][0]["least_at"], &made["gaps"][0]["left_out"]), (&json!("60+"), &json!(1)));
    let mut other = report(0.5, 0.0);
    other["name"] = "stress".into();
    world.post_report(&version, &other).await;
    world.post_report(&version, &report(0.875, 0.0)).await;

    let path = format!("/api/v1/models/m/versions/{version}/reports");
    let shown = world.get(&format!("{path}/{}", made["id"].as_str().unwrap())).await;
    assert_eq!(shown, made, "what was posted first is what it was");
    let page = world.get(&format!("{path}?name=holdout&limit=1")).await;
    assert_eq!(page["reports"][0]["metrics"]["accuracy"], 0.875, "the newest first: {page}");
    let token = page["next_page_token"].as_str().unwrap();
    let rest = world.get(&format!("{path}?name=holdout&limit=1&page_token={token}")).await;
    assert_eq!((&rest["reports"][0]["id"], rest.get("next_page_token")), (&made["id"], None));
    assert_eq!(world.get(&path).await["reports"].as_array().unwrap().len(), 3);
    assert_eq!(world.events("slipway.registry.report.added", 3).await.len(), 3);

    let path = format!("models/m/versions/{version}/reports");
    for (pointer, value, field) in [
        ("/rows", json!(0), "rows"),
        ("/metrics/accuracy", json!("high"), "metrics.accuracy"),
        ("/segments/0/rows", json!(401), "segments[0].rows"),
    ] {
        let mut wrong = report(0.5, 0.0);
        *wrong.pointer_mut(pointer).unwrap() = value;
        let (status, problem) = world.api(Method::POST, &path, wrong).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    let absent = world.api(Method::POST, "models/m/versions/9/reports", report(0.5, 0.0)).await;
    assert_eq!(absent.0, StatusCode::NOT_FOUND, "{}", absent.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_weighs_reports_approvals_the_card_and_the_signature() {
    let world = World::begin().await;
    let (first, second) = (world.new_version().await, world.new_version().await);
    let policy = json!({"rules": [
        {"rule": "report-metric-at-least", "report": "holdout", "metric": "accuracy", "value": 0.8},
        {"rule": "report-metric-at-most", "report": "holdout", "metric": "latency.p95_ms", "value": 5},
        {"rule": "not-worse-than-current", "report": "holdout", "metric": "accuracy", "tolerance": 0.0625},
        {"rule": "fairness-gap-at-most", "report": "holdout", "attribute": "age", "metric": "accuracy",
            "value": 0.1},
        {"rule": "any-of", "rules": [{"rule": "signed"}, {"rule": "approved", "by_at_least": 2}]},
        {"rule": "card-complete", "fields": ["description", "metrics", "report"]},
    ]});
    let (status, answer) = world.api(Method::PUT, "models/m/policies/champion", policy.clone()).await;
    assert_eq!((status, &answer["rules"].as_array().unwrap().len()), (StatusCode::OK, &6), "{answer}");

    let set = async |version: &str| {
        let body = json!({"name": "m", "alias": "champion", "version": version});
        let (status, answer) = world.try_call(Method::POST, "registered-models/alias", body).await;
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    world.post_report(&first, &report(0.75, 0.25)).await;
    world.approve(&first, "ada").await;
    let (status, message) = set(&first).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    for part in [
        "metric accuracy of report holdout is 0.75, at least 0.8 is required",
        "the gap of accuracy by age is 0.25 (0.5 at '60+', 0.75 at '<60'), at most 0.1 is allowed",
        "none of 2 alternatives holds: (not validly signed: it has no signature) or (approved by ada: 1 of \
         2; access control is off, so the names are not verified)",
        "its card lacks description, metrics",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert!(!message.contains("latency"), "what holds is no reason: {message}");

    for version in [&first, &second] {
        world.approve(version, "ada").await;
        world.approve(version, "bob").await;
        let described = json!({"name": "m", "version": version, "description": "Who leaves?"});
        world.call(Method::PATCH, "model-versions/update", described).await;
        let run = world.get(&format!("/api/v1/models/m/versions/{version}")).await["run_id"].clone();
        world
            .post("runs/log-metric", json!({"run_id": run, "key": "loss", "value": 0.1, "timestamp": 1}))
            .await;
    }
    world.post_report(&first, &report(0.9375, 0.0)).await;
    assert_eq!(set(&first).await, (StatusCode::OK, String::new()), "the newest report of a name counts");
    world.post_report(&second, &report(0.8125, 0.0)).await;
    let (_, message) = set(&second).await;
    assert!(
        message.contains("is 0.8125, at least 0.875 is required: the current version has 0.9375"),
        "{message}"
    );
    world.post_report(&second, &report(0.875, 0.0)).await;
    let check = world.get(&format!("/api/v1/models/m/versions/{second}/promotion?alias=champion")).await;
    assert_eq!(
        (&check["allowed"], &check["rules"][4]["within"][1]["passed"]),
        (&json!(true), &json!(true)),
        "{check}"
    );
    let withdrawn = format!("models/m/versions/{second}/approvals/bob");
    assert_eq!(world.api(Method::DELETE, &withdrawn, Value::Null).await.0, StatusCode::OK);
    assert_eq!(set(&second).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_approve_once_and_not_what_they_made() {
    let world = World::begin().await;
    let version = world.new_version().await;
    assert_eq!(world.approve(&version, "ada").await, StatusCode::CREATED);
    assert_eq!(world.approve(&version, "ada").await, StatusCode::OK, "approved is approved");
    assert_eq!(world.approve(&version, " ").await, StatusCode::BAD_REQUEST);
    assert_eq!(world.approve("9", "ada").await, StatusCode::NOT_FOUND);
    let run = world.post("runs/create", json!({"experiment_id": "0", "user_id": "eve"})).await;
    let run = run["run"]["info"]["run_id"].clone();
    let made = json!({"experiment_id": "0", "name": "model", "source_run_id": run});
    let model =
        world.post("logged-models", made).await["model"]["info"]["model_id"].as_str().unwrap().to_owned();
    world.put_file(&format!("0/models/{model}/artifacts/model.onnx"), MODEL).await;
    let own = world.version("m", &model).await.1["model_version"]["version"].as_str().unwrap().to_owned();
    world.approve(&own, "eve").await;
    world.approve(&own, "bob").await;
    let two = json!({"rules": [{"rule": "approved", "by_at_least": 2}]});
    world.api(Method::PUT, "models/m/policies/champion", two).await;
    let check = world.get(&format!("/api/v1/models/m/versions/{own}/promotion?alias=champion")).await;
    let detail = check["rules"][0]["detail"].as_str().unwrap();
    assert!(detail.starts_with("approved by bob: 1 of 2 (eve made it, which does not count)"), "{detail}");
    let page = world.get(&format!("/api/v1/models/m/versions/{own}/approvals?limit=1")).await;
    assert_eq!((&page["approvals"][0]["by"], page["next_page_token"].is_string()), (&json!("bob"), true));
    let events = world.events("slipway.registry.approval.added", 3).await;
    assert_eq!(events.len(), 3, "asking again is no news");
}
