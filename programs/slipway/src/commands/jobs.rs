//! `slipway jobs`.

use anyhow::bail;
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::commands::context::{Context, Paging, read_json};
use crate::commands::follow::Watch;
use crate::output;

/// See `slipway jobs --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists jobs, newest first.
    List {
        /// Only jobs with this status: queued, running, retrying, cancelling, succeeded, failed or
        /// cancelled.
        #[arg(long)]
        status: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Shows a job and its attempts.
    Show {
        /// Job ID.
        job: String,
    },
    /// Submits a job.
    Submit {
        /// JSON file with the job, or `-` for standard input.
        file: String,
        /// Waits until the job ends. Exit code 0 if it succeeded, 1 otherwise.
        #[arg(long)]
        wait: bool,
    },
    /// Cancels a job: sends SIGTERM, then SIGKILL after the grace period.
    Cancel {
        /// Job ID.
        job: String,
    },
    /// Prints the output of a job. In a terminal, escape sequences and other control characters are escaped.
    Logs {
        /// Job ID.
        job: String,
        /// Only this attempt [default: all].
        #[arg(long, value_name = "N")]
        attempt: Option<u32>,
        /// Continues until the attempt ends.
        #[arg(long, short)]
        follow: bool,
        /// Prints the output unchanged in a terminal as well.
        #[arg(long)]
        raw: bool,
    },
    /// Lists the committed checkpoints of a job.
    Checkpoints {
        /// Job ID.
        job: String,
    },
    /// Shows the CPU cores, memory and GPUs of the launcher, and what running jobs use of them.
    Capacity,
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let launcher = context.launcher()?;
    let jobs = ["api", "v1", "jobs"];
    match command {
        Command::List { status, paging } => {
            let mut query = paging.query();
            query.extend(status.map(|status| ("status", status)));
            let columns = [
                ("JOB", "id"),
                ("NAME", "name"),
                ("STATUS", "status"),
                ("ATTEMPT", "attempt"),
                ("CHECKPOINT", "checkpoint_step"),
                ("REASON", "reason"),
            ];
            output::list(context.json, &launcher.get(&jobs, &query).await?, "jobs", &columns);
        }
        Command::Show { job } => {
            show(context.json, &launcher.get(&["api", "v1", "jobs", &job], &[]).await?);
        }
        Command::Submit { file, wait } => {
            let submitted = launcher.send(Method::POST, &jobs, Some(&read_json(&file)?)).await?;
            if !wait {
                show(context.json, &submitted);
                return refused(&submitted);
            }
            let id = output::cell(&submitted, "id");
            let ended = ended(&launcher, &id).await?;
            show(context.json, &ended);
            if ended.get("status").and_then(Value::as_str) != Some("succeeded") {
                bail!("job {id} {}: {}", output::cell(&ended, "status"), output::cell(&ended, "reason"));
            }
        }
        Command::Cancel { job } => {
            let answer = launcher.send(Method::POST, &["api", "v1", "jobs", &job, "cancel"], None).await?;
            show(context.json, &answer);
        }
        Command::Logs { job, attempt, follow, raw } => {
            let mut query = vec![("follow", follow.to_string())];
            query.extend(attempt.map(|attempt| ("attempt", attempt.to_string())));
            output::end_with_reader();
            let mut log = output::Log::new(raw);
            launcher.stream(&["api", "v1", "jobs", &job, "logs"], &query, &mut log).await?;
        }
        Command::Capacity => {
            output::object(context.json, &launcher.get(&["api", "v1", "capacity"], &[]).await?);
        }
        Command::Checkpoints { job } => {
            let answer = launcher.get(&["api", "v1", "jobs", &job, "checkpoints"], &[]).await?;
            let columns = [
                ("STEP", "step"),
                ("ATTEMPT", "attempt"),
                ("ENTRIES", "entries"),
                ("COMMITTED", "created_at"),
                ("MANIFEST", "manifest_key"),
            ];
            output::list(context.json, &answer, "checkpoints", &columns);
        }
    }
    Ok(())
}

/// The job after it ended.
async fn ended(launcher: &Client, id: &str) -> anyhow::Result<Value> {
    let mut watch = Watch::new(launcher, ["api", "v1", "jobs", id]);
    loop {
        let job = watch.read().await?;
        let is_over = |job: &Value| {
            matches!(output::cell(job, "status").as_str(), "succeeded" | "failed" | "cancelled")
        };
        if let Some(job) = job.filter(is_over) {
            return Ok(job);
        }
        Watch::pause().await;
    }
}

/// Prints a job, its state first.
fn show(as_json: bool, job: &Value) {
    let first = ["id", "name", "status", "reason", "attempt", "checkpoint_step", "created_at", "updated_at"];
    output::object_in_order(as_json, job, &first);
}

/// A job that its launcher cannot run is an error of the submission.
fn refused(submitted: &Value) -> anyhow::Result<()> {
    if submitted.get("status").and_then(Value::as_str) == Some("failed") {
        bail!("job {} is refused: {}", output::cell(submitted, "id"), output::cell(submitted, "reason"));
    }
    Ok(())
}
