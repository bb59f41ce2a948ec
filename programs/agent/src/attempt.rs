//! One attempt from its lease to its report.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::Context as _;
use slipway_api::proto::launcher::{FinishAttemptRequest, Lease};
use slipway_domain::training::{self, JobSpec, Moment};
use slipway_runtime::task;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::Instrument as _;

use crate::checkpoint::{End, Uploader};
use crate::command::Ended;
use crate::group::{Next, Peers};
use crate::guard::{Guard, Orders};
use crate::launcher::{CallError, Launcher};
use crate::objects::Objects;
use crate::restore::Restored;
use crate::spool::Spool;
use crate::stop::{Stop, Stops};
use crate::warnings::Warnings;
use crate::workspace::Workspace;
use crate::{Config, command, heartbeat, restore};

/// After the command's end its output is read for so long; a process that escaped its group may hold it open.
const DRAIN_TIMEOUT_MS: u64 = 2_000;
/// The rest of the log is sent within this time, or left out: how the command ended matters more.
const LOG_TIMEOUT_MS: u64 = 120_000;

struct Attempt {
    config: Config,
    launcher: Launcher,
    lease: Lease,
    spec: JobSpec,
    stops: Stops,
    /// What the guard is told.
    orders: watch::Sender<Orders>,
    spool: Spool,
    warnings: Warnings,
    peers: Peers,
    workspace: Workspace,
    objects: Objects,
    /// When the agent is killed, once this is known.
    killed_at: watch::Receiver<Option<Instant>>,
}

/// Runs the attempt; see [`crate::run`].
pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    // A session of its own: what ends the launcher's terminal or process group does not end the attempt.
    if let Err(error) = nix::unistd::setsid() {
        tracing::debug!(%error, "cannot create a session");
    }
    let launcher = Launcher::new(&config)?;
    let lease = match launcher.acquire_lease().await {
        Ok(lease) => lease,
        Err(error @ CallError::Fenced(_)) => {
            tracing::warn!(%error, "nothing to do");
            return Ok(());
        }
        Err(error) => return Err(error).context("no lease"),
    };
    let span = tracing::info_span!("attempt", job_id = %config.job_id, attempt = config.attempt);
    slipway_telemetry::set_parent(&span, Some(lease.traceparent.as_str()));
    with_lease(config, launcher, lease, shutdown).instrument(span).await
}

async fn with_lease(
    config: Config,
    launcher: Launcher,
    lease: Lease,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let spec: JobSpec = serde_json::from_str(&lease.spec_json).context("the lease's job cannot be read")?;
    let stops = Stops::new();
    let times = training::Lease::of_ms(lease.lease_ms);
    let first = Orders { end_at_ms: *launcher.renewals().borrow() + times.kill_after_ms(), group: 0 };
    let orders = watch::channel(first).0;
    // From here on nothing of the attempt outlives its lease.
    let guard = Guard::start(&config, first).await?;
    let _guard = task::owned(guard.keep(config.clone(), orders.subscribe()));
    let _renewals = task::owned(follow_renewals(launcher.clone(), times, orders.clone()));
    let interval = Duration::from_millis(lease.heartbeat_interval_ms);
    let warnings = Warnings::default();
    let peers = Peers::new();
    let heartbeats =
        heartbeat::run(launcher.clone(), stops.clone(), warnings.clone(), peers.clone(), interval, times);
    // The handles end their tasks with this function: a heartbeat must not outlive the attempt.
    let _heartbeats = task::owned(heartbeats.in_current_span());
    let (kill, killed_at) = watch::channel(None);
    let _preemption = task::owned({
        let (stops, peers) = (stops.clone(), peers.clone());
        let grace = config.termination_grace_period_s.map(Duration::from_secs);
        async move {
            shutdown.cancelled().await;
            kill.send_replace(grace.map(|grace| Instant::now() + grace));
            peers.stopping();
            stops.request(Stop::Preempted);
        }
    });
    let workspace = Workspace::create(&config.work_dir, &spec).await?;
    let spool = Spool::create(workspace.spool(), lease.max_log_bytes).await.context("cannot make the log")?;
    let shipping = task::owned(spool.clone().ship(launcher.clone(), lease.log_chunk_bytes));
    let objects = Objects::new(launcher.clone()).context("cannot make a client for the artifact store")?;
    let attempt = Attempt {
        config,
        launcher,
        lease,
        spec,
        stops,
        orders,
        spool,
        warnings,
        peers,
        workspace,
        objects,
        killed_at,
    };
    let outcome = attempt.execute().await;
    if let Err(error) = &outcome {
        attempt.spool.note(&format!("the attempt is given up: {error:#}")).await;
    }
    attempt.spool.close();
    attempt.report(outcome, shipping).await
}

