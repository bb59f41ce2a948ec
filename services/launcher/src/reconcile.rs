//! Makes what runs match what is stored: starts jobs that wait, finds attempts that are lost, ends what replaced attempts left.
//!
//! Each pass reads the state anew and may be repeated at any time, so a launcher that is started again goes on where the last
//! one was cut off: attempts whose agent is alive go on, others are retried from their checkpoint.

use std::time::Duration;

use slipway_domain::training::{Action, HEARTBEAT_INTERVAL_MS, JobEvent, LEASE_MS};
use slipway_service_kit::Problem;
use slipway_service_kit::clock::now_unix_ms;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::change::{self, Changed};
use crate::launch::Launcher;
use crate::state::State;
use crate::store::jobs::{self, Active};

/// The state is looked at this often where nobody woke the loop.
const INTERVAL_MS: u64 = 500;
/// Jobs started in one pass at most.
const MAX_STARTS: i64 = 64;
/// An agent that missed this many heartbeats is looked for.
const MISSED_HEARTBEATS: u64 = 2;

/// The loop.
#[derive(Debug)]
pub(crate) struct Reconciler {
    state: State,
    launcher: Launcher,
    /// Since when heartbeats could be stored without a break. Silence from before that proves nothing.
    hears_since_unix_ms: Option<u64>,
    /// Whether all agents are to be looked for, not only silent ones.
    look_for_all: bool,
}

impl Reconciler {
    pub(crate) const fn new(state: State, launcher: Launcher) -> Self {
        Self { state, launcher, hears_since_unix_ms: None, look_for_all: true }
    }

    /// Runs until `shutdown`. A pass that fails is logged and repeated.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut failing = false;
        loop {
            match self.pass().await {
                Ok(()) => {
                    self.hears_since_unix_ms.get_or_insert_with(now_unix_ms);
                    failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "jobs wait");
                    }
                    self.hears_since_unix_ms = None;
                    self.look_for_all = true;
                }
            }
            let state = self.state.clone();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(INTERVAL_MS)) => {}
                () = state.wake.notified(), if !failing => {}
                () = self.launcher.backend.agent_ended() => self.look_for_all = true,
            }
        }
    }

    async fn pass(&mut self) -> Result<(), Problem> {
        let mut connection = self.state.pool.acquire().await?;
        let active = jobs::active(&mut connection).await?;
        drop(connection);
        let mut used = 0.0;
        for job in &active {
            if self.look_after(job).await? {
                used += self.cores(job.cpus);
            }
        }
        self.look_for_all = false;
        self.start_waiting(used).await?;
        let mut connection = self.state.pool.acquire().await?;
        self.state.measures.set_jobs(&jobs::count_by_status(&mut connection).await?);
        Ok(())
    }

    /// One job that has an attempt. `true` where it still occupies its cores.
    async fn look_after(&self, job: &Active) -> Result<bool, Problem> {
        let now = now_unix_ms();
        let heard_at = job.state.heartbeat_at_unix_ms.or(job.state.attempt_started_at_unix_ms).unwrap_or(0);
        let silent = now.saturating_sub(heard_at) > MISSED_HEARTBEATS * HEARTBEAT_INTERVAL_MS;
        if (silent || self.look_for_all) && !self.agent_is_alive(job).await {
            let reason = "its agent ended without a report (killed, or see the end of its log)".to_owned();
            let event = JobEvent::AgentGone { attempt: job.state.attempt, reason };
            return self.change(job.id, event).await;
        }
        let could_hear = self.hears_since_unix_ms.is_some_and(|since| now.saturating_sub(since) >= LEASE_MS);
        if !could_hear {
            return Ok(true);
        }
        self.change(job.id, JobEvent::Tick { capacity: false }).await
    }

    async fn agent_is_alive(&self, job: &Active) -> bool {
        match self.launcher.backend.agent_is_alive(&job.id.to_string(), job.state.attempt).await {
            Ok(alive) => alive,
            Err(error) => {
                // The lease decides where the backend cannot tell.
                tracing::warn!(%error, job_id = %job.id, "whether an agent is alive is unknown");
                true
            }
        }
    }

    async fn start_waiting(&self, mut used: f64) -> Result<(), Problem> {
        if used >= self.launcher.cpus {
            return Ok(());
        }
        let mut connection = self.state.pool.acquire().await?;
        let waiting = jobs::startable(&mut connection, now_unix_ms(), MAX_STARTS).await?;
        drop(connection);
        for (id, cpus) in waiting {
            let cores = self.cores(cpus);
            if used + cores > self.launcher.cpus {
                // In order: a large job is not overtaken for ever by small ones.
                break;
            }
            if self.change(id, JobEvent::Tick { capacity: true }).await? {
                used += cores;
            }
        }
        Ok(())
    }

    /// What a job counts for: one that wants more than there is takes everything.
    const fn cores(&self, cpus: f64) -> f64 {
        cpus.min(self.launcher.cpus)
    }

    /// Applies an event and performs what it asks for. `true` where the job has an attempt afterwards.
    async fn change(&self, id: Uuid, event: JobEvent) -> Result<bool, Problem> {
        let Some(changed) = change::job(&self.state, id, event, None).await? else { return Ok(false) };
        let has_attempt = changed.job.state.has_attempt();
        self.perform(id, changed).await?;
        Ok(has_attempt)
    }

    async fn perform(&self, id: Uuid, changed: Changed) -> Result<(), Problem> {
        let mut token = changed.token;
        for action in changed.actions {
            match action {
                Action::StartAttempt { attempt } => {
                    let Some(token) = token.take() else { continue };
                    tracing::info!(job_id = %id, attempt, "an attempt starts");
                    if let Err(error) = self.launcher.start(id, attempt, token).await {
                        tracing::error!(%error, job_id = %id, attempt, "the attempt does not start");
                        let event = JobEvent::AgentGone { attempt, reason: error.to_string() };
                        change::job(&self.state, id, event, None).await?;
                    }
                }
                Action::FenceAttempt { attempt } => {
                    tracing::warn!(job_id = %id, attempt, reason = %changed.job.state.reason, "an attempt is lost");
                    if let Err(error) = self.launcher.backend.end_leftovers(&id.to_string()).await {
                        tracing::warn!(%error, job_id = %id, attempt, "a lost attempt leaves something behind");
                    }
                }
                Action::StopAttempt { .. } | Action::PublishEvent { .. } => {}
            }
        }
        Ok(())
    }
}
