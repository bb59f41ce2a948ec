//! Makes what runs match what is stored: starts jobs that wait, finds attempts that are lost, ends what
//! replaced attempts left.
//!
//! Every launcher does so. Of attempts that it started, or adopted, it asks its backend; about the others it
//! knows only how long their leases have not been renewed. What is to be done with an attempt is
//! [`slipway_domain::training::decide`]. Each pass reads the state again and may be repeated at any time, so
//! a launcher that is started again goes on where the last one was cut off.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use slipway_domain::training::{
    Action, HEARTBEAT_INTERVAL_MS, JobEvent, JobSpec, Loss, Outcome, Owner, Relation, Status, Verdict,
    Watched, decide, total,
};
use slipway_http_server::Problem;
use slipway_job_processes::is_same_machine;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backend::{self, Left, Seen};
use crate::change::{self, Changed, Details};
use crate::launch::{Launcher, Start};
use crate::observed::Observed;
use crate::placement::{self, Started};
use crate::state::State;
use crate::store::attempts::{self, Assigned};
use crate::store::checkpoints;
use crate::store::jobs::{self, Active};
use crate::store::launchers::{self, StoredLauncher};
use crate::tokens::JobTokens;

/// The state is looked at this often if nothing woke the loop…
const INTERVAL_MS: u64 = 500;
/// …and this often while every job has ended. A job that is submitted here wakes the loop.
const IDLE_INTERVAL_MS: u64 = 4_000;
/// An agent that missed this many heartbeats is looked for.
const MISSED_HEARTBEATS: u64 = 2;
/// Attempts that are started at the same time.
const PARALLEL_STARTS: usize = 8;
/// What depends on nothing but time is decided in each of so many passes.
const PASSES_PER_TICK: u64 = 8;

/// Time for an agent that has reported to exit by itself.
const STRAY_GRACE: Duration = Duration::from_secs(15);

/// The loop.
#[derive(Debug)]
pub(crate) struct Reconciler {
    state: State,
    launcher: Launcher,
    job_tokens: JobTokens,
    id: Uuid,
    observed: Observed,
    /// What is left of attempts that are over, and since when this is known.
    strays: HashMap<(String, u32), Instant>,
    passes: u64,
    /// Whether all own agents are to be looked for, not only silent ones.
    look_for_all: bool,
    /// Whether every job has ended.
    idle: bool,
}

impl Reconciler {
    pub(crate) fn new(state: State, launcher: Launcher, job_tokens: JobTokens, id: Uuid) -> Self {
        let observed = Observed::default();
        let strays = HashMap::new();
        Self { state, launcher, job_tokens, id, observed, strays, passes: 0, look_for_all: true, idle: false }
    }

    /// Itself, once its node is known, so that the first request already sees what the node has.
    pub(crate) async fn registered(self) -> Self {
        if let Err(error) = self.register().await {
            tracing::warn!(%error, "this node is not registered yet; retrying");
        }
        self
    }

    async fn register(&self) -> Result<(), Problem> {
        let State { own, machine, pool, .. } = &self.state;
        let urls = self.launcher.urls.join(",");
        let mut connection = pool.acquire().await?;
        Ok(launchers::register(&mut connection, self.id, own, &urls, &machine.capacity).await?)
    }

