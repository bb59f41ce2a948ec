//! `slipway jobs`.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use futures::StreamExt as _;
use serde_json::json;
use slipway_api::rest::launcher::{Job, JobResumption, JobSpec, JobStatus, JobsQuery, LogsQuery};
use slipway_client::{Error, Launcher};

use crate::commands::context::{Context, Paging};
use crate::commands::follow::Watch;
use crate::output::{self, outln};

mod submission;

const STANDARD_INPUT: &str = "-";

/// See `slipway jobs --help`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists jobs, newest first.
    List {
        /// Only jobs with this status: queued, pending, running, retrying, cancelling, suspending, suspended,
        /// succeeded, failed or cancelled.
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
    /// Submits a job. A `batch/v1` Job, and Kubeflow's PyTorchJob, TFJob and TrainJob are converted; fields
    /// without a counterpart are listed.
    Submit {
        /// JSON or YAML file with the job, or `-` for standard input.
        #[arg(required_unless_present = "manifest")]
        file: Option<String>,
        /// Same as FILE.
        #[arg(long = "filename", short = 'f', value_name = "FILE", conflicts_with = "file")]
        manifest: Option<String>,
        /// Prints the job as it would be submitted, in JSON, and does not submit it.
        #[arg(long)]
        dry_run: bool,
        /// Waits until the job ends. Exit code 0 if it succeeded, 1 otherwise.
        #[arg(long)]
        wait: bool,
    },
    /// Cancels a job: sends SIGTERM, then SIGKILL after the grace period.
    Cancel {
        /// Job ID.
        job: String,
    },
    /// Suspends a job: stops its attempt as `cancel` does, and releases its CPU cores, memory and GPUs until
    /// the job is resumed.
    Suspend {
        /// Job ID.
        job: String,
    },
    /// Resumes a suspended job from its newest checkpoint.
    Resume {
        /// Job ID.
        job: String,
        /// Number of processes of a distributed job in this role; can be repeated, and replaces all numbers
        /// of the job. Another number of processes that train requires a job with `checkpoint.resharding`.
        /// [default: as before]
        #[arg(long, value_name = "ROLE=N", value_parser = replicas)]
        replicas: Vec<(String, u32)>,
    },
    /// Prints the output of a job. In a terminal, escape sequences and other control characters are escaped.
    Logs {
        /// Job ID.
        job: String,
        /// Only this attempt [default: all].
        #[arg(long, value_name = "N")]
        attempt: Option<u32>,
        /// Process of a distributed job, from 0 [default: 0].
        #[arg(long, value_name = "N")]
        process: Option<u32>,
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

/// A role and its number of processes.
fn replicas(text: &str) -> Result<(String, u32), String> {
    let parts = text.split_once('=').filter(|(role, _)| !role.is_empty());
    let parsed = parts.and_then(|(role, count)| Some((role.to_owned(), count.parse().ok()?)));
    parsed.ok_or_else(|| "expected a role and a number of processes such as `worker=4`".to_owned())
}

pub(crate) async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    let launcher = context.launcher()?;
    match command {
        Command::List { status, paging } => {
            let page = paging.page();
            let query = JobsQuery { status, limit: page.limit, page_token: page.page_token };
            let columns = [
                ("JOB", "id"),
                ("NAME", "name"),
                ("STATUS", "status"),
                ("ATTEMPT", "attempt"),
                ("CHECKPOINT", "checkpoint_step"),
                ("REASON", "reason"),
            ];
            output::list(context.json, &json!(launcher.jobs(&query).await?), "jobs", &columns);
        }
        Command::Show { job } => show(context.json, &launcher.job(&job).await?),
        Command::Submit { file, manifest, dry_run, wait } => {
            let body = submission::read(file.or(manifest).as_deref().unwrap_or(STANDARD_INPUT))?;
            if dry_run {
                output::object(true, &json!(body));
                return Ok(());
            }
            let submitted = launcher.submit(&body).await?;
            if !wait {
                show(context.json, &submitted);
                return refused(&submitted);
            }
            let ended = ended(&launcher, submitted).await?;
            show(context.json, &ended);
            if ended.status != JobStatus::Succeeded {
                bail!("job {} {}: {}", ended.id, ended.status, ended.reason);
            }
        }
        Command::Cancel { job } => show(context.json, &launcher.cancel(&job).await?),
        Command::Suspend { job } => show(context.json, &launcher.suspend(&job).await?),
        Command::Resume { job, replicas } => {
            let replicas = (!replicas.is_empty()).then(|| replicas.into_iter().collect());
            show(context.json, &launcher.resume(&job, &JobResumption { replicas }).await?);
        }
        Command::Logs { job, attempt, process, follow, raw } => {
            logs(&launcher, &job, attempt, process, follow, raw).await?;
        }
        Command::Capacity => output::object(context.json, &json!(launcher.capacity().await?)),
        Command::Checkpoints { job } => {
            let answer = json!(launcher.checkpoints(&job).await?);
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
async fn ended(launcher: &Launcher, submitted: Job) -> anyhow::Result<Job> {
    let mut watch = Watch::new();
    loop {
        let job = watch.note(launcher.job(&submitted.id).await)?;
        if let Some(job) = job.filter(|job| job.status.is_final()) {
            return Ok(job);
        }
        Watch::pause().await;
    }
}

/// Prints the output of a job so far, or until it ends.
async fn logs(
    launcher: &Launcher,
    job: &str,
    attempt: Option<u32>,
    process: Option<u32>,
    follow: bool,
    raw: bool,
) -> anyhow::Result<()> {
    output::end_with_reader();
    let mut log = output::Log::new(raw);
    if follow {
        return follow_logs(launcher, job, attempt, process, &mut log).await;
    }
    let query = LogsQuery { attempt, process, ..LogsQuery::default() };
    Ok(copy(launcher, job, &query, &mut log).await.1?)
}

/// Prints the output of a job, or of one attempt, until it ends. Continues where it was interrupted when the
/// launcher restarts.
async fn follow_logs(
    launcher: &Launcher,
    id: &str,
    only: Option<u32>,
    process: Option<u32>,
    log: &mut output::Log,
) -> anyhow::Result<()> {
    let mut watch = Watch::new();
    let (mut attempt, mut offset, mut announced) = (only.unwrap_or(1), 0, 1);
    loop {
        let Some(job) = watch.note(launcher.job(id).await)? else {
            Watch::pause().await;
            continue;
        };
        if only.is_none() && job.attempt < attempt {
            if job.status.is_final() {
                return Ok(());
            }
            Watch::pause().await;
            continue;
        }
        if attempt > announced && only.is_none() {
            log.print(format!("==> attempt {attempt} <==\n").as_bytes());
            announced = attempt;
        }
        // Seen before the log is read: what follows is in the log by then.
        let over = job.status.is_final() || job.attempt > attempt;
        let query = LogsQuery { attempt: Some(attempt), process, offset: Some(offset), follow: true };
        let (printed, ended) = copy(launcher, id, &query, log).await;
        offset += printed;
        match watch.note(ended)? {
            Some(()) if over && only.is_some() => return Ok(()),
            Some(()) if over => (attempt, offset) = (attempt + 1, 0),
            // The launcher stopped, or the attempt has just ended.
            Some(()) => {}
            None => Watch::pause().await,
        }
    }
}

/// Prints what the launcher returns of a log; how many bytes that were, and how it ended.
async fn copy(
    launcher: &Launcher,
    id: &str,
    query: &LogsQuery,
    log: &mut output::Log,
) -> (u64, Result<(), Error>) {
    let mut body = match launcher.logs(id, query).await {
        Ok(body) => body,
        Err(error) => return (0, Err(error)),
    };
    let mut printed = 0;
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => {
                printed += chunk.len() as u64;
                log.print(&chunk);
            }
            Err(error) => return (printed, Err(error)),
        }
    }
    (printed, Ok(()))
}

/// Prints a job, its state first.
fn show(as_json: bool, job: &Job) {
    let first = [
        "id",
        "name",
        "status",
        "reason",
        "attempt",
        "checkpoint_step",
        "progress_percent",
        "created_at",
        "updated_at",
    ];
    output::object_in_order(as_json, &json!(job), &first);
    if let Some(resumed) = resumptions(job).filter(|_| !as_json) {
        outln!("{resumed}");
    }
}

/// What the retries of a job have cost, for people; `None` where nothing was lost.
fn resumptions(job: &Job) -> Option<String> {
    let attempts = job.attempts.as_deref().unwrap_or_default();
    let last = attempts.iter().rfind(|attempt| attempt.lost_ms.is_some())?;
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let lost = seconds(last.lost_ms?);
    let from = match last.restored_step {
        Some(step) => format!("resumed at step {step}"),
        None => "started again from the beginning".to_owned(),
    };
    let mut text = format!("attempt {} {from}, lost {lost:.0} s", last.number);
    let total = seconds(attempts.iter().filter_map(|attempt| attempt.lost_ms).sum());
    if total > lost {
        text.push_str(&format!("; {total:.0} s over all attempts"));
    }
    let gpus = job.spec.as_ref().map_or(0, gpus);
    if gpus > 0 {
        text.push_str(&format!(" ({:.2} GPU hours)", total * f64::from(gpus) / 3_600.0));
    }
    Some(text)
}

/// GPUs of all processes of a job.
fn gpus(spec: &JobSpec) -> u32 {
    let replicas = spec.kubernetes.as_ref().map_or(0, |kubernetes| kubernetes.replicas.values().sum());
    spec.resources.gpus * replicas.max(1)
}

/// A job that its launcher cannot run is an error of the submission.
fn refused(submitted: &Job) -> anyhow::Result<()> {
    if submitted.status == JobStatus::Failed {
        bail!("job {} is refused: {}", submitted.id, submitted.reason);
    }
    Ok(())
}
