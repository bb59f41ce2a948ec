//! The story: v1 survives a kill, v2 is promoted, v3 is caught, the inputs shift and v4 is trained and
//! promoted by itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Options;
use super::measure::{self, Allowed, now_unix_ms};
use super::outcome::{Drift, Step, Told, Verdict};
use super::platform::{Platform, kill_job_processes};
use super::traffic::{Inputs, Traffic};
use crate::build::root;
use crate::endpoints::Endpoints;

const MODEL: &str = "demo";
const DEPLOYMENT: &str = "demo";
const MONITOR: &str = "demo-inputs";
const ALIAS: &str = "champion";
const POLL_MS: u64 = 100;
/// No part of the story takes longer, on a slow machine either.
const PART_TIMEOUT_S: u64 = 240;

/// What the story needs to know.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) options: Options,
    pub(crate) data_set: String,
    pub(crate) python: PathBuf,
    pub(crate) inputs: Inputs,
}

struct Teller<'platform> {
    http: reqwest::Client,
    endpoints: &'platform Endpoints,
    plan: Plan,
    steps: Vec<Step>,
    verdicts: Vec<Verdict>,
    allowed: Vec<Allowed>,
}

/// A step in progress.
struct Clock {
    name: String,
    started: Instant,
}

/// Tells the story on a running platform.
pub(crate) async fn tell(platform: &Platform, plan: Plan) -> anyhow::Result<Told> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    let mut teller = Teller {
        http,
        endpoints: &platform.endpoints,
        plan,
        steps: Vec::new(),
        verdicts: Vec::new(),
        allowed: Vec::new(),
    };
    teller.first_version().await?;
    let rate = teller.plan.options.rate;
    let traffic =
        Traffic::start(teller.endpoints.url("serving_http")?, DEPLOYMENT, teller.plan.inputs.clone(), rate)?;
    let told = teller.with_traffic(&traffic).await;
    let (sent, samples, failures) = traffic.stop().await;
    let (promotion, rollback, drift) = told?;
    for failure in failures.iter().take(5) {
        eprintln!("    {failure}");
    }
    Ok(Told {
        wrong_version: measure::wrong_version(&samples, &teller.allowed),
        promotion_ms: measure::until_first_answer_ms(&samples, "2", promotion),
        rollback_ms: measure::until_last_answer_ms(&samples, "3", rollback),
        sent,
        failed: failures.len(),
        steps: teller.steps,
        versions: teller.verdicts,
        drift,
        samples,
    })
}

