//! A training job: a command that its submitter chose, which looks for what it was not given.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Door;
use super::local::secrets_of;
use super::platform::Platform;

/// What the job prints about itself and what it can read of others.
const SPY: &str = r#"
echo "uid=$(id -u)"
env
cat "$DATA"/credentials.json "$DATA"/admin-token "$DATA"/endpoints.json "$DATA"/*/*.conf "$DATA"/*/*.json
for process in /proc/[0-9]*; do
  [ "$process" = "/proc/$$" ] || tr '\0' '\n' < "$process/environ"
done
echo "token=$MLFLOW_TRACKING_TOKEN"
"#;

pub(super) async fn doors(platform: &Platform) -> anyhow::Result<Vec<Door>> {
    let log = spy(platform).await?;
    let token =
        log.lines().find_map(|line| line.strip_prefix("token=")).unwrap_or_default().trim().to_owned();
    Ok(vec![surroundings(platform, &log, &token)?, rights(platform, &token).await?])
}

/// Runs the job and returns what it printed.
async fn spy(platform: &Platform) -> anyhow::Result<String> {
    let body = json!({"name": "attack", "command": ["sh", "-c", SPY], "env": {"DATA": platform.data_dir}});
    let made = platform.as_admin(Method::POST, "launcher", "/api/v1/jobs").json(&body).send().await?;
    let made: Value = made.error_for_status()?.json().await?;
    let path = format!("/api/v1/jobs/{}", made["id"].as_str().context("the launcher's answer has no id")?);
    for _ in 0..300 {
        let job: Value = platform.as_admin(Method::GET, "launcher", &path).send().await?.json().await?;
        if matches!(job["status"].as_str(), Some("succeeded" | "failed")) {
            let log = platform.as_admin(Method::GET, "launcher", &format!("{path}/logs")).send().await?;
            return Ok(log.text().await?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the job did not end within 30 s")
}

fn surroundings(platform: &Platform, log: &str, token: &str) -> anyhow::Result<Door> {
    let mut door = Door::new("training job: secrets of the platform");
    anyhow::ensure!(log.contains("uid="), "the job printed nothing: {log}");
    for secret in secrets_of(platform)? {
        door.attempt(
            (secret != token && log.contains(&secret))
                .then(|| "the job reads a secret of the platform".to_owned()),
        );
    }
    door.attempt((token == platform.admin_token).then(|| "its token is the administrator's".to_owned()));
    if nix::unistd::geteuid().is_root() {
        door.attempt(log.contains("uid=0\n").then(|| "it runs as root".to_owned()));
    } else {
        door.left_out = Some("another account for jobs needs root".to_owned());
    }
    Ok(door)
}

/// A job's token is of use for its run, and for nothing more.
async fn rights(platform: &Platform, token: &str) -> anyhow::Result<Door> {
    let mut door = Door::new("training job: rights of its token");
    let grant = json!({"subject": "attack", "role": "admin", "scope": "*"});
    let alias = json!({"name": "attack-ours", "alias": "champion", "version": "1"});
    for (method, path, body) in [
        (Method::PUT, "/api/v1/grants", grant),
        (Method::POST, "/api/v1/tokens", json!({"name": "attack", "principal": "attack"})),
        (Method::POST, "/api/v1/purge", json!({"dry_run": true})),
        (Method::POST, "/api/2.0/mlflow/registered-models/alias", alias),
    ] {
        let answer = platform.as_bearer(token, method.clone(), "registry", path).json(&body).send().await?;
        let refused = matches!(answer.status(), StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED);
        door.attempt((!refused).then(|| format!("{method} {path}: {}", answer.status())));
    }
    Ok(door)
}
