//! A team that registers versions and moves the alias that a deployment follows.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;

use super::client::{Body, Client, Request};
use crate::chaos::board::now_ms;
use crate::chaos::faults::{Server, Service};
use crate::chaos::journal::Move;

/// The model and its deployment.
pub(in crate::chaos) const MODEL: &str = "chaos";
/// See [`MODEL`].
pub(in crate::chaos) const DEPLOYMENT: &str = "chaos";
/// The monitor of its inputs.
pub(in crate::chaos) const MONITOR: &str = "chaos";
/// What an operation on files needs.
pub(in crate::chaos) const FILES: &[Server] = &[Server::Postgres, Server::S3];
const ALIAS: &str = "champion";
/// A classifier whose score is the weight times the first feature, plus half of the second one.
const FIXTURE: &[u8] = include_bytes!("../../../../crates/testkit/fixtures/right-1.onnx");
/// A rollout that has not ended by then is superseded by the next one.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(25);
const LOOK_MS: u64 = 500;
const FIRST_LIMIT: Duration = Duration::from_secs(60);

/// The fixture with another weight: the score of an input `[1, 0]` is the version.
fn onnx(version: u32) -> Vec<u8> {
    let weights = |first: f32| [first.to_le_bytes(), 0.5f32.to_le_bytes()].concat();
    let (old, new) = (weights(1.0), weights(version as f32));
    let mut bytes = FIXTURE.to_vec();
    if let Some(at) = bytes.windows(old.len()).position(|window| window == old)
        && let Some(place) = bytes.get_mut(at..at + old.len())
    {
        place.copy_from_slice(&new);
    }
    bytes
}