/// Has the guard's orders follow the renewals of the lease.
async fn follow_renewals(launcher: Launcher, lease: training::Lease, orders: watch::Sender<Orders>) {
    let mut renewals = launcher.renewals();
    loop {
        let end_at_ms = *renewals.borrow_and_update() + lease.kill_after_ms();
        orders.send_modify(|orders| orders.end_at_ms = end_at_ms);
        if renewals.changed().await.is_err() {
            return;
        }
    }
}

impl Attempt {
    /// Restores, runs the command, and stores its last checkpoint.
    async fn execute(&self) -> anyhow::Result<FinishAttemptRequest> {
        let restored = tokio::select! {
            restored = self.prepare() => restored?,
            stop = self.stops.any() => return Ok(self.never_started(stop)),
        };
        let limit_ms = training::Lease::of_ms(self.lease.lease_ms).stop_after_ms();
        anyhow::ensure!(self.launcher.unrenewed() < Duration::from_millis(limit_ms), "the lease is over");
        let (running, output) =
            command::start(&self.config, &self.lease, &self.spec, &self.workspace, restored.as_ref())?;
        self.orders.send_modify(|orders| orders.group = running.group());
        let tasks = TaskTracker::new();
        let pump = tasks.spawn({
            let spool = self.spool.clone();
            async move { spool.pump(output).await }
        });
        let (end, when_ended) = watch::channel(None);
        let restored = restored.map(|restored| restored.step);
        let uploading = task::owned(self.upload(restored, when_ended).in_current_span());
        let ended = running
            .supervise(&self.config, &self.spec, &self.stops, &self.spool, &self.workspace.checkpoints)
            .await;
        self.orders.send_modify(|orders| orders.group = 0);
        let ended = ended?;
        end.send_replace(Some(End { moment: self.moment(&ended), at: ended.at }));
        if tokio::time::timeout(Duration::from_millis(DRAIN_TIMEOUT_MS), pump).await.is_err() {
            tracing::warn!("a process of the command still has its output open");
        }
        tokio::select! {
            uploaded = uploading => uploaded.context("checkpoint upload panicked")?,
            _ = self.stops.lost() => {}
        }
        Ok(self.judge(&ended).await)
    }

    /// What the end of the command says about what it left. A command that was asked to end and did so has
    /// saved what it wanted.
    fn moment(&self, ended: &Ended) -> Moment {
        let is_orderly = ended.by_itself
            && (ended.status.success() || self.stops.current().is_some_and(|stop| !stop.is_lost()));
        if is_orderly { Moment::EndedOrderly } else { Moment::EndedAbruptly }
    }

    /// Restores the newest checkpoint. A process of a distributed job then waits for the others, and goes
    /// back to an older one where one of them could not restore the newest.
    async fn prepare(&self) -> anyhow::Result<Option<Restored>> {
        let mut restored = self.restore(None).await?;
        loop {
            self.peers.ready(restored.as_ref().map_or("", |restored| &restored.prefix));
            if self.spec.group().is_none() {
                return Ok(restored);
            }
            match self.peers.next().await {
                Next::Start | Next::Wait => return Ok(restored),
                Next::Restore { prefix } => {
                    self.peers.not_ready();
                    if let Some(newer) = &restored {
                        self.spool.note("another process cannot restore this checkpoint; going back").await;
                        restore::remove(newer, &self.workspace.checkpoints).await?;
                    }
                    restored = self.restore(Some(&prefix)).await?;
                }
            }
        }
    }

    /// Restores the newest checkpoint that is no newer than that with the prefix `limit`.
    async fn restore(&self, limit: Option<&str>) -> anyhow::Result<Option<Restored>> {
        // What does not train, such as a parameter server, gets its state from those that do.
        let trains = self.spec.group().is_none_or(|group| group.trains(self.process()));
        if self.spec.checkpoint.is_none() || !trains {
            return Ok(None);
        }
        let manifests = &self.lease.restore_manifests_json;
        restore::newest(&self.objects, manifests, limit, &self.workspace.checkpoints, &self.spool).await
    }

