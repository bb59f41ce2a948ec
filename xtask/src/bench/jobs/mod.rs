//! What a training job waits for, and what the agent costs: a large checkpoint on its way to the artifact
//! store next to the store itself, the steps of a training meanwhile, and the time to resume from it.

mod log;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use self::log::Log;
use super::artifacts::Registry;
use super::platform::Platform;
use super::{BYTES_PER_MIB, peak_mib};
use crate::build;
use crate::endpoints::Endpoints;

const TRAINING: &str = include_str!("training.py");
const LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);

/// How to measure jobs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Size of a checkpoint.
    #[arg(long, default_value_t = 1_024, value_name = "MIB")]
    mib: u64,
    /// Number of jobs; medians are reported.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Reserves a CPU for the training, as on a node with more cores than the training needs. The agent, the
    /// S3 server and everything else share the other CPUs.
    #[arg(long)]
    own_cpu: bool,
}

/// The CPU that `--own-cpu` reserves.
const TRAINING_CPU: usize = 0;

/// Moves this process, and all that it starts from now on, to the other CPUs.
fn leave_training_cpu() -> anyhow::Result<()> {
    let mut others = sched_getaffinity(Pid::this()).context("cannot read the CPUs of this process")?;
    others.unset(TRAINING_CPU)?;
    sched_setaffinity(Pid::this(), &others).context("--own-cpu: expected a machine with several CPUs")
}

pub(super) fn measure(options: &Options) -> anyhow::Result<()> {
    let agent = build::static_agent(true)?;
    if options.own_cpu {
        leave_training_cpu()?;
    }
    let size_bytes = std::fs::metadata(&agent).with_context(|| agent.display().to_string())?.len();
    let variables = [("SLIPWAY_AGENT", agent.as_path())];
    let outcome = super::on_a_platform_with(&variables, true, async |data_dir| {
        let bench = Bench::new(options, data_dir).await?;
        let mut rounds = Vec::new();
        for round in 1..=options.rounds.max(1) {
            rounds.push(bench.round().await?);
            eprintln!("==> round {round} of {}", options.rounds.max(1));
        }
        Ok(rounds)
    });
    // Gigabytes that are not needed any more.
    super::clear(&super::data_dir())?;
    report(options, &outcome?, size_bytes);
    Ok(())
}

/// What one job showed.
#[derive(Debug)]
struct Round {
    /// From the rename of the checkpoint's folder to its commit, in seconds.
    store_s: f64,
    /// The same bytes to and from the store itself.
    direct_put_s: f64,
    direct_get_s: f64,
    /// Steps per second: before the checkpoint, while it is stored, and while this program uploads.
    alone: f64,
    storing: f64,
    uploading: f64,
    /// From the request to resume, and from a kill -9 of the agent, to the first line of the command.
    resume_s: f64,
    recover_s: f64,
    agent_mib: f64,
}

struct Bench {
    mib: u64,
    own_cpu: bool,
    platform: Platform,
    store: Registry,
}

impl Bench {
    async fn new(options: &Options, data_dir: &Path) -> anyhow::Result<Self> {
        let platform = Platform::new(Endpoints::read(data_dir)?, "unused", LIMIT);
        let store = Registry::with_run(data_dir).await?;
        Ok(Self { mib: options.mib, own_cpu: options.own_cpu, platform, store })
    }

    async fn round(&self) -> anyhow::Result<Round> {
        let mut env = json!({"MEBIBYTES": self.mib.to_string()});
        if self.own_cpu {
            env["TRAINING_CPU"] = json!(TRAINING_CPU.to_string());
        }
        let spec = json!({
            "name": "bench", "command": ["python3", "-u", "training.py"], "files": {"training.py": TRAINING},
            "env": env, "checkpoint": {}, "grace_period_s": 10,
            "retries": {"backoff_initial_ms": 10, "backoff_max_ms": 10},
        });
        let job = self.ask("POST", "/api/v1/jobs", &spec).await?;
        let job = job["id"].as_str().context("no id")?.to_owned();
        self.until(&job, "a checkpoint", |job| job["checkpoint_step"] == 1).await?;
        let committed = self.committed_at(&job).await?;
        let upload_started = now();
        let direct_put_s = self.store.put_directly("direct.bin", self.mib).await?;
        let upload_ended = now();
        let peak = peak_mib(agent_of(&job)?)?;
        self.act(&job, "suspend").await?;
        self.until(&job, "suspended", |job| job["status"] == "suspended").await?;
        let log = self.log(&job, 1).await?;
        let saved = log.at("saved")?;

        let asked = now();
        self.act(&job, "resume").await?;
        let resumed = self.first_line(&job, 2).await?;
        let killed = now();
        let agent = agent_of(&job)?;
        let peak = peak.max(peak_mib(agent)?);
        kill(Pid::from_raw(agent.try_into()?), Signal::SIGKILL)?;
        let recovered = self.first_line(&job, 3).await?;
        self.act(&job, "cancel").await?;
        let url = self.store.call("presigned", "direct.bin", None).await?;
        let url = url["url"].as_str().context("no URL")?;
        Ok(Round {
            store_s: committed - saved,
            direct_put_s,
            direct_get_s: self.store.get(url, self.mib).await?,
            alone: log.steps_per_second(0.0, log.at("writing")?)?,
            storing: log.steps_per_second(saved, committed)?,
            uploading: log.steps_per_second(upload_started, upload_ended)?,
            resume_s: resumed - asked,
            recover_s: recovered - killed,
            agent_mib: peak,
        })
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.platform.send("launcher", method, path, body).await
    }