    /// Runs until `shutdown`. A pass that fails is logged and repeated.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut failing = false;
        loop {
            match self.pass().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "reconcile pass failed; retrying");
                    }
                    // Agents could not renew their leases either.
                    self.observed.forget();
                    self.look_for_all = true;
                }
            }
            let state = self.state.clone();
            let pause_ms = if self.idle && !failing { IDLE_INTERVAL_MS } else { INTERVAL_MS };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
                () = state.wake.notified(), if !failing => {}
                () = self.launcher.backend.agent_ended() => self.look_for_all = true,
            }
        }
        if let Err(error) = self.leave().await {
            tracing::debug!(%error, "still registered; others wait for it a little");
        }
    }

    async fn pass(&mut self) -> Result<(), Problem> {
        self.register().await?;
        let mut connection = self.state.pool.acquire().await?;
        let others = launchers::list(&mut connection).await?;
        // Before the jobs are read: an attempt that is not among them then is over.
        let left = self.launcher.backend.left();
        let before = Instant::now();
        let active = jobs::active(&mut connection).await?;
        drop(connection);
        self.state.set_launcher_urls(launcher_urls(&self.launcher.urls, &self.state.own, &others));
        let running: BTreeSet<(String, String)> =
            others.iter().filter(|other| other.runs()).map(|other| place_of(&other.owner())).collect();
        self.observed.note(&active, Instant::now());
        for job in &active {
            self.look_after(job, &running, before).await?;
        }
        self.end_strays(left, &active).await;
        self.look_for_all = false;
        self.passes += 1;
        self.start_all(placement::reserve(&self.state).await?).await?;
        self.show(active).await
    }

    /// Starts what was reserved, some at a time: most of a start is waiting for others. One that fails keeps
    /// no other from starting; the error is the first one.
    async fn start_all(&self, started: Vec<Started>) -> Result<(), Problem> {
        futures::stream::iter(started)
            .map(|started| self.perform(started.id, started.changed, started.assigned, true))
            .buffer_unordered(PARALLEL_STARTS)
            .fold(Ok(()), async |result: Result<(), Problem>, performed| result.and(performed))
            .await
    }

    /// One job that has an attempt, read after `read_at`. A launcher that is stopped in between does
    /// not take that time for silence.
    async fn look_after(
        &mut self,
        job: &Active,
        running: &BTreeSet<(String, String)>,
        read_at: Instant,
    ) -> Result<(), Problem> {
        let registered = job.owner.as_ref().is_some_and(|owner| running.contains(&place_of(owner)));
        let relation = Relation::of(&self.state.own, job.owner.as_ref(), registered);
        let unrenewed = self.observed.unrenewed(job, read_at);
        let is_silent = unrenewed > Duration::from_millis(MISSED_HEARTBEATS * HEARTBEAT_INTERVAL_MS);
        let asks = relation.asks_backend() && (is_silent || self.look_for_all);
        let told = if asks { self.ask(job).await } else { Seen::Unknown };
        let unrenewed_ms = u64::try_from(unrenewed.as_millis()).unwrap_or(u64::MAX);
        let pending = job.state.status() == Status::Pending;
        let held = job.renewals > 0;
        let seen = Watched { relation, report: told.report(), held, pending, unrenewed_ms };
        let attempt = job.state.attempt();
        match decide(job.lease.unwrap_or(self.state.lease), &seen) {
            Verdict::Keep => {
                if let Seen::Pending { reason, is_partial } = told {
                    self.wait(job, reason, is_partial).await?;
                }
                self.tick(job, relation).await
            }
            Verdict::Adopt => {
                tracing::info!(job_id = %job.id, attempt, "attempt adopted; its launcher is gone");
                let mut connection = self.state.pool.acquire().await?;
                attempts::adopt(&mut connection, job.id, attempt, &self.state.own).await?;
                Ok(())
            }
            Verdict::EndGone if self.end_leftovers(job).await => {
                let event = match told {
                    Seen::Ended { outcome } => JobEvent::Finished { attempt, process: None, outcome },
                    Seen::Lost { reason, cause } => JobEvent::AgentGone { attempt, reason, cause },
                    Seen::Alive | Seen::Pending { .. } | Seen::Unknown => return Ok(()),
                };
                self.end(job, event, true).await
            }
            Verdict::EndSilent if self.end_leftovers(job).await => {
                self.end(job, JobEvent::LeaseOver { attempt }, true).await
            }
            Verdict::EndLease => {
                let is_own = relation == Relation::Own;
                self.end(job, JobEvent::LeaseOver { attempt }, is_own).await
            }
            // Something is left: it is tried again with the next pass.
            Verdict::EndGone | Verdict::EndSilent => Ok(()),
        }
    }

    async fn ask(&self, job: &Active) -> Seen {
        match self.launcher.backend.report(&job.id.to_string(), job.state.attempt()).await {
            Ok(seen) => seen,
            Err(error) => {
                // The lease decides where the backend cannot tell.
                tracing::warn!(%error, job_id = %job.id, "cannot determine whether an agent is alive");
                Seen::Unknown
            }
        }
    }

    /// Stores what an attempt waits for. Its agent has as long to report as if it had been started now. One
    /// that keeps nodes from others while it waits for more gives them up after a while.
    async fn wait(&mut self, job: &Active, reason: String, is_partial: bool) -> Result<(), Problem> {
        let now = Instant::now();
        self.observed.touch(job, now);
        if self.observed.partial(job, is_partial, now) >= self.launcher.gang_timeout {
            let event = JobEvent::GaveWay { attempt: job.state.attempt(), reason };
            return self.end(job, event, true).await;
        }
        if job.state.status() == Status::Pending && job.state.reason() == reason {
            return Ok(());
        }
        let event = JobEvent::Waiting { attempt: job.state.attempt(), reason };
        change::attempt(&self.state, job.id, event, Some(job.renewals)).await.map(drop)
    }

    /// Ends leftovers of attempts that are over. An agent that has just reported gets time to exit.
    async fn end_strays(&mut self, left: Vec<Left>, active: &[Active]) {
        if left.is_empty() {
            self.strays.clear();
            return;
        }
        let active: BTreeSet<(String, u32)> =
            active.iter().map(|job| (job.id.to_string(), job.state.attempt())).collect();
        let now = Instant::now();
        let known = std::mem::take(&mut self.strays);
        for stray in left {
            let key = (stray.job_id.clone(), stray.attempt);
            if active.contains(&key) {
                continue;
            }
            let since = known.get(&key).copied().unwrap_or(now);
            self.strays.insert(key, since);
            if stray.runs && now.duration_since(since) < STRAY_GRACE {
                continue;
            }
            let Left { job_id, attempt, .. } = stray;
            match self.launcher.backend.end_leftovers(&job_id, attempt).await {
                Ok(_) => tracing::info!(job_id, attempt, "ended leftovers of an attempt that is over"),
                Err(error) => {
                    tracing::debug!(%error, job_id, attempt, "leftovers have not ended; retrying");
                }
            }
        }
    }

    /// Ends what there is of the job's attempts on this node; `true` where nothing is left.
    async fn end_leftovers(&self, job: &Active) -> bool {
        match self.launcher.backend.end_leftovers(&job.id.to_string(), job.state.attempt()).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, job_id = %job.id, "cleanup after a lost attempt failed; retrying");
                false
            }
        }
    }

    /// Ends an attempt, unless its lease was renewed since it was looked at.
    async fn end(&self, job: &Active, event: JobEvent, is_own: bool) -> Result<(), Problem> {
        let is_lease = matches!(event, JobEvent::LeaseOver { .. } | JobEvent::GaveWay { .. });
        let renewals = Some(job.renewals).filter(|_| is_lease);
        let mut connection = self.state.pool.acquire().await?;
        // What ended the first of several processes has ended the others.
        let failure = change::failure(&mut connection, job.id, job.state.attempt()).await?;
        drop(connection);
        let event = failure.map_or(event, |(event, _)| event);
        let changed = change::attempt(&self.state, job.id, event, renewals).await?;
        match changed {
            Some(changed) => self.perform(job.id, changed, Assigned::default(), is_own).await,
            None => Ok(()),
        }
    }

    /// What depends on time alone: commands that should have ended long ago.
    async fn tick(&self, job: &Active, relation: Relation) -> Result<(), Problem> {
        if !self.passes.is_multiple_of(PASSES_PER_TICK) {
            return Ok(());
        }
        let event = JobEvent::Tick { capacity: false };
        let changed = change::job(&self.state, job.id, event, Details::default()).await?;
        match changed {
            Some(changed) => {
                self.perform(job.id, changed, Assigned::default(), relation == Relation::Own).await
            }
            None => Ok(()),
        }
    }

    /// Performs what a change asks for.
    async fn perform(
        &self,
        id: Uuid,
        changed: Changed,
        assigned: Assigned,
        is_own: bool,
    ) -> Result<(), Problem> {
        let Changed { mut job, actions, mut token } = changed;
        for action in actions {
            match action {
                Action::StartAttempt { attempt } => {
                    let Some(token) = token.take() else { continue };
                    tracing::info!(job_id = %id, attempt, "attempt started");
                    let resources = job.state.resources(&job.spec);
                    let start = Start {
                        job_id: id,
                        attempt,
                        spec: JobSpec { resources, ..std::mem::take(&mut job.spec) },
                        excluded_nodes: job.state.excluded_nodes().to_vec(),
                        token,
                        job_token: None,
                        assigned: assigned.clone(),
                    };
                    if let Err(why) = self.start(start).await {
                        tracing::error!(%why, job_id = %id, attempt, "the attempt does not start");
                        change::job(&self.state, id, why.event(attempt), Details::default()).await?;
                    }
                }
                Action::FenceAttempt { attempt } => {
                    tracing::warn!(job_id = %id, attempt, reason = job.state.reason(),
                        "attempt lost");
                    if is_own
                        && let Err(error) =
                            self.launcher.backend.end_leftovers(&id.to_string(), attempt).await
                    {
                        tracing::warn!(%error, job_id = %id, attempt, "cleanup after a lost attempt failed");
                    }
                }
                Action::StopAttempt { .. } | Action::PublishEvent { .. } => {}
            }
        }
        Ok(())
    }

    /// Starts an attempt with a token for the registry, where jobs need one.
    async fn start(&self, mut start: Start) -> Result<(), NotStarted> {
        let issued = self.job_tokens.issue(&self.state.pool, start.job_id, &start.spec).await;
        start.job_token = issued.map_err(NotStarted::Now)?;
        let urls = self.state.launcher_urls();
        let started = self.launcher.start(start, &urls).await;
        started.map_err(|error| match error {
            backend::Error::Refused(_) => NotStarted::Ever(error.to_string()),
            error => NotStarted::Now(error.to_string()),
        })
    }

    /// Sets the metrics.
    async fn show(&mut self, active: Vec<Active>) -> Result<(), Problem> {
        let own = &self.state.own.node;
        let here = active.iter().filter(|job| job.owner.as_ref().is_none_or(|owner| owner.node == *own));
        self.state.metrics.set_used(&total(here.map(|job| &job.asked)));
        let mut connection = self.state.pool.acquire().await?;
        let counts = jobs::count_by_status(&mut connection).await?;
        let ended = |status: &str| {
            Status::parse(status).is_some_and(|status| status.is_final() || status == Status::Suspended)
        };
        self.idle = counts.iter().all(|(status, _)| ended(status));
        self.state.metrics.set_jobs(&counts);
        let is_any_running = active.iter().any(|job| job.state.status() == Status::Running);
        let age_s = if is_any_running { checkpoints::oldest_age_s(&mut connection).await? } else { None };
        self.state.metrics.set_checkpoint_age(age_s.unwrap_or(0.0));
        Ok(())
    }

    async fn leave(&self) -> Result<(), Problem> {
        let mut connection = self.state.pool.acquire().await?;
        Ok(launchers::remove(&mut connection, self.id, &self.state.own.node).await?)
    }
}