    fn process(&self) -> u32 {
        self.config.process.unwrap_or(0)
    }

    /// Whether this process saves checkpoints, or parts of them.
    fn saves(&self, is_sharded: bool) -> bool {
        match self.spec.group() {
            Some(group) if is_sharded => group.trains(self.process()),
            _ => self.process() == 0,
        }
    }

    /// The upload of this attempt's checkpoints; nothing where the job asks for none.
    fn upload(
        &self,
        restored: Option<u64>,
        end: watch::Receiver<Option<End>>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let saved = self.spec.checkpoint.as_ref().filter(|checkpoint| self.saves(checkpoint.sharded));
        let uploader = saved.map(|checkpoint| Uploader {
            objects: self.objects.clone(),
            launcher: self.launcher.clone(),
            spool: self.spool.clone(),
            warnings: self.warnings.clone(),
            marker: checkpoint.marker.clone(),
            folder: self.workspace.checkpoints.clone(),
            job_id: self.config.job_id.clone(),
            attempt: self.config.attempt,
            prefix: self.lease.checkpoint_prefix.clone(),
            restored,
            killed_at: self.killed_at.clone(),
        });
        async move {
            if let Some(uploader) = uploader {
                uploader.run(end).await;
            }
        }
    }

    async fn judge(&self, ended: &Ended) -> FinishAttemptRequest {
        let start_error = tokio::fs::read_to_string(self.workspace.start_error()).await.unwrap_or_default();
        if !start_error.is_empty() {
            self.spool.note(&start_error).await;
        }
        let stop = self.stops.current();
        FinishAttemptRequest {
            exit_code: ended.status.code(),
            signal: ended.status.signal(),
            start_error,
            timed_out: stop == Some(Stop::TimedOut),
            preempted: stop == Some(Stop::Preempted),
            memory_exceeded_bytes: ended.memory_exceeded_bytes,
            warnings: self.warnings.all(),
            gpu_fault: self.spool.gpu_fault().await,
            node: self.config.node.clone().unwrap_or_default(),
            ..FinishAttemptRequest::default()
        }
    }

    fn never_started(&self, stop: Stop) -> FinishAttemptRequest {
        FinishAttemptRequest {
            signal: Some(nix::sys::signal::Signal::SIGTERM as i32),
            preempted: stop == Stop::Preempted,
            ..FinishAttemptRequest::default()
        }
    }

    /// Sends the rest of the log and the report, and tidies up. An attempt that nobody hears any more only
    /// ends; one that was given up ends without a report, and the launcher takes it for lost.
    async fn report(
        &self,
        outcome: anyhow::Result<FinishAttemptRequest>,
        shipping: AbortOnDropHandle<std::io::Result<()>>,
    ) -> anyhow::Result<()> {
        let (report, given_up) = match outcome {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error)),
        };
        // With a warning the folder stays for a while: it may hold a checkpoint that could not be stored.
        let succeeded =
            report.as_ref().is_some_and(|report| report.exit_code == Some(0) && report.warnings.is_empty());
        let sent = async {
            match tokio::time::timeout(Duration::from_millis(LOG_TIMEOUT_MS), shipping).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::error!(%error, "log not sent"),
                Ok(Err(error)) => tracing::error!(%error, "sending the log panicked"),
                Err(_) => tracing::error!("log not sent in time"),
            }
            match report {
                Some(report) => self.launcher.finish(report).await,
                None => Ok(()),
            }
        };
        let outcome = tokio::select! {
            outcome = sent => outcome,
            stop = self.stops.lost() => {
                tracing::warn!(?stop, "end of the attempt not reported");
                self.workspace.remove(false).await;
                return Ok(());
            }
        };
        self.workspace.remove(succeeded && !self.config.keep_work_dir).await;
        match outcome {
            Ok(()) => given_up.map_or(Ok(()), Err),
            Err(error @ CallError::Fenced(_)) => {
                tracing::warn!(%error, "launcher rejected the end of the attempt");
                Ok(())
            }
            Err(error) => Err(error).context("end of the attempt cannot be reported"),
        }
    }
}