    async fn act(&self, job: &str, action: &str) -> anyhow::Result<()> {
        self.ask("POST", &format!("/api/v1/jobs/{job}/{action}"), &json!({})).await.map(drop)
    }

    async fn until(&self, job: &str, what: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let shown = self.ask("GET", &format!("/api/v1/jobs/{job}"), &Value::Null).await?;
            if holds(&shown) {
                return Ok(());
            }
            if started.elapsed() > LIMIT || shown["finished_at"].is_string() {
                bail!("waited in vain for: {what}; the job is {shown:#}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn committed_at(&self, job: &str) -> anyhow::Result<f64> {
        let listed = self.ask("GET", &format!("/api/v1/jobs/{job}/checkpoints"), &Value::Null).await?;
        let time = listed["checkpoints"][0]["created_at"].as_str().context("no checkpoint")?;
        Ok(seconds(time.parse()?))
    }

    async fn log(&self, job: &str, attempt: u32) -> anyhow::Result<Log> {
        let base = self.platform.endpoints.url("launcher")?;
        let url = format!("{base}/api/v1/jobs/{job}/logs?attempt={attempt}");
        let response = self.platform.http.get(url).timeout(LIMIT).send().await?.error_for_status()?;
        Ok(Log::new(response.text().await?))
    }

    /// When an attempt that goes on from the checkpoint has printed its first line.
    async fn first_line(&self, job: &str, attempt: u32) -> anyhow::Result<f64> {
        let started = Instant::now();
        self.until(job, "the next attempt", |job| job["attempt"] == attempt).await?;
        while started.elapsed() < LIMIT {
            if let Ok(time) = self.log(job, attempt).await?.at("first 1") {
                return Ok(time);
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("attempt {attempt} did not go on from the checkpoint")
    }
}

fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}

fn now() -> f64 {
    seconds(Utc::now())
}

/// Process ID of the job's agent.
fn agent_of(job: &str) -> anyhow::Result<u32> {
    let mark = format!("SLIPWAY_JOB_ID={job}");
    for entry in std::fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        let mut variables = environment.split(|byte| *byte == 0);
        if variables.clone().any(|variable| variable == mark.as_bytes())
            && variables.any(|variable| variable.starts_with(b"SLIPWAY_ATTEMPT_TOKEN="))
        {
            return Ok(pid);
        }
    }
    bail!("job {job} has no agent")
}

fn report(options: &Options, rounds: &[Round], agent_bytes: u64) {
    let median = |figure: fn(&Round) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let rate = |seconds: f64| options.mib as f64 / seconds;
    let (store, put) = (rate(median(|round| round.store_s)), rate(median(|round| round.direct_put_s)));
    let lost = |rate: f64| (1.0 - rate / median(|round| round.alone)) * 100.0;
    println!("\ncheckpoint of {} MiB, median of {} jobs", options.mib, rounds.len());
    println!("from its rename to its commit        {store:>7.0} MiB/s");
    println!("the store itself                     {put:>7.0} MiB/s; share {:.0} %", store / put * 100.0);
    println!("training while it is stored          {:>7.2} % slower", lost(median(|round| round.storing)));
    println!("training during another upload       {:>7.2} % slower", lost(median(|round| round.uploading)));
    println!("resume, to the first line            {:>7.2} s", median(|round| round.resume_s));
    println!("kill -9 of the agent, to the same    {:>7.2} s", median(|round| round.recover_s));
    println!("download from the store itself       {:>7.2} s", median(|round| round.direct_get_s));
    println!("memory of the agent, peak            {:>7.1} MiB", median(|round| round.agent_mib));
    println!("program of the agent                 {:>7.1} MiB", agent_bytes as f64 / BYTES_PER_MIB);
}
