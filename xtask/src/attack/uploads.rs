//! Someone who may upload models: files that run code or crash serving are not called safe, and serving goes
//! on.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

use super::Door;
use super::platform::Platform;
use crate::build::root;

/// One line of the script.
#[derive(Debug, Deserialize)]
struct Attempt {
    door: String,
    open: Option<String>,
}

pub(super) fn doors(platform: &Platform, python: &Path) -> anyhow::Result<Vec<Door>> {
    let output = Command::new(python)
        .arg(root().join("xtask/src/attack/uploads.py"))
        .env("SLIPWAY_ENDPOINTS", platform.data_dir.join("endpoints.json"))
        .env("MLFLOW_TRACKING_TOKEN", &platform.admin_token)
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("DO_NOT_TRACK", "true")
        .env("GIT_PYTHON_REFRESH", "quiet")
        .output()
        .context("cannot start Python")?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success(),
        "uploads.py: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let mut doors: Vec<Door> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let attempt: Attempt =
            serde_json::from_str(line).with_context(|| format!("uploads.py printed {line}"))?;
        match doors.iter_mut().find(|door| door.name == attempt.door) {
            Some(door) => door.attempt(attempt.open),
            None => {
                let mut door = Door::new(&attempt.door);
                door.attempt(attempt.open);
                doors.push(door);
            }
        }
    }
    anyhow::ensure!(!doors.is_empty(), "uploads.py made no attempt:\n{text}");
    Ok(doors)
}
