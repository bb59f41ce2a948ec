//! What a user does with the platform, and what must hold afterwards.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::engine;
use super::platform::{CONTAINERS, Platform};
use crate::build::root;
use crate::progress::step;

const ROW: &str = "[[14, 79.5, 3, 0]]";
/// Shorter steps than the default, of 60 s each.
const STRATEGY: &str = r#"{"steps": [{"weight_percent": 50, "hold_s": 2}]}"#;
const ROLLOUT_LIMIT: Duration = Duration::from_secs(180);
const REQUEST_PAUSE: Duration = Duration::from_millis(20);
/// After a restart of a server, services connect again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// The image has no shell and no other program than its own.
const JOB: &str = r#"{"name": "hello", "command": ["/usr/local/bin/slipway-agent", "--help"]}"#;

/// All of it.
pub(super) fn run(platform: &Platform<'_>, python: &Path) -> anyhow::Result<()> {
    step("compose: every container is healthy", || platform.up())?;
    step("compose: callers without credentials are refused", || refusals(platform))?;
    step("compose: the quickstart of the README", || quickstart(platform, python))?;
    step("compose: a job in the launcher's container", || job(platform))?;
    let before = state(platform)?;
    for service in CONTAINERS {
        step(&format!("compose: restart {service}"), || {
            platform.restart(service)?;
            eventually(|| unchanged(platform, &before))
        })?;
    }
    step("compose: down and up with the data intact", || {
        platform.down()?;
        platform.up()?;
        eventually(|| unchanged(platform, &before))
    })
}

/// Without a token, a registry token at serving, or a signature for S3.
fn refusals(platform: &Platform<'_>) -> anyhow::Result<()> {
    for (key, path) in [("registry", "/api/v1/models"), ("serving_http", "/v2/models/churn")] {
        let url = format!("{}{path}", platform.url(key));
        let status = engine::text(Command::new("curl").args(["--silent", "--output", "/dev/null"]).args([
            "--write-out",
            "%{http_code}",
            &url,
        ]))?;
        ensure!(status == "401", "{url} without a token: expected 401, found {status}");
    }
    let unsigned = platform.exec("s3", &["wget", "-q", "-O", "-", "http://127.0.0.1:8333/slipway"]);
    let refused = unsigned.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(refused.contains("403"), "a request to S3 without a signature: expected 403, found {refused:?}");
    let shell = platform.exec("registry", &["sh", "-c", "true"]);
    ensure!(shell.is_err(), "the image of the registry has a shell");
    Ok(())
}

fn quickstart(platform: &Platform<'_>, python: &Path) -> anyhow::Result<()> {
    for trees in ["60", "200"] {
        train(platform, python, trees)?;
    }
    let create = ["deployments", "create", "churn", "--model", "churn", "--version", "1"];
    platform.run(&[&create[..], &["--watch-alias", "champion"]].concat())?;
    ensure!(served_version(platform)? == "1", "version 1 does not answer");
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), STRATEGY)?;
    let strategy = file.path().to_string_lossy().into_owned();
    platform.run(&["deployments", "update", "churn", "--strategy", &strategy])?;
    platform.run(&["models", "set-alias", "churn", "champion", "2"])?;
    let started = Instant::now();
    while !is_promoted(platform, "2")? {
        if started.elapsed() > ROLLOUT_LIMIT {
            bail!("version 2 was not promoted: {}", platform.slipway(&["rollouts", "list"])?);
        }
        served_version(platform)?;
        std::thread::sleep(REQUEST_PAUSE);
    }
    ensure!(served_version(platform)? == "2", "version 2 does not answer after its promotion");
    Ok(())
}

/// Trains and registers the next version with the unmodified script and client.
fn train(platform: &Platform<'_>, python: &Path, trees: &str) -> anyhow::Result<()> {
    let mut script = Command::new(python);
    script.arg(root().join("examples/quickstart/train_churn.py")).args(["--trees", trees]);
    script.env("MLFLOW_TRACKING_URI", platform.url("registry")).env("MLFLOW_TRACKING_TOKEN", &platform.token);
    script.env("MLFLOW_DISABLE_TELEMETRY", "true").env("GIT_PYTHON_REFRESH", "quiet");
    engine::text(&mut script).map(drop)
}

/// The version that answers a request.
fn served_version(platform: &Platform<'_>) -> anyhow::Result<String> {
    let answer = platform.slipway(&["predict", "churn", ROW])?;
    let version = answer["model_version"].as_str();
    Ok(version.with_context(|| format!("a prediction without a version: {answer}"))?.to_owned())
}

/// Whether the newest rollout is that of a version, and has ended with its promotion.
fn is_promoted(platform: &Platform<'_>, version: &str) -> anyhow::Result<bool> {
    let rollouts = platform.slipway(&["rollouts", "list", "--deployment", "churn"])?;
    let newest = &rollouts["rollouts"][0];
    Ok(newest["to_version"] == version && newest["phase"] == "promoted")
}

fn job(platform: &Platform<'_>) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), JOB)?;
    let job = platform.slipway(&["jobs", "submit", &file.path().to_string_lossy(), "--wait"])?;
    ensure!(job["status"] == "succeeded", "the job did not succeed: {job}");
    Ok(())
}

/// What must survive: models with their versions and aliases, rollouts, jobs, and a prediction.
fn state(platform: &Platform<'_>) -> anyhow::Result<Value> {
    let prediction = platform.slipway(&["predict", "churn", ROW])?;
    Ok(serde_json::json!({
        "models": platform.slipway(&["models", "list"])?,
        "rollouts": platform.slipway(&["rollouts", "list"])?,
        "jobs": platform.slipway(&["jobs", "list"])?,
        "version": prediction["model_version"],
        "outputs": prediction["outputs"],
    }))
}

fn unchanged(platform: &Platform<'_>, before: &Value) -> anyhow::Result<()> {
    let now = state(platform)?;
    ensure!(now == *before, "the platform has other data than before:\n{before}\n{now}");
    Ok(())
}

/// Tries until it holds.
fn eventually(mut check: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        match check() {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() > RECOVERY_LIMIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}
