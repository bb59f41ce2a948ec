//! One change of a job: the state machine's decision, the attempt's row, and the events, in one transaction.

use rand::RngExt as _;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use slipway_api::events::JobChange;
use slipway_domain::Invalid;
use slipway_domain::training::{
    self, Action, BackendKind, Capacity, EventKind, Job, JobEvent, JobSpec, Observation, refusal,
};
use slipway_http_server::Problem;
use slipway_runtime::clock::now_unix_ms;
use slipway_runtime::id;
use sqlx::PgConnection;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::state::State;
use crate::store::attempts::{self, Assigned, Ending};
use crate::store::jobs::{self, NewJob, StoredJob};
use crate::store::launchers::{self, StoredLauncher};
use crate::store::processes;

/// What came of an event.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) job: StoredJob,
    pub(crate) actions: Vec<Action>,
    /// Token of the attempt that is to start.
    pub(crate) token: Option<SecretString>,
}

/// What comes with an event.
#[derive(Debug, Default)]
pub(crate) struct Details {
    /// How the attempt ended, where it did.
    pub(crate) ending: Ending,
    /// What an attempt gets that starts.
    pub(crate) assigned: Assigned,
}

/// Digest under which a token is kept.
pub(crate) fn token_sha256(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Applies an event to a job and commits. `None` where there is no such job.
pub(crate) async fn job(
    state: &State,
    id: Uuid,
    event: JobEvent,
    details: Details,
) -> Result<Option<Changed>, Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let Some(stored) = jobs::lock(&mut transaction, id).await? else { return Ok(None) };
    let changed = within(state, &mut transaction, stored, event, details).await?;
    transaction.commit().await?;
    if !changed.actions.is_empty() {
        state.committed();
    }
    Ok(Some(changed))
}

/// As [`job`] for an event that ends an attempt. With `renewals`, nothing changes where the lease was renewed
/// since it had been renewed so often.
pub(crate) async fn attempt(
    state: &State,
    id: Uuid,
    event: JobEvent,
    renewals: Option<i64>,
) -> Result<Option<Changed>, Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let Some(stored) = jobs::lock(&mut transaction, id).await? else { return Ok(None) };
    // Heartbeats hold the same lock.
    let now = attempts::held(&mut transaction, id, stored.state.attempt()).await?;
    if renewals.is_some() && now.map(|held| held.renewals) != renewals {
        return Ok(None);
    }
    let changed = within(state, &mut transaction, stored, event, Details::default()).await?;
    transaction.commit().await?;
    if !changed.actions.is_empty() {
        state.committed();
    }
    Ok(Some(changed))
}

/// The event by which a process has failed its attempt; `None` where none has.
pub(crate) async fn failure(
    connection: &mut PgConnection,
    job_id: Uuid,
    attempt: u32,
) -> Result<Option<(JobEvent, Ending)>, Problem> {
    let found = processes::failed(connection, job_id, attempt).await?;
    Ok(found.map(|failed| {
        let process = u32::try_from(failed.number).ok();
        let ending = Ending { exit_code: failed.exit_code, signal: failed.signal, ..Ending::default() };
        (JobEvent::Finished { attempt, process, outcome: failed.outcome.0 }, ending)
    }))
}

/// Applies an event to a locked job in the caller's transaction; call [`State::committed`] after the commit.
pub(crate) async fn within(
    state: &State,
    connection: &mut PgConnection,
    stored: StoredJob,
    event: JobEvent,
    details: Details,
) -> Result<Changed, Problem> {
    let span = tracing::info_span!("job_change", job_id = %stored.id);
    if slipway_telemetry::current_traceparent().is_none() {
        // Decided in the background: it belongs to the submission's trace.
        slipway_telemetry::set_parent(&span, stored.traceparent.as_deref());
    }
    apply(state, connection, stored, event, details).instrument(span).await
}

async fn apply(
    state: &State,
    connection: &mut PgConnection,
    mut stored: StoredJob,
    event: JobEvent,
    details: Details,
) -> Result<Changed, Problem> {
    let seen = Observation { now_unix_ms: now_unix_ms(), jitter: rand::rng().random(), event };
    let before = stored.state.clone();
    let (after, actions) = training::step(&stored.spec, &before, &seen);
    let mut token = None;
    if after == before {
        return Ok(Changed { job: stored, actions, token });
    }
    jobs::save(connection, stored.id, &after).await?;
    if before.status() != after.status() {
        state.metrics.changed(after.status());
    }
    if before.has_attempt() && !after.has_attempt() {
        let reason = after.reason().to_owned();
        let ending = Ending { reason, ..details.ending.clone() };
        attempts::end(connection, stored.id, before.attempt(), &ending).await?;
    }
    for action in &actions {
        match action {
            Action::StartAttempt { attempt } => {
                let fresh = new_token();
                let digest = token_sha256(&fresh);
                let Details { assigned, .. } = &details;
                attempts::insert(connection, stored.id, *attempt, &digest, assigned, &state.own).await?;
                if let Some(group) = stored.spec.group() {
                    processes::insert(connection, stored.id, *attempt, group.processes()).await?;
                }
                token = Some(SecretString::from(fresh));
                state.metrics.attempts.inc();
            }
            Action::PublishEvent { kind } => {
                publish(state, connection, stored.id, &stored.spec.name, &after, *kind).await?;
            }
            Action::FenceAttempt { .. } => {
                state.metrics.lost_attempts.inc();
            }
            // The agent hears of it with its next heartbeat.
            Action::StopAttempt { .. } => {}
        }
    }
    stored.state = after;
    Ok(Changed { job: stored, actions, token })
}

