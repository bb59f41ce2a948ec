//! Makes what runs match what is stored: starts jobs that wait, finds attempts that are lost, ends what
//! replaced attempts left.
//!
//! Each pass reads the state again and may be repeated at any time, so a launcher that is started again goes
//! on where the last one was cut off: attempts whose agent is alive go on, others are retried from their
//! checkpoint.

use std::time::Duration;

use secrecy::SecretString;
use slipway_domain::training::{
    Action, HEARTBEAT_INTERVAL_MS, JobEvent, JobSpec, LEASE_MS, Placement, Resources, place, total,
};
use slipway_http_server::Problem;
use slipway_runtime::clock::now_unix_ms;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::change::{self, Changed, Details};
use crate::launch::Launcher;
use crate::state::State;
use crate::store::attempts::Assigned;
use crate::store::jobs::{self, Active};
use crate::tokens::JobTokens;

/// The state is looked at this often if nothing woke the loop.
const INTERVAL_MS: u64 = 500;
/// Waiting jobs that one pass decides about.
const MAX_STARTS: i64 = 256;
/// An agent that missed this many heartbeats is looked for.
const MISSED_HEARTBEATS: u64 = 2;

/// The loop.
#[derive(Debug)]
pub(crate) struct Reconciler {
    state: State,
    launcher: Launcher,
    job_tokens: JobTokens,
    /// Since when heartbeats could be stored without a break. Silence from before that proves nothing.
    hears_since_unix_ms: Option<u64>,
    /// Whether all agents are to be looked for, not only silent ones.
    look_for_all: bool,
}

impl Reconciler {
    pub(crate) const fn new(state: State, launcher: Launcher, job_tokens: JobTokens) -> Self {
        Self { state, launcher, job_tokens, hears_since_unix_ms: None, look_for_all: true }
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
                        tracing::warn!(%error, "reconcile pass failed; retrying");
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
        let mut running = Vec::new();
        for job in active {
            if self.look_after(&job).await? {
                running.push((job.asked, job.assigned));
            }
        }
        self.look_for_all = false;
        self.start_waiting(&mut running).await?;
        self.state.metrics.set_used(&total(running.iter().map(|(asked, _)| asked)));
        let mut connection = self.state.pool.acquire().await?;
        self.state.metrics.set_jobs(&jobs::count_by_status(&mut connection).await?);
        Ok(())
    }

    /// One job that has an attempt. `true` where it still occupies its part of the machine.
    async fn look_after(&self, job: &Active) -> Result<bool, Problem> {
        let now = now_unix_ms();
        let heard_at = job.state.last_heard_at_unix_ms().unwrap_or(0);
        let silent = now.saturating_sub(heard_at) > MISSED_HEARTBEATS * HEARTBEAT_INTERVAL_MS;
        if (silent || self.look_for_all) && !self.agent_is_alive(job).await {
            let reason = "its agent ended without a report (killed, or see the end of its log)".to_owned();
            let event = JobEvent::AgentGone { attempt: job.state.attempt(), reason };
            return self.change(job.id, event, Details::default()).await;
        }
        let could_hear = self.hears_since_unix_ms.is_some_and(|since| now.saturating_sub(since) >= LEASE_MS);
        if !could_hear {
            return Ok(true);
        }
        self.change(job.id, JobEvent::Tick { capacity: false }, Details::default()).await
    }

    async fn agent_is_alive(&self, job: &Active) -> bool {
        match self.launcher.backend.agent_is_alive(&job.id.to_string(), job.state.attempt()).await {
            Ok(alive) => alive,
            Err(error) => {
                // The lease decides where the backend cannot tell.
                tracing::warn!(%error, job_id = %job.id, "cannot determine whether an agent is alive");
                true
            }
        }
    }

    /// Starts what fits next to what runs.
    async fn start_waiting(&self, running: &mut Vec<(Resources, Assigned)>) -> Result<(), Problem> {
        let mut connection = self.state.pool.acquire().await?;
        let waiting = jobs::startable(&mut connection, now_unix_ms(), MAX_STARTS).await?;
        drop(connection);
        let machine = &self.state.machine;
        let asked: Vec<Resources> = waiting.iter().map(|job| job.asked).collect();
        let used = total(running.iter().map(|(asked, _)| asked));
        for (job, placement) in waiting.iter().zip(place(&machine.capacity, &used, &asked)) {
            if placement != Placement::Start {
                continue;
            }
            let others: Vec<Assigned> = running.iter().map(|(_, assigned)| assigned.clone()).collect();
            let assigned = machine.assign(&job.asked, &others);
            let details = Details { assigned: assigned.clone(), ..Details::default() };
            if self.change(job.id, JobEvent::Tick { capacity: true }, details).await? {
                running.push((job.asked, assigned));
            }
        }
        Ok(())
    }

    /// Applies an event and performs what it asks for. `true` where the job has an attempt afterwards.
    async fn change(&self, id: Uuid, event: JobEvent, details: Details) -> Result<bool, Problem> {
        let assigned = details.assigned.clone();
        let Some(changed) = change::job(&self.state, id, event, details).await? else { return Ok(false) };
        let has_attempt = changed.job.state.has_attempt();
        self.perform(id, changed, assigned).await?;
        Ok(has_attempt)
    }

    async fn perform(&self, id: Uuid, changed: Changed, assigned: Assigned) -> Result<(), Problem> {
        let mut token = changed.token;
        for action in changed.actions {
            match action {
                Action::StartAttempt { attempt } => {
                    let Some(token) = token.take() else { continue };
                    tracing::info!(job_id = %id, attempt, "attempt started");
                    let spec = &changed.job.spec;
                    if let Err(reason) = self.start(id, attempt, spec, token, assigned.clone()).await {
                        tracing::error!(reason, job_id = %id, attempt, "the attempt does not start");
                        let event = JobEvent::AgentGone { attempt, reason };
                        change::job(&self.state, id, event, Details::default()).await?;
                    }
                }
                Action::FenceAttempt { attempt } => {
                    tracing::warn!(job_id = %id, attempt, reason = changed.job.state.reason(),
                        "attempt lost");
                    if let Err(error) = self.launcher.backend.end_leftovers(&id.to_string()).await {
                        tracing::warn!(%error, job_id = %id, attempt, "cleanup after a lost attempt failed");
                    }
                }
                Action::StopAttempt { .. } | Action::PublishEvent { .. } => {}
            }
        }
        Ok(())
    }

    /// Starts an attempt with a token for the registry, where jobs need one.
    async fn start(
        &self,
        id: Uuid,
        attempt: u32,
        spec: &JobSpec,
        token: SecretString,
        assigned: Assigned,
    ) -> Result<(), String> {
        let job_token = self.job_tokens.issue(&self.state.pool, id, spec).await?;
        let started = self.launcher.start(id, attempt, token, job_token, assigned).await;
        started.map_err(|error| error.to_string())
    }
}