impl Teller<'_> {
    /// Part a: train, be killed, resume, register, deploy, watch.
    async fn first_version(&mut self) -> anyhow::Result<()> {
        let clock = self.begin("a. train v1; the machine is lost half-way; it resumes from its checkpoint");
        let job = self.submit(self.job("train-v1", &["--quality", "low"], 10)).await?;
        let at = self.wait_for_checkpoint(&job, 4).await?;
        let killed = kill_job_processes(&job);
        anyhow::ensure!(killed > 0, "no process of job {job} was found to kill");
        let ended = self.wait_for_job(&job).await?;
        let attempt = ended["attempt"].as_u64().unwrap_or(0);
        anyhow::ensure!(attempt >= 2, "the job was killed, but its attempt is still {attempt}");
        let log = self.text(&format!("{}/api/v1/jobs/{job}/logs", self.endpoints.url("launcher")?)).await?;
        anyhow::ensure!(
            log.contains("resumed from step"),
            "attempt {attempt} did not resume from a checkpoint"
        );
        self.end(clock, format!("killed after step {at}, resumed in attempt {attempt}"));

        let clock = self.begin("a. register, validate and deploy v1");
        let version = self.registry_version("1").await?;
        let controller = self.endpoints.url("rollout_controller")?;
        let body = json!({
            "name": DEPLOYMENT, "model": MODEL, "version": "1", "watch_alias": ALIAS,
            "default_strategy": strategy(self.plan.options.quick),
        });
        self.post(&format!("{controller}/api/v1/deployments"), &body).await?;
        let rollout = self.wait_for_rollout("1", &["promoted"]).await?;
        self.allowed.push(Allowed { version: "1".into(), from_unix_ms: 0, until_unix_ms: None });
        self.verdict("1", &rollout);
        self.post(&format!("{}/api/v1/monitors", self.endpoints.url("drift_monitor")?), &self.monitor())
            .await?;
        self.end(clock, format!("digest {}", short(&version["digest"])));
        Ok(())
    }

    /// Parts b to d. Answers with the moments of the promotion and the rollback, and what became of the
    /// drift.
    async fn with_traffic(&mut self, traffic: &Traffic) -> anyhow::Result<(u64, u64, Drift)> {
        let clock = self.begin("b. live traffic, labels follow");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let seen = traffic.samples().len();
        anyhow::ensure!(seen > 0, "no request was answered");
        self.end(clock, format!("{} requests/s, {seen} answered", self.plan.options.rate));

        let clock = self.begin("c. v2, better: canary → 100 %");
        let rollout = self.train_and_roll_out("train-v2", &["--quality", "high"], "2", "promoted").await?;
        let promotion = moment(&rollout, "promotion_decided_at_unix_ms")?;
        self.replace("1", "2", &rollout, promotion)?;
        self.end(clock, reason(&rollout));

        let clock = self.begin("c. v3, trained on shuffled labels: caught and rolled back");
        let bad = ["--quality", "high", "--shuffle-labels"];
        let rollout = self.train_and_roll_out("train-v3", &bad, "3", "rolled_back").await?;
        let rollback = moment(&rollout, "rollback_decided_at_unix_ms")?;
        let from_unix_ms = self.started(&rollout)?;
        self.allowed.push(Allowed { version: "3".into(), from_unix_ms, until_unix_ms: Some(rollback) });
        self.end(clock, reason(&rollout));

        let clock = self.begin("d. the inputs shift; drift is detected");
        let windows_before = self.windows().await?.len();
        traffic.shift();
        let shifted_at = now_unix_ms();
        self.wait("the drift to be detected", async |teller: &Self| {
            let monitor = teller
                .get(&format!("{}/api/v1/monitors/{MONITOR}", teller.endpoints.url("drift_monitor")?))
                .await?;
            Ok((monitor["state"] == "drifted").then_some(monitor))
        })
        .await?;
        let windows = self.windows().await?;
        let needed = windows.len() - windows_before;
        let before = measure::accuracy(&traffic.samples(), "2", shifted_at);
        self.end(clock, format!("after {needed} windows; accuracy of v2 is {} now", percent(before)));

        let clock = self.begin("d. retraining starts by itself; v4 is rolled out");
        let job = self.wait_for_action().await?;
        self.wait_for_job(&job).await?;
        let rollout = self.wait_for_rollout("4", &["promoted"]).await?;
        let promoted = moment(&rollout, "promotion_decided_at_unix_ms")?;
        self.replace("2", "4", &rollout, promoted)?;
        self.verdict("4", &rollout);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = measure::accuracy(&traffic.samples(), "4", promoted);
        self.end(clock, format!("accuracy of v4 is {}; {}", percent(after), reason(&rollout)));
        let windows = self.windows().await?;
        Ok((promotion, rollback, Drift { detected: true, windows: needed, scores: windows }))
    }

    async fn train_and_roll_out(
        &mut self,
        name: &str,
        arguments: &[&str],
        version: &str,
        phase: &str,
    ) -> anyhow::Result<Value> {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--alias", ALIAS]);
        let job = self.submit(self.job(name, &arguments, 3)).await?;
        self.wait_for_job(&job).await?;
        let rollout = self.wait_for_rollout(version, &[phase]).await?;
        self.verdict(version, &rollout);
        Ok(rollout)
    }

    /// From the start of its rollout on `new` may answer, and `old` no more once the promotion is decided.
    fn replace(&mut self, old: &str, new: &str, rollout: &Value, decided: u64) -> anyhow::Result<()> {
        let from_unix_ms = self.started(rollout)?;
        for span in self.allowed.iter_mut().filter(|span| span.version == old) {
            span.until_unix_ms = Some(decided);
        }
        self.allowed.push(Allowed { version: new.to_owned(), from_unix_ms, until_unix_ms: None });
        Ok(())
    }

    fn started(&self, rollout: &Value) -> anyhow::Result<u64> {
        moment(rollout, "created_at_unix_ms")
    }

    /// A training job: the example scripts, run by the launcher under its agent.
    fn job(&self, name: &str, arguments: &[&str], epochs: u32) -> Value {
        let folder = root().join("examples/training");
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let epochs = epochs.to_string();
        let python = self.plan.python.to_string_lossy();
        let mut command = vec![&*python, "train.py", "--data-set", &self.plan.data_set];
        if let Some(label) = &self.plan.options.label {
            command.extend(["--label", label]);
        }
        command.extend([
            "--model-name",
            MODEL,
            "--experiment",
            "demo",
            "--epochs",
            &epochs,
            "--sleep-per-epoch",
            "0.15",
        ]);
        command.extend(arguments);
        json!({
            "name": name,
            "command": command,
            "env": {"PYTHONUNBUFFERED": "1", "GIT_PYTHON_REFRESH": "quiet"},
            "files": {
                "train.py": read("train.py"),
                "slipway_profile.py": read("slipway_profile.py"),
                "tables.py": read("tables.py"),
            },
            "retries": {"limit": 3, "backoff_initial_ms": 200, "backoff_max_ms": 2000},
            "checkpoint": {"dir": "checkpoints", "keep": 2},
            "timeout_s": PART_TIMEOUT_S,
        })
    }

    fn monitor(&self) -> Value {
        let recent = self.plan.inputs.recent_csv.to_string_lossy();
        let retrain =
            self.job("retrain", &["--quality", "high", "--extra-data", &recent, "--alias", ALIAS], 3);
        json!({
            "name": MONITOR, "deployment": DEPLOYMENT, "model": MODEL,
            "window": {"rows": if self.plan.options.quick { 250 } else { 500 }, "max_s": 60},
            "consecutive_windows": 2, "cool_down_s": 600,
            "on_drift": [{"action": "submit-job", "job": retrain}],
        })
    }

    async fn windows(&self) -> anyhow::Result<Vec<Value>> {
        let url =
            format!("{}/api/v1/monitors/{MONITOR}/windows?limit=1000", self.endpoints.url("drift_monitor")?);
        let mut windows = self.get(&url).await?["windows"].as_array().cloned().unwrap_or_default();
        windows.reverse();
        Ok(windows)
    }

    async fn registry_version(&self, version: &str) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/models/{MODEL}/versions/{version}", self.endpoints.url("registry")?);
        let found = self.get(&url).await?;
        anyhow::ensure!(
            found["servable"] == true,
            "version {version} is not servable: {}",
            found["unservable_reason"]
        );
        Ok(found)
    }

    async fn submit(&self, job: Value) -> anyhow::Result<String> {
        let job = self.post(&format!("{}/api/v1/jobs", self.endpoints.url("launcher")?), &job).await?;
        Ok(job["id"].as_str().context("the job has no id")?.to_owned())
    }

    async fn wait_for_checkpoint(&self, job: &str, step: u64) -> anyhow::Result<u64> {
        self.wait("a checkpoint", async |teller: &Self| {
            let job = teller.get(&format!("{}/api/v1/jobs/{job}", teller.endpoints.url("launcher")?)).await?;
            if job["status"] == "failed" || job["status"] == "succeeded" {
                bail!("the job {} before its checkpoint {step}: {}", job["status"], job["reason"]);
            }
            Ok(job["checkpoint_step"].as_u64().filter(|at| *at >= step))
        })
        .await
    }

    /// The job that the monitor's policy submits by itself.
    async fn wait_for_action(&self) -> anyhow::Result<String> {
        self.wait("the retraining job", async |teller: &Self| {
            let url = format!("{}/api/v1/monitors/{MONITOR}/actions", teller.endpoints.url("drift_monitor")?);
            let actions = teller.get(&url).await?;
            let Some(action) = actions["actions"].get(0) else { return Ok(None) };
            if action["status"] == "failed" {
                bail!("the monitor's action {} failed: {}", action["action"], action["last_error"]);
            }
            Ok(action["result"]["job_id"].as_str().map(str::to_owned))
        })
        .await
    }

    async fn wait_for_job(&self, job: &str) -> anyhow::Result<Value> {
        let ended = self
            .wait("the training job", async |teller: &Self| {
                let job =
                    teller.get(&format!("{}/api/v1/jobs/{job}", teller.endpoints.url("launcher")?)).await?;
                let ended =
                    ["succeeded", "failed", "cancelled"].iter().any(|status| job["status"] == *status);
                Ok(ended.then_some(job))
            })
            .await?;
        if ended["status"] != "succeeded" {
            let log =
                self.text(&format!("{}/api/v1/jobs/{job}/logs", self.endpoints.url("launcher")?)).await?;
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("job {job} {}: {}\n{}", ended["status"], ended["reason"], tail.join("\n"));
        }
        Ok(ended)
    }

    /// Waits until the newest rollout to `version` reaches one of `phases`; another end is an error.
    async fn wait_for_rollout(&self, version: &str, phases: &[&str]) -> anyhow::Result<Value> {
        self.wait(&format!("the rollout of version {version}"), async |teller: &Self| {
            let url = format!(
                "{}/api/v1/rollouts?deployment={DEPLOYMENT}",
                teller.endpoints.url("rollout_controller")?
            );
            let rollouts = teller.get(&url).await?;
            let Some(found) = rollouts["rollouts"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["to_version"] == version))
            else {
                return Ok(None);
            };
            let phase = found["phase"].as_str().unwrap_or_default();
            if phases.contains(&phase) {
                let id = found["id"].as_str().unwrap_or_default();
                let url = format!("{}/api/v1/rollouts/{id}", teller.endpoints.url("rollout_controller")?);
                return Ok(Some(teller.get(&url).await?));
            }
            if matches!(phase, "promoted" | "rolled_back" | "failed" | "aborted" | "paused") {
                bail!("the rollout of version {version} is {phase}: {}", reason(found));
            }
            Ok(None)
        })
        .await
    }

    async fn wait<T>(
        &self,
        what: &str,
        look: impl AsyncFn(&Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(PART_TIMEOUT_S) {
            if let Some(found) = look(self).await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        bail!("waited {PART_TIMEOUT_S} s for {what} in vain")
    }

    async fn get(&self, url: &str) -> anyhow::Result<Value> {
        let text = self.text(url).await?;
        serde_json::from_str(&text).with_context(|| format!("{url} did not answer with JSON"))
    }

    async fn text(&self, url: &str) -> anyhow::Result<String> {
        let response = self.http.get(url).send().await?;
        let status = response.status();
        let text = response.text().await?;
        anyhow::ensure!(status.is_success(), "GET {url}: {status}: {text}");
        Ok(text)
    }

    async fn post(&self, url: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.http.post(url).json(body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        anyhow::ensure!(status.is_success(), "POST {url}: {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("{url} did not answer with JSON"))
    }

    fn begin(&self, name: &str) -> Clock {
        eprintln!("==> {name}");
        Clock { name: name.to_owned(), started: Instant::now() }
    }

    fn end(&mut self, clock: Clock, outcome: String) {
        let seconds = clock.started.elapsed().as_secs_f64();
        eprintln!("    {outcome} ({seconds:.1} s)");
        self.steps.push(Step { name: clock.name, seconds, outcome });
    }

    fn verdict(&mut self, version: &str, rollout: &Value) {
        self.verdicts.push(Verdict {
            version: version.to_owned(),
            verdict: rollout["phase"].as_str().unwrap_or_default().to_owned(),
            reason: reason(rollout),
        });
    }
}

fn strategy(quick: bool) -> Value {
    let hold_s = if quick { 2.0 } else { 5.0 };
    json!({
        "steps": [{"weight_percent": 10, "hold_s": hold_s}, {"weight_percent": 50, "hold_s": hold_s}],
        "shadow_percent": 100,
        "analysis": {
            "min_requests": 20, "max_error_rate": 0.01, "min_labels": 30, "max_accuracy_drop": 0.05,
            "max_divergence": 0.6, "max_p95_latency_ratio": 5.0, "interval_ms": 250, "max_inconclusive_s": 60,
        },
        "prepare_timeout_s": 60,
    })
}

fn reason(rollout: &Value) -> String {
    rollout["reason"].as_str().unwrap_or_default().to_owned()
}

fn moment(rollout: &Value, field: &str) -> anyhow::Result<u64> {
    rollout[field].as_u64().with_context(|| format!("the rollout has no `{field}`: {rollout}"))
}

fn short(digest: &Value) -> String {
    digest.as_str().unwrap_or_default().chars().take(19).collect()
}

fn percent(measured: Option<(f64, usize)>) -> String {
    measured.map_or_else(
        || "unknown".to_owned(),
        |(share, answers)| format!("{:.1} % of {answers}", share * 100.0),
    )
}