/// Why an attempt did not start.
#[derive(Debug, thiserror::Error)]
enum NotStarted {
    /// Another one may.
    #[error("{0}")]
    Now(String),
    /// No other one will either.
    #[error("{0}")]
    Ever(String),
}

impl NotStarted {
    fn event(self, attempt: u32) -> JobEvent {
        match self {
            Self::Now(reason) => JobEvent::AgentGone { attempt, reason, cause: Loss::System },
            Self::Ever(reason) => {
                JobEvent::Finished { attempt, process: None, outcome: Outcome::NotStarted { reason } }
            }
        }
    }
}

/// Launcher and node: what identifies a launcher that runs.
fn place_of(owner: &Owner) -> (String, String) {
    (owner.launcher.clone(), owner.node.clone())
}

/// Where agents of this node reach launchers: this one first. A loopback address leads elsewhere on another
/// machine.
fn launcher_urls(own_urls: &[String], own: &Owner, others: &[StoredLauncher]) -> Vec<String> {
    let mut urls = own_urls.to_vec();
    for other in others.iter().filter(|other| other.runs()) {
        let is_near = is_same_machine(&own.node, &other.owner().node);
        for url in other.url.split(',').filter(|url| is_near || !is_loopback(url)) {
            if !urls.iter().any(|known| known == url) {
                urls.push(url.to_owned());
            }
        }
    }
    urls
}

fn is_loopback(url: &str) -> bool {
    let uri = url.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_for_the_same_machine() {
        for url in ["http://127.0.0.1:5010", "http://[::1]:5010", "http://localhost"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://launcher:5010", "http://10.0.0.7:5010", "http://[fd00::7]:5010"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