/// A submitted job: the new one, or the one that its idempotency key names. One that asks for more than the
/// machine has is kept as failed, with the reason.
///
/// # Errors
/// The spec is not valid, or the key was used for another job.
pub(crate) async fn submit(state: &State, spec: JobSpec) -> Result<(StoredJob, bool), Problem> {
    spec.validate().map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let spec = spec.logging_to_its_experiment();
    for (field, text) in [("name", Some(&spec.name)), ("idempotency_key", spec.idempotency_key.as_ref())] {
        if text.is_some_and(|text| text.contains('\0')) {
            return Err(Problem::invalid(field, "must not hold a NUL character"));
        }
    }
    let (job, mut actions) = Job::submitted();
    let mut connection = state.pool.acquire().await?;
    let known = launchers::list(&mut connection).await?;
    drop(connection);
    check_backend(state, &spec, &known)?;
    let wanted = known.iter().filter(|launcher| launcher.is_of(spec.backend()));
    let capacities: Vec<Capacity> = wanted.map(StoredLauncher::capacity).collect();
    let job = match refusal(&capacities, &spec.resources) {
        Some(reason) => {
            let event = JobEvent::CannotBePlaced { reason };
            let seen = Observation { now_unix_ms: now_unix_ms(), jitter: 0.0, event };
            let (job, further) = training::step(&spec, &job, &seen);
            actions.extend(further);
            job
        }
        None => job,
    };
    let new = NewJob {
        id: id::time_ordered(),
        spec: &spec,
        state: &job,
        traceparent: slipway_telemetry::current_traceparent(),
    };
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    if !jobs::insert(&mut transaction, &new).await? {
        let key = spec.idempotency_key.as_deref().unwrap_or_default();
        let found = jobs::find_by_key(&mut transaction, key).await?;
        return match found {
            Some(found) if found.spec == spec => Ok((found, false)),
            Some(found) => Err(Problem::conflict(format!(
                "`idempotency_key`: it belongs to job {}, which is a different job; choose a new key",
                found.id
            ))),
            None => Err(Problem::unavailable("the database")),
        };
    }
    for action in actions {
        if let Action::PublishEvent { kind } = action {
            publish(state, &mut transaction, new.id, &spec.name, &job, kind).await?;
        }
    }
    let stored = jobs::find(&mut transaction, new.id).await?;
    transaction.commit().await?;
    state.metrics.changed(job.status());
    state.committed();
    stored
        .map(|stored| (stored, true))
        .ok_or_else(|| Problem::internal("a job vanished in its own transaction"))
}

/// Whether launchers run such a job. Those that are known have run within the last hour: there may be others.
fn check_backend(state: &State, spec: &JobSpec, known: &[StoredLauncher]) -> Result<(), Problem> {
    let refused = |invalid: Invalid| Problem::invalid(invalid.field, invalid.message);
    if state.backend.kind() == spec.backend() {
        return state.backend.check(spec).map_err(|invalid| refused(invalid.under("kubernetes")));
    }
    if known.is_empty() || known.iter().any(|launcher| launcher.is_of(spec.backend())) {
        return Ok(());
    }
    Err(match spec.backend() {
        BackendKind::Kubernetes => {
            Problem::invalid("kubernetes", "no launcher of this installation runs jobs on Kubernetes")
        }
        BackendKind::Local => Problem::invalid(
            "kubernetes.image",
            "expected a container image: this installation runs jobs on Kubernetes",
        ),
    })
}

async fn publish(
    state: &State,
    connection: &mut PgConnection,
    id: Uuid,
    name: &str,
    job: &Job,
    kind: EventKind,
) -> Result<(), Problem> {
    let event = JobChange {
        job_id: id.to_string(),
        name: name.to_owned(),
        what: kind.as_str().to_owned(),
        attempt: job.attempt(),
        reason: job.reason().to_owned(),
    };
    state.outbox.enqueue(connection, &event).await?;
    Ok(())
}

/// 244 random bits.
fn new_token() -> String {
    format!("{}{}", id::random().simple(), id::random().simple())
}