/// Registers the first version, deploys it, and waits until it answers.
pub(super) async fn deploy(client: &Client, seed: u64) -> anyhow::Result<()> {
    let mlflow = |path: &str, body| Request::post(Service::Registry, format!("/api/2.0/mlflow/{path}"), body);
    let model = mlflow("registered-models/create", json!({"name": MODEL}));
    client.change("create a model", &model).await.context("the model was not created")?;
    profile(client, seed).await.context("the profile was not logged")?;
    register(client, 1, seed).await.context("version 1 was not registered")?;
    let strategy = json!({
        "steps": [{"weight_percent": 20, "hold_s": 1.0}, {"weight_percent": 50, "hold_s": 1.0}],
        "analysis": {
            "min_requests": 3, "max_error_rate": 1.0, "max_error_rate_delta": 1.0,
            "max_p95_latency_ratio": 1000.0, "max_divergence": 1.0, "max_prediction_shift": 1.0,
            "max_same_input_divergence": 1.0, "interval_ms": 250, "max_inconclusive_s": 3600,
        },
        "prepare_timeout_s": 600,
    });
    let body = json!({"name": DEPLOYMENT, "model": MODEL, "version": "1", "watch_alias": ALIAS,
        "default_strategy": strategy});
    let deployment = Request::post(Service::RolloutController, "/api/v1/deployments", body);
    client.change("create the deployment", &deployment).await.context("the deployment was not created")?;
    let started = Instant::now();
    while phase(client, 1).await.as_deref() != Some("promoted") {
        anyhow::ensure!(started.elapsed() < FIRST_LIMIT, "version 1 was not promoted");
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    // Replicas follow the table within moments.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Calls a receiver at each move of an alias.
pub(super) async fn hook(client: &Client, url: &str) -> anyhow::Result<()> {
    let body = json!({"name": "chaos", "url": url, "events": ["slipway.registry.alias.>"]});
    let hook = Request::post(Service::Registry, "/api/v1/webhooks", body);
    client.change("create a webhook", &hook).await.context("the webhook was not created")?;
    Ok(())
}

/// Monitors the inputs of the deployment, in small windows. A job is submitted when they drift.
pub(super) async fn monitor(client: &Client) -> anyhow::Result<()> {
    let job = json!({"name": "retrain", "command": ["true"],
        "resources": {"cpus": 1.0, "memory_bytes": 0, "gpus": 0},
        "retries": {"limit": 30, "backoff_initial_ms": 200, "backoff_max_ms": 1000}});
    let body = json!({"name": MONITOR, "deployment": DEPLOYMENT, "model": MODEL, "baseline_version": "1",
        "window": {"rows": 100, "max_s": 20}, "cool_down_s": 0.0,
        "on_drift": [{"action": "submit-job", "job": job}]});
    let monitor = Request::post(Service::DriftMonitor, "/api/v1/monitors", body);
    client.change("create a monitor", &monitor).await.context("the monitor was not created")?;
    Ok(())
}

fn profiled_run(seed: u64) -> String {
    format!("{seed:016x}{:016x}", u64::MAX)
}

/// Logs the profile of the inputs that the predictions have.
async fn profile(client: &Client, seed: u64) -> Option<()> {
    let run = profiled_run(seed);
    let create = json!({"experiment_id": "0", "run_id": run, "start_time": now_ms()});
    let create = Request::post(Service::Registry, "/api/2.0/mlflow/runs/create", create);
    client.change("create a run", &create).await?;
    let feature = |name: &str, value: f64| {
        json!({"name": name, "kind": "numeric", "missing_rate": 0.0, "min": value, "max": value,
            "edges": [], "counts": [100], "sample": [value]})
    };
    let profile = json!({"schema": "slipway.profile/1", "rows": 100,
        "features": [feature("first", 1.0), feature("second", 0.0)],
        "predictions": [{"name": "label", "kind": "categorical", "values": ["1"], "counts": [100]}]});
    let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/slipway/profile.json");
    let body = Body::Bytes(profile.to_string().into_bytes());
    let upload = Request { service: Service::Registry, method: Method::PUT, path, body, needs: FILES };
    client.change("upload a file", &upload).await.map(|_| ())
}

/// Registers versions and moves the alias to them until the load stops.
pub(super) async fn roll_out(client: Client, seed: u64) {
    for version in 2u32.. {
        // A version that was not registered is noted; the next one gets another number.
        if register(&client, version, seed).await.is_some() && set_alias(&client, version).await.is_some() {
            let started = Instant::now();
            while started.elapsed() < ROLLOUT_LIMIT && !client.stopped() {
                let phase = phase(&client, version).await;
                if matches!(phase.as_deref(), Some("promoted" | "rolled_back" | "failed" | "aborted")) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        }
        if !client.pause(LOOK_MS).await {
            return;
        }
    }
}

/// Logs a model and creates a version of it.
async fn register(client: &Client, version: u32, seed: u64) -> Option<()> {
    let post = |path: &str, body| Request::post(Service::Registry, format!("/api/2.0/mlflow/{path}"), body);
    let id = format!("m-{seed:016x}{version:016x}");
    let logged = json!({"experiment_id": "0", "name": "model", "model_id": id});
    client.change("log a model", &post("logged-models", logged)).await?;
    let described = b"flavors:\n  onnx:\n    data: model.onnx\n    onnx_version: 1.19.0\n".to_vec();
    for (name, bytes) in [("MLmodel", described), ("model.onnx", onnx(version))] {
        let path = format!("/api/2.0/mlflow-artifacts/artifacts/0/models/{id}/artifacts/{name}");
        let (service, method, body) = (Service::Registry, Method::PUT, Body::Bytes(bytes.clone()));
        let upload = Request { service, method, path: path.clone(), body, needs: FILES };
        client.change("upload a file", &upload).await?;
        client.journal().lock().files.insert(path, bytes);
    }
    let ready = json!({"model_id": id, "status": "LOGGED_MODEL_READY"});
    let finalize = Request { method: Method::PATCH, ..post(&format!("logged-models/{id}"), ready) };
    client.change("finalize a model", &finalize).await?;
    // The first one is the baseline of the monitor.
    let run = (version == 1).then(|| profiled_run(seed));
    let body = json!({"name": MODEL, "source": format!("models:/{id}"), "model_id": id,
        "version": version.to_string(), "run_id": run});
    let create = Request { needs: FILES, ..post("model-versions/create", body) };
    client.change("create a version", &create).await?;
    client.journal().lock().versions.push(version);
    Some(())
}

async fn set_alias(client: &Client, version: u32) -> Option<()> {
    let body = json!({"name": MODEL, "alias": ALIAS, "version": version.to_string()});
    let set = Request::post(Service::Registry, "/api/2.0/mlflow/registered-models/alias", body);
    client.change("move the alias", &set).await?;
    client.journal().lock().moves.push(Move { version, at_ms: now_ms() });
    Some(())
}

/// The phase of the newest rollout to a version.
async fn phase(client: &Client, version: u32) -> Option<String> {
    let list = Request::get(Service::RolloutController, format!("/api/v1/rollouts?deployment={DEPLOYMENT}"));
    let answer = client.send("list rollouts", &list).await?;
    let rollouts = answer.body["rollouts"].as_array().cloned().unwrap_or_default();
    let version = version.to_string();
    let found = rollouts.into_iter().find(|rollout| rollout["to_version"] == version);
    Some(found?["phase"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_a_weight_of_its_own() {
        assert_eq!(onnx(1), FIXTURE);
        let differing =
            |version| onnx(version).iter().zip(FIXTURE).filter(|(one, other)| one != other).count();
        for version in 2..50 {
            assert!((1..=4).contains(&differing(version)), "{version}");
        }
    }
}
